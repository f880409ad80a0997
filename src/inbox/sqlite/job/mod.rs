//! Jobs in the database: stored, and carried out portion by portion. A portion's effect, the place it has come to and
//! the job's end are in one transaction, so that a crash between two portions repeats nothing.

mod forget;
pub(super) mod items;
mod letters;
mod parked;
pub(super) mod prune;
mod quarantine;
mod sinks;
mod tally;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};

#[cfg(test)]
pub(super) use self::prune::PAGE as PRUNABLE;
pub(super) use self::prune::Prunable;
use self::tally::{Swept, Tally};
use super::believed;
use super::consumer;
use super::fault::Fault;
use super::quarantine::Removed;
use crate::inbox::{
    Advance, Change, ConfiguredSink, ConsumerId, Effect, Job, JobState, JobUpdate, NewJob, Released, Task, from_micros,
    micros,
};
use crate::model::{JobId, SinkName};

/// Rows that one portion looks at.
pub(super) const PORTION: usize = 500;
/// Bytes of the bodies that one portion drops: each is overwritten, in a transaction that senders wait for.
const PORTION_BYTES: u64 = 2 << 20;

/// A job, and how far its portions have come.
pub(super) struct Stored {
    pub(super) job: Job,
    bytes: u64,
}

/// The columns of [`from_row`].
pub(super) const JOB: &str = "SELECT id, task, who, reason, created_at, ended_at, state, done, failed, total, message,
    place, coalesce(upto, 0), bytes FROM jobs";

/// Reads a row of [`JOB`].
pub(super) fn from_row(row: &Row<'_>) -> rusqlite::Result<Stored> {
    let job = Job {
        id: JobId::new(row.get(0)?),
        task: super::rows::json(row, 1)?,
        who: row.get(2)?,
        reason: row.get(3)?,
        created_at: from_micros(row.get(4)?),
        ended_at: row.get::<_, Option<i64>>(5)?.map(from_micros),
        state: row.get::<_, super::rows::Stored<_>>(6)?.0,
        done: row.get(7)?,
        failed: row.get(8)?,
        total: row.get(9)?,
        message: row.get(10)?,
        place: row.get(11)?,
        upto: row.get(12)?,
    };
    Ok(Stored { job, bytes: row.get(13)? })
}

/// As [`from_row`]; the inner error is that of a task which only another version knows.
pub(super) fn known(row: &Row<'_>) -> rusqlite::Result<Result<Stored, rusqlite::Error>> {
    match from_row(row) {
        Err(error @ rusqlite::Error::FromSqlConversionFailure(..)) => Ok(Err(error)),
        read => read.map(Ok),
    }
}

/// Stores a job, to be carried out.
pub(super) fn insert(connection: &Connection, job: &NewJob) -> rusqlite::Result<JobId> {
    let NewJob { task, who, reason, total, at } = job;
    let task = serde_json::to_string(task).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    connection
        .prepare_cached(
            "INSERT INTO jobs (task, who, reason, created_at, state, total) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![task, who, reason, micros(*at), code(JobState::Queued), total])?;
    Ok(JobId::new(connection.last_insert_rowid()))
}

/// A job as stored.
pub(super) fn load(connection: &Connection, id: JobId) -> rusqlite::Result<Option<Stored>> {
    connection.prepare_cached(&format!("{JOB} WHERE id = ?1"))?.query_row([id.get()], from_row).optional()
}

/// The jobs that have not ended, in order. One that this version cannot read is left for another, which `unreadable` is
/// told of.
pub(super) fn open(
    connection: &Connection,
    mut unreadable: impl FnMut(JobId, &rusqlite::Error),
) -> rusqlite::Result<Vec<Job>> {
    let mut rows = connection.prepare_cached(&format!("{JOB} WHERE state <= 2 ORDER BY id"))?;
    let mut rows = rows.query([])?;
    let mut jobs = Vec::new();
    while let Some(row) = rows.next()? {
        match known(row)? {
            Ok(stored) => jobs.push(stored.job),
            Err(error) => unreadable(JobId::new(row.get(0)?), &error),
        }
    }
    Ok(jobs)
}

/// What one portion came to.
#[derive(Default)]
struct Step {
    place: i64,
    done: u64,
    failed: u64,
    bytes: u64,
    effects: Vec<Effect>,
    must_wait: bool,
    /// How the job ended, where it did.
    end: Option<(JobState, String)>,
    removed: Vec<Removed>,
    /// Of a job that goes sink by sink.
    tally: Option<Tally>,
    /// There was nothing to do for now, so there is nothing to write either.
    is_idle: bool,
}

impl Step {
    /// A portion of a job that goes sink by sink.
    fn swept(stored: &Stored, before: &Tally, tally: Tally, swept: Swept) -> Self {
        let is_idle = swept == Swept::Full && *before == tally && stored.job.state == JobState::Running;
        Self {
            place: stored.job.place,
            tally: Some(tally),
            must_wait: swept == Swept::Full,
            is_idle,
            ..Self::default()
        }
    }

    fn ended(state: JobState, message: String) -> Self {
        Self { end: Some((state, message)), ..Self::default() }
    }

    fn failed(message: String) -> Self {
        Self::ended(JobState::Failed, message)
    }

    fn done(message: String) -> Self {
        Self::ended(JobState::Done, message)
    }
}

/// Carries out the next portion, in the caller's transaction. What cannot be done ends the job as failed.
pub(super) fn advance(
    connection: &Connection,
    id: JobId,
    sinks: &[ConfiguredSink],
    now: Timestamp,
) -> Result<(Advance, Vec<Removed>), Fault> {
    let mut stored = load(connection, id)?.ok_or_else(|| Fault::Refused(format!("there is no job {id}")))?;
    if stored.job.state.has_ended() {
        return Ok((Advance { ended: true, ..Advance::default() }, Vec::new()));
    }
    if stored.job.state == JobState::Queued {
        stored.job.upto = last_of(connection, &stored.job.task)?;
    }
    connection.execute_batch("SAVEPOINT portion")?;
    let step = match step(connection, &stored, sinks, now) {
        Ok(step) => step,
        Err(Fault::Refused(why)) => {
            connection.execute_batch("ROLLBACK TO portion")?;
            Step { place: stored.job.place, ..Step::failed(why) }
        }
        Err(fault @ Fault::Storage(_)) => return Err(fault),
    };
    connection.execute_batch("RELEASE portion")?;
    if step.is_idle {
        return Ok((Advance { must_wait: true, ..Advance::default() }, Vec::new()));
    }
    let (state, message) = step.end.clone().unwrap_or((JobState::Running, String::new()));
    connection
        .prepare_cached(
            "UPDATE jobs SET state = ?2, ended_at = ?3, message = ?4, place = ?5, upto = ?6, done = done + ?7,
                 failed = failed + ?8, bytes = bytes + ?9, tally = coalesce(?10, tally) WHERE id = ?1",
        )?
        .execute(params![
            id.get(),
            code(state),
            state.has_ended().then(|| micros(now)),
            message,
            step.place,
            stored.job.upto,
            step.done,
            step.failed,
            step.bytes,
            step.tally.map(|tally| tally.to_json())
        ])?;
    let advance = Advance { effects: step.effects, ended: state.has_ended(), must_wait: step.must_wait };
    Ok((advance, step.removed))
}

/// What comes in while a job runs is none of its business: without an end, it might never come to one.
fn last_of(connection: &Connection, task: &Task) -> rusqlite::Result<i64> {
    let (column, table) = match task {
        Task::Retry { .. } | Task::Discard { .. } => ("id", "dead_letters"),
        Task::RetryParked { .. } | Task::DiscardParked { .. } => ("seq", "events"),
        Task::Purge { .. } | Task::Admit { .. } => ("id", "quarantine"),
        Task::Pause { .. }
        | Task::Resume { .. }
        | Task::Try { .. }
        | Task::Forget { .. }
        | Task::Rename { .. }
        | Task::Prune { .. }
        | Task::ConfirmClock { .. }
        | Task::Replay { .. }
        | Task::Cancel { .. } => return Ok(0),
    };
    connection.query_row(&format!("SELECT coalesce(max({column}), 0) FROM {table}"), [], |row| row.get(0))
}

fn step(
    connection: &Connection,
    stored: &Stored,
    configured: &[ConfiguredSink],
    now: Timestamp,
) -> Result<Step, Fault> {
    match &stored.job.task {
        Task::Pause { sink } => sinks::pause(connection, sink, now),
        Task::Resume { sink } => sinks::resume(connection, sink, now),
        Task::Rename { from, to, swap: false } => sinks::rename(connection, from, to),
        Task::Rename { from, to, swap: true } => sinks::swap(connection, from, to, now),
        Task::Try { sink } => sinks::try_now(connection, sink, configured),
        Task::Forget { sink } => forget::forget(connection, stored, sink, configured, now),
        Task::Retry { letters } => letters::retry(connection, stored, letters, configured, now),
        Task::Discard { letters } => letters::discard(connection, stored, letters, now),
        Task::RetryParked { parked } => parked::retry(connection, stored, parked, configured, now),
        Task::DiscardParked { parked } => parked::discard(connection, stored, parked, now),
        Task::Purge { requests } => quarantine::purge(connection, stored, requests),
        Task::Prune { before, sinks } => prune::prune(connection, stored, *before, sinks),
        Task::ConfirmClock { at } => {
            believed::confirm(connection, *at)?;
            Ok(Step::done("the clock is believed from now on".to_owned()))
        }
        Task::Admit { .. } | Task::Replay { .. } | Task::Cancel { .. } => {
            Err(Fault::Refused("this task is not carried out within the inbox: this is a bug".to_owned()))
        }
    }
}

/// Notes a portion of an admitting job, in the caller's transaction, and takes what was admitted out of the quarantine. The
/// job counts what it took out itself: a request that another one has admitted meanwhile counts there.
pub(super) fn release(connection: &Connection, id: JobId, portion: &Released) -> Result<((), Vec<Removed>), Fault> {
    let stored = load(connection, id)?.ok_or_else(|| Fault::Refused(format!("there is no job {id}")))?;
    let mut removed = Vec::with_capacity(portion.admitted.len());
    for &(request, seq) in &portion.admitted {
        let gone = super::quarantine::remove(connection, request)?;
        if gone.is_some() {
            items::note(connection, id, &items::Item::admitted(request, seq))?;
        }
        removed.extend(gone);
    }
    // Cancelled meanwhile: what has become an event has left the quarantine all the same.
    if !stored.job.state.has_ended() {
        connection
            .prepare_cached("UPDATE jobs SET done = done + ?2, failed = failed + ?3, place = ?4 WHERE id = ?1")?
            .execute(params![id.get(), removed.len(), portion.failed, portion.place])?;
    }
    Ok(((), removed))
}

/// Notes how far a job is, in the caller's transaction. A replay's parked events go with its end: nobody comes back for
/// them, and its consumer's row stays as history.
pub(super) fn update(connection: &Connection, id: JobId, update: &JobUpdate, now: Timestamp) -> Result<(), Fault> {
    let stored = load(connection, id)?.ok_or_else(|| Fault::Refused(format!("there is no job {id}")))?;
    if stored.job.state.has_ended() {
        return Ok(());
    }
    let JobUpdate { state, done, failed, total, message } = update;
    let state = state.unwrap_or(stored.job.state);
    let begins = state == JobState::Running && stored.job.upto == 0;
    let upto = if begins { last_of(connection, &stored.job.task)? } else { stored.job.upto };
    connection
        .prepare_cached(
            "UPDATE jobs SET state = ?2, ended_at = ?3, done = done + ?4, failed = failed + ?5,
                 total = coalesce(?6, total), message = coalesce(?7, message), upto = ?8 WHERE id = ?1",
        )?
        .execute(params![
            id.get(),
            code(state),
            state.has_ended().then(|| micros(now)),
            done,
            failed,
            total,
            message,
            upto
        ])?;
    if state.has_ended()
        && matches!(stored.job.task, Task::Replay { .. })
        && let Some(consumer) = consumer::of_replay(connection, id)?
    {
        connection.execute("DELETE FROM parked WHERE sink_id = ?1", [consumer.id])?;
    }
    Ok(())
}

fn code(state: JobState) -> i64 {
    super::rows::job_state_code(state)
}

/// `1 body`, `2 bodies`.
fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

fn effect(consumer: i64, change: Change) -> Effect {
    Effect { consumer: ConsumerId::new(consumer), change }
}

/// How a job has failed that names a sink which the inbox does not know; `None` where it knows it.
fn unknown_sink(connection: &Connection, sink: Option<&SinkName>) -> rusqlite::Result<Option<Step>> {
    match sink {
        Some(sink) if consumer::named(connection, sink)?.is_none() => {
            sinks::unknown(connection, sink).map(|why| Some(Step::failed(why)))
        }
        Some(_) | None => Ok(None),
    }
}
