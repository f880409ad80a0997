//! The loop over an inbox that misbehaves.

mod orders;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Config, Consumer, Deps, End, Ordering as Order, Retry};
use crate::clock::{SystemClock, Uptime};
use crate::inbox::{
    Advance, Appended, Because, BelievedClock, Change, ConfiguredSink, ConsumerId, ConsumerState, Effect, EventFilter,
    EventOutline, Inbox, Job, JobUpdate, NewEvent, NewJob, Parked, Progress, QuarantineFilter, QuarantineOutcome,
    Quarantined, Refused, Registered, Registration, Released, Selection, SinkDefinition, SinkHealth, Slice, Standing,
    StoredEvent, Unavailable,
};
use crate::metrics::Metrics;
use crate::model::{
    Digest, EntityKey, EventId, EventType, JobId, Outcome, Outgoing, Seq, SinkName, SourceName, Start as StartAt,
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
        own_failures: 0,
    }
}

impl Sick {
    /// All of its events are parked; one that is not where there are none.
    fn new(parked_events: i64) -> Arc<Self> {
        let inbox = Self::healthy(parked_events.max(1));
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
                health: SinkHealth::default(),
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
        content_encoding: None,
        body: Some(bytes::Bytes::from_static(b"{}")),
        altered: None,
    }
}

#[async_trait]
impl Inbox for Sick {
    async fn append(&self, _: NewEvent) -> Result<Appended, Unavailable> {
        Err(Unavailable::Closed)
    }

    async fn quarantine(&self, _: Refused) -> Result<QuarantineOutcome, Unavailable> {
        unreachable!("a consumer refuses nobody")
    }

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

    async fn note_altered(&self, _: Vec<(Seq, Digest)>) -> Result<(), Unavailable> {
        unreachable!("no consumer asks for it")
    }

    async fn note_definition(&self, _: SinkName, _: SinkDefinition, _: Because) -> Result<(), Unavailable> {
        unreachable!("no consumer asks for it")
    }

    async fn outlines(&self, seqs: Vec<Seq>) -> Result<Vec<EventOutline>, Unavailable> {
        if self.unreadable.load(Ordering::SeqCst) {
            self.reads.fetch_add(1, Ordering::SeqCst);
            return Err(Unavailable::Storage("no".to_owned()));
        }
        Ok(seqs.into_iter().map(|seq| EventOutline::from(&event(seq))).collect())
    }

    async fn consumer(&self, who: Registration, _: String) -> Result<ConsumerState, Unavailable> {
        self.registered.lock().unwrap().push(who);
        Ok(self.state.lock().unwrap().clone())
    }

    async fn register_sinks(&self, _: Vec<(SinkName, StartAt)>) -> Result<Vec<Registered>, Unavailable> {
        Err(Unavailable::Closed)
    }

    async fn has_sink(&self, _: SinkName) -> Result<bool, Unavailable> {
        Err(Unavailable::Closed)
    }

    async fn note_built(&self, _: ConsumerId, _: Option<String>) -> Result<(), Unavailable> {
        Err(Unavailable::Closed)
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

    async fn advance(&self, _: JobId, _: &[ConfiguredSink]) -> Result<Advance, Unavailable> {
        Err(Unavailable::Closed)
    }

    async fn update_job(&self, _: JobId, _: JobUpdate) -> Result<(), Unavailable> {
        Err(Unavailable::Closed)
    }

    async fn quarantined(&self, _: QuarantineFilter, _: (i64, i64), _: usize) -> Result<Vec<Quarantined>, Unavailable> {
        Err(Unavailable::Closed)
    }

    async fn release(&self, _: JobId, _: Released) -> Result<(), Unavailable> {
        Err(Unavailable::Closed)
    }

    async fn note_clock(&self, _: Uptime) -> Result<BelievedClock, Unavailable> {
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

    async fn probe(&self) -> Result<Option<String>, String> {
        Ok(None)
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
        rate: None,
        retry: Retry {
            initial: Duration::from_millis(20),
            max: Duration::from_millis(40),
            jitter: false,
            give_up_after: Duration::MAX,
            breaker_after: 3,
            probe_max: Duration::from_secs(15),
            max_parked: 10_000,
        },
    }
}

fn deps(inbox: &Arc<Sick>) -> Deps {
    Deps { inbox: inbox.clone(), clock: Arc::new(SystemClock), metrics: Arc::new(Metrics::new()) }
}

async fn consumer(inbox: &Arc<Sick>) -> (Consumer, Arc<Counting>, Arc<Metrics>) {
    consumer_with(inbox, config()).await
}

async fn consumer_with(inbox: &Arc<Sick>, config: Config) -> (Consumer, Arc<Counting>, Arc<Metrics>) {
    let (sink, deps) = (Arc::new(Counting::default()), deps(inbox));
    let metrics = Arc::clone(&deps.metrics);
    (Consumer::open(config, sink.clone(), deps).await.unwrap(), sink, metrics)
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

/// At a start, and when many of them are due at once.
#[tokio::test]
async fn parked_events_are_not_all_in_memory_at_once() {
    let inbox = Sick::new(1000).with(|state| state.parked = (1..=1000).map(parked).collect());
    let mut config = config();
    config.concurrency = 500;
    let (consumer, sink, _) = consumer_with(&inbox, config).await;
    assert_eq!(inbox.most_at_once.load(Ordering::SeqCst), 0, "no body is read for a start");
    let watch = async {
        time_until(&sink.got, 1000).await;
    };
    run(consumer, watch).await;
    let most = inbox.most_at_once.load(Ordering::SeqCst);
    assert!((1..=64).contains(&most), "{most} bodies at once");
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
