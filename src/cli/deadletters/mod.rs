//! `deadletters`

mod list;
pub(super) mod rows;
mod show;

use std::ops::ControlFlow;

use clap::Subcommand;
use clap::builder::RangedI64ValueParser;

use super::consent::{Deed, nothing_chosen};
use super::errand::{self, new_job};
use super::filter::{can_match, moment, pattern};
use super::view::{View, ViewArgs};
use super::{ConfigArgs, Exit, resolve};
use crate::app::Ask;
use crate::clock::Moment;
use crate::inbox::sqlite::Reader;
use crate::inbox::{LetterFilter, LetterState, Task};
use crate::model::SinkName;

/// Events given up for a sink: look at them, deliver them again, or discard them for a reason
#[derive(Subcommand)]
#[command(after_help = "Examples:
  ralio-relay deadletters list
  ralio-relay deadletters show 12
  ralio-relay deadletters retry --sink ledger --reason-contains 'HTTP 422' --yes
  ralio-relay deadletters discard 12 --reason 'booked by hand'")]
pub(crate) enum Command {
    List(list::Args),
    Show(show::Args),
    Retry(RetryArgs),
    Discard(DiscardArgs),
}

/// Every option narrows.
#[derive(clap::Args, Debug, Default, PartialEq)]
#[command(next_help_heading = "Filters")]
pub(crate) struct Filters {
    /// Given up for this sink
    #[arg(long, value_name = "NAME", value_parser = SinkName::new)]
    sink: Option<SinkName>,

    /// Canonical type, or a glob such as 'payin.*'; may repeat
    #[arg(long = "type", value_name = "GLOB", value_parser = pattern)]
    types: Vec<String>,

    /// Event id, or its first 4 characters or more
    #[arg(long, value_name = "ID", allow_hyphen_values = true)]
    event: Option<String>,

    /// Entity key: the order, session or account that it is about. In a list for people its first 4 characters or more will do
    #[arg(long, value_name = "KEY", allow_hyphen_values = true)]
    key: Option<String>,

    /// Text that the reason holds, such as 'HTTP 422'
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    reason_contains: Option<String>,

    /// Given up at or after: 2026-01-31, '2026-01-31 10:00', RFC 3339, today, yesterday, or how long ago, such as 24h. A day
    /// begins, and a time without an offset is, in the zone in which tables tell times
    #[arg(long, value_name = "TIME")]
    since: Option<Moment>,

    /// Given up before
    #[arg(long, value_name = "TIME")]
    until: Option<Moment>,
}

impl Filters {
    /// The filter as the inbox takes it, once it is known that it can match.
    fn into_filter(
        self,
        ids: Vec<i64>,
        reader: &mut Reader,
        config: &ConfigArgs,
        view: &View,
    ) -> anyhow::Result<LetterFilter> {
        let Self { sink, types, event, key, reason_contains, since, until } = self;
        let (since, until) = (moment(since, view)?, moment(until, view)?);
        let filter = LetterFilter { ids, sink, types, event_id: event, key, reason: reason_contains, since, until };
        can_match(reader, config, view, (&filter).into())?;
        let event_id = filter.event_id.map(|id| resolve::id(reader, &id)).transpose()?;
        Ok(LetterFilter { event_id, ..filter })
    }
}

/// Which ones, and how sure.
#[derive(clap::Args)]
struct Chosen {
    #[command(flatten)]
    config: ConfigArgs,

    /// Their numbers in the list
    #[arg(value_name = "ID", value_parser = numbers())]
    ids: Vec<i64>,

    /// All of them
    #[arg(long, conflicts_with_all = ["ids", "sink", "types", "event", "key", "reason_contains", "since", "until"])]
    all: bool,

    /// Count them, and do nothing
    #[arg(long)]
    dry_run: bool,

    /// Do not ask, also where a filter chose several
    #[arg(long)]
    yes: bool,

    #[command(flatten)]
    view: ViewArgs,

    #[command(flatten)]
    filters: Filters,
}

/// What a person can have seen in a list.
pub(super) fn numbers() -> RangedI64ValueParser {
    RangedI64ValueParser::new().range(1..)
}

const RETRY_EXAMPLES: &str = "\
Examples:
  ralio-relay deadletters retry 12 13
  ralio-relay deadletters retry --sink ledger --type 'payin.*' --dry-run
  ralio-relay deadletters retry --all --yes

They are parked again, due at once. What is given up again gets a new number; the old one stays in `deadletters list \
--state retried`.

Exit code: 0 when any was parked again, 1 when there was none.";

/// Deliver them again
#[derive(clap::Args)]
#[command(after_help = RETRY_EXAMPLES)]
pub(crate) struct RetryArgs {
    /// Why: kept in the inbox
    #[arg(long, value_name = "TEXT", value_parser = crate::records::reason)]
    reason: Option<String>,

    #[command(flatten)]
    chosen: Chosen,
}

const DISCARD_EXAMPLES: &str = "\
Examples:
  ralio-relay deadletters discard 12 --reason 'booked by hand'
  ralio-relay deadletters discard --sink test --reason 'a test' --dry-run

The events stay in the inbox; `events show` tells who discarded them, when and why. They can still be replayed.

Exit code: 0 when any was discarded, 1 when there was none.";

/// Give them up for good, for a reason that is kept
#[derive(clap::Args)]
#[command(after_help = DISCARD_EXAMPLES)]
pub(crate) struct DiscardArgs {
    /// Why: kept in the inbox
    #[arg(long, value_name = "TEXT", required = true, value_parser = crate::records::reason)]
    reason: String,

    #[command(flatten)]
    chosen: Chosen,
}

pub(crate) fn run(command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::List(args) => list::run(args),
        Command::Show(args) => show::run(&args),
        Command::Retry(args) => {
            let reason = args.reason.unwrap_or_default();
            decide(args.chosen, "retry", &reason, |letters| Task::Retry { letters })
        }
        Command::Discard(args) => decide(args.chosen, "discard", &args.reason, |letters| Task::Discard { letters }),
    }
}

/// Says of each number why there is nothing to decide about it.
fn tell_decided(reader: &Reader, ids: &[i64], view: &View) -> anyhow::Result<()> {
    for &id in ids {
        let Some(letter) = reader.dead_letter(id)? else {
            to_stderr!("there is no dead letter {id}");
            continue;
        };
        let (sink, seq) = (&letter.sink, letter.seq);
        match (letter.replay, letter.decision) {
            (Some(replay), _) => to_stderr!(
                "dead letter {id} was given up by replay {replay}: `ralio-relay replay --sink {sink} --from-seq {seq} --to-seq {seq}` \
                 delivers its event again"
            ),
            (None, Some(decision)) => {
                let record =
                    decision.job.map(|job| format!(": see `ralio-relay record show {job}`")).unwrap_or_default();
                to_stderr!("dead letter {id} was {} at {}{record}", letter.state.as_str(), view.seconds(decision.at));
            }
            (None, None) => {}
        }
    }
    Ok(())
}

fn decide(chosen: Chosen, verb: &str, reason: &str, task: impl FnOnce(LetterFilter) -> Task) -> anyhow::Result<Exit> {
    let Chosen { config, ids, all, dry_run, yes, view, filters } = chosen;
    let by_filter = ids.is_empty();
    if !all && by_filter && filters == Filters::default() {
        return Ok(nothing_chosen("dead letters", "--sink bus"));
    }
    let inbox = crate::config::load_inbox(&config.config)?;
    let mut reader = super::events::open_inbox(&inbox)?;
    let view = view.view();
    tell_decided(&reader, &ids, &view)?;
    let letters = filters.into_filter(ids, &mut reader, &config, &view)?;
    let count = || {
        let mut count = 0;
        reader.each_dead_letter(&letters, &[LetterState::Open], None, &mut |_| {
            count += 1;
            ControlFlow::Continue(())
        })?;
        Ok(count)
    };
    let deed = Deed { verb, noun: "dead letter", by_filter, needs_yes: true, yes, dry_run };
    if let Some(exit) = deed.stopped(count)? {
        return Ok(exit);
    }
    errand::run(&config, &inbox, Ask::New(Box::new(new_job(task(letters), reason))))
}
