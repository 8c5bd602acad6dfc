//! Accepted sockets, and a server whose log dies under it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Parser as _;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

use super::*;
use crate::accept::watch;
use crate::log::{Observer, Presence, Room};

/// How long anything may take that is expected to happen.
const SOON: Duration = Duration::from_secs(20);

/// Tells the board, until it panics on the thread that orders.
struct Fragile {
    feeds: Arc<Feeds>,
    panics: AtomicBool,
}

impl Observer for Fragile {
    fn made(&self, room: &Arc<Room>) {
        assert!(!self.panics.load(Ordering::SeqCst), "injected");
        self.feeds.made(room);
    }

    fn changed(&self, room: &Arc<Room>) {
        self.feeds.changed(room);
    }

    fn presence(&self, room: &Arc<Room>, presence: Presence) {
        self.feeds.presence(room, presence);
    }
}

async fn request(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = request.replace(
        "\r\n\r\n",
        "\r\nhost: localhost\r\nconnection: close\r\n\r\n",
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn a_server_whose_log_dies_says_so_drains_and_ends_with_an_error() {
    let data = tempfile::tempdir().unwrap();
    let config = Config::parse_from(["sarangbang", "--data-dir", data.path().to_str().unwrap()]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let feeds = Arc::new(Feeds::default());
    let observer = Arc::new(Fragile {
        feeds: Arc::clone(&feeds),
        panics: AtomicBool::new(false),
    });
    let watched = Arc::clone(&observer);
    let never = std::future::pending::<()>();
    let server = tokio::spawn(serve_with(vec![listener], config, never, feeds, watched));

    let url = format!("ws://{address}/ws/chat");
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    let connect = "CONNECT\naccept-version:1.2\nhost:chat\n\n\0";
    socket.send(Message::text(connect)).await.unwrap();
    let connected = socket.next().await.unwrap().unwrap();
    assert!(connected.to_string().starts_with("CONNECTED\n"));
    let ready = || request(address, "GET /readyz HTTP/1.1\r\n\r\n");
    assert!(ready().await.starts_with("HTTP/1.1 200"));

    observer.panics.store(true, Ordering::SeqCst);
    let room = "POST /chat/room HTTP/1.1\r\ncontent-type: application/json\r\n\
                content-length: 16\r\n\r\n{\"roomName\":\"r\"}";
    let made = request(address, room).await;
    // On disk before the panic, and told so.
    assert!(made.starts_with("HTTP/1.1 200"), "{made}");
    assert!(ready().await.starts_with("HTTP/1.1 503"));
    let closed = tokio::time::timeout(SOON, socket.next()).await.unwrap();
    let Some(Ok(Message::Close(Some(close)))) = closed else {
        panic!("expected a close, not {closed:?}");
    };
    assert_eq!(u16::from(close.code), 1012);
    drop(socket);
    let ended = tokio::time::timeout(SOON, server).await.unwrap().unwrap();
    assert!(ended.unwrap_err().to_string().contains("has panicked"));
}

#[tokio::test]
async fn the_system_watches_what_is_accepted() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (_peer, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
    let (stream, _) = accepted.unwrap();
    watch(&stream).unwrap();
    let socket = socket2::SockRef::from(&stream);
    assert!(socket.keepalive().unwrap());
    let idle = socket.tcp_keepalive_time().unwrap();
    let probes = socket.tcp_keepalive_interval().unwrap() * socket.tcp_keepalive_retries().unwrap();
    assert!(idle + probes <= Duration::from_secs(90));
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        // A stream of SockJS has a heart-beat every 25 s; after it so much more may pass.
        let unacknowledged = socket.tcp_user_timeout().unwrap().unwrap();
        assert!(Duration::from_secs(25) + unacknowledged < Duration::from_secs(90));
    }
}
