//! The cases of the SockJS protocol 0.3.3 (<https://sockjs.github.io/sockjs-protocol/sockjs-protocol-0.3.3.html>),
//! each under its own name, over real HTTP, on an echo service.
//!
//! Changed: jsonp answers begin with `/**/`, as those of newer servers do. Left out: Hixie-76 and the
//! drafts HyBi-07 and HyBi-10, which no browser speaks any more.

#[path = "../../../tests/it/exchange.rs"]
mod exchange;
mod protocol;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, Request};
use axum::routing::any;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use self::exchange::Exchange;
use super::{Endpoint, FrameClient, Service, Settings, Visit};
use crate::assets::File;
use crate::connection::{Input, Transport};
use crate::guest::Visitor;
use crate::origin::{Caller, Origins};

/// What a session of the test server is for.
#[derive(Clone, Copy)]
enum Kind {
    /// To send back what comes.
    Echo,
    /// To be closed at once.
    Close,
}

impl Service for Kind {
    fn visit(&self, _caller: &Caller, _headers: &HeaderMap) -> Visit {
        Visit::default()
    }

    async fn run<T: Transport + Send + Unpin + 'static>(self, mut transport: T, _: Visitor) {
        if matches!(self, Kind::Close) {
            transport.close(3000, "Go away!");
        }
        let mut echoes = VecDeque::new();
        poll_fn(|cx| {
            while let Poll::Ready(input) = transport.poll_payload(cx) {
                match input {
                    Input::Payload(payload) => {
                        assert!(payload != "panic!", "injected");
                        echoes.push_back(payload);
                    }
                    Input::Alive => {}
                    Input::Fault(..) | Input::End => return Poll::Ready(()),
                }
            }
            while let Some(echo) = echoes.pop_front() {
                transport.push(&[&echo]);
            }
            match transport.poll_flush(cx) {
                Poll::Ready(Ok(())) if matches!(self, Kind::Echo) => Poll::Pending,
                flushed => flushed.map(drop),
            }
        })
        .await;
    }
}

/// Sockjs-clients that are built in.
const CLIENTS: [File; 2] = [
    File {
        name: "sockjs-1.5.0.js",
        plain: b"1.5.0",
        brotli: b"1.5.0 as brotli",
        gzip: b"1.5.0 as gzip",
    },
    File {
        name: "sockjs-1.6.1.js",
        plain: b"1.6.1",
        brotli: b"1.6.1 as brotli",
        gzip: b"1.6.1 as gzip",
    },
];

/// The addresses of a test server with its services.
async fn serve() -> SocketAddr {
    let settings = |path, has_websocket, sets_session_cookie| Settings {
        path,
        origins: Arc::new(Origins::new(vec!["*".parse().unwrap()])),
        frame_client: Some(FrameClient::Named("/sockjs.min.js".parse().unwrap())),
        has_websocket,
        sets_session_cookie,
        cookie_path: "/".to_owned(),
        response_bytes_max: 4_096,
        payload_bytes_max: crate::ws::PayloadBytesMax {
            first: 262_144,
            usual: 262_144,
        },
        heart_beat_delay: Duration::from_secs(25),
        disconnect_delay: Duration::from_secs(5),
        sessions_per_address_max: 100,
    };
    let with_client = |path, frame_client| Settings {
        frame_client,
        ..settings(path, true, false)
    };
    let elsewhere = format!("https://cdn.example/a.js?b&c#sha256-{}", "A".repeat(44));
    let mut app = axum::Router::new();
    for (settings, kind) in [
        (
            with_client("/own_client", Some(FrameClient::Own(&CLIENTS))),
            Kind::Echo,
        ),
        (
            with_client(
                "/client_elsewhere",
                Some(FrameClient::Named(elsewhere.parse().unwrap())),
            ),
            Kind::Echo,
        ),
        (with_client("/no_frames", None), Kind::Echo),
        (settings("/echo", true, false), Kind::Echo),
        (
            settings("/disabled_websocket_echo", false, false),
            Kind::Echo,
        ),
        (settings("/cookie_needed_echo", true, true), Kind::Echo),
        (settings("/close", true, false), Kind::Close),
    ] {
        let path = settings.path;
        let endpoint = Endpoint::new(settings, kind);
        let answer = move |request: Request<Body>| async move {
            let (parts, body) = request.into_parts();
            let caller = Caller::of(&parts, &[]);
            let request = Request::from_parts(parts, body);
            endpoint.answer(caller, request).await
        };
        app = app
            .route(path, any(answer.clone()))
            .route(&format!("{path}/"), any(answer.clone()))
            .route(&format!("{path}/{{*rest}}"), any(answer));
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let waits = crate::keep_alive::Waits {
        idle: Duration::from_secs(75),
        head: Duration::from_secs(30),
        stall: Duration::from_secs(30),
    };
    let door = crate::accept::Door::of(app, waits);
    tokio::spawn(crate::accept::accept(listener, door));
    address
}

#[tokio::test]
async fn a_panic_of_its_connection_ends_a_session() {
    let address = serve().await;
    let session = session("/echo");
    let [xhr, send] = ["xhr", "xhr_send"].map(|transport| format!("{session}/{transport}"));
    let message = "[\"panic!\"]";
    let receive = || post_text(address, &xhr, "");
    assert_eq!(receive().await, (200, "o\n".to_owned()));
    let (received, sent) = tokio::join!(receive(), post_text(address, &send, message));
    assert_eq!(sent.0, 204);
    assert_eq!(
        received.1, "c[1002,\"Connection interrupted\"]\n",
        "a receiver hears of it"
    );
    assert_eq!(post_text(address, &send, message).await.0, 404);
}

#[tokio::test]
async fn the_page_for_frames_loads_a_client_from_here() {
    let address = serve().await;
    for (name, script) in [
        ("iframe.html", "sockjs.js"),
        ("iframe-1.5.0.html", "sockjs-1.5.0.js"),
        ("iframe-1.6.1.html?t=1", "sockjs-1.6.1.js"),
        ("iframe-0.3.4.html", "sockjs.js"),
        ("iframe-%22%3E.html", "sockjs.js"),
    ] {
        let mut page = get(address, &format!("/own_client/{name}")).await;
        assert_eq!(page.status, 200, "{name}");
        let policy = page.header("content-security-policy").unwrap().to_owned();
        let script_src = policy
            .split("; ")
            .find(|part| part.starts_with("script-src "));
        let script_src: Vec<_> = script_src.unwrap().split(' ').collect();
        assert_eq!(script_src[1], "'self'");
        assert!(
            script_src[2].starts_with("'sha256-") && script_src.len() == 3,
            "{policy}"
        );
        assert!(
            policy.starts_with("default-src 'none'; ") && policy.contains("; frame-ancestors *")
        );
        let text = page.text().await;
        let src = format!("  <script src=\"{script}\"></script>\n");
        assert!(text.contains(&src), "{name}: {text}");
    }
    for (name, encoding, content) in [
        ("sockjs-1.5.0.js", "identity", "1.5.0"),
        ("sockjs-1.6.1.js", "identity", "1.6.1"),
        ("sockjs-1.6.1.js", "gzip", "1.6.1 as gzip"),
        ("sockjs.js", "br", include_str!("../frame.js")),
    ] {
        let path = format!("/own_client/{name}");
        // A script is loaded with no origin, and by whatever page.
        let headers = [
            ("accept-encoding", encoding),
            ("sec-fetch-site", "cross-site"),
        ];
        let mut script = Exchange::begin(address, "GET", &path, &headers, None).await;
        assert_eq!(script.status, 200, "{name}");
        let kind = script.header("content-type");
        assert_eq!(kind, Some("text/javascript; charset=utf-8"));
        let tag = script.header("etag").unwrap().to_owned();
        assert_eq!(script.text().await, content);
        let known = [headers[0], ("if-none-match", &tag)];
        let again = Exchange::begin(address, "GET", &path, &known, None).await;
        assert_eq!(again.status, 304);
    }
    for path in [
        "/own_client/sockjs-1.1.4.js",
        "/own_client/sockjs",
        "/own_client/sockjs-1.6.1.js/x",
        "/echo/sockjs.js",
        "/echo/sockjs-1.6.1.js",
        "/no_frames/iframe.html",
        "/no_frames/iframe-1.6.1.html",
        "/no_frames/sockjs.js",
        "/no_frames/sockjs-1.6.1.js",
    ] {
        assert_eq!(get(address, path).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn a_client_of_another_host_is_loaded_with_its_integrity() {
    let mut page = get(serve().await, "/client_elsewhere/iframe.html").await;
    let policy = page.header("content-security-policy").unwrap().to_owned();
    assert!(
        policy.contains("; script-src https://cdn.example/a.js 'sha256-"),
        "{policy}"
    );
    let expected = format!(
        "<script src=\"https://cdn.example/a.js?b&amp;c\" integrity=\"sha256-{}\" crossorigin=\"anonymous\"></script>",
        "A".repeat(44)
    );
    let page = page.text().await;
    assert!(page.contains(&expected), "{page}");
}

/// The path of a session of its own.
fn session(service: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{service}/000/s{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

async fn get(address: SocketAddr, path: &str) -> Exchange {
    Exchange::begin(address, "GET", path, &[], None).await
}

async fn post(address: SocketAddr, path: &str, body: &str) -> Exchange {
    Exchange::begin(address, "POST", path, &[], Some(body)).await
}

/// Asks, and gives status and body.
async fn post_text(address: SocketAddr, path: &str, body: &str) -> (u16, String) {
    let mut answer = post(address, path, body).await;
    (answer.status, answer.text().await)
}

async fn get_text(address: SocketAddr, path: &str) -> (u16, String) {
    let mut answer = get(address, path).await;
    (answer.status, answer.text().await)
}

/// A WebSocket client.
struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    async fn open(address: SocketAddr, path: &str) -> Self {
        let url = format!("ws://{address}{path}");
        Socket(tokio_tungstenite::connect_async(url).await.unwrap().0)
    }

    async fn send(&mut self, text: &str) {
        self.0.send(Message::text(text)).await.unwrap();
    }

    /// The next text; `None` at the end.
    async fn next(&mut self) -> Option<String> {
        let next = tokio::time::timeout(Duration::from_secs(10), self.0.next());
        match next.await.expect("something in time") {
            Some(Ok(Message::Text(text))) => Some(text.to_string()),
            Some(Ok(Message::Close(_)) | Err(Error::Protocol(_) | Error::ConnectionClosed))
            | None => None,
            other => panic!("{other:?}"),
        }
    }
}
