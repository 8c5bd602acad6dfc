//! What a session subscribes to, by which name, and how that ends.

use super::{
    super::server::{AckMode, Config, Event, MessageIds, SubscriptionKey},
    secs,
    session::{CONNECT_12, Subject, receipt, tickets},
};

#[test]
fn subscriptions_are_bounded_and_delivered_to_until_they_end() {
    let mut subject = Subject::with(Config {
        subscriptions_max: 2,
        ..Config::default()
    });
    subject.input(CONNECT_12);
    let events = subject.input(
        "SUBSCRIBE\nid:a\\cb\ndestination:/d\nreceipt:1\n\n\0SUBSCRIBE\nid:2\ndestination:/d\n\n\0",
    );
    let keys: Vec<SubscriptionKey> = events
        .iter()
        .filter_map(|event| match event {
            Event::Subscribe { subscription, .. } => Some(*subscription),
            _ => None,
        })
        .collect();
    let head = subject
        .session
        .deliver(keys[0], 0, b"rest", secs(1))
        .map(|parts| parts.concat());
    assert_eq!(
        head.as_deref(),
        Some(&b"MESSAGE\nsubscription:a\\cb\nrest"[..])
    );
    subject.said.clear();
    subject.accept(tickets(&events)[0]);
    assert_eq!(subject.said(), receipt("1"));
    let events = subject.input("UNSUBSCRIBE\nid:a\\cb\nreceipt:2\n\n\0");
    assert_eq!(
        events,
        [Event::Unsubscribe {
            subscription: keys[0]
        }]
    );
    assert_eq!(subject.said(), receipt("2"));
    assert_eq!(subject.session.deliver(keys[0], 0, b"rest", secs(1)), None);
    assert!(
        subject
            .session
            .deliver(keys[1], 0, b"rest", secs(1))
            .is_some()
    );
    let again = "SUBSCRIBE\nid:a\\cb\ndestination:/d\n\n\0";
    assert!(matches!(
        subject.input(again)[..],
        [Event::Subscribe { subscription, .. }] if subscription != keys[0]
    ));
    assert!(
        subject
            .input("SUBSCRIBE\nid:3\ndestination:/d\n\n\0")
            .is_empty()
    );
    assert!(subject.said().contains("too many subscriptions"));
    assert_eq!(subject.session.deliver(keys[1], 0, b"rest", secs(1)), None);
}

#[test]
fn in_1_0_a_subscription_without_id_is_known_by_its_destination() {
    let mut subject = Subject::connected("1.0");
    let events = subject.input("SUBSCRIBE\ndestination: /d \n\n\0");
    let [
        Event::Subscribe {
            subscription,
            destination,
            ..
        },
    ] = &events[..]
    else {
        panic!()
    };
    assert_eq!(destination, "/d");
    let parts = subject.session.deliver(*subscription, 0, b"rest", secs(1));
    assert_eq!(
        parts.map(|parts| parts.concat()).as_deref(),
        Some(&b"MESSAGE\nrest"[..])
    );
    let events = subject.input("SUBSCRIBE\ndestination:/d\nid:/d\n\n\0");
    assert!(
        matches!(events[..], [Event::Subscribe { .. }]),
        "an id is no destination"
    );
    let events = subject.input("UNSUBSCRIBE\ndestination:/d\n\n\0");
    assert_eq!(
        events,
        [Event::Unsubscribe {
            subscription: *subscription
        }]
    );
}

#[test]
fn to_unsubscribe_from_what_is_not_subscribed_is_passed_over() {
    for (version, header) in [
        ("1.2", "id:1"),
        ("1.1", "id:1"),
        ("1.0", "id:1"),
        ("1.0", "destination:/d"),
    ] {
        let mut subject = Subject::connected(version);
        let unsubscribe = |id| format!("UNSUBSCRIBE\n{header}\nreceipt:{id}\n\n\0");
        assert_eq!(subject.input(&unsubscribe("never")), []);
        assert_eq!(subject.said(), receipt("never"), "{version}");
        let subscribe = format!("SUBSCRIBE\n{header}\nreceipt:s\ndestination:/d\n\n\0");
        let events = subject.input(&subscribe);
        // Its turn among the RECEIPTs is that of its frame.
        let events_after = subject.input(&unsubscribe("once"));
        assert!(matches!(events_after[..], [Event::Unsubscribe { .. }]));
        assert_eq!(subject.input(&unsubscribe("twice")), []);
        assert_eq!(subject.said(), "");
        subject.accept(tickets(&events)[0]);
        let all = receipt("s") + &receipt("once") + &receipt("twice");
        assert_eq!(subject.said(), all, "{version}");
        let again = subject.input(&subscribe);
        assert!(matches!(
            again[..],
            [Event::Subscribe { replaced: None, .. }]
        ));
    }
}

#[test]
fn to_subscribe_again_at_the_same_destination_begins_anew() {
    for (version, header) in [
        ("1.2", "id:1"),
        ("1.1", "id:1"),
        ("1.0", "id:1"),
        ("1.0", "x:y"),
    ] {
        let mut subject = Subject::connected(version);
        let subscribe = |ack: &str, id: &str| {
            format!(
                "SUBSCRIBE\n{header}\nack:{ack}\nprefetch-count:2\nreceipt:{id}\ndestination:/d\n\n\0"
            )
        };
        let begin = |subject: &mut Subject, ack, id| {
            let events = subject.input(&subscribe(ack, id));
            let [
                Event::Subscribe {
                    ticket,
                    subscription,
                    replaced,
                    ..
                },
            ] = events[..]
            else {
                panic!("{events:?}")
            };
            let ids = MessageIds::Kept(format!("s1.{}", subscription.number()).into());
            subject.session.identify(subscription, ids);
            subject.accept(ticket);
            assert_eq!(subject.said(), receipt(id));
            (subscription, replaced)
        };
        let (first, replaced) = begin(&mut subject, "client", "1");
        assert_eq!(replaced, None);
        for position in 0..2 {
            let delivered = subject.session.deliver(first, position, b"\n\0", secs(1));
            assert!(delivered.is_some());
        }
        assert_eq!(subject.session.window(first), 0);
        // What was in flight of it is no more: the new one has its window, and counts anew.
        let (second, replaced) = begin(&mut subject, "client", "2");
        assert_eq!(replaced, Some(first), "{version} {header}");
        assert_eq!(subject.session.deliver(first, 2, b"\n\0", secs(1)), None);
        assert_eq!(subject.session.window(second), 2);
        assert_eq!(subject.session.position_next(second), Some(0));
        // A late ACK of what the first was sent is passed over; one of the second counts.
        let ack = |key: SubscriptionKey| match version {
            "1.2" => format!("ACK\nid:{}-0\nreceipt:a\n\n\0", key.number()),
            _ => format!(
                "ACK\nsubscription:1\nmessage-id:s1.{}-0\nreceipt:a\n\n\0",
                key.number()
            ),
        };
        assert_eq!(subject.input(&ack(first)), []);
        assert_eq!(subject.said(), receipt("a"));
        let delivered = subject.session.deliver(second, 0, b"\n\0", secs(1));
        assert!(delivered.is_some());
        assert!(matches!(
            &subject.input(&ack(second))[..],
            [Event::Settled { subscription, positions, .. }]
                if *subscription == second && positions[..] == [0]
        ));
        assert_eq!(subject.said(), receipt("a"));
        let (third, replaced) = begin(&mut subject, "auto", "3");
        assert_eq!(replaced, Some(second));
        assert_eq!(subject.session.ack_mode(third), Some(AckMode::Auto));
    }
}

#[test]
fn to_begin_anew_takes_no_room() {
    let mut subject = Subject::with(Config {
        subscriptions_max: 1,
        ..Config::default()
    });
    subject.input(CONNECT_12);
    for _ in 0..3 {
        let events = subject.input("SUBSCRIBE\nid:1\ndestination:/d\n\n\0");
        assert!(matches!(events[..], [Event::Subscribe { .. }]));
    }
    assert_eq!(subject.input("SUBSCRIBE\nid:2\ndestination:/d\n\n\0"), []);
    assert!(subject.said().contains("too many subscriptions"));
}
