//! The hosts that the server answers to, and the sites whose pages it does.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::process::{PROGRAM, start_as};
use crate::support::{TestServer, request};

/// The status of a request that is sent as it stands.
async fn status(server: &TestServer, head: &str) -> u16 {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let head = head.replace('\n', "\r\n");
    stream
        .write_all(format!("{head}\r\nconnection: close\r\n\r\n").as_bytes())
        .await
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer[9..12].parse().unwrap()
}

/// What there is under a host.
const PATHS: [&str; 7] = [
    "/",
    "/chat/room",
    "/chat/rooms",
    "/chat/room/x",
    "/nowhere",
    "/ws/chat",
    "/ws/chat/info",
];

#[tokio::test]
async fn a_name_that_somebody_has_pointed_here_gets_nothing() {
    let server = TestServer::start(&["--allowed-origins", "https://shop.example"]).await;
    for path in PATHS {
        let of = async |host: &str| {
            let head = format!("GET {path} HTTP/1.1\nhost: {host}");
            status(&server, &head).await
        };
        for host in ["evil.example", "evil.example:80", "127.0.0.1.evil.example"] {
            assert_eq!(of(host).await, 421, "{path} {host}");
        }
        for host in [
            "127.0.0.1",
            "[::1]:8080",
            "localhost:1",
            "a.localhost",
            "shop.example",
        ] {
            assert_ne!(of(host).await, 421, "{path} {host}");
        }
    }
    // A name that is asked for in the target counts, whatever `Host` says.
    let absolute = "GET http://evil.example/chat/rooms HTTP/1.1\nhost: localhost";
    assert_eq!(status(&server, absolute).await, 421);
    let absolute = "GET http://localhost/chat/rooms HTTP/1.1\nhost: evil.example";
    assert_eq!(status(&server, absolute).await, 200);
    // Balancers may ask by any name how it is.
    for path in ["/healthz", "/readyz", "/healthz/"] {
        let head = format!("GET {path} HTTP/1.1\nhost: evil.example");
        assert_eq!(status(&server, &head).await, 200, "{path}");
    }
    let made = request(server.address, "GET", "/chat/rooms", &[], "").await;
    assert_eq!(made.body, "[]");
}

#[tokio::test]
async fn a_request_names_its_host_once() {
    let server = TestServer::start(&[]).await;
    for (head, expected) in [
        ("GET /healthz HTTP/1.1\nhost: localhost", 200),
        (
            "GET /healthz HTTP/1.1\nhost: localhost\nhost: localhost",
            400,
        ),
        (
            "GET /healthz HTTP/1.1\nhost: localhost\nhost: evil.example",
            400,
        ),
        ("GET /healthz HTTP/1.1\nx: y", 400),
        ("GET /healthz HTTP/1.1\nhost:", 400),
        ("GET /healthz HTTP/1.1\nhost: a/b", 400),
        ("GET /healthz HTTP/1.1\nhost: me@localhost", 400),
        ("GET /chat/rooms HTTP/1.0\nx: y", 200),
        ("GET /chat/rooms HTTP/1.0\nhost: evil.example", 421),
        (
            "GET /healthz HTTP/1.0\nhost: localhost\nhost: localhost",
            400,
        ),
        ("OPTIONS * HTTP/1.1\nx: y", 400),
        ("GET http://localhost/healthz HTTP/1.1\nx: y", 400),
    ] {
        assert_eq!(status(&server, head).await, expected, "{head}");
    }
}

#[tokio::test]
async fn the_hosts_that_are_listed_are_answered_to() {
    let options = [
        "--hosts",
        "chat.example, *.chat.example",
        "--trusted-proxies",
        "127.0.0.1",
    ];
    let server = TestServer::start(&options).await;
    for (headers, expected) in [
        ("host: chat.example", 200),
        ("host: CHAT.example:8443", 200),
        ("host: a.chat.example", 200),
        ("host: evil.example", 421),
        ("host: localhost", 200),
        // What a trusted proxy says was asked for counts, as elsewhere.
        ("host: backend:8080\nx-forwarded-host: chat.example", 200),
        ("host: chat.example\nx-forwarded-host: evil.example", 421),
    ] {
        let head = format!("GET /chat/rooms HTTP/1.1\n{headers}");
        assert_eq!(status(&server, &head).await, expected, "{headers}");
    }
    let server = TestServer::start(&["--hosts", "*"]).await;
    let head = "GET /chat/rooms HTTP/1.1\nhost: evil.example";
    assert_eq!(status(&server, head).await, 200);
    // Of whom nobody trusts it counts for nothing.
    let server = TestServer::start(&[]).await;
    let head = "GET /chat/rooms HTTP/1.1\nhost: evil.example\nx-forwarded-host: localhost";
    assert_eq!(status(&server, head).await, 421);
}

#[tokio::test]
async fn the_operator_is_told_what_to_do_once_for_each_host() {
    let data = tempfile::tempdir().unwrap();
    let (_child, address, logged) = start_as(Command::new(PROGRAM), data.path()).await;
    for _ in 0..3 {
        for host in ["chat.example.org", "evil.example:81"] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let head = format!("GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 421 "), "{answer}");
            assert!(answer.contains("--hosts"), "{answer}");
        }
    }
    for words in ["--hosts chat.example.org", "--hosts evil.example"] {
        let told = async || loop {
            let told = logged.lock().unwrap().clone();
            if told.iter().any(|line| line.contains(words)) {
                return told;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        };
        let told = tokio::time::timeout(crate::support::SOON, told())
            .await
            .unwrap();
        let told = told.iter().filter(|line| line.contains(words)).count();
        assert_eq!(told, 1, "{words}");
    }
}

#[tokio::test]
async fn pages_of_other_sites_change_nothing_and_are_told_nothing() {
    let server = TestServer::start(&["--allowed-origins", "https://shop.example"]).await;
    let room = server.make_room("r").await;
    let messages = format!("/chat/room/{}/messages", room.room_id);
    let room = format!("/chat/room/{}", room.room_id);
    let own = format!("http://{}", server.address);
    let referer = format!("{own}/chat/room");
    let cross = ("sec-fetch-site", "cross-site");
    let same = ("sec-fetch-site", "same-site");
    let cases: &[(&[(&str, &str)], bool)] = &[
        (&[], true),
        (&[("sec-fetch-site", "same-origin")], true),
        (&[("sec-fetch-site", "none")], true),
        (&[cross], false),
        (&[cross, ("referer", "https://evil.example/")], false),
        (&[cross, ("referer", "https://shop.example/")], true),
        (&[cross, ("origin", "https://evil.example")], false),
        (&[cross, ("origin", "https://shop.example")], true),
        (&[same], false),
        (&[same, ("referer", "http://127.0.0.1:1/")], false),
        (&[same, ("referer", &referer)], true),
        (&[same, ("origin", &own)], true),
        (&[("origin", "https://evil.example")], false),
        (&[("origin", "null")], false),
    ];
    for (headers, is_allowed) in cases {
        let expected = if *is_allowed { 200 } else { 403 };
        let json = [&[("content-type", "application/json")], *headers].concat();
        let body = r#"{"roomName":"r"}"#;
        let made = request(server.address, "POST", "/chat/room", &json, body).await;
        assert_eq!(made.status, expected, "{headers:?}: {made:?}");
        for path in ["/chat/rooms", &room, &messages, "/ws/chat/info"] {
            for method in ["GET", "HEAD"] {
                let answer = request(server.address, method, path, headers, "").await;
                assert_eq!(answer.status, expected, "{method} {path} {headers:?}");
            }
        }
        // A page may be linked to from anywhere.
        let page = request(server.address, "GET", "/chat/room", headers, "").await;
        assert_eq!(page.status, 200, "{headers:?}");
    }
    let link = [cross, ("sec-fetch-mode", "navigate")];
    let answer = request(server.address, "GET", &room, &link, "").await;
    assert_eq!(answer.status, 200);
    let json = [link[0], link[1], ("content-type", "application/json")];
    let body = r#"{"roomName":"r"}"#;
    let made = request(server.address, "POST", "/chat/room", &json, body).await;
    assert_eq!(made.status, 403);
}
