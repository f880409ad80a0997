//! Which events are stale: an open state (`processing`) that arrived after a final one of its entity. A pure function
//! of the log, decided when an event is read, so that the acknowledging commit need not know.

use std::collections::HashMap;

use rusqlite::{Connection, params};

use super::index::{Kind, each_seq, hash};
use super::rows::FINAL;

/// The final events above the index's watermark, as far as they were needed.
#[derive(Default)]
pub(super) struct Tail {
    watermark: i64,
    upto: i64,
    finals: HashMap<i64, Vec<i64>>,
}

/// An event in an open state.
pub(super) struct Open<'a> {
    pub(super) seq: i64,
    pub(super) source_id: i64,
    pub(super) source: &'a str,
    pub(super) key: &'a str,
}

impl Tail {
    /// For each of these events, whether a final event of the same entity and source stands before it.
    pub(super) fn are_stale(&mut self, connection: &Connection, open: &[Open<'_>]) -> rusqlite::Result<Vec<bool>> {
        let mut are_stale = vec![false; open.len()];
        let Some(last) = open.iter().map(|event| event.seq).max() else { return Ok(are_stale) };
        // One for all: with each commit of the writer a new one finds SQLite's page cache empty.
        let _snapshot = connection.unchecked_transaction()?;
        self.extend(connection, last)?;
        let mut places: Vec<(i64, usize)> =
            open.iter().enumerate().map(|(place, event)| (hash(event.source, event.key), place)).collect();
        places.sort_unstable();
        let mut hashes: Vec<i64> = places.iter().map(|&(hash, _)| hash).collect();
        hashes.dedup();
        let mut others = Vec::new();
        for &hash in &hashes {
            others.extend(self.finals.get(&hash).into_iter().flatten().map(|&seq| (hash, seq)));
        }
        each_seq(connection, Kind::Entity, &hashes, |hash, seq| others.push((hash, seq)))?;
        let mut ends_entity = connection.prepare_cached(
            "SELECT 1 FROM events WHERE seq = ?1 AND phase = ?2 AND source_id = ?3 AND entity_key = ?4",
        )?;
        for (hash, other) in others {
            let first = places.partition_point(|&(lower, _)| lower < hash);
            for &(_, place) in places[first..].iter().take_while(|&&(same, _)| same == hash) {
                let event = &open[place];
                if !are_stale[place] && other < event.seq {
                    are_stale[place] = ends_entity.exists(params![other, FINAL, event.source_id, event.key])?;
                }
            }
        }
        Ok(are_stale)
    }

    /// Reads on to `seq`, and lets go of what the index holds by now.
    fn extend(&mut self, connection: &Connection, seq: i64) -> rusqlite::Result<()> {
        if seq <= self.upto {
            return Ok(());
        }
        let watermark: i64 =
            connection.prepare_cached("SELECT watermark FROM index_state")?.query_row([], |row| row.get(0))?;
        if watermark > self.watermark {
            self.watermark = watermark;
            self.upto = self.upto.max(watermark);
            self.finals.retain(|_, seqs| {
                seqs.retain(|&seq| seq > watermark);
                !seqs.is_empty()
            });
        }
        let mut rows = connection.prepare_cached(
            "SELECT e.seq, s.name, e.entity_key FROM events e JOIN sources s ON s.id = e.source_id
             WHERE e.seq > ?1 AND e.seq <= ?2 AND e.phase = ?3 AND e.entity_key IS NOT NULL",
        )?;
        let mut rows = rows.query([self.upto, seq, FINAL])?;
        while let Some(row) = rows.next()? {
            let hash = hash(row.get_ref(1)?.as_str()?, row.get_ref(2)?.as_str()?);
            self.finals.entry(hash).or_default().push(row.get(0)?);
        }
        self.upto = self.upto.max(seq);
        Ok(())
    }
}
