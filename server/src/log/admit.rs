//! What is decided at the moment of ordering about who is in a room under which name (docs/wire.md,
//! "Names" and "Who is here").
//!
//! Pure: a [`State`] and an act give a verdict and the next state. Nothing here reads a clock, draws a
//! random number, or knows of a store; the time by which a grace runs comes from outside. Who decides
//! on something that may yet fail decides on a clone, which costs nothing, and keeps it or drops it.
//!
//! A session's name in a room is that of its first message there. Browsers are told apart by their
//! guest; programs share the names among themselves. What a session has is its own until it leaves or
//! ends: whatever others do, its TALK and its LEAVE under that name are not refused. So a name that is
//! held, or that looks like one that is, passes to nobody.
//!
//! Present is whoever has entered and not left. When their last session has ended, they are present
//! for a grace longer, and have left if they are not back by then.

mod compared;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rpds::{RedBlackTreeMapSync as Map, RedBlackTreeSetSync as Set};
use shared::chat::{MessageType, Sender};

use self::compared::{Key, Look};
use super::{Origin, Owner, Reason, SessionNumber};

/// A name in a room, by the room's number.
type Place = (i64, Key);

/// Who has a name at the moment: who is present under it, or bound to it by a session.
#[derive(Clone, Debug, Default)]
struct Holder {
    owner: Owner,
    /// The sessions that are bound to the name, and whether each has entered.
    sessions: Map<SessionNumber, bool>,
    present: Option<Present>,
}

/// Somebody who has entered and not left.
#[derive(Clone, Debug)]
struct Present {
    /// The name as they entered under it.
    name: Arc<Bound>,
    /// When they have left; `None` while a session of theirs is there.
    leaves_at: Option<Duration>,
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

    /// Whether it is another form of the same name. One that looks otherwise in another case could be
    /// like somebody else's.
    fn is(&self, other: &Bound) -> bool {
        self.key == other.key && self.look == other.look
    }
}

/// Who has names of one look, and how often: by sessions, and by being present.
#[derive(Clone, Debug, Default)]
struct Alike {
    /// Of those in ASCII alone, which may be alike among themselves.
    ascii: BTreeMap<Owner, usize>,
    /// Of all others.
    other: BTreeMap<Owner, usize>,
}

impl Alike {
    fn of(&mut self, key: &Key) -> &mut BTreeMap<Owner, usize> {
        if key.is_ascii() {
            &mut self.ascii
        } else {
            &mut self.other
        }
    }
}

/// Who is in which room under which name. A clone shares everything with what it was made from.
#[derive(Clone, Debug)]
pub(super) struct State {
    grace: Duration,
    holders: Map<Place, Holder>,
    alike: Map<(i64, Look), Alike>,
    bound: Map<SessionNumber, Map<i64, Arc<Bound>>>,
    /// How many are present in a room.
    present: Map<i64, u64>,
    /// Whose grace runs, by its end.
    leaving: Set<(Duration, Place)>,
}

/// What a message does.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Admission {
    /// It is to be stored.
    Store,
    /// It is to be stored, and its sender is present from then on.
    Enter,
    /// It is to be stored, and who entered under this name is not present any more.
    Leave(Sender),
    /// It says nothing new: a second ENTER, or a LEAVE of one who is not present.
    Pass,
}

impl State {
    /// Begins with nobody. Who does not come back within `grace` has left.
    pub(super) fn new(grace: Duration) -> Self {
        State {
            grace,
            holders: Map::default(),
            alike: Map::default(),
            bound: Map::default(),
            present: Map::default(),
            leaving: Set::default(),
        }
    }

    /// Lets somebody be present whom an earlier run has left so; the grace begins at `now`.
    pub(super) fn restore(&mut self, room: i64, sender: &Sender, owner: Owner, now: Duration) {
        let name = Arc::new(Bound::new(sender, owner));
        let place = (room, name.key.clone());
        if self.holders.contains_key(&place) {
            return;
        }
        let present = Present {
            name,
            leaves_at: Some(now + self.grace),
        };
        let holder = Holder {
            owner,
            present: Some(present),
            ..Holder::default()
        };
        self.hold(place, holder);
    }

    /// Admits a message. One that is stored already (`is_repeat`) is not stored again and makes nobody
    /// present; it binds the session to its name all the same.
    ///
    /// # Errors
    /// [`Reason::NameTaken`], [`Reason::NameDiffers`]; nothing is changed then.
    pub(super) fn admit(
        &mut self,
        room: i64,
        origin: Origin,
        sender: &Sender,
        kind: MessageType,
        is_repeat: bool,
    ) -> Result<Admission, Reason> {
        let stored = if is_repeat {
            Admission::Pass
        } else {
            Admission::Store
        };
        let bound = self.name_of(origin.session, room).cloned();
        if kind == MessageType::Talk && bound.as_ref().is_some_and(|bound| bound.sender == *sender)
        {
            return Ok(stored);
        }
        let name = Bound::new(sender, origin.guest);
        let is_own =
            |bound: &Bound| bound.is(&name) || kind == MessageType::Leave && bound.key == name.key;
        if bound.as_ref().is_some_and(|bound| !is_own(bound)) {
            return Err(Reason::NameDiffers);
        }
        let place = (room, name.key.clone());
        let holder = self.holders.get(&place).cloned();
        if holder
            .as_ref()
            .is_some_and(|holder| holder.owner != name.owner)
            || (kind != MessageType::Leave
                && bound.is_none()
                && self.looks_like_anothers(room, &name))
        {
            return Err(Reason::NameTaken);
        }
        let mut holder = holder.unwrap_or_default();
        holder.owner = name.owner;
        match kind {
            MessageType::Talk => {
                let has_entered = holder.sessions.get(&origin.session).copied() == Some(true);
                holder.sessions.insert_mut(origin.session, has_entered);
                self.bind(room, origin.session, Some(Arc::new(name)));
                self.hold(place, holder);
                Ok(stored)
            }
            MessageType::Enter => {
                let name = Arc::new(name);
                holder.sessions.insert_mut(origin.session, true);
                self.bind(room, origin.session, Some(Arc::clone(&name)));
                let enters = holder.present.is_none() && !is_repeat;
                if enters {
                    holder.present = Some(Present {
                        name,
                        leaves_at: None,
                    });
                }
                self.hold(place, holder);
                Ok(if enters {
                    Admission::Enter
                } else {
                    Admission::Pass
                })
            }
            MessageType::Leave if is_repeat => Ok(Admission::Pass),
            MessageType::Leave => Ok(self.leave(place, holder, origin)),
        }
    }

    /// A guest leaves with all their sessions. Programs are not one: those that have entered under the
    /// same name stay until the last of them leaves.
    fn leave(&mut self, place: Place, mut holder: Holder, origin: Origin) -> Admission {
        let room = place.0;
        if origin.guest.is_some() {
            for session in std::mem::take(&mut holder.sessions).keys() {
                self.bind(room, *session, None);
            }
        } else {
            holder.sessions.remove_mut(&origin.session);
            self.bind(room, origin.session, None);
        }
        let others_stay = holder.sessions.values().any(|has_entered| *has_entered);
        let left = holder.present.take_if(|_| !others_stay);
        self.hold(place, holder);
        match left {
            Some(present) => Admission::Leave(present.name.sender.clone()),
            None => Admission::Pass,
        }
    }

    /// Ends a session: what it alone held is free, and whoever is present by it alone has a grace from
    /// `now` on.
    pub(super) fn end(&mut self, session: SessionNumber, now: Duration) {
        let Some(rooms) = self.bound.get(&session).cloned() else {
            return;
        };
        for (&room, name) in &rooms {
            let place = (room, name.key.clone());
            self.bind(room, session, None);
            let Some(mut holder) = self.holders.get(&place).cloned() else {
                continue;
            };
            holder.sessions.remove_mut(&session);
            if holder.sessions.is_empty()
                && let Some(present) = &mut holder.present
            {
                present.leaves_at = Some(now + self.grace);
            }
            self.hold(place, holder);
        }
    }

    /// Whether somebody's grace is over at `now`.
    pub(super) fn is_due(&self, now: Duration) -> bool {
        self.leaving.first().is_some_and(|(at, _)| *at <= now)
    }

    /// Whether somebody's grace runs.
    pub(super) fn is_waiting(&self) -> bool {
        !self.leaving.is_empty()
    }

    /// Takes out somebody whose grace is over at `now`: the room's number, and the name that they had
    /// entered under.
    pub(super) fn expire(&mut self, now: Duration) -> Option<(i64, Sender)> {
        let (_, place) = self.leaving.first().filter(|(at, _)| *at <= now)?.clone();
        let mut holder = self.holders.get(&place).cloned().unwrap_or_default();
        let left = holder.present.take()?;
        let room = place.0;
        self.hold(place, holder);
        Some((room, left.name.sender.clone()))
    }

    /// How many people are present in a room.
    pub(super) fn present_in(&self, room: i64) -> u64 {
        self.present.get(&room).copied().unwrap_or(0)
    }

    fn name_of(&self, session: SessionNumber, room: i64) -> Option<&Arc<Bound>> {
        self.bound.get(&session)?.get(&room)
    }

    /// Whether somebody else has a name in the room that looks like this one, not both being in ASCII.
    fn looks_like_anothers(&self, room: i64, name: &Bound) -> bool {
        let Some(alike) = self.alike.get(&(room, name.look.clone())) else {
            return false;
        };
        let is_anothers = |owners: &BTreeMap<Owner, usize>| {
            owners.len() > usize::from(owners.contains_key(&name.owner))
        };
        is_anothers(&alike.other) || (!name.key.is_ascii() && is_anothers(&alike.ascii))
    }

    /// Puts a holder in the place of the one that is there, with all that depends on it.
    fn hold(&mut self, place: Place, mut holder: Holder) {
        if let Some(present) = &mut holder.present
            && !holder.sessions.is_empty()
        {
            present.leaves_at = None;
        }
        let room = place.0;
        let before = self
            .holders
            .get(&place)
            .and_then(|holder| holder.present.clone());
        if let Some(at) = before.as_ref().and_then(|before| before.leaves_at) {
            self.leaving.remove_mut(&(at, place.clone()));
        }
        let after = holder.present.clone();
        if let Some(at) = after.as_ref().and_then(|after| after.leaves_at) {
            self.leaving.insert_mut((at, place.clone()));
        }
        if before.is_none()
            && let Some(after) = &after
        {
            self.note_look(room, &after.name);
        }
        if after.is_none()
            && let Some(before) = &before
        {
            self.forget_look(room, &before.name);
        }
        let count =
            self.present_in(room) + u64::from(after.is_some()) - u64::from(before.is_some());
        if count == 0 {
            self.present.remove_mut(&room);
        } else {
            self.present.insert_mut(room, count);
        }
        if holder.sessions.is_empty() && after.is_none() {
            self.holders.remove_mut(&place);
        } else {
            self.holders.insert_mut(place, holder);
        }
    }

    /// Gives a session its name in a room, in the place of the one that it has there.
    fn bind(&mut self, room: i64, session: SessionNumber, name: Option<Arc<Bound>>) {
        let mut rooms = self.bound.get(&session).cloned().unwrap_or_default();
        let before = rooms.get(&room).cloned();
        match &name {
            Some(name) => rooms.insert_mut(room, Arc::clone(name)),
            None => drop(rooms.remove_mut(&room)),
        }
        if rooms.is_empty() {
            self.bound.remove_mut(&session);
        } else {
            self.bound.insert_mut(session, rooms);
        }
        if let Some(name) = name {
            self.note_look(room, &name);
        }
        if let Some(before) = before {
            self.forget_look(room, &before);
        }
    }

    fn note_look(&mut self, room: i64, name: &Bound) {
        let place = (room, name.look.clone());
        let mut alike = self.alike.get(&place).cloned().unwrap_or_default();
        *alike.of(&name.key).entry(name.owner).or_default() += 1;
        self.alike.insert_mut(place, alike);
    }

    fn forget_look(&mut self, room: i64, name: &Bound) {
        let place = (room, name.look.clone());
        let Some(mut alike) = self.alike.get(&place).cloned() else {
            return;
        };
        let owners = alike.of(&name.key);
        if let Some(count) = owners.get_mut(&name.owner) {
            *count -= 1;
            if *count == 0 {
                owners.remove(&name.owner);
            }
        }
        if alike.ascii.is_empty() && alike.other.is_empty() {
            self.alike.remove_mut(&place);
        } else {
            self.alike.insert_mut(place, alike);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    const ENTER: MessageType = MessageType::Enter;
    const TALK: MessageType = MessageType::Talk;
    const LEAVE: MessageType = MessageType::Leave;

    const GRACE: Duration = Duration::from_secs(10);
    const START: Duration = Duration::ZERO;

    /// Whether a message is stored, or says nothing new.
    #[derive(Clone, Copy, Debug, Eq, PartialEq)]
    enum Told {
        Store,
        Pass,
    }

    fn nobody() -> State {
        State::new(GRACE)
    }

    fn admit(
        state: &mut State,
        origin: Origin,
        sender: &Sender,
        kind: MessageType,
    ) -> Result<Told, Reason> {
        let before = state.present_in(1);
        let admission = state.admit(1, origin, sender, kind, false)?;
        let (told, more, fewer) = match admission {
            Admission::Store => (Told::Store, 0, 0),
            Admission::Enter => (Told::Store, 1, 0),
            Admission::Leave(_) => (Told::Store, 0, 1),
            Admission::Pass => (Told::Pass, 0, 0),
        };
        assert_eq!(state.present_in(1) + fewer, before + more);
        Ok(told)
    }

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

    type Step = (Origin, &'static str, MessageType, Result<Told, Reason>);

    const STORE: Result<Told, Reason> = Ok(Told::Store);
    const PASS: Result<Told, Reason> = Ok(Told::Pass);
    const TAKEN: Result<Told, Reason> = Err(Reason::NameTaken);
    const DIFFERS: Result<Told, Reason> = Err(Reason::NameDiffers);

    /// Goes through steps, and has all sessions end.
    fn go(steps: &[Step], present_at_the_end: u64) {
        let mut state = nobody();
        for (index, (origin, name, kind, expected)) in steps.iter().enumerate() {
            let sender = Sender::parse(name).unwrap();
            let admitted = admit(&mut state, *origin, &sender, *kind);
            assert_eq!(admitted, *expected, "step {index}: {name}");
        }
        assert_eq!(state.present_in(1), present_at_the_end);
        for (origin, ..) in steps {
            state.end(origin.session, START);
        }
        assert_eq!(state.present_in(1), present_at_the_end);
        assert_eq!(expire(&mut state, START + GRACE), present_at_the_end);
        assert!(is_empty(&state), "{state:?}");
    }

    /// Lets all whose grace is over leave; how many they were.
    fn expire(state: &mut State, now: Duration) -> u64 {
        std::iter::from_fn(|| state.expire(now)).count() as u64
    }

    fn is_empty(state: &State) -> bool {
        state.holders.is_empty()
            && state.alike.is_empty()
            && state.bound.is_empty()
            && state.present.is_empty()
            && state.leaving.is_empty()
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
            let mut state = nobody();
            let mut own: BTreeMap<SessionNumber, (Origin, &str)> = BTreeMap::new();
            for (who, name, what) in acts {
                let (origin, name) = (origins[who], NAMES[name]);
                let sender = Sender::parse(name).unwrap();
                match [Some(ENTER), Some(TALK), Some(LEAVE), None][what] {
                    Some(kind) => {
                        let was = state.present_in(1);
                        if admit(&mut state, origin, &sender, kind).is_ok() {
                            match kind {
                                // A guest leaves with all their sessions.
                                LEAVE if origin.guest.is_some() => {
                                    let key = Key::of(name);
                                    own.retain(|_, (other, name)| {
                                        other.guest != origin.guest || Key::of(name) != key
                                    });
                                }
                                LEAVE => drop(own.remove(&origin.session)),
                                _ => drop(own.insert(origin.session, (origin, name))),
                            }
                        } else {
                            prop_assert_eq!(state.present_in(1), was);
                        }
                    }
                    None => {
                        state.end(origin.session, START);
                        own.remove(&origin.session);
                    }
                }
                for &(origin, name) in own.values() {
                    let own = Sender::parse(name).unwrap();
                    let new = Sender::parse("somebody else").unwrap();
                    let mut state = state.clone();
                    prop_assert_eq!(admit(&mut state, origin, &own, TALK), STORE);
                    prop_assert!(admit(&mut state, origin, &own, ENTER).is_ok());
                    prop_assert!(admit(&mut state, origin, &own, LEAVE).is_ok());
                    prop_assert_eq!(admit(&mut state, origin, &new, TALK), STORE);
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
                state.end(origin.session, START);
            }
            expire(&mut state, GRACE);
            prop_assert!(is_empty(&state), "{:?}", state);
        }
    }

    const NAMES: [&str; 10] = [
        "alice", "Alice", "аlice", "АLICE", "modern", "modem", "mоdem", "νick", "Νick", "vick",
    ];

    /// One act in a room: of a session, or that time goes on.
    #[derive(Clone, Debug)]
    enum Act {
        Send(usize, MessageType),
        End(usize),
        Wait(u64),
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            (
                0_usize..6,
                prop_oneof![Just(ENTER), Just(TALK), Just(LEAVE)]
            )
                .prop_map(|(who, kind)| Act::Send(who, kind)),
            (0_usize..6).prop_map(Act::End),
            (0_u64..6).prop_map(Act::Wait),
        ]
    }

    proptest! {
        /// Against a model that says for one name of one guest, and one of programs, what is wanted.
        #[test]
        fn present_is_who_has_entered_and_neither_left_nor_stayed_away(acts in vec(act(), 1..80)) {
            let origins = [
                browser(1, 1), browser(2, 1), browser(3, 1), program(4), program(5), program(6),
            ];
            let names = ["guest", "program"].map(|name| Sender::parse(name).unwrap());
            let is_guest = |who: usize| who < 3;
            let mut state = nobody();
            let mut now = START;
            // By the name: who is bound and has entered, whether it is present, and since when alone.
            let mut bound: [BTreeMap<usize, bool>; 2] = Default::default();
            let mut present = [false; 2];
            let mut alone_since = [None::<Duration>; 2];
            for act in acts {
                match act {
                    Act::Send(who, kind) => {
                        let name = usize::from(!is_guest(who));
                        let was = present[name];
                        match kind {
                            TALK => drop(bound[name].entry(who).or_insert(false)),
                            ENTER => {
                                bound[name].insert(who, true);
                                present[name] = true;
                            }
                            LEAVE => {
                                if is_guest(who) {
                                    bound[name].clear();
                                }
                                bound[name].remove(&who);
                                present[name] &= bound[name].values().any(|entered| *entered);
                            }
                        }
                        let expected = kind == TALK || present[name] != was;
                        let told = admit(&mut state, origins[who], &names[name], kind);
                        prop_assert_eq!(told, Ok(if expected { Told::Store } else { Told::Pass }));
                        if !bound[name].is_empty() || !present[name] {
                            alone_since[name] = None;
                        }
                    }
                    Act::End(who) => {
                        let name = usize::from(!is_guest(who));
                        if bound[name].remove(&who).is_some()
                            && bound[name].is_empty()
                            && present[name]
                        {
                            alone_since[name] = Some(now);
                        }
                        state.end(origins[who].session, now);
                    }
                    Act::Wait(seconds) => {
                        now += Duration::from_secs(seconds);
                        let mut gone: Vec<String> = Vec::new();
                        for name in 0..2 {
                            if alone_since[name].is_some_and(|since| since + GRACE <= now) {
                                alone_since[name] = None;
                                present[name] = false;
                                gone.push(names[name].as_str().to_owned());
                            }
                        }
                        prop_assert_eq!(state.is_due(now), !gone.is_empty());
                        let mut left: Vec<String> = std::iter::from_fn(|| state.expire(now))
                            .map(|(_, sender)| sender.as_str().to_owned())
                            .collect();
                        left.sort();
                        prop_assert_eq!(left, gone);
                    }
                }
                let count = present.iter().filter(|present| **present).count();
                prop_assert_eq!(state.present_in(1), count as u64);
                let waiting = alone_since.iter().any(Option::is_some);
                prop_assert_eq!(state.is_waiting(), waiting);
            }
        }
    }

    #[test]
    fn a_name_is_held_for_who_may_come_back() {
        let mut state = nobody();
        let name = Sender::parse("영희").unwrap();
        admit(&mut state, browser(1, 1), &name, ENTER).unwrap();
        state.end(1, START);
        assert_eq!(admit(&mut state, browser(2, 2), &name, ENTER), TAKEN);
        assert_eq!(admit(&mut state, program(3), &name, TALK), TAKEN);
        let like = Sender::parse("영희\u{200B}").unwrap();
        assert_eq!(admit(&mut state, browser(2, 2), &like, TALK), TAKEN);
        // By TALK too somebody is back.
        assert_eq!(admit(&mut state, browser(4, 1), &name, TALK), STORE);
        assert!(!state.is_due(START + 10 * GRACE));
        assert_eq!(admit(&mut state, browser(4, 1), &name, ENTER), PASS);
        state.end(4, GRACE);
        assert!(state.expire(2 * GRACE - Duration::from_millis(1)).is_none());
        assert_eq!(state.expire(2 * GRACE).unwrap().1, name);
        assert_eq!(admit(&mut state, browser(2, 2), &name, ENTER), STORE);
    }

    #[test]
    fn who_was_present_before_a_restart_has_a_grace_from_the_start() {
        let mut state = nobody();
        let (back, gone) = (
            Sender::parse("영희").unwrap(),
            Sender::parse("철수").unwrap(),
        );
        let [first, second] = [1, 2].map(|guest| Some(Uuid::from_u128(guest)));
        state.restore(1, &back, first, START);
        state.restore(1, &gone, second, START);
        assert_eq!(state.present_in(1), 2);
        assert_eq!(admit(&mut state, browser(1, 1), &back, ENTER), PASS);
        assert_eq!(state.expire(GRACE), Some((1, gone)));
        assert_eq!(state.expire(GRACE), None);
        assert_eq!(state.present_in(1), 1);
    }

    #[test]
    fn an_enter_that_is_repeated_makes_nobody_present() {
        let mut state = nobody();
        let name = Sender::parse("영희").unwrap();
        let repeated = state.admit(1, browser(1, 1), &name, ENTER, true);
        assert_eq!(repeated, Ok(Admission::Pass));
        assert_eq!(state.present_in(1), 0);
        // The name is theirs all the same.
        assert_eq!(admit(&mut state, browser(2, 2), &name, TALK), TAKEN);
        assert_eq!(admit(&mut state, browser(1, 1), &name, ENTER), STORE);
        let repeated = state.admit(1, browser(1, 1), &name, LEAVE, true);
        assert_eq!(repeated, Ok(Admission::Pass));
        assert_eq!(state.present_in(1), 1);
    }

    #[test]
    fn who_left_under_another_form_is_told_as_they_entered() {
        let mut state = nobody();
        let [entered, left] = ["alice", "ALICE"].map(|name| Sender::parse(name).unwrap());
        admit(&mut state, browser(1, 1), &entered, ENTER).unwrap();
        let left = state.admit(1, browser(1, 1), &left, LEAVE, false);
        assert_eq!(left, Ok(Admission::Leave(entered)));
    }

    /// What decides must be the same on every machine and after every restart.
    #[test]
    fn nothing_is_asked_of_the_world() {
        for (name, source) in [
            ("admit.rs", include_str!("admit.rs")),
            ("admit/compared.rs", include_str!("admit/compared.rs")),
        ] {
            let source = source.split("#[cfg(test)]").next().unwrap_or_default();
            let code = source
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"));
            let code: String = code.collect();
            for word in [
                "Instant",
                "SystemTime",
                "now_utc",
                "new_v4",
                "new_v7",
                "random",
                "rusqlite",
                "HashMap",
                "HashSet",
                "thread",
                "tokio",
                "std::fs",
            ] {
                assert!(!code.contains(word), "{name} knows of {word}");
            }
        }
    }
}
