//! The room is a log, a subscription is a cursor on it.

use std::time::{Duration, Instant};

use crate::link::{Carrier, over_each_transport};
use crate::support::{Client, TestServer, room_destination};

over_each_transport!(a_slow_reader_is_not_lost, offsets_begin_where_they_say);

const NO_RATE: &[&str] = &["--message-rate", "0"];

/// Reads MESSAGEs until `count` are read; checks that `seq` has no gap and no repeat.
async fn read_in_order(client: &mut Client, first: u64, count: u64, pause: Option<Duration>) {
    for seq in first..first + count {
        let message = client.message().await;
        assert_eq!(message.seq, seq);
        if let Some(pause) = pause
            && seq % 100 == 0
        {
            tokio::time::sleep(pause).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_gets_everything_and_holds_nobody_up() {
    const MESSAGES: u64 = 50_000;
    let server = TestServer::start(NO_RATE).await;
    let room = server.make_room("r").await;
    let mut readers = Vec::new();
    for index in 0..20 {
        let mut client = server.connect().await;
        client
            .subscribe(&index.to_string(), &room_destination(&room), "")
            .await;
        readers.push(client);
    }
    let mut sender = server.connect().await;
    let sent = tokio::spawn({
        let room = room.clone();
        async move {
            for index in 0..MESSAGES {
                sender
                    .talk(&room, "a", "an ordinary line of talk", &index.to_string())
                    .await;
                // A window, so that what is not read does not pile up.
                if index % 500 == 499 {
                    for receipt in index - 499..=index {
                        sender.receipt(&receipt.to_string()).await;
                    }
                }
            }
        }
    });
    let begin = Instant::now();
    let mut slow = readers.pop().unwrap();
    let mut fast = tokio::task::JoinSet::new();
    for mut client in readers {
        fast.spawn(async move { read_in_order(&mut client, 1, MESSAGES, None).await });
    }
    // The slow one reads nothing for a hundred times as long as the others need for as much.
    let slow = tokio::spawn(async move {
        let pause = Some(Duration::from_millis(100));
        read_in_order(&mut slow, 1, MESSAGES, pause).await;
    });
    while let Some(done) = fast.join_next().await {
        done.unwrap();
    }
    let fast_time = begin.elapsed();
    sent.await.unwrap();
    slow.await.unwrap();
    assert!(
        begin.elapsed() > fast_time,
        "the slow reader was not slower"
    );
}

/// The same with one other, and fewer messages.
async fn a_slow_reader_is_not_lost(carrier: Carrier) {
    const MESSAGES: u64 = 3_000;
    let server = TestServer::start_over(carrier, NO_RATE).await;
    let room = server.make_room("r").await;
    let (mut slow, mut fast) = (server.connect().await, server.connect().await);
    for client in [&mut slow, &mut fast] {
        client.subscribe("0", &room_destination(&room), "").await;
    }
    let mut sender = Client::connect(server.address).await;
    let sending = async {
        for index in 0..MESSAGES {
            let text = "an ordinary line of talk".repeat(10);
            sender.talk(&room, "a", &text, &index.to_string()).await;
            if index % 100 == 99 {
                for receipt in index - 99..=index {
                    sender.receipt(&receipt.to_string()).await;
                }
            }
        }
    };
    let begin = Instant::now();
    let reading = async {
        read_in_order(&mut fast, 1, MESSAGES, None).await;
        begin.elapsed()
    };
    let pause = Some(Duration::from_millis(100));
    let reading_slowly = read_in_order(&mut slow, 1, MESSAGES, pause);
    let ((), fast_time, ()) = tokio::join!(sending, reading, reading_slowly);
    assert!(
        begin.elapsed() > fast_time,
        "the slow reader was not slower"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replay_and_live_join_with_no_gap_and_no_repeat() {
    let server = TestServer::start(NO_RATE).await;
    let room = server.make_room("r").await;
    let mut sender = server.connect().await;
    let talking = tokio::spawn({
        let room = room.clone();
        async move {
            let mut index = 0u64;
            loop {
                for _ in 0..20 {
                    index += 1;
                    sender.talk(&room, "a", "x", &index.to_string()).await;
                }
                for receipt in index - 19..=index {
                    sender.receipt(&receipt.to_string()).await;
                }
            }
        }
    });
    let mut random = 0x2545_F491_4F6C_DD1Du64;
    for attempt in 0..200u64 {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        tokio::time::sleep(Duration::from_micros(random % 5_000)).await;
        let mut client = server.connect().await;
        let newest = server
            .history(&room, "?limit=1")
            .await
            .last()
            .map_or(0, |message| message.seq);
        // From the beginning, from shortly before the end, from shortly after it.
        let first = match attempt % 3 {
            0 => (newest / 2).max(1),
            1 => newest.saturating_sub(random % 300).max(1),
            _ => newest + random % 10 + 1,
        };
        let destination = room_destination(&room);
        client
            .send(&format!(
                "SUBSCRIBE\nid:0\ndestination:{destination}\nx-stream-offset:offset={first}\n\n\0"
            ))
            .await;
        let count = newest.saturating_sub(first) + 50;
        read_in_order(&mut client, first, count, None).await;
    }
    talking.abort();
}

async fn offsets_begin_where_they_say(carrier: Carrier) {
    let server = TestServer::start_over(carrier, NO_RATE).await;
    let room = server.make_room("r").await;
    let mut client = server.connect().await;
    for index in 1..=300 {
        client
            .talk(&room, "a", &index.to_string(), &index.to_string())
            .await;
        client.receipt(&index.to_string()).await;
    }
    let history = server.history(&room, "?after=149&limit=1").await;
    let seconds = history[0].sent_at.unix_timestamp();
    for (index, (offset, first)) in [
        ("first", Some(1)),
        ("last", Some(300)),
        ("offset=17", Some(17)),
        ("offset=0", Some(1)),
        ("timestamp=1", Some(1)),
    ]
    .into_iter()
    .enumerate()
    {
        let mut reader = server.connect().await;
        let header = format!("x-stream-offset:{offset}\n");
        reader
            .subscribe(&index.to_string(), &room_destination(&room), &header)
            .await;
        if let Some(first) = first {
            read_in_order(&mut reader, first, 301 - first, None).await;
        }
    }
    let mut reader = server.connect().await;
    let header = format!("x-stream-offset:timestamp={seconds}\n");
    reader
        .subscribe("t", &room_destination(&room), &header)
        .await;
    let found = reader.message().await;
    assert!(found.sent_at.unix_timestamp() >= seconds);
    assert!(found.seq <= history[0].seq);
}

#[tokio::test]
async fn an_offset_amid_large_messages_is_found() {
    const MESSAGES: u64 = 130;
    let server = TestServer::start(NO_RATE).await;
    let room = server.make_room("r").await;
    let mut sender = server.connect().await;
    let text = "가".repeat(4_000);
    for index in 0..MESSAGES {
        sender.talk(&room, "a", &text, &index.to_string()).await;
        sender.receipt(&index.to_string()).await;
    }
    // Nobody has read any of it: a page of the store holds few of these, and begins far before.
    for first in [127, 64, 7, 1] {
        let mut reader = server.connect().await;
        let header = format!("x-stream-offset:offset={first}\n");
        reader
            .subscribe("0", &room_destination(&room), &header)
            .await;
        read_in_order(&mut reader, first, MESSAGES + 1 - first, None).await;
    }
}
