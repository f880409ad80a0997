//! What a sink has still to get.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use rusqlite::{OptionalExtension, params};

use super::super::query::{PAGE, Query};
use super::super::rows::{DELIVERED, Stored};
use super::{Direction, ReadError, Reader};
use crate::inbox::{
    EventFilter, EventSummary, OldestUndelivered, SinkRecord, Undelivered, UndeliveredType, from_micros,
};
use crate::model::{EventType, told};

/// Events that are looked at for the counts by type: parked ones, and as many after the cursor.
const LOOKED_AT: usize = 20_000;

/// Whether an event after the cursor of a sink is in its ledger already. Lookups by key only.
const IS_DECIDED: &str = "SELECT EXISTS (SELECT 1 FROM parked WHERE sink_id = ?1 AND seq = ?2)
    OR EXISTS (SELECT 1 FROM dead_letters WHERE sink_id = ?1 AND seq = ?2)
    OR EXISTS (SELECT 1 FROM attempts WHERE sink_id = ?1 AND seq = ?2 AND outcome = ?3)";

impl Reader {
    /// What a sink has still to get of the types that it wants. The sink's filter is not asked.
    pub fn undelivered(
        &mut self,
        sink: &SinkRecord,
        wants: &dyn Fn(&EventType) -> bool,
    ) -> Result<Undelivered, ReadError> {
        let mut counts: BTreeMap<String, UndeliveredType> = BTreeMap::new();
        let mut count = |event_type: &EventType, is_parked: bool| {
            let none = || UndeliveredType { event_type: event_type.clone(), parked: 0, waiting: 0 };
            let counted = counts.entry(event_type.as_str().to_owned()).or_insert_with(none);
            *(if is_parked { &mut counted.parked } else { &mut counted.waiting }) += 1;
        };
        let (id, cursor) = (sink.id.get(), sink.cursor.get());
        let parked = self.types(
            "SELECT p.seq, e.type FROM parked p CROSS JOIN events e ON e.seq = p.seq WHERE p.sink_id = ?1 ORDER BY p.seq
             LIMIT ?2",
            id,
        )?;
        let after = self.types("SELECT seq, type FROM events WHERE seq > ?1 ORDER BY seq LIMIT ?2", cursor)?;
        let is_whole = parked.len() < LOOKED_AT && after.len() < LOOKED_AT;
        let mut oldest = parked.first().map(|(seq, _)| *seq);
        parked.iter().for_each(|(_, event_type)| count(event_type, true));
        for (seq, event_type) in after {
            if wants(&event_type) && !self.is_decided(id, seq)? {
                oldest = Some(oldest.map_or(seq, |oldest| oldest.min(seq)));
                count(&event_type, false);
            }
        }
        let mut by_type: Vec<UndeliveredType> = counts.into_values().collect();
        by_type.sort_by_key(|counted| std::cmp::Reverse(counted.parked + counted.waiting));
        let oldest = oldest.map(|seq| self.oldest(id, seq)).transpose()?.flatten();
        Ok(Undelivered { by_type, is_whole, oldest })
    }

    /// Walks over the same events that a filter lets through: first those that are parked, then those after the cursor,
    /// each oldest first.
    pub fn each_undelivered(
        &mut self,
        sink: &SinkRecord,
        wants: &dyn Fn(&EventType) -> bool,
        filter: &EventFilter,
        visit: &mut dyn FnMut(&EventSummary) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        let (id, query, mut page) = (sink.id.get(), Query::new(filter, Direction::Forward), Vec::new());
        let mut after = 0;
        loop {
            let seqs = self.parked_seqs(id, after)?;
            for &seq in &seqs {
                self.page(&query, seq, seq, &mut page)?;
                if page.iter().try_for_each(&mut *visit).is_break() {
                    return Ok(());
                }
            }
            match seqs.last() {
                Some(last) if seqs.len() == PAGE => after = *last,
                Some(_) | None => break,
            }
        }
        let (mut from, head) = (sink.cursor, self.head()?);
        while from < head {
            // One stretch at a time: the ledger is asked between two.
            let mut stretch = Vec::new();
            let mut upto = head;
            self.each_stretch(filter, Direction::Forward, Some(from), &mut |read| {
                stretch.append(read.events);
                upto = read.upto;
                ControlFlow::Break(())
            })?;
            for event in stretch {
                let is_meant = wants(&event.event_type) && !self.is_decided(id, event.seq.get())?;
                if is_meant && visit(&event).is_break() {
                    return Ok(());
                }
            }
            from = upto;
        }
        Ok(())
    }

    fn parked_seqs(&self, sink_id: i64, after: i64) -> rusqlite::Result<Vec<i64>> {
        let sql = format!("SELECT seq FROM parked WHERE sink_id = ?1 AND seq > ?2 ORDER BY seq LIMIT {PAGE}");
        self.connection.prepare_cached(&sql)?.query_map([sink_id, after], |row| row.get(0))?.collect()
    }

    fn types(&self, sql: &str, parameter: i64) -> rusqlite::Result<Vec<(i64, EventType)>> {
        let mut rows = self.connection.prepare_cached(sql)?;
        let rows =
            rows.query_map(params![parameter, LOOKED_AT], |row| Ok((row.get(0)?, row.get::<_, Stored<_>>(1)?.0)))?;
        rows.collect()
    }

    fn is_decided(&self, sink_id: i64, seq: i64) -> rusqlite::Result<bool> {
        self.connection.prepare_cached(IS_DECIDED)?.query_row([sink_id, seq, DELIVERED], |row| row.get(0))
    }

    fn oldest(&mut self, sink_id: i64, seq: i64) -> rusqlite::Result<Option<OldestUndelivered>> {
        let mut page = Vec::new();
        self.page(&Query::new(&EventFilter::default(), Direction::Forward), seq, seq, &mut page)?;
        let Some(event) = page.pop() else { return Ok(None) };
        let parked = self
            .connection
            .prepare_cached("SELECT attempts, next_attempt FROM parked WHERE sink_id = ?1 AND seq = ?2")?
            .query_row([sink_id, seq], |row| Ok((row.get(0)?, from_micros(row.get(1)?))))
            .optional()?;
        let last_error = self
            .connection
            .prepare_cached(
                "SELECT a.note, w.answer FROM attempts a
                 LEFT JOIN answers w ON w.seq = a.seq AND w.sink_id = a.sink_id AND w.n = a.n
                 WHERE a.sink_id = ?1 AND a.seq = ?2 ORDER BY a.n DESC LIMIT 1",
            )?
            .query_row([sink_id, seq], |row| {
                Ok(told(&row.get::<_, String>(0)?, row.get::<_, Option<String>>(1)?.as_deref()))
            })
            .optional()?;
        let (attempts, next_attempt) = parked.map_or((0, None), |(attempts, next)| (attempts, Some(next)));
        Ok(Some(OldestUndelivered { event, attempts, next_attempt, last_error }))
    }
}
