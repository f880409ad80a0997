use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use jiff::Timestamp;

use super::*;
use crate::clock::{Clock, SystemClock};
use crate::inbox::sqlite::{Lock, Reader, SqliteInbox};
use crate::inbox::{self, EventFilter, NewEvent, NewJob, QuarantineLimits, Registration, Selection};
use crate::metrics::Metrics;
use crate::model::{Outcome, Outgoing, Seq, Start};
use crate::route::Route;
use crate::sink::Sink;
use crate::verify::{Unverified, sign};

/// Takes an event, and breaks the clock of whoever delivered it.
struct Breaking(Arc<AtomicBool>);

#[async_trait]
impl Sink for Breaking {
    async fn deliver(&self, _: &Outgoing) -> Outcome {
        self.0.store(true, Ordering::SeqCst);
        Outcome::delivered("ok")
    }

    async fn probe(&self) -> Result<Option<String>, String> {
        Ok(None)
    }

    async fn close(&self) {}
}

struct Breakable(Arc<AtomicBool>);

impl Clock for Breakable {
    fn now(&self) -> Timestamp {
        assert!(!self.0.load(Ordering::SeqCst), "broken");
        Timestamp::now()
    }
}

fn event() -> NewEvent {
    let body = r#"{"eventId":"e","eventType":"payin_completed","data":{}}"#;
    let delivery = Unverified {
        source: SourceName::new("one").unwrap(),
        signatures: vec![sign(b"secret", body.as_bytes()).into()],
        content_type: None,
        headers: vec![],
        body: body.into(),
    };
    NewEvent::new(delivery.verify(&Keys::new(&[b"secret"]).unwrap()).unwrap(), Timestamp::now())
}

/// Whoever watches it must not wait for ever.
#[tokio::test]
async fn a_replay_that_panics_has_failed() {
    let dir = tempfile::tempdir().unwrap();
    let quarantine = QuarantineLimits { max_entries: 1, max_bytes: 1, ..Default::default() };
    let config =
        inbox::Config { path: dir.path().join("inbox.db"), quarantine, dedup_memory: 1 << 20, retention: None };
    let (lock, metrics) = (Lock::try_take(&config.path).unwrap().unwrap(), Arc::new(Metrics::new()));
    let opened = SqliteInbox::open(&config, lock, Arc::new(SystemClock), Arc::clone(&metrics)).unwrap();
    let inbox: Arc<dyn Inbox> = Arc::new(opened);
    let name = SinkName::new("app").unwrap();
    let own = Registration::Sink { name: name.clone(), start: Start::Now };
    inbox.append(event()).await.unwrap();
    inbox.consumer(own, "*".to_owned()).await.unwrap();
    let selection =
        Selection { filter: EventFilter::default(), first: Seq::new(1).unwrap(), last: Seq::new(1).unwrap() };
    let task = Task::Replay { sink: name.clone(), selection, rate: None };
    let (who, reason, at) = ("ada".to_owned(), String::new(), Timestamp::now());
    let job = inbox.submit(NewJob { task, who, reason, total: None, at }).await.unwrap();

    let broken = Arc::new(AtomicBool::new(false));
    let clock: Arc<dyn Clock> = Arc::new(Breakable(Arc::clone(&broken)));
    let retry = consume::Retry {
        initial: Duration::from_millis(1),
        max: Duration::from_millis(1),
        jitter: false,
        give_up_after: Duration::MAX,
        breaker_after: 3,
        probe_max: Duration::from_secs(15),
        max_parked: 10_000,
    };
    let feed = consume::Config {
        name,
        route: Route::new(vec![]),
        ordering: consume::Ordering::Key,
        start: Start::Now,
        concurrency: 1,
        timeout: Duration::from_secs(10),
        rate: None,
        retry,
    };
    let deps = Deps {
        consume: consume::Deps { inbox: Arc::clone(&inbox), clock, metrics },
        keys: HashMap::new(),
        sinks: Destinations::new(vec![Destination::new(feed, Some(Arc::new(Breaking(broken))))]),
        retention: None,
        quarantine: Default::default(),
        configured: None,
    };
    let work = Executor::new(deps).run_one(job, CancellationToken::new());
    tokio::time::timeout(Duration::from_secs(30), work).await.expect("it ends");
    let job = Reader::open(&config).unwrap().job(job).unwrap().unwrap();
    assert_eq!((job.state, job.message.as_str()), (JobState::Failed, "the replay panicked: this is a bug"));
    inbox.close().await;
}
