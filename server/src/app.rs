//! Every route on one page.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::get;
use client::ssr::Source;
use governor::{DefaultKeyedRateLimiter, Quota};
use tower_http::compression::CompressionLayer;
use tower_http::cors::{AllowOrigin, CorsLayer};
use tower_http::set_header::SetResponseHeaderLayer;

use crate::chat::Chat;
use crate::config::Config;
use crate::connection::{self, Hub};
use crate::guest::Guests;
use crate::origin::Caller;
use crate::problem::Problem;
use crate::{api, assets, pages, ws};

/// What every route can reach.
#[derive(Clone)]
pub(crate) struct AppState {
    pub(crate) chat: Arc<Chat>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) guests: Guests,
    pub(crate) source: Arc<dyn Source>,
    pub(crate) room_rate: Option<Arc<DefaultKeyedRateLimiter<IpAddr>>>,
    pub(crate) config: Arc<Config>,
}

impl AppState {
    pub(crate) fn new(chat: Arc<Chat>, hub: Arc<Hub>, guests: Guests, config: Arc<Config>) -> Self {
        let room_rate = NonZeroU32::new(config.room_rate)
            .map(|rate| Arc::new(DefaultKeyedRateLimiter::keyed(Quota::per_minute(rate))));
        let source: Arc<dyn Source> = Arc::new(pages::Rooms(Arc::clone(&chat)));
        AppState {
            chat,
            hub,
            guests,
            source,
            room_rate,
            config,
        }
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
        .layer(cors(Arc::clone(&state.config)));
    Router::new()
        .route("/", get(|| async { Redirect::to("/chat/room") }))
        .merge(api)
        .route("/chat/room/enter/{room_id}", get(pages::page))
        .fallback(pages::page)
        .layer(CompressionLayer::new())
        .route("/ws/chat", get(stomp))
        .route("/ws/chat/", get(greeting))
        .route("/ws/chat/websocket", get(stomp))
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
        .layer(header_layer(header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .layer(header_layer(header::REFERRER_POLICY, "same-origin"))
        .layer(header_layer(
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ))
        .with_state(state)
}

/// Lets pages of the allowed origins use the room API (contract, section 2).
fn cors(config: Arc<Config>) -> CorsLayer {
    let is_allowed = move |origin: &HeaderValue, parts: &Parts| {
        let caller = Caller::of(parts, &config.trusted_proxies);
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

/// Answers everything but `/healthz` with 503 once the server is going down.
async fn refuse_while_draining(
    State(state): State<AppState>,
    request: Request<Body>,
    next: Next,
) -> Response {
    if state.hub.is_draining() && request.uri().path() != "/healthz" {
        let detail = "the server is going down; try again in a moment";
        return Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
            .retry_after(5)
            .into_response();
    }
    next.run(request).await
}

async fn greeting() -> &'static str {
    "Welcome to SockJS!\n"
}

/// `/ws/chat` and `/ws/chat/websocket`: STOMP over WebSocket, or the greeting.
async fn stomp(
    State(state): State<AppState>,
    caller: Caller,
    mut request: Request<Body>,
) -> Response {
    if !ws::is_upgrade(request.headers()) && request.uri().path() == "/ws/chat" {
        return greeting().await.into_response();
    }
    if !caller.may_connect(request.headers(), &state.config.allowed_origins) {
        let detail = "pages of this origin may not connect; see --allowed-origins";
        return (StatusCode::FORBIDDEN, detail).into_response();
    }
    let visit = state.guests.visit(request.headers());
    let is_browser = request.headers().contains_key(header::ORIGIN);
    let introduced = (visit.known.is_none() && is_browser).then_some(visit.new);
    let guest = visit.known.or(introduced);
    let (chat, hub) = (Arc::clone(&state.chat), Arc::clone(&state.hub));
    let bytes_max = state.config.payload_bytes_max;
    let upgraded = ws::upgrade(&mut request, bytes_max, move |socket| {
        connection::run(socket, chat, hub, guest)
    });
    match upgraded {
        Ok(mut response) => {
            if let Some(guest) = introduced {
                state
                    .guests
                    .introduce(guest, caller.is_secure, response.headers_mut());
            }
            response
        }
        Err(error) => error.into_response(),
    }
}
