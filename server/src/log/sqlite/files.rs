//! The files that are open, and whether they are still those at their paths.
//!
//! A file that was deleted, moved, replaced or hidden by a file system mounted over it can be written
//! to as before, by who has it open; and all of it is lost in the end. So before and after each commit,
//! and every second, the system is asked what is at the paths, which costs some microseconds.
//!
//! Nothing here opens a file: to close one again would free the locks that SQLite holds on it.

use std::ffi::OsString;
use std::fs::Metadata;
use std::io::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// What became of the files since they were looked at last.
#[derive(Debug)]
pub(in crate::log) enum Look {
    /// Nothing.
    Same,
    /// Somebody has written to one of them.
    Written,
    /// One of them is not the one at its path any more.
    Gone(Gone),
}

/// Which file is gone.
#[derive(Debug)]
pub(in crate::log) struct Gone {
    pub(in crate::log) path: PathBuf,
    /// Whether it is the database, and not one of those that SQLite puts beside it.
    pub(in crate::log) is_database: bool,
}

/// The files of a database.
pub(in crate::log) struct Files {
    database: Watched,
    write_ahead_log: Watched,
    index: Watched,
}

struct Watched {
    path: PathBuf,
    identity: Identity,
    /// By ourselves, or looked into since.
    written: Written,
    /// As it was looked at last.
    found: Written,
}

/// When a file was written last, and how long it was then.
type Written = (u64, Option<SystemTime>);

/// Device and number of a file.
#[cfg(unix)]
pub(super) type Identity = (u64, u64);

/// Elsewhere a file that is open cannot be deleted or moved.
#[cfg(not(unix))]
pub(super) type Identity = ();

#[cfg(unix)]
fn identity(metadata: &Metadata) -> Identity {
    use std::os::unix::fs::MetadataExt as _;
    (metadata.dev(), metadata.ino())
}

#[cfg(not(unix))]
fn identity(_: &Metadata) -> Identity {}

fn written(metadata: &Metadata) -> Written {
    (metadata.len(), metadata.modified().ok())
}

/// Which file is at a path.
pub(super) fn identify(path: &Path) -> Result<Identity> {
    Ok(identity(&std::fs::metadata(path)?))
}

/// The path of a file that SQLite puts beside a database: it follows a link to that first.
pub(in crate::log) fn beside(database: &Path, suffix: &str) -> PathBuf {
    let is_link = std::fs::symlink_metadata(database).is_ok_and(|found| found.is_symlink());
    let followed = is_link.then(|| std::fs::canonicalize(database).ok());
    let path = followed.flatten().unwrap_or_else(|| database.to_owned());
    let mut name: OsString = path.into_os_string();
    name.push(suffix);
    name.into()
}

impl Watched {
    fn new(path: PathBuf) -> Result<Self> {
        let metadata = std::fs::metadata(&path)?;
        Ok(Watched {
            path,
            identity: identity(&metadata),
            written: written(&metadata),
            found: written(&metadata),
        })
    }

    /// Whether it is still at its path.
    fn look(&mut self) -> bool {
        let Ok(metadata) = ask(|| std::fs::metadata(&self.path)) else {
            return false;
        };
        self.found = written(&metadata);
        identity(&metadata) == self.identity
    }
}

/// Asks the system, again where it could not tell just now, as it may be with a file system of a network.
fn ask<T>(ask: impl Fn() -> Result<T>) -> Result<T> {
    for pause_ms in [1, 10, 100] {
        match ask() {
            Err(error) if !is_absence(&error) => {
                std::thread::sleep(Duration::from_millis(pause_ms));
            }
            told => return told,
        }
    }
    ask()
}

/// Whether an error says that nothing is at a path.
fn is_absence(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

impl Files {
    /// The files of the database that has just been opened; `before` is what was at its path before
    /// that.
    ///
    /// # Errors
    /// What the system says; also where the database was replaced meanwhile.
    pub(super) fn new(database: &Path, before: Identity) -> Result<Self> {
        let files = Files {
            write_ahead_log: Watched::new(beside(database, "-wal"))?,
            index: Watched::new(beside(database, "-shm"))?,
            database: Watched::new(database.to_owned())?,
        };
        if files.database.identity == before {
            Ok(files)
        } else {
            let detail = "it was replaced while it was opened";
            Err(Error::new(ErrorKind::InvalidData, detail))
        }
    }

    /// The database's path.
    pub(in crate::log) fn database(&self) -> &Path {
        &self.database.path
    }

    /// How long the database was before somebody wrote to it.
    pub(in crate::log) fn database_bytes(&self) -> u64 {
        self.database.written.0
    }

    /// Asks what is at the paths.
    pub(in crate::log) fn look(&mut self) -> Look {
        if !self.database.look() {
            return Look::gone(&self.database, true);
        }
        // The index is memory, and not written as a file is.
        for file in [&mut self.write_ahead_log, &mut self.index] {
            if !file.look() {
                return Look::gone(file, false);
            }
        }
        let is_same = |file: &Watched| file.found == file.written;
        if is_same(&self.database) && is_same(&self.write_ahead_log) {
            Look::Same
        } else {
            Look::Written
        }
    }

    /// Takes what was found at the last look as written by ourselves.
    pub(in crate::log) fn take_as_ours(&mut self) {
        for file in [&mut self.database, &mut self.write_ahead_log] {
            file.written = file.found;
        }
    }
}

impl Look {
    fn gone(file: &Watched, is_database: bool) -> Self {
        Look::Gone(Gone {
            path: file.path.clone(),
            is_database,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn what_the_system_cannot_tell_just_now_is_asked_again() {
        let asked = Cell::new(0);
        let answers = |wanted: usize, kind: ErrorKind| {
            asked.set(0);
            ask(|| {
                asked.set(asked.get() + 1);
                match asked.get() {
                    count if count > wanted => Ok(()),
                    _ => Err(Error::from(kind)),
                }
            })
        };
        for kind in [ErrorKind::StaleNetworkFileHandle, ErrorKind::Other] {
            assert!(answers(3, kind).is_ok());
            assert_eq!(answers(9, kind).unwrap_err().kind(), kind);
            assert_eq!(asked.get(), 4);
        }
        for kind in [ErrorKind::NotFound, ErrorKind::NotADirectory] {
            assert!(answers(1, kind).is_err());
            assert_eq!(asked.get(), 1);
        }
    }
}
