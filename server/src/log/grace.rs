//! The time by which graces run.
//!
//! It is not the clock's: while the store fails, or the process stands still, nobody can come back, so
//! that time does not go on for who is away. When the store answers again, whoever tried meanwhile has
//! a grace to do so.

use std::time::{Duration, Instant};

/// What passes between two looks counts for no more: they are a second apart.
const STEP_MAX: Duration = Duration::from_secs(2);

/// The time that the log has lived, as far as people could come back in it.
#[derive(Debug)]
pub(super) struct GraceClock {
    grace: Duration,
    time: Duration,
    read_at: Instant,
    /// Whether the store took what was last written.
    is_well: bool,
    /// It stands still until then.
    stands_until: Instant,
}

impl GraceClock {
    /// Begins at 0.
    pub(super) fn new(grace: Duration, now: Instant) -> Self {
        GraceClock {
            grace,
            time: Duration::ZERO,
            read_at: now,
            is_well: true,
            stands_until: now,
        }
    }

    /// The time at `now`.
    pub(super) fn read(&mut self, now: Instant) -> Duration {
        let from = self.read_at.max(self.stands_until);
        self.read_at = self.read_at.max(now);
        if self.is_well {
            self.time += now.saturating_duration_since(from).min(STEP_MAX);
        }
        self.time
    }

    /// Notes at `now` whether the store took what was written.
    pub(super) fn note(&mut self, is_well: bool, now: Instant) {
        self.read(now);
        if is_well && !self.is_well {
            self.stands_until = now + self.grace;
        }
        self.is_well = is_well;
    }

    /// Whether the store took what was last written.
    pub(super) fn is_well(&self) -> bool {
        self.is_well
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(10);
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn it_goes_on_while_the_process_looks() {
        let start = Instant::now();
        let mut clock = GraceClock::new(GRACE, start);
        for second in 1..=20 {
            assert_eq!(clock.read(start + second * SECOND), second * SECOND);
        }
        // The process stood for a minute.
        assert_eq!(clock.read(start + 80 * SECOND), 22 * SECOND);
        assert_eq!(clock.read(start + 81 * SECOND), 23 * SECOND);
        // Nothing goes back.
        assert_eq!(clock.read(start), 23 * SECOND);
        assert_eq!(clock.read(start + 81 * SECOND), 23 * SECOND);
    }

    #[test]
    fn it_stands_while_the_store_fails_and_a_grace_longer() {
        let start = Instant::now();
        let at = |seconds: u32| start + seconds * SECOND;
        let mut clock = GraceClock::new(GRACE, start);
        clock.note(false, at(2));
        for second in 3..60 {
            assert_eq!(clock.read(at(second)), 2 * SECOND);
        }
        assert!(!clock.is_well());
        clock.note(true, at(60));
        clock.note(true, at(61));
        for second in 62..=70 {
            assert_eq!(clock.read(at(second)), 2 * SECOND);
        }
        assert_eq!(clock.read(at(71)), 3 * SECOND);
    }
}
