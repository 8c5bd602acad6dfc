//! What reading a frame costs in allocations: none for a header, and no copy of the body.

use bytes::Bytes;
use shared::stomp::{Decoder, Frame, Limits, Received, Version};

/// A frame of so many headers and `content-length`.
fn frame(headers: usize) -> Bytes {
    let headers: String = (0..headers).map(|n| format!("name-{n}:value\n")).collect();
    let body = "가".repeat(5_000);
    Bytes::from(format!(
        "SEND\n{headers}content-length:{}\n\n{body}\0",
        body.len()
    ))
}

/// Reads a frame as one that is connected and has read before; gives it and the allocations it took.
fn read(octets: &Bytes) -> (Frame, u64) {
    let mut decoder = Decoder::new(Limits::default());
    decoder.set_version(Version::V12);
    let mut poll = |octets: &Bytes| {
        decoder.push(octets.clone());
        let Ok(Some(Received::Frame(frame))) = decoder.poll() else {
            panic!("a frame was pushed");
        };
        frame
    };
    poll(octets);
    let mut frame = None;
    let counted = allocation_counter::measure(|| frame = Some(poll(octets)));
    (frame.expect("it was read"), counted.count_total)
}

#[test]
fn a_header_costs_no_allocation() {
    for headers in 1..=8 {
        let (frame, allocations) = read(&frame(headers));
        assert_eq!(frame.headers.len(), headers);
        assert_eq!(allocations, 2, "one for texts, one for their ends");
    }
    // Where there are more than usual the two grow, by doubling.
    let (_, allocations) = read(&frame(60));
    assert!(allocations <= 2 + 3 + 3, "{allocations}");
}

#[test]
fn a_body_is_not_copied() {
    let octets = frame(3);
    let (frame, _) = read(&octets);
    let whole = octets.as_ptr_range();
    assert_eq!(frame.body.len(), 15_000);
    assert!(whole.contains(&frame.body.as_ptr()));
}
