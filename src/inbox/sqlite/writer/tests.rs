//! The writer without its thread, on a database that may grow no further.

use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::oneshot;

use super::super::open::open_writer;
use super::*;
use crate::clock::SystemClock;
use crate::inbox::{NewEvent, QuarantineLimits};
use crate::model::SourceName;
use crate::verify::{Keys, Unverified, sign};

fn open(path: &std::path::Path) -> Opened {
    open_writer(path, &mut |error| panic!("{error}")).unwrap()
}

fn writer(dir: &std::path::Path) -> Writer {
    let quarantine = QuarantineLimits { max_entries: 10, max_bytes: 100_000, ..Default::default() };
    let config = Config { path: dir.join("inbox.db"), quarantine, dedup_memory: 1 << 20, retention: None };
    let lock = Lock::try_take(&config.path).unwrap().unwrap();
    let opened = open(&config.path);
    let (commands, _) = std::sync::mpsc::channel();
    let metrics = Arc::new(Metrics::new());
    let shared = Arc::new(Shared::new(Arc::clone(&metrics)));
    Writer::new(&config, opened, lock, Arc::new(SystemClock), metrics, shared, commands).unwrap()
}

type Answer = oneshot::Receiver<Result<Appended, Unavailable>>;

fn command(id: &str, bytes: usize) -> (Command, Answer) {
    let body =
        format!(r#"{{"eventId":"{id}","eventType":"payin_completed","data":{{"pad":"{}"}}}}"#, "x".repeat(bytes));
    let delivery = Unverified {
        source: SourceName::new("one").unwrap(),
        signatures: vec![sign(b"secret", body.as_bytes()).into()],
        content_type: None,
        headers: vec![],
        body: Bytes::from(body),
    };
    let verified = delivery.verify(&Keys::new(&["secret"]).unwrap()).unwrap();
    let (reply, answer) = oneshot::channel();
    (Command::Append(Box::new(Append::new(NewEvent::new(verified, Timestamp::now()), reply))), answer)
}

/// One batch, and what each of it is answered.
fn commit(writer: &mut Writer, commands: Vec<(Command, Answer)>) -> Vec<Result<Appended, Unavailable>> {
    let (mut batch, answers): (Vec<_>, Vec<_>) = commands.into_iter().unzip();
    writer.commit(&mut batch);
    answers.into_iter().map(|mut answer| answer.try_recv().unwrap()).collect()
}

fn kind(answer: &Result<Appended, Unavailable>) -> Option<AppendKind> {
    answer.as_ref().ok().map(|appended| appended.kind)
}

/// The database may not grow any more, or may again.
fn full(writer: &Writer, is_full: bool) {
    let pages = if is_full { 1 } else { 1_000_000 };
    writer.connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(())).unwrap();
}

#[test]
fn on_a_full_disk_a_whole_batch_is_as_if_it_had_never_come() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = writer(dir.path());
    full(&writer, true);
    let refused = commit(&mut writer, vec![command("a", 1), command("a", 2), command("b", 60_000)]);
    assert!(refused.iter().all(|answer| matches!(answer, Err(Unavailable::Storage(_)))), "{refused:?}");
    assert_eq!(*writer.shared.head.borrow(), Seq::ZERO, "nothing is there to be read");
    full(&writer, false);
    let stored = commit(&mut writer, vec![command("b", 60_000), command("a", 2), command("a", 1), command("a", 2)]);
    let kinds: Vec<_> = stored.iter().map(kind).collect();
    let expected = [AppendKind::Fresh, AppendKind::Fresh, AppendKind::Conflict, AppendKind::Duplicate];
    assert_eq!(kinds, expected.map(Some));
    assert_eq!(stored.iter().map(|answer| answer.as_ref().unwrap().seq.get()).collect::<Vec<_>>(), [1, 2, 3, 2]);
    // Joined, because the name of the source was taken back with the first batch.
    let flags: Vec<(i64, bool)> = {
        let mut rows = writer
            .connection
            .prepare("SELECT e.seq, e.conflict FROM events e JOIN sources s ON s.id = e.source_id ORDER BY e.seq")
            .unwrap();
        rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().collect::<Result<_, _>>().unwrap()
    };
    assert_eq!(flags, [(1, false), (2, false), (3, true)]);
}

#[test]
fn a_duplicate_that_can_be_answered_does_not_end_the_trouble() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = writer(dir.path());
    assert_eq!(kind(&commit(&mut writer, vec![command("a", 1)])[0]), Some(AppendKind::Fresh));
    full(&writer, true);
    assert!(commit(&mut writer, vec![command("b", 60_000)])[0].is_err());
    assert!(writer.shared.trouble().is_some());
    assert_eq!(kind(&commit(&mut writer, vec![command("a", 1)])[0]), Some(AppendKind::Duplicate));
    assert!(writer.shared.trouble().is_some(), "nothing has been written since");
    full(&writer, false);
    assert_eq!(kind(&commit(&mut writer, vec![command("b", 60_000)])[0]), Some(AppendKind::Fresh));
    assert_eq!(writer.shared.trouble(), None);
}

#[test]
fn arrivals_that_cannot_be_written_are_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = writer(dir.path());
    for seq in 1..=50_000 {
        writer.count_arrival(Seq::new(seq).unwrap(), 0);
    }
    assert_eq!(writer.arrivals.len(), 2 * MAX_ARRIVALS);
    writer.count_arrival(Seq::new(1).unwrap(), 7);
    assert_eq!(writer.arrivals[&1], (2, 7));
}

#[test]
fn a_filter_that_cannot_be_loaded_is_not_begun_again_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = writer(dir.path());
    let (commands, received) = std::sync::mpsc::channel();
    writer.commands = commands;
    writer.index.filter = super::super::index::Filter::unloaded(1, 1 << 20);
    let mut batch = vec![];
    writer.gather(Command::FilterLoaded(false), &received, &mut batch);
    writer.load_filter_if_needed();
    assert!(writer.index.filter.begin_load().is_some(), "no load has been begun");
}

/// In tests a set is sealed every 64 keys: the failures come at every stage of one.
#[test]
fn deduplication_is_exact_through_failed_batches_and_crashes() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = writer(dir.path());
    let id = |n: usize| format!("evt-{n}");
    let kinds_of_all = |writer: &mut Writer, count: usize| -> Vec<_> {
        commit(writer, (0..count).map(|n| command(&id(n), 1)).collect()).iter().map(kind).collect()
    };
    for n in 0..300 {
        if n % 3 == 0 {
            full(&writer, true);
            let refused = commit(&mut writer, vec![command(&id(n), 1), command(&id(n + 1), 1), command("big", 60_000)]);
            assert!(refused.iter().all(Result::is_err));
            full(&writer, false);
        }
        assert_eq!(kind(&commit(&mut writer, vec![command(&id(n), 1)])[0]), Some(AppendKind::Fresh), "{n}");
        if n % 70 == 69 {
            // A crash: nothing in memory is left, whatever part of a set has been written.
            let path = dir.path().to_owned();
            drop(writer);
            writer = self::writer(&path);
            assert_eq!(writer.last_seq, n as i64 + 1);
            let kinds = kinds_of_all(&mut writer, n + 1);
            assert!(kinds.iter().all(|&kind| kind == Some(AppendKind::Duplicate)), "{kinds:?}");
        }
    }
    let watermark: i64 =
        writer.connection.query_row("SELECT watermark FROM index_state", [], |row| row.get(0)).unwrap();
    assert!((100..300).contains(&watermark), "{watermark}");
    // Every key of the complete runs stands for an event, once.
    let keys: i64 = writer
        .connection
        .query_row(
            "SELECT sum(length(keys)) / 16 FROM index_chunks c JOIN index_runs r ON r.id = c.run
             WHERE r.state = 2 AND r.kind = 1",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(keys, watermark);
}

/// Two texts may share a hash of 64 bits: a hit counts for nothing until the row has been looked at.
#[test]
fn a_hit_is_checked_against_the_row() {
    use super::super::index::{Found, Sought, hash};
    let dir = tempfile::tempdir().unwrap();
    let mut writer = writer(dir.path());
    let (append, _) = command("a", 1);
    let Command::Append(new) = &append else { unreachable!() };
    let (id, digest) = (new.event.id.clone(), new.event.digest);
    let (other_id, other_digest) = (crate::model::EventId::new("b").unwrap(), crate::model::Digest::of(b"other"));
    commit(&mut writer, vec![command("a", 1)]);
    let find = |source_id, id, digest| {
        let sought = Sought { source: "one", source_id, id, id_hash: hash("one", "a"), digest };
        writer.index.find(&writer.connection, &sought).unwrap()
    };
    assert_eq!(find(1, &id, &digest), Found::Same(1));
    assert_eq!(find(1, &id, &other_digest), Found::Other);
    assert_eq!(find(1, &other_id, &digest), Found::Nothing, "the same hash, another id");
    assert_eq!(find(2, &id, &digest), Found::Nothing, "the same hash, another source");
}

#[test]
fn what_a_crash_left_in_the_log_is_in_the_file_before_anything_else() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = writer(dir.path());
    commit(&mut writer, vec![command("a", 1)]);
    let crashed = tempfile::tempdir().unwrap();
    for name in ["inbox.db", "inbox.db-wal"] {
        std::fs::copy(dir.path().join(name), crashed.path().join(name)).unwrap();
    }
    let wal = || std::fs::metadata(crashed.path().join("inbox.db-wal")).unwrap().len();
    assert!(wal() > 0);
    let opened = open(&crashed.path().join("inbox.db")).connection;
    assert_eq!(wal(), 0);
    let full: i64 = opened.query_row("PRAGMA synchronous", [], |row| row.get(0)).unwrap();
    assert_eq!(full, 2, "every commit is synced");
    assert_eq!(opened.query_row("SELECT count(*) FROM events", [], |row| row.get::<_, i64>(0)).unwrap(), 1);
}

fn seqs(answers: &[Result<Appended, Unavailable>]) -> Vec<Option<i64>> {
    answers.iter().map(|answer| answer.as_ref().ok().map(|appended| appended.seq.get())).collect()
}

/// Whatever another program has put into the file: an event that it refuses costs no other event anything.
#[test]
fn an_event_that_the_database_refuses_is_alone_with_it() {
    let refusals = [
        "CREATE TRIGGER no BEFORE INSERT ON events WHEN new.event_id LIKE 'bad%' BEGIN SELECT raise(ABORT, 'no'); END",
        // Takes the whole transaction back.
        "CREATE TRIGGER no BEFORE INSERT ON events WHEN new.event_id LIKE 'bad%' BEGIN SELECT raise(ROLLBACK, 'no'); END",
        "CREATE TRIGGER no AFTER INSERT ON events WHEN new.event_id LIKE 'bad%' BEGIN SELECT raise(FAIL, 'no'); END",
        // A place is taken, and not one of the log's.
        "CREATE TABLE other (id INTEGER PRIMARY KEY); INSERT INTO other VALUES (1);
         CREATE TRIGGER no AFTER INSERT ON events WHEN new.event_id LIKE 'bad%' BEGIN INSERT INTO other VALUES (1); END",
        // A value that is too big.
        "CREATE TRIGGER no AFTER INSERT ON events WHEN new.event_id LIKE 'bad%' BEGIN SELECT zeroblob(3000000000); END",
        // A value of another type than the column's.
        "CREATE TABLE other (id INTEGER PRIMARY KEY);
         CREATE TRIGGER no AFTER INSERT ON events WHEN new.event_id LIKE 'bad%' BEGIN INSERT INTO other VALUES ('x'); END",
    ];
    for refusal in refusals {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = writer(dir.path());
        let other = rusqlite::Connection::open(dir.path().join("inbox.db")).unwrap();
        other.execute_batch(refusal).unwrap();
        let ids = ["a", "b", "bad-1", "c", "d", "bad-2", "bad-3", "e", "a"];
        let answers = commit(&mut writer, ids.map(|id| command(id, 1)).into());
        let stored = [Some(1), Some(2), None, Some(3), Some(4), None, None, Some(5), Some(1)];
        assert_eq!(seqs(&answers), stored, "{refusal}");
        assert!(matches!(&answers[2], Err(Unavailable::Unstorable(why)) if !why.is_empty()), "{answers:?}");
        assert!(!writer.is_over() && writer.shared.trouble().is_none());
        // It comes again, and is stored once the other program is done.
        other.execute_batch("DROP TRIGGER no").unwrap();
        assert_eq!(seqs(&commit(&mut writer, vec![command("bad-1", 1), command("b", 1)])), [Some(6), Some(2)]);
    }
}

/// What this process knows of the log is wrong: only a start can read it anew.
#[test]
fn a_place_that_another_process_has_taken_is_a_failure_for_good() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = writer(dir.path());
    commit(&mut writer, vec![command("a", 1)]);
    let other = rusqlite::Connection::open(dir.path().join("inbox.db")).unwrap();
    let taken = "CREATE TEMP TABLE copy AS SELECT * FROM events; UPDATE copy SET seq = 2; INSERT INTO events SELECT * FROM copy";
    other.execute_batch(taken).unwrap();
    let answers = commit(&mut writer, vec![command("b", 1), command("c", 1)]);
    assert!(answers.iter().all(|answer| *answer == Err(Unavailable::Closed)), "{answers:?}");
    let why = writer.shared.failure().borrow().clone().unwrap();
    assert!(why.contains("another process writes to this inbox"), "{why}");
}
