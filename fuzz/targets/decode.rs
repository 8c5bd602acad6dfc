//! Attacks the decoder: any octets, in any pieces, in each version. However the octets are cut, the
//! same comes out, and what is remembered is bounded.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use shared::stomp::{DecodeError, Decoder, Limits, Received, Version};

/// Small, so that they are passed often.
const LIMITS: Limits = Limits {
    frame_bytes_max: 512,
    connect_frame_bytes_max: 256,
    headers_max: 8,
    header_line_bytes_max: 64,
};

fn decode<'a>(
    version: Option<Version>,
    pieces: impl Iterator<Item = &'a [u8]>,
) -> (Vec<Received>, Option<DecodeError>) {
    let mut decoder = Decoder::new(LIMITS);
    if let Some(version) = version {
        decoder.set_version(version);
    }
    let mut found = Vec::new();
    for piece in pieces {
        decoder.push(Bytes::copy_from_slice(piece));
        loop {
            match decoder.poll() {
                Ok(Some(received)) => found.push(received),
                Ok(None) => break,
                Err(error) => return (found, Some(error)),
            }
        }
        assert_eq!(decoder.buffered(), 0, "what was polled is read");
    }
    (found, None)
}

fuzz_target!(|input: &[u8]| {
    let [choice, cuts, octets @ ..] = input else {
        return;
    };
    let version = [
        None,
        Some(Version::V10),
        Some(Version::V11),
        Some(Version::V12),
    ][usize::from(choice % 4)];
    let whole = decode(version, std::iter::once(octets));
    let piece = usize::from(cuts % 13) + 1;
    assert_eq!(decode(version, octets.chunks(piece)), whole);
});
