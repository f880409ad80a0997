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

pub(super) use self::filter::Filter;
pub(super) use self::runs::{Kind, Range, each_seq, seqs};
pub(super) use self::upkeep::move_from_tables;
use self::upkeep::{SEAL, Upkeep};
use super::rows::Stored;
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

/// The same over an id and the body that came under it. Only events whose id was there before have such a key, so that the
/// look-up for the next body does not pass through all of them.
fn body_hash(source: &str, id: &EventId, digest: &Digest) -> i64 {
    hash(source, &format!("{}\0{digest}", id.as_str()))
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
    /// Of its id and its body, where the id was there before.
    pub(super) body: Option<i64>,
}

/// What an event is looked for by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sought<'a> {
    pub(super) source: &'a str,
    pub(super) source_id: i64,
    pub(super) id: &'a EventId,
    pub(super) id_hash: i64,
    pub(super) digest: &'a Digest,
}

impl Sought<'_> {
    /// The key that it has if its id was there before.
    pub(super) fn body_hash(&self) -> i64 {
        body_hash(self.source, self.id, self.digest)
    }

    /// What the event at a place is.
    fn is_at(&self, connection: &Connection, seq: i64) -> rusqlite::Result<Found> {
        let mut row =
            connection.prepare_cached("SELECT source_id, event_id, body_sha256 FROM events WHERE seq = ?1")?;
        row.query_row([seq], |row| {
            let is_id = row.get::<_, i64>(0)? == self.source_id && row.get_ref(1)?.as_str()? == self.id.as_str();
            Ok(match is_id && row.get_ref(2)?.as_blob()? == self.digest.as_bytes() {
                true => Found::Same(seq),
                false if is_id => Found::Other,
                false => Found::Nothing,
            })
        })
    }
}

/// The dedup index: memory above the watermark, tables below it.
pub(super) struct Index {
    recent: HashMap<i64, i64>,
    /// Further events under a hash that `recent` holds already: conflicts, and collisions of the hash.
    recent_more: HashMap<i64, Vec<i64>>,
    pending: Vec<Keys>,
    /// Keys of bodies that were added since the last work.
    bodies: usize,
    /// Up to here, bodies under an id that was there before have no keys: an older version has written them.
    bodies_after: i64,
    upkeep: Upkeep,
    pub(super) filter: Filter,
}

impl Index {
    /// Reads the keys above the watermark from the log: a bounded number, whatever the size of the log.
    pub(super) fn load(connection: &Connection, filter_bytes: u64) -> rusqlite::Result<Self> {
        let (watermark, bodies_after): (i64, _) =
            connection.query_row("SELECT watermark, bodies_after FROM index_state", [], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?;
        // Each event up to the watermark has one key, or few more.
        let filter = match usize::try_from(watermark).unwrap_or_default() {
            0 => Filter::of_empty_index(filter_bytes),
            keys => Filter::unloaded(keys, filter_bytes),
        };
        let mut index = Self {
            recent: HashMap::new(),
            recent_more: HashMap::new(),
            pending: Vec::new(),
            bodies: 0,
            bodies_after,
            upkeep: Upkeep::new(),
            filter,
        };
        let mut rows = connection.prepare(
            "SELECT e.seq, s.name, e.event_id, e.entity_key, e.conflict, e.body_sha256 FROM events e JOIN sources s ON s.id = e.source_id
             WHERE e.seq > ?1 ORDER BY e.seq",
        )?;
        let mut rows = rows.query([watermark])?;
        while let Some(row) = rows.next()? {
            let source = row.get_ref(1)?.as_str()?;
            let id = hash(source, row.get_ref(2)?.as_str()?);
            let entity = row.get_ref(3)?.as_str_or_null()?.map(|key| hash(source, key));
            let body = if row.get(4)? {
                let (Stored(id), Stored(digest)) = (row.get(2)?, row.get(5)?);
                Some(body_hash(source, &id, &digest))
            } else {
                None
            };
            index.add(Keys { seq: row.get(0)?, id, entity, body });
        }
        Ok(index)
    }

    /// What the log holds under an id. Exact: a hash that is found is checked against the row. The number of rows that are
    /// looked at does not grow with the bodies that came under the id.
    pub(super) fn find(&self, connection: &Connection, sought: &Sought<'_>) -> rusqlite::Result<Found> {
        // What is sent again was mostly sent just now.
        if let Some(&seq) = self.recent.get(&sought.id_hash)
            && let same @ Found::Same(_) = sought.is_at(connection, seq)?
        {
            return Ok(same);
        }
        let mut first = 0;
        loop {
            let Some(seq) = self.next(connection, sought.id_hash, first)? else { return Ok(Found::Nothing) };
            first = seq;
            match sought.is_at(connection, seq)? {
                Found::Nothing => {}
                Found::Other => break,
                same @ Found::Same(_) => return Ok(same),
            }
        }
        // Any other body under this id has a key of its own.
        let (body, mut place) = (sought.body_hash(), first);
        while let Some(seq) = self.next(connection, body, place)? {
            place = seq;
            if let same @ Found::Same(_) = sought.is_at(connection, seq)? {
                return Ok(same);
            }
        }
        let of_older_version = Range { low: first + 1, high: self.bodies_after, is_backward: false };
        for seq in seqs(connection, &[(Kind::Id, sought.id_hash)], of_older_version, usize::MAX)? {
            if let same @ Found::Same(_) = sought.is_at(connection, seq)? {
                return Ok(same);
            }
        }
        Ok(Found::Other)
    }

    /// The next place after one that has a hash: in the runs, in the set that is being written, or in memory, which hold
    /// parts of the log in this order.
    fn next(&self, connection: &Connection, hash: i64, after: i64) -> rusqlite::Result<Option<i64>> {
        if self.filter.may_hold(hash) {
            let range = Range { low: after + 1, ..Range::ALL };
            let below = seqs(connection, &[(Kind::Id, hash)], range, 1)?;
            if let Some(&seq) = below.first() {
                return Ok(Some(seq));
            }
        }
        let recent = self.recent.get(&hash).into_iter().chain(self.recent_more.get(&hash).into_iter().flatten());
        Ok(self.upkeep.seqs(hash).chain(recent.copied()).find(|&seq| seq > after))
    }

    /// Remembers a new event. [`Self::rolled_back`] takes it back.
    pub(super) fn add(&mut self, keys: Keys) {
        self.bodies += usize::from(keys.body.is_some());
        for hash in [Some(keys.id), keys.body].into_iter().flatten() {
            match self.recent.entry(hash) {
                Entry::Vacant(first) => _ = first.insert(keys.seq),
                Entry::Occupied(_) => self.recent_more.entry(hash).or_default().push(keys.seq),
            }
        }
        self.pending.push(keys);
    }

    /// Does some of the work behind the acknowledgement, in the caller's transaction. [`Self::committed`] or
    /// [`Self::rolled_back`] must follow.
    pub(super) fn work(&mut self, connection: &Connection, new_events: usize) -> rusqlite::Result<()> {
        // An event has two keys; those of bodies are more.
        let share = new_events + std::mem::take(&mut self.bodies).div_ceil(2);
        self.upkeep.work(connection, &mut self.filter, share)
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
            for hash in [Some(keys.id), keys.body].into_iter().flatten() {
                self.forget(hash, keys.seq);
            }
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
