//! The chat: what a message must pass before the log orders it, and what is told about rooms.
//!
//! Who is in a room with which name is decided where messages are ordered: see `log::admit`.

mod board;
pub(crate) mod feed;
mod participants;
pub(crate) mod plain;
mod refusal;
mod typing;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use shared::chat::{Draft, InvalidDraft, MessageId, NewMessage, RoomId, RoomName, Sender};
use shared::destination::{Destination, InvalidDestination};
use shared::json;
use shared::stomp::server::Sent;
use tokio::sync::{Semaphore, oneshot};
use unicode_normalization::UnicodeNormalization as _;

use self::board::Board;
use self::participants::Participants;
use self::plain::{Bounds, Letter, Plain};
pub(crate) use self::refusal::{Refusal, SWITCHED_OFF};
use self::typing::Typing;
use crate::log::{
    Answer, Done, Full, Log, Observer, Origin, Outcome, Presence, Record, Room, Signal, StoreError,
};

/// How often [`Feeds::tick`] is to be called.
pub(crate) const FEED_TICK: Duration = Duration::from_millis(100);

/// The states that subscriptions follow. The log tells of what changes.
#[derive(Default)]
pub(crate) struct Feeds {
    /// Rooms and their figures, for `/topic/chat/rooms`.
    pub(crate) board: Arc<Board>,
    /// Who is in each room.
    pub(crate) participants: Participants,
    /// Who is typing in each room.
    pub(crate) typing: Typing,
}

impl Feeds {
    /// Sends what has changed, as far as it is due.
    pub(crate) fn tick(&self, now: Instant) {
        self.board.tick(now);
        self.participants.tick(now);
        self.typing.tick(now);
    }
}

impl Observer for Feeds {
    fn made(&self, room: &Arc<Room>) {
        self.board.note_made(room);
    }

    fn changed(&self, room: &Arc<Room>) {
        self.board.note(room);
    }

    fn presence(&self, room: &Arc<Room>, presence: Presence) {
        if let Presence::Left { sender } = &presence {
            self.typing.end(room.id, sender);
        }
        self.participants.note(room.id, presence);
    }
}

/// The most messages in one array sent to `/app/topic/chat/room/{roomId}`.
const ARRAY_MESSAGES_MAX: usize = 1_000;

/// The chat of one server.
pub(crate) struct Chat {
    /// The room log.
    pub(crate) log: Arc<dyn Log>,
    /// What subscriptions to a state follow.
    pub(crate) feeds: Arc<Feeds>,
    /// The plain destinations; `None` where they are switched off.
    pub(crate) plain: Option<Plain>,
    /// How much may wait of what is not stored.
    pub(crate) bounds: Arc<Bounds>,
    /// Whose turn it is of the connections that end with many subscriptions: one's at a time.
    pub(crate) ends: Semaphore,
}

/// What a client sends together: a SEND, or all SENDs of a transaction. It has been checked, and is
/// ready for the log and the plain destinations.
pub(crate) struct Checked {
    record: Record,
    about: About,
}

/// What is told of it, and published, once its fate is known.
pub(crate) struct About {
    sends: Vec<AboutSend>,
    is_transaction: bool,
    letters: Vec<(String, Letter)>,
    typing: Vec<(RoomId, Sender)>,
    /// Who says something where: they type no more once that is stored.
    senders: Vec<(RoomId, Sender)>,
}

/// One SEND among those that go together.
struct AboutSend {
    destination: String,
    /// How many of the record's messages are its.
    messages: usize,
    is_array: bool,
}

impl Checked {
    /// How many chat messages it is, for the rate of a session.
    pub(crate) fn count(&self) -> u32 {
        u32::try_from(self.record.messages.len()).unwrap_or(u32::MAX)
    }

    /// What of it goes to plain destinations.
    pub(crate) fn letters(&self) -> impl Iterator<Item = &Letter> {
        self.about.letters.iter().map(|(_, letter)| letter)
    }

    /// Takes out what is told of it.
    pub(crate) fn take_about(&mut self) -> About {
        let nothing = About {
            sends: Vec::new(),
            is_transaction: false,
            letters: Vec::new(),
            typing: Vec::new(),
            senders: Vec::new(),
        };
        std::mem::replace(&mut self.about, nothing)
    }
}

impl Chat {
    /// Checks all of what a SEND brings, or all that a COMMIT does (`is_transaction`), that needs no
    /// knowledge of the rooms' present state: all of it, or none.
    ///
    /// # Errors
    /// The [`Refusal`] of the first that is refused, to tell the sender.
    pub(crate) fn check(
        &self,
        origin: Origin,
        sends: &[Sent],
        is_transaction: bool,
    ) -> Result<Checked, Refusal> {
        let mut messages = Vec::with_capacity(sends.len());
        let mut about = About {
            sends: Vec::with_capacity(sends.len()),
            is_transaction,
            letters: Vec::new(),
            typing: Vec::new(),
            senders: Vec::new(),
        };
        for (index, sent) in sends.iter().enumerate() {
            let before = messages.len();
            let is_array = self
                .check_one(origin, sent, &mut messages, &mut about)
                .map_err(|refusal| refusal.on(&sent.destination).within(is_transaction, index))?;
            about.sends.push(AboutSend {
                destination: sent.destination.clone(),
                messages: messages.len() - before,
                is_array,
            });
        }
        about.senders = messages
            .iter()
            .map(|message| (message.room_id, message.sender.clone()))
            .collect();
        Ok(Checked {
            record: Record { origin, messages },
            about,
        })
    }

    /// Checks one SEND; whether it is an array.
    fn check_one(
        &self,
        origin: Origin,
        sent: &Sent,
        messages: &mut Vec<NewMessage>,
        about: &mut About,
    ) -> Result<bool, Refusal> {
        let body = &sent.body;
        match Destination::parse(&sent.destination) {
            Ok(Destination::SendMessage) => messages.push(self.one(None, body)?),
            Ok(Destination::Room(room)) => messages.push(self.one(Some(room), body)?),
            Ok(Destination::RoomBatch(room)) => {
                messages.append(&mut self.many(room, body)?);
                return Ok(true);
            }
            Ok(Destination::Topic(destination) | Destination::Queue(destination)) => {
                if self.plain.is_none() {
                    return Err(Refusal::switched_off());
                }
                let letter = Letter::new(&self.bounds, &destination, &sent.headers, body);
                about.letters.push((destination, letter));
            }
            Ok(Destination::SendTyping) => about.typing.push(self.typing(origin, body)?),
            Err(InvalidDestination::NoSuchRoom) => return Err(Refusal::no_such_room()),
            Err(error @ InvalidDestination::Pattern) => {
                return Err(Refusal::no_such_destination(&error.to_string()));
            }
            Ok(_) | Err(InvalidDestination::Unknown) => {
                return Err(Refusal::no_such_destination(
                    "nothing can be sent to this destination",
                ));
            }
        }
        Ok(false)
    }

    /// Appends what was checked, if there is anything to append: `done` learns what became of it. See
    /// [`Log::append`].
    pub(crate) fn send(
        &self,
        checked: Checked,
        done: Done,
        wake: &Arc<Signal>,
    ) -> Result<(), Box<(Checked, Done)>> {
        let Checked { record, about } = checked;
        if record.messages.is_empty() {
            done.tell(Outcome::Appended);
            return Ok(());
        }
        match self.log.append(record, done, wake) {
            Ok(()) => Ok(()),
            Err(Full(record, done)) => Err(Box::new((Checked { record, about }, done))),
        }
    }

    /// Says what became of what was sent together, and gives what is to be published now, by its
    /// destinations.
    ///
    /// # Errors
    /// The [`Refusal`] to tell the sender.
    pub(crate) fn conclude(
        &self,
        about: About,
        outcome: Outcome,
    ) -> Result<Vec<(String, Letter)>, Refusal> {
        match outcome {
            Outcome::Appended => {
                for (room, sender) in &about.senders {
                    self.feeds.typing.end(*room, sender);
                }
                for (room, sender) in about.typing {
                    self.feeds.typing.note(room, sender, Instant::now());
                }
                Ok(about.letters)
            }
            Outcome::Refused { index, id, reason } => {
                Err(about.locate(Refusal::from(reason), index, id))
            }
            Outcome::Failed => Err(about.locate(Refusal::unavailable(), 0, None)),
        }
    }

    /// Sends a letter to whoever subscribes to its destination.
    pub(crate) fn publish(&self, destination: &str, letter: Letter) {
        if let Some(plain) = &self.plain {
            plain.publish(destination, letter);
        }
    }

    /// Makes a room; it is on disk when this returns.
    pub(crate) async fn create_room(&self, name: RoomName) -> Result<Arc<Room>, StoreError> {
        let (sender, receiver) = oneshot::channel();
        self.log.create_room(name, answer(sender));
        receiver.await.unwrap_or(Err(StoreError::Unavailable))
    }

    /// Of these rooms, in their order, at most `limit` whose names hold this part, whatever the case. Not for
    /// a thread that talks where they are many.
    pub(crate) fn with_name(rooms: Vec<Arc<Room>>, part: &str, limit: usize) -> Vec<Arc<Room>> {
        let part = searched(part);
        let has = |room: &Arc<Room>| searched(room.name.as_str()).contains(&*part);
        rooms.into_iter().filter(has).take(limit).collect()
    }

    fn one(&self, room: Option<RoomId>, body: &[u8]) -> Result<NewMessage, Refusal> {
        let draft: Draft = json::read(body).map_err(|error| Refusal::not_the_json(&error))?;
        self.message(draft, room)
    }

    /// Who is typing where: somebody who is there.
    fn typing(&self, origin: Origin, body: &[u8]) -> Result<(RoomId, Sender), Refusal> {
        let draft: Draft = json::read(body).map_err(|error| Refusal::not_the_json(&error))?;
        let (room, sender) = draft.typing().map_err(|error| match error {
            InvalidDraft::NoSuchRoom => Refusal::no_such_room(),
            error => Refusal::out_of_bounds(&error),
        })?;
        if self.log.room(room).is_none() {
            return Err(Refusal::no_such_room());
        }
        let participants = &self.feeds.participants;
        if !participants.has(room, &sender, origin.guest) {
            return Err(Refusal::not_present());
        }
        Ok((room, sender))
    }

    fn many(&self, room: RoomId, body: &[u8]) -> Result<Vec<NewMessage>, Refusal> {
        let drafts: Vec<Draft> = json::read(body).map_err(|error| Refusal::not_the_json(&error))?;
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

impl About {
    /// Whether it was a COMMIT.
    pub(crate) fn is_transaction(&self) -> bool {
        self.is_transaction
    }

    /// Says of a refusal which SEND it is about, and which message of that.
    fn locate(&self, refusal: Refusal, mut index: usize, id: Option<MessageId>) -> Refusal {
        for (at, sent) in self.sends.iter().enumerate() {
            if index < sent.messages {
                return refusal
                    .at(sent.is_array.then_some(index), id)
                    .on(&sent.destination)
                    .within(self.is_transaction, at);
            }
            index -= sent.messages;
        }
        refusal
    }
}

/// The end of a one-shot channel as an answer; a receiver that has gone is no error.
pub(crate) fn answer<T: Send + 'static>(
    sender: oneshot::Sender<Result<T, StoreError>>,
) -> Answer<Result<T, StoreError>> {
    Answer::new(move |value| drop(sender.send(value)))
}

/// A name, or a part of one, as it is searched for: in one form, whatever the case.
fn searched(name: &str) -> String {
    name.nfkc().flat_map(char::to_lowercase).collect()
}

/// Encodes one MESSAGE of a state, not of a log: everything after what the session writes.
pub(crate) fn encode(destination: &Destination, content_type: &str, body: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(body.len() + 160);
    let destination = destination.to_string();
    shared::stomp::message_rest(
        &[
            ("destination", &destination),
            ("content-type", content_type),
        ],
        body,
        &mut out,
    )
    .expect("these header values need no escaping");
    out.into()
}
