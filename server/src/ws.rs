//! STOMP over WebSocket (RFC 6455): the handshake, and frames in and out.
//!
//! A library reads (fragments, control frames, masks, UTF-8, close codes); frames are written here:
//! all that is ready goes out in one write, and what many subscribers get alike is not copied.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, IoSlice, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Version, header};
use axum::response::{IntoResponse, Response};
use bytes::{Buf, Bytes};
use futures_util::FutureExt as _;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tungstenite::protocol::{Message, Role, WebSocketConfig, WebSocketContext};

use crate::accept::Place;
use crate::connection::{Input, Transport};
use crate::keep_alive::Watched;
use crate::metrics::TransportKind;

/// The subprotocols that we speak, the highest first.
const SUBPROTOCOLS: [&str; 3] = ["v12.stomp", "v11.stomp", "v10.stomp"];

/// The library fills this buffer with zeros on every attempt to read: small is fast.
const READ_BUFFER_BYTES: usize = 2 << 10;

/// A write buffer up to this size is kept for the next connection that writes.
const SPARE_BYTES_MAX: usize = 256 << 10;

/// The most bytes that a payload may have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PayloadBytesMax {
    /// Until the client has connected: see [`Transport::admit`].
    pub(crate) first: usize,
    /// From then on.
    pub(crate) usual: usize,
}

/// Why a request is no WebSocket handshake that we take.
#[derive(Debug)]
pub(crate) enum HandshakeError {
    /// It does not ask for an upgrade to WebSocket.
    NotAnUpgrade,
    /// It asks for another version of the protocol than 13.
    Version,
    /// Its key is missing or no 16 octets in base64.
    Key,
}

impl IntoResponse for HandshakeError {
    fn into_response(self) -> Response {
        match self {
            HandshakeError::NotAnUpgrade | HandshakeError::Key => (
                StatusCode::BAD_REQUEST,
                "Can \"Upgrade\" only to \"WebSocket\".\n",
            )
                .into_response(),
            HandshakeError::Version => {
                let version = [(header::SEC_WEBSOCKET_VERSION, "13")];
                (
                    StatusCode::UPGRADE_REQUIRED,
                    version,
                    "WebSocket version 13 is spoken here.\n",
                )
                    .into_response()
            }
        }
    }
}

/// Whether a request asks for an upgrade to WebSocket (RFC 6455, section 4.2.1).
pub(crate) fn is_upgrade(headers: &HeaderMap) -> bool {
    has_token(headers, header::CONNECTION, "upgrade")
        && has_token(headers, header::UPGRADE, "websocket")
}

fn has_token(headers: &HeaderMap, name: header::HeaderName, token: &str) -> bool {
    tokens(headers, name).any(|value| value.eq_ignore_ascii_case(token))
}

fn tokens(headers: &HeaderMap, name: header::HeaderName) -> impl Iterator<Item = &str> {
    let values = headers.get_all(name).into_iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

/// Answers a handshake; `then` gets the connection once the answer has been written.
///
/// # Errors
/// [`HandshakeError`] when the request is not one.
pub(crate) fn upgrade<F, R>(
    request: &mut Request<Body>,
    bytes_max: PayloadBytesMax,
    then: F,
) -> Result<Response, HandshakeError>
where
    F: FnOnce(WebSocket) -> R + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let headers = request.headers();
    if request.method() != Method::GET
        || request.version() < Version::HTTP_11
        || !is_upgrade(headers)
    {
        return Err(HandshakeError::NotAnUpgrade);
    }
    if headers
        .get(header::SEC_WEBSOCKET_VERSION)
        .is_none_or(|version| version != "13")
    {
        return Err(HandshakeError::Version);
    }
    let key = headers
        .get(header::SEC_WEBSOCKET_KEY)
        .ok_or(HandshakeError::Key)?;
    if key.len() != 24 || !key.as_bytes().ends_with(b"==") {
        return Err(HandshakeError::Key);
    }
    let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
    let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
    let answer = response.headers_mut();
    answer.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    answer.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    let accept = HeaderValue::from_str(&accept).map_err(|_| HandshakeError::Key)?;
    answer.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    let offered = |known: &&&str| has_token(headers, header::SEC_WEBSOCKET_PROTOCOL, known);
    if let Some(chosen) = SUBPROTOCOLS.iter().find(offered) {
        answer.insert(
            header::SEC_WEBSOCKET_PROTOCOL,
            HeaderValue::from_static(chosen),
        );
    }
    let upgraded = hyper::upgrade::on(&mut *request);
    let place = request.extensions().get::<Place>().cloned();
    tokio::spawn(async move {
        // A WebSocket counts as the connection that it is.
        let _place = place;
        match upgraded
            .await
            .map(hyper::upgrade::Upgraded::downcast::<Watched>)
        {
            Ok(Ok(parts)) => {
                let socket = WebSocket::new(parts.io.into_inner(), parts.read_buf, bytes_max);
                then(socket).await;
            }
            Ok(Err(_)) => tracing::error!("an upgraded connection is no TCP connection"),
            Err(error) => tracing::debug!(%error, "a handshake was not finished"),
        }
    });
    Ok(response)
}

/// One WebSocket connection, on the server's side.
pub(crate) struct WebSocket {
    io: TcpStream,
    reader: WebSocketContext,
    /// The most bytes in a message, once the client has connected.
    usual_bytes_max: usize,
    /// What came with the handshake's last bytes.
    early: Bytes,
    out: Out,
    taken: u64,
    /// Our close frame is among what was pushed; nothing is pushed after it.
    closed: bool,
    peer: Peer,
}

/// What may still come from the peer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Peer {
    /// Frames.
    Open,
    /// Nothing: its close frame has come.
    Closed,
    /// Octets that are not to be understood.
    Faulty,
}

/// What waits to be written: frames of our own, and between them frames that are shared.
#[derive(Default)]
struct Out {
    own: Vec<u8>,
    /// How much of `own` is written.
    written: usize,
    /// Shared frames, and before which octet of `own` they go.
    shared: VecDeque<(usize, Bytes)>,
    shared_bytes: usize,
}

/// Pieces that go out in one write.
const SLICES_MAX: usize = 16;

thread_local! {
    static SPARE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl WebSocket {
    fn new(io: TcpStream, early: Bytes, bytes_max: PayloadBytesMax) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(0)
            .max_message_size(Some(bytes_max.first))
            .max_frame_size(Some(bytes_max.first));
        if let Err(error) = io.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY could not be set");
        }
        WebSocket {
            io,
            reader: WebSocketContext::new(Role::Server, Some(config)),
            usual_bytes_max: bytes_max.usual,
            // An empty `Bytes` may keep the whole buffer of the handshake alive.
            early: if early.is_empty() {
                Bytes::new()
            } else {
                early
            },
            out: Out::default(),
            taken: 0,
            closed: false,
            peer: Peer::Open,
        }
    }

    /// Passes over what comes from a peer that was found at fault, so that our close frame reaches it:
    /// a socket that is closed with octets unread is reset.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Input> {
        let mut octets = [0; READ_BUFFER_BYTES];
        loop {
            let mut target = ReadBuf::new(&mut octets);
            let read = ready!(Pin::new(&mut self.io).poll_read(cx, &mut target));
            if read.is_err() || target.filled().is_empty() {
                return Poll::Ready(Input::End);
            }
        }
    }
}

impl Out {
    /// Where frames of our own are written.
    fn own(&mut self) -> &mut Vec<u8> {
        if self.own.capacity() == 0 {
            self.own = SPARE.take();
        }
        &mut self.own
    }

    fn push(&mut self, frames: Bytes) {
        if !frames.is_empty() {
            self.shared_bytes += frames.len();
            self.shared.push_back((self.own.len(), frames));
        }
    }

    fn pending(&self) -> usize {
        self.own.len() - self.written + self.shared_bytes
    }

    /// What is to be written next, in its order.
    fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>; SLICES_MAX]) -> usize {
        let mut start = self.written;
        let mut count = 0;
        let shared = self
            .shared
            .iter()
            .map(|(place, frames)| (*place, &frames[..]));
        for (place, frames) in shared.chain([(self.own.len(), &[][..])]) {
            for octets in [&self.own[start..place], frames] {
                if !octets.is_empty() && count < SLICES_MAX {
                    slices[count] = IoSlice::new(octets);
                    count += 1;
                }
            }
            start = place;
        }
        count
    }

    /// Forgets what was written.
    fn advance(&mut self, mut count: usize) {
        while count > 0 {
            match self.shared.front_mut() {
                Some((place, frames)) if *place == self.written => {
                    let part = count.min(frames.len());
                    frames.advance(part);
                    self.shared_bytes -= part;
                    count -= part;
                    if frames.is_empty() {
                        self.shared.pop_front();
                    }
                }
                next => {
                    let end = next.map_or(self.own.len(), |(place, _)| *place);
                    let part = count.min(end - self.written);
                    self.written += part;
                    count -= part;
                }
            }
        }
        if self.pending() == 0 {
            self.written = 0;
            let mut own = std::mem::take(&mut self.own);
            own.clear();
            if own.capacity() > 0 && own.capacity() <= SPARE_BYTES_MAX {
                SPARE.set(own);
            }
            if self.shared.capacity() > SLICES_MAX {
                self.shared = VecDeque::new();
            }
        } else if self.written >= COMPACT_BYTES && self.written >= self.own.len() / 2 {
            // A peer that never takes all would let it grow for ever.
            self.own.drain(..self.written);
            for (place, _) in &mut self.shared {
                *place -= self.written;
            }
            self.written = 0;
        }
    }
}

/// So much of what was written is kept at most, or half of what there is.
const COMPACT_BYTES: usize = 64 << 10;

/// Writes a message in one frame, given in pieces.
fn write_frame(opcode: u8, pieces: &[&[u8]], out: &mut Vec<u8>) {
    begin(opcode, pieces.iter().map(|piece| piece.len()).sum(), out);
    for piece in pieces {
        out.extend_from_slice(piece);
    }
}

/// Writes the beginning of a frame (RFC 6455, section 5.2).
fn begin(opcode: u8, length: usize, out: &mut Vec<u8>) {
    out.push(0x80 | opcode);
    match length {
        0..=125 => out.push(length as u8),
        126..=0xFFFF => {
            out.push(126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
}

/// The library's view of the socket: reads do not block, writes (pongs and the like) join ours.
struct View<'a, 'b> {
    io: &'a mut TcpStream,
    early: &'a mut Bytes,
    out: &'a mut Out,
    closed: bool,
    cx: &'a mut Context<'b>,
}

impl Read for View<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.early.has_remaining() {
            let count = buffer.len().min(self.early.len());
            self.early.copy_to_slice(&mut buffer[..count]);
            if self.early.is_empty() {
                *self.early = Bytes::new();
            }
            return Ok(count);
        }
        let mut target = ReadBuf::new(buffer);
        match Pin::new(&mut *self.io).poll_read(self.cx, &mut target) {
            Poll::Ready(result) => result.map(|()| target.filled().len()),
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl Write for View<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.closed {
            self.out.own().extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Transport for WebSocket {
    const KIND: TransportKind = TransportKind::WebSocket;
    const IS_TEXT: bool = false;

    fn poll_payload(&mut self, cx: &mut Context<'_>) -> Poll<Input> {
        match self.peer {
            Peer::Open => {}
            Peer::Closed => return Poll::Ready(Input::End),
            Peer::Faulty => return self.poll_end(cx),
        }
        let WebSocket {
            io,
            reader,
            early,
            out,
            closed,
            ..
        } = self;
        let mut view = View {
            io,
            early,
            out,
            closed: *closed,
            cx,
        };
        Poll::Ready(match reader.read(&mut view) {
            Ok(Message::Text(text)) => Input::Payload(Bytes::from(text)),
            Ok(Message::Binary(bytes)) => Input::Payload(bytes),
            Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => Input::Alive,
            Ok(Message::Close(_)) => {
                // The library holds its answer back until it is asked again, and then says that it
                // has closed.
                drop(reader.flush(&mut view));
                self.closed = true;
                self.peer = Peer::Closed;
                Input::End
            }
            Err(tungstenite::Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                return Poll::Pending;
            }
            Err(error) => match close_of(&error) {
                Some((code, reason)) => {
                    self.peer = Peer::Faulty;
                    Input::Fault(code, reason)
                }
                None => Input::End,
            },
        })
    }

    /// The system notices the end of TCP also behind octets that are not read.
    fn is_gone(&mut self) -> bool {
        let ready = self.io.ready(Interest::READABLE).now_or_never();
        ready.is_some_and(|ready| ready.map_or(true, |ready| ready.is_read_closed()))
    }

    fn admit(&mut self) {
        let max = Some(self.usual_bytes_max);
        self.reader.set_config(|config| {
            config.max_message_size = max;
            config.max_frame_size = max;
        });
    }

    fn push(&mut self, frame: &[&[u8]]) {
        if !self.closed {
            Self::frame(frame, self.out.own());
        }
    }

    fn push_binary(&mut self, frame: &[&[u8]]) {
        if !self.closed {
            write_frame(0x2, frame, self.out.own());
        }
    }

    fn frame(frame: &[&[u8]], out: &mut Vec<u8>) {
        write_frame(0x1, frame, out);
    }

    fn push_framed(&mut self, frames: Bytes) {
        if !self.closed {
            self.out.push(frames);
        }
    }

    fn ping(&mut self) {
        if !self.closed {
            begin(0x9, 0, self.out.own());
        }
    }

    fn close(&mut self, code: u16, reason: &str) {
        if self.closed {
            return;
        }
        // A control frame has at most 125 octets (RFC 6455, section 5.5).
        let reason = &reason[..reason.floor_char_boundary(123)];
        let out = self.out.own();
        begin(0x8, 2 + reason.len(), out);
        out.extend_from_slice(&code.to_be_bytes());
        out.extend_from_slice(reason.as_bytes());
        self.closed = true;
    }

    fn pending(&self) -> usize {
        self.out.pending()
    }

    fn taken(&self) -> u64 {
        self.taken
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.out.pending() > 0 {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let used = self.out.slices(&mut slices);
            let io = Pin::new(&mut self.io);
            let count = ready!(io.poll_write_vectored(cx, &slices[..used]))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.out.advance(count);
            self.taken += count as u64;
        }
        if self.closed && self.peer != Peer::Open {
            // The server ends TCP first (RFC 6455, 7.1.1), also while the session has work left.
            return Pin::new(&mut self.io).poll_shutdown(cx);
        }
        Poll::Ready(Ok(()))
    }
}

/// The close code for what the library found (RFC 6455, section 7.4.1).
fn close_of(error: &tungstenite::Error) -> Option<(u16, &'static str)> {
    match error {
        tungstenite::Error::Utf8(_) => Some((1007, "text is not UTF-8")),
        tungstenite::Error::Capacity(_) => Some((1009, "the message is too big")),
        tungstenite::Error::Protocol(
            tungstenite::error::ProtocolError::ResetWithoutClosingHandshake,
        ) => None,
        tungstenite::Error::Protocol(_) => Some((1002, "this is not the WebSocket protocol")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_what_was_pushed_in_its_order(
            pieces in prop::collection::vec((any::<bool>(), 0_usize..300), 0..40),
            parts in prop::collection::vec(1_usize..400, 1..40),
        ) {
            let mut out = Out::default();
            let mut expected = Vec::new();
            let mut written = Vec::new();
            let mut parts = parts.into_iter().cycle();
            for (index, (is_shared, length)) in pieces.into_iter().enumerate() {
                let piece = vec![index as u8; length];
                expected.extend_from_slice(&piece);
                if is_shared {
                    out.push(piece.into());
                } else {
                    out.own().extend_from_slice(&piece);
                }
                write(&mut out, parts.next().unwrap_or(1), &mut written);
            }
            while out.pending() > 0 {
                write(&mut out, parts.next().unwrap_or(1), &mut written);
            }
            prop_assert_eq!(written, expected);
        }
    }

    #[test]
    fn what_a_peer_has_taken_is_not_kept_though_it_never_takes_all() {
        let mut out = Out::default();
        let mut written = Vec::new();
        for index in 0..10_000_u32 {
            if index % 7 == 0 {
                out.push(vec![index as u8; 100].into());
            }
            out.own().extend_from_slice(&[index as u8; 1_000]);
            if out.pending() > 128 << 10 {
                write(&mut out, 1_000, &mut written);
                write(&mut out, 1_000, &mut written);
            }
            assert!(out.own.capacity() < 1 << 20, "{}", out.own.capacity());
        }
        while out.pending() > 0 {
            write(&mut out, 4_000, &mut written);
        }
        let mut expected = Vec::new();
        for index in 0..10_000_u32 {
            let shared = if index % 7 == 0 { 100 } else { 0 };
            expected.extend_from_slice(&vec![index as u8; 1_000 + shared]);
        }
        assert!(written == expected);
    }

    /// Takes as many octets as a socket with so much room would.
    fn write(out: &mut Out, mut room: usize, written: &mut Vec<u8>) {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let used = out.slices(&mut slices);
        let before = written.len();
        for slice in &slices[..used] {
            let part = room.min(slice.len());
            written.extend_from_slice(&slice[..part]);
            room -= part;
        }
        let count = written.len() - before;
        out.advance(count);
    }
}
