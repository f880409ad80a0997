//! `record list`

use std::ops::ControlFlow;

use comfy_table::{Row, Table};

use crate::cli::filter::{can_match, moment};
use crate::cli::output::{Output, hide, keep_whole, print_table};
use crate::cli::view::{View, ViewArgs};
use crate::cli::{ConfigArgs, Exit, Format};
use crate::clock::Moment;
use crate::inbox::Job;
use crate::records::job::Line;
use crate::records::record::{Entry, RecordFilter, about, kind};

const EXAMPLES: &str = "\
Examples:
  ralio-relay record list
  ralio-relay record list --by ann --since 7d
  ralio-relay record list --kind discard --kind purge --format json

Everything that changes something is an entry: retry, discard, retry_parked, discard_parked, replay, cancel, pause, \
resume, rename, try, forget, admit, purge, prune and confirm_clock. The relay's own entries, such as those of retention, \
say so under WHO.

Exit code: 0, also when there is none, 2 when the filter cannot match.";

/// List what was done, newest first: what was chosen, by whom, why, and what came of it
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    config: ConfigArgs,

    /// At most so many; 0 = all [default: 50 for a table, all for JSON]
    #[arg(long, value_name = "N")]
    limit: Option<u64>,

    #[command(flatten)]
    view: ViewArgs,

    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,

    /// Asked for at or after: a date, a time, today, yesterday, or how long ago, such as 24h; in the zone in which tables
    /// tell times
    #[arg(long, value_name = "TIME", help_heading = "Filters")]
    since: Option<Moment>,

    /// Asked for before
    #[arg(long, value_name = "TIME", help_heading = "Filters")]
    until: Option<Moment>,

    /// Text that the name of who asked holds, ignoring case
    #[arg(long, value_name = "NAME", help_heading = "Filters")]
    by: Option<String>,

    /// Such as discard; may repeat
    #[arg(long = "kind", value_name = "KIND", value_parser = kind, help_heading = "Filters")]
    kinds: Vec<String>,
}

pub(super) fn run(args: Args) -> anyhow::Result<Exit> {
    let mut reader = crate::cli::events::open(&args.config)?;
    let limit = args.format.limit(args.limit);
    let (mut out, view) = (Output::stdout(), args.view.view());
    let (since, until) = (moment(args.since, &view)?, moment(args.until, &view)?);
    let filter = RecordFilter { since, until, by: args.by, kinds: args.kinds };
    can_match(&mut reader, &args.config, &view, (&filter).into())?;
    let mut shown = entry_table(&view);
    let (mut count, mut more) = (0, false);
    reader.each_job(None, &mut |job| {
        if !filter.matches(&job) {
            return ControlFlow::Continue(());
        }
        if count == limit {
            more = true;
            return ControlFlow::Break(());
        }
        count += 1;
        match args.format {
            Format::Json => out.json(&Entry::from(&job)),
            Format::Table => {
                shown.add_row(entry_row(&view, &job));
                ControlFlow::Continue(())
            }
        }
    })?;
    if !shown.is_empty() {
        let _ = print_table(&mut out, &shown);
    }
    out.finish()?;
    if count == 0 {
        to_stderr!("the record has no such entry");
    }
    if more && args.limit.is_none() {
        to_stderr!("there are more: these are the first {limit}; see --limit and the filters");
    }
    Ok(Exit::Success)
}

fn entry_table(view: &View) -> Table {
    let mut entries = view.table(&["ID", "AT", "KIND", "SINK", "STATE", "DONE", "WHO", "REASON", "ABOUT", "MESSAGE"]);
    keep_whole(&mut entries, 6);
    match entries.width() {
        Some(..100) => hide(&mut entries, &[3, 8, 9]),
        Some(100..140) => hide(&mut entries, &[9]),
        Some(140..) | None => {}
    }
    entries
}

fn entry_row(view: &View, job: &Job) -> Row {
    let line = Line::from(job);
    let cells = [
        &job.id.to_string(),
        &view.seconds(job.created_at),
        line.kind(),
        line.sink().unwrap_or("-"),
        job.state.as_str(),
        &job.done.to_string(),
        &job.who,
        &job.reason,
        &about(&job.task),
        &job.message,
    ];
    let mut row = view.row(cells, Some(4));
    row.max_height(1);
    row
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inbox::JobState;
    use crate::records::replay::tests::replay;

    #[test]
    fn a_row_is_one_line_that_steers_no_terminal() {
        let mut entries = entry_table(&View::plain());
        let job = Job { who: "eve\u{1b}[2J".to_owned(), ..replay(JobState::Done) };
        entries.add_row(entry_row(&View::plain(), &job));
        let text = entries.to_string();
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.contains("replay") && text.contains("events 3 to 900: type payin.*"), "{text}");
        assert!(!text.contains('\u{1b}'), "{text:?}");
    }
}
