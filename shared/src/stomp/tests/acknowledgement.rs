//! ACK and NACK: modes, windows, and what each version calls a message.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use proptest::prelude::*;

use super::super::server::{AckMode, Config, Event, MessageIds, Session, SubscriptionKey};

const NOW: Duration = Duration::ZERO;

/// A session in a version with one subscription, `s`.
struct Subject {
    session: Session,
    subscription: SubscriptionKey,
}

impl Subject {
    fn new(version: &str, subscribe: &str, message_ids: MessageIds) -> Self {
        let session = Session::new(Arc::new(Config::default()), "s1".to_owned(), NOW);
        let mut subject = Subject {
            session,
            subscription: SubscriptionKey::default(),
        };
        subject.input(&format!("CONNECT\naccept-version:{version}\n\n\0"));
        let events = subject.input(&format!(
            "SUBSCRIBE\nid:s\ndestination:/d\n{subscribe}\n\n\0"
        ));
        let [
            Event::Subscribe {
                subscription,
                ticket,
                ..
            },
        ] = events[..]
        else {
            panic!("{events:?}")
        };
        subject.session.identify(subscription, message_ids);
        subject.session.accept(ticket);
        subject.subscription = subscription;
        subject.said();
        subject
    }

    fn input(&mut self, octets: &str) -> Vec<Event> {
        let octets = Bytes::copy_from_slice(octets.as_bytes());
        self.session.handle_input(octets, NOW);
        std::iter::from_fn(|| self.session.poll_event(NOW)).collect()
    }

    fn said(&mut self) -> String {
        let octets: Vec<_> = std::iter::from_fn(|| self.session.poll_transmit(NOW)).collect();
        String::from_utf8(octets.concat()).unwrap()
    }

    fn deliver(&mut self, position: u64) -> String {
        let frame = self
            .session
            .deliver(self.subscription, position, b"rest", NOW)
            .unwrap();
        String::from_utf8(frame.concat()).unwrap()
    }

    fn window(&self) -> usize {
        self.session.window(self.subscription)
    }
}

fn room() -> MessageIds {
    MessageIds::InRest("room".into())
}

fn kept() -> MessageIds {
    MessageIds::Kept("s1.0".into())
}

/// What was settled by these events, `n` for a NACK.
fn settled(events: &[Event]) -> Vec<String> {
    events
        .iter()
        .map(|event| match event {
            Event::Settled {
                positions, is_nack, ..
            } => format!("{}{positions:?}", if *is_nack { "n" } else { "" }),
            event => panic!("{event:?}"),
        })
        .collect()
}

#[test]
fn each_version_names_a_message_in_its_own_way() {
    for (version, head, ack) in [
        (
            "1.2",
            "MESSAGE\nsubscription:s\nack:0-7\nmessage-id:s1.0-7\nrest",
            "ACK\nid:0-7\n\n\0",
        ),
        (
            "1.1",
            "MESSAGE\nsubscription:s\nmessage-id:s1.0-7\nrest",
            "ACK\nmessage-id:s1.0-7\nsubscription:s\n\n\0",
        ),
        (
            "1.0",
            "MESSAGE\nsubscription:s\nmessage-id:s1.0-7\nrest",
            "ACK\nmessage-id: s1.0-7\n\n\0",
        ),
    ] {
        let mut subject = Subject::new(version, "ack:client", kept());
        assert_eq!(subject.deliver(7), head);
        assert_eq!(settled(&subject.input(ack)), ["[7]"], "{version}");
        // Again, and for what is acknowledged already: passed over.
        assert!(subject.input(ack).is_empty());
        assert_eq!(subject.said(), "");
    }
}

#[test]
fn without_ack_nothing_is_added_and_an_ack_is_passed_over() {
    let mut subject = Subject::new("1.2", "ack:auto", room());
    assert_eq!(subject.deliver(3), "MESSAGE\nsubscription:s\nrest");
    let mut subject = Subject::new("1.1", "ack:auto", room());
    subject.deliver(3);
    assert!(
        subject
            .input("ACK\nmessage-id:room-3\nsubscription:s\nreceipt:r\n\n\0")
            .is_empty()
    );
    assert_eq!(subject.said(), "RECEIPT\nreceipt-id:r\n\n\0");
}

#[test]
fn client_is_cumulative_and_client_individual_is_not() {
    for (mode, expected) in [
        ("client", ["[1, 2]", "n[3, 4]"]),
        ("client-individual", ["[2]", "n[4]"]),
    ] {
        let mut subject = Subject::new("1.2", &format!("ack:{mode}"), kept());
        for position in 1..=5 {
            subject.deliver(position);
        }
        let events = subject.input("ACK\nid:0-2\n\n\0NACK\nid:0-4\n\n\0ACK\nid:0-2\n\n\0");
        assert_eq!(settled(&events), expected, "{mode}");
    }
}

#[test]
fn a_window_is_what_prefetch_count_leaves() {
    let mut subject = Subject::new("1.2", "ack:client-individual\nprefetch-count:3", room());
    assert_eq!(subject.window(), 3);
    for position in 10..13 {
        subject.deliver(position);
    }
    assert_eq!(subject.window(), 0);
    assert_eq!(settled(&subject.input("ACK\nid:0-11\n\n\0")), ["[11]"]);
    assert_eq!(subject.window(), 1);
    assert_eq!(settled(&subject.input("NACK\nid:0-10\n\n\0")), ["n[10]"]);
    assert_eq!(subject.window(), 2);
    for limit in [1, 1_000] {
        let header = format!("ack:client\nprefetch-count:{limit}");
        assert_eq!(Subject::new("1.2", &header, room()).window(), limit);
    }
    // Of no use where nothing is acknowledged.
    let subject = Subject::new("1.2", "prefetch-count:0", room());
    assert_eq!(subject.window(), usize::MAX);
}

#[test]
fn without_prefetch_count_a_room_remembers_nothing_and_knows_all_the_same() {
    let mut subject = Subject::new("1.2", "ack:client", room());
    for position in 5..8 {
        assert_eq!(
            subject.deliver(position),
            format!("MESSAGE\nsubscription:s\nack:0-{position}\nrest")
        );
    }
    assert_eq!(subject.window(), usize::MAX);
    assert!(subject.input("ACK\nid:0-6\nreceipt:r\n\n\0").is_empty());
    assert_eq!(subject.said(), "RECEIPT\nreceipt-id:r\n\n\0");
    for never in ["0-4", "0-8", "1-5", "0-05", "0", "room-6"] {
        let mut subject = Subject::new("1.2", "ack:client", room());
        subject.deliver(5);
        subject.input(&format!("ACK\nid:{never}\n\n\0"));
        assert!(subject.said().contains("no such message"), "{never}");
    }
}

#[test]
fn an_ack_for_an_ended_subscription_is_passed_over() {
    for (version, ack) in [
        ("1.2", "ACK\nid:0-1\nreceipt:r\n\n\0"),
        (
            "1.1",
            "ACK\nmessage-id:s1.0-1\nsubscription:s\nreceipt:r\n\n\0",
        ),
        ("1.0", "ACK\nmessage-id:s1.0-1\nreceipt:r\n\n\0"),
    ] {
        let mut subject = Subject::new(version, "ack:client", kept());
        subject.deliver(1);
        subject.input("UNSUBSCRIBE\nid:s\n\n\0");
        assert!(subject.input(ack).is_empty());
        assert_eq!(subject.said(), "RECEIPT\nreceipt-id:r\n\n\0", "{version}");
    }
}

/// What a small model of one subscription says: what is outstanding, in order.
fn acknowledge(outstanding: &mut Vec<u64>, mode: AckMode, position: u64) -> Vec<u64> {
    let Some(at) = outstanding.iter().position(|&other| other == position) else {
        return Vec::new();
    };
    let from = if mode == AckMode::Client { 0 } else { at };
    outstanding.drain(from..=at).collect()
}

#[derive(Clone, Debug)]
enum Step {
    Deliver,
    Ack(u64),
    Nack(u64),
}

proptest! {
    #[test]
    fn any_order_of_acknowledgements_is_that_of_the_model(
        is_cumulative: bool,
        prefetch in 1_usize..12,
        steps in prop::collection::vec(
            prop_oneof![
                3 => Just(Step::Deliver),
                2 => (0_u64..40).prop_map(Step::Ack),
                1 => (0_u64..40).prop_map(Step::Nack),
            ],
            0..120,
        ),
    ) {
        let (mode, name) = if is_cumulative {
            (AckMode::Client, "client")
        } else {
            (AckMode::ClientIndividual, "client-individual")
        };
        let header = format!("ack:{name}\nprefetch-count:{prefetch}");
        let mut subject = Subject::new("1.2", &header, room());
        let (mut outstanding, mut next) = (Vec::new(), 0);
        for step in steps {
            match step {
                Step::Deliver => {
                    if subject.window() > 0 {
                        subject.deliver(next);
                        outstanding.push(next);
                        next += 1;
                    }
                }
                Step::Ack(position) | Step::Nack(position) if position >= next => {
                    // Never sent: the end of the session.
                    subject.input(&format!("ACK\nid:0-{position}\n\n\0"));
                    prop_assert!(subject.said().starts_with("ERROR\n"));
                    return Ok(());
                }
                Step::Ack(position) | Step::Nack(position) => {
                    let is_nack = matches!(step, Step::Nack(_));
                    let command = if is_nack { "NACK" } else { "ACK" };
                    let events = subject.input(&format!("{command}\nid:0-{position}\n\n\0"));
                    let expected = acknowledge(&mut outstanding, mode, position);
                    let expected = (!expected.is_empty()).then_some(Event::Settled {
                        subscription: subject.subscription,
                        positions: expected,
                        is_nack,
                    });
                    prop_assert_eq!(events, Vec::from_iter(expected));
                }
            }
            prop_assert_eq!(subject.window(), prefetch - outstanding.len());
        }
    }
}
