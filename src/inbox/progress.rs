//! How far a consumer has come: its cursor, and what it has set aside.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

use super::job::Selection;
use crate::model::{EntityKey, EventId, EventType, JobId, Outcome, Seq, SinkName, SinkState, Start};

/// A consumer's number in the inbox; it outlives renaming.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConsumerId(i64);

impl ConsumerId {
    /// As the inbox numbered it.
    pub fn new(value: i64) -> Self {
        Self(value)
    }

    /// The number itself.
    pub fn get(self) -> i64 {
        self.0
    }
}

/// Who reads the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Registration {
    /// A sink's own consumer: made, with its cursor before `start`, when the inbox knows neither this name nor a sink
    /// that once had it.
    Sink {
        /// Its name in the configuration.
        name: SinkName,
        /// Where it begins when it is new.
        start: Start,
    },
    /// The consumer of a replay: made, with its bounds, when the replay first runs. Its end is the cursor of the
    /// sink's own consumer at that moment, or the end of its selection where that comes first.
    Replay {
        /// The job.
        job: JobId,
    },
}

/// A sink's place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registered {
    /// Its consumer.
    pub id: ConsumerId,
    /// Every event up to here is final or parked.
    pub cursor: Seq,
}

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
    /// How long its consumer had stood still by then, see [`Standing::still`].
    pub still: Duration,
    /// Not before this.
    pub next_attempt: Timestamp,
    /// Its failures between which other events were delivered: the event is at fault then, and not the sink.
    pub own_failures: u32,
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

/// An event that a sink will not get, and that waits for nobody: its body is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discarded {
    /// The event.
    pub seq: Seq,
    /// Why, such as `pruned`.
    pub reason: String,
    /// When.
    pub at: Timestamp,
}

/// How a consumer stands, apart from its events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Since when the breaker is open; `None` while it is closed.
    pub breaker_open_since: Option<Timestamp>,
    /// Since when it stands still, paused or with its breaker open; `None` while it goes on.
    pub still_since: Option<Timestamp>,
    /// How long it has stood still in all, before `still_since`. `give_up_after` does not count this time.
    pub still: Duration,
}

impl Standing {
    /// As it is now, paused or not: a crash can come between a pause, or its end, and the consumer's own record of it.
    pub(super) fn settled(self, paused_since: Option<Timestamp>, now: Timestamp) -> Self {
        let Self { breaker_open_since, still_since, still } = self;
        match (paused_since.or(breaker_open_since), still_since) {
            (Some(since), None) => Self { still_since: Some(since), ..self },
            (None, Some(since)) => {
                let more = Duration::try_from(now.duration_since(since)).unwrap_or_default();
                Self { still_since: None, still: still + more, ..self }
            }
            (Some(_), Some(_)) | (None, None) => self,
        }
    }
}

/// How a sink has answered lately, for people. `Default` is a sink to which nothing was delivered yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SinkHealth {
    /// Attempts that failed since the last success, of any events.
    pub failures: u32,
    /// When the first of these ended.
    pub failing_since: Option<Timestamp>,
    /// Why the last failed attempt failed.
    pub last_error: Option<String>,
    /// When that attempt ended.
    pub last_error_at: Option<Timestamp>,
    /// When the last successful attempt ended.
    pub last_success_at: Option<Timestamp>,
    /// When the next attempt is due; `None` while nothing waits for a time.
    pub next_try: Option<Timestamp>,
    /// Whether nothing more is read because more than `retry.max_parked` events are parked.
    pub reading_stopped: bool,
}

impl SinkHealth {
    /// So many failures in a row, and the sink counts as failing.
    pub const FAILING_AFTER: u32 = 3;

    /// Whether the last [`Self::FAILING_AFTER`] attempts failed.
    pub fn is_failing(&self) -> bool {
        self.failures >= Self::FAILING_AFTER
    }
}

/// Why a sink could not be built from its configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildFailure {
    /// The error with its causes, for people.
    pub error: String,
    /// When it was first seen.
    pub since: Timestamp,
}

/// What one consumer has done since it last recorded; written in one transaction.
#[derive(Clone, Debug)]
pub struct Progress {
    /// Whose.
    pub consumer: ConsumerId,
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
    /// Not to be had.
    pub discarded: Vec<Discarded>,
    /// How it stands now.
    pub standing: Standing,
    /// How the sink has answered lately.
    pub health: SinkHealth,
}

/// A consumer as recorded.
#[derive(Clone, Debug)]
pub struct ConsumerState {
    /// Its number.
    pub id: ConsumerId,
    /// Every event up to here is final or parked.
    pub cursor: Seq,
    /// Set aside.
    pub parked: Vec<Parked>,
    /// Events above the cursor that are final already.
    pub done_above: BTreeSet<Seq>,
    /// Dead letters that no person has decided about, for the gauge.
    pub dead_letters: u64,
    /// How it stood.
    pub standing: Standing,
    /// How the sink had answered.
    pub health: SinkHealth,
    /// Whether a person has paused it.
    pub paused: bool,
    /// What it reads of the log: a replay's selection; `None` for a sink's own consumer, which reads everything.
    pub selection: Option<Selection>,
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
    /// The number of the sink's own consumer: two sinks may have had one name, one after the other.
    pub consumer: ConsumerId,
    /// At which sink.
    pub sink: SinkName,
    /// In which replay; `None` for the live delivery.
    pub replay: Option<JobId>,
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
    /// What the far side answered to an attempt that failed, where it is kept: of the first attempt, of the latest one,
    /// and of those at which it changed.
    pub answer: Option<String>,
    /// Which revision the sink was then; `None` where an older version made the attempt.
    pub revision: Option<u32>,
    /// Where that one sent events, without secrets.
    pub target: Option<String>,
}

/// One parked event as recorded, for lists.
#[derive(Clone, Debug)]
pub struct ParkedRecord {
    /// At which sink.
    pub sink: SinkName,
    /// The number of the sink's consumer.
    pub consumer: ConsumerId,
    /// The event.
    pub seq: Seq,
    /// Its id.
    pub event_id: EventId,
    /// Its type.
    pub event_type: EventType,
    /// What it is about.
    pub key: EntityKey,
    /// Attempts so far.
    pub attempts: u32,
    /// When the first attempt began; `None` before it.
    pub first_attempt: Option<Timestamp>,
    /// Not before this.
    pub next_attempt: Timestamp,
    /// Why the last attempt failed; `None` before the first.
    pub last_error: Option<String>,
}

impl ParkedRecord {
    /// Whether no attempt was made, because an earlier event of its key is parked.
    pub fn waits_behind(&self) -> bool {
        self.attempts == 0
    }
}

/// One event at one sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The sink, by the name that it has, or had when it was forgotten.
    pub sink: SinkName,
    /// The number of its consumer.
    pub consumer: ConsumerId,
    /// When a person ended the sink.
    pub forgotten_at: Option<Timestamp>,
    /// What became of the event there.
    pub state: PairState,
}

/// What became of one event at one sink: every pair ends as exactly one of delivered, filtered, dead letter, discarded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PairState {
    /// It came in before the sink's first event.
    BeforeStart,
    /// The cursor has not come to it yet.
    Waiting,
    /// Set aside until a later attempt.
    Parked {
        /// Attempts so far; 0 when it only waits behind an earlier event of its key.
        attempts: u32,
        /// Not before this.
        next_attempt: Timestamp,
    },
    /// The far side holds it.
    Delivered {
        /// When the attempt began.
        at: Timestamp,
        /// What the far side said.
        receipt: String,
    },
    /// The sink does not want it.
    Filtered {
        /// The route that decided.
        route: String,
        /// Since when that route was in force.
        since: Timestamp,
    },
    /// Given up, until a person decides.
    DeadLetter {
        /// The dead letter's number.
        id: i64,
        /// Why.
        reason: String,
        /// When.
        at: Timestamp,
    },
    /// It will not be delivered.
    Discarded {
        /// Why.
        reason: String,
        /// By whom; `None` where nobody had to decide.
        who: Option<String>,
        /// When.
        at: Timestamp,
    },
}

impl PairState {
    /// The word in JSON.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::BeforeStart => "before_start",
            Self::Waiting => "waiting",
            Self::Parked { .. } => "parked",
            Self::Delivered { .. } => "delivered",
            Self::Filtered { .. } => "filtered",
            Self::DeadLetter { .. } => "dead_letter",
            Self::Discarded { .. } => "discarded",
        }
    }
}

/// A sink's consumer as recorded, for `sinks list`.
#[derive(Clone, Debug)]
pub struct SinkRecord {
    /// Its number.
    pub id: ConsumerId,
    /// The sink's name.
    pub name: SinkName,
    /// The name that it had before it was renamed, while the configuration may still use that one.
    pub former_name: Option<SinkName>,
    /// Every event up to here is final or parked.
    pub cursor: Seq,
    /// Events after the cursor.
    pub lag: u64,
    /// Set aside.
    pub parked: u64,
    /// Those of them that come after the cursor: [`Self::lag`] counts them as well.
    pub parked_ahead: u64,
    /// Dead letters that no person has decided about.
    pub dead_letters: u64,
    /// Events delivered so far, first deliveries only.
    pub delivered: u64,
    /// Since when a person has paused it.
    pub paused_since: Option<Timestamp>,
    /// How it stood when it last recorded.
    pub standing: Standing,
    /// How the sink had answered when it last recorded.
    pub health: SinkHealth,
    /// Why it could not be built; `None` when it was.
    pub build_failure: Option<BuildFailure>,
    /// When it was registered.
    pub created_at: Timestamp,
    /// When the oldest event that waits came in: the first after the cursor, or the first that is parked.
    pub oldest_waiting: Option<Timestamp>,
}

impl SinkRecord {
    /// Whether a configuration with these names means this sink by one of them, among the sinks of one inbox: by its name,
    /// or else by the one that it had before, while the configuration has not followed and no other sink has that one.
    pub fn is_meant_by(&self, name: &SinkName, wanted: &[SinkName], among: &[Self]) -> bool {
        let is_taken = || among.iter().any(|other| other.name == *name);
        let has_followed = || wanted.contains(&self.name);
        self.name == *name || self.former_name.as_ref() == Some(name) && !is_taken() && !has_followed()
    }

    /// What it is doing.
    pub fn state(&self) -> SinkState {
        let Self { paused_since, build_failure, standing, health, .. } = self;
        let is_down = standing.breaker_open_since.is_some();
        SinkState::of(paused_since.is_some(), build_failure.is_some(), is_down, health.is_failing())
    }

    /// Events that the sink has still to get: after the cursor, and parked, each counted once.
    pub fn undelivered(&self) -> u64 {
        (self.lag + self.parked).saturating_sub(self.parked_ahead)
    }
}
