//! `sinks show`

use std::io::Write;
use std::ops::ControlFlow;
use std::time::Duration;

use jiff::Timestamp;

use super::unknown;
use crate::admin::SinkFacts;
use crate::cli::output::{Output, clean, print_table};
use crate::cli::view::{View, ViewArgs};
use crate::cli::{ConfigArgs, Exit, Format};
use crate::config::{Env, Reading, SinkSettings, load_inbox, read};
use crate::inbox::Undelivered;
use crate::model::{EventType, SinkName};
use crate::records::sink::{Configured, NEW, REMOVED, lines};
use crate::records::sink_detail::{Detail, Revision, Settings};
use crate::records::words::span;

const EXAMPLES: &str = "\
Examples:
  ralio-relay sinks show bus
  ralio-relay sinks show bus --format json | jq .last_error

Events after the cursor are counted by the types that the sink wants; its filter is not asked.

Exit code: 0 when it is there, 1 when it is not.";

/// Show one: state, since when and why, the next try, what is undelivered, where it delivers to
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    config: ConfigArgs,

    /// The sink
    #[arg(value_name = "NAME", value_parser = SinkName::new)]
    name: SinkName,

    #[command(flatten)]
    view: ViewArgs,

    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// The configured sinks as far as they can be read: commands may run without the right to read every secret.
fn configured(reading: &Reading, env: &Env) -> Vec<SinkFacts> {
    let sinks = match &reading.settings {
        Ok(settings) => settings.sinks.clone(),
        Err(_) => reading.tree.sinks(env).0.into_iter().flatten().collect(),
    };
    let facts =
        |sink: SinkSettings| SinkFacts { kind: sink.sink.kind(), target: sink.sink.target(), consumer: sink.consumer };
    sinks.into_iter().map(facts).collect()
}

pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let env = Env::of_process();
    let inbox = load_inbox(&args.config.config)?;
    let reading = read(&args.config.config, &env);
    let facts = configured(&reading, &env);
    if let Err(problems) = &reading.settings {
        to_stderr!("the configuration cannot be used as a whole, so what it says of sinks may be missing: {problems}");
    }
    let mut reader = crate::cli::events::open_inbox(&inbox)?;
    let records = reader.sinks()?;
    // Where it cannot be read as a whole, what is missing in it is not known to be removed.
    let outlines: Vec<_> = facts.iter().map(|sink| Configured { name: &sink.consumer.name, kind: sink.kind }).collect();
    let outlines = reading.settings.is_ok().then_some(&outlines[..]);
    let all = lines(&records, outlines);
    if let Some(complaint) = unknown(&args.name, all.iter().map(|line| line.name)) {
        to_stderr!("error: {complaint}");
        return Ok(Exit::Finding);
    }
    let record = records.iter().find(|record| record.name == args.name);
    let names: Vec<_> = facts.iter().map(|sink| sink.consumer.name.clone()).collect();
    let is_meant = |configured: &SinkName| {
        record.map_or(*configured == args.name, |record| record.is_meant_by(configured, &names, &records))
    };
    let own = facts.iter().find(|sink| is_meant(&sink.consumer.name));
    let wants = |event_type: &EventType| own.is_none_or(|sink| sink.consumer.route.wants(event_type));
    let found = match record {
        Some(record) => reader.undelivered(record, &wants)?,
        None => Undelivered { is_whole: true, ..Undelivered::default() },
    };
    let revisions = record.map(|record| reader.sink_revisions(record.id)).transpose()?.unwrap_or_default();
    let mut out = Output::stdout();
    for line in all.into_iter().filter(|line| line.name == args.name.as_str()) {
        let detail = Detail::new(line, &found, own.map(SinkFacts::settings), &revisions, Timestamp::now());
        let _ = match args.format {
            Format::Json => out.json(&detail),
            Format::Table => print(&mut out, &args.view.view(), &detail, &found),
        };
    }
    out.finish()?;
    Ok(Exit::Success)
}

fn print<W: Write>(out: &mut Output<W>, view: &View, sink: &Detail<'_>, found: &Undelivered) -> ControlFlow<()> {
    let line = &sink.line;
    let state = view.painted(line.state, line.state);
    out.line(format!("{}: {state}. {}", line.name, clean(&sink.words)))?;
    out.line("")?;
    let at = |time: Option<crate::records::Time>| time.map_or_else(|| "-".to_owned(), |time| view.seconds(time.0));
    let error = line
        .last_error
        .as_deref()
        .map_or_else(|| "-".to_owned(), |error| format!("{error} ({})", at(line.last_error_at)));
    let cursor = line.cursor.map_or_else(|| "-".to_owned(), |cursor| cursor.to_string());
    let facts = [
        ("since", at(line.since)),
        ("last error", error),
        ("last success", at(line.last_success_at)),
        ("next try", at(line.next_try)),
        (
            "undelivered",
            format!(
                "{} ({} parked, {} after the cursor)",
                line.undelivered,
                line.parked,
                line.undelivered.saturating_sub(line.parked)
            ),
        ),
        ("dead letters", line.dead_letters.to_string()),
        ("delivered", line.delivered.to_string()),
        ("cursor", cursor),
        ("registered", at(line.registered_at)),
    ];
    facts.iter().try_for_each(|(name, value)| out.line(format!("{name:<13} {}", clean(value))))?;
    if let Some(settings) = &sink.config {
        print_settings(out, view, settings)?;
    }
    print_revisions(out, view, &sink.revisions)?;
    print_undelivered(out, view, sink, found)?;
    print_next(out, view, sink)
}

/// A span of time, to the fraction of a second where it is short.
fn lasting(seconds: f64) -> String {
    match Duration::try_from_secs_f64(seconds) {
        Ok(long) if long >= Duration::from_secs(60) => span(i64::try_from(long.as_secs()).unwrap_or(i64::MAX)),
        Ok(_) | Err(_) => format!("{seconds} s"),
    }
}

fn print_settings<W: Write>(out: &mut Output<W>, view: &View, settings: &Settings) -> ControlFlow<()> {
    let Settings { target, events, filter, ordering, concurrency, timeout_seconds, rate, retry } = settings;
    let events = if events.is_empty() { "every type".to_owned() } else { events.join(" ") };
    out.line(view.title("Configured"))?;
    let facts = [
        ("target", target.clone()),
        ("events", events),
        ("filter", filter.clone().unwrap_or_else(|| "-".to_owned())),
        ("ordering", (*ordering).to_owned()),
        ("concurrency", format!("{concurrency}, timeout {}", lasting(*timeout_seconds))),
        ("rate", rate.map_or_else(|| "off".to_owned(), |rate| format!("{rate}/s"))),
        (
            "retry",
            format!(
                "after {} to {}, given up after {}; down after {} failures in a row, then tried every {} at most; at most {} \
                 parked",
                lasting(retry.initial_seconds),
                lasting(retry.max_seconds),
                lasting(retry.give_up_after_seconds),
                retry.breaker_after,
                lasting(retry.probe_max_seconds),
                retry.max_parked
            ),
        ),
    ];
    facts.iter().try_for_each(|(name, value)| out.line(format!("{name:<13} {}", clean(value))))
}

/// What it was before, where it has changed.
fn print_revisions<W: Write>(out: &mut Output<W>, view: &View, revisions: &[Revision<'_>]) -> ControlFlow<()> {
    if revisions.len() < 2 {
        return ControlFlow::Continue(());
    }
    out.line(view.title("Revisions"))?;
    let mut shown = view.table(&["REVISION", "SINCE", "FROM SEQ", "BECAUSE", "TYPE", "TARGET", "ROUTE"]);
    for known in revisions {
        let cells = [
            &known.revision.to_string(),
            &view.seconds(known.since.0),
            &known.from_seq.to_string(),
            known.because,
            known.r#type,
            known.target,
            known.route,
        ];
        shown.add_row(view.row(cells, None));
    }
    print_table(out, &shown)
}

fn print_undelivered<W: Write>(
    out: &mut Output<W>,
    view: &View,
    sink: &Detail<'_>,
    found: &Undelivered,
) -> ControlFlow<()> {
    out.line(view.title("Undelivered"))?;
    let Some(oldest) = &found.oldest else { return out.line("none") };
    let event = &oldest.event;
    let (id, received) = (clean(event.id.as_str()), view.seconds(event.received_at));
    let next = oldest.next_attempt.map(|at| format!("; next attempt {}", view.seconds(at))).unwrap_or_default();
    let error = oldest.last_error.as_deref().map(|error| format!(": {}", clean(error))).unwrap_or_default();
    out.line(format!("oldest: event {} ({}, {id}), received {received}", event.seq, clean(event.event_type.as_str())))?;
    let attempts = if oldest.attempts == 1 { "attempt" } else { "attempts" };
    out.line(format!("        {} {attempts}{error}{next}", oldest.attempts))?;
    let mut types = view.table(&["TYPE", "PARKED", "WAITING"]);
    for counted in &found.by_type {
        let cells = [counted.event_type.as_str(), &counted.parked.to_string(), &counted.waiting.to_string()];
        types.add_row(view.row(cells, None));
    }
    print_table(out, &types)?;
    match sink.undelivered_is_whole {
        true => ControlFlow::Continue(()),
        false => out.line("There are more: only the oldest were looked at."),
    }
}

/// The commands that go on from here.
fn print_next<W: Write>(out: &mut Output<W>, view: &View, sink: &Detail<'_>) -> ControlFlow<()> {
    let (name, line) = (sink.line.name, &sink.line);
    let (is_removed, is_new) = (line.state == REMOVED, line.state == NEW);
    let commands = [
        (line.undelivered > 0 && !is_removed && !is_new, format!("sinks try {name}"), "try now what waits"),
        (line.paused_since.is_some() && !is_removed, format!("sinks resume {name}"), "go on"),
        (line.parked > 0, format!("parked list --sink {name}"), "what waits for its next attempt, and why"),
        (line.undelivered > 0, format!("events list --sink {name} --undelivered"), "all that it has still to get"),
        (line.dead_letters > 0, format!("deadletters list --sink {name}"), "what was given up"),
        (is_removed, format!("sinks forget {name}"), "end it: what waits is discarded, with a reason"),
    ];
    let mut wanted = commands.iter().filter(|(is_wanted, ..)| *is_wanted).peekable();
    if wanted.peek().is_none() {
        return ControlFlow::Continue(());
    }
    out.line(view.title("Next"))?;
    wanted.try_for_each(|(_, command, what)| out.line(format!("ralio-relay {command:<44}  {what}")))
}
