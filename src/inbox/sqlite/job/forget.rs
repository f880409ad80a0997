//! Ending a sink that is not configured any more.

use jiff::Timestamp;
use rusqlite::{Connection, params};

use super::super::consumer;
use super::super::fault::Fault;
use super::super::letters::{self, Of};
use super::super::parked;
use super::tally::{Place, places};
use super::{PORTION, Step, Stored, counted, sinks};
use super::{letters as letter_jobs, parked as parked_jobs};
use crate::inbox::{ConfiguredSink, LetterFilter, ParkedFilter, micros};
use crate::model::SinkName;

/// First what is parked, then the dead letters, portion by portion; last the sink itself. A sink that is configured again
/// meanwhile keeps what it still has.
pub(super) fn forget(
    connection: &Connection,
    stored: &Stored,
    sink: &SinkName,
    configured: &[ConfiguredSink],
    now: Timestamp,
) -> Result<Step, Fault> {
    let place = places(connection, configured)?.into_iter().find(|place| place.name == sink.as_str());
    let Some(place) = place else { return Ok(Step::failed(sinks::unknown(connection, sink)?)) };
    if let Some(why) = refusal(connection, sink, &place)? {
        return Ok(Step { place: stored.job.place, ..Step::failed(why) });
    }
    let parked = parked::page(connection, &ParkedFilter::default(), place.id, (0, i64::MAX), PORTION)?;
    for event in &parked {
        parked_jobs::discard_one(connection, stored, place.id, &event.record, now)?;
    }
    let mut step = Step { place: stored.job.place, done: parked.len() as u64, ..Step::default() };
    let room = PORTION - parked.len();
    let all = LetterFilter::default();
    let letters = letters::page(connection, &all, (0, i64::MAX), Of::Consumer(place.id), room)?;
    for letter in &letters {
        letter_jobs::discard_one(connection, stored, place.id, &letter.record, now)?;
    }
    step.done += letters.len() as u64;
    if letters.len() == room {
        return Ok(step);
    }
    let after = end(connection, stored, sink, &place, now)?;
    let had = counted(stored.job.done + step.done, "parked event or dead letter", "parked events and dead letters");
    step.done += after;
    step.end = Step::done(format!(
        "sink '{sink}' is forgotten: {had}, and {}, are discarded",
        counted(after, "event after its place in the log", "events after its place in the log")
    ))
    .end;
    Ok(step)
}

/// Why the sink cannot be forgotten.
fn refusal(connection: &Connection, sink: &SinkName, place: &Place) -> rusqlite::Result<Option<String>> {
    if let Some(configured) = &place.configured {
        let name = &configured.name;
        return Ok(Some(format!(
            "sink '{sink}' is in the configuration{}: take it out there first, and have the daemon read it again (SIGHUP)",
            if name == sink { String::new() } else { format!(" as '{name}'") }
        )));
    }
    let replay = sinks::open_replay(connection, place.id)?;
    Ok(replay.map(|replay| {
        format!(
            "replay {replay} to sink '{sink}' has not ended: wait for its end, or `ralio-relay replay cancel {replay}`"
        )
    }))
}

/// Ends the sink, and says how many events it had not come to.
fn end(
    connection: &Connection,
    stored: &Stored,
    sink: &SinkName,
    place: &Place,
    now: Timestamp,
) -> rusqlite::Result<u64> {
    connection.execute(
        "UPDATE sinks SET name = 'forgotten:' || id, former_name = name, forgotten_at = ?2, forgotten_by = ?3,
             last_seq = max(cursor, (SELECT coalesce(max(seq), 0) FROM events)), paused_at = NULL, next_try = NULL,
             build_error = NULL, build_failed_since = NULL
         WHERE id = ?1",
        params![place.id, micros(now), stored.job.id.get()],
    )?;
    debug_assert!(consumer::live(connection, sink)?.is_none(), "the name is free");
    connection.query_row("SELECT last_seq - cursor FROM sinks WHERE id = ?1", [place.id], |row| row.get(0))
}
