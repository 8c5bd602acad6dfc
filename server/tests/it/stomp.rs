//! STOMP over WebSocket (contract, section 3).

use std::time::Duration;

use shared::stomp::Command;

use crate::link::{Carrier, over_each_transport};
use crate::support::{Client, TestServer, request, room_destination, talk};

over_each_transport!(
    who_listens_is_alive,
    two_people_talk,
    receipts_come_in_order_and_disconnect_ends,
    what_is_wrong_ends_in_error_and_close,
    refusals_go_to_the_errors_queue_and_lose_nothing,
    names_belong_to_guests_and_are_freed_at_the_end,
    a_drain_closes_with_1012_and_keeps_what_was_acknowledged
);

async fn two_people_talk(carrier: Carrier) {
    let server = TestServer::start_over(carrier, &[]).await;
    let room = server.make_room("주말 등산 모임").await;
    let destination = room_destination(&room);
    let mut one = server.connect().await;
    let mut two = server.connect().await;
    one.subscribe("0", &destination, "").await;
    two.subscribe("s", &destination, "").await;
    let enter = format!(
        r#"{{"type":"ENTER","roomId":"{}","sender":"영희"}}"#,
        room.room_id
    );
    one.send(&format!(
        "SEND\ndestination:/app/chat/sendMessage\n\n{enter}\0"
    ))
    .await;
    for client in [&mut one, &mut two] {
        let frame = client.frame().await;
        assert_eq!(frame.command, Command::Message);
        assert_eq!(frame.headers.get("destination"), Some(destination.as_str()));
        assert_eq!(frame.headers.get("content-type"), Some("application/json"));
        assert_eq!(frame.headers.get("x-stream-offset"), Some("1"));
        let message: serde_json::Value = serde_json::from_slice(&frame.body).unwrap();
        assert_eq!(message["type"], "ENTER");
        assert_eq!(message["message"], "영희님이 입장하였습니다.");
        assert_eq!(message["seq"], 1);
        let message_id = format!("{}-1", room.room_id);
        assert_eq!(frame.headers.get("message-id"), Some(message_id.as_str()));
    }
    two.talk(&room, "철수", "안녕", "r1").await;
    let mut frames = [two.frame().await.command, two.frame().await.command];
    frames.sort_by_key(|command| format!("{command:?}"));
    assert_eq!(frames, [Command::Message, Command::Receipt]);
    assert_eq!(one.message().await.message, "안녕");
    let messages = server.history(&room, "").await;
    assert_eq!(
        messages
            .iter()
            .map(|message| message.seq)
            .collect::<Vec<_>>(),
        [1, 2]
    );
    let data = server.stop().await;
    let server = TestServer::start_in(data, &[]).await;
    assert_eq!(server.history(&room, "").await, messages);
}

#[tokio::test]
async fn versions_are_negotiated() {
    let server = TestServer::start(&[]).await;
    for (offer, version) in [
        ("accept-version:1.0,1.1,1.2\n", "1.2"),
        ("accept-version:1.1,1.0\n", "1.1"),
        ("", "1.0"),
    ] {
        for command in ["CONNECT", "STOMP"] {
            let mut client = Client::open(server.address).await;
            client
                .send(&format!("{command}\n{offer}host:x\n\n\0"))
                .await;
            let frame = client.frame().await;
            assert_eq!(frame.command, Command::Connected);
            assert_eq!(frame.headers.get("version"), Some(version));
            assert!(frame.headers.get("session").is_some());
            assert!(
                frame
                    .headers
                    .get("server")
                    .unwrap()
                    .starts_with("sarangbang/")
            );
        }
    }
    let mut client = Client::open(server.address).await;
    client
        .send("CONNECT\naccept-version:2.0\nhost:x\n\n\0")
        .await;
    let frame = client.frame().await;
    assert_eq!(frame.command, Command::Error);
    assert!(frame.headers.get("version").unwrap().contains("1.2"));
    assert_eq!(client.end().await.code, Some(1002));
}

#[tokio::test]
async fn frames_come_in_any_cut_and_kind_of_message() {
    let server = TestServer::start(&[]).await;
    let room = server.make_room("r").await;
    let mut client = server.connect().await;
    let destination = room_destination(&room);
    let one = format!("SUBSCRIBE\nid:1\ndestination:{destination}\nreceipt:a\n\n\0\n\n");
    let two = format!(
        "SEND\r\ndestination:{destination}\r\nreceipt:b\r\n\r\n{}\0\n",
        talk(&room, "a", "x")
    );
    let whole = format!("\n{one}{two}");
    for octet in whole.as_bytes() {
        client.send_binary(vec![*octet]).await;
    }
    client.receipt("a").await;
    let kinds = [client.frame().await.command, client.frame().await.command];
    assert!(
        kinds.contains(&Command::Message) && kinds.contains(&Command::Receipt),
        "{kinds:?}"
    );
}

async fn receipts_come_in_order_and_disconnect_ends(carrier: Carrier) {
    let server = TestServer::start_over(carrier, &[]).await;
    let room = server.make_room("r").await;
    let mut client = server.connect().await;
    let mut text = String::new();
    for index in 0..50 {
        text.push_str(&format!(
            "SEND\ndestination:/app/chat/sendMessage\nreceipt:r{index}\n\n{}\0",
            talk(&room, "a", &index.to_string())
        ));
    }
    text.push_str("SUBSCRIBE\nid:1\ndestination:/topic/chat/rooms\nreceipt:s\n\n\0");
    text.push_str("UNSUBSCRIBE\nid:1\nreceipt:u\n\n\0DISCONNECT\nreceipt:bye\n\n\0");
    client.send(&text).await;
    for index in 0..50 {
        client.receipt(&format!("r{index}")).await;
    }
    for id in ["s", "u", "bye"] {
        client.receipt(id).await;
    }
    assert_eq!(client.end().await.code, Some(1000));
    let sent: Vec<_> = server
        .history(&room, "")
        .await
        .into_iter()
        .map(|m| m.message)
        .collect();
    assert_eq!(
        sent,
        (0..50).map(|index| index.to_string()).collect::<Vec<_>>()
    );
}

async fn what_is_wrong_ends_in_error_and_close(carrier: Carrier) {
    let server = TestServer::start_over(carrier, &[]).await;
    let nobody = "00000000-0000-4000-8000-000000000000";
    let cases = [
        ("SEND\nreceipt:9\n\n\0".to_owned(), Some("9")),
        ("SUBSCRIBE\nid:1\n\n\0".to_owned(), None),
        (
            "SUBSCRIBE\ndestination:/topic/chat/rooms\n\n\0".to_owned(),
            None,
        ),
        (
            format!("SUBSCRIBE\nid:1\nreceipt:9\ndestination:/topic/chat/room/{nobody}\n\n\0"),
            Some("9"),
        ),
        (
            "SUBSCRIBE\nid:1\ndestination:/topic/chat/room/x\n\n\0".to_owned(),
            None,
        ),
        ("SUBSCRIBE\nid:1\ndestination:/app/x\n\n\0".to_owned(), None),
        (
            "SUBSCRIBE\nid:1\ndestination:/topic/*\n\n\0".to_owned(),
            None,
        ),
        ("UNSUBSCRIBE\n\n\0".to_owned(), None),
        (
            "SUBSCRIBE\nid:1\ndestination:/topic/x\n\n\0\
             SUBSCRIBE\nid:1\nreceipt:9\ndestination:/topic/y\n\n\0"
                .to_owned(),
            Some("9"),
        ),
        ("HELLO\n\n\0".to_owned(), None),
        (
            "COMMIT\nreceipt:9\ntransaction:t\n\n\0".to_owned(),
            Some("9"),
        ),
        ("CONNECT\n\n\0".to_owned(), None),
        ("SEND\ndestination:/a\\x\n\n\0".to_owned(), None),
        (
            "SUBSCRIBE\nid:1\ndestination:/topic/chat/rooms\n\nbody\0".to_owned(),
            None,
        ),
        (
            "SEND\ndestination:/topic/chat/rooms\nreceipt:9\n\n{}\0".to_owned(),
            Some("9"),
        ),
        (
            "SEND\ndestination:/app/chat/sendMessage\nreceipt:9\n\nno json\0".to_owned(),
            Some("9"),
        ),
    ];
    for (text, receipt) in cases {
        let mut client = server.connect().await;
        client.send(&text).await;
        let frame = client.frame().await;
        assert_eq!(frame.command, Command::Error, "{text}");
        assert!(!frame.headers.get("message").unwrap().is_empty());
        let body = str::from_utf8(&frame.body).unwrap();
        let command = text.split('\n').next().unwrap();
        let names_the_frame = format!("The {command} frame was refused: ");
        let names_it =
            body.starts_with(&names_the_frame) || command == "HELLO" && body.contains("HELLO");
        assert!(names_it && body.ends_with(".\n"), "{text}: {body}");
        assert_eq!(frame.headers.get("receipt-id"), receipt, "{text}");
        assert_eq!(client.end().await.code, Some(1002), "{text}");
    }
}

async fn refusals_go_to_the_errors_queue_and_lose_nothing(carrier: Carrier) {
    let server = TestServer::start_over(carrier, &[]).await;
    let room = server.make_room("r").await;
    let mut client = server.connect().await;
    client.subscribe("e", "/user/queue/errors", "").await;
    let long = "가".repeat(4_001);
    let cases = [
        ("no json".to_owned(), 400),
        ("[]".to_owned(), 422),
        (r#"{"message":1}"#.to_owned(), 422),
        (talk(&room, "a", &long), 422),
        (talk(&room, " ", "x"), 422),
        (r#"{"type":"TALK","roomId":"00000000-0000-4000-8000-000000000000","sender":"a","message":"x"}"#.to_owned(), 404),
    ];
    for (index, (body, status)) in cases.iter().enumerate() {
        client
            .send(&format!(
                "SEND\ndestination:/app/chat/sendMessage\nreceipt:r{index}\n\n{body}\0"
            ))
            .await;
        let frame = client.frame().await;
        assert_eq!(frame.command, Command::Message);
        assert_eq!(
            frame.headers.get("content-type"),
            Some("application/problem+json")
        );
        let problem: serde_json::Value = serde_json::from_slice(&frame.body).unwrap();
        assert_eq!(problem["status"], *status, "{problem}");
        assert_eq!(problem["receiptId"], format!("r{index}"));
        assert_eq!(problem["destination"], "/app/chat/sendMessage");
        assert!(!problem["detail"].as_str().unwrap().is_empty());
    }
    client.talk(&room, "a", &"가".repeat(4_000), "ok").await;
    client.receipt("ok").await;
    assert_eq!(server.history(&room, "").await.len(), 1);
}

async fn names_belong_to_guests_and_are_freed_at_the_end(carrier: Carrier) {
    let server = TestServer::start_over(carrier, &[]).await;
    let room = server.make_room("r").await;
    let page = request(server.address, "GET", "/chat/rooms", &[], "").await;
    assert_eq!(page.status, 200);
    let origin = format!("http://{}", server.address);
    let open = async || {
        let mut client = server.open_with(&[("origin", &origin)]).await;
        client
            .send("CONNECT\naccept-version:1.2\nhost:x\n\n\0")
            .await;
        client.frame().await;
        client.subscribe("e", "/user/queue/errors", "").await;
        client
    };
    let mut one = open().await;
    let mut two = open().await;
    one.talk(&room, "영희", "안녕", "1").await;
    one.receipt("1").await;
    two.talk(&room, "영희", "나도", "2").await;
    let frame = two.frame().await;
    let problem: serde_json::Value = serde_json::from_slice(&frame.body).unwrap();
    assert_eq!(problem["status"], 409, "{problem}");
    one.send("DISCONNECT\nreceipt:bye\n\n\0").await;
    one.receipt("bye").await;
    assert_eq!(one.end().await.code, Some(1000));
    // The name is free once the session's end has been ordered.
    for attempt in 0..100 {
        two.talk(&room, "영희", "이제", &format!("t{attempt}"))
            .await;
        if two.frame().await.command == Command::Receipt {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the name was never freed");
}

#[tokio::test]
async fn the_same_id_is_the_same_message() {
    let server = TestServer::start(&[]).await;
    let room = server.make_room("r").await;
    let mut client = server.connect().await;
    client.subscribe("0", &room_destination(&room), "").await;
    let id = "0192f0c1-2d3e-7a4b-8c5d-6e7f8091a2b3";
    let body = |sender: &str, text: &str| {
        format!(
            r#"{{"type":"TALK","roomId":"{}","sender":"{sender}","message":"{text}","id":"{id}"}}"#,
            room.room_id
        )
    };
    for (receipt, text) in [("1", "first"), ("2", "again")] {
        let body = body("a", text);
        client
            .send(&format!(
                "SEND\ndestination:/app/chat/sendMessage\nreceipt:{receipt}\n\n{body}\0"
            ))
            .await;
    }
    let mut kinds = Vec::new();
    for _ in 0..3 {
        kinds.push(client.frame().await.command);
    }
    assert_eq!(
        kinds
            .iter()
            .filter(|kind| **kind == Command::Receipt)
            .count(),
        2
    );
    let mut other = server.connect().await;
    other
        .send(&format!(
            "SEND\ndestination:/app/chat/sendMessage\nreceipt:3\n\n{}\0",
            body("b", "x")
        ))
        .await;
    assert_eq!(other.frame().await.command, Command::Error);
    let history = server.history(&room, "").await;
    assert_eq!(history.len(), 1);
    assert_eq!(history[0].message, "first");
}

#[tokio::test]
async fn an_array_is_stored_whole_or_not_at_all() {
    let server = TestServer::start(&[]).await;
    let room = server.make_room("r").await;
    let mut client = server.connect().await;
    client.subscribe("e", "/user/queue/errors", "").await;
    let destination = format!("/app/topic/chat/room/{}", room.room_id);
    let send = |receipt: &str, bodies: &[String]| {
        format!(
            "SEND\ndestination:{destination}\nreceipt:{receipt}\n\n[{}]\0",
            bodies.join(",")
        )
    };
    let bad = [talk(&room, "a", "1"), talk(&room, "b", "2")];
    client.send(&send("bad", &bad)).await;
    let frame = client.frame().await;
    let problem: serde_json::Value = serde_json::from_slice(&frame.body).unwrap();
    assert_eq!(
        (&problem["status"], &problem["index"]),
        (&409.into(), &1.into()),
        "{problem}"
    );
    assert!(server.history(&room, "").await.is_empty());
    let good: Vec<_> = (0..5)
        .map(|index| talk(&room, "a", &index.to_string()))
        .collect();
    client.send(&send("good", &good)).await;
    client.receipt("good").await;
    assert_eq!(server.history(&room, "").await.len(), 5);
}

#[tokio::test]
async fn heart_beats_are_sent_and_watched() {
    let server = TestServer::start(&["--heart-beat-ms", "100"]).await;
    let mut client = Client::open(server.address).await;
    client
        .send("CONNECT\naccept-version:1.2\nhost:x\nheart-beat:100,100\n\n\0")
        .await;
    let frame = client.frame().await;
    assert_eq!(frame.headers.get("heart-beat"), Some("100,100"));
    // A client that does not look answers no ping either.
    tokio::time::sleep(Duration::from_millis(600)).await;
    let ended = client.end().await;
    assert_eq!(ended.code, Some(4500), "{ended:?}");
    assert!(ended.reason.contains("heart-beat"), "{ended:?}");
    assert!(client.heart_beats >= 2, "{}", client.heart_beats);
}

/// A WebSocket's pong, and a receiver that is open.
async fn who_listens_is_alive(carrier: Carrier) {
    let server = TestServer::start_over(carrier, &["--heart-beat-ms", "100"]).await;
    let mut client = server.open().await;
    client
        .send("CONNECT\naccept-version:1.2\nhost:x\nheart-beat:100,100\n\n\0")
        .await;
    client.frame().await;
    // The library answers pings while it reads; no octet of STOMP is sent.
    let lived = tokio::time::timeout(Duration::from_secs(1), client.next()).await;
    assert!(lived.is_err(), "{lived:?}");
    assert!(client.heart_beats >= 5, "{}", client.heart_beats);
}

#[tokio::test]
async fn rooms_are_announced() {
    let server = TestServer::start(&[]).await;
    let mut client = server.connect().await;
    client.subscribe("0", "/topic/chat/rooms", "").await;
    let room = server.make_room("새 방").await;
    let frame = client.frame().await;
    assert_eq!(frame.headers.get("destination"), Some("/topic/chat/rooms"));
    let shown: shared::chat::ChatRoom = serde_json::from_slice(&frame.body).unwrap();
    assert_eq!(shown, room);
    let mut talker = server.connect().await;
    for index in 0..20 {
        talker.talk(&room, "a", "x", &index.to_string()).await;
    }
    let frame = client.frame().await;
    let shown: shared::chat::ChatRoom = serde_json::from_slice(&frame.body).unwrap();
    assert_eq!(shown.message_count, 20);
}

async fn a_drain_closes_with_1012_and_keeps_what_was_acknowledged(carrier: Carrier) {
    let server = TestServer::start_over(carrier, &[]).await;
    let room = server.make_room("r").await;
    let mut client = server.connect().await;
    client.talk(&room, "a", "x", "r").await;
    client.receipt("r").await;
    let (data, ended) = tokio::join!(server.stop(), client.end());
    assert_eq!(ended.code, Some(1012));
    let server = TestServer::start_in(data, &[]).await;
    assert_eq!(server.history(&room, "").await.len(), 1);
}

#[tokio::test]
async fn while_it_drains_only_its_life_is_told() {
    let server = TestServer::start(&[]).await;
    let address = server.address;
    // It waits a moment for the answer to its close frame, which does not come.
    let _silent = server.connect().await;
    let stopping = tokio::spawn(server.stop());
    let status = async |path| request(address, "GET", path, &[], "").await.status;
    while status("/readyz").await == 200 {}
    for (path, expected) in [
        ("/healthz", 200),
        ("/readyz", 503),
        ("/chat/room", 503),
        ("/chat/rooms", 503),
        ("/ws/chat/websocket", 503),
    ] {
        assert_eq!(status(path).await, expected, "{path}");
    }
    stopping.await.unwrap();
}

#[tokio::test]
async fn foreign_origins_are_refused() {
    let server = TestServer::start(&[]).await;
    let upgrade = [
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("origin", "https://evil.example"),
    ];
    let answer = request(server.address, "GET", "/ws/chat", &upgrade, "").await;
    assert_eq!(answer.status, 200, "no upgrade without connection: upgrade");
    let mut headers = upgrade.to_vec();
    headers.push(("connection", "upgrade"));
    let answer = request(server.address, "GET", "/ws/chat", &headers, "").await;
    assert_eq!(answer.status, 403);
    headers[1] = ("sec-websocket-version", "8");
    headers.retain(|(name, _)| *name != "origin");
    let answer = request(server.address, "GET", "/ws/chat", &headers, "").await;
    assert_eq!(
        (answer.status, answer.header("sec-websocket-version")),
        (426, Some("13"))
    );
}
