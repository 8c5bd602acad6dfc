//! Conditional requests (RFC 9110, 13): whether the client has what it asks for already, or asks only
//! as long as it is what it was.
//!
//! Nothing here has a date of its last change, so conditions by date are passed over (13.1.3, 13.1.4),
//! as is `Range`, which nothing here takes.

use std::convert::Infallible;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::stream;

use crate::problem::Problem;

/// Answers GET and HEAD as their conditions ask, given the answer without them.
pub(crate) fn answer(asked: &HeaderMap, mut response: Response) -> Response {
    // 13.2.1: conditions come after the usual checks.
    if response.status() != StatusCode::OK {
        return response;
    }
    let tag = response.headers().get(header::ETAG);
    let tag = tag.and_then(|tag| Tag::parse(tag.as_bytes()));
    match judge(asked, tag.as_ref()) {
        Outcome::Go => response,
        Outcome::Same => {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            // 15.4.5: what describes the content stays away, so that no cache updates it.
            for name in [
                header::CONTENT_ENCODING,
                header::CONTENT_LANGUAGE,
                header::CONTENT_LENGTH,
                header::CONTENT_TYPE,
            ] {
                response.headers_mut().remove(name);
            }
            // Of unknown length, as 0 would be said of the content.
            response.map(|_| Body::from_stream(stream::empty::<Result<Bytes, Infallible>>()))
        }
        Outcome::Failed => {
            let detail = "it has changed since; ask without `If-Match` for what it is now";
            Problem::new(StatusCode::PRECONDITION_FAILED, detail).into_response()
        }
    }
}

/// What the conditions of a request come to.
#[derive(Debug, PartialEq)]
enum Outcome {
    Go,
    /// The client has it: 304.
    Same,
    /// 412.
    Failed,
}

/// Judges in the order of RFC 9110, 13.2.2.
fn judge(asked: &HeaderMap, tag: Option<&Tag<'_>>) -> Outcome {
    let strong = |wanted: &Tag<'_>| Some(wanted) == tag && !wanted.is_weak;
    let weak = |wanted: &Tag<'_>| tag.is_some_and(|tag| tag.opaque == wanted.opaque);
    if matches(asked, header::IF_MATCH, strong) == Some(false) {
        return Outcome::Failed;
    }
    if matches(asked, header::IF_NONE_MATCH, weak) == Some(true) {
        return Outcome::Same;
    }
    Outcome::Go
}

/// Whether one tag of a list does; `*` always does. `None` where there is no such header.
fn matches(asked: &HeaderMap, name: HeaderName, does: impl Fn(&Tag<'_>) -> bool) -> Option<bool> {
    let mut lines = asked.get_all(name).iter().peekable();
    lines.peek()?;
    Some(lines.any(|line| {
        let list = line.as_bytes();
        list.trim_ascii() == b"*" || Tags(list).any(|tag| does(&tag))
    }))
}

/// An entity tag (RFC 9110, 8.8.3).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Tag<'a> {
    is_weak: bool,
    opaque: &'a [u8],
}

impl<'a> Tag<'a> {
    fn parse(text: &'a [u8]) -> Option<Self> {
        Tags(text).next()
    }
}

/// The tags of a list. A comma may stand in a tag; what is no tag ends the list.
struct Tags<'a>(&'a [u8]);

impl<'a> Iterator for Tags<'a> {
    type Item = Tag<'a>;

    fn next(&mut self) -> Option<Tag<'a>> {
        let is_between = |octet: &u8| matches!(octet, b' ' | b'\t' | b',');
        let start = self.0.iter().position(|octet| !is_between(octet))?;
        let rest = &self.0[start..];
        let (rest, is_weak) = match rest.strip_prefix(b"W/") {
            Some(rest) => (rest, true),
            None => (rest, false),
        };
        let rest = rest.strip_prefix(b"\"")?;
        let end = rest.iter().position(|octet| *octet == b'"')?;
        self.0 = &rest[end + 1..];
        Some(Tag {
            is_weak,
            opaque: &rest[..end],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(all: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in all {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn conditions_are_judged_as_rfc_9110_says() {
        use Outcome::{Failed, Go, Same};
        const NONE: &str = "if-none-match";
        const MATCH: &str = "if-match";
        const SINCE: &str = "if-modified-since";
        const LATER: &str = "Fri, 31 Dec 2100 23:59:59 GMT";
        type Lines = [(&'static str, &'static str)];
        let cases: &[(&Lines, Outcome, Outcome)] = &[
            // The tag is "a", then it is W/"a".
            (&[], Go, Go),
            (&[(NONE, "\"a\"")], Same, Same),
            (&[(NONE, "W/\"a\"")], Same, Same),
            (&[(NONE, "\"b\"")], Go, Go),
            (&[(NONE, "\"A\"")], Go, Go),
            (&[(NONE, "\"b\", \"a\"")], Same, Same),
            (&[(NONE, "\"b\",W/\"a\",\"c\"")], Same, Same),
            (&[(NONE, ", ,\"b\" , \"a\"")], Same, Same),
            (&[(NONE, "\"b\""), (NONE, "\"a\"")], Same, Same),
            (&[(NONE, "\"b,\", \"a\"")], Same, Same),
            (&[(NONE, "\"x, \\\"a\\\"\"")], Go, Go),
            (&[(NONE, "*")], Same, Same),
            (&[(NONE, " * ")], Same, Same),
            (&[(NONE, "\"*\"")], Go, Go),
            (&[(NONE, "a")], Go, Go),
            (&[(NONE, "")], Go, Go),
            (&[(NONE, "\"a")], Go, Go),
            (&[(NONE, "w/\"a\"")], Go, Go),
            (&[(SINCE, LATER)], Go, Go),
            (&[(NONE, "\"b\""), (SINCE, LATER)], Go, Go),
            (&[(NONE, "\"a\""), (SINCE, "nonsense")], Same, Same),
            (
                &[("if-unmodified-since", "Thu, 01 Jan 1970 00:00:00 GMT")],
                Go,
                Go,
            ),
            (&[(MATCH, "\"a\"")], Go, Failed),
            (&[(MATCH, "W/\"a\"")], Failed, Failed),
            (&[(MATCH, "\"b\"")], Failed, Failed),
            (&[(MATCH, "\"b\", \"a\"")], Go, Failed),
            (&[(MATCH, "*")], Go, Go),
            (&[(MATCH, "\"b\""), (NONE, "\"a\"")], Failed, Failed),
            (&[(MATCH, "\"a\""), (NONE, "\"a\"")], Same, Failed),
        ];
        for (lines, strong, weak) in cases {
            let asked = headers(lines);
            for (tag, expected) in [("\"a\"", strong), ("W/\"a\"", weak)] {
                let tag = Tag::parse(tag.as_bytes());
                assert_eq!(judge(&asked, tag.as_ref()), *expected, "{tag:?} {lines:?}");
            }
        }
        // What has no tag is there all the same.
        for (name, value, expected) in [
            (NONE, "*", Same),
            (NONE, "\"a\"", Go),
            (MATCH, "*", Go),
            (MATCH, "\"a\"", Failed),
        ] {
            assert_eq!(judge(&headers(&[(name, value)]), None), expected);
        }
    }
}
