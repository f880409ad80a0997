//! Bodies that are not what came in. Whoever has altered the file, or whatever has damaged it: the SHA-256 in the event's
//! row says so, and it is compared whenever a body is read.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use jiff::Timestamp;
use rusqlite::{Connection, params};

use super::rows::Stored;
use crate::inbox::micros;
use crate::metrics::Metrics;
use crate::model::{Digest, Seq};
use crate::throttle::Throttle;

/// Bodies that are read once more, to see whether they were restored: some milliseconds.
const LOOKED_AT: usize = if cfg!(test) { 3 } else { 1_000 };
/// The same in bytes.
const LOOKED_AT_BYTES: usize = 16 << 20;

/// An event's place, and the SHA-256 of the body that stands there now.
pub(super) type Found = (Seq, Digest);

/// Tells people.
pub(super) struct Alarm {
    metrics: Arc<Metrics>,
    lines: Throttle,
    known: Mutex<Known>,
}

/// Findings that were told of.
#[derive(Default)]
struct Known {
    seqs: BTreeSet<i64>,
    /// How many marks there were when they were last looked at; `None` before the first time.
    marks: Option<u64>,
}

impl Alarm {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, lines: Throttle::default(), known: Mutex::default() }
    }

    /// Before they are marked, so that [`Self::look`] knows them.
    pub(super) fn raise(&self, found: &[Found]) {
        let seqs = &mut self.known().seqs;
        let new = found.iter().filter(|(seq, _)| seqs.insert(seq.get())).count();
        self.metrics.body_digest_mismatch.inc_by(new as u64);
        for (seq, digest) in found {
            if let Some(suppressed) = self.lines.admit(Instant::now()) {
                tracing::error!(
                    seq = seq.get(),
                    found = %digest,
                    suppressed,
                    "the body of an event is not what came in: its SHA-256 differs, so the file was altered or is damaged. The \
                     event is not delivered. Compare it with a backup (`ralio-relay events show`), and find out who writes to \
                     the inbox"
                );
            }
        }
    }

    /// Counts what another process has found and marked: a command, say. What was marked before this one began counts
    /// where it still differs, and is told by no line.
    pub(super) fn look(&self, connection: &Connection) -> rusqlite::Result<()> {
        let marks = connection
            .prepare_cached("SELECT count(*) FROM altered_bodies")?
            .query_row([], |row| row.get::<_, u64>(0))?;
        let mut known = self.known();
        if known.marks == Some(marks) {
            return Ok(());
        }
        let is_first = known.marks.is_none();
        let mut new = marked(connection)?;
        let restored = if is_first { restored(connection, 0, i64::MAX)? } else { BTreeSet::new() };
        known.marks = Some(marks);
        new.retain(|seq| known.seqs.insert(*seq) && !restored.contains(seq));
        self.metrics.body_digest_mismatch.inc_by(new.len() as u64);
        if let Some(first) = new.first().filter(|_| !is_first) {
            tracing::error!(
                seq = first,
                events = new.len(),
                "a command has found bodies of events that are not what came in: the file was altered or is damaged. They are \
                 not delivered (`ralio-relay events show`)"
            );
        }
        Ok(())
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A body is gone that retention has not dropped.
    pub(super) fn raise_missing(&self, seq: Seq) {
        if let Some(suppressed) = self.lines.admit(Instant::now()) {
            tracing::error!(
                seq = seq.get(),
                suppressed,
                "the body of an event is missing in the inbox, and no retention has dropped it: the file was altered or is \
                 damaged. The event is not delivered. Look for its body in a backup (`ralio-relay events show`), and find \
                 out who writes to the inbox"
            );
        }
    }
}

/// Marks the events, in the caller's transaction. The first finding stays.
pub(super) fn note(connection: &Connection, found: &[Found], now: Timestamp) -> rusqlite::Result<()> {
    let mut insert = connection.prepare_cached(
        "INSERT OR IGNORE INTO altered_bodies (seq, found_at, body_sha256)
         SELECT ?1, ?2, ?3 WHERE EXISTS (SELECT 1 FROM events WHERE seq = ?1)",
    )?;
    for (seq, digest) in found {
        insert.execute(params![seq.get(), micros(now), digest.as_bytes()])?;
    }
    Ok(())
}

/// The events that are marked and have a body, in order.
fn marked(connection: &Connection) -> rusqlite::Result<Vec<i64>> {
    let mut rows = connection.prepare_cached(
        "SELECT seq FROM altered_bodies a WHERE EXISTS (SELECT 1 FROM bodies b WHERE b.seq = a.seq) ORDER BY seq",
    )?;
    rows.query_map([], |row| row.get(0))?.collect()
}

/// How many of those that were found have a body that is not what came in. One that was restored does not count, as far as
/// [`restored`] looks.
pub(super) fn count(connection: &Connection) -> rusqlite::Result<u64> {
    let noted: u64 = connection
        .prepare_cached(
            "SELECT count(*) FROM altered_bodies a WHERE EXISTS (SELECT 1 FROM bodies b WHERE b.seq = a.seq)",
        )?
        .query_row([], |row| row.get(0))?;
    let restored = if noted == 0 { 0 } else { restored(connection, 0, i64::MAX)?.len() as u64 };
    Ok(noted.saturating_sub(restored))
}

/// Those of a range that were found, and whose bodies are what came in again. Looks at the first [`LOOKED_AT`] bodies and
/// [`LOOKED_AT_BYTES`]: those beyond count as they were found.
pub(super) fn restored(connection: &Connection, low: i64, high: i64) -> rusqlite::Result<BTreeSet<i64>> {
    let mut rows = connection.prepare_cached(
        "SELECT a.seq, b.body, e.body_sha256
         FROM altered_bodies a CROSS JOIN bodies b ON b.seq = a.seq CROSS JOIN events e ON e.seq = a.seq
         WHERE a.seq BETWEEN ?1 AND ?2 ORDER BY a.seq",
    )?;
    let mut rows = rows.query([low, high])?;
    let (mut restored, mut bodies, mut bytes) = (BTreeSet::new(), 0, 0);
    while bodies < LOOKED_AT
        && bytes < LOOKED_AT_BYTES
        && let Some(row) = rows.next()?
    {
        let (body, Stored(received)): (_, Stored<Digest>) = (row.get_ref(1)?.as_blob()?, row.get(2)?);
        if Digest::of(body) == received {
            restored.insert(row.get(0)?);
        }
        bodies += 1;
        bytes += body.len();
    }
    Ok(restored)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An inbox of four events, each with the body `x`.
    fn inbox() -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch(
                "CREATE TABLE events (seq INTEGER PRIMARY KEY, body_sha256 BLOB NOT NULL);
                 CREATE TABLE bodies (seq INTEGER PRIMARY KEY, body BLOB NOT NULL);
                 CREATE TABLE altered_bodies (
                     seq INTEGER PRIMARY KEY, found_at INTEGER NOT NULL, body_sha256 BLOB NOT NULL
                 );
                 INSERT INTO bodies VALUES (1, x'78'), (2, x'78'), (3, x'78'), (4, x'78');",
            )
            .unwrap();
        for seq in 1..=4 {
            let digest = Digest::of(b"x");
            connection.execute("INSERT INTO events VALUES (?1, ?2)", params![seq, digest.as_bytes()]).unwrap();
        }
        connection
    }

    /// Has somebody write another body into the file, and the answer of whoever reads it.
    fn alter(connection: &Connection, seq: i64) -> Found {
        connection.execute("UPDATE bodies SET body = x'79' WHERE seq = ?1", [seq]).unwrap();
        (Seq::new(seq).unwrap(), Digest::of(b"y"))
    }

    #[test]
    fn what_others_have_found_is_counted_once() {
        let connection = inbox();
        let metrics = Arc::new(Metrics::new());
        let alarm = Alarm::new(Arc::clone(&metrics));
        let note = |found: &[Found]| note(&connection, found, Timestamp::UNIX_EPOCH).unwrap();
        let counted = || {
            alarm.look(&connection).unwrap();
            metrics.body_digest_mismatch.get()
        };
        // Before it began: one that still differs, and one that was restored.
        note(&[alter(&connection, 1), (Seq::new(2).unwrap(), Digest::of(b"y"))]);
        assert_eq!((counted(), counted()), (1, 1));
        let own = alter(&connection, 3);
        alarm.raise(&[own]);
        alarm.raise(&[own]);
        note(&[own]);
        assert_eq!(counted(), 2);
        note(&[alter(&connection, 4)]);
        assert_eq!((counted(), counted()), (3, 3), "a command has found it");
    }

    #[test]
    fn restored_bodies_do_not_count_as_far_as_is_looked() {
        let connection = inbox();
        let found: Vec<Found> = (1..=4).map(|seq| alter(&connection, seq)).collect();
        note(&connection, &found, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(count(&connection).unwrap(), 4);
        connection.execute("UPDATE bodies SET body = x'78' WHERE seq = 2", []).unwrap();
        assert_eq!(count(&connection).unwrap(), 3);
        connection.execute("UPDATE bodies SET body = x'78'", []).unwrap();
        assert_eq!(count(&connection).unwrap(), 1, "the fourth is beyond the bound of tests");
    }
}
