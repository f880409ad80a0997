//! What a consumer has done and not yet recorded.

use std::collections::BTreeMap;

use crate::inbox::{Attempt, ConsumerId, DeadLetter, Discarded, Parked, Progress, SinkHealth, Standing};
use crate::model::Seq;

/// Where a consumer is, apart from single events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub cursor: Seq,
    pub standing: Standing,
    /// How many are parked; it is no change by itself.
    pub parked: usize,
}

/// Collects until the next record.
pub(super) struct Ledger {
    consumer: ConsumerId,
    attempts: Vec<Attempt>,
    park: BTreeMap<Seq, Parked>,
    unpark: Vec<Seq>,
    dead: Vec<DeadLetter>,
    discarded: Vec<Discarded>,
    /// Attempts in the record that is being written.
    recording: usize,
    recorded: Mark,
    /// As it will be with the record that is being written.
    taken: Mark,
}

impl Ledger {
    pub(super) fn new(consumer: ConsumerId, mark: Mark) -> Self {
        Self {
            consumer,
            attempts: Vec::new(),
            park: BTreeMap::new(),
            unpark: Vec::new(),
            dead: Vec::new(),
            discarded: Vec::new(),
            recording: 0,
            recorded: mark,
            taken: mark,
        }
    }

    pub(super) fn attempt(&mut self, attempt: Attempt) {
        self.attempts.push(attempt);
    }

    pub(super) fn park(&mut self, event: Parked) {
        self.park.insert(event.seq, event);
    }

    pub(super) fn unpark(&mut self, seq: Seq) {
        self.park.remove(&seq);
        self.unpark.push(seq);
    }

    pub(super) fn dead(&mut self, letter: DeadLetter) {
        self.dead.push(letter);
    }

    pub(super) fn discarded(&mut self, event: Discarded) {
        self.discarded.push(event);
    }

    /// The inbox has parked one more by itself.
    pub(super) fn adopted(&mut self) {
        self.recorded.parked += 1;
        self.taken.parked += 1;
    }

    /// Attempts that are not on disk.
    pub(super) fn unrecorded(&self) -> usize {
        self.attempts.len() + self.recording
    }

    /// Events that have ended without an attempt, and wait for the next record.
    pub(super) fn lost(&self) -> usize {
        self.dead.len() + self.discarded.len()
    }

    /// As it is on disk.
    pub(super) fn mark(&self) -> Mark {
        self.recorded
    }

    /// Whether anything has happened since the last time.
    pub(super) fn has_news(&self, mark: Mark) -> bool {
        let nothing = self.attempts.is_empty()
            && self.park.is_empty()
            && self.unpark.is_empty()
            && self.dead.is_empty()
            && self.discarded.is_empty();
        !nothing || (mark.cursor, mark.standing) != (self.taken.cursor, self.taken.standing)
    }

    /// Everything since the last time.
    pub(super) fn take(&mut self, mark: Mark, health: SinkHealth) -> Progress {
        self.taken = mark;
        self.recording = self.attempts.len();
        Progress {
            consumer: self.consumer,
            cursor: mark.cursor,
            attempts: std::mem::take(&mut self.attempts),
            park: std::mem::take(&mut self.park).into_values().collect(),
            unpark: std::mem::take(&mut self.unpark),
            dead: std::mem::take(&mut self.dead),
            discarded: std::mem::take(&mut self.discarded),
            standing: mark.standing,
            health,
        }
    }

    /// What was taken is on disk.
    pub(super) fn recorded(&mut self) {
        self.recording = 0;
        self.recorded = self.taken;
    }
}
