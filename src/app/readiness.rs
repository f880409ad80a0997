//! Whether deliveries are taken at the moment, and why not.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use tokio::sync::watch;

use super::consumers::{Lags, UnavailableSinks, Wanted};
use super::reload::LastReload;
use crate::admin::{SinkFacts, SourceFacts, Status};
use crate::clock::Clock;
use crate::config::{Settings, SinkSettings};
use crate::inbox::{BuildFailure, Inbox};
use crate::ingest::{self, Gate, OnBadSignature, ServerTls};
use crate::metrics::Metrics;
use crate::model::SinkName;
use crate::records::status::ReloadFailure;

/// What a commit needs besides the body: its place in pages and in the write-ahead log, the event, the index.
const BESIDES_THE_BODY: u64 = 256 << 10;

/// What readiness is made of.
pub(super) struct Readiness {
    pub(super) gate: watch::Receiver<Gate>,
    /// What the start is waiting for.
    waiting_for: Mutex<String>,
    pub(super) inbox: Mutex<Option<Arc<dyn Inbox>>>,
    pub(super) lags: Lags,
    pub(super) unavailable: UnavailableSinks,
    sinks: watch::Receiver<Wanted>,
    sources: Vec<ingest::Source>,
    started: Timestamp,
    tls: Option<ServerTls>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) clock: Arc<dyn Clock>,
    last_reload: LastReload,
    /// Of the inbox.
    directory: PathBuf,
    /// Space for one event of the largest size that is taken.
    least_free: u64,
}

/// Puts another value in its place.
pub(super) fn set<T>(place: &Mutex<T>, value: T) {
    *place.lock().unwrap_or_else(PoisonError::into_inner) = value;
}

fn get<T: Clone>(place: &Mutex<T>) -> T {
    place.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

impl Readiness {
    /// Of a daemon that has not begun to open the inbox.
    pub(super) fn new(
        settings: &Settings,
        gate: watch::Receiver<Gate>,
        sinks: watch::Receiver<Wanted>,
        tls: Option<ServerTls>,
        metrics: &Arc<Metrics>,
        clock: &Arc<dyn Clock>,
        last_reload: LastReload,
    ) -> Self {
        let parent = settings.inbox.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let readiness = Self {
            gate,
            waiting_for: Mutex::default(),
            inbox: Mutex::new(None),
            lags: Lags::default(),
            unavailable: UnavailableSinks::default(),
            sinks,
            sources: settings.ingest.sources.clone(),
            started: clock.now(),
            tls,
            metrics: Arc::clone(metrics),
            clock: Arc::clone(clock),
            last_reload,
            directory: parent.unwrap_or(Path::new(".")).to_owned(),
            least_free: settings.ingest.max_body as u64 + BESIDES_THE_BODY,
        };
        readiness.opening(&settings.inbox.path);
        readiness
    }

    /// While the gate says that it is starting: what for.
    pub(super) fn waiting_for(&self, what: impl Into<String>) {
        set(&self.waiting_for, what.into());
    }

    /// It has the lock.
    pub(super) fn opening(&self, inbox: &Path) {
        self.waiting_for(format!("opening the inbox {}, which may have to write its log back first", inbox.display()));
    }

    /// Looked at whenever somebody asks: while nothing comes in, nothing is written that could fail.
    fn full_disk(&self) -> Option<String> {
        // What cannot be asked is no reason: the next commit tells.
        let disk = rustix::fs::statvfs(&self.directory).ok()?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        (free < self.least_free).then(|| {
            let (directory, needed) = (self.directory.display(), self.least_free >> 10);
            format!(
                "the disk of {directory} is full: {} KiB are free, and the largest event needs {needed} KiB; free some \
                 space, and it goes on by itself",
                free >> 10
            )
        })
    }
}

impl Status for Readiness {
    fn reasons_not_ready(&self) -> Vec<String> {
        let gate = match *self.gate.borrow() {
            Gate::Starting => Some(format!("starting: {}", get(&self.waiting_for))),
            Gate::Open => None,
            Gate::Stopping => Some("stopping".to_owned()),
        };
        let inbox = get(&self.inbox);
        let trouble = inbox.as_ref().and_then(|inbox| inbox.trouble());
        let disk = inbox.and_then(|_| self.full_disk());
        gate.into_iter().chain(trouble).chain(disk).collect()
    }

    fn unavailable_sinks(&self) -> Vec<(SinkName, BuildFailure)> {
        get(&self.unavailable).into_iter().collect()
    }

    fn refresh_metrics(&self) {
        if let Some(inbox) = get(&self.inbox) {
            let head = *inbox.head().borrow();
            get(&self.lags).values().for_each(|lag| lag.refresh(head));
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
        self.tls.as_ref().map(ServerTls::not_after)
    }

    fn reload_failure(&self) -> Option<ReloadFailure> {
        self.last_reload.failure()
    }

    fn sources(&self) -> Vec<SourceFacts> {
        let facts = |source: &ingest::Source| SourceFacts {
            name: source.name.clone(),
            path: source.path.clone(),
            on_bad_signature: match source.on_bad_signature {
                OnBadSignature::Reject => "reject",
                OnBadSignature::Retry => "retry",
            },
            fingerprints: source.keys.fingerprints().iter().map(ToString::to_string).collect(),
            in_use_since: source.keys.since().into_iter().map(|since| since.unwrap_or(self.started)).collect(),
        };
        self.sources.iter().map(facts).collect()
    }

    fn sinks(&self) -> Vec<SinkFacts> {
        let facts = |sink: &SinkSettings| SinkFacts {
            consumer: sink.consumer.clone(),
            kind: sink.sink.kind(),
            target: sink.sink.target(),
        };
        self.sinks.borrow().sinks.iter().map(|(sink, _)| facts(sink)).collect()
    }
}
