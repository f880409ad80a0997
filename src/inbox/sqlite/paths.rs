//! Whether the files that are written to are still those that their paths name. What is written to a file that has lost
//! its name is lost, however durable it is, so nobody may be answered 200 for it.

use std::fs::{Metadata, metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::lock::Lock;
use super::open::{OpenError, io_error};

/// A file, whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        metadata(path).map(|data| Self::from(&data))
    }
}

impl From<&Metadata> for Identity {
    fn from(data: &Metadata) -> Self {
        Self { device: data.dev(), inode: data.ino() }
    }
}

/// A path, and the file that it named when the inbox was opened.
#[derive(Debug)]
struct Named {
    path: PathBuf,
    file: Identity,
}

impl Named {
    fn check(&self, which: Which) -> Result<(), Moved> {
        let what_is_there = match Identity::of(&self.path) {
            Ok(file) if file == self.file => return Ok(()),
            Ok(_) => "another file is there".to_owned(),
            Err(error) => error.to_string(),
        };
        Err(Moved { which, path: self.path.clone(), what_is_there })
    }
}

/// Which of the inbox's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    Database,
    /// `-wal`.
    Log,
    /// `-shm`, by which processes agree on what the log holds.
    Memory,
    Lock,
}

/// A file that its path does not name any more.
#[derive(Clone, Debug)]
pub(super) struct Moved {
    pub(super) which: Which,
    pub(super) path: PathBuf,
    what_is_there: String,
}

/// What happened, and what to do, for people.
impl std::fmt::Display for Moved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { which, path, what_is_there } = self;
        let todo = match which {
            Which::Database => {
                "what was answered 200 is in the file that was here: to keep those events, stop the relay, put that file \
                 back, and start; the next start opens what this path names, or makes an empty inbox"
            }
            Which::Log | Which::Memory => {
                "the next start goes on with the database, so there is nothing to do but to find out who did this"
            }
            Which::Lock => {
                "another process may write to the inbox too: end every other ralio-relay that uses it, and leave its lock \
                 file alone; the next start takes the lock anew"
            }
        };
        let path = path.display();
        write!(f, "{path} was moved, removed or replaced while it was in use ({what_is_there}); {todo}")
    }
}

/// The files of an open inbox.
#[derive(Debug)]
pub(super) struct Paths {
    database: Named,
    log: Named,
    memory: Named,
    lock: Option<Named>,
}

impl Paths {
    /// To be called once SQLite has opened all three; `file` is what the path named before it did.
    pub(super) fn of(database: &Path, file: Identity) -> Result<Self, OpenError> {
        let named = |path: PathBuf| match Identity::of(&path) {
            Ok(file) => Ok(Named { path, file }),
            Err(error) => Err(io_error(&path, error)),
        };
        let log = named(log_of(database)?)?;
        let memory = named(with_suffix(&real(database)?, "-shm"))?;
        Ok(Self { database: Named { path: database.to_owned(), file }, log, memory, lock: None })
    }

    /// From now on the lock is looked at too.
    pub(super) fn with_lock(mut self, lock: &Lock) -> Self {
        self.lock = Some(Named { path: lock.path().to_owned(), file: lock.identity() });
        self
    }

    /// Whether what a commit has written is in files that can be found. To be asked after the fsync: three calls of the
    /// system, a microsecond each.
    pub(super) fn check_database(&self) -> Result<(), Moved> {
        self.database.check(Which::Database)?;
        self.log.check(Which::Log)?;
        self.memory.check(Which::Memory)
    }

    /// The same, and whether the lock still keeps others out.
    pub(super) fn check(&self) -> Result<(), Moved> {
        self.check_database()?;
        self.lock.as_ref().map_or(Ok(()), |lock| lock.check(Which::Lock))
    }
}

/// Where SQLite keeps the write-ahead log: beside the file itself, also when the database's path is a symbolic link.
pub(super) fn log_of(database: &Path) -> Result<PathBuf, OpenError> {
    Ok(with_suffix(&real(database)?, "-wal"))
}

fn real(database: &Path) -> Result<PathBuf, OpenError> {
    database.canonicalize().map_err(|error| io_error(database, error))
}

pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.to_owned().into_os_string();
    name.push(suffix);
    PathBuf::from(name)
}
