//! The rooms that this page takes part in: what each shows, what waits in it, and what it asks of the
//! connection.
//!
//! Shell around `conversation`: here are the reading over the room API, the browser's storage and the
//! signals. Frames are gathered, and taken by `line`. Nothing here runs on the server.

use std::time::Duration;

use leptos::prelude::*;
use shared::{
    chat::{ChatMessage, MessageId, RoomId, Sender, Text},
    stomp::client::Client,
};
use uuid::Uuid;

use crate::{
    api::{self, Problem, Unread},
    app::House,
    authorship::Authorship,
    browser::{self, now},
    conversation::{Conversation, Outgoing, Refusal, Unsaid},
    json,
    line::with_rooms,
    name::Ask,
    open_room::{OpenRoom, Request, Topic, subscription_receipt, topic_of},
    outbox::{self, Entry},
    people::{People, TYPING_FOR},
    tabs::Tabs,
    time::Zone,
    timeline::{Delivery, End, Own, Part},
};

/// The key in `localStorage` of what signs the ids of this browser's messages.
const AUTHOR: &str = "author";

/// What was read so recently is subscribed to without asking what has come since, or whether the room is
/// still there.
const FRESH: Duration = Duration::from_secs(10);

/// How often it is said at most that one is typing.
const TYPING_EVERY: Duration = Duration::from_secs(2);

/// How long another tab may take to say that it is there.
const ROLL_CALL: Duration = Duration::from_millis(400);

/// How often it is looked for what a tab that is gone has left.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Takes part in a room; `changed` turns over whenever there is something new to show, and `people_changed`
/// when somebody came, went, or types.
pub(crate) fn open(
    room: RoomId,
    messages: Vec<ChatMessage>,
    changed: RwSignal<bool>,
    people_changed: RwSignal<bool>,
) {
    with_rooms(|rooms| {
        rooms.open(room, messages, changed);
        if let Some(open) = rooms.find(room) {
            open.people_changed = Some(people_changed);
        }
    });
}

/// The room is no longer shown. What was written in it is still sent.
pub(crate) fn close(room: RoomId, changed: RwSignal<bool>) {
    with_rooms(|rooms| {
        if let Some(open) = rooms.find(room)
            && open.changed == Some(changed)
        {
            open.changed = None;
            open.people_changed = None;
        }
        rooms.let_go();
    });
}

/// Says something in a room.
///
/// # Errors
/// [`Unsaid`], and the text is still the writer's.
pub(crate) fn say(room: RoomId, text: Text) -> Result<(), Unsaid> {
    with_rooms(|rooms| rooms.say(room, text)).unwrap_or(Err(Unsaid::Gone))
}

/// One is typing in a room.
pub(crate) fn typing(room: RoomId) {
    with_rooms(|rooms| {
        let Some(open) = rooms.find(room).filter(|open| open.talk.is_present()) else {
            return;
        };
        let is_soon = |at: Duration| now() < at + TYPING_EVERY;
        if let Some(sender) = open.talk.sender().cloned()
            && !open.typed_at.is_some_and(is_soon)
        {
            open.typed_at = Some(now());
            rooms.requests.push(Request::Typing { room, sender });
        }
    });
}

/// Sends a refused message again; where the room is gone it stands as it stood.
pub(crate) fn retry(room: RoomId, id: MessageId) {
    with_rooms(|rooms| {
        let (new_id, order) = rooms.fresh(room);
        if let Some(open) = rooms.find(room).filter(|open| !open.is_gone) {
            let outgoing = open.talk.retry(id, new_id, order);
            rooms.done(room, outgoing);
        }
    });
}

/// Takes a refused message back to be edited; where the room is gone it stands as it stood.
pub(crate) fn take_back(room: RoomId, id: MessageId) -> Option<Text> {
    let is_gone = |rooms: &mut OpenRooms| rooms.find(room).is_none_or(|open| open.is_gone);
    match with_rooms(is_gone) {
        Some(false) => discard(room, id),
        _ => None,
    }
}

/// Drops a refused message, and gives its text.
pub(crate) fn discard(room: RoomId, id: MessageId) -> Option<Text> {
    with_rooms(|rooms| {
        let text = rooms.find(room)?.talk.timeline.take_failed(id);
        rooms.settle(room, true);
        text
    })
    .flatten()
}

/// Leaves a room.
pub(crate) fn leave(room: RoomId) {
    with_rooms(|rooms| {
        if let Some(open) = rooms.find(room) {
            let outgoing = open.talk.leave();
            rooms.done(room, outgoing);
        }
    });
}

/// Takes part under this name from now on, in every open room.
pub(crate) fn rename(sender: &Sender) {
    with_rooms(|rooms| {
        let open: Vec<_> = rooms.rooms.iter().map(OpenRoom::room).collect();
        for room in open {
            if let Some(open) = rooms.find(room) {
                let outgoing = open.talk.named(sender.clone());
                rooms.done(room, outgoing);
            }
        }
    });
}

/// What a room shows.
pub(crate) struct View {
    pub(crate) parts: Vec<Part>,
    /// The `seq` before which there is more to read.
    pub(crate) first_seq: Option<u64>,
    /// Whether there is no such room any more.
    pub(crate) is_gone: bool,
}

/// What to show of a room; nothing where it is not open. `is_followed` says whether the reader is at its end.
pub(crate) fn view(
    room: RoomId,
    me: Option<&Sender>,
    zone: Zone,
    is_followed: bool,
) -> Option<View> {
    with_rooms(|rooms| {
        let OpenRooms {
            rooms, authorship, ..
        } = rooms;
        let open = rooms.iter_mut().find(|open| open.room() == room)?;
        let timeline = &mut open.talk.timeline;
        timeline.trim(is_followed);
        Some(View {
            parts: timeline.rows(me, |message| authorship.wrote(message), |at| zone.local(at)),
            first_seq: timeline.first_seq(),
            is_gone: open.is_gone,
        })
    })
    .flatten()
}

/// Reads who is in a room, if it is open. Not generic, as what is generic weighs more.
pub(crate) fn people(room: RoomId, read: &mut dyn FnMut(&People)) {
    with_rooms(|rooms| {
        if let Some(open) = rooms.find(room) {
            read(&open.people);
        }
    });
}

/// Puts what was said earlier before what is shown of a room.
pub(crate) fn prepend(room: RoomId, older: Vec<ChatMessage>) {
    with_rooms(|rooms| {
        if let Some(open) = rooms.find(room) {
            open.talk.timeline.prepend(older);
            rooms.settle(room, true);
        }
    });
}

/// Reads some of what a gap leaves out; gives whether all of it is there now.
///
/// # Errors
/// [`Unread`] where the server gives nothing.
pub(crate) async fn fill(room: RoomId, key: u64, end: End) -> Result<bool, Unread> {
    let missing = with_rooms(|rooms| rooms.find(room)?.talk.timeline.gap(key));
    let Some(missing) = missing.flatten() else {
        return Ok(true);
    };
    let messages = api::messages_in(room, missing, end).await?;
    let is_all = messages.len() < api::MESSAGES_MAX;
    let left = with_rooms(|rooms| {
        let timeline = &mut rooms.find(room)?.talk.timeline;
        timeline.fill(key, end, messages, is_all);
        let left = timeline.gap(key);
        rooms.settle(room, true);
        left
    });
    Ok(left.flatten().is_none())
}

/// The open rooms.
pub(crate) struct OpenRooms {
    house: House,
    rooms: Vec<OpenRoom>,
    authorship: Authorship,
    tabs: Tabs,
    /// The order of what was written last.
    order: u64,
    is_connected: bool,
    /// Counts connections, so that what was read for an earlier one is known.
    connections: u32,
    /// Whether what is shown is counted otherwise by now.
    pub(crate) is_other_epoch: bool,
    /// Nothing is sent before it is known what an earlier page has left.
    may_send: bool,
    requests: Vec<Request>,
}

impl OpenRooms {
    pub(crate) fn new(house: House) -> Self {
        OpenRooms {
            house,
            rooms: Vec::new(),
            authorship: Authorship::default(),
            tabs: Tabs::join(|event| {
                with_rooms(|rooms| rooms.tabs.hear(&event));
            }),
            order: 0,
            is_connected: false,
            connections: 0,
            is_other_epoch: false,
            may_send: false,
            requests: Vec::new(),
        }
    }

    /// Looks for what earlier pages have left, now and then.
    pub(crate) fn start(&mut self) {
        self.learn_author();
        self.may_send = !self.look();
        // Without it only the next page would look.
        let _ = set_interval_with_handle(
            || {
                with_rooms(OpenRooms::look);
            },
            LOOK_EVERY,
        );
    }

    /// The connection is up.
    pub(crate) fn connected(&mut self) {
        self.is_connected = true;
        self.connections += 1;
        let rooms: Vec<_> = self.rooms.iter().map(OpenRoom::room).collect();
        for room in rooms {
            self.join(room);
        }
    }

    /// The connection is lost.
    pub(crate) fn lost(&mut self) {
        self.is_connected = false;
        self.requests.clear();
        for open in &mut self.rooms {
            open.subscribed = false;
            open.read_at = None;
            open.talk.lost();
        }
    }

    /// Gives the frames that are asked for; whether there were any.
    pub(crate) fn transmit(&mut self, client: &mut Client) -> bool {
        let is_asking = !self.requests.is_empty();
        for request in self.requests.drain(..) {
            request.transmit(client);
        }
        is_asking
    }

    /// Takes a MESSAGE of a room's subscription.
    pub(crate) fn message(&mut self, subscription: &str, body: &str) {
        let Some((topic, room)) = topic_of(subscription) else {
            return;
        };
        let Some(open) = self.find(room) else { return };
        match topic {
            Topic::Messages => {
                let Some(message) = json::parse::<ChatMessage>(body) else {
                    return;
                };
                open.change_people(&mut |people| people.rests(&message.sender));
                open.talk.receive(message);
                self.settle(room, false);
            }
            Topic::People => {
                let mut presence = json::parse(body);
                open.change_people(&mut |people| people.apply(presence.take()));
            }
            Topic::Typing => {
                let mut who = json::parse(body);
                open.change_people(&mut |people| people.types(who.take(), now()));
                set_timeout(
                    move || {
                        with_rooms(|rooms| {
                            let open = rooms.find(room);
                            open.into_iter().for_each(|open| {
                                open.change_people(&mut |people| people.expire(now()));
                            });
                        });
                    },
                    TYPING_FOR,
                );
            }
        }
    }

    /// Takes a RECEIPT.
    pub(crate) fn receipt(&mut self, receipt: &str) {
        for index in 0..self.rooms.len() {
            let open = &mut self.rooms[index];
            if receipt == subscription_receipt(open.room()) {
                open.subscribed = true;
            }
            let room = open.room();
            let outgoing = open.talk.receipt(receipt);
            self.send(outgoing);
            self.settle(room, false);
        }
        self.let_go();
    }

    /// Something was refused.
    pub(crate) fn refused(&mut self, problem: &Problem) {
        let receipt = match (&problem.receipt_id, &problem.id) {
            (Some(receipt), _) => receipt.clone(),
            (None, Some(id)) => format!("talk-{id}"),
            (None, None) => return,
        };
        for index in 0..self.rooms.len() {
            let open = &mut self.rooms[index];
            let room = open.room();
            match open.talk.refused(&receipt, problem) {
                Refusal::Noted => {}
                Refusal::Gone => open.is_gone = true,
                Refusal::Name(sender) => {
                    self.house.me.set(None);
                    self.house.ask_name(if problem.status == 409 {
                        Ask::Taken(sender)
                    } else {
                        Ask::Refused(problem.clone())
                    });
                }
            }
            self.settle(room, true);
        }
        self.let_go();
    }

    /// Whether everything that is shown has arrived, and everything written is with the server.
    pub(crate) fn is_settled(&self) -> bool {
        let shown = |open: &&OpenRoom| open.changed.is_some() && !open.is_gone;
        let mut shown = self.rooms.iter().filter(shown);
        shown.all(|open| open.subscribed && open.talk.is_settled())
    }

    fn open(&mut self, room: RoomId, messages: Vec<ChatMessage>, changed: RwSignal<bool>) {
        // What the server rendered is as old as the page.
        let read_at = (self.connections > 0).then(now).unwrap_or_default();
        if let Some(open) = self.find(room) {
            open.talk.timeline.catch_up(messages);
            open.changed = Some(changed);
            open.is_gone = false;
            open.read_at = Some(read_at);
            let outgoing = open.talk.come_back();
            self.follow(room);
            self.done(room, outgoing);
        } else {
            let open = OpenRoom::new(self.talk(room, messages), Some(changed), read_at);
            self.rooms.push(open);
            self.join(room);
        }
        // What was refused while the room was not shown.
        let me = self.tabs.me();
        let of_this_page = |entry: &Entry| entry.room == room && entry.owner == me;
        let entries: Vec<_> = outbox::entries().into_iter().filter(of_this_page).collect();
        for entry in entries {
            self.take_over(entry);
        }
        self.look();
    }

    fn say(&mut self, room: RoomId, text: Text) -> Result<(), Unsaid> {
        let (id, order) = self.fresh(room);
        let open = self.find(room).filter(|open| !open.is_gone);
        let Some(open) = open else {
            return Err(Unsaid::Gone);
        };
        if open.talk.timeline.is_full() {
            return Err(Unsaid::Full);
        }
        let own = Own {
            id,
            order,
            text,
            state: Delivery::Sending,
        };
        let outgoing = open.talk.say(own);
        self.done(room, outgoing);
        Ok(())
    }

    fn talk(&self, room: RoomId, messages: Vec<ChatMessage>) -> Conversation {
        let me = self.house.me.get_untracked();
        Conversation::new(room, me, || MessageId(Uuid::new_v4()), messages)
    }

    /// The id and the order of a message to be written now.
    fn fresh(&mut self, room: RoomId) -> (MessageId, u64) {
        self.learn_author();
        self.order = (self.order + 1).max(js_sys::Date::now() as u64);
        (self.authorship.sign(room, Uuid::new_v4()), self.order)
    }

    fn learn_author(&mut self) {
        let stored = browser::remembered(AUTHOR);
        let key = stored.as_deref().and_then(|key| Uuid::try_parse(key).ok());
        let kept = self.authorship.learn(key, Uuid::new_v4());
        if key != Some(kept) {
            browser::remember(AUTHOR, &kept.to_string());
        }
    }

    /// Follows a room and enters it, if the connection is up.
    fn join(&mut self, room: RoomId) {
        self.follow(room);
        if self.is_connected && self.may_send {
            self.connect(room);
        }
    }

    /// Subscribes to a room that is shown, if the connection is up.
    ///
    /// To subscribe to a room that is gone ends the session, with all that it carries; and much may have
    /// been missed. So what has come is read first, unless that was done just now.
    fn follow(&mut self, room: RoomId) {
        let (connection, is_connected) = (self.connections, self.is_connected);
        let Some(open) = self.find(room) else { return };
        if !is_connected || open.subscribed || open.changed.is_none() {
            return;
        }
        let after = open.talk.timeline.last_seq();
        if open.read_at.is_some_and(|read_at| now() < read_at + FRESH) {
            self.subscribe(room);
            return;
        }
        leptos::task::spawn_local(async move {
            let read = api::messages_since(room, after).await;
            with_rooms(|rooms| {
                if rooms.connections == connection && rooms.is_connected {
                    rooms.has_read(room, read);
                }
            });
        });
    }

    fn has_read(&mut self, room: RoomId, read: Result<Option<[Vec<ChatMessage>; 2]>, Unread>) {
        let is_other_epoch = self.is_other_epoch;
        let Some(open) = self.find(room) else { return };
        let was_gone = open.is_gone;
        open.is_gone = matches!(read, Ok(None));
        if open.is_gone {
            open.talk.gone();
        } else if is_other_epoch && read.is_ok() {
            // All is read anew. Where that is refused, the next page does.
            let _ = window().location().reload();
            return;
        } else {
            for messages in read.ok().flatten().into_iter().flatten() {
                open.talk.timeline.catch_up(messages);
            }
            self.subscribe(room);
            if was_gone {
                self.connect(room);
            }
        }
        self.settle(room, true);
    }

    fn subscribe(&mut self, room: RoomId) {
        if let Some(open) = self.find(room).filter(|open| open.changed.is_some()) {
            let offset = open.talk.timeline.last_seq() + 1;
            self.requests.push(Request::Subscribe { room, offset });
        }
    }

    /// After what was done in a room: it is kept, shown, and then sent.
    fn done(&mut self, room: RoomId, outgoing: Vec<Outgoing>) {
        self.settle(room, true);
        self.send(outgoing);
    }

    fn connect(&mut self, room: RoomId) {
        if let Some(open) = self.find(room) {
            let outgoing = open.talk.connected();
            self.done(room, outgoing);
        }
    }

    fn send(&mut self, outgoing: Vec<Outgoing>) {
        if self.is_connected {
            self.requests
                .extend(outgoing.into_iter().map(Request::Send));
        }
    }

    /// After every change of a room: the outbox holds what waits, and the page shows it.
    fn settle(&mut self, room: RoomId, at_once: bool) {
        let was_unkept = self.rooms.iter().any(|open| open.is_unkept);
        let OpenRooms { rooms, tabs, .. } = self;
        if let Some(open) = rooms.iter_mut().find(|open| open.room() == room) {
            let own = open.talk.timeline.own();
            open.is_unkept = !open.kept.keep(room, tabs.me(), own);
            open.draw(at_once);
        }
        let is_unkept = rooms.iter().any(|open| open.is_unkept);
        if was_unkept != is_unkept {
            browser::ask_before_leaving(is_unkept);
        }
    }

    /// The open room of this id.
    pub(crate) fn find(&mut self, room: RoomId) -> Option<&mut OpenRoom> {
        self.rooms.iter_mut().find(|open| open.room() == room)
    }

    /// Unsubscribes from rooms that are neither shown nor waited for.
    fn let_go(&mut self) {
        let (kept, gone): (Vec<_>, Vec<_>) = std::mem::take(&mut self.rooms)
            .into_iter()
            .partition(|open| open.changed.is_some() || open.talk.has_unsent() || open.is_unkept);
        self.rooms = kept;
        for open in gone.iter().filter(|open| open.subscribed) {
            self.requests.push(Request::Unsubscribe(open.room()));
        }
    }

    /// Looks for what other tabs have in the outbox, and asks which of them are there; whether it asks.
    fn look(&mut self) -> bool {
        let entries = outbox::entries();
        // Even if the clock was set back meanwhile, what is written now comes after these.
        let last = entries.last().map_or(0, |entry| entry.own.order);
        self.order = self.order.max(last);
        let asks = entries.iter().any(|entry| self.wants(entry)) && self.tabs.ask();
        if asks {
            set_timeout(
                || {
                    with_rooms(OpenRooms::inherit);
                },
                ROLL_CALL,
            );
        }
        asks
    }

    /// Takes over what tabs that are gone have left.
    fn inherit(&mut self) {
        let is_heir = self.tabs.close();
        for mut entry in outbox::entries() {
            if self.wants(&entry) && is_heir(&entry.owner) {
                self.tabs.me().clone_into(&mut entry.owner);
                outbox::keep(&entry);
                self.take_over(entry);
            }
        }
        if !std::mem::replace(&mut self.may_send, true) && self.is_connected {
            let rooms: Vec<_> = self.rooms.iter().map(OpenRoom::room).collect();
            for room in rooms {
                self.connect(room);
            }
        }
    }

    /// Whether an entry is one that this tab would take over: of a room that is not open here, what was
    /// refused waits for the reader, and not for the server.
    fn wants(&self, entry: &Entry) -> bool {
        entry.owner != self.tabs.me()
            && (entry.own.state == Delivery::Sending
                || self.rooms.iter().any(|open| open.room() == entry.room))
    }

    fn take_over(&mut self, entry: Entry) {
        let Entry { room, own, .. } = entry;
        let is_new = self.find(room).is_none();
        if is_new {
            // Nobody looks at this room: what waits is sent, and that is all.
            let mut talk = self.talk(room, Vec::new());
            talk.leave();
            self.rooms.push(OpenRoom::new(talk, None, Duration::ZERO));
        }
        if let Some(open) = self.find(room) {
            open.kept.take_over(&own);
            let outgoing = open.talk.say(own);
            self.done(room, outgoing);
        }
        if is_new {
            self.join(room);
        }
    }
}
