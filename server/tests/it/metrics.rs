//! The figures that the operator asks for.

use std::net::SocketAddr;

use shared::stomp::Command as Frame;
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::link::Carrier;
use crate::process::{PROGRAM, start_as, terminate};
use crate::support::{Client, make_room, request, room_destination, send_frame};

/// Figures by their names and labels, as they are written.
struct Figures(String);

impl Figures {
    async fn ask(address: SocketAddr) -> Self {
        let answer = request(address, "GET", "/metrics", &[], "").await;
        assert_eq!(answer.status, 200);
        let kind = answer.header("content-type").unwrap();
        assert!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
        Figures(answer.body)
    }

    /// Panics where there is none of this name.
    fn get(&self, name: &str) -> f64 {
        let value = self.0.lines().find_map(|line| {
            let (found, value) = line.rsplit_once(' ')?;
            (found == name).then(|| value.parse().unwrap())
        });
        value.unwrap_or_else(|| panic!("{name} in {}", self.0))
    }
}

#[tokio::test]
async fn they_follow_what_happens() {
    let data = tempfile::tempdir().unwrap();
    let mut command = Command::new(PROGRAM);
    command.args(["--connections", "20"]);
    let (mut child, address, _) = start_as(command, data.path()).await;
    let before = Figures::ask(address).await;
    assert_eq!(before.get("sarangbang_ready"), 1.0);
    assert_eq!(before.get("sarangbang_rooms"), 0.0);

    let room = make_room(address, "r").await;
    let mut client = Client::connect(address).await;
    client.subscribe("r", &room_destination(&room), "").await;
    client.subscribe("e", "/user/queue/errors", "").await;
    let mut other = Client::open_over(Carrier::XhrStreaming, address, &[])
        .await
        .unwrap();
    other.send("CONNECT\naccept-version:1.2\n\n\0").await;
    assert_eq!(other.frame().await.command, Frame::Connected);
    let enter = send_frame(&room, "a", "", "0").replace("TALK", "ENTER");
    client.send(&enter).await;
    client.frame().await;
    client.frame().await;
    for text in ["1", "2", "3"] {
        client.talk(&room, "a", text, text).await;
        // The RECEIPT and the MESSAGE.
        client.frame().await;
        client.frame().await;
    }
    // Another name, which the session may not take.
    client.talk(&room, "b", "x", "x").await;
    assert_eq!(client.frame().await.command, Frame::Message);

    let after = Figures::ask(address).await;
    let grown = |name: &str| after.get(name) - before.get(name);
    for (name, by) in [
        ("sarangbang_rooms", 1.0),
        ("sarangbang_participants", 1.0),
        ("sarangbang_messages_appended_total", 4.0),
        ("sarangbang_messages_delivered_total", 4.0),
        (r#"sarangbang_refusals_total{status="409"}"#, 1.0),
        (r#"sarangbang_sessions{transport="websocket"}"#, 1.0),
        (r#"sarangbang_sessions{transport="sockjs-http"}"#, 1.0),
        // Two CONNECTs, two SUBSCRIBEs, five SENDs.
        ("sarangbang_frames_received_total", 9.0),
        ("sarangbang_slow_readers_total", 0.0),
        ("sarangbang_entries_passed_over_total", 0.0),
        ("sarangbang_commits_failed_total", 0.0),
        // The WebSocket.
        (r#"sarangbang_http_responses_total{status="1xx"}"#, 1.0),
    ] {
        assert_eq!(grown(name), by, "{name}");
    }
    assert!(grown("sarangbang_received_bytes_total") > 300.0);
    assert!(grown("sarangbang_sent_bytes_total") > 600.0);
    assert!(after.get("sarangbang_commit_seconds_count") >= 4.0);
    assert!(after.get("sarangbang_connections") >= 2.0);
    let of = |file| after.get(&format!(r#"sarangbang_store_bytes{{file="{file}"}}"#));
    assert!(of("database") + of("write-ahead-log") > 4_096.0);
    assert!(after.get("process_resident_memory_bytes") > 1e6);
    drop((client, other));

    // What is over is over, and who is turned away is counted.
    let mut open = Vec::new();
    for _ in 0..30 {
        open.push(TcpStream::connect(address).await.unwrap());
    }
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    drop(open);
    let begin = std::time::Instant::now();
    loop {
        let answer = request(address, "GET", "/metrics", &[], "").await;
        if answer.status == 200 {
            let after = Figures(answer.body);
            let refused = after.get(r#"sarangbang_connections_refused_total{limit="all"}"#);
            let open = after.get(r#"sarangbang_sessions{transport="websocket"}"#);
            let present = after.get("sarangbang_participants");
            if refused >= 10.0 && open == 0.0 && present == 0.0 {
                break;
            }
        }
        assert!(begin.elapsed() < crate::support::SOON, "{}", after.0);
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    terminate(&mut child).await;
}

#[tokio::test]
async fn they_are_for_the_hosts_of_the_server() {
    let data = tempfile::tempdir().unwrap();
    let (mut child, address, _) = start_as(Command::new(PROGRAM), data.path()).await;
    let target = "http://rebound.example/metrics";
    let answer = request(address, "GET", target, &[], "").await;
    assert_eq!(answer.status, 421);
    terminate(&mut child).await;
}
