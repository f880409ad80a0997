//! What a job was about, one by one: the first ones are kept with it, so that the record can name them.

use rusqlite::{Connection, Row, params};

use super::super::rows::{Stored, seq};
use crate::inbox::RecordItem;
use crate::model::{Digest, JobId, Seq};

/// So many are kept for each job: what a person can look through. How many there were, the job counts.
const KEPT: i64 = if cfg!(test) { 20 } else { 1_000 };

/// One thing that a job was about.
#[derive(Default)]
pub(super) struct Item {
    sink_id: Option<i64>,
    number: Option<i64>,
    seq: Option<Seq>,
    body_sha256: Option<Digest>,
}

impl Item {
    pub(super) fn letter(sink_id: i64, number: i64, seq: Seq) -> Self {
        Self { sink_id: Some(sink_id), number: Some(number), seq: Some(seq), body_sha256: None }
    }

    pub(super) fn parked(sink_id: i64, seq: Seq) -> Self {
        Self { sink_id: Some(sink_id), seq: Some(seq), ..Self::default() }
    }

    pub(super) fn event(seq: Seq) -> Self {
        Self { seq: Some(seq), ..Self::default() }
    }

    /// A request that has become an event.
    pub(super) fn admitted(number: i64, seq: Seq) -> Self {
        Self { number: Some(number), seq: Some(seq), ..Self::default() }
    }

    /// A request that is gone: its digest says which one it was.
    pub(super) fn purged(number: i64, body_sha256: Digest) -> Self {
        Self { number: Some(number), body_sha256: Some(body_sha256), ..Self::default() }
    }
}

/// Keeps an item, while there is room, in the caller's transaction.
pub(super) fn note(connection: &Connection, job: JobId, item: &Item) -> rusqlite::Result<()> {
    let Item { sink_id, number, seq, body_sha256 } = item;
    connection
        .prepare_cached(
            "INSERT INTO job_items (job_id, n, sink_id, number, seq, body_sha256)
             SELECT ?1, last + 1, ?2, ?3, ?4, ?5
             FROM (SELECT coalesce(max(n), 0) AS last FROM job_items WHERE job_id = ?1) WHERE last < ?6",
        )?
        .execute(params![
            job.get(),
            sink_id,
            number,
            seq.map(Seq::get),
            body_sha256.as_ref().map(Digest::as_bytes),
            KEPT
        ])
        .map(drop)
}

/// What is kept of a job, in order.
pub(in super::super) fn list(connection: &Connection, job: JobId) -> rusqlite::Result<Vec<RecordItem>> {
    let mut rows = connection.prepare_cached(
        "SELECT iif(s.forgotten_at IS NULL, s.name, s.former_name), i.number, i.seq, e.event_id, e.type, i.body_sha256
         FROM job_items i LEFT JOIN sinks s ON s.id = i.sink_id LEFT JOIN events e ON e.seq = i.seq
         WHERE i.job_id = ?1 ORDER BY i.n",
    )?;
    rows.query_map([job.get()], from_row)?.collect()
}

/// The first events that a replay has tried to deliver or given up, in the order of the log.
pub(in super::super) fn replayed(connection: &Connection, consumer: i64) -> rusqlite::Result<Vec<RecordItem>> {
    let mut rows = connection.prepare_cached(&format!(
        "SELECT NULL, NULL, a.seq, e.event_id, e.type, NULL
         FROM (SELECT seq FROM (SELECT DISTINCT seq FROM attempts WHERE sink_id = ?1 ORDER BY seq LIMIT {KEPT})
               UNION
               SELECT seq FROM (SELECT seq FROM dead_letters WHERE sink_id = ?1 AND discarded_at IS NULL
                                ORDER BY seq LIMIT {KEPT})
               ORDER BY seq LIMIT {KEPT}) a
             JOIN events e ON e.seq = a.seq ORDER BY a.seq",
    ))?;
    rows.query_map([consumer], from_row)?.collect()
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<RecordItem> {
    Ok(RecordItem {
        sink: row.get::<_, Option<Stored<_>>>(0)?.map(|Stored(sink)| sink),
        number: row.get(1)?,
        seq: row.get::<_, Option<i64>>(2)?.map(seq),
        event_id: row.get::<_, Option<Stored<_>>>(3)?.map(|Stored(id)| id),
        event_type: row.get::<_, Option<Stored<_>>>(4)?.map(|Stored(event_type)| event_type),
        body_sha256: row.get::<_, Option<Stored<_>>>(5)?.map(|Stored(digest)| digest),
    })
}
