//! Every route on one page.

use std::any::Any;
use std::convert::Infallible;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::{any, get};
use bytes::Bytes;
use client::ssr::Source;
use governor::DefaultKeyedRateLimiter;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use ipnet::IpNet;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::set_header::SetResponseHeaderLayer;

use crate::accept::Place;
use crate::admission::Quota;
use crate::answers::{self, Answers};
use crate::body::Reading;
use crate::chat::Chat;
use crate::config::Config;
use crate::connection::{self, Hub, Transport};
use crate::guest::{Guests, Visitor};
use crate::metrics::meters;
use crate::origin::{self, Access, Caller, Hosts, Origins};
use crate::problem::Problem;
use crate::sockjs::{Endpoint, FrameClient, Service, Settings, Visit};
use crate::ws::PayloadBytesMax;
use crate::{api, assets, conditional, cors, pages};

/// What every route can reach.
#[derive(Clone)]
pub(crate) struct AppState {
    pub(crate) chat: Arc<Chat>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) guests: Guests,
    pub(crate) source: Arc<dyn Source>,
    pub(crate) stomp: Endpoint<Stomp>,
    pub(crate) room_rate: Option<Arc<DefaultKeyedRateLimiter<IpAddr>>>,
    pub(crate) trusted_proxies: Arc<[IpNet]>,
    pub(crate) origins: Arc<Origins>,
    pub(crate) hosts: Arc<Hosts>,
    pub(crate) answers: Answers,
    /// What bodies and answers hold while they are under way.
    bytes: Arc<Quota>,
    pub(crate) connections: Arc<Quota>,
    /// Connections that a trusted proxy has for others.
    forwarded: Arc<Quota>,
    pub(crate) config: Arc<Config>,
}

impl AppState {
    pub(crate) fn new(
        chat: Arc<Chat>,
        hub: Arc<Hub>,
        guests: Guests,
        config: Arc<Config>,
        connections: Arc<Quota>,
    ) -> Self {
        let room_rate = NonZeroU32::new(config.room_rate).map(|rate| {
            Arc::new(DefaultKeyedRateLimiter::keyed(governor::Quota::per_minute(
                rate,
            )))
        });
        let allowed = config.allowed_origins.iter().flatten().cloned().collect();
        let origins = Arc::new(Origins::new(allowed));
        let hosts = Arc::new(Hosts::new(
            config.hosts.iter().flatten(),
            config.allowed_origins.iter().flatten(),
        ));
        let bytes = Quota::new(config.http_bytes, config.http_bytes_per_address);
        let under_way = Quota::new(config.answers, config.answers_per_address);
        let stomp = Endpoint::new(
            endpoint(&config, &origins),
            Stomp {
                chat: Arc::clone(&chat),
                hub: Arc::clone(&hub),
                guests: guests.clone(),
            },
        );
        let source: Arc<dyn Source> = Arc::new(pages::Rooms(Arc::clone(&chat)));
        AppState {
            chat,
            hub,
            guests,
            source,
            stomp,
            room_rate,
            origins,
            hosts,
            answers: Answers::new(under_way, Arc::clone(&bytes)),
            bytes,
            connections,
            forwarded: Quota::new(0, config.connections_per_address),
            trusted_proxies: config.trusted_proxies.iter().flatten().copied().collect(),
            config,
        }
    }
}

impl AppState {
    /// Forgets the addresses that may make rooms at their full rate again.
    pub(crate) fn tidy(&self) {
        if let Some(rate) = &self.room_rate {
            forget(rate);
        }
    }
}

/// An address whose quota is whole again is as one that never came.
fn forget(rate: &DefaultKeyedRateLimiter<IpAddr>) {
    rate.retain_recent();
    rate.shrink_to_fit();
}

impl FromRequestParts<AppState> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Infallible> {
        Ok(Caller::of(parts, &state.trusted_proxies))
    }
}

/// The routes of the contract's sections 1 and 2.
pub(crate) fn routes(state: AppState) -> Router {
    let package = format!("/{}/{{*file}}", assets::package_dir());
    let rooms = format!("{}/chat/room", state.config.base_path.prefix());
    let config = Arc::clone(&state.config);
    pages::start();
    let api = Router::new()
        .route("/chat/room", get(pages::page).post(api::create_room))
        .route("/chat/rooms", get(api::rooms))
        .route("/chat/room/{room_id}", get(api::room))
        .route("/chat/room/{room_id}/messages", get(api::messages))
        .route("/chat/room/{room_id}/participants", get(api::participants))
        .method_not_allowed_fallback(other_method)
        .layer(middleware::from_fn_with_state(state.clone(), share));
    let routes = Router::new()
        .route("/", get(|| async move { Redirect::to(&rooms) }))
        .merge(api)
        // A page that is not there, rather than a room of the API that is not.
        .route("/chat/room/enter", get(pages::page))
        .route("/chat/room/enter/{room_id}", get(pages::page))
        .fallback(nowhere)
        .layer(middleware::from_fn_with_state(
            state.clone(),
            answers::answer,
        ))
        .route(
            &package,
            get(|uri: Uri, headers: HeaderMap| assets::serve(uri, headers)),
        )
        .route("/healthz", get(api::healthz))
        .route("/readyz", get(api::readyz))
        .route("/metrics", get(api::metrics))
        .method_not_allowed_fallback(other_method)
        .layer(middleware::from_fn(read))
        .route("/ws/chat", any(stomp))
        .route("/ws/chat/", any(stomp))
        .route("/ws/chat/{*path}", any(stomp))
        .layer(middleware::from_fn_with_state(
            state.clone(),
            refuse_while_draining,
        ))
        .layer(middleware::from_fn_with_state(state.clone(), admit))
        .layer(CatchPanicLayer::custom(panicked))
        .with_state(state);
    // What is done before a route is found stands outside of the router.
    Router::new()
        .fallback_service(routes)
        .layer(middleware::from_fn_with_state(config, arrive))
        .layer(header_layer(header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .layer(header_layer(header::REFERRER_POLICY, "same-origin"))
        .layer(header_layer(
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ))
}

/// The methods of HTTP (RFC 9110, 9.3, and RFC 5789) but CONNECT, which is for proxies.
const METHODS: [Method; 8] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::DELETE,
    Method::OPTIONS,
    Method::TRACE,
    Method::PATCH,
];

/// Does what is alike for all routes before one is found, and completes `Allow`.
async fn arrive(
    State(config): State<Arc<Config>>,
    mut request: Request<Body>,
    next: Next,
) -> Response {
    let of_server = request.uri().path() == "*" && request.method() == Method::OPTIONS;
    // `example:80` has no path at all, which nothing behind this expects (RFC 9112, 3.2).
    if !of_server && !request.uri().path().starts_with('/') {
        let detail = "ask for a path of this server, such as /chat/room; it is no proxy";
        return Problem::new(StatusCode::BAD_REQUEST, detail).into_response();
    }
    if let Err(problem) = origin::settle(&mut request) {
        return problem.into_response();
    }
    if !METHODS.contains(request.method()) {
        let detail = "this method is not known here; use one of those that OPTIONS tells";
        return Problem::new(StatusCode::NOT_IMPLEMENTED, detail).into_response();
    }
    if of_server {
        // RFC 9110, 9.3.7.
        let allow = [(header::ALLOW, "GET, HEAD, POST, OPTIONS")];
        return (StatusCode::NO_CONTENT, allow).into_response();
    }
    let came = request.uri().path();
    let path = config.base_path.take_off(came).unwrap_or(came);
    let path = without_slash(path).unwrap_or(path);
    if path != came
        && let Some(uri) = with_path(request.uri(), path)
    {
        *request.uri_mut() = uri;
    }
    let mut response = next.run(request).await;
    meters().answer(response.status().as_u16());
    let allow = response.headers().get(header::ALLOW);
    if let Some(methods) = allow.and_then(|allow| allow.to_str().ok())
        && !methods.contains("OPTIONS")
    {
        let methods = methods.replace(',', ", ") + ", OPTIONS";
        if let Ok(methods) = HeaderValue::try_from(methods) {
            response.headers_mut().insert(header::ALLOW, methods);
        }
    }
    response
}

/// Lets a request in for a host that the server answers to, and within what its address may hold.
async fn admit(
    State(state): State<AppState>,
    caller: Caller,
    mut request: Request<Body>,
    next: Next,
) -> Response {
    // Balancers ask these by whatever name; they tell a page no more than that something is here.
    if !matches!(request.uri().path(), "/healthz" | "/readyz")
        && let Err(problem) = state.hosts.admit(&caller)
    {
        return problem.into_response();
    }
    let mut held = None;
    if caller.is_forwarded {
        // A proxy's connections carry many people: each request counts as one while it is under way, and
        // a WebSocket as long as it lasts.
        let place = match state.forwarded.take(Some(caller.address), 1) {
            Ok(share) => Place::new(share, request.extensions_mut().remove()),
            Err(full) => return full.problem("connections").into_response(),
        };
        request.extensions_mut().insert(place.clone());
        held = Some(place);
    }
    request.extensions_mut().insert(Reading {
        quota: Arc::clone(&state.bytes),
        address: caller.address,
        stall: Duration::from_millis(state.config.stall_timeout_ms),
    });
    let response = next.run(request).await;
    match held {
        Some(place) => response.map(|body| Body::new(Holding { body, _held: place })),
        None => response,
    }
}

/// A body, and what its end gives back.
struct Holding {
    body: Body,
    _held: Place,
}

impl HttpBody for Holding {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A slash at the end of a path names the same as the path without it; SockJS has its own rules.
fn without_slash(path: &str) -> Option<&str> {
    let before = path.strip_suffix('/')?;
    let is_one = !before.is_empty() && !before.ends_with('/');
    (is_one && !before.starts_with("/ws/chat")).then_some(before)
}

/// An address with another path and the same query.
fn with_path(uri: &Uri, path: &str) -> Option<Uri> {
    let target = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    target.parse().ok()
}

/// Has HEAD answered as GET is, of which hyper leaves out the content, and both by their conditions.
async fn read(mut request: Request<Body>, next: Next) -> Response {
    if request.method() == Method::HEAD {
        *request.method_mut() = Method::GET;
    }
    if request.method() != Method::GET {
        return next.run(request).await;
    }
    let asked = request.headers().clone();
    conditional::answer(&asked, next.run(request).await)
}

/// What a route says to a method that it has not; the router adds `Allow`.
async fn other_method(method: Method) -> Response {
    if method == Method::OPTIONS {
        return StatusCode::NO_CONTENT.into_response();
    }
    let detail = "use one of the methods that the header `Allow` names";
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail).into_response()
}

/// What is under no path of ours: a page for whoever reads.
async fn nowhere(state: State<AppState>, caller: Caller, request: Request<Body>) -> Response {
    if request.method() == Method::GET {
        return pages::page(state, caller, request).await;
    }
    let detail = "there is nothing under this path";
    Problem::new(StatusCode::NOT_FOUND, detail).into_response()
}

/// Whether a request changes nothing and gives nothing to the page that makes it: what a link leads to,
/// the page of the rooms, and the question what is allowed.
fn may_be_foreign(request: &Request<Body>) -> bool {
    let mode = request.headers().get("sec-fetch-mode");
    let is_link = mode.is_some_and(|mode| mode == "navigate");
    match *request.method() {
        Method::OPTIONS => true,
        Method::GET => is_link || request.uri().path() == "/chat/room",
        _ => false,
    }
}

/// Lets pages of the allowed origins use the room API, and no others (contract, section 2).
async fn share(
    State(state): State<AppState>,
    caller: Caller,
    request: Request<Body>,
    next: Next,
) -> Response {
    let asked = request.headers().clone();
    let is_preflight = request.method() == Method::OPTIONS
        && asked.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let origin = asked.get(header::ORIGIN);
    let is_allowed = state.origins.admit(&caller, &asked, Access::Usual);
    let mut response = if is_allowed || may_be_foreign(&request) {
        next.run(request).await
    } else {
        let detail = "pages of this origin may not use this server; see --allowed-origins";
        Problem::new(StatusCode::FORBIDDEN, detail).into_response()
    };
    let headers = response.headers_mut();
    let mut vary = "origin";
    if is_preflight {
        vary = "origin, access-control-request-method, access-control-request-headers";
    }
    headers.append(header::VARY, HeaderValue::from_static(vary));
    if let Some(origin) = origin.filter(|_| is_allowed) {
        cors::share(headers, origin.clone());
        if is_preflight {
            cors::permit(headers, "GET, HEAD, POST, OPTIONS", &asked);
        } else {
            let shown = HeaderValue::from_static("etag, location, retry-after");
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, shown);
        }
    }
    response
}

fn header_layer(name: HeaderName, value: &'static str) -> SetResponseHeaderLayer<HeaderValue> {
    SetResponseHeaderLayer::if_not_present(name, HeaderValue::from_static(value))
}

/// Answers a request whose handling panicked; the hook of the program has logged why.
fn panicked(_: Box<dyn Any + Send>) -> Response {
    let detail = "the server failed over this request; its log says why";
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail).into_response()
}

/// Answers everything new but `/healthz` with 503 once the server is going down.
async fn refuse_while_draining(
    State(state): State<AppState>,
    request: Request<Body>,
    next: Next,
) -> Response {
    let path = request.uri().path();
    if state.hub.is_draining() && path != "/healthz" && !state.stomp.has_session(path) {
        let detail = "the server is going down; try again in a moment";
        return Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
            .retry_after(5)
            .into_response();
    }
    next.run(request).await
}

/// Everything under `/ws/chat`: STOMP over WebSocket and SockJS.
async fn stomp(State(state): State<AppState>, caller: Caller, request: Request<Body>) -> Response {
    state.stomp.answer(caller, request).await
}

/// The sessions of the endpoint speak STOMP with the chat.
#[derive(Clone)]
pub(crate) struct Stomp {
    chat: Arc<Chat>,
    hub: Arc<Hub>,
    guests: Guests,
}

impl Service for Stomp {
    fn visit(&self, caller: &Caller, headers: &HeaderMap) -> Visit {
        let visit = self.guests.visit(headers, caller.is_secure);
        let cookie = || self.guests.cookie(visit.new, caller.is_secure);
        Visit {
            known: visit.known,
            new: visit.known.is_none().then(|| (visit.new, cookie())),
        }
    }

    fn run<T: Transport + Send + Unpin + 'static>(
        self,
        transport: T,
        visitor: Visitor,
    ) -> impl Future<Output = ()> + Send + 'static {
        connection::run(transport, self.chat, self.hub, visitor)
    }
}

/// What the page for frames loads. Where no page of another origin may connect there is no such page.
fn frame_client(config: &Config, origins: &Origins) -> Option<FrameClient> {
    let named = config.sockjs_client_url.clone().map(FrameClient::Named);
    let own = FrameClient::Own(assets::SOCKJS_CLIENTS);
    let built_in = (!assets::SOCKJS_CLIENTS.is_empty()).then_some(own);
    named.or(built_in).filter(|_| origins.has_foreign())
}

fn endpoint(config: &Config, origins: &Arc<Origins>) -> Settings {
    Settings {
        path: "/ws/chat",
        origins: Arc::clone(origins),
        frame_client: frame_client(config, origins),
        has_websocket: true,
        sets_session_cookie: config.sockjs_session_cookie,
        cookie_path: config.base_path.for_cookies().to_owned(),
        response_bytes_max: config.sockjs_response_bytes_max,
        payload_bytes_max: PayloadBytesMax {
            // A first frame that is a little too large is told so by an ERROR.
            first: config
                .payload_bytes_max
                .min(config.connect_frame_bytes_max.saturating_add(1 << 10)),
            usual: config.payload_bytes_max,
        },
        heart_beat_delay: Duration::from_millis(config.sockjs_heart_beat_ms),
        disconnect_delay: Duration::from_millis(config.sockjs_disconnect_ms),
        sessions_per_address_max: config.sockjs_sessions_per_address,
    }
}

#[cfg(test)]
mod tests {
    use tower::ServiceExt as _;

    use super::*;

    #[test]
    fn addresses_are_forgotten_when_their_quota_is_whole() {
        let quota = governor::Quota::per_minute(NonZeroU32::new(6_000).unwrap());
        let rate = DefaultKeyedRateLimiter::keyed(quota);
        for number in 0..10_000_u32 {
            let address = IpAddr::from(number.to_be_bytes());
            assert!(rate.check_key(&address).is_ok());
        }
        let slow = DefaultKeyedRateLimiter::keyed(governor::Quota::per_minute(NonZeroU32::MIN));
        let address = IpAddr::from([127, 0, 0, 1]);
        assert!(slow.check_key(&address).is_ok());
        std::thread::sleep(Duration::from_millis(50));
        forget(&rate);
        forget(&slow);
        assert_eq!(rate.len(), 0);
        assert!(slow.check_key(&address).is_err(), "it is not forgotten yet");
    }

    #[tokio::test]
    async fn a_panic_over_a_request_is_answered() {
        let app = Router::<()>::new()
            .route("/", get(|| async { panic!("injected") as &str }))
            .layer(CatchPanicLayer::custom(panicked));
        let request = Request::new(Body::empty());
        let response = app.oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(
            response.headers()[header::CONTENT_TYPE],
            "application/problem+json"
        );
    }
}
