//! What the operator is told of pages that may not connect.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// An origin is told of once in this time.
const PAUSE: Duration = Duration::from_secs(60);

/// The most origins that are remembered; past it, others wait until one is forgotten.
const ORIGINS_MAX: usize = 256;

/// Origins that were told of within the last minute.
#[derive(Debug, Default)]
pub(super) struct Refused(Mutex<HashMap<String, Instant>>);

impl Refused {
    /// Whether an origin is to be told of now, and notes that it has been.
    pub(super) fn is_due(&self, origin: &str, now: Instant) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_recent = |at: &Instant| now.saturating_duration_since(*at) < PAUSE;
        if told.get(origin).is_some_and(is_recent) {
            return false;
        }
        if told.len() >= ORIGINS_MAX {
            told.retain(|_, at| is_recent(at));
        }
        if told.len() >= ORIGINS_MAX {
            return false;
        }
        told.insert(origin.to_owned(), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_told_of_once_a_minute_within_a_bound() {
        let refused = Refused::default();
        let begin = Instant::now();
        assert!(refused.is_due("https://a.example", begin));
        assert!(!refused.is_due("https://a.example", begin + PAUSE / 2));
        assert!(refused.is_due("https://b.example", begin + PAUSE / 2));
        assert!(refused.is_due("https://a.example", begin + PAUSE));
        for number in 0..10_000 {
            refused.is_due(&number.to_string(), begin + PAUSE);
        }
        assert_eq!(refused.0.lock().unwrap().len(), ORIGINS_MAX);
        assert!(!refused.is_due("https://c.example", begin + PAUSE));
        assert!(refused.is_due("https://c.example", begin + PAUSE * 3));
        assert_eq!(refused.0.lock().unwrap().len(), 1);
    }
}
