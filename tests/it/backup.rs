//! `backup`, and what is made of it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::harness::fake_http::FakeHttp;
use crate::harness::faults::{integrity, small_disk, traced};
use crate::harness::process::Process;
use crate::harness::{Ack, Builder, Delivery, TestRelay, eventually, run_in, signed, text};

/// `backup FILE`, started through these words.
fn start(words: &[String], settings: &Builder, file: &Path) -> Process {
    let binary = env!("CARGO_BIN_EXE_ralio-relay").to_owned();
    let words: Vec<_> = words.iter().chain([&binary]).collect();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).arg("backup").arg(file).arg("--config").arg(settings.config_file());
    Process::spawn(command.current_dir(settings.directory()))
}

fn names(directory: &Path) -> Vec<String> {
    fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// A directory for copies, in the relay's.
fn copies(settings: &Builder) -> std::path::PathBuf {
    let directory = settings.directory().join("copies");
    fs::create_dir(&directory).unwrap();
    directory
}

/// An event of nearly a megabyte.
fn large(n: u32) -> Delivery {
    Delivery::current(&format!("large-{n}"), "payin_completed", json!({ "padding": "x".repeat(900 << 10) }))
}

#[tokio::test]
async fn a_restored_backup_has_the_events_what_is_known_and_the_cursors() {
    let (up, down) = (FakeHttp::answering([200]).await, FakeHttp::answering([422]).await);
    let relay = TestRelay::builder().http_sink("up", &up, "").http_sink("down", &down, "").expect_errors();
    let relay = relay.expect_parked().start().await;
    let delivery = |n: u32| signed::payin_of(&format!("evt-{n}"), "payin_completed", &format!("order-{n}"));
    for n in 0..20 {
        assert_eq!(relay.post(&delivery(n)).await, Ack::FRESH);
    }
    up.requests_reach(20).await;
    relay.reaches(0, "sink_lag_events", &[("sink", "up")]).await;

    let directory = copies(relay.settings());
    let file = directory.join("inbox.db");
    let made = relay.cli(&["backup", file.to_str().unwrap()]).await.success();
    assert!(made.stdout.contains("up to event 20, checked"), "{made:?}");
    assert_eq!(names(&directory), ["inbox.db"]);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    integrity(&file);
    assert_eq!(relay.post(&delivery(20)).await, Ack::FRESH, "the daemon goes on");
    let again = relay.cli(&["backup", file.to_str().unwrap()]).await.code(1);
    assert!(again.stderr.contains("is there already"), "{again:?}");
    up.requests_reach(21).await;
    relay.reaches(0, "sink_lag_events", &[("sink", "up")]).await;

    // As the README says.
    let settings = relay.shutdown().await;
    let inbox = settings.inbox();
    fs::rename(&file, &inbox).unwrap();
    for companion in ["inbox.db-wal", "inbox.db-shm", "inbox.times"] {
        _ = fs::remove_file(inbox.with_file_name(companion));
    }
    let relay = settings.start().await;
    assert_eq!(relay.events().await.len(), 20);
    assert_eq!(relay.post(&delivery(3)).await, Ack::DUPLICATE);
    assert_eq!(relay.post(&delivery(20)).await, Ack::FRESH, "it came after the backup");
    up.requests_reach(22).await;
    relay.reaches(0, "sink_lag_events", &[("sink", "up")]).await;
    let bodies = up.accepted_bodies();
    assert_eq!(
        (bodies.len(), &bodies[21]),
        (22, &bodies[20]),
        "what was delivered since comes again, and nothing else"
    );
    let seen = relay.event("evt-7").await;
    assert_eq!(seen["attempts"].as_array().unwrap().iter().filter(|a| a["sink"] == "up").count(), 1, "{seen}");
    relay.shutdown().await;
}

#[tokio::test]
async fn a_backup_ends_while_events_come_in() {
    let relay = TestRelay::with_file_sink("out").start().await;
    // So large that it is copied in several steps, between which the daemon writes.
    for n in 0..12 {
        relay.post(&large(n)).await;
    }
    let file = copies(relay.settings()).join("inbox.db");
    let mut backup = start(&[], relay.settings(), &file);
    let mut sent = 0;
    while backup.ended().is_none() {
        assert_eq!(relay.post(&signed::payin_completed(&format!("during-{sent}"))).await, Ack::FRESH);
        sent += 1;
    }
    assert_eq!(backup.end().await.code(), Some(0), "{:?}", backup.stderr.all());
    integrity(&file);
    let copy = rusqlite::Connection::open(&file).unwrap();
    let (events, head): (i64, i64) =
        copy.query_row("SELECT count(*), max(seq) FROM events", [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    assert!(
        events == head && (12..=12 + sent).contains(&events),
        "{events} events up to {head}, {sent} sent meanwhile"
    );
    relay.settled().await;
    relay.shutdown().await;
}

#[tokio::test]
async fn a_backup_needs_no_daemon_and_no_secret() {
    let relay = TestRelay::builder().start().await;
    relay.post(&signed::payin_completed("evt-1")).await;
    let settings = relay.shutdown().await;
    fs::remove_file(settings.directory().join("secret-test-0")).unwrap();
    let file = copies(&settings).join("inbox.db");
    assert_eq!(start(&[], &settings, &file).end().await.code(), Some(0));
    integrity(&file);
}

/// The calls that write to the copy take long, so that a signal comes in between.
#[tokio::test]
async fn nothing_is_left_after_ctrl_c() {
    let relay = TestRelay::builder().start().await;
    relay.post(&signed::payin_completed("evt-1")).await;
    let directory = copies(relay.settings());
    for signal in ["INT", "TERM"] {
        let slow = ["-o", "/dev/null", "-e", "trace=pwrite64", "-e", "inject=pwrite64:delay_enter=200ms"];
        let Some(words) = traced(&slow) else { return };
        let mut backup = start(&words, relay.settings(), &directory.join("inbox.db"));
        eventually("the draft grows", async || {
            let draft = fs::metadata(directory.join("inbox.db.draft"));
            if draft.as_ref().is_ok_and(|draft| draft.len() > 0) { Ok(()) } else { Err(draft) }
        })
        .await;
        backup.signal(signal);
        assert_eq!(backup.end().await.code(), Some(1));
        assert_eq!(names(&directory), [""; 0], "after SIG{signal}");
        eventually("what is said", async || {
            let said = backup.stderr.all().join("\n");
            if said.contains("nothing was left behind") { Ok(()) } else { Err(said) }
        })
        .await;
    }
    relay.shutdown().await;
}

#[tokio::test]
async fn a_full_disk_is_told_and_leaves_nothing() {
    let relay = TestRelay::builder().start().await;
    relay.post(&signed::payin_completed("evt-1")).await;
    let directory = copies(relay.settings());
    let file = directory.join("inbox.db");
    let said = async |mut backup: Process| {
        assert_eq!(backup.end().await.code(), Some(1));
        eventually("an error", async || match backup.stderr.all().join("\n") {
            said if said.contains("error: ") => Ok(said),
            said => Err(said),
        })
        .await
    };
    let fails = ["-o", "/dev/null", "-e", "trace=pwrite64", "-e", "inject=pwrite64:error=ENOSPC:when=4+"];
    if let Some(words) = traced(&fails) {
        let said = said(start(&words, relay.settings(), &file)).await;
        assert!(said.contains("is full: make room"), "{said}");
        assert_eq!(names(&directory), [""; 0]);
    }
    let small = relay.settings().directory().join("small");
    for n in 0..2 {
        relay.post(&large(n)).await;
    }
    if let Some(words) = small_disk(&small, 1) {
        let said = said(start(&words, relay.settings(), &small.join("inbox.db"))).await;
        assert!(said.contains("there is no room"), "{said}");
    }
    relay.shutdown().await;
}

#[tokio::test]
async fn where_there_is_no_inbox_there_is_no_backup() {
    let settings = TestRelay::builder();
    settings.write_config();
    let file = copies(&settings).join("inbox.db");
    let mut backup = start(&[], &settings, &file);
    assert_eq!(backup.end().await.code(), Some(1));
    eventually("what is said", async || {
        let said = backup.stderr.all().join("\n");
        if said.contains("there is no inbox at") { Ok(()) } else { Err(said) }
    })
    .await;
    assert!(!settings.inbox().exists() && names(file.parent().unwrap()).is_empty());
}

/// What there is to know of the copy before it is used: everything that the commands tell.
#[tokio::test]
async fn a_backup_can_be_browsed() {
    let relay = TestRelay::with_file_sink("out").start().await;
    relay.post(&signed::payin_completed("evt-1")).await;
    relay.settled().await;
    let file = copies(relay.settings()).join("copy.db");
    relay.cli(&["backup", file.to_str().unwrap()]).await.success();
    relay.post(&signed::payin_completed("evt-2")).await;
    let config = relay.settings().directory().join("copy.toml");
    fs::write(&config, format!("[inbox]\nurl = \"sqlite://{}\"\n", file.display())).unwrap();
    // With that configuration only: in the daemon's inbox there are two.
    let listed = ["events", "list", "--format", "json", "--config", "copy.toml"];
    let events = run_in(relay.settings().directory(), &listed, b"").await.success().json();
    assert_eq!(events.len(), 1);
    assert_eq!((text(&events[0], "id"), &events[0]["seq"]), ("evt-1", &json!(1)));
    relay.settled().await;
    relay.shutdown().await;
}
