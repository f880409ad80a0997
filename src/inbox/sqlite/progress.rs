//! Consumers in the database: registered, read back, moved on.

use std::collections::BTreeSet;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use super::rows::{self, outcome_code};
use crate::inbox::{
    Attempt, AttemptState, ConsumerId, ConsumerState, Parked, Progress, Registration, Standing, from_micros, micros,
};
use crate::model::{Outcome, Seq, Start};

/// Reads a consumer, making it first where it is new; notes the route that decides from its cursor on.
pub(super) fn consumer(
    connection: &Connection,
    who: &Registration,
    route: &str,
    now: Timestamp,
) -> rusqlite::Result<ConsumerState> {
    let Registration::Sink { name: sink, start } = who else { panic!() }; // HELPER
    let start = *start;
    let known = connection
        .query_row("SELECT id, cursor FROM sinks WHERE name = ?1", [sink.as_str()], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?;
    let (id, cursor): (i64, i64) = match known {
        Some(known) => known,
        None => {
            let cursor = first_cursor(connection, start)?;
            connection.execute(
                "INSERT INTO sinks (name, cursor, first_seq, created_at) VALUES (?1, ?2, ?2 + 1, ?3)",
                params![sink.as_str(), cursor, micros(now)],
            )?;
            (connection.last_insert_rowid(), cursor)
        }
    };
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
    Ok(ConsumerState {
        id: ConsumerId::new(id),
        standing: Standing::default(), // HELPER
        paused: false,                 // HELPER
        selection: None,               // HELPER
        cursor: seq(cursor),
        parked: parked(connection, id)?,
        done_above: done_above(connection, id, cursor)?,
        dead_letters: connection
            .query_row("SELECT count(*) FROM dead_letters WHERE sink_id = ?1", [id], |row| row.get(0))?,
    })
}

/// Writes what a consumer has done, in the caller's transaction.
pub(super) fn record(connection: &Connection, progress: &Progress) -> rusqlite::Result<()> {
    // HELPER: standing, discarded, still
    let Progress { consumer, cursor, attempts, park, unpark, dead, discarded: _, standing: _ } = progress;
    let id = consumer.get();
    for attempt in attempts {
        record_attempt(connection, id, attempt)?;
    }
    for event in park {
        connection.prepare_cached("INSERT OR REPLACE INTO parked (sink_id, seq, attempts, first_attempt, next_attempt) VALUES (?1, ?2, ?3, ?4, ?5)")?.execute(params![
            id,
            event.seq.get(),
            event.attempts,
            event.first_attempt.map(micros),
            micros(event.next_attempt)
        ])?;
    }
    for seq in unpark {
        connection.prepare_cached("DELETE FROM parked WHERE sink_id = ?1 AND seq = ?2")?.execute([id, seq.get()])?;
    }
    for letter in dead {
        connection
            .prepare_cached(
                "INSERT OR IGNORE INTO dead_letters (sink_id, seq, attempts, reason, at) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![id, letter.seq.get(), letter.attempts, letter.reason, micros(letter.at)])?;
    }
    connection
        .prepare_cached("UPDATE sinks SET cursor = max(cursor, ?2) WHERE id = ?1")?
        .execute([id, cursor.get()])?;
    Ok(())
}

fn record_attempt(connection: &Connection, sink_id: i64, attempt: &Attempt) -> rusqlite::Result<()> {
    let (state, note) = match &attempt.outcome {
        Outcome::Delivered { receipt } => (AttemptState::Delivered, receipt.as_str()),
        Outcome::Transient { reason, .. } => (AttemptState::Transient, reason.as_str()),
        Outcome::Permanent { reason } => (AttemptState::Permanent, reason.as_str()),
    };
    connection.prepare_cached("INSERT OR REPLACE INTO attempts VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?.execute(
        params![
            sink_id,
            attempt.seq.get(),
            attempt.n,
            micros(attempt.at),
            i64::try_from(attempt.latency.as_micros()).unwrap_or(i64::MAX),
            outcome_code(state),
            note
        ],
    )?;
    Ok(())
}

fn first_cursor(connection: &Connection, start: Start) -> rusqlite::Result<i64> {
    let head = "SELECT coalesce(max(seq), 0) FROM events";
    match start {
        Start::Earliest => Ok(0),
        Start::Now => connection.query_row(head, [], |row| row.get(0)),
        Start::At(time) => connection.query_row(
            // Arrival times follow the clock, which may have been set back: so no search by halves.
            &format!("SELECT coalesce((SELECT min(seq) - 1 FROM events WHERE received_at >= ?1), ({head}))"),
            [micros(time)],
            |row| row.get(0),
        ),
    }
}

fn parked(connection: &Connection, sink_id: i64) -> rusqlite::Result<Vec<Parked>> {
    let mut rows = connection
        .prepare("SELECT seq, attempts, first_attempt, next_attempt FROM parked WHERE sink_id = ?1 ORDER BY seq")?;
    let rows = rows.query_map([sink_id], |row| {
        Ok(Parked {
            seq: seq(row.get(0)?),
            still: std::time::Duration::ZERO, // HELPER
            attempts: row.get(1)?,
            first_attempt: row.get::<_, Option<i64>>(2)?.map(from_micros),
            next_attempt: from_micros(row.get(3)?),
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

fn seq(value: i64) -> Seq {
    Seq::new(value).unwrap_or(Seq::ZERO)
}
