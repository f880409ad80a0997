//! Random schedules of outcomes, restarts, failed records and clock jumps against the core, over a model of the inbox.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::core::{Core, Start};
use super::{Config, Ordering, Retry};
use crate::inbox::{ConsumerState, Parked, Progress, StoredEvent};
use crate::model::{EntityKey, EventId, EventType, Outcome, Seq, SinkName, SourceName, Start as StartAt};
use crate::route::{Glob, Route};

fn config(ordering: Ordering, concurrency: usize) -> Config {
    Config {
        name: SinkName::new("bus").unwrap(),
        route: Route::new(vec![Glob::new("payin.*").unwrap()]),
        ordering,
        start: StartAt::Earliest,
        concurrency,
        timeout: Duration::from_secs(10),
        retry: Retry {
            initial: Duration::from_secs(1),
            max: Duration::from_secs(60),
            jitter: true,
            give_up_after: Duration::from_secs(3600),
        },
    }
}

fn seq(value: i64) -> Seq {
    Seq::new(value).unwrap()
}

fn event(at: i64, key: &str, event_type: &str, conflict: bool) -> StoredEvent {
    StoredEvent {
        seq: seq(at),
        id: EventId::new(&format!("evt-{at}")).unwrap(),
        event_type: EventType::canonical(event_type).unwrap(),
        source: SourceName::new("test").unwrap(),
        key: EntityKey::new(key).unwrap(),
        time: None,
        received_at: Timestamp::UNIX_EPOCH,
        stale: false,
        conflict,
        signature: String::new(),
        content_type: None,
        body: Some(bytes::Bytes::from_static(b"{}")),
    }
}

/// What the inbox would hold, and what the far side saw.
struct World {
    log: Vec<StoredEvent>,
    config: Config,
    now: Timestamp,
    cursor: Seq,
    parked: BTreeMap<Seq, Parked>,
    delivered: BTreeSet<Seq>,
    dead: BTreeSet<Seq>,
    /// First hand-overs, by key.
    handed_over: HashMap<String, Vec<Seq>>,
    core: Core,
    in_flight: Vec<Seq>,
    record: Option<Progress>,
}

impl World {
    fn new(log: Vec<StoredEvent>, config: Config) -> Self {
        let now = Timestamp::from_second(1_000_000).unwrap();
        let state = ConsumerState { cursor: Seq::ZERO, parked: vec![], done_above: BTreeSet::new(), dead_letters: 0 };
        let core = Core::new(config.clone(), state, &[]);
        Self {
            log,
            config,
            now,
            cursor: Seq::ZERO,
            parked: BTreeMap::new(),
            delivered: BTreeSet::new(),
            dead: BTreeSet::new(),
            handed_over: HashMap::new(),
            core,
            in_flight: vec![],
            record: None,
        }
    }

    fn stored(&self, at: Seq) -> &StoredEvent {
        &self.log[usize::try_from(at.get()).unwrap() - 1]
    }

    fn wanted(&self, event: &StoredEvent) -> bool {
        self.config.route.wants(&event.event_type)
    }

    /// What the loop around the core does each time round.
    fn turn(&mut self) {
        if let Some((after, limit)) = self.core.wants() {
            let from = usize::try_from(after.get()).unwrap();
            let events = self.log[from..].iter().take(limit).cloned().collect();
            self.core.read(events, self.now);
        }
        for start in self.core.start(self.now) {
            let at = match start {
                Start::Event(event) => event.seq,
                Start::Parked(at) => at,
            };
            assert!(!self.in_flight.contains(&at), "{at} is in flight twice");
            let key = self.stored(at).key.as_str().to_owned();
            if self.config.ordering == Ordering::Key {
                let busy = self.in_flight.iter().any(|other| self.stored(*other).key.as_str() == key);
                assert!(!busy, "two events of {key} are in flight");
                let first = self.handed_over.entry(key).or_default();
                if !first.contains(&at) {
                    assert!(first.iter().all(|earlier| *earlier < at), "{at} is handed over after a later event");
                    first.push(at);
                }
            }
            self.in_flight.push(at);
        }
        assert!(self.in_flight.len() <= self.config.concurrency);
        if self.record.is_none() {
            self.record = self.core.take_progress();
        }
    }

    fn finish(&mut self, choice: usize, outcome: Outcome, chance: f64) {
        if self.in_flight.is_empty() {
            return;
        }
        let at = self.in_flight.swap_remove(choice % self.in_flight.len());
        self.core.finished(at, self.now, Duration::from_millis(5), outcome, chance);
    }

    fn commit(&mut self) {
        let Some(progress) = self.record.take() else { return };
        for attempt in &progress.attempts {
            if matches!(attempt.outcome, Outcome::Delivered { .. }) {
                self.delivered.insert(attempt.seq);
            }
        }
        progress.park.iter().for_each(|event| _ = self.parked.insert(event.seq, event.clone()));
        progress.unpark.iter().for_each(|at| _ = self.parked.remove(at));
        progress.dead.iter().for_each(|letter| _ = self.dead.insert(letter.seq));
        assert!(progress.cursor >= self.cursor, "the cursor goes forward");
        self.cursor = progress.cursor;
        self.core.recorded();
        for event in self.log.iter().take_while(|event| event.seq <= self.cursor) {
            let settled = !self.wanted(event)
                || self.delivered.contains(&event.seq)
                || self.dead.contains(&event.seq)
                || self.parked.contains_key(&event.seq);
            assert!(settled, "the cursor {} has passed {} without a trace", self.cursor, event.seq);
        }
    }

    /// What was not recorded is forgotten.
    fn crash(&mut self) {
        let final_above = self.delivered.iter().chain(&self.dead).copied().filter(|at| *at > self.cursor);
        let state = ConsumerState {
            cursor: self.cursor,
            parked: self.parked.values().cloned().collect(),
            done_above: final_above.collect(),
            dead_letters: self.dead.len() as u64,
        };
        let events: Vec<StoredEvent> = self.parked.keys().map(|at| self.stored(*at).clone()).collect();
        self.core = Core::new(self.config.clone(), state, &events);
        self.in_flight.clear();
        self.record = None;
    }

    fn run_to_the_end(&mut self) {
        for _ in 0..100_000 {
            self.turn();
            if self.in_flight.is_empty() && self.record.is_none() {
                match self.core.next_due() {
                    Some(due) => self.now = self.now.max(due),
                    None => return,
                }
            }
            self.finish(0, Outcome::delivered("ok"), 0.5);
            self.commit();
        }
        panic!("it does not come to an end");
    }

    fn assert_settled(&self) {
        assert_eq!(self.cursor.get(), self.log.len() as i64);
        assert!(self.parked.is_empty(), "still parked: {:?}", self.parked);
        for event in &self.log {
            let (delivered, dead) = (self.delivered.contains(&event.seq), self.dead.contains(&event.seq));
            assert_eq!(delivered || dead, self.wanted(event), "{}", event.seq);
            assert!(!(delivered && dead), "{} ended twice", event.seq);
            assert!(!event.conflict || !delivered, "a conflict was delivered");
        }
    }
}

fn log(keys: &[u8]) -> Vec<StoredEvent> {
    let events = keys.iter().zip(1..).map(|(&key, at)| {
        let event_type = if key % 7 == 6 { "payout.completed" } else { "payin.completed" };
        event(at, &format!("key-{}", key % 5), event_type, key % 11 == 10)
    });
    events.collect()
}

#[derive(Clone, Debug)]
enum Step {
    Deliver(usize),
    Fail(usize, Option<u64>),
    Reject(usize),
    Commit,
    Crash,
    Clock(i64),
    Turn,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => any::<usize>().prop_map(Step::Deliver),
        3 => (any::<usize>(), proptest::option::of(0..100_u64)).prop_map(|(n, asked)| Step::Fail(n, asked)),
        1 => any::<usize>().prop_map(Step::Reject),
        4 => Just(Step::Commit),
        1 => Just(Step::Crash),
        2 => (-5000..5000_i64).prop_map(Step::Clock),
        4 => Just(Step::Turn),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_event_ends_once_and_in_order(
        keys in prop::collection::vec(any::<u8>(), 0..80),
        steps in prop::collection::vec(step(), 0..300),
        by_key in any::<bool>(),
        concurrency in 1..8_usize,
    ) {
        let ordering = if by_key { Ordering::Key } else { Ordering::None };
        let mut world = World::new(log(&keys), config(ordering, concurrency));
        for step in steps {
            match step {
                Step::Deliver(n) => world.finish(n, Outcome::delivered("ok"), 0.5),
                Step::Fail(n, asked) => {
                    let outcome = Outcome::Transient {
                        reason: crate::model::Reason::new("down"),
                        retry_after: asked.map(Duration::from_secs),
                    };
                    world.finish(n, outcome, (n % 100) as f64 / 100.0);
                }
                Step::Reject(n) => world.finish(n, Outcome::permanent("no"), 0.5),
                Step::Commit => world.commit(),
                Step::Crash => world.crash(),
                Step::Clock(seconds) => world.now += SignedDuration::from_secs(seconds),
                Step::Turn => world.turn(),
            }
        }
        world.run_to_the_end();
        world.assert_settled();
    }
}

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
    world.finish(0, Outcome::transient("down"), 1.0);
    world.finish(0, Outcome::delivered("ok"), 1.0);
    world.turn();
    world.commit();
    assert!(world.in_flight.is_empty(), "the second event of the key waits behind the first");
    assert_eq!(world.parked.keys().copied().collect::<Vec<_>>(), [seq(1), seq(2)]);
    assert_eq!(world.cursor, seq(3), "parked events do not hold the cursor");
    world.run_to_the_end();
    world.assert_settled();
}

/// Parked above the cursor when the process ended, it is delivered before the log has been read that far.
#[test]
fn a_parked_event_above_the_cursor_is_not_taken_for_a_new_one() {
    let events = vec![event(1, "a", "payin.completed", false), event(2, "b", "payin.completed", false)];
    let mut world = World::new(events, config(Ordering::Key, 2));
    world.turn();
    world.finish(1, Outcome::transient("down"), 0.0);
    world.turn();
    world.commit();
    assert_eq!((world.cursor, world.parked.len()), (Seq::ZERO, 1), "the first event is still in flight");
    world.crash();
    world.now = world.core.next_due().unwrap();
    let parked = world.core.start(world.now);
    assert!(matches!(parked[..], [Start::Parked(at)] if at == seq(2)));
    world.core.finished(seq(2), world.now, Duration::ZERO, Outcome::delivered("ok"), 0.0);
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
        world.finish(0, Outcome::transient("down"), 1.0);
        world.turn();
        world.commit();
        match world.core.next_due() {
            Some(due) => world.now = due,
            None => break,
        }
    }
    assert_eq!(world.dead.iter().copied().collect::<Vec<_>>(), [seq(1)]);
    world.assert_settled();
}

#[test]
fn reading_stops_at_the_bound_of_parked_events() {
    let events = (1..=20_000).map(|at| event(at, &format!("key-{at}"), "payin.completed", false)).collect();
    let mut world = World::new(events, config(Ordering::Key, 1000));
    for _ in 0..100 {
        world.turn();
        while !world.in_flight.is_empty() {
            world.finish(0, Outcome::transient("down"), 1.0);
        }
        world.turn();
        world.commit();
    }
    assert!(world.parked.len() <= super::core::MAX_PARKED, "{} are parked", world.parked.len());
    assert!(world.cursor.get() <= super::core::MAX_PARKED as i64);
}

fn failed_once(concurrency: usize) -> World {
    let mut world = World::new(vec![event(1, "a", "payin.completed", false)], config(Ordering::Key, concurrency));
    world.turn();
    world.finish(0, Outcome::transient("down"), 1.0);
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
    world.finish(0, Outcome::delivered("ok"), 0.0);
    assert_eq!(world.core.next_due(), None, "not recorded yet");
    world.now += SignedDuration::from_secs(60);
    world.turn();
    world.turn();
    assert!(world.in_flight.is_empty(), "nothing is started while the last outcome is being recorded");
    world.commit();
    assert!(world.core.next_due().is_some());
}

#[test]
fn reading_stops_when_the_bodies_in_memory_are_many() {
    let mut events: Vec<_> = (1..=100).map(|at| event(at, &format!("key-{at}"), "payin.completed", false)).collect();
    events.iter_mut().for_each(|event| event.body = Some(bytes::Bytes::from(vec![0; 1 << 20])));
    let mut world = World::new(events, config(Ordering::Key, 100));
    world.core.read(world.log[..40].to_vec(), world.now);
    assert_eq!(world.core.wants(), None, "40 MiB wait");
    world.turn();
    assert_eq!(world.in_flight.len(), 40);
    assert!(world.core.wants().is_some(), "none waits any more");
    world.run_to_the_end();
    world.assert_settled();
}

#[test]
fn a_sink_that_wants_little_reads_on_in_long_strides() {
    let events = (1..=1000).map(|at| event(at, "a", "payout.completed", false)).collect();
    let mut world = World::new(events, config(Ordering::Key, 1));
    let mut records = 0;
    while world.cursor.get() < 1000 {
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
    assert_eq!((world.cursor, world.parked.len()), (seq(2), 2));
    world.run_to_the_end();
    world.assert_settled();
}

#[test]
fn an_event_counts_as_parked_as_long_as_it_is_so_on_disk() {
    let mut world = World::new(vec![event(1, "a", "payin.completed", false)], config(Ordering::Key, 1));
    world.turn();
    world.finish(0, Outcome::transient("down"), 1.0);
    world.turn();
    assert_eq!(world.core.parked_on_disk(), 0, "being recorded");
    world.commit();
    assert_eq!(world.core.parked_on_disk(), 1);
    world.crash();
    assert_eq!(world.core.parked_on_disk(), 1, "after a restart");
    world.now = world.core.next_due().unwrap();
    world.turn();
    world.finish(0, Outcome::delivered("ok"), 0.0);
    assert_eq!(world.core.parked_on_disk(), 1, "delivered, and not recorded");
    world.turn();
    assert_eq!(world.core.parked_on_disk(), 1, "being recorded");
    world.commit();
    assert_eq!(world.core.parked_on_disk(), 0);
}
