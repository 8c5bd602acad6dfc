//! Every route on one page.

use std::any::Any;
use std::convert::Infallible;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::{any, get};
use client::ssr::Source;
use governor::{DefaultKeyedRateLimiter, Quota};
use ipnet::IpNet;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::cors::{AllowOrigin, CorsLayer};
use tower_http::set_header::SetResponseHeaderLayer;

use crate::chat::Chat;
use crate::config::Config;
use crate::connection::{self, Hub, Transport};
use crate::guest::{Guests, Visitor};
use crate::origin::Caller;
use crate::problem::Problem;
use crate::sockjs::{Endpoint, Service, Settings, Visit};
use crate::{api, assets, pages};

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
    pub(crate) config: Arc<Config>,
}

impl AppState {
    pub(crate) fn new(chat: Arc<Chat>, hub: Arc<Hub>, guests: Guests, config: Arc<Config>) -> Self {
        let room_rate = NonZeroU32::new(config.room_rate)
            .map(|rate| Arc::new(DefaultKeyedRateLimiter::keyed(Quota::per_minute(rate))));
        let stomp = Endpoint::new(
            endpoint(&config),
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
            trusted_proxies: config.trusted_proxies.iter().flatten().copied().collect(),
            config,
        }
    }
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
    pages::start();
    let api = Router::new()
        .route("/chat/room", get(pages::page).post(api::create_room))
        .route("/chat/rooms", get(api::rooms))
        .route("/chat/room/{room_id}", get(api::room))
        .route("/chat/room/{room_id}/messages", get(api::messages))
        .method_not_allowed_fallback(api::method_not_allowed)
        .layer(cors(&state));
    Router::new()
        .route("/", get(|| async { Redirect::to("/chat/room") }))
        .merge(api)
        .route("/chat/room/enter/{room_id}", get(pages::page))
        .fallback(pages::page)
        .layer(CompressionLayer::new())
        .route("/ws/chat", any(stomp))
        .route("/ws/chat/", any(stomp))
        .route("/ws/chat/{*path}", any(stomp))
        .route(
            &package,
            get(|uri: Uri, headers: HeaderMap| assets::serve(uri, headers)),
        )
        .route("/healthz", get(api::healthz))
        .route("/readyz", get(api::readyz))
        .layer(middleware::from_fn_with_state(
            state.clone(),
            refuse_while_draining,
        ))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(header_layer(header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .layer(header_layer(header::REFERRER_POLICY, "same-origin"))
        .layer(header_layer(
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ))
        .with_state(state)
}

/// Lets pages of the allowed origins use the room API (contract, section 2).
fn cors(state: &AppState) -> CorsLayer {
    let trusted = Arc::clone(&state.trusted_proxies);
    let config = Arc::clone(&state.config);
    let is_allowed = move |origin: &HeaderValue, parts: &Parts| {
        let caller = Caller::of(parts, &trusted);
        let origin = origin.to_str();
        origin.is_ok_and(|origin| caller.is_allowed(origin, &config.allowed_origins))
    };
    CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(is_allowed))
        .allow_credentials(true)
        .allow_methods([Method::GET, Method::POST])
        .allow_headers([header::CONTENT_TYPE])
        .expose_headers([header::LOCATION, header::RETRY_AFTER])
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
        let visit = self.guests.visit(headers);
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

fn endpoint(config: &Config) -> Settings {
    Settings {
        path: "/ws/chat",
        allowed_origins: config.allowed_origins.clone(),
        client_url: config.sockjs_client_url.clone(),
        has_websocket: true,
        sets_session_cookie: config.sockjs_session_cookie,
        response_bytes_max: config.sockjs_response_bytes_max,
        payload_bytes_max: config.payload_bytes_max,
        heart_beat_delay: Duration::from_millis(config.sockjs_heart_beat_ms),
        disconnect_delay: Duration::from_millis(config.sockjs_disconnect_ms),
        sessions_per_address_max: config.sockjs_sessions_per_address,
    }
}

#[cfg(test)]
mod tests {
    use tower::ServiceExt as _;

    use super::*;

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
