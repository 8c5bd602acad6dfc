//! Transactions that are open: what each has taken in (STOMP 1.2, "BEGIN", "COMMIT", "ABORT").

use std::{sync::Arc, time::Duration};

use super::{
    Config, Sent,
    budget::{Share, TransactionBudget},
    subscriptions::Ack,
};

/// All transactions of a session that are open, or wait for the answer to their COMMIT.
#[derive(Debug, Default)]
pub(super) struct Transactions {
    open: Vec<Transaction>,
    /// What the one weighs whose COMMIT is not answered.
    committing: usize,
    /// What they take of the budget of all sessions; none while there are none.
    share: Option<Share>,
}

/// One transaction: what COMMIT will do, in order.
#[derive(Debug)]
pub(super) struct Transaction {
    name: String,
    /// When it must have ended.
    by: Duration,
    /// When it must have ended whatever it waits for.
    by_at_last: Duration,
    pub(super) sends: Vec<Sent>,
    pub(super) acks: Vec<Ack>,
    frames: usize,
    /// Octets of bodies, and of names and values of headers.
    bytes: usize,
    /// What it holds in memory.
    weight: usize,
}

/// What a transaction takes in with one frame.
#[derive(Debug)]
pub(super) enum Part {
    Send(Sent),
    /// What an ACK or NACK is about, and how many octets its headers have.
    Acks(Vec<Ack>, usize),
}

/// Why a transaction cannot be begun, or takes in no more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Refused {
    InUse,
    NotBegun,
    TooMany,
    TooLarge,
    /// Those of all sessions together hold too much.
    TooMuchInAll,
}

/// What a frame that is kept weighs besides its octets: its place in a list that has grown by halves,
/// and what the allocator adds.
const FRAME_WEIGHT: usize = 2 * size_of::<Sent>() + 64;

/// Who is not read may wait for so many times as long.
const WAITS_MAX: u32 = 10;

/// How long there is to end them once the client is read again.
const READING_TIME: Duration = Duration::from_secs(5);

impl Transactions {
    pub(super) fn begin(
        &mut self,
        name: &str,
        now: Duration,
        config: &Config,
    ) -> Result<(), Refused> {
        if self.open.iter().any(|open| open.name == name) {
            return Err(Refused::InUse);
        }
        if self.open.len() >= config.transactions_max {
            return Err(Refused::TooMany);
        }
        self.open.push(Transaction {
            name: name.to_owned(),
            by: now + config.transaction_timeout,
            by_at_last: now + WAITS_MAX * config.transaction_timeout,
            sends: Vec::new(),
            acks: Vec::new(),
            frames: 0,
            bytes: 0,
            weight: name.len() + size_of::<Transaction>(),
        });
        self.resize(&config.transactions_budget)
    }

    /// Lets a transaction take in a frame; after a refusal the session ends.
    pub(super) fn take_in(
        &mut self,
        name: &str,
        part: Part,
        config: &Config,
    ) -> Result<(), Refused> {
        let transaction = self.open.iter_mut().find(|open| open.name == name);
        let transaction = transaction.ok_or(Refused::NotBegun)?;
        transaction.take_in(part, config)?;
        self.resize(&config.transactions_budget)
    }

    /// Takes a transaction out, to abort it.
    pub(super) fn abort(&mut self, name: &str, config: &Config) -> Result<(), Refused> {
        self.take(name)?;
        self.resize(&config.transactions_budget)
    }

    /// Takes a transaction out, to commit it. Until [`Transactions::conclude`] it counts.
    pub(super) fn commit(&mut self, name: &str) -> Result<Transaction, Refused> {
        let transaction = self.take(name)?;
        self.committing = transaction.weight;
        Ok(transaction)
    }

    /// Notes that the COMMIT is answered.
    pub(super) fn conclude(&mut self, config: &Config) {
        self.committing = 0;
        // To hold less is never refused.
        let _ = self.resize(&config.transactions_budget);
    }

    /// When the first of them must have ended.
    pub(super) fn timeout(&self) -> Option<Duration> {
        self.open.iter().map(|open| open.by).min()
    }

    /// Notes that the client is not read: its COMMIT may have come.
    pub(super) fn put_off(&mut self, now: Duration) {
        for open in &mut self.open {
            open.by = open.by.max(open.by_at_last.min(now + READING_TIME));
        }
    }

    /// The name of one that is open for too long.
    pub(super) fn overdue(&self, now: Duration) -> Option<&str> {
        let overdue = self.open.iter().find(|open| open.by <= now)?;
        Some(&overdue.name)
    }

    pub(super) fn clear(&mut self) {
        *self = Transactions::default();
    }

    fn take(&mut self, name: &str) -> Result<Transaction, Refused> {
        let at = self.open.iter().position(|open| open.name == name);
        at.map(|at| self.open.remove(at)).ok_or(Refused::NotBegun)
    }

    /// Takes of the budget what they weigh by now.
    fn resize(&mut self, budget: &Arc<TransactionBudget>) -> Result<(), Refused> {
        let open: usize = self.open.iter().map(|open| open.weight).sum();
        let share = self.share.get_or_insert_with(|| Share::new(budget));
        let has_taken = share.resize(open + self.committing);
        if self.open.is_empty() && self.committing == 0 {
            self.share = None;
        }
        has_taken.then_some(()).ok_or(Refused::TooMuchInAll)
    }
}

impl Transaction {
    fn take_in(&mut self, part: Part, config: &Config) -> Result<(), Refused> {
        self.frames += 1;
        let octets = match &part {
            Part::Send(sent) => sent.body.len() + sent.headers.octets(),
            Part::Acks(_, octets) => *octets,
        };
        self.bytes += octets;
        if self.frames > config.transaction_frames_max || self.bytes > config.transaction_bytes_max
        {
            return Err(Refused::TooLarge);
        }
        match part {
            Part::Send(sent) => {
                self.weight +=
                    FRAME_WEIGHT + sent.destination.len() + sent.headers.weight() + sent.body.len();
                self.sends.push(sent);
            }
            Part::Acks(acks, _) => {
                // One frame of 1.0 may be about as many messages as there are subscriptions.
                self.weight += 2 * size_of_val(&acks[..]);
                self.acks.extend(acks);
            }
        }
        Ok(())
    }
}
