//! The core over a model of the inbox and of the far side.

mod breaker;
mod classes;
mod orders;
mod plain;
mod random;
mod replay;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::breaker::PROBE;
use super::core::{Core, Start, Switched, UNRECORDED};
use super::{Config, Ordering, Rate, Retry};
use crate::inbox::{
    Attempt, ConsumerId, ConsumerState, DeadLetter, EventOutline, Parked, Progress, SinkHealth, Standing, StoredEvent,
};
use crate::model::{EntityKey, EventId, EventType, Outcome, Reason, Seq, SinkName, SourceName, Start as StartAt};
use crate::route::{Glob, Route};

fn config(ordering: Ordering, concurrency: usize) -> Config {
    Config {
        name: SinkName::new("bus").unwrap(),
        route: Route::new(vec![Glob::new("payin.*").unwrap()]),
        ordering,
        start: StartAt::Earliest,
        concurrency,
        timeout: Duration::from_secs(10),
        rate: None,
        retry: Retry {
            initial: Duration::from_secs(1),
            max: Duration::from_secs(60),
            jitter: true,
            give_up_after: Duration::from_secs(3600),
            breaker_after: 10,
            probe_max: Duration::from_secs(15),
            max_parked: 10_000,
        },
    }
}

/// As above; the breaker opens after so many failures.
fn config_with(concurrency: usize, breaker_after: usize) -> Config {
    let config = config(Ordering::Key, concurrency);
    Config { retry: Retry { breaker_after, ..config.retry }, ..config }
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
        content_encoding: None,
        body: Some(bytes::Bytes::from_static(b"{}")),
        altered: None,
    }
}

/// So many events, each of a key of its own.
fn events(number: i64) -> Vec<StoredEvent> {
    (1..=number).map(|at| event(at, &format!("key-{at}"), "payin.completed", false)).collect()
}

/// Events of these keys.
fn of_keys(keys: &[&str]) -> Vec<StoredEvent> {
    keys.iter().zip(1..).map(|(key, at)| event(at, key, "payin.completed", false)).collect()
}

/// What the inbox has of a consumer.
struct Disk {
    cursor: Seq,
    parked: BTreeMap<Seq, Parked>,
    delivered: BTreeSet<Seq>,
    dead: BTreeMap<Seq, DeadLetter>,
    discarded: BTreeSet<Seq>,
    attempts: Vec<Attempt>,
    standing: Standing,
    health: SinkHealth,
    paused: bool,
    /// Rows written for parked events.
    park_rows: usize,
}

/// What the inbox would hold, and what the far side saw.
struct World {
    log: Vec<StoredEvent>,
    config: Config,
    rate: Option<f64>,
    now: Timestamp,
    disk: Disk,
    /// First hand-overs, by key.
    handed_over: HashMap<String, Vec<Seq>>,
    /// Dead letters that were tried again: their order is not promised.
    revived: BTreeSet<Seq>,
    core: Core,
    in_flight: Vec<Seq>,
    /// In flight, and read again first.
    reread: BTreeSet<Seq>,
    /// What was started while the breaker was open.
    probe: BTreeSet<Seq>,
    /// Deliveries whose outcome is not on disk.
    unrecorded: usize,
    record: Option<Progress>,
}

impl World {
    fn new(log: Vec<StoredEvent>, config: Config) -> Self {
        Self::paced(log, config, None)
    }

    fn paced(log: Vec<StoredEvent>, config: Config, rate: Option<f64>) -> Self {
        let now = Timestamp::from_second(1_000_000).unwrap();
        let disk = Disk {
            cursor: Seq::ZERO,
            parked: BTreeMap::new(),
            delivered: BTreeSet::new(),
            dead: BTreeMap::new(),
            discarded: BTreeSet::new(),
            attempts: vec![],
            standing: Standing::default(),
            health: SinkHealth::default(),
            paused: false,
            park_rows: 0,
        };
        Self {
            core: Core::new(config.clone(), disk.state(), &[], rate, 7, now),
            log,
            config,
            rate,
            now,
            disk,
            handed_over: HashMap::new(),
            revived: BTreeSet::new(),
            in_flight: vec![],
            reread: BTreeSet::new(),
            probe: BTreeSet::new(),
            unrecorded: 0,
            record: None,
        }
    }

    fn stored(&self, at: Seq) -> &StoredEvent {
        &self.log[usize::try_from(at.get()).unwrap() - 1]
    }

    fn wanted(&self, event: &StoredEvent) -> bool {
        self.config.route.wants(&event.event_type)
    }

    fn read(&mut self) {
        if let Some((after, limit)) = self.core.wants() {
            let from = usize::try_from(after.get()).unwrap();
            let events: Vec<_> = self.log[from..].iter().take(limit).cloned().collect();
            let read_to = events.last().map_or(after, |event| event.seq);
            let events = events.into_iter().map(|event| (event.clone(), self.wanted(&event))).collect();
            self.core.read(events, read_to, self.now);
        }
    }

    /// What the loop around the core does each time round.
    fn turn(&mut self) {
        self.read();
        let probing = self.core.is_open();
        let starts = self.core.start(self.now);
        assert!(!probing || starts.len() + self.probe.len() <= PROBE, "one probe at a time");
        for start in starts {
            let at = match start {
                Start::Event(event) => event.seq,
                Start::Reread(at) => {
                    self.reread.insert(at);
                    at
                }
            };
            self.hand_over(at);
            self.probe.extend(probing.then_some(at));
        }
        assert!(self.in_flight.len() <= self.config.concurrency);
        assert!(self.in_flight.len() + self.unrecorded <= UNRECORDED * self.config.concurrency);
        if self.record.is_none() {
            self.record = self.core.take_progress();
        }
    }

    fn hand_over(&mut self, at: Seq) {
        assert!(!self.disk.paused, "{at} is started by a consumer that is paused");
        assert!(!self.in_flight.contains(&at), "{at} is in flight twice");
        assert!(!self.is_final(at), "{at} is final, and started");
        let key = self.stored(at).key.as_str().to_owned();
        if self.config.ordering == Ordering::Key {
            let busy = self.in_flight.iter().any(|other| self.stored(*other).key.as_str() == key);
            assert!(!busy, "two events of {key} are in flight");
            let first = self.handed_over.entry(key).or_default();
            if !first.contains(&at) && !self.revived.contains(&at) {
                assert!(first.iter().all(|earlier| *earlier < at), "{at} is handed over after a later event");
                first.push(at);
            }
        }
        self.in_flight.push(at);
    }

    /// The number of final states that an event has on disk, and whether it has one.
    fn is_final(&self, at: Seq) -> bool {
        let Disk { delivered, dead, discarded, .. } = &self.disk;
        let ends = [delivered.contains(&at), dead.contains_key(&at), discarded.contains(&at)];
        let ends = ends.into_iter().filter(|end| *end).count();
        assert!(ends <= 1, "{at} has ended in {ends} ways");
        ends == 1
    }

    /// Whatever is at this place in the list of what is in flight has ended.
    fn finish(&mut self, choice: usize, outcome: Outcome, chance: f64) -> Option<Switched> {
        if self.in_flight.is_empty() {
            return None;
        }
        let at = self.in_flight.swap_remove(choice % self.in_flight.len());
        self.unrecorded += 1;
        self.reread.remove(&at);
        let latency = Duration::from_millis(5);
        let switched = self.core.finished(at, self.now - latency, latency, outcome, chance);
        self.probe.remove(&at);
        if switched == Some(Switched::Closed) {
            self.probe.clear();
        }
        switched
    }

    /// What is in flight has come to nothing.
    fn lands_nowhere(&mut self) {
        self.in_flight.clear();
        self.reread.clear();
        self.probe.clear();
    }

    /// Everything in flight has ended so.
    fn finish_all(&mut self, outcome: &Outcome) {
        while !self.in_flight.is_empty() {
            self.finish(0, outcome.clone(), 1.0);
        }
    }

    fn commit(&mut self) {
        let Some(progress) = self.record.take() else { return };
        self.unrecorded -= progress.attempts.len();
        let disk = &mut self.disk;
        for attempt in &progress.attempts {
            if matches!(attempt.outcome, Outcome::Delivered { .. }) {
                disk.delivered.insert(attempt.seq);
            }
        }
        disk.park_rows += progress.park.len();
        progress.park.iter().for_each(|event| _ = disk.parked.insert(event.seq, event.clone()));
        progress.unpark.iter().for_each(|at| _ = disk.parked.remove(at));
        progress.dead.iter().for_each(|letter| _ = disk.dead.insert(letter.seq, letter.clone()));
        progress.discarded.iter().for_each(|event| _ = disk.discarded.insert(event.seq));
        disk.attempts.extend(progress.attempts);
        disk.standing = progress.standing;
        disk.health = progress.health;
        assert!(progress.cursor >= disk.cursor, "the cursor goes forward");
        let passed = disk.cursor.get()..progress.cursor.get();
        disk.cursor = progress.cursor;
        self.core.recorded();
        for event in passed.map(|before| self.stored(seq(before + 1))) {
            let settled = !self.wanted(event) || self.is_final(event.seq) || self.disk.parked.contains_key(&event.seq);
            assert!(settled, "the cursor {} has passed {} without a trace", self.disk.cursor, event.seq);
        }
        assert!(self.disk.parked.keys().all(|at| !self.is_final(*at)), "parked and final");
    }

    /// What was not recorded is forgotten.
    fn crash(&mut self) {
        let outlines: Vec<_> = self.disk.parked.keys().map(|at| EventOutline::from(self.stored(*at))).collect();
        self.core = Core::new(self.config.clone(), self.disk.state(), &outlines, self.rate, 7, self.now);
        self.in_flight.clear();
        self.reread.clear();
        self.probe.clear();
        (self.unrecorded, self.record) = (0, None);
    }

    fn pause(&mut self, paused: bool) {
        self.disk.paused = paused;
        if paused { self.core.pause(self.now) } else { self.core.resume(self.now) }
    }

    /// A person has a dead letter tried again.
    fn revive(&mut self, choice: usize) {
        let Some(at) = self.disk.dead.keys().copied().nth(choice % self.disk.dead.len().max(1)) else { return };
        let letter = self.disk.dead.remove(&at).unwrap();
        let parked = Parked {
            seq: at,
            attempts: letter.attempts,
            first_attempt: None,
            still: Duration::ZERO,
            next_attempt: self.now,
            own_failures: 0,
        };
        self.revived.insert(at);
        self.disk.parked.insert(at, parked.clone());
        let outline = EventOutline::from(self.stored(at));
        // Told twice, it is taken in once.
        for _ in 0..2 {
            self.core.adopt(std::slice::from_ref(&parked), std::slice::from_ref(&outline));
        }
    }

    fn wait(&mut self, seconds: i64) {
        self.now += SignedDuration::from_secs(seconds);
    }

    /// Turns until nothing is left to do, however long that takes; everything that is tried ends so.
    fn run_on(&mut self, outcome: &Outcome) {
        for _ in 0..100_000 {
            self.turn();
            if self.in_flight.is_empty() && self.record.is_none() {
                match self.core.next_due() {
                    Some(due) => self.now = self.now.max(due),
                    None => return,
                }
            }
            self.finish(0, outcome.clone(), 0.5);
            self.commit();
        }
        panic!("it does not come to an end");
    }

    fn run_to_the_end(&mut self) {
        self.run_on(&Outcome::delivered("ok"));
    }

    fn parked(&self) -> Vec<i64> {
        self.disk.parked.keys().map(|at| at.get()).collect()
    }

    fn dead(&self) -> Vec<i64> {
        self.disk.dead.keys().map(|at| at.get()).collect()
    }

    fn attempts_of(&self, at: i64) -> usize {
        self.disk.attempts.iter().filter(|attempt| attempt.seq == seq(at)).count()
    }

    fn assert_settled(&self) {
        assert_eq!(self.disk.cursor.get(), self.log.len() as i64);
        assert!(self.disk.parked.is_empty(), "still parked: {:?}", self.disk.parked);
        for event in &self.log {
            let (at, wanted) = (event.seq, self.wanted(event));
            assert_eq!(self.is_final(at), wanted, "{at}");
            assert_eq!(self.disk.discarded.contains(&at), wanted && event.body.is_none(), "{at} has no body");
            let held_back = event.conflict && !self.revived.contains(&at);
            assert!(!held_back || !self.disk.delivered.contains(&at), "the conflict {at} was delivered");
        }
    }
}

impl Disk {
    fn state(&self) -> ConsumerState {
        let ends = self.delivered.iter().chain(self.dead.keys()).chain(&self.discarded);
        ConsumerState {
            id: ConsumerId::new(1),
            cursor: self.cursor,
            parked: self.parked.values().cloned().collect(),
            done_above: ends.copied().filter(|at| *at > self.cursor).collect(),
            dead_letters: self.dead.len() as u64,
            standing: self.standing,
            health: self.health.clone(),
            paused: self.paused,
            selection: None,
        }
    }
}

/// Fails for now.
fn down() -> Outcome {
    Outcome::transient("down")
}

/// Refused for good.
fn refused() -> Outcome {
    Outcome::permanent("HTTP 400")
}

fn delivered() -> Outcome {
    Outcome::delivered("ok")
}
