//! A server that stood still: what its peers said meanwhile is read, and nobody is taken for silent.

use std::net::SocketAddr;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::hostile::{handshake_at, web_socket_frame};
use crate::link::{Carrier, over_each_transport};
use crate::process::{PROGRAM, signal, start_as};
use crate::support::{Client, SOON, make_room, room_destination, send_frame};

/// Every deadline that an option sets, in the server of these tests; the silence of a peer is three times
/// that.
const DEADLINE: Duration = Duration::from_millis(1_500);

/// How long the server stands still.
const PAUSE: Duration = Duration::from_secs(6);

struct Server {
    child: Child,
    address: SocketAddr,
    _data: TempDir,
}

impl Server {
    async fn start() -> Self {
        let data = tempfile::tempdir().unwrap();
        let mut command = Command::new(PROGRAM);
        // Without it there is no jsonp.
        command.args(["--allowed-origins", "*"]);
        let deadline = DEADLINE.as_millis().to_string();
        for option in [
            "heart-beat",
            "ping-interval",
            "connect-timeout",
            "stall-timeout",
        ] {
            command.args([&format!("--{option}-ms"), &deadline]);
        }
        for option in ["keep-alive", "sockjs-disconnect"] {
            command.args([&format!("--{option}-ms"), &deadline]);
        }
        let (child, address, _) = start_as(command, data.path()).await;
        Server {
            child,
            address,
            _data: data,
        }
    }

    fn stop(&self) {
        signal(&self.child, Signal::STOP);
    }

    /// Lets it go on when it has stood for the whole pause.
    async fn go_on(&self) {
        self.go_on_after(PAUSE).await;
    }

    async fn go_on_after(&self, pause: Duration) {
        tokio::time::sleep(pause).await;
        signal(&self.child, Signal::CONT);
    }
}

over_each_transport!(what_was_said_during_a_pause_is_done);

async fn what_was_said_during_a_pause_is_done(carrier: Carrier) {
    let server = Server::start().await;
    let room = make_room(server.address, "r").await;
    let mut client = Client::open_over(carrier, server.address, &[])
        .await
        .unwrap();
    client
        .send("CONNECT\naccept-version:1.2\nheart-beat:100,1500\n\n\0")
        .await;
    client.frame().await;
    server.stop();
    let talks = async {
        for number in ["1", "2", "3"] {
            client.send(&send_frame(&room, "a", number, number)).await;
        }
        client
    };
    let (mut client, ()) = tokio::join!(talks, server.go_on());
    for number in ["1", "2", "3"] {
        client.receipt(number).await;
    }
    client.talk(&room, "a", "4", "4").await;
    client.receipt("4").await;
}

/// As many as no single look at the sockets finds.
const MANY: usize = 200;

#[tokio::test]
async fn who_was_about_to_connect_does() {
    let server = Server::start().await;
    let mut clients = Vec::new();
    for _ in 0..MANY {
        clients.push(Client::open(server.address).await);
    }
    server.stop();
    for client in &mut clients {
        client.send("CONNECT\naccept-version:1.2\n\n\0").await;
    }
    server.go_on().await;
    for client in &mut clients {
        let frame = client.frame().await;
        assert_eq!(frame.command, shared::stomp::Command::Connected);
    }
}

#[tokio::test]
async fn a_request_on_an_idle_connection_is_answered() {
    let server = Server::start().await;
    let ask = b"GET /healthz HTTP/1.1\r\nhost: h\r\n\r\n";
    let answered = async |stream: &mut TcpStream| {
        let mut octets = [0; 4_096];
        let length = tokio::time::timeout(SOON, stream.read(&mut octets)).await;
        let length = length.expect("in time").unwrap();
        assert!(octets[..length].starts_with(b"HTTP/1.1 200"), "{length}");
    };
    let mut streams = Vec::new();
    for _ in 0..MANY {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(ask).await.unwrap();
        answered(&mut stream).await;
        streams.push(stream);
    }
    // More than once: which it looks at first, its sockets or the time, is a matter of luck.
    for _ in 0..4 {
        tokio::time::sleep(DEADLINE / 3).await;
        server.stop();
        for stream in &mut streams {
            stream.write_all(ask).await.unwrap();
        }
        server.go_on_after(DEADLINE * 3 / 2).await;
        for stream in &mut streams {
            answered(stream).await;
        }
    }
}

#[tokio::test]
async fn who_reads_during_a_pause_is_no_slow_reader() {
    const MESSAGES: usize = 1_200;
    let server = Server::start().await;
    let room = make_room(server.address, "r").await;
    let mut writer = Client::connect(server.address).await;
    let text = "가".repeat(4_000);
    for _ in 0..MESSAGES {
        writer.talk(&room, "a", &text, "r").await;
        writer.receipt("r").await;
    }
    // What the system keeps for the connection is less than all of it.
    let mut reader = Client::connect(server.address).await;
    let subscribe = format!(
        "SUBSCRIBE\nid:0\ndestination:{}\nx-stream-offset:first\n\n\0",
        room_destination(&room)
    );
    reader.send(&subscribe).await;
    tokio::time::sleep(DEADLINE / 2).await;
    server.stop();
    let reads = async {
        for seq in 1..=MESSAGES as u64 {
            assert_eq!(reader.message().await.seq, seq);
        }
    };
    tokio::join!(reads, server.go_on());
}

#[tokio::test]
async fn who_is_silent_after_a_pause_is_closed_all_the_same() {
    let server = Server::start().await;
    let mut stream = handshake_at(server.address, "/ws/chat").await.unwrap();
    let connect = "CONNECT\naccept-version:1.2\nheart-beat:100,0\n\n\0";
    let frame = web_socket_frame(0x81, connect.len() as u64, connect.as_bytes());
    stream.write_all(&frame).await.unwrap();
    tokio::time::sleep(DEADLINE / 2).await;
    server.stop();
    server.go_on().await;
    let mut said = Vec::new();
    let read = tokio::time::timeout(SOON, stream.read_to_end(&mut said)).await;
    assert!(matches!(read, Ok(Ok(_))), "{read:?}");
    let code = 4500_u16.to_be_bytes();
    let is_closed = |four: &[u8]| four[0] == 0x88 && four[2..] == code;
    assert!(said.windows(4).any(is_closed), "{said:?}");
}
