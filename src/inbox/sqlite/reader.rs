//! Browsing the inbox, daemon or no daemon.

use std::ops::ControlFlow;

use crate::inbox::{Config, EventDetail, EventFilter, EventSummary, Quarantined};
use crate::model::Seq;

/// A read-only connection for browsing. Long walks are made of short reads, so that they never hold up a checkpoint.
pub struct Reader {}

/// Which way a walk goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Oldest first.
    Forward,
    /// Newest first.
    Backward,
}

/// The inbox could not be opened or read.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ReadError(pub String);

impl Reader {
    /// Opens the file for reading; says so when there is none yet.
    pub fn open(_config: &Config) -> Result<Self, ReadError> {
        Err(ReadError(String::new()))
    }

    /// The last event, [`Seq::ZERO`] in an empty inbox.
    pub fn head(&self) -> Result<Seq, ReadError> {
        Err(ReadError(String::new()))
    }

    /// Walks over the events that the filter lets through, from after (or before) `from` on, until `visit` breaks.
    pub fn each_event(
        &self,
        _filter: &EventFilter,
        _direction: Direction,
        _from: Option<Seq>,
        _visit: &mut dyn FnMut(EventSummary) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        Err(ReadError(String::new()))
    }

    /// The events under an id (more than one when it has conflicts, or when two sources use it), or the one at a seq.
    pub fn event(&self, _id_or_seq: &str) -> Result<Vec<EventDetail>, ReadError> {
        Err(ReadError(String::new()))
    }

    /// Walks over the quarantine, newest first, bodies not loaded.
    pub fn each_quarantined(&self, _visit: &mut dyn FnMut(Quarantined) -> ControlFlow<()>) -> Result<(), ReadError> {
        Err(ReadError(String::new()))
    }

    /// One request in quarantine, with its body.
    pub fn quarantined(&self, _id: i64) -> Result<Option<Quarantined>, ReadError> {
        Err(ReadError(String::new()))
    }
}
