//! The program as a process: killed at random moments, and refusing what it must not touch.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::process::Command;

use crate::process::{PROGRAM, start, terminate};
use crate::support::{Client, SOON, make_room, request, send_frame};

/// Sends until the server dies; notes each text that got its RECEIPT.
async fn send_until_killed(
    address: SocketAddr,
    room: shared::chat::ChatRoom,
    name: String,
    acknowledged: Arc<Mutex<Vec<(String, String)>>>,
    round: usize,
) {
    let Ok(mut client) = Client::try_connect(address).await else {
        return;
    };
    for index in 0.. {
        let text = format!("{round}-{index}");
        let frame = send_frame(&room, &name, &text, &text);
        if client.try_send(&frame).await.is_err() {
            return;
        }
        // Keep a few in flight.
        if index >= 4 {
            let Ok(frame) = client.next().await else {
                return;
            };
            let receipt = frame.headers.get("receipt-id").expect("a RECEIPT");
            let receipt = (name.clone(), receipt.to_owned());
            acknowledged.lock().unwrap().push(receipt);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_thirty_kills() {
    const ROUNDS: usize = 30;
    const CLIENTS: usize = 20;
    let data = tempfile::tempdir().unwrap();
    let acknowledged = Arc::new(Mutex::new(Vec::new()));
    let (mut child, mut address) = start(data.path()).await;
    let room = make_room(address, "r").await;
    let mut random = Random::new();
    for round in 0..ROUNDS {
        let mut clients = tokio::task::JoinSet::new();
        for index in 0..CLIENTS {
            let acknowledged = Arc::clone(&acknowledged);
            clients.spawn(send_until_killed(
                address,
                room.clone(),
                format!("c{index}"),
                acknowledged,
                round,
            ));
        }
        tokio::time::sleep(Duration::from_millis(30 + random.next() % 300)).await;
        child.kill().await.unwrap();
        clients.join_all().await;
        (child, address) = start(data.path()).await;
    }
    let stored = read_all(address, &room).await;
    child.kill().await.unwrap();
    let acknowledged = Arc::try_unwrap(acknowledged).unwrap().into_inner().unwrap();
    println!(
        "{} acknowledged, {} stored",
        acknowledged.len(),
        stored.len()
    );
    assert!(
        acknowledged.len() > ROUNDS * CLIENTS,
        "too little was sent to mean anything"
    );
    check_order(&stored, &acknowledged);
}

/// What is in a room: sender and text of each message.
async fn read_all(address: SocketAddr, room: &shared::chat::ChatRoom) -> Vec<(String, String)> {
    let mut stored: Vec<(String, String)> = Vec::new();
    loop {
        let path = format!(
            "/chat/room/{}/messages?limit=200&after={}",
            room.room_id,
            stored.len()
        );
        let answer = request(address, "GET", &path, &[], "").await;
        let page: Vec<shared::chat::ChatMessage> = serde_json::from_str(&answer.body).unwrap();
        if page.is_empty() {
            return stored;
        }
        for message in page {
            assert_eq!(message.seq, stored.len() as u64 + 1);
            stored.push((message.sender.to_string(), message.message));
        }
    }
}

/// A random number after another (xorshift), the same in every run.
struct Random(u64);

impl Random {
    fn new() -> Self {
        Random(0x9E37_79B9_7F4A_7C15)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// How many messages a transaction of this test has.
const PARTS: usize = 6;

/// Commits transactions over two rooms until the server dies; notes each that got its RECEIPT.
async fn commit_until_killed(
    address: SocketAddr,
    rooms: [shared::chat::ChatRoom; 2],
    name: String,
    committed: Arc<Mutex<Vec<String>>>,
    round: usize,
) {
    let Ok(mut client) = Client::try_connect(address).await else {
        return;
    };
    for index in 0.. {
        let transaction = format!("{name}-{round}-{index}");
        let mut frames = format!("BEGIN\ntransaction:{transaction}\n\n\0");
        for part in 0..PARTS {
            let room = &rooms[part % 2];
            let text = crate::support::talk(room, &name, &format!("{transaction}-{part}"));
            frames += &format!(
                "SEND\ndestination:/app/chat/sendMessage\ntransaction:{transaction}\n\n{text}\0"
            );
        }
        frames += &format!("COMMIT\ntransaction:{transaction}\nreceipt:{transaction}\n\n\0");
        if client.try_send(&frames).await.is_err() {
            return;
        }
        if index >= 2 {
            let Ok(frame) = client.next().await else {
                return;
            };
            let receipt = frame.headers.get("receipt-id").expect("a RECEIPT");
            committed.lock().unwrap().push(receipt.to_owned());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_survives_a_kill_whole_or_not_at_all() {
    const ROUNDS: usize = 15;
    const CLIENTS: usize = 8;
    let data = tempfile::tempdir().unwrap();
    let committed = Arc::new(Mutex::new(Vec::new()));
    let (mut child, mut address) = start(data.path()).await;
    let rooms = [make_room(address, "a").await, make_room(address, "b").await];
    let mut random = Random::new();
    for round in 0..ROUNDS {
        let mut clients = tokio::task::JoinSet::new();
        for index in 0..CLIENTS {
            clients.spawn(commit_until_killed(
                address,
                rooms.clone(),
                format!("c{index}"),
                Arc::clone(&committed),
                round,
            ));
        }
        tokio::time::sleep(Duration::from_millis(30 + random.next() % 200)).await;
        child.kill().await.unwrap();
        clients.join_all().await;
        (child, address) = start(data.path()).await;
    }
    let mut parts = std::collections::HashMap::new();
    for room in &rooms {
        for (_, text) in read_all(address, room).await {
            let (transaction, _) = text.rsplit_once('-').unwrap();
            *parts.entry(transaction.to_owned()).or_insert(0) += 1;
        }
    }
    child.kill().await.unwrap();
    let committed = Arc::try_unwrap(committed).unwrap().into_inner().unwrap();
    println!("{} committed, {} stored", committed.len(), parts.len());
    assert!(
        committed.len() > ROUNDS * CLIENTS,
        "too little was sent to mean anything"
    );
    for (transaction, count) in &parts {
        assert_eq!(*count, PARTS, "{transaction} is there in part");
    }
    for transaction in &committed {
        assert!(parts.contains_key(transaction), "{transaction} is lost");
    }
}

/// Every acknowledged message is there, once, and each sender's are in the order of sending.
fn check_order(stored: &[(String, String)], acknowledged: &[(String, String)]) {
    let mut seen = std::collections::HashSet::new();
    for message in stored {
        assert!(seen.insert(message), "stored twice: {message:?}");
    }
    for message in acknowledged {
        assert!(seen.contains(message), "acknowledged and lost: {message:?}");
    }
    let mut latest = std::collections::HashMap::new();
    for (sender, text) in stored {
        let (round, index) = text.split_once('-').unwrap();
        let place: (usize, usize) = (round.parse().unwrap(), index.parse().unwrap());
        if let Some(before) = latest.insert(sender, place) {
            assert!(before < place, "{sender}: {before:?} before {place:?}");
        }
    }
}

/// Runs the program on a directory that it must refuse, and gives what it says.
async fn refused(data_dir: &Path) -> String {
    let run = Command::new(PROGRAM)
        .args(["--listen", "127.0.0.1:0", "--data-dir"])
        .arg(data_dir)
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(SOON, run)
        .await
        .expect("an end in time")
        .unwrap();
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn a_directory_in_use_is_refused() {
    let data = tempfile::tempdir().unwrap();
    let (mut child, address) = start(data.path()).await;
    let said = refused(data.path()).await;
    assert!(
        said.contains("in use by another sarangbang process"),
        "{said}"
    );
    make_room(address, "still works").await;
    child.kill().await.unwrap();
}

#[tokio::test]
async fn what_is_newer_damaged_or_foreign_is_refused_and_left_alone() {
    type Spoil = fn(&Path);
    let cases: [(&str, Spoil); 5] = [
        ("newer", |path| sql(path, "PRAGMA user_version = 99")),
        ("not a sarangbang database", |path| {
            sql(path, "PRAGMA application_id = 7")
        }),
        ("damaged", |path| sql(path, "UPDATE room SET end = 9")),
        ("damaged", |path| {
            std::fs::write(path, "not a database at all, but a letter").unwrap()
        }),
        ("damaged", |path| {
            let mut bytes = std::fs::read(path).unwrap();
            bytes[100..4096].fill(0xA5);
            std::fs::write(path, bytes).unwrap();
        }),
    ];
    for (expected, spoil) in cases {
        let data = tempfile::tempdir().unwrap();
        let (mut child, address) = start(data.path()).await;
        let room = make_room(address, "r").await;
        let mut client = Client::connect(address).await;
        client.talk(&room, "a", "x", "r").await;
        client.receipt("r").await;
        terminate(&mut child).await;
        let path = data.path().join("sarangbang.db");
        spoil(&path);
        let before = std::fs::read(&path).unwrap();
        let said = refused(data.path()).await;
        assert!(said.contains(expected), "{expected}: {said}");
        assert_eq!(
            std::fs::read(&path).unwrap(),
            before,
            "{expected}: the file was changed"
        );
    }
}

fn sql(path: &Path, statement: &str) {
    let connection = rusqlite::Connection::open(path).unwrap();
    connection.execute_batch(statement).unwrap();
}
