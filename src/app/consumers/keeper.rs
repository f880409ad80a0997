//! One sink that is wanted: built, its consumer opened and run, and again where that does not work or ends by a panic,
//! until another takes its place.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, join_all};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{Shared, build_unnamed, definition};
use crate::app::CLOSING;
use crate::config::SinkSettings;
use crate::consume::{Consumer, Lag};
use crate::inbox::{Because, BuildFailure, ConsumerId, Registered, Unavailable};
use crate::jobs::{Destination, Use, Users};
use crate::model::SinkName;
use crate::sink::{self, Sink};

/// Between two tries of a sink that is unavailable: at first, doubling up to the second.
const TRY_AGAIN: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(15)];

const PANICKED: &str = "its consumer panicked: this is a bug, please report it with the log";

/// Makes a sink. A test has its own.
pub(in crate::app) type Builder = Arc<dyn Fn(SinkSettings) -> Building + Send + Sync>;

type Building = BoxFuture<'static, Result<Arc<dyn Sink>, Failure>>;

/// From the settings alone.
pub(in crate::app) fn builder() -> Builder {
    Arc::new(|settings| {
        Box::pin(async move { build_unnamed(&settings).await.map_err(|error| Failure(error.to_string())) })
    })
}

/// Why a sink is unavailable, for people.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::app) struct Failure(pub(super) String);

impl From<Unavailable> for Failure {
    fn from(error: Unavailable) -> Self {
        Self(format!("its place in the log could not be opened: {error}"))
    }
}

/// Keeps one sink. Clones are one.
#[derive(Clone)]
pub(super) struct Keeper {
    settings: SinkSettings,
    /// Its place in the log, when it came.
    place: Registered,
    /// Whether it came while the daemon runs.
    is_exchanged: bool,
    shared: Shared,
    stop: CancellationToken,
    /// Another sink takes its place, or none.
    leave: CancellationToken,
    /// It has been tried, or is not to be any more.
    tried: CancellationToken,
    /// Its task has ended.
    gone: CancellationToken,
    retry_now: Arc<Notify>,
}

/// A sink that is to end, or has.
#[derive(Clone)]
pub(super) struct Leaving {
    name: SinkName,
    id: ConsumerId,
    sink: sink::Config,
    gone: CancellationToken,
    /// Nobody delivers to it any more, and it is closed.
    pub(super) ended: CancellationToken,
}

/// What people have been told of a sink.
#[derive(Default)]
struct Told {
    /// Logged.
    failure: Option<String>,
    /// In the inbox.
    is_noted: bool,
}

impl Keeper {
    pub(super) fn new(
        settings: SinkSettings,
        place: Registered,
        is_exchanged: bool,
        shared: Shared,
        stop: &CancellationToken,
    ) -> Self {
        let (leave, tried, gone, retry_now) = Default::default();
        Self { settings, place, is_exchanged, shared, stop: stop.clone(), leave, tried, gone, retry_now }
    }

    pub(super) fn name(&self) -> &SinkName {
        &self.settings.consumer.name
    }

    pub(super) fn id(&self) -> ConsumerId {
        self.place.id
    }

    pub(super) fn tried(&self) -> CancellationToken {
        self.tried.clone()
    }

    /// The sink as it is before it is built.
    pub(super) fn destination(&self) -> Destination {
        let (consumer, retry_now) = (Some(self.id()), Arc::clone(&self.retry_now));
        Destination { consumer, retry_now, ..Destination::new(self.settings.consumer.clone(), None) }
    }

    /// Ends its task. The caller holds the lock on the destinations: from here on nothing is put there.
    pub(super) fn leave(self) -> Leaving {
        self.leave.cancel();
        let ended = CancellationToken::new();
        Leaving { name: self.name().clone(), id: self.id(), sink: self.settings.sink.clone(), gone: self.gone, ended }
    }

    /// Whether nothing may be delivered before the other has ended: it reads from the same place in the log, has the same
    /// name, or may write to the same file.
    pub(super) fn has_to_wait_for(&self, other: &Leaving) -> bool {
        let may_share = matches!(
            (&self.settings.sink, &other.sink),
            (sink::Config::File(_), sink::Config::File(_)) | (sink::Config::Stdout, sink::Config::Stdout)
        );
        other.id == self.id() || other.name == *self.name() || may_share
    }

    /// Runs until the sink has to leave, or everything stops.
    pub(super) async fn keep(self, after: Vec<CancellationToken>) {
        let (_tried, _gone) = (self.tried.clone().drop_guard(), self.gone.clone().drop_guard());
        if self.unless_over(join_all(after.iter().map(CancellationToken::cancelled))).await.is_none() {
            return;
        }
        let [first, longest] = TRY_AGAIN;
        let (mut pause, mut told) = (first, Told::default());
        loop {
            let begun = Instant::now();
            let Err(failure) = self.attempt(&mut told).await else { return };
            self.unavailable(&failure, &mut told).await;
            self.tried.cancel();
            if begun.elapsed() > longest {
                // It has run: this is another failure.
                pause = first;
            }
            let wait = async {
                tokio::select! {
                    () = sleep(pause) => {}
                    () = self.retry_now.notified() => {}
                }
            };
            if self.unless_over(wait).await.is_none() {
                return;
            }
            pause = (2 * pause).min(longest);
        }
    }

    /// Builds the sink, and runs its consumer until it is asked to end.
    async fn attempt(&self, told: &mut Told) -> Result<(), Failure> {
        let building = AssertUnwindSafe((self.shared.builder)(self.settings.clone())).catch_unwind();
        let Some(built) = self.unless_over(building).await else { return Ok(()) };
        let sink = built.map_err(|_| Failure("building it panicked: this is a bug".to_owned()))??;
        let Some((consumer, entered)) = self.open(sink).await? else { return Ok(()) };
        self.available(told).await;
        self.tried.cancel();
        let run = AssertUnwindSafe(entered.run(consumer, self.stop.child_token())).catch_unwind();
        if run.await.is_ok() {
            return Ok(());
        }
        self.clear_away().await;
        Err(Failure(PANICKED.to_owned()))
    }

    /// Opens the consumer and puts it where jobs find it, in one step: each change by a job is then either read or told.
    /// `None` where the sink has to leave.
    async fn open(&self, sink: Arc<dyn Sink>) -> Result<Option<(Consumer, Use)>, Failure> {
        let Shared { destinations, deps, lags, .. } = &self.shared;
        let mut destinations = destinations.lock().await;
        if self.leave.is_cancelled() || self.stop.is_cancelled() {
            return Ok(None);
        }
        let opening = Consumer::open(self.settings.consumer.clone(), Arc::clone(&sink), deps.clone());
        let opened = AssertUnwindSafe(opening).catch_unwind().await;
        let consumer = opened.map_err(|_| Failure(PANICKED.to_owned()))??;
        self.note_definition().await?;
        let handle = consumer.handle();
        if handle.id() != self.id() {
            return Err(Failure(
                "sinks were renamed, and its name means another one now: have the daemon read its configuration again \
                 (SIGHUP)"
                    .to_owned(),
            ));
        }
        let users = Users::default();
        let Some(entered) = users.enter() else { return Ok(None) };
        let Some(place) = destinations.iter_mut().find(|one| one.config.name == *self.name()) else { return Ok(None) };
        *place = Destination { sink: Some(sink), live: Some(handle), users, ..self.destination() };
        lags.lock().unwrap_or_else(PoisonError::into_inner).insert(self.name().clone(), consumer.lag());
        Ok(Some((consumer, entered)))
    }

    /// Before its first attempt: where it goes can be told later.
    async fn note_definition(&self) -> Result<(), Unavailable> {
        let because = if self.is_exchanged { Because::Reload } else { Because::Start };
        let (name, definition) = (self.name().clone(), definition(&self.settings));
        self.shared.deps.inbox.note_definition(name, definition, because).await
    }

    /// After a panic: replays of the sink end too, and go on with the next one.
    async fn clear_away(&self) {
        let old = {
            let mut destinations = self.shared.destinations.lock().await;
            let own = |one: &&mut Destination| one.config.name == *self.name();
            let Some(place) = destinations.iter_mut().find(own).filter(|_| !self.leave.is_cancelled()) else { return };
            std::mem::replace(place, self.destination())
        };
        end(old, self.shared.grace).await;
    }

    async fn unavailable(&self, Failure(why): &Failure, told: &mut Told) {
        let (name, now) = (self.name(), self.shared.deps.clock.now());
        {
            let mut unavailable = self.shared.unavailable.lock().unwrap_or_else(PoisonError::into_inner);
            let since = unavailable.get(name).map_or(now, |known| known.since);
            unavailable.insert(name.clone(), BuildFailure { error: why.clone(), since });
            // How far it is behind is told all the same.
            let mut lags = self.shared.lags.lock().unwrap_or_else(PoisonError::into_inner);
            let lag = || Lag::idle(self.place.cursor, &self.shared.deps.metrics, name);
            lags.entry(name.clone()).or_insert_with(lag);
        }
        if told.failure.as_ref() != Some(why) {
            tracing::error!(
                sink = %name, why,
                "the sink is unavailable: its events wait, receiving and the other sinks go on, and it is tried again"
            );
            *told = Told { failure: Some(why.clone()), is_noted: false };
        }
        if !told.is_noted {
            told.is_noted = self.shared.deps.inbox.note_built(self.id(), Some(why.clone())).await.is_ok();
        }
    }

    async fn available(&self, told: &mut Told) {
        let name = self.name();
        self.shared.unavailable.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        let was_unavailable = std::mem::take(told).failure.is_some();
        if let Err(error) = self.shared.deps.inbox.note_built(self.id(), None).await {
            tracing::warn!(sink = %name, %error, "lists may call the sink unavailable until the next start");
        }
        if self.is_exchanged || was_unavailable {
            tracing::info!(sink = %name, "the sink is in use as it is configured now");
        }
    }

    /// `None` when the sink has to leave first, or everything stops.
    async fn unless_over<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        self.stop.run_until_cancelled(self.leave.run_until_cancelled(work)).await.flatten()
    }
}

impl Leaving {
    /// Ends its consumers and closes it. What belongs to its name goes too, unless another sink has that name.
    pub(super) async fn end(self, old: Option<Destination>, shared: Shared) {
        let _ended = self.ended.clone().drop_guard();
        if let Some(old) = old {
            end(old, shared.grace).await;
        }
        self.gone.cancelled().await;
        let destinations = shared.destinations.lock().await;
        if destinations.iter().any(|one| one.config.name == self.name) {
            return;
        }
        shared.lags.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
        shared.unavailable.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
        shared.deps.metrics.forget_sink(self.name.as_str());
        tracing::info!(sink = %self.name, "the sink is removed: it gets nothing more, and its place in the log stays");
    }
}

/// Has whoever delivers to a sink end, and closes it.
async fn end(old: Destination, grace: Duration) {
    old.users.end(grace).await;
    if let Some(sink) = old.sink {
        // One that panics, or takes too long, is let go of.
        _ = timeout(CLOSING, AssertUnwindSafe(sink.close()).catch_unwind()).await;
    }
}
