//! Sorted runs of keys, in chunks of about a page: looked up by anyone, written by [`super::upkeep`].

use rusqlite::{Connection, OptionalExtension, params};

/// Keys in a chunk: with its row's other columns they fill a page of 8 KiB.
pub(super) const CHUNK: usize = if cfg!(test) { 8 } else { 500 };
const KEY_BYTES: usize = 16;

/// What a hash is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in super::super) enum Kind {
    /// A source's name and an event's id.
    Id = 1,
    /// A source's name and an entity key.
    Entity = 2,
}

/// Where an event stands that has this hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) hash: i64,
    pub(super) seq: i64,
}

/// `index_runs.state`.
pub(super) const WRITING: i64 = 1;
pub(super) const COMPLETE: i64 = 2;
pub(super) const DROPPED: i64 = 3;

/// A new run without keys.
pub(super) fn begin(connection: &Connection, kind: Kind, level: i64) -> rusqlite::Result<i64> {
    connection.prepare_cached("INSERT INTO index_runs (kind, level, state) VALUES (?1, ?2, ?3)")?.execute(params![
        kind as i64,
        level,
        WRITING
    ])?;
    Ok(connection.last_insert_rowid())
}

/// Adds keys to the end of a run: up to [`CHUNK`], sorted, after all that it has.
pub(super) fn write_chunk(connection: &Connection, run: i64, keys: &[Key]) -> rusqlite::Result<()> {
    let Some(first) = keys.first() else { return Ok(()) };
    let bytes: Vec<u8> =
        keys.iter().flat_map(|key| [key.hash.to_be_bytes(), key.seq.to_be_bytes()]).flatten().collect();
    connection
        .prepare_cached("INSERT INTO index_chunks (run, first_hash, first_seq, keys) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![run, first.hash, first.seq, bytes])?;
    Ok(())
}

pub(super) fn set_state(connection: &Connection, run: i64, state: i64) -> rusqlite::Result<()> {
    connection.prepare_cached("UPDATE index_runs SET state = ?2 WHERE id = ?1")?.execute([run, state]).map(drop)
}

/// A part of the log, and which way it is walked.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Range {
    /// The first and the last place.
    pub(in super::super) low: i64,
    pub(in super::super) high: i64,
    /// The newest first.
    pub(in super::super) is_backward: bool,
}

impl Range {
    /// Everything, oldest first.
    pub(in super::super) const ALL: Self = Self { low: 0, high: i64::MAX, is_backward: false };

    /// What is left of it after this place.
    pub(in super::super) fn after(self, place: i64) -> Self {
        match self.is_backward {
            true => Self { high: place - 1, ..self },
            false => Self { low: place + 1, ..self },
        }
    }

    /// The first so many of these.
    fn cut(self, seqs: &mut Vec<i64>, limit: usize) {
        seqs.sort_unstable();
        if self.is_backward {
            seqs.reverse();
        }
        seqs.dedup();
        seqs.truncate(limit);
    }
}

/// The first seqs of a range that complete runs hold under these hashes, up to `limit`. What it reads follows the limit, not
/// how many there are.
pub(in super::super) fn seqs(
    connection: &Connection,
    places: &[(Kind, i64)],
    range: Range,
    limit: usize,
) -> rusqlite::Result<Vec<i64>> {
    if range.low > range.high || limit == 0 {
        return Ok(Vec::new());
    }
    // Between two snapshots the run that takes the place of another could be missed.
    let _snapshot = connection.is_autocommit().then(|| connection.unchecked_transaction()).transpose()?;
    let mut found = Vec::new();
    for &(kind, hash) in places {
        for run in complete(connection, kind)? {
            let before = found.len();
            let is_inside = |seq: &i64| (range.low..=range.high).contains(seq);
            let take = &mut |keys: &[u8]| {
                let chunk = matches(keys, hash).filter(is_inside);
                match range.is_backward {
                    true => found.extend(chunk.collect::<Vec<_>>().into_iter().rev()),
                    false => found.extend(chunk.take(limit)),
                }
                found.len() - before < limit
            };
            match range.is_backward {
                true => chunks_down(connection, run, hash, range, take)?,
                false => chunks_up(connection, run, hash, range, take)?,
            }
        }
    }
    range.cut(&mut found, limit);
    Ok(found)
}

fn complete(connection: &Connection, kind: Kind) -> rusqlite::Result<Vec<i64>> {
    let mut runs = connection.prepare_cached("SELECT id FROM index_runs WHERE state = 2 AND kind = ?1")?;
    runs.query_map([kind as i64], |row| row.get(0))?.collect()
}

/// The chunks of a run that may hold keys of a hash within a range, in order, for as long as `take` says so.
fn chunks_up(
    connection: &Connection,
    run: i64,
    hash: i64,
    range: Range,
    take: &mut impl FnMut(&[u8]) -> bool,
) -> rusqlite::Result<()> {
    let end = Key { hash, seq: range.high };
    let mut take = |keys: &[u8]| take(keys) && key(keys, keys.len() / KEY_BYTES - 1) <= end;
    let first = connection
        .prepare_cached(
            "SELECT keys, first_hash, first_seq FROM index_chunks WHERE run = ?1 AND (first_hash, first_seq) <= (?2, ?3)
             ORDER BY first_hash DESC, first_seq DESC LIMIT 1",
        )?
        .query_row([run, hash, range.low], |row| Ok((take(row.get_ref(0)?.as_blob()?), row.get(1)?, row.get(2)?)))
        .optional()?;
    let (goes_on, last_hash, last_seq) = first.unwrap_or((true, i64::MIN, i64::MIN));
    if !goes_on {
        return Ok(());
    }
    let mut chunks = connection.prepare_cached(
        "SELECT keys FROM index_chunks WHERE run = ?1 AND (first_hash, first_seq) > (?2, ?3) AND first_hash <= ?4
         ORDER BY first_hash, first_seq",
    )?;
    let mut chunks = chunks.query([run, last_hash, last_seq, hash])?;
    while let Some(row) = chunks.next()? {
        if !take(row.get_ref(0)?.as_blob()?) {
            break;
        }
    }
    Ok(())
}

/// The same from the end of a range down to its beginning.
fn chunks_down(
    connection: &Connection,
    run: i64,
    hash: i64,
    range: Range,
    take: &mut impl FnMut(&[u8]) -> bool,
) -> rusqlite::Result<()> {
    let mut chunks = connection.prepare_cached(
        "SELECT keys FROM index_chunks WHERE run = ?1 AND (first_hash, first_seq) <= (?2, ?3)
         ORDER BY first_hash DESC, first_seq DESC",
    )?;
    let mut chunks = chunks.query([run, hash, range.high])?;
    while let Some(row) = chunks.next()? {
        let keys = row.get_ref(0)?.as_blob()?;
        if !take(keys) || key(keys, 0) < (Key { hash, seq: range.low }) {
            break;
        }
    }
    Ok(())
}

/// Passes on each hash and seq that complete runs hold under one of these hashes after its seq. They are sorted; what comes
/// is of one snapshot, in no order. Hashes of one chunk share its read: of many, that is most of them in all but the largest
/// runs.
pub(in super::super) fn each_seq(
    connection: &Connection,
    hashes_after: &[(i64, i64)],
    mut found: impl FnMut(i64, i64),
) -> rusqlite::Result<()> {
    let _snapshot = connection.is_autocommit().then(|| connection.unchecked_transaction()).transpose()?;
    for run in complete(connection, Kind::Entity)? {
        let mut last_chunk: Vec<u8> = Vec::new();
        for &(hash, after) in hashes_after {
            let mut pass_on = |keys: &[u8]| {
                matches(keys, hash).filter(|&seq| seq > after).for_each(|seq| found(hash, seq));
            };
            if is_inside(&last_chunk, hash) {
                pass_on(&last_chunk);
                continue;
            }
            chunks_up(connection, run, hash, Range { low: after, ..Range::ALL }, &mut |keys| {
                pass_on(keys);
                if hashes_after.len() > 1 {
                    last_chunk.clear();
                    last_chunk.extend_from_slice(keys);
                }
                true
            })?;
        }
    }
    Ok(())
}

/// Whether a hash after the one that this chunk was read for can be in no other.
fn is_inside(keys: &[u8], hash: i64) -> bool {
    let count = keys.len() / KEY_BYTES;
    count > 0 && hash < key(keys, count - 1).hash
}

/// The seqs that a chunk holds under a hash, in order.
fn matches(keys: &[u8], hash: i64) -> impl Iterator<Item = i64> {
    let count = keys.len() / KEY_BYTES;
    let first = partition(count, |place| key(keys, place).hash < hash);
    (first..count).map(|place| key(keys, place)).take_while(move |key| key.hash == hash).map(|key| key.seq)
}

/// The first place at which `before` no longer holds.
fn partition(count: usize, before: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low.midpoint(high);
        if before(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

fn key(keys: &[u8], place: usize) -> Key {
    let number = |at: usize| i64::from_be_bytes(keys[at..at + 8].try_into().expect("eight bytes"));
    Key { hash: number(place * KEY_BYTES), seq: number(place * KEY_BYTES + 8) }
}

/// The keys of a chunk.
pub(super) fn decode(keys: &[u8]) -> impl Iterator<Item = Key> {
    (0..keys.len() / KEY_BYTES).map(|place| key(keys, place))
}

/// The last key of a run.
pub(super) fn last_key(connection: &Connection, run: i64) -> rusqlite::Result<Option<Key>> {
    connection
        .prepare_cached(
            "SELECT keys FROM index_chunks WHERE run = ?1 ORDER BY first_hash DESC, first_seq DESC LIMIT 1",
        )?
        .query_row([run], |row| Ok(decode(row.get_ref(0)?.as_blob()?).last()))
        .optional()
        .map(Option::flatten)
}

/// Drops some chunks of a run, and the run with the last of them; true when that is done.
pub(super) fn drop_some(connection: &Connection, run: i64, chunks: usize) -> rusqlite::Result<bool> {
    let dropped = connection
        .prepare_cached(
            "DELETE FROM index_chunks WHERE id IN (SELECT id FROM index_chunks WHERE run = ?1
             ORDER BY first_hash, first_seq LIMIT ?2)",
        )?
        .execute(params![run, chunks])?;
    let is_gone = dropped < chunks;
    if is_gone {
        connection.prepare_cached("DELETE FROM index_runs WHERE id = ?1")?.execute([run])?;
    }
    Ok(is_gone)
}

/// The keys of a run in order, a chunk in memory at a time.
pub(super) struct Cursor {
    pub(super) run: i64,
    /// Of the last chunk that was read.
    first: Key,
    chunk: std::vec::IntoIter<Key>,
    head: Option<Key>,
}

impl Cursor {
    /// Before the first key after `after`.
    pub(super) fn open(connection: &Connection, run: i64, after: Option<Key>) -> rusqlite::Result<Self> {
        let first = Key { hash: i64::MIN, seq: i64::MIN };
        let mut cursor = Self { run, first, chunk: Vec::new().into_iter(), head: None };
        if let Some(after) = after {
            // The chunk that holds it, or would.
            let chunk = connection
                .prepare_cached(
                    "SELECT first_hash, first_seq, keys FROM index_chunks
                     WHERE run = ?1 AND (first_hash, first_seq) <= (?2, ?3)
                     ORDER BY first_hash DESC, first_seq DESC LIMIT 1",
                )?
                .query_row([run, after.hash, after.seq], read)
                .optional()?;
            cursor.take(chunk);
        }
        cursor.advance(connection)?;
        while cursor.head.is_some_and(|head| Some(head) <= after) {
            cursor.advance(connection)?;
        }
        Ok(cursor)
    }

    pub(super) fn head(&self) -> Option<Key> {
        self.head
    }

    pub(super) fn advance(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        if self.chunk.len() == 0 {
            let chunk = connection
                .prepare_cached(
                    "SELECT first_hash, first_seq, keys FROM index_chunks
                     WHERE run = ?1 AND (first_hash, first_seq) > (?2, ?3) ORDER BY first_hash, first_seq LIMIT 1",
                )?
                .query_row([self.run, self.first.hash, self.first.seq], read)
                .optional()?;
            self.take(chunk);
        }
        self.head = self.chunk.next();
        Ok(())
    }

    fn take(&mut self, chunk: Option<(Key, Vec<Key>)>) {
        if let Some((first, keys)) = chunk {
            self.first = first;
            self.chunk = keys.into_iter();
        }
    }
}

fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<(Key, Vec<Key>)> {
    let first = Key { hash: row.get(0)?, seq: row.get(1)? };
    Ok((first, decode(row.get_ref(2)?.as_blob()?).collect()))
}
