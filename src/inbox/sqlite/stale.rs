//! Which events are stale: an open state (`processing`) that arrived after a final one of its entity. A pure function
//! of the log, decided when an event is read, so that the acknowledging commit need not know.

use std::collections::HashMap;

use rusqlite::{Connection, params};

use super::index::{Kind, hash, seqs};
use super::rows::FINAL;

/// The final events above the index's watermark, as far as they were needed.
#[derive(Default)]
pub(super) struct Tail {
    watermark: i64,
    upto: i64,
    finals: HashMap<i64, Vec<i64>>,
}

impl Tail {
    /// Whether a final event of the same entity and source stands before `seq`.
    pub(super) fn is_stale(
        &mut self,
        connection: &Connection,
        seq: i64,
        source: (i64, &str),
        key: &str,
    ) -> rusqlite::Result<bool> {
        let (source_id, source) = source;
        let hash = hash(source, key);
        // The tail first: what leaves it is in the index by then.
        self.extend(connection, seq)?;
        let mut ends_entity = connection.prepare_cached(
            "SELECT 1 FROM events WHERE seq = ?1 AND phase = ?2 AND source_id = ?3 AND entity_key = ?4",
        )?;
        let tail = self.finals.get(&hash).into_iter().flatten().copied();
        for other in tail.chain(seqs(connection, Kind::Entity, hash)?).filter(|&other| other < seq) {
            if ends_entity.exists(params![other, FINAL, source_id, key])? {
                return Ok(true);
            }
        }
        Ok(false)
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
