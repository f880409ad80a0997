//! Bodies that are not what came in. Whoever has altered the file, or whatever has damaged it: the SHA-256 in the event's
//! row says so, and it is compared whenever a body is read.

use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use rusqlite::{Connection, params};

use crate::inbox::micros;
use crate::metrics::Metrics;
use crate::model::{Digest, Seq};
use crate::throttle::Throttle;

/// An event's place, and the SHA-256 of the body that stands there now.
pub(super) type Found = (Seq, Digest);

/// Tells people.
pub(super) struct Alarm {
    metrics: Arc<Metrics>,
    lines: Throttle,
}

impl Alarm {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, lines: Throttle::default() }
    }

    pub(super) fn raise(&self, found: &[Found]) {
        self.metrics.body_digest_mismatch.inc_by(found.len() as u64);
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

/// How many of those that were found still have their bodies.
pub(super) fn count(connection: &Connection) -> rusqlite::Result<u64> {
    connection
        .prepare_cached(
            "SELECT count(*) FROM altered_bodies a WHERE EXISTS (SELECT 1 FROM bodies b WHERE b.seq = a.seq)",
        )?
        .query_row([], |row| row.get(0))
}
