//! Lists of events.

use std::ops::ControlFlow;

use rusqlite::types::Value;
use rusqlite::{Row, params_from_iter};

use super::super::index::{Kind, hash, seqs};
use super::super::query::{ENTITY_KEY, PAGE, Query};
use super::super::rows::{self, Stored, seq};
use super::{Direction, ReadError, Reader, scan};
use crate::inbox::{EventFilter, EventSummary, from_micros};
use crate::model::{EntityKey, EventType, Seq, SourceName};

impl Reader {
    /// Walks over the events that the filter lets through, from after (or before) `from` on, until `visit` breaks.
    pub fn each_event(
        &mut self,
        filter: &EventFilter,
        direction: Direction,
        from: Option<Seq>,
        visit: &mut dyn FnMut(EventSummary) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        let head = self.head()?.get();
        let mut at = from.map_or(if direction == Direction::Forward { 0 } else { head + 1 }, Seq::get);
        let query = Query::new(filter, direction);
        if query.by_index {
            let mut seqs = self.candidates(filter)?;
            seqs.retain(|&seq| if direction == Direction::Forward { seq > at } else { seq < at });
            if direction == Direction::Backward {
                seqs.reverse();
            }
            for seq in seqs {
                for event in self.page(&query, seq, seq)? {
                    if visit(event).is_break() {
                        return Ok(());
                    }
                }
            }
            return Ok(());
        }
        loop {
            // At most `scan` rows are looked at, and PAGE returned, in one statement.
            let scan = scan(filter);
            let (low, high) = match direction {
                Direction::Forward => (at + 1, (at + scan).min(head)),
                Direction::Backward => ((at - scan).max(1), (at - 1).min(head)),
            };
            if low > high {
                return Ok(());
            }
            let events = self.page(&query, low, high)?;
            let full = events.len() == PAGE;
            let last = events.last().map(|event| event.seq.get());
            for event in events {
                if visit(event).is_break() {
                    return Ok(());
                }
            }
            at = match (full, last, direction) {
                (true, Some(last), _) => last,
                (_, _, Direction::Forward) => high,
                (_, _, Direction::Backward) => low,
            };
        }
    }

    pub(super) fn page(&mut self, query: &Query, low: i64, high: i64) -> rusqlite::Result<Vec<EventSummary>> {
        self.learn_sources()?;
        let mut found = Vec::new();
        {
            let mut statement = self.connection.prepare_cached(&query.sql)?;
            let bounds = [Value::from(low), Value::from(high)];
            let mut rows = statement.query(params_from_iter(bounds.iter().chain(&query.parameters)))?;
            while let Some(row) = rows.next()? {
                found.push(self.summary(row)?);
            }
        }
        let mut events = Vec::with_capacity(found.len());
        for (mut event, source_id, open) in found {
            event.stale = open && self.is_stale(event.seq, source_id, &event.source, &event.key)?;
            events.push(event);
        }
        Ok(events)
    }

    fn summary(&self, row: &Row<'_>) -> rusqlite::Result<(EventSummary, i64, bool)> {
        let Stored(id) = row.get(1)?;
        let Stored(event_type): Stored<EventType> = row.get(2)?;
        let key: Option<Stored<EntityKey>> = row.get(4)?;
        let open = row.get::<_, i64>(11)? == rows::OPEN && key.is_some();
        let source_id = row.get(3)?;
        let summary = EventSummary {
            seq: seq(row.get(0)?),
            category: event_type.category(),
            event_type,
            source: self.source(source_id)?,
            key: key.map_or_else(|| EntityKey::from(&id), |Stored(key)| key),
            id,
            state: row.get(5)?,
            time: row.get::<_, Option<i64>>(6)?.map(from_micros),
            received_at: from_micros(row.get(7)?),
            size: row.get(8)?,
            stale: false,
            conflict: row.get(9)?,
            arrivals: row.get(12)?,
            body_sha256: row.get::<_, Stored<_>>(10)?.0,
        };
        Ok((summary, source_id, open))
    }

    /// Seqs that an id or a key may stand at: from the index up to its watermark, and all above it.
    pub(super) fn candidates(&mut self, filter: &EventFilter) -> rusqlite::Result<Vec<i64>> {
        self.learn_sources()?;
        // An event that names no entity is its own, so its key is among the ids.
        let (kinds, column, text) = match (&filter.id, &filter.key) {
            (Some(id), _) => (&[Kind::Id][..], "e.event_id", id),
            (None, Some(key)) => (&[Kind::Entity, Kind::Id][..], ENTITY_KEY, key),
            (None, None) => return Ok(Vec::new()),
        };
        // First, so that what has left the log's tail by then is found in the index.
        let watermark: i64 = self.connection.query_row("SELECT watermark FROM index_state", [], |row| row.get(0))?;
        let mut found = Vec::new();
        let asked_for = |source: &SourceName| filter.source.as_ref().is_none_or(|name| name == source.as_str());
        let mut is_it = self.connection.prepare_cached(&format!(
            "SELECT 1 FROM events e JOIN sources s ON s.id = e.source_id
             WHERE e.seq = ?1 AND {column} = ?2 AND s.name = coalesce(?3, s.name)"
        ))?;
        for source in self.sources.values().filter(|source| asked_for(source)) {
            for &kind in kinds {
                for seq in seqs(&self.connection, kind, hash(source.as_str(), text))? {
                    if is_it.exists((seq, text, &filter.source))? {
                        found.push(seq);
                    }
                }
            }
        }
        let mut rows = self.connection.prepare_cached(&format!(
            "SELECT e.seq FROM events e JOIN sources s ON s.id = e.source_id
             WHERE e.seq > ?1 AND {column} = ?2 AND s.name = coalesce(?3, s.name)"
        ))?;
        let rows = rows.query_map((watermark, text, &filter.source), |row| row.get::<_, i64>(0))?;
        found.append(&mut rows.collect::<rusqlite::Result<Vec<_>>>()?);
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }
}
