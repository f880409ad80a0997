//! Replays in JSON output and for people; the names and the order of the fields are fixed.

use serde::Serialize;

use crate::cli::output::utc;
use crate::cli::view::View;
use crate::inbox::{EventFilter, Job, Selection, Task};
use crate::model::SinkName;

/// A job that is a replay.
#[derive(Clone, Copy)]
pub(super) struct Replay<'a> {
    pub(super) job: &'a Job,
    pub(super) sink: &'a SinkName,
    pub(super) selection: &'a Selection,
    pub(super) rate: Option<f64>,
}

impl<'a> Replay<'a> {
    /// `None` for every other kind of job.
    pub(super) fn of(job: &'a Job) -> Option<Self> {
        match &job.task {
            Task::Replay { sink, selection, rate } => Some(Self { job, sink, selection, rate: *rate }),
            Task::Pause { .. }
            | Task::Resume { .. }
            | Task::Rename { .. }
            | Task::Retry { .. }
            | Task::Discard { .. }
            | Task::Admit { .. }
            | Task::Purge { .. }
            | Task::Prune { .. }
            | Task::Cancel { .. } => None,
        }
    }
}

/// One line of `replay list`.
#[derive(Serialize)]
pub(super) struct Line<'a> {
    id: i64,
    sink: &'a str,
    state: &'static str,
    done: u64,
    failed: u64,
    total: Option<u64>,
    who: &'a str,
    reason: &'a str,
    created_at: String,
    ended_at: Option<String>,
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
            created_at: utc(job.created_at),
            ended_at: job.ended_at.map(utc),
            message: &job.message,
        }
    }
}

/// The filters in words, not yet clean for a terminal.
pub(super) fn filters(view: &View, filter: &EventFilter) -> String {
    let EventFilter { types, categories, source, since, until, key, id, state, search } = filter;
    let mut parts = Vec::new();
    let mut part = |name: &str, value: Option<String>| parts.extend(value.map(|value| format!("{name} {value}")));
    part("type", (!types.is_empty()).then(|| types.join(" or ")));
    let categories: Vec<&str> = categories.iter().map(|category| category.as_str()).collect();
    part("category", (!categories.is_empty()).then(|| categories.join(" or ")));
    part("source", source.clone());
    part("since", since.map(|at| view.exactly(at)));
    part("until", until.map(|at| view.exactly(at)));
    part("key", key.clone());
    part("id", id.clone());
    part("state", state.clone());
    part("with the text", search.clone());
    if parts.is_empty() { "all".to_owned() } else { parts.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::errand::tests::replay;
    use crate::inbox::{JobState, LetterFilter};
    use crate::model::Category;

    #[test]
    fn the_fields_of_a_list_are_the_documented_ones_in_order() {
        let job = replay(JobState::Running);
        let line = serde_json::to_string(&Line::from(Replay::of(&job).unwrap())).unwrap();
        let expected = r#"{"id":7,"sink":"bus","state":"running","done":118,"failed":2,"total":5000,"who":"ann@host","reason":"the ledger was restored","created_at":"2026-01-31T10:00:00.000000Z","ended_at":null,"message":""}"#;
        assert_eq!(line, expected);
        let retry = Job { task: Task::Retry { letters: LetterFilter::default() }, ..job };
        assert!(Replay::of(&retry).is_none());
    }

    #[test]
    fn filters_are_told_in_words() {
        assert_eq!(filters(&View::plain(), &EventFilter::default()), "all");
        let filter = EventFilter {
            types: vec!["payin.*".to_owned(), "payout.*".to_owned()],
            categories: vec![Category::Payin],
            since: Some("2026-01-31T10:00:00Z".parse().unwrap()),
            ..EventFilter::default()
        };
        let text = "type payin.* or payout.*, category payin, since 2026-01-31T10:00:00.000000Z";
        assert_eq!(filters(&View::plain(), &filter), text);
    }
}
