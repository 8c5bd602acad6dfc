//! Time as the process lives it: the clock of deadlines, which stands still while the process does.
//!
//! Stopped (SIGSTOP, a machine that sleeps or is moved) or starved, the server reads nothing, and all that
//! its peers say meanwhile waits in their sockets. By the system's clock their deadlines would have passed
//! at the first look after that, before they are read. So how long peers may be silent, or take over
//! something, is measured here.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::time::Sleep;

use crate::log::tail::lock;

/// How often somebody looks at the clock, whatever else there is to do.
const TICK: Duration = Duration::from_millis(250);

/// When nobody has looked for so long, the process stood still.
const PAUSE_MIN: Duration = Duration::from_secs(1);

/// So long the clock still stands after a pause, for the sockets to be read: a part of the pause, so that
/// it goes on all the same where there is one after another.
fn reading_time(pause: Duration) -> Duration {
    (pause / 8).min(Duration::from_secs(1))
}

/// A pause that is worth a line of the log.
const PAUSE_TOLD_MIN: Duration = Duration::from_secs(2);

static CLOCK: LazyLock<Clock> = LazyLock::new(|| Clock::new(Instant::now()));

/// The time by this clock; to be compared with nothing but times of this clock.
pub(crate) fn now() -> Instant {
    CLOCK.now(Instant::now)
}

/// When by the system's clock a time of this one comes, unless there is a pause before.
pub(crate) fn due(at: Instant) -> tokio::time::Instant {
    CLOCK.due(at).into()
}

/// Looks at the clock all the time; it has no end. Where nobody does, pauses are not told from waiting,
/// and the clock is the system's.
pub(crate) async fn watch() {
    let _watching = Watching::begin(&CLOCK);
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        now();
    }
}

/// Waits for a future, by this clock so long at most; `None` where it takes longer.
pub(crate) async fn timeout<T>(time_max: Duration, future: impl Future<Output = T>) -> Option<T> {
    let alarm = Alarm::new(now() + time_max);
    tokio::select! {
        biased;
        output = future => Some(output),
        () = alarm => None,
    }
}

/// Somebody looks all the time, until this is dropped.
struct Watching<'a>(&'a Clock);

impl<'a> Watching<'a> {
    fn begin(clock: &'a Clock) -> Self {
        // What was before is no pause.
        clock.note(Instant::now);
        clock.watching.fetch_add(1, Ordering::SeqCst);
        Watching(clock)
    }
}

impl Drop for Watching<'_> {
    fn drop(&mut self) {
        self.0.watching.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Completes at a time of this clock.
#[derive(Debug)]
pub(crate) struct Alarm {
    at: Instant,
    sleep: Pin<Box<Sleep>>,
}

impl Alarm {
    /// One that completes at `at`.
    pub(crate) fn new(at: Instant) -> Self {
        let sleep = Box::pin(tokio::time::sleep_until(due(at)));
        Alarm { at, sleep }
    }

    /// Has it complete at `at` instead.
    pub(crate) fn set(&mut self, at: Instant) {
        if self.at != at {
            self.at = at;
            self.sleep.as_mut().reset(due(at));
        }
    }
}

impl Future for Alarm {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.sleep.as_mut().poll(cx));
            if now() >= self.at {
                return Poll::Ready(());
            }
            let due = due(self.at);
            self.sleep.as_mut().reset(due);
        }
    }
}

/// The clock. Who looks writes to it only where nobody has for a while: under load it is read alone.
struct Clock {
    start: Instant,
    /// When somebody last looked: nanoseconds of the system's clock from the start.
    seen: AtomicU64,
    /// All pauses together, in nanoseconds. This and the next are written before `seen`, and read after it.
    paused: AtomicU64,
    /// The time at which the last pause began: it does not fall below.
    stood_at: AtomicU64,
    /// How many look all the time.
    watching: AtomicUsize,
    /// Held by who writes.
    noting: Mutex<()>,
}

/// A look is noted where the last that was noted is so old.
const NOTE_AFTER: Duration = Duration::from_millis(50);

impl Clock {
    fn new(start: Instant) -> Self {
        Clock {
            start,
            seen: AtomicU64::new(0),
            paused: AtomicU64::new(0),
            stood_at: AtomicU64::new(0),
            watching: AtomicUsize::new(0),
            noting: Mutex::new(()),
        }
    }

    /// The time; `read` reads the system's clock.
    fn now(&self, read: impl Fn() -> Instant) -> Instant {
        let seen = self.seen.load(Ordering::Acquire);
        let paused = self.paused.load(Ordering::Acquire);
        let stood_at = self.stood_at.load(Ordering::Acquire);
        // After the others: one that was read before a pause would be no time of after it.
        let real = self.nanos(read());
        if real.saturating_sub(seen) < nanos(NOTE_AFTER) {
            self.at(real.saturating_sub(paused).max(stood_at))
        } else {
            self.note(read)
        }
    }

    /// Looks whether there was a pause.
    fn note(&self, read: impl Fn() -> Instant) -> Instant {
        let noting = lock(&self.noting);
        let real = self.nanos(read());
        let unseen = real.saturating_sub(self.seen.load(Ordering::Acquire));
        let pause = Duration::from_nanos(unseen);
        let mut paused = self.paused.load(Ordering::Acquire);
        let mut stood_at = self.stood_at.load(Ordering::Acquire);
        let is_pause = pause >= PAUSE_MIN && self.watching.load(Ordering::SeqCst) > 0;
        if is_pause {
            stood_at = stood_at.max((real - unseen).saturating_sub(paused));
            paused += unseen + nanos(reading_time(pause));
            self.stood_at.store(stood_at, Ordering::Release);
            self.paused.store(paused, Ordering::Release);
        }
        self.seen.store(real, Ordering::Release);
        drop(noting);
        if is_pause && pause >= PAUSE_TOLD_MIN {
            tracing::warn!(
                "the server stood still for {:.1} s, as it or its machine was stopped or had too much \
                 to do: nobody's silence of that time counts",
                pause.as_secs_f32()
            );
        }
        self.at(real.saturating_sub(paused).max(stood_at))
    }

    fn at(&self, lived: u64) -> Instant {
        self.start + Duration::from_nanos(lived)
    }

    fn due(&self, at: Instant) -> Instant {
        at + Duration::from_nanos(self.paused.load(Ordering::Acquire))
    }

    fn nanos(&self, real: Instant) -> u64 {
        nanos(real.saturating_duration_since(self.start))
    }
}

/// As many as 584 years have.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A clock that is looked at all the time.
    fn watched(start: Instant) -> Clock {
        let clock = Clock::new(start);
        clock.watching.store(1, Ordering::SeqCst);
        clock
    }

    #[test]
    fn where_nobody_looks_all_the_time_there_is_no_pause() {
        let start = Instant::now();
        let clock = Clock::new(start);
        for real in [34, 68, 69].map(|seconds| start + seconds * SECOND) {
            assert_eq!(clock.now(|| real), real);
        }
    }

    #[test]
    fn it_stands_still_while_nobody_looks() {
        let start = Instant::now();
        let clock = watched(start);
        let mut real = start;
        let mut lived = Duration::ZERO;
        let no_pause = PAUSE_MIN - Duration::from_nanos(1);
        let steps = [
            Duration::from_millis(1),
            NOTE_AFTER,
            TICK,
            no_pause,
            PAUSE_MIN,
            34 * SECOND,
            TICK,
            3_600 * SECOND,
            3_600 * SECOND,
            TICK,
        ];
        for step in steps {
            // Whoever looks was seen to.
            assert_eq!(clock.note(|| real), start + lived);
            real += step;
            if step < PAUSE_MIN {
                lived += step;
                assert_eq!(clock.now(|| real), start + lived, "{step:?}");
                assert_eq!(clock.due(start + lived), real, "{step:?}");
                continue;
            }
            // It stands a little longer, and goes on from there.
            let end = real + reading_time(step);
            while real < end {
                assert_eq!(clock.now(|| real), start + lived, "{step:?}");
                assert_eq!(clock.due(start + lived), end, "{step:?}");
                real += (end - real).min(TICK);
            }
        }
        assert!(lived < 2 * PAUSE_MIN);
    }

    #[test]
    fn it_goes_on_between_one_pause_and_the_next() {
        let start = Instant::now();
        let clock = watched(start);
        let mut real = start;
        for _ in 0..1_000 {
            for step in [2 * PAUSE_MIN, TICK, TICK] {
                real += step;
                clock.now(|| real);
            }
        }
        assert!(clock.now(|| real) - start >= 1_000 * TICK);
    }

    #[test]
    fn after_two_pauses_in_a_row_it_does_not_go_back() {
        let start = Instant::now();
        let clock = watched(start);
        let mut real = start;
        let mut before = start;
        for step in [TICK, 34 * SECOND, TICK, 34 * SECOND, TICK, 2 * SECOND, TICK] {
            real += step;
            let now = clock.now(|| real);
            assert!(now >= before, "{step:?}");
            before = now;
        }
    }

    #[test]
    fn whoever_looks_first_after_a_pause_no_time_is_counted_twice_or_lost() {
        const PAUSE: u64 = 34_000_000_000;
        for _ in 0..50 {
            let start = Instant::now();
            let clock = Arc::new(watched(start));
            // The system's clock, which jumps over the pause.
            let real = Arc::new(AtomicU64::new(1));
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    let (clock, real) = (Arc::clone(&clock), Arc::clone(&real));
                    std::thread::spawn(move || {
                        let read = || start + Duration::from_nanos(real.load(Ordering::SeqCst));
                        let mut is_over = false;
                        while !is_over {
                            is_over = real.load(Ordering::SeqCst) > PAUSE;
                            let lived = clock.now(read) - start;
                            assert!(lived < SECOND, "{lived:?}");
                        }
                    })
                })
                .collect();
            for _ in 0..1_000 {
                real.fetch_add(1, Ordering::SeqCst);
            }
            real.fetch_add(PAUSE, Ordering::SeqCst);
            threads
                .into_iter()
                .for_each(|thread| thread.join().unwrap());
            assert_eq!(clock.paused.load(Ordering::SeqCst) / PAUSE, 1, "noted once");
        }
    }

    #[tokio::test]
    async fn what_takes_too_long_is_given_up() {
        let short = Duration::from_millis(20);
        let begun = Instant::now();
        assert_eq!(timeout(short, std::future::pending::<()>()).await, None);
        assert!(begun.elapsed() >= short);
        assert_eq!(timeout(short, async { 7 }).await, Some(7));
        assert_eq!(timeout(Duration::ZERO, async { 7 }).await, Some(7));
    }
}
