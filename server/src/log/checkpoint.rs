//! Brings the write-ahead log back to its size after somebody has read for long.
//!
//! With every thousandth page a commit copies what is in the write-ahead log into the database, so that
//! the log begins anew. While a reader from outside (a backup, say) needs what is older, it cannot,
//! and the log grows; the first commit after that would copy all of it, and hold up everybody. So past
//! [`WAL_BYTES_MAX`] commits leave the copying to a thread beside them. When it is done, what came
//! meanwhile is little, and commits go on as before.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::{Connection, InterruptHandle, OpenFlags};

use super::order::Queue;
use super::sqlite::{Health, Writer};

/// How large the write-ahead log is before its copying is left to a thread.
const WAL_BYTES_MAX: u64 = 32 << 20;

/// How long the thread waits for those who read.
const PAUSE: Duration = Duration::from_secs(1);

/// Watches the write-ahead log, on the ordering thread.
pub(super) struct Checkpoints {
    database: PathBuf,
    write_ahead_log: PathBuf,
    queue: Arc<Queue>,
    health: Arc<Health>,
    copying: Option<Copying>,
}

/// A thread that copies.
struct Copying {
    thread: JoinHandle<()>,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// Set before the ordering thread is made to look.
    is_done: AtomicBool,
    is_stopping: AtomicBool,
    interrupt: OnceLock<InterruptHandle>,
}

impl Checkpoints {
    pub(super) fn new(database: &Path, queue: Arc<Queue>, health: Arc<Health>) -> Self {
        Checkpoints {
            database: database.to_owned(),
            write_ahead_log: super::sqlite::beside(database, "-wal"),
            queue,
            health,
            copying: None,
        }
    }

    /// Whether the thread may be writing to the database.
    pub(super) fn is_copying(&self) -> bool {
        self.copying.is_some()
    }

    /// Looks whether the log has grown, or the thread is done, after a commit; whether anything was
    /// copied then.
    pub(super) fn look(&mut self, writer: &Writer) -> bool {
        let was_copying = self.is_copying();
        match &self.copying {
            Some(copying) if !copying.has_ended() => {}
            Some(_) => {
                self.stop();
                self.health.note_checkpoint(&writer.checkpoint_itself(true));
                self.health.note_checkpoint(&writer.checkpoint());
                if self.is_large() {
                    // The next commit begins the log anew.
                    self.queue.probe();
                }
            }
            None if self.is_large() => match self.start() {
                Ok(copying) => {
                    self.health
                        .note_checkpoint(&writer.checkpoint_itself(false));
                    self.copying = Some(copying);
                }
                // Commits go on copying.
                Err(error) => {
                    tracing::error!(%error, "no thread can be started to copy for commits")
                }
            },
            None => {}
        }
        was_copying
    }

    fn is_large(&self) -> bool {
        std::fs::metadata(&self.write_ahead_log).is_ok_and(|log| log.len() > WAL_BYTES_MAX)
    }

    fn start(&self) -> std::io::Result<Copying> {
        let state = Arc::new(State::default());
        let (database, queue, health) = (
            self.database.clone(),
            Arc::clone(&self.queue),
            Arc::clone(&self.health),
        );
        let of_thread = Arc::clone(&state);
        let thread = super::thread::start("checkpoint", &self.health, move || {
            let copied = copy(&database, &of_thread);
            health.note_checkpoint(&copied);
            if copied.is_err() {
                // Not with every commit again.
                std::thread::park_timeout(PAUSE);
            }
            of_thread.is_done.store(true, Ordering::Release);
            queue.probe();
        })?;
        Ok(Copying { thread, state })
    }

    /// Ends the thread, if there is one, and waits for it.
    fn stop(&mut self) {
        let Some(Copying { thread, state }) = self.copying.take() else {
            return;
        };
        state.is_stopping.store(true, Ordering::Release);
        if let Some(interrupt) = state.interrupt.get() {
            interrupt.interrupt();
        }
        thread.thread().unpark();
        // Where it has panicked, that was noted and told.
        drop(thread.join());
    }
}

impl Drop for Checkpoints {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Copying {
    fn has_ended(&self) -> bool {
        self.state.is_done.load(Ordering::Acquire) || self.thread.is_finished()
    }
}

/// Copies until nothing is left of what there was when a round began: nobody reads what is older.
fn copy(database: &Path, state: &State) -> rusqlite::Result<()> {
    // Where there is none any more, none is made.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(database, flags)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    state
        .interrupt
        .get_or_init(|| connection.get_interrupt_handle());
    let mut has_warned = false;
    loop {
        let copied = checkpoint(&connection);
        if state.is_stopping.load(Ordering::Acquire) || copied? {
            return Ok(());
        }
        if !has_warned {
            tracing::warn!(
                "somebody reads the database for long, a backup perhaps: until that ends its \
                 write-ahead log grows"
            );
            has_warned = true;
        }
        std::thread::park_timeout(PAUSE);
    }
}

/// Copies as much as those who read allow, and holds nobody up; whether that was all.
pub(super) fn checkpoint(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| {
        Ok(row.get::<_, i64>(1)? == row.get::<_, i64>(2)?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_the_database_is_gone_none_is_made() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.db");
        assert!(copy(&path, &State::default()).is_err());
        assert!(!path.exists());
    }
}
