//! Very many rooms: what a page carries, and how all of them are reached.

use std::collections::HashSet;
use std::time::Duration;

use shared::chat::ChatRoom;
use shared::stomp::Command;

use crate::support::{Answer, Client, TestServer, request};

/// Rooms that a page carries.
const SHOWN: usize = 50;

const ROOMS: usize = 1_000;

async fn get(server: &TestServer, path: &str) -> Answer {
    request(server.address, "GET", path, &[], "").await
}

async fn list(server: &TestServer, query: &str) -> Vec<ChatRoom> {
    let answer = get(server, &format!("/chat/rooms{query}")).await;
    assert_eq!(answer.status, 200, "{query}: {}", answer.body);
    serde_json::from_str(&answer.body).unwrap()
}

/// The ids of the rooms that a page links to, and where it says that others follow.
fn links(page: &str) -> (Vec<String>, Option<String>) {
    // The rest is a copy of the same.
    let page = page.split("<script id=").next().unwrap_or_default();
    let until_quote = |rest: &str| rest.split(['"', '&']).next().unwrap_or_default().to_owned();
    let rooms = page.split("href=\"/chat/room/enter/").skip(1);
    let next = page.split("href=\"/chat/room?after=").nth(1);
    // The link to the other language is no room of the list.
    let rooms = rooms.map(until_quote).filter(|link| !link.contains('?'));
    (rooms.collect(), next.map(until_quote))
}

#[tokio::test]
async fn a_page_carries_fifty_rooms_however_many_there_are() {
    let server = TestServer::start(&["--room-rate", "0"]).await;
    let unknown = [
        "/nowhere",
        "/chat/room/enter/7",
        "/chat/room/x?after=y",
        "/%ff",
    ];
    let mut small = Vec::new();
    for path in unknown {
        let answer = get(&server, path).await;
        assert_eq!(answer.status, 404, "{path}");
        small.push(answer.body.len());
    }
    let mut rooms = Vec::new();
    for number in 0..ROOMS {
        rooms.push(server.make_room(&format!("방 {number}")).await);
    }
    for (path, small) in unknown.iter().zip(small) {
        let answer = get(&server, path).await;
        assert_eq!(answer.status, 404, "{path}");
        // The moment in it has more digits or fewer.
        let grown = answer.body.len().abs_diff(small);
        assert!(grown < 16, "{path}: it grows with the rooms");
        assert!(answer.body.len() < 16 << 10, "{}", answer.body.len());
    }
    let none = "/chat/room/enter/00000000-0000-4000-8000-000000000000";
    let inside = format!("/chat/room/enter/{}", rooms[0].room_id);
    for (path, status) in [("/chat/room", 200), (&*inside, 200), (none, 404)] {
        let page = get(&server, path).await;
        assert_eq!(page.status, status, "{path}");
        assert_eq!(links(&page.body).0.len(), SHOWN, "{path}");
        assert_eq!(
            page.body.matches("\"roomName\"").count() / SHOWN,
            1,
            "{path}"
        );
        assert!(page.body.len() < 64 << 10, "{path}: {}", page.body.len());
    }

    // All of them, each once, page after page.
    let mut seen = HashSet::new();
    let mut path = "/chat/room".to_owned();
    loop {
        let page = get(&server, &path).await;
        let (rooms, next) = links(&page.body);
        assert!(rooms.len() <= SHOWN);
        for room in rooms {
            assert!(seen.insert(room), "a room is listed twice");
        }
        let Some(next) = next else { break };
        path = format!("/chat/room?after={next}");
    }
    assert_eq!(seen.len(), ROOMS);

    // What happens in the oldest room brings it to the front.
    let mut client = Client::connect(server.address).await;
    client.talk(&rooms[0], "a", "x", "r").await;
    client.receipt("r").await;
    let first = links(&get(&server, "/chat/room").await.body).0.remove(0);
    assert_eq!(first, rooms[0].room_id.to_string());
}

#[tokio::test]
async fn the_list_is_given_whole_or_in_parts() {
    const ROOMS: usize = 300;
    let server = TestServer::start(&["--room-rate", "0"]).await;
    assert!(list(&server, "").await.is_empty());
    let mut rooms = Vec::new();
    for number in 0..ROOMS {
        rooms.push(server.make_room(&number.to_string()).await.room_id);
    }
    let ids = |rooms: Vec<ChatRoom>| rooms.into_iter().map(|room| room.room_id);
    let by_creation = &rooms[..];
    let by_activity: Vec<_> = ids(list(&server, "?sort=activity&limit=200").await).collect();
    assert_eq!(by_activity.len(), 200);
    for (query, expected) in [
        ("", by_creation),
        ("?lang=ko", by_creation),
        ("?limit=1", &by_creation[..1]),
        ("?sort=created", &by_creation[..50]),
        (&format!("?after={}", rooms[0]), &by_creation[1..51]),
        (
            &format!("?after={}&limit=200", rooms[150]),
            &by_creation[151..],
        ),
        (&format!("?after={}", rooms[ROOMS - 1]), &[]),
        ("?sort=activity", &by_activity[..50]),
        (
            &format!("?sort=activity&limit=7&after={}", by_activity[9]),
            &by_activity[10..17],
        ),
    ] {
        let given: Vec<_> = ids(list(&server, query).await).collect();
        assert_eq!(given, expected, "{query}");
    }
    // By a part of the name.
    let with = |part: &str| -> Vec<_> {
        let has = |number: &usize| number.to_string().contains(part);
        (0..ROOMS).filter(has).map(|number| rooms[number]).collect()
    };
    for (query, expected) in [
        ("?q=99&limit=200", with("99")),
        ("?q=%EF%BC%92%EF%BC%99&limit=200", with("29")),
        ("?q=+1+&limit=3", with("1")[..3].to_vec()),
        (
            &format!("?q=1&limit=3&after={}", rooms[1]),
            with("1")[1..4].to_vec(),
        ),
        ("?q=301", Vec::new()),
        ("?q=+&limit=2", rooms[..2].to_vec()),
    ] {
        let given: Vec<_> = ids(list(&server, query).await).collect();
        assert_eq!(given, expected, "{query}");
    }
    let newest_first = |mut rooms: Vec<_>| {
        let place = |id: &_| by_creation.iter().position(|known| known == id);
        rooms.sort_by_key(|id| std::cmp::Reverse(place(id)));
        rooms
    };
    let found: Vec<_> = ids(list(&server, "?q=29&sort=activity&limit=200").await).collect();
    assert_eq!(newest_first(found.clone()), newest_first(with("29")));
    let long = format!("?q={}", "x".repeat(101));
    for query in [
        &*long,
        "?limit=0",
        "?limit=201",
        "?limit=-1",
        "?limit=x",
        "?sort=name",
        "?after=7",
        "?after=00000000-0000-4000-8000-000000000000",
    ] {
        let answer = get(&server, &format!("/chat/rooms{query}")).await;
        assert_eq!(answer.status, 422, "{query}: {}", answer.body);
    }
}

#[tokio::test]
async fn who_shows_some_rooms_is_told_of_these_and_of_new_ones() {
    let server = TestServer::start(&[]).await;
    let mut rooms = Vec::new();
    for name in ["보이는 방", "안 보이는 방"] {
        rooms.push(server.make_room(name).await);
    }
    let mut reader = server.connect().await;
    let header = format!("x-rooms:{}\n", rooms[0].room_id);
    reader.subscribe("s", "/topic/chat/rooms", &header).await;
    // What was made a moment ago may be told once more, as it has changed within its second.
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    let mut talker = server.connect().await;
    for room in rooms.iter().rev() {
        talker.talk(room, "a", "x", "t").await;
        talker.receipt("t").await;
    }
    let new = server.make_room("새 방").await;
    let mut told = Vec::new();
    while told.len() < 2 {
        let frame = reader.frame().await;
        let room: ChatRoom = serde_json::from_slice(&frame.body).unwrap();
        told.push((room.room_id, room.message_count));
    }
    told.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    assert_eq!(told, [(rooms[0].room_id, 1), (new.room_id, 0)]);
    for ids in ["x", &vec![new.room_id.to_string(); 201].join(",")] {
        let mut client = server.connect().await;
        let subscribe =
            format!("SUBSCRIBE\nid:1\nx-rooms:{ids}\ndestination:/topic/chat/rooms\n\n\0");
        client.send(&subscribe).await;
        assert_eq!(client.frame().await.command, Command::Error);
    }
    server.stop().await;
}
