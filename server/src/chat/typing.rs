//! Who is typing in each room, for `/topic/chat/room/{roomId}/typing`. Nothing of it is stored.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::Serialize;
use shared::chat::{RoomId, Sender};
use shared::destination::Destination;

use super::feed::Feed;
use crate::log::tail::lock;
use crate::log::{Encoded, Followers};

/// How often one person's typing is sent at most.
const REPEAT_INTERVAL: Duration = Duration::from_secs(2);

/// For so long somebody is typing who has said so once.
const TYPING_FOR: Duration = Duration::from_secs(4);

/// Who is typing in which room.
#[derive(Default)]
pub(crate) struct Typing {
    rooms: Mutex<HashMap<RoomId, Arc<Typists>>>,
}

/// Who is typing in one room.
pub(crate) struct Typists {
    room: RoomId,
    state: Mutex<State>,
    followers: Followers,
}

#[derive(Default)]
struct State {
    version: u64,
    /// What readers are told of.
    gathered: u64,
    /// What everybody is sent: once a person, under the version of the last time.
    frames: BTreeMap<u64, Frame>,
    versions: HashMap<Sender, u64>,
}

struct Frame {
    sender: Sender,
    at: Instant,
    /// `None` where they type no more.
    encoded: Option<Encoded>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    room_id: RoomId,
    sender: &'a Sender,
}

impl Typing {
    /// The feed of a room.
    pub(crate) fn feed(&self, room: RoomId) -> Arc<Typists> {
        let mut rooms = lock(&self.rooms);
        let typists = rooms.entry(room).or_insert_with(|| {
            Arc::new(Typists {
                room,
                state: Mutex::default(),
                followers: Followers::default(),
            })
        });
        Arc::clone(typists)
    }

    /// Notes that somebody is typing. Where it was noted a moment ago, nothing is sent for it.
    pub(crate) fn note(&self, room: RoomId, sender: Sender, now: Instant) {
        let typists = lock(&self.rooms).get(&room).cloned();
        // Else nobody would see it.
        if let Some(typists) = typists {
            lock(&typists.state).note(typists.room, sender, now);
        }
    }

    /// Notes that somebody has left, or has said what they were typing.
    pub(super) fn end(&self, room: RoomId, sender: &Sender) {
        let typists = lock(&self.rooms).get(&room).cloned();
        if let Some(typists) = typists {
            lock(&typists.state).end(sender);
        }
    }

    /// Sends what was noted, and forgets what is over, and rooms at which nobody looks.
    pub(super) fn tick(&self, now: Instant) {
        let mut woken = Vec::new();
        lock(&self.rooms).retain(|_, typists| {
            let mut state = lock(&typists.state);
            state.expire(now);
            let is_new = state.version > state.gathered;
            state.gathered = state.version;
            let is_quiet = state.frames.is_empty();
            drop(state);
            if is_new {
                woken.push(Arc::clone(typists));
            }
            is_new || !is_quiet || Arc::get_mut(typists).is_none()
        });
        for typists in woken {
            typists.followers.wake();
        }
    }
}

impl State {
    fn note(&mut self, room: RoomId, sender: Sender, now: Instant) {
        if let Some(version) = self.versions.get(&sender).copied() {
            let is_soon = |frame: &Frame| now.saturating_duration_since(frame.at) < REPEAT_INTERVAL;
            if self.frames.get(&version).is_some_and(is_soon) {
                return;
            }
            self.frames.remove(&version);
        }
        let body = Body {
            room_id: room,
            sender: &sender,
        };
        let body = serde_json::to_vec(&body).expect("a name is valid JSON");
        let encoded = super::encode(&Destination::Typing(room), "application/json", &body);
        self.version += 1;
        self.versions.insert(sender.clone(), self.version);
        let frame = Frame {
            sender,
            at: now,
            encoded: Some(encoded),
        };
        self.frames.insert(self.version, frame);
    }

    fn end(&mut self, sender: &Sender) {
        let version = self.versions.get(sender);
        if let Some(frame) = version.and_then(|version| self.frames.get_mut(version)) {
            frame.encoded = None;
        }
    }

    fn expire(&mut self, now: Instant) {
        // They are in the order of their times.
        while let Some(frame) = self.frames.first_entry()
            && now.saturating_duration_since(frame.get().at) >= TYPING_FOR
        {
            let Frame { sender, .. } = frame.remove();
            self.versions.remove(&sender);
        }
    }
}

impl Feed for Typists {
    fn start(&self) -> u64 {
        lock(&self.state).gathered
    }

    fn newest(&self) -> u64 {
        lock(&self.state).gathered
    }

    fn after(&self, version: u64) -> Option<(u64, Option<Encoded>)> {
        let state = lock(&self.state);
        if version >= state.gathered {
            return None;
        }
        let mut later = state.frames.range(version + 1..=state.gathered);
        // What is over, or who has left, is not sent.
        Some(match later.next() {
            Some((version, frame)) => (*version, frame.encoded.clone()),
            None => (state.gathered, None),
        })
    }

    fn followers(&self) -> &Followers {
        &self.followers
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const ROOM: RoomId = RoomId(Uuid::nil());

    fn name(name: &str) -> Sender {
        Sender::parse(name).unwrap()
    }

    /// Whose typing a reader is sent that has seen `version`.
    fn read(typists: &Typists, version: &mut u64) -> Vec<String> {
        let mut told = Vec::new();
        while let Some((seen, encoded)) = typists.after(*version) {
            *version = seen;
            let text = encoded.map(|encoded| String::from_utf8_lossy(&encoded).into_owned());
            let sender = text.as_deref().and_then(|text| text.split('"').nth(7));
            told.extend(sender.map(str::to_owned));
        }
        assert_eq!(*version, typists.newest());
        told
    }

    #[test]
    fn one_person_is_told_once_in_two_seconds_and_nobody_after_four() {
        let typing = Typing::default();
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        typing.note(ROOM, name("nobody sees"), start);
        let feed = typing.feed(ROOM);
        let mut version = feed.start();
        for now in [0, 100, 1_900] {
            typing.note(ROOM, name("a"), at(now));
        }
        typing.note(ROOM, name("b"), at(1_900));
        assert!(read(&feed, &mut version).is_empty(), "not before the tick");
        typing.tick(at(1_900));
        assert_eq!(read(&feed, &mut version), ["a", "b"]);
        typing.note(ROOM, name("b"), at(2_000));
        typing.note(ROOM, name("a"), at(2_000));
        typing.tick(at(2_000));
        assert_eq!(read(&feed, &mut version), ["a"]);
        // Who comes late is not told what is over.
        let mut late = 0;
        typing.tick(at(5_900));
        assert_eq!(read(&feed, &mut late), ["a"]);
        late = 0;
        typing.tick(at(6_000));
        assert!(read(&feed, &mut late).is_empty());
    }

    #[test]
    fn who_has_left_or_said_it_is_not_typing() {
        let typing = Typing::default();
        let now = Instant::now();
        let feed = typing.feed(ROOM);
        let mut version = feed.start();
        typing.note(ROOM, name("a"), now);
        typing.end(ROOM, &name("a"));
        typing.tick(now);
        assert!(read(&feed, &mut version).is_empty());
        // Not before two seconds are over all the same.
        typing.note(ROOM, name("a"), now + REPEAT_INTERVAL / 2);
        typing.tick(now + REPEAT_INTERVAL / 2);
        assert!(read(&feed, &mut version).is_empty());
        typing.note(ROOM, name("a"), now + REPEAT_INTERVAL);
        typing.tick(now + REPEAT_INTERVAL);
        assert_eq!(read(&feed, &mut version), ["a"]);
        drop(feed);
        typing.tick(now + REPEAT_INTERVAL + TYPING_FOR);
        assert!(lock(&typing.rooms).is_empty());
    }
}
