//! Rooms, messages and the values they are made of, valid by construction.
//!
//! A [`Sender`], a [`RoomName`] or a [`Text`] that exists has passed the limits of the contract;
//! strings become these types at the edge and stay so. Who may send what, and when, is not here:
//! see the server's `chat`.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, de};
use thiserror::Error;
use time::OffsetDateTime;
use uuid::Uuid;

/// A chat room as the API and `/topic/chat/rooms` show it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChatRoom {
    /// The room's identity.
    pub room_id: RoomId,
    /// Its name, as its maker typed it, trimmed. Names may repeat.
    pub room_name: RoomName,
    /// When it was made, by the server's clock.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// How many TALK messages it holds.
    #[serde(default)]
    pub message_count: u64,
    /// How many people are present.
    #[serde(default)]
    pub participant_count: u64,
    /// When the newest TALK was stored; `None` before the first.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub last_message_at: Option<OffsetDateTime>,
}

/// A stored message of a room: what subscribers receive and the history holds.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChatMessage {
    /// What it says: somebody entered, talked or left.
    #[serde(rename = "type")]
    pub kind: MessageType,
    /// The room it belongs to.
    pub room_id: RoomId,
    /// Who sent it.
    pub sender: Sender,
    /// The text; of ENTER and LEAVE it is the server's notice.
    pub message: String,
    /// Its identity: the sender's choice, or the server's.
    pub id: MessageId,
    /// Its place in the room, from 1, without gaps.
    pub seq: u64,
    /// When it was stored, by the server's clock, in UTC, to the millisecond.
    #[serde(with = "time::serde::rfc3339")]
    pub sent_at: OffsetDateTime,
}

/// The three kinds of [`ChatMessage`].
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum MessageType {
    /// Somebody came into the room.
    Enter,
    /// Somebody said something.
    Talk,
    /// Somebody went out of the room.
    Leave,
}

/// A message as a client sends it, before anything in it is believed.
///
/// `seq`, `sentAt` and unknown fields are passed over; `null` counts as missing.
/// [`Draft::parse`] turns it into a [`NewMessage`].
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "a message, which is an object")]
pub struct Draft {
    /// `"ENTER"`, `"TALK"` or `"LEAVE"`.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The room's id; may be missing where the destination names the room.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room_id: Option<String>,
    /// The sender's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sender: Option<String>,
    /// The text; not needed for ENTER and LEAVE.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The sender's own choice of id, a UUID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

/// A [`Draft`] that has passed every check that needs no knowledge of the room.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NewMessage {
    /// The room it is for.
    pub room_id: RoomId,
    /// Who sends it.
    pub sender: Sender,
    /// What it says.
    pub body: NewBody,
    /// The id that the sender chose, if any.
    pub id: Option<MessageId>,
}

/// What a [`NewMessage`] says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum NewBody {
    /// The sender enters.
    Enter,
    /// The sender talks.
    Talk(Text),
    /// The sender leaves.
    Leave,
}

impl NewMessage {
    /// How many bytes its texts have.
    pub fn weight(&self) -> usize {
        let text = if let NewBody::Talk(text) = &self.body {
            text.0.len()
        } else {
            0
        };
        self.sender.0.len() + text
    }
}

impl NewBody {
    /// The kind of message that this becomes.
    pub fn kind(&self) -> MessageType {
        match self {
            NewBody::Enter => MessageType::Enter,
            NewBody::Talk(_) => MessageType::Talk,
            NewBody::Leave => MessageType::Leave,
        }
    }

    /// The text that is stored: the sender's, or the server's notice (contract, section 3).
    pub fn into_message(self, sender: &Sender) -> String {
        match self {
            NewBody::Enter => format!("{sender}님이 입장하였습니다."),
            NewBody::Talk(text) => text.0,
            NewBody::Leave => format!("{sender}님이 퇴장하였습니다."),
        }
    }
}

impl Draft {
    /// Reads who says that they are typing, and where.
    ///
    /// # Errors
    /// [`InvalidDraft`] names the first field that is wrong and how to mend it.
    pub fn typing(self) -> Result<(RoomId, Sender), InvalidDraft> {
        Ok((self.room(None)?, self.sender()?))
    }

    /// Checks every field. `room` is the room that the destination names, where it names one.
    ///
    /// # Errors
    /// [`InvalidDraft`] names the first field that is wrong and how to mend it.
    pub fn parse(self, room: Option<RoomId>) -> Result<NewMessage, InvalidDraft> {
        let kind = match self.kind.as_deref() {
            Some("ENTER") => MessageType::Enter,
            Some("TALK") => MessageType::Talk,
            Some("LEAVE") => MessageType::Leave,
            Some(_) => return Err(InvalidDraft::Type),
            None => return Err(InvalidDraft::Missing("type")),
        };
        let room_id = self.room(room)?;
        let sender = self.sender()?;
        let body = match kind {
            MessageType::Enter => NewBody::Enter,
            MessageType::Leave => NewBody::Leave,
            MessageType::Talk => {
                let text = self.message.ok_or(InvalidDraft::Missing("message"))?;
                NewBody::Talk(Text::parse(&text).map_err(|reason| InvalidDraft::Value {
                    field: "message",
                    reason,
                })?)
            }
        };
        let id = match self.id {
            None => None,
            Some(id) => Some(MessageId::parse(&id).ok_or(InvalidDraft::Id)?),
        };
        Ok(NewMessage {
            room_id,
            sender,
            body,
            id,
        })
    }

    fn room(&self, given: Option<RoomId>) -> Result<RoomId, InvalidDraft> {
        match (&self.room_id, given) {
            (Some(named), given) => {
                let named = RoomId::parse(named).ok_or(InvalidDraft::NoSuchRoom)?;
                if given.is_some_and(|given| given != named) {
                    return Err(InvalidDraft::RoomDiffers);
                }
                Ok(named)
            }
            (None, Some(given)) => Ok(given),
            (None, None) => Err(InvalidDraft::Missing("roomId")),
        }
    }

    fn sender(&self) -> Result<Sender, InvalidDraft> {
        let sender = self.sender.as_deref();
        let sender = sender.ok_or(InvalidDraft::Missing("sender"))?;
        Sender::parse(sender).map_err(|reason| InvalidDraft::Value {
            field: "sender",
            reason,
        })
    }
}

/// Why a [`Draft`] is no message.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum InvalidDraft {
    /// A field that must be there is not.
    #[error("`{0}` is missing")]
    Missing(&'static str),
    /// `type` is none of the three.
    #[error("`type` must be ENTER, TALK or LEAVE")]
    Type,
    /// `roomId` is no UUID, so there is no such room.
    #[error("there is no such room")]
    NoSuchRoom,
    /// `roomId` names another room than the destination.
    #[error("`roomId` names another room than the destination does")]
    RoomDiffers,
    /// `id` is no UUID.
    #[error("`id` must be a UUID")]
    Id,
    /// A text is out of bounds.
    #[error("`{field}` {reason}")]
    Value {
        /// The JSON field.
        field: &'static str,
        /// What is wrong with it.
        reason: InvalidText,
    },
}

/// Why a string is no [`Sender`], [`RoomName`] or [`Text`].
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum InvalidText {
    /// Nothing visible is in it.
    #[error("is blank: it needs at least one visible character")]
    Blank,
    /// It has too many characters after trimming.
    #[error("has {count} characters; at most {max} are allowed")]
    TooLong {
        /// How many Unicode scalar values it has.
        count: usize,
        /// How many it may have.
        max: usize,
    },
    /// It holds a control character (category Cc).
    #[error("holds a control character (U+{0:04X}); take it out")]
    Control(u32),
}

macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident, $max:expr, $allowed:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// The most Unicode scalar values it may have, after trimming.
            pub const CHARS_MAX: usize = $max;

            /// Trims and checks.
            ///
            /// # Errors
            /// [`InvalidText`] when it is blank, too long or holds a control character.
            pub fn parse(text: &str) -> Result<Self, InvalidText> {
                check(text, Self::CHARS_MAX, $allowed).map(|text| $name(text.to_owned()))
            }

            /// Takes what is stored, by a server of other rules perhaps: what [`Self::parse`] would
            /// not take gets U+FFFD in place of each control character and of nothing visible, and its
            /// end cut off.
            pub fn stored(text: &str) -> Self {
                Self::parse(text).unwrap_or_else(|_| $name(repair(text, Self::CHARS_MAX, $allowed)))
            }

            /// The trimmed text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::parse(&text).map_err(de::Error::custom)
            }
        }
    };
}

text_type!(
    /// A person's name: 1 to 40 characters, trimmed, no control characters.
    Sender, 40, |_| false
);
text_type!(
    /// A room's name: 1 to 100 characters, trimmed, no control characters.
    RoomName, 100, |_| false
);
text_type!(
    /// What somebody says: 1 to 4,000 characters, trimmed; line breaks and tabs are allowed.
    Text, 4_000, |c| matches!(c, '\n' | '\r' | '\t')
);

fn check(text: &str, chars_max: usize, allowed: fn(char) -> bool) -> Result<&str, InvalidText> {
    let text = text.trim();
    if text.chars().all(is_invisible) {
        return Err(InvalidText::Blank);
    }
    if let Some(control) = text.chars().find(|&c| c.is_control() && !allowed(c)) {
        return Err(InvalidText::Control(control.into()));
    }
    let count = text.chars().count();
    if count > chars_max {
        return Err(InvalidText::TooLong {
            count,
            max: chars_max,
        });
    }
    Ok(text)
}

fn repair(text: &str, chars_max: usize, allowed: fn(char) -> bool) -> String {
    const STAND_IN: char = char::REPLACEMENT_CHARACTER;
    let is_shown = |c: char| !c.is_control() || allowed(c);
    let shown = text
        .trim()
        .chars()
        .map(|c| if is_shown(c) { c } else { STAND_IN });
    let kept: String = shown.take(chars_max).collect();
    match kept.trim() {
        kept if kept.chars().all(is_invisible) => STAND_IN.to_string(),
        kept => kept.to_owned(),
    }
}

/// Whether a character shows nothing by itself: white space, a format character (category Cf), one that
/// is ignorable by default, or a blank. A value of these alone is blank, and names are compared without
/// them.
pub fn is_invisible(c: char) -> bool {
    let is_listed = |&(first, last): &(char, char)| (first..=last).contains(&c);
    c.is_whitespace() || INVISIBLE.iter().any(is_listed)
}

/// What is invisible and no white space, as ranges (Unicode 17.0): `General_Category` Cf,
/// `Default_Ignorable_Code_Point`, and what has an empty glyph: the null notehead, the pattern of Braille
/// with no dots, and the blanks of Khitan and of Egyptian hieroglyphs.
const INVISIBLE: [(char, char); 28] = [
    ('\u{00AD}', '\u{00AD}'),
    ('\u{034F}', '\u{034F}'),
    ('\u{0600}', '\u{0605}'),
    ('\u{061C}', '\u{061C}'),
    ('\u{06DD}', '\u{06DD}'),
    ('\u{070F}', '\u{070F}'),
    ('\u{0890}', '\u{0891}'),
    ('\u{08E2}', '\u{08E2}'),
    ('\u{115F}', '\u{1160}'),
    ('\u{17B4}', '\u{17B5}'),
    ('\u{180B}', '\u{180F}'),
    ('\u{200B}', '\u{200F}'),
    ('\u{202A}', '\u{202E}'),
    ('\u{2060}', '\u{206F}'),
    ('\u{2800}', '\u{2800}'),
    ('\u{3164}', '\u{3164}'),
    ('\u{FE00}', '\u{FE0F}'),
    ('\u{FEFF}', '\u{FEFF}'),
    ('\u{FFA0}', '\u{FFA0}'),
    ('\u{FFF0}', '\u{FFFB}'),
    ('\u{110BD}', '\u{110BD}'),
    ('\u{110CD}', '\u{110CD}'),
    ('\u{13430}', '\u{13442}'),
    ('\u{16FE4}', '\u{16FE4}'),
    ('\u{1BCA0}', '\u{1BCA3}'),
    ('\u{1D159}', '\u{1D159}'),
    ('\u{1D173}', '\u{1D17A}'),
    ('\u{E0000}', '\u{E0FFF}'),
];

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// Reads the hyphenated form (any case); `None` for anything else.
            pub fn parse(text: &str) -> Option<Self> {
                (text.len() == 36).then(|| Uuid::try_parse(text).ok().map($name)).flatten()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id_type!(
    /// A room's identity.
    RoomId
);
id_type!(
    /// A message's identity, unique in its room.
    MessageId
);

#[cfg(test)]
mod tests {
    use icu_properties::props::{DefaultIgnorableCodePoint, GeneralCategory};
    use icu_properties::{CodePointMapData, CodePointSetData};

    use super::*;

    #[test]
    fn texts_are_trimmed_and_bounded() {
        let name = "가".repeat(40);
        assert_eq!(
            Sender::parse(&format!(" {name}\u{3000}")).unwrap().as_str(),
            name
        );
        assert_eq!(
            Sender::parse(&"가".repeat(41)),
            Err(InvalidText::TooLong { count: 41, max: 40 })
        );
        assert!(RoomName::parse(&"r".repeat(100)).is_ok());
        assert!(RoomName::parse(&"r".repeat(101)).is_err());
        assert!(Text::parse(&"😀".repeat(4_000)).is_ok());
        assert!(Text::parse(&"😀".repeat(4_001)).is_err());
        assert_eq!(Sender::parse("a\nb"), Err(InvalidText::Control(10)));
        assert!(Text::parse("a\n\tb").is_ok());
        assert_eq!(Text::parse("a\u{7}b"), Err(InvalidText::Control(7)));
        for blank in ["", "  ", "\u{200B}\u{3164}", "\u{200F} \u{FEFF}"] {
            assert_eq!(Text::parse(blank), Err(InvalidText::Blank), "{blank:?}");
        }
        assert!(Sender::parse("\u{202E}evil").is_ok());
    }

    #[test]
    fn what_earlier_rules_let_in_is_shown_all_the_same() {
        let long = "가".repeat(41);
        for (text, shown) in [
            ("영희", "영희"),
            (" a ", "a"),
            ("", "\u{FFFD}"),
            ("\u{2800}\u{34F}", "\u{FFFD}"),
            ("a\u{7}\n", "a\u{FFFD}"),
            (&long, &long[3..]),
        ] {
            let stored = Sender::stored(text);
            assert_eq!(stored.as_str(), shown);
            assert_eq!(Sender::parse(shown), Ok(stored));
        }
    }

    #[test]
    fn what_is_invisible_is_what_unicode_says() {
        let ignorable = CodePointSetData::new::<DefaultIgnorableCodePoint>();
        let category = CodePointMapData::<GeneralCategory>::new();
        let is_blank = |c| {
            matches!(
                c,
                '\u{2800}' | '\u{1D159}' | '\u{16FE4}' | '\u{13440}'..='\u{13442}'
            )
        };
        for c in '\0'..=char::MAX {
            let expected = c.is_whitespace()
                || ignorable.contains(c)
                || category.get(c) == GeneralCategory::Format
                || is_blank(c);
            assert_eq!(is_invisible(c), expected, "U+{:04X}", u32::from(c));
        }
    }

    #[test]
    fn what_shows_nothing_is_no_name() {
        for c in ('\0'..=char::MAX).filter(|&c| is_invisible(c) && !c.is_control()) {
            let alone = c.to_string().repeat(3);
            assert_eq!(Sender::parse(&alone), Err(InvalidText::Blank), "{c:?}");
            assert_eq!(RoomName::parse(&alone), Err(InvalidText::Blank), "{c:?}");
        }
        assert!(RoomName::parse("\u{2800}a\u{34F}").is_ok());
    }

    #[test]
    fn a_draft_says_what_is_wrong() {
        let room = RoomId(Uuid::from_u128(1));
        let other = RoomId(Uuid::from_u128(2)).to_string();
        let parse = |json: &str, room| serde_json::from_str::<Draft>(json).unwrap().parse(room);
        let cases = [
            (r#"{}"#, InvalidDraft::Missing("type")),
            (r#"{"type":null}"#, InvalidDraft::Missing("type")),
            (r#"{"type":"SHOUT"}"#, InvalidDraft::Type),
            (r#"{"type":"ENTER"}"#, InvalidDraft::Missing("sender")),
            (
                r#"{"type":"ENTER","sender":" "}"#,
                InvalidDraft::Value {
                    field: "sender",
                    reason: InvalidText::Blank,
                },
            ),
            (
                r#"{"type":"TALK","sender":"a"}"#,
                InvalidDraft::Missing("message"),
            ),
            (
                r#"{"type":"TALK","sender":"a","message":"x","id":"1"}"#,
                InvalidDraft::Id,
            ),
            (r#"{"type":"TALK","roomId":"1"}"#, InvalidDraft::NoSuchRoom),
        ];
        for (json, expected) in cases {
            assert_eq!(parse(json, Some(room)), Err(expected), "{json}");
        }
        let json = format!(r#"{{"type":"TALK","roomId":"{other}"}}"#);
        assert_eq!(parse(&json, Some(room)), Err(InvalidDraft::RoomDiffers));
        assert_eq!(
            parse(r#"{"type":"ENTER","sender":"a"}"#, None),
            Err(InvalidDraft::Missing("roomId"))
        );
        let message = parse(
            r#"{"type":"LEAVE","sender":"영희","message":null,"seq":9,"x":1}"#,
            Some(room),
        )
        .unwrap();
        assert_eq!(
            message.body.into_message(&message.sender),
            "영희님이 퇴장하였습니다."
        );
    }
}
