//! Histories of the log, made up from a seed: people come, talk, repeat themselves, vanish and come back;
//! time goes on; the disk is full for a while; the process dies at any moment. After each step one checker
//! holds what is stored, shown, told and answered against what the log promises.
//!
//! It is the log itself, without its threads: what is ordered when is the seed's choice, as is the time.
//! `SARANGBANG_SEED=n SARANGBANG_HISTORIES=1` replays a history; `cargo xtask simulate` runs many.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use shared::chat::{
    ChatMessage, MessageId, MessageType, NewBody, NewMessage, RoomName, Sender, Text,
};
use tempfile::TempDir;
use time::OffsetDateTime;
use uuid::Uuid;

use super::super::order::Command;
use super::super::pages::read_page;
use super::super::{
    Answer, Done, Observer, Origin, Outcome, Owner, Presence, Read, Record, Room, Signal,
};
use super::{Options, Parts};
use crate::log::sqlite::read_lock;
use crate::log::tail::lock;

/// Histories of each run of the tests.
const HISTORIES: u64 = 1_000;

const STEPS: usize = 60;
const GRACE: Duration = Duration::from_secs(10);
const ROOMS: usize = 2;

/// What is read at once from the ring.
const READ_BYTES: usize = 400;

/// A sequence of numbers from a seed (SplitMix64, Steele and others 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn id(&mut self) -> MessageId {
        MessageId(Uuid::from_u64_pair(self.next(), self.next()))
    }
}

/// What clients are told of who is in the rooms.
#[derive(Default)]
struct Told(Mutex<BTreeMap<i64, BTreeSet<String>>>);

impl Observer for Told {
    fn made(&self, _: &Arc<Room>) {}

    fn changed(&self, _: &Arc<Room>) {}

    fn presence(&self, room: &Arc<Room>, presence: Presence) {
        let mut rooms = lock(&self.0);
        let people = rooms.entry(room.number).or_default();
        match presence {
            Presence::Entered { sender, .. } => {
                assert!(people.insert(sender.to_string()), "{sender} is told twice");
            }
            Presence::Left { sender } => {
                assert!(people.remove(sender.as_str()), "{sender} was not there");
            }
        }
    }
}

/// Somebody's connection, again and again.
struct Client {
    owner: Owner,
    name: &'static str,
    session: Option<u64>,
    /// Whether its session has its name in a room.
    bound: [bool; ROOMS],
    /// The ENTER of its session in a room, unless that failed.
    entered: [Option<MessageId>; ROOMS],
    said: u64,
    /// What has no answer yet, in its order: the room, the id, and the text.
    unanswered: Vec<(usize, MessageId, String)>,
}

/// What became of a client's message.
#[derive(Debug)]
struct Answered {
    who: usize,
    session: u64,
    room: usize,
    kind: MessageType,
    id: MessageId,
    outcome: Outcome,
}

/// A reader of a room.
struct Cursor {
    room: usize,
    next: u64,
    signal: Arc<Signal>,
}

/// What a message was when somebody saw it.
type Seen = (Uuid, String, String);

struct World {
    random: Random,
    directory: TempDir,
    parts: Option<Parts>,
    now: Arc<Mutex<Instant>>,
    start: Instant,
    told: Arc<Told>,
    clients: Vec<Client>,
    sessions: u64,
    batch: Vec<Command>,
    /// What was answered to which client's message.
    answers: Arc<Mutex<Vec<Answered>>>,
    /// The texts that have their RECEIPT, by their ids.
    acknowledged: BTreeMap<Uuid, String>,
    seen: BTreeMap<(usize, u64), Seen>,
    cursors: Vec<Cursor>,
    /// Whose LEAVE is in the batch.
    leaving: BTreeSet<(usize, &'static str)>,
    /// Since when a person has no session any more that is bound to the room.
    alone_since: BTreeMap<(usize, &'static str), Instant>,
    stored: usize,
    is_full: bool,
    failed: u64,
    /// Whether each step is printed: where one history is replayed.
    is_told: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let guest = |number: u128| Some(Uuid::from_u128(number));
        let client = |owner, name| Client {
            owner,
            name,
            session: None,
            bound: [false; ROOMS],
            entered: [None; ROOMS],
            said: 0,
            unanswered: Vec::new(),
        };
        let start = Instant::now();
        let mut world = World {
            random: Random(seed),
            directory: tempfile::tempdir().unwrap(),
            parts: None,
            now: Arc::new(Mutex::new(start)),
            start,
            told: Arc::default(),
            // One of them has two tabs, and two programs share a name.
            clients: vec![
                client(guest(1), "one"),
                client(guest(1), "one"),
                client(guest(2), "two"),
                client(guest(3), "three"),
                client(None, "bot"),
                client(None, "bot"),
            ],
            sessions: 0,
            batch: Vec::new(),
            answers: Arc::default(),
            acknowledged: BTreeMap::new(),
            seen: BTreeMap::new(),
            cursors: Vec::new(),
            leaving: BTreeSet::new(),
            alone_since: BTreeMap::new(),
            stored: 0,
            is_full: false,
            failed: 0,
            is_told: variable("SARANGBANG_HISTORIES") == Some(1),
        };
        world.open();
        for number in 0..ROOMS {
            let name = RoomName::parse(&format!("room {number}")).unwrap();
            let nobody = Answer::new(|_| {});
            world.batch.push(Command::CreateRoom(name, nobody));
        }
        world.commit();
        for room in 0..ROOMS {
            world.read_from(room, 1);
        }
        world
    }

    fn open(&mut self) {
        self.told = Arc::default();
        let options = Options {
            grace: GRACE,
            ..Options::default()
        };
        let (now, start) = (Arc::clone(&self.now), self.start);
        let wall = {
            let now = Arc::clone(&now);
            move || {
                let since = lock(&now).duration_since(start);
                OffsetDateTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000) + since
            }
        };
        let parts = Parts::open(
            self.directory.path(),
            options,
            Arc::clone(&self.told) as _,
            Box::new(wall),
            Box::new(move || *lock(&now)),
            // The machine does not die, only the process.
            |connection| connection.pragma_update(None, "synchronous", "OFF"),
        );
        self.parts = Some(parts.unwrap());
    }

    fn parts(&mut self) -> &mut Parts {
        self.parts.as_mut().unwrap()
    }

    fn room(&self, room: usize) -> Arc<Room> {
        let parts = self.parts.as_ref().unwrap();
        Arc::clone(&read_lock(&parts.orderer.rooms).in_order[room])
    }

    fn now(&self) -> Instant {
        *lock(&self.now)
    }

    fn wait(&mut self, time: Duration) {
        *lock(&self.now) += time;
        if self.parts().orderer.look() {
            self.commit();
        }
    }

    /// One thing that happens.
    fn act(&mut self) {
        let who = self.random.below(self.clients.len());
        let room = self.random.below(ROOMS);
        let what = self.random.below(20);
        if self.is_told {
            let ms = self.now().duration_since(self.start).as_millis();
            eprintln!("{ms} ms: client {who}, room {room}, act {what}");
        }
        match what {
            0..=2 => self.enter(who, room),
            3..=7 => self.talk(who, room),
            8 => self.repeat(who),
            9 => self.leave(who, room),
            10 => self.vanish(who),
            11..=14 => self.commit(),
            15 | 16 => {
                let time = Duration::from_millis(self.random.next() % 4_000);
                self.wait(time);
            }
            17 => self.fill(),
            18 => {
                let next = 1 + self.random.next() % self.room(room).end();
                self.read_from(room, next);
            }
            _ => self.crash(),
        }
        self.read();
    }

    fn connect(&mut self, who: usize) -> Origin {
        let client = &mut self.clients[who];
        let session = *client.session.get_or_insert_with(|| {
            self.sessions += 1;
            self.sessions
        });
        Origin {
            session,
            guest: client.owner,
        }
    }

    fn append(&mut self, who: usize, room: usize, body: NewBody, id: MessageId) {
        let origin = self.connect(who);
        let message = NewMessage {
            room_id: self.room(room).id,
            sender: Sender::parse(self.clients[who].name).unwrap(),
            body,
            id: Some(id),
        };
        let answers = Arc::clone(&self.answers);
        let (session, kind) = (origin.session, message.body.kind());
        let done = Done::new(move |outcome| {
            lock(&answers).push(Answered {
                who,
                session,
                room,
                kind,
                id,
                outcome,
            });
        });
        let messages = vec![message];
        self.batch
            .push(Command::Append(Record { origin, messages }, done));
    }

    fn enter(&mut self, who: usize, room: usize) {
        let id = self.random.id();
        self.append(who, room, NewBody::Enter, id);
        self.clients[who].entered[room] = Some(id);
    }

    fn talk(&mut self, who: usize, room: usize) {
        self.resend(who);
        let id = self.random.id();
        let client = &mut self.clients[who];
        client.said += 1;
        // Some are long, so that the database grows and a full disk is met in the middle of a batch.
        let is_long = id.0.as_u128().is_multiple_of(3);
        let long = if is_long { 3_000 } else { 0 };
        let text = format!("{who} {} {}", client.said, "x".repeat(long));
        let text = text.trim_end().to_owned();
        client.unanswered.push((room, id, text.clone()));
        self.append(who, room, NewBody::Talk(Text::parse(&text).unwrap()), id);
    }

    /// Sends again what has no answer, as a client does that is back.
    fn resend(&mut self, who: usize) {
        for (room, id, text) in self.clients[who].unanswered.clone() {
            self.append(who, room, NewBody::Talk(Text::parse(&text).unwrap()), id);
        }
    }

    /// Sends again what has its answer.
    fn repeat(&mut self, who: usize) {
        let own = format!("{who} ");
        let mine: Vec<_> = self
            .acknowledged
            .iter()
            .filter(|(_, text)| text.starts_with(&own))
            .map(|(id, text)| (MessageId(*id), text.clone()))
            .collect();
        if mine.is_empty() {
            return;
        }
        let (id, text) = mine[self.random.below(mine.len())].clone();
        let rooms: Vec<_> = (0..ROOMS)
            .filter(|room| {
                self.seen
                    .iter()
                    .any(|((of, _), seen)| of == room && seen.0 == id.0)
            })
            .collect();
        if let [room] = rooms[..] {
            self.append(who, room, NewBody::Talk(Text::parse(&text).unwrap()), id);
        }
    }

    fn leave(&mut self, who: usize, room: usize) {
        let id = self.random.id();
        self.append(who, room, NewBody::Leave, id);
        self.leaving.insert((room, self.clients[who].name));
        self.clients[who].entered[room] = None;
    }

    /// What is stored binds a session to its name in the room, or frees it.
    fn note_stored(&mut self, told: &Answered) {
        let Answered { who, room, .. } = *told;
        let (owner, name) = (self.clients[who].owner, self.clients[who].name);
        if told.kind != MessageType::Leave {
            self.alone_since.remove(&(room, name));
            if self.clients[who].session == Some(told.session) {
                self.clients[who].bound[room] = true;
            } else {
                // It was back for as long as its session, which has ended since.
                self.note_alone(room, name);
            }
            return;
        }
        for (index, client) in self.clients.iter_mut().enumerate() {
            // A guest leaves with all tabs.
            if index == who || (owner.is_some() && client.owner == owner) {
                client.bound[room] = false;
                if index != who {
                    client.entered[room] = None;
                }
            }
        }
        self.note_alone(room, name);
    }

    fn vanish(&mut self, who: usize) {
        let Some(session) = self.clients[who].session.take() else {
            return;
        };
        self.batch.push(Command::Release(session));
        let name = self.clients[who].name;
        for room in 0..ROOMS {
            self.clients[who].entered[room] = None;
            if std::mem::take(&mut self.clients[who].bound[room]) {
                self.note_alone(room, name);
            }
        }
    }

    fn note_alone(&mut self, room: usize, name: &'static str) {
        let mut same = self.clients.iter().filter(|client| client.name == name);
        if same.all(|client| !client.bound[room]) {
            let now = self.now();
            self.alone_since.entry((room, name)).or_insert(now);
        }
    }

    /// From now on the disk is full, or is not any more.
    fn fill(&mut self) {
        self.is_full = !self.is_full;
        let is_full = self.is_full;
        let connection = &self.parts().orderer.writer.connection;
        let pages: i64 = connection
            .pragma_query_value(None, "page_count", |row| row.get(0))
            .unwrap();
        let most = if is_full { pages } else { 1 << 30 };
        let sql = format!("PRAGMA max_page_count = {most}");
        connection.query_row(&sql, [], |_| Ok(())).unwrap();
    }

    /// What has gathered is committed, or fails.
    fn commit(&mut self) {
        let ends: Vec<_> = self
            .cursors
            .iter()
            .map(|cursor| self.room(cursor.room).end())
            .collect();
        for cursor in &self.cursors {
            cursor.signal.take();
        }
        let mut batch = std::mem::take(&mut self.batch);
        self.parts().orderer.step(&mut batch);
        assert!(batch.is_empty());
        for (cursor, end) in self.cursors.iter().zip(ends) {
            let has_grown = self.room(cursor.room).end() > end;
            assert_eq!(
                cursor.signal.is_ready(),
                has_grown,
                "a wake-up is lost, or too many"
            );
        }
        let answers = std::mem::take(&mut *lock(&self.answers));
        for told in answers {
            if self.is_told {
                eprintln!("  {told:?}");
            }
            let client = &mut self.clients[told.who];
            match told.outcome {
                Outcome::Appended => {
                    let mut unanswered = client.unanswered.iter();
                    if let Some(about) = unanswered.position(|(_, known, _)| *known == told.id) {
                        let (_, id, text) = client.unanswered.remove(about);
                        self.acknowledged.insert(id.0, text);
                    }
                    self.note_stored(&told);
                }
                Outcome::Failed => {
                    self.failed += 1;
                    for entered in &mut client.entered {
                        entered.take_if(|entered| *entered == told.id);
                    }
                }
                Outcome::Refused { reason, .. } => panic!("refused: {reason}"),
            }
        }
        self.check();
        self.leaving.clear();
    }

    /// The process dies, and is started again: all connections are gone, and what was not committed.
    fn crash(&mut self) {
        let fresh = tempfile::tempdir().unwrap();
        for file in std::fs::read_dir(self.directory.path()).unwrap() {
            let file = file.unwrap();
            let name = file.file_name();
            // Who is dead locks nothing, and shares no memory.
            let text = name.to_string_lossy();
            if file.path().is_file() && !text.ends_with("-shm") {
                std::fs::copy(file.path(), fresh.path().join(name)).unwrap();
            }
        }
        self.parts = None;
        self.directory = fresh;
        let batch = std::mem::take(&mut self.batch);
        drop(batch);
        lock(&self.answers).clear();
        self.leaving.clear();
        self.is_full = false;
        self.open();
        let now = self.now();
        for client in &mut self.clients {
            client.session = None;
            client.bound = [false; ROOMS];
            client.entered = [None; ROOMS];
        }
        // The grace of all begins with the start.
        for client in &self.clients {
            for room in 0..ROOMS {
                self.alone_since.insert((room, client.name), now);
            }
        }
        for cursor in &self.cursors {
            self.room(cursor.room).follow(&cursor.signal);
        }
        self.stored = self.messages().iter().map(Vec::len).sum();
        self.check();
    }

    fn read_from(&mut self, room: usize, next: u64) {
        let signal = Arc::default();
        self.room(room).follow(&signal);
        self.cursors.push(Cursor { room, next, signal });
        if self.cursors.len() > 6 {
            let old = self.cursors.remove(0);
            self.room(old.room).unfollow(&old.signal);
        }
    }

    /// One reader reads on, as far as it gets at once.
    fn read(&mut self) {
        let Some(at) = (!self.cursors.is_empty()).then(|| self.random.below(self.cursors.len()))
        else {
            return;
        };
        let (room, next) = (self.cursors[at].room, self.cursors[at].next);
        let of = self.room(room);
        let batches = match of.read(next, READ_BYTES) {
            Read::Nothing => return assert!(next >= of.end()),
            Read::Batches(batches) => batches,
            Read::Behind => vec![Arc::new(
                read_page(&self.parts().readers[0], &of, next).unwrap(),
            )],
        };
        let mut expected = next;
        for batch in &batches {
            for (seq, entry) in batch.entries_from(expected) {
                assert_eq!(seq, expected, "a gap, or something twice");
                expected += 1;
                let text = String::from_utf8_lossy(entry);
                let (_, body) = text.split_once("\n\n").unwrap();
                let message: ChatMessage =
                    serde_json::from_str(body.trim_end_matches('\0')).unwrap();
                assert_eq!(message.seq, seq);
                let seen = seen(&message);
                let before = self.seen.entry((room, seq)).or_insert_with(|| seen.clone());
                assert_eq!(*before, seen, "it was another message before");
            }
        }
        assert!(expected > next, "a reader that never gets on");
        assert!(expected <= of.end(), "a reader sees what is not committed");
        self.cursors[at].next = expected;
    }

    /// All that is stored, by room.
    fn messages(&mut self) -> Vec<Vec<(ChatMessage, i64)>> {
        let mut rooms = vec![Vec::new(); ROOMS];
        let ids: Vec<_> = (0..ROOMS).map(|room| self.room(room).id).collect();
        let connection: &Connection = &self.parts().readers[1];
        let mut statement = connection
            .prepare_cached(&format!(
                "SELECT {}, room, position FROM message ORDER BY position",
                super::MESSAGE_COLUMNS
            ))
            .unwrap();
        let mut rows = statement.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let room = usize::try_from(row.get::<_, i64>(6).unwrap()).unwrap() - 1;
            let message = super::read_message(row, ids[room]).unwrap();
            rooms[room].push((message, row.get(7).unwrap()));
        }
        rooms
    }

    /// Holds everything against what the log promises.
    fn check(&mut self) {
        let rooms = self.messages();
        let mut ids = BTreeMap::new();
        let mut talks: Vec<(i64, usize, u64)> = Vec::new();
        let total: usize = rooms.iter().map(Vec::len).sum();
        for (number, messages) in rooms.iter().enumerate() {
            let room = self.room(number);
            assert_eq!(
                room.end(),
                messages.len() as u64 + 1,
                "what is shown is what is stored"
            );
            let mut present = BTreeSet::new();
            for (index, (message, position)) in messages.iter().enumerate() {
                assert_eq!(message.seq, index as u64 + 1, "one order without gaps");
                assert!(
                    ids.insert(message.id.0, message.message.clone()).is_none(),
                    "stored twice"
                );
                let sender = message.sender.to_string();
                match message.kind {
                    MessageType::Enter => assert!(present.insert(sender), "entered twice"),
                    MessageType::Leave => assert!(present.remove(&sender), "left twice"),
                    MessageType::Talk => {
                        let mut words = message.message.split(' ');
                        let mut word = || words.next().unwrap().parse::<u64>().unwrap();
                        let (who, count) = (word(), word());
                        talks.push((*position, who as usize, count));
                    }
                }
                if let Some(before) = self.seen.get(&(number, message.seq)) {
                    assert_eq!(
                        *before,
                        seen(message),
                        "what was seen is not there any more"
                    );
                }
            }
            let gone = self
                .seen
                .range((number, room.end())..(number + 1, 0))
                .next();
            assert!(gone.is_none(), "what was seen is not there any more");
            let told = lock(&self.told.0)
                .get(&room.number)
                .cloned()
                .unwrap_or_default();
            assert_eq!(told, present, "who is told to be there is who the log says");
            assert_eq!(room.figures().participant_count, present.len() as u64);
            if total > self.stored {
                self.check_leaves(number, messages, &rooms);
            }
            // Nobody has entered, and is there, and is not listed.
            for client in &self.clients {
                if client.entered[number].is_some() && self.batch.is_empty() {
                    assert!(
                        present.contains(client.name),
                        "{} is not listed",
                        client.name
                    );
                }
            }
        }
        for (id, text) in &self.acknowledged {
            assert_eq!(ids.get(id), Some(text), "what was acknowledged is lost");
        }
        talks.sort_unstable();
        let mut last = BTreeMap::new();
        for (_, who, count) in talks {
            let before = last.insert(who, count);
            assert!(
                before < Some(count),
                "a sender's order: {before:?} before {count}"
            );
        }
        self.stored = total;
    }

    /// Who has left without a word since the last check had been away for a grace.
    fn check_leaves(
        &self,
        number: usize,
        messages: &[(ChatMessage, i64)],
        rooms: &[Vec<(ChatMessage, i64)>],
    ) {
        let newest = rooms.iter().flatten().map(|(_, position)| *position).max();
        let before =
            newest.unwrap_or_default() - (rooms.iter().flatten().count() - self.stored) as i64;
        for (message, position) in messages {
            let Some(client) = self
                .clients
                .iter()
                .find(|client| client.name == message.sender.as_str())
            else {
                panic!("a stranger has left");
            };
            let place = (number, client.name);
            if message.kind != MessageType::Leave
                || *position <= before
                || self.leaving.contains(&place)
            {
                continue;
            }
            let since = self.alone_since.get(&place);
            let away = since.map(|since| self.now().duration_since(*since));
            assert!(
                away >= Some(GRACE),
                "{} has left after {away:?}",
                client.name
            );
        }
    }

    /// Lets everybody go, and time pass: in the end nobody is there.
    fn end(&mut self) {
        if self.is_full {
            self.fill();
        }
        self.commit();
        for who in 0..self.clients.len() {
            self.resend(who);
        }
        self.commit();
        assert!(
            self.clients
                .iter()
                .all(|client| client.unanswered.is_empty()),
            "what was sent has no answer"
        );
        for who in 0..self.clients.len() {
            self.vanish(who);
        }
        self.commit();
        for _ in 0..3 * GRACE.as_secs() {
            self.wait(Duration::from_secs(1));
        }
        let told = lock(&self.told.0);
        assert!(told.values().all(BTreeSet::is_empty), "ghosts: {:?}", *told);
        drop(told);
        while self
            .cursors
            .iter()
            .any(|cursor| cursor.next < self.room(cursor.room).end())
        {
            self.read();
        }
    }
}

fn seen(message: &ChatMessage) -> Seen {
    (
        message.id.0,
        message.sender.to_string(),
        message.message.clone(),
    )
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn whatever_happens_what_was_promised_is_kept() {
    let first = variable("SARANGBANG_SEED").unwrap_or(1);
    let count = variable("SARANGBANG_HISTORIES").unwrap_or(HISTORIES);
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let begin = Instant::now();
    let failed = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let failed = &failed;
            scope.spawn(move || {
                for seed in (first + thread..first + count).step_by(threads as usize) {
                    let history = || {
                        let mut world = World::new(seed);
                        for _ in 0..STEPS {
                            world.act();
                        }
                        world.end();
                        failed.fetch_add(world.failed, Ordering::Relaxed);
                    };
                    if let Err(panic) = catch_unwind(AssertUnwindSafe(history)) {
                        eprintln!(
                            "history {seed} fails; SARANGBANG_SEED={seed} SARANGBANG_HISTORIES=1 replays it"
                        );
                        resume_unwind(panic);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner();
    println!(
        "{count} histories from seed {first} in {:.1} s; {failed} messages met a full disk",
        begin.elapsed().as_secs_f64()
    );
    assert!(
        count < HISTORIES || failed > count / 10,
        "the disk is never full"
    );
}
