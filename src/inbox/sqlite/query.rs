//! From a filter to SQL.

use rusqlite::types::Value;

use super::Direction;
use super::rows::category_code;
use crate::inbox::{EventFilter, micros};

/// Rows in one read: a long walk is made of short ones, so that it never holds up a checkpoint.
pub(super) const PAGE: usize = 500;

/// An event that names no entity is its own.
pub(super) const ENTITY_KEY: &str = "coalesce(e.entity_key, e.event_id)";

/// One statement over a range of seqs: `?1` and `?2`, then the filter's parameters.
pub(super) struct Query {
    pub(super) sql: String,
    pub(super) parameters: Vec<Value>,
    /// Whether the events are few, and are found through an index.
    pub(super) by_index: bool,
}

impl Query {
    pub(super) fn new(filter: &EventFilter, direction: Direction) -> Self {
        let EventFilter { types, categories, source, since, until, key, id, state, search } = filter;
        let mut query = Self { sql: String::new(), parameters: Vec::new(), by_index: id.is_some() || key.is_some() };
        let mut conditions = vec!["e.seq BETWEEN ?1 AND ?2".to_owned()];
        let any = |column: &str, test: &str, values: Vec<Value>, query: &mut Self| -> Option<String> {
            let terms: Vec<String> =
                values.into_iter().map(|value| format!("{column} {test} {}", query.bind(value))).collect();
            (!terms.is_empty()).then(|| format!("({})", terms.join(" OR ")))
        };
        // SQLite's own GLOB knows character classes: a '[' that is meant literally must say so.
        let globs = types.iter().map(|glob| Value::from(glob.replace('[', "[[]"))).collect();
        conditions.extend(any("e.type", "GLOB", globs, &mut query));
        let codes = categories.iter().map(|&category| Value::from(category_code(category))).collect();
        conditions.extend(any("e.category", "=", codes, &mut query));
        let mut also = |condition: &str, value: Option<Value>| {
            if let Some(value) = value {
                let place = query.bind(value);
                conditions.push(condition.replace('?', &place));
            }
        };
        also("s.name = ?", source.clone().map(Value::from));
        also("e.received_at >= ?", since.map(|at| Value::from(micros(at))));
        also("e.received_at < ?", until.map(|at| Value::from(micros(at))));
        also(&format!("{ENTITY_KEY} = ?"), key.clone().map(Value::from));
        also("e.event_id = ?", id.clone().map(Value::from));
        also("e.state = ? COLLATE NOCASE", state.clone().map(Value::from));
        also(
            "instr((SELECT body FROM bodies b WHERE b.seq = e.seq), ?) > 0",
            search.clone().map(|text| Value::from(text.into_bytes())),
        );
        let order = if direction == Direction::Forward { "ASC" } else { "DESC" };
        query.sql = format!(
            "SELECT e.seq, e.event_id, e.type, e.source_id, e.entity_key, e.state, e.event_time, e.received_at, e.size,
                    e.conflict, e.body_sha256, e.phase, 1 + coalesce(a.again, 0)
             FROM events e JOIN sources s ON s.id = e.source_id LEFT JOIN arrivals a ON a.seq = e.seq
             WHERE {} ORDER BY e.seq {order} LIMIT {PAGE}",
            conditions.join(" AND ")
        );
        query
    }

    fn bind(&mut self, value: Value) -> String {
        self.parameters.push(value);
        format!("?{}", self.parameters.len() + 2)
    }
}
