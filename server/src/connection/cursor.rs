//! The subscriptions of one connection, each a cursor: on a room's log, or on the board of rooms.

use std::sync::Arc;
use std::time::Duration;

use shared::destination::{Destination, InvalidDestination};
use shared::stomp::Headers;
use shared::stomp::server::{Session, SubscriptionKey};
use time::OffsetDateTime;

use super::{Mailbox, Reply, Transport};
use crate::chat::{self, Chat, Refusal};
use crate::log::{Batch, Encoded, Read, Room, StoreError};

/// How many bytes one cursor takes before the next has its turn.
const TURN_BYTES: usize = 16 << 10;

/// A batch of so many bytes is shared by its subscribers; of a smaller one each gets a copy, which
/// costs less.
const SHARED_BYTES_MIN: usize = 4 << 10;

/// Why a SUBSCRIBE is refused: the `message` and the body of the ERROR.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) message: &'static str,
    pub(super) detail: String,
}

/// What the store answered to a cursor.
pub(super) struct Page {
    subscription: SubscriptionKey,
    answer: Result<Found, StoreError>,
}

enum Found {
    Entries(Arc<Batch>),
    Place(u64),
}

struct Cursor {
    subscription: SubscriptionKey,
    room: Arc<Room>,
    /// The `seq` that comes next.
    next: u64,
    /// The store has been asked, and nothing is delivered before it answers.
    waiting: bool,
    /// What it answered, as far as it is not delivered yet.
    page: Option<Arc<Batch>>,
}

struct BoardCursor {
    subscription: SubscriptionKey,
    version: u64,
}

pub(super) struct Subscriptions {
    chat: Arc<Chat>,
    mailbox: Arc<Mailbox>,
    rooms: Vec<Cursor>,
    board: Vec<BoardCursor>,
    errors: Vec<SubscriptionKey>,
    errors_sent: u64,
    /// Whose turn it is.
    turn: usize,
}

/// Where a subscription begins (`x-stream-offset`; contract, section 3).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Offset {
    Next,
    First,
    Last,
    Seq(u64),
    Time(OffsetDateTime),
}

impl Offset {
    fn parse(text: Option<&str>) -> Option<Self> {
        match text {
            None | Some("next") => return Some(Offset::Next),
            Some("first") => return Some(Offset::First),
            Some("last") => return Some(Offset::Last),
            Some(_) => {}
        }
        let (kind, value) = text?.split_once('=')?;
        if value.is_empty() || !value.bytes().all(|octet| octet.is_ascii_digit()) {
            return None;
        }
        match kind {
            "offset" => value.parse().ok().map(Offset::Seq),
            "timestamp" => {
                let seconds = value.parse().ok()?;
                OffsetDateTime::from_unix_timestamp(seconds)
                    .ok()
                    .map(Offset::Time)
            }
            _ => None,
        }
    }
}

impl Subscriptions {
    pub(super) fn new(chat: Arc<Chat>, mailbox: Arc<Mailbox>) -> Self {
        Subscriptions {
            chat,
            mailbox,
            rooms: Vec::new(),
            board: Vec::new(),
            errors: Vec::new(),
            errors_sent: 0,
            turn: 0,
        }
    }

    /// Begins a subscription.
    pub(super) fn add(
        &mut self,
        subscription: SubscriptionKey,
        destination: &str,
        headers: &Headers,
    ) -> Result<(), Refused> {
        let no_such_room = || Refused {
            message: "no such room",
            detail: format!("There is no room behind {destination}; GET /chat/rooms lists them."),
        };
        match Destination::parse(destination) {
            Ok(Destination::Room(id)) => {
                let room = self.chat.log.room(id).ok_or_else(no_such_room)?;
                let offset = Offset::parse(headers.get("x-stream-offset")).ok_or(Refused {
                    message: "invalid x-stream-offset",
                    detail: "x-stream-offset must be next, first, last, offset=N or \
                             timestamp=UNIX_SECONDS."
                        .to_owned(),
                })?;
                self.add_room(subscription, room, offset);
                Ok(())
            }
            Ok(Destination::Rooms) => {
                let version = self.chat.board.version();
                self.chat.board.follow(&self.mailbox.signal);
                self.board.push(BoardCursor {
                    subscription,
                    version,
                });
                Ok(())
            }
            Ok(Destination::Errors) => {
                self.errors.push(subscription);
                Ok(())
            }
            Err(InvalidDestination::NoSuchRoom) => Err(no_such_room()),
            Ok(_) | Err(InvalidDestination::Unknown) => Err(Refused {
                message: "no such destination",
                detail: format!(
                    "Nothing can be subscribed to at {destination}. A room is at \
                     /topic/chat/room/{{roomId}}, the list of rooms at /topic/chat/rooms."
                ),
            }),
        }
    }

    fn add_room(&mut self, subscription: SubscriptionKey, room: Arc<Room>, offset: Offset) {
        room.follow(&self.mailbox.signal);
        let end = room.end();
        let next = match offset {
            Offset::Next | Offset::Time(_) => end,
            Offset::First => 1,
            Offset::Last => end.saturating_sub(1).max(1),
            Offset::Seq(seq) => seq.max(1),
        };
        let waiting = if let Offset::Time(time) = offset {
            let answer = self.reply_to(subscription, Found::Place);
            self.chat.log.seq_at(&room, time, answer);
            true
        } else {
            false
        };
        self.rooms.push(Cursor {
            subscription,
            room,
            next,
            waiting,
            page: None,
        });
    }

    fn reply_to<V: 'static>(
        &self,
        subscription: SubscriptionKey,
        found: fn(V) -> Found,
    ) -> Box<dyn FnOnce(Result<V, StoreError>) + Send> {
        let mailbox = Arc::clone(&self.mailbox);
        Box::new(move |answer| {
            let answer = answer.map(found);
            mailbox.put(Reply::Page(Page {
                subscription,
                answer,
            }));
        })
    }

    /// Ends a subscription.
    pub(super) fn remove(&mut self, subscription: SubscriptionKey) {
        let signal = &self.mailbox.signal;
        self.rooms.retain(|cursor| {
            let keep = cursor.subscription != subscription;
            if !keep {
                cursor.room.unfollow(signal);
            }
            keep
        });
        self.board.retain(|cursor| {
            let keep = cursor.subscription != subscription;
            if !keep {
                self.chat.board.unfollow(signal);
            }
            keep
        });
        self.errors.retain(|errors| *errors != subscription);
    }

    /// Ends them all.
    pub(super) fn clear(&mut self) {
        for cursor in self.rooms.drain(..) {
            cursor.room.unfollow(&self.mailbox.signal);
        }
        for _ in self.board.drain(..) {
            self.chat.board.unfollow(&self.mailbox.signal);
        }
    }

    /// Takes what the store answered. A busy store is asked again at the next [`Self::fill`].
    pub(super) fn take_page(&mut self, page: Page) -> Result<(), StoreError> {
        let cursor = self
            .rooms
            .iter_mut()
            .find(|cursor| cursor.subscription == page.subscription);
        // The subscription may have ended meanwhile.
        let Some(cursor) = cursor else { return Ok(()) };
        cursor.waiting = false;
        match page.answer {
            Ok(Found::Entries(batch)) => cursor.page = Some(batch),
            Ok(Found::Place(seq)) => cursor.next = seq,
            Err(error) => return Err(error),
        }
        Ok(())
    }

    pub(super) fn has_errors(&self) -> bool {
        !self.errors.is_empty()
    }

    pub(super) fn errors(&self) -> impl Iterator<Item = SubscriptionKey> + use<> {
        self.errors.clone().into_iter()
    }

    pub(super) fn encode_error(&mut self, refusal: &Refusal) -> Encoded {
        self.errors_sent += 1;
        let content_type = "application/problem+json";
        chat::encode(
            &Destination::Errors,
            content_type,
            self.errors_sent,
            &refusal.to_json(),
        )
    }

    /// Whether [`Self::fill`] would find something.
    pub(super) fn has_more(&self) -> bool {
        self.rooms
            .iter()
            .any(|cursor| !cursor.waiting && cursor.next < cursor.room.end())
    }

    /// Delivers what follows the cursors, each in its turn, until `bytes_max` wait for the socket.
    pub(super) fn fill(
        &mut self,
        session: &mut Session,
        transport: &mut (impl Transport + 'static),
        now: Duration,
        bytes_max: usize,
    ) {
        self.fill_board(session, transport, now, bytes_max);
        let mut idle = 0;
        while idle < self.rooms.len() && transport.pending() < bytes_max {
            self.turn = (self.turn + 1) % self.rooms.len();
            let before = self.rooms[self.turn].next;
            self.take_turn(session, transport, now, bytes_max);
            idle = if self.rooms[self.turn].next == before {
                idle + 1
            } else {
                0
            };
        }
    }

    fn take_turn(
        &mut self,
        session: &mut Session,
        transport: &mut (impl Transport + 'static),
        now: Duration,
        bytes_max: usize,
    ) {
        let cursor = &mut self.rooms[self.turn];
        if cursor.waiting {
            return;
        }
        if let Some(page) = cursor.page.take() {
            deliver(cursor, &page, session, transport, now, bytes_max);
            if cursor.next < page.end() {
                cursor.page = Some(page);
            }
            return;
        }
        match cursor.room.read(cursor.next, TURN_BYTES) {
            Read::Nothing => {}
            Read::Batches(batches) => {
                for batch in batches {
                    deliver(cursor, &batch, session, transport, now, bytes_max);
                }
            }
            Read::Behind => {
                cursor.waiting = true;
                let (subscription, next) = (cursor.subscription, cursor.next);
                let room = Arc::clone(&cursor.room);
                let answer = self.reply_to(subscription, Found::Entries);
                self.chat.log.page(&room, next, answer);
            }
        }
    }

    fn fill_board(
        &mut self,
        session: &mut Session,
        transport: &mut (impl Transport + 'static),
        now: Duration,
        bytes_max: usize,
    ) {
        for cursor in &mut self.board {
            while transport.pending() < bytes_max
                && let Some((version, encoded)) = self.chat.board.after(cursor.version)
            {
                cursor.version = version;
                if let Some(frame) = session.deliver(cursor.subscription, &encoded, now) {
                    transport.push(&frame);
                }
            }
        }
    }
}

fn deliver<T: Transport + 'static>(
    cursor: &mut Cursor,
    batch: &Batch,
    session: &mut Session,
    transport: &mut T,
    now: Duration,
    bytes_max: usize,
) {
    if transport.pending() >= bytes_max {
        return;
    }
    if batch.len() >= SHARED_BYTES_MIN
        && let Some(head) = session.deliver_many(cursor.subscription, now)
        && let Some(frames) = batch.framed::<T>(cursor.next, head, T::frame)
    {
        transport.push_framed(frames);
        cursor.next = batch.end();
        return;
    }
    for (seq, rest) in batch.entries_from(cursor.next) {
        if transport.pending() >= bytes_max {
            return;
        }
        if let Some(frame) = session.deliver(cursor.subscription, rest, now) {
            transport.push(&frame);
        }
        cursor.next = seq + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_those_of_the_contract() {
        let time = OffsetDateTime::from_unix_timestamp(1_700_000_000).unwrap();
        for (text, expected) in [
            (None, Some(Offset::Next)),
            (Some("next"), Some(Offset::Next)),
            (Some("first"), Some(Offset::First)),
            (Some("last"), Some(Offset::Last)),
            (Some("offset=12"), Some(Offset::Seq(12))),
            (Some("timestamp=1700000000"), Some(Offset::Time(time))),
            (Some(""), None),
            (Some("offset"), None),
            (Some("offset="), None),
            (Some("offset=-1"), None),
            (Some("offset=+1"), None),
            (Some("offset=99999999999999999999"), None),
            (Some("timestamp=1.5"), None),
            (Some("Next"), None),
        ] {
            assert_eq!(Offset::parse(text), expected, "{text:?}");
        }
    }
}
