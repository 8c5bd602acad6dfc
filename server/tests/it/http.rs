//! The room API (contract, section 1).

use shared::chat::ChatRoom;

use crate::support::{TestServer, request};

const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

#[tokio::test]
async fn rooms_are_made_listed_and_found() {
    let server = TestServer::start(&[]).await;
    let answer = request(server.address, "GET", "/", &[], "").await;
    assert_eq!(
        (answer.status, answer.header("location")),
        (303, Some("/chat/room"))
    );
    let answer = request(
        server.address,
        "POST",
        "/chat/room",
        &JSON,
        r#"{"roomName":" 첫 방 "}"#,
    )
    .await;
    assert_eq!(answer.status, 200);
    let room: ChatRoom = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(room.room_name.as_str(), "첫 방");
    let location = format!("/chat/room/{}", room.room_id);
    assert_eq!(answer.header("location"), Some(location.as_str()));
    let second = server.make_room("첫 방").await;
    let answer = request(server.address, "GET", "/chat/rooms", &[], "").await;
    let rooms: Vec<ChatRoom> = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(rooms, [room.clone(), second]);
    let answer = request(server.address, "GET", &location, &[], "").await;
    assert_eq!(
        serde_json::from_str::<ChatRoom>(&answer.body).unwrap(),
        room
    );
}

#[tokio::test]
async fn errors_are_problems_that_say_what_to_do() {
    let server = TestServer::start(&["--room-rate", "4"]).await;
    let room = server.make_room("r").await;
    let messages = format!("/chat/room/{}/messages", room.room_id);
    let long = format!(r#"{{"roomName":"{}"}}"#, "r".repeat(101));
    let huge = format!(r#"{{"roomName":"{}"}}"#, "r".repeat(16 << 10));
    let text: &[(&str, &str)] = &[("content-type", "text/plain")];
    let cases: &[(&str, &str, &[(&str, &str)], &str, u16)] = &[
        ("POST", "/chat/room", &JSON, "{", 400),
        ("POST", "/chat/room", text, r#"{"roomName":"r"}"#, 415),
        ("POST", "/chat/room", &JSON, "{}", 422),
        ("POST", "/chat/room", &JSON, r#"{"roomName":" "}"#, 422),
        ("POST", "/chat/room", &JSON, r#"{"roomName":7}"#, 422),
        ("POST", "/chat/room", &JSON, "[]", 422),
        ("PUT", "/chat/room", &JSON, "{}", 405),
        ("DELETE", "/chat/rooms", &[], "", 405),
        ("POST", "/chat/room", &JSON, &long, 422),
        ("POST", "/chat/room", &JSON, &huge, 413),
        ("GET", "/chat/room/x", &[], "", 404),
        (
            "GET",
            "/chat/room/00000000-0000-4000-8000-000000000000",
            &[],
            "",
            404,
        ),
        ("GET", &format!("{messages}?limit=0"), &[], "", 422),
        ("GET", &format!("{messages}?limit=201"), &[], "", 422),
        ("GET", &format!("{messages}?before=x"), &[], "", 422),
        ("GET", &format!("{messages}?after=-1"), &[], "", 422),
    ];
    for (method, path, headers, body, status) in cases {
        let answer = request(server.address, method, path, headers, body).await;
        assert_eq!(answer.status, *status, "{method} {path} {body}: {answer:?}");
        assert_eq!(
            answer.header("content-type"),
            Some("application/problem+json")
        );
        let problem: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(problem["status"], *status);
        assert!(!problem["detail"].as_str().unwrap().is_empty());
    }
    let mut statuses = Vec::new();
    for _ in 0..4 {
        let answer = request(
            server.address,
            "POST",
            "/chat/room",
            &JSON,
            r#"{"roomName":"r"}"#,
        )
        .await;
        if answer.status == 429 {
            assert!(answer.header("retry-after").is_some());
        }
        statuses.push(answer.status);
    }
    assert_eq!(statuses, [200, 200, 200, 429]);
}

#[tokio::test]
async fn history_is_bounded_by_seq() {
    let server = TestServer::start(&["--message-rate", "0"]).await;
    let room = server.make_room("r").await;
    let mut client = server.connect().await;
    for index in 1..=210 {
        client
            .talk(&room, "a", &index.to_string(), &index.to_string())
            .await;
    }
    for index in 1..=210 {
        client.receipt(&index.to_string()).await;
    }
    for (query, expected) in [
        ("", 161..=210),
        ("?limit=200", 11..=210),
        ("?limit=3", 208..=210),
        ("?before=5", 1..=4),
        ("?before=100&limit=2", 98..=99),
        ("?after=208", 209..=210),
        ("?after=0&limit=2", 1..=2),
        ("?after=10&before=13", 11..=12),
    ] {
        let found: Vec<u64> = server
            .history(&room, query)
            .await
            .iter()
            .map(|m| m.seq)
            .collect();
        assert_eq!(found, expected.collect::<Vec<_>>(), "{query}");
    }
}

#[tokio::test]
async fn health_and_greeting() {
    let server = TestServer::start(&[]).await;
    for path in ["/healthz", "/readyz"] {
        assert_eq!(
            request(server.address, "GET", path, &[], "").await.status,
            200
        );
    }
    for path in ["/ws/chat", "/ws/chat/"] {
        let answer = request(server.address, "GET", path, &[], "").await;
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (200, "Welcome to SockJS!\n")
        );
    }
}

#[tokio::test]
async fn the_api_answers_other_origins_of_the_list_alone() {
    let server = TestServer::start(&["--allowed-origins", "https://shop.example"]).await;
    let room = format!("/chat/room/{}", server.make_room("r").await.room_id);
    for (origin, allowed) in [
        ("https://shop.example", true),
        ("https://evil.example", false),
        ("null", false),
    ] {
        for path in ["/chat/rooms", &room] {
            let origin = [("origin", origin)];
            let answer = request(server.address, "GET", path, &origin, "").await;
            let expected = allowed.then_some(origin[0].1);
            assert_eq!(answer.header("access-control-allow-origin"), expected);
            assert!(answer.header("vary").unwrap().contains("origin"));
        }
        let preflight = [
            ("origin", origin),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "content-type"),
        ];
        let answer = request(server.address, "OPTIONS", "/chat/room", &preflight, "").await;
        let found = answer.header("access-control-allow-origin");
        assert_eq!(found, allowed.then_some(origin), "{answer:?}");
    }
    let own = format!("http://{}", server.address);
    let answer = request(
        server.address,
        "GET",
        "/chat/rooms",
        &[("origin", &own)],
        "",
    )
    .await;
    assert_eq!(
        answer.header("access-control-allow-credentials"),
        Some("true")
    );
}

#[tokio::test]
async fn a_trusted_proxy_speaks_for_the_browser() {
    let options = ["--trusted-proxies", "127.0.0.1", "--room-rate", "1"];
    let server = TestServer::start(&options).await;
    let https = [
        ("x-forwarded-proto", "https"),
        ("x-forwarded-for", "203.0.113.9"),
    ];
    let page = request(server.address, "GET", "/chat/room", &https, "").await;
    let cookie = page.header("set-cookie").unwrap();
    assert!(cookie.starts_with("__Host-sarangbang_guest="), "{cookie}");
    assert!(
        cookie.contains("; Secure") && cookie.contains("; Path=/;"),
        "{cookie}"
    );
    // Over https that name alone counts, as neighbours under one domain can set the other.
    let (_, cookie) = cookie.split(';').next().unwrap().split_once('=').unwrap();
    for (proto, name, is_known) in [
        ("https", "__Host-sarangbang_guest", true),
        ("https", "sarangbang_guest", false),
        ("https", "__Secure-sarangbang_guest", false),
        ("http", "sarangbang_guest", true),
        ("http", "__Host-sarangbang_guest", false),
    ] {
        let cookie = format!("{name}={cookie}");
        let headers = [("x-forwarded-proto", proto), ("cookie", &*cookie)];
        for path in ["/chat/room", "/ws/chat/info"] {
            let page = request(server.address, "GET", path, &headers, "").await;
            assert_eq!(
                page.header("set-cookie").is_none(),
                is_known,
                "{proto} {name}"
            );
        }
    }
    for (client, status) in [
        ("203.0.113.9", 200),
        ("203.0.113.9", 429),
        ("203.0.113.10", 200),
    ] {
        let headers = [JSON[0], ("x-forwarded-for", client)];
        let body = r#"{"roomName":"r"}"#;
        let answer = request(server.address, "POST", "/chat/room", &headers, body).await;
        assert_eq!(answer.status, status, "{client}");
    }
}

#[tokio::test]
async fn pages_and_lists_are_compressed_for_who_can_read_it() {
    let server = TestServer::start(&[]).await;
    for index in 0..30 {
        server.make_room(&format!("room {index}")).await;
    }
    for path in ["/chat/room", "/chat/rooms"] {
        let plain = request(server.address, "GET", path, &[], "").await;
        assert_eq!(plain.header("content-encoding"), None);
        for encoding in ["br", "gzip"] {
            let accept = [("accept-encoding", encoding)];
            let answer = request(server.address, "GET", path, &accept, "").await;
            assert_eq!(answer.header("content-encoding"), Some(encoding), "{path}");
        }
    }
}
