//! A queue: each letter goes to one of its subscribers, in turn.
//!
//! Subscribers stand in two lines, those who may have credit and those who had none when their turn
//! came, so that to find one with credit, or nobody, costs the same however many there are: who is
//! found without it leaves the first line, and comes back only by an event of its own.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashlink::LinkedHashMap;

use super::inbox::Inbox;
use super::letter::Letter;

/// Subscribers in an order, each by its address.
type Line = LinkedHashMap<usize, Arc<Inbox>>;

/// The most subscribers of whom the memory is kept when they have gone.
pub(super) const QUIET_SUBSCRIBERS: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Who may have credit, in turn.
    ready: Line,
    /// Who had none, whoever has had none for longest first.
    busy: Line,
    /// Letters for which nobody had credit, by their numbers: in the order in which they came, also
    /// where some were given back.
    pending: BTreeMap<u64, Arc<Letter>>,
    pending_bytes: usize,
    /// The number of the next letter.
    next: u64,
}

/// Tells it apart from all others that live.
pub(super) fn address(inbox: &Arc<Inbox>) -> usize {
    Arc::as_ptr(inbox).addr()
}

impl Queue {
    /// How many subscribe.
    pub(super) fn len(&self) -> usize {
        self.ready.len() + self.busy.len()
    }

    /// Adds a subscriber, whose turn is after the others'.
    pub(super) fn join(&mut self, inbox: &Arc<Inbox>) {
        self.ready.insert(address(inbox), Arc::clone(inbox));
        self.hand_out();
    }

    /// Takes subscribers off, all before the letters that they leave go to others.
    pub(super) fn leave<'a>(&mut self, inboxes: impl Iterator<Item = &'a Arc<Inbox>>) {
        for inbox in inboxes {
            if self.take_off(inbox) {
                self.take_back(inbox.empty());
            }
        }
        for line in [&mut self.ready, &mut self.busy] {
            if line.capacity() > QUIET_SUBSCRIBERS && line.len() < line.capacity() / 4 {
                line.shrink_to_fit();
            }
        }
        self.hand_out();
    }

    /// Takes a letter in.
    pub(super) fn enqueue(&mut self, mut letter: Letter) {
        letter.number = self.next;
        self.next += 1;
        let number = letter.number;
        self.take_back([Arc::new(letter)]);
        self.hand_out();
        // Where it is kept, nobody has credit.
        if self.pending.is_empty() {
            return;
        }
        let Some((_, slowest)) = self.busy.front() else {
            return;
        };
        if self.pending_bytes > slowest.queue_bytes_max() {
            // Nobody takes anything: who has not for longest is too slow, and is cut off.
            slowest.cut_off();
            if let Some(letter) = self.pending.remove(&number) {
                self.pending_bytes -= letter.weight;
            }
        }
    }

    /// Takes back what a subscriber does not want: it gets it again only when nobody else can take it.
    pub(super) fn refuse(&mut self, inbox: &Arc<Inbox>, letters: Vec<Arc<Letter>>) {
        let is_here = self.take_off(inbox);
        self.take_back(letters);
        self.hand_out();
        if is_here {
            self.join(inbox);
        }
    }

    /// Notes that a subscriber may have credit again.
    pub(super) fn offer(&mut self, inbox: &Arc<Inbox>) {
        if self.busy.contains_key(&address(inbox)) && inbox.has_credit() {
            self.busy.remove(&address(inbox));
            self.join(inbox);
        }
    }

    /// The numbers of the letters for which nobody had credit, in the order in which they are given.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> impl Iterator<Item = u64> {
        let body = |letter: &Letter| super::tests::body(letter).parse();
        self.pending
            .values()
            .filter_map(move |letter| body(letter).ok())
    }

    /// Takes a subscriber off its line; whether it stood in one.
    fn take_off(&mut self, inbox: &Arc<Inbox>) -> bool {
        let address = address(inbox);
        let taken = self.ready.remove(&address);
        taken.or_else(|| self.busy.remove(&address)).is_some()
    }

    /// Lets letters wait, each in its place.
    fn take_back(&mut self, letters: impl IntoIterator<Item = Arc<Letter>>) {
        for letter in letters {
            self.pending_bytes += letter.weight;
            self.pending.insert(letter.number, letter);
        }
    }

    /// Gives what waits to whoever has credit, in turn.
    fn hand_out(&mut self) {
        while !self.pending.is_empty()
            && let Some((address, inbox)) = self.ready.pop_front()
        {
            if !inbox.has_credit() {
                self.busy.insert(address, inbox);
                continue;
            }
            if let Some((_, letter)) = self.pending.pop_first() {
                self.pending_bytes -= letter.weight;
                inbox.give(letter);
            }
            // Looked at now, so that no line of thousands without it is gone through at once later.
            let line = if inbox.has_credit() {
                &mut self.ready
            } else {
                &mut self.busy
            };
            line.insert(address, inbox);
        }
    }
}
