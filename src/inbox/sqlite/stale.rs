//! Which events are stale: an open state (`processing`) that arrived after a final one of its entity. A pure function
//! of the log, decided when an event is read, so that the acknowledging commit need not know.

use std::collections::HashMap;

use rusqlite::{Connection, params};

use super::index::{each_seq, hash};
use super::rows::FINAL;

/// Events of one entity beyond which it is remembered what was found among them.
const MANY: usize = if cfg!(test) { 4 } else { 64 };
/// Entities of which that is remembered; more are found out again.
const MAX_KNOWN: usize = 1_000;

/// The final events above the index's watermark, as far as they were needed, and what is known of entities with many events.
#[derive(Default)]
pub(super) struct Tail {
    watermark: i64,
    upto: i64,
    finals: HashMap<i64, Vec<i64>>,
    /// By source and entity.
    known: HashMap<(i64, String), Known>,
    /// Rows that were looked at.
    #[cfg(test)]
    pub(super) looked_at: usize,
}

/// What is known of the events of one entity. It holds for good: the log is never changed.
#[derive(Clone, Copy, Default)]
struct Known {
    /// The first that is final.
    first_final: Option<i64>,
    /// Without one: up to here there is none.
    upto: i64,
}

impl Known {
    /// Whether a final one stands before this place; `None` where that is not known yet.
    fn is_before(self, seq: i64) -> Option<bool> {
        match self.first_final {
            Some(first) => Some(first < seq),
            None => (seq <= self.upto).then_some(false),
        }
    }
}

/// An event in an open state.
pub(super) struct Open<'a> {
    pub(super) seq: i64,
    pub(super) source_id: i64,
    pub(super) source: &'a str,
    pub(super) key: &'a str,
}

/// An entity that is asked about.
struct Entity<'a> {
    source_id: i64,
    key: &'a str,
    hash: i64,
    /// The last of its events that is asked about.
    last: i64,
    known: Known,
    /// Its other events, as far as they have to be looked at.
    others: Vec<i64>,
}

impl Tail {
    /// For each of these events, whether a final event of the same entity and source stands before it. Each event of an
    /// entity is looked at once for all of them, and, where there are many, once for all calls.
    pub(super) fn are_stale(&mut self, connection: &Connection, open: &[Open<'_>]) -> rusqlite::Result<Vec<bool>> {
        let Some(last) = open.iter().map(|event| event.seq).max() else { return Ok(Vec::new()) };
        let mut entities: HashMap<(i64, &str), Entity<'_>> = HashMap::new();
        for event in open {
            let entity = entities.entry((event.source_id, event.key)).or_insert_with(|| self.entity(event));
            entity.last = entity.last.max(event.seq);
        }
        if entities.values().any(|entity| entity.known.is_before(entity.last).is_none()) {
            // One for all: with each commit of the writer a new one finds SQLite's page cache empty.
            let _snapshot = connection.unchecked_transaction()?;
            self.extend(connection, last)?;
            self.find_finals(connection, &mut entities)?;
        }
        let is_stale = |event: &Open<'_>| {
            let entity = entities.get(&(event.source_id, event.key));
            entity.and_then(|entity| entity.known.is_before(event.seq)).unwrap_or(false)
        };
        Ok(open.iter().map(is_stale).collect())
    }

    fn entity<'a>(&self, event: &Open<'a>) -> Entity<'a> {
        let known = self.known.get(&(event.source_id, event.key.to_owned())).copied().unwrap_or_default();
        let hash = hash(event.source, event.key);
        Entity { source_id: event.source_id, key: event.key, hash, last: event.seq, known, others: Vec::new() }
    }

    /// Finds the first final event of each entity, as far as that is needed.
    fn find_finals(
        &mut self,
        connection: &Connection,
        entities: &mut HashMap<(i64, &str), Entity<'_>>,
    ) -> rusqlite::Result<()> {
        let mut unknown: Vec<&mut Entity<'_>> =
            entities.values_mut().filter(|entity| entity.known.is_before(entity.last).is_none()).collect();
        unknown.sort_unstable_by_key(|entity| (entity.hash, entity.known.upto));
        let mut asked: Vec<(i64, i64)> = unknown.iter().map(|entity| (entity.hash, entity.known.upto)).collect();
        // Two entities may share a hash: the one of which less is known asks for both.
        asked.dedup_by_key(|(hash, _)| *hash);
        let mut others: HashMap<i64, Vec<i64>> = HashMap::new();
        each_seq(connection, &asked, |hash, seq| others.entry(hash).or_default().push(seq))?;
        let mut ends_entity = connection.prepare_cached(
            "SELECT 1 FROM events WHERE seq = ?1 AND phase = ?2 AND source_id = ?3 AND entity_key = ?4",
        )?;
        for entity in unknown {
            let above = self.finals.get(&entity.hash).into_iter().flatten();
            entity.others.extend(others.get(&entity.hash).into_iter().flatten().chain(above));
            let (upto, last) = (entity.known.upto, entity.last);
            entity.others.retain(|&seq| seq > upto && seq < last);
            entity.others.sort_unstable();
            entity.known.upto = last;
            for &other in &entity.others {
                #[cfg(test)]
                {
                    self.looked_at += 1;
                }
                if ends_entity.exists(params![other, FINAL, entity.source_id, entity.key])? {
                    entity.known.first_final = Some(other);
                    break;
                }
            }
            let place = (entity.source_id, entity.key.to_owned());
            if entity.others.len() >= MANY || self.known.contains_key(&place) {
                if self.known.len() >= MAX_KNOWN {
                    self.known.clear();
                }
                self.known.insert(place, entity.known);
            }
        }
        Ok(())
    }

    /// Reads on to `seq`, and lets go of what the index holds by now.
    fn extend(&mut self, connection: &Connection, seq: i64) -> rusqlite::Result<()> {
        if seq <= self.upto {
            return Ok(());
        }
        let watermark: i64 =
            connection.prepare_cached("SELECT watermark FROM index_state")?.query_row([], |row| row.get(0))?;
        if watermark > self.watermark {
            self.watermark = watermark;
            self.upto = self.upto.max(watermark);
            self.finals.retain(|_, seqs| {
                seqs.retain(|&seq| seq > watermark);
                !seqs.is_empty()
            });
        }
        let mut rows = connection.prepare_cached(
            "SELECT e.seq, s.name, e.entity_key FROM events e JOIN sources s ON s.id = e.source_id
             WHERE e.seq > ?1 AND e.seq <= ?2 AND e.phase = ?3 AND e.entity_key IS NOT NULL",
        )?;
        let mut rows = rows.query([self.upto, seq, FINAL])?;
        while let Some(row) = rows.next()? {
            let hash = hash(row.get_ref(1)?.as_str()?, row.get_ref(2)?.as_str()?);
            self.finals.entry(hash).or_default().push(row.get(0)?);
        }
        self.upto = self.upto.max(seq);
        Ok(())
    }
}
