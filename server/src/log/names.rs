//! Who holds which name in which room, decided at the moment of ordering (contract, section 3).
//!
//! A session's name in a room is that of its first message there. Browsers are told apart by their
//! guest; programs share the names among themselves. The grace after a session's end is not here
//! yet: a session's end frees its names at once.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use shared::chat::{MessageType, Sender, is_invisible};
use unicode_normalization::UnicodeNormalization;
use uuid::Uuid;

use super::{Origin, Reason, SessionNumber};

/// A name as it is compared: NFC, without what shows nothing.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
struct NameKey(String);

impl NameKey {
    fn of(sender: &Sender) -> Self {
        let shown = sender.as_str().chars().filter(|&c| !is_invisible(c));
        NameKey(shown.nfc().collect())
    }
}

#[derive(Clone, Debug, Default)]
struct Holder {
    guest: Option<Uuid>,
    sessions: BTreeSet<SessionNumber>,
    present: bool,
}

/// The names in all rooms.
#[derive(Debug, Default)]
pub(super) struct Names {
    holders: HashMap<(i64, NameKey), Holder>,
    bound: HashMap<SessionNumber, BTreeMap<i64, NameKey>>,
    present: HashMap<i64, u64>,
    journal: Vec<Undo>,
    mark: usize,
}

#[derive(Debug)]
struct Undo {
    place: (i64, NameKey),
    holder: Option<Holder>,
    session: SessionNumber,
    bound: Option<NameKey>,
}

/// What a message does by its name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Admission {
    /// It is to be stored.
    Store,
    /// It says nothing new: a second ENTER, or a LEAVE of one who is not present.
    Pass,
}

impl Names {
    /// Admits a message, and takes note of what it does to the names.
    ///
    /// # Errors
    /// [`Reason::NameTaken`], [`Reason::NameDiffers`]; nothing is changed then.
    pub(super) fn admit(
        &mut self,
        room: i64,
        origin: Origin,
        sender: &Sender,
        kind: MessageType,
    ) -> Result<Admission, Reason> {
        if kind == MessageType::Talk && self.speaks_again(room, origin, sender) {
            return Ok(Admission::Store);
        }
        let key = NameKey::of(sender);
        let bound = self
            .bound
            .get(&origin.session)
            .and_then(|rooms| rooms.get(&room))
            .cloned();
        if bound.as_ref().is_some_and(|bound| *bound != key) {
            return Err(Reason::NameDiffers);
        }
        let place = (room, key);
        let holder = self.holders.get(&place).cloned();
        let held_by = holder.as_ref().and_then(|holder| holder.guest);
        if held_by.is_some() && held_by != origin.guest {
            return Err(Reason::NameTaken);
        }
        let was_present = holder.as_ref().is_some_and(|holder| holder.present);
        self.journal.push(Undo {
            place: place.clone(),
            holder: holder.clone(),
            session: origin.session,
            bound,
        });
        let mut next = holder.unwrap_or_default();
        next.guest = origin.guest;
        match kind {
            MessageType::Leave => {
                next.present = false;
                next.sessions.remove(&origin.session);
                self.set(place, next, origin.session, None);
                Ok(if was_present {
                    Admission::Store
                } else {
                    Admission::Pass
                })
            }
            MessageType::Enter | MessageType::Talk => {
                next.present |= kind == MessageType::Enter;
                next.sessions.insert(origin.session);
                let key = place.1.clone();
                self.set(place, next, origin.session, Some(key));
                let again = kind == MessageType::Enter && was_present;
                Ok(if again {
                    Admission::Pass
                } else {
                    Admission::Store
                })
            }
        }
    }

    /// Whether the session has and holds this very name already, so that a TALK changes nothing.
    fn speaks_again(&self, room: i64, origin: Origin, sender: &Sender) -> bool {
        let rooms = self.bound.get(&origin.session);
        let Some(bound) = rooms.and_then(|rooms| rooms.get(&room)) else {
            return false;
        };
        bound.0 == sender.as_str() && {
            let holder = self.holders.get(&(room, bound.clone()));
            holder.is_some_and(|holder| holder.guest == origin.guest)
        }
    }

    /// Keeps what was admitted and released since the last call of this or [`Names::undo`].
    pub(super) fn keep(&mut self) {
        self.journal.clear();
        self.mark = 0;
    }

    /// Undoes what was admitted and released since the last call of this or [`Names::keep`].
    pub(super) fn undo(&mut self) {
        self.mark = 0;
        self.undo_to_mark();
    }

    /// Marks the place to which [`Names::undo_to_mark`] goes back: the begin of a record.
    pub(super) fn mark(&mut self) {
        self.mark = self.journal.len();
    }

    /// Undoes what was admitted since [`Names::mark`].
    pub(super) fn undo_to_mark(&mut self) {
        while self.journal.len() > self.mark {
            let Some(Undo {
                place,
                holder,
                session,
                bound,
            }) = self.journal.pop()
            else {
                break;
            };
            self.set(place, holder.unwrap_or_default(), session, bound);
        }
    }

    /// Frees the names of a session; gives the rooms whose number of people present changed.
    pub(super) fn release(&mut self, session: SessionNumber) -> Vec<i64> {
        let Some(rooms) = self.bound.get(&session).cloned() else {
            return Vec::new();
        };
        let mut changed = Vec::new();
        for (room, key) in rooms {
            let place = (room, key);
            let Some(mut holder) = self.holders.get(&place).cloned() else {
                continue;
            };
            let before = self.present_in(room);
            self.journal.push(Undo {
                place: place.clone(),
                holder: Some(holder.clone()),
                session,
                bound: Some(place.1.clone()),
            });
            holder.sessions.remove(&session);
            self.set(place, holder, session, None);
            if self.present_in(room) != before {
                changed.push(room);
            }
        }
        changed
    }

    /// How many people are present in a room.
    pub(super) fn present_in(&self, room: i64) -> u64 {
        self.present.get(&room).copied().unwrap_or(0)
    }

    fn set(
        &mut self,
        place: (i64, NameKey),
        mut holder: Holder,
        session: SessionNumber,
        bound: Option<NameKey>,
    ) {
        let room = place.0;
        if holder.sessions.is_empty() {
            holder.present = false;
        }
        let was = self
            .holders
            .get(&place)
            .is_some_and(|holder| holder.present);
        let count = self.present.entry(room).or_default();
        *count = *count + u64::from(holder.present) - u64::from(was);
        if *count == 0 {
            self.present.remove(&room);
        }
        if holder.sessions.is_empty() {
            self.holders.remove(&place);
        } else {
            self.holders.insert(place, holder);
        }
        match bound {
            Some(key) => {
                self.bound.entry(session).or_default().insert(room, key);
            }
            None => {
                if let Some(rooms) = self.bound.get_mut(&session) {
                    rooms.remove(&room);
                    if rooms.is_empty() {
                        self.bound.remove(&session);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTER: MessageType = MessageType::Enter;
    const TALK: MessageType = MessageType::Talk;
    const LEAVE: MessageType = MessageType::Leave;

    fn browser(session: u64, guest: u128) -> Origin {
        Origin {
            session,
            guest: Some(Uuid::from_u128(guest)),
        }
    }

    fn program(session: u64) -> Origin {
        Origin {
            session,
            guest: None,
        }
    }

    #[test]
    fn names_are_held_shared_and_freed() {
        use Admission::{Pass, Store};
        let steps: &[(Origin, &str, MessageType, Result<Admission, Reason>)] = &[
            (browser(1, 1), "영희", ENTER, Ok(Store)),
            (browser(1, 1), "영희", ENTER, Ok(Pass)),
            (browser(2, 1), "영희", ENTER, Ok(Pass)),
            (browser(3, 2), "영희", TALK, Err(Reason::NameTaken)),
            (browser(3, 2), "영\u{200B}희", TALK, Err(Reason::NameTaken)),
            (
                browser(3, 2),
                "\u{110B}\u{1167}\u{11BC}희",
                TALK,
                Err(Reason::NameTaken),
            ),
            (program(4), "영희", TALK, Err(Reason::NameTaken)),
            (browser(1, 1), "철수", TALK, Err(Reason::NameDiffers)),
            (browser(1, 1), "영희", LEAVE, Ok(Store)),
            (browser(1, 1), "철수", TALK, Ok(Store)),
            (program(4), "봇", ENTER, Ok(Store)),
            (program(5), "봇", TALK, Ok(Store)),
            (browser(6, 3), "봇", TALK, Ok(Store)),
            (program(5), "봇", TALK, Err(Reason::NameTaken)),
            (program(7), "손", LEAVE, Ok(Pass)),
        ];
        let mut names = Names::default();
        for (index, (origin, name, kind, expected)) in steps.iter().enumerate() {
            let sender = Sender::parse(name).unwrap();
            assert_eq!(
                names.admit(1, *origin, &sender, *kind),
                *expected,
                "step {index}"
            );
            names.keep();
        }
        assert_eq!(names.present_in(1), 1);
        for session in 1..=7 {
            names.release(session);
        }
        assert_eq!(names.present_in(1), 0);
        assert!(names.holders.is_empty() && names.bound.is_empty() && names.present.is_empty());
    }

    #[test]
    fn what_is_undone_leaves_no_trace() {
        let mut names = Names::default();
        let (a, b) = (Sender::parse("a").unwrap(), Sender::parse("b").unwrap());
        names.admit(1, program(1), &a, ENTER).unwrap();
        names.keep();
        names.admit(1, program(1), &a, LEAVE).unwrap();
        names.admit(1, program(1), &b, ENTER).unwrap();
        assert!(names.release(1).is_empty() || names.present_in(1) == 0);
        names.undo();
        assert_eq!(
            names.admit(1, program(1), &b, TALK),
            Err(Reason::NameDiffers)
        );
        assert_eq!(names.admit(1, program(1), &a, ENTER), Ok(Admission::Pass));
        assert_eq!(names.present_in(1), 1);
    }
}
