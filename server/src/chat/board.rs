//! The board of rooms: the newest state of each, for `/topic/chat/rooms`.
//!
//! A room is announced when it is made, and when its figures change, at most once a second.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use shared::chat::RoomId;
use shared::destination::Destination;

use super::feed::Feed;
use crate::log::tail::lock;
use crate::log::{self, Encoded, Followers, Room};

/// How often one room's figures are announced at most.
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(1);

/// The announcements, each under a version that grows.
#[derive(Default)]
pub(crate) struct Board {
    state: Mutex<State>,
    /// Rooms that changed since they were announced. The thread that commits waits for this lock alone,
    /// under which nothing is encoded.
    due: Mutex<HashMap<RoomId, Arc<Room>>>,
    followers: Followers,
}

#[derive(Default)]
struct State {
    version: u64,
    /// One entry a room: its newest announcement.
    announced: BTreeMap<u64, Encoded>,
    rooms: HashMap<RoomId, Announced>,
}

struct Announced {
    version: u64,
    at: Instant,
}

impl Board {
    /// Notes that a room is new, or has changed.
    pub(super) fn note(&self, room: &Arc<Room>) {
        lock(&self.due).insert(room.id, Arc::clone(room));
    }

    /// Announces the rooms whose second is over.
    pub(super) fn tick(&self, now: Instant) {
        let mut due = std::mem::take(&mut *lock(&self.due));
        let is_new;
        {
            let mut state = lock(&self.state);
            let before = state.version;
            due.retain(|_, room| !state.announce(room, now));
            is_new = state.version > before;
        }
        // What was noted meanwhile is there already.
        lock(&self.due).extend(due);
        // Once for all of them.
        if is_new {
            self.followers.wake();
        }
    }
}

impl State {
    fn announce(&mut self, room: &Room, now: Instant) -> bool {
        let before = self.rooms.get(&room.id);
        if before.is_some_and(|before| now.duration_since(before.at) < ANNOUNCE_INTERVAL) {
            return false;
        }
        self.version += 1;
        let version = self.version;
        let body = serde_json::to_vec(&log::show(room)).expect("a ChatRoom is valid JSON");
        let encoded = super::encode(&Destination::Rooms, "application/json", &body);
        if let Some(before) = self.rooms.insert(room.id, Announced { version, at: now }) {
            self.announced.remove(&before.version);
        }
        self.announced.insert(version, encoded);
        true
    }
}

impl Feed for Board {
    fn start(&self) -> u64 {
        lock(&self.state).version
    }

    fn version(&self) -> u64 {
        lock(&self.state).version
    }

    fn after(&self, version: u64) -> Option<(u64, Option<Encoded>)> {
        let state = lock(&self.state);
        let mut later = state
            .announced
            .range((Bound::Excluded(version), Bound::Unbounded));
        later
            .next()
            .map(|(version, encoded)| (*version, Some(encoded.clone())))
    }

    fn followers(&self) -> &Followers {
        &self.followers
    }
}

#[cfg(test)]
mod tests {
    use shared::chat::RoomName;
    use time::OffsetDateTime;
    use uuid::Uuid;

    use super::*;

    fn room(number: i64) -> Arc<Room> {
        let name = RoomName::parse("방").unwrap();
        let id = RoomId(Uuid::from_u128(number.unsigned_abs().into()));
        let created = OffsetDateTime::UNIX_EPOCH;
        Arc::new(Room::new(
            number,
            id,
            name,
            created,
            Default::default(),
            Arc::default(),
        ))
    }

    #[test]
    fn a_room_is_announced_and_then_once_a_second() {
        let board = Board::default();
        let (first, second) = (room(1), room(2));
        let (start, now) = (board.start(), Instant::now());
        let signal = Arc::default();
        board.followers().add(&signal);
        let after = |version| board.after(version).map(|(version, _)| version);
        board.note(&first);
        board.note(&first);
        board.note(&second);
        assert!(!signal.is_ready(), "who commits wakes nobody");
        board.tick(now);
        assert!(signal.is_ready());
        let one = after(start).unwrap();
        let two = after(one).unwrap();
        assert!(after(two).is_none());
        signal.take();
        board.note(&first);
        board.tick(now + ANNOUNCE_INTERVAL / 2);
        assert!(after(two).is_none());
        assert!(!signal.is_ready(), "nothing is due");
        board.tick(now + ANNOUNCE_INTERVAL);
        assert!(signal.is_ready());
        let three = after(two).unwrap();
        assert!(after(three).is_none());
        // A reader that saw nothing gets each room once, in its newest state.
        assert_eq!(lock(&board.state).announced.len(), 2);
        assert!([one, two].contains(&after(start).unwrap()));
    }
}
