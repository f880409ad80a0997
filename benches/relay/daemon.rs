//! The built daemon, as a load meets it.

use std::time::{Duration, Instant};

use crate::harness::load::Load;
use crate::harness::{TestRelay, metrics, process};

/// A load on a running relay.
pub fn load(relay: &TestRelay, connections: usize, seconds: u64, rate: Option<f64>) -> Load {
    Load::on(relay, connections, Duration::from_secs(seconds), rate)
}

/// A line of `/proc/PID/status`, in MiB.
pub fn memory(pid: u32, field: &str) -> f64 {
    process::memory(pid, field).unwrap_or(f64::NAN)
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
pub fn cpu_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The name, which may hold spaces, ends at the last bracket; utime and stime are the 12th and 13th after it.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum()
}
