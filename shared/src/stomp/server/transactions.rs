//! Transactions that are open: what each has taken in (STOMP 1.2, "BEGIN", "COMMIT", "ABORT").

use super::{Config, Sent, subscriptions::Ack};

/// All open transactions of a session.
#[derive(Debug, Default)]
pub(super) struct Transactions {
    open: Vec<Transaction>,
}

/// One transaction: what COMMIT will do, in order.
#[derive(Debug)]
pub(super) struct Transaction {
    name: String,
    pub(super) sends: Vec<Sent>,
    pub(super) acks: Vec<Ack>,
    frames: usize,
    bytes: usize,
}

/// Why a transaction cannot be begun, or takes in no more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Refused {
    InUse,
    TooMany,
    TooLarge,
}

impl Transactions {
    pub(super) fn begin(&mut self, name: &str, config: &Config) -> Result<(), Refused> {
        if self.open.iter().any(|open| open.name == name) {
            return Err(Refused::InUse);
        }
        if self.open.len() >= config.transactions_max {
            return Err(Refused::TooMany);
        }
        self.open.push(Transaction {
            name: name.to_owned(),
            sends: Vec::new(),
            acks: Vec::new(),
            frames: 0,
            bytes: 0,
        });
        Ok(())
    }

    pub(super) fn find(&mut self, name: &str) -> Option<&mut Transaction> {
        self.open.iter_mut().find(|open| open.name == name)
    }

    /// Takes a transaction out, to commit or to abort it.
    pub(super) fn take(&mut self, name: &str) -> Option<Transaction> {
        let at = self.open.iter().position(|open| open.name == name)?;
        Some(self.open.remove(at))
    }

    pub(super) fn clear(&mut self) {
        self.open = Vec::new();
    }
}

impl Transaction {
    /// Counts a frame of so many octets.
    pub(super) fn count(&mut self, bytes: usize, config: &Config) -> Result<(), Refused> {
        self.frames += 1;
        self.bytes += bytes;
        if self.frames > config.transaction_frames_max || self.bytes > config.transaction_bytes_max
        {
            return Err(Refused::TooLarge);
        }
        Ok(())
    }
}
