//! The log on disk: one SQLite database in the data directory.
//!
//! One connection writes, on the ordering thread; a few read. Write-ahead logging with
//! `synchronous=FULL`: a committed transaction survives the loss of power.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread::JoinHandle;

use rusqlite::{Connection, OpenFlags, OptionalExtension, params};
use shared::chat::{ChatMessage, MessageId, MessageType, RoomId, RoomName, Sender};
use thiserror::Error;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::data_dir;

use super::checkpoint::{Checkpoints, checkpoint};
use super::clock::{Clock, ReadClock};
use super::names::Names;
use super::order::{Command, Orderer, Queue, Rooms};
use super::pages::Readers;
use super::tail::{Figures, RingBudget, lock};
use super::{
    Batch, Done, Full, Log, Observer, Range, Record, Room, SessionNumber, Signal, StoreError,
};

/// `PRAGMA application_id` of our databases: "Srbg".
const APPLICATION_ID: i32 = 0x5372_6267;

/// `PRAGMA user_version` that this program writes; it reads all before it.
const SCHEMA_VERSION: i32 = SCHEMAS.len() as i32;

/// How many of the newest entries are read at the start, to notice a damaged database.
const CHECKED_ENTRIES: u32 = 100;

/// What is kept of the write-ahead log's file when it begins anew.
const WAL_BYTES_KEPT: i64 = 16 << 20;

/// After how many pages in the write-ahead log a commit copies them (SQLite's own default).
const CHECKPOINT_PAGES: i64 = 1_000;

/// Connections, and threads, that read.
const READERS: usize = 2;

/// What each format adds to the one before it; a new database passes through all of them.
///
/// One append-only table in commit order, with an index by room: commits touch few pages however
/// many rooms there are. The index by id is nearly append-only too, as our own ids are UUIDv7.
const SCHEMAS: [&str; 2] = [
    "
CREATE TABLE room (
    number          INTEGER PRIMARY KEY,
    id              BLOB NOT NULL UNIQUE,
    name            TEXT NOT NULL,
    created_at      INTEGER NOT NULL,            -- Unix time, milliseconds
    end             INTEGER NOT NULL DEFAULT 1,  -- one past the newest seq
    message_count   INTEGER NOT NULL DEFAULT 0,  -- TALK alone
    last_message_at INTEGER                      -- of the newest TALK
) STRICT;
CREATE TABLE message (
    position INTEGER PRIMARY KEY,                -- the order of commits, over all rooms
    room     INTEGER NOT NULL REFERENCES room (number),
    seq      INTEGER NOT NULL,                   -- the order in the room: 1, 2, 3 ...
    id       BLOB NOT NULL,
    type     INTEGER NOT NULL,                   -- 0 ENTER, 1 TALK, 2 LEAVE
    sender   TEXT NOT NULL,
    message  TEXT NOT NULL,
    sent_at  INTEGER NOT NULL                    -- Unix time, milliseconds
) STRICT;
CREATE UNIQUE INDEX message_by_room ON message (room, seq);
CREATE UNIQUE INDEX message_by_id ON message (id, room);
",
    "
CREATE TABLE clock_set_back (
    position INTEGER PRIMARY KEY                 -- of the first message from which on times begin anew
) STRICT;
",
];

/// Why a data directory cannot be used. Nothing in it has been changed.
#[derive(Debug, Error)]
pub(crate) enum OpenError {
    /// The directory or a file in it cannot be made or read.
    #[error(
        "cannot use the data directory {path}: {source}. Check that it exists, is writable and that the disk has room"
    )]
    Io {
        /// The path.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Another process has it.
    #[error(
        "the data directory {0} is in use by another sarangbang process. Stop that one, or give this one another --data-dir"
    )]
    Locked(PathBuf),
    /// Something else's database.
    #[error("{0} is not a sarangbang database. It is left as it is; give another --data-dir")]
    Foreign(PathBuf),
    /// A newer program's database.
    #[error(
        "{path} was written by a newer sarangbang (format {found}; this one reads up to {SCHEMA_VERSION}). It is left as it is; run the newer program"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: i32,
    },
    /// A damaged database.
    #[error(
        "{path} is damaged: {detail}. It is left as it is; restore it from a backup, or give another --data-dir"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// The database cannot be opened for another reason.
    #[error("cannot open {path}: {source}")]
    Store {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
}

/// Whether the store answers. Damage stays until the program is started on a whole database;
/// other faults, such as a full disk, are over with the next success of the same kind.
#[derive(Debug, Default)]
pub(super) struct Health {
    writes_fail: AtomicBool,
    reads_fail: AtomicBool,
    is_damaged: AtomicBool,
}

impl Health {
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
            tracing::error!(%error, "{advice}: the database is damaged; restore it from a backup");
        } else {
            tracing::error!(%error, "{advice}");
        }
    }

    fn is_good(&self) -> bool {
        let faults = [&self.writes_fail, &self.reads_fail, &self.is_damaged];
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

/// The log in SQLite; see the contract of [`Log`].
pub(crate) struct Sqlite {
    queue: Arc<Queue>,
    rooms: Arc<RwLock<Rooms>>,
    readers: Readers,
    health: Arc<Health>,
    orderer: Mutex<Option<JoinHandle<()>>>,
    /// Held for as long as the log is open; the operating system frees it when the process dies.
    _lock: File,
}

impl Sqlite {
    /// Opens the log in `data_dir`, which is made if it is missing.
    ///
    /// # Errors
    /// [`OpenError`] when the directory is in use, or what is there is not ours, newer or damaged.
    pub(crate) fn open(data_dir: &Path, observer: Arc<dyn Observer>) -> Result<Self, OpenError> {
        let clock = Box::new(OffsetDateTime::now_utc);
        Self::open_with(data_dir, observer, clock, |_| Ok(()))
    }

    /// As [`Sqlite::open`], by this clock; `prepare` gets the connection that writes.
    fn open_with(
        data_dir: &Path,
        observer: Arc<dyn Observer>,
        clock: ReadClock,
        prepare: impl FnOnce(&Connection) -> rusqlite::Result<()>,
    ) -> Result<Self, OpenError> {
        let lock = lock_directory(data_dir)?;
        let path = data_dir.join(data_dir::DATABASE);
        let (connection, rooms, newest) = open_checked(&path)?;
        data_dir::close(data_dir);
        let failed = |source| OpenError::Store {
            path: path.clone(),
            source,
        };
        prepare(&connection).map_err(failed)?;
        let readers = (0..READERS)
            .map(|_| open_reader(&path))
            .collect::<rusqlite::Result<Vec<_>>>()
            .map_err(failed)?;
        let mut clock = Clock::new(clock, newest);
        // Warns at once where the newest entry is ahead.
        clock.now();
        let budget = Arc::default();
        let rooms = Arc::new(RwLock::new(rooms_of(rooms, &budget)));
        let queue = Arc::new(Queue::default());
        let health = Arc::new(Health::default());
        let checkpoints = Checkpoints::new(&path, Arc::clone(&queue), Arc::clone(&health));
        let orderer = Orderer {
            queue: Arc::clone(&queue),
            writer: Writer { connection },
            rooms: Arc::clone(&rooms),
            budget,
            observer,
            health: Arc::clone(&health),
            names: Names::default(),
            clock,
            checkpoints,
        };
        let thread = std::thread::Builder::new()
            .name("log".into())
            .spawn(move || orderer.run())
            .map_err(|source| OpenError::Io {
                path: data_dir.to_owned(),
                source,
            })?;
        Ok(Sqlite {
            queue,
            rooms,
            readers: Readers::start(readers, Arc::clone(&health)),
            health,
            orderer: Mutex::new(Some(thread)),
            _lock: lock,
        })
    }
}

impl Log for Sqlite {
    fn append(&self, record: Record, done: Done, wake: &Arc<Signal>) -> Result<(), Full> {
        self.queue.append(record, done, wake)
    }

    fn create_room(
        &self,
        name: RoomName,
        done: Box<dyn FnOnce(Result<Arc<Room>, StoreError>) + Send>,
    ) {
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

    fn history(
        &self,
        room: &Arc<Room>,
        range: Range,
        done: Box<dyn FnOnce(Result<Vec<ChatMessage>, StoreError>) + Send>,
    ) {
        self.readers.history(room, range, done);
    }

    fn page(
        &self,
        room: &Arc<Room>,
        seq: u64,
        done: Box<dyn FnOnce(Result<Arc<Batch>, StoreError>) + Send>,
    ) {
        self.readers.page(room, seq, done);
    }

    fn seq_at(
        &self,
        room: &Arc<Room>,
        time: OffsetDateTime,
        done: Box<dyn FnOnce(Result<u64, StoreError>) + Send>,
    ) {
        self.readers.seq_at(room, time, done);
    }

    fn is_healthy(&self) -> bool {
        self.health.is_good()
    }

    fn probe(&self) {
        self.queue.probe();
    }

    fn stop(&self) {
        self.queue.stop();
        let thread = lock(&self.orderer).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the log's thread had failed");
        }
        self.readers.stop();
    }
}

fn lock_directory(data_dir: &Path) -> Result<File, OpenError> {
    let failed = |source| OpenError::Io {
        path: data_dir.to_owned(),
        source,
    };
    data_dir::make(data_dir).map_err(failed)?;
    let path = data_dir.join(data_dir::LOCK);
    let file = data_dir::writable().open(path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(OpenError::Locked(data_dir.to_owned())),
        Err(std::fs::TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// A row of `room`.
struct RoomRow {
    number: i64,
    id: RoomId,
    name: RoomName,
    created_at: OffsetDateTime,
    figures: Figures,
}

fn open_checked(path: &Path) -> Result<(Connection, Vec<RoomRow>, OffsetDateTime), OpenError> {
    check_header(path)?;
    let failed = |source: rusqlite::Error| {
        let path = path.to_owned();
        if is_damage(&source) {
            let detail = source.to_string();
            OpenError::Damaged { path, detail }
        } else {
            OpenError::Store { path, source }
        }
    };
    let mut connection = Connection::open(path).map_err(failed)?;
    let (application, version, tables) = connection
        .query_row(
            "SELECT (SELECT application_id FROM pragma_application_id),
                    (SELECT user_version FROM pragma_user_version),
                    (SELECT count(*) FROM sqlite_schema)",
            [],
            |row| {
                Ok((
                    row.get::<_, i32>(0)?,
                    row.get::<_, i32>(1)?,
                    row.get::<_, i64>(2)?,
                ))
            },
        )
        .map_err(failed)?;
    match (application, version) {
        (0, 0) if tables == 0 => {}
        (APPLICATION_ID, found) if found > SCHEMA_VERSION => {
            return Err(OpenError::Newer {
                path: path.to_owned(),
                found,
            });
        }
        (APPLICATION_ID, 1..=SCHEMA_VERSION) => {}
        (APPLICATION_ID, _) => {
            let detail = format!("its format {version} never was");
            return Err(OpenError::Damaged {
                path: path.to_owned(),
                detail,
            });
        }
        _ => return Err(OpenError::Foreign(path.to_owned())),
    }
    connection
        .pragma_update(None, "journal_mode", "WAL")
        .map_err(failed)?;
    connection
        .pragma_update(None, "synchronous", "FULL")
        .map_err(failed)?;
    connection
        .pragma_update(None, "journal_size_limit", WAL_BYTES_KEPT)
        .map_err(failed)?;
    connection.set_prepared_statement_cache_capacity(32);
    if tables == 0 {
        upgrade(&mut connection, 0).map_err(failed)?;
    }
    let rooms = read_rooms(&connection).map_err(failed)?;
    let newest = check_newest(&connection, &rooms)
        .map_err(failed)?
        .map_err(|detail| OpenError::Damaged {
            path: path.to_owned(),
            detail,
        })?;
    // What is older is changed only once it is found whole.
    if tables > 0 && version < SCHEMA_VERSION {
        upgrade(&mut connection, version).map_err(failed)?;
    }
    Ok((connection, rooms, newest))
}

/// Looks at the file's first bytes before SQLite may touch it (SQLite file format, section 1.3).
fn check_header(path: &Path) -> Result<(), OpenError> {
    let failed = |source| OpenError::Io {
        path: path.to_owned(),
        source,
    };
    let mut file = match File::open(path) {
        Ok(file) => file,
        // Made here: SQLite would let others read it.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return data_dir::writable().open(path).map(drop).map_err(failed);
        }
        Err(error) => return Err(failed(error)),
    };
    let mut header = Vec::with_capacity(16);
    file.by_ref()
        .take(16)
        .read_to_end(&mut header)
        .map_err(failed)?;
    if header.is_empty() || header == b"SQLite format 3\0" {
        return Ok(());
    }
    let detail = "it does not begin as a SQLite database does".to_owned();
    Err(OpenError::Damaged {
        path: path.to_owned(),
        detail,
    })
}

/// Brings a database from a format to ours.
fn upgrade(connection: &mut Connection, from: i32) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    for schema in SCHEMAS.iter().skip(from as usize) {
        transaction.execute_batch(schema)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    transaction.commit()
}

fn read_rooms(connection: &Connection) -> rusqlite::Result<Vec<RoomRow>> {
    let mut statement = connection.prepare(
        "SELECT number, id, name, created_at, end, message_count, last_message_at
         FROM room ORDER BY number",
    )?;
    let rows = statement.query_map([], |row| {
        Ok(RoomRow {
            number: row.get(0)?,
            id: RoomId(uuid(row, 1)?),
            name: text(row, 2, |name| RoomName::parse(name).ok())?,
            created_at: instant(row, 3)?,
            figures: Figures {
                end: row.get::<_, i64>(4)?.unsigned_abs(),
                message_count: row.get::<_, i64>(5)?.unsigned_abs(),
                participant_count: 0,
                last_message_at: row.get::<_, Option<i64>>(6)?.map(from_millis).transpose()?,
            },
        })
    })?;
    rows.collect()
}

/// Reads the newest entries and holds them against the rooms; gives the time of the newest.
fn check_newest(
    connection: &Connection,
    rooms: &[RoomRow],
) -> rusqlite::Result<Result<OffsetDateTime, String>> {
    let mut statement = connection.prepare(
        "SELECT message.room, message.seq, message.id, message.sent_at, length(message.message)
         FROM message ORDER BY position DESC LIMIT ?1",
    )?;
    let mut rows = statement.query([CHECKED_ENTRIES])?;
    let mut newest = std::collections::BTreeMap::new();
    let mut newest_sent_at = None;
    while let Some(row) = rows.next()? {
        let (room, seq): (i64, i64) = (row.get(0)?, row.get(1)?);
        uuid(row, 2)?;
        let sent_at = instant(row, 3)?;
        newest_sent_at.get_or_insert(sent_at);
        newest.entry(room).or_insert(seq.unsigned_abs());
    }
    for (number, seq) in newest {
        let end = rooms
            .binary_search_by_key(&number, |room| room.number)
            .map(|index| rooms[index].figures.end);
        if end != Ok(seq + 1) {
            return Ok(Err(format!(
                "room {number} does not end with its newest message {seq}"
            )));
        }
    }
    Ok(Ok(newest_sent_at.unwrap_or(OffsetDateTime::UNIX_EPOCH)))
}

fn rooms_of(rows: Vec<RoomRow>, budget: &Arc<RingBudget>) -> Rooms {
    let mut rooms = Rooms::default();
    for row in rows {
        let budget = Arc::clone(budget);
        let room = Room::new(
            row.number,
            row.id,
            row.name,
            row.created_at,
            row.figures,
            budget,
        );
        let room = Arc::new(room);
        rooms.by_id.insert(room.id, Arc::clone(&room));
        rooms.in_order.push(room);
    }
    rooms
}

fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.set_prepared_statement_cache_capacity(16);
    Ok(connection)
}

/// A message on its way into the store.
pub(super) struct Stored<'a> {
    pub(super) room: i64,
    pub(super) message: &'a ChatMessage,
}

/// The connection that writes.
pub(super) struct Writer {
    connection: Connection,
}

impl Writer {
    pub(super) fn begin(&self) -> rusqlite::Result<()> {
        self.connection
            .prepare_cached("BEGIN IMMEDIATE")?
            .execute([])
            .map(drop)
    }

    /// Writes something in a transaction that changes nothing.
    pub(super) fn touch(&self) -> rusqlite::Result<()> {
        self.connection
            .pragma_update(None, "user_version", SCHEMA_VERSION)
    }

    pub(super) fn insert_room(
        &self,
        name: &RoomName,
        now: OffsetDateTime,
    ) -> rusqlite::Result<(i64, RoomId)> {
        let id = RoomId(Uuid::new_v4());
        self.connection
            .prepare_cached("INSERT INTO room (id, name, created_at) VALUES (?1, ?2, ?3)")?
            .execute(params![id.0.as_bytes(), name.as_str(), millis(now)])?;
        Ok((self.connection.last_insert_rowid(), id))
    }

    /// Notes that from the next message on times begin anew.
    pub(super) fn note_clock_set_back(&self) -> rusqlite::Result<()> {
        self.connection
            .prepare_cached(
                "INSERT OR IGNORE INTO clock_set_back
                 SELECT coalesce(max(position), 0) + 1 FROM message",
            )?
            .execute([])
            .map(drop)
    }

    /// Who sent the message of this id in this room, if there is one.
    pub(super) fn sender_of(&self, room: i64, id: MessageId) -> rusqlite::Result<Option<String>> {
        self.connection
            .prepare_cached("SELECT sender FROM message WHERE id = ?1 AND room = ?2")?
            .query_row(params![id.0.as_bytes(), room], |row| row.get(0))
            .optional()
    }

    pub(super) fn insert_message(&self, stored: &Stored<'_>) -> rusqlite::Result<()> {
        let message = stored.message;
        self.connection
            .prepare_cached(
                "INSERT INTO message (room, seq, id, type, sender, message, sent_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?
            .execute(params![
                stored.room,
                message.seq.cast_signed(),
                message.id.0.as_bytes(),
                message.kind as i64,
                message.sender.as_str(),
                message.message,
                millis(message.sent_at),
            ])
            .map(drop)
    }

    /// Writes the rooms' figures and commits: when it returns, everything is on disk.
    pub(super) fn commit(
        &self,
        figures: impl Iterator<Item = (i64, Figures)>,
    ) -> rusqlite::Result<()> {
        let mut update = self.connection.prepare_cached(
            "UPDATE room SET end = ?2, message_count = ?3, last_message_at = ?4 WHERE number = ?1",
        )?;
        for (number, figures) in figures {
            update.execute(params![
                number,
                figures.end.cast_signed(),
                figures.message_count.cast_signed(),
                figures.last_message_at.map(millis),
            ])?;
        }
        self.connection
            .prepare_cached("COMMIT")?
            .execute([])
            .map(drop)
    }

    /// Whether commits copy from the write-ahead log.
    pub(super) fn checkpoint_itself(&self, itself: bool) -> rusqlite::Result<()> {
        let pages = if itself { CHECKPOINT_PAGES } else { 0 };
        self.connection
            .pragma_update(None, "wal_autocheckpoint", pages)
    }

    /// Copies from the write-ahead log.
    pub(super) fn checkpoint(&self) -> rusqlite::Result<bool> {
        checkpoint(&self.connection)
    }

    pub(super) fn roll_back(&self) {
        if !self.connection.is_autocommit()
            && let Err(error) = self.connection.execute_batch("ROLLBACK")
        {
            tracing::error!(%error, "the failed transaction could not be rolled back");
        }
    }

    pub(super) fn close(self) {
        if let Err((_, error)) = self.connection.close() {
            tracing::error!(%error, "the message store could not be closed");
        }
    }
}

/// The columns that [`read_message`] reads.
pub(super) const MESSAGE_COLUMNS: &str = "seq, id, type, sender, message, sent_at";

/// Reads a row of [`MESSAGE_COLUMNS`].
pub(super) fn read_message(row: &rusqlite::Row<'_>, room: RoomId) -> rusqlite::Result<ChatMessage> {
    let kind = match row.get::<_, i64>(2)? {
        0 => MessageType::Enter,
        1 => MessageType::Talk,
        2 => MessageType::Leave,
        other => return Err(rusqlite::Error::IntegralValueOutOfRange(2, other)),
    };
    Ok(ChatMessage {
        kind,
        room_id: room,
        sender: text(row, 3, |sender| Sender::parse(sender).ok())?,
        message: row.get(4)?,
        id: MessageId(uuid(row, 1)?),
        seq: row.get::<_, i64>(0)?.unsigned_abs(),
        sent_at: instant(row, 5)?,
    })
}

fn uuid(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Uuid> {
    row.get::<_, [u8; 16]>(column).map(Uuid::from_bytes)
}

fn text<T>(
    row: &rusqlite::Row<'_>,
    column: usize,
    parse: impl FnOnce(&str) -> Option<T>,
) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    parse(&text).ok_or(rusqlite::Error::InvalidColumnType(
        column,
        "a text out of its bounds".to_owned(),
        rusqlite::types::Type::Text,
    ))
}

fn instant(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<OffsetDateTime> {
    from_millis(row.get(column)?)
}

fn from_millis(millis: i64) -> rusqlite::Result<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000)
        .map_err(|_| rusqlite::Error::IntegralValueOutOfRange(0, millis))
}

/// Unix time in milliseconds.
pub(super) fn millis(time: OffsetDateTime) -> i64 {
    i64::try_from(time.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX)
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
        self, Nobody, append, everything, history, make_room, program, seq_at, talk,
    };
    use super::*;

    fn open(directory: &Path) -> Box<dyn Log> {
        Box::new(Sqlite::open(directory, Arc::new(Nobody)).unwrap())
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
            Sqlite::open_with(directory, Arc::new(Nobody), Box::new(read), |_| Ok(())).unwrap()
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
    fn a_database_of_the_first_format_is_brought_to_ours() {
        let directory = tempfile::tempdir().unwrap();
        let log = open(directory.path());
        let room = make_room(&*log, "r").unwrap();
        append(&*log, program(1), vec![talk(&room, "a", "x")]);
        log.stop();
        drop(log);
        let path = directory.path().join("sarangbang.db");
        let first = "DROP TABLE clock_set_back; PRAGMA user_version = 1";
        Connection::open(&path)
            .unwrap()
            .execute_batch(first)
            .unwrap();

        let log = open(directory.path());
        let room = log.room(room.id).unwrap();
        let messages = everything(&*log, &room);
        assert_eq!(messages.len(), 1);
        assert_eq!(seq_at(&*log, &room, messages[0].sent_at), 1);
        log.stop();
        let version: i32 = Connection::open(&path)
            .unwrap()
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .unwrap();
        assert_eq!(version, SCHEMA_VERSION);
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
        append(&*log, program(1), vec![talk(&room, "a", "y")]);
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
