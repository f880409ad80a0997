//! Copies of an inbox in use.

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::super::{BackupError, Stage, back_up};
use super::*;

struct Scene {
    dir: tempfile::TempDir,
    config: Config,
    inbox: SqliteInbox,
}

impl Scene {
    /// A hundred events, partly in the write-ahead log still.
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        let inbox = open(&config);
        register(&inbox, "bus").await;
        fill(&inbox, 100).await;
        std::fs::create_dir(dir.path().join("copies")).unwrap();
        Self { dir, config, inbox }
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("copies/copy.db")
    }

    fn back_up(&self, watch: impl Fn(Stage) -> ControlFlow<()> + Send + Sync + 'static) -> Result<i64, BackupError> {
        back_up(&self.config, &self.file(), Arc::new(watch)).map(|made| made.head)
    }

    /// What is where the copy is to be.
    fn left(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.dir.path().join("copies")).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

/// Writes as another process would.
fn write_beside(path: &Path, bytes: usize) {
    let other = Connection::open(path).unwrap();
    other.busy_timeout(Duration::from_secs(5)).unwrap();
    other.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
    other.execute("INSERT OR REPLACE INTO bodies VALUES (1000000, zeroblob(?1))", [bytes]).unwrap();
}

#[tokio::test]
async fn a_copy_ends_and_is_of_one_moment_however_much_is_written_meanwhile() {
    let scene = Scene::new().await;
    let path = scene.config.path.clone();
    let (last, copied) = (AtomicU64::new(0), Arc::new(AtomicU64::new(0)));
    let steps = Arc::clone(&copied);
    let head = scene.back_up(move |stage| {
        if let Stage::Copying { done, total } = stage {
            assert!(last.swap(done, Ordering::Relaxed) < done && done <= total, "it begins anew");
            // Growing by next to nothing: the same page each time.
            if steps.fetch_add(1, Ordering::Relaxed) < 8 {
                write_beside(&path, 10);
            }
        }
        ControlFlow::Continue(())
    });
    assert_eq!(head.unwrap(), 100);
    assert!(copied.load(Ordering::Relaxed) > 8, "too few steps to tell");
    assert_eq!(scene.left(), ["copy.db"]);
    let copy = Connection::open(scene.file()).unwrap();
    let bodies: i64 = copy.query_row("SELECT count(*) FROM bodies", [], |row| row.get(0)).unwrap();
    let mode: String = copy.query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap();
    assert_eq!((bodies, mode.as_str()), (100, "delete"), "a single file, without what came later");
    scene.inbox.close().await;
}

#[tokio::test]
async fn a_daemon_that_starts_meanwhile_does_not_wait() {
    let scene = Scene::new().await;
    scene.inbox.close().await;
    // More than the last checkpoint has written back: what a killed daemon leaves.
    let keeper = Connection::open(&scene.config.path).unwrap();
    keeper.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
    write_beside(&scene.config.path, 10);
    let (config, opened) = (scene.config.clone(), Arc::new(Mutex::new(None)));
    let (starting, waited) = (Arc::clone(&opened), Arc::new(AtomicU64::new(0)));
    let waits = Arc::clone(&waited);
    let head = scene.back_up(move |stage| {
        let mut starting = starting.lock().unwrap();
        if stage == Stage::Waiting {
            waits.fetch_add(1, Ordering::Relaxed);
        }
        if starting.is_none() {
            // After the snapshot, so that it is an old one.
            write_beside(&config.path, 20);
            let opening = config.clone();
            let daemon = starting.insert(std::thread::spawn(move || {
                let lock = Lock::try_take(&opening.path).unwrap().unwrap();
                SqliteInbox::open(&opening, lock, Arc::new(SystemClock), Arc::new(Metrics::new()))
            }));
            while !Lock::is_starting(&config.path) && !daemon.is_finished() {
                std::thread::yield_now();
            }
        }
        ControlFlow::Continue(())
    });
    assert_eq!(head.unwrap(), 100);
    assert!(waited.load(Ordering::Relaxed) > 0);
    let inbox = opened.lock().unwrap().take().unwrap().join().unwrap().expect("the log could be written back");
    inbox.close().await;
}

#[tokio::test]
async fn the_log_grows_within_bounds_for_it() {
    let scene = Scene::new().await;
    let path = scene.config.path.clone();
    let made = scene.back_up(move |_| {
        write_beside(&path, 100 << 10);
        ControlFlow::Continue(())
    });
    assert!(matches!(made, Err(BackupError::Busy)), "{made:?}");
    assert_eq!(scene.left(), [""; 0]);
    scene.inbox.close().await;
}

#[tokio::test]
async fn nothing_is_left_of_one_that_is_stopped() {
    let scene = Scene::new().await;
    for checking in [false, true] {
        let made = scene.back_up(move |stage| match stage {
            Stage::Checking => ControlFlow::Break(()),
            Stage::Copying { .. } | Stage::Waiting if checking => ControlFlow::Continue(()),
            Stage::Copying { .. } | Stage::Waiting => ControlFlow::Break(()),
        });
        assert!(matches!(made, Err(BackupError::Stopped)), "{made:?}");
        assert_eq!(scene.left(), [""; 0]);
    }
    scene.inbox.close().await;
}

#[tokio::test]
async fn nothing_is_written_over() {
    let scene = Scene::new().await;
    let go_on = |_| ControlFlow::Continue(());
    std::fs::write(scene.file(), "mine").unwrap();
    assert!(matches!(scene.back_up(go_on), Err(BackupError::Exists(_))));
    std::fs::remove_file(scene.file()).unwrap();
    let file = scene.file();
    let made = scene.back_up(move |_| {
        std::fs::write(&file, "mine").unwrap();
        ControlFlow::Continue(())
    });
    assert!(matches!(made, Err(BackupError::Exists(_))), "{made:?}");
    assert_eq!((std::fs::read(scene.file()).unwrap(), scene.left()), (b"mine".to_vec(), vec!["copy.db".to_owned()]));
    std::fs::rename(scene.file(), scene.dir.path().join("copies/copy.db.draft")).unwrap();
    assert!(matches!(scene.back_up(go_on), Err(BackupError::Draft(_))));
    assert_eq!(scene.left(), ["copy.db.draft"]);
    scene.inbox.close().await;
}

#[tokio::test]
async fn a_copy_that_is_damaged_is_no_backup() {
    let scene = Scene::new().await;
    scene.inbox.close().await;
    let mut bytes = std::fs::read(&scene.config.path).unwrap();
    let page = 8192;
    // One with rows: what is empty may be read before the copy is made.
    let leaf = bytes.chunks(page).rposition(|page| page[0] == 13 && page[3..5] != [0, 0]).unwrap();
    bytes[leaf * page..leaf * page + 512].fill(0xff);
    std::fs::write(&scene.config.path, bytes).unwrap();
    let made = scene.back_up(|_| ControlFlow::Continue(()));
    assert!(matches!(made, Err(BackupError::Bad(_))), "{made:?}");
    assert_eq!(scene.left(), [""; 0]);
}
