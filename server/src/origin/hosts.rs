//! The hosts that the server answers to: a name that somebody else has pointed at it gets nothing, as
//! the pages under that name would count as its own (DNS rebinding).

use std::str::FromStr;
use std::time::Instant;

use axum::body::Body;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode, Version, header};
use url::Host;

use super::Caller;
use super::allowed::AllowedOrigin;
use super::refused::Refused;
use crate::problem::Problem;

/// A host to answer to, as `--hosts` lists them: all of them, one, or those below another.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AllowedHost(Pattern);

#[derive(Clone, Debug, Eq, PartialEq)]
enum Pattern {
    All,
    Is(Host),
    /// The hosts below this one, of one label more or many.
    Below(String),
}

impl AllowedHost {
    /// The hosts of an origin that may connect, and whose pages may have the server beside them.
    fn of(origin: &AllowedOrigin) -> Option<Self> {
        let Some((host, is_below)) = origin.host() else {
            // Where every page may connect, there is nothing that a name would add.
            return Some(AllowedHost(Pattern::All));
        };
        let host = Host::parse(without_dot(host)).ok()?;
        Some(AllowedHost(if is_below {
            Pattern::Below(host.to_string())
        } else {
            Pattern::Is(host)
        }))
    }

    fn matches(&self, host: &Host) -> bool {
        match &self.0 {
            Pattern::All => true,
            Pattern::Is(known) => known == host,
            Pattern::Below(known) => is_below(host, known),
        }
    }
}

/// Whether a host is a name below another.
fn is_below(host: &Host, other: &str) -> bool {
    let Host::Domain(name) = host else {
        return false;
    };
    let labels = name.strip_suffix(other);
    labels
        .and_then(|labels| labels.strip_suffix('.'))
        .is_some_and(|labels| !labels.is_empty())
}

impl FromStr for AllowedHost {
    type Err = String;

    /// # Errors
    /// A sentence on what can never match any host.
    fn from_str(text: &str) -> Result<Self, String> {
        const EXAMPLE: &str =
            "give one such as chat.example.org or *.example.org, without scheme, port and path";
        let text = text.trim();
        if text == "*" {
            return Ok(AllowedHost(Pattern::All));
        }
        let (name, is_below) = match text.strip_prefix("*.") {
            Some(name) => (name, true),
            None => (text, false),
        };
        let host = (!name.contains('*'))
            .then(|| Host::parse(without_dot(name)).ok())
            .flatten()
            .ok_or_else(|| format!("`{text}` is no host; {EXAMPLE}"))?;
        match (host, is_below) {
            (host, false) => Ok(AllowedHost(Pattern::Is(host))),
            (Host::Domain(name), true) => Ok(AllowedHost(Pattern::Below(name))),
            _ => Err(format!(
                "`{text}` is for hosts below an address, and there are none; {EXAMPLE}"
            )),
        }
    }
}

/// Reads a `Host`, without its port.
fn host_of(text: &str) -> Option<Host> {
    let authority: Authority = text.parse().ok().filter(|_| !text.contains('@'))?;
    let port = &authority.as_str()[authority.host().len()..];
    let is_port = |port: &str| port.is_empty() || port.parse::<u16>().is_ok();
    if !port.is_empty() && !port.strip_prefix(':').is_some_and(is_port) {
        return None;
    }
    Host::parse(without_dot(authority.host())).ok()
}

/// A name with a dot at its end is the same one.
fn without_dot(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

/// Sees to it that a request names one host, and that it stands in `Host` (RFC 9112, 3.2): where the
/// target names one, that one counts.
///
/// # Errors
/// 400 where there is none, more than one, or one that is none.
pub(crate) fn settle(request: &mut Request<Body>) -> Result<(), Problem> {
    let is_of_1_1 = request.version() >= Version::HTTP_11;
    check(request.headers(), is_of_1_1)
        .map_err(|detail| Problem::new(StatusCode::BAD_REQUEST, detail))?;
    let named = request.uri().scheme().and(request.uri().authority());
    if let Some(authority) = named {
        let authority = authority.as_str();
        let host = authority
            .rsplit_once('@')
            .map_or(authority, |(_, host)| host);
        let value = HeaderValue::from_str(host).ok();
        let Some(value) = value.filter(|_| host_of(host).is_some()) else {
            return Err(Problem::new(
                StatusCode::BAD_REQUEST,
                "the target names no host",
            ));
        };
        request.headers_mut().insert(header::HOST, value);
    }
    Ok(())
}

fn check(headers: &HeaderMap, is_needed: bool) -> Result<(), &'static str> {
    let mut hosts = headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (_, Some(_)) => Err("there is more than one `Host`; send one"),
        (None, None) if is_needed => Err("`Host` is missing; send the one that is asked for"),
        (Some(host), None) if host.to_str().ok().and_then(host_of).is_none() => {
            Err("`Host` is no host and port")
        }
        _ => Ok(()),
    }
}

/// The hosts to answer to: those that are listed, any address, `localhost` and what is below it.
#[derive(Debug)]
pub(crate) struct Hosts {
    allowed: Vec<AllowedHost>,
    refused: Refused,
}

impl Hosts {
    /// `hosts` are listed themselves, `origins` may connect.
    pub(crate) fn new<'a>(
        hosts: impl Iterator<Item = &'a AllowedHost>,
        origins: impl Iterator<Item = &'a AllowedOrigin>,
    ) -> Self {
        Hosts {
            allowed: hosts
                .cloned()
                .chain(origins.filter_map(AllowedHost::of))
                .collect(),
            refused: Refused::default(),
        }
    }

    /// Lets in a request for one of them. A refusal is told to the operator, once a minute for each host.
    ///
    /// # Errors
    /// 421 for others.
    pub(crate) fn admit(&self, caller: &Caller) -> Result<(), Problem> {
        let host = &caller.host;
        // HTTP/1.0 asks without; no browser speaks it.
        if host.is_empty() || host_of(host).is_some_and(|host| self.has(&host)) {
            return Ok(());
        }
        self.tell(caller);
        let detail = format!(
            "this server does not answer to the host `{host}`; whoever runs it can name that in --hosts"
        );
        Err(Problem::new(StatusCode::MISDIRECTED_REQUEST, detail))
    }

    fn has(&self, host: &Host) -> bool {
        let is_here = match host {
            Host::Domain(name) => name == "localhost" || is_below(host, "localhost"),
            Host::Ipv4(_) | Host::Ipv6(_) => true,
        };
        is_here || self.allowed.iter().any(|allowed| allowed.matches(host))
    }

    fn tell(&self, caller: &Caller) {
        // It comes from a stranger: as much of it as a name can be long.
        let host: String = caller.host.chars().take(300).collect();
        if !self.refused.is_due(&host, Instant::now()) {
            return;
        }
        let name = host_of(&host).map_or_else(|| host.clone(), |host| host.to_string());
        let proxy = match caller.stranger {
            Some(peer) => format!(
                "; if {peer}, which sends X-Forwarded-*, is your proxy, name it in --trusted-proxies"
            ),
            None => String::new(),
        };
        tracing::warn!(
            "a request for the host `{host}` was refused with 421, as this server does not answer to that \
             name; if it is yours, start it with --hosts {name}{proxy}"
        );
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn hosts(hosts: &[&str], origins: &[&str]) -> Hosts {
        let hosts: Vec<AllowedHost> = hosts.iter().map(|text| text.parse().unwrap()).collect();
        let origins: Vec<AllowedOrigin> =
            origins.iter().map(|text| text.parse().unwrap()).collect();
        Hosts::new(hosts.iter(), origins.iter())
    }

    fn caller(host: &str) -> Caller {
        Caller {
            address: IpAddr::from([192, 0, 2, 1]),
            is_secure: false,
            is_forwarded: false,
            host: host.to_owned(),
            forwarded_port: None,
            stranger: None,
        }
    }

    #[test]
    fn hosts_are_answered_to_as_they_are_listed() {
        const NONE: &[&str] = &[];
        for (listed, origins, host, expected) in [
            (NONE, NONE, "127.0.0.1:8080", true),
            (NONE, NONE, "192.168.7.9", true),
            (NONE, NONE, "[::1]:8080", true),
            (NONE, NONE, "[2001:db8::1]", true),
            (NONE, NONE, "localhost:8080", true),
            (NONE, NONE, "LOCALHOST", true),
            (NONE, NONE, "chat.localhost:8080", true),
            (NONE, NONE, "localhost.:80", true),
            (NONE, NONE, "", true),
            (NONE, NONE, "chat.example.org", false),
            (NONE, NONE, "notlocalhost", false),
            (NONE, NONE, "localhost.evil.example", false),
            (NONE, NONE, "127.0.0.1.evil.example", false),
            (NONE, NONE, "me@localhost", false),
            (NONE, NONE, "local host", false),
            (&["chat.example.org"], NONE, "chat.example.org", true),
            (&["chat.example.org"], NONE, "CHAT.Example.Org.:8443", true),
            (&["chat.example.org"], NONE, "a.chat.example.org", false),
            (&["chat.example.org"], NONE, "localhost", true),
            (&["chat.example.org."], NONE, "chat.example.org", true),
            (&["*.example.org"], NONE, "a.b.example.org:1", true),
            (&["*.example.org"], NONE, "example.org", false),
            (&["*.example.org"], NONE, "evilexample.org", false),
            (&["사랑방.한국"], NONE, "xn--9i2b40g7se.xn--3e0b707e", true),
            (&["*"], NONE, "anything.example", true),
            (NONE, &["https://shop.example:8443"], "shop.example", true),
            (NONE, &["https://shop.example."], "shop.example", true),
            (
                NONE,
                &["https://*.shop.example."],
                "www.shop.example.",
                true,
            ),
            (NONE, &["https://shop.example"], "www.shop.example", false),
            (NONE, &["https://*.shop.example"], "www.shop.example", true),
            (NONE, &["https://*.shop.example"], "shop.example", false),
            (NONE, &["https://shop.example"], "evil.example", false),
            (NONE, &["*"], "anything.example", true),
        ] {
            let found = hosts(listed, origins).admit(&caller(host));
            assert_eq!(found.is_ok(), expected, "{listed:?} {origins:?} {host}");
        }
    }

    #[test]
    fn what_can_never_match_is_refused_in_a_sentence() {
        for text in [
            "",
            "https://chat.example.org",
            "chat.example.org:8443",
            "chat.example.org/chat",
            "*example.org",
            "a.*.example.org",
            "chat example",
            "*.192.0.2.1",
            "*.",
        ] {
            let words = text.parse::<AllowedHost>().unwrap_err();
            assert!(words.contains("chat.example.org"), "{text}: {words}");
        }
    }

    #[test]
    fn a_request_names_one_host() {
        let settle = |target: &str, hosts: &[&str], version| {
            let mut request = Request::new(Body::empty());
            *request.uri_mut() = target.parse().unwrap();
            *request.version_mut() = version;
            for host in hosts {
                let host = host.parse().unwrap();
                request.headers_mut().append(header::HOST, host);
            }
            super::settle(&mut request).ok()?;
            let host = request.headers().get(header::HOST);
            Some(host.map(|host| host.to_str().unwrap().to_owned()))
        };
        const NEW: Version = Version::HTTP_11;
        let is = |host: &str| Some(Some(host.to_owned()));
        assert_eq!(settle("/", &["a.example:80"], NEW), is("a.example:80"));
        assert_eq!(settle("/", &["a_b"], NEW), is("a_b"));
        assert_eq!(settle("/", &[], NEW), None);
        assert_eq!(settle("/", &[], Version::HTTP_10), Some(None));
        assert_eq!(settle("/", &["a", "a"], NEW), None);
        assert_eq!(settle("/", &["a", "b"], Version::HTTP_10), None);
        for broken in ["", "a b", "a/b", "me@a", "a, b", "[::1", "a:b"] {
            assert_eq!(settle("/", &[broken], NEW), None, "{broken}");
        }
        // The target counts, whatever stands in `Host`.
        assert_eq!(
            settle("http://b.example:1/x", &["a"], NEW),
            is("b.example:1")
        );
        assert_eq!(
            settle("http://me@b.example/x", &["a"], NEW),
            is("b.example")
        );
        assert_eq!(settle("http://b.example/x", &["a", "b"], NEW), None);
        assert_eq!(settle("http://b.example/x", &[], NEW), None);
    }
}
