//! The loop over an inbox that misbehaves.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Config, Consumer, Deps, Ordering as Order, Retry};
use crate::clock::SystemClock;
use crate::inbox::{Appended, ConsumerState, Inbox, NewEvent, Parked, Progress, Refused, StoredEvent, Unavailable};
use crate::metrics::Metrics;
use crate::model::{EntityKey, EventId, EventType, Outcome, Outgoing, Seq, SinkName, SourceName, Start as StartAt};
use crate::route::{Glob, Route};
use crate::sink::Sink;

/// An inbox of one event that cannot be read while it is `broken`, with parked events to begin with.
struct Sick {
    head: watch::Sender<Seq>,
    broken: AtomicBool,
    in_trouble: AtomicBool,
    parked: Vec<Parked>,
    reads: AtomicUsize,
    looks: AtomicUsize,
    most_at_once: AtomicUsize,
    /// Records still to be refused.
    refusals: AtomicUsize,
    recorded: AtomicUsize,
}

impl Sick {
    fn new(parked: i64) -> Arc<Self> {
        let parked = (1..=parked).map(|at| Parked {
            seq: Seq::new(at).unwrap(),
            attempts: 1,
            first_attempt: Some(Timestamp::UNIX_EPOCH),
            next_attempt: Timestamp::UNIX_EPOCH,
        });
        Arc::new(Self {
            head: watch::Sender::new(Seq::new(1).unwrap()),
            broken: AtomicBool::new(true),
            in_trouble: AtomicBool::new(false),
            parked: parked.collect(),
            reads: AtomicUsize::new(0),
            looks: AtomicUsize::new(0),
            most_at_once: AtomicUsize::new(0),
            refusals: AtomicUsize::new(0),
            recorded: AtomicUsize::new(0),
        })
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

    async fn read_after(&self, after: Seq, _: usize) -> Result<Vec<StoredEvent>, Unavailable> {
        // Others get their turn even where this is called without end.
        tokio::task::yield_now().await;
        self.reads.fetch_add(1, Ordering::SeqCst);
        if self.broken.load(Ordering::SeqCst) {
            return Err(Unavailable::Storage("no".to_owned()));
        }
        Ok(vec![event(after.next())])
    }

    async fn read(&self, seqs: Vec<Seq>) -> Result<Vec<StoredEvent>, Unavailable> {
        self.most_at_once.fetch_max(seqs.len(), Ordering::SeqCst);
        Ok(seqs.into_iter().map(event).collect())
    }

    async fn consumer(&self, _: &SinkName, _: StartAt, _: String) -> Result<ConsumerState, Unavailable> {
        let cursor = Seq::new(self.parked.len() as i64).unwrap();
        Ok(ConsumerState { cursor, parked: self.parked.clone(), done_above: BTreeSet::new(), dead_letters: 0 })
    }

    async fn record(&self, progress: Progress) -> Result<(), Unavailable> {
        let less = |left: usize| left.checked_sub(1);
        if self.refusals.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok() {
            return Err(Unavailable::Storage("no".to_owned()));
        }
        self.recorded.fetch_add(progress.attempts.len(), Ordering::SeqCst);
        Ok(())
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

#[derive(Default)]
struct Counting(AtomicUsize);

#[async_trait]
impl Sink for Counting {
    async fn deliver(&self, _: &Outgoing) -> Outcome {
        self.0.fetch_add(1, Ordering::SeqCst);
        Outcome::delivered("ok")
    }

    async fn probe(&self) -> Result<(), String> {
        Ok(())
    }

    async fn close(&self) {}
}

async fn consumer(inbox: &Arc<Sick>) -> (Consumer, Arc<Counting>) {
    let config = Config {
        name: SinkName::new("bus").unwrap(),
        route: Route::new(vec![Glob::new("*").unwrap()]),
        ordering: Order::Key,
        start: StartAt::Earliest,
        concurrency: 4,
        timeout: Duration::from_secs(10),
        retry: Retry {
            initial: Duration::from_secs(1),
            max: Duration::from_secs(60),
            jitter: false,
            give_up_after: Duration::from_secs(3600),
        },
    };
    let sink = Arc::new(Counting::default());
    let deps = Deps { inbox: inbox.clone(), clock: Arc::new(SystemClock), metrics: Arc::new(Metrics::new()) };
    (Consumer::open(config, sink.clone(), deps).await.unwrap(), sink)
}

/// How long it takes until a count is reached.
async fn time_until(counter: &AtomicUsize, count: usize) -> Duration {
    let began = Instant::now();
    while counter.load(Ordering::SeqCst) < count {
        assert!(began.elapsed() < Duration::from_secs(30), "it stays at {}", counter.load(Ordering::SeqCst));
        tokio::task::yield_now().await;
    }
    began.elapsed()
}

#[tokio::test]
async fn a_log_that_cannot_be_read_is_no_busy_loop_and_heals() {
    let inbox = Sick::new(0);
    let (consumer, sink) = consumer(&inbox).await;
    let stop = CancellationToken::new();
    let watch = async {
        let three_reads = time_until(&inbox.reads, 3).await;
        assert!(three_reads > Duration::from_millis(900), "{three_reads:?}");
        inbox.broken.store(false, Ordering::SeqCst);
        time_until(&sink.0, 1).await;
        stop.cancel();
    };
    tokio::join!(consumer.run(stop.clone()), watch);
}

#[tokio::test]
async fn what_is_due_while_the_inbox_is_in_trouble_is_no_busy_loop() {
    let inbox = Sick::new(1);
    inbox.in_trouble.store(true, Ordering::SeqCst);
    let (consumer, sink) = consumer(&inbox).await;
    let stop = CancellationToken::new();
    let watch = async {
        let many_looks = time_until(&inbox.looks, 5).await;
        assert!(many_looks > Duration::from_millis(900), "{many_looks:?}");
        assert_eq!(sink.0.load(Ordering::SeqCst), 0);
        inbox.in_trouble.store(false, Ordering::SeqCst);
        time_until(&sink.0, 1).await;
        stop.cancel();
    };
    tokio::join!(consumer.run(stop.clone()), watch);
}

#[tokio::test]
async fn parked_events_are_not_all_in_memory_at_once() {
    let inbox = Sick::new(1000);
    let (_consumer, _) = consumer(&inbox).await;
    let most = inbox.most_at_once.load(Ordering::SeqCst);
    assert!((1..=16).contains(&most), "{most} bodies at once");
}

#[tokio::test]
async fn what_could_not_be_recorded_is_recorded_later() {
    let inbox = Sick::new(1);
    inbox.refusals.store(2, Ordering::SeqCst);
    let (consumer, sink) = consumer(&inbox).await;
    let stop = CancellationToken::new();
    let watch = async {
        time_until(&inbox.recorded, 1).await;
        stop.cancel();
    };
    tokio::join!(consumer.run(stop.clone()), watch);
    assert_eq!(sink.0.load(Ordering::SeqCst), 1, "it is not delivered again for that");
}
