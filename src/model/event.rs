//! An event on its way to a sink.

use std::fmt;

use bytes::Bytes;
use jiff::Timestamp;

use super::{Category, EntityKey, EventId, EventType, JobId, Seq, SourceName};

/// A stored event as every sink gets it: the CloudEvents 1.0 attributes, and the body as received.
#[derive(Clone)]
pub struct Outgoing {
    /// Place in the log (`ralioseq`).
    pub seq: Seq,
    /// `id`, and the idempotency key.
    pub id: EventId,
    /// `type`, canonical.
    pub event_type: EventType,
    /// `raliocategory`.
    pub category: Category,
    /// The source's name; the CloudEvents `source` is [`Self::ce_source`].
    pub source: SourceName,
    /// `subject`: the entity key.
    pub key: EntityKey,
    /// `time`: the provider's; where it gave none that can be read, sinks are told none.
    pub time: Option<Timestamp>,
    /// `ralioreceived`.
    pub received_at: Timestamp,
    /// `raliostale`: a `processing` that arrived after its `completed` or `failed`.
    pub stale: bool,
    /// `ralioreplay`: the replay that it is part of; `None` on its live delivery.
    pub replay: Option<JobId>,
    /// `X-Signature` exactly as received.
    pub signature: String,
    /// `datacontenttype`.
    pub content_type: String,
    /// `Content-Encoding` as received, where the body is handed on with one.
    pub content_encoding: Option<String>,
    /// The body exactly as received.
    pub body: Bytes,
}

impl Outgoing {
    /// The CloudEvents `source` attribute: `/ralio/<source name>`.
    pub fn ce_source(&self) -> String {
        format!("/ralio/{}", self.source)
    }
}

/// Without what is private: this may end up in a log.
impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing")
            .field("seq", &self.seq)
            .field("id", &self.id)
            .field("event_type", &self.event_type)
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}
