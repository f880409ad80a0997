//! Exact deduplication off the acknowledging commit.
//!
//! Keys above the watermark are in memory ([`Index::recent`]). When enough of them have gathered, they are sealed,
//! sorted, and written to `id_index` and `entity_index` in small portions that ride along with later commits; the
//! watermark moves in the transaction of the last portion, and only then do the keys leave memory. A crash before that
//! only means that the portions are written again: they are idempotent, and the log above the watermark is read at
//! start. A Bloom filter over the indexed keys answers "surely new" for nearly all; whatever it lets through, and
//! every hit, is checked against the stored row.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use rusqlite::{Connection, params};
use sha2::{Digest as _, Sha256};

use super::filter::Filter;
use crate::model::{Digest, EventId};

/// Keys in a sealed set. In memory are at most two sets' worth.
const SEAL: usize = if cfg!(test) { 64 } else { 65_536 };
/// Index rows written along with each new event: more than the two that it adds, so that a set is done long before
/// the next is full.
const PORTION_PER_EVENT: usize = 4;
/// The hash that `id_index` and `entity_index` hold: 64 bits of SHA-256 over the source's name and the text. Two
/// texts may share one; it only points to rows.
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Table {
    Id,
    Entity,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Pointer {
    table: Table,
    hash: i64,
    seq: i64,
}

struct Sealed {
    pointers: Vec<Pointer>,
    written: usize,
    upto: i64,
}

/// How much of the sealed set a transaction wrote.
#[must_use = "the index must learn of the commit"]
pub(super) struct Portion {
    rows: usize,
}

/// The dedup index: memory above the watermark, tables below it.
pub(super) struct Index {
    recent: HashMap<i64, i64>,
    /// Further events under a hash that `recent` holds already: conflicts, and collisions of the hash.
    recent_more: HashMap<i64, Vec<i64>>,
    pending: Vec<Keys>,
    sealed: Option<Sealed>,
    pub(super) filter: Filter,
}

impl Index {
    /// Reads the keys above the watermark from the log: a bounded number, whatever the size of the log.
    pub(super) fn load(connection: &Connection) -> rusqlite::Result<Self> {
        let watermark: i64 = connection.query_row("SELECT watermark FROM index_state", [], |row| row.get(0))?;
        let filter = if watermark == 0 { Filter::of_empty_index() } else { Filter::unloaded() };
        let mut index =
            Self { recent: HashMap::new(), recent_more: HashMap::new(), pending: Vec::new(), sealed: None, filter };
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
        if self.filter.may_hold(hash) {
            let mut rows = connection.prepare_cached("SELECT seq FROM id_index WHERE hash = ?1 ORDER BY seq")?;
            let mut rows = rows.query([hash])?;
            while let Some(row) = rows.next()? {
                if check(row.get(0)?)? {
                    break;
                }
            }
        }
        Ok(found)
    }

    /// Remembers a new event. To be taken back with [`Self::forget_after`] if its transaction rolls back.
    pub(super) fn add(&mut self, keys: Keys) {
        match self.recent.entry(keys.id) {
            Entry::Vacant(first) => _ = first.insert(keys.seq),
            Entry::Occupied(_) => self.recent_more.entry(keys.id).or_default().push(keys.seq),
        }
        self.pending.push(keys);
    }

    /// Forgets the newest events again, down to `seq` and without it: they were never committed.
    pub(super) fn forget_after(&mut self, seq: i64) {
        while let Some(keys) = self.pending.pop_if(|keys| keys.seq > seq) {
            self.forget(keys.id, keys.seq);
        }
    }

    /// Writes the next portion of a sealed set, in the caller's transaction. [`Self::committed`] must follow the
    /// commit; after a rollback the same portion is written again.
    pub(super) fn write_portion(&self, connection: &Connection, new_events: usize) -> rusqlite::Result<Portion> {
        let Some(sealed) = &self.sealed else { return Ok(Portion { rows: 0 }) };
        let rest = &sealed.pointers[sealed.written..];
        let rest = &rest[..rest.len().min(new_events * PORTION_PER_EVENT)];
        for pointer in rest {
            let sql = match pointer.table {
                Table::Id => "INSERT OR IGNORE INTO id_index VALUES (?1, ?2)",
                Table::Entity => "INSERT OR IGNORE INTO entity_index VALUES (?1, ?2)",
            };
            connection.prepare_cached(sql)?.execute(params![pointer.hash, pointer.seq])?;
        }
        if sealed.written + rest.len() == sealed.pointers.len() {
            connection.prepare_cached("UPDATE index_state SET watermark = ?1")?.execute([sealed.upto])?;
        }
        Ok(Portion { rows: rest.len() })
    }

    /// After the commit: the portion is on disk, so its keys may leave memory once their set is complete; and a full
    /// set is sealed.
    pub(super) fn committed(&mut self, portion: Portion) {
        if let Some(sealed) = &mut self.sealed {
            sealed.written += portion.rows;
            if sealed.written == sealed.pointers.len() {
                let done = self.sealed.take().expect("it is there");
                for pointer in done.pointers.iter().filter(|pointer| pointer.table == Table::Id) {
                    self.filter.insert(pointer.hash);
                    self.forget(pointer.hash, pointer.seq);
                }
            }
        }
        if self.sealed.is_none() && self.pending.len() >= SEAL {
            self.seal();
        }
    }

    fn seal(&mut self) {
        let set = std::mem::take(&mut self.pending);
        let upto = set.last().map_or(0, |keys| keys.seq);
        let mut pointers = Vec::with_capacity(set.len() * 2);
        for keys in set {
            pointers.push(Pointer { table: Table::Id, hash: keys.id, seq: keys.seq });
            pointers.extend(keys.entity.map(|hash| Pointer { table: Table::Entity, hash, seq: keys.seq }));
        }
        pointers.sort_unstable();
        self.sealed = Some(Sealed { pointers, written: 0, upto });
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
