//! `replay`

mod begin;
mod jobs;
mod plan;
mod words;

use clap::Subcommand;

use super::filter::Filters;
use super::view::ViewArgs;
use super::{ConfigArgs, Exit};
use crate::model::{Seq, SinkName};
use crate::records;

const EXAMPLES: &str = "\
Examples:
  ralio-relay replay --sink ledger --since 24h --reason 'lost a day' --dry-run
  ralio-relay replay --sink ledger --from-seq 12 --to-seq 19 --reason 'a bug' --rate 5
  ralio-relay replay list
  ralio-relay replay resume 7

A replay goes over events that the sink's cursor has passed already, in the order of the log, and delivers those that \
match the filters and that the sink's route wants, marked with ralioreplay = the replay's number. Live deliveries go on \
beside it. While the sink is paused its replays stand still, too. What fails is tried again as always; what is given up \
is in `replay show`, and in no list of dead letters. Events whose bodies retention has dropped are passed over.

Ctrl-C leaves the replay in the inbox, where the daemon goes on with it; `replay cancel` stops it for good.

Exit code: 0 when everything was delivered, 1 when not or when nothing matches, 2 on bad usage or without a yes.";

/// Deliver stored events to a sink again, for a reason that is kept
#[derive(clap::Args)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,

    #[command(flatten)]
    begin: BeginArgs,
}

/// A new replay. What is required is so without a subcommand only, and so an `Option`.
#[derive(clap::Args)]
struct BeginArgs {
    #[command(flatten)]
    config: ConfigArgs,

    /// The sink, as it is named in the configuration
    #[arg(long, value_name = "NAME", required = true, value_parser = SinkName::new)]
    sink: Option<SinkName>,

    /// Why: kept in the inbox
    #[arg(long, value_name = "TEXT", required = true, value_parser = crate::records::reason)]
    reason: Option<String>,

    /// Events a second at most, such as 50 or 0.5 [default: as fast as the sink takes them]
    #[arg(long, value_name = "N", value_parser = rate)]
    rate: Option<f64>,

    /// Say what it would do, and do nothing
    #[arg(long)]
    dry_run: bool,

    /// Do not ask
    #[arg(long)]
    yes: bool,

    /// Hand it to the running daemon, and do not wait for its end
    #[arg(long, conflicts_with = "dry_run")]
    detach: bool,

    /// From this event on
    #[arg(long, value_name = "N", value_parser = seq, help_heading = "Filters")]
    from_seq: Option<Seq>,

    /// Up to this event [default: the sink's cursor]
    #[arg(long, value_name = "N", value_parser = seq, help_heading = "Filters")]
    to_seq: Option<Seq>,

    #[command(flatten)]
    view: ViewArgs,

    #[command(flatten)]
    filters: Filters,
}

#[derive(Subcommand)]
enum Command {
    List(jobs::ListArgs),
    Show(jobs::ShowArgs),
    Resume(jobs::ResumeArgs),
    Cancel(jobs::CancelArgs),
}

fn rate(text: &str) -> Result<f64, &'static str> {
    records::rate(text.parse().unwrap_or(f64::NAN))
}

fn seq(text: &str) -> Result<Seq, &'static str> {
    let seq = text.parse().ok().filter(|seq| *seq >= 1).and_then(Seq::new);
    seq.ok_or("write the number of an event, from 1 on: the SEQ of `events list`")
}

pub(crate) fn run(args: Args) -> anyhow::Result<Exit> {
    match args.command {
        Some(Command::List(args)) => jobs::list(&args),
        Some(Command::Show(args)) => jobs::show(&args),
        Some(Command::Resume(args)) => jobs::resume(&args),
        Some(Command::Cancel(args)) => jobs::cancel(args),
        None => begin::run(args.begin),
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, FromArgMatches as _, error::ErrorKind};

    use super::*;

    fn parsed(line: &str) -> Result<Args, ErrorKind> {
        let command = Args::augment_args(clap::Command::new("replay"));
        let matches = command.try_get_matches_from(line.split(' ')).map_err(|error| error.kind())?;
        Args::from_arg_matches(&matches).map_err(|error| error.kind())
    }

    #[test]
    fn a_replay_begins_with_options_and_is_looked_after_with_subcommands() {
        let begin = parsed("replay --sink bus --reason why --from-seq 3 --rate 0.5").unwrap();
        assert!(begin.command.is_none());
        let args = begin.begin;
        assert_eq!((args.sink, args.from_seq, args.rate), (SinkName::new("bus").ok(), Seq::new(3), Some(0.5)));
        let list = parsed("replay list --format json").unwrap();
        assert!(matches!(list.command, Some(Command::List(_))));
        assert!(matches!(parsed("replay cancel 7 --reason why").unwrap().command, Some(Command::Cancel(_))));
    }

    #[test]
    fn what_is_missing_or_does_not_go_together_is_refused() {
        for (line, kind) in [
            ("replay --sink bus", ErrorKind::MissingRequiredArgument),
            ("replay --reason why", ErrorKind::MissingRequiredArgument),
            ("replay --yes", ErrorKind::MissingRequiredArgument),
            ("replay --sink bus --reason why list", ErrorKind::ArgumentConflict),
            ("replay --sink bus --reason why --dry-run --detach", ErrorKind::ArgumentConflict),
            ("replay --sink bus --reason why --rate 0", ErrorKind::ValueValidation),
            ("replay --sink bus --reason why --rate NaN", ErrorKind::ValueValidation),
            ("replay --sink bus --reason why --from-seq 0", ErrorKind::ValueValidation),
        ] {
            assert_eq!(parsed(line).err(), Some(kind), "{line}");
        }
    }
}
