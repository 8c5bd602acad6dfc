//! One message of a destination that is no log, and how much of them may wait.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use shared::stomp::{Headers, Version};

use crate::log::budget::{Budget, Charge};

/// Headers of a SEND that do not travel: the broker's own, and what is about the SEND alone.
const OWN_HEADERS: [&str; 7] = [
    "destination",
    "receipt",
    "transaction",
    "subscription",
    "message-id",
    "ack",
    "content-length",
];

/// The beginning of header names that are the room log's.
const STREAM_HEADERS: &str = "x-stream-";

/// What a letter counts besides its text, and what each of its headers does: about what is allocated
/// for them.
const LETTER_BYTES: usize = 256;
const HEADER_BYTES: usize = 16;

/// While all that waits weighs too much, one reader may have a part of its own bound.
const PART: usize = 8;

/// How much may wait, in bytes as they weigh in memory.
#[derive(Debug)]
pub(crate) struct Bounds {
    letters: Arc<Budget>,
    all_max: usize,
    reader_max: usize,
}

impl Bounds {
    /// Lets so much wait in all, and for one reader.
    pub(crate) fn new(all_max: usize, reader_max: usize) -> Self {
        Bounds {
            letters: Arc::default(),
            all_max,
            reader_max,
        }
    }

    fn is_exceeded(&self) -> bool {
        self.letters.held() > self.all_max
    }

    /// The most that may wait for one reader now.
    pub(super) fn of_reader(&self) -> usize {
        if self.is_exceeded() {
            self.reader_max / PART
        } else {
            self.reader_max
        }
    }

    /// The most for which nobody has credit that may wait at one queue now.
    pub(super) fn of_queue(&self) -> usize {
        if self.is_exceeded() {
            0
        } else {
            self.reader_max
        }
    }

    /// What all letters weigh that are not forgotten.
    #[cfg(test)]
    pub(crate) fn held(&self) -> usize {
        self.letters.held()
    }
}

/// One message of a destination that is no log, shared by all who are sent it.
#[derive(Debug)]
pub(crate) struct Letter {
    headers: Headers,
    body: Bytes,
    is_text: bool,
    /// Its place among the letters of its queue.
    pub(super) number: u64,
    /// What it counts while it waits.
    pub(super) weight: usize,
    /// What it counts among all, with its `rests`.
    charge: Charge,
    /// What follows a MESSAGE's first headers, in each version, once somebody needs it.
    rests: [OnceLock<Bytes>; 3],
}

impl Letter {
    /// Makes the letter of a SEND, with the headers that travel; of repeated ones the first.
    pub(crate) fn new(bounds: &Bounds, destination: &str, headers: &Headers, body: &[u8]) -> Self {
        let mut own = Headers::new();
        own.push("destination", destination);
        for (name, value) in headers.iter() {
            let travels = !OWN_HEADERS.contains(&name) && !name.starts_with(STREAM_HEADERS);
            if travels && own.get(name).is_none() {
                own.push(name, value);
            }
        }
        let header = |(name, value): (&str, &str)| HEADER_BYTES + name.len() + value.len();
        let weight = LETTER_BYTES + body.len() + own.iter().map(header).sum::<usize>();
        Letter {
            number: 0,
            weight,
            charge: bounds.letters.charge(weight),
            headers: own,
            // A slice would keep alive all that came with it.
            body: Bytes::copy_from_slice(body),
            is_text: std::str::from_utf8(body).is_ok(),
            rests: Default::default(),
        }
    }

    /// What it counts while it waits, in bytes.
    pub(crate) fn weight(&self) -> usize {
        self.weight
    }

    /// Whether the body is UTF-8.
    pub(crate) fn is_text(&self) -> bool {
        self.is_text
    }

    /// Everything of its MESSAGE after what the session writes, to the NUL.
    pub(crate) fn rest(&self, version: Version) -> &[u8] {
        self.rests[version as usize].get_or_init(|| {
            let mut rest = Vec::with_capacity(self.weight);
            shared::stomp::message_rest_in(version, &self.headers, &self.body, &mut rest);
            rest.shrink_to_fit();
            self.charge.add(rest.len());
            rest.into()
        })
    }
}
