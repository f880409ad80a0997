//! Random schedules of outcomes, outages, pauses, revivals, restarts, failed records and clock jumps.

use proptest::prelude::*;

use super::*;
use crate::model::Reason;

fn log(keys: &[u8]) -> Vec<StoredEvent> {
    let events = keys.iter().zip(1..).map(|(&key, at)| {
        let event_type = if key % 7 == 6 { "payout.completed" } else { "payin.completed" };
        let mut event = event(at, &format!("key-{}", key % 5), event_type, key % 11 == 10);
        if key % 13 == 12 {
            event.body = None;
        }
        event
    });
    events.collect()
}

#[derive(Clone, Debug)]
enum Step {
    Deliver(usize),
    Fail(usize, Option<u64>),
    Reject(usize),
    /// A parked event cannot be read.
    Unreadable(usize),
    /// From now on everything fails, or works again.
    Outage(bool),
    Turn,
    Read,
    Commit,
    /// Restarts before the record that is being written is on disk.
    Crash,
    /// Restarts after it is, and before anybody knows.
    CrashAfter,
    Clock(i64),
    /// Until something is due.
    Wait,
    Pause(bool),
    Revive(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => any::<usize>().prop_map(Step::Deliver),
        4 => (any::<usize>(), proptest::option::of(0..100_u64)).prop_map(|(n, asked)| Step::Fail(n, asked)),
        3 => any::<usize>().prop_map(Step::Reject),
        1 => any::<usize>().prop_map(Step::Unreadable),
        1 => any::<bool>().prop_map(Step::Outage),
        6 => Just(Step::Turn),
        1 => Just(Step::Read),
        6 => Just(Step::Commit),
        1 => Just(Step::Crash),
        1 => Just(Step::CrashAfter),
        2 => (-5000..5000_i64).prop_map(Step::Clock),
        4 => Just(Step::Wait),
        1 => any::<bool>().prop_map(Step::Pause),
        1 => any::<usize>().prop_map(Step::Revive),
    ]
}

fn failure(asked: Option<u64>) -> Outcome {
    Outcome::Transient { reason: Reason::new("down"), retry_after: asked.map(Duration::from_secs) }
}

impl World {
    fn step(&mut self, step: &Step, outage: &mut bool) {
        let chance = |n: usize| (n % 100) as f64 / 100.0;
        match *step {
            Step::Deliver(n) if *outage => _ = self.finish(n, down(), chance(n)),
            Step::Deliver(n) => _ = self.finish(n, delivered(), 0.5),
            Step::Fail(n, asked) => _ = self.finish(n, failure(asked), chance(n)),
            Step::Reject(n) => _ = self.finish(n, refused(), chance(n)),
            Step::Unreadable(n) => self.fail_to_read(n),
            Step::Outage(on) => *outage = on,
            Step::Turn => self.turn(),
            Step::Read => self.read(),
            Step::Commit => self.commit(),
            Step::Crash => self.crash(),
            Step::CrashAfter => {
                self.commit();
                self.crash();
            }
            Step::Clock(seconds) => self.wait(seconds),
            Step::Wait => self.now = self.core.next_due().map_or(self.now, |due| due.max(self.now)),
            Step::Pause(paused) => self.pause(paused),
            Step::Revive(n) => self.revive(n),
        }
    }

    fn fail_to_read(&mut self, choice: usize) {
        let parked: Vec<Seq> = self.in_flight.iter().copied().filter(|at| self.reread.contains(at)).collect();
        let Some(&at) = parked.get(choice % parked.len().max(1)) else { return };
        self.in_flight.retain(|other| *other != at);
        self.reread.remove(&at);
        self.core.not_started(at, self.now);
        self.probe.remove(&at);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_event_ends_once_and_in_order(
        keys in prop::collection::vec(any::<u8>(), 0..80),
        steps in prop::collection::vec(step(), 0..400),
        by_key in any::<bool>(),
        concurrency in 1..8_usize,
        breaker_after in 1..8_usize,
        rate in proptest::option::of(0.1..50.0_f64),
    ) {
        let mut config = config_with(concurrency, breaker_after);
        config.ordering = if by_key { Ordering::Key } else { Ordering::None };
        let mut world = World::paced(log(&keys), config, rate);
        let mut outage = false;
        for step in steps {
            world.step(&step, &mut outage);
        }
        world.pause(false);
        world.run_to_the_end();
        world.assert_settled();
        prop_assert!(!world.core.is_open() || world.in_flight.is_empty());
    }

    /// The breaker is on disk before a restart here: without it, what failed before counts for nothing.
    #[test]
    fn a_sink_that_refuses_everything_buries_nothing(
        by_key in any::<bool>(),
        concurrency in 1..40_usize,
        breaker_after in 1..20_usize,
        more in 0..40_usize,
        steps in prop::collection::vec((0..40_usize, 0..6_u8), 0..400),
    ) {
        let mut config = config_with(concurrency, breaker_after);
        config.ordering = if by_key { Ordering::Key } else { Ordering::None };
        let mut world = World::new(events((breaker_after + more) as i64), config);
        for (n, step) in steps {
            world.turn();
            match step {
                0..3 => _ = world.finish(n, refused(), 0.5),
                3 => world.commit(),
                4 => world.now = world.core.next_due().map_or(world.now, |due| due.max(world.now)),
                _ if world.disk.standing.breaker_open_since.is_some() => world.crash(),
                _ => {}
            }
        }
        prop_assert_eq!(world.dead(), Vec::<i64>::new());
        let was_open = world.core.is_open();
        world.run_to_the_end();
        world.assert_settled();
        prop_assert!(!was_open || world.dead().is_empty(), "it was down: a person has nothing to do");
    }

    /// Whatever happens, a clock that goes forwards finds something to do in the end.
    #[test]
    fn an_outage_leaves_nothing_behind(
        keys in prop::collection::vec(any::<u8>(), 0..80),
        failures in prop::collection::vec((any::<usize>(), any::<bool>()), 0..100),
        concurrency in 1..8_usize,
    ) {
        let mut world = World::new(log(&keys), config_with(concurrency, 3));
        for (n, permanent) in failures {
            world.turn();
            world.finish(n, if permanent { refused() } else { down() }, 0.9);
            world.commit();
            world.now = world.core.next_due().map_or(world.now, |due| due.max(world.now));
        }
        if world.core.is_open() {
            let dead = world.dead();
            for _ in 0..100 {
                if !world.core.is_open() {
                    break;
                }
                world.turn();
                world.finish(0, delivered(), 0.5);
                world.commit();
                world.now = world.core.next_due().map_or(world.now, |due| due.max(world.now));
            }
            let closed_at = world.now;
            world.run_to_the_end();
            prop_assert_eq!(world.dead().len(), dead.len() + world.late_conflicts(&dead));
            // A false alarm leaves what failed its own times; they are no longer than the longest delay.
            let latest = closed_at + SignedDuration::from_secs(60);
            prop_assert!(world.now <= latest, "nothing waits for longer");
        } else {
            world.run_to_the_end();
        }
        world.assert_settled();
    }
}

impl World {
    /// Conflicts that have become dead letters since.
    fn late_conflicts(&self, before: &[i64]) -> usize {
        self.disk.dead.keys().filter(|at| !before.contains(&at.get()) && self.stored(**at).conflict).count()
    }
}
