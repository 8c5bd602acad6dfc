//! The headers of a frame, and how each version escapes them.

use std::fmt;

use super::frame::Version;

/// The headers of a frame, unescaped, in the order in which they were written.
///
/// All names and values share one string, so that a frame costs two allocations for its headers
/// however many there are.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct Headers {
    text: String,
    /// Where each name and each value end in `text`; a header begins where the one before ends.
    ends: Vec<(usize, usize)>,
}

impl Headers {
    /// Makes an empty list; allocates nothing.
    pub fn new() -> Self {
        Headers::default()
    }

    /// Gives the value of a header; of repeated headers the first counts (STOMP 1.2, "Repeated
    /// Header Entries").
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter()
            .find(|(found, _)| *found == name)
            .map(|(_, value)| value)
    }

    /// Gives all headers as name and value, in order, repeats included.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut start = 0;
        self.ends.iter().map(move |&(name_end, value_end)| {
            let header = (&self.text[start..name_end], &self.text[name_end..value_end]);
            start = value_end;
            header
        })
    }

    /// Appends a header, unescaped.
    pub fn push(&mut self, name: &str, value: &str) {
        self.text.push_str(name);
        let name_end = self.text.len();
        self.text.push_str(value);
        self.ends.push((name_end, self.text.len()));
    }

    /// How many headers there are, repeats included.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The octets of all names and values.
    pub(super) fn octets(&self) -> usize {
        self.text.len()
    }

    /// What the headers hold in memory, in octets, beyond `self`: small ones weigh many times what they
    /// are on the wire.
    pub fn weight(&self) -> usize {
        self.text.capacity() + self.ends.capacity() * size_of::<(usize, usize)>()
    }

    /// Lets go of room that was made for more, before they are kept.
    pub(super) fn shrink_to_fit(&mut self) {
        self.text.shrink_to_fit();
        self.ends.shrink_to_fit();
    }

    /// Appends a header as it stands on the wire and takes its escapes away.
    ///
    /// # Errors
    /// [`UndefinedEscape`], and nothing is appended.
    pub(super) fn push_escaped(
        &mut self,
        name: &str,
        value: &str,
        version: Version,
    ) -> Result<(), UndefinedEscape> {
        let start = self.text.len();
        let mut unescape = || {
            unescape(name, version, &mut self.text)?;
            let name_end = self.text.len();
            unescape(value, version, &mut self.text)?;
            Ok(name_end)
        };
        match unescape() {
            Ok(name_end) => {
                self.ends.push((name_end, self.text.len()));
                Ok(())
            }
            Err(error) => {
                self.text.truncate(start);
                Err(error)
            }
        }
    }

    /// Makes room for a frame's usual headers at once.
    pub(super) fn reserve(&mut self, octets: usize) {
        self.text.reserve(octets);
        self.ends.reserve(8);
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a> FromIterator<(&'a str, &'a str)> for Headers {
    fn from_iter<I: IntoIterator<Item = (&'a str, &'a str)>>(headers: I) -> Self {
        let mut made = Headers::new();
        for (name, value) in headers {
            made.push(name, value);
        }
        made
    }
}

/// A backslash that is followed by nothing, or by what the version does not define.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct UndefinedEscape;

fn unescape(text: &str, version: Version, out: &mut String) -> Result<(), UndefinedEscape> {
    if version == Version::V10 {
        out.push_str(text);
        return Ok(());
    }
    let mut rest = text;
    while let Some(at) = memchr::memchr(b'\\', rest.as_bytes()) {
        out.push_str(&rest[..at]);
        out.push(match (rest.as_bytes().get(at + 1), version) {
            (Some(b'\\'), _) => '\\',
            (Some(b'n'), _) => '\n',
            (Some(b'c'), _) => ':',
            (Some(b'r'), Version::V12) => '\r',
            _ => return Err(UndefinedEscape),
        });
        rest = &rest[at + 2..];
    }
    out.push_str(rest);
    Ok(())
}

/// Writes a name or a value with the escapes of a version (STOMP 1.1 and 1.2, "Value Encoding").
pub(super) fn escape(text: &str, version: Version, out: &mut Vec<u8>) {
    if version == Version::V10 {
        out.extend_from_slice(text.as_bytes());
        return;
    }
    for &octet in text.as_bytes() {
        match octet {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b':' => out.extend_from_slice(b"\\c"),
            b'\r' if version == Version::V12 => out.extend_from_slice(b"\\r"),
            octet => out.push(octet),
        }
    }
}

/// Whether a version can say this header at all: 1.0, like every frame that is not escaped, has no
/// way to write a line end, nor a colon in a name.
pub(super) fn is_expressible(name: &str, value: &str, version: Version) -> bool {
    let has_line_end = |text: &str| memchr::memchr2(b'\n', b'\r', text.as_bytes()).is_some();
    !name.is_empty()
        && (version > Version::V10
            || !(has_line_end(name) || has_line_end(value) || name.contains(':')))
}
