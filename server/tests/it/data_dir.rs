//! The data directory: its owner's alone; and what it says of a clock that was wrong.

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use time::{Duration, OffsetDateTime};
use tokio::process::Command;

use crate::process::{Logged, PROGRAM, start, start_as, terminate};
use crate::support::{Client, make_room, request};

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// The modes of all files in a directory, by name.
fn files(folder: &Path) -> Vec<(String, u32)> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut files: Vec<_> = entries
        .map(|entry| entry.unwrap())
        .map(|entry| {
            (
                entry.file_name().into_string().unwrap(),
                mode(&entry.path()),
            )
        })
        .collect();
    files.sort();
    files
}

fn assert_files_closed(folder: &Path) {
    let files = files(folder);
    let names: Vec<_> = files.iter().map(|(name, _)| name.as_str()).collect();
    assert!(names.contains(&"sarangbang.db") && names.contains(&"cookie.key"));
    for (name, mode) in &files {
        assert_eq!(*mode, 0o600, "{name}: {mode:o}");
    }
}

fn warnings(logged: &Logged) -> Vec<String> {
    let logged = logged.lock().unwrap();
    let warnings = logged.iter().filter(|line| line.contains("WARN"));
    let ours = warnings.filter(|line| !line.contains("built without the web client"));
    ours.cloned().collect()
}

/// Runs the program on a directory, stores a message, and ends it; gives its warnings. `meanwhile`
/// looks at the directory while it runs.
async fn run(data_dir: &Path, meanwhile: impl FnOnce()) -> Vec<String> {
    // No umask makes anything closed here.
    let mut command = Command::new("sh");
    command.args(["-c", r#"umask 000; exec "$0" "$@""#, PROGRAM]);
    let (mut child, address, logged) = start_as(command, data_dir).await;
    say(address, "r").await;
    meanwhile();
    terminate(&mut child).await;
    warnings(&logged)
}

/// Makes a room and says something there.
async fn say(address: std::net::SocketAddr, name: &str) -> shared::chat::ChatRoom {
    let room = make_room(address, name).await;
    let mut client = Client::connect(address).await;
    client.talk(&room, "a", "x", "r").await;
    client.receipt("r").await;
    room
}

/// Opens a directory and what is in it to everybody.
fn open_all(folder: &Path) {
    for entry in std::fs::read_dir(folder).unwrap() {
        set_mode(&entry.unwrap().path(), 0o644);
    }
    set_mode(folder, 0o755);
}

#[tokio::test]
async fn what_is_made_is_its_owners_alone() {
    let around = tempfile::tempdir().unwrap();
    let data = around.path().join("some/where/data");
    let look = || {
        assert_eq!(mode(&data), 0o700);
        assert_files_closed(&data);
        assert!(
            files(&data)
                .iter()
                .any(|(name, _)| name == "sarangbang.db-wal")
        );
    };
    assert_eq!(run(&data, look).await, [""; 0]);
    // Folders on the way are like any others.
    assert_eq!(mode(data.parent().unwrap()), 0o777);
}

#[tokio::test]
async fn what_was_open_is_closed_with_one_warning() {
    let around = tempfile::tempdir().unwrap();
    let data = around.path().join("data");
    // As after a crash: SQLite's other files are there too.
    let (mut child, address) = start(&data).await;
    say(address, "r").await;
    child.kill().await.unwrap();
    open_all(&data);
    let look = || {
        assert_eq!(mode(&data), 0o700);
        assert_files_closed(&data);
    };
    let warned = run(&data, look).await;
    assert_eq!(warned.len(), 1, "{warned:?}");
    for name in [
        "data (755)",
        "sarangbang.db (644)",
        "-wal (644)",
        "cookie.key (644)",
    ] {
        assert!(warned[0].contains(name), "{name}: {warned:?}");
    }
    assert_eq!(run(&data, look).await, [""; 0]);

    // By a link it is the same directory.
    open_all(&data);
    let link = around.path().join("link");
    symlink(&data, &link).unwrap();
    assert_eq!(run(&link, look).await.len(), 1);
    assert!(link.is_symlink());
}

#[tokio::test]
async fn a_directory_that_others_use_too_is_left_with_a_word() {
    for (sticky, with_folder) in [(true, false), (false, true)] {
        let around = tempfile::tempdir().unwrap();
        let data = around.path().join("data");
        std::fs::create_dir(&data).unwrap();
        if with_folder {
            std::fs::create_dir(data.join("of another program")).unwrap();
            std::fs::create_dir(data.join("lost+found")).unwrap();
        }
        let open = if sticky { 0o1777 } else { 0o755 };
        set_mode(&data, open);
        let look = || {
            assert_eq!(mode(&data), open);
            for name in [
                "sarangbang.db",
                "sarangbang.db-wal",
                "sarangbang.lock",
                "cookie.key",
            ] {
                assert_eq!(mode(&data.join(name)), 0o600, "{name}");
            }
        };
        let warned = run(&data, look).await;
        assert_eq!(warned.len(), 1, "{warned:?}");
        assert!(warned[0].contains("which others use too"), "{warned:?}");
        assert!(warned[0].contains("mode 0700"), "{warned:?}");
    }
}

#[tokio::test]
async fn a_link_to_a_file_is_not_followed_to_close_it() {
    let around = tempfile::tempdir().unwrap();
    let data = around.path().join("data");
    run(&data, || {}).await;
    let elsewhere = around.path().join("key");
    std::fs::rename(data.join("cookie.key"), &elsewhere).unwrap();
    symlink(&elsewhere, data.join("cookie.key")).unwrap();
    set_mode(&elsewhere, 0o644);
    let warned = run(&data, || assert_eq!(mode(&elsewhere), 0o644)).await;
    assert_eq!(warned.len(), 1, "{warned:?}");
    assert!(
        warned[0].contains("cookie.key (mode 644, by a link)"),
        "{warned:?}"
    );
}

#[tokio::test]
async fn what_belongs_to_somebody_else_is_left_with_a_word() {
    let around = tempfile::tempdir().unwrap();
    let data = around.path().join("data");
    run(&data, || {}).await;
    set_mode(&data, 0o755);
    if std::os::unix::fs::chown(&data, Some(65_534), None).is_err() {
        println!("left out: only root can give a directory away");
        return;
    }
    let look = || {
        assert_eq!(mode(&data), 0o755);
        assert_files_closed(&data);
    };
    let warned = run(&data, look).await;
    assert_eq!(warned.len(), 1, "{warned:?}");
    assert!(
        warned[0].contains("data (mode 755, of another user)"),
        "{warned:?}"
    );
}

#[tokio::test]
async fn a_clock_that_was_ahead_is_told_once_and_followed() {
    const AHEAD: &str = "
        UPDATE message SET sent_at = sent_at + 315360000000;
        UPDATE room SET created_at = created_at + 315360000000,
                        last_message_at = last_message_at + 315360000000";
    let data = tempfile::tempdir().unwrap();
    let (mut child, address) = start(data.path()).await;
    let room = say(address, "ahead").await;
    terminate(&mut child).await;
    let database = data.path().join("sarangbang.db");
    rusqlite::Connection::open(database)
        .unwrap()
        .execute_batch(AHEAD)
        .unwrap();

    for expected in [1, 0] {
        let (mut child, address, logged) = start_as(Command::new(PROGRAM), data.path()).await;
        let begin = OffsetDateTime::now_utc() - Duration::SECOND;
        let mut client = Client::connect(address).await;
        for index in 0..5 {
            client.talk(&room, "a", "y", &index.to_string()).await;
            client.receipt(&index.to_string()).await;
        }
        let made = make_room(address, "later").await;
        let path = format!("/chat/room/{}/messages?limit=5", room.room_id);
        let newest = request(address, "GET", &path, &[], "").await.body;
        let newest: Vec<shared::chat::ChatMessage> = serde_json::from_str(&newest).unwrap();
        let path = format!("/chat/room/{}", room.room_id);
        let shown = request(address, "GET", &path, &[], "").await.body;
        let shown: shared::chat::ChatRoom = serde_json::from_str(&shown).unwrap();
        let mut times: Vec<_> = newest.iter().map(|message| message.sent_at).collect();
        times.extend([made.created_at, shown.last_message_at.unwrap()]);
        terminate(&mut child).await;
        let end = OffsetDateTime::now_utc() + Duration::SECOND;
        for time in times {
            assert!(begin <= time && time <= end, "{time}");
        }
        let warned = warnings(&logged);
        assert_eq!(warned.len(), expected, "{warned:?}");
        for warning in warned {
            // Ten years of 365 days, less what has gone by.
            assert!(warning.contains("the clock is 3649d23h59m"), "{warning}");
        }
    }
}
