//! What a peer sends on: paid for by the rate of its session, stored, published, and answered.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::vec;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota};
use shared::stomp::server::{Sent, Ticket};

use super::{Connection, Reply, Settings, Transport};
use crate::chat::plain::Letter;
use crate::chat::{About, Checked, Refusal};
use crate::log::{Done, Outcome};
use crate::metrics::meters;

/// Once a peer has gone, what it had sent is not kept for its turn: so many seconds of the rate are sent
/// on at once, and the rest is refused. Else whoever dumps thousands of messages and leaves would either
/// live on for minutes or be rid of the rate.
const LAST_SECONDS: u32 = 3;

/// What is not stored counts once for each so many bytes that are begun: so a burst of 60 is less than
/// half of what may wait for a reader (512 KiB), and cuts off nobody who reads.
const UNIT_BYTES: usize = 4 << 10;

/// How often one that waits for its turn looks whether its peer is still there.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What a session may send, by number and by size.
pub(super) struct Rate {
    limiter: DefaultDirectRateLimiter,
    burst: u32,
    /// How many more go through at once after the peer has gone.
    last: u32,
}

impl Rate {
    /// The rate of a new session; `None` where there is no limit.
    pub(super) fn new(settings: &Settings) -> Option<Self> {
        let rate = settings.message_rate?;
        let burst = settings.message_burst;
        Some(Rate {
            limiter: DefaultDirectRateLimiter::direct(Quota::per_second(rate).allow_burst(burst)),
            burst: burst.get(),
            last: rate.get().saturating_mul(LAST_SECONDS),
        })
    }

    /// Takes off what may go through now; how long the rest must wait, if any is left.
    fn pay(&self, unpaid: &mut u32) -> Option<Duration> {
        while let Some(part) = NonZeroU32::new((*unpaid).min(self.burst)) {
            match self.limiter.check_n(part) {
                Ok(Ok(())) => *unpaid -= part.get(),
                Ok(Err(wait)) => return Some(wait.wait_time_from(DefaultClock::default().now())),
                // A part is never larger than the burst.
                Err(_) => break,
            }
        }
        None
    }

    /// Takes off what is sent on at once, as the peer has gone: whether there is enough.
    fn pay_last(&mut self, unpaid: u32) -> bool {
        let of_burst = (0..unpaid).take_while(|_| self.limiter.check().is_ok());
        let of_burst = u32::try_from(of_burst.count()).unwrap_or(u32::MAX);
        let last = self.last.checked_sub(unpaid - of_burst);
        self.last = last.unwrap_or(0);
        last.is_some()
    }
}

/// What a letter costs.
fn cost(letter: &Letter) -> u32 {
    u32::try_from(letter.weight().div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX)
}

/// A SEND or COMMIT that must wait.
pub(super) struct Held {
    ticket: Ticket,
    waiting: Waiting,
    /// What of it the rate has not let through yet.
    unpaid: u32,
    pub(super) until: Option<Instant>,
}

/// What is kept of it, and what it waits for.
enum Waiting {
    /// Its turn. It is kept as it came, which is less than what is made of it.
    Sends {
        sends: Vec<Sent>,
        is_transaction: bool,
    },
    /// Room in the log.
    Checked(Checked, Done),
    /// The turn of each of its letters; what of it is stored is on disk.
    Letters(vec::IntoIter<(String, Letter)>),
}

/// Whether what must be paid for goes through.
enum Turn {
    Come,
    NotBefore(Instant),
    /// It will not come any more.
    Never,
}

impl<T: Transport + Unpin + 'static> Connection<T> {
    /// Sends on what a SEND brings, or all that a COMMIT does (`is_transaction`), now or as soon as it
    /// can.
    pub(super) fn send(
        &mut self,
        ticket: Ticket,
        sends: Vec<Sent>,
        is_transaction: bool,
        now: Instant,
    ) {
        let checked = match self.chat.check(self.origin, &sends, is_transaction) {
            Ok(checked) => checked,
            Err(refusal) => return self.refuse(ticket, refusal),
        };
        let mut unpaid = checked.count();
        // The letters of a transaction have their turns once the rest is stored.
        if !is_transaction {
            unpaid = checked
                .letters()
                .map(cost)
                .fold(unpaid, u32::saturating_add);
        }
        match self.turn(&mut unpaid, now) {
            Turn::Come => self.append(ticket, checked, now),
            turn => self.wait(ticket, turn, unpaid, || Waiting::Sends {
                sends,
                is_transaction,
            }),
        }
    }

    /// Goes on with what was held.
    pub(super) fn go_on(&mut self, mut held: Held, now: Instant) {
        let ticket = held.ticket;
        match held.waiting {
            Waiting::Checked(checked, done) => self.enqueue(ticket, checked, done),
            Waiting::Letters(letters) => self.publish(ticket, letters, Some(held.unpaid), now),
            Waiting::Sends {
                sends,
                is_transaction,
            } => match self.turn(&mut held.unpaid, now) {
                Turn::Come => {
                    // What it is about may have gone meanwhile.
                    match self.chat.check(self.origin, &sends, is_transaction) {
                        Ok(checked) => self.append(ticket, checked, now),
                        Err(refusal) => self.refuse(ticket, refusal),
                    }
                }
                turn => self.wait(ticket, turn, held.unpaid, || Waiting::Sends {
                    sends,
                    is_transaction,
                }),
            },
        }
    }

    /// Whether the turn has come of what is not paid for.
    fn turn(&mut self, unpaid: &mut u32, now: Instant) -> Turn {
        let Some(rate) = &mut self.rate else {
            return Turn::Come;
        };
        let Some(wait) = rate.pay(unpaid) else {
            return Turn::Come;
        };
        let is_gone = self.peer_gone
            || self.closing_until.is_some()
            || self.hub.is_draining()
            || self.transport.is_gone();
        if !is_gone {
            return Turn::NotBefore(now + wait.min(LOOK_INTERVAL));
        }
        if rate.pay_last(*unpaid) {
            Turn::Come
        } else {
            Turn::Never
        }
    }

    /// Holds what must wait; gives it up, with all that comes after it, where its turn will not come.
    fn wait(&mut self, ticket: Ticket, turn: Turn, unpaid: u32, waiting: impl FnOnce() -> Waiting) {
        if let Turn::NotBefore(until) = turn {
            self.held = Some(Box::new(Held {
                ticket,
                waiting: waiting(),
                unpaid,
                until: Some(until),
            }));
            return;
        }
        tracing::info!(
            session = self.session.id(),
            "a peer has gone that had sent more than its rate lets through; the rest is refused"
        );
        self.session.pass_over(ticket);
        let reason = "what was sent faster than the rate, before the end, is refused";
        self.session.close(4500, reason);
    }

    /// Stores what was paid for; what is not stored is done at once.
    fn append(&mut self, ticket: Ticket, mut checked: Checked, now: Instant) {
        let about = checked.take_about();
        if checked.count() == 0 {
            return self.conclude(ticket, about, Outcome::Appended, now);
        }
        let mailbox = Arc::clone(&self.mailbox);
        let done = Done::new(move |outcome| {
            mailbox.put(Reply::Sent {
                ticket,
                about,
                outcome,
            })
        });
        self.enqueue(ticket, checked, done);
    }

    /// Gives it to the log, or holds it until there is room.
    fn enqueue(&mut self, ticket: Ticket, checked: Checked, done: Done) {
        match self.chat.send(checked, done, &self.mailbox.signal) {
            Ok(()) => self.unanswered += 1,
            Err(back) => {
                let (checked, done) = *back;
                self.held = Some(Box::new(Held {
                    ticket,
                    waiting: Waiting::Checked(checked, done),
                    unpaid: 0,
                    until: None,
                }));
            }
        }
    }

    /// Tells the sender what became of what they sent, once all of it is done.
    pub(super) fn conclude(
        &mut self,
        ticket: Ticket,
        about: About,
        outcome: Outcome,
        now: Instant,
    ) {
        let is_transaction = about.is_transaction();
        match self.chat.conclude(about, outcome) {
            Err(refusal) => self.refuse(ticket, refusal),
            // That of a SEND is paid for.
            Ok(letters) => {
                let unpaid = if is_transaction { None } else { Some(0) };
                self.publish(ticket, letters.into_iter(), unpaid, now);
            }
        }
    }

    /// Publishes letters, each in its turn; `unpaid` is what the first still costs, where it was asked
    /// for already.
    fn publish(
        &mut self,
        ticket: Ticket,
        letters: vec::IntoIter<(String, Letter)>,
        unpaid: Option<u32>,
        now: Instant,
    ) {
        let mut letters = letters;
        let mut asked = unpaid;
        while let Some((_, letter)) = letters.as_slice().first() {
            let mut unpaid = asked.take().unwrap_or_else(|| cost(letter));
            match self.turn(&mut unpaid, now) {
                Turn::Come => {}
                turn => return self.wait(ticket, turn, unpaid, || Waiting::Letters(letters)),
            }
            if let Some((destination, letter)) = letters.next() {
                self.chat.publish(&destination, letter);
            }
        }
        self.session.accept(ticket);
    }

    /// Tells the sender why a SEND was refused (contract, section 3).
    fn refuse(&mut self, ticket: Ticket, refusal: Refusal) {
        meters().refuse(refusal.status);
        let receipt = self.session.receipt_of(ticket).map(str::to_owned);
        let refusal = refusal.with_receipt(receipt.as_deref());
        let is_heard = self.closing_until.is_none();
        let is_told = is_heard && self.subscriptions.tell_refusal(&refusal);
        if is_heard && !is_told && receipt.is_some() {
            self.session
                .fail(Some(ticket), refusal.title, &refusal.words());
        } else {
            self.session.pass_over(ticket);
        }
    }
}
