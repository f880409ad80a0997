//! The loop over an inbox that misbehaves, and the orders that it gets.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Config, Consumer, Deps, End, Ordering as Order, Retry};
use crate::clock::SystemClock;
use crate::inbox::{
    Advance, Appended, Change, ConsumerId, ConsumerState, Effect, EventFilter, Inbox, Job, JobUpdate, NewEvent, NewJob,
    Parked, Progress, QuarantineFilter, Quarantined, Refused, Registration, Selection, Slice, Standing, StoredEvent,
    Unavailable,
};
use crate::metrics::Metrics;
use crate::model::{
    EntityKey, EventId, EventType, JobId, Outcome, Outgoing, Seq, SinkName, SourceName, Start as StartAt,
};
use crate::route::{Glob, Route};
use crate::sink::Sink;

/// An inbox that cannot be read while it is `broken`, with a consumer as it was told to be.
struct Sick {
    head: watch::Sender<Seq>,
    broken: AtomicBool,
    /// Whether its events are not there.
    short: AtomicBool,
    /// As `broken`, for single events.
    unreadable: AtomicBool,
    in_trouble: AtomicBool,
    state: Mutex<ConsumerState>,
    registered: Mutex<Vec<Registration>>,
    reads: AtomicUsize,
    read_at_once: AtomicUsize,
    looks: AtomicUsize,
    most_at_once: AtomicUsize,
    /// Records still to be refused.
    refusals: AtomicUsize,
    recorded: AtomicUsize,
    progress: Mutex<Vec<Progress>>,
}

fn seq(value: i64) -> Seq {
    Seq::new(value).unwrap()
}

fn parked(at: i64) -> Parked {
    Parked {
        seq: seq(at),
        attempts: 1,
        first_attempt: Some(Timestamp::UNIX_EPOCH),
        still: Duration::ZERO,
        next_attempt: Timestamp::UNIX_EPOCH,
    }
}

impl Sick {
    /// One event, after those that are parked.
    fn new(parked_events: i64) -> Arc<Self> {
        let inbox = Self::healthy(parked_events + 1);
        inbox.broken.store(true, Ordering::SeqCst);
        let mut state = inbox.state.lock().unwrap();
        state.parked = (1..=parked_events).map(parked).collect();
        state.cursor = seq(parked_events);
        drop(state);
        inbox
    }

    /// So many events, and a new consumer.
    fn healthy(events: i64) -> Arc<Self> {
        Arc::new(Self {
            head: watch::Sender::new(seq(events)),
            broken: AtomicBool::new(false),
            short: AtomicBool::new(false),
            unreadable: AtomicBool::new(false),
            in_trouble: AtomicBool::new(false),
            state: Mutex::new(ConsumerState {
                id: ConsumerId::new(7),
                cursor: Seq::ZERO,
                parked: vec![],
                done_above: BTreeSet::new(),
                dead_letters: 5,
                standing: Standing::default(),
                paused: false,
                selection: None,
            }),
            registered: Mutex::new(vec![]),
            reads: AtomicUsize::new(0),
            read_at_once: AtomicUsize::new(0),
            looks: AtomicUsize::new(0),
            most_at_once: AtomicUsize::new(0),
            refusals: AtomicUsize::new(0),
            recorded: AtomicUsize::new(0),
            progress: Mutex::new(vec![]),
        })
    }

    fn with(self: Arc<Self>, change: impl FnOnce(&mut ConsumerState)) -> Arc<Self> {
        change(&mut self.state.lock().unwrap());
        self
    }
}

fn event(seq: Seq) -> StoredEvent {
    StoredEvent {
        seq,
        id: EventId::new("evt").unwrap(),
        event_type: EventType::unknown(),
        source: SourceName::new("test").unwrap(),
        key: EntityKey::new(&seq.to_string()).unwrap(),
        time: None,
        received_at: Timestamp::UNIX_EPOCH,
        stale: false,
        conflict: false,
        signature: String::new(),
        content_type: None,
        body: Some(bytes::Bytes::from_static(b"{}")),
    }
}

#[async_trait]
impl Inbox for Sick {
    async fn append(&self, _: NewEvent) -> Result<Appended, Unavailable> {
        Err(Unavailable::Closed)
    }

    fn quarantine(&self, _: Refused) {}

    fn head(&self) -> watch::Receiver<Seq> {
        self.head.subscribe()
    }

    async fn read_after(&self, after: Seq, limit: usize, of: Option<Selection>) -> Result<Slice, Unavailable> {
        // Others get their turn even where this is called without end.
        tokio::task::yield_now().await;
        self.reads.fetch_add(1, Ordering::SeqCst);
        self.read_at_once.fetch_max(limit, Ordering::SeqCst);
        if self.broken.load(Ordering::SeqCst) {
            return Err(Unavailable::Storage("no".to_owned()));
        }
        if self.short.load(Ordering::SeqCst) {
            return Ok(Slice { events: vec![], read_to: after });
        }
        assert_eq!(of, self.state.lock().unwrap().selection);
        let first = of.as_ref().map_or(1, |of| of.first.get()).max(after.get() + 1);
        let end = self.head.borrow().get().min(after.get() + i64::try_from(limit).unwrap());
        let end = of.map_or(end, |of| of.last.get().min(end));
        Ok(Slice { events: (first..=end).map(|at| event(seq(at))).collect(), read_to: seq(end) })
    }

    async fn read(&self, seqs: Vec<Seq>) -> Result<Vec<StoredEvent>, Unavailable> {
        if self.unreadable.load(Ordering::SeqCst) {
            self.reads.fetch_add(1, Ordering::SeqCst);
            return Err(Unavailable::Storage("no".to_owned()));
        }
        self.most_at_once.fetch_max(seqs.len(), Ordering::SeqCst);
        Ok(seqs.into_iter().map(event).collect())
    }

    async fn consumer(&self, who: Registration, _: String) -> Result<ConsumerState, Unavailable> {
        self.registered.lock().unwrap().push(who);
        Ok(self.state.lock().unwrap().clone())
    }

    async fn record(&self, progress: Progress) -> Result<(), Unavailable> {
        let less = |left: usize| left.checked_sub(1);
        if self.refusals.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok() {
            return Err(Unavailable::Storage("no".to_owned()));
        }
        self.recorded.fetch_add(progress.attempts.len(), Ordering::SeqCst);
        self.progress.lock().unwrap().push(progress);
        Ok(())
    }

    async fn submit(&self, _: NewJob) -> Result<JobId, Unavailable> {
        Err(Unavailable::Closed)
    }

    async fn open_jobs(&self) -> Result<Vec<Job>, Unavailable> {
        Err(Unavailable::Closed)
    }

    async fn advance(&self, _: JobId) -> Result<Advance, Unavailable> {
        Err(Unavailable::Closed)
    }

    async fn update_job(&self, _: JobId, _: JobUpdate) -> Result<(), Unavailable> {
        Err(Unavailable::Closed)
    }

    async fn quarantined(&self, _: QuarantineFilter, _: i64, _: usize) -> Result<Vec<Quarantined>, Unavailable> {
        Err(Unavailable::Closed)
    }

    async fn release(&self, _: Vec<i64>) -> Result<(), Unavailable> {
        Err(Unavailable::Closed)
    }

    fn trouble(&self) -> Option<String> {
        self.looks.fetch_add(1, Ordering::SeqCst);
        self.in_trouble.load(Ordering::SeqCst).then(|| "no".to_owned())
    }

    async fn failed(&self) -> String {
        std::future::pending().await
    }

    async fn close(&self) {}
}

/// Counts what it gets, and takes it unless it is down.
#[derive(Default)]
struct Counting {
    got: AtomicUsize,
    down: AtomicBool,
    replays: Mutex<BTreeSet<Option<i64>>>,
    at_once: AtomicUsize,
    most_at_once: AtomicUsize,
}

#[async_trait]
impl Sink for Counting {
    async fn deliver(&self, event: &Outgoing) -> Outcome {
        let at_once = self.at_once.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_at_once.fetch_max(at_once, Ordering::SeqCst);
        tokio::task::yield_now().await;
        self.at_once.fetch_sub(1, Ordering::SeqCst);
        self.got.fetch_add(1, Ordering::SeqCst);
        self.replays.lock().unwrap().insert(event.replay.map(JobId::get));
        if self.down.load(Ordering::SeqCst) { Outcome::transient("down") } else { Outcome::delivered("ok") }
    }

    async fn probe(&self) -> Result<(), String> {
        Ok(())
    }

    async fn close(&self) {}
}

fn config() -> Config {
    Config {
        name: SinkName::new("bus").unwrap(),
        route: Route::new(vec![Glob::new("*").unwrap()]),
        ordering: Order::Key,
        start: StartAt::Earliest,
        concurrency: 4,
        timeout: Duration::from_secs(10),
        retry: Retry {
            initial: Duration::from_millis(20),
            max: Duration::from_millis(40),
            jitter: false,
            give_up_after: Duration::MAX,
            breaker_after: 3,
        },
    }
}

fn deps(inbox: &Arc<Sick>) -> Deps {
    Deps { inbox: inbox.clone(), clock: Arc::new(SystemClock), metrics: Arc::new(Metrics::new()) }
}

async fn consumer(inbox: &Arc<Sick>) -> (Consumer, Arc<Counting>, Arc<Metrics>) {
    let (sink, deps) = (Arc::new(Counting::default()), deps(inbox));
    let metrics = Arc::clone(&deps.metrics);
    (Consumer::open(config(), sink.clone(), deps).await.unwrap(), sink, metrics)
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < Duration::from_secs(30), "{what}");
        tokio::task::yield_now().await;
    }
}

/// How long it takes until a count is reached.
async fn time_until(counter: &AtomicUsize, count: usize) -> Duration {
    let began = Instant::now();
    until(&format!("{count} are reached"), || counter.load(Ordering::SeqCst) >= count).await;
    began.elapsed()
}

/// Runs a consumer for as long as something is watched.
async fn run(consumer: Consumer, watch: impl Future<Output = ()>) -> End {
    let stop = CancellationToken::new();
    let watch = async {
        watch.await;
        stop.cancel();
    };
    tokio::join!(consumer.run(stop.clone()), watch).0
}

#[tokio::test]
async fn a_log_that_cannot_be_read_is_no_busy_loop_and_heals() {
    let inbox = Sick::new(0);
    let (consumer, sink, _) = consumer(&inbox).await;
    let watch = async {
        let three_reads = time_until(&inbox.reads, 3).await;
        assert!(three_reads > Duration::from_millis(900), "{three_reads:?}");
        inbox.broken.store(false, Ordering::SeqCst);
        time_until(&sink.got, 1).await;
    };
    assert_eq!(run(consumer, watch).await, End::Stopped);
}

#[tokio::test]
async fn a_log_that_ends_before_its_head_is_no_busy_loop() {
    let inbox = Sick::healthy(1);
    inbox.short.store(true, Ordering::SeqCst);
    let (consumer, sink, _) = consumer(&inbox).await;
    let watch = async {
        let three_reads = time_until(&inbox.reads, 3).await;
        assert!(three_reads > Duration::from_millis(900), "{three_reads:?}");
        inbox.short.store(false, Ordering::SeqCst);
        time_until(&sink.got, 1).await;
    };
    run(consumer, watch).await;
}

#[tokio::test]
async fn what_is_due_while_the_inbox_is_in_trouble_is_no_busy_loop() {
    let inbox = Sick::new(1);
    inbox.in_trouble.store(true, Ordering::SeqCst);
    let (consumer, sink, _) = consumer(&inbox).await;
    let watch = async {
        let many_looks = time_until(&inbox.looks, 5).await;
        assert!(many_looks > Duration::from_millis(900), "{many_looks:?}");
        assert_eq!(sink.got.load(Ordering::SeqCst), 0);
        inbox.in_trouble.store(false, Ordering::SeqCst);
        time_until(&sink.got, 1).await;
    };
    run(consumer, watch).await;
}

#[tokio::test]
async fn parked_events_are_not_all_in_memory_at_once() {
    let inbox = Sick::new(1000);
    let (_consumer, _, _) = consumer(&inbox).await;
    let most = inbox.most_at_once.load(Ordering::SeqCst);
    assert!((1..=16).contains(&most), "{most} bodies at once");
}

#[tokio::test]
async fn what_could_not_be_recorded_is_recorded_later() {
    let inbox = Sick::new(1);
    inbox.refusals.store(2, Ordering::SeqCst);
    let (consumer, sink, _) = consumer(&inbox).await;
    let watch = async {
        _ = time_until(&inbox.recorded, 1).await;
    };
    run(consumer, watch).await;
    assert_eq!(sink.got.load(Ordering::SeqCst), 1, "it is not delivered again for that");
}

#[tokio::test]
async fn a_record_that_fails_does_not_keep_a_consumer_from_stopping() {
    let inbox = Sick::healthy(1);
    inbox.refusals.store(usize::MAX, Ordering::SeqCst);
    let (consumer, sink, _) = consumer(&inbox).await;
    let watch = async {
        _ = time_until(&sink.got, 1).await;
    };
    assert_eq!(run(consumer, watch).await, End::Stopped);
    assert_eq!(inbox.recorded.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn pauses_and_resumes_as_it_is_told() {
    let inbox = Sick::healthy(3).with(|state| state.paused = true);
    let (consumer, sink, _) = consumer(&inbox).await;
    let handle = consumer.handle();
    assert_eq!((handle.id(), handle.name().as_str()), (ConsumerId::new(7), "bus"));
    let tell = |consumer: i64, change| handle.tell(&Effect { consumer: ConsumerId::new(consumer), change });
    let still_since = || inbox.progress.lock().unwrap().last().map(|progress| progress.standing.still_since);
    let watch = async {
        until("the pause is recorded", || matches!(still_since(), Some(Some(_)))).await;
        tell(8, Change::Resumed);
        time_until(&inbox.looks, 10).await;
        assert_eq!(sink.got.load(Ordering::SeqCst), 0, "that was for another");
        tell(7, Change::Resumed);
        time_until(&sink.got, 3).await;
        until("the resumption is recorded", || still_since() == Some(None)).await;
        tell(7, Change::Paused);
        until("the pause is recorded", || matches!(still_since(), Some(Some(_)))).await;
        inbox.head.send_replace(seq(4));
        let looks = inbox.looks.load(Ordering::SeqCst);
        time_until(&inbox.looks, looks + 2).await;
        assert_eq!(sink.got.load(Ordering::SeqCst), 3);
    };
    run(consumer, watch).await;
}

#[tokio::test]
async fn revived_dead_letters_are_delivered_once_and_the_gauge_follows() {
    let inbox = Sick::healthy(40).with(|state| state.cursor = seq(40));
    let (consumer, sink, metrics) = consumer(&inbox).await;
    let gauge = metrics.dead_letters.with_label_values(&["bus"]);
    assert_eq!(gauge.get(), 5);
    let handle = consumer.handle();
    let tell = |change| handle.tell(&Effect { consumer: ConsumerId::new(7), change });
    let watch = async {
        inbox.unreadable.store(true, Ordering::SeqCst);
        let revived: Vec<Parked> = (1..=40).map(parked).collect();
        tell(Change::Revived(revived.clone()));
        tell(Change::Revived(revived[..20].to_vec()));
        tell(Change::Discarded(2));
        let three_reads = time_until(&inbox.reads, 3).await;
        assert!(three_reads > Duration::from_millis(900), "{three_reads:?}");
        until("they are no dead letters any more", || gauge.get() == 5 - 40 - 20 - 2).await;
        inbox.unreadable.store(false, Ordering::SeqCst);
        time_until(&inbox.recorded, 40).await;
    };
    run(consumer, watch).await;
    assert_eq!(sink.got.load(Ordering::SeqCst), 40);
    assert!(inbox.most_at_once.load(Ordering::SeqCst) <= 16, "bodies in memory");
}

#[tokio::test]
async fn an_open_breaker_is_seen_and_survives_a_restart() {
    let inbox = Sick::healthy(20);
    let (first, sink, metrics) = consumer(&inbox).await;
    sink.down.store(true, Ordering::SeqCst);
    let gauge = metrics.breaker_open.with_label_values(&["bus"]);
    let standing = || inbox.progress.lock().unwrap().last().map(|progress| progress.standing);
    let watch = async {
        until("it opens", || gauge.get() == 1).await;
        until("it is recorded", || standing().is_some_and(|it| it.breaker_open_since.is_some())).await;
    };
    run(first, watch).await;

    let standing = standing().unwrap();
    let inbox = Sick::healthy(20).with(|state| state.standing = standing);
    let (second, sink, metrics) = consumer(&inbox).await;
    let gauge = metrics.breaker_open.with_label_values(&["bus"]);
    assert_eq!(gauge.get(), 1);
    let watch = async {
        time_until(&inbox.recorded, 20).await;
    };
    run(second, watch).await;
    assert_eq!((gauge.get(), sink.got.load(Ordering::SeqCst)), (0, 20));
}

#[tokio::test]
async fn a_replay_delivers_its_part_and_ends() {
    let selection = Selection { filter: EventFilter::default(), first: seq(11), last: seq(300) };
    let of_replay = |state: &mut ConsumerState| {
        (state.selection, state.cursor, state.paused) = (Some(selection), seq(10), true);
    };
    let inbox = Sick::healthy(1000).with(of_replay);
    inbox.refusals.store(1, Ordering::SeqCst);
    let (sink, deps) = (Arc::new(Counting::default()), deps(&inbox));
    let metrics = Arc::clone(&deps.metrics);
    let gauges = [&metrics.dead_letters, &metrics.sink_parked, &metrics.breaker_open, &metrics.sink_lag_seconds];
    gauges.iter().for_each(|gauge| gauge.with_label_values(&["bus"]).set(42));
    let replay = Consumer::replay(config(), sink.clone(), JobId::new(9), None, deps).await.unwrap();
    let lag = replay.lag();
    assert_eq!(replay.run(CancellationToken::new()).await, End::Finished);
    lag.refresh(seq(1000));

    assert_eq!(*inbox.registered.lock().unwrap(), [Registration::Replay { job: JobId::new(9) }]);
    assert_eq!((sink.got.load(Ordering::SeqCst), inbox.recorded.load(Ordering::SeqCst)), (290, 290));
    assert_eq!(*sink.replays.lock().unwrap(), BTreeSet::from([Some(9)]));
    assert_eq!(sink.most_at_once.load(Ordering::SeqCst), 2, "half of the sink's");
    assert!(inbox.read_at_once.load(Ordering::SeqCst) <= 64);
    let last = inbox.progress.lock().unwrap().last().cloned().unwrap();
    assert_eq!((last.cursor, last.consumer), (seq(300), ConsumerId::new(7)));
    assert!(gauges.iter().all(|gauge| gauge.with_label_values(&["bus"]).get() == 42));
    assert_eq!(metrics.sink_lag_events.with_label_values(&["bus"]).get(), 0);
}

#[tokio::test]
async fn a_replay_can_be_slow_and_be_stopped() {
    let selection = Selection { filter: EventFilter::default(), first: seq(1), last: seq(300) };
    let inbox = Sick::healthy(300).with(|state| state.selection = Some(selection));
    let sink = Arc::new(Counting::default());
    let replay = Consumer::replay(config(), sink.clone(), JobId::new(9), Some(20.0), deps(&inbox)).await.unwrap();
    let watch = async {
        let eleven = time_until(&sink.got, 11).await;
        assert!(eleven > Duration::from_millis(450), "{eleven:?}");
    };
    assert_eq!(run(replay, watch).await, End::Stopped);
    assert_eq!(sink.got.load(Ordering::SeqCst), inbox.recorded.load(Ordering::SeqCst));
}

#[tokio::test]
async fn a_replay_without_a_selection_is_refused() {
    let inbox = Sick::healthy(1);
    let replay = Consumer::replay(config(), Arc::new(Counting::default()), JobId::new(9), None, deps(&inbox)).await;
    assert!(matches!(replay, Err(Unavailable::Storage(_))));
}

#[tokio::test]
async fn what_a_filter_cannot_decide_is_counted() {
    let (consumer, _, metrics) = consumer(&Sick::healthy(1)).await;
    consumer.tell_unsure(&[(seq(1), "no such field".to_owned()), (seq(2), "no such field".to_owned())]);
    assert!(metrics.render().contains("ralio_relay_filter_errors_total{sink=\"bus\"} 2"));
}
