//! Why something asked of the writer was not done: for what it is, or because the storage cannot.

use std::path::Path;

use rusqlite::ErrorCode;

/// Told apart so that one asker's mistake does not cost the senders whose events are in the same transaction.
#[derive(Debug)]
pub(super) enum Fault {
    /// It cannot be done, and would not be later either: it fails alone.
    Refused(String),
    /// The storage said no: everything in the transaction fails.
    Storage(rusqlite::Error),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            // Of these SQLite takes back no more than the statement.
            None
            | Some(ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch | ErrorCode::TooBig | ErrorCode::Unknown) => {
                Self::Refused(error.to_string())
            }
            Some(_) => Self::Storage(error),
        }
    }
}

/// Why the inbox at this path cannot be written, and what to do about it, for people.
pub(super) fn explain(what: &str, path: &Path, error: &rusqlite::Error) -> String {
    let todo = match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => "free some space on its disk, and it goes on by itself",
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            "another program has locked the database: end it, and this goes on by itself"
        }
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
            "make the file and its directory writable for the user of the daemon"
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            "the inbox is damaged: stop the relay, keep a copy of the file, and put a backup in its place (README, Backup)"
        }
        _ => "look after the disk that it is on (`dmesg`)",
    };
    format!("{what}: {}: {error}; {todo}", path.display())
}
