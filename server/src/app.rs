//! Every route on one page.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use client::ssr::Source;
use governor::{DefaultKeyedRateLimiter, Quota};
use tower_http::set_header::SetResponseHeaderLayer;

use crate::chat::Chat;
use crate::config::Config;
use crate::connection::{self, Hub};
use crate::guest::Guests;
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
    Router::new()
        .route("/", get(|| async { Redirect::to("/chat/room") }))
        .route("/chat/room", get(pages::page).post(api::create_room))
        .route("/chat/room/enter/{room_id}", get(pages::page))
        .route("/chat/rooms", get(api::rooms))
        .route("/chat/room/{room_id}", get(api::room))
        .route("/chat/room/{room_id}/messages", get(api::messages))
        .route("/ws/chat", get(stomp))
        .route("/ws/chat/", get(greeting))
        .route("/ws/chat/websocket", get(stomp))
        .route(
            &package,
            get(|uri: Uri, headers: HeaderMap| assets::serve(uri, headers)),
        )
        .route("/healthz", get(api::healthz))
        .route("/readyz", get(api::readyz))
        .fallback(pages::page)
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
async fn stomp(State(state): State<AppState>, mut request: Request<Body>) -> Response {
    if !ws::is_upgrade(request.headers()) && request.uri().path() == "/ws/chat" {
        return greeting().await.into_response();
    }
    if !is_allowed_origin(request.headers(), &state.config.allowed_origins) {
        let detail = "pages of this origin may not connect; see --allowed-origins";
        return (StatusCode::FORBIDDEN, detail).into_response();
    }
    let visit = state.guests.visit(request.headers());
    let secure = is_secure(request.headers());
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
                    .introduce(guest, secure, response.headers_mut());
            }
            response
        }
        Err(error) => error.into_response(),
    }
}

/// Whether a request's origin may connect (contract, section 2).
fn is_allowed_origin(headers: &HeaderMap, allowed: &[String]) -> bool {
    let text = |name| {
        headers
            .get(name)
            .and_then(|value: &HeaderValue| value.to_str().ok())
    };
    let origin = match headers.get(header::ORIGIN) {
        Some(origin) => match origin.to_str() {
            Ok(origin) => origin,
            Err(_) => return false,
        },
        None if text(HeaderName::from_static("sec-fetch-site")) != Some("cross-site") => {
            return true;
        }
        None => match text(header::REFERER).and_then(origin_of) {
            Some(origin) => origin,
            None => return false,
        },
    };
    let host = text(header::HOST).unwrap_or_default();
    allowed.iter().any(|allowed| {
        allowed == "*"
            || without_default_port(allowed).eq_ignore_ascii_case(without_default_port(origin))
    }) || is_own(origin, host)
}

fn origin_of(url: &str) -> Option<&str> {
    let scheme_end = url.find("://")? + 3;
    let end = url[scheme_end..]
        .find('/')
        .map_or(url.len(), |slash| scheme_end + slash);
    Some(&url[..end])
}

/// Host and port are compared, the scheme is not: TLS may end in front of the server.
fn is_own(origin: &str, host: &str) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else {
        return false;
    };
    let bare = |authority: &str| -> String {
        let port = if scheme == "https" { ":443" } else { ":80" };
        authority
            .strip_suffix(port)
            .unwrap_or(authority)
            .to_ascii_lowercase()
    };
    matches!(scheme, "http" | "https") && !host.is_empty() && bare(authority) == bare(host)
}

fn without_default_port(origin: &str) -> &str {
    let port = if origin.starts_with("https://") {
        ":443"
    } else {
        ":80"
    };
    origin.strip_suffix(port).unwrap_or(origin)
}

/// Whether the browser came by https. Forwarded headers are not believed yet.
pub(crate) fn is_secure(_headers: &HeaderMap) -> bool {
    false
}

/// The address of the peer.
pub(crate) struct Peer(pub(crate) IpAddr);

impl<S: Send + Sync> FromRequestParts<S> for Peer {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let info = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        Ok(Peer(info.map_or(
            IpAddr::from([0, 0, 0, 0]),
            |ConnectInfo(address)| address.ip(),
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_judged_as_the_contract_says() {
        let allowed = ["https://shop.example".to_owned()];
        let all = ["*".to_owned()];
        let cases: &[(&[(&str, &str)], &[String], bool)] = &[
            (&[("host", "chat.example")], &[], true),
            (
                &[("host", "chat.example"), ("origin", "https://chat.example")],
                &[],
                true,
            ),
            (
                &[
                    ("host", "chat.example"),
                    ("origin", "http://chat.example:80"),
                ],
                &[],
                true,
            ),
            (
                &[
                    ("host", "chat.example:8080"),
                    ("origin", "http://chat.example:8080"),
                ],
                &[],
                true,
            ),
            (
                &[
                    ("host", "chat.example:8080"),
                    ("origin", "http://chat.example"),
                ],
                &[],
                false,
            ),
            (
                &[("host", "chat.example"), ("origin", "https://evil.example")],
                &[],
                false,
            ),
            (&[("host", "chat.example"), ("origin", "null")], &[], false),
            (&[("host", "chat.example"), ("origin", "null")], &all, true),
            (
                &[
                    ("host", "chat.example"),
                    ("origin", "https://shop.example:443"),
                ],
                &allowed,
                true,
            ),
            (
                &[("host", "chat.example"), ("origin", "http://shop.example")],
                &allowed,
                false,
            ),
            (
                &[("host", "chat.example"), ("sec-fetch-site", "cross-site")],
                &[],
                false,
            ),
            (
                &[
                    ("host", "chat.example"),
                    ("sec-fetch-site", "cross-site"),
                    ("referer", "https://shop.example/page"),
                ],
                &allowed,
                true,
            ),
        ];
        for (headers, allowed, expected) in cases {
            let map: HeaderMap = headers
                .iter()
                .map(|(name, value)| {
                    (
                        HeaderName::from_static(name),
                        HeaderValue::from_static(value),
                    )
                })
                .collect();
            assert_eq!(is_allowed_origin(&map, allowed), *expected, "{headers:?}");
        }
    }
}
