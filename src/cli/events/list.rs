//! `events list`

use std::io::Write;
use std::ops::ControlFlow;

use comfy_table::{Row, Table};

use crate::cli::filter::{Filters, no_match};
use crate::cli::output::{self, Output, Search, keep_whole, leave_a_beginning, print_table};
use crate::cli::sinks::unknown;
use crate::cli::view::{View, ViewArgs};
use crate::cli::{ConfigArgs, Exit, Format, Unusable};
use crate::config::{load_inbox, load_outline};
use crate::inbox::EventSummary;
use crate::inbox::sqlite::Direction;
use crate::model::{EventType, SinkName};

use crate::records::event::write_json;

const EXAMPLES: &str = "\
Examples:
  ralio-relay events list
  ralio-relay events list --type 'payin.*' --since 24h
  ralio-relay events list --since yesterday --until today
  ralio-relay events list --since '2026-01-31 09:00' --until '2026-01-31 10:00'
  ralio-relay events list --key 6f1c-order-42 --oldest-first
  ralio-relay events list --category kyc --format json | jq -r .id
  ralio-relay events list --sink bus --undelivered

A day or a time without an offset is meant in the zone in which the table tells times: that of this machine or $TZ, or UTC with \
--utc. A filter that cannot match, such as one with an unknown source, is an error.

With --undelivered: what the sink has still to get, first the parked events, then those after its cursor, each oldest first. \
Types that the sink does not want are left out; its filter is not asked.

Exit code: 0, also when there is none, 2 when the filter cannot match.";

/// List events, newest first
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    config: ConfigArgs,

    /// At most so many; 0 = all [default: 50 for a table, all for JSON]
    #[arg(long, value_name = "N")]
    limit: Option<u64>,

    /// Oldest first
    #[arg(long, visible_alias = "reverse")]
    oldest_first: bool,

    /// Only what this sink has still to get
    #[arg(long, value_name = "NAME", requires = "undelivered", value_parser = SinkName::new)]
    sink: Option<SinkName>,

    /// Parked at the sink, or after its cursor
    #[arg(long, requires = "sink")]
    undelivered: bool,

    #[command(flatten)]
    view: ViewArgs,

    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,

    #[command(flatten)]
    filters: Filters,
}

pub(super) fn run(args: Args) -> anyhow::Result<Exit> {
    if let Some(sink) = args.sink.clone() {
        return list_undelivered(args, &sink);
    }
    let (mut reader, view) = (super::open(&args.config)?, args.view.view());
    let limit = args.format.limit(args.limit);
    let direction = if args.oldest_first { Direction::Forward } else { Direction::Backward };
    let filter = args.filters.into_list_filter(&mut reader, &args.config, &view, args.format)?;
    let mut rows = Rows::new(Output::stdout(), view, args.format);
    let (mut left, mut more, mut search) = (limit, false, Search::new());
    reader.each_stretch(&filter, direction, None, &mut |stretch| {
        if stretch.events.is_empty() {
            return if search.went_on(stretch.done, stretch.total) { rows.flush() } else { ControlFlow::Continue(()) };
        }
        search.found();
        for event in stretch.events.iter() {
            if left == 0 {
                more = true;
                return ControlFlow::Break(());
            }
            left -= 1;
            rows.push(event)?;
        }
        ControlFlow::Continue(())
    })?;
    search.found();
    rows.finish()?;
    if left == limit {
        to_stderr!("{}", no_match(&filter));
    }
    tell_of_more(more && args.limit.is_none(), limit);
    Ok(Exit::Success)
}

fn tell_of_more(more: bool, limit: u64) {
    if more {
        to_stderr!("there are more: these are the first {limit}; see --limit and the filters");
    }
}

/// What a sink has still to get.
fn list_undelivered(args: Args, sink: &SinkName) -> anyhow::Result<Exit> {
    // The inbox alone will do: without the sink's route, nothing is left out.
    let (inbox, sinks) = match load_outline(&args.config.config) {
        Ok(outline) => (outline.inbox, outline.sinks),
        Err(_) => (load_inbox(&args.config.config)?, Vec::new()),
    };
    let (mut reader, view) = (super::open_inbox(&inbox)?, args.view.view());
    let records = reader.sinks()?;
    let names = records.iter().map(|record| record.name.as_str());
    let Some(record) = records.iter().find(|record| record.name == *sink) else {
        return Err(Unusable(unknown(sink, names).unwrap_or_default()).into());
    };
    let filter = args.filters.into_list_filter(&mut reader, &args.config, &view, args.format)?;
    let wanted: Vec<_> = sinks.iter().map(|sink| sink.name.clone()).collect();
    let route = sinks.iter().find(|sink| record.is_meant_by(&sink.name, &wanted, &records)).map(|sink| &sink.route);
    let wants = |event_type: &EventType| route.is_none_or(|route| route.wants(event_type));
    let limit = args.format.limit(args.limit);
    let mut rows = Rows::new(Output::stdout(), view, args.format);
    let (mut left, mut more) = (limit, false);
    reader.each_undelivered(record, &wants, &filter, &mut |event| {
        if left == 0 {
            more = true;
            return ControlFlow::Break(());
        }
        left -= 1;
        rows.push(event)
    })?;
    rows.finish()?;
    if left == limit {
        to_stderr!("there is nothing that sink '{sink}' has still to get");
    }
    tell_of_more(more && args.limit.is_none(), limit);
    Ok(Exit::Success)
}

/// Rows on their way out. A table is printed in portions, so that any number of rows takes the same memory.
struct Rows<W: Write> {
    out: Output<W>,
    view: View,
    format: Format,
    table: Table,
}

const PORTION: usize = 500;

impl<W: Write> Rows<W> {
    fn new(out: Output<W>, view: View, format: Format) -> Self {
        let table = event_table(&view);
        Self { out, view, format, table }
    }

    fn push(&mut self, event: &EventSummary) -> ControlFlow<()> {
        match self.format {
            Format::Json => self.out.composed(|line| write_json(event, line)),
            Format::Table => {
                self.table.add_row(event_row(&self.view, event));
                if self.table.row_count() < PORTION { ControlFlow::Continue(()) } else { self.print() }
            }
        }
    }

    fn print(&mut self) -> ControlFlow<()> {
        if self.table.is_empty() {
            return ControlFlow::Continue(());
        }
        let portion = std::mem::replace(&mut self.table, event_table(&self.view));
        print_table(&mut self.out, &portion)
    }

    /// Prints what there is so far: the next may be long in coming.
    fn flush(&mut self) -> ControlFlow<()> {
        self.print()?;
        self.out.flush()
    }

    fn finish(mut self) -> anyhow::Result<()> {
        let _ = self.print();
        self.out.finish()
    }
}

/// A table of events; see [`event_row`].
pub(super) fn event_table(view: &View) -> Table {
    let mut events = view.table(&["SEQ", "RECEIVED", "TYPE", "CATEGORY", "STATE", "KEY", "SOURCE", "ID", "NOTES"]);
    keep_whole(&mut events, 5);
    leave_a_beginning(&mut events, &[KEY, ID]);
    let width = events.width();
    hide(&mut events, width);
    events
}

/// Columns that people copy from.
const KEY: usize = 5;
const ID: usize = 7;

/// On a narrow terminal a table of events goes without category and id, on a very narrow one without source.
fn hide(events: &mut Table, width: Option<u16>) {
    let hidden: &[usize] = match width {
        Some(..100) => &[3, 6, 7],
        Some(100..120) => &[3, 7],
        Some(120..) | None => &[],
    };
    output::hide(events, hidden);
}

/// A row of [`event_table`]: one line, cut where the terminal ends.
pub(super) fn event_row(view: &View, event: &EventSummary) -> Row {
    let cells = [
        &event.seq.to_string(),
        &view.seconds(event.received_at),
        event.event_type.as_str(),
        event.category.as_str(),
        event.state.as_deref().unwrap_or("-"),
        event.key.as_str(),
        event.source.as_str(),
        event.id.as_str(),
        &notes(event),
    ];
    let mut row = view.row(cells, Some(4));
    row.max_height(1);
    row
}

/// What is out of the ordinary.
pub(super) fn notes(event: &EventSummary) -> String {
    let mut notes = Vec::new();
    if event.stale {
        notes.push("stale".to_owned());
    }
    if event.conflict {
        notes.push("conflict".to_owned());
    }
    if event.admitted {
        notes.push("admitted".to_owned());
    }
    if event.digest_mismatch {
        notes.push("DIGEST MISMATCH".to_owned());
    }
    if event.arrivals > 1 {
        notes.push(format!("came {} times", event.arrivals));
    }
    notes.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::event::tests::summary;

    fn printed(format: Format, count: i64) -> String {
        let mut bytes = Vec::new();
        let mut rows = Rows::new(Output::new(&mut bytes), View::plain(), format);
        (1..=count).for_each(|seq| assert!(rows.push(&summary(seq)).is_continue()));
        rows.finish().unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_row_is_one_line_whatever_the_terminal() {
        for (width, key) in [(80, "order-1"), (100, "order-1"), (120, "order-1"), (30, "")] {
            let mut events = event_table(&View::plain());
            events.set_width(width);
            hide(&mut events, Some(width));
            events.add_row(event_row(&View::plain(), &summary(1)));
            let lines: Vec<String> = events.lines().collect();
            assert_eq!(lines.len(), 2, "a header and a row at {width}: {lines:#?}");
            assert!(lines[1].contains("payin.completed") && lines[1].contains(key), "{lines:#?}");
            assert!(lines[0].contains("STATE") && (width < 80 || lines[0].contains("KEY")), "{lines:#?}");
            assert_eq!(lines[0].contains("SOURCE"), width >= 100, "{lines:#?}");
        }
    }

    #[test]
    fn every_row_is_printed_whatever_the_portion() {
        let lines = printed(Format::Table, PORTION as i64 + 3);
        assert_eq!(lines.lines().filter(|line| line.starts_with("SEQ")).count(), 2);
        assert_eq!(lines.lines().filter(|line| line.contains("payin.completed")).count(), PORTION + 3);
        assert!(lines.contains("stale, came 3 times"), "{lines}");
        assert!(!lines.contains('\u{1b}'));
        assert_eq!(printed(Format::Json, PORTION as i64 + 3).lines().count(), PORTION + 3);
        assert_eq!(printed(Format::Table, 0), "");
    }
}
