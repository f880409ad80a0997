//! Every event is in exactly one state at every sink, and keeps its body for as long as one of them may need it:
//! random histories against a model.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::inbox::{ConsumerId, Discarded, JobState, JobUpdate, LetterFilter, Pair, PairState, ParkedFilter, Task};
use crate::model::{JobId, Outcome};

const SINKS: [&str; 2] = ["app", "bus"];

/// What becomes of an event that a consumer has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Delivered,
    Filtered,
    Parked,
    Dead,
    Discarded,
}

#[derive(Clone, Debug)]
enum Op {
    Append(usize),
    /// The cursor moves over so many events.
    Consume(usize, Vec<Fate>),
    /// An event above the cursor is delivered.
    Overtake(usize, Index),
    /// A parked event comes to an end.
    Unpark(usize, Index, bool),
    Retry(usize, Option<Index>),
    Discard(usize, Option<Index>),
    /// A person gives up a parked event, or all of the sink.
    GiveUp(usize, Option<Index>),
    Rename(usize),
    Prune,
    /// A replay begins, of this part of what the sink has seen.
    Replay(usize, Index),
    /// The replay goes on by so many events, and sets the last aside or not.
    GoOn(usize, bool),
    EndReplay,
    Reopen,
}

fn op() -> impl Strategy<Value = Op> {
    use Fate::*;
    let fate = prop_oneof![Just(Delivered), Just(Filtered), Just(Parked), Just(Dead), Just(Discarded)];
    let sink = 0..SINKS.len();
    prop_oneof![
        3 => (1..6_usize).prop_map(Op::Append),
        5 => (sink.clone(), prop::collection::vec(fate, 1..6)).prop_map(|(sink, fates)| Op::Consume(sink, fates)),
        1 => (sink.clone(), any::<Index>()).prop_map(|(sink, which)| Op::Overtake(sink, which)),
        3 => (sink.clone(), any::<Index>(), any::<bool>()).prop_map(|(sink, which, ok)| Op::Unpark(sink, which, ok)),
        2 => (sink.clone(), any::<Option<Index>>()).prop_map(|(sink, which)| Op::Retry(sink, which)),
        2 => (sink.clone(), any::<Option<Index>>()).prop_map(|(sink, which)| Op::Discard(sink, which)),
        1 => (sink.clone(), any::<Option<Index>>()).prop_map(|(sink, which)| Op::GiveUp(sink, which)),
        1 => sink.clone().prop_map(Op::Rename),
        3 => Just(Op::Prune),
        1 => (sink, any::<Index>()).prop_map(|(sink, from)| Op::Replay(sink, from)),
        2 => (1..4_usize, any::<bool>()).prop_map(|(count, aside)| Op::GoOn(count, aside)),
        1 => Just(Op::EndReplay),
        1 => Just(Op::Reopen),
    ]
}

#[derive(Clone, Debug)]
struct Sink {
    id: ConsumerId,
    name: String,
    cursor: i64,
    /// What it has come to; what is missing waits.
    fates: BTreeMap<i64, Fate>,
}

struct Replaying {
    job: JobId,
    id: ConsumerId,
    cursor: i64,
    last: i64,
    aside: Option<i64>,
}

struct World {
    config: Config,
    inbox: SqliteInbox,
    head: i64,
    sinks: Vec<Sink>,
    replay: Option<Replaying>,
    bodies: std::collections::BTreeSet<i64>,
}

fn recorded(consumer: ConsumerId, cursor: i64, fates: &[(i64, Fate)]) -> Progress {
    let mut progress = progress(consumer, cursor);
    for &(at, fate) in fates {
        match fate {
            Fate::Delivered => progress.attempts.push(attempt(at, 1, Outcome::delivered("ok"))),
            Fate::Filtered => {}
            Fate::Parked => progress.park.push(parked(at, 1)),
            Fate::Dead => progress.dead.push(letter(at, "no")),
            Fate::Discarded => {
                progress.discarded.push(Discarded { seq: seq(at), reason: "pruned".to_owned(), at: now() });
            }
        }
    }
    progress
}

impl World {
    async fn new(config: Config) -> Self {
        let inbox = open(&config);
        let mut sinks = Vec::new();
        for name in SINKS {
            let id = register(&inbox, name).await.id;
            sinks.push(Sink { id, name: name.to_owned(), cursor: 0, fates: BTreeMap::new() });
        }
        Self { config, inbox, head: 0, sinks, replay: None, bodies: Default::default() }
    }

    /// The places at which a sink's events have met this fate.
    fn with(&self, sink: usize, fate: Fate) -> Vec<i64> {
        self.sinks[sink].fates.iter().filter(|(_, found)| **found == fate).map(|(&at, _)| at).collect()
    }

    async fn step(&mut self, op: Op) {
        match op {
            Op::Append(count) => {
                for _ in 0..count {
                    self.head += 1;
                    let id = self.head.to_string();
                    append(&self.inbox, "one", &payin(&id, &id, "COMPLETED")).await;
                    self.bodies.insert(self.head);
                }
            }
            Op::Consume(sink, fates) => self.consume(sink, fates).await,
            Op::Overtake(sink, which) => {
                let Sink { id, cursor, .. } = self.sinks[sink];
                if cursor < self.head {
                    let at = cursor + 1 + which.index((self.head - cursor) as usize) as i64;
                    if self.sinks[sink].fates.insert(at, Fate::Delivered).is_none() {
                        self.inbox.record(recorded(id, cursor, &[(at, Fate::Delivered)])).await.unwrap();
                    }
                }
            }
            Op::Unpark(sink, which, is_delivered) => {
                let parked = self.with(sink, Fate::Parked);
                if !parked.is_empty() {
                    let at = *which.get(&parked);
                    let fate = if is_delivered { Fate::Delivered } else { Fate::Dead };
                    let Sink { id, cursor, .. } = self.sinks[sink];
                    let unpark = vec![seq(at)];
                    self.inbox.record(Progress { unpark, ..recorded(id, cursor, &[(at, fate)]) }).await.unwrap();
                    self.sinks[sink].fates.insert(at, fate);
                }
            }
            Op::Retry(sink, which) => self.decide(sink, which, Fate::Parked).await,
            Op::Discard(sink, which) => self.decide(sink, which, Fate::Discarded).await,
            Op::GiveUp(sink, which) => self.give_up(sink, which).await,
            // While a replay goes on, it would be refused.
            Op::Rename(_) if self.replay.is_some() => {}
            Op::Rename(sink) => {
                let from = self.sinks[sink].name.clone();
                let to = if from == SINKS[sink] { format!("{from}-2") } else { SINKS[sink].to_owned() };
                let task = Task::Rename { from: super::sink(&from), to: super::sink(&to), swap: false };
                carry_out(&self.inbox, task).await;
                self.sinks[sink].name = to;
            }
            Op::Prune => self.prune().await,
            Op::Replay(sink, from) => self.begin_replay(sink, from).await,
            Op::GoOn(count, aside) => self.go_on(count, aside).await,
            Op::EndReplay => {
                if let Some(replay) = self.replay.take() {
                    let update = JobUpdate { state: Some(JobState::Done), ..JobUpdate::default() };
                    self.inbox.update_job(replay.job, update).await.unwrap();
                }
            }
            Op::Reopen => {
                self.inbox.close().await;
                // The lock is let go of by the one before it is taken by the next.
                self.inbox = open(&self.config);
            }
        }
    }

    async fn consume(&mut self, sink: usize, fates: Vec<Fate>) {
        let Sink { id, cursor, .. } = self.sinks[sink];
        let mut done = Vec::new();
        let mut reached = cursor;
        for (at, fate) in (cursor + 1..=self.head).zip(fates) {
            reached = at;
            if !self.sinks[sink].fates.contains_key(&at) {
                done.push((at, fate));
            }
        }
        self.inbox.record(recorded(id, reached, &done)).await.unwrap();
        self.sinks[sink].fates.extend(done);
        self.sinks[sink].cursor = reached;
    }

    async fn give_up(&mut self, sink: usize, which: Option<Index>) {
        let mut parked = self.with(sink, Fate::Parked);
        let name = super::sink(&self.sinks[sink].name);
        let mut filter = ParkedFilter { sink: Some(name), ..ParkedFilter::default() };
        if let Some(which) = which.filter(|_| !parked.is_empty()) {
            parked = vec![*which.get(&parked)];
            filter.seqs.clone_from(&parked);
        }
        carry_out(&self.inbox, Task::DiscardParked { parked: filter }).await;
        self.sinks[sink].fates.extend(parked.into_iter().map(|at| (at, Fate::Discarded)));
    }

    /// A retry or a discard, of one dead letter or of all of the sink.
    async fn decide(&mut self, sink: usize, which: Option<Index>, fate: Fate) {
        let mut dead = self.with(sink, Fate::Dead);
        let mut letters = LetterFilter { sink: Some(super::sink(&self.sinks[sink].name)), ..LetterFilter::default() };
        if let Some(which) = which.filter(|_| !dead.is_empty()) {
            dead = vec![*which.get(&dead)];
            letters.event_id = Some(dead[0].to_string());
        }
        let task = if fate == Fate::Parked { Task::Retry { letters } } else { Task::Discard { letters } };
        carry_out(&self.inbox, task).await;
        self.sinks[sink].fates.extend(dead.into_iter().map(|at| (at, fate)));
    }

    fn is_needed(&self, at: i64) -> bool {
        let at_a_sink = self
            .sinks
            .iter()
            .any(|sink| at > sink.cursor || matches!(sink.fates.get(&at), None | Some(Fate::Parked | Fate::Dead)));
        let by_a_replay = self
            .replay
            .as_ref()
            .is_some_and(|replay| (at > replay.cursor && at <= replay.last) || replay.aside == Some(at));
        at_a_sink || by_a_replay
    }

    async fn prune(&mut self) {
        let sinks: Vec<_> = SINKS.iter().map(|name| super::sink(name)).collect();
        let expected = self.bodies.iter().filter(|&&at| !self.is_needed(at)).count() as u64;
        let mut reader = Reader::open(&self.config).unwrap();
        let dry = reader.prunable(now(), &sinks, &mut |_| ()).unwrap();
        assert_eq!(dry.0, expected, "the dry run");
        Reader::note_times(&self.config).unwrap();
        assert_eq!(reader.prunable(now(), &sinks, &mut |_| ()).unwrap(), dry, "the dry run, with times noted");
        // Under the configured names: who was renamed since still holds what it needs.
        let (id, _) = carry_out(&self.inbox, Task::Prune { before: now(), sinks }).await;
        assert_eq!(reader.job(id).unwrap().unwrap().done, expected);
        let kept = self.bodies.iter().copied().filter(|&at| self.is_needed(at)).collect();
        self.bodies = kept;
    }

    async fn begin_replay(&mut self, sink: usize, from: Index) {
        let Sink { cursor, ref name, .. } = self.sinks[sink];
        if self.replay.is_none() && cursor > 0 {
            let first = 1 + from.index(cursor as usize) as i64;
            let job = self.inbox.submit(job(replay(name, first, cursor))).await.unwrap();
            let state = self.inbox.consumer(Registration::Replay { job }, "*".to_owned()).await.unwrap();
            self.replay = Some(Replaying { job, id: state.id, cursor: first - 1, last: cursor, aside: None });
        }
    }

    async fn go_on(&mut self, count: usize, aside: bool) {
        let Some(replay) = &mut self.replay else { return };
        let reached = (replay.cursor + count as i64).min(replay.last);
        let mut done: Vec<_> = (replay.cursor + 1..=reached).map(|at| (at, Fate::Delivered)).collect();
        if aside
            && replay.aside.is_none()
            && let Some((at, fate)) = done.last_mut()
        {
            (*fate, replay.aside) = (Fate::Parked, Some(*at));
        }
        replay.cursor = reached;
        let record = recorded(replay.id, reached, &done);
        self.inbox.record(record).await.unwrap();
    }

    fn check(&self) {
        let mut reader = Reader::open(&self.config).unwrap();
        for at in 1..=self.head {
            let detail = reader.event(&at.to_string()).unwrap().pop().unwrap();
            assert_eq!(detail.body.is_some(), self.bodies.contains(&at), "the body of {at}");
            let mut sinks: Vec<_> = self.sinks.iter().collect();
            sinks.sort_by(|one, other| one.name.cmp(&other.name));
            let expected: Vec<_> = sinks.iter().map(|sink| (sink.name.as_str(), word(sink, at))).collect();
            let found: Vec<_> = detail.sinks.iter().map(|pair| (pair.sink.as_str(), pair.state.as_str())).collect();
            assert_eq!(found, expected, "{at}");
            for Pair { sink: name, state, .. } in &detail.sinks {
                if let PairState::Discarded { reason, who, .. } = state {
                    let by = if who.is_some() { ("because", Some("ada")) } else { ("pruned", None) };
                    assert_eq!((reason.as_str(), who.as_deref()), by, "{at} at {name}");
                }
            }
        }
        for (record, sink) in reader.sinks().unwrap().iter().zip({
            let mut sinks = self.sinks.clone();
            sinks.sort_by(|one, other| one.name.cmp(&other.name));
            sinks
        }) {
            let count = |fate| sink.fates.values().filter(|found| **found == fate).count() as u64;
            assert_eq!((record.id, record.cursor.get()), (sink.id, sink.cursor));
            assert_eq!(record.lag, (self.head - sink.cursor) as u64);
            assert_eq!((record.parked, record.dead_letters), (count(Fate::Parked), count(Fate::Dead)));
            assert_eq!(record.delivered, count(Fate::Delivered));
        }
    }
}

fn word(sink: &Sink, at: i64) -> &'static str {
    match sink.fates.get(&at) {
        None => "waiting",
        Some(Fate::Delivered) => "delivered",
        Some(Fate::Filtered) => "filtered",
        Some(Fate::Parked) => "parked",
        Some(Fate::Dead) => "dead_letter",
        Some(Fate::Discarded) => "discarded",
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn every_event_is_in_exactly_one_state_at_every_sink(ops in prop::collection::vec(op(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let mut world = World::new(config(dir.path())).await;
            for op in ops {
                world.step(op).await;
            }
            world.check();
            world.inbox.close().await;
        });
    }
}

#[tokio::test]
async fn an_event_before_a_sinks_start_and_each_route_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let inbox = open(&config);
    fill(&inbox, 2).await;
    let at_route = |route: &str| {
        let who = Registration::Sink { name: sink("bus"), start: Start::Now };
        let (inbox, route) = (&inbox, route.to_owned());
        async move { inbox.consumer(who, route).await.unwrap().id }
    };
    let bus = at_route("kyc.*").await;
    append(&inbox, "one", &payin("e3", "o3", "COMPLETED")).await;
    append(&inbox, "one", &payin("e4", "o4", "COMPLETED")).await;
    inbox.record(progress(bus, 3)).await.unwrap();
    at_route("payout.*").await;
    inbox.record(progress(bus, 4)).await.unwrap();
    let mut reader = Reader::open(&config).unwrap();
    let mut states = Vec::new();
    for at in 1..=4 {
        let state = reader.event(&at.to_string()).unwrap().pop().unwrap().sinks.pop().unwrap().state;
        states.push(match state {
            PairState::Filtered { route, .. } => route,
            other => other.as_str().to_owned(),
        });
    }
    assert_eq!(states, ["before_start", "before_start", "kyc.*", "payout.*"]);
    inbox.close().await;
}

#[tokio::test]
async fn attempts_of_replays_are_told_from_those_of_the_sink() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let inbox = open(&config);
    fill(&inbox, 1).await;
    let bus = register(&inbox, "bus").await;
    inbox.record(recorded(bus.id, 1, &[(1, Fate::Delivered)])).await.unwrap();
    let job = inbox.submit(job(replay("bus", 1, 1))).await.unwrap();
    let replayed = inbox.consumer(Registration::Replay { job }, "*".to_owned()).await.unwrap();
    inbox.record(recorded(replayed.id, 1, &[(1, Fate::Delivered)])).await.unwrap();
    let detail = Reader::open(&config).unwrap().event("1").unwrap().pop().unwrap();
    let attempts: Vec<_> = detail.attempts.iter().map(|one| (one.sink.as_str(), one.replay)).collect();
    assert_eq!(attempts, [("bus", None), ("bus", Some(job))]);
    assert_eq!(detail.sinks.len(), 1, "a replay is no sink");
    inbox.close().await;
}
