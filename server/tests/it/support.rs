//! A server of the test's own, and a raw STOMP client that shows every frame.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use clap::Parser as _;
use server::Config;
use shared::chat::{ChatMessage, ChatRoom};
use shared::stomp::{Command, Decoder, Frame, Limits, Received, Version};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::exchange::Exchange;
pub(crate) use crate::link::Ended;
use crate::link::{Carrier, Link};

/// How long anything may take that is expected to happen.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// A server in this process, with a data directory of its own.
pub(crate) struct TestServer {
    pub(crate) address: SocketAddr,
    pub(crate) data: TempDir,
    /// What its clients come by.
    carrier: Carrier,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl TestServer {
    pub(crate) async fn start(options: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), options).await
    }

    /// A server whose clients come by this.
    pub(crate) async fn start_over(carrier: Carrier, options: &[&str]) -> Self {
        let mut options = options.to_vec();
        if carrier == Carrier::Jsonp {
            options.extend(["--allowed-origins", "*"]);
        }
        TestServer {
            carrier,
            ..Self::start(&options).await
        }
    }

    pub(crate) async fn start_in(data: TempDir, options: &[&str]) -> Self {
        let config = config(data.path(), options);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            server::serve(vec![listener], config, async { drop(stopped.await) })
                .await
                .unwrap();
        });
        TestServer {
            address,
            data,
            carrier: Carrier::WebSocket,
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

    /// Opens a connection, without CONNECT.
    pub(crate) async fn open(&self) -> Client {
        self.open_with(&[]).await
    }

    /// The same, with these headers.
    pub(crate) async fn open_with(&self, headers: &[(&'static str, &str)]) -> Client {
        let opened = Client::open_over(self.carrier, self.address, headers);
        opened.await.unwrap()
    }

    /// Opens a session of version 1.2 without heart-beats.
    pub(crate) async fn connect(&self) -> Client {
        let mut client = self.open().await;
        client.begin().await.unwrap();
        client
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
    let body = Some(body).filter(|body| !body.is_empty());
    let mut exchange = Exchange::begin(address, method, path, headers, body).await;
    let mut octets = Vec::new();
    while let Some(mut piece) = exchange.try_piece().await.unwrap() {
        octets.append(&mut piece);
    }
    Answer {
        status: exchange.status,
        headers: exchange.headers,
        body: String::from_utf8_lossy(&octets).into_owned(),
    }
}

/// A STOMP client that writes frames as text and shows each that comes.
pub(crate) struct Client {
    pub(crate) link: Link,
    decoder: Decoder,
    /// Line feeds seen between frames.
    pub(crate) heart_beats: usize,
}

impl Client {
    /// Opens a WebSocket, without CONNECT.
    pub(crate) async fn open(address: SocketAddr) -> Self {
        Self::open_with(address, &[]).await
    }

    pub(crate) async fn open_with(address: SocketAddr, headers: &[(&'static str, &str)]) -> Self {
        Self::open_over(Carrier::WebSocket, address, headers)
            .await
            .unwrap()
    }

    pub(crate) async fn open_over(
        carrier: Carrier,
        address: SocketAddr,
        headers: &[(&'static str, &str)],
    ) -> Result<Self, Ended> {
        let limits = Limits {
            frame_bytes_max: 16 << 20,
            ..Limits::default()
        };
        let mut decoder = Decoder::new(limits);
        decoder.set_version(Version::V12);
        Ok(Client {
            link: Link::open(carrier, address, headers).await?,
            decoder,
            heart_beats: 0,
        })
    }

    /// Opens a session of version 1.2 without heart-beats, over WebSocket.
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).await.unwrap()
    }

    /// As [`Client::connect`], for a server that may have gone.
    pub(crate) async fn try_connect(address: SocketAddr) -> Result<Self, Ended> {
        let mut client = Self::open_over(Carrier::WebSocket, address, &[]).await?;
        client.begin().await?;
        Ok(client)
    }

    async fn begin(&mut self) -> Result<(), Ended> {
        let connect = "CONNECT\naccept-version:1.2\nhost:chat\n\n\0";
        self.try_send(connect).await?;
        let frame = self.next().await?;
        assert_eq!(frame.command, Command::Connected, "{frame:?}");
        Ok(())
    }

    pub(crate) async fn send(&mut self, text: &str) {
        self.try_send(text).await.unwrap();
    }

    /// As [`Client::send`], for a server that may have gone.
    pub(crate) async fn try_send(&mut self, text: &str) -> Result<(), Ended> {
        self.link.send(text).await
    }

    pub(crate) async fn send_binary(&mut self, octets: Vec<u8>) {
        self.try_send_binary(octets).await.unwrap();
    }

    /// As [`Client::send_binary`], for a server that may have gone.
    pub(crate) async fn try_send_binary(&mut self, octets: Vec<u8>) -> Result<(), Ended> {
        self.link.send_binary(octets).await
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
            self.decoder.push(self.link.next().await?);
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
