//! BEGIN, COMMIT and ABORT.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::super::server::{Config, Event, MessageIds, Session, Ticket, TransactionBudget};

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

#[test]
fn a_transaction_that_is_open_for_too_long_ends_the_session() {
    let timeout = Config::default().transaction_timeout;
    let (before, second) = (timeout - Duration::from_millis(1), Duration::from_secs(1));
    let mut subject = Subject::with(Config {
        ping_interval: timeout * 10,
        ..Config::default()
    });
    subject.input("BEGIN\ntransaction:a\n\n\0");
    subject
        .session
        .handle_input("BEGIN\ntransaction:b\n\n\0".into(), second);
    while subject.session.poll_event(second).is_some() {}
    assert_eq!(subject.session.poll_timeout(), Some(timeout));
    // One that has ended in time does no harm.
    subject.session.handle_timeout(before);
    let frames = "COMMIT\ntransaction:a\n\n\0SEND\ndestination:/d\nreceipt:s\n\nx\0";
    let events = subject.input(frames);
    let [Event::Send { ticket, .. }] = events[..] else {
        panic!("{events:?}")
    };
    subject.session.handle_timeout(timeout);
    assert_eq!(subject.said(), "");
    let late = timeout + second;
    assert_eq!(subject.session.poll_timeout(), Some(late));
    subject.session.handle_timeout(late);
    // RECEIPTs of earlier frames go first.
    assert_eq!(subject.said(), "");
    subject.session.accept(ticket);
    let said = subject.said();
    assert!(said.starts_with("RECEIPT\nreceipt-id:s\n\n^ERROR\nmessage:transaction timed out\n"));
    assert!(said.contains("Transaction b was open for 60 s"), "{said}");
    assert_eq!(subject.session.poll_close().unwrap().code, 1002);
    assert_eq!(subject.session.poll_timeout(), None);
}

#[test]
fn a_transaction_whose_client_is_not_read_has_more_time() {
    let timeout = Config::default().transaction_timeout;
    let second = Duration::from_secs(1);
    let subject = || {
        let mut subject = Subject::with(Config {
            ping_interval: timeout * 100,
            ..Config::default()
        });
        subject.input("BEGIN\ntransaction:a\n\n\0SEND\ndestination:/d\ntransaction:a\n\nx\0");
        subject
    };
    // Held back until then, its COMMIT came in time.
    let mut waits = subject();
    waits.session.handle_unread(timeout - second);
    waits.session.handle_timeout(timeout + second);
    assert_eq!(waits.said(), "");
    let events = waits.input("COMMIT\ntransaction:a\n\n\0");
    assert!(matches!(events[..], [Event::Commit { .. }]), "{events:?}");
    // So does one that has come and was not handled.
    let mut buffered = subject();
    let frames = "SEND\ndestination:/d\n\nx\0COMMIT\ntransaction:a\n\n\0";
    buffered.session.handle_input(frames.into(), second);
    buffered.session.handle_timeout(timeout + second);
    assert_eq!(buffered.said(), "");
    // But not for ever.
    let mut never = subject();
    for now in 1..=700 {
        never.session.handle_unread(now * second);
        never.session.handle_timeout(now * second);
    }
    assert!(never.said().contains("transaction timed out"));
}

#[test]
fn what_all_open_transactions_hold_is_bounded() {
    let budget = Arc::new(TransactionBudget::new(4 << 20));
    let config = Config {
        transactions_budget: Arc::clone(&budget),
        ..Config::default()
    };
    // Frames that are small on the wire, and many times as large in memory.
    let headers: String = (0..60).map(|_| "a:\n").collect();
    let small = format!("SEND\ndestination:/d\ntransaction:t\n{headers}\n\0");
    let begin = "BEGIN\ntransaction:t\nreceipt:b\n\n\0";
    let (mut subjects, mut most) = (Vec::new(), 0);
    for number in 0..100 {
        let mut subject = Subject::with(config.clone());
        subject.input(begin);
        assert_eq!(subject.said(), "RECEIPT\nreceipt-id:b\n\n^", "{number}");
        let mut taken = 0;
        while subject.said().is_empty() && taken < 150 {
            subject.input(&small);
            taken += 1;
            most = most.max(budget.held());
        }
        // What is small passes, however much the others hold.
        assert!(taken > 40, "{number}: {taken}");
        subjects.push(subject);
    }
    assert!((2 << 20..=4 << 20).contains(&most), "{most}");
    drop(subjects);
    assert_eq!(budget.held(), 0);

    // It says so, to the frame that asked for more.
    let mut subject = Subject::with(config.clone());
    subject.input(begin);
    subject.said();
    let large = send("t", &"x".repeat(60_000)).replace("\n\n", "\nreceipt:r\n\n");
    let mut said = String::new();
    for _ in 0..17 {
        subject.input(&large);
        said = subject.said();
        if said.starts_with("ERROR") {
            break;
        }
    }
    assert!(
        said.starts_with("ERROR\nmessage:transactions too large\n"),
        "{said}"
    );
    assert!(said.contains("\nreceipt-id:r\n"), "{said}");
    assert_eq!(budget.held(), 0);
}

#[test]
fn what_a_commit_waits_with_counts_until_it_is_answered() {
    for is_stored in [true, false] {
        let budget = Arc::new(TransactionBudget::new(64 << 20));
        let mut subject = Subject::with(Config {
            transactions_budget: Arc::clone(&budget),
            ..Config::default()
        });
        subject.input("BEGIN\ntransaction:t\n\n\0");
        for _ in 0..10 {
            subject.input(&send("t", &"x".repeat(60_000)));
        }
        let held = budget.held();
        assert!(held >= 10 * 60_000 - (64 << 10), "{held}");
        let (ticket, _) = commit(&subject.input("COMMIT\ntransaction:t\n\n\0"));
        assert_eq!(budget.held(), held);
        if is_stored {
            subject.session.accept(ticket);
        } else {
            subject.session.pass_over(ticket);
        }
        assert_eq!(budget.held(), 0);
        subject.input("BEGIN\ntransaction:t\n\n\0");
        for _ in 0..10 {
            subject.input(&send("t", &"x".repeat(60_000)));
        }
        subject.input("ABORT\ntransaction:t\n\n\0");
        assert_eq!(budget.held(), 0);
    }
}

/// What one frame acknowledges in 1.0 may be in every subscription.
#[test]
fn acknowledgements_weigh_as_many_as_they_are() {
    let budget = Arc::new(TransactionBudget::new(64 << 20));
    let config = Config {
        transactions_budget: Arc::clone(&budget),
        ..Config::default()
    };
    let mut session = Session::new(Arc::new(config), "s1".to_owned(), NOW);
    let mut frames = String::from("CONNECT\n\n\0");
    for id in 0..128 {
        frames.push_str(&format!(
            "SUBSCRIBE\nid:{id}\ndestination:/d\nack:client\n\n\0"
        ));
    }
    session.handle_input(frames.into(), NOW);
    while let Some(event) = session.poll_event(NOW) {
        if let Event::Subscribe { subscription, .. } = event {
            session.identify(subscription, MessageIds::Kept("x".into()));
            session.deliver(subscription, 1, b"", NOW);
        }
    }
    let ack = "ACK\nmessage-id:x-1\ntransaction:t\n\n\0";
    let frames = format!("BEGIN\ntransaction:t\n\n\0{}", ack.repeat(1_000));
    session.handle_input(frames.into(), NOW);
    while session.poll_event(NOW).is_some() {}
    assert!(budget.held() > 2 << 20, "{}", budget.held());
}
