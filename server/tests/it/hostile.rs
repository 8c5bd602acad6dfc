//! Peers that misbehave: a named close, bounded memory, and nobody else is disturbed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use shared::stomp::Command;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::process::{resident_kib, start};
use crate::support::{Client, TestServer, make_room, room_destination};

/// What is written is cut into pieces of so many octets.
const PIECE: usize = 16_000;

/// What one sends after CONNECT, and what the ERROR says of it.
fn misdeeds() -> [(&'static str, Vec<u8>, &'static str); 9] {
    let endless = |line: &str| [line.as_bytes(), &[b'x'; 20_000]].concat();
    [
        (
            "an endless command",
            endless("SEND"),
            "longer than 8192 bytes",
        ),
        (
            "an endless header line",
            endless("SEND\nx:"),
            "longer than 8192 bytes",
        ),
        (
            "endless headers",
            ["SEND\n", &"x:y\n".repeat(1_000)].concat().into_bytes(),
            "more than 64 headers",
        ),
        (
            "an endless body",
            ["SEND\ndestination:/topic/x\n\n", &"x".repeat(70_000)]
                .concat()
                .into_bytes(),
            "larger than 65536 bytes",
        ),
        (
            "a gigabyte announced",
            b"SEND\ndestination:/topic/x\ncontent-length:1073741824\n\nx".to_vec(),
            "larger than 65536 bytes",
        ),
        (
            "more octets announced than a number can count",
            b"SEND\ndestination:/topic/x\ncontent-length:99999999999999999999\n\nx".to_vec(),
            "larger than 65536 bytes",
        ),
        (
            "a header that is not UTF-8",
            b"SEND\ndestination:/topic/\xff\xfe\n\nx\0".to_vec(),
            "UTF-8",
        ),
        (
            "a command that is not UTF-8",
            b"\xff\xfe\n\n\0".to_vec(),
            "no STOMP command",
        ),
        ("no command at all", vec![0; 100], "no STOMP command"),
    ]
}

#[tokio::test]
async fn each_misdeed_has_its_error_and_close() {
    let server = TestServer::start(&[]).await;
    for (what, octets, words) in misdeeds() {
        let mut client = server.connect().await;
        for piece in octets.chunks(PIECE) {
            client.send_binary(piece.to_vec()).await;
        }
        let error = client.frame().await;
        assert_eq!(error.command, Command::Error, "{what}");
        let body = String::from_utf8(error.body.to_vec()).unwrap();
        assert!(body.contains(words), "{what}: {body}");
        assert_eq!(client.end().await.code, Some(1002), "{what}");
    }
}

/// Makes a WebSocket handshake and leaves the socket bare.
pub(crate) async fn handshake(address: SocketAddr) -> Option<TcpStream> {
    handshake_at(address, "/ws/chat").await
}

pub(crate) async fn handshake_at(address: SocketAddr, path: &str) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    stream.set_nodelay(true).ok()?;
    let head = format!(
        "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.ok()?);
    }
    answer.starts_with(b"HTTP/1.1 101").then_some(stream)
}

/// A WebSocket frame of a client (RFC 6455, section 5.2) that announces a length, with a mask of zeros.
pub(crate) fn web_socket_frame(first: u8, announced: u64, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first, 0x80 | 127];
    frame.extend_from_slice(&announced.to_be_bytes());
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}

/// The close code that a socket gets after these octets.
async fn close_code(address: SocketAddr, octets: &[u8]) -> u16 {
    let mut stream = handshake(address).await.unwrap();
    stream.write_all(octets).await.unwrap();
    let mut said = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut said));
    drop(read.await.expect("a close in time"));
    let [0x88, _, high, low, ..] = said[..] else {
        panic!("no close frame first: {said:?}");
    };
    u16::from_be_bytes([high, low])
}

#[tokio::test]
async fn what_is_no_web_socket_is_closed_by_its_code() {
    let server = TestServer::start(&[]).await;
    let gigabyte = web_socket_frame(0x82, 1 << 30, b"x");
    assert_eq!(close_code(server.address, &gigabyte).await, 1009);
    let immense = web_socket_frame(0x82, u64::MAX >> 1, b"x");
    assert_eq!(close_code(server.address, &immense).await, 1009);
    let text = web_socket_frame(0x81, 2, b"\xff\xfe");
    assert_eq!(close_code(server.address, &text).await, 1007);
    let without_mask = [0x81, 1, b'x'];
    assert_eq!(close_code(server.address, &without_mask).await, 1002);
    let unknown_opcode = web_socket_frame(0x83, 1, b"x");
    assert_eq!(close_code(server.address, &unknown_opcode).await, 1002);
    // Fragments count together.
    let mut fragments = web_socket_frame(0x02, 65_536, &[b'\n'; 65_536]);
    for _ in 0..4 {
        fragments.extend(web_socket_frame(0x00, 65_536, &[b'\n'; 65_536]));
    }
    assert_eq!(close_code(server.address, &fragments).await, 1009);
}

#[tokio::test]
async fn an_octet_at_a_time_is_no_connect() {
    let server = TestServer::start(&["--connect-timeout-ms", "400"]).await;
    let mut client = Client::open(server.address).await;
    for octet in "CONNECT".chars() {
        client.send(&octet.to_string()).await;
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
    let ended = client.end().await;
    assert_eq!(ended.code, Some(4500));
    assert!(ended.reason.contains("CONNECT"), "{}", ended.reason);
}

#[tokio::test]
async fn bursts_of_tiny_frames_are_all_taken() {
    let server = TestServer::start(&["--message-rate", "0"]).await;
    let mut client = server.connect().await;
    client.subscribe("s", "/queue/tiny", "").await;
    client.send(&"\n".repeat(200_000)).await;
    let send = "SEND\ndestination:/queue/tiny\n\n\0";
    let count = 200_000 / send.len();
    client.send(&send.repeat(count)).await;
    for _ in 0..count {
        assert_eq!(client.frame().await.command, Command::Message);
    }
    for _ in 0..20_000 {
        client.send("\n").await;
    }
    client
        .send("SEND\ndestination:/topic/x\nreceipt:r\n\n\0")
        .await;
    client.receipt("r").await;
}

/// Does one misdeed after another until it is told to stop; counts them.
async fn misbehave(
    address: SocketAddr,
    kind: usize,
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
) {
    while !stop.load(Ordering::Relaxed) {
        let misdeed = async {
            match kind % 8 {
                // Nothing, or an octet now and then.
                0 | 1 => {
                    let mut stream = handshake(address).await?;
                    for _ in 0..5 {
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        stream
                            .write_all(&[0x81, 0x81, 0, 0, 0, 0, b'C'])
                            .await
                            .ok()?;
                    }
                }
                // A long message that never ends.
                2 => {
                    let mut stream = handshake(address).await?;
                    let frame = web_socket_frame(0x82, 262_144, &[b'\n'; 262_000]);
                    stream.write_all(&frame).await.ok()?;
                    tokio::time::sleep(Duration::from_millis(300)).await;
                }
                // Pings, and nothing of the pongs is read.
                3 => {
                    let mut stream = handshake(address).await?;
                    let pings = [0x89, 0x84, 0, 0, 0, 0, 1, 2, 3, 4].repeat(10_000);
                    for _ in 0..20 {
                        stream.write_all(&pings).await.ok()?;
                    }
                }
                // Frames that ask for answers which are never read.
                4 => {
                    let mut client = Client::try_connect(address).await.ok()?;
                    let frames = "SEND\ndestination:/topic/none\nreceipt:r\n\n\0".repeat(4_000);
                    for _ in 0..10 {
                        client.try_send(&frames).await.ok()?;
                    }
                }
                // Subscriptions and transactions up to their limits, all left open.
                5 => {
                    let mut client = Client::try_connect(address).await.ok()?;
                    let frames: String = (0..128)
                        .map(|id| format!("SUBSCRIBE\nid:{id}\ndestination:/topic/{id}\n\n\0"))
                        .chain((0..16).map(|id| format!("BEGIN\ntransaction:{id}\n\n\0")))
                        .collect();
                    client.try_send(&frames).await.ok()?;
                    let body = "x".repeat(60_000);
                    for id in 0..16 {
                        let send =
                            format!("SEND\ndestination:/topic/x\ntransaction:{id}\n\n{body}\0");
                        client.try_send(&send).await.ok()?;
                    }
                }
                _ => {
                    let turn = done.load(Ordering::Relaxed);
                    let misdeeds = misdeeds();
                    let (_, octets, _) = &misdeeds[turn % misdeeds.len()];
                    let mut client = Client::try_connect(address).await.ok()?;
                    for piece in octets.chunks(PIECE) {
                        client.try_send_binary(piece.to_vec()).await.ok()?;
                    }
                    while client.next().await.is_ok() {}
                }
            }
            Some(())
        };
        // A write that the server does not take is a misdeed too.
        drop(tokio::time::timeout(Duration::from_secs(1), misdeed).await);
        done.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_people_talk_among_a_hundred_who_misbehave() {
    const OTHERS: usize = 100;
    const MESSAGES: u64 = 150;
    let data = tempfile::tempdir().unwrap();
    let (mut child, address) = start(data.path()).await;
    let room = make_room(address, "r").await;
    let mut hears = Client::connect(address).await;
    hears.subscribe("0", &room_destination(&room), "").await;
    let mut speaks = Client::connect(address).await;
    let before = resident_kib(&child);
    let stop = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicUsize::new(0));
    let mut others = tokio::task::JoinSet::new();
    for kind in 0..OTHERS {
        others.spawn(misbehave(
            address,
            kind,
            Arc::clone(&stop),
            Arc::clone(&done),
        ));
    }
    let (mut longest, mut peak) = (Duration::ZERO, before);
    for seq in 1..=MESSAGES {
        let begin = Instant::now();
        speaks.talk(&room, "a", "x", &seq.to_string()).await;
        assert_eq!(hears.message().await.seq, seq);
        speaks.receipt(&seq.to_string()).await;
        longest = longest.max(begin.elapsed());
        peak = peak.max(resident_kib(&child));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stop.store(true, Ordering::Relaxed);
    others.join_all().await;
    let done = done.load(Ordering::Relaxed);
    println!(
        "{done} misdeeds; {longest:?} at the longest; {before:?} KiB before, {peak:?} at most"
    );
    assert!(done >= OTHERS, "nobody misbehaved");
    assert!(longest < Duration::from_secs(5), "{longest:?}");
    if let (Some(before), Some(peak)) = (before, peak) {
        // A session may hold a payload of 256 KiB, 1 MiB in each of 16 transactions, and 512 KiB that
        // wait for it; few do all of it.
        let most = (OTHERS * 2_048) as u64;
        assert!(peak - before < most, "{} KiB more", peak - before);
    }
    child.kill().await.unwrap();
}
