//! Plain destinations: `/topic/…`, to every subscriber, and `/queue/…`, to one of them in turn.
//!
//! Nothing here is stored. To publish never waits for a subscriber: what a subscriber has not taken
//! waits in its [`Inbox`], and all that waits for one [`Reader`] is bounded; past the bound it is cut
//! off. A queue's letter for which nobody has credit waits at the queue, under the same bound. What
//! was given to a subscriber of a queue, and neither acknowledged nor sent, goes to the next when it
//! leaves.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use bytes::Bytes;
use shared::stomp::{Headers, Version};

use crate::log::Signal;
use crate::log::tail::lock;

/// Headers of a SEND that do not travel: the broker's own, and what is about the SEND alone.
const OWN_HEADERS: [&str; 7] = [
    "destination",
    "receipt",
    "transaction",
    "subscription",
    "message-id",
    "ack",
    "content-length",
];

/// The beginning of header names that are the room log's.
const STREAM_HEADERS: &str = "x-stream-";

/// One message of a destination that is no log, shared by all who are sent it.
#[derive(Debug)]
pub(crate) struct Letter {
    headers: Headers,
    body: Bytes,
    is_text: bool,
    /// What it counts while it waits, in bytes: its body and its headers.
    weight: usize,
    /// What follows a MESSAGE's first headers, in each version, once somebody needs it.
    rests: [OnceLock<Bytes>; 3],
}

impl Letter {
    /// Makes the letter of a SEND, with the headers that travel; of repeated ones the first.
    pub(crate) fn new(destination: &str, headers: &Headers, body: &[u8]) -> Self {
        let mut own = Headers::new();
        own.push("destination", destination);
        for (name, value) in headers.iter() {
            let travels = !OWN_HEADERS.contains(&name) && !name.starts_with(STREAM_HEADERS);
            if travels && own.get(name).is_none() {
                own.push(name, value);
            }
        }
        let octets = own.iter().map(|(name, value)| name.len() + value.len());
        Letter {
            weight: body.len() + octets.sum::<usize>(),
            headers: own,
            // A slice would keep alive all that came with it.
            body: Bytes::copy_from_slice(body),
            is_text: std::str::from_utf8(body).is_ok(),
            rests: Default::default(),
        }
    }

    /// Whether the body is UTF-8.
    pub(crate) fn is_text(&self) -> bool {
        self.is_text
    }

    /// Everything of its MESSAGE after what the session writes, to the NUL.
    pub(crate) fn rest(&self, version: Version) -> &[u8] {
        self.rests[version as usize].get_or_init(|| {
            let mut rest = Vec::with_capacity(self.weight + 64);
            shared::stomp::message_rest_in(version, &self.headers, &self.body, &mut rest);
            rest.into()
        })
    }
}

/// What one connection's inboxes have in common.
#[derive(Debug)]
pub(crate) struct Reader {
    signal: Arc<Signal>,
    bytes_max: usize,
    /// The bytes that wait in its inboxes.
    waiting: AtomicUsize,
    overflowed: AtomicBool,
}

impl Reader {
    /// Makes the reader that `signal` wakes, for which at most `bytes_max` wait.
    pub(crate) fn new(signal: Arc<Signal>, bytes_max: usize) -> Self {
        Reader {
            signal,
            bytes_max,
            waiting: AtomicUsize::new(0),
            overflowed: AtomicBool::new(false),
        }
    }

    /// Whether more waited than may: letters are missing, so that it must be cut off.
    pub(crate) fn has_overflowed(&self) -> bool {
        self.overflowed.load(Ordering::Acquire)
    }

    fn overflow(&self) {
        self.overflowed.store(true, Ordering::Release);
        self.signal.wake();
    }
}

/// What waits for one subscription, and what of it is not acknowledged.
#[derive(Debug)]
pub(crate) struct Inbox {
    reader: Arc<Reader>,
    /// The most letters that may be given and not acknowledged; none where nothing is acknowledged.
    window: Option<usize>,
    state: Mutex<InboxState>,
}

#[derive(Debug, Default)]
struct InboxState {
    letters: VecDeque<Arc<Letter>>,
    /// Given to the client by position, in order: these go on to another when it leaves.
    given: VecDeque<(u64, Arc<Letter>)>,
    given_bytes: usize,
}

impl Inbox {
    /// Makes an inbox.
    pub(crate) fn new(reader: &Arc<Reader>, window: Option<usize>) -> Arc<Self> {
        Arc::new(Inbox {
            reader: Arc::clone(reader),
            window,
            state: Mutex::default(),
        })
    }

    /// Puts a letter in; past the bound its reader overflows and the letter is not kept.
    pub(crate) fn put(&self, letter: Arc<Letter>) {
        let weight = letter.weight;
        let waiting = self.reader.waiting.fetch_add(weight, Ordering::AcqRel) + weight;
        if waiting > self.reader.bytes_max {
            self.reader.waiting.fetch_sub(weight, Ordering::AcqRel);
            self.reader.overflow();
            return;
        }
        lock(&self.state).letters.push_back(letter);
        self.reader.signal.wake();
    }

    /// Whether something waits.
    pub(crate) fn has_letters(&self) -> bool {
        !lock(&self.state).letters.is_empty()
    }

    /// Takes the next letter, to be delivered at this position.
    pub(crate) fn take(&self, position: u64) -> Option<Arc<Letter>> {
        let mut state = lock(&self.state);
        let letter = state.letters.pop_front()?;
        let weight = letter.weight;
        self.reader.waiting.fetch_sub(weight, Ordering::AcqRel);
        if self.window.is_some() {
            state.given_bytes += weight;
            state.given.push_back((position, Arc::clone(&letter)));
        }
        Some(letter)
    }

    /// Whether a queue may give it one more.
    fn has_credit(&self) -> bool {
        if self.reader.has_overflowed() {
            return false;
        }
        let state = lock(&self.state);
        let bytes = self.reader.waiting.load(Ordering::Acquire) + state.given_bytes;
        let held = state.letters.len() + state.given.len();
        // Of what is larger than the bound one at a time.
        self.window.is_none_or(|window| held < window)
            && (held == 0 || bytes < self.reader.bytes_max)
    }

    /// Takes out what was given at these positions, in the order of delivery.
    fn settle(&self, positions: &[u64]) -> Vec<Arc<Letter>> {
        let mut state = lock(&self.state);
        let mut settled = Vec::with_capacity(positions.len());
        for position in positions {
            if let Ok(at) = state.given.binary_search_by_key(position, |(at, _)| *at)
                && let Some((_, letter)) = state.given.remove(at)
            {
                state.given_bytes -= letter.weight;
                settled.push(letter);
            }
        }
        settled
    }

    /// Forgets what was taken to be delivered at this position and could not be.
    pub(crate) fn discard(&self, position: u64) {
        drop(self.settle(&[position]));
    }

    /// Forgets all that waits.
    pub(crate) fn clear(&self) {
        drop(self.empty());
    }

    /// Takes out all that was given and not acknowledged, then all that waits.
    fn empty(&self) -> Vec<Arc<Letter>> {
        let state = std::mem::take(&mut *lock(&self.state));
        let waiting: usize = state.letters.iter().map(|letter| letter.weight).sum();
        self.reader.waiting.fetch_sub(waiting, Ordering::AcqRel);
        let given = state.given.into_iter().map(|(_, letter)| letter);
        given.chain(state.letters).collect()
    }
}

/// Who gets what is sent to a destination.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Spread {
    /// Every subscriber: `/topic/…`.
    All,
    /// One of them in turn: `/queue/…`.
    One,
}

/// A destination that has subscribers.
#[derive(Debug)]
struct Point {
    spread: Spread,
    inboxes: Vec<Arc<Inbox>>,
    /// Whose turn it is.
    turn: usize,
    /// A queue's letters for which nobody had credit.
    pending: VecDeque<Arc<Letter>>,
    pending_bytes: usize,
}

/// All plain destinations that have subscribers.
#[derive(Debug, Default)]
pub(crate) struct Plain {
    points: Mutex<HashMap<String, Arc<Mutex<Point>>>>,
}

impl Plain {
    /// Lets an inbox get what is sent to a destination, until [`Plain::unsubscribe`]. Where it takes
    /// the place of another, what of a queue that one was given and did not acknowledge goes to the
    /// next, which may be itself.
    pub(crate) fn subscribe(
        &self,
        destination: &str,
        spread: Spread,
        inbox: &Arc<Inbox>,
        replaced: Option<&Arc<Inbox>>,
    ) {
        let mut points = lock(&self.points);
        let point = points.entry(destination.to_owned()).or_insert_with(|| {
            Arc::new(Mutex::new(Point {
                spread,
                inboxes: Vec::new(),
                turn: 0,
                pending: VecDeque::new(),
                pending_bytes: 0,
            }))
        });
        let mut point = lock(point);
        point.inboxes.push(Arc::clone(inbox));
        let left = replaced.map(|replaced| point.remove(replaced));
        point.give_back(left.unwrap_or_default(), None);
    }

    /// Ends that. What of a queue was given and not acknowledged, and what waits, goes to the next.
    pub(crate) fn unsubscribe(&self, destination: &str, inbox: &Arc<Inbox>) {
        let mut points = lock(&self.points);
        let Some(point) = points.get(destination) else {
            return;
        };
        let mut point = lock(point);
        let left = point.remove(inbox);
        let is_empty = point.inboxes.is_empty();
        if !is_empty {
            point.give_back(left, None);
        }
        drop(point);
        if is_empty {
            points.remove(destination);
        }
    }

    /// Sends a letter to whoever subscribes to its destination; with nobody it is dropped.
    pub(crate) fn publish(&self, destination: &str, letter: Letter) {
        let Some(point) = lock(&self.points).get(destination).cloned() else {
            return;
        };
        let letter = Arc::new(letter);
        let mut point = lock(&point);
        match point.spread {
            Spread::All => {
                for inbox in &point.inboxes {
                    inbox.put(Arc::clone(&letter));
                }
            }
            Spread::One => point.enqueue(letter),
        }
    }

    /// Notes that what was given at these positions is acknowledged, or (`is_nack`) given back: then
    /// the next subscriber of a queue gets it.
    pub(crate) fn settle(
        &self,
        destination: &str,
        inbox: &Arc<Inbox>,
        positions: &[u64],
        is_nack: bool,
    ) {
        let settled = inbox.settle(positions);
        let Some(point) = lock(&self.points).get(destination).cloned() else {
            return;
        };
        let mut point = lock(&point);
        if point.spread == Spread::One {
            let back = if is_nack { settled } else { Vec::new() };
            point.give_back(back, Some(inbox));
        }
    }

    /// Hands out what a queue holds back, now that an inbox has been read.
    pub(crate) fn hand_out(&self, destination: &str) {
        if let Some(point) = lock(&self.points).get(destination).cloned() {
            lock(&point).hand_out(None);
        }
    }
}

impl Point {
    fn enqueue(&mut self, letter: Arc<Letter>) {
        self.pending_bytes += letter.weight;
        self.pending.push_back(letter);
        self.hand_out(None);
        let bytes_max = |inbox: &Arc<Inbox>| inbox.reader.bytes_max;
        let Some(max) = self.inboxes.first().map(bytes_max) else {
            return;
        };
        if self.pending_bytes > max {
            // Nobody takes anything: whose turn it is has been too slow, and is cut off.
            let turn = self.turn % self.inboxes.len();
            self.inboxes[turn].reader.overflow();
            self.turn += 1;
            if let Some(letter) = self.pending.pop_back() {
                self.pending_bytes -= letter.weight;
            }
        }
    }

    /// Takes an inbox out; gives what of a queue it was given and did not acknowledge.
    fn remove(&mut self, inbox: &Arc<Inbox>) -> Vec<Arc<Letter>> {
        self.inboxes.retain(|other| !Arc::ptr_eq(other, inbox));
        let left = inbox.empty();
        match self.spread {
            Spread::One => left,
            Spread::All => Vec::new(),
        }
    }

    /// Takes letters back, in their order before all that waits; whoever gave them back gets them
    /// again only when nobody else can take them.
    fn give_back(&mut self, letters: Vec<Arc<Letter>>, from: Option<&Arc<Inbox>>) {
        for letter in letters.into_iter().rev() {
            self.pending_bytes += letter.weight;
            self.pending.push_front(letter);
        }
        self.hand_out(from);
    }

    /// Gives what waits to whoever has credit, in turn, `last` after the others.
    fn hand_out(&mut self, last: Option<&Arc<Inbox>>) {
        while !self.pending.is_empty() {
            let count = self.inboxes.len();
            let in_turn = (0..count).map(|step| (self.turn + step) % count);
            let is_last =
                |index: &usize| last.is_some_and(|last| Arc::ptr_eq(last, &self.inboxes[*index]));
            let (mut others, mut itself): (Vec<_>, Vec<_>) =
                in_turn.partition(|index| !is_last(index));
            others.append(&mut itself);
            let Some(next) = others
                .into_iter()
                .find(|index| self.inboxes[*index].has_credit())
            else {
                return;
            };
            if let Some(letter) = self.pending.pop_front() {
                self.pending_bytes -= letter.weight;
                self.inboxes[next].put(letter);
            }
            self.turn = (next + 1) % count;
        }
    }
}
