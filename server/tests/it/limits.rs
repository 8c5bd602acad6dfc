//! The limits (contract, section 4): each at its value, and one past it.

use std::time::Duration;

use shared::chat::ChatRoom;
use shared::stomp::Command;

use crate::link::{Carrier, over, over_each_transport};
use crate::support::{Client, Ended, TestServer, request, room_destination, talk};

over_each_transport!(
    who_does_not_connect_in_time_is_closed,
    limits_hold_at_the_limit_and_one_past_it,
    the_rate_delays_and_loses_nothing,
    headers_are_counted_and_measured,
    who_does_not_read_what_is_not_stored_is_closed,
    transactions_are_few_and_small
);

async fn who_does_not_connect_in_time_is_closed(carrier: Carrier) {
    let server = TestServer::start_over(carrier, &["--connect-timeout-ms", "200"]).await;
    let mut client = server.open().await;
    assert_eq!(client.end().await.code, Some(4500));
}

async fn limits_hold_at_the_limit_and_one_past_it(carrier: Carrier) {
    let server = TestServer::start_over(carrier, &[]).await;
    let room = server.make_room("r").await;
    // A frame of exactly 64 KiB, with a body that is padded JSON.
    let frame = |size: usize| {
        let head = "SEND\ndestination:/app/chat/sendMessage\nreceipt:r\n\n";
        let body = talk(&room, "a", "x");
        let padding = " ".repeat(size - head.len() - body.len() - 1);
        format!("{head}{body}{padding}\0")
    };
    let mut client = server.connect().await;
    client.send(&frame(65_536)).await;
    client.receipt("r").await;
    client.send(&frame(65_537)).await;
    assert_eq!(client.frame().await.command, Command::Error);
    assert_eq!(client.end().await.code, Some(1002));

    let mut client = server.connect().await;
    for id in 0..128 {
        client
            .send(&format!(
                "SUBSCRIBE\nid:{id}\ndestination:/topic/chat/rooms\n\n\0"
            ))
            .await;
    }
    client.send("UNSUBSCRIBE\nid:0\nreceipt:u\n\n\0").await;
    client.receipt("u").await;
    client.subscribe("a", "/topic/chat/rooms", "").await;
    client
        .send("SUBSCRIBE\nid:b\ndestination:/topic/chat/rooms\n\n\0")
        .await;
    assert_eq!(client.frame().await.command, Command::Error);
}

#[tokio::test]
async fn subscriptions_of_a_destination_are_bounded() {
    let server = TestServer::start(&["--subscribers-per-destination", "3"]).await;
    for destination in ["/topic/news", "/queue/work"] {
        let (mut one, mut two) = (server.connect().await, server.connect().await);
        one.subscribe("a", destination, "").await;
        one.subscribe("b", destination, "").await;
        two.subscribe("a", destination, "").await;
        // The same again is none more; nor is another destination's.
        two.subscribe("a", destination, "").await;
        two.subscribe("b", &format!("{destination}/other"), "")
            .await;
        let mut past = server.connect().await;
        let subscribe = format!("SUBSCRIBE\nid:a\ndestination:{destination}\nreceipt:r\n\n\0");
        past.send(&subscribe).await;
        let error = past.frame().await;
        assert_eq!(error.command, Command::Error);
        assert_eq!(error.headers.get("message"), Some("too many subscribers"));
        assert_eq!(error.headers.get("receipt-id"), Some("r"));
        let words = String::from_utf8_lossy(&error.body).into_owned();
        assert!(words.contains(destination), "{words}");
        assert_eq!(past.end().await.code, Some(1002));
        // One that ends makes place.
        one.send("UNSUBSCRIBE\nid:b\nreceipt:u\n\n\0").await;
        one.receipt("u").await;
        let mut next = server.connect().await;
        next.subscribe("a", destination, "").await;
    }
}

#[tokio::test]
async fn a_web_socket_message_is_bounded() {
    let server = TestServer::start(&[]).await;
    let mut client = server.connect().await;
    client.send(&"\n".repeat(262_144)).await;
    client.subscribe("0", "/topic/chat/rooms", "").await;
    client.send(&"\n".repeat(262_145)).await;
    assert_eq!(
        client.end().await,
        Ended {
            code: Some(1009),
            reason: "the message is too big".into()
        }
    );
}

async fn the_rate_delays_and_loses_nothing(carrier: Carrier) {
    let server =
        TestServer::start_over(carrier, &["--message-rate", "50", "--message-burst", "10"]).await;
    let room = server.make_room("r").await;
    let mut client = server.connect().await;
    let begin = std::time::Instant::now();
    for index in 0..30 {
        client
            .talk(&room, "a", &index.to_string(), &index.to_string())
            .await;
    }
    for index in 0..30 {
        client.receipt(&index.to_string()).await;
    }
    assert!(
        begin.elapsed() >= Duration::from_millis(350),
        "{:?}",
        begin.elapsed()
    );
    assert_eq!(server.history(&room, "").await.len(), 30);
}

/// Sends a frame that must be taken, and one that must end in ERROR and a close.
async fn taken_and_refused(server: &TestServer, taken: &str, refused: &str) {
    let mut client = server.connect().await;
    client.send(taken).await;
    client.receipt("r").await;
    client.send(refused).await;
    let frame = client.frame().await;
    assert_eq!(frame.command, Command::Error, "{frame:?}");
    assert!(!frame.headers.get("message").unwrap().is_empty());
    assert_eq!(client.end().await.code, Some(1002));
}

async fn headers_are_counted_and_measured(carrier: Carrier) {
    let server = TestServer::start_over(carrier, &[]).await;
    let room = server.make_room("r").await;
    let body = talk(&room, "a", "x");
    let destination = room_destination(&room);
    let with =
        |headers: &str| format!("SEND\ndestination:{destination}\nreceipt:r\n{headers}\n{body}\0");
    let many = |count: usize| with(&"x:y\n".repeat(count));
    taken_and_refused(&server, &many(62), &many(63)).await;
    let long = |length: usize| with(&format!("x:{}\n", "y".repeat(length - 2)));
    taken_and_refused(&server, &long(8_192), &long(8_193)).await;
}

#[tokio::test]
async fn the_first_frame_is_smaller() {
    let server = TestServer::start(&[]).await;
    let connect = |size: usize| {
        let head = "CONNECT\naccept-version:1.2\n";
        let mut frame = head.to_owned();
        while frame.len() + 4_002 < size {
            frame.push_str(&format!("x:{}\n", "y".repeat(3_000)));
        }
        let rest = size - frame.len() - "x:\n\n\0".len();
        frame + &format!("x:{}\n\n\0", "y".repeat(rest))
    };
    for (size, command) in [(16_384, Command::Connected), (16_385, Command::Error)] {
        let frame = connect(size);
        assert_eq!(frame.len(), size);
        let mut client = Client::open(server.address).await;
        client.send(&frame).await;
        assert_eq!(client.frame().await.command, command, "{size}");
    }
}

#[tokio::test]
async fn texts_and_names_are_counted_in_characters() {
    let server = TestServer::start(&["--message-rate", "0"]).await;
    let room = server.make_room(&"방".repeat(100)).await;
    let mut client = server.connect().await;
    client.subscribe("e", "/user/queue/errors", "").await;
    let json = [("content-type", "application/json")];
    let body = serde_json::json!({ "roomName": "방".repeat(101) }).to_string();
    let answer = request(server.address, "POST", "/chat/room", &json, &body).await;
    assert_eq!(answer.status, 422);
    let name = "이".repeat(40);
    let cases: [(&str, &str, bool); 6] = [
        (&name, &"😀".repeat(4_000), true),
        (&name, &"😀".repeat(4_001), false),
        (&"이".repeat(41), "x", false),
        (&name, " \t\n", false),
        (&name, "a\u{7}", false),
        (&name, "줄\n바꿈\t", true),
    ];
    for (index, (sender, text, is_taken)) in cases.into_iter().enumerate() {
        client.talk(&room, sender, text, &index.to_string()).await;
        let frame = client.frame().await;
        if is_taken {
            assert_eq!(frame.command, Command::Receipt, "{index}");
        } else {
            let problem: serde_json::Value = serde_json::from_slice(&frame.body).unwrap();
            assert_eq!(problem["status"], 422, "{index}");
            assert_eq!(problem["receiptId"], index.to_string());
        }
    }
    assert_eq!(server.history(&room, "").await.len(), 2);
}

/// Reads what is left until the end, and counts it.
async fn read_to_end(client: &mut Client) -> (usize, Ended) {
    let mut count = 0;
    loop {
        match client.next().await {
            Ok(_) => count += 1,
            Err(ended) => return (count, ended),
        }
    }
}

async fn who_does_not_read_what_is_not_stored_is_closed(carrier: Carrier) {
    const SENT: usize = 3_000;
    let server = TestServer::start_over(carrier, &[]).await;
    let mut client = server.connect().await;
    client.subscribe("e", "/user/queue/errors", "").await;
    let room = server.make_room("r").await;
    let destination = "d".repeat(8_000);
    // Each refusal repeats the destination; nothing is read meanwhile.
    let refused = format!(
        "SEND\ndestination:{destination}\n\n{}\0",
        talk(&room, "a", "x")
    );
    let sending = async {
        for _ in 0..SENT {
            if client.try_send(&refused).await.is_err() {
                return;
            }
        }
    };
    // The server may stop reading as well; then the rest of it is never sent.
    let _ = tokio::time::timeout(Duration::from_millis(1_500), sending).await;
    let (count, ended) = read_to_end(&mut client).await;
    assert!(
        count < SENT,
        "everything was kept for one who does not read"
    );
    assert!(matches!(ended.code, Some(4500) | None), "{ended:?}");
    // Nobody else is disturbed.
    let mut other = server.connect().await;
    other.talk(&room, "b", "still here", "r").await;
    other.receipt("r").await;
}

/// Who polls takes all that waits, or has gone.
mod who_takes_no_byte {
    use super::*;

    over!(who_takes_no_byte_for_too_long_is_closed: websocket WebSocket, sockjs SockJsWebSocket);
    over!(who_takes_no_byte_for_too_long_is_closed: xhr_streaming XhrStreaming);
    over!(who_takes_no_byte_for_too_long_is_closed: eventsource EventSource, htmlfile HtmlFile);
}

async fn who_takes_no_byte_for_too_long_is_closed(carrier: Carrier) {
    const SENT: usize = 2_000;
    let options = [
        "--stall-timeout-ms",
        "300",
        "--message-rate",
        "0",
        "--sockjs-response-bytes-max",
        "100000000",
    ];
    let server = TestServer::start_over(carrier, &options).await;
    let room: ChatRoom = server.make_room("r").await;
    let mut stalled = server.connect().await;
    stalled.subscribe("0", &room_destination(&room), "").await;
    let mut sender = Client::connect(server.address).await;
    let text = "가".repeat(4_000);
    for index in 0..SENT {
        sender.talk(&room, "a", &text, &index.to_string()).await;
    }
    for index in 0..SENT {
        sender.receipt(&index.to_string()).await;
    }
    // Longer than it takes, also where the machine has so much to do that some of it does not count.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let (count, ended) = read_to_end(&mut stalled).await;
    assert!(
        count < SENT,
        "{count} messages went to one who took no byte"
    );
    assert!(matches!(ended.code, Some(4500) | None), "{ended:?}");
    // What was stored is not lost to the one who was closed.
    let mut back = server.connect().await;
    let offset = format!("x-stream-offset:offset={}\n", count + 1);
    back.subscribe("0", &room_destination(&room), &offset).await;
    assert_eq!(back.message().await.seq, count as u64 + 1);
}

/// A session that has begun so many transactions, `t0`, `t1` and so on, each with these SENDs.
async fn with_transactions(server: &TestServer, count: usize, sends: &[String]) -> Client {
    let mut client = server.connect().await;
    for index in 0..count {
        let begin = format!("BEGIN\ntransaction:t{index}\n\n\0");
        client.send(&begin).await;
    }
    for send in sends {
        client.send(send).await;
    }
    client
}

async fn transactions_are_few_and_small(carrier: Carrier) {
    let server = TestServer::start_over(carrier, &["--message-rate", "0"]).await;
    let room = server.make_room("r").await;
    let destination = room_destination(&room);
    let ends_in_error = async |mut client: Client, frame: &str| {
        client.send(frame).await;
        let error = client.frame().await;
        assert_eq!(error.command, Command::Error, "{error:?}");
        assert_eq!(client.end().await.code, Some(1002));
    };
    let commits = async |client: &mut Client| {
        client.send("COMMIT\ntransaction:t0\nreceipt:c\n\n\0").await;
        client.receipt("c").await;
    };

    // Sixteen are open; one that ends makes room for another.
    let mut client = with_transactions(&server, 16, &[]).await;
    commits(&mut client).await;
    client.send("BEGIN\ntransaction:a\nreceipt:a\n\n\0").await;
    client.receipt("a").await;
    ends_in_error(client, "BEGIN\ntransaction:b\n\n\0").await;

    // A thousand frames are in one.
    let send = |body: &str| format!("SEND\ndestination:{destination}\ntransaction:t0\n\n{body}\0");
    let small = send(&talk(&room, "a", "x"));
    let frames = vec![small.clone(); 1_000];
    let mut client = with_transactions(&server, 1, &frames).await;
    commits(&mut client).await;
    assert_eq!(
        server.history(&room, "?before=1001&limit=1").await[0].seq,
        1_000
    );
    let client = with_transactions(&server, 1, &frames).await;
    ends_in_error(client, &small).await;

    // A mebibyte of bodies, and of names and values of headers, is in one.
    let head = "destination".len() + destination.len() + "transaction".len() + "t0".len();
    let sized = |octets: usize| {
        let body = talk(&room, "a", "x");
        send(&format!("{body}{}", " ".repeat(octets - head - body.len())))
    };
    let frames = vec![sized(32_768); 31];
    let whole = [&frames[..], &[sized(32_768)]].concat();
    let mut client = with_transactions(&server, 1, &whole).await;
    commits(&mut client).await;
    let client = with_transactions(&server, 1, &frames).await;
    ends_in_error(client, &sized(32_769)).await;
    assert_eq!(server.history(&room, "?after=1032").await, []);
}

#[tokio::test]
async fn a_window_has_1_to_1000_messages() {
    let server = TestServer::start(&[]).await;
    let subscribe = |receipt: &str, count: &str| {
        let destination = "/topic/chat/rooms";
        format!(
            "SUBSCRIBE\nid:{receipt}{count}\ndestination:{destination}\nack:client\n\
             prefetch-count:{count}\nreceipt:{receipt}\n\n\0"
        )
    };
    for refused in ["0", "1001", "-1", "", "many"] {
        taken_and_refused(&server, &subscribe("r", "1"), &subscribe("x", refused)).await;
        taken_and_refused(&server, &subscribe("r", "1000"), &subscribe("x", refused)).await;
    }
}
