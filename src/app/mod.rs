//! The wiring: which room is given what, in which order things start, and in which they stop.

mod errand;
mod reload;
mod times;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use jiff::Timestamp;
use sd_notify::NotifyState;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

pub use errand::{Ask, Errand, carry_out};
pub use reload::Reload;

use crate::admin::{self, SinkFacts, SourceFacts, Status};
use crate::clock::{Clock, SystemClock};
use crate::config::{Problems, Settings, SinkSettings};
use crate::consume::{self, Consumer, Lag};
use crate::inbox::sqlite::{Lock, OpenError, ReadError, SqliteInbox};
use crate::inbox::{Inbox, Unavailable};
use crate::ingest::{self, Gate, Listener, OnBadSignature};
use crate::jobs::{self, Destination, Executor};
use crate::lifecycle::{Stop, notify};
use crate::metrics::Metrics;
use crate::model::JobId;
use crate::sink::{self, Sink};

/// How often a waiting process asks for the inbox.
const LOCK_POLL: Duration = Duration::from_millis(250);
/// What is left of the process after a failed fsync: time to answer 503, and no more.
const FAILED_GRACE: Duration = Duration::from_millis(300);

/// Connections that wait to be accepted: at the limit of connections, and while a busy core gets round to it. The
/// standard library asks for 128.
const BACKLOG: i32 = 1024;

/// How long a process that has taken over the inbox waits for the admin listener's address.
const TAKE_OVER: Duration = Duration::from_secs(5);

/// The part of the drain's time that is kept for closing the inbox, where there is as much.
const CLOSING: Duration = Duration::from_secs(2);

/// Why the daemon did not start, or did not go on.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// An address is in use, or not ours.
    #[error("cannot listen on {addr} for {what}")]
    Listen {
        /// `the public listener` or `the admin listener`.
        what: &'static str,
        /// Its address.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The certificate or its key.
    #[error(transparent)]
    Tls(#[from] ingest::TlsError),
    /// The inbox could not be opened.
    #[error("the inbox could not be opened")]
    Open(#[from] OpenError),
    /// A sink could not be made.
    #[error("sink '{name}' could not be made")]
    Sink {
        /// Its name.
        name: String,
        /// Why.
        source: sink::BuildError,
    },
    /// A consumer could not be registered.
    #[error("the consumer of sink '{name}' could not be registered")]
    Consumer {
        /// Its sink.
        name: String,
        /// Why.
        source: Unavailable,
    },
    /// A sink was renamed, and both names are in use.
    #[error(
        "sinks '{one}' and '{other}' have one place in the log, because one was renamed to the other: give the new sink \
         another name in the configuration"
    )]
    OneConsumer {
        /// One name.
        one: String,
        /// The other.
        other: String,
    },
    /// The configuration, where a command needs all of it.
    #[error(transparent)]
    Config(#[from] Problems),
    /// The inbox could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// No such job.
    #[error("there is no job {0}: see `ralio-relay replay list`")]
    NoJob(JobId),
    /// A job could not be stored, or its end could not be learnt.
    #[error("the job could not be carried out")]
    Job(#[source] Unavailable),
    /// The inbox failed while running: what it last wrote may not be on disk.
    #[error("the inbox failed, and is checked at the next start: {0}")]
    InboxFailed(String),
    /// A task ended that should not have.
    #[error("a part of the daemon ended by itself: {0}")]
    Ended(String),
}

impl AppError {
    fn is_address_in_use(&self) -> bool {
        matches!(self, Self::Listen { source, .. } if source.kind() == io::ErrorKind::AddrInUse)
    }
}

/// What readiness is made of.
struct Readiness {
    gate: watch::Receiver<Gate>,
    /// What the start is waiting for.
    waiting_for: Mutex<&'static str>,
    inbox: Mutex<Option<Arc<dyn Inbox>>>,
    lags: Mutex<Vec<Lag>>,
    tls: Option<ingest::ServerTls>,
    sources: Vec<ingest::Source>,
    started: Timestamp,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
}

fn set<T>(place: &Mutex<T>, value: T) {
    *place.lock().unwrap_or_else(PoisonError::into_inner) = value;
}

fn get<T: Clone>(place: &Mutex<T>) -> T {
    place.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

impl Status for Readiness {
    fn reasons_not_ready(&self) -> Vec<String> {
        let gate = match *self.gate.borrow() {
            Gate::Starting => Some(format!("starting: {}", get(&self.waiting_for))),
            Gate::Open => None,
            Gate::Stopping => Some("stopping".to_owned()),
        };
        let inbox = get(&self.inbox).and_then(|inbox| inbox.trouble());
        gate.into_iter().chain(inbox).collect()
    }

    fn refresh_metrics(&self) {
        if let Some(inbox) = get(&self.inbox) {
            let head = *inbox.head().borrow();
            get(&self.lags).iter().for_each(|lag| lag.refresh(head));
        }
        if let Some(tls) = &self.tls {
            let left = tls.not_after().duration_since(self.clock.now());
            self.metrics.tls_cert_expiry_seconds.set(left.as_secs());
        }
    }

    fn inbox(&self) -> Option<Arc<dyn Inbox>> {
        get(&self.inbox)
    }

    fn certificate(&self) -> Option<Timestamp> {
        self.tls.as_ref().map(ingest::ServerTls::not_after)
    }

    fn sources(&self) -> Vec<SourceFacts> {
        let facts = |source: &ingest::Source| SourceFacts {
            name: source.name.clone(),
            path: source.path.clone(),
            on_bad_signature: match source.on_bad_signature {
                OnBadSignature::Reject => "reject",
                OnBadSignature::Retry => "retry",
            },
            in_use_since: source.keys.since().into_iter().map(|since| since.unwrap_or(self.started)).collect(),
        };
        self.sources.iter().map(facts).collect()
    }
}

/// Runs the daemon until it is asked to stop, or until the inbox fails for good.
///
/// Asked to stop softly, it drains, for as long as `server.drain_timeout`; while it starts there is nothing to drain.
pub async fn run(settings: Settings, reload: Reload, stop: Stop) -> Result<(), AppError> {
    let metrics = Arc::new(Metrics::new());
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let (gate, gate_seen) = watch::channel(Gate::Starting);
    let (tls, reloader) = reload.prepare(&settings, &clock, gate_seen.clone())?;
    let readiness = Arc::new(Readiness {
        gate: gate_seen,
        waiting_for: Mutex::new("opening the inbox"),
        inbox: Mutex::new(None),
        lags: Mutex::new(Vec::new()),
        tls: tls.clone(),
        sources: settings.ingest.sources.clone(),
        started: clock.now(),
        metrics: Arc::clone(&metrics),
        clock: Arc::clone(&clock),
        stop: stop.soft.clone(),
    });

    let mut admin = match start_admin(&settings, &readiness) {
        Err(error) if error.is_address_in_use() && Lock::try_take(&settings.inbox.path)?.is_none() => {
            tracing::warn!("the admin listener's address is taken too, so this process cannot say that it waits");
            None
        }
        started => started?,
    };

    let mut tasks = JoinSet::new();
    // Also while it waits for the inbox: it may take over with none but old secrets.
    tasks.spawn(reloader.run(stop.soft.clone()));
    // Nothing has been acknowledged until this is done.
    let Some(started) = stop.soft.run_until_cancelled(start(&settings, tls, &readiness)).await else { return Ok(()) };
    let Started { inbox, public, consumers, executor, sinks } = started?;
    if admin.is_none() {
        admin = take_over_admin(&settings, &readiness).await?;
    }
    for consumer in consumers {
        let stop = stop.soft.clone();
        tasks.spawn(async move { _ = consumer.run(stop).await });
    }
    tasks.spawn(executor.run(stop.soft.clone()));
    tasks.spawn(times::keep(settings.inbox.clone(), inbox.head(), stop.soft.clone()));
    gate.send_replace(Gate::Open);
    tracing::info!(listener = "public", addr = %public.addr(), "listening");
    notify(&[NotifyState::Ready]);

    // Asked to stop, consumers end too: that is then no failure.
    let ended = tokio::select! {
        biased;
        () = stop.soft.cancelled() => Ok(()),
        why = inbox.failed() => Err(AppError::InboxFailed(why)),
        Some(ended) = tasks.join_next() => Err(AppError::Ended(format!("{ended:?}"))),
    };
    gate.send_replace(Gate::Stopping);
    notify(&[NotifyState::Stopping]);
    let grace = if ended.is_ok() { settings.drain_timeout } else { FAILED_GRACE };
    stop.soft.cancel();
    tokio::select! {
        () = drain(grace, public, tasks, &sinks, inbox.as_ref()) => {}
        () = stop.hard.cancelled() => tracing::warn!("stopped without waiting for what is in flight"),
    }
    if let Some(admin) = admin {
        admin.stop(Duration::ZERO).await;
    }
    ended
}

struct Started {
    inbox: Arc<dyn Inbox>,
    public: Listener,
    consumers: Vec<Consumer>,
    executor: Executor,
    sinks: Vec<Arc<dyn Sink>>,
}

/// From the lock on the inbox to the listener and the consumers. May be dropped at any await.
async fn start(
    settings: &Settings,
    tls: Option<ingest::ServerTls>,
    readiness: &Readiness,
) -> Result<Started, AppError> {
    let (metrics, clock) = (&readiness.metrics, &readiness.clock);
    let lock = take_lock(settings, readiness).await?;
    let inbox = open_inbox(settings, lock, clock, metrics).await?;
    set(&readiness.inbox, Some(Arc::clone(&inbox)));

    // The inbox is checkpointed by now: from here on a sender may be answered, though only with 503 until the sinks
    // have their cursors.
    set(&readiness.waiting_for, "registering the sinks");
    let ingest_deps = ingest::Deps {
        inbox: Arc::clone(&inbox),
        metrics: Arc::clone(metrics),
        clock: Arc::clone(clock),
        gate: readiness.gate.clone(),
    };
    let public = bind("the public listener", settings.ingest.listen, |listener| {
        ingest::start(listener, &settings.ingest, tls, ingest_deps)
    })?;
    let deps = consume::Deps { inbox: Arc::clone(&inbox), clock: Arc::clone(clock), metrics: Arc::clone(metrics) };
    let mut destinations = build_sinks(settings).await?;
    let sinks = destinations.iter().map(|destination| Arc::clone(&destination.sink)).collect();
    let consumers = open_consumers(&mut destinations, &deps).await?;
    set(&readiness.lags, consumers.iter().map(Consumer::lag).collect());
    let executor = Executor::new(job_deps(settings, destinations, deps));
    Ok(Started { inbox, public, consumers, executor, sinks })
}

/// Answers who is waiting, finishes what is in flight, writes it down, and closes the inbox; all of it within `grace`.
async fn drain(grace: Duration, public: Listener, mut tasks: JoinSet<()>, sinks: &[Arc<dyn Sink>], inbox: &dyn Inbox) {
    let deadline = Instant::now() + grace;
    // Closing the inbox commits what is queued: one transaction, and one more.
    let closing = (grace / 4).min(CLOSING);
    let finished = async {
        while tasks.join_next().await.is_some() {}
        join_all(sinks.iter().map(|sink| sink.close())).await;
    };
    let (_, finished) = tokio::join!(public.stop(grace - closing), timeout_at(deadline - closing, finished));
    if finished.is_err() {
        tracing::warn!(?grace, "deliveries still in flight are left, and are made again after the next start");
        tasks.abort_all();
    }
    match timeout_at(deadline, inbox.close()).await {
        Ok(()) => tracing::info!("stopped"),
        Err(_) => tracing::error!("the inbox could not be closed in time: it is checked at the next start"),
    }
}

fn start_admin(settings: &Settings, readiness: &Arc<Readiness>) -> Result<Option<Listener>, AppError> {
    let Some(config) = &settings.admin else { return Ok(None) };
    let sink = |sink: &SinkSettings| SinkFacts { consumer: sink.consumer.clone(), kind: sink.sink.kind() };
    let deps = admin::Deps {
        metrics: Arc::clone(&readiness.metrics),
        status: Arc::clone(readiness) as Arc<dyn Status>,
        clock: Arc::clone(&readiness.clock),
        inbox: settings.inbox.clone(),
        sinks: settings.sinks.iter().map(sink).collect(),
        stop: readiness.stop.clone(),
    };
    let listener = bind("the admin listener", config.listen, |listener| admin::start(listener, config, deps))?;
    tracing::info!(listener = "admin", addr = %listener.addr(), "listening");
    Ok(Some(listener))
}

/// Whoever had the inbox lets go of its admin listener last.
async fn take_over_admin(settings: &Settings, readiness: &Arc<Readiness>) -> Result<Option<Listener>, AppError> {
    let deadline = Instant::now() + TAKE_OVER;
    loop {
        match start_admin(settings, readiness) {
            Err(error) if error.is_address_in_use() && Instant::now() < deadline => sleep(LOCK_POLL).await,
            started => return started,
        }
    }
}

fn bind(
    what: &'static str,
    addr: SocketAddr,
    start: impl FnOnce(TcpListener) -> io::Result<Listener>,
) -> Result<Listener, AppError> {
    let listener = TcpListener::bind(addr).and_then(|listener| {
        rustix::net::listen(&listener, BACKLOG)?;
        Ok(listener)
    });
    listener.and_then(start).map_err(|source| AppError::Listen { what, addr, source })
}

/// Waits for the inbox while another process has it.
async fn take_lock(settings: &Settings, readiness: &Readiness) -> Result<Lock, AppError> {
    // A command that carries out a long job then gives way.
    let mut waiting = None;
    loop {
        if let Some(lock) = Lock::try_take(&settings.inbox.path)? {
            set(&readiness.waiting_for, "opening the inbox");
            return Ok(lock);
        }
        if waiting.is_none() {
            tracing::warn!("another process holds the inbox: waiting, unready, until it lets go");
            set(&readiness.waiting_for, "another process holds the inbox");
            waiting = Some(Lock::announce(&settings.inbox.path)?);
        }
        sleep(LOCK_POLL).await;
    }
}

async fn open_inbox(
    settings: &Settings,
    lock: Lock,
    clock: &Arc<dyn Clock>,
    metrics: &Arc<Metrics>,
) -> Result<Arc<dyn Inbox>, AppError> {
    let (config, clock, metrics) = (settings.inbox.clone(), Arc::clone(clock), Arc::clone(metrics));
    let opening = tokio::task::spawn_blocking(move || SqliteInbox::open(&config, lock, clock, metrics));
    let inbox = opening.await.map_err(|error| AppError::Ended(error.to_string()))??;
    let head = inbox.head().borrow().get();
    tracing::info!(path = %settings.inbox.path.display(), head, "the inbox is open");
    Ok(Arc::new(inbox))
}

async fn build_sinks(settings: &Settings) -> Result<Vec<Destination>, AppError> {
    let mut destinations = Vec::with_capacity(settings.sinks.len());
    for settings in &settings.sinks {
        let name = settings.consumer.name.to_string();
        let sink =
            sink::build(&settings.sink, settings.format).await.map_err(|source| AppError::Sink { name, source })?;
        destinations.push(Destination { config: settings.consumer.clone(), sink: sink.into(), live: None });
    }
    Ok(destinations)
}

async fn open_consumers(destinations: &mut [Destination], deps: &consume::Deps) -> Result<Vec<Consumer>, AppError> {
    let mut consumers: Vec<Consumer> = Vec::with_capacity(destinations.len());
    for Destination { config, sink, live } in destinations {
        let opened = Consumer::open(config.clone(), Arc::clone(sink), deps.clone()).await;
        let consumer = opened.map_err(|source| AppError::Consumer { name: config.name.to_string(), source })?;
        let handle = consumer.handle();
        if let Some(other) = consumers.iter().map(Consumer::handle).find(|other| other.id() == handle.id()) {
            return Err(AppError::OneConsumer { one: other.name().to_string(), other: handle.name().to_string() });
        }
        *live = Some(handle);
        consumers.push(consumer);
    }
    Ok(consumers)
}

/// What jobs need of the settings, in the daemon and out of it.
fn job_deps(settings: &Settings, sinks: Vec<Destination>, consume: consume::Deps) -> jobs::Deps {
    let sources = settings.ingest.sources.iter();
    let keys = sources.map(|source| (source.name.clone(), source.keys.clone())).collect();
    jobs::Deps { consume, keys, sinks, retention: settings.inbox.retention }
}
