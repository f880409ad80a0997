//! The consumers of the sinks that are wanted: opened at the start, and exchanged one by one when what is wanted changes.
//! Each sink is kept by a task of its own ([`keeper`]): whatever is wrong with one holds up no other, nor the sender.

mod keeper;
mod names;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

pub(super) use self::keeper::builder;
use self::keeper::{Builder, Keeper, Leaving};
use super::AppError;
use super::reload::chain;
use crate::config::{Problems, SinkSettings};
use crate::consume::{self, Lag};
use crate::inbox::{self, BuildFailure, ConsumerId, Registered, SinkDefinition, SinkRecord};
use crate::jobs::{Destination, Destinations};
use crate::model::{EventType, SinkName, Start};
use crate::sink::{self, BuildError, Sink};
use crate::throttle::Throttle;

/// Between two tries to register the sinks, while the inbox cannot be written.
const REGISTER_AGAIN: Duration = Duration::from_millis(500);

/// A start waits so long for the first try of every sink, so that healthy ones are there when the relay says that it is
/// ready. One that takes longer holds up nobody.
const FIRST_TRY: Duration = Duration::from_secs(2);

/// The sinks that are to be there.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted {
    /// Counts the changes, of any sink.
    pub(super) version: u64,
    /// Counts how often the configuration was read again: each time, every sink is tried at once.
    pub(super) reloads: u64,
    /// Each sink with the version that it is of.
    pub(super) sinks: Vec<(SinkSettings, u64)>,
}

impl Wanted {
    /// What the daemon starts with.
    pub(super) fn at_start(sinks: &[SinkSettings]) -> Self {
        Self { version: 0, reloads: 0, sinks: sinks.iter().map(|sink| (sink.clone(), 0)).collect() }
    }

    /// Whether any sink wants events of a type; its filter, where it has one, may still leave them out.
    pub(super) fn wants(&self, event_type: &EventType) -> bool {
        self.sinks.iter().any(|(sink, _)| sink.consumer.route.wants(event_type))
    }

    fn names(&self) -> Vec<SinkName> {
        self.sinks.iter().map(|(sink, _)| sink.consumer.name.clone()).collect()
    }

    fn starts(&self) -> Vec<(SinkName, Start)> {
        self.sinks.iter().map(|(sink, _)| (sink.consumer.name.clone(), sink.consumer.start)).collect()
    }
}

/// The lag of each sink.
pub(super) type Lags = Arc<Mutex<BTreeMap<SinkName, Lag>>>;

/// The sinks that cannot be built or opened, each with the reason.
pub(super) type UnavailableSinks = Arc<Mutex<BTreeMap<SinkName, BuildFailure>>>;

/// What the tasks of all sinks work with.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) destinations: Destinations,
    pub(super) deps: consume::Deps,
    pub(super) lags: Lags,
    pub(super) unavailable: UnavailableSinks,
    /// What is in flight to a sink that is exchanged gets so long to end.
    pub(super) grace: Duration,
    /// Makes sinks.
    pub(super) builder: Builder,
}

/// Runs the consumers.
pub(super) struct Consumers {
    wanted: watch::Receiver<Wanted>,
    /// The version of what is wanted up to which everything is done that can be.
    reached: Arc<watch::Sender<u64>>,
    shared: Shared,
    /// Where the inbox can be read.
    inbox: inbox::Config,
    /// The sinks that are there now.
    places: BTreeMap<SinkName, Place>,
    /// Those that were there before, until they have ended.
    leaving: Vec<Leaving>,
    tasks: JoinSet<()>,
    reloads: u64,
    stop: CancellationToken,
    troubles: Throttle,
}

/// A sink that is there.
struct Place {
    version: u64,
    keeper: Keeper,
}

impl Consumers {
    /// Settles the place of each sink in the log, and has each built and its consumer opened. One that cannot be is tried
    /// again; only one that has no place in the log yet fails the start.
    pub(super) async fn open(
        mut wanted: watch::Receiver<Wanted>,
        reached: watch::Sender<u64>,
        shared: Shared,
        inbox: inbox::Config,
        stop: CancellationToken,
    ) -> Result<Self, AppError> {
        let now = wanted.borrow_and_update().clone();
        let reached = Arc::new(reached);
        let (places, leaving, tasks, troubles) = Default::default();
        let mut own =
            Self { wanted, reached, shared, inbox, places, leaving, tasks, reloads: now.reloads, stop, troubles };
        match own.records().await {
            Ok(records) => refuse_new(&now, &records).await?,
            // Then every sink counts as one that is known.
            Err(error) => tracing::error!(error = chain(&error), "the inbox's list of sinks cannot be read"),
        }
        let registered = own.shared.deps.inbox.register_sinks(now.starts()).await.map_err(AppError::Register)?;
        if let Ok(records) = own.records().await {
            names::tell_unconfigured(&records, &now.names());
        }
        own.take(now, registered).await;
        let tries = own.places.values().map(|place| place.keeper.tried().cancelled_owned()).collect::<Vec<_>>();
        _ = timeout(FIRST_TRY, join_all(tries)).await;
        Ok(own)
    }

    /// The sinks in use, for who carries out jobs, and for who closes them at the end.
    pub(super) fn destinations(&self) -> Destinations {
        self.shared.destinations.clone()
    }

    /// Runs the consumers until it is stopped, and then until they have ended. What changes meanwhile in what is wanted is
    /// carried out. Closing the sinks that are in use then is for the caller.
    pub(super) async fn run(mut self) {
        let stop = self.stop.clone();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(ended) = self.tasks.join_next() => tell_of_panic(ended),
                Ok(()) = self.wanted.changed() => self.exchange().await,
            }
        }
        while let Some(ended) = self.tasks.join_next().await {
            tell_of_panic(ended);
        }
    }

    /// Registers what is wanted now, as soon as the inbox can be written, and takes it.
    async fn exchange(&mut self) {
        let before: Vec<SinkName> = self.places.keys().cloned().collect();
        loop {
            let wanted = self.wanted.borrow_and_update().clone();
            match self.shared.deps.inbox.register_sinks(wanted.starts()).await {
                Ok(registered) => {
                    let names = wanted.names();
                    let is_same_set = before.len() == names.len() && before.iter().all(|name| names.contains(name));
                    if !is_same_set && let Ok(records) = self.records().await {
                        names::tell_unconfigured(&records, &names);
                    }
                    return self.take(wanted, registered).await;
                }
                Err(error) => {
                    if let Some(suppressed) = self.troubles.admit(Instant::now()) {
                        tracing::warn!(%error, suppressed, "the sinks that have changed have to wait for the inbox");
                    }
                }
            }
            if self.stop.run_until_cancelled(sleep(REGISTER_AGAIN)).await.is_none() {
                return;
            }
        }
    }

    /// Ends the consumer of every sink that is not wanted any more as it is, and has those opened that are to be: each as
    /// soon as nobody delivers any more to the sink that it takes the place of, whatever the others do.
    async fn take(&mut self, wanted: Wanted, registered: Vec<Registered>) {
        let tries_all = std::mem::replace(&mut self.reloads, wanted.reloads) != wanted.reloads;
        let (destinations, wanted_names) = (self.shared.destinations.clone(), wanted.names());
        let mut destinations = destinations.lock().await;
        let is_as_wanted =
            |place: &Place, version: u64, id: ConsumerId| place.version == version && place.keeper.id() == id;
        let mut starting = Vec::new();
        for ((settings, version), at) in wanted.sinks.into_iter().zip(registered) {
            match self.places.get(&settings.consumer.name) {
                Some(place) if is_as_wanted(place, version, at.id) => {}
                Some(_) | None => starting.push((settings, version, at)),
            }
        }
        let names: Vec<&SinkName> = starting.iter().map(|(settings, ..)| &settings.consumer.name).collect();
        let goes = |name: &SinkName| names.contains(&name) || !wanted_names.contains(name);
        let mut awaited = Vec::new();
        self.leaving.retain(|leaving| !leaving.ended.is_cancelled());
        for (name, place) in self.places.extract_if(.., |name, _| goes(name)) {
            let at = destinations.iter().position(|one| one.config.name == name);
            let leaving = place.keeper.leave();
            let old = at.map(|at| destinations.remove(at));
            awaited.push(leaving.ended.clone());
            self.tasks.spawn(leaving.clone().end(old, self.shared.clone()));
            self.leaving.push(leaving);
        }
        if tries_all {
            destinations.iter().for_each(Destination::try_now);
        }
        for (settings, version, at) in starting {
            let keeper = Keeper::new(settings, at, version > 0, self.shared.clone(), &self.stop);
            let after = self.leaving.iter().filter(|leaving| keeper.has_to_wait_for(leaving));
            let after = after.map(|leaving| leaving.ended.clone()).collect();
            destinations.push(keeper.destination());
            awaited.push(keeper.tried());
            self.tasks.spawn(keeper.clone().keep(after));
            self.places.insert(keeper.name().clone(), Place { version, keeper });
        }
        let (reached, version) = (Arc::clone(&self.reached), wanted.version);
        self.tasks.spawn(async move {
            join_all(awaited.iter().map(CancellationToken::cancelled)).await;
            reached.send_if_modified(|reached| std::mem::replace(reached, version.max(*reached)) < version);
        });
    }

    /// The sinks of the inbox.
    async fn records(&self) -> Result<Vec<SinkRecord>, AppError> {
        let inbox = self.inbox.clone();
        let reading = tokio::task::spawn_blocking(move || inbox::sqlite::Reader::open(&inbox)?.sinks());
        Ok(reading.await.map_err(|error| AppError::Ended(error.to_string()))??)
    }
}

/// A sink that has no place in the log yet must be one that can be built: nothing waits for it that could be lost.
async fn refuse_new(wanted: &Wanted, records: &[SinkRecord]) -> Result<(), AppError> {
    let names = wanted.names();
    let is_new = |name: &SinkName| !records.iter().any(|record| record.is_meant_by(name, &names, records));
    let new: Vec<_> = wanted.sinks.iter().map(|(sink, _)| sink).filter(|sink| is_new(&sink.consumer.name)).collect();
    let unreadable: Vec<_> = new.iter().flat_map(|sink| sink.unreadable.clone()).collect();
    if !unreadable.is_empty() {
        return Err(AppError::Config(Problems(unreadable)));
    }
    for sink in new {
        build(sink).await?;
    }
    Ok(())
}

/// A sink from its settings. The error names it.
pub(super) async fn build(settings: &SinkSettings) -> Result<Arc<dyn Sink>, AppError> {
    let built = build_unnamed(settings).await;
    built.map_err(|source| AppError::Sink { name: settings.consumer.name.to_string(), source })
}

async fn build_unnamed(settings: &SinkSettings) -> Result<Arc<dyn Sink>, BuildError> {
    sink::build(&settings.sink, settings.format).await.map(Into::into)
}

/// What a sink is, as the inbox keeps it.
pub(super) fn definition(settings: &SinkSettings) -> SinkDefinition {
    SinkDefinition {
        kind: settings.sink.kind().to_owned(),
        target: settings.sink.target(),
        route: settings.consumer.route.revision(),
    }
}

/// What the task of one sink did not catch. The others go on.
fn tell_of_panic(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "the task of a sink panicked: this is a bug");
    }
}
