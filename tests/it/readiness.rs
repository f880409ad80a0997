//! `/readyz`, and `health`, which asks it: false whenever deliveries could not be stored, with a reason that says what to do.

use std::path::PathBuf;

use serde_json::Value;

use crate::harness::faults::small_disk;
use crate::harness::{Ack, TestRelay, eventually, signed};
use crate::small_commands::health;

/// The one reason for which it is not ready. `health` must say the same.
async fn reason(relay: &TestRelay) -> Result<String, String> {
    let response = relay.client().get(relay.admin_url("/readyz")).send().await.unwrap();
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    let body: Value = serde_json::from_str(&text).unwrap();
    if status == 200 {
        assert_eq!(body, serde_json::json!({"ready": true}));
        return Err(text);
    }
    assert_eq!((status, &body["ready"]), (503, &Value::Bool(false)), "{text}");
    let reasons = body["reasons"].as_array().unwrap();
    assert_eq!(reasons.len(), 1, "{text}");
    Ok(reasons[0].as_str().unwrap().to_owned())
}

/// Waits for a reason with these words; `health` gives the same.
async fn is_unready(relay: &TestRelay, words: &[&str]) {
    let reason = eventually("unreadiness", async || reason(relay).await).await;
    for word in words {
        assert!(reason.contains(word), "no {word:?} in {reason:?}");
    }
    let health = health(relay.admin_url("").trim_start_matches("http://"), "3s").await.code(1);
    // Figures may have changed since.
    let kind = |text: &str| text.split(|c: char| c.is_ascii_digit()).next().unwrap_or_default().to_owned();
    assert!(health.stderr.starts_with(&format!("not ready: {}", kind(&reason))), "{reason}\n{health:?}");
}

async fn is_ready_again(relay: &TestRelay) {
    eventually("readiness", async || match relay.readyz().await {
        200 => Ok(()),
        status => Err(status),
    })
    .await;
    let health = health(relay.admin_url("").trim_start_matches("http://"), "3s").await;
    assert_eq!(health.success().stdout, "ready\n");
}

/// Nothing comes in, so nothing is written that could fail: it is seen all the same.
#[tokio::test]
async fn a_full_disk_is_told_before_anything_comes_in() {
    let builder = TestRelay::builder().expect_errors();
    let inbox = builder.inbox().parent().unwrap().to_owned();
    let Some(words) = small_disk(&inbox, 4) else { return };
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let mut relay = builder.wrapped(&words).start().await;
    let pid = relay.process().pid();
    // The small disk is the relay's alone; this is the way in.
    let ballast = PathBuf::from(format!("/proc/{pid}/root{}/ballast", inbox.display()));
    for _ in 0..2 {
        assert!(std::fs::write(&ballast, vec![0; 8 << 20]).is_err());
        assert!(reason(&relay).await.is_ok(), "at once");
        is_unready(&relay, &["full", inbox.to_str().unwrap(), "free some space"]).await;
        std::fs::remove_file(&ballast).unwrap();
        is_ready_again(&relay).await;
        assert_eq!(relay.post(&signed::payin_completed(&format!("evt-{pid}"))).await.status, 200);
    }
    relay.shutdown().await;
}

#[tokio::test]
async fn a_database_that_somebody_has_locked_is_told_once_a_commit_has_failed() {
    let relay = TestRelay::builder().expect_errors().start().await;
    let path = relay.settings().inbox();
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert_eq!(relay.post(&signed::payin_completed("evt-1")).await, Ack::refused(503));
    is_unready(&relay, &["could not be committed", path.to_str().unwrap(), "another program has locked"]).await;
    other.execute_batch("ROLLBACK").unwrap();
    is_ready_again(&relay).await;
    assert_eq!(relay.post(&signed::payin_completed("evt-1")).await, Ack::FRESH);
    relay.shutdown().await;
}

#[tokio::test]
async fn what_the_start_waits_for_is_told() {
    let first = TestRelay::builder().start().await;
    let inbox = first.settings().inbox().to_str().unwrap().to_owned();
    let mut second = first.settings().clone().launch().await;
    is_unready(&second, &["starting: another process holds the inbox", &inbox, "goes on when that ends"]).await;
    first.kill9();
    second.ready().await;
    is_ready_again(&second).await;
    drop(second);
}
