//! Frames to octets and back: an encoder, and a decoder that takes its input in any pieces and
//! bounds what it remembers.

mod decoder;

use thiserror::Error;

pub use self::decoder::{DecodeError, Decoder, Received};
use super::{
    frame::{Frame, Version},
    header::{self, Headers},
};

/// How large a frame may be. All sizes are in octets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// A whole frame, from the first octet of its command to its NUL, both included.
    pub frame_bytes_max: usize,
    /// The same before the version is known, so before CONNECTED.
    pub connect_frame_bytes_max: usize,
    /// How many headers a frame may have, repeats included.
    pub headers_max: usize,
    /// One header line (or the command) as sent, without its end.
    pub header_line_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            frame_bytes_max: 65_536,
            connect_frame_bytes_max: 16_384,
            headers_max: 64,
            header_line_bytes_max: 8_192,
        }
    }
}

/// Encodes a frame in a version.
///
/// A body gets its `content-length`; one among the headers is passed over, and so is a header that
/// the version cannot express (a line end in 1.0, in CONNECT or in CONNECTED).
pub fn encode(frame: &Frame, version: Version, out: &mut Vec<u8>) {
    let version = if frame.command.is_escaped() {
        version
    } else {
        Version::V10
    };
    out.extend_from_slice(frame.command.as_str().as_bytes());
    out.push(b'\n');
    let tells_length = !frame.body.is_empty();
    encode_rest(version, &frame.headers, &frame.body, tells_length, out);
}

/// A header that some version would have to escape, or that would not be a header at all.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("the header {name} needs escaping; only values without \\, :, CR and LF can be shared")]
pub struct NeedsEscape {
    /// The header's name.
    pub name: String,
}

/// Appends all octets of a MESSAGE after its `subscription` header, to the NUL: what a broker
/// encodes once and delivers to every subscriber of every version (see
/// [`super::server::Session::deliver`]). `content-length` is written here.
///
/// # Errors
/// [`NeedsEscape`] when a header would differ between versions; `out` is as it was.
pub fn message_rest(
    headers: &[(&str, &str)],
    body: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), NeedsEscape> {
    let is_plain = |text: &str| {
        !text
            .bytes()
            .any(|octet| matches!(octet, b'\\' | b':' | b'\n' | b'\r'))
            && text.trim_ascii() == text
    };
    if let Some((name, _)) = headers
        .iter()
        .find(|(name, value)| name.is_empty() || !is_plain(name) || !is_plain(value))
    {
        return Err(NeedsEscape {
            name: (*name).to_owned(),
        });
    }
    for (name, value) in headers {
        encode_header(name, value, Version::V10, out);
    }
    encode_header("content-length", &body.len().to_string(), Version::V10, out);
    out.push(b'\n');
    out.extend_from_slice(body);
    out.push(0);
    Ok(())
}

/// Appends all octets of a MESSAGE after what the session writes, to the NUL, with the escapes of a
/// version. A header that the version cannot express is left out, and so is `content-length`, which
/// is written here.
pub fn message_rest_in(version: Version, headers: &Headers, body: &[u8], out: &mut Vec<u8>) {
    encode_rest(version, headers, body, true, out);
}

fn encode_rest(
    version: Version,
    headers: &Headers,
    body: &[u8],
    tells_length: bool,
    out: &mut Vec<u8>,
) {
    for (name, value) in headers.iter() {
        if name != "content-length" && header::is_expressible(name, value, version) {
            encode_header(name, value, version, out);
        }
    }
    if tells_length {
        encode_header("content-length", &body.len().to_string(), version, out);
    }
    out.push(b'\n');
    out.extend_from_slice(body);
    out.push(0);
}

/// Appends one header line.
pub(super) fn encode_header(name: &str, value: &str, version: Version, out: &mut Vec<u8>) {
    header::escape(name, version, out);
    out.push(b':');
    header::escape(value, version, out);
    out.push(b'\n');
}
