//! The work behind the acknowledgement: keys from memory become runs, runs are merged, merged ones dropped.
//!
//! It rides along with commits, in portions whose size follows the new events, so that it neither lags nor shows. All
//! of it is repeated from the tables after a crash or a rollback: only complete runs are looked up, a merge goes on after
//! the last key that it has written, and a set from memory is written anew.

use std::collections::BTreeMap;

use rusqlite::Connection;

use super::Keys;
use super::filter::Filter;
use super::runs::{self, CHUNK, COMPLETE, Cursor, DROPPED, Key, Kind, WRITING};

/// Events in a sealed set. In memory are at most two sets' worth.
pub(super) const SEAL: usize = if cfg!(test) { 64 } else { 16_384 };
/// Complete runs of a level that are merged into one of the next. With more there are more places to look at, with
/// fewer each key is written more often.
const FANOUT: usize = 4;
/// Chunks in a portion: their pages stand together.
const PORTION: usize = 8;
/// Keys of work for each new event: its two are written once for each of 8 levels (a billion events), and dropped as often.
const WORK: usize = 2 * (1 + 8 + 9);

pub(super) struct Upkeep {
    sealed: Option<Sealed>,
    /// `None` until they are read from the tables.
    tasks: Option<Tasks>,
    /// New events whose share of the work is not done yet.
    owed: usize,
}

/// A set of keys on its way from memory to two runs.
struct Sealed {
    /// Sorted.
    ids: Vec<Key>,
    entities: Vec<Key>,
    upto: i64,
    /// How far its runs are written; and how far that is committed.
    writing: Option<Writing>,
    committed: Option<Writing>,
}

#[derive(Clone, Copy)]
struct Writing {
    ids: i64,
    entities: i64,
    written: usize,
    /// Both runs are complete, and only the commit is missing.
    is_done: bool,
}

struct Tasks {
    complete: BTreeMap<(i64, Kind), Vec<i64>>,
    merges: BTreeMap<(i64, Kind), Merge>,
    dropped: Vec<i64>,
}

struct Merge {
    out: i64,
    inputs: Vec<Cursor>,
}

impl Upkeep {
    pub(super) fn new() -> Self {
        Self { sealed: None, tasks: None, owed: 0 }
    }

    pub(super) fn is_sealing(&self) -> bool {
        self.sealed.is_some()
    }

    /// Takes a set over, in the order of its seqs.
    pub(super) fn seal(&mut self, set: &[Keys]) {
        let sorted = |keys: &mut dyn Iterator<Item = Key>| {
            let mut keys: Vec<Key> = keys.collect();
            keys.sort_unstable();
            keys
        };
        let ids =
            sorted(&mut set.iter().flat_map(|keys| {
                [Some(keys.id), keys.body].into_iter().flatten().map(|hash| Key { hash, seq: keys.seq })
            }));
        let entities = sorted(&mut set.iter().filter_map(|keys| keys.entity.map(|hash| Key { hash, seq: keys.seq })));
        let upto = set.last().map_or(0, |keys| keys.seq);
        self.sealed = Some(Sealed { ids, entities, upto, writing: None, committed: None });
    }

    /// Where a sealed id stands.
    pub(super) fn seqs(&self, hash: i64) -> impl Iterator<Item = i64> {
        let ids = self.sealed.as_ref().map_or(&[][..], |sealed| &sealed.ids);
        let first = ids.partition_point(|key| key.hash < hash);
        ids[first..].iter().take_while(move |key| key.hash == hash).map(|key| key.seq)
    }

    /// Does the share of so many new events, in their transaction. [`Self::committed`] or [`Self::rolled_back`] must
    /// follow.
    pub(super) fn work(
        &mut self,
        connection: &Connection,
        filter: &mut Filter,
        new_events: usize,
    ) -> rusqlite::Result<()> {
        self.owed += new_events;
        let chunks = self.owed * WORK / CHUNK;
        if chunks < PORTION {
            return Ok(());
        }
        let tasks = match &mut self.tasks {
            Some(tasks) => tasks,
            None => {
                let writing = self.sealed.as_ref().and_then(|sealed| sealed.writing);
                self.tasks.insert(Tasks::load(connection, writing)?)
            }
        };
        for _ in 0..chunks {
            let worked = match self.sealed.as_mut().filter(|sealed| !sealed.is_done()) {
                Some(sealed) => sealed.step(connection, filter, tasks)?,
                None => tasks.step(connection)?,
            };
            if !worked {
                break;
            }
        }
        self.owed = 0;
        Ok(())
    }

    pub(super) fn committed(&mut self) {
        if let Some(sealed) = self.sealed.take_if(|sealed| sealed.is_done()) {
            drop(sealed);
        } else if let Some(sealed) = &mut self.sealed {
            sealed.committed = sealed.writing;
        }
    }

    pub(super) fn rolled_back(&mut self) {
        self.tasks = None;
        if let Some(sealed) = &mut self.sealed {
            sealed.writing = sealed.committed;
        }
    }
}

impl Sealed {
    fn is_done(&self) -> bool {
        self.writing.is_some_and(|writing| writing.is_done)
    }

    /// Writes a chunk; after the last one the watermark moves.
    fn step(&mut self, connection: &Connection, filter: &mut Filter, tasks: &mut Tasks) -> rusqlite::Result<bool> {
        let writing = match &mut self.writing {
            Some(writing) => writing,
            None => self.writing.insert(Writing {
                ids: runs::begin(connection, Kind::Id, 0)?,
                entities: runs::begin(connection, Kind::Entity, 0)?,
                written: 0,
                is_done: false,
            }),
        };
        let (run, rest) = match self.ids.get(writing.written..) {
            Some(ids) if !ids.is_empty() => (writing.ids, ids),
            _ => (writing.entities, &self.entities[writing.written - self.ids.len()..]),
        };
        let chunk = &rest[..rest.len().min(CHUNK)];
        if chunk.is_empty() {
            for (run, kind) in [(writing.ids, Kind::Id), (writing.entities, Kind::Entity)] {
                runs::set_state(connection, run, COMPLETE)?;
                tasks.complete.entry((0, kind)).or_default().push(run);
            }
            connection.prepare_cached("UPDATE index_state SET watermark = ?1")?.execute([self.upto])?;
            writing.is_done = true;
            return Ok(true);
        }
        runs::write_chunk(connection, run, chunk)?;
        if run == writing.ids {
            // Before they leave memory, and in sight of a filter that is being made.
            chunk.iter().for_each(|key| filter.insert(key.hash));
        }
        writing.written += chunk.len();
        Ok(true)
    }
}

impl Tasks {
    /// All that the tables tell. A run from memory that is not `writing` any more was left by a crash: its keys are in
    /// memory again, and are written anew.
    fn load(connection: &Connection, writing: Option<Writing>) -> rusqlite::Result<Self> {
        let live = writing.map_or([0, 0], |writing| [writing.ids, writing.entities]);
        connection
            .prepare_cached("UPDATE index_runs SET state = ?1 WHERE state = ?2 AND level = 0 AND id NOT IN (?3, ?4)")?
            .execute([DROPPED, WRITING, live[0], live[1]])?;
        let mut tasks = Self { complete: BTreeMap::new(), merges: BTreeMap::new(), dropped: Vec::new() };
        let mut inputs = Vec::new();
        let mut rows =
            connection.prepare_cached("SELECT id, kind, level, state, merged_into FROM index_runs ORDER BY id")?;
        let mut rows = rows.query([])?;
        while let Some(row) = rows.next()? {
            let (id, level, state) = (row.get(0)?, row.get(2)?, row.get::<_, i64>(3)?);
            let kind = if row.get::<_, i64>(1)? == Kind::Id as i64 { Kind::Id } else { Kind::Entity };
            match (state, row.get::<_, Option<i64>>(4)?) {
                (DROPPED, _) => tasks.dropped.push(id),
                (WRITING, _) if level == 0 => {}
                (WRITING, _) => _ = tasks.merges.insert((level, kind), Merge { out: id, inputs: Vec::new() }),
                (_, Some(into)) => inputs.push((id, into)),
                (_, None) => tasks.complete.entry((level, kind)).or_default().push(id),
            }
        }
        for merge in tasks.merges.values_mut() {
            let after = runs::last_key(connection, merge.out)?;
            for &(input, _) in inputs.iter().filter(|(_, into)| *into == merge.out) {
                merge.inputs.push(Cursor::open(connection, input, after)?);
            }
        }
        Ok(tasks)
    }

    /// Writes or drops a chunk, of the lowest level first; false when there is nothing to do.
    fn step(&mut self, connection: &Connection) -> rusqlite::Result<bool> {
        if let Some(&run) = self.dropped.last() {
            if runs::drop_some(connection, run, 1)? {
                self.dropped.pop();
            }
            return Ok(true);
        }
        let free = |&(level, kind): &(i64, Kind)| !self.merges.contains_key(&(level + 1, kind));
        let full = self.complete.iter().find(|(place, runs)| runs.len() >= FANOUT && free(place));
        if let Some((&place, _)) = full {
            self.begin_merge(connection, place)?;
        }
        let Some((&(level, kind), merge)) = self.merges.iter_mut().next() else { return Ok(false) };
        if merge.step(connection)? {
            return Ok(true);
        }
        let merge = self.merges.remove(&(level, kind)).expect("it is there");
        runs::set_state(connection, merge.out, COMPLETE)?;
        for input in &merge.inputs {
            runs::set_state(connection, input.run, DROPPED)?;
            self.dropped.push(input.run);
        }
        self.complete.entry((level, kind)).or_default().push(merge.out);
        Ok(true)
    }

    fn begin_merge(&mut self, connection: &Connection, (level, kind): (i64, Kind)) -> rusqlite::Result<()> {
        let out = runs::begin(connection, kind, level + 1)?;
        let mut inputs = Vec::new();
        for run in self.complete.remove(&(level, kind)).into_iter().flatten() {
            connection.prepare_cached("UPDATE index_runs SET merged_into = ?2 WHERE id = ?1")?.execute([run, out])?;
            inputs.push(Cursor::open(connection, run, None)?);
        }
        self.merges.insert((level + 1, kind), Merge { out, inputs });
        Ok(())
    }
}

impl Merge {
    /// Writes the next chunk; false when there was none.
    fn step(&mut self, connection: &Connection) -> rusqlite::Result<bool> {
        let mut chunk = Vec::with_capacity(CHUNK);
        while chunk.len() < CHUNK {
            let least = self.inputs.iter_mut().filter(|input| input.head().is_some()).min_by_key(|input| input.head());
            let Some(input) = least else { break };
            chunk.extend(input.head());
            input.advance(connection)?;
        }
        runs::write_chunk(connection, self.out, &chunk)?;
        Ok(!chunk.is_empty())
    }
}

/// Makes runs of what the tables of versions 1 and 2 hold, and drops those.
pub(in super::super) fn move_from_tables(connection: &Connection) -> rusqlite::Result<()> {
    for (kind, table) in [(Kind::Id, "id_index"), (Kind::Entity, "entity_index")] {
        let mut rows = connection.prepare(&format!("SELECT hash, seq FROM {table} ORDER BY hash, seq"))?;
        let mut rows = rows.query([])?;
        let run = runs::begin(connection, kind, 0)?;
        let (mut chunk, mut moved) = (Vec::with_capacity(CHUNK), 0);
        while let Some(row) = rows.next()? {
            chunk.push(Key { hash: row.get(0)?, seq: row.get(1)? });
            if chunk.len() == CHUNK {
                runs::write_chunk(connection, run, &chunk)?;
                moved += chunk.len();
                chunk.clear();
            }
        }
        runs::write_chunk(connection, run, &chunk)?;
        let level = (0..).find(|&level| SEAL * FANOUT.pow(level) >= moved).expect("a number has an end");
        connection.execute("UPDATE index_runs SET state = ?2, level = ?3 WHERE id = ?1", (run, COMPLETE, level))?;
        drop(rows);
        connection.execute_batch(&format!("DROP TABLE {table}"))?;
    }
    Ok(())
}
