//! Other processes beside the one that writes: handing in jobs, and waiting for the lock. What counts for SQLite and
//! for the lock is the connection and the file description, so that another of these is as good as another process.

use std::sync::atomic::{AtomicBool, Ordering};

use super::super::{Desk, ReadError};
use super::*;
use crate::inbox::{JobState, Task};

#[tokio::test]
async fn jobs_are_handed_in_while_the_writer_is_under_load() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let inbox = Arc::new(open(&config));
    register(inbox.as_ref(), "bus").await;
    let stop = Arc::new(AtomicBool::new(false));
    let senders: Vec<_> = (0..8)
        .map(|sender| {
            let (inbox, stop) = (Arc::clone(&inbox), Arc::clone(&stop));
            async move {
                let mut sent = 0;
                while !stop.load(Ordering::Relaxed) {
                    let id = format!("{sender}-{sent}");
                    append(inbox.as_ref(), "one", &payin(&id, &id, "COMPLETED")).await;
                    sent += 1;
                }
                sent
            }
        })
        .collect();
    let hand_in = {
        let (config, stop) = (config.clone(), Arc::clone(&stop));
        tokio::task::spawn_blocking(move || {
            let hand_in = |desk: Desk| (0..20).map(|_| desk.submit(&job(Task::Pause { sink: sink("bus") }))).collect();
            let ids: Result<Vec<_>, _> = Desk::open(&config).and_then(hand_in);
            stop.store(true, Ordering::Relaxed);
            ids
        })
    };
    let sent: usize = futures_util::future::join_all(senders).await.into_iter().sum();
    let ids = hand_in.await.unwrap().unwrap();
    assert_eq!(inbox.trouble(), None);
    assert_eq!(inbox.head().borrow().get(), i64::try_from(sent).unwrap(), "no sender was refused");
    let open = inbox.open_jobs().await.unwrap();
    assert_eq!(open.iter().map(|job| job.id).collect::<Vec<_>>(), ids);
    assert!(inbox.advance(ids[0], &[]).await.unwrap().ended);
    assert_eq!(Reader::open(&config).unwrap().job(ids[0]).unwrap().unwrap().state, JobState::Done);
    inbox.close().await;
}

#[tokio::test]
async fn a_desk_waits_for_its_turn() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let inbox = open(&config);
    let desk = Desk::open(&config).unwrap();
    let other = Connection::open(&config.path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let (told, answer) = std::sync::mpsc::channel();
    let handed_in = tokio::task::spawn_blocking(move || {
        told.send(desk.submit(&job(Task::Pause { sink: sink("bus") }))).unwrap();
    });
    assert!(answer.recv_timeout(Duration::from_millis(100)).is_err(), "it waits");
    other.execute_batch("ROLLBACK").unwrap();
    handed_in.await.unwrap();
    assert_eq!(inbox.open_jobs().await.unwrap()[0].id, answer.recv().unwrap().unwrap());
    inbox.close().await;
}

#[tokio::test]
async fn a_desk_makes_no_inbox_and_writes_nothing_back() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    assert!(matches!(Desk::open(&config), Err(ReadError::Absent(_))));
    assert!(!config.path.exists());
    let inbox = open(&config);
    fill(&inbox, 3).await;
    let desk = Desk::open(&config).unwrap();
    let id = desk.submit(&job(Task::Pause { sink: sink("bus") })).unwrap();
    // A crash of the daemon: the desk is the last to close.
    let crashed = tempfile::tempdir().unwrap();
    let crashed = Config { path: crashed.path().join("inbox.db"), ..config.clone() };
    std::fs::create_dir_all(crashed.path.parent().unwrap()).unwrap();
    for name in ["inbox.db", "inbox.db-wal"] {
        std::fs::copy(config.path.with_file_name(name), crashed.path.with_file_name(name)).unwrap();
    }
    let wal = |config: &Config| std::fs::metadata(config.path.with_extension("db-wal")).unwrap().len();
    let before = wal(&crashed);
    let last = Desk::open(&crashed).unwrap();
    let next = last.submit(&job(Task::Pause { sink: sink("bus") })).unwrap();
    drop(last);
    assert!(before > 0 && wal(&crashed) > before, "it is left for the next start");
    let after = open(&crashed);
    assert_eq!(after.open_jobs().await.unwrap().iter().map(|job| job.id).collect::<Vec<_>>(), [id, next]);
    after.close().await;
    inbox.close().await;
}

#[tokio::test]
async fn who_holds_the_inbox_learns_who_waits_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let _lock = Lock::try_take(&config.path).unwrap().unwrap();
    assert!(!Lock::is_wanted(&config.path));
    let first = Lock::announce(&config.path).unwrap();
    let second = Lock::announce(&config.path).unwrap();
    assert!(Lock::is_wanted(&config.path) && Lock::is_wanted(&config.path));
    drop(first);
    assert!(Lock::is_wanted(&config.path));
    drop(second);
    assert!(config.path.with_extension("waiting").exists());
    assert!(!Lock::is_wanted(&config.path), "a file that is left behind means nothing");
}
