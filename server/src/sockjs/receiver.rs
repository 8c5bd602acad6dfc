//! The requests that are open for messages: how each transport frames what it sends, and the bodies
//! of their answers.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use hyper::body::{Body as HttpBody, Frame};
use shared::sockjs;
use tokio::time::Sleep;

use super::session::Session;

/// How a transport sends frames.
#[derive(Clone, Debug)]
pub(super) enum Form {
    /// `xhr`: one frame ends the request.
    Xhr,
    /// `xhr_streaming`: lines, after 2 KiB that make browsers begin to read.
    XhrStreaming,
    /// `eventsource`: server-sent events.
    EventSource,
    /// `htmlfile`: scripts that call the parent of their frame.
    HtmlFile(Callback),
    /// `jsonp`: one script that calls.
    Jsonp(Callback),
}

/// The name of a function in the page: identifiers of JavaScript (ECMA-262, 12.7) in ASCII, joined by
/// dots, such as `callback` or `_jp.a1b2c3`.
#[derive(Clone, Debug)]
pub(super) struct Callback(String);

impl Callback {
    /// `None` when it is no such name.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let is_identifier = |part: &str| {
            let is_first = |octet: &u8| octet.is_ascii_alphabetic() || matches!(octet, b'_' | b'$');
            let is_next = |octet: u8| is_first(&octet) || octet.is_ascii_digit();
            part.as_bytes().first().is_some_and(is_first) && part.bytes().all(is_next)
        };
        let first = name.split('.').next().unwrap_or_default();
        let is_callback = name.len() <= 128
            && name.split('.').all(is_identifier)
            && !RESERVED_WORDS.contains(&first);
        is_callback.then(|| Callback(name.to_owned()))
    }
}

/// What would be a statement or an operator where a name is to stand (ECMA-262, 12.7.2).
const RESERVED_WORDS: [&str; 48] = [
    "arguments",
    "await",
    "break",
    "case",
    "catch",
    "class",
    "const",
    "continue",
    "debugger",
    "default",
    "delete",
    "do",
    "else",
    "enum",
    "eval",
    "export",
    "extends",
    "false",
    "finally",
    "for",
    "function",
    "if",
    "implements",
    "import",
    "in",
    "instanceof",
    "interface",
    "let",
    "new",
    "null",
    "package",
    "private",
    "protected",
    "public",
    "return",
    "static",
    "super",
    "switch",
    "this",
    "throw",
    "true",
    "try",
    "typeof",
    "var",
    "void",
    "while",
    "with",
    "yield",
];

impl Form {
    pub(super) fn content_type(&self) -> &'static str {
        match self {
            Form::Xhr | Form::XhrStreaming | Form::Jsonp(_) => {
                "application/javascript; charset=UTF-8"
            }
            Form::EventSource => "text/event-stream; charset=UTF-8",
            Form::HtmlFile(_) => "text/html; charset=UTF-8",
        }
    }

    /// Whether the first frame ends the request.
    pub(super) fn is_polling(&self) -> bool {
        matches!(self, Form::Xhr | Form::Jsonp(_))
    }

    /// What comes before the first frame.
    fn prelude(&self) -> Option<Bytes> {
        match self {
            Form::Xhr | Form::Jsonp(_) => None,
            Form::XhrStreaming => Some(["h".repeat(2_048).as_str(), "\n"].concat().into()),
            Form::EventSource => Some(Bytes::from_static(b"\r\n")),
            Form::HtmlFile(Callback(callback)) => {
                let mut page = HTML_FILE.replace("{callback}", callback);
                // Browsers hold back the beginning of a page.
                let missing = HTML_FILE_BYTES_MIN.saturating_sub(page.len());
                page.push_str(&" ".repeat(missing));
                page.push_str("\r\n\r\n");
                Some(page.into())
            }
        }
    }

    /// A frame as this transport sends it.
    fn frame(&self, frame: Vec<u8>) -> Bytes {
        match self {
            Form::Xhr | Form::XhrStreaming => [&frame[..], b"\n"].concat().into(),
            Form::EventSource => [b"data: ", &frame[..], b"\r\n\r\n"].concat().into(),
            Form::HtmlFile(_) => {
                let string = script_string(&frame);
                [b"<script>\np(", &string[..], b");\n</script>\r\n"]
                    .concat()
                    .into()
            }
            Form::Jsonp(Callback(callback)) => {
                let string = script_string(&frame);
                // A callback of the asker's choice as the first octets could make the answer a file of
                // another kind (Flash, for one).
                [b"/**/", callback.as_bytes(), b"(", &string[..], b");\r\n"]
                    .concat()
                    .into()
            }
        }
    }
}

/// A string in a script, which may stand in a page.
fn script_string(frame: &[u8]) -> Vec<u8> {
    let mut quoted = Vec::with_capacity(frame.len() + frame.len() / 8 + 2);
    sockjs::write_string(&[frame], &mut quoted);
    if !quoted.contains(&b'<') {
        return quoted;
    }
    // Nothing in a string may end the script around it.
    let mut safe = Vec::with_capacity(quoted.len() + 16);
    for octet in quoted {
        match octet {
            b'<' => safe.extend_from_slice(b"\\u003c"),
            octet => safe.push(octet),
        }
    }
    safe
}

const HTML_FILE_BYTES_MIN: usize = 1_024;

pub(super) const HTML_FILE: &str = r#"<!doctype html>
<html><head>
  <meta http-equiv="X-UA-Compatible" content="IE=edge" />
  <meta http-equiv="Content-Type" content="text/html; charset=UTF-8" />
</head><body><h2>Don't panic!</h2>
  <script>
    document.domain = document.domain;
    var c = parent.{callback};
    c.start();
    function p(d) {c.message(d);};
    window.onload = function() {c.stop();};
  </script>"#;

/// The body of an open request. It ends after one frame, after so many bytes, or with the session;
/// when it is dropped before, the client has cut it off.
pub(super) struct Receiver {
    session: Arc<Session>,
    number: u64,
    form: Form,
    prelude: Option<Bytes>,
    /// Bytes of frames that may still be sent.
    left: usize,
    heart_beat_delay: Duration,
    heart_beat: Pin<Box<Sleep>>,
    is_finished: bool,
}

impl Receiver {
    /// Makes the body of the receiver that [`Session::attach`] opened.
    pub(super) fn new(
        session: Arc<Session>,
        number: u64,
        form: Form,
        bytes_max: usize,
        heart_beat_delay: Duration,
    ) -> Self {
        Receiver {
            session,
            number,
            prelude: form.prelude(),
            left: if form.is_polling() { 1 } else { bytes_max },
            form,
            heart_beat_delay,
            heart_beat: Box::pin(tokio::time::sleep(heart_beat_delay)),
            is_finished: false,
        }
    }

    fn poll_octets(&mut self, cx: &mut Context<'_>) -> Poll<Bytes> {
        if let Some(prelude) = self.prelude.take() {
            return Poll::Ready(prelude);
        }
        let frame = match self.session.poll_frame(cx) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                ready!(self.heart_beat.as_mut().poll(cx));
                let at = tokio::time::Instant::now() + self.heart_beat_delay;
                self.heart_beat.as_mut().reset(at);
                sockjs::HEART_BEAT.into()
            }
        };
        let is_last = frame.first() == Some(&b'c');
        let octets = self.form.frame(frame);
        self.left = self.left.saturating_sub(octets.len());
        if self.left == 0 || is_last {
            // Before the client can know that this was the last of it and come again.
            self.is_finished = true;
            self.session.detach(self.number);
        }
        Poll::Ready(octets)
    }
}

impl HttpBody for Receiver {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let receiver = self.get_mut();
        if receiver.is_finished {
            return Poll::Ready(None);
        }
        receiver
            .poll_octets(cx)
            .map(|octets| Some(Ok(Frame::data(octets))))
    }

    fn is_end_stream(&self) -> bool {
        self.is_finished
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        if !self.is_finished {
            self.session.interrupt(self.number);
        }
    }
}

/// The body of a request that gets one frame and ends.
pub(super) fn only(form: &Form, frame: &str) -> Body {
    let frame = form.frame(frame.into());
    let pieces = form.prelude().into_iter().chain([frame]);
    Body::from_stream(stream::iter(pieces.map(Ok::<_, Infallible>)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_callback_is_a_name() {
        let name_of_128 = "a".repeat(128);
        for name in [
            "x",
            "callback",
            "_jp.a1b2c3",
            "$",
            "a$1._",
            "a.if",
            &name_of_128,
        ] {
            assert!(Callback::parse(name).is_some(), "{name}");
        }
        let name_of_129 = "a".repeat(129);
        for name in [
            "",
            ".",
            "..",
            "a.",
            ".a",
            "a..b",
            "0",
            "0a",
            "a.0",
            "-",
            "a-b",
            "a b",
            "a(b",
            "a[0]",
            "a;b",
            "가",
            "if",
            "while",
            "this",
            "delete.x",
            &name_of_129,
        ] {
            assert!(Callback::parse(name).is_none(), "{name}");
        }
    }
}
