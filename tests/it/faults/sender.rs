//! A sender's side of a fault: what it sent, and what it was told.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;
use futures_util::future::join_all;
use serde_json::json;

use crate::harness::fake_http::{FakeHttp, Recorded};
use crate::harness::faults::integrity;
use crate::harness::{Ack, Delivery, TestRelay, text};

/// Events of one inbox, over any number of lives of its relay. Every fifth request repeats one that was sent before,
/// whether it was answered or not.
#[derive(Default)]
pub struct Sender {
    rng: RefCell<Rng>,
    requests: Cell<u64>,
    /// How many there are to be.
    end: Cell<u64>,
    /// Ids, and how often they were sent.
    sent: RefCell<BTreeMap<String, u32>>,
    answered: RefCell<Answered>,
    refused: Cell<u64>,
}

/// Ids that were answered with 200.
#[derive(Clone, Default)]
pub struct Answered {
    fresh: BTreeSet<String>,
    any: BTreeSet<String>,
}

impl Answered {
    /// How many there are.
    pub fn count(&self) -> u64 {
        self.any.len() as u64
    }
}

/// A request. The body hangs on the id alone: from 200 bytes to 10 KiB, most of them small.
fn delivery(id: &str) -> Delivery {
    let number: u64 = id.trim_start_matches("evt-").parse().unwrap();
    let mut rng = Rng::with_seed(number);
    let pad = "x".repeat(if rng.u8(..4) == 0 { rng.usize(..10_000) } else { 0 });
    Delivery::current(id, "payin.completed", json!({"orderId": format!("order-{}", rng.u8(..)), "pad": pad}))
}

impl Sender {
    pub fn new(rng: &mut Rng) -> Self {
        Self { rng: RefCell::new(rng.fork()), ..Self::default() }
    }

    /// So many requests, `at_once` of them at a time; fewer when the relay is gone.
    pub async fn run(&self, relay: &TestRelay, at_once: u64, count: u64) {
        self.end.set(self.requests.get() + count);
        join_all((0..at_once).map(async |_| while !self.is_done() && self.send_next(relay).await {})).await;
    }

    /// Has [`Self::run`] send no more.
    pub fn stop(&self) {
        self.end.set(0);
    }

    fn is_done(&self) -> bool {
        self.requests.get() >= self.end.get()
    }

    fn any_sent(&self) -> Option<String> {
        self.rng.borrow_mut().choice(self.sent.borrow().keys()).cloned()
    }

    /// False when there was no answer.
    async fn send_next(&self, relay: &TestRelay) -> bool {
        let number = self.requests.replace(self.requests.get() + 1);
        let again = if number % 5 == 4 { self.any_sent() } else { None };
        let id = again.unwrap_or_else(|| format!("evt-{number:06}"));
        *self.sent.borrow_mut().entry(id.clone()).or_default() += 1;
        let is_known = self.answered.borrow().any.contains(&id);
        match relay.try_post(&delivery(&id)).await {
            Ok(Ack::FRESH) => {
                let mut answered = self.answered.borrow_mut();
                assert!(!is_known && answered.fresh.insert(id.clone()), "{id} is new twice; 200 before: {is_known}");
                answered.any.insert(id);
                true
            }
            Ok(Ack::DUPLICATE) => {
                assert!(self.sent.borrow()[&id] > 1, "{id} was sent once, and answered as a duplicate");
                self.answered.borrow_mut().any.insert(id);
                true
            }
            Ok(refused) => {
                assert_eq!(refused, Ack::refused(503), "{id}");
                self.refused.set(self.refused.get() + 1);
                true
            }
            Err(_) => false,
        }
    }

    /// How many ids were answered with 200.
    pub fn acknowledged(&self) -> u64 {
        self.answered.borrow().any.len() as u64
    }

    /// What was answered with 200 so far.
    pub fn answered(&self) -> Answered {
        self.answered.borrow().clone()
    }

    /// What was answered since counts for nothing.
    pub fn go_back_to(&self, answered: Answered) {
        self.answered.replace(answered);
    }

    /// How many requests were answered with 503.
    pub fn refused(&self) -> u64 {
        self.refused.get()
    }

    /// What was acknowledged is stored.
    pub async fn is_stored(&self, relay: &TestRelay) {
        let stored: BTreeSet<_> = relay.events().await.iter().map(|event| text(event, "id").to_owned()).collect();
        let lost: Vec<_> = self.answered.borrow().any.difference(&stored).cloned().collect();
        assert!(lost.is_empty(), "acknowledged, but not in the inbox: {lost:?}");
    }

    /// The sender tries one more time what was not answered with 200: the first such one.
    pub async fn try_again(&self, relay: &TestRelay) -> Result<(), Ack> {
        let id = self.unanswered().into_iter().next().expect("something was refused");
        match relay.post(&delivery(&id)).await {
            Ack { status: 200, .. } => {
                self.answered.borrow_mut().any.insert(id);
                Ok(())
            }
            other => Err(other),
        }
    }

    /// The sender tries again all that was not answered with 200: now it is.
    pub async fn send_again(&self, relay: &TestRelay) {
        while !self.unanswered().is_empty() {
            assert_eq!(self.try_again(relay).await, Ok(()));
        }
    }

    fn unanswered(&self) -> BTreeSet<String> {
        let (sent, answered) = (self.sent.borrow(), self.answered.borrow());
        sent.keys().filter(|&id| !answered.any.contains(id)).cloned().collect()
    }

    fn sent(&self) -> BTreeSet<String> {
        self.sent.borrow().keys().cloned().collect()
    }

    /// What was acknowledged is stored, and after the sender's next try all else is, too; each once, in a log without
    /// gaps. Each event has reached the file sink `out` and the HTTP sink's `app`, where there are such, at least once.
    /// Returns how many deliveries were repetitions.
    pub async fn verify(&self, relay: TestRelay, app: Option<&FakeHttp>) -> u64 {
        self.is_stored(&relay).await;
        self.send_again(&relay).await;
        relay.settled().await;
        let events = relay.events().await;
        let stored: BTreeSet<_> = events.iter().map(|event| text(event, "id").to_owned()).collect();
        assert_eq!(stored.len(), events.len(), "each id once");
        assert_eq!(stored, self.sent(), "what was sent is stored, and nothing else");
        let seqs: Vec<_> = events.iter().map(|event| event["seq"].as_u64().unwrap()).collect();
        assert_eq!(seqs, (1..=events.len() as u64).collect::<Vec<_>>(), "a log without gaps");
        let mut repeated = 0;
        if relay.settings().sinks().any(|sink| sink == "out") {
            repeated += self.have_reached(relay.lines("out").iter().map(|line| text(line, "id").to_owned()));
        }
        if let Some(app) = app {
            let id = |request: Recorded| request.headers["ce-id"].to_str().unwrap().to_owned();
            repeated += self.have_reached(app.accepted().into_iter().map(id));
        }
        integrity(&relay.shutdown().await.inbox());
        repeated
    }

    /// Whatever was sent is among the ids that a sink got, at least once. Returns how many of them are repetitions.
    pub fn have_reached(&self, delivered: impl Iterator<Item = String>) -> u64 {
        let delivered: Vec<_> = delivered.collect();
        let unique: BTreeSet<_> = delivered.iter().cloned().collect();
        assert_eq!(unique, self.sent(), "every stored event reached the sink, at least once");
        (delivered.len() - unique.len()) as u64
    }
}
