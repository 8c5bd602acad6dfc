//! Whose a name is (docs/wire.md, "Names").

use shared::chat::ChatRoom;
use shared::stomp::Command;

use crate::guest::{connect, talks};
use crate::support::{Client, TestServer, request};

/// Enters or leaves; whether it was taken.
async fn is_stored(client: &mut Client, kind: &str, room: &ChatRoom, name: &str) -> bool {
    let (id, name) = (room.room_id, serde_json::to_string(name).unwrap());
    let body = format!(r#"{{"type":"{kind}","roomId":"{id}","sender":{name}}}"#);
    client
        .send(&format!(
            "SEND\ndestination:/app/chat/sendMessage\nreceipt:{kind}\n\n{body}\0"
        ))
        .await;
    client.frame().await.command == Command::Receipt
}

#[tokio::test]
async fn a_guest_silences_no_program() {
    let server = TestServer::start(&[]).await;
    let room = server.make_room("r").await;
    let origin = format!("http://{}", server.address);
    let (mut program, _) = connect(&server, &[], None).await;
    let (mut guest, _) = connect(&server, &[("origin", &origin)], None).await;
    assert!(talks(&mut program, &room, "bot").await);
    for name in ["bot", "BOT", "bоt", "bot\u{34F}"] {
        assert!(!talks(&mut guest, &room, name).await, "{name}");
        assert!(!is_stored(&mut guest, "ENTER", &room, name).await, "{name}");
    }
    assert!(talks(&mut guest, &room, "guest").await);
    assert!(is_stored(&mut guest, "LEAVE", &room, "guest").await);
    assert!(talks(&mut program, &room, "bot").await);
    assert!(is_stored(&mut program, "LEAVE", &room, "bot").await);
    assert!(talks(&mut program, &room, "new").await);
    assert!(talks(&mut guest, &room, "bot").await);
}

#[tokio::test]
async fn nobody_looks_like_another() {
    let server = TestServer::start(&[]).await;
    let room = server.make_room("r").await;
    let origin = format!("http://{}", server.address);
    let (mut alice, _) = connect(&server, &[("origin", &origin)], None).await;
    let (mut other, _) = connect(&server, &[("origin", &origin)], None).await;
    assert!(is_stored(&mut alice, "ENTER", &room, "alice").await);
    for name in [
        "ALICE",
        "Ａlice",
        "alice\u{34F}",
        "al\u{FE0F}ice",
        "\u{2800}alice",
        "ali\u{1D159}ce",
        "аlice",
        "Аlice",
    ] {
        assert!(!talks(&mut other, &room, name).await, "{name}");
    }
    assert!(talks(&mut alice, &room, "Alice").await);
    assert!(talks(&mut other, &room, "alicia").await);
    // What shows nothing names neither a person nor a room.
    let json = [("content-type", "application/json")];
    for blank in ["\u{2800}", "\u{1D159}", "\u{34F}", "\u{FE0F}", "\u{3164}"] {
        let body = format!(r#"{{"roomName":"{blank}{blank}"}}"#);
        let made = request(server.address, "POST", "/chat/room", &json, &body).await;
        assert_eq!(
            made.status,
            422,
            "U+{:04X}",
            u32::from(blank.chars().next().unwrap())
        );
        let is_taken = is_stored(&mut alice, "ENTER", &room, blank).await;
        assert!(
            !is_taken,
            "U+{:04X}",
            u32::from(blank.chars().next().unwrap())
        );
    }
}
