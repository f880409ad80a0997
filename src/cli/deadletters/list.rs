//! `deadletters list`

use std::ops::ControlFlow;

use clap::ValueEnum;

use super::Filters;
use super::rows::{letter_row, letter_table};
use crate::cli::filter::list_key;
use crate::cli::output::{Output, print_table};
use crate::cli::view::ViewArgs;
use crate::cli::{ConfigArgs, Exit, Format};
use crate::inbox::LetterState;
use crate::records::letter::Letter;

const EXAMPLES: &str = "\
Examples:
  ralio-relay deadletters list
  ralio-relay deadletters list --sink ledger --since 24h
  ralio-relay deadletters list --state discarded
  ralio-relay deadletters list --format json | jq -r .last_error | sort | uniq -c

Those that somebody has decided about are listed with --state. What replays gave up is in `replay show`.

Exit code: 0, also when there is none, 2 when the filter cannot match.";

/// List them, newest first: those that nobody has decided about, unless told otherwise
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

    /// Those that wait for a decision, were tried again, were given up for good, or all
    #[arg(long, value_enum, default_value_t, help_heading = "Filters")]
    state: StateArg,

    #[command(flatten)]
    filters: Filters,
}

/// Which of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum StateArg {
    #[default]
    Open,
    Retried,
    Discarded,
    All,
}

impl StateArg {
    fn states(self) -> &'static [LetterState] {
        match self {
            Self::Open => &[LetterState::Open],
            Self::Retried => &[LetterState::Retried],
            Self::Discarded => &[LetterState::Discarded],
            Self::All => &LetterState::ALL,
        }
    }
}

/// Rows of a table are printed in portions, so that any number of them takes the same memory.
const PORTION: usize = 500;

pub(super) fn run(args: Args) -> anyhow::Result<Exit> {
    let mut reader = crate::cli::events::open(&args.config)?;
    let limit = args.format.limit(args.limit);
    let (mut out, view) = (Output::stdout(), args.view.view());
    let mut filter = args.filters.into_filter(Vec::new(), &mut reader, &args.config, &view)?;
    filter.key = filter.key.map(|key| list_key(&mut reader, key, args.format)).transpose()?;
    let mut shown = letter_table(&view);
    let (mut count, mut more) = (0, false);
    let states = args.state.states();
    reader.each_dead_letter(&filter, states, None, &mut |letter| {
        if count == limit {
            more = true;
            return ControlFlow::Break(());
        }
        count += 1;
        match args.format {
            Format::Json => out.json(&Letter::from(&letter)),
            Format::Table => {
                shown.add_row(letter_row(&view, &letter));
                if shown.row_count() < PORTION {
                    return ControlFlow::Continue(());
                }
                print_table(&mut out, &std::mem::replace(&mut shown, letter_table(&view)))
            }
        }
    })?;
    if !shown.is_empty() {
        let _ = print_table(&mut out, &shown);
    }
    out.finish()?;
    if count == 0 {
        to_stderr!("no dead letter matches");
    }
    if more && args.limit.is_none() {
        to_stderr!("there are more: these are the first {limit}; see --limit and the filters");
    }
    Ok(Exit::Success)
}
