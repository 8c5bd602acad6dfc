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

/// The two watches of a session: when to let a heart-beat out, and when the other side is lost.
#[derive(Debug)]
pub(super) struct Pulse {
    send: Option<Duration>,
    silence_max: Option<Duration>,
    sent_at: Duration,
    heard_at: Duration,
    ping: Ping,
}

/// How far a silence has got towards the ping half-way to its deadline.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Ping {
    NotYet,
    Due,
    Taken,
}

impl Pulse {
    /// Begins with no heart-beats agreed.
    pub(super) fn new(now: Duration) -> Self {
        Pulse {
            send: None,
            silence_max: None,
            sent_at: now,
            heard_at: now,
            ping: Ping::NotYet,
        }
    }

    /// Begins to watch; the other side is lost after `silence_factor` intervals.
    pub(super) fn start(&mut self, agreed: Agreed, silence_factor: u32, now: Duration) {
        *self = Pulse::new(now);
        self.send = agreed.send;
        self.silence_max = agreed
            .receive
            .map(|interval| interval * silence_factor.max(1));
    }

    /// Watches nothing any more.
    pub(super) fn stop(&mut self) {
        self.send = None;
        self.silence_max = None;
    }

    pub(super) fn sent(&mut self, now: Duration) {
        self.sent_at = now;
    }

    pub(super) fn heard(&mut self, now: Duration) {
        self.heard_at = now;
        self.ping = Ping::NotYet;
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
            self.ping = Ping::Due;
        }
    }

    /// Whether a ping is due; once per silence.
    pub(super) fn take_ping(&mut self, now: Duration) -> bool {
        self.note_ping(now);
        let is_due = self.ping == Ping::Due;
        if is_due {
            self.ping = Ping::Taken;
        }
        is_due
    }

    /// When a heart-beat is due or the other side is lost.
    pub(super) fn timeout(&self) -> Option<Duration> {
        let lost_at = self.silence_max.map(|max| self.heard_at + max);
        [self.beat_at(), lost_at].into_iter().flatten().min()
    }

    /// When to ping in this silence; `None` once its time was noted.
    pub(super) fn ping_timeout(&self) -> Option<Duration> {
        self.silence_max
            .filter(|_| self.ping == Ping::NotYet)
            .map(|max| self.heard_at + max / 2)
    }

    fn beat_at(&self) -> Option<Duration> {
        self.send.map(|interval| self.sent_at + interval)
    }
}
