//! What a session keeps of a client is bounded.

use std::{sync::Arc, time::Duration};

use super::super::server::{Config, Event, Session};

const NOW: Duration = Duration::ZERO;

/// A session after this input, and what it says.
fn said(session: &mut Session, input: String) -> String {
    session.handle_input(input.into(), NOW);
    while let Some(event) = session.poll_event(NOW) {
        if let Event::Subscribe { ticket, .. } = event {
            session.accept(ticket);
        }
    }
    let octets: Vec<_> = std::iter::from_fn(|| session.poll_transmit(NOW)).collect();
    String::from_utf8(octets.concat()).unwrap()
}

fn session() -> Session {
    Session::new(Arc::new(Config::default()), "s1".to_owned(), NOW)
}

#[test]
fn what_comes_before_connected_is_no_larger_than_the_first_frame() {
    let max = Config::default().limits.connect_frame_bytes_max;
    let connect = "CONNECT\naccept-version:1.2\n\n\0";
    for (length, is_taken) in [(max, true), (max + 1, false)] {
        let mut session = session();
        assert_eq!(said(&mut session, "\n".repeat(max)), "");
        let payload = format!("{connect}{}", "\n".repeat(length - connect.len()));
        let begin = if is_taken {
            "CONNECTED\n"
        } else {
            "ERROR\nmessage:frame too large\n"
        };
        let answer = said(&mut session, payload);
        assert!(answer.starts_with(begin), "{length}: {answer}");
        // From then on a payload may be as large as the transport lets it be.
        if is_taken {
            assert_eq!(said(&mut session, "\n".repeat(16 * max)), "");
            assert_eq!(session.poll_close(), None);
        }
    }
}

#[test]
fn ids_and_destinations_of_subscriptions_are_bounded_together() {
    let subscribe = |id: usize, length: usize| {
        let destination = format!("/topic/{id:03}");
        let id = format!("{id:03}{}", "x".repeat(length - 3 - destination.len()));
        format!("SUBSCRIBE\nid:{id}\ndestination:{destination}\nreceipt:r\n\n\0")
    };
    let mut session = session();
    said(&mut session, "CONNECT\naccept-version:1.2\n\n\0".to_owned());
    for id in 0..8 {
        let answer = said(&mut session, subscribe(id, 4_096));
        assert_eq!(answer, "RECEIPT\nreceipt-id:r\n\n\0", "{id}");
    }
    // What has ended makes room, and what begins anew takes none.
    for id in 8..300 {
        let ended = subscribe(id - 8, 4_096).replace("SUBSCRIBE", "UNSUBSCRIBE");
        said(&mut session, ended);
        for _ in 0..2 {
            let answer = said(&mut session, subscribe(id, 4_096));
            assert_eq!(answer, "RECEIPT\nreceipt-id:r\n\n\0", "{id}");
        }
        assert!(session.subscription_names_bytes() <= 2 * 32_768);
    }
    let answer = said(&mut session, subscribe(300, 13));
    assert!(
        answer.starts_with("ERROR\nmessage:too many subscriptions\n"),
        "{answer}"
    );
}
