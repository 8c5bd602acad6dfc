//! The subscriptions of one session, by the client's name for them and by our key.

use super::{
    super::{codec::encode_header, frame::Version},
    SubscriptionKey,
};

/// All live subscriptions, oldest first, so in the order of their keys.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    live: Vec<Subscription>,
    key_next: u32,
}

#[derive(Debug)]
struct Subscription {
    key: SubscriptionKey,
    name: Name,
    /// How each MESSAGE for it begins: command and `subscription` header.
    head: Box<[u8]>,
}

/// How the client names a subscription.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Name {
    /// By its `id`.
    Id(String),
    /// By its destination, where 1.0 lets it go without an `id`.
    Destination(String),
}

impl Subscriptions {
    pub(super) fn len(&self) -> usize {
        self.live.len()
    }

    pub(super) fn is_taken(&self, name: &Name) -> bool {
        self.live
            .iter()
            .any(|subscription| subscription.name == *name)
    }

    /// Adds a subscription whose name is not taken.
    pub(super) fn insert(&mut self, name: Name, version: Version) -> SubscriptionKey {
        let key = SubscriptionKey(self.key_next);
        self.key_next += 1;
        let mut head = b"MESSAGE\n".to_vec();
        if let Name::Id(id) = &name {
            encode_header("subscription", id, version, &mut head);
        }
        self.live.push(Subscription {
            key,
            name,
            head: head.into(),
        });
        key
    }

    /// Ends a subscription; `None` when there is no such.
    pub(super) fn remove(&mut self, name: &Name) -> Option<SubscriptionKey> {
        let at = self
            .live
            .iter()
            .position(|subscription| subscription.name == *name)?;
        Some(self.live.remove(at).key)
    }

    /// Ends all of them; no key is used again.
    pub(super) fn clear(&mut self) {
        self.live = Vec::new();
    }

    /// How each MESSAGE for a subscription begins; `None` when it has ended.
    pub(super) fn head(&self, key: SubscriptionKey) -> Option<&[u8]> {
        let at = self
            .live
            .binary_search_by_key(&key, |subscription| subscription.key)
            .ok()?;
        Some(&self.live[at].head)
    }
}
