//! Attacks the server's half: any octets in any pieces, and a driver that answers in any order. What it
//! says is STOMP of the version agreed on, RECEIPTs come in the order of the frames that asked, and
//! it ends once.

#![no_main]

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use shared::stomp::{
    Command, Decoder, Limits, Received, Version,
    server::{Config, Event, MessageIds, Session, SubscriptionKey, Ticket},
};

fn config() -> Config {
    Config {
        limits: Limits {
            frame_bytes_max: 1_024,
            connect_frame_bytes_max: 512,
            headers_max: 16,
            header_line_bytes_max: 128,
        },
        subscriptions_max: 4,
        prefetch_max: 8,
        transactions_max: 3,
        transaction_frames_max: 4,
        transaction_bytes_max: 256,
        ..Config::default()
    }
}

/// What the fuzzer decides, octet by octet; nothing more comes as 0.
struct Choices<'a>(std::slice::Iter<'a, u8>);

impl Choices<'_> {
    fn next(&mut self) -> usize {
        self.0.next().copied().unwrap_or(0).into()
    }
}

/// A driver that has not answered everything yet, and a client that reads.
struct Driver {
    session: Session,
    now: Duration,
    waiting: Vec<Ticket>,
    subscriptions: Vec<SubscriptionKey>,
    decoder: Decoder,
    closes: usize,
    /// The `receipt-id`s that were said, in order.
    receipts: Vec<String>,
}

impl Driver {
    fn drain(&mut self, choices: &mut Choices) {
        while let Some(event) = self.session.poll_event(self.now) {
            match event {
                Event::Subscribe {
                    ticket,
                    subscription,
                    replaced,
                    ..
                } => {
                    if let Some(replaced) = replaced {
                        assert_eq!(self.session.window(replaced), 0);
                    }
                    let ids = [
                        MessageIds::None,
                        MessageIds::InRest("room".into()),
                        MessageIds::Own("own".into()),
                        MessageIds::Kept("kept".into()),
                    ];
                    let ids = ids[choices.next() % 4].clone();
                    self.session.identify(subscription, ids);
                    self.subscriptions.push(subscription);
                    self.waiting.push(ticket);
                }
                Event::Send { ticket, .. } => self.waiting.push(ticket),
                Event::Commit { ticket, sends } => {
                    assert!(!sends.is_empty() && sends.len() <= 4);
                    assert!(self.session.is_committing());
                    self.waiting.push(ticket);
                }
                Event::Settled { positions, .. } => assert!(!positions.is_empty()),
                Event::Unsubscribe { subscription } => {
                    assert_eq!(self.session.window(subscription), 0);
                }
                Event::Connected { .. } | Event::Disconnect => {}
            }
        }
        while let Some(octets) = self.session.poll_transmit(self.now) {
            assert_eq!(self.closes, 0, "nothing is said after the close");
            self.hear(&octets);
        }
        if self.session.poll_close().is_some() {
            self.closes += 1;
            assert_eq!(self.closes, 1);
        }
        if let Some(at) = self.session.poll_timeout() {
            assert!(self.closes == 0, "nothing is due after the end: {at:?}");
        }
    }

    fn hear(&mut self, octets: &[u8]) {
        self.decoder.push(Bytes::copy_from_slice(octets));
        let received = self.decoder.poll().expect("what a server says is STOMP");
        let Some(Received::Frame(frame)) = received else {
            return;
        };
        if frame.command == Command::Connected {
            let version = frame.headers.get("version").and_then(Version::parse);
            assert_eq!(version, self.session.version());
            self.decoder.set_version(version.unwrap());
        }
        if frame.command == Command::Receipt {
            let id = frame.headers.get("receipt-id").expect("it names a frame");
            self.receipts.push(id.to_owned());
        }
        assert_eq!(self.decoder.poll(), Ok(None), "one frame at a time");
    }

    fn act(&mut self, choices: &mut Choices) {
        match choices.next() % 8 {
            0 | 1 if !self.waiting.is_empty() => {
                let ticket = self.waiting.remove(choices.next() % self.waiting.len());
                self.session.accept(ticket);
            }
            2 if !self.waiting.is_empty() => {
                let ticket = self.waiting.remove(choices.next() % self.waiting.len());
                self.session.pass_over(ticket);
            }
            3 if !self.waiting.is_empty() && choices.next().is_multiple_of(16) => {
                let ticket = self.waiting.remove(0);
                self.session.fail(Some(ticket), "no", "it cannot be");
            }
            4 | 5 if !self.subscriptions.is_empty() => {
                let index = choices.next() % self.subscriptions.len();
                let subscription = self.subscriptions[index];
                if self.session.window(subscription) > 0
                    && let Some(position) = self.session.position_next(subscription)
                {
                    let window = self.session.window(subscription);
                    let rest = b"destination:/d\n\n\0";
                    let frame = self.session.deliver(subscription, position, rest, self.now);
                    let frame = frame.expect("it is live").concat();
                    assert!(self.session.window(subscription) >= window.saturating_sub(1));
                    self.hear(&frame);
                }
            }
            6 => {
                self.now += Duration::from_secs(choices.next() as u64);
                self.session.handle_timeout(self.now);
            }
            _ => {}
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let [length, rest @ ..] = input else {
        return;
    };
    let (choices, octets) = rest.split_at(rest.len().min(usize::from(*length)));
    let mut choices = Choices(choices.iter());
    let mut decoder = Decoder::new(Limits::default());
    decoder.set_version(Version::V10);
    let mut driver = Driver {
        session: Session::new(Arc::new(config()), "s1".to_owned(), Duration::ZERO),
        now: Duration::ZERO,
        waiting: Vec::new(),
        subscriptions: Vec::new(),
        decoder,
        closes: 0,
        receipts: Vec::new(),
    };
    let input = Bytes::copy_from_slice(octets);
    let mut octets = Bytes::copy_from_slice(octets);
    while !octets.is_empty() {
        let piece = octets.split_to((choices.next() % 64 + 1).min(octets.len()));
        driver.session.handle_input(piece, driver.now);
        driver.drain(&mut choices);
        driver.act(&mut choices);
        driver.drain(&mut choices);
    }
    while let Some(ticket) = driver.waiting.pop() {
        driver.session.accept(ticket);
        driver.drain(&mut choices);
    }
    let mut asked = asked(input, driver.session.version()).into_iter();
    for receipt in &driver.receipts {
        let is_next = asked.any(|asked| asked == *receipt);
        assert!(is_next, "{receipt:?} was not asked for, or before another");
    }
});

/// The `receipt`s that a client asked for, in order.
fn asked(input: Bytes, version: Option<Version>) -> Vec<String> {
    let mut decoder = Decoder::new(config().limits);
    decoder.push(input);
    let mut asked = Vec::new();
    while let Ok(Some(received)) = decoder.poll() {
        if let Received::Frame(frame) = received {
            asked.extend(frame.headers.get("receipt").map(str::to_owned));
            if let Some(version) = version {
                decoder.set_version(version);
            }
        }
    }
    asked
}
