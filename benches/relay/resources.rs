//! Memory, disk, and the time from a crash to the first durable acknowledgement.

use std::time::{Duration, Instant};

use crate::fill::fill;
use crate::harness::signed::payin_completed;
use crate::harness::{Builder, TestRelay};
use crate::stats::{Table, median};
use crate::{Plan, daemon, load};

pub async fn all(plan: &Plan) {
    let mut table = Table::new("Memory, disk, restart", &["what", "figure"]);
    let mut row = |what: String, figure: String| table.row(vec![what, figure]);

    let mut empty = TestRelay::builder().start().await;
    let pid = empty.process().pid();
    row("memory, idle, empty, MiB".to_owned(), format!("{:.0}", daemon::memory(pid, "VmRSS")));
    load::run(&daemon::load(&empty, 64, plan.seconds, None)).await;
    row("memory, peak at full load, MiB".to_owned(), format!("{:.0}", daemon::memory(pid, "VmHWM")));
    let mut settings = empty.shutdown().await;
    let (events, bodies, files) = disk(&settings).await;
    row(format!("disk bytes per body byte, {events} events"), format!("{:.2}", files / bodies));

    settings = TestRelay::builder();
    fill(&settings, plan.events).await;
    let mut restarts = Vec::new();
    let mut idle = f64::NAN;
    for _ in 0..plan.runs {
        let mut relay = settings.start().await;
        load::run(&daemon::load(&relay, 64, 2, None)).await;
        idle = daemon::memory(relay.process().pid(), "VmRSS");
        settings = relay.kill9();
        restarts.push(first_acknowledgement(&settings).await);
    }
    row(format!("memory, after a load of 2 s, {} events, MiB", plan.events), format!("{idle:.0}"));
    row(
        format!("kill -9 to the first durable acknowledgement, {} events, s", plan.events),
        format!("{:.2}", median(restarts)),
    );
    table.print();
}

/// Events, bytes of their bodies, bytes of the files.
async fn disk(settings: &Builder) -> (u64, f64, f64) {
    let relay = settings.clone().start().await;
    let newest = relay.cli(&["events", "list", "--format", "json", "--limit", "1000"]).await.found();
    let mean = newest.iter().map(|event| event["size"].as_f64().unwrap()).sum::<f64>() / newest.len() as f64;
    let count = newest[0]["seq"].as_u64().unwrap();
    let bytes = relay.metric("inbox_bytes", &[]).await as f64;
    relay.shutdown().await;
    (count, mean * count as f64, bytes)
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
