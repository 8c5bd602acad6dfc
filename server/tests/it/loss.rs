//! What is lost is noticed: files that go away while the program runs, a database that is behind what
//! was acknowledged, a disk that is full from the start, and two processes on one database.

use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use shared::chat::{ChatMessage, ChatRoom};
use shared::stomp::Command as Frame;
use tokio::process::{Child, Command};

use crate::process::{Logged, PROGRAM, start, start_as, terminate};
use crate::support::{Client, SOON, make_room, request, room_destination, talk};

const DATABASE: &str = "sarangbang.db";
const LOG: &str = "sarangbang.db-wal";
const INDEX: &str = "sarangbang.db-shm";
const MARK: &str = "sarangbang.mark";

/// The program on a directory, with a room and a client that hears of refusals.
struct Program {
    child: Child,
    address: SocketAddr,
    logged: Logged,
    room: ChatRoom,
    client: Client,
    said: usize,
}

impl Program {
    async fn start(data: &Path) -> Self {
        let (child, address, logged) = start_as(Command::new(PROGRAM), data).await;
        let room = make_room(address, "r").await;
        let mut client = Client::connect(address).await;
        client.subscribe("e", "/user/queue/errors", "").await;
        Program {
            child,
            address,
            logged,
            room,
            client,
            said: 0,
        }
    }

    /// Says something; whether it was acknowledged, and not refused.
    async fn say(&mut self) -> bool {
        self.said += 1;
        let receipt = self.said.to_string();
        self.client.talk(&self.room, "a", "x", &receipt).await;
        let frame = self.client.frame().await;
        if frame.command == Frame::Receipt {
            return true;
        }
        let refusal: serde_json::Value = serde_json::from_slice(&frame.body).unwrap();
        assert_eq!(refusal["status"], 503, "{refusal}");
        assert_eq!(refusal["receiptId"], receipt, "{refusal}");
        false
    }

    /// Says so many long things that the database itself grows.
    async fn say_much(&mut self) {
        let text = "x".repeat(4_000);
        for index in 0..120 {
            let messages = vec![talk(&self.room, "a", &text); 14].join(",");
            let destination = format!("/app{}", room_destination(&self.room));
            self.client
                .send(&format!(
                    "SEND\ndestination:{destination}\nreceipt:much-{index}\n\n[{messages}]\0"
                ))
                .await;
            self.client.receipt(&format!("much-{index}")).await;
        }
    }

    /// Waits for this status of `/readyz`.
    async fn ready_is(&self, status: u16) {
        let begin = std::time::Instant::now();
        loop {
            let answer = request(self.address, "GET", "/readyz", &[], "").await;
            if answer.status == status {
                return;
            }
            assert!(begin.elapsed() < SOON, "{} stays", answer.status);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The errors that were logged so far.
    fn errors(&self) -> Vec<String> {
        lines(&self.logged, "ERROR")
    }

    /// Waits until an error was logged, which a thread of its own writes.
    async fn is_told(&self) {
        let begin = std::time::Instant::now();
        while self.errors().is_empty() {
            assert!(begin.elapsed() < SOON, "nothing was logged");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn history(&self) -> Vec<ChatMessage> {
        history(self.address, &self.room).await
    }
}

fn lines(logged: &Logged, words: &str) -> Vec<String> {
    let logged = logged.lock().unwrap();
    let lines = logged.iter().filter(|line| line.contains(words));
    lines.cloned().collect()
}

async fn history(address: SocketAddr, room: &ChatRoom) -> Vec<ChatMessage> {
    let path = format!("/chat/room/{}/messages?limit=200", room.room_id);
    let answer = request(address, "GET", &path, &[], "").await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    serde_json::from_str(&answer.body).unwrap()
}

/// Starts the program where it must refuse to; what it says.
async fn refused(data: &Path) -> String {
    let run = Command::new(PROGRAM)
        .args(["--listen", "127.0.0.1:0", "--data-dir"])
        .arg(data)
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(SOON, run).await.expect("an end");
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr).unwrap()
}

/// The epoch of which CONNECTED tells.
async fn epoch(address: SocketAddr) -> String {
    let mut client = Client::open(address).await;
    client.send("CONNECT\naccept-version:1.2\n\n\0").await;
    let connected = client.frame().await;
    let epoch = connected.headers.get("x-stream-epoch");
    epoch.expect("an epoch").to_owned()
}

fn mv(from: PathBuf, to: PathBuf) {
    std::fs::rename(from, to).unwrap();
}

fn rm(path: PathBuf) {
    std::fs::remove_file(path).unwrap();
}

fn copy_all(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[tokio::test]
async fn files_that_go_away_end_receipts_and_readiness_until_they_are_back() {
    /// Acts on the data directory, which is a link to another.
    type Act = fn(&Path);
    fn real(data: &Path) -> PathBuf {
        data.with_file_name("real")
    }
    fn aside(data: &Path) -> PathBuf {
        data.with_file_name("aside")
    }
    let cases: [(&str, Act, Option<Act>); 8] = [
        (DATABASE, |data| rm(data.join(DATABASE)), None),
        (LOG, |data| rm(data.join(LOG)), None),
        (INDEX, |data| rm(data.join(INDEX)), None),
        (
            DATABASE,
            |data| {
                std::fs::copy(data.join(DATABASE), aside(data)).unwrap();
                mv(aside(data), data.join(DATABASE));
            },
            None,
        ),
        (
            DATABASE,
            |data| mv(data.join(DATABASE), aside(data)),
            Some(|data| mv(aside(data), data.join(DATABASE))),
        ),
        (
            LOG,
            |data| mv(data.join(LOG), aside(data)),
            Some(|data| mv(aside(data), data.join(LOG))),
        ),
        (
            DATABASE,
            |data| mv(real(data), aside(data)),
            Some(|data| mv(aside(data), real(data))),
        ),
        (
            // As where another file system is mounted over it.
            DATABASE,
            |data| {
                copy_all(&real(data), &aside(data));
                rm(data.to_owned());
                symlink(aside(data), data).unwrap();
            },
            Some(|data| {
                rm(data.to_owned());
                symlink(real(data), data).unwrap();
            }),
        ),
    ];
    for (index, (name, spoil, mend)) in cases.into_iter().enumerate() {
        println!("{index}: {name}");
        let around = tempfile::tempdir().unwrap();
        let data = around.path().join("data");
        std::fs::create_dir(real(&data)).unwrap();
        symlink(real(&data), &data).unwrap();
        let mut program = Program::start(&data).await;
        assert!(program.say().await);
        spoil(&data);
        if index % 2 == 0 {
            assert!(!program.say().await);
        }
        // Where nothing is said it is noticed too.
        program.ready_is(503).await;
        assert!(!program.say().await);
        let made = request(
            program.address,
            "POST",
            "/chat/room",
            &[("content-type", "application/json")],
            r#"{"roomName":"r"}"#,
        );
        assert_eq!(made.await.status, 503);
        // What is there is read all the same.
        assert_eq!(program.history().await.len(), 1);
        program.is_told().await;
        let errors = program.errors();
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(errors[0].contains(&format!("{name} is not the file any more")));
        if let Some(mend) = mend {
            mend(&data);
            program.ready_is(200).await;
            assert!(program.say().await);
        }
        terminate(&mut program.child).await;
        if mend.is_some() || name != DATABASE {
            let (mut child, address) = start(&data).await;
            let stored = history(address, &program.room).await.len();
            assert_eq!(stored, 1 + usize::from(mend.is_some()));
            terminate(&mut child).await;
        }
    }
}

#[tokio::test]
async fn what_another_program_has_put_into_the_open_database_ends_receipts() {
    type Act = fn(&Path, &Path);
    let cases: [(&str, Act); 3] = [
        ("emptied", |database, _| {
            std::fs::write(database, "").unwrap();
        }),
        ("an older copy", |database, older| {
            std::fs::copy(older, database).unwrap();
        }),
        ("something else", |database, _| {
            let length = std::fs::metadata(database).unwrap().len() as usize;
            std::fs::write(database, "?".repeat(length)).unwrap();
        }),
    ];
    for (name, spoil) in cases {
        println!("{name}");
        let around = tempfile::tempdir().unwrap();
        let (data, older) = (around.path().join("data"), around.path().join("older.db"));
        let (mut child, _) = start(&data).await;
        terminate(&mut child).await;
        std::fs::copy(data.join(DATABASE), &older).unwrap();
        let mut program = Program::start(&data).await;
        program.say_much().await;
        assert!(program.say().await);
        // Another program that writes as it should is no fault.
        let connection = rusqlite::Connection::open(data.join(DATABASE)).unwrap();
        connection
            .execute_batch("PRAGMA wal_checkpoint; PRAGMA user_version = 4")
            .unwrap();
        drop(connection);
        assert!(program.say().await);
        program.ready_is(200).await;

        spoil(&data.join(DATABASE), &older);
        assert!(!program.say().await);
        program.ready_is(503).await;
        assert!(!program.say().await);
        program.is_told().await;
        let errors = program.errors();
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(errors[0].contains("another program has written to"));
        // And so it stays, also where it goes down in order.
        let spoilt = std::fs::read(data.join(DATABASE)).unwrap();
        terminate(&mut program.child).await;
        assert!(std::fs::read(data.join(DATABASE)).unwrap() == spoilt);
    }
}

/// A directory after a kill: its write-ahead log holds three messages of five.
async fn after_a_kill(around: &Path) -> (PathBuf, PathBuf, ChatRoom, String) {
    let (data, older) = (around.join("data"), around.join("older.db"));
    let mut program = Program::start(&data).await;
    for _ in 0..2 {
        assert!(program.say().await);
    }
    terminate(&mut program.child).await;
    std::fs::copy(data.join(DATABASE), &older).unwrap();
    let (mut child, address) = start(&data).await;
    let mut client = Client::connect(address).await;
    for index in 0..3 {
        client
            .talk(&program.room, "a", "y", &index.to_string())
            .await;
        client.receipt(&index.to_string()).await;
    }
    let epoch = epoch(address).await;
    child.kill().await.unwrap();
    assert!(std::fs::metadata(data.join(LOG)).unwrap().len() > 0);
    (data, older, program.room, epoch)
}

#[tokio::test]
async fn a_start_after_a_kill_says_what_the_write_ahead_log_brought_back() {
    let around = tempfile::tempdir().unwrap();
    let (data, _, room, before) = after_a_kill(around.path()).await;
    for is_first in [true, false] {
        let (mut child, address, logged) = start_as(Command::new(PROGRAM), &data).await;
        assert_eq!(history(address, &room).await.len(), 5);
        assert_eq!(epoch(address).await, before);
        terminate(&mut child).await;
        // Nothing is only in it after a stop in order; and it need not be made again, for which a full
        // disk would have no room.
        assert_eq!(std::fs::metadata(data.join(LOG)).unwrap().len(), 0);
        assert!(data.join(INDEX).exists());
        let said = lines(&logged, "brought back");
        assert_eq!(said.len(), usize::from(is_first), "{said:?}");
        assert!(
            said.iter()
                .all(|said| said.contains("3 messages and 0 rooms"))
        );
        assert_eq!(
            lines(&logged, "WARN").len(),
            lines(&logged, "web client").len()
        );
    }
}

#[tokio::test]
async fn a_database_that_is_behind_what_was_acknowledged_is_taken_only_when_told_to() {
    type Act = fn(&Path, &Path);
    // How it is made so, what is said of it, and how many messages are there when it is taken.
    let cases: [(Act, &str, usize); 8] = [
        (
            |data, _| rm(data.join(LOG)),
            "it ends with message 2 and",
            2,
        ),
        (
            |data, older| {
                rm(data.join(LOG));
                rm(data.join(DATABASE));
                // Without write-ahead logging, as such a copy is made.
                let copy = "VACUUM INTO ?1";
                let connection = rusqlite::Connection::open(older).unwrap();
                let path = data.join(DATABASE);
                connection.execute(copy, [path.to_str()]).unwrap();
            },
            "it ends with message 2 and room 1",
            2,
        ),
        (
            |data, older| {
                rm(data.join(LOG));
                std::fs::copy(older, data.join(DATABASE)).unwrap();
            },
            "up to message 5 and room 1",
            2,
        ),
        (|data, _| rm(data.join(DATABASE)), "is not there", 0),
        (
            |data, _| {
                rm(data.join(DATABASE));
                rm(data.join(LOG));
                rm(data.join(INDEX));
            },
            "is not there",
            0,
        ),
        (
            |data, _| std::fs::write(data.join(DATABASE), "").unwrap(),
            "is not there or empty",
            0,
        ),
        (
            |data, _| {
                // As it was before there was a room.
                rm(data.join(LOG));
                let connection = rusqlite::Connection::open(data.join(DATABASE)).unwrap();
                let undo = "DELETE FROM message; DELETE FROM room";
                connection.execute_batch(undo).unwrap();
            },
            "it ends with message 0 and room 0",
            0,
        ),
        (
            |data, _| std::fs::write(data.join(MARK), "?").unwrap(),
            "sarangbang.mark cannot be read",
            5,
        ),
    ];
    for (spoil, words, count) in cases {
        println!("{words}");
        let around = tempfile::tempdir().unwrap();
        let (data, older, room, before) = after_a_kill(around.path()).await;
        spoil(&data, &older);
        let contents = |name: &str| std::fs::read(data.join(name)).ok();
        let untouched = [DATABASE, MARK].map(contents);
        for _ in 0..2 {
            let said = refused(&data).await;
            for words in [words, "is not what was acknowledged", "--accept-loss"] {
                assert!(said.contains(words), "{said}");
            }
            assert!([DATABASE, MARK].map(contents) == untouched);
        }

        let mut accepting = Command::new(PROGRAM);
        accepting.arg("--accept-loss");
        let (mut child, address, logged) = start_as(accepting, &data).await;
        let after = epoch(address).await;
        assert_ne!(after, before);
        assert_eq!(lines(&logged, "under a new epoch").len(), 1);
        if count > 0 {
            assert_eq!(history(address, &room).await.len(), count);
            // Who counts by what is lost is told.
            for (epoch, is_taken) in [(&after, true), (&before, false)] {
                let mut client = Client::connect(address).await;
                let destination = room_destination(&room);
                let subscribe = format!(
                    "SUBSCRIBE\nid:1\ndestination:{destination}\nx-stream-offset:offset=6\n\
                     x-stream-epoch:{epoch}\nreceipt:s\n\n\0"
                );
                client.send(&subscribe).await;
                let frame = client.frame().await;
                if is_taken {
                    assert_eq!(frame.command, Frame::Receipt);
                } else {
                    assert_eq!(frame.command, Frame::Error);
                    assert_eq!(frame.headers.get("message"), Some("another epoch"));
                    assert!(String::from_utf8_lossy(&frame.body).contains(&after));
                }
            }
        }
        let room = make_room(address, "new").await;
        let mut client = Client::connect(address).await;
        client.talk(&room, "a", "z", "r").await;
        client.receipt("r").await;
        child.kill().await.unwrap();

        // From then on nothing is missing, whatever is accepted.
        for options in [&[][..], &["--accept-loss"]] {
            let mut command = Command::new(PROGRAM);
            command.args(options);
            let (mut child, address) = {
                let (child, address, _) = start_as(command, &data).await;
                (child, address)
            };
            assert_eq!(epoch(address).await, after);
            assert_eq!(history(address, &room).await.len(), 1);
            terminate(&mut child).await;
        }
    }
}

/// The epoch is on disk before the mark of it is.
#[tokio::test]
async fn a_crash_while_a_loss_is_accepted_leaves_it_to_be_accepted_again() {
    let around = tempfile::tempdir().unwrap();
    let (data, _, room, before) = after_a_kill(around.path()).await;
    rm(data.join(LOG));
    let mark = std::fs::read(data.join(MARK)).unwrap();
    let mut epochs = vec![before];
    for _ in 0..2 {
        let mut accepting = Command::new(PROGRAM);
        accepting.arg("--accept-loss");
        let (mut child, address, _) = start_as(accepting, &data).await;
        assert_eq!(history(address, &room).await.len(), 2);
        let after = epoch(address).await;
        assert!(!epochs.contains(&after));
        epochs.push(after);
        child.kill().await.unwrap();
        // As if it had been killed between the two.
        std::fs::write(data.join(MARK), &mark).unwrap();
        let said = refused(&data).await;
        assert!(said.contains("--accept-loss"), "{said}");
    }
}

#[tokio::test]
async fn after_a_kill_of_the_first_run_a_start_says_what_came_back_too() {
    let around = tempfile::tempdir().unwrap();
    let data = around.path().join("data");
    let mut program = Program::start(&data).await;
    assert!(program.say().await);
    program.child.kill().await.unwrap();
    let (mut child, address, logged) = start_as(Command::new(PROGRAM), &data).await;
    assert_eq!(history(address, &program.room).await.len(), 1);
    terminate(&mut child).await;
    let said = lines(&logged, "brought back 1 messages and 1 rooms");
    assert_eq!(said.len(), 1, "{logged:?}");
}

#[tokio::test]
async fn an_older_copy_beside_the_write_ahead_log_of_another_is_refused() {
    let around = tempfile::tempdir().unwrap();
    let (data, older) = (around.path().join("data"), around.path().join("older.db"));
    let mut program = Program::start(&data).await;
    assert!(program.say().await);
    terminate(&mut program.child).await;
    std::fs::copy(data.join(DATABASE), &older).unwrap();
    let mut program = Program::start(&data).await;
    program.say_much().await;
    terminate(&mut program.child).await;
    let mut program = Program::start(&data).await;
    assert!(program.say().await);
    program.child.kill().await.unwrap();

    // With its own, all is well.
    let whole = around.path().join("whole");
    copy_all(&data, &whole);
    let (mut child, _, logged) = start_as(Command::new(PROGRAM), &whole).await;
    assert_eq!(lines(&logged, "brought back 1 messages").len(), 1);
    terminate(&mut child).await;

    std::fs::copy(older, data.join(DATABASE)).unwrap();
    let contents = |name: &str| std::fs::read(data.join(name)).unwrap();
    let untouched = [DATABASE, LOG, MARK].map(contents);
    let said = refused(&data).await;
    for words in [
        "it ends with message 1 and room 1, and held up to",
        "is not its own: delete",
    ] {
        assert!(said.contains(words), "{said}");
    }
    assert!([DATABASE, LOG, MARK].map(contents) == untouched);
    rm(data.join(LOG));
    rm(data.join(INDEX));
    let said = refused(&data).await;
    assert!(said.contains("it ends with message 1 and room 1"), "{said}");
    let mut accepting = Command::new(PROGRAM);
    accepting.arg("--accept-loss");
    let (mut child, _, _) = start_as(accepting, &data).await;
    terminate(&mut child).await;
}

#[tokio::test]
async fn nothing_is_acknowledged_that_cannot_be_marked() {
    let data = tempfile::tempdir().unwrap();
    let mut program = Program::start(data.path()).await;
    assert!(program.say().await);
    rm(data.path().join(MARK));
    std::fs::create_dir(data.path().join(MARK)).unwrap();
    program.ready_is(503).await;
    assert!(!program.say().await);
    program.is_told().await;
    let errors = program.errors();
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].contains("sarangbang.mark cannot be written"));
    std::fs::remove_dir(data.path().join(MARK)).unwrap();
    program.ready_is(200).await;
    assert!(program.say().await);
    terminate(&mut program.child).await;
    let (mut child, address) = start(data.path()).await;
    assert_eq!(history(address, &program.room).await.len(), 2);
    terminate(&mut child).await;
}

#[tokio::test]
async fn a_copy_without_its_mark_goes_on_under_a_new_epoch() {
    let around = tempfile::tempdir().unwrap();
    let (_, older, room, before) = after_a_kill(around.path()).await;
    let copy = around.path().join("copy");
    std::fs::create_dir(&copy).unwrap();
    std::fs::copy(older, copy.join(DATABASE)).unwrap();
    let (mut child, address, logged) = start_as(Command::new(PROGRAM), &copy).await;
    let after = epoch(address).await;
    assert_ne!(after, before);
    assert_eq!(lines(&logged, "there was no sarangbang.mark").len(), 1);
    assert_eq!(history(address, &room).await.len(), 2);
    // A mark that goes away while the program runs is made again.
    rm(copy.join(MARK));
    let begin = std::time::Instant::now();
    while !copy.join(MARK).exists() {
        assert!(begin.elapsed() < SOON);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    terminate(&mut child).await;
    let (mut child, address) = start(&copy).await;
    assert_eq!(epoch(address).await, after);
    terminate(&mut child).await;
}

#[tokio::test]
async fn a_second_process_is_refused_whatever_way_it_comes() {
    type Way = fn(&Path, &Path) -> PathBuf;
    let ways: [(&str, Way); 4] = [
        ("the lock file is deleted", |data, _| {
            rm(data.join("sarangbang.lock"));
            data.to_owned()
        }),
        ("by a link to the directory", |data, other| {
            symlink(data, other).unwrap();
            other.to_owned()
        }),
        ("by a link to the database", |data, other| {
            std::fs::create_dir(other).unwrap();
            symlink(data.join(DATABASE), other.join(DATABASE)).unwrap();
            other.to_owned()
        }),
        ("by another name of the database", |data, other| {
            std::fs::create_dir(other).unwrap();
            std::fs::hard_link(data.join(DATABASE), other.join(DATABASE)).unwrap();
            other.to_owned()
        }),
    ];
    for (name, way) in ways {
        println!("{name}");
        let around = tempfile::tempdir().unwrap();
        let (data, other) = (around.path().join("data"), around.path().join("other"));
        let mut program = Program::start(&data).await;
        let second = way(&data, &other);
        let said = refused(&second).await;
        assert!(
            said.contains("in use by another sarangbang process"),
            "{said}"
        );
        assert!(program.say().await);
        program.ready_is(200).await;
        terminate(&mut program.child).await;
    }

    // The other way round.
    let around = tempfile::tempdir().unwrap();
    let (data, other) = (around.path().join("data"), around.path().join("other"));
    let (mut child, _) = start(&data).await;
    terminate(&mut child).await;
    std::fs::create_dir(&other).unwrap();
    symlink(data.join(DATABASE), other.join(DATABASE)).unwrap();
    std::fs::copy(data.join(MARK), other.join(MARK)).unwrap();
    let mut program = Program::start(&other).await;
    let said = refused(&data).await;
    assert!(
        said.contains("in use by another sarangbang process"),
        "{said}"
    );
    assert!(program.say().await);
    terminate(&mut program.child).await;
}

#[tokio::test]
async fn databases_of_one_folder_are_each_for_one_process() {
    let around = tempfile::tempdir().unwrap();
    let store = around.path().join("store");
    std::fs::create_dir(&store).unwrap();
    let link = |name: &str, database: &str| {
        let data = around.path().join(name);
        std::fs::create_dir(&data).unwrap();
        symlink(store.join(database), data.join(DATABASE)).unwrap();
        data
    };
    let (one, other, again) = (link("one", "1"), link("other", "2"), link("again", "1"));
    for data in [&one, &other] {
        let (mut child, _) = start(data).await;
        terminate(&mut child).await;
    }
    let (mut first, _) = start(&one).await;
    let (mut second, _) = start(&other).await;
    for data in [&again, &store] {
        let said = refused(data).await;
        let words = "in use by another sarangbang process";
        assert!(said.contains(words), "{said}");
    }
    terminate(&mut first).await;
    terminate(&mut second).await;
}

/// A limit of the size of files stands for a full disk, as far as a process without rights can have one.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_start_on_a_full_disk_reads_and_is_not_ready_until_there_is_room() {
    use rustix::process::{Pid, Resource, Rlimit, prlimit};
    let around = tempfile::tempdir().unwrap();
    let data = around.path().join("data");
    let mut program = Program::start(&data).await;
    // The database is larger than what may be written, and so is its write-ahead log.
    program.say_much().await;
    for _ in 0..50 {
        assert!(program.say().await);
    }
    program.child.kill().await.unwrap();
    assert!(std::fs::metadata(data.join(LOG)).unwrap().len() > 262_144);

    let mut command = Command::new("sh");
    // 64 KiB, or 128, by the units of the shell.
    command.args([
        "-c",
        r#"trap '' XFSZ; ulimit -S -f 128; exec "$0" "$@""#,
        PROGRAM,
    ]);
    let (mut child, address, logged) = start_as(command, &data).await;
    program.address = address;
    program.ready_is(503).await;
    let errors = lines(&logged, "ERROR");
    assert!(errors[0].contains("cannot be written"), "{errors:?}");
    assert_eq!(program.history().await.len(), 200);
    program.client = Client::connect(address).await;
    program
        .client
        .subscribe("e", "/user/queue/errors", "")
        .await;
    assert!(!program.say().await);

    let id = Pid::from_raw(child.id().unwrap().cast_signed());
    let no_limit = Rlimit {
        current: None,
        maximum: None,
    };
    prlimit(id, Resource::Fsize, no_limit).unwrap();
    program.ready_is(200).await;
    assert!(program.say().await);
    terminate(&mut child).await;
}
