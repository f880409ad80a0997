//! Which bodies retention may drop, and dropping them. One answer for the task and for its dry run.

use std::path::Path;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::super::answers;
use super::super::consumer;
use super::super::fault::Fault;
use super::super::reader::Direction;
use super::super::reader::times::{Block, Times};
use super::super::rows::seq;
use super::items::{self, Item};
use super::{PORTION, PORTION_BYTES, Step, Stored, counted};
use crate::inbox::{Task, micros};
use crate::model::SinkName;

/// Runs of young events that one page passes over.
const MAX_PASSES: usize = 64;
/// Events that are looked at for the end of such a run: some milliseconds.
const SCAN: i64 = if cfg!(test) { 16 } else { 10_000 };

/// What bodies must stay for, as it is now.
pub(in super::super) struct Prunable {
    before: i64,
    /// The lowest cursor of the sinks.
    upto: i64,
    /// Whose parked events and dead letters hold bodies, as JSON.
    consumers: String,
    /// What replays have still to read.
    replays: Vec<(i64, i64)>,
    /// The sink that has no place in the log yet, and so may need everything.
    unborn: Option<SinkName>,
    /// Sinks that are not configured, with their cursors: they hold no body.
    removed: Vec<(String, i64)>,
}

/// A body that was looked at.
pub(in super::super) struct Body {
    seq: i64,
    pub(in super::super) bytes: u64,
    /// Nothing needs it any more.
    pub(in super::super) may_go: bool,
}

/// Bodies that were looked at, from one place in the log to another.
pub(in super::super) struct Page {
    pub(in super::super) bodies: Vec<Body>,
    /// Where the next page begins.
    pub(in super::super) place: i64,
    /// Whether there is none.
    pub(in super::super) is_last: bool,
}

/// Bodies that may go, counted.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Counted {
    pub(in super::super) bodies: u64,
    pub(in super::super) bytes: u64,
    /// The last event that was looked at.
    pub(in super::super) place: i64,
    /// Whether there are no more.
    pub(in super::super) is_last: bool,
}

impl Prunable {
    pub(in super::super) fn load(
        connection: &Connection,
        before: Timestamp,
        sinks: &[SinkName],
    ) -> rusqlite::Result<Self> {
        let mut upto = connection.query_row("SELECT coalesce(max(seq), 0) FROM events", [], |row| row.get(0))?;
        let (mut unborn, mut configured) = (None, Vec::new());
        for sink in sinks {
            match consumer::meant(connection, sink, sinks)? {
                Some((found, _)) => {
                    configured.push(found.id);
                    upto = found.cursor.min(upto);
                }
                None => (upto, unborn) = (0, Some(sink.clone())),
            }
        }
        // Also those of sinks that are not configured now: they may come back, and people decide about their dead letters.
        let mut rows = connection.prepare_cached("SELECT id FROM sinks WHERE job_id IS NULL")?;
        let mut consumers: Vec<i64> = rows.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        let mut replays = Vec::new();
        for job in super::open(connection, |_, _| {})? {
            let Task::Replay { selection, .. } = job.task else { continue };
            replays.push(match consumer::of_replay(connection, job.id)? {
                Some(found) => {
                    consumers.push(found.id);
                    (found.cursor, found.last_seq.unwrap_or(i64::MAX))
                }
                None => (selection.first.get() - 1, selection.last.get()),
            });
        }
        let consumers = format!("{consumers:?}");
        let removed = removed(connection, &configured)?;
        Ok(Self { before: micros(before), upto, consumers, replays, unborn, removed })
    }

    /// How many bodies from `low` on may go, and their bytes, without reading bodies: up to the end of a noted block, or
    /// at most to `high`. Only beyond [`reached`], where every event has its body. `None` where something may need one of
    /// them: then [`Self::page`] tells.
    pub(in super::super) fn count(
        &self,
        connection: &Connection,
        noted: Option<Block>,
        low: i64,
        high: i64,
    ) -> rusqlite::Result<Option<Counted>> {
        let noted = noted.filter(|block| block.latest < self.before && block.last <= self.upto);
        let high = noted.map_or(high.min(self.upto), |block| block.last);
        let counted = Counted { bodies: 0, bytes: 0, place: high, is_last: high >= self.upto };
        if low > high {
            return Ok(Some(counted));
        }
        let is_replayed = self.replays.iter().any(|&(cursor, last)| cursor < high && low <= last);
        let is_held =
            connection.prepare_cached(HELD)?.query_row(params![low, high, self.consumers], |row| row.get(0))?;
        if is_replayed || is_held {
            return Ok(None);
        }
        if let Some(block) = noted {
            return Ok(Some(Counted { bodies: high.abs_diff(low) + 1, bytes: block.bytes, ..counted }));
        }
        let mut rows = connection
            .prepare_cached("SELECT size, received_at FROM events WHERE seq BETWEEN ?1 AND ?2 ORDER BY seq")?;
        let mut rows = rows.query([low, high])?;
        let mut counted = counted;
        while let Some(row) = rows.next()? {
            if row.get::<_, i64>(1)? >= self.before {
                continue;
            }
            counted.bodies += 1;
            counted.bytes += row.get::<_, u64>(0)?;
        }
        Ok(Some(counted))
    }

    /// The next bodies after `place` that are old enough. A clock may have been wrong at any event, so one that is too
    /// young says nothing of those behind it.
    pub(in super::super) fn page(
        &self,
        connection: &Connection,
        place: i64,
        limit: usize,
        max_bytes: u64,
    ) -> rusqlite::Result<Page> {
        let mut page = Page { bodies: Vec::new(), place, is_last: false };
        let mut from = place;
        for _ in 0..MAX_PASSES {
            let Some(young) = self.old_bodies(connection, from, limit, max_bytes, &mut page)? else { break };
            match self.pass_over_young(connection, young)? {
                Next::Old(before) => from = before,
                // The place stays at the last body that was old: beyond it nothing has been dropped.
                Next::End => {
                    page.is_last = true;
                    break;
                }
                Next::Unknown(looked_at) => {
                    page.place = looked_at;
                    break;
                }
            }
            page.place = page.place.max(from);
        }
        Ok(page)
    }

    /// Adds bodies up to the first that is too young, which is the answer; `None` where the page is full, or the last.
    fn old_bodies(
        &self,
        connection: &Connection,
        from: i64,
        limit: usize,
        max_bytes: u64,
        page: &mut Page,
    ) -> rusqlite::Result<Option<i64>> {
        let mut rows = connection.prepare_cached(PAGE)?;
        let mut rows = rows.query(params![from, self.upto, self.consumers])?;
        let mut bytes: u64 = page.bodies.iter().filter(|body| body.may_go).map(|body| body.bytes).sum();
        while page.bodies.len() < limit && bytes < max_bytes {
            let Some(row) = rows.next()? else {
                page.is_last = true;
                break;
            };
            let seq = row.get(0)?;
            if row.get::<_, i64>(2)? >= self.before {
                return Ok(Some(seq));
            }
            let is_needed = row.get::<_, bool>(3)?
                || row.get::<_, bool>(4)?
                || self.replays.iter().any(|&(cursor, last)| seq > cursor && seq <= last);
            let body = Body { seq, bytes: row.get(1)?, may_go: !is_needed };
            bytes += if body.may_go { body.bytes } else { 0 };
            page.place = seq;
            page.bodies.push(body);
        }
        Ok(None)
    }

    /// Where the next old event stands after one that is too young: whole blocks are passed over by their noted times.
    fn pass_over_young(&self, connection: &Connection, young: i64) -> rusqlite::Result<Next> {
        let times = match connection.path() {
            Some(path) => Times::load(Path::new(path), connection)?,
            None => Times::default(),
        };
        let low = times.pass_over(young, Direction::Forward, None, Some(self.before));
        let high = self.upto.min(low.saturating_add(SCAN - 1));
        let old: Option<i64> = connection
            .prepare_cached(
                "SELECT seq FROM events WHERE seq BETWEEN ?1 AND ?2 AND received_at < ?3 ORDER BY seq LIMIT 1",
            )?
            .query_row([low, high, self.before], |row| row.get(0))
            .optional()?;
        Ok(match old {
            Some(old) => Next::Old(old - 1),
            None if high >= self.upto => Next::End,
            None => Next::Unknown(high),
        })
    }
}

/// What stands behind an event that is too young.
enum Next {
    /// An old one, after this place.
    Old(i64),
    /// None that is old.
    End,
    /// None up to this place.
    Unknown(i64),
}

/// The sinks other than these, with their cursors.
fn removed(connection: &Connection, configured: &[i64]) -> rusqlite::Result<Vec<(String, i64)>> {
    let mut rows = connection.prepare_cached(
        "SELECT name, cursor FROM sinks WHERE job_id IS NULL AND forgotten_at IS NULL
             AND id NOT IN (SELECT value FROM json_each(?1)) ORDER BY name",
    )?;
    rows.query_map([format!("{configured:?}")], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

/// Whether a range holds a parked event or an open dead letter of one of these consumers.
const HELD: &str = "SELECT
        EXISTS (SELECT 1 FROM json_each(?3) c CROSS JOIN parked p ON p.sink_id = c.value AND p.seq BETWEEN ?1 AND ?2)
        OR EXISTS (SELECT 1 FROM json_each(?3) c
                   CROSS JOIN dead_letters d ON d.sink_id = c.value AND d.seq BETWEEN ?1 AND ?2
                   WHERE d.discarded_at IS NULL)";

/// How far pruning has ever come: nothing else drops bodies, so every event beyond has its own.
pub(in super::super) fn reached(connection: &Connection) -> rusqlite::Result<i64> {
    let furthest = "SELECT coalesce(max(place), 0) FROM jobs WHERE json_extract(task, '$.task') = 'prune'";
    connection.query_row(furthest, [], |row| row.get(0))
}

/// Lookups by key only: `bodies` is walked from a place, everything else is found by the event.
pub(in super::super) const PAGE: &str = "SELECT b.seq, e.size, e.received_at,
        EXISTS (SELECT 1 FROM json_each(?3) c CROSS JOIN parked p ON p.sink_id = c.value AND p.seq = b.seq),
        EXISTS (SELECT 1 FROM json_each(?3) c CROSS JOIN dead_letters d ON d.sink_id = c.value AND d.seq = b.seq
                WHERE d.discarded_at IS NULL)
    FROM bodies b CROSS JOIN events e ON e.seq = b.seq
    WHERE b.seq > ?1 AND b.seq <= ?2 ORDER BY b.seq";

pub(super) fn prune(
    connection: &Connection,
    stored: &Stored,
    before: Timestamp,
    sinks: &[SinkName],
) -> Result<Step, Fault> {
    let prunable = Prunable::load(connection, before, sinks)?;
    let page = prunable.page(connection, stored.job.place, PORTION, PORTION_BYTES)?;
    let mut step = Step { place: page.place, ..Step::default() };
    for body in page.bodies.iter().filter(|body| body.may_go) {
        connection.prepare_cached("DELETE FROM bodies WHERE seq = ?1")?.execute([body.seq])?;
        answers::drop_all(connection, body.seq)?;
        items::note(connection, stored.job.id, &Item::event(seq(body.seq)))?;
        step.done += 1;
        step.bytes += body.bytes;
    }
    if page.is_last {
        let (done, bytes) = (stored.job.done + step.done, stored.bytes + step.bytes);
        let message = match (done, &prunable.unborn) {
            (0, Some(sink)) => format!("no body is dropped: sink '{sink}' has not begun, and may need them all"),
            (0, None) => "no body is dropped: none is old enough and needed no more".to_owned(),
            (_, _) => {
                let behind = prunable.removed.iter().filter(|(_, cursor)| *cursor < page.place);
                let without = behind.map(|(name, cursor)| {
                    format!(
                        "; sink '{name}', which is not configured, has come to event {cursor}, and does not get what is \
                         dropped after it"
                    )
                });
                let dropped = counted(done, "body is dropped", "bodies are dropped");
                format!("{dropped}, {bytes} bytes{}", without.collect::<String>())
            }
        };
        step.end = Step::done(message).end;
    }
    Ok(step)
}
