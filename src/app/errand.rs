//! A job that somebody asks for at the command line: handed to the daemon that holds the inbox, or carried out here when
//! none does.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{AppError, build_sinks, consumers, job_deps};
use crate::clock::{Clock, SystemClock};
use crate::config::{Problems, Settings};
use crate::consume;
use crate::inbox::sqlite::{Desk, Lock, Reader, SqliteInbox};
use crate::inbox::{self, Because, ConfiguredSink, Inbox, Job, NewJob, Task};
use crate::jobs::{self, Destinations, Executor};
use crate::metrics::Metrics;
use crate::model::JobId;

/// How often the job is looked at while somebody watches.
const WATCH: Duration = Duration::from_millis(100);
/// How often it is looked whether the daemon that has the job is still there.
const LOOK_FOR_DAEMON: Duration = Duration::from_secs(1);
/// What is in flight gets so long to end, once it is enough, and the sinks so long to close. Longer than that nobody waits, least of all a daemon that
/// has to receive: whether it arrived is unknown then, and it is delivered again.
const LET_GO: Duration = Duration::from_millis(500);

/// What is asked for.
#[derive(Clone, Debug)]
pub enum Ask {
    /// A new job.
    New(Box<NewJob>),
    /// One that is stored and has not ended, such as an interrupted replay.
    GoOn(JobId),
}

/// How an errand ended.
#[derive(Clone, Debug)]
pub enum Errand {
    /// The job has ended, well or not: see its state.
    Ended(Job),
    /// `stop` came first, or the rest needs a daemon. The job is stored, and goes on in the daemon: at once when one
    /// runs, else when one starts.
    Left(Job),
}

/// What the configuration says, asked for where a job needs it and no daemon carries the job out.
pub trait Configuration {
    /// The whole, with its secrets.
    fn settings(&mut self) -> Result<Settings, Problems>;

    /// The configured sinks.
    fn sinks(&mut self) -> Result<Vec<ConfiguredSink>, Problems>;
}

/// What a job needs of the configuration.
enum Needs {
    Nothing,
    Sinks(Vec<ConfiguredSink>),
    Settings(Box<Settings>),
}

impl Needs {
    /// What the executor works with.
    fn deps(self, destinations: Destinations, consume: consume::Deps) -> jobs::Deps {
        let configured = match self {
            Self::Settings(settings) => return job_deps(&settings, destinations, consume),
            Self::Sinks(sinks) => sinks,
            Self::Nothing => Vec::new(),
        };
        let (keys, quarantine, configured) = (Default::default(), Default::default(), Some(configured));
        jobs::Deps { consume, keys, sinks: destinations, retention: None, quarantine, configured }
    }

    fn of(task: &Task, configuration: &mut dyn Configuration) -> Result<Self, Problems> {
        Ok(match task {
            Task::Admit { .. } | Task::Replay { .. } => Self::Settings(Box::new(configuration.settings()?)),
            Task::Retry { .. } | Task::RetryParked { .. } | Task::Forget { .. } | Task::Try { .. } => {
                Self::Sinks(configuration.sinks()?)
            }
            Task::Pause { .. }
            | Task::Resume { .. }
            | Task::Rename { .. }
            | Task::Discard { .. }
            | Task::DiscardParked { .. }
            | Task::Purge { .. }
            | Task::Prune { .. }
            | Task::ConfirmClock { .. }
            | Task::Cancel { .. } => Self::Nothing,
        })
    }
}

/// Has a job carried out, and waits for its end; `watch` sees it whenever it may have changed, several times a second.
///
/// While a daemon holds the inbox the job is handed to it. Otherwise it is carried out here, under the inbox's lock; a
/// daemon that starts meanwhile gets the inbox as soon as it asks for it, and goes on with the job. `configuration` is
/// only asked for what the job needs of it.
pub async fn carry_out(
    inbox: &inbox::Config,
    configuration: &mut dyn Configuration,
    ask: Ask,
    stop: CancellationToken,
    watch: &mut dyn FnMut(&Job),
) -> Result<Errand, AppError> {
    // A command makes no inbox: it would be one at a mistyped path.
    let reader = Reader::open(inbox)?;
    let mut ask = ask;
    loop {
        let lock = Lock::try_take(&inbox.path)?;
        let mut nobody_goes_on = false;
        let id = match (lock, ask) {
            (Some(lock), ask) => {
                let (id, left) = work_here(inbox, lock, configuration, ask, &stop, &reader, watch).await?;
                match left {
                    Left::ForDaemon => give_way(inbox).await,
                    Left::Done => nobody_goes_on = true,
                }
                id
            }
            (None, Ask::New(job)) => Desk::open(inbox)?.submit(&job)?,
            (None, Ask::GoOn(id)) => {
                wait_for_daemon(id, &stop, &reader, watch).await?;
                id
            }
        };
        let job = look(&reader, id)?;
        if job.state.has_ended() {
            return Ok(Errand::Ended(job));
        }
        if stop.is_cancelled() || nobody_goes_on {
            return Ok(Errand::Left(job));
        }
        ask = Ask::GoOn(id);
    }
}

/// Why the work under the lock has stopped.
enum Left {
    /// It has ended, or there is nothing more that could be done here.
    Done,
    /// A daemon waits for the inbox.
    ForDaemon,
}

/// Whoever waits for the inbox asks for it four times a second.
async fn give_way(inbox: &inbox::Config) {
    let until = Instant::now() + LOOK_FOR_DAEMON;
    while Lock::is_wanted(&inbox.path) && Instant::now() < until {
        sleep(WATCH).await;
    }
}

/// Returns when the job has ended, at `stop`, and now and then, because its daemon may be gone.
async fn wait_for_daemon(
    id: JobId,
    stop: &CancellationToken,
    reader: &Reader,
    watch: &mut dyn FnMut(&Job),
) -> Result<(), AppError> {
    let until = Instant::now() + LOOK_FOR_DAEMON;
    while Instant::now() < until && !stop.is_cancelled() {
        let job = look(reader, id)?;
        watch(&job);
        if job.state.has_ended() {
            break;
        }
        tokio::select! {
            () = sleep(WATCH) => {}
            () = stop.cancelled() => {}
        }
    }
    Ok(())
}

/// Carries the job out under the lock, until it has ended, `stop`, or somebody wants the inbox.
async fn work_here(
    config: &inbox::Config,
    lock: Lock,
    configuration: &mut dyn Configuration,
    ask: Ask,
    stop: &CancellationToken,
    reader: &Reader,
    watch: &mut dyn FnMut(&Job),
) -> Result<(JobId, Left), AppError> {
    let (clock, metrics): (Arc<dyn Clock>, _) = (Arc::new(SystemClock), Arc::new(Metrics::new()));
    let task = match &ask {
        Ask::New(job) => job.task.clone(),
        Ask::GoOn(id) => look(reader, *id)?.task,
    };
    // Before anything is stored: what is wrong with the configuration can be mended and asked for again.
    let needs = Needs::of(&task, configuration)?;
    let needed = if let Task::Replay { sink, .. } = &task { Some(sink) } else { None };
    let inbox: Arc<dyn Inbox> = Arc::new(SqliteInbox::open(config, lock, Arc::clone(&clock), Arc::clone(&metrics))?);
    let consume = consume::Deps { inbox: Arc::clone(&inbox), clock, metrics };
    let destinations = match &needs {
        Needs::Settings(settings) => {
            if let Some(sink) = settings.sinks.iter().find(|sink| Some(&sink.consumer.name) == needed) {
                let (name, definition) = (sink.consumer.name.clone(), consumers::definition(sink));
                inbox.note_definition(name, definition, Because::Command).await.map_err(AppError::Job)?;
            }
            build_sinks(settings, needed).await?
        }
        Needs::Sinks(_) | Needs::Nothing => Vec::new(),
    };
    let sinks: Vec<_> = destinations.iter().filter_map(|destination| destination.sink.clone()).collect();
    let deps = needs.deps(Destinations::new(destinations), consume);
    let id = match ask {
        Ask::New(job) => inbox.submit(*job).await.map_err(AppError::Job)?,
        Ask::GoOn(id) => id,
    };
    let enough = stop.child_token();
    let mut left = Left::Done;
    let mut work = Box::pin(Executor::new(deps).run_one(id, enough.clone()));
    let mut long_enough = pin!(async {
        enough.cancelled().await;
        sleep(LET_GO).await;
    });
    let mut ticks = interval(WATCH);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            // A replay would try for ever to record what it has delivered.
            why = inbox.failed() => return Err(AppError::InboxFailed(why)),
            () = &mut work => break,
            () = &mut long_enough => break,
            _ = ticks.tick() => {
                watch(&look(reader, id)?);
                if Lock::is_wanted(&config.path) {
                    left = Left::ForDaemon;
                    enough.cancel();
                }
            }
        }
    }
    // What has not landed is delivered again.
    drop(work);
    _ = timeout(LET_GO, join_all(sinks.iter().map(|sink| sink.close()))).await;
    inbox.close().await;
    Ok((id, left))
}

fn look(reader: &Reader, id: JobId) -> Result<Job, AppError> {
    reader.job(id)?.ok_or(AppError::NoJob(id))
}
