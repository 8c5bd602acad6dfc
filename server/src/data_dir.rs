//! The data directory: what is in it, and that it is its owner's alone.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Result, Write as _};
use std::path::Path;

/// The database; SQLite puts `-wal` and `-shm` beside it, with its mode.
pub(crate) const DATABASE: &str = "sarangbang.db";

/// Held by the process that uses the directory.
pub(crate) const LOCK: &str = "sarangbang.lock";

/// What was acknowledged last, so that a database that is behind it is noticed.
pub(crate) const MARK: &str = "sarangbang.mark";

/// The key that signs guests' cookies.
pub(crate) const COOKIE_KEY: &str = "cookie.key";

/// All that we keep in it.
const OURS: [&str; 9] = [
    DATABASE,
    "sarangbang.db-wal",
    "sarangbang.db-shm",
    "sarangbang.db-journal",
    LOCK,
    MARK,
    "sarangbang.part",
    COOKIE_KEY,
    "cookie.part",
];

/// Makes the directory where it is missing, open to its owner alone.
///
/// # Errors
/// What the system says, also where the path is there and no directory.
pub(crate) fn make(data_dir: &Path) -> Result<()> {
    if let Some(parent) = data_dir.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    match builder.create(data_dir) {
        Err(_) if data_dir.is_dir() => Ok(()),
        made => made,
    }
}

/// How a file in it is opened to be written: made where it is missing, for its owner alone.
pub(crate) fn writable() -> OpenOptions {
    let mut options = File::options();
    options.create(true).truncate(false).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Writes a file in it, for its owner alone, whole or not at all.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let part = path.with_extension("part");
    // One that a crash has left may be open to others.
    remove(&part)?;
    let mut file = writable().create_new(true).open(&part)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    put(&part, path)
}

/// Gives a file that is on disk its name there.
pub(crate) fn put(part: &Path, path: &Path) -> Result<()> {
    std::fs::rename(part, path)?;
    // The name is on disk only when the directory is.
    #[cfg(unix)]
    if let Some(directory) = std::path::absolute(path)?.parent() {
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}

/// Removes a file, if it is there.
pub(crate) fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Closes the directory and what we keep in it to everybody else, where they are ours to close. Says
/// what was open, and what to do about what stays open: that is no reason not to serve.
#[cfg(unix)]
pub(crate) fn close(data_dir: &Path) {
    let mut closed = Vec::new();
    let mut left = Vec::new();
    let paths = std::iter::once(data_dir.to_owned()).chain(OURS.map(|name| data_dir.join(name)));
    for path in paths {
        match close_one(&path) {
            Ok(None) => {}
            Ok(Some(mode)) => closed.push(format!("{} ({mode:03o})", path.display())),
            Err(reason) => left.push(format!("{} ({reason})", path.display())),
        }
    }
    if !closed.is_empty() {
        tracing::warn!(
            "others could reach into the data directory; now its owner alone can: {}",
            closed.join(", ")
        );
    }
    if !left.is_empty() {
        tracing::warn!(
            "others can reach into the data directory, which holds messages and the key of the \
             guests' cookies. Let a folder that holds nothing else belong to the user who runs this, \
             with mode 0700 and its files with 0600: {}",
            left.join(", ")
        );
    }
}

/// Elsewhere the directory's own rules hold.
#[cfg(not(unix))]
pub(crate) fn close(_: &Path) {}

/// Closes a path to everybody but its owner; gives the mode that it had, if it was open. A link to a
/// directory counts as that directory, one to a file is left: it may lead anywhere.
///
/// # Errors
/// Why it stays open.
#[cfg(unix)]
fn close_one(path: &Path) -> std::result::Result<Option<u32>, String> {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 == 0 {
        return Ok(None);
    }
    let left = |why: &str| Err(format!("mode {mode:03o}, {why}"));
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return left("of another user");
    }
    if metadata.is_dir() {
        if mode & 0o1000 != 0 || holds_folders(path).map_err(|error| error.to_string())? {
            return left("which others use too");
        }
    } else if path.is_symlink() {
        return left("by a link");
    }
    let closed = std::fs::Permissions::from_mode(mode & !0o077);
    if let Err(error) = std::fs::set_permissions(path, closed) {
        return left(&error.to_string());
    }
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.mode() & 0o077 == 0 => Ok(Some(mode)),
        _ => left("as its file system keeps no modes: mount it with a umask of 077"),
    }
}

/// Whether a directory holds folders: then it is not ours alone, and others may need to go through it.
#[cfg(unix)]
fn holds_folders(path: &Path) -> Result<bool> {
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() && entry.file_name() != "lost+found" {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    #[test]
    fn what_a_crash_left_half_written_does_not_open_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let (path, part) = (folder.path().join("a.key"), folder.path().join("a.part"));
        std::fs::write(&part, "half").unwrap();
        std::fs::set_permissions(&part, std::fs::Permissions::from_mode(0o666)).unwrap();
        super::write(&path, b"whole").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"whole");
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert!(!part.exists());
    }
}
