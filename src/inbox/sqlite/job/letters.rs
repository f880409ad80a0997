//! Trying dead letters again, and giving them up for good.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, params};

use super::super::fault::Fault;
use super::super::letters::{self, Letter, Of};
use super::super::progress;
use super::items::{self, Item};
use super::tally::{Place, Rows, Swept, Tally, places, sweep};
use super::{Step, Stored, counted, effect, unknown_sink};
use crate::inbox::{Change, ConfiguredSink, DeadLetterRecord, LetterFilter, Parked, from_micros, micros};

/// The open letters of a sink, held against a filter.
fn page(
    connection: &Connection,
    stored: &Stored,
    filter: &LetterFilter,
    (sink, after): (&Place, i64),
    limit: usize,
) -> rusqlite::Result<Vec<Letter>> {
    letters::page(connection, filter, (after, stored.job.upto + 1), Of::Consumer(sink.id), limit)
}

pub(super) fn retry(
    connection: &Connection,
    stored: &Stored,
    filter: &LetterFilter,
    configured: &[ConfiguredSink],
    now: Timestamp,
) -> Result<Step, Fault> {
    if let Some(failed) = unknown_sink(connection, filter.sink.as_ref())? {
        return Ok(failed);
    }
    let before = Tally::load(connection, stored.job.id)?;
    // As it is stored: what a running consumer is told is what it would read.
    let due = from_micros(micros(now));
    let (room, revived) = Default::default();
    let mut rows = Retry { connection, stored, filter, due, tally: before.clone(), room, revived, failed: 0 };
    let swept = sweep(&mut rows, &places(connection, configured)?, filter.sink.as_ref(), stored)?;
    let Retry { tally, revived, failed, .. } = rows;
    let mut step = Step { failed, ..Step::swept(stored, &before, tally, swept) };
    step.done = revived.values().map(|events| events.len() as u64).sum();
    step.effects = revived.into_iter().map(|(id, events)| effect(id, Change::Revived(events))).collect();
    if swept != Swept::All {
        return Ok(step);
    }
    let (done, failed) = (stored.job.done + step.done, stored.job.failed + step.failed);
    let tally = step.tally.as_ref().unwrap_or(&before);
    let tried = counted(done, "dead letter is tried again", "dead letters are tried again");
    let pruned = match tally.pruned {
        0 => String::new(),
        1 => "; 1 is not: its body is gone".to_owned(),
        pruned => format!("; {pruned} are not: their bodies are gone"),
    };
    let message = format!("{tried}{pruned}{}", tally.left());
    Ok(end(step, filter, done + failed, message))
}

/// One that is tried again keeps its number, and who decided that.
const KEEP_RETRIED: &str = "INSERT INTO retried_letters (id, sink_id, seq, attempts, reason, at, retried_at, job_id)
     SELECT id, sink_id, seq, attempts, reason, at, ?2, ?3 FROM dead_letters WHERE id = ?1";

/// Parks the letters that match, due at once.
struct Retry<'a> {
    connection: &'a Connection,
    stored: &'a Stored,
    filter: &'a LetterFilter,
    due: Timestamp,
    tally: Tally,
    /// By consumer: how many more may be parked.
    room: BTreeMap<i64, usize>,
    revived: BTreeMap<i64, Vec<Parked>>,
    failed: u64,
}

impl Rows for Retry<'_> {
    type Row = Letter;

    fn page(&self, sink: &Place, after: i64, limit: usize) -> rusqlite::Result<Vec<Letter>> {
        page(self.connection, self.stored, self.filter, (sink, after), limit)
    }

    fn place(letter: &Letter) -> i64 {
        letter.record.id
    }

    fn has_room(&mut self, sink: &Place) -> rusqlite::Result<bool> {
        // A sink that is not configured gets nothing, and its letters are only counted.
        let Some(ConfiguredSink { max_parked, .. }) = sink.configured else { return Ok(true) };
        let room = max_parked.saturating_sub(parked_by(self.connection, sink.id)?);
        self.room.insert(sink.id, room);
        Ok(room > 0)
    }

    fn visit(&mut self, sink: &Place, letter: &Letter) -> Result<bool, Fault> {
        let record = &letter.record;
        if !letter.matches {
            return Ok(true);
        }
        if sink.configured.is_none() {
            self.failed += 1;
            self.tally.leave(sink);
            return Ok(true);
        }
        if !has_body(self.connection, record.seq.get())? {
            self.failed += 1;
            self.tally.pruned += 1;
            return Ok(true);
        }
        let room = self.room.entry(sink.id).or_default();
        let Some(less) = room.checked_sub(1) else { return Ok(false) };
        *room = less;
        let event = Parked {
            seq: record.seq,
            attempts: record.attempts,
            first_attempt: None,
            still: Duration::ZERO,
            next_attempt: self.due,
            own_failures: 0,
        };
        self.connection.prepare_cached(KEEP_RETRIED)?.execute([
            record.id,
            micros(self.due),
            self.stored.job.id.get(),
        ])?;
        self.connection.prepare_cached("DELETE FROM dead_letters WHERE id = ?1")?.execute([record.id])?;
        items::note(self.connection, self.stored.job.id, &Item::letter(sink.id, record.id, record.seq))?;
        progress::set_aside(self.connection, sink.id, &event)?;
        self.revived.entry(sink.id).or_default().push(event);
        Ok(true)
    }

    fn tally(&mut self) -> &mut Tally {
        &mut self.tally
    }
}

pub(super) fn discard(
    connection: &Connection,
    stored: &Stored,
    filter: &LetterFilter,
    now: Timestamp,
) -> Result<Step, Fault> {
    if let Some(failed) = unknown_sink(connection, filter.sink.as_ref())? {
        return Ok(failed);
    }
    let before = Tally::load(connection, stored.job.id)?;
    let mut rows = Discard { connection, stored, filter, now, tally: before.clone(), discarded: BTreeMap::new() };
    let swept = sweep(&mut rows, &places(connection, &[])?, filter.sink.as_ref(), stored)?;
    let Discard { tally, discarded, .. } = rows;
    let mut step = Step::swept(stored, &before, tally, swept);
    step.done = discarded.values().sum();
    step.effects = discarded.into_iter().map(|(id, count)| effect(id, Change::Discarded(count))).collect();
    if swept != Swept::All {
        return Ok(step);
    }
    let done = stored.job.done + step.done;
    let message = counted(done, "dead letter is discarded", "dead letters are discarded");
    Ok(end(step, filter, done, message))
}

/// Has the letters that match decided about.
struct Discard<'a> {
    connection: &'a Connection,
    stored: &'a Stored,
    filter: &'a LetterFilter,
    now: Timestamp,
    tally: Tally,
    discarded: BTreeMap<i64, u64>,
}

impl Rows for Discard<'_> {
    type Row = Letter;

    fn page(&self, sink: &Place, after: i64, limit: usize) -> rusqlite::Result<Vec<Letter>> {
        page(self.connection, self.stored, self.filter, (sink, after), limit)
    }

    fn place(letter: &Letter) -> i64 {
        letter.record.id
    }

    fn has_room(&mut self, _: &Place) -> rusqlite::Result<bool> {
        Ok(true)
    }

    fn visit(&mut self, sink: &Place, letter: &Letter) -> Result<bool, Fault> {
        if letter.matches {
            discard_one(self.connection, self.stored, sink.id, &letter.record, self.now)?;
            *self.discarded.entry(sink.id).or_default() += 1;
        }
        Ok(true)
    }

    fn tally(&mut self) -> &mut Tally {
        &mut self.tally
    }
}

/// A letter is decided about, for the job's reason.
pub(super) fn discard_one(
    connection: &Connection,
    stored: &Stored,
    sink_id: i64,
    letter: &DeadLetterRecord,
    now: Timestamp,
) -> rusqlite::Result<()> {
    let job = &stored.job;
    connection
        .prepare_cached(
            "UPDATE dead_letters SET discarded_at = ?2, discard_reason = ?3, discarded_by = ?4, job_id = ?5
             WHERE id = ?1",
        )?
        .execute(params![letter.id, micros(now), job.reason, job.who, job.id.get()])?;
    items::note(connection, job.id, &Item::letter(sink_id, letter.id, letter.seq))
}

/// Asked for by number, a letter that is not there, or not open, is something to know.
fn end(step: Step, filter: &LetterFilter, found: u64, message: String) -> Step {
    let mut ids = filter.ids.clone();
    ids.sort_unstable();
    ids.dedup();
    let missing = (ids.len() as u64).saturating_sub(found);
    let end = match (missing, found) {
        (0, _) => Step::done(message),
        (_, 0) => Step::failed("there is no such dead letter, or somebody has decided about it already".to_owned()),
        (_, _) => {
            let missing = counted(missing, "other is not there", "others are not there");
            Step::done(format!("{message}; {missing}, or somebody has decided about it already"))
        }
    };
    Step { end: end.end, ..step }
}

fn parked_by(connection: &Connection, sink_id: i64) -> rusqlite::Result<usize> {
    connection
        .prepare_cached("SELECT count(*) FROM parked WHERE sink_id = ?1")?
        .query_row([sink_id], |row| row.get::<_, i64>(0))
        .map(|count| usize::try_from(count).unwrap_or(usize::MAX))
}

fn has_body(connection: &Connection, seq: i64) -> rusqlite::Result<bool> {
    connection.prepare_cached("SELECT 1 FROM bodies WHERE seq = ?1")?.exists([seq])
}
