//! Browsing the inbox, daemon or no daemon.

mod arrivals;
mod consumers;
mod detail;
mod events;
mod jobs;
mod known;
mod log;
mod quarantine;
mod secrets;
pub(super) mod times;
mod undelivered;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, ErrorCode};

use super::open::{SCHEMA, open_reader, schema_of};
use super::rows::{Stored, seq};
use super::stale::Tail;
use crate::inbox::{Config, EventFilter};
use crate::model::{Seq, SourceName};

pub use self::consumers::ParkedPlace;
#[cfg(test)]
pub(super) use self::detail::{ATTEMPTS, ROUTE};
pub use self::known::{Named, NamesFound};

/// Rows looked at in one read when few of them match.
const SCAN: i64 = 20_000;
/// The same when their bodies are searched, which may be a mebibyte each.
const SEARCH: i64 = 200;
/// Bytes of bodies in one read.
const READ_BYTES: usize = 8 << 20;

/// A read-only connection for browsing. Long walks are made of short reads, so that they never hold up a checkpoint.
pub struct Reader {
    connection: Connection,
    tail: Tail,
    sources: BTreeMap<i64, SourceName>,
    /// The note of times as it was last read.
    noted: Option<(times::Version, Arc<times::Times>)>,
    /// How far pruning had come when that was last asked: it only goes on.
    pruned_to: i64,
}

/// Which way a walk goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Oldest first.
    Forward,
    /// Newest first.
    Backward,
}

/// The inbox could not be opened or read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// No daemon has made it yet, or the path is another.
    #[error("there is no inbox at {0}: start the daemon once, or check inbox.url")]
    Absent(String),
    /// The file has not been brought up to date.
    #[error(
        "the inbox has the form of an older ralio-relay: restart the daemon with this version, which brings it up to \
         date, and try again"
    )]
    Older,
    /// The file has been brought further than this version knows.
    #[error("the inbox was written by a newer ralio-relay: use that version of this command")]
    Newer,
    /// The note of arrival times could not be written.
    #[error("the note of arrival times beside the inbox could not be written")]
    Times(#[source] std::io::Error),
    /// SQLite's words.
    #[error("the inbox could not be read")]
    Sqlite(#[source] rusqlite::Error),
    /// What is in the file is no database any more.
    #[error(
        "the inbox is damaged, or is no inbox: name another file in inbox.url, or stop the daemon and put a backup in its \
         place (README, Backup)"
    )]
    Damaged,
}

impl From<rusqlite::Error> for ReadError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Damaged,
            _ => Self::Sqlite(error),
        }
    }
}

impl Reader {
    /// Opens the file for reading; says so when there is none yet, or when it is of another version.
    pub fn open(config: &Config) -> Result<Self, ReadError> {
        check_there(config)?;
        let reader = Self::open_path(&config.path)?;
        check_schema(&reader.connection)?;
        Ok(reader)
    }

    pub(super) fn open_path(path: &Path) -> rusqlite::Result<Self> {
        let (tail, sources) = (Tail::default(), BTreeMap::new());
        Ok(Self { connection: open_reader(path)?, tail, sources, noted: None, pruned_to: 0 })
    }

    /// The last event, [`Seq::ZERO`] in an empty inbox.
    pub fn head(&self) -> Result<Seq, ReadError> {
        Ok(seq(self.last_seq()?))
    }

    fn last_seq(&self) -> rusqlite::Result<i64> {
        self.connection.query_row("SELECT coalesce(max(seq), 0) FROM events", [], |row| row.get(0))
    }

    /// Holds a snapshot for as long as `meanwhile` takes.
    #[cfg(test)]
    pub(super) fn in_snapshot(&self, meanwhile: impl FnOnce()) -> rusqlite::Result<()> {
        let snapshot = self.connection.unchecked_transaction()?;
        self.last_seq()?;
        meanwhile();
        snapshot.finish()
    }

    /// Counts SQLite's instructions from here on.
    #[cfg(test)]
    pub(super) fn count_instructions(&self) -> Arc<std::sync::atomic::AtomicU64> {
        super::tests::lookups::count_instructions(&self.connection)
    }

    fn learn_sources(&mut self) -> rusqlite::Result<()> {
        let known = i64::try_from(self.sources.len()).unwrap_or(i64::MAX);
        let count: i64 =
            self.connection.prepare_cached("SELECT count(*) FROM sources")?.query_row([], |row| row.get(0))?;
        if count != known {
            let mut rows = self.connection.prepare("SELECT id, name FROM sources")?;
            let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get::<_, Stored<_>>(1)?.0)))?;
            self.sources = rows.collect::<rusqlite::Result<_>>()?;
        }
        Ok(())
    }

    fn source(&self, id: i64) -> rusqlite::Result<SourceName> {
        match self.sources.get(&id) {
            Some(source) => Ok(source.clone()),
            // Its first event came after the others were learnt.
            None => self
                .connection
                .prepare_cached("SELECT name FROM sources WHERE id = ?1")?
                .query_row([id], |row| row.get::<_, Stored<_>>(0).map(|Stored(name)| name)),
        }
    }
}

/// Rows that one read may look at.
fn scan(filter: &EventFilter) -> i64 {
    if filter.search.is_some() { SEARCH } else { SCAN }
}

/// Says so when there is no inbox yet.
pub(super) fn check_there(config: &Config) -> Result<(), ReadError> {
    // Where nobody may look there can be one all the same: that is left for SQLite to say.
    match config.path.try_exists() {
        Ok(false) => Err(ReadError::Absent(config.path.display().to_string())),
        Ok(true) | Err(_) => Ok(()),
    }
}

/// Says so when the inbox has another form than this version works with.
pub(super) fn check_schema(connection: &Connection) -> Result<(), ReadError> {
    match schema_of(connection)? {
        older if older < SCHEMA => Err(ReadError::Older),
        SCHEMA => Ok(()),
        _ => Err(ReadError::Newer),
    }
}
