//! Trying dead letters again, and giving them up for good.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, params};

use super::super::consumer;
use super::super::fault::Fault;
use super::super::letters::{self, Letter};
use super::super::progress;
use super::{PORTION, Step, Stored, counted, sinks};
use crate::inbox::{Change, ConsumerId, Effect, LetterFilter, Parked, from_micros, micros};

/// Parked events of one consumer: what it may hold in memory.
const MAX_PARKED: usize = 10_000;

/// The next letters that the job looks at; those that match say so.
fn portion(connection: &Connection, stored: &Stored, filter: &LetterFilter) -> rusqlite::Result<Vec<Letter>> {
    letters::page(connection, filter, (stored.place, stored.upto + 1), letters::Order::Oldest, PORTION)
}

pub(super) fn retry(
    connection: &Connection,
    stored: &Stored,
    filter: &LetterFilter,
    now: Timestamp,
) -> Result<Step, Fault> {
    if let Some(failed) = unknown_sink(connection, filter)? {
        return Ok(failed);
    }
    let mut step = Step { place: stored.place, ..Step::default() };
    // As it is stored: what a running consumer is told is what it would read.
    let due = from_micros(micros(now));
    let mut parked: BTreeMap<i64, usize> = BTreeMap::new();
    let mut revived: BTreeMap<i64, Vec<Parked>> = BTreeMap::new();
    let letters = portion(connection, stored, filter)?;
    for letter in &letters {
        let record = &letter.record;
        if letter.matches {
            let count = match parked.get_mut(&letter.sink_id) {
                Some(count) => count,
                None => parked.entry(letter.sink_id).or_insert(parked_by(connection, letter.sink_id)?),
            };
            if *count >= MAX_PARKED {
                step.must_wait = true;
                break;
            }
            if has_body(connection, record.seq.get())? {
                *count += 1;
                step.done += 1;
                let event = Parked {
                    seq: record.seq,
                    attempts: record.attempts,
                    first_attempt: None,
                    still: Duration::ZERO,
                    next_attempt: due,
                    own_failures: 0,
                };
                connection.prepare_cached("DELETE FROM dead_letters WHERE id = ?1")?.execute([record.id])?;
                progress::set_aside(connection, letter.sink_id, &event)?;
                revived.entry(letter.sink_id).or_default().push(event);
            } else {
                step.failed += 1;
            }
        }
        step.place = record.id;
    }
    step.effects.extend(revived.into_iter().map(|(id, events)| effect(id, Change::Revived(events))));
    if !step.must_wait && letters.len() < PORTION {
        let (done, failed) = (stored.job.done + step.done, stored.job.failed + step.failed);
        let tried = match done {
            1 => "1 dead letter is tried again".to_owned(),
            _ => format!("{done} dead letters are tried again"),
        };
        let pruned = match failed {
            0 => String::new(),
            1 => "; 1 is not: retention has dropped its body".to_owned(),
            _ => format!("; {failed} are not: retention has dropped their bodies"),
        };
        return Ok(end(step, filter, done + failed, format!("{tried}{pruned}")));
    }
    Ok(step)
}

pub(super) fn discard(
    connection: &Connection,
    stored: &Stored,
    filter: &LetterFilter,
    now: Timestamp,
) -> Result<Step, Fault> {
    if let Some(failed) = unknown_sink(connection, filter)? {
        return Ok(failed);
    }
    let mut step = Step { place: stored.place, ..Step::default() };
    let mut discarded: BTreeMap<i64, u64> = BTreeMap::new();
    let letters = portion(connection, stored, filter)?;
    for letter in &letters {
        if letter.matches {
            connection
                .prepare_cached(
                    "UPDATE dead_letters SET discarded_at = ?2, discard_reason = ?3, discarded_by = ?4 WHERE id = ?1",
                )?
                .execute(params![letter.record.id, micros(now), stored.job.reason, stored.job.who])?;
            *discarded.entry(letter.sink_id).or_default() += 1;
            step.done += 1;
        }
        step.place = letter.record.id;
    }
    step.effects.extend(discarded.into_iter().map(|(id, count)| effect(id, Change::Discarded(count))));
    if letters.len() < PORTION {
        let done = stored.job.done + step.done;
        let message = counted(done, "dead letter is discarded", "dead letters are discarded");
        return Ok(end(step, filter, done, message));
    }
    Ok(step)
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

fn effect(consumer: i64, change: Change) -> Effect {
    Effect { consumer: ConsumerId::new(consumer), change }
}

fn unknown_sink(connection: &Connection, filter: &LetterFilter) -> rusqlite::Result<Option<Step>> {
    match &filter.sink {
        Some(sink) if consumer::named(connection, sink)?.is_none() => {
            sinks::unknown(connection, sink).map(|why| Some(Step::failed(why)))
        }
        Some(_) | None => Ok(None),
    }
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
