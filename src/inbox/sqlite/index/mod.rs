//! Exact deduplication off the acknowledging commit.
//!
//! Keys above the watermark are in memory. When enough of them have gathered, they are sealed, sorted, and written as a
//! run (see `runs`) in small portions that ride along with later commits (see `upkeep`); the watermark moves in the
//! transaction of the last portion, and only then do the keys leave memory. A crash before that only means that the run
//! is written again: the log above the watermark is read at start. A Bloom filter over the keys of the runs answers
//! "surely new" for nearly all; whatever it lets through, and every hit, is checked against the stored row.

mod filter;
mod runs;
#[cfg(test)]
mod tests;
mod upkeep;

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use rusqlite::Connection;
use sha2::{Digest as _, Sha256};

pub(super) use self::filter::{Filter, Loaded, load};
pub(super) use self::runs::{Kind, each_seq, seqs};
pub(super) use self::upkeep::move_from_tables;
use self::upkeep::{SEAL, Upkeep};
use crate::model::{Digest, EventId};

/// 64 bits of SHA-256 over the source's name and the text. Two texts may share one; it only points to rows.
pub(super) fn hash(source: &str, text: &str) -> i64 {
    let mut sha = Sha256::new();
    sha.update(source);
    sha.update([0]);
    sha.update(text);
    let digest: [u8; 32] = sha.finalize().into();
    i64::from_le_bytes(digest[..8].try_into().expect("a digest has 8 bytes"))
}

/// What the log holds under an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Nothing,
    /// The same bytes, at this seq.
    Same(i64),
    /// Only other bytes.
    Other,
}

/// One new event's keys.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keys {
    pub(super) seq: i64,
    pub(super) id: i64,
    pub(super) entity: Option<i64>,
}

/// The dedup index: memory above the watermark, tables below it.
pub(super) struct Index {
    recent: HashMap<i64, i64>,
    /// Further events under a hash that `recent` holds already: conflicts, and collisions of the hash.
    recent_more: HashMap<i64, Vec<i64>>,
    pending: Vec<Keys>,
    upkeep: Upkeep,
    pub(super) filter: Filter,
}

impl Index {
    /// Reads the keys above the watermark from the log: a bounded number, whatever the size of the log.
    pub(super) fn load(connection: &Connection) -> rusqlite::Result<Self> {
        let watermark: i64 = connection.query_row("SELECT watermark FROM index_state", [], |row| row.get(0))?;
        let filter = if watermark == 0 { Filter::of_empty_index() } else { Filter::unloaded() };
        let mut index = Self {
            recent: HashMap::new(),
            recent_more: HashMap::new(),
            pending: Vec::new(),
            upkeep: Upkeep::new(),
            filter,
        };
        let mut rows = connection.prepare(
            "SELECT e.seq, s.name, e.event_id, e.entity_key FROM events e JOIN sources s ON s.id = e.source_id
             WHERE e.seq > ?1 ORDER BY e.seq",
        )?;
        let mut rows = rows.query([watermark])?;
        while let Some(row) = rows.next()? {
            let source = row.get_ref(1)?.as_str()?;
            let id = hash(source, row.get_ref(2)?.as_str()?);
            let entity = row.get_ref(3)?.as_str_or_null()?.map(|key| hash(source, key));
            index.add(Keys { seq: row.get(0)?, id, entity });
        }
        Ok(index)
    }

    /// What the log holds under an id. Exact: a hash that is found is checked against the row.
    pub(super) fn find(
        &self,
        connection: &Connection,
        hash: i64,
        source_id: i64,
        id: &EventId,
        digest: &Digest,
    ) -> rusqlite::Result<Found> {
        let mut found = Found::Nothing;
        let mut check = |seq: i64| -> rusqlite::Result<bool> {
            let mut row =
                connection.prepare_cached("SELECT source_id, event_id, body_sha256 FROM events WHERE seq = ?1")?;
            row.query_row([seq], |row| {
                let same_id = row.get::<_, i64>(0)? == source_id && row.get_ref(1)?.as_str()? == id.as_str();
                if same_id {
                    let same_body = row.get_ref(2)?.as_blob()? == digest.as_bytes();
                    found = if same_body { Found::Same(seq) } else { Found::Other };
                }
                Ok(matches!(found, Found::Same(_)))
            })
        };
        if let Some(&seq) = self.recent.get(&hash) {
            if check(seq)? {
                return Ok(found);
            }
            for &seq in self.recent_more.get(&hash).into_iter().flatten() {
                if check(seq)? {
                    return Ok(found);
                }
            }
        }
        let below = if self.filter.may_hold(hash) { seqs(connection, Kind::Id, hash)? } else { Vec::new() };
        for seq in self.upkeep.seqs(hash).chain(below) {
            if check(seq)? {
                break;
            }
        }
        Ok(found)
    }

    /// Remembers a new event. [`Self::rolled_back`] takes it back.
    pub(super) fn add(&mut self, keys: Keys) {
        match self.recent.entry(keys.id) {
            Entry::Vacant(first) => _ = first.insert(keys.seq),
            Entry::Occupied(_) => self.recent_more.entry(keys.id).or_default().push(keys.seq),
        }
        self.pending.push(keys);
    }

    /// Does some of the work behind the acknowledgement, in the caller's transaction. [`Self::committed`] or
    /// [`Self::rolled_back`] must follow.
    pub(super) fn work(&mut self, connection: &Connection, new_events: usize) -> rusqlite::Result<()> {
        self.upkeep.work(connection, &mut self.filter, new_events)
    }

    /// After a commit: what has been written leaves memory, and a full set is sealed.
    pub(super) fn committed(&mut self) {
        self.upkeep.committed();
        if self.pending.len() >= SEAL && !self.upkeep.is_sealing() {
            self.upkeep.seal(&self.pending);
            self.pending.clear();
            self.recent.clear();
            self.recent_more.clear();
        }
    }

    /// Takes the newest events back, down to `seq` and without it: they were never committed.
    pub(super) fn rolled_back(&mut self, seq: i64) {
        while let Some(keys) = self.pending.pop_if(|keys| keys.seq > seq) {
            self.forget(keys.id, keys.seq);
        }
        self.upkeep.rolled_back();
    }

    fn forget(&mut self, hash: i64, seq: i64) {
        if self.recent.get(&hash) == Some(&seq) {
            self.recent.remove(&hash);
            if let Some(more) = self.recent_more.remove(&hash) {
                let mut more = more.into_iter();
                self.recent.extend(more.next().map(|first| (hash, first)));
                let rest: Vec<i64> = more.collect();
                if !rest.is_empty() {
                    self.recent_more.insert(hash, rest);
                }
            }
        } else if let Some(more) = self.recent_more.get_mut(&hash) {
            more.retain(|&other| other != seq);
            if more.is_empty() {
                self.recent_more.remove(&hash);
            }
        }
    }
}
