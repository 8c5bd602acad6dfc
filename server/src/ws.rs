//! STOMP over WebSocket (RFC 6455): the handshake, and frames in and out.
//!
//! A library reads (fragments, control frames, masks, UTF-8, close codes); frames are written here,
//! into one buffer that holds all that is ready and goes out in one write.

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Version, header};
use axum::response::{IntoResponse, Response};
use bytes::{Buf, Bytes};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tungstenite::protocol::{Message, Role, WebSocketConfig, WebSocketContext};

use crate::connection::{Input, Transport};

/// The subprotocols that we speak, the highest first.
const SUBPROTOCOLS: [&str; 3] = ["v12.stomp", "v11.stomp", "v10.stomp"];

/// The library fills this buffer with zeros on every attempt to read: small is fast.
const READ_BUFFER_BYTES: usize = 2 << 10;

/// A write buffer up to this size is kept for the next connection that writes.
const SPARE_BYTES_MAX: usize = 256 << 10;

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
    payload_bytes_max: usize,
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
    let upgraded = hyper::upgrade::on(request);
    tokio::spawn(async move {
        match upgraded
            .await
            .map(hyper::upgrade::Upgraded::downcast::<TokioIo<TcpStream>>)
        {
            Ok(Ok(parts)) => {
                let socket =
                    WebSocket::new(parts.io.into_inner(), parts.read_buf, payload_bytes_max);
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
    /// What came with the handshake's last bytes.
    early: Bytes,
    out: Vec<u8>,
    written: usize,
    taken: u64,
    closed: bool,
}

thread_local! {
    static SPARE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl WebSocket {
    fn new(io: TcpStream, early: Bytes, payload_bytes_max: usize) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(0)
            .max_message_size(Some(payload_bytes_max))
            .max_frame_size(Some(payload_bytes_max));
        if let Err(error) = io.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY could not be set");
        }
        WebSocket {
            io,
            reader: WebSocketContext::new(Role::Server, Some(config)),
            // An empty `Bytes` may keep the whole buffer of the handshake alive.
            early: if early.is_empty() {
                Bytes::new()
            } else {
                early
            },
            out: Vec::new(),
            written: 0,
            taken: 0,
            closed: false,
        }
    }

    fn begin(&mut self, opcode: u8, length: usize) {
        if self.out.capacity() == 0 {
            self.out = SPARE.take();
        }
        self.out.push(0x80 | opcode);
        match length {
            0..=125 => self.out.push(length as u8),
            126..=0xFFFF => {
                self.out.push(126);
                self.out.extend_from_slice(&(length as u16).to_be_bytes());
            }
            _ => {
                self.out.push(127);
                self.out.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
    }
}

/// The library's view of the socket: reads do not block, writes (pongs and the like) join ours.
struct View<'a, 'b> {
    io: &'a mut TcpStream,
    early: &'a mut Bytes,
    out: &'a mut Vec<u8>,
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
            self.out.extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Transport for WebSocket {
    fn poll_payload(&mut self, cx: &mut Context<'_>) -> Poll<Input> {
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
                self.closed = true;
                Input::End(None)
            }
            Err(tungstenite::Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                return Poll::Pending;
            }
            Err(error) => Input::End(close_of(&error)),
        })
    }

    fn push(&mut self, frame: &[&[u8]]) {
        if self.closed {
            return;
        }
        self.begin(0x1, frame.iter().map(|piece| piece.len()).sum());
        for piece in frame {
            self.out.extend_from_slice(piece);
        }
    }

    fn ping(&mut self) {
        if !self.closed {
            self.begin(0x9, 0);
        }
    }

    fn close(&mut self, code: u16, reason: &str) {
        if self.closed {
            return;
        }
        // A control frame has at most 125 octets (RFC 6455, section 5.5).
        let reason = &reason[..reason.floor_char_boundary(123)];
        self.begin(0x8, 2 + reason.len());
        self.out.extend_from_slice(&code.to_be_bytes());
        self.out.extend_from_slice(reason.as_bytes());
        self.closed = true;
    }

    fn pending(&self) -> usize {
        self.out.len() - self.written
    }

    fn taken(&self) -> u64 {
        self.taken
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.out.len() {
            let count = ready!(Pin::new(&mut self.io).poll_write(cx, &self.out[self.written..]))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += count;
            self.taken += count as u64;
        }
        self.written = 0;
        let mut out = std::mem::take(&mut self.out);
        out.clear();
        if out.capacity() <= SPARE_BYTES_MAX {
            SPARE.set(out);
        }
        Poll::Ready(Ok(()))
    }
}

/// The close code for what the library found (RFC 6455, section 7.4.1).
fn close_of(error: &tungstenite::Error) -> Option<(u16, &'static str)> {
    match error {
        tungstenite::Error::Utf8(_) => Some((1007, "a text message is not UTF-8")),
        tungstenite::Error::Capacity(_) => Some((1009, "the message is too big")),
        tungstenite::Error::Protocol(
            tungstenite::error::ProtocolError::ResetWithoutClosingHandshake,
        ) => None,
        tungstenite::Error::Protocol(_) => Some((1002, "this is not the WebSocket protocol")),
        _ => None,
    }
}
