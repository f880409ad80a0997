//! A Bloom filter over the indexed keys: "surely new" without touching the index.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use fastbloom::BloomFilter;
use rusqlite::{Connection, params};

use super::runs::{Kind, decode};
use crate::inbox::sqlite::open::open_reader;

/// One false "maybe" in a hundred costs one probe of the index.
const FALSE_POSITIVES: f64 = 0.01;
/// The filter is made for at least this many keys (1.2 MB), and for a quarter more than there are.
const MIN_KEYS: usize = 1_000_000;
/// Chunks read at a time, so that no snapshot is held for long.
const CHUNKS: usize = 100;

/// The filter in use, if one is loaded yet, and the one being loaded.
pub(in super::super) struct Filter {
    ready: Option<Loaded>,
    /// Keys indexed while a filter is being made: its snapshots may have missed them.
    since: Option<Vec<i64>>,
}

/// A filter made from the index.
pub(in super::super) struct Loaded {
    bloom: BloomFilter,
    keys: usize,
    capacity: usize,
}

impl Loaded {
    fn for_keys(keys: usize) -> Self {
        let capacity = MIN_KEYS.max(keys + keys / 4);
        Self { bloom: BloomFilter::with_false_pos(FALSE_POSITIVES).expected_items(capacity), keys, capacity }
    }

    /// One of the keys that it was made for.
    fn insert(&mut self, hash: i64) {
        self.bloom.insert_hash(hash.cast_unsigned());
    }

    fn insert_more(&mut self, hash: i64) {
        self.insert(hash);
        self.keys += 1;
    }
}

impl Filter {
    /// For an index that holds nothing yet.
    pub(in super::super) fn of_empty_index() -> Self {
        Self { ready: Some(Loaded::for_keys(0)), since: None }
    }

    /// For an index that holds keys: until a filter is installed, every key may be there.
    pub(in super::super) fn unloaded() -> Self {
        Self { ready: None, since: None }
    }

    /// False only for a key that the index does not hold.
    pub(in super::super) fn may_hold(&self, hash: i64) -> bool {
        self.ready.as_ref().is_none_or(|filter| filter.bloom.contains_hash(hash.cast_unsigned()))
    }

    /// Notes a key that the index holds from now on.
    pub(in super::super) fn insert(&mut self, hash: i64) {
        if let Some(filter) = &mut self.ready {
            filter.insert_more(hash);
        }
        if let Some(since) = &mut self.since {
            since.push(hash);
        }
    }

    /// True when a filter should be made now, with [`load`], and given to [`Self::install`]: at start, and when the
    /// present one has become too small to be of use. From here on, keys are noted for it.
    pub(in super::super) fn begin_load(&mut self) -> bool {
        let small = self.ready.as_ref().is_none_or(|filter| filter.keys > filter.capacity);
        if !small || self.since.is_some() {
            return false;
        }
        self.since = Some(Vec::new());
        true
    }

    /// Puts a filter in place; `None` when it could not be made: the one in use goes on, and a new one is begun.
    pub(in super::super) fn install(&mut self, loaded: Option<Loaded>) {
        let since = self.since.take().unwrap_or_default();
        if let Some(mut loaded) = loaded {
            since.into_iter().for_each(|hash| loaded.insert_more(hash));
            self.ready = Some(loaded);
        }
    }
}

/// Makes a filter from the index, in short reads. `None` when told to stop.
pub(in super::super) fn load(path: &Path, stop: &AtomicBool) -> rusqlite::Result<Option<Loaded>> {
    let connection = open_reader(path)?;
    let mut loaded = Loaded::for_keys(count(&connection)?);
    // Chunks come at the end of the table, those of a merge before those that it replaces go: none is missed.
    let mut last = i64::MIN;
    let mut chunks = connection.prepare(
        "SELECT c.id, c.keys, r.kind FROM index_chunks c JOIN index_runs r ON r.id = c.run
         WHERE c.id > ?1 ORDER BY c.id LIMIT ?2",
    )?;
    while !stop.load(Ordering::Relaxed) {
        let mut rows = chunks.query(params![last, CHUNKS])?;
        let mut read = 0;
        while let Some(row) = rows.next()? {
            last = row.get(0)?;
            read += 1;
            if row.get::<_, i64>(2)? == Kind::Id as i64 {
                decode(row.get_ref(1)?.as_blob()?).for_each(|key| loaded.insert(key.hash));
            }
        }
        if read < CHUNKS {
            return Ok(Some(loaded));
        }
    }
    Ok(None)
}

fn count(connection: &Connection) -> rusqlite::Result<usize> {
    // Each event up to the watermark has one key: close enough to size the filter.
    let watermark: i64 = connection.query_row("SELECT watermark FROM index_state", [], |row| row.get(0))?;
    Ok(usize::try_from(watermark).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As good as random, which hashes are.
    const A: i64 = 0x5851_f42d_4c95_7f2d;
    const B: i64 = -0x1405_7b7e_f767_814f;

    #[test]
    fn an_unloaded_filter_may_hold_everything() {
        assert!(Filter::unloaded().may_hold(7));
        assert!(!Filter::of_empty_index().may_hold(7));
    }

    #[test]
    fn keys_indexed_during_a_load_are_in_the_new_filter() {
        let mut filter = Filter::unloaded();
        assert!(filter.begin_load());
        assert!(!filter.begin_load(), "one load at a time");
        filter.insert(A);
        filter.install(Some(Loaded::for_keys(0)));
        assert!(filter.may_hold(A));
        assert!(!filter.may_hold(B));
    }

    #[test]
    fn a_failed_load_is_begun_again() {
        let mut filter = Filter::unloaded();
        assert!(filter.begin_load());
        filter.install(None);
        assert!(filter.may_hold(A));
        assert!(filter.begin_load());
    }
}
