//! What the broker adds to rooms: acknowledgements, transactions, plain destinations.

use std::time::Duration;

use shared::chat::ChatRoom;
use shared::stomp::{Command, Frame};

use crate::link::{Carrier, over_each_transport};
use crate::support::{Client, TestServer, room_destination, talk};

over_each_transport!(
    a_window_on_a_room_is_fed_as_it_is_acknowledged,
    a_queue_gives_each_message_to_one_in_turn,
    what_the_sockets_of_a_queue_leave_at_once_goes_to_who_stays,
    what_a_queue_gave_and_nobody_acknowledged_goes_to_the_next,
    who_does_not_take_what_is_not_stored_is_cut_off_alone
);

/// Long enough for what should not come to come.
const A_WHILE: Duration = Duration::from_millis(200);

/// Says so many things in a room, `0` to `count - 1`.
async fn say(server: &TestServer, room: &ChatRoom, count: usize) {
    let mut speaker = server.connect().await;
    let texts: Vec<_> = (0..count)
        .map(|n| talk(room, "철수", &n.to_string()))
        .collect();
    let destination = format!("/app{}", room_destination(room));
    let array = format!("[{}]", texts.join(","));
    speaker
        .send(&format!(
            "SEND\ndestination:{destination}\nreceipt:said\n\n{array}\0"
        ))
        .await;
    speaker.receipt("said").await;
}

async fn offsets(client: &mut Client, count: usize) -> Vec<Frame> {
    let mut frames = Vec::new();
    for _ in 0..count {
        let frame = client.frame().await;
        assert_eq!(frame.command, Command::Message, "{frame:?}");
        frames.push(frame);
    }
    frames
}

pub(crate) fn header<'a>(frame: &'a Frame, name: &str) -> &'a str {
    frame
        .headers
        .get(name)
        .unwrap_or_else(|| panic!("no {name} in {frame:?}"))
}

pub(crate) async fn hears_nothing(client: &mut Client) {
    let frame = tokio::time::timeout(A_WHILE, client.next()).await;
    assert!(frame.is_err(), "{frame:?}");
}

/// A MESSAGE with this body is next.
pub(crate) async fn hears(client: &mut Client, body: &str) -> Frame {
    let frame = client.frame().await;
    assert_eq!(frame.command, Command::Message, "{frame:?}");
    assert_eq!(std::str::from_utf8(&frame.body), Ok(body));
    frame
}

pub(crate) async fn publish(client: &mut Client, destination: &str, body: &str) {
    client
        .send(&format!(
            "SEND\ndestination:{destination}\nreceipt:p\n\n{body}\0"
        ))
        .await;
    client.receipt("p").await;
}

pub(crate) async fn ack(client: &mut Client, command: &str, frame: &Frame) {
    let id = header(frame, "ack");
    client
        .send(&format!("{command}\nid:{id}\nreceipt:a\n\n\0"))
        .await;
    client.receipt("a").await;
}

async fn a_window_on_a_room_is_fed_as_it_is_acknowledged(carrier: Carrier) {
    let server = TestServer::start_over(carrier, &[]).await;
    let room = server.make_room("창").await;
    say(&server, &room, 300).await;
    let destination = room_destination(&room);
    let mut client = server.connect().await;
    let headers = "ack:client\nprefetch-count:100\nx-stream-offset:first\n";
    client.subscribe("s", &destination, headers).await;
    for round in 0..3 {
        let frames = offsets(&mut client, 100).await;
        let first = header(&frames[0], "x-stream-offset");
        assert_eq!(first, (round * 100 + 1).to_string());
        hears_nothing(&mut client).await;
        // Cumulative: the last stands for all.
        let id = header(&frames[99], "ack");
        client.send(&format!("ACK\nid:{id}\n\n\0")).await;
    }
    hears_nothing(&mut client).await;
    // What comes live goes through the same window.
    say(&server, &room, 150).await;
    let frames = offsets(&mut client, 100).await;
    hears_nothing(&mut client).await;
    let half = header(&frames[49], "ack");
    client.send(&format!("ACK\nid:{half}\n\n\0")).await;
    offsets(&mut client, 50).await;
    // What was not acknowledged is delivered again to who begins again at it, as the same message.
    client.send("UNSUBSCRIBE\nid:s\n\n\0").await;
    client
        .subscribe(
            "t",
            &destination,
            "ack:client\nx-stream-offset:offset=351\n",
        )
        .await;
    let again = offsets(&mut client, 100).await;
    assert_eq!(
        header(&again[0], "message-id"),
        header(&frames[50], "message-id")
    );
    assert_ne!(header(&again[0], "ack"), header(&frames[50], "ack"));
}

#[tokio::test]
async fn a_nack_of_a_room_opens_the_window_and_brings_nothing_back() {
    let server = TestServer::start(&[]).await;
    let room = server.make_room("돌려주기").await;
    say(&server, &room, 2).await;
    let mut client = server.connect().await;
    let headers = "ack:client-individual\nprefetch-count:1\nx-stream-offset:first\n";
    client
        .subscribe("s", &room_destination(&room), headers)
        .await;
    let first = client.frame().await;
    assert_eq!(header(&first, "x-stream-offset"), "1");
    let id = header(&first, "ack").to_owned();
    client.send(&format!("NACK\nid:{id}\n\n\0")).await;
    let second = client.frame().await;
    assert_eq!(header(&second, "x-stream-offset"), "2");
    ack(&mut client, "ACK", &second).await;
    hears_nothing(&mut client).await;
}

#[tokio::test]
async fn older_versions_acknowledge_by_message_id() {
    let server = TestServer::start(&[]).await;
    let room = server.make_room("옛 판").await;
    say(&server, &room, 3).await;
    for version in ["1.0", "1.1"] {
        let mut client = Client::open(server.address).await;
        client
            .send(&format!("CONNECT\naccept-version:{version}\n\n\0"))
            .await;
        assert_eq!(client.frame().await.command, Command::Connected);
        let headers = "ack:client\nprefetch-count:1\nx-stream-offset:first\n";
        client
            .subscribe("s", &room_destination(&room), headers)
            .await;
        for seq in ["1", "2", "3"] {
            let frame = client.frame().await;
            assert_eq!(header(&frame, "x-stream-offset"), seq);
            assert_eq!(frame.headers.get("ack"), None);
            let id = header(&frame, "message-id");
            client
                .send(&format!("ACK\nsubscription:s\nmessage-id:{id}\n\n\0"))
                .await;
        }
        hears_nothing(&mut client).await;
    }
}

#[tokio::test]
async fn a_topic_reaches_every_subscriber_with_its_own_headers() {
    let server = TestServer::start(&[]).await;
    let mut speaker = server.connect().await;
    // Nobody is there: it is dropped, and receipted.
    publish(&mut speaker, "/topic/news", "nobody").await;
    let mut one = server.connect().await;
    let mut two = Client::open(server.address).await;
    two.send("CONNECT\naccept-version:1.1\n\n\0").await;
    two.frame().await;
    one.subscribe("a", "/topic/news", "").await;
    two.subscribe("b", "/topic/news", "").await;
    speaker
        .send(
            "SEND\ndestination:/topic/news\ncontent-type:text/plain\nreceipt:r\nkind:a\\cb\n\
             kind:later\nx-stream-offset:9\nmessage-id:mine\nsubscription:theirs\nack:x\n\n\
             hello\nworld\0",
        )
        .await;
    speaker.receipt("r").await;
    for (client, id) in [(&mut one, "a"), (&mut two, "b")] {
        let frame = hears(client, "hello\nworld").await;
        let named: Vec<_> = frame.headers.iter().collect();
        assert_eq!(named[0], ("subscription", id));
        assert_eq!(named[1].0, "message-id");
        assert_eq!(
            named[2..],
            [
                ("destination", "/topic/news"),
                ("content-type", "text/plain"),
                ("kind", "a:b"),
            ]
        );
    }
    // What is no UTF-8 comes as it is.
    let mut octets = b"SEND\ndestination:/topic/news\ncontent-length:4\n\n".to_vec();
    octets.extend_from_slice(b"\xff\0\xfe\x01\0");
    speaker.send_binary(octets).await;
    assert_eq!(one.frame().await.body[..], *b"\xff\0\xfe\x01");
    // One's own subscription is one like any other.
    one.send("SEND\ndestination:/topic/news\n\nmine\0").await;
    hears(&mut one, "mine").await;
}

async fn a_queue_gives_each_message_to_one_in_turn(carrier: Carrier) {
    let server = TestServer::start_over(carrier, &[]).await;
    let mut speaker = server.connect().await;
    let mut workers = Vec::new();
    for _ in 0..3 {
        let mut worker = server.connect().await;
        worker.subscribe("w", "/queue/work", "").await;
        workers.push(worker);
    }
    for n in 0..9 {
        publish(&mut speaker, "/queue/work", &n.to_string()).await;
    }
    for (index, worker) in workers.iter_mut().enumerate() {
        for round in 0..3 {
            hears(worker, &(round * 3 + index).to_string()).await;
        }
        hears_nothing(worker).await;
    }
}

async fn what_a_queue_gave_and_nobody_acknowledged_goes_to_the_next(carrier: Carrier) {
    let server = TestServer::start_over(carrier, &[]).await;
    for end in ["NACK", "UNSUBSCRIBE", "DISCONNECT", "drop"] {
        let destination = format!("/queue/{end}");
        let mut speaker = server.connect().await;
        let mut one = server.connect().await;
        let headers = "ack:client-individual\n";
        one.subscribe("w", &destination, headers).await;
        publish(&mut speaker, &destination, "first").await;
        publish(&mut speaker, &destination, "second").await;
        publish(&mut speaker, &destination, "third").await;
        let first = hears(&mut one, "first").await;
        let second = hears(&mut one, "second").await;
        hears(&mut one, "third").await;
        ack(&mut one, "ACK", &second).await;
        let mut two = server.connect().await;
        two.subscribe("w", &destination, headers).await;
        match end {
            "NACK" => {
                ack(&mut one, "NACK", &first).await;
                hears(&mut two, "first").await;
            }
            "UNSUBSCRIBE" => {
                one.send("UNSUBSCRIBE\nid:w\n\n\0").await;
                hears(&mut two, "first").await;
                hears(&mut two, "third").await;
            }
            "DISCONNECT" => {
                one.send("DISCONNECT\n\n\0").await;
                hears(&mut two, "first").await;
                hears(&mut two, "third").await;
            }
            _ => {
                drop(one);
                hears(&mut two, "first").await;
                hears(&mut two, "third").await;
            }
        }
        hears_nothing(&mut two).await;
    }
}

async fn what_the_sockets_of_a_queue_leave_at_once_goes_to_who_stays(carrier: Carrier) {
    const CONNECTIONS: usize = 6;
    const EACH: usize = 16;
    let server = TestServer::start_over(carrier, &[]).await;
    let mut speaker = server.connect().await;
    let mut ending = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut client = server.connect().await;
        let headers = "ack:client-individual\nprefetch-count:1\n";
        for id in 0..EACH {
            client
                .subscribe(&id.to_string(), "/queue/work", headers)
                .await;
        }
        ending.push(client);
    }
    let all = CONNECTIONS * EACH;
    for number in 0..all {
        publish(&mut speaker, "/queue/work", &number.to_string()).await;
    }
    for client in &mut ending {
        for _ in 0..EACH {
            assert_eq!(client.frame().await.command, Command::Message);
        }
    }
    // It has one letter under way, and so can take none of the others yet.
    let mut stays = server.connect().await;
    let headers = "ack:client-individual\nprefetch-count:1\n";
    stays.subscribe("s", "/queue/work", headers).await;
    publish(&mut speaker, "/queue/work", "newer").await;
    let mut frame = hears(&mut stays, "newer").await;
    drop(ending);
    let mut heard = Vec::new();
    for _ in 0..all {
        ack(&mut stays, "ACK", &frame).await;
        frame = stays.frame().await;
        heard.push(String::from_utf8(frame.body.to_vec()).unwrap());
    }
    heard.sort_by_key(|number| number.parse::<usize>().unwrap());
    assert!(heard.iter().map(|n| n.parse::<usize>().unwrap()).eq(0..all));
    hears_nothing(&mut stays).await;
}

#[tokio::test]
async fn a_queue_waits_for_whoever_has_a_window() {
    let server = TestServer::start(&[]).await;
    let mut speaker = server.connect().await;
    let (mut slow, mut quick) = (server.connect().await, server.connect().await);
    let headers = "ack:client\nprefetch-count:1\n";
    slow.subscribe("w", "/queue/work", headers).await;
    quick.subscribe("w", "/queue/work", headers).await;
    for n in 0..6 {
        publish(&mut speaker, "/queue/work", &n.to_string()).await;
    }
    let held = hears(&mut slow, "0").await;
    for n in 1..6 {
        let frame = hears(&mut quick, &n.to_string()).await;
        ack(&mut quick, "ACK", &frame).await;
    }
    hears_nothing(&mut quick).await;
    hears_nothing(&mut slow).await;
    // Who alone is there gets back what it gave back.
    drop(quick);
    ack(&mut slow, "NACK", &held).await;
    hears(&mut slow, "0").await;
}

#[tokio::test]
async fn a_transaction_is_one_append() {
    let server = TestServer::start(&[]).await;
    let (one, two) = (server.make_room("하나").await, server.make_room("둘").await);
    let mut reader = server.connect().await;
    reader.subscribe("r", &room_destination(&one), "").await;
    reader.subscribe("n", "/topic/news", "").await;
    let mut client = server.connect().await;
    client.send("BEGIN\ntransaction:t\nreceipt:1\n\n\0").await;
    client.receipt("1").await;
    for (room, text) in [(&one, "가"), (&two, "나"), (&one, "다")] {
        let body = talk(room, "철수", text);
        let destination = room_destination(room);
        client
            .send(&format!(
                "SEND\ndestination:{destination}\ntransaction:t\nreceipt:2\n\n{body}\0"
            ))
            .await;
        client.receipt("2").await;
    }
    client
        .send("SEND\ndestination:/topic/news\ntransaction:t\n\nnews\0")
        .await;
    hears_nothing(&mut reader).await;
    assert!(server.history(&one, "").await.is_empty());
    client
        .send("COMMIT\ntransaction:t\nreceipt:3\n\n\0SEND\ndestination:/topic/news\n\nlater\0")
        .await;
    client.receipt("3").await;
    let mut heard = Vec::new();
    for frame in offsets(&mut reader, 4).await {
        heard.push(String::from_utf8(frame.body.to_vec()).unwrap());
    }
    let place = |text: &str| heard.iter().position(|body| body.contains(text)).unwrap();
    assert!(place("가") < place("다"), "{heard:?}");
    assert!(place("news") < place("later"), "{heard:?}");
    assert_eq!(server.history(&one, "").await.len(), 2);
    assert_eq!(server.history(&two, "").await.len(), 1);
}

#[tokio::test]
async fn one_refusal_refuses_all_of_a_transaction() {
    let server = TestServer::start(&[]).await;
    let room = server.make_room("모두 아니면 아무것도").await;
    let destination = room_destination(&room);
    let mut client = server.connect().await;
    client.subscribe("e", "/user/queue/errors", "").await;
    let mut other = server.connect().await;
    other.talk(&room, "철수", "먼저", "o").await;
    other.receipt("o").await;
    let taken = server.history(&room, "").await[0].id;
    // By what can be told of it alone, and by what only the log knows.
    let blank = talk(&room, "영희", " ");
    let same_id = format!(r#"{{"type":"TALK","sender":"영희","message":"x","id":"{taken}"}}"#);
    for (bad, status) in [(blank, 422), (same_id, 409)] {
        client.send("BEGIN\ntransaction:t\n\n\0").await;
        for body in [
            &talk(&room, "영희", "좋아"),
            &talk(&room, "영희", "또"),
            &bad,
        ] {
            client
                .send(&format!(
                    "SEND\ndestination:{destination}\ntransaction:t\n\n{body}\0"
                ))
                .await;
        }
        client
            .send("SEND\ndestination:/topic/news\ntransaction:t\n\nnews\0")
            .await;
        client.send("COMMIT\ntransaction:t\nreceipt:c\n\n\0").await;
        let frame = client.frame().await;
        assert_eq!(frame.command, Command::Message, "{frame:?}");
        let refusal: serde_json::Value = serde_json::from_slice(&frame.body).unwrap();
        assert_eq!(refusal["status"], status, "{refusal}");
        assert_eq!(refusal["index"], 2, "{refusal}");
        assert_eq!(refusal["receiptId"], "c");
        assert_eq!(refusal["destination"], destination);
        assert_eq!(server.history(&room, "").await.len(), 1);
    }
    // Where nobody reads the errors, the COMMIT is answered by ERROR.
    let mut client = server.connect().await;
    client
        .send(&format!(
            "BEGIN\ntransaction:t\n\n\0SEND\ndestination:{destination}\ntransaction:t\n\n{{}}\0\
             COMMIT\ntransaction:t\nreceipt:c\n\n\0"
        ))
        .await;
    let frame = client.frame().await;
    assert_eq!(frame.command, Command::Error);
    let body = str::from_utf8(&frame.body).unwrap();
    assert!(
        body.starts_with("The COMMIT frame was refused: message 0 "),
        "{body}"
    );
    assert_eq!(header(&frame, "receipt-id"), "c");
    assert_eq!(client.end().await.code, Some(1002));
}

#[tokio::test]
async fn what_is_not_committed_is_never_seen() {
    let server = TestServer::start(&[]).await;
    let room = server.make_room("지나간 말").await;
    let destination = room_destination(&room);
    let body = talk(&room, "철수", "아니");
    let sent = format!(
        "BEGIN\ntransaction:t\n\n\0SEND\ndestination:{destination}\ntransaction:t\n\n{body}\0"
    );
    let mut client = server.connect().await;
    client
        .send(&format!("{sent}ABORT\ntransaction:t\nreceipt:a\n\n\0"))
        .await;
    client.receipt("a").await;
    client
        .send(&format!("{sent}DISCONNECT\nreceipt:d\n\n\0"))
        .await;
    client.receipt("d").await;
    let mut client = server.connect().await;
    client.send(&sent).await;
    drop(client);
    tokio::time::sleep(A_WHILE).await;
    assert!(server.history(&room, "").await.is_empty());
}

#[tokio::test]
async fn an_acknowledgement_in_a_transaction_counts_at_its_commit() {
    let server = TestServer::start(&[]).await;
    let mut speaker = server.connect().await;
    let mut worker = server.connect().await;
    let headers = "ack:client-individual\nprefetch-count:1\n";
    worker.subscribe("w", "/queue/work", headers).await;
    for n in ["0", "1", "2"] {
        publish(&mut speaker, "/queue/work", n).await;
    }
    let mut frame = hears(&mut worker, "0").await;
    for (end, next) in [("ABORT", None), ("COMMIT", Some("1"))] {
        let id = header(&frame, "ack").to_owned();
        worker
            .send(&format!(
                "BEGIN\ntransaction:t\n\n\0ACK\nid:{id}\ntransaction:t\nreceipt:k\n\n\0"
            ))
            .await;
        worker.receipt("k").await;
        hears_nothing(&mut worker).await;
        worker.send(&format!("{end}\ntransaction:t\n\n\0")).await;
        match next {
            Some(next) => frame = hears(&mut worker, next).await,
            None => hears_nothing(&mut worker).await,
        }
    }
    // With something to store, and the socket gone right after it.
    let room = server.make_room("일").await;
    let (id, body) = (header(&frame, "ack"), talk(&room, "일꾼", "다 했음"));
    let destination = room_destination(&room);
    let mut next = server.connect().await;
    next.subscribe("w", "/queue/work", headers).await;
    hears(&mut next, "2").await;
    worker
        .send(&format!(
            "BEGIN\ntransaction:t\n\n\0ACK\nid:{id}\ntransaction:t\n\n\0\
             SEND\ndestination:{destination}\ntransaction:t\n\n{body}\0COMMIT\ntransaction:t\n\n\0"
        ))
        .await;
    drop(worker);
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(server.history(&room, "").await.len(), 1);
    // Acknowledged, so that it goes to nobody else.
    next.send("UNSUBSCRIBE\nid:w\n\n\0").await;
    next.subscribe("x", "/queue/work", "").await;
    hears_nothing(&mut next).await;
}

#[tokio::test]
async fn patterns_and_closed_destinations_are_refused_with_words() {
    let server = TestServer::start(&[]).await;
    let closed = TestServer::start(&["--plain-destinations", "false"]).await;
    for (server, destination, message) in [
        (&server, "/topic/**", "patterns are not offered"),
        (&server, "/topic/chat/room/*", "patterns are not offered"),
        (&server, "/queue/a?", "patterns are not offered"),
        (&server, "/topic/chat/x", "no such destination"),
        (&server, "/exchange/x", "no such destination"),
        (&closed, "/topic/x", "no such destination"),
        (&closed, "/queue/x", "no such destination"),
    ] {
        let mut client = server.connect().await;
        client
            .send(&format!(
                "SUBSCRIBE\nid:s\ndestination:{destination}\nreceipt:r\n\n\0"
            ))
            .await;
        let error = client.frame().await;
        assert_eq!(error.command, Command::Error, "{destination}");
        assert_eq!(header(&error, "message"), message, "{destination}");
        assert_eq!(header(&error, "receipt-id"), "r");
        assert_eq!(client.end().await.code, Some(1002));

        let mut client = server.connect().await;
        client.subscribe("e", "/user/queue/errors", "").await;
        client
            .send(&format!("SEND\ndestination:{destination}\n\nx\0"))
            .await;
        let refusal = client.frame().await;
        let refusal: serde_json::Value = serde_json::from_slice(&refusal.body).unwrap();
        assert_eq!(refusal["status"], 404, "{refusal}");
        assert_eq!(refusal["destination"], destination);
    }
}

async fn who_does_not_take_what_is_not_stored_is_cut_off_alone(carrier: Carrier) {
    let server = TestServer::start_over(carrier, &["--slow-reader-bytes-max", "20000"]).await;
    let mut speaker = server.connect().await;
    let mut slow = server.connect().await;
    let mut quick = server.connect().await;
    // A window that stays shut holds back as a slow socket does.
    let headers = "ack:client\nprefetch-count:1\n";
    slow.subscribe("s", "/topic/news", headers).await;
    quick.subscribe("q", "/topic/news", "").await;
    // Each weighs 1,000 with its header and what is counted besides: one is under way, and 20 are at the
    // limit.
    let body = "x".repeat(1_000 - 256 - 16 - "destination/topic/news".len());
    for _ in 0..21 {
        publish(&mut speaker, "/topic/news", &body).await;
        hears(&mut quick, &body).await;
    }
    hears(&mut slow, &body).await;
    hears_nothing(&mut slow).await;
    publish(&mut speaker, "/topic/news", &body).await;
    hears(&mut quick, &body).await;
    let end = slow.end().await;
    assert_eq!(end.code, Some(4500), "{end:?}");
    assert!(end.reason.starts_with("slow reader"), "{end:?}");

    // A queue that nobody takes from is bounded, too: whose turn it is goes, then nobody is left.
    let mut slow = server.connect().await;
    slow.subscribe("s", "/queue/work", headers).await;
    for _ in 0..22 {
        publish(&mut speaker, "/queue/work", &body).await;
    }
    hears(&mut slow, &body).await;
    assert_eq!(slow.end().await.code, Some(4500));
    let mut next = server.connect().await;
    next.subscribe("n", "/queue/work", "").await;
    hears_nothing(&mut next).await;
}
