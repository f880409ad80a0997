//! A Bloom filter over the indexed keys: "surely new" without touching the index.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fastbloom::AtomicBloomFilter;
use rusqlite::{Connection, params};

use super::runs::{COMPLETE, Kind, WRITING, decode};
use crate::inbox::sqlite::open::open_reader;

/// One false "maybe" in a hundred costs one probe of the index.
const FALSE_POSITIVES: f64 = 0.01;
/// The filter is made for at least this many keys (1.2 MB), and for a quarter more than there are.
const MIN_KEYS: usize = if cfg!(test) { 10_000 } else { 1_000_000 };
/// Chunks read at a time, so that no snapshot is held for long.
const CHUNKS: usize = 100;

/// The filter in use, if one is loaded yet, and the one being loaded: together never larger than the ceiling.
pub(in super::super) struct Filter {
    max_bytes: usize,
    /// Keys that the index holds.
    keys: usize,
    ready: Option<Bloom>,
    loading: Option<Bloom>,
}

/// A filter of a fixed size. The loader and the writer add to it at the same time.
#[derive(Clone)]
struct Bloom {
    bits: Arc<AtomicBloomFilter>,
    /// With more keys, one of another size or with fewer hashes is better.
    made_for: usize,
}

impl Bloom {
    /// For so many keys: as large as is worth it, and not larger than allowed. With fewer bits for each key, fewer hashes
    /// of it are the best, down to one.
    fn for_keys(keys: usize, max_bytes: usize) -> Self {
        let capacity = MIN_KEYS.max(keys + keys / 4);
        let max_bits = max_bytes.saturating_mul(8);
        let (bits, made_for) = match bits_for(capacity) {
            bits if bits <= max_bits => (bits, capacity),
            // It cannot grow any more, so only many more keys make it worth while to read them all again.
            _ => (max_bits, keys.max(MIN_KEYS) * 2),
        };
        // At the ceiling the keys on the way from the present number to twice as many are what it has to serve.
        let expected = if made_for == capacity { capacity } else { made_for / 4 * 3 };
        let bits = AtomicBloomFilter::with_num_bits(bits).expected_items(expected);
        Self { bits: Arc::new(bits), made_for }
    }

    fn bytes(&self) -> usize {
        self.bits.num_bits() / 8
    }

    fn insert(&self, hash: i64) {
        self.bits.insert_hash(hash.cast_unsigned());
    }
}

/// Bits with which a filter has the wanted share of false positives.
fn bits_for(keys: usize) -> usize {
    #[expect(clippy::cast_precision_loss, reason = "a size need not be exact")]
    let bits = -(keys as f64) * FALSE_POSITIVES.ln() / std::f64::consts::LN_2.powi(2);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is positive, and fits")]
    let bits = bits.ceil() as usize;
    bits
}

impl Filter {
    /// For an index that holds nothing yet.
    pub(in super::super) fn of_empty_index(max_bytes: u64) -> Self {
        let mut filter = Self::unloaded(0, max_bytes);
        filter.ready = Some(Bloom::for_keys(0, filter.max_bytes));
        filter
    }

    /// For an index that holds so many keys: until a filter is installed, every key may be there.
    pub(in super::super) fn unloaded(keys: usize, max_bytes: u64) -> Self {
        let max_bytes = usize::try_from(max_bytes).unwrap_or(usize::MAX);
        Self { max_bytes, keys, ready: None, loading: None }
    }

    /// False only for a key that the index does not hold.
    pub(in super::super) fn may_hold(&self, hash: i64) -> bool {
        self.ready.as_ref().is_none_or(|filter| filter.bits.contains_hash(hash.cast_unsigned()))
    }

    /// Notes a key that the index holds from now on.
    pub(in super::super) fn insert(&mut self, hash: i64) {
        self.keys += 1;
        // Also in the one that is being loaded: the loader's snapshots may miss it.
        self.ready.iter().chain(&self.loading).for_each(|filter| filter.insert(hash));
    }

    /// A filter that should be loaded now, with [`Load::run`], and then be put in place by [`Self::install`]: at the start,
    /// and when the present one has become too small to be of use.
    pub(in super::super) fn begin_load(&mut self) -> Option<Load> {
        if self.loading.is_some() || self.ready.as_ref().is_some_and(|filter| self.keys <= filter.made_for) {
            return None;
        }
        let in_use = self.ready.as_ref().map_or(0, Bloom::bytes);
        if in_use + bits_for(MIN_KEYS.max(self.keys + self.keys / 4)) / 8 > self.max_bytes {
            // There is no room for both, and the present one says "maybe" to most: every key is looked up for as long as
            // the other is being loaded.
            self.ready = None;
        }
        let loading = Bloom::for_keys(self.keys, self.max_bytes);
        self.loading = Some(loading.clone());
        Some(Load(loading))
    }

    /// Puts the loaded filter in place; if it could not be loaded, the one in use goes on, and another is begun.
    pub(in super::super) fn install(&mut self, is_loaded: bool) {
        if let Some(loaded) = self.loading.take().filter(|_| is_loaded) {
            self.ready = Some(loaded);
        }
    }

    /// Of both.
    #[cfg(test)]
    pub(in super::super) fn bytes(&self) -> usize {
        self.ready.iter().chain(&self.loading).map(Bloom::bytes).sum()
    }
}

/// A filter to be loaded.
pub(in super::super) struct Load(Bloom);

impl Load {
    /// Adds every id that the index holds, in short reads. False when told to stop.
    ///
    /// The writer goes on meanwhile, and adds what it writes by itself. What it merges is in the run that comes out, which
    /// is complete in the moment in which the others are dropped: so once every complete run has been read, no key is missed.
    pub(in super::super) fn run(&self, path: &Path, stop: &AtomicBool) -> rusqlite::Result<bool> {
        let connection = open_reader(path)?;
        let mut runs = connection.prepare(
            "SELECT id FROM index_runs WHERE kind = ?1 AND (state = ?2 OR (state = ?3 AND level = 0)) ORDER BY id",
        )?;
        let mut read = BTreeSet::new();
        loop {
            let found: Vec<i64> = runs
                .query_map([Kind::Id as i64, COMPLETE, WRITING], |row| row.get(0))?
                .collect::<rusqlite::Result<_>>()?;
            let new: Vec<i64> = found.into_iter().filter(|run| read.insert(*run)).collect();
            if new.is_empty() {
                return Ok(true);
            }
            for run in new {
                if !self.add_run(&connection, run, stop)? {
                    return Ok(false);
                }
            }
        }
    }

    fn add_run(&self, connection: &Connection, run: i64, stop: &AtomicBool) -> rusqlite::Result<bool> {
        let mut chunks = connection.prepare_cached(
            "SELECT first_hash, first_seq, keys FROM index_chunks WHERE run = ?1 AND (first_hash, first_seq) > (?2, ?3)
             ORDER BY first_hash, first_seq LIMIT ?4",
        )?;
        let mut last = (i64::MIN, i64::MIN);
        while !stop.load(Ordering::Relaxed) {
            let mut rows = chunks.query(params![run, last.0, last.1, CHUNKS])?;
            let mut read = 0;
            while let Some(row) = rows.next()? {
                last = (row.get(0)?, row.get(1)?);
                read += 1;
                decode(row.get_ref(2)?.as_blob()?).for_each(|key| self.0.insert(key.hash));
            }
            if read < CHUNKS {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As good as random, which hashes are.
    const A: i64 = 0x5851_f42d_4c95_7f2d;
    const B: i64 = -0x1405_7b7e_f767_814f;

    const PLENTY: u64 = 64 << 20;

    #[test]
    fn an_unloaded_filter_may_hold_everything() {
        assert!(Filter::unloaded(1, PLENTY).may_hold(7));
        assert!(!Filter::of_empty_index(PLENTY).may_hold(7));
    }

    #[test]
    fn keys_indexed_during_a_load_are_in_the_new_filter() {
        let mut filter = Filter::unloaded(1, PLENTY);
        assert!(filter.begin_load().is_some());
        assert!(filter.begin_load().is_none(), "one load at a time");
        filter.insert(A);
        filter.install(true);
        assert!(filter.may_hold(A));
        assert!(!filter.may_hold(B));
    }

    #[test]
    fn a_failed_load_is_begun_again() {
        let mut filter = Filter::unloaded(1, PLENTY);
        assert!(filter.begin_load().is_some());
        filter.install(false);
        assert!(filter.may_hold(A));
        assert!(filter.begin_load().is_some());
    }

    /// However many keys there are, also while another filter is loaded; and no key is ever denied.
    #[test]
    fn a_filter_stays_under_its_ceiling_and_is_seldom_loaded() {
        const CEILING: u64 = 64 << 10;
        let key = |n: i64| n.wrapping_mul(A) ^ (n >> 7).wrapping_mul(B);
        let mut filter = Filter::of_empty_index(CEILING);
        let (mut loads, mut shares) = (Vec::new(), Vec::new());
        for n in 1..=1_000_000 {
            filter.insert(key(n));
            if let Some(load) = filter.begin_load() {
                loads.push(n);
                assert!(filter.bytes() as u64 <= CEILING, "{} bytes while loading {n} keys", filter.bytes());
                (1..=n).for_each(|n| load.0.insert(key(n)));
                filter.install(true);
                let wrong = (-10_000..0).filter(|&n| filter.may_hold(key(n))).count();
                shares.push(wrong);
            }
        }
        assert!(filter.bytes() as u64 <= CEILING, "{} bytes", filter.bytes());
        // At the ceiling a load must pay: the keys have doubled since the one before.
        assert!((2..=20).contains(&loads.len()), "{loads:?}");
        let at_ceiling = loads.iter().filter(|&&n| n > 60_000).collect::<Vec<_>>();
        assert!(at_ceiling.windows(2).all(|pair| *pair[1] >= 2 * *pair[0]), "{loads:?}");
        assert!((1..=1_000_000).step_by(97).all(|n| filter.may_hold(key(n))));
        // One in a hundred is wrong until the ceiling is reached, and then more and more.
        let grown = shares.len() - at_ceiling.len();
        assert!(shares[..grown].iter().all(|&wrong| wrong < 200), "{shares:?} of 10,000 at {loads:?}");
        assert!(shares[grown..].is_sorted(), "{shares:?} of 10,000 at {loads:?}");
    }
}
