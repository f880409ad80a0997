//! What a sender chooses is in no label: the metrics stay as many as they are.

use std::collections::BTreeSet;

use futures_util::StreamExt as _;
use serde_json::json;

use crate::harness::{Ack, Campaign, Delivery, TestRelay};

/// New event types in one round.
const ROUND: u64 = 1000;

/// The bound that this relay, with two sinks, stays under.
const MAX_SERIES: usize = 500;

#[tokio::test]
async fn new_event_types_make_no_new_series() {
    many_types(Campaign::brief("event types, 1,000 new ones a round", 2)).await;
}

#[tokio::test]
#[ignore = "a part of tests/campaign"]
async fn campaign_series() {
    many_types(Campaign::whole("event types, 1,000 new ones a round", 100)).await;
}

async fn many_types(mut campaign: Campaign) {
    let relay =
        TestRelay::with_file_sink("out").sink("more", "stdout", "events = [\"payin.*\"]").expect_errors().start().await;
    while let Some(mut rng) = campaign.round() {
        let number = campaign.number();
        let types = (0..ROUND).map(|n| {
            let prefix = ["payin", "payout", "kyc", "new", "related_party"][rng.usize(..5)];
            let event_type = format!("{prefix}_{}_{number}_{n}", rng.lowercase());
            Delivery::current(&format!("evt-{number}-{n}"), &event_type, json!({"orderId": format!("o-{number}-{n}")}))
        });
        let deliveries: Vec<Delivery> = types.collect();
        let posts = deliveries.iter().map(|delivery| relay.post(delivery));
        let acks: Vec<Ack> = futures_util::stream::iter(posts).buffer_unordered(32).collect().await;
        assert!(acks.iter().all(|ack| *ack == Ack::FRESH));
        odd_requests(&relay, &mut rng).await;
        campaign.count("event types", ROUND);
        campaign.highest("most series", bounded(&relay).await as u64);
    }
    relay.settled().await;
    bounded(&relay).await;
    relay.shutdown().await;
}

/// Paths, methods, headers and signatures that nobody has configured.
async fn odd_requests(relay: &TestRelay, rng: &mut fastrand::Rng) {
    let requests = (0..500).map(|n| {
        let method = reqwest::Method::from_bytes(format!("M{n}{}", rng.uppercase()).as_bytes()).unwrap();
        let path = if rng.bool() { crate::harness::signed::PATH.to_owned() } else { format!("/{n}/{}", rng.u64(..)) };
        let method = if rng.bool() { method } else { reqwest::Method::POST };
        let request = relay.client().request(method, relay.url(&path)).header(format!("x-{n}"), "1");
        let request = request.header("content-type", format!("a/{n}")).header("x-signature", format!("{n}"));
        request.body("{}").send()
    });
    let answers: Vec<_> = futures_util::stream::iter(requests).buffer_unordered(32).collect().await;
    assert!(answers.into_iter().all(|answer| answer.unwrap().status() != 200));
}

/// How many series there are, none of which names anything that was sent.
async fn bounded(relay: &TestRelay) -> usize {
    let text = relay.metrics().await;
    let series: BTreeSet<&str> =
        text.lines().filter(|line| !line.starts_with('#')).map(|line| line.rsplit_once(' ').unwrap().0).collect();
    assert!(series.len() <= MAX_SERIES, "{} series", series.len());
    series.len()
}
