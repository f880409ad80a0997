//! What is shown of a sink that fails: in which state it is, since when, why, when it is tried next, what waits.

use serde_json::{Value, json};

use crate::harness::fake_http::{Answer, FakeHttp};
use crate::harness::{Ack, Builder, Output, TOKEN, TestRelay, eventually, run_in, signed, text};
use crate::operate::typed_without_daemon;

const MISSING: &str = r#"{"error":"field amount is missing"}"#;

async fn get(relay: &TestRelay, path: &str) -> Value {
    let answer = relay.client().get(relay.admin_url(path)).bearer_auth(TOKEN).send().await.unwrap();
    serde_json::from_slice(&answer.error_for_status().unwrap().bytes().await.unwrap()).unwrap()
}

/// An app says what it misses, and whoever decides about the event reads it everywhere but in the log.
#[tokio::test]
async fn a_far_sides_words_are_shown_where_people_decide_and_never_logged() {
    let app = FakeHttp::answering([Answer::Saying(422, MISSING.to_owned()), Answer::from(200)]).await;
    let relay = TestRelay::with_sink("app", &app).expect_errors().start().await;
    assert_eq!(relay.post(&signed::payin_completed("evt-1")).await, Ack::FRESH);
    relay.reaches(1, "sink_attempts_total", &[("outcome", "permanent")]).await;
    assert_eq!(relay.post(&signed::payin_completed("evt-2")).await, Ack::FRESH);
    relay.reaches(1, "dead_letters", &[("sink", "app")]).await;
    relay.settled().await;

    let event = relay.event("evt-1").await;
    let attempt = &event["attempts"][0];
    assert_eq!((&attempt["note"], &attempt["answer"]), (&json!("HTTP 422"), &json!(MISSING)));
    let shown = relay.cli(&["events", "show", "evt-1"]).await.success().stdout;
    assert!(shown.contains(&format!("HTTP 422: {MISSING}")), "{shown}");
    let listed = relay.cli(&["deadletters", "list", "--format", "json"]).await.success().json();
    assert_eq!((&listed[0]["last_error"], &listed[0]["answer"]), (&json!("HTTP 422"), &json!(MISSING)));
    let id = listed[0]["id"].to_string();
    for args in [&["deadletters", "list", "--reason-contains", "amount is missing"][..], &["deadletters", "show", &id]]
    {
        let told = relay.cli(args).await.success().stdout;
        assert!(told.contains("field amount is missing"), "{args:?}: {told}");
    }
    let answer = get(&relay, &format!("/api/dead-letters/{id}")).await;
    assert_eq!((&answer["answer"], &answer["attempts"][0]["answer"]), (&json!(MISSING), &json!(MISSING)));
    let logged: Vec<_> = relay.log().into_iter().filter(|line| line.contains("amount is missing")).collect();
    assert!(logged.is_empty(), "{logged:?}");
    assert!(relay.log().iter().any(|line| line.contains("HTTP 422")));
    relay.shutdown().await;
}

/// One event parked at a sink whose URL holds secrets, another one after its cursor, and two that it does not want.
async fn with_trouble() -> Builder {
    let mut app = FakeHttp::answering([503]).await;
    app.stop().await;
    let url = app.url().replace("http://", "http://user:canary-url@") + "?token=canary-query";
    let rest = format!(
        "events = [\"payin.*\"]\nconcurrency = 7\nretry = {{ initial = \"1h\", max = \"1h\" }}\nhttp = {{ url = {url:?} }}"
    );
    let builder = TestRelay::builder().sink("app", "http", &rest).file_sink("out", "");
    let relay = builder.expect_parked().start().await;
    for delivery in [signed::payin_completed("evt-1"), signed::transfer_completed("evt-2")] {
        assert_eq!(relay.post(&delivery).await, Ack::FRESH);
    }
    relay.settled_or_parked().await;
    relay.cli(&["sinks", "pause", "app"]).await.success();
    assert_eq!(relay.post(&signed::payin_completed("evt-3")).await, Ack::FRESH);
    assert_eq!(relay.post(&signed::transfer_completed("evt-4")).await, Ack::FRESH);
    relay.shutdown().await
}

/// Writes into a sink's row what a consumer would have recorded.
fn recorded(settings: &Builder, sink: &str, set: &str) {
    let inbox = rusqlite::Connection::open(settings.inbox()).unwrap();
    let changed = inbox.execute(&format!("UPDATE sinks SET {set} WHERE name = ?1"), [sink]).unwrap();
    assert_eq!(changed, 1, "{sink}");
}

async fn json_of(settings: &Builder, args: &[&str]) -> Value {
    let args = [args, &["--format", "json"]].concat();
    typed_without_daemon(settings, &args).await.success().json().remove(0)
}

const FAILING: &str = "paused_at = NULL, failures = 4, failing_since = 1769853600000000, last_error_at = 1769853660000000,
    last_success_at = 1769850000000000, next_try = 1769853720000000, last_error = 'HTTP 503: {\"error\":\"moving house\"}',
    breaker_open_since = NULL";

#[tokio::test]
async fn a_sink_in_trouble_says_since_when_why_what_is_next_and_what_waits() {
    let settings = with_trouble().await;
    recorded(&settings, "app", FAILING);
    let line = json_of(&settings, &["sinks", "list"]).await;
    let expected = json!({"name": "app", "state": "failing", "since": "2026-01-31T10:00:00.000000Z", "failures": 4,
        "last_error": "HTTP 503: {\"error\":\"moving house\"}", "next_try": "2026-01-31T10:02:00.000000Z",
        "failing_since": "2026-01-31T10:00:00.000000Z", "last_error_at": "2026-01-31T10:01:00.000000Z"});
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(line[name], *value, "{name} of {line}");
    }
    assert_eq!(line["undelivered"].as_u64(), Some(line["lag"].as_u64().unwrap() + line["parked"].as_u64().unwrap()));
    let table = typed_without_daemon(&settings, &["sinks", "list"]).await.success().stdout;
    for told in ["failing", "2026-01-31T10:00:00", "moving house", "2026-01-31T10:02:00"] {
        assert!(table.contains(told), "no {told} in {table}");
    }

    let shown = json_of(&settings, &["sinks", "show", "app"]).await;
    assert_eq!((&shown["oldest"]["id"], &shown["oldest"]["attempts"]), (&json!("evt-1"), &json!(1)), "{shown}");
    let types = &shown["undelivered_by_type"];
    assert_eq!(
        *types,
        json!([{"type": "payin.completed", "parked": 1, "waiting": 1}]),
        "transfers are not its business"
    );
    assert_eq!((&shown["config"]["events"], &shown["config"]["concurrency"]), (&json!(["payin.*"]), &json!(7)));
    let text = typed_without_daemon(&settings, &["sinks", "show", "app"]).await.success().stdout;
    let next = ["sinks try app", "parked list --sink app", "events list --sink app --undelivered"];
    for told in [
        "app: failing. The last 4 attempts failed",
        "moving house",
        "evt-1",
        "cannot connect to 127.0.0.1:",
        "7, timeout 10 s",
    ] {
        assert!(text.contains(told), "no {told} in {text}");
    }
    assert!(next.iter().all(|command| text.contains(&format!("ralio-relay {command}"))), "{text}");
    assert!(!text.contains("canary") && !shown.to_string().contains("canary"), "{text}");
    let undelivered =
        typed_without_daemon(&settings, &["events", "list", "--sink", "app", "--undelivered", "--format", "json"])
            .await;
    let ids: Vec<Value> = undelivered.success().json().into_iter().map(|event| event["id"].clone()).collect();
    assert_eq!(ids, ["evt-1", "evt-3"]);
    let limited = ["events", "list", "--sink", "app", "--undelivered", "--limit", "1"];
    assert_eq!(typed_without_daemon(&settings, &limited).await.success().stdout.lines().count(), 2);

    // Down, unavailable and paused, each with its own beginning.
    recorded(&settings, "app", "breaker_open_since = 1769853780000000");
    let line = json_of(&settings, &["sinks", "show", "app"]).await;
    assert_eq!((&line["state"], &line["since"]), (&json!("down"), &json!("2026-01-31T10:03:00.000000Z")));
    recorded(&settings, "app", "build_error = 'no directory /mnt/x', build_failed_since = 1769853840000000");
    let line = json_of(&settings, &["sinks", "show", "app"]).await;
    assert_eq!((&line["state"], &line["since"]), (&json!("unavailable"), &json!("2026-01-31T10:04:00.000000Z")));
    assert_eq!((&line["last_error"], &line["next_try"]), (&json!("no directory /mnt/x"), &json!(null)));
    recorded(&settings, "app", "paused_at = 1769853900000000");
    let line = json_of(&settings, &["sinks", "show", "app"]).await;
    assert_eq!((&line["state"], &line["since"]), (&json!("paused"), &json!("2026-01-31T10:05:00.000000Z")));
}

/// Of a sink that is no longer configured, all that the inbox knows is shown.
#[tokio::test]
async fn a_removed_sink_is_shown_with_what_waits_for_it() {
    let settings = with_trouble().await;
    let config = std::fs::read_to_string(settings.config_file()).unwrap();
    let without = config.replacen("[[sinks]]\nname = \"app\"", "[[sinks]]\nname = \"another\"", 1);
    std::fs::write(settings.config_file(), without).unwrap();
    let shown = json_of(&settings, &["sinks", "show", "app"]).await;
    assert_eq!((&shown["state"], &shown["config"], &shown["since"]), (&json!("removed"), &json!(null), &json!(null)));
    assert_eq!((&shown["oldest"]["id"], &shown["parked"]), (&json!("evt-1"), &json!(1)));
    let text = typed_without_daemon(&settings, &["sinks", "show", "app"]).await.success().stdout;
    assert!(text.contains("no longer in the configuration") && text.contains("sinks forget app"), "{text}");
    let new = json_of(&settings, &["sinks", "show", "another"]).await;
    assert_eq!((&new["state"], &new["oldest"], &new["undelivered"]), (&json!("new"), &json!(null), &json!(0)));
    let unknown = typed_without_daemon(&settings, &["sinks", "show", "ap"]).await.code(1);
    assert!(unknown.stderr.contains("did you mean 'app'?"), "{unknown:?}");
}

#[tokio::test]
async fn a_list_without_a_sink_is_no_failure() {
    let settings = TestRelay::builder().start().await.shutdown().await;
    let output = typed_without_daemon(&settings, &["sinks", "list"]).await.success();
    assert!(output.stdout.is_empty() && output.stderr.contains("there is no sink"), "{output:?}");
}

/// `status`, told where the daemon listens: its port is another one at each start.
async fn status(relay: &TestRelay, args: &[&str]) -> Output {
    let address = relay.admin_url("");
    told_where(relay.settings(), address.trim_start_matches("http://"), args).await
}

async fn told_where(settings: &Builder, address: &str, args: &[&str]) -> Output {
    let file = settings.directory().join("where.toml");
    std::fs::write(&file, format!("[admin]\nlisten = {address:?}\n")).unwrap();
    let (config, file) = (settings.config_file(), file.to_str().unwrap().to_owned());
    let args = [&["status"], args, &["--config", config.to_str().unwrap(), "--config", &file]].concat();
    run_in(settings.directory(), &args, b"").await
}

#[tokio::test]
async fn status_says_the_overviews_sentence_and_its_exit_code_whether_somebody_has_to_look() {
    let relay = TestRelay::with_file_sink("out").start().await;
    let none = status(&relay, &[]).await.code(1).stdout;
    assert!(none.starts_with("Ready, but no event has arrived yet.\n"), "{none}");
    assert_eq!(relay.post(&signed::payin_completed("evt-1")).await, Ack::FRESH);
    relay.settled().await;
    let well = status(&relay, &[]).await.success().stdout;
    assert!(
        well.starts_with("Money is flowing.\nUp to date: every sink has got every event that is meant for it.\n"),
        "{well}"
    );
    assert!(well.contains("running") && well.contains("last 24 hours  1"), "{well}");

    relay.cli(&["sinks", "pause", "out"]).await.success();
    assert_eq!(relay.post(&signed::payin_completed("evt-2")).await, Ack::FRESH);
    let told = status(&relay, &[]).await.code(1).stdout;
    assert!(told.starts_with("Events come in, but do not reach out.\n1 delivery to go.\n"), "{told}");
    assert!(told.contains("look  out: A person paused it") && told.contains("ralio-relay sinks show out"), "{told}");
    let report = status(&relay, &["--format", "json"]).await.code(1).json().remove(0);
    let overview = get(&relay, "/api/overview").await;
    for part in ["sentence", "more", "level"] {
        assert_eq!(report[part], overview["verdict"][part], "{part}");
    }
    assert_eq!((&report["ready"], &report["sinks"][0]["state"]), (&json!(true), &json!("paused")));
    assert_eq!(text(&overview["verdict"]["findings"][0], "page"), "#/sinks?name=out");

    let address = relay.admin_url("").trim_start_matches("http://").to_owned();
    let settings = relay.shutdown().await;
    let away = told_where(&settings, &address, &[]).await.code(3).stdout;
    assert!(away.starts_with("Money is not flowing: the daemon does not answer.\n"), "{away}");
    let unknown = told_where(&settings, "off", &[]).await.code(1).stdout;
    assert!(unknown.starts_with("Whether the daemon takes deliveries is not known"), "{unknown}");
    let empty = TestRelay::builder();
    empty.write_config();
    let absent = told_where(&empty, &address, &[]).await.code(3);
    assert!(absent.stdout.is_empty() && absent.stderr.contains("there is no inbox"), "{absent:?}");
}

/// Waits until the overview has a finding that holds this, and gives the verdict.
async fn finds(relay: &TestRelay, part: &str) -> Value {
    eventually(&format!("a finding with {part:?}"), async || {
        let verdict = get(relay, "/api/overview").await["verdict"].clone();
        let is_there =
            verdict["findings"].as_array().unwrap().iter().any(|finding| text(finding, "text").contains(part));
        if is_there { Ok(verdict) } else { Err(verdict) }
    })
    .await
}

/// On the page with its reason, on a terminal with the command that names it: `/readyz` needs no token, and says neither.
#[tokio::test]
async fn a_reload_that_failed_is_shown_until_one_goes_well() {
    let relay = TestRelay::with_file_sink("out").expect_errors().start().await;
    assert_eq!(relay.post(&signed::payin_completed("evt-1")).await, Ack::FRESH);
    relay.settled().await;
    assert_eq!(relay.metric("config_last_reload_successful", &[]).await, 1);
    let good = std::fs::read_to_string(relay.settings().config_file()).unwrap();
    std::fs::write(relay.settings().config_file(), format!("{good}\ncanary = 1\n")).unwrap();
    relay.sighup();
    let verdict = finds(&relay, "canary").await;
    let sentence = "Money is flowing, but the last reload of the configuration failed.";
    assert_eq!(text(&verdict, "sentence"), sentence);
    assert_eq!(relay.metric("config_last_reload_successful", &[]).await, 0);
    let ready = relay.client().get(relay.admin_url("/readyz")).send().await.unwrap();
    assert_eq!(ready.status(), 200);
    let ready = ready.bytes().await.unwrap();
    assert!(!String::from_utf8_lossy(&ready).contains("canary"), "{ready:?}");

    std::fs::write(relay.settings().config_file(), &good).unwrap();
    let told = status(&relay, &[]).await.code(1).stdout;
    assert!(told.starts_with(&format!("{sentence}\n")), "{told}");
    assert!(told.contains("cannot be used.") && told.contains("ralio-relay check --probe"), "{told}");
    relay.sighup();
    relay.reaches(1, "config_last_reload_successful", &[]).await;
    let well = status(&relay, &[]).await.success().stdout;
    assert!(well.starts_with("Money is flowing.\nUp to date: "), "{well}");
    relay.shutdown().await;
}

/// A backlog that a rename in the configuration has left behind is told alike on the page and on a terminal, with the command.
#[tokio::test]
async fn what_waits_for_a_removed_sink_is_a_finding_of_status_and_page() {
    let settings = with_trouble().await.renamed("app", "erp");
    let relay = settings.expect_errors().start().await;
    let verdict = finds(&relay, "The inbox has a sink 'app'").await;
    let told = status(&relay, &[]).await.code(1).stdout;
    assert!(
        told.contains("The inbox has a sink 'app'") && told.contains("`ralio-relay sinks rename app erp"),
        "{told}"
    );
    let of_app = |finding: &&Value| text(finding, "text").contains("'app'");
    assert_eq!(verdict["findings"].as_array().unwrap().iter().filter(of_app).count(), 1, "{verdict}");
    relay.kill9();
}
