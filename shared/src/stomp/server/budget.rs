//! What all sessions of a server may hold together.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// How much open transactions may weigh in all sessions together, in octets of memory.
///
/// A session may hold a quarter of what is left when it has taken it: one alone a fifth of all. So a few
/// that take what they can leave room for whoever comes later.
#[derive(Debug)]
pub struct TransactionBudget {
    bytes_max: usize,
    held: AtomicUsize,
}

impl TransactionBudget {
    /// Makes a budget of so many octets, of which nothing is held.
    pub fn new(bytes_max: usize) -> Self {
        TransactionBudget {
            bytes_max,
            held: AtomicUsize::new(0),
        }
    }

    /// The octets that sessions hold, without what each may hold uncounted.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }
}

/// What a session may hold uncounted: what is small passes, whatever others hold.
pub(super) const FREE_BYTES: usize = 64 << 10;

/// A session may hold one part of so many of what is left.
const PARTS: usize = 4;

/// What is counted is counted in steps, so that sessions seldom meet in the budget.
const STEP_BYTES: usize = 16 << 10;

/// What one session holds of a budget; given back when this is dropped.
#[derive(Debug)]
pub(super) struct Share {
    budget: Arc<TransactionBudget>,
    counted: usize,
}

impl Share {
    pub(super) fn new(budget: &Arc<TransactionBudget>) -> Self {
        Share {
            budget: Arc::clone(budget),
            counted: 0,
        }
    }

    /// Makes the share one of so many octets; whether it may be. One that is to be smaller always may.
    pub(super) fn resize(&mut self, bytes: usize) -> bool {
        let wanted = bytes
            .saturating_sub(FREE_BYTES)
            .next_multiple_of(STEP_BYTES);
        let (done, seen) = (Ordering::Relaxed, Ordering::Relaxed);
        if let Some(less) = self.counted.checked_sub(wanted) {
            if less > 0 {
                self.budget.held.fetch_sub(less, done);
            }
        } else {
            let more = wanted - self.counted;
            let taken = self.budget.held.fetch_update(done, seen, |held| {
                let held = held.checked_add(more)?;
                let left = self.budget.bytes_max.checked_sub(held)?;
                (wanted <= left / PARTS).then_some(held)
            });
            if taken.is_err() {
                return false;
            }
        }
        self.counted = wanted;
        true
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.resize(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_that_take_all_they_can_leave_room_for_more() {
        let budget = Arc::new(TransactionBudget::new(128 << 20));
        let mut shares = Vec::new();
        for number in 1..200 {
            let mut share = Share::new(&budget);
            let mut bytes = FREE_BYTES;
            while share.resize(bytes + STEP_BYTES) {
                bytes += STEP_BYTES;
            }
            let left = budget.bytes_max - budget.held();
            assert!(left / PARTS >= share.counted, "{number}");
            match number {
                1 => assert!(share.counted > 25 << 20, "{}", share.counted),
                10 => assert!(left > 12 << 20, "{left}"),
                20 => assert!(left > 1 << 20, "{left}"),
                _ => {}
            }
            shares.push(share);
        }
        // What is small passes.
        assert!(Share::new(&budget).resize(FREE_BYTES));
        assert!(budget.held() <= budget.bytes_max);
        drop(shares);
        assert_eq!(budget.held(), 0);
    }

    #[test]
    fn a_share_grows_and_shrinks_in_steps() {
        let budget = Arc::new(TransactionBudget::new(1 << 20));
        let mut share = Share::new(&budget);
        for (bytes, counted) in [
            (FREE_BYTES, 0),
            (FREE_BYTES + 1, STEP_BYTES),
            (FREE_BYTES + STEP_BYTES, STEP_BYTES),
            (FREE_BYTES + 3 * STEP_BYTES, 3 * STEP_BYTES),
            (FREE_BYTES + 1, STEP_BYTES),
            (0, 0),
        ] {
            assert!(share.resize(bytes), "{bytes}");
            assert_eq!(budget.held(), counted, "{bytes}");
        }
        let fifth = budget.bytes_max / (PARTS + 1) / STEP_BYTES * STEP_BYTES;
        assert!(share.resize(FREE_BYTES + fifth));
        assert!(!share.resize(FREE_BYTES + fifth + 1));
        assert!(!share.resize(usize::MAX - STEP_BYTES));
        assert_eq!(budget.held(), fifth, "what is refused changes nothing");
    }
}
