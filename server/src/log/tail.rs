//! A room's tail: its newest entries, encoded once, and who is to be woken when there are more.

use std::any::TypeId;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Instant;

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use shared::chat::{RoomId, RoomName};
use time::OffsetDateTime;

/// The most that one room's ring weighs. A reader that is further behind reads the store.
const RING_BYTES_MAX: usize = 2 << 20;

/// The most that all rings weigh together. Past it a ring keeps its newest batch alone.
const RINGS_BYTES_MAX: usize = 64 << 20;

/// Wakes one connection, whatever has become ready for it. To wake one that is awake costs one
/// atomic swap, and it is not scheduled again for it: it finds the mark before it sleeps.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    state: AtomicU8,
    waker: AtomicWaker,
}

/// It looks at its sources, or is going to.
const AWAKE: u8 = 0;
/// Something became ready since it began to look.
const MARKED: u8 = 1;
/// It found nothing more, and its waker is registered.
const ASLEEP: u8 = 2;

impl Signal {
    /// Says that something is ready.
    pub(crate) fn wake(&self) {
        if self.state.swap(MARKED, Ordering::AcqRel) == ASLEEP {
            self.waker.wake();
        }
    }

    /// Takes the mark. Look at every source after this call: it is a swap, not a store, so that all
    /// is seen that was made ready before the mark that it takes.
    pub(crate) fn take(&self) {
        self.state.swap(AWAKE, Ordering::AcqRel);
    }

    /// Lets `waker` be woken when something becomes ready; false where something has become so since
    /// [`Signal::take`]: then look again.
    pub(crate) fn sleep(&self, waker: &Waker) -> bool {
        self.waker.register(waker);
        self.state
            .compare_exchange(AWAKE, ASLEEP, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// Whether something became ready since [`Signal::take`].
    #[cfg(test)]
    pub(crate) fn is_ready(&self) -> bool {
        self.state.load(Ordering::Acquire) == MARKED
    }
}

/// The most bytes of a batch that takes in another entry: what one slow reader can hold on to.
pub(crate) const BATCH_BYTES_MAX: usize = 64 << 10;

/// A batch is kept in so many forms at most; others are made for each subscriber anew.
const FORMS_MAX: usize = 4;

/// Entries of one room that follow one another, encoded once (see `log::encode`), contiguous.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// The `seq` of the first entry.
    first: u64,
    made_at: Option<Instant>,
    /// Where each entry ends in `bytes`.
    ends: Vec<u32>,
    bytes: Vec<u8>,
    forms: Mutex<Vec<Arc<Form>>>,
}

/// A batch as all subscribers of one kind get it: every entry in its frame, contiguous.
#[derive(Debug)]
struct Form {
    /// The transport that framed it.
    transport: TypeId,
    /// How each MESSAGE begins.
    head: Box<[u8]>,
    /// Where each frame ends in `bytes`.
    ends: Vec<u32>,
    bytes: Bytes,
}

impl Batch {
    /// Makes an empty batch that begins at `first`.
    pub(crate) fn new(first: u64) -> Self {
        Batch {
            first,
            made_at: Some(Instant::now()),
            ..Batch::default()
        }
    }

    /// Adds the next entry, which `write` appends to the bytes.
    pub(crate) fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
        self.ends.push(offset(self.bytes.len()));
    }

    /// One past the `seq` of the last entry.
    pub(crate) fn end(&self) -> u64 {
        self.first + self.ends.len() as u64
    }

    /// The entries from `seq` on, with their `seq`.
    pub(crate) fn entries_from(&self, seq: u64) -> impl Iterator<Item = (u64, &[u8])> {
        let skipped = seq.saturating_sub(self.first) as usize;
        (skipped..self.ends.len()).map(move |index| {
            let start = if index == 0 {
                0
            } else {
                self.ends[index - 1] as usize
            };
            (
                self.first + index as u64,
                &self.bytes[start..self.ends[index] as usize],
            )
        })
    }

    /// The entries from `seq` on, each begun by `head` and framed by the transport `T`, which writes
    /// a frame of the pieces that it is given. What is made for one subscriber is shared by all others
    /// of its kind; `None` when the batch has too many kinds of them.
    pub(crate) fn framed<T: 'static>(
        &self,
        seq: u64,
        head: &[u8],
        frame: impl Fn(&[&[u8]], &mut Vec<u8>),
    ) -> Option<Bytes> {
        let transport = TypeId::of::<T>();
        let form = {
            let mut forms = lock(&self.forms);
            let same = |form: &&Arc<Form>| form.transport == transport && *form.head == *head;
            match forms.iter().find(same) {
                Some(form) => Arc::clone(form),
                None if forms.len() < FORMS_MAX => {
                    let mut bytes = Vec::with_capacity(
                        self.bytes.len() + self.ends.len() * (head.len() + FRAMING_BYTES),
                    );
                    let mut ends = Vec::with_capacity(self.ends.len());
                    for (_, rest) in self.entries_from(self.first) {
                        frame(&[head, rest], &mut bytes);
                        ends.push(offset(bytes.len()));
                    }
                    let bytes = bytes.into();
                    let head = head.into();
                    let form = Arc::new(Form {
                        transport,
                        head,
                        ends,
                        bytes,
                    });
                    forms.push(Arc::clone(&form));
                    form
                }
                None => return None,
            }
        };
        let skipped = seq.saturating_sub(self.first) as usize;
        let start = match skipped {
            0 => 0,
            skipped => *form.ends.get(skipped - 1)? as usize,
        };
        Some(form.bytes.slice(start..))
    }

    /// The bytes of its entries.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Lets go of what was allocated for entries that did not come.
    fn seal(&mut self) {
        self.bytes.shrink_to_fit();
        self.ends.shrink_to_fit();
    }

    /// What it takes of memory, with one form of it.
    fn weight(&self) -> usize {
        size_of::<Self>() + 2 * (self.bytes.capacity() + 4 * self.ends.capacity())
    }
}

/// About what a transport's framing adds to an entry.
const FRAMING_BYTES: usize = 16;

fn offset(length: usize) -> u32 {
    u32::try_from(length).expect("a batch is far below 4 GiB")
}

/// The figures of a room that others see.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    /// One past the newest `seq`.
    pub(crate) end: u64,
    /// TALK messages.
    pub(crate) message_count: u64,
    /// People present.
    pub(crate) participant_count: u64,
    /// When the newest TALK was stored.
    pub(crate) last_message_at: Option<OffsetDateTime>,
}

/// The weight of all rings of one log.
#[derive(Debug, Default)]
pub(crate) struct RingBudget(AtomicUsize);

impl RingBudget {
    /// Whether no room keeps anything.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }
}

/// A room: what it is, its tail, and who follows it.
#[derive(Debug)]
pub(crate) struct Room {
    /// Its identity.
    pub(crate) id: RoomId,
    /// Its key in the store, in the order of creation.
    pub(crate) number: i64,
    /// Its name.
    pub(crate) name: RoomName,
    /// When it was made.
    pub(crate) created_at: OffsetDateTime,
    end: AtomicU64,
    figures: Mutex<Figures>,
    ring: Mutex<Ring>,
    followers: Mutex<Vec<Arc<Signal>>>,
    budget: Arc<RingBudget>,
}

#[derive(Debug, Default)]
struct Ring {
    batches: VecDeque<Arc<Batch>>,
    bytes: usize,
}

/// What a cursor finds at its place.
#[derive(Debug)]
pub(crate) enum Read {
    /// Nothing yet: its followers are woken when there is.
    Nothing,
    /// These batches, in order; the first holds the place asked for.
    Batches(Vec<Arc<Batch>>),
    /// The ring begins later: read the store.
    Behind,
}

impl Room {
    /// Makes a room as the store knows it. Its ring is empty.
    pub(crate) fn new(
        number: i64,
        id: RoomId,
        name: RoomName,
        created_at: OffsetDateTime,
        figures: Figures,
        budget: Arc<RingBudget>,
    ) -> Self {
        Room {
            id,
            number,
            name,
            created_at,
            end: AtomicU64::new(figures.end),
            figures: Mutex::new(figures),
            ring: Mutex::default(),
            followers: Mutex::default(),
            budget,
        }
    }

    /// One past the newest `seq` that may be shown.
    pub(crate) fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    /// The figures of this moment.
    pub(crate) fn figures(&self) -> Figures {
        *lock(&self.figures)
    }

    /// Sets how many people are present.
    pub(crate) fn set_participant_count(&self, count: u64) {
        lock(&self.figures).participant_count = count;
    }

    /// Reads from `seq` on, at most about `bytes_max` (but always one batch).
    pub(crate) fn read(&self, seq: u64, bytes_max: usize) -> Read {
        if seq >= self.end() {
            return Read::Nothing;
        }
        let ring = lock(&self.ring);
        if ring.batches.front().is_none_or(|batch| seq < batch.first) {
            return Read::Behind;
        }
        let from = ring.batches.partition_point(|batch| batch.end() <= seq);
        let mut bytes = 0;
        let batches = ring
            .batches
            .range(from..)
            .take_while(|batch| {
                let go_on = bytes < bytes_max;
                bytes += batch.bytes.len();
                go_on
            })
            .cloned()
            .collect();
        Read::Batches(batches)
    }

    /// Shows committed batches to everybody. Called by the log alone, in order.
    pub(crate) fn publish(&self, batches: Vec<Batch>, figures: Figures) {
        let followed = !lock(&self.followers).is_empty();
        *lock(&self.figures) = figures;
        {
            let mut ring = lock(&self.ring);
            if followed {
                for mut batch in batches {
                    batch.seal();
                    self.keep(&mut ring, Arc::new(batch));
                }
            } else {
                self.drop_oldest(&mut ring, 0);
            }
            self.end.store(figures.end, Ordering::Release);
        }
        for signal in lock(&self.followers).iter() {
            signal.wake();
        }
    }

    fn keep(&self, ring: &mut Ring, batch: Arc<Batch>) {
        let weight = batch.weight();
        ring.bytes += weight;
        let total = self.budget.0.fetch_add(weight, Ordering::Relaxed) + weight;
        ring.batches.push_back(batch);
        let bytes_max = if total > RINGS_BYTES_MAX {
            weight
        } else {
            RING_BYTES_MAX.max(weight)
        };
        self.drop_oldest(ring, bytes_max);
    }

    fn drop_oldest(&self, ring: &mut Ring, bytes_max: usize) {
        while ring.bytes > bytes_max {
            self.drop_first(ring);
        }
    }

    fn drop_first(&self, ring: &mut Ring) {
        if let Some(batch) = ring.batches.pop_front() {
            ring.bytes -= batch.weight();
            self.budget.0.fetch_sub(batch.weight(), Ordering::Relaxed);
        }
    }

    /// Lets go of the entries that were published before this: who has not read them by now reads the
    /// store.
    pub(crate) fn forget(&self, before: Instant) {
        let mut ring = lock(&self.ring);
        let is_old = |batch: &Arc<Batch>| batch.made_at.is_none_or(|at| at < before);
        while ring.batches.front().is_some_and(is_old) {
            self.drop_first(&mut ring);
        }
        if ring.batches.is_empty() {
            ring.batches.shrink_to_fit();
        }
    }

    /// Wakes `signal` whenever there is more, until [`Room::unfollow`].
    pub(crate) fn follow(&self, signal: &Arc<Signal>) {
        lock(&self.followers).push(Arc::clone(signal));
    }

    /// Undoes one [`Room::follow`].
    pub(crate) fn unfollow(&self, signal: &Arc<Signal>) {
        let mut followers = lock(&self.followers);
        if let Some(index) = followers
            .iter()
            .position(|other| Arc::ptr_eq(other, signal))
        {
            followers.swap_remove(index);
        }
        if followers.capacity() > 64 && followers.len() < followers.capacity() / 4 {
            followers.shrink_to_fit();
        }
        let alone = followers.is_empty();
        drop(followers);
        if alone {
            self.drop_oldest(&mut lock(&self.ring), 0);
        }
    }
}

/// Locks a mutex whose holder cannot leave it half-done: a panic elsewhere does not spread.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use shared::chat::RoomName;
    use uuid::Uuid;

    use super::*;

    fn room(end: u64) -> Room {
        let figures = Figures {
            end,
            ..Figures::default()
        };
        let name = RoomName::parse("방").unwrap();
        Room::new(
            1,
            RoomId(Uuid::nil()),
            name,
            OffsetDateTime::UNIX_EPOCH,
            figures,
            Arc::default(),
        )
    }

    fn publish(room: &Room, entries: &[&[u8]]) {
        let mut batch = Batch::new(room.end());
        for entry in entries {
            batch.push(|out| out.extend_from_slice(entry));
        }
        let figures = Figures {
            end: batch.end(),
            ..room.figures()
        };
        room.publish(vec![batch], figures);
    }

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl std::task::Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn who_is_awake_is_marked_and_who_sleeps_is_woken_once() {
        let signal = Signal::default();
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let wakes = || count.0.load(Ordering::SeqCst);
        signal.take();
        signal.wake();
        assert!(!signal.sleep(&waker), "it was marked while it looked");
        signal.take();
        assert!(signal.sleep(&waker));
        assert_eq!(wakes(), 0, "nobody slept");
        signal.wake();
        signal.wake();
        assert_eq!(wakes(), 1);
        // Woken by something else meanwhile: it looks, and is not woken for what it looks at.
        signal.take();
        assert!(signal.sleep(&waker));
        signal.take();
        signal.wake();
        assert_eq!(wakes(), 1);
        assert!(!signal.sleep(&waker));
    }

    #[test]
    fn no_wake_is_lost_between_threads() {
        struct Unpark(std::thread::Thread);
        impl std::task::Wake for Unpark {
            fn wake(self: Arc<Self>) {
                self.0.unpark();
            }
        }
        const EACH: usize = 100_000;
        const SOON: std::time::Duration = std::time::Duration::from_secs(20);
        let (signal, made) = (Signal::default(), AtomicUsize::new(0));
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..EACH {
                        // The signal alone makes it visible.
                        made.fetch_add(1, Ordering::Relaxed);
                        signal.wake();
                    }
                });
            }
            loop {
                signal.take();
                if made.load(Ordering::Relaxed) == 2 * EACH {
                    break;
                }
                if signal.sleep(&waker) {
                    let begin = std::time::Instant::now();
                    std::thread::park_timeout(SOON);
                    assert!(begin.elapsed() < SOON, "a wake is lost");
                }
            }
        });
    }

    #[test]
    fn a_cursor_reads_what_follows_it() {
        let room = room(5);
        room.follow(&Arc::default());
        assert!(matches!(room.read(5, 100), Read::Nothing));
        assert!(matches!(room.read(4, 100), Read::Behind));
        publish(&room, &[b"five", b"six"]);
        publish(&room, &[b"seven"]);
        let Read::Batches(batches) = room.read(6, 100) else {
            panic!("expected batches")
        };
        let entries: Vec<_> = batches
            .iter()
            .flat_map(|batch| batch.entries_from(6))
            .collect();
        assert_eq!(entries, [(6, &b"six"[..]), (7, b"seven")]);
    }

    #[test]
    fn subscribers_of_one_kind_share_their_frames() {
        struct Socket;
        let mut batch = Batch::new(5);
        for entry in [b"five", b"six!"] {
            batch.push(|out| out.extend_from_slice(entry));
        }
        let frame = |pieces: &[&[u8]], out: &mut Vec<u8>| {
            out.push(b'<');
            pieces.iter().for_each(|piece| out.extend_from_slice(piece));
        };
        let framed = |seq, head: &[u8]| batch.framed::<Socket>(seq, head, frame);
        let first = framed(5, b"a:").unwrap();
        assert_eq!(first, b"<a:five<a:six!"[..]);
        let second = framed(6, b"a:").unwrap();
        assert_eq!(second, b"<a:six!"[..]);
        assert_eq!(first.as_ptr_range().end, second.as_ptr_range().end);
        for head in [b"b:", b"c:", b"d:"] {
            assert!(framed(5, head).is_some());
        }
        assert!(framed(5, b"e:").is_none());
        assert_eq!(framed(5, b"d:").unwrap(), b"<d:five<d:six!"[..]);
    }

    #[test]
    fn the_ring_forgets_the_oldest_and_says_so() {
        let room = room(1);
        room.follow(&Arc::default());
        let entry = vec![b'x'; 1000];
        for _ in 0..1100 {
            publish(&room, &[&entry]);
        }
        assert!(matches!(room.read(1, 100), Read::Behind));
        assert!(matches!(room.read(1100, 100), Read::Batches(_)));
        assert!(lock(&room.ring).bytes <= RING_BYTES_MAX);
    }

    #[test]
    fn a_quiet_room_lets_its_ring_go() {
        let room = room(1);
        room.follow(&Arc::default());
        publish(&room, &[b"one"]);
        let between = Instant::now();
        publish(&room, &[b"two"]);
        room.forget(between);
        assert!(matches!(room.read(1, 100), Read::Behind));
        assert!(matches!(room.read(2, 100), Read::Batches(_)));
        room.forget(Instant::now());
        assert!(matches!(room.read(2, 100), Read::Behind));
        assert!(room.budget.is_empty());
        assert_eq!(lock(&room.ring).batches.capacity(), 0);
        publish(&room, &[b"three"]);
        assert!(matches!(room.read(3, 100), Read::Batches(_)));
    }

    #[test]
    fn a_room_that_nobody_follows_keeps_no_ring() {
        let room = room(1);
        publish(&room, &[b"one"]);
        assert_eq!(room.end(), 2);
        assert!(matches!(room.read(1, 100), Read::Behind));
        let signal = Arc::default();
        room.follow(&signal);
        publish(&room, &[b"two"]);
        assert!(signal.is_ready());
        room.unfollow(&signal);
        assert_eq!(room.budget.0.load(Ordering::Relaxed), 0);
    }
}
