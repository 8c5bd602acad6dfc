//! A frame as a value: its command, its headers and its body. How it looks as octets is in
//! [`super::codec`].

use std::fmt;

use bytes::Bytes;

use super::header::Headers;

/// A version of the protocol, in order.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Version {
    /// STOMP 1.0: no escapes, no heart-beats.
    V10,
    /// STOMP 1.1.
    V11,
    /// STOMP 1.2.
    V12,
}

impl Version {
    /// All versions, oldest first.
    pub const ALL: [Version; 3] = [Version::V10, Version::V11, Version::V12];

    /// The number as `accept-version` and `version` write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Version::V10 => "1.0",
            Version::V11 => "1.1",
            Version::V12 => "1.2",
        }
    }

    /// Reads `"1.0"`, `"1.1"` or `"1.2"`; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        Version::ALL
            .into_iter()
            .find(|version| version.as_str() == text)
    }

    /// Picks the highest version of an `accept-version` list (`"1.1,1.2"`; unknown ones are passed
    /// over). A missing header means 1.0 (STOMP 1.2, "Protocol Negotiation").
    pub fn negotiate(accept_version: Option<&str>) -> Option<Self> {
        match accept_version {
            None => Some(Version::V10),
            Some(list) => list
                .split(',')
                .filter_map(|item| Version::parse(item.trim()))
                .max(),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

macro_rules! commands {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// The command of a frame, all three versions and both directions together.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub enum Command {
            $($(#[$doc])* $name,)*
        }

        impl Command {
            /// All commands.
            pub const ALL: &'static [Command] = &[$(Command::$name,)*];

            /// The command as it stands on the wire, in capitals.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Command::$name => $text,)*
                }
            }

            /// Reads a command; `None` when it is none (they are case-sensitive).
            pub fn parse(text: &[u8]) -> Option<Self> {
                $(if text == $text.as_bytes() {
                    return Some(Command::$name);
                })*
                None
            }
        }
    };
}

commands! {
    /// A client sends to a destination.
    Send = "SEND",
    /// The server delivers to a subscription.
    Message = "MESSAGE",
    /// The server has dealt with the frame that asked.
    Receipt = "RECEIPT",
    /// A client subscribes to a destination.
    Subscribe = "SUBSCRIBE",
    /// A client ends a subscription.
    Unsubscribe = "UNSUBSCRIBE",
    /// A client acknowledges a message.
    Ack = "ACK",
    /// A client tells that it did not consume a message.
    Nack = "NACK",
    /// A client begins a transaction.
    Begin = "BEGIN",
    /// A client commits a transaction.
    Commit = "COMMIT",
    /// A client drops a transaction.
    Abort = "ABORT",
    /// A client opens the session.
    Connect = "CONNECT",
    /// The same as CONNECT, since 1.1.
    Stomp = "STOMP",
    /// The server has opened the session.
    Connected = "CONNECTED",
    /// A client ends the session.
    Disconnect = "DISCONNECT",
    /// The server gives up the session and says why.
    Error = "ERROR",
}

impl Command {
    /// Whether a frame of this command may have a body (STOMP 1.2, "Body").
    pub fn may_have_body(self) -> bool {
        matches!(self, Command::Send | Command::Message | Command::Error)
    }

    /// Whether headers of this command are escaped where the version escapes at all: those of
    /// CONNECT, STOMP and CONNECTED never are (STOMP 1.2, "Value Encoding").
    pub fn is_escaped(self) -> bool {
        !matches!(self, Command::Connect | Command::Stomp | Command::Connected)
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One STOMP frame, unescaped.
///
/// `content-length` is not among the headers of a decoded frame, as the body knows its length;
/// [`super::encode`] writes it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Frame {
    /// What the frame is for.
    pub command: Command,
    /// Its headers, in order, repeats included.
    pub headers: Headers,
    /// Its body; empty where there is none.
    pub body: Bytes,
}

impl Frame {
    /// Makes a frame with no header and no body.
    pub fn new(command: Command) -> Self {
        Frame {
            command,
            headers: Headers::new(),
            body: Bytes::new(),
        }
    }

    /// Appends a header, unescaped.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers.push(name, value);
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }
}
