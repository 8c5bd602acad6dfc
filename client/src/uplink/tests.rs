//! The uplink in networks of all kinds, under a virtual clock.

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
    let log = told(Transport::WebSocket, FINE, &steps, 28_000);
    let attempts: Vec<_> = log
        .iter()
        .filter(|line| line.contains(" WebSocket ") || line.contains("Stream "))
        .collect();
    assert_eq!(
        attempts,
        [
            "0 WebSocket 1",
            "5500 WebSocket 2",
            "16000 WebSocket 3",
            "27000 Stream 4"
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
