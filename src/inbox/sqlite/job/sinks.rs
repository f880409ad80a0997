//! Pausing, resuming and renaming consumers.

use jiff::Timestamp;
use rusqlite::{Connection, params};

use super::super::consumer::{self, Consumer};
use super::super::fault::Fault;
use super::Step;
use super::tally::places;
use crate::inbox::{Change, ConfiguredSink, ConsumerId, Effect, Task, micros};
use crate::model::{JobId, SinkName};

/// For people who have mistyped a name.
pub(super) fn unknown(connection: &Connection, sink: &SinkName) -> rusqlite::Result<String> {
    let mut rows =
        connection.prepare("SELECT name FROM sinks WHERE job_id IS NULL AND forgotten_at IS NULL ORDER BY name")?;
    let names = rows.query_map([], |row| row.get::<_, String>(0))?.collect::<rusqlite::Result<Vec<_>>>()?;
    Ok(if names.is_empty() {
        format!("there is no sink '{sink}' in the inbox: no sink has begun yet, start the daemon with one")
    } else {
        format!("there is no sink '{sink}' in the inbox: it knows {}", names.join(", "))
    })
}

pub(super) fn pause(connection: &Connection, sink: &SinkName, now: Timestamp) -> Result<Step, Fault> {
    let Some(found) = consumer::named(connection, sink)? else { return Ok(Step::failed(unknown(connection, sink)?)) };
    if found.paused_at.is_some() {
        return Ok(Step::done(format!("sink '{sink}' was paused already")));
    }
    connection.execute(
        "UPDATE sinks SET paused_at = ?2, still_since = coalesce(still_since, ?2) WHERE id = ?1",
        params![found.id, micros(now)],
    )?;
    let effects = effects(connection, &found, &Change::Paused)?;
    Ok(Step { effects, ..Step::done(format!("sink '{sink}' is paused")) })
}

pub(super) fn resume(connection: &Connection, sink: &SinkName, now: Timestamp) -> Result<Step, Fault> {
    let Some(found) = consumer::named(connection, sink)? else { return Ok(Step::failed(unknown(connection, sink)?)) };
    if found.paused_at.is_none() {
        return Ok(Step::done(format!("sink '{sink}' was not paused")));
    }
    // A running consumer reckons for itself, and records it; this is for one that does not run.
    connection.execute(
        "UPDATE sinks SET paused_at = NULL,
             still_us = still_us + iif(breaker_open_since IS NULL, max(0, ?2 - coalesce(still_since, ?2)), 0),
             still_since = iif(breaker_open_since IS NULL, NULL, still_since)
         WHERE id = ?1",
        params![found.id, micros(now)],
    )?;
    let effects = effects(connection, &found, &Change::Resumed)?;
    Ok(Step { effects, ..Step::done(format!("sink '{sink}' goes on")) })
}

/// Its own consumer and its replays are told to try; what that comes to is theirs to say.
pub(super) fn try_now(connection: &Connection, sink: &SinkName, configured: &[ConfiguredSink]) -> Result<Step, Fault> {
    let Some(found) = consumer::named(connection, sink)? else { return Ok(Step::failed(unknown(connection, sink)?)) };
    let is_configured =
        places(connection, configured)?.iter().any(|one| one.id == found.id && one.configured.is_some());
    if !is_configured {
        return Ok(Step::failed(format!(
            "sink '{sink}' is not in the configuration that is in use, so nothing is delivered to it"
        )));
    }
    if found.paused_at.is_some() {
        return Ok(Step::failed(format!(
            "sink '{sink}' is paused: `ralio-relay sinks resume {sink}` has it go on, and tries it at once"
        )));
    }
    let effects = effects(connection, &found, &Change::TryNow)?;
    Ok(Step { effects, ..Step::done(format!("sink '{sink}' is tried now")) })
}

/// Those of its replays that have not ended stand still, and go on, with it.
fn effects(connection: &Connection, consumer: &Consumer, change: &Change) -> rusqlite::Result<Vec<Effect>> {
    let mut rows = connection.prepare(
        "SELECT s.id FROM jobs j CROSS JOIN sinks s ON s.name = 'replay:' || j.id
         WHERE j.state <= 2 AND s.replay_of = ?1",
    )?;
    let replays = rows.query_map([consumer.id], |row| row.get::<_, i64>(0))?.collect::<rusqlite::Result<Vec<_>>>()?;
    let everyone = std::iter::once(consumer.id).chain(replays);
    Ok(everyone.map(|id| Effect { consumer: ConsumerId::new(id), change: change.clone() }).collect())
}

/// The configuration has to follow before the next renaming: a name that it may still use stays with the sink that had
/// it, for under a name that nobody has, a sink is new, and skips what came in before.
pub(super) fn rename(connection: &Connection, from: &SinkName, to: &SinkName) -> Result<Step, Fault> {
    let Some(found) = consumer::named(connection, from)? else { return Ok(Step::failed(unknown(connection, from)?)) };
    if consumer::named(connection, to)?.is_some() {
        return Ok(Step::failed(format!("there is a sink '{to}' already: choose another name")));
    }
    if let Some(replay) = open_replay(connection, found.id)? {
        return Ok(Step::failed(format!(
            "replay {replay} to sink '{from}' has not ended: wait for its end, or `ralio-relay replay cancel {replay}`"
        )));
    }
    let former: Option<String> =
        connection.query_row("SELECT former_name FROM sinks WHERE id = ?1", [found.id], |row| row.get(0))?;
    if let Some(former) = former.filter(|former| former != to.as_str()) {
        return Ok(Step::failed(format!(
            "the configuration may still have sink '{from}' as '{former}': first start the daemon once with \
             name = \"{from}\", or rename it back to '{former}'"
        )));
    }
    if let Some((other, _)) = consumer::live(connection, to)?
        && other.id != found.id
    {
        return Ok(Step::failed(format!(
            "the configuration may still mean another sink by '{to}', which was renamed: first start the daemon once \
             with that one's new name, or choose another"
        )));
    }
    connection.execute(
        "UPDATE sinks SET name = ?2, former_name = ?3 WHERE id = ?1",
        params![found.id, to.as_str(), from.as_str()],
    )?;
    Ok(Step::done(format!("sink '{from}' is '{to}' now: change its name in the configuration too")))
}

/// A replay to this sink that has not ended. Its job holds the sink's name.
pub(super) fn open_replay(connection: &Connection, consumer: i64) -> rusqlite::Result<Option<JobId>> {
    for job in super::open(connection, |_, _| {})? {
        let Task::Replay { sink, .. } = &job.task else { continue };
        if consumer::live(connection, sink)?.is_some_and(|(found, _)| found.id == consumer) {
            return Ok(Some(job.id));
        }
    }
    Ok(None)
}
