//! Who a browser is that keeps no cookies: `x-guest` in CONNECTED and CONNECT.

use shared::stomp::{Command, Frame};

use crate::link::{Carrier, over_each_transport};
use crate::support::{Client, SOON, TestServer, request, talk};

over_each_transport!(a_browser_without_cookies_has_its_name_back);

/// Opens a session; gives CONNECTED.
pub(crate) async fn connect(
    server: &TestServer,
    headers: &[(&'static str, &str)],
    shown: Option<&str>,
) -> (Client, Frame) {
    let mut client = server.open_with(headers).await;
    let shown = shown.map_or_else(String::new, |shown| format!("x-guest:{shown}\n"));
    let frame = format!("CONNECT\naccept-version:1.2\n{shown}\n\0");
    client.send(&frame).await;
    let connected = client.frame().await;
    assert_eq!(connected.command, Command::Connected);
    client.subscribe("e", "/user/queue/errors", "").await;
    (client, connected)
}

fn guest_of(connected: &Frame) -> Option<&str> {
    connected.headers.get("x-guest")
}

/// Talks; whether it was taken, and not refused as another's name.
pub(crate) async fn talks(client: &mut Client, room: &shared::chat::ChatRoom, name: &str) -> bool {
    let body = talk(room, name, "hello");
    client
        .send(&format!(
            "SEND\ndestination:/app/chat/sendMessage\nreceipt:t\n\n{body}\0"
        ))
        .await;
    let answer = tokio::time::timeout(SOON, client.frame()).await.unwrap();
    match answer.command {
        Command::Receipt => true,
        _ => {
            let told = String::from_utf8(answer.body.to_vec()).unwrap();
            assert!(told.contains("\"status\":409"), "{told}");
            false
        }
    }
}

async fn a_browser_without_cookies_has_its_name_back(carrier: Carrier) {
    let server = TestServer::start_over(carrier, &[]).await;
    let room = server.make_room("r").await;
    let origin = format!("http://{}", server.address);
    let page = format!("{origin}/chat/room");
    // A GET of the own origin brings no `Origin`.
    let marks: &[(&'static str, &str)] = match carrier {
        Carrier::EventSource | Carrier::HtmlFile => &[("sec-fetch-site", "same-origin")],
        Carrier::Jsonp => &[("referer", &page)],
        _ => &[("origin", &origin)],
    };
    // The first stays, as a lost connection does until its end is noticed.
    let (mut ghost, connected) = connect(&server, marks, None).await;
    let mine = guest_of(&connected)
        .expect("a browser is a guest")
        .to_owned();
    assert!(talks(&mut ghost, &room, "영희").await);
    for (shown, is_mine) in [
        (None, false),
        (Some(""), false),
        (Some("x"), false),
        (
            Some(&*mine.replace(|c: char| c.is_ascii_lowercase(), "a")),
            false,
        ),
        (Some(&mine[..mine.len() - 1]), false),
        (Some(&mine[44..]), false),
        (Some(&*mine), true),
    ] {
        let (mut client, connected) = connect(&server, marks, shown).await;
        assert_eq!(
            talks(&mut client, &room, "영희").await,
            is_mine,
            "{shown:?}"
        );
        let told = guest_of(&connected).expect("it is told who it is");
        assert_eq!(told == mine, is_mine, "{shown:?}");
    }
    drop(ghost);
}

#[tokio::test]
async fn a_cookie_wins_and_programs_may_show_a_guest_too() {
    let server = TestServer::start(&[]).await;
    let room = server.make_room("r").await;
    let origin = format!("http://{}", server.address);
    let (mut first, connected) = connect(&server, &[("origin", &origin)], None).await;
    let mine = guest_of(&connected).unwrap().to_owned();
    assert!(talks(&mut first, &room, "영희").await);
    // Programs are nobody, unless they say who they are.
    let (mut program, connected) = connect(&server, &[], None).await;
    assert_eq!(guest_of(&connected), None);
    assert!(!talks(&mut program, &room, "영희").await);
    let (_, connected) = connect(&server, &[], Some("x")).await;
    assert_eq!(guest_of(&connected), None);
    // Node's fetch says `Sec-Fetch-Mode`; it is no browser for that.
    let (_, connected) = connect(&server, &[("sec-fetch-mode", "cors")], None).await;
    assert_eq!(guest_of(&connected), None);
    let (mut program, connected) = connect(&server, &[], Some(&mine)).await;
    assert_eq!(guest_of(&connected), Some(&*mine));
    assert!(talks(&mut program, &room, "영희").await);
    // Whoever brings a valid cookie is its guest, whatever is shown, and is told nothing.
    let info = request(server.address, "GET", "/ws/chat/info", &[], "").await;
    let cookie = info
        .header("set-cookie")
        .unwrap()
        .split(';')
        .next()
        .unwrap()
        .to_owned();
    let headers = [("origin", &*origin), ("cookie", &*cookie)];
    let (mut other, connected) = connect(&server, &headers, Some(&mine)).await;
    assert_eq!(guest_of(&connected), None);
    assert!(!talks(&mut other, &room, "영희").await);
    assert!(talks(&mut other, &room, "철수").await);
    // A cookie that is not valid is none.
    let headers = [("origin", &*origin), ("cookie", "sarangbang_guest=x")];
    let (mut back, connected) = connect(&server, &headers, Some(&mine)).await;
    assert_eq!(guest_of(&connected), Some(&*mine));
    assert!(talks(&mut back, &room, "영희").await);
}

#[tokio::test]
async fn a_guest_outlives_the_server() {
    let server = TestServer::start(&[]).await;
    let origin = format!("http://{}", server.address);
    let (_, connected) = connect(&server, &[("origin", &origin)], None).await;
    let mine = guest_of(&connected).unwrap().to_owned();
    let server = TestServer::start_in(server.stop().await, &[]).await;
    let (_, connected) = connect(&server, &[], Some(&mine)).await;
    assert_eq!(guest_of(&connected), Some(&*mine));
    // Another server's is nobody's here.
    let elsewhere = TestServer::start(&[]).await;
    let (_, connected) = connect(&elsewhere, &[], Some(&mine)).await;
    assert_eq!(guest_of(&connected), None);
}
