//! Origins (RFC 6454), and the patterns by which an operator lists them.

use std::fmt;
use std::str::FromStr;

use axum::http::uri::Authority;
use url::{Host, Url};

/// The origin of a page, in the form in which two are compared.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Origin {
    pub(super) scheme: String,
    pub(super) host: String,
    /// The default of the scheme where none was named.
    pub(super) port: Option<u16>,
}

impl Origin {
    /// Reads what browsers send as `Origin`; `null` is none.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let url = Url::parse(text).ok()?;
        let is_bare = matches!(url.path(), "" | "/") && url.query().is_none();
        Self::of(&url).filter(|_| is_bare && url.fragment().is_none())
    }

    /// The origin of an address.
    pub(super) fn of(url: &Url) -> Option<Self> {
        let host = url.host_str().filter(|host| !host.is_empty())?;
        Some(Origin {
            scheme: url.scheme().to_owned(),
            host: host.to_ascii_lowercase(),
            port: url.port_or_known_default(),
        })
    }
}

/// Reads a host, and the port if there is one, as in the header `Host`.
pub(super) fn host_and_port(text: &str) -> Option<(String, Option<u16>)> {
    let authority: Authority = text.parse().ok()?;
    let host = Host::parse(authority.host()).ok()?;
    Some((host.to_string(), authority.port_u16()))
}

/// Origins whose pages may connect, as `--allowed-origins` lists them: all of them, one, or those of
/// the hosts below another.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AllowedOrigin(Pattern);

#[derive(Clone, Debug, Eq, PartialEq)]
enum Pattern {
    All,
    Of {
        scheme: String,
        /// Whether it is for the hosts below `host`, of one label more or many.
        is_below: bool,
        host: String,
        port: Port,
    },
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Port {
    Any,
    Is(Option<u16>),
}

impl AllowedOrigin {
    /// Whether it stands for every origin, `null` too.
    pub(super) fn is_all(&self) -> bool {
        self.0 == Pattern::All
    }

    /// Its host, and whether it is for the hosts below that; `None` where it stands for every origin.
    pub(super) fn host(&self) -> Option<(&str, bool)> {
        match &self.0 {
            Pattern::All => None,
            Pattern::Of { host, is_below, .. } => Some((host, *is_below)),
        }
    }

    pub(super) fn matches(&self, origin: &Origin) -> bool {
        let Pattern::Of {
            scheme,
            is_below,
            host,
            port,
        } = &self.0
        else {
            return true;
        };
        let is_host = if *is_below {
            let labels = origin.host.strip_suffix(host.as_str());
            labels
                .and_then(|labels| labels.strip_suffix('.'))
                .is_some_and(|labels| !labels.is_empty())
        } else {
            origin.host == *host
        };
        let is_port = match port {
            Port::Any => true,
            Port::Is(port) => *port == origin.port,
        };
        is_host && is_port && *scheme == origin.scheme
    }
}

/// Schemes of addresses that are no page's origin, or only as `null`.
const NO_PAGES: [&str; 8] = [
    "about",
    "blob",
    "data",
    "file",
    "ftp",
    "javascript",
    "ws",
    "wss",
];

impl FromStr for AllowedOrigin {
    type Err = String;

    /// # Errors
    /// A sentence on what can never match any origin.
    fn from_str(text: &str) -> Result<Self, String> {
        const EXAMPLE: &str = "give one such as https://www.example.org or https://*.example.org";
        let text = text.trim();
        if text == "*" {
            return Ok(AllowedOrigin(Pattern::All));
        }
        if text.eq_ignore_ascii_case("null") {
            return Err(format!(
                "`{text}` cannot be listed: it is what pages from files and sandboxes send, and `*` alone lets it in"
            ));
        }
        if text.contains(char::is_whitespace) {
            return Err(format!(
                "`{text}` has a space in it; separate origins by commas"
            ));
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(format!("`{text}` has no scheme; {EXAMPLE}"));
        };
        let lower = scheme.to_ascii_lowercase();
        if NO_PAGES.contains(&lower.as_str()) {
            return Err(format!(
                "`{text}` is no page's origin, which is never `{lower}:`; give the address of the page, such as https://www.example.org"
            ));
        }
        let (rest, is_below) = match rest.strip_prefix("*.") {
            Some(rest) => (rest, true),
            None => (rest, false),
        };
        let (rest, is_any_port) = match rest.trim_end_matches('/').strip_suffix(":*") {
            Some(before) => (before, true),
            None => (rest, false),
        };
        if rest.contains('*') || scheme.contains('*') {
            return Err(format!(
                "`{text}` has a `*` where it means nothing: it can stand for the labels before a host, as in https://*.example.org, for the port, as in http://localhost:*, or alone for all origins"
            ));
        }
        let url = Url::parse(&format!("{scheme}://{rest}"))
            .map_err(|error| format!("`{text}` is no origin ({error}); {EXAMPLE}"))?;
        let is_bare = matches!(url.path(), "" | "/")
            && !rest.ends_with("//")
            && !rest.contains(['?', '#', '@', '\\']);
        if !is_bare {
            return Err(format!(
                "`{text}` has more than an origin, which is scheme, host and port alone; {EXAMPLE}"
            ));
        }
        let origin = Origin::of(&url).ok_or_else(|| format!("`{text}` has no host; {EXAMPLE}"))?;
        if is_below && !matches!(url.host(), Some(Host::Domain(_))) {
            return Err(format!(
                "`{text}` is for hosts below an address, and there are none; {EXAMPLE}"
            ));
        }
        Ok(AllowedOrigin(Pattern::Of {
            scheme: origin.scheme,
            is_below,
            host: origin.host,
            port: if is_any_port {
                Port::Any
            } else {
                Port::Is(origin.port)
            },
        }))
    }
}

/// As a source of the `Content-Security-Policy`, whose patterns mean the same.
impl fmt::Display for AllowedOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Pattern::Of {
            scheme,
            is_below,
            host,
            port,
        } = &self.0
        else {
            return f.write_str("*");
        };
        let below = if *is_below { "*." } else { "" };
        write!(f, "{scheme}://{below}{host}")?;
        match (port, scheme.as_str()) {
            (Port::Any, _) => f.write_str(":*"),
            (Port::Is(None), _) | (Port::Is(Some(443)), "https") | (Port::Is(Some(80)), "http") => {
                Ok(())
            }
            (Port::Is(Some(port)), _) => write!(f, ":{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_listed_is_normalised() {
        for (text, shown) in [
            ("*", "*"),
            (" https://a.example ", "https://a.example"),
            ("https://b.example/", "https://b.example"),
            ("HTTPS://B.Example", "https://b.example"),
            ("https://b.example:443", "https://b.example"),
            ("http://b.example:80/", "http://b.example"),
            ("http://b.example:443", "http://b.example:443"),
            ("https://사랑방.한국", "https://xn--9i2b40g7se.xn--3e0b707e"),
            ("http://[::1]:8080", "http://[::1]:8080"),
            ("http://[0:0::1]", "http://[::1]"),
            ("http://127.0.0.1:3000", "http://127.0.0.1:3000"),
            ("https://*.Example.org/", "https://*.example.org"),
            ("https://*.example.org:8443", "https://*.example.org:8443"),
            ("http://localhost:*", "http://localhost:*"),
            ("https://*.example.org:*/", "https://*.example.org:*"),
            ("capacitor://localhost", "capacitor://localhost"),
            ("chrome-extension://abcdef/", "chrome-extension://abcdef"),
        ] {
            let allowed: AllowedOrigin = text.parse().unwrap();
            assert_eq!(allowed.to_string(), shown, "{text}");
        }
    }

    #[test]
    fn what_can_never_match_is_refused_in_a_sentence() {
        for (text, why) in [
            ("", "no scheme"),
            ("shop.example", "no scheme"),
            ("localhost:3000", "no scheme"),
            ("*.example.org", "no scheme"),
            ("//shop.example", "no scheme"),
            ("null", "cannot be listed"),
            ("ftp://shop.example", "never `ftp:`"),
            ("wss://shop.example", "never `wss:`"),
            ("file:///home/page.html", "never `file:`"),
            ("https://shop.example/chat", "more than an origin"),
            ("https://shop.example//", "more than an origin"),
            ("https://shop.example/?a", "more than an origin"),
            ("https://shop.example#a", "more than an origin"),
            ("https://me@shop.example", "more than an origin"),
            ("https://", "no origin"),
            ("https://:443", "no origin"),
            ("https://shop.example:port", "no origin"),
            ("https://shop.example:65536", "no origin"),
            ("https://a.example https://b.example", "commas"),
            ("https://*", "`*` where"),
            ("https://shop.*", "`*` where"),
            ("https://*shop.example", "`*` where"),
            ("https://a.*.example", "`*` where"),
            ("https://*.*.example", "`*` where"),
            ("*://shop.example", "`*` where"),
            ("https://*.192.0.2.1", "below an address"),
            ("https://*.[::1]", "below an address"),
        ] {
            let words = text.parse::<AllowedOrigin>().unwrap_err();
            assert!(words.contains(why), "{text}: {words}");
        }
    }

    #[test]
    fn patterns_match_whole_labels() {
        for (pattern, origin, expected) in [
            ("https://*.example.org", "https://a.example.org", true),
            ("https://*.example.org", "https://a.b.example.org", true),
            ("https://*.example.org", "https://A.EXAMPLE.org:443", true),
            ("https://*.example.org", "https://example.org", false),
            ("https://*.example.org", "https://evilexample.org", false),
            ("https://*.example.org", "https://.example.org", false),
            ("https://*.example.org", "http://a.example.org", false),
            ("https://*.example.org", "https://a.example.org:8443", false),
            (
                "https://*.example.org",
                "https://a.example.org.evil.example",
                false,
            ),
            (
                "https://*.example.org:8443",
                "https://a.example.org:8443",
                true,
            ),
            ("https://*.example.org:8443", "https://a.example.org", false),
            (
                "https://*.example.org:*",
                "https://a.example.org:8443",
                true,
            ),
            (
                "https://*.한국",
                "https://xn--9i2b40g7se.xn--3e0b707e",
                true,
            ),
            ("http://localhost:*", "http://localhost:3000", true),
            ("http://localhost:*", "http://localhost", true),
            ("http://localhost:*", "https://localhost:3000", false),
            ("http://localhost", "http://localhost:3000", false),
            ("http://[::1]", "http://[::1]:80", true),
            ("capacitor://localhost", "capacitor://localhost", true),
            ("capacitor://localhost", "ionic://localhost", false),
            ("https://shop.example", "https://shop.example/page", false),
            ("https://shop.example", "null", false),
            ("https://shop.example", "", false),
        ] {
            let allowed: AllowedOrigin = pattern.parse().unwrap();
            let found = Origin::parse(origin).is_some_and(|origin| allowed.matches(&origin));
            assert_eq!(found, expected, "{pattern} {origin}");
        }
    }
}
