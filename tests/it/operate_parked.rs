//! What waits for its next attempt: listed, tried now, given up.

use serde_json::{Value, json};

use crate::harness::fake_http::FakeHttp;
use crate::harness::{Ack, TestRelay, eventually, keys, signed, text};
use crate::operate::{sink, state, typed, typed_without_daemon};

/// The next attempt is an hour away, unless somebody wants it now.
const LATER: &str = "retry = { initial = \"1h\", max = \"1h\", jitter = false, probe_max = \"1h\" }";

/// Three payins of which two are of one order, and a transfer: all are parked.
async fn with_parked(app: &FakeHttp) -> TestRelay {
    let relay = TestRelay::builder().http_sink("app", app, LATER).expect_parked().expect_errors().start().await;
    for delivery in [
        signed::payin_of("evt-1", "payin_processing", "order-1"),
        signed::payin_of("evt-2", "payin_completed", "order-1"),
        signed::payin_of("evt-3", "payin_failed", "order-3"),
        signed::transfer_completed("evt-4"),
    ] {
        assert_eq!(relay.post(&delivery).await, Ack::FRESH);
        relay.settled_or_parked().await;
    }
    relay.reaches(4, "sink_parked", &[("sink", "app")]).await;
    relay
}

async fn parked(relay: &TestRelay, filters: &[&str]) -> Vec<Value> {
    relay.cli(&[&["parked", "list", "--format", "json"], filters].concat()).await.success().json()
}

fn ids(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| text(line, "event_id")).collect()
}

#[tokio::test]
async fn parked_events_are_listed_by_every_filter() {
    let app = FakeHttp::answering([503, 503, 500]).await;
    let relay = with_parked(&app).await;
    let all = parked(&relay, &[]).await;
    let fields = [
        "attempts",
        "event_id",
        "first_attempt",
        "key",
        "last_error",
        "next_attempt",
        "seq",
        "sink",
        "type",
        "waits_behind",
    ];
    assert!(all.iter().all(|event| keys(event) == fields), "{all:?}");
    assert_eq!((&all[0]["attempts"], &all[0]["waits_behind"]), (&json!(1), &json!(false)));
    assert!(text(&all[0], "last_error").contains("503") && all[0]["first_attempt"].is_string(), "{}", all[0]);
    let behind = [&all[1]["attempts"], &all[1]["waits_behind"], &all[1]["last_error"], &all[1]["first_attempt"]];
    assert_eq!(behind, [&json!(0), &json!(true), &Value::Null, &Value::Null]);
    let cases: [(&[&str], &[&str]); 9] = [
        (&[], &["evt-1", "evt-2", "evt-3", "evt-4"]),
        (&["--type", "payin.*"], &["evt-1", "evt-2", "evt-3"]),
        (&["--type", "payin_failed"], &["evt-3"]),
        (&["--id", "evt-4"], &["evt-4"]),
        (&["--key", "order-1"], &["evt-1", "evt-2"]),
        (&["--type", "kyc.*"], &[]),
        (&["--error", "500"], &["evt-4"]),
        (&["2", "4"], &["evt-2", "evt-4"]),
        (&["--limit", "3"], &["evt-1", "evt-2", "evt-3"]),
    ];
    for (filters, expected) in cases {
        assert_eq!(ids(&parked(&relay, filters).await), expected, "{filters:?}");
    }
    let people = relay.cli(&["parked", "list"]).await.success().stdout;
    assert!(people.contains("LAST ERROR") && people.contains("waits behind an earlier event of its key"), "{people}");
    let nothing = relay.cli(&["parked", "list", "--type", "kyc.*"]).await.success();
    assert!(nothing.stdout.is_empty() && nothing.stderr.contains("no parked event matches"), "{nothing:?}");
    relay.shutdown().await;
}

async fn retried(daemon_is_up: bool) {
    let app = FakeHttp::answering([503]).await;
    let mut relay = with_parked(&app).await;
    app.answer([200]);
    // Once the others are taken, this one is tried too: the sink is back.
    app.rule(Some(Box::new(|headers, _| headers["ce-type"].as_bytes().starts_with(b"transfer.").then_some(503))));
    let mut output;
    (relay, output) = typed(relay, daemon_is_up, &["parked", "retry", "77"]).await;
    assert!(output.code(1).stderr.contains("nothing to retry"));
    let some = ["parked", "retry", "--type", "payin.*"];
    (relay, output) = typed(relay, daemon_is_up, &[&some[..], &["--dry-run"]].concat()).await;
    assert_eq!(output.success().stdout, "would retry 3 parked events\n");
    (relay, output) = typed(relay, daemon_is_up, &some).await;
    assert!(output.code(2).stderr.contains("--yes"), "a filter needs a yes");
    (relay, output) = typed(relay, daemon_is_up, &[&some[..], &["--yes"]].concat()).await;
    let said = "3 parked events are due now: 1 of 'app', 2 of 'app', 3 of 'app' (type payin.*)\n";
    assert_eq!(output.success().stdout, said);
    eventually("all but the last", async || match parked(&relay, &[]).await {
        left if ids(&left) == ["evt-4"] => Ok(()),
        left => Err(left),
    })
    .await;
    for id in ["evt-1", "evt-2", "evt-3"] {
        assert_eq!(state(&relay, id, "app").await["state"], "delivered");
    }
    relay.shutdown().await;
}

#[tokio::test]
async fn parked_events_are_retried() {
    retried(true).await;
}

#[tokio::test]
async fn parked_events_are_retried_without_a_daemon() {
    retried(false).await;
}

async fn discarded(daemon_is_up: bool) {
    let app = FakeHttp::answering([503]).await;
    let mut relay = with_parked(&app).await;
    let mut output;
    let these = ["parked", "discard", "2", "4", "--reason", "booked by hand"];
    (relay, output) = typed(relay, daemon_is_up, &these).await;
    let said = "2 parked events are discarded: 2 of 'app', 4 of 'app' (by number)\n";
    assert_eq!(output.success().stdout, said);
    assert_eq!(ids(&parked(&relay, &[]).await), ["evt-1", "evt-3"]);
    let discarded = state(&relay, "evt-2", "app").await;
    assert_eq!((&discarded["state"], &discarded["reason"]), (&json!("discarded"), &json!("booked by hand")));
    assert!(text(&discarded, "who").contains('@'), "{discarded}");
    relay.reaches(2, "sink_parked", &[("sink", "app")]).await;

    // Whatever comes later of them: nothing of it is delivered, or parked again.
    app.answer([200]);
    (relay, output) = typed(relay, daemon_is_up, &["parked", "retry", "--all", "--yes"]).await;
    output.success();
    relay.settled().await;
    assert_eq!(app.accepted().len(), 2);
    assert_eq!(parked(&relay, &[]).await, [Value::Null; 0]);
    assert_eq!(state(&relay, "evt-4", "app").await["state"], "discarded");
    assert_eq!(relay.cli(&["deadletters", "list"]).await.success().stdout, "");
    relay.shutdown().await;
}

#[tokio::test]
async fn parked_events_are_discarded() {
    discarded(true).await;
}

#[tokio::test]
async fn parked_events_are_discarded_without_a_daemon() {
    discarded(false).await;
}

#[tokio::test]
async fn a_sink_is_tried_now_by_a_daemon_and_by_nobody_else() {
    let app = FakeHttp::answering([503]).await;
    let relay = with_parked(&app).await;
    let failed = relay.cli(&["sinks", "try", "app"]).await.code(1);
    assert!(failed.stderr.contains("the attempt at sink 'app' failed: HTTP 503"), "{failed:?}");
    app.answer([200]);
    let tried = relay.cli(&["sinks", "try", "app"]).await.success();
    assert_eq!(tried.stdout, "sink 'app' is tried now\ndelivered: sink 'app' takes events\n");
    relay.settled().await;
    let idle = relay.cli(&["sinks", "try", "app"]).await.success();
    assert!(idle.stdout.contains("nothing waits for sink 'app'"), "{idle:?}");
    assert_eq!(sink(&relay, "app").await["delivered"], 4);
    let unknown = relay.cli(&["sinks", "try", "ap"]).await.code(1);
    assert!(unknown.stderr.contains("did you mean 'app'?"), "{unknown:?}");
    relay.cli(&["sinks", "pause", "app"]).await.success();
    let paused = relay.cli(&["sinks", "try", "app"]).await.code(1);
    assert!(paused.stderr.contains("sink 'app' is paused: `ralio-relay sinks resume app`"), "{paused:?}");
    let settings = relay.shutdown().await;
    let nobody = typed_without_daemon(&settings, &["sinks", "try", "app"]).await.code(3);
    assert!(nobody.stderr.contains("no daemon runs"), "{nobody:?}");
}
