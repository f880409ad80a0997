//! Who may write: one process at a time, and who waits for it.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::open::{OpenError, io_error};
use super::paths::Identity;
use crate::files;

/// How often it is looked whether what was announced is over.
pub(super) const POLL: Duration = Duration::from_millis(50);

/// The operating system's lock on `inbox.lock`: one writer process at a time. Let go of when dropped, or when the
/// process ends, however it ends.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    file: Identity,
    _held: File,
}

/// Somebody waits for the inbox, until this is dropped or the process ends.
#[derive(Debug)]
pub struct Waiting {
    _file: File,
}

impl Lock {
    /// Makes the directory (mode 0700) and takes the lock; `None` when another process holds it.
    pub fn try_take(database: &Path) -> Result<Option<Self>, OpenError> {
        let directory = files::directory(database);
        files::create_directory(&directory).map_err(|error| io_error(&directory, error))?;
        let path = database.with_extension("lock");
        loop {
            let held = files::open_private(&path).map_err(|error| io_error(&path, error))?;
            match held.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(io_error(&path, error)),
            }
            let file = held.metadata().map_err(|error| io_error(&path, error))?;
            let file = Identity::from(&file);
            // Whoever had it may have been removing it: a lock on a file without a name keeps nobody out.
            if Identity::of(&path).is_ok_and(|named| named == file) {
                return Ok(Some(Self { path, file, _held: held }));
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn identity(&self) -> Identity {
        self.file
    }

    /// Says to whoever holds the lock that this process waits for it: a command that carries out a long job then stops
    /// early. Any number of processes may wait. What counts is the operating system's lock on the file, so that one which
    /// a dead process has left behind means nothing.
    pub fn announce(database: &Path) -> Result<Waiting, OpenError> {
        announce(database, "waiting")
    }

    /// Whether somebody waits for this inbox. A hint: what cannot be found out counts as no.
    pub fn is_wanted(database: &Path) -> bool {
        is_announced(database, "waiting")
    }

    /// Says to whoever reads a long snapshot that the write-ahead log has to be written back, which that snapshot holds up.
    pub(super) fn announce_start(database: &Path) -> Result<Waiting, OpenError> {
        announce(database, "starting")
    }

    /// Whether an inbox has ever been opened at this path: the first start leaves its mark once the database is there.
    pub(super) fn was_here(database: &Path) -> bool {
        database.with_extension("starting").exists()
    }

    /// Whether a process that has taken the lock is about to write the log back; a hint like [`Self::is_wanted`].
    pub(super) fn is_starting(database: &Path) -> bool {
        is_announced(database, "starting")
    }
}

fn announce(database: &Path, what: &str) -> Result<Waiting, OpenError> {
    let path = database.with_extension(what);
    let file = files::open_private(&path).map_err(|error| io_error(&path, error))?;
    // Only [`is_announced`] ever stands in the way, and for no time.
    file.lock_shared().map_err(|error| io_error(&path, error))?;
    Ok(Waiting { _file: file })
}

fn is_announced(database: &Path, what: &str) -> bool {
    match File::open(database.with_extension(what)) {
        Ok(file) => matches!(file.try_lock(), Err(TryLockError::WouldBlock)),
        Err(_) => false,
    }
}
