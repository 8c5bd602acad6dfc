//! The program: reads its configuration, listens, and serves until it is told to stop.

mod stderr;

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use server::{Config, LogFormat};

use self::stderr::Lines;

/// How long the last lines may take to be written when the program ends.
const LAST_LINES_TIME_MAX: Duration = Duration::from_millis(500);

/// How long threads that are held up (by a disk, by another program) may hold up the end.
const THREADS_TIME_MAX: Duration = Duration::from_millis(100);

/// Gives memory back to the system after a load; glibc's keeps most of it in its arenas.
#[cfg(not(target_env = "msvc"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let config = Config::read();
    let lines = match Lines::start(server::count_lost_lines) {
        Ok(lines) => lines,
        Err(error) => {
            drop(writeln!(
                std::io::stderr(),
                "no thread can be started: {error}"
            ));
            return ExitCode::FAILURE;
        }
    };
    start_log(config.log_format, &lines);
    let code = match run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    };
    lines.flush(LAST_LINES_TIME_MAX);
    code
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn run(config: Config) -> Result<(), Failure> {
    if let Some(task) = &config.task {
        return Ok(server::perform(task, &config.data_dir)?);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let served = runtime.block_on(serve(config));
    runtime.shutdown_timeout(THREADS_TIME_MAX);
    served
}

async fn serve(config: Config) -> Result<(), Failure> {
    let stop = stop_signal()?;
    let listeners = server::listen(config.listen.iter().flatten()).await?;
    Ok(server::serve(listeners, config, stop).await?)
}

fn start_log(format: LogFormat, lines: &Arc<Lines>) {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // To tell of them the library would panic where stderr cannot be written.
        .log_internal_errors(false)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(Arc::clone(lines));
    match format {
        LogFormat::Text => log.with_target(false).init(),
        LogFormat::Json => log.json().init(),
    }
    std::panic::set_hook(Box::new(log_panic));
}

/// Logs a panic as everything else is logged; the backtrace where `RUST_BACKTRACE` asks for one.
fn log_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    let words = panic.payload_as_str().unwrap_or("no words");
    let place = panic.location().map(ToString::to_string);
    let place = place.as_deref().unwrap_or("an unknown place");
    let backtrace = std::backtrace::Backtrace::capture();
    if backtrace.status() == std::backtrace::BacktraceStatus::Captured {
        tracing::error!(thread, place, %backtrace, "panicked: {words}");
    } else {
        tracing::error!(thread, place, "panicked: {words}");
    }
}

/// Completes at the signals that ask a program to end: ctrl-c, SIGTERM, the loss of the terminal,
/// ctrl-\, and the limit on processor time. Where a file may grow no further by a limit on its size, a
/// write fails from now on, instead of the program.
#[cfg(unix)]
fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    use rustix::process::Signal;
    use tokio::signal::unix::{SignalKind, signal};
    let on = |asked: Signal| signal(SignalKind::from_raw(asked.as_raw()));
    // Caught once is caught for good.
    drop(on(Signal::XFSZ)?);
    let mut interrupt = on(Signal::INT)?;
    let mut terminate = on(Signal::TERM)?;
    let mut quit = on(Signal::QUIT)?;
    let mut processor_time = on(Signal::XCPU)?;
    let mut hang_up = match ignores_hang_up() {
        true => None,
        false => Some(on(Signal::HUP)?),
    };
    Ok(async move {
        let hang_up = async {
            match &mut hang_up {
                Some(signal) => signal.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = quit.recv() => {}
            _ = processor_time.recv() => {}
            _ = hang_up => {}
        }
    })
}

/// Whether the program was started to outlive its terminal (`nohup`). Told on Linux alone.
#[cfg(unix)]
fn ignores_hang_up() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    let hang_up = 1 << (rustix::process::Signal::HUP.as_raw() - 1);
    ignored.is_some_and(|mask| mask & hang_up != 0)
}

/// Completes at ctrl-c.
#[cfg(not(unix))]
fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    Ok(async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    })
}
