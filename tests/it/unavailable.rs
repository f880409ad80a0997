//! Sinks that cannot be built, or read back: receiving goes on, the other sinks too, and they come back by themselves.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::{Value, json};

use crate::harness::fake_http::FakeHttp;
use crate::harness::pki::Pki;
use crate::harness::{Ack, Builder, TestRelay, eventually, signed, text};
use crate::reload::{READ, replace, said, says};

const UNAVAILABLE: &str = "the sink is unavailable";

async fn post(relay: &TestRelay, id: &str) {
    assert_eq!(relay.post(&signed::payin_completed(id)).await, Ack::FRESH);
}

async fn state(relay: &TestRelay, sink: &str) -> String {
    let lines = relay.cli(&["sinks", "list", "--format", "json"]).await.success().json();
    let line = lines.iter().find(|line| line["name"] == sink).unwrap_or_else(|| panic!("no {sink} in {lines:?}"));
    text(line, "state").to_owned()
}

async fn becomes(relay: &TestRelay, sink: &str, expected: &str) {
    eventually(&format!("{sink} {expected}"), async || match state(relay, sink).await {
        now if now == expected => Ok(()),
        now => Err(now),
    })
    .await;
}

/// The body of `/readyz`, which is 200.
async fn readyz(relay: &TestRelay) -> Value {
    let response = relay.client().get(relay.admin_url("/readyz")).send().await.unwrap();
    assert_eq!(response.status().as_u16(), 200);
    serde_json::from_str(&response.text().await.unwrap()).unwrap()
}

/// The one sink that is unavailable has this name, and a reason with these words: told in the log once, too.
async fn is_unavailable(relay: &TestRelay, sink: &str, words: &str) {
    becomes(relay, sink, "unavailable").await;
    let body = readyz(relay).await;
    let [told] = &body["unavailable_sinks"].as_array().unwrap()[..] else { panic!("{body}") };
    assert_eq!((&body["ready"], text(told, "name")), (&json!(true), sink), "{body}");
    assert!(text(told, "error").contains(words) && told["since"].is_string(), "{body}");
    let logged = said(relay, UNAVAILABLE);
    assert_eq!(logged.len(), 1, "{logged:?}");
    assert!(text(&logged[0], "level") == "ERROR" && text(&logged[0], "why").contains(words), "{logged:?}");
}

/// It has delivered everything, and nothing is told of it any more.
async fn is_back(relay: &TestRelay, sink: &str) {
    becomes(relay, sink, "running").await;
    relay.settled().await;
    assert_eq!(readyz(relay).await, json!({"ready": true}));
}

fn ids(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| text(line, "id")).collect()
}

fn file_in(builder: Builder, directory: &Path) -> Builder {
    let path = directory.join("events.jsonl");
    builder.sink("archive", "file", &format!("file = {{ path = {path:?} }}"))
}

fn lines(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A mount that is missing after a reboot.
#[tokio::test]
async fn a_file_sink_whose_directory_is_gone_keeps_nobody_from_receiving() {
    let mount = tempfile::tempdir().unwrap();
    let directory = mount.path().join("x");
    fs::create_dir(&directory).unwrap();
    let builder = file_in(TestRelay::with_file_sink("other").expect_errors().expect_parked(), &directory);
    let relay = builder.start().await;
    post(&relay, "evt-1").await;
    relay.settled().await;
    let settings = relay.shutdown().await;
    let kept = lines(&directory.join("events.jsonl"));
    fs::remove_dir_all(&directory).unwrap();

    let relay = settings.start().await;
    post(&relay, "evt-2").await;
    eventually("the other sink's event", async || match relay.lines("other").len() {
        2 => Ok(()),
        count => Err(count),
    })
    .await;
    is_unavailable(&relay, "archive", "events.jsonl").await;
    assert_eq!(relay.metric("sink_lag_events", &[("sink", "archive")]).await, 1);
    // It is a sink of the configuration all the while.
    relay.cli(&["sinks", "pause", "archive"]).await.success();
    relay.cli(&["sinks", "resume", "archive"]).await.success();
    fs::create_dir(&directory).unwrap();
    is_back(&relay, "archive").await;
    assert_eq!((ids(&kept), ids(&lines(&directory.join("events.jsonl")))), (vec!["evt-1"], vec!["evt-2"]));
    relay.shutdown().await;
}

/// Nothing waits for it that could be lost, and whoever sets it up is there to mend it.
#[tokio::test]
async fn a_first_start_with_a_sink_that_cannot_be_built_is_refused() {
    let mount = tempfile::tempdir().unwrap();
    let missing = mount.path().join("missing");
    let settings = file_in(TestRelay::with_file_sink("other"), &missing);
    for _ in 0..2 {
        let mut process = settings.spawn();
        assert_eq!(process.end().await.code(), Some(1));
        let log = process.stderr.all().join("\n");
        assert!(log.contains("sink 'archive' could not be made") && log.contains("create its directory"), "{log}");
    }
    fs::create_dir(&missing).unwrap();
    settings.start().await.shutdown().await;
}

#[tokio::test]
async fn an_unavailable_sink_stands_in_the_way_of_no_reload() {
    let app = FakeHttp::answering([200]).await;
    let builder = TestRelay::with_sink("app", &app).expect_errors();
    let program = builder.directory().join("handler");
    let write = || {
        fs::write(&program, "#!/bin/sh\ncat >>got\n").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
    };
    write();
    let relay = builder.sink("hook", "exec", &format!("exec = {{ command = [{program:?}] }}")).start().await;
    post(&relay, "evt-1").await;
    relay.settled().await;
    let settings = relay.shutdown().await;
    fs::remove_file(&program).unwrap();
    let relay = settings.start().await;
    is_unavailable(&relay, "hook", "handler").await;

    // What has changed is taken; what has not is as it was.
    let file = relay.settings().config_file();
    let good = fs::read_to_string(&file).unwrap();
    replace(&file, &good.replace("/hook\"", "/other\""));
    relay.sighup();
    says(&relay, 1, READ).await;
    post(&relay, "evt-2").await;
    app.requests_reach(2).await;
    assert_eq!(app.requests()[1].path, "/other");
    // Changed, it has to be one that can be built.
    let changed = fs::read_to_string(&file).unwrap().replace("exec = { command", "timeout = \"9s\"\nexec = { command");
    replace(&file, &changed);
    relay.sighup();
    let refused = says(&relay, 1, "the configuration does not hold: nothing has been changed").await;
    assert!(text(&refused[0], "problem").contains("handler"), "{refused:?}");
    write();
    relay.sighup();
    says(&relay, 2, READ).await;
    is_back(&relay, "hook").await;
    let got = fs::read_to_string(relay.settings().directory().join("got")).unwrap();
    assert!(got.contains("evt-1") && got.contains("evt-2"), "{got}");
    relay.shutdown().await;
}

/// `check` and a first start name the key, the file and what to do; a sink that has begun waits for the file.
#[tokio::test]
async fn a_certificate_of_a_sink_that_is_gone_keeps_nobody_from_receiving() {
    let pki = Pki::new();
    let app = FakeHttp::over_tls(pki.server(&["http/1.1"], None), [200]).await;
    let builder = TestRelay::builder().expect_errors();
    let (ca, aside) = (builder.directory().join("far-ca.crt"), builder.directory().join("aside"));
    fs::copy(pki.file("ca.crt"), &aside).unwrap();
    let settings = builder.sink("app", "http", &format!("http = {{ url = {:?}, ca = {ca:?} }}", app.url()));
    let mut process = settings.spawn();
    assert_eq!(process.end().await.code(), Some(2), "a first start");
    let log = process.stderr.all().join("\n");
    assert!(log.contains("sinks[0].http.ca") && log.contains("put the file there"), "{log}");

    fs::copy(&aside, &ca).unwrap();
    let relay = settings.start().await;
    post(&relay, "evt-1").await;
    relay.settled().await;
    let settings = relay.shutdown().await;
    fs::remove_file(&ca).unwrap();
    let relay = settings.start().await;
    post(&relay, "evt-2").await;
    is_unavailable(&relay, "app", "far-ca.crt").await;
    let checked = relay.cli(&["check"]).await.code(2).stdout;
    assert!(checked.contains("sinks[0].http.ca") && checked.contains("far-ca.crt cannot be read"), "{checked}");
    // Nothing has changed: it is no reason to refuse.
    relay.sighup();
    says(&relay, 1, READ).await;
    fs::copy(&aside, &ca).unwrap();
    is_back(&relay, "app").await;
    assert_eq!(app.accepted().len(), 2);
    relay.shutdown().await;
}

#[tokio::test]
async fn what_cannot_be_read_back_of_one_sink_holds_up_no_other() {
    let app = FakeHttp::answering([503]).await;
    let relay = TestRelay::with_sink("app", &app).file_sink("other", "").expect_errors().expect_parked().start().await;
    post(&relay, "evt-1").await;
    relay.reaches(1, "sink_parked", &[("sink", "app")]).await;
    let settings = relay.shutdown().await;
    let inbox = rusqlite::Connection::open(settings.inbox()).unwrap();
    let damage = |attempts: i64| inbox.execute("UPDATE parked SET attempts = ?1", [attempts]).unwrap();
    assert_eq!(damage(1 << 40), 1);
    app.answer([200]);

    let relay = settings.start().await;
    post(&relay, "evt-2").await;
    eventually("the other sink's event", async || match relay.lines("other").len() {
        2 => Ok(()),
        count => Err(count),
    })
    .await;
    is_unavailable(&relay, "app", "its place in the log could not be opened").await;
    assert_eq!(damage(1), 1);
    is_back(&relay, "app").await;
    assert_eq!(app.accepted().len(), 2);
    relay.shutdown().await;
}
