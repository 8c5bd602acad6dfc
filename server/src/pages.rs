//! The pages: rendered by the `client` crate, which reads through its `Source`.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum_extra::extract::cookie::{Cookie, CookieJar, SameSite};
use client::ssr::{PageRequest, Reading, RoomsPart, Source, Unavailable};
use client::{Language, Visit};
use leptos::config::LeptosOptions;
use leptos::prelude::{expect_context, provide_context};
use shared::chat::{ChatMessage, ChatRoom, RoomId};
use tokio::sync::oneshot;

use crate::app::AppState;
use crate::chat::{Chat, answer};
use crate::log::{self, Range, StoreError};
use crate::origin::Caller;
use crate::{answers, api, assets};

const LANGUAGE_COOKIE: &str = "sarangbang_lang";

/// What the pages read from.
pub(crate) struct Rooms(pub(crate) Arc<Chat>);

impl Source for Rooms {
    fn rooms(&self, part: &RoomsPart, limit: usize) -> Reading<Vec<ChatRoom>> {
        let log = Arc::clone(&self.0.log);
        let after = part.after.and_then(|id| log.room(id));
        let name = part.name.clone();
        Box::pin(async move {
            let rooms = match name {
                None => log.rooms_by_activity(after.as_deref(), limit),
                Some(name) => {
                    let find = move || {
                        let rooms = log.rooms_by_activity(after.as_deref(), usize::MAX);
                        Chat::with_name(rooms, &name, limit)
                    };
                    answers::off_thread(find).await.ok_or(Unavailable)?
                }
            };
            Ok(rooms.iter().map(|room| log::show(room)).collect())
        })
    }

    fn room(&self, id: RoomId) -> Reading<Option<ChatRoom>> {
        let room = self.0.log.room(id).map(|room| log::show(&room));
        Box::pin(std::future::ready(Ok(room)))
    }

    fn messages(&self, id: RoomId, limit: u32) -> Reading<Vec<ChatMessage>> {
        let Some(room) = self.0.log.room(id) else {
            return Box::pin(std::future::ready(Ok(Vec::new())));
        };
        let (sender, receiver) = oneshot::channel();
        self.0.log.history(
            &room,
            Range {
                before: None,
                after: None,
                limit,
            },
            answer(sender),
        );
        Box::pin(async move {
            let messages = receiver.await.unwrap_or(Err(StoreError::Unavailable));
            messages.map_err(|_| Unavailable)
        })
    }
}

/// Lets Leptos spawn on this runtime. To say it twice does no harm.
pub(crate) fn start() {
    if any_spawner::Executor::init_tokio().is_err() {
        tracing::debug!("Leptos has its executor already");
    }
}

/// Leptos's options: where the package is. Nothing is read from disk.
fn options() -> LeptosOptions {
    LeptosOptions::builder()
        .output_name("sarangbang")
        .site_pkg_dir(assets::package_dir())
        .build()
}

/// Which rooms a page is asked for; what is no part of them counts as nothing.
fn rooms_part(query: Option<&str>) -> RoomsPart {
    let mut part = RoomsPart::default();
    for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        match &*name {
            "after" => part.after = RoomId::parse(&value),
            "q" => part.name = api::parse_name(&value).ok().flatten(),
            _ => {}
        }
    }
    part
}

/// Renders a page, or the page that says there is none.
pub(crate) async fn page(
    State(state): State<AppState>,
    caller: Caller,
    request: Request<Body>,
) -> Response {
    let chosen = chosen_language(request.uri().query());
    let language = chosen.unwrap_or_else(|| language_of(request.headers()));
    let guest = state.guests.visit(request.headers(), caller.is_secure);
    let base = &state.config.base_path;
    let style_href = format!("{}/{}/sarangbang.css", base.prefix(), assets::package_dir());
    let (path, query) = (request.uri().path(), request.uri().query());
    let part = rooms_part(query);
    // The page of a room holds a part of its history; to search looks at all rooms.
    let turn = if path.starts_with("/chat/room/enter/") || part.name.is_some() {
        match state.answers.turn(&caller).await {
            Ok(turn) => Some(turn),
            Err(problem) => return problem.into_response(),
        }
    } else {
        None
    };
    let page = PageRequest {
        visit: Visit::read(language, path, part, &*state.source).await,
        style_href,
        base: base.prefix().to_owned(),
    };
    let context = move || provide_context(page.clone());
    let shell = || {
        let nonce = leptos::nonce::use_nonce()
            .map(|nonce| nonce.to_string())
            .unwrap_or_default();
        let policy = expect_context::<leptos_axum::ResponseOptions>();
        policy.insert_header(
            header::CONTENT_SECURITY_POLICY,
            content_security_policy(&nonce),
        );
        client::shell(options())
    };
    let render = leptos_axum::render_app_async_with_context(context, shell);
    let (head, body) = render(request).await.into_parts();
    // It is rendered as a whole: what it weighs is known from now on.
    let body = match to_bytes(body, usize::MAX).await {
        Ok(body) => body,
        Err(error) => {
            tracing::error!(%error, "a page could not be rendered");
            return api::failed().into_response();
        }
    };
    let mut response = Response::from_parts(head, Body::from(body));
    if let Some(turn) = turn {
        response.extensions_mut().insert(turn);
    }
    let is_unavailable = response.status() == StatusCode::SERVICE_UNAVAILABLE;
    let headers = response.headers_mut();
    if is_unavailable {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    // What rewrites pages on their way (hides e-mail addresses, say) breaks what hydrates them.
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("no-store, no-transform"),
    );
    headers.insert(
        header::CONTENT_LANGUAGE,
        HeaderValue::from_static(language.tag()),
    );
    headers.append(
        header::VARY,
        HeaderValue::from_static("accept-language, cookie"),
    );
    if guest.known.is_none() {
        let cookie = state.guests.cookie(guest.new, caller.is_secure);
        headers.append(header::SET_COOKIE, cookie);
    }
    if let Some(chosen) = chosen {
        let cookie = Cookie::build((LANGUAGE_COOKIE, chosen.tag()))
            .path(base.for_cookies())
            .same_site(SameSite::Lax)
            .secure(caller.is_secure)
            .permanent()
            .build();
        if let Ok(value) = HeaderValue::from_str(&cookie.to_string()) {
            headers.append(header::SET_COOKIE, value);
        }
    }
    response
}

/// What a page may load and run: our own files, and the scripts that carry the page's nonce.
fn content_security_policy(nonce: &str) -> HeaderValue {
    let policy = format!(
        "default-src 'none'; script-src 'self' 'nonce-{nonce}' 'wasm-unsafe-eval'; \
         style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; \
         base-uri 'none'; form-action 'self'; frame-ancestors 'self'"
    );
    HeaderValue::from_str(&policy).expect("a policy with a base64 nonce is a header value")
}

fn chosen_language(query: Option<&str>) -> Option<Language> {
    query?
        .split('&')
        .find_map(|pair| language_tag(pair.strip_prefix("lang=")?))
}

fn language_of(headers: &HeaderMap) -> Language {
    let jar = CookieJar::from_headers(headers);
    let remembered = jar
        .get(LANGUAGE_COOKIE)
        .and_then(|cookie| language_tag(cookie.value()));
    remembered.unwrap_or_else(|| {
        let accepted = headers
            .get(header::ACCEPT_LANGUAGE)
            .and_then(|value| value.to_str().ok());
        Language::from_accept_language(accepted.unwrap_or_default())
    })
}

fn language_tag(tag: &str) -> Option<Language> {
    [Language::Korean, Language::English]
        .into_iter()
        .find(|language| language.tag() == tag)
}
