//! Writing the write-ahead log back into the file. Nearly all of it is done by a thread with a connection of its own,
//! while the writer goes on; the writer itself only does the rest, which must be done between two of its commits for
//! the log to begin anew. That also needs a moment in which no reader is at work: when readers are so busy that there is
//! none by itself, new reads wait until there is.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use rusqlite::Connection;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

use super::MAX_READERS;
use super::open::{OpenError, io_error, open_desk};
use super::paths::log_of;
use super::writer::Command;

/// Pages in the log (16 MiB) at which it is written back.
const PAGES: i64 = if cfg!(test) { 64 } else { 2048 };
/// Pages that the writer writes back by itself: a millisecond or two.
const REST: i64 = if cfg!(test) { 8 } else { 64 };
/// Passes of the thread after which the writer does the rest, however much it is.
const PASSES: u32 = 3;
/// Pages in the log (256 MiB) at which new reads wait for it to begin anew.
const MAX_PAGES: i64 = if cfg!(test) { 256 } else { 32_768 };
/// Between two times at which reads wait.
const QUIET_AGAIN: Duration = if cfg!(test) { Duration::ZERO } else { Duration::from_secs(10) };
/// Commits between two looks at the log's size.
const COMMITS: u32 = 8;

pub(super) struct Checkpoints {
    path: PathBuf,
    /// Where the thread's answers go.
    commands: Sender<Command>,
    worker: Option<Worker>,
    commits: u32,
    /// Passes of the thread so far, while it is at work.
    passes: Option<u32>,
    quiet: Quiet,
}

/// Every permit for reading, once no reader is at work.
type AllPermits = Pin<Box<dyn Future<Output = Result<OwnedSemaphorePermit, AcquireError>> + Send>>;

/// A time in which no reader of this process is at work.
struct Quiet {
    may_read: Arc<Semaphore>,
    /// Asked for: the reads that have begun end, and no other begins.
    asked: Option<AllPermits>,
    /// Nobody reads for as long as this is held.
    held: Option<OwnedSemaphorePermit>,
    ended: Option<Instant>,
    /// Whether it was told that it did not help.
    is_told: bool,
}

impl Quiet {
    /// True once nobody reads.
    fn has_begun(&mut self) -> bool {
        let may_read = &self.may_read;
        let asked = self.asked.get_or_insert_with(|| {
            let every_reader = u32::try_from(MAX_READERS).expect("they are few");
            Box::pin(Arc::clone(may_read).acquire_many_owned(every_reader))
        });
        let Some(permit) = asked.now_or_never() else { return false };
        self.asked = None;
        self.held = permit.ok();
        true
    }

    /// Reads go on. Once told when the log could not be written back even so, until that is over.
    fn end(&mut self, log: Log) {
        if self.held.take().is_none() {
            return;
        }
        self.ended = Some(Instant::now());
        let (was_told, is_pinned) = (self.is_told, log.unwritten > 0);
        self.is_told = is_pinned;
        if is_pinned && !was_told {
            tracing::warn!(
                mebibytes = log.pages * 8 / 1024,
                "the write-ahead log cannot be written back: a reader outside of the daemon holds an old snapshot, such as a \
                 backup or a session of sqlite3. Let it end: until then the log grows with what comes in"
            );
        }
    }

    fn may_begin(&self) -> bool {
        self.ended.is_none_or(|ended| ended.elapsed() >= QUIET_AGAIN)
    }
}

struct Worker {
    /// `None` once it has been told to end.
    requests: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpoints {
    pub(super) fn new(path: &Path, commands: Sender<Command>, may_read: Arc<Semaphore>) -> Self {
        let quiet = Quiet { may_read, asked: None, held: None, ended: None, is_told: false };
        Self { path: path.to_owned(), commands, worker: None, commits: 0, passes: None, quiet }
    }

    /// After a commit, and now and then without one: has the log written back when it has grown.
    pub(super) fn after_commit(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        self.commits += 1;
        if self.passes.is_some() {
            return Ok(());
        }
        if self.quiet.asked.is_some() {
            return if self.quiet.has_begun() { self.pass(connection, 1) } else { Ok(()) };
        }
        if !self.commits.is_multiple_of(COMMITS) {
            return Ok(());
        }
        let log = look(connection)?;
        if log.unwritten < PAGES {
            return Ok(());
        }
        // It was written back time and again, and never began anew.
        if log.pages >= MAX_PAGES && self.quiet.may_begin() && !self.quiet.has_begun() {
            return Ok(());
        }
        self.pass(connection, 1)
    }

    /// After a pass of the thread.
    pub(super) fn after_pass(&mut self, connection: &Connection, result: rusqlite::Result<()>) -> rusqlite::Result<()> {
        let passes = self.passes.take().unwrap_or_default();
        let rest = result.and_then(|()| look(connection));
        if let Ok(log) = &rest
            && log.unwritten > REST
            && passes < PASSES
        {
            return self.pass(connection, passes + 1);
        }
        let log = rest.and_then(|_| checkpoint(connection, "PASSIVE"));
        self.quiet.end(log.as_ref().copied().unwrap_or_default());
        log.map(drop)
    }

    fn pass(&mut self, connection: &Connection, number: u32) -> rusqlite::Result<()> {
        if self.worker.is_none() {
            self.worker = Worker::start(&self.path, self.commands.clone());
        }
        let requests = self.worker.as_ref().and_then(|worker| worker.requests.as_ref());
        if requests.is_some_and(|requests| requests.send(()).is_ok()) {
            self.passes = Some(number);
            return Ok(());
        }
        // Without a thread the writer does it all.
        self.worker = None;
        let log = checkpoint(connection, "PASSIVE");
        self.quiet.end(log.as_ref().copied().unwrap_or_default());
        log.map(drop)
    }
}

impl Worker {
    fn start(path: &Path, commands: Sender<Command>) -> Option<Self> {
        let (requests, received) = channel();
        let connection = open_desk(path)
            .inspect_err(|error| tracing::warn!(%error, "the connection for checkpoints could not be opened"))
            .ok()?;
        let thread = std::thread::Builder::new().name("checkpoint".to_owned()).spawn(move || {
            while received.recv().is_ok() {
                let result = checkpoint(&connection, "PASSIVE").map(drop);
                if commands.send(Command::Checkpointed(result)).is_err() {
                    break;
                }
            }
        });
        let thread = thread.inspect_err(|error| tracing::warn!(%error, "the thread for checkpoints could not start"));
        Some(Self { requests: Some(requests), thread: Some(thread.ok()?) })
    }
}

/// Waits: nobody writes to the file once its lock is let go of.
impl Drop for Worker {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            _ = thread.join();
        }
    }
}

/// The log, in pages.
#[derive(Clone, Copy, Debug, Default)]
struct Log {
    pages: i64,
    /// Those that are not yet in the file.
    unwritten: i64,
}

fn look(connection: &Connection) -> rusqlite::Result<Log> {
    checkpoint(connection, "NOOP")
}

fn checkpoint(connection: &Connection, mode: &str) -> rusqlite::Result<Log> {
    connection.prepare_cached(&format!("PRAGMA wal_checkpoint({mode})"))?.query_row([], |row| {
        let (pages, written): (i64, i64) = (row.get(1)?, row.get(2)?);
        Ok(Log { pages, unwritten: pages - written })
    })
}

/// How long a start waits for readers to let go of the log: they do so within a second, a backup when it hears of the start.
const READERS: Duration = Duration::from_secs(2);
/// Bytes of the log in memory at a time.
const BLOCK: usize = 1 << 20;

/// Makes sure that what can be read is on the disk, whatever fsyncs have failed before: writes the log back and empties
/// it, or, while a reader holds on to it, writes the log itself anew. Nothing must have been read from the inbox before.
pub(super) fn make_durable(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let sqlite_error = |error| OpenError::sqlite(path, error);
    let usual = connection.query_row("PRAGMA busy_timeout", [], |row| row.get(0)).map_err(sqlite_error)?;
    connection.busy_timeout(READERS).map_err(sqlite_error)?;
    if !empty(connection).map_err(sqlite_error)? {
        write_log_again(connection, path)?;
    }
    connection.busy_timeout(Duration::from_millis(usual)).map_err(sqlite_error)
}

fn write_log_again(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let sqlite_error = |error| OpenError::sqlite(path, error);
    // Nobody writes meanwhile, also no foreign program. Readers find the bytes that were there.
    connection.execute_batch("BEGIN IMMEDIATE").map_err(sqlite_error)?;
    let log = log_of(path)?;
    let written = write_again(&log);
    connection.execute_batch("ROLLBACK").map_err(sqlite_error)?;
    let bytes = written.map_err(|error| io_error(&log, error))?;
    tracing::warn!(
        log = %log.display(),
        bytes,
        "another program reads an old state of the inbox, so the write-ahead log cannot be emptied, and grows until that \
         program ends; it was made durable where it is"
    );
    Ok(())
}

/// Writes the whole log back and empties it; false when a reader or a writer is in the way for longer than the
/// connection's patience.
pub(super) fn empty(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0)).map(|busy| busy == 0)
}

/// Writes each byte of a file in its place as it is read, and syncs it. The descriptor may be closed: SQLite's locks are
/// on the database and on `-shm`, and none on the log.
fn write_again(file: &Path) -> io::Result<u64> {
    let file = OpenOptions::new().read(true).write(true).open(file)?;
    let (mut block, mut place) = (vec![0; BLOCK], 0);
    loop {
        let read = file.read_at(&mut block, place)?;
        if read == 0 {
            break;
        }
        file.write_all_at(&block[..read], place)?;
        place += read as u64;
    }
    file.sync_data()?;
    Ok(place)
}
