//! Keeps the files for the thread that orders: tells whether a commit may begin, and whether what was
//! committed may be acknowledged.

use std::sync::Arc;

use super::files::{Files, Gone, Look};
use super::mark::{Mark, Newest};
use super::open::reread;
use super::{Health, Writer};

/// The files, and what is known to be in them.
pub(in crate::log) struct Keeper {
    pub(super) files: Files,
    pub(super) mark: Mark,
    pub(super) newest: Newest,
    pub(super) health: Arc<Health>,
}

impl Keeper {
    /// How far the log goes on disk.
    pub(in crate::log) fn newest(&self) -> Newest {
        self.newest
    }

    /// Whether anything may be stored: the database is not known to be damaged, the files are those at
    /// their paths, and what is acknowledged can be marked. `is_copying` says that a thread of ours may
    /// write to the database now.
    pub(in crate::log) fn may_commit(&mut self, is_copying: bool) -> bool {
        self.has_files(is_copying) && (!self.health.mark_fails() || self.sync_mark())
    }

    fn has_files(&mut self, is_copying: bool) -> bool {
        if self.health.is_spoiled() {
            return false;
        }
        let look = self.files.look();
        let gone = match &look {
            Look::Gone(gone) => Some(gone),
            Look::Same | Look::Written => None,
        };
        self.health.note_gone(gone);
        match look {
            Look::Gone(_) => false,
            Look::Same => true,
            Look::Written if is_copying => {
                self.files.take_as_ours();
                true
            }
            Look::Written => {
                let found = reread(&self.files, self.newest);
                self.health.note_read(&found);
                let Ok(found) = found else { return false };
                self.files.take_as_ours();
                self.health.note_foreign(self.files.database(), found);
                !self.health.is_spoiled()
            }
        }
    }

    /// Whether all that was acknowledged is marked on disk by now.
    fn sync_mark(&mut self) -> bool {
        let synced = self.mark.sync();
        self.health.note_mark(&synced);
        synced.is_ok()
    }

    /// Takes note of a commit up to `newest`; whether it may be acknowledged. If not, it went into a
    /// file that is lost, and nothing is stored any more until the program is started anew.
    pub(in crate::log) fn has_kept(&mut self, newest: Newest) -> bool {
        if let Look::Gone(gone) = self.files.look() {
            self.health.note_gone(Some(&gone));
            if newest != self.newest {
                self.health.note_loss();
            }
            return false;
        }
        self.newest = newest;
        self.files.take_as_ours();
        self.health.note_mark(&self.mark.note(newest));
        true
    }

    /// Takes what is in the files by now as written by ourselves; one that is gone is noticed later.
    pub(in crate::log) fn take_as_ours(&mut self) {
        self.files.look();
        self.files.take_as_ours();
    }

    /// Looks while nothing comes.
    pub(in crate::log) fn look(&mut self, is_copying: bool) {
        if self.has_files(is_copying) {
            self.sync_mark();
        }
    }

    /// Copies what is only in the write-ahead log into the database, as far as those who read it allow.
    pub(in crate::log) fn copy(&mut self, writer: &Writer) {
        let copied = writer.checkpoint();
        self.health.note_checkpoint(&copied);
        self.files.look();
        self.files.take_as_ours();
        if copied.is_ok_and(|is_all| is_all) {
            self.health.note_mark(&self.mark.note_base());
        }
    }

    /// Readies the files for being closed. A database that is damaged or not ours any more is left as
    /// it is; what of a write-ahead log is nowhere else is copied.
    pub(in crate::log) fn close(mut self, writer: &Writer) {
        self.look(true);
        let is_gone = |look| {
            matches!(
                look,
                Look::Gone(Gone {
                    is_database: true,
                    ..
                })
            )
        };
        if self.health.is_damaged() || is_gone(self.files.look()) {
            writer.leave_as_it_is();
        } else {
            self.copy(writer);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use shared::chat::RoomName;
    use time::OffsetDateTime;

    use super::super::super::conformance::{Nobody, append, everything, make_room, program, talk};
    use super::super::super::{Log as _, Outcome};
    use super::super::open::open_checked;
    use super::super::{Options, Sqlite};
    use super::*;
    use crate::data_dir::DATABASE;

    #[test]
    fn that_a_thread_of_ours_writes_says_nothing_of_reads() {
        let directory = tempfile::tempdir().unwrap();
        let log = Sqlite::open(directory.path(), Options::default(), Arc::new(Nobody)).unwrap();
        log.stop();
        drop(log);
        let path = directory.path().join(DATABASE);
        let opened = open_checked(&path, false).unwrap();
        let writer = Writer {
            connection: opened.connection,
        };
        writer.touch().unwrap();
        let health = Arc::<Health>::default();
        let mut keeper = Keeper {
            files: Files::new(&path, opened.identity).unwrap(),
            mark: opened.mark,
            newest: opened.newest,
            health: Arc::clone(&health),
        };
        let io_error = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR);
        health.note_read::<()>(&Err(rusqlite::Error::SqliteFailure(io_error, None)));
        let room = RoomName::parse("r").unwrap();
        // Of another length: the time alone may be the same.
        writer
            .insert_room(&room, OffsetDateTime::UNIX_EPOCH)
            .unwrap();
        assert!(matches!(keeper.files.look(), Look::Written));
        assert!(keeper.may_commit(true));
        assert!(!health.is_good());
        // Looked into, it was read.
        writer
            .insert_room(&room, OffsetDateTime::UNIX_EPOCH)
            .unwrap();
        assert!(keeper.may_commit(false));
        assert!(health.is_good());
        keeper.close(&writer);
        writer.close();
    }

    #[test]
    fn what_was_committed_into_a_file_that_went_away_meanwhile_is_not_acknowledged() {
        let directory = tempfile::tempdir().unwrap();
        let (path, aside) = (
            directory.path().join(DATABASE),
            directory.path().join("aside"),
        );
        let goes = Arc::new(AtomicBool::new(false));
        // The clock is read when a commit has begun.
        let clock = {
            let (path, aside, goes) = (path.clone(), aside.clone(), Arc::clone(&goes));
            move || {
                if goes.swap(false, Ordering::SeqCst) {
                    std::fs::rename(&path, &aside).unwrap();
                }
                OffsetDateTime::now_utc()
            }
        };
        let observer = Arc::new(Nobody);
        let log = Sqlite::open_with(
            directory.path(),
            Options::default(),
            observer,
            Box::new(clock),
            |_| Ok(()),
        );
        let log = log.unwrap();
        let room = make_room(&log, "r").unwrap();
        let say = || append(&log, program(1), vec![talk(&room, "a", "x")]);
        assert_eq!(say(), Outcome::Appended);
        goes.store(true, Ordering::SeqCst);
        assert_eq!(say(), Outcome::Failed);
        assert!(!log.is_healthy());
        // What is in it now nobody here knows.
        std::fs::rename(&aside, &path).unwrap();
        assert_eq!(say(), Outcome::Failed);
        assert!(!log.is_healthy());
        assert_eq!(everything(&log, &room).len(), 1);
        log.stop();
        drop(log);
        let log = Sqlite::open(directory.path(), Options::default(), Arc::new(Nobody)).unwrap();
        let room = log.room(room.id).unwrap();
        assert_eq!(everything(&log, &room).len(), 2);
        assert!(log.is_healthy());
        log.stop();
    }
}
