//! A thousand events of one key, or of one id, cost each further one no more than ten do. Counted in SQLite's instructions,
//! which are the same on every machine.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use super::super::append::{Append, Names, append as append_to};
use super::super::index::Index;
use super::super::open::open_writer;
use super::super::stale::{Open, Tail};
use super::*;
use crate::inbox::Selection;
use crate::inbox::contract::selection;

pub(in crate::inbox::sqlite) fn count_instructions(connection: &Connection) -> Arc<AtomicU64> {
    let count = Arc::new(AtomicU64::new(0));
    let counting = Arc::clone(&count);
    let count_one = move || {
        counting.fetch_add(1, SeqCst);
        false
    };
    connection.progress_handler(1, Some(count_one)).unwrap();
    count
}

/// A writer without a thread.
struct Log {
    connection: Connection,
    index: Index,
    names: Names,
    last: i64,
}

impl Log {
    fn open(config: &Config) -> Self {
        std::fs::create_dir_all(config.path.parent().unwrap()).unwrap();
        let connection = open_writer(&config.path, &mut |error| panic!("{error}")).unwrap().connection;
        connection.execute_batch("PRAGMA synchronous = OFF").unwrap();
        let last = connection.query_row("SELECT coalesce(max(seq), 0) FROM events", [], |row| row.get(0)).unwrap();
        let index = Index::load(&connection, 1 << 20).unwrap();
        Self { connection, index, names: Names::default(), last }
    }

    fn append(&mut self, body: &str) -> (i64, AppendKind) {
        let (reply, _) = tokio::sync::oneshot::channel();
        let event = Append::new(new_event("one", body), reply);
        self.connection.execute_batch("BEGIN").unwrap();
        let appended = append_to(&self.connection, &mut self.index, &mut self.names, &event, self.last + 1).unwrap();
        let is_new = appended.kind != AppendKind::Duplicate;
        self.index.work(&self.connection, usize::from(is_new)).unwrap();
        self.connection.execute_batch("COMMIT").unwrap();
        self.index.committed();
        self.last += i64::from(is_new);
        (appended.seq.get(), appended.kind)
    }
}

#[test]
fn other_bodies_under_one_id_do_not_slow_down_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let mut log = Log::open(&config);
    let body = |n: usize| payin("same", &format!("o{n}"), "COMPLETED");
    assert_eq!(log.append(&body(0)), (1, AppendKind::Fresh));
    for n in 1..500 {
        assert_eq!(log.append(&body(n)).1, AppendKind::Conflict);
    }
    let mut cost = |from: usize| {
        // Each of these looks into all runs, at whichever level they are.
        let count = count_instructions(&log.connection);
        for n in from..from + 200 {
            assert_eq!(log.append(&body(n)), (n as i64 + 1, AppendKind::Conflict));
        }
        count.load(SeqCst)
    };
    let (few, _, many) = (cost(500), (700..3700).step_by(200).for_each(|n| _ = cost(n)), cost(3700));
    assert!(many < 3 * few, "{few} instructions for 200 events, then {many}");
    for n in [0, 1, 63, 64, 700, 3899] {
        assert_eq!(log.append(&body(n)), (n as i64 + 1, AppendKind::Duplicate), "{n}");
    }
    drop(log);
    let mut log = Log::open(&config);
    for n in 0..3900 {
        assert_eq!(log.append(&body(n)), (n as i64 + 1, AppendKind::Duplicate), "{n} after a start");
    }
    assert_eq!(log.append(&body(3900)), (3901, AppendKind::Conflict));
}

/// An older version has given other bodies under one id no key of their own.
#[test]
fn bodies_that_an_older_version_stored_under_one_id_are_known() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let mut log = Log::open(&config);
    let body = |n: usize| payin("same", &format!("o{n}"), "COMPLETED");
    (0..300).for_each(|n| _ = log.append(&body(n)));
    let watermark: i64 = log.connection.query_row("SELECT watermark FROM index_state", [], |row| row.get(0)).unwrap();
    assert!(watermark > 200, "{watermark}");
    // Their keys lead nowhere any more, as if they had never been written: those of the ids are the smallest seq's.
    let shifted = "UPDATE index_state SET bodies_after = watermark";
    log.connection.execute_batch(shifted).unwrap();
    let id_hash = super::super::index::hash("one", "same");
    let mut chunks: Vec<(i64, Vec<u8>)> = Vec::new();
    {
        let mut rows = log.connection.prepare("SELECT id, keys FROM index_chunks").unwrap();
        let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get::<_, Vec<u8>>(1)?))).unwrap();
        chunks.extend(rows.map(Result::unwrap));
    }
    for (id, mut keys) in chunks {
        let is_kept = |key: &[u8]| key[..8] == id_hash.to_be_bytes();
        // A seq that no range holds.
        keys.chunks_mut(16).filter(|key| !is_kept(key)).for_each(|key| key[8..].copy_from_slice(&[0; 8]));
        log.connection.execute("UPDATE index_chunks SET keys = ?2 WHERE id = ?1", (id, keys)).unwrap();
    }
    drop(log);
    let mut log = Log::open(&config);
    for n in 0..300 {
        assert_eq!(log.append(&body(n)), (n as i64 + 1, AppendKind::Duplicate), "{n}");
    }
}

#[tokio::test]
async fn a_part_of_many_events_of_one_key_is_read_for_what_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let inbox = open(&config);
    let one_key = Selection {
        filter: EventFilter { key: Some("order".to_owned()), ..EventFilter::default() },
        ..selection(EventFilter::default(), 1, i64::MAX)
    };
    let mut all = Vec::new();
    for n in 0..1200 {
        let order = if n % 3 == 0 { "another" } else { "order" };
        let appended = append(&inbox, "one", &payin(&format!("e{n}"), order, "COMPLETED")).await;
        all.extend((order == "order").then_some(appended.seq));
    }
    let mut reader = Reader::open(&config).unwrap();
    let (mut after, mut found, mut costs) = (Seq::ZERO, Vec::new(), Vec::new());
    while after.get() < 1200 {
        let count = reader.count_instructions();
        let slice = reader.read_selected(&one_key, after, 10).unwrap();
        costs.push(count.load(SeqCst));
        after = slice.read_to;
        found.extend(slice.events.into_iter().map(|event| event.seq));
    }
    assert_eq!(found, all);
    let (least, most) = (costs[..costs.len() - 1].iter().min().unwrap(), costs.iter().max().unwrap());
    assert!(*most < 8 * least, "{least} to {most} instructions for ten events");
    // Lists go both ways.
    for direction in [Direction::Forward, Direction::Backward] {
        let mut listed = Vec::new();
        let visit = &mut |event: EventSummary| {
            listed.push(event.seq);
            ControlFlow::Continue(())
        };
        reader.each_event(&one_key.filter, direction, None, visit).unwrap();
        if direction == Direction::Backward {
            listed.reverse();
        }
        assert_eq!(listed, all);
    }
    inbox.close().await;
}

#[tokio::test]
async fn each_event_of_a_key_is_looked_at_once_for_staleness() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let inbox = open(&config);
    for n in 0..600 {
        append(&inbox, "one", &payin(&format!("e{n}"), "order", "PROCESSING")).await;
    }
    let raw = Connection::open(&config.path).unwrap();
    let mut tail = Tail::default();
    let mut is_stale = |seqs: std::ops::Range<i64>| {
        let open: Vec<Open<'_>> = seqs.map(|seq| Open { seq, source_id: 1, source: "one", key: "order" }).collect();
        let are_stale = tail.are_stale(&raw, &open).unwrap();
        (are_stale.iter().filter(|stale| **stale).count(), tail.looked_at)
    };
    for first in (1..600).step_by(30) {
        assert_eq!(is_stale(first..first + 30).0, 0);
    }
    let (_, looked_at) = is_stale(1..601);
    assert!((500..=650).contains(&looked_at), "{looked_at} of 600");
    append(&inbox, "one", &payin("end", "order", "COMPLETED")).await;
    for n in 601..900 {
        append(&inbox, "one", &payin(&format!("e{n}"), "order", "PROCESSING")).await;
    }
    assert_eq!(is_stale(602..900), (298, looked_at + 1), "the first that is final answers for all behind it");
    assert_eq!(is_stale(1..601).0, 0);
    inbox.close().await;
}
