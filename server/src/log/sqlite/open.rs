//! Opening the database: what is there is checked before anything of it is changed.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, DEFAULT_NAME, FileControl, OpenFlags};
use shared::chat::{RoomId, RoomName, Sender};
use thiserror::Error;
use time::OffsetDateTime;
use uuid::Uuid;

use super::super::budget::Budget;
use super::super::order::Rooms;
use super::super::tail::Figures;
use super::super::{Owner, Room};
use super::files::{self, Files, Identity, beside};
use super::is_damage;
use super::mark::{self, Mark, Marked, Newest};
use super::writer::{from_millis, instant, uuid};
use crate::data_dir;

/// `PRAGMA application_id` of our databases: "Srbg".
const APPLICATION_ID: i32 = 0x5372_6267;

/// `PRAGMA user_version` that this program writes; it reads all before it.
pub(super) const SCHEMA_VERSION: i32 = SCHEMAS.len() as i32;

/// How many of the newest entries are read at the start, to notice a damaged database.
const CHECKED_ENTRIES: u32 = 100;

/// What is kept of the write-ahead log's file when it begins anew.
const WAL_BYTES_KEPT: i64 = 16 << 20;

/// What each format adds to the one before it; a new database passes through all of them.
///
/// One append-only table in commit order, with an index by room: commits touch few pages however
/// many rooms there are. The index by id is nearly append-only too, as our own ids are UUIDv7.
const SCHEMAS: [&str; 4] = [
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
    "
CREATE TABLE epoch (
    number INTEGER PRIMARY KEY,                  -- the greatest is that of the log as it goes on
    id     BLOB NOT NULL                         -- 16 bytes, as a UUID
) STRICT;
INSERT INTO epoch (id) VALUES (randomblob(16));
",
    // Before, nobody was present after a restart.
    "
CREATE TABLE participant (
    room   INTEGER NOT NULL REFERENCES room (number),
    sender TEXT NOT NULL,                        -- as in their ENTER
    guest  BLOB CHECK (length(guest) = 16),      -- as a UUID; NULL for programs
    PRIMARY KEY (room, sender)
) STRICT, WITHOUT ROWID;
",
];

/// The first format that has an epoch, and a mark beside it.
pub(super) const MARKED_SINCE: i32 = 3;

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
        "{path} is damaged: {detail}. It is left as it is; put a backup in its place (sarangbang restore), or give another --data-dir"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// The database is behind what was acknowledged, or nobody can tell.
    #[error(
        "{path} is not what was acknowledged: {detail}. Its write-ahead log was lost, or an older copy was put in its place. It is left as it is: put the newest database back, together with its own {DATABASE}-wal, and without one (delete {DATABASE}-wal and -shm) if it has none; or start once with --accept-loss, which goes on from what is there, under a new epoch",
        DATABASE = data_dir::DATABASE
    )]
    Behind {
        /// The file.
        path: PathBuf,
        /// What is missing.
        detail: String,
    },
    /// The database cannot be opened for another reason.
    #[error(
        "cannot open {path}: {source}. Check that it can be read and written, and that the disk has room"
    )]
    Store {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
}

impl OpenError {
    /// What SQLite says of a database.
    pub(super) fn of(path: &Path, source: rusqlite::Error) -> Self {
        let path = path.to_owned();
        if is_damage(&source) {
            let detail = source.to_string();
            OpenError::Damaged { path, detail }
        } else {
            OpenError::Store { path, source }
        }
    }
}

/// Takes the data directory, which is made if it is missing, for this process alone. The lock file can
/// be deleted unnoticed, so the directory itself is locked too, and where the database is a link, a file
/// beside what it leads to.
pub(super) fn lock_directory(data_dir: &Path) -> Result<Vec<File>, OpenError> {
    let failed = |source| OpenError::Io {
        path: data_dir.to_owned(),
        source,
    };
    let locked = |taken: bool| match taken {
        true => Ok(()),
        false => Err(OpenError::Locked(data_dir.to_owned())),
    };
    let lock_file = |path: &Path| {
        let file = data_dir::writable().open(path).map_err(failed)?;
        locked(is_free(file.try_lock()).map_err(failed)?)?;
        Ok(file)
    };
    data_dir::make(data_dir).map_err(failed)?;
    let mut files = vec![lock_file(&data_dir.join(data_dir::LOCK))?];
    // Elsewhere a directory cannot be opened, and a file that is open cannot be deleted.
    if cfg!(unix) {
        let mut lock_directory = |directory: &Path, is_shared| {
            let file = File::open(directory).map_err(failed)?;
            let taken = match is_shared {
                true => file.try_lock_shared(),
                false => file.try_lock(),
            };
            match is_free(taken) {
                Ok(taken) => locked(taken)?,
                // Some file systems of a network lock files alone.
                Err(error) => tracing::info!(
                    "{} cannot be locked itself ({error}), so that all depends on {} in it: leave \
                     that where it is",
                    directory.display(),
                    data_dir::LOCK
                ),
            }
            files.push(file);
            Ok(())
        };
        let own = std::fs::canonicalize(data_dir).map_err(failed)?;
        lock_directory(&own, false)?;
        let database = std::fs::canonicalize(data_dir.join(data_dir::DATABASE)).ok();
        if let Some(database) = database
            && let Some(other) = database.parent().filter(|other| **other != own)
        {
            // Against who has that directory for its own; there may be others' databases in it.
            lock_directory(other, true)?;
            files.push(lock_file(&beside(&database, ".lock"))?);
        }
    }
    Ok(files)
}

/// Whether the lock was free.
fn is_free(tried: Result<(), std::fs::TryLockError>) -> std::io::Result<bool> {
    match tried {
        Ok(()) => Ok(true),
        Err(std::fs::TryLockError::WouldBlock) => Ok(false),
        Err(std::fs::TryLockError::Error(error)) => Err(error),
    }
}

/// A row of `room`.
pub(super) struct RoomRow {
    number: i64,
    id: RoomId,
    name: RoomName,
    created_at: OffsetDateTime,
    figures: Figures,
}

/// Somebody who has entered and not left.
pub(super) struct Participant {
    pub(super) room: i64,
    pub(super) sender: Sender,
    pub(super) owner: Owner,
}

/// A database that was found whole.
pub(super) struct Opened {
    pub(super) connection: Connection,
    pub(super) rooms: Vec<RoomRow>,
    pub(super) participants: Vec<Participant>,
    /// The time of the newest entry.
    pub(super) newest_sent_at: OffsetDateTime,
    pub(super) newest: Newest,
    pub(super) epoch: Uuid,
    pub(super) mark: Mark,
    /// The file itself, as it was before and after it was opened.
    pub(super) identity: Identity,
}

/// Opens the database, or makes it, and holds it against the mark beside it. One that is behind that is
/// taken only where `accepts_loss`, and under a new epoch.
pub(super) fn open_checked(path: &Path, accepts_loss: bool) -> Result<Opened, OpenError> {
    let io_failed = |source| OpenError::Io {
        path: path.to_owned(),
        source,
    };
    let mark_path = path.with_file_name(data_dir::MARK);
    let behind = |detail: &str| match accepts_loss {
        true => Ok(()),
        false => Err(OpenError::Behind {
            path: path.to_owned(),
            detail: detail.to_owned(),
        }),
    };
    let mut missing = None;
    let found = match mark::read(&mark_path) {
        Err(error) if error.kind() == ErrorKind::InvalidData => {
            let detail = format!("{} cannot be read ({error})", mark_path.display());
            behind(&detail)?;
            missing = Some(detail);
            None
        }
        found => found.map_err(io_failed)?,
    };
    let exists = check_header(path)?;
    let log = beside(path, "-wal");
    let log_bytes = std::fs::metadata(&log).map_or(0, |log| log.len());
    let is_acknowledged = found.is_some_and(|found| found.newest != Newest::default());
    if !exists {
        if is_acknowledged || log_bytes > 0 {
            behind("it is not there or empty, and files that belong to it are")?;
        }
        tracing::info!("{} is made: there was no database", path.display());
        // By us: SQLite would let others read it.
        data_dir::writable().open(path).map_err(io_failed)?;
    }
    let alone = (exists && log_bytes > 0).then(|| newest_alone(path));
    let identity = files::identify(path).map_err(io_failed)?;
    let failed = |source| OpenError::of(path, source);
    let mut connection = Connection::open(path).map_err(failed)?;
    // What is refused is left as it is.
    connection
        .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
        .map_err(failed)?;
    let format = read_format(path, &connection)?;
    let version = format.unwrap_or(0);
    if format.is_none() && is_acknowledged {
        behind("nothing is in it")?;
    }
    // In the middle of a copy from the write-ahead log the file alone need not say what it holds.
    if let (Some(alone), Some(found)) = (alone.flatten(), found)
        && alone.is_behind(found.base)
        && let Some(fault) = what_is_mixed(&connection, found.newest).map_err(failed)?
    {
        let detail = format!(
            "without {log} it ends with message {} and room {}, and held up to {} and {}; with it, \
             {fault}. So {log} is not its own: delete that and the -shm beside it, if you have put a \
             copy there, and start again",
            alone.message,
            alone.room,
            found.base.message,
            found.base.room,
            log = log.display(),
        );
        let path = path.to_owned();
        return Err(OpenError::Damaged { path, detail });
    }
    if format.is_none() {
        prepare_to_write(&connection).map_err(failed)?;
        upgrade(&mut connection, 0).map_err(failed)?;
    }
    let rooms = read_rooms(&connection).map_err(failed)?;
    let newest_sent_at = check_newest(&connection, &rooms)
        .map_err(failed)?
        .map_err(|detail| OpenError::Damaged {
            path: path.to_owned(),
            detail,
        })?;
    let newest = read_newest(&connection).map_err(failed)?;
    let epoch = match version {
        MARKED_SINCE.. => Some(read_epoch(&connection).map_err(failed)?),
        _ => None,
    };
    if let Some(detail) = found.and_then(|found| what_is_missing(&found, epoch, newest)) {
        behind(&detail)?;
        missing = Some(detail);
    }
    // What is there is changed only once it is found whole.
    prepare_to_write(&connection).map_err(failed)?;
    if format.is_some() && version < SCHEMA_VERSION {
        upgrade(&mut connection, version).map_err(failed)?;
    }
    if let Some(detail) = missing {
        begin_epoch(&connection).map_err(failed)?;
        tracing::warn!(
            "{}: {detail}. As --accept-loss says, it goes on from what is there, under a new epoch",
            path.display()
        );
    } else if found.is_none() && epoch.is_some() {
        begin_epoch(&connection).map_err(failed)?;
        tracing::warn!(
            "there was no {} beside {}, as with a copy: whether this is the newest nobody can tell, \
             so it goes on under a new epoch",
            data_dir::MARK,
            path.display()
        );
    }
    let epoch = read_epoch(&connection).map_err(failed)?;
    let participants = read_participants(&connection).map_err(failed)?;
    let mark = Mark::open(&mark_path, found, epoch, newest).map_err(|source| OpenError::Io {
        path: mark_path,
        source,
    })?;
    connection
        .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)
        .map_err(failed)?;
    // The files beside it stay, emptied: where the disk is full, there would be no room to make them.
    connection
        .file_control(DEFAULT_NAME, FileControl::PersistWal(&mut 1))
        .map_err(failed)?;
    if let Some(alone) = alone {
        tell_what_came_back(&log, alone, newest);
    }
    Ok(Opened {
        connection,
        rooms,
        participants,
        newest_sent_at,
        newest,
        epoch,
        mark,
        identity,
    })
}

/// The format of a database of ours; `None` where nothing is in it.
pub(super) fn read_format(path: &Path, connection: &Connection) -> Result<Option<i32>, OpenError> {
    let format = "SELECT (SELECT application_id FROM pragma_application_id),
                         (SELECT user_version FROM pragma_user_version),
                         (SELECT count(*) FROM sqlite_schema)";
    let (application, version, tables): (i32, i32, i64) = connection
        .query_row(format, [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .map_err(|source| OpenError::of(path, source))?;
    match (application, version) {
        (0, 0) if tables == 0 => Ok(None),
        (APPLICATION_ID, found) if found > SCHEMA_VERSION => Err(OpenError::Newer {
            path: path.to_owned(),
            found,
        }),
        (APPLICATION_ID, 1..=SCHEMA_VERSION) => Ok(Some(version)),
        (APPLICATION_ID, _) => Err(OpenError::Damaged {
            path: path.to_owned(),
            detail: format!("its format {version} never was"),
        }),
        _ => Err(OpenError::Foreign(path.to_owned())),
    }
}

/// Sets how the database is written, by the connection that does.
fn prepare_to_write(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "journal_size_limit", WAL_BYTES_KEPT)?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(())
}

/// Reads all of a database whose write-ahead log may be that of another; what is wrong with the two
/// together, if anything.
fn what_is_mixed(
    connection: &Connection,
    acknowledged: Newest,
) -> rusqlite::Result<Option<String>> {
    tracing::info!("checking the whole database, as its write-ahead log may be that of another");
    let look = || {
        let check = "PRAGMA integrity_check(1)";
        let found: String = connection.query_row(check, [], |row| row.get(0))?;
        if found != "ok" {
            return Ok(Some(found));
        }
        let is_behind = read_newest(connection)?.is_behind(acknowledged);
        Ok(is_behind.then(|| "it does not hold what was acknowledged".to_owned()))
    };
    match look() {
        Err(error) if is_damage(&error) => Ok(Some(error.to_string())),
        found => found,
    }
}

/// What the mark says that the database has not.
fn what_is_missing(found: &Marked, epoch: Option<Uuid>, newest: Newest) -> Option<String> {
    let acknowledged = found.newest;
    if acknowledged == Newest::default() {
        return None;
    }
    if newest.is_behind(acknowledged) {
        return Some(format!(
            "it ends with message {} and room {}, and up to message {} and room {} (counted over \
             all rooms) was acknowledged",
            newest.message, newest.room, acknowledged.message, acknowledged.room
        ));
    }
    (epoch != Some(found.epoch)).then(|| {
        format!(
            "it is of another epoch than {}: another database, or a copy from before a loss",
            data_dir::MARK
        )
    })
}

/// How far the database goes without its write-ahead log. Nobody has it open.
fn newest_alone(path: &Path) -> Option<Newest> {
    let mut url = url::Url::from_file_path(std::path::absolute(path).ok()?).ok()?;
    // Not even looked for, then.
    url.set_query(Some("immutable=1"));
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    // In the middle of a copy it need not be whole.
    let connection = Connection::open_with_flags(url.as_str(), flags).ok()?;
    let count = "SELECT count(*) FROM sqlite_schema";
    match connection.query_row(count, [], |row| row.get(0)) {
        // All of it is in the write-ahead log.
        Ok(0) => Some(Newest::default()),
        Ok(1..) => read_newest(&connection).ok(),
        _ => None,
    }
}

/// Tells how much was only in a write-ahead log that the last run left.
fn tell_what_came_back(log: &Path, alone: Option<Newest>, newest: Newest) {
    let log = log.display();
    match alone {
        Some(alone) => tracing::info!(
            "the last run ended without closing the database, as by a crash: {log} brought back {} \
             messages and {} rooms that the database did not hold yet",
            newest.message - alone.message,
            newest.room - alone.room
        ),
        None => tracing::info!(
            "the last run ended without closing the database, as by a crash: {log} completes it"
        ),
    }
}

/// Looks at the file's first bytes before SQLite may touch it (SQLite file format, section 1.3);
/// whether there are any.
pub(super) fn check_header(path: &Path) -> Result<bool, OpenError> {
    let failed = |source| OpenError::Io {
        path: path.to_owned(),
        source,
    };
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(failed(error)),
    };
    let mut header = Vec::with_capacity(16);
    file.by_ref()
        .take(16)
        .read_to_end(&mut header)
        .map_err(failed)?;
    check_names(path, &file)?;
    if header.is_empty() || header == b"SQLite format 3\0" {
        return Ok(!header.is_empty());
    }
    let detail = "it does not begin as a SQLite database does".to_owned();
    Err(OpenError::Damaged {
        path: path.to_owned(),
        detail,
    })
}

/// Looks whether a file of several names (hard links) is open by another of them: SQLite keeps a
/// write-ahead log for each name, and they would destroy the database together.
#[cfg(unix)]
fn check_names(path: &Path, file: &File) -> Result<(), OpenError> {
    use std::os::unix::fs::MetadataExt as _;
    let failed = |source| OpenError::Io {
        path: path.to_owned(),
        source,
    };
    if file.metadata().map_err(failed)?.nlink() < 2 {
        return Ok(());
    }
    // Whoever has it open in SQLite holds a shared lock of this kind.
    let file = File::options().write(true).open(path).map_err(failed)?;
    match rustix::fs::fcntl_lock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::ACCESS) => {
            Err(OpenError::Locked(path.to_owned()))
        }
        _ => {
            tracing::warn!(
                "{} is the same file as another by a hard link: a copy that is made so changes with \
                 it, and two processes on the two would destroy it",
                path.display()
            );
            Ok(())
        }
    }
}

#[cfg(not(unix))]
fn check_names(_: &Path, _: &File) -> Result<(), OpenError> {
    Ok(())
}

/// Reads a database that is open and was written by another program with new eyes: what was there is
/// there still, as far as the check at the start looks. What is wrong with it comes as a text.
///
/// # Errors
/// SQLite's, where it could not be read.
pub(super) fn reread(files: &Files, newest: Newest) -> rusqlite::Result<Result<(), String>> {
    match look_anew(files, newest) {
        Err(error) if is_damage(&error) => Ok(Err(error.to_string())),
        found => found,
    }
}

fn look_anew(files: &Files, newest: Newest) -> rusqlite::Result<Result<(), String>> {
    let path = files.database();
    let bytes = std::fs::metadata(path).map_or(0, |database| database.len());
    if bytes == 0 {
        // SQLite would delete the write-ahead log.
        return Ok(Err("it is empty".to_owned()));
    }
    let connection = open_reader(path)?;
    let pages: i64 = connection.pragma_query_value(None, "page_count", |row| row.get(0))?;
    let page_bytes: i64 = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
    // To compact it takes its end away too, and says so in it.
    if bytes < files.database_bytes() && bytes < (pages * page_bytes).unsigned_abs() {
        return Ok(Err("its end is missing".to_owned()));
    }
    let found = read_newest(&connection)?;
    if found.is_behind(newest) {
        return Ok(Err(format!(
            "it ends with message {} and room {}, and held up to {} and {}",
            found.message, found.room, newest.message, newest.room
        )));
    }
    let rooms = read_rooms(&connection)?;
    Ok(check_newest(&connection, &rooms)?.map(drop))
}

pub(super) fn read_newest(connection: &Connection) -> rusqlite::Result<Newest> {
    let newest = "SELECT (SELECT coalesce(max(position), 0) FROM message),
                         (SELECT coalesce(max(number), 0) FROM room)";
    connection.query_row(newest, [], |row| {
        Ok(Newest {
            message: row.get(0)?,
            room: row.get(1)?,
        })
    })
}

pub(super) fn read_epoch(connection: &Connection) -> rusqlite::Result<Uuid> {
    let epoch = "SELECT id FROM epoch ORDER BY number DESC LIMIT 1";
    connection.query_row(epoch, [], |row| uuid(row, 0))
}

/// From now on what clients know by its number may be something else.
pub(super) fn begin_epoch(connection: &Connection) -> rusqlite::Result<()> {
    let begin = "INSERT INTO epoch (id) VALUES (?1)";
    connection
        .execute(begin, [Uuid::new_v4().as_bytes()])
        .map(drop)
}

/// Makes an empty database of a format.
#[cfg(test)]
pub(super) fn make_format(connection: &Connection, format: i32) -> rusqlite::Result<()> {
    for schema in SCHEMAS.iter().take(format as usize) {
        connection.execute_batch(schema)?;
    }
    connection.pragma_update(None, "application_id", APPLICATION_ID)?;
    connection.pragma_update(None, "user_version", format)
}

/// Brings a database from a format to ours.
pub(super) fn upgrade(connection: &mut Connection, from: i32) -> rusqlite::Result<()> {
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
            name: RoomName::stored(row.get_ref(2)?.as_str()?),
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

fn read_participants(connection: &Connection) -> rusqlite::Result<Vec<Participant>> {
    let mut statement =
        connection.prepare("SELECT room, sender, guest FROM participant ORDER BY room, sender")?;
    let participants = statement.query_map([], |row| {
        let guest = row.get::<_, Option<[u8; 16]>>(2)?;
        Ok(Participant {
            room: row.get(0)?,
            sender: Sender::stored(row.get_ref(1)?.as_str()?),
            owner: guest.map(Uuid::from_bytes),
        })
    })?;
    participants.collect()
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

/// The rooms as they are kept in memory.
pub(super) fn rooms_of(rows: Vec<RoomRow>, budget: &Arc<Budget>) -> Rooms {
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

/// Opens a connection that only reads, with all its files.
pub(super) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.set_prepared_statement_cache_capacity(16);
    // SQLite opens the write-ahead log with the first read: now, and not when another may be there.
    connection.pragma_query_value(None, "schema_version", |_| Ok(()))?;
    Ok(connection)
}
