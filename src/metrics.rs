//! Every metric name, once. No label ever holds what a sender chose.

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use crate::model::{Outcome, SinkState};

const SECONDS: [f64; 16] =
    [0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 20.0];
const BATCH: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

/// The daemon's metrics, prefix `ralio_relay_`.
pub struct Metrics {
    registry: Registry,
    /// `requests_total{source,outcome}`: answers on the public listener. `source` is `-` off every configured path.
    pub requests: IntCounterVec,
    /// `ack_seconds{source}`: from the request's head to its answer.
    pub ack_seconds: HistogramVec,
    /// `events_total{source,category}`: events stored.
    pub events: IntCounterVec,
    /// `events_unrouted_total{source,category}`: events stored of a type that no sink wants.
    pub events_unrouted: IntCounterVec,
    /// `event_time_missing_total{source}`: events stored whose time cannot be told.
    pub event_time_missing: IntCounterVec,
    /// `duplicates_total{source,kind}`: `same` bytes, or a `conflict`.
    pub duplicates: IntCounterVec,
    /// `secret_used_total{source,slot}`: which secret signed.
    pub secret_used: IntCounterVec,
    /// `inbox_commit_seconds`.
    pub commit_seconds: Histogram,
    /// `inbox_batch_events`: events in one commit.
    pub batch_events: Histogram,
    /// `inbox_bytes`: size of the database file.
    pub inbox_bytes: IntGauge,
    /// `wal_bytes`: size of its write-ahead log.
    pub wal_bytes: IntGauge,
    /// `quarantine_entries`.
    pub quarantine_entries: IntGauge,
    /// `quarantine_dropped_total{source}`: refused requests that were answered 503 and are not kept, or were evicted.
    pub quarantine_dropped: IntCounterVec,
    /// `sink_attempts_total{sink,outcome}`.
    pub sink_attempts: IntCounterVec,
    /// `sink_delivery_seconds{sink}`.
    pub sink_delivery_seconds: HistogramVec,
    /// `sink_lag_events{sink}`: events after the cursor.
    pub sink_lag_events: IntGaugeVec,
    /// `sink_lag_seconds{sink}`: age of the oldest event that waits, parked or after the cursor.
    pub sink_lag_seconds: IntGaugeVec,
    /// `sink_parked{sink}`.
    pub sink_parked: IntGaugeVec,
    /// `dead_letters{sink}`.
    pub dead_letters: IntGaugeVec,
    /// `breaker_open{sink}`: 1 while the sink counts as down, and is only probed.
    pub breaker_open: IntGaugeVec,
    /// `sink_state{sink,state}`: 1 for the state that the sink is in, 0 for the others. See [`Metrics::set_sink_state`].
    pub sink_state: IntGaugeVec,
    /// `sink_reading_stopped{sink}`: 1 while nothing more is read for it, because `retry.max_parked` events are parked.
    pub sink_reading_stopped: IntGaugeVec,
    /// `filter_errors_total{sink}`: events that the sink's filter could not decide on; they are delivered.
    pub filter_errors: IntCounterVec,
    /// `tls_handshake_failures_total{reason}`.
    pub tls_handshake_failures: IntCounterVec,
    /// `unproven_closed_total{what}`: what strangers lost to make room for others: a `connection`, a `body`, or a
    /// connection to the `admin` listener.
    pub unproven_closed: IntCounterVec,
    /// `tls_cert_expiry_seconds`: from now to the end of the certificate; negative after it.
    pub tls_cert_expiry_seconds: IntGauge,
    /// `body_digest_mismatch_total`: events whose bodies were found to have another SHA-256 than what came in, each once,
    /// whoever has found it.
    pub body_digest_mismatch: IntCounter,
    /// `config_last_reload_successful`: 1, or 0 when the configuration was last to be read again and could not be used.
    pub config_last_reload_successful: IntGauge,
    /// `log_lines_dropped_total`: lines that standard error did not take.
    pub log_lines_dropped: IntCounter,
}

impl Metrics {
    /// Registers everything in a registry of its own, with the process's metrics and `build_info`.
    pub fn new() -> Self {
        let registry = Registry::new();
        let metrics = Self {
            requests: counters(&registry, "requests_total", "Answers on the public listener", &["source", "outcome"]),
            ack_seconds: seconds(&registry, "ack_seconds", "Time to answer a delivery", &["source"]),
            events: counters(&registry, "events_total", "Events stored", &["source", "category"]),
            events_unrouted: counters(&registry, "events_unrouted_total", "Events unrouted", &["source", "category"]),
            event_time_missing: counters(&registry, "event_time_missing_total", "Events without a time", &["source"]),
            duplicates: counters(&registry, "duplicates_total", "Deliveries under a known id", &["source", "kind"]),
            secret_used: counters(&registry, "secret_used_total", "Deliveries by secret", &["source", "slot"]),
            commit_seconds: histogram(&registry, "inbox_commit_seconds", "Time of one commit", &SECONDS),
            batch_events: histogram(&registry, "inbox_batch_events", "Events in one commit", &BATCH),
            inbox_bytes: gauge(&registry, "inbox_bytes", "Size of the inbox"),
            wal_bytes: gauge(&registry, "wal_bytes", "Size of the write-ahead log"),
            quarantine_entries: gauge(&registry, "quarantine_entries", "Requests in quarantine"),
            quarantine_dropped: counters(&registry, "quarantine_dropped_total", "Refused, and not kept", &["source"]),
            sink_attempts: counters(&registry, "sink_attempts_total", "Delivery attempts", &["sink", "outcome"]),
            sink_delivery_seconds: seconds(&registry, "sink_delivery_seconds", "Time of one attempt", &["sink"]),
            sink_lag_events: gauges(&registry, "sink_lag_events", "Events after the cursor"),
            sink_lag_seconds: gauges(
                &registry,
                "sink_lag_seconds",
                "Age of the oldest event that waits, parked or after the cursor",
            ),
            sink_parked: gauges(&registry, "sink_parked", "Events set aside for a later attempt"),
            dead_letters: gauges(&registry, "dead_letters", "Events given up"),
            breaker_open: gauges(&registry, "breaker_open", "1 while the sink counts as down, and is only probed"),
            sink_state: states(&registry, "sink_state", "1 for the state that the sink is in, 0 for the others"),
            sink_reading_stopped: gauges(
                &registry,
                "sink_reading_stopped",
                "1 while nothing more is read, because too many events are parked",
            ),
            filter_errors: counters(&registry, "filter_errors_total", "Events that no filter decided on", &["sink"]),
            tls_handshake_failures: counters(
                &registry,
                "tls_handshake_failures_total",
                "TLS handshakes that failed on the public listener",
                &["reason"],
            ),
            unproven_closed: counters(
                &registry,
                "unproven_closed_total",
                "Connections without a valid signature or token that were closed to make room",
                &["what"],
            ),
            tls_cert_expiry_seconds: gauge(&registry, "tls_cert_expiry_seconds", "Time left for the certificate"),
            body_digest_mismatch: counter(
                &registry,
                "body_digest_mismatch_total",
                "Events whose bodies were found to have another SHA-256 than what came in",
            ),
            config_last_reload_successful: gauge(
                &registry,
                "config_last_reload_successful",
                "0 when the last reload of the configuration failed",
            ),
            log_lines_dropped: counter(&registry, "log_lines_dropped_total", "Log lines that could not be written"),
            registry,
        };
        let build = Opts::new("ralio_relay_build_info", "Version of the running binary");
        let build = IntGaugeVec::new(build, &["version", "commit"]).expect("the name and labels are valid");
        build.with_label_values(&[env!("CARGO_PKG_VERSION"), env!("RALIO_RELAY_COMMIT")]).set(1);
        register(&metrics.registry, build);
        register(&metrics.registry, prometheus::process_collector::ProcessCollector::for_self());
        metrics
    }

    /// Says which state a sink is in.
    pub fn set_sink_state(&self, sink: &str, state: SinkState) {
        for other in SinkState::ALL {
            self.sink_state.with_label_values(&[sink, other.as_str()]).set(i64::from(other == state));
        }
    }

    /// Takes every series of a sink away: there is no such sink any more. What still counts for it is seen by nobody.
    pub fn forget_sink(&self, sink: &str) {
        let gauges = [
            &self.sink_lag_events,
            &self.sink_lag_seconds,
            &self.sink_parked,
            &self.dead_letters,
            &self.breaker_open,
            &self.sink_reading_stopped,
        ];
        // An error is a series that never was.
        gauges.iter().for_each(|gauge| _ = gauge.remove_label_values(&[sink]));
        _ = self.sink_delivery_seconds.remove_label_values(&[sink]);
        _ = self.filter_errors.remove_label_values(&[sink]);
        for state in SinkState::ALL {
            _ = self.sink_state.remove_label_values(&[sink, state.as_str()]);
        }
        for outcome in Outcome::LABELS {
            _ = self.sink_attempts.remove_label_values(&[sink, outcome]);
        }
    }

    /// The Prometheus text format, version 0.0.4.
    pub fn render(&self) -> String {
        TextEncoder::new().encode_to_string(&self.registry.gather()).expect("names and labels are valid")
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

fn register<C: prometheus::core::Collector + 'static>(registry: &Registry, collector: C) {
    registry.register(Box::new(collector)).expect("each name is registered once");
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace("ralio_relay")
}

fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    let metric = IntCounterVec::new(opts(name, help), labels).expect("the name and labels are valid");
    register(registry, metric.clone());
    metric
}

fn counter(registry: &Registry, name: &str, help: &str) -> IntCounter {
    let metric = IntCounter::with_opts(opts(name, help)).expect("the name is valid");
    register(registry, metric.clone());
    metric
}

fn gauge(registry: &Registry, name: &str, help: &str) -> IntGauge {
    let metric = IntGauge::with_opts(opts(name, help)).expect("the name is valid");
    register(registry, metric.clone());
    metric
}

fn gauges(registry: &Registry, name: &str, help: &str) -> IntGaugeVec {
    let metric = IntGaugeVec::new(opts(name, help), &["sink"]).expect("the name and label are valid");
    register(registry, metric.clone());
    metric
}

fn states(registry: &Registry, name: &str, help: &str) -> IntGaugeVec {
    let metric = IntGaugeVec::new(opts(name, help), &["sink", "state"]).expect("the name and labels are valid");
    register(registry, metric.clone());
    metric
}

fn histogram(registry: &Registry, name: &str, help: &str, buckets: &[f64]) -> Histogram {
    let opts = HistogramOpts::from(opts(name, help)).buckets(buckets.to_vec());
    let metric = Histogram::with_opts(opts).expect("the name is valid");
    register(registry, metric.clone());
    metric
}

fn seconds(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> HistogramVec {
    let opts = HistogramOpts::from(opts(name, help)).buckets(SECONDS.to_vec());
    let metric = HistogramVec::new(opts, labels).expect("the name and labels are valid");
    register(registry, metric.clone());
    metric
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The public interface: dashboards and alerts rely on these names.
    const NAMES: &[(&str, &[&str])] = &[
        ("requests_total", &["source", "outcome"]),
        ("ack_seconds", &["source"]),
        ("events_total", &["source", "category"]),
        ("events_unrouted_total", &["source", "category"]),
        ("event_time_missing_total", &["source"]),
        ("duplicates_total", &["source", "kind"]),
        ("inbox_commit_seconds", &[]),
        ("inbox_batch_events", &[]),
        ("inbox_bytes", &[]),
        ("wal_bytes", &[]),
        ("sink_attempts_total", &["sink", "outcome"]),
        ("sink_delivery_seconds", &["sink"]),
        ("sink_lag_events", &["sink"]),
        ("sink_lag_seconds", &["sink"]),
        ("sink_parked", &["sink"]),
        ("dead_letters", &["sink"]),
        ("breaker_open", &["sink"]),
        ("sink_state", &["sink", "state"]),
        ("sink_reading_stopped", &["sink"]),
        ("quarantine_entries", &[]),
        ("quarantine_dropped_total", &["source"]),
        ("secret_used_total", &["source", "slot"]),
        ("tls_cert_expiry_seconds", &[]),
        ("body_digest_mismatch_total", &[]),
        ("config_last_reload_successful", &[]),
        ("log_lines_dropped_total", &[]),
        ("tls_handshake_failures_total", &["reason"]),
        ("unproven_closed_total", &["what"]),
        ("filter_errors_total", &["sink"]),
        ("build_info", &["version", "commit"]),
    ];

    #[test]
    fn every_name_of_the_interface_is_rendered_and_no_other() {
        let metrics = Metrics::new();
        let Metrics { requests, events, events_unrouted, duplicates, sink_attempts, .. } = &metrics;
        for counters in [requests, events, events_unrouted, duplicates, sink_attempts] {
            counters.with_label_values(&["a", "b"]).inc();
        }
        metrics.secret_used.with_label_values(&["a", "0"]).inc();
        for counters in [
            &metrics.event_time_missing,
            &metrics.filter_errors,
            &metrics.quarantine_dropped,
            &metrics.tls_handshake_failures,
            &metrics.unproven_closed,
        ] {
            counters.with_label_values(&["a"]).inc();
        }
        for histogram in [&metrics.ack_seconds, &metrics.sink_delivery_seconds] {
            histogram.with_label_values(&["a"]).observe(1.0);
        }
        metrics.set_sink_state("a", SinkState::Down);
        let Metrics { sink_lag_events, sink_lag_seconds, sink_parked, dead_letters, breaker_open, .. } = &metrics;
        let stopped = &metrics.sink_reading_stopped;
        for gauges in [sink_lag_events, sink_lag_seconds, sink_parked, dead_letters, breaker_open, stopped] {
            gauges.with_label_values(&["a"]).set(1);
        }
        let text = metrics.render();
        let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ralio_relay_")?.split(' ').next());
        let (mut rendered, mut named): (Vec<&str>, Vec<&str>) =
            (types.collect(), NAMES.iter().map(|(name, _)| *name).collect());
        rendered.sort_unstable();
        named.sort_unstable();
        assert_eq!(rendered, named);
        for (name, labels) in NAMES {
            let prefix = format!("ralio_relay_{name}");
            let is_it = |line: &&str| line.starts_with(&prefix) && !line.contains("le=");
            let line = text.lines().find(is_it).unwrap_or_default();
            assert_eq!(line.matches("=\"").count(), labels.len(), "{line}");
            assert!(labels.iter().all(|label| line.contains(&format!("{label}=\""))), "{name}: {line}");
        }
    }
}
