//! The ways to the server: a WebSocket or, where none gets through, SockJS's `eventsource` for what
//! comes and its `xhr_send` for what goes.

use bytes::Bytes;
use js_sys::{Array, JSON};
use shared::sockjs;
use uuid::Uuid;
use wasm_bindgen::{JsCast, JsValue, closure::Closure};
use web_sys::{BinaryType, EventSource, MessageEvent, WebSocket};

use crate::browser::host;

const PATH: &str = "/ws/chat";
const SUBPROTOCOL: &str = "v12.stomp";

/// A request takes frames until they have so many octets: in JSON they are well within what the
/// server takes.
const REQUEST_BYTES: usize = 64 << 10;

/// Made once and given to every way in turn; one that is let go loses them first.
pub(crate) struct Callbacks {
    /// A WebSocket is open; of a stream the answer has begun.
    pub(crate) open: Closure<dyn FnMut()>,
    pub(crate) message: Closure<dyn FnMut(MessageEvent)>,
    /// A WebSocket is closed, or a stream's request has ended.
    pub(crate) close: Closure<dyn FnMut()>,
}

/// One way to the server.
pub(crate) enum Way {
    WebSocket(WebSocket),
    Stream(Stream),
}

/// A SockJS session.
pub(crate) struct Stream {
    /// Its path.
    session: String,
    source: EventSource,
    /// Whether the open request has brought anything.
    is_heard: bool,
    outbox: Vec<JsValue>,
    is_sending: bool,
}

/// What a message of a way holds.
pub(crate) enum Heard {
    /// The session is open.
    Open,
    Payloads(Vec<Bytes>),
    Closed,
}

/// Opens a WebSocket that nobody listens to yet.
pub(crate) fn web_socket() -> Option<WebSocket> {
    let secure = leptos::prelude::window()
        .location()
        .protocol()
        .is_ok_and(|protocol| protocol == "https:");
    let scheme = if secure { "wss" } else { "ws" };
    let address = format!("{scheme}://{}{PATH}", host());
    WebSocket::new_with_str(&address, SUBPROTOCOL).ok()
}

impl Way {
    /// Listens to a WebSocket.
    pub(crate) fn over(web: WebSocket, callbacks: &Callbacks) -> Self {
        web.set_binary_type(BinaryType::Arraybuffer);
        web.set_onopen(Some(callbacks.open.as_ref().unchecked_ref()));
        web.set_onmessage(Some(callbacks.message.as_ref().unchecked_ref()));
        web.set_onclose(Some(callbacks.close.as_ref().unchecked_ref()));
        Way::WebSocket(web)
    }

    /// Opens a stream.
    pub(crate) fn stream(callbacks: &Callbacks) -> Option<Self> {
        let session = format!("{PATH}/0/{}", Uuid::new_v4().simple());
        Some(Way::Stream(Stream {
            source: source(&session, callbacks)?,
            session,
            is_heard: false,
            outbox: Vec::new(),
            is_sending: false,
        }))
    }

    pub(crate) fn is_web_socket(&self) -> bool {
        matches!(self, Way::WebSocket(_))
    }

    /// Reads a message; `None` where it is nothing to act on.
    pub(crate) fn read(&mut self, data: &JsValue) -> Option<Heard> {
        let Way::Stream(stream) = self else {
            return Some(Heard::Payloads(vec![match data.as_string() {
                Some(text) => Bytes::from(text),
                None => Bytes::from(js_sys::Uint8Array::new(data).to_vec()),
            }]));
        };
        stream.is_heard = true;
        let text = data.as_string()?;
        match sockjs::Frame::read(&text) {
            Some(sockjs::Frame::Open) => Some(Heard::Open),
            Some(sockjs::Frame::HeartBeat) => None,
            Some(sockjs::Frame::Messages(array)) => {
                let array: Array = JSON::parse(array).ok()?.dyn_into().ok()?;
                let messages = array.iter().filter_map(|message| message.as_string());
                Some(Heard::Payloads(messages.map(Bytes::from).collect()))
            }
            Some(sockjs::Frame::Close(_)) | None => Some(Heard::Closed),
        }
    }

    /// Goes on in a new request where one of a stream has ended; whether there is anything to go on
    /// with.
    pub(crate) fn go_on(&mut self, callbacks: &Callbacks) -> bool {
        let Way::Stream(stream) = self else {
            return false;
        };
        if !std::mem::take(&mut stream.is_heard) {
            return false;
        }
        forsake(&stream.source);
        let Some(source) = source(&stream.session, callbacks) else {
            return false;
        };
        stream.source = source;
        true
    }

    /// Sends a frame; whether the way is still there.
    pub(crate) fn send(&mut self, frame: &[u8]) -> bool {
        let text = str::from_utf8(frame);
        match self {
            Way::WebSocket(web) => match text {
                Ok(text) => web.send_with_str(text).is_ok(),
                Err(_) => web.send_with_u8_array(frame).is_ok(),
            },
            Way::Stream(stream) => {
                stream.outbox.extend(text.ok().map(JsValue::from));
                true
            }
        }
    }

    /// Gives the next request of a stream that is not sending: its address and its body.
    pub(crate) fn request(&mut self) -> Option<(String, String)> {
        let Way::Stream(stream) = self else {
            return None;
        };
        if stream.is_sending || stream.outbox.is_empty() {
            return None;
        }
        let mut octets = 0;
        let fits = |frame: &&JsValue| {
            let before = octets;
            octets += js_sys::JsString::from((*frame).clone()).length() as usize * 3;
            before < REQUEST_BYTES
        };
        let count = stream.outbox.iter().take_while(fits).count();
        let array: Array = stream.outbox.drain(..count).collect();
        let body = JSON::stringify(&array).ok()?;
        stream.is_sending = true;
        Some((format!("{}/xhr_send", stream.session), body.into()))
    }

    /// Notes that a request has been answered; whether it was this way's.
    pub(crate) fn answered(&mut self, address: &str) -> bool {
        match self {
            Way::Stream(stream) if address.starts_with(&stream.session) => {
                stream.is_sending = false;
                true
            }
            _ => false,
        }
    }

    pub(crate) fn let_go(&self) {
        match self {
            Way::WebSocket(web) => {
                web.set_onopen(None);
                web.set_onmessage(None);
                web.set_onclose(None);
                // A socket that is closed already may be closed again.
                let _ = web.close();
            }
            Way::Stream(stream) => forsake(&stream.source),
        }
    }
}

fn source(session: &str, callbacks: &Callbacks) -> Option<EventSource> {
    let source = EventSource::new(&format!("{session}/eventsource")).ok()?;
    source.set_onmessage(Some(callbacks.message.as_ref().unchecked_ref()));
    source.set_onerror(Some(callbacks.close.as_ref().unchecked_ref()));
    Some(source)
}

fn forsake(source: &EventSource) {
    source.set_onmessage(None);
    source.set_onerror(None);
    source.close();
}
