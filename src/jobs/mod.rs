//! Carries out what people ask for. Jobs are stored before they begin, so that a crash in the middle loses none: most of
//! them the inbox carries out by itself, a portion in each transaction; admitting and replaying need more than the inbox.

mod admit;
#[cfg(test)]
mod executor_tests;
#[cfg(test)]
mod meddled_inbox;
mod quarantine;
mod retention;
mod sinks;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

pub use sinks::{Destination, Destinations, Use, Users};

use self::retention::Retention;
use crate::consume::{self, Consumer, End, Handle};
use crate::inbox::{ConfiguredSink, Inbox, Job, JobState, JobUpdate, QuarantineLimits, Task, Unavailable};
use crate::model::{JobId, SinkName, SourceName};
use crate::throttle::Throttle;
use crate::verify::Keys;

/// How often stored jobs are looked for.
const POLL: Duration = Duration::from_millis(250);
/// Replays to one sink at a time; more wait for their turn, and hold up those to no other sink.
const MAX_REPLAYS: usize = 4;

/// What jobs are carried out with.
pub struct Deps {
    /// What consumers work with; the inbox above all.
    pub consume: consume::Deps,
    /// The secrets in use, by source.
    pub keys: HashMap<SourceName, Keys>,
    /// The configured sinks, which may be exchanged meanwhile.
    pub sinks: Destinations,
    /// How long bodies are kept; `None` = for ever.
    pub retention: Option<Duration>,
    /// How long quarantined requests are kept, and whether what is genuine is admitted without being asked for.
    pub quarantine: QuarantineLimits,
    /// The configured sinks, where a command has built none of them; `None` where `sinks` are all that there are.
    pub configured: Option<Vec<ConfiguredSink>>,
}

/// Carries out jobs, one portion after the other, so that a long one holds up no short one. Replays run beside.
pub struct Executor {
    deps: Deps,
    replays: HashMap<JobId, Running>,
    /// `None` for one that panicked.
    tasks: JoinSet<(JobId, Option<End>)>,
    /// Replays that wait for their sink to be configured again.
    waiting: HashSet<JobId>,
    quarantine: quarantine::Upkeep,
    retention: Retention,
    troubles: Throttle,
}

/// A replay that runs.
struct Running {
    /// The sink, by the name that the job has for it.
    sink: SinkName,
    stop: CancellationToken,
    consumer: Handle,
}

/// What is left to do after looking at every open job once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    /// Nothing that could be done now.
    Wait,
    /// More of what was begun.
    More,
}

impl Executor {
    /// Nothing is begun yet.
    pub fn new(deps: Deps) -> Self {
        Self {
            deps,
            replays: HashMap::new(),
            tasks: JoinSet::new(),
            waiting: HashSet::new(),
            quarantine: quarantine::Upkeep::default(),
            retention: Retention::default(),
            troubles: Throttle::default(),
        }
    }

    /// Carries out every job that is or will be stored, until `stop`; replays then record what is in flight.
    pub async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            self.apply_retention().await;
            let believed = self.retention_time();
            if let Err(error) = self.quarantine.look(&self.deps, believed).await {
                self.warn(&error);
            }
            self.round(None, &stop).await;
        }
        self.join_replays().await;
    }

    /// Carries out one job, until it has ended, must wait for a consumer that does not run here, or `stop`. While it is a
    /// replay, what others ask for meanwhile is carried out beside it (such as cancelling it, or pausing its sink), apart
    /// from what needs the sinks and the secrets of their configuration.
    pub async fn run_one(mut self, job: JobId, stop: CancellationToken) {
        self.note_clock().await;
        while !stop.is_cancelled() && self.round(Some(job), &stop).await {}
        self.join_replays().await;
    }

    /// One look at every open job, and a rest where nothing more can be done. False once there is nothing to wait for.
    async fn round(&mut self, only: Option<JobId>, stop: &CancellationToken) -> bool {
        // Also while another job leaves no time to rest.
        while let Some(Ok((job, end))) = self.tasks.try_join_next() {
            self.replay_ended(job, end).await;
        }
        match self.look(only, stop).await {
            Ok(Some(Rest::More)) => return true,
            Ok(Some(Rest::Wait)) if only.is_none() || !self.replays.is_empty() => {}
            Ok(Some(Rest::Wait) | None) => return false,
            Err(error) => self.warn(&error),
        }
        tokio::select! {
            Some(ended) = self.tasks.join_next() => if let Ok((job, end)) = ended {
                self.replay_ended(job, end).await;
            },
            () = sleep(POLL) => {}
            () = stop.cancelled() => {}
        }
        true
    }

    /// `None` when the one job that is asked for is not open. Who has it can be asked to stop it, too.
    async fn look(&mut self, only: Option<JobId>, stop: &CancellationToken) -> Result<Option<Rest>, Unavailable> {
        let jobs = self.inbox().open_jobs().await?;
        let found = only.is_none_or(|only| jobs.iter().any(|job| job.id == only));
        let mut rest = Rest::Wait;
        let beside = !self.replays.is_empty();
        let is_due = |job: &&Job| match (only, &job.task) {
            (None, _) => true,
            (Some(only), Task::Cancel { job: other }) => job.id == only || *other == only || beside,
            (Some(only), Task::Replay { .. } | Task::Admit { .. }) => job.id == only,
            (Some(only), _) => job.id == only || beside,
        };
        for job in jobs.iter().filter(is_due) {
            match self.step(job, stop).await {
                Ok(Rest::More) => rest = Rest::More,
                Ok(Rest::Wait) => {}
                // The others go on.
                Err(error) => self.warn(&error),
            }
        }
        Ok(found.then_some(rest))
    }

    fn warn(&self, error: &Unavailable) {
        if let Some(suppressed) = self.troubles.admit(Instant::now()) {
            tracing::warn!(%error, suppressed, "a job cannot be carried out for now; it is tried again");
        }
    }

    async fn step(&mut self, job: &Job, stop: &CancellationToken) -> Result<Rest, Unavailable> {
        match &job.task {
            Task::Replay { sink, rate, .. } => self.replay(job.id, sink, *rate, stop).await,
            Task::Cancel { job: other } => self.cancel(job, *other).await,
            Task::Admit { requests } => {
                admit::portion(&self.deps, job, requests).await?;
                Ok(Rest::More)
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
            | Task::Purge { .. }
            | Task::Prune { .. }
            | Task::ConfirmClock { .. } => {
                // Until they have been told: a consumer that is opened in between would hear of it neither way.
                let sinks = self.deps.sinks.lock().await;
                if let Task::Prune { sinks: known, .. } = &job.task
                    && let Some(missing) = needing_besides(&sinks, known)
                {
                    let message = format!(
                        "no body is dropped any more: sink '{missing}' may need them, and was not in the configuration of \
                         whoever asked; ask again with the configuration that the daemon has"
                    );
                    self.end(job.id, JobState::Failed, message).await?;
                    return Ok(Rest::More);
                }
                let advance = self.inbox().advance(job.id, &self.configured(&sinks)).await?;
                if let Task::ConfirmClock { .. } = &job.task {
                    self.retention.forget_note();
                }
                for effect in &advance.effects {
                    sinks.iter().for_each(|sink| sink.tell(effect));
                    self.replays.values().for_each(|replay| replay.consumer.tell(effect));
                }
                Ok(if advance.must_wait { Rest::Wait } else { Rest::More })
            }
        }
    }

    async fn replay(
        &mut self,
        job: JobId,
        sink: &SinkName,
        rate: Option<f64>,
        stop: &CancellationToken,
    ) -> Result<Rest, Unavailable> {
        let beside = self.replays.values().filter(|replay| replay.sink == *sink).count();
        if self.replays.contains_key(&job) || beside >= MAX_REPLAYS {
            return Ok(Rest::Wait);
        }
        let sinks = self.deps.sinks.clone();
        let sinks = sinks.lock().await;
        let Some(destination) = sinks.iter().find(|destination| destination.config.name == *sink) else {
            drop(sinks);
            return self.without_sink(job, sink).await;
        };
        // While the sink is being exchanged, or is unavailable: the next look may find another one.
        let Some(to) = destination.sink.clone() else { return Ok(Rest::Wait) };
        let Some(entered) = destination.users.enter() else { return Ok(Rest::Wait) };
        let config = destination.config.clone();
        let (deps, token) = (self.deps.consume.clone(), stop.child_token());
        let message = self.waiting.remove(&job).then(String::new);
        self.inbox()
            .update_job(job, JobUpdate { state: Some(JobState::Running), message, ..JobUpdate::default() })
            .await?;
        let consumer = match Consumer::replay(config, to, job, rate, deps).await {
            Err(Unavailable::Refused(why)) => {
                self.end(job, JobState::Failed, why).await?;
                return Ok(Rest::More);
            }
            opened => opened?,
        };
        tracing::info!(job = job.get(), %sink, "a replay goes on");
        self.replays.insert(job, Running { sink: sink.clone(), stop: token.clone(), consumer: consumer.handle() });
        self.tasks
            .spawn(async move { (job, AssertUnwindSafe(entered.run(consumer, token)).catch_unwind().await.ok()) });
        Ok(Rest::Wait)
    }

    /// A replay to a sink that the configuration does not have waits for it, as long as the sink has a place in the log: a
    /// configuration may be wrong for a moment.
    async fn without_sink(&mut self, job: JobId, sink: &SinkName) -> Result<Rest, Unavailable> {
        let message = format!(
            "there is no sink '{sink}' in the configuration that is in use: where it has changed since, have the daemon \
             read it again (SIGHUP)"
        );
        if !self.inbox().has_sink(sink.clone()).await? {
            self.end(job, JobState::Failed, message).await?;
            return Ok(Rest::More);
        }
        if self.waiting.insert(job) {
            tracing::warn!(job = job.get(), %sink, "a replay waits: its sink is not in the configuration");
            let message = Some(format!("it waits: {message}"));
            self.inbox().update_job(job, JobUpdate { message, ..JobUpdate::default() }).await?;
        }
        Ok(Rest::Wait)
    }

    async fn cancel(&mut self, job: &Job, other: JobId) -> Result<Rest, Unavailable> {
        let open = self.inbox().open_jobs().await?.into_iter().find(|open| open.id == other);
        if open.is_some() {
            let why = if job.reason.is_empty() { String::new() } else { format!(" ({})", job.reason) };
            self.end(other, JobState::Cancelled, format!("cancelled by {}{why}", job.who)).await?;
        }
        self.waiting.remove(&other);
        if let Some(replay) = self.replays.get(&other) {
            replay.stop.cancel();
        }
        let (state, message) = match open {
            Some(open) => {
                let noun = if matches!(open.task, Task::Replay { .. }) { "replay" } else { "job" };
                (JobState::Done, format!("{noun} {other} is cancelled"))
            }
            None => (JobState::Failed, format!("job {other} is not there, or has ended already")),
        };
        self.end(job.id, state, message).await?;
        Ok(Rest::More)
    }

    /// Notes the end of a replay; one that was stopped goes on when it is looked at again, unless it was cancelled.
    async fn replay_ended(&mut self, job: JobId, end: Option<End>) {
        let end = match end {
            Some(End::Stopped) => None,
            Some(End::Finished) => Some((JobState::Done, "the end of the selection is reached")),
            None => Some((JobState::Failed, "the replay panicked: this is a bug")),
        };
        if let Some((state, message)) = end
            && let Err(error) = self.end(job, state, message.to_owned()).await
        {
            tracing::warn!(job = job.get(), %error, "the end of a replay could not be noted: it is looked at again");
        }
        // Last: until then it must not be begun again.
        self.replays.remove(&job);
    }

    async fn join_replays(&mut self) {
        while let Some(ended) = self.tasks.join_next().await {
            if let Ok((job, end)) = ended {
                self.replay_ended(job, end).await;
            }
        }
    }

    async fn end(&self, job: JobId, state: JobState, message: String) -> Result<(), Unavailable> {
        tracing::info!(job = job.get(), state = state.as_str(), message, "a job has ended");
        let update = JobUpdate { state: Some(state), message: Some(message), ..JobUpdate::default() };
        self.inbox().update_job(job, update).await
    }

    /// What the configuration says of the sinks, as far as a job's portion depends on it.
    fn configured(&self, sinks: &[Destination]) -> Vec<ConfiguredSink> {
        let of = |sink: &Destination| ConfiguredSink {
            name: sink.config.name.clone(),
            max_parked: sink.config.retry.max_parked,
        };
        self.deps.configured.clone().unwrap_or_else(|| sinks.iter().map(of).collect())
    }

    fn inbox(&self) -> &dyn Inbox {
        self.deps.consume.inbox.as_ref()
    }
}

/// A configured sink that is none of these: the configuration is another one, or has changed since.
fn needing_besides<'a>(sinks: &'a [Destination], known: &[SinkName]) -> Option<&'a SinkName> {
    sinks.iter().map(|sink| &sink.config.name).find(|name| !known.contains(name))
}
