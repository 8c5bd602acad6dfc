//! Plain destinations: `/topic/…`, to every subscriber, and `/queue/…`, to one of them in turn.
//!
//! Nothing here is stored. To publish never waits for a subscriber: what a subscriber has not taken
//! waits in its [`Inbox`], and all that waits for one [`Reader`] is bounded; past the bound it is cut
//! off. A queue's letter for which nobody has credit waits at the queue, under the same bound. What
//! was given to a subscriber of a queue, and neither acknowledged nor sent, goes to the next when it
//! leaves. All that waits together is bounded by [`Bounds`].
//!
//! Each destination has a lock of its own; that of all of them is held to find one, never while
//! letters go out.

mod inbox;
mod letter;
mod queue;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

pub(crate) use self::inbox::{Inbox, Reader};
pub(crate) use self::letter::{Bounds, Letter};
use self::queue::{QUIET_SUBSCRIBERS, Queue, address};
use crate::log::tail::lock;

/// Who gets what is sent to a destination.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Spread {
    /// Every subscriber: `/topic/…`.
    All,
    /// One of them in turn: `/queue/…`.
    One,
}

/// A destination that has subscribers.
#[derive(Debug)]
pub(crate) struct Point {
    name: Arc<str>,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    /// Its subscribers by their addresses.
    Topic(HashMap<usize, Arc<Inbox>>),
    Queue(Queue),
    /// Its last subscriber has left: whoever comes now makes another of the same name.
    Gone,
}

/// A destination has as many subscribers as it may.
#[derive(Debug)]
pub(crate) struct TooMany(pub(crate) usize);

/// All plain destinations that have subscribers.
#[derive(Debug)]
pub(crate) struct Plain {
    points: Mutex<HashMap<Arc<str>, Arc<Point>>>,
    subscribers_max: usize,
}

impl Plain {
    /// Makes a set of them, each of which may have so many subscribers.
    pub(crate) fn new(subscribers_max: usize) -> Self {
        Plain {
            points: Mutex::default(),
            subscribers_max,
        }
    }

    /// Lets an inbox get what is sent to a destination, until [`Plain::unsubscribe`]. Where it takes
    /// the place of another, what of a queue that one was given and did not acknowledge goes to the
    /// next, which may be itself.
    ///
    /// # Errors
    /// [`TooMany`] where the destination may have no more.
    pub(crate) fn subscribe(
        &self,
        destination: &str,
        spread: Spread,
        inbox: &Arc<Inbox>,
        replaced: Option<&Arc<Inbox>>,
    ) -> Result<Arc<Point>, TooMany> {
        loop {
            let point = self.find_or_make(destination, spread);
            {
                let mut state = lock(&point.state);
                if !matches!(*state, State::Gone) {
                    state.leave(replaced.into_iter());
                    if state.len() >= self.subscribers_max {
                        return Err(TooMany(self.subscribers_max));
                    }
                    state.join(inbox);
                    drop(state);
                    return Ok(point);
                }
            }
            self.forget(&point);
        }
    }

    /// Ends that for inboxes of one connection. What of a queue was given and not acknowledged, and what
    /// waits, goes to the next that is none of them.
    pub(crate) fn unsubscribe<'a>(
        &self,
        point: &Arc<Point>,
        inboxes: impl Iterator<Item = &'a Arc<Inbox>>,
    ) {
        let left = {
            let mut state = lock(&point.state);
            state.leave(inboxes);
            if state.len() > 0 {
                return;
            }
            std::mem::replace(&mut *state, State::Gone)
        };
        // Thousands of letters may go with it.
        drop(left);
        self.forget(point);
    }

    /// Sends a letter to whoever subscribes to its destination; with nobody it is dropped.
    pub(crate) fn publish(&self, destination: &str, letter: Letter) {
        let Some(point) = lock(&self.points).get(destination).cloned() else {
            return;
        };
        match &mut *lock(&point.state) {
            State::Topic(inboxes) => {
                let letter = Arc::new(letter);
                for inbox in inboxes.values() {
                    inbox.put(Arc::clone(&letter));
                }
            }
            State::Queue(queue) if queue.len() > 0 => queue.enqueue(letter),
            State::Queue(_) | State::Gone => {}
        }
    }

    /// How many subscribe to a destination.
    #[cfg(test)]
    pub(crate) fn subscribers(&self, destination: &str) -> usize {
        let point = lock(&self.points).get(destination).cloned();
        point.map_or(0, |point| lock(&point.state).len())
    }

    fn find_or_make(&self, destination: &str, spread: Spread) -> Arc<Point> {
        let mut points = lock(&self.points);
        if let Some(point) = points.get(destination) {
            return Arc::clone(point);
        }
        let name = Arc::<str>::from(destination);
        let state = match spread {
            Spread::All => State::Topic(HashMap::new()),
            Spread::One => State::Queue(Queue::default()),
        };
        let point = Arc::new(Point {
            name: Arc::clone(&name),
            state: Mutex::new(state),
        });
        points.insert(name, Arc::clone(&point));
        point
    }

    /// Lets go of a destination that has gone, unless another has taken its place.
    fn forget(&self, point: &Arc<Point>) {
        let mut points = lock(&self.points);
        let found = points.get(&point.name);
        if found.is_some_and(|found| Arc::ptr_eq(found, point)) {
            points.remove(&point.name);
        }
        if points.is_empty() {
            points.shrink_to_fit();
        }
    }
}

impl Point {
    /// The destination.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Notes that what was given at these positions is acknowledged, or (`is_nack`) given back: then
    /// the next subscriber of a queue gets it.
    pub(crate) fn settle(&self, inbox: &Arc<Inbox>, positions: &[u64], is_nack: bool) {
        let settled = inbox.settle(positions);
        if let State::Queue(queue) = &mut *lock(&self.state)
            && is_nack
        {
            queue.refuse(inbox, settled);
        }
    }

    /// Hands out what a queue holds back, where an inbox may have credit again.
    pub(crate) fn offer(&self, inbox: &Arc<Inbox>) {
        if let State::Queue(queue) = &mut *lock(&self.state) {
            queue.offer(inbox);
        }
    }
}

impl State {
    /// How many subscribe.
    fn len(&self) -> usize {
        match self {
            State::Topic(inboxes) => inboxes.len(),
            State::Queue(queue) => queue.len(),
            State::Gone => 0,
        }
    }

    fn join(&mut self, inbox: &Arc<Inbox>) {
        match self {
            State::Topic(inboxes) => drop(inboxes.insert(address(inbox), Arc::clone(inbox))),
            State::Queue(queue) => queue.join(inbox),
            State::Gone => {}
        }
    }

    fn leave<'a>(&mut self, left: impl Iterator<Item = &'a Arc<Inbox>>) {
        match self {
            State::Topic(inboxes) => {
                for inbox in left {
                    inboxes.remove(&address(inbox));
                    inbox.clear();
                }
                if inboxes.capacity() > QUIET_SUBSCRIBERS && inboxes.len() < inboxes.capacity() / 4
                {
                    inboxes.shrink_to_fit();
                }
            }
            State::Queue(queue) => queue.leave(left),
            State::Gone => {}
        }
    }
}
