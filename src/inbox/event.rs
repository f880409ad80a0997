//! Events going into the log and coming out of it.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use jiff::Timestamp;

use crate::model::{
    Category, Digest, EntityKey, Envelope, EventId, EventType, JobId, Reading, Seq, SourceName, content_encoding,
};
use crate::verify::{Fingerprint, Header, Verified};

/// A verified delivery on its way into the log.
#[derive(Clone, Debug)]
pub struct NewEvent {
    /// As received.
    pub delivery: Verified,
    /// What its body says.
    pub envelope: Envelope,
    /// SHA-256 of the body.
    pub digest: Digest,
    /// The provider's id, or one derived from the body.
    pub id: EventId,
    /// When the request had been read.
    pub received_at: Timestamp,
    /// The sender's address, where it is known.
    pub peer: Option<String>,
    /// How it came out of the quarantine; `None` where its signature held when it came in.
    pub admission: Option<NewAdmission>,
}

/// How a request comes out of the quarantine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewAdmission {
    /// When.
    pub at: Timestamp,
    /// By which job.
    pub job: JobId,
    /// Its number in the quarantine.
    pub request: i64,
    /// Why it was refused when it came in.
    pub refused: &'static str,
}

impl NewEvent {
    /// Parses and hashes the body: work for the request's own thread, not for the writer's.
    pub fn new(delivery: Verified, received_at: Timestamp) -> Self {
        let encoding = content_encoding(delivery.headers());
        let envelope = Envelope::read(&Reading::of(delivery.body(), encoding.as_deref()));
        let digest = Digest::of(delivery.body());
        let id = envelope.id.clone().unwrap_or_else(|| EventId::from_digest(&digest));
        Self { delivery, envelope, digest, id, received_at, peer: None, admission: None }
    }

    /// From whom it came.
    pub fn sent_by(self, peer: impl Into<String>) -> Self {
        Self { peer: Some(peer.into()), ..self }
    }

    /// That it comes out of the quarantine.
    pub fn admitted(self, admission: NewAdmission) -> Self {
        Self { admission: Some(admission), ..self }
    }
}

/// What an append found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendKind {
    /// Stored as a new event.
    Fresh,
    /// The same bytes under the same id are stored already.
    Duplicate,
    /// Other bytes under the same id are stored already: this one is stored too, and flagged.
    Conflict,
}

/// A durable append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The event's place; for a duplicate, its first copy's.
    pub seq: Seq,
    /// What it was.
    pub kind: AppendKind,
}

/// An event as consumers read it.
#[derive(Clone)]
pub struct StoredEvent {
    /// Place in the log.
    pub seq: Seq,
    /// Event id.
    pub id: EventId,
    /// Canonical type.
    pub event_type: EventType,
    /// Where it came in.
    pub source: SourceName,
    /// Entity key; the event id where the event names no entity.
    pub key: EntityKey,
    /// The provider's time, where it gave one.
    pub time: Option<Timestamp>,
    /// When it came in.
    pub received_at: Timestamp,
    /// Arrived after a final state of the same entity.
    pub stale: bool,
    /// Another event with this id and other bytes came first.
    pub conflict: bool,
    /// Signature as received.
    pub signature: String,
    /// `Content-Type` as received.
    pub content_type: Option<String>,
    /// `Content-Encoding` as received, where the body has one.
    pub content_encoding: Option<String>,
    /// The body; `None` once retention has dropped it.
    pub body: Option<Bytes>,
    /// Where the body that came in is not there, and retention has not dropped it: then `body` is `None`, so that nobody
    /// delivers it.
    pub altered: Option<Altered>,
}

/// What was done to a stored body by whoever has altered the file, or whatever has damaged it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Altered {
    /// Another one stands in its place; its SHA-256.
    Other(Digest),
    /// None does, and no retention has come that far.
    Missing,
}

impl fmt::Debug for StoredEvent {
    /// The body by its size.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            seq,
            id,
            event_type,
            source,
            key,
            time,
            received_at,
            stale,
            conflict,
            signature,
            content_type,
            content_encoding,
            body,
            altered,
        } = self;
        f.debug_struct("StoredEvent")
            .field("seq", seq)
            .field("id", id)
            .field("event_type", event_type)
            .field("source", source)
            .field("key", key)
            .field("time", time)
            .field("received_at", received_at)
            .field("stale", stale)
            .field("conflict", conflict)
            .field("signature", signature)
            .field("content_type", content_type)
            .field("content_encoding", content_encoding)
            .field("body", &size(body.as_ref()))
            .field("altered", altered)
            .finish()
    }
}

/// What a consumer has to know of an event that waits, without its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventOutline {
    /// Place in the log.
    pub seq: Seq,
    /// Canonical type.
    pub event_type: EventType,
    /// Where it came in.
    pub source: SourceName,
    /// Entity key; the event id where the event names no entity.
    pub key: EntityKey,
    /// When it came in.
    pub received_at: Timestamp,
    /// Bytes of its body as received.
    pub size: usize,
}

impl From<&StoredEvent> for EventOutline {
    fn from(event: &StoredEvent) -> Self {
        Self {
            seq: event.seq,
            event_type: event.event_type.clone(),
            source: event.source.clone(),
            key: event.key.clone(),
            received_at: event.received_at,
            size: event.body.as_ref().map_or(0, Bytes::len),
        }
    }
}

/// A stretch of the log, as a consumer reads it.
#[derive(Clone, Debug)]
pub struct Slice {
    /// The events in it that were asked for, in order.
    pub events: Vec<StoredEvent>,
    /// Everything up to here has been looked at.
    pub read_to: Seq,
}

/// A short stretch of the log, as a list of events reads it; it may hold none that was asked for.
#[derive(Debug)]
pub struct Stretch<'a> {
    /// The events that were asked for, to be looked at or taken.
    pub events: &'a mut Vec<EventSummary>,
    /// How many places of the log have been looked at or passed over since the beginning.
    pub done: u64,
    /// Of how many.
    pub total: u64,
    /// Everything up to here, in the direction of the walk, has been looked at.
    pub upto: Seq,
}

/// Events of a stretch of the log that are alike, counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally {
    /// Canonical type.
    pub event_type: EventType,
    /// Another event with the same id and other bytes came first.
    pub conflict: bool,
    /// Retention has not dropped their bodies.
    pub has_body: bool,
    /// How many.
    pub count: u64,
}

/// Which secrets have signed what was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretUses {
    /// By source, the one that signed last first; a secret that never signed is not among them.
    pub by_source: BTreeMap<SourceName, Vec<SecretUse>>,
    /// The last event that is counted.
    pub counted_to: Seq,
}

/// What one secret of a source has signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecretUse {
    /// Which; `None` for what an older version stored, which noted only the place in the configuration.
    pub secret: Option<Fingerprint>,
    /// Its place in `secrets`, from 0 on, when it signed the last of them.
    pub slot: u32,
    /// How many events.
    pub events: u64,
    /// The first of them, and when it came in; `None` for what was counted by an older version.
    pub first: Option<(Seq, Timestamp)>,
    /// The last of them.
    pub last_seq: Seq,
    /// The latest arrival among them.
    pub last_used_at: Timestamp,
}

/// One line of `events list`.
#[derive(Clone, Debug)]
pub struct EventSummary {
    /// Place in the log.
    pub seq: Seq,
    /// Event id.
    pub id: EventId,
    /// Canonical type.
    pub event_type: EventType,
    /// Category.
    pub category: Category,
    /// Where it came in.
    pub source: SourceName,
    /// Entity key.
    pub key: EntityKey,
    /// The state that it reports, where it reports one.
    pub state: Option<String>,
    /// The provider's time, where it gave one.
    pub time: Option<Timestamp>,
    /// When it came in.
    pub received_at: Timestamp,
    /// Body size in bytes.
    pub size: u64,
    /// Arrived after a final state of the same entity.
    pub stale: bool,
    /// Another event with this id and other bytes came first.
    pub conflict: bool,
    /// How often it came in: 1, and one more for each duplicate.
    pub arrivals: u64,
    /// SHA-256 of the body.
    pub body_sha256: Digest,
    /// Its signature did not hold when it came in: it waited in the quarantine.
    pub admitted: bool,
    /// Its body was found to have another SHA-256 than what came in, and was not restored since.
    pub digest_mismatch: bool,
}

/// How an event came out of the quarantine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    /// When.
    pub at: Timestamp,
    /// By which job.
    pub job: JobId,
    /// Who asked for that.
    pub who: String,
    /// Its number in the quarantine.
    pub request: i64,
    /// Why it was refused when it came in.
    pub refused: String,
}

/// `events show`.
#[derive(Clone)]
pub struct EventDetail {
    /// What `events list` says.
    pub summary: EventSummary,
    /// The body; `None` once retention has dropped it.
    pub body: Option<Bytes>,
    /// Signature as received.
    pub signature: String,
    /// The secret that signed it; `None` where an older version stored it, which noted only the slot.
    pub secret: Option<Fingerprint>,
    /// The place in `secrets` that this secret had then.
    pub secret_slot: u32,
    /// The sender's address, where it is known.
    pub peer: Option<String>,
    /// How it came out of the quarantine.
    pub admission: Option<Admission>,
    /// Whether the body has the SHA-256 of what came in; `None` where there is no body.
    pub body_matches: Option<bool>,
    /// When the body was first found not to have it.
    pub mismatch_found_at: Option<Timestamp>,
    /// Headers kept.
    pub headers: Vec<Header>,
    /// Every event of the same entity and source, in order, this one included; at most 100.
    pub lifecycle: Vec<EventSummary>,
    /// Every attempt at every sink.
    pub attempts: Vec<super::AttemptRecord>,
    /// What became of it at each sink, by name.
    pub sinks: Vec<super::Pair>,
}

impl fmt::Debug for EventDetail {
    /// The body by its size.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { summary, body, signature, secret, secret_slot, peer, admission, .. } = self;
        let Self { body_matches, mismatch_found_at, headers, lifecycle, attempts, sinks, .. } = self;
        f.debug_struct("EventDetail")
            .field("summary", summary)
            .field("body", &size(body.as_ref()))
            .field("signature", signature)
            .field("secret", secret)
            .field("secret_slot", secret_slot)
            .field("peer", peer)
            .field("admission", admission)
            .field("body_matches", body_matches)
            .field("mismatch_found_at", mismatch_found_at)
            .field("headers", headers)
            .field("lifecycle", lifecycle)
            .field("attempts", attempts)
            .field("sinks", sinks)
            .finish()
    }
}

/// What `events list` and `events tail` ask for. Every field narrows; the default asks for everything.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct EventFilter {
    /// Globs over canonical types, in the syntax of `route::Glob`; any may match.
    pub types: Vec<String>,
    /// Categories; any may match.
    pub categories: Vec<Category>,
    /// Source name.
    pub source: Option<String>,
    /// Received at or after.
    pub since: Option<Timestamp>,
    /// Received before.
    pub until: Option<Timestamp>,
    /// Entity key, exactly.
    pub key: Option<String>,
    /// Event id, exactly.
    pub id: Option<String>,
    /// State, ignoring case.
    pub state: Option<String>,
    /// Text that the body holds, as [`crate::model::Search`] finds it.
    pub search: Option<String>,
}

/// What logs may say of a body.
pub(super) fn size(body: Option<&Bytes>) -> String {
    body.map_or_else(|| "none".to_owned(), |body| format!("{} bytes", body.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_told_by_their_size() {
        let event = StoredEvent {
            seq: Seq::ZERO,
            id: EventId::new("e").unwrap(),
            event_type: EventType::malformed(),
            source: SourceName::new("one").unwrap(),
            key: EntityKey::new("k").unwrap(),
            time: None,
            received_at: Timestamp::UNIX_EPOCH,
            stale: false,
            conflict: false,
            signature: String::new(),
            content_type: None,
            content_encoding: None,
            body: Some(Bytes::from_static(b"4111")),
            altered: None,
        };
        let told = format!("{event:?}");
        assert!(told.contains("\"4 bytes\"") && !told.contains("4111"), "{told}");
    }
}
