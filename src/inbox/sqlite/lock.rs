//! Who may write: one process at a time, and who waits for it.

use std::fs::{DirBuilder, File, TryLockError};
use std::iter::successors;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::open::{OpenError, directory, io_error, private_file};

/// How often it is looked whether what was announced is over.
pub(super) const POLL: Duration = Duration::from_millis(50);

/// The operating system's lock on `inbox.lock`: one writer process at a time. Let go of when dropped, or when the
/// process ends, however it ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Somebody waits for the inbox, until this is dropped or the process ends.
#[derive(Debug)]
pub struct Waiting {
    _file: File,
}

impl Lock {
    /// Makes the directory (mode 0700) and takes the lock; `None` when another process holds it.
    pub fn try_take(database: &Path) -> Result<Option<Self>, OpenError> {
        let missing: Vec<PathBuf> =
            successors(Some(directory(database)), |dir| Some(directory(dir))).take_while(|dir| !dir.exists()).collect();
        if let Some(dir) = missing.first() {
            DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|e| io_error(dir, e))?;
        }
        for parent in missing.iter().map(|dir| directory(dir)) {
            File::open(&parent).and_then(|d| d.sync_all()).map_err(|e| io_error(&parent, e))?;
        }
        let path = database.with_extension("lock");
        let file = private_file(&path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(io_error(&path, error)),
        }
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

    /// Whether a process that has taken the lock is about to write the log back; a hint like [`Self::is_wanted`].
    pub(super) fn is_starting(database: &Path) -> bool {
        is_announced(database, "starting")
    }
}

fn announce(database: &Path, what: &str) -> Result<Waiting, OpenError> {
    let path = database.with_extension(what);
    let file = private_file(&path)?;
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
