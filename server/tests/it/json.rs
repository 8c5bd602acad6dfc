//! JSON as clients write it: half a surrogate pair in an escape, a byte order mark before it, and what
//! is compressed.

use shared::chat::ChatRoom;

use crate::support::{TestServer, request, room_destination};

const MARK: &str = "\u{FEFF}";
const JSON: (&str, &str) = ("content-type", "application/json");

#[tokio::test]
async fn lone_surrogates_and_marks_are_read_in_every_send() {
    let server = TestServer::start(&["--message-rate", "0"]).await;
    let room = server.make_room("r").await;
    let mut client = server.connect().await;
    client.subscribe("e", "/user/queue/errors", "").await;
    let id = room.room_id;
    let texts = [
        (r"hi \ud83d", "hi \u{FFFD}"),
        (r"\uDE00 hi", "\u{FFFD} hi"),
        (r"\ude00\ud83d", "\u{FFFD}\u{FFFD}"),
        (r"\ud83d\ude00", "😀"),
        (r"\\ud83d", r"\ud83d"),
    ];
    let mut expected = Vec::new();
    for (number, (text, read)) in texts.into_iter().enumerate() {
        let one = format!(
            r#"{{"type":"TALK","roomId":"{id}","sender":"a\ud83d","message":"{text}","x\ude00":[{{"\ud800":"\udfff"}}]}}"#
        );
        let array = format!("[{one},{one}]");
        let (app, direct, batch) = (
            "/app/chat/sendMessage".to_owned(),
            room_destination(&room),
            format!("/app{}", room_destination(&room)),
        );
        for (destination, body) in [(app, &one), (direct, &one), (batch, &array)] {
            for (mark, transaction) in [("", false), (MARK, false), (MARK, true)] {
                let within = if transaction { "transaction:t\n" } else { "" };
                if transaction {
                    client.send("BEGIN\ntransaction:t\n\n\0").await;
                }
                let frame = format!(
                    "SEND\ndestination:{destination}\n{within}receipt:r{number}\n\n{mark}{body}\0"
                );
                client.send(&frame).await;
                client.receipt(&format!("r{number}")).await;
                if transaction {
                    client.send("COMMIT\ntransaction:t\nreceipt:c\n\n\0").await;
                    client.receipt("c").await;
                }
                expected.extend(vec![read; if *body == array { 2 } else { 1 }]);
            }
        }
    }
    let stored = server.history(&room, "?limit=200").await;
    let messages: Vec<_> = stored.iter().map(|stored| &*stored.message).collect();
    assert_eq!(messages, expected);
    assert!(
        stored
            .iter()
            .all(|stored| stored.sender.as_str() == "a\u{FFFD}")
    );
    // What is none is still refused by what it is.
    let refused = [
        (
            r#"{"type":"TALK","sender":"a","message":"x","id":"\ud83d"}"#,
            "422",
        ),
        (r#"{"type":"\ud83d","sender":"a","message":"x"}"#, "422"),
        (r#"{"type":"TALK","sender":"a","message":"\ud83"}"#, "400"),
        (r#"{"type":"TALK","sender":"a","message":"\ud83d}"#, "400"),
    ];
    for (body, status) in refused {
        let destination = room_destination(&room);
        let frame = format!("SEND\ndestination:{destination}\n\n{body}\0");
        client.send(&frame).await;
        let told = client.frame().await;
        let told = String::from_utf8(told.body.to_vec()).unwrap();
        assert!(
            told.contains(&format!("\"status\":{status}")),
            "{body}: {told}"
        );
    }
}

#[tokio::test]
async fn the_api_reads_them_too() {
    let server = TestServer::start(&["--room-rate", "0"]).await;
    for (body, name) in [
        (r#"{"roomName":"방 \ud83d"}"#.to_owned(), "방 \u{FFFD}"),
        (format!(r#"{MARK}{{"roomName":"방"}}"#), "방"),
        (
            format!("{MARK}\r\n {{\"roomName\":\"\\ude00\"}}"),
            "\u{FFFD}",
        ),
    ] {
        let answer = request(server.address, "POST", "/chat/room", &[JSON], &body).await;
        assert_eq!(answer.status, 200, "{body}: {}", answer.body);
        let room: ChatRoom = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(room.room_name.as_str(), name);
    }
}

#[tokio::test]
async fn what_is_compressed_is_refused_wherever_a_body_is_read() {
    let options = ["--room-rate", "0", "--allowed-origins", "*"];
    let server = TestServer::start(&options).await;
    let opened = request(server.address, "POST", "/ws/chat/0/s/xhr", &[], "").await;
    assert_eq!(opened.status, 200);
    let form = ("content-type", "application/x-www-form-urlencoded");
    let plain = ("content-type", "text/plain");
    for (path, kind, body, accepted) in [
        ("/chat/room", JSON, r#"{"roomName":"r"}"#, 200),
        ("/ws/chat/0/s/xhr_send", plain, r#"["\n"]"#, 204),
        ("/ws/chat/0/s/jsonp_send", form, "d=%5b%22%5cn%22%5d", 200),
        ("/ws/chat/0/s/jsonp_send", plain, "\u{FEFF}[\"\\n\"]", 200),
    ] {
        for (coding, is_known) in [
            ("identity", true),
            ("Identity", true),
            ("identity, identity", true),
            ("", true),
            ("gzip", false),
            ("br", false),
            ("x-anything", false),
            ("identity, gzip", false),
            ("gzip,", false),
        ] {
            let headers = [kind, ("content-encoding", coding)];
            let answer = request(server.address, "POST", path, &headers, body).await;
            let status = if is_known { accepted } else { 415 };
            assert_eq!(answer.status, status, "{path} {coding}: {}", answer.body);
            if !is_known {
                assert_eq!(answer.header("accept-encoding"), Some("identity"));
                assert!(answer.body.contains("content-encoding"), "{}", answer.body);
            }
        }
        let twice = [
            kind,
            ("content-encoding", "identity"),
            ("content-encoding", "gzip"),
        ];
        let answer = request(server.address, "POST", path, &twice, body).await;
        assert_eq!(answer.status, 415);
    }
}
