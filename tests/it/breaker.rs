//! A sink that fails as a whole: its cursor stops, nobody else notices, and afterwards everything is there at once.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::fake_http::{Answer, FakeHttp};
use crate::harness::{Ack, TestRelay, eventually, signed, text};

const RETRY: &str = "concurrency = 16\nretry = { initial = \"20ms\", max = \"100ms\", breaker_after = 5 }";

async fn post_many(relay: &TestRelay, prefix: &str, count: usize) -> Vec<Vec<u8>> {
    let deliveries: Vec<_> = (0..count).map(|n| signed::payin_completed(&format!("{prefix}-{n}"))).collect();
    for some in deliveries.chunks(32) {
        let answers = futures_util::future::join_all(some.iter().map(|delivery| relay.post(delivery))).await;
        assert!(answers.iter().all(|answer| *answer == Ack::FRESH), "{answers:?}");
    }
    deliveries.into_iter().map(|delivery| delivery.body).collect()
}

async fn sink(relay: &TestRelay, name: &str) -> Value {
    let sinks = relay.cli(&["sinks", "list", "--format", "json"]).await.success().json();
    sinks.into_iter().find(|sink| sink["name"] == name).expect("the sink is listed")
}

/// An outage costs no rows, however many events wait, and ends for all of them at once.
#[tokio::test]
async fn an_outage_costs_no_rows_and_ends_at_once() {
    let mut app = FakeHttp::answering([200]).await;
    app.stop().await;
    let retry = "concurrency = 16\nretry = { initial = \"20ms\", max = \"2s\", breaker_after = 5 }";
    let relay = TestRelay::builder().http_sink("app", &app, retry).file_sink("other", "").start().await;
    let bodies = post_many(&relay, "evt", 1500).await;
    relay.reaches(1, "breaker_open", &[("sink", "app")]).await;
    relay.reaches(1500, "sink_attempts_total", &[("sink", "other"), ("outcome", "delivered")]).await;

    let state = sink(&relay, "app").await;
    assert_eq!(state["state"], "down", "{state}");
    let parked = state["parked"].as_u64().unwrap();
    assert!((5..=64).contains(&parked), "{parked} parked of 1,500 that wait");
    assert!(state["lag"].as_u64().unwrap() > 1000, "the cursor stands still: {state}");

    // A restart does not forget that it is open: no burst of failures.
    let before = relay.metric("sink_attempts_total", &[("sink", "app")]).await;
    assert!(before < 200, "{before} attempts at a sink that is down");
    let relay = relay.restart().await;
    relay.reaches(1, "breaker_open", &[("sink", "app")]).await;

    app.start().await;
    relay.settled().await;
    relay.reaches(0, "breaker_open", &[("sink", "app")]).await;
    let got: HashSet<_> = app.accepted_bodies().into_iter().map(|body| body.to_vec()).collect();
    assert_eq!(got, bodies.into_iter().collect::<HashSet<_>>());
    assert_eq!(relay.metric("dead_letters", &[]).await, 0);
    assert_eq!(sink(&relay, "app").await["state"], "running");
    relay.shutdown().await;
}

/// An endpoint that refuses everything as malformed is broken as a whole: nothing is buried for it.
#[tokio::test]
async fn permanent_failures_of_everything_bury_nothing() {
    let app = FakeHttp::answering([400]).await;
    let relay = TestRelay::builder().http_sink("app", &app, RETRY).start().await;
    let bodies = post_many(&relay, "evt", 200).await;
    relay.reaches(1, "breaker_open", &[("sink", "app")]).await;
    assert_eq!(relay.metric("dead_letters", &[]).await, 0);
    app.answer([200]);
    relay.settled().await;
    let got: HashSet<_> = app.accepted_bodies().into_iter().map(|body| body.to_vec()).collect();
    assert_eq!(got, bodies.into_iter().collect::<HashSet<_>>());
    assert_eq!(relay.metric("dead_letters", &[]).await, 0);
    relay.shutdown().await;
}

/// A sink that never answers is timed out, and counts as failing; neither the sender nor another sink waits for it.
#[tokio::test]
async fn a_sink_that_hangs_slows_nobody() {
    let app = FakeHttp::answering([Answer::Hang]).await;
    let hanging = format!("timeout = \"200ms\"\n{RETRY}");
    let relay = TestRelay::builder().http_sink("app", &app, &hanging).file_sink("other", "").start().await;
    let began = Instant::now();
    post_many(&relay, "evt", 500).await;
    relay.reaches(500, "sink_attempts_total", &[("sink", "other"), ("outcome", "delivered")]).await;
    assert!(began.elapsed() < Duration::from_secs(30), "well before 500 x 200 ms: {:?}", began.elapsed());
    relay.reaches(1, "breaker_open", &[("sink", "app")]).await;
    app.answer([200]);
    relay.settled().await;
    assert_eq!(app.accepted().len(), 500);
    relay.shutdown().await;
}

/// First hand-overs of one order keep their sequence through failures and restarts, many orders side by side.
#[tokio::test]
async fn the_events_of_one_order_keep_their_sequence() {
    const ORDERS: usize = 20;
    const EVENTS: usize = 12;
    // One in seven fails, so no order of failures is the same for two orders.
    let script: Vec<u16> = (0..2000).map(|n| if n % 7 == 3 { 503 } else { 200 }).collect();
    let app = FakeHttp::answering(script).await;
    let mut relay = TestRelay::builder().http_sink("app", &app, RETRY).expect_parked().start().await;
    for n in 0..EVENTS {
        let posts = (0..ORDERS).map(|order| {
            signed::payin_of(&format!("evt-{order}-{n:02}"), "payin_processing", &format!("order-{order}"))
        });
        let posts: Vec<_> = posts.collect();
        futures_util::future::join_all(posts.iter().map(|delivery| relay.post(delivery))).await;
        if n % 4 == 3 {
            relay = relay.restart().await;
        }
    }
    relay.settled().await;
    let mut seen: Vec<Vec<String>> = vec![Vec::new(); ORDERS];
    for request in app.requests() {
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        let id = text(&body, "eventId").to_owned();
        let order: usize = id.split('-').nth(1).unwrap().parse().unwrap();
        if !seen[order].contains(&id) {
            seen[order].push(id);
        }
    }
    for (order, ids) in seen.iter().enumerate() {
        assert!(ids.is_sorted() && ids.len() == EVENTS, "order {order}: {ids:?}");
    }
    relay.shutdown().await;
}

/// Every event is accounted for at every sink.
#[tokio::test]
async fn every_pair_has_one_state_that_anyone_can_see() {
    let app = FakeHttp::answering([200]).await;
    let picky = FakeHttp::answering([422]).await;
    let relay = TestRelay::builder()
        .http_sink("app", &app, "events = [\"payin.*\"]")
        .http_sink("picky", &picky, "")
        .expect_errors()
        .start()
        .await;
    relay.post(&signed::payin_completed("evt-1")).await;
    relay.post(&signed::transfer_completed("evt-2")).await;
    eventually("the states", async || {
        let state = async |id: &str, sink: &str| {
            let event = relay.event(id).await;
            let pair = event["sinks"].as_array().unwrap().iter().find(|pair| pair["sink"] == sink).unwrap().clone();
            pair["state"].as_str().unwrap().to_owned()
        };
        let states = [
            state("evt-1", "app").await,
            state("evt-2", "app").await,
            state("evt-1", "picky").await,
            state("evt-2", "picky").await,
        ];
        if states == ["delivered", "filtered", "dead_letter", "dead_letter"] { Ok(()) } else { Err(states) }
    })
    .await;
    relay.shutdown().await;
}
