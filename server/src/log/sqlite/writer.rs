//! The connection that writes, and how rows are read back.

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OptionalExtension, params};
use shared::chat::{ChatMessage, MessageId, MessageType, RoomId, RoomName, Sender};
use time::OffsetDateTime;
use uuid::Uuid;

use super::super::Owner;
use super::super::checkpoint::checkpoint;
use super::super::tail::Figures;
use super::open::SCHEMA_VERSION;

/// After how many pages in the write-ahead log a commit copies them (SQLite's own default).
const CHECKPOINT_PAGES: i64 = 1_000;

/// A message on its way into the store.
pub(in crate::log) struct Stored<'a> {
    pub(in crate::log) room: i64,
    pub(in crate::log) message: &'a ChatMessage,
}

/// The connection that writes.
pub(in crate::log) struct Writer {
    pub(super) connection: Connection,
}

impl Writer {
    pub(in crate::log) fn begin(&self) -> rusqlite::Result<()> {
        self.connection
            .prepare_cached("BEGIN IMMEDIATE")?
            .execute([])
            .map(drop)
    }

    pub(in crate::log) fn rest(&self) {
        super::rest(&self.connection);
    }

    /// Writes something in a transaction that changes nothing.
    pub(in crate::log) fn touch(&self) -> rusqlite::Result<()> {
        self.connection
            .pragma_update(None, "user_version", SCHEMA_VERSION)
    }

    pub(in crate::log) fn insert_room(
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
    pub(in crate::log) fn note_clock_set_back(&self) -> rusqlite::Result<()> {
        self.connection
            .prepare_cached(
                "INSERT OR IGNORE INTO clock_set_back
                 SELECT coalesce(max(position), 0) + 1 FROM message",
            )?
            .execute([])
            .map(drop)
    }

    /// Who sent the message of this id in this room, if there is one.
    pub(in crate::log) fn sender_of(
        &self,
        room: i64,
        id: MessageId,
    ) -> rusqlite::Result<Option<String>> {
        self.connection
            .prepare_cached("SELECT sender FROM message WHERE id = ?1 AND room = ?2")?
            .query_row(params![id.0.as_bytes(), room], |row| {
                // Whatever it is: nobody else's message takes its place.
                let sender = row.get_ref(0)?.as_bytes().unwrap_or_default();
                Ok(String::from_utf8_lossy(sender).into_owned())
            })
            .optional()
    }

    /// Gives its position over all rooms.
    pub(in crate::log) fn insert_message(&self, stored: &Stored<'_>) -> rusqlite::Result<i64> {
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
            ])?;
        Ok(self.connection.last_insert_rowid())
    }

    /// Notes that somebody is present.
    pub(in crate::log) fn insert_participant(
        &self,
        room: i64,
        sender: &Sender,
        owner: Owner,
    ) -> rusqlite::Result<()> {
        self.connection
            .prepare_cached(
                "INSERT OR REPLACE INTO participant (room, sender, guest) VALUES (?1, ?2, ?3)",
            )?
            .execute(params![
                room,
                sender.as_str(),
                owner.as_ref().map(Uuid::as_bytes)
            ])
            .map(drop)
    }

    /// Notes that somebody is not present any more.
    pub(in crate::log) fn delete_participant(
        &self,
        room: i64,
        sender: &Sender,
    ) -> rusqlite::Result<()> {
        self.connection
            .prepare_cached("DELETE FROM participant WHERE room = ?1 AND sender = ?2")?
            .execute(params![room, sender.as_str()])
            .map(drop)
    }

    /// Writes the rooms' figures and commits: when it returns, everything is on disk.
    pub(in crate::log) fn commit(
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
    pub(in crate::log) fn checkpoint_itself(&self, itself: bool) -> rusqlite::Result<()> {
        let pages = if itself { CHECKPOINT_PAGES } else { 0 };
        self.connection
            .pragma_update(None, "wal_autocheckpoint", pages)
    }

    /// Copies from the write-ahead log.
    pub(in crate::log) fn checkpoint(&self) -> rusqlite::Result<bool> {
        checkpoint(&self.connection)
    }

    pub(in crate::log) fn roll_back(&self) {
        if !self.connection.is_autocommit()
            && let Err(error) = self.connection.execute_batch("ROLLBACK")
        {
            tracing::error!(%error, "the failed transaction could not be rolled back");
        }
    }

    /// Leaves the database and its write-ahead log as they are when it is closed.
    pub(in crate::log) fn leave_as_it_is(&self) {
        let leave = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
        if let Err(error) = self.connection.set_db_config(leave, true) {
            tracing::error!(%error, "the message store is not left as it is");
        }
    }

    pub(in crate::log) fn close(self) {
        if let Err((_, error)) = self.connection.close() {
            tracing::error!(%error, "the message store could not be closed");
        }
    }
}

/// The columns that [`read_message`] reads.
pub(in crate::log) const MESSAGE_COLUMNS: &str = "seq, id, type, sender, message, sent_at";

/// Reads a row of [`MESSAGE_COLUMNS`].
pub(in crate::log) fn read_message(
    row: &rusqlite::Row<'_>,
    room: RoomId,
) -> rusqlite::Result<ChatMessage> {
    let kind = match row.get::<_, i64>(2)? {
        0 => MessageType::Enter,
        1 => MessageType::Talk,
        2 => MessageType::Leave,
        other => return Err(rusqlite::Error::IntegralValueOutOfRange(2, other)),
    };
    Ok(ChatMessage {
        kind,
        room_id: room,
        sender: Sender::stored(row.get_ref(3)?.as_str()?),
        message: row.get(4)?,
        id: MessageId(uuid(row, 1)?),
        seq: row.get::<_, i64>(0)?.unsigned_abs(),
        sent_at: instant(row, 5)?,
    })
}

pub(super) fn uuid(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Uuid> {
    row.get::<_, [u8; 16]>(column).map(Uuid::from_bytes)
}

pub(super) fn instant(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<OffsetDateTime> {
    from_millis(row.get(column)?)
}

pub(super) fn from_millis(millis: i64) -> rusqlite::Result<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000)
        .map_err(|_| rusqlite::Error::IntegralValueOutOfRange(0, millis))
}

/// Unix time in milliseconds.
pub(in crate::log) fn millis(time: OffsetDateTime) -> i64 {
    i64::try_from(time.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX)
}
