//! Who asks, and whether their origin may: address, host and scheme of a request, also through the
//! proxies that we trust (contract, sections 2 and 4).
//!
//! `Forwarded` (RFC 7239) is not read: proxies that write `X-Forwarded-*` pass it on as the client wrote
//! it, so that whoever asks could choose an address.

mod allowed;
mod hosts;
mod refused;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Instant;

use axum::extract::ConnectInfo;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, header};
use ipnet::IpNet;
use url::Url;

pub use self::allowed::AllowedOrigin;
use self::allowed::Origin;
pub use self::hosts::AllowedHost;
pub(crate) use self::hosts::{Hosts, settle};
use self::refused::Refused;

/// Who asks, as far as it can be believed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Caller {
    /// The address that limits are counted by; IPv6 is cut to its /64.
    pub(crate) address: IpAddr,
    /// Whether the browser came by https.
    pub(crate) is_secure: bool,
    /// Whether it is a trusted proxy's connection.
    pub(crate) is_forwarded: bool,
    /// Host and port that the browser asked for, as they came.
    host: String,
    /// The port that a trusted proxy says the browser asked for.
    forwarded_port: Option<u16>,
    /// A peer that forwards, and is not trusted.
    stranger: Option<IpAddr>,
}

impl Caller {
    /// Reads it from a request. Forwarded headers count only when the TCP peer is trusted.
    pub(crate) fn of(parts: &Parts, trusted: &[IpNet]) -> Self {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        let peer = peer.map_or(Ipv4Addr::UNSPECIFIED.into(), |peer| {
            peer.0.ip().to_canonical()
        });
        let headers = &parts.headers;
        let is_trusted = |address: IpAddr| is_trusted(address, trusted);
        let forwarded = |name: &'static str| {
            let newest = entries(headers, name).last();
            newest.filter(|_| is_trusted(peer))
        };
        let host = headers
            .get(header::HOST)
            .and_then(|host| host.to_str().ok());
        let forwards = FORWARDED.iter().any(|name| headers.contains_key(*name));
        Caller {
            address: counted_as(client_address(peer, headers, is_trusted)),
            is_secure: forwarded("x-forwarded-proto") == Some("https"),
            is_forwarded: is_trusted(peer),
            host: forwarded("x-forwarded-host")
                .or(host)
                .unwrap_or_default()
                .to_owned(),
            forwarded_port: forwarded("x-forwarded-port").and_then(|port| port.parse().ok()),
            stranger: (forwards && !is_trusted(peer)).then_some(peer),
        }
    }

    /// Whether an origin is the server's own, whatever the scheme, as TLS may end in front of us.
    ///
    /// A proxy's port counts beside that of the host, not for it: behind two proxies it may be the
    /// port between them.
    fn is_own(&self, origin: &Origin) -> bool {
        let default = match origin.scheme.as_str() {
            "http" => Some(80),
            "https" => Some(443),
            _ => return false,
        };
        let own = allowed::host_and_port(&self.host);
        own.is_some_and(|(host, port)| {
            let is_port = port.or(default) == origin.port
                || (self.forwarded_port.is_some() && self.forwarded_port == origin.port);
            host == origin.host && is_port
        })
    }
}

/// What proxies write.
const FORWARDED: [&str; 4] = [
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
];

/// Whose pages may connect: the server's own, and those of the list.
#[derive(Debug)]
pub(crate) struct Origins {
    allowed: Vec<AllowedOrigin>,
    refused: Refused,
}

/// What a page of another origin asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Access {
    /// What browsers keep from pages that may not read it.
    Usual,
    /// A frame, which no link leads to and which brings no `Origin`.
    Frame,
    /// A script, as jsonp is, which any page can load: only where all may.
    Script,
}

impl Origins {
    pub(crate) fn new(allowed: Vec<AllowedOrigin>) -> Self {
        Origins {
            allowed,
            refused: Refused::default(),
        }
    }

    /// Whether a request's origin may connect; whoever is no browser may. A refusal is told to the
    /// operator.
    pub(crate) fn admit(&self, caller: &Caller, headers: &HeaderMap, access: Access) -> bool {
        let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let origin = match headers.get(header::ORIGIN) {
            Some(origin) => origin.to_str().unwrap_or_default().to_owned(),
            None if !Self::is_referer_judged(headers, access) => {
                return access != Access::Script || self.are_all_allowed();
            }
            None => text(header::REFERER)
                .and_then(|page| Url::parse(page).ok())
                .map(|page| page.origin().ascii_serialization())
                .unwrap_or_default(),
        };
        let may = self.allows(caller, &origin, access);
        if !may {
            self.tell(caller, &origin, access);
        }
        may
    }

    /// Whether a request without an `Origin` is its page's to answer for: where the browser says that it is
    /// of another site or host. Over plain http it does not say, and a frame's `Referer` counts if there is one.
    fn is_referer_judged(headers: &HeaderMap, access: Access) -> bool {
        match headers.get("sec-fetch-site") {
            // A page of the same site may be of another host.
            Some(site) => site == "cross-site" || site == "same-site",
            None => access == Access::Frame && headers.contains_key(header::REFERER),
        }
    }

    fn allows(&self, caller: &Caller, origin: &str, access: Access) -> bool {
        if self.are_all_allowed() {
            // Of another site's page without even a `Referer` nothing is known.
            return !origin.is_empty();
        }
        Origin::parse(origin).is_some_and(|origin| {
            let is_listed = || self.allowed.iter().any(|allowed| allowed.matches(&origin));
            access != Access::Script && (caller.is_own(&origin) || is_listed())
        })
    }

    /// Tells the operator of a refusal, once a minute for each origin.
    fn tell(&self, caller: &Caller, origin: &str, access: Access) {
        // It comes from a stranger: as much of it as an origin can be long.
        let origin: String = origin.chars().take(300).collect();
        if !self.refused.is_due(&origin, Instant::now()) {
            return;
        }
        let host = &caller.host;
        let shown = if origin.is_empty() {
            "an unnamed origin"
        } else {
            &origin
        };
        let list = match access {
            Access::Usual | Access::Frame => "list it in --allowed-origins",
            Access::Script => "to let it use jsonp, --allowed-origins must be `*`",
        };
        let proxy = match caller.stranger {
            Some(peer) => format!(
                "; if {peer}, which sends X-Forwarded-*, is your proxy, name it in --trusted-proxies"
            ),
            None => "; if a proxy in front changes the host, let it pass `Host` on".to_owned(),
        };
        tracing::warn!(
            "pages of {shown} may not connect: the host asked for is `{host}`; {list}{proxy}"
        );
    }

    /// Whether pages of any origin but the server's own may connect.
    pub(crate) fn has_foreign(&self) -> bool {
        !self.allowed.is_empty()
    }

    fn are_all_allowed(&self) -> bool {
        self.allowed.iter().any(AllowedOrigin::is_all)
    }

    /// The list as sources of a `Content-Security-Policy`.
    pub(crate) fn sources(&self) -> String {
        if self.are_all_allowed() {
            return "*".to_owned();
        }
        let mut sources = "'self'".to_owned();
        for allowed in &self.allowed {
            sources.push_str(&format!(" {allowed}"));
        }
        sources
    }
}

/// The rightmost address of `X-Forwarded-For` that is not trusted, when the peer is.
fn client_address(
    peer: IpAddr,
    headers: &HeaderMap,
    is_trusted: impl Fn(IpAddr) -> bool,
) -> IpAddr {
    let mut address = peer;
    let entries: Vec<_> = entries(headers, "x-forwarded-for").collect();
    for entry in entries.iter().rev() {
        if !is_trusted(address) {
            break;
        }
        match address_of(entry) {
            Some(before) => address = before.to_canonical(),
            None => break,
        }
    }
    address
}

/// An address as proxies write it: bare, in brackets, or with a port.
fn address_of(entry: &str) -> Option<IpAddr> {
    let bare = || entry.trim_matches(['[', ']']).parse().ok();
    let with_port = || entry.parse::<SocketAddr>().ok().map(|address| address.ip());
    bare().or_else(with_port)
}

fn entries<'a>(headers: &'a HeaderMap, name: &'static str) -> impl Iterator<Item = &'a str> {
    let values = headers
        .get_all(name)
        .into_iter()
        .filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|entry| !entry.is_empty())
}

/// Whether an address is one of these proxies.
pub(crate) fn is_trusted(address: IpAddr, trusted: &[IpNet]) -> bool {
    let address = address.to_canonical();
    trusted.iter().any(|network| network.contains(&address))
}

/// IPv6 addresses count by /64 (contract, section 4).
pub(crate) fn counted_as(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) >> 64 << 64).into()),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    fn parts(peer: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::new(());
        let peer = SocketAddr::new(peer.parse().unwrap(), 4711);
        request.extensions_mut().insert(ConnectInfo(peer));
        for (name, value) in headers {
            let name: HeaderName = name.parse().unwrap();
            request.headers_mut().append(name, value.parse().unwrap());
        }
        request.into_parts().0
    }

    #[test]
    fn origins_are_judged_as_the_contract_says() {
        const NONE: &[&str] = &[];
        const SHOP: &[&str] = &["https://shop.example"];
        const ALL: &[&str] = &["*"];
        let chat = ("host", "chat.example");
        let with_port = ("host", "chat.example:8080");
        let cross = ("sec-fetch-site", "cross-site");
        let same_site = ("sec-fetch-site", "same-site");
        let same_origin = ("sec-fetch-site", "same-origin");
        let cases: &[(&[(&str, &str)], &[&str], bool)] = &[
            (&[chat], NONE, true),
            (&[chat, ("origin", "https://chat.example")], NONE, true),
            (&[chat, ("origin", "http://chat.example:80")], NONE, true),
            (&[chat, ("origin", "http://CHAT.example")], NONE, true),
            (
                &[with_port, ("origin", "http://chat.example:8080")],
                NONE,
                true,
            ),
            (&[with_port, ("origin", "http://chat.example")], NONE, false),
            (&[chat, ("origin", "ftp://chat.example")], NONE, false),
            (&[chat, ("origin", "https://evil.example")], NONE, false),
            (&[chat, ("origin", "null")], NONE, false),
            (&[chat, ("origin", "null")], ALL, true),
            (&[chat, ("origin", "https://shop.example:443")], SHOP, true),
            (&[chat, ("origin", "http://shop.example")], SHOP, false),
            (&[chat, cross], NONE, false),
            (&[chat, cross], ALL, false),
            (
                &[chat, cross, ("referer", "https://shop.example/page")],
                SHOP,
                true,
            ),
            (
                &[chat, cross, ("referer", "https://evil.example/page")],
                SHOP,
                false,
            ),
            (&[("origin", "http://")], NONE, false),
            (&[chat, same_origin], NONE, true),
            (&[chat, ("sec-fetch-site", "none")], NONE, true),
            (&[chat, same_site], NONE, false),
            (
                &[chat, same_site, ("referer", "https://blog.example/")],
                NONE,
                false,
            ),
            (
                &[chat, same_site, ("referer", "https://chat.example/")],
                NONE,
                true,
            ),
            (
                &[chat, same_site, ("referer", "https://shop.example/")],
                SHOP,
                true,
            ),
            (
                &[chat, same_origin, ("origin", "https://evil.example")],
                NONE,
                false,
            ),
        ];
        for (headers, allowed, expected) in cases {
            let parts = parts("203.0.113.9", headers);
            let caller = Caller::of(&parts, &[]);
            let origins = origins(allowed);
            let may = |access| origins.admit(&caller, &parts.headers, access);
            assert_eq!(may(Access::Usual), *expected, "{headers:?}");
            // A script is for where all may.
            let expected = *expected && *allowed == ALL;
            assert_eq!(may(Access::Script), expected, "{headers:?}");
        }
    }

    fn origins(allowed: &[&str]) -> Origins {
        Origins::new(allowed.iter().map(|text| text.parse().unwrap()).collect())
    }

    #[test]
    fn the_port_of_a_trusted_proxy_counts() {
        let trusted: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap()];
        let host = ("host", "chat.example");
        let port = ("x-forwarded-port", "8443");
        let forwarded_host = ("x-forwarded-host", "talk.example");
        for (peer, headers, origin, expected) in [
            (
                "10.0.0.1",
                &[host, port][..],
                "https://chat.example:8443",
                true,
            ),
            ("10.0.0.1", &[host, port], "https://chat.example", true),
            (
                "10.0.0.1",
                &[host, port],
                "https://chat.example:9443",
                false,
            ),
            (
                "10.0.0.1",
                &[host, port],
                "https://evil.example:8443",
                false,
            ),
            (
                "203.0.113.9",
                &[host, port],
                "https://chat.example:8443",
                false,
            ),
            (
                "10.0.0.1",
                &[host, port, forwarded_host],
                "https://talk.example:8443",
                true,
            ),
            (
                "10.0.0.1",
                &[host, port, forwarded_host],
                "https://chat.example:8443",
                false,
            ),
            (
                "10.0.0.1",
                &[host, ("x-forwarded-port", "x")],
                "https://chat.example",
                true,
            ),
            (
                "10.0.0.1",
                &[host, ("x-forwarded-port", "")],
                "https://chat.example",
                true,
            ),
            (
                "10.0.0.1",
                &[host, ("x-forwarded-port", "80, 8443")],
                "https://chat.example:8443",
                true,
            ),
        ] {
            let caller = Caller::of(&parts(peer, headers), &trusted);
            let is_own = origins(&[]).allows(&caller, origin, Access::Usual);
            assert_eq!(is_own, expected, "{peer} {headers:?} {origin}");
        }
    }

    #[test]
    fn own_hosts_are_compared_in_one_form() {
        for (host, origin, expected) in [
            ("CHAT.example", "https://chat.EXAMPLE", true),
            ("[::1]:8080", "http://[::1]:8080", true),
            ("[0:0::1]", "http://[::1]", true),
            ("127.0.0.1:8080", "http://127.0.0.1:8080", true),
            ("xn--9i2b40g7se.example", "https://사랑방.example", true),
            ("chat.example:443", "https://chat.example", true),
            ("chat.example:80", "https://chat.example", false),
            ("", "https://chat.example", false),
            ("chat.example/", "https://chat.example", false),
            ("a b", "https://a", false),
        ] {
            let caller = Caller::of(&parts("203.0.113.9", &[("host", host)]), &[]);
            let is_own = origins(&[]).allows(&caller, origin, Access::Usual);
            assert_eq!(is_own, expected, "{host} {origin}");
        }
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        let trusted: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
        let forwarded = |value| [("x-forwarded-for", value)];
        for (peer, headers, expected) in [
            ("203.0.113.9", forwarded("192.0.2.1"), "203.0.113.9"),
            ("10.0.0.1", forwarded("192.0.2.1"), "192.0.2.1"),
            ("::ffff:10.0.0.1", forwarded("192.0.2.1"), "192.0.2.1"),
            (
                "10.0.0.1",
                forwarded("198.51.100.7, 192.0.2.1, 10.0.0.2"),
                "192.0.2.1",
            ),
            ("10.0.0.1", forwarded("10.0.0.3"), "10.0.0.3"),
            ("10.0.0.1", forwarded("192.0.2.1:5000"), "192.0.2.1"),
            ("10.0.0.1", forwarded("192.0.2.1, unknown"), "10.0.0.1"),
            ("10.0.0.1", forwarded(""), "10.0.0.1"),
            ("::1", forwarded("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::"),
            (
                "::1",
                forwarded("[2001:db8:1:2:3:4:5:6]:443"),
                "2001:db8:1:2::",
            ),
        ] {
            let caller = Caller::of(&parts(peer, &headers), &trusted);
            assert_eq!(
                caller.address,
                expected.parse::<IpAddr>().unwrap(),
                "{peer} {headers:?}"
            );
        }
        let headers = [
            ("host", "inner:8080"),
            ("x-forwarded-host", "chat.example"),
            ("x-forwarded-proto", "https"),
        ];
        for (peer, is_secure, own) in [
            ("10.0.0.1", true, "https://chat.example"),
            ("203.0.113.9", false, "http://inner:8080"),
        ] {
            let caller = Caller::of(&parts(peer, &headers), &trusted);
            assert_eq!(caller.is_secure, is_secure);
            let allows = |origin| origins(&[]).allows(&caller, origin, Access::Usual);
            assert!(allows(own));
            assert!(!allows("https://other.example"));
            assert_eq!(caller.stranger.is_none(), is_secure);
        }
    }
}
