//! The pace of a replay, and its end.

use super::*;

/// How many were started in the next seconds, at ten looks a second.
fn started(world: &mut World, seconds: i64) -> usize {
    let mut started = 0;
    for _ in 0..seconds * 10 {
        world.turn();
        started += world.in_flight.len();
        world.finish_all(&delivered());
        world.turn();
        world.commit();
        world.now += SignedDuration::from_millis(100);
    }
    started
}

#[test]
fn first_attempts_keep_the_pace() {
    let mut world = World::paced(events(1000), config_with(50, 10), Some(5.0));
    let number = started(&mut world, 10);
    assert!((49..=51).contains(&number), "{number}");
    let mut world = World::paced(events(1000), config_with(50, 10), Some(0.5));
    assert_eq!(started(&mut world, 10), 5);
}

#[test]
fn a_standstill_is_not_made_up_for() {
    let mut world = World::paced(events(1000), config_with(50, 10), Some(5.0));
    world.turn();
    world.wait(3600);
    world.turn();
    assert_eq!(world.in_flight.len(), 6);
}

#[test]
fn what_is_due_says_when_the_pace_allows_it() {
    let mut world = World::paced(events(10), config_with(50, 10), Some(2.0));
    world.turn();
    assert_eq!(world.in_flight, [seq(1)]);
    let due = world.core.next_due().unwrap();
    assert!(due > world.now && due < world.now + SignedDuration::from_millis(501));
    world.now = due;
    world.turn();
    assert_eq!(world.in_flight, [seq(1), seq(2)]);
    let began = world.now;
    world.run_to_the_end();
    world.assert_settled();
    assert!(world.now >= began + SignedDuration::from_secs(4));
}

#[test]
fn a_second_attempt_costs_no_pace() {
    let mut world = World::paced(events(3), config_with(50, 10), Some(0.01));
    world.turn();
    world.finish(0, down(), 0.5);
    world.turn();
    world.commit();
    let due = world.core.next_due().unwrap();
    assert!(due < world.now + SignedDuration::from_secs(2), "{due}");
    world.now = due;
    world.turn();
    assert_eq!(world.in_flight, [seq(1)]);
}

#[test]
fn probes_keep_the_pace() {
    let mut world = World::paced(events(5), config_with(1, 1), Some(0.01));
    world.turn();
    world.finish(0, down(), 0.5);
    world.turn();
    world.commit();
    assert!(world.core.is_open());
    let end = world.now + SignedDuration::from_secs(90);
    while world.now < end {
        world.turn();
        assert!(world.in_flight.iter().all(|at| *at == seq(1)), "a second attempt costs no pace, a first one does");
        world.finish_all(&down());
        world.commit();
        world.now = world.core.next_due().unwrap().max(world.now);
    }
    for _ in 0..100 {
        world.turn();
        world.finish_all(&down());
        world.commit();
        world.now = world.core.next_due().unwrap().max(world.now);
    }
    assert!(world.disk.parked.len() > 1, "others come in turn");
}

#[test]
fn it_has_finished_when_everything_up_to_its_end_is_final() {
    let mut log = events(2);
    log.push(event(3, "c", "payout.completed", false));
    let mut world = World::new(log, config_with(4, 10));
    assert!(!world.core.has_finished(seq(3)));
    world.turn();
    assert!(!world.core.has_finished(seq(3)), "two are in flight");
    world.finish(0, delivered(), 0.5);
    world.finish(0, down(), 0.5);
    assert!(!world.core.has_finished(seq(3)), "one is parked");
    world.turn();
    world.commit();
    world.turn();
    world.commit();
    world.now = world.core.next_due().unwrap();
    world.turn();
    world.finish(0, delivered(), 0.5);
    assert!(world.core.has_finished(seq(3)) && !world.core.has_finished(seq(4)));
}
