//! What strangers may hold: connections, answers under way, bodies, and the process's files.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::hostile::handshake;
use crate::support::{Answer, SOON, TestServer, request};

/// Whether an answer says that there is too much, when to try again, and what to do.
fn is_refusal(answer: &Answer, status: u16) -> bool {
    answer.status == status
        && answer.header("retry-after").is_some()
        && answer.body.contains("try again")
}

async fn healthz(address: SocketAddr) -> Answer {
    request(address, "GET", "/healthz", &[], "").await
}

/// Asks until the answer has this status: what somebody else has let go of is given back a moment later.
async fn until(status: u16, ask: impl AsyncFn() -> Answer) {
    let begun = Instant::now();
    loop {
        let answer = ask().await;
        if answer.status == status {
            return;
        }
        assert!(begun.elapsed() < SOON, "{answer:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn connections_are_bounded_for_an_address_and_in_all() {
    for (option, status) in [("--connections-per-address", 429), ("--connections", 503)] {
        let server = TestServer::start(&[option, "3"]).await;
        let address = server.address;
        let silent = TcpStream::connect(address).await.unwrap();
        let first = handshake(address).await.unwrap();
        let second = handshake(address).await.unwrap();
        // A WebSocket counts as long as it lasts.
        until(status, || healthz(address)).await;
        let answer = healthz(address).await;
        assert!(is_refusal(&answer, status), "{option}: {answer:?}");
        assert_eq!(answer.header("connection"), Some("close"));
        drop(first);
        until(200, || healthz(address)).await;
        drop((silent, second));
        server.stop().await;
    }
}

#[tokio::test]
async fn there_is_no_limit_for_an_address_by_default() {
    let server = TestServer::start(&[]).await;
    let mut open = Vec::new();
    for _ in 0..200 {
        open.push(TcpStream::connect(server.address).await.unwrap());
    }
    assert_eq!(healthz(server.address).await.status, 200);
}

/// Opens a WebSocket for somebody; the status of the answer.
async fn upgrade_for(address: SocketAddr, client: &str) -> (u16, TcpStream) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "GET /ws/chat HTTP/1.1\r\nhost: {address}\r\nx-forwarded-for: {client}\r\n\
         connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut status = [0; 12];
    stream.read_exact(&mut status).await.unwrap();
    let status = std::str::from_utf8(&status[9..]).unwrap().parse().unwrap();
    (status, stream)
}

#[tokio::test]
async fn behind_a_proxy_connections_count_for_whom_they_are() {
    let options = [
        "--trusted-proxies",
        "127.0.0.1",
        "--connections-per-address",
        "2",
    ];
    let server = TestServer::start(&options).await;
    let address = server.address;
    let mut open = Vec::new();
    // The proxy itself may have many; IPv6 counts by /64.
    for client in ["203.0.113.1", "203.0.113.2", "2001:db8::1", "2001:db8::2"] {
        let (status, stream) = upgrade_for(address, client).await;
        assert_eq!(status, 101, "{client}");
        open.push(stream);
    }
    assert_eq!(upgrade_for(address, "2001:db8::3").await.0, 429);
    let (status, stream) = upgrade_for(address, "203.0.113.1").await;
    assert_eq!(status, 101);
    let (status, _) = upgrade_for(address, "203.0.113.1").await;
    assert_eq!(status, 429);
    // A stream of SockJS is a request under way.
    let other = [("x-forwarded-for", "203.0.113.2")];
    let path = "/ws/chat/0/streams/xhr_streaming";
    let mut streaming = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: {address}\r\nx-forwarded-for: 203.0.113.2\r\ncontent-length: 0\r\n\r\n"
    );
    streaming.write_all(head.as_bytes()).await.unwrap();
    streaming.read_u8().await.unwrap();
    let answer = request(address, "GET", "/chat/rooms", &other, "").await;
    assert!(is_refusal(&answer, 429), "{answer:?}");
    drop(streaming);
    until(200, || request(address, "GET", "/chat/rooms", &other, "")).await;
    drop(stream);
    until(200, async || {
        let first = [("x-forwarded-for", "203.0.113.1")];
        request(address, "GET", "/chat/rooms", &first, "").await
    })
    .await;
}

#[tokio::test]
async fn behind_a_proxy_web_sockets_count_as_connections_too() {
    let options = ["--trusted-proxies", "127.0.0.1", "--connections", "3"];
    let server = TestServer::start(&options).await;
    let address = server.address;
    let mut open = Vec::new();
    for client in ["203.0.113.1", "203.0.113.2", "203.0.113.3"] {
        let (status, stream) = upgrade_for(address, client).await;
        assert_eq!(status, 101, "{client}");
        open.push(stream);
    }
    // Also once the handshakes have long ended.
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(is_refusal(&healthz(address).await, 503));
    }
    drop(open);
    until(200, || healthz(address)).await;
}

/// The path of a history of 2.4 MB.
async fn long_history(server: &TestServer) -> String {
    let room = server.make_room("r").await;
    let mut client = server.connect().await;
    let text = "사".repeat(4_000);
    for index in 0..200 {
        let receipt = index.to_string();
        client.talk(&room, "a", &text, &receipt).await;
    }
    for index in 0..200 {
        client.receipt(&index.to_string()).await;
    }
    format!("/chat/room/{}/messages?limit=200", room.room_id)
}

/// Asks for so much that the system cannot take it, and does not read.
async fn ask_without_reading(address: SocketAddr, path: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4 << 10).unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n\r\n").repeat(REPEATS);
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

/// How often it is asked for: the system takes in some answers as a whole.
const REPEATS: usize = 32;

/// That an answer which nobody reads keeps others away under this option, until it is dropped.
async fn one_unread_answer_is_enough(option: &str, value: &str, status: u16) {
    const STALL: Duration = Duration::from_secs(12);
    let stall = STALL.as_millis().to_string();
    let options = [
        option,
        value,
        "--message-rate",
        "0",
        "--stall-timeout-ms",
        &stall,
    ];
    let server = TestServer::start(&options).await;
    let address = server.address;
    let path = long_history(&server).await;
    let begun = Instant::now();
    let mut unread = ask_without_reading(address, &path).await;
    // Between two answers there is room for a moment.
    let mut in_row = 0;
    while in_row < 10 {
        assert!(begun.elapsed() < SOON, "{option}: nothing is refused");
        tokio::time::sleep(Duration::from_millis(100)).await;
        let answer = request(address, "GET", &path, &[], "").await;
        in_row = if answer.status == status {
            in_row + 1
        } else {
            0
        };
    }
    // It is for each answer that may be large, and for no other.
    for path in [&path, "/chat/rooms", "/chat/room", "/"] {
        let answer = request(address, "GET", path, &[], "").await;
        assert!(is_refusal(&answer, status), "{option} {path}: {answer:?}");
    }
    for path in ["/healthz", "/readyz", "/ws/chat/info"] {
        let answer = request(address, "GET", path, &[], "").await;
        assert_eq!(answer.status, 200, "{option} {path}");
    }
    until(200, || request(address, "GET", &path, &[], "")).await;
    assert!(begun.elapsed() >= STALL, "{option}: {:?}", begun.elapsed());
    // The one that did not read finds its connection ended in the middle.
    let mut octets = Vec::new();
    let read = tokio::time::timeout(SOON, unread.read_to_end(&mut octets)).await;
    drop(read.expect("an end"));
    assert!(
        octets.len() < REPEATS * 2_400_000,
        "{option}: {}",
        octets.len()
    );
    server.stop().await;
}

#[tokio::test]
async fn answers_under_way_are_bounded_and_those_that_nobody_reads_are_dropped() {
    tokio::join!(
        one_unread_answer_is_enough("--answers-per-address", "1", 429),
        one_unread_answer_is_enough("--answers", "1", 503),
        one_unread_answer_is_enough("--http-bytes-per-address", "1000000", 429),
        one_unread_answer_is_enough("--http-bytes", "1000000", 503),
    );
}

#[tokio::test]
async fn bodies_that_do_not_come_whole_are_bounded_in_time_and_size() {
    let options = [
        "--stall-timeout-ms",
        "1000",
        "--http-bytes-per-address",
        "10000",
    ];
    let server = TestServer::start(&options).await;
    let address = server.address;
    let half = async |path: &str| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\n\
             content-length: 16000\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&[b' '; 12_000]).await.unwrap();
        stream
    };
    let answered = async |mut stream: TcpStream| {
        let mut answer = String::new();
        let read = tokio::time::timeout(SOON, stream.read_to_string(&mut answer)).await;
        // To its end, as the connection closes.
        drop(read.expect("an end in time"));
        answer
    };
    for session in ["a", "b"] {
        let path = format!("/ws/chat/0/{session}/xhr");
        let opened = request(address, "POST", &path, &[], "").await;
        assert_eq!(opened.status, 200);
    }
    // A session reads one body at a time.
    let sends = ["/ws/chat/0/a/xhr_send", "/ws/chat/0/b/xhr_send"];
    for (path, other) in [("/chat/room", "/chat/room"), (sends[0], sends[1])] {
        let first = half(path).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        let second = half(other).await;
        let refused = answered(second).await;
        assert!(refused.starts_with("HTTP/1.1 429 "), "{path}: {refused}");
        assert!(refused.contains("retry-after: "), "{refused}");
        // A body that comes whole is nobody's burden.
        server.make_room("r").await;
        let late = answered(first).await;
        assert!(late.starts_with("HTTP/1.1 408 "), "{path}: {late}");
        assert!(late.contains("connection: close"), "{late}");
    }
}

#[tokio::test]
async fn requests_that_come_before_their_answers_are_read_hold_little() {
    let server = TestServer::start(&["--stall-timeout-ms", "1000"]).await;
    let address = server.address;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4 << 10).unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    let request = format!("GET /chat/room HTTP/1.1\r\nhost: {address}\r\n\r\n").repeat(1_000);
    // The server does not read on while nobody takes what it has to say, and then it ends.
    let sent = tokio::time::timeout(SOON, async {
        let mut sent = 0;
        while stream.write_all(request.as_bytes()).await.is_ok() {
            sent += request.len();
        }
        sent
    });
    let sent = sent.await.expect("the end of the connection");
    assert!(sent < 64 << 20, "{sent} octets were taken in");
}

#[cfg(target_os = "linux")]
mod files {
    use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
    use tokio::process::{Child, Command};

    use super::*;
    use crate::process::{PROGRAM, start_as};

    fn open_files(child: &Child) -> u64 {
        let path = format!("/proc/{}/fd", child.id().unwrap());
        std::fs::read_dir(path).unwrap().count() as u64
    }

    /// The soft and the hard limit of open files.
    fn limit_of_files(child: &Child) -> (String, String) {
        let path = format!("/proc/{}/limits", child.id().unwrap());
        let limits = std::fs::read_to_string(path).unwrap();
        let line = limits
            .lines()
            .find(|line| line.starts_with("Max open files"));
        let mut fields = line.unwrap().split_whitespace().skip(3).map(str::to_owned);
        (fields.next().unwrap(), fields.next().unwrap())
    }

    /// Processor time that a process has used, in ticks of 10 ms.
    fn ticks(child: &Child) -> u64 {
        let path = format!("/proc/{}/stat", child.id().unwrap());
        let stat = std::fs::read_to_string(path).unwrap();
        let (_, fields) = stat.rsplit_once(')').unwrap();
        let of = |index| -> u64 {
            let field = fields.split_whitespace().nth(index);
            field.unwrap().parse().unwrap()
        };
        of(11) + of(12)
    }

    #[tokio::test]
    async fn the_limit_of_files_is_raised_to_what_it_may_be() {
        let data = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        let script = "ulimit -Sn 100 && ulimit -Hn 400 && exec \"$@\"";
        command.args(["-c", script, "sh", PROGRAM]);
        let (child, _, logged) = start_as(command, data.path()).await;
        assert_eq!(limit_of_files(&child), ("400".into(), "400".into()));
        // So many connections leave the log its files, and the operator is told.
        let logged = logged.lock().unwrap();
        let told = logged
            .iter()
            .any(|line| line.contains("there can be 272 connections"));
        assert!(told, "{logged:?}");
    }

    #[tokio::test]
    async fn where_connections_run_out_the_operator_is_told() {
        let data = tempfile::tempdir().unwrap();
        let mut command = Command::new(PROGRAM);
        command.args(["--connections", "2"]);
        let (_child, address, logged) = start_as(command, data.path()).await;
        let _open = [
            handshake(address).await.unwrap(),
            handshake(address).await.unwrap(),
        ];
        for _ in 0..5 {
            assert!(is_refusal(&healthz(address).await, 503));
        }
        let logged = logged.lock().unwrap();
        let words = "as many connections as there can be";
        let told = logged.iter().filter(|line| line.contains(words)).count();
        assert_eq!(told, 1, "{logged:?}");
    }

    #[tokio::test]
    async fn without_files_it_answers_503_and_goes_on_when_there_are_some() {
        let data = tempfile::tempdir().unwrap();
        let (child, address, logged) = start_as(Command::new(PROGRAM), data.path()).await;
        assert_eq!(healthz(address).await.status, 200);
        let id = Pid::from_raw(child.id().unwrap().cast_signed());
        let files = open_files(&child);
        let limit = Rlimit {
            current: Some(files + 8),
            maximum: getrlimit(Resource::Nofile).maximum,
        };
        prlimit(id, Resource::Nofile, limit).unwrap();
        let mut open = Vec::new();
        let next = || tokio::time::timeout(SOON, handshake(address));
        while let Some(stream) = next().await.expect("an answer") {
            open.push(stream);
            // Those that are not refused wait for others to end.
            assert!(open.len() <= 12, "{}", open.len());
        }
        for _ in 0..5 {
            let answer = healthz(address).await;
            assert!(is_refusal(&answer, 503), "{answer:?}");
            assert_eq!(answer.header("connection"), Some("close"));
        }
        // Silent ones wait to be accepted, and accepting does not spin.
        let before = ticks(&child);
        let mut silent = Vec::new();
        for _ in 0..8 {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(ticks(&child) - before < 60, "{}", ticks(&child) - before);
        {
            let logged = logged.lock().unwrap();
            let words = "out of file descriptors";
            let told = logged.iter().filter(|line| line.contains(words)).count();
            assert!((1..=2).contains(&told), "{logged:?}");
        }
        drop((open, silent));
        let begun = Instant::now();
        while open_files(&child) > files {
            assert!(begun.elapsed() < SOON, "{}", open_files(&child));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        until(200, || healthz(address)).await;
        for _ in 0..3 {
            assert_eq!(healthz(address).await.status, 200);
        }
    }
}
