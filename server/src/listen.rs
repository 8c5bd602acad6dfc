//! The addresses to listen on.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::str::FromStr;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

use crate::StartError;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1_024;

/// A host and a port to listen on: an IP address, or a name that stands for some.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ListenAddress {
    host: String,
    port: u16,
}

impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (host, port) = text.rsplit_once(':').unwrap_or((text, ""));
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        let example = "give host and port, such as 127.0.0.1:8080, [::]:8080 or localhost:8080";
        if bare.is_none() && (host.contains(':') || text.ends_with(']')) {
            return Err(format!(
                "`{text}` is an IPv6 address with no brackets or no port; {example}"
            ));
        }
        let port = port.parse().ok();
        match (bare.unwrap_or(host), port) {
            ("", _) => Err(format!("`{text}` has no host; {example}")),
            (_, None) => Err(format!("`{text}` has no port of 0 to 65535; {example}")),
            (host, _) if host.contains(|c: char| c.is_whitespace() || "/*@".contains(c)) => {
                Err(format!("`{host}` is no host; {example}"))
            }
            (host, Some(port)) => Ok(ListenAddress {
                host: host.to_owned(),
                port,
            }),
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Listens on all that these stand for, each address once.
///
/// # Errors
/// [`StartError`] says which of them cannot be had, and what to do.
pub async fn listen(
    wanted: impl IntoIterator<Item = &ListenAddress>,
) -> Result<Vec<TcpListener>, StartError> {
    let mut all: Vec<SocketAddr> = Vec::new();
    let mut groups = Vec::new();
    for listen in wanted {
        let found = tokio::net::lookup_host((listen.host.as_str(), listen.port));
        let begin = all.len();
        for address in found.await.map_err(|error| cannot(listen, &error))? {
            if !all.contains(&address) {
                all.push(address);
            }
        }
        groups.push((listen, begin..all.len()));
    }
    let mut listeners = Vec::new();
    for (listen, range) in groups {
        let addresses = &all[range];
        let mut missing = None;
        let before = listeners.len();
        for &address in addresses {
            // An IPv6 socket for all addresses takes those of IPv4 too, which then are not free.
            let has_v4 = |other: &SocketAddr| other.is_ipv4() && other.port() == address.port();
            match open(address, all.iter().any(has_v4)) {
                Ok(listener) => listeners.push(listener),
                // A name may stand for an address of an IP version that this machine has not.
                Err(error) if addresses.len() > 1 && is_absent(&error) => {
                    tracing::warn!(%error, "`{listen}` stands for {address} too, which is not here");
                    missing = Some(error);
                }
                Err(error) => return Err(cannot(&address, &error)),
            }
        }
        if let Some(error) = missing.filter(|_| listeners.len() == before) {
            return Err(cannot(listen, &error));
        }
    }
    if listeners.is_empty() {
        return Err(StartError(
            "there is no address to listen on; give one with --listen".to_owned(),
        ));
    }
    Ok(listeners)
}

fn cannot(address: &dyn fmt::Display, error: &io::Error) -> StartError {
    StartError(format!(
        "cannot listen on {address}: {error}. Give another --listen"
    ))
}

/// Whether the machine has no such address, rather than somebody else having it.
fn is_absent(error: &io::Error) -> bool {
    !matches!(
        error.kind(),
        io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied
    )
}

fn open(address: SocketAddr, leaves_v4: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() && leaves_v4 {
        socket.set_only_v6(true)?;
    }
    // On Windows the same option would let another program take the port.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports_are_read() {
        for (text, shown) in [
            ("127.0.0.1:8080", Some("127.0.0.1:8080")),
            ("[::]:0", Some("[::]:0")),
            ("[::1]:8080", Some("[::1]:8080")),
            ("localhost:8080", Some("localhost:8080")),
            ("chat.example.org:80", Some("chat.example.org:80")),
            ("8080", None),
            (":8080", None),
            ("localhost", None),
            ("localhost:", None),
            ("localhost:http", None),
            ("localhost:65536", None),
            ("::1:8080", None),
            ("::", None),
            ("[::1]", None),
            ("[]:80", None),
            ("*:8080", None),
            ("http://localhost:8080", None),
            ("", None),
        ] {
            let read = text.parse::<ListenAddress>();
            match &read {
                Ok(address) => assert_eq!(Some(address.to_string().as_str()), shown),
                Err(words) => {
                    assert_eq!(shown, None, "{text}: {words}");
                    assert!(words.contains("127.0.0.1:8080"), "{words}");
                }
            }
        }
    }

    async fn addresses(wanted: &[&str]) -> Result<Vec<SocketAddr>, String> {
        let wanted: Vec<ListenAddress> = wanted.iter().map(|text| text.parse().unwrap()).collect();
        let listeners = listen(&wanted).await.map_err(|error| error.to_string())?;
        let addresses = listeners.iter().map(|one| one.local_addr().unwrap());
        Ok(addresses.collect())
    }

    fn has_v6() -> bool {
        std::net::TcpListener::bind("[::1]:0").is_ok()
    }

    #[tokio::test]
    async fn names_are_resolved_and_repeats_passed_over() {
        for wanted in [
            &["localhost:0"][..],
            &["localhost:0", "localhost:0"],
            &["127.0.0.1:0", "localhost:0"],
        ] {
            let found = addresses(wanted).await.unwrap();
            assert!(found.iter().all(|address| address.ip().is_loopback()));
            let v4 = found.iter().filter(|address| address.is_ipv4()).count();
            assert_eq!(v4, 1, "{wanted:?}: {found:?}");
        }
        let words = addresses(&["no-such-host.invalid:0"]).await.unwrap_err();
        assert!(words.contains("no-such-host.invalid:0") && words.contains("--listen"));
    }

    #[tokio::test]
    async fn what_somebody_else_has_is_an_error() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        for host in ["127.0.0.1", "localhost", "0.0.0.0"] {
            let words = addresses(&[&format!("{host}:{port}")]).await.unwrap_err();
            assert!(words.contains("cannot listen on"), "{words}");
        }
        assert!(addresses(&[]).await.is_err());
    }

    #[tokio::test]
    async fn both_ip_versions_share_a_port() {
        if !has_v6() {
            return;
        }
        let free = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let (v6, v4) = (format!("[::]:{port}"), format!("0.0.0.0:{port}"));
        for wanted in [[v6.as_str(), &v4], [&v4, &v6]] {
            assert_eq!(addresses(&wanted).await.unwrap().len(), 2);
        }
    }
}
