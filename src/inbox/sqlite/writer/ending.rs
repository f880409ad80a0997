//! How the writer ends: with the log written back, so that a copy of the database alone is whole; or, when its files are
//! not where they were, so that the next start finds what was acknowledged.

use std::time::Duration;

use rusqlite::config::DbConfig;

use super::super::checkpoint::empty;
use super::super::paths::{Identity, Moved, Which, with_suffix};
use super::Writer;

/// How long a reader may hold up the end.
const READER_AT_THE_END: Duration = Duration::from_secs(2);

impl Writer {
    /// From here on everybody is told to come again.
    pub(super) fn note_moved(&mut self, moved: Moved) {
        self.shared.close();
        self.shared.set_trouble(Some(moved.to_string()));
        self.moved = Some(moved);
    }

    /// Nothing is written to files that were moved, once that is seen.
    pub(super) fn look_at_files(&mut self) {
        if !self.is_over()
            && let Err(moved) = self.paths.check()
        {
            self.note_moved(moved);
        }
    }

    /// The last of all. After a failed fsync nothing is touched: the next start does what is needed.
    pub(super) fn end(mut self) {
        self.look_at_files();
        if self.is_over() {
            self.leave_the_log();
        }
        if let Some(moved) = self.moved.take() {
            self.save(&moved);
            self.shared.fail(&moved.to_string());
        } else if !self.shared.has_failed()
            && !self.write_back(READER_AT_THE_END, "the log beside it is a part of it until the next start")
        {
            self.leave_the_log();
        }
    }

    /// The last connection to close writes the log back and removes it, by its name: that may be somebody else's file by now, or
    /// a disk that has failed.
    fn leave_the_log(&self) {
        if let Err(error) = self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true) {
            tracing::error!(%error, "SQLite cannot be kept from removing the log");
        }
    }

    /// Writes the log back; false, and said so, when that could not be done.
    fn write_back(&self, patience: Duration, otherwise: &str) -> bool {
        let path = self.path.display();
        match self.connection.busy_timeout(patience).and_then(|()| empty(&self.connection)) {
            Ok(true) => true,
            Ok(false) => {
                tracing::warn!(%path, "a reader keeps the write-ahead log from being written back: {otherwise}");
                false
            }
            Err(error) => {
                tracing::error!(%path, %error, "the write-ahead log could not be written back: {otherwise}");
                false
            }
        }
    }

    /// The log and the database have come apart, or will: what is acknowledged goes into the database, whatever its name is
    /// by now, and no log stays that a start could take for a part of another database.
    fn save(&self, moved: &Moved) {
        match moved.which {
            // The next start reads the log as after a crash.
            Which::Memory | Which::Lock => {}
            Which::Database => {
                self.write_back(READER_AT_THE_END, "move it beside the file that was moved, before the next start");
            }
            Which::Log => {
                if self.write_back(READER_AT_THE_END, "what it held of the last events is lost") {
                    self.set_aside(moved);
                }
            }
        }
    }

    /// A log in the place of ours is no part of this database.
    fn set_aside(&self, moved: &Moved) {
        let aside = with_suffix(&moved.path, ".set-aside");
        if Identity::of(&moved.path).is_ok() {
            match std::fs::rename(&moved.path, &aside) {
                Ok(()) => tracing::warn!(to = %aside.display(), "a foreign write-ahead log was set aside"),
                Err(error) => {
                    let path = moved.path.display();
                    tracing::error!(%path, %error, "a foreign write-ahead log could not be set aside: remove it before the next start");
                }
            }
        }
    }
}
