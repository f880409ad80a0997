//! Filters: expressions in CEL (the Common Expression Language) over an event, such as
//! `event.data.amounts.creditedAmount.currency == 'EUR'`.
//!
//! An expression sees two variables: `event`, the body as JSON, and `meta`, what the relay knows of the event
//! (`meta.type`, `meta.category`, `meta.source`, `meta.key`, `meta.id`, `meta.seq`, `meta.stale`, `meta.received_at`,
//! `meta.time`; times are RFC 3339 text in UTC, `meta.time` is null where the event has none).
//!
//! A whole number of JSON that fits 64 bits is a CEL integer, exactly; every other number is a double. CEL compares
//! numbers by value whatever their kind: `event.data.amount == 10` holds for `10` and for `10.0`.
//!
//! Parsing and evaluating recurse, so both happen on one thread per filter with a large stack. What an evaluation may
//! cost is bounded by [`meter`]; what cannot be bounded is how deep the library recurses for each level of an
//! expression, which is why expressions, and how deep they nest, have limits that leave most of that stack unused.

mod check;
mod meter;
mod program;
mod values;

#[cfg(test)]
mod tests;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use tokio::sync::{mpsc, oneshot};

use super::{Subject, Verdict};
use program::Program;

/// The longest expression, in bytes.
const MAX_EXPRESSION_BYTES: usize = 4 << 10;

/// Reserved, not used: only what is touched becomes memory.
const STACK_BYTES: usize = 64 << 20;

/// Batches that wait for the filter's thread; at the bound their senders wait.
const WAITING_BATCHES: usize = 4;

/// A compiled filter. Clones share its thread, which ends when the last one is dropped.
#[derive(Clone, Debug)]
pub struct Filter {
    expression: Arc<str>,
    batches: mpsc::Sender<Batch>,
}

/// An expression that cannot be a filter, and why.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct InvalidFilter(String);

#[derive(Debug)]
struct Batch {
    subjects: Vec<Subject>,
    reply: oneshot::Sender<Vec<Verdict>>,
}

impl Filter {
    /// Parses and checks an expression of at most 4 KiB: its syntax, its variables, functions and regular expressions.
    /// Blocks until that is done, and starts the filter's thread.
    pub fn compile(expression: &str) -> Result<Self, InvalidFilter> {
        if expression.len() > MAX_EXPRESSION_BYTES {
            let message = format!("has {} bytes, and {MAX_EXPRESSION_BYTES} are the limit", expression.len());
            return Err(InvalidFilter(message));
        }
        let (batches, waiting) = mpsc::channel(WAITING_BATCHES);
        let (compiled, answer) = std::sync::mpsc::channel();
        let source = expression.to_owned();
        thread::Builder::new()
            .name("filter".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || {
                // The receiver waits for exactly this.
                match catch_unwind(AssertUnwindSafe(|| Program::new(&source))) {
                    Ok(Ok(program)) => {
                        let _ = compiled.send(Ok(()));
                        work(&program, waiting);
                    }
                    Ok(Err(message)) => drop(compiled.send(Err(message))),
                    // What is said about a thread that is gone will do.
                    Err(_) => {}
                }
            })
            .map_err(|error| InvalidFilter(format!("cannot be compiled: no thread could be started: {error}")))?;
        match answer.recv() {
            Ok(Ok(())) => Ok(Self { expression: expression.into(), batches }),
            Ok(Err(message)) => Err(InvalidFilter(message)),
            Err(_) => Err(InvalidFilter("made the parser panic: write it in another way".to_owned())),
        }
    }

    /// The expression as written.
    pub(super) fn expression(&self) -> &str {
        &self.expression
    }

    /// A verdict on each subject, all of which have bodies.
    pub(super) async fn judge(&self, subjects: Vec<Subject>) -> Vec<Verdict> {
        let count = subjects.len();
        let (reply, answer) = oneshot::channel();
        if self.batches.send(Batch { subjects, reply }).await.is_ok()
            && let Ok(verdicts) = answer.await
            && verdicts.len() == count
        {
            return verdicts;
        }
        vec![Verdict::Unsure("the filter's thread has ended: this is a bug".to_owned()); count]
    }
}

fn work(program: &Program, mut waiting: mpsc::Receiver<Batch>) {
    while let Some(Batch { subjects, reply }) = waiting.blocking_recv() {
        let mut verdicts = Vec::with_capacity(subjects.len());
        for subject in &subjects {
            if reply.is_closed() {
                break;
            }
            verdicts.push(verdict(|| program.evaluate(subject)));
        }
        // A receiver that is gone does not care.
        let _ = reply.send(verdicts);
    }
}

fn verdict(evaluate: impl FnOnce() -> Result<bool, String>) -> Verdict {
    match catch_unwind(AssertUnwindSafe(evaluate)) {
        Ok(Ok(true)) => Verdict::Wanted,
        Ok(Ok(false)) => Verdict::Filtered,
        Ok(Err(why)) => Verdict::Unsure(why),
        Err(_) => Verdict::Unsure("the filter panicked: this is a bug".to_owned()),
    }
}
