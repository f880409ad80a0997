//! The consumers of the sinks that are wanted: opened at the start, and exchanged one by one when what is wanted changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::reload::chain;
use super::{AppError, CLOSING};
use crate::config::SinkSettings;
use crate::consume::{self, Consumer, Lag};
use crate::inbox::Unavailable;
use crate::jobs::{Destination, Destinations, Users};
use crate::model::SinkName;
use crate::sink::{self, Sink};
use crate::throttle::Throttle;

/// Between two tries to open a consumer, while the inbox cannot be written.
const OPEN_AGAIN: Duration = Duration::from_millis(500);

/// The sinks that are to be there.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted {
    /// Counts the changes, of any sink.
    pub(super) version: u64,
    /// Each sink with the version that it is of.
    pub(super) sinks: Vec<(SinkSettings, u64)>,
}

impl Wanted {
    /// What the daemon starts with.
    pub(super) fn at_start(sinks: &[SinkSettings]) -> Self {
        Self { version: 0, sinks: sinks.iter().map(|sink| (sink.clone(), 0)).collect() }
    }
}

/// The lag of each sink.
pub(super) type Lags = Arc<Mutex<BTreeMap<SinkName, Lag>>>;

/// Runs the consumers.
pub(super) struct Consumers {
    wanted: watch::Receiver<Wanted>,
    /// The version of what is wanted up to which everything is done that can be.
    reached: watch::Sender<u64>,
    destinations: Destinations,
    deps: consume::Deps,
    lags: Lags,
    /// What is in flight to a sink that is exchanged gets so long to end.
    grace: Duration,
    /// The version that each sink is of.
    versions: BTreeMap<SinkName, u64>,
    /// Opened, and not yet running.
    idle: Vec<(Consumer, Users)>,
    troubles: Throttle,
}

/// A sink that is to take the place of one, or to be new.
#[derive(Clone)]
struct Next {
    settings: SinkSettings,
    version: u64,
    sink: Arc<dyn Sink>,
}

impl Consumers {
    /// Builds the sinks that are wanted, and opens their consumers; they run with [`Self::run`]. A sink that cannot be
    /// built fails it all: this is for the start.
    pub(super) async fn open(
        mut wanted: watch::Receiver<Wanted>,
        reached: watch::Sender<u64>,
        deps: consume::Deps,
        lags: Lags,
        grace: Duration,
    ) -> Result<Self, AppError> {
        let now = wanted.borrow_and_update().clone();
        let (destinations, versions, idle, troubles) = Default::default();
        let mut own = Self { wanted, reached, destinations, deps, lags, grace, versions, idle, troubles };
        for (settings, version) in now.sinks {
            let sink = build(&settings).await?;
            own.start(Next { settings, version, sink }).await?;
        }
        own.reached.send_replace(now.version);
        Ok(own)
    }

    /// The sinks in use, for who carries out jobs, and for who closes them at the end.
    pub(super) fn destinations(&self) -> Destinations {
        self.destinations.clone()
    }

    /// Runs the consumers until `stop`, and then until they have ended. What changes meanwhile in what is wanted is carried
    /// out. Closing the sinks that are in use then is for the caller.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut running = JoinSet::new();
        loop {
            for (consumer, users) in self.idle.drain(..) {
                // Nobody can have ended them: they are exchanged in this loop only.
                if let Some(entered) = users.enter() {
                    let stop = stop.child_token();
                    running.spawn(async move { _ = entered.run(consumer, stop).await });
                }
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(ended) = running.join_next() => pass_on_panic(ended),
                Ok(()) = self.wanted.changed() => self.exchange(&stop).await,
            }
        }
        while let Some(ended) = running.join_next().await {
            pass_on_panic(ended);
        }
    }

    /// Ends the consumers of every sink that is not wanted any more as it is, and opens those that are to be. Nobody
    /// delivers to the new sink before nobody delivers to the old one.
    async fn exchange(&mut self, stop: &CancellationToken) {
        let wanted = self.wanted.borrow_and_update().clone();
        let names: BTreeSet<SinkName> = wanted.sinks.iter().map(|(sink, _)| sink.consumer.name.clone()).collect();
        let mut next = Vec::new();
        for (settings, version) in wanted.sinks {
            let name = settings.consumer.name.clone();
            if self.versions.get(&name) == Some(&version) {
                continue;
            }
            match build(&settings).await {
                Ok(sink) => next.push(Next { settings, version, sink }),
                Err(error) => {
                    let error = chain(&error);
                    tracing::error!(sink = %name, error, "a sink cannot be made: the one before, if any, stays in use");
                }
            }
        }
        let renewed: BTreeSet<SinkName> = next.iter().map(|next| next.settings.consumer.name.clone()).collect();
        let leaving: Vec<(SinkName, Arc<dyn Sink>, Users)> = {
            let leaves = |name: &SinkName| !names.contains(name) || renewed.contains(name);
            let destinations = self.destinations.lock().await;
            let leaving = destinations.iter().filter(|one| leaves(&one.config.name));
            let parts = |one: &Destination| Some((one.config.name.clone(), one.sink.clone()?, one.users.clone()));
            leaving.filter_map(parts).collect()
        };
        join_all(leaving.iter().map(|(_, _, users)| users.end(self.grace))).await;
        if stop.is_cancelled() {
            return;
        }
        join_all(leaving.iter().map(|(_, sink, _)| timeout(CLOSING, sink.close()))).await;
        for (name, ..) in leaving.iter().filter(|(name, ..)| !names.contains(name)) {
            self.forget(name).await;
        }
        for next in next {
            self.start_in_the_end(next, stop).await;
        }
        self.reached.send_replace(wanted.version);
    }

    /// A sink that is not wanted any more. Its place in the log stays.
    async fn forget(&mut self, name: &SinkName) {
        self.destinations.lock().await.retain(|one| one.config.name != *name);
        self.versions.remove(name);
        self.lags.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        self.deps.metrics.forget_sink(name.as_str());
        tracing::info!(sink = %name, "the sink is removed: it gets nothing more, and its place in the log stays");
    }

    /// Tries until the inbox can be written: by now nobody delivers to the old sink.
    async fn start_in_the_end(&mut self, next: Next, stop: &CancellationToken) {
        let name = next.settings.consumer.name.clone();
        loop {
            match self.start(next.clone()).await {
                Ok(()) => return tracing::info!(sink = %name, "the sink is in use as it is configured now"),
                Err(AppError::Consumer { source, .. }) => {
                    if let Some(suppressed) = self.troubles.admit(Instant::now()) {
                        tracing::warn!(sink = %name, error = %source, suppressed, "the sink has to wait for the inbox");
                    }
                }
                Err(error) => return tracing::error!(sink = %name, %error, "the sink gets nothing"),
            }
            if stop.run_until_cancelled(sleep(OPEN_AGAIN)).await.is_none() {
                return;
            }
        }
    }

    /// Opens the consumer, and puts it in the place of the one before.
    async fn start(&mut self, next: Next) -> Result<(), AppError> {
        let Next { settings, version, sink } = next;
        let (config, name) = (settings.consumer.clone(), settings.consumer.name.clone());
        let mut destinations = self.destinations.lock().await;
        let opened = Consumer::open(config.clone(), Arc::clone(&sink), self.deps.clone()).await;
        let failed = |source: Unavailable| AppError::Consumer { name: name.to_string(), source };
        let consumer = opened.map_err(failed)?;
        let handle = consumer.handle();
        let others = destinations.iter().filter(|other| other.config.name != name);
        if let Some(other) = others.filter_map(|other| other.live.as_ref()).find(|other| other.id() == handle.id()) {
            return Err(AppError::OneConsumer { one: other.name().to_string(), other: name.to_string() });
        }
        let (consumer_id, users) = (Some(handle.id()), Users::default());
        let destination = Destination {
            consumer: consumer_id,
            live: Some(handle),
            users: users.clone(),
            ..Destination::new(config, Some(sink))
        };
        match destinations.iter_mut().find(|one| one.config.name == name) {
            Some(place) => *place = destination,
            None => destinations.push(destination),
        }
        drop(destinations);
        self.lags.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone(), consumer.lag());
        self.versions.insert(name, version);
        self.idle.push((consumer, users));
        Ok(())
    }
}

/// A sink from its settings.
pub(super) async fn build(settings: &SinkSettings) -> Result<Arc<dyn Sink>, AppError> {
    let built = sink::build(&settings.sink, settings.format).await;
    built.map(Into::into).map_err(|source| AppError::Sink { name: settings.consumer.name.to_string(), source })
}

/// A consumer that panicked ends the daemon.
fn pass_on_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        std::panic::resume_unwind(error.into_panic());
    }
}
