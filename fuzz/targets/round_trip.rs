//! Attacks encoder and decoder together: what was decoded, encoded and decoded again is the same.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use shared::stomp::{Decoder, Frame, Limits, Received, Version, encode};

fn decode(version: Version, octets: &[u8], limits: Limits) -> Vec<Frame> {
    let mut decoder = Decoder::new(limits);
    decoder.set_version(version);
    decoder.push(Bytes::copy_from_slice(octets));
    let mut frames = Vec::new();
    while let Ok(Some(received)) = decoder.poll() {
        if let Received::Frame(frame) = received {
            frames.push(frame);
        }
    }
    frames
}

/// Whether the version can say all of a frame's headers: 1.0, and what is never escaped, can say no
/// line end.
fn is_expressible(frame: &Frame, version: Version) -> bool {
    let is_escaped = version > Version::V10 && frame.command.is_escaped();
    is_escaped
        || frame
            .headers
            .iter()
            .all(|(name, value)| !name.contains(['\r', '\n', ':']) && !value.contains(['\r', '\n']))
}

fuzz_target!(|input: &[u8]| {
    let [choice, octets @ ..] = input else {
        return;
    };
    let version = Version::ALL[usize::from(choice % 3)];
    let limits = Limits::default();
    let frames: Vec<_> = decode(version, octets, limits)
        .into_iter()
        .filter(|frame| is_expressible(frame, version))
        .collect();
    let mut encoded = Vec::new();
    for frame in &frames {
        encode(frame, version, &mut encoded);
    }
    // A `content-length` that was not there, and escapes, may make a frame longer.
    let limits = Limits {
        frame_bytes_max: 2 * limits.frame_bytes_max,
        headers_max: limits.headers_max + 1,
        header_line_bytes_max: 2 * limits.header_line_bytes_max,
        ..limits
    };
    assert_eq!(decode(version, &encoded, limits), frames);
});
