//! What the writer is asked to do besides appending.

use jiff::Timestamp;
use rusqlite::Connection;
use tokio::sync::oneshot;

use super::fault::Fault;
use super::quarantine::Removed;
use crate::inbox::Unavailable;

/// A piece of work within the writer's transaction, and its answer after the commit.
pub(super) trait Errand: Send {
    /// For logs.
    fn name(&self) -> &'static str;

    /// Does the work, and says what it took out of the quarantine. What it wrote is taken back when it is refused.
    fn write(&mut self, connection: &Connection, now: Timestamp) -> Result<Vec<Removed>, Fault>;

    /// Answers: after the commit, or with what came in between.
    fn answer(self: Box<Self>, outcome: Result<(), Unavailable>);
}

/// What a piece of work is answered with, and what it took out of the quarantine.
pub(super) type Worked<T> = Result<(T, Vec<Removed>), Fault>;

/// Makes an errand of a function, and says where its answer comes.
pub(super) fn errand<T: Send + 'static>(
    name: &'static str,
    work: impl FnMut(&Connection, Timestamp) -> Worked<T> + Send + 'static,
) -> (Box<dyn Errand>, oneshot::Receiver<Result<T, Unavailable>>) {
    let (reply, answer) = oneshot::channel();
    (Box::new(Work { name, work, done: None, reply }), answer)
}

struct Work<T, F> {
    name: &'static str,
    work: F,
    done: Option<T>,
    reply: oneshot::Sender<Result<T, Unavailable>>,
}

impl<T: Send, F: FnMut(&Connection, Timestamp) -> Worked<T> + Send> Errand for Work<T, F> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn write(&mut self, connection: &Connection, now: Timestamp) -> Result<Vec<Removed>, Fault> {
        let (done, removed) = (self.work)(connection, now)?;
        self.done = Some(done);
        Ok(removed)
    }

    fn answer(self: Box<Self>, outcome: Result<(), Unavailable>) {
        let Work { done, reply, name: _, work: _ } = *self;
        // Nobody may be waiting any more.
        _ = reply.send(outcome.and_then(|()| done.ok_or(Unavailable::Closed)));
    }
}
