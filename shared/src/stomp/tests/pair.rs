//! Both halves with a wire between them, under a clock that jumps to whatever is due next.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;

use super::super::{
    client::{self, Client},
    server::{self, Close, Event, Session, SubscriptionKey, Ticket},
};

/// A server's session and a client, and what is between them.
pub(super) struct Pair {
    pub(super) now: Duration,
    pub(super) server: Session,
    pub(super) client: Client,
    /// In pieces of how many octets the wire hands on; 0 for one frame at a time.
    pub(super) piece: usize,
    /// Whether octets arrive; what is sent meanwhile is lost.
    pub(super) is_wired: bool,
    /// Whether the client's timers come (a hidden page's do not).
    pub(super) has_timers: bool,
    /// Whether the client answers pings.
    pub(super) has_pongs: bool,
    /// Whether the server's driver takes every SUBSCRIBE and SEND at once.
    pub(super) accepts: bool,
    pub(super) server_events: Vec<Event>,
    pub(super) client_events: Vec<client::Event>,
    pub(super) close: Option<Close>,
    /// Heart-beats seen on the wire, to the server and to the client.
    pub(super) beats: [usize; 2],
}

impl Pair {
    pub(super) fn new(server: server::Config, client: client::Config) -> Self {
        let now = Duration::from_secs(7);
        Pair {
            now,
            server: Session::new(Arc::new(server), "s1".to_owned(), now),
            client: Client::new(client, now),
            piece: 0,
            is_wired: true,
            has_timers: true,
            has_pongs: true,
            accepts: true,
            server_events: Vec::new(),
            client_events: Vec::new(),
            close: None,
            beats: [0, 0],
        }
    }

    /// Lets everything that is under way arrive, without letting time pass.
    pub(super) fn settle(&mut self) {
        loop {
            while let Some(event) = self.server.poll_event(self.now) {
                if self.accepts
                    && let Some(ticket) = ticket(&event)
                {
                    self.server.accept(ticket);
                }
                self.server_events.push(event);
            }
            self.client_events
                .extend(std::iter::from_fn(|| self.client.poll_event()));
            let now = self.now;
            let down: VecDeque<Bytes> =
                std::iter::from_fn(|| self.server.poll_transmit(now)).collect();
            let up: VecDeque<Bytes> =
                std::iter::from_fn(|| self.client.poll_transmit(now)).collect();
            if let Some(close) = self.server.poll_close() {
                self.close = Some(close);
            }
            if self.server.wants_ping(now) && self.is_wired && self.has_pongs {
                self.server.handle_alive(now);
            }
            if down.is_empty() && up.is_empty() {
                return;
            }
            self.carry(up, down);
        }
    }

    fn carry(&mut self, up: VecDeque<Bytes>, down: VecDeque<Bytes>) {
        for (to_client, frames) in [(false, up), (true, down)] {
            self.beats[usize::from(to_client)] +=
                frames.iter().filter(|frame| frame[..] == *b"\n").count();
            if !self.is_wired {
                continue;
            }
            for piece in cut(frames, self.piece) {
                if to_client {
                    self.client.handle_input(piece, self.now);
                } else {
                    self.server.handle_input(piece, self.now);
                }
            }
        }
    }

    /// Lets time pass, stopping wherever one of the two asked to be woken.
    pub(super) fn run(&mut self, span: Duration) {
        let end = self.now + span;
        self.settle();
        loop {
            let client_due = self.client.poll_timeout().filter(|_| self.has_timers);
            let due = [self.server.poll_timeout(), client_due]
                .into_iter()
                .flatten()
                .min();
            let Some(due) = due.filter(|due| *due <= end) else {
                break;
            };
            let was = (
                self.now,
                self.client.poll_timeout(),
                self.server.poll_timeout(),
            );
            self.now = self.now.max(due);
            if self.server.poll_timeout().is_some_and(|at| at <= self.now) {
                self.server.handle_timeout(self.now);
            }
            if client_due.is_some_and(|at| at <= self.now) {
                self.client.handle_timeout(self.now);
            }
            self.settle();
            let is = (
                self.now,
                self.client.poll_timeout(),
                self.server.poll_timeout(),
            );
            assert_ne!(was, is, "a timeout must lead somewhere");
        }
        self.now = end;
    }

    /// Delivers a MESSAGE to a subscription.
    pub(super) fn deliver(&mut self, subscription: SubscriptionKey, rest: &[u8]) -> bool {
        let Some(position) = self.server.position_next(subscription) else {
            return false;
        };
        let Some(parts) = self.server.deliver(subscription, position, rest, self.now) else {
            return false;
        };
        let octets = Bytes::from(parts.concat());
        for piece in cut([octets].into(), self.piece) {
            self.client.handle_input(piece, self.now);
        }
        self.settle();
        true
    }

    /// The RECEIPTs that came to the client.
    pub(super) fn receipts(&self) -> Vec<&str> {
        let mut receipts = Vec::new();
        for event in &self.client_events {
            if let client::Event::Receipt { id } = event {
                receipts.push(id.as_str());
            }
        }
        receipts
    }

    /// The tickets that came to the server's driver.
    pub(super) fn tickets(&self) -> Vec<Ticket> {
        self.server_events.iter().filter_map(ticket).collect()
    }
}

fn ticket(event: &Event) -> Option<Ticket> {
    match event {
        Event::Send { ticket, .. }
        | Event::Commit { ticket, .. }
        | Event::Subscribe { ticket, .. } => Some(*ticket),
        _ => None,
    }
}

fn cut(frames: VecDeque<Bytes>, piece: usize) -> Vec<Bytes> {
    if piece == 0 {
        return frames.into();
    }
    let octets = Vec::from(frames).concat();
    octets.chunks(piece).map(Bytes::copy_from_slice).collect()
}
