//! How many refused requests were not kept: for metrics, and of late in the inbox, for whoever asks while no daemon runs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use rusqlite::{Connection, params};

use crate::inbox::micros;
use crate::metrics::Metrics;

/// After so long without one, the count begins anew, and what is older is shown to nobody.
const MEMORY: SignedDuration = SignedDuration::from_hours(24);

/// Requests that were answered 503 and are not kept, by source.
pub(super) struct NotKept {
    metrics: Arc<Metrics>,
    /// Those that are not in the inbox yet: how many, when the first and when the last.
    unwritten: Mutex<Numbers>,
}

/// By source: how many, when the first and when the last.
pub(super) type Numbers = BTreeMap<String, (u64, Timestamp, Timestamp)>;

impl NotKept {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, unwritten: Mutex::default() }
    }

    /// One more.
    pub(super) fn count(&self, source: &str, at: Timestamp) {
        self.metrics.quarantine_dropped.with_label_values(&[source]).inc();
        let mut unwritten = self.unwritten.lock().unwrap_or_else(PoisonError::into_inner);
        add(&mut unwritten, source, (1, at, at));
    }

    /// Those that are to be written now.
    pub(super) fn take(&self) -> Numbers {
        std::mem::take(&mut self.unwritten.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// They could not be written.
    pub(super) fn give_back(&self, numbers: Numbers) {
        let mut unwritten = self.unwritten.lock().unwrap_or_else(PoisonError::into_inner);
        for (source, number) in numbers {
            add(&mut unwritten, &source, number);
        }
    }
}

fn add(numbers: &mut Numbers, source: &str, (count, first, last): (u64, Timestamp, Timestamp)) {
    let number = numbers.entry(source.to_owned()).or_insert((0, first, last));
    *number = (number.0 + count, number.1.min(first), number.2.max(last));
}

/// Adds the numbers to those that the inbox has of late, in the caller's transaction.
pub(super) fn write(connection: &Connection, numbers: &Numbers) -> rusqlite::Result<()> {
    for (source, (count, first, last)) in numbers {
        let forgotten = first.saturating_sub(MEMORY).unwrap_or(*first);
        connection
            .prepare_cached(
                "INSERT INTO not_kept (source, requests, since, last_at) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (source) DO UPDATE SET
                     requests = excluded.requests + CASE WHEN last_at < ?5 THEN 0 ELSE requests END,
                     since = CASE WHEN last_at < ?5 THEN excluded.since ELSE since END,
                     last_at = excluded.last_at",
            )?
            .execute(params![source, count, micros(*first), micros(*last), micros(forgotten)])?;
    }
    Ok(())
}

/// All of late: how many, and when the first came in.
pub(super) fn read(connection: &Connection, now: Timestamp) -> rusqlite::Result<(u64, Option<i64>)> {
    let forgotten = now.saturating_sub(MEMORY).unwrap_or(now);
    connection
        .prepare_cached("SELECT coalesce(sum(requests), 0), min(since) FROM not_kept WHERE last_at >= ?1")?
        .query_row([micros(forgotten)], |row| Ok((row.get(0)?, row.get(1)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_begins_anew_after_a_day_without_one() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("CREATE TABLE not_kept (source TEXT PRIMARY KEY, requests, since, last_at)").unwrap();
        let at = |hours: i64| Timestamp::from_second(1_700_000_000 + hours * 3600).unwrap();
        let number = |count, first, last| Numbers::from([("one".to_owned(), (count, at(first), at(last)))]);
        write(&connection, &number(3, 0, 1)).unwrap();
        write(&connection, &number(4, 20, 24)).unwrap();
        assert_eq!(read(&connection, at(25)).unwrap(), (7, Some(micros(at(0)))));
        assert_eq!(read(&connection, at(49)).unwrap(), (0, None), "nobody is told of it for ever");
        write(&connection, &number(1, 50, 50)).unwrap();
        assert_eq!(read(&connection, at(50)).unwrap(), (1, Some(micros(at(50)))));
    }
}
