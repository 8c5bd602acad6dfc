//! When to try again after a lost connection: growing waits, spread by chance.
//!
//! Pure: the time and the random number come from the caller.

use std::time::Duration;

const WAIT_FIRST: Duration = Duration::from_millis(500);
const WAIT_MAX: Duration = Duration::from_secs(30);

/// A connection that stood this long was a good one: the next wait is short again. A shorter one
/// may be a server that accepts and drops, which quick attempts would only hurt.
const STOOD_LONG: Duration = Duration::from_secs(10);

/// The policy's memory: how often in a row it went wrong.
#[derive(Debug, Default)]
pub(crate) struct Reconnect {
    failures: u32,
    connected_at: Option<Duration>,
}

impl Reconnect {
    /// Notes that the connection is up.
    pub(crate) fn connected(&mut self, now: Duration) {
        self.connected_at = Some(now);
    }

    /// Notes that the connection, or the attempt at one, is lost, and gives the wait before the
    /// next attempt. `chance` is in 0..1; the wait is between half of the full wait and all of it.
    pub(crate) fn lost(&mut self, now: Duration, chance: f64) -> Duration {
        let stood = self
            .connected_at
            .take()
            .map(|since| now.saturating_sub(since));
        if stood.is_some_and(|stood| stood >= STOOD_LONG) {
            self.failures = 0;
        }
        let full = WAIT_FIRST
            .saturating_mul(1 << self.failures.min(16))
            .min(WAIT_MAX);
        self.failures = self.failures.saturating_add(1);
        full.mul_f64(0.5 + 0.5 * chance.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn waits_grow_to_half_a_minute() {
        let mut policy = Reconnect::default();
        let waits: Vec<_> = (0..9)
            .map(|_| policy.lost(ms(0), 1.0).as_millis())
            .collect();
        assert_eq!(
            waits,
            [
                500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000
            ]
        );
        for _ in 0..100 {
            assert_eq!(policy.lost(ms(0), 1.0), WAIT_MAX);
        }
    }

    #[test]
    fn chance_spreads_a_wait_over_its_upper_half() {
        let wait = |chance| Reconnect::default().lost(ms(0), chance);
        assert_eq!(
            (wait(0.0), wait(0.5), wait(1.0)),
            (ms(250), ms(375), ms(500))
        );
        assert_eq!(wait(7.0), ms(500));
    }

    #[test]
    fn only_a_connection_that_stood_shortens_the_wait() {
        let mut policy = Reconnect::default();
        policy.lost(ms(0), 1.0);
        policy.connected(ms(1_000));
        assert_eq!(policy.lost(ms(2_000), 1.0), ms(1_000));
        policy.connected(ms(10_000));
        assert_eq!(policy.lost(ms(20_000), 1.0), ms(500));
    }
}
