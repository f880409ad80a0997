//! SIGKILL, at random points under load.

use std::collections::BTreeSet;
use std::sync::Mutex;

use futures_util::StreamExt as _;

use crate::durability::integrity;
use crate::harness::process::kill9;
use crate::harness::{Ack, Campaign, TestRelay, eventually, signed, text};

/// Ids that were answered with 200.
type Acknowledged = Mutex<BTreeSet<String>>;

#[tokio::test]
async fn nothing_acknowledged_is_lost_to_kill_9_under_load() {
    kills(Campaign::brief("SIGKILL at a random point under load", 4)).await;
}

#[tokio::test]
#[ignore = "a part of tests/campaign"]
async fn campaign_kills() {
    kills(Campaign::whole("SIGKILL at a random point under load", 200)).await;
}

/// Sends `count` events, 16 at a time, until all are answered or the relay is gone.
async fn load(relay: &TestRelay, round: u64, count: u64, acknowledged: &Acknowledged) {
    let sends = (0..count).map(|n| async move {
        let delivery = signed::payin_completed(&format!("evt-{round}-{n}"));
        if let Ok(ack) = relay.try_post(&delivery).await {
            assert_eq!(ack, Ack::FRESH);
            acknowledged.lock().unwrap().insert(delivery.stored_id());
        }
    });
    futures_util::stream::iter(sends).buffer_unordered(16).collect::<Vec<()>>().await;
}

async fn kills(mut campaign: Campaign) {
    while let Some(mut rng) = campaign.round() {
        let acknowledged = Acknowledged::default();
        let mut relay = TestRelay::with_file_sink("out").start().await;
        let (pid, enough) = (relay.process().pid(), rng.usize(1..400));
        let kill = async {
            eventually("enough acknowledged events", async || {
                let so_far = acknowledged.lock().unwrap().len();
                if so_far >= enough { Ok(()) } else { Err(so_far) }
            })
            .await;
            kill9(pid);
        };
        futures_util::future::join(load(&relay, campaign.number(), 5000, &acknowledged), kill).await;
        relay = relay.restart().await;
        let acknowledged = acknowledged.into_inner().unwrap();
        campaign.count("acknowledged", acknowledged.len() as u64);
        verify(relay, &acknowledged).await;
        campaign.count("lost", 0);
    }
}

/// What was acknowledged is stored once, in a log without gaps, and reaches the sink `out`.
pub async fn verify(relay: TestRelay, acknowledged: &BTreeSet<String>) {
    relay.settled().await;
    let events = relay.events().await;
    let stored: BTreeSet<_> = events.iter().map(|event| text(event, "id").to_owned()).collect();
    assert_eq!(stored.len(), events.len(), "each id once");
    assert_eq!(acknowledged.difference(&stored).count(), 0, "acknowledged, but not in the inbox");
    let seqs: Vec<_> = events.iter().map(|event| event["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, (1..=events.len() as u64).collect::<Vec<_>>(), "a log without gaps");
    let delivered: BTreeSet<_> = relay.lines("out").iter().map(|line| text(line, "id").to_owned()).collect();
    assert_eq!(delivered, stored, "every stored event reached the sink, at least once");
    integrity(relay.shutdown().await.inbox().as_path());
}
