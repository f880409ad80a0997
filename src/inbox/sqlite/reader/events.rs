//! Lists of events.

use std::ops::ControlFlow;

use rusqlite::types::{Value, ValueRef};
use rusqlite::{Row, params_from_iter};

use super::super::altered;
use super::super::index::{Kind, Range, hash, seqs};
use super::super::query::{ENTITY_KEY, PAGE, Query};
use super::super::rows::{self, Stored, seq};
use super::super::stale::Open;
use super::{Direction, ReadError, Reader, scan};
use crate::inbox::{EventFilter, EventSummary, Stretch, from_micros};
use crate::model::{EntityKey, EventType, Seq, SourceName};

fn is(stored: ValueRef<'_>, event_type: &EventType) -> bool {
    matches!(stored, ValueRef::Text(text) if text == event_type.as_str().as_bytes())
}

impl Reader {
    /// Walks over the events that the filter lets through, from after (or before) `from` on, until `visit` breaks.
    pub fn each_event(
        &mut self,
        filter: &EventFilter,
        direction: Direction,
        from: Option<Seq>,
        visit: &mut dyn FnMut(EventSummary) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        self.each_stretch(filter, direction, from, &mut |stretch| stretch.events.drain(..).try_for_each(&mut *visit))
    }

    /// The same in short stretches of the log; one may hold no such event.
    pub fn each_stretch(
        &mut self,
        filter: &EventFilter,
        direction: Direction,
        from: Option<Seq>,
        visit: &mut dyn FnMut(Stretch<'_>) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        let head = self.head()?.get();
        let begin = from.map_or(if direction == Direction::Forward { 0 } else { head + 1 }, Seq::get);
        let query = Query::new(filter, direction);
        if query.by_index {
            return self.each_candidate(filter, &query, direction, begin, visit);
        }
        let (scan, times) = (scan(filter), self.times(filter)?);
        let (mut at, mut events) = (begin, Vec::new());
        let total = if direction == Direction::Forward { head - begin } else { begin - 1 };
        loop {
            // At most `scan` rows are looked at, and PAGE returned, in one statement.
            let (low, high) = match direction {
                Direction::Forward => {
                    at = times.pass(at + 1, direction, filter) - 1;
                    (at + 1, (at + scan).min(head))
                }
                Direction::Backward => {
                    at = times.pass(at - 1, direction, filter) + 1;
                    ((at - scan).max(1), (at - 1).min(head))
                }
            };
            if low > high {
                return Ok(());
            }
            self.page(&query, low, high, &mut events)?;
            let last = events.last().filter(|_| events.len() == PAGE).map(|event| event.seq.get());
            at = match (last, direction) {
                (Some(last), _) => last,
                (None, Direction::Forward) => high,
                (None, Direction::Backward) => low,
            };
            let (done, total, upto) = (at.abs_diff(begin), total.unsigned_abs(), seq(at));
            let stretch = Stretch { events: &mut events, done, total, upto };
            if visit(stretch).is_break() {
                return Ok(());
            }
        }
    }

    fn each_candidate(
        &mut self,
        filter: &EventFilter,
        query: &Query,
        direction: Direction,
        begin: i64,
        visit: &mut dyn FnMut(Stretch<'_>) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        let is_backward = direction == Direction::Backward;
        let (low, high) = if is_backward { (1, begin - 1) } else { (begin + 1, self.last_seq()?) };
        let (mut range, total) = (Range { low, high, is_backward }, (high - low + 1).max(0).unsigned_abs());
        let mut events = Vec::new();
        while range.low <= range.high {
            let candidates = self.candidates(filter, range, PAGE)?;
            for at in candidates.seqs {
                self.page(query, at, at, &mut events)?;
                let stretch = Stretch { events: &mut events, done: at.abs_diff(begin), total, upto: seq(at) };
                if visit(stretch).is_break() {
                    return Ok(());
                }
            }
            range = candidates.rest;
        }
        Ok(())
    }

    /// Reads the events of a page, in place of those that were there.
    pub(super) fn page(
        &mut self,
        query: &Query,
        low: i64,
        high: i64,
        events: &mut Vec<EventSummary>,
    ) -> rusqlite::Result<()> {
        self.learn_sources()?;
        events.clear();
        let mut open = Vec::new();
        {
            let mut statement = self.connection.prepare_cached(&query.sql)?;
            let bounds = [Value::from(low), Value::from(high)];
            let mut rows = statement.query(params_from_iter(bounds.iter().chain(&query.parameters)))?;
            while let Some(row) = rows.next()? {
                let source_id = row.get(3)?;
                let (event, is_open) = self.summary(row, source_id, events.last())?;
                if is_open {
                    open.push((events.len(), source_id));
                }
                events.push(event);
            }
        }
        self.count_arrivals(events)?;
        self.mark_altered(events)?;
        let asked: Vec<Open<'_>> = open
            .iter()
            .map(|&(place, source_id)| {
                let EventSummary { seq, source, key, .. } = &events[place];
                Open { seq: seq.get(), source_id, source: source.as_str(), key: key.as_str() }
            })
            .collect();
        let are_stale = self.tail.are_stale(&self.connection, &asked)?;
        for ((place, _), is_stale) in open.into_iter().zip(are_stale) {
            events[place].stale = is_stale;
        }
        Ok(())
    }

    /// An event, and whether it may be stale. `last` is the event before it in the list.
    fn summary(
        &self,
        row: &Row<'_>,
        source_id: i64,
        last: Option<&EventSummary>,
    ) -> rusqlite::Result<(EventSummary, bool)> {
        let Stored(id) = row.get(1)?;
        // Most are of the type before.
        let (event_type, category) =
            match last.filter(|last| row.get_ref(2).is_ok_and(|text| is(text, &last.event_type))) {
                Some(last) => (last.event_type.clone(), last.category),
                None => {
                    let Stored(event_type): Stored<EventType> = row.get(2)?;
                    let category = event_type.category();
                    (event_type, category)
                }
            };
        let key: Option<Stored<EntityKey>> = row.get(4)?;
        let is_open = row.get::<_, i64>(11)? == rows::OPEN && key.is_some();
        let summary = EventSummary {
            seq: seq(row.get(0)?),
            event_type,
            category,
            source: self.source(source_id)?,
            key: key.map_or_else(|| EntityKey::from(&id), |Stored(key)| key),
            id,
            state: row.get(5)?,
            time: row.get::<_, Option<i64>>(6)?.map(from_micros),
            received_at: from_micros(row.get(7)?),
            size: row.get(8)?,
            stale: false,
            conflict: row.get(9)?,
            arrivals: 1,
            body_sha256: row.get::<_, Stored<_>>(10)?.0,
            admitted: row.get::<_, i64>(12)? == rows::ADMITTED,
            digest_mismatch: false,
        };
        Ok((summary, is_open))
    }

    /// Adds the duplicates of events: few have some, so they are read by themselves.
    fn count_arrivals(&self, events: &mut [EventSummary]) -> rusqlite::Result<()> {
        self.each_beside(events, "SELECT seq, again FROM arrivals", |event, row| {
            event.arrivals += row.get::<_, u64>(1)?;
            Ok(())
        })
    }

    /// Marks those whose bodies were found not to be what came in, and were not restored: hardly ever are there any.
    fn mark_altered(&self, events: &mut [EventSummary]) -> rusqlite::Result<()> {
        let (mut low, mut high) = (i64::MAX, 0);
        self.each_beside(events, "SELECT seq FROM altered_bodies", |event, _| {
            event.digest_mismatch = true;
            (low, high) = (low.min(event.seq.get()), high.max(event.seq.get()));
            Ok(())
        })?;
        if low > high {
            return Ok(());
        }
        let restored = altered::restored(&self.connection, low, high)?;
        let is_restored = |event: &&mut EventSummary| restored.contains(&event.seq.get());
        events.iter_mut().filter(is_restored).for_each(|event| event.digest_mismatch = false);
        Ok(())
    }

    /// Visits the rows that another table has of these events.
    fn each_beside(
        &self,
        events: &mut [EventSummary],
        select: &str,
        mut visit: impl FnMut(&mut EventSummary, &Row<'_>) -> rusqlite::Result<()>,
    ) -> rusqlite::Result<()> {
        let (Some(one), Some(other)) = (events.first(), events.last()) else { return Ok(()) };
        let (low, high) = (one.seq.min(other.seq), one.seq.max(other.seq));
        let is_forward = one.seq == low;
        let mut rows = self.connection.prepare_cached(&format!("{select} WHERE seq BETWEEN ?1 AND ?2"))?;
        let mut rows = rows.query([low.get(), high.get()])?;
        while let Some(row) = rows.next()? {
            let at = seq(row.get(0)?);
            let place =
                events.binary_search_by(|event| if is_forward { event.seq.cmp(&at) } else { at.cmp(&event.seq) });
            if let Ok(place) = place {
                visit(&mut events[place], row)?;
            }
        }
        Ok(())
    }

    /// The first events of a range that have the filter's id or key, up to `limit`, and what of the range is left. What it
    /// reads follows the limit, not how many there are.
    pub(super) fn candidates(
        &mut self,
        filter: &EventFilter,
        range: Range,
        limit: usize,
    ) -> rusqlite::Result<Candidates> {
        self.learn_sources()?;
        // An event that names no entity is its own, so its key is among the ids.
        let (kinds, column, text) = match (&filter.id, &filter.key) {
            (Some(id), _) => (&[Kind::Id][..], "e.event_id", id),
            (None, Some(key)) => (&[Kind::Entity, Kind::Id][..], ENTITY_KEY, key),
            (None, None) => return Ok(Candidates { seqs: Vec::new(), rest: NOTHING }),
        };
        // First, so that what has left the log's tail by then is found in the index.
        let watermark: i64 =
            self.connection.prepare_cached("SELECT watermark FROM index_state")?.query_row([], |row| row.get(0))?;
        let indexed = Range { high: range.high.min(watermark), ..range };
        let tail = Range { low: range.low.max(watermark + 1), ..range };
        let asked_for = |source: &SourceName| filter.source.as_ref().is_none_or(|name| name == source.as_str());
        let sources = self.sources.values().filter(|source| asked_for(source));
        let places: Vec<(Kind, i64)> =
            sources.flat_map(|source| kinds.iter().map(|&kind| (kind, hash(source.as_str(), text)))).collect();
        let (first, second) = if range.is_backward { (tail, indexed) } else { (indexed, tail) };
        let mut found = Vec::new();
        for (part, is_indexed) in [(first, !range.is_backward), (second, range.is_backward)] {
            let left = limit - found.len();
            if left > 0 && part.low <= part.high {
                match is_indexed {
                    true => found.append(&mut seqs(&self.connection, &places, part, left)?),
                    false => found.append(&mut self.in_tail(column, text, part, left)?),
                }
            }
        }
        let rest = match found.last() {
            Some(&last) if found.len() >= limit => range.after(last),
            Some(_) | None => NOTHING,
        };
        let mut is_it = self.connection.prepare_cached(&format!(
            "SELECT 1 FROM events e JOIN sources s ON s.id = e.source_id
             WHERE e.seq = ?1 AND {column} = ?2 AND s.name = coalesce(?3, s.name)"
        ))?;
        let mut seqs = Vec::with_capacity(found.len());
        for seq in found {
            if is_it.exists((seq, text, &filter.source))? {
                seqs.push(seq);
            }
        }
        Ok(Candidates { seqs, rest })
    }

    /// Those that the index does not have yet.
    fn in_tail(&self, column: &str, text: &str, part: Range, limit: usize) -> rusqlite::Result<Vec<i64>> {
        let order = if part.is_backward { "DESC" } else { "ASC" };
        let mut rows = self.connection.prepare_cached(&format!(
            "SELECT e.seq FROM events e WHERE e.seq BETWEEN ?1 AND ?2 AND {column} = ?3 ORDER BY e.seq {order}"
        ))?;
        let rows = rows.query_map((part.low, part.high, text), |row| row.get(0))?;
        rows.take(limit).collect()
    }

    /// The same, until there are so many.
    pub(super) fn first_candidates(
        &mut self,
        filter: &EventFilter,
        mut range: Range,
        limit: usize,
    ) -> rusqlite::Result<Vec<i64>> {
        let mut seqs = Vec::new();
        while range.low <= range.high && seqs.len() < limit {
            let candidates = self.candidates(filter, range, limit)?;
            seqs.extend(candidates.seqs);
            range = candidates.rest;
        }
        seqs.truncate(limit);
        Ok(seqs)
    }
}

/// Events that have an id or a key.
pub(super) struct Candidates {
    /// In the order of the range.
    pub(super) seqs: Vec<i64>,
    /// What was not looked at.
    pub(super) rest: Range,
}

const NOTHING: Range = Range { low: 1, high: 0, is_backward: false };
