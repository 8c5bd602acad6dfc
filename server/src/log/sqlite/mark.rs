//! The mark: a small file beside the database that holds what was acknowledged last, so that a start
//! notices a database that is behind it.
//!
//! It is written after each commit, before anybody hears of it, and synced at most once in
//! [`SYNC_INTERVAL`]. So it is exact when the process is killed, and behind by that much at most when
//! the machine loses power. It is never ahead: the commit is on disk by then.
//!
//! The file is two slots of [`SLOT_BYTES`], each a line of text and spaces. One slot is written until
//! it is synced, then the other: so one of them is whole, whenever the power fails. The one written
//! later counts.
//!
//! ```text
//! sarangbang-mark 2 write=7 epoch=6f2c… message=900 room=4 base-message=812 base-room=4 crc32=0a1b2c3d
//! ```
//!
//! The base is what the database's own file held by then, without its write-ahead log: an older copy
//! that is put beside a write-ahead log which is not its own is told by that. Version 1 had none.

use std::fs::File;
use std::io::{Error, ErrorKind, Read as _, Result, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::files::{self, Identity};
use crate::data_dir;

/// How often the file is synced at most; by so much it may be behind after a loss of power.
pub(in crate::log) const SYNC_INTERVAL: Duration = Duration::from_secs(1);

/// More than a sector of any disk.
const SLOT_BYTES: usize = 4_096;

const SLOTS: usize = 2;

/// How far the log goes: the newest message's position over all rooms, and the newest room's number;
/// 0 where there is none.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(in crate::log) struct Newest {
    pub(in crate::log) message: i64,
    pub(in crate::log) room: i64,
}

impl Newest {
    /// Whether something of `other` is missing here.
    pub(in crate::log) fn is_behind(self, other: Newest) -> bool {
        self.message < other.message || self.room < other.room
    }
}

/// What the file says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Marked {
    /// Which slot it is, one after the other; the greater one counts.
    write: u64,
    /// Of the log that was acknowledged.
    pub(super) epoch: Uuid,
    /// What was acknowledged of it.
    pub(super) newest: Newest,
    /// What the database holds without its write-ahead log, at the least.
    pub(super) base: Newest,
}

impl Marked {
    fn line(&self) -> String {
        let Marked {
            write,
            epoch,
            newest: Newest { message, room },
            base,
        } = self;
        with_check(format!(
            "sarangbang-mark 2 write={write} epoch={epoch} message={message} room={room} \
             base-message={} base-room={} ",
            base.message, base.room
        ))
    }

    fn slot_bytes(&self) -> Vec<u8> {
        let mut slot = self.line().into_bytes();
        slot.resize(SLOT_BYTES - 1, b' ');
        slot.push(b'\n');
        slot
    }

    fn parse(slot: &[u8]) -> Option<Self> {
        let line = std::str::from_utf8(slot).ok()?.trim_end();
        let (checked, _) = line.rsplit_once("crc32=")?;
        if with_check(checked.to_owned()) != line {
            return None;
        }
        let (version, words) = checked.strip_prefix("sarangbang-mark ")?.split_once(' ')?;
        let mut words = words.split(' ');
        let mut value = |name: &str| words.next()?.strip_prefix(name)?.strip_prefix('=');
        Some(Marked {
            write: value("write")?.parse().ok()?,
            epoch: value("epoch")?.parse().ok()?,
            newest: Newest {
                message: value("message")?.parse().ok()?,
                room: value("room")?.parse().ok()?,
            },
            base: match version {
                "1" => Newest::default(),
                "2" => Newest {
                    message: value("base-message")?.parse().ok()?,
                    room: value("base-room")?.parse().ok()?,
                },
                _ => return None,
            },
        })
    }
}

fn with_check(words: String) -> String {
    let line = words + "crc32=";
    let check = crc32fast::hash(line.as_bytes());
    format!("{line}{check:08x}")
}

/// Reads the file; `None` where there is none.
///
/// # Errors
/// What the system says; [`ErrorKind::InvalidData`] where no slot is whole.
pub(super) fn read(path: &Path) -> Result<Option<Marked>> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(file) => file
            .take((SLOTS * SLOT_BYTES) as u64)
            .read_to_end(&mut bytes)?,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let slots = bytes.chunks(SLOT_BYTES).filter_map(Marked::parse);
    let newest = slots.max_by_key(|marked| marked.write);
    newest
        .map(Some)
        .ok_or_else(|| Error::new(ErrorKind::InvalidData, "nothing in it is whole"))
}

/// The file while the log is open.
pub(in crate::log) struct Mark {
    file: File,
    path: PathBuf,
    identity: Identity,
    /// What it is to say.
    marked: Marked,
    is_synced: bool,
    synced_at: Instant,
}

impl Mark {
    /// Opens the file as it was found, or makes it anew where that was none, or of another epoch.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn open(
        path: &Path,
        found: Option<Marked>,
        epoch: Uuid,
        newest: Newest,
    ) -> Result<Self> {
        match found {
            Some(found) if found.epoch == epoch => Self::take(path, found),
            _ => {
                let write = found.map_or(1, |found| found.write + 1);
                let marked = Marked {
                    write,
                    epoch,
                    newest,
                    base: Newest::default(),
                };
                Self::make(path, marked)
            }
        }
    }

    /// Makes the file anew, on disk.
    fn make(path: &Path, marked: Marked) -> Result<Self> {
        data_dir::write(path, &marked.slot_bytes().repeat(SLOTS))?;
        Self::take(path, marked)
    }

    fn take(path: &Path, marked: Marked) -> Result<Self> {
        Ok(Mark {
            file: data_dir::writable().open(path)?,
            identity: files::identify(path)?,
            path: path.to_owned(),
            marked,
            is_synced: true,
            synced_at: Instant::now(),
        })
    }

    /// Notes that nothing is only in the write-ahead log, and brings that to disk.
    pub(in crate::log) fn note_base(&mut self) -> Result<()> {
        if self.marked.base != self.marked.newest {
            self.marked.base = self.marked.newest;
            self.begin_slot();
        }
        self.sync()
    }

    /// Notes what is on disk by now.
    pub(in crate::log) fn note(&mut self, newest: Newest) -> Result<()> {
        if newest != self.marked.newest {
            self.marked.newest = newest;
            self.begin_slot();
            self.write()?;
        }
        if self.synced_at.elapsed() >= SYNC_INTERVAL {
            self.sync()?;
        }
        Ok(())
    }

    fn begin_slot(&mut self) {
        if self.is_synced {
            // The other one from now on.
            self.marked.write += 1;
        }
        self.is_synced = false;
    }

    fn write(&mut self) -> Result<()> {
        let start = self.marked.write % SLOTS as u64 * SLOT_BYTES as u64;
        self.file.seek(SeekFrom::Start(start))?;
        self.file.write_all(&self.marked.slot_bytes())
    }

    /// Brings to disk what was noted. The file is made again where it was deleted or moved: all that
    /// it says is known.
    pub(in crate::log) fn sync(&mut self) -> Result<()> {
        if files::identify(&self.path).ok() != Some(self.identity) {
            *self = Self::make(&self.path, self.marked)?;
        }
        if self.is_synced {
            return Ok(());
        }
        // A write that failed is made up for.
        self.write()?;
        self.file.sync_data()?;
        self.is_synced = true;
        self.synced_at = Instant::now();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn newest(message: i64) -> Newest {
        Newest { message, room: 3 }
    }

    #[test]
    fn it_says_what_was_noted_last_whichever_slot_a_loss_of_power_tore() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.mark");
        assert_eq!(read(&path).unwrap(), None);
        let epoch = Uuid::new_v4();
        let mut mark = Mark::open(&path, None, epoch, newest(1)).unwrap();
        assert_eq!(read(&path).unwrap().unwrap().newest, newest(1));
        let mut synced = 1;
        for message in 2..20 {
            mark.note(newest(message)).unwrap();
            let found = read(&path).unwrap().unwrap();
            assert_eq!((found.epoch, found.newest), (epoch, newest(message)));
            // Of the slot that is being written one half or the other is there.
            let whole = std::fs::read(&path).unwrap();
            let dirty = mark.marked.write as usize % SLOTS * SLOT_BYTES;
            for torn in [dirty + 30..dirty + SLOT_BYTES, dirty..dirty + 60] {
                let mut bytes = whole.clone();
                bytes[torn].fill(0);
                std::fs::write(&path, bytes).unwrap();
                assert_eq!(read(&path).unwrap().unwrap().newest, newest(synced));
            }
            std::fs::write(&path, whole).unwrap();
            if message % 3 == 0 {
                mark.sync().unwrap();
                synced = message;
            }
        }
        // Opened anew it goes on.
        let found = read(&path).unwrap();
        let mut mark = Mark::open(&path, found, epoch, newest(19)).unwrap();
        mark.note(newest(20)).unwrap();
        assert_eq!(read(&path).unwrap().unwrap().newest, newest(20));
        // And backwards, where that is accepted.
        let found = read(&path).unwrap();
        let other = Uuid::new_v4();
        let mut mark = Mark::open(&path, found, other, newest(4)).unwrap();
        mark.note(newest(5)).unwrap();
        let found = read(&path).unwrap().unwrap();
        assert_eq!((found.epoch, found.newest), (other, newest(5)));
    }

    #[test]
    fn it_is_synced_after_a_second_at_the_latest() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.mark");
        let mut mark = Mark::open(&path, None, Uuid::new_v4(), newest(1)).unwrap();
        mark.note(newest(2)).unwrap();
        mark.synced_at = Instant::now().checked_sub(SYNC_INTERVAL).unwrap();
        mark.note(newest(3)).unwrap();
        assert!(mark.is_synced);
    }

    #[test]
    fn what_is_no_mark_is_told_from_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.mark");
        let good = Marked {
            write: 7,
            epoch: Uuid::new_v4(),
            newest: newest(900),
            base: newest(812),
        };
        assert_eq!(Marked::parse(&good.slot_bytes()), Some(good));
        let Marked { write, epoch, .. } = good;
        let first = format!("sarangbang-mark 1 write={write} epoch={epoch} message=900 room=3 ");
        let base = Newest::default();
        let expected = Some(Marked { base, ..good });
        assert_eq!(Marked::parse(with_check(first).as_bytes()), expected);
        let altered = good.line().replace("message=900", "message=800");
        let newer = with_check(
            good.line()
                .replace("mark 2", "mark 3")
                .replace("crc32=", "x="),
        );
        for bad in ["", "\0\0\0", "sarangbang-mark 2 write=1", &altered, &newer] {
            std::fs::write(&path, bad).unwrap();
            let error = read(&path).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidData, "{bad:?}");
        }
    }
}
