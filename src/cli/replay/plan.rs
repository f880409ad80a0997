//! What a replay would do.

use std::io::Write;
use std::ops::ControlFlow;
use std::time::Duration;

use indicatif::HumanDuration;

use super::words::filters;
use crate::cli::output::{Output, clean};
use crate::cli::progress::count as number;
use crate::cli::view::View;
use crate::consume::plan::{Counts, UpperEnd};
use crate::inbox::Selection;
use crate::model::SinkName;

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
        line("match", number(matched))?;
        line("deliver", number(wanted))?;
        for (count, what) in [
            (filtered, "the sink's route does not want them"),
            (pruned, "their bodies are gone: passed over"),
            (conflicts, "another event with the same id came first: held back, and given up"),
        ] {
            if count > 0 {
                line("leave out", format!("{}: {what}", number(count)))?;
            }
        }
        for (why, count) in unsure {
            let count = number(*count);
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
    use std::collections::BTreeMap;

    use super::*;
    use crate::inbox::EventFilter;
    use crate::model::Seq;

    #[test]
    fn a_plan_says_what_how_many_and_how_long() {
        let filter = EventFilter { types: vec!["payin.*".to_owned()], ..EventFilter::default() };
        let seq = |value| Seq::new(value).unwrap();
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
