//! A room's tail: its newest entries, encoded once, and who is to be woken when there are more.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Instant;

use futures_util::task::AtomicWaker;
use shared::chat::{RoomId, RoomName};
use time::OffsetDateTime;

use super::batch::Batch;
use super::budget::Budget;
use super::followers::Followers;

/// The most that the batches of one room's ring weigh. A reader that is further behind reads the store.
const RING_BYTES_MAX: usize = 1 << 20;

/// The most that all rings weigh together, with all forms of their batches. Past it nothing is kept.
const RINGS_BYTES_MAX: usize = 64 << 20;

/// From so many bytes on a ring keeps its newest batch alone, and no other form of it.
const RINGS_BYTES_USUAL: usize = 48 << 20;

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
    followers: Followers,
    budget: Arc<Budget>,
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
        budget: Arc<Budget>,
    ) -> Self {
        Room {
            id,
            number,
            name,
            created_at,
            end: AtomicU64::new(figures.end),
            figures: Mutex::new(figures),
            ring: Mutex::default(),
            followers: Followers::default(),
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
        if ring.batches.front().is_none_or(|batch| seq < batch.first()) {
            return Read::Behind;
        }
        let from = ring.batches.partition_point(|batch| batch.end() <= seq);
        let mut bytes = 0;
        let batches = ring
            .batches
            .range(from..)
            .take_while(|batch| {
                let go_on = bytes < bytes_max;
                bytes += batch.len();
                go_on
            })
            .cloned()
            .collect();
        Read::Batches(batches)
    }

    /// Shows committed batches to everybody. Called by the log alone, in order.
    pub(crate) fn publish(&self, batches: Vec<Batch>, figures: Figures) {
        let is_followed = !self.followers.is_empty();
        *lock(&self.figures) = figures;
        {
            let mut ring = lock(&self.ring);
            if is_followed {
                for mut batch in batches {
                    batch.seal();
                    self.keep(&mut ring, batch);
                }
            } else {
                ring.shrink_to(0);
            }
            self.end.store(figures.end, Ordering::Release);
        }
        self.followers.wake();
    }

    /// Adds the newest batch to the ring; where all rings weigh too much, the ring begins after it.
    fn keep(&self, ring: &mut Ring, batch: Batch) {
        let weight = batch.weight();
        let is_usual = self.budget.held() + weight <= RINGS_BYTES_USUAL;
        ring.shrink_to(if is_usual {
            RING_BYTES_MAX.saturating_sub(weight)
        } else {
            0
        });
        match self.budget.try_charge(weight, RINGS_BYTES_MAX) {
            Some(charge) => {
                batch.share(charge, RINGS_BYTES_USUAL);
                ring.bytes += weight;
                ring.batches.push_back(Arc::new(batch));
            }
            None => ring.shrink_to(0),
        }
    }

    /// Lets go of the entries that were published before this: who has not read them by now reads the
    /// store. Of the others it keeps no form that waits for no socket.
    pub(crate) fn forget(&self, before: Instant) {
        let mut ring = lock(&self.ring);
        let is_old = |batch: &Arc<Batch>| batch.is_older_than(before);
        while ring.batches.front().is_some_and(is_old) {
            ring.drop_first();
        }
        if ring.batches.is_empty() {
            ring.batches.shrink_to_fit();
        }
        ring.batches.iter().for_each(|batch| batch.forget_forms());
    }

    /// Wakes `signal` whenever there is more, until [`Room::unfollow`].
    pub(crate) fn follow(&self, signal: &Arc<Signal>) {
        self.followers.add(signal);
    }

    /// Undoes one [`Room::follow`].
    pub(crate) fn unfollow(&self, signal: &Arc<Signal>) {
        self.followers.remove(signal);
        if self.followers.is_empty() {
            lock(&self.ring).shrink_to(0);
        }
    }
}

impl Ring {
    /// Lets go of the oldest batches until no more than `bytes_max` is left.
    fn shrink_to(&mut self, bytes_max: usize) {
        while self.bytes > bytes_max {
            self.drop_first();
        }
    }

    fn drop_first(&mut self) {
        if let Some(batch) = self.batches.pop_front() {
            self.bytes -= batch.weight();
            batch.unshare();
        }
    }
}

/// Locks a mutex whose holder cannot leave it half-done: a panic elsewhere does not spread.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use shared::chat::RoomName;
    use uuid::Uuid;

    use super::*;

    fn room(end: u64) -> Room {
        room_in(end, &Arc::default())
    }

    fn room_in(end: u64, budget: &Arc<Budget>) -> Room {
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
            Arc::clone(budget),
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
    fn all_rings_are_bounded_with_all_forms_of_their_batches() {
        struct Socket;
        const KINDS: u8 = 4;
        let budget = Arc::default();
        let rooms: Vec<Room> = (0..100).map(|_| room_in(1, &budget)).collect();
        let entry = vec![b'x'; 64 << 10];
        let mut is_tight = false;
        for round in 0..60 {
            for (index, room) in rooms.iter().enumerate() {
                if round == 0 {
                    room.follow(&Arc::default());
                }
                // Not all are as busy.
                if (index + round) % (1 + index % 7) != 0 {
                    continue;
                }
                publish(room, &[&entry]);
                let newest = room.end() - 1;
                match room.read(newest, 1) {
                    Read::Batches(batches) => {
                        assert_eq!(batches[0].first(), newest);
                        for head in 0..KINDS {
                            let frame = |pieces: &[&[u8]], out: &mut Vec<u8>| {
                                pieces.iter().for_each(|piece| out.extend_from_slice(piece));
                            };
                            let form = batches[0].framed::<Socket>(newest, &[head], frame);
                            is_tight |= form.is_none();
                        }
                    }
                    Read::Behind => is_tight = true,
                    Read::Nothing => panic!("it was published"),
                }
                assert!(budget.held() <= RINGS_BYTES_MAX);
            }
        }
        assert!(is_tight, "this never came to the bound");
        for room in &rooms {
            room.forget(Instant::now());
        }
        assert_eq!(budget.held(), 0);
    }

    #[test]
    fn where_nothing_more_is_kept_the_store_has_it() {
        let budget = Arc::default();
        let room = room_in(1, &budget);
        room.follow(&Arc::default());
        publish(&room, &[b"one"]);
        let others = budget.charge(RINGS_BYTES_MAX);
        publish(&room, &[b"two"]);
        assert!(matches!(room.read(1, 100), Read::Behind));
        assert!(matches!(room.read(2, 100), Read::Behind));
        assert_eq!(budget.held(), RINGS_BYTES_MAX);
        // Where little more may be kept it is the newest batch alone.
        drop(others);
        publish(&room, &[b"three"]);
        let _others = budget.charge(RINGS_BYTES_USUAL);
        publish(&room, &[b"four"]);
        assert!(matches!(room.read(3, 100), Read::Behind));
        assert!(matches!(room.read(4, 100), Read::Batches(_)));
    }

    #[test]
    fn a_quiet_room_lets_its_ring_go() {
        let room = room(1);
        room.follow(&Arc::default());
        publish(&room, &[b"one"]);
        let between = Instant::now();
        publish(&room, &[b"two"]);
        let Read::Batches(held) = room.read(1, 100) else {
            panic!("expected batches")
        };
        room.forget(between);
        assert!(matches!(room.read(1, 100), Read::Behind));
        assert!(matches!(room.read(2, 100), Read::Batches(_)));
        room.forget(Instant::now());
        assert!(matches!(room.read(2, 100), Read::Behind));
        // Whoever still reads them does not count.
        assert_eq!(held.len(), 2);
        assert_eq!(room.budget.held(), 0);
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
        assert_eq!(room.budget.held(), 0);
    }
}
