//! The log on disk: one SQLite database in the data directory.
//!
//! One connection writes, on the ordering thread; a few read. Write-ahead logging with
//! `synchronous=FULL`: a committed transaction survives the loss of power.

mod check;
mod copy;
mod files;
mod keeper;
mod mark;
mod open;
#[cfg(test)]
mod simulation;
mod writer;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{
    Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use shared::chat::{ChatMessage, RoomId, RoomName};
use time::OffsetDateTime;
use tokio::sync::watch;
use uuid::Uuid;

pub(crate) use self::check::check;
pub(crate) use self::copy::{backup, restore};
pub(super) use self::files::beside;
use self::files::{Files, Gone};
pub(super) use self::keeper::Keeper;
pub(super) use self::mark::Newest;
pub(crate) use self::open::OpenError;
use self::open::{Opened, Participant, lock_directory, open_checked, open_reader, rooms_of};
pub(super) use self::writer::{MESSAGE_COLUMNS, Stored, Writer, millis, read_message};
use super::activity::Activity;
use super::admit::State;
use super::budget::Budget;
use super::checkpoint::Checkpoints;
use super::clock::{Clock, ReadClock};
use super::grace::GraceClock;
use super::order::{Command, Orderer, Queue, ReadInstant, Rooms};
use super::pages::Readers;
use super::tail::lock;
use super::{
    Answer, Batch, Done, Full, Load, Log, Observer, Presence, Range, Record, Room, SessionNumber,
    Signal, StoreError, thread,
};
use crate::data_dir;

/// How long a room keeps its newest entries in memory: who has not read them by then reads the disk.
const RING_AGE: Duration = Duration::from_secs(10);

/// Connections, and threads, that read.
const READERS: usize = 2;

/// Whether the store answers. Damage stays until the program is started on a whole database;
/// other faults, such as a full disk, are over with the next success of the same kind.
#[derive(Debug, Default)]
pub(super) struct Health {
    writes_fail: AtomicBool,
    reads_fail: AtomicBool,
    is_damaged: AtomicBool,
    /// One of the files is not at its path.
    is_gone: AtomicBool,
    /// Something was committed into such a file.
    has_lost: AtomicBool,
    mark_fails: AtomicBool,
    has_panicked: AtomicBool,
    /// One of the log's threads has ended.
    is_dead: watch::Sender<bool>,
}

impl Health {
    /// Notes a panic on one of the log's threads: what it did is not known, so that readiness fails
    /// until the program is started anew.
    pub(super) fn note_panic(&self) {
        self.has_panicked.store(true, Ordering::Relaxed);
    }

    /// Notes a panic while the guard lives: before anybody hears that what they asked failed.
    pub(super) fn watch(&self) -> impl Drop {
        struct Watch<'a>(&'a Health);
        impl Drop for Watch<'_> {
            fn drop(&mut self) {
                if std::thread::panicking() {
                    self.0.note_panic();
                }
            }
        }
        Watch(self)
    }

    /// Notes that a thread of the log has ended by a panic.
    pub(super) fn note_death(&self) {
        self.note_panic();
        self.is_dead.send_replace(true);
    }

    /// Tells whether a thread of the log has ended by a panic.
    pub(super) fn is_dead(&self) -> watch::Receiver<bool> {
        self.is_dead.subscribe()
    }

    pub(super) fn note_write<T>(&self, result: &rusqlite::Result<T>) {
        let advice = "the message store could not be written; nothing of this batch is kept";
        Self::note(&self.writes_fail, &self.is_damaged, result, advice);
    }

    pub(super) fn note_read<T>(&self, result: &rusqlite::Result<T>) {
        let advice = "the message store could not be read";
        Self::note(&self.reads_fail, &self.is_damaged, result, advice);
    }

    /// Notes how copying the write-ahead log went; that it went well says nothing of commits.
    pub(super) fn note_checkpoint<T>(&self, result: &rusqlite::Result<T>) {
        let advice = "the write-ahead log could not be copied into the database, and grows";
        if result.is_err() {
            Self::note(&self.writes_fail, &self.is_damaged, result, advice);
        }
    }

    fn note<T>(
        fails: &AtomicBool,
        is_damaged: &AtomicBool,
        result: &rusqlite::Result<T>,
        advice: &'static str,
    ) {
        fails.store(result.is_err(), Ordering::Relaxed);
        let Err(error) = result else { return };
        if is_damage(error) {
            is_damaged.store(true, Ordering::Relaxed);
            tracing::error!(
                %error,
                "{advice}: the database is damaged, and nothing is stored in it any more; stop this \
                 server, put a backup in its place (sarangbang restore), and start it again"
            );
        } else {
            tracing::error!(%error, "{advice}");
        }
    }

    /// Notes whether the store can be written at the start, before anybody asks.
    fn note_start(&self, result: &rusqlite::Result<()>) {
        let advice = "the message store cannot be written, and is only read until it can";
        Self::note(&self.writes_fail, &self.is_damaged, result, advice);
    }

    /// Notes which file is not at its path, if one is not.
    fn note_gone(&self, gone: Option<&Gone>) {
        let was_gone = self.is_gone.swap(gone.is_some(), Ordering::Relaxed);
        match gone {
            Some(Gone { path, is_database }) if !was_gone => tracing::error!(
                "{} is not the file any more that is open here: it was deleted, moved or replaced, or \
                 another file system was mounted over it. Nothing is stored and acknowledged until it \
                 is back. {}",
                path.display(),
                if *is_database {
                    "Put it back; or stop this server, put the newest copy there without the -wal and -shm of \
                     the one that is gone, and start it again"
                } else {
                    "Put it back; or stop this server in order (SIGTERM), which copies what is not in \
                     the database yet, and start it again"
                }
            ),
            None if was_gone => tracing::info!("the files of the message store are back"),
            _ => {}
        }
    }

    /// Notes that what was committed last is in a file that is gone.
    fn note_loss(&self) {
        self.has_lost.store(true, Ordering::Relaxed);
        tracing::error!(
            "what was committed last went into a file that is gone, and was not acknowledged; nothing \
             is stored any more until the server is started anew"
        );
    }

    /// Notes what was found in a database to which another program has written.
    fn note_foreign(&self, path: &Path, found: Result<(), String>) {
        let Err(detail) = found else { return };
        self.is_damaged.store(true, Ordering::Relaxed);
        tracing::error!(
            "another program has written to {}, or its disk has failed: {detail}. Nothing is stored in \
             it any more; stop this server, put the newest copy there without the -wal and -shm that are there \
             now, and start it again",
            path.display()
        );
    }

    /// Notes whether what was acknowledged is marked beside the database.
    fn note_mark(&self, result: &std::io::Result<()>) {
        let has_failed = self.mark_fails.swap(result.is_err(), Ordering::Relaxed);
        if let Err(error) = result
            && !has_failed
        {
            tracing::error!(
                %error,
                "{} cannot be written: nothing more is stored until it can, as after a crash nobody could \
                 tell whether the database is behind what was acknowledged",
                data_dir::MARK
            );
        }
    }

    fn mark_fails(&self) -> bool {
        self.mark_fails.load(Ordering::Relaxed)
    }

    fn is_damaged(&self) -> bool {
        self.is_damaged.load(Ordering::Relaxed)
    }

    /// Whether nothing may be stored until the program is started anew.
    fn is_spoiled(&self) -> bool {
        self.is_damaged() || self.has_lost.load(Ordering::Relaxed)
    }

    pub(super) fn is_good(&self) -> bool {
        let faults = [
            &self.is_gone,
            &self.has_lost,
            &self.mark_fails,
            &self.writes_fail,
            &self.reads_fail,
            &self.is_damaged,
            &self.has_panicked,
        ];
        !faults
            .into_iter()
            .any(|fault| fault.load(Ordering::Relaxed))
    }
}

/// Whether an error is about what the database holds, not about reaching it.
fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    match error.sqlite_error_code() {
        Some(code) => matches!(code, DatabaseCorrupt | NotADatabase),
        None => true,
    }
}

/// How a log is opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    /// One that is behind what was acknowledged is opened all the same.
    pub(crate) accepts_loss: bool,
    /// How long somebody is present whose last session has ended without LEAVE.
    pub(crate) grace: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            accepts_loss: false,
            grace: Duration::from_secs(10),
        }
    }
}

/// The log in SQLite; see the contract of [`Log`].
pub(crate) struct Sqlite {
    queue: Arc<Queue>,
    rooms: Arc<RwLock<Rooms>>,
    activity: Arc<Activity>,
    readers: Readers,
    health: Arc<Health>,
    budget: Arc<Budget>,
    epoch: Uuid,
    /// The database.
    path: PathBuf,
    orderer: Mutex<Option<JoinHandle<()>>>,
    /// Held for as long as the log is open; the operating system frees them when the process dies.
    _locks: Vec<File>,
}

impl Sqlite {
    /// Opens the log in `data_dir`, which is made if it is missing.
    ///
    /// # Errors
    /// [`OpenError`] when the directory is in use, or what is there is not ours, newer, damaged or
    /// behind.
    pub(crate) fn open(
        data_dir: &Path,
        options: Options,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, OpenError> {
        let clock = Box::new(OffsetDateTime::now_utc);
        Self::open_with(data_dir, options, observer, clock, |_| Ok(()))
    }

    /// Tells whether the log cannot go on because one of its threads has ended by a panic.
    pub(crate) fn is_dead(&self) -> watch::Receiver<bool> {
        self.health.is_dead()
    }

    /// As [`Sqlite::open`], by this clock; `prepare` gets the connection that writes.
    fn open_with(
        data_dir: &Path,
        options: Options,
        observer: Arc<dyn Observer>,
        clock: ReadClock,
        prepare: impl FnOnce(&Connection) -> rusqlite::Result<()>,
    ) -> Result<Self, OpenError> {
        let no_thread = |source| OpenError::Io {
            path: data_dir.to_owned(),
            source,
        };
        let instant = Box::new(Instant::now);
        let Parts {
            orderer,
            readers,
            epoch,
            path,
            locks,
        } = Parts::open(data_dir, options, observer, clock, instant, prepare)?;
        let (queue, rooms) = (Arc::clone(&orderer.queue), Arc::clone(&orderer.rooms));
        let (activity, health) = (Arc::clone(&orderer.activity), Arc::clone(&orderer.health));
        let budget = Arc::clone(&orderer.budget);
        let readers = Readers::start(readers, &health).map_err(no_thread)?;
        let thread = thread::start("log", &health, move || orderer.run()).map_err(no_thread)?;
        Ok(Sqlite {
            queue,
            rooms,
            activity,
            readers,
            health,
            budget,
            epoch,
            path,
            orderer: Mutex::new(Some(thread)),
            _locks: locks,
        })
    }
}

/// A log that is open, before its threads run.
struct Parts {
    orderer: Orderer,
    readers: Vec<Connection>,
    epoch: Uuid,
    path: PathBuf,
    locks: Vec<File>,
}

impl Parts {
    fn open(
        data_dir: &Path,
        options: Options,
        observer: Arc<dyn Observer>,
        clock: ReadClock,
        instant: ReadInstant,
        prepare: impl FnOnce(&Connection) -> rusqlite::Result<()>,
    ) -> Result<Self, OpenError> {
        // It is looked at for as long as the log is open, whatever becomes of the working directory.
        let data_dir = &std::path::absolute(data_dir).map_err(|source| OpenError::Io {
            path: data_dir.to_owned(),
            source,
        })?;
        let locks = lock_directory(data_dir)?;
        let path = data_dir.join(data_dir::DATABASE);
        let Opened {
            connection,
            rooms,
            participants,
            newest_sent_at,
            newest,
            epoch,
            mark,
            identity,
        } = open_checked(&path, options.accepts_loss)?;
        data_dir::close(data_dir);
        let failed = |source| OpenError::Store {
            path: path.clone(),
            source,
        };
        prepare(&connection).map_err(failed)?;
        let writer = Writer { connection };
        let health = Arc::new(Health::default());
        health.note_start(&writer.touch());
        let readers = (0..READERS)
            .map(|_| open_reader(&path))
            .collect::<rusqlite::Result<Vec<_>>>()
            .map_err(failed)?;
        let files = Files::new(&path, identity).map_err(|source| OpenError::Io {
            path: path.clone(),
            source,
        })?;
        let mut keeper = Keeper {
            files,
            mark,
            newest,
            health: Arc::clone(&health),
        };
        keeper.copy(&writer);
        let mut clock = Clock::new(clock, newest_sent_at);
        // Warns at once where the newest entry is ahead.
        clock.now();
        let budget = Arc::<Budget>::default();
        let rooms = rooms_of(rooms, &budget);
        let mut grace = GraceClock::new(options.grace, instant());
        let mut state = State::new(options.grace);
        let begin = grace.read(instant());
        for Participant {
            room,
            sender,
            owner,
        } in participants
        {
            state.restore(room, &sender, owner, begin);
            if let Some(room) = rooms.numbered(room) {
                room.set_participant_count(state.present_in(room.number));
                observer.presence(&room, Presence::Entered { sender, owner });
            }
        }
        let activity = Arc::<Activity>::default();
        rooms.in_order.iter().for_each(|room| activity.add(room));
        let queue = Arc::new(Queue::default());
        let checkpoints = Checkpoints::new(&path, Arc::clone(&queue), Arc::clone(&health));
        let orderer = Orderer {
            queue,
            writer,
            keeper,
            rooms: Arc::new(RwLock::new(rooms)),
            activity,
            budget,
            observer,
            health,
            state,
            clock,
            grace,
            instant,
            checkpoints,
        };
        Ok(Parts {
            orderer,
            readers,
            epoch,
            path,
            locks,
        })
    }
}

impl Log for Sqlite {
    fn append(&self, record: Record, done: Done, wake: &Arc<Signal>) -> Result<(), Full> {
        self.queue.append(record, done, wake)
    }

    fn create_room(&self, name: RoomName, done: Answer<Result<Arc<Room>, StoreError>>) {
        self.queue.command(Command::CreateRoom(name, done));
    }

    fn release(&self, session: SessionNumber) {
        self.queue.command(Command::Release(session));
    }

    fn room(&self, id: RoomId) -> Option<Arc<Room>> {
        read_lock(&self.rooms).by_id.get(&id).cloned()
    }

    fn rooms(&self) -> Vec<Arc<Room>> {
        read_lock(&self.rooms).in_order.clone()
    }

    fn rooms_by_creation(&self, after: Option<&Room>, limit: usize) -> Vec<Arc<Room>> {
        let rooms = read_lock(&self.rooms);
        let after = after.map_or(0, |room| room.number);
        let from = rooms.in_order.partition_point(|room| room.number <= after);
        let later = rooms.in_order[from..].iter();
        later.take(limit).cloned().collect()
    }

    fn rooms_by_activity(&self, after: Option<&Room>, limit: usize) -> Vec<Arc<Room>> {
        self.activity.after(after, limit)
    }

    fn history(
        &self,
        room: &Arc<Room>,
        range: Range,
        done: Answer<Result<Vec<ChatMessage>, StoreError>>,
    ) {
        self.readers.history(room, range, done);
    }

    fn page(&self, room: &Arc<Room>, seq: u64, done: Answer<Result<Arc<Batch>, StoreError>>) {
        self.readers.page(room, seq, done);
    }

    fn seq_at(
        &self,
        room: &Arc<Room>,
        time: OffsetDateTime,
        done: Answer<Result<u64, StoreError>>,
    ) {
        self.readers.seq_at(room, time, done);
    }

    fn epoch(&self) -> Uuid {
        self.epoch
    }

    fn is_healthy(&self) -> bool {
        self.health.is_good()
    }

    fn probe(&self) {
        self.queue.probe();
    }

    fn load(&self) -> Load {
        let rooms = read_lock(&self.rooms);
        let present = rooms
            .in_order
            .iter()
            .map(|room| room.figures().participant_count);
        let (count, participants) = (rooms.in_order.len(), present.sum());
        drop(rooms);
        let (appends, append_bytes) = self.queue.load();
        let (cursor_reads, http_reads) = self.readers.load();
        let bytes = |path: &Path| std::fs::metadata(path).map_or(0, |file| file.len());
        Load {
            rooms: count,
            participants,
            appends,
            append_bytes,
            cursor_reads,
            http_reads,
            ring_bytes: self.budget.held(),
            database_bytes: bytes(&self.path),
            write_ahead_log_bytes: bytes(&beside(&self.path, "-wal")),
        }
    }

    fn tidy(&self, now: Instant) {
        self.readers.tidy(now);
        if self.budget.held() > 0
            && let Some(before) = now.checked_sub(RING_AGE)
        {
            for room in &read_lock(&self.rooms).in_order {
                room.forget(before);
            }
        }
    }

    fn stop(&self) {
        // The connection that writes is to be the last: then the write-ahead log is copied and emptied.
        self.readers.stop();
        self.queue.stop();
        let thread = lock(&self.orderer).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the log's thread had failed");
        }
    }
}

/// A thread of the log that has nothing to do for so long lets go of its memory.
pub(super) const REST_AFTER: Duration = Duration::from_secs(5);

/// Waits until it is notified, or where it may rest for [`REST_AFTER`]; whether that passed.
pub(super) fn wait<'a, T>(
    filled: &Condvar,
    guard: MutexGuard<'a, T>,
    may_rest: bool,
) -> (MutexGuard<'a, T>, bool) {
    if may_rest {
        let waited = filled.wait_timeout(guard, REST_AFTER);
        let (guard, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        (guard, waited.timed_out())
    } else {
        let guard = filled.wait(guard);
        (guard.unwrap_or_else(PoisonError::into_inner), false)
    }
}

/// Lets go of the pages that a connection keeps, up to 2 MiB.
pub(super) fn rest(connection: &Connection) {
    if let Err(error) = connection.execute_batch("PRAGMA shrink_memory") {
        tracing::debug!(%error, "the memory of a connection to the store is kept");
    }
}

/// Locks for reading; a panic elsewhere does not spread.
pub(super) fn read_lock<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

/// Locks for writing; a panic elsewhere does not spread.
pub(super) fn write_lock<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicI64;
    use std::time::{Duration, Instant};

    use super::super::Outcome;
    use super::super::conformance::{
        self, GRACE, Nobody, append, everything, history, make_room, program, seq_at, talk,
    };
    use super::open::{SCHEMA_VERSION, make_format};
    use super::writer::from_millis;
    use super::*;

    fn open(directory: &Path) -> Box<dyn Log> {
        let options = Options {
            grace: GRACE,
            ..Options::default()
        };
        Box::new(Sqlite::open(directory, options, Arc::new(Nobody)).unwrap())
    }

    #[test]
    fn it_is_a_log() {
        conformance::run(open);
    }

    #[test]
    fn a_full_disk_refuses_and_loses_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let limit = |connection: &Connection| connection.pragma_update(None, "max_page_count", 40);
        let log = Sqlite::open_with(
            directory.path(),
            Options::default(),
            Arc::new(Nobody),
            Box::new(OffsetDateTime::now_utc),
            limit,
        )
        .unwrap();
        let room = make_room(&log, "r").unwrap();
        let text = "x".repeat(1_000);
        let mut acknowledged = 0;
        while append(&log, program(1), vec![talk(&room, "a", &text)]) == Outcome::Appended {
            acknowledged += 1;
            assert!(acknowledged < 1_000, "the disk does not fill");
        }
        assert!(acknowledged > 10 && !log.is_healthy());
        assert_eq!(everything(&log, &room).len(), acknowledged);
        assert!(make_room(&log, &"r".repeat(100)).is_ok() || !log.is_healthy());
        // A write that needs no room succeeds, and so the log is found well again.
        log.probe();
        for _ in 0..200 {
            if log.is_healthy() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        assert!(log.is_healthy());
        log.stop();
        drop(log);
        let log = open(directory.path());
        let room = log.room(room.id).unwrap();
        assert_eq!(
            append(&*log, program(1), vec![talk(&room, "a", "y")]),
            Outcome::Appended
        );
        assert_eq!(everything(&*log, &room).len(), acknowledged + 1);
        log.stop();
    }

    /// A clock that a test sets, in milliseconds.
    #[derive(Clone, Default)]
    struct SetClock(Arc<AtomicI64>);

    impl SetClock {
        const ZERO_MILLIS: i64 = 1_795_392_000_000;

        fn set(&self, millis: i64) {
            self.0.store(millis, Ordering::Relaxed);
        }

        fn at(millis: i64) -> OffsetDateTime {
            from_millis(Self::ZERO_MILLIS + millis).unwrap()
        }

        fn open(&self, directory: &Path) -> Sqlite {
            let shown = Arc::clone(&self.0);
            let read = move || Self::at(shown.load(Ordering::Relaxed));
            let observer = Arc::new(Nobody);
            Sqlite::open_with(
                directory,
                Options::default(),
                observer,
                Box::new(read),
                |_| Ok(()),
            )
            .unwrap()
        }
    }

    #[test]
    fn times_follow_the_clock_and_are_found_wherever_it_was_set() {
        const HOUR: i64 = 3_600_000;
        const YEAR: i64 = 8_760 * HOUR;
        /// What the clock shows at each message; before each inner list the log is opened anew.
        type Runs = &'static [&'static [i64]];
        let cases: &[(&str, Runs)] = &[
            ("never", &[&[0, 1, 1, 2, 5_000, 5_000, 5_001]]),
            (
                "ahead by ten years, then right",
                &[&[0, 1, 10 * YEAR, 10 * YEAR, 20, 21]],
            ),
            (
                "ahead when it was stopped",
                &[&[10 * YEAR, 10 * YEAR + 5], &[7, 8], &[9, 10]],
            ),
            (
                "ahead from the first to the last",
                &[&[10 * YEAR], &[0], &[1], &[2]],
            ),
            (
                "set back by an hour while running",
                &[&[HOUR, HOUR + 9, 0, 1, 2, HOUR, HOUR + 20]],
            ),
            (
                "set back while it was stopped",
                &[&[HOUR, HOUR + 9], &[0, 1, 2], &[HOUR, HOUR + 20]],
            ),
            (
                "forth and back",
                &[&[0, YEAR, 1, YEAR, 2], &[YEAR, 3], &[4, 2 * YEAR, 5, 6]],
            ),
        ];
        for (name, runs) in cases {
            let directory = tempfile::tempdir().unwrap();
            let clock = SetClock::default();
            let mut ids = None;
            for run in *runs {
                clock.set(run[0]);
                let log = clock.open(directory.path());
                let (one, other) = *ids.get_or_insert_with(|| {
                    let made = ["one", "other"].map(|name| make_room(&log, name).unwrap().id);
                    (made[0], made[1])
                });
                let rooms = [one, other].map(|id| log.room(id).unwrap());
                for &shows in *run {
                    clock.set(shows);
                    for room in &rooms {
                        append(&log, program(1), vec![talk(room, "a", &shows.to_string())]);
                    }
                    let made = make_room(&log, "r").unwrap();
                    assert_eq!(made.created_at, SetClock::at(shows), "{name}");
                }
                for room in &rooms {
                    let all = everything(&log, room);
                    for message in &all {
                        let shown: i64 = message.message.parse().unwrap();
                        assert_eq!(message.sent_at, SetClock::at(shown), "{name}");
                        for time in [-1, 0, 1].map(|by| SetClock::at(shown + by)) {
                            let reaches = |message: &&ChatMessage| message.sent_at >= time;
                            let found = all.iter().find(reaches).map(|message| message.seq);
                            let expected = found.unwrap_or(room.end());
                            assert_eq!(seq_at(&log, room, time), expected, "{name}: {time}");
                        }
                    }
                }
                log.stop();
            }
        }
    }

    #[test]
    fn what_cannot_be_read_or_is_missing_is_passed_over() {
        let directory = tempfile::tempdir().unwrap();
        let log = open(directory.path());
        let room = make_room(&*log, "r").unwrap();
        let messages = (1..=300).map(|number| talk(&room, "a", &number.to_string()));
        append(&*log, program(1), messages.collect());
        log.stop();
        drop(log);
        let path = directory.path().join(data_dir::DATABASE);
        let later = "UPDATE message SET type = 9 WHERE seq IN (2, 128, 300);
            DELETE FROM message WHERE seq BETWEEN 4 AND 6 OR seq BETWEEN 120 AND 140;
            UPDATE message SET id = x'00' WHERE seq = 3;
            UPDATE message SET message = hex(zeroblob(9000)) WHERE seq = 7;";
        Connection::open(&path)
            .unwrap()
            .execute_batch(later)
            .unwrap();
        let is_shown = |seq: u64| !matches!(seq, 2..=6 | 120..=140 | 300);
        let expected: Vec<u64> = (1..=300).filter(|seq| is_shown(*seq)).collect();

        let log = open(directory.path());
        let room = log.room(room.id).unwrap();
        let mut shown = Vec::new();
        let mut next = 1;
        while next < room.end() {
            let (done, page) = std::sync::mpsc::channel();
            let answer = Answer::new(move |page| drop(done.send(page)));
            log.page(&room, next, answer);
            let page = page.recv().unwrap().unwrap();
            let entries = page
                .entries_from(next)
                .filter(|(_, entry)| !entry.is_empty());
            shown.extend(entries.map(|(seq, _)| seq));
            assert!(page.end() > next);
            next = page.end();
        }
        assert_eq!(shown, expected);
        let oldest = Range {
            before: None,
            after: Some(0),
            limit: 200,
        };
        let history = history(&*log, &room, oldest).unwrap();
        let seqs: Vec<u64> = history.iter().map(|message| message.seq).collect();
        assert_eq!(seqs, expected[..seqs.len()]);
        assert!(seqs.len() > 190);
        assert_eq!(history[1].message.len(), 18_000);
        assert!(log.is_healthy());
        assert_eq!(
            append(&*log, program(1), vec![talk(&room, "a", "y")]),
            Outcome::Appended
        );
        log.stop();
    }

    #[test]
    fn a_database_of_each_earlier_format_is_brought_to_ours() {
        for format in 1..=SCHEMA_VERSION {
            println!("format {format}");
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join(data_dir::DATABASE);
            let connection = Connection::open(&path).unwrap();
            make_format(&connection, format).unwrap();
            let talk_of = "INSERT INTO room VALUES (1, randomblob(16), 'r', 1000, 4, 1, 3000);
                INSERT INTO message VALUES (1, 1, 1, randomblob(16), 0, 'a', 'came', 2000),
                    (2, 1, 2, randomblob(16), 1, 'a', 'x', 3000),
                    (3, 1, 3, randomblob(16), 2, 'a', 'went', 4000);";
            connection.execute_batch(talk_of).unwrap();
            drop(connection);

            let log = open(directory.path());
            let [room] = &log.rooms()[..] else {
                panic!("not one room")
            };
            let messages = everything(&*log, room);
            assert_eq!(messages.len(), 3);
            assert_eq!(seq_at(&*log, room, messages[1].sent_at), 2);
            assert_eq!(room.figures().message_count, 1);
            assert_eq!(room.figures().participant_count, 0, "nobody is in it");
            assert_eq!(
                append(&*log, program(1), vec![talk(room, "b", "y")]),
                Outcome::Appended
            );
            log.stop();
            drop(log);
            assert_eq!(check(directory.path(), None).unwrap(), [""; 0]);
            let version: i32 = Connection::open(&path)
                .unwrap()
                .pragma_query_value(None, "user_version", |row| row.get(0))
                .unwrap();
            assert_eq!(version, SCHEMA_VERSION);
        }
    }

    #[test]
    fn names_that_earlier_rules_let_in_are_read() {
        let directory = tempfile::tempdir().unwrap();
        let log = open(directory.path());
        let room = make_room(&*log, "r").unwrap();
        for text in ["1", "2", "3"] {
            append(&*log, program(1), vec![talk(&room, "a", text)]);
        }
        log.stop();
        drop(log);
        let long = "x".repeat(41);
        let connection = Connection::open(directory.path().join("sarangbang.db")).unwrap();
        let update = "UPDATE message SET sender = ?2 WHERE seq = ?1";
        for (seq, sender) in [(1, "\u{2800}"), (2, "a\nb"), (3, &*long)] {
            connection.execute(update, (seq, sender)).unwrap();
        }
        let rename = "UPDATE room SET name = '\u{34F}\u{1D159}'";
        connection.execute_batch(rename).unwrap();
        drop(connection);

        let log = open(directory.path());
        let room = log.room(room.id).unwrap();
        assert_eq!(room.name.as_str(), "\u{FFFD}");
        let senders = || {
            let messages = everything(&*log, &room);
            messages
                .into_iter()
                .map(|message| message.sender.to_string())
        };
        assert!(senders().eq(["\u{FFFD}", "a\u{FFFD}b", &long[1..]]));
        let said = append(&*log, program(1), vec![talk(&room, "a", "4")]);
        assert_eq!(said, Outcome::Appended);
        assert_eq!(senders().count(), 4);
        assert!(log.is_healthy());
        log.stop();
    }

    /// Holds a read transaction open, as a backup does.
    fn read_for_long(path: &Path) -> Connection {
        let reader = open_reader(path).unwrap();
        reader
            .execute_batch("BEGIN; SELECT count(*) FROM message")
            .unwrap();
        reader
    }

    #[test]
    fn after_a_long_read_the_write_ahead_log_is_small_again_and_nobody_was_held_up() {
        const LARGE: u64 = 64 << 20;
        let directory = tempfile::tempdir().unwrap();
        let log = open(directory.path());
        let room = make_room(&*log, "r").unwrap();
        let path = directory.path().join("sarangbang.db");
        let wal_bytes = || {
            std::fs::metadata(path.with_extension("db-wal"))
                .unwrap()
                .len()
        };
        let text = "가".repeat(4_000);
        let said = std::cell::Cell::new(0);
        let say = |messages: usize| {
            let begin = Instant::now();
            let messages = (0..messages)
                .map(|_| talk(&room, "a", &text))
                .collect::<Vec<_>>();
            said.set(said.get() + messages.len() as u64);
            assert_eq!(append(&*log, program(1), messages), Outcome::Appended);
            begin.elapsed()
        };
        // A second time too, and with commits going on while the reader ends.
        for commits_go_on in [false, true] {
            let reader = read_for_long(&path);
            while wal_bytes() <= LARGE {
                say(100);
            }
            drop(reader);
            let mut slowest = say(1);
            let begin = Instant::now();
            while wal_bytes() >= LARGE {
                assert!(
                    begin.elapsed() < Duration::from_secs(20),
                    "{} bytes",
                    wal_bytes()
                );
                if commits_go_on {
                    slowest = slowest.max(say(1));
                } else {
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
            println!(
                "small after {:?}; the slowest commit took {slowest:?}",
                begin.elapsed()
            );
            // And it stays so, copied by commits again.
            for _ in 0..10 {
                say(100);
            }
            assert!(wal_bytes() < LARGE, "{} bytes", wal_bytes());
        }
        assert!(log.is_healthy());
        assert_eq!(room.end(), said.get() + 1);
        log.stop();
    }

    #[test]
    fn damage_met_later_fails_the_request_and_readiness_for_good() {
        let directory = tempfile::tempdir().unwrap();
        let log = open(directory.path());
        let room = make_room(&*log, "r").unwrap();
        let text = "x".repeat(500);
        for _ in 0..50 {
            let messages = (0..100).map(|_| talk(&room, "a", &text)).collect();
            append(&*log, program(1), messages);
        }
        log.stop();
        drop(log);
        let path = directory.path().join("sarangbang.db");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[4_096 * 20..4_096 * 40].fill(0xA5);
        std::fs::write(&path, bytes).unwrap();

        let log = open(directory.path());
        let room = log.room(room.id).unwrap();
        assert!(log.is_healthy());
        let oldest = Range {
            before: None,
            after: Some(0),
            limit: 200,
        };
        assert!(history(&*log, &room, oldest).is_err());
        assert!(!log.is_healthy());
        assert_eq!(
            append(&*log, program(1), vec![talk(&room, "a", "y")]),
            Outcome::Failed
        );
        assert!(make_room(&*log, "r").is_err());
        let newest = Range {
            before: None,
            after: None,
            limit: 1,
        };
        assert!(history(&*log, &room, newest).is_ok());
        assert!(!log.is_healthy());
        log.stop();
    }
}
