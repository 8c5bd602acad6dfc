//! What HTTP asks of every route: methods, conditions, and a slash at the end (RFC 9110).

use crate::support::{Answer, TestServer, request};

/// With these every route is there.
const OPTIONS: [&str; 4] = [
    "--allowed-origins",
    "*",
    "--sockjs-client-url",
    "/sockjs.min.js",
];

/// Every route, and the methods that it has.
fn routes(room: &str) -> Vec<(String, &'static str)> {
    const READ: &str = "GET, HEAD, OPTIONS";
    let routes = [
        ("/", READ),
        ("/chat/room", "GET, HEAD, POST, OPTIONS"),
        ("/chat/rooms", READ),
        ("/chat/room/{id}", READ),
        ("/chat/room/{id}/messages?limit=3", READ),
        ("/chat/room/enter/{id}", READ),
        ("/healthz", READ),
        ("/readyz", READ),
        ("/metrics", READ),
        ("/ws/chat", READ),
        ("/ws/chat/info", READ),
        ("/ws/chat/iframe.html", READ),
        ("/ws/chat/iframe-1.6.1.html", READ),
        ("/ws/chat/websocket", READ),
        ("/ws/chat/0/s/websocket", READ),
        ("/ws/chat/0/s/jsonp?c=f", READ),
        ("/ws/chat/0/s/xhr", "POST, OPTIONS"),
        ("/ws/chat/0/s/xhr_streaming", "POST, OPTIONS"),
        ("/ws/chat/0/s/xhr_send", "POST, OPTIONS"),
        ("/ws/chat/0/s/jsonp_send", "POST, OPTIONS"),
    ];
    let routes = routes.map(|(path, methods)| (path.replace("{id}", room), methods));
    routes.into_iter().collect()
}

/// The methods of a list, in one order.
fn sorted(list: &str) -> Vec<&str> {
    let mut methods: Vec<_> = list.split(',').map(str::trim).collect();
    methods.sort_unstable();
    methods
}

async fn ask(server: &TestServer, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    request(server.address, method, path, headers, "").await
}

#[tokio::test]
async fn every_route_knows_its_methods() {
    let server = TestServer::start(&OPTIONS).await;
    let room = server.make_room("r").await.room_id.to_string();
    for (path, methods) in routes(&room) {
        for method in [
            "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE",
        ] {
            if methods.contains(method) && method != "OPTIONS" {
                continue;
            }
            let answer = ask(&server, method, &path, &[]).await;
            let expected = if method == "OPTIONS" { 204 } else { 405 };
            assert_eq!(answer.status, expected, "{method} {path}: {answer:?}");
            let allow = answer.header("allow").unwrap_or_default();
            assert_eq!(sorted(allow), sorted(methods), "{method} {path}");
        }
        for method in ["PROPFIND", "get", "BREW", "M-SEARCH"] {
            let answer = ask(&server, method, &path, &[]).await;
            assert_eq!(answer.status, 501, "{method} {path}: {answer:?}");
        }
    }
    // No other than the server's own is changed by what a route has not.
    let rooms = ask(&server, "GET", "/chat/rooms", &[]).await;
    assert_eq!(rooms.body.matches("roomId").count(), 1);
    let whole = ask(&server, "OPTIONS", "*", &[]).await;
    assert_eq!((whole.status, whole.header("allow").is_some()), (204, true));
    for (method, status) in [("POST", 404), ("OPTIONS", 404), ("GET", 404), ("BREW", 501)] {
        let answer = ask(&server, method, "/nowhere", &[]).await;
        assert_eq!(answer.status, status, "{method}");
    }
}

#[tokio::test]
async fn head_is_get_without_content() {
    let server = TestServer::start(&OPTIONS).await;
    let room = server.make_room("r").await.room_id.to_string();
    let mut paths: Vec<_> = routes(&room);
    paths.retain(|(_, methods)| methods.contains("GET"));
    paths.push(("/nowhere".to_owned(), ""));
    paths.push(("/chat/room/x".to_owned(), ""));
    paths.push(("/ws/chat/nothing".to_owned(), ""));
    for (path, _) in paths {
        for accept in ["identity", "br"] {
            let accept = [("accept-encoding", accept)];
            let head = ask(&server, "HEAD", &path, &accept).await;
            let get = ask(&server, "GET", &path, &accept).await;
            assert_eq!(head.status, get.status, "{path}");
            assert_eq!(head.body, "");
            let names = |answer: &Answer| {
                let shown = |(name, value): &(String, String)| match name.as_str() {
                    // These are new each time; the last says how content is sent.
                    "set-cookie" | "content-security-policy" | "date" => {
                        (name.clone(), String::new())
                    }
                    _ => (name.clone(), value.clone()),
                };
                let mut all: Vec<_> = answer.headers.iter().map(shown).collect();
                all.retain(|(name, _)| name != "transfer-encoding" && name != "content-length");
                all.sort();
                all
            };
            let mut expected = names(&get);
            if path.contains("jsonp") {
                // HEAD opens no session, so it introduces nobody.
                expected.retain(|(name, _)| name != "set-cookie");
            }
            assert_eq!(names(&head), expected, "{path}");
            // Pages hold the time and a nonce, information on the transport something random.
            let is_page = get.header("content-security-policy").is_some();
            let is_alike = !is_page && !path.ends_with("/info");
            if let Some(length) = head.header("content-length").filter(|_| is_alike) {
                let expected = get.header("content-length");
                assert!(expected.is_none_or(|expected| expected == length), "{path}");
            }
        }
    }
}

#[tokio::test]
async fn head_takes_nothing_from_a_session() {
    let server =
        TestServer::start(&[&OPTIONS[..], &["--sockjs-sessions-per-address", "1"]].concat()).await;
    for _ in 0..3 {
        for path in [
            "/ws/chat/0/a/eventsource",
            "/ws/chat/0/a/htmlfile?c=f",
            "/ws/chat/0/b/jsonp?c=f",
        ] {
            let answer = ask(&server, "HEAD", path, &[]).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            assert!(answer.header("content-type").is_some());
        }
    }
    let opened = request(server.address, "POST", "/ws/chat/0/a/xhr", &[], "").await;
    assert_eq!((opened.status, opened.body.as_str()), (200, "o\n"));
}

#[tokio::test]
async fn what_the_client_has_is_not_sent_again() {
    let server = TestServer::start(&OPTIONS).await;
    let room = server.make_room("r").await.room_id.to_string();
    for path in [
        "/chat/rooms",
        &format!("/chat/room/{room}"),
        &format!("/chat/room/{room}/messages"),
        "/ws/chat/iframe.html",
    ] {
        for encoding in ["identity", "gzip"] {
            let accept = ("accept-encoding", encoding);
            let whole = ask(&server, "GET", path, &[accept]).await;
            let tag = whole.header("etag").unwrap().to_owned();
            let strong = tag.trim_start_matches("W/").to_owned();
            let weak = format!("W/{strong}");
            let list = format!("\"other\", {weak}");
            for (value, status) in [
                (tag.as_str(), 304),
                (&weak, 304),
                (&strong, 304),
                (&list, 304),
                ("*", 304),
                ("\"other\"", 200),
            ] {
                for method in ["GET", "HEAD"] {
                    let asked = [accept, ("if-none-match", value)];
                    let answer = ask(&server, method, path, &asked).await;
                    assert_eq!(answer.status, status, "{path} {value}: {answer:?}");
                    if status == 304 {
                        assert_eq!(answer.body, "");
                        for kept in ["etag", "cache-control", "vary", "expires", "date"] {
                            assert_eq!(
                                answer.header(kept).is_some(),
                                whole.header(kept).is_some(),
                                "{path} {kept}"
                            );
                        }
                        for left in ["content-type", "content-length", "content-encoding"] {
                            assert_eq!(answer.header(left), None, "{path} {left}");
                        }
                    }
                }
            }
            let failed = ask(&server, "GET", path, &[("if-match", "\"other\"")]).await;
            assert_eq!(failed.status, 412, "{path}");
            assert_eq!(
                ask(&server, "GET", path, &[("if-match", "*")]).await.status,
                200
            );
        }
    }
    // Something new has another tag, and what is no 200 has no conditions.
    let before = ask(&server, "GET", "/chat/rooms", &[]).await;
    let tag = before.header("etag").unwrap().to_owned();
    server.make_room("s").await;
    let asked = [("if-none-match", tag.as_str())];
    assert_eq!(ask(&server, "GET", "/chat/rooms", &asked).await.status, 200);
    for (path, status) in [("/nowhere", 404), ("/chat/room/x", 404), ("/", 303)] {
        for name in ["if-none-match", "if-match"] {
            assert_eq!(
                ask(&server, "GET", path, &[(name, "*")]).await.status,
                status
            );
            assert_eq!(
                ask(&server, "GET", path, &[(name, "\"x\"")]).await.status,
                status
            );
        }
    }
}

#[tokio::test]
async fn files_of_the_package_have_a_tag_for_each_form() {
    let server = TestServer::start(&OPTIONS).await;
    let page = ask(&server, "GET", "/chat/room", &[]).await.body;
    let Some(style) = page
        .split('"')
        .find(|part| part.ends_with("/sarangbang.css"))
    else {
        panic!("the page names its style: {page}");
    };
    if ask(&server, "HEAD", style, &[]).await.status == 404 {
        return; // Built without the web client.
    }
    let mut tags = Vec::new();
    for encoding in ["br", "gzip", "identity"] {
        let accept = ("accept-encoding", encoding);
        let file = ask(&server, "HEAD", style, &[accept]).await;
        let tag = file.header("etag").unwrap().to_owned();
        let known = [accept, ("if-none-match", tag.as_str())];
        let answer = ask(&server, "GET", style, &known).await;
        assert_eq!(answer.status, 304);
        assert!(
            answer
                .header("cache-control")
                .unwrap()
                .contains("immutable")
        );
        assert_eq!(answer.header("vary"), Some("accept-encoding"));
        tags.push(tag);
    }
    tags.dedup();
    assert_eq!(tags.len(), 3);
    let answer = ask(&server, "PUT", style, &[]).await;
    assert_eq!(
        sorted(answer.header("allow").unwrap()),
        ["GET", "HEAD", "OPTIONS"]
    );
    assert_eq!(answer.status, 405);
}

#[tokio::test]
async fn a_slash_at_the_end_changes_nothing() {
    let server = TestServer::start(&OPTIONS).await;
    let room = server.make_room("r").await.room_id.to_string();
    for (path, methods) in routes(&room) {
        if path == "/" || !methods.contains("GET") || path.contains("jsonp") {
            continue;
        }
        let (bare, query) = path.split_once('?').unwrap_or((&path, ""));
        let slashed = format!("{bare}/?{query}");
        let one = ask(&server, "GET", &path, &[]).await;
        let other = ask(&server, "GET", &slashed, &[]).await;
        assert_eq!(one.status, other.status, "{slashed}");
        if one.header("etag").is_some() {
            assert_eq!(one.body, other.body, "{slashed}");
        }
        assert_eq!(
            ask(&server, "GET", &format!("{bare}//"), &[]).await.status,
            404,
            "{bare}//"
        );
    }
    // The query is kept.
    let path = format!("/chat/room/{room}/messages/?limit=0");
    assert_eq!(ask(&server, "GET", &path, &[]).await.status, 422);
    let json = [("content-type", "application/json")];
    let body = r#"{"roomName":"s"}"#;
    let made = request(server.address, "POST", "/chat/room/", &json, body).await;
    assert_eq!(made.status, 200);
    let session = request(server.address, "POST", "/ws/chat/0/s/xhr/", &[], "").await;
    assert_eq!((session.status, session.body.as_str()), (200, "o\n"));
}

#[tokio::test]
async fn strange_paths_are_answered() {
    let server = TestServer::start(&OPTIONS).await;
    for (path, status) in [
        ("//", 404),
        ("//chat/room", 404),
        ("/chat//room", 404),
        ("/chat/room/%ff", 404),
        ("/chat/room/%ff/messages", 404),
        ("/chat/room/%00", 404),
        ("/chat/room/%2F", 404),
        ("/chat/room/%", 404),
        ("/chat/room/%zz/messages", 404),
        ("/chat/room/enter/%ff", 404),
        ("/chat/room/enter/%2e%2e", 404),
        ("/chat/room/enter/", 404),
        ("/chat%2Froom", 404),
        ("/%ff", 404),
        ("/chat/room/../rooms", 404),
        ("/ws/chat/%ff", 404),
        ("/ws/chat/%2F/%2F/xhr", 405),
        ("/ws/chat//", 404),
        ("/ws/chat///", 404),
        ("/healthz/", 200),
        ("/chat/rooms?%ff=%", 200),
        ("/chat/room?lang=%ff", 200),
        ("/chat/room/?lang=en", 200),
        ("/chat/rooms/?", 200),
    ] {
        let answer = ask(&server, "GET", path, &[]).await;
        assert_eq!(answer.status, status, "{path}: {answer:?}");
    }
    for path in ["/chat/room/enter", "/chat/room/enter/", "/nowhere"] {
        let page = ask(&server, "GET", path, &[]).await;
        assert_eq!(page.status, 404);
        assert!(
            page.header("content-type")
                .unwrap()
                .starts_with("text/html"),
            "{path}"
        );
    }
    // What is wrong with a path of the API is told as every error of it is.
    let answer = ask(&server, "GET", "/chat/room/%ff", &[]).await;
    assert_eq!(
        answer.header("content-type"),
        Some("application/problem+json")
    );
}

/// A request's target need not be a path (RFC 9112, 3.2).
#[tokio::test]
async fn what_asks_for_no_path_of_ours_is_refused() {
    let server = TestServer::start(&[]).await;
    let methods = ["GET", "HEAD", "POST", "DELETE", "CONNECT", "PROPFIND"];
    let every = methods.into_iter().chain(["OPTIONS"]);
    for target in [
        "example:80",
        "example",
        "user@example:80",
        "[::1]:443",
        "mailto:a@example",
    ] {
        for method in every.clone() {
            let answer = ask(&server, method, target, &[]).await;
            assert_eq!(answer.status, 400, "{method} {target}: {answer:?}");
        }
    }
    for method in methods {
        let answer = ask(&server, method, "*", &[]).await;
        assert_eq!(answer.status, 400, "{method} *: {answer:?}");
        let kind = answer.header("content-type");
        assert_eq!(kind, Some("application/problem+json"));
    }
    for (method, target, status) in [
        ("OPTIONS", "*", 204),
        ("CONNECT", "/", 501),
        ("GET", "http://localhost/healthz", 200),
        ("GET", "http://localhost", 303),
        ("GET", "http://localhost?lang=en", 303),
        ("OPTIONS", "http://localhost", 204),
        ("GET", "ftp://localhost/nowhere", 404),
        ("GET", "http://example/chat/rooms", 421),
    ] {
        let answer = ask(&server, method, target, &[]).await;
        assert_eq!(answer.status, status, "{method} {target}: {answer:?}");
    }
}

#[tokio::test]
async fn preflights_permit_what_tracing_adds() {
    let options = ["--allowed-origins", "https://shop.example"];
    let server = TestServer::start(&options).await;
    let headers = "content-type, traceparent, tracestate, sentry-trace, baggage, x-requested-with, \
                   b3, x-b3-traceid, authorization";
    for (path, method) in [
        ("/chat/room", "POST"),
        ("/chat/rooms", "GET"),
        ("/chat/room/x", "GET"),
        ("/chat/room/x/messages", "GET"),
        ("/chat/room/x/messages/", "GET"),
        ("/ws/chat/info", "GET"),
        ("/ws/chat/0/s/xhr", "POST"),
        ("/ws/chat/0/s/xhr_streaming", "POST"),
        ("/ws/chat/0/s/xhr_send", "POST"),
        ("/ws/chat/0/s/eventsource", "GET"),
    ] {
        for (origin, is_allowed) in [
            ("https://shop.example", true),
            ("https://evil.example", false),
        ] {
            let asked = [
                ("origin", origin),
                ("access-control-request-method", method),
                ("access-control-request-headers", headers),
            ];
            let answer = ask(&server, "OPTIONS", path, &asked).await;
            let shown = |name| answer.header(name);
            let allowed = is_allowed.then_some(origin);
            assert_eq!(shown("access-control-allow-origin"), allowed, "{path}");
            let permitted = shown("access-control-allow-headers");
            assert_eq!(permitted, is_allowed.then_some(headers), "{path}");
            if is_allowed {
                assert_eq!(answer.status, 204, "{path}");
                let methods = shown("access-control-allow-methods").unwrap();
                assert!(methods.contains(method), "{path}: {methods}");
                assert!(
                    shown("access-control-max-age")
                        .unwrap()
                        .parse::<u32>()
                        .unwrap()
                        > 0
                );
                let vary = answer.headers.iter().filter(|(name, _)| name == "vary");
                let vary: Vec<_> = vary.map(|(_, value)| value.to_ascii_lowercase()).collect();
                assert!(vary.join(",").contains("origin"), "{path}: {vary:?}");
            }
        }
    }
}
