//! What a session may hold, for how long, and what becomes of it when its peer has gone.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use shared::chat::ChatRoom;
use shared::stomp::Command;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::hostile::{handshake_at, web_socket_frame};
use crate::link::{Carrier, Link, over_each_transport};
use crate::process::{PROGRAM, resident_kib, start, start_as};
use crate::support::{Client, SOON, TestServer, request, room_destination, talk};

over_each_transport!(
    who_has_gone_waits_for_no_turn,
    a_drain_waits_for_no_turn,
    a_burst_of_one_cuts_off_nobody_who_reads,
    open_transactions_are_bounded_in_time_and_in_all
);

/// Some SENDs of one message each.
fn talks(room: &ChatRoom, sender: &str, count: usize) -> String {
    let (destination, body) = (room_destination(room), talk(room, sender, "x"));
    format!("SEND\ndestination:{destination}\n\n{body}\0").repeat(count)
}

/// One SEND of so many messages.
fn array(room: &ChatRoom, sender: &str, count: usize) -> String {
    let message = format!("{{\"type\":\"TALK\",\"sender\":\"{sender}\",\"message\":\"x\"}}");
    let messages = vec![message; count].join(",");
    let destination = room_destination(room);
    format!("SEND\ndestination:/app{destination}\n\n[{messages}]\0")
}

/// How many messages a room has, once no more come.
async fn stored(server: &TestServer, room: &ChatRoom) -> u64 {
    let mut last = (0, Instant::now());
    loop {
        let newest = server.history(room, "?limit=1").await;
        let seq = newest.first().map_or(0, |message| message.seq);
        if seq != last.0 {
            last = (seq, Instant::now());
        }
        // At 20 a second another one would have come.
        if last.1.elapsed() > Duration::from_secs(1) {
            return seq;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn who_has_gone_waits_for_no_turn(carrier: Carrier) {
    let options = ["--sockjs-disconnect-ms", "300"];
    let server = TestServer::start_over(carrier, &options).await;

    // A burst, and what it said last, are stored at once.
    let room = server.make_room("last words").await;
    let mut client = server.connect().await;
    client.send(&talks(&room, "a", 30)).await;
    client.send(&array(&room, "a", 80)).await;
    drop(client);
    assert_eq!(stored(&server, &room).await, 110);

    // Of hundreds the rest is refused.
    let room = server.make_room("hundreds").await;
    let mut client = server.connect().await;
    let begin = Instant::now();
    client.send(&talks(&room, "a", 400)).await;
    drop(client);
    let count = stored(&server, &room).await;
    let whole_turns = 20 * begin.elapsed().as_secs() + 20;
    assert!((120..=120 + whole_turns).contains(&count), "{count}");

    // What belongs together is refused together, and with it all that came later.
    let room = server.make_room("whole").await;
    let mut client = server.connect().await;
    client.send(&talks(&room, "a", 10)).await;
    let later = talks(&room, "a", 1);
    client
        .send(&format!("{}{later}", array(&room, "a", 900)))
        .await;
    drop(client);
    assert_eq!(stored(&server, &room).await, 10);
    // Nothing of it holds up the end.
    let begin = Instant::now();
    server.stop().await;
    assert!(begin.elapsed() < Duration::from_secs(5));
}

async fn a_drain_waits_for_no_turn(carrier: Carrier) {
    let server = TestServer::start_over(carrier, &[]).await;
    let room = server.make_room("r").await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = server.connect().await;
        client.subscribe("0", &room_destination(&room), "").await;
        client.send(&talks(&room, "a", 1)).await;
        client.message().await;
        client.send(&array(&room, "a", 900)).await;
        clients.push(client);
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let begin = Instant::now();
    // Who polls must come to be told.
    let ends =
        tokio::spawn(join_all(clients.into_iter().map(
            async |mut client: Client| while client.next().await.is_ok() {},
        )));
    let data = server.stop().await;
    assert!(begin.elapsed() < Duration::from_secs(6), "{begin:?}");
    tokio::time::timeout(SOON, ends).await.unwrap().unwrap();
    let server = TestServer::start_in(data, &[]).await;
    assert!(server.history(&room, "").await.len() <= 3);
}

async fn a_burst_of_one_cuts_off_nobody_who_reads(carrier: Carrier) {
    let options = ["--message-rate", "300"];
    let server = TestServer::start_over(carrier, &options).await;
    let mut reader = server.connect().await;
    reader.subscribe("t", "/topic/news", "").await;
    reader.subscribe("q", "/queue/work", "").await;
    for (destination, size, count) in [
        ("/topic/news", 256, 900),
        ("/topic/news", 60 << 10, 24),
        ("/queue/work", 60 << 10, 24),
    ] {
        let body = "x".repeat(size);
        let send = format!("SEND\ndestination:{destination}\n\n{body}\0");
        let per_payload = (200_000 / send.len()).max(1);
        let mut sender = Client::connect(server.address).await;
        let sending = async {
            let mut left = count;
            while left > 0 {
                let now = left.min(per_payload);
                sender.send(&send.repeat(now)).await;
                left -= now;
            }
            // So that it has not gone.
            sender
                .send("SEND\ndestination:/topic/x\nreceipt:r\n\n\0")
                .await;
            sender.receipt("r").await;
        };
        let reading = async {
            for _ in 0..count {
                let frame = reader.frame().await;
                assert_eq!(frame.command, Command::Message);
                assert_eq!(frame.body.len(), size);
            }
        };
        tokio::join!(sending, reading);
    }

    // What a COMMIT publishes has its turns too.
    let mut sender = Client::connect(server.address).await;
    sender.send("BEGIN\ntransaction:t\n\n\0").await;
    let body = "x".repeat(60 << 10);
    for _ in 0..16 {
        sender
            .send(&format!(
                "SEND\ndestination:/topic/news\ntransaction:t\n\n{body}\0"
            ))
            .await;
    }
    let committing = async {
        sender.send("COMMIT\ntransaction:t\nreceipt:c\n\n\0").await;
        sender.receipt("c").await;
    };
    let reading = async {
        for _ in 0..16 {
            assert_eq!(reader.frame().await.body.len(), body.len());
        }
    };
    tokio::join!(committing, reading);
}

#[tokio::test]
async fn what_is_sent_to_plain_destinations_has_a_rate() {
    let options = ["--message-rate", "50", "--message-burst", "10"];
    let server = TestServer::start(&options).await;
    let large = "x".repeat(19_000);
    for (body, count) in [("", 40), (&large[..], 8)] {
        let mut client = server.connect().await;
        let begin = Instant::now();
        let send = format!("SEND\ndestination:/topic/x\nreceipt:r\n\n{body}\0");
        client.send(&send.repeat(count)).await;
        for _ in 0..count {
            client.receipt("r").await;
        }
        // 40 of one and 8 of five are 30 more than a burst.
        let took = begin.elapsed();
        assert!(took >= Duration::from_millis(550), "{took:?}");
    }
}

async fn open_transactions_are_bounded_in_time_and_in_all(carrier: Carrier) {
    let options = [
        "--transaction-timeout-ms",
        "1500",
        "--open-transactions-bytes-max",
        "1000000",
        "--message-rate",
        "0",
    ];
    let server = TestServer::start_over(carrier, &options).await;
    let send = |size: usize| {
        let body = "x".repeat(size);
        format!("SEND\ndestination:/topic/x\ntransaction:t\nreceipt:s\n\n{body}\0")
    };
    let begun = async || {
        let mut client = server.connect().await;
        client.send("BEGIN\ntransaction:t\nreceipt:b\n\n\0").await;
        client.receipt("b").await;
        client
    };
    let mut large = begun().await;
    for _ in 0..4 {
        large.send(&send(60_000)).await;
        large.receipt("s").await;
    }
    // It holds a fifth already.
    large.send(&send(60_000)).await;
    let error = large.frame().await;
    assert_eq!(error.command, Command::Error);
    assert_eq!(error.headers.get("message"), Some("transactions too large"));
    assert_eq!(error.headers.get("receipt-id"), Some("s"));
    assert_eq!(large.end().await.code, Some(1002));

    let mut late = begun().await;
    late.send(&send(1)).await;
    late.receipt("s").await;
    let error = late.frame().await;
    assert_eq!(error.command, Command::Error);
    assert_eq!(error.headers.get("message"), Some("transaction timed out"));
    assert_eq!(late.end().await.code, Some(1002));
}

#[tokio::test]
async fn the_first_web_socket_message_is_small() {
    let server = TestServer::start(&[]).await;
    for path in ["/ws/chat", "/ws/chat/0/small/websocket"] {
        // Refused as soon as it is announced, whether it is begun or goes on.
        for (length, is_refused) in [(17_408_u64, false), (17_409, true), (200_000, true)] {
            let mut stream = handshake_at(server.address, path).await.unwrap();
            let frame = web_socket_frame(0x81, length, b"[");
            stream.write_all(&frame).await.unwrap();
            let mut said = Vec::new();
            let wait = if is_refused {
                SOON
            } else {
                Duration::from_millis(300)
            };
            let read = tokio::time::timeout(wait, stream.read_to_end(&mut said)).await;
            assert_eq!(read.is_ok(), is_refused, "{path}: {length}");
            let code = 1009_u16.to_be_bytes();
            let is_told = said
                .windows(4)
                .any(|octets| octets[0] == 0x88 && octets[2..] == code);
            assert_eq!(is_told, is_refused, "{path}: {length}");
        }
    }
}

#[tokio::test]
async fn the_id_of_a_session_has_at_most_128_characters() {
    let server = TestServer::start(&[]).await;
    for transport in [
        "xhr",
        "xhr_streaming",
        "eventsource",
        "xhr_send",
        "websocket",
    ] {
        let method = if transport.starts_with("xhr") {
            "POST"
        } else {
            "GET"
        };
        for length in [129, 60_000] {
            let path = format!("/ws/chat/000/{}/{transport}", "i".repeat(length));
            let answer = request(server.address, method, &path, &[], "").await;
            assert_eq!(answer.status, 400, "{transport}");
            assert!(answer.body.contains("at most 128"), "{}", answer.body);
        }
    }
    let path = format!("/ws/chat/000/{}/xhr", "i".repeat(128));
    let answer = request(server.address, "POST", &path, &[], "").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "o\n"));
}

/// What a session is sent weighs as text, whatever it is cut into.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn arrays_of_empty_strings_weigh_nothing() {
    const SENDERS: usize = 8;
    const BODIES: usize = 12;
    let data = tempfile::tempdir().unwrap();
    let (mut child, address) = start(data.path()).await;
    let client = Client::open_over(Carrier::XhrStreaming, address, &[]);
    let mut client = client.await.unwrap();
    client.send("CONNECT\naccept-version:1.2\n\n\0").await;
    assert_eq!(client.frame().await.command, Command::Connected);
    let Link::Requests(requests) = &client.link else {
        panic!("it is made of requests");
    };
    let path = format!("{}/xhr_send", requests.path());
    let body = format!("[{}]", ["\"\""; 87_000].join(","));
    let before = resident_kib(&child);
    let mut peak = before;
    for _ in 0..BODIES {
        let posts = (0..SENDERS).map(|_| request(address, "POST", &path, &[], &body));
        for answer in join_all(posts).await {
            assert_eq!(answer.status, 204);
        }
        peak = peak.max(resident_kib(&child));
    }
    client.subscribe("s", "/topic/x", "").await;
    if let (Some(before), Some(peak)) = (before, peak) {
        println!("{before} KiB before, {peak} at most");
        assert!(peak - before < 40_000, "{} KiB more", peak - before);
    }
    child.kill().await.unwrap();
}

/// Small frames of many headers weigh many times what they are on the wire.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_transactions_weigh_what_they_hold() {
    const SESSIONS: usize = 150;
    const FREE_KIB: u64 = 64;
    let data = tempfile::tempdir().unwrap();
    let mut command = tokio::process::Command::new(PROGRAM);
    command.args(["--open-transactions-bytes-max", "16777216"]);
    let (mut child, address, _) = start_as(command, data.path()).await;
    let headers: String = (0..55).map(|number| format!("{number}:\n")).collect();
    let send = format!("SEND\ndestination:/topic/x\ntransaction:t\n{headers}\n\0");
    let sends = send.repeat(200);
    let before = resident_kib(&child);
    let mut sessions = Vec::new();
    let mut refused = 0;
    for _ in 0..SESSIONS {
        let mut client = Client::connect(address).await;
        client.send("BEGIN\ntransaction:t\nreceipt:b\n\n\0").await;
        client.receipt("b").await;
        for _ in 0..4 {
            client.send(&sends).await;
        }
        client.send("BEGIN\ntransaction:u\nreceipt:u\n\n\0").await;
        // Whoever is refused begins anew, with less.
        while client.frame().await.command == Command::Error {
            refused += 1;
            client = Client::connect(address).await;
            let begin = "BEGIN\ntransaction:t\n\n\0";
            let few = send.repeat(40);
            client
                .send(&format!(
                    "{begin}{few}BEGIN\ntransaction:u\nreceipt:u\n\n\0"
                ))
                .await;
        }
        sessions.push(client);
    }
    assert!(refused > SESSIONS / 4, "{refused}");
    if let (Some(before), Some(after)) = (before, resident_kib(&child)) {
        println!("{before} KiB before, {after} with {SESSIONS} sessions");
        // What they may hold, and as much for all that a connection is besides.
        let most = (16 << 10) + SESSIONS as u64 * (FREE_KIB + 100);
        assert!(after - before < most, "{} KiB more", after - before);
    }
    child.kill().await.unwrap();
}
