//! The transports as sockets: a WebSocket, or a SockJS session whose messages come by `eventsource` or
//! by `xhr` and go by `xhr_send`. Which of them to use is decided by `uplink`.

use std::time::Duration;

use bytes::Bytes;
use gloo_net::http::Request;
use js_sys::{Array, JSON};
use shared::{sockjs, stomp::client::Client};
use uuid::Uuid;
use wasm_bindgen::{JsCast, JsValue, closure::Closure};
use web_sys::{AbortController, BinaryType, EventSource, MessageEvent, WebSocket};

use crate::{
    browser::host,
    place::at,
    uplink::{Link, Transport},
};

const PATH: &str = "/ws/chat";
const SUBPROTOCOL: &str = "v12.stomp";

/// A request takes frames until they have so many octets: in JSON they are well within what the
/// server takes.
const REQUEST_BYTES: usize = 64 << 10;

/// Where no request may be held, one asks so often.
const POLL_EVERY: Duration = Duration::from_secs(1);

/// Where what happens to sockets is told.
pub(crate) type Report = fn(Link, Sign);

/// What happened to a socket.
pub(crate) enum Sign {
    /// A WebSocket is open.
    Open,
    /// A message has come.
    Data(JsValue),
    /// A WebSocket is closed, or the request of a stream has ended.
    Ended,
    /// A request of a session was answered, with this text; `None` when it failed.
    Answered { is_poll: bool, text: Option<String> },
}

/// What that means.
pub(crate) enum Heard {
    Nothing,
    /// The connection is open.
    Open,
    /// Octets of the server; empty ones where it only says that it is there.
    Payloads(Vec<Bytes>),
    /// The connection is no more.
    Closed,
}

/// One connection to the server; dropped, it is closed.
pub(crate) struct Socket {
    pub(crate) link: Link,
    /// None until the connection is open.
    pub(crate) client: Option<Client>,
    pub(crate) kind: Kind,
    report: Report,
}

/// What carries it.
pub(crate) enum Kind {
    WebSocket { web: WebSocket, _ears: Ears },
    Session(Session),
}

/// What listens to a WebSocket or a stream.
pub(crate) struct Ears {
    message: Closure<dyn FnMut(MessageEvent)>,
    end: Closure<dyn FnMut()>,
    open: Closure<dyn FnMut()>,
}

pub(crate) struct Session {
    path: String,
    receiver: Receiver,
    outbox: Vec<JsValue>,
    is_sending: bool,
    /// Calls its requests off: what they bring to a session that is let go is of no use.
    abort: Option<AbortController>,
}

enum Receiver {
    Stream {
        source: EventSource,
        ears: Ears,
        /// Whether the open request has brought anything.
        is_heard: bool,
    },
    Poll {
        /// When to ask next; none while a request is open.
        at: Option<Duration>,
        /// Something was sent that may be answered.
        is_awaited: bool,
    },
}

impl Socket {
    /// Begins to open one; `None` where the browser does not let us.
    pub(crate) fn open(
        link: Link,
        transport: Transport,
        now: Duration,
        report: Report,
    ) -> Option<Self> {
        let kind = match transport {
            Transport::WebSocket => {
                let ears = Ears::new(link, report);
                Kind::WebSocket {
                    web: web_socket(&ears)?,
                    _ears: ears,
                }
            }
            Transport::Stream | Transport::Polling => {
                let path = [&at(PATH), "/0/", &fresh_name()].concat();
                let receiver = if transport == Transport::Stream {
                    let ears = Ears::new(link, report);
                    Receiver::Stream {
                        source: source(&path, &ears)?,
                        ears,
                        is_heard: false,
                    }
                } else {
                    Receiver::Poll {
                        at: Some(now),
                        is_awaited: false,
                    }
                };
                Kind::Session(Session {
                    path,
                    receiver,
                    outbox: Vec::new(),
                    is_sending: false,
                    abort: AbortController::new().ok(),
                })
            }
        };
        Some(Socket {
            link,
            client: None,
            kind,
            report,
        })
    }

    /// Reads what has come.
    pub(crate) fn read(&mut self, data: &JsValue) -> Heard {
        match &mut self.kind {
            Kind::WebSocket { .. } => Heard::Payloads(vec![match data.as_string() {
                Some(text) => Bytes::from(text),
                None => Bytes::from(js_sys::Uint8Array::new(data).to_vec()),
            }]),
            Kind::Session(session) => {
                if let Receiver::Stream { is_heard, .. } = &mut session.receiver {
                    *is_heard = true;
                }
                read_frame(&data.as_string().unwrap_or_default())
            }
        }
    }

    /// Goes on in a new request where that of a stream has ended, if it had brought anything.
    pub(crate) fn go_on(&mut self) -> Heard {
        if let Kind::Session(Session { path, receiver, .. }) = &mut self.kind
            && let Receiver::Stream {
                source: old,
                ears,
                is_heard,
            } = receiver
            && std::mem::take(is_heard)
        {
            forsake(old);
            if let Some(new) = source(path, ears) {
                *old = new;
                return Heard::Nothing;
            }
        }
        Heard::Closed
    }

    /// Takes in the answer of a request; `rests` as in [`Socket::request`].
    pub(crate) fn answered(
        &mut self,
        is_poll: bool,
        text: Option<String>,
        rests: bool,
        now: Duration,
    ) -> Heard {
        let (Kind::Session(session), Some(text)) = (&mut self.kind, text) else {
            return Heard::Closed;
        };
        if is_poll && let Receiver::Poll { at, is_awaited, .. } = &mut session.receiver {
            let text = text.strip_suffix('\n').unwrap_or(&text);
            let rests = rests && text == sockjs::HEART_BEAT;
            *is_awaited = false;
            *at = Some(if rests { now + POLL_EVERY } else { now });
            return read_frame(text);
        }
        session.is_sending = false;
        if let Receiver::Poll { at, is_awaited, .. } = &mut session.receiver {
            // What was sent may be answered: who rests asks now.
            *is_awaited = true;
            *at = at.map(|_| now);
        }
        // That the server takes what is sent does not show that it can be heard.
        Heard::Nothing
    }

    /// Makes the requests of a session that are due: one that sends, and one that receives where it
    /// polls. Where it `rests` between them none is held open.
    pub(crate) fn request(&mut self, rests: bool, now: Duration) {
        let Kind::Session(session) = &mut self.kind else {
            return;
        };
        let body = session.body();
        let mut polls = false;
        let mut place = "/xhr";
        if let Receiver::Poll { at, is_awaited } = &mut session.receiver
            && at.is_some_and(|at| at <= now)
        {
            *at = None;
            polls = true;
            if rests {
                place = if *is_awaited {
                    // For as long as it takes the server to answer what was sent.
                    "/xhr?wait_ms=300"
                } else {
                    "/xhr?wait_ms=0"
                };
            }
        }
        if let Some(body) = body {
            self.post("/xhr_send", body);
        }
        if polls {
            self.post(place, JsValue::UNDEFINED);
        }
    }

    /// Sends a request to the session, and tells its answer.
    fn post(&self, place: &str, body: JsValue) {
        let Kind::Session(session) = &self.kind else {
            return;
        };
        let (link, report, is_poll) = (self.link, self.report, body.is_undefined());
        let signal = session.abort.as_ref().map(AbortController::signal);
        let request = Request::post(&[&session.path, place].concat())
            .abort_signal(signal.as_ref())
            .body(body);
        leptos::task::spawn_local(async move {
            let mut text = None;
            if let Ok(request) = request
                && let Ok(answer) = request.send().await
                && answer.ok()
            {
                text = answer.text().await.ok();
            }
            report(link, Sign::Answered { is_poll, text });
        });
    }

    pub(crate) fn is_session(&self) -> bool {
        matches!(self.kind, Kind::Session(_))
    }

    /// Whether a poll is open, for however long.
    pub(crate) fn holds_poll(&self) -> bool {
        matches!(
            &self.kind,
            Kind::Session(Session {
                receiver: Receiver::Poll { at: None, .. },
                ..
            })
        )
    }

    /// When to call [`Socket::request`] by itself.
    pub(crate) fn poll_timeout(&self) -> Option<Duration> {
        match &self.kind {
            Kind::Session(Session {
                receiver: Receiver::Poll { at, .. },
                ..
            }) => *at,
            _ => None,
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        match &self.kind {
            Kind::WebSocket { web, .. } => {
                web.set_onopen(None);
                web.set_onmessage(None);
                web.set_onclose(None);
                // A socket that is closed already may be closed again.
                let _ = web.close();
            }
            Kind::Session(session) => {
                if let Receiver::Stream { source, .. } = &session.receiver {
                    forsake(source);
                }
                if let Some(abort) = &session.abort {
                    abort.abort();
                }
            }
        }
    }
}

impl Kind {
    /// Sends a frame; whether the connection is still there.
    pub(crate) fn send(&mut self, frame: &[u8]) -> bool {
        let text = str::from_utf8(frame);
        match self {
            Kind::WebSocket { web, .. } => match text {
                Ok(text) => web.send_with_str(text).is_ok(),
                Err(_) => web.send_with_u8_array(frame).is_ok(),
            },
            Kind::Session(session) => {
                session.outbox.extend(text.ok().map(JsValue::from));
                true
            }
        }
    }
}

impl Ears {
    fn new(link: Link, report: Report) -> Self {
        Ears {
            message: Closure::new(move |event: MessageEvent| {
                report(link, Sign::Data(event.data()));
            }),
            end: Closure::new(move || report(link, Sign::Ended)),
            open: Closure::new(move || report(link, Sign::Open)),
        }
    }
}

impl Session {
    /// The body of the next request that sends, one at a time.
    fn body(&mut self) -> Option<JsValue> {
        if self.is_sending || self.outbox.is_empty() {
            return None;
        }
        let mut octets = 0;
        let fits = |frame: &&JsValue| {
            let before = octets;
            octets += js_sys::JsString::from((*frame).clone()).length() as usize * 3;
            before < REQUEST_BYTES
        };
        let count = self.outbox.iter().take_while(fits).count();
        let array: Array = self.outbox.drain(..count).collect();
        let body = JSON::stringify(&array).ok()?;
        self.is_sending = true;
        Some(body.into())
    }
}

/// A name that nobody else has.
pub(crate) fn fresh_name() -> String {
    Uuid::new_v4().simple().to_string()
}

fn web_socket(ears: &Ears) -> Option<WebSocket> {
    let secure = leptos::prelude::window()
        .location()
        .protocol()
        .is_ok_and(|protocol| protocol == "https:");
    let scheme = if secure { "wss://" } else { "ws://" };
    let address = [scheme, &host(), &at(PATH)].concat();
    let web = WebSocket::new_with_str(&address, SUBPROTOCOL).ok()?;
    web.set_binary_type(BinaryType::Arraybuffer);
    web.set_onopen(Some(ears.open.as_ref().unchecked_ref()));
    web.set_onmessage(Some(ears.message.as_ref().unchecked_ref()));
    web.set_onclose(Some(ears.end.as_ref().unchecked_ref()));
    Some(web)
}

fn source(session: &str, ears: &Ears) -> Option<EventSource> {
    let source = EventSource::new(&[session, "/eventsource"].concat()).ok()?;
    source.set_onmessage(Some(ears.message.as_ref().unchecked_ref()));
    source.set_onerror(Some(ears.end.as_ref().unchecked_ref()));
    Some(source)
}

fn forsake(source: &EventSource) {
    source.set_onmessage(None);
    source.set_onerror(None);
    source.close();
}

fn read_frame(text: &str) -> Heard {
    match sockjs::Frame::read(text) {
        Some(sockjs::Frame::Open) => Heard::Open,
        Some(sockjs::Frame::HeartBeat) => Heard::Payloads(vec![Bytes::new()]),
        Some(sockjs::Frame::Messages(array)) => match JSON::parse(array).map(JsCast::dyn_into) {
            Ok(Ok::<Array, _>(messages)) => {
                let messages = messages.iter().filter_map(|message| message.as_string());
                Heard::Payloads(messages.map(Bytes::from).collect())
            }
            _ => Heard::Closed,
        },
        Some(sockjs::Frame::Close(_)) | None => Heard::Closed,
    }
}
