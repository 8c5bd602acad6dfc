//! Whose a message is: told by its id, as names may pass from one guest to another.
//!
//! Pure. A browser keeps a secret key. The ids that it chooses hold eight random octets and their
//! authentication code under that key, so that every tab knows the messages that this browser has
//! ever sent, in history too, with nothing to remember for each; and nobody else can make such an id.
//! The room is in the code: an id is of no use in another room, and in its own the server takes it once.

use std::hash::Hasher;

use shared::chat::{ChatMessage, MessageId, RoomId};
use siphasher::sip::SipHasher24;
use uuid::Uuid;

/// The keys by which this browser's messages are known; the newest signs.
#[derive(Debug, Default)]
pub(crate) struct Authorship {
    keys: Vec<Uuid>,
}

impl Authorship {
    /// Takes the key that the browser's storage holds, which another tab may have put there, and gives the key
    /// to keep there. `fresh` is taken where there is none yet.
    pub(crate) fn learn(&mut self, stored: Option<Uuid>, fresh: Uuid) -> Uuid {
        let key = stored.or(self.keys.last().copied()).unwrap_or(fresh);
        if self.keys.last() != Some(&key) {
            self.keys.push(key);
        }
        key
    }

    /// Makes an id from a random UUID. Without a key it is that of nobody.
    pub(crate) fn sign(&self, room: RoomId, random: Uuid) -> MessageId {
        MessageId(
            self.keys
                .last()
                .map_or(random, |&key| sign(key, room, random)),
        )
    }

    /// Whether this browser sent a message.
    pub(crate) fn wrote(&self, message: &ChatMessage) -> bool {
        let id = message.id.0;
        self.keys
            .iter()
            .any(|&key| sign(key, message.room_id, id) == id)
    }
}

/// Keeps the first half of a UUID and makes the second half its code: a UUID of version 8 (RFC 9562, 5.8).
fn sign(key: Uuid, room: RoomId, id: Uuid) -> Uuid {
    let mut octets = *Uuid::new_v8(*id.as_bytes()).as_bytes();
    let (key_0, key_1) = key.as_u64_pair();
    let mut hasher = SipHasher24::new_with_keys(key_0, key_1);
    hasher.write(room.0.as_bytes());
    hasher.write(&octets[..8]);
    octets[8..].copy_from_slice(&hasher.finish().to_be_bytes());
    Uuid::new_v8(octets)
}

#[cfg(test)]
mod tests {
    use shared::chat::{MessageType, Sender};
    use time::OffsetDateTime;

    use super::*;

    fn message(room: RoomId, id: MessageId, sender: &str) -> ChatMessage {
        ChatMessage {
            kind: MessageType::Talk,
            room_id: room,
            sender: Sender::parse(sender).unwrap(),
            message: "m".to_owned(),
            id,
            seq: 1,
            sent_at: OffsetDateTime::UNIX_EPOCH,
        }
    }

    fn with_key(key: u128) -> Authorship {
        let mut authorship = Authorship::default();
        authorship.learn(Some(Uuid::from_u128(key)), Uuid::nil());
        authorship
    }

    #[test]
    fn a_message_is_told_by_its_id_and_not_by_its_name() {
        let room = RoomId(Uuid::from_u128(1));
        let (mine, theirs) = (with_key(7), with_key(8));
        let random = Uuid::from_u128(0x0123_4567_89ab_4def_8123_4567_89ab_cdef);
        let id = mine.sign(room, random);
        assert_eq!(id.0.get_version_num(), 8);
        for sender in ["영희", "작은 영희"] {
            assert!(mine.wrote(&message(room, id, sender)));
            assert!(!theirs.wrote(&message(room, id, sender)));
        }
        for (what, other) in [
            ("another browser's", theirs.sign(room, random)),
            ("a program's", MessageId(random)),
            (
                "one of another room",
                mine.sign(RoomId(Uuid::nil()), random),
            ),
            (
                "one that is altered",
                MessageId(Uuid::from_u128(id.0.as_u128() ^ 1)),
            ),
            (
                "one of another half",
                MessageId(Uuid::from_u128(id.0.as_u128() ^ (1 << 127))),
            ),
            ("none", MessageId(Uuid::nil())),
        ] {
            assert!(!mine.wrote(&message(room, other, "영희")), "{what}");
        }
    }

    #[test]
    fn ids_differ() {
        let mine = with_key(7);
        let ids: std::collections::HashSet<_> = (0..1_000_u128)
            .map(|n| mine.sign(RoomId(Uuid::nil()), Uuid::from_u128(n << 64)))
            .collect();
        assert_eq!(ids.len(), 1_000);
    }

    #[test]
    fn tabs_that_begin_together_end_up_with_one_key() {
        let room = RoomId(Uuid::nil());
        let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let mut tab = Authorship::default();
        assert_eq!(tab.learn(None, one), one);
        let early = tab.sign(room, Uuid::nil());
        // Another tab's key stands in the storage by now.
        assert_eq!(tab.learn(Some(two), Uuid::nil()), two);
        let late = tab.sign(room, Uuid::nil());
        assert!(tab.wrote(&message(room, early, "a")));
        assert!(with_key(2).wrote(&message(room, late, "a")));
        // A storage that is emptied gets the key back; one that is closed to us never had it.
        assert_eq!(tab.learn(None, Uuid::nil()), two);
    }
}
