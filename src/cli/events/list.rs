//! `events list`

use std::io::Write;
use std::ops::ControlFlow;

use comfy_table::{Row, Table};

use crate::cli::filter::Filters;
use crate::cli::output::{self, Output, Search, keep_whole, print_table, row, table, utc_seconds};
use crate::cli::{ConfigArgs, Exit, Format};
use crate::inbox::EventSummary;
use crate::inbox::sqlite::Direction;

use crate::records::event::write_json;

const EXAMPLES: &str = "\
Examples:
  ralio-relay events list
  ralio-relay events list --type 'payin.*' --since 24h
  ralio-relay events list --key 6f1c-order-42 --oldest-first
  ralio-relay events list --category kyc --format json | jq -r .id

Exit code: 0 when there is any, 1 when there is none.";

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

    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,

    #[command(flatten)]
    filters: Filters,
}

pub(super) fn run(args: Args) -> anyhow::Result<Exit> {
    let mut reader = super::open(&args.config)?;
    let limit = args.format.limit(args.limit);
    let direction = if args.oldest_first { Direction::Forward } else { Direction::Backward };
    let mut rows = Rows::new(Output::stdout(), args.format);
    let (mut left, mut more, mut search) = (limit, false, Search::new());
    reader.each_stretch(&args.filters.into_filter(), direction, None, &mut |stretch| {
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
        eprintln!("no event matches");
        return Ok(Exit::Finding);
    }
    if more && args.limit.is_none() {
        eprintln!("there are more: these are the first {limit}; see --limit and the filters");
    }
    Ok(Exit::Success)
}

/// Rows on their way out. A table is printed in portions, so that any number of rows takes the same memory.
struct Rows<W: Write> {
    out: Output<W>,
    format: Format,
    table: Table,
}

const PORTION: usize = 500;

impl<W: Write> Rows<W> {
    fn new(out: Output<W>, format: Format) -> Self {
        Self { out, format, table: event_table() }
    }

    fn push(&mut self, event: &EventSummary) -> ControlFlow<()> {
        match self.format {
            Format::Json => self.out.composed(|line| write_json(event, line)),
            Format::Table => {
                self.table.add_row(event_row(event));
                if self.table.row_count() < PORTION { ControlFlow::Continue(()) } else { self.print() }
            }
        }
    }

    fn print(&mut self) -> ControlFlow<()> {
        if self.table.is_empty() {
            return ControlFlow::Continue(());
        }
        let portion = std::mem::replace(&mut self.table, event_table());
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
pub(super) fn event_table() -> Table {
    let mut events = table(&["SEQ", "RECEIVED", "TYPE", "CATEGORY", "STATE", "KEY", "SOURCE", "ID", "NOTES"]);
    keep_whole(&mut events, 5);
    let width = events.width();
    hide(&mut events, width);
    events
}

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
pub(super) fn event_row(event: &EventSummary) -> Row {
    let mut row = Row::from(row([
        &event.seq.to_string(),
        &utc_seconds(event.received_at),
        event.event_type.as_str(),
        event.category.as_str(),
        event.state.as_deref().unwrap_or("-"),
        event.key.as_str(),
        event.source.as_str(),
        event.id.as_str(),
        &notes(event),
    ]));
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
        let mut rows = Rows::new(Output::new(&mut bytes), format);
        (1..=count).for_each(|seq| assert!(rows.push(&summary(seq)).is_continue()));
        rows.finish().unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_row_is_one_line_whatever_the_terminal() {
        for (width, key) in [(80, "order-1"), (100, "order-1"), (120, "order-1"), (30, "")] {
            let mut events = event_table();
            events.set_width(width);
            hide(&mut events, Some(width));
            events.add_row(event_row(&summary(1)));
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
