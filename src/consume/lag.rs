//! How far a consumer is behind, as of the moment of asking.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use prometheus::IntGauge;

use crate::metrics::Metrics;
use crate::model::{Seq, SinkName};

/// A consumer's cursor, to be measured from outside: the gauge tells the truth even while the consumer is busy, stuck,
/// or has not looked at the log yet.
#[derive(Clone, Debug)]
pub struct Lag {
    cursor: Arc<AtomicI64>,
    gauge: IntGauge,
}

impl Lag {
    pub(super) fn new(cursor: Seq, gauge: IntGauge) -> Self {
        Self { cursor: Arc::new(AtomicI64::new(cursor.get())), gauge }
    }

    /// Of a sink whose consumer does not run, with its cursor.
    pub fn idle(cursor: Seq, metrics: &Metrics, sink: &SinkName) -> Self {
        Self::new(cursor, metrics.sink_lag_events.with_label_values(&[sink.as_str()]))
    }

    /// Moves the cursor.
    pub(super) fn reached(&self, cursor: Seq) {
        self.cursor.store(cursor.get(), Ordering::Release);
    }

    /// Sets the gauge to the number of events between the cursor and the head of the log.
    pub fn refresh(&self, head: Seq) {
        self.gauge.set((head.get() - self.cursor.load(Ordering::Acquire)).max(0));
    }
}
