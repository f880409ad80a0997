//! 200 means stored: through kill -9, a full disk, a failing disk, and a second process.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::harness::faults::inject;
use crate::harness::{Ack, Delivery, TestRelay, eventually, signed, text};

#[tokio::test]
async fn duplicates_and_conflicts_are_known_after_a_restart() {
    let relay = TestRelay::with_file_sink("out").expect_errors().start().await;
    let delivery = signed::payin_of("evt-1", "payin_completed", "order-1");
    let malformed = Delivery::of("not json");
    assert_eq!(relay.post(&delivery).await, Ack::FRESH);
    assert_eq!(relay.post(&malformed).await, Ack::FRESH);
    let relay = relay.shutdown().await.start().await;
    assert_eq!(relay.post(&delivery).await, Ack::DUPLICATE);
    assert_eq!(relay.post(&malformed).await, Ack::DUPLICATE);
    assert_eq!(relay.post(&signed::payin_of("evt-1", "payin_completed", "order-2")).await, Ack::FRESH);
    let relay = relay.restart().await;
    assert_eq!(relay.post(&signed::payin_of("evt-1", "payin_completed", "order-2")).await, Ack::DUPLICATE);
    relay.settled().await;
    let ids: Vec<_> =
        relay.events().await.iter().map(|event| (text(event, "id").to_owned(), event["conflict"] == true)).collect();
    assert_eq!(ids, [("evt-1".to_owned(), false), (malformed.stored_id(), false), ("evt-1".to_owned(), true)]);
    relay.shutdown().await;
}

#[tokio::test]
async fn the_inbox_is_for_its_owner_only() {
    let relay = TestRelay::with_file_sink("out").start().await;
    relay.post(&signed::payin_completed("evt-1")).await;
    relay.settled().await;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let directory = relay.settings().inbox().parent().unwrap().to_owned();
    assert_eq!(format!("{:o}", mode(&directory)), "700");
    for entry in fs::read_dir(&directory).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(format!("{:o}", mode(&path)), "600", "{}", path.display());
    }
    assert_eq!(format!("{:o}", mode(&relay.settings().sink_file("out"))), "600", "events hold personal data");
    relay.shutdown().await;
}

#[tokio::test]
async fn a_second_relay_waits_unready_and_takes_over() {
    let first = TestRelay::with_file_sink("out").start().await;
    let second = first.settings().clone().launch();
    let mut second = second.await;
    assert_eq!(first.post(&signed::payin_completed("evt-1")).await, Ack::FRESH);
    assert_eq!(second.readyz().await, 503);
    first.settled().await;
    first.shutdown().await;
    second.ready().await;
    assert_eq!(second.post(&signed::payin_completed("evt-1")).await, Ack::DUPLICATE);
    assert_eq!(second.post(&signed::payin_completed("evt-2")).await, Ack::FRESH);
    second.settled().await;
    assert_eq!(second.lines("out").len(), 2, "the cursor is the inbox's, not the process's");
    second.shutdown().await;
}

#[tokio::test]
async fn a_waiting_relay_can_be_ended() {
    let first = TestRelay::builder().start().await;
    let mut second = first.settings().clone().launch().await;
    second.sigterm();
    assert_eq!(second.process().end().await.code(), Some(0));
    assert_eq!(first.post(&signed::payin_completed("evt-1")).await, Ack::FRESH);
    first.shutdown().await;
}

#[tokio::test]
async fn a_slow_disk_is_503_before_the_sender_gives_up() {
    let mut relay = TestRelay::builder().server("ack_deadline = \"500ms\"").expect_errors().start().await;
    assert_eq!(relay.post(&signed::payin_completed("before")).await, Ack::FRESH);
    let Some(slow) = inject(relay.process().pid(), "delay_enter=3s").await else { return };
    assert_eq!(relay.post(&signed::payin_completed("during")).await, Ack::refused(503));
    drop(slow);
    eventually("a quick disk again", async || match relay.post(&signed::payin_completed("after")).await {
        Ack { status: 200, .. } => Ok(()),
        other => Err(other),
    })
    .await;
    // Whether the slow append was carried out is open; that it is stored once is not.
    assert_eq!(relay.post(&signed::payin_completed("during")).await.status, 200);
    let ids: Vec<_> = relay.events().await.iter().map(|event| text(event, "id").to_owned()).collect();
    assert_eq!(ids.iter().filter(|&id| id == "during").count(), 1, "{ids:?}");
    relay.shutdown().await;
}

/// Another program has put a trigger into the file.
#[tokio::test]
async fn an_event_that_the_database_refuses_is_a_500_and_costs_no_other_anything() {
    let relay = TestRelay::with_file_sink("out").expect_errors().start().await;
    let other = rusqlite::Connection::open(relay.settings().inbox()).unwrap();
    let refuse = "CREATE TRIGGER no BEFORE INSERT ON events WHEN new.event_id = 'evt-7'
                  BEGIN SELECT raise(ABORT, 'not this one'); END";
    other.execute_batch(refuse).unwrap();
    let deliveries: Vec<_> = (0..20).map(|n| signed::payin_completed(&format!("evt-{n}"))).collect();
    let answers = futures_util::future::join_all(deliveries.iter().map(|delivery| relay.post(delivery))).await;
    for (n, answer) in answers.into_iter().enumerate() {
        assert_eq!(answer, if n == 7 { Ack::refused(500) } else { Ack::FRESH }, "evt-{n}");
    }
    let log = relay.log().into_iter().find(|line| line.contains("the database refuses an event")).unwrap();
    assert!(log.contains("\"level\":\"ERROR\"") && log.contains("evt-7") && log.contains("not this one"), "{log}");
    relay.reaches(1, "requests_total", &[("source", "test"), ("outcome", "error")]).await;
    assert_eq!(relay.readyz().await, 200);
    other.execute_batch("DROP TRIGGER no").unwrap();
    assert_eq!(relay.post(&deliveries[7]).await, Ack::FRESH);
    relay.settled().await;
    assert_eq!(relay.lines("out").len(), 20);
    relay.shutdown().await;
}
