//! Octets to frames, in any pieces and within bounds.

use std::{collections::VecDeque, mem};

use bytes::Bytes;
use memchr::{memchr, memchr2};
use thiserror::Error;

use super::{
    super::{
        frame::{Command, Frame, Version},
        header::{Headers, UndefinedEscape},
    },
    Limits,
};

/// What a [`Decoder`] finds in its input.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Received {
    /// A whole frame.
    Frame(Frame),
    /// A line end between frames: a heart-beat.
    EndOfLine,
}

/// Why octets are no frame. Nothing after it can be read.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum DecodeError {
    /// The first line names no command.
    #[error("\"{0}\" is no STOMP command; commands are written in capitals, alone on their line")]
    UnknownCommand(String),
    /// The frame passes [`Limits::frame_bytes_max`], or says that it will.
    #[error("the frame is larger than {max} bytes; send less in one frame")]
    FrameTooLarge {
        /// The limit that it passes.
        max: usize,
    },
    /// A line passes [`Limits::header_line_bytes_max`].
    #[error("a header line is longer than {max} bytes; shorten it or move it to the body")]
    HeaderLineTooLong {
        /// The limit that it passes.
        max: usize,
    },
    /// The frame has more headers than [`Limits::headers_max`].
    #[error("the frame has more than {max} headers; send fewer")]
    TooManyHeaders {
        /// The limit that it passes.
        max: usize,
    },
    /// A header line has no colon, or no name before it.
    #[error("the header line \"{0}\" is not name:value; an empty line ends the headers")]
    HeaderWithoutName(String),
    /// A header line is not UTF-8.
    #[error("a header is not UTF-8; headers are always UTF-8, whatever the body is")]
    HeaderNotUtf8,
    /// A header holds an escape that the version does not define.
    #[error("the header line \"{0}\" holds an undefined escape; write a backslash as \\\\")]
    UndefinedEscape(String),
    /// `content-length` is no number.
    #[error("content-length \"{0}\" is no number; write how many octets the body has")]
    ContentLength(String),
    /// The octet after a body of `content-length` octets is not NUL.
    #[error("content-length is {length}, but no NUL follows after so many octets of body")]
    NoNulAfterBody {
        /// What `content-length` said.
        length: usize,
    },
    /// A frame that may have no body has one.
    #[error("{0} may have no body; only SEND, MESSAGE and ERROR have one")]
    UnexpectedBody(Command),
}

/// An incremental decoder: [`push`](Decoder::push) octets in any pieces, [`poll`](Decoder::poll)
/// what they hold.
///
/// Beyond what is pushed and not yet polled it remembers at most one frame within its [`Limits`].
/// A body that lies within one pushed piece is a slice of it, not a copy.
///
/// Until [`set_version`](Decoder::set_version) it reads as CONNECT is read: LF or CRLF, no escapes.
#[derive(Debug)]
pub struct Decoder {
    limits: Limits,
    version: Option<Version>,
    /// What was pushed and not yet read, oldest first; none is empty.
    chunks: VecDeque<Bytes>,
    /// The octets in `chunks`.
    buffered: usize,
    state: State,
    /// The beginning of the line or body under way, when it came in earlier chunks.
    carry: Vec<u8>,
    /// The octets of the frame under way up to the line or body under way.
    counted: usize,
    command: Option<Command>,
    headers: Headers,
    header_count: usize,
    content_length: Option<usize>,
    body: Bytes,
    /// A fault that waits for the end of the headers, since `receipt` may follow it.
    fault: Option<DecodeError>,
    failed: Option<DecodeError>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    /// Before or in the line of the command.
    Command,
    Headers,
    /// In a body of so many octets, or one that ends at the first NUL.
    Body(Option<usize>),
    /// Before the NUL after a body of so many octets.
    Nul(usize),
}

impl Decoder {
    /// Makes a decoder that has read nothing and knows no version.
    pub fn new(limits: Limits) -> Self {
        Decoder {
            limits,
            version: None,
            chunks: VecDeque::new(),
            buffered: 0,
            state: State::Command,
            carry: Vec::new(),
            counted: 0,
            command: None,
            headers: Headers::new(),
            header_count: 0,
            content_length: None,
            body: Bytes::new(),
            fault: None,
            failed: None,
        }
    }

    /// Reads the frames after this one by the rules and the larger limit of a version.
    pub fn set_version(&mut self, version: Version) {
        self.version = Some(version);
    }

    /// Takes in more octets. They are only looked at by [`Decoder::poll`].
    pub fn push(&mut self, octets: Bytes) {
        if !octets.is_empty() && self.failed.is_none() {
            self.buffered += octets.len();
            self.chunks.push_back(octets);
        }
    }

    /// Gives the next frame or line end; `None` when more octets are needed.
    ///
    /// # Errors
    /// The first [`DecodeError`], then the same again for ever. [`Decoder::command`] and
    /// [`Decoder::receipt`] tell what is known of the frame at fault.
    pub fn poll(&mut self) -> Result<Option<Received>, DecodeError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let found = self.read();
        if let Err(error) = &found {
            self.failed = Some(error.clone());
            self.chunks = VecDeque::new();
            self.carry = Vec::new();
            self.buffered = 0;
        }
        found
    }

    /// The octets that were pushed and are not yet read.
    pub fn buffered(&self) -> usize {
        self.buffered
    }

    /// The command of the frame under way or at fault, as soon as it is known.
    pub fn command(&self) -> Option<Command> {
        self.command
    }

    /// The `receipt` header of the frame under way or at fault, as soon as it is known.
    pub fn receipt(&self) -> Option<&str> {
        self.headers.get("receipt")
    }

    fn read(&mut self) -> Result<Option<Received>, DecodeError> {
        loop {
            match self.state {
                State::Command => {
                    let Some(line) = self.take_line()? else {
                        return Ok(None);
                    };
                    if self.read_command(&line) {
                        return Ok(Some(Received::EndOfLine));
                    }
                }
                State::Headers => {
                    let Some(line) = self.take_line()? else {
                        return Ok(None);
                    };
                    if line.is_empty() {
                        self.end_headers()?;
                    } else {
                        self.read_header(&line)?;
                    }
                }
                State::Body(Some(length)) => {
                    let Some(body) = self.take_counted(length) else {
                        return Ok(None);
                    };
                    self.body = body;
                    self.state = State::Nul(length);
                }
                State::Body(None) => {
                    let Some(body) = self.take_to_nul()? else {
                        return Ok(None);
                    };
                    self.body = body;
                    return Ok(Some(Received::Frame(self.finish())));
                }
                State::Nul(length) => {
                    if self.chunks.is_empty() {
                        return Ok(None);
                    }
                    if self.take(1)[..] != [0] {
                        return Err(DecodeError::NoNulAfterBody { length });
                    }
                    return Ok(Some(Received::Frame(self.finish())));
                }
            }
        }
    }

    /// Reads the line of the command; whether it was an empty line between frames.
    fn read_command(&mut self, line: &[u8]) -> bool {
        if line.is_empty() || line == b"\r" {
            self.counted = 0;
            return true;
        }
        self.command = Command::parse(line);
        if self.command.is_none() {
            self.fault = Some(DecodeError::UnknownCommand(excerpt(line)));
        }
        self.headers = Headers::new();
        let ahead = self.chunks.front().map_or(0, Bytes::len);
        self.headers.reserve(ahead.min(HEADERS_BYTES_USUAL));
        self.state = State::Headers;
        false
    }

    fn read_header(&mut self, line: &[u8]) -> Result<(), DecodeError> {
        self.header_count += 1;
        if self.header_count > self.limits.headers_max {
            return Err(self.fault_or(DecodeError::TooManyHeaders {
                max: self.limits.headers_max,
            }));
        }
        if let Err(fault) = self.parse_header(line) {
            self.fault.get_or_insert(fault);
        }
        Ok(())
    }

    fn parse_header(&mut self, line: &[u8]) -> Result<(), DecodeError> {
        let text = str::from_utf8(line).map_err(|_| DecodeError::HeaderNotUtf8)?;
        let without_name = || DecodeError::HeaderWithoutName(excerpt(line));
        let (mut name, mut value) = text.split_once(':').ok_or_else(without_name)?;
        if self.version == Some(Version::V10) {
            (name, value) = (name.trim_ascii(), value.trim_ascii());
        }
        if name.is_empty() {
            return Err(without_name());
        }
        if name == "content-length" {
            if self.content_length.is_none() {
                self.content_length = Some(parse_length(value)?);
            }
            return Ok(());
        }
        match self.version {
            Some(version) if self.command.is_none_or(Command::is_escaped) => self
                .headers
                .push_escaped(name, value, version)
                .map_err(|UndefinedEscape| DecodeError::UndefinedEscape(excerpt(line))),
            _ => {
                self.headers.push(name, value);
                Ok(())
            }
        }
    }

    fn end_headers(&mut self) -> Result<(), DecodeError> {
        if let Some(fault) = self.fault.take() {
            return Err(fault);
        }
        if let Some(length) = self.content_length {
            let max = self.frame_bytes_max();
            if length >= max.saturating_sub(self.counted) {
                return Err(DecodeError::FrameTooLarge { max });
            }
            if length > 0
                && let Some(command) = self.bodiless_command()
            {
                return Err(DecodeError::UnexpectedBody(command));
            }
        }
        self.state = State::Body(self.content_length);
        Ok(())
    }

    /// The command, when a body is a fault. Before the version is known nobody can tell, and in 1.0
    /// it is skipped.
    fn bodiless_command(&self) -> Option<Command> {
        self.command
            .filter(|command| self.version > Some(Version::V10) && !command.may_have_body())
    }

    /// Takes a line away, without its end; `None` when its end has not come yet.
    fn take_line(&mut self) -> Result<Option<Bytes>, DecodeError> {
        while let Some(chunk) = self.chunks.front() {
            let end = match self.state {
                // A command that is ended by NUL was sent without the line ends it needs.
                State::Command => memchr2(b'\n', 0, chunk),
                _ => memchr(b'\n', chunk),
            };
            let part = &chunk[..end.unwrap_or(chunk.len())];
            let length = self.carry.len() + part.len();
            let ends_in_cr = part.last().or(self.carry.last()) == Some(&b'\r');
            let is_crlf = ends_in_cr && self.version != Some(Version::V11);
            self.check_line(
                length - usize::from(is_crlf),
                length + usize::from(end.is_some()),
            )?;
            if end.is_some_and(|end| chunk[end] == 0) {
                let command = [&self.carry, part].concat();
                return Err(DecodeError::UnknownCommand(excerpt(&command)));
            }
            let part = self.take(end.map_or(part.len(), |end| end + 1));
            if end.is_none() {
                self.carry.extend_from_slice(&part);
                continue;
            }
            let mut line = self.join(part);
            self.counted += length + 1;
            line.truncate(length - usize::from(is_crlf));
            return Ok(Some(line));
        }
        Ok(None)
    }

    /// Checks a line, whole or not, of which `octets` have come with its end.
    fn check_line(&self, length: usize, octets: usize) -> Result<(), DecodeError> {
        let max = self.frame_bytes_max();
        let line_max = self.limits.header_line_bytes_max;
        // Which limit is passed first must not depend on how the octets are cut.
        let is_line_first = line_max < max.saturating_sub(self.counted);
        if is_line_first && length > line_max {
            Err(self.fault_or(DecodeError::HeaderLineTooLong { max: line_max }))
        } else if self.counted + octets > max {
            Err(self.fault_or(DecodeError::FrameTooLarge { max }))
        } else {
            Ok(())
        }
    }

    /// Takes a body of a known length; `None` when it has not all come yet.
    fn take_counted(&mut self, length: usize) -> Option<Bytes> {
        loop {
            let missing = length - self.carry.len();
            if missing == 0 {
                return Some(self.join(Bytes::new()));
            }
            let available = self.chunks.front()?.len();
            let part = self.take(missing.min(available));
            if available >= missing {
                return Some(self.join(part));
            }
            self.carry.extend_from_slice(&part);
        }
    }

    /// Takes a body up to its NUL, and the NUL; `None` when that has not come yet.
    fn take_to_nul(&mut self) -> Result<Option<Bytes>, DecodeError> {
        while let Some(chunk) = self.chunks.front() {
            if chunk[0] != 0
                && let Some(command) = self.bodiless_command()
            {
                return Err(DecodeError::UnexpectedBody(command));
            }
            let nul = memchr(0, chunk);
            let part_length = nul.unwrap_or(chunk.len());
            let octets = self.counted + self.carry.len() + part_length + usize::from(nul.is_some());
            let max = self.frame_bytes_max();
            if octets > max {
                return Err(DecodeError::FrameTooLarge { max });
            }
            let part = self.take(part_length);
            if nul.is_some() {
                self.take(1);
                return Ok(Some(self.join(part)));
            }
            self.carry.extend_from_slice(&part);
        }
        Ok(None)
    }

    /// Takes octets of the first chunk, which must have so many.
    fn take(&mut self, length: usize) -> Bytes {
        let Some(chunk) = self.chunks.front_mut() else {
            return Bytes::new();
        };
        let part = chunk.split_to(length);
        if chunk.is_empty() {
            self.chunks.pop_front();
        }
        self.buffered -= length;
        part
    }

    /// Puts what earlier chunks held before the last part.
    fn join(&mut self, part: Bytes) -> Bytes {
        if self.carry.is_empty() {
            return part;
        }
        let mut whole = mem::take(&mut self.carry);
        whole.extend_from_slice(&part);
        whole.into()
    }

    fn finish(&mut self) -> Frame {
        self.state = State::Command;
        self.counted = 0;
        self.header_count = 0;
        self.content_length = None;
        let mut body = mem::take(&mut self.body);
        let headers = mem::take(&mut self.headers);
        // An unknown command has been refused at the end of its headers.
        let command = self.command.take().unwrap_or(Command::Error);
        if self.version == Some(Version::V10) && !command.may_have_body() {
            body = Bytes::new();
        }
        Frame {
            command,
            headers,
            body,
        }
    }

    fn frame_bytes_max(&self) -> usize {
        match self.version {
            None => self.limits.connect_frame_bytes_max,
            Some(_) => self.limits.frame_bytes_max,
        }
    }

    /// The fault that came first.
    fn fault_or(&self, error: DecodeError) -> DecodeError {
        self.fault.clone().unwrap_or(error)
    }
}

fn parse_length(value: &str) -> Result<usize, DecodeError> {
    if value.is_empty() || !value.bytes().all(|octet| octet.is_ascii_digit()) {
        return Err(DecodeError::ContentLength(excerpt(value.as_bytes())));
    }
    // A number that does not fit is past every limit.
    Ok(value.parse().unwrap_or(usize::MAX))
}

/// The beginning of a line, fit to be shown in a sentence.
fn excerpt(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let shown: String = text
        .chars()
        .take(EXCERPT_CHARS_MAX)
        .map(|c| if c.is_control() { '\u{FFFD}' } else { c })
        .collect();
    if text.chars().nth(EXCERPT_CHARS_MAX).is_some() {
        shown + "…"
    } else {
        shown
    }
}

/// Room made at once for the headers of a frame: the usual ones fit.
const HEADERS_BYTES_USUAL: usize = 256;

/// How much of a faulty line an error repeats.
const EXCERPT_CHARS_MAX: usize = 60;
