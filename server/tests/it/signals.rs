//! Whatever asks the program to end ends it in order, and no limit of the system ends it at once.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::process::Command;

use crate::process::{PROGRAM, ends_in_order, shell, signal, start, start_as, terminate};
use crate::support::{Client, make_room, request, send_frame};

/// Whether these tests were started to outlive their terminal, and so is what they start.
fn ignores_hang_up() -> bool {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else {
        return false;
    };
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = u64::from_str_radix(ignored.unwrap().trim(), 16).unwrap();
    ignored & (1 << (Signal::HUP.as_raw() - 1)) != 0
}

#[tokio::test]
async fn each_signal_that_asks_for_the_end_drains() {
    let data = tempfile::tempdir().unwrap();
    for asked in [
        Signal::TERM,
        Signal::INT,
        Signal::HUP,
        Signal::QUIT,
        Signal::XCPU,
    ] {
        if asked == Signal::HUP && ignores_hang_up() {
            continue;
        }
        let (mut child, address) = start(data.path()).await;
        let room = make_room(address, "r").await;
        let mut client = Client::connect(address).await;
        client.talk(&room, "a", "x", "r").await;
        client.receipt("r").await;
        signal(&child, asked);
        assert_eq!(client.end().await.code, Some(1012), "{asked:?}");
        ends_in_order(&mut child).await;
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn what_was_started_to_outlive_its_terminal_does() {
    let data = tempfile::tempdir().unwrap();
    let command = shell("trap '' HUP; exec {}");
    let (mut child, address, _) = start_as(command, data.path()).await;
    signal(&child, Signal::HUP);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let answer = request(address, "GET", "/readyz", &[], "").await;
    assert_eq!(answer.status, 200);
    terminate(&mut child).await;
}

#[tokio::test]
async fn past_a_limit_on_files_writes_fail_and_the_program_goes_on() {
    let data = tempfile::tempdir().unwrap();
    // In blocks of 512 or 1,024 bytes, by the shell.
    let command = shell("ulimit -f 1000; exec {}");
    let (mut child, address, _) = start_as(command, data.path()).await;
    let room = make_room(address, "r").await;
    let mut client = Client::connect(address).await;
    client.subscribe("e", "/user/queue/errors", "").await;
    let text = "x".repeat(4_000);
    let mut acknowledged = 0;
    let refusal = loop {
        client.talk(&room, "a", &text, "r").await;
        let frame = client.frame().await;
        if frame.command != shared::stomp::Command::Receipt {
            break String::from_utf8_lossy(&frame.body).into_owned();
        }
        acknowledged += 1;
        assert!(acknowledged < 1_000, "there is no limit");
    };
    assert!(refusal.contains("503"), "{refusal}");
    assert!(acknowledged > 5);
    let status = async |path| request(address, "GET", path, &[], "").await.status;
    assert_eq!(status("/readyz").await, 503);
    assert_eq!(status("/healthz").await, 200);
    let history = format!("/chat/room/{}/messages", room.room_id);
    assert_eq!(status(&history).await, 200);
    signal(&child, Signal::TERM);
    assert_eq!(client.end().await.code, Some(1012));
    ends_in_order(&mut child).await;

    let (mut child, address) = start(data.path()).await;
    let mut client = Client::connect(address).await;
    client.talk(&room, "a", "there is room", "r").await;
    client.receipt("r").await;
    let path = format!("/chat/room/{}", room.room_id);
    let found = request(address, "GET", &path, &[], "").await;
    let count = format!("\"messageCount\":{}", acknowledged + 1);
    assert!(found.body.contains(&count), "{}", found.body);
    terminate(&mut child).await;
}

#[tokio::test]
async fn a_store_that_another_program_holds_does_not_put_off_the_end() {
    let data = tempfile::tempdir().unwrap();
    let (mut child, address) = start(data.path()).await;
    let room = make_room(address, "r").await;
    let mut client = Client::connect(address).await;
    client.talk(&room, "a", "stored", "1").await;
    client.receipt("1").await;
    let other = rusqlite::Connection::open(data.path().join("sarangbang.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    // More than one transaction takes, and each waits for the other program.
    let mut waiting = Vec::new();
    for name in ["b", "c", "d", "e"] {
        let mut client = Client::connect(address).await;
        let talk = send_frame(&room, name, "waits", "r").replace("receipt:r\n", "");
        for _ in 0..40 {
            client.send(&talk.repeat(100)).await;
        }
        waiting.push(client);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let begun = Instant::now();
    terminate(&mut child).await;
    assert!(begun.elapsed() < Duration::from_secs(10));
    drop(other);
    let (mut child, address) = start(data.path()).await;
    let mut client = Client::connect(address).await;
    client.talk(&room, "a", "stored", "2").await;
    client.receipt("2").await;
    terminate(&mut child).await;
}

#[tokio::test]
async fn a_store_that_does_not_open_does_not_put_off_the_end() {
    let data = tempfile::tempdir().unwrap();
    // As where a file system does not answer: to open it waits for somebody who writes.
    let made = Command::new("mkfifo")
        .arg(data.path().join("sarangbang.db"))
        .status();
    assert!(made.await.unwrap().success());
    let mut child = Command::new(PROGRAM)
        .args(["--listen", "127.0.0.1:0", "--data-dir"])
        .arg(data.path())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(child.try_wait().unwrap().is_none(), "it has opened");
    terminate(&mut child).await;
}
