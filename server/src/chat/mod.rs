//! The chat: what a message must pass before the log orders it, and what is told about rooms.
//!
//! Who is in a room with which name is decided where messages are ordered: see `log::names`.
//! Presence beyond a session's end, typing and participants are not here yet.

pub(crate) mod board;
mod refusal;

use std::sync::Arc;

use bytes::Bytes;
use shared::chat::{Draft, InvalidDraft, NewMessage, RoomId, RoomName};
use shared::destination::{Destination, InvalidDestination};
use tokio::sync::oneshot;

pub(crate) use self::board::Board;
pub(crate) use self::refusal::Refusal;
use crate::log::{Done, Full, Log, Origin, Outcome, Record, Room, Signal, StoreError};

/// The most messages in one array sent to `/app/topic/chat/room/{roomId}`.
const ARRAY_MESSAGES_MAX: usize = 1_000;

/// The chat of one server.
pub(crate) struct Chat {
    /// The room log.
    pub(crate) log: Arc<dyn Log>,
    /// Rooms and their figures, for `/topic/chat/rooms`.
    pub(crate) board: Arc<Board>,
}

/// A SEND that has been checked, ready for the log.
pub(crate) struct Checked {
    record: Record,
}

impl Checked {
    /// How many chat messages it is, for the rate of a session.
    pub(crate) fn count(&self) -> u32 {
        u32::try_from(self.record.messages.len()).unwrap_or(u32::MAX)
    }
}

impl Chat {
    /// Checks all of a SEND that needs no knowledge of the room's present state.
    ///
    /// # Errors
    /// The [`Refusal`] to tell the sender.
    pub(crate) fn check(
        &self,
        origin: Origin,
        destination: &str,
        body: &[u8],
    ) -> Result<Checked, Refusal> {
        let refuse = |refusal: Refusal| refusal.on(destination);
        let messages = match Destination::parse(destination) {
            Ok(Destination::SendMessage) => vec![self.one(None, body).map_err(refuse)?],
            Ok(Destination::Room(room)) => vec![self.one(Some(room), body).map_err(refuse)?],
            Ok(Destination::RoomBatch(room)) => self.many(room, body).map_err(refuse)?,
            Err(InvalidDestination::NoSuchRoom) => return Err(refuse(Refusal::no_such_room())),
            Ok(_) | Err(InvalidDestination::Unknown) => {
                return Err(refuse(Refusal::no_such_destination()));
            }
        };
        Ok(Checked {
            record: Record { origin, messages },
        })
    }

    /// Appends what was checked. See [`Log::append`].
    pub(crate) fn send(
        &self,
        checked: Checked,
        done: Done,
        wake: &Arc<Signal>,
    ) -> Result<(), (Checked, Done)> {
        match self.log.append(checked.record, done, wake) {
            Ok(()) => Ok(()),
            Err(Full(record, done)) => Err((Checked { record }, done)),
        }
    }

    /// Says what became of a SEND: `None` when it is on disk.
    pub(crate) fn refusal(destination: &str, outcome: Outcome) -> Option<Refusal> {
        match outcome {
            Outcome::Appended => None,
            Outcome::Refused { index, id, reason } => {
                let array = matches!(
                    Destination::parse(destination),
                    Ok(Destination::RoomBatch(_))
                );
                Some(
                    Refusal::from(reason)
                        .at(array.then_some(index), id)
                        .on(destination),
                )
            }
            Outcome::Failed => Some(Refusal::unavailable().on(destination)),
        }
    }

    /// Makes a room; it is on disk when this returns.
    pub(crate) async fn create_room(&self, name: RoomName) -> Result<Arc<Room>, StoreError> {
        let (sender, receiver) = oneshot::channel();
        self.log.create_room(name, answer(sender));
        receiver.await.unwrap_or(Err(StoreError::Unavailable))
    }

    fn one(&self, room: Option<RoomId>, body: &[u8]) -> Result<NewMessage, Refusal> {
        let draft: Draft =
            serde_json::from_slice(body).map_err(|error| Refusal::not_json(&error))?;
        self.message(draft, room)
    }

    fn many(&self, room: RoomId, body: &[u8]) -> Result<Vec<NewMessage>, Refusal> {
        let drafts: Vec<Draft> =
            serde_json::from_slice(body).map_err(|error| Refusal::not_json(&error))?;
        if drafts.is_empty() || drafts.len() > ARRAY_MESSAGES_MAX {
            return Err(Refusal::array_length(ARRAY_MESSAGES_MAX));
        }
        let parse = |(index, draft)| {
            self.message(draft, Some(room))
                .map_err(|refusal| refusal.at(Some(index), None))
        };
        drafts.into_iter().enumerate().map(parse).collect()
    }

    fn message(&self, draft: Draft, room: Option<RoomId>) -> Result<NewMessage, Refusal> {
        let id = draft.id.as_deref().and_then(shared::chat::MessageId::parse);
        let message = draft.parse(room).map_err(|error| match error {
            InvalidDraft::NoSuchRoom => Refusal::no_such_room().at(None, id),
            error => Refusal::out_of_bounds(&error).at(None, id),
        })?;
        if self.log.room(message.room_id).is_none() {
            return Err(Refusal::no_such_room().at(None, id));
        }
        Ok(message)
    }
}

/// The end of a one-shot channel as a callback; a receiver that has gone is no error.
pub(crate) fn answer<T: Send + 'static>(sender: oneshot::Sender<T>) -> Box<dyn FnOnce(T) + Send> {
    Box::new(move |value| drop(sender.send(value)))
}

/// Encodes one MESSAGE of a destination that is a state or a queue, not a log: everything after
/// its `subscription` header.
pub(crate) fn encode(
    destination: &Destination,
    content_type: &str,
    message_id: u64,
    body: &[u8],
) -> Bytes {
    let mut out = Vec::with_capacity(body.len() + 160);
    let destination = destination.to_string();
    let message_id = message_id.to_string();
    shared::stomp::message_rest(
        &[
            ("destination", &destination),
            ("content-type", content_type),
            ("message-id", &message_id),
        ],
        body,
        &mut out,
    )
    .expect("these header values need no escaping");
    out.into()
}
