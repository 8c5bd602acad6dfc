//! The server's half alone, spoken to in octets.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::{
    super::{
        Limits, Version,
        server::{Close, Config, Event, Session, Ticket},
    },
    secs,
};

pub(super) const CONNECT_12: &str = "CONNECT\naccept-version:1.2\n\n\0";

/// A session and all that it has said so far.
pub(super) struct Subject {
    pub(super) session: Session,
    now: Duration,
    pub(super) said: String,
    close: Option<Close>,
}

impl Subject {
    pub(super) fn new() -> Self {
        Subject::with(Config::default())
    }

    pub(super) fn with(config: Config) -> Self {
        let session = Session::new(Arc::new(config), "s1".to_owned(), Duration::ZERO);
        Subject {
            session,
            now: Duration::ZERO,
            said: String::new(),
            close: None,
        }
    }

    /// A session that is open in a version.
    pub(super) fn connected(version: &str) -> Self {
        let mut subject = Subject::new();
        subject.input(&format!("CONNECT\naccept-version:{version}\n\n\0"));
        subject.said.clear();
        subject
    }

    pub(super) fn input(&mut self, octets: &str) -> Vec<Event> {
        self.session
            .handle_input(Bytes::copy_from_slice(octets.as_bytes()), self.now);
        self.drain()
    }

    pub(super) fn drain(&mut self) -> Vec<Event> {
        let events = std::iter::from_fn(|| self.session.poll_event(self.now)).collect();
        while let Some(octets) = self.session.poll_transmit(self.now) {
            self.said.push_str(str::from_utf8(&octets).unwrap());
        }
        if let Some(close) = self.session.poll_close() {
            assert!(self.close.replace(close).is_none(), "closed twice");
        }
        events
    }

    pub(super) fn accept(&mut self, ticket: Ticket) {
        self.session.accept(ticket);
        self.drain();
    }

    pub(super) fn pass_over(&mut self, ticket: Ticket) {
        self.session.pass_over(ticket);
        self.drain();
    }

    fn fail(&mut self, ticket: Option<Ticket>) {
        self.session.fail(ticket, "no", "it cannot be");
        self.drain();
    }

    fn at(&mut self, now: Duration) {
        self.now = now;
        self.session.handle_timeout(now);
        self.drain();
    }

    pub(super) fn said(&mut self) -> String {
        std::mem::take(&mut self.said).replace('\0', "^")
    }

    fn close_code(&self) -> Option<u16> {
        self.close.as_ref().map(|close| close.code)
    }
}

pub(super) fn sends(receipts: &[&str]) -> String {
    let send = |receipt: &&str| format!("SEND\ndestination:/d\nreceipt:{receipt}\n\nx\0");
    receipts.iter().map(send).collect()
}

pub(super) fn tickets(events: &[Event]) -> Vec<Ticket> {
    let ticket = |event: &Event| match event {
        Event::Send { ticket, .. } | Event::Subscribe { ticket, .. } => Some(*ticket),
        _ => None,
    };
    events.iter().filter_map(ticket).collect()
}

pub(super) fn receipt(id: &str) -> String {
    format!("RECEIPT\nreceipt-id:{id}\n\n^")
}

#[test]
fn connect_agrees_on_a_version_and_heart_beats() {
    let connected = |version: &str, beat: &str| {
        let server = Config::default().server;
        format!("CONNECTED\nversion:{version}\nheart-beat:{beat}\nsession:s1\nserver:{server}\n\n^")
    };
    let cases = [
        (
            "CONNECT\naccept-version:1.0,1.1,1.2\nhost:h\n\n\0",
            "1.2",
            "10000,10000",
        ),
        (
            "STOMP\r\naccept-version: 1.1 , 1.0 ,9\r\n\r\n\0",
            "1.1",
            "10000,10000",
        ),
        (
            "\n\nCONNECT\naccept-version:1.0\nheart-beat:1,1\n\n\0",
            "1.0",
            "0,0",
        ),
        ("CONNECT\nlogin:a\\q\n\n\0", "1.0", "0,0"),
        ("CONNECT\nlogin:a\n\nskipped in 1.0\0", "1.0", "0,0"),
        (
            "CONNECT\naccept-version:1.2\nreceipt:none for CONNECT\n\n\0",
            "1.2",
            "10000,10000",
        ),
    ];
    for (octets, version, beat) in cases {
        let mut subject = Subject::new();
        let events = subject.input(octets);
        assert!(
            matches!(events[..], [Event::Connected { .. }]),
            "{octets:?}"
        );
        assert_eq!(subject.said(), connected(version, beat), "{octets:?}");
        assert_eq!(subject.session.version(), Version::parse(version));
        assert_eq!(subject.close, None);
    }
}

/// Feeds frames to a fresh session; gives the ERROR and checks that the session is over.
fn error_of(version: Option<&str>, octets: &str) -> String {
    let mut subject = version.map_or_else(Subject::new, Subject::connected);
    let after = "SEND\ndestination:/late\n\n\0";
    let events = subject.input(&[octets, after].concat());
    assert!(
        !events
            .iter()
            .any(|event| matches!(event, Event::Send { .. })),
        "{octets:?}: nothing is read after an ERROR"
    );
    let said = subject.said();
    assert!(said.starts_with("ERROR\n"), "{octets:?}: {said}");
    assert_eq!(said.matches('^').count(), 1, "{octets:?}: {said}");
    assert_eq!(subject.close_code(), Some(1002), "{octets:?}");
    assert_eq!(subject.session.poll_timeout(), None);
    subject.at(secs(1_000));
    assert!(subject.input("\n").is_empty());
    assert_eq!(subject.said(), "");
    said
}

#[test]
fn what_a_session_cannot_take_ends_it_with_an_error() {
    // The version, the frame, and what the ERROR must hold.
    let cases: &[(Option<&str>, &str, &[&str])] = &[
        (
            None,
            "SEND\ndestination:/d\nreceipt:r\\c\n\n\0",
            &["message:not connected\n", "SEND", "receipt-id:r\\c\n"],
        ),
        (
            None,
            "SHOUT:\\\n\n\0",
            &["message:unknown command\n", "\"SHOUT:\\\""],
        ),
        (
            None,
            "CONNECT\naccept-version:2.0\n\n\0",
            &["version:1.0,1.1,1.2\n", "CONNECT"],
        ),
        (
            None,
            "CONNECT\naccept-version:1.2\nheart-beat:x\n\n\0",
            &["heart-beat"],
        ),
        (
            None,
            "CONNECT\naccept-version:1.2\n\nbody\0",
            &["message:body not allowed\n"],
        ),
        (
            None,
            "CONNECT\ncontent-length:20000\n\n",
            &["message:frame too large\n", "16384"],
        ),
        (Some("1.2"), CONNECT_12, &["message:already connected\n"]),
        (
            Some("1.2"),
            "SHOUT\nreceipt:a:b\n\n\0",
            &["unknown command", "receipt-id:a\\cb\n"],
        ),
        (
            Some("1.2"),
            "MESSAGE\nreceipt:1\n\n\0",
            &["unknown command", "receipt-id:1\n"],
        ),
        (
            Some("1.2"),
            "SEND\nreceipt:1\n\nbody\0",
            &["missing header", "destination", "receipt-id:1\n"],
        ),
        (
            Some("1.2"),
            "SEND\ndestination:/d\ntransaction:t\nreceipt:1\n\n\0",
            &["no such transaction", "receipt-id:1\n"],
        ),
        (
            Some("1.2"),
            "SUBSCRIBE\nid:1\n\n\0",
            &["missing header", "destination"],
        ),
        (
            Some("1.1"),
            "SUBSCRIBE\ndestination:/d\n\n\0",
            &["missing header", " id"],
        ),
        (
            Some("1.0"),
            "SUBSCRIBE\n\n\0",
            &["missing header", "destination"],
        ),
        (
            Some("1.2"),
            "SUBSCRIBE\nid:1\ndestination:/d\nack:client\nprefetch-count:0\n\n\0",
            &["bad prefetch-count", "1 to 1000"],
        ),
        (
            Some("1.2"),
            "SUBSCRIBE\nid:1\ndestination:/d\nack:client\nprefetch-count:1001\n\n\0",
            &["bad prefetch-count", "1 to 1000"],
        ),
        (
            Some("1.0"),
            "SUBSCRIBE\nid:1\ndestination:/d\nack:client-individual\n\n\0",
            &["bad ack mode", "auto or client"],
        ),
        (
            Some("1.2"),
            "SUBSCRIBE\nid:1\ndestination:/d\nack:maybe\n\n\0",
            &["bad ack mode"],
        ),
        (
            Some("1.2"),
            "SUBSCRIBE\nid:1\ndestination:/d\n\nx\0",
            &["body not allowed", "SUBSCRIBE"],
        ),
        (
            Some("1.2"),
            "SUBSCRIBE\nid:1\ndestination:/d\n\n\0SUBSCRIBE\nid:1\ndestination:/e\n\n\0",
            &["subscription in use", "another destination"],
        ),
        (
            Some("1.0"),
            "SUBSCRIBE\nid:1\ndestination:/d\n\n\0SUBSCRIBE\nid:1\ndestination:/e\n\n\0",
            &["subscription in use", "another destination"],
        ),
        (
            Some("1.0"),
            "SUBSCRIBE\nid:a\rb\ndestination:/d\n\n\0",
            &["bad subscription id"],
        ),
        (
            Some("1.2"),
            "UNSUBSCRIBE\ndestination:/d\n\n\0",
            &["missing header"],
        ),
        (
            Some("1.2"),
            "ACK\nid:0-1\n\n\0",
            &["no such message", "ACK"],
        ),
        (
            Some("1.2"),
            "NACK\nid:x\n\n\0",
            &["no such message", "NACK"],
        ),
        (
            Some("1.2"),
            "ACK\nmessage-id:1\nsubscription:1\n\n\0",
            &["missing header", " id"],
        ),
        (
            Some("1.1"),
            "ACK\nmessage-id:1\n\n\0",
            &["missing header", "subscription"],
        ),
        (
            Some("1.1"),
            "ACK\nmessage-id:1\nsubscription:1\nreceipt:a\n\n\0",
            &["no such message", "receipt-id:a\n"],
        ),
        (Some("1.0"), "ACK\nmessage-id:1\n\n\0", &["no such message"]),
        (
            Some("1.0"),
            "NACK\nmessage-id:1\n\n\0",
            &["unknown command", "NACK"],
        ),
        (
            Some("1.2"),
            "BEGIN\nreceipt:b\n\n\0",
            &["missing header", "transaction", "receipt-id:b\n"],
        ),
        (
            Some("1.2"),
            "BEGIN\ntransaction:1\n\n\0BEGIN\ntransaction:1\nreceipt:b\n\n\0",
            &["transaction in use", "BEGIN", "receipt-id:b\n"],
        ),
        (
            Some("1.2"),
            "COMMIT\ntransaction:1\n\n\0",
            &["no such transaction", "COMMIT"],
        ),
        (
            Some("1.2"),
            "ABORT\ntransaction:1\n\n\0",
            &["no such transaction", "ABORT"],
        ),
        (
            Some("1.2"),
            "SEND\na:\\t\nreceipt:1\n\n\0",
            &["malformed frame", "SEND", "receipt-id:1\n"],
        ),
        (Some("1.1"), "SEND\na:\\r\n\n\0", &["malformed frame"]),
        (
            Some("1.2"),
            "SEND\ndestination:/d\ncontent-length:70000\nreceipt:1\n\n",
            &["frame too large", "65536", "receipt-id:1\n"],
        ),
    ];
    for (version, octets, expected) in cases {
        let error = error_of(*version, octets);
        for part in *expected {
            assert!(
                error.contains(part),
                "{octets:?}: {part:?} is not in {error}"
            );
        }
        assert!(error.contains("\ncontent-type:text/plain\n"), "{error}");
    }
}

#[test]
fn receipts_come_in_the_order_of_the_frames_that_asked() {
    let mut subject = Subject::connected("1.2");
    let mut events = subject.input(&sends(&["1", "2"]));
    events.extend(subject.input("SEND\ndestination:/d\n\nno receipt\0"));
    events.extend(subject.input("SUBSCRIBE\nid:1\ndestination:/d\nreceipt:3\n\n\0"));
    events.extend(subject.input("UNSUBSCRIBE\nid:1\nreceipt:4\n\n\0"));
    events.extend(subject.input(&sends(&["5", "6"])));
    let tickets = tickets(&events);
    let [one, two, unasked, three, five, six] = tickets[..] else {
        panic!()
    };
    assert_eq!(subject.session.receipt_of(two), Some("2"));
    assert_eq!(subject.session.receipt_of(unasked), None);
    for ticket in [two, unasked, six] {
        subject.accept(ticket);
    }
    assert_eq!(subject.said(), "", "they wait for the first");
    subject.accept(one);
    assert_eq!(subject.said(), receipt("1") + &receipt("2"));
    subject.accept(one);
    subject.pass_over(two);
    assert_eq!(subject.said(), "", "a ticket is answered once");
    subject.pass_over(five);
    assert_eq!(subject.said(), "");
    subject.accept(three);
    assert_eq!(subject.said(), receipt("3") + &receipt("4") + &receipt("6"));
    assert_eq!(subject.close, None);
}

#[test]
fn an_error_comes_after_the_receipts_of_earlier_frames() {
    let error = |receipt: &str, body: &str| {
        let length = body.len();
        format!(
            "ERROR\nmessage:no\ncontent-type:text/plain\n{receipt}content-length:{length}\n\n{body}^"
        )
    };
    let refused = "The SEND frame was refused: it cannot be.\n";
    let mut subject = Subject::connected("1.2");
    let events = subject.input(&sends(&["1", "2", "3"]));
    let [one, two, three] = tickets(&events)[..] else {
        panic!()
    };
    subject.accept(three);
    subject.fail(Some(two));
    assert_eq!(
        (subject.said(), subject.close_code()),
        (String::new(), None)
    );
    assert!(
        subject.input(&sends(&["4"])).is_empty(),
        "nothing more is read"
    );
    subject.accept(one);
    assert_eq!(
        subject.said(),
        receipt("1") + &error("receipt-id:2\n", refused)
    );
    assert_eq!(
        subject.close,
        Some(Close {
            code: 1002,
            reason: "no".to_owned()
        })
    );

    let mut subject = Subject::connected("1.2");
    let events = subject.input(&(sends(&["1", "2"]) + "SHOUT\n\n\0"));
    let [one, two] = tickets(&events)[..] else {
        panic!()
    };
    subject.accept(two);
    subject.fail(Some(one));
    assert_eq!(
        subject.said(),
        error("receipt-id:1\n", refused),
        "the earlier fault counts"
    );

    let mut subject = Subject::connected("1.2");
    subject.input(&sends(&["1"]));
    subject.fail(None);
    assert_eq!(
        subject.said(),
        error("", "it cannot be.\n"),
        "without a ticket it goes out at once"
    );
}

#[test]
fn disconnect_waits_for_what_was_asked_before() {
    for (octets, last) in [
        ("DISCONNECT\nreceipt:9\n\n\0", receipt("9")),
        ("DISCONNECT\n\n\0", String::new()),
    ] {
        let mut subject = Subject::connected("1.2");
        let sent = tickets(&subject.input(&sends(&["1", "2"])));
        assert_eq!(
            subject.input(&[octets, &sends(&["3"])].concat()),
            [Event::Disconnect]
        );
        assert!(
            subject.input("SHOUT\n\n\0").is_empty(),
            "what follows is ignored"
        );
        subject.accept(sent[1]);
        assert_eq!(
            (subject.said(), subject.close_code()),
            (String::new(), None)
        );
        subject.accept(sent[0]);
        assert_eq!(subject.said(), receipt("1") + &receipt("2") + &last);
        assert_eq!(subject.close_code(), Some(1000));
    }
}

#[test]
fn a_client_that_does_not_connect_is_closed() {
    let mut subject = Subject::new();
    assert_eq!(subject.session.poll_timeout(), Some(secs(10)));
    subject.input("\n\n\nCONN");
    subject.at(Duration::from_millis(9_999));
    assert_eq!(subject.close, None);
    subject.at(secs(10));
    assert_eq!(subject.close_code(), Some(4500));
    assert_eq!(subject.said(), "");
}

#[test]
fn a_silent_client_is_pinged_and_then_closed() {
    let beating = || {
        let mut subject = Subject::new();
        subject.input("CONNECT\naccept-version:1.2\nheart-beat:10000,20000\n\n\0");
        subject.said.clear();
        subject
    };
    let mut subject = beating();
    assert_eq!(subject.session.poll_timeout(), Some(secs(15)));
    assert!(!subject.session.wants_ping(secs(14)));
    subject.at(secs(15));
    assert_eq!(
        subject.session.poll_timeout(),
        Some(secs(20)),
        "the ping is not asked for again"
    );
    assert!(subject.session.wants_ping(secs(15)));
    assert!(!subject.session.wants_ping(secs(16)));
    subject.at(secs(20));
    assert_eq!(subject.said(), "\n", "a heart-beat, as nothing was sent");
    subject.at(Duration::from_millis(29_999));
    assert_eq!(subject.close, None);
    subject.at(secs(30));
    let close = subject.close.clone().unwrap();
    assert!(
        close.code == 4500 && close.reason.contains("heart-beat"),
        "{close:?}"
    );

    let mut subject = beating();
    for seconds in [29, 58, 87] {
        subject.at(secs(seconds));
        subject.session.handle_alive(secs(seconds));
    }
    subject.now = secs(100);
    subject.input("\n");
    subject.at(secs(129));
    assert_eq!(subject.close, None);
    subject.at(secs(130));
    assert_eq!(subject.close_code(), Some(4500));
}

#[test]
fn who_is_not_read_is_not_silent() {
    let mut subject = Subject::new();
    subject.input("CONNECT\naccept-version:1.2\nheart-beat:10000,0\n\n\0");
    subject
        .session
        .handle_input(Bytes::from(sends(&["1"])), secs(1));
    subject.session.handle_timeout(secs(100));
    assert!(subject.session.poll_close().is_none());
    assert_eq!(
        subject.session.poll_timeout(),
        Some(secs(115)),
        "the silence begins anew"
    );
}

#[test]
fn receipts_that_are_owed_are_bounded() {
    let mut subject = Subject::connected("1.2");
    let many: String = (0..2_000).map(|n| sends(&[&n.to_string()])).collect();
    let events = subject.input(&many);
    assert_eq!(events.len(), 1_024);
    assert!(subject.session.is_backlogged());
    let mut answered = 0;
    let mut open = tickets(&events);
    while let Some(ticket) = open.pop() {
        answered += 1;
        subject.session.accept(ticket);
        open.extend(tickets(&subject.drain()));
    }
    assert_eq!(answered, 2_000);
    assert!(!subject.session.is_backlogged());
    let said = subject.said();
    let expected: String = (0..2_000).map(|n| receipt(&n.to_string())).collect();
    assert_eq!(said, expected);
}

#[test]
fn a_full_input_asks_for_patience() {
    let mut subject = Subject::connected("1.2");
    let octets = Bytes::from(vec![b'\n'; 256 * 1024]);
    subject.session.handle_input(octets.slice(1..), secs(1));
    assert!(!subject.session.is_backlogged());
    subject.session.handle_input(octets.slice(..1), secs(1));
    assert!(subject.session.is_backlogged());
    subject.drain();
    assert!(!subject.session.is_backlogged());
}

#[test]
fn close_sends_what_is_queued_and_no_error() {
    let mut subject = Subject::connected("1.2");
    let sent = tickets(&subject.input(&sends(&["1", "2"])));
    subject.session.accept(sent[0]);
    subject.session.close(1012, &"가".repeat(100));
    subject.session.close(4500, "twice");
    subject.session.fail(Some(sent[1]), "late", "late");
    subject.drain();
    assert_eq!(subject.said(), receipt("1"));
    let close = subject.close.clone().unwrap();
    assert_eq!((close.code, close.reason), (1012, "가".repeat(41)));
}

#[test]
fn the_message_of_an_error_is_one_line() {
    for (version, expected) in [
        (Some("1.2"), "message:a b\\cc\\\\d\n"),
        (None, "message:a b;c/d\n"),
    ] {
        let mut subject = version.map_or_else(Subject::new, Subject::connected);
        subject.session.fail(None, "a\nb:c\\d", "");
        subject.drain();
        let said = subject.said();
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn frames_are_bounded_as_configured() {
    let limits = Limits {
        frame_bytes_max: 100,
        connect_frame_bytes_max: 50,
        ..Limits::default()
    };
    let config = Config {
        limits,
        ..Config::default()
    };
    let send = |octets: usize| {
        let frame = "SEND\ndestination:/d\n\n\0";
        frame.replace('\0', &("x".repeat(octets - frame.len()) + "\0"))
    };
    let mut subject = Subject::with(config);
    subject.input(CONNECT_12);
    assert_eq!(subject.input(&send(100)).len(), 1);
    assert!(subject.input(&send(101)).is_empty());
    assert_eq!(subject.close_code(), Some(1002));
}

#[test]
fn a_receipt_that_cannot_be_answered_is_refused() {
    let mut subject = Subject::new();
    subject.input("CONNECT\n\n\0SEND\ndestination:/d\nreceipt:a\rb\n\n\0");
    assert!(subject.said().contains("ERROR\nmessage:bad receipt\n"));
    assert_eq!(subject.close_code(), Some(1002));
}
