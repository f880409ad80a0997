//! `sinks forget`

use crate::app::Ask;
use crate::cli::consent::{ask, counted};
use crate::cli::errand::{self, new_job};
use crate::cli::events::open_inbox;
use crate::cli::output::clean;
use crate::cli::{ConfigArgs, Exit};
use crate::config::{Outline, load_outline};
use crate::inbox::{SinkRecord, Task};
use crate::model::SinkName;

const EXAMPLES: &str = "\
Examples:
  ralio-relay sinks forget old-bus --reason 'the ledger has moved'
  ralio-relay sinks forget old-bus --reason 'the ledger has moved' --yes

For a sink that is no longer in the configuration (`sinks list` says removed). What is parked for it, its open dead letters \
and the events that it has not come to are discarded, for the reason given; `events show` tells so, and still shows what \
was delivered. Its name may be used anew: a sink of that name begins as new, at its `start`.

Exit code: 0 when it is forgotten, 1 when it is not.";

/// End a removed sink: what it has not got is discarded, and its name is free
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    config: ConfigArgs,

    /// The sink
    #[arg(value_name = "NAME", value_parser = SinkName::new)]
    name: SinkName,

    /// Why: kept in the inbox
    #[arg(long, value_name = "TEXT", required = true, value_parser = crate::records::reason)]
    reason: String,

    /// Do not ask
    #[arg(long)]
    yes: bool,
}

pub(super) fn run(args: Args) -> anyhow::Result<Exit> {
    let Args { config, name, reason, yes } = args;
    let Outline { inbox, sinks } = load_outline(&config.config)?;
    let records = open_inbox(&inbox)?.sinks()?;
    let Some(record) = records.iter().find(|record| record.name == name) else {
        let known = records.iter().map(|record| record.name.as_str());
        to_stderr!("error: {}", super::unknown(&name, known).unwrap_or_default());
        return Ok(Exit::Finding);
    };
    let names: Vec<_> = sinks.iter().map(|sink| sink.name.clone()).collect();
    if let Some(sink) = sinks.iter().find(|sink| record.is_meant_by(&sink.name, &names, &records)) {
        to_stderr!(
            "error: sink '{}' is in the configuration: take it out there first, and have the daemon read it again (SIGHUP)",
            clean(sink.name.as_str())
        );
        return Ok(Exit::Finding);
    }
    if let Some(exit) = ask(&question(record), yes)?.exit("`sinks forget`") {
        return Ok(exit);
    }
    errand::run(&config, &inbox, Ask::New(Box::new(new_job(Task::Forget { sink: name }, &reason))))
}

/// What a person agrees to.
fn question(record: &SinkRecord) -> String {
    let SinkRecord { name, parked, dead_letters, lag, .. } = record;
    format!(
        "Forget sink '{name}', and discard {}, {} and {} that it has not come to?",
        counted(*parked, "parked event"),
        counted(*dead_letters, "dead letter"),
        counted(*lag, "event")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::sink::tests::record;

    #[test]
    fn a_person_agrees_to_numbers() {
        let record = SinkRecord { parked: 1, dead_letters: 2, lag: 0, ..record("bus") };
        let expected =
            "Forget sink 'bus', and discard 1 parked event, 2 dead letters and 0 events that it has not come to?";
        assert_eq!(question(&record), expected);
    }
}
