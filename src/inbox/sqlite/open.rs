//! Opening the file: the modes, the pragmas, the log made durable before anything else, the migrations.

use std::fs::{File, metadata};
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use rusqlite_migration::{M, Migrations};

use super::checkpoint::make_durable;
use super::paths::{Identity, Paths, with_suffix};
use super::{Lock, holds, index, lock};
use crate::files;

/// The version of the schema: how many migrations have made it.
pub(super) const SCHEMA: usize = 6;

fn migrations() -> Migrations<'static> {
    Migrations::new(vec![
        M::up(include_str!("schema/001.sql")),
        M::up(include_str!("schema/002.sql")),
        M::up_with_hook(include_str!("schema/003.sql"), |tables| Ok(index::move_from_tables(tables)?)),
        M::up(include_str!("schema/004.sql")),
        M::up(include_str!("schema/005.sql")),
        M::up(include_str!("schema/006.sql")),
    ])
}

/// Fixes the WAL-reset bug of 3.7.0 to 3.51.2, which can corrupt a database after a checkpoint.
const MIN_SQLITE: i32 = 3_051_003;

/// How often it is said that the inbox is still being brought up to date.
const PROGRESS: Duration = Duration::from_secs(5);
/// Instructions of SQLite between two looks at the time.
const INSTRUCTIONS: std::ffi::c_int = 1_000_000;

/// How long the writer waits for a lock on the database.
const PATIENCE: Duration = Duration::from_secs(5);

/// 8 KiB: six bodies of 1.2 KiB fill a page; with 4 KiB a third of each page is lost.
pub(super) const PAGE_BYTES: u64 = 8192;

/// Why an inbox could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory or a file in it.
    #[error("{path} cannot be used ({whose})", path = path.display())]
    Io {
        /// What was touched.
        path: PathBuf,
        /// Whose it is, and who asked.
        whose: String,
        /// What the system said.
        source: io::Error,
    },
    /// SQLite refused.
    #[error("{path} cannot be read or written as a database{whose}", path = path.display())]
    Sqlite {
        /// The database.
        path: PathBuf,
        /// Whose it is, where that may be the reason.
        whose: String,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// The schema could not be brought up to date.
    #[error("{path}: {message}", path = path.display())]
    Schema {
        /// The database.
        path: PathBuf,
        /// Why.
        message: String,
    },
    /// The binary was linked with an SQLite that can lose data.
    #[error("this binary holds SQLite {0}, which can corrupt the inbox: at least 3.51.3 is needed")]
    SqliteVersion(&'static str),
    /// Another process has locked the database: that ends.
    #[error(
        "{path} is locked by another program: end that program (`fuser {path}` names it), and this goes on by itself",
        path = path.display()
    )]
    Busy {
        /// The database.
        path: PathBuf,
    },
    /// What is in the file is no database any more.
    #[error(
        "{path} is damaged, or is no inbox: keep a copy of it for whoever looks into it, put a backup in its place (README, \
         Backup), and start again",
        path = path.display()
    )]
    Damaged {
        /// The database.
        path: PathBuf,
    },
    /// Readers and writer would block each other, and a crash could lose what was acknowledged.
    #[error(
        "{path} is on a file system without shared memory, which the write-ahead log needs (SQLite chose the journal \
         '{journal}'): name a file on a local disk in inbox.url",
        path = path.display()
    )]
    NoSharedMemory {
        /// The database.
        path: PathBuf,
        /// What SQLite uses there instead.
        journal: String,
    },
    /// The database is gone, and what was acknowledged last may be in what is left of it.
    #[error(
        "{log} belongs to a database that is not at {path} any more, and may hold events that were acknowledged: put the \
         database back; or, to begin with an empty inbox, move {log} away",
        path = path.display(), log = log.display()
    )]
    LogAlone {
        /// Where the database should be.
        path: PathBuf,
        /// Its write-ahead log.
        log: PathBuf,
    },
}

impl OpenError {
    /// What SQLite said when it opened or read the database.
    pub(super) fn sqlite(path: &Path, source: rusqlite::Error) -> Self {
        let path = path.to_owned();
        match source.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy { path },
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Damaged { path },
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
                Self::Sqlite { whose: format!(" ({})", files::whose(&path)), path, source }
            }
            _ => Self::Sqlite { whose: String::new(), path, source },
        }
    }
}

/// What the writer works with.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) connection: Connection,
    pub(super) paths: Paths,
}

/// Asked whether to try again when another process has locked the database.
pub(super) type Patience<'a> = &'a mut dyn FnMut(&OpenError) -> ControlFlow<()>;

/// Opens the database for the one writer: makes durable what the write-ahead log holds before anything is read from it
/// (after a failed fsync only this makes sure that what is read is also on disk), then migrates the schema.
pub(super) fn open_writer(path: &Path, patience: Patience<'_>) -> Result<Opened, OpenError> {
    if rusqlite::version_number() < MIN_SQLITE {
        return Err(OpenError::SqliteVersion(rusqlite::version()));
    }
    // Nobody sends: it is a pause.
    let (_never, pause) = channel::<()>();
    loop {
        match try_open_writer(path) {
            Err(error @ OpenError::Busy { .. }) if patience(&error).is_continue() => {
                _ = pause.recv_timeout(lock::POLL);
            }
            opened => return opened,
        }
    }
}

fn try_open_writer(path: &Path) -> Result<Opened, OpenError> {
    make_file(path)?;
    let file = Identity::of(path).map_err(|error| io_error(path, error))?;
    let sqlite_error = |source| OpenError::sqlite(path, source);
    let mut connection = Connection::open(path).map_err(sqlite_error)?;
    connection.busy_timeout(PATIENCE).map_err(sqlite_error)?;
    connection.execute_batch(&format!("PRAGMA page_size = {PAGE_BYTES};")).map_err(sqlite_error)?;
    use_write_ahead_log(&connection, path)?;
    // What is deleted is overwritten: retention must erase, also from the copies of this file.
    connection
        .execute_batch(
            "PRAGMA synchronous = FULL;
             PRAGMA wal_autocheckpoint = 0;
             PRAGMA journal_size_limit = 67108864;
             PRAGMA secure_delete = ON;
             PRAGMA cache_size = -16384;
             PRAGMA temp_store = MEMORY;
             PRAGMA foreign_keys = OFF;
             PRAGMA trusted_schema = OFF;
             PRAGMA cell_size_check = ON;",
        )
        .map_err(sqlite_error)?;
    connection.set_prepared_statement_cache_capacity(64);
    let starting = Lock::announce_start(path)?;
    make_durable(&connection, path)?;
    drop(starting);
    let paths = Paths::of(path, file)?;
    migrate(&mut connection, path)?;
    // The log has its name for good. SQLite syncs the directory too, but does not look at what came of it.
    sync_directory(path)?;
    Ok(Opened { connection, paths })
}

/// Makes the file where there is none, so that SQLite gives its companions the same mode and owner.
fn make_file(path: &Path) -> Result<(), OpenError> {
    let bytes = |path: &Path| metadata(path).map_or(0, |file| file.len());
    let log = with_suffix(path, "-wal");
    if bytes(path) == 0 && bytes(&log) > 0 {
        return Err(OpenError::LogAlone { path: path.to_owned(), log });
    }
    if !path.exists() && Lock::was_here(path) {
        tracing::warn!(
            path = %path.display(),
            "there was an inbox here, and its file is gone: an empty one is made, so that deliveries can be taken. It knows \
             nothing of the events before, nor of what sinks have got. If the file was moved, stop the relay and put it back"
        );
    }
    let made = files::create_if_missing(path).and_then(|()| files::make_private(path));
    made.map_err(|error| io_error(path, error))?;
    sync_directory(path)
}

fn use_write_ahead_log(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let journal = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get::<_, String>(0));
    match journal.map_err(|error| OpenError::sqlite(path, error))? {
        journal if journal == "wal" => Ok(()),
        journal => Err(OpenError::NoSharedMemory { path: path.to_owned(), journal }),
    }
}

fn migrate(connection: &mut Connection, path: &Path) -> Result<(), OpenError> {
    let sqlite_error = |error| OpenError::sqlite(path, error);
    let from = schema_of(connection).map_err(sqlite_error)?;
    if !(1..SCHEMA).contains(&from) {
        return bring_up_to_date(connection, path);
    }
    let begun = Instant::now();
    tracing::warn!(
        path = %path.display(),
        from,
        to = SCHEMA,
        bytes = metadata(path).map_or(0, |file| file.len()),
        "the inbox is brought up to date before anything is received; senders are answered 503 meanwhile. It is done as a whole \
         or not at all. An older ralio-relay cannot open it afterwards: the way back is a backup that the older one has made"
    );
    let mut told = begun;
    let lines = move || {
        if told.elapsed() >= PROGRESS {
            told = Instant::now();
            tracing::info!(seconds = begun.elapsed().as_secs(), "the inbox is still being brought up to date");
        }
        false
    };
    connection.progress_handler(INSTRUCTIONS, Some(lines)).map_err(sqlite_error)?;
    let done = bring_up_to_date(connection, path);
    connection.progress_handler(0, None::<fn() -> bool>).map_err(sqlite_error)?;
    done?;
    tracing::info!(seconds = begun.elapsed().as_secs_f64(), "the inbox is up to date");
    Ok(())
}

fn bring_up_to_date(connection: &mut Connection, path: &Path) -> Result<(), OpenError> {
    migrations().to_latest(connection).map_err(|error| {
        let message = match error {
            rusqlite_migration::Error::MigrationDefinition(_) => {
                "it was written by a newer ralio-relay: run that version, or put a backup in its place that this version has \
                 made (README, Backup)"
                    .to_owned()
            }
            rusqlite_migration::Error::RusqliteError { err, .. } => match OpenError::sqlite(path, err) {
                OpenError::Sqlite { source, .. } => format!("the schema could not be brought up to date: {source}"),
                known => return known,
            },
            other => format!("the schema could not be brought up to date: {other}"),
        };
        OpenError::Schema { path: path.to_owned(), message }
    })
}

fn sync_directory(path: &Path) -> Result<(), OpenError> {
    let dir = files::directory(path);
    File::open(&dir).and_then(|d| d.sync_all()).map_err(|e| io_error(&dir, e))
}

/// Opens a connection that only reads.
pub(super) fn open_reader(path: &Path) -> Result<Connection, rusqlite::Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.execute_batch("PRAGMA cache_size = -4096; PRAGMA query_only = ON; PRAGMA trusted_schema = OFF;")?;
    holds::add(&connection)?;
    Ok(connection)
}

/// How long a job that is handed in waits for the writer's batches to leave a gap.
const DESK_PATIENCE: Duration = Duration::from_secs(15);

/// Opens a connection that writes beside the writer. It never makes the file, and leaves the write-ahead log, with what
/// is not yet written back of it, to the writer: also when it is the last to close.
pub(super) fn open_desk(path: &Path) -> Result<Connection, rusqlite::Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(DESK_PATIENCE)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.execute_batch(
        "PRAGMA wal_autocheckpoint = 0; PRAGMA synchronous = FULL; PRAGMA temp_store = MEMORY;
         PRAGMA foreign_keys = OFF; PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;",
    )?;
    Ok(connection)
}

/// The version of the schema that the file has.
pub(super) fn schema_of(connection: &Connection) -> rusqlite::Result<usize> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

pub(super) fn io_error(path: &Path, source: io::Error) -> OpenError {
    OpenError::Io { path: path.to_owned(), whose: files::whose(path), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// This way of SQLite's to lock a file knows no shared memory: what a file system without it is like.
    #[test]
    fn without_shared_memory_there_is_no_inbox() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("inbox.db");
        let (flags, locking) = (OpenFlags::default(), c"unix-dotfile");
        let connection = Connection::open_with_flags_and_vfs(&path, flags, locking).unwrap();
        let error = use_write_ahead_log(&connection, &path).unwrap_err();
        assert!(matches!(&error, OpenError::NoSharedMemory { journal, .. } if journal == "delete"), "{error}");
        assert!(error.to_string().contains("local disk in inbox.url"), "{error}");
    }
}
