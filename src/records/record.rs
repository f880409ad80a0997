//! The record: what people and the relay did, and what it was about. Every job is an entry of it.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::Time;
use super::job::{KINDS, Line};
use super::words::list;
use crate::inbox::{EventFilter, Job, LetterFilter, ParkedFilter, QuarantineFilter, RecordItem, Selection, Task};
use crate::model::{Seq, SinkName};

/// One line of `record list`.
#[derive(Serialize, ToSchema)]
#[schema(as = RecordEntry)]
pub struct Entry<'a> {
    id: i64,
    /// As `task` of a job.
    kind: &'static str,
    /// The sink that it is about, where it is about one.
    sink: Option<&'a str>,
    /// What was chosen, in words; empty where the kind and the sink say it all.
    about: String,
    /// `queued`, `running`, `done`, `failed` or `cancelled`.
    state: &'static str,
    /// What it has done so far: events delivered, dead letters, parked events, requests, bodies.
    done: u64,
    /// What it could not do.
    failed: u64,
    /// How much there is to do, where that is known.
    total: Option<u64>,
    who: &'a str,
    reason: &'a str,
    created_at: Time,
    ended_at: Option<Time>,
    /// What came of it, for people.
    message: &'a str,
}

impl<'a> From<&'a Job> for Entry<'a> {
    fn from(job: &'a Job) -> Self {
        let Line { id, task, sink, state, done, failed, total, who, reason, created_at, ended_at, message } =
            job.into();
        let about = about(&job.task);
        Self { id, kind: task, sink, about, state, done, failed, total, who, reason, created_at, ended_at, message }
    }
}

/// `record show`.
#[derive(Serialize, ToSchema)]
#[schema(as = RecordDetail)]
pub struct Full<'a> {
    #[serde(flatten)]
    entry: Entry<'a>,
    /// What was chosen: only what narrows it.
    #[schema(value_type = Object)]
    filter: Map<String, Value>,
    /// The first things that it was about, a thousand at most.
    items: Vec<Item<'a>>,
    /// How many there were.
    items_total: u64,
}

impl<'a> Full<'a> {
    /// An entry with what the inbox keeps of it.
    pub fn new(job: &'a Job, items: &'a [RecordItem]) -> Self {
        Self {
            entry: job.into(),
            filter: filter(&job.task),
            items: items.iter().map(Item::from).collect(),
            items_total: items_total(job, items),
        }
    }
}

/// How many things an entry was about: what is kept of them may be fewer.
pub fn items_total(job: &Job, items: &[RecordItem]) -> u64 {
    let listed = items.len() as u64;
    if let Task::Forget { .. } = job.task {
        // What a removed sink had not come to is counted, and not listed.
        return listed;
    }
    let given_up = if let Task::Replay { .. } = job.task { job.failed } else { 0 };
    listed.max(job.done + given_up)
}

/// One thing that an entry of the record is about.
#[derive(Serialize, ToSchema)]
#[schema(as = RecordItem)]
struct Item<'a> {
    /// The number of a dead letter, or of a quarantined request.
    number: Option<i64>,
    /// An event's place in the log.
    seq: Option<i64>,
    event_id: Option<&'a str>,
    r#type: Option<&'a str>,
    sink: Option<&'a str>,
    /// Of a request's body that is gone.
    body_sha256: Option<String>,
}

impl<'a> From<&'a RecordItem> for Item<'a> {
    fn from(item: &'a RecordItem) -> Self {
        Self {
            number: item.number,
            seq: item.seq.map(Seq::get),
            event_id: item.event_id.as_ref().map(|id| id.as_str()),
            r#type: item.event_type.as_ref().map(|event_type| event_type.as_str()),
            sink: item.sink.as_ref().map(SinkName::as_str),
            body_sha256: item.body_sha256.map(|digest| digest.to_string()),
        }
    }
}

/// What is asked of the record. Every field narrows.
#[derive(Clone, Debug, Default)]
pub struct RecordFilter {
    /// Asked for at or after.
    pub since: Option<Timestamp>,
    /// Asked for before.
    pub until: Option<Timestamp>,
    /// Text that the name of who asked holds, ignoring case.
    pub by: Option<String>,
    /// Any of these kinds; none means all.
    pub kinds: Vec<String>,
}

impl RecordFilter {
    /// Whether it lets a job through.
    pub fn matches(&self, job: &Job) -> bool {
        let Self { since, until, by, kinds } = self;
        let kind = Line::from(job).task;
        since.is_none_or(|since| job.created_at >= since)
            && until.is_none_or(|until| job.created_at < until)
            && by.as_ref().is_none_or(|by| job.who.to_lowercase().contains(&by.to_lowercase()))
            && (kinds.is_empty() || kinds.iter().any(|wanted| wanted == kind))
    }
}

/// A kind of entry, as it is typed.
pub fn kind(text: &str) -> Result<String, String> {
    let wanted = text.replace('-', "_");
    match KINDS.contains(&wanted.as_str()) {
        true => Ok(wanted),
        false => Err(format!("there is no such kind: write one of {}", list(&KINDS))),
    }
}

/// What was chosen, only what narrows it, with the names of the stored filter.
fn filter(task: &Task) -> Map<String, Value> {
    let chosen = match task {
        Task::Retry { letters } | Task::Discard { letters } => serde_json::to_value(letters),
        Task::RetryParked { parked } | Task::DiscardParked { parked } => serde_json::to_value(parked),
        Task::Admit { requests } | Task::Purge { requests } => serde_json::to_value(requests),
        Task::Replay { selection: Selection { filter, first, last }, rate, .. } => {
            serde_json::to_value(filter).map(|mut filter| {
                filter["first"] = first.get().into();
                filter["last"] = last.get().into();
                filter["rate"] = (*rate).into();
                filter
            })
        }
        Task::Prune { before, .. } => Ok(serde_json::json!({ "before": Time(*before) })),
        Task::Rename { to, swap, .. } => Ok(serde_json::json!({ "to": to, "swap": swap })),
        Task::ConfirmClock { at } => Ok(serde_json::json!({ "at": Time(*at) })),
        Task::Cancel { job } => Ok(serde_json::json!({ "job": job.get() })),
        Task::Pause { .. } | Task::Resume { .. } | Task::Try { .. } | Task::Forget { .. } => Ok(Value::Null),
    };
    let Ok(Value::Object(mut chosen)) = chosen else { return Map::new() };
    chosen.retain(|_, value| !value.is_null() && !value.as_array().is_some_and(Vec::is_empty));
    chosen
}

/// What was chosen, in words.
pub fn about(task: &Task) -> String {
    match task {
        Task::Pause { .. } | Task::Resume { .. } | Task::Try { .. } | Task::Forget { .. } => String::new(),
        Task::Rename { from, to, swap: false } => format!("sink '{from}' to '{to}'"),
        Task::Rename { from, to, swap: true } => format!("sinks '{from}' and '{to}' exchange their names"),
        Task::Retry { letters } | Task::Discard { letters } => {
            let LetterFilter { ids, sink, types, event_id, key, reason, since, until } = letters;
            narrowed(
                "dead letters",
                &[
                    numbers(ids),
                    of_sink(sink.as_ref()),
                    of_types(types),
                    said("event id", event_id.as_ref()),
                    said("key", key.as_ref()),
                    said("reason holds", reason.as_ref()),
                    at("given up since", *since),
                    at("given up before", *until),
                ],
            )
        }
        Task::RetryParked { parked } | Task::DiscardParked { parked } => {
            let ParkedFilter { seqs, sink, types, event_id, key, error } = parked;
            narrowed(
                "parked events",
                &[
                    numbers(seqs),
                    of_sink(sink.as_ref()),
                    of_types(types),
                    said("event id", event_id.as_ref()),
                    said("key", key.as_ref()),
                    said("error holds", error.as_ref()),
                ],
            )
        }
        Task::Admit { requests } | Task::Purge { requests } => {
            let QuarantineFilter { ids, source, since, until } = requests;
            let parts = [
                numbers(ids),
                said("source", source.as_ref()),
                at("received since", *since),
                at("received before", *until),
            ];
            narrowed("quarantined requests", &parts)
        }
        Task::Prune { before, .. } => format!("bodies of events received before {before:.0}"),
        Task::ConfirmClock { at } => format!("the clock, at {at:.0}"),
        Task::Replay { selection: Selection { filter, first, last }, .. } => {
            narrowed(&format!("events {first} to {last}"), &of_events(filter))
        }
        Task::Cancel { job } => format!("job {job}"),
    }
}

fn of_events(filter: &EventFilter) -> Vec<Option<String>> {
    let EventFilter { types, categories, source, since, until, key, id, state, search } = filter;
    let categories: Vec<&str> = categories.iter().map(|category| category.as_str()).collect();
    vec![
        of_types(types),
        (!categories.is_empty()).then(|| format!("category {}", categories.join(" or "))),
        said("source", source.as_ref()),
        at("received since", *since),
        at("received before", *until),
        said("key", key.as_ref()),
        said("event id", id.as_ref()),
        said("state", state.as_ref()),
        said("body holds", search.as_ref()),
    ]
}

/// Numbers that are named before the rest is only counted.
const NAMED: usize = 20;

fn numbers(numbers: &[i64]) -> Option<String> {
    let named: Vec<String> = numbers.iter().take(NAMED).map(i64::to_string).collect();
    let more = numbers.len() - named.len();
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    (!numbers.is_empty()).then(|| format!("{}{more}", named.join(", ")))
}

fn of_sink(sink: Option<&SinkName>) -> Option<String> {
    sink.map(|sink| format!("sink '{sink}'"))
}

fn of_types(types: &[String]) -> Option<String> {
    (!types.is_empty()).then(|| format!("type {}", types.join(" or ")))
}

fn said(what: &str, text: Option<&String>) -> Option<String> {
    text.map(|text| format!("{what} '{text}'"))
}

fn at(what: &str, at: Option<Timestamp>) -> Option<String> {
    at.map(|at| format!("{what} {at:.0}"))
}

fn narrowed(what: &str, parts: &[Option<String>]) -> String {
    let parts: Vec<&str> = parts.iter().flatten().map(String::as_str).collect();
    if parts.is_empty() { format!("all {what}") } else { format!("{what}: {}", parts.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inbox::JobState;
    use crate::records::replay::tests::replay;

    fn discard() -> Job {
        let letters = LetterFilter {
            ids: (1..=22).collect(),
            sink: Some(SinkName::new("ledger").unwrap()),
            types: vec!["payin.*".to_owned(), "payout.*".to_owned()],
            ..LetterFilter::default()
        };
        Job { task: Task::Discard { letters }, done: 22, ..replay(JobState::Done) }
    }

    #[test]
    fn an_entry_says_what_was_chosen() {
        let twenty: Vec<String> = (1..=20).map(|n: i32| n.to_string()).collect();
        let expected =
            format!("dead letters: {} and 2 more, sink 'ledger', type payin.* or payout.*", twenty.join(", "));
        assert_eq!(about(&discard().task), expected);
        assert_eq!(about(&Task::Purge { requests: QuarantineFilter::default() }), "all quarantined requests");
        assert_eq!(about(&replay(JobState::Done).task), "events 3 to 900: type payin.*");
        let entry = serde_json::to_string(&Entry::from(&replay(JobState::Running))).unwrap();
        let expected = r#"{"id":7,"kind":"replay","sink":"bus","about":"events 3 to 900: type payin.*","state":"running","done":118,"failed":2,"total":5000,"who":"ann@host","reason":"the ledger was restored","created_at":"2026-01-31T10:00:00.000000Z","ended_at":null,"message":""}"#;
        assert_eq!(entry, expected);
    }

    #[test]
    fn what_is_kept_is_shown_with_how_many_there_were() {
        let item = RecordItem { number: Some(12), seq: Seq::new(7), ..RecordItem::default() };
        let items = [item];
        let shown = serde_json::to_value(Full::new(&discard(), &items)).unwrap();
        assert_eq!((&shown["items_total"], &shown["items"][0]["number"]), (&22.into(), &12.into()));
        assert_eq!(shown["filter"]["sink"], "ledger");
        assert!(shown["filter"].get("key").is_none() && shown["filter"].get("event_id").is_none(), "{shown}");
    }

    #[test]
    fn every_part_of_a_filter_narrows() {
        let job = replay(JobState::Done);
        let at = job.created_at;
        let base = RecordFilter::default;
        assert!(base().matches(&job));
        assert!(RecordFilter { by: Some("ANN".to_owned()), since: Some(at), ..base() }.matches(&job));
        assert!(!RecordFilter { by: Some("bob".to_owned()), ..base() }.matches(&job));
        assert!(!RecordFilter { until: Some(at), ..base() }.matches(&job), "before, not at");
        assert!(!RecordFilter { kinds: vec!["purge".to_owned()], ..base() }.matches(&job));
        assert!(RecordFilter { kinds: vec!["purge".to_owned(), "replay".to_owned()], ..base() }.matches(&job));
        assert_eq!(kind("confirm-clock"), Ok("confirm_clock".to_owned()));
        assert!(kind("retrys").unwrap_err().contains("retry_parked"));
    }
}
