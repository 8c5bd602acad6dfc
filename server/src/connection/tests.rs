//! The loop itself, polled by hand: how often it goes round, and that nothing waits for a wake-up that
//! does not come.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Waker;

use shared::chat::{RoomId, RoomName};
use tempfile::TempDir;
use time::OffsetDateTime;

use super::posts::Posts;
use super::*;
use crate::chat::Feeds;
use crate::chat::plain::{Bounds, Plain, Spread};
use crate::guest::Guests;
use crate::log::sqlite::{Options, Sqlite};
use crate::log::{Done, Observer as _, Room};
use crate::metrics::TransportKind;

/// A peer whose payloads wait, and which takes all that is written, or none of it any more.
#[derive(Default)]
struct Peer {
    input: VecDeque<Input>,
    /// How often it was asked for a payload: once in each round.
    rounds: usize,
    /// Signalled in that round.
    wakes_in: Option<(usize, Arc<Signal>)>,
    out: Vec<u8>,
    pending: usize,
    is_broken: bool,
    /// It takes nothing for now.
    is_stuck: bool,
    /// It has gone, which shows once its payloads are taken.
    has_ended: bool,
}

impl Transport for Peer {
    const KIND: TransportKind = TransportKind::WebSocket;
    const IS_TEXT: bool = true;

    fn poll_payload(&mut self, _: &mut Context<'_>) -> Poll<Input> {
        self.rounds += 1;
        if let Some((round, signal)) = &self.wakes_in
            && *round == self.rounds
        {
            signal.wake();
        }
        self.input.pop_front().map_or(Poll::Pending, Poll::Ready)
    }

    fn is_gone(&mut self) -> bool {
        self.is_broken || self.has_ended
    }

    fn admit(&mut self) {}

    fn push(&mut self, frame: &[&[u8]]) {
        let before = self.out.len();
        Self::frame(frame, &mut self.out);
        self.pending += self.out.len() - before;
    }

    fn push_binary(&mut self, frame: &[&[u8]]) {
        self.push(frame);
    }

    fn frame(frame: &[&[u8]], out: &mut Vec<u8>) {
        frame.iter().for_each(|piece| out.extend_from_slice(piece));
    }

    fn push_framed(&mut self, frames: Bytes) {
        self.push(&[&frames]);
    }

    fn ping(&mut self) {}

    fn close(&mut self, _: u16, _: &str) {}

    fn pending(&self) -> usize {
        self.pending
    }

    fn taken(&self) -> u64 {
        (self.out.len() - self.pending) as u64
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_broken {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if self.is_stuck {
            return Poll::Pending;
        }
        self.pending = 0;
        Poll::Ready(Ok(()))
    }
}

#[derive(Default)]
struct Wakes(AtomicUsize);

impl std::task::Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A connection that is polled by hand.
struct Bench {
    connection: Connection<Peer>,
    wakes: Arc<Wakes>,
    room: Arc<Room>,
    _data: TempDir,
}

impl Bench {
    async fn new(rate: u32) -> Self {
        let data = tempfile::tempdir().unwrap();
        let feeds = Arc::new(Feeds::default());
        let options = Options::default();
        let log = Sqlite::open(data.path(), options, Arc::clone(&feeds) as Arc<_>).unwrap();
        let chat = Arc::new(Chat {
            log: Arc::new(log),
            feeds,
            plain: Some(Plain::new(usize::MAX)),
            bounds: Arc::new(Bounds::new(64 << 20, 512 << 10)),
            ends: tokio::sync::Semaphore::new(1),
        });
        let room = chat.create_room(RoomName::parse("r").unwrap());
        let room = room.await.unwrap();
        let settings = Settings {
            stomp: Arc::default(),
            message_rate: std::num::NonZeroU32::new(rate),
            message_burst: std::num::NonZeroU32::MIN,
            slow_reader_bytes_max: 512 << 10,
            stall_timeout: Duration::from_secs(30),
        };
        let guests = Guests::open(data.path(), "/").unwrap();
        let hub = Arc::new(Hub::new(settings, guests));
        let mailbox = Arc::default();
        let mut bench = Bench {
            connection: Connection::new(Peer::default(), chat, hub, mailbox, 1, Visitor::Program),
            wakes: Arc::default(),
            room,
            _data: data,
        };
        bench.send("CONNECT\naccept-version:1.2\nhost:chat\n\n\0");
        while bench.poll().is_pending() && bench.takes_wake() {}
        bench.peer().rounds = 0;
        bench
    }

    fn peer(&mut self) -> &mut Peer {
        &mut self.connection.transport
    }

    fn send(&mut self, frames: &str) {
        let payload = Input::Payload(Bytes::copy_from_slice(frames.as_bytes()));
        self.peer().input.push_back(payload);
    }

    fn poll(&mut self) -> Poll<()> {
        let waker = Waker::from(Arc::clone(&self.wakes));
        self.connection.poll(&mut Context::from_waker(&waker))
    }

    /// Whether it was woken since this was asked.
    fn takes_wake(&self) -> bool {
        self.wakes.0.swap(0, Ordering::SeqCst) > 0
    }

    /// Polls it whenever it is woken, as a runtime does, until this is so; the number of polls.
    async fn poll_until(&mut self, mut is_so: impl FnMut(&mut Self, Poll<()>) -> bool) -> usize {
        for polls in 1..10_000 {
            let poll = self.poll();
            if is_so(self, poll) {
                return polls;
            }
            assert!(poll.is_pending(), "it has ended");
            let begin = Instant::now();
            while !self.takes_wake() {
                assert!(begin.elapsed() < Duration::from_secs(20), "it is not woken");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        panic!("it is woken again and again");
    }

    fn frames(&mut self, command: &str) -> usize {
        let out = String::from_utf8_lossy(&self.peer().out).into_owned();
        out.matches(&format!("{command}\n")).count()
    }

    fn talk(&self, receipt: usize) -> String {
        format!(
            "SEND\ndestination:/topic/chat/room/{}\nreceipt:{receipt}\n\n\
             {{\"type\":\"TALK\",\"sender\":\"a\",\"message\":\"x\"}}\0",
            self.room.id
        )
    }
}

#[tokio::test]
async fn a_wake_during_a_poll_costs_one_more_round_and_no_poll() {
    let mut bench = Bench::new(0).await;
    let signal = Arc::clone(&bench.connection.mailbox.signal);
    assert!(bench.poll().is_pending());
    assert_eq!(bench.peer().rounds, 1);
    for round in [2, 4] {
        bench.peer().wakes_in = Some((round, Arc::clone(&signal)));
        assert!(bench.poll().is_pending());
        assert_eq!(bench.peer().rounds, round + 1);
        assert!(!bench.takes_wake(), "it was awake");
    }
    signal.wake();
    signal.wake();
    assert_eq!(bench.wakes.0.swap(0, Ordering::SeqCst), 1);
    assert!(bench.poll().is_pending());
    assert_eq!(bench.peer().rounds, 6);
    assert!(!bench.takes_wake());
}

#[tokio::test]
async fn a_backlog_of_a_feed_is_delivered_without_another_wake() {
    const ROOMS: u128 = 2_000;
    let mut bench = Bench::new(0).await;
    let feeds = Arc::clone(&bench.connection.chat.feeds);
    // The room of all tests.
    feeds.tick(Instant::now());
    bench.send("SUBSCRIBE\nid:0\ndestination:/topic/chat/rooms\n\n\0");
    assert!(bench.poll().is_pending());
    for number in 1..=ROOMS {
        let name = RoomName::parse("방").unwrap();
        let id = RoomId(Uuid::from_u128(number));
        let room = Room::new(
            2,
            id,
            name,
            OffsetDateTime::UNIX_EPOCH,
            Default::default(),
            Arc::default(),
        );
        feeds.made(&Arc::new(room));
    }
    assert!(!bench.takes_wake(), "who commits wakes nobody");
    feeds.tick(Instant::now());
    assert!(bench.takes_wake());
    bench
        .poll_until(|bench, _| bench.frames("MESSAGE") == ROOMS as usize)
        .await;
    // Nor does it go round for nothing when all is delivered.
    while bench.takes_wake() {
        assert!(bench.poll().is_pending());
    }
    bench.peer().rounds = 0;
    assert!(bench.poll().is_pending());
    assert_eq!(bench.peer().rounds, 1);
}

#[tokio::test]
async fn a_payload_of_thousands_of_frames_leaves_others_their_turn() {
    const FRAMES: usize = 2_000;
    let mut bench = Bench::new(0).await;
    let plain = "SEND\ndestination:/topic/a\nreceipt:r\n\n\0";
    let subscription = "SUBSCRIBE\nid:1\ndestination:/topic/b\nreceipt:r\n\n\0\
                        UNSUBSCRIBE\nid:1\nreceipt:r\n\n\0";
    let transaction = "BEGIN\ntransaction:t\nreceipt:r\n\n\0\
                       ABORT\ntransaction:t\nreceipt:r\n\n\0";
    for frames in [plain, subscription, transaction] {
        let count = FRAMES * frames.matches('\0').count();
        let payload = frames.repeat(FRAMES);
        bench.peer().out.clear();
        bench.send(&payload);
        bench.peer().input.push_back(Input::Alive);
        assert!(bench.poll().is_pending());
        let first = bench.frames("RECEIPT");
        assert!((1..=WORK_MAX).contains(&first), "{first} in one poll");
        assert_eq!(bench.peer().input.len(), 1, "more was read meanwhile");
        assert_eq!(bench.wakes.0.swap(0, Ordering::SeqCst), 1);
        let polls = bench
            .poll_until(|bench, _| bench.frames("RECEIPT") == count)
            .await;
        assert!(polls <= count / WORK_MAX + 1, "{polls}");
        while bench.takes_wake() {
            assert!(bench.poll().is_pending());
        }
        assert!(bench.peer().input.is_empty());
    }
}

#[tokio::test]
async fn what_came_before_the_peer_was_lost_is_done() {
    const FRAMES: usize = 3_000;
    for is_broken in [false, true] {
        let mut bench = Bench::new(0).await;
        let payload: String = (0..FRAMES).map(|receipt| bench.talk(receipt)).collect();
        bench.peer().is_broken = is_broken;
        bench.send(&payload);
        if !is_broken {
            bench.peer().input.push_back(Input::End);
        }
        bench.poll_until(|_, poll| poll.is_ready()).await;
        bench.connection.chat.log.stop();
        assert_eq!(bench.room.end(), FRAMES as u64 + 1, "broken: {is_broken}");
    }
}

#[tokio::test]
async fn a_lost_peer_whose_message_waits_for_its_turn_is_not_polled_again_and_again() {
    let mut bench = Bench::new(5).await;
    let payload: String = (0..3).map(|receipt| bench.talk(receipt)).collect();
    bench.peer().is_broken = true;
    bench.send(&payload);
    let polls = bench.poll_until(|_, poll| poll.is_ready()).await;
    assert!(polls < 20, "{polls} polls");
    bench.connection.chat.log.stop();
    assert_eq!(bench.room.end(), 4);
}

#[tokio::test]
async fn a_peer_that_leaves_while_it_is_not_read_is_noticed() {
    let mut bench = Bench::new(1).await;
    let payload: String = (0..10).map(|receipt| bench.talk(receipt)).collect();
    bench.send(&payload);
    let is_held = |bench: &mut Bench, _| bench.connection.held.is_some();
    bench.poll_until(is_held).await;
    bench.peer().has_ended = true;
    bench.peer().input.push_back(Input::End);
    let begin = Instant::now();
    bench.poll_until(|_, poll| poll.is_ready()).await;
    assert!(begin.elapsed() < Duration::from_secs(5));
    bench.connection.chat.log.stop();
    // One, and three seconds of the rate.
    assert_eq!(bench.room.end(), 5);
}

#[tokio::test]
async fn what_a_connection_waits_for_is_bounded() {
    let mut bench = Bench::new(0).await;
    let log = Arc::clone(&bench.connection.chat.log);
    bench.send(&bench.talk(0));
    bench
        .poll_until(|bench, _| bench.frames("RECEIPT") == 1)
        .await;
    // All threads of the log are held.
    let (hold, held) = std::sync::mpsc::channel::<()>();
    let held = Arc::new(std::sync::Mutex::new(held));
    let wait = || {
        let held = Arc::clone(&held);
        move || assert!(lock(&held).recv().is_err())
    };
    for _ in 0..2 {
        let wait = wait();
        let range = crate::log::Range {
            before: None,
            after: None,
            limit: 1,
        };
        log.history(&bench.room, range, crate::log::Answer::new(move |_| wait()));
    }
    log.create_room(RoomName::parse("held").unwrap(), {
        let wait = wait();
        crate::log::Answer::new(move |_| wait())
    });
    tokio::time::sleep(Duration::from_millis(100)).await;

    let destination = format!("/topic/chat/room/{}", bench.room.id);
    for id in 0..1_000 {
        if id > 0 {
            bench.send(&format!("UNSUBSCRIBE\nid:{}\n\n\0", id - 1));
        }
        let offset = ["first", "timestamp=0"][id % 2];
        bench.send(&format!(
            "SUBSCRIBE\nid:{id}\ndestination:{destination}\nx-stream-offset:{offset}\n\n\0"
        ));
        assert!(bench.poll().is_pending());
        assert!(bench.connection.subscriptions.reads <= cursor::READS_MAX);
    }
    assert_eq!(bench.connection.subscriptions.reads, cursor::READS_MAX);

    let talk = bench.talk(1).replace("receipt:1\n", "");
    bench.send(&talk.repeat(UNANSWERED_MAX + 1_000));
    while bench.poll().is_pending() && bench.takes_wake() {}
    assert_eq!(bench.connection.unanswered, UNANSWERED_MAX);
    assert!(!bench.connection.is_reading());

    drop(hold);
    // What waited goes on: the last subscription shows everything.
    let all = UNANSWERED_MAX + 1_001;
    bench
        .poll_until(|bench, _| bench.frames("MESSAGE") == all)
        .await;
    assert_eq!(bench.connection.subscriptions.reads, 0);
    assert_eq!(bench.connection.unanswered, 0);
}

#[tokio::test]
async fn a_peer_that_takes_nothing_holds_few_pages_and_gets_all_in_the_end() {
    const CURSORS: usize = 20;
    const MESSAGES: usize = 150;
    let mut bench = Bench::new(0).await;
    let text = "x".repeat(2_000);
    for number in 0..MESSAGES {
        let talk = bench.talk(number).replace("\"x\"", &format!("\"{text}\""));
        bench.send(&talk);
    }
    bench
        .poll_until(|bench, _| bench.frames("RECEIPT") == MESSAGES)
        .await;
    // Nothing is in memory any more.
    let later = Instant::now() + Duration::from_secs(60);
    bench.connection.chat.log.tidy(later);
    let destination = format!("/topic/chat/room/{}", bench.room.id);
    bench.peer().out.clear();
    bench.peer().is_stuck = true;
    for id in 0..CURSORS {
        bench.send(&format!(
            "SUBSCRIBE\nid:{id}\ndestination:{destination}\nx-stream-offset:offset={}\n\n\0",
            id + 1
        ));
    }
    let until = Instant::now() + Duration::from_millis(500);
    let mut most = 0;
    while Instant::now() < until {
        assert!(bench.poll().is_pending());
        most = most.max(bench.connection.subscriptions.pages());
        assert!(bench.connection.subscriptions.reads <= cursor::READS_MAX);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!((1..=cursor::READS_MAX).contains(&most), "{most} pages");
    assert!(bench.peer().pending >= FILL_BYTES);

    bench.peer().is_stuck = false;
    let all: usize = (0..CURSORS).map(|id| MESSAGES - id).sum();
    bench
        .poll_until(|bench, _| bench.frames("MESSAGE") == all)
        .await;
    assert_eq!(bench.connection.subscriptions.reads, 0);
}

#[tokio::test]
async fn a_subscription_whose_client_takes_its_time_holds_up_no_other() {
    const STILL: usize = 2 * cursor::READS_MAX;
    const MESSAGES: usize = 50;
    let mut bench = Bench::new(0).await;
    for number in 0..MESSAGES {
        bench.send(&bench.talk(number));
    }
    bench
        .poll_until(|bench, _| bench.frames("RECEIPT") == MESSAGES)
        .await;
    let later = Instant::now() + Duration::from_secs(60);
    bench.connection.chat.log.tidy(later);
    let destination = format!("/topic/chat/room/{}", bench.room.id);
    bench.peer().out.clear();
    for id in 0..=STILL {
        let ack = match id {
            STILL => "ack:auto",
            _ => "ack:client\nprefetch-count:1",
        };
        bench.send(&format!(
            "SUBSCRIBE\nid:{id}\ndestination:{destination}\n{ack}\nx-stream-offset:first\n\n\0"
        ));
    }
    bench
        .poll_until(|bench, _| bench.frames("MESSAGE") == STILL + MESSAGES)
        .await;
    assert_eq!(bench.connection.subscriptions.reads, 0);
}

#[tokio::test]
async fn connections_that_end_at_once_with_many_subscriptions_take_turns() {
    const CONNECTIONS: usize = 50;
    const EACH: usize = 20;
    let bench = Bench::new(0).await;
    let chat = &bench.connection.chat;
    let plain = chat.plain.as_ref().unwrap();
    let make = || {
        let reader = Reader::new(Arc::default(), Arc::clone(&chat.bounds));
        let mut posts = Posts::new(Arc::clone(chat), Arc::new(reader));
        for _ in 0..EACH {
            let added = posts.add_plain(Default::default(), None, "/queue/a", Spread::One, Some(1));
            assert!(added.is_ok());
        }
        posts
    };
    let mut connections: Vec<_> = (0..CONNECTIONS).map(|_| make()).collect();
    let mut left = plain.subscribers("/queue/a");
    assert_eq!(left, CONNECTIONS * EACH);
    connections.iter_mut().for_each(Posts::clear);
    for turn in 0.. {
        assert!(turn < 1_000 * CONNECTIONS, "{left} do not end");
        if left == 0 {
            break;
        }
        tokio::task::yield_now().await;
        let after = plain.subscribers("/queue/a");
        assert!(left - after <= EACH, "{} at once", left - after);
        left = after;
    }
}

/// Panics at its first payload, or waits for ever.
struct Fault {
    panics: bool,
}

impl Transport for Fault {
    const KIND: TransportKind = TransportKind::WebSocket;
    const IS_TEXT: bool = true;

    fn poll_payload(&mut self, _: &mut Context<'_>) -> Poll<Input> {
        assert!(!self.panics, "injected");
        Poll::Pending
    }

    fn is_gone(&mut self) -> bool {
        false
    }

    fn admit(&mut self) {}

    fn push(&mut self, _: &[&[u8]]) {}

    fn push_binary(&mut self, _: &[&[u8]]) {}

    fn frame(_: &[&[u8]], _: &mut Vec<u8>) {}

    fn push_framed(&mut self, _: Bytes) {}

    fn ping(&mut self) {}

    fn close(&mut self, _: u16, _: &str) {}

    fn pending(&self) -> usize {
        0
    }

    fn taken(&self) -> u64 {
        0
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn a_panic_or_an_abort_frees_the_names_and_the_hub() {
    for panics in [true, false] {
        let bench = Bench::new(0).await;
        let (chat, hub) = (&bench.connection.chat, &bench.connection.hub);
        // The name of the session that the hub numbers next.
        let guest = |number: u128| Some(Uuid::from_u128(number));
        let talk = |session, guest| {
            let (sender, told) = tokio::sync::oneshot::channel();
            let record = crate::log::Record {
                origin: Origin { session, guest },
                messages: vec![shared::chat::NewMessage {
                    room_id: bench.room.id,
                    sender: shared::chat::Sender::parse("a").unwrap(),
                    body: shared::chat::NewBody::Talk(shared::chat::Text::parse("x").unwrap()),
                    id: None,
                }],
            };
            let done = Done::new(move |outcome| drop(sender.send(outcome)));
            assert!(chat.log.append(record, done, &Arc::default()).is_ok());
            told
        };
        assert_eq!(talk(1, guest(1)).await.unwrap(), Outcome::Appended);
        let refused = talk(2, guest(2)).await.unwrap();
        assert!(matches!(refused, Outcome::Refused { .. }), "{refused:?}");
        let running = run(
            Fault { panics },
            Arc::clone(chat),
            Arc::clone(hub),
            Visitor::Known(Uuid::from_u128(1)),
        );
        let running = tokio::spawn(running);
        tokio::task::yield_now().await;
        running.abort();
        let ended = running.await.unwrap_err();
        assert_eq!(ended.is_panic(), panics);
        assert_eq!(talk(2, guest(2)).await.unwrap(), Outcome::Appended);
        let drained = tokio::time::timeout(Duration::from_secs(20), hub.drain());
        assert!(drained.await.is_ok(), "the hub waits for who has gone");
    }
}
