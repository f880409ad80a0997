//! What a sink has still to get, for people.

use jiff::Timestamp;

use super::EventSummary;
use crate::model::EventType;

/// What a sink has still to get, looked at within bounds.
#[derive(Clone, Debug, Default)]
pub struct Undelivered {
    /// By type, the most frequent first.
    pub by_type: Vec<UndeliveredType>,
    /// Whether that is all; otherwise only the oldest events were looked at.
    pub is_whole: bool,
    /// The event that has waited longest.
    pub oldest: Option<OldestUndelivered>,
}

/// Events of one type that a sink has still to get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UndeliveredType {
    /// Canonical type.
    pub event_type: EventType,
    /// Set aside for a later attempt.
    pub parked: u64,
    /// After the cursor.
    pub waiting: u64,
}

/// The event that has waited longest for a sink.
#[derive(Clone, Debug)]
pub struct OldestUndelivered {
    /// The event.
    pub event: EventSummary,
    /// Attempts so far; 0 where none was made.
    pub attempts: u32,
    /// When it is parked: not before this.
    pub next_attempt: Option<Timestamp>,
    /// Why the last attempt failed, and what the far side answered, as lists show it.
    pub last_error: Option<String>,
}
