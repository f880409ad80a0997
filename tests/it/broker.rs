//! A real broker that fails while events come in: whatever happens to it, the sender gets its 200s, every event arrives,
//! and none is called delivered that the broker has not confirmed.
#![cfg(feature = "amqp")]

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use data_encoding::HEXLOWER;
use futures_util::future::join_all;
use ralio_relay::inbox::sqlite::Reader;
use ralio_relay::inbox::{AttemptState, Config, QuarantineLimits};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::harness::rabbitmq::{self, Vhost};
use crate::harness::{Ack, Delivery, TestRelay, eventually, signed, text};

const EXCHANGE: &str = "ralio.events";
const QUEUE: &str = "ledger";
const DELIVERED: &[(&str, &str)] = &[("outcome", "delivered")];

/// Deliveries come in so many at once, and so far apart: several under way at any moment, and few enough in all.
const BURST: usize = 10;
const PACE: Duration = Duration::from_millis(80);

/// A relay over a broker, and everything that it has acknowledged.
struct Scene {
    relay: TestRelay,
    vhost: Vhost,
    posted: Vec<Delivery>,
}

impl Scene {
    async fn new(vhost: Vhost) -> Self {
        let url = vhost.url();
        let amqp = format!("timeout = \"3s\"\n[sinks.amqp]\nurl = {url:?}\nexchange = {EXCHANGE:?}\nqueue = {QUEUE:?}");
        let relay = TestRelay::builder().sink("bus", "amqp", &amqp).expect_errors().start().await;
        Self { relay, vhost, posted: Vec::new() }
    }

    /// Lets events come in for as long as something happens.
    async fn meanwhile<T>(&mut self, happens: impl Future<Output = T>) -> T {
        under_load(&self.relay, &mut self.posted, happens).await
    }

    /// Events come in until some more are delivered.
    async fn deliveries_go_on(&mut self) {
        let relay = &self.relay;
        let before = relay.metric("sink_attempts_total", DELIVERED).await;
        let more = eventually("more deliveries", async || match relay.metric("sink_attempts_total", DELIVERED).await {
            now if now >= before + 50 => Ok(()),
            now => Err((before, now)),
        });
        under_load(relay, &mut self.posted, more).await;
    }

    /// Events come in until an attempt has failed for a reason that holds this.
    async fn deliveries_fail(&mut self, why: &str) {
        let relay = &self.relay;
        let before = relay.log().len();
        let failed = eventually(why, async || {
            let log = relay.log().split_off(before);
            if log.iter().any(|line| line.contains(why)) { Ok(()) } else { Err(log.last().cloned()) }
        });
        under_load(relay, &mut self.posted, failed).await;
    }

    /// Nothing that the ledger calls delivered is missing in the queue, at this very moment.
    async fn delivered_is_in_the_queue(&self) {
        let delivered = Ledger::of(&self.relay).delivered();
        let held = self.held().await;
        let missing: Vec<_> = delivered.keys().filter(|id| !held.contains_key(*id)).collect();
        assert!(missing.is_empty(), "delivered to nobody: {missing:?}");
    }

    /// The digests of the bodies in the queue, by event id.
    async fn held(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut held: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for message in self.vhost.messages(QUEUE).await {
            let digest = HEXLOWER.encode(&Sha256::digest(&message.payload));
            held.entry(text(&message.properties, "message_id").to_owned()).or_default().insert(digest);
        }
        held
    }

    /// The end: every event is in the queue with its body, each has one confirm of its own, and nothing is left over. The
    /// channels that carried them.
    async fn all_arrived(self) -> BTreeSet<String> {
        self.relay.settled().await;
        let expected: BTreeMap<_, _> =
            self.posted.iter().map(|posted| (posted.stored_id(), BTreeSet::from([posted.sha256()]))).collect();
        assert_eq!(expected.len(), self.posted.len());
        assert!(self.held().await == expected, "not the events that were acknowledged");
        let delivered = Ledger::of(&self.relay).delivered();
        assert!(delivered.keys().eq(expected.keys()), "not exactly the events that were acknowledged");
        let receipts: Vec<&String> = delivered.values().flatten().collect();
        assert_eq!(receipts.len(), expected.len(), "each is delivered once");
        let distinct: BTreeSet<_> = receipts.iter().collect();
        assert_eq!(distinct.len(), receipts.len(), "two events with one confirm");
        let channel = |receipt: &String| receipt.split_once(" on channel of ").unwrap().1.to_owned();
        let channels = receipts.into_iter().map(channel).collect();
        self.relay.shutdown().await;
        channels
    }
}

/// What the relay has recorded.
struct Ledger(Config);

impl Ledger {
    fn of(relay: &TestRelay) -> Self {
        Self(Config {
            path: relay.settings().inbox(),
            quarantine: QuarantineLimits { max_entries: 1, max_bytes: 1 },
            retention: None,
        })
    }

    /// The receipts of what is delivered, by event id.
    fn delivered(&self) -> BTreeMap<String, Vec<String>> {
        let mut delivered: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut reader = Reader::open(&self.0).unwrap();
        for seq in 1..=reader.head().unwrap().get() {
            for event in reader.event(&seq.to_string()).unwrap() {
                let successes = event.attempts.iter().filter(|attempt| attempt.outcome == AttemptState::Delivered);
                let receipts: Vec<String> = successes.map(|attempt| attempt.note.clone()).collect();
                if !receipts.is_empty() {
                    delivered.insert(event.summary.id.to_string(), receipts);
                }
            }
        }
        delivered
    }
}

/// Lets events come in for as long as something happens. Each must be answered with 200, and soon.
async fn under_load<T>(relay: &TestRelay, posted: &mut Vec<Delivery>, happens: impl Future<Output = T>) -> T {
    let (before, over) = (posted.len(), AtomicBool::new(false));
    let load = async {
        let mut pace = tokio::time::interval(PACE);
        while !over.load(Ordering::Relaxed) || posted.len() == before {
            pace.tick().await;
            let ids = posted.len()..posted.len() + BURST;
            let burst: Vec<_> = ids.map(|n| signed::payin_completed(&format!("evt-{n}"))).collect();
            let answers = join_all(burst.iter().map(|delivery| relay.post(delivery)));
            let answers = tokio::time::timeout(Duration::from_secs(10), answers).await;
            let answers = answers.expect("the sender had to wait for the broker");
            assert!(answers.iter().all(|answer| *answer == Ack::FRESH), "{answers:?}");
            posted.extend(burst);
        }
    };
    let happens = async {
        let outcome = happens.await;
        over.store(true, Ordering::Relaxed);
        outcome
    };
    tokio::join!(load, happens).1
}

/// kill -9, again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_the_broker_is_killed() {
    let Some(mut broker) = rabbitmq::exclusive().await else { return };
    let mut scene = Scene::new(broker.vhost().await).await;
    for _ in 0..2 {
        scene.deliveries_go_on().await;
        scene.meanwhile(broker.kill()).await;
        scene.deliveries_fail("cannot connect to ").await;
        scene.meanwhile(broker.mend()).await;
    }
    scene.deliveries_go_on().await;
    let channels = scene.all_arrived().await;
    assert!(channels.len() >= 3, "{channels:?}");
}

/// The queue is unbound, so that the broker confirms what it then drops.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_the_queue_is_unbound() {
    let Some(broker) = rabbitmq::shared().await else { return };
    let mut scene = Scene::new(broker.vhost().await).await;
    for _ in 0..3 {
        scene.deliveries_go_on().await;
        under_load(&scene.relay, &mut scene.posted, scene.vhost.unbind(QUEUE, EXCHANGE)).await;
        scene.deliveries_fail("no queue is bound to exchange").await;
        scene.delivered_is_in_the_queue().await;
        let bind = scene.vhost.bind(QUEUE, json!({}), EXCHANGE, "#");
        under_load(&scene.relay, &mut scene.posted, bind).await;
    }
    scene.deliveries_go_on().await;
    scene.all_arrived().await;
}

/// A memory alarm: the broker blocks whoever publishes. Deliveries fail at once and say why; the connection is kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_the_broker_runs_out_of_memory() {
    let Some(mut broker) = rabbitmq::exclusive().await else { return };
    let mut scene = Scene::new(broker.vhost().await).await;
    scene.deliveries_go_on().await;
    scene.meanwhile(broker.raise_memory_alarm()).await;
    scene.deliveries_fail("the broker blocks publishers: low on memory").await;
    scene.delivered_is_in_the_queue().await;
    scene.meanwhile(broker.mend()).await;
    scene.deliveries_go_on().await;
    let channels = scene.all_arrived().await;
    assert_eq!(channels.len(), 1, "the connection was not kept: {channels:?}");
}

/// The broker closes every connection, as an operator may ask it to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_the_broker_closes_its_connections() {
    let Some(broker) = rabbitmq::shared().await else { return };
    let mut scene = Scene::new(broker.vhost().await).await;
    for _ in 0..3 {
        scene.deliveries_go_on().await;
        under_load(&scene.relay, &mut scene.posted, scene.vhost.close_connections()).await;
    }
    scene.deliveries_go_on().await;
    let channels = scene.all_arrived().await;
    assert_eq!(channels.len(), 4, "{channels:?}");
}
