//! Consumers and their dead letters.

use std::cmp::Reverse;
use std::ops::ControlFlow;

use rusqlite::Row;

use super::super::consumer::{self, STATUS};
use super::super::letters::{self, Of, Table};
use super::super::parked;
use super::super::query::PAGE;
use super::super::rows::{Stored, seq};
use super::{ReadError, Reader};
use crate::inbox::{
    BuildFailure, ConsumerId, DeadLetterRecord, LetterFilter, LetterState, ParkedFilter, ParkedRecord, SinkRecord,
    from_micros,
};
use crate::model::{JobId, Seq, SinkName};

/// Dead letters of one replay that are shown.
const GIVEN_UP: usize = 1_000;

/// A parked event's place in a list: its consumer, and its own place in the log.
pub type ParkedPlace = (ConsumerId, Seq);

/// `build_error` and `build_failed_since`, as [`Reader::sinks`] selects them.
fn build_failure(row: &Row<'_>) -> rusqlite::Result<Option<BuildFailure>> {
    let (error, since): (Option<String>, Option<i64>) = (row.get(5)?, row.get(6)?);
    Ok(error.map(|error| BuildFailure { error, since: from_micros(since.unwrap_or_default()) }))
}

impl Reader {
    /// Whether there is a sink that has this name, or had it before it was renamed.
    pub(in super::super) fn has_sink(&self, name: &SinkName) -> rusqlite::Result<bool> {
        Ok(consumer::live(&self.connection, name)?.is_some())
    }

    /// The sinks' consumers as recorded, by name.
    pub fn sinks(&self) -> Result<Vec<SinkRecord>, ReadError> {
        let mut rows = self.connection.prepare_cached(&format!(
            "SELECT id, name, cursor, delivered, paused_at, build_error, build_failed_since,
                 (SELECT count(*) FROM parked WHERE sink_id = s.id AND seq > s.cursor), created_at,
                 (SELECT coalesce(max(seq), 0) FROM events),
                 (SELECT count(*) FROM parked WHERE sink_id = s.id),
                 (SELECT count(*) FROM dead_letters WHERE sink_id = s.id AND discarded_at IS NULL),
                 former_name,
                 (SELECT min(received_at) FROM events
                  WHERE seq IN (s.cursor + 1, (SELECT min(seq) FROM parked WHERE sink_id = s.id))),
                 {STATUS}
             FROM sinks s WHERE job_id IS NULL AND forgotten_at IS NULL ORDER BY name",
        ))?;
        let record = |row: &Row<'_>| {
            let (cursor, head): (i64, i64) = (row.get(2)?, row.get(9)?);
            Ok(SinkRecord {
                id: ConsumerId::new(row.get(0)?),
                name: row.get::<_, Stored<_>>(1)?.0,
                former_name: row.get::<_, Option<Stored<_>>>(12)?.map(|name| name.0),
                cursor: seq(cursor),
                lag: u64::try_from(head - cursor).unwrap_or_default(),
                parked: row.get(10)?,
                parked_ahead: row.get(7)?,
                dead_letters: row.get(11)?,
                delivered: row.get(3)?,
                paused_since: row.get::<_, Option<i64>>(4)?.map(from_micros),
                standing: consumer::standing(row, 14)?,
                health: consumer::health(row, 17)?,
                build_failure: build_failure(row)?,
                created_at: from_micros(row.get(8)?),
                oldest_waiting: row.get::<_, Option<i64>>(13)?.map(from_micros),
            })
        };
        Ok(rows.query_map([], record)?.collect::<rusqlite::Result<_>>()?)
    }

    /// Walks over the dead letters in these states, newest first, all of them or those with smaller numbers than `below`;
    /// those of replays are left out.
    pub fn each_dead_letter(
        &self,
        filter: &LetterFilter,
        states: &[LetterState],
        below: Option<i64>,
        visit: &mut dyn FnMut(DeadLetterRecord) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        let mut below = below;
        loop {
            let (letters, next) = self.dead_letters_below(filter, states, below)?;
            if letters.into_iter().try_for_each(&mut *visit).is_break() || next.is_none() {
                return Ok(());
            }
            below = next;
        }
    }

    /// One short stretch of the same: those of it that match, newest first, and the number below which it goes on;
    /// `None` at the end.
    pub fn dead_letters_below(
        &self,
        filter: &LetterFilter,
        states: &[LetterState],
        below: Option<i64>,
    ) -> Result<(Vec<DeadLetterRecord>, Option<i64>), ReadError> {
        let (mut letters, mut next) = (Vec::new(), None);
        for &state in states {
            let bounds = (0, below.unwrap_or(i64::MAX));
            let page = letters::page(&self.connection, filter, bounds, Of::Everyone(state), PAGE)?;
            // Of a state with more of them, those below its last one are not known yet.
            next = next.max(page.last().filter(|_| page.len() == PAGE).map(|last| last.record.id));
            letters.extend(page.into_iter().filter(|letter| letter.matches).map(|letter| letter.record));
        }
        letters.retain(|letter| next.is_none_or(|next| letter.id >= next));
        letters.sort_by_key(|letter| Reverse(letter.id));
        Ok((letters, next))
    }

    /// Walks over the parked events of the sinks' own consumers, sink by sink, in the order of the log.
    pub fn each_parked(
        &self,
        filter: &ParkedFilter,
        visit: &mut dyn FnMut(ParkedRecord) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        let mut place = None;
        loop {
            let (events, next) = self.parked_after(filter, place)?;
            if events.into_iter().try_for_each(&mut *visit).is_break() || next.is_none() {
                return Ok(());
            }
            place = next;
        }
    }

    /// One short stretch of the same, after an event of a consumer: those of it that match, and what it goes on after;
    /// `None` at the end.
    pub fn parked_after(
        &self,
        filter: &ParkedFilter,
        after: Option<ParkedPlace>,
    ) -> Result<(Vec<ParkedRecord>, Option<ParkedPlace>), ReadError> {
        let (from, mut place) = after.map_or((0, 0), |(consumer, seq)| (consumer.get(), seq.get()));
        let mut rows = self.connection.prepare_cached(
            "SELECT id, name FROM sinks WHERE id >= ?1 AND job_id IS NULL AND forgotten_at IS NULL ORDER BY id",
        )?;
        let sinks = rows.query_map([from], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let sinks = sinks.collect::<rusqlite::Result<Vec<(i64, String)>>>()?;
        let mut matching = Vec::new();
        let mut room = PAGE;
        for (id, name) in sinks {
            if id != from {
                place = 0;
            }
            if filter.sink.as_ref().is_some_and(|sink| sink.as_str() != name) {
                continue;
            }
            let page = parked::page(&self.connection, filter, id, (place, i64::MAX), room)?;
            let last = page.last().filter(|_| page.len() == room).map(|found| found.record.seq);
            room -= page.len();
            matching.extend(page.into_iter().filter(|found| found.matches).map(|found| found.record));
            if let Some(last) = last {
                return Ok((matching, Some((ConsumerId::new(id), last))));
            }
        }
        Ok((matching, None))
    }

    /// One dead letter, decided about or not.
    pub fn dead_letter(&self, id: i64) -> Result<Option<DeadLetterRecord>, ReadError> {
        let found = self.letters(Table::Letters, "d.id = ?1", id)?.pop();
        let retried = || self.letters(Table::Retried, "d.id = ?1", id);
        Ok(if found.is_some() { found } else { retried()?.pop() })
    }

    /// What a replay has given up, in the order of the log; the first thousand of it.
    pub fn given_up_by(&self, replay: JobId) -> Result<Vec<DeadLetterRecord>, ReadError> {
        match consumer::of_replay(&self.connection, replay)? {
            Some(consumer) => Ok(self.letters(
                Table::Letters,
                &format!("d.sink_id = ?1 ORDER BY d.seq LIMIT {GIVEN_UP}"),
                consumer.id,
            )?),
            None => Ok(Vec::new()),
        }
    }

    fn letters(&self, table: Table, condition: &str, parameter: i64) -> rusqlite::Result<Vec<DeadLetterRecord>> {
        let (columns, from) = letters::select(table);
        let mut rows = self.connection.prepare_cached(&format!("SELECT {columns} FROM {from} WHERE {condition}"))?;
        rows.query_map([parameter], letters::from_row)?.collect()
    }
}
