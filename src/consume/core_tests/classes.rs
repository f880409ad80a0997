//! Events of a class that the far side never takes hold up nothing else: by type, by key, by content, for now or for good.

use proptest::prelude::*;

use super::*;

/// How long one attempt takes.
const ATTEMPT: SignedDuration = SignedDuration::from_millis(10);

/// A world whose deliveries take time, at a far side that never takes some events.
struct Played {
    world: World,
    began: Timestamp,
    /// When what is in flight ends.
    ends: BTreeMap<Seq, Timestamp>,
    /// When each event was delivered, since the beginning.
    delivered: BTreeMap<i64, SignedDuration>,
}

impl Played {
    fn new(log: Vec<StoredEvent>, config: Config) -> Self {
        let world = World::new(log, config);
        Self { began: world.now, world, ends: BTreeMap::new(), delivered: BTreeMap::new() }
    }

    /// Goes on for so long; `outcome` says what becomes of an event whenever it is tried.
    fn go_on(&mut self, seconds: i64, outcome: impl Fn(&StoredEvent) -> Outcome) {
        let world = &mut self.world;
        let end = world.now + SignedDuration::from_secs(seconds);
        while world.now < end {
            world.turn();
            world.commit();
            for at in &world.in_flight {
                self.ends.entry(*at).or_insert(world.now + ATTEMPT);
            }
            let first = self.ends.iter().map(|(at, time)| (*time, *at)).min();
            match (first, world.core.next_due().filter(|due| *due > world.now)) {
                (Some((time, at)), due) if due.is_none_or(|due| time <= due) => {
                    world.now = world.now.max(time);
                    self.ends.remove(&at);
                    let outcome = outcome(world.stored(at));
                    if matches!(outcome, Outcome::Delivered { .. }) {
                        self.delivered.insert(at.get(), world.now.duration_since(self.began));
                    }
                    let place = world.in_flight.iter().position(|other| *other == at).unwrap();
                    world.finish(place, outcome, 0.7);
                }
                (_, Some(due)) => world.now = due.min(end),
                (_, None) => world.now = end,
            }
        }
    }

    /// More events have come in.
    fn arrive(&mut self, events: impl IntoIterator<Item = StoredEvent>) {
        self.world.log.extend(events);
    }

    /// When the last of these was delivered.
    fn last_of(&self, events: impl IntoIterator<Item = i64>) -> SignedDuration {
        let time = |at| self.delivered.get(&at).unwrap_or_else(|| panic!("{at} is not delivered"));
        events.into_iter().map(time).max().copied().unwrap_or_default()
    }
}

/// As of the defaults; every sink wants every type.
fn defaults(concurrency: usize) -> Config {
    let config = config(Ordering::Key, concurrency);
    let (max, give_up_after) = (Duration::from_secs(600), Duration::from_secs(72 * 3600));
    let retry = Retry { max, give_up_after, max_parked: 100_000, ..config.retry };
    Config { route: Route::new(vec![]), retry, ..config }
}

fn of_type(at: i64, event_type: &str) -> StoredEvent {
    event(at, &format!("key-{at}"), event_type, false)
}

fn takes_no_kyc(event: &StoredEvent) -> Outcome {
    if event.event_type.as_str().starts_with("kyc.") { down() } else { delivered() }
}

fn refuses_kyc(event: &StoredEvent) -> Outcome {
    if event.event_type.as_str().starts_with("kyc.") { refused() } else { delivered() }
}

/// `N t / concurrency`, and what comes to it while something succeeds.
fn bound(events: i64, concurrency: i32) -> SignedDuration {
    ATTEMPT * i32::try_from(events).unwrap() / concurrency + SignedDuration::from_secs(10)
}

/// The run that stopped a sink for good.
#[test]
fn a_run_of_a_type_that_is_never_taken_ends_with_the_first_event_of_another() {
    for outcome in [takes_no_kyc, refuses_kyc] {
        let log = (1..=1000).map(|at| of_type(at, "kyc.session_created"));
        let log = log.chain([of_type(1001, "payin.completed")]).collect();
        let mut played = Played::new(log, defaults(32));
        played.go_on(60, outcome);
        let last = played.last_of([1001]);
        assert!(last <= SignedDuration::from_secs(2), "{last:?}");
    }
}

/// Later ones of the other types, too, for as long as the class fails.
#[test]
fn what_comes_behind_a_class_is_delivered_as_it_comes() {
    let log = (1..=1000).map(|at| of_type(at, "kyc.session_created"));
    let mut played = Played::new(log.chain([of_type(1001, "payin.completed")]).collect(), defaults(32));
    played.go_on(60, takes_no_kyc);
    for at in 1002..1102 {
        let event_type = if at % 2 == 0 { "kyc.session_created" } else { "payin.completed" };
        let came = played.world.now.duration_since(played.began);
        played.arrive([of_type(at, event_type)]);
        played.go_on(20, takes_no_kyc);
        if at % 2 == 1 {
            let took = played.last_of([at]) - came;
            assert!(took <= bound(1050, 32), "{at} took {took:?}");
        }
    }
}

#[test]
fn a_class_mixed_with_what_succeeds_costs_its_attempts_and_no_more() {
    for outcome in [takes_no_kyc, refuses_kyc] {
        for every in [2, 10, 100] {
            let of = |at: i64| of_type(at, if at % every == 0 { "payin.completed" } else { "kyc.session_created" });
            let mut played = Played::new((1..=2000).map(of).collect(), defaults(32));
            played.go_on(60, outcome);
            let last = played.last_of((1..=2000).filter(|at| at % every == 0));
            assert!(last <= bound(2000, 32), "one of {every}: {last:?}");
        }
    }
}

/// Repeated every second, all those attempts would be more than the sink takes.
#[test]
fn what_a_class_repeats_takes_little_of_the_turns() {
    let mut config = defaults(2);
    config.retry.max = Duration::from_secs(1);
    let of = |at: i64| of_type(at, if at % 10 == 0 { "payin.completed" } else { "kyc.session_created" });
    let mut played = Played::new((1..=4000).map(of).collect(), config);
    played.go_on(60, takes_no_kyc);
    let last = played.last_of((1..=4000).filter(|at| at % 10 == 0));
    assert!(last <= bound(4000, 2), "{last:?}");
}

#[test]
fn a_key_that_is_never_taken_holds_up_no_other() {
    let log = (1..=3000).map(|at| event(at, if at <= 2000 { "bad" } else { "good" }, "payin.completed", false));
    let mut played = Played::new(log.collect(), defaults(32));
    played.go_on(60, |event| if event.key.as_str() == "bad" { down() } else { delivered() });
    let last = played.last_of(2001..=3000);
    assert!(last <= ATTEMPT * 1000 + SignedDuration::from_secs(10), "one after the other, and {last:?}");
}

#[test]
fn what_is_proven_bad_is_given_up_in_time_whatever_the_breaker_says() {
    let mut config = defaults(32);
    config.retry.give_up_after = Duration::from_secs(7200);
    let bad = (1..=100).map(|at| of_type(at, "kyc.session_created"));
    let mut played = Played::new(bad.collect(), config);
    for minute in 0..60 {
        played.arrive([of_type(101 + minute, "payin.completed")]);
        played.go_on(60, takes_no_kyc);
    }
    assert_eq!(played.world.dead(), Vec::<i64>::new(), "an hour");
    played.arrive((161..=200).map(|at| of_type(at, "payin.completed")));
    played.go_on(7200, |_| down());
    assert!(played.world.core.is_open());
    assert_eq!(played.world.dead(), (1..=100).collect::<Vec<_>>(), "and two more, in which the sink was down");
    played.world.run_to_the_end();
    assert_eq!(played.world.dead().len(), 100, "what fails only because the sink is down is not given up");
}

#[test]
fn at_the_cap_what_is_proven_bad_makes_room() {
    let mut config = defaults(8);
    (config.retry.max_parked, config.retry.max) = (100, Duration::from_secs(60));
    let of = |at: i64| of_type(at, if at % 2 == 0 { "payin.completed" } else { "kyc.session_created" });
    let mut played = Played::new((1..=2000).map(of).collect(), config);
    played.go_on(1800, takes_no_kyc);
    let world = &played.world;
    assert!(world.disk.health.reading_stopped && (100..=356).contains(&world.disk.parked.len()));
    assert_eq!((world.dead(), world.disk.delivered.len() < 1000), (vec![], true), "nothing for an hour: reading stops");
    let stopped_at = world.disk.delivered.len();
    played.go_on(7200, takes_no_kyc);
    let world = &played.world;
    assert!(!world.dead().is_empty(), "the oldest ones have made room");
    assert!(world.disk.delivered.len() > stopped_at + 100, "and reading goes on");
    assert!(world.disk.dead.values().all(|letter| letter.reason.starts_with("gave up: 100 events wait")));
    assert!(world.disk.dead.values().all(|letter| letter.attempts >= 10));
}

/// A sink with so few orders that its breaker never opens comes back as soon.
#[test]
fn a_few_orders_are_tried_as_often_as_a_sink_is_probed() {
    let mut played = Played::new(events(4), defaults(32));
    played.go_on(1800, |_| down());
    assert!(!played.world.core.is_open() && played.world.disk.health.is_failing());
    let back = played.world.now.duration_since(played.began);
    played.go_on(60, |_| delivered());
    let first = played.delivered.values().min().copied().unwrap() - back;
    assert!(first <= SignedDuration::from_secs(17), "{first:?}");
    let last = played.last_of(1..=4) - back;
    assert!(last <= first + SignedDuration::from_secs(1), "the others follow at once: {last:?}");
}

#[test]
fn an_outage_of_any_length_ends_within_the_longest_wait() {
    for outage in [10, 60, 600, 7200] {
        let mut played = Played::new(events(1000), defaults(32));
        played.go_on(outage, |_| down());
        assert!(played.world.core.is_open());
        let back = played.world.now.duration_since(played.began);
        played.go_on(60, |_| delivered());
        let first = played.delivered.values().min().copied().unwrap() - back;
        assert!(first <= SignedDuration::from_secs(17), "after {outage} s: {first:?}");
        assert_eq!(played.delivered.len(), 1000);
    }
}

/// Two, four, eight: not all at once.
#[test]
fn after_an_outage_deliveries_grow_by_the_second() {
    let mut played = Played::new(events(100_000), defaults(200));
    played.go_on(600, |_| down());
    while played.delivered.is_empty() {
        played.go_on(1, |_| delivered());
    }
    let first = played.delivered.values().min().copied().unwrap();
    played.go_on(10, |_| delivered());
    let per_second = |second: i32| {
        let (from, to) =
            (first + SignedDuration::from_secs(1) * second, first + SignedDuration::from_secs(1) * (second + 1));
        played.delivered.values().filter(|at| from < **at && **at <= to).count()
    };
    let counts: Vec<usize> = (0..7).map(per_second).collect();
    assert!(counts[0] <= 450 && counts[1] <= 850 && counts[2] <= 1650, "{counts:?}");
    assert!(counts[6] > 10_000, "{counts:?}");
}

#[test]
fn a_rate_bounds_every_attempt() {
    let mut config = defaults(32);
    config.rate = Some(Rate::new(10.0));
    let mut played = Played::new(events(1000), config);
    played.go_on(20, |event| if event.seq.get() % 2 == 0 { down() } else { delivered() });
    let attempts = played.world.disk.attempts.len();
    assert!((190..=215).contains(&attempts), "{attempts} attempts in 20 seconds");
}

#[test]
fn a_person_has_it_tried_now() {
    let mut played = Played::new(events(100), defaults(32));
    played.go_on(3600, |_| Outcome::Transient {
        reason: Reason::new("HTTP 503"),
        retry_after: Some(Duration::from_secs(590)),
    });
    let world = &mut played.world;
    assert!(
        world.core.next_due().is_some_and(|due| due > world.now + SignedDuration::from_secs(60)),
        "as it was asked for"
    );
    world.core.try_now(world.now);
    world.turn();
    assert!(!world.in_flight.is_empty(), "at once");
}

#[test]
fn a_person_takes_parked_events_away_or_has_them_tried() {
    let mut played = Played::new(of_keys(&["a", "a", "b"]), defaults(32));
    played.go_on(1, |_| down());
    let world = &mut played.world;
    assert_eq!(world.parked(), [1, 2, 3]);
    world.core.are_due(&[seq(3), seq(99)], world.now);
    world.turn();
    assert_eq!(world.in_flight, [seq(3)]);
    [1, 3].into_iter().for_each(|at| _ = world.disk.parked.remove(&seq(at)));
    world.core.unparked(&[seq(1), seq(3), seq(99)], world.now);
    world.finish(0, delivered(), 0.5);
    world.wait(1);
    world.turn();
    assert_eq!(world.in_flight, [seq(2)], "what waited behind it goes on");
    world.finish(0, delivered(), 0.5);
    for _ in 0..2 {
        world.turn();
        world.commit();
    }
    assert_eq!(world.parked(), Vec::<i64>::new());
}

/// Discarded while it is in flight, an event that fails is not tried again, and its order goes on.
#[test]
fn what_is_discarded_in_flight_is_not_tried_again() {
    let mut played = Played::new(of_keys(&["a", "a"]), defaults(32));
    played.go_on(1, |_| down());
    let world = &mut played.world;
    world.core.try_now(world.now);
    world.turn();
    assert_eq!(world.in_flight, [seq(1)]);
    world.disk.parked.remove(&seq(1));
    world.core.unparked(&[seq(1)], world.now);
    world.finish(0, down(), 0.5);
    world.turn();
    assert_eq!(world.record.as_ref().map(|record| record.park.iter().any(|parked| parked.seq == seq(1))), Some(false));
    world.commit();
    for _ in 0..100 {
        world.turn();
        assert!(!world.in_flight.contains(&seq(1)), "a person has discarded it");
        world.finish_all(&down());
        world.commit();
        world.now = world.core.next_due().map_or(world.now, |due| due.max(world.now));
    }
    assert!(world.attempts_of(2) > 0, "what waited behind it goes on");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Classes drawn by chance: by type, by content, by key; for now or for good; however they are mixed.
    #[test]
    fn no_class_holds_up_what_is_not_of_it(
        kinds in prop::collection::vec(any::<u8>(), 50..400),
        run in 0..600_i64,
        by in 0..3_u8,
        permanent in any::<bool>(),
        concurrency in 1..64_usize,
        by_key in any::<bool>(),
    ) {
        // By content it is up to chance: some share of what waits has to be healthy, or a draw takes long to find it.
        let run = if by == 2 { run % 100 } else { run };
        let is_bad = |kind: u8| kind.is_multiple_of(3);
        let of = |at: i64, kind: u8| {
            let event_type = if by == 0 && is_bad(kind) { "kyc.state_updated" } else { "payin.completed" };
            let key = if by == 1 && is_bad(kind) { format!("bad-{}", kind % 5) } else { format!("key-{at}") };
            let content = if by == 2 && is_bad(kind) { "bad" } else { "good" };
            let body = Some(bytes::Bytes::from_static(content.as_bytes()));
            StoredEvent { body, ..event(at, &key, event_type, false) }
        };
        let all = (0..run).map(|_| 0).chain(kinds.iter().copied());
        let log: Vec<StoredEvent> = (1..).zip(all).map(|(at, kind)| of(at, kind)).collect();
        let fails = |event: &StoredEvent| {
            event.event_type.as_str().starts_with("kyc")
                || event.key.as_str().starts_with("bad")
                || event.body.as_deref() == Some(b"bad")
        };
        let healthy: Vec<i64> = log.iter().filter(|event| !fails(event)).map(|event| event.seq.get()).collect();
        let mut config = defaults(concurrency);
        config.ordering = if by_key { Ordering::Key } else { Ordering::None };
        let total = i64::try_from(log.len()).unwrap();
        let mut played = Played::new(log, config);
        played.go_on(600, |event| match fails(event) {
            true if permanent => refused(),
            true => down(),
            false => delivered(),
        });
        let last = played.last_of(healthy);
        let most = bound(2 * total, i32::try_from(concurrency).unwrap()) + SignedDuration::from_secs(300);
        prop_assert!(last <= most, "{last:?} of {most:?}");
    }
}
