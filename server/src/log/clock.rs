//! The time that rooms and messages are given: the server's clock, as far as it can be believed.

use time::{Duration, OffsetDateTime};

/// How far the clock may be behind the newest entry and times wait for it: as far as a clock is set
/// right in passing.
const WAIT_MAX: Duration = Duration::SECOND;

/// Tells the time of what is stored. It does not fall, unless the clock turns out to be far behind:
/// then the clock was ahead before, or has been set back, and times follow it again rather than
/// stand still until it has caught up. The order of messages is that of `seq`.
pub(super) struct Clock {
    read: ReadClock,
    latest: OffsetDateTime,
    was_set_back: bool,
}

/// Reads the clock that is outside.
pub(super) type ReadClock = Box<dyn Fn() -> OffsetDateTime + Send>;

impl Clock {
    /// A clock behind which the newest entry lies, so much at least as clocks tell.
    pub(super) fn new(read: ReadClock, newest_entry: OffsetDateTime) -> Self {
        Clock {
            read,
            latest: newest_entry,
            was_set_back: false,
        }
    }

    /// The time now, to the millisecond. Warns, once, where it is to fall.
    pub(super) fn now(&mut self) -> OffsetDateTime {
        let now = (self.read)();
        let now = now.replace_millisecond(now.millisecond()).unwrap_or(now);
        let behind = self.latest - now;
        if behind > WAIT_MAX {
            self.was_set_back = true;
            tracing::warn!(
                "the clock is {} behind the newest entry: it was ahead when that was stored, or has \
                 been set back. Times follow the clock again, so later messages bear earlier times; \
                 their order is not touched. Check how this machine keeps its time",
                Duration::seconds(behind.whole_seconds())
            );
        } else if behind.is_positive() {
            return self.latest;
        }
        self.latest = now;
        now
    }

    /// Whether times have fallen since [`Clock::noted`].
    pub(super) fn was_set_back(&self) -> bool {
        self.was_set_back
    }

    /// The store knows of it.
    pub(super) fn noted(&mut self) {
        self.was_set_back = false;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;

    const SECOND: i64 = 1_000;
    const HOUR: i64 = 3_600 * SECOND;
    const YEAR: i64 = 365 * 24 * HOUR;

    fn at(millis: i64) -> OffsetDateTime {
        OffsetDateTime::UNIX_EPOCH + Duration::milliseconds(1_795_392_000_000 + millis)
    }

    #[test]
    fn times_follow_the_clock_and_wait_for_it_a_second_at_most() {
        /// What the clock shows, the time that is given, whether times have fallen.
        type Readings = &'static [(i64, i64, bool)];
        let cases: &[(&str, i64, Readings)] = &[
            ("goes on", 0, &[(0, 0, false), (5, 5, false), (9, 9, false)]),
            (
                "set right in passing",
                0,
                &[
                    (900, 900, false),
                    (0, 900, false),
                    (899, 900, false),
                    (901, 901, false),
                ],
            ),
            (
                "at the limit and past it",
                0,
                &[
                    (SECOND, SECOND, false),
                    (0, SECOND, false),
                    (-1, -1, true),
                    (0, 0, false),
                ],
            ),
            (
                "the newest entry is ten years ahead",
                10 * YEAR,
                &[(0, 0, true), (0, 0, false), (5, 5, false)],
            ),
            (
                "the newest entry is half a second ahead",
                500,
                &[(0, 500, false), (499, 500, false), (501, 501, false)],
            ),
            (
                "ahead by ten years, then right",
                0,
                &[
                    (0, 0, false),
                    (10 * YEAR, 10 * YEAR, false),
                    (20, 20, true),
                    (21, 21, false),
                ],
            ),
            (
                "set back by an hour while running",
                0,
                &[
                    (HOUR, HOUR, false),
                    (0, 0, true),
                    (1, 1, false),
                    (HOUR, HOUR, false),
                ],
            ),
            (
                "forth and back, twice",
                0,
                &[
                    (HOUR, HOUR, false),
                    (1, 1, true),
                    (YEAR, YEAR, false),
                    (2, 2, true),
                    (3, 3, false),
                ],
            ),
            (
                "back in small steps, which add up",
                0,
                &[
                    (2_000, 2_000, false),
                    (1_400, 2_000, false),
                    (1_000, 2_000, false),
                    (600, 600, true),
                    (0, 600, false),
                ],
            ),
        ];
        for (name, newest, readings) in cases {
            let shown = Arc::new(AtomicI64::new(0));
            let read = Arc::clone(&shown);
            let read = move || at(read.load(Ordering::Relaxed));
            let mut clock = Clock::new(Box::new(read), at(*newest));
            for (index, &(shows, given, fell)) in readings.iter().enumerate() {
                shown.store(shows, Ordering::Relaxed);
                assert_eq!(clock.now(), at(given), "{name}, {index}");
                assert_eq!(clock.was_set_back(), fell, "{name}, {index}");
                clock.noted();
            }
        }
    }

    #[test]
    fn what_the_store_has_not_noted_is_not_forgotten() {
        let mut clock = Clock::new(Box::new(|| at(0)), at(YEAR));
        clock.now();
        clock.now();
        assert!(clock.was_set_back());
        clock.noted();
        clock.now();
        assert!(!clock.was_set_back());
    }
}
