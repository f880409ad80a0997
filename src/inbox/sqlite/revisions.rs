//! What each sink was, from when on.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::consumer;
use super::rows::seq;
use crate::inbox::{Because, SinkDefinition, SinkRevision, from_micros, micros};
use crate::model::SinkName;

const COLUMNS: &str = "revision, at, from_seq, type, target, route, because";

fn from_row(row: &Row<'_>) -> rusqlite::Result<SinkRevision> {
    let because: String = row.get(6)?;
    let because = Because::ALL.into_iter().find(|known| known.as_str() == because);
    Ok(SinkRevision {
        revision: row.get(0)?,
        since: from_micros(row.get(1)?),
        from_seq: seq(row.get(2)?),
        definition: SinkDefinition { kind: row.get(3)?, target: row.get(4)?, route: row.get(5)? },
        because: because.ok_or(rusqlite::types::FromSqlError::InvalidType)?,
    })
}

/// See [`crate::inbox::Inbox::note_definition`]. In the caller's transaction.
pub(super) fn note(
    connection: &Connection,
    sink: &SinkName,
    definition: &SinkDefinition,
    because: Because,
    now: Timestamp,
) -> rusqlite::Result<()> {
    let Some((found, _)) = consumer::live(connection, sink)? else { return Ok(()) };
    let last = last(connection, found.id)?;
    if last.as_ref().is_some_and(|last| last.definition == *definition) {
        return Ok(());
    }
    let SinkDefinition { kind, target, route } = definition;
    let revision = last.map_or(1, |last| last.revision + 1);
    connection
        .execute(
            &format!("INSERT INTO sink_revisions (sink_id, {COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)"),
            params![found.id, revision, micros(now), found.cursor + 1, kind, target, route, because.as_str()],
        )
        .map(drop)
}

fn last(connection: &Connection, sink_id: i64) -> rusqlite::Result<Option<SinkRevision>> {
    connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM sink_revisions WHERE sink_id = ?1 ORDER BY revision DESC LIMIT 1"
        ))?
        .query_row([sink_id], from_row)
        .optional()
}

/// Which revision a consumer delivers to now: that of its sink, where it is a replay's. `None` where none is noted.
pub(super) fn present(connection: &Connection, consumer: i64) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached(
            "SELECT max(revision) FROM sink_revisions
             WHERE sink_id = (SELECT coalesce(replay_of, id) FROM sinks WHERE id = ?1)",
        )?
        .query_row([consumer], |row| row.get(0))
}

/// The last revisions of a sink, the newest first.
pub(super) fn list(connection: &Connection, sink_id: i64, limit: usize) -> rusqlite::Result<Vec<SinkRevision>> {
    let mut rows = connection.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM sink_revisions WHERE sink_id = ?1 ORDER BY revision DESC LIMIT {limit}"
    ))?;
    rows.query_map([sink_id], from_row)?.collect()
}
