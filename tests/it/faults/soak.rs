//! A steady load for as long as it takes to see what grows.

use std::time::Duration;

use crate::harness::load::Load;
use crate::harness::process::memory;
use crate::harness::{Campaign, TestRelay};

/// Connections of the sender.
const CONNECTIONS: usize = 64;

/// Rounds in which the process may still grow to its size.
const WARM_UP: usize = 5;
/// What the second half may have over the first, in MiB. The filter over the keys of all events grows by some 1.5 bytes
/// for each, in steps: 5 MiB in half an hour.
const FLAT: f64 = 16.0;

#[tokio::test]
async fn a_steady_load_is_acknowledged_whole() {
    soak(Campaign::brief("2,000 requests/s", 1), 200.0, Duration::from_secs(3)).await;
}

/// A round is a minute, and one process serves them all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a part of tests/campaign"]
async fn campaign_soak() {
    let Steady { resident, p99, rate } =
        soak(Campaign::whole("2,000 requests/s", 30), 2000.0, Duration::from_secs(60)).await;
    assert!(p99 <= 100.0, "p99 {p99} ms");
    assert!(rate >= 1990.0, "no more than {rate:.0} requests/s");
    assert!(resident.len() > 2 * WARM_UP, "interrupted too late to say anything about memory: tests/campaign --new");
    let (first, second) = resident[WARM_UP..].split_at((resident.len() - WARM_UP) / 2);
    let (first, second) = (median(first), median(second));
    eprintln!(
        "2,000 requests/s: {first:.0} MiB resident in the first half after {WARM_UP} minutes, {second:.0} in the second"
    );
    assert!(second <= first + FLAT, "memory grows: {resident:?}");
}

/// What a steady load has shown.
struct Steady {
    /// In MiB, at the end of each round.
    resident: Vec<f64>,
    /// Of the worst round, in milliseconds.
    p99: f64,
    /// Answered with 200 in a second of the worst round.
    rate: f64,
}

async fn soak(mut campaign: Campaign, rate: f64, length: Duration) -> Steady {
    let mut relay = TestRelay::with_file_sink("out").start().await;
    let (mut steady, mut accepted) = (Steady { resident: Vec::new(), p99: 0.0, rate }, 0);
    while campaign.round().is_some() {
        let outcome = Load::on(&relay, CONNECTIONS, length, Some(rate)).run().await;
        assert!(outcome.refused.is_empty(), "{:?}", outcome.refused);
        accepted += outcome.accepted;
        let resident = memory(relay.process().pid(), "VmRSS").unwrap();
        steady.resident.push(resident);
        steady.p99 = steady.p99.max(outcome.latencies.at(0.99));
        steady.rate = steady.rate.min(outcome.rate());
        campaign.count("answered 200", outcome.accepted);
        campaign.highest("worst p99 of a minute, ms", steady.p99.ceil() as u64);
        campaign.highest("slowest, ms", outcome.latencies.at(1.0).ceil() as u64);
        campaign.highest("MiB resident", resident.ceil() as u64);
    }
    relay.settled().await;
    assert_eq!(relay.metric("events_total", &[]).await, accepted as i64);
    relay.shutdown().await;
    steady
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
