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
    let mut log = of_keys(&["a", "b", "a"]);
    log[0].conflict = true;
    let mut world = World::new(log, config_with(1, 10));
    world.turn();
    world.commit();
    assert_eq!((world.dead(), &world.in_flight[..]), (vec![1], &[seq(2)][..]));
    world.revive(0);
    world.finish(0, delivered(), 1.0);
    world.turn();
    world.commit();
    world.turn();
    assert_eq!(world.in_flight, [seq(1)]);
    world.finish(0, delivered(), 1.0);
    world.turn();
    world.commit();
    world.turn();
    assert_eq!(world.in_flight, [seq(3)]);
    world.run_to_the_end();
    world.assert_settled();
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
    assert!(matches!(starts[..], [Start::Parked(at)] if at == seq(3)));
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

#[test]
fn a_parked_event_that_has_lost_its_body_is_discarded_and_its_lane_goes_on() {
    let mut world = World::new(of_keys(&["a", "a"]), config_with(1, 1));
    world.turn();
    world.finish(0, down(), 1.0);
    world.turn();
    world.commit();
    world.now = world.core.next_due().unwrap();
    world.turn();
    assert_eq!((&world.in_flight[..], world.probe), (&[seq(1)][..], Some(seq(1))));
    world.core.bodiless(seq(1), world.now);
    world.log[0].body = None;
    (world.in_flight, world.probe) = (vec![], None);
    world.turn();
    world.commit();
    assert_eq!(world.in_flight, [seq(2)]);
    world.run_to_the_end();
    world.assert_settled();
}
