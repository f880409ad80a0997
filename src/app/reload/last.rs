//! Whether the configuration could be used when it was last to be read again.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use prometheus::IntGauge;

use crate::metrics::Metrics;
use crate::records::status::ReloadFailure;

/// What came of the last reload. Clones are one. The start counts as one that went well: it has read everything.
#[derive(Clone)]
pub(in crate::app) struct LastReload {
    failure: Arc<Mutex<Option<ReloadFailure>>>,
    is_successful: IntGauge,
}

impl LastReload {
    /// Of a daemon that starts.
    pub(in crate::app) fn new(metrics: &Metrics) -> Self {
        let last = Self { failure: Arc::default(), is_successful: metrics.config_last_reload_successful.clone() };
        last.is_successful.set(1);
        last
    }

    /// It is in use.
    pub(super) fn succeeded(&self) {
        self.set(None);
    }

    /// Nothing has been changed, for these reasons.
    pub(super) fn failed(&self, at: Timestamp, problems: Vec<String>) {
        self.set(Some(ReloadFailure { at, problems }));
    }

    fn set(&self, failure: Option<ReloadFailure>) {
        self.is_successful.set(i64::from(failure.is_none()));
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = failure;
    }

    /// Why it failed, if it did.
    pub(in crate::app) fn failure(&self) -> Option<ReloadFailure> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
