//! A room's tail: its newest entries, encoded once, and who is to be woken when there are more.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use futures_util::task::AtomicWaker;
use shared::chat::{RoomId, RoomName};
use time::OffsetDateTime;

/// The most bytes that one room's ring holds. A reader that is further behind reads the store.
const RING_BYTES_MAX: usize = 1 << 20;

/// The most bytes that all rings hold together. Past it a ring keeps its newest batch alone.
const RINGS_BYTES_MAX: usize = 64 << 20;

/// Wakes one connection, whatever has become ready for it. To wake one that is awake costs one
/// atomic swap.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    ready: AtomicBool,
    waker: AtomicWaker,
}

impl Signal {
    /// Says that something is ready.
    pub(crate) fn wake(&self) {
        if !self.ready.swap(true, Ordering::AcqRel) {
            self.waker.wake();
        }
    }

    /// Registers who is to be woken, and takes the mark. Look at every source after this call.
    pub(crate) fn arm(&self, waker: &Waker) {
        self.waker.register(waker);
        self.ready.store(false, Ordering::SeqCst);
    }

    /// Whether something became ready since [`Signal::arm`].
    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }
}

/// Entries of one room that follow one another, encoded once (see `log::encode`), contiguous.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// The `seq` of the first entry.
    first: u64,
    /// Where each entry ends in `bytes`.
    ends: Vec<u32>,
    bytes: Vec<u8>,
}

impl Batch {
    /// Makes an empty batch that begins at `first`.
    pub(crate) fn new(first: u64) -> Self {
        Batch {
            first,
            ..Batch::default()
        }
    }

    /// Adds the next entry, which `write` appends to the bytes.
    pub(crate) fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
        self.ends
            .push(u32::try_from(self.bytes.len()).expect("a batch is far below 4 GiB"));
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

    /// The bytes of its entries.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    fn weight(&self) -> usize {
        self.bytes.len() + 4 * self.ends.len()
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

/// The bytes in all rings of one log.
#[derive(Debug, Default)]
pub(crate) struct RingBudget(AtomicUsize);

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

    /// Shows a committed batch to everybody. Called by the log alone, in order.
    pub(crate) fn publish(&self, batch: Batch, figures: Figures) {
        let followed = !lock(&self.followers).is_empty();
        *lock(&self.figures) = figures;
        {
            let mut ring = lock(&self.ring);
            if followed {
                self.keep(&mut ring, Arc::new(batch));
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
            let Some(batch) = ring.batches.pop_front() else {
                break;
            };
            ring.bytes -= batch.weight();
            self.budget.0.fetch_sub(batch.weight(), Ordering::Relaxed);
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
        room.publish(batch, figures);
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
