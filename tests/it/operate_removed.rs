//! Sinks that are not configured any more: what they have still to get stays, until a person decides.

use serde_json::{Value, json};

use crate::harness::fake_http::FakeHttp;
use crate::harness::{Ack, Builder, TestRelay, eventually, signed, text};
use crate::operate::{sink, state, typed_without_daemon};

const LATER: &str = "retry = { initial = \"1h\", max = \"1h\", jitter = false, probe_max = \"1h\" }";

/// Two events given up by `app`, one delivered, one parked for it, and one that it has not come to: `app` is taken out.
async fn with_removed(app: &FakeHttp) -> Builder {
    let builder = TestRelay::builder().http_sink("app", app, LATER).file_sink("out", "");
    let relay = builder.expect_parked().expect_errors().start().await;
    // The delivery shows that the two before it were at fault themselves.
    for id in ["evt-1", "evt-2", "evt-3", "evt-4"] {
        assert_eq!(relay.post(&signed::payin_completed(id)).await, Ack::FRESH);
        relay.settled_or_parked().await;
    }
    eventually("two dead letters and a parked event", async || {
        let line = sink(&relay, "app").await;
        let found = (line["dead_letters"].as_u64(), line["parked"].as_u64());
        if found == (Some(2), Some(1)) { Ok(()) } else { Err(line) }
    })
    .await;
    let relay = relay.shutdown().await.without("app").start().await;
    assert_eq!(relay.post(&signed::payin_completed("evt-5")).await, Ack::FRESH);
    relay.settled().await;
    let line = sink(&relay, "app").await;
    assert_eq!((&line["state"], &line["lag"], &line["parked"]), (&json!("removed"), &json!(1), &json!(1)));
    relay.shutdown().await
}

async fn parked(relay: &TestRelay) -> Vec<Value> {
    relay.cli(&["parked", "list", "--format", "json"]).await.success().json()
}

#[tokio::test]
async fn letters_and_parked_events_of_a_removed_sink_stay_where_a_person_finds_them() {
    let app = FakeHttp::answering([422, 422, 200, 503]).await;
    let relay = with_removed(&app).await.start().await;
    let left = relay.cli(&["deadletters", "retry", "--all", "--yes"]).await.code(1);
    let why = "2 of sink 'app' are left: it is not in the configuration";
    assert!(left.stderr.contains("0 dead letters are tried again") && left.stderr.contains(why), "{left:?}");
    assert_eq!(relay.cli(&["deadletters", "list", "--format", "json"]).await.success().json().len(), 2);
    let events = parked(&relay).await;
    assert_eq!(events.len(), 1, "{events:?}");
    let left = relay.cli(&["parked", "retry", "--sink", "app", "--yes"]).await.code(1);
    assert!(left.stderr.contains("1 of sink 'app' is left: it is not in the configuration"), "{left:?}");
    let tried = relay.cli(&["sinks", "try", "app"]).await.code(1);
    assert!(tried.stderr.contains("is not in the configuration that is in use"), "{tried:?}");
    relay.cli(&["parked", "discard", "--sink", "app", "--yes", "--reason", "a test"]).await.success();
    assert_eq!(parked(&relay).await, [Value::Null; 0]);
    // Without a daemon, the command knows the configuration.
    let settings = relay.shutdown().await;
    let left = typed_without_daemon(&settings, &["deadletters", "retry", "--all", "--yes"]).await.code(1);
    assert!(left.stderr.contains(why), "{left:?}");
    assert_eq!(app.count(), 4);
}

async fn forgotten(daemon_is_up: bool) {
    let app = FakeHttp::answering([422, 422, 200, 503]).await;
    let forget = ["sinks", "forget", "app", "--reason", "the ledger has moved"];
    let settings = with_removed(&app).await.http_sink("app", &app, LATER);
    settings.write_config();
    let refused = typed_without_daemon(&settings, &[&forget[..], &["--yes"]].concat()).await.code(1);
    assert!(refused.stderr.contains("sink 'app' is in the configuration: take it out there first"), "{refused:?}");
    let settings = settings.without("app");
    settings.write_config();
    let unasked = typed_without_daemon(&settings, &forget).await.code(2);
    assert!(unasked.stderr.contains("--yes"), "{unasked:?}");
    let forget = [&forget[..], &["--yes"]].concat();
    let (settings, output) = if daemon_is_up {
        let relay = settings.start().await;
        let output = relay.cli(&forget).await;
        (relay.shutdown().await, output)
    } else {
        let output = typed_without_daemon(&settings, &forget).await;
        (settings, output)
    };
    let said = "sink 'app' is forgotten: 3 parked events and dead letters, and 1 event after its place in the log, are \
                discarded\n";
    assert_eq!(output.success().stdout, said);

    // Its name is free: a sink of that name begins as new.
    let relay = settings.http_sink("app", &app, "start = \"now\"").start().await;
    assert_eq!(relay.cli(&["sinks", "list", "--format", "json"]).await.success().json().len(), 2);
    app.answer([200]);
    assert_eq!(relay.post(&signed::payin_completed("evt-6")).await, Ack::FRESH);
    relay.settled().await;
    assert_eq!(app.accepted().len(), 2, "nothing of what the old one had to get");
    assert_eq!(parked(&relay).await, [Value::Null; 0]);
    assert_eq!(relay.cli(&["deadletters", "list"]).await.success().stdout, "");

    // The events say what became of them at the old one, and that it is another than the new one.
    for id in ["evt-1", "evt-2", "evt-3", "evt-4", "evt-5"] {
        let shown = relay.event(id).await;
        let pairs: Vec<_> = shown["sinks"].as_array().unwrap().iter().filter(|pair| pair["sink"] == "app").collect();
        let (old, new) = (pairs[0], pairs[1]);
        assert!(old["forgotten_at"].is_string() && new["forgotten_at"].is_null(), "{shown}");
        assert_eq!(new["state"], "before_start");
        if id == "evt-3" {
            assert_eq!(old["state"], "delivered");
        } else {
            assert_eq!((&old["state"], &old["reason"]), (&json!("discarded"), &json!("the ledger has moved")), "{id}");
            assert!(text(old, "who").contains('@'), "{old}");
        }
        let attempts = shown["attempts"].as_array().unwrap().iter().filter(|one| one["sink"] == "app").count();
        assert_eq!(attempts, usize::from(id != "evt-5"), "attempts stay as evidence");
    }
    let people = relay.cli(&["events", "show", "evt-5"]).await.success().stdout;
    assert!(people.contains("app (forgotten)") && people.contains("the ledger has moved"), "{people}");
    assert_eq!(state(&relay, "evt-6", "app").await["state"], "delivered");
    let again = relay.event("evt-6").await;
    assert_eq!(again["sinks"].as_array().unwrap().len(), 2, "it came in when the old one had been forgotten");
    relay.shutdown().await;
}

#[tokio::test]
async fn a_removed_sink_is_forgotten_and_its_name_used_anew() {
    forgotten(true).await;
}

#[tokio::test]
async fn a_removed_sink_is_forgotten_without_a_daemon() {
    forgotten(false).await;
}
