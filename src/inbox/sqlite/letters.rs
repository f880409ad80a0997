//! Dead letters in the database, read in portions.

use rusqlite::types::Value;
use rusqlite::{Connection, Row, params_from_iter};

use super::query::{Conditions, ENTITY_KEY};
use super::rows::{Stored, seq};
use crate::inbox::{ConsumerId, DeadLetterRecord, LetterFilter, from_micros, micros};
use crate::model::JobId;

/// A dead letter that a filter was held against.
pub(super) struct Letter {
    pub(super) record: DeadLetterRecord,
    pub(super) matches: bool,
}

/// Which letters a page is made of; those that a person has decided about are in none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    /// Every sink's, newest first; those of replays are left out.
    Everyone,
    /// One consumer's, oldest first.
    Consumer(i64),
}

/// The columns of [`from_row`], and what they are read from. CROSS keeps SQLite from beginning with another table.
pub(super) const LETTER: &str = "d.id, iif(coalesce(b.forgotten_at, s.forgotten_at) IS NULL, coalesce(b.name, s.name),
        coalesce(b.former_name, s.former_name)), s.job_id, d.seq, e.event_id, e.type, d.attempts,
    d.reason, d.at, coalesce(b.id, s.id),
    (SELECT w.answer FROM answers w WHERE w.seq = d.seq AND w.sink_id = d.sink_id ORDER BY w.n DESC LIMIT 1)";
pub(super) const LETTERS: &str = "dead_letters d CROSS JOIN sinks s ON s.id = d.sink_id
    CROSS JOIN events e ON e.seq = d.seq LEFT JOIN sinks b ON b.id = s.replay_of";

/// What the far side answered last.
const ANSWER: &str =
    "(SELECT w.answer FROM answers w WHERE w.seq = d.seq AND w.sink_id = d.sink_id ORDER BY w.n DESC LIMIT 1)";

/// Reads [`LETTER`].
pub(super) fn from_row(row: &Row<'_>) -> rusqlite::Result<DeadLetterRecord> {
    Ok(DeadLetterRecord {
        id: row.get(0)?,
        consumer: ConsumerId::new(row.get(9)?),
        sink: row.get::<_, Stored<_>>(1)?.0,
        replay: row.get::<_, Option<i64>>(2)?.map(JobId::new),
        seq: seq(row.get(3)?),
        event_id: row.get::<_, Stored<_>>(4)?.0,
        event_type: row.get::<_, Stored<_>>(5)?.0,
        attempts: row.get(6)?,
        reason: row.get(7)?,
        at: from_micros(row.get(8)?),
        answer: row.get(10)?,
    })
}

/// Up to `limit` letters between two numbers, without these, that no person has decided about; those that do not match
/// too: so many rows are looked at, and no more.
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

/// The column after those of [`LETTER`].
const MATCHES: usize = 11;

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
    let (of, order) = match of {
        Of::Everyone => ("d.of_replay = 0".to_owned(), "DESC"),
        // Numbers are looked up one by one, and not by walking over all that the consumer has.
        Of::Consumer(id) if ids.is_empty() => (format!("d.sink_id = {id}"), "ASC"),
        Of::Consumer(id) => (format!("+d.sink_id = {id}"), "ASC"),
    };
    let sql = format!(
        "SELECT {LETTER}, {matches} FROM {LETTERS}
         WHERE d.discarded_at IS NULL AND {of} AND d.id > ?1 AND d.id < ?2 AND {wanted} ORDER BY d.id {order} LIMIT {limit}"
    );
    (sql, conditions.parameters().to_vec())
}
