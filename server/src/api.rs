//! The room API (contract, section 1).

use std::convert::Infallible;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, Request, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use shared::chat::{ChatMessage, ChatRoom, RoomId, RoomName};
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::answers::{self, SMALL};
use crate::app::AppState;
use crate::body;
use crate::chat::Chat;
use crate::log::{self, Answer, Log, Range, StoreError};
use crate::metrics;
use crate::origin::Caller;
use crate::problem::Problem;

/// The most bytes in a JSON body.
const BODY_BYTES_MAX: usize = 16 << 10;

/// Messages, or rooms of a part, given when no `limit` is.
const LIMIT_DEFAULT: u32 = 50;

/// The most messages given, and rooms of a part.
const LIMIT_MAX: u32 = 200;

#[derive(Deserialize)]
#[serde(
    rename_all = "camelCase",
    expecting = "an object such as {\"roomName\":\"…\"}"
)]
struct NewRoom {
    room_name: Option<String>,
}

/// `POST /chat/room`
pub(crate) async fn create_room(
    State(state): State<AppState>,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    let new: NewRoom = json(request).await?;
    let name = new
        .room_name
        .ok_or_else(|| unprocessable("`roomName` is missing; send {\"roomName\":\"…\"}"))?;
    let name =
        RoomName::parse(&name).map_err(|reason| unprocessable(format!("`roomName` {reason}")))?;
    check_rate(&state, &caller)?;
    let room = state.chat.create_room(name).await?;
    let base = state.config.base_path.prefix();
    let location = format!("{base}/chat/room/{}", room.id);
    Ok(([(header::LOCATION, location)], Json(log::show(&room))).into_response())
}

/// `GET /chat/rooms?after=&limit=&q=&sort=`: all of them where nothing is asked, else a part.
pub(crate) async fn rooms(
    State(state): State<AppState>,
    caller: Caller,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let query = query.unwrap_or_default();
    let Some(part) = parse_part(&query)? else {
        let rooms = state.chat.log.rooms();
        if rooms.len() <= PIECE_ROOMS {
            return Ok(all(rooms));
        }
        return answers::off_thread(|| all(rooms)).await.ok_or_else(failed);
    };
    let after = part.after.map(|id| {
        let unknown = || unprocessable("`after` must be the `roomId` of a room");
        let room = RoomId::parse(&id).and_then(|id| state.chat.log.room(id));
        room.ok_or_else(unknown)
    });
    let after = after.transpose()?;
    let limit = part.limit as usize;
    let read = match part.by_activity {
        true => Log::rooms_by_activity,
        false => Log::rooms_by_creation,
    };
    let rooms = match part.name {
        None => read(&*state.chat.log, after.as_deref(), limit),
        Some(name) => {
            let turn = state.answers.turn(&caller).await?;
            let log = Arc::clone(&state.chat.log);
            let found = answers::off_thread(move || {
                let rooms = read(&*log, after.as_deref(), usize::MAX);
                let found = Chat::with_name(rooms, &name, limit);
                // Not before: it is the search that costs.
                drop(turn);
                found
            });
            found.await.ok_or_else(failed)?
        }
    };
    let rooms: Vec<ChatRoom> = rooms.iter().map(|room| log::show(room)).collect();
    Ok(tagged(&rooms))
}

/// All rooms, by a tag of what of them changes.
fn all(rooms: Vec<Arc<log::Room>>) -> Response {
    let mut hasher = DefaultHasher::new();
    for room in &rooms {
        // What of a room never changes goes with its id.
        let room = log::show(room);
        let figures = (room.message_count, room.participant_count);
        (room.room_id, figures, room.last_message_at).hash(&mut hasher);
    }
    let body = if rooms.len() <= PIECE_ROOMS {
        let rooms: Vec<ChatRoom> = rooms.iter().map(|room| log::show(room)).collect();
        Body::from(serde_json::to_vec(&rooms).expect("a ChatRoom is valid JSON"))
    } else {
        stream(rooms)
    };
    (tags(&hasher), body).into_response()
}

/// Rooms that one piece of a streamed list holds.
const PIECE_ROOMS: usize = 256;

/// A JSON array of rooms, written as it is taken: there may be very many.
fn stream(rooms: Vec<Arc<log::Room>>) -> Body {
    let pieces = (0..rooms.len()).step_by(PIECE_ROOMS).map(move |start| {
        let mut piece = Vec::new();
        for (index, room) in rooms.iter().enumerate().skip(start).take(PIECE_ROOMS) {
            piece.extend((index > 0).then_some(b','));
            serde_json::to_writer(&mut piece, &log::show(room)).expect("a ChatRoom is valid JSON");
        }
        Bytes::from(piece)
    });
    let begin = std::iter::once(Bytes::from_static(b"["));
    let end = std::iter::once(Bytes::from_static(b"]"));
    let pieces = begin.chain(pieces).chain(end).map(Ok::<_, Infallible>);
    Body::from_stream(futures_util::stream::iter(pieces))
}

/// `GET /chat/room/{roomId}`
pub(crate) async fn room(
    State(state): State<AppState>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    #[derive(Serialize)]
    struct Shown {
        #[serde(flatten)]
        room: ChatRoom,
        epoch: Uuid,
    }
    let room = log::show(&*find(&state, id)?);
    let epoch = state.chat.log.epoch();
    Ok(tagged(&Shown { room, epoch }))
}

/// `GET /chat/room/{roomId}/participants`
pub(crate) async fn participants(
    State(state): State<AppState>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let room = find(&state, id)?;
    Ok(tagged(&state.chat.feeds.participants.of(room.id)))
}

/// `GET /chat/room/{roomId}/messages?before=&after=&limit=`
pub(crate) async fn messages(
    State(state): State<AppState>,
    caller: Caller,
    id: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let room = find(&state, id)?;
    let range = parse_range(query.as_deref().unwrap_or_default())?;
    let turn = state.answers.turn(&caller).await?;
    let (sender, receiver) = oneshot::channel();
    // Its turn lasts as long as the reading, also where nobody waits for it any more.
    let reading = turn.clone();
    let done = Answer::new(move |messages| {
        drop(sender.send(messages));
        drop(reading);
    });
    state.chat.log.history(&room, range, done);
    let messages: Vec<ChatMessage> = receiver.await.unwrap_or(Err(StoreError::Unavailable))?;
    let text: usize = messages.iter().map(|message| message.message.len()).sum();
    let mut response = if text <= SMALL {
        tagged(&messages)
    } else {
        let making = turn.clone();
        let made = answers::off_thread(move || {
            let made = tagged(&messages);
            drop(making);
            made
        });
        made.await.ok_or_else(failed)?
    };
    response.extensions_mut().insert(turn);
    Ok(response)
}

/// Of what panicked on another thread; the hook of the program has logged why.
pub(crate) fn failed() -> Problem {
    let detail = "the server failed over this request; its log says why";
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail)
}

/// `GET /healthz`: the process lives.
pub(crate) async fn healthz() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: the store answers and the server is not draining.
pub(crate) async fn readyz(State(state): State<AppState>) -> Result<&'static str, Problem> {
    if state.hub.is_draining() {
        let detail = "the server is going down";
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(5));
    }
    if !state.chat.log.is_healthy() {
        // Nobody may be sending: the store is tried again for the next who asks.
        state.chat.log.probe();
        return Err(StoreError::Unavailable.into());
    }
    Ok("ready\n")
}

/// `GET /metrics`: figures in the text format of Prometheus, 0.0.4.
pub(crate) async fn metrics(State(state): State<AppState>) -> Response {
    let now = metrics::State {
        connections: state.connections.held(),
        is_ready: !state.hub.is_draining() && state.chat.log.is_healthy(),
        log: state.chat.log.load(),
    };
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, metrics::render(&now)).into_response()
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string()).retry_after(1)
    }
}

/// An answer that a client may keep and ask again for by its tag, which is weak: the answer may go out
/// compressed.
fn tagged(value: &impl Serialize) -> Response {
    let json = serde_json::to_vec(value).expect("what the API shows is valid JSON");
    let mut hasher = DefaultHasher::new();
    hasher.write(&json);
    (tags(&hasher), json).into_response()
}

/// The headers of JSON with this hash.
fn tags(hasher: &DefaultHasher) -> [(HeaderName, String); 3] {
    [
        (header::CONTENT_TYPE, "application/json".to_owned()),
        (header::CACHE_CONTROL, "no-cache".to_owned()),
        (header::ETAG, format!("W/\"{:016x}\"", hasher.finish())),
    ]
}

fn unprocessable(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
}

/// Finds the room of a path; what cannot be decoded names none.
fn find(
    state: &AppState,
    id: Result<Path<String>, PathRejection>,
) -> Result<Arc<log::Room>, Problem> {
    id.ok()
        .and_then(|Path(id)| RoomId::parse(&id))
        .and_then(|id| state.chat.log.room(id))
        .ok_or_else(|| {
            Problem::new(
                StatusCode::NOT_FOUND,
                "there is no such room; GET /chat/rooms lists them",
            )
        })
}

fn check_rate(state: &AppState, caller: &Caller) -> Result<(), Problem> {
    let Some(rate) = &state.room_rate else {
        return Ok(());
    };
    rate.check_key(&caller.address).map_err(|wait| {
        use governor::clock::Clock as _;
        let wait = wait.wait_time_from(governor::clock::DefaultClock::default().now());
        let detail = "this address has made too many rooms; wait a little";
        Problem::new(StatusCode::TOO_MANY_REQUESTS, detail).retry_after(wait.as_secs() + 1)
    })
}

async fn json<T: DeserializeOwned>(request: Request<Body>) -> Result<T, Problem> {
    if !is_json(request.headers()) {
        let detail = "send the body as `content-type: application/json`";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
    }
    let body = body::read(request, BODY_BYTES_MAX).await?;
    shared::json::read(&body).map_err(|error| {
        let detail = format!("the body is not the JSON expected here: {error}");
        if error.is_data() {
            return unprocessable(detail);
        }
        Problem::new(StatusCode::BAD_REQUEST, detail)
    })
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
    else {
        return false;
    };
    let essence = value
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    essence == "application/json"
        || (essence.starts_with("application/") && essence.ends_with("+json"))
}

/// Which rooms are asked for.
struct Part {
    after: Option<String>,
    limit: u32,
    /// A part of their names.
    name: Option<String>,
    by_activity: bool,
}

fn parse_part(query: &str) -> Result<Option<Part>, Problem> {
    let mut part = Part {
        after: None,
        limit: LIMIT_DEFAULT,
        name: None,
        by_activity: false,
    };
    let mut is_asked = false;
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let value = &*value;
        match &*name {
            "after" if !value.is_empty() => part.after = Some(value.to_owned()),
            "limit" if !value.is_empty() => part.limit = parse_limit(value)?,
            "q" if !value.is_empty() => part.name = parse_name(value)?,
            "sort" if value == "activity" => part.by_activity = true,
            "sort" if value == "created" => {}
            "sort" if !value.is_empty() => {
                return Err(unprocessable("`sort` must be `created` or `activity`"));
            }
            _ => continue,
        }
        is_asked = true;
    }
    Ok(is_asked.then_some(part))
}

/// A part of a name; none where it is blank, as all names hold it.
pub(crate) fn parse_name(value: &str) -> Result<Option<String>, Problem> {
    let name = value.trim();
    if name.chars().count() > RoomName::CHARS_MAX {
        let max = RoomName::CHARS_MAX;
        return Err(unprocessable(format!("`q` may have {max} characters")));
    }
    Ok(Some(name.to_owned()).filter(|name| !name.is_empty()))
}

fn parse_limit(value: &str) -> Result<u32, Problem> {
    let limit = value.parse().ok();
    limit
        .filter(|limit| (1..=LIMIT_MAX).contains(limit))
        .ok_or_else(|| unprocessable(format!("`limit` must be 1 to {LIMIT_MAX}")))
}

fn parse_range(query: &str) -> Result<Range, Problem> {
    let mut range = Range {
        before: None,
        after: None,
        limit: LIMIT_DEFAULT,
    };
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let integer = || {
            value.parse::<u64>().map_err(|_| {
                unprocessable(format!(
                    "`{name}` must be an integer of 0 or more, not `{value}`"
                ))
            })
        };
        match name {
            "before" if !value.is_empty() => range.before = Some(integer()?),
            "after" if !value.is_empty() => range.after = Some(integer()?),
            "limit" if !value.is_empty() => range.limit = parse_limit(value)?,
            _ => {}
        }
    }
    Ok(range)
}
