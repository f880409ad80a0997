//! How far a consumer is behind, as of the moment of asking.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use prometheus::IntGauge;

use crate::model::Seq;

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

    /// Moves the cursor.
    pub(super) fn reached(&self, cursor: Seq) {
        self.cursor.store(cursor.get(), Ordering::Release);
    }

    /// Sets the gauge to the number of events between the cursor and the head of the log.
    pub fn refresh(&self, head: Seq) {
        self.gauge.set((head.get() - self.cursor.load(Ordering::Acquire)).max(0));
    }
}
