//! From the listener to a served connection: how many there may be, and what happens where the system
//! has no descriptor left for one more.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::extract::ConnectInfo;
use hyper_util::service::TowerToHyperService;
use ipnet::IpNet;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tower::ServiceExt as _;

use crate::admission::{Full, Quota, Share};
use crate::keep_alive::Waits;
use crate::log::tail::lock;
use crate::metrics::{Limit, meters};
use crate::origin::{counted_as, is_trusted};

/// What an accepted connection goes by.
#[derive(Clone)]
pub(crate) struct Door {
    app: axum::Router,
    waits: Waits,
    connections: Arc<Quota>,
    /// Connections that were refused and are told so.
    refusals: Arc<Quota>,
    /// Those for which there was no place at all.
    turned_away: Arc<Mutex<Counted>>,
    /// Their connections count for nobody's address.
    trusted: Arc<[IpNet]>,
}

/// How many refused connections are told so at a time; others are closed without a word.
const REFUSALS_MAX: usize = 64;

/// How long a refused connection is told so.
const REFUSAL_TIME: Duration = Duration::from_secs(1);

/// Its place among the connections, which every request brings along, so that what outlives the
/// connection's HTTP (a WebSocket) keeps it.
#[derive(Clone, Debug)]
pub(crate) struct Place(
    #[expect(dead_code, reason = "it is given back by its end")] Arc<(Share, Option<Place>)>,
);

impl Place {
    /// Makes one of a share; `of_proxy` is that of the connection by which a proxy speaks for it.
    pub(crate) fn new(share: Share, of_proxy: Option<Place>) -> Self {
        Place(Arc::new((share, of_proxy)))
    }
}

impl Door {
    pub(crate) fn new(
        app: axum::Router,
        waits: Waits,
        connections: Arc<Quota>,
        trusted: Arc<[IpNet]>,
    ) -> Self {
        Door {
            app,
            waits,
            connections,
            refusals: Quota::new(REFUSALS_MAX, 0),
            turned_away: Arc::default(),
            trusted,
        }
    }

    /// One without limits.
    #[cfg(test)]
    pub(crate) fn of(app: axum::Router, waits: Waits) -> Self {
        Self::new(app, waits, Quota::new(0, 0), Arc::new([]))
    }

    fn receive(&self, stream: TcpStream, peer: SocketAddr) {
        if let Err(error) = watch(&stream) {
            tracing::debug!(%error, %peer, "TCP keep-alive could not be set");
        }
        let is_proxy = is_trusted(peer.ip(), &self.trusted);
        let address = (!is_proxy).then(|| counted_as(peer.ip()));
        match self.connections.take(address, 1) {
            Ok(share) => {
                tokio::spawn(serve_connection(stream, peer, self.clone(), share));
            }
            Err(full) => {
                meters().refuse_connection(match full {
                    Full::Address => Limit::Address,
                    Full::All => Limit::All,
                });
                if full == Full::All
                    && let Some(count) = lock(&self.turned_away).count(Instant::now())
                {
                    tracing::warn!(
                        count,
                        "there are as many connections as there can be: others are refused with 503; \
                         raise --connections, and the limit of open files with it, or lower \
                         --connections-per-address"
                    );
                }
                if let Ok(share) = self.refusals.take(None, 1) {
                    tokio::spawn(async move {
                        let refusal = refuse(stream, full);
                        if let Ok(Err(error)) = tokio::time::timeout(REFUSAL_TIME, refusal).await {
                            tracing::debug!(%error, %peer, "a refused connection ended early");
                        }
                        drop(share);
                    });
                }
            }
        }
    }
}

/// Accepts connections for as long as it is polled: whatever fails, it goes on, and not at once where
/// that would fail again.
pub(crate) async fn accept(listener: TcpListener, door: Door) {
    const PAUSE: Duration = Duration::from_millis(100);
    let mut reserve = Reserve::new();
    let mut refused = Counted::default();
    let mut failed = Counted::default();
    loop {
        let error = match listener.accept().await {
            Ok((stream, peer)) => {
                door.receive(stream, peer);
                continue;
            }
            Err(error) => error,
        };
        if is_of_the_peer(&error) {
            continue;
        }
        if !is_out_of_files(&error) {
            if let Some(count) = failed.count(Instant::now()) {
                tracing::warn!(%error, count, "connections could not be accepted");
            }
            tokio::time::sleep(PAUSE).await;
            continue;
        }
        reserve.release();
        // Where nobody waits any more, this only waits.
        match tokio::time::timeout(PAUSE, listener.accept()).await {
            Ok(Ok((stream, _))) => {
                meters().refuse_connection(Limit::Files);
                if let Some(count) = refused.count(Instant::now()) {
                    tracing::error!(
                        count,
                        "out of file descriptors: connections are refused with 503; raise the limit of \
                         open files (LimitNOFILE=, ulimit -n), or lower --connections"
                    );
                }
                refuse_at_once(&stream).await;
            }
            Ok(Err(_)) => tokio::time::sleep(PAUSE).await,
            Err(_) => {}
        }
        reserve.fill();
    }
}

/// Whether the connection failed, rather than accepting.
fn is_of_the_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}

/// Whether the process, or the system, has no descriptor left (EMFILE, ENFILE).
fn is_out_of_files(error: &io::Error) -> bool {
    #[cfg(unix)]
    {
        use rustix::io::Errno;
        [Errno::MFILE, Errno::NFILE]
            .map(|errno| Some(errno.raw_os_error()))
            .contains(&error.raw_os_error())
    }
    #[cfg(not(unix))]
    {
        let _ = error;
        false
    }
}

/// One descriptor that is given up to refuse a connection where none is left.
struct Reserve(Option<File>);

impl Reserve {
    fn new() -> Self {
        let mut reserve = Reserve(None);
        reserve.fill();
        reserve
    }

    fn release(&mut self) {
        self.0 = None;
    }

    /// Where there is none, the next time may find one.
    fn fill(&mut self) {
        self.0 = File::open(if cfg!(unix) { "/dev/null" } else { "NUL" }).ok();
    }
}

/// Something that happens over and over, told once in a while with how often.
#[derive(Default)]
struct Counted {
    count: u64,
    told: Option<Instant>,
}

impl Counted {
    const PAUSE: Duration = Duration::from_secs(10);

    /// Counts one more; how many there have been since the last time, where that is to be told now.
    fn count(&mut self, now: Instant) -> Option<u64> {
        self.count += 1;
        let is_recent = |at| now.saturating_duration_since(at) < Self::PAUSE;
        if self.told.is_some_and(is_recent) {
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.count))
    }
}

/// Tells a peer that there is no place for it, and why. It has asked by then, in most cases: what comes
/// before a request is asked is taken for an answer to nothing.
async fn refuse(mut stream: TcpStream, full: Full) -> io::Result<()> {
    drop(tokio::time::timeout(REFUSAL_TIME / 2, stream.readable()).await);
    pass_over(&stream);
    stream.write_all(&refusal(full)).await?;
    stream.shutdown().await?;
    // A socket that is closed with octets unread is reset, and the answer with it.
    loop {
        stream.readable().await?;
        if pass_over(&stream) {
            return Ok(());
        }
    }
}

/// The same with no time to lose, as nobody else is accepted meanwhile.
async fn refuse_at_once(stream: &TcpStream) {
    drop(tokio::time::timeout(Duration::from_millis(50), stream.readable()).await);
    pass_over(stream);
    // A new socket takes as much; where it fails, the peer has gone.
    if let Err(error) = stream.try_write(&refusal(Full::All)) {
        tracing::debug!(%error, "a refused connection ended early");
    }
}

fn refusal(full: Full) -> Vec<u8> {
    full.problem("connections").close_with_octets()
}

/// Reads what has come, within a bound; whether the peer is at its end.
fn pass_over(stream: &TcpStream) -> bool {
    let mut octets = [0; 4_096];
    for _ in 0..32 {
        match stream.try_read(&mut octets) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != io::ErrorKind::WouldBlock,
        }
    }
    false
}

/// Lets the system find out that a peer has vanished, within 90 s: one that is idle by keep-alive, one
/// that does not acknowledge what was sent to it (a stream of SockJS has a heart-beat every 25 s) by
/// its own time-out, without which that takes a quarter of an hour.
pub(crate) fn watch(stream: &TcpStream) -> io::Result<()> {
    let socket = socket2::SockRef::from(stream);
    let keep_alive = socket2::TcpKeepalive::new()
        .with_time(Duration::from_secs(30))
        .with_interval(Duration::from_secs(10))
        .with_retries(3);
    socket.set_tcp_keepalive(&keep_alive)?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    socket.set_tcp_user_timeout(Some(Duration::from_secs(60)))?;
    Ok(())
}

async fn serve_connection(stream: TcpStream, peer: SocketAddr, door: Door, share: Share) {
    let Door { app, waits, .. } = door;
    let place = Place::new(share, None);
    let app = app.map_request(
        move |mut request: axum::http::Request<hyper::body::Incoming>| {
            request.extensions_mut().insert(ConnectInfo(peer));
            request.extensions_mut().insert(place.clone());
            request.map(axum::body::Body::new)
        },
    );
    let (stream, builder) = waits.watch(stream);
    let connection = builder
        .serve_connection(stream, TowerToHyperService::new(app))
        .with_upgrades();
    if let Err(error) = connection.await {
        tracing::debug!(%error, %peer, "an HTTP connection ended early");
    }
}

/// Raises the limit of open files to what the system lets this process have, and lowers the most
/// connections where even that is less: the log and answers need some too.
pub(crate) fn connections_max(wanted: usize) -> usize {
    let Some(files) = raise_files() else {
        return wanted;
    };
    let possible = usize::try_from(files).unwrap_or(usize::MAX);
    let possible = possible.saturating_sub(FILES_KEPT).max(possible / 2);
    // 0 is no limit.
    if wanted != 0 && wanted <= possible {
        return wanted;
    }
    if wanted != 0 {
        tracing::info!(
            "there can be {possible} connections, not {wanted}, as the system lets this process open {files} \
             files; raise that limit (LimitNOFILE=, ulimit -Hn), or lower --connections"
        );
    }
    possible
}

/// Descriptors that no connection takes.
const FILES_KEPT: usize = 128;

#[cfg(unix)]
fn raise_files() -> Option<u64> {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(files) => Some(files),
        Err(error) => {
            tracing::warn!(%error, "the limit of open files could not be raised");
            rlimit::getrlimit(rlimit::Resource::NOFILE)
                .ok()
                .map(|(soft, _)| soft)
        }
    }
}

#[cfg(not(unix))]
fn raise_files() -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happens_over_and_over_is_told_once_in_a_while() {
        let mut counted = Counted::default();
        let begin = Instant::now();
        assert_eq!(counted.count(begin), Some(1));
        for _ in 0..5 {
            assert_eq!(counted.count(begin + Counted::PAUSE / 2), None);
        }
        assert_eq!(counted.count(begin + Counted::PAUSE), Some(6));
        assert_eq!(counted.count(begin + Counted::PAUSE), None);
    }
}
