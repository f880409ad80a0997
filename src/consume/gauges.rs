//! What one consumer measures.

use prometheus::{Histogram, IntCounter, IntGauge};

use super::lag::Lag;
use crate::inbox::ConsumerState;
use crate::metrics::Metrics;
use crate::model::SinkState;

/// Of the live consumer: the sink's own gauges. Of a replay: gauges that nobody sees, so that the sink's stay true.
pub(super) struct Gauges {
    pub lag: Lag,
    pub lag_seconds: IntGauge,
    pub parked: IntGauge,
    pub dead_letters: IntGauge,
    pub breaker_open: IntGauge,
    states: [(SinkState, IntGauge); SinkState::ALL.len()],
    reading_stopped: IntGauge,
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
        let of_state = |state: SinkState| {
            if is_replay {
                IntGauge::new("unseen", "Not registered").expect("the name is valid")
            } else {
                metrics.sink_state.with_label_values(&[sink, state.as_str()])
            }
        };
        let gauges = Self {
            lag: Lag::new(state.cursor, of_sink(&metrics.sink_lag_events)),
            lag_seconds: of_sink(&metrics.sink_lag_seconds),
            parked: of_sink(&metrics.sink_parked),
            dead_letters: of_sink(&metrics.dead_letters),
            breaker_open: of_sink(&metrics.breaker_open),
            states: SinkState::ALL.map(|state| (state, of_state(state))),
            reading_stopped: of_sink(&metrics.sink_reading_stopped),
            delivery_seconds: metrics.sink_delivery_seconds.with_label_values(&[sink]),
            filter_errors: metrics.filter_errors.with_label_values(&[sink]),
        };
        gauges.dead_letters.set(count(state.dead_letters));
        gauges
    }

    /// Which state the sink is in, and whether reading stands still for what is parked.
    pub(super) fn says(&self, state: SinkState, reading_stopped: bool) {
        self.states.iter().for_each(|(other, gauge)| gauge.set(i64::from(*other == state)));
        self.reading_stopped.set(i64::from(reading_stopped));
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
