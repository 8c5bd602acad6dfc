//! The path under which a proxy shows the server, beside others on one host.

use std::fmt;
use std::str::FromStr;

/// What each route begins with (`app::routes`), but `/` and the package, which nothing can be taken for.
const ROUTES: [&str; 6] = [
    "/chat/room",
    "/chat/rooms",
    "/ws/chat",
    "/healthz",
    "/readyz",
    "/metrics",
];

/// A path such as `/chat-app`, under which all addresses are that the server gives out; or none.
///
/// A request may come with it, or without where the proxy takes it off.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct BasePath(String);

impl BasePath {
    /// What goes before a path of ours.
    pub(crate) fn prefix(&self) -> &str {
        &self.0
    }

    /// The `Path` of cookies.
    pub(crate) fn for_cookies(&self) -> &str {
        if self.0.is_empty() { "/" } else { &self.0 }
    }

    /// The path of ours in one that came with the base; `None` where it came without.
    pub(crate) fn take_off<'a>(&self, path: &'a str) -> Option<&'a str> {
        if self.0.is_empty() || is_route(path) {
            return None;
        }
        match path.strip_prefix(&self.0)? {
            "" => Some("/"),
            rest => rest.starts_with('/').then_some(rest),
        }
    }
}

fn is_route(path: &str) -> bool {
    let is_below = |route: &str| {
        let rest = path.strip_prefix(route);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    ROUTES.into_iter().any(is_below)
}

impl FromStr for BasePath {
    type Err = String;

    /// # Errors
    /// A sentence on what is no such path, or could be taken for a route.
    fn from_str(text: &str) -> Result<Self, String> {
        let bare = text.trim().trim_end_matches('/');
        if bare.is_empty() {
            return Ok(BasePath::default());
        }
        let path = format!("/{}", bare.strip_prefix('/').unwrap_or(bare));
        let is_segment = |segment: &str| {
            let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._~%@+=".contains(c);
            !matches!(segment, "" | "." | "..") && segment.chars().all(is_plain)
        };
        if !path[1..].split('/').all(is_segment) {
            return Err(format!(
                "`{text}` is no path to stand under; give one such as /chat-app, with no address before it"
            ));
        }
        if ROUTES
            .iter()
            .any(|route| is_route(&format!("{path}{route}")))
        {
            return Err(format!(
                "`{text}` could be taken for a path of the server's own; give another, such as /chat-app"
            ));
        }
        Ok(BasePath(path))
    }
}

impl fmt::Display for BasePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.for_cookies())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_is_read_in_one_form() {
        for (text, expected) in [
            ("", Some("")),
            ("/", Some("")),
            (" / ", Some("")),
            ("/chat-app", Some("/chat-app")),
            ("/chat-app/", Some("/chat-app")),
            ("chat-app", Some("/chat-app")),
            (" /a/b.c/ ", Some("/a/b.c")),
            ("/chat", Some("/chat")),
            ("/%EC%82%AC", Some("/%EC%82%AC")),
            ("/사랑방", None),
            ("https://example.org/chat", None),
            ("//example.org", None),
            ("/a//b", None),
            ("/a/../b", None),
            ("/.", None),
            ("/a?b", None),
            ("/a#b", None),
            ("/a b", None),
            ("/a;b", None),
            ("/chat/room", None),
            ("/chat/room/x", None),
            ("/ws", None),
            ("/ws/chat", None),
            ("/healthz", None),
        ] {
            let read = text.parse::<BasePath>();
            assert_eq!(
                read.as_ref().ok().map(BasePath::prefix),
                expected,
                "{text}: {read:?}"
            );
        }
    }

    #[test]
    fn a_base_is_taken_off_where_it_stands_before_a_path() {
        for (base, path, expected) in [
            ("", "/chat/room", None),
            ("/chat-app", "/chat-app/chat/room", Some("/chat/room")),
            ("/chat-app", "/chat-app/nothing", Some("/nothing")),
            ("/chat-app", "/chat-app", Some("/")),
            ("/chat-app", "/chat-app/", Some("/")),
            ("/chat-app", "/chat-apple/chat/room", None),
            ("/chat-app", "/chat/room", None),
            ("/chat-app", "/CHAT-APP/chat/room", None),
            ("/chat", "/chat/room", None),
            ("/chat", "/chat/rooms", None),
            ("/chat", "/chat/room/enter/x", None),
            ("/chat", "/chat/chat/room", Some("/chat/room")),
            ("/chat", "/chat/ws/chat/info", Some("/ws/chat/info")),
            ("/chat", "/chat/", Some("/")),
        ] {
            let base: BasePath = base.parse().unwrap();
            assert_eq!(base.take_off(path), expected, "{base} {path}");
        }
    }
}
