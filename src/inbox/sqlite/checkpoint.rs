//! Writing the write-ahead log back into the file. Nearly all of it is done by a thread with a connection of its own,
//! while the writer goes on; the writer itself only does the rest, which must be done between two of its commits for
//! the log to begin anew.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use rusqlite::Connection;

use super::open::open_desk;
use super::writer::Command;

/// Pages in the log (16 MiB) at which it is written back.
const PAGES: i64 = if cfg!(test) { 64 } else { 2048 };
/// Pages that the writer writes back by itself: a millisecond or two.
const REST: i64 = if cfg!(test) { 8 } else { 64 };
/// Passes of the thread after which the writer does the rest, however much it is.
const PASSES: u32 = 3;
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
}

struct Worker {
    /// `None` once it has been told to end.
    requests: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpoints {
    pub(super) fn new(path: &Path, commands: Sender<Command>) -> Self {
        Self { path: path.to_owned(), commands, worker: None, commits: 0, passes: None }
    }

    /// After a commit: has the log written back when it has grown.
    pub(super) fn after_commit(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        self.commits += 1;
        if self.passes.is_some() || !self.commits.is_multiple_of(COMMITS) {
            return Ok(());
        }
        if unwritten(connection)? < PAGES { Ok(()) } else { self.pass(connection, 1) }
    }

    /// After a pass of the thread.
    pub(super) fn after_pass(&mut self, connection: &Connection, result: rusqlite::Result<()>) -> rusqlite::Result<()> {
        let passes = self.passes.take().unwrap_or_default();
        result?;
        if unwritten(connection)? > REST && passes < PASSES {
            return self.pass(connection, passes + 1);
        }
        checkpoint(connection, "PASSIVE").map(drop)
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
        checkpoint(connection, "PASSIVE").map(drop)
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

/// Pages of the log that are not yet in the file.
fn unwritten(connection: &Connection) -> rusqlite::Result<i64> {
    checkpoint(connection, "NOOP")
}

fn checkpoint(connection: &Connection, mode: &str) -> rusqlite::Result<i64> {
    connection
        .prepare_cached(&format!("PRAGMA wal_checkpoint({mode})"))?
        .query_row([], |row| Ok(row.get::<_, i64>(1)? - row.get::<_, i64>(2)?))
}
