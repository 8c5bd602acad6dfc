//! The one ordered path: what has gathered is decided and committed in one transaction, then shown.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use shared::chat::{ChatMessage, MessageId, MessageType, NewMessage, RoomId};
use time::OffsetDateTime;
use uuid::Uuid;

use super::names::{Admission, Names};
use super::sqlite::{Stored, Writer};
use super::tail::{Figures, lock};
use super::{
    Batch, Done, Full, Observer, Outcome, Reason, Record, Room, SessionNumber, Signal, StoreError,
};

/// The most records that wait to be appended.
const QUEUE_RECORDS_MAX: usize = 16_384;

/// The most bytes that wait to be appended.
const QUEUE_BYTES_MAX: usize = 16 << 20;

/// The most commands that one transaction takes: bounds how long the first waits for the last.
const BATCH_MAX: usize = 4_096;

/// Called with the new room once it is on disk.
pub(super) type RoomDone = Box<dyn FnOnce(Result<Arc<Room>, StoreError>) + Send>;

/// What the ordering thread is asked to do.
pub(super) enum Command {
    Append(Record, Done),
    CreateRoom(shared::chat::RoomName, RoomDone),
    Release(SessionNumber),
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
    /// Who found it full.
    waiting: Vec<Arc<Signal>>,
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
            done(Outcome::Failed);
            return Ok(());
        }
        if state.records >= QUEUE_RECORDS_MAX || state.bytes >= QUEUE_BYTES_MAX {
            state.waiting.push(Arc::clone(wake));
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
            if let Command::CreateRoom(_, done) = command {
                done(Err(StoreError::Unavailable));
            }
            return;
        }
        self.push(state, command);
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

    /// Waits for commands and takes up to [`BATCH_MAX`] into `batch`; false when it has stopped
    /// and is empty.
    fn take(&self, batch: &mut Vec<Command>) -> bool {
        let mut state = lock(&self.state);
        while state.commands.is_empty() {
            if state.stopping {
                return false;
            }
            state = self
                .filled
                .wait(state)
                .unwrap_or_else(std::sync::PoisonError::into_inner);
        }
        let count = state.commands.len().min(BATCH_MAX);
        batch.extend(state.commands.drain(..count));
        for command in batch.iter() {
            if let Command::Append(record, _) = command {
                state.records -= 1;
                state.bytes -= record.weight();
            }
        }
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        for signal in waiting {
            signal.wake();
        }
        true
    }
}

/// All rooms, by id and in the order of creation.
#[derive(Debug, Default)]
pub(super) struct Rooms {
    pub(super) by_id: HashMap<RoomId, Arc<Room>>,
    pub(super) in_order: Vec<Arc<Room>>,
}

/// The thread that orders: it alone writes.
pub(super) struct Orderer {
    pub(super) queue: Arc<Queue>,
    pub(super) writer: Writer,
    pub(super) rooms: Arc<std::sync::RwLock<Rooms>>,
    pub(super) budget: Arc<super::tail::RingBudget>,
    pub(super) observer: Arc<dyn Observer>,
    pub(super) healthy: Arc<AtomicBool>,
    pub(super) names: Names,
    /// The time of the newest entry: `sentAt` does not fall in a room, even if the clock does.
    pub(super) latest: OffsetDateTime,
}

/// A room's part of a transaction that is not committed yet.
struct Staged {
    room: Arc<Room>,
    figures: Figures,
    batch: Batch,
}

impl Orderer {
    /// Runs until the queue has stopped and is empty.
    pub(super) fn run(mut self) {
        let mut batch = Vec::new();
        while self.queue.take(&mut batch) {
            self.commit(&mut batch);
        }
        self.writer.close();
    }

    fn commit(&mut self, batch: &mut Vec<Command>) {
        let mut appended: Vec<(Done, Outcome)> = Vec::with_capacity(batch.len());
        let mut made: Vec<(RoomDone, Arc<Room>)> = Vec::new();
        let mut released = Vec::new();
        let mut staged: BTreeMap<i64, Staged> = BTreeMap::new();
        let now = now().max(self.latest);
        self.latest = now;
        let mut failed = self.writer.begin().inspect_err(report).is_err();
        for command in batch.drain(..) {
            match command {
                Command::Append(record, done) => {
                    let outcome = if failed {
                        Outcome::Failed
                    } else {
                        self.append(record, now, &mut staged)
                            .unwrap_or_else(|error| {
                                report(&error);
                                failed = true;
                                Outcome::Failed
                            })
                    };
                    appended.push((done, outcome));
                }
                Command::CreateRoom(name, done) => match self.writer.insert_room(&name, now) {
                    Ok((number, id)) if !failed => {
                        let figures = Figures {
                            end: 1,
                            ..Figures::default()
                        };
                        let budget = Arc::clone(&self.budget);
                        let room = Room::new(number, id, name, now, figures, budget);
                        made.push((done, Arc::new(room)));
                    }
                    Ok(_) => done(Err(StoreError::Unavailable)),
                    Err(error) => {
                        report(&error);
                        failed = true;
                        done(Err(StoreError::Unavailable));
                    }
                },
                Command::Release(session) => released.push(session),
            }
        }
        if !failed {
            let figures = staged
                .values()
                .map(|staged| (staged.room.number, staged.figures));
            failed = self.writer.commit(figures).inspect_err(report).is_err();
        }
        self.healthy.store(!failed, Ordering::Relaxed);
        if failed {
            self.writer.roll_back();
            self.names.undo();
        } else {
            self.names.keep();
        }
        self.show(staged, made, failed);
        for (done, outcome) in appended {
            done(if failed { Outcome::Failed } else { outcome });
        }
        self.release(released);
    }

    fn append(
        &mut self,
        record: Record,
        now: OffsetDateTime,
        staged: &mut BTreeMap<i64, Staged>,
    ) -> rusqlite::Result<Outcome> {
        match self.admit(&record)? {
            Err((index, reason)) => {
                let id = record.messages[index].id;
                Ok(Outcome::Refused { index, id, reason })
            }
            Ok(admitted) => {
                for (message, room) in record.messages.into_iter().zip(admitted) {
                    if let Some(room) = room {
                        self.insert(message, &room, now, staged)?;
                    }
                }
                Ok(Outcome::Appended)
            }
        }
    }

    /// Decides on every message of a record: to be stored in that room, or nothing to store.
    #[expect(
        clippy::type_complexity,
        reason = "a decision for each message, or the first refusal"
    )]
    fn admit(
        &mut self,
        record: &Record,
    ) -> rusqlite::Result<Result<Vec<Option<Arc<Room>>>, (usize, Reason)>> {
        let mut admitted = Vec::with_capacity(record.messages.len());
        let mut seen: Vec<(RoomId, MessageId)> = Vec::new();
        self.names.mark();
        for (index, message) in record.messages.iter().enumerate() {
            match self.admit_one(record, message, &mut seen)? {
                Ok(room) => admitted.push(room),
                Err(reason) => {
                    self.names.undo_to_mark();
                    return Ok(Err((index, reason)));
                }
            }
        }
        Ok(Ok(admitted))
    }

    fn admit_one(
        &mut self,
        record: &Record,
        message: &NewMessage,
        seen: &mut Vec<(RoomId, MessageId)>,
    ) -> rusqlite::Result<Result<Option<Arc<Room>>, Reason>> {
        let room = super::sqlite::read_lock(&self.rooms)
            .by_id
            .get(&message.room_id)
            .cloned();
        let Some(room) = room else {
            return Ok(Err(Reason::NoSuchRoom));
        };
        let kind = message.body.kind();
        let mut repeat = false;
        if let Some(id) = message.id {
            match self.writer.sender_of(room.number, id)? {
                Some(sender) if sender != message.sender.as_str() => {
                    return Ok(Err(Reason::IdTaken));
                }
                Some(_) => repeat = true,
                None => {
                    repeat = seen.contains(&(message.room_id, id));
                    seen.push((message.room_id, id));
                }
            }
        }
        match self
            .names
            .admit(room.number, record.origin, &message.sender, kind)
        {
            Err(reason) => Ok(Err(reason)),
            Ok(Admission::Store) if !repeat => Ok(Ok(Some(room))),
            Ok(_) => Ok(Ok(None)),
        }
    }

    fn insert(
        &mut self,
        message: NewMessage,
        room: &Arc<Room>,
        now: OffsetDateTime,
        staged: &mut BTreeMap<i64, Staged>,
    ) -> rusqlite::Result<()> {
        let staged = staged.entry(room.number).or_insert_with(|| {
            let figures = room.figures();
            Staged {
                room: Arc::clone(room),
                batch: Batch::new(figures.end),
                figures,
            }
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
        self.writer.insert_message(&Stored {
            room: room.number,
            message: &stored,
        })?;
        staged.figures.end += 1;
        if kind == MessageType::Talk {
            staged.figures.message_count += 1;
            staged.figures.last_message_at = Some(now);
        }
        staged.batch.push(|out| super::encode(&stored, out));
        Ok(())
    }

    fn show(
        &mut self,
        staged: BTreeMap<i64, Staged>,
        made: Vec<(RoomDone, Arc<Room>)>,
        failed: bool,
    ) {
        if failed {
            for (done, _) in made {
                done(Err(StoreError::Unavailable));
            }
            return;
        }
        for (done, room) in made {
            {
                let mut rooms = super::sqlite::write_lock(&self.rooms);
                rooms.by_id.insert(room.id, Arc::clone(&room));
                rooms.in_order.push(Arc::clone(&room));
            }
            self.observer.made(&room);
            done(Ok(room));
        }
        for (number, staged) in staged {
            let participant_count = self.names.present_in(number);
            let figures = Figures {
                participant_count,
                ..staged.figures
            };
            staged.room.publish(staged.batch, figures);
            self.observer.changed(&staged.room);
        }
    }

    fn release(&mut self, sessions: Vec<SessionNumber>) {
        for session in sessions {
            for number in self.names.release(session) {
                let rooms = super::sqlite::read_lock(&self.rooms);
                // Rooms are numbered from 1 in the order of their creation.
                let found = rooms
                    .in_order
                    .binary_search_by_key(&number, |room| room.number);
                if let Ok(index) = found {
                    let room = &rooms.in_order[index];
                    room.set_participant_count(self.names.present_in(number));
                    self.observer.changed(room);
                }
            }
        }
    }
}

fn report(error: &rusqlite::Error) {
    tracing::error!(%error, "the message store failed; nothing of this batch is acknowledged");
}

/// The server's clock, to the millisecond.
fn now() -> OffsetDateTime {
    let now = OffsetDateTime::now_utc();
    now.replace_millisecond(now.millisecond()).unwrap_or(now)
}
