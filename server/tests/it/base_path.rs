//! Behind a proxy that shows the server under a path.

use crate::support::{TestServer, request};

#[tokio::test]
async fn requests_come_with_the_base_and_without() {
    for base in ["/chat-app", "/chat", "/a/b"] {
        let options = [
            "--base-path",
            base,
            "--allowed-origins",
            "https://friend.example",
            "--sockjs-client-url",
            "/sockjs.min.js",
        ];
        let server = TestServer::start(&options).await;
        let room = server.make_room("r").await.room_id;
        for path in [
            "/",
            "/chat/room",
            "/chat/room/",
            "/chat/rooms",
            &format!("/chat/room/{room}"),
            &format!("/chat/room/{room}/messages/?limit=3"),
            &format!("/chat/room/enter/{room}"),
            "/healthz",
            "/readyz",
            "/ws/chat",
            "/ws/chat/",
            "/ws/chat/iframe.html",
        ] {
            let bare = request(server.address, "GET", path, &[], "").await;
            let under = format!("{base}{path}");
            let under = request(server.address, "GET", &under, &[], "").await;
            let expected = if path == "/" { 303 } else { 200 };
            assert_eq!(
                (bare.status, under.status),
                (expected, expected),
                "{base} {path}"
            );
            if !path.contains("room/enter") && !path.trim_end_matches('/').ends_with("/room") {
                assert_eq!(bare.body, under.body, "{base} {path}");
            }
        }
        let other = request(
            server.address,
            "GET",
            &format!("{base}x/chat/room"),
            &[],
            "",
        )
        .await;
        assert_eq!(other.status, 404);
        let session = format!("{base}/ws/chat/0/s/xhr");
        let opened = request(server.address, "POST", &session, &[], "").await;
        assert_eq!(opened.body, "o\n");
    }
}

#[tokio::test]
async fn what_is_given_out_begins_with_the_base() {
    let options = ["--base-path", "chat-app/", "--sockjs-session-cookie"];
    let server = TestServer::start(&options).await;
    let json = [("content-type", "application/json")];
    let body = r#"{"roomName":"r"}"#;
    for begin in ["", "/chat-app"] {
        let ask = |method: &'static str, path: &str| {
            let path = format!("{begin}{path}");
            async move { request(server.address, method, &path, &[], "").await }
        };
        let root = ask("GET", "/").await;
        assert_eq!(root.header("location"), Some("/chat-app/chat/room"));
        let path = format!("{begin}/chat/room");
        let made = request(server.address, "POST", &path, &json, body).await;
        let location = made.header("location").unwrap();
        assert!(location.starts_with("/chat-app/chat/room/"), "{location}");
        let page = ask("GET", "/chat/room?lang=en").await;
        let cookies = page.headers.iter().filter(|(name, _)| name == "set-cookie");
        let cookies: Vec<_> = cookies.map(|(_, value)| value).collect();
        assert_eq!(cookies.len(), 2);
        for cookie in cookies {
            assert!(cookie.contains("Path=/chat-app;"), "{cookie}");
        }
        assert!(page.body.contains(r#"data-base="/chat-app""#));
        for attribute in ["href=\"", "src=\"", "import('", "action=\""] {
            for after in page.body.split(attribute).skip(1) {
                let is_ours = after.starts_with("/chat-app/") || after.starts_with("data:");
                assert!(is_ours, "{attribute}{after:.60}");
            }
        }
        let info = ask("GET", "/ws/chat/info").await;
        assert!(
            info.header("set-cookie")
                .unwrap()
                .contains("Path=/chat-app;")
        );
        let session = ask("POST", "/ws/chat/0/s/xhr").await;
        let cookie = session.header("set-cookie");
        assert_eq!(cookie, Some("JSESSIONID=dummy; path=/chat-app"));
    }
    // Over https the guest's is for all of the host, as `__Host-` must be, and has the path in its name.
    let options = ["--base-path", "/chat-app", "--trusted-proxies", "127.0.0.1"];
    let secure = TestServer::start(&options).await;
    let https = [("x-forwarded-proto", "https")];
    let page = request(secure.address, "GET", "/chat/room", &https, "").await;
    let cookie = page.header("set-cookie").unwrap();
    let name = "__Host-sarangbang_guest%2Fchat-app";
    assert!(cookie.starts_with(&format!("{name}=")), "{cookie}");
    assert!(
        cookie.contains("; Path=/;") && cookie.contains("; Secure"),
        "{cookie}"
    );
    let (sent, _) = cookie.split_once(';').unwrap();
    for (name, is_known) in [(name, true), ("__Host-sarangbang_guest", false)] {
        let (_, value) = sent.split_once('=').unwrap();
        let cookie = format!("{name}={value}");
        let headers = [https[0], ("cookie", &*cookie)];
        let page = request(secure.address, "GET", "/chat/room", &headers, "").await;
        assert_eq!(page.header("set-cookie").is_none(), is_known, "{name}");
    }
    let plain = TestServer::start(&["--base-path", "/"]).await;
    let page = request(plain.address, "GET", "/chat/room", &[], "").await;
    assert!(page.header("set-cookie").unwrap().contains("Path=/;"));
    assert!(page.body.contains("href=\"/chat/room\""));
}
