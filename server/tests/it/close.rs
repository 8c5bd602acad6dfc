//! How a WebSocket ends that its peer closes (RFC 6455, 5.5.1 and 7).

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::hostile::{handshake_at, web_socket_frame};
use crate::support::{Client, TestServer, room_destination, talk};

const PATHS: [&str; 3] = [
    "/ws/chat",
    "/ws/chat/websocket",
    "/ws/chat/000/closing/websocket",
];

/// A STOMP frame in the WebSocket frame of a path.
fn message(path: &str, stomp: &str) -> Vec<u8> {
    let text = if path.ends_with("closing/websocket") {
        serde_json::to_string(&[stomp]).unwrap()
    } else {
        stomp.to_owned()
    };
    web_socket_frame(0x81, text.len() as u64, text.as_bytes())
}

fn close(body: &[u8]) -> Vec<u8> {
    [&[0x88, 0x80 | body.len() as u8, 0, 0, 0, 0], body].concat()
}

/// Reads until the server ends TCP, which it must do by itself: this side stays open.
async fn read_all(stream: &mut TcpStream) -> Vec<(u8, Vec<u8>)> {
    let mut octets = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut octets));
    read.await
        .expect("the end of TCP in time")
        .expect("an end, not a reset");
    let mut frames = Vec::new();
    let mut rest = &octets[..];
    while let [first, length, after @ ..] = rest {
        let (length, after) = match (length, after) {
            (126, [a, b, after @ ..]) => (usize::from(u16::from_be_bytes([*a, *b])), after),
            (127, [_, _, _, _, a, b, c, d, after @ ..]) => {
                (u32::from_be_bytes([*a, *b, *c, *d]) as usize, after)
            }
            (length, after) => (usize::from(*length), after),
        };
        let (payload, after) = after.split_at(length);
        frames.push((first & 0xF, payload.to_vec()));
        rest = after;
    }
    frames
}

async fn open(address: SocketAddr, path: &str, said: &[&str]) -> TcpStream {
    let mut stream = handshake_at(address, path).await.unwrap();
    for stomp in said {
        stream.write_all(&message(path, stomp)).await.unwrap();
    }
    stream
}

const CONNECT: &str = "CONNECT\naccept-version:1.2\nheart-beat:0,0\n\n\0";

#[tokio::test]
async fn a_close_is_answered_with_its_code_and_the_end_of_tcp() {
    let with_reason = [&1000_u16.to_be_bytes()[..], "안녕".as_bytes()].concat();
    let mut cases = vec![
        (Vec::new(), Vec::new()),
        (with_reason.clone(), with_reason),
        // No code at all, and what may stand in no close frame (RFC 6455, 7.4).
        (vec![3], 1002_u16.to_be_bytes().to_vec()),
        (vec![3, 232, 0xFF, 0xFE], 1007_u16.to_be_bytes().to_vec()),
    ];
    for code in [
        1000_u16, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 3000, 3999, 4000,
        4500, 4999,
    ] {
        cases.push((code.to_be_bytes().to_vec(), code.to_be_bytes().to_vec()));
    }
    for code in [0_u16, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535] {
        let refused = 1002_u16.to_be_bytes().to_vec();
        cases.push((code.to_be_bytes().to_vec(), refused));
    }
    let server = TestServer::start(&[]).await;
    for path in PATHS {
        for said in [&[][..], &[CONNECT], &[CONNECT, "NONSENSE\n\n\0"]] {
            for (body, answer) in &cases {
                let mut stream = open(server.address, path, said).await;
                stream.write_all(&close(body)).await.unwrap();
                let frames = read_all(&mut stream).await;
                let closes: Vec<_> = frames.iter().filter(|frame| frame.0 == 8).collect();
                assert_eq!(closes.len(), 1, "{path} {said:?} {body:?}");
                let last = frames.last().unwrap();
                assert_eq!(last.0, 8, "{path} {said:?} {body:?}");
                if said.len() < 2 {
                    assert!(last.1.starts_with(answer), "{path} {body:?}: {:?}", last.1);
                    assert_eq!(last.1.is_empty(), answer.is_empty(), "{path} {body:?}");
                } else {
                    // Ours was first.
                    assert!(last.1.starts_with(&1002_u16.to_be_bytes()));
                }
            }
        }
    }
}

#[tokio::test]
async fn what_waits_is_written_before_the_answer() {
    let server = TestServer::start(&["--message-rate", "0"]).await;
    let room = server.make_room("r").await;
    let mut sender = Client::connect(server.address).await;
    let text = "가".repeat(4_000);
    let array = vec![talk(&room, "a", &text); 5].join(",");
    for number in 0..100 {
        let destination = format!("/app{}", room_destination(&room));
        let receipt = number.to_string();
        let frame = format!("SEND\ndestination:{destination}\nreceipt:{receipt}\n\n[{array}]\0");
        sender.send(&frame).await;
        sender.receipt(&receipt).await;
    }
    let subscribe = format!(
        "SUBSCRIBE\nid:0\ndestination:{}\nx-stream-offset:first\n\n\0",
        room_destination(&room)
    );
    for path in PATHS {
        let mut stream = open(server.address, path, &[CONNECT, &subscribe]).await;
        // So much that it waits in the server.
        tokio::time::sleep(Duration::from_millis(300)).await;
        stream.write_all(&close(&[0x0F, 0xA0])).await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        let frames = read_all(&mut stream).await;
        assert_eq!(frames.last().unwrap(), &(8, vec![0x0F, 0xA0]), "{path}");
        assert!(frames.len() > 10, "{path}: {}", frames.len());
    }
}

#[tokio::test]
async fn what_was_said_before_the_close_is_done() {
    let options = ["--message-rate", "10", "--message-burst", "1"];
    let server = TestServer::start(&options).await;
    let room = server.make_room("r").await;
    for path in PATHS {
        let mut stream = open(server.address, path, &[CONNECT]).await;
        let before = server.history(&room, "").await.len();
        // The rate lets the last of them wait.
        let array = vec![talk(&room, "a", "x"); 10].join(",");
        let frame = format!(
            "SEND\ndestination:/app{}\n\n[{array}]\0",
            room_destination(&room)
        );
        stream.write_all(&message(path, &frame)).await.unwrap();
        stream.write_all(&close(&[3, 232])).await.unwrap();
        let frames = read_all(&mut stream).await;
        assert_eq!(frames.last().unwrap(), &(8, vec![3, 232]), "{path}");
        drop(stream);
        // Done, whether or not the answer to the close came first.
        let stored = async {
            while server.history(&room, "").await.len() < before + 10 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let stored = tokio::time::timeout(Duration::from_secs(20), stored).await;
        assert!(stored.is_ok(), "{path}");
        assert_eq!(server.history(&room, "").await.len(), before + 10, "{path}");
    }
}

#[tokio::test]
async fn who_is_at_fault_can_read_why() {
    let server = TestServer::start(&[]).await;
    for path in PATHS {
        let mut stream = open(server.address, path, &[CONNECT]).await;
        // Far more than the server reads of it.
        let large = vec![b'\n'; 300_000];
        let frame = web_socket_frame(0x81, large.len() as u64, &large);
        stream.write_all(&frame).await.unwrap();
        let frames = read_all(&mut stream).await;
        let (opcode, body) = frames.last().unwrap();
        assert_eq!(*opcode, 8, "{path}");
        assert!(body.starts_with(&1009_u16.to_be_bytes()), "{path}");
    }
}
