//! Copies of the database: a backup of one that is in use, and its way back.

use std::fs::File;
use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};
use time::OffsetDateTime;
use time::macros::format_description;

use super::check::{Progress, check_database};
use super::files::beside;
use super::mark::{self, Mark, Newest};
use super::open::{
    MARKED_SINCE, OpenError, SCHEMA_VERSION, begin_epoch, check_header, lock_directory,
    open_reader, read_epoch, read_format, read_newest, upgrade,
};
use crate::data_dir;

/// Pages that are copied at a time, 8 MiB.
const STEP_PAGES: i32 = 2_048;

/// Copies the database in a data directory to `file`, which must not be there yet, as it is at the
/// beginning. Whoever uses the database goes on.
///
/// # Errors
/// Why there is no copy; then there is no file.
pub(crate) fn backup(data_dir: &Path, file: &Path) -> Result<(), OpenError> {
    let database = data_dir.join(data_dir::DATABASE);
    let newest = copy(&database, file)?;
    tracing::info!(
        "{} holds messages up to {} and rooms up to {} (counted over all rooms)",
        file.display(),
        newest.message,
        newest.room
    );
    Ok(())
}

/// Puts a copy in the place of the database in a data directory that no process uses, under a new
/// epoch. What was there is kept beside it.
///
/// # Errors
/// Why the copy is not taken; then what was there is there still.
pub(crate) fn restore(data_dir: &Path, file: &Path) -> Result<(), OpenError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| OpenError::Io { path, source }
    };
    let data_dir = &std::path::absolute(data_dir).map_err(failed(data_dir))?;
    let _locks = lock_directory(data_dir)?;
    let findings = check_database(file, None)?;
    if let Some(first) = findings.first() {
        return Err(OpenError::Damaged {
            path: file.to_owned(),
            detail: format!("{first}; `sarangbang check` says all of it"),
        });
    }
    let database = data_dir.join(data_dir::DATABASE);
    // Where it is a link, what it leads to is replaced.
    let database = std::fs::canonicalize(&database).unwrap_or(database);
    let fresh = beside(&database, ".fresh");
    for path in [&fresh, &beside(&fresh, "-wal"), &beside(&fresh, "-shm")] {
        data_dir::remove(path).map_err(failed(path))?;
    }
    copy(file, &fresh)?;
    let (epoch, newest) = renew(&fresh).map_err(|source| OpenError::of(&fresh, source))?;

    let aside = set_aside(&database).map_err(failed(&database))?;
    data_dir::put(&fresh, &database).map_err(failed(&database))?;
    // Until it is written a start refuses the database, as one of another epoch. What cannot be read of
    // the old one is of no use any more.
    let path = data_dir.join(data_dir::MARK);
    let found = mark::read(&path).unwrap_or_default();
    Mark::open(&path, found, epoch, newest).map_err(failed(&path))?;
    tracing::info!(
        "{} is in place, with messages up to {} and rooms up to {} (counted over all rooms), under a \
         new epoch{}",
        file.display(),
        newest.message,
        newest.room,
        aside.map_or_else(String::new, |aside| format!(
            "; what was there is {}",
            aside.display()
        ))
    );
    Ok(())
}

/// Copies a database to a file that is not there yet, whole or not at all; how far it goes.
fn copy(database: &Path, file: &Path) -> Result<Newest, OpenError> {
    let failed = |source| OpenError::Io {
        path: file.to_owned(),
        source,
    };
    if file.exists() {
        let detail = "it is there already; give another name";
        return Err(failed(Error::new(ErrorKind::AlreadyExists, detail)));
    }
    let part = beside(file, ".part");
    data_dir::remove(&part).map_err(failed)?;
    if !check_header(database)? {
        let missing = Error::new(ErrorKind::NotFound, "there is no database in it");
        return Err(OpenError::Io {
            path: database.to_owned(),
            source: missing,
        });
    }
    let copied = copy_pages(database, &part).and_then(|newest| {
        File::open(&part)
            .and_then(|part| part.sync_all())
            .and_then(|()| data_dir::put(&part, file))
            .map_err(failed)?;
        Ok(newest)
    });
    if copied.is_err() {
        drop(data_dir::remove(&part));
    }
    copied
}

fn copy_pages(database: &Path, part: &Path) -> Result<Newest, OpenError> {
    let of_source = |source| OpenError::of(database, source);
    let of_copy = |source| OpenError::Store {
        path: part.to_owned(),
        source,
    };
    let source = open_reader(database).map_err(of_source)?;
    if read_format(database, &source)?.is_none() {
        return Err(OpenError::Foreign(database.to_owned()));
    }
    // All of it as it is now, whatever is committed meanwhile.
    source.execute_batch("BEGIN").map_err(of_source)?;
    let newest = read_newest(&source).map_err(of_source)?;
    // By us: SQLite would let others read it.
    data_dir::writable()
        .create_new(true)
        .open(part)
        .map_err(|source| OpenError::Io {
            path: part.to_owned(),
            source,
        })?;
    let mut target = Connection::open(part).map_err(of_copy)?;
    {
        let copying = Backup::new(&source, &mut target).map_err(of_copy)?;
        let mut progress = Progress::new("copied", "pages");
        loop {
            match copying.step(STEP_PAGES).map_err(of_copy)? {
                StepResult::Done => break,
                StepResult::More => {
                    let pages = copying.progress();
                    let done = pages.pagecount - pages.remaining;
                    progress.tell(
                        u64::from(done.unsigned_abs()),
                        u64::from(pages.pagecount.unsigned_abs()),
                    );
                }
                // Somebody else's lock: it is over soon.
                _ => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }
    // One file, which can be read where nothing can be written.
    target
        .pragma_update(None, "journal_mode", "DELETE")
        .map_err(of_copy)?;
    target.close().map_err(|(_, source)| of_copy(source))?;
    Ok(newest)
}

/// Brings a copy to today's format, under a new epoch, which is given with how far it goes.
fn renew(database: &Path) -> rusqlite::Result<(uuid::Uuid, Newest)> {
    let mut connection = Connection::open(database)?;
    let version: i32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    if version < SCHEMA_VERSION {
        upgrade(&mut connection, version)?;
    }
    if version >= MARKED_SINCE {
        begin_epoch(&connection)?;
    }
    let renewed = (read_epoch(&connection)?, read_newest(&connection)?);
    connection.close().map_err(|(_, error)| error)?;
    Ok(renewed)
}

/// Moves a database and what SQLite has put beside it; where to, if there was one.
fn set_aside(database: &Path) -> std::io::Result<Option<PathBuf>> {
    let format =
        format_description!("[year][month][day]-[hour][minute][second]-[subsecond digits:6]");
    let now = OffsetDateTime::now_utc().format(format);
    let now = now.map_err(|error| Error::other(error.to_string()))?;
    let aside = beside(database, &format!(".replaced-{now}"));
    // What is only in the write-ahead log goes with it.
    for suffix in ["-wal", "-shm", ""] {
        match std::fs::rename(beside(database, suffix), beside(&aside, suffix)) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            moved => moved?,
        }
    }
    Ok(aside.exists().then_some(aside))
}
