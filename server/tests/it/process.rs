//! The program as a process of its own.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::support::SOON;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_sarangbang");

/// Starts the program with no rate, and waits for its first ready line.
pub(crate) async fn start(data_dir: &Path) -> (Child, SocketAddr) {
    let (child, address, _) = start_as(Command::new(PROGRAM), data_dir).await;
    (child, address)
}

/// The lines that a program logs.
pub(crate) type Logged = Arc<Mutex<Vec<String>>>;

/// The same, by a command that takes the program's options, and with what it logs.
pub(crate) async fn start_as(mut command: Command, data_dir: &Path) -> (Child, SocketAddr, Logged) {
    let mut child = command
        .args([
            "--listen",
            "127.0.0.1:0",
            "--message-rate",
            "0",
            "--data-dir",
        ])
        .arg(data_dir)
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let logged = Logged::default();
    let address = tokio::time::timeout(SOON, async {
        loop {
            let line = lines.next_line().await.unwrap().expect("a ready line");
            logged.lock().unwrap().push(line.clone());
            if let Some((_, address)) = line.split_once("http://") {
                return address.trim().parse().unwrap();
            }
        }
    })
    .await
    .expect("ready in time");
    let later = Arc::clone(&logged);
    tokio::spawn(async move {
        while let Ok(Some(line)) = lines.next_line().await {
            later.lock().unwrap().push(line);
        }
    });
    (child, address, logged)
}

/// A shell that runs this, where `{}` is the program with its options.
pub(crate) fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &script.replace("{}", r#""$0" "$@""#), PROGRAM]);
    command
}

pub(crate) fn signal(child: &Child, signal: Signal) {
    let id = Pid::from_raw(child.id().unwrap().cast_signed()).unwrap();
    kill_process(id, signal).unwrap();
}

/// Ends the program as an operator does, with SIGTERM: the database is whole and closed.
pub(crate) async fn terminate(child: &mut Child) {
    signal(child, Signal::TERM);
    ends_in_order(child).await;
}

/// Waits for an end in order.
pub(crate) async fn ends_in_order(child: &mut Child) {
    let status = tokio::time::timeout(Duration::from_secs(10), child.wait()).await;
    assert!(status.expect("an exit within 10 s").unwrap().success());
}

/// The resident memory of a process in KiB; `None` where the system does not tell.
pub(crate) fn resident_kib(child: &Child) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id()?)).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}
