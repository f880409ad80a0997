//! `replay list`, `replay show`, `replay resume`, `replay cancel`

use std::io::Write;
use std::ops::ControlFlow;

use comfy_table::{Row, Table};
use serde::Serialize;

use super::begin::tell_paused;
use super::words::filters;
use crate::app::Ask;
use crate::cli::deadletters::rows::{letter_row, letter_table};
use crate::cli::errand::{self, daemon_runs, name, new_job};
use crate::cli::output::{Output, clean, hide, keep_whole, print_table};
use crate::cli::progress::count;
use crate::cli::view::{View, ViewArgs};
use crate::cli::{ConfigArgs, Exit, Format};
use crate::config::load_inbox;
use crate::inbox::{self, DeadLetterRecord, EventFilter, Job, Task};
use crate::model::JobId;
use crate::records::letter::Letter;
use crate::records::replay::{Line, Replay};

const LIST_EXAMPLES: &str = "\
Examples:
  ralio-relay replay list
  ralio-relay replay list --format json | jq 'select(.state == \"running\")'

Exit code: 0, also when there is none.";

/// List replays, newest first
#[derive(clap::Args)]
#[command(after_help = LIST_EXAMPLES)]
pub(super) struct ListArgs {
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
}

/// Show one: what, who, why, how far, and the events that it gave up
#[derive(clap::Args)]
#[command(after_help = "Example:\n  ralio-relay replay show 7\n\nExit code: 0 when it is there, 1 when it is not.")]
pub(super) struct ShowArgs {
    #[command(flatten)]
    config: ConfigArgs,

    /// Its number in the list
    #[arg(value_name = "ID")]
    id: JobId,

    #[command(flatten)]
    view: ViewArgs,

    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Go on with an interrupted replay (or another job that was left), and wait for its end
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  ralio-relay replay resume 7\n\nWhile a daemon runs it has gone on already: this waits and shows how far it is."
)]
pub(super) struct ResumeArgs {
    #[command(flatten)]
    config: ConfigArgs,

    /// Its number in the list
    #[arg(value_name = "ID")]
    id: JobId,
}

/// Stop a replay (or another job that was left) for good; what it has delivered stays delivered
#[derive(clap::Args)]
#[command(after_help = "Example:\n  ralio-relay replay cancel 7 --reason 'the wrong sink'")]
pub(super) struct CancelArgs {
    #[command(flatten)]
    config: ConfigArgs,

    /// Its number in the list
    #[arg(value_name = "ID")]
    id: JobId,

    /// Why: kept in the inbox
    #[arg(long, value_name = "TEXT", value_parser = crate::records::reason)]
    reason: Option<String>,
}

pub(super) fn list(args: &ListArgs) -> anyhow::Result<Exit> {
    let inbox = load_inbox(&args.config.config)?;
    let reader = crate::cli::events::open_inbox(&inbox)?;
    let limit = args.format.limit(args.limit);
    let (mut out, view) = (Output::stdout(), args.view.view());
    let has_daemon = daemon_runs(&inbox.path);
    let mut shown = replay_table(&view);
    let (mut count, mut more, mut open) = (0, false, None);
    reader.each_job(None, &mut |job| {
        let Some(replay) = Replay::of(&job) else { return ControlFlow::Continue(()) };
        if count == limit {
            more = true;
            return ControlFlow::Break(());
        }
        count += 1;
        if !job.state.has_ended() {
            open = Some(job.id);
        }
        match args.format {
            Format::Json => out.json(&Line::from(replay)),
            Format::Table => {
                shown.add_row(replay_row(&view, replay, has_daemon));
                ControlFlow::Continue(())
            }
        }
    })?;
    if !shown.is_empty() {
        let _ = print_table(&mut out, &shown);
    }
    out.finish()?;
    if count == 0 {
        to_stderr!("there has been no replay");
    }
    if let Some(id) = open.filter(|_| !has_daemon) {
        to_stderr!(
            "no daemon holds the inbox: what has not ended stands still. Start it, or: ralio-relay replay resume {id}"
        );
    }
    if more && args.limit.is_none() {
        to_stderr!("there are more: these are the first {limit}; see --limit");
    }
    Ok(Exit::Success)
}

fn replay_table(view: &View) -> Table {
    let mut replays =
        view.table(&["ID", "SINK", "STATE", "DONE", "GIVEN UP", "TOTAL", "BEGUN", "ENDED", "WHO", "REASON", "MESSAGE"]);
    keep_whole(&mut replays, 8);
    match replays.width() {
        Some(..100) => hide(&mut replays, &[7, 8, 10]),
        Some(100..120) => hide(&mut replays, &[8, 10]),
        Some(120..) | None => {}
    }
    replays
}

/// The state in words. What is recorded as running runs only where somebody carries it out.
fn standing(job: &Job, has_daemon: bool) -> &'static str {
    if job.state.has_ended() || has_daemon { job.state.as_str() } else { "waiting for a daemon" }
}

fn replay_row(view: &View, Replay { job, sink, .. }: Replay<'_>, has_daemon: bool) -> Row {
    let cells = [
        &job.id.to_string(),
        sink.as_str(),
        standing(job, has_daemon),
        &count(job.done),
        &count(job.failed),
        &job.total.map_or_else(|| "-".to_owned(), count),
        &view.seconds(job.created_at),
        &job.ended_at.map_or_else(|| "-".to_owned(), |at| view.seconds(at)),
        &job.who,
        &job.reason,
        &job.message,
    ];
    let mut row = view.row(cells, Some(2));
    row.max_height(1);
    row
}

/// `replay show`.
#[derive(Serialize)]
struct Detail<'a> {
    #[serde(flatten)]
    line: Line<'a>,
    first_seq: i64,
    last_seq: i64,
    filters: &'a EventFilter,
    rate: Option<f64>,
    given_up: Vec<Letter<'a>>,
}

pub(super) fn show(args: &ShowArgs) -> anyhow::Result<Exit> {
    let inbox = load_inbox(&args.config.config)?;
    let reader = crate::cli::events::open_inbox(&inbox)?;
    let job = reader.job(args.id)?;
    let Some(replay) = job.as_ref().and_then(Replay::of) else {
        to_stderr!("there is no replay {}: see `ralio-relay replay list`", args.id);
        return Ok(Exit::Finding);
    };
    let given_up = reader.given_up_by(args.id)?;
    let mut out = Output::stdout();
    let _ = match args.format {
        Format::Json => out.json(&Detail {
            line: replay.into(),
            first_seq: replay.selection.first.get(),
            last_seq: replay.selection.last.get(),
            filters: &replay.selection.filter,
            rate: replay.rate,
            given_up: given_up.iter().map(Letter::from).collect(),
        }),
        Format::Table => print(&mut out, &args.view.view(), replay, daemon_runs(&inbox.path), &given_up),
    };
    out.finish()?;
    Ok(Exit::Success)
}

fn print<W: Write>(
    out: &mut Output<W>,
    view: &View,
    replay: Replay<'_>,
    has_daemon: bool,
    given_up: &[DeadLetterRecord],
) -> ControlFlow<()> {
    let Replay { job, sink, selection, rate } = replay;
    let or_dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
    let attributes = [
        ("id", job.id.to_string()),
        ("sink", sink.to_string()),
        ("state", standing(job, has_daemon).to_owned()),
        ("events", filters(view, &selection.filter)),
        ("from, to", format!("{} to {}", selection.first, selection.last)),
        ("rate", rate.map_or_else(|| "as fast as the sink takes them".to_owned(), |rate| format!("{rate} a second"))),
        ("who", job.who.clone()),
        ("reason", or_dash(job.reason.clone())),
        ("begun", view.exactly(job.created_at)),
        ("ended", job.ended_at.map_or_else(|| "-".to_owned(), |at| view.exactly(at))),
        ("delivered", count(job.done)),
        ("given up", count(job.failed)),
        ("total", job.total.map_or_else(|| "-".to_owned(), count)),
        ("message", or_dash(job.message.clone())),
    ];
    attributes.iter().try_for_each(|(name, value)| out.line(format!("{name:<10} {}", clean(value))))?;
    out.line(view.title("Given up"))?;
    if given_up.is_empty() {
        return out.line("none");
    }
    let mut letters = letter_table(view);
    letters.add_rows(given_up.iter().map(|letter| letter_row(view, letter)));
    print_table(out, &letters)?;
    match given_up.len() as u64 {
        all if all >= job.failed => ControlFlow::Continue(()),
        first => out.line(format!("the first {first} of {}", count(job.failed))),
    }
}

pub(super) fn resume(args: &ResumeArgs) -> anyhow::Result<Exit> {
    let inbox = load_inbox(&args.config.config)?;
    let Some(job) = open_job(&inbox, args.id)? else { return Ok(Exit::Finding) };
    if let Some(replay) = Replay::of(&job) {
        let sinks = crate::cli::events::open_inbox(&inbox)?.sinks()?;
        let wanted = std::slice::from_ref(replay.sink);
        sinks.iter().filter(|sink| sink.is_meant_by(replay.sink, wanted, &sinks)).for_each(tell_paused);
    }
    errand::run(&args.config, &inbox, Ask::GoOn(job.id))
}

pub(super) fn cancel(args: CancelArgs) -> anyhow::Result<Exit> {
    let inbox = load_inbox(&args.config.config)?;
    match open_job(&inbox, args.id)? {
        Some(job) => {
            let job = new_job(Task::Cancel { job: job.id }, &args.reason.unwrap_or_default());
            errand::run(&args.config, &inbox, Ask::New(Box::new(job)))
        }
        None => Ok(Exit::Finding),
    }
}

/// The job, when there is something left to do about it; otherwise why not has been said.
fn open_job(inbox: &inbox::Config, id: JobId) -> anyhow::Result<Option<Job>> {
    match crate::cli::events::open_inbox(inbox)?.job(id)? {
        Some(job) if job.state.has_ended() => {
            to_stderr!("{} has ended already: {}", name(&job), job.state.as_str());
            Ok(None)
        }
        Some(job) => Ok(Some(job)),
        None => {
            to_stderr!("there is no replay {id}: see `ralio-relay replay list`");
            Ok(None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inbox::JobState;
    use crate::records::letter::tests::letter;
    use crate::records::replay::tests::replay;

    #[test]
    fn everything_known_is_shown_and_nothing_steers_the_terminal() {
        let job = Job { reason: "why\u{1b}[2J".to_owned(), ..replay(JobState::Running) };
        let mut bytes = Vec::new();
        assert!(
            print(&mut Output::new(&mut bytes), &View::plain(), Replay::of(&job).unwrap(), true, &[letter()])
                .is_continue()
        );
        let text = String::from_utf8(bytes).unwrap();
        for part in [
            "id         7\n",
            "events     type payin.*\n",
            "from, to   3 to 900\n",
            "5 a second",
            "ann@host",
            "HTTP 422",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
    }

    #[test]
    fn what_is_left_out_is_said() {
        for (failed, says) in [(1, false), (1200, true)] {
            let (job, mut bytes) = (Job { failed, ..replay(JobState::Running) }, Vec::new());
            assert!(
                print(&mut Output::new(&mut bytes), &View::plain(), Replay::of(&job).unwrap(), true, &[letter()])
                    .is_continue()
            );
            assert_eq!(String::from_utf8(bytes).unwrap().contains("the first 1 of 1,200\n"), says);
        }
    }

    #[test]
    fn nothing_runs_without_a_daemon() {
        let told = |state, has_daemon| standing(&replay(state), has_daemon);
        for state in [JobState::Queued, JobState::Running] {
            assert_eq!((told(state, false), told(state, true)), ("waiting for a daemon", state.as_str()));
        }
        assert_eq!(told(JobState::Cancelled, false), "cancelled");
    }

    #[test]
    fn a_row_is_one_line() {
        let job = replay(JobState::Done);
        let mut replays = replay_table(&View::plain());
        replays.add_row(replay_row(&View::plain(), Replay::of(&job).unwrap(), false));
        let text = replays.to_string();
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.contains("5,000") && text.contains("done"), "{text}");
        assert!(text.contains("GIVEN UP") && text.contains("the ledger was restored"), "{text}");
    }
}
