//! The executor over a real inbox and a sink that does as it is told.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use tempfile::TempDir;
use tokio::sync::Semaphore;

use super::meddled_inbox::Meddled;
use super::*;
use crate::clock::SystemClock;
use crate::inbox::contract::{letter, progress};
use crate::inbox::sqlite::{Lock, Reader, SqliteInbox};
use crate::inbox::{
    Config, EventFilter, LetterFilter, NewEvent, NewJob, Progress, QuarantineLimits, Registration, Selection,
};
use crate::metrics::Metrics;
use crate::model::{Outcome, Outgoing, Seq, Start};
use crate::route::Route;
use crate::sink::Sink;
use crate::verify::{Unverified, sign};

/// Says what went to it, when it is let to.
struct Fake {
    gate: Semaphore,
    begun: AtomicUsize,
    got: AtomicUsize,
    replays: Mutex<BTreeSet<i64>>,
}

#[async_trait]
impl Sink for Fake {
    async fn deliver(&self, event: &Outgoing) -> Outcome {
        self.replays.lock().unwrap().extend(event.replay.map(JobId::get));
        self.begun.fetch_add(1, SeqCst);
        self.gate.acquire().await.unwrap().forget();
        self.got.fetch_add(1, SeqCst);
        Outcome::delivered("ok")
    }

    async fn probe(&self) -> Result<Option<String>, String> {
        Ok(None)
    }

    async fn close(&self) {}
}

struct World {
    _dir: TempDir,
    config: Config,
    inbox: Arc<Meddled>,
    sink: Arc<Fake>,
    stop: CancellationToken,
}

const EVENTS: usize = 30;

fn name(name: &str) -> SinkName {
    SinkName::new(name).unwrap()
}

fn event(n: usize) -> NewEvent {
    const SECRET: &[u8] = b"secret";
    let body = format!(r#"{{"eventId":"e{n}","eventType":"payin_completed","data":{{"orderId":"o{n}"}}}}"#);
    let delivery = Unverified {
        source: SourceName::new("test").unwrap(),
        signatures: vec![Bytes::from(sign(SECRET, body.as_bytes()))],
        content_type: None,
        headers: vec![],
        body: Bytes::from(body),
    };
    NewEvent::new(delivery.verify(&Keys::new(&[SECRET]).unwrap()).unwrap(), Timestamp::now())
}

fn replay_of(sink: &str, rate: Option<f64>) -> Task {
    let (first, last) = (Seq::new(1).unwrap(), Seq::new(i64::MAX).unwrap());
    Task::Replay { sink: name(sink), selection: Selection { filter: EventFilter::default(), first, last }, rate }
}

fn replay() -> Task {
    replay_of("bus", None)
}

fn pause() -> Task {
    Task::Pause { sink: name("bus") }
}

fn consumer_config(sink: &str) -> consume::Config {
    let (second, hour) = (Duration::from_secs(1), Duration::from_secs(3600));
    consume::Config {
        name: name(sink),
        route: Route::new(vec![]),
        ordering: consume::Ordering::Key,
        start: Start::Earliest,
        concurrency: 4,
        timeout: hour,
        rate: None,
        retry: consume::Retry {
            initial: second,
            max: second,
            jitter: false,
            give_up_after: hour,
            breaker_after: 3,
            probe_max: hour,
            max_parked: 10_000,
        },
    }
}

impl World {
    /// A sink that has got every event, and takes as many more.
    async fn new(takes: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let quarantine = QuarantineLimits { max_entries: 10, max_bytes: 100_000, ..Default::default() };
        let config = Config { path: dir.path().join("inbox.db"), quarantine, dedup_memory: 1 << 20, retention: None };
        let lock = Lock::try_take(&config.path).unwrap().unwrap();
        let inbox = SqliteInbox::open(&config, lock, Arc::new(SystemClock), Arc::new(Metrics::new())).unwrap();
        for n in 1..=EVENTS {
            inbox.append(event(n)).await.unwrap();
        }
        let who = Registration::Sink { name: name("bus"), start: Start::Now };
        assert_eq!(inbox.consumer(who, "*".to_owned()).await.unwrap().cursor.get(), EVENTS as i64);
        let sink = Fake {
            gate: Semaphore::new(takes),
            begun: AtomicUsize::new(0),
            got: AtomicUsize::new(0),
            replays: Mutex::default(),
        };
        let (endless, refuses) = (AtomicBool::new(false), AtomicBool::new(false));
        let inbox = Arc::new(Meddled { inbox, endless, refuses, failures: AtomicUsize::new(0) });
        Self { _dir: dir, config, inbox, sink: Arc::new(sink), stop: CancellationToken::new() }
    }

    fn executor(&self) -> Executor {
        let clock = Arc::new(SystemClock);
        let consume = consume::Deps { inbox: self.inbox.clone(), clock, metrics: Arc::new(Metrics::new()) };
        let destination = |sink| Destination::new(consumer_config(sink), Some(self.sink.clone()));
        let sinks = Destinations::new(["bus", "new"].map(destination).into());
        Executor::new(Deps {
            consume,
            keys: HashMap::new(),
            sinks,
            retention: None,
            quarantine: Default::default(),
            configured: None,
        })
    }

    /// Runs the executor for as long as something is watched.
    async fn run(&self, watch: impl Future<Output = ()>) {
        let watch = async {
            watch.await;
            self.stop.cancel();
        };
        tokio::join!(self.executor().run(self.stop.clone()), watch);
    }

    async fn submit(&self, task: Task) -> JobId {
        let (who, reason) = ("ada".to_owned(), "because".to_owned());
        self.inbox.submit(NewJob { task, who, reason, total: None, at: Timestamp::now() }).await.unwrap()
    }

    async fn cancel(&self, job: JobId) -> JobId {
        self.submit(Task::Cancel { job }).await
    }

    fn job(&self, id: JobId) -> Job {
        Reader::open(&self.config).unwrap().job(id).unwrap().unwrap()
    }

    async fn becomes(&self, id: JobId, state: JobState) -> Job {
        until(&format!("job {id} is {}", state.as_str()), || self.job(id).state == state).await;
        self.job(id)
    }

    fn got(&self) -> usize {
        self.sink.got.load(SeqCst)
    }
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < Duration::from_secs(20), "{what}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_replay_runs_to_its_end_also_when_it_is_asked_for_later() {
    let world = World::new(2 * EVENTS).await;
    let first = world.submit(replay()).await;
    let watch = async {
        let done = world.becomes(first, JobState::Done).await;
        assert_eq!((done.done, done.failed, world.got()), (EVENTS as u64, 0, EVENTS));
        let later = world.submit(replay()).await;
        world.becomes(later, JobState::Done).await;
        assert_eq!(world.got(), 2 * EVENTS);
        assert_eq!(*world.sink.replays.lock().unwrap(), BTreeSet::from([first.get(), later.get()]));
    };
    world.run(watch).await;
}

#[tokio::test]
async fn a_replay_goes_on_where_it_was_stopped() {
    let world = World::new(10).await;
    let job = world.submit(replay()).await;
    let watch = async {
        until("the sink takes no more, and has two", || world.sink.begun.load(SeqCst) == 12).await;
        world.stop.cancel();
        world.sink.gate.add_permits(2);
    };
    world.run(watch).await;
    let left = world.job(job);
    assert_eq!((left.state, left.done), (JobState::Running, 12), "what was in flight has landed");
    world.sink.gate.add_permits(EVENTS);
    tokio::time::timeout(Duration::from_secs(20), world.executor().run_one(job, CancellationToken::new()))
        .await
        .unwrap();
    assert_eq!((world.job(job).state, world.got()), (JobState::Done, EVENTS), "nothing comes twice");
}

#[tokio::test]
async fn a_replay_is_cancelled() {
    let world = World::new(0).await;
    let job = world.submit(replay()).await;
    let watch = async {
        until("it has begun", || world.sink.begun.load(SeqCst) == 2).await;
        let cancel = world.cancel(job).await;
        world.becomes(cancel, JobState::Done).await;
        assert_eq!(world.job(job).state, JobState::Cancelled);
        let again = world.cancel(job).await;
        world.becomes(again, JobState::Failed).await;
        world.sink.gate.add_permits(3 * EVENTS);
        let other = world.submit(replay()).await;
        world.becomes(other, JobState::Done).await;
    };
    world.run(watch).await;
    assert_eq!((world.got(), world.job(job).done), (2 + EVENTS, 2), "what was in flight has landed, and counts");
}

#[tokio::test]
async fn a_pause_holds_a_replay_that_runs_until_the_sink_goes_on() {
    let mut world = World::new(3).await;
    let job = world.submit(replay()).await;
    let watch = async {
        until("the sink takes no more, and has two", || world.sink.begun.load(SeqCst) == 5).await;
        // The replay has been told of the first when the second is carried out.
        for _ in 0..2 {
            let paused = world.submit(pause()).await;
            world.becomes(paused, JobState::Done).await;
        }
        world.sink.gate.add_permits(EVENTS);
        until("what was in flight has landed", || world.job(job).done == 5).await;
    };
    world.run(watch).await;
    world.stop = CancellationToken::new();
    let watch = async {
        let asked_for_since = world.submit(replay()).await;
        world.sink.gate.add_permits(EVENTS);
        world.becomes(asked_for_since, JobState::Running).await;
        assert_eq!((world.job(job).done, world.got()), (5, 5), "they stand still after a restart, too");
        let resumed = world.submit(Task::Resume { sink: name("bus") }).await;
        world.becomes(resumed, JobState::Done).await;
        world.becomes(job, JobState::Done).await;
        world.becomes(asked_for_since, JobState::Done).await;
    };
    world.run(watch).await;
    assert_eq!(world.got(), 2 * EVENTS);
}

/// There is nobody else to carry that out while a command has the inbox.
#[tokio::test]
async fn the_one_job_that_is_carried_out_can_be_cancelled() {
    let world = World::new(EVENTS).await;
    let slow = world.submit(replay_of("bus", Some(5.0))).await;
    let other = world.submit(replay()).await;
    let watch = async {
        until("it has begun", || world.got() > 1).await;
        world.cancel(slow).await
    };
    let run = tokio::time::timeout(Duration::from_secs(3), world.executor().run_one(slow, world.stop.clone()));
    let (ended, cancel) = tokio::join!(run, watch);
    assert!(ended.is_ok(), "it goes on");
    assert_eq!((world.job(slow).state, world.job(cancel).state), (JobState::Cancelled, JobState::Done));
    assert_eq!(world.job(other).state, JobState::Queued, "that is for others");
}

#[tokio::test]
async fn jobs_that_fail_hold_up_no_other() {
    let world = World::new(EVENTS).await;
    world.inbox.refuses.store(true, SeqCst);
    let refused = world.submit(pause()).await;
    let unknown = world.submit(replay_of("nobody", None)).await;
    let unborn = world.submit(replay_of("new", None)).await;
    let good = world.submit(replay()).await;
    let watch = async {
        world.becomes(good, JobState::Done).await;
        assert!(world.job(unknown).message.contains("no sink 'nobody'"));
        assert!(world.job(unborn).message.contains("no place in the log"));
        assert_eq!([unknown, unborn].map(|id| world.job(id).state), [JobState::Failed; 2]);
        assert_eq!(world.job(refused).state, JobState::Queued);
        world.inbox.refuses.store(false, SeqCst);
        world.becomes(refused, JobState::Done).await;
    };
    world.run(watch).await;
}

#[tokio::test]
async fn a_replay_that_cannot_begin_for_now_is_tried_again() {
    let world = World::new(EVENTS).await;
    world.inbox.failures.store(2, SeqCst);
    let job = world.submit(replay()).await;
    let watch = async {
        until("it has ended", || world.job(job).state.has_ended()).await;
        assert_eq!((world.job(job).state, world.got()), (JobState::Done, EVENTS));
    };
    world.run(watch).await;
}

/// A configuration may be wrong for a moment.
#[tokio::test]
async fn a_replay_whose_sink_is_not_configured_waits_for_it() {
    let world = World::new(EVENTS).await;
    let who = Registration::Sink { name: name("gone"), start: Start::Now };
    world.inbox.consumer(who, "*".to_owned()).await.unwrap();
    let job = world.submit(replay_of("gone", None)).await;
    let executor = world.executor();
    let sinks = executor.deps.sinks.clone();
    let watch = async {
        until("it waits", || world.job(job).message.contains("it waits: there is no sink 'gone'")).await;
        assert_eq!((world.job(job).state, world.got()), (JobState::Queued, 0));
        sinks.lock().await.push(Destination::new(consumer_config("gone"), Some(world.sink.clone())));
        world.becomes(job, JobState::Done).await;
        assert_eq!(world.got(), EVENTS);
        world.stop.cancel();
    };
    tokio::join!(executor.run(world.stop.clone()), watch);
}

#[tokio::test]
async fn replays_beyond_the_limit_wait_for_their_turn() {
    let world = World::new(0).await;
    let mut replays = Vec::new();
    for _ in 0..=MAX_REPLAYS {
        replays.push(world.submit(replay()).await);
    }
    let last = replays[MAX_REPLAYS];
    let watch = async {
        until("as many run as may", || world.sink.replays.lock().unwrap().len() == MAX_REPLAYS).await;
        let looked = world.submit(pause()).await;
        world.becomes(looked, JobState::Done).await;
        assert_eq!(world.job(last).state, JobState::Queued);
        assert!(!world.sink.replays.lock().unwrap().contains(&last.get()));
        let resumed = world.submit(Task::Resume { sink: name("bus") }).await;
        world.becomes(resumed, JobState::Done).await;
        world.sink.gate.add_permits((MAX_REPLAYS + 1) * EVENTS);
        for job in replays {
            world.becomes(job, JobState::Done).await;
        }
    };
    world.run(watch).await;
}

/// Four that are paused take the places of no other sink's.
#[tokio::test]
async fn replays_that_stand_still_hold_up_no_other_sinks() {
    let world = World::new(2 * EVENTS).await;
    let who = Registration::Sink { name: name("new"), start: Start::Now };
    world.inbox.consumer(who, "*".to_owned()).await.unwrap();
    world.submit(pause()).await;
    let mut standing = Vec::new();
    for _ in 0..=MAX_REPLAYS {
        standing.push(world.submit(replay()).await);
    }
    let other = world.submit(replay_of("new", None)).await;
    let watch = async {
        let done = world.becomes(other, JobState::Done).await;
        assert_eq!((done.done, world.got()), (EVENTS as u64, EVENTS));
        assert!(standing.iter().all(|job| !world.job(*job).state.has_ended()));
    };
    world.run(watch).await;
}

/// The executor knows what is configured, and what each sink may have parked.
#[tokio::test]
async fn letters_are_retried_for_configured_sinks_only() {
    let world = World::new(0).await;
    for sink in ["bus", "removed"] {
        let who = Registration::Sink { name: name(sink), start: Start::Earliest };
        let id = world.inbox.consumer(who, "*".to_owned()).await.unwrap().id;
        world.inbox.record(Progress { dead: vec![letter(1, "no")], ..progress(id, 1) }).await.unwrap();
    }
    let retry = world.submit(Task::Retry { letters: LetterFilter::default() }).await;
    let forget = |sink| Task::Forget { sink: name(sink) };
    let watch = async {
        let done = world.becomes(retry, JobState::Done).await;
        assert_eq!((done.done, done.failed), (1, 1), "{}", done.message);
        let refused = world.submit(forget("bus")).await;
        world.becomes(refused, JobState::Failed).await;
        let forgotten = world.submit(forget("removed")).await;
        assert_eq!(
            world.becomes(forgotten, JobState::Done).await.done,
            EVENTS as u64,
            "the letter, and all that came later"
        );
    };
    world.run(watch).await;
}

#[tokio::test]
async fn the_end_of_a_replay_is_noted_while_a_long_job_goes_on() {
    let world = World::new((MAX_REPLAYS + 1) * EVENTS).await;
    world.inbox.endless.store(true, SeqCst);
    let endless = world.submit(Task::Prune { before: Timestamp::now(), sinks: ["bus", "new"].map(name).into() }).await;
    let watch = async {
        for _ in 0..=MAX_REPLAYS {
            let job = world.submit(replay()).await;
            world.becomes(job, JobState::Done).await;
        }
        world.inbox.endless.store(false, SeqCst);
        world.becomes(endless, JobState::Done).await;
    };
    world.run(watch).await;
}
