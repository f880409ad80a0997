//! Delivering stored events again: what, how far, and through interruptions of every kind.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::fake_http::{Answer, FakeHttp, Recorded};
use crate::harness::process::Process;
use crate::harness::{Ack, Builder, Output, TestRelay, eventually, keys, signed, text};
use crate::operate::{typed, typed_without_daemon};

const REPLAY: [&str; 5] = ["replay", "--sink", "app", "--reason", "the ledger was restored"];

pub fn replay<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&REPLAY, more].concat()
}

/// So many payins of one order, each followed by a transfer; all are delivered.
pub async fn with_events(app: &FakeHttp, payins: usize) -> TestRelay {
    let relay = TestRelay::with_sink("app", app).start().await;
    for n in 1..=payins {
        let payin = signed::payin_of(&format!("payin-{n}"), "payin_processing", "order-1");
        assert_eq!(relay.post(&payin).await, Ack::FRESH);
        assert_eq!(relay.post(&signed::transfer_completed(&format!("transfer-{n}"))).await, Ack::FRESH);
    }
    relay.settled().await;
    assert_eq!(app.accepted().len(), 2 * payins);
    relay
}

fn header<'a>(request: &'a Recorded, name: &str) -> Option<&'a str> {
    request.headers.get(name).map(|value| value.to_str().unwrap())
}

/// What the application accepted in a replay: event ids, and every replay's number that came along.
pub fn replayed(app: &FakeHttp) -> (Vec<String>, BTreeSet<String>) {
    let marked = app.accepted().into_iter().filter(|request| header(request, "ce-ralioreplay").is_some());
    let read = |request: Recorded| {
        let read = |name| header(&request, name).unwrap_or_else(|| panic!("no {name}")).to_owned();
        (read("ce-id"), read("ce-ralioreplay"))
    };
    marked.map(read).unzip()
}

pub async fn replays(settings: &Builder) -> Vec<Value> {
    typed_without_daemon(settings, &["replay", "list", "--format", "json"]).await.success().json()
}

async fn ended(settings: &Builder, state: &str) -> Value {
    eventually(&format!("a replay that is {state}"), async || {
        let replay = replays(settings).await.remove(0);
        if replay["state"] == state { Ok(replay) } else { Err(replay) }
    })
    .await
}

fn line(output: &Output, name: &str) -> String {
    let mut lines = output.stdout.lines();
    let found = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::trim));
    found.unwrap_or_else(|| panic!("no {name} in {output:?}")).to_owned()
}

async fn a_replay_of_payins(daemon_is_up: bool) {
    let app = FakeHttp::answering([200]).await;
    let relay = with_events(&app, 8).await;
    let filters = ["--type", "payin.*", "--from-seq", "3", "--to-seq", "14"];
    let (relay, plan) =
        typed(relay, daemon_is_up, &replay(&[&filters[..], &["--dry-run", "--rate", "2"]].concat())).await;
    let plan = plan.success();
    assert_eq!((line(&plan, "match").as_str(), line(&plan, "deliver").as_str()), ("6", "6"));
    assert!(line(&plan, "from, to").starts_with("3 to 14") && line(&plan, "rate").contains("3 seconds"), "{plan:?}");

    let (relay, unasked) = typed(relay, daemon_is_up, &replay(&filters)).await;
    assert!(unasked.code(2).stderr.contains("--yes"));
    assert_eq!(app.accepted().len(), 16, "neither has delivered anything");
    assert_eq!(replays(relay.settings()).await, [Value::Null; 0]);

    let (relay, done) = typed(relay, daemon_is_up, &replay(&[&filters[..], &["--yes"]].concat())).await;
    done.success();
    let listed = replays(relay.settings()).await;
    let fields =
        ["created_at", "done", "ended_at", "failed", "id", "message", "reason", "sink", "state", "total", "who"];
    assert_eq!((listed.len(), keys(&listed[0])), (1, fields.to_vec()));
    assert_eq!((&listed[0]["state"], &listed[0]["done"], &listed[0]["failed"]), (&json!("done"), &json!(6), &json!(0)));
    assert_eq!(text(&listed[0], "reason"), "the ledger was restored");
    let (ids, numbers) = replayed(&app);
    assert_eq!(ids, ["payin-2", "payin-3", "payin-4", "payin-5", "payin-6", "payin-7"], "in the order of the log");
    assert_eq!(numbers, BTreeSet::from([listed[0]["id"].to_string()]));
    assert_eq!(app.accepted().len(), 22);

    let shown = relay.event("payin-2").await;
    let attempts: Vec<_> = shown["attempts"].as_array().unwrap().iter().map(|attempt| &attempt["replay"]).collect();
    assert_eq!(attempts, [&Value::Null, &listed[0]["id"]]);
    assert_eq!(shown["sinks"][0]["state"], "delivered");
    relay.shutdown().await;
}

#[tokio::test]
async fn a_replay_delivers_what_its_filters_choose_in_order_and_marked() {
    a_replay_of_payins(true).await;
}

#[tokio::test]
async fn a_replay_runs_without_a_daemon() {
    a_replay_of_payins(false).await;
}

#[tokio::test]
async fn a_replay_keeps_to_the_sinks_route_and_cursor() {
    let app = FakeHttp::answering([200]).await;
    let builder = TestRelay::builder().http_sink("app", &app, "events = [\"payin.*\"]");
    let relay = builder.start().await;
    for n in 1..=3 {
        relay.post(&signed::payin_completed(&format!("payin-{n}"))).await;
        relay.post(&signed::transfer_completed(&format!("transfer-{n}"))).await;
    }
    relay.settled().await;
    relay.cli(&["sinks", "pause", "app"]).await.success();
    relay.post(&signed::payin_completed("payin-4")).await;
    let plan = relay.cli(&replay(&["--dry-run", "--to-seq", "1000"])).await.success();
    assert_eq!((line(&plan, "match").as_str(), line(&plan, "deliver").as_str()), ("6", "3"));
    assert!(line(&plan, "from, to").contains("1 to 6 (the sink's cursor)"), "{plan:?}");
    assert!(line(&plan, "leave out").starts_with("3: the sink's route"), "{plan:?}");
    relay.cli(&replay(&["--dry-run", "--id", "payin-4"])).await.code(1);
    relay.cli(&replay(&["--dry-run", "--from-seq", "7"])).await.code(1);

    let mistyped = relay.cli(&["replay", "--sink", "apq", "--reason", "a test", "--yes"]).await.code(2);
    assert!(mistyped.stderr.contains("did you mean 'app'?"), "{mistyped:?}");
    relay.shutdown().await;
}

#[tokio::test]
async fn a_replay_goes_on_after_a_power_cut() {
    const PAYINS: usize = 60;
    let app = FakeHttp::answering([200]).await;
    let relay = with_events(&app, PAYINS).await;
    let begun = relay.cli(&replay(&["--type", "payin.*", "--rate", "40", "--yes", "--detach"])).await.success();
    assert!(begun.stdout.contains("is with the daemon"), "{begun:?}");
    app.requests_reach(2 * PAYINS + 10).await;
    let relay = relay.kill9().start().await;
    let so_far = replayed(&app).0.len();
    assert!(so_far < PAYINS, "it was over before the power cut");
    let done = ended(relay.settings(), "done").await;
    assert_eq!((&done["done"], &done["failed"]), (&json!(PAYINS), &json!(0)), "each is counted once");
    let (ids, numbers) = replayed(&app);
    let each: BTreeSet<_> = ids.iter().collect();
    assert_eq!((each.len(), numbers.len()), (PAYINS, 1));
    // One is in flight per key, and a key's progress is recorded within moments.
    assert!(ids.len() < PAYINS + 20, "{} deliveries: it began again from the start", ids.len());
    relay.shutdown().await;
}

#[tokio::test]
async fn a_replay_is_cancelled_for_good() {
    let app = FakeHttp::answering([200]).await;
    let relay = with_events(&app, 30).await;
    relay.cli(&replay(&["--rate", "5", "--yes", "--detach"])).await.success();
    app.requests_reach(63).await;
    let id = replays(relay.settings()).await[0]["id"].to_string();
    relay.cli(&["replay", "cancel", &id, "--reason", "the wrong sink"]).await.success();
    let cancelled = ended(relay.settings(), "cancelled").await;
    assert!(cancelled["done"].as_u64().is_some_and(|done| (1..60).contains(&done)), "{cancelled}");
    assert!(cancelled["ended_at"].is_string(), "{cancelled}");
    let again = relay.cli(&["replay", "cancel", &id]).await.code(1);
    assert!(again.stderr.contains("has ended already: cancelled"), "{again:?}");

    let delivered = replayed(&app).0.len();
    let relay = relay.shutdown().await.start().await;
    relay.post(&signed::payin_completed("afterwards")).await;
    relay.settled().await;
    assert_eq!(replayed(&app).0.len(), delivered, "nothing goes on after a restart");
    relay.shutdown().await;
}

/// A replay typed at a terminal of its own, without a daemon, interrupted once a few events are through.
async fn interrupted(app: &FakeHttp, settings: &Builder) -> String {
    let before = app.requests().len();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ralio-relay"));
    command.args(replay(&["--rate", "10", "--yes", "--config"])).arg(settings.config_file());
    let mut process = Process::spawn(command.current_dir(settings.directory()));
    app.requests_reach(before + 3).await;
    process.signal("INT");
    assert_eq!(process.end().await.code(), Some(1));
    let said = eventually("how it goes on", async || {
        let lines = process.stderr.all();
        lines.iter().find(|line| line.contains("is kept at")).cloned().ok_or(lines)
    });
    said.await
}

#[tokio::test]
async fn an_interrupted_replay_says_how_it_goes_on() {
    let app = FakeHttp::answering([200]).await;
    let settings = with_events(&app, 10).await.shutdown().await;
    let said = interrupted(&app, &settings).await;
    let id = replays(&settings).await[0]["id"].to_string();
    for part in [
        format!("replay {id} is kept at "),
        "it goes on when the daemon starts".to_owned(),
        format!("ralio-relay replay resume {id}"),
        format!("ralio-relay replay cancel {id}"),
    ] {
        assert!(said.contains(&part), "{part} in {said}");
    }
    typed_without_daemon(&settings, &["replay", "resume", &id]).await.success();
    let done = replays(&settings).await.remove(0);
    assert_eq!((&done["state"], &done["done"]), (&json!("done"), &json!(20)));
    let each: BTreeSet<_> = replayed(&app).0.into_iter().collect();
    assert_eq!(each.len(), 20);
    typed_without_daemon(&settings, &["replay", "resume", &id]).await.code(1);
    typed_without_daemon(&settings, &["replay", "resume", "999"]).await.code(1);
}

#[tokio::test]
async fn an_interrupted_replay_goes_on_in_the_daemon_or_is_cancelled_without_one() {
    let app = FakeHttp::answering([200]).await;
    let settings = with_events(&app, 10).await.shutdown().await;
    interrupted(&app, &settings).await;
    let relay = settings.start().await;
    let done = ended(relay.settings(), "done").await;
    assert_eq!(done["done"], 20);

    let settings = relay.shutdown().await;
    interrupted(&app, &settings).await;
    let id = replays(&settings).await[0]["id"].to_string();
    typed_without_daemon(&settings, &["replay", "cancel", &id]).await.success();
    let replays = replays(&settings).await;
    assert_eq!((replays.len(), &replays[0]["state"]), (2, &json!("cancelled")), "the newest first");
}

#[tokio::test]
async fn what_a_replay_gives_up_is_in_the_replay_alone() {
    let app = FakeHttp::answering([200]).await;
    let relay = with_events(&app, 2).await;
    app.answer([422]);
    relay.cli(&replay(&["--id", "payin-1", "--yes"])).await.code(1);
    let id = replays(relay.settings()).await[0]["id"].to_string();
    let shown = relay.cli(&["replay", "show", &id, "--format", "json"]).await.success().json().remove(0);
    assert_eq!((&shown["done"], &shown["failed"]), (&json!(0), &json!(1)));
    let given_up = shown["given_up"].as_array().unwrap();
    assert_eq!((given_up.len(), text(&given_up[0], "event_id")), (1, "payin-1"));
    assert!(text(&given_up[0], "last_error").contains("422"), "{shown}");
    let people = relay.cli(&["replay", "show", &id]).await.success().stdout;
    assert!(people.contains("id payin-1") && people.contains("Given up"), "{people}");
    assert_eq!(relay.cli(&["deadletters", "list"]).await.success().stdout, "");
    assert_eq!(relay.event("payin-1").await["sinks"][0]["state"], "delivered", "it was, before");
    relay.cli(&["replay", "show", "999"]).await.code(1);
}

/// Receiving must not wait for a destination, whoever delivers to it.
#[tokio::test]
async fn a_replay_to_a_sink_that_hangs_gives_way_to_the_daemon() {
    let app = FakeHttp::answering([200]).await;
    let settings = with_events(&app, 1).await.shutdown().await;
    app.answer([Answer::Hang]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_ralio-relay"));
    command.args(replay(&["--yes", "--config"])).arg(settings.config_file());
    let mut process = Process::spawn(command.current_dir(settings.directory()));
    app.requests_reach(3).await;
    app.answer([200]);
    let began = Instant::now();
    let relay = settings.start().await;
    assert!(began.elapsed() < Duration::from_secs(8), "it is ready after {:?}", began.elapsed());
    relay.post(&signed::payin_completed("afterwards")).await;
    assert_eq!(process.end().await.code(), Some(0), "{:?}", process.stderr.all());
    assert_eq!(ended(relay.settings(), "done").await["done"], 2);
    relay.settled().await;
    relay.shutdown().await;
}
