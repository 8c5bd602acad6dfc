//! Drives the page's connection: does what `uplink` decides, over the sockets of `transport`, and gives
//! what [`shared::stomp::client`] makes of what they bring. Sockets and timers are here; when to
//! connect, and over what, is not.

use std::time::Duration;

use leptos::{leptos_dom::helpers::TimeoutHandle, prelude::*};
use shared::stomp::client::{Client, Config, Event};
use wasm_bindgen::{JsCast, closure::Closure};

use crate::{
    browser::{self, host, now},
    crowd::Crowd,
    transport::{Heard, Report, Sign, Socket},
    uplink::{Input, Link, Output, Standing, Transport, Uplink, sooner},
};

/// Where the transport that worked last is kept, for this tab.
const TRANSPORT_KEY: &str = "transport";
const STREAM: &str = "stream";
const POLLING: &str = "polling";

/// The header by which the server tells who one is to a browser that keeps no cookies, and the key
/// under which it is kept where there is storage.
const GUEST: &str = "x-guest";

/// What the connection brings.
pub(crate) enum News {
    /// There is a connection, or another one: nothing is subscribed on it.
    Up,
    /// It is gone, with all that was subscribed.
    Down,
    Stomp(Event),
}

/// What the browser says of the page.
#[derive(Clone, Copy, Debug)]
pub(crate) enum PageSign {
    /// The network has changed, or the page is looked at again.
    Woken,
    /// Another tab has said something, or this one is hidden or seen.
    Others,
    Left,
}

pub(crate) struct Driver {
    uplink: Uplink,
    /// The one in use, and one that is tried beside it.
    sockets: Vec<Socket>,
    /// The one in use.
    main: Option<Link>,
    /// A stream that is opened once no poll is held: a tab holds one request at most.
    waiting: Option<Link>,
    crowd: Crowd,
    report: Report,
    on_timer: fn(),
    timer: Option<TimeoutHandle>,
    /// What this tab begins with the next time.
    remembered: Transport,
    /// Who one is, as the server has told it: shown at each CONNECT. A cookie counts more, and then it
    /// tells nothing.
    guest: Option<String>,
    /// By which course of the log what is shown is counted.
    epoch: Option<String>,
    /// Whether it is another one by now.
    pub(crate) is_other_epoch: bool,
}

impl Driver {
    /// Begins to connect. `report` and `on_timer` bring what happens back to [`Driver::take`] and
    /// [`Driver::handle_timeout`]; call [`Driver::poll`] until it gives nothing after each of them, and
    /// after all that is done with the [`Driver::client`].
    pub(crate) fn new(report: Report, on_timer: fn()) -> Self {
        let remembered = remembered();
        Driver {
            uplink: Uplink::new(remembered, js_sys::Math::random(), now()),
            sockets: Vec::new(),
            main: None,
            waiting: None,
            crowd: Crowd::new(),
            report,
            on_timer,
            timer: None,
            remembered,
            guest: browser::remembered(GUEST),
            epoch: None,
            is_other_epoch: false,
        }
    }

    /// The client of the connection in use.
    pub(crate) fn client(&mut self) -> Option<&mut Client> {
        let main = self.main?;
        self.socket(main)?.client.as_mut()
    }

    pub(crate) fn standing(&self) -> Standing {
        self.uplink.standing()
    }

    pub(crate) fn was_lost(&self) -> bool {
        self.uplink.was_lost()
    }

    /// Takes in what happened to a socket.
    pub(crate) fn take(&mut self, link: Link, sign: Sign) {
        let now = now();
        let rests = self.rests();
        let is_poll = matches!(sign, Sign::Answered { is_poll: true, .. });
        let Some(socket) = self.socket(link) else {
            return;
        };
        let heard = match sign {
            Sign::Open => Heard::Open,
            Sign::Data(data) => socket.read(&data),
            Sign::Ended => socket.go_on(),
            Sign::Answered { is_poll, text } => socket.answered(is_poll, text, rests, now),
        };
        if is_poll && let Some(stream) = self.waiting.take() {
            self.open(stream, Transport::Stream, now);
        }
        let guest = self.guest.clone();
        let Some(socket) = self.socket(link) else {
            return;
        };
        match heard {
            Heard::Nothing => {}
            Heard::Open => {
                // A session that was not asked for too long, as timers were held back, opens anew, and
                // goes on like a connection that was gone over to.
                let guest = guest.map(|guest| (GUEST.to_owned(), guest));
                let config = Config {
                    host: host(),
                    headers: guest.into_iter().collect(),
                    ..Config::default()
                };
                socket.client = Some(Client::new(config, now));
                self.uplink.input(Input::Opened(link), now);
            }
            Heard::Payloads(payloads) => {
                // They may have lain here since before the machine slept, which is noticed by this.
                self.uplink.handle_timeout(now);
                if let Some(client) = self.socket(link).and_then(|socket| socket.client.as_mut()) {
                    for payload in payloads {
                        client.handle_input(payload, now);
                    }
                }
            }
            Heard::Closed => self.uplink.input(Input::Lost(link), now),
        }
    }

    /// Takes in what the browser says of the page.
    pub(crate) fn note(&mut self, sign: PageSign) {
        match sign {
            PageSign::Left => self.crowd.leave(),
            PageSign::Others => self.look(false),
            PageSign::Woken => {
                // A page that was left may be back with all that it had.
                let standing = self.uplink.standing();
                self.look(matches!(standing, Standing::Up(by) if by != Transport::WebSocket));
                self.uplink.input(Input::Woken, now());
            }
        }
    }

    /// Does what is due.
    pub(crate) fn handle_timeout(&mut self) {
        let now = now();
        for socket in &mut self.sockets {
            if let Some(client) = &mut socket.client {
                client.handle_timeout(now);
            }
        }
        self.uplink.handle_timeout(now);
    }

    /// Gives what is new; when nothing is, all that was asked is done.
    pub(crate) fn poll(&mut self) -> Option<News> {
        let now = now();
        if self.crowd.is_due() {
            self.look(true);
        }
        loop {
            let (news, is_over) = match self.uplink.poll_output() {
                Some(output) => (self.perform(output, now), false),
                None => self.turn(now),
            };
            if news.is_some() {
                return news;
            }
            if is_over {
                self.set_timer(now);
                return None;
            }
        }
    }

    fn socket(&mut self, link: Link) -> Option<&mut Socket> {
        self.sockets.iter_mut().find(|socket| socket.link == link)
    }

    /// Takes one event from the clients, which may be news; or, where there is none, sends what they
    /// have. Whether there was none.
    fn turn(&mut self, now: Duration) -> (Option<News>, bool) {
        let rests = self.rests();
        for socket in &mut self.sockets {
            let link = socket.link;
            if let Some(client) = &mut socket.client {
                if let Some(event) = client.poll_event() {
                    let input = match &event {
                        Event::Connected { headers, .. } => {
                            if let Some(guest) = headers.get(GUEST) {
                                browser::remember(GUEST, guest);
                                self.guest = Some(guest.to_owned());
                            }
                            let epoch = headers.get("x-stream-epoch").map(str::to_owned);
                            let known = std::mem::replace(&mut self.epoch, epoch);
                            self.is_other_epoch |= known.is_some() && known != self.epoch;
                            Some(Input::Connected(link))
                        }
                        Event::Alive => Some(Input::Alive(link)),
                        // Nothing follows.
                        Event::Error { .. } | Event::Closed { .. } => Some(Input::Lost(link)),
                        Event::Message { .. } | Event::Receipt { .. } => None,
                    };
                    if let Some(input) = input {
                        self.uplink.input(input, now);
                    }
                    let is_main = self.main == Some(link);
                    return (is_main.then_some(News::Stomp(event)), false);
                }
                while let Some(frame) = client.poll_transmit(now) {
                    if !socket.kind.send(&frame) {
                        self.uplink.input(Input::Lost(link), now);
                        return (None, false);
                    }
                }
            }
            socket.request(rests, now);
        }
        (None, true)
    }

    /// Does what the uplink has decided.
    fn perform(&mut self, output: Output, now: Duration) -> Option<News> {
        match output {
            Output::Open(link, transport) => self.open(link, transport, now),
            Output::Close(link) => {
                self.sockets.retain(|socket| socket.link != link);
                if self.main == Some(link) {
                    self.main = None;
                    return Some(News::Down);
                }
            }
            Output::Ask(link) => {
                if let Some(client) = self.socket(link).and_then(|socket| socket.client.as_mut()) {
                    client.ask(now);
                }
            }
            Output::Use(link) => {
                self.main = Some(link);
                if self.uplink.standing() == Standing::Up(Transport::WebSocket) {
                    self.crowd.leave();
                    self.look(false);
                }
                return Some(News::Up);
            }
        }
        None
    }

    fn open(&mut self, link: Link, transport: Transport, now: Duration) {
        if transport != Transport::WebSocket {
            self.look(true);
        }
        if transport == Transport::Stream
            && let Some(polling) = self.sockets.iter_mut().find(|socket| socket.holds_poll())
        {
            self.waiting = Some(link);
            // The answer ends the poll.
            if let Some(client) = &mut polling.client {
                client.ask(now);
            }
        } else if self.uplink.wants(link) {
            match Socket::open(link, transport, now, self.report) {
                Some(socket) => self.sockets.push(socket),
                None => self.uplink.input(Input::Lost(link), now),
            }
        }
    }

    /// Whether no poll may be held: the room is others', or a stream's beside it.
    fn rests(&self) -> bool {
        let sessions = self.sockets.iter().filter(|socket| socket.is_session());
        self.crowd.is_crowded() || self.waiting.is_some() || sessions.count() > 1
    }

    /// Looks at the other tabs, as one of them or as one that is by now.
    fn look(&mut self, joins: bool) {
        self.crowd.look(joins);
        let is_crowded = self.crowd.is_crowded();
        self.uplink.input(Input::Crowded(is_crowded), now());
    }

    fn set_timer(&mut self, now: Duration) {
        let first = self.uplink.first();
        if std::mem::replace(&mut self.remembered, first) != first {
            remember(first);
        }
        if let Some(timer) = self.timer.take() {
            timer.clear();
        }
        let mut due = self.uplink.poll_timeout();
        for socket in &self.sockets {
            let client = socket.client.as_ref().and_then(Client::poll_timeout);
            due = sooner(due, sooner(client, socket.poll_timeout()));
        }
        let wait = due.map(|due| due.saturating_sub(now));
        self.timer = wait.and_then(|wait| set_timeout_with_handle(self.on_timer, wait).ok());
    }
}

fn remembered() -> Transport {
    match browser::session_item(TRANSPORT_KEY).as_deref() {
        Some(STREAM) => Transport::Stream,
        Some(POLLING) => Transport::Polling,
        _ => Transport::WebSocket,
    }
}

fn remember(transport: Transport) {
    let value = match transport {
        Transport::WebSocket => "",
        Transport::Stream => STREAM,
        Transport::Polling => POLLING,
    };
    browser::set_session_item(TRANSPORT_KEY, value);
}

/// Tells what the browser says of the page, for the page's life.
pub(crate) fn watch_page(tell: fn(PageSign)) {
    let closure = Closure::<dyn FnMut(web_sys::Event)>::new(move |event: web_sys::Event| {
        tell(match event.type_().as_str() {
            "pagehide" => PageSign::Left,
            "storage" => PageSign::Others,
            "visibilitychange" if document().hidden() => PageSign::Others,
            _ => PageSign::Woken,
        });
    });
    let (window, document) = (window(), document());
    let targets: [(&web_sys::EventTarget, &[&str]); 2] = [
        (
            &window,
            &["online", "offline", "pageshow", "pagehide", "storage"],
        ),
        (&document, &["visibilitychange", "resume"]),
    ];
    for (target, events) in targets {
        for event in events {
            // Fails for no event of these; without it the timers alone would tell.
            let _ =
                target.add_event_listener_with_callback(event, closure.as_ref().unchecked_ref());
        }
    }
    closure.forget();
}
