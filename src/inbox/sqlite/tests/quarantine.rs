//! The quarantine's bounds, and what leaves it.

use std::time::Instant;

use super::super::quarantine::Quarantine;
use super::super::refusals::Waiting;
use super::*;
use crate::inbox::{
    NoRoom, QuarantineFilter, QuarantineLimits, QuarantineOutcome, RefusalAnswer, Refused, Released, Task,
};
use crate::verify::Rejection;

const KEPT: Result<QuarantineOutcome, Unavailable> = Ok(QuarantineOutcome::Kept);

fn not_kept(why: NoRoom) -> Result<QuarantineOutcome, Unavailable> {
    Ok(QuarantineOutcome::NotKept(why))
}

fn answered_503(peer: &str, body: &str) -> Refused {
    Refused { answer: RefusalAnswer::Unavailable, ..refused(peer, body) }
}

fn bodies(config: &Config) -> Vec<String> {
    let reader = Reader::open(config).unwrap();
    let body = |request: &Quarantined| reader.quarantined(request.id).unwrap().unwrap().body.unwrap();
    quarantined(config).iter().rev().map(|request| String::from_utf8(body(request).to_vec()).unwrap()).collect()
}

fn dropped(metrics: &Metrics) -> u64 {
    metrics.quarantine_dropped.with_label_values(&["one"]).get()
}

#[tokio::test]
async fn what_was_answered_401_is_never_evicted() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let metrics = Arc::new(Metrics::new());
    let lock = Lock::try_take(&config.path).unwrap().unwrap();
    let inbox = SqliteInbox::open(&config, lock, Arc::new(SystemClock), Arc::clone(&metrics)).unwrap();
    assert_eq!(inbox.quarantine(refused("192.0.2.1", "genuine")).await, KEPT);
    for n in 0..5 {
        assert_eq!(inbox.quarantine(refused("192.0.2.66", &format!("flood {n}"))).await, KEPT);
    }
    assert_eq!(inbox.quarantine(refused("192.0.2.66", "flood 5")).await, not_kept(NoRoom::Share));
    assert_eq!(inbox.quarantine(answered_503("192.0.2.66", "flood 5")).await, not_kept(NoRoom::Share));
    for n in 0..4 {
        // An attacker with a whole network is one peer.
        assert_eq!(inbox.quarantine(refused(&format!("2001:db8::{n:x}"), &format!("flood 6 {n}"))).await, KEPT);
    }
    assert_eq!(inbox.quarantine(refused("192.0.2.2", "no more")).await, not_kept(NoRoom::Full));
    assert_eq!(inbox.quarantine(refused("2001:db8::9", "no more")).await, not_kept(NoRoom::Full));
    for (peer, body) in [("192.0.2.1", "genuine"), ("192.0.2.66", "flood 0"), ("2001:db8::", "flood 6 3")] {
        assert_eq!(inbox.quarantine(refused(peer, body)).await, KEPT, "it is there already");
    }
    until("the numbers are written", || {
        let counts = Reader::open(&config).unwrap().quarantine_counts(now()).unwrap();
        (counts.entries, counts.answered_401, counts.not_kept) == (10, 10, 4) && counts.not_kept_since.is_some()
    })
    .await;
    assert_eq!(dropped(&metrics), 4);
    inbox.close().await;
    let kept = quarantined(&config);
    let count = |peer: &str| kept.iter().filter(|request| request.peer == peer).count();
    assert_eq!([count("192.0.2.1"), count("192.0.2.66"), count("2001:db8::/64")], [1, 5, 4]);
}

#[tokio::test]
async fn the_oldest_that_was_answered_503_makes_room() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let metrics = Arc::new(Metrics::new());
    let lock = Lock::try_take(&config.path).unwrap().unwrap();
    let inbox = SqliteInbox::open(&config, lock, Arc::new(SystemClock), Arc::clone(&metrics)).unwrap();
    for n in 0..7 {
        assert_eq!(inbox.quarantine(answered_503("192.0.2.1", &format!("a{n}"))).await, KEPT);
    }
    assert_eq!(bodies(&config), ["a2", "a3", "a4", "a5", "a6"]);
    assert_eq!(dropped(&metrics), 2);
    // Told 401 this time, it stays from now on.
    assert_eq!(inbox.quarantine(refused("192.0.2.1", "a2")).await, KEPT);
    assert_eq!(inbox.quarantine(refused("192.0.2.1", "b0")).await, KEPT);
    assert_eq!(bodies(&config), ["a2", "a4", "a5", "a6", "b0"]);
    // And is never taken for one that is told 503.
    assert_eq!(inbox.quarantine(answered_503("192.0.2.1", "a2")).await, KEPT);
    for n in 0..5 {
        assert_eq!(inbox.quarantine(refused("192.0.2.2", &format!("c{n}"))).await, KEPT);
    }
    // The whole is full: who holds most of what may go makes room.
    for n in 0..3 {
        assert_eq!(inbox.quarantine(refused("192.0.2.3", &format!("d{n}"))).await, KEPT);
    }
    assert_eq!(inbox.quarantine(refused("192.0.2.3", "d3")).await, not_kept(NoRoom::Full));
    assert_eq!(bodies(&config), ["a2", "b0", "c0", "c1", "c2", "c3", "c4", "d0", "d1", "d2"]);
    assert_eq!(dropped(&metrics), 2 + 1 + 3 + 1);
    inbox.close().await;
}

/// Bodies, headers, signatures and what a row needs besides; the same when it is counted anew at a start.
#[tokio::test]
async fn everything_of_a_request_counts_against_the_bounds() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let inbox = open(&config);
    let with_headers = |body: &str| {
        let mut refused = refused("192.0.2.1", body);
        refused.rejected.delivery.headers = vec![("user-agent".to_owned(), "ü".repeat(4_000))];
        refused.rejected.delivery.signatures = vec![vec![b'0'; 7_000].into()];
        refused
    };
    for n in 0..3 {
        assert_eq!(inbox.quarantine(with_headers(&format!("{n}"))).await, KEPT);
    }
    assert_eq!(inbox.quarantine(with_headers("3")).await, not_kept(NoRoom::Share), "half of 100,000 bytes");
    assert_eq!(inbox.quarantine(refused("192.0.2.1", "small")).await, KEPT);
    assert_eq!(inbox.quarantine(refused("192.0.2.2", &"x".repeat(50_000))).await, not_kept(NoRoom::TooLarge));
    inbox.close().await;
    drop(inbox);
    let inbox = open(&config);
    assert_eq!(inbox.quarantine(with_headers("3")).await, not_kept(NoRoom::Share));
    inbox.close().await;
}

#[test]
fn bytes_are_counted_alike_in_memory_and_in_rows() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("inbox.db");
    let connection = super::super::open::open_writer(&path, &mut |error| panic!("{error}")).unwrap().connection;
    let limits = QuarantineLimits { max_entries: 6, max_bytes: 100_000, ..Default::default() };
    let mut quarantine = Quarantine::load(&connection, limits).unwrap();
    for n in 0..20 {
        let body = format!("{n}{}", "ß".repeat(n * 100));
        let mut request = if n % 3 == 0 { refused("192.0.2.1", &body) } else { answered_503("192.0.2.2", &body) };
        request.rejected.delivery.headers = vec![("user-agent".to_owned(), "é".repeat(n))];
        request.rejected.delivery.content_type = (n % 2 == 0).then(|| "text/plain".to_owned());
        _ = quarantine.keep(&connection, &request, Instant::now()).unwrap();
    }
    _ = quarantine
        .keep(&connection, &refused("192.0.2.2", &format!("19{}", "ß".repeat(1900))), Instant::now())
        .unwrap();
    let loaded = Quarantine::load(&connection, limits).unwrap();
    assert_eq!(quarantine.held(), loaded.held());
    assert_eq!(loaded.entries(), 6);
}

#[tokio::test]
async fn what_is_written_in_a_minute_is_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config.quarantine.max_entries = 1_000_000;
    config.quarantine.max_bytes = 64 << 20;
    let inbox = open(&config);
    let (mut kept, began) = (0, Instant::now());
    for round in 0..80 {
        let peer = format!("192.0.2.{round}");
        let body = format!("{round} {}", "x".repeat(1 << 20));
        match inbox.quarantine(answered_503(&peer, &body)).await {
            KEPT => kept += 1,
            refused => assert_eq!(refused, not_kept(NoRoom::Rate)),
        }
    }
    // 32 MiB at once, and as many again in a minute.
    let most = 33 + began.elapsed().as_secs();
    assert!((31..=most).contains(&kept), "{kept} MiB");
    let wal = std::fs::metadata(config.path.with_extension("db-wal")).unwrap().len();
    assert!(wal < 24 << 20, "{wal} bytes");
    inbox.close().await;
}

#[test]
fn a_flood_that_waits_to_be_written_keeps_nobody_else_out() {
    let waiting = Waiting::default();
    let large = "x".repeat(1 << 20);
    assert_eq!((0..100).filter(|_| waiting.enter(&refused("192.0.2.66", &large))).count(), 4);
    let genuine = refused("192.0.2.1", "genuine");
    assert!(waiting.enter(&genuine));
    // A whole network is one peer.
    assert_eq!((0..100).filter(|n| waiting.enter(&refused(&format!("2001:db8::{n:x}"), &large))).count(), 4);
    assert!(!waiting.enter(&refused("192.0.2.2", "no room at all")));
    (0..4).for_each(|_| waiting.leave(&refused("192.0.2.66", &large)));
    assert!(waiting.enter(&refused("192.0.2.2", "room again")));
    assert!(waiting.bytes() < 5 << 20, "{}", waiting.bytes());
}

#[tokio::test]
async fn nothing_is_left_waiting_whatever_becomes_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let inbox = open(&config);
    for n in 0..20 {
        _ = inbox.quarantine(refused("192.0.2.1", &format!("{n}"))).await;
    }
    assert_eq!(inbox.shared.refused.bytes(), 0);
    let other = Connection::open(&config.path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert!(matches!(inbox.quarantine(refused("192.0.2.2", "x")).await, Err(Unavailable::Storage(_))));
    assert_eq!(inbox.shared.refused.bytes(), 0);
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(inbox.quarantine(refused("192.0.2.2", "x")).await, KEPT, "it is not taken for kept");
    assert_eq!(quarantined(&config).len(), 6);
    inbox.close().await;
    assert_eq!(inbox.quarantine(refused("192.0.2.2", "x")).await, Err(Unavailable::Closed));
}

#[tokio::test]
async fn requests_that_left_no_longer_count_against_the_bounds() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let inbox = open(&config);
    for round in 0..4 {
        for n in 0..5 {
            assert_eq!(inbox.quarantine(refused("192.0.2.1", &format!("{round} {n}"))).await, KEPT);
        }
        if round % 2 == 0 {
            carry_out(&inbox, Task::Purge { requests: QuarantineFilter::default() }).await;
        } else {
            let job = inbox.submit(job(Task::Admit { requests: QuarantineFilter::default() })).await.unwrap();
            let admitted = quarantined(&config).iter().map(|request| (request.id, seq(1))).collect();
            inbox.release(job, Released { admitted, failed: 0, place: 0 }).await.unwrap();
        }
        assert!(quarantined(&config).is_empty());
    }
    inbox.close().await;
}

/// Only what came after the source's last event counts, and only what was signed.
#[tokio::test]
async fn sources_whose_every_delivery_is_refused_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let inbox = open(&config);
    let found = |config: &Config| {
        let mut reader = Reader::open(config).unwrap();
        let uses = reader.secret_uses().unwrap();
        let told = reader.refused_sources(&uses).unwrap().into_iter();
        told.map(|found| (found.source, found.refused, found.first <= found.last)).collect::<Vec<_>>()
    };
    assert_eq!(inbox.quarantine(refused("192.0.2.1", "before")).await, KEPT);
    assert_eq!(found(&config), [("one".to_owned(), 1, true)], "no event has ever come in there");
    inbox.append(new_event("one", "{}")).await.unwrap();
    assert_eq!(found(&config), []);
    for body in ["a", "b"] {
        assert_eq!(inbox.quarantine(refused("192.0.2.1", body)).await, KEPT);
    }
    let mut unsigned = refused("192.0.2.1", "c");
    unsigned.rejected.reason = Rejection::Missing;
    assert_eq!(inbox.quarantine(unsigned).await, KEPT);
    assert_eq!(found(&config), [("one".to_owned(), 2, true)]);
    inbox.close().await;
}
