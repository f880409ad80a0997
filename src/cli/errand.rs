//! Commands that change something: each is a job, carried out by the daemon that holds the inbox, or here where none
//! does. Who asked, when and why stays in the inbox.

use std::io::{self, Write};
use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use anyhow::{Context as _, bail};
use indicatif::ProgressBar;
use jiff::Timestamp;
use tracing_subscriber::EnvFilter;

use super::access::with_advice;
use super::output::{Output, clean, clean_lines};
use super::progress::{PACE, begin_at, count, style};
use super::{ConfigArgs, Exit};
use crate::app::{self, Ask, Configuration, Errand};
use crate::config::{Problems, Settings, SinkOutline, load_outline};
use crate::inbox::sqlite::Lock;
use crate::inbox::{self, ConfiguredSink, Job, JobState, NewJob, Task};
use crate::lifecycle::{Signals, Stop};

/// A job of whoever types.
pub(crate) fn new_job(task: Task, reason: &str) -> NewJob {
    let var = |name: &str| std::env::var(name).ok();
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let who = who(var, rustix::process::getuid().as_raw(), &host);
    NewJob { task, who, reason: reason.to_owned(), total: None, at: Timestamp::now() }
}

/// `name@host`. Behind sudo it is who called it; a name that is not known is the number.
fn who(var: impl Fn(&str) -> Option<String>, uid: u32, host: &str) -> String {
    let name = ["SUDO_USER", "USER", "LOGNAME"].into_iter().filter_map(var).find(|name| !name.trim().is_empty());
    let name = name.unwrap_or_else(|| format!("uid {uid}"));
    let printable = |text: &str| text.trim().chars().filter(|c| !c.is_control()).take(64).collect::<String>();
    format!("{}@{}", printable(&name), printable(host))
}

/// Has a job carried out, shows how far it is on a terminal, and prints what came of it. Ctrl-C leaves it, and says how
/// it goes on.
pub(crate) fn run(config: &ConfigArgs, inbox: &inbox::Config, ask: Ask) -> anyhow::Result<Exit> {
    let bar = ProgressBar::new_spinner().with_style(style("{spinner} {human_pos} done {msg}"));
    log_beside(&bar)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start")?;
    let mut configuration = Asked { config, is_misconfigured: false };
    let errand = runtime.block_on(carried_out(inbox, &mut configuration, ask, &bar));
    // What hangs must not keep the person waiting: the job is in the inbox.
    runtime.shutdown_timeout(Duration::from_millis(500));
    bar.finish_and_clear();
    let errand = match errand {
        Err(error) if configuration.is_misconfigured => {
            to_stderr!("error: {error:#}");
            return Ok(Exit::Misconfigured);
        }
        errand => errand.map_err(|error| with_advice(error, &inbox.path))?,
    };
    match errand {
        Errand::Left(job) => {
            to_stderr!("{}", left(&job, daemon_runs(&inbox.path)));
            Ok(Exit::Finding)
        }
        Errand::Ended(job) => {
            let exit = exit(&job);
            let said = clean(&said(&job)).into_owned();
            if exit == Exit::Success {
                let mut out = Output::stdout();
                let _ = out.line(said);
                out.finish()?;
            } else {
                to_stderr!("{said}");
            }
            Ok(exit)
        }
    }
}

/// The configuration as the command was told of it.
struct Asked<'a> {
    config: &'a ConfigArgs,
    /// Whether it was asked for, and is wrong.
    is_misconfigured: bool,
}

impl Configuration for Asked<'_> {
    fn settings(&mut self) -> Result<Settings, Problems> {
        self.config.load().inspect_err(|_| self.is_misconfigured = true)
    }

    fn sinks(&mut self) -> Result<Vec<ConfiguredSink>, Problems> {
        let outline = load_outline(&self.config.config).inspect_err(|_| self.is_misconfigured = true)?;
        let sink = |sink: SinkOutline| ConfiguredSink { name: sink.name, max_parked: sink.max_parked };
        Ok(outline.sinks.into_iter().map(sink).collect())
    }
}

async fn carried_out(
    inbox: &inbox::Config,
    configuration: &mut dyn Configuration,
    ask: Ask,
    bar: &ProgressBar,
) -> anyhow::Result<Errand> {
    let signals = Signals::register().context("signals cannot be received")?;
    let stop = Stop::default();
    let mut is_new = true;
    let mut watch = |job: &Job| {
        show(bar, job);
        if std::mem::take(&mut is_new) {
            begin_at(bar, job.done + job.failed);
        }
    };
    let mut errand = pin!(app::carry_out(inbox, configuration, ask, stop.soft.clone(), &mut watch));
    tokio::select! {
        ended = &mut errand => Ok(ended?),
        () = signals.pass_on(stop.clone()) => bail!("stopped at once; what was asked for may still be carried out"),
    }
}

/// Whether another process holds the inbox.
pub(crate) fn daemon_runs(inbox: &Path) -> bool {
    matches!(Lock::try_take(inbox), Ok(None))
}

/// A bar once it is known how much there is, a spinner before. Neither is seen where there is no terminal.
fn show(bar: &ProgressBar, job: &Job) {
    if let Some(total) = job.total
        && bar.length() != job.total
    {
        bar.set_length(total);
        bar.set_style(style(&format!("{PACE} {{msg}}")));
    }
    bar.set_message(match (job.state, job.failed) {
        (JobState::Queued, _) => "waiting for its turn".to_owned(),
        (_, 0) => String::new(),
        (_, failed) => format!("({} given up)", count(failed)),
    });
    bar.set_position(job.done + job.failed);
    bar.tick();
}

/// What goes wrong while a job is carried out here is said beside the bar.
fn log_beside(bar: &ProgressBar) -> anyhow::Result<()> {
    let bar = bar.clone();
    let filter = EnvFilter::try_new(format!("{},warn", super::log::QUIET)).context("cannot log")?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_target(false).without_time();
    // Another subscriber can only be a test's.
    let _ = lines.with_writer(move || Beside(bar.clone())).try_init();
    Ok(())
}

struct Beside(ProgressBar);

impl Write for Beside {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        self.0.suspend(|| io::stderr().write_all(clean_lines(&text).as_bytes()))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

fn exit(job: &Job) -> Exit {
    let nothing_done = match &job.task {
        Task::Retry { .. }
        | Task::Discard { .. }
        | Task::RetryParked { .. }
        | Task::DiscardParked { .. }
        | Task::Admit { .. }
        | Task::Purge { .. } => job.done == 0,
        // What a replay gave up is a finding.
        Task::Replay { .. } => job.failed > 0,
        Task::Pause { .. }
        | Task::Resume { .. }
        | Task::Rename { .. }
        | Task::Try { .. }
        | Task::Forget { .. }
        | Task::Prune { .. }
        | Task::ConfirmClock { .. }
        | Task::Cancel { .. } => false,
    };
    match job.state {
        JobState::Done if !nothing_done => Exit::Success,
        JobState::Queued | JobState::Running | JobState::Done | JobState::Failed | JobState::Cancelled => Exit::Finding,
    }
}

fn said(job: &Job) -> String {
    let message = match job.message.as_str() {
        "" => format!("{} has ended", name(job)),
        message => message.to_owned(),
    };
    let message = match job.task {
        Task::Replay { .. } if job.failed > 0 => {
            let look = format!("ralio-relay replay show {}", job.id);
            format!("{message}: {} delivered, {} given up (see {look})", count(job.done), count(job.failed))
        }
        Task::Replay { .. } => format!("{message}: {} delivered", count(job.done)),
        Task::Admit { .. } if job.state == JobState::Done => {
            format!("{message}: {} taken in, {} still refused", count(job.done), count(job.failed))
        }
        Task::Pause { .. }
        | Task::Resume { .. }
        | Task::Rename { .. }
        | Task::Retry { .. }
        | Task::Discard { .. }
        | Task::RetryParked { .. }
        | Task::DiscardParked { .. }
        | Task::Try { .. }
        | Task::Forget { .. }
        | Task::Admit { .. }
        | Task::Purge { .. }
        | Task::Prune { .. }
        | Task::ConfirmClock { .. }
        | Task::Cancel { .. } => message,
    };
    match job.state {
        JobState::Cancelled => format!("{} was {message}", name(job)),
        JobState::Failed => format!("{} failed: {message}", name(job)),
        JobState::Queued | JobState::Running | JobState::Done => message,
    }
}

fn left(job: &Job, daemon_runs: bool) -> String {
    let (id, name, seen) = (job.id, name(job), job.done + job.failed);
    let how_far = match job.total {
        Some(total) => format!("{} of {}", count(seen), count(total)),
        None => count(seen),
    };
    let goes_on = if daemon_runs { "the daemon goes on with it" } else { "it goes on when the daemon starts" };
    format!(
        "{name} is kept at {how_far}: {goes_on}, or: ralio-relay replay resume {id}; \
         stop it for good: ralio-relay replay cancel {id}"
    )
}

/// `replay 7`; for anything else, `job 7`.
pub(crate) fn name(job: &Job) -> String {
    match job.task {
        Task::Replay { .. } => format!("replay {}", job.id),
        Task::Pause { .. }
        | Task::Resume { .. }
        | Task::Rename { .. }
        | Task::Retry { .. }
        | Task::Discard { .. }
        | Task::RetryParked { .. }
        | Task::DiscardParked { .. }
        | Task::Try { .. }
        | Task::Forget { .. }
        | Task::Admit { .. }
        | Task::Purge { .. }
        | Task::Prune { .. }
        | Task::ConfirmClock { .. }
        | Task::Cancel { .. } => format!("job {}", job.id),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::inbox::{LetterFilter, QuarantineFilter};
    use crate::records::replay::tests::replay;

    #[test]
    fn who_asked_is_a_person_where_one_is_known() {
        let named = |given: &[(&str, &str)]| {
            let var = |name: &str| given.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
            who(var, 1000, "relay-1")
        };
        assert_eq!(named(&[("USER", "root"), ("SUDO_USER", "ann")]), "ann@relay-1");
        assert_eq!(named(&[("USER", ""), ("LOGNAME", "bob")]), "bob@relay-1");
        assert_eq!(named(&[]), "uid 1000@relay-1");
        assert_eq!(named(&[("USER", "a\u{1b}[2J\n")]), "a[2J@relay-1");
        assert!(named(&[("USER", &"x".repeat(999))]).len() < 100);
    }

    #[test]
    fn a_job_that_is_left_says_how_it_goes_on() {
        let text = left(&replay(JobState::Running), true);
        assert!(text.starts_with("replay 7 is kept at 120 of 5,000: the daemon goes on with it, or: "), "{text}");
        assert!(text.ends_with("replay resume 7; stop it for good: ralio-relay replay cancel 7"), "{text}");
        let unknown = Job { total: None, ..replay(JobState::Running) };
        assert!(left(&unknown, false).starts_with("replay 7 is kept at 120: it goes on when the daemon starts"));
    }

    #[test]
    fn exit_codes_tell_done_from_nothing_done_and_failed() {
        let done = replay(JobState::Done);
        assert_eq!(exit(&done), Exit::Finding, "it gave two events up");
        assert_eq!(said(&done), "replay 7 has ended: 118 delivered, 2 given up (see ralio-relay replay show 7)");
        let done = Job { failed: 0, ..done };
        assert_eq!((exit(&done), said(&done)), (Exit::Success, "replay 7 has ended: 118 delivered".to_owned()));
        for state in [JobState::Failed, JobState::Cancelled] {
            assert_eq!(exit(&Job { state, ..done.clone() }), Exit::Finding);
        }
        let message = "cancelled by ann@host (the wrong sink)".to_owned();
        let cancelled = Job { state: JobState::Cancelled, message, ..done.clone() };
        assert_eq!(said(&cancelled), "replay 7 was cancelled by ann@host (the wrong sink): 118 delivered");
        let admit = Job { task: Task::Admit { requests: QuarantineFilter::default() }, failed: 3, ..done.clone() };
        assert_eq!(said(&admit), "job 7 has ended: 118 taken in, 3 still refused");
        let retry = Job { task: Task::Retry { letters: LetterFilter::default() }, ..done };
        assert_eq!((exit(&retry), said(&retry)), (Exit::Success, "job 7 has ended".to_owned()));
        assert_eq!(exit(&Job { done: 0, ..retry.clone() }), Exit::Finding);
        let failed = Job { state: JobState::Failed, message: "no such sink".to_owned(), ..retry };
        assert_eq!(said(&failed), "job 7 failed: no such sink");
    }

    #[test]
    fn progress_is_a_spinner_until_the_whole_is_known() {
        let bar = ProgressBar::hidden();
        show(&bar, &Job { total: None, ..replay(JobState::Queued) });
        assert_eq!((bar.length(), bar.position(), bar.message().as_str()), (None, 120, "waiting for its turn"));
        show(&bar, &replay(JobState::Running));
        assert_eq!((bar.length(), bar.position(), bar.message().as_str()), (Some(5000), 120, "(2 given up)"));
    }
}
