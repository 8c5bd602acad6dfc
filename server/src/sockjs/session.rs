//! A SockJS session: what holds it together while its requests come and go, and the two ends that
//! meet in it. A [`Link`] is the connection's end, a [`Receiver`](super::receiver::Receiver) that of
//! the request which is open for messages.
//!
//! Both sides are bounded. What a client sent and nobody has read yet holds back the body of its next
//! request, as a full buffer of a socket would; what
//! waits for a receiver holds back the connection, which fills a [`Link`] as far as it fills a socket.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use shared::sockjs;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::awake::{self, Alarm};
use crate::connection::{Input, Transport};
use crate::guest::Visitor;
use crate::log::tail::lock;
use crate::metrics::TransportKind;
use crate::ws::PayloadBytesMax;

/// One session, shared by its connection and its requests.
pub(super) struct Session {
    owner: Owner,
    bytes_max: PayloadBytesMax,
    /// How long it lives without a receiver.
    disconnect_delay: Duration,
    state: Mutex<State>,
    /// Something was read, or the session ended: who waits to send looks again.
    read: Notify,
}

/// Whose requests a session takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner {
    /// Who opened it.
    pub(super) visitor: Visitor,
    /// From which address.
    pub(super) address: IpAddr,
}

struct State {
    /// The cookie that was set as it was opened has come back, so that it is asked for.
    has_cookie: bool,
    /// What the client sent and is not read.
    inbound: Option<Bytes>,
    /// The connection has asked for more than there was.
    wants_more: bool,
    /// A request has its turn to send.
    has_turn: bool,
    /// How many requests wait for theirs.
    senders: usize,
    /// The client has connected.
    is_admitted: bool,
    /// What waits for a receiver: JSON strings, each followed by a comma.
    outbound: Vec<Bytes>,
    outbound_bytes: usize,
    /// Bytes that receivers have taken.
    taken: u64,
    is_announced: bool,
    /// The open receiver's number.
    receiver: Option<u64>,
    receiver_next: u64,
    /// When there was last a receiver.
    left_at: Instant,
    /// The client has shown a sign of life that carries nothing.
    is_alive: bool,
    /// The frame that closes it, for every receiver from now on.
    close: Option<String>,
    /// Nothing more comes from the client.
    is_gone: bool,
    connection: Option<Waker>,
    receiving: Option<Waker>,
}

/// How many requests of a session may wait for their turn; clients send one at a time.
const SENDERS_MAX: usize = 10;

/// Why messages are not taken in.
pub(super) enum Refused {
    /// The session has ended.
    Gone,
    /// Too many wait already.
    Busy,
}

/// What a receiver finds when it comes.
pub(super) enum Attached {
    /// It is the one that is open now.
    Open(u64),
    /// Another one is.
    Busy,
    /// The session is closed, with this frame.
    Closed(String),
}

impl Session {
    /// Whether a request from an address that brings a guest's cookie, or none, may use it.
    pub(super) fn belongs_to(&self, guest: Option<Uuid>, address: IpAddr) -> bool {
        let is_same_address = address == self.owner.address;
        match (self.owner.visitor, guest) {
            (Visitor::Known(owner), _) => guest == Some(owner),
            (Visitor::New(owner), Some(guest)) => {
                let is_owner = guest == owner;
                if is_owner {
                    lock(&self.state).has_cookie = true;
                }
                is_owner
            }
            // Some browsers keep no cookies.
            (Visitor::New(_), None) => is_same_address && !lock(&self.state).has_cookie,
            (Visitor::Program, _) => is_same_address && guest.is_none(),
        }
    }

    /// Opens a receiver, if none is open.
    pub(super) fn attach(&self) -> Attached {
        let mut state = lock(&self.state);
        if let Some(close) = &state.close
            && state.outbound.is_empty()
        {
            return Attached::Closed(close.clone());
        }
        if state.receiver.is_some() {
            return Attached::Busy;
        }
        let number = state.receiver_next;
        state.receiver_next += 1;
        state.receiver = Some(number);
        state.is_alive = true;
        state.wake_connection();
        Attached::Open(number)
    }

    /// Gives the next frame to the open receiver, without its transport's framing.
    pub(super) fn poll_frame(&self, cx: &mut Context<'_>) -> Poll<Vec<u8>> {
        let mut state = lock(&self.state);
        if !state.is_announced {
            state.is_announced = true;
            return Poll::Ready(sockjs::OPEN.into());
        }
        if !state.outbound.is_empty() {
            let mut frame = Vec::with_capacity(state.outbound_bytes + 2);
            frame.push(b'a');
            frame.push(b'[');
            for strings in std::mem::take(&mut state.outbound) {
                frame.extend_from_slice(&strings);
            }
            // The last comma.
            frame.pop();
            frame.push(b']');
            state.taken += state.outbound_bytes as u64;
            state.outbound_bytes = 0;
            state.wake_connection();
            return Poll::Ready(frame);
        }
        if let Some(close) = &state.close {
            return Poll::Ready(close.clone().into_bytes());
        }
        state.receiving = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Notes that a receiver has ended as it should.
    pub(super) fn detach(&self, receiver: u64) {
        let mut state = lock(&self.state);
        if state.receiver == Some(receiver) {
            state.receiver = None;
            state.receiving = None;
            state.left_at = awake::now();
            if state.close.is_some() {
                state.is_gone = true;
            }
            state.wake_connection();
        }
    }

    /// Notes that a receiver was cut off: what it took may be lost, so that the session has ended.
    pub(super) fn interrupt(&self, receiver: u64) {
        let mut state = lock(&self.state);
        if state.receiver == Some(receiver) {
            state.receiver = None;
            state.receiving = None;
            state.left_at = awake::now();
            state.outbound = Vec::new();
            state.outbound_bytes = 0;
            state.end("Connection interrupted");
            self.read.notify_waiters();
        }
    }

    /// Waits until the connection wants to read more than it has, and no other request sends. Whoever
    /// has its turn may hold a body, so that there is never more than one.
    ///
    /// # Errors
    /// [`Refused`]: the turn does not come.
    pub(super) async fn turn(&self) -> Result<Turn<'_>, Refused> {
        let mut waiting = None;
        loop {
            let mut read = std::pin::pin!(self.read.notified());
            read.as_mut().enable();
            {
                let mut state = lock(&self.state);
                if state.close.is_some() || state.is_gone {
                    return Err(Refused::Gone);
                }
                if state.wants_more && !state.has_turn {
                    state.has_turn = true;
                    return Ok(Turn(self));
                }
                if waiting.is_none() {
                    if state.senders == SENDERS_MAX {
                        return Err(Refused::Busy);
                    }
                    state.senders += 1;
                    waiting = Some(Waiting(self));
                }
            }
            read.await;
        }
    }

    /// Ends it on the connection's side, if nobody has; receivers that come hear why.
    fn finish(&self) {
        let mut state = lock(&self.state);
        state.end("Connection interrupted");
        state.inbound = None;
        self.read.notify_waiters();
    }
}

/// A request's turn to send, until it is dropped.
pub(super) struct Turn<'a>(&'a Session);

impl Turn<'_> {
    /// How large its body may be.
    pub(super) fn bytes_max(&self) -> usize {
        let is_admitted = lock(&self.0.state).is_admitted;
        let PayloadBytesMax { first, usual } = self.0.bytes_max;
        if is_admitted { usual } else { first }
    }

    /// Takes in what it brings.
    ///
    /// # Errors
    /// [`Refused`], and nothing of it is taken in.
    pub(super) fn send(self, messages: Bytes) -> Result<(), Refused> {
        let mut state = lock(&self.0.state);
        if state.close.is_some() || state.is_gone {
            return Err(Refused::Gone);
        }
        if !messages.is_empty() {
            state.inbound = Some(messages);
            state.wants_more = false;
        }
        state.is_alive = true;
        state.wake_connection();
        Ok(())
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        lock(&self.0.state).has_turn = false;
        self.0.read.notify_waiters();
    }
}

/// A request that waits, until it is dropped.
struct Waiting<'a>(&'a Session);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        lock(&self.0.state).senders -= 1;
    }
}

impl State {
    fn end(&mut self, reason: &str) {
        self.is_gone = true;
        self.close
            .get_or_insert_with(|| sockjs::close(1002, reason));
        self.wake_connection();
        self.wake_receiver();
    }

    fn wake_connection(&mut self) {
        if let Some(waker) = self.connection.take() {
            waker.wake();
        }
    }

    fn wake_receiver(&mut self) {
        if let Some(waker) = self.receiving.take() {
            waker.wake();
        }
    }
}

/// The connection's end of a session.
pub(super) struct Link {
    session: Arc<Session>,
    /// Messages of our own that wait for the next flush.
    own: Vec<u8>,
    /// What waits before them.
    ready: Vec<Bytes>,
    ready_bytes: usize,
    is_closed: bool,
    timer: Alarm,
}

impl Link {
    fn new(session: Arc<Session>) -> Self {
        Link {
            session,
            own: Vec::new(),
            ready: Vec::new(),
            ready_bytes: 0,
            is_closed: false,
            timer: Alarm::new(awake::now()),
        }
    }

    fn seal(&mut self) {
        if !self.own.is_empty() {
            self.ready_bytes += self.own.len();
            self.ready.push(std::mem::take(&mut self.own).into());
        }
    }

    /// Hands what waits to the session.
    fn hand_over(&mut self, state: &mut State) {
        self.seal();
        if !self.ready.is_empty() {
            state.outbound.append(&mut self.ready);
            state.outbound_bytes += std::mem::take(&mut self.ready_bytes);
            state.wake_receiver();
        }
    }
}

impl Transport for Link {
    const KIND: TransportKind = TransportKind::SockJsHttp;
    const IS_TEXT: bool = true;

    fn poll_payload(&mut self, cx: &mut Context<'_>) -> Poll<Input> {
        let mut state = lock(&self.session.state);
        if let Some(messages) = state.inbound.take() {
            return Poll::Ready(Input::Payload(messages));
        }
        if !std::mem::replace(&mut state.wants_more, true) {
            self.session.read.notify_waiters();
        }
        if std::mem::take(&mut state.is_alive) {
            return Poll::Ready(Input::Alive);
        }
        if state.is_gone {
            return Poll::Ready(Input::End);
        }
        state.connection = Some(cx.waker().clone());
        if state.receiver.is_some() {
            return Poll::Pending;
        }
        let deadline = state.left_at + self.session.disconnect_delay;
        drop(state);
        self.timer.set(deadline);
        Pin::new(&mut self.timer).poll(cx).map(|()| {
            lock(&self.session.state).is_gone = true;
            Input::End
        })
    }

    fn is_gone(&mut self) -> bool {
        let state = lock(&self.session.state);
        let is_late = || awake::now() >= state.left_at + self.session.disconnect_delay;
        state.is_gone || (state.receiver.is_none() && is_late())
    }

    fn admit(&mut self) {
        lock(&self.session.state).is_admitted = true;
    }

    fn push(&mut self, frame: &[&[u8]]) {
        if !self.is_closed {
            Self::frame(frame, &mut self.own);
        }
    }

    fn push_binary(&mut self, _frame: &[&[u8]]) {
        debug_assert!(false, "SockJS carries text alone");
    }

    fn frame(frame: &[&[u8]], out: &mut Vec<u8>) {
        sockjs::write_string(frame, out);
        out.push(b',');
    }

    fn push_framed(&mut self, frames: Bytes) {
        if !self.is_closed {
            self.seal();
            self.ready_bytes += frames.len();
            self.ready.push(frames);
        }
    }

    /// An open receiver answers for its client.
    fn ping(&mut self) {
        let mut state = lock(&self.session.state);
        if state.receiver.is_some() {
            state.is_alive = true;
            state.wake_connection();
        }
    }

    fn close(&mut self, code: u16, reason: &str) {
        if !std::mem::replace(&mut self.is_closed, true) {
            let session = Arc::clone(&self.session);
            let mut state = lock(&session.state);
            self.hand_over(&mut state);
            state.close = Some(sockjs::close(code, reason));
            state.wake_receiver();
            session.read.notify_waiters();
        }
    }

    fn pending(&self) -> usize {
        self.own.len() + self.ready_bytes + lock(&self.session.state).outbound_bytes
    }

    fn taken(&self) -> u64 {
        lock(&self.session.state).taken
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let session = Arc::clone(&self.session);
        let mut state = lock(&session.state);
        self.hand_over(&mut state);
        if state.outbound.is_empty() {
            return Poll::Ready(Ok(()));
        }
        state.connection = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// All sessions of an endpoint.
pub(super) struct Sessions {
    per_address_max: usize,
    bytes_max: PayloadBytesMax,
    disconnect_delay: Duration,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    by_id: HashMap<String, Arc<Session>>,
    by_address: HashMap<IpAddr, usize>,
}

/// One session of an address, counted until it is dropped.
pub(super) struct Counted {
    sessions: Arc<Sessions>,
    address: IpAddr,
}

impl Sessions {
    pub(super) fn new(
        per_address_max: usize,
        bytes_max: PayloadBytesMax,
        disconnect_delay: Duration,
    ) -> Arc<Self> {
        Arc::new(Sessions {
            per_address_max,
            bytes_max,
            disconnect_delay,
            open: Mutex::default(),
        })
    }

    /// Finds a session.
    pub(super) fn find(&self, id: &str) -> Option<Arc<Session>> {
        lock(&self.open).by_id.get(id).cloned()
    }

    /// Counts a session of an address; `None` when it has too many.
    pub(super) fn count(self: &Arc<Self>, address: IpAddr) -> Option<Counted> {
        lock(&self.open).count(self, address)
    }

    /// Finds a session, or makes it for `owner` and has `start` run it; `None` when their address has
    /// too many.
    pub(super) fn open<F: Future<Output = ()> + Send + 'static>(
        self: &Arc<Self>,
        id: &str,
        owner: Owner,
        start: impl FnOnce(Link) -> F,
    ) -> Option<Arc<Session>> {
        let mut open = lock(&self.open);
        if let Some(session) = open.by_id.get(id) {
            return Some(Arc::clone(session));
        }
        let counted = open.count(self, owner.address)?;
        let session = Arc::new(Session {
            owner,
            bytes_max: self.bytes_max,
            disconnect_delay: self.disconnect_delay,
            state: Mutex::new(State {
                has_cookie: false,
                inbound: None,
                wants_more: false,
                has_turn: false,
                senders: 0,
                is_admitted: false,
                outbound: Vec::new(),
                outbound_bytes: 0,
                taken: 0,
                is_announced: false,
                receiver: None,
                receiver_next: 0,
                left_at: awake::now(),
                is_alive: false,
                close: None,
                is_gone: false,
                connection: None,
                receiving: None,
            }),
            read: Notify::new(),
        });
        open.by_id.insert(id.to_owned(), Arc::clone(&session));
        drop(open);
        let run = start(Link::new(Arc::clone(&session)));
        let listed = Listed {
            sessions: Arc::clone(self),
            id: id.to_owned(),
            session: Arc::clone(&session),
            _counted: counted,
        };
        tokio::spawn(async move {
            // Moved in, so that it goes with the task even where that panics.
            let listed = listed;
            run.await;
            listed.session.finish();
            // Receivers that still come hear how it was closed.
            Alarm::new(awake::now() + listed.sessions.disconnect_delay).await;
        });
        Some(session)
    }
}

impl Open {
    fn count(&mut self, sessions: &Arc<Sessions>, address: IpAddr) -> Option<Counted> {
        let count = self.by_address.entry(address).or_default();
        if *count >= sessions.per_address_max {
            return None;
        }
        *count += 1;
        Some(Counted {
            sessions: Arc::clone(sessions),
            address,
        })
    }
}

/// A session that is found by its id. It has ended when this is dropped, however its connection ended.
struct Listed {
    sessions: Arc<Sessions>,
    id: String,
    session: Arc<Session>,
    _counted: Counted,
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.session.finish();
        lock(&self.sessions.open).by_id.remove(&self.id);
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut open = lock(&self.sessions.open);
        if let Some(count) = open.by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.by_address.remove(&self.address);
            }
        }
    }
}
