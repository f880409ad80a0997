//! A consistent copy of the inbox, made beside the daemon.
//!
//! Pages are copied in small steps from one snapshot, the only one in this program that is held for longer than a second.
//! Without it SQLite begins the copy anew whenever another process has written in between, so a copy in steps would never
//! end while events come in; `VACUUM INTO` holds a snapshot too, takes longer, and cannot be stopped so soon. What it
//! costs is that the write-ahead log grows meanwhile. So that is bounded, and the snapshot is let go of at once when a
//! daemon starts: it has to write the log back before it listens.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, ErrorCode};
use rustix::fs::{Advice, CWD, RenameFlags, fadvise, renameat_with, statvfs};
use rustix::io::Errno;

use super::open::{open_reader, schema_of};
use super::reader::{ReadError, check_schema, check_there};
use super::rows::{Stored, seq};
use super::{Lock, lock};
use crate::files;
use crate::inbox::Config;
use crate::model::{Digest, Seq};

/// Pages in a step: 2 MiB, a few milliseconds.
const STEP: i32 = if cfg!(test) { 1 } else { 256 };
/// How often it is looked whether a daemon starts, and how long the log is.
const LOOK: Duration = if cfg!(test) { Duration::ZERO } else { Duration::from_millis(100) };
/// How much the write-ahead log may grow for the sake of a backup, in bytes.
const MAX_GROWTH: u64 = if cfg!(test) { 256 << 10 } else { 1 << 30 };
/// Snapshots that are let go of before it is given up.
const MAX_STARTS: u32 = 5;
/// Instructions of SQLite between two looks at whether to go on; some milliseconds.
const INSTRUCTIONS: i32 = 100_000;

/// What a backup is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// So many bytes of so many are copied.
    Copying {
        /// Copied.
        done: u64,
        /// In all.
        total: u64,
    },
    /// A daemon starts; the copy begins anew when it has.
    Waiting,
    /// The copy is read and compared.
    Checking,
}

/// Is told what a backup is at, many times a second; a `Break` ends it.
pub type Watch = Arc<dyn Fn(Stage) -> ControlFlow<()> + Send + Sync>;

/// A backup that was made and found good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// The last event in it, 0 where there is none.
    pub head: i64,
    /// Its size in bytes.
    pub bytes: u64,
    /// Events in it whose bodies are not what came in: the first twenty.
    pub altered: Vec<Seq>,
    /// How many there are.
    pub altered_total: u64,
}

/// Why there is no backup. Nothing is left of it.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The inbox.
    #[error(transparent)]
    Inbox(#[from] ReadError),
    /// A file is in the way.
    #[error("{path} is there already, and is not written over: choose another name, or move it away", path = .0.display())]
    Exists(PathBuf),
    /// A file of an earlier backup is in the way.
    #[error(
        "{path} is there: another backup to the same file is being made, or one was killed; if none is, remove it",
        path = .0.display()
    )]
    Draft(PathBuf),
    /// The system said no.
    #[error("{path} cannot be written", path = path.display())]
    Io {
        /// What was touched.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is not enough space.
    #[error(
        "there is no room for it at {path}: the copy needs {needed} MiB, and {free} MiB are free. Choose another disk, or make \
         room: a full disk would make the daemon refuse deliveries",
        path = path.display()
    )]
    NoRoom {
        /// The directory.
        path: PathBuf,
        /// MiB, with some for the write-ahead log where the inbox is on the same disk.
        needed: u64,
        /// MiB.
        free: u64,
    },
    /// The space ran out on the way.
    #[error("the disk of {path} is full: make room, or choose another disk", path = .0.display())]
    Full(PathBuf),
    /// The copy takes too long for what is written meanwhile.
    #[error(
        "the daemon has written {} MiB while the copy was made, and cannot use that space again before it ends: make the backup \
         when less comes in, or on a faster disk",
        MAX_GROWTH >> 20
    )]
    Busy,
    /// Daemons came and went.
    #[error("the daemon was started again and again meanwhile: make the backup once it runs")]
    Restless,
    /// The copy is not what it should be.
    #[error("the copy is not good, and was removed: {0}; if it happens again, the inbox itself may be damaged")]
    Bad(String),
    /// The copy could not be made or read.
    #[error("the copy could not be made")]
    Copy(#[source] rusqlite::Error),
    /// [`Watch`] has ended it.
    #[error("stopped: nothing was left behind")]
    Stopped,
}

/// Copies the inbox to a file that must not be there yet, with mode 0600: as it was at one moment, checked, and on the disk
/// when this returns. Blocks, for minutes where the inbox is large. Neither a failure nor a `Break` leaves anything.
pub fn back_up(config: &Config, file: &Path, watch: Watch) -> Result<Made, BackupError> {
    if file.symlink_metadata().is_ok() {
        return Err(BackupError::Exists(file.to_owned()));
    }
    let draft = Draft::new(file)?;
    let mut starts = 0;
    let census = loop {
        if let Some(census) = copy(config, &draft, &*watch)? {
            break census;
        }
        starts += 1;
        if starts == MAX_STARTS {
            return Err(BackupError::Restless);
        }
        wait_for_start(config, &*watch)?;
    };
    let (altered, altered_total) = check(&draft, &census, &watch)?;
    draft.keep(file)?;
    Ok(Made { head: census.head, bytes: census.bytes, altered, altered_total })
}

/// The file that is written, beside the one that it becomes. Gone when dropped.
struct Draft {
    path: PathBuf,
    file: File,
    is_kept: bool,
}

impl Draft {
    fn new(of: &Path) -> Result<Self, BackupError> {
        let path = beside(of, ".draft");
        let opened = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path);
        match opened {
            Ok(file) => Ok(Self { path, file, is_kept: false }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(BackupError::Draft(path)),
            Err(source) => Err(io_error(&path, source)),
        }
    }

    fn directory(&self) -> PathBuf {
        files::directory(&self.path)
    }

    /// What went wrong at it.
    fn fault(&self, error: rusqlite::Error) -> BackupError {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => BackupError::Full(self.path.clone()),
            Some(ErrorCode::OperationInterrupted) => BackupError::Stopped,
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => BackupError::Bad(error.to_string()),
            _ => BackupError::Copy(error),
        }
    }

    /// Durable, and under its own name. Nothing is written over, also when a file has come meanwhile.
    fn keep(mut self, name: &Path) -> Result<(), BackupError> {
        self.file.sync_all().map_err(|source| self.io(source))?;
        match renameat_with(CWD, &self.path, CWD, name, RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => return Err(BackupError::Exists(name.to_owned())),
            // A file system that cannot promise it.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) if !name.exists() => {
                std::fs::rename(&self.path, name).map_err(|source| io_error(name, source))?;
            }
            done => done.map_err(|error| io_error(name, error.into()))?,
        }
        self.is_kept = true;
        let dir = self.directory();
        File::open(&dir).and_then(|dir| dir.sync_all()).map_err(|source| io_error(&dir, source))
    }

    fn io(&self, source: io::Error) -> BackupError {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => BackupError::Full(self.path.clone()),
            _ => io_error(&self.path, source),
        }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        let companions = ["-journal", "-wal", "-shm"].map(|suffix| beside(&self.path, suffix));
        for path in companions.iter().chain((!self.is_kept).then_some(&self.path)) {
            // It may never have been there.
            _ = std::fs::remove_file(path);
        }
    }
}

/// What the copy must hold.
#[derive(Debug, PartialEq, Eq)]
struct Census {
    schema: usize,
    bytes: u64,
    head: i64,
    /// Rows of the tables whose rows come and go.
    rows: Vec<i64>,
    /// Each consumer's place.
    cursors: Vec<(i64, i64)>,
}

impl Census {
    fn of(connection: &Connection) -> rusqlite::Result<Self> {
        let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
        let tables = [
            "sources",
            "secrets",
            "sinks",
            "route_revisions",
            "sink_revisions",
            "parked",
            "dead_letters",
            "retried_letters",
            "jobs",
            "job_items",
            "quarantine",
            "admissions",
            "altered_bodies",
        ];
        let rows = tables.iter().map(|table| number(&format!("SELECT count(*) FROM {table}")));
        let mut cursors = connection.prepare("SELECT id, cursor FROM sinks ORDER BY id")?;
        let cursors = cursors.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(Self {
            schema: schema_of(connection)?,
            bytes: u64::try_from(number("PRAGMA page_count")? * number("PRAGMA page_size")?).unwrap_or(0),
            head: number("SELECT coalesce(max(seq), 0) FROM events")?,
            rows: rows.collect::<rusqlite::Result<_>>()?,
            cursors: cursors.collect::<rusqlite::Result<_>>()?,
        })
    }
}

/// Copies what one snapshot shows, and says what must be there; `None` when the snapshot had to be let go of.
fn copy(
    config: &Config,
    draft: &Draft,
    watch: &dyn Fn(Stage) -> ControlFlow<()>,
) -> Result<Option<Census>, BackupError> {
    check_there(config)?;
    let source = open_reader(&config.path).map_err(ReadError::from)?;
    check_schema(&source)?;
    source.execute_batch("BEGIN").map_err(ReadError::from)?;
    let census = Census::of(&source).map_err(ReadError::from)?;
    has_room(config, draft, census.bytes)?;
    // What an earlier round has left of it was never finished.
    draft.file.set_len(0).map_err(|source| draft.io(source))?;
    let fault = |error| draft.fault(error);
    let mut target = open_copy(&draft.path, "OFF").map_err(fault)?;
    let backup = Backup::new(&source, &mut target).map_err(fault)?;
    let (log, mut looked) = (beside(&config.path, "-wal"), Instant::now());
    let log_bytes = || log.metadata().map_or(0, |log| log.len());
    let bound = log_bytes() + MAX_GROWTH;
    loop {
        let state = backup.step(STEP).map_err(fault)?;
        let progress = backup.progress();
        let part = |pages: i32| u64::try_from(pages).unwrap_or(0) * census.bytes;
        let copied =
            part(progress.pagecount - progress.remaining) / u64::try_from(progress.pagecount.max(1)).unwrap_or(1);
        if watch(Stage::Copying { done: copied, total: census.bytes }).is_break() {
            return Err(BackupError::Stopped);
        }
        match state {
            StepResult::Done => return Ok(Some(census)),
            StepResult::More if looked.elapsed() >= LOOK => {
                if Lock::is_starting(&config.path) {
                    return Ok(None);
                }
                if log_bytes() > bound {
                    return Err(BackupError::Busy);
                }
                looked = Instant::now();
            }
            StepResult::More => {}
            _ => return Err(BackupError::Bad("it is in use by another process".to_owned())),
        }
    }
}

/// The copy must not take the space that the daemon needs.
fn has_room(config: &Config, draft: &Draft, bytes: u64) -> Result<(), BackupError> {
    let dir = draft.directory();
    let device = |path: &Path| path.metadata().map(|found| found.dev()).ok();
    let is_same = device(&dir) == device(&config.path);
    let needed = bytes + if is_same { bytes.min(MAX_GROWTH) } else { 0 };
    let space = statvfs(&dir).map_err(|error| io_error(&dir, error.into()))?;
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    // A file system that does not know its size counts as one with room.
    if space.f_blocks > 0 && free < needed {
        return Err(BackupError::NoRoom { path: dir, needed: needed.div_ceil(1 << 20), free: free >> 20 });
    }
    Ok(())
}

/// Nobody else knows the draft, and it is synced when it is whole.
fn open_copy(path: &Path, journal: &str) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.execute_batch(&format!(
        "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = {journal}; PRAGMA synchronous = OFF;
         PRAGMA cache_size = -8192; PRAGMA temp_store = MEMORY; PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;"
    ))?;
    Ok(connection)
}

/// Waits until no daemon starts any more.
fn wait_for_start(config: &Config, watch: &dyn Fn(Stage) -> ControlFlow<()>) -> Result<(), BackupError> {
    // Nobody sends: it is a pause.
    let (_never, pause) = channel::<()>();
    while Lock::is_starting(&config.path) {
        if watch(Stage::Waiting).is_break() {
            return Err(BackupError::Stopped);
        }
        _ = pause.recv_timeout(lock::POLL);
    }
    Ok(())
}

/// Altered bodies that are named.
const NAMED: usize = 20;

/// Reads the copy from end to end, and makes it a single file that needs no log beside it. Says which of its bodies are not
/// what came in, the first ones, and how many: they are copied all the same, for the inbox has nothing better.
fn check(draft: &Draft, expected: &Census, watch: &Watch) -> Result<(Vec<Seq>, u64), BackupError> {
    draft.file.sync_all().map_err(|source| draft.io(source))?;
    // A hint: what the system still has in memory says nothing about the disk.
    _ = fadvise(&draft.file, 0, None, Advice::DontNeed);
    let copy = open_copy(&draft.path, "DELETE").map_err(|error| draft.fault(error))?;
    let goes_on = Arc::clone(watch);
    let look = move || goes_on(Stage::Checking).is_break();
    copy.progress_handler(INSTRUCTIONS, Some(look)).map_err(|error| draft.fault(error))?;
    let whole = "PRAGMA integrity_check(1)";
    let verdict: String = copy.query_row(whole, [], |row| row.get(0)).map_err(|error| draft.fault(error))?;
    if verdict != "ok" {
        return Err(BackupError::Bad(verdict));
    }
    let found = Census::of(&copy).map_err(|error| draft.fault(error))?;
    if found != *expected {
        return Err(BackupError::Bad(format!("it holds {found:?} instead of {expected:?}")));
    }
    // Asked for once more: a small copy is checked in less than one look.
    if watch(Stage::Checking).is_break() {
        return Err(BackupError::Stopped);
    }
    let altered = altered_bodies(&copy).map_err(|error| draft.fault(error))?;
    copy.close().map_err(|(_, error)| draft.fault(error))?;
    Ok(altered)
}

/// Holds every body against the SHA-256 of what came in: the first ones that differ, and how many do.
fn altered_bodies(copy: &Connection) -> rusqlite::Result<(Vec<Seq>, u64)> {
    let (mut altered, mut total) = (Vec::new(), 0);
    let mut rows =
        copy.prepare("SELECT b.seq, b.body, e.body_sha256 FROM bodies b CROSS JOIN events e ON e.seq = b.seq")?;
    let mut rows = rows.query([])?;
    while let Some(row) = rows.next()? {
        let Stored(received): Stored<Digest> = row.get(2)?;
        if Digest::of(row.get_ref(1)?.as_blob()?) != received {
            total += 1;
            altered.extend(Some(seq(row.get(0)?)).filter(|_| altered.len() < NAMED));
        }
    }
    Ok((altered, total))
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn io_error(path: &Path, source: io::Error) -> BackupError {
    BackupError::Io { path: path.to_owned(), source }
}
