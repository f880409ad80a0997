//! Memory, disk, and the time from a crash to the first durable acknowledgement.

use std::time::{Duration, Instant};

use crate::full::{count, full};
use crate::harness::signed::payin_completed;
use crate::harness::{Builder, TestRelay};
use crate::stats::{Table, median};
use crate::{Plan, daemon};

/// How long a load lasts before the daemon is killed.
const BEFORE_KILL: u64 = 2;

pub async fn all(plan: &Plan) {
    let mut table = Table::new("Memory, disk, restart", &["what", "figure"]);
    let mut row = |what: &str, figure: String| table.row(vec![what.to_owned(), figure]);
    let whole = |values: Vec<f64>| format!("{:.0}", median(values));

    let mut idle = Vec::new();
    for _ in 0..plan.runs {
        let mut relay = TestRelay::builder().start().await;
        idle.push(daemon::idle_memory(relay.process().pid()).await);
        relay.shutdown().await;
    }
    row("memory, idle, empty, MiB", whole(idle));
    let mut relay = TestRelay::builder().start().await;
    daemon::load(&relay, 64, plan.seconds, None).run().await;
    row("memory, peak at full load, empty, MiB", whole(vec![daemon::memory(relay.process().pid(), "VmHWM")]));
    let settings = relay.shutdown().await;
    let (bodies, files) = disk(&settings).await;
    row("disk bytes per body byte", format!("{:.2}", files / bodies));

    let mut settings = full(plan).await;
    let events = count(&settings);
    let (mut idle, mut peak, mut after, mut restarts) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for run in 0..plan.runs {
        let mut relay = settings.start().await;
        let pid = relay.process().pid();
        idle.push(daemon::idle_memory(pid).await);
        let seconds = if run == 0 { plan.seconds } else { BEFORE_KILL };
        daemon::load(&relay, 64, seconds, None).run().await;
        peak.push(daemon::memory(pid, "VmHWM"));
        after.push(daemon::memory(pid, "VmRSS"));
        settings = relay.kill9();
        restarts.push(first_acknowledgement(&settings).await);
    }
    row("memory, idle, full, MiB", whole(idle));
    row("memory, peak at full load, full, MiB", format!("{:.0}", peak.into_iter().fold(0.0, f64::max)));
    row("memory, after a load, full, MiB", whole(after));
    row("kill -9 to the first durable acknowledgement, full, s", format!("{:.2}", median(restarts)));
    row("events in the full inbox, before", events.to_string());
    table.print();
}

/// Bytes of the bodies, bytes of the files.
async fn disk(settings: &Builder) -> (f64, f64) {
    let relay = settings.clone().start().await;
    let newest = relay.cli(&["events", "list", "--format", "json", "--limit", "1000"]).await.success().json();
    let mean = newest.iter().map(|event| event["size"].as_f64().unwrap()).sum::<f64>() / newest.len() as f64;
    let count = newest[0]["seq"].as_f64().unwrap();
    let bytes = relay.metric("inbox_bytes", &[]).await as f64;
    relay.shutdown().await;
    (mean * count, bytes)
}

/// Seconds from the start of the process to the first 200.
async fn first_acknowledgement(settings: &Builder) -> f64 {
    let began = Instant::now();
    let process = settings.spawn();
    let client = reqwest::Client::builder().tls_danger_accept_invalid_certs(true).no_proxy().build().unwrap();
    let address = loop {
        let line = process.stderr.all().into_iter().find(|line| line.contains("\"public\""));
        if let Some(line) = line {
            let line: serde_json::Value = serde_json::from_str(&line).unwrap();
            let fields = line.get("fields").unwrap_or(&line);
            break fields["addr"].as_str().unwrap().to_owned();
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    };
    let delivery = payin_completed(&fastrand::u64(..).to_string());
    loop {
        let mut request = client.post(format!("https://{address}{}", delivery.path)).body(delivery.body.clone());
        for (name, value) in &delivery.headers {
            request = request.header(name, value);
        }
        if request.send().await.is_ok_and(|answer| answer.status() == 200) {
            return began.elapsed().as_secs_f64();
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
