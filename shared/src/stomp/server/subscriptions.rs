//! The subscriptions of one session, by the client's name for them and by our key, and what of each
//! was delivered and is to be acknowledged.

use std::{collections::VecDeque, num::NonZeroU16, ops::Range};

use super::{
    super::{codec::encode_header, frame::Version},
    AckMode, MessageIds, SubscriptionKey,
};

/// How many ended subscriptions are remembered, so that a late ACK for one is passed over.
const ENDED_MAX: usize = 128;

/// How many octets the ids and destinations of the live ones may have together, and those of the ended
/// ones that are remembered: a few are as long as they like, or all of them as long as usual.
pub(super) const NAMES_BYTES_MAX: usize = 32 << 10;

/// All live subscriptions, oldest first, so in the order of their keys.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    live: Vec<Subscription>,
    ended: VecDeque<Subscription>,
    key_next: u32,
}

#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) key: SubscriptionKey,
    pub(super) ack: AckMode,
    name: Name,
    destination: Box<str>,
    /// How each MESSAGE for it begins: command and `subscription` header.
    head: Box<[u8]>,
    /// What differs from one MESSAGE to the next, written anew for each: `ack` and `message-id`.
    own: Vec<u8>,
    version: Version,
    prefetch: Option<NonZeroU16>,
    message_ids: MessageIds,
    /// From the first position delivered to one past the last.
    delivered: Range<u64>,
    /// Delivered and not acknowledged, in order. Only kept where something depends on it.
    outstanding: VecDeque<u64>,
}

/// How the client names a subscription.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Name {
    /// By its `id`.
    Id(String),
    /// By its destination, where 1.0 lets it go without an `id`.
    Destination(String),
}

/// What an ACK or NACK is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Ack {
    pub(super) subscription: SubscriptionKey,
    pub(super) position: u64,
    pub(super) is_nack: bool,
}

impl Subscriptions {
    pub(super) fn len(&self) -> usize {
        self.live.len()
    }

    /// The destination of the live subscription of a name.
    pub(super) fn destination_of(&self, name: &Name) -> Option<&str> {
        let mut live = self.live.iter();
        let named = live.find(|subscription| subscription.name == *name)?;
        Some(&named.destination)
    }

    /// Whether one more of this name and destination keeps within [`NAMES_BYTES_MAX`].
    pub(super) fn has_room(&self, name: &Name, destination: &str) -> bool {
        let live: usize = self.live.iter().map(Subscription::names_bytes).sum();
        live + name.as_str().len() + destination.len() <= NAMES_BYTES_MAX
    }

    #[cfg(test)]
    pub(super) fn names_bytes(&self) -> usize {
        let all = self.live.iter().chain(&self.ended);
        all.map(Subscription::names_bytes).sum()
    }

    /// Adds a subscription whose name is not taken.
    pub(super) fn insert(
        &mut self,
        name: Name,
        destination: &str,
        version: Version,
        ack: AckMode,
        prefetch: Option<NonZeroU16>,
    ) -> SubscriptionKey {
        let key = SubscriptionKey(self.key_next);
        self.key_next += 1;
        let mut head = b"MESSAGE\n".to_vec();
        if let Name::Id(id) = &name {
            encode_header("subscription", id, version, &mut head);
        }
        self.live.push(Subscription {
            key,
            ack,
            name,
            destination: destination.into(),
            head: head.into(),
            own: Vec::new(),
            version,
            prefetch,
            message_ids: MessageIds::None,
            delivered: 0..0,
            outstanding: VecDeque::new(),
        });
        key
    }

    /// Ends a subscription; `None` when there is no such.
    pub(super) fn remove(&mut self, name: &Name) -> Option<SubscriptionKey> {
        let at = self
            .live
            .iter()
            .position(|subscription| subscription.name == *name)?;
        let mut ended = self.live.remove(at);
        let key = ended.key;
        ended.outstanding = VecDeque::new();
        ended.own = Vec::new();
        ended.head = Box::default();
        ended.destination = Box::default();
        self.ended.push_back(ended);
        let mut bytes: usize = self.ended.iter().map(Subscription::names_bytes).sum();
        while (self.ended.len() > ENDED_MAX || bytes > NAMES_BYTES_MAX)
            && let Some(oldest) = self.ended.pop_front()
        {
            bytes -= oldest.names_bytes();
        }
        Some(key)
    }

    /// Ends all of them; no key is used again.
    pub(super) fn clear(&mut self) {
        self.live = Vec::new();
        self.ended = VecDeque::new();
    }

    pub(super) fn find(&self, key: SubscriptionKey) -> Option<&Subscription> {
        let at = self.position(key)?;
        self.live.get(at)
    }

    pub(super) fn find_mut(&mut self, key: SubscriptionKey) -> Option<&mut Subscription> {
        let at = self.position(key)?;
        self.live.get_mut(at)
    }

    fn position(&self, key: SubscriptionKey) -> Option<usize> {
        self.live
            .binary_search_by_key(&key, |subscription| subscription.key)
            .ok()
    }

    /// Finds what the `id` of a 1.2 ACK names: the `ack` header of a MESSAGE. `None` when this session
    /// was never sent such; an empty answer is to be passed over.
    pub(super) fn by_ack(&self, id: &str, is_nack: bool) -> Option<Vec<Ack>> {
        let (key, position) = id.split_once('-')?;
        let (key, position) = (number(key)?, number(position)?);
        let key = SubscriptionKey(u32::try_from(key).ok()?);
        match self.find(key) {
            Some(subscription) => {
                let is_known =
                    subscription.ack != AckMode::Auto && subscription.delivered.contains(&position);
                is_known.then(|| subscription.owed(position, is_nack).into_iter().collect())
            }
            None => (key.0 < self.key_next).then(Vec::new),
        }
    }

    /// Finds what the `message-id` of a 1.0 or 1.1 ACK names, in the subscription of this name or, in
    /// 1.0, in all. The answer is that of [`Subscriptions::by_ack`].
    pub(super) fn by_message_id(
        &self,
        message_id: &str,
        name: Option<&str>,
        is_nack: bool,
    ) -> Option<Vec<Ack>> {
        let mut is_known = false;
        let mut acks = Vec::new();
        let is_named = |subscription: &&Subscription| match (&subscription.name, name) {
            (_, None) => true,
            (Name::Id(id), Some(name)) => id == name,
            (Name::Destination(_), Some(_)) => false,
        };
        for subscription in self.live.iter().filter(is_named) {
            if let Some(position) = subscription.position_of(message_id) {
                is_known = true;
                acks.extend(subscription.owed(position, is_nack));
            }
        }
        is_known |= self
            .ended
            .iter()
            .filter(is_named)
            .any(|subscription| subscription.position_of(message_id).is_some());
        is_known.then_some(acks)
    }
}

impl Name {
    fn as_str(&self) -> &str {
        match self {
            Name::Id(name) | Name::Destination(name) => name,
        }
    }
}

impl Subscription {
    fn names_bytes(&self) -> usize {
        self.name.as_str().len() + self.destination.len()
    }

    pub(super) fn identify(&mut self, message_ids: MessageIds) {
        self.message_ids = message_ids;
    }

    /// How many messages may be delivered now.
    pub(super) fn window(&self) -> usize {
        self.prefetch.map_or(usize::MAX, |prefetch| {
            usize::from(prefetch.get()).saturating_sub(self.outstanding.len())
        })
    }

    /// Whether its messages differ in nothing but their rest, and nothing is remembered of each.
    pub(super) fn is_plain(&self) -> bool {
        !self.keeps_outstanding() && !self.writes_ack() && self.own_ids().is_none()
    }

    fn writes_ack(&self) -> bool {
        self.ack != AckMode::Auto && self.version >= Version::V12
    }

    fn keeps_outstanding(&self) -> bool {
        self.ack != AckMode::Auto
            && (self.prefetch.is_some() || matches!(self.message_ids, MessageIds::Kept(_)))
    }

    /// How the ids that the session writes begin.
    fn own_ids(&self) -> Option<&str> {
        match &self.message_ids {
            MessageIds::Own(prefix) | MessageIds::Kept(prefix) => Some(prefix),
            MessageIds::None | MessageIds::InRest(_) => None,
        }
    }

    /// The position of the next message, where the session counts them.
    pub(super) fn next(&self) -> u64 {
        self.delivered.end
    }

    /// Notes a delivery and gives how its MESSAGE begins.
    pub(super) fn deliver(&mut self, position: u64) -> [&[u8]; 2] {
        self.note_delivered(position..position + 1);
        if self.keeps_outstanding() {
            self.outstanding.push_back(position);
        }
        self.own.clear();
        if self.writes_ack() {
            let id = format!("{}-{position}", self.key.0);
            encode_header("ack", &id, self.version, &mut self.own);
        }
        if let Some(prefix) = self.own_ids() {
            let id = format!("{prefix}-{position}");
            encode_header("message-id", &id, self.version, &mut self.own);
        }
        [&self.head, &self.own]
    }

    /// Notes deliveries of a plain subscription and gives how each MESSAGE begins.
    pub(super) fn deliver_many(&mut self, positions: Range<u64>) -> &[u8] {
        self.note_delivered(positions);
        &self.head
    }

    fn note_delivered(&mut self, positions: Range<u64>) {
        if self.delivered.is_empty() {
            self.delivered.start = positions.start;
        }
        self.delivered.end = positions.end;
    }

    fn position_of(&self, message_id: &str) -> Option<u64> {
        let prefix = match &self.message_ids {
            MessageIds::None => return None,
            MessageIds::InRest(prefix) | MessageIds::Own(prefix) | MessageIds::Kept(prefix) => {
                prefix
            }
        };
        let rest = message_id.strip_prefix(&**prefix)?.strip_prefix('-')?;
        number(rest).filter(|position| self.delivered.contains(position))
    }

    /// What an ACK of a position comes to: nothing where it is acknowledged already.
    fn owed(&self, position: u64, is_nack: bool) -> Option<Ack> {
        let ack = Ack {
            subscription: self.key,
            position,
            is_nack,
        };
        self.outstanding.binary_search(&position).ok().map(|_| ack)
    }

    /// Takes an acknowledgement; gives the positions that it settles.
    pub(super) fn settle(&mut self, position: u64) -> Vec<u64> {
        let Ok(at) = self.outstanding.binary_search(&position) else {
            return Vec::new();
        };
        let from = if self.ack == AckMode::Client { 0 } else { at };
        self.outstanding.drain(from..=at).collect()
    }
}

/// Reads a number as we write it: digits alone, no leading zero.
fn number(text: &str) -> Option<u64> {
    let is_ours = text.bytes().all(|octet| octet.is_ascii_digit())
        && (text.len() == 1 || !text.starts_with('0'));
    text.parse().ok().filter(|_| is_ours)
}
