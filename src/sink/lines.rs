//! What `stdout` and `file` share: a thread that takes waiting lines in batches, so that many events cost one fsync.

use std::io;
use std::thread;

use tokio::sync::{mpsc, oneshot};

use crate::model::{Outcome, Outgoing};

use super::BuildError;
use super::cloudevents::CloudEvent;

/// Lines in one batch; also how many may wait for the next one.
const MAX_BATCH_LINES: usize = 512;

/// Bytes after which a batch takes no further line.
const MAX_BATCH_BYTES: usize = 1 << 20;

/// Where batches go.
pub trait Target: Send + 'static {
    /// Appends whole lines and makes them as durable as the target can. After an error the whole batch counts as not
    /// written, and the next call finds a place where a line may begin.
    fn append(&mut self, lines: &[u8]) -> io::Result<()>;
}

enum Command {
    Write { line: Vec<u8>, written: oneshot::Sender<Outcome> },
    Close { closed: oneshot::Sender<()> },
}

/// Hands lines to the thread that owns the target. The thread ends with [`LineWriter::close`], or when this is dropped.
pub struct LineWriter {
    commands: mpsc::Sender<Command>,
}

impl LineWriter {
    /// Starts the thread. `what` names the target in reasons, `receipt` says what a written line can rely on.
    pub fn start(target: impl Target, what: String, receipt: &'static str) -> Result<Self, BuildError> {
        let (commands, waiting) = mpsc::channel(MAX_BATCH_LINES);
        let writer = Writer { target, what, receipt, waiting };
        thread::Builder::new()
            .name("sink-lines".to_owned())
            .spawn(move || writer.run())
            .map_err(|error| BuildError(format!("cannot start a thread: {error}")))?;
        Ok(Self { commands })
    }

    /// Writes one event as one line. Dropping the future leaves it open whether the line is written.
    pub async fn deliver(&self, event: &Outgoing) -> Outcome {
        let (written, outcome) = oneshot::channel();
        let line = CloudEvent::new(event).to_line();
        let ended = || Outcome::transient("the writer has ended");
        if self.commands.send(Command::Write { line, written }).await.is_err() {
            return ended();
        }
        outcome.await.unwrap_or_else(|_| ended())
    }

    /// Waits until everything handed over before is written, and ends the thread.
    pub async fn close(&self) {
        let (closed, done) = oneshot::channel();
        if self.commands.send(Command::Close { closed }).await.is_ok() {
            // An error means that the thread has ended, which is what was asked for.
            let _ = done.await;
        }
    }
}

struct Writer<T> {
    target: T,
    what: String,
    receipt: &'static str,
    waiting: mpsc::Receiver<Command>,
}

impl<T: Target> Writer<T> {
    fn run(mut self) {
        while let Some(first) = self.waiting.blocking_recv() {
            let mut lines = Vec::new();
            let mut writers = Vec::new();
            let mut next = Some(first);
            let mut closing = None;
            while let Some(command) = next {
                match command {
                    // Nobody waits any more: the event will come again, and one line of it is better than two.
                    Command::Write { written, .. } if written.is_closed() => {}
                    Command::Write { line, written } => {
                        lines.extend_from_slice(&line);
                        writers.push(written);
                    }
                    Command::Close { closed } => {
                        closing = Some(closed);
                        break;
                    }
                }
                let room = writers.len() < MAX_BATCH_LINES && lines.len() < MAX_BATCH_BYTES;
                next = if room { self.waiting.try_recv().ok() } else { None };
            }
            self.write(&lines, writers);
            if let Some(closed) = closing {
                drop(self.target);
                let _ = closed.send(());
                return;
            }
        }
    }

    fn write(&mut self, lines: &[u8], writers: Vec<oneshot::Sender<Outcome>>) {
        if writers.is_empty() {
            return;
        }
        let outcome = match self.target.append(lines) {
            Ok(()) => Outcome::delivered(self.receipt),
            Err(error) => Outcome::transient(format!("cannot write to {}: {error}", self.what)),
        };
        for writer in writers {
            // A receiver that is gone has timed out: for it the outcome is unknown.
            let _ = writer.send(outcome.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc as std_mpsc;

    use futures_util::future::join_all;

    use super::*;
    use crate::sink::fixtures::event;

    /// Each append waits for permission and reports how many lines it got.
    struct Gated {
        permits: std_mpsc::Receiver<io::Result<()>>,
        batches: std_mpsc::Sender<usize>,
    }

    impl Target for Gated {
        fn append(&mut self, lines: &[u8]) -> io::Result<()> {
            self.batches.send(lines.iter().filter(|&&b| b == b'\n').count()).unwrap();
            self.permits.recv().unwrap()
        }
    }

    fn gated() -> (LineWriter, std_mpsc::Sender<io::Result<()>>, std_mpsc::Receiver<usize>) {
        let (permit, permits) = std_mpsc::channel();
        let (batches, batch) = std_mpsc::channel();
        (LineWriter::start(Gated { permits, batches }, "a test".to_owned(), "ok").unwrap(), permit, batch)
    }

    #[tokio::test]
    async fn what_waits_goes_in_one_batch() {
        let (writer, permit, batch) = gated();
        let event = event("{}");
        let mut first = Box::pin(writer.deliver(&event));
        assert!(futures_util::poll!(&mut first).is_pending());
        assert_eq!(batch.recv().unwrap(), 1);

        // The first batch is being written; these wait.
        let mut rest = join_all((0..9).map(|_| writer.deliver(&event)));
        assert!(futures_util::poll!(&mut rest).is_pending());
        permit.send(Ok(())).unwrap();
        assert_eq!(batch.recv().unwrap(), 9);
        permit.send(Ok(())).unwrap();

        assert_eq!(first.await, Outcome::delivered("ok"));
        assert!(rest.await.iter().all(|outcome| *outcome == Outcome::delivered("ok")));
    }

    #[tokio::test]
    async fn an_error_is_everyones_and_does_not_end_the_writer() {
        let (writer, permit, _batch) = gated();
        permit.send(Err(io::ErrorKind::StorageFull.into())).unwrap();
        permit.send(Ok(())).unwrap();
        let event = event("{}");
        let Outcome::Transient { reason, .. } = writer.deliver(&event).await else { panic!("delivered") };
        assert_eq!(reason.as_str(), "cannot write to a test: no storage space");
        assert_eq!(writer.deliver(&event).await, Outcome::delivered("ok"));
        writer.close().await;
        assert!(matches!(writer.deliver(&event).await, Outcome::Transient { .. }));
    }
}
