//! Copies of a database that is in use, their way back, and what a check finds.

use std::path::Path;

use tokio::process::Command;

use crate::process::{PROGRAM, start, terminate};
use crate::support::{Client, SOON, make_room, request};

const DATABASE: &str = "sarangbang.db";

/// Runs a task of the program; whether it went well, and what it said.
async fn perform(data: &Path, task: &[&str]) -> (bool, String) {
    let run = Command::new(PROGRAM)
        .arg("--data-dir")
        .arg(data)
        .args(task)
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(SOON, run).await.expect("an end");
    let output = output.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.stdout.is_empty() && !said.contains("panicked"),
        "{said}"
    );
    (output.status.success(), said)
}

async fn well(data: &Path, task: &[&str]) -> String {
    let (is_well, said) = perform(data, task).await;
    assert!(is_well, "{task:?}: {said}");
    said
}

async fn refused(data: &Path, task: &[&str], words: &str) {
    let (is_well, said) = perform(data, task).await;
    assert!(!is_well && said.contains(words), "{task:?}: {said}");
}

#[tokio::test]
async fn a_backup_of_what_is_in_use_is_whole_and_comes_back_under_a_new_epoch() {
    let around = tempfile::tempdir().unwrap();
    let data = around.path().join("data");
    let file = around.path().join("a backup.db");
    let file = file.to_str().unwrap();
    let (mut child, address) = start(&data).await;
    let room = make_room(address, "r").await;
    let count = async |address| {
        let path = format!("/chat/room/{}", room.room_id);
        let found = request(address, "GET", &path, &[], "").await;
        let found: serde_json::Value = serde_json::from_str(&found.body).unwrap();
        found["messageCount"].as_u64().unwrap()
    };
    let mut client = Client::connect(address).await;
    let mut said = 0_u32;
    let mut say = async |client: &mut Client| {
        said += 1;
        let receipt = said.to_string();
        client.talk(&room, "a", &"x".repeat(2_000), &receipt).await;
        client.receipt(&receipt).await;
    };
    for _ in 0..100 {
        say(&mut client).await;
    }
    // While somebody talks.
    let before = count(address).await;
    let talks = async {
        for _ in 0..100 {
            say(&mut client).await;
        }
    };
    let task = ["backup", file];
    let (told, ()) = tokio::join!(well(&data, &task), talks);
    assert!(told.contains("holds messages up to"), "{told}");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    assert_eq!(std::fs::read_dir(around.path()).unwrap().count(), 2);
    well(&data, &["check"]).await;
    well(&data, &["check", file]).await;
    refused(&data, &["backup", file], "it is there already").await;
    refused(&data, &["restore", file], "in use by another").await;
    assert_eq!(count(address).await, 200);
    terminate(&mut child).await;

    let told = well(&data, &["restore", file]).await;
    assert!(told.contains("under a new epoch"), "{told}");
    well(&data, &["check"]).await;
    let (mut child, address) = start(&data).await;
    let restored = count(address).await;
    assert!((before..=200).contains(&restored), "{restored}");
    let mut client = Client::connect(address).await;
    client.talk(&room, "a", "again", "r").await;
    client.receipt("r").await;
    assert_eq!(count(address).await, restored + 1);
    terminate(&mut child).await;

    // What was there is kept.
    let kept = std::fs::read_dir(&data).unwrap().find_map(|entry| {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let is_database = !name.ends_with("-wal") && !name.ends_with("-shm");
        (is_database && name.starts_with("sarangbang.db.replaced-")).then_some(path)
    });
    let kept = kept.expect("the replaced database");
    let connection = rusqlite::Connection::open(kept).unwrap();
    let query = "SELECT message_count FROM room";
    let talks: i64 = connection.query_row(query, [], |row| row.get(0)).unwrap();
    assert_eq!(talks, 200);
}

#[tokio::test]
async fn a_restore_into_an_empty_folder_and_of_an_older_format_is_taken() {
    let around = tempfile::tempdir().unwrap();
    let (data, other) = (around.path().join("data"), around.path().join("other"));
    let file = around.path().join("b.db");
    let file = file.to_str().unwrap();
    let (mut child, address) = start(&data).await;
    let room = make_room(address, "r").await;
    terminate(&mut child).await;
    well(&data, &["backup", file]).await;
    let first = "DROP TABLE participant; DROP TABLE epoch; DROP TABLE clock_set_back; PRAGMA user_version = 1";
    let connection = rusqlite::Connection::open(file).unwrap();
    connection.execute_batch(first).unwrap();
    drop(connection);
    well(&data, &["check", file]).await;
    well(&other, &["restore", file]).await;
    well(&other, &["check"]).await;
    let (mut child, address) = start(&other).await;
    let path = format!("/chat/room/{}", room.room_id);
    let found = request(address, "GET", &path, &[], "").await;
    assert_eq!(found.status, 200);
    terminate(&mut child).await;
}

#[tokio::test]
async fn what_is_no_whole_database_is_not_restored_and_changes_nothing() {
    let around = tempfile::tempdir().unwrap();
    let data = around.path().join("data");
    let (mut child, address) = start(&data).await;
    let room = make_room(address, "r").await;
    let mut client = Client::connect(address).await;
    for receipt in ["1", "2", "3"] {
        client.talk(&room, "a", "x", receipt).await;
        client.receipt(receipt).await;
    }
    terminate(&mut child).await;
    let file = around.path().join("b.db");
    let file = file.to_str().unwrap();
    well(&data, &["backup", file]).await;
    let whole = std::fs::read(file).unwrap();
    let contents = || std::fs::read(data.join(DATABASE)).unwrap();
    let before = contents();

    refused(&data, &["restore", "/nowhere/b.db"], "no database").await;
    for (spoilt, words) in [
        (Vec::new(), "no database"),
        (b"something else entirely".to_vec(), "does not begin as"),
        (whole[..whole.len() / 2].to_vec(), "damaged"),
    ] {
        std::fs::write(file, spoilt).unwrap();
        refused(&data, &["restore", file], words).await;
        refused(&data, &["check", file], words).await;
        assert!(contents() == before);
    }
    // Each of what must hold.
    for (change, words) in [
        (
            "DELETE FROM message WHERE seq = 2",
            "the one before it in the room is 1",
        ),
        ("UPDATE message SET type = 7 WHERE seq = 2", "its type is 7"),
        (
            "UPDATE message SET id = x'00' WHERE seq = 2",
            "its id has 1 bytes",
        ),
        (
            "UPDATE message SET sent_at = 5 WHERE seq = 2",
            "before that of the message before it",
        ),
        ("UPDATE room SET end = 9", "its next message is 9"),
        ("UPDATE room SET message_count = 9", "it counts 9 messages"),
        (
            "UPDATE room SET last_message_at = 9",
            "the time of its newest message",
        ),
        ("DELETE FROM epoch", "it has no epoch"),
        (
            "UPDATE message SET room = 77 WHERE seq = 3",
            "a room that is not there",
        ),
        (
            "INSERT INTO clock_set_back VALUES (99)",
            "the clock was set back at message 99",
        ),
    ] {
        std::fs::write(file, &whole).unwrap();
        let connection = rusqlite::Connection::open(file).unwrap();
        connection
            .execute_batch("PRAGMA foreign_keys = OFF")
            .unwrap();
        connection.execute_batch(change).unwrap();
        drop(connection);
        refused(&data, &["check", file], words).await;
        refused(&data, &["restore", file], "damaged").await;
        assert!(contents() == before, "{change}");
    }
    let connection = rusqlite::Connection::open(data.join(DATABASE)).unwrap();
    let behind = "UPDATE room SET end = 3, message_count = 2; DELETE FROM message WHERE seq = 3;
                  UPDATE room SET last_message_at = (SELECT max(sent_at) FROM message)";
    connection.execute_batch(behind).unwrap();
    drop(connection);
    refused(&data, &["check"], "was acknowledged").await;
}
