//! Files that are moved, removed or replaced under an open inbox, and what a start finds.

use std::fs;
use std::path::PathBuf;

use super::super::open::{OpenError, open_writer};
use super::super::paths::with_suffix;
use super::*;

const LOG: &str = "-wal";

fn beside(config: &Config, suffix: &str) -> PathBuf {
    with_suffix(&config.path, suffix)
}

async fn stores(inbox: &SqliteInbox, id: &str) -> bool {
    inbox.append(new_event("one", &payin(id, "o", "COMPLETED"))).await.is_ok()
}

fn count(database: &Path) -> i64 {
    Connection::open(database).unwrap().query_row("SELECT count(*) FROM events", [], |row| row.get(0)).unwrap()
}

fn refused(config: &Config) -> OpenError {
    let patience = &mut |_: &OpenError| ControlFlow::Break(());
    open_writer(&config.path, patience).expect_err("it was opened")
}

#[tokio::test]
async fn after_a_close_the_database_alone_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let inbox = open(&config);
    for n in 0..20 {
        assert!(stores(&inbox, &format!("e{n}")).await);
    }
    // One that is idle, as those of the admin API are, and one that was used by the inbox itself.
    let idle = Reader::open(&config).unwrap();
    assert_eq!(idle.head().unwrap().get(), 20);
    assert_eq!(inbox.read(vec![Seq::new(1).unwrap()]).await.unwrap().len(), 1);
    assert!(fs::metadata(beside(&config, LOG)).unwrap().len() > 0);
    inbox.close().await;
    let copy = dir.path().join("copy.db");
    fs::copy(&config.path, &copy).unwrap();
    assert_eq!(fs::metadata(beside(&config, LOG)).map_or(0, |log| log.len()), 0);
    assert_eq!(count(&copy), 20);
    drop(idle);
}

/// A reader that does not let go delays a close by a moment, and loses nothing.
#[tokio::test]
async fn a_reader_does_not_hold_up_a_close() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let inbox = open(&config);
    assert!(stores(&inbox, "a").await);
    let reader = Connection::open(&config.path).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM events").unwrap();
    assert!(stores(&inbox, "b").await);
    let closing = tokio::time::timeout(Duration::from_secs(30), inbox.close()).await;
    assert!(closing.is_ok() && Lock::try_take(&config.path).unwrap().is_some());
    assert!(fs::metadata(beside(&config, LOG)).unwrap().len() > 0, "the reader needs it");
    drop(reader);
    assert_eq!(count(&config.path), 2);
}

/// Each file, each way: nothing is acknowledged any more, and what was is in the database, whatever its name is.
#[tokio::test]
async fn a_file_that_is_not_where_it_was_is_a_failure_for_good() {
    let moved = "was moved, removed or replaced while it was in use";
    for suffix in ["", LOG, "-shm", "lock"] {
        for is_replaced in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let config = config(dir.path());
            let inbox = open(&config);
            assert!(stores(&inbox, "a").await && stores(&inbox, "b").await);
            let file = if suffix == "lock" { config.path.with_extension("lock") } else { beside(&config, suffix) };
            let away = dir.path().join("away");
            // A stale copy of the file is what does most harm in its place.
            fs::copy(&file, dir.path().join("copy")).unwrap();
            assert!(stores(&inbox, "c").await);
            fs::rename(&file, &away).unwrap();
            if is_replaced {
                fs::rename(dir.path().join("copy"), &file).unwrap();
            }
            // Nobody has to ask: it is seen within a tick.
            let why = tokio::time::timeout(Duration::from_secs(30), inbox.failed()).await.unwrap();
            assert!(why.contains(moved) && why.contains(file.to_str().unwrap()), "{why}");
            assert!(!stores(&inbox, "d").await, "{suffix} {is_replaced}");
            assert!(inbox.trouble().is_some_and(|trouble| trouble.contains(moved)));
            inbox.close().await;
            drop(inbox);

            if suffix.is_empty() {
                assert_eq!(count(&away), 3, "in the file that was moved, alone");
                assert_eq!(fs::metadata(beside(&config, LOG)).map_or(0, |log| log.len()), 0, "for no other database");
                continue;
            }
            let next = open(&config);
            assert!(stores(&next, "d").await);
            next.close().await;
            assert_eq!(count(&config.path), 4, "{suffix} {is_replaced}");
            let aside = beside(&config, "-wal.set-aside");
            assert_eq!(aside.exists(), suffix == LOG && is_replaced);
        }
    }
}

/// What a commit has written is not acknowledged when its file has lost its name meanwhile, tick or no tick.
#[tokio::test]
async fn a_commit_to_a_file_without_a_name_is_not_acknowledged() {
    for suffix in ["", LOG, "-shm"] {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        let inbox = open(&config);
        assert!(stores(&inbox, "a").await);
        fs::remove_file(beside(&config, suffix)).unwrap();
        assert!(!stores(&inbox, "b").await, "{suffix}");
    }
}

#[tokio::test]
async fn a_database_behind_a_symbolic_link_is_where_its_path_says() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let real = dir.path().join("disk");
    fs::create_dir(&real).unwrap();
    fs::create_dir(config.path.parent().unwrap()).unwrap();
    fs::write(real.join("real.db"), "").unwrap();
    std::os::unix::fs::symlink(real.join("real.db"), &config.path).unwrap();
    let inbox = open(&config);
    assert!(stores(&inbox, "a").await && stores(&inbox, "b").await);
    assert!(real.join("real.db-wal").exists());
    fs::remove_file(&config.path).unwrap();
    assert!(!stores(&inbox, "c").await);
    inbox.close().await;
}

/// SQLite itself would delete it.
#[test]
fn a_log_without_its_database_is_not_thrown_away() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    fs::create_dir(config.path.parent().unwrap()).unwrap();
    for database in [None, Some("")] {
        fs::write(beside(&config, LOG), "frames").unwrap();
        database.inspect(|text| fs::write(&config.path, text).unwrap());
        let error = refused(&config);
        assert!(matches!(error, OpenError::LogAlone { .. }) && error.to_string().contains("move"), "{error}");
        assert_eq!(fs::read_to_string(beside(&config, LOG)).unwrap(), "frames");
    }
}

#[test]
fn what_is_no_database_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    fs::create_dir(config.path.parent().unwrap()).unwrap();
    fs::write(&config.path, "not a database, and long enough to be looked at".repeat(100)).unwrap();
    let error = format!("{:#}", anyhow::Error::new(refused(&config)));
    assert!(error.contains("is damaged, or is no inbox") && error.contains("backup"), "{error}");
    assert_eq!(error.lines().count(), 1);
    assert!(!error.contains("Error code"), "{error}");
}

#[tokio::test]
async fn a_database_that_is_locked_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let inbox = open(&config);
    assert!(stores(&inbox, "a").await);
    inbox.close().await;
    let other = Connection::open(&config.path).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let mut asked = Vec::new();
    let opened = open_writer(&config.path, &mut |why| {
        asked.push(why.to_string());
        other.execute_batch("ROLLBACK").unwrap();
        ControlFlow::Continue(())
    });
    assert!(opened.is_ok(), "{opened:?}");
    assert!(asked.len() == 1 && asked[0].contains("locked by another program"), "{asked:?}");
}

/// The log cannot be emptied, so every byte of it is written anew, and is as it was.
#[tokio::test]
async fn beside_a_reader_the_log_is_made_durable_where_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let inbox = open(&config);
    assert!(stores(&inbox, "a").await);
    let reader = Connection::open(&config.path).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM events").unwrap();
    assert!(stores(&inbox, "b").await);
    inbox.close().await;
    drop(inbox);
    let log = fs::read(beside(&config, LOG)).unwrap();
    assert!(!log.is_empty());
    let lock = Lock::try_take(&config.path).unwrap().unwrap();
    let patience = &mut |why: &OpenError| panic!("{why}");
    let opened = open_writer(&config.path, patience).unwrap();
    assert!(fs::read(beside(&config, LOG)).unwrap() == log, "the same bytes");
    let seen = |connection: &Connection| -> i64 {
        connection.query_row("SELECT count(*) FROM events", [], |row| row.get(0)).unwrap()
    };
    assert_eq!((seen(&opened.connection), seen(&reader)), (2, 1), "each sees its own moment");
    drop((opened, lock));
    let inbox = open(&config);
    assert!(stores(&inbox, "c").await);
    inbox.close().await;
    drop(reader);
    assert_eq!(count(&config.path), 3);
}

/// A process that closes any descriptor of the database loses the locks that SQLite holds on it, and another one then
/// removes the log beneath it. A command has a reader open when it takes the inbox.
#[tokio::test]
async fn opening_keeps_the_locks_that_the_process_has_on_the_database() {
    use std::os::unix::fs::MetadataExt as _;
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    open(&config).close().await;
    let reader = Reader::open(&config).unwrap();
    let inode = fs::metadata(&config.path).unwrap().ino();
    let is_locked = || {
        let locks = fs::read_to_string("/proc/locks").unwrap();
        locks.lines().any(|line| line.contains("POSIX") && line.contains(&format!(":{inode} ")))
    };
    assert!(is_locked());
    let inbox = open(&config);
    assert!(is_locked());
    inbox.close().await;
    drop(reader);
    assert!(!is_locked());
}
