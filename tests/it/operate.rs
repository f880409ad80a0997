//! What an operator types when something went wrong: with the daemon up, and with the daemon down.

use std::fs;

use serde_json::{Value, json};

use crate::harness::fake_http::FakeHttp;
use crate::harness::{Ack, Builder, Output, SECRET, TestRelay, eventually, keys, run_in, signed, text};

/// Runs a command with this configuration and no daemon.
pub async fn typed_without_daemon(settings: &Builder, args: &[&str]) -> Output {
    let config = settings.config_file();
    let args = [args, &["--config", config.to_str().unwrap()]].concat();
    run_in(settings.directory(), &args, b"").await
}

/// Types a command: while the relay runs, or between two of its runs.
pub async fn typed(relay: TestRelay, daemon_is_up: bool, args: &[&str]) -> (TestRelay, Output) {
    if daemon_is_up {
        let output = relay.cli(args).await;
        return (relay, output);
    }
    let settings = relay.shutdown().await;
    let output = typed_without_daemon(&settings, args).await;
    (settings.start().await, output)
}

/// The line of `sinks list` about a sink.
pub async fn sink(relay: &TestRelay, name: &str) -> Value {
    let sinks = relay.cli(&["sinks", "list", "--format", "json"]).await.success().json();
    sinks.into_iter().find(|sink| sink["name"] == name).unwrap_or_else(|| panic!("no sink {name}"))
}

/// How an event stands at a sink.
pub async fn state(relay: &TestRelay, event: &str, sink: &str) -> Value {
    let shown = relay.event(event).await;
    let states = shown["sinks"].as_array().unwrap();
    states.iter().find(|state| state["sink"] == sink).unwrap_or_else(|| panic!("no {sink} in {shown}")).clone()
}

fn ids(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| text(line, "id")).collect()
}

async fn paused_and_resumed(daemon_is_up: bool) {
    let mut relay = TestRelay::with_file_sink("out").start().await;
    relay.post(&signed::payin_completed("evt-1")).await;
    relay.settled().await;
    let output;
    (relay, output) = typed(relay, daemon_is_up, &["sinks", "pause", "out", "--reason", "it moves tonight"]).await;
    output.success();
    for id in ["evt-2", "evt-3"] {
        assert_eq!(relay.post(&signed::payin_completed(id)).await, Ack::FRESH, "receiving goes on");
    }
    let paused = sink(&relay, "out").await;
    assert_eq!((&paused["state"], &paused["cursor"], &paused["lag"]), (&json!("paused"), &json!(1), &json!(2)));
    assert!(paused["paused_since"].is_string(), "{paused}");
    assert_eq!(state(&relay, "evt-2", "out").await["state"], "waiting");

    // A pause outlives a restart.
    let mut relay = relay.shutdown().await.start().await;
    assert_eq!((sink(&relay, "out").await["state"].clone(), relay.lines("out").len()), (json!("paused"), 1));
    let output;
    (relay, output) = typed(relay, daemon_is_up, &["sinks", "resume", "out"]).await;
    output.success();
    relay.settled().await;
    assert_eq!(ids(&relay.lines("out")), ["evt-1", "evt-2", "evt-3"]);
    let running = sink(&relay, "out").await;
    assert_eq!((&running["state"], &running["delivered"], &running["lag"]), (&json!("running"), &json!(3), &json!(0)));
    relay.shutdown().await;
}

#[tokio::test]
async fn a_paused_sink_stands_still_and_gets_everything_afterwards() {
    paused_and_resumed(true).await;
}

#[tokio::test]
async fn a_sink_is_paused_and_resumed_without_a_daemon() {
    paused_and_resumed(false).await;
}

#[tokio::test]
async fn sinks_list_has_stable_fields_and_knows_the_new_and_the_removed() {
    let relay = TestRelay::with_file_sink("out").start().await;
    let settings = relay.shutdown().await.renamed("out", "another");
    settings.write_config();
    let sinks = typed_without_daemon(&settings, &["sinks", "list", "--format", "json"]).await.success().json();
    let expected = [
        "breaker_open_since",
        "cursor",
        "dead_letters",
        "delivered",
        "failing_since",
        "failures",
        "lag",
        "last_error",
        "last_error_at",
        "last_success_at",
        "name",
        "next_try",
        "oldest_waiting",
        "parked",
        "paused_since",
        "reading_stopped",
        "registered_at",
        "since",
        "state",
        "type",
        "undelivered",
    ];
    assert!(sinks.iter().all(|sink| keys(sink) == expected), "{sinks:?}");
    let states: Vec<_> = sinks.iter().map(|sink| (text(sink, "name"), text(sink, "state"))).collect();
    assert_eq!(states, [("another", "new"), ("out", "removed")]);
    let table = typed_without_daemon(&settings, &["sinks", "list"]).await.success().stdout;
    assert!(table.contains("STATE") && table.contains("removed"), "{table}");
    let output = typed_without_daemon(&settings, &["sinks", "pause", "ou"]).await.code(1);
    assert!(output.stderr.contains("did you mean 'out'?"), "{output:?}");
}

async fn renamed(daemon_is_up: bool) {
    let relay = TestRelay::with_file_sink("out").start().await;
    for id in ["evt-1", "evt-2"] {
        relay.post(&signed::payin_completed(id)).await;
    }
    relay.settled().await;
    let (relay, output) = if daemon_is_up {
        typed(relay, true, &["sinks", "rename", "out", "archive"]).await
    } else {
        let settings = relay.shutdown().await;
        let output = typed_without_daemon(&settings, &["sinks", "rename", "out", "archive"]).await;
        (settings.renamed("out", "archive").start().await, output)
    };
    assert!(output.success().stderr.contains("name = \"archive\""));
    if daemon_is_up {
        let line = sink(&relay, "archive").await;
        assert_eq!(
            (&line["state"], &line["type"]),
            (&json!("running"), &json!("file")),
            "the configuration says 'out'"
        );
        relay.cli(&["replay", "--sink", "out", "--reason", "a test", "--dry-run"]).await.success();
        let again = relay.cli(&["sinks", "rename", "archive", "attic"]).await.code(1);
        assert!(again.stderr.contains("first start the daemon once with name = \"archive\""), "{again:?}");
    }
    let relay = if daemon_is_up { relay.shutdown().await.renamed("out", "archive").start().await } else { relay };
    let line = sink(&relay, "archive").await;
    assert_eq!((&line["state"], &line["cursor"], &line["delivered"]), (&json!("running"), &json!(2), &json!(2)));
    relay.post(&signed::payin_completed("evt-3")).await;
    relay.settled().await;
    assert_eq!(ids(&relay.lines("out")), ["evt-1", "evt-2", "evt-3"], "in the same file, each once");
    assert_eq!(state(&relay, "evt-1", "archive").await["state"], "delivered", "attempts go along");
    relay.shutdown().await;
}

#[tokio::test]
async fn a_renamed_sink_keeps_its_place() {
    renamed(true).await;
}

#[tokio::test]
async fn a_sink_is_renamed_without_a_daemon() {
    renamed(false).await;
}

/// Three payins and a transfer, given up at once.
async fn with_dead_letters(app: &FakeHttp) -> TestRelay {
    let relay = TestRelay::with_sink("app", app).expect_errors().start().await;
    for delivery in [
        signed::payin_of("evt-1", "payin_completed", "order-1"),
        signed::payin_of("evt-2", "payin_completed", "order-2"),
        signed::payin_of("evt-3", "payin_failed", "order-3"),
        signed::transfer_completed("evt-4"),
    ] {
        assert_eq!(relay.post(&delivery).await, Ack::FRESH);
    }
    relay.reaches(4, "dead_letters", &[("sink", "app")]).await;
    relay
}

async fn letters(relay: &TestRelay, filters: &[&str]) -> Vec<Value> {
    let args = [&["deadletters", "list", "--format", "json"], filters].concat();
    let mut letters = relay.cli(&args).await.success().json();
    letters.sort_by_key(|letter| letter["seq"].as_i64());
    letters
}

#[tokio::test]
async fn dead_letters_are_listed_by_every_filter_and_shown() {
    let app = FakeHttp::answering([422]).await;
    let relay = with_dead_letters(&app).await;
    let all = letters(&relay, &[]).await;
    let decided = ["decided_at", "decided_by", "decided_reason", "record", "state"];
    assert!(all.iter().all(|letter| decided.iter().all(|field| letter.get(field).is_some())), "{all:?}");
    let fields =
        ["answer", "attempts", "died_at", "event_id", "id", "key", "last_error", "seq", "sink", "source", "type"];
    let others = |letter: &Value| keys(letter).into_iter().filter(|key| !decided.contains(key)).eq(fields);
    assert!(all.iter().all(others), "{all:?}");
    let died = text(&all[1], "died_at").to_owned();
    let cases: [(&[&str], &[&str]); 7] = [
        (&["--type", "payin.*"], &["evt-1", "evt-2", "evt-3"]),
        (&["--type", "payin_failed"], &["evt-3"]),
        (&["--event", "evt-4"], &["evt-4"]),
        (&["--key", "order-2"], &["evt-2"]),
        (&["--type", "kyc.*"], &[]),
        (&["--reason-contains", "422", "--until", &died, "--event", "evt-2"], &[]),
        (&["--since", "1h"], &["evt-1", "evt-2", "evt-3", "evt-4"]),
    ];
    for (filters, expected) in cases {
        let found = letters(&relay, filters).await;
        assert_eq!(found.iter().map(|letter| text(letter, "event_id")).collect::<Vec<_>>(), expected, "{filters:?}");
    }
    let id = all[0]["id"].to_string();
    let settings = relay.shutdown().await;
    let shown = typed_without_daemon(&settings, &["deadletters", "show", &id, "--format", "json"]).await.success();
    let shown = shown.json().remove(0);
    assert_eq!((&shown["now"]["state"], &shown["key"]), (&json!("dead_letter"), &json!("order-1")));
    assert_eq!((&shown["attempts"][0]["outcome"], &shown["attempts"][0]["n"]), (&json!("permanent"), &json!(1)));
    let body = signed::payin_of("evt-1", "payin_completed", "order-1").body;
    assert_eq!(text(&shown, "body").as_bytes(), body);
    let raw = typed_without_daemon(&settings, &["deadletters", "show", &id, "--raw"]).await.success();
    assert_eq!(raw.stdout.as_bytes(), body);
    let people = typed_without_daemon(&settings, &["deadletters", "show", &id]).await.success().stdout;
    assert!(people.contains("422") && people.contains("order-1") && people.contains("Attempts"), "{people}");
    typed_without_daemon(&settings, &["deadletters", "show", "999"]).await.code(1);
}

async fn decided_about(daemon_is_up: bool) {
    let app = FakeHttp::answering([422]).await;
    let mut relay = with_dead_letters(&app).await;
    let first = letters(&relay, &[]).await[0]["id"].to_string();
    app.answer([200]);
    let mut output;

    (relay, output) = typed(relay, daemon_is_up, &["deadletters", "retry", &first]).await;
    output.success();
    relay.settled().await;
    assert_eq!(app.accepted_bodies(), [signed::payin_of("evt-1", "payin_completed", "order-1").body]);
    assert_eq!(state(&relay, "evt-1", "app").await["state"], "delivered");
    (relay, output) = typed(relay, daemon_is_up, &["deadletters", "retry", &first]).await;
    assert!(output.code(1).stderr.contains("nothing to retry"));

    let discard = ["deadletters", "discard", "--type", "payin.*", "--reason", "booked by hand"];
    (relay, output) = typed(relay, daemon_is_up, &[&discard[..], &["--dry-run"]].concat()).await;
    assert!(output.success().stdout.contains("would discard 2 dead letters"));
    (relay, output) = typed(relay, daemon_is_up, &discard).await;
    assert!(output.code(2).stderr.contains("--yes"), "a filter needs a yes");
    assert_eq!(letters(&relay, &[]).await.len(), 3);
    (relay, output) = typed(relay, daemon_is_up, &[&discard[..], &["--yes"]].concat()).await;
    output.success();
    let discarded = state(&relay, "evt-3", "app").await;
    assert_eq!((&discarded["state"], &discarded["reason"]), (&json!("discarded"), &json!("booked by hand")));
    assert!(text(&discarded, "who").contains('@'), "{discarded}");

    (relay, output) = typed(relay, daemon_is_up, &["deadletters", "retry", "--all", "--yes"]).await;
    output.success();
    relay.settled().await;
    relay.reaches(0, "dead_letters", &[("sink", "app")]).await;
    assert_eq!(letters(&relay, &[]).await, [Value::Null; 0]);
    assert_eq!(app.accepted_bodies().len(), 2, "what was discarded is not delivered");
    relay.shutdown().await;
}

#[tokio::test]
async fn dead_letters_are_retried_and_discarded() {
    decided_about(true).await;
}

#[tokio::test]
async fn dead_letters_are_retried_and_discarded_without_a_daemon() {
    decided_about(false).await;
}

/// A relay with a secret that is out of date, two genuine deliveries in its quarantine and a forged one.
async fn with_a_stale_secret() -> TestRelay {
    let builder = TestRelay::with_file_sink("out").source("test", signed::PATH, &["an old secret"], "");
    let relay = builder.env("RALIO_RELAY__INBOX__QUARANTINE__ADMIT", "manual").start().await;
    for delivery in [
        signed::payin_completed("evt-1"),
        signed::payin_completed("evt-2"),
        signed::payin_completed("forged").signed_with("nobody's secret"),
    ] {
        assert_eq!(relay.post(&delivery).await, Ack::refused(401));
    }
    eventually("three requests in quarantine", async || match relay.quarantine().await.len() {
        3 => Ok(()),
        count => Err(count),
    })
    .await;
    relay
}

async fn admitted(daemon_is_up: bool) {
    let relay = with_a_stale_secret().await;
    let output = relay.cli(&["quarantine", "admit", "--all"]).await.code(1);
    assert!(!output.stderr.is_empty(), "none holds as yet");
    assert_eq!((relay.quarantine().await.len(), relay.events().await.len()), (3, 0));

    let settings = relay.shutdown().await;
    fs::write(settings.directory().join("secret-test-0"), SECRET).unwrap();
    let args = ["quarantine", "admit", "--all"];
    let relay = if daemon_is_up {
        let relay = settings.start().await;
        relay.cli(&args).await.success();
        relay
    } else {
        typed_without_daemon(&settings, &args).await.success();
        settings.start().await
    };
    relay.settled().await;
    let delivered = relay.lines("out");
    assert_eq!(ids(&delivered), ["evt-1", "evt-2"]);
    assert_eq!(relay.post(&signed::payin_completed("evt-1")).await, Ack::DUPLICATE, "the sender tries again by hand");
    assert_eq!(relay.quarantine().await.len(), 1, "the forged one stays");
    relay.shutdown().await;
}

#[tokio::test]
async fn quarantined_requests_are_admitted_once_the_secret_is_right() {
    admitted(true).await;
}

#[tokio::test]
async fn quarantined_requests_are_admitted_without_a_daemon() {
    admitted(false).await;
}

#[tokio::test]
async fn quarantined_requests_are_purged() {
    for daemon_is_up in [true, false] {
        let relay = with_a_stale_secret().await;
        let first = relay.quarantine().await[0]["id"].to_string();
        let (relay, output) = typed(relay, daemon_is_up, &["quarantine", "purge", &first, "--reason", "a test"]).await;
        output.success();
        assert_eq!(relay.quarantine().await.len(), 2);
        relay.cli(&["quarantine", "purge", "--all", "--reason", "a test"]).await.code(2);
        let purge = ["quarantine", "purge", "--reason", "a test", "--yes"];
        relay.cli(&[&purge[..], &["--source", "another"]].concat()).await.code(2);
        relay.cli(&[&purge[..], &["--until", "2020-01-01"]].concat()).await.code(1);
        let counted = relay.cli(&["quarantine", "purge", "--all", "--reason", "a test", "--dry-run"]).await.success();
        assert!(counted.stdout.contains("would purge 2 quarantined requests"), "{counted:?}");
        let purge = ["quarantine", "purge", "--all", "--reason", "a test", "--yes"];
        let (relay, output) = typed(relay, daemon_is_up, &purge).await;
        output.success();
        assert_eq!(relay.quarantine().await, [Value::Null; 0]);
        relay.shutdown().await;
    }
}

/// Three delivered events, two of them of the day before yesterday; the relay is not running.
pub async fn with_old_events(retention: &str) -> Builder {
    let relay = TestRelay::with_file_sink("out").source("test", signed::PATH, &[SECRET], retention).start().await;
    for id in ["evt-1", "evt-2", "evt-3"] {
        relay.post(&signed::payin_completed(id)).await;
    }
    relay.settled().await;
    let settings = relay.shutdown().await;
    let database = rusqlite::Connection::open(settings.inbox()).unwrap();
    let moved = "UPDATE events SET received_at = received_at - 2 * 86400 * 1000000 WHERE seq <= 2";
    assert_eq!(database.execute(moved, []).unwrap(), 2);
    settings
}

#[tokio::test]
async fn prune_drops_the_bodies_of_old_events_and_nothing_else() {
    for daemon_is_up in [true, false] {
        let settings = with_old_events("[inbox.retention]\nbodies = \"1d\"").await;
        let counted = typed_without_daemon(&settings, &["prune", "--dry-run"]).await.success();
        assert!(counted.stdout.contains("would drop the bodies of 2 events"), "{counted:?}");
        let relay = if daemon_is_up {
            let relay = settings.start().await;
            relay.cli(&["prune"]).await.success();
            relay
        } else {
            typed_without_daemon(&settings, &["prune"]).await.success();
            settings.start().await
        };
        for (id, is_kept) in [("evt-1", false), ("evt-2", false), ("evt-3", true)] {
            let shown = relay.event(id).await;
            assert_eq!(shown["body"].is_string(), is_kept, "{id}");
            assert_eq!(text(&shown, "body_sha256"), signed::payin_completed(id).sha256());
            assert_eq!(shown["sinks"][0]["state"], "delivered");
        }
        assert_eq!(relay.post(&signed::payin_completed("evt-1")).await, Ack::DUPLICATE, "ids are kept for good");
        relay.shutdown().await;
    }
}

/// As one that was interrupted before a sink was added that begins with the first event.
#[tokio::test]
async fn prune_drops_nothing_while_the_daemon_has_another_sink() {
    let relay = with_old_events("[inbox.retention]\nbodies = \"1d\"").await.start().await;
    let config = fs::read_to_string(relay.settings().config_file()).unwrap();
    let without_sinks = config.split("[[sinks]]").next().unwrap();
    fs::write(relay.settings().config_file(), without_sinks).unwrap();
    let output = relay.cli(&["prune"]).await.code(1);
    assert!(output.stderr.contains("sink 'out' may need them"), "{output:?}");
    relay.shutdown().await;
}

#[tokio::test]
async fn a_running_daemon_applies_retention_by_itself() {
    let relay = with_old_events("[inbox.retention]\nbodies = \"1d\"").await.start().await;
    eventually("the end of old bodies", async || {
        let shown = [relay.event("evt-1").await, relay.event("evt-2").await];
        if shown.iter().all(|event| event["body"].is_null()) { Ok(()) } else { Err(shown) }
    })
    .await;
    assert!(relay.event("evt-3").await["body"].is_string(), "it is of today");
    relay.shutdown().await;
}

#[tokio::test]
async fn prune_without_a_retention_says_how_to_set_one() {
    let settings = with_old_events("").await;
    let output = typed_without_daemon(&settings, &["prune"]).await.code(2);
    assert!(output.stderr.contains("inbox.retention") && output.stderr.contains("bodies = "), "{output:?}");
}

#[tokio::test]
async fn every_event_has_one_state_at_each_sink() {
    let app = FakeHttp::answering([200]).await;
    let builder = TestRelay::builder().http_sink("app", &app, "events = [\"payin.*\"]").file_sink("out", "");
    let relay = builder.expect_errors().start().await;
    relay.post(&signed::payin_completed("evt-1")).await;
    relay.post(&signed::transfer_completed("evt-2")).await;
    relay.settled().await;
    let delivered = state(&relay, "evt-1", "app").await;
    assert_eq!(delivered["state"], "delivered");
    assert!(delivered["at"].is_string() && delivered["receipt"].is_string(), "{delivered}");
    let filtered = state(&relay, "evt-2", "app").await;
    assert_eq!((&filtered["state"], &filtered["route"]), (&json!("filtered"), &json!("payin.*")));
    assert_eq!(state(&relay, "evt-2", "out").await["state"], "delivered");

    app.answer([422]);
    relay.post(&signed::payin_completed("evt-3")).await;
    relay.reaches(1, "dead_letters", &[("sink", "app")]).await;
    let dead = state(&relay, "evt-3", "app").await;
    assert_eq!((&dead["state"], dead["dead_letter"].is_number()), (&json!("dead_letter"), true), "{dead}");

    relay.cli(&["sinks", "pause", "out"]).await.success();
    relay.post(&signed::transfer_completed("evt-4")).await;
    let relay = relay.shutdown().await.file_sink("late", "").start().await;
    assert_eq!(state(&relay, "evt-4", "out").await["state"], "waiting");
    assert_eq!(state(&relay, "evt-4", "late").await["state"], "before_start");
    let people = relay.cli(&["events", "show", "evt-3"]).await.success().stdout;
    for part in ["At each sink", "dead letter", "before start", "422"] {
        assert!(people.contains(part), "{part} in {people}");
    }
    relay.shutdown().await;
}

#[tokio::test]
async fn a_parked_event_says_when_it_is_tried_again() {
    let app = FakeHttp::answering([503]).await;
    let retry = "retry = { initial = \"1h\", max = \"1h\", jitter = false }";
    let relay = TestRelay::builder().http_sink("app", &app, retry).expect_parked().start().await;
    relay.post(&signed::payin_of("evt-1", "payin_processing", "order-1")).await;
    relay.post(&signed::payin_of("evt-2", "payin_completed", "order-1")).await;
    relay.settled_or_parked().await;
    let parked = state(&relay, "evt-1", "app").await;
    assert_eq!((&parked["state"], &parked["attempts"]), (&json!("parked"), &json!(1)));
    assert!(parked["next_attempt"].is_string(), "{parked}");
    let behind = state(&relay, "evt-2", "app").await;
    assert_eq!((&behind["state"], &behind["attempts"]), (&json!("parked"), &json!(0)), "behind the first of its key");
    relay.shutdown().await;
}

/// Commands that touch no sink need none of its secrets.
#[tokio::test]
async fn operating_needs_no_readable_secret() {
    let app = FakeHttp::answering([422]).await;
    let relay = with_dead_letters(&app).await;
    let settings = relay.shutdown().await;
    fs::remove_file(settings.directory().join("secret-test-0")).unwrap();
    fs::remove_file(settings.directory().join("admin-token")).unwrap();
    let deliveries: [&[&str]; 7] = [
        &["sinks", "list"],
        &["sinks", "show", "app"],
        &["deadletters", "list"],
        &["sinks", "pause", "app"],
        &["sinks", "resume", "app"],
        &["deadletters", "discard", "--event", "evt-1", "--reason", "a test", "--yes"],
        &["replay", "--sink", "app", "--reason", "a test", "--dry-run"],
    ];
    for args in deliveries {
        typed_without_daemon(&settings, args).await.success();
    }
    let output = typed_without_daemon(&settings, &["replay", "--sink", "app", "--reason", "a test", "--yes"]).await;
    assert!(output.code(2).stderr.contains("secret-test-0"), "a replay from here needs all of it");
}
