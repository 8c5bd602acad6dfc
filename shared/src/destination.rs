//! Every destination is parsed and printed here, and only here (contract, section 3).

use std::fmt;

use thiserror::Error;

use crate::chat::RoomId;

const ROOM: &str = "/topic/chat/room/";
const ROOM_BATCH: &str = "/app/topic/chat/room/";

/// A destination of the chat application or of the plain broker.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Destination {
    /// `/app/chat/sendMessage`: SEND a message to the room that it names.
    SendMessage,
    /// `/topic/chat/room/{roomId}`: SUBSCRIBE to a room's log, SEND to it.
    Room(RoomId),
    /// `/app/topic/chat/room/{roomId}`: SEND an array of messages, all or none.
    RoomBatch(RoomId),
    /// `/topic/chat/rooms`: SUBSCRIBE to rooms made and their figures.
    Rooms,
    /// `/topic/chat/room/{roomId}/participants`: SUBSCRIBE to who is in a room.
    Participants(RoomId),
    /// `/topic/chat/room/{roomId}/typing`: SUBSCRIBE to who is typing.
    Typing(RoomId),
    /// `/app/chat/typing`: SEND that one is typing.
    SendTyping,
    /// `/user/queue/errors`: SUBSCRIBE to what was refused and why.
    Errors,
    /// Any other `/topic/…`: every subscriber gets it.
    Topic(String),
    /// Any other `/queue/…`: one subscriber in turn gets it.
    Queue(String),
}

/// Why a string is no [`Destination`].
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum InvalidDestination {
    /// A room's destination whose room id is no UUID: no such room can exist.
    #[error("there is no such room")]
    NoSuchRoom,
    /// A pattern, as Spring's simple broker matches it: it would list the rooms of others.
    #[error("patterns (*, ?, {{…}}) are not offered; name one destination")]
    Pattern,
    /// It has no known prefix, or a reserved one with no known rest.
    #[error("unknown destination; /topic/chat/…, /app/… and /user/… are the application's")]
    Unknown,
}

impl Destination {
    /// Parses the value of a `destination` header.
    ///
    /// # Errors
    /// [`InvalidDestination`]: everything under `/topic/chat/`, `/app/` and `/user/` that the
    /// contract does not name, and everything without a known prefix.
    pub fn parse(text: &str) -> Result<Self, InvalidDestination> {
        match text {
            "/app/chat/sendMessage" => return Ok(Destination::SendMessage),
            "/app/chat/typing" => return Ok(Destination::SendTyping),
            "/topic/chat/rooms" => return Ok(Destination::Rooms),
            "/user/queue/errors" => return Ok(Destination::Errors),
            _ => {}
        }
        if text.contains(['*', '?', '{']) {
            return Err(InvalidDestination::Pattern);
        }
        let room = |id: &str| RoomId::parse(id).ok_or(InvalidDestination::NoSuchRoom);
        if let Some(id) = text.strip_prefix(ROOM_BATCH) {
            return room(id).map(Destination::RoomBatch);
        }
        if let Some(rest) = text.strip_prefix(ROOM) {
            return match rest.split_once('/') {
                None => room(rest).map(Destination::Room),
                Some((id, "participants")) => room(id).map(Destination::Participants),
                Some((id, "typing")) => room(id).map(Destination::Typing),
                Some(_) => Err(InvalidDestination::Unknown),
            };
        }
        let reserved = ["/topic/chat/", "/app/", "/user/"];
        if reserved.iter().any(|prefix| text.starts_with(prefix)) {
            return Err(InvalidDestination::Unknown);
        }
        for (prefix, plain) in [
            ("/topic/", Destination::Topic as fn(String) -> Self),
            ("/queue/", Destination::Queue),
        ] {
            if text
                .strip_prefix(prefix)
                .is_some_and(|rest| !rest.is_empty())
            {
                return Ok(plain(text.to_owned()));
            }
        }
        Err(InvalidDestination::Unknown)
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Destination::SendMessage => f.write_str("/app/chat/sendMessage"),
            Destination::Room(room) => write!(f, "{ROOM}{room}"),
            Destination::RoomBatch(room) => write!(f, "{ROOM_BATCH}{room}"),
            Destination::Rooms => f.write_str("/topic/chat/rooms"),
            Destination::Participants(room) => write!(f, "{ROOM}{room}/participants"),
            Destination::Typing(room) => write!(f, "{ROOM}{room}/typing"),
            Destination::SendTyping => f.write_str("/app/chat/typing"),
            Destination::Errors => f.write_str("/user/queue/errors"),
            Destination::Topic(text) | Destination::Queue(text) => f.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0192f0c1-2d3e-7a4b-8c5d-6e7f8091a2b3";

    #[test]
    fn what_is_known_is_printed_as_it_was_read() {
        for text in [
            "/app/chat/sendMessage".to_owned(),
            format!("/topic/chat/room/{ID}"),
            format!("/app/topic/chat/room/{ID}"),
            "/topic/chat/rooms".to_owned(),
            format!("/topic/chat/room/{ID}/participants"),
            format!("/topic/chat/room/{ID}/typing"),
            "/app/chat/typing".to_owned(),
            "/user/queue/errors".to_owned(),
            "/topic/x".to_owned(),
            "/queue/x/y".to_owned(),
        ] {
            assert_eq!(Destination::parse(&text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_not_known_is_refused() {
        let id = ID;
        for (text, expected) in [
            (
                "/topic/chat/room/1".to_owned(),
                InvalidDestination::NoSuchRoom,
            ),
            (
                "/app/topic/chat/room/1".to_owned(),
                InvalidDestination::NoSuchRoom,
            ),
            (
                format!("/topic/chat/room/{id}/x"),
                InvalidDestination::Unknown,
            ),
            ("/topic/chat/x".to_owned(), InvalidDestination::Unknown),
            ("/app/x".to_owned(), InvalidDestination::Unknown),
            ("/user/x".to_owned(), InvalidDestination::Unknown),
            ("/topic/".to_owned(), InvalidDestination::Unknown),
            ("/exchange/x".to_owned(), InvalidDestination::Unknown),
            ("/topic/**".to_owned(), InvalidDestination::Pattern),
            ("/queue/a?".to_owned(), InvalidDestination::Pattern),
            ("/topic/chat/room/*".to_owned(), InvalidDestination::Pattern),
            (
                "/topic/chat/room/{roomId}".to_owned(),
                InvalidDestination::Pattern,
            ),
            (String::new(), InvalidDestination::Unknown),
        ] {
            assert_eq!(Destination::parse(&text), Err(expected), "{text}");
        }
    }
}
