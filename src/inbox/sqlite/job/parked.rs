//! Making parked events due, and giving them up.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rusqlite::{Connection, params};

use super::super::fault::Fault;
use super::super::parked::{self, Found};
use super::items::{self, Item};
use super::tally::{Place, Rows, Swept, Tally, places, sweep};
use super::{Step, Stored, counted, effect, unknown_sink};
use crate::inbox::{Change, ConfiguredSink, ParkedFilter, ParkedRecord, micros};
use crate::model::Seq;

/// What is done to the parked events that match.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verb {
    Retry,
    Discard,
}

pub(super) fn retry(
    connection: &Connection,
    stored: &Stored,
    filter: &ParkedFilter,
    configured: &[ConfiguredSink],
    now: Timestamp,
) -> Result<Step, Fault> {
    let sinks = places(connection, configured)?;
    carry_out(connection, stored, filter, (Verb::Retry, &sinks), now)
}

pub(super) fn discard(
    connection: &Connection,
    stored: &Stored,
    filter: &ParkedFilter,
    now: Timestamp,
) -> Result<Step, Fault> {
    let sinks = places(connection, &[])?;
    carry_out(connection, stored, filter, (Verb::Discard, &sinks), now)
}

fn carry_out(
    connection: &Connection,
    stored: &Stored,
    filter: &ParkedFilter,
    (verb, sinks): (Verb, &[Place]),
    now: Timestamp,
) -> Result<Step, Fault> {
    if let Some(failed) = unknown_sink(connection, filter.sink.as_ref())? {
        return Ok(failed);
    }
    let before = Tally::load(connection, stored.job.id)?;
    let (changed, failed) = Default::default();
    let mut rows = Parked { connection, stored, filter, verb, now, tally: before.clone(), changed, failed };
    let swept = sweep(&mut rows, sinks, filter.sink.as_ref(), stored)?;
    let Parked { tally, changed, failed, .. } = rows;
    let mut step = Step { failed, ..Step::swept(stored, &before, tally, swept) };
    step.done = changed.values().map(|seqs| seqs.len() as u64).sum();
    let change = match verb {
        Verb::Retry => Change::Due,
        Verb::Discard => Change::Unparked,
    };
    step.effects = changed.into_iter().map(|(id, seqs)| effect(id, change(seqs))).collect();
    if swept == Swept::All {
        let done = stored.job.done + step.done;
        let tally = step.tally.as_ref().unwrap_or(&before);
        step.end = end(filter, verb, (done, stored.job.failed + step.failed), tally).end;
    }
    Ok(step)
}

/// What a person is told, and what stays in the inbox: which events were decided about, and by which filter they were
/// chosen.
fn end(filter: &ParkedFilter, verb: Verb, (done, failed): (u64, u64), tally: &Tally) -> Step {
    if done + failed == 0 {
        return Step::failed(format!("no such event is parked{}", described(filter)));
    }
    let said = match verb {
        Verb::Retry => counted(done, "parked event is due now", "parked events are due now"),
        Verb::Discard => counted(done, "parked event is discarded", "parked events are discarded"),
    };
    let named = if done == 0 { String::new() } else { format!(": {}", tally.named()) };
    Step::done(format!("{said}{named}{}{}", described(filter), tally.left()))
}

/// The filter in words, such as ` (sink 'bus', type payin.*)`; nothing where it takes everything.
fn described(filter: &ParkedFilter) -> String {
    let ParkedFilter { seqs, sink, types, event_id, key, error } = filter;
    let words = [
        (!seqs.is_empty()).then(|| "by number".to_owned()),
        sink.as_ref().map(|sink| format!("sink '{sink}'")),
        (!types.is_empty()).then(|| format!("type {}", types.join(" or "))),
        event_id.as_ref().map(|id| format!("event id {id}")),
        key.as_ref().map(|key| format!("key {key}")),
        error.as_ref().map(|error| format!("error holds '{error}'")),
    ];
    let words: Vec<String> = words.into_iter().flatten().collect();
    if words.is_empty() { String::new() } else { format!(" ({})", words.join(", ")) }
}

/// The parked events of each sink, and what was done to them.
struct Parked<'a> {
    connection: &'a Connection,
    stored: &'a Stored,
    filter: &'a ParkedFilter,
    verb: Verb,
    now: Timestamp,
    tally: Tally,
    changed: BTreeMap<i64, Vec<Seq>>,
    failed: u64,
}

impl Rows for Parked<'_> {
    type Row = Found;

    fn page(&self, sink: &Place, after: i64, limit: usize) -> rusqlite::Result<Vec<Found>> {
        parked::page(self.connection, self.filter, sink.id, (after, self.stored.job.upto), limit)
    }

    fn place(found: &Found) -> i64 {
        found.record.seq.get()
    }

    fn has_room(&mut self, _: &Place) -> rusqlite::Result<bool> {
        Ok(true)
    }

    fn visit(&mut self, sink: &Place, found: &Found) -> Result<bool, Fault> {
        let seq = found.record.seq;
        if !found.matches {
            return Ok(true);
        }
        match self.verb {
            Verb::Retry if sink.configured.is_none() => {
                self.failed += 1;
                self.tally.leave(sink);
                return Ok(true);
            }
            Verb::Retry => {
                self.connection
                    .prepare_cached("UPDATE parked SET next_attempt = ?3 WHERE sink_id = ?1 AND seq = ?2")?
                    .execute([sink.id, seq.get(), micros(self.now)])?;
                items::note(self.connection, self.stored.job.id, &Item::parked(sink.id, seq))?;
            }
            Verb::Discard => discard_one(self.connection, self.stored, sink.id, &found.record, self.now)?,
        }
        self.tally.decide(seq.get(), sink, self.filter.sink.is_some());
        self.changed.entry(sink.id).or_default().push(seq);
        Ok(true)
    }

    fn tally(&mut self) -> &mut Tally {
        &mut self.tally
    }
}

/// A parked event is decided about, for the job's reason. It keeps its row among the dead letters: what its consumer
/// records of it later must not park it again.
pub(super) fn discard_one(
    connection: &Connection,
    stored: &Stored,
    sink_id: i64,
    event: &ParkedRecord,
    now: Timestamp,
) -> rusqlite::Result<()> {
    let seq = event.seq.get();
    connection.prepare_cached("DELETE FROM parked WHERE sink_id = ?1 AND seq = ?2")?.execute([sink_id, seq])?;
    connection
        .prepare_cached(
            "INSERT INTO dead_letters
                 (sink_id, seq, attempts, reason, at, discarded_at, discard_reason, discarded_by, job_id)
             VALUES (?1, ?2, ?3, ?4, ?5, ?5, ?6, ?7, ?8)
             ON CONFLICT (sink_id, seq) DO UPDATE SET discarded_at = excluded.discarded_at,
                 discard_reason = excluded.discard_reason, discarded_by = excluded.discarded_by,
                 job_id = excluded.job_id",
        )?
        .execute(params![
            sink_id,
            seq,
            event.attempts,
            event.last_error.as_deref().unwrap_or("waited behind an earlier event of its key"),
            micros(now),
            stored.job.reason,
            stored.job.who,
            stored.job.id.get()
        ])?;
    items::note(connection, stored.job.id, &Item::parked(sink_id, event.seq))
}
