//! One sink and its keeper, over an inbox in memory and under a clock that jumps.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::time::Instant;

use super::keeper::Failure;
use super::*;
use crate::clock::{Clock, SystemClock};
use crate::consume::{Ordering, Retry};
use crate::inbox::Inbox;
use crate::inbox::contract::new_event;
use crate::inbox::memory::Memory;
use crate::metrics::Metrics;
use crate::model::{Outcome, Outgoing, Seq};
use crate::route::Route;
use crate::sink::Format;

/// What the sink does, whenever it is built.
#[derive(Default)]
struct Fate {
    is_missing: AtomicBool,
    builds: AtomicUsize,
    /// So many deliveries break their consumer's clock.
    panics: AtomicUsize,
    is_broken: AtomicBool,
    closed: AtomicUsize,
    got: Mutex<Vec<Seq>>,
}

struct Fake(Arc<Fate>);

#[async_trait]
impl Sink for Fake {
    async fn deliver(&self, event: &Outgoing) -> Outcome {
        let less = self.0.panics.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1));
        self.0.is_broken.store(less.is_ok(), SeqCst);
        self.0.got.lock().unwrap().push(event.seq);
        Outcome::delivered("ok")
    }

    async fn probe(&self) -> Result<Option<String>, String> {
        Ok(None)
    }

    async fn close(&self) {
        self.0.closed.fetch_add(1, SeqCst);
    }
}

/// The consumer's: it breaks once for each time that it is told to.
struct FakeClock(Arc<Fate>);

impl Clock for FakeClock {
    fn now(&self) -> Timestamp {
        assert!(!self.0.is_broken.swap(false, SeqCst), "broken");
        Timestamp::now()
    }
}

struct World {
    fate: Arc<Fate>,
    inbox: Arc<Memory>,
    shared: Shared,
    keeper: Keeper,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

fn settings() -> SinkSettings {
    let second = Duration::from_secs(1);
    let retry = Retry {
        initial: second,
        max: second,
        jitter: false,
        give_up_after: Duration::from_secs(3600),
        breaker_after: 3,
        probe_max: second,
        max_parked: 100,
    };
    let consumer = consume::Config {
        name: SinkName::new("bus").unwrap(),
        route: Route::new(vec![]),
        ordering: Ordering::None,
        start: Start::Earliest,
        concurrency: 1,
        timeout: second,
        rate: None,
        retry,
    };
    let (files, unreadable, facts) = Default::default();
    SinkSettings { consumer, sink: sink::Config::Stdout, format: Format::Raw, files, unreadable, facts }
}

impl World {
    /// A sink with three events to go.
    async fn new(fate: Fate) -> Self {
        let fate = Arc::new(fate);
        let clock = Arc::new(FakeClock(Arc::clone(&fate)));
        let inbox = Arc::new(Memory::new(Arc::new(SystemClock)));
        for n in 1..=3 {
            let body = format!(r#"{{"eventId":"e{n}","eventType":"payin_completed","data":{{"orderId":"o{n}"}}}}"#);
            inbox.append(new_event("one", &body)).await.unwrap();
        }
        let settings = settings();
        let start = (settings.consumer.name.clone(), settings.consumer.start);
        let place = inbox.register_sinks(vec![start]).await.unwrap()[0];
        let built = Arc::clone(&fate);
        let shared = Shared {
            destinations: Destinations::default(),
            deps: consume::Deps { inbox: inbox.clone(), clock, metrics: Arc::new(Metrics::new()) },
            lags: Lags::default(),
            unavailable: UnavailableSinks::default(),
            grace: Duration::from_secs(5),
            builder: Arc::new(move |_| {
                let fate = Arc::clone(&built);
                Box::pin(async move {
                    fate.builds.fetch_add(1, SeqCst);
                    let sink: Arc<dyn Sink> = Arc::new(Fake(Arc::clone(&fate)));
                    if fate.is_missing.load(SeqCst) { Err(Failure("missing".to_owned())) } else { Ok(sink) }
                })
            }),
        };
        let stop = CancellationToken::new();
        let keeper = Keeper::new(settings, place, false, shared.clone(), &stop);
        shared.destinations.lock().await.push(keeper.destination());
        let mut tasks = JoinSet::new();
        tasks.spawn(keeper.clone().keep(Vec::new()));
        Self { fate, inbox, shared, keeper, stop, tasks }
    }

    fn failure(&self) -> Option<String> {
        self.shared.unavailable.lock().unwrap().get(self.keeper.name()).map(|failure| failure.error.clone())
    }

    /// As the inbox has it.
    fn noted(&self) -> Option<String> {
        let state = self.inbox.state();
        state.row(self.keeper.id()).unwrap().build_failure.as_ref().map(|failure| failure.error.clone())
    }

    async fn until(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let waited = async {
            let mut looks = tokio::time::interval(Duration::from_millis(10));
            while !is_so(self) {
                looks.tick().await;
            }
        };
        timeout(Duration::from_secs(600), waited).await.unwrap_or_else(|_| panic!("never {what}"));
    }

    fn got(&self) -> Vec<i64> {
        self.fate.got.lock().unwrap().iter().map(|seq| seq.get()).collect()
    }

    async fn end(mut self) {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
    }
}

/// What it had not recorded is delivered again; the old sink is closed before.
#[tokio::test(start_paused = true)]
async fn a_consumer_that_panics_is_opened_again_from_its_place() {
    let world = World::new(Fate { panics: AtomicUsize::new(2), ..Fate::default() }).await;
    let begun = Instant::now();
    world.until("told", |world| world.failure().is_some_and(|why| why.contains("panicked: this is a bug"))).await;
    world.until("noted", |world| world.noted() == world.failure()).await;
    world.until("delivered", |world| world.got() == [1, 1, 1, 2, 3]).await;
    assert!(begun.elapsed() >= Duration::from_secs(3), "a second, and two more");
    assert_eq!((world.fate.builds.load(SeqCst), world.fate.closed.load(SeqCst)), (3, 2));
    world.until("well again", |world| (world.failure(), world.noted()) == (None, None)).await;
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_unavailable_sink_is_tried_less_and_less_often_and_at_once_when_asked() {
    let world = World::new(Fate { is_missing: AtomicBool::new(true), ..Fate::default() }).await;
    world.until("tried", |world| world.keeper.tried().is_cancelled()).await;
    let begun = Instant::now();
    world.until("tried ten times", |world| world.fate.builds.load(SeqCst) == 10).await;
    // At 0, 1, 3, 7, 15, 30, and each 15 s from there on.
    assert_eq!(begun.elapsed().as_secs(), 90);
    assert_eq!((world.failure(), world.noted()), (Some("missing".to_owned()), Some("missing".to_owned())));
    assert_eq!(world.shared.destinations.lock().await[0].consumer, Some(world.keeper.id()), "jobs know it");
    world.fate.is_missing.store(false, SeqCst);
    let asked = Instant::now();
    assert!(world.shared.destinations.try_now(world.keeper.name()).await);
    assert!(!world.shared.destinations.try_now(&SinkName::new("nobody").unwrap()).await);
    world.until("delivered", |world| world.got() == [1, 2, 3]).await;
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
    assert_eq!((world.failure(), world.noted()), (None, None));
    world.end().await;
}

/// Also one that waits for its next try.
#[tokio::test(start_paused = true)]
async fn an_unavailable_sink_that_is_not_wanted_any_more_ends() {
    let world = World::new(Fate { is_missing: AtomicBool::new(true), ..Fate::default() }).await;
    world.until("unavailable", |world| world.failure().is_some()).await;
    let old = world.shared.destinations.lock().await.pop();
    let leaving = world.keeper.clone().leave();
    let ended = leaving.ended.clone();
    timeout(Duration::from_millis(100), leaving.end(old, world.shared.clone())).await.expect("it ends");
    assert!(ended.is_cancelled());
    assert_eq!(world.failure(), None);
    world.end().await;
}
