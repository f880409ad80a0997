//! `quarantine admit` and `quarantine purge`

use std::ops::ControlFlow;

use crate::app::Ask;
use crate::cli::consent::{Deed, nothing_chosen};
use crate::cli::deadletters::numbers;
use crate::cli::errand::{self, new_job};
use crate::cli::filter::{can_match, moment};
use crate::cli::view::ViewArgs;
use crate::cli::{ConfigArgs, Exit};
use crate::clock::Moment;
use crate::inbox::{QuarantineFilter, Quarantined, Task};

/// Which ones. Every option narrows.
#[derive(clap::Args)]
struct Chosen {
    #[command(flatten)]
    config: ConfigArgs,

    /// Their numbers in the list
    #[arg(value_name = "ID", value_parser = numbers())]
    ids: Vec<i64>,

    /// All of them
    #[arg(long, conflicts_with_all = ["ids", "source", "since", "until"])]
    all: bool,

    /// Count them, and do nothing
    #[arg(long)]
    dry_run: bool,

    /// Name of the source that it came in at
    #[arg(long, value_name = "NAME", help_heading = "Filters")]
    source: Option<String>,

    /// Received at or after: 2026-01-31, '2026-01-31 10:00', RFC 3339, today, yesterday, or how long ago, such as 24h. A day
    /// begins, and a time without an offset is, in the zone in which tables tell times
    #[arg(long, value_name = "TIME", help_heading = "Filters")]
    since: Option<Moment>,

    /// Received before
    #[arg(long, value_name = "TIME", help_heading = "Filters")]
    until: Option<Moment>,

    #[command(flatten)]
    view: ViewArgs,
}

const ADMIT_EXAMPLES: &str = "\
Examples:
  ralio-relay quarantine admit 3 4
  ralio-relay quarantine admit --source production --since 24h
  ralio-relay quarantine admit --all

Each is checked again with the secrets of now; what holds becomes an event (once: duplicates are told apart as always) \
and goes to the sinks, and what does not hold stays. A running daemon checks with the secrets that it has in use: \
after correcting one in the configuration, have it read again first (SIGHUP).

Exit code: 0 when any was admitted, 1 when none was.";

/// Check refused requests again with the secrets of now, and take in those that hold
#[derive(clap::Args)]
#[command(after_help = ADMIT_EXAMPLES)]
pub(crate) struct AdmitArgs {
    /// Why: kept in the inbox
    #[arg(long, value_name = "TEXT", value_parser = crate::records::reason)]
    reason: Option<String>,

    #[command(flatten)]
    chosen: Chosen,
}

const PURGE_EXAMPLES: &str = "\
Examples:
  ralio-relay quarantine purge 3 --reason 'a scanner'
  ralio-relay quarantine purge --until 30d --reason 'older than a month' --dry-run
  ralio-relay quarantine purge --all --reason 'strangers' --yes

Exit code: 0 when any was deleted, 1 when there was none.";

/// Delete refused requests
#[derive(clap::Args)]
#[command(after_help = PURGE_EXAMPLES)]
pub(crate) struct PurgeArgs {
    #[command(flatten)]
    chosen: Chosen,

    /// Do not ask, also where a filter chose several
    #[arg(long)]
    yes: bool,

    /// Why: kept in the inbox
    #[arg(long, value_name = "TEXT", required = true, value_parser = crate::records::reason)]
    reason: String,
}

pub(super) fn admit(args: AdmitArgs) -> anyhow::Result<Exit> {
    // Only what its sender has signed can come in: nothing to ask about.
    let deed = Deed { verb: "check", noun: NOUN, by_filter: false, needs_yes: false, yes: false, dry_run: false };
    decide(args.chosen, deed, &args.reason.unwrap_or_default(), |requests| Task::Admit { requests })
}

pub(super) fn purge(args: PurgeArgs) -> anyhow::Result<Exit> {
    let PurgeArgs { chosen, yes, reason } = args;
    let deed = Deed { verb: "purge", noun: NOUN, by_filter: false, needs_yes: true, yes, dry_run: false };
    decide(chosen, deed, &reason, |requests| Task::Purge { requests })
}

const NOUN: &str = "quarantined request";

fn decide(
    chosen: Chosen,
    deed: Deed<'_>,
    reason: &str,
    task: impl FnOnce(QuarantineFilter) -> Task,
) -> anyhow::Result<Exit> {
    let Chosen { config, ids, all, dry_run, source, since, until, view } = chosen;
    let (by_filter, view) = (ids.is_empty(), view.view());
    let requests = QuarantineFilter { ids, source, since: moment(since, &view)?, until: moment(until, &view)? };
    if !all && requests == QuarantineFilter::default() {
        return Ok(nothing_chosen("requests", "--source production"));
    }
    let inbox = crate::config::load_inbox(&config.config)?;
    let mut reader = crate::cli::events::open_inbox(&inbox)?;
    can_match(&mut reader, &config, &view, (&requests).into())?;
    let count = || {
        let mut count = 0;
        reader.each_quarantined(None, &mut |request| {
            count += u64::from(is_meant(&requests, &request));
            ControlFlow::Continue(())
        })?;
        Ok(count)
    };
    if let Some(exit) = (Deed { by_filter, dry_run, ..deed }).stopped(count)? {
        return Ok(exit);
    }
    errand::run(&config, &inbox, Ask::New(Box::new(new_job(task(requests), reason))))
}

fn is_meant(filter: &QuarantineFilter, request: &Quarantined) -> bool {
    (filter.ids.is_empty() || filter.ids.contains(&request.id))
        && filter.source.as_ref().is_none_or(|source| *source == request.source)
        && filter.since.is_none_or(|since| request.received_at >= since)
        && filter.until.is_none_or(|until| request.received_at < until)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::records::quarantine::tests::refused;

    #[test]
    fn every_part_of_a_filter_narrows() {
        let at: Timestamp = "2026-01-31T10:00:00Z".parse().unwrap();
        let base = QuarantineFilter::default;
        let meant = |filter: &QuarantineFilter| is_meant(filter, &refused());
        assert!(meant(&base()) && meant(&QuarantineFilter { ids: vec![1, 3], ..base() }));
        assert!(!meant(&QuarantineFilter { ids: vec![1], ..base() }));
        assert!(meant(&QuarantineFilter { source: Some("production".to_owned()), since: Some(at), ..base() }));
        assert!(!meant(&QuarantineFilter { source: Some("sandbox".to_owned()), ..base() }));
        assert!(!meant(&QuarantineFilter { until: Some(at), ..base() }), "before, not at");
    }
}
