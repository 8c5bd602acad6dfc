//! The server: the room API, the pages, and the STOMP broker on the room log.
//!
//! `serve` gets its listeners and its end from outside, so that a test owns both. Arrows run one
//! way: `app` > `api`, `pages`, `sockjs` > `ws` > `connection` > `chat` > `log` > `shared`.

mod api;
mod app;
mod assets;
mod base_path;
mod body;
mod chat;
mod conditional;
mod config;
mod connection;
mod cors;
mod data_dir;
mod guest;
mod keep_alive;
mod listen;
mod log;
mod origin;
mod pages;
mod problem;
mod sockjs;
#[cfg(test)]
mod tests;
mod ws;

use std::future::Future;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::ConnectInfo;
use hyper_util::service::TowerToHyperService;
use shared::stomp::server::Config as StompConfig;
use shared::stomp::{HeartBeat, Limits};
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tower::ServiceExt as _;

use crate::app::AppState;
pub use crate::base_path::BasePath;
use crate::chat::{Board, Chat};
pub use crate::config::{Config, List, LogFormat};
use crate::connection::{Hub, Settings};
use crate::guest::Guests;
use crate::keep_alive::Waits;
pub use crate::listen::{ListenAddress, listen};
use crate::log::Log as _;
use crate::log::sqlite::Sqlite;
pub use crate::origin::AllowedOrigin;

/// How long a drain may take before what is left is dropped.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(8);

/// How long a peer may take to send the header of a request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// Why the server could not start, or could not go on.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct StartError(String);

/// Serves on `listeners` until `shutdown` completes, then drains: open connections are closed with
/// 1012, everything new is answered with 503, and what was acknowledged is on disk.
///
/// Logs `listening on http://{address}` when it is ready, a line for each listener.
///
/// # Errors
/// [`StartError`] says in plain words why the data directory cannot be used, or what of the server
/// has panicked so that it could not go on: then it was drained as far as it could.
pub async fn serve(
    listeners: Vec<TcpListener>,
    config: Config,
    shutdown: impl Future<Output = ()>,
) -> Result<(), StartError> {
    let board = Arc::new(Board::default());
    let observer = Arc::clone(&board);
    serve_with(listeners, config, shutdown, board, observer).await
}

/// As [`serve`]; the log tells its `observer` of rooms.
async fn serve_with(
    listeners: Vec<TcpListener>,
    config: Config,
    shutdown: impl Future<Output = ()>,
    board: Arc<Board>,
    observer: Arc<dyn log::Observer>,
) -> Result<(), StartError> {
    let config = Arc::new(config);
    let data_dir = config.data_dir.clone();
    let cookie_path = config.base_path.for_cookies().to_owned();
    let (log, guests) = tokio::task::spawn_blocking(move || {
        let log =
            Sqlite::open(&data_dir, observer).map_err(|error| StartError(error.to_string()))?;
        let guests = Guests::open(&data_dir, cookie_path)
            .map_err(|error| StartError(format!("cannot use the cookie key: {error}")))?;
        Ok((Arc::new(log), guests))
    })
    .await
    .map_err(|error| StartError(error.to_string()))??;
    let hub = Arc::new(Hub::new(settings(&config), guests.clone()));
    let mut tasks = JoinSet::new();
    tasks.spawn(announce(Arc::clone(&board)));
    let chat = Arc::new(Chat {
        log: Arc::clone(&log) as Arc<dyn log::Log>,
        board,
        plain: config.plain_destinations.then(chat::plain::Plain::default),
    });
    let waits = Waits {
        idle: Duration::from_millis(config.keep_alive_ms),
        head: HEADER_TIMEOUT,
    };
    let state = AppState::new(Arc::clone(&chat), Arc::clone(&hub), guests, config);
    tasks.spawn(tidy(state.clone()));
    let app = app::routes(state);
    for listener in listeners {
        let address = listener
            .local_addr()
            .map_err(|error| StartError(error.to_string()))?;
        tracing::info!("listening on http://{address}");
        tasks.spawn(accept(listener, app.clone(), waits));
    }

    if !assets::is_built_in() {
        tracing::warn!("built without the web client; `cargo xtask build` makes a server with it");
    }

    let mut is_dead = log.is_dead();
    let fault = tokio::select! {
        () = shutdown => None,
        () = async { drop(is_dead.wait_for(|is_dead| *is_dead).await) } => Some(LOG_DIED),
        // These have no end but a panic.
        _ = tasks.join_next() => Some(TASK_DIED),
    };
    match fault {
        None => tracing::info!("going down: closing the open connections"),
        Some(fault) => tracing::error!("{fault}: closing the open connections"),
    }
    if tokio::time::timeout(DRAIN_TIMEOUT, hub.drain())
        .await
        .is_err()
    {
        tracing::warn!("some connections did not close in time and are dropped");
    }
    drop(tasks);
    let stopped = Arc::clone(&log);
    tokio::task::spawn_blocking(move || stopped.stop())
        .await
        .map_err(|error| StartError(error.to_string()))?;
    // It may have died only now.
    let fault = fault.or_else(|| is_dead.borrow().then_some(LOG_DIED));
    fault.map_or(Ok(()), |fault| Err(StartError(fault.to_owned())))
}

const LOG_DIED: &str = "the thread that orders messages has panicked and nothing can be stored, so \
                        the server ends; what was acknowledged is on disk. Start it again, and report \
                        the panic above";

const TASK_DIED: &str = "a task of the server has panicked, so the server ends; what was acknowledged \
                         is on disk. Start it again, and report the panic above";

fn settings(config: &Config) -> Settings {
    let heart_beat = HeartBeat {
        send_ms: config.heart_beat_ms,
        receive_ms: config.heart_beat_ms,
    };
    Settings {
        stomp: Arc::new(StompConfig {
            limits: Limits {
                frame_bytes_max: config.frame_bytes_max,
                connect_frame_bytes_max: config.connect_frame_bytes_max,
                headers_max: config.headers_max,
                header_line_bytes_max: config.header_line_bytes_max,
            },
            heart_beat,
            connect_timeout: Duration::from_millis(config.connect_timeout_ms),
            ping_interval: Duration::from_millis(config.ping_interval_ms),
            subscriptions_max: config.subscriptions_max,
            prefetch_max: config.prefetch_max,
            transactions_max: config.transactions_max,
            transaction_frames_max: config.transaction_frames_max,
            transaction_bytes_max: config.transaction_bytes_max,
            server: concat!("sarangbang/", env!("CARGO_PKG_VERSION")).to_owned(),
            ..StompConfig::default()
        }),
        message_rate: NonZeroU32::new(config.message_rate),
        message_burst: NonZeroU32::new(config.message_burst).unwrap_or(NonZeroU32::MIN),
        slow_reader_bytes_max: config.slow_reader_bytes_max,
        stall_timeout: Duration::from_millis(config.stall_timeout_ms),
    }
}

async fn announce(board: Arc<Board>) {
    let mut ticks = tokio::time::interval(chat::board::ANNOUNCE_TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        board.announce_due(Instant::now());
    }
}

/// How often what is not needed any more is let go.
const TIDY_INTERVAL: Duration = Duration::from_secs(5);

async fn tidy(state: AppState) {
    let mut ticks = tokio::time::interval(TIDY_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        state.chat.log.tidy(Instant::now());
        state.tidy();
    }
}

async fn accept(listener: TcpListener, app: axum::Router, waits: Waits) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                if let Err(error) = watch(&stream) {
                    tracing::debug!(%error, %peer, "TCP keep-alive could not be set");
                }
                tokio::spawn(serve_connection(stream, peer, app.clone(), waits));
            }
            Err(error) => {
                // Out of file descriptors, most likely: others may close theirs.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Lets the system find out that a peer has vanished, within 90 s: one that is idle by keep-alive, one
/// that does not acknowledge what was sent to it (a stream of SockJS has a heart-beat every 25 s) by
/// its own time-out, without which that takes a quarter of an hour.
fn watch(stream: &TcpStream) -> std::io::Result<()> {
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

async fn serve_connection(stream: TcpStream, peer: SocketAddr, app: axum::Router, waits: Waits) {
    let app = app.map_request(
        move |mut request: axum::http::Request<hyper::body::Incoming>| {
            request.extensions_mut().insert(ConnectInfo(peer));
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
