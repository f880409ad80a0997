//! Dead letters in the database, read in portions.

use rusqlite::types::Value;
use rusqlite::{Connection, Row, params_from_iter};

use super::query::{Conditions, ENTITY_KEY};
use super::rows::{Stored, seq};
use crate::inbox::{ConsumerId, DeadLetterRecord, Decision, LetterFilter, LetterState, from_micros, micros};
use crate::model::JobId;

/// A dead letter that a filter was held against.
pub(super) struct Letter {
    pub(super) record: DeadLetterRecord,
    pub(super) matches: bool,
}

/// Which letters a page is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    /// Every sink's in this state, newest first; those of replays are left out.
    Everyone(LetterState),
    /// One consumer's that nobody has decided about, oldest first.
    Consumer(i64),
}

/// What the far side answered last.
const ANSWER: &str =
    "(SELECT w.answer FROM answers w WHERE w.seq = d.seq AND w.sink_id = d.sink_id ORDER BY w.n DESC LIMIT 1)";

/// Where letters are read from: those that were tried again have a table of their own.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Table {
    /// Open and discarded ones.
    Letters,
    Retried,
}

/// The columns of [`from_row`], and what they are read from. CROSS keeps SQLite from beginning with another table.
pub(super) fn select(table: Table) -> (String, String) {
    let (name, decision) = match table {
        Table::Letters => (
            "dead_letters",
            "iif(d.discarded_at IS NULL, 0, 2), d.discarded_at, d.discarded_by, d.discard_reason, d.job_id",
        ),
        Table::Retried => ("retried_letters", "1, d.retried_at, j.who, nullif(j.reason, ''), d.job_id"),
    };
    let columns = format!(
        "d.id, iif(coalesce(b.forgotten_at, s.forgotten_at) IS NULL, coalesce(b.name, s.name),
             coalesce(b.former_name, s.former_name)), s.job_id, d.seq, e.event_id, e.type, d.attempts, d.reason, d.at,
         coalesce(b.id, s.id), {ANSWER}, {ENTITY_KEY}, (SELECT name FROM sources WHERE id = e.source_id), {decision}"
    );
    let jobs = if table == Table::Retried { "LEFT JOIN jobs j ON j.id = d.job_id" } else { "" };
    let from = format!(
        "{name} d CROSS JOIN sinks s ON s.id = d.sink_id CROSS JOIN events e ON e.seq = d.seq
         LEFT JOIN sinks b ON b.id = s.replay_of {jobs}"
    );
    (columns, from)
}

/// Reads the columns of [`select`].
pub(super) fn from_row(row: &Row<'_>) -> rusqlite::Result<DeadLetterRecord> {
    let state = match row.get(13)? {
        0 => LetterState::Open,
        1 => LetterState::Retried,
        _ => LetterState::Discarded,
    };
    let decision = |at| {
        let job: Option<i64> = row.get(17)?;
        let (who, reason) = (row.get(15)?, row.get(16)?);
        Ok::<_, rusqlite::Error>(Decision { at: from_micros(at), who, reason, job: job.map(JobId::new) })
    };
    Ok(DeadLetterRecord {
        id: row.get(0)?,
        consumer: ConsumerId::new(row.get(9)?),
        sink: row.get::<_, Stored<_>>(1)?.0,
        replay: row.get::<_, Option<i64>>(2)?.map(JobId::new),
        seq: seq(row.get(3)?),
        event_id: row.get::<_, Stored<_>>(4)?.0,
        event_type: row.get::<_, Stored<_>>(5)?.0,
        key: row.get::<_, Stored<_>>(11)?.0,
        source: row.get::<_, Stored<_>>(12)?.0,
        attempts: row.get(6)?,
        reason: row.get(7)?,
        at: from_micros(row.get(8)?),
        answer: row.get(10)?,
        state,
        decision: row.get::<_, Option<i64>>(14)?.map(decision).transpose()?,
    })
}

/// Up to `limit` letters between two numbers, without these; those that do not match too: so many rows are looked at, and
/// no more.
pub(super) fn page(
    connection: &Connection,
    filter: &LetterFilter,
    (above, below): (i64, i64),
    of: Of,
    limit: usize,
) -> rusqlite::Result<Vec<Letter>> {
    let (sql, parameters) = page_sql(filter, of, limit);
    let bounds = [Value::from(above), Value::from(below)];
    let mut rows = connection.prepare_cached(&sql)?;
    let rows = rows.query_map(params_from_iter(bounds.iter().chain(&parameters)), |row| {
        Ok(Letter { record: from_row(row)?, matches: row.get(MATCHES)? })
    })?;
    rows.collect()
}

/// The column after those of [`select`].
const MATCHES: usize = 18;

pub(super) fn page_sql(filter: &LetterFilter, of: Of, limit: usize) -> (String, Vec<Value>) {
    let LetterFilter { ids, sink, types, event_id, key, reason, since, until } = filter;
    let mut conditions = Conditions::after(2);
    conditions.also("s.name = ?", sink.as_ref().map(|name| name.as_str().to_owned()));
    conditions.types("e.type", types);
    conditions.also("e.event_id = ?", event_id.clone());
    conditions.also(&format!("{ENTITY_KEY} = ?"), key.clone());
    conditions.also(&format!("instr(d.reason || ': ' || coalesce({ANSWER}, ''), ?) > 0"), reason.clone());
    conditions.also("d.at >= ?", since.map(micros));
    conditions.also("d.at < ?", until.map(micros));
    let matches = conditions.sql();
    let wanted = conditions.numbers("d.id", ids);
    let (table, of, order) = match of {
        Of::Everyone(LetterState::Open) => {
            (Table::Letters, "d.discarded_at IS NULL AND d.of_replay = 0".to_owned(), "DESC")
        }
        // What retention has discarded is no decision of anybody's.
        Of::Everyone(LetterState::Discarded) => {
            (Table::Letters, "d.discarded_by IS NOT NULL AND d.of_replay = 0".to_owned(), "DESC")
        }
        Of::Everyone(LetterState::Retried) => (Table::Retried, "1".to_owned(), "DESC"),
        // Numbers are looked up one by one, and not by walking over all that the consumer has.
        Of::Consumer(id) if ids.is_empty() => {
            (Table::Letters, format!("d.discarded_at IS NULL AND d.sink_id = {id}"), "ASC")
        }
        Of::Consumer(id) => (Table::Letters, format!("d.discarded_at IS NULL AND +d.sink_id = {id}"), "ASC"),
    };
    let (columns, from) = select(table);
    let sql = format!(
        "SELECT {columns}, {matches} FROM {from}
         WHERE {of} AND d.id > ?1 AND d.id < ?2 AND {wanted} ORDER BY d.id {order} LIMIT {limit}"
    );
    (sql, conditions.parameters().to_vec())
}
