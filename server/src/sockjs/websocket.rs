//! SockJS's frames over a WebSocket: `/{server}/{session}/websocket`.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use shared::sockjs;
use tokio::time::Sleep;

use super::session::Counted;
use crate::connection::{Input, Transport};
use crate::metrics::TransportKind;
use crate::ws::WebSocket;

/// A WebSocket whose text messages are SockJS frames. Its session lives as long as it does.
pub(super) struct Framed {
    socket: WebSocket,
    heart_beat_delay: Duration,
    heart_beat: Pin<Box<Sleep>>,
    is_closed: bool,
    _counted: Counted,
}

impl Framed {
    pub(super) fn new(mut socket: WebSocket, heart_beat_delay: Duration, counted: Counted) -> Self {
        socket.push(&[sockjs::OPEN.as_bytes()]);
        Framed {
            socket,
            heart_beat_delay,
            heart_beat: Box::pin(tokio::time::sleep(heart_beat_delay)),
            is_closed: false,
            _counted: counted,
        }
    }
}

impl Transport for Framed {
    const KIND: TransportKind = TransportKind::SockJsWebSocket;
    const IS_TEXT: bool = true;

    fn poll_payload(&mut self, cx: &mut Context<'_>) -> Poll<Input> {
        loop {
            if self.heart_beat.as_mut().poll(cx).is_ready() {
                if !self.is_closed {
                    self.socket.push(&[sockjs::HEART_BEAT.as_bytes()]);
                }
                let at = tokio::time::Instant::now() + self.heart_beat_delay;
                self.heart_beat.as_mut().reset(at);
                continue;
            }
            match ready!(self.socket.poll_payload(cx)) {
                Input::Payload(payload) if payload.is_empty() => {}
                Input::Payload(payload) => {
                    return Poll::Ready(match sockjs::read_messages(&payload) {
                        Ok(messages) if messages.is_empty() => Input::Alive,
                        Ok(messages) => Input::Payload(messages),
                        // The protocol has it cut off without a word.
                        Err(_) => Input::End,
                    });
                }
                other => return Poll::Ready(other),
            }
        }
    }

    fn is_gone(&mut self) -> bool {
        self.socket.is_gone()
    }

    fn admit(&mut self) {
        self.socket.admit();
    }

    fn push(&mut self, frame: &[&[u8]]) {
        self.socket.push(&[b"a[", &string(frame), b"]"]);
    }

    fn push_binary(&mut self, _frame: &[&[u8]]) {
        debug_assert!(false, "SockJS carries text alone");
    }

    fn frame(frame: &[&[u8]], out: &mut Vec<u8>) {
        WebSocket::frame(&[b"a[", &string(frame), b"]"], out);
    }

    fn push_framed(&mut self, frames: Bytes) {
        self.socket.push_framed(frames);
    }

    fn ping(&mut self) {
        self.socket.ping();
    }

    fn close(&mut self, code: u16, reason: &str) {
        if !std::mem::replace(&mut self.is_closed, true) {
            self.socket.push(&[sockjs::close(code, reason).as_bytes()]);
            self.socket.close(code, reason);
        }
    }

    fn pending(&self) -> usize {
        self.socket.pending()
    }

    fn taken(&self) -> u64 {
        self.socket.taken()
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_flush(cx)
    }
}

fn string(frame: &[&[u8]]) -> Vec<u8> {
    let octets: usize = frame.iter().map(|piece| piece.len()).sum();
    let mut string = Vec::with_capacity(octets + octets / 8 + 16);
    sockjs::write_string(frame, &mut string);
    string
}
