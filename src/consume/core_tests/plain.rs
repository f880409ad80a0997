//! Lanes, parking and the cursor.

use super::*;

#[test]
fn a_failing_event_blocks_only_its_own_key() {
    let events = vec![
        event(1, "a", "payin.processing", false),
        event(2, "a", "payin.completed", false),
        event(3, "b", "payin.completed", false),
    ];
    let mut world = World::new(events, config(Ordering::Key, 4));
    world.turn();
    assert_eq!(world.in_flight, [seq(1), seq(3)]);
    world.finish(0, down(), 1.0);
    world.finish(0, delivered(), 1.0);
    world.turn();
    world.commit();
    assert!(world.in_flight.is_empty(), "the second event of the key waits behind the first");
    assert_eq!(world.parked(), [1, 2]);
    assert_eq!(world.disk.cursor, seq(3), "parked events do not hold the cursor");
    world.run_to_the_end();
    world.assert_settled();
}

/// Parked above the cursor when the process ended, it is delivered before the log has been read that far.
#[test]
fn a_parked_event_above_the_cursor_is_not_taken_for_a_new_one() {
    let events = vec![event(1, "a", "payin.completed", false), event(2, "b", "payin.completed", false)];
    let mut world = World::new(events, config(Ordering::Key, 2));
    world.turn();
    world.finish(1, down(), 0.0);
    world.turn();
    world.commit();
    assert_eq!((world.disk.cursor, world.disk.parked.len()), (Seq::ZERO, 1), "the first event is still in flight");
    world.crash();
    world.now = world.core.next_due().unwrap();
    let parked = world.core.start(world.now);
    assert!(matches!(parked[..], [Start::Reread(at)] if at == seq(2)));
    world.core.finished(seq(2), world.now, Duration::ZERO, delivered(), 0.0);
    world.unrecorded = 1;
    world.turn();
    assert_eq!(world.in_flight, [seq(1)]);
    world.run_to_the_end();
    world.assert_settled();
}

#[test]
fn an_event_is_given_up_in_the_end() {
    let mut world = World::new(vec![event(1, "a", "payin.completed", false)], config(Ordering::Key, 1));
    for _ in 0..1000 {
        world.turn();
        world.finish(0, down(), 1.0);
        world.turn();
        world.commit();
        match world.core.next_due() {
            Some(due) => world.now = due,
            None => break,
        }
    }
    assert_eq!(world.dead(), [1]);
    world.assert_settled();
}

#[test]
fn reading_stops_at_the_bound_of_parked_events() {
    let events = events(20_000);
    let mut config = config(Ordering::Key, 1000);
    config.retry.breaker_after = 1000;
    let most = config.retry.max_parked;
    let mut world = World::new(events, config);
    for _ in 0..100 {
        world.turn();
        while !world.in_flight.is_empty() {
            world.finish(0, down(), 1.0);
        }
        world.turn();
        world.commit();
    }
    let parked = world.disk.parked.len();
    assert!(parked < most + 4 * 1000 + 1, "{parked} are parked");
    assert!(world.disk.cursor.get() <= parked as i64);
}

fn failed_once(concurrency: usize) -> World {
    let mut world = World::new(vec![event(1, "a", "payin.completed", false)], config(Ordering::Key, concurrency));
    world.turn();
    world.finish(0, down(), 1.0);
    world.turn();
    world.commit();
    world
}

#[test]
fn a_clock_that_is_set_back_keeps_no_event_waiting() {
    let mut world = failed_once(1);
    world.now -= SignedDuration::from_hours(24);
    world.turn();
    assert!(world.in_flight.is_empty());
    world.now += SignedDuration::from_secs(61);
    world.turn();
    assert_eq!(world.in_flight, [seq(1)], "the longest delay is 60 s");

    let mut world = failed_once(1);
    world.now -= SignedDuration::from_hours(24);
    world.crash();
    world.turn();
    world.now += SignedDuration::from_secs(61);
    world.turn();
    assert_eq!(world.in_flight, [seq(1)], "after a restart too");
}

#[test]
fn what_is_due_is_waited_for_only_where_it_can_start() {
    let mut world = failed_once(1);
    assert!(world.core.next_due().is_some());
    world.log.push(event(2, "b", "payin.completed", false));
    world.turn();
    assert_eq!(world.in_flight, [seq(2)]);
    assert_eq!(world.core.next_due(), None, "no room: the loop would turn for nothing");
    world.finish(0, delivered(), 0.0);
    assert!(world.core.next_due().is_some());
}

/// What is not recorded comes again after a crash: there is a bound to it.
#[test]
fn a_few_deliveries_go_on_while_an_outcome_is_being_recorded() {
    let events = (1..=9).map(|at| event(at, &at.to_string(), "payin.completed", false)).collect();
    let mut world = World::new(events, config(Ordering::Key, 2));
    for _ in 0..UNRECORDED {
        world.turn();
        assert_eq!(world.in_flight.len(), 2);
        world.finish_all(&delivered());
    }
    world.turn();
    assert!(world.in_flight.is_empty(), "eight are not recorded");
    assert_eq!(world.core.next_due(), None, "the loop would turn for nothing");
    world.commit();
    world.turn();
    assert_eq!(world.in_flight, [seq(9)]);
}

/// A new sink over a log whose bodies are gone, while the disk is full.
#[test]
fn reading_stops_while_too_much_waits_to_be_recorded() {
    let mut log = events(5000);
    log.iter_mut().skip(1).step_by(2).for_each(|event| event.conflict = true);
    log.iter_mut().step_by(2).for_each(|event| event.body = None);
    let mut world = World::new(log, config_with(1, 10));
    (0..50).for_each(|_| world.turn());
    assert_eq!(world.core.wants(), None);
    let mut most = 0;
    while world.record.is_some() {
        world.commit();
        world.turn();
        most = most.max(world.record.as_ref().map_or(0, |record| record.dead.len() + record.discarded.len()));
    }
    assert!((256..=512).contains(&most), "{most}");
    world.assert_settled();
}

#[test]
fn reading_stops_when_the_bodies_in_memory_are_many() {
    let mut events: Vec<_> = (1..=100).map(|at| event(at, &format!("key-{at}"), "payin.completed", false)).collect();
    events.iter_mut().for_each(|event| event.body = Some(bytes::Bytes::from(vec![0; 1 << 20])));
    let mut world = World::new(events, config(Ordering::Key, 100));
    let some = world.log[..40].iter().map(|event| (event.clone(), true)).collect();
    world.core.read(some, seq(40), world.now);
    assert_eq!(world.core.wants(), None, "40 MiB wait");
    world.turn();
    assert_eq!(world.in_flight.len(), 16, "16 MiB are in flight");
    world.finish_all(&delivered());
    world.turn();
    assert_eq!(world.in_flight.len(), 16);
    assert!(world.core.wants().is_some(), "8 MiB wait");
    world.run_to_the_end();
    world.assert_settled();
}

#[test]
fn a_sink_that_wants_little_reads_on_in_long_strides() {
    let events = (1..=1000).map(|at| event(at, "a", "payout.completed", false)).collect();
    let mut world = World::new(events, config(Ordering::Key, 1));
    let mut records = 0;
    while world.disk.cursor.get() < 1000 {
        world.turn();
        world.commit();
        records += 1;
    }
    assert!(records <= 10, "{records} records for 1000 events that are not wanted");
}

#[test]
fn what_is_read_behind_a_parked_event_is_parked_and_holds_no_cursor() {
    let mut world = failed_once(4);
    world.log.push(event(2, "a", "payin.completed", false));
    world.turn();
    world.commit();
    assert!(world.in_flight.is_empty());
    assert_eq!((world.disk.cursor, world.disk.parked.len()), (seq(2), 2));
    world.run_to_the_end();
    world.assert_settled();
}

#[test]
fn an_event_counts_as_parked_as_long_as_it_is_so_on_disk() {
    let mut world = World::new(vec![event(1, "a", "payin.completed", false)], config(Ordering::Key, 1));
    world.turn();
    world.finish(0, down(), 1.0);
    world.turn();
    assert_eq!(world.core.parked_on_disk(), 0, "being recorded");
    world.commit();
    assert_eq!(world.core.parked_on_disk(), 1);
    world.crash();
    assert_eq!(world.core.parked_on_disk(), 1, "after a restart");
    world.now = world.core.next_due().unwrap();
    world.turn();
    world.finish(0, delivered(), 0.0);
    assert_eq!(world.core.parked_on_disk(), 1, "delivered, and not recorded");
    world.turn();
    assert_eq!(world.core.parked_on_disk(), 1, "being recorded");
    world.commit();
    assert_eq!(world.core.parked_on_disk(), 0);
}
