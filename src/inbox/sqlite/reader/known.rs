//! What there is to name: sources, sinks, and ids and keys by their beginnings.

use std::ops::ControlFlow;

use super::super::query::ENTITY_KEY;
use super::super::rows::Stored;
use super::{ReadError, Reader, SCAN};
use crate::model::SinkName;

/// What an event is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// Its id.
    ById,
    /// The entity that it is about.
    ByKey,
}

/// A stretch of a search for names by their beginning.
pub struct NamesFound {
    /// Those that begin so, the newest event's first; one may come again.
    pub names: Vec<String>,
    /// Events looked at so far.
    pub done: u64,
    /// Of how many.
    pub total: u64,
}

impl Reader {
    /// Names of the sources at which events came in, or requests that are in quarantine.
    pub fn source_names(&self) -> Result<Vec<String>, ReadError> {
        self.names("SELECT name FROM sources UNION SELECT source FROM quarantine ORDER BY 1")
    }

    /// Names of the sinks that have a place in the log; those that a person has ended are left out.
    pub fn sink_names(&self) -> Result<Vec<SinkName>, ReadError> {
        let mut rows = self
            .connection
            .prepare_cached("SELECT name FROM sinks WHERE job_id IS NULL AND forgotten_at IS NULL ORDER BY name")?;
        let rows = rows.query_map([], |row| row.get::<_, Stored<_>>(0).map(|Stored(name)| name))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    fn names(&self, sql: &str) -> Result<Vec<String>, ReadError> {
        let mut rows = self.connection.prepare_cached(sql)?;
        let rows = rows.query_map([], |row| row.get(0))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Searches the log, newest first and in short reads, for ids or keys that begin with a text. No index helps: with ten
    /// million events it takes seconds.
    pub fn each_beginning(
        &self,
        named: Named,
        beginning: &str,
        visit: &mut dyn FnMut(NamesFound) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        let column = match named {
            Named::ById => "e.event_id",
            Named::ByKey => ENTITY_KEY,
        };
        let sql = format!(
            "SELECT {column} FROM events e
             WHERE e.seq BETWEEN ?1 AND ?2 AND substr({column}, 1, length(?3)) = ?3 ORDER BY e.seq DESC"
        );
        let head = self.last_seq()?;
        let mut high = head;
        while high > 0 {
            let low = (high - SCAN + 1).max(1);
            let names = {
                let mut rows = self.connection.prepare_cached(&sql)?;
                let rows = rows.query_map((low, high, beginning), |row| row.get(0))?;
                rows.collect::<rusqlite::Result<_>>()?
            };
            let looked_at = |seqs: i64| u64::try_from(seqs).unwrap_or(0);
            if visit(NamesFound { names, done: looked_at(head - low + 1), total: looked_at(head) }).is_break() {
                return Ok(());
            }
            high = low - 1;
        }
        Ok(())
    }
}
