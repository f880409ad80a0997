//! What one consumer measures.

use prometheus::{Histogram, IntCounter, IntGauge};

use super::lag::Lag;
use crate::inbox::ConsumerState;
use crate::metrics::Metrics;

/// Of the live consumer: the sink's own gauges. Of a replay: gauges that nobody sees, so that the sink's stay true.
pub(super) struct Gauges {
    pub lag: Lag,
    pub lag_seconds: IntGauge,
    pub parked: IntGauge,
    pub dead_letters: IntGauge,
    pub breaker_open: IntGauge,
    pub delivery_seconds: Histogram,
    pub filter_errors: IntCounter,
}

impl Gauges {
    pub(super) fn new(metrics: &Metrics, sink: &str, state: &ConsumerState, is_replay: bool) -> Self {
        let of_sink = |gauges: &prometheus::IntGaugeVec| {
            if is_replay {
                IntGauge::new("unseen", "Not registered").expect("the name is valid")
            } else {
                gauges.with_label_values(&[sink])
            }
        };
        let gauges = Self {
            lag: Lag::new(state.cursor, of_sink(&metrics.sink_lag_events)),
            lag_seconds: of_sink(&metrics.sink_lag_seconds),
            parked: of_sink(&metrics.sink_parked),
            dead_letters: of_sink(&metrics.dead_letters),
            breaker_open: of_sink(&metrics.breaker_open),
            delivery_seconds: metrics.sink_delivery_seconds.with_label_values(&[sink]),
            filter_errors: metrics.filter_errors.with_label_values(&[sink]),
        };
        gauges.dead_letters.set(count(state.dead_letters));
        gauges
    }

    /// So many dead letters less: revived, or discarded by a person.
    pub(super) fn dead_letters_less(&self, number: u64) {
        self.dead_letters.sub(count(number));
    }
}

/// As gauges count.
pub(super) fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
