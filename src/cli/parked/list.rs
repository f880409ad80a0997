//! `parked list`

use std::ops::ControlFlow;

use comfy_table::{Row, Table};

use super::{Filters, numbers};
use crate::cli::filter::list_key;
use crate::cli::output::{Output, hide, keep_whole, leave_a_beginning, print_table};
use crate::cli::view::{View, ViewArgs};
use crate::cli::{ConfigArgs, Exit, Format};
use crate::inbox::ParkedRecord;
use crate::records::parked::Line;

const EXAMPLES: &str = "\
Examples:
  ralio-relay parked list
  ralio-relay parked list --sink ledger --error 'HTTP 500'
  ralio-relay parked list --format json | jq -r .last_error | sort | uniq -c

An event is parked after a failed attempt, until its next one; later events of its key wait behind it, without an attempt. \
Those of sinks that were removed from the configuration are listed, too; those of replays are not.

Exit code: 0, also when none is parked, 2 when the filter cannot match.";

/// List them, sink by sink, oldest first
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    config: ConfigArgs,

    /// Their places in the log (the column SEQ)
    #[arg(value_name = "SEQ", value_parser = numbers())]
    seqs: Vec<i64>,

    /// At most so many; 0 = all [default: 50 for a table, all for JSON]
    #[arg(long, value_name = "N")]
    limit: Option<u64>,

    #[command(flatten)]
    view: ViewArgs,

    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,

    #[command(flatten)]
    filters: Filters,
}

/// Rows of a table are printed in portions, so that any number of them takes the same memory.
const PORTION: usize = 500;

pub(super) fn run(args: Args) -> anyhow::Result<Exit> {
    let mut reader = crate::cli::events::open(&args.config)?;
    let limit = args.format.limit(args.limit);
    let (mut out, view) = (Output::stdout(), args.view.view());
    let mut filter = args.filters.into_filter(args.seqs, &mut reader, &args.config, &view)?;
    filter.key = filter.key.map(|key| list_key(&mut reader, key, args.format)).transpose()?;
    let mut shown = table(&view);
    let (mut count, mut more) = (0, false);
    reader.each_parked(&filter, &mut |event| {
        if count == limit {
            more = true;
            return ControlFlow::Break(());
        }
        count += 1;
        match args.format {
            Format::Json => out.json(&Line::from(&event)),
            Format::Table => {
                shown.add_row(row(&view, &event));
                if shown.row_count() < PORTION {
                    return ControlFlow::Continue(());
                }
                print_table(&mut out, &std::mem::replace(&mut shown, table(&view)))
            }
        }
    })?;
    if !shown.is_empty() {
        let _ = print_table(&mut out, &shown);
    }
    out.finish()?;
    if count == 0 {
        to_stderr!("no parked event matches");
    }
    if more && args.limit.is_none() {
        to_stderr!("there are more: these are the first {limit}; see --limit and the filters");
    }
    Ok(Exit::Success)
}

fn table(view: &View) -> Table {
    let mut parked = view.table(&["SINK", "SEQ", "TYPE", "ATTEMPTS", "NEXT TRY", "LAST ERROR", "KEY", "EVENT"]);
    keep_whole(&mut parked, 5);
    leave_a_beginning(&mut parked, &[6, 7]);
    if parked.width().is_some_and(|width| width < 120) {
        // Why matters more; the event is told by its number.
        hide(&mut parked, &[6, 7]);
    }
    parked
}

/// One line, cut where the terminal ends.
fn row(view: &View, event: &ParkedRecord) -> Row {
    let behind = "waits behind an earlier event of its key";
    let error = if event.waits_behind() { behind } else { event.last_error.as_deref().unwrap_or("-") };
    let cells = [
        event.sink.as_str(),
        &event.seq.to_string(),
        event.event_type.as_str(),
        &event.attempts.to_string(),
        &view.seconds(event.next_attempt),
        error,
        event.key.as_str(),
        event.event_id.as_str(),
    ];
    let mut row = view.row(cells, None);
    row.max_height(1);
    row
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::parked::tests::parked;

    #[test]
    fn a_row_is_one_line_that_steers_no_terminal() {
        let mut shown = table(&View::plain());
        shown.add_row(row(&View::plain(), &parked()));
        shown.add_row(row(&View::plain(), &ParkedRecord { attempts: 0, last_error: None, ..parked() }));
        let text = shown.to_string();
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(text.contains("HTTP 500") && text.contains("waits behind") && !text.contains('\u{1b}'), "{text:?}");
    }
}
