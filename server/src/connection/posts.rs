//! The subscriptions of one connection to what is no log: plain destinations, and the session's own
//! errors.

use std::sync::Arc;
use std::time::Duration;

use shared::destination::Destination;
use shared::stomp::server::{Session, SubscriptionKey};
use shared::stomp::{Headers, Version};
use tokio::runtime::Handle;

use super::Transport;
use super::cursor::Refused;
use crate::chat::plain::{Inbox, Letter, Point, Reader, Spread, TooMany};
use crate::chat::{Chat, Refusal, SWITCHED_OFF};

/// Of so many a connection lets go at once; where there are more, connections that end take turns.
const ENDED_AT_ONCE: usize = 8;

/// A subscription to letters.
pub(super) struct Post {
    subscription: SubscriptionKey,
    inbox: Arc<Inbox>,
    /// The plain destination; none for the errors.
    point: Option<Arc<Point>>,
}

pub(super) struct Posts {
    chat: Arc<Chat>,
    reader: Arc<Reader>,
    open: Vec<Post>,
}

/// Posts of a connection that has ended: dropped, they let go of what they hold.
struct Leaving {
    chat: Arc<Chat>,
    posts: Vec<Post>,
}

impl Posts {
    pub(super) fn new(chat: Arc<Chat>, reader: Arc<Reader>) -> Self {
        Posts {
            chat,
            reader,
            open: Vec::new(),
        }
    }

    /// Begins a subscription to a plain destination.
    pub(super) fn add_plain(
        &mut self,
        subscription: SubscriptionKey,
        replaced: Option<Post>,
        destination: &str,
        spread: Spread,
        window: Option<usize>,
    ) -> Result<(), Refused> {
        let plain = self.chat.plain.as_ref().ok_or_else(|| Refused {
            message: "no such destination",
            detail: format!("{destination}: {SWITCHED_OFF}"),
        })?;
        let inbox = Inbox::new(&self.reader, window);
        let replaced = replaced.as_ref().map(|replaced| &replaced.inbox);
        let subscribed = plain.subscribe(destination, spread, &inbox, replaced);
        let point = subscribed.map_err(|TooMany(max)| Refused {
            message: "too many subscribers",
            detail: format!(
                "{destination} has {max} subscribers already, which is the most; try again later, or \
                 have the operator raise --subscribers-per-destination"
            ),
        })?;
        self.open.push(Post {
            subscription,
            inbox,
            point: Some(point),
        });
        self.offer();
        Ok(())
    }

    /// Begins a subscription to the session's own errors.
    pub(super) fn add_errors(&mut self, subscription: SubscriptionKey, replaced: Option<Post>) {
        if let Some(replaced) = replaced {
            let_go(&self.chat, &[replaced]);
        }
        self.open.push(Post {
            subscription,
            inbox: Inbox::new(&self.reader, None),
            point: None,
        });
    }

    /// Takes a subscription out, which is still to be let go.
    pub(super) fn take(&mut self, subscription: SubscriptionKey) -> Option<Post> {
        let mut open = self.open.iter();
        let at = open.position(|post| post.subscription == subscription)?;
        Some(self.open.remove(at))
    }

    /// Ends one that was taken out.
    pub(super) fn end(&self, post: Post) {
        let_go(&self.chat, &[post]);
        self.offer();
    }

    /// Ends them all. What others leave from now on goes to none of them.
    pub(super) fn clear(&mut self) {
        self.reader.close();
        let leaving = Leaving {
            chat: Arc::clone(&self.chat),
            posts: std::mem::take(&mut self.open),
        };
        if leaving.posts.len() > ENDED_AT_ONCE
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(leaving.end_in_turn());
        }
    }

    /// Lets queues give what they held back for want of room, now that less waits: all that waits for
    /// one connection has one bound.
    fn offer(&self) {
        if !self.reader.was_short() {
            return;
        }
        for post in &self.open {
            if let Some(point) = &post.point {
                point.offer(&post.inbox);
            }
        }
    }

    /// Takes what the client acknowledged, or gave back.
    pub(super) fn settle(
        &mut self,
        subscription: SubscriptionKey,
        positions: &[u64],
        is_nack: bool,
    ) {
        let mut open = self.open.iter();
        let post = open.find(|post| post.subscription == subscription);
        if let Some(post) = post
            && let Some(point) = &post.point
        {
            point.settle(&post.inbox, positions, is_nack);
            point.offer(&post.inbox);
            self.offer();
        }
    }

    /// Whether more waited for this connection than may.
    pub(super) fn have_overflowed(&self) -> bool {
        self.reader.has_overflowed()
    }

    /// Tells a refusal to whoever subscribes to the session's errors; whether anybody does.
    pub(super) fn tell_refusal(&self, refusal: &Refusal) -> bool {
        let mut inboxes = self
            .open
            .iter()
            .filter(|post| post.point.is_none())
            .map(|post| &post.inbox)
            .peekable();
        let is_told = inboxes.peek().is_some();
        if is_told {
            let headers = Headers::from_iter([("content-type", "application/problem+json")]);
            let destination = Destination::Errors.to_string();
            let body = refusal.to_json();
            let letter = Letter::new(&self.chat.bounds, &destination, &headers, &body);
            let letter = Arc::new(letter);
            inboxes.for_each(|inbox| inbox.put(Arc::clone(&letter)));
        }
        is_told
    }

    /// Whether [`Self::fill`] would find something.
    pub(super) fn has_more(&self, session: &Session) -> bool {
        let is_open = |subscription| session.window(subscription) > 0;
        let mut open = self.open.iter();
        open.any(|post| post.inbox.has_letters() && is_open(post.subscription))
    }

    /// Delivers what waits, until `bytes_max` wait for the socket.
    pub(super) fn fill<T: Transport>(
        &mut self,
        session: &mut Session,
        transport: &mut T,
        now: Duration,
        bytes_max: usize,
    ) {
        let version = session.version().unwrap_or(Version::V10);
        let mut unsaid = Vec::new();
        for post in &self.open {
            let mut has_taken = false;
            while transport.pending() < bytes_max
                && session.window(post.subscription) > 0
                && let Some(position) = session.position_next(post.subscription)
                && let Some(letter) = post.inbox.take(position)
            {
                has_taken = true;
                if T::IS_TEXT && !letter.is_text() {
                    post.inbox.discard(position);
                    unsaid.extend(&post.point);
                    continue;
                }
                let rest = letter.rest(version);
                if let Some(frame) = session.deliver(post.subscription, position, rest, now) {
                    if letter.is_text() {
                        transport.push(&frame);
                    } else {
                        transport.push_binary(&frame);
                    }
                }
            }
            if has_taken && let Some(point) = &post.point {
                point.offer(&post.inbox);
            }
        }
        self.offer();
        let refusals: Vec<_> = unsaid
            .into_iter()
            .map(|point| Refusal::not_text().on(point.name()))
            .collect();
        for refusal in refusals {
            self.tell_refusal(&refusal);
        }
    }
}

impl Leaving {
    /// Lets go when those before have. Between two ends others have their turn: hundreds of sockets may
    /// close at once, each with as many subscriptions as it may have.
    async fn end_in_turn(self) {
        let chat = Arc::clone(&self.chat);
        let turn = chat.ends.acquire().await;
        drop(self);
        tokio::task::yield_now().await;
        drop(turn);
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        let place = |post: &Post| post.point.as_ref().map(Arc::as_ptr);
        self.posts.sort_by_key(place);
        let one_place = |one: &Post, other: &Post| place(one) == place(other);
        for posts in self.posts.chunk_by(one_place) {
            let_go(&self.chat, posts);
        }
    }
}

/// Ends posts of one destination, in one step.
fn let_go(chat: &Chat, posts: &[Post]) {
    let inboxes = posts.iter().map(|post| &post.inbox);
    let point = posts.first().and_then(|post| post.point.as_ref());
    match (point, &chat.plain) {
        (Some(point), Some(plain)) => plain.unsubscribe(point, inboxes),
        _ => inboxes.for_each(|inbox| inbox.clear()),
    }
}
