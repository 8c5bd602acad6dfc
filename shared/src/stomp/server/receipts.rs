//! RECEIPTs that are owed, in the order of the frames that asked.

use std::collections::VecDeque;

use super::Ticket;

/// A slot for each frame that asked and is not answered, or waits for one before it.
#[derive(Debug, Default)]
pub(super) struct Receipts {
    slots: VecDeque<Slot>,
}

#[derive(Debug)]
struct Slot {
    ticket: Ticket,
    receipt: String,
    is_released: bool,
}

impl Receipts {
    /// Owes a RECEIPT to a frame; tickets must grow.
    pub(super) fn push(&mut self, ticket: Ticket, receipt: String, is_released: bool) {
        self.slots.push_back(Slot {
            ticket,
            receipt,
            is_released,
        });
    }

    pub(super) fn find(&self, ticket: Ticket) -> Option<&str> {
        let at = self.position(ticket)?;
        self.slots
            .get(at)
            .filter(|slot| !slot.is_released)
            .map(|slot| slot.receipt.as_str())
    }

    /// Lets a RECEIPT go as soon as those before it have gone.
    pub(super) fn release(&mut self, ticket: Ticket) {
        if let Some(slot) = self.position(ticket).and_then(|at| self.slots.get_mut(at)) {
            slot.is_released = true;
        }
    }

    /// Owes a RECEIPT no longer; one that was released stays.
    pub(super) fn remove(&mut self, ticket: Ticket) {
        if let Some(at) = self.position(ticket)
            && self.find(ticket).is_some()
        {
            self.slots.remove(at);
        }
    }

    /// Owes nothing any more to this frame and those after it.
    pub(super) fn truncate(&mut self, ticket: Ticket) {
        self.slots
            .truncate(self.slots.partition_point(|slot| slot.ticket < ticket));
    }

    /// Takes the next RECEIPT that may go out.
    pub(super) fn take_released(&mut self) -> Option<String> {
        self.slots.front().filter(|slot| slot.is_released)?;
        self.slots.pop_front().map(|slot| slot.receipt)
    }

    /// The oldest frame to which a RECEIPT is owed.
    pub(super) fn oldest(&self) -> Option<Ticket> {
        self.slots.front().map(|slot| slot.ticket)
    }

    pub(super) fn is_full(&self) -> bool {
        self.slots.len() >= SLOTS_MAX
    }

    fn position(&self, ticket: Ticket) -> Option<usize> {
        self.slots
            .binary_search_by_key(&ticket, |slot| slot.ticket)
            .ok()
    }
}

/// How many RECEIPTs may be owed; past it no more input is decoded until some are answered. Large
/// enough for a full batch of the log.
pub(super) const SLOTS_MAX: usize = 1_024;
