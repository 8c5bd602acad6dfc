//! Reading the store: few connections, a bounded queue, short transactions, shared pages.
//!
//! What cursors ask for comes first, and is bounded where they live: a connection waits for so many
//! answers at most. What HTTP asks for is bounded here, by [`HISTORY_JOBS_MAX`].

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, Once};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension, params};
use shared::chat::ChatMessage;
use time::OffsetDateTime;

use super::batch::BATCH_BYTES_MAX;
use super::budget::Budget;
use super::sqlite::{Health, MESSAGE_COLUMNS, millis, read_message, rest, wait};
use super::tail::lock;
use super::{Answer, Batch, Range, Room, StoreError, thread};
use crate::metrics::meters;

/// Entries in a page, unless they are large. Pages are aligned, so that cursors near one another
/// share them; one that was cut short goes on where it ended.
const PAGE_ENTRIES: u64 = 128;

/// The most reads of HTTP's that wait: past it [`StoreError::Busy`].
const HISTORY_JOBS_MAX: usize = 1_024;

/// After so many reads of cursors in a row one of HTTP's has its turn.
const CURSOR_JOBS_IN_ROW: usize = 8;

/// How long a page is kept for the next who asks.
const PAGE_AGE: Duration = Duration::from_secs(30);

/// The most that the whole pages kept for the next who asks weigh.
const PAGES_BYTES_MAX: usize = 8 << 20;

/// The most that they weigh with all their forms.
const CACHE_BYTES_MAX: usize = 16 << 20;

type PageDone = Answer<Result<Arc<Batch>, StoreError>>;
type Job = Box<dyn FnOnce(&Connection, &Health) + Send>;

/// The threads that read.
pub(super) struct Readers {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Default)]
struct Shared {
    jobs: Mutex<Jobs>,
    filled: Condvar,
    pages: Mutex<Pages>,
}

#[derive(Default)]
struct Jobs {
    cursors: VecDeque<Job>,
    histories: VecDeque<Job>,
    /// Reads of cursors that were taken since one of HTTP's was.
    in_row: usize,
    stopping: bool,
}

impl Jobs {
    fn take(&mut self) -> Option<Job> {
        if self.cursors.is_empty() || self.in_row >= CURSOR_JOBS_IN_ROW {
            self.in_row = 0;
            if let Some(job) = self.histories.pop_front() {
                return Some(job);
            }
        }
        let job = self.cursors.pop_front()?;
        self.in_row += 1;
        Some(job)
    }
}

/// Who asks for a read.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Asker {
    Cursor,
    Http,
}

/// The first entry of an aligned page of a room.
type PageKey = (i64, u64);

#[derive(Default)]
struct Pages {
    /// Whole pages, which never change.
    cache: HashMap<PageKey, Arc<Batch>>,
    oldest_first: VecDeque<(PageKey, Instant)>,
    /// What the pages weigh, without their forms.
    bytes: usize,
    budget: Arc<Budget>,
    /// Who waits for a page that is being read.
    wanted: HashMap<PageKey, Vec<PageDone>>,
}

impl Readers {
    /// Starts one thread a connection.
    ///
    /// # Errors
    /// What the system says where it starts none.
    pub(super) fn start(
        connections: Vec<Connection>,
        health: &Arc<Health>,
    ) -> std::io::Result<Self> {
        let readers = Readers {
            shared: Arc::default(),
            threads: Mutex::default(),
        };
        for connection in connections {
            let shared = Arc::clone(&readers.shared);
            let of_thread = Arc::clone(health);
            let thread =
                thread::start("read", health, move || shared.run(&connection, &of_thread))?;
            lock(&readers.threads).push(thread);
        }
        Ok(readers)
    }

    /// Lets go of the memory that a load has left.
    pub(super) fn tidy(&self, now: Instant) {
        lock(&self.shared.pages).forget(now);
        let mut jobs = lock(&self.shared.jobs);
        let Jobs {
            cursors, histories, ..
        } = &mut *jobs;
        for queue in [cursors, histories] {
            if queue.is_empty() {
                queue.shrink_to_fit();
            }
        }
    }

    /// How many reads wait, of cursors and for HTTP.
    pub(super) fn load(&self) -> (usize, usize) {
        let jobs = lock(&self.shared.jobs);
        (jobs.cursors.len(), jobs.histories.len())
    }

    /// Answers what waits, then stops.
    pub(super) fn stop(&self) {
        lock(&self.shared.jobs).stopping = true;
        self.shared.filled.notify_all();
        for thread in std::mem::take(&mut *lock(&self.threads)) {
            if thread.join().is_err() {
                tracing::error!("a reading thread had failed");
            }
        }
    }

    pub(super) fn history(
        &self,
        room: &Arc<Room>,
        range: Range,
        done: Answer<Result<Vec<ChatMessage>, StoreError>>,
    ) {
        let room = Arc::clone(room);
        self.ask(Asker::Http, done, move |connection| {
            read_history(connection, &room, range)
        });
    }

    pub(super) fn seq_at(
        &self,
        room: &Arc<Room>,
        time: OffsetDateTime,
        done: Answer<Result<u64, StoreError>>,
    ) {
        let room = Arc::clone(room);
        self.ask(Asker::Cursor, done, move |connection| {
            read_seq_at(connection, &room, millis(time))
        });
    }

    pub(super) fn page(&self, room: &Arc<Room>, seq: u64, done: PageDone) {
        let first = (seq - 1) / PAGE_ENTRIES * PAGE_ENTRIES + 1;
        let cut_short = {
            let pages = lock(&self.shared.pages);
            match pages.cache.get(&(room.number, first)) {
                Some(page) if page.end() > seq => {
                    let page = Arc::clone(page);
                    drop(pages);
                    return done.tell(Ok(page));
                }
                page => page.is_some(),
            }
        };
        // A page that was cut short for its bytes goes on where it ended.
        let first = if cut_short { seq } else { first };
        let key = (room.number, first);
        {
            let mut pages = lock(&self.shared.pages);
            if let Some(waiting) = pages.wanted.get_mut(&key) {
                return waiting.push(done);
            }
            pages.wanted.insert(key, vec![done]);
        }
        let room = Arc::clone(room);
        let shared = Arc::clone(&self.shared);
        let answer = move |page| shared.answer_page(key, page);
        self.ask(Asker::Cursor, Answer::new(answer), move |connection| {
            read_page(connection, &room, first)
        });
    }

    fn ask<T: Send + 'static>(
        &self,
        asker: Asker,
        done: Answer<Result<T, StoreError>>,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) {
        let mut jobs = lock(&self.shared.jobs);
        if jobs.stopping {
            drop(jobs);
            return done.tell(Err(StoreError::Unavailable));
        }
        if asker == Asker::Http && jobs.histories.len() >= HISTORY_JOBS_MAX {
            drop(jobs);
            return done.tell(Err(StoreError::Busy));
        }
        let queue = match asker {
            Asker::Cursor => &mut jobs.cursors,
            Asker::Http => &mut jobs.histories,
        };
        queue.push_back(Box::new(move |connection, health| {
            let _watch = health.watch();
            let answer = read(connection);
            health.note_read(&answer);
            done.tell(answer.map_err(|_| StoreError::Unavailable));
        }));
        drop(jobs);
        self.shared.filled.notify_one();
    }
}

impl Shared {
    fn run(&self, connection: &Connection, health: &Health) {
        loop {
            let mut jobs = lock(&self.jobs);
            let mut is_rested = false;
            let job = loop {
                if let Some(job) = jobs.take() {
                    break job;
                }
                if jobs.stopping {
                    return;
                }
                let is_quiet;
                (jobs, is_quiet) = wait(&self.filled, jobs, !is_rested);
                if is_quiet {
                    is_rested = true;
                    drop(jobs);
                    rest(connection);
                    jobs = lock(&self.jobs);
                }
            };
            drop(jobs);
            // What it asked for is answered as failed, and the next has nothing to do with it.
            if catch_unwind(AssertUnwindSafe(|| job(connection, health))).is_err() {
                tracing::error!("a read of the message store has panicked");
            }
        }
    }

    fn answer_page(&self, key: PageKey, page: Result<Batch, StoreError>) {
        let page = page.map(Arc::new);
        let waiting = {
            let mut pages = lock(&self.pages);
            if let Ok(page) = &page {
                let aligned = key.1 % PAGE_ENTRIES == 1;
                let whole = page.end() == key.1 + PAGE_ENTRIES || page.len() > BATCH_BYTES_MAX;
                if aligned && whole {
                    pages.keep(key, Arc::clone(page));
                }
            }
            pages.wanted.remove(&key).unwrap_or_default()
        };
        for done in waiting {
            done.tell(page.clone());
        }
    }
}

impl Pages {
    fn keep(&mut self, key: PageKey, page: Arc<Batch>) {
        if self.cache.contains_key(&key) {
            return;
        }
        let weight = page.weight();
        let charge = loop {
            let charge = (self.bytes + weight <= PAGES_BYTES_MAX)
                .then(|| self.budget.try_charge(weight, CACHE_BYTES_MAX))
                .flatten();
            match charge {
                Some(charge) => break charge,
                None if self.cache.is_empty() => return,
                None => self.drop_oldest(),
            }
        };
        page.share(charge, CACHE_BYTES_MAX);
        self.bytes += weight;
        self.cache.insert(key, page);
        self.oldest_first.push_back((key, Instant::now()));
    }

    /// Lets go of the pages that have been kept for long, and of the forms that wait for no socket.
    fn forget(&mut self, now: Instant) {
        let is_old = |(_, at): &(_, Instant)| now.saturating_duration_since(*at) > PAGE_AGE;
        while self.oldest_first.front().is_some_and(is_old) {
            self.drop_oldest();
        }
        if self.cache.is_empty() {
            self.cache.shrink_to_fit();
            self.oldest_first.shrink_to_fit();
        }
        self.cache.values().for_each(|page| page.forget_forms());
    }

    fn drop_oldest(&mut self) {
        if let Some((oldest, _)) = self.oldest_first.pop_front()
            && let Some(page) = self.cache.remove(&oldest)
        {
            self.bytes -= page.weight();
            page.unshare();
        }
    }
}

pub(super) fn read_page(
    connection: &Connection,
    room: &Room,
    first: u64,
) -> rusqlite::Result<Batch> {
    // Entries past `end` may be committed, but are not shown to anybody yet.
    let end = room.end().min(first + PAGE_ENTRIES);
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {MESSAGE_COLUMNS} FROM message
         WHERE room = ?1 AND seq >= ?2 AND seq < ?3 ORDER BY seq"
    ))?;
    let mut rows =
        statement.query(params![room.number, first.cast_signed(), end.cast_signed(),])?;
    let mut page = Batch::new(first);
    let mut passed_over = PassedOver::default();
    loop {
        let message = match rows.next()? {
            Some(row) => passed_over.read(row, room)?,
            // What is missing at the end is passed over like all that is missing.
            None if page.end() < end => None,
            None => break,
        };
        let seq = message.as_ref().map_or(page.end(), |message| message.seq);
        while page.end() < seq {
            page.pass_over();
            passed_over.missing += 1;
        }
        match message {
            Some(message) => page.push(|out| super::encode(&message, out)),
            None => page.pass_over(),
        }
        if page.len() > BATCH_BYTES_MAX {
            break;
        }
    }
    passed_over.tell(room);
    page.seal();
    Ok(page)
}

/// Entries that are not shown: one that this program cannot read, of a later one's perhaps, and one that is
/// missing. They are no damage of the database, which SQLite would tell.
#[derive(Default)]
struct PassedOver {
    unread: u64,
    missing: u64,
}

impl PassedOver {
    /// Reads an entry, if it can be read.
    fn read(
        &mut self,
        row: &rusqlite::Row<'_>,
        room: &Room,
    ) -> rusqlite::Result<Option<ChatMessage>> {
        match read_message(row, room.id) {
            Err(error) if error.sqlite_error_code().is_none() => {
                self.unread += 1;
                Ok(None)
            }
            message => message.map(Some),
        }
    }

    /// Counts them, and says so once.
    fn tell(&self, room: &Room) {
        let PassedOver { unread, missing } = self;
        if unread + missing == 0 {
            return;
        }
        meters().entries_passed_over.increment(unread + missing);
        static TOLD: Once = Once::new();
        TOLD.call_once(|| {
            tracing::warn!(
                "{unread} messages of room {} cannot be read, as when a newer program has written them, and \
                 {missing} are missing: they are passed over, here and wherever it is so from now on \
                 (sarangbang check lists them)",
                room.id
            );
        });
    }
}

fn read_history(
    connection: &Connection,
    room: &Room,
    range: Range,
) -> rusqlite::Result<Vec<ChatMessage>> {
    let end = room
        .end()
        .min(range.before.unwrap_or(u64::MAX))
        .min(i64::MAX as u64);
    let after = range.after.unwrap_or(0).min(i64::MAX as u64);
    let order = if range.after.is_some() { "ASC" } else { "DESC" };
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {MESSAGE_COLUMNS} FROM message
         WHERE room = ?1 AND seq > ?2 AND seq < ?3 ORDER BY seq {order} LIMIT ?4"
    ))?;
    let bounds = params![
        room.number,
        after.cast_signed(),
        end.cast_signed(),
        range.limit
    ];
    let mut rows = statement.query(bounds)?;
    let mut messages = Vec::new();
    let mut passed_over = PassedOver::default();
    while let Some(row) = rows.next()? {
        messages.extend(passed_over.read(row, room)?);
    }
    passed_over.tell(room);
    if range.after.is_none() {
        messages.reverse();
    }
    Ok(messages)
}

/// Finds the first entry at or after a time. Times do not fall as `seq` grows, except where the clock
/// was found to be set back: between two such places it searches by halves.
fn read_seq_at(connection: &Connection, room: &Room, millis: i64) -> rusqlite::Result<u64> {
    let mut set_back = connection
        .prepare_cached("SELECT position FROM clock_set_back UNION SELECT ?1 ORDER BY position")?;
    let mut entry = connection
        .prepare_cached("SELECT position, sent_at FROM message WHERE room = ?1 AND seq = ?2")?;
    let mut reaches = |seq: u64, column: &str, least: i64| {
        let value = entry
            .query_row(params![room.number, seq.cast_signed()], |row| {
                row.get(column)
            })
            .optional()?;
        Ok(value.is_some_and(|value: i64| value >= least))
    };
    let room_end = room.end();
    let mut first = 1;
    for position in set_back.query_map([i64::MAX], |row| row.get(0))? {
        let position = position?;
        let end = first_where(first, room_end, |seq| reaches(seq, "position", position))?;
        let found = first_where(first, end, |seq| reaches(seq, "sent_at", millis))?;
        if found < end {
            return Ok(found);
        }
        first = end;
    }
    Ok(first)
}

/// The first number from `low` to before `high` from which on `holds`; `high` where it never does.
fn first_where(
    mut low: u64,
    mut high: u64,
    mut holds: impl FnMut(u64) -> rusqlite::Result<bool>,
) -> rusqlite::Result<u64> {
    while low < high {
        let middle = low + (high - low) / 2;
        if holds(middle)? {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    Ok(low)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    /// Readers with one thread, which waits until what is given back is dropped.
    fn held_readers() -> (Readers, std::sync::mpsc::Sender<()>) {
        let connection = Connection::open_in_memory().unwrap();
        let readers = Readers::start(vec![connection], &Arc::default()).unwrap();
        let (hold, held) = channel::<()>();
        let (begin, begun) = channel();
        readers.ask(Asker::Cursor, Answer::new(|_| {}), move |_| {
            begin.send(()).unwrap();
            assert!(held.recv().is_err());
            Ok(())
        });
        begun.recv().unwrap();
        (readers, hold)
    }

    #[test]
    fn cursors_come_first_and_http_has_its_turns() {
        let (readers, hold) = held_readers();
        let (sender, order) = channel();
        for (asker, name) in [(Asker::Http, 'h'), (Asker::Cursor, 'c')] {
            for _ in 0..20 {
                let sender = sender.clone();
                let done = Answer::new(move |_| sender.send(name).unwrap());
                readers.ask(asker, done, |_| Ok(()));
            }
        }
        drop((hold, sender));
        let order: String = order.iter().collect();
        // The read that held the thread was the first of its row.
        let expected = "ccccccch".to_owned() + "cccccccch" + "ccccc" + &"h".repeat(18);
        assert_eq!(order, expected);
        readers.stop();
    }

    #[test]
    fn what_http_asks_for_is_bounded_and_cursors_are_not_refused() {
        let (readers, hold) = held_readers();
        let (sender, told) = channel();
        let ask = |asker| {
            let sender = sender.clone();
            let done = Answer::new(move |answer: Result<(), _>| sender.send(answer).unwrap());
            readers.ask(asker, done, |_| Ok(()));
        };
        (0..HISTORY_JOBS_MAX).for_each(|_| ask(Asker::Http));
        assert!(told.try_recv().is_err());
        ask(Asker::Http);
        assert!(matches!(told.try_recv(), Ok(Err(StoreError::Busy))));
        ask(Asker::Cursor);
        assert!(told.try_recv().is_err());
        drop(hold);
        for _ in 0..=HISTORY_JOBS_MAX {
            assert!(told.recv().unwrap().is_ok());
        }
        readers.tidy(Instant::now());
        assert_eq!(lock(&readers.shared.jobs).histories.capacity(), 0);
        readers.stop();
    }

    /// A page of an entry of 16 KiB.
    fn page(first: u64) -> Arc<Batch> {
        let mut page = Batch::new(first);
        page.push(|out| out.resize(16 << 10, b'x'));
        Arc::new(page)
    }

    #[test]
    fn pages_are_bounded_and_let_go() {
        let mut pages = Pages::default();
        for first in 0..2_000 {
            pages.keep((1, first), page(first));
            assert!(pages.bytes <= PAGES_BYTES_MAX);
        }
        assert!(pages.bytes > PAGES_BYTES_MAX / 2);
        // The same page read twice is kept once.
        let before = pages.bytes;
        pages.keep((1, 1_999), page(1_999));
        assert_eq!((pages.bytes, pages.budget.held()), (before, before));
        pages.forget(Instant::now());
        assert!(pages.bytes > 0);
        pages.forget(Instant::now() + 2 * PAGE_AGE);
        assert_eq!((pages.bytes, pages.cache.capacity()), (0, 0));
        assert_eq!(pages.budget.held(), 0);
    }

    #[test]
    fn the_cache_is_bounded_with_all_forms_of_its_pages() {
        struct Socket;
        let mut pages = Pages::default();
        let framed = |page: &Batch, head: u8| {
            let frame = |pieces: &[&[u8]], out: &mut Vec<u8>| {
                pieces.iter().for_each(|piece| out.extend_from_slice(piece));
            };
            page.framed::<Socket>(0, &[head], frame)
        };
        let mut held = Vec::new();
        for first in 0..2_000 {
            let page = page(first);
            pages.keep((1, first), Arc::clone(&page));
            held.extend((0..4).filter_map(|head| framed(&page, head)).take(1));
            (1..4).for_each(|head| drop(framed(&page, head)));
            assert!(pages.budget.held() <= CACHE_BYTES_MAX);
            assert!(pages.cache.contains_key(&(1, first)), "page {first}");
        }
        // Whoever still reads a page that is not kept any more gets no form of it.
        let gone = page(0);
        pages.keep((2, 0), Arc::clone(&gone));
        while pages.cache.contains_key(&(2, 0)) {
            pages.drop_oldest();
        }
        assert!(framed(&gone, 0).is_none());
        // Of forms that nobody holds nothing is left; others are found again.
        let kept = page(1);
        pages.keep((2, 1), Arc::clone(&kept));
        let first = framed(&kept, 0).unwrap();
        drop(framed(&kept, 1).unwrap());
        let before = pages.budget.held();
        pages.forget(Instant::now());
        assert!(pages.budget.held() < before - (16 << 10));
        assert_eq!(framed(&kept, 0).unwrap().as_ptr(), first.as_ptr());
    }
}
