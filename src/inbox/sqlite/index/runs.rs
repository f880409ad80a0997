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

/// The seqs that complete runs hold under a hash, in no order.
pub(in super::super) fn seqs(connection: &Connection, kind: Kind, hash: i64) -> rusqlite::Result<Vec<i64>> {
    let mut seqs = Vec::new();
    each_seq(connection, kind, &[hash], |_, seq| seqs.push(seq))?;
    Ok(seqs)
}

/// Passes on each hash and seq that complete runs hold under one of these hashes, which are sorted; of one snapshot, in no
/// order. Hashes of one chunk share its read: of many, that is most of them in all but the largest runs.
pub(in super::super) fn each_seq(
    connection: &Connection,
    kind: Kind,
    hashes: &[i64],
    mut found: impl FnMut(i64, i64),
) -> rusqlite::Result<()> {
    // Between two snapshots the run that takes the place of another could be missed.
    let _snapshot = connection.is_autocommit().then(|| connection.unchecked_transaction()).transpose()?;
    let mut runs = connection.prepare_cached("SELECT id FROM index_runs WHERE state = 2 AND kind = ?1")?;
    let runs: Vec<i64> = runs.query_map([kind as i64], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    let mut chunks = connection.prepare_cached(
        "SELECT keys FROM index_chunks WHERE run = ?1 AND first_hash <= ?2 ORDER BY first_hash DESC, first_seq DESC",
    )?;
    for run in runs {
        let mut last_chunk: Vec<u8> = Vec::new();
        for &hash in hashes {
            if is_inside(&last_chunk, hash) {
                matches(&last_chunk, hash, &mut found);
                continue;
            }
            last_chunk.clear();
            let mut chunks = chunks.query([run, hash])?;
            while let Some(row) = chunks.next()? {
                let keys = row.get_ref(0)?.as_blob()?;
                matches(keys, hash, &mut found);
                if last_chunk.is_empty() && hashes.len() > 1 {
                    last_chunk.extend_from_slice(keys);
                }
                // A chunk that begins with the hash may not be the first that has it.
                if key(keys, 0).hash < hash {
                    break;
                }
            }
        }
    }
    Ok(())
}

/// Whether a hash after the one that this chunk was read for can be in no other.
fn is_inside(keys: &[u8], hash: i64) -> bool {
    let count = keys.len() / KEY_BYTES;
    count > 0 && hash < key(keys, count - 1).hash
}

fn matches(keys: &[u8], hash: i64, found: &mut impl FnMut(i64, i64)) {
    let count = keys.len() / KEY_BYTES;
    let first = partition(count, |place| key(keys, place).hash < hash);
    let same = (first..count).map(|place| key(keys, place)).take_while(|key| key.hash == hash);
    same.for_each(|key| found(hash, key.seq));
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
