//! `status`

use std::io::Write;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::access::with_advice;
use super::output::{Output, clean};
use super::view::{View, ViewArgs};
use super::{ConfigArgs, Exit, Format, health, sinks};
use crate::clock::Uptime;
use crate::config::{load_admin_address, load_certificate, load_inbox, load_outline};
use crate::inbox::sqlite::{ReadError, Reader};
use crate::inbox::{ClockAhead, QuarantineCounts, RefusedSource, SinkRecord, unconfigured};
use crate::records::Time;
use crate::records::sink::{Configured, Line, lines};
use crate::records::status::{Daemon, Facts, Level, ReloadFailure, Verdict, verdict};

const EXAMPLES: &str = "\
Examples:
  ralio-relay status
  ralio-relay status --format json | jq -r .sentence
  ralio-relay status > /dev/null || echo 'somebody has to look'

It reads the inbox, and asks the daemon on this machine whether it takes deliveries. The sentence and what is below it are \
those of the page's overview.

Exit code: 0 when all is well, 1 when something needs a person, 2 when the configuration is wrong, 3 when there is no inbox, or \
the daemon does not answer.";

/// How the relay is doing, in a sentence, and what needs a person
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    config: ConfigArgs,

    #[command(flatten)]
    view: ViewArgs,

    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// What the inbox says.
struct Counts {
    last_event_at: Option<Timestamp>,
    last_hour: u64,
    last_24h: u64,
    sinks: Vec<SinkRecord>,
    quarantine: QuarantineCounts,
    refused: Vec<RefusedSource>,
    altered_events: u64,
    clock_ahead: Option<ClockAhead>,
}

/// Everything, in JSON.
#[derive(Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    verdict: &'a Verdict,
    /// Whether deliveries are taken; null where the daemon has no admin listener to ask.
    ready: Option<bool>,
    reasons: &'a [String],
    last_event_at: Option<Time>,
    last_hour: u64,
    last_24h: u64,
    quarantine_entries: u64,
    /// Of these, those that were answered 401.
    quarantine_answered_401: u64,
    /// Requests of the last day that were refused for their signature, answered 503 and are not kept.
    quarantine_not_kept: u64,
    certificate_ends: Option<Time>,
    /// Events whose stored body is not what came in.
    altered_events: u64,
    /// When the configuration was last to be read again, where it could not be used.
    last_reload_failed_at: Option<Time>,
    sinks: &'a [Line<'a>],
}

impl Counts {
    fn read(reader: &mut Reader, now: Timestamp) -> Result<Self, ReadError> {
        let before = |hours: i64| now.saturating_sub(SignedDuration::from_hours(hours)).unwrap_or(now);
        let uses = reader.secret_uses()?;
        Ok(Self {
            refused: reader.refused_sources(&uses)?,
            altered_events: reader.altered_events()?,
            last_event_at: reader.last_arrival()?,
            last_hour: reader.count_since(before(1))?,
            last_24h: reader.count_since(before(24))?,
            sinks: reader.sinks()?,
            quarantine: reader.quarantine_counts(now)?,
            clock_ahead: reader.believed_clock(now, &Uptime::now())?.ahead(now),
        })
    }
}

pub(crate) fn run(args: &Args) -> anyhow::Result<Exit> {
    let files = &args.config.config;
    let inbox = load_inbox(files)?;
    // What is wrong elsewhere in the configuration is for `check` to tell; the daemon may run with an earlier one.
    let outline = load_outline(files).ok();
    let (daemon, reload_failure) = ask(files)?;
    let mut reader = match Reader::open(&inbox) {
        Ok(reader) => reader,
        Err(error @ ReadError::Absent(_)) => {
            to_stderr!("error: {error}");
            return Ok(Exit::Unreachable);
        }
        Err(error) => return Err(with_advice(error.into(), &inbox.path)),
    };
    let now = Timestamp::now();
    let counts = Counts::read(&mut reader, now)?;
    let configured = outline.as_ref().map(|outline| {
        outline.sinks.iter().map(|sink| Configured { name: &sink.name, kind: sink.kind }).collect::<Vec<_>>()
    });
    let lines = lines(&counts.sinks, configured.as_deref());
    let names: Option<Vec<_>> =
        outline.as_ref().map(|outline| outline.sinks.iter().map(|sink| sink.name.clone()).collect());
    let unconfigured = names.as_deref().map(|names| unconfigured(&counts.sinks, names)).unwrap_or_default();
    let certificate_ends = certificate_ends(files);
    let facts = Facts {
        daemon,
        last_event_at: counts.last_event_at,
        last_hour: counts.last_hour,
        last_24h: counts.last_24h,
        sinks: &lines,
        quarantine: counts.quarantine,
        quarantine_most: inbox.quarantine.max_entries.into(),
        refused: &counts.refused,
        unconfigured: &unconfigured,
        altered_events: counts.altered_events,
        reload_failure,
        certificate_ends,
        clock_ahead: counts.clock_ahead.filter(|_| inbox.retention.is_some()),
        now,
    };
    let told = verdict(&facts);
    let mut out = Output::stdout();
    let _ = match args.format {
        Format::Json => out.json(&report(&facts, &told)),
        Format::Table => print(&mut out, &args.view.view(), &facts, &told),
    };
    out.finish()?;
    Ok(match (&facts.daemon, told.level) {
        (Daemon::Away, _) => Exit::Unreachable,
        (Daemon::Ready | Daemon::NotReady(_) | Daemon::Unknown, Level::Ok) => Exit::Success,
        (Daemon::Ready | Daemon::NotReady(_) | Daemon::Unknown, Level::Warn | Level::Bad) => Exit::Finding,
    })
}

/// What the daemon says of itself, and whether its last reload failed.
fn ask(files: &[PathBuf]) -> anyhow::Result<(Daemon, Option<ReloadFailure>)> {
    const PATIENCE: Duration = Duration::from_secs(3);
    let Some(listen) = load_admin_address(files)?.filter(|listen| listen.port() != 0) else {
        return Ok((Daemon::Unknown, None));
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    let asked = health::ask(health::reachable(listen));
    let Ok(Ok((status, body))) = runtime.block_on(async { tokio::time::timeout(PATIENCE, asked).await }) else {
        return Ok((Daemon::Away, None));
    };
    // Without a token the daemon tells when alone. The files tell why, as far as that shows without secrets, which whoever
    // asks may not be allowed to read; where it does not, `check` tells.
    let problems = || load_outline(files).err().map(|problems| problems.0).unwrap_or_default();
    let reload_failure = health::last_reload_failed_at(&body)
        .map(|at| ReloadFailure { at, problems: problems().iter().map(ToString::to_string).collect() });
    let daemon = match status {
        200 if health::is_ready(&body) => Daemon::Ready,
        _ => Daemon::NotReady(vec![health::reasons(status, &body)]),
    };
    Ok((daemon, reload_failure))
}

/// When the certificate ends, where there is one that can be read.
fn certificate_ends(files: &[PathBuf]) -> Option<Timestamp> {
    let file = load_certificate(files).ok().flatten()?;
    crate::ingest::describe(&file).ok().map(|about| about.not_after)
}

fn report<'a>(facts: &'a Facts<'_>, told: &'a Verdict) -> Report<'a> {
    let (ready, reasons): (_, &[String]) = match &facts.daemon {
        Daemon::Ready => (Some(true), &[]),
        Daemon::NotReady(reasons) => (Some(false), reasons),
        Daemon::Away => (Some(false), &[]),
        Daemon::Unknown => (None, &[]),
    };
    Report {
        verdict: told,
        ready,
        reasons,
        last_event_at: facts.last_event_at.map(Time),
        last_hour: facts.last_hour,
        last_24h: facts.last_24h,
        quarantine_entries: facts.quarantine.entries,
        quarantine_answered_401: facts.quarantine.answered_401,
        quarantine_not_kept: facts.quarantine.not_kept,
        certificate_ends: facts.certificate_ends.map(Time),
        altered_events: facts.altered_events,
        last_reload_failed_at: facts.reload_failure.as_ref().map(|failure| Time(failure.at)),
        sinks: facts.sinks,
    }
}

fn print<W: Write>(out: &mut Output<W>, view: &View, facts: &Facts<'_>, told: &Verdict) -> ControlFlow<()> {
    let word = |level| match level {
        Level::Bad => "act",
        Level::Warn => "look",
        Level::Ok => "OK",
    };
    out.line(view.painted(&clean(&told.sentence), word(told.level)))?;
    if !told.more.is_empty() {
        out.line(clean(&told.more))?;
    }
    for finding in &told.findings {
        let word = word(finding.level);
        out.line(format!("\n{:<5} {}", view.painted(word, word), clean(&finding.text)))?;
        out.line(format!("      {}", clean(&finding.todo)))?;
        if let Some(command) = &finding.command {
            out.line(format!("      {}", clean(command)))?;
        }
    }
    if !facts.sinks.is_empty() {
        out.line(view.title("Sinks"))?;
        sinks::print_list(out, view, facts.sinks)?;
    }
    out.line(view.title("Events"))?;
    let last = facts.last_event_at.map_or_else(|| "never".to_owned(), |at| view.seconds(at));
    out.line(format!("last event     {last}"))?;
    out.line(format!("last hour      {}", facts.last_hour))?;
    out.line(format!("last 24 hours  {}", facts.last_24h))?;
    let QuarantineCounts { entries, not_kept, .. } = facts.quarantine;
    let besides = if not_kept > 0 { format!(" (and {not_kept} answered 503, not kept)") } else { String::new() };
    out.line(format!("quarantine     {entries}{besides}"))
}
