//! One of the open rooms: how it stands with the server and the outbox, when it is drawn, and the frames that
//! it asks for.

use std::time::Duration;

use bytes::Bytes;
use leptos::prelude::*;
use shared::{
    chat::{Draft, RoomId, Sender},
    destination::Destination,
    stomp::client::Client,
};

use crate::{
    browser::now,
    conversation::{Conversation, Outgoing},
    json,
    line::with_rooms,
    outbox::Kept,
    people::People,
};

/// A room is drawn at most so often: what comes in between is drawn together.
const DRAW_EVERY: Duration = Duration::from_millis(100);

/// One of the open rooms.
pub(crate) struct OpenRoom {
    pub(crate) talk: Conversation,
    /// Turned over when there is something new to show; none once the page shows another room.
    pub(crate) changed: Option<RwSignal<bool>>,
    /// Who is in it.
    pub(crate) people: People,
    /// Turned over when that has changed; none once the page shows another room.
    pub(crate) people_changed: Option<RwSignal<bool>>,
    /// When it was last said that one is typing.
    pub(crate) typed_at: Option<Duration>,
    /// Whether the server has taken this connection's subscription, or there is none to be taken.
    pub(crate) subscribed: bool,
    pub(crate) is_gone: bool,
    /// When the newest messages were read, if they are all there is still.
    pub(crate) read_at: Option<Duration>,
    drawn_at: Duration,
    /// Whether it will be drawn.
    is_due: bool,
    /// What of it stands in the outbox.
    pub(crate) kept: Kept,
    /// Whether something is here alone, as the browser's storage is closed to us.
    pub(crate) is_unkept: bool,
}

/// A frame that a room asks for.
pub(crate) enum Request {
    Subscribe { room: RoomId, offset: u64 },
    Unsubscribe(RoomId),
    Send(Outgoing),
    Typing { room: RoomId, sender: Sender },
}

/// What the subscriptions to who is in a room, and who is typing there, are called before its id.
const PEOPLE: &str = "people-";
const TYPING: &str = "typing-";

/// What a subscription is about.
pub(crate) enum Topic {
    Messages,
    People,
    Typing,
}

/// The topic and the room of a subscription.
pub(crate) fn topic_of(subscription: &str) -> Option<(Topic, RoomId)> {
    let (topic, room) = if let Some(room) = subscription.strip_prefix(PEOPLE) {
        (Topic::People, room)
    } else if let Some(room) = subscription.strip_prefix(TYPING) {
        (Topic::Typing, room)
    } else {
        (Topic::Messages, subscription)
    };
    RoomId::parse(room).map(|room| (topic, room))
}

impl OpenRoom {
    /// Starts with what was read at that time; `changed` turns over when there is something new to show.
    pub(crate) fn new(
        talk: Conversation,
        changed: Option<RwSignal<bool>>,
        read_at: Duration,
    ) -> Self {
        OpenRoom {
            talk,
            changed,
            people: People::default(),
            people_changed: None,
            typed_at: None,
            subscribed: false,
            is_gone: false,
            read_at: Some(read_at),
            drawn_at: Duration::ZERO,
            is_due: false,
            kept: Kept::default(),
            is_unkept: false,
        }
    }

    /// Which room it is.
    pub(crate) fn room(&self) -> RoomId {
        self.talk.room()
    }

    /// Changes who is in it: the page shows it where `change` says that there is something new.
    pub(crate) fn change_people(&mut self, change: &mut dyn FnMut(&mut People) -> bool) {
        if change(&mut self.people)
            && let Some(changed) = self.people_changed
        {
            changed.try_update(|changed| *changed = !*changed);
        }
    }

    /// Lets the page show what there is now: at once, or together with what comes soon after.
    pub(crate) fn draw(&mut self, at_once: bool) {
        let Some(changed) = self.changed else {
            self.talk.timeline.trim(true);
            return;
        };
        let wait = (self.drawn_at + DRAW_EVERY).saturating_sub(now());
        if at_once || wait.is_zero() {
            self.drawn_at = now();
            changed.try_update(|changed| *changed = !*changed);
        } else if !self.is_due {
            self.is_due = true;
            let room = self.room();
            set_timeout(
                move || {
                    with_rooms(|rooms| {
                        if let Some(open) = rooms.find(room) {
                            open.is_due = false;
                            open.draw(true);
                        }
                    });
                },
                wait,
            );
        }
    }
}

impl Request {
    /// Gives it to the client.
    pub(crate) fn transmit(self, client: &mut Client) {
        match self {
            Request::Subscribe { room, offset } => {
                client.subscribe(
                    &room.to_string(),
                    &Destination::Room(room).to_string(),
                    &[
                        ("x-stream-offset", &format!("offset={offset}")),
                        ("receipt", &subscription_receipt(room)),
                    ],
                );
                for (id, destination) in feeds(room) {
                    client.subscribe(&id, &destination.to_string(), &[]);
                }
            }
            Request::Unsubscribe(room) => {
                client.unsubscribe(&room.to_string());
                for (id, _) in feeds(room) {
                    client.unsubscribe(&id);
                }
            }
            Request::Send(Outgoing { draft, receipt }) => {
                client.send(
                    &Destination::SendMessage.to_string(),
                    &[("content-type", "application/json")],
                    Bytes::from(json_of(&draft)),
                    Some(&receipt),
                );
            }
            Request::Typing { room, sender } => {
                let draft = Draft {
                    room_id: Some(room.to_string()),
                    sender: Some(sender.as_str().to_owned()),
                    ..Draft::default()
                };
                client.send(
                    &Destination::SendTyping.to_string(),
                    &[("content-type", "application/json")],
                    Bytes::from(json_of(&draft)),
                    None,
                );
            }
        }
    }
}

/// The subscriptions to what is no log.
fn feeds(room: RoomId) -> [(String, Destination); 2] {
    [
        (format!("{PEOPLE}{room}"), Destination::Participants(room)),
        (format!("{TYPING}{room}"), Destination::Typing(room)),
    ]
}

fn json_of(draft: &Draft) -> String {
    let fields = [
        ("\"type\":", &draft.kind),
        ("\"roomId\":", &draft.room_id),
        ("\"sender\":", &draft.sender),
        ("\"message\":", &draft.message),
        ("\"id\":", &draft.id),
    ];
    let mut body = String::new();
    for (name, value) in fields {
        if let Some(value) = value {
            body.push(if body.is_empty() { '{' } else { ',' });
            body.push_str(name);
            body.push_str(&json::quote(value));
        }
    }
    body.push('}');
    body
}

/// The receipt that a room's SUBSCRIBE asks for.
pub(crate) fn subscription_receipt(room: RoomId) -> String {
    format!("room-{room}")
}
