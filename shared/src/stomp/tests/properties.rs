use bytes::Bytes;
use proptest::{collection::vec, prelude::*, sample::select};

use super::{
    super::{Command, Decoder, Frame, Limits, Received, Version, encode},
    decode_in,
};

fn version() -> impl Strategy<Value = Version> {
    select(Version::ALL.to_vec())
}

/// Text of the characters that the codec treats specially, and some that it does not.
fn text(version: Version) -> impl Strategy<Value = String> {
    let characters = match version {
        Version::V10 => "a\\é€\0c",
        Version::V11 | Version::V12 => "a\\:\n\r c\0é€😀",
    };
    vec(select(characters.chars().collect::<Vec<_>>()), 0..8)
        .prop_map(|characters| characters.into_iter().collect())
}

fn frame(version: Version) -> impl Strategy<Value = Frame> {
    let name = text(version).prop_map(|name| format!("n{name}"));
    let headers = vec((name, text(version)), 0..6);
    let body = vec(any::<u8>(), 0..40);
    (select(Command::ALL.to_vec()), headers, body).prop_map(|(command, headers, body)| {
        let mut frame = Frame::new(command);
        for (name, value) in &headers {
            // What is never escaped may hold no line end, and CR is one there.
            let is_plain = |text: &str| !text.contains(['\n', '\r']);
            if command.is_escaped() || (is_plain(name) && is_plain(value) && !name.contains(':')) {
                frame.headers.push(name, value);
            }
        }
        if command.may_have_body() {
            frame.with_body(body)
        } else {
            frame
        }
    })
}

fn frames() -> impl Strategy<Value = (Version, Vec<Frame>)> {
    version().prop_flat_map(|version| (Just(version), vec(frame(version), 1..5)))
}

fn encode_all(version: Version, frames: &[Frame]) -> Vec<u8> {
    let mut octets = Vec::new();
    for frame in frames {
        encode(frame, version, &mut octets);
        octets.push(b'\n');
    }
    octets
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded((version, frames) in frames(), piece in 1..80_usize) {
        let octets = encode_all(version, &frames);
        prop_assert_eq!(decode_in(&octets, piece, Some(version)), Ok(frames));
    }

    /// Octets that look like frames, right or wrong, mean the same however they are cut.
    #[test]
    fn any_cut_gives_the_same(
        version in proptest::option::of(version()),
        parts in vec(select(vec![
            "SEND", "CONNECT", "ACK", "\n", "\n", "\n", "\r\n", "\0", "\0", "a:b", "a", ":", "\\",
            "\\n", "\\r", "\\t", "content-length:2", "content-length:40", "xy", "é", "\n\n\0",
            "SEND\n\nbody\0", "SEND\ncontent-length:3\n\na\0b\0", "0123456789012345678901234567890",
        ]), 0..30),
        cuts in vec(1..20_usize, 1..10),
    ) {
        let octets = parts.concat().into_bytes();
        let limits = Limits {
            frame_bytes_max: 100,
            connect_frame_bytes_max: 60,
            headers_max: 3,
            header_line_bytes_max: 40,
        };
        let read = |cuts: &[usize]| {
            let mut decoder = Decoder::new(limits);
            if let Some(version) = version {
                decoder.set_version(version);
            }
            let mut rest = &octets[..];
            let mut found = Vec::new();
            for &cut in cuts.iter().cycle() {
                let (piece, after) = rest.split_at(cut.min(rest.len()));
                decoder.push(Bytes::copy_from_slice(piece));
                rest = after;
                loop {
                    match decoder.poll() {
                        Ok(None) => break,
                        Ok(Some(Received::EndOfLine)) => found.push(Ok(None)),
                        Ok(Some(Received::Frame(frame))) => found.push(Ok(Some(frame))),
                        Err(error) => {
                            let receipt = decoder.receipt().map(str::to_owned);
                            found.push(Err((error, decoder.command(), receipt)));
                            return found;
                        }
                    }
                }
                if rest.is_empty() {
                    return found;
                }
            }
            found
        };
        let whole = read(&[octets.len().max(1)]);
        prop_assert_eq!(read(&cuts), whole.clone());
        prop_assert_eq!(read(&[1]), whole);
    }

    #[test]
    fn no_octets_make_it_panic(octets in vec(any::<u8>(), 0..200), piece in 1..50_usize) {
        for version in [None, Some(Version::V10), Some(Version::V11), Some(Version::V12)] {
            let whole = decode_in(&octets, 200, version);
            prop_assert_eq!(decode_in(&octets, piece, version), whole);
        }
    }
}
