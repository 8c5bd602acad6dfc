//! The page's connection, decided: which transport to use, when to open one, to try a better one
//! beside it, to give one up, to ask for a sign of life, and how it stands.
//!
//! Pure: the time comes with each call. [`Uplink::input`] takes what happened, and
//! [`Uplink::handle_timeout`] what is due by [`Uplink::poll_timeout`]; then [`Uplink::poll_output`]
//! gives what to do. Sockets and STOMP are the driver's.
//!
//! A transport is what has carried something: one that opens and brings no CONNECTED is given up like
//! one that does not open, and one that is tried beside a working one counts when the server has
//! answered there after CONNECTED.

use std::time::Duration;

use crate::reconnect::Reconnect;

/// For how long an attempt may be under way, up to CONNECTED; a stream for as long again once its
/// session is open. Browsers wait for minutes.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// The same for polling, which is the last resort: a slow network gets through by it.
const POLLING_WITHIN: Duration = Duration::from_secs(20);

/// The same beside a transport that works: nothing waits for it.
const PROBE_WITHIN: Duration = Duration::from_secs(10);

/// A better transport is tried after so long, then after ever longer.
const PROBE_FIRST: Duration = Duration::from_secs(5);
const PROBE_MAX: Duration = Duration::from_secs(300);

/// Where room for a stream has come up, it is tried soon.
const PROBE_SOON: Duration = Duration::from_secs(1);

/// What stood for so long works here, whatever ends it.
const STOOD_LONG: Duration = Duration::from_secs(60);

/// After so many short lives in a row another transport is begun with.
const SHORT_LIVES_MAX: u8 = 3;

/// Whether the machine slept is looked at so often.
const TICK: Duration = Duration::from_secs(1);

/// How much later than asked a call shows that nothing could run meanwhile.
const LATE_MIN: Duration = Duration::from_secs(2);

/// For so long what was known last is shown, while an answer is on its way.
const DOUBT_AFTER: Duration = Duration::from_millis(500);

/// An attempt that is older is begun anew when the network or the reader is back: it may be from
/// before.
const ATTEMPT_FRESH: Duration = Duration::from_secs(2);

/// How octets travel; the better ones first.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Transport {
    WebSocket,
    /// SockJS's `eventsource` and `xhr_send`.
    Stream,
    /// SockJS's `xhr` and `xhr_send`: for proxies that hold a stream back until it ends.
    Polling,
}

const TRANSPORTS: [Transport; 3] = [Transport::WebSocket, Transport::Stream, Transport::Polling];

/// Names a connection, or the attempt at one, for the page's life.
pub(crate) type Link = u32;

/// What happened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Input {
    /// The transport is open; nothing is proven by that.
    Opened(Link),
    /// CONNECTED has come.
    Connected(Link),
    /// The server has answered an [`Output::Ask`].
    Alive(Link),
    /// It ended, or was given up.
    Lost(Link),
    /// The network has changed, or the page is looked at again: what is known may be old.
    Woken,
    /// Whether other tabs hold as many requests open as the browser has room for.
    Crowded(bool),
}

/// What to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Output {
    Open(Link, Transport),
    Close(Link),
    /// Ask the server for a sign of life.
    Ask(Link),
    /// Go on over this one.
    Use(Link),
}

/// How the connection stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Standing {
    /// The page's first attempts.
    Connecting,
    Up(Transport),
    /// It is there, but nobody knows whether it still carries anything.
    Checking,
    Lost,
}

pub(crate) struct Uplink {
    /// In 0..1, drawn once: spreads the pages of a server that was away.
    chance: f64,
    /// The transport that a round of attempts begins with.
    first: Transport,
    /// How many transports the round has come to.
    tried: usize,
    current: Option<Attempt>,
    /// One that is tried beside the current one.
    probe: Option<Attempt>,
    links: Link,
    retry_at: Option<Duration>,
    probe_at: Option<Duration>,
    probe_wait: Duration,
    reconnect: Reconnect,
    short_lives: u8,
    is_crowded: bool,
    /// Since when what is known may be old.
    doubted_at: Option<Duration>,
    checked_at: Duration,
    was_lost: bool,
    outputs: Vec<Output>,
}

/// A connection from its first octet on.
#[derive(Clone, Copy, Debug)]
struct Attempt {
    link: Link,
    transport: Transport,
    begun_at: Duration,
    /// When it is given up.
    by: Option<Duration>,
    connected_at: Option<Duration>,
    /// It has carried something there and back since CONNECTED.
    is_proven: bool,
}

impl Uplink {
    /// Begins with the transport that worked last. `chance` is a random number in 0..1.
    pub(crate) fn new(first: Transport, chance: f64, now: Duration) -> Self {
        let mut uplink = Uplink {
            chance,
            first,
            tried: 0,
            current: None,
            probe: None,
            links: 0,
            retry_at: None,
            probe_at: None,
            probe_wait: PROBE_FIRST,
            reconnect: Reconnect::default(),
            short_lives: 0,
            is_crowded: false,
            doubted_at: None,
            checked_at: now,
            was_lost: false,
            outputs: Vec::new(),
        };
        uplink.begin(now);
        uplink
    }

    /// Takes what happened. Of a link that is no more nothing matters.
    pub(crate) fn input(&mut self, input: Input, now: Duration) {
        self.check(now);
        match input {
            Input::Opened(link) => {
                if let Some(current) = self.current.as_mut().filter(|known| known.link == link)
                    && current.transport == Transport::Stream
                {
                    current.by = Some(now + CONNECT_WITHIN);
                }
            }
            Input::Connected(link) => self.connected(link, now),
            Input::Alive(link) => self.alive(link, now),
            Input::Lost(link) if is(&self.current, link) => self.lost(now),
            Input::Lost(link) if is(&self.probe, link) => self.next_probe(now),
            Input::Lost(_) => {}
            Input::Woken => self.woken(now),
            Input::Crowded(is_crowded) if is_crowded != self.is_crowded => {
                self.is_crowded = is_crowded;
                self.make_room(now);
            }
            Input::Crowded(_) => {}
        }
    }

    /// Does what is due.
    pub(crate) fn handle_timeout(&mut self, now: Duration) {
        self.check(now);
        let is_due = |at: Option<Duration>| at.is_some_and(|at| at <= now);
        if is_due(self.current.and_then(|current| current.by)) {
            self.lost(now);
        }
        if is_due(self.probe.and_then(|probe| probe.by)) {
            self.next_probe(now);
        }
        if is_due(self.retry_at) {
            self.begin(now);
        }
        if is_due(self.probe_at) {
            self.probe(Transport::WebSocket, now);
        }
    }

    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        (!self.outputs.is_empty()).then(|| self.outputs.remove(0))
    }

    /// When to call [`Uplink::handle_timeout`].
    pub(crate) fn poll_timeout(&self) -> Option<Duration> {
        let mut due = sooner(self.retry_at, self.probe_at);
        for attempt in [&self.current, &self.probe].into_iter().flatten() {
            due = sooner(due, attempt.by);
        }
        if self.connected_link().is_some() {
            due = sooner(due, Some(self.checked_at + TICK));
        }
        let doubt = self.doubted_at.map(|at| at + DOUBT_AFTER);
        sooner(due, doubt.filter(|at| *at > self.checked_at))
    }

    pub(crate) fn standing(&self) -> Standing {
        let doubted_for = self.doubted_at.map(|at| self.checked_at.saturating_sub(at));
        let is_doubtful = doubted_for.is_some_and(|span| span >= DOUBT_AFTER);
        match self.current {
            Some(current) if current.connected_at.is_some() && is_doubtful => Standing::Checking,
            // One that makes room is not there for a moment, which is nothing to tell.
            Some(current)
                if current.connected_at.is_some() || (doubted_for.is_some() && !is_doubtful) =>
            {
                Standing::Up(current.transport)
            }
            _ if self.was_lost => Standing::Lost,
            _ => Standing::Connecting,
        }
    }

    /// Whether there was a connection that is not there any more, or none could be had at first.
    pub(crate) fn was_lost(&self) -> bool {
        self.was_lost
    }

    /// The transport that is begun with.
    pub(crate) fn first(&self) -> Transport {
        self.first
    }

    /// Whether a link is still wanted.
    pub(crate) fn wants(&self, link: Link) -> bool {
        is(&self.current, link) || is(&self.probe, link)
    }

    fn connected_link(&self) -> Option<Link> {
        let current = self.current?;
        current.connected_at.map(|_| current.link)
    }

    /// A call that comes much too late shows that the machine slept, or the page was held: whatever
    /// comes now may be from before.
    fn check(&mut self, now: Duration) {
        if self.poll_timeout().is_some_and(|due| now > due + LATE_MIN) {
            self.ask(now);
        }
        self.checked_at = now;
    }

    fn ask(&mut self, now: Duration) {
        if let Some(link) = self.connected_link()
            && self.doubted_at.is_none()
        {
            self.doubted_at = Some(now);
            self.outputs.push(Output::Ask(link));
        }
    }

    /// Begins a round: each transport in turn.
    fn begin(&mut self, now: Duration) {
        self.retry_at = None;
        self.tried = 0;
        self.attempt(now);
    }

    fn attempt(&mut self, now: Duration) {
        while self.tried < TRANSPORTS.len() {
            let index = (self.first as usize + self.tried) % TRANSPORTS.len();
            self.tried += 1;
            let transport = TRANSPORTS[index];
            if transport == Transport::Stream && self.is_crowded {
                continue;
            }
            let within = match transport {
                Transport::Polling => POLLING_WITHIN,
                _ => CONNECT_WITHIN,
            };
            self.current = Some(self.open(transport, within, now));
            return;
        }
        self.retry(now);
    }

    fn open(&mut self, transport: Transport, within: Duration, now: Duration) -> Attempt {
        self.links += 1;
        self.outputs.push(Output::Open(self.links, transport));
        Attempt {
            link: self.links,
            transport,
            begun_at: now,
            by: Some(now + within),
            connected_at: None,
            is_proven: false,
        }
    }

    fn retry(&mut self, now: Duration) {
        self.was_lost = true;
        self.retry_at = Some(now + self.reconnect.lost(now, self.chance));
    }

    fn connected(&mut self, link: Link, now: Duration) {
        for attempt in [&mut self.current, &mut self.probe] {
            if let Some(attempt) = attempt.as_mut().filter(|attempt| attempt.link == link) {
                attempt.connected_at = Some(now);
                self.outputs.push(Output::Ask(link));
            }
        }
        if is(&self.current, link) {
            self.go_on(now);
        }
    }

    /// Goes on over the current link, which is connected.
    fn go_on(&mut self, now: Duration) {
        let Some(current) = &mut self.current else {
            return;
        };
        current.by = None;
        self.doubted_at = None;
        self.reconnect.connected(now);
        self.probe_at =
            (current.transport != Transport::WebSocket).then_some(now + self.probe_wait);
        self.outputs.push(Output::Use(current.link));
    }

    fn alive(&mut self, link: Link, now: Duration) {
        if is(&self.probe, link)
            && let Some(mut probe) = self.probe.take()
        {
            probe.is_proven = true;
            self.first = probe.transport;
            let before = self.current.replace(probe);
            self.go_on(now);
            if let Some(before) = before {
                self.outputs.push(Output::Close(before.link));
            }
        } else if let Some(current) = self.current.as_mut().filter(|known| known.link == link) {
            current.is_proven = true;
            self.first = current.transport;
            self.doubted_at = None;
        }
    }

    /// The current link is gone, did not get through in time, or carries nothing.
    fn lost(&mut self, now: Duration) {
        let Some(lost) = self.close_current() else {
            return;
        };
        let was_asked = self.doubted_at.take().is_some();
        let Some(since) = lost.connected_at else {
            return self.attempt(now);
        };
        self.was_lost = true;
        self.probe_at = None;
        if now.saturating_sub(since) >= STOOD_LONG {
            self.short_lives = 0;
            self.probe_wait = PROBE_FIRST;
        } else if lost.is_proven && !was_asked {
            self.short_lives += 1;
            if self.short_lives >= SHORT_LIVES_MAX {
                self.short_lives = 0;
                self.first = TRANSPORTS[(lost.transport as usize + 1) % TRANSPORTS.len()];
            }
        }
        if let Some(probe) = self.probe.take() {
            let is_connected = probe.connected_at.is_some();
            self.current = Some(probe);
            self.tried = 0;
            if is_connected {
                self.go_on(now);
            }
        } else if !lost.is_proven {
            // Whatever it brought up to CONNECTED, it carries nothing.
            self.attempt(now);
        } else if was_asked {
            self.begin(now);
        } else {
            self.retry(now);
        }
    }

    fn close_current(&mut self) -> Option<Attempt> {
        let current = self.current.take()?;
        self.outputs.push(Output::Close(current.link));
        Some(current)
    }

    /// Tries a transport beside the current one.
    fn probe(&mut self, transport: Transport, now: Duration) {
        self.probe_at = None;
        self.probe = Some(self.open(transport, PROBE_WITHIN, now));
    }

    /// The probe has come to nothing: tries what else is better than what there is, else waits.
    fn next_probe(&mut self, now: Duration) {
        let Some(probe) = self.probe.take() else {
            return;
        };
        self.outputs.push(Output::Close(probe.link));
        let is_polling = self
            .current
            .is_some_and(|current| current.transport == Transport::Polling);
        if probe.transport == Transport::WebSocket && is_polling && !self.is_crowded {
            self.probe(Transport::Stream, now);
        } else {
            self.probe_wait = (self.probe_wait * 4).min(PROBE_MAX);
            self.probe_at = Some(now + self.probe_wait);
        }
    }

    fn woken(&mut self, now: Duration) {
        match self.current {
            Some(current) if current.connected_at.is_some() => {
                self.ask(now);
                self.probe_at = self.probe_at.map(|at| at.min(now + PROBE_FIRST));
            }
            Some(current) if now < current.begun_at + ATTEMPT_FRESH => {}
            _ => {
                self.close_current();
                self.begin(now);
            }
        }
    }

    /// Lets go of what holds a request open, or takes up what may do so again.
    fn make_room(&mut self, now: Duration) {
        let Some(current) = self
            .current
            .filter(|current| current.transport != Transport::WebSocket)
        else {
            return;
        };
        if !self.is_crowded {
            self.probe_at = self.probe_at.map(|at| at.min(now + PROBE_SOON));
            return;
        }
        if let Some(probe) = self.probe.take() {
            self.outputs.push(Output::Close(probe.link));
        }
        self.close_current();
        self.probe_at = None;
        // Polling comes last but for what the round began with.
        self.tried = TRANSPORTS.len() - self.first as usize;
        self.current = Some(self.open(Transport::Polling, POLLING_WITHIN, now));
        self.doubted_at = current.connected_at.map(|_| now);
    }
}

/// The earlier of two moments, of which neither may come.
pub(crate) fn sooner(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

fn is(attempt: &Option<Attempt>, link: Link) -> bool {
    attempt.is_some_and(|attempt| attempt.link == link)
}

#[cfg(test)]
mod tests;
