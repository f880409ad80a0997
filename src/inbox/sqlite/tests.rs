//! The inbox against real files.

mod answers;
mod backup;
mod bounds;
mod contract;
mod desk;
mod evidence;
mod jobs;
pub(super) mod lookups;
mod migration;
mod paths;
mod quarantine;
mod retention;
mod states;
mod sweeps;
mod times;

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;

use super::{Direction, Lock, Reader, SqliteInbox};
use crate::clock::SystemClock;
use crate::inbox::contract::*;
use crate::inbox::{
    AppendKind, Appended, Config, EventFilter, EventSummary, Inbox, Progress, QuarantineLimits, Quarantined,
    Registration, Unavailable,
};
use crate::metrics::Metrics;
use crate::model::{Seq, Start};

fn config(dir: &Path) -> Config {
    let quarantine = QuarantineLimits { max_entries: 10, max_bytes: 100_000, ..Default::default() };
    Config { path: dir.join("data/inbox.db"), quarantine, dedup_memory: 1 << 20, retention: None }
}

fn open(config: &Config) -> SqliteInbox {
    let lock = Lock::try_take(&config.path).unwrap().expect("nobody else has it");
    SqliteInbox::open(config, lock, Arc::new(SystemClock), Arc::new(Metrics::new())).unwrap()
}

fn list(config: &Config, filter: &EventFilter) -> Vec<EventSummary> {
    let mut events = Vec::new();
    let mut reader = Reader::open(config).unwrap();
    let visit = &mut |event| {
        events.push(event);
        ControlFlow::Continue(())
    };
    reader.each_event(filter, Direction::Forward, None, visit).unwrap();
    events
}

fn kinds(appended: &[Appended]) -> Vec<(i64, AppendKind)> {
    appended.iter().map(|appended| (appended.seq.get(), appended.kind)).collect()
}

#[tokio::test]
async fn duplicates_and_conflicts_are_told_apart_across_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let bodies = [payin("a", "o", "PROCESSING"), payin("a", "o", "COMPLETED"), payin("b", "o", "COMPLETED")];
    for round in 0..3 {
        let inbox = open(&config);
        let mut appended = Vec::new();
        for (source, body) in [("one", &bodies[0]), ("one", &bodies[1]), ("one", &bodies[2]), ("two", &bodies[0])] {
            appended.push(append(&inbox, source, body).await);
        }
        let expected = if round == 0 {
            [AppendKind::Fresh, AppendKind::Conflict, AppendKind::Fresh, AppendKind::Fresh]
        } else {
            [AppendKind::Duplicate; 4]
        };
        assert_eq!(kinds(&appended), (1..).zip(expected).collect::<Vec<_>>());
        inbox.close().await;
    }
    let events = list(&config, &EventFilter::default());
    assert_eq!(events.iter().map(|event| event.arrivals).collect::<Vec<_>>(), [3, 3, 3, 3]);
    assert_eq!(events.iter().map(|event| event.conflict).collect::<Vec<_>>(), [false, true, false, false]);
}

/// In tests a set is sealed every 64 keys, so that this goes through sealed, half written and indexed sets.
#[tokio::test]
async fn deduplication_is_exact_through_the_index_and_across_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let mut expected = Vec::new();
    for round in 0..4 {
        let inbox = open(&config);
        for n in round * 150..(round + 1) * 150 {
            let id = format!("evt-{n}");
            let fresh = append(&inbox, "one", &payin(&id, &id, "COMPLETED")).await;
            assert_eq!(fresh.kind, AppendKind::Fresh, "{id}");
            expected.push((id, fresh.seq));
        }
        for (id, seq) in &expected {
            let again = append(&inbox, "one", &payin(id, id, "COMPLETED")).await;
            assert_eq!((again.kind, again.seq), (AppendKind::Duplicate, *seq), "{id}");
        }
        let other = append(&inbox, "one", &payin("evt-0", &format!("other-{round}"), "COMPLETED")).await;
        assert_eq!(other.kind, AppendKind::Conflict);
        inbox.close().await;
    }
    let raw = Connection::open(&config.path).unwrap();
    let watermark: i64 = raw.query_row("SELECT watermark FROM index_state", [], |row| row.get(0)).unwrap();
    assert!(watermark > 300, "the index was used: {watermark}");
    assert!(watermark < 604, "and so was memory: {watermark}");
    for (id, seq) in expected {
        let found = Reader::open(&config).unwrap().event(&id).unwrap();
        assert!(found.iter().any(|event| event.summary.seq == seq), "{id}");
        assert!(found.iter().all(|event| event.summary.id.as_str() == id), "{id}");
    }
}

#[tokio::test]
async fn a_processing_after_its_completed_is_stale() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let inbox = open(&config);
    append(&inbox, "one", &payin("1", "order", "PROCESSING")).await;
    append(&inbox, "one", &payin("2", "order", "COMPLETED")).await;
    append(&inbox, "one", &payin("3", "order", "PROCESSING")).await;
    append(&inbox, "one", &payin("4", "other", "PROCESSING")).await;
    append(&inbox, "two", &payin("5", "order", "PROCESSING")).await;
    let stale = |events: Vec<EventSummary>| events.iter().map(|event| event.stale).collect::<Vec<_>>();
    assert_eq!(stale(list(&config, &EventFilter::default())), [false, false, true, false, false]);
    // The same when the order's end is in the index, and no longer in memory.
    for n in 0..400 {
        append(&inbox, "one", &payin(&format!("f-{n}"), &format!("f-{n}"), "COMPLETED")).await;
    }
    append(&inbox, "one", &payin("6", "order", "PROCESSING")).await;
    let late = inbox.read_after(Seq::new(400).unwrap(), 1000, None).await.unwrap().events;
    assert_eq!(late.iter().filter(|event| event.stale).map(|event| event.id.as_str()).collect::<Vec<_>>(), ["6"]);
    let by_key = EventFilter { key: Some("order".to_owned()), ..EventFilter::default() };
    assert_eq!(stale(list(&config, &by_key)), [false, false, true, false, true]);
    inbox.close().await;
}

#[tokio::test]
async fn a_failed_commit_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let inbox = open(&config);
    append(&inbox, "one", &payin("a", "o", "COMPLETED")).await;
    // Another process that holds the write lock for longer than the writer waits for it.
    let other = Connection::open(&config.path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let refused = inbox.append(new_event("one", &payin("b", "o", "COMPLETED"))).await;
    assert!(matches!(refused, Err(Unavailable::Storage(_))), "{refused:?}");
    assert!(inbox.trouble().is_some());
    other.execute_batch("ROLLBACK").unwrap();
    let stored = append(&inbox, "one", &payin("b", "o", "COMPLETED")).await;
    assert_eq!((stored.seq.get(), stored.kind), (2, AppendKind::Fresh), "it is not taken for a duplicate");
    assert_eq!(inbox.trouble(), None);
    inbox.close().await;
}

/// In tests the log is written back once it has 64 pages: half a mebibyte.
#[tokio::test]
async fn the_write_ahead_log_is_written_back_while_events_come_in() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let inbox = open(&config);
    let size = |suffix: &str| {
        let mut path = config.path.clone().into_os_string();
        path.push(suffix);
        std::fs::metadata(path).map_or(0, |file| file.len())
    };
    let mut peak = 0;
    for round in 0..40 {
        let events = (0..100).map(|n| payin(&format!("{round}-{n}"), &"order".repeat(100), "COMPLETED"));
        let bodies: Vec<_> = events.collect();
        for four in bodies.chunks(4) {
            let appends = four.iter().map(|body| inbox.append(new_event("one", body)));
            futures_util::future::try_join_all(appends).await.unwrap();
        }
        peak = peak.max(size("-wal"));
    }
    assert!(size("") > 3 << 20, "what was written back: {}", size(""));
    assert!(peak < 3 << 20, "the log begins anew: {peak}");
    inbox.close().await;
}

#[tokio::test]
async fn one_process_at_a_time_writes() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let inbox = open(&config);
    assert!(Lock::try_take(&config.path).unwrap().is_none());
    inbox.close().await;
    drop(inbox);
    assert!(Lock::try_take(&config.path).unwrap().is_some());
}

#[tokio::test]
async fn a_newer_schema_is_refused_politely() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    open(&config).close().await;
    Connection::open(&config.path).unwrap().execute_batch("PRAGMA user_version = 99").unwrap();
    let lock = Lock::try_take(&config.path).unwrap().unwrap();
    let refused = SqliteInbox::open(&config, lock, Arc::new(SystemClock), Arc::new(Metrics::new()));
    let message = refused.err().unwrap().to_string();
    assert!(message.contains("newer ralio-relay"), "{message}");
}

/// Refused half way: what was written of it before is taken back.
#[tokio::test]
async fn a_consumers_mistake_costs_no_sender_anything() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let inbox = open(&config);
    let bus = register(&inbox, "bus").await;
    let raw = Connection::open(&config.path).unwrap();
    let refuse = "CREATE TRIGGER no BEFORE INSERT ON dead_letters BEGIN SELECT raise(ABORT, 'no'); END";
    raw.execute_batch(refuse).unwrap();
    let body = payin("b", "o", "COMPLETED");
    let half = Progress { park: vec![parked(1, 1)], dead: vec![letter(1, "no")], ..progress(bus.id, 1) };
    let (refused, stored) = tokio::join!(inbox.record(half), inbox.append(new_event("one", &body)));
    assert!(refused.is_err());
    assert_eq!(stored.unwrap().kind, AppendKind::Fresh);
    let left: i64 =
        raw.query_row("SELECT count(*) + (SELECT cursor FROM sinks) FROM parked", [], |r| r.get(0)).unwrap();
    assert_eq!(left, 0);
    assert_eq!(inbox.trouble(), None);
    inbox.close().await;
}

fn quarantined(config: &Config) -> Vec<Quarantined> {
    let mut kept = Vec::new();
    let mut reader = Reader::open(config).unwrap();
    reader
        .each_quarantined(None, &mut |request| {
            kept.push(request);
            ControlFlow::Continue(())
        })
        .unwrap();
    kept
}

#[tokio::test]
async fn filters_narrow_and_walks_go_both_ways() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let inbox = open(&config);
    for n in 0..1200 {
        let state = if n % 2 == 0 { "COMPLETED" } else { "FAILED" };
        append(&inbox, "one", &payin(&format!("e{n}"), &format!("o{n}"), state)).await;
    }
    append(&inbox, "two", "not json").await;
    let count = |filter: EventFilter| list(&config, &filter).len();
    assert_eq!(count(EventFilter::default()), 1201);
    assert_eq!(count(EventFilter { types: vec!["payin.f*".to_owned()], ..EventFilter::default() }), 600);
    assert_eq!(count(EventFilter { types: vec!["[p]ayin.*".to_owned()], ..EventFilter::default() }), 0);
    assert_eq!(count(EventFilter { state: Some("completed".to_owned()), ..EventFilter::default() }), 600);
    assert_eq!(count(EventFilter { source: Some("two".to_owned()), ..EventFilter::default() }), 1);
    assert_eq!(count(EventFilter { search: Some("\"o77\"".to_owned()), ..EventFilter::default() }), 1);
    assert_eq!(count(EventFilter { id: Some("e77".to_owned()), ..EventFilter::default() }), 1);
    let mut newest = Vec::new();
    let mut reader = Reader::open(&config).unwrap();
    let visit = &mut |event: EventSummary| {
        newest.push(event.seq.get());
        if newest.len() < 1100 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    reader.each_event(&EventFilter::default(), Direction::Backward, None, visit).unwrap();
    assert_eq!(newest, (102..=1201).rev().collect::<Vec<_>>());
    inbox.close().await;
}

/// Waits for a condition; what makes it true is under way.
async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(30), async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    });
    assert!(waited.await.is_ok(), "never: {what}");
}

#[tokio::test]
async fn the_lock_is_held_until_the_last_write_is_done() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let inbox = open(&config);
    let other = Connection::open(&config.path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut append = inbox.append(new_event("one", &payin("a", "o", "COMPLETED")));
    assert!(futures_util::poll!(&mut append).is_pending(), "it is handed over");
    let waiting = &inbox.shared.waiting;
    until("the writer has it", || waiting.load(std::sync::atomic::Ordering::Relaxed) == 0).await;
    drop(append);
    drop(inbox);
    assert!(Lock::try_take(&config.path).unwrap().is_none(), "the writer may yet commit");
    other.execute_batch("ROLLBACK").unwrap();
    until("the writer ends by itself", || Lock::try_take(&config.path).unwrap().is_some()).await;
    assert_eq!(list(&config, &EventFilter::default()).len(), 1);
}

/// A clock that panics on the writer's thread, the only one that asks it.
struct Broken;

impl crate::clock::Clock for Broken {
    fn now(&self) -> jiff::Timestamp {
        panic!("broken on purpose");
    }
}

#[tokio::test]
async fn a_writer_that_panics_is_a_failure_for_good() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let lock = Lock::try_take(&config.path).unwrap().unwrap();
    let inbox = SqliteInbox::open(&config, lock, Arc::new(Broken), Arc::new(Metrics::new())).unwrap();
    let bus = Registration::Sink { name: sink("bus"), start: Start::Now };
    let consumer = inbox.consumer(bus, "*".to_owned()).await;
    assert_eq!(consumer.err(), Some(Unavailable::Closed));
    let why = tokio::time::timeout(Duration::from_secs(30), inbox.failed()).await;
    assert!(why.unwrap().contains("panicked"));
    assert!(inbox.trouble().is_some());
    assert_eq!(inbox.append(new_event("one", "{}")).await, Err(Unavailable::Closed));
}

#[tokio::test]
async fn showing_an_event_looks_up_its_attempts_and_its_nearest_lifecycle() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let inbox = open(&config);
    for n in 1..=150 {
        append(&inbox, "one", &payin(&format!("e{n}"), "order", "PROCESSING")).await;
        append(&inbox, "two", &payin(&format!("e{n}"), "order", "PROCESSING")).await;
    }
    let mut reader = Reader::open(&config).unwrap();
    for (seq, first, last) in [("1", 1, 199), ("299", 101, 299), ("240", 42, 240)] {
        let shown = reader.event(seq).unwrap().pop().unwrap();
        let seqs: Vec<_> = shown.lifecycle.iter().map(|event| event.seq.get()).collect();
        assert_eq!((seqs.len(), seqs[0], *seqs.last().unwrap()), (100, first, last), "{seq}");
        assert!(shown.lifecycle.iter().all(|event| event.source == shown.summary.source));
    }
    let raw = Connection::open(&config.path).unwrap();
    let mut plan = raw.prepare(&format!("EXPLAIN QUERY PLAN {}", super::reader::ATTEMPTS)).unwrap();
    let plan: Vec<String> = plan.query_map([1], |row| row.get(3)).unwrap().collect::<Result<_, _>>().unwrap();
    assert!(plan.iter().any(|step| step.starts_with("SEARCH a USING PRIMARY KEY (sink_id=? AND seq=?)")), "{plan:?}");
    inbox.close().await;
}

#[tokio::test]
async fn what_is_stale_is_known_while_the_index_moves_on() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let inbox = open(&config);
    let mut reader = Reader::open(&config).unwrap();
    for n in 0..150 {
        append(&inbox, "one", &payin(&format!("{n}"), &format!("{n}"), "COMPLETED")).await;
        let ended = format!("{}", n - n.min(20));
        let late = append(&inbox, "one", &payin(&format!("late-{n}"), &ended, "PROCESSING")).await;
        assert!(reader.read(&[late.seq]).unwrap()[0].stale, "{n}");
    }
    inbox.close().await;
}

/// Whoever chooses ids cannot hide an event behind one.
#[tokio::test]
async fn an_id_that_is_a_number_hides_no_event() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let inbox = open(&config);
    for id in ["a", "b", "1", "3"] {
        append(&inbox, "one", &payin(id, id, "COMPLETED")).await;
    }
    let mut reader = Reader::open(&config).unwrap();
    let mut shown = |text: &str| {
        let found = reader.event(text).unwrap();
        found.iter().map(|event| event.summary.seq.get()).collect::<Vec<_>>()
    };
    assert_eq!([shown("1"), shown("2"), shown("3"), shown("a")], [vec![3, 1], vec![2], vec![4, 3], vec![1]]);
    inbox.close().await;
}

/// For lists, with the time at which it was first seen.
#[tokio::test]
async fn why_a_sink_is_not_built_is_read_with_its_time() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let inbox = open(&config);
    let id = register(&inbox, "bus").await.id;
    let noted = async |failure: Option<&str>| {
        inbox.note_built(id, failure.map(str::to_owned)).await.unwrap();
        let record = Reader::open(&config).unwrap().sinks().unwrap().remove(0);
        (record.state().as_str(), record.build_failure.map(|failure| (failure.error, failure.since)))
    };
    let (state, first) = noted(Some("no directory")).await;
    let since = first.clone().unwrap().1;
    assert_eq!((state, first), ("unavailable", Some(("no directory".to_owned(), since))));
    assert_eq!(noted(Some("no disk")).await, ("unavailable", Some(("no disk".to_owned(), since))), "since the first");
    assert_eq!(noted(None).await, ("running", None));
    assert!(noted(Some("no disk")).await.1.is_some_and(|(_, again)| again > since), "it is another failure");
    inbox.close().await;
}

/// Parked after the cursor, as while the breaker is open, it is behind the cursor and parked at once.
#[tokio::test]
async fn what_a_sink_has_still_to_get_is_counted_once() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let inbox = open(&config);
    fill(&inbox, 6).await;
    let id = register(&inbox, "bus").await.id;
    inbox.record(Progress { park: vec![parked(1, 1), parked(4, 1)], ..progress(id, 2) }).await.unwrap();
    let record = Reader::open(&config).unwrap().sinks().unwrap().remove(0);
    assert_eq!((record.lag, record.parked, record.undelivered()), (4, 2, 5));
    inbox.close().await;
}
