//! `prune`

use std::time::Duration;

use anyhow::Context as _;
use indicatif::HumanBytes;
use jiff::Timestamp;

use super::consent::counted;
use super::errand::{self, new_job};
use super::output::Output;
use super::view::{View, ViewArgs};
use super::{ConfigArgs, Exit, progress};
use crate::app::Ask;
use crate::clock::Uptime;
use crate::config::Outline;
use crate::inbox::{ClockAhead, Task};

const EXAMPLES: &str = "\
Examples:
  ralio-relay prune --dry-run
  ralio-relay prune
  ralio-relay prune --confirm-clock

Drops the bodies of events that came in longer ago than inbox.retention.bodies, and nothing else: ids, digests, \
signatures and attempts stay for good. A body that a sink has still to get, that is parked, a dead letter or part of a \
replay is kept until that is over. The daemon does the same once a day.

A clock that is wrong by years would make every body look old. So retention believes only as much time as the machine has \
been up, and one day more for each start of the machine. While the clock is further ahead, retention is held at the time that \
it believes, and says so. After a machine was off for longer, look at its clock, and confirm it with --confirm-clock.

Exit code: 0 when it is done, 2 when inbox.retention.bodies is not set.";

/// Apply retention now: drop the bodies of old events
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    config: ConfigArgs,

    /// Say how much would go, and drop nothing
    #[arg(long)]
    dry_run: bool,

    /// Say that this machine's clock is right, though it is further ahead than retention believes
    #[arg(long, conflicts_with = "dry_run")]
    confirm_clock: bool,

    /// Why: kept in the inbox
    #[arg(long, value_name = "TEXT", value_parser = crate::records::reason)]
    reason: Option<String>,

    #[command(flatten)]
    view: ViewArgs,
}

const UNSET: &str = "\
error: inbox.retention.bodies is not set, so bodies are kept for good. To drop those of old events, write how long they
are to be kept at least, such as
    [inbox.retention]
    bodies = \"400d\"";

pub(crate) fn run(args: Args) -> anyhow::Result<Exit> {
    let Outline { inbox, sinks } = crate::config::load_outline(&args.config.config)?;
    let Some(retention) = inbox.retention else {
        to_stderr!("{UNSET}");
        return Ok(Exit::BadUsage);
    };
    let (now, sinks) = (Timestamp::now(), sinks.into_iter().map(|sink| sink.name).collect::<Vec<_>>());
    let mut reader = super::events::open_inbox(&inbox)?;
    let believed = reader.believed_clock(now, &Uptime::now())?;
    let reason = args.reason.unwrap_or_default();
    if args.confirm_clock {
        let confirmed = Ask::New(Box::new(new_job(Task::ConfirmClock { at: now }, &reason)));
        match errand::run(&args.config, &inbox, confirmed)? {
            Exit::Success => {}
            failed => return Ok(failed),
        }
    } else if let Some(ahead) = believed.ahead(now) {
        to_stderr!("warning: retention is held back: {}; {}", ahead.text(), ClockAhead::REMEDY);
    }
    let believed = if args.confirm_clock { now } else { believed.retention_time(now) };
    let before = begin(believed, retention)?;
    if !args.dry_run {
        let job = new_job(Task::Prune { before, sinks }, &reason);
        return errand::run(&args.config, &inbox, Ask::New(Box::new(job)));
    }
    let total = u64::try_from(reader.head()?.get()).unwrap_or(0);
    let bar = progress::bar(total, "counting {bar:30} {human_pos}/{human_len}");
    let found = reader.prunable(before, &sinks, &mut |at| bar.set_position(u64::try_from(at.get()).unwrap_or(0)));
    bar.finish_and_clear();
    let (count, bytes) = found?;
    let mut out = Output::stdout();
    let _ = out.line(said(&args.view.view(), count, bytes, before));
    out.finish()?;
    Ok(Exit::Success)
}

/// What came in before this may go.
fn begin(now: Timestamp, retention: Duration) -> anyhow::Result<Timestamp> {
    now.checked_sub(retention).context("inbox.retention.bodies reaches back too far")
}

fn said(view: &View, count: u64, bytes: u64, before: Timestamp) -> String {
    let bodies = counted(count, "event");
    format!("would drop the bodies of {bodies} ({}), received before {}", HumanBytes(bytes), view.seconds(before))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retention_counts_back_from_now() {
        let now = "2026-01-31T10:00:00Z".parse().unwrap();
        let before = begin(now, Duration::from_secs(86_400)).unwrap();
        assert_eq!(before.to_string(), "2026-01-30T10:00:00Z");
        let text = said(&View::plain(), 1, 2048, before);
        assert_eq!(text, "would drop the bodies of 1 event (2.00 KiB), received before 2026-01-30T10:00:00Z");
        assert!(begin(now, Duration::MAX).is_err());
    }
}
