//! Who is woken when there is more of something.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::Signal;
use super::tail::lock;

/// The most followers of which the memory is kept when they have gone.
const QUIET_FOLLOWERS: usize = 64;

/// The connections that follow something. One is woken once, however often it follows; to begin and to
/// end costs the same however many there are.
#[derive(Debug, Default)]
pub(crate) struct Followers(Mutex<HashMap<usize, Follower>>);

#[derive(Debug)]
struct Follower {
    signal: Arc<Signal>,
    /// How often it follows.
    count: usize,
}

impl Followers {
    /// Wakes `signal` from now on, until [`Followers::remove`].
    pub(crate) fn add(&self, signal: &Arc<Signal>) {
        let mut followers = lock(&self.0);
        let follower = followers
            .entry(address(signal))
            .or_insert_with(|| Follower {
                signal: Arc::clone(signal),
                count: 0,
            });
        follower.count += 1;
    }

    /// Undoes one [`Followers::add`].
    pub(crate) fn remove(&self, signal: &Arc<Signal>) {
        let mut followers = lock(&self.0);
        let Some(follower) = followers.get_mut(&address(signal)) else {
            return;
        };
        follower.count -= 1;
        if follower.count > 0 {
            return;
        }
        followers.remove(&address(signal));
        if followers.capacity() > QUIET_FOLLOWERS && followers.len() < followers.capacity() / 4 {
            followers.shrink_to_fit();
        }
    }

    /// Whether nobody follows.
    pub(crate) fn is_empty(&self) -> bool {
        lock(&self.0).is_empty()
    }

    /// Wakes them all.
    pub(crate) fn wake(&self) {
        for follower in lock(&self.0).values() {
            follower.signal.wake();
        }
    }
}

/// Tells it apart from all others that live.
fn address(signal: &Arc<Signal>) -> usize {
    Arc::as_ptr(signal).addr()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_follows_often_is_woken_once_until_the_last_end() {
        let followers = Followers::default();
        let (often, once) = (Arc::default(), Arc::default());
        for _ in 0..128 {
            followers.add(&often);
        }
        followers.add(&once);
        assert_eq!(lock(&followers.0).len(), 2);
        for left in (0..128).rev() {
            followers.remove(&often);
            often.take();
            followers.wake();
            assert_eq!(often.is_ready(), left > 0);
        }
        assert!(once.is_ready());
        // Who does not follow has nothing to end.
        followers.remove(&often);
        followers.remove(&once);
        assert!(followers.is_empty());
    }

    #[test]
    fn the_memory_of_many_goes_with_them() {
        let followers = Followers::default();
        let signals: Vec<Arc<Signal>> = (0..10_000).map(|_| Arc::default()).collect();
        for signal in &signals {
            followers.add(signal);
        }
        for signal in &signals {
            followers.remove(signal);
        }
        assert!(lock(&followers.0).capacity() <= 2 * QUIET_FOLLOWERS);
    }
}
