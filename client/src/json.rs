//! Reads what the server says with the browser's own JSON parser: `serde_json` and all that it brings
//! would be a quarter of what a first visit loads.

use js_sys::{Array, Date, JSON, Reflect};
use shared::chat::{ChatMessage, ChatRoom, MessageId, MessageType, RoomId, RoomName, Sender};
use time::{Duration, OffsetDateTime};
use wasm_bindgen::{JsCast, JsValue};

use crate::{
    api::{Problem, RoomPage, RoomsPage, Unread},
    page::Contents,
};

/// A JSON value.
pub(crate) struct Json(JsValue);

/// What can be read from JSON; what it lacks, or what is out of bounds in it, makes `None`.
pub(crate) trait FromJson: Sized {
    fn from_json(json: &Json) -> Option<Self>;
}

/// Reads a text.
pub(crate) fn parse<T: FromJson>(text: &str) -> Option<T> {
    T::from_json(&Json(JSON::parse(text).ok()?))
}

/// Writes a text as JSON.
pub(crate) fn quote(text: &str) -> String {
    // Fails for values alone that have no JSON; a text has one.
    JSON::stringify(&text.into())
        .map(String::from)
        .unwrap_or_default()
}

impl Json {
    /// A field; `null` counts as missing.
    fn field(&self, name: &str) -> Option<Json> {
        let value = Reflect::get(&self.0, &name.into()).ok()?;
        (!value.is_null() && !value.is_undefined()).then_some(Json(value))
    }

    fn has(&self, name: &str) -> bool {
        Reflect::has(&self.0, &name.into()).unwrap_or(false)
    }

    pub(crate) fn text(&self, name: &str) -> Option<String> {
        self.field(name)?.0.as_string()
    }

    /// A whole number; numbers of JSON are exact up to 2⁵³.
    fn number(&self, name: &str) -> Option<u64> {
        let number = self.field(name)?.0.as_f64()?;
        (number >= 0.0).then_some(number as u64)
    }

    fn time(&self, name: &str) -> Option<OffsetDateTime> {
        let milliseconds = Date::parse(&self.text(name)?);
        let since = Duration::milliseconds(milliseconds as i64);
        (!milliseconds.is_nan()).then(|| OffsetDateTime::UNIX_EPOCH.saturating_add(since))
    }

    pub(crate) fn read<T: FromJson>(&self, name: &str) -> Option<T> {
        T::from_json(&self.field(name)?)
    }
}

impl<T: FromJson> FromJson for Vec<T> {
    fn from_json(json: &Json) -> Option<Self> {
        let array = json.0.dyn_ref::<Array>()?;
        array.iter().map(|item| T::from_json(&Json(item))).collect()
    }
}

impl FromJson for ChatRoom {
    fn from_json(json: &Json) -> Option<Self> {
        Some(ChatRoom {
            room_id: RoomId::parse(&json.text("roomId")?)?,
            room_name: RoomName::stored(&json.text("roomName")?),
            created_at: json.time("createdAt")?,
            message_count: json.number("messageCount").unwrap_or(0),
            participant_count: json.number("participantCount").unwrap_or(0),
            last_message_at: json.time("lastMessageAt"),
        })
    }
}

impl FromJson for ChatMessage {
    fn from_json(json: &Json) -> Option<Self> {
        Some(ChatMessage {
            kind: match json.text("type")?.as_str() {
                "ENTER" => MessageType::Enter,
                "TALK" => MessageType::Talk,
                "LEAVE" => MessageType::Leave,
                _ => return None,
            },
            room_id: RoomId::parse(&json.text("roomId")?)?,
            sender: Sender::stored(&json.text("sender")?),
            message: json.text("message")?,
            id: MessageId::parse(&json.text("id")?)?,
            seq: json.number("seq")?,
            sent_at: json.time("sentAt")?,
        })
    }
}

impl FromJson for Problem {
    fn from_json(json: &Json) -> Option<Self> {
        let status = json.number("status").unwrap_or(0);
        Some(Problem {
            status: u16::try_from(status).unwrap_or(0),
            detail: json.text("detail"),
            receipt_id: json.text("receiptId"),
            id: json.text("id"),
        })
    }
}

impl FromJson for RoomsPage {
    fn from_json(json: &Json) -> Option<Self> {
        Some(RoomsPage {
            rooms: json.read("rooms")?,
            older: json.text("older"),
            is_part: json.field("isPart")?.0.is_truthy(),
            name: json.text("name"),
            read_at: json.time("readAt")?,
        })
    }
}

impl FromJson for RoomPage {
    fn from_json(json: &Json) -> Option<Self> {
        Some(RoomPage {
            room: json.read("room")?,
            messages: json.read("messages")?,
        })
    }
}

impl FromJson for Contents {
    fn from_json(json: &Json) -> Option<Self> {
        let room = json.field("room")?;
        Some(Contents {
            rooms: json.field("rooms")?.read("Ok").ok_or(Unread),
            room: if room.has("Ok") {
                Ok(room.read("Ok"))
            } else {
                Err(Unread)
            },
        })
    }
}
