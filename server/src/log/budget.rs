//! How much of something is held by all together, counted as it weighs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The bytes that are held by now.
#[derive(Debug, Default)]
pub(crate) struct Budget(AtomicUsize);

impl Budget {
    /// Counts so many bytes.
    pub(crate) fn charge(self: &Arc<Self>, bytes: usize) -> Charge {
        let charge = Charge {
            budget: Arc::clone(self),
            bytes: AtomicUsize::new(0),
        };
        charge.add(bytes);
        charge
    }

    /// Counts so many bytes where no more than `bytes_max` are held with them.
    pub(crate) fn try_charge(self: &Arc<Self>, bytes: usize, bytes_max: usize) -> Option<Charge> {
        let held = |held: usize| Some(held + bytes).filter(|held| *held <= bytes_max);
        let (done, seen) = (Ordering::Relaxed, Ordering::Relaxed);
        self.0.fetch_update(done, seen, held).ok().map(|_| Charge {
            budget: Arc::clone(self),
            bytes: AtomicUsize::new(bytes),
        })
    }

    /// The bytes that are held.
    pub(crate) fn held(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// What one thing counts in a budget, until it is dropped.
#[derive(Debug)]
pub(crate) struct Charge {
    budget: Arc<Budget>,
    bytes: AtomicUsize,
}

impl Charge {
    /// The budget in which it counts.
    pub(crate) fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// Counts so many bytes more.
    pub(crate) fn add(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.budget.0.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let bytes = *self.bytes.get_mut();
        self.budget.0.fetch_sub(bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_charged_counts_until_it_is_dropped() {
        let budget = Arc::new(Budget::default());
        let first = budget.charge(100);
        first.add(20);
        assert!(budget.try_charge(31, 150).is_none());
        let second = budget.try_charge(30, 150).unwrap();
        assert_eq!(budget.held(), 150);
        drop(first);
        assert_eq!(budget.held(), 30);
        drop(second);
        assert_eq!(budget.held(), 0);
    }
}
