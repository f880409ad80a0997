//! Jobs for one sink, beside those for another that cannot go on.

use serde_json::json;

use crate::api::{done, get, post};
use crate::harness::fake_http::FakeHttp;
use crate::harness::{Ack, TestRelay, eventually, signed};
use crate::operate::{sink, state};

#[tokio::test]
async fn replays_to_a_paused_sink_hold_up_no_other() {
    let relay = TestRelay::builder().file_sink("out", "").file_sink("other", "").start().await;
    assert_eq!(relay.post(&signed::payin_completed("evt-1")).await, Ack::FRESH);
    relay.settled().await;
    relay.cli(&["sinks", "pause", "out"]).await.success();
    let replay = |sink| ["replay", "--sink", sink, "--reason", "it was restored", "--yes"];
    for _ in 0..5 {
        relay.cli(&[&replay("out")[..], &["--detach"]].concat()).await.success();
    }
    relay.cli(&replay("other")).await.success();
    assert_eq!((relay.lines("out").len(), relay.lines("other").len()), (1, 2));
    relay.cli(&["sinks", "resume", "out"]).await.success();
    eventually("the others, when the sink goes on", async || match relay.lines("out").len() {
        6 => Ok(()),
        lines => Err(lines),
    })
    .await;
    relay.settled().await;
    relay.shutdown().await;
}

/// The letters of the one with no room for more wait for room; the letter of the other does not wait for them.
#[tokio::test]
async fn dead_letters_of_a_full_sink_hold_up_no_other() {
    const FULL: &str =
        "retry = { initial = \"1h\", max = \"1h\", jitter = false, breaker_after = 1000, max_parked = 100 }";
    let (app, other) = (FakeHttp::answering([422, 200, 503]).await, FakeHttp::answering([422, 200]).await);
    let builder = TestRelay::builder().http_sink("app", &app, FULL).http_sink("other", &other, "");
    let relay = builder.expect_parked().expect_errors().start().await;
    // The delivery of the second shows that the first was at fault itself.
    for n in 1..=102 {
        assert_eq!(relay.post(&signed::payin_completed(&format!("evt-{n}"))).await, Ack::FRESH);
        if n <= 2 {
            relay.settled_or_parked().await;
        }
    }
    relay.reaches(100, "sink_parked", &[("sink", "app")]).await;
    relay.reaches(2, "dead_letters", &[]).await;
    let (status, job) = post(&relay, "/api/dead-letters/retry", &json!({"all": true, "who": "ann"})).await;
    assert_eq!(status, 202, "{job}");
    let path = format!("/api/jobs/{}", job["id"]);
    eventually("the letter of the other, delivered", async || match state(&relay, "evt-1", "other").await {
        state if state["state"] == "delivered" => Ok(()),
        state => Err(state),
    })
    .await;
    let waiting = get(&relay, &path).await;
    assert_eq!((&waiting["state"], &waiting["done"]), (&json!("running"), &json!(1)));
    assert_eq!(state(&relay, "evt-1", "app").await["state"], "dead_letter");
    // Somebody makes room.
    done(&relay, "/api/parked/discard", &json!({"seqs": [102], "sink": "app", "reason": "a test"})).await;
    eventually("the end of the job", async || match get(&relay, &path).await {
        job if job["state"] == "done" && job["done"] == 2 => Ok(()),
        job => Err(job),
    })
    .await;
    assert_eq!(sink(&relay, "app").await["parked"], 100);
    relay.shutdown().await;
}
