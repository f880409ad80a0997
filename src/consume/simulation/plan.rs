//! What a seed stands for: which events come in when, what each sink is like, what goes wrong, and what people do.

use std::collections::BTreeSet;
use std::time::Duration;

use fastrand::Rng;

use crate::consume::{Config, Ordering, Rate, Retry};
use crate::model::{SinkName, Start};
use crate::route::{Glob, Route};

/// A schedule.
pub(super) struct Plan {
    pub sinks: Vec<SinkPlan>,
    pub inbox: InboxPlan,
    /// What happens besides, in order of time.
    pub actions: Vec<(Duration, Action)>,
    /// The process dies at these steps.
    pub crashes: BTreeSet<u64>,
}

/// A sink and its consumer.
pub(super) struct SinkPlan {
    pub config: Config,
    /// In a hundred attempts.
    pub transient: u32,
    pub permanent: u32,
    pub hangs: u32,
    /// So many events in a hundred are refused whenever they come.
    pub poisoned: u32,
    /// Events of a type that begins so are never taken; for now or, where it says so, for good.
    pub class: Option<(&'static str, bool)>,
    /// The longest time until it answers, in milliseconds.
    pub latency: u64,
    /// When it is down altogether.
    pub outages: Vec<(Duration, Duration)>,
}

/// How the inbox misbehaves.
pub(super) struct InboxPlan {
    /// In a hundred calls.
    pub failing_reads: u32,
    pub failing_records: u32,
    /// Records that are written, and said not to be.
    pub lost_answers: u32,
    /// The longest time that a call takes, in milliseconds.
    pub latency: u64,
    /// When it can write nothing, and says so.
    pub outages: Vec<(Duration, Duration)>,
}

/// Something that happens.
#[derive(Clone, Debug)]
pub(super) enum Action {
    /// An event comes in, named by what is in its body: its id, its entity, and what it says.
    Append {
        id: u32,
        key: u32,
        kind: &'static str,
    },
    Pause(usize),
    Resume(usize),
    /// Its dead letters are tried again.
    Retry(usize),
    /// Its dead letters are given up.
    Discard(usize),
    /// A part of the log, in hundredths, goes there again; so many events a second.
    Replay {
        sink: usize,
        first: u32,
        last: u32,
        rate: Option<f64>,
    },
    /// The replay that was asked for last ends.
    Cancel,
    /// Bodies that nobody needs are dropped.
    Prune,
    /// The clock is set, by so many seconds.
    Clock(i64),
    /// The process ends in good order, and starts again.
    Restart,
}

/// From `least` to `most`, both of them included.
fn millis(rng: &mut Rng, least: u64, most: u64) -> Duration {
    Duration::from_millis(rng.u64(least..=most))
}

/// Often nothing, sometimes up to `most`.
fn sometimes(rng: &mut Rng, most: u32) -> u32 {
    if rng.bool() { 0 } else { rng.u32(0..=most) }
}

impl Plan {
    pub(super) fn new(seed: u64) -> Self {
        let rng = &mut Rng::with_seed(seed);
        let length = millis(rng, 1000, 15_000);
        let sinks: Vec<SinkPlan> = (0..rng.usize(1..=2)).map(|n| SinkPlan::new(rng, n, length)).collect();
        let mut actions = Vec::new();
        let (events, keys) = (rng.u32(0..=24), rng.u32(1..=6));
        let early = rng.u32(0..4) == 0;
        for n in 0..events {
            let at = if early { Duration::ZERO } else { millis(rng, 0, length.as_millis() as u64) };
            // Now and then an id that was there before: a duplicate, or a conflict.
            let id = if rng.u32(0..8) == 0 { rng.u32(0..=n) } else { n };
            let kind = ["payin_processing", "payin_completed", "payin_completed", "payout_completed"];
            actions.push((at, Action::Append { id, key: rng.u32(0..keys), kind: kind[rng.usize(0..kind.len())] }));
        }
        for _ in 0..sometimes(rng, 10) {
            let at = millis(rng, 0, length.as_millis() as u64);
            actions.push((at, Action::random(rng, sinks.len())));
        }
        actions.sort_by_key(|(at, _)| *at);
        let inbox = InboxPlan {
            failing_reads: sometimes(rng, 20),
            failing_records: sometimes(rng, 30),
            lost_answers: sometimes(rng, 30),
            latency: u64::from(sometimes(rng, 400)),
            outages: outages(rng, length),
        };
        let crashes = (0..sometimes(rng, 8)).map(|_| rng.u64(1..300)).collect();
        Self { sinks, inbox, actions, crashes }
    }
}

impl SinkPlan {
    fn new(rng: &mut Rng, n: usize, length: Duration) -> Self {
        let globs: &[&str] = if rng.u32(0..3) == 0 { &["payin.*"] } else { &[] };
        let initial = millis(rng, 10, 1000);
        let config = Config {
            name: SinkName::new(&format!("sink-{n}")).unwrap(),
            route: Route::new(globs.iter().map(|glob| Glob::new(glob).unwrap()).collect()),
            ordering: if rng.u32(0..4) == 0 { Ordering::None } else { Ordering::Key },
            start: if rng.u32(0..6) == 0 { Start::Now } else { Start::Earliest },
            concurrency: rng.usize(1..=6),
            timeout: millis(rng, 100, 3000),
            rate: if rng.u32(0..4) == 0 { Some(Rate::new(rng.f64() * 20.0 + 1.0)) } else { None },
            retry: Retry {
                initial,
                max: initial + millis(rng, 0, 8000),
                jitter: rng.bool(),
                give_up_after: if rng.bool() { Duration::MAX } else { millis(rng, 100, 20_000) },
                breaker_after: if rng.bool() { 1 } else { rng.usize(2..=6) },
                probe_max: millis(rng, 100, 4000),
                max_parked: if rng.bool() { 1000 } else { rng.usize(2..=20) },
            },
        };
        Self {
            config,
            transient: sometimes(rng, 60),
            permanent: sometimes(rng, 20),
            hangs: sometimes(rng, 20),
            poisoned: sometimes(rng, 30),
            class: (rng.u32(0..3) == 0).then(|| (["payin.processing", "payout."][rng.usize(0..2)], rng.bool())),
            latency: u64::from(sometimes(rng, 1500)),
            outages: outages(rng, length),
        }
    }
}

fn outages(rng: &mut Rng, length: Duration) -> Vec<(Duration, Duration)> {
    let outage = |rng: &mut Rng| {
        let from = millis(rng, 0, length.as_millis() as u64);
        (from, from + millis(rng, 1, 10_000))
    };
    (0..sometimes(rng, 3)).map(|_| outage(rng)).collect()
}

impl Action {
    fn random(rng: &mut Rng, sinks: usize) -> Self {
        let sink = rng.usize(0..sinks);
        match rng.u32(0..12) {
            0 => Self::Pause(sink),
            1 => Self::Resume(sink),
            2..=4 => Self::Retry(sink),
            5 => Self::Discard(sink),
            6 | 7 => {
                let rate = (rng.u32(0..3) == 0).then(|| 0.5 + rng.f64() * 20.0);
                Self::Replay { sink, first: rng.u32(0..=100), last: rng.u32(0..=110), rate }
            }
            8 => Self::Cancel,
            9 => Self::Prune,
            10 => Self::Clock(rng.i64(-7200..=7200)),
            _ => Self::Restart,
        }
    }
}
