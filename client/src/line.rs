//! The line to the server, one for the page's life, kept over navigation between list and rooms:
//! what is subscribed and sent on the connection that [`Driver`] keeps, and what comes of it.
//!
//! Shell around pure parts: what to send is decided by `conversation`, how to be connected by `uplink`,
//! and the protocol by `shared`. Nothing here runs on the server.

use std::cell::RefCell;

use bytes::Bytes;
use leptos::prelude::*;
use shared::{
    chat::{ChatMessage, ChatRoom, MessageId, RoomId, Sender, Text},
    destination::Destination,
    stomp::client::{Client, Event},
};
use uuid::Uuid;

use crate::{
    api::{self, Problem},
    app::House,
    conversation::{Conversation, Guest, Outgoing, Refusal},
    driver::{Driver, News, watch_page},
    json, life,
    name::Ask,
    room_list::Rooms,
    time::Zone,
    timeline::Part,
    uplink::{Standing, Transport},
};

const ERRORS: &str = "errors";
const ROOMS: &str = "rooms";

/// How the line stands, as `data-state` of the page's `connection` element.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Connection {
    /// The page's first attempt.
    Connecting,
    /// Everything has arrived and what comes is shown at once.
    Online,
    /// The same another way, since WebSocket does not get through.
    Detour,
    /// It was there, and the server is asked whether it still is.
    Checking,
    /// Lost; it comes back by itself.
    Offline,
    /// Back; what was missed is being read and what waited is being sent.
    CatchingUp,
}

thread_local! {
    static LINE: RefCell<Option<Line>> = const { RefCell::new(None) };
}

/// Opens the line, once; never for a page that is not whole.
pub(crate) fn start(house: House) {
    if !life::is_alive() {
        return;
    }
    let started = LINE.with_borrow_mut(|line| {
        let starts = line.is_none();
        if starts {
            *line = Some(Line::new(house));
        }
        starts
    });
    if started {
        watch_page(|sign| {
            with(|line| {
                line.driver.note(sign);
                line.drain();
            });
        });
        with(Line::drain);
    }
}

/// Lets the list of rooms follow the line.
pub(crate) fn watch_rooms(rooms: Rooms) {
    with(|line| line.rooms = Some(rooms));
}

/// Takes part in a room; `changed` is raised whenever there is something new to show.
pub(crate) fn open(room: RoomId, messages: Vec<ChatMessage>, changed: RwSignal<u32>) {
    with(|line| line.open(room, messages, changed));
}

/// The room is no longer shown. What was written in it is still sent.
pub(crate) fn close(room: RoomId, changed: RwSignal<u32>) {
    with(|line| line.close(room, changed));
}

/// Says something in a room.
pub(crate) fn say(room: RoomId, text: Text) {
    with(|line| line.act(room, |conversation| conversation.say(fresh_id(), text)));
}

/// Sends a refused message again.
pub(crate) fn retry(room: RoomId, id: MessageId) {
    with(|line| line.act(room, |conversation| conversation.retry(id, fresh_id())));
}

/// Leaves a room.
pub(crate) fn leave(room: RoomId) {
    with(|line| line.leave(room));
}

/// Takes part under this name from now on, in every open room.
pub(crate) fn rename(sender: &Sender) {
    with(|line| line.rename(sender));
}

/// What to show of a room; nothing where it is not open.
pub(crate) fn rows(room: RoomId, me: Option<&Sender>, zone: Zone) -> Option<Vec<Part>> {
    with(|line| {
        let open = line
            .rooms_open
            .iter()
            .find(|open| open.conversation.room() == room)?;
        Some(open.conversation.timeline.rows(me, |at| zone.local(at)))
    })
    .flatten()
}

/// The `seq` before which a room has more to read; nothing where all of it is here.
pub(crate) fn first_seq(room: RoomId) -> Option<u64> {
    with(|line| line.find(room)?.conversation.timeline.first_seq()).flatten()
}

/// Puts what was said earlier before what is shown of a room.
pub(crate) fn prepend(room: RoomId, older: Vec<ChatMessage>) {
    with(|line| {
        let open = line.find(room)?;
        open.conversation.timeline.prepend(older);
        open.raise();
        Some(())
    });
}

fn with<R>(act: impl FnOnce(&mut Line) -> R) -> Option<R> {
    LINE.with_borrow_mut(|line| line.as_mut().map(act))
}

struct Line {
    house: House,
    rooms: Option<Rooms>,
    rooms_open: Vec<OpenRoom>,
    guests: Vec<(RoomId, Guest)>,
    driver: Driver,
    /// Whether what was missed is still on its way.
    catching_up: bool,
}

struct OpenRoom {
    conversation: Conversation,
    /// Raised when there is something new to show; none once the page shows another room.
    changed: Option<RwSignal<u32>>,
    /// Whether the server has taken this connection's subscription.
    subscribed: bool,
}

impl Line {
    fn new(house: House) -> Self {
        Line {
            house,
            rooms: None,
            rooms_open: Vec::new(),
            guests: Vec::new(),
            driver: Driver::new(
                |link, sign| {
                    with(|line| {
                        line.driver.take(link, sign);
                        line.drain();
                    });
                },
                || {
                    with(|line| {
                        line.driver.handle_timeout();
                        line.drain();
                    });
                },
            ),
            catching_up: true,
        }
    }

    /// After every call on the driver or its client: what is new.
    fn drain(&mut self) {
        while let Some(news) = self.driver.poll() {
            match news {
                News::Up => self.connected(),
                News::Down => {
                    for open in &mut self.rooms_open {
                        open.subscribed = false;
                        open.conversation.lost();
                    }
                }
                News::Stomp(event) => self.on_event(event),
            }
        }
        self.show_connection();
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Message {
                subscription, body, ..
            } => self.message(&subscription, &body),
            Event::Receipt { id } => self.receipt(&id),
            Event::Error {
                message, receipt, ..
            } => {
                let detail = Some(message);
                self.refused(Problem {
                    status: 400,
                    detail,
                    receipt_id: receipt,
                    id: None,
                });
            }
            Event::Connected { .. } | Event::Alive | Event::Closed { .. } => {}
        }
    }

    fn connected(&mut self) {
        let Some(client) = self.driver.client() else {
            return;
        };
        client.subscribe(ERRORS, &Destination::Errors.to_string(), &[]);
        client.subscribe(ROOMS, &Destination::Rooms.to_string(), &[]);
        for open in &mut self.rooms_open {
            open.subscribe(client);
            let outgoing = open.conversation.connected();
            send(client, outgoing);
        }
        // What happened to rooms meanwhile comes from no log, so the list is read anew.
        if let Some(rooms) = self.rooms {
            leptos::task::spawn_local(async move {
                if let Ok(newer) = api::rooms().await {
                    rooms.merge(newer);
                }
            });
        }
    }

    fn message(&mut self, subscription: &str, body: &[u8]) {
        let Ok(body) = std::str::from_utf8(body) else {
            return;
        };
        match subscription {
            ERRORS => {
                if let Some(problem) = json::parse(body) {
                    self.refused(problem);
                }
            }
            ROOMS => {
                if let (Some(rooms), Some(room)) = (self.rooms, json::parse::<ChatRoom>(body)) {
                    rooms.merge(vec![room]);
                }
            }
            room => {
                let Some(open) = RoomId::parse(room).and_then(|room| self.find(room)) else {
                    return;
                };
                if let Some(message) = json::parse(body) {
                    open.conversation.timeline.receive(message);
                    open.raise();
                }
            }
        }
    }

    fn receipt(&mut self, receipt: &str) {
        let Some(client) = self.driver.client() else {
            return;
        };
        for open in &mut self.rooms_open {
            if receipt == open.subscription_receipt() {
                open.subscribed = true;
            }
            let outgoing = open.conversation.receipt(receipt);
            send(client, outgoing);
            open.raise();
        }
        self.let_go();
    }

    fn refused(&mut self, problem: Problem) {
        let receipt = match (&problem.receipt_id, &problem.id) {
            (Some(receipt), _) => receipt.clone(),
            (None, Some(id)) => format!("talk-{id}"),
            (None, None) => return,
        };
        for open in &mut self.rooms_open {
            if let Refusal::Name(sender) = open.conversation.refused(&receipt, &problem) {
                let room = open.conversation.room();
                self.guests.retain(|(of, _)| *of != room);
                self.house.me.set(None);
                self.house.ask_name(if problem.status == 409 {
                    Ask::Taken(sender)
                } else {
                    Ask::Refused(problem.clone())
                });
            }
            open.raise();
        }
        self.let_go();
    }

    fn open(&mut self, room: RoomId, messages: Vec<ChatMessage>, changed: RwSignal<u32>) {
        let me = self.house.me.get_untracked();
        if let Some(open) = self.find(room) {
            open.changed = Some(changed);
            self.act(room, Conversation::come_back);
        } else {
            let guest = me.map(|sender| self.guest(room, &sender));
            let mut open = OpenRoom {
                conversation: Conversation::new(room, guest, messages),
                changed: Some(changed),
                subscribed: false,
            };
            if let Some(client) = self.driver.client() {
                open.subscribe(client);
                let outgoing = open.conversation.connected();
                send(client, outgoing);
            }
            open.raise();
            self.rooms_open.push(open);
        }
        self.drain();
    }

    fn close(&mut self, room: RoomId, changed: RwSignal<u32>) {
        if let Some(open) = self.find(room)
            && open.changed == Some(changed)
        {
            open.changed = None;
        }
        self.let_go();
        self.drain();
    }

    fn leave(&mut self, room: RoomId) {
        self.guests.retain(|(of, _)| *of != room);
        self.act(room, Conversation::leave);
    }

    fn rename(&mut self, sender: &Sender) {
        let rooms: Vec<_> = self
            .rooms_open
            .iter()
            .map(|open| open.conversation.room())
            .collect();
        for room in rooms {
            let guest = self.guest(room, sender);
            self.act(room, |conversation| conversation.named(guest));
        }
    }

    /// Who one is in a room: the same entry each time it is opened under the same name.
    fn guest(&mut self, room: RoomId, sender: &Sender) -> Guest {
        let known = self
            .guests
            .iter()
            .find(|(of, guest)| *of == room && guest.sender == *sender);
        if let Some((_, guest)) = known {
            return guest.clone();
        }
        let guest = Guest {
            sender: sender.clone(),
            entry: fresh_id(),
        };
        self.guests.retain(|(of, _)| *of != room);
        self.guests.push((room, guest.clone()));
        guest
    }

    fn act(&mut self, room: RoomId, act: impl FnOnce(&mut Conversation) -> Vec<Outgoing>) {
        let Some(open) = self.find(room) else { return };
        let outgoing = act(&mut open.conversation);
        open.raise();
        if let Some(client) = self.driver.client() {
            send(client, outgoing);
        }
        self.drain();
    }

    fn find(&mut self, room: RoomId) -> Option<&mut OpenRoom> {
        self.rooms_open
            .iter_mut()
            .find(|open| open.conversation.room() == room)
    }

    /// Unsubscribes from rooms that are neither shown nor waited for.
    fn let_go(&mut self) {
        let (kept, gone): (Vec<_>, Vec<_>) = std::mem::take(&mut self.rooms_open)
            .into_iter()
            .partition(|open| open.changed.is_some() || open.conversation.has_unsent());
        self.rooms_open = kept;
        if let Some(client) = self.driver.client() {
            for open in gone {
                client.unsubscribe(&open.conversation.room().to_string());
            }
        }
    }

    fn show_connection(&mut self) {
        let standing = self.driver.standing();
        let is_settled = self
            .rooms_open
            .iter()
            .filter(|open| open.changed.is_some())
            .all(|open| open.subscribed && open.conversation.is_settled());
        match standing {
            Standing::Up(_) => self.catching_up &= !is_settled,
            Standing::Checking => {}
            Standing::Connecting | Standing::Lost => self.catching_up = true,
        }
        let state = match standing {
            Standing::Up(_) if self.catching_up && self.driver.was_lost() => Connection::CatchingUp,
            Standing::Up(_) if self.catching_up => Connection::Connecting,
            Standing::Up(Transport::WebSocket) => Connection::Online,
            Standing::Up(_) => Connection::Detour,
            Standing::Checking => Connection::Checking,
            Standing::Lost => Connection::Offline,
            Standing::Connecting => Connection::Connecting,
        };
        if self.house.connection.get_untracked() != state {
            self.house.connection.set(state);
        }
    }
}

impl OpenRoom {
    fn subscribe(&self, client: &mut Client) {
        let room = self.conversation.room();
        let offset = format!("offset={}", self.conversation.timeline.next_seq());
        let receipt = self.subscription_receipt();
        client.subscribe(
            &room.to_string(),
            &Destination::Room(room).to_string(),
            &[("x-stream-offset", &offset), ("receipt", &receipt)],
        );
    }

    fn subscription_receipt(&self) -> String {
        format!("room-{}", self.conversation.room())
    }

    fn raise(&self) {
        if let Some(changed) = self.changed {
            changed.update(|count| *count = count.wrapping_add(1));
        }
    }
}

fn send(client: &mut Client, outgoing: Vec<Outgoing>) {
    for Outgoing { draft, receipt } in outgoing {
        let Ok(body) = serde_json::to_vec(&draft) else {
            continue;
        };
        client.send(
            &Destination::SendMessage.to_string(),
            &[("content-type", "application/json")],
            Bytes::from(body),
            Some(&receipt),
        );
    }
}

fn fresh_id() -> MessageId {
    MessageId(Uuid::new_v4())
}
