//! The wiring: which room is given what, in which order things start, and in which they stop.

mod consumers;
mod errand;
mod readiness;
mod reload;
mod sockets;
mod times;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::ops::ControlFlow;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::future::join_all;
use sd_notify::NotifyState;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

use consumers::{Consumers, Shared, Wanted};
pub use errand::{Ask, Configuration, Errand, carry_out};
use readiness::{Readiness, set};
use reload::{LastReload, SinkSwitch};
pub use reload::{Reload, SetLevel};
pub use sockets::{SocketError, Sockets};

use crate::admin::{self, Status};
use crate::clock::{Clock, SystemClock};
use crate::config::{Problems, Settings};
use crate::consume;
use crate::inbox::sqlite::{Lock, OpenError, ReadError, SqliteInbox};
use crate::inbox::{self, Inbox, Unavailable};
use crate::ingest::{self, Gate, IsWanted, Listener};
use crate::jobs::{self, Destination, Destinations, Executor};
use crate::lifecycle::{Stop, notify};
use crate::metrics::Metrics;
use crate::model::{JobId, SinkName};
use crate::sink;

/// How often a waiting process asks for the inbox.
const LOCK_POLL: Duration = Duration::from_millis(250);
/// What is left of the process after a failed fsync: time to answer 503, and no more.
const FAILED_GRACE: Duration = Duration::from_millis(300);

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
    /// The places of the sinks in the log could not be settled.
    #[error("the sinks could not be registered")]
    Register(#[source] Unavailable),
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

/// Runs the daemon until it is asked to stop, or until the inbox fails for good.
///
/// Asked to stop softly, it drains, for as long as `server.drain_timeout`; while it starts there is nothing to drain.
pub async fn run(
    settings: Settings,
    sockets: Sockets,
    reload: Reload,
    metrics: Arc<Metrics>,
    stop: Stop,
) -> Result<(), AppError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let (gate, gate_seen) = watch::channel(Gate::Starting);
    let (wanted, sinks_wanted) = watch::channel(Wanted::at_start(&settings.sinks));
    let (reached, sinks_reached) = watch::channel(0);
    let sinks = SinkSwitch { wanted, reached: sinks_reached };
    let last_reload = LastReload::new(&metrics);
    let (tls, reloader) = reload.prepare(&settings, sinks, &clock, gate_seen.clone(), last_reload.clone())?;
    let readiness =
        Readiness::new(&settings, gate_seen, sinks_wanted.clone(), tls.clone(), &metrics, &clock, last_reload);
    let readiness = Arc::new(readiness);

    let mut admin = match start_admin(&settings, &sockets, &readiness, &stop.soft) {
        Err(error) if error.is_address_in_use() && Lock::try_take(&settings.inbox.path)?.is_none() => {
            tracing::warn!("the admin listener's address is taken too, so this process cannot say that it waits");
            None
        }
        started => started?,
    };

    let mut tasks = JoinSet::new();
    // Also while it waits for the inbox: it may take over with none but old secrets.
    tasks.spawn(reloader.run(stop.soft.clone()));
    let starting = start(&settings, &sockets, tls, &readiness, (sinks_wanted, reached), &stop.soft);
    // Nothing has been acknowledged until this is done.
    let Some(started) = stop.soft.run_until_cancelled(starting).await else { return Ok(()) };
    let Started { inbox, public, consumers, executor } = started?;
    let sinks = consumers.destinations();
    if admin.is_none() {
        admin = take_over_admin(&settings, &sockets, &readiness, &stop.soft).await?;
    }
    tasks.spawn(consumers.run());
    tasks.spawn(executor.run(stop.soft.clone()));
    tasks.spawn(times::keep(settings.inbox.clone(), inbox.head(), stop.soft.clone()));
    gate.send_replace(Gate::Open);
    tell_secrets(&settings);
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
    consumers: Consumers,
    executor: Executor,
}

/// From the lock on the inbox to the listener and the consumers. May be dropped at any await.
async fn start(
    settings: &Settings,
    sockets: &Sockets,
    tls: Option<ingest::ServerTls>,
    readiness: &Readiness,
    (wanted, reached): (watch::Receiver<Wanted>, watch::Sender<u64>),
    stop: &CancellationToken,
) -> Result<Started, AppError> {
    let (metrics, clock) = (&readiness.metrics, &readiness.clock);
    let lock = take_lock(settings, readiness).await?;
    let place = Arc::new(OnceLock::new());
    let listen = || {
        let (inbox, metrics, clock) = (Arc::clone(&place), Arc::clone(metrics), Arc::clone(clock));
        let sinks = wanted.clone();
        let is_wanted: IsWanted = Arc::new(move |event_type| sinks.borrow().wants(event_type));
        let deps = ingest::Deps { inbox, metrics, clock, gate: readiness.gate.clone(), is_wanted };
        let addr = settings.ingest.listen;
        listening("the public listener", addr, sockets.public(addr), |listener| {
            ingest::start(listener, &settings.ingest, tls, deps)
        })
    };
    let (inbox, public) = open_inbox(settings, lock, readiness, listen).await?;
    _ = place.set(Arc::clone(&inbox));
    set(&readiness.inbox, Some(Arc::clone(&inbox)));

    readiness.waiting_for("registering the sinks");
    let deps = consume::Deps { inbox: Arc::clone(&inbox), clock: Arc::clone(clock), metrics: Arc::clone(metrics) };
    let shared = Shared {
        destinations: Destinations::default(),
        deps: deps.clone(),
        lags: Arc::clone(&readiness.lags),
        unavailable: Arc::clone(&readiness.unavailable),
        grace: settings.drain_timeout,
        builder: consumers::builder(),
    };
    let consumers = Consumers::open(wanted, reached, shared, settings.inbox.clone(), stop.clone()).await?;
    let executor = Executor::new(job_deps(settings, consumers.destinations(), deps));
    Ok(Started { inbox, public, consumers, executor })
}

/// Answers who is waiting, finishes what is in flight, writes it down, and closes the inbox; all of it within `grace`.
async fn drain(grace: Duration, public: Listener, mut tasks: JoinSet<()>, sinks: &Destinations, inbox: &dyn Inbox) {
    let deadline = Instant::now() + grace;
    // Closing the inbox commits what is queued: one transaction, and one more.
    let closing = (grace / 4).min(CLOSING);
    let finished = async {
        while tasks.join_next().await.is_some() {}
        join_all(sinks.lock().await.iter().filter_map(|one| one.sink.as_ref()).map(|sink| sink.close())).await;
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

fn start_admin(
    settings: &Settings,
    sockets: &Sockets,
    readiness: &Arc<Readiness>,
    stop: &CancellationToken,
) -> Result<Option<Listener>, AppError> {
    let Some(config) = &settings.admin else { return Ok(None) };
    let deps = admin::Deps {
        metrics: Arc::clone(&readiness.metrics),
        status: Arc::clone(readiness) as Arc<dyn Status>,
        clock: Arc::clone(&readiness.clock),
        inbox: settings.inbox.clone(),
        stop: stop.clone(),
    };
    let listener = listening("the admin listener", config.listen, sockets.admin(config.listen), |listener| {
        admin::start(listener, config, deps)
    })?;
    tracing::info!(listener = "admin", addr = %listener.addr(), "listening");
    Ok(Some(listener))
}

/// Whoever had the inbox lets go of its admin listener last.
async fn take_over_admin(
    settings: &Settings,
    sockets: &Sockets,
    readiness: &Arc<Readiness>,
    stop: &CancellationToken,
) -> Result<Option<Listener>, AppError> {
    let deadline = Instant::now() + TAKE_OVER;
    loop {
        match start_admin(settings, sockets, readiness, stop) {
            Err(error) if error.is_address_in_use() && Instant::now() < deadline => sleep(LOCK_POLL).await,
            started => return started,
        }
    }
}

fn listening(
    what: &'static str,
    addr: SocketAddr,
    listener: io::Result<TcpListener>,
    start: impl FnOnce(TcpListener) -> io::Result<Listener>,
) -> Result<Listener, AppError> {
    listener.and_then(start).map_err(|source| AppError::Listen { what, addr, source })
}

/// Waits for the inbox while another process has it.
async fn take_lock(settings: &Settings, readiness: &Readiness) -> Result<Lock, AppError> {
    // A command that carries out a long job then gives way.
    let mut waiting = None;
    loop {
        if let Some(lock) = Lock::try_take(&settings.inbox.path)? {
            readiness.opening(&settings.inbox.path);
            return Ok(lock);
        }
        if waiting.is_none() {
            tracing::warn!("another process holds the inbox: waiting, unready, until it lets go");
            readiness.waiting_for(format!(
                "another process holds the inbox {}: this one goes on when that ends",
                settings.inbox.path.display()
            ));
            waiting = Some(Lock::announce(&settings.inbox.path)?);
        }
        sleep(LOCK_POLL).await;
    }
}

/// Opens the inbox, and then listens. Its log is durable by then: from there on a sender may be answered, though only with
/// 503 until the sinks have their cursors. While another program has locked the inbox it listens all the same, and says why
/// nothing is taken.
async fn open_inbox(
    settings: &Settings,
    lock: Lock,
    readiness: &Readiness,
    listen: impl FnOnce() -> Result<Listener, AppError>,
) -> Result<(Arc<dyn Inbox>, Listener), AppError> {
    let (held_up, mut reasons) = watch::channel(String::new());
    let (config, clock) = (settings.inbox.clone(), Arc::clone(&readiness.clock));
    let metrics = Arc::clone(&readiness.metrics);
    let mut opening = tokio::task::spawn_blocking(move || {
        // Until nobody waits for the inbox any more.
        let mut patience = |why: &OpenError| match held_up.send(why.to_string()) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        };
        SqliteInbox::open_patiently(&config, lock, clock, metrics, &mut patience)
    });
    let mut listen = Some(listen);
    let mut public = None;
    let opened = loop {
        tokio::select! {
            opened = &mut opening => break opened,
            Ok(()) = reasons.changed() => {
                let why = reasons.borrow_and_update().clone();
                if let Some(listen) = listen.take() {
                    let listener = listen()?;
                    tracing::error!(why, addr = %listener.addr(), "the inbox cannot be opened yet: senders are answered 503");
                    public = Some(listener);
                }
                readiness.waiting_for(why);
            }
        }
    };
    let inbox = opened.map_err(|error| AppError::Ended(error.to_string()))??;
    let head = inbox.head().borrow().get();
    tracing::info!(path = %settings.inbox.path.display(), head, "the inbox is open");
    let public = match (public, listen) {
        (Some(public), _) => public,
        (None, Some(listen)) => listen()?,
        (None, None) => unreachable!("it was taken to make the listener"),
    };
    Ok((Arc::new(inbox), public))
}

/// The sinks, for one command: nobody else has them. Only the one that is needed has to be built.
async fn build_sinks(settings: &Settings, needed: Option<&SinkName>) -> Result<Vec<Destination>, AppError> {
    let mut destinations = Vec::with_capacity(settings.sinks.len());
    for settings in &settings.sinks {
        let config = settings.consumer.clone();
        let sink = match consumers::build(settings).await {
            Err(error) if needed == Some(&config.name) => return Err(error),
            built => built.ok(),
        };
        destinations.push(Destination::new(config, sink));
    }
    Ok(destinations)
}

/// So that people can tell by the log which secrets were in use when.
fn tell_secrets(settings: &Settings) {
    for source in &settings.ingest.sources {
        let secrets: Vec<String> = source.keys.fingerprints().iter().map(ToString::to_string).collect();
        tracing::info!(source = %source.name, fingerprints = secrets.join(", "), "the source verifies with these secrets");
    }
}

/// What jobs need of the settings, in the daemon and out of it.
fn job_deps(settings: &Settings, sinks: Destinations, consume: consume::Deps) -> jobs::Deps {
    let sources = settings.ingest.sources.iter();
    let keys = sources.map(|source| (source.name.clone(), source.keys.clone())).collect();
    let inbox::Config { retention, quarantine, .. } = settings.inbox;
    jobs::Deps { consume, keys, sinks, retention, quarantine, configured: None }
}
