//! The server's half against a small model of a session: subscriptions, transactions, acknowledgements
//! and the order of RECEIPTs, under any frames and answers in any order.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use proptest::{collection::vec, prelude::*};

use super::super::server::{Config, Event, MessageIds, Session, SubscriptionKey, Ticket};

const NOW: Duration = Duration::ZERO;
const TRANSACTIONS_MAX: usize = 2;
const SUBSCRIPTIONS_MAX: usize = 3;

/// A client's frame. Ids, transactions and keys are small numbers, so that they meet.
#[derive(Clone, Debug)]
enum Said {
    Send {
        transaction: Option<u8>,
    },
    Subscribe {
        id: u8,
        mode: u8,
        is_elsewhere: bool,
    },
    Unsubscribe {
        id: u8,
    },
    Ack {
        key: u32,
        position: u64,
        is_nack: bool,
        transaction: Option<u8>,
    },
    Begin(u8),
    Commit(u8),
    Abort(u8),
    Disconnect,
}

#[derive(Clone, Debug)]
enum Step {
    /// The client sends, and asks for a RECEIPT or does not.
    Says(Said, bool),
    /// The driver delivers to a subscription.
    Deliver(u8),
    /// The driver takes or refuses what waits, whichever it chooses.
    Answer(usize, bool),
}

const MODES: [&str; 3] = ["auto", "client", "client-individual"];

impl Said {
    fn octets(&self, receipt: Option<usize>) -> String {
        let within = |transaction: &Option<u8>| {
            transaction.map_or_else(String::new, |name| format!("transaction:{name}\n"))
        };
        let frame = match self {
            Said::Send { transaction } => {
                format!("SEND\ndestination:/d\n{}", within(transaction))
            }
            Said::Subscribe {
                id,
                mode,
                is_elsewhere,
            } => {
                let mode = MODES[usize::from(*mode)];
                let place = if *is_elsewhere { "/e" } else { "/d" };
                format!(
                    "SUBSCRIBE\nid:{id}\ndestination:{place}\nack:{mode}\nprefetch-count:1000\n"
                )
            }
            Said::Unsubscribe { id } => format!("UNSUBSCRIBE\nid:{id}\n"),
            Said::Ack {
                key,
                position,
                is_nack,
                transaction,
            } => {
                let command = if *is_nack { "NACK" } else { "ACK" };
                format!("{command}\nid:{key}-{position}\n{}", within(transaction))
            }
            Said::Begin(name) => format!("BEGIN\ntransaction:{name}\n"),
            Said::Commit(name) => format!("COMMIT\ntransaction:{name}\n"),
            Said::Abort(name) => format!("ABORT\ntransaction:{name}\n"),
            Said::Disconnect => "DISCONNECT\n".to_owned(),
        };
        let receipt = receipt.map_or_else(String::new, |number| format!("receipt:{number}\n"));
        format!("{frame}{receipt}\n\0")
    }
}

/// What a session tells its driver, in short.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Told {
    /// The new one, and the one that it replaces.
    Subscribe(u32, Option<u32>),
    Unsubscribe(u32),
    Send,
    Commit(usize),
    Settled(u32, Vec<u64>, bool),
    Disconnect,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Receipt {
    Owed,
    Due,
    Refused,
}

#[derive(Debug)]
struct Subscription {
    key: u32,
    mode: u8,
    is_elsewhere: bool,
    next: u64,
    outstanding: Vec<u64>,
}

type Ack = (u32, u64, bool);

#[derive(Debug, Default)]
struct Transaction {
    sends: usize,
    acks: Vec<Ack>,
}

/// What a session is, as simply as it can be said.
#[derive(Debug, Default)]
struct Model {
    /// What the client said that is not looked at yet.
    unread: VecDeque<(Said, Option<usize>)>,
    live: BTreeMap<u8, Subscription>,
    keys: u32,
    open: BTreeMap<u8, Transaction>,
    /// What waits for an answer: its RECEIPT's place, and the ACKs that count with it.
    waiting: Vec<(Option<usize>, Vec<Ack>)>,
    is_committing: bool,
    /// All RECEIPTs that were asked for, in order.
    receipts: Vec<(usize, Receipt)>,
    /// The session ends after these, by ERROR or not.
    end: Option<bool>,
    told: Vec<Told>,
}

impl Model {
    fn read(&mut self) {
        while self.end.is_none() && !self.is_committing {
            let Some((said, receipt)) = self.unread.pop_front() else {
                return;
            };
            if self.take(&said, receipt).is_none() {
                self.end = Some(true);
            }
        }
    }

    /// Does what a frame asks; `None` when it is an error.
    fn take(&mut self, said: &Said, receipt: Option<usize>) -> Option<()> {
        match said {
            Said::Send { transaction: None } => {
                self.told.push(Told::Send);
                self.wait(receipt, Vec::new());
            }
            Said::Send {
                transaction: Some(name),
            } => {
                self.open.get_mut(name)?.sends += 1;
                self.owe(receipt, Receipt::Due);
            }
            Said::Subscribe {
                id,
                mode,
                is_elsewhere,
            } => {
                if !self.has_place(*id, *is_elsewhere) {
                    return None;
                }
                let subscription = Subscription {
                    key: self.keys,
                    mode: *mode,
                    is_elsewhere: *is_elsewhere,
                    next: 0,
                    outstanding: Vec::new(),
                };
                let replaced = self.live.insert(*id, subscription);
                let replaced = replaced.map(|replaced| replaced.key);
                self.told.push(Told::Subscribe(self.keys, replaced));
                self.keys += 1;
                self.wait(receipt, Vec::new());
            }
            Said::Unsubscribe { id } => {
                if let Some(ended) = self.live.remove(id) {
                    self.told.push(Told::Unsubscribe(ended.key));
                }
                self.owe(receipt, Receipt::Due);
            }
            Said::Ack {
                key,
                position,
                is_nack,
                transaction,
            } => {
                if let Some(subscription) = self.live.values().find(|live| live.key == *key) {
                    if subscription.mode == 0 || *position >= subscription.next {
                        return None;
                    }
                } else if *key >= self.keys {
                    return None;
                }
                let ack = (*key, *position, *is_nack);
                match transaction {
                    Some(name) => self.open.get_mut(name)?.acks.push(ack),
                    None => self.acknowledge(ack),
                }
                self.owe(receipt, Receipt::Due);
            }
            Said::Begin(name) => {
                if self.open.contains_key(name) || self.open.len() == TRANSACTIONS_MAX {
                    return None;
                }
                self.open.insert(*name, Transaction::default());
                self.owe(receipt, Receipt::Due);
            }
            Said::Commit(name) => {
                let transaction = self.open.remove(name)?;
                if transaction.sends == 0 {
                    self.owe(receipt, Receipt::Due);
                    for ack in transaction.acks {
                        self.acknowledge(ack);
                    }
                } else {
                    self.told.push(Told::Commit(transaction.sends));
                    self.wait(receipt, transaction.acks);
                    self.is_committing = true;
                }
            }
            Said::Abort(name) => {
                self.open.remove(name)?;
                self.owe(receipt, Receipt::Due);
            }
            Said::Disconnect => {
                self.told.push(Told::Disconnect);
                self.owe(receipt, Receipt::Due);
                self.live.clear();
                self.end = Some(false);
            }
        }
        Some(())
    }

    /// Whether a SUBSCRIBE may be: under a new id within the limit, or again at the same destination.
    fn has_place(&self, id: u8, is_elsewhere: bool) -> bool {
        self.live
            .get(&id)
            .map_or(self.live.len() < SUBSCRIPTIONS_MAX, |live| {
                live.is_elsewhere == is_elsewhere
            })
    }

    fn owe(&mut self, receipt: Option<usize>, state: Receipt) -> Option<usize> {
        let place = self.receipts.len();
        self.receipts.push((receipt?, state));
        Some(place)
    }

    fn wait(&mut self, receipt: Option<usize>, acks: Vec<Ack>) {
        let place = self.owe(receipt, Receipt::Owed);
        self.waiting.push((place, acks));
    }

    fn acknowledge(&mut self, (key, position, is_nack): Ack) {
        let Some(subscription) = self.live.values_mut().find(|live| live.key == key) else {
            return;
        };
        let outstanding = &mut subscription.outstanding;
        let Some(at) = outstanding.iter().position(|&other| other == position) else {
            return;
        };
        let from = if subscription.mode == 1 { 0 } else { at };
        let settled = outstanding.drain(from..=at).collect();
        self.told.push(Told::Settled(key, settled, is_nack));
    }

    /// Takes an answer to the one of those who wait.
    fn answer(&mut self, index: usize, is_accepted: bool) {
        let (place, acks) = self.waiting.remove(index);
        // A COMMIT is always the last that waits.
        if index == self.waiting.len() {
            self.is_committing = false;
        }
        if let Some(place) = place {
            self.receipts[place].1 = if is_accepted {
                Receipt::Due
            } else {
                Receipt::Refused
            };
        }
        if is_accepted {
            acks.into_iter().for_each(|ack| self.acknowledge(ack));
        }
        self.read();
    }

    /// What the client hears: RECEIPTs up to the first that is owed, and whether the session has ended.
    fn heard(&self) -> (Vec<usize>, Option<bool>) {
        let is_settled = |(_, state): &&(usize, Receipt)| *state != Receipt::Owed;
        let settled: Vec<_> = self.receipts.iter().take_while(is_settled).collect();
        let is_over = settled.len() == self.receipts.len();
        let due = settled
            .iter()
            .filter(|(_, state)| *state == Receipt::Due)
            .map(|(number, _)| *number)
            .collect();
        (due, self.end.filter(|_| is_over))
    }
}

/// A session, and what it has told and said.
struct Subject {
    session: Session,
    waiting: Vec<Ticket>,
    keys: Vec<SubscriptionKey>,
    told: Vec<Told>,
    receipts: Vec<usize>,
    /// Ended, by ERROR or not.
    end: Option<bool>,
}

impl Subject {
    fn new() -> Self {
        let config = Config {
            transactions_max: TRANSACTIONS_MAX,
            subscriptions_max: SUBSCRIPTIONS_MAX,
            ..Config::default()
        };
        let mut session = Session::new(Arc::new(config), "s1".to_owned(), NOW);
        session.handle_input(
            Bytes::from_static(b"CONNECT\naccept-version:1.2\n\n\0"),
            NOW,
        );
        let event = session.poll_event(NOW);
        assert!(matches!(event, Some(Event::Connected { .. })));
        assert!(session.poll_transmit(NOW).is_some());
        Subject {
            session,
            waiting: Vec::new(),
            keys: Vec::new(),
            told: Vec::new(),
            receipts: Vec::new(),
            end: None,
        }
    }

    fn drain(&mut self) {
        while let Some(event) = self.session.poll_event(NOW) {
            let told = match event {
                Event::Subscribe {
                    ticket,
                    subscription,
                    replaced,
                    ..
                } => {
                    let ids = MessageIds::InRest("room".into());
                    self.session.identify(subscription, ids);
                    self.waiting.push(ticket);
                    self.keys.push(subscription);
                    let replaced = replaced.map(SubscriptionKey::number);
                    Told::Subscribe(subscription.number(), replaced)
                }
                Event::Unsubscribe { subscription } => Told::Unsubscribe(subscription.number()),
                Event::Send { ticket, .. } => {
                    self.waiting.push(ticket);
                    Told::Send
                }
                Event::Commit { ticket, sends } => {
                    self.waiting.push(ticket);
                    Told::Commit(sends.len())
                }
                Event::Settled {
                    subscription,
                    positions,
                    is_nack,
                } => Told::Settled(subscription.number(), positions, is_nack),
                Event::Disconnect => Told::Disconnect,
                Event::Connected { .. } => panic!("connected twice"),
            };
            self.told.push(told);
        }
        while let Some(octets) = self.session.poll_transmit(NOW) {
            let text = str::from_utf8(&octets).expect("frames of this test are text");
            if let Some(number) = text.strip_prefix("RECEIPT\nreceipt-id:") {
                let number = number.trim_end_matches(['\n', '\0']);
                self.receipts.push(number.parse().expect("a number"));
            } else {
                assert!(text.starts_with("ERROR\n"), "{text}");
                self.end = Some(true);
            }
        }
        if let Some(close) = self.session.poll_close() {
            let is_error = self.end.get_or_insert(false);
            assert_eq!(close.code, if *is_error { 1002 } else { 1000 });
        }
    }
}

fn said() -> impl Strategy<Value = Said> {
    let id = 0..4_u8;
    let transaction = prop_oneof![2 => Just(None), 1 => (0..3_u8).prop_map(Some)];
    let ack = (0..4_u32, 0..6_u64, any::<bool>(), transaction.clone());
    prop_oneof![
        4 => transaction.prop_map(|transaction| Said::Send { transaction }),
        3 => (id.clone(), 0..3_u8, prop::bool::weighted(0.2)).prop_map(
            |(id, mode, is_elsewhere)| Said::Subscribe { id, mode, is_elsewhere }
        ),
        1 => id.prop_map(|id| Said::Unsubscribe { id }),
        4 => ack.prop_map(|(key, position, is_nack, transaction)| Said::Ack {
            key, position, is_nack, transaction,
        }),
        3 => (0..3_u8).prop_map(Said::Begin),
        2 => (0..3_u8).prop_map(Said::Commit),
        1 => (0..3_u8).prop_map(Said::Abort),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        40 => (said(), any::<bool>()).prop_map(|(said, asks)| Step::Says(said, asks)),
        1 => any::<bool>().prop_map(|asks| Step::Says(Said::Disconnect, asks)),
        25 => (0..4_u8).prop_map(Step::Deliver),
        25 => (any::<usize>(), prop::bool::weighted(0.9))
            .prop_map(|(index, is_accepted)| Step::Answer(index, is_accepted)),
    ]
}

/// Leaves out, nine times of ten, what would end the session, so that sessions grow old.
fn is_kept(model: &Model, step: &Step, chance: u8) -> bool {
    let Step::Says(said, _) = step else {
        return true;
    };
    let is_fault = match said {
        Said::Send {
            transaction: Some(name),
        }
        | Said::Commit(name)
        | Said::Abort(name) => !model.open.contains_key(name),
        Said::Begin(name) => model.open.contains_key(name) || model.open.len() == TRANSACTIONS_MAX,
        Said::Subscribe {
            id, is_elsewhere, ..
        } => !model.has_place(*id, *is_elsewhere),
        Said::Ack {
            key,
            position,
            transaction,
            ..
        } => {
            let live = model.live.values().find(|live| live.key == *key);
            live.map_or(*key >= model.keys, |live| {
                live.mode == 0 || *position >= live.next
            }) || transaction.is_some_and(|name| !model.open.contains_key(&name))
        }
        _ => false,
    };
    !is_fault || chance == 0
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn a_session_does_what_its_model_does(steps in vec((step(), 0..10_u8), 0..80)) {
        let (mut model, mut subject) = (Model::default(), Subject::new());
        for (number, (step, chance)) in steps.into_iter().enumerate() {
            if !is_kept(&model, &step, chance) {
                continue;
            }
            match step {
                Step::Says(said, asks) => {
                    let receipt = asks.then_some(number);
                    subject.session.handle_input(said.octets(receipt).into(), NOW);
                    model.unread.push_back((said, receipt));
                    model.read();
                }
                Step::Deliver(id) => {
                    let Some(live) = model.live.get_mut(&id).filter(|_| model.end.is_none()) else {
                        continue;
                    };
                    let key = subject.keys[live.key as usize];
                    let position = live.next;
                    live.next += 1;
                    if live.mode != 0 {
                        live.outstanding.push(position);
                    }
                    prop_assert!(subject.session.deliver(key, position, b"\n\0", NOW).is_some());
                }
                Step::Answer(index, is_accepted) => {
                    if model.waiting.is_empty() {
                        continue;
                    }
                    let index = index % model.waiting.len();
                    let ticket = subject.waiting.remove(index);
                    if is_accepted {
                        subject.session.accept(ticket);
                    } else {
                        subject.session.pass_over(ticket);
                    }
                    model.answer(index, is_accepted);
                }
            }
            subject.drain();
            prop_assert_eq!(&subject.told, &model.told);
            let (receipts, end) = model.heard();
            prop_assert_eq!(&subject.receipts, &receipts);
            prop_assert_eq!(subject.end, end);
        }
    }
}
