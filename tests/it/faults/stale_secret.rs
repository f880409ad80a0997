//! Genuine deliveries while our secret is wrong, as fast as they go, from a sender that repeats what is answered 5xx and
//! never what is answered 4xx. Then the right secret, and a kill while what was refused is admitted: none is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde_json::json;
use tokio::task::JoinSet;

use crate::harness::faults::integrity;
use crate::harness::{Campaign, DEADLINE, Delivery, SECRET, TestRelay, eventually, eventually_within, signed, text};
use crate::reload::replace;

const CONNECTIONS: usize = 32;

#[tokio::test]
async fn a_stale_secret_loses_nothing() {
    let mut campaign = Campaign::brief("wrong secret, 2,000 genuine deliveries", 1);
    while campaign.round().is_some() {
        stale(&mut campaign, 2000, "600").await;
    }
}

#[tokio::test]
#[ignore = "a part of tests/campaign"]
async fn campaign_stale_secret() {
    let mut campaign = Campaign::whole("wrong secret, 100,000 genuine deliveries, then the right one", 1);
    while campaign.round().is_some() {
        stale(&mut campaign, 100_000, "10000").await;
    }
}

/// Of 1 to 2 KiB.
fn delivery(n: u64) -> Delivery {
    let pad = "x".repeat(800 + (n % 1000) as usize);
    Delivery::current(&format!("evt-{n}"), "payin.completed", json!({"orderId": format!("order-{n}"), "pad": pad}))
}

/// The deliveries that have no answer yet that ends them, and what the others were answered.
#[derive(Default)]
struct Sender {
    waiting: Mutex<BTreeSet<u64>>,
    /// The last one that somebody took to send.
    place: AtomicU64,
    /// Sent at least once.
    sent: AtomicU64,
    statuses: Mutex<BTreeMap<u16, u64>>,
    is_over: AtomicBool,
}

impl Sender {
    fn count(&self, status: u16) -> u64 {
        self.statuses.lock().unwrap().get(&status).copied().unwrap_or(0)
    }

    /// The next one that waits, and those after the last one again from the first on.
    fn next(&self) -> Option<u64> {
        let waiting = self.waiting.lock().unwrap();
        let after = self.place.load(Ordering::Relaxed);
        let next = waiting.range(after + 1..).next().or_else(|| waiting.iter().next()).copied()?;
        self.place.store(next, Ordering::Relaxed);
        Some(next)
    }

    /// Sends each once, and then on and on what was answered 5xx, or not at all, until `is_over` or none is left.
    async fn run(self: &Arc<Self>, client: &reqwest::Client, url: &str) {
        let mut tasks = JoinSet::new();
        for _ in 0..CONNECTIONS {
            let (sender, client, url) = (Arc::clone(self), client.clone(), url.to_owned());
            tasks.spawn(async move {
                while !sender.is_over.load(Ordering::Relaxed) {
                    let Some(n) = sender.next() else { return };
                    sender.send(&client, &url, n).await;
                }
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
    }

    async fn send(&self, client: &reqwest::Client, url: &str, n: u64) {
        let delivery = delivery(n);
        let mut request = client.post(url).body(delivery.body.clone());
        for (name, value) in &delivery.headers {
            request = request.header(name, value);
        }
        let Ok(response) = request.send().await else { return };
        let status = response.status().as_u16();
        self.sent.fetch_max(n, Ordering::Relaxed);
        let ends = match status {
            200 | 401 => true,
            503 => false,
            other => panic!("answered {other}"),
        };
        // Two may have sent it at a time: an answer counts where it is the first to end it.
        if !ends || self.waiting.lock().unwrap().remove(&n) {
            *self.statuses.lock().unwrap().entry(status).or_default() += 1;
        }
    }
}

async fn stale(campaign: &mut Campaign, count: u64, max_entries: &str) {
    let settings = TestRelay::builder().source("test", signed::PATH, &["a secret that is stale by now"], "");
    let settings = settings.env("RALIO_RELAY__INBOX__QUARANTINE__MAX_ENTRIES", max_entries).expect_errors();
    let relay = settings.start().await;
    let sender = Arc::new(Sender { waiting: Mutex::new((1..=count).collect()), ..Sender::default() });
    let began = Instant::now();
    let url = relay.url(signed::PATH);
    let all_sent = async {
        eventually_within(10 * DEADLINE, "each was sent once", async || match sender.sent.load(Ordering::Relaxed) {
            sent if sent >= count => Ok(()),
            sent => Err(sent),
        })
        .await;
        sender.is_over.store(true, Ordering::Relaxed);
    };
    tokio::join!(sender.run(relay.client(), &url), all_sent);
    let (kept, seconds) = (sender.count(401), began.elapsed().as_secs_f64());
    assert_eq!(relay.metric("quarantine_entries", &[]).await.max(0), kept as i64);
    assert!(kept > 0 && sender.count(200) == 0);
    campaign.count("answered 401 and kept", kept);
    campaign.count("answered 503 meanwhile", sender.count(503));
    campaign.highest("refused a second", ((kept + sender.count(503)) as f64 / seconds) as u64);

    // Killed as soon as something is admitted, and again once it is up.
    let file = relay.settings().directory().join("secret-test-0");
    replace(&file, SECRET);
    eventually("the first one admitted", async || match relay.metric("events_total", &[]).await {
        0 => Err(()),
        _ => Ok(()),
    })
    .await;
    let settings = relay.kill9();
    let settings = settings.start().await.kill9();
    let relay = settings.start().await;
    sender.is_over.store(false, Ordering::Relaxed);
    sender.run(relay.client(), &relay.url(signed::PATH)).await;
    assert_eq!(sender.count(401), kept, "nothing was refused any more");
    eventually_within(10 * DEADLINE, "an empty quarantine", async || match relay.quarantine().await.len() {
        0 => Ok(()),
        left => Err(left),
    })
    .await;

    let events = relay.events().await;
    let stored: BTreeSet<_> = events.iter().map(|event| text(event, "id").to_owned()).collect();
    let sent: BTreeSet<_> = (1..=count).map(|n| format!("evt-{n}")).collect();
    assert_eq!((stored.len(), stored == sent), (events.len(), true), "each once, and nothing else");
    let settings = relay.shutdown().await;
    assert_eq!(
        admitted(&settings.inbox()),
        kept as i64,
        "each admitted request counts once, whatever killed the relay"
    );
    integrity(&settings.inbox());
    campaign.count("events", events.len() as u64);
    campaign.count("lost", 0);
}

/// The sum over all jobs that admit.
fn admitted(inbox: &std::path::Path) -> i64 {
    let connection = rusqlite::Connection::open(inbox).unwrap();
    let sum = "SELECT coalesce(sum(done), 0) FROM jobs WHERE task ->> '$.task' = 'admit'";
    connection.query_row(sum, [], |row| row.get(0)).unwrap()
}
