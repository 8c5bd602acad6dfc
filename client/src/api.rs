//! What the browser reads and asks for over the public JSON API.

use std::time::Duration;

use gloo_net::http::{Request, Response};
use leptos::prelude::set_timeout_with_handle;
use serde::Serialize;
use shared::chat::{ChatMessage, ChatRoom, RoomId, RoomName};
use time::OffsetDateTime;
use web_sys::AbortController;

use crate::{
    browser::now,
    json::{self, FromJson},
    place::at,
    timeline::{End, Gap},
};

/// How many messages a room shows at first.
pub(crate) const MESSAGES_SHOWN: u32 = 50;

/// The most messages that are read at once: the server's own limit.
pub(crate) const MESSAGES_MAX: usize = 200;

/// How many rooms a page carries: those with the newest activity.
pub(crate) const ROOMS_SHOWN: usize = 50;

/// The list of rooms, and the moment it was read: days are told from that, alike on both sides.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RoomsPage {
    pub(crate) rooms: Vec<ChatRoom>,
    /// The path and query of those that follow, if there are any.
    pub(crate) older: Option<String>,
    /// Whether it is not of all rooms, so that new ones do not belong to it.
    pub(crate) is_part: bool,
    /// What their names hold, where they were searched for.
    pub(crate) name: Option<String>,
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) read_at: OffsetDateTime,
}

/// A room with its newest messages, oldest first.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct RoomPage {
    pub(crate) room: ChatRoom,
    pub(crate) messages: Vec<ChatMessage>,
}

/// What cannot be read right now.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub(crate) struct Unread;

/// A refusal, as `application/problem+json` tells it (RFC 9457); status 0 means that nothing
/// answered.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Problem {
    pub(crate) status: u16,
    pub(crate) detail: Option<String>,
    pub(crate) receipt_id: Option<String>,
    pub(crate) id: Option<String>,
}

/// Reads the rooms with the newest activity: `GET /chat/rooms`.
pub(crate) async fn rooms() -> Result<Vec<ChatRoom>, Unread> {
    let path = format!("/chat/rooms?sort=activity&limit={ROOMS_SHOWN}");
    read(&path, TRIES).await?.ok_or(Unread)
}

/// Reads a room and its newest messages; `None` where there is no such room.
pub(crate) async fn room(id: RoomId) -> Result<Option<RoomPage>, Unread> {
    let path = format!("/chat/room/{id}");
    let Some(room) = read(&path, TRIES).await? else {
        return Ok(None);
    };
    let messages = read(&format!("{path}/messages?limit={MESSAGES_SHOWN}"), TRIES).await?;
    let messages = messages.unwrap_or_default();
    Ok(Some(RoomPage { room, messages }))
}

/// Reads what was said in a room before the message `seq`, oldest first.
pub(crate) async fn messages_before(id: RoomId, seq: u64) -> Result<Vec<ChatMessage>, Unread> {
    let path = format!("/chat/room/{id}/messages?before={seq}&limit={MESSAGES_SHOWN}");
    read(&path, TRIES).await?.ok_or(Unread)
}

/// Reads what was said in a room after the message `seq`; `None` where there is no such room. Where it is
/// much, these are the ones that follow, and the newest: the second list is not empty then. It is not waited
/// for longer than is needed to subscribe in time.
pub(crate) async fn messages_since(
    id: RoomId,
    seq: u64,
) -> Result<Option<[Vec<ChatMessage>; 2]>, Unread> {
    let path = format!("/chat/room/{id}/messages?limit=");
    let following = format!("{path}{MESSAGES_MAX}&after={seq}");
    let Some(following): Option<Vec<_>> = read(&following, 1).await? else {
        return Ok(None);
    };
    if following.len() < MESSAGES_MAX {
        return Ok(Some([following, Vec::new()]));
    }
    let newest = read(&format!("{path}{MESSAGES_SHOWN}"), TRIES).await?;
    Ok(newest.map(|newest| [following, newest]))
}

/// Reads what is missing in a gap, from one of its ends, oldest first: at most [`MESSAGES_MAX`].
pub(crate) async fn messages_in(
    id: RoomId,
    gap: Gap,
    end: End,
) -> Result<Vec<ChatMessage>, Unread> {
    let Gap { after, before } = gap;
    let mut path = format!("/chat/room/{id}/messages?limit={MESSAGES_MAX}&before={before}");
    if end == End::Oldest {
        path.push_str(&format!("&after={after}"));
    }
    read(&path, TRIES).await?.ok_or(Unread)
}

async fn read<T: FromJson>(path: &str, tries: u8) -> Result<Option<T>, Unread> {
    let response = ask(path, tries).await.ok_or(Unread)?;
    match response.status() {
        200 => body_of(&response).await.map(Some).ok_or(Unread),
        404 => Ok(None),
        _ => Err(Unread),
    }
}

/// Asks anew, on another connection, where nothing answers in time: the browser may have asked on one
/// that was open before the network changed.
async fn ask(path: &str, tries: u8) -> Option<Response> {
    let mut within_ms = TRY_WITHIN_MS;
    for _ in 1..tries {
        let begun = now();
        let response = fetch(path, None, within_ms).await;
        if response.is_some() || now() < begun + Duration::from_millis(within_ms.into()) {
            return response;
        }
        within_ms *= 2;
    }
    fetch(path, None, within_ms).await
}

async fn body_of<T: FromJson>(response: &Response) -> Option<T> {
    json::parse(&response.text().await.ok()?)
}

/// Makes a room: `POST /chat/room`.
///
/// # Errors
/// The server's refusal, or status 0 where it cannot be reached.
pub(crate) async fn create_room(name: &RoomName) -> Result<ChatRoom, Problem> {
    let body = format!("{{\"roomName\":{}}}", json::quote(name.as_str()));
    let response = fetch("/chat/room", Some(body), SEND_WITHIN_MS).await;
    let response = response.ok_or_else(Problem::default)?;
    if response.ok() {
        return body_of(&response).await.ok_or_else(Problem::default);
    }
    let problem = body_of(&response).await.unwrap_or_default();
    Err(Problem {
        status: response.status(),
        ..problem
    })
}

/// How long the first try may take, and how many there are; each next may take twice as long.
const TRY_WITHIN_MS: u32 = 1_200;
const TRIES: u8 = 5;

/// How long a room may take to be made.
const SEND_WITHIN_MS: u32 = 20_000;

/// Asks the server, with a POST where there is JSON to send; None where nothing answers, or not in time.
async fn fetch(path: &str, json: Option<String>, within_ms: u32) -> Option<Response> {
    let address = at(path);
    let abort = AbortController::new().ok()?;
    let signal = abort.signal();
    let within = Duration::from_millis(within_ms.into());
    let timer = set_timeout_with_handle(move || abort.abort(), within);
    let request = match json {
        None => Request::get(&address).abort_signal(Some(&signal)).build(),
        Some(json) => Request::post(&address)
            .abort_signal(Some(&signal))
            .header("content-type", "application/json")
            .body(json),
    };
    let response = request.ok()?.send().await.ok();
    if let Ok(timer) = timer {
        timer.clear();
    }
    response
}
