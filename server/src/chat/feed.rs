//! What a subscription to a state follows: a list of rooms, who is in a room, who is typing.
//!
//! A state, not a stream: a slow reader gets the newest, and nothing is queued for it. What changes is
//! marked; a tick makes of it what is sent, once for all readers, and wakes each of them once. So no
//! thread that commits encodes anything or wakes anybody for it.

use crate::log::{Encoded, Followers};

/// A state that subscriptions follow, under a version that grows.
pub(crate) trait Feed: Send + Sync {
    /// After which version a new subscription begins.
    fn start(&self) -> u64;

    /// The newest version that may be sent.
    fn newest(&self) -> u64;

    /// What a reader that has seen `version` is sent next, if any of it still stands, and the version
    /// that it has seen then; `None` where it has seen all.
    fn after(&self, version: u64) -> Option<(u64, Option<Encoded>)>;

    /// Who is woken when [`Feed::newest`] has grown.
    fn followers(&self) -> &Followers;
}
