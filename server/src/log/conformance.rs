//! What every [`Log`] must keep: one suite, run against each implementation.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use shared::chat::{
    ChatMessage, MessageId, MessageType, NewBody, NewMessage, RoomName, Sender, Text,
};
use time::OffsetDateTime;
use uuid::Uuid;

use super::answer::{Answer, Failing};
use super::{
    Done, Full, Log, Observer, Origin, Outcome, Presence, Range, Read, Reason, Record, Room,
    SessionNumber, Signal, StoreError,
};

/// Opens the log that is kept in a directory; the one before it has been stopped.
pub(super) type Open = fn(&Path) -> Box<dyn Log>;

/// How long anything may take that is expected to happen.
const SOON: Duration = Duration::from_secs(20);

/// How long somebody is present who is away: [`Open`] sees to it.
pub(super) const GRACE: Duration = Duration::from_secs(2);

/// Less than any time that is measured.
const SHORTLY: Duration = Duration::from_millis(50);

/// Watches nothing.
pub(super) struct Nobody;

impl Observer for Nobody {
    fn made(&self, _: &Arc<Room>) {}
    fn changed(&self, _: &Arc<Room>) {}
    fn presence(&self, _: &Arc<Room>, _: Presence) {}
}

/// Runs all of the suite, each case in a directory of its own.
pub(super) fn run(open: Open) {
    let cases: [(&str, fn(Open, &Path)); 14] = [
        ("one order for everybody", one_order_for_everybody),
        (
            "a record is whole or not at all",
            a_record_is_whole_or_not_at_all,
        ),
        (
            "the same id is the same message",
            the_same_id_is_the_same_message,
        ),
        (
            "a repeat is acknowledged whoever holds the name",
            a_repeat_is_acknowledged,
        ),
        (
            "a session's end frees its names",
            a_sessions_end_frees_its_names,
        ),
        ("who stays away has left", who_stays_away_has_left),
        ("who is back has not left", who_is_back_has_not_left),
        (
            "who was present is so after a restart",
            who_was_present_is_so_after_a_restart,
        ),
        ("history is bounded", history_is_bounded),
        (
            "pages and the tail say the same",
            pages_and_the_tail_say_the_same,
        ),
        (
            "a full log gives back and wakes",
            a_full_log_gives_back_and_wakes,
        ),
        (
            "a panic fails what waits and what comes",
            a_panic_fails_what_waits_and_what_comes,
        ),
        ("a panic of a read fails it alone", a_panic_of_a_read),
        (
            "what was acknowledged is there after a stop",
            what_was_acknowledged_is_there,
        ),
    ];
    for (name, case) in cases {
        println!("{name}");
        let directory = tempfile::tempdir().unwrap();
        case(open, directory.path());
    }
}

pub(super) fn program(session: SessionNumber) -> Origin {
    Origin {
        session,
        guest: None,
    }
}

fn browser(session: SessionNumber, guest: u128) -> Origin {
    Origin {
        session,
        guest: Some(Uuid::from_u128(guest)),
    }
}

pub(super) fn talk(room: &Room, sender: &str, text: &str) -> NewMessage {
    NewMessage {
        room_id: room.id,
        sender: Sender::parse(sender).unwrap(),
        body: NewBody::Talk(Text::parse(text).unwrap()),
        id: None,
    }
}

fn with_id(mut message: NewMessage, id: u128) -> NewMessage {
    message.id = Some(MessageId(Uuid::from_u128(id)));
    message
}

fn leave(room: &Room, sender: &str) -> NewMessage {
    NewMessage {
        body: NewBody::Leave,
        ..talk(room, sender, "-")
    }
}

fn enter(room: &Room, sender: &str) -> NewMessage {
    NewMessage {
        body: NewBody::Enter,
        ..talk(room, sender, "-")
    }
}

/// An answer, and where it is told.
fn answer<T: Failing + Send + 'static>() -> (Answer<T>, Receiver<T>) {
    let (sender, receiver) = channel();
    let answer = Answer::new(move |value| drop(sender.send(value)));
    (answer, receiver)
}

/// Appends without waiting.
fn begin(log: &dyn Log, origin: Origin, messages: Vec<NewMessage>) -> Receiver<Outcome> {
    let (done, outcome) = answer();
    let appended = log.append(Record { origin, messages }, done, &Arc::default());
    assert!(appended.is_ok(), "the log is full");
    outcome
}

pub(super) fn append(log: &dyn Log, origin: Origin, messages: Vec<NewMessage>) -> Outcome {
    begin(log, origin, messages).recv_timeout(SOON).unwrap()
}

pub(super) fn make_room(log: &dyn Log, name: &str) -> Result<Arc<Room>, StoreError> {
    let (done, room) = answer();
    log.create_room(RoomName::parse(name).unwrap(), done);
    room.recv_timeout(SOON).unwrap()
}

pub(super) fn history(
    log: &dyn Log,
    room: &Arc<Room>,
    range: Range,
) -> Result<Vec<ChatMessage>, StoreError> {
    let (done, messages) = answer();
    log.history(room, range, done);
    messages.recv_timeout(SOON).unwrap()
}

pub(super) fn seq_at(log: &dyn Log, room: &Arc<Room>, time: OffsetDateTime) -> u64 {
    let (done, seq) = answer();
    log.seq_at(room, time, done);
    seq.recv_timeout(SOON).unwrap().unwrap()
}

pub(super) fn everything(log: &dyn Log, room: &Arc<Room>) -> Vec<ChatMessage> {
    let mut all: Vec<ChatMessage> = Vec::new();
    loop {
        let after = all.last().map_or(0, |message| message.seq);
        let range = Range {
            before: None,
            after: Some(after),
            limit: 200,
        };
        let page = history(log, room, range).unwrap();
        if page.is_empty() {
            return all;
        }
        all.extend(page);
    }
}

fn one_order_for_everybody(open: Open, directory: &Path) {
    const SESSIONS: u64 = 4;
    const EACH: usize = 250;
    let log = open(directory);
    let rooms = [
        make_room(&*log, "one").unwrap(),
        make_room(&*log, "two").unwrap(),
    ];
    std::thread::scope(|scope| {
        for session in 1..=SESSIONS {
            let (log, rooms) = (&*log, &rooms);
            scope.spawn(move || {
                let sender = format!("s{session}");
                let pending: Vec<_> = (0..EACH)
                    .map(|index| {
                        let message = talk(&rooms[index % 2], &sender, &index.to_string());
                        begin(log, program(session), vec![message])
                    })
                    .collect();
                for outcome in pending {
                    assert_eq!(outcome.recv_timeout(SOON).unwrap(), Outcome::Appended);
                }
            });
        }
    });
    for room in &rooms {
        let messages = everything(&*log, room);
        assert_eq!(messages.len() as u64, SESSIONS * EACH as u64 / 2);
        assert_eq!(room.end(), messages.len() as u64 + 1);
        let mut newest = HashMap::new();
        let mut time = OffsetDateTime::UNIX_EPOCH;
        for (index, message) in messages.iter().enumerate() {
            assert_eq!(message.seq, index as u64 + 1);
            assert!(message.sent_at >= time);
            time = message.sent_at;
            let number: i64 = message.message.parse().unwrap();
            let before = newest.insert(message.sender.clone(), number);
            assert!(before.is_none_or(|before| before < number));
        }
    }
    log.stop();
}

fn a_record_is_whole_or_not_at_all(open: Open, directory: &Path) {
    let log = open(directory);
    let room = make_room(&*log, "r").unwrap();
    append(
        &*log,
        program(1),
        vec![with_id(talk(&room, "a", "first"), 7)],
    );
    let messages = vec![
        talk(&room, "b", "one"),
        talk(&room, "b", "two"),
        with_id(talk(&room, "b", "three"), 7),
    ];
    let refused = Outcome::Refused {
        index: 2,
        id: Some(MessageId(Uuid::from_u128(7))),
        reason: Reason::IdTaken,
    };
    assert_eq!(append(&*log, program(2), messages), refused);
    assert_eq!(everything(&*log, &room).len(), 1);
    // Nor did it bind the session to a name.
    let messages = ["one", "two"].map(|text| talk(&room, "c", text)).to_vec();
    assert_eq!(append(&*log, program(2), messages), Outcome::Appended);
    assert_eq!(everything(&*log, &room).len(), 3);
    log.stop();
}

fn the_same_id_is_the_same_message(open: Open, directory: &Path) {
    let log = open(directory);
    let room = make_room(&*log, "r").unwrap();
    let other = make_room(&*log, "other").unwrap();
    let once = || with_id(talk(&room, "a", "once"), 1);
    assert_eq!(
        append(&*log, program(1), vec![once(), once()]),
        Outcome::Appended
    );
    assert_eq!(append(&*log, program(1), vec![once()]), Outcome::Appended);
    log.stop();
    drop(log);
    let log = open(directory);
    let room = log.room(room.id).unwrap();
    let again = with_id(talk(&room, "a", "another text"), 1);
    assert_eq!(append(&*log, program(1), vec![again]), Outcome::Appended);
    let elsewhere = with_id(talk(&other, "a", "in another room"), 1);
    assert_eq!(
        append(&*log, program(1), vec![elsewhere]),
        Outcome::Appended
    );
    let texts: Vec<_> = everything(&*log, &room)
        .into_iter()
        .map(|m| m.message)
        .collect();
    assert_eq!(texts, ["once"]);
    log.stop();
}

fn a_repeat_is_acknowledged(open: Open, directory: &Path) {
    let log = open(directory);
    let room = make_room(&*log, "r").unwrap();
    let said = || with_id(talk(&room, "a", "x"), 1);
    let entered = || with_id(enter(&room, "a"), 2);
    append(
        &*log,
        browser(1, 1),
        vec![entered(), said(), leave(&room, "a")],
    );
    append(&*log, browser(2, 2), vec![enter(&room, "a")]);
    assert_eq!(
        append(&*log, browser(3, 1), vec![said()]),
        Outcome::Appended
    );
    let taken = append(&*log, browser(3, 1), vec![entered()]);
    assert!(
        matches!(
            taken,
            Outcome::Refused {
                reason: Reason::NameTaken,
                ..
            }
        ),
        "{taken:?}"
    );
    log.stop();
}

fn a_sessions_end_frees_its_names(open: Open, directory: &Path) {
    let log = open(directory);
    let room = make_room(&*log, "r").unwrap();
    append(&*log, browser(1, 1), vec![talk(&room, "a", "x")]);
    let taken = append(&*log, browser(2, 2), vec![talk(&room, "a", "x")]);
    assert!(matches!(
        taken,
        Outcome::Refused {
            index: 0,
            reason: Reason::NameTaken,
            ..
        }
    ));
    assert_eq!(room.figures().participant_count, 0, "it has not entered");
    log.release(1);
    assert_eq!(
        append(&*log, browser(2, 2), vec![talk(&room, "a", "x")]),
        Outcome::Appended
    );
    assert_eq!(room.figures().participant_count, 0);
    log.stop();
}

fn who_stays_away_has_left(open: Open, directory: &Path) {
    let log = open(directory);
    let room = make_room(&*log, "r").unwrap();
    append(&*log, browser(1, 1), vec![enter(&room, "a")]);
    log.release(1);
    let taken = append(&*log, browser(2, 2), vec![talk(&room, "a", "x")]);
    assert!(matches!(taken, Outcome::Refused { .. }), "{taken:?}");
    assert_eq!(room.figures().participant_count, 1);
    let begin = Instant::now();
    wait_for_leave(&*log, &room, "a");
    assert!(begin.elapsed() + SHORTLY >= GRACE);
    assert_eq!(room.figures().participant_count, 0);
    let free = append(&*log, browser(2, 2), vec![talk(&room, "a", "x")]);
    assert_eq!(free, Outcome::Appended);
    log.stop();
}

fn who_is_back_has_not_left(open: Open, directory: &Path) {
    let log = open(directory);
    let room = make_room(&*log, "r").unwrap();
    for name in ["a", "b"] {
        let guest = u128::from(name == "b");
        append(&*log, browser(1, guest), vec![enter(&room, name)]);
        log.release(1);
    }
    assert_eq!(
        append(&*log, browser(3, 0), vec![enter(&room, "a")]),
        Outcome::Appended
    );
    wait_for_leave(&*log, &room, "b");
    std::thread::sleep(GRACE);
    let kinds: Vec<_> = everything(&*log, &room)
        .iter()
        .map(|message| (message.kind, message.sender.to_string()))
        .collect();
    let expected = [
        (MessageType::Enter, "a".to_owned()),
        (MessageType::Enter, "b".to_owned()),
        (MessageType::Leave, "b".to_owned()),
    ];
    assert_eq!(kinds, expected, "once each, and nothing for who is back");
    assert_eq!(room.figures().participant_count, 1);
    log.stop();
}

fn who_was_present_is_so_after_a_restart(open: Open, directory: &Path) {
    let log = open(directory);
    let room = make_room(&*log, "r").unwrap();
    for (session, name) in [(1, "a"), (2, "b"), (3, "c")] {
        let guest = browser(session, session.into());
        append(&*log, guest, vec![enter(&room, name)]);
    }
    append(&*log, browser(3, 3), vec![leave(&room, "c")]);
    // Their sessions do not end, as when the process dies.
    log.stop();
    drop(log);
    let log = open(directory);
    let room = log.room(room.id).unwrap();
    assert_eq!(room.figures().participant_count, 2);
    let other = append(&*log, browser(9, 9), vec![enter(&room, "b")]);
    assert!(matches!(other, Outcome::Refused { .. }), "{other:?}");
    assert_eq!(
        append(&*log, browser(4, 1), vec![enter(&room, "a")]),
        Outcome::Appended
    );
    wait_for_leave(&*log, &room, "b");
    let messages = everything(&*log, &room);
    assert_eq!(messages.len(), 5, "{messages:?}");
    assert_eq!(room.figures().participant_count, 1);
    log.stop();
    drop(log);
    let log = open(directory);
    assert_eq!(log.room(room.id).unwrap().figures().participant_count, 1);
    log.stop();
}

/// Waits until somebody has left by themselves.
fn wait_for_leave(log: &dyn Log, room: &Arc<Room>, sender: &str) {
    let begin = Instant::now();
    let has_left = || {
        everything(log, room)
            .iter()
            .any(|message| message.kind == MessageType::Leave && message.sender.as_str() == sender)
    };
    while !has_left() {
        assert!(begin.elapsed() < SOON, "{sender} is still there");
        std::thread::sleep(SHORTLY);
    }
}

fn history_is_bounded(open: Open, directory: &Path) {
    let log = open(directory);
    let room = make_room(&*log, "r").unwrap();
    let messages = (1..=40)
        .map(|seq| talk(&room, "a", &seq.to_string()))
        .collect();
    append(&*log, program(1), messages);
    let all = everything(&*log, &room);
    let bounds = [
        None,
        Some(0),
        Some(1),
        Some(7),
        Some(40),
        Some(41),
        Some(u64::MAX),
    ];
    for before in bounds {
        for after in bounds {
            for limit in [1, 3, 200] {
                let within = |message: &&ChatMessage| {
                    before.is_none_or(|before| message.seq < before)
                        && after.is_none_or(|after| message.seq > after)
                };
                let mut expected: Vec<_> = all.iter().filter(within).cloned().collect();
                if after.is_some() {
                    expected.truncate(limit as usize);
                } else {
                    expected.drain(..expected.len().saturating_sub(limit as usize));
                }
                let range = Range {
                    before,
                    after,
                    limit,
                };
                assert_eq!(history(&*log, &room, range).unwrap(), expected, "{range:?}");
            }
        }
    }
    let seq_at = |time| seq_at(&*log, &room, time);
    let sent_at = all[0].sent_at;
    assert_eq!(seq_at(sent_at - Duration::from_secs(1)), 1);
    assert_eq!(seq_at(sent_at), 1);
    assert_eq!(seq_at(all[39].sent_at + Duration::from_millis(1)), 41);
    log.stop();
}

fn pages_and_the_tail_say_the_same(open: Open, directory: &Path) {
    const MESSAGES: u64 = 700;
    let log = open(directory);
    let room = make_room(&*log, "r").unwrap();
    room.follow(&Arc::default());
    for seq in 1..=MESSAGES {
        append(&*log, program(1), vec![talk(&room, "a", &seq.to_string())]);
    }
    let expected: Vec<_> = everything(&*log, &room)
        .iter()
        .map(|message| {
            let mut encoded = Vec::new();
            super::encode(message, &mut encoded);
            (message.seq, encoded)
        })
        .collect();
    let Read::Batches(batches) = room.read(1, usize::MAX) else {
        panic!("the tail of a followed room holds its newest entries");
    };
    let tail = batches.iter().flat_map(|batch| batch.entries_from(1));
    let tail: Vec<_> = tail.map(|(seq, entry)| (seq, entry.to_vec())).collect();
    assert_eq!(tail, expected);
    for first in [1, 2, 127, 128, 129, 500, MESSAGES] {
        let mut next = first;
        let mut paged = Vec::new();
        while next < room.end() {
            let (done, page) = answer();
            log.page(&room, next, done);
            let page = page.recv_timeout(SOON).unwrap().unwrap();
            let before = next;
            for (seq, entry) in page.entries_from(next) {
                paged.push((seq, entry.to_vec()));
                next = seq + 1;
            }
            assert!(next > before, "a page brings its reader on");
        }
        assert_eq!(paged, expected[first as usize - 1..]);
    }
    log.stop();
}

fn a_full_log_gives_back_and_wakes(open: Open, directory: &Path) {
    let log = open(directory);
    let room = make_room(&*log, "r").unwrap();
    // The log waits in this callback, and meanwhile what comes gathers.
    let (hold, held) = channel::<()>();
    let record = |text: &str| Record {
        origin: program(1),
        messages: vec![talk(&room, "a", text)],
    };
    let waits = Done::new(move |_| assert!(held.recv().is_err()));
    let wake = Arc::new(Signal::default());
    assert!(log.append(record("first"), waits, &wake).is_ok());
    let mut outcomes = Vec::new();
    let (back, done) = loop {
        let (done, outcome) = answer();
        match log.append(record("gathers"), done, &wake) {
            Ok(()) => outcomes.push(outcome),
            Err(Full(record, done)) => break (record, done),
        }
        assert!(outcomes.len() < 1_000_000, "the queue is not bounded");
    };
    assert!(!wake.is_ready());
    drop(hold);
    for outcome in &outcomes {
        assert_eq!(outcome.recv_timeout(SOON).unwrap(), Outcome::Appended);
    }
    assert!(wake.is_ready());
    assert!(log.append(back, done, &wake).is_ok());
    log.stop();
    assert_eq!(room.end(), outcomes.len() as u64 + 3);
}

fn a_panic_fails_what_waits_and_what_comes(open: Open, directory: &Path) {
    let log = open(directory);
    let room = make_room(&*log, "r").unwrap();
    let (hold, held) = channel::<()>();
    let record = |text: &str| Record {
        origin: program(1),
        messages: vec![talk(&room, "a", text)],
    };
    let panics = Done::new(move |outcome| {
        assert!(held.recv().is_err());
        panic!("injected, after {outcome:?}");
    });
    let wake = Arc::new(Signal::default());
    assert!(log.append(record("stored"), panics, &wake).is_ok());
    // What gathers meanwhile fills the log.
    let mut outcomes = Vec::new();
    let (back, back_done, back_outcome) = loop {
        let (done, outcome) = answer();
        match log.append(record("gathers"), done, &wake) {
            Ok(()) => outcomes.push(outcome),
            Err(Full(record, done)) => break (record, done, outcome),
        }
    };
    let (done, made) = answer();
    log.create_room(RoomName::parse("late").unwrap(), done);
    assert!(log.is_healthy());
    drop(hold);
    let mut failed = 0;
    for outcome in &outcomes {
        match outcome.recv_timeout(SOON).unwrap() {
            // It was committed with the first: that is the truth of it.
            Outcome::Appended => assert_eq!(failed, 0),
            outcome => {
                assert_eq!(outcome, Outcome::Failed);
                failed += 1;
            }
        }
    }
    assert!(failed > 0);
    assert!(!log.is_healthy());
    assert!(made.recv_timeout(SOON).unwrap().is_err());
    assert!(wake.is_ready(), "who found it full tries again");
    assert!(log.append(back, back_done, &wake).is_ok());
    assert_eq!(back_outcome.recv_timeout(SOON).unwrap(), Outcome::Failed);
    assert!(make_room(&*log, "later").is_err());
    log.probe();
    log.release(1);
    // What is stored is still read.
    let stored = 1 + outcomes.len() - failed;
    assert_eq!(everything(&*log, &room).len(), stored);
    assert!(!log.is_healthy(), "nothing makes it well again");
    log.stop();
    drop(log);
    let log = open(directory);
    assert_eq!(everything(&*log, &log.room(room.id).unwrap()).len(), stored);
    log.stop();
}

fn a_panic_of_a_read(open: Open, directory: &Path) {
    let log = open(directory);
    let room = make_room(&*log, "r").unwrap();
    append(&*log, program(1), vec![talk(&room, "a", "x")]);
    // More than there are threads.
    for _ in 0..8 {
        let panics = Answer::new(|_| panic!("injected"));
        log.page(&room, 1, panics);
    }
    let newest = Range {
        before: None,
        after: None,
        limit: 1,
    };
    for _ in 0..8 {
        assert_eq!(history(&*log, &room, newest).unwrap().len(), 1);
    }
    let begin = std::time::Instant::now();
    while log.is_healthy() {
        assert!(begin.elapsed() < SOON, "a panic is never silent");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(
        append(&*log, program(1), vec![talk(&room, "a", "y")]),
        Outcome::Appended
    );
    assert!(!log.is_healthy());
    log.stop();
}

fn what_was_acknowledged_is_there(open: Open, directory: &Path) {
    let log = open(directory);
    let rooms: Vec<_> = ["b", "a", "c"]
        .iter()
        .map(|name| make_room(&*log, name).unwrap())
        .collect();
    append(
        &*log,
        program(1),
        vec![enter(&rooms[1], "a"), talk(&rooms[1], "a", "x")],
    );
    let before = everything(&*log, &rooms[1]);
    log.stop();
    let (done, outcome) = answer();
    let record = Record {
        origin: program(1),
        messages: vec![talk(&rooms[1], "a", "late")],
    };
    assert!(log.append(record, done, &Arc::default()).is_ok());
    assert_eq!(outcome.recv_timeout(SOON).unwrap(), Outcome::Failed);
    drop(log);
    let log = open(directory);
    let names: Vec<_> = log
        .rooms()
        .iter()
        .map(|room| room.name.to_string())
        .collect();
    assert_eq!(names, ["b", "a", "c"]);
    let room = log.room(rooms[1].id).unwrap();
    assert_eq!(everything(&*log, &room), before);
    let figures = room.figures();
    assert_eq!((figures.end, figures.message_count), (3, 1));
    assert_eq!(figures.last_message_at, Some(before[1].sent_at));
    log.stop();
}
