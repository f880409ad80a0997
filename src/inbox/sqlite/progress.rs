//! What a consumer has done, written down.

use rusqlite::{Connection, OptionalExtension, params};

use super::answers;
use super::fault::Fault;
use super::revisions;
use super::rows::{DELIVERED, duration_micros, outcome_code};
use crate::inbox::{Attempt, AttemptState, DeadLetter, Discarded, Parked, Progress, SinkHealth, Standing, micros};
use crate::model::Outcome;

/// Writes what a consumer has done, in the caller's transaction. Nothing of it counts twice when it comes again.
pub(super) fn record(connection: &Connection, progress: &Progress) -> Result<(), Fault> {
    let Progress { consumer, cursor, attempts, park, unpark, dead, discarded, standing, health } = progress;
    let id = consumer.get();
    let replay = replay_of(connection, id)?;
    let revision = if attempts.is_empty() { None } else { revisions::present(connection, id)? };
    let delivered = record_attempts(connection, (id, revision), attempts)?;
    // Nobody would ever come back for what an ended replay sets aside.
    if replay.is_none_or(|(_, has_ended)| !has_ended) {
        park.iter().try_for_each(|event| set_aside(connection, id, event))?;
    }
    for seq in unpark {
        connection.prepare_cached("DELETE FROM parked WHERE sink_id = ?1 AND seq = ?2")?.execute([id, seq.get()])?;
    }
    let mut lost = 0;
    for letter in dead {
        lost += bury(connection, id, letter)?;
    }
    // Retention has dropped its body: a replay passes it over, as was said before it began.
    for event in discarded {
        discard(connection, id, event)?;
    }
    let Standing { breaker_open_since, still_since, still } = standing;
    let SinkHealth { failures, failing_since, last_error, last_error_at, last_success_at, next_try, reading_stopped } =
        health;
    connection
        .prepare_cached(
            "UPDATE sinks SET cursor = max(cursor, ?2), delivered = delivered + ?3, breaker_open_since = ?4,
                 still_since = ?5, still_us = ?6, failures = ?7, failing_since = ?8, last_error = ?9, last_error_at = ?10,
                 last_success_at = ?11, next_try = ?12, reading_stopped = ?13
             WHERE id = ?1",
        )?
        .execute(params![
            id,
            cursor.get(),
            delivered,
            breaker_open_since.map(micros),
            still_since.map(micros),
            duration_micros(*still),
            failures,
            failing_since.map(micros),
            last_error,
            last_error_at.map(micros),
            last_success_at.map(micros),
            next_try.map(micros),
            reading_stopped
        ])?;
    if let Some((job, _)) = replay {
        connection
            .prepare_cached("UPDATE jobs SET done = done + ?2, failed = failed + ?3 WHERE id = ?1")?
            .execute(params![job, delivered, lost])?;
    }
    Ok(())
}

/// The job that a consumer works for, and whether that has ended; `None` for a sink's own consumer.
fn replay_of(connection: &Connection, id: i64) -> Result<Option<(i64, bool)>, Fault> {
    let known = connection
        .prepare_cached(
            "SELECT s.job_id, coalesce(j.state > 2, 1) FROM sinks s LEFT JOIN jobs j ON j.id = s.job_id WHERE s.id = ?1",
        )?
        .query_row([id], |row| Ok((row.get::<_, Option<i64>>(0)?, row.get(1)?)))
        .optional()?;
    let known = known.map(|(job, has_ended): (Option<i64>, bool)| job.map(|job| (job, has_ended)));
    known.ok_or_else(|| Fault::Refused(format!("there is no consumer {id}")))
}

/// Returns how many of them are the first delivery of their event.
fn record_attempts(
    connection: &Connection,
    (sink_id, revision): (i64, Option<i64>),
    attempts: &[Attempt],
) -> rusqlite::Result<u64> {
    const VALUES: &str = "INTO attempts (sink_id, seq, n, at, latency_us, outcome, note, revision)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    let mut insert = connection.prepare_cached(&format!("INSERT OR IGNORE {VALUES}"))?;
    let mut replace = connection.prepare_cached(&format!("INSERT OR REPLACE {VALUES}"))?;
    let mut is_delivered =
        connection.prepare_cached("SELECT 1 FROM attempts WHERE sink_id = ?1 AND seq = ?2 AND outcome = ?3")?;
    let mut first_deliveries = 0;
    for attempt in attempts {
        let (state, note, answer) = match &attempt.outcome {
            Outcome::Delivered { receipt } => (AttemptState::Delivered, receipt.as_str(), None),
            Outcome::Transient { reason, .. } => (AttemptState::Transient, reason.as_str(), reason.answer()),
            Outcome::Permanent { reason } => (AttemptState::Permanent, reason.as_str(), reason.answer()),
        };
        let (seq, at, latency) = (attempt.seq.get(), micros(attempt.at), duration_micros(attempt.latency));
        let row = params![sink_id, seq, attempt.n, at, latency, outcome_code(state), note, revision];
        // Before a first attempt there was none, so nothing has to be looked up unless this very row is there already.
        let is_first = if attempt.n == 1 && insert.execute(row)? == 1 {
            true
        } else {
            let is_first = !is_delivered.exists([sink_id, seq, DELIVERED])?;
            replace.execute(row)?;
            is_first
        };
        if let Some(answer) = answer {
            answers::keep(connection, sink_id, seq, attempt.n, answer)?;
        }
        first_deliveries += u64::from(is_first && state == AttemptState::Delivered);
    }
    Ok(first_deliveries)
}

/// Parks an event, or parks it again with another time; not one that a person has discarded while it was in flight.
pub(super) fn set_aside(connection: &Connection, sink_id: i64, event: &Parked) -> rusqlite::Result<()> {
    let Parked { seq, attempts, first_attempt, still, next_attempt, own_failures } = event;
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO parked (sink_id, seq, attempts, first_attempt, still_us, next_attempt, own_failures)
             SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7 WHERE NOT EXISTS
                 (SELECT 1 FROM dead_letters WHERE sink_id = ?1 AND seq = ?2 AND discarded_at IS NOT NULL)",
        )?
        .execute(params![
            sink_id,
            seq.get(),
            attempts,
            first_attempt.map(micros),
            duration_micros(*still),
            micros(*next_attempt),
            own_failures
        ])
        .map(drop)
}

fn bury(connection: &Connection, sink_id: i64, letter: &DeadLetter) -> rusqlite::Result<usize> {
    let DeadLetter { seq, attempts, reason, at } = letter;
    connection
        .prepare_cached(
            "INSERT INTO dead_letters (sink_id, seq, attempts, reason, at, of_replay)
             VALUES (?1, ?2, ?3, ?4, ?5, (SELECT job_id IS NOT NULL FROM sinks WHERE id = ?1))
             ON CONFLICT (sink_id, seq) DO NOTHING",
        )?
        .execute(params![sink_id, seq.get(), attempts, reason, micros(*at)])
}

fn discard(connection: &Connection, sink_id: i64, event: &Discarded) -> rusqlite::Result<()> {
    let Discarded { seq, reason, at } = event;
    connection
        .prepare_cached(
            "INSERT INTO dead_letters (sink_id, seq, attempts, reason, at, discarded_at, discard_reason)
             VALUES (?1, ?2, 0, ?3, ?4, ?4, ?3) ON CONFLICT (sink_id, seq) DO NOTHING",
        )?
        .execute(params![sink_id, seq.get(), reason, micros(*at)])
        .map(drop)
}
