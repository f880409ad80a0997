//! The log: what is stored, in what order, and how far each consumer has come. [`Inbox`] is the daemon's view of it;
//! [`sqlite`] is the implementation, and [`sqlite::Reader`] browses it, daemon or no daemon.

mod believed;
#[cfg(test)]
pub(crate) mod contract;
mod definition;
mod event;
mod job;
mod letter;
#[cfg(test)]
pub(crate) mod memory;
mod progress;
mod quarantine;
pub mod sqlite;
mod unconfigured;
mod undelivered;

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::watch;

pub use believed::{BelievedClock, ClockAhead};
pub use definition::{Because, SinkDefinition, SinkRevision};
pub use event::{
    Admission, Altered, AppendKind, Appended, EventDetail, EventFilter, EventOutline, EventSummary, NewAdmission,
    NewEvent, SecretUse, SecretUses, Slice, StoredEvent, Stretch, Tally,
};
pub use job::{
    Advance, Change, ConfiguredSink, Effect, Job, JobState, JobUpdate, LetterFilter, NewJob, ParkedFilter,
    QuarantineFilter, RecordItem, Released, Selection, Task,
};
pub use letter::{DeadLetterRecord, Decision, LetterState};
pub use progress::{
    Attempt, AttemptRecord, AttemptState, BuildFailure, ConsumerId, ConsumerState, DeadLetter, Discarded, Pair,
    PairState, Parked, ParkedRecord, Progress, Registered, Registration, SinkHealth, SinkRecord, Standing,
};
pub use quarantine::{
    NoRoom, QuarantineCounts, QuarantineLimits, QuarantineOutcome, Quarantined, RefusalAnswer, Refused, RefusedSource,
};
pub use unconfigured::{Successor, Unconfigured, unconfigured};
pub use undelivered::{OldestUndelivered, Undelivered, UndeliveredType};

use crate::clock::Uptime;
use crate::model::{Digest, JobId, Seq, SinkName, Start};

/// The checked settings of the inbox.
#[derive(Clone, Debug)]
pub struct Config {
    /// The database file. `-wal` and `-shm` files stand beside it, and with its stem `.lock`, `.waiting` and `.times`.
    pub path: PathBuf,
    /// Bounds of the quarantine.
    pub quarantine: QuarantineLimits,
    /// The most bytes of memory that the filter over known event ids takes.
    pub dedup_memory: u64,
    /// How long bodies are kept at least, counted from their arrival; `None` = for ever.
    pub retention: Option<Duration>,
}

/// Nothing was stored, and it may work later, unless it was refused: the sender is answered 503, or 500 where it is the
/// event itself.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
pub enum Unavailable {
    /// Too many appends are waiting.
    #[error("the inbox has too many writes waiting")]
    Busy,
    /// The inbox is shutting down, or has failed for good.
    #[error("the inbox is closed")]
    Closed,
    /// The storage said no: disk full, I/O error, locked.
    #[error("the inbox could not write: {0}")]
    Storage(String),
    /// What was asked for cannot be done, and could not be later either.
    #[error("{0}")]
    Refused(String),
    /// The database refuses this event, and no other: the sender is answered 500.
    #[error("the database refuses the event: {0}")]
    Unstorable(String),
}

/// The log of events, as the daemon uses it.
///
/// Every method is safe to drop at any await: a write that was handed over is carried out (or not) all the same,
/// and the caller just does not learn which.
#[async_trait]
pub trait Inbox: Send + Sync {
    /// Stores one event and returns once it is durable; for a duplicate, once its first copy is.
    async fn append(&self, event: NewEvent) -> Result<Appended, Unavailable>;

    /// Keeps a refused request where there is room for it, and returns once it is durable; one that is kept already is not
    /// kept twice. Whatever else comes of it than [`QuarantineOutcome::Kept`]: the sender must be answered 503.
    async fn quarantine(&self, refused: Refused) -> Result<QuarantineOutcome, Unavailable>;

    /// The last durable event. A hint: a consumer polls as well.
    fn head(&self) -> watch::Receiver<Seq>;

    /// Up to `limit` events after `after`, in order, cut off earlier once their bodies pass 8 MiB, or once enough was
    /// looked at in vain. With a selection: only events of it.
    async fn read_after(&self, after: Seq, limit: usize, of: Option<Selection>) -> Result<Slice, Unavailable>;

    /// The given events, in order; those that do not exist are left out.
    async fn read(&self, seqs: Vec<Seq>) -> Result<Vec<StoredEvent>, Unavailable>;

    /// Marks events whose bodies are not what came in, each with the SHA-256 of the body that was found, durably; the first
    /// finding stays. It is an alarm: an ERROR line, and a metric.
    async fn note_altered(&self, found: Vec<(Seq, Digest)>) -> Result<(), Unavailable>;

    /// The given events without their bodies, in order; those that do not exist are left out. A hundred thousand take well
    /// under a second.
    async fn outlines(&self, seqs: Vec<Seq>) -> Result<Vec<EventOutline>, Unavailable>;

    /// Settles which consumer each sink of a configuration has, in one transaction; the answer is in the order of `sinks`.
    /// A name means the sink that has it, or else the one that had it before it was renamed, unless that one's present name
    /// is in the configuration too; a name that means none gets a consumer of its own, with its cursor before `start`.
    async fn register_sinks(&self, sinks: Vec<(SinkName, Start)>) -> Result<Vec<Registered>, Unavailable>;

    /// Whether there is a sink that has this name, or had it before it was renamed.
    async fn has_sink(&self, name: SinkName) -> Result<bool, Unavailable>;

    /// Notes why a sink cannot be built or opened, with the time at which that was first noted; `None` = it is.
    async fn note_built(&self, consumer: ConsumerId, failure: Option<String>) -> Result<(), Unavailable>;

    /// Keeps what a sink is, as a revision, where that is not what it was; attempts that are recorded from now on are of that
    /// revision. A sink that the inbox does not know has none.
    async fn note_definition(
        &self,
        sink: SinkName,
        definition: SinkDefinition,
        because: Because,
    ) -> Result<(), Unavailable>;

    /// A consumer as it was last recorded, made when it is new. `route` is stored as the revision that decides from
    /// the cursor on.
    async fn consumer(&self, who: Registration, route: String) -> Result<ConsumerState, Unavailable>;

    /// Records attempts, parked events, dead letters and the cursor in one transaction, durably. A replay's deliveries
    /// are counted in its job.
    async fn record(&self, progress: Progress) -> Result<(), Unavailable>;

    /// Stores a job, to be carried out.
    async fn submit(&self, job: NewJob) -> Result<JobId, Unavailable>;

    /// The jobs that have not ended, in the order in which they were asked for.
    async fn open_jobs(&self) -> Result<Vec<Job>, Unavailable>;

    /// Carries out the next portion of a job in one transaction with its row, durably; a job that has ended stays
    /// as it is. For every task but [`Task::Admit`], [`Task::Replay`] and [`Task::Cancel`], which need more than the
    /// inbox. `sinks` are the configured ones; with nothing to do for now, nothing is written.
    async fn advance(&self, job: JobId, sinks: &[ConfiguredSink]) -> Result<Advance, Unavailable>;

    /// Notes how far a job is, durably; a job that has ended stays as it is.
    async fn update_job(&self, job: JobId, update: JobUpdate) -> Result<(), Unavailable>;

    /// Up to `limit` quarantined requests with numbers after the first bound and up to the second, in order, with their
    /// bodies; fewer once those pass 8 MiB.
    async fn quarantined(
        &self,
        which: QuarantineFilter,
        bounds: (i64, i64),
        limit: usize,
    ) -> Result<Vec<Quarantined>, Unavailable>;

    /// Notes the next portion of a [`Task::Admit`] in one transaction, durably: requests that have become events leave the
    /// quarantine, and the job's numbers and place are those after the portion. So a portion counts once, whatever ends
    /// the process. A job that has ended stays as it is.
    async fn release(&self, job: JobId, portion: Released) -> Result<(), Unavailable>;

    /// Notes the time, durably, and says which time retention may believe. See [`BelievedClock`].
    async fn note_clock(&self, uptime: Uptime) -> Result<BelievedClock, Unavailable>;

    /// Why writes fail at the moment, if they do: for readiness.
    fn trouble(&self) -> Option<String>;

    /// Resolves when the inbox has failed for good (a failed fsync): the process must exit.
    async fn failed(&self) -> String;

    /// Writes what is waiting and closes. Appends are refused from now on.
    async fn close(&self);
}

/// How long a reader may hold its snapshot, so that checkpoints finish.
pub const MAX_SNAPSHOT: Duration = Duration::from_secs(1);

/// Microseconds since the epoch, as stored.
pub(crate) fn micros(at: Timestamp) -> i64 {
    at.as_microsecond()
}

/// The stored form of a time; one that is out of range (a damaged row) reads as the epoch.
pub(crate) fn from_micros(at: i64) -> Timestamp {
    Timestamp::from_microsecond(at).unwrap_or(Timestamp::UNIX_EPOCH)
}
