//! What the relay can do, as ratios taken in one run. `cargo bench` prints every table; see benches/README.md.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark that cannot go on says where, and prints")]

mod acks;
mod against;
mod daemon;
mod delivery;
mod fill;
mod full;
#[path = "../../tests/it/harness/mod.rs"]
#[expect(dead_code, unused_imports, reason = "the tests use all of it")]
mod harness;
mod reading;
mod resources;
mod servers;
mod stats;
mod summary;

use std::path::PathBuf;

/// What is measured, and how long.
#[derive(Clone, Debug)]
struct Plan {
    /// Runs of each row; medians are printed.
    runs: usize,
    /// Seconds of each run under load.
    seconds: u64,
    /// Events in the full inbox.
    events: u64,
    /// Another release's binary, to be measured beside this one.
    against: Option<String>,
    /// Names of the parts.
    parts: Vec<String>,
}

const USAGE: &str = "cargo bench [-- [PART...] [--runs N] [--seconds N] [--events N] [--against BINARY]]
parts: acks tail sinks amqp http file reading resources; all of them without any
--events is the size of the full inbox, 10000000 unless given: 17 GB of disk. It is kept for the next time.
--against measures acknowledgements beside those of another release's binary, in turn.";

fn main() {
    rustls::crypto::aws_lc_rs::default_provider().install_default().unwrap();
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let [command, role, directory] = arguments.as_slice()
        && command == "serve"
    {
        return servers::serve(role, directory.as_ref());
    }
    // A disk, not a RAM disk.
    tempfile::env::override_temp_dir(&PathBuf::from(env!("CARGO_TARGET_TMPDIR"))).unwrap();
    let Some(plan) = plan(&arguments) else {
        println!("{USAGE}");
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(measure(&plan));
}

fn plan(arguments: &[String]) -> Option<Plan> {
    let mut plan = Plan { runs: 5, seconds: 10, events: 10_000_000, against: None, parts: Vec::new() };
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--runs" => plan.runs = number(&mut arguments)? as usize,
            "--seconds" => plan.seconds = number(&mut arguments)?,
            "--events" => plan.events = number(&mut arguments)?,
            "--against" => plan.against = Some(arguments.next()?.clone()),
            part if PARTS.contains(&part) => plan.parts.push(part.to_owned()),
            _ => return None,
        }
    }
    Some(plan)
}

/// The number that an option has.
fn number<'a>(arguments: &mut impl Iterator<Item = &'a String>) -> Option<u64> {
    arguments.next().and_then(|value| value.parse().ok())
}

const PARTS: [&str; 8] = ["acks", "tail", "sinks", "amqp", "http", "file", "reading", "resources"];

async fn measure(plan: &Plan) {
    if let Some(other) = &plan.against {
        against::releases(plan, other).await;
        return;
    }
    let wanted = |part: &str| plan.parts.is_empty() || plan.parts.iter().any(|name| name == part);
    if wanted("acks") {
        acks::rates(plan).await;
    }
    if wanted("tail") {
        acks::tail(plan).await;
    }
    if wanted("sinks") {
        acks::beside_sinks(plan).await;
    }
    if wanted("amqp") {
        delivery::amqp(plan).await;
    }
    if wanted("http") {
        delivery::http(plan).await;
    }
    if wanted("file") {
        delivery::file(plan).await;
    }
    if wanted("reading") {
        reading::all(plan).await;
    }
    if wanted("resources") {
        resources::all(plan).await;
    }
    summary::print(plan);
}
