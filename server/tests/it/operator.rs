//! What an operator sets, and what the program says of it.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStderr, Command};

use crate::process::PROGRAM;
use crate::support::{SOON, TestServer, request};

/// The program with these options and variables, and no others of its own.
fn program(options: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(PROGRAM);
    for (name, _) in std::env::vars() {
        if name.starts_with("SARANGBANG_") {
            command.env_remove(name);
        }
    }
    command
        .args(options)
        .envs(variables.iter().copied())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// What it says, line by line.
struct Log(Lines<BufReader<ChildStderr>>);

impl Log {
    fn of(child: &mut Child) -> Self {
        Log(BufReader::new(child.stderr.take().unwrap()).lines())
    }

    async fn line(&mut self) -> String {
        let line = tokio::time::timeout(SOON, self.0.next_line());
        line.await.expect("in time").unwrap().expect("a line")
    }

    /// The address of a ready line.
    async fn ready(&mut self) -> SocketAddr {
        loop {
            let line = self.line().await;
            if let Some((_, address)) = line.split_once("listening on http://") {
                return address.trim().parse().unwrap();
            }
        }
    }
}

#[tokio::test]
async fn variables_are_read_as_people_write_them() {
    let data = tempfile::tempdir().unwrap();
    let variables = [
        ("SARANGBANG_LISTEN", " localhost:0 , "),
        (
            "SARANGBANG_ALLOWED_ORIGINS",
            "https://a.example, https://b.example/",
        ),
        ("SARANGBANG_TRUSTED_PROXIES", ""),
        ("SARANGBANG_MESSAGE_RATE", ""),
        ("SARANGBANG_BASE_PATH", ""),
        ("SARANGBANG_LOG_FORMAT", " "),
        ("SARANGBANG_PLAIN_DESTINATIONS", "no"),
        ("SARANGBANG_SOCKJS_SESSION_COOKIE", "1"),
    ];
    let options = ["--data-dir", data.path().to_str().unwrap()];
    let mut child = program(&options, &variables).spawn().unwrap();
    let mut log = Log::of(&mut child);
    let address = log.ready().await;
    for (origin, status) in [
        ("https://a.example", 200),
        ("https://b.example", 200),
        ("https://c.example", 403),
    ] {
        let origin = [("origin", origin)];
        let answer = request(address, "GET", "/ws/chat/info", &origin, "").await;
        assert_eq!(answer.status, status, "{origin:?}");
        if status == 200 {
            assert!(answer.body.contains(r#""cookie_needed":true"#));
        }
    }
}

#[tokio::test]
async fn what_can_have_no_effect_is_refused_at_the_start() {
    for (options, words) in [
        (["--allowed-origins", "shop.example"], "no scheme"),
        (
            ["--allowed-origins", "https://a, https://b/chat"],
            "https://b/chat",
        ),
        (["--trusted-proxies", "proxy"], "10.0.0.0/8"),
        (["--listen", "8080"], "127.0.0.1:8080"),
        (["--listen", " , "], "no address"),
        (
            ["--listen", "no-such-host.invalid:0"],
            "no-such-host.invalid",
        ),
    ] {
        let data = tempfile::tempdir().unwrap();
        let variable = [("SARANGBANG_DATA_DIR", data.path().to_str().unwrap())];
        let output = program(&options, &variable).output().await.unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && said.contains(words), "{said}");
    }
}

#[tokio::test]
async fn several_addresses_are_listened_on() {
    let data = tempfile::tempdir().unwrap();
    let options = [
        "--data-dir",
        data.path().to_str().unwrap(),
        "--listen",
        "127.0.0.1:0",
        "--listen",
        "127.0.0.2:0",
    ];
    let mut child = program(&options, &[]).spawn().unwrap();
    let mut log = Log::of(&mut child);
    let mut addresses = Vec::new();
    for host in ["127.0.0.1", "127.0.0.2"] {
        let address = log.ready().await;
        assert_eq!(address.ip().to_string(), host);
        addresses.push(address);
    }
    for address in addresses {
        assert_eq!(
            request(address, "GET", "/readyz", &[], "").await.status,
            200
        );
    }
}

#[tokio::test]
async fn a_refused_origin_is_told_once_with_what_to_do() {
    let data = tempfile::tempdir().unwrap();
    let options = [
        "--data-dir",
        data.path().to_str().unwrap(),
        "--listen",
        "127.0.0.1:0",
    ];
    let mut child = program(&options, &[]).spawn().unwrap();
    let mut log = Log::of(&mut child);
    let address = log.ready().await;
    let evil = ("origin", "https://evil.example");
    let behind = ("origin", "https://chat.example");
    let forwarded = ("x-forwarded-host", "chat.example");
    for path in [
        "/ws/chat/info",
        "/ws/chat/info",
        "/chat/rooms",
        "/ws/chat/websocket",
    ] {
        let answer = request(address, "GET", path, &[evil], "").await;
        assert_eq!(answer.header("access-control-allow-origin"), None);
    }
    request(address, "GET", "/ws/chat/info", &[behind, forwarded], "").await;
    let mut told = Vec::new();
    while told.len() < 2 {
        let line = log.line().await;
        if line.contains("WARN") && line.contains("may not connect") {
            told.push(line);
        }
    }
    for (line, words) in told.iter().zip([
        ["https://evil.example", "--allowed-origins", "`Host`"],
        [
            "https://chat.example",
            "127.0.0.1, which sends X-Forwarded-",
            "--trusted-proxies",
        ],
    ]) {
        assert!(words.iter().all(|words| line.contains(words)), "{line}");
        assert!(line.contains(&format!("`{address}`")), "{line}");
    }
}

#[tokio::test]
async fn a_log_that_nobody_takes_breaks_nothing() {
    let data = tempfile::tempdir().unwrap();
    let options = [
        "--data-dir",
        data.path().to_str().unwrap(),
        "--listen",
        "127.0.0.1:0",
    ];
    let mut child = program(&options, &[]).spawn().unwrap();
    let mut log = Log::of(&mut child);
    let address = log.ready().await;
    drop(log);
    let evil = [("origin", "https://evil.example")];
    let refused = request(address, "GET", "/ws/chat/info", &evil, "").await;
    assert_eq!(refused.status, 403);
}

#[tokio::test]
async fn an_idle_connection_is_kept_as_long_as_is_said() {
    let server = TestServer::start(&["--keep-alive-ms", "1500"]).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let mut octets = [0; 4_096];
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_millis(700)).await;
        stream
            .write_all(b"GET /healthz HTTP/1.1\r\nhost: h\r\n\r\n")
            .await
            .unwrap();
        let length = stream.read(&mut octets).await.unwrap();
        assert!(octets[..length].starts_with(b"HTTP/1.1 200"));
    }
    let begun = Instant::now();
    let read = tokio::time::timeout(SOON, stream.read(&mut octets)).await;
    assert!(matches!(read, Ok(Ok(0))), "{read:?}");
    assert!(begun.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn what_is_not_idle_outlives_it() {
    let server = TestServer::start(&["--keep-alive-ms", "300"]).await;
    // A WebSocket with nothing to say, and a long poll with nothing to hear.
    let mut client = server.connect().await;
    let path = "/ws/chat/0/long-poll/xhr";
    let opened = request(server.address, "POST", path, &[], "").await;
    assert_eq!(opened.body, "o\n");
    let poll = request(server.address, "POST", path, &[], "");
    let answered = tokio::time::timeout(Duration::from_millis(1_500), poll).await;
    assert!(answered.is_err(), "{answered:?}");
    client.subscribe("1", "/topic/x", "").await;
}
