//! The same event, or the same id, a thousand times at the same moment.

use rusqlite::{Connection, OpenFlags};

use crate::harness::raw::{Raw, head};
use crate::harness::{Ack, Campaign, Delivery, TestRelay, signed, text};

#[tokio::test]
async fn many_copies_at_once_are_one_event() {
    copies(Campaign::brief("one event 1,000 times at once", 1), 150).await;
}

#[tokio::test]
#[ignore = "a part of tests/campaign"]
async fn campaign_copies() {
    copies(Campaign::whole("one event 1,000 times at once", 5), 1000).await;
}

#[tokio::test]
async fn many_bodies_at_once_under_one_id_are_one_event_and_conflicts() {
    bodies(Campaign::brief("1,000 bodies under one id at once", 1), 150).await;
}

#[tokio::test]
#[ignore = "a part of tests/campaign"]
async fn campaign_bodies() {
    bodies(Campaign::whole("1,000 bodies under one id at once", 5), 1000).await;
}

/// Sends each delivery on a connection of its own, and the last byte of all of them in one go. How many were answered as
/// new; the others were known already.
async fn at_once(relay: &TestRelay, deliveries: &[Delivery]) -> u64 {
    let mut connections = Vec::with_capacity(deliveries.len());
    for delivery in deliveries {
        let mut connection = Raw::connect(relay).await;
        let length = format!("Content-Length: {}\r\nConnection: close\r\n", delivery.body.len());
        let request = [head(delivery, &length).as_bytes(), &delivery.body].concat();
        let (last, rest) = request.split_last().unwrap();
        connection.write(rest).await;
        connections.push((connection, *last));
    }
    let answers = connections.into_iter().map(|(mut connection, last)| async move {
        connection.write([last]).await;
        connection.read_to_close().await
    });
    let mut fresh = 0;
    for answer in futures_util::future::join_all(answers).await {
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        fresh += u64::from(answer.ends_with("\"duplicate\":false}"));
    }
    fresh
}

async fn copies(mut campaign: Campaign, count: usize) {
    while campaign.round().is_some() {
        let relay = TestRelay::with_file_sink("out").start().await;
        let delivery = signed::payin_completed("evt-1");
        let copies = vec![delivery.clone(); count];
        assert_eq!(at_once(&relay, &copies).await, 1, "fresh answers");
        // What the first process had in memory, the second reads back.
        let relay = relay.restart().await;
        assert_eq!(relay.post(&delivery).await, Ack::DUPLICATE);
        relay.settled().await;
        let events = relay.events().await;
        assert_eq!((events.len(), relay.lines("out").len()), (1, 1));
        campaign.count("answered 200", count as u64);
        campaign.count("events", events.len() as u64);
        relay.shutdown().await;
    }
}

async fn bodies(mut campaign: Campaign, count: usize) {
    while campaign.round().is_some() {
        let relay = TestRelay::with_file_sink("out").file_sink("other", "").expect_errors().start().await;
        let order = |n: usize| signed::payin_of("evt-1", "payin_completed", &format!("order-{n}"));
        let deliveries: Vec<_> = (0..count).map(order).collect();
        assert_eq!(at_once(&relay, &deliveries).await, count as u64, "each is news");
        relay.settled().await;

        let events = relay.events().await;
        let flags: Vec<_> = events.iter().map(|event| event["conflict"] == true).collect();
        assert_eq!(flags, (0..count).map(|n| n > 0).collect::<Vec<_>>(), "the first is the event");
        let mut kept: Vec<_> = events.iter().map(|event| text(event, "body_sha256").to_owned()).collect();
        let mut sent: Vec<_> = deliveries.iter().map(Delivery::sha256).collect();
        kept.sort_unstable();
        sent.sort_unstable();
        assert_eq!(kept, sent, "every body");
        for sink in ["out", "other"] {
            relay.reaches(count as i64 - 1, "dead_letters", &[("sink", sink)]).await;
            let lines = relay.lines(sink);
            assert_eq!(lines.len(), 1, "a person decides about the others");
            assert_eq!(lines[0]["ralioseq"], 1);
        }
        assert_eq!(conflicts(&relay), 2 * (count as i64 - 1), "per sink");
        campaign.count("events", 1);
        campaign.count("conflicts kept", count as u64 - 1);
        relay.shutdown().await;
    }
}

/// Dead letters whose reason is the conflict.
fn conflicts(relay: &TestRelay) -> i64 {
    let reader = Connection::open_with_flags(relay.settings().inbox(), OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let count = "SELECT count(*) FROM dead_letters WHERE reason LIKE 'conflict%'";
    reader.query_row(count, [], |row| row.get(0)).unwrap()
}
