//! How far a consumer has come: its cursor, and what it has set aside.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

use crate::model::{Outcome, Seq, SinkName};

/// One attempt, to be recorded.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// The event.
    pub seq: Seq,
    /// 1 for the event's first attempt at this sink.
    pub n: u32,
    /// When it began.
    pub at: Timestamp,
    /// How long it took.
    pub latency: Duration,
    /// What became of it.
    pub outcome: Outcome,
}

/// An event that is set aside for a later attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parked {
    /// The event.
    pub seq: Seq,
    /// Attempts so far; 0 when it only waits behind an earlier event of its key.
    pub attempts: u32,
    /// When the first attempt began; `None` before it.
    pub first_attempt: Option<Timestamp>,
    /// Not before this.
    pub next_attempt: Timestamp,
}

/// An event given up for one sink, kept until a person decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The event.
    pub seq: Seq,
    /// Attempts made.
    pub attempts: u32,
    /// Why it was given up, such as `conflict` or the last failure.
    pub reason: String,
    /// When.
    pub at: Timestamp,
}

/// What one consumer has done since it last recorded; written in one transaction.
#[derive(Clone, Debug)]
pub struct Progress {
    /// Whose.
    pub sink: SinkName,
    /// Every event up to here is final or parked.
    pub cursor: Seq,
    /// Attempts made.
    pub attempts: Vec<Attempt>,
    /// Set aside, or set aside again with another time.
    pub park: Vec<Parked>,
    /// No longer set aside.
    pub unpark: Vec<Seq>,
    /// Given up.
    pub dead: Vec<DeadLetter>,
}

/// A consumer as recorded.
#[derive(Clone, Debug)]
pub struct ConsumerState {
    /// Every event up to here is final or parked.
    pub cursor: Seq,
    /// Set aside.
    pub parked: Vec<Parked>,
    /// Events above the cursor that are final already.
    pub done_above: BTreeSet<Seq>,
    /// Dead letters so far, for the gauge.
    pub dead_letters: u64,
}

/// What became of an event at one sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptState {
    /// The far side holds it.
    Delivered,
    /// Failed, to be tried again.
    Transient,
    /// Failed for good.
    Permanent,
}

impl AttemptState {
    /// The word in JSON and in the database's `attempts.outcome`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Transient => "transient",
            Self::Permanent => "permanent",
        }
    }
}

/// One attempt as recorded: the auditor's proof of delivery.
#[derive(Clone, Debug)]
pub struct AttemptRecord {
    /// At which sink.
    pub sink: SinkName,
    /// 1 for the first.
    pub n: u32,
    /// When it began.
    pub at: Timestamp,
    /// How long it took.
    pub latency: Duration,
    /// What became of it.
    pub outcome: AttemptState,
    /// Receipt, or reason of the failure.
    pub note: String,
}

/// One dead letter as recorded.
#[derive(Clone, Debug)]
pub struct DeadLetterRecord {
    /// At which sink.
    pub sink: SinkName,
    /// Attempts made.
    pub attempts: u32,
    /// Why it was given up.
    pub reason: String,
    /// When.
    pub at: Timestamp,
}
