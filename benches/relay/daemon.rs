//! The built daemon, as a load meets it.

use std::time::{Duration, Instant};

use crate::harness::{TestRelay, metrics};
use crate::load::{self, Load};

/// A load on a running relay.
pub fn load(relay: &TestRelay, connections: usize, seconds: u64, rate: Option<f64>) -> Load {
    let certificate = std::fs::read(relay.settings().directory().join("tls.crt")).unwrap();
    Load {
        address: relay.url("").trim_start_matches("https://").to_owned(),
        connector: load::connector(&certificate),
        connections,
        duration: Duration::from_secs(seconds),
        rate,
    }
}

/// A line of `/proc/PID/status`, in MiB.
pub fn memory(pid: u32, field: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).unwrap_or(f64::NAN) / 1024.0
}

/// Waits, without the tests' deadline, until a sink has nothing before it; the seconds that it took.
pub async fn caught_up(relay: &TestRelay, sink: &str) -> f64 {
    let began = Instant::now();
    loop {
        let text = relay.metrics().await;
        if metrics::values(&text, "sink_lag_events", &[("sink", sink)]).first() == Some(&0) {
            return began.elapsed().as_secs_f64();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
