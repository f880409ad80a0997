//! `sinks try`

use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::time::sleep;

use crate::app::Ask;
use crate::cli::errand::{self, daemon_runs, new_job};
use crate::cli::events::open_inbox;
use crate::cli::output::{Output, clean};
use crate::cli::{ConfigArgs, Exit};
use crate::config::load_inbox;
use crate::inbox::sqlite::Reader;
use crate::inbox::{SinkRecord, Task};
use crate::model::SinkName;

const EXAMPLES: &str = "\
Example:
  ralio-relay sinks try ledger

It delivers, unlike `check --probe`: everything that is parked for the sink is due now, a sink that is down is tried with \
events that wait, and one that could not be built is built. Then the command waits up to 15 s for what comes of it.

Exit code: 0 when something was delivered or nothing waits, 1 when the attempt failed, 3 when no daemon runs.";

/// Try a sink now, whatever its next attempt is due for
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    config: ConfigArgs,

    /// The sink
    #[arg(value_name = "NAME", value_parser = SinkName::new)]
    name: SinkName,

    /// Why: kept in the inbox
    #[arg(long, value_name = "TEXT", value_parser = crate::records::reason)]
    reason: Option<String>,
}

/// So long the command waits for what comes of it.
const WAIT: Duration = Duration::from_secs(15);
/// How often it looks.
const LOOK: Duration = Duration::from_millis(100);
/// A sink that is down is tried with several events at once: one of them that fails does not say that all do.
const OTHERS: Duration = Duration::from_millis(500);

pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let Args { config, name, reason } = args;
    let inbox = load_inbox(&config.config)?;
    let reader = open_inbox(&inbox)?;
    let Some(before) = record(&reader, name)? else {
        let records = reader.sinks()?;
        let known = records.iter().map(|record| record.name.as_str());
        to_stderr!("error: {}", super::unknown(name, known).unwrap_or_default());
        return Ok(Exit::Finding);
    };
    if !daemon_runs(&inbox.path) {
        to_stderr!("error: no daemon runs, and only a running daemon delivers: start it (`ralio-relay serve`)");
        return Ok(Exit::Unreachable);
    }
    let task = Task::Try { sink: name.clone() };
    let exit = errand::run(config, &inbox, Ask::New(Box::new(new_job(task, reason.as_deref().unwrap_or_default()))))?;
    if exit != Exit::Success {
        return Ok(exit);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().context("cannot start")?;
    let result = runtime.block_on(watch(&reader, name, &before))?;
    let (text, exit) = said(name, &result);
    if exit == Exit::Success {
        let mut out = Output::stdout();
        let _ = out.line(clean(&text));
        out.finish()?;
    } else {
        to_stderr!("{}", clean(&text));
    }
    Ok(exit)
}

fn record(reader: &Reader, name: &SinkName) -> anyhow::Result<Option<SinkRecord>> {
    Ok(reader.sinks()?.into_iter().find(|record| record.name == *name))
}

/// What came of a try.
#[derive(Clone, Debug, PartialEq, Eq)]
enum TryResult {
    Delivered,
    Failed(String),
    NothingWaits,
    /// The sink could not be built this time either.
    Unavailable(String),
    /// Nothing was heard in time.
    Unknown,
}

async fn watch(reader: &Reader, name: &SinkName, before: &SinkRecord) -> anyhow::Result<TryResult> {
    let until = Instant::now() + WAIT;
    let mut failed: Option<Instant> = None;
    loop {
        let now = record(reader, name)?;
        let result = now.as_ref().and_then(|now| result(before, now));
        let is_settled = match &result {
            Some(TryResult::Failed(_)) => failed.get_or_insert_with(Instant::now).elapsed() >= OTHERS,
            Some(_) => true,
            None => false,
        };
        if let Some(result) = result.filter(|_| is_settled) {
            return Ok(result);
        }
        if Instant::now() >= until {
            let failure = now.and_then(|now| now.build_failure);
            return Ok(failure.map_or(TryResult::Unknown, |failure| TryResult::Unavailable(failure.error)));
        }
        sleep(LOOK).await;
    }
}

/// What can be told of a try from how the sink is recorded now; `None` while it is not known.
fn result(before: &SinkRecord, now: &SinkRecord) -> Option<TryResult> {
    if now.health.last_success_at > before.health.last_success_at {
        Some(TryResult::Delivered)
    } else if now.health.last_error_at > before.health.last_error_at {
        Some(TryResult::Failed(now.health.last_error.clone().unwrap_or_default()))
    } else if now.build_failure.is_none() && now.undelivered() == 0 {
        Some(TryResult::NothingWaits)
    } else {
        None
    }
}

fn said(name: &SinkName, result: &TryResult) -> (String, Exit) {
    match result {
        TryResult::Delivered => (format!("delivered: sink '{name}' takes events"), Exit::Success),
        TryResult::NothingWaits => (format!("nothing waits for sink '{name}'"), Exit::Success),
        TryResult::Failed(error) => (format!("the attempt at sink '{name}' failed: {error}"), Exit::Finding),
        TryResult::Unavailable(error) => (format!("sink '{name}' is still unavailable: {error}"), Exit::Finding),
        TryResult::Unknown => {
            let wait = WAIT.as_secs();
            (format!("nothing has come of it within {wait} s: see `ralio-relay sinks list`"), Exit::Finding)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inbox::{BuildFailure, SinkHealth};
    use crate::records::sink::tests::record;

    #[test]
    fn what_came_of_a_try_is_told_from_what_is_recorded_since() {
        let at = |second: i64| Some(jiff::Timestamp::from_second(second).unwrap());
        let with = |health: SinkHealth| SinkRecord { lag: 3, health, ..record("bus") };
        let error = |second| SinkHealth {
            last_error: Some("HTTP 503".to_owned()),
            last_error_at: at(second),
            last_success_at: at(1),
            ..SinkHealth::default()
        };
        let before = with(error(5));
        assert_eq!(result(&before, &before), None, "what it knew before is no news");
        assert_eq!(result(&before, &with(error(6))), Some(TryResult::Failed("HTTP 503".to_owned())));
        // One of several was taken.
        let taken = SinkHealth { last_success_at: at(7), ..error(6) };
        assert_eq!(result(&before, &with(taken)), Some(TryResult::Delivered));
        let idle = SinkRecord { lag: 0, parked: 0, ..before.clone() };
        assert_eq!(result(&before, &idle), Some(TryResult::NothingWaits));
        let failure = BuildFailure { error: "no such file".to_owned(), since: at(2).unwrap() };
        assert_eq!(result(&before, &SinkRecord { build_failure: Some(failure), ..idle }), None);
    }

    #[test]
    fn a_failure_is_a_finding_with_the_far_sides_words() {
        let bus = SinkName::new("bus").unwrap();
        let (text, exit) = said(&bus, &TryResult::Failed("HTTP 503".to_owned()));
        assert_eq!((text.as_str(), exit), ("the attempt at sink 'bus' failed: HTTP 503", Exit::Finding));
        assert_eq!(said(&bus, &TryResult::Delivered).1, Exit::Success);
        assert_eq!(said(&bus, &TryResult::NothingWaits).1, Exit::Success);
        assert_eq!(said(&bus, &TryResult::Unknown).1, Exit::Finding);
        assert!(said(&bus, &TryResult::Unavailable("no such file".to_owned())).0.ends_with("no such file"));
    }
}
