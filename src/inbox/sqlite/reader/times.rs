//! When what came in, in brief: the earliest and the latest arrival in each block of the log, so that a search by time
//! passes over the blocks that hold nothing for it. A clock may have been set back or forth at any event, so no order is
//! assumed, and nothing is missed.
//!
//! With it goes how often each secret has signed, in all of these blocks together.
//!
//! The brief stands in a file beside the inbox, made by the daemon behind the acknowledgement. It can be deleted: without
//! it, or beyond its end, every event is looked at.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension};
use serde::{Deserialize, Serialize};

use super::super::rows::{Stored, seq};
use super::secrets::Uses;
use super::{Direction, ReadError, Reader, SCAN};
use crate::files;
use crate::inbox::{Config, EventFilter, micros};
use crate::model::{Digest, Seq};

/// Events in a block.
pub(in super::super) const BLOCK: i64 = if cfg!(test) { 4 } else { 4096 };
/// Blocks that are noted at once: as many events as come in within some seconds, each block read by itself.
const PORTION: usize = if cfg!(test) { 5 } else { 32 };

/// The blocks that are full, from the first on.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(in super::super) struct Times {
    /// The last event, by its body and its arrival: which log this is about.
    last: String,
    /// The earliest and the latest arrival in each, in microseconds, and the bytes of the bodies that came.
    blocks: Vec<(i64, i64, u64)>,
    /// Which secrets signed the events of the blocks.
    uses: Uses,
}

/// The note's file as it was read: inode, time of its last change, length.
pub(super) type Version = (u64, i64, i64, u64);

/// A run of events, by what is noted of them.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Block {
    pub(in super::super) last: i64,
    pub(in super::super) latest: i64,
    pub(in super::super) bytes: u64,
}

impl Times {
    /// The file's contents, if they are about this log; otherwise nothing.
    pub(in super::super) fn load(inbox: &Path, connection: &Connection) -> rusqlite::Result<Self> {
        let noted = fs::read(path(inbox)).ok().and_then(|bytes| serde_json::from_slice::<Self>(&bytes).ok());
        let Some(noted) = noted else { return Ok(Self::default()) };
        let is_of_this_log = event_at(connection, noted.upto())?.is_some_and(|last| last == noted.last);
        Ok(if is_of_this_log { noted } else { Self::default() })
    }

    /// The last event that is noted.
    pub(super) fn upto(&self) -> i64 {
        i64::try_from(self.blocks.len()).unwrap_or(0) * BLOCK
    }

    /// From `place` on, the first place in a block that may hold an event of this time; beyond the blocks, any place.
    pub(in super::super) fn pass_over(
        &self,
        mut place: i64,
        direction: Direction,
        since: Option<i64>,
        until: Option<i64>,
    ) -> i64 {
        while place > 0 {
            let block = (place - 1) / BLOCK;
            let Some(&(earliest, latest, _)) = usize::try_from(block).ok().and_then(|block| self.blocks.get(block))
            else {
                break;
            };
            let is_outside = since.is_some_and(|since| latest < since) || until.is_some_and(|until| earliest >= until);
            if !is_outside {
                break;
            }
            place = if direction == Direction::Forward { (block + 1) * BLOCK + 1 } else { block * BLOCK };
        }
        place
    }

    /// The block that begins at this place.
    pub(in super::super) fn block_at(&self, first: i64) -> Option<Block> {
        let (block, into_it) = ((first - 1) / BLOCK, (first - 1) % BLOCK);
        let &(_, latest, bytes) = usize::try_from(block).ok().and_then(|block| self.blocks.get(block))?;
        (into_it == 0).then_some(Block { last: first + BLOCK - 1, latest, bytes })
    }

    /// After `place`, where to stop reading row by row: the next block may do.
    pub(in super::super) fn stop(&self, place: i64) -> i64 {
        if place < self.upto() { (place / BLOCK + 1) * BLOCK } else { place + SCAN }
    }

    /// Which secrets signed the events that are noted.
    pub(super) fn uses(&self) -> Uses {
        self.uses.clone()
    }

    /// [`Self::pass_over`] with the times of a filter.
    pub(super) fn pass(&self, place: i64, direction: Direction, filter: &EventFilter) -> i64 {
        self.pass_over(place, direction, filter.since.map(micros), filter.until.map(micros))
    }

    /// Notes the next blocks that are full; whether there were some.
    fn extend(&mut self, connection: &Connection, head: i64) -> rusqlite::Result<bool> {
        let before = self.blocks.len();
        while self.upto() + BLOCK <= head && self.blocks.len() < before + PORTION {
            let first = self.upto() + 1;
            let times = connection
                .prepare_cached(
                    "SELECT min(received_at), max(received_at), sum(size) FROM events WHERE seq BETWEEN ?1 AND ?2",
                )?
                .query_row([first, first + BLOCK - 1], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
            self.uses.add(connection, first, first + BLOCK - 1)?;
            self.blocks.push(times);
        }
        if let Some(last) = event_at(connection, self.upto())? {
            self.last = last;
        }
        Ok(self.blocks.len() > before)
    }

    /// Replaces the file. What is there after a power cut is whole, or cannot be read and counts for nothing.
    fn save(&self, inbox: &Path) -> io::Result<()> {
        let (path, new) = (path(inbox), inbox.with_extension("times.new"));
        // A process that has died may have left one.
        _ = fs::remove_file(&new);
        let mut file = files::create(&new)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        fs::rename(new, path)
    }
}

fn path(inbox: &Path) -> PathBuf {
    inbox.with_extension("times")
}

/// What tells an event from all others: a body may come again in a log that was restored, but not at the same moment.
fn event_at(connection: &Connection, place: i64) -> rusqlite::Result<Option<String>> {
    connection
        .prepare_cached("SELECT body_sha256, received_at FROM events WHERE seq = ?1")?
        .query_row([place], |row| {
            let Stored(digest): Stored<Digest> = row.get(0)?;
            Ok(format!("{digest} {}", row.get::<_, i64>(1)?))
        })
        .optional()
}

impl Reader {
    /// Once so many more events have come in, there is something for [`Self::note_times`] to note.
    pub const TIMES_BLOCK: i64 = BLOCK;

    /// Notes when the events that came in meanwhile did, so that searches by time are quick: for the process that holds
    /// the inbox, and a portion at a time. The last event that is noted.
    pub fn note_times(config: &Config) -> Result<Seq, ReadError> {
        let reader = Self::open(config)?;
        let mut times = Times::load(&config.path, &reader.connection)?;
        if times.extend(&reader.connection, reader.last_seq()?)? {
            times.save(&config.path).map_err(ReadError::Times)?;
        }
        Ok(seq(times.upto()))
    }

    /// What is noted, where the filter asks for times.
    pub(super) fn times(&mut self, filter: &EventFilter) -> rusqlite::Result<Arc<Times>> {
        if filter.since.or(filter.until).is_some() { self.all_times() } else { Ok(Arc::default()) }
    }

    /// The note, read again only when it has been replaced.
    pub(super) fn all_times(&mut self) -> rusqlite::Result<Arc<Times>> {
        let Some(inbox) = self.connection.path().map(PathBuf::from) else { return Ok(Arc::default()) };
        let found = fs::metadata(path(&inbox)).ok();
        let version = found.map(|found| (found.ino(), found.mtime(), found.mtime_nsec(), found.len()));
        match (&self.noted, version) {
            (Some((of, times)), Some(version)) if *of == version => Ok(Arc::clone(times)),
            (_, Some(version)) => {
                let times = Arc::new(Times::load(&inbox, &self.connection)?);
                self.noted = Some((version, Arc::clone(&times)));
                Ok(times)
            }
            (_, None) => Ok(Arc::default()),
        }
    }
}
