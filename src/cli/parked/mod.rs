//! `parked`

mod list;

use std::ops::ControlFlow;

use clap::Subcommand;

use super::consent::{Deed, nothing_chosen};
use super::deadletters::numbers;
use super::errand::{self, new_job};
use super::filter::{can_match, pattern};
use super::view::{View, ViewArgs};
use super::{ConfigArgs, Exit, resolve};
use crate::app::Ask;
use crate::inbox::sqlite::Reader;
use crate::inbox::{ParkedFilter, Task};
use crate::model::SinkName;

/// Events that wait for their next attempt: look at them, have them tried now, or discard them for a reason
#[derive(Subcommand)]
#[command(after_help = "Examples:
  ralio-relay parked list --sink ledger
  ralio-relay parked retry --sink ledger --type 'payin.*' --yes
  ralio-relay parked discard 1207 --reason 'booked by hand'")]
pub(crate) enum Command {
    List(list::Args),
    Retry(RetryArgs),
    Discard(DiscardArgs),
}

/// Every option narrows.
#[derive(clap::Args, Debug, Default, PartialEq)]
#[command(next_help_heading = "Filters")]
pub(crate) struct Filters {
    /// Parked for this sink
    #[arg(long, value_name = "NAME", value_parser = SinkName::new)]
    sink: Option<SinkName>,

    /// Canonical type, or a glob such as 'payin.*'; may repeat
    #[arg(long = "type", value_name = "GLOB", value_parser = pattern)]
    types: Vec<String>,

    /// Text that the last error holds, such as 'HTTP 500'
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    error: Option<String>,

    /// Entity key: the order, session or account that it is about. In a list for people its first 4 characters or more will do
    #[arg(long, value_name = "KEY", allow_hyphen_values = true)]
    key: Option<String>,

    /// Event id, or its first 4 characters or more
    #[arg(long, value_name = "ID", allow_hyphen_values = true)]
    id: Option<String>,
}

impl Filters {
    /// The filter as the inbox takes it, once it is known that it can match.
    fn into_filter(
        self,
        seqs: Vec<i64>,
        reader: &mut Reader,
        config: &ConfigArgs,
        view: &View,
    ) -> anyhow::Result<ParkedFilter> {
        let Self { sink, types, error, key, id } = self;
        let filter = ParkedFilter { seqs, sink, types, event_id: id, key, error };
        can_match(reader, config, view, (&filter).into())?;
        let event_id = filter.event_id.map(|id| resolve::id(reader, &id)).transpose()?;
        Ok(ParkedFilter { event_id, ..filter })
    }
}

/// Which ones, and how sure.
#[derive(clap::Args)]
struct Chosen {
    #[command(flatten)]
    config: ConfigArgs,

    /// Their places in the log (the column SEQ); filters narrow them
    #[arg(value_name = "SEQ", value_parser = numbers())]
    seqs: Vec<i64>,

    /// All of them
    #[arg(long, conflicts_with_all = ["seqs", "sink", "types", "error", "key", "id"])]
    all: bool,

    /// Count them, and do nothing
    #[arg(long)]
    dry_run: bool,

    /// Do not ask, also where a filter chose several
    #[arg(long)]
    yes: bool,

    #[command(flatten)]
    filters: Filters,
}

const RETRY_EXAMPLES: &str = "\
Examples:
  ralio-relay parked retry 1207 1208
  ralio-relay parked retry --sink ledger --error 'HTTP 500' --dry-run
  ralio-relay parked retry --all --yes

They are due now, whatever their next attempt was due for. What fails again is parked again. A sink that is paused gets them \
when it is resumed; to have one tried that is down, use `sinks try`.

Exit code: 0 when any is due now, 1 when there was none.";

/// Have them tried now
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
  ralio-relay parked discard 1207 --sink ledger --reason 'booked by hand'
  ralio-relay parked discard --sink test --reason 'a test' --dry-run

The sink will not get them any more. The events stay in the inbox; `events show` tells who discarded them, when and why. \
They can still be replayed. One that is being delivered at this moment may arrive all the same, and counts as delivered then.

Exit code: 0 when any was discarded, 1 when there was none.";

/// Give them up, for a reason that is kept
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
        Command::Retry(args) => {
            let reason = args.reason.unwrap_or_default();
            decide(args.chosen, "retry", &reason, |parked| Task::RetryParked { parked })
        }
        Command::Discard(args) => decide(args.chosen, "discard", &args.reason, |parked| Task::DiscardParked { parked }),
    }
}

fn decide(chosen: Chosen, verb: &str, reason: &str, task: impl FnOnce(ParkedFilter) -> Task) -> anyhow::Result<Exit> {
    let Chosen { config, seqs, all, dry_run, yes, filters } = chosen;
    let by_filter = seqs.is_empty();
    if !all && by_filter && filters == Filters::default() {
        return Ok(nothing_chosen("parked events", "--sink bus"));
    }
    let inbox = crate::config::load_inbox(&config.config)?;
    let mut reader = super::events::open_inbox(&inbox)?;
    // No filter of these is a time.
    let parked = filters.into_filter(seqs, &mut reader, &config, &ViewArgs::without_times())?;
    let count = || {
        let mut count = 0;
        reader.each_parked(&parked, &mut |_| {
            count += 1;
            ControlFlow::Continue(())
        })?;
        Ok(count)
    };
    let deed = Deed { verb, noun: "parked event", by_filter, needs_yes: true, yes, dry_run };
    if let Some(exit) = deed.stopped(count)? {
        return Ok(exit);
    }
    errand::run(&config, &inbox, Ask::New(Box::new(new_job(task(parked), reason))))
}
