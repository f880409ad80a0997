//! Pauses, revived dead letters, and what cannot be delivered.

use super::*;

#[test]
fn a_pause_starts_nothing_and_lets_land_what_flies() {
    let mut world = World::new(events(10), config_with(2, 10));
    world.turn();
    world.pause(true);
    assert_eq!((world.core.wants(), world.core.next_due()), (None, None));
    world.finish(0, delivered(), 1.0);
    world.finish(0, down(), 1.0);
    world.turn();
    world.commit();
    world.wait(600);
    world.turn();
    assert!(world.in_flight.is_empty());
    assert_eq!((world.disk.delivered.len(), world.parked()), (1, vec![2]));
    world.crash();
    world.turn();
    assert!(world.in_flight.is_empty(), "paused after a restart, too");
    world.pause(false);
    world.run_to_the_end();
    world.assert_settled();
}

/// While the breaker is open nothing is parked behind the event that has failed. Were a later one parked once it is closed,
/// it would go first after a restart: what is parked is known before the log has been read again.
#[test]
fn nothing_is_parked_before_an_event_of_its_key_that_is_not() {
    let mut world = World::new(of_keys(&["a", "a", "b"]), config_with(1, 1));
    world.turn();
    world.finish(0, down(), 1.0);
    assert!(world.core.is_open());
    world.commit();
    world.wait(60);
    world.turn();
    assert_eq!(world.finish(0, delivered(), 1.0), Some(Switched::Closed));
    world.log.push(event(4, "a", "payin.completed", false));
    for _ in 0..2 {
        world.turn();
        world.commit();
    }
    assert!(world.parked().iter().all(|at| *at == 1), "nothing is parked behind what is not: {:?}", world.parked());
    world.crash();
    world.run_to_the_end();
    world.assert_settled();
}

#[test]
fn a_pause_does_not_count_against_an_event() {
    let mut config = config_with(1, 10);
    config.retry.give_up_after = Duration::from_secs(10);
    let mut world = World::new(events(1), config);
    world.turn();
    world.finish(0, down(), 1.0);
    world.turn();
    world.commit();
    world.pause(true);
    world.wait(1000);
    world.turn();
    world.commit();
    world.crash();
    world.wait(1000);
    // Resumed while no process ran.
    world.disk.paused = false;
    world.crash();
    world.turn();
    assert_eq!(world.in_flight, [seq(1)]);
    world.finish(0, down(), 0.0);
    world.turn();
    world.commit();
    assert_eq!((world.dead(), world.disk.standing.still_since), (vec![], None));
    assert_eq!(world.disk.standing.still, Duration::from_secs(2000));
}

/// The time before its first attempt is not its own, however long the consumer has stood still by then.
#[test]
fn what_is_first_tried_after_a_pause_is_given_up_in_time_all_the_same() {
    let mut config = config_with(1, 10);
    config.retry.give_up_after = Duration::from_secs(100);
    let mut world = World::new(events(1), config);
    world.pause(true);
    world.wait(1_000_000);
    world.pause(false);
    world.turn();
    let began = world.now;
    while world.dead().is_empty() {
        world.finish_all(&down());
        world.turn();
        world.commit();
        let tried_for = world.now.duration_since(began);
        assert!(tried_for <= SignedDuration::from_secs(100 + 60), "it is tried for {tried_for:?}");
        world.now = world.core.next_due().map_or(world.now, |due| due.max(world.now));
        world.turn();
    }
    assert!(world.now >= began + SignedDuration::from_secs(100));
}

#[test]
fn a_revived_event_is_the_head_of_its_lane() {
    let mut world = World::new(of_keys(&["a", "a", "a"]), config_with(4, 10));
    world.turn();
    world.finish(0, refused(), 1.0);
    world.turn();
    world.commit();
    world.now = world.core.next_due().unwrap();
    world.turn();
    world.commit();
    assert_eq!((world.dead(), &world.in_flight[..]), (vec![1], &[seq(2)][..]));
    world.revive(0);
    world.turn();
    assert_eq!(world.in_flight, [seq(2)], "one of its lane is in flight");
    world.finish(0, down(), 1.0);
    world.turn();
    world.commit();
    world.turn();
    assert_eq!(world.in_flight, [seq(1)], "then it is its turn, whatever the other one waits for");
    assert_eq!(world.core.parked_on_disk(), 3);
    world.run_to_the_end();
    world.assert_settled();
    assert_eq!(world.attempts_of(1), 2);
}

#[test]
fn a_revived_event_goes_before_one_that_is_ready() {
    for concurrency in [1, 2] {
        let mut log = of_keys(&["a", "b", "c", "a"]);
        log[0].conflict = true;
        let mut world = World::new(log, config_with(concurrency, 10));
        world.turn();
        world.commit();
        assert_eq!((world.dead(), world.in_flight.len()), (vec![1], concurrency), "the last one is ready, and waits");
        world.revive(0);
        for _ in 0..3 {
            world.finish(0, delivered(), 1.0);
            world.turn();
            world.commit();
            world.turn();
            let of_its_lane = [1, 4].map(|at| world.in_flight.contains(&seq(at)));
            assert!(of_its_lane != [true, true] && (world.attempts_of(1) > 0 || !of_its_lane[1]), "{of_its_lane:?}");
        }
        world.run_to_the_end();
        world.assert_settled();
    }
}

/// It was given up before the restart, and the log has not been read that far since.
#[test]
fn a_revived_event_above_the_cursor_is_not_read_again() {
    let mut log = events(4);
    log[2].conflict = true;
    let mut world = World::new(log, config_with(4, 10));
    world.turn();
    world.commit();
    assert_eq!((world.dead(), world.disk.cursor), (vec![3], Seq::ZERO));
    world.crash();
    world.revive(0);
    let starts = world.core.start(world.now);
    assert!(matches!(starts[..], [Start::Reread(at)] if at == seq(3)));
    world.core.finished(seq(3), world.now, Duration::ZERO, delivered(), 0.0);
    world.unrecorded = 1;
    world.turn();
    world.commit();
    world.run_to_the_end();
    world.assert_settled();
}

#[test]
fn an_event_without_a_body_is_discarded_only_where_it_is_wanted() {
    let mut log = vec![
        event(1, "a", "payin.completed", false),
        event(2, "b", "payout.completed", false),
        event(3, "c", "payin.completed", true),
    ];
    log.iter_mut().for_each(|event| event.body = None);
    let mut world = World::new(log, config_with(1, 10));
    world.turn();
    let discarded = world.record.as_ref().unwrap().discarded.clone();
    assert_eq!(discarded[0].reason, "pruned: retention has dropped the body");
    world.run_to_the_end();
    world.assert_settled();
    assert_eq!(world.disk.discarded, BTreeSet::from([seq(1), seq(3)]), "nobody could try it again");
}

/// Not by retention: a person has to see it.
#[test]
fn an_event_whose_body_was_taken_is_given_up() {
    let mut log = events(2);
    (log[0].body, log[0].altered) = (None, Some(crate::inbox::Altered::Missing));
    let mut world = World::new(log, config_with(1, 10));
    world.turn();
    let dead = world.record.as_ref().unwrap().dead.clone();
    assert_eq!(dead[0].reason, "the body is missing in the inbox, and no retention has dropped it");
    assert_eq!((dead.len(), dead[0].seq), (1, seq(1)));
    assert!(world.record.as_ref().unwrap().discarded.is_empty());
}

#[test]
fn a_parked_event_that_has_lost_its_body_is_discarded_and_its_lane_goes_on() {
    let mut world = World::new(of_keys(&["a", "a"]), config_with(1, 1));
    world.turn();
    world.finish(0, down(), 1.0);
    world.turn();
    world.commit();
    world.now = world.core.next_due().unwrap();
    world.turn();
    assert_eq!((&world.in_flight[..], world.probe.len()), (&[seq(1)][..], 1));
    world.core.bodiless(seq(1), world.now);
    world.log[0].body = None;
    world.lands_nowhere();
    world.turn();
    world.commit();
    assert_eq!(world.in_flight, [seq(2)]);
    world.run_to_the_end();
    world.assert_settled();
}
