//! What waits for a subscription, and for the connection that has it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::letter::{Bounds, Letter};
use crate::log::Signal;
use crate::log::tail::lock;

/// What one connection's inboxes have in common.
#[derive(Debug)]
pub(crate) struct Reader {
    signal: Arc<Signal>,
    bounds: Arc<Bounds>,
    /// The bytes that wait in its inboxes.
    waiting: AtomicUsize,
    /// The bytes that queues gave it and that are not acknowledged.
    given: AtomicUsize,
    /// A queue found no room for another letter, in whichever inbox.
    is_short: AtomicBool,
    overflowed: AtomicBool,
    closed: AtomicBool,
}

impl Reader {
    /// Makes the reader that `signal` wakes, for which no more waits than `bounds` let.
    pub(crate) fn new(signal: Arc<Signal>, bounds: Arc<Bounds>) -> Self {
        Reader {
            signal,
            bounds,
            waiting: AtomicUsize::new(0),
            given: AtomicUsize::new(0),
            is_short: AtomicBool::new(false),
            overflowed: AtomicBool::new(false),
            closed: AtomicBool::new(false),
        }
    }

    /// Whether more waited than may: letters are missing, so that it must be cut off.
    pub(crate) fn has_overflowed(&self) -> bool {
        self.overflowed.load(Ordering::Acquire)
    }

    /// Whether a queue found no room since this was asked. Where less waits now than before this call,
    /// every queue that found none is to be offered its inbox.
    pub(crate) fn was_short(&self) -> bool {
        self.is_short.swap(false, Ordering::SeqCst)
    }

    /// Whether a queue may give it one more; of what is larger than the bound one at a time.
    fn has_room(&self) -> bool {
        let waiting = self.waiting.load(Ordering::SeqCst);
        let bytes = waiting + self.given.load(Ordering::SeqCst);
        bytes < self.bounds.of_reader().max(1)
    }

    /// Lets no queue give it anything more: all its inboxes are about to end.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
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

    /// Puts a letter in; past the bound its reader overflows and the letter is not kept. Of what is
    /// larger than the bound one may wait.
    pub(crate) fn put(&self, letter: Arc<Letter>) {
        let (reader, weight) = (&self.reader, letter.weight);
        let before = reader.waiting.fetch_add(weight, Ordering::AcqRel);
        if before > 0 && before + weight > reader.bounds.of_reader() {
            reader.waiting.fetch_sub(weight, Ordering::AcqRel);
            reader.overflow();
            return;
        }
        lock(&self.state).letters.push_back(letter);
        reader.signal.wake();
    }

    /// Puts in the letter of a queue that has seen its credit.
    pub(super) fn give(&self, letter: Arc<Letter>) {
        let weight = letter.weight;
        self.reader.waiting.fetch_add(weight, Ordering::AcqRel);
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
        if self.window.is_some() {
            self.reader.given.fetch_add(weight, Ordering::AcqRel);
            state.given.push_back((position, Arc::clone(&letter)));
        }
        self.reader.waiting.fetch_sub(weight, Ordering::SeqCst);
        Some(letter)
    }

    /// Whether a queue may give it one more. What brings it credit is that letters are taken from it or
    /// settled, or [`Reader::was_short`].
    pub(super) fn has_credit(&self) -> bool {
        #[cfg(test)]
        super::tests::LOOKS.set(super::tests::LOOKS.get() + 1);
        let reader = &self.reader;
        if reader.has_overflowed() || reader.closed.load(Ordering::Acquire) {
            return false;
        }
        if let Some(window) = self.window {
            let state = lock(&self.state);
            if state.letters.len() + state.given.len() >= window {
                return false;
            }
        }
        if reader.has_room() {
            return true;
        }
        reader.is_short.store(true, Ordering::SeqCst);
        // What its connection took before it could see that.
        reader.has_room()
    }

    /// Takes out what was given at these positions, in the order of delivery.
    pub(super) fn settle(&self, positions: &[u64]) -> Vec<Arc<Letter>> {
        let mut state = lock(&self.state);
        let mut settled = Vec::with_capacity(positions.len());
        for position in positions {
            if let Ok(at) = state.given.binary_search_by_key(position, |(at, _)| *at)
                && let Some((_, letter)) = state.given.remove(at)
            {
                self.reader.given.fetch_sub(letter.weight, Ordering::SeqCst);
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
    pub(super) fn empty(&self) -> Vec<Arc<Letter>> {
        let state = std::mem::take(&mut *lock(&self.state));
        let weight = |letter: &Arc<Letter>| letter.weight;
        let waiting: usize = state.letters.iter().map(weight).sum();
        let given: Vec<_> = state.given.into_iter().map(|(_, letter)| letter).collect();
        let given_bytes: usize = given.iter().map(weight).sum();
        self.reader.waiting.fetch_sub(waiting, Ordering::SeqCst);
        self.reader.given.fetch_sub(given_bytes, Ordering::SeqCst);
        given.into_iter().chain(state.letters).collect()
    }

    /// Holds up whoever gives it something.
    #[cfg(test)]
    pub(super) fn hold(&self) -> impl Drop {
        lock(&self.state)
    }

    /// All that it holds: given and not acknowledged, then waiting.
    #[cfg(test)]
    pub(super) fn letters(&self) -> Vec<Arc<Letter>> {
        let state = lock(&self.state);
        let given = state.given.iter().map(|(_, letter)| letter);
        given.chain(&state.letters).cloned().collect()
    }

    /// Cuts its connection off, as it is too slow.
    pub(super) fn cut_off(&self) {
        self.reader.overflow();
    }

    /// The most for which nobody has credit that may wait at its queue now.
    pub(super) fn queue_bytes_max(&self) -> usize {
        self.reader.bounds.of_queue()
    }
}
