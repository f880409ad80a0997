//! What a replay would do, before it is asked for.

use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow;

use super::subject;
use crate::inbox::sqlite::{ReadError, Reader};
use crate::inbox::{Selection, StoredEvent, Tally};
use crate::model::Seq;
use crate::route::{Route, Verdict};

/// Where a replay ends, and why there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpperEnd {
    /// The last event.
    pub seq: Seq,
    /// For people.
    pub why: &'static str,
}

impl UpperEnd {
    /// Never beyond the sink's cursor: what is after it is delivered anyway.
    pub fn new(asked: Option<Seq>, head: Seq, cursor: Seq) -> Self {
        let here = if head <= cursor { (head, "the last event") } else { (cursor, "the sink's cursor") };
        let (seq, why) = match asked {
            Some(asked) if asked < here.0 => (asked, "as asked"),
            Some(_) | None => here,
        };
        Self { seq, why }
    }
}

/// What was counted.
#[derive(Debug, Default)]
pub struct Counts {
    /// Events that match the filters.
    pub matched: u64,
    /// Of these, those that will be delivered.
    pub wanted: u64,
    /// Those that the sink's route does not want.
    pub filtered: u64,
    /// Those that nothing is left of to deliver.
    pub pruned: u64,
    /// Those that share their id with another event, and are held back.
    pub conflicts: u64,
    /// Wanted, because the route could not be evaluated: by what it said.
    pub unsure: BTreeMap<String, u64>,
}

/// Different things that a route's errors may say; the rest is counted under one heading.
const UNSURE: usize = 5;

impl Counts {
    /// Counts one stretch of the log, and what the route says of its events.
    pub fn add(&mut self, events: &[StoredEvent], verdicts: Vec<Verdict>) {
        for (event, verdict) in events.iter().zip(verdicts) {
            self.matched += 1;
            match (event.body.is_some(), event.conflict, verdict) {
                (_, _, Verdict::Filtered) => self.filtered += 1,
                (false, _, _) => self.pruned += 1,
                (true, true, _) => self.conflicts += 1,
                (true, false, Verdict::Wanted) => self.wanted += 1,
                (true, false, Verdict::Unsure(why)) => {
                    self.wanted += 1;
                    let is_new = !self.unsure.contains_key(&why);
                    let why = if is_new && self.unsure.len() >= UNSURE { "other errors".to_owned() } else { why };
                    *self.unsure.entry(why).or_default() += 1;
                }
            }
        }
    }

    /// Counts events that are alike, where the route goes by their type.
    pub fn tally(&mut self, tally: &Tally, is_wanted: bool) {
        self.matched += tally.count;
        let counted = match (is_wanted, tally.has_body, tally.conflict) {
            (false, _, _) => &mut self.filtered,
            (true, false, _) => &mut self.pruned,
            (true, true, true) => &mut self.conflicts,
            (true, true, false) => &mut self.wanted,
        };
        *counted += tally.count;
    }
}

/// The events could not be counted.
#[derive(Debug, thiserror::Error)]
pub enum CountError {
    /// The system refused what a filter needs.
    #[error("a filter could not be asked")]
    Runtime(#[from] io::Error),
    /// The inbox could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Counts what a replay of the selection to a sink with this route would do, in short reads. After each, `watch` is told
/// what was counted, and up to where; it can end the count. Blocks.
pub fn count(
    reader: &mut Reader,
    selection: &Selection,
    route: &Route,
    watch: &mut dyn FnMut(&Counts, Seq) -> ControlFlow<()>,
) -> Result<Counts, CountError> {
    let mut counts = Counts::default();
    if route.is_by_type() {
        reader.tally_selected(selection, &mut |tallies, read_to| {
            tallies.iter().for_each(|tally| counts.tally(tally, route.wants(&tally.event_type)));
            watch(&counts, read_to)
        })?;
    } else {
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        reader.each_selected(selection, &mut |slice| {
            let subjects = slice.events.iter().map(subject).collect();
            counts.add(&slice.events, runtime.block_on(route.judge(subjects)));
            watch(&counts, slice.read_to)
        })?;
    }
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::model::{EntityKey, EventId, EventType, SourceName};
    use crate::route::Glob;

    fn seq(value: i64) -> Seq {
        Seq::new(value).unwrap()
    }

    fn event(event_type: &str, body: Option<&'static [u8]>, conflict: bool) -> StoredEvent {
        StoredEvent {
            seq: seq(1),
            id: EventId::new("evt-1").unwrap(),
            event_type: EventType::canonical(event_type).unwrap(),
            source: SourceName::new("production").unwrap(),
            key: EntityKey::new("order-1").unwrap(),
            time: None,
            received_at: "2026-01-31T10:00:00Z".parse().unwrap(),
            stale: false,
            conflict,
            signature: String::new(),
            content_type: None,
            content_encoding: None,
            body: body.map(Bytes::from_static),
            altered: None,
        }
    }

    #[test]
    fn a_replay_ends_where_live_delivery_is() {
        let end = |asked: Option<i64>, head, cursor| {
            let end = UpperEnd::new(asked.map(seq), seq(head), seq(cursor));
            (end.seq.get(), end.why)
        };
        assert_eq!(end(None, 100, 60), (60, "the sink's cursor"));
        assert_eq!(end(None, 100, 100), (100, "the last event"));
        assert_eq!(end(Some(50), 100, 60), (50, "as asked"));
        assert_eq!(end(Some(80), 100, 60), (60, "the sink's cursor"));
        assert_eq!(end(Some(999), 100, 100), (100, "the last event"));
    }

    #[test]
    fn every_event_that_matches_is_counted_once() {
        let route = Route::new(vec![Glob::new("payin.*").unwrap()]);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut counts = Counts::default();
        let events = vec![
            event("payin.completed", Some(b"{}"), false),
            event("payin.failed", Some(b"{}"), false),
            event("payout.completed", Some(b"{}"), false),
            event("payin.completed", None, false),
            event("payout.completed", None, false),
            event("payin.completed", Some(b"[]"), true),
        ];
        let verdicts = runtime.block_on(route.judge(events.iter().map(subject).collect()));
        counts.add(&events, verdicts);
        let Counts { matched, wanted, filtered, pruned, conflicts, unsure } = counts;
        assert_eq!((matched, wanted, filtered, pruned, conflicts), (6, 2, 2, 1, 1));
        assert!(unsure.is_empty());

        // Counted by type, the same.
        let mut tallied = Counts::default();
        for event in &events {
            let (event_type, has_body) = (event.event_type.clone(), event.body.is_some());
            let tally = Tally { conflict: event.conflict, has_body, count: 1, event_type };
            tallied.tally(&tally, route.wants(&tally.event_type));
        }
        assert_eq!((tallied.matched, tallied.wanted, tallied.filtered), (6, 2, 2));
        assert_eq!((tallied.pruned, tallied.conflicts), (1, 1));
    }
}
