//! All connections of a server: their settings, their numbers, and how they are drained.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use shared::stomp::server::Config as StompConfig;

use crate::awake;
use crate::guest::Guests;
use crate::log::tail::lock;
use crate::log::{SessionNumber, Signal};

/// What every connection goes by.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The protocol's limits and heart-beats.
    pub(crate) stomp: Arc<StompConfig>,
    /// Messages a second; `None` for no limit.
    pub(crate) message_rate: Option<NonZeroU32>,
    /// Messages in a burst.
    pub(crate) message_burst: NonZeroU32,
    /// The most bytes of what is not stored that wait for one reader.
    pub(crate) slow_reader_bytes_max: usize,
    /// How long a peer may take no byte while some wait.
    pub(crate) stall_timeout: Duration,
}

/// The open connections.
pub(crate) struct Hub {
    settings: Settings,
    guests: Guests,
    start: Instant,
    next: AtomicU64,
    open: Mutex<HashMap<SessionNumber, Arc<Signal>>>,
    draining: AtomicBool,
    empty: tokio::sync::Notify,
}

impl Hub {
    /// Makes a hub without connections.
    pub(crate) fn new(settings: Settings, guests: Guests) -> Self {
        Hub {
            settings,
            guests,
            start: awake::now(),
            next: AtomicU64::new(1),
            open: Mutex::default(),
            draining: AtomicBool::new(false),
            empty: tokio::sync::Notify::new(),
        }
    }

    /// What every connection goes by.
    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Who signs guests' names.
    pub(super) fn guests(&self) -> &Guests {
        &self.guests
    }

    /// The STOMP sessions' clock.
    pub(super) fn since_start(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.start)
    }

    /// The moment of a time by the STOMP sessions' clock.
    pub(super) fn at(&self, since_start: Duration) -> Instant {
        self.start + since_start
    }

    /// Counts a connection in; `None` when the server is draining.
    pub(super) fn join(&self, signal: &Arc<Signal>) -> Option<SessionNumber> {
        let mut open = lock(&self.open);
        if self.is_draining() {
            return None;
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        open.insert(number, Arc::clone(signal));
        Some(number)
    }

    /// Counts a connection out.
    pub(super) fn leave(&self, number: SessionNumber) {
        let mut open = lock(&self.open);
        open.remove(&number);
        if open.is_empty() {
            self.empty.notify_waiters();
        }
    }

    /// Whether the server is going down.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Closes every connection with 1012 and takes no new ones; returns when none is left.
    pub(crate) async fn drain(&self) {
        let mut emptied = std::pin::pin!(self.empty.notified());
        {
            let open = lock(&self.open);
            self.draining.store(true, Ordering::Release);
            emptied.as_mut().enable();
            if open.is_empty() {
                return;
            }
            for signal in open.values() {
                signal.wake();
            }
        }
        emptied.await;
    }
}
