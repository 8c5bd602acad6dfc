//! Who is in each room, for `/topic/chat/room/{roomId}/participants` and its readers by HTTP.
//!
//! The log says who enters and leaves, in its order; nothing is decided here.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::Serialize;
use shared::chat::{RoomId, Sender};
use shared::destination::Destination;

use super::feed::Feed;
use crate::log::tail::lock;
use crate::log::{Encoded, Followers, Owner, Presence};

/// How often the changes of one room are sent at most.
const GATHER_INTERVAL: Duration = Duration::from_secs(1);

/// Of so many people it is known when they came or went last. A reader that has missed more is sent the
/// whole list.
const CHANGES_MAX: usize = 4_096;

/// Who is in which room.
#[derive(Default)]
pub(crate) struct Participants {
    rooms: Mutex<HashMap<RoomId, Arc<Roster>>>,
    /// Rooms with changes that were not sent yet.
    due: Mutex<HashMap<RoomId, Arc<Roster>>>,
}

/// Who is in one room.
pub(crate) struct Roster {
    room: RoomId,
    state: Mutex<State>,
    followers: Followers,
}

struct State {
    present: BTreeMap<Sender, Owner>,
    /// Grows with each change.
    version: u64,
    /// What readers are told of.
    gathered: u64,
    gathered_at: Option<Instant>,
    /// Everybody who came or went lately: once, under the version of the last time, and whether they
    /// are there since.
    changes: BTreeMap<u64, (Sender, bool)>,
    versions: HashMap<Sender, u64>,
    /// The first version of which all changes are known.
    known_from: u64,
    /// What readers are sent, by the version that they have seen; forgotten at each change.
    frames: HashMap<u64, (u64, Encoded)>,
}

/// A participant, as clients read it.
#[derive(Serialize)]
pub(crate) struct Participant {
    sender: Sender,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Frame {
    All {
        participants: Vec<Participant>,
    },
    Changes {
        entered: Vec<Participant>,
        left: Vec<Participant>,
    },
}

impl Participants {
    /// Who is in a room now, by their names.
    pub(crate) fn of(&self, room: RoomId) -> Vec<Participant> {
        let roster = lock(&self.rooms).get(&room).cloned();
        roster.map_or_else(Vec::new, |roster| lock(&roster.state).all())
    }

    /// Whether somebody is in a room under this name.
    pub(crate) fn has(&self, room: RoomId, sender: &Sender, owner: Owner) -> bool {
        let roster = lock(&self.rooms).get(&room).cloned();
        roster.is_some_and(|roster| lock(&roster.state).present.get(sender) == Some(&owner))
    }

    /// The feed of a room.
    pub(crate) fn feed(&self, room: RoomId) -> Arc<Roster> {
        let mut rooms = lock(&self.rooms);
        let roster = rooms
            .entry(room)
            .or_insert_with(|| Arc::new(Roster::new(room)));
        Arc::clone(roster)
    }

    /// Notes who came or went.
    pub(super) fn note(&self, room: RoomId, presence: Presence) {
        let roster = self.feed(room);
        lock(&roster.state).note(presence);
        lock(&self.due).insert(room, roster);
    }

    /// Sends what has changed in the rooms whose second is over.
    pub(super) fn tick(&self, now: Instant) {
        let mut due = std::mem::take(&mut *lock(&self.due));
        due.retain(|_, roster| {
            let mut state = lock(&roster.state);
            let is_soon = state
                .gathered_at
                .is_some_and(|at| now.saturating_duration_since(at) < GATHER_INTERVAL);
            if is_soon {
                return true;
            }
            state.gathered = state.version;
            state.gathered_at = Some(now);
            drop(state);
            roster.followers.wake();
            false
        });
        // What was noted meanwhile is there already.
        lock(&self.due).extend(due);
    }

    /// Forgets the rooms in which nobody is, and at which nobody looks.
    pub(crate) fn tidy(&self) {
        lock(&self.rooms).retain(|_, roster| {
            // A reader has it too, or what is due.
            Arc::get_mut(roster).is_none_or(|roster| !lock(&roster.state).present.is_empty())
        });
    }
}

impl Roster {
    fn new(room: RoomId) -> Self {
        Roster {
            room,
            state: Mutex::new(State {
                present: BTreeMap::new(),
                // A reader that has seen nothing has seen version 0.
                version: 1,
                gathered: 1,
                gathered_at: None,
                changes: BTreeMap::new(),
                versions: HashMap::new(),
                known_from: 1,
                frames: HashMap::new(),
            }),
            followers: Followers::default(),
        }
    }
}

impl State {
    fn all(&self) -> Vec<Participant> {
        let participant = |sender: &Sender| Participant {
            sender: sender.clone(),
        };
        self.present.keys().map(participant).collect()
    }

    fn note(&mut self, presence: Presence) {
        let (sender, is_present) = match presence {
            Presence::Entered { sender, owner } => {
                self.present.insert(sender.clone(), owner);
                (sender, true)
            }
            Presence::Left { sender } => {
                self.present.remove(&sender);
                (sender, false)
            }
        };
        self.version += 1;
        self.frames.clear();
        if let Some(before) = self.versions.insert(sender.clone(), self.version) {
            self.changes.remove(&before);
        }
        self.changes.insert(self.version, (sender, is_present));
        while self.changes.len() > CHANGES_MAX
            && let Some((version, (sender, _))) = self.changes.pop_first()
        {
            self.versions.remove(&sender);
            self.known_from = version;
        }
    }

    /// What a reader that has seen `version` is told; with the version that it has seen then.
    fn tell(&self, version: u64) -> (u64, Frame) {
        if version < self.known_from {
            let participants = self.all();
            return (self.version, Frame::All { participants });
        }
        let (mut entered, mut left) = (Vec::new(), Vec::new());
        for (sender, is_present) in self
            .changes
            .range(version + 1..=self.gathered)
            .map(|(_, it)| it)
        {
            let sender = sender.clone();
            let list = if *is_present { &mut entered } else { &mut left };
            list.push(Participant { sender });
        }
        (self.gathered, Frame::Changes { entered, left })
    }
}

impl Feed for Roster {
    fn start(&self) -> u64 {
        0
    }

    fn newest(&self) -> u64 {
        lock(&self.state).gathered
    }

    fn after(&self, version: u64) -> Option<(u64, Option<Encoded>)> {
        let mut state = lock(&self.state);
        if version >= state.gathered {
            return None;
        }
        if let Some((seen, encoded)) = state.frames.get(&version) {
            return Some((*seen, Some(encoded.clone())));
        }
        let (seen, frame) = state.tell(version);
        let body = serde_json::to_vec(&frame).expect("names are valid JSON");
        let destination = Destination::Participants(self.room);
        let encoded = super::encode(&destination, "application/json", &body);
        state.frames.insert(version, (seen, encoded.clone()));
        Some((seen, Some(encoded)))
    }

    fn followers(&self) -> &Followers {
        &self.followers
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn entered(name: &str) -> Presence {
        Presence::Entered {
            sender: Sender::parse(name).unwrap(),
            owner: None,
        }
    }

    fn left(name: &str) -> Presence {
        let sender = Sender::parse(name).unwrap();
        Presence::Left { sender }
    }

    /// The body of a frame.
    fn body(encoded: &Encoded) -> serde_json::Value {
        let text = String::from_utf8_lossy(encoded);
        let (_, body) = text.split_once("\n\n").unwrap();
        serde_json::from_str(body.trim_end_matches('\0')).unwrap()
    }

    /// A reader of a room.
    struct Reader {
        feed: Arc<Roster>,
        version: u64,
    }

    impl Reader {
        fn of(participants: &Participants) -> Self {
            let feed = participants.feed(ROOM);
            let version = feed.start();
            Reader { feed, version }
        }

        fn read(&mut self) -> Vec<serde_json::Value> {
            std::iter::from_fn(|| {
                let (version, encoded) = self.feed.after(self.version)?;
                self.version = version;
                encoded.map(|encoded| body(&encoded))
            })
            .collect()
        }
    }

    const ROOM: RoomId = RoomId(Uuid::nil());

    fn all(names: &[&str]) -> serde_json::Value {
        serde_json::json!({ "participants": people(names) })
    }

    fn changes(entered: &[&str], left: &[&str]) -> serde_json::Value {
        serde_json::json!({ "entered": people(entered), "left": people(left) })
    }

    fn people(names: &[&str]) -> Vec<serde_json::Value> {
        let person = |name: &&str| serde_json::json!({ "sender": name });
        names.iter().map(person).collect()
    }

    #[test]
    fn the_whole_list_comes_at_once_and_then_gathered_changes_once_a_second() {
        let participants = Participants::default();
        let start = Instant::now();
        let mut empty = Reader::of(&participants);
        assert_eq!(empty.read(), [all(&[])]);
        participants.note(ROOM, entered("b"));
        participants.note(ROOM, entered("a"));
        // Who subscribes now has what is not sent to the others yet.
        let mut late = Reader::of(&participants);
        assert_eq!(late.read(), [all(&["a", "b"])]);
        assert!(empty.read().is_empty());
        participants.tick(start);
        assert_eq!(empty.read(), [changes(&["b", "a"], &[])]);
        assert!(late.read().is_empty());
        participants.note(ROOM, left("b"));
        participants.note(ROOM, entered("c"));
        participants.tick(start + GATHER_INTERVAL / 2);
        assert!(late.read().is_empty(), "a second is not over");
        participants.tick(start + GATHER_INTERVAL);
        for reader in [&mut late, &mut empty] {
            assert_eq!(reader.read(), [changes(&["c"], &["b"])]);
        }
        participants.tick(start + 3 * GATHER_INTERVAL);
        assert!(late.read().is_empty());
    }

    #[test]
    fn a_slow_reader_gets_the_newest_of_each() {
        let participants = Participants::default();
        let mut now = Instant::now();
        let mut reader = Reader::of(&participants);
        reader.read();
        for _ in 0..100 {
            for presence in [entered("a"), left("a"), entered("b")] {
                participants.note(ROOM, presence);
            }
            now += GATHER_INTERVAL;
            participants.tick(now);
        }
        assert_eq!(reader.read(), [changes(&["b"], &["a"])]);
        for number in 0..=CHANGES_MAX {
            participants.note(ROOM, entered(&format!("guest {number}")));
        }
        participants.tick(now + GATHER_INTERVAL);
        let told = reader.read();
        assert_eq!(told.len(), 1);
        let list = told[0]["participants"].as_array().unwrap();
        assert_eq!(list.len(), CHANGES_MAX + 2);
        assert_eq!(lock(&reader.feed.state).versions.len(), CHANGES_MAX);
    }

    #[test]
    fn a_room_that_nobody_is_in_and_nobody_looks_at_is_forgotten() {
        let participants = Participants::default();
        let now = Instant::now();
        let reader = Reader::of(&participants);
        participants.note(ROOM, entered("a"));
        participants.note(ROOM, left("a"));
        participants.tick(now);
        participants.tidy();
        assert_eq!(lock(&participants.rooms).len(), 1, "somebody looks at it");
        drop(reader);
        participants.note(ROOM, entered("a"));
        participants.tick(now + GATHER_INTERVAL);
        participants.tidy();
        assert_eq!(participants.of(ROOM).len(), 1);
        participants.note(ROOM, left("a"));
        participants.tidy();
        assert_eq!(lock(&participants.rooms).len(), 1, "it is not told yet");
        participants.tick(now + 2 * GATHER_INTERVAL);
        participants.tidy();
        assert!(lock(&participants.rooms).is_empty());
    }
}
