//! What hostile connections do. Each act ends when the server ends it; it is begun anew then.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::fan_out::make_room;
use crate::socket::{self, Reader};

type Act = fn(Target, usize) -> Pin<Box<dyn Future<Output = Result<()>> + Send>>;

/// One kind of harm.
pub(crate) struct Attack {
    pub(crate) name: &'static str,
    /// What the server is started with besides.
    pub(crate) options: &'static [&'static str],
    /// Whether the room is to hold a long history.
    is_filled: bool,
    pub(crate) act: Act,
}

/// What is attacked.
#[derive(Clone)]
pub(crate) struct Target {
    address: SocketAddr,
    room: String,
}

const fn attack(name: &'static str, act: Act) -> Attack {
    Attack {
        name,
        options: &[],
        is_filled: false,
        act,
    }
}

pub(crate) const ATTACKS: &[Attack] = &[
    attack("never CONNECT", |target, _| Box::pin(never_connect(target))),
    attack("half a header", |target, _| Box::pin(half_a_header(target))),
    attack("half a body", |target, index| {
        Box::pin(half_a_body(target, index))
    }),
    Attack {
        is_filled: true,
        options: &["--message-rate", "0"],
        ..attack("never read", |target, index| {
            Box::pin(never_read(target, index))
        })
    },
    attack("open transactions", |target, _| {
        Box::pin(open_transactions(target))
    }),
    attack("abandoned commits", |target, index| {
        Box::pin(abandoned_commits(target, index))
    }),
    attack("SockJS sessions", |target, _| {
        Box::pin(sockjs_sessions(target))
    }),
    Attack {
        is_filled: true,
        options: &["--message-rate", "0"],
        ..attack("histories", |target, _| Box::pin(histories(target)))
    },
];

/// The most octets of a frame, of a payload, and of a payload before CONNECTED.
const FRAME_BYTES: usize = 64 << 10;
const PAYLOAD_BYTES: usize = 256 << 10;

/// What a socket of theirs takes in before it holds up the server.
const RECEIVE_BYTES: u32 = 4 << 10;

const FOREVER: Duration = Duration::from_secs(3_600);

impl Target {
    /// Makes the room that they are about.
    pub(crate) async fn prepare(address: SocketAddr, attack: &Attack) -> Result<Self> {
        let room = make_room(address, "hostile").await?;
        let target = Target { address, room };
        if attack.is_filled {
            target.fill().await?;
        }
        Ok(target)
    }

    /// Gives the room 400 messages of 12,000 octets.
    async fn fill(&self) -> Result<()> {
        let text = "사".repeat(4_000);
        let message = format!("{{\"type\":\"TALK\",\"sender\":\"fill\",\"message\":\"{text}\"}}");
        let messages = [message.as_str(); 5].join(",");
        let mut reader = self.session(None).await?;
        for _ in 0..80 {
            let send = format!(
                "SEND\ndestination:/app/topic/chat/room/{}\nreceipt:r\n\n[{messages}]\0",
                self.room
            );
            say(&mut reader, &send).await?;
            reader.expect(b"RECEIPT\n").await?;
        }
        Ok(())
    }

    /// Opens a socket that takes in so much at a time.
    async fn stream(&self, receive_bytes: Option<u32>) -> Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        if let Some(bytes) = receive_bytes {
            socket.set_recv_buffer_size(bytes)?;
        }
        Ok(socket.connect(self.address).await?)
    }

    /// Opens a session.
    async fn session(&self, receive_bytes: Option<u32>) -> Result<Reader> {
        let stream = self.stream(receive_bytes).await?;
        let stream = socket::upgrade(stream, self.address, "/ws/chat").await?;
        let mut reader = Reader::new(stream);
        say(&mut reader, "CONNECT\naccept-version:1.2\nhost:bench\n\n\0").await?;
        reader.expect(b"CONNECTED\n").await?;
        Ok(reader)
    }
}

pub(crate) async fn say(reader: &mut Reader, payload: &str) -> Result<()> {
    let mut out = Vec::with_capacity(payload.len() + 16);
    socket::mask(payload.as_bytes(), &mut out);
    Ok(reader.stream().write_all(&out).await?)
}

/// Reads until the server ends it.
async fn outlast(stream: &mut TcpStream) -> Result<()> {
    let mut octets = [0; 4_096];
    while stream.read(&mut octets).await? > 0 {}
    Ok(())
}

/// A WebSocket, and most of a large message that is no CONNECT.
async fn never_connect(target: Target) -> Result<()> {
    let mut stream = socket::open(target.address, "/ws/chat").await?;
    let mut out = Vec::new();
    socket::mask(&[b'\n'; PAYLOAD_BYTES], &mut out);
    stream.write_all(&out[..PAYLOAD_BYTES - 1_000]).await?;
    outlast(&mut stream).await
}

/// A head without an end, as large as it may be, that goes on octet by octet.
async fn half_a_header(target: Target) -> Result<()> {
    let mut stream = target.stream(None).await?;
    let mut head = b"GET /chat/rooms HTTP/1.1\r\nhost: localhost\r\n".to_vec();
    for number in 0..80 {
        head.extend_from_slice(format!("x-{number}: {}\r\n", "a".repeat(700)).as_bytes());
    }
    stream.write_all(&head).await?;
    let (mut read, mut write) = stream.split();
    let mut octets = [0; 4_096];
    let trickle = async {
        loop {
            tokio::time::sleep(Duration::from_secs(2)).await;
            write.write_all(b"y").await?;
        }
    };
    tokio::select! {
        ended = read.read(&mut octets) => ended.map(drop).map_err(Into::into),
        ended = trickle => ended,
    }
}

/// Half of the largest body, of the room API or of SockJS.
async fn half_a_body(target: Target, index: usize) -> Result<()> {
    let (path, length) = if index.is_multiple_of(2) {
        ("/chat/room".to_owned(), 16 << 10)
    } else {
        let path = open_sockjs(&target).await?;
        (format!("{path}/xhr_send"), PAYLOAD_BYTES)
    };
    let mut stream = target.stream(None).await?;
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n",
        target.address
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(&vec![b' '; length - 1_000]).await?;
    outlast(&mut stream).await
}

/// A subscriber of all that the room has and of a plain topic, who takes nothing; one in a hundred
/// publishes to it as fast as it may.
async fn never_read(target: Target, index: usize) -> Result<()> {
    let mut reader = target.session(Some(RECEIVE_BYTES)).await?;
    if index.is_multiple_of(100) {
        let body = "x".repeat(FRAME_BYTES - 100);
        let send = format!("SEND\ndestination:/topic/hostile\n\n{body}\0");
        loop {
            say(&mut reader, &send).await?;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    let room = format!("/topic/chat/room/{}", target.room);
    for (id, destination, more) in [
        (0, "/topic/hostile", ""),
        (1, room.as_str(), "x-stream-offset:first\n"),
    ] {
        let subscribe = format!("SUBSCRIBE\nid:{id}\n{more}destination:{destination}\n\n\0");
        say(&mut reader, &subscribe).await?;
    }
    gone(reader.stream()).await
}

/// Waits until the server has ended a connection of which nothing is read.
async fn gone(stream: &mut TcpStream) -> Result<()> {
    tokio::time::timeout(FOREVER, async {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            // A reset shows in a write; a line feed is a heart-beat.
            let mut out = Vec::new();
            socket::mask(b"\n", &mut out);
            stream.write_all(&out).await?;
        }
    })
    .await?
}

/// As many transactions as it may have, full of frames that weigh more than they look like.
async fn open_transactions(target: Target) -> Result<()> {
    let mut reader = target.session(None).await?;
    let headers: String = (0..55).map(|number| format!("{number}:\n")).collect();
    for transaction in 0..16 {
        say(
            &mut reader,
            &format!("BEGIN\ntransaction:{transaction}\n\n\0"),
        )
        .await?;
        for _ in 0..1_000 {
            let send = format!(
                "SEND\ndestination:/topic/hostile\ntransaction:{transaction}\n{headers}\n\0"
            );
            say(&mut reader, &send).await?;
        }
    }
    outlast(reader.stream()).await
}

/// A transaction of 900 messages; then its connection is gone, and another comes a little later.
async fn abandoned_commits(target: Target, index: usize) -> Result<()> {
    let mut reader = target.session(None).await?;
    let mut all = String::from("BEGIN\ntransaction:t\n\n\0");
    for number in 0..900 {
        all.push_str(&format!(
            "SEND\ndestination:/topic/chat/room/{}\ntransaction:t\n\n\
             {{\"type\":\"TALK\",\"sender\":\"hostile {index}\",\"message\":\"{number}\"}}\0",
            target.room
        ));
    }
    all.push_str("COMMIT\ntransaction:t\n\n\0");
    let mut rest = all.as_bytes();
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rest.len().min(FRAME_BYTES));
        let mut out = Vec::new();
        socket::mask(piece, &mut out);
        reader.stream().write_all(&out).await?;
        rest = after;
    }
    drop(reader);
    tokio::time::sleep(Duration::from_secs(5)).await;
    Ok(())
}

/// Opens a SockJS session; the path of it.
async fn open_sockjs(target: &Target) -> Result<String> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = format!("/ws/chat/000/hostile{number}");
    exchange(target, &format!("{path}/xhr"), b"").await?;
    Ok(path)
}

/// Makes a POST; the answer's first octets.
async fn exchange(target: &Target, path: &str, body: &[u8]) -> Result<Vec<u8>> {
    let mut stream = target.stream(None).await?;
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        target.address,
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body).await?;
    let mut answer = Vec::new();
    stream.take(64 << 10).read_to_end(&mut answer).await?;
    Ok(answer)
}

/// A session that nobody reads, and arrays of empty strings for it.
async fn sockjs_sessions(target: Target) -> Result<()> {
    let path = open_sockjs(&target).await?;
    let empty = vec!["\"\""; PAYLOAD_BYTES / 3 - 2].join(",");
    let body = format!("[{empty}]");
    for _ in 0..8 {
        exchange(&target, &format!("{path}/xhr_send"), body.as_bytes()).await?;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    Ok(())
}

/// A long history, of which nothing is read.
async fn histories(target: Target) -> Result<()> {
    let mut stream = target.stream(Some(RECEIVE_BYTES)).await?;
    let request = format!(
        "GET /chat/room/{}/messages?limit=200 HTTP/1.1\r\nhost: {}\r\n\r\n",
        target.room, target.address
    );
    stream.write_all(request.as_bytes()).await?;
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        // A reset shows in a write; an empty line before a request is passed over (RFC 9112, 2.2).
        stream.write_all(b"\r\n").await?;
    }
}
