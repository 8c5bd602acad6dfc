//! The board of rooms: the newest state of each, for `/topic/chat/rooms`.
//!
//! A state, not a stream: a slow reader gets the newest figures of each room, and nothing is queued
//! for it. A room is announced at once when it is made, then at most once a second.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use shared::chat::RoomId;
use shared::destination::Destination;

use crate::log::tail::lock;
use crate::log::{self, Encoded, Followers, Observer, Room, Signal};

/// How often one room's figures are announced at most.
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(1);

/// How often [`Board::announce_due`] is to be called.
pub(crate) const ANNOUNCE_TICK: Duration = Duration::from_millis(250);

/// The announcements, each under a version that grows.
#[derive(Default)]
pub(crate) struct Board {
    state: Mutex<State>,
    followers: Followers,
}

#[derive(Default)]
struct State {
    version: u64,
    /// One entry a room: its newest announcement.
    announced: BTreeMap<u64, Encoded>,
    rooms: HashMap<RoomId, Announced>,
    /// Rooms whose figures changed since they were announced.
    due: HashMap<RoomId, Arc<Room>>,
}

struct Announced {
    version: u64,
    at: Instant,
}

impl Board {
    /// The version of the newest announcement: a subscription begins after it.
    pub(crate) fn version(&self) -> u64 {
        lock(&self.state).version
    }

    /// The first announcement after `version` that still stands.
    pub(crate) fn after(&self, version: u64) -> Option<(u64, Encoded)> {
        let state = lock(&self.state);
        let mut later = state
            .announced
            .range((Bound::Excluded(version), Bound::Unbounded));
        later
            .next()
            .map(|(version, encoded)| (*version, encoded.clone()))
    }

    /// Wakes `signal` at announcements, until [`Board::unfollow`].
    pub(crate) fn follow(&self, signal: &Arc<Signal>) {
        self.followers.add(signal);
    }

    /// Undoes one [`Board::follow`].
    pub(crate) fn unfollow(&self, signal: &Arc<Signal>) {
        self.followers.remove(signal);
    }

    /// Announces the rooms whose second is over.
    pub(crate) fn announce_due(&self, now: Instant) {
        let mut state = lock(&self.state);
        let before = state.version;
        let mut due = std::mem::take(&mut state.due);
        due.retain(|_, room| !Self::announce(&mut state, room, now));
        state.due = due;
        let is_new = state.version > before;
        drop(state);
        // Once for all of them.
        if is_new {
            self.followers.wake();
        }
    }

    fn announce(state: &mut State, room: &Arc<Room>, now: Instant) -> bool {
        let before = state.rooms.get(&room.id);
        if before.is_some_and(|before| now.duration_since(before.at) < ANNOUNCE_INTERVAL) {
            return false;
        }
        state.version += 1;
        let version = state.version;
        let body = serde_json::to_vec(&log::show(room)).expect("a ChatRoom is valid JSON");
        let encoded = super::encode(&Destination::Rooms, "application/json", &body);
        if let Some(before) = state.rooms.insert(room.id, Announced { version, at: now }) {
            state.announced.remove(&before.version);
        }
        state.announced.insert(version, encoded);
        true
    }
}

impl Observer for Board {
    fn made(&self, room: &Arc<Room>) {
        self.changed(room);
    }

    fn changed(&self, room: &Arc<Room>) {
        let mut state = lock(&self.state);
        if !Self::announce(&mut state, room, Instant::now()) {
            state.due.insert(room.id, Arc::clone(room));
            return;
        }
        drop(state);
        self.followers.wake();
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
    fn a_room_is_announced_at_once_and_then_once_a_second() {
        let board = Board::default();
        let (first, second) = (room(1), room(2));
        let start = board.version();
        let signal = Arc::default();
        board.follow(&signal);
        board.made(&first);
        board.changed(&first);
        board.made(&second);
        let (one, _) = board.after(start).unwrap();
        let (two, _) = board.after(one).unwrap();
        assert!(board.after(two).is_none());
        assert!(signal.is_ready());
        signal.take();
        board.announce_due(Instant::now());
        assert!(board.after(two).is_none());
        assert!(!signal.is_ready(), "nothing is due");
        board.announce_due(Instant::now() + ANNOUNCE_INTERVAL);
        assert!(signal.is_ready());
        let (three, _) = board.after(two).unwrap();
        assert!(board.after(three).is_none());
        // A reader that saw nothing gets each room once, in its newest state.
        assert_eq!(lock(&board.state).announced.len(), 2);
        assert_eq!(board.after(start).unwrap().0, two);
    }
}
