//! Replays.

use serde::Serialize;
use utoipa::ToSchema;

use super::Time;
use crate::inbox::{EventFilter, Job, Selection, Task};
use crate::model::{Category, SinkName};

/// A job that is a replay.
#[derive(Clone, Copy)]
pub struct Replay<'a> {
    /// The job.
    pub job: &'a Job,
    /// To which sink.
    pub sink: &'a SinkName,
    /// Which events.
    pub selection: &'a Selection,
    /// Events per second at most.
    pub rate: Option<f64>,
}

impl<'a> Replay<'a> {
    /// `None` for every other kind of job.
    pub fn of(job: &'a Job) -> Option<Self> {
        match &job.task {
            Task::Replay { sink, selection, rate } => Some(Self { job, sink, selection, rate: *rate }),
            Task::Pause { .. }
            | Task::Resume { .. }
            | Task::Rename { .. }
            | Task::Retry { .. }
            | Task::Discard { .. }
            | Task::RetryParked { .. }
            | Task::DiscardParked { .. }
            | Task::Try { .. }
            | Task::Forget { .. }
            | Task::Admit { .. }
            | Task::Purge { .. }
            | Task::Prune { .. }
            | Task::ConfirmClock { .. }
            | Task::Cancel { .. } => None,
        }
    }
}

/// One line of `replay list`.
#[derive(Serialize, ToSchema)]
#[schema(as = ReplayLine)]
pub struct Line<'a> {
    id: i64,
    sink: &'a str,
    state: &'static str,
    done: u64,
    failed: u64,
    total: Option<u64>,
    who: &'a str,
    reason: &'a str,
    created_at: Time,
    ended_at: Option<Time>,
    message: &'a str,
}

impl<'a> From<Replay<'a>> for Line<'a> {
    fn from(Replay { job, sink, .. }: Replay<'a>) -> Self {
        Self {
            id: job.id.get(),
            sink: sink.as_str(),
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

/// A replay with what it is about.
#[derive(Serialize, ToSchema)]
#[schema(as = Replay)]
pub struct Full<'a> {
    #[serde(flatten)]
    line: Line<'a>,
    /// Events per second at most; null for as fast as the sink takes them.
    rate: Option<f64>,
    selection: Part<'a>,
}

impl<'a> From<Replay<'a>> for Full<'a> {
    fn from(replay: Replay<'a>) -> Self {
        let EventFilter { types, categories, source, since, until, key, id, state, search } = &replay.selection.filter;
        let filter = Filter {
            types,
            categories,
            source: source.as_deref(),
            since: since.map(Time),
            until: until.map(Time),
            key: key.as_deref(),
            id: id.as_deref(),
            state: state.as_deref(),
            search: search.as_deref(),
        };
        let Selection { first, last, .. } = replay.selection;
        let selection = Part { first: first.get(), last: last.get(), filter };
        Self { line: replay.into(), rate: replay.rate, selection }
    }
}

/// A part of the log.
#[derive(Serialize, ToSchema)]
#[schema(as = Selection)]
struct Part<'a> {
    /// From this event on.
    first: i64,
    /// Up to this one.
    last: i64,
    filter: Filter<'a>,
}

/// Which events of it; null where it does not narrow.
#[derive(Serialize, ToSchema)]
#[schema(as = SelectionFilter)]
struct Filter<'a> {
    types: &'a [String],
    #[schema(inline)]
    categories: &'a [Category],
    source: Option<&'a str>,
    since: Option<Time>,
    until: Option<Time>,
    key: Option<&'a str>,
    id: Option<&'a str>,
    state: Option<&'a str>,
    search: Option<&'a str>,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::inbox::{JobState, LetterFilter};
    use crate::model::{JobId, Seq};

    pub(crate) fn replay(state: JobState) -> Job {
        let filter = EventFilter { types: vec!["payin.*".to_owned()], ..EventFilter::default() };
        let (first, last) = (Seq::new(3).unwrap(), Seq::new(900).unwrap());
        Job {
            id: JobId::new(7),
            task: Task::Replay {
                sink: SinkName::new("bus").unwrap(),
                selection: Selection { filter, first, last },
                rate: Some(5.0),
            },
            who: "ann@host".to_owned(),
            reason: "the ledger was restored".to_owned(),
            created_at: "2026-01-31T10:00:00Z".parse().unwrap(),
            ended_at: None,
            state,
            done: 118,
            failed: 2,
            total: Some(5000),
            message: String::new(),
            place: 0,
            upto: 0,
        }
    }

    #[test]
    fn the_fields_of_a_list_are_the_documented_ones_in_order() {
        let job = replay(JobState::Running);
        let line = serde_json::to_string(&Line::from(Replay::of(&job).unwrap())).unwrap();
        let expected = r#"{"id":7,"sink":"bus","state":"running","done":118,"failed":2,"total":5000,"who":"ann@host","reason":"the ledger was restored","created_at":"2026-01-31T10:00:00.000000Z","ended_at":null,"message":""}"#;
        assert_eq!(line, expected);
        let retry = Job { task: Task::Retry { letters: LetterFilter::default() }, ..job };
        assert!(Replay::of(&retry).is_none());
    }
}
