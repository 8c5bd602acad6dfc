//! Peers without heart-beats: who vanished is found, who is quiet is kept.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::hostile::{handshake_at, web_socket_frame};
use crate::link::{Carrier, over_each_transport};
use crate::support::{SOON, TestServer};

over_each_transport!(who_listens_and_says_nothing_is_kept);

async fn who_listens_and_says_nothing_is_kept(carrier: Carrier) {
    let server = TestServer::start_over(carrier, &["--ping-interval-ms", "100"]).await;
    for connect in [
        "CONNECT\n\n\0",
        "CONNECT\naccept-version:1.2\n\n\0",
        "CONNECT\naccept-version:1.2\nheart-beat:10000,0\n\n\0",
        "CONNECT\naccept-version:1.2\nheart-beat:0,10000\n\n\0",
    ] {
        let mut client = server.open().await;
        client.send(connect).await;
        client.frame().await;
        let lived = tokio::time::timeout(Duration::from_millis(800), client.next()).await;
        assert!(lived.is_err(), "{connect}: {lived:?}");
    }
}

#[tokio::test]
async fn who_vanished_is_closed_and_its_name_is_free() {
    let server = TestServer::start(&["--ping-interval-ms", "200"]).await;
    let room = server.make_room("r").await;
    let vanish = async |heart_beat: &str| {
        let connect = format!("CONNECT\naccept-version:1.2\nheart-beat:{heart_beat}\n\n\0");
        let origin = format!("http://{}", server.address);
        // A browser's guest, whose name nobody else can take while it is there.
        let mut guest = server.open_with(&[("origin", &origin)]).await;
        guest.send(&connect).await;
        guest.frame().await;
        let name = heart_beat.replace(',', " ");
        guest.talk(&room, &name, "x", "r").await;
        guest.receipt("r").await;
        // From now on it does not read, and so answers no ping; nor does another, which shows them.
        let mut stream = handshake_at(server.address, "/ws/chat").await.unwrap();
        let frame = web_socket_frame(0x81, connect.len() as u64, connect.as_bytes());
        stream.write_all(&frame).await.unwrap();
        let mut said = Vec::new();
        let read = tokio::time::timeout(SOON, stream.read_to_end(&mut said)).await;
        assert!(matches!(read, Ok(Ok(_))), "{heart_beat}: {read:?}");
        let pings = said.windows(2).filter(|pair| *pair == [0x89, 0]).count();
        assert!(pings >= 2, "{heart_beat}: {pings} pings in {said:?}");
        let code = 4500_u16.to_be_bytes();
        let is_closed = said
            .windows(4)
            .any(|four| four[0] == 0x88 && four[2..] == code);
        assert!(is_closed, "{heart_beat}: {said:?}");
        tokio::time::sleep(Duration::from_millis(500)).await;
        let mut other = server.connect().await;
        other.talk(&room, &name, "mine", "o").await;
        other.receipt("o").await;
        drop(guest);
    };
    tokio::join!(
        vanish("0,0"),
        vanish("10000,0"),
        vanish("0,10000"),
        vanish("10000,10000")
    );
}
