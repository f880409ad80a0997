//! An event that the database refuses: it costs no other event anything.

use super::{Command, Writer};
use crate::inbox::Unavailable;

impl Writer {
    /// A batch with an event that the database refuses: halved, until that event is alone. Where its place in the log is
    /// taken, another process writes to the inbox, and what this one knows of it is wrong.
    pub(super) fn without_the_event(&mut self, batch: &mut Vec<Command>, error: &rusqlite::Error) {
        let why = match self.is_place_taken() {
            Ok(true) => {
                let why = "another process writes to this inbox: end every other ralio-relay that uses it";
                self.shared.fail(&format!("{}: {error}; {why}", self.path.display()));
                Unavailable::Closed
            }
            Ok(false) if batch.len() > 1 => {
                let mut rest = batch.split_off(batch.len() / 2);
                self.commit(batch);
                if self.is_over() {
                    rest.drain(..).for_each(|command| self.refuse(command, &Unavailable::Closed));
                } else {
                    self.commit(&mut rest);
                }
                return;
            }
            Ok(false) => Unavailable::Unstorable(error.to_string()),
            Err(error) => self.note_failure("the end of the log could not be read", &error),
        };
        batch.drain(..).for_each(|command| self.refuse(command, &why));
    }

    fn is_place_taken(&self) -> rusqlite::Result<bool> {
        self.connection
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM events WHERE seq > ?1)")?
            .query_row([self.last_seq], |row| row.get(0))
    }
}
