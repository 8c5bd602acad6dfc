//! How a vanished client is found, and how a quiet one is kept, whatever heart-beats it asked for.

use std::{sync::Arc, time::Duration};

use super::{
    super::server::{Config, Session},
    secs,
};

/// What a client asks for: `accept-version` and `heart-beat`.
const CLIENTS: [(&str, &str); 10] = [
    ("1.0", "10000,10000"),
    ("1.0", "0,0"),
    ("1.1", "0,0"),
    ("1.2", "0,0"),
    ("1.2", "10000,0"),
    ("1.2", "0,10000"),
    ("1.2", "10000,10000"),
    ("1.2", "1,1"),
    ("1.2", "40000,40000"),
    ("1.2", "600000,600000"),
];

/// A session's end, and when something went to the client and came from it.
struct Told {
    close: Option<(Duration, u16)>,
    down: Vec<Duration>,
    up: Vec<Duration>,
    pings: Vec<Duration>,
}

/// Lets a session run whose client answers pings and nothing else, until it vanishes.
fn run((version, heart_beat): (&str, &str), vanishes_at: Duration, end: Duration) -> Told {
    let start = secs(5);
    let mut session = Session::new(Arc::new(Config::default()), "s1".to_owned(), start);
    let connect = format!("CONNECT\naccept-version:{version}\nheart-beat:{heart_beat}\n\n\0");
    session.handle_input(connect.into(), start);
    let mut told = Told {
        close: None,
        down: vec![start],
        up: vec![start],
        pings: Vec::new(),
    };
    let mut now = start;
    loop {
        while session.poll_event(now).is_some() {}
        while session.poll_transmit(now).is_some() {
            told.down.push(now);
        }
        if session.wants_ping(now) {
            told.pings.push(now - start);
            told.down.push(now);
            if now < start + vanishes_at {
                told.up.push(now);
                session.handle_alive(now);
            }
        }
        if let Some(close) = session.poll_close() {
            told.close = Some((now - start, close.code));
        }
        let Some(due) = session.poll_timeout().filter(|due| *due <= start + end) else {
            told.down.push(start + end);
            told.up.push(start + end);
            return told;
        };
        assert!(
            due > now,
            "{version} {heart_beat}: a timeout must lead somewhere"
        );
        now = due;
        session.handle_timeout(now);
    }
}

fn longest(times: &[Duration]) -> Duration {
    let gaps = times.windows(2).map(|pair| pair[1] - pair[0]);
    gaps.max().unwrap_or_default()
}

#[test]
fn a_client_that_vanished_is_found_within_90_seconds() {
    for client in CLIENTS {
        for vanishes_at in [0, 24, 26, 300].map(secs) {
            let told = run(client, vanishes_at, secs(600));
            let (at, code) = told.close.unwrap_or_else(|| panic!("{client:?}: never"));
            assert_eq!(code, 4500, "{client:?}");
            assert!(at <= vanishes_at + secs(90), "{client:?}: {at:?}");
        }
    }
}

#[test]
fn a_client_that_answers_pings_lives_and_its_connection_is_not_idle() {
    for client in CLIENTS {
        let told = run(client, Duration::MAX - secs(5), secs(3_600));
        assert_eq!(told.close, None, "{client:?}");
        assert!(
            longest(&told.down) <= secs(25),
            "{client:?}: {:?}",
            told.down
        );
        assert!(longest(&told.up) <= secs(25), "{client:?}: {:?}", told.up);
    }
}

#[test]
fn without_heart_beats_there_are_pings_every_25_seconds() {
    for client in [("1.0", "10000,10000"), ("1.2", "0,0")] {
        let told = run(client, Duration::ZERO, secs(600));
        assert_eq!(told.pings, [25, 50].map(secs), "{client:?}");
        assert_eq!(told.close, Some((secs(75), 4500)), "{client:?}");
        let told = run(client, secs(3_600), secs(100));
        assert_eq!(told.pings, [25, 50, 75, 100].map(secs), "{client:?}");
    }
}

#[test]
fn who_talks_and_hears_nothing_is_pinged_too() {
    let start = secs(0);
    let mut session = Session::new(Arc::new(Config::default()), "s1".to_owned(), start);
    session.handle_input("CONNECT\naccept-version:1.2\n\n\0".into(), start);
    assert!(session.poll_event(start).is_some() && session.poll_transmit(start).is_some());
    let mut pings = Vec::new();
    for now in (1..=100).map(secs) {
        session.handle_input("\n".into(), now);
        assert!(session.poll_event(now).is_none());
        if session.poll_timeout().is_some_and(|due| due <= now) {
            session.handle_timeout(now);
        }
        if session.wants_ping(now) {
            pings.push(now);
        }
    }
    assert_eq!(pings, [25, 50, 75, 100].map(secs));
}
