//! Durable acknowledgements over HTTPS, against the same listener over an inbox that keeps nothing.

use crate::Plan;
use crate::daemon;
use crate::fill::fill;
use crate::full::{count, full};
use crate::harness::TestRelay;
use crate::harness::fake_http::{Answer, FakeHttp};
use crate::harness::load::{Load, Outcome};
use crate::servers::Server;
use crate::stats::{Table, median, median_of, ratio, thousands};

/// Events that a sink catches up with.
const BACKLOG: u64 = 1_000_000;

/// Runs that tell what half load is: one alone may have met a slow moment.
const PROBES: usize = 3;

const CONNECTIONS: [usize; 3] = [64, 16, 256];

/// Requests per second: bare server, ceiling, empty inbox, full inbox, in turn; and how long the slowest waited.
pub async fn rates(plan: &Plan) {
    let full = full(plan).await;
    let before = count(&full);
    let full = full.start().await;
    let directory = full.settings().directory().to_owned();
    let (bare, null) = (Server::start("bare", &directory), Server::start("null", &directory));
    let columns = [
        "connections",
        "bare /s",
        "ceiling /s",
        "empty /s",
        "full /s",
        "ceiling / bare",
        "empty / ceiling",
        "full / ceiling",
        "full / empty",
    ];
    let mut table = Table::new(&format!("Durable acknowledgements; full = {before} events"), &columns);
    let mut tails = Vec::new();
    for connections in CONNECTIONS {
        let ours = daemon::load(&full, connections, plan.seconds, None);
        let (bare, ceiling) = (at(&ours, &bare.address), at(&ours, &null.address));
        let mut outcomes = [const { Vec::new() }; 4];
        for _ in 0..plan.runs {
            // A load is an inbox with a past: each run has an empty one of its own.
            let empty = TestRelay::builder().start().await;
            let targets = [&bare, &ceiling, &daemon::load(&empty, connections, plan.seconds, None), &ours];
            for (target, outcomes) in targets.into_iter().zip(&mut outcomes) {
                outcomes.push(taken(target).await);
            }
            empty.shutdown().await;
        }
        table.row(rate_cells(connections, &outcomes));
        let [_, _, empty, full] = outcomes;
        tails.push(percentiles(&format!("{connections}, empty"), &empty));
        tails.push(percentiles(&format!("{connections}, full"), &full));
    }
    table.print();
    let columns = ["connections, inbox", "p50", "p99", "p99.9"];
    let mut table = Table::new("Acknowledgement at full load, by connections and inbox, ms", &columns);
    tails.into_iter().for_each(|tail| table.row(tail));
    table.print();
    full.shutdown().await;
}

fn rate_cells(connections: usize, outcomes: &[Vec<Outcome>; 4]) -> Vec<String> {
    let [bare, ceiling, empty, full] = outcomes;
    let rate = |runs: &[Outcome]| thousands(median_of(runs, Outcome::rate));
    let share = |ours: &[Outcome], theirs: &[Outcome]| format!("{:.2}", ratio(ours, theirs, Outcome::rate));
    vec![
        connections.to_string(),
        rate(bare),
        rate(ceiling),
        rate(empty),
        rate(full),
        share(ceiling, bare),
        share(empty, ceiling),
        share(full, ceiling),
        share(full, empty),
    ]
}

async fn taken(target: &Load) -> Outcome {
    let outcome = target.run().await;
    assert!(outcome.refused.is_empty(), "every delivery is taken: {:?}", outcome.refused);
    outcome
}

fn at(load: &Load, address: &str) -> Load {
    Load { address: address.to_owned(), ..load.clone() }
}

async fn interleaved<const N: usize>(targets: &[Load; N], runs: usize) -> [Vec<Outcome>; N] {
    let mut outcomes: [Vec<Outcome>; N] = std::array::from_fn(|_| Vec::new());
    for _ in 0..runs {
        for (target, outcomes) in targets.iter().zip(&mut outcomes) {
            outcomes.push(taken(target).await);
        }
    }
    outcomes
}

/// How long the slowest wait at full load.
pub async fn tail(plan: &Plan) {
    let relay = TestRelay::builder().start().await;
    let null = Server::start("null", relay.settings().directory());
    let ours = daemon::load(&relay, 64, plan.seconds, None);
    let [ceiling, runs] = interleaved(&[at(&ours, &null.address), ours], plan.runs).await;
    let mut table = Table::new("Acknowledgement at full load, 64 connections, ms", &["", "p50", "p99", "p99.9"]);
    for (name, runs) in [("ceiling", ceiling), ("durable", runs)] {
        table.row(percentiles(name, &runs));
    }
    table.print();
    relay.shutdown().await;
}

fn percentiles(name: &str, runs: &[Outcome]) -> Vec<String> {
    let at = |share| format!("{:.1}", median_of(runs, |run| run.latencies.at(share)));
    vec![name.to_owned(), at(0.5), at(0.99), at(0.999)]
}

/// Half load while sinks are idle, dead, hanging, or busy with a backlog; and the backlog with and without the load.
pub async fn beside_sinks(plan: &Plan) {
    let probe = TestRelay::builder().start().await;
    let mut full = Vec::new();
    for _ in 0..plan.runs.min(PROBES) {
        full.push(daemon::load(&probe, 64, plan.seconds, None).run().await);
    }
    let half = median_of(&full, Outcome::rate) / 2.0;
    probe.shutdown().await;

    let app = FakeHttp::answering([Answer::Hang]).await;
    let nowhere = "http = { url = \"http://127.0.0.1:1\" }";
    let cases = [
        ("idle", TestRelay::builder().sink("app", "http", &format!("events = [\"malformed\"]\n{nowhere}"))),
        ("dead", TestRelay::builder().sink("app", "http", nowhere)),
        ("hanging", TestRelay::builder().http_sink("app", &app, "timeout = \"1s\"")),
    ];
    let columns = ["sink", "p50", "p99", "p99.9", "p99 / idle"];
    let mut table = Table::new(&format!("Half load ({} /s), ms", thousands(half)), &columns);
    let mut healthy = f64::NAN;
    let mut cells = |name: &str, runs: &[Outcome]| {
        let p99 = median_of(runs, |run| run.latencies.at(0.99));
        healthy = if name == "idle" { p99 } else { healthy };
        let mut cells = percentiles(name, runs);
        cells.push(format!("{:.2}", p99 / healthy));
        cells
    };
    for (name, settings) in cases {
        let relay = settings.expect_parked().expect_errors().start().await;
        let load = daemon::load(&relay, 64, plan.seconds, Some(half));
        let mut runs = Vec::new();
        for _ in 0..plan.runs {
            runs.push(load.run().await);
        }
        table.row(cells(name, &runs));
        relay.shutdown().await;
    }
    let events = plan.events.min(BACKLOG);
    let (idle, busy, runs) = catch_up(plan, events, half).await;
    table.row(cells("catching up", &runs));
    table.print();
    let mut table = Table::new(&format!("Catching up with {events} events, /s"), &["idle", "at half load", "ratio"]);
    table.row(vec![thousands(idle), thousands(busy), format!("{:.2}", busy / idle)]);
    table.print();
}

/// Events per second of a file sink with a backlog, without load and with half; and the load's outcomes.
async fn catch_up(plan: &Plan, events: u64, half: f64) -> (f64, f64, Vec<Outcome>) {
    let settings = TestRelay::builder();
    fill(&settings, events).await;
    let mut outcomes = Vec::new();
    let idle = settings.clone().file_sink("idle", "start = \"earliest\"").start().await;
    let idle_rate = events as f64 / daemon::caught_up(&idle, "idle").await;
    idle.shutdown().await;
    let busy = settings.file_sink("busy", "start = \"earliest\"").start().await;
    let load = daemon::load(&busy, 64, plan.seconds, Some(half));
    let mut rates = Vec::new();
    loop {
        let before = delivered(&busy).await;
        let outcome = load.run().await;
        let (after, lag) = (delivered(&busy).await, busy.metric("sink_lag_events", &[("sink", "busy")]).await);
        // A run in which the backlog came to its end tells nothing, unless there is no other.
        if lag > 1000 || outcomes.is_empty() {
            rates.push((after - before) as f64 / outcome.seconds);
            outcomes.push(outcome);
        }
        if lag <= 1000 || outcomes.len() == plan.runs {
            break;
        }
    }
    let busy_rate = median(rates);
    daemon::caught_up(&busy, "busy").await;
    busy.shutdown().await;
    (idle_rate, busy_rate, outcomes)
}

async fn delivered(relay: &TestRelay) -> i64 {
    relay.metric("sink_attempts_total", &[("outcome", "delivered")]).await
}
