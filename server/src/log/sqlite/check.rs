//! Reads all of a database, and says what in it is not as it must be.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, Row};
use shared::chat::MessageType;

use super::mark::{self, Marked};
use super::open::{
    MARKED_SINCE, OpenError, check_header, open_reader, read_epoch, read_format, read_newest,
};
use super::writer::from_millis;
use crate::data_dir;

/// The most findings that are told.
const FINDINGS_MAX: usize = 20;

/// How often a line says how far something is.
const TELL_INTERVAL: Duration = Duration::from_secs(1);

/// Checks a database, or that of a data directory with its mark, which may be in use; what is wrong
/// with it, in plain words, nothing where all is well.
///
/// # Errors
/// Why it cannot be read at all.
pub(crate) fn check(data_dir: &Path, file: Option<&Path>) -> Result<Vec<String>, OpenError> {
    match file {
        Some(file) => check_database(file, None),
        None => {
            let path = data_dir.join(data_dir::MARK);
            // First: what is acknowledged meanwhile is not missing.
            let marked = mark::read(&path).map_err(|source| OpenError::Io { path, source })?;
            check_database(&data_dir.join(data_dir::DATABASE), marked)
        }
    }
}

/// As [`check`]; of what is `marked` beside it nothing may be missing.
pub(super) fn check_database(
    path: &Path,
    marked: Option<Marked>,
) -> Result<Vec<String>, OpenError> {
    let failed = |source| OpenError::of(path, source);
    if !check_header(path)? {
        return Err(OpenError::Io {
            path: path.to_owned(),
            source: std::io::Error::new(std::io::ErrorKind::NotFound, "there is no database in it"),
        });
    }
    let connection = open_reader(path).map_err(failed)?;
    let Some(format) = read_format(path, &connection)? else {
        return Err(OpenError::Foreign(path.to_owned()));
    };
    // All of it as it is now, whatever is committed meanwhile.
    connection.execute_batch("BEGIN").map_err(failed)?;
    let mut findings = Findings::default();
    tracing::info!("checking the pages of {}", path.display());
    check_pages(&connection, &mut findings).map_err(failed)?;
    if !findings.is_empty() {
        // What is read from damaged pages says nothing.
        return Ok(findings.told());
    }
    check_messages(&connection, format, &mut findings).map_err(failed)?;
    if format >= MARKED_SINCE {
        check_mark(&connection, marked, &mut findings).map_err(failed)?;
    }
    Ok(findings.told())
}

/// What SQLite itself finds: of its pages, indexes, and the constraints of the tables.
fn check_pages(connection: &Connection, findings: &mut Findings) -> rusqlite::Result<()> {
    let check = format!("PRAGMA integrity_check({FINDINGS_MAX})");
    let mut statement = connection.prepare(&check)?;
    let found = statement.query_map([], |row| row.get::<_, String>(0))?;
    for found in found {
        let found = found?;
        if found != "ok" {
            findings.add(found);
        }
    }
    let mut statement = connection.prepare("PRAGMA foreign_key_check")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (table, number): (String, Option<i64>) = (row.get(0)?, row.get(1)?);
        findings.add(format!(
            "{table} {} belongs to a room that is not there",
            number.unwrap_or_default()
        ));
    }
    Ok(())
}

/// A room, as its messages say.
#[derive(Debug, Default)]
struct Counted {
    newest: i64,
    talks: i64,
    last_talk_at: Option<i64>,
}

/// Reads every message in the order of commits, and holds the rooms against them.
fn check_messages(
    connection: &Connection,
    format: i32,
    findings: &mut Findings,
) -> rusqlite::Result<()> {
    let set_back = match format {
        1 => Vec::new(),
        _ => connection
            .prepare("SELECT position FROM clock_set_back ORDER BY position")?
            .query_map([], |row| row.get::<_, i64>(0))?
            .collect::<rusqlite::Result<Vec<_>>>()?,
    };
    let count = "SELECT count(*) FROM message";
    let count: i64 = connection.query_row(count, [], |row| row.get(0))?;
    let mut rooms: BTreeMap<i64, Counted> = BTreeMap::new();
    let mut statement = connection.prepare(
        "SELECT position, room, seq, type, length(id), typeof(id), sent_at FROM message
         ORDER BY position",
    )?;
    let mut rows = statement.query([])?;
    let mut progress = Progress::new("checked", "messages");
    let mut read = 0;
    let mut before = i64::MIN;
    while let Some(row) = rows.next()? {
        let position: i64 = row.get(0)?;
        before = check_message(row, position, before, &set_back, &mut rooms, findings)?;
        read += 1;
        progress.tell(read, count.unsigned_abs());
    }
    let end = read_newest(connection)?.message + 1;
    if let Some(last) = set_back.last().filter(|last| **last > end) {
        findings.add(format!(
            "the clock was set back at message {last}, and the next one is {end}"
        ));
    }
    check_rooms(connection, &rooms, findings)
}

/// Holds a message against those before it; gives its time.
fn check_message(
    row: &Row<'_>,
    position: i64,
    before: i64,
    set_back: &[i64],
    rooms: &mut BTreeMap<i64, Counted>,
    findings: &mut Findings,
) -> rusqlite::Result<i64> {
    let (number, seq, kind): (i64, i64, i64) = (row.get(1)?, row.get(2)?, row.get(3)?);
    let (id_bytes, id_type): (i64, String) = (row.get(4)?, row.get(5)?);
    let sent_at: i64 = row.get(6)?;
    let mut wrong = |words: String| {
        findings.add(format!(
            "message {position}, the {seq}. of room {number}: {words}"
        ));
    };
    let room = rooms.entry(number).or_default();
    if seq != room.newest + 1 {
        wrong(format!("the one before it in the room is {}", room.newest));
    }
    room.newest = seq.max(room.newest);
    if !(0..=2).contains(&kind) {
        wrong(format!("its type is {kind}; this program knows 0 to 2"));
    }
    if id_bytes != 16 || id_type != "blob" {
        wrong(format!("its id has {id_bytes} bytes, not 16"));
    }
    if from_millis(sent_at).is_err() {
        wrong(format!("its time is {sent_at}, which is none"));
    }
    if sent_at < before && set_back.binary_search(&position).is_err() {
        wrong(format!(
            "its time is {} ms before that of the message before it",
            before - sent_at
        ));
    }
    if kind == MessageType::Talk as i64 {
        room.talks += 1;
        room.last_talk_at = Some(sent_at);
    }
    Ok(sent_at)
}

fn check_rooms(
    connection: &Connection,
    counted: &BTreeMap<i64, Counted>,
    findings: &mut Findings,
) -> rusqlite::Result<()> {
    let mut statement = connection.prepare(
        "SELECT number, end, message_count, last_message_at, length(id), typeof(id) FROM room
         ORDER BY number",
    )?;
    let mut rows = statement.query([])?;
    let none = Counted::default();
    while let Some(row) = rows.next()? {
        let number: i64 = row.get(0)?;
        let found = counted.get(&number).unwrap_or(&none);
        let (end, talks): (i64, i64) = (row.get(1)?, row.get(2)?);
        let last_talk_at: Option<i64> = row.get(3)?;
        let (id_bytes, id_type): (i64, String) = (row.get(4)?, row.get(5)?);
        let mut wrong = |words: String| findings.add(format!("room {number}: {words}"));
        if end != found.newest + 1 {
            wrong(format!(
                "it says that its next message is {end}, and its newest is {}",
                found.newest
            ));
        }
        if talks != found.talks {
            wrong(format!(
                "it counts {talks} messages, and there are {}",
                found.talks
            ));
        }
        if last_talk_at != found.last_talk_at {
            wrong("the time of its newest message is not that message's".to_owned());
        }
        if id_bytes != 16 || id_type != "blob" {
            wrong(format!("its id has {id_bytes} bytes, not 16"));
        }
    }
    Ok(())
}

fn check_mark(
    connection: &Connection,
    marked: Option<Marked>,
    findings: &mut Findings,
) -> rusqlite::Result<()> {
    let epochs: i64 = connection.query_row("SELECT count(*) FROM epoch", [], |row| row.get(0))?;
    if epochs == 0 {
        findings.add("it has no epoch".to_owned());
        return Ok(());
    }
    let Some(Marked { epoch, newest, .. }) = marked else {
        return Ok(());
    };
    let found = read_newest(connection)?;
    if found.is_behind(newest) {
        findings.add(format!(
            "it ends with message {} and room {}, and up to {} and {} was acknowledged",
            found.message, found.room, newest.message, newest.room
        ));
    }
    if read_epoch(connection)? != epoch {
        findings.add(format!("it is of another epoch than {}", data_dir::MARK));
    }
    Ok(())
}

/// What is wrong; past [`FINDINGS_MAX`] only how much.
#[derive(Debug, Default)]
struct Findings {
    told: Vec<String>,
    more: usize,
}

impl Findings {
    fn add(&mut self, words: String) {
        if self.told.len() < FINDINGS_MAX {
            self.told.push(words);
        } else {
            self.more += 1;
        }
    }

    fn is_empty(&self) -> bool {
        self.told.is_empty()
    }

    fn told(mut self) -> Vec<String> {
        if self.more > 0 {
            self.told.push(format!("and {} more like these", self.more));
        }
        self.told
    }
}

/// Says in the log, once in a while, how far something is.
pub(super) struct Progress {
    verb: &'static str,
    unit: &'static str,
    told_at: Instant,
}

impl Progress {
    pub(super) fn new(verb: &'static str, unit: &'static str) -> Self {
        Progress {
            verb,
            unit,
            told_at: Instant::now(),
        }
    }

    pub(super) fn tell(&mut self, done: u64, all: u64) {
        // A look at the clock for each message would cost as much as the message.
        if done.is_multiple_of(1_024) && self.told_at.elapsed() >= TELL_INTERVAL {
            self.told_at = Instant::now();
            tracing::info!("{} {done} of {all} {}", self.verb, self.unit);
        }
    }
}
