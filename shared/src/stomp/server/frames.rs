//! What each frame of a client does to its session.

use std::{num::NonZeroU16, time::Duration};

use bytes::Bytes;

use super::{
    super::{
        codec::DecodeError,
        frame::{Command, Frame, Version},
        header::{Headers, is_expressible},
        heartbeat::{Agreed, HeartBeat},
    },
    AckMode, Close, Ending, Event, Sent, Session, Ticket, refused, short,
    subscriptions::{Ack, NAMES_BYTES_MAX, Name},
    transactions::{Part, Refused},
};

/// Why a frame ends the session: the parts of an ERROR.
struct Fault {
    /// A few words, for the `message` header.
    message: &'static str,
    /// What is wrong and what to do.
    detail: String,
    /// The ERROR lists our versions.
    lists_versions: bool,
}

impl Fault {
    fn new(message: &'static str, detail: impl Into<String>) -> Self {
        Fault {
            message,
            detail: detail.into(),
            lists_versions: false,
        }
    }
}

impl Session {
    /// Does what a frame asks; ends the session with an ERROR where it cannot be done.
    pub(super) fn handle_frame(&mut self, frame: Frame, now: Duration) -> Option<Event> {
        let command = frame.command;
        let receipt = frame.headers.get("receipt").map(str::to_owned);
        let handled = match self.version {
            None => self.handle_connect(frame, now).map(Some),
            Some(version) => self.handle_connected(frame, version, receipt.as_deref(), now),
        };
        handled.unwrap_or_else(|fault| {
            self.refuse(Some(command), receipt.as_deref(), fault);
            None
        })
    }

    /// Ends the session over octets that are no frame.
    pub(super) fn refuse_input(&mut self, error: &DecodeError) {
        let message = match error {
            DecodeError::UnknownCommand(_) => "unknown command",
            DecodeError::FrameTooLarge { .. }
            | DecodeError::HeaderLineTooLong { .. }
            | DecodeError::TooManyHeaders { .. } => "frame too large",
            DecodeError::UnexpectedBody(_) => "body not allowed",
            _ => "malformed frame",
        };
        let receipt = self.decoder.receipt().map(str::to_owned);
        let fault = Fault::new(message, error.to_string());
        self.refuse(self.decoder.command(), receipt.as_deref(), fault);
    }

    fn refuse(&mut self, command: Option<Command>, receipt: Option<&str>, fault: Fault) {
        let detail = refused(command, &fault.detail);
        let mut frame = self.error_frame(fault.message, &detail, receipt);
        if fault.lists_versions {
            frame.headers.push("version", &versions());
        }
        let ticket = self.ticket(command);
        self.end_with_error(ticket, fault.message, frame);
    }

    fn handle_connect(&mut self, frame: Frame, now: Duration) -> Result<Event, Fault> {
        if !matches!(frame.command, Command::Connect | Command::Stomp) {
            return Err(Fault::new(
                "not connected",
                "the first frame must be CONNECT or STOMP",
            ));
        }
        let accept_version = frame.headers.get("accept-version");
        let Some(version) = Version::negotiate(accept_version) else {
            let detail = format!("accept-version names none of {}", versions());
            return Err(Fault {
                lists_versions: true,
                ..Fault::new("unsupported version", detail)
            });
        };
        if version > Version::V10 && !frame.body.is_empty() {
            return Err(Fault::new("body not allowed", "it may have no body"));
        }
        let (ours, agreed) = self.agree(&frame.headers, version)?;
        self.version = Some(version);
        self.decoder.set_version(version);
        self.connect_by = None;
        let (pings, factor) = (self.config.ping_interval, self.config.silence_factor);
        self.pulse.start(agreed, Some(pings), factor, now);
        let mut connected = Frame::new(Command::Connected)
            .with_header("version", version.as_str())
            .with_header("heart-beat", &ours.to_string())
            .with_header("session", &self.id)
            .with_header("server", &self.config.server);
        if let Some(epoch) = &self.config.epoch {
            connected.headers.push("x-stream-epoch", epoch);
        }
        self.connected = Some(Box::new(connected));
        Ok(Event::Connected {
            headers: frame.headers,
        })
    }

    /// What this side offers, and what that comes to with the client's offer.
    fn agree(&self, headers: &Headers, version: Version) -> Result<(HeartBeat, Agreed), Fault> {
        if version == Version::V10 {
            return Ok((HeartBeat::NONE, Agreed::default()));
        }
        let theirs = match headers.get("heart-beat") {
            None => HeartBeat::NONE,
            Some(text) => HeartBeat::parse(text).ok_or_else(|| {
                let detail = "heart-beat must be two numbers of milliseconds, such as 10000,10000";
                Fault::new("bad heart-beat", detail)
            })?,
        };
        let ours = self.config.heart_beat;
        Ok((ours, ours.negotiate(theirs)))
    }

    fn handle_connected(
        &mut self,
        frame: Frame,
        version: Version,
        receipt: Option<&str>,
        now: Duration,
    ) -> Result<Option<Event>, Fault> {
        if receipt.is_some_and(|id| !is_expressible("receipt-id", id, version)) {
            let detail = "in this version its receipt may not hold a line end; choose another";
            return Err(Fault::new("bad receipt", detail));
        }
        match frame.command {
            Command::Send => self.handle_send(frame, receipt),
            Command::Subscribe => self.handle_subscribe(frame, version, receipt).map(Some),
            Command::Unsubscribe => self.handle_unsubscribe(&frame, version, receipt),
            Command::Disconnect => Ok(Some(self.handle_disconnect(receipt))),
            // NACK came with 1.1.
            Command::Nack if version == Version::V10 => Err(Fault::new(
                "unknown command",
                "there is no NACK in version 1.0",
            )),
            Command::Ack | Command::Nack => self.handle_ack(&frame, version, receipt),
            Command::Begin => self.handle_begin(&frame, receipt, now),
            Command::Commit => self.handle_commit(&frame, receipt),
            Command::Abort => self.handle_abort(&frame, receipt),
            Command::Connect | Command::Stomp => Err(Fault::new(
                "already connected",
                "the session is already connected",
            )),
            Command::Connected | Command::Message | Command::Receipt | Command::Error => {
                Err(Fault::new("unknown command", "only a server sends it"))
            }
        }
    }

    fn handle_send(&mut self, frame: Frame, receipt: Option<&str>) -> Result<Option<Event>, Fault> {
        let mut sent = Sent {
            destination: required(&frame.headers, "destination")?.to_owned(),
            headers: frame.headers,
            body: frame.body,
        };
        let Some(name) = sent.headers.get("transaction").map(str::to_owned) else {
            let ticket = self.owe(Command::Send, receipt, false);
            return Ok(Some(Event::Send { ticket, sent }));
        };
        // A slice would keep alive all that came with it.
        sent.body = Bytes::copy_from_slice(&sent.body);
        sent.headers.shrink_to_fit();
        self.take_into(&name, Part::Send(sent))?;
        self.receipt_at_once(Command::Send, receipt);
        Ok(None)
    }

    fn handle_ack(
        &mut self,
        frame: &Frame,
        version: Version,
        receipt: Option<&str>,
    ) -> Result<Option<Event>, Fault> {
        let acks = self.find_acks(frame, version)?;
        match frame.headers.get("transaction") {
            Some(name) => {
                self.take_into(name, Part::Acks(acks, frame.headers.octets()))?;
            }
            None => acks.into_iter().for_each(|ack| self.acknowledge(ack)),
        }
        self.receipt_at_once(frame.command, receipt);
        Ok(None)
    }

    /// Finds what an ACK or NACK is about, by each version's own headers.
    fn find_acks(&self, frame: &Frame, version: Version) -> Result<Vec<Ack>, Fault> {
        let headers = &frame.headers;
        let is_nack = frame.command == Command::Nack;
        let found = match version {
            Version::V12 => self.subscriptions.by_ack(required(headers, "id")?, is_nack),
            Version::V11 => {
                let message_id = required(headers, "message-id")?;
                let subscription = required(headers, "subscription")?;
                self.subscriptions
                    .by_message_id(message_id, Some(subscription), is_nack)
            }
            Version::V10 => {
                let message_id = required(headers, "message-id")?;
                self.subscriptions.by_message_id(message_id, None, is_nack)
            }
        };
        found.ok_or_else(|| {
            let detail = if version == Version::V12 {
                "this session was sent no message with this ack header; its id must be that of one"
            } else {
                "this session was sent no such message; its message-id must be that of one"
            };
            Fault::new("no such message", detail)
        })
    }

    fn handle_begin(
        &mut self,
        frame: &Frame,
        receipt: Option<&str>,
        now: Duration,
    ) -> Result<Option<Event>, Fault> {
        let name = required(&frame.headers, "transaction")?;
        self.transactions
            .begin(name, now, &self.config)
            .map_err(|refused| self.transaction_fault(refused))?;
        self.receipt_at_once(frame.command, receipt);
        Ok(None)
    }

    fn handle_commit(
        &mut self,
        frame: &Frame,
        receipt: Option<&str>,
    ) -> Result<Option<Event>, Fault> {
        let name = required(&frame.headers, "transaction")?;
        let transaction = self
            .transactions
            .commit(name)
            .map_err(|refused| self.transaction_fault(refused))?;
        let ticket = self.owe(Command::Commit, receipt, false);
        self.committing = Some((ticket, transaction.acks));
        if transaction.sends.is_empty() {
            self.accept(ticket);
            return Ok(None);
        }
        let sends = transaction.sends;
        Ok(Some(Event::Commit { ticket, sends }))
    }

    fn handle_abort(
        &mut self,
        frame: &Frame,
        receipt: Option<&str>,
    ) -> Result<Option<Event>, Fault> {
        let name = required(&frame.headers, "transaction")?;
        self.transactions
            .abort(name, &self.config)
            .map_err(|refused| self.transaction_fault(refused))?;
        self.receipt_at_once(frame.command, receipt);
        Ok(None)
    }

    /// Lets an open transaction take in what a frame brings.
    fn take_into(&mut self, name: &str, part: Part) -> Result<(), Fault> {
        self.transactions
            .take_in(name, part, &self.config)
            .map_err(|refused| self.transaction_fault(refused))
    }

    /// Ends the session over a transaction that was open for too long: what its SENDs' RECEIPTs let
    /// the client hope for will not come.
    pub(super) fn end_overdue(&mut self, name: &str) {
        let seconds = self.config.transaction_timeout.as_secs_f32();
        let detail = format!(
            "Transaction {name} was open for {seconds} s and is aborted; COMMIT or ABORT it sooner.\n"
        );
        let message = "transaction timed out";
        let frame = self.error_frame(message, &detail, None);
        let ticket = self.ticket(None);
        self.end_with_error(ticket, message, frame);
    }

    fn transaction_fault(&self, refused: Refused) -> Fault {
        match refused {
            Refused::InUse => Fault::new(
                "transaction in use",
                "a transaction of this name is open; choose another name, or end that one",
            ),
            Refused::NotBegun => Fault::new(
                "no such transaction",
                "no transaction of this name is open; BEGIN one first",
            ),
            Refused::TooMuchInAll => Fault::new(
                "transactions too large",
                "the open transactions of all sessions hold as much as they may; try again later, or \
                 in smaller parts",
            ),
            Refused::TooMany => {
                let max = self.config.transactions_max;
                let detail = format!("a session may have {max} open transactions; end one first");
                Fault::new("too many transactions", detail)
            }
            Refused::TooLarge => {
                let (frames, bytes) = (
                    self.config.transaction_frames_max,
                    self.config.transaction_bytes_max,
                );
                let detail = format!(
                    "a transaction takes {frames} frames and {bytes} bytes; commit earlier"
                );
                Fault::new("transaction too large", detail)
            }
        }
    }

    fn handle_subscribe(
        &mut self,
        frame: Frame,
        version: Version,
        receipt: Option<&str>,
    ) -> Result<Event, Fault> {
        let destination = required(&frame.headers, "destination")?.to_owned();
        let name = subscription_name(&frame.headers, version)?;
        let ack = ack_mode(&frame.headers, version)?;
        let prefetch = match frame.headers.get("prefetch-count") {
            Some(text) if ack != AckMode::Auto => Some(self.prefetch(text)?),
            _ => None,
        };
        // Clients in use subscribe again under their fixed ids after a reconnect; Spring lets them.
        let taken = self.subscriptions.destination_of(&name);
        if taken.is_some_and(|taken| taken != destination) {
            let detail = "a subscription of this id is live at another destination; \
                          choose another id or end that one";
            return Err(Fault::new("subscription in use", detail));
        }
        let max = self.config.subscriptions_max;
        if taken.is_none() && self.subscriptions.len() >= max {
            let detail = format!("a session may have {max} subscriptions; end one first");
            return Err(Fault::new("too many subscriptions", detail));
        }
        if taken.is_none() && !self.subscriptions.has_room(&name, &destination) {
            let detail = format!(
                "the ids and destinations of a session's subscriptions have at most {NAMES_BYTES_MAX} \
                 bytes together; choose shorter ids, or end one first"
            );
            return Err(Fault::new("too many subscriptions", detail));
        }
        let replaced = self.subscriptions.remove(&name);
        let subscription = self
            .subscriptions
            .insert(name, &destination, version, ack, prefetch);
        let ticket = self.owe(Command::Subscribe, receipt, false);
        Ok(Event::Subscribe {
            ticket,
            subscription,
            replaced,
            destination,
            headers: frame.headers,
        })
    }

    fn handle_unsubscribe(
        &mut self,
        frame: &Frame,
        version: Version,
        receipt: Option<&str>,
    ) -> Result<Option<Event>, Fault> {
        let name = subscription_name(&frame.headers, version)?;
        let ended = self.subscriptions.remove(&name);
        self.receipt_at_once(frame.command, receipt);
        // What is not live has ended: clients in use end a subscription twice.
        Ok(ended.map(|subscription| Event::Unsubscribe { subscription }))
    }

    fn prefetch(&self, text: &str) -> Result<NonZeroU16, Fault> {
        let max = self.config.prefetch_max;
        let count = text
            .parse()
            .ok()
            .filter(|count: &NonZeroU16| count.get() <= max);
        count.ok_or_else(|| {
            let detail = format!("prefetch-count must be a number from 1 to {max}");
            Fault::new("bad prefetch-count", detail)
        })
    }

    fn handle_disconnect(&mut self, receipt: Option<&str>) -> Event {
        self.owe(Command::Disconnect, receipt, true);
        self.subscriptions.clear();
        let ticket = self.ticket(Some(Command::Disconnect));
        let close = Close {
            code: 1000,
            reason: short("goodbye"),
        };
        self.end(Ending {
            ticket,
            error: None,
            close,
        });
        Event::Disconnect
    }

    fn ticket(&mut self, command: Option<Command>) -> Ticket {
        let place = self.ticket_next;
        self.ticket_next += 1;
        Ticket { place, command }
    }

    /// Owes a RECEIPT that waits for nothing but its turn.
    fn receipt_at_once(&mut self, command: Command, receipt: Option<&str>) {
        self.owe(command, receipt, true);
        self.settle();
    }

    /// Gives a frame its ticket and, if it asked for one, its turn among the RECEIPTs.
    fn owe(&mut self, command: Command, receipt: Option<&str>, is_released: bool) -> Ticket {
        let ticket = self.ticket(Some(command));
        if let Some(receipt) = receipt {
            self.receipts.push(ticket, receipt.to_owned(), is_released);
        }
        ticket
    }
}

fn required<'a>(headers: &'a Headers, name: &str) -> Result<&'a str, Fault> {
    headers
        .get(name)
        .ok_or_else(|| Fault::new("missing header", format!("it needs the header {name}")))
}

fn ack_mode(headers: &Headers, version: Version) -> Result<AckMode, Fault> {
    match headers.get("ack") {
        None | Some("auto") => Ok(AckMode::Auto),
        Some("client") => Ok(AckMode::Client),
        Some("client-individual") if version > Version::V10 => Ok(AckMode::ClientIndividual),
        Some(_) => {
            let detail = if version > Version::V10 {
                "ack must be auto, client or client-individual"
            } else {
                "in version 1.0 ack must be auto or client"
            };
            Err(Fault::new("bad ack mode", detail))
        }
    }
}

/// How a client names the subscription of its SUBSCRIBE or UNSUBSCRIBE.
fn subscription_name(headers: &Headers, version: Version) -> Result<Name, Fault> {
    if version == Version::V10 && headers.get("id").is_none() {
        let destination = required(headers, "destination")?;
        return Ok(Name::Destination(destination.to_owned()));
    }
    let id = required(headers, "id")?;
    if !is_expressible("subscription", id, version) {
        let detail = "in this version its id may not hold a line end; choose another id";
        return Err(Fault::new("bad subscription id", detail));
    }
    Ok(Name::Id(id.to_owned()))
}

fn versions() -> String {
    Version::ALL.map(Version::as_str).join(",")
}
