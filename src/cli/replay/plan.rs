//! What a replay would do.

use std::collections::BTreeMap;
use std::io::Write;
use std::ops::ControlFlow;
use std::time::Duration;

use indicatif::HumanDuration;

use super::record::filters;
use crate::cli::output::{Output, clean};
use crate::cli::view::View;
use crate::inbox::{Selection, StoredEvent, Tally};
use crate::model::{Seq, SinkName};
use crate::route::Verdict;

/// Where a replay ends, and why there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UpperEnd {
    pub(super) seq: Seq,
    /// For people.
    pub(super) why: &'static str,
}

impl UpperEnd {
    /// Never beyond the sink's cursor: what is after it is delivered anyway.
    pub(super) fn new(asked: Option<Seq>, head: Seq, cursor: Seq) -> Self {
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
pub(super) struct Counts {
    /// Events that match the filters.
    pub(super) matched: u64,
    /// Of these, those that will be delivered.
    pub(super) wanted: u64,
    /// Those that the sink's route does not want.
    pub(super) filtered: u64,
    /// Those that nothing is left of to deliver.
    pub(super) pruned: u64,
    /// Those that share their id with another event, and are held back.
    pub(super) conflicts: u64,
    /// Wanted, because the route could not be evaluated: by what it said.
    pub(super) unsure: BTreeMap<String, u64>,
}

/// Different things that a route's errors may say; the rest is counted under one heading.
const UNSURE: usize = 5;

impl Counts {
    /// Counts one stretch of the log, and what the route says of its events.
    pub(super) fn add(&mut self, events: &[StoredEvent], verdicts: Vec<Verdict>) {
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
}

impl Counts {
    /// Counts events that are alike, where the route goes by their type.
    pub(super) fn tally(&mut self, tally: &Tally, is_wanted: bool) {
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

/// A replay that has been thought through.
pub(super) struct Plan<'a> {
    pub(super) sink: &'a SinkName,
    pub(super) kind: &'static str,
    pub(super) selection: &'a Selection,
    pub(super) end: UpperEnd,
    pub(super) counts: &'a Counts,
    pub(super) rate: Option<f64>,
    pub(super) reason: &'a str,
}

impl Plan<'_> {
    /// For people.
    pub(super) fn print<W: Write>(&self, out: &mut Output<W>, view: &View) -> ControlFlow<()> {
        let Counts { matched, wanted, filtered, pruned, conflicts, ref unsure } = *self.counts;
        let Selection { ref filter, first, last } = *self.selection;
        let mut line = |name: &str, text: String| out.line(format!("{name:<10} {}", clean(&text)));
        line("sink", format!("{} ({})", self.sink, self.kind))?;
        line("events", filters(view, filter))?;
        line("from, to", format!("{first} to {last} ({})", self.end.why))?;
        line("match", matched.to_string())?;
        line("deliver", wanted.to_string())?;
        for (count, what) in [
            (filtered, "the sink's route does not want them"),
            (pruned, "their bodies are gone: passed over"),
            (conflicts, "another event with the same id came first: held back, and given up"),
        ] {
            if count > 0 {
                line("leave out", format!("{count}: {what}"))?;
            }
        }
        for (why, count) in unsure {
            line("unsure", format!("{count} of those to deliver: {why}"))?;
        }
        if let Some(rate) = self.rate {
            line("rate", format!("at most {rate} a second: {} at least", HumanDuration(takes(wanted, rate))))?;
        }
        line("reason", self.reason.to_owned())
    }
}

/// How long so many take at this rate.
fn takes(count: u64, rate: f64) -> Duration {
    Duration::try_from_secs_f64(count as f64 / rate).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::consume::subject;
    use crate::inbox::EventFilter;
    use crate::model::{EntityKey, EventId, EventType, SourceName};
    use crate::route::{Glob, Route};

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
            body: body.map(Bytes::from_static),
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

    #[test]
    fn a_plan_says_what_how_many_and_how_long() {
        let filter = EventFilter { types: vec!["payin.*".to_owned()], ..EventFilter::default() };
        let selection = Selection { filter, first: seq(3), last: seq(900) };
        let counts = Counts {
            matched: 310,
            wanted: 300,
            filtered: 10,
            unsure: BTreeMap::from([("no such key".to_owned(), 2)]),
            ..Counts::default()
        };
        let plan = Plan {
            sink: &SinkName::new("bus").unwrap(),
            kind: "amqp",
            selection: &selection,
            end: UpperEnd { seq: seq(900), why: "as asked" },
            counts: &counts,
            rate: Some(0.5),
            reason: "a test\u{1b}[2J",
        };
        let mut bytes = Vec::new();
        assert!(plan.print(&mut Output::new(&mut bytes), &View::plain()).is_continue());
        let text = String::from_utf8(bytes).unwrap();
        for part in [
            "sink       bus (amqp)\n",
            "events     type payin.*\n",
            "from, to   3 to 900 (as asked)\n",
            "match      310\n",
            "deliver    300\n",
            "leave out  10: the sink's route",
            "unsure     2 of those to deliver: no such key\n",
            "at most 0.5 a second: 10 minutes at least\n",
            "reason     a test\\u{1b}[2J\n",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(!text.contains("bodies are gone"), "{text}");
        assert_eq!(
            takes(u64::MAX, 0.001),
            Duration::try_from_secs_f64(u64::MAX as f64 / 0.001).unwrap_or(Duration::MAX)
        );
    }
}
