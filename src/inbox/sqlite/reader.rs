//! Browsing the inbox, daemon or no daemon.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::Path;

use jiff::Timestamp;
use rusqlite::types::Value;
use rusqlite::{Connection, Row, params_from_iter};

use super::index::hash;
use super::open::open_reader;
use super::query::{ENTITY_KEY, PAGE, Query};
use super::rows::{self, Stored, json};
use super::stale::Tail;
use crate::inbox::{
    AttemptRecord, Config, DeadLetterRecord, EventDetail, EventFilter, EventSummary, Job, LetterFilter, Quarantined,
    Selection, SinkRecord, Slice, StoredEvent, from_micros,
};
use crate::model::{EntityKey, EventType, JobId, Seq, SinkName, SourceName};
use crate::verify::Rejection;

/// Rows looked at in one read when few of them match.
const SCAN: i64 = 20_000;
/// The same when their bodies are searched, which may be a mebibyte each.
const SEARCH: i64 = 200;
/// Bytes of bodies in one read of the log.
const READ_BYTES: usize = 8 << 20;
/// Events of one entity in `events show`.
const LIFECYCLE: usize = 100;

/// A read-only connection for browsing. Long walks are made of short reads, so that they never hold up a checkpoint.
pub struct Reader {
    connection: Connection,
    tail: Tail,
    sources: HashMap<i64, SourceName>,
}

/// Which way a walk goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Oldest first.
    Forward,
    /// Newest first.
    Backward,
}

/// The inbox could not be opened or read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// No daemon has made it yet, or the path is another.
    #[error("there is no inbox at {0}: start the daemon once, or check inbox.url")]
    Absent(String),
    /// SQLite's words.
    #[error("the inbox could not be read")]
    Sqlite(#[from] rusqlite::Error),
}

impl Reader {
    /// Opens the file for reading; says so when there is none yet.
    pub fn open(config: &Config) -> Result<Self, ReadError> {
        // Where nobody may look there can be one all the same: that is left for SQLite to say.
        if let Ok(false) = config.path.try_exists() {
            return Err(ReadError::Absent(config.path.display().to_string()));
        }
        Ok(Self::open_path(&config.path)?)
    }

    pub(super) fn open_path(path: &Path) -> rusqlite::Result<Self> {
        Ok(Self { connection: open_reader(path)?, tail: Tail::default(), sources: HashMap::new() })
    }

    /// The last event, [`Seq::ZERO`] in an empty inbox.
    pub fn head(&self) -> Result<Seq, ReadError> {
        let head = self.connection.query_row("SELECT coalesce(max(seq), 0) FROM events", [], |row| row.get(0))?;
        Ok(seq(head))
    }

    /// Walks over the events that the filter lets through, from after (or before) `from` on, until `visit` breaks.
    pub fn each_event(
        &mut self,
        filter: &EventFilter,
        direction: Direction,
        from: Option<Seq>,
        visit: &mut dyn FnMut(EventSummary) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        let head = self.head()?.get();
        let mut at = from.map_or(if direction == Direction::Forward { 0 } else { head + 1 }, Seq::get);
        let query = Query::new(filter, direction);
        if query.by_index {
            let mut seqs = self.candidates(filter)?;
            seqs.retain(|&seq| if direction == Direction::Forward { seq > at } else { seq < at });
            if direction == Direction::Backward {
                seqs.reverse();
            }
            for seq in seqs {
                for event in self.page(&query, seq, seq)? {
                    if visit(event).is_break() {
                        return Ok(());
                    }
                }
            }
            return Ok(());
        }
        loop {
            // At most `scan` rows are looked at, and PAGE returned, in one statement.
            let scan = if filter.search.is_some() { SEARCH } else { SCAN };
            let (low, high) = match direction {
                Direction::Forward => (at + 1, (at + scan).min(head)),
                Direction::Backward => ((at - scan).max(1), (at - 1).min(head)),
            };
            if low > high {
                return Ok(());
            }
            let events = self.page(&query, low, high)?;
            let full = events.len() == PAGE;
            let last = events.last().map(|event| event.seq.get());
            for event in events {
                if visit(event).is_break() {
                    return Ok(());
                }
            }
            at = match (full, last, direction) {
                (true, Some(last), _) => last,
                (_, _, Direction::Forward) => high,
                (_, _, Direction::Backward) => low,
            };
        }
    }

    /// The events under an id (more than one when it has conflicts, or when two sources use it), or the one at a seq.
    pub fn event(&mut self, id_or_seq: &str) -> Result<Vec<EventDetail>, ReadError> {
        let by_id = EventFilter { id: Some(id_or_seq.to_owned()), ..EventFilter::default() };
        let mut seqs = self.candidates(&by_id)?;
        if seqs.is_empty() {
            seqs.extend(id_or_seq.parse::<i64>().ok().filter(|&seq| seq > 0));
        }
        seqs.into_iter().filter_map(|seq| self.detail(seq).transpose()).collect()
    }

    /// Walks over the quarantine, newest first, bodies not loaded.
    pub fn each_quarantined(&mut self, visit: &mut dyn FnMut(Quarantined) -> ControlFlow<()>) -> Result<(), ReadError> {
        let mut before = i64::MAX;
        loop {
            let mut rows = self.connection.prepare_cached(&format!(
                "SELECT {QUARANTINED}, NULL FROM quarantine WHERE id < ?1 ORDER BY id DESC LIMIT {PAGE}"
            ))?;
            let page = rows.query_map([before], quarantined)?.collect::<rusqlite::Result<Vec<_>>>()?;
            let Some(last) = page.last() else { return Ok(()) };
            before = last.id;
            for request in page {
                if visit(request).is_break() {
                    return Ok(());
                }
            }
        }
    }

    /// One request in quarantine, with its body.
    pub fn quarantined(&self, id: i64) -> Result<Option<Quarantined>, ReadError> {
        let mut rows = self.connection.prepare(&format!("SELECT {QUARANTINED}, body FROM quarantine WHERE id = ?1"))?;
        Ok(rows.query_map([id], quarantined)?.next().transpose()?)
    }

    /// Up to `limit` events after `after`, fewer once their bodies pass 8 MiB.
    pub(super) fn read_after(&mut self, after: Seq, limit: usize) -> rusqlite::Result<Vec<StoredEvent>> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.stored("e.seq > ?1 ORDER BY e.seq LIMIT ?2", &[after.get(), limit])
    }

    /// The given events.
    pub(super) fn read(&mut self, seqs: &[Seq]) -> rusqlite::Result<Vec<StoredEvent>> {
        let mut events = Vec::with_capacity(seqs.len());
        for seq in seqs {
            events.append(&mut self.stored("e.seq = ?1", &[seq.get()])?);
        }
        Ok(events)
    }

    fn stored(&mut self, condition: &str, parameters: &[i64]) -> rusqlite::Result<Vec<StoredEvent>> {
        self.learn_sources()?;
        let mut found = Vec::new();
        {
            let mut rows = self.connection.prepare_cached(&format!(
                "SELECT e.seq, e.event_id, e.type, e.source_id, e.entity_key, e.event_time, e.received_at, e.conflict,
                        e.signature, e.content_type, e.phase, b.body
                 FROM events e LEFT JOIN bodies b ON b.seq = e.seq WHERE {condition}"
            ))?;
            let mut rows = rows.query(params_from_iter(parameters))?;
            let mut bytes = 0;
            while let Some(row) = rows.next()? {
                let event = self.stored_event(row)?;
                bytes += event.0.body.as_ref().map_or(0, bytes::Bytes::len);
                found.push(event);
                if bytes >= READ_BYTES {
                    break;
                }
            }
        }
        // After the snapshot of the log was let go of.
        let mut events = Vec::with_capacity(found.len());
        for (mut event, source_id, open) in found {
            event.stale = open && self.is_stale(event.seq, source_id, &event.source, &event.key)?;
            events.push(event);
        }
        Ok(events)
    }

    fn stored_event(&self, row: &Row<'_>) -> rusqlite::Result<(StoredEvent, i64, bool)> {
        let Stored(id) = row.get(1)?;
        let key: Option<Stored<EntityKey>> = row.get(4)?;
        let open = row.get::<_, i64>(10)? == rows::OPEN && key.is_some();
        let source_id = row.get(3)?;
        let event = StoredEvent {
            seq: seq(row.get(0)?),
            event_type: row.get::<_, Stored<EventType>>(2)?.0,
            source: self.source(source_id)?,
            key: key.map_or_else(|| EntityKey::from(&id), |Stored(key)| key),
            id,
            time: row.get::<_, Option<i64>>(5)?.map(from_micros),
            received_at: from_micros(row.get(6)?),
            stale: false,
            conflict: row.get(7)?,
            signature: row.get(8)?,
            content_type: row.get(9)?,
            body: row.get::<_, Option<Vec<u8>>>(11)?.map(bytes::Bytes::from),
        };
        Ok((event, source_id, open))
    }

    fn page(&mut self, query: &Query, low: i64, high: i64) -> Result<Vec<EventSummary>, ReadError> {
        self.learn_sources()?;
        let mut found = Vec::new();
        {
            let mut statement = self.connection.prepare_cached(&query.sql)?;
            let bounds = [Value::from(low), Value::from(high)];
            let mut rows = statement.query(params_from_iter(bounds.iter().chain(&query.parameters)))?;
            while let Some(row) = rows.next()? {
                found.push(self.summary(row)?);
            }
        }
        let mut events = Vec::with_capacity(found.len());
        for (mut event, source_id, open) in found {
            event.stale = open && self.is_stale(event.seq, source_id, &event.source, &event.key)?;
            events.push(event);
        }
        Ok(events)
    }

    fn summary(&self, row: &Row<'_>) -> rusqlite::Result<(EventSummary, i64, bool)> {
        let Stored(id) = row.get(1)?;
        let Stored(event_type): Stored<EventType> = row.get(2)?;
        let key: Option<Stored<EntityKey>> = row.get(4)?;
        let open = row.get::<_, i64>(11)? == rows::OPEN && key.is_some();
        let source_id = row.get(3)?;
        let summary = EventSummary {
            seq: seq(row.get(0)?),
            category: event_type.category(),
            event_type,
            source: self.source(source_id)?,
            key: key.map_or_else(|| EntityKey::from(&id), |Stored(key)| key),
            id,
            state: row.get(5)?,
            time: row.get::<_, Option<i64>>(6)?.map(from_micros),
            received_at: from_micros(row.get(7)?),
            size: row.get(8)?,
            stale: false,
            conflict: row.get(9)?,
            arrivals: row.get(12)?,
            body_sha256: row.get::<_, Stored<_>>(10)?.0,
        };
        Ok((summary, source_id, open))
    }

    fn detail(&mut self, at: i64) -> Result<Option<EventDetail>, ReadError> {
        let Some(summary) = self.page(&Query::new(&EventFilter::default(), Direction::Forward), at, at)?.pop() else {
            return Ok(None);
        };
        let entity = EventFilter {
            key: Some(summary.key.as_str().to_owned()),
            source: Some(summary.source.as_str().to_owned()),
            ..EventFilter::default()
        };
        let seqs = self.candidates(&entity)?;
        // Where there are too many: those up to this one.
        let first = seqs.partition_point(|&seq| seq <= at).saturating_sub(LIFECYCLE);
        let query = Query::new(&entity, Direction::Forward);
        let mut lifecycle = Vec::new();
        for &seq in seqs[first..].iter().take(LIFECYCLE) {
            lifecycle.append(&mut self.page(&query, seq, seq)?);
        }
        let attempts = self.attempts(at)?;
        let detail = self.connection.query_row(
            "SELECT e.signature, e.secret_slot, e.headers, b.body
             FROM events e LEFT JOIN bodies b ON b.seq = e.seq WHERE e.seq = ?1",
            [at],
            |row| {
                Ok(EventDetail {
                    summary,
                    signature: row.get(0)?,
                    secret_slot: row.get(1)?,
                    headers: json(row, 2)?,
                    body: row.get::<_, Option<Vec<u8>>>(3)?.map(bytes::Bytes::from),
                    lifecycle,
                    attempts,
                    sinks: Vec::new(), // HELPER
                })
            },
        )?;
        Ok(Some(detail))
    }

    fn attempts(&self, seq: i64) -> rusqlite::Result<Vec<AttemptRecord>> {
        let mut rows = self.connection.prepare(ATTEMPTS)?;
        let rows = rows.query_map([seq], |row| {
            Ok(AttemptRecord {
                sink: name(SinkName::new(row.get_ref(0)?.as_str()?))?,
                replay: None, // HELPER
                n: row.get(1)?,
                at: from_micros(row.get(2)?),
                latency: std::time::Duration::from_micros(row.get(3)?),
                outcome: row.get::<_, Stored<_>>(4)?.0,
                note: row.get(5)?,
            })
        })?;
        rows.collect()
    }

    /// The sinks' consumers as recorded, by name.
    pub fn sinks(&self) -> Result<Vec<SinkRecord>, ReadError> {
        Err(ReadError::Absent(String::new())) // HELPER
    }

    /// Walks over the dead letters that no person has decided about, newest first; those of replays are left out.
    pub fn each_dead_letter(
        &self,
        _filter: &LetterFilter,
        _visit: &mut dyn FnMut(DeadLetterRecord) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        Err(ReadError::Absent(String::new())) // HELPER
    }

    /// One dead letter, decided about or not.
    pub fn dead_letter(&self, _id: i64) -> Result<Option<DeadLetterRecord>, ReadError> {
        Err(ReadError::Absent(String::new())) // HELPER
    }

    /// What a replay has given up, in the order of the log.
    pub fn given_up_by(&self, _replay: JobId) -> Result<Vec<DeadLetterRecord>, ReadError> {
        Err(ReadError::Absent(String::new())) // HELPER
    }

    /// A job.
    pub fn job(&self, _id: JobId) -> Result<Option<Job>, ReadError> {
        Err(ReadError::Absent(String::new())) // HELPER
    }

    /// Walks over the jobs, newest first.
    pub fn each_job(&self, _visit: &mut dyn FnMut(Job) -> ControlFlow<()>) -> Result<(), ReadError> {
        Err(ReadError::Absent(String::new())) // HELPER
    }

    /// Walks over a part of the log with its events as consumers get them, in order, in short reads.
    pub fn each_selected(
        &mut self,
        _selection: &Selection,
        _visit: &mut dyn FnMut(Slice) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        Err(ReadError::Absent(String::new())) // HELPER
    }

    /// How many bodies pruning would drop now, and their bytes. `progress` is told how many events were looked at.
    pub fn prunable(
        &self,
        _before: Timestamp,
        _sinks: &[SinkName],
        _progress: &mut dyn FnMut(u64),
    ) -> Result<(u64, u64), ReadError> {
        Err(ReadError::Absent(String::new())) // HELPER
    }

    /// Seqs that an id or a key may stand at: from the index up to its watermark, and all above it.
    fn candidates(&mut self, filter: &EventFilter) -> Result<Vec<i64>, ReadError> {
        self.learn_sources()?;
        // An event that names no entity is its own, so its key is in the other index.
        let (tables, column, text) = match (&filter.id, &filter.key) {
            (Some(id), _) => (&["id_index"][..], "e.event_id", id),
            (None, Some(key)) => (&["entity_index", "id_index"][..], ENTITY_KEY, key),
            (None, None) => return Ok(Vec::new()),
        };
        let watermark: i64 = self.connection.query_row("SELECT watermark FROM index_state", [], |row| row.get(0))?;
        let mut seqs = Vec::new();
        let asked_for = |source: &SourceName| filter.source.as_ref().is_none_or(|name| name == source.as_str());
        let sources = self.sources.values().filter(|source| asked_for(source));
        for (source, table) in sources.flat_map(|source| tables.iter().map(move |table| (source, table))) {
            let mut rows = self.connection.prepare_cached(&format!(
                "SELECT e.seq FROM {table} i JOIN events e ON e.seq = i.seq
                 WHERE i.hash = ?1 AND {column} = ?2 AND e.seq <= ?3"
            ))?;
            let hash = hash(source.as_str(), text);
            let rows = rows.query_map((hash, text, watermark), |row| row.get::<_, i64>(0))?;
            seqs.append(&mut rows.collect::<rusqlite::Result<Vec<_>>>()?);
        }
        let mut rows = self.connection.prepare_cached(&format!(
            "SELECT e.seq FROM events e JOIN sources s ON s.id = e.source_id
             WHERE e.seq > ?1 AND {column} = ?2 AND s.name = coalesce(?3, s.name)"
        ))?;
        let rows = rows.query_map((watermark, text, &filter.source), |row| row.get::<_, i64>(0))?;
        seqs.append(&mut rows.collect::<rusqlite::Result<Vec<_>>>()?);
        seqs.sort_unstable();
        seqs.dedup();
        Ok(seqs)
    }

    fn is_stale(&mut self, at: Seq, source_id: i64, source: &SourceName, key: &EntityKey) -> rusqlite::Result<bool> {
        self.tail.is_stale(&self.connection, at.get(), (source_id, source.as_str()), key.as_str())
    }

    fn learn_sources(&mut self) -> rusqlite::Result<()> {
        let known = i64::try_from(self.sources.len()).unwrap_or(i64::MAX);
        let count: i64 =
            self.connection.prepare_cached("SELECT count(*) FROM sources")?.query_row([], |row| row.get(0))?;
        if count != known {
            let mut rows = self.connection.prepare("SELECT id, name FROM sources")?;
            let rows =
                rows.query_map([], |row| Ok((row.get(0)?, name(SourceName::new(row.get_ref(1)?.as_str()?))?)))?;
            self.sources = rows.collect::<rusqlite::Result<_>>()?;
        }
        Ok(())
    }

    fn source(&self, id: i64) -> rusqlite::Result<SourceName> {
        match self.sources.get(&id) {
            Some(source) => Ok(source.clone()),
            // Its first event came after the others were learnt.
            None => self
                .connection
                .prepare_cached("SELECT name FROM sources WHERE id = ?1")?
                .query_row([id], |row| name(SourceName::new(row.get_ref(0)?.as_str()?))),
        }
    }
}

/// A lookup for each sink: CROSS keeps SQLite from walking over the whole ledger instead.
pub(super) const ATTEMPTS: &str = "SELECT s.name, a.n, a.at, a.latency_us, a.outcome, a.note
    FROM sinks s CROSS JOIN attempts a ON a.sink_id = s.id AND a.seq = ?1 ORDER BY s.name, a.n";

const QUARANTINED: &str = "id, source, peer, received_at, reason, length(body), body_sha256, signatures, headers";

fn quarantined(row: &Row<'_>) -> rusqlite::Result<Quarantined> {
    Ok(Quarantined {
        id: row.get(0)?,
        source: row.get(1)?,
        peer: row.get(2)?,
        received_at: from_micros(row.get(3)?),
        reason: Rejection::from_label(row.get_ref(4)?.as_str()?).ok_or(rusqlite::types::FromSqlError::InvalidType)?,
        size: row.get(5)?,
        body_sha256: row.get::<_, Stored<_>>(6)?.0,
        signatures: json(row, 7)?,
        headers: json(row, 8)?,
        content_type: None, // HELPER
        body: row.get::<_, Option<Vec<u8>>>(9)?.map(bytes::Bytes::from),
    })
}

fn name<T, E>(name: Result<T, E>) -> rusqlite::Result<T> {
    name.map_err(|_| rusqlite::types::FromSqlError::InvalidType.into())
}

fn seq(value: i64) -> Seq {
    Seq::new(value).unwrap_or(Seq::ZERO)
}
