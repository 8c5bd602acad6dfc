//! The room log: the seam between the chat and what keeps it.
//!
//! **A room is a log, a subscription is a cursor on it.** Everything a room's subscribers see comes
//! out of here in the log's committed order, the sender's own messages too. The log knows nothing
//! of STOMP sessions, WebSocket or HTTP.
//!
//! `order` takes what sessions send in one order, lets `admit` decide on it, and commits it; `sqlite`
//! keeps it on disk; `tail` holds each room's newest entries, encoded once, and wakes who follows it.

mod activity;
mod admit;
mod answer;
pub(crate) mod batch;
pub(crate) mod budget;
mod checkpoint;
mod clock;
#[cfg(test)]
mod conformance;
pub(crate) mod followers;
mod grace;
mod order;
mod pages;
pub(crate) mod sqlite;
pub(crate) mod tail;
mod thread;

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use shared::chat::{ChatMessage, ChatRoom, MessageId, NewMessage, RoomId, RoomName, Sender};
use thiserror::Error;
use time::OffsetDateTime;
use uuid::Uuid;

pub(crate) use self::answer::Answer;
pub(crate) use self::batch::Batch;
pub(crate) use self::followers::Followers;
pub(crate) use self::tail::{Read, Room, Signal};

/// The number of a session, unique while the process lives.
pub(crate) type SessionNumber = u64;

/// Whose a name is: a guest's, or all programs' together.
pub(crate) type Owner = Option<Uuid>;

/// Whose session sends: decides which names are free to it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin {
    /// The session.
    pub(crate) session: SessionNumber,
    /// The browser's guest; `None` for a program, which brings no cookie.
    pub(crate) guest: Owner,
}

/// What is appended together or not at all: 1..n messages of one session.
#[derive(Debug)]
pub(crate) struct Record {
    /// Who sends.
    pub(crate) origin: Origin,
    /// The messages, in their order.
    pub(crate) messages: Vec<NewMessage>,
}

impl Record {
    /// What it weighs in the queue, in bytes.
    fn weight(&self) -> usize {
        self.messages
            .iter()
            .map(|message| 256 + message.weight())
            .sum()
    }
}

/// What became of a [`Record`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Outcome {
    /// On disk; or nothing was to be stored, because it is there already (the same message, a
    /// second ENTER, a LEAVE of one who is not present).
    Appended,
    /// Refused at the moment of ordering; nothing of it is stored.
    Refused {
        /// The first message that was refused.
        index: usize,
        /// Its id, where the sender chose one.
        id: Option<MessageId>,
        /// Why.
        reason: Reason,
    },
    /// The store failed; nothing of it is stored. It may be sent again.
    Failed,
}

/// Why the log refused a message.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub(crate) enum Reason {
    /// The room does not exist.
    #[error("there is no such room")]
    NoSuchRoom,
    /// Another guest who is in the room holds the name.
    #[error("this name is taken in this room; choose another")]
    NameTaken,
    /// The session has another name in this room.
    #[error("this session has another name in this room; send LEAVE before taking a new one")]
    NameDiffers,
    /// The id is that of another sender's message in this room.
    #[error("this `id` is another sender's in this room; choose a new UUID")]
    IdTaken,
}

/// How much a log holds, and how much waits at it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Load {
    /// Rooms.
    pub(crate) rooms: usize,
    /// People present, each once a room.
    pub(crate) participants: u64,
    /// Records that wait to be ordered.
    pub(crate) appends: usize,
    /// What those weigh, in bytes.
    pub(crate) append_bytes: usize,
    /// Reads of cursors that wait.
    pub(crate) cursor_reads: usize,
    /// Reads for HTTP that wait.
    pub(crate) http_reads: usize,
    /// Bytes of the newest entries, with all their forms, that are kept in memory.
    pub(crate) ring_bytes: usize,
    /// The size of the database.
    pub(crate) database_bytes: u64,
    /// The size of its write-ahead log.
    pub(crate) write_ahead_log_bytes: u64,
}

/// Told when a record's fate is known.
pub(crate) type Done = Answer<Outcome>;

/// The log cannot take more now; the record comes back, and the signal fires when it can.
pub(crate) struct Full(pub(crate) Record, pub(crate) Done);

/// What the store could not do.
#[derive(Clone, Debug, Error)]
pub(crate) enum StoreError {
    /// It failed to answer; the reason is in the server's log.
    #[error("the message store does not answer; try again later")]
    Unavailable,
    /// Too much is asked of it at once.
    #[error("the message store is busy; try again in a moment")]
    Busy,
}

/// Which messages [`Log::history`] gives, oldest first (contract, section 1).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Range {
    /// Only those with a smaller `seq`.
    pub(crate) before: Option<u64>,
    /// Only those with a greater `seq`; then the oldest of them, else the newest.
    pub(crate) after: Option<u64>,
    /// At most so many.
    pub(crate) limit: u32,
}

/// What has changed about who is in a room.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Presence {
    /// Somebody is present from now on.
    Entered {
        /// Their name.
        sender: Sender,
        /// Whose it is.
        owner: Owner,
    },
    /// Somebody is not present any more.
    Left {
        /// The name that they had entered under.
        sender: Sender,
    },
}

/// Tells whoever shows rooms that a room was made or its figures changed. Must not block.
pub(crate) trait Observer: Send + Sync {
    /// The room is new.
    fn made(&self, room: &Arc<Room>);
    /// Its figures have changed.
    fn changed(&self, room: &Arc<Room>);
    /// Who is in it has changed. Called in the order of the log; at the start for all who are present.
    fn presence(&self, room: &Arc<Room>, presence: Presence);
}

/// The seam: one ordered, durable log for all rooms.
///
/// - **Order**: records of one session are appended in the order of the calls; each room has one
///   order, which is that of `seq` (1, 2, 3 …, no gaps), the same for everybody.
/// - **Atomicity**: a record is appended whole or not at all, also when the process dies.
/// - **Durability**: `done` is called after the commit is on disk, and no reader of a [`Room`] sees
///   an entry before that.
/// - **Decisions** that must hold at the moment of ordering (an id unused, a name free) are made
///   there, and nowhere else.
/// - **Answers**: each is told once, also where a thread of the log panics: then it says that it
///   failed, unless it was decided. A thread that ends so is the log's death: the server ends too.
/// - **Bounds**: what waits to be appended is bounded; past that `append` gives the record back.
pub(crate) trait Log: Send + Sync {
    /// Appends a record; `done` learns what became of it.
    ///
    /// # Errors
    /// [`Full`] when too much waits; `wake` is signalled when there is room again.
    fn append(&self, record: Record, done: Done, wake: &Arc<Signal>) -> Result<(), Full>;

    /// Makes a room; `done` is called when it is on disk.
    fn create_room(&self, name: RoomName, done: Answer<Result<Arc<Room>, StoreError>>);

    /// Frees the names of a session that has ended, and begins the grace of who was present by it alone.
    /// What it sent before stays in order before this.
    fn release(&self, session: SessionNumber);

    /// The room, if it exists.
    fn room(&self, id: RoomId) -> Option<Arc<Room>>;

    /// All rooms in the order of their creation.
    fn rooms(&self) -> Vec<Arc<Room>>;

    /// At most `limit` rooms in the order of their creation, of those after a room.
    fn rooms_by_creation(&self, after: Option<&Room>, limit: usize) -> Vec<Arc<Room>>;

    /// At most `limit` rooms with the newest activity first (the last TALK, else the making), of those
    /// after a room.
    fn rooms_by_activity(&self, after: Option<&Room>, limit: usize) -> Vec<Arc<Room>>;

    /// Reads messages of a room, oldest first.
    fn history(
        &self,
        room: &Arc<Room>,
        range: Range,
        done: Answer<Result<Vec<ChatMessage>, StoreError>>,
    );

    /// Reads entries from `seq` on, encoded for delivery, as far as one page goes. Readers of the
    /// same page share it.
    fn page(&self, room: &Arc<Room>, seq: u64, done: Answer<Result<Arc<Batch>, StoreError>>);

    /// Finds the first `seq` whose `sentAt` is at or after `time`; one past the end if none is.
    fn seq_at(&self, room: &Arc<Room>, time: OffsetDateTime, done: Answer<Result<u64, StoreError>>);

    /// Tells one course of the log from another: where entries that were acknowledged are lost and it
    /// goes on all the same, there is a new one, and a `seq` may be another message's than before.
    fn epoch(&self) -> Uuid;

    /// Whether the store answers and holds what it should, by its latest attempts, and none of the
    /// log's threads has panicked.
    fn is_healthy(&self) -> bool;

    /// Attempts to write, so that [`Log::is_healthy`] comes to know.
    fn probe(&self);

    /// How much there is, and how much waits.
    fn load(&self) -> Load;

    /// Lets go of what is kept for readers who have come by now, and of the memory that a load has
    /// left. To be called every few seconds.
    fn tidy(&self, now: Instant);

    /// Commits what waits, then stops. Later appends get [`Outcome::Failed`].
    fn stop(&self);
}

/// Encodes a stored message for delivery: everything of its MESSAGE after the `subscription`
/// header, to the NUL. Its `message-id` is the room's id, a hyphen and `seq`: from it alone a session
/// knows what an ACK is about.
pub(crate) fn encode(message: &ChatMessage, out: &mut Vec<u8>) {
    let mut body = Vec::with_capacity(message.message.len() + 320);
    serde_json::to_writer(&mut body, message).expect("a ChatMessage is valid JSON");
    let destination = shared::destination::Destination::Room(message.room_id).to_string();
    let offset = message.seq.to_string();
    let message_id = format!("{}-{offset}", message.room_id);
    shared::stomp::message_rest(
        &[
            ("destination", &destination),
            ("content-type", "application/json"),
            ("message-id", &message_id),
            ("x-stream-offset", &offset),
        ],
        &body,
        out,
    )
    .expect("these header values need no escaping");
}

/// The room's public form with its figures of this moment.
pub(crate) fn show(room: &Room) -> ChatRoom {
    let figures = room.figures();
    ChatRoom {
        room_id: room.id,
        room_name: room.name.clone(),
        created_at: room.created_at,
        message_count: figures.message_count,
        participant_count: figures.participant_count,
        last_message_at: figures.last_message_at,
    }
}

/// One encoded MESSAGE of a state (not of a log), shared by all who are sent it.
pub(crate) type Encoded = Bytes;
