//! The quarantine: what is answered 401 is there until it is decided about, and a secret that is put right lets in what is
//! genuine by itself.

use std::fs;

use serde_json::{Value, json};

use crate::harness::{Ack, Builder, SECRET, TestRelay, eventually, signed, text};
use crate::reload::{READ, replace, said, says};

const STALE: &str = "a secret that is stale by now";
const ADMITTED: &str = "a job has ended";

/// Requests that are signed with the secret, while the relay has another one.
async fn with_a_stale_secret(builder: Builder, count: u32) -> TestRelay {
    let relay = builder.source("test", signed::PATH, &[STALE], "").start().await;
    for n in 1..=count {
        assert_eq!(relay.post(&signed::payin_completed(&format!("evt-{n}"))).await, Ack::refused(401));
    }
    let forged = signed::payin_completed("forged").signed_with("nobody's secret");
    assert_eq!(relay.post(&forged).await, Ack::refused(401));
    assert_eq!(relay.quarantine().await.len(), count as usize + 1, "they were there before the answer");
    relay
}

fn secret_file(settings: &Builder) -> std::path::PathBuf {
    settings.directory().join("secret-test-0")
}

async fn genuine_ones_are_delivered(relay: &TestRelay, count: usize) {
    eventually("the forged one alone in quarantine", async || match relay.quarantine().await.len() {
        1 => Ok(()),
        count => Err(count),
    })
    .await;
    relay.settled().await;
    let lines = relay.lines("out");
    let mut delivered: Vec<_> = lines.iter().map(|line| text(line, "id")).collect();
    delivered.sort_unstable();
    assert_eq!(delivered, (1..=count).map(|n| format!("evt-{n}")).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_secret_that_is_put_right_lets_in_what_is_genuine() {
    let relay = with_a_stale_secret(TestRelay::with_file_sink("out"), 3).await;
    replace(&secret_file(relay.settings()), SECRET);
    genuine_ones_are_delivered(&relay, 3).await;
    let line = says(&relay, 1, ADMITTED).await.remove(0);
    assert_eq!((&line["admitted"], &line["still_refused"]), (&json!(3), &json!(1)), "{line}");
    relay.shutdown().await;
}

#[tokio::test]
async fn a_secret_that_was_put_right_before_the_start_lets_in_what_is_genuine() {
    let relay = with_a_stale_secret(TestRelay::with_file_sink("out"), 3).await;
    let settings = relay.shutdown().await;
    fs::write(secret_file(&settings), SECRET).unwrap();
    let relay = settings.start().await;
    genuine_ones_are_delivered(&relay, 3).await;
    // Nothing is left to admit: a start makes no job of what strangers have sent.
    let relay = relay.restart().await;
    says(&relay, 1, "none is genuine by its secrets").await;
    assert_eq!(said(&relay, ADMITTED), [] as [Value; 0]);
    relay.shutdown().await;
}

/// The configuration names another file, and is read again.
#[tokio::test]
async fn another_secret_after_sighup_lets_in_what_is_genuine() {
    let relay = with_a_stale_secret(TestRelay::with_file_sink("out"), 3).await;
    let settings = relay.settings();
    fs::write(settings.directory().join("another"), SECRET).unwrap();
    let config = fs::read_to_string(settings.config_file()).unwrap();
    fs::write(settings.config_file(), config.replace("secret-test-0", "another")).unwrap();
    relay.sighup();
    says(&relay, 1, READ).await;
    genuine_ones_are_delivered(&relay, 3).await;
    relay.shutdown().await;
}

#[tokio::test]
async fn admission_by_itself_can_be_turned_off() {
    let builder = TestRelay::with_file_sink("out").env("RALIO_RELAY__INBOX__QUARANTINE__ADMIT", "manual");
    let relay = with_a_stale_secret(builder, 2).await;
    replace(&secret_file(relay.settings()), SECRET);
    says(&relay, 1, "a new secret is in use").await;
    assert_eq!(relay.post(&signed::payin_completed("evt-9")).await, Ack::FRESH);
    let output = relay.cli(&["quarantine", "admit", "--all"]).await.success();
    assert!(output.stdout.contains("2 quarantined requests admitted"), "nothing had been before: {output:?}");
    relay.shutdown().await;
}

/// What does not fit is answered 503, so that it comes again; everybody who looks is told of it.
#[tokio::test]
async fn what_does_not_fit_is_answered_503_and_told() {
    let settings = TestRelay::with_file_sink("out").env("RALIO_RELAY__INBOX__QUARANTINE__MAX_ENTRIES", "6");
    let relay = with_a_stale_secret(settings.expect_errors(), 2).await;
    let more = |n: u32| signed::payin_completed(&format!("evt-{n}"));
    for n in 3..=7 {
        let response = relay.send(&more(n)).await.unwrap();
        assert_eq!((response.status().as_u16(), &response.headers()["retry-after"]), (503, &"60".parse().unwrap()));
    }
    assert_eq!(relay.post(&more(1)).await, Ack::refused(401), "it is kept");
    assert_eq!(relay.quarantine().await.len(), 3, "one address may have half");
    assert_eq!(relay.metric("quarantine_dropped_total", &[("source", "test")]).await, 5);
    let outcome = async |outcome| relay.metric("requests_total", &[("source", "test"), ("outcome", outcome)]).await;
    assert_eq!((outcome("bad_signature").await, outcome("bad_signature_not_kept").await), (4, 5));
    let line = says(&relay, 1, "cannot be kept; answered 503").await.remove(0);
    assert_eq!((text(&line, "level"), text(&line, "source")), ("ERROR", "test"));

    let told = eventually("the numbers in `status`", async || {
        let status = relay.cli(&["status", "--format", "json"]).await.json().remove(0);
        if status["quarantine_not_kept"] == 5 { Ok(status) } else { Err(status) }
    })
    .await;
    assert_eq!((&told["quarantine_entries"], &told["quarantine_answered_401"]), (&json!(3), &json!(3)));
    let finding = told["findings"].to_string();
    assert!(finding.contains("3 answered 401") && finding.contains("5 more were answered 503"), "{finding}");
    let list = relay.cli(&["quarantine", "list"]).await.success();
    assert!(list.stderr.contains("3 kept: 3 answered 401") && list.stderr.contains("5 not kept since"), "{list:?}");

    // With the right secret the sender's next try gets in, like what was kept.
    replace(&secret_file(relay.settings()), SECRET);
    for n in 3..=7 {
        eventually("a 200", async || match relay.post(&more(n)).await {
            Ack { status: 200, .. } => Ok(()),
            other => Err(other),
        })
        .await;
    }
    genuine_ones_are_delivered(&relay, 7).await;
    relay.shutdown().await;
}

#[tokio::test]
async fn where_the_source_wants_everything_again_the_oldest_makes_room() {
    let settings = TestRelay::builder().source("test", signed::PATH, &[STALE], "on_bad_signature = \"retry\"");
    let relay = settings.env("RALIO_RELAY__INBOX__QUARANTINE__MAX_ENTRIES", "6").start().await;
    for n in 1..=5 {
        assert_eq!(relay.post(&signed::payin_completed(&format!("evt-{n}"))).await, Ack::refused(503));
    }
    let kept = relay.quarantine().await;
    let digests: Vec<_> = kept.iter().map(|entry| text(entry, "body_sha256").to_owned()).collect();
    assert_eq!(digests, [3, 4, 5].map(|n| signed::payin_completed(&format!("evt-{n}")).sha256()));
    assert!(kept.iter().all(|entry| entry["answer"] == 503), "{kept:?}");
    assert_eq!(relay.metric("quarantine_dropped_total", &[("source", "test")]).await, 2);
    relay.shutdown().await;
}

#[tokio::test]
async fn what_is_too_old_is_deleted_by_a_job() {
    let relay = with_a_stale_secret(TestRelay::with_file_sink("out"), 2).await;
    let settings = relay.shutdown().await;
    let connection = rusqlite::Connection::open(settings.inbox()).unwrap();
    let days = |count: i64| count * 86_400 * 1_000_000;
    connection.execute("UPDATE quarantine SET received_at = received_at - ?1 WHERE id = 1", [days(31)]).unwrap();
    connection.execute("UPDATE quarantine SET received_at = received_at - ?1 WHERE id = 2", [days(29)]).unwrap();
    drop(connection);
    let relay = settings.start().await;
    eventually("the oldest gone", async || match relay.quarantine().await.len() {
        2 => Ok(()),
        count => Err(count),
    })
    .await;
    assert_eq!(relay.quarantine().await[0]["id"], 2);
    says(&relay, 1, "older than inbox.quarantine.max_age").await;
    relay.shutdown().await;
}
