//! The line to the server: drives [`shared::stomp::client`] over a `way` to it, one for the page's
//! life, kept over navigation between list and rooms.
//!
//! Shell around pure parts: what to send is decided by `conversation`, when to try again by
//! `reconnect`, and the protocol by `shared`. Here are the timers and the signals, and the choice of
//! the way: WebSocket; where it does not open a stream, from which WebSocket is tried now and then.
//! Nothing here runs on the server.

use std::{cell::RefCell, time::Duration};

use bytes::Bytes;
use gloo_net::http::Request;
use leptos::{leptos_dom::helpers::TimeoutHandle, prelude::*};
use shared::{
    chat::{ChatMessage, ChatRoom, MessageId, RoomId, Sender, Text},
    destination::Destination,
    stomp::client::{Client, Config, Event},
};
use uuid::Uuid;
use wasm_bindgen::{JsCast, closure::Closure};
use web_sys::{MessageEvent, WebSocket};

use crate::{
    api::{self, Problem},
    app::House,
    browser::{host, now},
    conversation::{Conversation, Guest, Outgoing, Refusal},
    json, life,
    name::Ask,
    room_list::Rooms,
    time::Zone,
    timeline::Part,
    way::{self, Callbacks, Heard, Way},
};

const ERRORS: &str = "errors";
const ROOMS: &str = "rooms";

/// A way that does not open is given up after this long; browsers wait for minutes.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);

/// From a stream, WebSocket is tried after so long, then after ever longer.
const PROBE_FIRST: Duration = Duration::from_secs(5);
const PROBE_MAX: Duration = Duration::from_secs(300);

/// How the line stands, as `data-state` of the page's `connection` element.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Connection {
    /// The page's first attempt.
    Connecting,
    /// Everything has arrived and what comes is shown at once.
    Online,
    /// The same over a stream, since WebSocket does not get through.
    Detour,
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
        watch_page();
        with(Line::connect);
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
    socket: Option<Socket>,
    callbacks: Callbacks,
    /// A WebSocket that is tried while a stream is in use, and what is called when it opens.
    probe: Option<WebSocket>,
    probe_opened: Closure<dyn FnMut()>,
    probe_wait: Duration,
    probe_timer: Option<TimeoutHandle>,
    reconnect: crate::reconnect::Reconnect,
    retry: Option<TimeoutHandle>,
    was_connected: bool,
    was_lost: bool,
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

struct Socket {
    way: Way,
    /// None until the way is open.
    client: Option<Client>,
    connected: bool,
    timer: Option<TimeoutHandle>,
}

impl Line {
    fn new(house: House) -> Self {
        Line {
            house,
            rooms: None,
            rooms_open: Vec::new(),
            guests: Vec::new(),
            socket: None,
            callbacks: Callbacks {
                open: Closure::new(|| with(Line::on_open).unwrap_or_default()),
                message: Closure::new(|event: MessageEvent| {
                    with(|line| line.on_message(&event));
                }),
                close: Closure::new(|| with(Line::on_close).unwrap_or_default()),
            },
            probe: None,
            probe_opened: Closure::new(|| with(Line::turn_back).unwrap_or_default()),
            probe_wait: PROBE_FIRST,
            probe_timer: None,
            reconnect: crate::reconnect::Reconnect::default(),
            retry: None,
            was_connected: false,
            was_lost: false,
            catching_up: true,
        }
    }

    fn connect(&mut self) {
        if let Some(retry) = self.retry.take() {
            retry.clear();
        }
        if self.socket.is_some() {
            return;
        }
        match way::web_socket() {
            Some(web) => self.take(Way::over(web, &self.callbacks)),
            None => self.detour(),
        }
    }

    /// Tries a stream.
    fn detour(&mut self) {
        match Way::stream(&self.callbacks) {
            Some(way) => self.take(way),
            None => self.lost(),
        }
    }

    fn take(&mut self, way: Way) {
        self.socket = Some(Socket {
            way,
            client: None,
            connected: false,
            timer: after(OPEN_TIMEOUT, Line::lost),
        });
    }

    fn on_open(&mut self) {
        let Some(socket) = &mut self.socket else {
            return;
        };
        let config = Config {
            host: host(),
            ..Config::default()
        };
        socket.client = Some(Client::new(config, now()));
        self.drain();
    }

    fn on_message(&mut self, event: &MessageEvent) {
        let socket = self.socket.as_mut();
        match socket.and_then(|socket| socket.way.read(&event.data())) {
            Some(Heard::Open) => self.on_open(),
            Some(Heard::Payloads(payloads)) => {
                for payload in payloads {
                    if let Some(client) = self.client() {
                        client.handle_input(payload, now());
                    }
                    self.drain();
                }
            }
            Some(Heard::Closed) => self.lost(),
            None => {}
        }
    }

    fn on_close(&mut self) {
        let socket = self.socket.as_mut();
        if !socket.is_some_and(|socket| socket.way.go_on(&self.callbacks)) {
            self.lost();
        }
    }

    fn on_timer(&mut self) {
        if let Some(client) = self.client() {
            client.handle_timeout(now());
        }
        self.drain();
    }

    fn client(&mut self) -> Option<&mut Client> {
        self.socket.as_mut()?.client.as_mut()
    }

    /// After every call on the client: its events, then its frames, then its timer.
    fn drain(&mut self) {
        while let Some(event) = self.client().and_then(Client::poll_event) {
            self.on_event(event);
        }
        while let Some(frame) = self.client().and_then(|client| client.poll_transmit(now())) {
            let Some(socket) = &mut self.socket else {
                return;
            };
            if !socket.way.send(&frame) {
                self.lost();
                return;
            }
        }
        self.request();
        let Some(deadline) = self.client().map(|client| client.poll_timeout()) else {
            return;
        };
        let Some(socket) = &mut self.socket else {
            return;
        };
        if let Some(timer) = socket.timer.take() {
            timer.clear();
        }
        let wait = deadline.map(|deadline| deadline.saturating_sub(now()));
        socket.timer = wait.and_then(|wait| after(wait, Line::on_timer));
        self.show_connection();
    }

    /// Sends what a stream has gathered, one request at a time.
    fn request(&mut self) {
        let socket = self.socket.as_mut();
        let Some((address, body)) = socket.and_then(|socket| socket.way.request()) else {
            return;
        };
        leptos::task::spawn_local(async move {
            let request = Request::post(&address).body(body);
            let is_taken = match request {
                Ok(request) => request.send().await.is_ok_and(|answer| answer.ok()),
                Err(_) => false,
            };
            with(|line| {
                let socket = line.socket.as_mut();
                // Another way may be in use by now.
                if socket.is_some_and(|socket| socket.way.answered(&address)) {
                    if is_taken {
                        line.request();
                    } else {
                        line.lost();
                    }
                }
            });
        });
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Connected { .. } => self.connected(),
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
            Event::Closed { .. } => self.lost(),
        }
    }

    fn connected(&mut self) {
        self.reconnect.connected(now());
        self.was_connected = true;
        self.catching_up = true;
        let Some(socket) = &mut self.socket else {
            return;
        };
        socket.connected = true;
        if socket.way.is_web_socket() {
            self.probe_wait = PROBE_FIRST;
        } else {
            self.probe_timer = after(self.probe_wait, Line::try_web_socket);
        }
        let Some(client) = &mut socket.client else {
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
        let Some(client) = self
            .socket
            .as_mut()
            .and_then(|socket| socket.client.as_mut())
        else {
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

    /// Tries whether WebSocket gets through by now.
    fn try_web_socket(&mut self) {
        self.forget_probe();
        self.probe = way::web_socket();
        if let Some(probe) = &self.probe {
            probe.set_onopen(Some(self.probe_opened.as_ref().unchecked_ref()));
        }
        self.probe_wait = (self.probe_wait * 4).min(PROBE_MAX);
        self.probe_timer = after(self.probe_wait, Line::try_web_socket);
    }

    /// WebSocket gets through again: goes on over it.
    fn turn_back(&mut self) {
        let Some(web) = self.probe.take() else {
            return;
        };
        self.give_up();
        // Nothing is lost, and nothing need be said.
        self.was_lost = false;
        self.take(Way::over(web, &self.callbacks));
        self.on_open();
    }

    fn forget_probe(&mut self) {
        if let Some(timer) = self.probe_timer.take() {
            timer.clear();
        }
        if let Some(probe) = self.probe.take() {
            probe.set_onopen(None);
            // It may be closed already.
            let _ = probe.close();
        }
    }

    /// Lets the way go, if there is one; gives it.
    fn give_up(&mut self) -> Option<Socket> {
        self.forget_probe();
        for open in &mut self.rooms_open {
            open.subscribed = false;
            open.conversation.lost();
        }
        let mut socket = self.socket.take()?;
        socket.way.let_go();
        if let Some(timer) = socket.timer.take() {
            timer.clear();
        }
        Some(socket)
    }

    /// The way is gone, did not open in time, or fell silent.
    fn lost(&mut self) {
        let is_blocked = self
            .give_up()
            .is_some_and(|socket| socket.way.is_web_socket() && socket.client.is_none());
        if is_blocked {
            return self.detour();
        }
        self.was_lost = true;
        let wait = self.reconnect.lost(now(), js_sys::Math::random());
        if let Some(retry) = self.retry.take() {
            retry.clear();
        }
        self.retry = after(wait, Line::connect);
        self.show_connection();
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
            if let Some(client) = self.connected_client() {
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
        if let Some(client) = self.connected_client() {
            send(client, outgoing);
        }
        self.drain();
    }

    fn find(&mut self, room: RoomId) -> Option<&mut OpenRoom> {
        self.rooms_open
            .iter_mut()
            .find(|open| open.conversation.room() == room)
    }

    fn connected_client(&mut self) -> Option<&mut Client> {
        self.socket
            .as_mut()
            .filter(|socket| socket.connected)?
            .client
            .as_mut()
    }

    /// Unsubscribes from rooms that are neither shown nor waited for.
    fn let_go(&mut self) {
        let (kept, gone): (Vec<_>, Vec<_>) = std::mem::take(&mut self.rooms_open)
            .into_iter()
            .partition(|open| open.changed.is_some() || open.conversation.has_unsent());
        self.rooms_open = kept;
        if let Some(client) = self.connected_client() {
            for open in gone {
                client.unsubscribe(&open.conversation.room().to_string());
            }
        }
    }

    fn show_connection(&mut self) {
        let connected = self.socket.as_ref().filter(|socket| socket.connected);
        let is_direct = connected.is_some_and(|socket| socket.way.is_web_socket());
        let connected = connected.is_some();
        if connected && self.catching_up {
            self.catching_up = !self
                .rooms_open
                .iter()
                .filter(|open| open.changed.is_some())
                .all(|open| open.subscribed && open.conversation.is_settled());
        }
        let state = match (connected, self.catching_up) {
            (true, false) if is_direct => Connection::Online,
            (true, false) => Connection::Detour,
            (true, true) if self.was_lost => Connection::CatchingUp,
            (false, _) if self.was_lost => Connection::Offline,
            _ => Connection::Connecting,
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

/// Tries again at once when the network is back or somebody looks at the page.
fn watch_page() {
    let wake = || {
        with(|line| {
            if line.socket.is_none() {
                line.connect();
            }
        });
    };
    for event in ["online", "pageshow", "visibilitychange"] {
        let hidden = move || event == "visibilitychange" && document().hidden();
        let closure = Closure::<dyn FnMut()>::new(move || {
            if !hidden() {
                wake();
            }
        });
        let target: &web_sys::EventTarget = if event == "visibilitychange" {
            &document()
        } else {
            &window()
        };
        // Fails for no event of this list; without it the timer alone would try again.
        let _ = target.add_event_listener_with_callback(event, closure.as_ref().unchecked_ref());
        // The page's life is the line's.
        closure.forget();
    }
}

fn after(wait: Duration, act: fn(&mut Line)) -> Option<TimeoutHandle> {
    set_timeout_with_handle(move || with(act).unwrap_or_default(), wait).ok()
}

fn fresh_id() -> MessageId {
    MessageId(Uuid::new_v4())
}
