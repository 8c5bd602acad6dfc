//! SockJS 0.3.3 without I/O: the frames that a server sends, and the strings inside them
//! (<https://sockjs.github.io/sockjs-protocol/sockjs-protocol-0.3.3.html>, "Protocol and framing").
//!
//! Sessions, transports and HTTP are not here.

use std::fmt;

use bytes::Bytes;
use serde::de::{self, DeserializeSeed, Deserializer, SeqAccess, Visitor};

use crate::json;

/// The frame that opens a session.
pub const OPEN: &str = "o";

/// The frame that says that the server is there.
pub const HEART_BEAT: &str = "h";

/// A frame of the server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Frame<'a> {
    /// `o`: the session is open.
    Open,
    /// `h`: the server is there.
    HeartBeat,
    /// `a[…]`: messages, as a JSON array of strings.
    Messages(&'a str),
    /// `c[code,"reason"]`: the session is closed, with a JSON array of both.
    Close(&'a str),
}

impl<'a> Frame<'a> {
    /// Tells what a frame is by its first letter; `None` when it is none.
    pub fn read(text: &'a str) -> Option<Self> {
        match text.split_at_checked(1)? {
            ("o", "") => Some(Frame::Open),
            ("h", "") => Some(Frame::HeartBeat),
            ("a", messages) => Some(Frame::Messages(messages)),
            ("c", close) => Some(Frame::Close(close)),
            _ => None,
        }
    }
}

/// Gives the frame that closes a session.
pub fn close(code: u16, reason: &str) -> String {
    let mut quoted = Vec::new();
    write_string(&[reason.as_bytes()], &mut quoted);
    format!("c[{code},{}]", String::from_utf8_lossy(&quoted))
}

/// Appends a JSON string of text that is given in pieces, with everything escaped that browsers and
/// proxies are known to mangle ("JSON Unicode Encoding": `escapable_by_server`).
pub fn write_string(pieces: &[&[u8]], out: &mut Vec<u8>) {
    out.push(b'"');
    for piece in pieces {
        write_escaped(piece, out);
    }
    out.push(b'"');
}

/// What an octet begins: 0 what goes out as it is, 1 what is always escaped, 2 and 3 what may be.
const KINDS: [u8; 256] = {
    let mut kinds = [0; 256];
    let mut octet = 0;
    while octet < 0x20 {
        kinds[octet] = 1;
        octet += 1;
    }
    kinds[b'"' as usize] = 1;
    kinds[b'\\' as usize] = 1;
    kinds[0xE2] = 2;
    kinds[0xEF] = 3;
    kinds
};

fn write_escaped(piece: &[u8], out: &mut Vec<u8>) {
    let mut rest = piece;
    while let Some(at) = rest
        .iter()
        .position(|octet| KINDS[usize::from(*octet)] != 0)
    {
        out.extend_from_slice(&rest[..at]);
        rest = &rest[at..];
        let (length, unit) = match *rest {
            [0xE2, b @ (0x80 | 0x81), c, ..] => {
                (3, 0x2000 | u16::from(b & 1) << 6 | u16::from(c & 0x3F))
            }
            [0xEF, 0xBF, c @ 0xB0..=0xBF, ..] => (3, 0xFFC0 | u16::from(c & 0x3F)),
            [octet, ..] => (1, u16::from(octet)),
            [] => return,
        };
        let is_escaped = matches!(
            unit,
            0..=0x1F | 0x22 | 0x5C | 0x200C..=0x200F | 0x2028..=0x202F | 0x2060..=0x206F | 0xFFF0..
        );
        if is_escaped {
            write_unit(unit, out);
        } else {
            out.extend_from_slice(&rest[..length]);
        }
        rest = &rest[length..];
    }
    out.extend_from_slice(rest);
}

/// Appends the escape of one UTF-16 code unit.
fn write_unit(unit: u16, out: &mut Vec<u8>) {
    let short = match unit {
        0x08 => b'b',
        0x09 => b't',
        0x0A => b'n',
        0x0C => b'f',
        0x0D => b'r',
        0x22 => b'"',
        0x5C => b'\\',
        _ => {
            out.extend_from_slice(b"\\u");
            for shift in [12, 8, 4, 0] {
                let digit = usize::from(unit >> shift & 0xF);
                out.push(b"0123456789abcdef"[digit]);
            }
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

/// Reads what a client sends: a JSON array of strings or, as WebSocket allows, one string. A lone
/// surrogate, which UTF-8 cannot say, becomes U+FFFD, as it does on a browser's WebSocket.
///
/// The messages are joined, as they are parts of one stream of octets. So they weigh no more than they
/// did as JSON, whatever they are cut into.
///
/// # Errors
/// What is wrong with the JSON.
pub fn read_messages(payload: &[u8]) -> Result<Bytes, serde_json::Error> {
    let Messages(text) = json::read(payload)?;
    Ok(text.into_boxed_str().into_boxed_bytes().into())
}

struct Messages(String);

impl<'de> de::Deserialize<'de> for Messages {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(MessagesVisitor)
    }
}

struct MessagesVisitor;

impl<'de> Visitor<'de> for MessagesVisitor {
    type Value = Messages;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of strings")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Messages, E> {
        Ok(Messages(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Messages, A::Error> {
        let mut text = String::new();
        while array.next_element_seed(Appended(&mut text))?.is_some() {}
        Ok(Messages(text))
    }
}

/// Appends one string to a text, with no copy of its own.
struct Appended<'a>(&'a mut String);

impl<'de> DeserializeSeed<'de> for Appended<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Appended<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<(), E> {
        self.0.push_str(text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn quoted(text: &str) -> String {
        let mut out = Vec::new();
        write_string(&[text.as_bytes()], &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_is_mangled_is_escaped_and_nothing_else() {
        for unit in 0..=0xFFFF_u32 {
            let Some(character) = char::from_u32(unit) else {
                continue;
            };
            let is_listed = matches!(
                unit,
                0..=0x1F | 0x200C..=0x200F | 0x2028..=0x202F | 0x2060..=0x206F | 0xFFF0..=0xFFFF
            );
            let is_escaped = is_listed || matches!(character, '"' | '\\');
            let written = quoted(&character.to_string());
            assert_eq!(written.starts_with("\"\\"), is_escaped, "{unit:04x}");
            if unit > 0xFF && is_listed {
                assert_eq!(written, format!("\"\\u{unit:04x}\""));
            }
        }
        assert_eq!(quoted("a\u{0}\n\r\"\\😀"), r#""a\u0000\n\r\"\\😀""#);
    }

    #[test]
    fn a_client_sends_an_array_or_one_string() {
        let read = |payload: &str| read_messages(payload.as_bytes());
        assert_eq!(read(r#"["a","","가"]"#).unwrap(), "a가");
        assert_eq!(read("[]").unwrap(), "");
        assert_eq!(read(r#""a""#).unwrap(), "a");
        assert_eq!(read(r#"["\ud83d\ude00"]"#).unwrap(), "😀");
        assert_eq!(read(r#"["x\ud83dy\ude00"]"#).unwrap(), "x\u{FFFD}y\u{FFFD}");
        assert_eq!(read("\u{FEFF}[\"a\"]").unwrap(), "a");
        // An escape within an escape is the reader's within.
        assert_eq!(read(r#"["\"\\ud83d\""]"#).unwrap(), r#""\ud83d""#);
        for broken in [
            "",
            "[",
            r#"["a"#,
            "[1]",
            r#"["a"]x"#,
            "{}",
            "null",
            "[null]",
            r#"[["a"]]"#,
        ] {
            assert!(read(broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn frames_are_told_by_their_first_letter() {
        assert_eq!(Frame::read("o"), Some(Frame::Open));
        assert_eq!(Frame::read("h"), Some(Frame::HeartBeat));
        assert_eq!(Frame::read("a[\"x\"]"), Some(Frame::Messages("[\"x\"]")));
        assert_eq!(close(3000, "Go away!"), "c[3000,\"Go away!\"]");
        let frame = close(4500, "\"\n");
        assert_eq!(
            Frame::read(&frame),
            Some(Frame::Close("[4500,\"\\\"\\n\"]"))
        );
        for none in ["", "x", "oo", "가"] {
            assert_eq!(Frame::read(none), None, "{none}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(text: String, cut: prop::sample::Index) {
            let cut = text.floor_char_boundary(cut.index(text.len() + 1));
            let (head, tail) = text.split_at(cut);
            let mut written = Vec::new();
            write_string(&[head.as_bytes(), tail.as_bytes()], &mut written);
            prop_assert_eq!(read_messages(&written).unwrap(), &text);
            let array = [b"[", &written[..], b",", &written, b"]"].concat();
            prop_assert_eq!(read_messages(&array).unwrap(), text.repeat(2));
        }
    }
}
