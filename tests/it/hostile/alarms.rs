//! Strangers can neither set off an alarm nor drown one.

use crate::harness::{Ack, Delivery, TestRelay, eventually, signed};

/// Lines of the log that hold this.
fn lines(relay: &TestRelay, text: &str) -> Vec<String> {
    relay.log().into_iter().filter(|line| line.contains(text)).collect()
}

/// Waits until so many lines hold this: lines are written by a thread of their own.
async fn said(relay: &TestRelay, text: &str, count: usize) {
    eventually(text, async || match lines(relay, text) {
        said if said.len() == count => Ok(()),
        said => Err(said),
    })
    .await;
}

#[tokio::test]
async fn a_flood_of_forgeries_on_an_unknown_path_hides_no_alert_and_makes_none() {
    let relay = TestRelay::builder().server("max_body = \"64KiB\"").expect_errors().start().await;
    let forged = |n: usize| signed::payin_completed(&format!("forged-{n}")).to("/x").with_signature("abc");
    for n in (0..120).step_by(20) {
        let all: Vec<Delivery> = (n..n + 20).map(forged).collect();
        let answers = futures_util::future::join_all(all.iter().map(|delivery| relay.send(delivery))).await;
        assert!(answers.iter().all(|answer| answer.as_ref().unwrap().status() == 503));
    }
    assert_eq!(lines(&relay, "\"ERROR\""), [""; 0]);
    assert_eq!(relay.metric("requests_total", &[("outcome", "misdirected")]).await, 0);
    assert_eq!(relay.metric("requests_total", &[("outcome", "not_found")]).await, 120);

    let large = Delivery::of(vec![b'x'; 65 * 1024]);
    assert_eq!(relay.post(&large).await, Ack::refused(503));
    said(&relay, "larger than server.max_body", 1).await;
    for n in 0..30 {
        assert_eq!(relay.post(&signed::payin_completed(&format!("lost-{n}")).to("/y")).await, Ack::refused(503));
    }
    assert!((1..=30).contains(&lines(&relay, "path that is not configured").len()));
    assert_eq!(relay.post(&large).await, Ack::refused(503));
    // Each has a limit of its own.
    said(&relay, "larger than server.max_body", 2).await;
    assert_eq!(relay.metric("requests_total", &[("outcome", "misdirected")]).await, 30);
    relay.shutdown().await;
}
