//! Opening the database: what is there is checked before anything of it is changed.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::{Connection, OpenFlags};
use shared::chat::{RoomId, RoomName};
use thiserror::Error;
use time::OffsetDateTime;

use super::super::Room;
use super::super::order::Rooms;
use super::super::tail::{Figures, RingBudget};
use super::is_damage;
use super::writer::{from_millis, instant, text, uuid};
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

/// Takes the data directory, which is made if it is missing, for this process alone.
pub(super) fn lock_directory(data_dir: &Path) -> Result<File, OpenError> {
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
pub(super) struct RoomRow {
    number: i64,
    id: RoomId,
    name: RoomName,
    created_at: OffsetDateTime,
    figures: Figures,
}

/// Opens the database, or makes it; gives the connection that writes, the rooms, and the time of the
/// newest entry.
pub(super) fn open_checked(
    path: &Path,
) -> Result<(Connection, Vec<RoomRow>, OffsetDateTime), OpenError> {
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

/// The rooms as they are kept in memory.
pub(super) fn rooms_of(rows: Vec<RoomRow>, budget: &Arc<RingBudget>) -> Rooms {
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

/// Opens a connection that only reads.
pub(super) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.set_prepared_statement_cache_capacity(16);
    Ok(connection)
}
