//! Why a batch of the writer's came to nothing, which decides who else it costs.

use rusqlite::ErrorCode;

use super::paths::Moved;

/// Told apart so that one event costs no other, and so that nothing is built upon files that are gone.
#[derive(Debug)]
pub(super) enum Failure {
    /// The storage said no: to everything in the batch.
    Storage(rusqlite::Error),
    /// The database refuses an event of the batch for what it is, now and later.
    Event(rusqlite::Error),
    /// It is committed, to files that their paths do not name any more.
    Moved(Moved),
}

impl Failure {
    /// Of the statements that store one event.
    pub(super) fn of_event(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch | ErrorCode::TooBig) => Self::Event(error),
            _ => Self::Storage(error),
        }
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Storage(error)
    }
}

impl From<Moved> for Failure {
    fn from(moved: Moved) -> Self {
        Self::Moved(moved)
    }
}
