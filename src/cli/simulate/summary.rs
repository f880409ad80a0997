//! How it went.

use std::time::{Duration, Instant};

use comfy_table::Table;
use serde::Serialize;

use super::super::Format;
use super::super::output::{Output, keep_whole, print_table};
use super::super::view::ViewArgs;
use super::send::{Report, Verdict};

/// Answers and latencies of a run.
pub(super) struct Summary {
    start: Instant,
    sent: u64,
    accepted: u64,
    duplicates: u64,
    rejected: u64,
    retried: u64,
    failed: u64,
    latencies: Latencies,
    well: bool,
}

impl Summary {
    pub(super) fn begin() -> Self {
        Self {
            start: Instant::now(),
            sent: 0,
            accepted: 0,
            duplicates: 0,
            rejected: 0,
            retried: 0,
            failed: 0,
            latencies: Latencies::new(),
            well: true,
        }
    }

    pub(super) fn add(&mut self, report: &Report) {
        self.sent += 1;
        self.retried += u64::from(report.retries);
        let accepted = match report.verdict {
            Verdict::Accepted { duplicate } => {
                self.accepted += 1;
                self.duplicates += u64::from(duplicate);
                true
            }
            Verdict::Rejected => {
                self.rejected += 1;
                false
            }
            Verdict::Failed => {
                self.failed += 1;
                false
            }
        };
        self.well &= accepted == report.genuine;
        if let Some(latency) = report.latency {
            self.latencies.add(latency);
        }
    }

    /// The rest of the plan was not sent.
    pub(super) fn interrupted(&mut self) {
        self.well = false;
    }

    /// Whether everything was sent, every genuine delivery accepted, and no forged one.
    pub(super) fn all_is_well(&self) -> bool {
        self.well
    }

    /// Prints it to standard output.
    pub(super) fn print(&self, format: Format) -> anyhow::Result<()> {
        let mut out = Output::stdout();
        let _ = match format {
            Format::Json => out.json(&self.json()),
            Format::Table => print_table(&mut out, &self.table()),
        };
        out.finish()
    }

    fn json(&self) -> Json {
        let ms = |share| self.latencies.quantile(share).map(|latency| (latency.as_secs_f64() * 1e6).round() / 1e3);
        Json {
            sent: self.sent,
            accepted: self.accepted,
            duplicates: self.duplicates,
            rejected: self.rejected,
            retried: self.retried,
            failed: self.failed,
            p50_ms: ms(0.5),
            p99_ms: ms(0.99),
        }
    }

    fn table(&self) -> Table {
        let Json { sent, accepted, duplicates, rejected, retried, failed, p50_ms, p99_ms } = self.json();
        let ms = |ms: Option<f64>| ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.2} ms"));
        let seconds = self.start.elapsed().as_secs_f64();
        let header = ["SENT", "ACCEPTED", "DUPLICATES", "REJECTED", "RETRIED", "FAILED", "P50", "P99", "TIME"];
        let mut table = ViewArgs::without_times().table(&header);
        keep_whole(&mut table, header.len());
        let mut row = [sent, accepted, duplicates, rejected, retried, failed].map(|n| n.to_string()).to_vec();
        row.extend([ms(p50_ms), ms(p99_ms), format!("{seconds:.1} s")]);
        table.add_row(row);
        table
    }
}

/// `--format json`.
#[derive(Serialize)]
struct Json {
    sent: u64,
    accepted: u64,
    duplicates: u64,
    rejected: u64,
    retried: u64,
    failed: u64,
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
}

/// Latencies by their logarithm: about 1 % of resolution, and the same memory for ten as for ten million.
struct Latencies {
    counts: Vec<u64>,
}

/// Buckets for each factor of e.
const RESOLUTION: f64 = 100.0;

impl Latencies {
    fn new() -> Self {
        // An hour is e^22 microseconds.
        Self { counts: vec![0; 2_300] }
    }

    fn add(&mut self, latency: Duration) {
        let micros = latency.as_secs_f64().max(1e-6) * 1e6;
        let bucket = (micros.ln() * RESOLUTION).round() as usize;
        let last = self.counts.len() - 1;
        self.counts[bucket.min(last)] += 1;
    }

    /// The latency that this share of all did not exceed; `None` when there are none.
    fn quantile(&self, share: f64) -> Option<Duration> {
        let total: u64 = self.counts.iter().sum();
        let rank = ((total as f64 * share).ceil() as u64).max(1);
        let mut below = 0;
        let bucket = self.counts.iter().position(|count| {
            below += count;
            below >= rank
        })?;
        Some(Duration::from_secs_f64((bucket as f64 / RESOLUTION).exp() / 1e6))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(genuine: bool, verdict: Verdict) -> Report {
        Report { genuine, verdict, retries: 1, latency: Some(Duration::from_millis(10)) }
    }

    #[test]
    fn quantiles_are_right_to_a_percent() {
        let mut latencies = Latencies::new();
        assert_eq!(latencies.quantile(0.5), None);
        (1..=1_000).for_each(|ms| latencies.add(Duration::from_millis(ms)));
        for (share, expected) in [(0.5, 0.5), (0.99, 0.99), (0.0, 0.001), (1.0, 1.0)] {
            let found = latencies.quantile(share).unwrap().as_secs_f64();
            assert!((found / expected - 1.0).abs() < 0.01, "{share}: {found}");
        }
        latencies.add(Duration::ZERO);
        latencies.add(Duration::MAX);
    }

    #[test]
    fn forged_deliveries_are_expected_to_be_rejected() {
        let mut summary = Summary::begin();
        summary.add(&report(true, Verdict::Accepted { duplicate: false }));
        summary.add(&report(true, Verdict::Accepted { duplicate: true }));
        summary.add(&report(false, Verdict::Rejected));
        assert!(summary.all_is_well());
        let json = serde_json::to_value(summary.json()).unwrap();
        assert_eq!(json["sent"], 3);
        assert_eq!(json["accepted"], 2);
        assert_eq!(json["duplicates"], 1);
        assert_eq!(json["rejected"], 1);
        assert_eq!(json["retried"], 3);
    }

    #[test]
    fn anything_else_is_a_finding() {
        for (genuine, verdict) in
            [(true, Verdict::Rejected), (true, Verdict::Failed), (false, Verdict::Accepted { duplicate: false })]
        {
            let mut summary = Summary::begin();
            summary.add(&report(genuine, verdict));
            assert!(!summary.all_is_well(), "{genuine} {verdict:?}");
        }
    }
}
