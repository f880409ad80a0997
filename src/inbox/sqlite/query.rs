//! From a filter to SQL.

use rusqlite::types::Value;

use super::Direction;
use super::holds::HOLDS;
use super::rows::category_code;
use crate::inbox::{EventFilter, micros};

/// Rows in one read: a long walk is made of short ones, so that it never holds up a checkpoint.
pub(super) const PAGE: usize = 500;

/// An event that names no entity is its own.
pub(super) const ENTITY_KEY: &str = "coalesce(e.entity_key, e.event_id)";

/// What a filter asks for, as SQL; every value is a parameter.
pub(super) struct Conditions {
    terms: Vec<String>,
    parameters: Vec<Value>,
    /// Parameters of the statement's own, before these.
    before: usize,
}

impl Conditions {
    /// Whose parameters follow so many others.
    pub(super) fn after(parameters: usize) -> Self {
        Self { terms: Vec::new(), parameters: Vec::new(), before: parameters }
    }

    /// A condition on a value, where one is given: the `?` stands for it.
    pub(super) fn also<T: Into<Value>>(&mut self, condition: &str, value: Option<T>) {
        if let Some(value) = value {
            let place = self.bind(value.into());
            self.terms.push(condition.replace('?', &place));
        }
    }

    /// Any of the values, where there are some.
    fn any(&mut self, column: &str, test: &str, values: impl Iterator<Item = Value>) {
        let terms: Vec<String> = values.map(|value| format!("{column} {test} {}", self.bind(value))).collect();
        if !terms.is_empty() {
            self.terms.push(format!("({})", terms.join(" OR ")));
        }
    }

    /// Types that any of the globs matches, where there are some.
    pub(super) fn types(&mut self, column: &str, globs: &[String]) {
        // SQLite's own GLOB knows character classes: a '[' that is meant literally must say so.
        self.any(column, "GLOB", globs.iter().map(|glob| Value::from(glob.replace('[', "[[]"))));
    }

    /// A condition of its own: one of these numbers, where there are some. To be asked for after [`Self::sql`].
    pub(super) fn numbers(&mut self, column: &str, numbers: &[i64]) -> String {
        if numbers.is_empty() {
            return "1".to_owned();
        }
        let place = self.bind(Value::from(format!("{numbers:?}")));
        format!("{column} IN (SELECT value FROM json_each({place}))")
    }

    /// All of them at once; true where there are none.
    pub(super) fn sql(&self) -> String {
        if self.terms.is_empty() { "1".to_owned() } else { self.terms.join(" AND ") }
    }

    pub(super) fn parameters(&self) -> &[Value] {
        &self.parameters
    }

    fn bind(&mut self, value: Value) -> String {
        self.parameters.push(value);
        format!("?{}", self.before + self.parameters.len())
    }
}

/// One statement over a range of seqs: `?1` and `?2`, then its own parameters, then the filter's.
pub(super) struct Query {
    pub(super) sql: String,
    pub(super) parameters: Vec<Value>,
    /// Whether the events are few, and are found through an index.
    pub(super) by_index: bool,
}

const SUMMARY: &str = "SELECT e.seq, e.event_id, e.type, e.source_id, e.entity_key, e.state, e.event_time, \
    e.received_at, e.size, e.conflict, e.body_sha256, e.phase, e.verdict FROM events e";
const SEQ: &str = "SELECT e.seq FROM events e";
/// Up to `?3` bodies may have been dropped; beyond it nothing has to be read to know that they are there.
const TALLY: &str = "SELECT e.type, e.conflict, e.seq > ?3 OR EXISTS (SELECT 1 FROM bodies b WHERE b.seq = e.seq), \
    count(*) FROM events e";

impl Query {
    /// For lines of `events list`.
    pub(super) fn new(filter: &EventFilter, direction: Direction) -> Self {
        Self::selecting(SUMMARY, filter, direction)
    }

    /// For the events' places alone, in order.
    pub(super) fn places(filter: &EventFilter) -> Self {
        Self::selecting(SEQ, filter, Direction::Forward)
    }

    /// For counts by type, conflict, and whether the body is there: `?3` is how far bodies may have been dropped.
    pub(super) fn tally(filter: &EventFilter) -> Self {
        Self::of(TALLY, filter, 3, "GROUP BY 1, 2, 3")
    }

    fn selecting(columns: &str, filter: &EventFilter, direction: Direction) -> Self {
        let order = if direction == Direction::Forward { "ASC" } else { "DESC" };
        Self::of(columns, filter, 2, &format!("ORDER BY e.seq {order} LIMIT {PAGE}"))
    }

    fn of(columns: &str, filter: &EventFilter, parameters: usize, end: &str) -> Self {
        let EventFilter { types, categories, source, since, until, key, id, state, search } = filter;
        let mut conditions = Conditions::after(parameters);
        conditions.types("e.type", types);
        conditions.any("e.category", "=", categories.iter().map(|&category| Value::from(category_code(category))));
        conditions.also("e.source_id = (SELECT id FROM sources WHERE name = ?)", source.clone());
        conditions.also("e.received_at >= ?", since.map(micros));
        conditions.also("e.received_at < ?", until.map(micros));
        conditions.also(&format!("{ENTITY_KEY} = ?"), key.clone());
        conditions.also("e.event_id = ?", id.clone());
        conditions.also("e.state = ? COLLATE NOCASE", state.clone());
        conditions
            .also(&format!("(SELECT {HOLDS}(b.body, e.headers, ?) FROM bodies b WHERE b.seq = e.seq)"), search.clone());
        Self {
            sql: format!("{columns} WHERE e.seq BETWEEN ?1 AND ?2 AND {} {end}", conditions.sql()),
            by_index: id.is_some() || key.is_some(),
            parameters: conditions.parameters,
        }
    }
}
