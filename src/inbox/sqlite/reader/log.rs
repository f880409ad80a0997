//! The log as consumers read it.

use std::ops::ControlFlow;

use rusqlite::types::Value;
use rusqlite::{OptionalExtension, Row, params_from_iter};

use super::super::index::Range;
use super::super::job::prune;
use super::super::query::{PAGE, Query};
use super::super::rows::{self, Stored, seq};
use super::super::stale::Open;
use super::{Direction, READ_BYTES, ReadError, Reader, scan};
use crate::inbox::{Altered, EventOutline, Selection, Slice, StoredEvent, Tally, from_micros};
use crate::model::{Digest, EntityKey, EventId, EventType, Seq};

impl Reader {
    /// Walks over a part of the log with its events as consumers get them, in order, in short reads; a slice may be
    /// empty. Events that come in meanwhile are left out.
    pub fn each_selected(
        &mut self,
        selection: &Selection,
        visit: &mut dyn FnMut(Slice) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        let selection = Selection { last: selection.last.min(self.head()?), ..selection.clone() };
        let mut after = before(selection.first);
        while after < selection.last {
            let slice = self.read_selected(&selection, after, PAGE)?;
            after = slice.read_to;
            if visit(slice).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Counts the events of a part of the log, stretch by stretch, without reading their bodies; `visit` is also told up
    /// to where.
    pub fn tally_selected(
        &mut self,
        selection: &Selection,
        visit: &mut dyn FnMut(Vec<Tally>, Seq) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        let Selection { filter, first, last } = selection;
        let (low, high) = (first.get().max(1), last.get().min(self.last_seq()?));
        let (query, pruned) = (Query::tally(filter), prune::reached(&self.connection)?);
        if query.by_index {
            let mut range = Range { low, high, is_backward: false };
            while range.low <= range.high {
                let candidates = self.candidates(filter, range, PAGE)?;
                for place in candidates.seqs {
                    if visit(self.tally(&query, place, place, pruned)?, seq(place)).is_break() {
                        return Ok(());
                    }
                }
                range = candidates.rest;
            }
            return Ok(());
        }
        let (scan, times, mut low) = (scan(filter), self.times(filter)?, low);
        loop {
            low = times.pass(low, Direction::Forward, filter);
            if low > high {
                return Ok(());
            }
            let end = high.min(low.saturating_add(scan - 1));
            if visit(self.tally(&query, low, end, pruned)?, seq(end)).is_break() {
                return Ok(());
            }
            low = end + 1;
        }
    }

    fn tally(&self, query: &Query, low: i64, high: i64, pruned: i64) -> rusqlite::Result<Vec<Tally>> {
        let mut rows = self.connection.prepare_cached(&query.sql)?;
        let bounds = [low, high, pruned].map(Value::from);
        let rows = rows.query_map(params_from_iter(bounds.iter().chain(&query.parameters)), |row| {
            Ok(Tally {
                event_type: row.get::<_, Stored<_>>(0)?.0,
                conflict: row.get(1)?,
                has_body: row.get(2)?,
                count: row.get(3)?,
            })
        })?;
        rows.collect()
    }

    /// Up to `limit` events after `after`, fewer once their bodies pass 8 MiB.
    pub(in super::super) fn read_after(&mut self, after: Seq, limit: usize) -> rusqlite::Result<Slice> {
        let events = self.stored("e.seq > ?1 ORDER BY e.seq", after.get(), limit)?;
        let read_to = events.last().map_or(after, |event| event.seq);
        Ok(Slice { events, read_to })
    }

    /// The same of a selection, fewer also once enough was looked at.
    pub(in super::super) fn read_selected(
        &mut self,
        selection: &Selection,
        after: Seq,
        limit: usize,
    ) -> rusqlite::Result<Slice> {
        let low = after.max(before(selection.first)).get() + 1;
        let high = selection.last.get().min(self.last_seq()?);
        if low > high || limit == 0 {
            let read_to = if limit == 0 { after } else { after.max(seq(high)) };
            return Ok(Slice { events: Vec::new(), read_to });
        }
        let low = self.times(&selection.filter)?.pass(low, Direction::Forward, &selection.filter);
        if low > high {
            return Ok(Slice { events: Vec::new(), read_to: seq(high) });
        }
        let (places, mut read_to) = self.places(selection, low, high, limit)?;
        let (mut events, mut bytes) = (Vec::with_capacity(places.len()), 0);
        for place in places {
            if bytes >= READ_BYTES {
                read_to = events.last().map_or(read_to, |event: &StoredEvent| event.seq.get());
                break;
            }
            let found = self.stored("e.seq = ?1", place, 1)?;
            bytes += found.iter().filter_map(|event| event.body.as_ref()).map(bytes::Bytes::len).sum::<usize>();
            events.extend(found);
        }
        Ok(Slice { events, read_to: seq(read_to) })
    }

    /// Places in a range at which selected events stand, and how far it was looked.
    fn places(
        &mut self,
        selection: &Selection,
        low: i64,
        high: i64,
        limit: usize,
    ) -> rusqlite::Result<(Vec<i64>, i64)> {
        let scan = scan(&selection.filter);
        let query = Query::places(&selection.filter);
        if !query.by_index {
            let high = high.min(low.saturating_add(scan - 1));
            let mut places = self.places_between(&query, low, high)?;
            let is_full = places.len() >= limit.min(PAGE);
            places.truncate(limit);
            let read_to = places.last().filter(|_| is_full).copied().unwrap_or(high);
            return Ok((places, read_to));
        }
        let (mut places, mut looked_at) = (Vec::new(), 0);
        let mut range = Range { low, high, is_backward: false };
        while range.low <= range.high {
            let candidates = self.candidates(&selection.filter, range, limit.min(PAGE))?;
            for place in candidates.seqs {
                places.append(&mut self.places_between(&query, place, place)?);
                looked_at += 1;
                if places.len() >= limit || looked_at >= scan {
                    return Ok((places, place));
                }
            }
            range = candidates.rest;
        }
        Ok((places, high))
    }

    fn places_between(&self, query: &Query, low: i64, high: i64) -> rusqlite::Result<Vec<i64>> {
        let mut rows = self.connection.prepare_cached(&query.sql)?;
        let bounds = [Value::from(low), Value::from(high)];
        let rows = rows.query_map(params_from_iter(bounds.iter().chain(&query.parameters)), |row| row.get(0))?;
        rows.collect()
    }

    /// The given events.
    pub(in super::super) fn read(&mut self, seqs: &[Seq]) -> rusqlite::Result<Vec<StoredEvent>> {
        let mut events = Vec::with_capacity(seqs.len());
        for seq in seqs {
            events.append(&mut self.stored("e.seq = ?1", seq.get(), 1)?);
        }
        Ok(events)
    }

    /// The limit is kept here, not in SQL: a statement with a parameter for its limit is prepared again for each value.
    fn stored(&mut self, condition: &str, parameter: i64, limit: usize) -> rusqlite::Result<Vec<StoredEvent>> {
        self.learn_sources()?;
        let mut found = Vec::new();
        {
            let mut rows = self.connection.prepare_cached(&format!(
                "SELECT e.seq, e.event_id, e.type, e.source_id, e.entity_key, e.event_time, e.received_at, e.conflict,
                        e.signature, e.content_type, e.phase, b.body, e.body_sha256, e.headers
                 FROM events e LEFT JOIN bodies b ON b.seq = e.seq WHERE {condition}"
            ))?;
            let mut rows = rows.query([parameter])?;
            let mut bytes = 0;
            while found.len() < limit
                && bytes < READ_BYTES
                && let Some(row) = rows.next()?
            {
                let event = self.stored_event(row)?;
                bytes += event.0.body.as_ref().map_or(0, bytes::Bytes::len);
                found.push(event);
            }
        }
        self.tell_missing(&mut found)?;
        // After the snapshot of the log was let go of.
        let open = found.iter().enumerate().filter(|(_, (_, _, open))| *open);
        let (places, open): (Vec<_>, Vec<_>) = open
            .map(|(place, (event, source_id, _))| {
                let (source, key) = (event.source.as_str(), event.key.as_str());
                (place, Open { seq: event.seq.get(), source_id: *source_id, source, key })
            })
            .unzip();
        let are_stale = self.tail.are_stale(&self.connection, &open)?;
        for (place, is_stale) in places.into_iter().zip(are_stale) {
            found[place].0.stale = is_stale;
        }
        Ok(found.into_iter().map(|(event, ..)| event).collect())
    }

    /// The given events without their bodies, in order.
    pub(in super::super) fn outlines(&mut self, seqs: &[Seq]) -> rusqlite::Result<Vec<EventOutline>> {
        self.learn_sources()?;
        let mut outline = self.connection.prepare_cached(
            "SELECT event_id, type, source_id, entity_key, received_at, size FROM events WHERE seq = ?1",
        )?;
        let read = |seq: &Seq| {
            let found = outline.query_row([seq.get()], |row| {
                let key: Option<Stored<EntityKey>> = row.get(3)?;
                let id = || row.get::<_, Stored<EventId>>(0).map(|Stored(id)| EntityKey::from(&id));
                Ok(EventOutline {
                    seq: *seq,
                    event_type: row.get::<_, Stored<EventType>>(1)?.0,
                    source: self.source(row.get(2)?)?,
                    key: key.map_or_else(id, |Stored(key)| Ok(key))?,
                    received_at: from_micros(row.get(4)?),
                    size: row.get(5)?,
                })
            });
            found.optional().transpose()
        };
        seqs.iter().filter_map(read).collect()
    }

    /// Marks those without a body that retention cannot have dropped. How far it has come is asked after the bodies were
    /// read, so that what it drops meanwhile is its own.
    fn tell_missing(&mut self, found: &mut [(StoredEvent, i64, bool)]) -> rusqlite::Result<()> {
        let is_missing = |event: &StoredEvent, pruned_to| {
            event.body.is_none() && event.altered.is_none() && event.seq.get() > pruned_to
        };
        if found.iter().any(|(event, ..)| is_missing(event, self.pruned_to)) {
            self.pruned_to = prune::reached(&self.connection)?;
        }
        let missing = found.iter_mut().map(|(event, ..)| event).filter(|event| is_missing(event, self.pruned_to));
        missing.for_each(|event| event.altered = Some(Altered::Missing));
        Ok(())
    }

    fn stored_event(&self, row: &Row<'_>) -> rusqlite::Result<(StoredEvent, i64, bool)> {
        let Stored(id) = row.get(1)?;
        let key: Option<Stored<EntityKey>> = row.get(4)?;
        let open = row.get::<_, i64>(10)? == rows::OPEN && key.is_some();
        let source_id = row.get(3)?;
        let body = row.get::<_, Option<Vec<u8>>>(11)?.map(bytes::Bytes::from);
        let Stored(received): Stored<Digest> = row.get(12)?;
        let altered = body.as_deref().map(Digest::of).filter(|stored| *stored != received).map(Altered::Other);
        let event = StoredEvent {
            seq: seq(row.get(0)?),
            event_type: row.get::<_, Stored<EventType>>(2)?.0,
            source: self.source(source_id)?,
            key: key.map_or_else(|| EntityKey::from(&id), |Stored(key)| key),
            id,
            time: row.get::<_, Option<i64>>(5)?.map(from_micros),
            received_at: from_micros(row.get(6)?),
            stale: false,
            conflict: row.get(7)?,
            signature: row.get(8)?,
            content_type: row.get(9)?,
            content_encoding: rows::content_encoding(row, 13)?,
            body: body.filter(|_| altered.is_none()),
            altered,
        };
        Ok((event, source_id, open))
    }
}

/// The place before one.
fn before(place: Seq) -> Seq {
    seq(place.get() - 1)
}
