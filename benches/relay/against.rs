//! Acknowledgements of this binary beside those of another release, in turn: what a change costs.

use crate::Plan;
use crate::daemon;
use crate::harness::TestRelay;
use crate::stats::{Table, median_of, ratio, thousands};

const CONNECTIONS: [usize; 2] = [64, 16];

/// One run of one binary, over an empty inbox of its own.
struct Run {
    rate: f64,
    /// Microseconds of CPU time for each event.
    cpu: f64,
    p99: f64,
}

async fn run(plan: &Plan, connections: usize, binary: Option<&str>) -> Run {
    let builder = TestRelay::builder();
    let mut relay = match binary {
        // The first word is this binary: the other takes its place.
        Some(binary) => builder.wrapped(&["sh", "-c", &format!("shift; exec {binary} \"$@\""), "sh"]).start().await,
        None => builder.start().await,
    };
    let pid = relay.process().pid();
    let before = daemon::cpu_ticks(pid);
    let outcome = daemon::load(&relay, connections, plan.seconds, None).run().await;
    let ticks = daemon::cpu_ticks(pid) - before;
    assert!(outcome.refused.is_empty(), "every delivery is taken: {:?}", outcome.refused);
    relay.shutdown().await;
    let cpu = ticks as f64 * 10_000.0 / outcome.accepted as f64;
    Run { rate: outcome.rate(), cpu, p99: outcome.latencies.at(0.99) }
}

/// Requests per second and CPU time per event of both, and the ratio of the runs that followed each other.
pub async fn releases(plan: &Plan, other: &str) {
    let columns = [
        "connections",
        "this /s",
        "other /s",
        "this / other",
        "this us/event",
        "other us/event",
        "p99 ms, this",
        "other",
    ];
    let mut table = Table::new(&format!("Acknowledgements beside {other}"), &columns);
    for connections in CONNECTIONS {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..plan.runs {
            ours.push(run(plan, connections, None).await);
            theirs.push(run(plan, connections, Some(other)).await);
        }
        let cell = |runs: &[Run], of: fn(&Run) -> f64| format!("{:.1}", median_of(runs, of));
        table.row(vec![
            connections.to_string(),
            thousands(median_of(&ours, |run| run.rate)),
            thousands(median_of(&theirs, |run| run.rate)),
            format!("{:.2}", ratio(&ours, &theirs, |run| run.rate)),
            cell(&ours, |run| run.cpu),
            cell(&theirs, |run| run.cpu),
            cell(&ours, |run| run.p99),
            cell(&theirs, |run| run.p99),
        ]);
    }
    table.print();
}
