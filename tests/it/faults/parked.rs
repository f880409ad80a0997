//! Many parked events: a start takes no longer for them, and at the bound reading stops, and says so.

use std::time::Instant;

use crate::harness::fake_http::FakeHttp;
use crate::harness::{Ack, Campaign, Delivery, TestRelay, eventually, signed};

const KEY: &str = "order-of-all";

#[tokio::test]
async fn a_start_with_parked_events_is_short() {
    starts(Campaign::brief("a start with parked events", 1), 2000).await;
}

#[tokio::test]
#[ignore = "a part of tests/campaign"]
async fn campaign_parked() {
    starts(Campaign::whole("a start with 10,000 parked events", 5), 10_000).await;
}

async fn post(relay: &TestRelay, deliveries: &[Delivery]) {
    for some in deliveries.chunks(32) {
        let answers = futures_util::future::join_all(some.iter().map(|delivery| relay.post(delivery))).await;
        assert!(answers.iter().all(|answer| *answer == Ack::FRESH), "{answers:?}");
    }
}

/// All of one order: the first fails, and the others wait behind it.
async fn starts(mut campaign: Campaign, size: usize) {
    while campaign.round().is_some() {
        let app = FakeHttp::answering([503]).await;
        let relay = TestRelay::builder().http_sink("app", &app, "").start().await;
        let events: Vec<_> = (0..size).map(|n| signed::payin_of(&format!("e-{n}"), "payin_processing", KEY)).collect();
        post(&relay, &events).await;
        let all = i64::try_from(size).unwrap();
        relay.reaches(all, "sink_parked", &[("sink", "app")]).await;
        let builder = relay.kill9();
        let began = Instant::now();
        let relay = builder.start().await;
        assert_eq!(relay.post(&signed::payin_completed("after-the-start")).await, Ack::FRESH);
        campaign.highest("ms from the start to the first acknowledgement", began.elapsed().as_millis() as u64);
        relay.reaches(all + 1, "sink_parked", &[("sink", "app")]).await;
        app.answer([200]);
        relay.cli(&["sinks", "try", "app"]).await.success();
        relay.settled().await;
        assert_eq!(app.accepted().len(), size + 1);
        relay.shutdown().await;
    }
}

#[tokio::test]
async fn at_the_bound_reading_stops_and_says_so() {
    let app = FakeHttp::answering([200]).await;
    app.rule(Some(Box::new(|_, body| String::from_utf8_lossy(body).contains("order-bad").then_some(500))));
    let retry = "retry = { max_parked = 100 }\nconcurrency = 4";
    let relay = TestRelay::builder().http_sink("app", &app, retry).start().await;
    let event = |n: usize| {
        let order = format!("order-{}-{n}", if n.is_multiple_of(2) { "bad" } else { "good" });
        signed::payin_of(&format!("e-{n}"), "payin_processing", &order)
    };
    let events: Vec<_> = (0..2000).map(event).collect();
    post(&relay, &events).await;
    relay.reaches(1, "sink_reading_stopped", &[("sink", "app")]).await;
    eventually("lists say that reading has stopped", async || {
        let sinks = relay.cli(&["sinks", "list", "--format", "json"]).await.success().json();
        let (stopped, parked) = (sinks[0]["reading_stopped"] == true, sinks[0]["parked"].as_u64().unwrap());
        if stopped && (100..=356).contains(&parked) { Ok(()) } else { Err(sinks) }
    })
    .await;
    let status = relay.cli(&["status"]).await.code(1).stdout;
    assert!(status.contains("app"), "{status}");
    app.rule(None);
    relay.cli(&["sinks", "try", "app"]).await.success();
    relay.settled().await;
    assert_eq!(app.accepted().len(), 2000);
    relay.reaches(0, "sink_reading_stopped", &[("sink", "app")]).await;
    relay.shutdown().await;
}
