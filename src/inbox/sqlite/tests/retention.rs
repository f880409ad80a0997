//! What retention drops, by a clock that may have been wrong, and that it is gone.

use jiff::{SignedDuration, Timestamp};

use super::*;
use crate::clock::Uptime;
use crate::inbox::{NewEvent, Task};
use crate::model::SinkName;

const DAY: SignedDuration = SignedDuration::from_hours(24);

async fn filled(config: &Config, days_ago: impl IntoIterator<Item = i32>) -> SqliteInbox {
    let inbox = open(config);
    for (n, ago) in days_ago.into_iter().enumerate() {
        let event = new_event("one", &payin(&format!("e{n}"), "o", "COMPLETED"));
        inbox.append(NewEvent { received_at: now() - DAY * ago, ..event }).await.unwrap();
    }
    inbox
}

fn without_body(config: &Config) -> Vec<i64> {
    let raw = Connection::open(&config.path).unwrap();
    let mut rows =
        raw.prepare("SELECT seq FROM events WHERE seq NOT IN (SELECT seq FROM bodies) ORDER BY seq").unwrap();
    rows.query_map([], |row| row.get(0)).unwrap().collect::<rusqlite::Result<_>>().unwrap()
}

/// The dry run and the job say the same, whether arrivals are noted or not.
#[tokio::test]
async fn events_of_any_time_are_passed_over_and_hide_nothing() {
    // Ages in days: a wrong clock for one event, for some, and for more than are looked at in a step; old ones at the end.
    let mut ages = vec![10, -700, 9, 9, 0, -3, 8];
    ages.extend([-1; 45]);
    ages.extend([7, -2, 7, -2, -2, 7]);
    let old: Vec<i64> = (1..).zip(&ages).filter(|&(_, &ago)| ago > 1).map(|(seq, _)| seq).collect();
    for is_noted in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        let inbox = filled(&config, ages.clone()).await;
        while is_noted && Reader::note_times(&config).unwrap().get() < 56 {}
        let (before, sinks) = (now() - DAY, Vec::<SinkName>::new());
        let counted = |before| Reader::open(&config).unwrap().prunable(before, &sinks, &mut |_| {}).unwrap().0;
        assert_eq!(counted(before), old.len() as u64);
        carry_out(&inbox, Task::Prune { before, sinks: sinks.clone() }).await;
        assert_eq!(without_body(&config), old);
        assert_eq!(counted(before), 0);
        let rest = ages.len() as u64 - old.len() as u64;
        assert_eq!(counted(Timestamp::MAX), rest, "what was passed over is counted by the next");
        inbox.close().await;
    }
}

fn is_in(path: &Path, text: &str) -> bool {
    let bytes = std::fs::read(path).unwrap_or_default();
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// Small bodies, which share pages, and large ones, which have pages of their own.
#[tokio::test]
async fn what_is_deleted_is_in_no_file_any_more() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let inbox = open(&config);
    for n in 0..200 {
        let padding = "x".repeat(if n % 10 == 0 { 30_000 } else { 300 });
        let body = format!(
            r#"{{"eventId":"e{n}","eventType":"payin_completed","data":{{"name":"Ada Forgotten {n} {padding}"}}}}"#
        );
        append(&inbox, "one", &body).await;
    }
    _ = inbox.quarantine(refused("192.0.2.1", "Ada Forgotten was refused")).await;
    until("it is written", || !quarantined(&config).is_empty()).await;
    carry_out(&inbox, Task::Purge { requests: crate::inbox::QuarantineFilter::default() }).await;
    carry_out(&inbox, Task::Prune { before: Timestamp::MAX, sinks: vec![] }).await;
    let copy = dir.path().join("copy.db");
    super::super::back_up(&config, &copy, Arc::new(|_| ControlFlow::Continue(()))).unwrap();
    inbox.close().await;
    drop(inbox);
    // The next start writes the log back, and empties it.
    open(&config).close().await;
    let log = config.path.with_extension("db-wal");
    assert!(copy.exists() && std::fs::metadata(&copy).unwrap().len() > 300_000);
    for file in [&config.path, &log, &copy] {
        assert!(!is_in(file, "Ada Forgotten"), "{}", file.display());
    }
    assert_eq!(list(&config, &EventFilter::default()).len(), 200);
}

/// An inbox that an older version has left, or that was restored from a backup of one.
#[tokio::test]
async fn the_last_event_says_what_time_it_was_where_none_is_noted() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let inbox = filled(&config, [100]).await;
    let uptime = |boot: &str, seconds| Uptime { boot: boot.to_owned(), elapsed: Duration::from_secs(seconds) };
    let reader = Reader::open(&config).unwrap();
    let before_it_is_noted = reader.believed_clock(now(), &uptime("a", 50)).unwrap();
    let noted = inbox.note_clock(uptime("a", 50)).await.unwrap();
    assert_eq!(before_it_is_noted, noted);
    let expected = now() - DAY * 99;
    assert!(noted.at <= expected && noted.at > expected - SignedDuration::from_mins(5), "{noted:?}");
    assert!(noted.ahead(now()).is_some());
    inbox.close().await;
    drop(inbox);
    let inbox = open(&config);
    let again = inbox.note_clock(uptime("a", 60)).await.unwrap();
    assert_eq!(again.at, noted.at + SignedDuration::from_secs(10), "another start of the process allows nothing");
    let another_start = inbox.note_clock(uptime("b", 60)).await.unwrap();
    assert_eq!(another_start.at, again.at + SignedDuration::from_secs(60) + DAY);
    inbox.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_portion_waits_for_senders_but_not_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let inbox = filled(&config, [9]).await;
    let took = async || {
        let began = tokio::time::Instant::now();
        carry_out(&inbox, Task::Prune { before: now(), sinks: vec![] }).await;
        began.elapsed()
    };
    assert_eq!(took().await, Duration::ZERO);
    inbox.shared.waiting.store(1, std::sync::atomic::Ordering::SeqCst);
    let took = took().await;
    inbox.shared.waiting.store(0, std::sync::atomic::Ordering::SeqCst);
    assert!((Duration::from_millis(90)..Duration::from_secs(1)).contains(&took), "{took:?}");
    inbox.close().await;
}
