//! Consumers in the database: registered, and read back.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::fault::Fault;
use super::job;
use super::reader::Direction;
use super::reader::times::Times;
use super::rows::{self, seq};
use crate::inbox::{
    ConsumerId, ConsumerState, Parked, Registered, Registration, Selection, SinkHealth, Standing, Task, from_micros,
    micros,
};
use crate::model::{JobId, Seq, SinkName, Start};

/// One row of `sinks`.
pub(super) struct Consumer {
    pub(super) id: i64,
    pub(super) cursor: i64,
    pub(super) paused_at: Option<Timestamp>,
    pub(super) standing: Standing,
    pub(super) health: SinkHealth,
    pub(super) last_seq: Option<i64>,
}

/// What [`standing`] and [`health`] read.
pub(super) const STATUS: &str =
    "breaker_open_since, still_since, still_us, failures, failing_since, last_error, last_error_at,
    last_success_at, next_try, reading_stopped";

impl Consumer {
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            cursor: row.get(1)?,
            paused_at: row.get::<_, Option<i64>>(2)?.map(from_micros),
            last_seq: row.get(3)?,
            standing: standing(row, 4)?,
            health: health(row, 7)?,
        })
    }
}

/// `breaker_open_since`, `still_since` and `still_us`, from a column on.
pub(super) fn standing(row: &Row<'_>, column: usize) -> rusqlite::Result<Standing> {
    Ok(Standing {
        breaker_open_since: row.get::<_, Option<i64>>(column)?.map(from_micros),
        still_since: row.get::<_, Option<i64>>(column + 1)?.map(from_micros),
        still: Duration::from_micros(row.get(column + 2)?),
    })
}

/// `failures` and what follows it in [`STATUS`], from a column on.
pub(super) fn health(row: &Row<'_>, column: usize) -> rusqlite::Result<SinkHealth> {
    let time = |column| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(column)?.map(from_micros));
    Ok(SinkHealth {
        failures: row.get(column)?,
        failing_since: time(column + 1)?,
        last_error: row.get(column + 2)?,
        last_error_at: time(column + 3)?,
        last_success_at: time(column + 4)?,
        next_try: time(column + 5)?,
        reading_stopped: row.get(column + 6)?,
    })
}

/// The name that a replay's consumer has.
pub(super) fn replay_name(job: JobId) -> String {
    format!("replay:{job}")
}

/// A sink's own consumer, by the name that it has.
pub(super) fn named(connection: &Connection, name: &SinkName) -> rusqlite::Result<Option<Consumer>> {
    by(connection, "name = ?1 AND job_id IS NULL", name.as_str())
}

/// A sink's own consumer, by the name that it has, or else had before it was renamed; true in the second case.
pub(super) fn live(connection: &Connection, name: &SinkName) -> rusqlite::Result<Option<(Consumer, bool)>> {
    if let Some(consumer) = named(connection, name)? {
        return Ok(Some((consumer, false)));
    }
    let renamed = by(connection, "former_name = ?1 AND job_id IS NULL AND forgotten_at IS NULL", name.as_str())?;
    Ok(renamed.map(|consumer| (consumer, true)))
}

/// The consumer of a replay that has begun.
pub(super) fn of_replay(connection: &Connection, job: JobId) -> rusqlite::Result<Option<Consumer>> {
    by(connection, "name = ?1", &replay_name(job))
}

fn by(connection: &Connection, condition: &str, name: &str) -> rusqlite::Result<Option<Consumer>> {
    connection
        .prepare_cached(&format!("SELECT id, cursor, paused_at, last_seq, {STATUS} FROM sinks WHERE {condition}"))?
        .query_row([name], Consumer::from_row)
        .optional()
}

/// Reads a consumer, making it first where it is new; notes the route that decides from its cursor on.
pub(super) fn register(
    connection: &Connection,
    who: &Registration,
    route: &str,
    now: Timestamp,
) -> Result<ConsumerState, Fault> {
    let (consumer, selection) = match who {
        Registration::Sink { name, start } => (sink(connection, name, *start, now)?, None),
        Registration::Replay { job } => {
            let (consumer, selection) = replay(connection, *job, now)?;
            (consumer, Some(selection))
        }
    };
    let Consumer { id, cursor, paused_at, .. } = consumer;
    note_route(connection, id, cursor, route, now)?;
    Ok(ConsumerState {
        id: ConsumerId::new(id),
        cursor: seq(cursor),
        parked: parked(connection, id)?,
        done_above: done_above(connection, id, cursor)?,
        dead_letters: connection.query_row(
            "SELECT count(*) FROM dead_letters WHERE sink_id = ?1 AND discarded_at IS NULL",
            [id],
            |row| row.get(0),
        )?,
        standing: consumer.standing.settled(paused_at, now),
        health: consumer.health,
        paused: paused_at.is_some(),
        selection,
    })
}

fn sink(connection: &Connection, name: &SinkName, start: Start, now: Timestamp) -> Result<Consumer, Fault> {
    match live(connection, name)? {
        Some((consumer, was_renamed)) => {
            if !was_renamed {
                follow(connection, consumer.id)?;
            }
            Ok(consumer)
        }
        None => new(connection, name, start, now),
    }
}

/// The configuration uses the name that a sink has: nobody means the sink by its former name any more.
fn follow(connection: &Connection, id: i64) -> rusqlite::Result<()> {
    connection.execute("UPDATE sinks SET former_name = NULL WHERE id = ?1 AND former_name IS NOT NULL", [id]).map(drop)
}

fn new(connection: &Connection, name: &SinkName, start: Start, now: Timestamp) -> Result<Consumer, Fault> {
    let cursor = first_cursor(connection, start)?;
    connection.execute(
        "INSERT INTO sinks (name, cursor, first_seq, created_at) VALUES (?1, ?2, ?2 + 1, ?3)",
        params![name.as_str(), cursor, micros(now)],
    )?;
    named(connection, name)?.ok_or_else(|| rusqlite::Error::QueryReturnedNoRows.into())
}

/// See [`crate::inbox::Inbox::register_sinks`].
pub(super) fn register_sinks(
    connection: &Connection,
    sinks: &[(SinkName, Start)],
    now: Timestamp,
) -> Result<Vec<Registered>, Fault> {
    let wanted: Vec<SinkName> = sinks.iter().map(|(name, _)| name.clone()).collect();
    // All names are looked up before any row changes: then no two of them can mean one sink.
    let found = wanted.iter().map(|name| meant(connection, name, &wanted)).collect::<rusqlite::Result<Vec<_>>>()?;
    let mut places = Vec::with_capacity(sinks.len());
    for ((name, start), found) in sinks.iter().zip(found) {
        let consumer = match found {
            Some((consumer, None)) => {
                follow(connection, consumer.id)?;
                consumer
            }
            Some((consumer, Some(renamed))) => {
                tracing::warn!(
                    sink = %name, renamed,
                    "this sink has been renamed: change its name in the configuration too, or rename it back"
                );
                consumer
            }
            None => new(connection, name, *start, now)?,
        };
        places.push(Registered { id: ConsumerId::new(consumer.id), cursor: seq(consumer.cursor) });
    }
    Ok(places)
}

/// The sink that a configuration with these names means by one of them, and its present name where that is another one.
pub(super) fn meant(
    connection: &Connection,
    name: &SinkName,
    wanted: &[SinkName],
) -> rusqlite::Result<Option<(Consumer, Option<String>)>> {
    let Some((consumer, was_renamed)) = live(connection, name)? else { return Ok(None) };
    if !was_renamed {
        return Ok(Some((consumer, None)));
    }
    let present: String =
        connection.query_row("SELECT name FROM sinks WHERE id = ?1", [consumer.id], |row| row.get(0))?;
    // The configuration has followed: by the former name it means a new sink.
    let has_followed = wanted.iter().any(|other| other.as_str() == present);
    Ok((!has_followed).then_some((consumer, Some(present))))
}

/// See [`crate::inbox::Inbox::note_built`].
pub(super) fn note_built(
    connection: &Connection,
    id: ConsumerId,
    failure: Option<&str>,
    now: Timestamp,
) -> rusqlite::Result<()> {
    connection
        .execute(
            "UPDATE sinks SET build_error = ?2,
                 build_failed_since = iif(?2 IS NULL, NULL, coalesce(build_failed_since, ?3))
             WHERE id = ?1 AND build_error IS NOT ?2",
            params![id.get(), failure, micros(now)],
        )
        .map(drop)
}

/// The consumer of a replay, paused while its sink is, and what it reads.
fn replay(connection: &Connection, id: JobId, now: Timestamp) -> Result<(Consumer, Selection), Fault> {
    let job = job::load(connection, id)?.ok_or_else(|| Fault::Refused(format!("there is no job {id}")))?.job;
    let Task::Replay { sink, selection, rate: _ } = job.task else {
        return Err(Fault::Refused(format!("job {id} is no replay")));
    };
    if job.state.has_ended() {
        return Err(Fault::Refused(format!("replay {id} has ended")));
    }
    let Some((own, _)) = live(connection, &sink)? else {
        return Err(Fault::Refused(format!(
            "replay {id}: sink '{sink}' has no place in the log: start the daemon with it once, or replay to one of \
             `sinks list`"
        )));
    };
    if of_replay(connection, id)?.is_none() {
        let first = selection.first.get().max(1);
        let last = selection.last.get().min(own.cursor).max(first - 1);
        connection.execute(
            "INSERT INTO sinks (name, cursor, first_seq, last_seq, created_at, replay_of, job_id)
             VALUES (?1, ?2 - 1, ?2, ?3, ?4, ?5, ?6)",
            params![replay_name(id), first, last, micros(now), own.id, id.get()],
        )?;
    }
    let mut consumer = of_replay(connection, id)?.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
    consumer.paused_at = own.paused_at;
    let last = consumer.last_seq.map_or(selection.last, seq);
    Ok((consumer, Selection { last, ..selection }))
}

fn note_route(connection: &Connection, id: i64, cursor: i64, route: &str, now: Timestamp) -> rusqlite::Result<()> {
    let last_route: Option<String> = connection
        .query_row(
            "SELECT route FROM route_revisions WHERE sink_id = ?1 ORDER BY from_seq DESC, at DESC LIMIT 1",
            [id],
            |row| row.get(0),
        )
        .optional()?;
    if last_route.as_deref() != Some(route) {
        connection.execute(
            "INSERT OR REPLACE INTO route_revisions (sink_id, from_seq, at, route) VALUES (?1, ?2, ?3, ?4)",
            params![id, cursor + 1, micros(now), route],
        )?;
    }
    Ok(())
}

fn first_cursor(connection: &Connection, start: Start) -> rusqlite::Result<i64> {
    let head = "SELECT coalesce(max(seq), 0) FROM events";
    match start {
        Start::Earliest => Ok(0),
        Start::Now => connection.query_row(head, [], |row| row.get(0)),
        Start::At(time) => {
            let times = connection.path().map(|inbox| Times::load(Path::new(inbox), connection)).transpose()?;
            let first = times.unwrap_or_default().pass_over(1, Direction::Forward, Some(micros(time)), None);
            connection.query_row(
                // Arrival times follow the clock, which may have been set back: so no search by halves.
                &format!(
                    "SELECT coalesce(
                         (SELECT min(seq) - 1 FROM events WHERE seq >= ?1 AND received_at >= ?2), ({head}))"
                ),
                [first, micros(time)],
                |row| row.get(0),
            )
        }
    }
}

fn parked(connection: &Connection, sink_id: i64) -> rusqlite::Result<Vec<Parked>> {
    let mut rows = connection.prepare(
        "SELECT seq, attempts, first_attempt, still_us, next_attempt, own_failures FROM parked WHERE sink_id = ?1 ORDER BY seq",
    )?;
    let rows = rows.query_map([sink_id], |row| {
        Ok(Parked {
            seq: seq(row.get(0)?),
            attempts: row.get(1)?,
            first_attempt: row.get::<_, Option<i64>>(2)?.map(from_micros),
            still: Duration::from_micros(row.get(3)?),
            next_attempt: from_micros(row.get(4)?),
            own_failures: row.get(5)?,
        })
    })?;
    rows.collect()
}

fn done_above(connection: &Connection, sink_id: i64, cursor: i64) -> rusqlite::Result<BTreeSet<Seq>> {
    let mut rows = connection.prepare(
        "SELECT seq FROM attempts WHERE sink_id = ?1 AND seq > ?2 AND outcome = ?3
         UNION SELECT seq FROM dead_letters WHERE sink_id = ?1 AND seq > ?2",
    )?;
    let rows = rows.query_map([sink_id, cursor, rows::DELIVERED], |row| row.get(0).map(seq))?;
    rows.collect()
}
