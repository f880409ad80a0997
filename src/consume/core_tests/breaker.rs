//! Outages, refusals, and whose fault it was.

use super::*;

/// Several events have failed, each of a key of its own: the breaker is open, and everything is recorded.
fn outage(log: Vec<StoredEvent>, config: Config) -> World {
    let mut world = World::new(log, config);
    fail_on(&mut world, &down());
    world
}

/// Until the breaker opens, and what is in flight then has landed.
fn fail_on(world: &mut World, outcome: &Outcome) {
    for _ in 0..1000 {
        world.turn();
        world.finish_all(outcome);
        world.turn();
        world.commit();
        if world.core.is_open() {
            return;
        }
    }
    panic!("the breaker does not open");
}

/// The next probe is tried, and recorded; it ends with the first success. Returns its events.
fn probe(world: &mut World, outcome: &Outcome) -> Vec<i64> {
    world.now = world.core.next_due().expect("a probe is due").max(world.now);
    world.turn();
    assert!(!world.in_flight.is_empty());
    let mut tried = Vec::new();
    while let Some(at) = world.in_flight.first().copied() {
        tried.push(at.get());
        if world.finish(0, outcome.clone(), 1.0) == Some(Switched::Closed) {
            break;
        }
        world.turn();
    }
    world.turn();
    world.commit();
    world.turn();
    world.commit();
    tried.sort_unstable();
    tried
}

#[test]
fn while_it_is_open_nothing_goes_but_probes_and_the_cursor_stands() {
    let mut world = outage(events(1000), config_with(4, 4));
    assert_eq!((world.parked(), world.disk.cursor), (vec![1, 2, 3, 4], seq(4)));
    assert_eq!(world.disk.standing.breaker_open_since, world.disk.standing.still_since);
    assert!(world.disk.standing.still_since.is_some());
    world.turn();
    assert!(world.in_flight.is_empty(), "no probe before its time");
    let tried = probe(&mut world, &down());
    assert_eq!(tried.len(), PROBE, "{tried:?}");
    assert!(world.core.next_due().is_some_and(|due| due > world.now));
    assert_eq!(
        (world.parked()[..4].to_vec(), world.parked().len()),
        (vec![1, 2, 3, 4], 4 + tried.iter().filter(|at| **at > 4).count())
    );
}

#[test]
fn a_success_closes_it_and_everything_is_due_at_once() {
    let mut world = outage(events(20), config_with(4, 4));
    for _ in 0..100 {
        probe(&mut world, &down());
    }
    assert!(world.disk.parked.values().any(|event| event.next_attempt > world.now + Duration::from_secs(10)));
    probe(&mut world, &delivered());
    assert!(!world.core.is_open());
    assert_eq!(world.disk.standing.breaker_open_since, None);
    let closed_at = world.now;
    world.run_to_the_end();
    world.assert_settled();
    assert_eq!(world.now, closed_at, "without waiting for any timer");
}

#[test]
fn what_was_in_flight_closes_it_too() {
    let mut world = World::new(events(6), config_with(6, 4));
    world.turn();
    let switched: Vec<_> = (0..4).map(|_| world.finish(0, down(), 1.0)).collect();
    assert_eq!(switched, [None, None, None, Some(Switched::Opened)]);
    assert_eq!(world.finish(0, delivered(), 1.0), Some(Switched::Closed));
    world.turn();
    world.commit();
    world.turn();
    assert_eq!(world.in_flight.len(), 1, "the others keep to their times: it was a false alarm");
    world.wait(1);
    world.turn();
    assert_eq!(world.in_flight.len(), 5);
}

#[test]
fn failures_of_one_entity_are_no_outage() {
    let mut world = World::new(of_keys(&["a"; 20]), config_with(4, 2));
    for _ in 0..10 {
        world.turn();
        world.finish_all(&down());
        world.turn();
        world.commit();
        world.wait(60);
    }
    assert!(!world.core.is_open());
}

#[test]
fn a_restart_finds_it_open_and_probes_at_once() {
    let mut world = outage(events(20), config_with(4, 4));
    for _ in 0..2 {
        probe(&mut world, &down());
    }
    let since = world.disk.standing.breaker_open_since;
    world.crash();
    assert!(world.core.is_open());
    assert_eq!(world.core.take_progress().map(|progress| progress.cursor), None, "nothing has changed");
    world.turn();
    assert!((1..=PROBE).contains(&world.in_flight.len()), "at once");
    world.finish_all(&down());
    world.turn();
    world.commit();
    assert_eq!(world.disk.standing.breaker_open_since, since);
    world.run_to_the_end();
    world.assert_settled();
}

#[test]
fn what_waits_behind_a_failure_costs_no_row_while_it_is_open() {
    let log = of_keys(&["a", "b", "c", "d", "c", "d", "d", "e"]);
    let mut world = World::new(log, config_with(1, 3));
    fail_on(&mut world, &down());
    assert_eq!(world.parked(), [1, 2, 3]);
    let mut tried = BTreeSet::new();
    while tried.len() < 5 {
        tried.extend(probe(&mut world, &down()));
    }
    assert_eq!(tried, BTreeSet::from([1, 2, 3, 4, 8]), "every head has its turn");
    world.log.push(event(9, "a", "payin.completed", false));
    world.turn();
    world.commit();
    assert_eq!((world.parked(), world.disk.cursor), (vec![1, 2, 3, 4, 8], seq(4)), "5 to 7 and 9 wait in memory");
    world.run_to_the_end();
    world.assert_settled();
}

/// Revived while the probe is made, it stands before an event that was chosen for it.
#[test]
fn an_event_of_the_probe_that_is_overtaken_does_not_stop_the_next_one() {
    let mut world = outage(of_keys(&["a", "b", "b"]), config_with(1, 1));
    world.disk.parked.remove(&seq(2));
    world.log[1].conflict = true;
    world.disk.dead.insert(seq(2), DeadLetter { seq: seq(2), attempts: 0, reason: String::new(), at: world.now });
    world.crash();
    world.turn();
    let first = world.in_flight[0];
    world.revive(0);
    for _ in 0..50 {
        world.finish_all(&down());
        world.turn();
        world.commit();
        world.now = world.core.next_due().unwrap_or(world.now).max(world.now);
    }
    assert!(world.attempts_of(first.get()) > 1, "probes go on");
    world.run_to_the_end();
    world.assert_settled();
}

#[test]
fn a_probe_that_cannot_be_read_is_no_busy_loop() {
    let mut world = outage(events(1), config_with(1, 1));
    world.now = world.core.next_due().unwrap();
    world.turn();
    world.core.not_started(seq(1), world.now);
    world.lands_nowhere();
    assert_eq!(world.core.next_due(), Some(world.now + Duration::from_secs(1)));
    world.turn();
    assert!(world.in_flight.is_empty());
}

/// A day: as many rows as probes have events, and nothing of the million that waits.
#[test]
fn a_long_outage_costs_few_rows() {
    let mut world = outage(events(20_000), config_with(32, 10));
    let (end, mut probes) = (world.now + SignedDuration::from_hours(6), 0);
    while world.now < end {
        probe(&mut world, &down());
        probes += 1;
    }
    assert!((1440..1460).contains(&probes), "{probes} probes, every 15 seconds");
    let rows = world.disk.park_rows + world.disk.attempts.len();
    assert!(rows <= 2 * (PROBE * probes + 2 * 32), "{rows} rows");
}

/// However long it lasts and however often it is probed: what is parked, and what is in memory, is bounded.
#[test]
fn an_outage_without_end_parks_no_more_than_it_may() {
    let mut config = config_with(8, 10);
    config.retry.max_parked = 300;
    let mut world = outage(events(100_000), config);
    for _ in 0..1000 {
        probe(&mut world, &down());
    }
    assert_eq!(world.core.wants(), None);
    let parked = world.disk.parked.len();
    assert!((500..=300 + 256).contains(&parked), "{parked}");
    assert!(world.disk.cursor.get() <= 556);
    let handed_over = world.handed_over.len();
    probe(&mut world, &delivered());
    for _ in 0..4000 {
        if world.disk.cursor.get() > 2000 {
            break;
        }
        world.turn();
        world.finish_all(&delivered());
        world.turn();
        world.commit();
        if world.in_flight.is_empty() {
            world.now = world.core.next_due().map_or(world.now, |due| due.max(world.now));
        }
    }
    assert!(world.disk.parked.is_empty() && world.handed_over.len() > handed_over + 1000);
}

#[test]
fn entities_that_keep_failing_are_no_outage_while_others_work() {
    let mut log = events(12);
    log.extend((13..=400).map(|at| event(at, &format!("good-{at}"), "payin.completed", false)));
    let mut world = outage(log, config_with(1, 10));
    let mut openings = 0;
    for _ in 0..3000 {
        if let Some(due) = world.core.next_due() {
            world.now = world.now.max(due);
        }
        world.turn();
        let outcome = match world.in_flight.first() {
            Some(at) if at.get() <= 12 => down(),
            Some(_) | None => delivered(),
        };
        openings += usize::from(world.finish(0, outcome, 1.0) == Some(Switched::Opened));
        world.turn();
        world.commit();
        if world.disk.delivered.len() == 388 {
            break;
        }
    }
    assert_eq!((world.disk.delivered.len(), openings), (388, 0), "it opens no second time");
}

#[test]
fn a_lone_refusal_is_buried_after_one_attempt() {
    let mut world = World::new(of_keys(&["a", "a"]), config_with(4, 10));
    world.turn();
    world.finish(0, refused(), 1.0);
    world.turn();
    world.commit();
    assert_eq!((world.parked(), world.dead()), (vec![1, 2], vec![]), "it may be the sink");
    assert_eq!(world.core.next_due(), Some(world.now + Duration::from_secs(1)));
    world.now = world.core.next_due().unwrap();
    world.turn();
    assert_eq!(world.in_flight, [seq(2)], "its lane goes on at once");
    world.turn();
    world.commit();
    assert_eq!((world.dead(), world.attempts_of(1)), (vec![1], 1));
    assert_eq!(world.disk.dead[&seq(1)].reason, "HTTP 400");
    world.run_to_the_end();
    world.assert_settled();
}

#[test]
fn refusals_are_buried_with_the_next_success_of_another() {
    let mut world = World::new(of_keys(&["a", "b", "c", "d"]), config_with(3, 10));
    world.turn();
    world.finish(0, refused(), 1.0);
    world.finish(0, refused(), 1.0);
    assert!(world.dead().is_empty());
    world.finish(0, delivered(), 1.0);
    world.turn();
    world.commit();
    assert_eq!(world.dead(), [1, 3], "what had landed by then");
    assert_eq!((world.attempts_of(1), world.attempts_of(3)), (1, 1));
    world.run_to_the_end();
    world.assert_settled();
}

/// The second event fails whenever it is tried, until only the first one is in flight.
fn until_alone(world: &mut World) {
    for _ in 0..200 {
        world.wait(1);
        world.turn();
        if let Some(at) = world.in_flight.iter().position(|at| *at == seq(2)) {
            world.finish(at, down(), 1.0);
        }
        world.turn();
        world.commit();
        if world.in_flight == [seq(1)] {
            return;
        }
    }
    panic!("it is not tried again");
}

#[test]
fn where_others_fail_too_a_refusal_is_tried_once_more() {
    let mut world = World::new(of_keys(&["a", "b"]), config_with(2, 10));
    world.turn();
    world.finish(0, refused(), 1.0);
    world.finish(0, down(), 1.0);
    world.turn();
    world.commit();
    until_alone(&mut world);
    world.finish(0, refused(), 1.0);
    world.turn();
    world.commit();
    assert_eq!((world.dead(), world.attempts_of(1)), (vec![1], 2));
}

#[test]
fn a_transient_failure_in_between_makes_a_refusal_the_first_again() {
    let mut world = World::new(of_keys(&["a", "b"]), config_with(2, 10));
    world.turn();
    world.finish(1, down(), 1.0);
    for outcome in [refused(), down(), refused()] {
        assert_eq!(world.in_flight, [seq(1)]);
        world.finish(0, outcome, 1.0);
        world.turn();
        world.commit();
        assert!(world.dead().is_empty());
        until_alone(&mut world);
    }
    world.finish(0, refused(), 1.0);
    world.turn();
    world.commit();
    assert_eq!(world.dead(), [1], "twice in a row");
}

/// Slow, and one after the other: the verdict waits for what the others show.
#[test]
fn a_slow_sink_that_refuses_everything_buries_nothing_either() {
    let mut world = World::new(events(30), config_with(1, 10));
    for _ in 0..200 {
        world.turn();
        world.wait(3);
        world.turn();
        world.finish_all(&refused());
        world.turn();
        world.commit();
    }
    assert!(world.core.is_open() && world.dead().is_empty());
    let mut world = World::new(events(30), config_with(30, 10));
    world.turn();
    for _ in 0..20 {
        world.finish(0, refused(), 1.0);
        world.turn();
        world.commit();
        world.wait(20);
        world.turn();
    }
    assert!(world.core.is_open() && world.dead().is_empty());
}

#[test]
fn condemned_events_are_ordinary_once_it_opens() {
    let mut world = outage_of_refusals(events(4), config_with(1, 3));
    assert_eq!(world.parked(), [1, 2, 3]);
    probe(&mut world, &delivered());
    assert!(world.dead().is_empty());
    world.run_to_the_end();
    world.assert_settled();
    assert_eq!(world.disk.delivered.len(), 4, "they are tried again");
}

fn outage_of_refusals(log: Vec<StoredEvent>, config: Config) -> World {
    let mut world = World::new(log, config);
    fail_on(&mut world, &refused());
    assert!(world.dead().is_empty());
    world
}

/// Enough poison at once opens the breaker each time; it must not do so for ever.
#[test]
fn poison_is_buried_in_the_end_though_it_opens_the_breaker() {
    for breaker_after in [1, 3] {
        let mut world = outage_of_refusals(events(3), config_with(1, breaker_after));
        for good in 4..40 {
            world.log.push(event(good, &format!("good-{good}"), "payin.completed", false));
            for _ in 0..40 {
                world.turn();
                let outcome = match world.in_flight.first() {
                    Some(at) if at.get() <= 3 => refused(),
                    Some(_) | None => delivered(),
                };
                world.finish(0, outcome, 1.0);
                world.turn();
                world.commit();
                world.now = world.core.next_due().map_or(world.now, |due| due.max(world.now));
            }
        }
        assert_eq!(world.dead(), [1, 2, 3], "breaker_after = {breaker_after}");
        assert_eq!(world.disk.delivered.len(), 36);
    }
}

#[test]
fn nothing_is_given_up_while_it_is_open_and_still_time_does_not_count() {
    let mut config = config_with(1, 2);
    config.retry.give_up_after = Duration::from_secs(100);
    let mut world = outage(events(2), config);
    world.wait(1_000_000);
    for _ in 0..5 {
        probe(&mut world, &down());
        world.wait(1000);
    }
    world.crash();
    for _ in 0..3 {
        probe(&mut world, &down());
        world.wait(1000);
    }
    assert!(world.dead().is_empty());
    probe(&mut world, &delivered());
    for _ in 0..30 {
        world.now = world.core.next_due().map_or(world.now, |due| due.max(world.now));
        world.turn();
        world.finish_all(&down());
        world.turn();
        world.commit();
        if !world.dead().is_empty() {
            break;
        }
    }
    assert_eq!(world.dead().len(), 1);
    let letter = world.disk.dead.values().next().unwrap();
    assert!(letter.reason.starts_with("gave up"), "{}", letter.reason);
    let total = world.disk.standing.still;
    assert!(total > Duration::from_secs(1_000_000), "{total:?}");
}
