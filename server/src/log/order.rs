//! The one ordered path: what has gathered is decided and committed in one transaction, then shown.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use shared::chat::{ChatMessage, MessageId, MessageType, NewBody, NewMessage, RoomId, RoomName};
use time::OffsetDateTime;
use uuid::Uuid;

use super::activity::Activity;
use super::admit::{Admission, State};
use super::batch::BATCH_BYTES_MAX;
use super::budget::Budget;
use super::checkpoint::Checkpoints;
use super::clock::Clock;
use super::grace::GraceClock;
use super::sqlite::{Health, Keeper, Newest, REST_AFTER, Stored, Writer};
use super::tail::{Figures, lock};
use super::{
    Answer, Batch, Done, Full, Observer, Outcome, Owner, Presence, Reason, Record, Room,
    SessionNumber, Signal, StoreError,
};
use crate::metrics::meters;

/// The most records that wait to be appended.
const QUEUE_RECORDS_MAX: usize = 16_384;

/// The most bytes that wait to be appended.
const QUEUE_BYTES_MAX: usize = 16 << 20;

/// The most messages that one transaction takes, and one record more: bounds how long the first waits for
/// the last, and what comes meanwhile for all of them. Another command counts as a message.
const BATCH_MAX: usize = 2_048;

/// For so many commands memory is kept when nothing waits.
const QUIET_COMMANDS: usize = 64;

/// Commits begin at least so far apart: what comes closer together shares one. Who is alone waits
/// for nothing, and under load batches are larger, which is cheaper for everybody.
const COMMIT_INTERVAL: Duration = Duration::from_millis(2);

/// When nothing comes, the files are looked at so often, and whether somebody's grace is over.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The most whose grace is over that leave in one transaction.
const LEAVES_MAX: usize = 256;

/// Told of the new room once it is on disk.
pub(super) type RoomDone = Answer<Result<Arc<Room>, StoreError>>;

/// What the ordering thread is asked to do.
pub(super) enum Command {
    Append(Record, Done),
    CreateRoom(RoomName, RoomDone),
    Release(SessionNumber),
    Probe,
}

/// What waits to be ordered.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<QueueState>,
    filled: Condvar,
}

#[derive(Default)]
struct QueueState {
    commands: Vec<Command>,
    records: usize,
    bytes: usize,
    /// The sessions that found it full, each once however often it tries.
    waiting: HashMap<SessionNumber, Arc<Signal>>,
    stopping: bool,
}

impl Queue {
    /// Adds a record, or gives it back when too much waits.
    pub(super) fn append(
        &self,
        record: Record,
        done: Done,
        wake: &Arc<Signal>,
    ) -> Result<(), Full> {
        let mut state = lock(&self.state);
        if state.stopping {
            drop(state);
            done.tell(Outcome::Failed);
            return Ok(());
        }
        if state.records >= QUEUE_RECORDS_MAX || state.bytes >= QUEUE_BYTES_MAX {
            let session = record.origin.session;
            state.waiting.insert(session, Arc::clone(wake));
            return Err(Full(record, done));
        }
        state.records += 1;
        state.bytes += record.weight();
        self.push(state, Command::Append(record, done));
        Ok(())
    }

    /// Adds a command that is bounded elsewhere (one a session, or the rate of rooms).
    pub(super) fn command(&self, command: Command) {
        let state = lock(&self.state);
        if state.stopping {
            drop(state);
            // Dropped, it tells who waits that it failed.
            return drop(command);
        }
        self.push(state, command);
    }

    /// How many records wait, and what they weigh in bytes.
    pub(super) fn load(&self) -> (usize, usize) {
        let state = lock(&self.state);
        (state.records, state.bytes)
    }

    /// Asks for an attempt to write, unless there is something to write anyway.
    pub(super) fn probe(&self) {
        let state = lock(&self.state);
        if state.commands.is_empty() && !state.stopping {
            self.push(state, Command::Probe);
        }
    }

    fn push(&self, mut state: std::sync::MutexGuard<'_, QueueState>, command: Command) {
        state.commands.push(command);
        let first = state.commands.len() == 1;
        drop(state);
        if first {
            self.filled.notify_one();
        }
    }

    /// Takes no more; what waits is still committed.
    pub(super) fn stop(&self) {
        lock(&self.state).stopping = true;
        self.filled.notify_one();
    }

    /// Takes no more, and answers what waits as failed: there is nobody to commit it.
    fn abandon(&self) {
        let QueueState {
            commands, waiting, ..
        } = {
            let mut state = lock(&self.state);
            let stopped = QueueState {
                stopping: true,
                ..QueueState::default()
            };
            std::mem::replace(&mut *state, stopped)
        };
        waiting.values().for_each(|signal| signal.wake());
        drop(commands);
    }

    /// Waits for commands and takes up to [`BATCH_MAX`] messages into `batch`; false when it has stopped
    /// and is empty. While none come, `look` is called every [`LOOK_INTERVAL`], and `rest` once,
    /// after [`REST_AFTER`]. Where `look` says that there is something to do, it waits no longer.
    fn take(
        &self,
        batch: &mut Vec<Command>,
        mut look: impl FnMut() -> bool,
        rest: impl FnOnce(),
    ) -> bool {
        let begin = Instant::now();
        let mut rest = Some(rest);
        let mut state = lock(&self.state);
        while state.commands.is_empty() {
            if state.stopping {
                return false;
            }
            let waited = self.filled.wait_timeout(state, LOOK_INTERVAL);
            let is_quiet;
            (state, is_quiet) = waited.unwrap_or_else(PoisonError::into_inner);
            if !is_quiet.timed_out() || !state.commands.is_empty() {
                continue;
            }
            let rests = begin.elapsed() >= REST_AFTER;
            let rest = rest.take_if(|_| rests);
            if rest.is_some() {
                state.commands.shrink_to(QUIET_COMMANDS);
                batch.shrink_to(QUIET_COMMANDS);
            }
            drop(state);
            let is_due = look();
            rest.into_iter().for_each(|rest| rest());
            if is_due {
                return true;
            }
            state = lock(&self.state);
        }
        let mut messages = 0;
        let is_taken = |command: &&Command| {
            let goes_on = messages < BATCH_MAX;
            messages += match command {
                Command::Append(record, _) => record.messages.len().max(1),
                _ => 1,
            };
            goes_on
        };
        let count = state.commands.iter().take_while(is_taken).count();
        batch.extend(state.commands.drain(..count));
        for command in batch.iter() {
            if let Command::Append(record, _) = command {
                state.records -= 1;
                state.bytes -= record.weight();
            }
        }
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.values().for_each(|signal| signal.wake());
        true
    }
}

/// All rooms, by id and in the order of creation.
#[derive(Debug, Default)]
pub(super) struct Rooms {
    pub(super) by_id: HashMap<RoomId, Arc<Room>>,
    pub(super) in_order: Vec<Arc<Room>>,
}

impl Rooms {
    /// The room of a number. They are numbered from 1 in the order of their creation.
    pub(super) fn numbered(&self, number: i64) -> Option<Arc<Room>> {
        let found = self
            .in_order
            .binary_search_by_key(&number, |room| room.number);
        found.ok().map(|index| Arc::clone(&self.in_order[index]))
    }
}

/// Reads a clock that is never set back.
pub(super) type ReadInstant = Box<dyn Fn() -> Instant + Send>;

/// The thread that orders: it alone writes.
pub(super) struct Orderer {
    pub(super) queue: Arc<Queue>,
    pub(super) writer: Writer,
    pub(super) keeper: Keeper,
    pub(super) rooms: Arc<std::sync::RwLock<Rooms>>,
    pub(super) activity: Arc<Activity>,
    pub(super) budget: Arc<Budget>,
    pub(super) observer: Arc<dyn Observer>,
    pub(super) health: Arc<Health>,
    /// Who is in which room, as far as it is on disk.
    pub(super) state: State,
    pub(super) clock: Clock,
    pub(super) grace: GraceClock,
    /// By which the grace's time goes on.
    pub(super) instant: ReadInstant,
    pub(super) checkpoints: Checkpoints,
}

/// A room's part of a transaction that is not committed yet.
struct Staged {
    room: Arc<Room>,
    figures: Figures,
    batches: Vec<Batch>,
    presence: Vec<Presence>,
}

/// A transaction that is not committed yet, and what will be so when it is.
struct Draft {
    state: State,
    newest: Newest,
    now: OffsetDateTime,
    staged: BTreeMap<i64, Staged>,
}

impl Orderer {
    /// Runs until the queue has stopped and is empty. A panic ends it: what waits is answered as
    /// failed, and whoever watches the health is told.
    pub(super) fn run(self) {
        let (queue, health) = (Arc::clone(&self.queue), Arc::clone(&self.health));
        // Nothing of this thread's state is used after a panic: the transaction goes with it.
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.order())) {
            health.note_death();
            queue.abandon();
            resume_unwind(panic);
        }
    }

    fn order(mut self) {
        let mut batch = Vec::new();
        let queue = Arc::clone(&self.queue);
        loop {
            let this = RefCell::new(&mut self);
            let goes_on = queue.take(
                &mut batch,
                || this.borrow_mut().look(),
                || this.borrow_mut().writer.rest(),
            );
            if !goes_on {
                break;
            }
            let begin = Instant::now();
            self.step(&mut batch);
            // Those whose grace is over are many, after a restart perhaps: all of them leave at once.
            while self.grace.is_well() && self.state.is_due(self.grace.read((self.instant)())) {
                self.step(&mut batch);
            }
            std::thread::sleep(COMMIT_INTERVAL.saturating_sub(begin.elapsed()));
        }
        drop(self.checkpoints);
        self.keeper.close(&self.writer);
        self.writer.close();
    }

    /// Looks at the files; whether there is something to do, though nothing waits.
    pub(super) fn look(&mut self) -> bool {
        self.keeper.look(self.checkpoints.is_copying());
        let now = self.grace.read((self.instant)());
        // While the store fails, who is away gives the reason to try it again.
        self.state.is_due(now) || (!self.grace.is_well() && self.state.is_waiting())
    }

    /// Commits a batch, or refuses it.
    pub(super) fn step(&mut self, batch: &mut Vec<Command>) {
        let is_copying = self.checkpoints.is_copying();
        let may_commit = self.keeper.may_commit(is_copying);
        if may_commit {
            self.commit(batch);
        } else {
            self.refuse(batch);
        }
        // No thread begins to copy into what may be another database by now.
        if (may_commit || is_copying) && self.checkpoints.look(&self.writer) {
            self.keeper.take_as_ours();
        }
    }

    /// Answers that nothing is stored. Sessions that have ended have ended.
    fn refuse(&mut self, batch: &mut Vec<Command>) {
        self.grace.note(false, (self.instant)());
        let now = self.grace.read((self.instant)());
        for command in batch.drain(..) {
            // The others are told when they are dropped.
            if let Command::Release(session) = command {
                self.state.end(session, now);
            }
        }
    }

    fn commit(&mut self, batch: &mut Vec<Command>) {
        let mut appended: Vec<(Done, Option<Outcome>)> = Vec::with_capacity(batch.len());
        let mut made: Vec<(RoomDone, Option<Arc<Room>>)> = Vec::new();
        let mut ended = Vec::new();
        let mut probed = false;
        let begin = Instant::now();
        let lived = self.grace.read((self.instant)());
        let health = Arc::clone(&self.health);
        let _watch = health.watch();
        let mut draft = Draft {
            state: self.state.clone(),
            newest: self.keeper.newest(),
            now: self.clock.now(),
            staged: BTreeMap::new(),
        };
        let before = draft.newest.message;
        let mut result = self.writer.begin();
        if self.clock.was_set_back() {
            attempt(&mut result, || self.writer.note_clock_set_back());
        }
        let must_probe = !self.grace.is_well();
        for command in batch.drain(..) {
            match command {
                Command::Append(record, done) => {
                    let outcome = attempt(&mut result, || self.append(record, &mut draft));
                    appended.push((done, outcome));
                }
                Command::CreateRoom(name, done) => {
                    let room = attempt(&mut result, || self.insert_room(name, draft.now));
                    draft.newest.room = room.as_ref().map_or(draft.newest.room, |room| room.number);
                    made.push((done, room));
                }
                Command::Release(session) => {
                    draft.state.end(session, lived);
                    ended.push(session);
                }
                Command::Probe => {
                    probed = attempt(&mut result, || self.writer.touch()).is_some();
                }
            }
        }
        if must_probe && !probed {
            probed = attempt(&mut result, || self.writer.touch()).is_some();
        }
        // While the store fails nobody could come back.
        if self.grace.is_well() {
            attempt(&mut result, || self.expire(lived, &mut draft));
        }
        let Draft {
            state,
            newest,
            staged,
            ..
        } = draft;
        if result.is_ok() {
            let figures = staged
                .values()
                .map(|staged| (staged.room.number, staged.figures));
            result = self.writer.commit(figures);
        }
        let has_written = probed || !staged.is_empty() || !made.is_empty();
        if has_written || result.is_err() {
            self.health.note_write(&result);
        }
        let meters = meters();
        let is_kept = result.is_ok() && self.keeper.has_kept(newest);
        if has_written || !is_kept {
            self.grace.note(is_kept, (self.instant)());
        }
        if is_kept {
            self.clock.noted();
            // On disk: that is the answer, whatever becomes of this thread.
            for (done, outcome) in &mut appended {
                outcome
                    .take()
                    .into_iter()
                    .for_each(|outcome| done.decide(outcome));
            }
            for (done, room) in &mut made {
                room.iter()
                    .for_each(|room| done.decide(Ok(Arc::clone(room))));
            }
            self.state = state;
            self.show(staged, &made);
            meters
                .messages_appended
                .increment((newest.message - before).unsigned_abs());
        } else {
            self.writer.roll_back();
            for session in ended {
                self.state.end(session, lived);
            }
        }
        if has_written || !is_kept {
            meters.commit_seconds.record(begin.elapsed());
            meters.commit_records.record(appended.len() as f64);
            meters.commits_failed.increment(u64::from(!is_kept));
        }
        // What was not decided has failed.
        drop(made);
        drop(appended);
    }

    fn insert_room(&self, name: RoomName, now: OffsetDateTime) -> rusqlite::Result<Arc<Room>> {
        let (number, id) = self.writer.insert_room(&name, now)?;
        let figures = Figures {
            end: 1,
            ..Figures::default()
        };
        let budget = Arc::clone(&self.budget);
        Ok(Arc::new(Room::new(number, id, name, now, figures, budget)))
    }

    fn append(&self, record: Record, draft: &mut Draft) -> rusqlite::Result<Outcome> {
        // Of what is refused nothing is kept.
        let mut state = draft.state.clone();
        match self.admit(&record, &mut state)? {
            Err((index, reason)) => {
                let id = record.messages[index].id;
                Ok(Outcome::Refused { index, id, reason })
            }
            Ok(admitted) => {
                draft.state = state;
                let owner = record.origin.guest;
                for (message, (room, admission)) in record.messages.into_iter().zip(admitted) {
                    self.store(message, &room, admission, owner, draft)?;
                }
                Ok(Outcome::Appended)
            }
        }
    }

    /// Decides on every message of a record: what it does in which room.
    fn admit(&self, record: &Record, state: &mut State) -> rusqlite::Result<Admitted> {
        let mut admitted = Vec::with_capacity(record.messages.len());
        let mut seen: Vec<(RoomId, MessageId)> = Vec::new();
        for (index, message) in record.messages.iter().enumerate() {
            match self.admit_one(record, message, state, &mut seen)? {
                Ok(one) => admitted.push(one),
                Err(reason) => return Ok(Err((index, reason))),
            }
        }
        Ok(Ok(admitted))
    }

    fn admit_one(
        &self,
        record: &Record,
        message: &NewMessage,
        state: &mut State,
        seen: &mut Vec<(RoomId, MessageId)>,
    ) -> rusqlite::Result<Result<(Arc<Room>, Admission), Reason>> {
        let room = super::sqlite::read_lock(&self.rooms)
            .by_id
            .get(&message.room_id)
            .cloned();
        let Some(room) = room else {
            return Ok(Err(Reason::NoSuchRoom));
        };
        let kind = message.body.kind();
        let mut is_repeat = false;
        if let Some(id) = message.id {
            match self.writer.sender_of(room.number, id)? {
                Some(sender) if sender != message.sender.as_str() => {
                    return Ok(Err(Reason::IdTaken));
                }
                Some(_) => is_repeat = true,
                None => {
                    is_repeat = seen.contains(&(message.room_id, id));
                    seen.push((message.room_id, id));
                }
            }
        }
        let (origin, sender) = (record.origin, &message.sender);
        Ok(
            match state.admit(room.number, origin, sender, kind, is_repeat) {
                Ok(admission) => Ok((room, admission)),
                // What is stored is stored, whoever holds the name by now; but a repeated ENTER also
                // asks for the name.
                Err(_) if is_repeat && kind != MessageType::Enter => Ok((room, Admission::Pass)),
                Err(reason) => Err(reason),
            },
        )
    }

    /// Stores a message, and what it does to who is present.
    fn store(
        &self,
        message: NewMessage,
        room: &Arc<Room>,
        admission: Admission,
        owner: Owner,
        draft: &mut Draft,
    ) -> rusqlite::Result<()> {
        let presence = match admission {
            Admission::Pass => return Ok(()),
            Admission::Store => None,
            Admission::Enter => {
                let sender = message.sender.clone();
                self.writer
                    .insert_participant(room.number, &sender, owner)?;
                Some(Presence::Entered { sender, owner })
            }
            Admission::Leave(sender) => {
                self.writer.delete_participant(room.number, &sender)?;
                Some(Presence::Left { sender })
            }
        };
        let staged = self.insert(message, room, draft)?;
        staged.presence.extend(presence);
        Ok(())
    }

    /// Lets those leave whose grace is over.
    fn expire(&self, lived: Duration, draft: &mut Draft) -> rusqlite::Result<()> {
        for _ in 0..LEAVES_MAX {
            let Some((number, sender)) = draft.state.expire(lived) else {
                break;
            };
            let Some(room) = super::sqlite::read_lock(&self.rooms).numbered(number) else {
                continue;
            };
            let message = NewMessage {
                room_id: room.id,
                sender: sender.clone(),
                body: NewBody::Leave,
                id: None,
            };
            self.store(message, &room, Admission::Leave(sender), None, draft)?;
        }
        Ok(())
    }

    fn insert<'a>(
        &self,
        message: NewMessage,
        room: &Arc<Room>,
        draft: &'a mut Draft,
    ) -> rusqlite::Result<&'a mut Staged> {
        let now = draft.now;
        let staged = draft.staged.entry(room.number).or_insert_with(|| Staged {
            room: Arc::clone(room),
            figures: room.figures(),
            batches: Vec::new(),
            presence: Vec::new(),
        });
        let kind = message.body.kind();
        let stored = ChatMessage {
            kind,
            room_id: message.room_id,
            message: message.body.into_message(&message.sender),
            sender: message.sender,
            id: message.id.unwrap_or_else(|| MessageId(Uuid::now_v7())),
            seq: staged.figures.end,
            sent_at: now,
        };
        draft.newest.message = self.writer.insert_message(&Stored {
            room: room.number,
            message: &stored,
        })?;
        staged.figures.end += 1;
        if kind == MessageType::Talk {
            staged.figures.message_count += 1;
            staged.figures.last_message_at = Some(now);
        }
        let full = |batch: &Batch| batch.len() > BATCH_BYTES_MAX;
        if staged.batches.last().is_none_or(full) {
            staged.batches.push(Batch::new(stored.seq));
        }
        if let Some(batch) = staged.batches.last_mut() {
            batch.push(|out| super::encode(&stored, out));
        }
        Ok(staged)
    }

    /// Lets everybody see what is on disk now.
    fn show(&mut self, staged: BTreeMap<i64, Staged>, made: &[(RoomDone, Option<Arc<Room>>)]) {
        for room in made.iter().filter_map(|(_, room)| room.as_ref()) {
            {
                let mut rooms = super::sqlite::write_lock(&self.rooms);
                rooms.by_id.insert(room.id, Arc::clone(room));
                rooms.in_order.push(Arc::clone(room));
            }
            self.activity.add(room);
            self.observer.made(room);
        }
        for (number, staged) in staged {
            let participant_count = self.state.present_in(number);
            let figures = Figures {
                participant_count,
                ..staged.figures
            };
            self.activity.follow(&staged.room, &figures);
            staged.room.publish(staged.batches, figures);
            for presence in staged.presence {
                self.observer.presence(&staged.room, presence);
            }
            self.observer.changed(&staged.room);
        }
    }
}

/// What each message of a record does in which room; or which of them is refused, and why.
type Admitted = Result<Vec<(Arc<Room>, Admission)>, (usize, Reason)>;

/// Does the next step of a transaction, unless one before it has failed.
fn attempt<T>(
    result: &mut rusqlite::Result<()>,
    step: impl FnOnce() -> rusqlite::Result<T>,
) -> Option<T> {
    if result.is_err() {
        return None;
    }
    step().map_err(|error| *result = Err(error)).ok()
}

#[cfg(test)]
mod tests {
    use super::super::sqlite::REST_AFTER;
    use super::*;

    #[test]
    fn who_finds_it_full_waits_once_however_often_it_tries() {
        let queue = Queue::default();
        let record = |session| Record {
            origin: super::super::Origin {
                session,
                guest: None,
            },
            messages: Vec::new(),
        };
        let signals: [Arc<Signal>; 2] = Default::default();
        let nobody = || Done::new(|_| {});
        for _ in 0..QUEUE_RECORDS_MAX {
            assert!(queue.append(record(0), nobody(), &signals[0]).is_ok());
        }
        for _ in 0..1_000 {
            for (session, signal) in signals.iter().enumerate() {
                let full = queue.append(record(session as u64), nobody(), signal);
                assert!(full.is_err());
            }
        }
        assert_eq!(lock(&queue.state).waiting.len(), signals.len());
        let mut batch = Vec::new();
        while !lock(&queue.state).commands.is_empty() {
            batch.clear();
            assert!(queue.take(&mut batch, || false, || {}));
        }
        assert!(signals.iter().all(|signal| signal.is_ready()));
        assert_eq!(lock(&queue.state).waiting.capacity(), 0);
        // When nothing comes any more it lets go of its memory, and says so.
        batch.clear();
        let (mut looks, mut rests) = (0, 0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(3 * REST_AFTER / 2);
                queue.stop();
            });
            let look = || {
                looks += 1;
                false
            };
            assert!(!queue.take(&mut batch, look, || rests += 1));
        });
        assert_eq!(rests, 1);
        assert!(looks > 1, "{looks}");
        assert!(batch.capacity() <= QUIET_COMMANDS);
        assert!(lock(&queue.state).commands.capacity() <= QUIET_COMMANDS);
    }
}
