//! The index without the log: runs, merges, crashes and rollbacks. A chunk holds 8 keys here, and a set 64 events.

use proptest::prelude::*;

use super::upkeep::move_from_tables;
use super::*;

fn database() -> Connection {
    let connection = Connection::open_in_memory().unwrap();
    connection.execute_batch(concat!(include_str!("../schema/001.sql"), include_str!("../schema/003.sql"))).unwrap();
    connection
}

fn all(index: &Index, connection: &Connection, hash: i64) -> Vec<i64> {
    let recent = index.recent.get(&hash).copied().into_iter();
    let more = index.recent_more.get(&hash).into_iter().flatten().copied();
    let below = if index.filter.may_hold(hash) {
        seqs(connection, &[(Kind::Id, hash)], Range::ALL, usize::MAX).unwrap()
    } else {
        Vec::new()
    };
    let mut all: Vec<i64> = recent.chain(more).chain(index.upkeep.seqs(hash)).chain(below).collect();
    all.sort_unstable();
    all
}

fn empty() -> Index {
    Index {
        recent: HashMap::new(),
        recent_more: HashMap::new(),
        pending: Vec::new(),
        bodies: 0,
        bodies_after: 0,
        upkeep: Upkeep::new(),
        filter: Filter::of_empty_index(1 << 20),
    }
}

/// What the file keeps of it, with the keys above the watermark added again from the log.
fn crashed(connection: &Connection, log: &[Keys]) -> Index {
    let watermark: i64 = connection.query_row("SELECT watermark FROM index_state", [], |row| row.get(0)).unwrap();
    let mut index = Index { filter: Filter::unloaded(1, 1 << 20), ..empty() };
    log.iter().filter(|keys| keys.seq > watermark).for_each(|&keys| index.add(keys));
    index
}

fn count(connection: &Connection, sql: &str) -> i64 {
    connection.query_row(sql, [], |row| row.get(0)).unwrap()
}

#[derive(Clone, Debug)]
enum Happens {
    Batch { events: usize, rolls_back: bool },
    Crash,
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        6 => (1..60_usize).prop_map(|events| Happens::Batch { events, rolls_back: false }),
        // So that a set is written in several of them.
        6 => (1..4_usize).prop_map(|events| Happens::Batch { events, rolls_back: false }),
        2 => (1..20_usize).prop_map(|events| Happens::Batch { events, rolls_back: true }),
        1 => Just(Happens::Crash),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Few hashes, so that many events share one and runs of equal keys span chunks.
    #[test]
    fn every_key_is_found_once_whatever_happens(
        histories in prop::collection::vec(happens(), 20..120),
        hashes in 1..2000_i64,
        seed in any::<u64>(),
    ) {
        let connection = database();
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut index, mut log) = (empty(), Vec::<Keys>::new());
        for happens in histories {
            let (events, rolls_back) = match happens {
                Happens::Crash => {
                    index = crashed(&connection, &log);
                    continue;
                }
                Happens::Batch { events, rolls_back } => (events, rolls_back),
            };
            connection.execute_batch("BEGIN").unwrap();
            let before = log.len();
            for _ in 0..events {
                let mut hash = || (random.i64(0..hashes) - hashes / 2).wrapping_mul(0x5851_f42d_4c95_7f2d);
                let keys = Keys { seq: log.len() as i64 + 1, id: hash(), entity: Some(hash()), body: None };
                index.add(keys);
                log.push(keys);
            }
            index.work(&connection, events).unwrap();
            if rolls_back {
                connection.execute_batch("ROLLBACK").unwrap();
                log.truncate(before);
                index.rolled_back(before as i64);
            } else {
                connection.execute_batch("COMMIT").unwrap();
                index.committed();
            }
        }
        let watermark = count(&connection, "SELECT watermark FROM index_state");
        let mut asked: Vec<i64> = (0..hashes + 3).map(|n| (n - hashes / 2).wrapping_mul(0x5851_f42d_4c95_7f2d)).collect();
        asked.sort_unstable();
        let mut at_once = Vec::new();
        each_seq(&connection, &asked.iter().map(|&hash| (hash, 0)).collect::<Vec<_>>(), |hash, seq| at_once.push((hash, seq))).unwrap();
        at_once.sort_unstable();
        let indexed = log.iter().filter(|keys| keys.seq <= watermark);
        let mut indexed: Vec<_> = indexed.filter_map(|keys| Some((keys.entity?, keys.seq))).collect();
        indexed.sort_unstable();
        prop_assert_eq!(at_once, indexed);
        for n in 0..hashes {
            let hash = (n - hashes / 2).wrapping_mul(0x5851_f42d_4c95_7f2d);
            let expected: Vec<i64> = log.iter().filter(|keys| keys.id == hash).map(|keys| keys.seq).collect();
            prop_assert_eq!(all(&index, &connection, hash), expected);
            let mut found = seqs(&connection, &[(Kind::Entity, hash)], Range::ALL, usize::MAX).unwrap();
            found.sort_unstable();
            let indexed = log.iter().filter(|keys| keys.seq <= watermark && keys.entity == Some(hash));
            prop_assert_eq!(found, indexed.map(|keys| keys.seq).collect::<Vec<_>>());
        }
        let left_over = "SELECT count(*) FROM index_runs WHERE state = 1 AND level = 0";
        prop_assert!(count(&connection, left_over) <= 2, "what a crash left is dropped");
        let orphans = "SELECT count(*) FROM index_chunks WHERE run NOT IN (SELECT id FROM index_runs)";
        prop_assert_eq!(count(&connection, orphans), 0);
    }
}

#[test]
fn the_work_keeps_up_and_runs_stay_few() {
    let connection = database();
    let mut index = empty();
    for seq in 1..=20_000 {
        let hash = |salt: i64| (seq + salt).wrapping_mul(0x5851_f42d_4c95_7f2d);
        index.add(Keys { seq, id: hash(0), entity: Some(hash(1_000_000)), body: None });
        if seq % 16 == 0 {
            index.work(&connection, 16).unwrap();
            index.committed();
            assert!(index.pending.len() < 2 * SEAL, "memory holds two sets at most: {}", index.pending.len());
        }
    }
    // 312 sets: four levels of fewer than four runs each, and those of a merge that is under way.
    let complete = count(&connection, "SELECT count(*) FROM index_runs WHERE state = 2 AND kind = 1");
    assert!((2..=24_i64).contains(&complete), "{complete}");
    let (levels, dropped) = (
        count(&connection, "SELECT max(level) FROM index_runs"),
        count(&connection, "SELECT count(*) FROM index_runs WHERE state = 3"),
    );
    assert!(levels >= 3, "{levels}");
    assert!(dropped <= 8, "{dropped}");
}

#[test]
fn the_tables_of_older_versions_become_runs() {
    let connection = database();
    let insert = |table: &str, hash: i64, seq: i64| {
        connection.execute(&format!("INSERT INTO {table} VALUES (?1, ?2)"), [hash, seq]).unwrap();
    };
    for seq in 1..=1000_i64 {
        insert("id_index", seq.wrapping_mul(0x5851_f42d_4c95_7f2d), seq);
        insert("entity_index", seq % 3, seq);
    }
    move_from_tables(&connection).unwrap();
    for seq in 1..=1000_i64 {
        assert_eq!(
            seqs(&connection, &[(Kind::Id, seq.wrapping_mul(0x5851_f42d_4c95_7f2d))], Range::ALL, usize::MAX).unwrap(),
            [seq]
        );
    }
    assert_eq!(seqs(&connection, &[(Kind::Entity, 2)], Range::ALL, usize::MAX).unwrap().len(), 333);
    assert_eq!(count(&connection, "SELECT count(*) FROM index_runs WHERE state = 2 AND level = 2"), 2);
    assert_eq!(count(&connection, "SELECT count(*) FROM sqlite_schema WHERE name LIKE '%_index'"), 0);
}

/// The filter is made from the runs, while more are written.
#[test]
fn a_loaded_filter_knows_every_key_of_the_runs() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index.db");
    let connection = Connection::open(&path).unwrap();
    connection.execute_batch("PRAGMA journal_mode = WAL").unwrap();
    connection.execute_batch(concat!(include_str!("../schema/001.sql"), include_str!("../schema/003.sql"))).unwrap();
    let hash = |seq: i64| seq.wrapping_mul(0x5851_f42d_4c95_7f2d);
    let mut index = empty();
    let write = |index: &mut Index, seqs: std::ops::RangeInclusive<i64>| {
        for seq in seqs {
            index.add(Keys { seq, id: hash(seq), entity: None, body: None });
            index.work(&connection, 1).unwrap();
            index.committed();
        }
    };
    write(&mut index, 1..=1000);
    index.filter = Filter::unloaded(1000, 1 << 20);
    let load = index.filter.begin_load().unwrap();
    let going_on = std::sync::atomic::AtomicBool::new(false);
    assert!(load.run(&path, &going_on).unwrap());
    write(&mut index, 1001..=2000);
    index.filter.install(true);
    let watermark = count(&connection, "SELECT watermark FROM index_state");
    assert!(watermark > 1800, "{watermark}");
    assert!((1..=watermark).all(|seq| index.filter.may_hold(hash(seq))));
    let false_alarms = (3000..13_000).filter(|&seq| index.filter.may_hold(hash(seq))).count();
    assert!(false_alarms < 500, "{false_alarms} of 10,000");
}
