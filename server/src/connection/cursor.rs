//! The subscriptions of one connection: a cursor on a room's log or on a state, or a post for what is
//! neither.

use std::sync::Arc;
use std::time::Duration;

use shared::chat::RoomId;
use shared::destination::{Destination, InvalidDestination};
use shared::stomp::Headers;
use shared::stomp::server::{AckMode, MessageIds, Session, SubscriptionKey};
use time::OffsetDateTime;

use super::posts::{Post, Posts};
use super::{Mailbox, Reply, Transport};
use crate::chat::feed::Feed;
use crate::chat::plain::{Reader, Spread};
use crate::chat::{Chat, Refusal};
use crate::log::{Answer, Batch, Read, Room, Signal, StoreError};
use crate::metrics::meters;

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
    /// Where it begins, until that is asked for.
    from: Option<OffsetDateTime>,
    /// The store has been asked, and nothing is delivered before it answers; or it is to be asked when
    /// another read is over (`is_deferred`).
    waiting: bool,
    is_deferred: bool,
    /// What it answered, as far as it is not delivered yet.
    page: Option<Arc<Batch>>,
}

/// A subscription to a state. It follows that until it is dropped.
struct FeedCursor {
    subscription: SubscriptionKey,
    feed: Arc<dyn Feed>,
    /// What it has seen of it.
    version: u64,
    signal: Arc<Signal>,
}

impl FeedCursor {
    fn new(subscription: SubscriptionKey, feed: Arc<dyn Feed>, signal: &Arc<Signal>) -> Self {
        feed.followers().add(signal);
        FeedCursor {
            subscription,
            version: feed.start(),
            feed,
            signal: Arc::clone(signal),
        }
    }
}

impl Drop for FeedCursor {
    fn drop(&mut self) {
        self.feed.followers().remove(&self.signal);
    }
}

/// The most reads of the store that one connection waits for, or whose pages it has not delivered; those
/// of ended subscriptions among them. Each holds a page of memory, and a place in the store's queue.
pub(super) const READS_MAX: usize = 2;

/// The most rooms that one subscription to `/topic/chat/rooms` names.
const ROOMS_MAX: usize = 200;

/// The most letters of a plain destination that are given and not acknowledged, where the client does
/// not say.
const WINDOW_USUAL: usize = 1_000;

pub(super) struct Subscriptions {
    chat: Arc<Chat>,
    mailbox: Arc<Mailbox>,
    rooms: Vec<Cursor>,
    feeds: Vec<FeedCursor>,
    posts: Posts,
    /// Whose turn it is.
    turn: usize,
    /// Reads of the store that are not answered, and pages that are not delivered.
    pub(super) reads: usize,
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
    pub(super) fn new(chat: Arc<Chat>, mailbox: Arc<Mailbox>, reader: Arc<Reader>) -> Self {
        Subscriptions {
            posts: Posts::new(Arc::clone(&chat), reader),
            chat,
            mailbox,
            rooms: Vec::new(),
            feeds: Vec::new(),
            turn: 0,
            reads: 0,
        }
    }

    /// Begins a subscription, in the place of another one or beside the others.
    pub(super) fn add(
        &mut self,
        session: &mut Session,
        subscription: SubscriptionKey,
        replaced: Option<SubscriptionKey>,
        destination: &str,
        headers: &Headers,
    ) -> Result<(), Refused> {
        // Made anew for each delivery, so that no other session's ACK can be about it.
        let own = |session: &Session| -> Box<str> {
            format!("{}.{}", session.id(), subscription.number()).into()
        };
        let no_such_room = || Refused {
            message: "no such room",
            detail: format!("there is no room behind {destination}; GET /chat/rooms lists them"),
        };
        let seen = replaced.and_then(|replaced| self.seen(replaced));
        let replaced = replaced.and_then(|replaced| self.take(replaced));
        match Destination::parse(destination) {
            Ok(Destination::Room(id)) => {
                let room = self.chat.log.room(id).ok_or_else(no_such_room)?;
                self.check_epoch(headers.get("x-stream-epoch"))?;
                let offset = Offset::parse(headers.get("x-stream-offset")).ok_or(Refused {
                    message: "invalid x-stream-offset",
                    detail: "x-stream-offset must be next, first, last, offset=N or \
                             timestamp=UNIX_SECONDS"
                        .to_owned(),
                })?;
                let message_ids = MessageIds::InRest(room.id.to_string().into());
                session.identify(subscription, message_ids);
                self.add_room(subscription, room, offset);
                Ok(())
            }
            Ok(Destination::Rooms) => {
                let board = &self.chat.feeds.board;
                let feed: Arc<dyn Feed> = match headers.get("x-rooms") {
                    None => Arc::clone(board) as _,
                    Some(ids) => {
                        let mut rooms = parse_rooms(ids)?;
                        // Of what is no room nothing is ever told.
                        rooms.retain(|id| self.chat.log.room(*id).is_some());
                        board.some(rooms)
                    }
                };
                session.identify(subscription, MessageIds::Own(own(session)));
                self.add_feed(subscription, feed);
                // In the place of another one nothing is missed.
                if let (Some(seen), Some(cursor)) = (seen, self.feeds.last_mut()) {
                    cursor.version = cursor.version.min(seen);
                }
                Ok(())
            }
            Ok(Destination::Participants(id)) => {
                let room = self.chat.log.room(id).ok_or_else(no_such_room)?;
                let feed = self.chat.feeds.participants.feed(room.id);
                session.identify(subscription, MessageIds::Own(own(session)));
                self.add_feed(subscription, feed);
                Ok(())
            }
            Ok(Destination::Typing(id)) => {
                let room = self.chat.log.room(id).ok_or_else(no_such_room)?;
                let feed = self.chat.feeds.typing.feed(room.id);
                session.identify(subscription, MessageIds::Own(own(session)));
                self.add_feed(subscription, feed);
                Ok(())
            }
            Ok(Destination::Errors) => {
                session.identify(subscription, MessageIds::Own(own(session)));
                self.posts.add_errors(subscription, replaced);
                Ok(())
            }
            Ok(Destination::Topic(destination)) => {
                session.identify(subscription, MessageIds::Own(own(session)));
                let posts = &mut self.posts;
                posts.add_plain(subscription, replaced, &destination, Spread::All, None)
            }
            Ok(Destination::Queue(destination)) => {
                session.identify(subscription, MessageIds::Kept(own(session)));
                let window = match session.ack_mode(subscription) {
                    None | Some(AckMode::Auto) => None,
                    Some(_) => Some(session.window(subscription).min(WINDOW_USUAL)),
                };
                let posts = &mut self.posts;
                posts.add_plain(subscription, replaced, &destination, Spread::One, window)
            }
            Err(error @ InvalidDestination::Pattern) => Err(Refused {
                message: "patterns are not offered",
                detail: format!("{destination}: {error}"),
            }),
            Err(InvalidDestination::NoSuchRoom) => Err(no_such_room()),
            Ok(_) | Err(InvalidDestination::Unknown) => Err(Refused {
                message: "no such destination",
                detail: format!(
                    "nothing can be subscribed to at {destination}; a room is at \
                     /topic/chat/room/{{roomId}}, the list of rooms at /topic/chat/rooms"
                ),
            }),
        }
    }

    /// An offset is of one course of the log: what a client counted on another says nothing here.
    fn check_epoch(&self, known: Option<&str>) -> Result<(), Refused> {
        let epoch = self.chat.log.epoch();
        if known.is_none_or(|known| known.parse() == Ok(epoch)) {
            return Ok(());
        }
        Err(Refused {
            message: "another epoch",
            detail: format!(
                "the log goes on under x-stream-epoch:{epoch}, since messages were lost: forget what is \
                 known by its x-stream-offset, and read the room anew"
            ),
        })
    }

    /// What a subscription to a state has seen of it.
    fn seen(&self, subscription: SubscriptionKey) -> Option<u64> {
        let mut feeds = self.feeds.iter();
        let cursor = feeds.find(|cursor| cursor.subscription == subscription);
        cursor.map(|cursor| cursor.version)
    }

    fn add_feed(&mut self, subscription: SubscriptionKey, feed: Arc<dyn Feed>) {
        let signal = &self.mailbox.signal;
        self.feeds.push(FeedCursor::new(subscription, feed, signal));
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
        let from = match offset {
            Offset::Time(time) => Some(time),
            _ => None,
        };
        self.rooms.push(Cursor {
            subscription,
            room,
            next,
            from,
            waiting: false,
            is_deferred: false,
            page: None,
        });
    }

    fn reply_to<V: 'static>(
        &self,
        subscription: SubscriptionKey,
        found: fn(V) -> Found,
    ) -> Answer<Result<V, StoreError>> {
        let mailbox = Arc::clone(&self.mailbox);
        Answer::new(move |answer: Result<V, StoreError>| {
            let answer = answer.map(found);
            mailbox.put(Reply::Page(Page {
                subscription,
                answer,
            }));
        })
    }

    /// Ends a subscription.
    pub(super) fn remove(&mut self, subscription: SubscriptionKey) {
        if let Some(post) = self.take(subscription) {
            self.posts.end(post);
        }
    }

    /// Takes a subscription out; a post of it is still to be let go.
    fn take(&mut self, subscription: SubscriptionKey) -> Option<Post> {
        let signal = &self.mailbox.signal;
        let mut has_page = false;
        self.rooms.retain(|cursor| {
            let keep = cursor.subscription != subscription;
            if !keep {
                cursor.room.unfollow(signal);
                has_page |= cursor.page.is_some();
            }
            keep
        });
        self.feeds
            .retain(|cursor| cursor.subscription != subscription);
        if has_page {
            self.end_read();
        }
        self.posts.take(subscription)
    }

    /// Takes what the client acknowledged, or gave back.
    pub(super) fn settle(
        &mut self,
        subscription: SubscriptionKey,
        positions: &[u64],
        is_nack: bool,
    ) {
        self.posts.settle(subscription, positions, is_nack);
    }

    /// Whether more waited for this connection than may.
    pub(super) fn have_overflowed(&self) -> bool {
        self.posts.have_overflowed()
    }

    /// Ends them all.
    pub(super) fn clear(&mut self) {
        for cursor in self.rooms.drain(..) {
            cursor.room.unfollow(&self.mailbox.signal);
            self.reads -= usize::from(cursor.page.is_some());
        }
        self.feeds.clear();
        self.posts.clear();
    }

    /// Takes what the store answered.
    pub(super) fn take_page(&mut self, page: Page) -> Result<(), StoreError> {
        let cursor = self
            .rooms
            .iter_mut()
            .find(|cursor| cursor.subscription == page.subscription);
        // The subscription may have ended meanwhile.
        let Some(cursor) = cursor else {
            self.end_read();
            return Ok(());
        };
        cursor.waiting = false;
        match page.answer {
            Ok(Found::Entries(batch)) => {
                cursor.page = Some(batch);
                return Ok(());
            }
            Ok(Found::Place(seq)) => cursor.next = seq,
            Err(error) => return Err(error),
        }
        self.end_read();
        Ok(())
    }

    /// Notes that a read is over: who waits for that asks in its next turn.
    fn end_read(&mut self) {
        self.reads -= 1;
        for cursor in self.rooms.iter_mut().filter(|cursor| cursor.is_deferred) {
            cursor.is_deferred = false;
            cursor.waiting = false;
        }
    }

    /// How many pages are held.
    #[cfg(test)]
    pub(super) fn pages(&self) -> usize {
        let held = self.rooms.iter().filter(|cursor| cursor.page.is_some());
        held.count()
    }

    /// Tells a refusal to whoever subscribes to the session's errors; whether anybody does.
    pub(super) fn tell_refusal(&mut self, refusal: &Refusal) -> bool {
        self.posts.tell_refusal(refusal)
    }

    /// Whether [`Self::fill`] would find something.
    pub(super) fn has_more(&self, session: &Session) -> bool {
        let is_open = |subscription| session.window(subscription) > 0;
        self.rooms.iter().any(|cursor| {
            !cursor.waiting && cursor.next < cursor.room.end() && is_open(cursor.subscription)
        }) || self
            .feeds
            .iter()
            .any(|cursor| cursor.version < cursor.feed.newest() && is_open(cursor.subscription))
            || self.posts.has_more(session)
    }

    /// Delivers what follows the cursors, each in its turn, until `bytes_max` wait for the socket.
    pub(super) fn fill(
        &mut self,
        session: &mut Session,
        transport: &mut (impl Transport + 'static),
        now: Duration,
        bytes_max: usize,
    ) {
        self.fill_feeds(session, transport, now, bytes_max);
        self.posts.fill(session, transport, now, bytes_max);
        let mut idle = 0;
        let mut delivered = 0;
        while idle < self.rooms.len() && transport.pending() < bytes_max {
            self.turn = (self.turn + 1) % self.rooms.len();
            let (before, reads) = (self.rooms[self.turn].next, self.reads);
            self.take_turn(session, transport, now, bytes_max);
            let taken = self.rooms[self.turn].next - before;
            // Where a read is over, another may begin.
            let is_idle = taken == 0 && self.reads >= reads;
            idle = if is_idle { idle + 1 } else { 0 };
            delivered += taken;
        }
        if delivered > 0 {
            meters().messages_delivered.increment(delivered);
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
        if session.window(cursor.subscription) == 0 {
            // Its client may take its time, which others do not wait for: it is read again then.
            if cursor.page.take().is_some() {
                self.end_read();
            }
            return;
        }
        if let Some(page) = cursor.page.take() {
            deliver(cursor, &page, session, transport, now, bytes_max);
            if cursor.next < page.end() {
                cursor.page = Some(page);
                return;
            }
            self.end_read();
            // A page may have been cut short before the place that was asked for: go on at once.
        }
        let cursor = &mut self.rooms[self.turn];
        if cursor.from.is_some() {
            return self.ask();
        }
        match cursor.room.read(cursor.next, TURN_BYTES) {
            Read::Nothing => {}
            Read::Batches(batches) => {
                for batch in batches {
                    deliver(cursor, &batch, session, transport, now, bytes_max);
                }
            }
            Read::Behind => self.ask(),
        }
    }

    /// Asks the store for what the cursor whose turn it is needs, as soon as it may.
    fn ask(&mut self) {
        let cursor = &mut self.rooms[self.turn];
        cursor.waiting = true;
        if self.reads >= READS_MAX {
            cursor.is_deferred = true;
            return;
        }
        self.reads += 1;
        let (subscription, next) = (cursor.subscription, cursor.next);
        let (room, from) = (Arc::clone(&cursor.room), cursor.from.take());
        let log = &self.chat.log;
        match from {
            Some(time) => log.seq_at(&room, time, self.reply_to(subscription, Found::Place)),
            None => log.page(&room, next, self.reply_to(subscription, Found::Entries)),
        }
    }

    fn fill_feeds(
        &mut self,
        session: &mut Session,
        transport: &mut (impl Transport + 'static),
        now: Duration,
        bytes_max: usize,
    ) {
        for cursor in &mut self.feeds {
            while transport.pending() < bytes_max
                && session.window(cursor.subscription) > 0
                && let Some((version, encoded)) = cursor.feed.after(cursor.version)
            {
                cursor.version = version;
                let Some(encoded) = encoded else { continue };
                let position = session.position_next(cursor.subscription).unwrap_or(0);
                if let Some(frame) = session.deliver(cursor.subscription, position, &encoded, now) {
                    transport.push(&frame);
                }
            }
        }
    }
}

/// The rooms that `x-rooms` names.
fn parse_rooms(ids: &str) -> Result<Vec<RoomId>, Refused> {
    let ids = ids.split(',').map(str::trim).filter(|id| !id.is_empty());
    let rooms: Option<Vec<RoomId>> = ids.map(RoomId::parse).collect();
    rooms
        .filter(|rooms| rooms.len() <= ROOMS_MAX)
        .ok_or_else(|| Refused {
            message: "invalid x-rooms",
            detail: format!("x-rooms must be the roomIds of at most {ROOMS_MAX} rooms: id,id,…"),
        })
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
        && let Some(head) = session.deliver_many(cursor.subscription, cursor.next..batch.end(), now)
        && let Some(frames) = batch.framed::<T>(cursor.next, head, T::frame)
    {
        transport.push_framed(frames);
        cursor.next = batch.end();
        return;
    }
    let window = session.window(cursor.subscription);
    for (seq, rest) in batch.entries_from(cursor.next).take(window) {
        if transport.pending() >= bytes_max {
            return;
        }
        if !rest.is_empty()
            && let Some(frame) = session.deliver(cursor.subscription, seq, rest, now)
        {
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
