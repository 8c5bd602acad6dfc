//! BEGIN, COMMIT and ABORT.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::super::server::{Config, Event, MessageIds, Session, Ticket};

const NOW: Duration = Duration::ZERO;

struct Subject {
    session: Session,
}

impl Subject {
    fn with(config: Config) -> Self {
        let session = Session::new(Arc::new(config), "s1".to_owned(), NOW);
        let mut subject = Subject { session };
        subject.input("CONNECT\naccept-version:1.2\n\n\0");
        subject.said();
        subject
    }

    fn new() -> Self {
        Subject::with(Config::default())
    }

    fn input(&mut self, octets: &str) -> Vec<Event> {
        let octets = Bytes::copy_from_slice(octets.as_bytes());
        self.session.handle_input(octets, NOW);
        self.events()
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.session.poll_event(NOW)).collect()
    }

    fn said(&mut self) -> String {
        let octets: Vec<_> = std::iter::from_fn(|| self.session.poll_transmit(NOW)).collect();
        String::from_utf8(octets.concat())
            .unwrap()
            .replace('\0', "^")
    }
}

fn send(transaction: &str, body: &str) -> String {
    format!("SEND\ndestination:/d\ntransaction:{transaction}\n\n{body}\0")
}

/// The one COMMIT among events, with the bodies that it brings.
fn commit(events: &[Event]) -> (Ticket, Vec<String>) {
    let [Event::Commit { ticket, sends }] = events else {
        panic!("{events:?}")
    };
    let text = |body: &[u8]| String::from_utf8(body.to_vec()).unwrap();
    let bodies = sends.iter().map(|sent| text(&sent.body)).collect();
    (*ticket, bodies)
}

#[test]
fn what_is_sent_in_a_transaction_comes_at_its_commit_in_order() {
    let mut subject = Subject::new();
    let begin = "BEGIN\ntransaction:a\nreceipt:1\n\n\0BEGIN\ntransaction:b\n\n\0";
    assert!(subject.input(begin).is_empty());
    let sends = [send("a", "one"), send("b", "two"), send("a", "three")].concat();
    assert!(subject.input(&sends).is_empty());
    let asking = "SEND\ndestination:/d\ntransaction:a\nreceipt:2\n\nfour\0";
    assert!(subject.input(asking).is_empty());
    assert_eq!(
        subject.said(),
        "RECEIPT\nreceipt-id:1\n\n^RECEIPT\nreceipt-id:2\n\n^"
    );
    let events = subject.input("COMMIT\ntransaction:a\nreceipt:3\n\n\0");
    let (ticket, bodies) = commit(&events);
    assert_eq!(bodies, ["one", "three", "four"]);
    assert_eq!(subject.said(), "");
    // What comes after it waits for the answer.
    assert!(subject.input("SEND\ndestination:/d\n\nlater\0").is_empty());
    assert!(subject.session.is_backlogged());
    subject.session.accept(ticket);
    assert_eq!(subject.said(), "RECEIPT\nreceipt-id:3\n\n^");
    assert!(matches!(subject.events()[..], [Event::Send { .. }]));
    assert!(
        subject
            .input("ABORT\ntransaction:b\nreceipt:4\n\n\0")
            .is_empty()
    );
    assert_eq!(subject.said(), "RECEIPT\nreceipt-id:4\n\n^");
    // The name is free again.
    assert!(subject.input("BEGIN\ntransaction:a\n\n\0").is_empty());
    assert_eq!(subject.said(), "");
}

#[test]
fn a_refused_commit_acknowledges_nothing() {
    for is_refused in [false, true] {
        let mut subject = Subject::new();
        let events = subject.input("SUBSCRIBE\nid:s\ndestination:/d\nack:client\n\n\0");
        let [Event::Subscribe { subscription, .. }] = events[..] else {
            panic!()
        };
        let ids = MessageIds::Kept("x".into());
        subject.session.identify(subscription, ids);
        subject.session.deliver(subscription, 1, b"", NOW);
        let frames = [
            "BEGIN\ntransaction:t\n\n\0",
            "ACK\nid:0-1\ntransaction:t\nreceipt:a\n\n\0",
            &send("t", "x"),
            "COMMIT\ntransaction:t\nreceipt:c\n\n\0",
        ];
        let (ticket, _) = commit(&subject.input(&frames.concat()));
        assert_eq!(subject.said(), "RECEIPT\nreceipt-id:a\n\n^");
        if is_refused {
            subject.session.pass_over(ticket);
            assert!(subject.events().is_empty());
            assert_eq!(subject.said(), "");
            // It is still owed, and can be acknowledged.
            let events = subject.input("ACK\nid:0-1\n\n\0");
            assert!(matches!(events[..], [Event::Settled { .. }]));
        } else {
            subject.session.accept(ticket);
            assert!(matches!(subject.events()[..], [Event::Settled { .. }]));
            assert_eq!(subject.said(), "RECEIPT\nreceipt-id:c\n\n^");
        }
    }
}

#[test]
fn a_commit_of_nothing_to_send_needs_no_answer() {
    let mut subject = Subject::new();
    let frames = "BEGIN\ntransaction:t\n\n\0COMMIT\ntransaction:t\nreceipt:c\n\n\0";
    assert!(subject.input(frames).is_empty());
    assert_eq!(subject.said(), "RECEIPT\nreceipt-id:c\n\n^");
    assert!(!subject.session.is_committing());
}

#[test]
fn transactions_are_bounded() {
    let config = Config {
        transactions_max: 2,
        transaction_frames_max: 2,
        transaction_bytes_max: 100,
        ..Config::default()
    };
    let begin = |name| format!("BEGIN\ntransaction:{name}\n\n\0");
    let mut subject = Subject::with(config.clone());
    subject.input(&[begin("a"), begin("b")].concat());
    assert_eq!(subject.said(), "");
    subject.input(&begin("c"));
    assert!(subject.said().contains("too many transactions"));

    let mut subject = Subject::with(config.clone());
    subject.input(&[begin("a"), send("a", ""), send("a", "")].concat());
    assert_eq!(subject.said(), "");
    subject.input(&send("a", ""));
    assert!(subject.said().contains("transaction too large"));

    // "destination/dtransactiona" are 25 octets.
    for (length, is_refused) in [(75, false), (76, true)] {
        let mut subject = Subject::with(config.clone());
        subject.input(&[begin("a"), send("a", &"x".repeat(length))].concat());
        assert_eq!(subject.said().contains("too large"), is_refused, "{length}");
    }
}

#[test]
fn what_is_left_open_is_aborted_at_the_end() {
    let mut subject = Subject::new();
    let frames = [
        "BEGIN\ntransaction:t\n\n\0",
        &send("t", "x"),
        "DISCONNECT\nreceipt:d\n\n\0",
    ];
    assert_eq!(subject.input(&frames.concat()), [Event::Disconnect]);
    assert_eq!(subject.said(), "RECEIPT\nreceipt-id:d\n\n^");
    assert_eq!(subject.session.poll_close().unwrap().code, 1000);
}

#[test]
fn what_waits_in_a_transaction_keeps_no_input_alive() {
    let mut subject = Subject::new();
    let payload = Bytes::from(
        [
            &b"BEGIN\ntransaction:t\n\n\0"[..],
            send("t", "x").as_bytes(),
        ]
        .concat(),
    );
    subject.session.handle_input(payload.clone(), NOW);
    assert!(subject.events().is_empty());
    assert!(payload.is_unique());
}
