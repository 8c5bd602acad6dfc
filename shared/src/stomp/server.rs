//! The server's half of a conversation: [`Session`].
//!
//! What is not here: destinations, rooms, who may send what. Those answer the session's [`Event`]s.

mod budget;
mod frames;
mod receipts;
mod subscriptions;
mod transactions;

use std::{collections::VecDeque, ops::Range, sync::Arc, time::Duration};

use bytes::Bytes;

pub use self::budget::TransactionBudget;
use self::{
    receipts::Receipts,
    subscriptions::{Ack, Subscriptions},
    transactions::Transactions,
};
use super::{
    codec::{DecodeError, Decoder, Limits, Received, encode, encode_header},
    frame::{Command, Frame, Version},
    header::Headers,
    heartbeat::{HeartBeat, Pulse},
};

/// What all sessions of a server have in common.
#[derive(Clone, Debug)]
pub struct Config {
    /// How large frames may be.
    pub limits: Limits,
    /// What the server offers in CONNECTED.
    pub heart_beat: HeartBeat,
    /// How long a client may take to CONNECT.
    pub connect_timeout: Duration,
    /// How many subscriptions a session may have at a time.
    pub subscriptions_max: usize,
    /// The largest `prefetch-count`.
    pub prefetch_max: u16,
    /// How many transactions a session may have open.
    pub transactions_max: usize,
    /// How many frames one transaction takes in.
    pub transaction_frames_max: usize,
    /// How many octets one transaction takes in: bodies, and the names and values of headers.
    pub transaction_bytes_max: usize,
    /// How long a transaction may be open.
    pub transaction_timeout: Duration,
    /// What the open transactions of all sessions may hold in memory.
    pub transactions_budget: Arc<TransactionBudget>,
    /// After how long a silence of either side the driver is asked to ping.
    pub ping_interval: Duration,
    /// After how many intervals of silence a client is lost: agreed ones, or those of pings.
    pub silence_factor: u32,
    /// The `server` header of CONNECTED, `name/version`, on one line.
    pub server: String,
    /// The `x-stream-epoch` header of CONNECTED: which course of the log `x-stream-offset` counts.
    pub epoch: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            limits: Limits::default(),
            heart_beat: HeartBeat::default(),
            connect_timeout: Duration::from_secs(10),
            subscriptions_max: 128,
            prefetch_max: 1_000,
            transactions_max: 16,
            transaction_frames_max: 1_000,
            transaction_bytes_max: 1 << 20,
            transaction_timeout: Duration::from_secs(60),
            transactions_budget: Arc::new(TransactionBudget::new(128 << 20)),
            ping_interval: Duration::from_secs(25),
            silence_factor: 3,
            server: concat!("sarangbang/", env!("CARGO_PKG_VERSION")).to_owned(),
            epoch: None,
        }
    }
}

/// What a client's frame asks of the driver.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    /// The session is open, and CONNECTED is the next to go out; see [`Session::introduce`].
    Connected {
        /// The headers of CONNECT.
        headers: Headers,
    },
    /// The client subscribes. The subscription lives from now on; say with [`Session::identify`] how
    /// its messages are known, and answer with [`Session::accept`] or [`Session::fail`].
    Subscribe {
        /// What to answer to.
        ticket: Ticket,
        /// What to [`Session::deliver`] to.
        subscription: SubscriptionKey,
        /// The subscription of the same id and destination that it begins anew: it has ended, and what
        /// of it was not acknowledged will not be.
        replaced: Option<SubscriptionKey>,
        /// The `destination` header.
        destination: String,
        /// All headers.
        headers: Headers,
    },
    /// The client ended a subscription: what of it was not acknowledged will not be. The session has
    /// queued the RECEIPT itself.
    Unsubscribe {
        /// The one that is gone.
        subscription: SubscriptionKey,
    },
    /// The client sends. Answer with [`Session::accept`], [`Session::pass_over`] or
    /// [`Session::fail`].
    Send {
        /// What to answer to.
        ticket: Ticket,
        /// What is sent. The body is a slice of the input where it came in one piece.
        sent: Sent,
    },
    /// The client commits what it sent in a transaction: all of it or nothing. Answer as to a
    /// [`Event::Send`]; no other event comes before the answer.
    Commit {
        /// What to answer to.
        ticket: Ticket,
        /// What is sent, in order; at least one.
        sends: Vec<Sent>,
    },
    /// The client acknowledged messages that were delivered, or (`is_nack`) gave them back. Told only
    /// where the session remembers them: see [`Session::identify`].
    Settled {
        /// Whose messages.
        subscription: SubscriptionKey,
        /// Their positions, in the order of delivery.
        positions: Vec<u64>,
        /// NACK, not ACK.
        is_nack: bool,
    },
    /// The client takes its leave and is not listened to any more. RECEIPTs that are still owed go
    /// out as their tickets are answered; then the session closes with 1000.
    Disconnect,
}

/// What a SEND holds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Sent {
    /// The `destination` header.
    pub destination: String,
    /// All headers.
    pub headers: Headers,
    /// The body.
    pub body: Bytes,
}

/// The `ack` header of a SUBSCRIBE (STOMP 1.2, "SUBSCRIBE ack Header").
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AckMode {
    /// A message counts as acknowledged when it is sent.
    Auto,
    /// An ACK or NACK is about a message and all before it on its subscription.
    Client,
    /// An ACK or NACK is about one message.
    ClientIndividual,
}

/// How the `message-id`s of a subscription are made: a prefix, a hyphen and the message's position.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum MessageIds {
    /// Not known: no ACK or NACK finds these messages.
    None,
    /// They stand in what is delivered, and begin so. A message is remembered until it is acknowledged
    /// only under `prefetch-count`.
    InRest(Box<str>),
    /// The session writes them; positions are counted with [`Session::position_next`].
    Own(Box<str>),
    /// The same, and where the client acknowledges, every message is remembered until it does.
    Kept(Box<str>),
}

/// Names one frame that awaits an answer; they grow in the order of the frames.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Ticket {
    place: u64,
    /// None of what is no frame.
    command: Option<Command>,
}

/// Names one subscription of a session, never reused in it. The default is that of the first.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SubscriptionKey(u32);

impl SubscriptionKey {
    /// Its number in the session, from 0.
    pub fn number(self) -> u32 {
        self.0
    }
}

/// How to close the transport. [`Session::poll_close`] gives it once everything is sent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Close {
    /// The WebSocket close code: 1000, 1002, 1012 or 4500.
    pub code: u16,
    /// Why, at most 123 octets (RFC 6455, section 5.5).
    pub reason: String,
}

/// One client's session, from its first octet to the close.
///
/// - In go [`handle_input`](Session::handle_input), [`handle_alive`](Session::handle_alive) and
///   [`handle_timeout`](Session::handle_timeout).
/// - Events are answered with [`accept`](Session::accept), [`pass_over`](Session::pass_over) or
///   [`fail`](Session::fail); [`deliver`](Session::deliver) and [`close`](Session::close) need no
///   event.
/// - After every one of these calls drain, in this order, until each gives `None`:
///   [`poll_event`](Session::poll_event), [`poll_transmit`](Session::poll_transmit),
///   [`poll_close`](Session::poll_close); then ask [`poll_timeout`](Session::poll_timeout).
///
/// Input is decoded by `poll_event` only, so the driver may stop between two frames. While
/// [`is_backlogged`](Session::is_backlogged) it should not read more from the transport. Every
/// ticket must be answered, else what comes after it is never receipted, nor the session closed.
///
/// ```
/// use std::{sync::Arc, time::Duration};
///
/// use shared::stomp::server::{Config, Event, Session};
///
/// let now = Duration::ZERO;
/// let mut session = Session::new(Arc::new(Config::default()), "s1".to_owned(), now);
/// let input = "CONNECT\naccept-version:1.2\n\n\0SEND\ndestination:/d\nreceipt:r\n\nhi\0";
/// session.handle_input(input.into(), now);
/// while let Some(event) = session.poll_event(now) {
///     if let Event::Send { ticket, sent } = event {
///         assert_eq!(sent.body[..], *b"hi");
///         session.accept(ticket);
///     }
/// }
/// assert!(session.poll_transmit(now).unwrap().starts_with(b"CONNECTED\n"));
/// assert_eq!(session.poll_transmit(now).unwrap()[..], *b"RECEIPT\nreceipt-id:r\n\n\0");
/// assert_eq!(session.poll_close(), None);
/// ```
#[derive(Debug)]
pub struct Session {
    config: Arc<Config>,
    id: String,
    decoder: Decoder,
    /// How many frames and line feeds it gave.
    decoded: u64,
    version: Option<Version>,
    /// When CONNECT must have come; `None` once it has.
    connect_by: Option<Duration>,
    pulse: Pulse,
    subscriptions: Subscriptions,
    transactions: Transactions,
    /// The COMMIT that is not answered, with the acknowledgements that it brings.
    committing: Option<(Ticket, Vec<Ack>)>,
    receipts: Receipts,
    ticket_next: u64,
    /// What [`Session::poll_event`] gives before it reads on.
    events: VecDeque<Event>,
    /// CONNECTED, until it goes out, before all else.
    connected: Option<Box<Frame>>,
    transmits: VecDeque<Bytes>,
    /// How the session ends once what was asked before is answered. No input is read any more.
    ending: Option<Ending>,
    /// Nothing is queued or watched any more.
    is_over: bool,
    close: Option<Close>,
}

/// The frame at which a session ends: DISCONNECT, or one that was answered with ERROR.
#[derive(Debug)]
struct Ending {
    /// Frames from this one on get no RECEIPT any more.
    ticket: Ticket,
    error: Option<Frame>,
    close: Close,
}

impl Session {
    /// Makes a session that awaits CONNECT. `id` becomes the `session` header: one line.
    pub fn new(config: Arc<Config>, id: String, now: Duration) -> Self {
        Session {
            decoder: Decoder::new(config.limits),
            decoded: 0,
            connect_by: Some(now + config.connect_timeout),
            config,
            id,
            version: None,
            pulse: Pulse::new(now),
            subscriptions: Subscriptions::default(),
            transactions: Transactions::default(),
            committing: None,
            receipts: Receipts::default(),
            ticket_next: 0,
            events: VecDeque::new(),
            connected: None,
            transmits: VecDeque::new(),
            ending: None,
            is_over: false,
            close: None,
        }
    }

    /// Takes in octets of the client, cut anywhere. They are decoded by [`Session::poll_event`];
    /// after DISCONNECT or an ERROR they are ignored.
    ///
    /// Before CONNECTED a payload may be as large as the first frame, and so what is kept of one that
    /// never connects.
    pub fn handle_input(&mut self, payload: Bytes, now: Duration) {
        self.pulse.heard(now);
        if !self.is_reading() {
            return;
        }
        let max = self.config.limits.connect_frame_bytes_max;
        if self.version.is_none() && payload.len() > max {
            return self.refuse_input(&DecodeError::FrameTooLarge { max });
        }
        self.decoder.push(payload);
    }

    /// Notes a sign of life that is no octet of STOMP (a pong, an open receiver): the client's silence
    /// begins anew.
    pub fn handle_alive(&mut self, now: Duration) {
        self.pulse.heard(now);
    }

    /// Notes that the client is not read, which may have said all that is waited for: its silence begins
    /// anew, and there is more time to end its transactions.
    pub fn handle_unread(&mut self, now: Duration) {
        self.pulse.heard(now);
        self.transactions.put_off(now);
    }

    /// Does what is due: closes with 4500 when CONNECT or the client's heart-beat did not come, and ends
    /// with an ERROR when a transaction was open for too long. What has come already should be handed in
    /// first.
    pub fn handle_timeout(&mut self, now: Duration) {
        if self.is_over {
            return;
        }
        if self.connect_by.is_some_and(|by| by <= now) {
            let seconds = self.config.connect_timeout.as_secs();
            return self.close(4500, &format!("no CONNECT frame came within {seconds} s"));
        }
        if self.decoder.buffered() > 0 || self.receipts.is_full() || self.is_committing() {
            self.handle_unread(now);
        }
        if let Some(name) = self.transactions.overdue(now) {
            let name = short(name);
            return self.end_overdue(&name);
        }
        self.pulse.note_ping(now);
        if let Some(silence) = self.pulse.lost_after(now) {
            let seconds = silence.as_secs_f32();
            self.close(
                4500,
                &format!("heart-beat lost: nothing came for {seconds} s"),
            );
        }
    }

    /// Adds a header to CONNECTED, as long as that has not gone out.
    pub fn introduce(&mut self, name: &str, value: &str) {
        if let Some(connected) = &mut self.connected {
            connected.headers.push(name, value);
        }
    }

    /// Says that a SEND or a COMMIT is stored or a SUBSCRIBE is taken: its RECEIPT goes out, if it
    /// asked for one, after those of earlier frames.
    pub fn accept(&mut self, ticket: Ticket) {
        let acks = self.conclude(ticket).into_iter().flatten();
        acks.for_each(|ack| self.acknowledge(ack));
        self.receipts.release(ticket);
        self.settle();
    }

    /// Says that a SEND or a COMMIT is refused: it gets no RECEIPT, and holds back no other. Nothing
    /// that the transaction acknowledged is acknowledged.
    pub fn pass_over(&mut self, ticket: Ticket) {
        self.conclude(ticket);
        self.receipts.remove(ticket);
        self.settle();
    }

    /// Ends the session with an ERROR and close code 1002.
    ///
    /// `message` is a few words, `detail` a clause that says what is wrong and what to do: the body
    /// names the frame and gives it. With a ticket, earlier frames get their RECEIPTs first, later
    /// ones none, and the ERROR has the `receipt-id` of the frame if it asked for one. Without, the
    /// ERROR goes out at once.
    pub fn fail(&mut self, ticket: Option<Ticket>, message: &str, detail: &str) {
        ticket.and_then(|ticket| self.conclude(ticket));
        let receipt = ticket
            .and_then(|ticket| self.receipt_of(ticket))
            .map(str::to_owned);
        let ticket = ticket.unwrap_or(Ticket {
            place: 0,
            command: None,
        });
        let detail = match ticket.command {
            Some(_) => refused(ticket.command, detail),
            None => format!("{detail}.\n"),
        };
        let frame = self.error_frame(message, &detail, receipt.as_deref());
        self.end_with_error(ticket, message, frame);
    }

    /// Closes with no ERROR: 1012 for drain, 4500 for a slow reader. What is queued still goes out.
    pub fn close(&mut self, code: u16, reason: &str) {
        if !self.is_over {
            self.over(Close {
                code,
                reason: short(reason),
            });
        }
    }

    /// The `receipt` header of a frame that is not answered yet, if it has one.
    pub fn receipt_of(&self, ticket: Ticket) -> Option<&str> {
        self.receipts.find(ticket)
    }

    /// Says how the messages of a subscription are known, before the first is delivered.
    pub fn identify(&mut self, subscription: SubscriptionKey, message_ids: MessageIds) {
        if let Some(subscription) = self.subscriptions.find_mut(subscription) {
            subscription.identify(message_ids);
        }
    }

    /// How a subscription's messages are acknowledged; `None` when it has ended.
    pub fn ack_mode(&self, subscription: SubscriptionKey) -> Option<AckMode> {
        Some(self.subscriptions.find(subscription)?.ack)
    }

    /// How many messages of a subscription may be delivered now: what `prefetch-count` leaves, without
    /// it [`usize::MAX`]; 0 when it has ended. To deliver more is the driver's fault, and counted all
    /// the same.
    pub fn window(&self, subscription: SubscriptionKey) -> usize {
        self.subscriptions
            .find(subscription)
            .map_or(0, subscriptions::Subscription::window)
    }

    /// Gives the octets of one MESSAGE for a subscription: its beginning, which the session holds,
    /// then `rest`, made by [`super::message_rest`]. It counts as sent. Positions grow; where the
    /// session counts them ([`MessageIds::Own`]) it takes the next, [`Session::position_next`].
    /// `None` when the subscription has ended.
    pub fn deliver<'a>(
        &'a mut self,
        subscription: SubscriptionKey,
        position: u64,
        rest: &'a [u8],
        now: Duration,
    ) -> Option<[&'a [u8]; 3]> {
        let subscription = self.subscriptions.find_mut(subscription)?;
        self.pulse.sent(now);
        let [head, own] = subscription.deliver(position);
        Some([head, own, rest])
    }

    /// The position after the last that was delivered to a subscription.
    pub fn position_next(&self, subscription: SubscriptionKey) -> Option<u64> {
        Some(self.subscriptions.find(subscription)?.next())
    }

    /// Gives how every MESSAGE for a subscription begins, for a driver that puts many together: each
    /// is this, then its own rest, as in [`Session::deliver`]. They count as sent. `None` when the
    /// subscription has ended, or each of its messages begins otherwise.
    pub fn deliver_many(
        &mut self,
        subscription: SubscriptionKey,
        positions: Range<u64>,
        now: Duration,
    ) -> Option<&[u8]> {
        let subscription = self.subscriptions.find_mut(subscription)?;
        if !subscription.is_plain() {
            return None;
        }
        self.pulse.sent(now);
        Some(subscription.deliver_many(positions))
    }

    /// Gives what the client's next frames ask of the driver; `None` when more input is needed, or
    /// answers to earlier tickets.
    pub fn poll_event(&mut self, now: Duration) -> Option<Event> {
        let mut work = usize::MAX;
        self.poll_event_within(&mut work, now)
    }

    /// The same as long as `work` lasts, for a driver that shares its time: each line feed that is decoded
    /// takes one off, and so does each frame, and one more for every eight of its headers. At 0 there may be
    /// more.
    pub fn poll_event_within(&mut self, work: &mut usize, now: Duration) -> Option<Event> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            let is_waiting = self.receipts.is_full() || self.is_committing();
            if !self.is_reading() || is_waiting || *work == 0 {
                return None;
            }
            let received = match self.decoder.poll() {
                Ok(received) => received?,
                Err(error) => {
                    self.refuse_input(&error);
                    continue;
                }
            };
            self.decoded += 1;
            let Received::Frame(frame) = received else {
                *work -= 1;
                continue;
            };
            *work = work.saturating_sub(1 + frame.headers.len() / HEADERS_PER_WORK);
            if let Some(event) = self.handle_frame(frame, now) {
                return Some(event);
            }
        }
    }

    /// How many frames and line feeds were decoded.
    pub fn decoded(&self) -> u64 {
        self.decoded
    }

    /// Whether a COMMIT is not answered yet: what came after it waits.
    pub fn is_committing(&self) -> bool {
        self.committing.is_some()
    }

    /// Gives the octets to send next: one whole frame, or the line feed of a heart-beat that is due.
    pub fn poll_transmit(&mut self, now: Duration) -> Option<Bytes> {
        if let Some(connected) = self.connected.take() {
            self.transmits.push_front(self.encoded(&connected));
        }
        let octets = self.transmits.pop_front().or_else(|| {
            self.pulse
                .is_beat_due(now)
                .then(|| Bytes::from_static(b"\n"))
        })?;
        self.pulse.sent(now);
        Some(octets)
    }

    /// Tells, once, to close the transport after all transmits; the session is over.
    pub fn poll_close(&mut self) -> Option<Close> {
        if self.connected.is_none() && self.transmits.is_empty() {
            self.close.take()
        } else {
            None
        }
    }

    /// When to call [`Session::handle_timeout`] and drain again; `None` when never.
    pub fn poll_timeout(&self) -> Option<Duration> {
        [
            self.connect_by,
            self.pulse.timeout(),
            self.pulse.ping_timeout(),
            self.transactions.timeout(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Whether the driver should ping the client, once for each ping: half-way to the deadline of its
    /// silence (browsers hold the timers of hidden tabs back, but answer pings), and where nothing
    /// went either way for an interval, so that no proxy between takes the connection for idle.
    pub fn wants_ping(&mut self, now: Duration) -> bool {
        self.pulse.take_ping(now)
    }

    /// The `session` header of CONNECTED.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The version that CONNECT and CONNECTED agreed on; `None` before.
    pub fn version(&self) -> Option<Version> {
        self.version
    }

    /// Whether so much input is undecoded, or so many RECEIPTs wait for answers, that the driver
    /// should not read more from the transport.
    pub fn is_backlogged(&self) -> bool {
        self.is_reading()
            && (self.decoder.buffered() >= UNDECODED_BYTES_MAX
                || self.receipts.is_full()
                || self.is_committing())
    }

    #[cfg(test)]
    pub(super) fn subscription_names_bytes(&self) -> usize {
        self.subscriptions.names_bytes()
    }

    fn is_reading(&self) -> bool {
        !self.is_over && self.ending.is_none()
    }

    fn transmit(&mut self, frame: &Frame) {
        self.transmits.push_back(self.encoded(frame));
    }

    fn encoded(&self, frame: &Frame) -> Bytes {
        let mut octets = Vec::with_capacity(128 + frame.body.len());
        // Before the version is known nothing was unescaped, so that nothing must be escaped.
        encode(frame, self.version.unwrap_or(Version::V10), &mut octets);
        octets.into()
    }

    /// There is one for nearly every frame: its octets are written with no [`Frame`] in between.
    fn transmit_receipt(&mut self, receipt: &str) {
        let mut octets = Vec::with_capacity(receipt.len() + 32);
        octets.extend_from_slice(b"RECEIPT\n");
        let version = self.version.unwrap_or(Version::V10);
        encode_header("receipt-id", receipt, version, &mut octets);
        octets.extend_from_slice(b"\n\0");
        self.transmits.push_back(octets.into());
    }

    /// Sends the RECEIPTs whose turn has come, and ends the session when nothing is owed before its
    /// end.
    fn settle(&mut self) {
        if self.is_over {
            return;
        }
        while let Some(receipt) = self.receipts.take_released() {
            self.transmit_receipt(&receipt);
        }
        let oldest = self.receipts.oldest();
        if let Some(ending) = self
            .ending
            .take_if(|ending| oldest.is_none_or(|oldest| oldest >= ending.ticket))
        {
            if let Some(error) = ending.error {
                self.transmit(&error);
            }
            self.over(ending.close);
        }
    }

    /// Ends the wait for the answer to a COMMIT, if it is this one; gives its acknowledgements.
    fn conclude(&mut self, ticket: Ticket) -> Option<Vec<Ack>> {
        let (_, acks) = self.committing.take_if(|(of, _)| *of == ticket)?;
        self.transactions.conclude(&self.config);
        Some(acks)
    }

    /// Takes an acknowledgement: what it settles is told by an event.
    fn acknowledge(&mut self, ack: Ack) {
        let Some(subscription) = self.subscriptions.find_mut(ack.subscription) else {
            return;
        };
        let positions = subscription.settle(ack.position);
        if !positions.is_empty() {
            self.events.push_back(Event::Settled {
                subscription: ack.subscription,
                positions,
                is_nack: ack.is_nack,
            });
        }
    }

    fn end(&mut self, ending: Ending) {
        let is_earlier = self
            .ending
            .as_ref()
            .is_none_or(|other| ending.ticket < other.ticket);
        if !self.is_over && is_earlier {
            self.receipts.truncate(ending.ticket);
            self.transactions.clear();
            self.decoder = Decoder::new(self.config.limits);
            self.ending = Some(ending);
            self.settle();
        }
    }

    fn end_with_error(&mut self, ticket: Ticket, message: &str, error: Frame) {
        let close = Close {
            code: 1002,
            reason: short(message),
        };
        self.end(Ending {
            ticket,
            error: Some(error),
            close,
        });
    }

    fn error_frame(&self, message: &str, detail: &str, receipt: Option<&str>) -> Frame {
        let mut frame = Frame::new(Command::Error)
            .with_header("message", &one_line(message, self.version.is_some()))
            .with_header("content-type", "text/plain");
        if let Some(receipt) = receipt {
            frame.headers.push("receipt-id", receipt);
        }
        frame.with_body(detail.to_owned())
    }

    fn over(&mut self, close: Close) {
        self.is_over = true;
        self.ending = None;
        self.connect_by = None;
        self.pulse.stop();
        self.subscriptions.clear();
        self.transactions.clear();
        self.committing = None;
        self.receipts = Receipts::default();
        self.decoder = Decoder::new(self.config.limits);
        self.close = Some(close);
    }
}

/// So many headers cost as much as all the rest of a small frame.
const HEADERS_PER_WORK: usize = 8;

/// Undecoded input from which on no more should be read: a whole message of the transport.
const UNDECODED_BYTES_MAX: usize = 256 * 1024;

/// The longest reason of a close frame, in octets (RFC 6455, section 5.5).
const REASON_BYTES_MAX: usize = 123;

/// The body of the ERROR over a frame.
fn refused(command: Option<Command>, detail: &str) -> String {
    match command {
        Some(command) => format!("The {command} frame was refused: {detail}.\n"),
        None => format!("The frame was refused: {detail}.\n"),
    }
}

fn short(reason: &str) -> String {
    reason[..reason.floor_char_boundary(REASON_BYTES_MAX)].to_owned()
}

/// Makes a text fit for a `message` header. While no version is agreed it could not be escaped, so
/// that it must not need to be.
fn one_line(text: &str, is_escaped: bool) -> String {
    let replace = |c: char| match c {
        c if c.is_control() => ' ',
        ':' if !is_escaped => ';',
        '\\' if !is_escaped => '/',
        c => c,
    };
    text.chars().map(replace).collect()
}
