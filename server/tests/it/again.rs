//! Clients that subscribe again under an id in use, and unsubscribe twice, as Spring lets them.

use crate::broker::{ack, header, hears, hears_nothing, publish};
use crate::link::{Carrier, over_each_transport};
use crate::support::{Client, TestServer, room_destination};

over_each_transport!(to_unsubscribe_twice_is_passed_over);

async fn to_unsubscribe_twice_is_passed_over(carrier: Carrier) {
    let server = TestServer::start_over(carrier, &[]).await;
    let mut client = server.connect().await;
    for id in ["never", "s", "s"] {
        client.subscribe("s", "/topic/x", "").await;
        for receipt in ["once", "twice"] {
            let frame = format!("UNSUBSCRIBE\nid:{id}\nreceipt:{receipt}\n\n\0");
            client.send(&frame).await;
            client.receipt(receipt).await;
        }
    }
    publish(&mut client, "/topic/x", "nobody").await;
    client.subscribe("s", "/topic/x", "").await;
    client.send("SEND\ndestination:/topic/x\n\nall\0").await;
    hears(&mut client, "all").await;
    hears_nothing(&mut client).await;
}

#[tokio::test]
async fn a_room_begins_where_the_new_subscription_says() {
    let server = TestServer::start(&[]).await;
    let room = server.make_room("r").await;
    let mut talker = server.connect().await;
    for number in 1..=5 {
        talker.talk(&room, "a", &number.to_string(), "r").await;
        talker.receipt("r").await;
    }
    let destination = room_destination(&room);
    let mut client = server.connect().await;
    let seqs = async |client: &mut Client, expected: std::ops::RangeInclusive<u64>| {
        for seq in expected {
            assert_eq!(client.message().await.seq, seq);
        }
        hears_nothing(client).await;
    };
    let windowed = "ack:client\nprefetch-count:2\nx-stream-offset:first\n";
    client.subscribe("s", &destination, windowed).await;
    seqs(&mut client, 1..=2).await;
    // The window begins anew with it.
    client.subscribe("s", &destination, windowed).await;
    seqs(&mut client, 1..=2).await;
    let from = "x-stream-offset:offset=4\n";
    client.subscribe("s", &destination, from).await;
    seqs(&mut client, 4..=5).await;
    client.subscribe("s", &destination, "").await;
    hears_nothing(&mut client).await;
    // What is said is heard once, and under another id again.
    client.subscribe("t", &destination, "").await;
    client.subscribe("t", &destination, "").await;
    talker.talk(&room, "a", "6", "r").await;
    talker.receipt("r").await;
    let mut heard = [client.frame().await, client.frame().await]
        .map(|frame| header(&frame, "subscription").to_owned());
    heard.sort();
    assert_eq!(heard, ["s", "t"]);
    hears_nothing(&mut client).await;
    client
        .send("UNSUBSCRIBE\nid:s\n\n\0UNSUBSCRIBE\nid:t\nreceipt:u\n\n\0")
        .await;
    client.receipt("u").await;
    talker.talk(&room, "a", "7", "r").await;
    talker.receipt("r").await;
    hears_nothing(&mut client).await;
}

#[tokio::test]
async fn what_a_queue_gave_the_old_subscription_goes_on_in_its_order() {
    let server = TestServer::start(&[]).await;
    let mut speaker = server.connect().await;
    let mut client = server.connect().await;
    let headers = "ack:client-individual\nprefetch-count:1\n";
    client.subscribe("w", "/queue/work", headers).await;
    for body in ["1", "2", "3"] {
        publish(&mut speaker, "/queue/work", body).await;
    }
    let first = hears(&mut client, "1").await;
    // Nobody else is there: what was not settled comes again, before what waited.
    client.subscribe("w", "/queue/work", headers).await;
    let again = hears(&mut client, "1").await;
    hears_nothing(&mut client).await;
    assert_ne!(header(&first, "ack"), header(&again, "ack"));
    // The ACK of the old one is late, and settles nothing.
    ack(&mut client, "ACK", &first).await;
    hears_nothing(&mut client).await;
    for body in ["2", "3"] {
        let frame = if body == "2" {
            again.clone()
        } else {
            hears(&mut client, "2").await
        };
        ack(&mut client, "ACK", &frame).await;
    }
    let last = hears(&mut client, "3").await;
    // Another one is there, too: it goes to whose turn it is, and is not lost.
    let mut other = server.connect().await;
    other.subscribe("w", "/queue/work", headers).await;
    client.subscribe("w", "/queue/work", "").await;
    publish(&mut speaker, "/queue/work", "4").await;
    let mut heard = [other.frame().await, client.frame().await];
    heard.sort_by_key(|frame| frame.body.clone());
    let bodies: Vec<_> = heard.iter().map(|frame| &frame.body[..]).collect();
    assert_eq!(bodies, [b"3", b"4"]);
    assert_ne!(header(&last, "message-id"), header(&heard[0], "message-id"));
}

#[tokio::test]
async fn every_kind_of_destination_is_heard_once_after_it() {
    let server = TestServer::start(&[]).await;
    let mut client = server.connect().await;
    for (id, destination) in [
        ("t", "/topic/x"),
        ("r", "/topic/chat/rooms"),
        ("e", "/user/queue/errors"),
    ] {
        for _ in 0..3 {
            client.subscribe(id, destination, "").await;
        }
    }
    client.send("SEND\ndestination:/topic/x\n\nhello\0").await;
    hears(&mut client, "hello").await;
    client.send("SEND\ndestination:/app/nowhere\n\n\0").await;
    assert_eq!(header(&client.frame().await, "subscription"), "e");
    server.make_room("r").await;
    assert_eq!(header(&client.frame().await, "subscription"), "r");
    hears_nothing(&mut client).await;
}

#[tokio::test]
async fn in_1_0_the_destination_is_the_id() {
    let server = TestServer::start(&[]).await;
    let mut client = server.open().await;
    client.send("CONNECT\n\n\0").await;
    client.frame().await;
    for receipt in ["1", "2", "3"] {
        let frame = format!("SUBSCRIBE\ndestination:/topic/x\nreceipt:{receipt}\n\n\0");
        client.send(&frame).await;
        client.receipt(receipt).await;
    }
    client.send("SEND\ndestination:/topic/x\n\nonce\0").await;
    hears(&mut client, "once").await;
    hears_nothing(&mut client).await;
    for receipt in ["4", "5"] {
        let frame = format!("UNSUBSCRIBE\ndestination:/topic/x\nreceipt:{receipt}\n\n\0");
        client.send(&frame).await;
        client.receipt(receipt).await;
    }
    publish(&mut client, "/topic/x", "nobody").await;
    hears_nothing(&mut client).await;
}
