//! Heart-beats: what both sides offer, what is agreed, and when one is due or missed.

use std::{fmt, time::Duration};

/// What one side offers in its `heart-beat` header (STOMP 1.2, "Heart-beating").
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HeartBeat {
    /// The shortest interval at which this side can send, in milliseconds; 0 when it cannot.
    pub send_ms: u32,
    /// The interval at which it wants to hear from the other, in milliseconds; 0 when it does not.
    pub receive_ms: u32,
}

/// How often each direction must be heard; `None` where no heart-beats were agreed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Agreed {
    /// How long this side may be quiet.
    pub send: Option<Duration>,
    /// How long the other side may be quiet.
    pub receive: Option<Duration>,
}

impl HeartBeat {
    /// No heart-beats in either direction: what a missing header means.
    pub const NONE: HeartBeat = HeartBeat {
        send_ms: 0,
        receive_ms: 0,
    };

    /// Reads `"send,receive"`; `None` when it is not two numbers of milliseconds.
    pub fn parse(text: &str) -> Option<Self> {
        let number = |text: &str| {
            let text = text.trim();
            let is_number = !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_digit());
            // More milliseconds than fit, 49 days, is as good as 49 days.
            is_number.then(|| text.parse().unwrap_or(u32::MAX))
        };
        let (send, receive) = text.split_once(',')?;
        Some(HeartBeat {
            send_ms: number(send)?,
            receive_ms: number(receive)?,
        })
    }

    /// Works out what this offer and the other side's come to.
    pub fn negotiate(self, theirs: HeartBeat) -> Agreed {
        let interval = |sender: u32, receiver: u32| {
            (sender != 0 && receiver != 0)
                .then(|| Duration::from_millis(sender.max(receiver).into()))
        };
        Agreed {
            send: interval(self.send_ms, theirs.receive_ms),
            receive: interval(theirs.send_ms, self.receive_ms),
        }
    }
}

impl Default for HeartBeat {
    /// `10000,10000`.
    fn default() -> Self {
        HeartBeat {
            send_ms: 10_000,
            receive_ms: 10_000,
        }
    }
}

impl fmt::Display for HeartBeat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{}", self.send_ms, self.receive_ms)
    }
}

/// The watches of a session: when to let a heart-beat out, when to ping, and when the other side is lost.
#[derive(Debug)]
pub(super) struct Pulse {
    send: Option<Duration>,
    silence_max: Option<Duration>,
    /// Neither side is silent for longer with no ping, where this side pings.
    ping_interval: Option<Duration>,
    sent_at: Duration,
    heard_at: Duration,
    pinged_at: Duration,
    is_ping_due: bool,
}

impl Pulse {
    /// Begins with nothing to watch.
    pub(super) fn new(now: Duration) -> Self {
        Pulse {
            send: None,
            silence_max: None,
            ping_interval: None,
            sent_at: now,
            heard_at: now,
            pinged_at: now,
            is_ping_due: false,
        }
    }

    /// Begins to watch; the other side is lost after `silence_factor` intervals, those of its
    /// heart-beats or, where they are shorter or the only ones, of the pings that it must answer.
    pub(super) fn start(
        &mut self,
        agreed: Agreed,
        ping_interval: Option<Duration>,
        silence_factor: u32,
        now: Duration,
    ) {
        *self = Pulse::new(now);
        self.send = agreed.send;
        let interval = [agreed.receive, ping_interval].into_iter().flatten().min();
        self.silence_max = interval.map(|interval| interval * silence_factor.max(1));
        self.ping_interval = ping_interval;
    }

    /// Watches nothing any more.
    pub(super) fn stop(&mut self) {
        self.send = None;
        self.silence_max = None;
        self.ping_interval = None;
        self.is_ping_due = false;
    }

    pub(super) fn sent(&mut self, now: Duration) {
        self.sent_at = now;
    }

    pub(super) fn heard(&mut self, now: Duration) {
        self.heard_at = now;
    }

    /// Whether nothing was sent for so long that a line feed is due.
    pub(super) fn is_beat_due(&self, now: Duration) -> bool {
        self.beat_at().is_some_and(|at| at <= now)
    }

    /// For how long the other side may be silent, when it has been silent for longer.
    pub(super) fn lost_after(&self, now: Duration) -> Option<Duration> {
        self.silence_max.filter(|&max| now >= self.heard_at + max)
    }

    /// Notes that the timer of the ping has come, so that [`Pulse::ping_timeout`] moves on.
    pub(super) fn note_ping(&mut self, now: Duration) {
        if self.ping_timeout().is_some_and(|at| at <= now) {
            self.pinged_at = now;
            self.is_ping_due = true;
        }
    }

    /// Whether a ping is due; once for each.
    pub(super) fn take_ping(&mut self, now: Duration) -> bool {
        self.note_ping(now);
        std::mem::take(&mut self.is_ping_due)
    }

    /// When a heart-beat is due or the other side is lost.
    pub(super) fn timeout(&self) -> Option<Duration> {
        [self.beat_at(), self.lost_at()].into_iter().flatten().min()
    }

    /// When the other side is lost.
    pub(super) fn lost_at(&self) -> Option<Duration> {
        self.silence_max.map(|max| self.heard_at + max)
    }

    /// When to ping: half-way to the end of a silence of the other side, and wherever either side has
    /// been silent for an interval. A ping is no heart-beat, and does not put one off.
    pub(super) fn ping_timeout(&self) -> Option<Duration> {
        let interval = self.ping_interval?;
        let half = self.silence_max.map_or(interval, |max| max / 2);
        let unheard = self.heard_at.max(self.pinged_at) + interval.min(half);
        let unsent = self.sent_at.max(self.pinged_at) + interval;
        Some(unheard.min(unsent))
    }

    /// When a heart-beat is due.
    pub(super) fn beat_at(&self) -> Option<Duration> {
        self.send.map(|interval| self.sent_at + interval)
    }
}
