//! Parked events in the database, read in portions.

use rusqlite::types::Value;
use rusqlite::{Connection, Row, params_from_iter};

use super::query::{Conditions, ENTITY_KEY};
use super::rows::{Stored, seq};
use crate::inbox::{ConsumerId, ParkedFilter, ParkedRecord, from_micros};

/// A parked event that a filter was held against.
pub(super) struct Found {
    pub(super) record: ParkedRecord,
    pub(super) matches: bool,
}

/// Why the last attempt failed: the latest row of the ledger.
const LAST_ERROR: &str =
    "(SELECT note FROM attempts a WHERE a.sink_id = p.sink_id AND a.seq = p.seq ORDER BY a.n DESC LIMIT 1)";

fn from_row(row: &Row<'_>) -> rusqlite::Result<Found> {
    let record = ParkedRecord {
        sink: row.get::<_, Stored<_>>(0)?.0,
        consumer: ConsumerId::new(row.get(1)?),
        seq: seq(row.get(2)?),
        event_id: row.get::<_, Stored<_>>(3)?.0,
        event_type: row.get::<_, Stored<_>>(4)?.0,
        key: row.get::<_, Stored<_>>(5)?.0,
        attempts: row.get(6)?,
        first_attempt: row.get::<_, Option<i64>>(7)?.map(from_micros),
        next_attempt: from_micros(row.get(8)?),
        last_error: row.get(9)?,
    };
    Ok(Found { record, matches: row.get(10)? })
}

/// Up to `limit` parked events of one consumer, after one place in the log and up to another, in order; those that do not
/// match too: so many rows are looked at, and no more.
pub(super) fn page(
    connection: &Connection,
    filter: &ParkedFilter,
    consumer: i64,
    (after, upto): (i64, i64),
    limit: usize,
) -> rusqlite::Result<Vec<Found>> {
    let (sql, parameters) = page_sql(filter, limit);
    let bounds = [consumer, after, upto].map(Value::from);
    let mut rows = connection.prepare_cached(&sql)?;
    rows.query_map(params_from_iter(bounds.iter().chain(&parameters)), from_row)?.collect()
}

pub(super) fn page_sql(filter: &ParkedFilter, limit: usize) -> (String, Vec<Value>) {
    let ParkedFilter { seqs, sink, types, event_id, key, error } = filter;
    let mut conditions = Conditions::after(3);
    conditions.also("s.name = ?", sink.as_ref().map(|name| name.as_str().to_owned()));
    conditions.types("e.type", types);
    conditions.also("e.event_id = ?", event_id.clone());
    conditions.also(&format!("{ENTITY_KEY} = ?"), key.clone());
    conditions.also(&format!("instr({LAST_ERROR}, ?) > 0"), error.clone());
    let matches = conditions.sql();
    let wanted = conditions.numbers("p.seq", seqs);
    let sql = format!(
        "SELECT s.name, s.id, p.seq, e.event_id, e.type, {ENTITY_KEY}, p.attempts, p.first_attempt, p.next_attempt,
             {LAST_ERROR}, {matches} IS TRUE
         FROM sinks s CROSS JOIN parked p ON p.sink_id = s.id CROSS JOIN events e ON e.seq = p.seq
         WHERE s.id = ?1 AND p.seq > ?2 AND p.seq <= ?3 AND {wanted} ORDER BY p.seq LIMIT {limit}"
    );
    (sql, conditions.parameters().to_vec())
}
