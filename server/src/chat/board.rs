//! The board of rooms: the newest state of each, for `/topic/chat/rooms`.
//!
//! A room is announced when it is made, and when its figures change, at most once a second. A reader
//! follows all rooms, or some of them and those that are made.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use shared::chat::RoomId;
use shared::destination::Destination;

use super::feed::Feed;
use crate::log::tail::lock;
use crate::log::{self, Encoded, Followers, Room};

/// How often one room's figures are announced at most.
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(1);

/// Of so many rooms it is known when they were made: who follows some rooms, and reads slower than that,
/// is not told of all that are new.
const MADE_MAX: usize = 1_000;

/// The announcements, each under a version that grows.
#[derive(Default)]
pub(crate) struct Board {
    state: Mutex<State>,
    /// Rooms that changed since they were announced, and whether they are new. The thread that commits
    /// waits for this lock alone, under which nothing is encoded.
    due: Mutex<HashMap<RoomId, Due>>,
    /// Who follows all rooms.
    followers: Followers,
    /// Who follows some of them: by each of those, and all together.
    watchers: Mutex<Watchers>,
}

#[derive(Default)]
struct State {
    version: u64,
    /// One entry a room: its newest announcement.
    announced: BTreeMap<u64, Encoded>,
    rooms: HashMap<RoomId, Announced>,
    /// The newest rooms, by the version under which they were announced first.
    made: BTreeMap<u64, RoomId>,
}

struct Announced {
    version: u64,
    at: Instant,
}

struct Due {
    room: Arc<Room>,
    is_new: bool,
}

/// Readers of some rooms, by their addresses.
type Readers = HashMap<usize, Weak<SomeRooms>>;

#[derive(Default)]
struct Watchers {
    of: HashMap<RoomId, Readers>,
    all: Readers,
}

/// Some rooms, and those that are made.
pub(crate) struct SomeRooms {
    board: Arc<Board>,
    ids: Vec<RoomId>,
    followers: Followers,
}

impl Board {
    /// Notes that a room is new.
    pub(super) fn note_made(&self, room: &Arc<Room>) {
        let due = Due {
            room: Arc::clone(room),
            is_new: true,
        };
        lock(&self.due).insert(room.id, due);
    }

    /// Notes that a room has changed.
    pub(super) fn note(&self, room: &Arc<Room>) {
        lock(&self.due).entry(room.id).or_insert_with(|| Due {
            room: Arc::clone(room),
            is_new: false,
        });
    }

    /// Announces the rooms whose second is over.
    pub(super) fn tick(&self, now: Instant) {
        let mut due = std::mem::take(&mut *lock(&self.due));
        let mut announced = Vec::new();
        let mut is_any_new = false;
        {
            let mut state = lock(&self.state);
            due.retain(|id, due| {
                let is_announced = state.announce(due, now);
                if is_announced {
                    announced.push(*id);
                    is_any_new |= due.is_new;
                }
                !is_announced
            });
        }
        {
            let mut noted = lock(&self.due);
            for (id, due) in due {
                // What was noted meanwhile is of the same room.
                noted.entry(id).or_insert(due);
            }
        }
        if announced.is_empty() {
            return;
        }
        // Once for all of them.
        self.followers.wake();
        // The last of a feed may be dropped here, which takes the lock of all again.
        let woken: Vec<Arc<SomeRooms>> = {
            let watchers = lock(&self.watchers);
            let of_these = |some: &Readers| {
                let some = some.values().filter_map(Weak::upgrade);
                some.collect::<Vec<_>>()
            };
            if is_any_new {
                of_these(&watchers.all)
            } else {
                let ids = announced.iter();
                let watched = ids.filter_map(|id| watchers.of.get(id));
                watched.flat_map(of_these).collect()
            }
        };
        for some in woken {
            some.followers.wake();
        }
    }

    /// The feed of these rooms, and of those that are made.
    pub(crate) fn some(self: &Arc<Self>, mut ids: Vec<RoomId>) -> Arc<SomeRooms> {
        ids.sort_unstable();
        ids.dedup();
        let some = Arc::new(SomeRooms {
            board: Arc::clone(self),
            ids,
            followers: Followers::default(),
        });
        let mut watchers = lock(&self.watchers);
        let address = some.address();
        for id in &some.ids {
            let of = watchers.of.entry(*id).or_default();
            of.insert(address, Arc::downgrade(&some));
        }
        watchers.all.insert(address, Arc::downgrade(&some));
        drop(watchers);
        some
    }
}

impl State {
    fn announce(&mut self, due: &Due, now: Instant) -> bool {
        let room = &due.room;
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
        if due.is_new {
            self.made.insert(version, room.id);
            if self.made.len() > MADE_MAX {
                self.made.pop_first();
            }
        }
        true
    }

    /// The newest announcement of a room, with its version.
    fn newest(&self, id: RoomId) -> Option<(u64, &Encoded)> {
        let version = self.rooms.get(&id)?.version;
        Some((version, self.announced.get(&version)?))
    }
}

impl Feed for Board {
    fn start(&self) -> u64 {
        // What was noted before is no news to who begins now.
        self.tick(Instant::now());
        lock(&self.state).version
    }

    fn newest(&self) -> u64 {
        lock(&self.state).version
    }

    fn after(&self, version: u64) -> Option<(u64, Option<Encoded>)> {
        let state = lock(&self.state);
        let mut later = state.announced.range(version + 1..);
        later
            .next()
            .map(|(version, encoded)| (*version, Some(encoded.clone())))
    }

    fn followers(&self) -> &Followers {
        &self.followers
    }
}

impl SomeRooms {
    /// Tells it apart from all others that live.
    fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }
}

impl Feed for SomeRooms {
    fn start(&self) -> u64 {
        self.board.start()
    }

    fn newest(&self) -> u64 {
        self.board.newest()
    }

    fn after(&self, version: u64) -> Option<(u64, Option<Encoded>)> {
        let state = lock(&self.board.state);
        if version >= state.version {
            return None;
        }
        let of_these = self.ids.iter().filter_map(|id| state.newest(*id));
        let of_these = of_these.filter(|(at, _)| *at > version);
        let made = state.made.range(version + 1..).next();
        // What was made has changed since, perhaps: it is sent as it is now.
        let made = made.and_then(|(at, id)| Some((*at, state.newest(*id)?.1)));
        Some(match of_these.chain(made).min_by_key(|(at, _)| *at) {
            Some((at, encoded)) => (at, Some(encoded.clone())),
            None => (state.version, None),
        })
    }

    fn followers(&self) -> &Followers {
        &self.followers
    }
}

impl Drop for SomeRooms {
    fn drop(&mut self) {
        let address = self.address();
        let mut watchers = lock(&self.board.watchers);
        watchers.all.remove(&address);
        for id in &self.ids {
            if let Some(of) = watchers.of.get_mut(id) {
                of.remove(&address);
                if of.is_empty() {
                    watchers.of.remove(id);
                }
            }
        }
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
        board.note_made(&first);
        board.note(&first);
        board.note_made(&second);
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

    #[test]
    fn who_follows_some_rooms_is_told_of_these_and_of_new_ones() {
        let board = Arc::new(Board::default());
        let rooms: Vec<_> = (1..=4).map(room).collect();
        let mut now = Instant::now();
        board.note(&rooms[0]);
        board.note(&rooms[1]);
        board.tick(now);
        let some = board.some(vec![rooms[0].id, rooms[0].id, rooms[3].id]);
        let signal = Arc::default();
        some.followers().add(&signal);
        let mut version = some.start();
        let mut read = || {
            let mut told = Vec::new();
            while let Some((seen, encoded)) = some.after(version) {
                version = seen;
                let text = encoded.map(|encoded| String::from_utf8_lossy(&encoded).into_owned());
                let id = text.as_deref().and_then(|text| text.split('"').nth(3));
                told.extend(id.map(|id| RoomId::parse(id).unwrap().0.as_u128()));
            }
            told
        };
        assert!(read().is_empty());
        now += ANNOUNCE_INTERVAL;
        board.note(&rooms[1]);
        board.tick(now);
        assert!(
            !signal.is_ready(),
            "a room that it does not show has changed"
        );
        assert!(read().is_empty());
        board.note(&rooms[0]);
        board.note(&rooms[3]);
        board.tick(now);
        assert!(signal.is_ready());
        let mut told = read();
        told.sort_unstable();
        assert_eq!(told, [1, 4]);
        signal.take();
        board.note_made(&rooms[2]);
        board.tick(now);
        assert!(signal.is_ready(), "a room was made");
        now += ANNOUNCE_INTERVAL;
        board.note(&rooms[2]);
        board.tick(now);
        assert_eq!(read(), [3]);
        drop(some);
        let watchers = lock(&board.watchers);
        assert!(watchers.of.is_empty() && watchers.all.is_empty());
    }
}
