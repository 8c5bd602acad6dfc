//! Who is in a room, and who is typing there (docs/wire.md, "Who is here").

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use shared::chat::{ChatMessage, ChatRoom, MessageType};

use shared::stomp::Command;

use crate::process::{PROGRAM, start_as};
use crate::support::{Client, SOON, TestServer, make_room, request, room_destination};

/// Shorter than what a person waits for, longer than the second of the ordering thread.
const GRACE: &[&str] = &["--leave-grace-ms", "1500"];

fn send(kind: &str, room: &ChatRoom, sender: &str, receipt: &str) -> String {
    let body = json!({
        "type": kind, "roomId": room.room_id, "sender": sender, "message": "말",
    });
    format!("SEND\ndestination:/app/chat/sendMessage\nreceipt:{receipt}\n\n{body}\0")
}

async fn act(client: &mut Client, kind: &str, room: &ChatRoom, sender: &str) {
    client.send(&send(kind, room, sender, "act")).await;
    client.receipt("act").await;
}

fn typing(room: &ChatRoom, sender: &str, receipt: &str) -> String {
    let body = json!({ "roomId": room.room_id, "sender": sender });
    format!("SEND\ndestination:/app/chat/typing\nreceipt:{receipt}\n\n{body}\0")
}

/// The body of the next frame, which is a MESSAGE of this subscription.
async fn next(client: &mut Client, subscription: &str) -> Value {
    let frame = client.frame().await;
    assert_eq!(frame.command, Command::Message, "{frame:?}");
    assert_eq!(
        frame.headers.get("subscription"),
        Some(subscription),
        "{frame:?}"
    );
    serde_json::from_slice(&frame.body).unwrap()
}

fn people(names: &[&str]) -> Vec<Value> {
    names.iter().map(|name| json!({ "sender": name })).collect()
}

async fn here(server: &TestServer, room: &ChatRoom) -> Vec<Value> {
    let path = format!("/chat/room/{}/participants", room.room_id);
    let (status, body) = get(server, &path).await;
    assert_eq!(status, 200);
    serde_json::from_str(&body).unwrap()
}

async fn get(server: &TestServer, path: &str) -> (u16, String) {
    let answer = request(server.address, "GET", path, &[], "").await;
    (answer.status, answer.body)
}

/// Who came and went, as the log has it.
fn notices(messages: &[ChatMessage]) -> Vec<String> {
    messages
        .iter()
        .filter(|message| message.kind != MessageType::Talk)
        .map(|message| format!("{:?} {}", message.kind, message.sender))
        .collect()
}

async fn wait_for_notices(server: &TestServer, room: &ChatRoom, count: usize) -> Vec<String> {
    let begin = Instant::now();
    loop {
        let found = notices(&server.history(room, "?limit=200").await);
        if found.len() >= count {
            return found;
        }
        assert!(begin.elapsed() < SOON, "{found:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn who_is_here_comes_whole_and_then_as_gathered_changes() {
    let server = TestServer::start(&[]).await;
    let room = server.make_room("여기").await;
    let destination = format!("{}/participants", room_destination(&room));
    let mut reader = server.connect().await;
    reader.subscribe("p", &destination, "").await;
    assert_eq!(next(&mut reader, "p").await, json!({ "participants": [] }));
    let mut guests = Vec::new();
    for name in ["나", "가", "다"] {
        let mut guest = server.connect().await;
        act(&mut guest, "ENTER", &room, name).await;
        // Again is not again.
        act(&mut guest, "ENTER", &room, name).await;
        guests.push(guest);
    }
    assert_eq!(here(&server, &room).await, people(&["가", "나", "다"]));
    let mut entered = Vec::new();
    let begin = Instant::now();
    let mut frames = 0;
    while entered.len() < 3 {
        let changes = next(&mut reader, "p").await;
        assert_eq!(changes["left"], json!([]));
        entered.extend(changes["entered"].as_array().unwrap().clone());
        frames += 1;
    }
    assert_eq!(entered, people(&["나", "가", "다"]));
    assert!(frames as u64 <= begin.elapsed().as_secs() + 2, "{frames}");
    // Who subscribes now gets the list of now.
    let mut late = server.connect().await;
    late.subscribe("q", &destination, "").await;
    let all = json!({ "participants": people(&["가", "나", "다"]) });
    assert_eq!(next(&mut late, "q").await, all);
    act(&mut guests[0], "LEAVE", &room, "나").await;
    let left = json!({ "entered": [], "left": people(&["나"]) });
    for (client, id) in [(&mut reader, "p"), (&mut late, "q")] {
        assert_eq!(next(client, id).await, left);
    }
    assert_eq!(here(&server, &room).await, people(&["가", "다"]));
    // A TALK alone lists nobody.
    let mut passing = server.connect().await;
    act(&mut passing, "TALK", &room, "라").await;
    assert_eq!(here(&server, &room).await, people(&["가", "다"]));
    let shown = get(&server, &format!("/chat/room/{}", room.room_id))
        .await
        .1;
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["participantCount"], 2);
    server.stop().await;
}

#[tokio::test]
async fn unknown_rooms_have_no_people() {
    let server = TestServer::start(&[]).await;
    let unknown = "0192f0c1-2d3e-7a4b-8c5d-6e7f8091a2b3";
    for id in [unknown, "1"] {
        let (status, _) = get(&server, &format!("/chat/room/{id}/participants")).await;
        assert_eq!(status, 404);
        for feed in ["participants", "typing"] {
            let mut client = server.connect().await;
            let destination = format!("/topic/chat/room/{id}/{feed}");
            client
                .send(&format!("SUBSCRIBE\nid:1\ndestination:{destination}\n\n\0"))
                .await;
            assert_eq!(client.frame().await.command, Command::Error);
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn who_goes_without_a_word_has_left_after_a_while_once() {
    let server = TestServer::start(GRACE).await;
    let room = server.make_room("말없이").await;
    let mut gone = server.connect().await;
    act(&mut gone, "ENTER", &room, "가").await;
    let mut back = server.connect().await;
    act(&mut back, "ENTER", &room, "나").await;
    drop(gone);
    drop(back);
    let mut again = server.connect().await;
    act(&mut again, "ENTER", &room, "나").await;
    let found = wait_for_notices(&server, &room, 3).await;
    assert_eq!(found, ["Enter 가", "Enter 나", "Leave 가"]);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(wait_for_notices(&server, &room, 3).await.len(), 3);
    assert_eq!(here(&server, &room).await, people(&["나"]));
    server.stop().await;
}

#[tokio::test]
async fn a_drain_and_a_restart_make_nobody_leave_who_is_back() {
    let server = TestServer::start(GRACE).await;
    let room = server.make_room("다시").await;
    let mut guests = Vec::new();
    for name in ["가", "나"] {
        let mut guest = server.connect().await;
        act(&mut guest, "ENTER", &room, name).await;
        guests.push(guest);
    }
    let data = server.stop().await;
    drop(guests);
    // Longer than the grace: while the server is down nobody can come back.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let server = TestServer::start_in(data, GRACE).await;
    assert_eq!(here(&server, &room).await, people(&["가", "나"]));
    let mut back = server.connect().await;
    act(&mut back, "ENTER", &room, "가").await;
    let found = wait_for_notices(&server, &room, 3).await;
    assert_eq!(found, ["Enter 가", "Enter 나", "Leave 나"]);
    assert_eq!(here(&server, &room).await, people(&["가"]));
    server.stop().await;
}

#[tokio::test]
async fn typing_is_told_seldom_and_only_of_who_is_there() {
    let server = TestServer::start(&[]).await;
    let room = server.make_room("입력").await;
    let destination = format!("{}/typing", room_destination(&room));
    let mut reader = server.connect().await;
    reader.subscribe("t", &destination, "").await;
    let mut guest = server.connect().await;
    guest.subscribe("e", "/user/queue/errors", "").await;
    act(&mut guest, "ENTER", &room, "가").await;
    let begin = Instant::now();
    for number in 0..20 {
        let receipt = number.to_string();
        guest.send(&typing(&room, "가", &receipt)).await;
        guest.receipt(&receipt).await;
    }
    let told = json!({ "roomId": room.room_id, "sender": "가" });
    assert_eq!(next(&mut reader, "t").await, told);
    assert!(begin.elapsed() < Duration::from_secs(2));
    for (sender, status) in [("나", 409), ("", 422)] {
        guest.send(&typing(&room, sender, "no")).await;
        let refusal = next(&mut guest, "e").await;
        assert_eq!(refusal["status"], status, "{refusal}");
        assert_eq!(refusal["receiptId"], "no");
    }
    tokio::time::sleep(Duration::from_millis(2_100).saturating_sub(begin.elapsed())).await;
    guest.send(&typing(&room, "가", "again")).await;
    guest.receipt("again").await;
    assert_eq!(next(&mut reader, "t").await, told);
    assert!(begin.elapsed() >= Duration::from_secs(2));
    // Nothing of it is stored.
    assert_eq!(server.history(&room, "").await.len(), 1);
    act(&mut guest, "LEAVE", &room, "가").await;
    guest.send(&typing(&room, "가", "left")).await;
    assert_eq!(next(&mut guest, "e").await["status"], 409);
    server.stop().await;
}

/// Killed at once: who comes back within the grace has not left, and the others have.
#[tokio::test]
async fn a_server_that_was_killed_has_no_ghosts() {
    let data = tempfile::tempdir().unwrap();
    let start = || {
        let mut program = tokio::process::Command::new(PROGRAM);
        program.args(GRACE);
        start_as(program, data.path())
    };
    for round in 0..5 {
        let (mut child, address, _) = start().await;
        let room = make_room(address, &format!("방 {round}")).await;
        let mut guests = Vec::new();
        for name in ["가", "나", "다"] {
            let mut guest = Client::connect(address).await;
            act(&mut guest, "ENTER", &room, name).await;
            guests.push(guest);
        }
        act(&mut guests[2], "LEAVE", &room, "다").await;
        child.kill().await.unwrap();
        drop(guests);
        let (mut child, address, _) = start().await;
        let mut back = Client::connect(address).await;
        act(&mut back, "ENTER", &room, "가").await;
        let path = format!("/chat/room/{}/messages", room.room_id);
        let begin = Instant::now();
        let expected = ["Enter 가", "Enter 나", "Enter 다", "Leave 다", "Leave 나"];
        loop {
            let answer = request(address, "GET", &path, &[], "").await;
            let messages: Vec<ChatMessage> = serde_json::from_str(&answer.body).unwrap();
            let found = notices(&messages);
            if found == expected {
                break;
            }
            assert!(begin.elapsed() < SOON, "{found:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        child.kill().await.unwrap();
    }
}
