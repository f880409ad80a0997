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
use crate::harness::{Ack, Campaign, Delivery, TestRelay, eventually, signed, text};

const EXCHANGE: &str = "ralio.events";
const QUEUE: &str = "ledger";
const DELIVERED: &[(&str, &str)] = &[("outcome", "delivered")];

/// Deliveries in flight: the most that one fault of the broker may repeat.
const WINDOW: usize = 16;

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
        let amqp = format!(
            "concurrency = {WINDOW}\ntimeout = \"2s\"\nretry = {{ initial = \"200ms\", max = \"1s\" }}\n[sinks.amqp]\nurl = {url:?}\nexchange = {EXCHANGE:?}\nqueue = {QUEUE:?}"
        );
        let relay = TestRelay::builder().sink("bus", "amqp", &amqp).expect_errors().start().await;
        Self { relay, vhost, posted: Vec::new() }
    }

    /// Lets events come in for as long as something happens.
    async fn meanwhile<T>(&mut self, happens: impl Future<Output = T>) -> T {
        under_load(&self.relay, &mut self.posted, happens).await
    }

    /// Twice as many events come in as may be in flight.
    async fn two_windows_come_in(&mut self) {
        for _ in 0..2 * WINDOW.div_ceil(BURST) {
            self.meanwhile(std::future::ready(())).await;
        }
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

    /// The digests of the bodies in the queue, by event id; each as often as it is there.
    async fn held(&self) -> BTreeMap<String, Vec<String>> {
        let mut held: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for message in self.vhost.messages(QUEUE).await {
            let digest = HEXLOWER.encode(&Sha256::digest(&message.payload));
            held.entry(text(&message.properties, "message_id").to_owned()).or_default().push(digest);
        }
        held
    }

    /// The end, after one fault: every event is in the queue with its body, each has one confirm of its own, and no
    /// more came twice than were in flight. The channels that carried them.
    async fn all_arrived(self, campaign: &mut Campaign) -> BTreeSet<String> {
        self.relay.settled().await;
        let mut held = self.held().await;
        let messages: usize = held.values().map(Vec::len).sum();
        held.values_mut().for_each(Vec::dedup);
        let expected: BTreeMap<_, _> =
            self.posted.iter().map(|posted| (posted.stored_id(), vec![posted.sha256()])).collect();
        assert_eq!(expected.len(), self.posted.len());
        assert!(held == expected, "not the events that were acknowledged");
        let repeated = messages - expected.len();
        campaign.count("events", expected.len() as u64);
        campaign.count("lost", 0);
        campaign.count("duplicates", repeated as u64);
        campaign.highest("of one fault at most", repeated as u64);
        assert!(repeated <= WINDOW, "{repeated} came twice");

        let delivered = Ledger::of(&self.relay).delivered();
        assert!(delivered.keys().eq(expected.keys()), "not exactly the events that were acknowledged");
        let receipts: Vec<&String> = delivered.values().flatten().collect();
        assert_eq!(receipts.len(), expected.len(), "each is delivered once");
        let distinct: BTreeSet<_> = receipts.iter().collect();
        assert_eq!(distinct.len(), receipts.len(), "two events with one confirm");
        let channel = |receipt: &String| receipt.split_once(" on channel of ").unwrap().1.to_owned();
        let channels = receipts.into_iter().map(channel).collect();
        self.relay.shutdown().await;
        self.vhost.delete().await;
        channels
    }
}

/// What the relay has recorded.
struct Ledger(Config);

impl Ledger {
    fn of(relay: &TestRelay) -> Self {
        Self(Config {
            path: relay.settings().inbox(),
            quarantine: QuarantineLimits { max_entries: 1, max_bytes: 1, ..Default::default() },
            dedup_memory: 1 << 20,
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_the_broker_is_killed() {
    kills(Campaign::brief("broker killed", 1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a part of tests/campaign"]
async fn campaign_broker_kills() {
    kills(Campaign::whole("broker killed", 50)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_the_broker_goes_silent() {
    silence(Campaign::brief("broker silent", 1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a part of tests/campaign"]
async fn campaign_broker_silence() {
    silence(Campaign::whole("broker silent", 20)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_the_queue_is_unbound() {
    unbound(Campaign::brief("queue unbound", 1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a part of tests/campaign"]
async fn campaign_broker_unbound() {
    unbound(Campaign::whole("queue unbound", 50)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_the_broker_runs_out_of_memory() {
    alarms(Campaign::brief("broker out of memory", 1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a part of tests/campaign"]
async fn campaign_broker_alarms() {
    alarms(Campaign::whole("broker out of memory", 20)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_the_broker_closes_its_connections() {
    cuts(Campaign::brief("connections to the broker cut", 1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a part of tests/campaign"]
async fn campaign_broker_cuts() {
    cuts(Campaign::whole("connections to the broker cut", 20)).await;
}

/// kill -9; every other time of a broker that has gone silent: as many messages as may be in flight are on their way to
/// it, and it has confirmed none of them.
async fn kills(mut campaign: Campaign) {
    let Some(mut broker) = rabbitmq::exclusive().await else { return };
    while campaign.round().is_some() {
        let mut scene = Scene::new(broker.vhost().await).await;
        scene.deliveries_go_on().await;
        if campaign.number() % 2 == 1 {
            scene.meanwhile(broker.freeze()).await;
            scene.two_windows_come_in().await;
        }
        scene.meanwhile(broker.kill()).await;
        scene.deliveries_fail("cannot connect to ").await;
        scene.meanwhile(broker.mend()).await;
        scene.deliveries_go_on().await;
        let channels = scene.all_arrived(&mut campaign).await;
        assert!(channels.len() >= 2, "{channels:?}");
    }
}

/// The broker goes silent until the deliveries are given up, and then does what it was told before.
async fn silence(mut campaign: Campaign) {
    let Some(mut broker) = rabbitmq::exclusive().await else { return };
    while campaign.round().is_some() {
        let mut scene = Scene::new(broker.vhost().await).await;
        scene.deliveries_go_on().await;
        scene.meanwhile(broker.freeze()).await;
        scene.two_windows_come_in().await;
        scene.deliveries_fail("no answer within").await;
        scene.meanwhile(broker.mend()).await;
        scene.deliveries_go_on().await;
        scene.all_arrived(&mut campaign).await;
    }
}

/// The queue is unbound, so that the broker confirms what it then drops.
async fn unbound(mut campaign: Campaign) {
    let Some(broker) = rabbitmq::shared().await else { return };
    while campaign.round().is_some() {
        let mut scene = Scene::new(broker.vhost().await).await;
        scene.deliveries_go_on().await;
        under_load(&scene.relay, &mut scene.posted, scene.vhost.unbind(QUEUE, EXCHANGE)).await;
        scene.deliveries_fail("no queue is bound to exchange").await;
        scene.delivered_is_in_the_queue().await;
        let bind = scene.vhost.bind(QUEUE, json!({}), EXCHANGE, "#");
        under_load(&scene.relay, &mut scene.posted, bind).await;
        scene.deliveries_go_on().await;
        scene.all_arrived(&mut campaign).await;
    }
}

/// A memory alarm: the broker blocks whoever publishes. Deliveries fail at once and say why; the connection is kept.
async fn alarms(mut campaign: Campaign) {
    let Some(mut broker) = rabbitmq::exclusive().await else { return };
    while campaign.round().is_some() {
        let mut scene = Scene::new(broker.vhost().await).await;
        scene.deliveries_go_on().await;
        scene.meanwhile(broker.raise_memory_alarm()).await;
        scene.deliveries_fail("the broker blocks publishers: low on memory").await;
        scene.delivered_is_in_the_queue().await;
        scene.meanwhile(broker.mend()).await;
        scene.deliveries_go_on().await;
        // On a machine that has no time for the broker, deliveries are given up, and with them their connection.
        let is_slow = scene.relay.log().iter().any(|line| line.contains("no answer within"));
        let channels = scene.all_arrived(&mut campaign).await;
        assert!(channels.len() == 1 || is_slow, "the connection was not kept: {channels:?}");
    }
}

/// The broker closes every connection, as an operator may ask it to.
async fn cuts(mut campaign: Campaign) {
    let Some(broker) = rabbitmq::shared().await else { return };
    while campaign.round().is_some() {
        let mut scene = Scene::new(broker.vhost().await).await;
        scene.deliveries_go_on().await;
        under_load(&scene.relay, &mut scene.posted, scene.vhost.close_connections()).await;
        scene.deliveries_go_on().await;
        let channels = scene.all_arrived(&mut campaign).await;
        assert_eq!(channels.len(), 2, "{channels:?}");
    }
}
