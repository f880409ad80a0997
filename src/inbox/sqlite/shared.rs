//! What the writer's thread and its callers share.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::{Semaphore, watch};

use super::MAX_READERS;
use super::altered::Alarm;
use super::not_kept::NotKept;
use super::refusals::Waiting;
use super::trouble::Trouble;
use crate::metrics::Metrics;
use crate::model::{JobId, Seq};

pub(super) struct Shared {
    /// Appends handed over and not yet taken.
    pub(super) waiting: AtomicUsize,
    /// Bytes of their bodies.
    pub(super) waiting_bytes: AtomicUsize,
    /// Refused requests handed over and not yet written.
    pub(super) refused: Waiting,
    /// Refused requests that are not kept.
    pub(super) not_kept: NotKept,
    /// For bodies that are not what came in.
    pub(super) altered: Alarm,
    pub(super) closed: AtomicBool,
    /// One permit for each reader of the inbox.
    pub(super) may_read: Arc<Semaphore>,
    pub(super) head: watch::Sender<Seq>,
    /// The last job that could not be read: open jobs are looked at several times a second, in order.
    unreadable: AtomicI64,
    failed: watch::Sender<Option<String>>,
    trouble: Mutex<Trouble>,
}

impl Shared {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            waiting: AtomicUsize::new(0),
            waiting_bytes: AtomicUsize::new(0),
            refused: Waiting::default(),
            not_kept: NotKept::new(Arc::clone(&metrics)),
            altered: Alarm::new(metrics),
            closed: AtomicBool::new(false),
            may_read: Arc::new(Semaphore::new(MAX_READERS)),
            head: watch::Sender::new(Seq::ZERO),
            unreadable: AtomicI64::new(0),
            failed: watch::Sender::new(None),
            trouble: Mutex::default(),
        }
    }

    /// An append with a body of so many bytes waits no longer.
    pub(super) fn taken(&self, bytes: usize) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// The storage failed for good: the process must exit.
    pub(super) fn fail(&self, why: &str) {
        self.set_trouble(Some(why.to_owned()));
        self.failed.send_replace(Some(why.to_owned()));
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failed.borrow().is_some()
    }

    pub(super) fn failure(&self) -> watch::Receiver<Option<String>> {
        self.failed.subscribe()
    }

    /// Whether nobody has been told of this unreadable job yet.
    pub(super) fn is_new_unreadable(&self, job: JobId) -> bool {
        self.unreadable.fetch_max(job.get(), Ordering::Relaxed) < job.get()
    }

    pub(super) fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).why().map(str::to_owned)
    }

    /// Notes that a write has failed, or that one has worked.
    pub(super) fn set_trouble(&self, why: Option<String>) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        match why {
            Some(why) => trouble.failed(why, Instant::now()),
            None => trouble.worked(),
        }
    }

    /// Logs the end of trouble, once it has lasted.
    pub(super) fn look_at_trouble(&self) {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).look(Instant::now());
    }
}
