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

/// Two sinks exchange their names. Until the configuration has followed, each name still stands at the other's destination,
/// and nothing in the inbox could tell: so both are paused in the same transaction, until a person resumes them.
pub(super) fn swap(connection: &Connection, one: &SinkName, other: &SinkName, now: Timestamp) -> Result<Step, Fault> {
    let mut ids = Vec::new();
    for name in [one, other] {
        let Some(found) = consumer::named(connection, name)? else {
            return Ok(Step::failed(unknown(connection, name)?));
        };
        if let Some(refused) = held(connection, found.id, name)? {
            return Ok(refused);
        }
        if let Some(former) = former_name(connection, found.id)? {
            return Ok(Step::failed(not_followed(name, &former)));
        }
        ids.push(found.id);
    }
    let mut step = Step::done(format!(
        "sink '{one}' is '{other}' now, and '{other}' is '{one}'; both are paused: exchange the names in the configuration \
         too, have the daemon read it again, then `ralio-relay sinks resume {one}` and `ralio-relay sinks resume {other}`"
    ));
    for name in [one, other] {
        step.effects.extend(pause(connection, name, now)?.effects);
    }
    let set = |id: &i64, name: &str| connection.execute("UPDATE sinks SET name = ?2 WHERE id = ?1", params![id, name]);
    // No sink can have this name; each name may be there only once.
    set(&ids[0], &format!("swap:{}", ids[0]))?;
    set(&ids[1], one.as_str())?;
    set(&ids[0], other.as_str())?;
    Ok(step)
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
        return Ok(Step::failed(format!(
            "there is a sink '{to}' already: choose another name; with --swap the two exchange their names"
        )));
    }
    if let Some(refused) = held(connection, found.id, from)? {
        return Ok(refused);
    }
    if let Some(former) = former_name(connection, found.id)?.filter(|former| former != to.as_str()) {
        return Ok(Step::failed(not_followed(from, &former)));
    }
    if let Some((other, _)) = consumer::live(connection, to)?
        && other.id != found.id
    {
        return Ok(Step::failed(format!(
            "the configuration may still mean another sink by '{to}', which was renamed: first start the daemon once \
             with that one's new name, or choose another; to have two sinks exchange their names, use --swap"
        )));
    }
    connection.execute(
        "UPDATE sinks SET name = ?2, former_name = ?3 WHERE id = ?1",
        params![found.id, to.as_str(), from.as_str()],
    )?;
    Ok(Step::done(format!("sink '{from}' is '{to}' now: change its name in the configuration too")))
}

fn former_name(connection: &Connection, id: i64) -> rusqlite::Result<Option<String>> {
    connection.query_row("SELECT former_name FROM sinks WHERE id = ?1", [id], |row| row.get(0))
}

fn not_followed(name: &SinkName, former: &str) -> String {
    format!(
        "the configuration may still have sink '{name}' as '{former}': first start the daemon once with \
         name = \"{name}\" (or have it read its configuration again), or rename it back to '{former}'"
    )
}

/// Why a sink has to keep its name for now.
fn held(connection: &Connection, id: i64, name: &SinkName) -> rusqlite::Result<Option<Step>> {
    let refused = |replay| {
        Step::failed(format!(
            "replay {replay} to sink '{name}' has not ended: wait for its end, or `ralio-relay replay cancel {replay}`"
        ))
    };
    Ok(open_replay(connection, id)?.map(refused))
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
