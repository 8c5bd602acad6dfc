//! The server: the room API, the pages, and the STOMP broker on the room log.
//!
//! `serve` gets its listeners and its end from outside, so that a test owns both. Arrows run one
//! way: `app` > `api`, `pages`, `sockjs` > `ws` > `connection` > `chat` > `log` > `shared`.

mod accept;
mod admission;
mod answers;
mod api;
mod app;
mod assets;
mod awake;
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
mod metrics;
mod origin;
mod pages;
mod problem;
mod sockjs;
#[cfg(test)]
mod tests;
mod ws;

use std::future::Future;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use shared::stomp::server::{Config as StompConfig, TransactionBudget};
use shared::stomp::{HeartBeat, Limits};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::accept::{Door, accept, connections_max};
use crate::admission::Quota;
use crate::app::AppState;
pub use crate::base_path::BasePath;
use crate::chat::plain::{Bounds, Plain};
use crate::chat::{Chat, Feeds};
pub use crate::config::{Config, List, LogFormat, Task};
use crate::connection::{Hub, Settings};
use crate::guest::Guests;
use crate::keep_alive::Waits;
pub use crate::listen::{ListenAddress, listen};
use crate::log::Log as _;
use crate::log::sqlite::Sqlite;
pub use crate::metrics::count_lost_lines;
pub use crate::origin::{AllowedHost, AllowedOrigin};
pub use crate::sockjs::ClientUrl;

/// How long a drain may take before what is left is dropped.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(8);

/// How long all may take from the word to stop to the end: less than the 10 s that supervisors give.
const STOP_TIMEOUT: Duration = Duration::from_millis(8_500);

/// How long a peer may take to send the header of a request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// So much later than a session is an HTTP answer judged that nobody reads: where it is a session's
/// stream of SockJS, the session ends first, and says why.
const ANSWER_GRACE: Duration = Duration::from_secs(1);

/// Why the server could not start, or could not go on.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct StartError(String);

/// Does what an operator asks for instead of serving; how far it is, and what was found, is logged.
///
/// # Errors
/// [`StartError`] says why it could not be done, or that something is wrong with what was checked.
pub fn perform(task: &Task, data_dir: &Path) -> Result<(), StartError> {
    let failed = |error: log::sqlite::OpenError| StartError(error.to_string());
    match task {
        Task::Backup { file } => log::sqlite::backup(data_dir, file).map_err(failed),
        Task::Restore { file } => log::sqlite::restore(data_dir, file).map_err(failed),
        Task::Check { file } => {
            let findings = log::sqlite::check(data_dir, file.as_deref()).map_err(failed)?;
            if findings.is_empty() {
                tracing::info!("all is as it must be");
                return Ok(());
            }
            for finding in &findings {
                tracing::error!("{finding}");
            }
            let advice = "the database is not as it must be; put a backup in its place (sarangbang restore), or report this";
            Err(StartError(advice.to_owned()))
        }
    }
}

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
    let feeds = Arc::new(Feeds::default());
    let observer = Arc::clone(&feeds);
    serve_with(listeners, config, shutdown, feeds, observer).await
}

/// As [`serve`]; the log tells its `observer` of rooms.
async fn serve_with(
    listeners: Vec<TcpListener>,
    config: Config,
    shutdown: impl Future<Output = ()>,
    feeds: Arc<Feeds>,
    observer: Arc<dyn log::Observer>,
) -> Result<(), StartError> {
    let connections_max = connections_max(config.connections);
    let config = Arc::new(config);
    let data_dir = config.data_dir.clone();
    let options = log::sqlite::Options {
        accepts_loss: config.accept_loss,
        grace: Duration::from_millis(config.leave_grace_ms),
    };
    let base = config.base_path.for_cookies().to_owned();
    let mut shutdown = std::pin::pin!(shutdown);
    let mut is_told = false;
    let mut opening = tokio::task::spawn_blocking(move || {
        let log = Sqlite::open(&data_dir, options, observer)
            .map_err(|error| StartError(error.to_string()))?;
        let guests = Guests::open(&data_dir, &base)
            .map_err(|error| StartError(format!("cannot use the cookie key: {error}")))?;
        Ok((Arc::new(log), guests))
    });
    let opened = tokio::select! {
        opened = &mut opening => opened,
        () = &mut shutdown => {
            is_told = true;
            match tokio::time::timeout(STOP_TIMEOUT, opening).await {
                Ok(opened) => opened,
                Err(_) => {
                    tracing::warn!("the message store could not be opened in time to be closed");
                    return Ok(());
                }
            }
        }
    };
    let (log, guests) = opened.map_err(|error| StartError(error.to_string()))??;
    let hub = Arc::new(Hub::new(settings(&config, log.epoch()), guests.clone()));
    let mut tasks = JoinSet::new();
    tasks.spawn(awake::watch());
    tasks.spawn(tick(Arc::clone(&feeds)));
    let chat = Arc::new(Chat {
        log: Arc::clone(&log) as Arc<dyn log::Log>,
        feeds,
        plain: config.plain_destinations.then(|| {
            // 0 is no limit.
            let subscribers_max = NonZeroUsize::new(config.subscribers_per_destination);
            Plain::new(subscribers_max.map_or(usize::MAX, NonZeroUsize::get))
        }),
        bounds: Arc::new(Bounds::new(
            config.plain_bytes_max,
            config.slow_reader_bytes_max,
        )),
        ends: Semaphore::new(1),
    });
    let waits = Waits {
        idle: Duration::from_millis(config.keep_alive_ms),
        head: HEADER_TIMEOUT,
        stall: Duration::from_millis(config.stall_timeout_ms) + ANSWER_GRACE,
    };
    let connections = Quota::new(connections_max, config.connections_per_address);
    let state = AppState::new(
        Arc::clone(&chat),
        Arc::clone(&hub),
        guests,
        config,
        Arc::clone(&connections),
    );
    tasks.spawn(tidy(state.clone()));
    let trusted = Arc::clone(&state.trusted_proxies);
    let door = Door::new(app::routes(state), waits, connections, trusted);
    for listener in listeners {
        let address = listener
            .local_addr()
            .map_err(|error| StartError(error.to_string()))?;
        tracing::info!("listening on http://{address}");
        tasks.spawn(accept(listener, door.clone()));
    }

    if !assets::is_built_in() {
        tracing::warn!("built without the web client; `cargo xtask build` makes a server with it");
    }

    let mut is_dead = log.is_dead();
    let fault = tokio::select! {
        () = async { if !is_told { shutdown.await } } => None,
        () = async { drop(is_dead.wait_for(|is_dead| *is_dead).await) } => Some(LOG_DIED),
        // These have no end but a panic.
        _ = tasks.join_next() => Some(TASK_DIED),
    };
    match fault {
        None => tracing::info!("going down: closing the open connections"),
        Some(fault) => tracing::error!("{fault}: closing the open connections"),
    }
    let end = tokio::time::Instant::now() + STOP_TIMEOUT;
    if tokio::time::timeout(DRAIN_TIMEOUT, hub.drain())
        .await
        .is_err()
    {
        tracing::warn!("some connections did not close in time and are dropped");
    }
    drop(tasks);
    let stopped = Arc::clone(&log);
    let stopping = tokio::task::spawn_blocking(move || stopped.stop());
    match tokio::time::timeout_at(end, stopping).await {
        Ok(stopped) => stopped.map_err(|error| StartError(error.to_string()))?,
        // What still waits has no RECEIPT.
        Err(_) => tracing::warn!(
            "the message store did not close in time, as another program holds it or the disk does \
             not answer; what was acknowledged is on disk"
        ),
    }
    // It may have died only now.
    let fault = fault.or_else(|| is_dead.borrow().then_some(LOG_DIED));
    fault.map_or(Ok(()), |fault| Err(StartError(fault.to_owned())))
}

const LOG_DIED: &str = "a thread of the message store has panicked, so the server ends; what was \
                        acknowledged is on disk. Start it again, and report the panic above";

const TASK_DIED: &str = "a task of the server has panicked, so the server ends; what was acknowledged \
                         is on disk. Start it again, and report the panic above";

fn settings(config: &Config, epoch: Uuid) -> Settings {
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
            transaction_timeout: Duration::from_millis(config.transaction_timeout_ms),
            transactions_budget: Arc::new(TransactionBudget::new(
                config.open_transactions_bytes_max,
            )),
            server: concat!("sarangbang/", env!("CARGO_PKG_VERSION")).to_owned(),
            epoch: Some(epoch.to_string()),
            ..StompConfig::default()
        }),
        message_rate: NonZeroU32::new(config.message_rate),
        message_burst: NonZeroU32::new(config.message_burst).unwrap_or(NonZeroU32::MIN),
        slow_reader_bytes_max: config.slow_reader_bytes_max,
        stall_timeout: Duration::from_millis(config.stall_timeout_ms),
    }
}

async fn tick(feeds: Arc<Feeds>) {
    let mut ticks = tokio::time::interval(chat::FEED_TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        feeds.tick(Instant::now());
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
        state.chat.feeds.participants.tidy();
        state.tidy();
        metrics::tidy();
    }
}
