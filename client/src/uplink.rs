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

use std::{collections::VecDeque, time::Duration};

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
    outputs: VecDeque<Output>,
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
            outputs: VecDeque::new(),
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
        self.outputs.pop_front()
    }

    /// When to call [`Uplink::handle_timeout`].
    pub(crate) fn poll_timeout(&self) -> Option<Duration> {
        let tick = self.connected_link().map(|_| self.checked_at + TICK);
        let doubt = self.doubted_at.map(|at| at + DOUBT_AFTER);
        [
            self.current.and_then(|current| current.by),
            self.probe.and_then(|probe| probe.by),
            self.retry_at,
            self.probe_at,
            tick,
            doubt.filter(|at| *at > self.checked_at),
        ]
        .into_iter()
        .flatten()
        .min()
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
            self.outputs.push_back(Output::Ask(link));
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
        self.outputs.push_back(Output::Open(self.links, transport));
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
                self.outputs.push_back(Output::Ask(link));
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
        self.outputs.push_back(Output::Use(current.link));
    }

    fn alive(&mut self, link: Link, now: Duration) {
        if is(&self.probe, link)
            && let Some(mut probe) = self.probe.take()
        {
            probe.is_proven = true;
            self.first = probe.transport;
            let before = self.current.replace(probe);
            self.go_on(now);
            self.outputs
                .extend(before.map(|before| Output::Close(before.link)));
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
        self.outputs.push_back(Output::Close(current.link));
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
        self.outputs.push_back(Output::Close(probe.link));
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
            self.outputs.push_back(Output::Close(probe.link));
        }
        self.close_current();
        self.probe_at = None;
        // Polling comes last but for what the round began with.
        self.tried = TRANSPORTS.len() - self.first as usize;
        self.current = Some(self.open(Transport::Polling, POLLING_WITHIN, now));
        self.doubted_at = current.connected_at.map(|_| now);
    }
}

fn is(attempt: &Option<Attempt>, link: Link) -> bool {
    attempt.is_some_and(|attempt| attempt.link == link)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Path::{Connects, Opens, Refused, Silent, Works};

    /// What becomes of octets on their way.
    #[derive(Clone, Copy, Debug, Eq, PartialEq)]
    enum Path {
        /// Attempts end at once.
        Refused,
        /// Nothing comes, ever.
        Silent,
        /// It opens, then nothing comes.
        Opens,
        /// CONNECTED comes, then nothing.
        Connects,
        Works,
    }

    /// By WebSocket, stream and polling.
    type Net = [Path; 3];

    const FINE: Net = [Works; 3];
    /// The server is away, or the network.
    const AWAY: Net = [Refused; 3];
    const DEAD: Net = [Silent; 3];

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Net(Net),
        Input(Input),
        /// Every open connection ends.
        Cut,
        /// Nothing runs for so many milliseconds.
        Sleep(u64),
    }

    /// A driver of the uplink in a network, under a clock of its own, that writes down what it is told
    /// to do and how the connection stands.
    struct World {
        uplink: Uplink,
        now: Duration,
        net: Net,
        open: Vec<(Link, Transport)>,
        /// What will happen, and when.
        coming: Vec<(Duration, Input)>,
        standing: Standing,
        log: Vec<String>,
    }

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    impl World {
        fn new(first: Transport, net: Net) -> Self {
            let mut world = World {
                uplink: Uplink::new(first, 1.0, Duration::ZERO),
                now: Duration::ZERO,
                net,
                open: Vec::new(),
                coming: Vec::new(),
                standing: Standing::Connecting,
                log: Vec::new(),
            };
            world.perform();
            world
        }

        fn note(&mut self, what: &str) {
            self.log.push(format!("{} {what}", self.now.as_millis()));
        }

        /// A round trip takes 10 ms, and who is asked has 3 s.
        fn perform(&mut self) {
            while let Some(output) = self.uplink.poll_output() {
                let mut come = |after, input| self.coming.push((self.now + ms(after), input));
                match output {
                    Output::Open(link, transport) => {
                        self.open.push((link, transport));
                        let path = self.net[transport as usize];
                        match path {
                            Refused => come(10, Input::Lost(link)),
                            Silent => {}
                            Opens | Connects | Works => come(10, Input::Opened(link)),
                        }
                        if matches!(path, Connects | Works) {
                            come(20, Input::Connected(link));
                        }
                        self.note(&format!("{transport:?} {link}"));
                    }
                    Output::Close(link) => {
                        self.open.retain(|(open, _)| *open != link);
                        self.note(&format!("close {link}"));
                    }
                    Output::Ask(link) => {
                        let known = self.open.iter().find(|(open, _)| *open == link);
                        let (_, transport) = known.expect("only what is open is asked");
                        match self.net[*transport as usize] {
                            Works => come(10, Input::Alive(link)),
                            _ => come(3_000, Input::Lost(link)),
                        }
                    }
                    Output::Use(link) => self.note(&format!("use {link}")),
                }
                assert!(self.open.len() <= 2, "{:?}", self.log);
            }
            let standing = self.uplink.standing();
            if std::mem::replace(&mut self.standing, standing) != standing {
                let words = match standing {
                    Standing::Up(transport) => format!("up {transport:?}"),
                    other => format!("{other:?}"),
                };
                self.note(&words);
            }
        }

        /// Runs up to this moment; whatever is due at one comes in the order in which it was asked for.
        fn run(&mut self, until: Duration) {
            loop {
                self.perform();
                let coming = self.coming.iter().map(|(at, _)| *at).min();
                let due = self.uplink.poll_timeout();
                let next = [coming, due].into_iter().flatten().min();
                let Some(next) = next.filter(|at| *at <= until) else {
                    break;
                };
                self.now = self.now.max(next);
                let index = self.coming.iter().position(|(at, _)| *at <= self.now);
                match index {
                    Some(index) => {
                        let (_, input) = self.coming.remove(index);
                        self.uplink.input(input, self.now);
                    }
                    None => self.uplink.handle_timeout(self.now),
                }
                let due = self.uplink.poll_timeout();
                assert!(due.is_none_or(|due| due > self.now) || !self.coming.is_empty());
            }
            self.now = self.now.max(until);
        }

        fn step(&mut self, step: Step) {
            match step {
                Step::Net(net) => self.net = net,
                Step::Input(input) => self.uplink.input(input, self.now),
                Step::Cut => {
                    for (link, _) in self.open.clone() {
                        self.uplink.input(Input::Lost(link), self.now);
                    }
                }
                Step::Sleep(span) => {
                    self.now += ms(span);
                    self.uplink.handle_timeout(self.now);
                }
            }
            self.perform();
        }
    }

    /// Runs the steps at their milliseconds, and gives what was written down.
    fn told(first: Transport, net: Net, steps: &[(u64, Step)], until: u64) -> Vec<String> {
        let mut world = World::new(first, net);
        for (at, step) in steps {
            world.run(ms(*at));
            world.step(*step);
        }
        world.run(ms(until));
        world.log
    }

    #[test]
    fn a_transport_is_what_carries() {
        for (net, until, expected) in [
            (
                FINE,
                60_000,
                vec!["0 WebSocket 1", "20 use 1", "20 up WebSocket"],
            ),
            // Blocked at the handshake.
            (
                [Refused, Works, Works],
                4_000,
                vec![
                    "0 WebSocket 1",
                    "10 close 1",
                    "10 Stream 2",
                    "30 use 2",
                    "30 up Stream",
                ],
            ),
            // The 101 comes, or does not; nothing else does.
            (
                [Opens, Works, Works],
                9_000,
                vec![
                    "0 WebSocket 1",
                    "5000 close 1",
                    "5000 Stream 2",
                    "5020 use 2",
                    "5020 up Stream",
                ],
            ),
            (
                [Silent, Works, Works],
                9_000,
                vec![
                    "0 WebSocket 1",
                    "5000 close 1",
                    "5000 Stream 2",
                    "5020 use 2",
                    "5020 up Stream",
                ],
            ),
            // CONNECTED comes, then nothing.
            (
                [Connects, Works, Works],
                7_000,
                vec![
                    "0 WebSocket 1",
                    "20 use 1",
                    "20 up WebSocket",
                    "3020 close 1",
                    "3020 Stream 2",
                    "3020 Lost",
                    "3040 use 2",
                    "3040 up Stream",
                ],
            ),
            // A proxy holds the stream back, from its first octet or a later one.
            (
                [Refused, Silent, Works],
                9_000,
                vec![
                    "0 WebSocket 1",
                    "10 close 1",
                    "10 Stream 2",
                    "5010 close 2",
                    "5010 Polling 3",
                    "5030 use 3",
                    "5030 up Polling",
                ],
            ),
            (
                [Refused, Opens, Works],
                9_000,
                vec![
                    "0 WebSocket 1",
                    "10 close 1",
                    "10 Stream 2",
                    "5020 close 2",
                    "5020 Polling 3",
                    "5040 use 3",
                    "5040 up Polling",
                ],
            ),
            // Nothing works: it is said so, and tried again after growing waits.
            (
                AWAY,
                1_000,
                vec![
                    "0 WebSocket 1",
                    "10 close 1",
                    "10 Stream 2",
                    "20 close 2",
                    "20 Polling 3",
                    "30 close 3",
                    "30 Lost",
                    "530 WebSocket 4",
                    "540 close 4",
                    "540 Stream 5",
                    "550 close 5",
                    "550 Polling 6",
                    "560 close 6",
                ],
            ),
            // The same for a server that lets everybody in and nobody stay.
            (
                [Connects; 3],
                9_200,
                vec![
                    "0 WebSocket 1",
                    "20 use 1",
                    "20 up WebSocket",
                    "3020 close 1",
                    "3020 Stream 2",
                    "3020 Lost",
                    "3040 use 2",
                    "3040 up Stream",
                    "6040 close 2",
                    "6040 Polling 3",
                    "6040 Lost",
                    "6060 use 3",
                    "6060 up Polling",
                    "9060 close 3",
                    "9060 Lost",
                ],
            ),
        ] {
            assert_eq!(
                told(Transport::WebSocket, net, &[], until),
                expected,
                "{net:?}"
            );
        }
    }

    #[test]
    fn what_worked_last_is_begun_with_and_all_others_come_in_turn() {
        for (first, net, expected) in [
            (
                Transport::Stream,
                FINE,
                &["0 Stream 1", "20 use 1", "20 up Stream"][..],
            ),
            (
                Transport::Polling,
                FINE,
                &["0 Polling 1", "20 use 1", "20 up Polling"],
            ),
            (
                Transport::Polling,
                [Works, Refused, Refused],
                &[
                    "0 Polling 1",
                    "10 close 1",
                    "10 WebSocket 2",
                    "30 use 2",
                    "30 up WebSocket",
                ],
            ),
            (
                Transport::Stream,
                [Works, Refused, Refused],
                &[
                    "0 Stream 1",
                    "10 close 1",
                    "10 Polling 2",
                    "20 close 2",
                    "20 WebSocket 3",
                    "40 use 3",
                    "40 up WebSocket",
                ],
            ),
        ] {
            assert_eq!(told(first, net, &[], 4_000), expected, "{first:?} {net:?}");
        }
        // Over a lost connection, too: no WebSocket is waited for again.
        let steps = [(25_000, Step::Cut)];
        let net = [Silent, Works, Works];
        let log = told(Transport::WebSocket, net, &steps, 25_600);
        let after = log.iter().position(|line| line.starts_with("25000"));
        assert_eq!(
            log[after.unwrap()..],
            [
                "25000 close 2",
                "25000 Lost",
                "25500 Stream 4",
                "25520 use 4",
                "25520 up Stream"
            ]
        );
    }

    #[test]
    fn better_transports_are_tried_and_a_working_one_is_kept_until_they_carry() {
        for (first, net, until, expected) in [
            // It has only opened, or only connected: 10 s each, and ever rarer.
            (
                Transport::Stream,
                [Opens, Works, Works],
                60_000,
                vec![
                    "5020 WebSocket 2",
                    "15020 close 2",
                    "35020 WebSocket 3",
                    "45020 close 3",
                ],
            ),
            (
                Transport::Stream,
                [Connects, Works, Works],
                30_000,
                vec!["5020 WebSocket 2", "8040 close 2", "28040 WebSocket 3"],
            ),
            (
                Transport::Stream,
                [Refused, Works, Works],
                106_000,
                vec![
                    "5020 WebSocket 2",
                    "5030 close 2",
                    "25030 WebSocket 3",
                    "25040 close 3",
                    "105040 WebSocket 4",
                    "105050 close 4",
                ],
            ),
            // It carries: first it is gone over to, then the old one is let go.
            (
                Transport::Stream,
                FINE,
                400_000,
                vec![
                    "5020 WebSocket 2",
                    "5050 use 2",
                    "5050 close 1",
                    "5050 up WebSocket",
                ],
            ),
            // From polling, a stream is better than nothing.
            (
                Transport::Polling,
                [Refused, Works, Works],
                10_000,
                vec![
                    "5020 WebSocket 2",
                    "5030 close 2",
                    "5030 Stream 3",
                    "5060 use 3",
                    "5060 close 1",
                    "5060 up Stream",
                ],
            ),
            (
                Transport::Polling,
                [Opens, Opens, Works],
                46_000,
                vec![
                    "5020 WebSocket 2",
                    "15020 close 2",
                    "15020 Stream 3",
                    "25020 close 3",
                    "45020 WebSocket 4",
                ],
            ),
        ] {
            let mut log = told(first, net, &[], until);
            assert_eq!(log.drain(..3).count(), 3);
            assert_eq!(log, expected, "{first:?} {net:?}");
        }
    }

    #[test]
    fn who_loses_the_working_one_while_another_is_tried_goes_on_with_that() {
        let mut world = World::new(Transport::Stream, [Silent, Works, Works]);
        world.run(ms(6_000));
        world.log.clear();
        world.step(Step::Input(Input::Lost(1)));
        world.step(Step::Input(Input::Connected(2)));
        world.step(Step::Input(Input::Alive(2)));
        assert_eq!(
            world.log,
            [
                "6000 close 1",
                "6000 Lost",
                "6000 use 2",
                "6000 up WebSocket"
            ]
        );
        // One that is connected, but has not answered yet.
        let mut world = World::new(Transport::Stream, [Silent, Works, Works]);
        world.run(ms(6_000));
        world.log.clear();
        world.step(Step::Input(Input::Connected(2)));
        world.step(Step::Input(Input::Lost(1)));
        assert_eq!(
            world.log,
            ["6000 close 1", "6000 use 2", "6000 up WebSocket"]
        );
        // One that comes to nothing: each transport in turn.
        let mut world = World::new(Transport::Stream, [Silent, Works, Works]);
        world.run(ms(6_000));
        world.log.clear();
        world.step(Step::Input(Input::Lost(1)));
        world.run(ms(16_000));
        assert_eq!(
            world.log,
            [
                "6000 close 1",
                "6000 Lost",
                "15020 close 2",
                "15020 Stream 3",
                "15040 use 3",
                "15040 up Stream"
            ]
        );
    }

    #[test]
    fn after_sleep_or_a_change_of_the_network_the_truth_is_known_within_five_seconds() {
        const WOKEN: Step = Step::Input(Input::Woken);
        for (name, steps, expected) in [
            ("alive", &[(90_000, WOKEN)][..], &[][..]),
            ("slept, and alive", &[(90_000, Step::Sleep(3_600_000))], &[]),
            (
                "dead",
                &[(90_000, Step::Net(DEAD)), (91_000, WOKEN)],
                &[
                    "91500 Checking",
                    "94000 close 1",
                    "94000 WebSocket 2",
                    "94000 Lost",
                ],
            ),
            (
                "dead, asked again and again",
                &[
                    (90_000, Step::Net(DEAD)),
                    (91_000, WOKEN),
                    (92_000, WOKEN),
                    (93_000, WOKEN),
                ],
                &[
                    "91500 Checking",
                    "94000 close 1",
                    "94000 WebSocket 2",
                    "94000 Lost",
                ],
            ),
            (
                "slept, and dead",
                &[(90_000, Step::Net(DEAD)), (90_000, Step::Sleep(7_000))],
                &[
                    "97500 Checking",
                    "100000 close 1",
                    "100000 WebSocket 2",
                    "100000 Lost",
                ],
            ),
            (
                "dead, then there again",
                &[
                    (90_000, Step::Net(DEAD)),
                    (91_000, WOKEN),
                    (93_000, Step::Net(FINE)),
                ],
                &[
                    "91500 Checking",
                    "94000 close 1",
                    "94000 WebSocket 2",
                    "94000 Lost",
                    "94020 use 2",
                    "94020 up WebSocket",
                ],
            ),
            (
                "lost, and woken before the next attempt is due",
                &[(90_000, Step::Cut), (90_100, WOKEN)],
                &[
                    "90000 close 1",
                    "90000 Lost",
                    "90100 WebSocket 2",
                    "90120 use 2",
                    "90120 up WebSocket",
                ],
            ),
            (
                "an attempt from before is begun anew",
                &[
                    (90_000, Step::Net(DEAD)),
                    (90_000, Step::Cut),
                    (92_499, Step::Net(FINE)),
                    (92_500, WOKEN),
                ],
                &[
                    "90000 close 1",
                    "90000 Lost",
                    "90500 WebSocket 2",
                    "92500 close 2",
                    "92500 WebSocket 3",
                    "92520 use 3",
                    "92520 up WebSocket",
                ],
            ),
            (
                "a fresh one is left alone",
                &[
                    (90_000, Step::Net(DEAD)),
                    (90_000, Step::Cut),
                    (92_400, WOKEN),
                ],
                &["90000 close 1", "90000 Lost", "90500 WebSocket 2"],
            ),
        ] {
            let until = steps.last().unwrap().0 + 11_000;
            let mut log = told(Transport::WebSocket, FINE, steps, until);
            // What comes of a dead network then is told elsewhere.
            log.drain(..3);
            let cut = log.iter().position(|line| line.contains("Stream"));
            log.truncate(cut.map_or(log.len(), |at| at - 1));
            assert_eq!(log, expected, "{name}");
        }
    }

    #[test]
    fn whatever_lay_unread_is_no_answer() {
        // The first thing that runs after sleep is a message from before.
        let mut world = World::new(Transport::WebSocket, FINE);
        world.run(ms(90_000));
        world.log.clear();
        world.net = DEAD;
        world.now += ms(600_000);
        world.uplink.handle_timeout(world.now);
        world.perform();
        world.run(ms(694_000));
        assert_eq!(
            world.log[..4],
            [
                "690500 Checking",
                "693000 close 1",
                "693000 WebSocket 2",
                "693000 Lost"
            ]
        );
    }

    #[test]
    fn what_dies_young_again_and_again_is_not_begun_with() {
        let steps = [(5_000, Step::Cut), (15_000, Step::Cut), (25_000, Step::Cut)];
        let log = told(Transport::WebSocket, FINE, &steps, 26_000);
        let attempts: Vec<_> = log
            .iter()
            .filter(|line| line.contains(" WebSocket ") || line.contains("Stream "))
            .collect();
        assert_eq!(
            attempts,
            [
                "0 WebSocket 1",
                "5500 WebSocket 2",
                "15500 WebSocket 3",
                "25500 Stream 4"
            ]
        );
        // What stood for a minute works here.
        let steps = [5_000, 15_000, 80_000, 90_000].map(|at| (at, Step::Cut));
        let log = told(Transport::WebSocket, FINE, &steps, 92_000);
        assert!(!log.iter().any(|line| line.contains("Stream")), "{log:?}");
    }

    #[test]
    fn where_it_is_crowded_no_request_is_held() {
        const CROWDED: Step = Step::Input(Input::Crowded(true));
        const ROOM: Step = Step::Input(Input::Crowded(false));
        let blocked = [Refused, Works, Works];
        for (name, net, steps, until, expected) in [
            (
                "a WebSocket is none of it",
                FINE,
                &[(90, CROWDED)][..],
                9_000,
                &[][..],
            ),
            (
                "from the beginning",
                blocked,
                &[(0, CROWDED)],
                4_000,
                &["10 close 1", "10 Polling 2", "30 use 2", "30 up Polling"],
            ),
            (
                "a stream that is not there yet",
                [Refused, Silent, Works],
                &[(100, CROWDED)],
                4_000,
                &[
                    "10 close 1",
                    "10 Stream 2",
                    "100 close 2",
                    "100 Polling 3",
                    "120 use 3",
                    "120 up Polling",
                ],
            ),
            (
                "one that is there is let go first, and nothing is said",
                blocked,
                &[(100, CROWDED)],
                4_000,
                &[
                    "10 close 1",
                    "10 Stream 2",
                    "30 use 2",
                    "30 up Stream",
                    "100 close 2",
                    "100 Polling 3",
                    "100 up Polling",
                    "120 use 3",
                ],
            ),
            (
                "a WebSocket is tried all the same, and a stream where there is room",
                blocked,
                &[(100, CROWDED), (8_000, ROOM)],
                10_000,
                &[
                    "10 close 1",
                    "10 Stream 2",
                    "30 use 2",
                    "30 up Stream",
                    "100 close 2",
                    "100 Polling 3",
                    "100 up Polling",
                    "120 use 3",
                    "5120 WebSocket 4",
                    "5130 close 4",
                    "9000 WebSocket 5",
                    "9010 close 5",
                    "9010 Stream 6",
                    "9040 use 6",
                    "9040 close 3",
                    "9040 up Stream",
                ],
            ),
        ] {
            let mut log = told(Transport::WebSocket, net, steps, until);
            log.retain(|line| {
                line != "0 WebSocket 1" && !line.contains("use 1") && line != "20 up WebSocket"
            });
            assert_eq!(log, expected, "{name}");
        }
    }

    #[test]
    fn a_link_that_is_no_more_says_nothing() {
        let mut world = World::new(Transport::WebSocket, FINE);
        world.run(ms(30_000));
        world.log.clear();
        for link in [0, 2, 9] {
            for input in [
                Input::Opened(link),
                Input::Connected(link),
                Input::Alive(link),
                Input::Lost(link),
            ] {
                world.step(Step::Input(input));
            }
        }
        assert_eq!(world.log, [""; 0]);
    }
}
