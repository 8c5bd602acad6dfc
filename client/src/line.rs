//! The line to the server, one for the page's life, kept over navigation between list and rooms:
//! what is subscribed and sent on the connection that [`Driver`] keeps, and what comes of it.
//!
//! Shell around pure parts: how to be connected is decided by `uplink`, the protocol by `shared`, and
//! what rooms have to say comes from `open_rooms`. Nothing here runs on the server.

use std::cell::RefCell;

use leptos::prelude::*;
use shared::{
    chat::{ChatRoom, RoomId},
    destination::Destination,
    stomp::client::Event,
};

use crate::{
    api::{self, Problem},
    app::House,
    driver::{Driver, News, watch_page},
    json,
    open_rooms::OpenRooms,
    room_list::Rooms,
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

/// Opens the line, once.
pub(crate) fn start(house: House) {
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
        with_rooms(OpenRooms::start);
    }
}

/// Lets the list of rooms follow the line.
pub(crate) fn watch_rooms(rooms: Rooms) {
    with(|line| {
        line.rooms = Some(rooms);
        line.follow_rooms();
    });
}

/// Acts on the open rooms, and sends what they ask for.
pub(crate) fn with_rooms<R>(act: impl FnOnce(&mut OpenRooms) -> R) -> Option<R> {
    let mut act = Some(act);
    let mut result = None;
    // One function for all that is done: what is generic here is made anew for each.
    with_each(&mut |line| {
        result = act.take().map(|act| act(&mut line.open));
        line.drain();
    });
    result
}

fn with<R>(act: impl FnOnce(&mut Line) -> R) -> Option<R> {
    let mut act = Some(act);
    let mut result = None;
    with_each(&mut |line| result = act.take().map(|act| act(line)));
    result
}

#[inline(never)]
fn with_each(act: &mut dyn FnMut(&mut Line)) {
    LINE.with_borrow_mut(|line| {
        if let Some(line) = line {
            act(line);
        }
    });
}

struct Line {
    house: House,
    rooms: Option<Rooms>,
    open: OpenRooms,
    driver: Driver,
    /// The rooms of which this connection tells.
    followed: Option<Vec<RoomId>>,
    /// Whether what was missed is still on its way.
    catching_up: bool,
}

impl Line {
    fn new(house: House) -> Self {
        Line {
            house,
            rooms: None,
            open: OpenRooms::new(house),
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
            followed: None,
            catching_up: true,
        }
    }

    /// After every call on the driver, its client, or the open rooms: what is new, and what they ask
    /// for then.
    fn drain(&mut self) {
        loop {
            while let Some(news) = self.driver.poll() {
                match news {
                    News::Up => self.connected(),
                    News::Down => self.open.lost(),
                    News::Stomp(event) => self.on_event(event),
                }
            }
            let client = self.driver.client();
            if !client.is_some_and(|client| self.open.transmit(client)) {
                break;
            }
        }
        self.show_connection();
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Message {
                subscription, body, ..
            } => self.message(&subscription, &body),
            Event::Receipt { id } => self.open.receipt(&id),
            Event::Error {
                message, receipt, ..
            } => {
                let detail = Some(message);
                self.open.refused(&Problem {
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
        // It may be another one, gone over to beside the first.
        self.open.lost();
        self.open.is_other_epoch |= self.driver.is_other_epoch;
        self.followed = None;
        let Some(client) = self.driver.client() else {
            return;
        };
        client.subscribe(ERRORS, &Destination::Errors.to_string(), &[]);
        self.open.connected();
        self.follow_rooms();
        // What happened to rooms meanwhile comes from no log, so the list is read anew.
        if let Some(rooms) = self.rooms {
            let known = rooms.ids();
            if rooms.is_part {
                return;
            }
            leptos::task::spawn_local(async move {
                if let Ok(newer) = api::rooms().await {
                    rooms.renew(&known, newer);
                    with(|line| {
                        line.follow_rooms();
                        line.drain();
                    });
                }
            });
        }
    }

    /// Follows the rooms that are listed, and those that are made, unless it does so already.
    fn follow_rooms(&mut self) {
        let ids = self.rooms.map(Rooms::ids).unwrap_or_default();
        if let Some(client) = self.driver.client()
            && !self.followed.as_ref().is_some_and(|known| {
                // In whatever order.
                known.len() == ids.len() && ids.iter().all(|id| known.contains(id))
            })
        {
            let listed: Vec<_> = ids.iter().map(ToString::to_string).collect();
            let destination = Destination::Rooms.to_string();
            client.subscribe(ROOMS, &destination, &[("x-rooms", &listed.join(","))]);
            self.followed = Some(ids);
        }
    }

    fn message(&mut self, subscription: &str, body: &[u8]) {
        let Ok(body) = std::str::from_utf8(body) else {
            return;
        };
        match subscription {
            ERRORS => {
                if let Some(problem) = json::parse(body) {
                    self.open.refused(&problem);
                }
            }
            ROOMS => {
                if let (Some(rooms), Some(room)) = (self.rooms, json::parse::<ChatRoom>(body)) {
                    rooms.merge(vec![room]);
                    self.follow_rooms();
                }
            }
            room => self.open.message(room, body),
        }
    }

    fn show_connection(&mut self) {
        let standing = self.driver.standing();
        let is_settled = self.open.is_settled();
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
