//! Why something asked of the writer was not done: for what it is, or because the storage cannot.

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
