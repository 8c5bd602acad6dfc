//! THE loop: one STOMP session over one stream of payloads, whatever the transport.
//!
//! One task a connection, with four wake-ups: a payload came in, the socket can be written, a
//! deadline has come, or one signal says that something is ready (the tail of a room, a finished
//! append, a page from the store). Nothing in it awaits a reply, and a write under way stops
//! neither reading nor deadlines. Framing is not here: see [`Transport`].

mod cursor;
mod hub;
mod posts;
mod sending;
#[cfg(test)]
mod tests;

use std::future::{Future as _, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use shared::stomp::Headers;
use shared::stomp::server::{Event, Session, Ticket};
use tokio::time::Sleep;
use uuid::Uuid;

use self::cursor::{Page, Subscriptions};
pub(crate) use self::hub::{Hub, Settings};
use self::sending::{Held, Rate};
use crate::awake;
use crate::chat::plain::Reader;
use crate::chat::{About, Chat};
use crate::guest::Visitor;
use crate::log::tail::lock;
use crate::log::{Origin, Outcome, SessionNumber, Signal};
use crate::metrics::{TransportKind, meters};

/// A connection takes entries from its cursors until so many bytes wait for the socket.
const FILL_BYTES: usize = 64 << 10;

/// How long a close frame may take to be written and answered.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// The header of CONNECT and CONNECTED by which a guest is told without a cookie.
const GUEST: &str = "x-guest";

/// How many payloads and fills one wake-up handles before other tasks get a turn.
const ROUNDS_MAX: usize = 16;

/// How many bytes one wake-up writes, as far as it can be told before, until other tasks get a turn: a
/// socket's buffer may take megabytes.
const WRITTEN_MAX: u64 = 32 << 10;

/// How much work of frames one wake-up does before other tasks get a turn (`poll_event_within`): one
/// payload may hold thousands, and thousands of peers may send such.
const WORK_MAX: usize = 64;

/// The most SENDs and COMMITs of a session that the log has not answered: past it the session is not
/// read. A batch of the log, so that one session alone can fill it.
const UNANSWERED_MAX: usize = 4_096;

/// What a transport gives.
#[derive(Debug)]
pub(crate) enum Input {
    /// Octets of the STOMP stream.
    Payload(Bytes),
    /// A sign of life that carries nothing, such as a pong.
    Alive,
    /// The peer broke the transport's protocol: to be closed with this code and reason. No payload
    /// follows.
    Fault(u16, &'static str),
    /// The peer has gone. Where it took its leave, the transport has answered.
    End,
}

/// A stream of payloads in both directions: WebSocket or SockJS.
pub(crate) trait Transport {
    /// What sessions over it are counted as.
    const KIND: TransportKind;
    /// It carries UTF-8 alone: [`Transport::push_binary`] is not called.
    const IS_TEXT: bool;
    /// Takes what has come in.
    fn poll_payload(&mut self, cx: &mut Context<'_>) -> Poll<Input>;
    /// Whether the peer has gone, as far as can be told where what it sent is not taken.
    fn is_gone(&mut self) -> bool;
    /// Takes larger payloads from now on: the client has connected.
    fn admit(&mut self);
    /// Adds one STOMP frame, given in pieces, or one line feed, to what is to be written.
    fn push(&mut self, frame: &[&[u8]]);
    /// The same for a frame that is not UTF-8.
    fn push_binary(&mut self, frame: &[&[u8]]);
    /// Writes one STOMP frame, given in pieces, as this transport sends it.
    fn frame(frame: &[&[u8]], out: &mut Vec<u8>);
    /// Adds what [`Transport::frame`] wrote, without a copy of it.
    fn push_framed(&mut self, frames: Bytes);
    /// Adds a ping, where the transport has one.
    fn ping(&mut self);
    /// Adds the transport's close; nothing is pushed after it.
    fn close(&mut self, code: u16, reason: &str);
    /// Bytes that wait to be written.
    fn pending(&self) -> usize;
    /// Bytes that the peer's side has taken since the beginning.
    fn taken(&self) -> u64;
    /// Writes what waits; ready when nothing waits any more.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

/// What others hand to a connection: it is woken by the signal and takes them. Each answers something
/// that the connection asked for, so that they are as many as it may wait for: [`UNANSWERED_MAX`], and
/// `cursor::READS_MAX`.
#[derive(Default)]
pub(crate) struct Mailbox {
    signal: Arc<Signal>,
    replies: Mutex<Vec<Reply>>,
}

/// The answer to something that the connection asked for.
enum Reply {
    Sent {
        ticket: Ticket,
        about: About,
        outcome: Outcome,
    },
    Page(Page),
}

impl Mailbox {
    fn put(&self, reply: Reply) {
        lock(&self.replies).push(reply);
        self.signal.wake();
    }
}

struct Connection<T> {
    transport: T,
    session: Session,
    chat: Arc<Chat>,
    hub: Arc<Hub>,
    visitor: Visitor,
    origin: Origin,
    mailbox: Arc<Mailbox>,
    subscriptions: Subscriptions,
    held: Option<Box<Held>>,
    /// What was sent to the log and is not answered.
    unanswered: usize,
    /// How much more work of frames this wake-up does.
    work_left: usize,
    /// Frames may have come that are not handled, for want of a turn alone.
    is_behind: bool,
    rate: Option<Rate>,
    timer: Pin<Box<Sleep>>,
    taken: u64,
    taken_at: Instant,
    peer_gone: bool,
    /// It was closed as it took too little.
    is_slow: bool,
    closing_until: Option<Instant>,
}

/// Drives one session until its end.
pub(crate) async fn run<T: Transport + Unpin + 'static>(
    transport: T,
    chat: Arc<Chat>,
    hub: Arc<Hub>,
    visitor: Visitor,
) {
    let mailbox = Arc::new(Mailbox::default());
    let Some(seat) = Seat::take(&chat, &hub, &mailbox.signal) else {
        let mut transport = transport;
        transport.close(1012, "the server is going down; connect again in a moment");
        let flush = poll_fn(|cx| transport.poll_flush(cx));
        drop(tokio::time::timeout(CLOSE_TIMEOUT, flush).await);
        return;
    };
    let _counted = meters().open(T::KIND);
    let mut connection = Connection::new(transport, chat, hub, mailbox, seat.number, visitor);
    poll_fn(|cx| connection.poll(cx)).await;
}

/// A session's place among the others. When it is dropped, by a panic too, its names are freed and
/// nobody waits for it any more.
struct Seat {
    number: SessionNumber,
    chat: Arc<Chat>,
    hub: Arc<Hub>,
}

impl Seat {
    /// Takes one, unless the server is draining.
    fn take(chat: &Arc<Chat>, hub: &Arc<Hub>, signal: &Arc<Signal>) -> Option<Self> {
        Some(Seat {
            number: hub.join(signal)?,
            chat: Arc::clone(chat),
            hub: Arc::clone(hub),
        })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.chat.log.release(self.number);
        self.hub.leave(self.number);
    }
}

impl<T: Transport + Unpin + 'static> Connection<T> {
    fn new(
        transport: T,
        chat: Arc<Chat>,
        hub: Arc<Hub>,
        mailbox: Arc<Mailbox>,
        number: SessionNumber,
        visitor: Visitor,
    ) -> Self {
        let settings = hub.settings();
        let id = Uuid::new_v4().to_string();
        let now = awake::now();
        let signal = Arc::clone(&mailbox.signal);
        let reader = Arc::new(Reader::new(signal, Arc::clone(&chat.bounds)));
        Connection {
            transport,
            session: Session::new(Arc::clone(&settings.stomp), id, hub.since_start(now)),
            origin: Origin {
                session: number,
                guest: visitor.guest(),
            },
            visitor,
            subscriptions: Subscriptions::new(Arc::clone(&chat), Arc::clone(&mailbox), reader),
            chat,
            held: None,
            unanswered: 0,
            work_left: WORK_MAX,
            is_behind: false,
            rate: Rate::new(settings),
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            taken: 0,
            taken_at: now,
            peer_gone: false,
            is_slow: false,
            closing_until: None,
            mailbox,
            hub,
        }
    }

    /// Does all that can be done now; ready when the session has ended.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.work_left = WORK_MAX;
        let written_until = self.transport.taken() + WRITTEN_MAX;
        for _ in 0..ROUNDS_MAX {
            // What becomes ready from here on is seen in this round, or begins another.
            self.mailbox.signal.take();
            let now = awake::now();
            if self.hub.is_draining() {
                self.session
                    .close(1012, "the server is going down; connect again in a moment");
            }
            self.take_replies(now);
            let is_reading = self.is_reading();
            let mut busy = is_reading && self.read(cx, now);
            self.run_session(now);
            // Who may be read again must be asked, or nothing wakes us for it.
            busy |= !is_reading && self.is_reading();
            if self.is_done() {
                return Poll::Ready(());
            }
            self.fill(now);
            busy |= self.flush(cx, now);
            if self.is_over(now) {
                return Poll::Ready(());
            }
            if self.is_behind || self.transport.taken() >= written_until {
                break;
            }
            if !busy && self.mailbox.signal.sleep(cx.waker()) {
                return self.sleep(cx, now);
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn stomp_now(&self, now: Instant) -> Duration {
        self.hub.since_start(now)
    }

    /// Whether the peer has gone and all that it had sent is done.
    fn is_done(&mut self) -> bool {
        self.peer_gone && !self.is_sending() && self.closing_until.is_none()
    }

    /// Whether the closing is over, by an answer or by its time.
    fn is_over(&self, now: Instant) -> bool {
        self.closing_until.is_some_and(|until| {
            let flushed = self.peer_gone && self.transport.pending() == 0;
            (now >= until || flushed) && !self.is_sending()
        })
    }

    /// Whether something that came must still be sent on, or waits for what must.
    fn is_sending(&self) -> bool {
        self.is_behind
            || self.held.is_some()
            || self.session.is_committing()
            || self.is_loaded()
            || (self.unanswered > 0 && self.session.is_backlogged())
    }

    /// Whether the log must answer before more is sent to it.
    fn is_loaded(&self) -> bool {
        self.unanswered >= UNANSWERED_MAX
    }

    fn take_replies(&mut self, now: Instant) {
        let replies = std::mem::take(&mut *lock(&self.mailbox.replies));
        for reply in replies {
            match reply {
                Reply::Sent {
                    ticket,
                    about,
                    outcome,
                } => {
                    self.unanswered -= 1;
                    self.conclude(ticket, about, outcome, now);
                }
                Reply::Page(page) => {
                    if let Err(error) = self.subscriptions.take_page(page) {
                        self.session
                            .fail(None, "store unavailable", &error.to_string());
                    }
                }
            }
        }
    }

    /// Whether the peer may be read: what came before is handled, or is passed over now.
    fn is_reading(&self) -> bool {
        let is_busy = self.held.is_some()
            || self.is_behind
            || self.is_loaded()
            || self.session.is_backlogged();
        !self.peer_gone && (self.closing_until.is_some() || !is_busy)
    }

    /// Takes one payload if there is one; whether it did.
    fn read(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let closing = self.closing_until.is_some();
        let Poll::Ready(input) = self.transport.poll_payload(cx) else {
            return false;
        };
        let stomp_now = self.stomp_now(now);
        match input {
            Input::Payload(_) if closing => {}
            Input::Payload(payload) => {
                meters().received_bytes.increment(payload.len() as u64);
                self.session.handle_input(payload, stomp_now);
            }
            Input::Alive => self.session.handle_alive(stomp_now),
            // What is no answer to our close ends it as an answer would.
            Input::Fault(..) if closing => self.peer_gone = true,
            Input::Fault(code, reason) => {
                self.transport.close(code, reason);
                self.closing_until = Some(now + CLOSE_TIMEOUT);
            }
            Input::End => {
                self.peer_gone = true;
                // An answer to the peer's close frame may wait to be written.
                if self.transport.pending() > 0 && !closing {
                    self.closing_until = Some(now + CLOSE_TIMEOUT);
                }
            }
        }
        true
    }

    /// Lets the session act: deadlines, events, then what it has to say.
    fn run_session(&mut self, now: Instant) {
        let stomp_now = self.stomp_now(now);
        if let Some(held) = self.held.take() {
            self.session.handle_unread(stomp_now);
            self.go_on(*held, now);
        }
        if self
            .session
            .poll_timeout()
            .is_some_and(|deadline| deadline <= stomp_now)
        {
            self.session.handle_timeout(stomp_now);
        }
        self.handle_frames(now);
        if self.closing_until.is_some() {
            return;
        }
        while let Some(frame) = self.session.poll_transmit(stomp_now) {
            self.transport.push(&[&frame]);
        }
        if self.session.wants_ping(stomp_now) {
            self.transport.ping();
        }
        if self.transport.pending() > self.hub.settings().slow_reader_bytes_max
            || self.subscriptions.have_overflowed()
        {
            self.close_slow("slow reader: too much waits that is not stored");
        }
        if let Some(close) = self.session.poll_close() {
            self.transport.close(close.code, &close.reason);
            self.closing_until = Some(now + CLOSE_TIMEOUT);
            // What others may have of a queue they have now, not when the peer has answered.
            self.subscriptions.clear();
        }
    }

    /// Handles the peer's frames until one must wait, or others are to have their turn.
    fn handle_frames(&mut self, now: Instant) {
        let stomp_now = self.stomp_now(now);
        let before = self.session.decoded();
        while self.held.is_none()
            && !self.is_loaded()
            && let Some(event) = self
                .session
                .poll_event_within(&mut self.work_left, stomp_now)
        {
            self.handle(event, now);
        }
        let handled = self.session.decoded() - before;
        if handled > 0 {
            meters().frames_received.increment(handled);
        }
        self.is_behind = self.held.is_none() && !self.is_loaded() && self.work_left == 0;
    }

    fn handle(&mut self, event: Event, now: Instant) {
        match event {
            Event::Connected { headers } => {
                self.transport.admit();
                self.introduce(&headers);
            }
            Event::Disconnect => {}
            Event::Subscribe {
                ticket,
                subscription,
                replaced,
                destination,
                headers,
            } => {
                let session = &mut self.session;
                match self.subscriptions.add(
                    session,
                    subscription,
                    replaced,
                    &destination,
                    &headers,
                ) {
                    Ok(()) => session.accept(ticket),
                    Err(refused) => session.fail(Some(ticket), refused.message, &refused.detail),
                }
            }
            Event::Unsubscribe { subscription } => self.subscriptions.remove(subscription),
            Event::Settled {
                subscription,
                positions,
                is_nack,
            } => self.subscriptions.settle(subscription, &positions, is_nack),
            Event::Send { ticket, sent } => self.send(ticket, vec![sent], false, now),
            Event::Commit { ticket, sends } => self.send(ticket, sends, true, now),
        }
    }

    /// Takes the guest that a client shows where its handshake brought no cookie, and tells the client
    /// which guest it is: some browsers keep no cookies, and have it back from the page.
    fn introduce(&mut self, connect: &Headers) {
        if matches!(self.visitor, Visitor::Known(_)) {
            return;
        }
        let guests = self.hub.guests();
        let shown = connect.get(GUEST).and_then(|signed| guests.read(signed));
        self.origin.guest = shown.or(self.origin.guest);
        if let Some(guest) = self.origin.guest {
            self.session.introduce(GUEST, &guests.sign(guest));
        }
    }

    fn fill(&mut self, now: Instant) {
        if self.closing_until.is_none() && !self.peer_gone {
            let stomp_now = self.stomp_now(now);
            self.subscriptions.fill(
                &mut self.session,
                &mut self.transport,
                stomp_now,
                FILL_BYTES,
            );
        }
    }

    /// Writes; whether there is more to fill now.
    fn flush(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        if self.transport.pending() == 0 {
            self.taken_at = now;
            return false;
        }
        match self.transport.poll_flush(cx) {
            Poll::Ready(Ok(())) => {
                self.note_taken(now);
                self.closing_until.is_none() && self.subscriptions.has_more(&self.session)
            }
            Poll::Ready(Err(error)) => {
                tracing::debug!(%error, "the peer's socket is gone");
                // What arrived before the loss is still done.
                self.is_behind |= !self.peer_gone;
                self.peer_gone = true;
                self.closing_until = Some(now);
                false
            }
            Poll::Pending => {
                if self.transport.taken() != self.taken {
                    self.note_taken(now);
                } else if now >= self.stalled_at() && self.closing_until.is_none() {
                    self.close_slow("slow reader: no byte was taken for too long");
                    return true;
                }
                false
            }
        }
    }

    fn note_taken(&mut self, now: Instant) {
        let taken = self.transport.taken();
        meters()
            .sent_bytes
            .increment(taken.saturating_sub(self.taken));
        self.taken = taken;
        self.taken_at = now;
    }

    fn close_slow(&mut self, reason: &str) {
        if !self.is_slow {
            self.is_slow = true;
            meters().slow_readers.increment(1);
        }
        self.session.close(4500, reason);
    }

    fn stalled_at(&self) -> Instant {
        self.taken_at + self.hub.settings().stall_timeout
    }

    /// Waits for the next deadline. A timer that is early costs one look; so it is only ever moved
    /// when it would be late.
    fn sleep(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<()> {
        // Past it, what must still be sent on is waited for, which wakes by itself.
        let mut deadline = self.closing_until.filter(|until| *until > now);
        let mut at = |candidate: Option<Instant>| {
            deadline = [deadline, candidate].into_iter().flatten().min();
        };
        if self.closing_until.is_none() {
            at(self.session.poll_timeout().map(|after| self.hub.at(after)));
            at((self.transport.pending() > 0).then(|| self.stalled_at()));
        }
        at(self.held.as_ref().and_then(|held| held.until));
        let Some(deadline) = deadline else {
            return Poll::Pending;
        };
        let deadline = awake::due(deadline);
        if self.timer.is_elapsed() || deadline < self.timer.deadline() {
            self.timer.as_mut().reset(deadline);
        }
        if self.timer.as_mut().poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

impl<T> Drop for Connection<T> {
    fn drop(&mut self) {
        self.subscriptions.clear();
    }
}
