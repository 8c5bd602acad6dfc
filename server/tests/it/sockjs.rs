//! What is SockJS's own: sessions that live through their requests, and who may use them.

use std::net::SocketAddr;
use std::time::Duration;

use shared::stomp::Command;

use crate::exchange::Exchange;
use crate::link::{Carrier, Link, over};
use crate::support::{Client, TestServer, request, room_destination};

async fn post(address: SocketAddr, path: &str, headers: &[(&str, &str)], body: &str) -> Exchange {
    Exchange::begin(address, "POST", path, headers, Some(body)).await
}

/// Opens a session by a poll.
async fn open(address: SocketAddr, path: &str, headers: &[(&str, &str)]) {
    let mut opened = post(address, &format!("{path}/xhr"), headers, "").await;
    assert_eq!((opened.status, &*opened.text().await), (200, "o\n"));
}

/// A receiver is cut off at any moment; whoever comes back at what was last seen plus one has it all.
async fn who_is_cut_off_loses_and_doubles_nothing(carrier: Carrier) {
    const CUTS: u64 = 12;
    let server = TestServer::start_over(carrier, &["--message-rate", "0"]).await;
    let room = server.make_room("r").await;
    let mut sender = Client::connect(server.address).await;
    let talking = tokio::spawn({
        let room = room.clone();
        async move {
            for number in 1_u64.. {
                sender.talk(&room, "a", "x", &number.to_string()).await;
                sender.receipt(&number.to_string()).await;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    });
    let mut next = 1;
    for cut in 1..=CUTS {
        let mut client = server.connect().await;
        let header = format!("x-stream-offset:offset={next}\n");
        client
            .subscribe("0", &room_destination(&room), &header)
            .await;
        for _ in 0..cut * 7 {
            assert_eq!(client.message().await.seq, next);
            next += 1;
        }
        // It waits for more when it is cut.
        let more = async {
            loop {
                assert_eq!(client.message().await.seq, next);
                next += 1;
            }
        };
        let waited = tokio::time::timeout(Duration::from_millis(cut * 3), more).await;
        assert!(waited.is_err());
        let Link::Requests(requests) = &mut client.link else {
            continue;
        };
        requests.cut();
    }
    talking.abort();
    assert!(next > 100);
}

mod who_is_cut_off {
    use super::*;

    over!(who_is_cut_off_loses_and_doubles_nothing: xhr Xhr, xhr_streaming XhrStreaming);
    over!(who_is_cut_off_loses_and_doubles_nothing: eventsource EventSource, htmlfile HtmlFile);
    over!(who_is_cut_off_loses_and_doubles_nothing: jsonp Jsonp, websocket SockJsWebSocket);
}

/// Every receiver that comes after the close hears it.
async fn every_later_receiver_hears_the_close(carrier: Carrier) {
    let server = TestServer::start_over(carrier, &[]).await;
    let mut client = server.connect().await;
    client.send("NONSENSE\n\n\0").await;
    assert_eq!(client.frame().await.command, Command::Error);
    let ended = client.end().await;
    assert_eq!(ended.code, Some(1002));
    let Link::Requests(requests) = &mut client.link else {
        return;
    };
    for _ in 0..2 {
        assert_eq!(requests.ended_anew().await, Ok(ended.clone()));
    }
    assert!(
        client
            .try_send("SEND\ndestination:/topic/x\n\n\0")
            .await
            .is_err()
    );
}

mod later_receivers {
    use super::*;

    over!(every_later_receiver_hears_the_close: xhr Xhr, xhr_streaming XhrStreaming);
    over!(every_later_receiver_hears_the_close: eventsource EventSource, htmlfile HtmlFile, jsonp Jsonp);
}

#[tokio::test]
async fn a_session_belongs_to_the_guest_who_opened_it() {
    let server = TestServer::start(&[]).await;
    let guest = async || {
        let info = request(server.address, "GET", "/ws/chat/info", &[], "").await;
        let cookie = info.header("set-cookie").unwrap();
        cookie.split(';').next().unwrap().to_owned()
    };
    let (one, other) = (guest().await, guest().await);
    let (one, other) = ([("cookie", &*one)], [("cookie", &*other)]);
    open(server.address, "/ws/chat/0/mine", &one).await;
    for (headers, status) in [(&one[..], 204), (&other, 404), (&[], 404)] {
        let path = "/ws/chat/0/mine/xhr_send";
        let sent = post(server.address, path, headers, "[\"\\n\"]").await;
        assert_eq!(sent.status, status);
        if status == 404 {
            let path = "/ws/chat/0/mine/xhr";
            assert_eq!(post(server.address, path, headers, "").await.status, 404);
        }
    }
}

/// Whether a request to a session is taken, for what it sends and for what it receives alike.
async fn is_taken(server: &TestServer, session: &str, headers: &[(&str, &str)]) -> bool {
    let path = |transport: &str| format!("/ws/chat/0/{session}/{transport}");
    let sent = post(server.address, &path("xhr_send"), headers, "[\"\\n\"]").await;
    let path = path("xhr?wait_ms=0");
    let mut received = post(server.address, &path, headers, "").await;
    // One that is cut off would end the session.
    received.text().await;
    match (sent.status, received.status) {
        (204, 200) => true,
        (404, 404) => {
            nothing_takes(server, session, headers).await;
            false
        }
        other => panic!("{other:?}"),
    }
}

/// A request that is not a session's finds none by the other transports either.
async fn nothing_takes(server: &TestServer, session: &str, headers: &[(&str, &str)]) {
    let form = [
        headers,
        &[("content-type", "application/x-www-form-urlencoded")],
    ]
    .concat();
    for (method, transport, headers, body) in [
        ("POST", "jsonp_send", &*form, Some("d=%5b%22%5cn%22%5d")),
        ("POST", "xhr_streaming", headers, Some("")),
        ("GET", "eventsource", headers, None),
        ("GET", "htmlfile?c=x", headers, None),
        ("GET", "jsonp?c=x", headers, None),
    ] {
        let path = format!("/ws/chat/0/{session}/{transport}");
        let answer = Exchange::begin(server.address, method, &path, headers, body).await;
        assert_eq!(answer.status, 404, "{transport} {headers:?}");
    }
}

#[tokio::test]
async fn a_session_that_was_opened_without_a_cookie_is_the_new_guests() {
    // Each client is known by its address; jsonp is there for all.
    let options = ["--trusted-proxies", "127.0.0.1", "--allowed-origins", "*"];
    let server = TestServer::start(&options).await;
    let origin = format!("http://{}", server.address);
    let here = ("x-forwarded-for", "203.0.113.9");
    let elsewhere = ("x-forwarded-for", "203.0.113.10");
    let browser = ("origin", origin.as_str());
    let guest = async |session: &str| {
        let path = format!("/ws/chat/0/{session}/xhr");
        let mut opened = post(server.address, &path, &[here, browser], "").await;
        assert_eq!(opened.text().await, "o\n");
        let cookie = opened.header("set-cookie").unwrap();
        assert!(cookie.starts_with("sarangbang_guest="), "{cookie}");
        cookie.split(';').next().unwrap().to_owned()
    };
    let (cookie, other) = (guest("mine").await, guest("theirs").await);
    let (cookie, other) = (("cookie", &*cookie), ("cookie", &*other));
    // A browser that keeps no cookies goes on, and nobody does by the id alone from elsewhere.
    for (headers, expected) in [
        (&[here, browser][..], true),
        (&[here], true),
        (&[elsewhere, browser], false),
        (&[elsewhere], false),
        (&[here, browser, other], false),
        (&[here, browser, ("cookie", "sarangbang_guest=x")], true),
        // One that keeps them shows its own from then on, wherever it goes.
        (&[elsewhere, browser, cookie], true),
        (&[here, browser, cookie], true),
        (&[here, browser, other], false),
        (&[here, browser], false),
        (&[here], false),
        (&[here, browser, cookie], true),
    ] {
        let taken = is_taken(&server, "mine", headers).await;
        assert_eq!(taken, expected, "{headers:?}");
    }
    // A program has no guest, and is told by its address.
    let headers = [here];
    open(server.address, "/ws/chat/0/program", &headers).await;
    for (headers, expected) in [
        (&[here][..], true),
        (&[elsewhere], false),
        (&[here, cookie], false),
        (&[here], true),
    ] {
        let taken = is_taken(&server, "program", headers).await;
        assert_eq!(taken, expected, "{headers:?}");
    }
}

#[tokio::test]
async fn the_sessions_of_an_address_are_bounded() {
    let options = [
        "--sockjs-sessions-per-address",
        "3",
        "--sockjs-disconnect-ms",
        "300",
    ];
    let server = TestServer::start(&options).await;
    for id in 0..3 {
        open(server.address, &format!("/ws/chat/0/s{id}"), &[]).await;
    }
    let refused = post(server.address, "/ws/chat/0/s3/xhr", &[], "").await;
    assert_eq!(refused.status, 429);
    assert!(refused.header("retry-after").is_some());
    let upgrade = Client::open_over(Carrier::SockJsWebSocket, server.address, &[]).await;
    assert!(upgrade.is_err());
    // Known ones go on, and those that have ended make room.
    let poll = Exchange::begin(server.address, "POST", "/ws/chat/0/s0/xhr", &[], Some("")).await;
    assert_eq!(poll.status, 200);
    drop(poll);
    tokio::time::sleep(Duration::from_millis(1_000)).await;
    open(server.address, "/ws/chat/0/s4", &[]).await;
}

#[tokio::test]
async fn a_request_is_bounded() {
    let server = TestServer::start(&[]).await;
    let connect = r#"["CONNECT\naccept-version:1.2\n\n\u0000"]"#;
    let array = |size: usize| format!("[\"{}\"]", "\\n".repeat((size - 4) / 2));
    let path = "/ws/chat/0/s/xhr_send";
    assert_eq!(array(262_144).len(), 262_144);
    // Before CONNECTED a body may be as large as the first frame, and 1 KiB for its form.
    for (size, status) in [(16_384, 204), (17_408, 204), (17_410, 413), (262_144, 413)] {
        let path = format!("/ws/chat/0/s{size}");
        open(server.address, &path, &[]).await;
        let send = format!("{path}/xhr_send");
        let answer = post(server.address, &send, &[], &array(size)).await;
        assert_eq!(answer.status, status, "{size}");
    }
    open(server.address, "/ws/chat/0/s", &[]).await;
    let connected = post(server.address, path, &[], connect).await;
    assert_eq!(connected.status, 204);
    let mut answered = post(server.address, "/ws/chat/0/s/xhr", &[], "").await;
    assert!(answered.text().await.contains("CONNECTED"));
    let at = post(server.address, path, &[], &array(262_144)).await;
    assert_eq!(at.status, 204);
    let past = post(server.address, path, &[], &array(262_146)).await;
    assert_eq!(past.status, 413);
}

#[tokio::test]
async fn what_is_not_text_is_left_out_with_a_note() {
    let server = TestServer::start_over(Carrier::Xhr, &[]).await;
    let mut reader = server.connect().await;
    reader.subscribe("e", "/user/queue/errors", "").await;
    let mut sender = Client::connect(server.address).await;
    for (kind, id) in [("topic", "t"), ("queue", "q")] {
        reader
            .subscribe(id, &format!("/{kind}/octets"), "ack:client\n")
            .await;
        for (body, receipt) in [(&b"\xff\xfe"[..], "1"), (b"text", "2")] {
            let head = format!("SEND\ndestination:/{kind}/octets\nreceipt:{receipt}\n\n");
            let frame = [head.as_bytes(), body, b"\0"].concat();
            sender.send_binary(frame).await;
            sender.receipt(receipt).await;
        }
        let mut bodies = Vec::new();
        for _ in 0..2 {
            let frame = reader.frame().await;
            bodies.push(String::from_utf8(frame.body.to_vec()).unwrap());
        }
        bodies.sort();
        assert_eq!(bodies[0], "text");
        let note: serde_json::Value = serde_json::from_str(&bodies[1]).unwrap();
        assert_eq!(note["status"], 415);
        assert_eq!(note["destination"], format!("/{kind}/octets"));
    }
}

#[tokio::test]
async fn origins_are_those_of_the_list() {
    let server = TestServer::start(&["--allowed-origins", "https://friend.example"]).await;
    let path = |name: &str| format!("/ws/chat/0/{name}/xhr");
    for (origin, status) in [
        ("https://friend.example", 200),
        ("https://evil.example", 403),
        ("null", 403),
    ] {
        let headers = [("origin", origin)];
        let answer = post(server.address, &path("a"), &headers, "").await;
        assert_eq!(answer.status, status, "{origin}");
        let is_allowed = status == 200;
        let allowed = answer.header("access-control-allow-origin");
        assert_eq!(allowed, is_allowed.then_some(origin));
        if is_allowed {
            assert!(answer.headers.contains(&("vary".into(), "Origin".into())));
        }
        let info = request(server.address, "GET", "/ws/chat/info", &headers, "").await;
        assert_eq!(info.status, status, "{origin}");
    }
    // Scripts and frames bring no origin: their page is judged, and jsonp is for where all may.
    for (transport, referer, status) in [
        ("htmlfile", Some("https://friend.example/page"), 200),
        ("htmlfile", Some("https://evil.example/page"), 403),
        ("htmlfile", None, 403),
        ("jsonp", Some("https://friend.example/page"), 403),
        ("jsonp", None, 403),
    ] {
        let mut headers = vec![("sec-fetch-site", "cross-site")];
        headers.extend(referer.map(|referer| ("referer", referer)));
        let path = format!("/ws/chat/0/{transport}/{transport}?c=x");
        let answer = Exchange::begin(server.address, "GET", &path, &headers, None).await;
        assert_eq!(answer.status, status, "{transport} {referer:?}");
    }
    // Over plain http a browser names no site; a frame's page is judged where it is named.
    let page = format!("http://{}/page", server.address);
    for (transport, referer, status) in [
        ("htmlfile", Some("https://evil.example/page"), 403),
        ("htmlfile", Some("nonsense"), 403),
        ("htmlfile", Some("https://friend.example/page"), 200),
        ("htmlfile", Some(&*page), 200),
        ("htmlfile", None, 200),
        // It would bring its `Origin` from another.
        ("eventsource", Some("https://evil.example/page"), 200),
    ] {
        let headers: Vec<_> = referer.map(|page| ("referer", page)).into_iter().collect();
        // A session each, as they stay open.
        let path = format!("/ws/chat/0/{}/{transport}?c=x", uuid::Uuid::new_v4());
        let answer = Exchange::begin(server.address, "GET", &path, &headers, None).await;
        assert_eq!(answer.status, status, "{transport} {referer:?}");
    }
    let path = "/ws/chat/0/own/jsonp?c=x";
    let own = format!("http://{}", server.address);
    for headers in [
        &[("sec-fetch-site", "same-origin")][..],
        &[("origin", &own)],
        &[("origin", "https://friend.example")],
        &[],
    ] {
        let answer = Exchange::begin(server.address, "GET", path, headers, None).await;
        assert_eq!(answer.status, 403, "{headers:?}");
        let path = "/ws/chat/0/a/jsonp_send";
        let form = [
            headers,
            &[("content-type", "application/x-www-form-urlencoded")],
        ]
        .concat();
        let sent = post(server.address, path, &form, "d=%5b%22%5cn%22%5d").await;
        assert_eq!(sent.status, 403, "{headers:?}");
    }
    // The page for frames may be framed by the same, and is not there where there are none.
    let framed = ["--sockjs-client-url", "/sockjs.min.js"];
    let friends = [
        &framed[..],
        &["--allowed-origins", "https://friend.example"],
    ]
    .concat();
    let server = TestServer::start(&friends).await;
    let page = request(server.address, "GET", "/ws/chat/iframe.html", &[], "").await;
    let policy = page.header("content-security-policy").unwrap();
    assert!(
        policy.ends_with("; frame-ancestors 'self' https://friend.example"),
        "{policy}"
    );
    assert!(policy.contains("; script-src 'self' 'sha256-"), "{policy}");
    let alone = TestServer::start(&framed).await;
    for page in [
        "iframe.html",
        "iframe-1.6.1.html",
        "sockjs.js",
        "sockjs-1.6.1.js",
    ] {
        let path = format!("/ws/chat/{page}");
        let answer = request(alone.address, "GET", &path, &[], "").await;
        assert_eq!(answer.status, 404, "{page}");
        assert!(!answer.body.contains("<script"), "{}", answer.body);
    }
    let everybody = TestServer::start(&["--allowed-origins", "*"]).await;
    let cross = [("sec-fetch-site", "cross-site")];
    let answer = Exchange::begin(everybody.address, "GET", path, &cross, None).await;
    assert_eq!(answer.status, 403, "nobody knows whose page it is");
    let cross = [cross[0], ("referer", "https://any.example/")];
    let answer = Exchange::begin(everybody.address, "GET", path, &cross, None).await;
    assert_eq!(answer.status, 200);
}

/// A session that is not read, since it has said too much: what it sends waits, up to a bound.
#[tokio::test]
async fn requests_that_wait_are_bounded() {
    let options = ["--message-rate", "1", "--message-burst", "1"];
    let server = TestServer::start_over(Carrier::Xhr, &options).await;
    let room = server.make_room("r").await;
    let mut client = server.connect().await;
    for number in 0..3 {
        client.talk(&room, "a", "x", &number.to_string()).await;
    }
    let Link::Requests(requests) = &client.link else {
        panic!("it is made of requests");
    };
    let path = format!("{}/xhr_send", requests.path());
    // As many may wait for their turn; their bodies are not read before it.
    let large = format!("[\"{}\"]", "\\n".repeat(130_000));
    let mut statuses = tokio::task::JoinSet::new();
    for _ in 0..14 {
        let (address, path, large) = (server.address, path.clone(), large.clone());
        statuses.spawn(async move { post(address, &path, &[], &large).await.status });
    }
    let first = statuses.join_next().await.unwrap().unwrap();
    assert!(matches!(first, 204 | 429), "{first}");
    let mut all = vec![first];
    while let Some(status) = statuses.join_next().await {
        all.push(status.unwrap());
    }
    assert!(all.contains(&429), "{all:?}");
    assert!(
        all.iter().filter(|status| **status == 204).count() >= 9,
        "{all:?}"
    );
    // Nothing that was taken in is lost.
    for number in 0..3 {
        client.receipt(&number.to_string()).await;
    }
}

#[tokio::test]
async fn a_receiver_with_nothing_to_say_says_that_it_is_there() {
    let server = TestServer::start(&["--sockjs-heart-beat-ms", "150"]).await;
    open(server.address, "/ws/chat/0/s", &[]).await;
    let begin = std::time::Instant::now();
    // A poll ends with it, a stream goes on.
    let mut poll = post(server.address, "/ws/chat/0/s/xhr", &[], "").await;
    assert_eq!(poll.text().await, "h\n");
    assert!(begin.elapsed() >= Duration::from_millis(150));
    let path = "/ws/chat/0/s/eventsource";
    let mut stream = Exchange::begin(server.address, "GET", path, &[], None).await;
    assert_eq!(stream.piece().await.as_deref(), Some("\r\n"));
    for _ in 0..3 {
        assert_eq!(stream.piece().await.as_deref(), Some("data: h\r\n\r\n"));
    }
    let url = format!("ws://{}/ws/chat/0/w/websocket", server.address);
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    for expected in ["o", "h", "h"] {
        use futures_util::StreamExt as _;
        let message = socket.next().await.unwrap().unwrap();
        assert_eq!(message.into_text().unwrap().as_str(), expected);
    }
}

#[tokio::test]
async fn a_poll_is_held_no_longer_than_it_asks() {
    let server = TestServer::start(&["--sockjs-heart-beat-ms", "600"]).await;
    open(server.address, "/ws/chat/0/s", &[]).await;
    for (query, held_ms) in [
        ("?wait_ms=0", 0..300),
        ("?t=1&wait_ms=200", 200..500),
        // No longer than any other, and what is no number says nothing.
        ("?wait_ms=86400000", 600..2_000),
        ("?wait_ms=18446744073709551616", 600..2_000),
        ("?wait_ms=-1", 600..2_000),
        ("?wait_ms=", 600..2_000),
        ("?wait_ms", 600..2_000),
    ] {
        let begin = std::time::Instant::now();
        let path = format!("/ws/chat/0/s/xhr{query}");
        let mut poll = post(server.address, &path, &[], "").await;
        assert_eq!(poll.text().await, "h\n", "{query}");
        let took_ms = begin.elapsed().as_millis();
        assert!(held_ms.contains(&took_ms), "{query} took {took_ms} ms");
    }
    // What waits is brought at once, and a stream is held all the same.
    let connect = r#"["CONNECT\naccept-version:1.2\nhost:localhost\n\n\u0000"]"#;
    post(server.address, "/ws/chat/0/s/xhr_send", &[], connect).await;
    let mut answer = String::from("h\n");
    while answer == "h\n" {
        let path = "/ws/chat/0/s/xhr?wait_ms=0";
        answer = post(server.address, path, &[], "").await.text().await;
    }
    assert!(answer.starts_with("a[\"CONNECTED"), "{answer}");
    let begin = std::time::Instant::now();
    let path = "/ws/chat/0/s/eventsource?wait_ms=0";
    let mut stream = Exchange::begin(server.address, "GET", path, &[], None).await;
    assert_eq!(stream.piece().await.as_deref(), Some("\r\n"));
    assert_eq!(stream.piece().await.as_deref(), Some("data: h\r\n\r\n"));
    assert!(begin.elapsed() >= Duration::from_millis(600));
}
