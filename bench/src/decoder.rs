//! The decoder, held against `memchr` over the same bytes, which is the least that finding line ends
//! and NULs can cost, and against the `stomp-parser` crate on whole frames. One thread, in turns.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use bytes::Bytes;
use memchr::memchr;
use shared::stomp::{Decoder, Limits, Received, Version};
use stomp_parser::client::ClientFrame;

use crate::Verdict;

/// How long one side reads the same frame in one turn.
const TURN: Duration = Duration::from_millis(60);

/// `stomp-parser` takes each frame in a vector of its own; so many are made before the clock starts.
const BATCH: usize = 64;

/// The names and octets of the frames.
fn frames() -> [(&'static str, Vec<u8>); 4] {
    let json = r#"{"type":"TALK","roomId":"0b9f6a52-7a0e-4a2e-9f0d-2f6d7c1e8a11","sender":"철수","message":"안녕하세요, 오늘은 무엇을 먹을까요?"}"#;
    let many: String = (0..30)
        .map(|n| format!("x-header-{n}:value {n}\n"))
        .collect();
    let body = "x".repeat(32_768);
    let destination = "destination:/app/chat/sendMessage\n";
    [
        (
            "a chat message, as stompjs sends it",
            format!("SEND\n{destination}content-length:{}\n\n{json}\0", json.len()).into(),
        ),
        (
            "a SUBSCRIBE",
            b"SUBSCRIBE\nid:sub-0\ndestination:/topic/chat/room/0b9f6a52-7a0e-4a2e-9f0d-2f6d7c1e8a11\n\n\0".to_vec(),
        ),
        (
            "a SEND with 31 headers",
            format!("SEND\n{destination}{many}\n{json}\0").into(),
        ),
        (
            "a SEND with a body of 32 KiB",
            format!("SEND\n{destination}content-length:{}\n\n{body}\0", body.len()).into(),
        ),
    ]
}

/// Nanoseconds for a frame, of each side.
struct Turn {
    ours: f64,
    memchr: f64,
    stomp_parser: f64,
}

pub(crate) fn measure(rounds: usize) -> Result<Verdict> {
    println!("decoder, nanoseconds a frame (in turns, medians of {rounds} rounds):");
    let mut worst = f64::INFINITY;
    for (what, octets) in frames() {
        let turns: Vec<Turn> = (0..rounds).map(|_| turn(&octets)).collect::<Result<_>>()?;
        let median = |of: fn(&Turn) -> f64| median(turns.iter().map(of).collect());
        let (ours, memchr) = (median(|turn| turn.ours), median(|turn| turn.memchr));
        let stomp_parser = median(|turn| turn.stomp_parser);
        let gained = median(|turn| turn.stomp_parser / turn.ours);
        println!(
            "  {what} ({} bytes): {ours:.0}; memchr {memchr:.0}, stomp-parser {stomp_parser:.0}; \
             {:.1} x memchr, 1/{gained:.1} of stomp-parser",
            octets.len(),
            median(|turn| turn.ours / turn.memchr),
        );
        worst = worst.min(gained);
    }
    Ok(Verdict {
        what: "decoder, stomp-parser's time to ours on whole frames",
        figure: format!("{worst:.1} at the least"),
        target: "at least 1",
        is_reached: worst >= 1.0,
    })
}

fn turn(octets: &[u8]) -> Result<Turn> {
    let mut decoder = Decoder::new(Limits::default());
    decoder.set_version(Version::V12);
    let whole = Bytes::copy_from_slice(octets);
    let mut failed = false;
    let ours = time(
        || vec![whole.clone(); BATCH],
        |octets| {
            decoder.push(octets);
            match decoder.poll() {
                Ok(Some(Received::Frame(frame))) => drop(black_box(frame)),
                _ => failed = true,
            }
        },
    );
    let memchr = time(
        || vec![octets; BATCH],
        |octets| {
            black_box(scan(octets));
        },
    );
    let stomp_parser = time(
        || vec![octets.to_vec(); BATCH],
        |octets| match ClientFrame::try_from(octets) {
            Ok(frame) => drop(black_box(frame)),
            Err(_) => failed = true,
        },
    );
    if failed {
        bail!("a frame of the benchmark could not be read");
    }
    Ok(Turn {
        ours,
        memchr,
        stomp_parser,
    })
}

/// Nanoseconds that one call takes, without the time to make what it is called with.
fn time<T>(make: impl Fn() -> Vec<T>, mut call: impl FnMut(T)) -> f64 {
    let (mut spent, mut calls) = (Duration::ZERO, 0);
    while spent < TURN {
        let batch = make();
        calls += batch.len();
        let begin = Instant::now();
        batch.into_iter().for_each(&mut call);
        spent += begin.elapsed();
    }
    spent.as_nanos() as f64 / calls as f64
}

/// Finds every line end up to the empty line, then the NUL.
fn scan(octets: &[u8]) -> Option<usize> {
    let mut start = 0;
    loop {
        let length = memchr(b'\n', black_box(&octets[start..]))?;
        start += length + 1;
        if length == 0 {
            return memchr(0, black_box(&octets[start..]));
        }
    }
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
