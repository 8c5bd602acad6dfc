//! What the pages read and ask for: from the server's own hands while it renders, over the public
//! JSON API in the browser.

use serde::{Deserialize, Serialize};
use shared::chat::{ChatMessage, ChatRoom, RoomId, RoomName};
use time::OffsetDateTime;

/// How many messages a room shows at first.
pub(crate) const MESSAGES_SHOWN: u32 = 50;

/// The list of rooms, and the moment it was read: days are told from that, alike on both sides.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RoomsPage {
    pub(crate) rooms: Vec<ChatRoom>,
    #[serde(with = "time::serde::timestamp")]
    pub(crate) read_at: OffsetDateTime,
}

/// A room with its newest messages, oldest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RoomPage {
    pub(crate) room: ChatRoom,
    pub(crate) messages: Vec<ChatMessage>,
}

/// What cannot be read right now.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub(crate) struct Unread;

/// A refusal, as `application/problem+json` tells it (RFC 9457); status 0 means that nothing
/// answered.
#[derive(Clone, Debug, Default, Eq, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Problem {
    pub(crate) status: u16,
    pub(crate) detail: Option<String>,
    pub(crate) receipt_id: Option<String>,
    pub(crate) id: Option<String>,
}

#[cfg(feature = "ssr")]
pub(crate) use rendering::{room, rooms};

#[cfg(feature = "ssr")]
mod rendering {
    use std::sync::Arc;

    use leptos::prelude::use_context;

    use super::{MESSAGES_SHOWN, RoomId, RoomPage, RoomsPage, Unread};
    use crate::ssr::Source;

    // The source is taken when called: a context belongs to the page, not to the future.

    pub(crate) fn rooms() -> impl Future<Output = Result<RoomsPage, Unread>> + Send {
        let source = use_context::<Arc<dyn Source>>().ok_or(Unread);
        async move {
            let rooms = source?.rooms().await.map_err(|_| Unread)?;
            Ok(RoomsPage {
                rooms,
                read_at: crate::time::now(),
            })
        }
    }

    pub(crate) fn room(
        id: Option<RoomId>,
    ) -> impl Future<Output = Result<Option<RoomPage>, Unread>> + Send {
        let source = use_context::<Arc<dyn Source>>().ok_or(Unread);
        async move {
            let Some(id) = id else { return Ok(None) };
            let source = source?;
            let Some(room) = source.room(id).await.map_err(|_| Unread)? else {
                return Ok(None);
            };
            let messages = source
                .messages(id, MESSAGES_SHOWN)
                .await
                .map_err(|_| Unread)?;
            Ok(Some(RoomPage { room, messages }))
        }
    }
}

#[cfg(not(feature = "ssr"))]
pub(crate) use browsing::{room, rooms};

#[cfg(not(feature = "ssr"))]
mod browsing {
    use gloo_net::http::Request;
    use send_wrapper::SendWrapper;
    use serde::de::DeserializeOwned;

    use super::{MESSAGES_SHOWN, RoomId, RoomPage, RoomsPage, Unread};

    pub(crate) async fn rooms() -> Result<RoomsPage, Unread> {
        let rooms = SendWrapper::new(read("/chat/rooms".to_owned()))
            .await?
            .ok_or(Unread)?;
        Ok(RoomsPage {
            rooms,
            read_at: crate::time::now(),
        })
    }

    pub(crate) async fn room(id: Option<RoomId>) -> Result<Option<RoomPage>, Unread> {
        let Some(id) = id else { return Ok(None) };
        SendWrapper::new(async move {
            let Some(room) = read(format!("/chat/room/{id}")).await? else {
                return Ok(None);
            };
            let messages = read(format!("/chat/room/{id}/messages?limit={MESSAGES_SHOWN}"))
                .await?
                .unwrap_or_default();
            Ok(Some(RoomPage { room, messages }))
        })
        .await
    }

    async fn read<T: DeserializeOwned>(path: String) -> Result<Option<T>, Unread> {
        let response = Request::get(&path).send().await.map_err(|_| Unread)?;
        match response.status() {
            200 => response.json().await.map(Some).map_err(|_| Unread),
            404 => Ok(None),
            _ => Err(Unread),
        }
    }
}

/// Makes a room: `POST /chat/room`.
///
/// # Errors
/// The server's refusal, or status 0 where it cannot be reached.
pub(crate) async fn create_room(name: &RoomName) -> Result<ChatRoom, Problem> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct NewRoom<'a> {
        room_name: &'a str,
    }
    let unreachable = |_| Problem::default();
    let response = gloo_net::http::Request::post("/chat/room")
        .json(&NewRoom {
            room_name: name.as_str(),
        })
        .map_err(unreachable)?
        .send()
        .await
        .map_err(unreachable)?;
    if response.ok() {
        return response.json().await.map_err(unreachable);
    }
    let problem = response.json::<Problem>().await.unwrap_or_default();
    Err(Problem {
        status: response.status(),
        ..problem
    })
}
