//! Jobs: what people asked for, and what came of it.

use serde::Serialize;
use utoipa::ToSchema;

use super::Time;
use crate::inbox::{Job, Task};
use crate::model::SinkName;

/// A job.
#[derive(Serialize, ToSchema)]
#[schema(as = Job)]
pub struct Line<'a> {
    pub(super) id: i64,
    /// `pause`, `resume`, `rename`, `try`, `forget`, `retry`, `discard`, `retry_parked`, `discard_parked`, `admit`,
    /// `purge`, `prune`, `confirm_clock`, `replay` or `cancel`.
    pub(super) task: &'static str,
    /// The sink that it is about, where it is about one.
    pub(super) sink: Option<&'a str>,
    /// `queued`, `running`, `done`, `failed` or `cancelled`.
    pub(super) state: &'static str,
    /// What it has done so far: events delivered, dead letters, parked events, requests, bodies.
    pub(super) done: u64,
    /// What it could not do.
    pub(super) failed: u64,
    /// How much there is to do, where that is known.
    pub(super) total: Option<u64>,
    pub(super) who: &'a str,
    pub(super) reason: &'a str,
    pub(super) created_at: Time,
    pub(super) ended_at: Option<Time>,
    /// What came of it, for people.
    pub(super) message: &'a str,
}

impl<'a> Line<'a> {
    /// One of [`KINDS`].
    pub fn kind(&self) -> &'static str {
        self.task
    }

    /// The sink that it is about, where it is about one.
    pub fn sink(&self) -> Option<&'a str> {
        self.sink
    }
}

impl<'a> From<&'a Job> for Line<'a> {
    fn from(job: &'a Job) -> Self {
        let (task, sink) = about(&job.task);
        Self {
            id: job.id.get(),
            task,
            sink: sink.map(SinkName::as_str),
            state: job.state.as_str(),
            done: job.done,
            failed: job.failed,
            total: job.total,
            who: &job.who,
            reason: &job.reason,
            created_at: Time(job.created_at),
            ended_at: job.ended_at.map(Time),
            message: &job.message,
        }
    }
}

/// Every kind of job, as in [`Line`].
pub const KINDS: [&str; 15] = [
    "pause",
    "resume",
    "rename",
    "try",
    "forget",
    "retry",
    "discard",
    "retry_parked",
    "discard_parked",
    "admit",
    "purge",
    "prune",
    "confirm_clock",
    "replay",
    "cancel",
];

fn about(task: &Task) -> (&'static str, Option<&SinkName>) {
    match task {
        Task::Pause { sink } => ("pause", Some(sink)),
        Task::Resume { sink } => ("resume", Some(sink)),
        Task::Rename { from, .. } => ("rename", Some(from)),
        Task::Retry { letters } => ("retry", letters.sink.as_ref()),
        Task::Discard { letters } => ("discard", letters.sink.as_ref()),
        Task::RetryParked { parked } => ("retry_parked", parked.sink.as_ref()),
        Task::DiscardParked { parked } => ("discard_parked", parked.sink.as_ref()),
        Task::Try { sink } => ("try", Some(sink)),
        Task::Forget { sink } => ("forget", Some(sink)),
        Task::Admit { .. } => ("admit", None),
        Task::Purge { .. } => ("purge", None),
        Task::Prune { .. } => ("prune", None),
        Task::ConfirmClock { .. } => ("confirm_clock", None),
        Task::Replay { sink, .. } => ("replay", Some(sink)),
        Task::Cancel { .. } => ("cancel", None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inbox::JobState;
    use crate::records::replay::tests::replay;

    #[test]
    fn a_job_says_what_who_and_why() {
        let line = serde_json::to_string(&Line::from(&replay(JobState::Running))).unwrap();
        let expected = r#"{"id":7,"task":"replay","sink":"bus","state":"running","done":118,"failed":2,"total":5000,"who":"ann@host","reason":"the ledger was restored","created_at":"2026-01-31T10:00:00.000000Z","ended_at":null,"message":""}"#;
        assert_eq!(line, expected);
    }
}
