//! A program whose log cannot be written: nobody who talks is to notice.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;

use rustix::process::Signal;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::process::{PROGRAM, ends_in_order, shell, signal, start};
use crate::support::{Client, SOON, make_room, request};

/// Starts the program to log all that it can, on a port that was free a moment ago: what it logs is not
/// there to tell.
async fn start_mute(mut command: Command, stderr: Stdio, data_dir: &Path) -> (Child, SocketAddr) {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let mut child = command
        .args(["--listen", &address.to_string(), "--message-rate", "0"])
        .arg("--data-dir")
        .arg(data_dir)
        .env("RUST_LOG", "trace")
        .stderr(stderr)
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let listens = async {
        while TcpStream::connect(address).await.is_err() {
            assert!(child.try_wait().unwrap().is_none(), "it has ended");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, listens).await.expect("in time");
    (child, address)
}

/// Talks, asks for other things, and ends the program in order; what got its RECEIPT is there.
async fn serves_and_ends(mut child: Child, address: SocketAddr, data_dir: &Path) -> Child {
    const MESSAGES: usize = 200;
    let room = make_room(address, "r").await;
    let mut client = Client::connect(address).await;
    // The library that reads WebSockets logs all of it.
    let text = "x".repeat(4_000);
    for number in 0..MESSAGES {
        let number = number.to_string();
        client.talk(&room, "a", &text, &number).await;
        client.receipt(&number).await;
    }
    for path in ["/healthz", "/readyz"] {
        let answer = request(address, "GET", path, &[], "").await;
        assert_eq!(answer.status, 200, "{path}");
    }
    signal(&child, Signal::TERM);
    assert_eq!(client.end().await.code, Some(1012));
    ends_in_order(&mut child).await;

    let (mut again, address) = start(data_dir).await;
    let path = format!("/chat/room/{}", room.room_id);
    let found = request(address, "GET", &path, &[], "").await;
    let count = format!("\"messageCount\":{MESSAGES}");
    assert!(found.body.contains(&count), "{}", found.body);
    again.kill().await.unwrap();
    child
}

#[tokio::test]
async fn a_log_on_a_full_disk_ends_nothing() {
    let data = tempfile::tempdir().unwrap();
    let full = std::fs::File::options().write(true).open("/dev/full");
    let command = Command::new(PROGRAM);
    let (child, address) = start_mute(command, full.unwrap().into(), data.path()).await;
    serves_and_ends(child, address, data.path()).await;
}

#[tokio::test]
async fn where_stderr_is_closed_no_file_is_taken_for_it() {
    let data = tempfile::tempdir().unwrap();
    let command = shell("exec {} 2>&-");
    let (child, address) = start_mute(command, Stdio::null(), data.path()).await;
    if let Some(id) = child.id()
        && let Ok(target) = std::fs::read_link(format!("/proc/{id}/fd/2"))
    {
        assert_eq!(target, Path::new("/dev/null"));
    }
    serves_and_ends(child, address, data.path()).await;
}

#[tokio::test]
async fn a_log_whose_reader_has_gone_ends_nothing() {
    let data = tempfile::tempdir().unwrap();
    let command = Command::new(PROGRAM);
    let (mut child, address) = start_mute(command, Stdio::piped(), data.path()).await;
    drop(child.stderr.take());
    serves_and_ends(child, address, data.path()).await;
}

#[tokio::test]
async fn a_log_that_nobody_reads_holds_nothing_up() {
    let data = tempfile::tempdir().unwrap();
    let command = Command::new(PROGRAM);
    let (child, address) = start_mute(command, Stdio::piped(), data.path()).await;
    let mut child = serves_and_ends(child, address, data.path()).await;
    let mut logged = Vec::new();
    let mut pipe = child.stderr.take().unwrap();
    pipe.read_to_end(&mut logged).await.unwrap();
    let logged_kib = logged.len() >> 10;
    println!("{logged_kib} KiB went into the pipe");
    // It was full: not even the last words are there.
    assert!(!String::from_utf8_lossy(&logged).contains("going down"));
}
