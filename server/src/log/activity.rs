//! The rooms by their newest activity: the last TALK, else the making.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex};

use shared::chat::RoomId;
use time::OffsetDateTime;

use super::Room;
use super::tail::{Figures, lock};

/// Where a room stands.
type Place = (Reverse<OffsetDateTime>, RoomId);

/// All rooms, the newest activity first. To move one, or to give some, costs little however many there are.
#[derive(Debug, Default)]
pub(super) struct Activity(Mutex<BTreeMap<Place, Arc<Room>>>);

impl Activity {
    /// Adds a room.
    pub(super) fn add(&self, room: &Arc<Room>) {
        let place = place(room, &room.figures());
        lock(&self.0).insert(place, Arc::clone(room));
    }

    /// Moves a room whose figures become these. To be called before they do.
    pub(super) fn follow(&self, room: &Arc<Room>, figures: &Figures) {
        let (before, after) = (place(room, &room.figures()), place(room, figures));
        if before != after {
            let mut rooms = lock(&self.0);
            rooms.remove(&before);
            rooms.insert(after, Arc::clone(room));
        }
    }

    /// Gives at most `limit` rooms that follow a room, or the first.
    pub(super) fn after(&self, room: Option<&Room>, limit: usize) -> Vec<Arc<Room>> {
        let from = match room {
            Some(room) => Bound::Excluded(place(room, &room.figures())),
            None => Bound::Unbounded,
        };
        let rooms = lock(&self.0);
        let later = rooms.range((from, Bound::Unbounded));
        later
            .take(limit)
            .map(|(_, room)| Arc::clone(room))
            .collect()
    }
}

fn place(room: &Room, figures: &Figures) -> Place {
    let newest = figures.last_message_at.unwrap_or(room.created_at);
    (Reverse(newest), room.id)
}

#[cfg(test)]
mod tests {
    use shared::chat::RoomName;
    use time::Duration;
    use uuid::Uuid;

    use super::*;

    const START: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    fn room(number: u8) -> Arc<Room> {
        let id = RoomId(Uuid::from_u128(number.into()));
        let name = RoomName::parse("방").unwrap();
        let made = START + Duration::seconds(number.into());
        let figures = Figures::default();
        Arc::new(Room::new(1, id, name, made, figures, Arc::default()))
    }

    #[test]
    fn the_newest_activity_comes_first() {
        let activity = Activity::default();
        let rooms: Vec<_> = (1..=5).map(room).collect();
        rooms.iter().for_each(|room| activity.add(room));
        let given = |after: Option<&Room>, limit| -> Vec<u128> {
            let given = activity.after(after, limit);
            given.iter().map(|room| room.id.0.as_u128()).collect()
        };
        assert_eq!(given(None, 9), [5, 4, 3, 2, 1]);
        assert_eq!(given(None, 2), [5, 4]);
        assert_eq!(given(Some(&rooms[3]), 2), [3, 2]);
        assert_eq!(given(Some(&rooms[0]), 2), [0; 0]);
        let talked = Figures {
            last_message_at: Some(START + Duration::seconds(9)),
            ..rooms[1].figures()
        };
        activity.follow(&rooms[1], &talked);
        rooms[1].publish(Vec::new(), talked);
        assert_eq!(given(None, 9), [2, 5, 4, 3, 1]);
        assert_eq!(given(Some(&rooms[1]), 1), [5]);
        activity.follow(&rooms[1], &talked);
        assert_eq!(given(None, 9).len(), 5);
    }
}
