//! Both halves against each other, and each alone; no socket, no clock, no sleep.

mod acknowledgement;
mod bounds;
mod codec;
mod conversation;
mod model;
mod pair;
mod properties;
mod session;
mod silence;
mod subscription;
mod transaction;

use std::time::Duration;

use super::{DecodeError, Decoder, Frame, Limits, Received, Version};

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Decodes octets that come in pieces of a size.
fn decode_in(
    octets: &[u8],
    piece: usize,
    version: Option<Version>,
) -> Result<Vec<Frame>, DecodeError> {
    let mut decoder = Decoder::new(Limits::default());
    if let Some(version) = version {
        decoder.set_version(version);
    }
    let mut frames = Vec::new();
    for piece in octets.chunks(piece) {
        decoder.push(piece.to_vec().into());
        while let Some(received) = decoder.poll()? {
            if let Received::Frame(frame) = received {
                frames.push(frame);
            }
        }
    }
    Ok(frames)
}

/// Decodes octets in one piece and in many ways of cutting; all must agree.
fn decode(octets: &[u8], version: Option<Version>) -> Result<Vec<Frame>, DecodeError> {
    let whole = decode_in(octets, octets.len().max(1), version);
    for piece in [1, 2, 3, 7, 64] {
        assert_eq!(
            decode_in(octets, piece, version),
            whole,
            "in pieces of {piece}"
        );
    }
    whole
}
