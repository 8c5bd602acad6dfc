//! A server of the test's own, and a raw STOMP client that shows every frame.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use clap::Parser as _;
use futures_util::{SinkExt as _, StreamExt as _};
use server::Config;
use shared::chat::{ChatMessage, ChatRoom};
use shared::stomp::{Command, Decoder, Frame, Limits, Received, Version};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// How long anything may take that is expected to happen.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// A server in this process, with a data directory of its own.
pub(crate) struct TestServer {
    pub(crate) address: SocketAddr,
    pub(crate) data: TempDir,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl TestServer {
    pub(crate) async fn start(options: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), options).await
    }

    pub(crate) async fn start_in(data: TempDir, options: &[&str]) -> Self {
        let config = config(data.path(), options);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            server::serve(listener, config, async { drop(stopped.await) })
                .await
                .unwrap();
        });
        TestServer {
            address,
            data,
            stop: Some(stop),
            task,
        }
    }

    /// Drains it and gives back its data directory.
    pub(crate) async fn stop(mut self) -> TempDir {
        drop(self.stop.take());
        self.task.await.unwrap();
        self.data
    }

    pub(crate) async fn make_room(&self, name: &str) -> ChatRoom {
        make_room(self.address, name).await
    }

    pub(crate) async fn connect(&self) -> Client {
        Client::connect(self.address).await
    }

    pub(crate) async fn history(&self, room: &ChatRoom, query: &str) -> Vec<ChatMessage> {
        let path = format!("/chat/room/{}/messages{query}", room.room_id);
        let answer = request(self.address, "GET", &path, &[], "").await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        serde_json::from_str(&answer.body).unwrap()
    }
}

pub(crate) fn config(data_dir: &Path, options: &[&str]) -> Config {
    let arguments = ["sarangbang", "--data-dir", data_dir.to_str().unwrap()];
    Config::parse_from(arguments.iter().chain(options))
}

pub(crate) async fn make_room(address: SocketAddr, name: &str) -> ChatRoom {
    let body = serde_json::json!({ "roomName": name }).to_string();
    let json = [("content-type", "application/json")];
    let answer = request(address, "POST", "/chat/room", &json, &body).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    serde_json::from_str(&answer.body).unwrap()
}

/// An HTTP answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self
            .headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

/// Makes one request on a connection of its own.
pub(crate) async fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() {
        head.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    stream
        .write_all(format!("{head}\r\n{body}").as_bytes())
        .await
        .unwrap();
    let mut octets = Vec::new();
    let read = stream.read_to_end(&mut octets);
    drop(
        tokio::time::timeout(SOON, read)
            .await
            .expect("an answer in time"),
    );
    let end = octets.windows(4).position(|end| end == b"\r\n\r\n");
    let (head, body) = octets.split_at(end.expect("a header"));
    let (head, body) = (String::from_utf8_lossy(head), &body[4..]);
    let mut lines = head.lines();
    let status = lines
        .next()
        .unwrap()
        .split(' ')
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    let headers: Vec<_> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let chunked = headers.iter().any(|(name, value)| {
        name.eq_ignore_ascii_case("transfer-encoding") && value.eq_ignore_ascii_case("chunked")
    });
    let body = if chunked {
        dechunk(body)
    } else {
        body.to_vec()
    };
    Answer {
        status,
        headers,
        body: String::from_utf8_lossy(&body).into_owned(),
    }
}

fn dechunk(mut octets: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(end) = octets.windows(2).position(|end| end == b"\r\n") {
        let size = std::str::from_utf8(&octets[..end]).unwrap();
        let size = usize::from_str_radix(size.trim(), 16).unwrap();
        let chunk = &octets[end + 2..];
        if size == 0 {
            break;
        }
        whole.extend_from_slice(&chunk[..size]);
        octets = &chunk[size + 2..];
    }
    whole
}

/// A STOMP client that writes frames as text and shows each that comes.
pub(crate) struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    decoder: Decoder,
    /// Line feeds seen between frames.
    pub(crate) heart_beats: usize,
}

/// How a connection ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Ended {
    pub(crate) code: Option<u16>,
    pub(crate) reason: String,
}

impl Ended {
    fn by(error: tokio_tungstenite::tungstenite::Error) -> Self {
        Ended {
            code: None,
            reason: error.to_string(),
        }
    }
}

impl Client {
    /// Opens a WebSocket, without CONNECT.
    pub(crate) async fn open(address: SocketAddr) -> Self {
        Self::open_with(address, &[]).await
    }

    pub(crate) async fn open_with(address: SocketAddr, headers: &[(&'static str, &str)]) -> Self {
        Self::try_open(address, headers).await.unwrap()
    }

    async fn try_open(
        address: SocketAddr,
        headers: &[(&'static str, &str)],
    ) -> Result<Self, Ended> {
        let mut request = format!("ws://{address}/ws/chat")
            .into_client_request()
            .unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        let opened = tokio_tungstenite::connect_async(request).await;
        let (socket, _) = opened.map_err(Ended::by)?;
        let limits = Limits {
            frame_bytes_max: 16 << 20,
            ..Limits::default()
        };
        let mut decoder = Decoder::new(limits);
        decoder.set_version(Version::V12);
        Ok(Client {
            socket,
            decoder,
            heart_beats: 0,
        })
    }

    /// Opens a session of version 1.2 without heart-beats.
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).await.unwrap()
    }

    /// As [`Client::connect`], for a server that may have gone.
    pub(crate) async fn try_connect(address: SocketAddr) -> Result<Self, Ended> {
        let mut client = Self::try_open(address, &[]).await?;
        let connect = "CONNECT\naccept-version:1.2\nhost:chat\n\n\0";
        client.try_send(connect).await?;
        let frame = client.next().await?;
        assert_eq!(frame.command, Command::Connected, "{frame:?}");
        Ok(client)
    }

    pub(crate) async fn send(&mut self, text: &str) {
        self.try_send(text).await.unwrap();
    }

    /// As [`Client::send`], for a server that may have gone.
    pub(crate) async fn try_send(&mut self, text: &str) -> Result<(), Ended> {
        let sent = self.socket.send(Message::text(text)).await;
        sent.map_err(Ended::by)
    }

    pub(crate) async fn send_binary(&mut self, octets: Vec<u8>) {
        self.try_send_binary(octets).await.unwrap();
    }

    /// As [`Client::send_binary`], for a server that may have gone.
    pub(crate) async fn try_send_binary(&mut self, octets: Vec<u8>) -> Result<(), Ended> {
        let sent = self.socket.send(Message::binary(octets)).await;
        sent.map_err(Ended::by)
    }

    /// The next frame, or how the connection ended.
    pub(crate) async fn next(&mut self) -> Result<Frame, Ended> {
        tokio::time::timeout(SOON, self.next_unbounded())
            .await
            .expect("a frame in time")
    }

    async fn next_unbounded(&mut self) -> Result<Frame, Ended> {
        loop {
            match self.decoder.poll().unwrap() {
                Some(Received::Frame(frame)) => return Ok(frame),
                Some(Received::EndOfLine) => {
                    self.heart_beats += 1;
                    continue;
                }
                None => {}
            }
            match self.socket.next().await {
                Some(Ok(Message::Text(text))) => self.decoder.push(Bytes::from(text)),
                Some(Ok(Message::Binary(octets))) => self.decoder.push(octets),
                Some(Ok(Message::Close(Some(close)))) => {
                    // Lets the library answer the close.
                    drop(self.socket.next().await);
                    return Err(Ended {
                        code: Some(close.code.into()),
                        reason: close.reason.to_string(),
                    });
                }
                Some(Ok(Message::Close(None)) | Err(_)) | None => {
                    return Err(Ended {
                        code: None,
                        reason: String::new(),
                    });
                }
                Some(Ok(_)) => {}
            }
        }
    }

    /// The next frame; the connection must not end.
    pub(crate) async fn frame(&mut self) -> Frame {
        self.next().await.expect("a frame, not the end")
    }

    /// The end; no frame may come before it.
    pub(crate) async fn end(&mut self) -> Ended {
        self.next().await.expect_err("the end, not a frame")
    }

    /// The next MESSAGE of a room.
    pub(crate) async fn message(&mut self) -> ChatMessage {
        let frame = self.frame().await;
        assert_eq!(frame.command, Command::Message, "{frame:?}");
        serde_json::from_slice(&frame.body).unwrap()
    }

    /// Waits for the RECEIPT of an id; no other frame may come before it.
    pub(crate) async fn receipt(&mut self, id: &str) {
        let frame = self.frame().await;
        assert_eq!(frame.command, Command::Receipt, "{frame:?}");
        assert_eq!(frame.headers.get("receipt-id"), Some(id));
    }

    pub(crate) async fn subscribe(&mut self, id: &str, destination: &str, headers: &str) {
        self.send(&format!(
            "SUBSCRIBE\nid:{id}\ndestination:{destination}\n{headers}receipt:sub-{id}\n\n\0"
        ))
        .await;
        self.receipt(&format!("sub-{id}")).await;
    }

    /// Sends a TALK with a receipt and does not wait for it.
    pub(crate) async fn talk(&mut self, room: &ChatRoom, sender: &str, text: &str, receipt: &str) {
        self.send(&send_frame(room, sender, text, receipt)).await;
    }
}

/// A SEND of a TALK with a receipt.
pub(crate) fn send_frame(room: &ChatRoom, sender: &str, text: &str, receipt: &str) -> String {
    let body = talk(room, sender, text);
    format!("SEND\ndestination:/app/chat/sendMessage\nreceipt:{receipt}\n\n{body}\0")
}

pub(crate) fn talk(room: &ChatRoom, sender: &str, text: &str) -> String {
    serde_json::json!({
        "type": "TALK", "roomId": room.room_id, "sender": sender, "message": text,
    })
    .to_string()
}

pub(crate) fn room_destination(room: &ChatRoom) -> String {
    format!("/topic/chat/room/{}", room.room_id)
}
