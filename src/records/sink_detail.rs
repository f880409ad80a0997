//! One sink: what it is, how it is doing, and what it has still to get.

use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::Time;
use super::event::Stated;
use super::sink::Line;
use super::status::words;
use crate::inbox::{OldestUndelivered, SinkRevision, Undelivered, UndeliveredType};

/// `sinks show`.
#[derive(Serialize, ToSchema)]
#[schema(as = SinkDetail)]
pub struct Detail<'a> {
    /// As in the list.
    #[serde(flatten)]
    pub line: Line<'a>,
    /// What it is doing and why, in a sentence or two.
    pub words: String,
    /// The event that has waited longest; null where none does.
    pub oldest: Option<Oldest<'a>>,
    /// What it has still to get, by type, the most frequent first. Its filter is not asked.
    pub undelivered_by_type: Vec<ByType<'a>>,
    /// Whether `undelivered_by_type` holds all; otherwise only the oldest events were looked at.
    pub undelivered_is_whole: bool,
    /// What the configuration says of it; null where it is not in there.
    pub config: Option<Settings>,
    /// What it was, from when on, the newest first.
    pub revisions: Vec<Revision<'a>>,
}

/// What a sink was from some moment on.
#[derive(Serialize, ToSchema)]
#[schema(as = SinkRevision)]
pub struct Revision<'a> {
    /// As attempts name it.
    pub revision: u32,
    /// Since when.
    pub since: Time,
    /// The first event after the sink's cursor then.
    pub from_seq: i64,
    /// Its type.
    pub r#type: &'a str,
    /// Where events went, without secrets.
    pub target: &'a str,
    /// What it wanted.
    pub route: &'a str,
    /// `start`, `reload` or `command`.
    pub because: &'static str,
}

impl<'a> From<&'a SinkRevision> for Revision<'a> {
    fn from(known: &'a SinkRevision) -> Self {
        let SinkRevision { revision, since, from_seq, definition, because } = known;
        Self {
            revision: *revision,
            since: Time(*since),
            from_seq: from_seq.get(),
            r#type: &definition.kind,
            target: &definition.target,
            route: &definition.route,
            because: because.as_str(),
        }
    }
}

/// The event that has waited longest for a sink.
#[derive(Serialize, ToSchema)]
#[schema(as = OldestUndelivered)]
pub struct Oldest<'a> {
    #[serde(flatten)]
    event: Stated<'a>,
    /// Attempts so far.
    attempts: u32,
    /// When it is parked: when its next attempt is due.
    next_attempt: Option<Time>,
    /// Why the last attempt failed, with the beginning of what the far side answered.
    last_error: Option<&'a str>,
}

/// Events of one type that a sink has still to get.
#[derive(Serialize, ToSchema)]
#[schema(as = UndeliveredType)]
pub struct ByType<'a> {
    r#type: &'a str,
    /// Set aside for a later attempt.
    parked: u64,
    /// After the cursor.
    waiting: u64,
}

/// What the configuration says of a sink, and is no secret.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = SinkConfig)]
pub struct Settings {
    /// Where events go: of a URL only scheme, host and port.
    pub target: String,
    /// Globs over the types that it wants; none means all.
    pub events: Vec<String>,
    /// Its filter, where there is one.
    pub filter: Option<String>,
    /// `key` or `none`.
    pub ordering: &'static str,
    /// Deliveries in flight.
    pub concurrency: usize,
    /// After so long an attempt has failed.
    pub timeout_seconds: f64,
    /// Attempts in a second at most; null where there is no bound.
    pub rate: Option<f64>,
    /// When it is tried again.
    pub retry: Retry,
}

/// When a sink is tried again.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = SinkRetry)]
pub struct Retry {
    /// The first delay.
    pub initial_seconds: f64,
    /// The longest delay.
    pub max_seconds: f64,
    /// After so long an event becomes a dead letter.
    pub give_up_after_seconds: f64,
    /// Failures in a row, over different keys, after which it is down.
    pub breaker_after: usize,
    /// The longest wait between two tries while it is down.
    pub probe_max_seconds: f64,
    /// So many parked events, and nothing more is read.
    pub max_parked: usize,
}

impl<'a> Detail<'a> {
    /// Of a sink's line and what was found in the inbox.
    pub fn new(
        line: Line<'a>,
        found: &'a Undelivered,
        config: Option<Settings>,
        revisions: &'a [SinkRevision],
        now: Timestamp,
    ) -> Self {
        Self {
            words: words(&line, now),
            line,
            oldest: found.oldest.as_ref().map(Oldest::from),
            undelivered_by_type: found.by_type.iter().map(ByType::from).collect(),
            undelivered_is_whole: found.is_whole,
            config,
            revisions: revisions.iter().map(Revision::from).collect(),
        }
    }
}

impl<'a> From<&'a OldestUndelivered> for Oldest<'a> {
    fn from(oldest: &'a OldestUndelivered) -> Self {
        Self {
            event: (&oldest.event).into(),
            attempts: oldest.attempts,
            next_attempt: oldest.next_attempt.map(Time),
            last_error: oldest.last_error.as_deref(),
        }
    }
}

impl<'a> From<&'a UndeliveredType> for ByType<'a> {
    fn from(counted: &'a UndeliveredType) -> Self {
        Self { r#type: counted.event_type.as_str(), parked: counted.parked, waiting: counted.waiting }
    }
}
