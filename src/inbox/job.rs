//! What people ask for: jobs. Stored before they are carried out, and kept as evidence of who wanted what, when and why.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::EventFilter;
use super::progress::{ConsumerId, Parked};
use crate::model::{Digest, EventId, EventType, JobId, Seq, SinkName};

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "task", rename_all = "snake_case")]
pub enum Task {
    /// Stop delivering to a sink; its cursor stands still.
    Pause {
        /// Which.
        sink: SinkName,
    },
    /// Go on.
    Resume {
        /// Which.
        sink: SinkName,
    },
    /// Give a sink's place in the log another name.
    Rename {
        /// The name that it has.
        from: SinkName,
        /// The name that it gets.
        to: SinkName,
        /// The sink that has that name gets the other one. Both are paused: until the configuration has followed, its names
        /// mean the wrong ones.
        #[serde(default)]
        swap: bool,
    },
    /// Try dead letters again: they are parked, due at once.
    Retry {
        /// Which.
        letters: LetterFilter,
    },
    /// Give dead letters up for good, for the job's reason.
    Discard {
        /// Which.
        letters: LetterFilter,
    },
    /// Make parked events due now.
    RetryParked {
        /// Which.
        parked: ParkedFilter,
    },
    /// Give parked events up, for the job's reason.
    DiscardParked {
        /// Which.
        parked: ParkedFilter,
    },
    /// Try a sink now, whatever its next attempt is due for.
    Try {
        /// Which.
        sink: SinkName,
    },
    /// End a sink that is not configured any more: what it has not got is discarded, for the job's reason, and its name may
    /// be used anew.
    Forget {
        /// Which.
        sink: SinkName,
    },
    /// Check quarantined requests again with the secrets of now, and store those that hold.
    Admit {
        /// Which.
        requests: QuarantineFilter,
    },
    /// Delete quarantined requests.
    Purge {
        /// Which.
        requests: QuarantineFilter,
    },
    /// Drop the bodies of old events; ids and digests stay.
    Prune {
        /// Received before this.
        before: Timestamp,
        /// The configured sinks: no body goes that one of them has still to read. Parked events and open dead letters
        /// hold their bodies whether their sink is configured or not.
        sinks: Vec<SinkName>,
    },
    /// Believe the clock: a person says that it is right, though it is further ahead than retention believes.
    ConfirmClock {
        /// What the person's clock said.
        at: Timestamp,
    },
    /// Deliver stored events again.
    Replay {
        /// To which sink.
        sink: SinkName,
        /// Which events.
        selection: Selection,
        /// Events per second at most; `None` as fast as the sink takes them.
        rate: Option<f64>,
    },
    /// Stop a job that has not ended.
    Cancel {
        /// Which.
        job: JobId,
    },
}

/// A part of the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Selection {
    /// Which events.
    pub filter: EventFilter,
    /// From this one on.
    pub first: Seq,
    /// Up to this one.
    pub last: Seq,
}

/// Which dead letters. Every field narrows; the default is all of them that no person has decided about.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LetterFilter {
    /// These numbers.
    pub ids: Vec<i64>,
    /// Of this sink.
    pub sink: Option<SinkName>,
    /// Globs over canonical types; any may match.
    pub types: Vec<String>,
    /// Of the event with this id, exactly.
    pub event_id: Option<String>,
    /// Of this entity, exactly.
    pub key: Option<String>,
    /// Whose reason holds this text.
    pub reason: Option<String>,
    /// Given up at or after.
    pub since: Option<Timestamp>,
    /// Given up before.
    pub until: Option<Timestamp>,
}

/// Which parked events. Every field narrows; the default is all those of the sinks' own consumers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ParkedFilter {
    /// These places in the log.
    pub seqs: Vec<i64>,
    /// At this sink.
    pub sink: Option<SinkName>,
    /// Globs over canonical types; any may match.
    pub types: Vec<String>,
    /// The event with this id, exactly.
    pub event_id: Option<String>,
    /// Of this entity, exactly.
    pub key: Option<String>,
    /// Whose last error holds this text.
    pub error: Option<String>,
}

/// A configured sink, as far as jobs depend on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfiguredSink {
    /// Its name in the configuration.
    pub name: SinkName,
    /// How many events may be parked for it.
    pub max_parked: usize,
}

/// Which quarantined requests. Every field narrows; the default is all of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct QuarantineFilter {
    /// These numbers.
    pub ids: Vec<i64>,
    /// Of this source.
    pub source: Option<String>,
    /// Received at or after.
    pub since: Option<Timestamp>,
    /// Received before.
    pub until: Option<Timestamp>,
}

/// A job to be stored.
#[derive(Clone, Debug, PartialEq)]
pub struct NewJob {
    /// What.
    pub task: Task,
    /// Who wants it.
    pub who: String,
    /// Why; empty where nobody said.
    pub reason: String,
    /// How much there is to do, where that is known.
    pub total: Option<u64>,
    /// When it was asked for.
    pub at: Timestamp,
}

impl NewJob {
    /// The job as it is once it is stored, before anybody has carried out anything of it.
    pub fn queued(self, id: JobId) -> Job {
        let Self { task, who, reason, total, at } = self;
        let (state, done, failed, message) = (JobState::Queued, 0, 0, String::new());
        let (created_at, ended_at, place, upto) = (at, None, 0, 0);
        Job { id, task, who, reason, created_at, ended_at, state, done, failed, total, message, place, upto }
    }
}

/// How far a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobState {
    /// Not begun.
    Queued,
    /// Begun.
    Running,
    /// Ended as asked.
    Done,
    /// Ended otherwise: [`Job::message`] says why.
    Failed,
    /// Stopped by a person.
    Cancelled,
}

impl JobState {
    /// Every state.
    pub const ALL: [Self; 5] = [Self::Queued, Self::Running, Self::Done, Self::Failed, Self::Cancelled];

    /// The word in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether nothing more will happen.
    pub fn has_ended(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }
}

/// A job as stored.
#[derive(Clone, Debug)]
pub struct Job {
    /// Its number.
    pub id: JobId,
    /// What.
    pub task: Task,
    /// Who wanted it.
    pub who: String,
    /// Why.
    pub reason: String,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// How far it is.
    pub state: JobState,
    /// What it has done so far: events delivered by a replay, dead letters, requests or bodies otherwise.
    pub done: u64,
    /// What it could not do: events that a replay gave up, requests whose signature still does not hold.
    pub failed: u64,
    /// How much there is to do, where that is known.
    pub total: Option<u64>,
    /// What came of it, for people.
    pub message: String,
    /// The last of the numbered things that it is about, such as quarantined requests, which it has looked at.
    pub place: i64,
    /// The last one that was there when it began; what comes later is none of its business.
    pub upto: i64,
}

/// A portion of a [`Task::Admit`].
#[derive(Clone, Debug, Default)]
pub struct Released {
    /// Requests that have become events, each with its event's place.
    pub admitted: Vec<(i64, Seq)>,
    /// Requests whose signature still does not hold.
    pub failed: u64,
    /// The last request that was looked at.
    pub place: i64,
}

/// One thing that a job was about, for the record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordItem {
    /// At which sink.
    pub sink: Option<SinkName>,
    /// The number of a dead letter, or of a quarantined request.
    pub number: Option<i64>,
    /// An event's place in the log.
    pub seq: Option<Seq>,
    /// Its id.
    pub event_id: Option<EventId>,
    /// Its type.
    pub event_type: Option<EventType>,
    /// SHA-256 of a request's body that is gone.
    pub body_sha256: Option<Digest>,
}

/// A change of a job that is not carried out within the inbox.
#[derive(Clone, Debug, Default)]
pub struct JobUpdate {
    /// The state from now on; `None` leaves it.
    pub state: Option<JobState>,
    /// Added to [`Job::done`].
    pub done: u64,
    /// Added to [`Job::failed`].
    pub failed: u64,
    /// How much there is to do; `None` leaves it.
    pub total: Option<u64>,
    /// What came of it; `None` leaves it.
    pub message: Option<String>,
}

/// What one portion of a job came to.
#[derive(Clone, Debug, Default)]
pub struct Advance {
    /// What running consumers have to know.
    pub effects: Vec<Effect>,
    /// Whether the job has ended. Otherwise it goes on with the next portion.
    pub ended: bool,
    /// Whether the next portion has to wait for a consumer to work off what is parked.
    pub must_wait: bool,
}

/// What a job has changed under a consumer, which may be running.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effect {
    /// Whose.
    pub consumer: ConsumerId,
    /// What.
    pub change: Change,
}

/// See [`Effect`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is paused: a sink's own consumer, or with it that of a replay to the sink.
    Paused,
    /// It goes on.
    Resumed,
    /// Dead letters that are parked now.
    Revived(Vec<Parked>),
    /// So many dead letters less.
    Discarded(u64),
    /// A person wants the sink tried now: everything parked is due, and a sink that is down is probed.
    TryNow,
    /// These parked events are due now.
    Due(Vec<Seq>),
    /// These events are parked no more: a person has discarded them.
    Unparked(Vec<Seq>),
}
