//! The consumer as it is, under a simulated clock, over an inbox and sinks that do what a seed says, in processes that
//! die where it says. One seed is one schedule, to the last step, so a failure is repeated by its number:
//!
//! ```text
//! RALIO_RELAY_SIMULATION_SEED=123 cargo test --lib consume::simulation -- --nocapture
//! ```
//!
//! `123@45` is the schedule of 123 with a single death, at step 45. A step is a call into the inbox or a sink, or its end.
//! A dead process leaves what the inbox holds; a record that was on its way may be there or not.
//!
//! `witness` checks as it goes: nothing is in the ledger that the far side does not confirm; the cursor goes forward, and
//! over nothing that is neither final nor parked; an entity's events go one at a time, each when those before it have
//! ended; a crash repeats no more than it may; an open breaker lets one probe of four through. `checks` looks at the end: every
//! event has come to one end at every sink, and the ledger holds every attempt that no crash took.

mod checks;
mod inbox;
mod plan;
mod sink;
mod stage;
mod witness;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use self::plan::Plan;
use self::world::World;

const SEED: &str = "RALIO_RELAY_SIMULATION_SEED";
/// Schedules of chance in every run.
const SCHEDULES: u64 = 3000;

/// What a schedule came to.
struct Played {
    steps: u64,
    trace: u64,
    tally: BTreeMap<&'static str, u64>,
}

/// With `crash`: a single one, at this step (0 for none); otherwise those of the plan.
fn play(seed: u64, crash: Option<u64>, in_words: bool) -> Result<Played, String> {
    let mut plan = Plan::new(seed);
    if let Some(step) = crash {
        plan.crashes = BTreeSet::from([step]);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime is made").block_on(async {
        let stage = world::stage(seed, plan, in_words);
        let world = World::new(stage.clone());
        let played = world.play().await;
        let mut state = stage.state();
        for line in state.trace.lines.take().unwrap_or_default() {
            eprintln!("{line}");
        }
        let Err(what) = played else {
            return Ok(Played { steps: state.steps, trace: state.trace.hash(), tally: state.tally.clone() });
        };
        Err(what)
    })
}

/// # Panics
/// When an invariant breaks; says how to see it again.
fn explore(seed: u64, crash: Option<u64>, in_words: bool) -> Played {
    let name = crash.map_or_else(|| seed.to_string(), |step| format!("{seed}@{step}"));
    let again = format!("again: {SEED}={name} cargo test --lib consume::simulation::schedules -- --nocapture");
    match catch_unwind(AssertUnwindSafe(|| play(seed, crash, in_words))) {
        Ok(Ok(played)) => played,
        Ok(Err(what)) => panic!("seed {name}: {what}\n{again}"),
        Err(_) => panic!("seed {name}: it panicked\n{again}"),
    }
}

/// The schedule that somebody wants to see again.
fn asked_for() -> Option<(u64, Option<u64>)> {
    let text = std::env::var(SEED).ok()?;
    let (seed, crash) = text.split_once('@').map_or((text.as_str(), None), |(seed, crash)| (seed, Some(crash)));
    let number = |text: &str| text.parse().unwrap_or_else(|_| panic!("{SEED} is a number, or two: 123 or 123@45"));
    Some((number(seed), crash.map(number)))
}

#[test]
fn schedules() {
    if let Some((seed, crash)) = asked_for() {
        explore(seed, crash, true);
        return;
    }
    let first = u64::from(fastrand::Rng::new().u32(..));
    eprintln!("seeds {first} to {}", first + SCHEDULES - 1);
    let mut tally: BTreeMap<&'static str, u64> = BTreeMap::new();
    for seed in first..first + SCHEDULES {
        explore(seed, None, false).tally.into_iter().for_each(|(what, count)| *tally.entry(what).or_default() += count);
    }
    eprintln!("{tally:?}");
    let wanted = ["crashes", "timeouts", "open breakers", "parked", "dead letters", "revivals", "replays"];
    for what in wanted.into_iter().chain(["failed records", "lost answers", "events of a class"]) {
        assert!(tally.get(what).is_some_and(|count| *count > SCHEDULES / 10), "too few {what}: {tally:?}");
    }
}

#[test]
fn a_crash_at_every_step() {
    for seed in 0..12 {
        let steps = explore(seed, Some(0), false).steps;
        for step in 1..=steps {
            explore(seed, Some(step), false);
        }
    }
}

#[test]
fn one_seed_is_one_schedule() {
    for seed in 0..300 {
        let [one, other] = [(); 2].map(|()| explore(seed, None, false).trace);
        assert_eq!(one, other, "seed {seed}");
    }
}
