//! SockJS 0.3.3 (<https://sockjs.github.io/sockjs-protocol/sockjs-protocol-0.3.3.html>): sessions that
//! live through the requests of browsers and proxies that let no WebSocket through.
//!
//! What a session is for is not here: an [`Endpoint`] gives each to a [`Service`] as a [`Transport`],
//! a WebSocket without SockJS's frames too. What a session is made of is in [`session`], how its
//! receivers speak in [`receiver`].

mod frame;
mod receiver;
mod session;
#[cfg(test)]
mod tests;
mod websocket;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{self, HeaderMap, HeaderValue};
use axum::http::{HeaderName, Method, Request, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use shared::sockjs;
use uuid::Uuid;

pub use self::frame::ClientUrl;
pub(crate) use self::frame::FrameClient;
use self::receiver::{Callback, Form, Receiver};
use self::session::{Attached, Owner, Refused, Sessions};
use self::websocket::Framed;
use crate::connection::Transport;
use crate::guest::Visitor;
use crate::origin::{Access, Caller, Origins};
use crate::problem::Problem;
use crate::ws::PayloadBytesMax;
use crate::{body, conditional, cors, ws};

/// What an endpoint goes by.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Where the endpoint is, without a slash at its end.
    pub(crate) path: &'static str,
    /// Whose pages may connect.
    pub(crate) origins: Arc<Origins>,
    /// What the page for frames loads; none where there is no such page.
    pub(crate) frame_client: Option<FrameClient>,
    /// Whether WebSocket is offered.
    pub(crate) has_websocket: bool,
    /// Sets the cookie `JSESSIONID`, by which load balancers keep a session at its server.
    pub(crate) sets_session_cookie: bool,
    /// Under which path that cookie is sent back.
    pub(crate) cookie_path: String,
    /// A streaming request ends after so many bytes of frames.
    pub(crate) response_bytes_max: usize,
    /// The most bytes in a request's body or a WebSocket message.
    pub(crate) payload_bytes_max: PayloadBytesMax,
    /// After so long with nothing to say, and again, a receiver gets a heart-beat.
    pub(crate) heart_beat_delay: Duration,
    /// A session ends so long after its last receiver.
    pub(crate) disconnect_delay: Duration,
    /// The most sessions of one address.
    pub(crate) sessions_per_address_max: usize,
}

/// Who asks, as the service knows them.
#[derive(Debug, Default)]
pub(crate) struct Visit {
    /// The guest of the request's cookie.
    pub(crate) known: Option<Uuid>,
    /// Where there is none: a guest, and the cookie that introduces them.
    pub(crate) new: Option<(Uuid, HeaderValue)>,
}

impl Visit {
    /// Whose a new session is, and the cookie to set.
    fn begin(self, headers: &HeaderMap) -> (Visitor, Option<HeaderValue>) {
        match (self.known, self.new) {
            (Some(guest), _) => (Visitor::Known(guest), None),
            (None, Some((guest, cookie))) if is_browser(headers) => {
                (Visitor::New(guest), Some(cookie))
            }
            _ => (Visitor::Program, None),
        }
    }
}

/// Whether a browser asks. It sends no `Origin` with a GET of its own origin, `Sec-Fetch-Site` (unlike
/// the other `Sec-Fetch` headers, which programs send too) over TLS alone, else `Referer`.
fn is_browser(headers: &HeaderMap) -> bool {
    let marks = ["origin", "sec-fetch-site", "referer"];
    marks.iter().any(|mark| headers.contains_key(*mark))
}

/// What sessions are for.
pub(crate) trait Service: Clone + Send + Sync + 'static {
    /// Tells who asks.
    fn visit(&self, caller: &Caller, headers: &HeaderMap) -> Visit;

    /// Drives one session until its end.
    fn run<T: Transport + Send + Unpin + 'static>(
        self,
        transport: T,
        visitor: Visitor,
    ) -> impl Future<Output = ()> + Send + 'static;
}

/// A SockJS endpoint: everything under one path.
#[derive(Clone)]
pub(crate) struct Endpoint<S> {
    settings: Arc<Settings>,
    sessions: Arc<Sessions>,
    service: S,
}

/// What a path under the endpoint names.
enum Place<'a> {
    Greeting,
    Info,
    /// The page for frames, and the version in its name.
    Iframe(Option<&'a str>),
    /// A script of that page.
    Script(&'a str),
    RawWebSocket,
    WebSocket,
    Receive(&'a str, Receiving),
    Send(&'a str, Sending),
    /// A session's, whose id is longer than any.
    TooLong,
}

/// The most characters of a session's id. Those of clients in use have 8 to 36.
const ID_CHARS_MAX: usize = 128;

/// A transport that receives.
#[derive(Clone, Copy)]
enum Receiving {
    Xhr,
    XhrStreaming,
    EventSource,
    HtmlFile,
    Jsonp,
}

/// A transport that sends.
#[derive(Clone, Copy, PartialEq)]
enum Sending {
    Xhr,
    Jsonp,
}

impl<'a> Place<'a> {
    /// Reads what follows the endpoint's path; `None` when there is nothing such.
    fn parse(rest: &'a str, is_upgrade: bool) -> Option<Self> {
        let rest = match rest {
            // Spring refuses a WebSocket here; ours lets it in.
            "" if is_upgrade => return Some(Place::RawWebSocket),
            "" | "/" => return Some(Place::Greeting),
            rest => rest.strip_prefix('/')?,
        };
        // As everywhere, a slash at the end names the same; the protocol has two name nothing.
        let rest = match rest.strip_suffix('/') {
            Some(before) if !before.is_empty() && !before.ends_with('/') => before,
            _ => rest,
        };
        let mut parts = rest.split('/');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some("info"), None, ..) => Some(Place::Info),
            (Some("websocket"), None, ..) => Some(Place::RawWebSocket),
            (Some("iframe.html"), None, ..) => Some(Place::Iframe(None)),
            (Some(file), None, ..) if file.starts_with("sockjs") => Some(Place::Script(file)),
            (Some(page), None, ..) => {
                let version = page.strip_prefix("iframe-")?.strip_suffix(".html")?;
                Some(Place::Iframe(Some(version)))
            }
            (Some(server), Some(session), Some(transport), None) => {
                if [server, session]
                    .iter()
                    .any(|part| part.is_empty() || part.contains('.'))
                {
                    return None;
                }
                if session.chars().count() > ID_CHARS_MAX {
                    return Some(Place::TooLong);
                }
                Some(match transport {
                    "websocket" => Place::WebSocket,
                    "xhr" => Place::Receive(session, Receiving::Xhr),
                    "xhr_streaming" => Place::Receive(session, Receiving::XhrStreaming),
                    "eventsource" => Place::Receive(session, Receiving::EventSource),
                    "htmlfile" => Place::Receive(session, Receiving::HtmlFile),
                    "jsonp" => Place::Receive(session, Receiving::Jsonp),
                    "xhr_send" => Place::Send(session, Sending::Xhr),
                    "jsonp_send" => Place::Send(session, Sending::Jsonp),
                    _ => return None,
                })
            }
            _ => None,
        }
    }

    /// The methods that it takes, the first of them being what it is for.
    fn methods(&self) -> &'static str {
        match self {
            Place::Send(..) | Place::Receive(_, Receiving::Xhr | Receiving::XhrStreaming) => {
                "POST, OPTIONS"
            }
            Place::TooLong => "GET, HEAD, POST, OPTIONS",
            _ => "GET, HEAD, OPTIONS",
        }
    }
}

impl<S: Service> Endpoint<S> {
    pub(crate) fn new(settings: Settings, service: S) -> Self {
        let sessions = Sessions::new(
            settings.sessions_per_address_max,
            settings.payload_bytes_max,
            settings.disconnect_delay,
        );
        Endpoint {
            settings: Arc::new(settings),
            sessions,
            service,
        }
    }

    /// Whether a path names a session that is open, or closed a moment ago.
    pub(crate) fn has_session(&self, path: &str) -> bool {
        let rest = path.strip_prefix(self.settings.path);
        match rest.and_then(|rest| Place::parse(rest, false)) {
            Some(Place::Receive(id, _) | Place::Send(id, _)) => self.sessions.find(id).is_some(),
            _ => false,
        }
    }

    /// Answers a request whose path begins with the endpoint's.
    pub(crate) async fn answer(&self, caller: Caller, request: Request<Body>) -> Response {
        let path = request.uri().path().to_owned();
        let is_upgrade = ws::is_upgrade(request.headers());
        let rest = path.strip_prefix(self.settings.path);
        let Some(place) = rest.and_then(|rest| Place::parse(rest, is_upgrade)) else {
            return StatusCode::NOT_FOUND.into_response();
        };
        let is_public = matches!(place, Place::Greeting | Place::Iframe(_) | Place::Script(_));
        if !is_public && !self.may_connect(&caller, &place, request.headers()) {
            let detail = "pages of this origin may not connect; see --allowed-origins\n";
            return (StatusCode::FORBIDDEN, detail).into_response();
        }
        let asked = request.headers().clone();
        let methods = place.methods();
        let takes = |method: &str| methods.split(", ").any(|known| known == method);
        let mut response = if !takes(request.method().as_str()) {
            let allow = [(header::ALLOW, methods)];
            (StatusCode::METHOD_NOT_ALLOWED, allow).into_response()
        } else if request.method() == Method::OPTIONS {
            options(methods, &asked)
        } else {
            let cookie = self.session_cookie(&place, &asked);
            let mut response = self.answer_at(place, &caller, request).await;
            if let Some(cookie) = cookie {
                response.headers_mut().append(header::SET_COOKIE, cookie);
            }
            response
        };
        if let Some(origin) = asked.get(header::ORIGIN).filter(|_| !is_public) {
            cors::share(response.headers_mut(), origin.clone());
            let vary = HeaderValue::from_static("Origin");
            response.headers_mut().append(header::VARY, vary);
        }
        response
    }

    /// Whether the origin of a request may connect.
    fn may_connect(&self, caller: &Caller, place: &Place<'_>, headers: &HeaderMap) -> bool {
        let access = match place {
            Place::Receive(_, Receiving::Jsonp) | Place::Send(_, Sending::Jsonp) => Access::Script,
            Place::Receive(_, Receiving::HtmlFile) => Access::Frame,
            _ => Access::Usual,
        };
        self.settings.origins.admit(caller, headers, access)
    }

    /// The cookie of load balancers, where it is set: the one that came, or a new one.
    fn session_cookie(&self, place: &Place<'_>, headers: &HeaderMap) -> Option<HeaderValue> {
        let is_session = matches!(place, Place::Receive(..) | Place::Send(..));
        if !self.settings.sets_session_cookie || !is_session {
            return None;
        }
        let cookies = headers.get_all(header::COOKIE).iter();
        let known = cookies
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(';'))
            .find_map(|cookie| cookie.trim().strip_prefix("JSESSIONID="));
        let (value, path) = (known.unwrap_or("dummy"), &self.settings.cookie_path);
        HeaderValue::try_from(format!("JSESSIONID={value}; path={path}")).ok()
    }

    async fn answer_at(
        &self,
        place: Place<'_>,
        caller: &Caller,
        request: Request<Body>,
    ) -> Response {
        match place {
            Place::Greeting => conditional::answer(request.headers(), greeting()),
            Place::Iframe(version) => match &self.settings.frame_client {
                Some(client) => {
                    let page = client.page(version, &self.settings);
                    conditional::answer(request.headers(), page)
                }
                None => (StatusCode::NOT_FOUND, NO_FRAMES).into_response(),
            },
            Place::Script(name) => {
                let client = self.settings.frame_client.as_ref();
                match client.and_then(|client| client.script(name, request.headers())) {
                    Some(script) => conditional::answer(request.headers(), script),
                    None => StatusCode::NOT_FOUND.into_response(),
                }
            }
            Place::Info => {
                let mut response = self.info();
                let visit = self.service.visit(caller, request.headers());
                introduce(visit.new.map(|(_, cookie)| cookie), &mut response);
                conditional::answer(request.headers(), response)
            }
            Place::RawWebSocket => self.upgrade(caller, request, |socket| socket),
            Place::WebSocket => self.sockjs_upgrade(caller, request),
            Place::Receive(session, transport) => {
                self.receive(session, transport, caller, &request)
            }
            Place::Send(session, transport) => self.send(session, transport, caller, request).await,
            Place::TooLong => {
                let detail = format!("the id of a session has at most {ID_CHARS_MAX} characters\n");
                (StatusCode::BAD_REQUEST, detail).into_response()
            }
        }
    }

    fn info(&self) -> Response {
        #[derive(Serialize)]
        struct Info {
            entropy: u32,
            origins: [&'static str; 1],
            cookie_needed: bool,
            websocket: bool,
        }
        let info = Info {
            entropy: Uuid::new_v4().as_fields().0,
            origins: ["*:*"],
            cookie_needed: self.settings.sets_session_cookie,
            websocket: self.settings.has_websocket,
        };
        let json = serde_json::to_vec(&info).expect("it is valid JSON");
        let content_type = [(header::CONTENT_TYPE, "application/json; charset=UTF-8")];
        not_cached((content_type, json).into_response())
    }

    /// Lets the pages of allowed origins alone hold an answer in a frame.
    fn frame_by_allowed(&self, headers: &mut HeaderMap) {
        let ancestors = self.settings.origins.sources();
        if let Ok(policy) = HeaderValue::try_from(format!("frame-ancestors {ancestors}")) {
            headers.insert(header::CONTENT_SECURITY_POLICY, policy);
        }
    }

    /// Opens a WebSocket for the service, as the transport that `make` makes of it.
    fn upgrade<T: Transport + Send + Unpin + 'static>(
        &self,
        caller: &Caller,
        mut request: Request<Body>,
        make: impl FnOnce(ws::WebSocket) -> T + Send + 'static,
    ) -> Response {
        if !self.settings.has_websocket {
            return StatusCode::NOT_FOUND.into_response();
        }
        let visit = self.service.visit(caller, request.headers());
        let (visitor, cookie) = visit.begin(request.headers());
        let service = self.service.clone();
        let bytes_max = self.settings.payload_bytes_max;
        let upgraded = ws::upgrade(&mut request, bytes_max, move |socket| {
            service.run(make(socket), visitor)
        });
        match upgraded {
            Ok(mut response) => {
                introduce(cookie, &mut response);
                response
            }
            Err(error) => error.into_response(),
        }
    }

    fn sockjs_upgrade(&self, caller: &Caller, request: Request<Body>) -> Response {
        // Before it is counted: what is no handshake opens no session.
        if !ws::is_upgrade(request.headers()) {
            return ws::HandshakeError::NotAnUpgrade.into_response();
        }
        let Some(counted) = self.sessions.count(caller.address) else {
            return too_many(TOO_MANY_SESSIONS);
        };
        let delay = self.settings.heart_beat_delay;
        self.upgrade(caller, request, move |socket| {
            Framed::new(socket, delay, counted)
        })
    }

    fn receive(
        &self,
        id: &str,
        transport: Receiving,
        caller: &Caller,
        request: &Request<Body>,
    ) -> Response {
        let callback = || callback(request.uri().query());
        let form = match transport {
            Receiving::Xhr => Ok(Form::Xhr),
            Receiving::XhrStreaming => Ok(Form::XhrStreaming),
            Receiving::EventSource => Ok(Form::EventSource),
            Receiving::HtmlFile => callback().map(Form::HtmlFile),
            Receiving::Jsonp => callback().map(Form::Jsonp),
        };
        let form = match form {
            Ok(form) => form,
            Err(reason) => return (StatusCode::INTERNAL_SERVER_ERROR, reason).into_response(),
        };
        if request.method() == Method::HEAD {
            // It asks what GET would be answered with, and takes nothing from the session.
            let content_type = [(header::CONTENT_TYPE, form.content_type())];
            return self.finish(transport, content_type.into_response());
        }
        let visit = self.service.visit(caller, request.headers());
        let known = visit.known;
        let (visitor, new_cookie) = visit.begin(request.headers());
        let owner = Owner {
            visitor,
            address: caller.address,
        };
        let mut cookie = None;
        let opened = self.sessions.open(id, owner, |link| {
            cookie = new_cookie;
            self.service.clone().run(link, visitor)
        });
        let Some(session) = opened else {
            return too_many(TOO_MANY_SESSIONS);
        };
        if !session.belongs_to(known, caller.address) {
            return StatusCode::NOT_FOUND.into_response();
        }
        let content_type = [(header::CONTENT_TYPE, form.content_type())];
        let heart_beat_delay = self.settings.heart_beat_delay;
        let wait = wait(request.uri().query()).filter(|_| form.is_polling());
        let body = match session.attach() {
            Attached::Open(number) => Body::new(Receiver::new(
                session,
                number,
                form,
                self.settings.response_bytes_max,
                wait.map_or(heart_beat_delay, |wait| wait.min(heart_beat_delay)),
            )),
            Attached::Busy => {
                let frame = sockjs::close(2010, "Another connection still open");
                receiver::only(&form, &frame)
            }
            Attached::Closed(frame) => receiver::only(&form, &frame),
        };
        let mut response = self.finish(transport, (content_type, body).into_response());
        introduce(cookie, &mut response);
        response
    }

    /// Gives a receiver's answer the rest of its head.
    fn finish(&self, transport: Receiving, response: Response) -> Response {
        let mut response = not_cached(response);
        if matches!(transport, Receiving::HtmlFile) {
            self.frame_by_allowed(response.headers_mut());
        }
        // Proxies that gather answers would hold a stream back.
        let unbuffered = HeaderValue::from_static("no");
        response
            .headers_mut()
            .insert(HeaderName::from_static("x-accel-buffering"), unbuffered);
        response
    }

    async fn send(
        &self,
        id: &str,
        transport: Sending,
        caller: &Caller,
        request: Request<Body>,
    ) -> Response {
        let visit = self.service.visit(caller, request.headers());
        let session = self
            .sessions
            .find(id)
            .filter(|session| session.belongs_to(visit.known, caller.address));
        let Some(session) = session else {
            return StatusCode::NOT_FOUND.into_response();
        };
        let is_form = request
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|kind| {
                kind.as_bytes()
                    .starts_with(b"application/x-www-form-urlencoded")
            });
        let turn = match session.turn().await {
            Ok(turn) => turn,
            Err(refused) => return refused.into_response(),
        };
        let body = match body::read(request, turn.bytes_max()).await {
            Ok(body) => body,
            Err(problem) => return problem.into_response(),
        };
        let payload = if transport == Sending::Jsonp && is_form {
            parameter(&body, "d")
                .unwrap_or_default()
                .into_owned()
                .into()
        } else {
            body
        };
        let broken = |words| (StatusCode::INTERNAL_SERVER_ERROR, words).into_response();
        if payload.is_empty() {
            return broken("Payload expected.");
        }
        let Ok(messages) = sockjs::read_messages(&payload) else {
            return broken("Broken JSON encoding.");
        };
        if let Err(refused) = turn.send(messages) {
            return refused.into_response();
        }
        let content_type = [(header::CONTENT_TYPE, "text/plain; charset=UTF-8")];
        not_cached(match transport {
            Sending::Xhr => (StatusCode::NO_CONTENT, content_type).into_response(),
            Sending::Jsonp => (content_type, "ok").into_response(),
        })
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        match self {
            Refused::Gone => StatusCode::NOT_FOUND.into_response(),
            Refused::Busy => too_many("too many requests of this session wait; send one at a time"),
        }
    }
}

fn greeting() -> Response {
    let content_type = [(header::CONTENT_TYPE, "text/plain; charset=UTF-8")];
    (content_type, "Welcome to SockJS!\n").into_response()
}

/// The answer to OPTIONS, which may be kept for a year.
fn options(methods: &'static str, asked: &HeaderMap) -> Response {
    let allow = [(header::ALLOW, methods)];
    let mut response = (StatusCode::NO_CONTENT, allow).into_response();
    let headers = response.headers_mut();
    cached(headers);
    if asked.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD) {
        cors::permit(headers, methods, asked);
    }
    response
}

fn cached(headers: &mut HeaderMap) {
    let control = HeaderValue::from_static("public, max-age=31536000");
    headers.insert(header::CACHE_CONTROL, control);
    // For caches that do not know max-age (RFC 9111, section 5.3): as good as for ever.
    let expires = HeaderValue::from_static("Fri, 31 Dec 2100 23:59:59 GMT");
    headers.insert(header::EXPIRES, expires);
}

fn not_cached(mut response: Response) -> Response {
    let control = HeaderValue::from_static("no-store, no-cache, must-revalidate, max-age=0");
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, control);
    response
}

fn introduce(cookie: Option<HeaderValue>, response: &mut Response) {
    if let Some(cookie) = cookie {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
}

const NO_FRAMES: &str = "frames are for pages of other origins, where --allowed-origins lists any, and need a \
    sockjs-client, built in or named by --sockjs-client-url\n";

const TOO_MANY_SESSIONS: &str = "this address has too many SockJS sessions; close some first";

fn too_many(detail: &str) -> Response {
    Problem::new(StatusCode::TOO_MANY_REQUESTS, detail)
        .retry_after(5)
        .into_response()
}

/// The callback that a request names, as `c` or `callback`.
fn callback(query: Option<&str>) -> Result<Callback, &'static str> {
    let query = query.unwrap_or_default().as_bytes();
    let name = parameter(query, "c").or_else(|| parameter(query, "callback"));
    let name = name
        .filter(|name| !name.is_empty())
        .ok_or("\"callback\" parameter required")?;
    Callback::parse(&name).ok_or("invalid \"callback\" parameter")
}

/// For how long a poll may be held, where its client says so: one that must keep its browser's few
/// connections free would rather come again.
fn wait(query: Option<&str>) -> Option<Duration> {
    let wait_ms = parameter(query?.as_bytes(), "wait_ms")?;
    wait_ms.parse().ok().map(Duration::from_millis)
}

/// Finds a parameter of a form or a query.
fn parameter<'a>(form: &'a [u8], name: &str) -> Option<Cow<'a, str>> {
    form_urlencoded::parse(form)
        .find(|(found, _)| found == name)
        .map(|(_, value)| value)
}
