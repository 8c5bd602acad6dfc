//! The client's half of a conversation: [`Client`].
//!
//! What is not here: the socket, reconnecting and what a MESSAGE means; those are the driver's.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;

use super::{
    codec::{Decoder, Limits, Received, encode},
    frame::{Command, Frame, Version},
    header::Headers,
    heartbeat::{Agreed, HeartBeat, Pulse},
};

/// How a client introduces itself.
#[derive(Clone, Debug)]
pub struct Config {
    /// The `host` header of CONNECT.
    pub host: String,
    /// What the client offers.
    pub heart_beat: HeartBeat,
    /// How large the server's frames may be.
    pub limits: Limits,
    /// More headers for CONNECT, such as `login` or our server's `x-guest`; one that holds a line end is left out.
    pub headers: Vec<(String, String)>,
    /// How long the server may take to answer CONNECT.
    pub connect_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            host: "localhost".to_owned(),
            heart_beat: HeartBeat::default(),
            limits: Limits::default(),
            headers: Vec::new(),
            connect_timeout: Duration::from_secs(10),
        }
    }
}

/// What the server's frames, or their absence, mean.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    /// The session is open.
    Connected {
        /// The version that was agreed on.
        version: Version,
        /// All headers of CONNECTED.
        headers: Headers,
    },
    /// A message of a subscription.
    Message {
        /// The `subscription` header; in 1.0, where it may be missing, the destination.
        subscription: String,
        /// All headers.
        headers: Headers,
        /// The body, a slice of the input where it came in one piece.
        body: Bytes,
    },
    /// The server has answered [`Client::ask`].
    Alive,
    /// The server has dealt with the frame that asked.
    Receipt {
        /// The `receipt` that the frame asked with.
        id: String,
    },
    /// The server gives up the session; nothing follows.
    Error {
        /// The `message` header.
        message: String,
        /// The `receipt` of the frame that it is about, if that is known.
        receipt: Option<String>,
        /// The explanation.
        body: Bytes,
    },
    /// The client gives up the session; close the transport. Nothing follows.
    Closed {
        /// Why.
        reason: Lost,
    },
}

/// Why a client gives up a session.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Lost {
    /// The server was silent for three times the agreed interval, or did not answer
    /// [`Client::ask`].
    #[error("the server's heart-beat was lost")]
    Silence,
    /// CONNECTED did not come in time.
    #[error("the server did not answer CONNECT in time")]
    NoConnected,
    /// The server sent what is not STOMP, or not allowed there.
    #[error("the server broke the protocol: {0}")]
    Protocol(String),
}

/// One session from the client's side, from CONNECT on.
///
/// Drain it after every call: [`poll_event`](Client::poll_event) and
/// [`poll_transmit`](Client::poll_transmit) until they give `None`, then ask
/// [`poll_timeout`](Client::poll_timeout). What is asked before CONNECTED is sent after it; what is
/// asked after the end is dropped.
#[derive(Debug)]
pub struct Client {
    config: Config,
    decoder: Decoder,
    phase: Phase,
    pulse: Pulse,
    events: VecDeque<Event>,
    transmits: VecDeque<Bytes>,
    /// Frames that wait for CONNECTED, since only then their escapes are known.
    waiting: Vec<Frame>,
    /// The `receipt` of the DISCONNECT that was sent.
    goodbye: Option<String>,
    asked_at: Option<Duration>,
    /// A timer came late, and nothing was heard since.
    is_late: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    Connecting { by: Duration },
    Connected(Version),
    Over,
}

impl Client {
    /// Makes a client and queues its CONNECT.
    pub fn new(config: Config, now: Duration) -> Self {
        let mut connect = Frame::new(Command::Connect)
            .with_header(
                "accept-version",
                &Version::ALL.map(Version::as_str).join(","),
            )
            .with_header("host", &config.host)
            .with_header("heart-beat", &config.heart_beat.to_string());
        for (name, value) in &config.headers {
            connect.headers.push(name, value);
        }
        let mut client = Client {
            decoder: Decoder::new(config.limits),
            phase: Phase::Connecting {
                by: now + config.connect_timeout,
            },
            config,
            pulse: Pulse::new(now),
            events: VecDeque::new(),
            transmits: VecDeque::new(),
            waiting: Vec::new(),
            goodbye: None,
            asked_at: None,
            is_late: false,
        };
        client.transmit(&connect, Version::V10);
        client
    }

    /// Takes in octets of the server, cut anywhere. A heart-beat that is due goes out with the
    /// transmits that follow.
    pub fn handle_input(&mut self, payload: Bytes, now: Duration) {
        self.pulse.heard(now);
        self.is_late = false;
        if self.asked_at.is_some_and(|at| now > at + UNREAD_MAX) {
            self.answered();
        }
        self.decoder.push(payload);
        while self.phase != Phase::Over {
            match self.decoder.poll() {
                Ok(None) => break,
                Ok(Some(Received::EndOfLine)) => {}
                Ok(Some(Received::Frame(frame))) => {
                    if let Err(lost) = self.handle_frame(frame, now) {
                        self.lose(lost);
                    }
                }
                Err(error) => self.lose(Lost::Protocol(error.to_string())),
            }
        }
    }

    /// Does what is due: gives up when CONNECTED, the server's heart-beat or its answer did not come.
    ///
    /// A call that comes more than two seconds after [`Client::poll_timeout`] shows that nothing
    /// could run meanwhile (a hidden page, a sleeping machine). What the server said may lie there
    /// unread, and the connection may be long gone: so the first such call in a silence asks. Who has
    /// asked already asks anew where the call is late at all, as the answer may lie there.
    pub fn handle_timeout(&mut self, now: Duration) {
        let late_min = match self.asked_at {
            Some(_) => UNREAD_MAX,
            None => LATE_MIN,
        };
        let is_late = self.poll_timeout().is_some_and(|due| now > due + late_min);
        if is_late && !self.is_late {
            self.is_late = true;
            if let Phase::Connecting { by } = &mut self.phase {
                *by = (*by).max(now + ANSWER_WITHIN);
            }
            self.asked_at = None;
            self.ask(now);
        }
        match self.phase {
            Phase::Connecting { by } if by <= now => self.lose(Lost::NoConnected),
            Phase::Connected(_) if self.lost_at().is_some_and(|at| at <= now) => {
                self.lose(Lost::Silence);
            }
            _ => {}
        }
    }

    /// Asks the server, once connected, for a sign of life: [`Event::Alive`] tells that it came;
    /// where it does not within three seconds, the session is over.
    ///
    /// STOMP has no heart-beat that must be answered, so this is a transaction of nothing, whose
    /// ABORT asks for a RECEIPT. Since that may have to wait for those of earlier frames (on disk),
    /// anything else answers as well, if it comes too late to have lain here unread.
    pub fn ask(&mut self, now: Duration) {
        let may_ask = self.asked_at.is_none() && self.goodbye.is_none();
        if may_ask && matches!(self.phase, Phase::Connected(_)) {
            self.asked_at = Some(now);
            self.begin(ASK);
            let abort = Frame::new(Command::Abort).with_header("transaction", ASK);
            self.submit(abort.with_header("receipt", ASK));
        }
    }

    /// Subscribes; `id` names the subscription in its messages. `headers` are more headers, such as
    /// `x-stream-offset` and `receipt`.
    pub fn subscribe(&mut self, id: &str, destination: &str, headers: &[(&str, &str)]) {
        let mut frame = Frame::new(Command::Subscribe)
            .with_header("id", id)
            .with_header("destination", destination);
        for (name, value) in headers {
            frame.headers.push(name, value);
        }
        self.submit(frame);
    }

    /// Ends a subscription.
    pub fn unsubscribe(&mut self, id: &str) {
        self.submit(Frame::new(Command::Unsubscribe).with_header("id", id));
    }

    /// Sends to a destination; `receipt` asks for a RECEIPT of that id.
    pub fn send(
        &mut self,
        destination: &str,
        headers: &[(&str, &str)],
        body: Bytes,
        receipt: Option<&str>,
    ) {
        let mut frame = Frame::new(Command::Send).with_header("destination", destination);
        for (name, value) in headers {
            frame.headers.push(name, value);
        }
        if let Some(receipt) = receipt {
            frame.headers.push("receipt", receipt);
        }
        self.submit(frame.with_body(body));
    }

    /// Acknowledges a message by its headers, in a transaction or at once.
    pub fn ack(&mut self, message: &Headers, transaction: Option<&str>) {
        self.settle(Command::Ack, message, transaction);
    }

    /// Gives a message back by its headers, in a transaction or at once (not in 1.0).
    pub fn nack(&mut self, message: &Headers, transaction: Option<&str>) {
        self.settle(Command::Nack, message, transaction);
    }

    fn settle(&mut self, command: Command, message: &Headers, transaction: Option<&str>) {
        let Phase::Connected(version) = self.phase else {
            return;
        };
        // What the version calls a message, and where a MESSAGE says it.
        let names: &[(&str, &str)] = match version {
            Version::V12 => &[("id", "ack")],
            Version::V11 => &[
                ("message-id", "message-id"),
                ("subscription", "subscription"),
            ],
            Version::V10 => &[("message-id", "message-id")],
        };
        let mut frame = Frame::new(command);
        for (name, source) in names {
            frame
                .headers
                .push(name, message.get(source).unwrap_or_default());
        }
        if let Some(transaction) = transaction {
            frame.headers.push("transaction", transaction);
        }
        self.submit(frame);
    }

    /// Begins a transaction: SENDs with a `transaction` header of this name, and acknowledgements in
    /// it, count at its COMMIT.
    pub fn begin(&mut self, transaction: &str) {
        self.submit(Frame::new(Command::Begin).with_header("transaction", transaction));
    }

    /// Commits a transaction; the RECEIPT of that id tells that all of it is done.
    pub fn commit(&mut self, transaction: &str, receipt: Option<&str>) {
        let mut frame = Frame::new(Command::Commit).with_header("transaction", transaction);
        if let Some(receipt) = receipt {
            frame.headers.push("receipt", receipt);
        }
        self.submit(frame);
    }

    /// Drops a transaction.
    pub fn abort(&mut self, transaction: &str) {
        self.submit(Frame::new(Command::Abort).with_header("transaction", transaction));
    }

    /// Takes leave. The RECEIPT of that id tells that the server has seen everything; the session is
    /// over then.
    pub fn disconnect(&mut self, receipt: &str) {
        self.submit(Frame::new(Command::Disconnect).with_header("receipt", receipt));
        self.goodbye = Some(receipt.to_owned());
    }

    /// Gives what happened next.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Gives the octets to send next: one whole frame, or the line feed of a heart-beat that is due.
    pub fn poll_transmit(&mut self, now: Duration) -> Option<Bytes> {
        let octets = self.transmits.pop_front().or_else(|| {
            self.pulse
                .is_beat_due(now)
                .then(|| Bytes::from_static(b"\n"))
        })?;
        self.pulse.sent(now);
        Some(octets)
    }

    /// When to call [`Client::handle_timeout`] and drain again; `None` when never.
    pub fn poll_timeout(&self) -> Option<Duration> {
        match self.phase {
            Phase::Connecting { by } => Some(by),
            Phase::Connected(_) => [self.pulse.beat_at(), self.lost_at()]
                .into_iter()
                .flatten()
                .min(),
            Phase::Over => None,
        }
    }

    /// When the server is lost if nothing comes.
    fn lost_at(&self) -> Option<Duration> {
        match self.asked_at {
            Some(at) => Some(at + ANSWER_WITHIN),
            None => self.pulse.lost_at(),
        }
    }

    fn answered(&mut self) {
        if self.asked_at.take().is_some() {
            self.events.push_back(Event::Alive);
        }
    }

    fn submit(&mut self, frame: Frame) {
        match self.phase {
            // After DISCONNECT a client must not send (STOMP 1.2, "DISCONNECT").
            _ if self.goodbye.is_some() => {}
            Phase::Connecting { .. } => self.waiting.push(frame),
            Phase::Connected(version) => self.transmit(&frame, version),
            Phase::Over => {}
        }
    }

    fn transmit(&mut self, frame: &Frame, version: Version) {
        let mut octets = Vec::with_capacity(256 + frame.body.len());
        encode(frame, version, &mut octets);
        self.transmits.push_back(octets.into());
    }

    fn handle_frame(&mut self, frame: Frame, now: Duration) -> Result<(), Lost> {
        let connecting = matches!(self.phase, Phase::Connecting { .. });
        match frame.command {
            Command::Connected if connecting => self.handle_connected(frame.headers, now),
            Command::Error => {
                self.events.push_back(Event::Error {
                    message: frame.headers.get("message").unwrap_or_default().to_owned(),
                    receipt: frame.headers.get("receipt-id").map(str::to_owned),
                    body: frame.body,
                });
                self.over();
                Ok(())
            }
            Command::Message if !connecting => {
                let named = frame.headers.get("subscription");
                let Some(name) = named.or_else(|| frame.headers.get("destination")) else {
                    return Err(Lost::Protocol("a MESSAGE names no subscription".to_owned()));
                };
                let subscription = name.to_owned();
                let (headers, body) = (frame.headers, frame.body);
                self.events.push_back(Event::Message {
                    subscription,
                    headers,
                    body,
                });
                Ok(())
            }
            Command::Receipt if !connecting => {
                let id = frame
                    .headers
                    .get("receipt-id")
                    .unwrap_or_default()
                    .to_owned();
                if id == ASK {
                    self.answered();
                    return Ok(());
                }
                let is_goodbye = self.goodbye.as_ref() == Some(&id);
                self.events.push_back(Event::Receipt { id });
                if is_goodbye {
                    self.over();
                }
                Ok(())
            }
            command => Err(Lost::Protocol(format!(
                "it sent {command} where none may come"
            ))),
        }
    }

    fn handle_connected(&mut self, headers: Headers, now: Duration) -> Result<(), Lost> {
        let version = match headers.get("version") {
            None => Version::V10,
            Some(text) => Version::parse(text)
                .ok_or_else(|| Lost::Protocol(format!("it speaks version {text}")))?,
        };
        let theirs = headers.get("heart-beat").and_then(HeartBeat::parse);
        let agreed = match theirs {
            Some(theirs) if version > Version::V10 => self.config.heart_beat.negotiate(theirs),
            _ => Agreed::default(),
        };
        self.phase = Phase::Connected(version);
        self.decoder.set_version(version);
        self.pulse.start(agreed, None, SILENCE_FACTOR, now);
        for frame in std::mem::take(&mut self.waiting) {
            self.transmit(&frame, version);
        }
        self.events.push_back(Event::Connected { version, headers });
        Ok(())
    }

    fn lose(&mut self, reason: Lost) {
        self.events.push_back(Event::Closed { reason });
        self.over();
    }

    fn over(&mut self) {
        self.phase = Phase::Over;
        self.pulse.stop();
        self.asked_at = None;
        self.transmits.clear();
        self.waiting.clear();
    }
}

/// How much later than asked a timer shows that nothing could run meanwhile.
const LATE_MIN: Duration = Duration::from_secs(2);

/// How long the server may take to answer [`Client::ask`].
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// For how long after something was asked there may come what was said before.
const UNREAD_MAX: Duration = Duration::from_millis(300);

/// The transaction and the receipt of [`Client::ask`].
const ASK: &str = "sign-of-life";

/// After how many agreed intervals of silence the server is lost.
const SILENCE_FACTOR: u32 = 3;
