//! Scenarios of both halves.

use std::time::Duration;

use bytes::Bytes;

use super::{
    super::{
        HeartBeat, Version,
        client::{self, Client, Lost},
        message_rest, server,
    },
    pair::Pair,
    secs,
};

const PIECES: [usize; 5] = [0, 1, 2, 7, 4_096];

fn pair() -> Pair {
    Pair::new(server::Config::default(), client::Config::default())
}

/// A client that has been answered by a server of some kind, in octets.
fn client_after(connected: &str) -> Client {
    let mut client = Client::new(client::Config::default(), Duration::ZERO);
    client.handle_input(Bytes::copy_from_slice(connected.as_bytes()), Duration::ZERO);
    client
}

#[test]
fn a_whole_conversation_however_the_wire_cuts_it() {
    for piece in PIECES {
        let mut pair = pair();
        pair.piece = piece;
        pair.client
            .subscribe("a:1\\", "/topic/x", &[("receipt", "s")]);
        pair.settle();
        let [
            server::Event::Connected { .. },
            server::Event::Subscribe { subscription, .. },
        ] = pair.server_events[..]
        else {
            panic!("{:?}", pair.server_events)
        };
        pair.client.send(
            "/topic/x",
            &[("n", "1\n:")],
            Bytes::from_static(b"a\0b"),
            Some("m"),
        );
        pair.settle();
        let Some(server::Event::Send { sent, .. }) = pair.server_events.last() else {
            panic!()
        };
        let server::Sent {
            destination,
            headers,
            body,
        } = sent;
        assert_eq!(
            (destination.as_str(), headers.get("n")),
            ("/topic/x", Some("1\n:"))
        );
        assert_eq!(body[..], *b"a\0b");
        let mut rest = Vec::new();
        message_rest(
            &[("destination", "/topic/x"), ("message-id", "1")],
            body,
            &mut rest,
        )
        .unwrap();
        assert!(pair.deliver(subscription, &rest));
        let Some(client::Event::Message {
            subscription: id,
            headers,
            body,
        }) = pair.client_events.last()
        else {
            panic!()
        };
        assert_eq!(
            (id.as_str(), headers.get("message-id")),
            ("a:1\\", Some("1"))
        );
        assert_eq!(body[..], *b"a\0b");
        pair.client.unsubscribe("a:1\\");
        pair.client.disconnect("bye");
        pair.client
            .send("/topic/x", &[], Bytes::new(), Some("after DISCONNECT"));
        pair.settle();
        assert_eq!(pair.receipts(), ["s", "m", "bye"]);
        assert!(!pair.deliver(subscription, &rest));
        assert_eq!(pair.close.as_ref().map(|close| close.code), Some(1000));
        assert_eq!(
            (pair.client.poll_timeout(), pair.server.poll_timeout()),
            (None, None)
        );
    }
}

#[test]
fn heart_beats_keep_a_quiet_session_alive_for_hours() {
    for piece in PIECES {
        let mut pair = pair();
        pair.piece = piece;
        pair.run(secs(3 * 3_600));
        assert_eq!(pair.close, None);
        assert!(matches!(
            pair.client_events[..],
            [client::Event::Connected { .. }]
        ));
        assert_eq!(pair.beats, [1_080, 1_080], "one each in ten seconds");
    }
}

#[test]
fn what_is_sent_stands_in_for_a_heart_beat() {
    let mut pair = pair();
    pair.settle();
    for _ in 0..100 {
        pair.run(secs(9));
        pair.client.send("/d", &[], Bytes::new(), Some("r"));
        pair.settle();
    }
    assert_eq!(pair.beats, [0, 0]);
}

#[test]
fn intervals_are_agreed_on_per_direction() {
    // Client's offer, server's offer, and how many heart-beats go up and down in 100 seconds.
    let cases = [
        ((10_000, 10_000), (10_000, 10_000), [10, 10]),
        ((0, 0), (10_000, 10_000), [0, 0]),
        ((20_000, 0), (10_000, 10_000), [5, 0]),
        ((1, 50_000), (1, 10_000), [10, 2]),
        ((10_000, 10_000), (0, 0), [0, 0]),
    ];
    for ((send_ms, receive_ms), (server_send_ms, server_receive_ms), beats) in cases {
        let server_offer = HeartBeat {
            send_ms: server_send_ms,
            receive_ms: server_receive_ms,
        };
        let mut pair = Pair::new(
            server::Config {
                heart_beat: server_offer,
                ..server::Config::default()
            },
            client::Config {
                heart_beat: HeartBeat {
                    send_ms,
                    receive_ms,
                },
                ..client::Config::default()
            },
        );
        pair.run(secs(100));
        assert_eq!(
            pair.beats, beats,
            "{send_ms},{receive_ms} with {server_offer}"
        );
        assert_eq!(pair.close, None);
    }
}

#[test]
fn an_offer_is_two_numbers() {
    let offer = |send_ms, receive_ms| {
        Some(HeartBeat {
            send_ms,
            receive_ms,
        })
    };
    let cases = [
        ("10000,0", offer(10_000, 0)),
        (" 1 , 2 ", offer(1, 2)),
        ("99999999999,1", offer(u32::MAX, 1)),
        ("1", None),
        ("1,", None),
        ("-1,1", None),
        ("1,2,3", None),
        ("", None),
    ];
    for (text, expected) in cases {
        assert_eq!(HeartBeat::parse(text), expected, "{text:?}");
    }
}

#[test]
fn each_side_notices_that_the_other_is_lost() {
    let mut pair = pair();
    pair.run(secs(25));
    pair.is_wired = false;
    pair.run(secs(24));
    assert_eq!(pair.close, None);
    pair.run(secs(6));
    assert_eq!(pair.close.as_ref().map(|close| close.code), Some(4500));
    let lost = client::Event::Closed {
        reason: Lost::Silence,
    };
    assert_eq!(pair.client_events.last(), Some(&lost));
    assert_eq!(
        (pair.client.poll_timeout(), pair.server.poll_timeout()),
        (None, None)
    );
}

#[test]
fn a_page_whose_timers_are_held_back_keeps_its_session() {
    let mut pair = pair();
    pair.run(secs(5));
    pair.has_timers = false;
    for _ in 0..10 {
        // Once a minute the browser lets the timer come; between, only the socket's events do.
        pair.run(secs(60));
        pair.client.handle_timeout(pair.now);
        pair.settle();
    }
    assert_eq!(pair.close, None);
    let (first, rest) = pair.client_events.split_first().unwrap();
    assert!(matches!(first, client::Event::Connected { .. }));
    assert!(
        rest.iter().all(|event| *event == client::Event::Alive),
        "a late timer asks, and is answered"
    );
    assert!(
        pair.beats[0] >= 50,
        "a due heart-beat goes out when octets come in"
    );
}

/// What happens to a client that has asked at second 5, which hears these at these milliseconds.
fn asked(heard: &[(u64, &str)]) -> Vec<client::Event> {
    let mut client = client_after("CONNECTED\nversion:1.2\nheart-beat:10000,10000\n\n\0");
    client.poll_event();
    client.ask(secs(5));
    client.ask(secs(6));
    let mut heard = heard.iter().peekable();
    let end = secs(9);
    loop {
        while client.poll_transmit(secs(5)).is_some() {}
        let due = client.poll_timeout().filter(|due| *due <= end);
        let next = heard.peek().map(|(at, _)| Duration::from_millis(*at));
        match (next, due) {
            (Some(at), due) if due.is_none_or(|due| at < due) => {
                let (_, octets) = heard.next().unwrap();
                client.handle_input(Bytes::copy_from_slice(octets.as_bytes()), at);
            }
            (_, Some(due)) => client.handle_timeout(due),
            (_, None) => return std::iter::from_fn(|| client.poll_event()).collect(),
        }
    }
}

#[test]
fn who_is_asked_answers_or_is_lost() {
    use client::Event::{Alive, Closed, Receipt};
    const ANSWER: &str = "RECEIPT\nreceipt-id:sign-of-life\n\n\0";
    let lost = || Closed {
        reason: Lost::Silence,
    };
    let other = || Receipt { id: "1".to_owned() };
    for (heard, events) in [
        (vec![], vec![lost()]),
        (vec![(5_001, ANSWER)], vec![Alive]),
        (vec![(7_999, ANSWER)], vec![Alive]),
        (vec![(8_001, ANSWER)], vec![lost()]),
        // What may have lain there unread is no answer.
        (vec![(5_000, "\n"), (5_299, "\n")], vec![lost()]),
        (
            vec![(5_100, "RECEIPT\nreceipt-id:1\n\n\0")],
            vec![other(), lost()],
        ),
        (vec![(5_000, "\n"), (5_200, ANSWER)], vec![Alive]),
        // What came on its way since is one.
        (vec![(5_301, "\n")], vec![Alive]),
        (
            vec![(6_000, "RECEIPT\nreceipt-id:1\n\n\0")],
            vec![Alive, other()],
        ),
        (vec![(5_301, "\n"), (5_400, ANSWER)], vec![Alive]),
    ] {
        assert_eq!(asked(&heard), events, "{heard:?}");
    }
}

#[test]
fn a_server_answers_who_asks_however_often() {
    for piece in PIECES {
        let mut pair = pair();
        pair.piece = piece;
        pair.client.ask(pair.now);
        pair.settle();
        assert_eq!(pair.client_events.len(), 1, "nobody is asked too early");
        for _ in 0..40 {
            pair.client_events.clear();
            pair.client.ask(pair.now);
            pair.settle();
            assert_eq!(pair.client_events, [client::Event::Alive]);
        }
        assert_eq!((pair.server_events.len(), &pair.close), (1, &None));
    }
}

#[test]
fn an_answer_that_could_not_be_read_in_time_is_waited_for() {
    for (late_ms, is_lost) in [(0, true), (299, true), (301, false), (1_900, false)] {
        let mut client = client_after("CONNECTED\nversion:1.2\nheart-beat:10000,10000\n\n\0");
        client.poll_event();
        client.ask(secs(5));
        let late = secs(8) + Duration::from_millis(late_ms);
        client.handle_timeout(late);
        assert_eq!(client.poll_event().is_some(), is_lost, "{late_ms}");
        // Once, and by three seconds.
        client.handle_timeout(late + secs(3));
        assert_eq!(client.poll_event().is_some(), !is_lost, "{late_ms}");
    }
}

#[test]
fn a_client_that_slept_asks_and_knows_within_seconds() {
    for (wakes, answer_at, lost_at) in [
        (&[300][..], None, Some(303)),
        (&[12], None, Some(30)),
        (&[13], None, Some(16)),
        // Once in a silence, however often timers come late.
        (&[300, 360], None, Some(360)),
        (&[300], Some(302), None),
        (&[300, 360], Some(302), Some(363)),
    ] {
        let mut client = client_after("CONNECTED\nversion:1.2\nheart-beat:10000,10000\n\n\0");
        client.poll_event();
        client.poll_transmit(secs(0));
        let mut lost = None;
        let mut tell = |client: &mut Client, now| {
            while client.poll_transmit(now).is_some() {}
            while let Some(event) = client.poll_event() {
                if event != client::Event::Alive {
                    lost = Some(now);
                }
            }
        };
        for (index, wake) in wakes.iter().enumerate() {
            client.handle_timeout(secs(*wake));
            tell(&mut client, secs(*wake));
            if let Some(at) = answer_at.filter(|_| index == 0) {
                client.handle_input(Bytes::from_static(b"\n"), secs(at));
                tell(&mut client, secs(at));
            }
        }
        // From the last wake on timers come as they should, until the answer would have been heard.
        let end = answer_at.filter(|_| wakes.len() == 1).unwrap_or(1_000);
        while let Some(due) = client.poll_timeout().filter(|due| *due <= secs(end)) {
            client.handle_timeout(due);
            tell(&mut client, due);
        }
        assert_eq!(lost, lost_at.map(secs), "{wakes:?} {answer_at:?}");
    }
}

#[test]
fn a_server_that_does_not_answer_is_given_up() {
    let mut pair = pair();
    pair.is_wired = false;
    pair.run(secs(9));
    assert_eq!((&pair.close, pair.client_events.len()), (&None, 0));
    pair.run(secs(1));
    assert_eq!(
        pair.client_events,
        [client::Event::Closed {
            reason: Lost::NoConnected
        }]
    );
    assert_eq!(pair.close.as_ref().map(|close| close.code), Some(4500));
}

#[test]
fn receipts_keep_the_order_of_the_frames() {
    for piece in PIECES {
        let mut pair = pair();
        pair.piece = piece;
        pair.accepts = false;
        for receipt in ["1", "2", "3"] {
            pair.client.send("/d", &[], Bytes::new(), Some(receipt));
        }
        pair.settle();
        let [one, two, three] = pair.tickets()[..] else {
            panic!()
        };
        pair.server.accept(three);
        pair.server.accept(one);
        pair.settle();
        assert_eq!(pair.receipts(), ["1"]);
        pair.server.pass_over(two);
        pair.settle();
        assert_eq!(pair.receipts(), ["1", "3"]);
    }
}

#[test]
fn an_error_names_the_frame_by_its_receipt() {
    let mut pair = pair();
    pair.accepts = false;
    pair.client.send("/d", &[], Bytes::new(), Some("r:1\\"));
    pair.settle();
    let [ticket] = pair.tickets()[..] else {
        panic!()
    };
    pair.server
        .fail(Some(ticket), "no: such\nroom", "there is no such room");
    pair.settle();
    let expected = client::Event::Error {
        message: "no: such room".to_owned(),
        receipt: Some("r:1\\".to_owned()),
        body: Bytes::from_static(b"The SEND frame was refused: there is no such room.\n"),
    };
    assert_eq!(pair.client_events.last(), Some(&expected));
    assert_eq!(pair.close.as_ref().map(|close| close.code), Some(1002));
    pair.client.send("/d", &[], Bytes::new(), None);
    assert_eq!(
        pair.client.poll_transmit(pair.now),
        None,
        "a session that is over is silent"
    );
}

#[test]
fn a_client_understands_other_servers() {
    // What RabbitMQ, Spring's simple broker and a server of 1.0 say.
    let cases = [
        (
            "CONNECTED\nserver:RabbitMQ/3.12.1\nsession:session-x\nheart-beat:0,0\nversion:1.2\n\n\0\n",
            Version::V12,
        ),
        ("CONNECTED\nversion:1.1\nheart-beat:0,0\n\n\0", Version::V11),
        ("CONNECTED\nsession:x\n\n\0\n", Version::V10),
        (
            "\r\nCONNECTED\r\nversion:1.2\r\nheart-beat:odd\r\n\r\n\0\r\n",
            Version::V12,
        ),
    ];
    for (octets, expected) in cases {
        let mut client = client_after(octets);
        let event = client.poll_event();
        assert!(
            matches!(event, Some(client::Event::Connected { version, .. }) if version == expected),
            "{octets:?}: {event:?}"
        );
        assert_eq!(client.poll_timeout(), None, "no heart-beats were agreed");
    }
    let mut client = client_after("CONNECTED\n\n\0MESSAGE\ndestination:/d\nmessage-id:1\n\nx\0");
    client.poll_event();
    assert!(matches!(
        client.poll_event(),
        Some(client::Event::Message { subscription, .. }) if subscription == "/d"
    ));
    let mut client = client_after("ERROR\nmessage:no\\c\nversion:1.0\n\nwhy\0");
    assert!(matches!(
        client.poll_event(),
        Some(client::Event::Error { message, .. }) if message == "no\\c"
    ));
}

#[test]
fn a_server_that_breaks_the_protocol_is_given_up() {
    for octets in [
        "RECEIPT\nreceipt-id:1\n\n\0",
        "CONNECTED\nversion:1.3\n\n\0",
        "CONNECTED\n\n\0CONNECTED\n\n\0",
        "CONNECTED\n\n\0SEND\n\n\0",
        "CONNECTED\n\n\0MESSAGE\n\n\0",
        "<html>\n\n\0",
    ] {
        let mut client = client_after(octets);
        let last = std::iter::from_fn(|| client.poll_event()).last();
        assert!(
            matches!(
                last,
                Some(client::Event::Closed {
                    reason: Lost::Protocol(_)
                })
            ),
            "{octets:?}: {last:?}"
        );
    }
}

#[test]
fn connect_carries_what_is_configured() {
    let config = client::Config {
        host: "chat:8080".to_owned(),
        headers: vec![
            ("login".to_owned(), "a".to_owned()),
            ("passcode".to_owned(), "line\nend".to_owned()),
        ],
        ..client::Config::default()
    };
    let mut client = Client::new(config, Duration::ZERO);
    let connect = client.poll_transmit(Duration::ZERO).unwrap();
    assert_eq!(
        connect.escape_ascii().to_string(),
        "CONNECT\\naccept-version:1.0,1.1,1.2\\nhost:chat:8080\\nheart-beat:10000,10000\\nlogin:a\\n\\n\\x00"
    );
}

#[test]
fn the_driver_reads_connect_and_adds_to_connected() {
    let config = client::Config {
        headers: vec![("x-guest".to_owned(), "a+b/c=".to_owned())],
        ..client::Config::default()
    };
    let mut pair = Pair::new(server::Config::default(), config);
    let connect = pair.client.poll_transmit(pair.now).unwrap();
    pair.server.handle_input(connect, pair.now);
    let Some(server::Event::Connected { headers }) = pair.server.poll_event(pair.now) else {
        panic!()
    };
    assert_eq!(headers.get("x-guest"), Some("a+b/c="));
    pair.server.introduce("x-guest", "d=");
    pair.settle();
    let [client::Event::Connected { headers, .. }] = &pair.client_events[..] else {
        panic!("{:?}", pair.client_events)
    };
    assert_eq!(headers.get("x-guest"), Some("d="));
    assert_eq!(headers.get("session"), Some("s1"));
    // It is late for more, and nothing happens.
    pair.server.introduce("x-guest", "e=");
    pair.settle();
    assert_eq!(pair.client_events.len(), 1);
}

#[test]
fn what_a_client_acknowledges_in_a_transaction_counts_at_its_commit() {
    for piece in PIECES {
        let mut pair = pair();
        pair.piece = piece;
        pair.client.subscribe(
            "s",
            "/queue/x",
            &[("ack", "client-individual"), ("prefetch-count", "2")],
        );
        pair.settle();
        let [_, server::Event::Subscribe { subscription, .. }] = pair.server_events[..] else {
            panic!("{:?}", pair.server_events)
        };
        let ids = server::MessageIds::Kept("m".into());
        pair.server.identify(subscription, ids);
        let mut rest = Vec::new();
        message_rest(&[("destination", "/queue/x")], b"work", &mut rest).unwrap();
        assert!(pair.deliver(subscription, &rest) && pair.deliver(subscription, &rest));
        assert_eq!(pair.server.window(subscription), 0);
        let messages: Vec<_> = pair
            .client_events
            .iter()
            .filter_map(|event| match event {
                client::Event::Message { headers, .. } => Some(headers.clone()),
                _ => None,
            })
            .collect();
        pair.client.begin("t");
        pair.client.ack(&messages[0], Some("t"));
        pair.client.send(
            "/queue/done",
            &[("transaction", "t")],
            Bytes::from_static(b"done"),
            None,
        );
        pair.client.begin("u");
        pair.client.nack(&messages[1], Some("u"));
        pair.client.abort("u");
        pair.settle();
        assert_eq!(pair.server.window(subscription), 0);
        pair.client.commit("t", Some("c"));
        pair.settle();
        assert_eq!(pair.receipts(), ["c"]);
        assert_eq!(pair.server.window(subscription), 1);
        let [
            ..,
            server::Event::Commit { sends, .. },
            server::Event::Settled {
                positions, is_nack, ..
            },
        ] = &pair.server_events[..]
        else {
            panic!("{:?}", pair.server_events)
        };
        assert_eq!((sends.len(), &sends[0].body[..]), (1, &b"done"[..]));
        assert_eq!((&positions[..], *is_nack), (&[0][..], false));
    }
}
