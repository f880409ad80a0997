//! Opening the file: the modes, the pragmas, the checkpoint before anything else, the migrations.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use rusqlite_migration::{M, Migrations};

use super::{Lock, index};

/// The version of the schema: how many migrations have made it.
pub(super) const SCHEMA: usize = 5;

fn migrations() -> Migrations<'static> {
    Migrations::new(vec![
        M::up(include_str!("schema/001.sql")),
        M::up(include_str!("schema/002.sql")),
        M::up_with_hook(include_str!("schema/003.sql"), |tables| Ok(index::move_from_tables(tables)?)),
        M::up(include_str!("schema/004.sql")),
        M::up(include_str!("schema/005.sql")),
    ])
}

/// Fixes the WAL-reset bug of 3.7.0 to 3.51.2, which can corrupt a database after a checkpoint.
const MIN_SQLITE: i32 = 3_051_003;

/// 8 KiB: six bodies of 1.2 KiB fill a page; with 4 KiB a third of each page is lost.
pub(super) const PAGE_BYTES: u64 = 8192;

/// How long a checkpoint at start waits for readers: they let go of their snapshots within a second, a backup when it hears
/// of the start.
const CHECKPOINT_PATIENCE: Duration = Duration::from_secs(10);

/// Why an inbox could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory or a file in it.
    #[error("{path} cannot be used", path = path.display())]
    Io {
        /// What was touched.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// SQLite refused.
    #[error("{path} cannot be read or written as a database", path = path.display())]
    Sqlite {
        /// The database.
        path: PathBuf,
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
    /// Readers kept the write-ahead log from being written back.
    #[error("{path}: a reader holds an old snapshot, so the write-ahead log cannot be written back", path = path.display())]
    CheckpointBusy {
        /// The database.
        path: PathBuf,
    },
}

/// Opens the database for the one writer: checkpoints the write-ahead log back into the file, durably, before
/// anything is read from it (after a failed fsync only this makes sure that what is read is also on disk), then
/// migrates the schema.
pub(super) fn open_writer(path: &Path) -> Result<Connection, OpenError> {
    if rusqlite::version_number() < MIN_SQLITE {
        return Err(OpenError::SqliteVersion(rusqlite::version()));
    }
    // Made here, so that SQLite gives its companions the same mode.
    drop(private_file(path)?);
    sync_directory(path)?;

    let sqlite_error = |source| OpenError::Sqlite { path: path.to_owned(), source };
    let mut connection = Connection::open(path).map_err(sqlite_error)?;
    let pragmas = format!(
        "PRAGMA page_size = {PAGE_BYTES};
         PRAGMA journal_mode = WAL;
         PRAGMA synchronous = FULL;
         PRAGMA wal_autocheckpoint = 0;
         PRAGMA journal_size_limit = 67108864;
         PRAGMA cache_size = -16384;
         PRAGMA temp_store = MEMORY;
         PRAGMA foreign_keys = OFF;
         PRAGMA trusted_schema = OFF;
         PRAGMA cell_size_check = ON;"
    );
    connection.busy_timeout(Duration::from_secs(5)).map_err(sqlite_error)?;
    connection.execute_batch(&pragmas).map_err(sqlite_error)?;
    // What is deleted is overwritten: retention must erase, also from the copies of this file.
    connection.execute_batch("PRAGMA secure_delete = ON").map_err(sqlite_error)?;
    connection.set_prepared_statement_cache_capacity(64);
    let starting = Lock::announce_start(path)?;
    checkpoint_at_start(&connection, path)?;
    drop(starting);
    let from = schema_of(&connection).map_err(sqlite_error)?;
    if (1..SCHEMA).contains(&from) {
        tracing::warn!(
            path = %path.display(),
            from,
            to = SCHEMA,
            "the inbox is brought up to date: an older ralio-relay cannot open it any more, and the way back is a backup from \
             before"
        );
    }
    migrations().to_latest(&mut connection).map_err(|error| {
        let message = match error {
            rusqlite_migration::Error::MigrationDefinition(_) => {
                "it was written by a newer ralio-relay: run that version, or restore a backup".to_owned()
            }
            other => format!("the schema could not be brought up to date: {other}"),
        };
        OpenError::Schema { path: path.to_owned(), message }
    })?;
    // The log has its name for good. SQLite syncs the directory too, but does not look at what came of it.
    sync_directory(path)?;
    Ok(connection)
}

fn sync_directory(path: &Path) -> Result<(), OpenError> {
    let dir = directory(path);
    File::open(&dir).and_then(|d| d.sync_all()).map_err(|e| io_error(&dir, e))
}

/// Opens a connection that only reads.
pub(super) fn open_reader(path: &Path) -> Result<Connection, rusqlite::Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.execute_batch("PRAGMA cache_size = -4096; PRAGMA query_only = ON; PRAGMA trusted_schema = OFF;")?;
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

fn checkpoint_at_start(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let until = Instant::now() + CHECKPOINT_PATIENCE;
    loop {
        let busy: i64 = connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))
            .map_err(|source| OpenError::Sqlite { path: path.to_owned(), source })?;
        if busy == 0 {
            return Ok(());
        }
        if Instant::now() > until {
            return Err(OpenError::CheckpointBusy { path: path.to_owned() });
        }
    }
}

pub(super) fn private_file(path: &Path) -> Result<File, OpenError> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    let file = file.map_err(|e| io_error(path, e))?;
    let mode = file.metadata().map_err(|e| io_error(path, e))?.permissions().mode();
    if mode & 0o077 != 0 {
        file.set_permissions(std::fs::Permissions::from_mode(0o600)).map_err(|e| io_error(path, e))?;
    }
    Ok(file)
}

pub(super) fn directory(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

pub(super) fn io_error(path: &Path, source: io::Error) -> OpenError {
    OpenError::Io { path: path.to_owned(), source }
}
