//! What each frame of a client does to its session.

use std::time::Duration;

use super::{
    super::{
        codec::DecodeError,
        frame::{Command, Frame, Version},
        header::{Headers, is_expressible},
        heartbeat::{Agreed, HeartBeat},
    },
    Close, Ending, Event, Session, Ticket, short,
    subscriptions::Name,
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
            Some(version) => self.handle_connected(frame, version, receipt.as_deref()),
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
        let detail = match command {
            Some(command) => format!("The {command} frame was refused: {}.\n", fault.detail),
            None => format!("The frame was refused: {}.\n", fault.detail),
        };
        let mut frame = self.error_frame(fault.message, &detail, receipt);
        if fault.lists_versions {
            frame.headers.push("version", &versions());
        }
        let ticket = self.ticket();
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
        self.pulse.start(agreed, self.config.silence_factor, now);
        let connected = Frame::new(Command::Connected)
            .with_header("version", version.as_str())
            .with_header("heart-beat", &ours.to_string())
            .with_header("session", &self.id)
            .with_header("server", &self.config.server);
        self.transmit(&connected);
        Ok(Event::Connected)
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
    ) -> Result<Option<Event>, Fault> {
        match frame.command {
            Command::Send => self.handle_send(frame, receipt).map(Some),
            Command::Subscribe => self.handle_subscribe(frame, version, receipt).map(Some),
            Command::Unsubscribe => self.handle_unsubscribe(&frame, version, receipt).map(Some),
            Command::Disconnect => Ok(Some(self.handle_disconnect(receipt))),
            Command::Ack | Command::Nack => {
                let detail = "acknowledgements are not offered yet; subscribe with ack:auto";
                Err(Fault::new("not offered yet", detail))
            }
            Command::Begin | Command::Commit | Command::Abort => Err(Fault::new(
                "not offered yet",
                "transactions are not offered yet",
            )),
            Command::Connect | Command::Stomp => Err(Fault::new(
                "already connected",
                "the session is already connected",
            )),
            Command::Connected | Command::Message | Command::Receipt | Command::Error => {
                Err(Fault::new("unknown command", "only a server sends it"))
            }
        }
    }

    fn handle_send(&mut self, frame: Frame, receipt: Option<&str>) -> Result<Event, Fault> {
        let destination = required(&frame.headers, "destination")?.to_owned();
        if frame.headers.get("transaction").is_some() {
            let detail = "transactions are not offered yet; send it without a transaction header";
            return Err(Fault::new("not offered yet", detail));
        }
        let ticket = self.owe(receipt, false);
        Ok(Event::Send {
            ticket,
            destination,
            headers: frame.headers,
            body: frame.body,
        })
    }

    fn handle_subscribe(
        &mut self,
        frame: Frame,
        version: Version,
        receipt: Option<&str>,
    ) -> Result<Event, Fault> {
        let destination = required(&frame.headers, "destination")?.to_owned();
        let name = subscription_name(&frame.headers, version)?;
        match frame.headers.get("ack") {
            None | Some("auto") => {}
            Some("client" | "client-individual") => {
                let detail = "acknowledgements are not offered yet; subscribe with ack:auto";
                return Err(Fault::new("not offered yet", detail));
            }
            Some(_) => {
                return Err(Fault::new("bad ack mode", "ack must be auto"));
            }
        }
        if self.subscriptions.is_taken(&name) {
            let detail = "a subscription of this id is live; choose another id or end that one";
            return Err(Fault::new("subscription in use", detail));
        }
        let max = self.config.subscriptions_max;
        if self.subscriptions.len() >= max {
            let detail = format!("a session may have {max} subscriptions; end one first");
            return Err(Fault::new("too many subscriptions", detail));
        }
        let subscription = self.subscriptions.insert(name, version);
        let ticket = self.owe(receipt, false);
        Ok(Event::Subscribe {
            ticket,
            subscription,
            destination,
            headers: frame.headers,
        })
    }

    fn handle_unsubscribe(
        &mut self,
        frame: &Frame,
        version: Version,
        receipt: Option<&str>,
    ) -> Result<Event, Fault> {
        let name = subscription_name(&frame.headers, version)?;
        let Some(subscription) = self.subscriptions.remove(&name) else {
            return Err(Fault::new(
                "no such subscription",
                "no subscription of this id is live",
            ));
        };
        self.owe(receipt, true);
        self.settle();
        Ok(Event::Unsubscribe { subscription })
    }

    fn handle_disconnect(&mut self, receipt: Option<&str>) -> Event {
        self.owe(receipt, true);
        self.subscriptions.clear();
        let ticket = self.ticket();
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

    fn ticket(&mut self) -> Ticket {
        let ticket = Ticket(self.ticket_next);
        self.ticket_next += 1;
        ticket
    }

    /// Gives a frame its ticket and, if it asked for one, its turn among the RECEIPTs.
    fn owe(&mut self, receipt: Option<&str>, is_released: bool) -> Ticket {
        let ticket = self.ticket();
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
