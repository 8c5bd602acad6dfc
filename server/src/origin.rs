//! Who asks, and whether their origin may: address, host and scheme of a request, also through the
//! proxies that we trust (contract, sections 2 and 4).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use axum::extract::ConnectInfo;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, header};
use ipnet::IpNet;

/// Who asks, as far as it can be believed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Caller {
    /// The address that limits are counted by; IPv6 is cut to its /64.
    pub(crate) address: IpAddr,
    /// Whether the browser came by https.
    pub(crate) is_secure: bool,
    /// Host and port that the browser asked for.
    host: String,
}

impl Caller {
    /// Reads it from a request. Forwarded headers count only when the TCP peer is trusted.
    pub(crate) fn of(parts: &Parts, trusted: &[IpNet]) -> Self {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        let peer = peer.map_or(Ipv4Addr::UNSPECIFIED.into(), |peer| {
            peer.0.ip().to_canonical()
        });
        let headers = &parts.headers;
        let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(&address));
        let forwarded = |name: &'static str| {
            let newest = entries(headers, name).last();
            newest.filter(|_| is_trusted(peer))
        };
        let host = headers
            .get(header::HOST)
            .and_then(|host| host.to_str().ok());
        Caller {
            address: counted_as(client_address(peer, headers, is_trusted)),
            is_secure: forwarded("x-forwarded-proto") == Some("https"),
            host: forwarded("x-forwarded-host")
                .or(host)
                .unwrap_or_default()
                .to_owned(),
        }
    }

    /// Whether the request's origin may connect: the server's own, whatever the scheme, as TLS may
    /// end in front of us; those of the list; and whoever is no browser.
    pub(crate) fn may_connect(&self, headers: &HeaderMap, allowed: &[String]) -> bool {
        let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let origin = match headers.get(header::ORIGIN) {
            Some(origin) => origin.to_str().ok(),
            None if text(HeaderName::from_static("sec-fetch-site")) != Some("cross-site") => {
                return true;
            }
            None => text(header::REFERER).and_then(origin_of),
        };
        origin.is_some_and(|origin| self.is_allowed(origin, allowed))
    }

    /// Whether pages of this origin may connect.
    pub(crate) fn is_allowed(&self, origin: &str, allowed: &[String]) -> bool {
        let is = |listed: &String| {
            listed == "*"
                || without_default_port(listed).eq_ignore_ascii_case(without_default_port(origin))
        };
        allowed.iter().any(is) || self.is_own(origin)
    }

    fn is_own(&self, origin: &str) -> bool {
        let Some((scheme @ ("http" | "https"), authority)) = origin.split_once("://") else {
            return false;
        };
        let port = if scheme == "https" { ":443" } else { ":80" };
        let bare = |authority: &str| {
            authority
                .strip_suffix(port)
                .unwrap_or(authority)
                .to_ascii_lowercase()
        };
        !self.host.is_empty() && bare(authority) == bare(&self.host)
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

/// IPv6 addresses count by /64 (contract, section 4).
fn counted_as(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) >> 64 << 64).into()),
        address => address,
    }
}

fn origin_of(url: &str) -> Option<&str> {
    let authority = url.find("://")? + 3;
    let end = url[authority..]
        .find('/')
        .map_or(url.len(), |slash| authority + slash);
    Some(&url[..end])
}

fn without_default_port(origin: &str) -> &str {
    let port = if origin.starts_with("https://") {
        ":443"
    } else {
        ":80"
    };
    origin.strip_suffix(port).unwrap_or(origin)
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
        ];
        for (headers, allowed, expected) in cases {
            let allowed: Vec<_> = allowed.iter().map(|origin| (*origin).to_owned()).collect();
            let parts = parts("203.0.113.9", headers);
            let caller = Caller::of(&parts, &[]);
            assert_eq!(
                caller.may_connect(&parts.headers, &allowed),
                *expected,
                "{headers:?}"
            );
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
            assert!(caller.is_allowed(own, &[]));
            assert!(!caller.is_allowed("https://other.example", &[]));
        }
    }
}
