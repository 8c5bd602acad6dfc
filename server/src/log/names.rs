//! Who holds which name in which room, decided at the moment of ordering (docs/wire.md, "Names").
//!
//! A session's name in a room is that of its first message there. Browsers are told apart by their
//! guest; programs share the names among themselves. The grace after a session's end is not here
//! yet: a session's end frees its names at once.
//!
//! What a session has is its own until it leaves or ends: whatever others do, its TALK and its LEAVE under
//! that name are not refused. So a name that is held, or that looks like one that is, passes to nobody.

mod compared;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use shared::chat::{MessageType, Sender};
use uuid::Uuid;

use self::compared::{Key, Look};
use super::{Origin, Reason, SessionNumber};

/// Whose a name is: a guest's, or all programs' together.
type Owner = Option<Uuid>;

/// Who has a name at the moment: at least one session. It is copied at each change, however many they
/// are.
#[derive(Clone, Copy, Debug, Default)]
struct Holder {
    owner: Owner,
    /// How many sessions are bound to the name.
    sessions: usize,
    present: bool,
}

/// The name of a session in a room.
#[derive(Debug)]
struct Bound {
    sender: Sender,
    key: Key,
    look: Look,
    owner: Owner,
}

impl Bound {
    fn new(sender: &Sender, owner: Owner) -> Self {
        Bound {
            sender: sender.clone(),
            key: Key::of(sender.as_str()),
            look: Look::of(sender.as_str()),
            owner,
        }
    }
}

/// Who has names of one look, and in how many sessions.
#[derive(Debug, Default)]
struct Alike {
    /// Of those in ASCII alone, which may be alike among themselves.
    ascii: HashMap<Owner, usize>,
    /// Of all others.
    other: HashMap<Owner, usize>,
}

impl Alike {
    fn of(&mut self, key: &Key) -> &mut HashMap<Owner, usize> {
        if key.is_ascii() {
            &mut self.ascii
        } else {
            &mut self.other
        }
    }
}

/// The names in all rooms.
#[derive(Debug, Default)]
pub(super) struct Names {
    holders: HashMap<(i64, Key), Holder>,
    alike: HashMap<(i64, Look), Alike>,
    bound: HashMap<SessionNumber, BTreeMap<i64, Arc<Bound>>>,
    present: HashMap<i64, u64>,
    journal: Vec<Undo>,
    mark: usize,
}

#[derive(Debug)]
struct Undo {
    place: (i64, Key),
    holder: Option<Holder>,
    session: SessionNumber,
    bound: Option<Arc<Bound>>,
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
        let rooms = self.bound.get(&origin.session);
        let bound = rooms.and_then(|rooms| rooms.get(&room)).cloned();
        if kind == MessageType::Talk && bound.as_ref().is_some_and(|bound| bound.sender == *sender)
        {
            return Ok(Admission::Store);
        }
        let name = Bound::new(sender, origin.guest);
        let is_own = |bound: &Bound| {
            // A name that looks otherwise in another case could be like somebody else's.
            bound.key == name.key && (bound.look == name.look || kind == MessageType::Leave)
        };
        if bound.as_ref().is_some_and(|bound| !is_own(bound)) {
            return Err(Reason::NameDiffers);
        }
        let place = (room, name.key.clone());
        let is_bound = bound.is_some();
        let holder = self.holders.get(&place).copied();
        let is_free = |holder: &Holder| holder.owner == name.owner;
        if holder.is_some_and(|holder| !is_free(&holder))
            || (kind != MessageType::Leave && !is_bound && self.looks_like_anothers(room, &name))
        {
            return Err(Reason::NameTaken);
        }
        let was_present = holder.is_some_and(|holder| holder.present);
        self.journal.push(Undo {
            place: place.clone(),
            holder,
            session: origin.session,
            bound,
        });
        let mut next = holder.unwrap_or_default();
        next.owner = name.owner;
        // Without this session, which is bound to this name or to none.
        next.sessions = next.sessions.saturating_sub(usize::from(is_bound));
        match kind {
            MessageType::Leave => {
                next.present = false;
                self.set(place, next, origin.session, None);
                Ok(if was_present {
                    Admission::Store
                } else {
                    Admission::Pass
                })
            }
            MessageType::Enter | MessageType::Talk => {
                next.present |= kind == MessageType::Enter;
                next.sessions += 1;
                self.set(place, next, origin.session, Some(Arc::new(name)));
                let again = kind == MessageType::Enter && was_present;
                Ok(if again {
                    Admission::Pass
                } else {
                    Admission::Store
                })
            }
        }
    }

    /// Whether somebody else has a name in the room that looks like this one, not both being in ASCII.
    fn looks_like_anothers(&self, room: i64, name: &Bound) -> bool {
        let Some(alike) = self.alike.get(&(room, name.look.clone())) else {
            return false;
        };
        let is_anothers = |owners: &HashMap<Owner, usize>| {
            owners.len() > usize::from(owners.contains_key(&name.owner))
        };
        is_anothers(&alike.other) || (!name.key.is_ascii() && is_anothers(&alike.ascii))
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
        for (room, bound) in rooms {
            let place = (room, bound.key.clone());
            let Some(mut holder) = self.holders.get(&place).copied() else {
                continue;
            };
            let before = self.present_in(room);
            self.journal.push(Undo {
                place: place.clone(),
                holder: Some(holder),
                session,
                bound: Some(bound),
            });
            holder.sessions = holder.sessions.saturating_sub(1);
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
        place: (i64, Key),
        mut holder: Holder,
        session: SessionNumber,
        bound: Option<Arc<Bound>>,
    ) {
        let room = place.0;
        if holder.sessions == 0 {
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
        if holder.sessions == 0 {
            self.holders.remove(&place);
        } else {
            self.holders.insert(place, holder);
        }
        self.bind(room, session, bound);
    }

    /// Gives a session its name in a room, in the place of the one that it has there.
    fn bind(&mut self, room: i64, session: SessionNumber, bound: Option<Arc<Bound>>) {
        let rooms = self.bound.entry(session).or_default();
        let before = match &bound {
            Some(bound) => rooms.insert(room, Arc::clone(bound)),
            None => rooms.remove(&room),
        };
        if rooms.is_empty() {
            self.bound.remove(&session);
        }
        if let Some(bound) = bound {
            let alike = self.alike.entry((room, bound.look.clone())).or_default();
            *alike.of(&bound.key).entry(bound.owner).or_default() += 1;
        }
        if let Some(before) = before {
            self.forget_look(room, &before);
        }
    }

    fn forget_look(&mut self, room: i64, bound: &Bound) {
        let place = (room, bound.look.clone());
        let Some(alike) = self.alike.get_mut(&place) else {
            return;
        };
        let owners = alike.of(&bound.key);
        if let Some(count) = owners.get_mut(&bound.owner) {
            *count -= 1;
            if *count == 0 {
                owners.remove(&bound.owner);
            }
        }
        if alike.ascii.is_empty() && alike.other.is_empty() {
            self.alike.remove(&place);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

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

    type Step = (Origin, &'static str, MessageType, Result<Admission, Reason>);

    const STORE: Result<Admission, Reason> = Ok(Admission::Store);
    const PASS: Result<Admission, Reason> = Ok(Admission::Pass);
    const TAKEN: Result<Admission, Reason> = Err(Reason::NameTaken);
    const DIFFERS: Result<Admission, Reason> = Err(Reason::NameDiffers);

    /// Goes through steps, and has all sessions end.
    fn go(steps: &[Step], present_at_the_end: u64) {
        let mut names = Names::default();
        for (index, (origin, name, kind, expected)) in steps.iter().enumerate() {
            let sender = Sender::parse(name).unwrap();
            let admitted = names.admit(1, *origin, &sender, *kind);
            assert_eq!(admitted, *expected, "step {index}: {name}");
            names.keep();
        }
        assert_eq!(names.present_in(1), present_at_the_end);
        for (origin, ..) in steps {
            names.release(origin.session);
        }
        assert!(is_empty(&names), "{names:?}");
    }

    fn is_empty(names: &Names) -> bool {
        names.holders.is_empty()
            && names.alike.is_empty()
            && names.bound.is_empty()
            && names.present.is_empty()
    }

    #[test]
    fn names_are_held_shared_and_freed() {
        go(
            &[
                (browser(1, 1), "영희", ENTER, STORE),
                (browser(1, 1), "영희", ENTER, PASS),
                (browser(2, 1), "영희", ENTER, PASS),
                (browser(3, 2), "영희", TALK, TAKEN),
                (browser(3, 2), "영\u{200B}희", TALK, TAKEN),
                (browser(3, 2), "\u{110B}\u{1167}\u{11BC}희", TALK, TAKEN),
                (program(4), "영희", TALK, TAKEN),
                (browser(1, 1), "철수", TALK, DIFFERS),
                (browser(1, 1), "영희", LEAVE, STORE),
                (browser(1, 1), "철수", TALK, STORE),
                (program(4), "봇", ENTER, STORE),
                (program(5), "봇", TALK, STORE),
                (program(7), "손", LEAVE, PASS),
            ],
            1,
        );
    }

    #[test]
    fn a_name_that_programs_have_is_no_guests_to_take() {
        for first in [ENTER, TALK] {
            go(
                &[
                    (program(1), "bot", first, STORE),
                    (browser(2, 1), "bot", TALK, TAKEN),
                    (browser(2, 1), "bot", ENTER, TAKEN),
                    (browser(2, 1), "bot", LEAVE, TAKEN),
                    (browser(2, 1), "BOT", TALK, TAKEN),
                    (program(1), "bot", TALK, STORE),
                    (program(3), "bot", TALK, STORE),
                    (
                        program(1),
                        "bot",
                        LEAVE,
                        if first == ENTER { STORE } else { PASS },
                    ),
                    (browser(2, 1), "bot", TALK, TAKEN),
                    (program(1), "other", TALK, STORE),
                    (program(3), "bot", TALK, STORE),
                    (program(3), "bot", LEAVE, PASS),
                    (browser(2, 1), "bot", TALK, STORE),
                    (program(3), "bot", TALK, TAKEN),
                    (browser(2, 1), "bot", LEAVE, PASS),
                    (program(3), "bot", TALK, STORE),
                ],
                0,
            );
        }
    }

    #[test]
    fn a_name_that_looks_like_anothers_is_taken() {
        for (held, tried, expected) in [
            ("alice", "ALICE", TAKEN),
            ("alice", "Ａlice", TAKEN),
            ("alice", "alice\u{34F}", TAKEN),
            ("alice", "аlice", TAKEN),
            ("аlice", "alice", TAKEN),
            ("alice", "АLICE", TAKEN),
            ("alice", "ɑlice", TAKEN),
            ("Maria", "Мaria", TAKEN),
            ("pace", "расе", TAKEN),
            ("расе", "pace", TAKEN),
            ("영희1", "영희l", TAKEN),
            ("modern", "modem", STORE),
            ("guest1", "guestl", STORE),
            ("modern", "mоdem", TAKEN),
            ("아싸", "앗사", STORE),
        ] {
            for (one, other) in [
                (program(1), browser(2, 1)),
                (browser(1, 1), browser(2, 2)),
                (browser(1, 1), program(2)),
            ] {
                for kind in [ENTER, TALK] {
                    let is_taken = expected == TAKEN;
                    go(
                        &[
                            (one, held, TALK, STORE),
                            (other, tried, kind, expected),
                            (one, held, TALK, STORE),
                            (one, held, LEAVE, PASS),
                            (
                                other,
                                tried,
                                ENTER,
                                if is_taken || kind == TALK {
                                    STORE
                                } else {
                                    PASS
                                },
                            ),
                            (one, held, TALK, expected),
                        ],
                        1,
                    );
                }
            }
            // Who has a name may have one that looks like it.
            go(
                &[
                    (browser(1, 1), held, TALK, STORE),
                    (browser(2, 1), tried, TALK, STORE),
                    (program(3), tried, TALK, TAKEN),
                ],
                0,
            );
        }
    }

    #[test]
    fn a_name_may_change_its_case_and_not_its_look() {
        go(
            &[
                (browser(1, 1), "vick", TALK, STORE),
                (browser(2, 2), "Νick", TALK, STORE),
                (browser(2, 2), "νick", TALK, DIFFERS),
                (browser(2, 2), "ΝICK", TALK, STORE),
                (browser(3, 3), "nick", TALK, TAKEN),
                (browser(2, 2), "Νick", TALK, STORE),
                (browser(2, 2), "νick", LEAVE, PASS),
                (browser(3, 3), "nick", TALK, STORE),
            ],
            0,
        );
    }

    proptest! {
        /// Whatever others do, who has a name talks and leaves under it, and goes on under a new one.
        #[test]
        fn nobody_is_silenced(
            acts in vec((0_usize..8, 0_usize..NAMES.len(), 0_usize..4), 1..60),
        ) {
            let origins = [
                browser(1, 1), browser(2, 1), browser(3, 2), browser(4, 3),
                program(5), program(6), program(7), browser(8, 2),
            ];
            let mut names = Names::default();
            let mut own: HashMap<SessionNumber, (Origin, &str)> = HashMap::new();
            for (who, name, what) in acts {
                let (origin, name) = (origins[who], NAMES[name]);
                let sender = Sender::parse(name).unwrap();
                match [Some(ENTER), Some(TALK), Some(LEAVE), None][what] {
                    Some(kind) => {
                        if names.admit(1, origin, &sender, kind).is_ok() {
                            match kind {
                                LEAVE => own.remove(&origin.session),
                                _ => own.insert(origin.session, (origin, name)),
                            };
                        }
                    }
                    None => {
                        names.release(origin.session);
                        own.remove(&origin.session);
                    }
                }
                names.keep();
                for &(origin, name) in own.values() {
                    let own = Sender::parse(name).unwrap();
                    let new = Sender::parse("somebody else").unwrap();
                    prop_assert_eq!(names.admit(1, origin, &own, TALK), STORE);
                    prop_assert!(names.admit(1, origin, &own, ENTER).is_ok());
                    prop_assert!(names.admit(1, origin, &own, LEAVE).is_ok());
                    prop_assert_eq!(names.admit(1, origin, &new, TALK), STORE);
                    names.undo();
                }
                for (one, name) in own.values() {
                    for (other, like) in own.values().filter(|(other, _)| other.guest != one.guest) {
                        let (name, like) = (Bound::new(&Sender::parse(name).unwrap(), None),
                            Bound::new(&Sender::parse(like).unwrap(), None));
                        let is_ascii = name.key.is_ascii() && like.key.is_ascii();
                        prop_assert!(name.key != like.key && (is_ascii || name.look != like.look),
                            "{:?} {:?} {:?} {:?}", one, name, other, like);
                    }
                }
            }
            for origin in origins {
                names.release(origin.session);
            }
            prop_assert!(is_empty(&names), "{:?}", names);
        }
    }

    const NAMES: [&str; 10] = [
        "alice", "Alice", "аlice", "АLICE", "modern", "modem", "mоdem", "νick", "Νick", "vick",
    ];

    proptest! {
        #[test]
        fn a_name_is_held_as_long_as_a_session_is_bound_to_it(
            steps in vec((1..5_u64, 0..4, proptest::bool::weighted(0.8)), 0..60),
        ) {
            // What a holder is does not grow with its sessions: it is copied at each step.
            fn is_copied<T: Copy>(_: &T) {}
            let mut names = Names::default();
            let sender = Sender::parse("a").unwrap();
            let place = (1, Key::of(sender.as_str()));
            let (mut sessions, mut is_present) = (std::collections::BTreeSet::new(), false);
            for (session, step, is_kept) in steps {
                let before = (sessions.clone(), is_present);
                let kind = match step {
                    0 => Some(ENTER),
                    1 => Some(TALK),
                    2 => Some(LEAVE),
                    _ => None,
                };
                match kind {
                    Some(kind) => {
                        names.admit(1, program(session), &sender, kind).unwrap();
                        is_present = kind == ENTER || (is_present && kind == TALK);
                        if kind == LEAVE {
                            sessions.remove(&session);
                        } else {
                            sessions.insert(session);
                        }
                    }
                    None => {
                        names.release(session);
                        sessions.remove(&session);
                    }
                }
                is_present &= !sessions.is_empty();
                if is_kept {
                    names.keep();
                } else {
                    names.undo();
                    (sessions, is_present) = before;
                }
                let holder = names.holders.get(&place);
                holder.into_iter().for_each(is_copied);
                assert_eq!(holder.map_or(0, |holder| holder.sessions), sessions.len());
                assert_eq!(names.present_in(1), u64::from(is_present));
                assert_eq!(names.bound.len(), sessions.len());
                assert!(names.bound.keys().all(|session| sessions.contains(session)));
            }
        }
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
