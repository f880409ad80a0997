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

/// What a process holds once it has nothing more to do after its start, in MiB.
pub async fn idle_memory(pid: u32) -> f64 {
    let mut used = cpu_ticks(pid);
    loop {
        tokio::time::sleep(QUIET).await;
        let now = cpu_ticks(pid);
        // A poll now and then is nothing to do.
        if now - used <= 2 {
            return memory(pid, "VmRSS");
        }
        used = now;
    }
}

const QUIET: Duration = Duration::from_secs(1);

/// User and system time of a process so far, in hundredths of a second.
fn cpu_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The name, which may hold spaces, ends at the last bracket; utime and stime are the 12th and 13th after it.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum()
}
