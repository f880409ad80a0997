//! Searches by time pass over most of the log, and miss nothing, whatever the clock did.

use jiff::{SignedDuration, Timestamp};

use super::*;
use crate::inbox::Selection;
use crate::verify::Fingerprint;

/// When each came in: a clock that goes on, is set back for a while, jumps ahead for one event, and falls to its beginning.
fn arrivals() -> Vec<Timestamp> {
    let begin: Timestamp = "2026-01-31T10:00:00Z".parse().unwrap();
    let minute = |n: i64| begin + SignedDuration::from_mins(n);
    let mut arrivals: Vec<Timestamp> = (0..20).map(minute).collect();
    arrivals.extend((10..20).map(minute));
    arrivals.push(minute(1_000_000));
    arrivals.extend((20..40).map(minute));
    arrivals.push(Timestamp::UNIX_EPOCH);
    arrivals.extend((40..50).map(minute));
    arrivals
}

async fn filled(config: &Config, prefix: &str) -> SqliteInbox {
    let inbox = open(config);
    for (n, received_at) in arrivals().into_iter().enumerate() {
        let event = new_event("one", &payin(&format!("{prefix}{n}"), "o", "COMPLETED"));
        inbox.append(crate::inbox::NewEvent { received_at, ..event }).await.unwrap();
    }
    inbox
}

fn note_all(config: &Config) {
    let mut noted = Seq::ZERO;
    while let upto = Reader::note_times(config).unwrap()
        && upto > noted
    {
        noted = upto;
    }
    assert_eq!(noted.get(), arrivals().len() as i64 / 4 * 4, "every block that is full");
}

/// Everything that goes by time, against a look at every event.
async fn nothing_is_missed(config: &Config, inbox: &SqliteInbox, round: &str) {
    let arrivals = arrivals();
    let mut reader = Reader::open(config).unwrap();
    let mut times: Vec<Option<Timestamp>> = arrivals.iter().copied().map(Some).collect();
    times.push(Some("2026-01-31T10:00:30Z".parse().unwrap()));
    times.push(None);
    for (n, &since) in times.iter().enumerate() {
        for &until in times.iter().step_by(3) {
            let is_asked_for =
                |at: Timestamp| since.is_none_or(|since| at >= since) && until.is_none_or(|until| at < until);
            let expected: Vec<i64> =
                (1..).zip(&arrivals).filter(|&(_, &at)| is_asked_for(at)).map(|(place, _)| place).collect();
            let filter = EventFilter { since, until, ..EventFilter::default() };
            for direction in [Direction::Forward, Direction::Backward] {
                let mut found = Vec::new();
                let visit = &mut |event: EventSummary| {
                    found.push(event.seq.get());
                    ControlFlow::Continue(())
                };
                reader.each_event(&filter, direction, None, visit).unwrap();
                found.sort_unstable();
                assert_eq!(found, expected, "{round} {direction:?} {since:?} {until:?}");
            }
            let selection = Selection { filter, first: Seq::ZERO.next(), last: Seq::new(1_000).unwrap() };
            let (mut selected, mut tallied) = (Vec::new(), 0);
            let visit = &mut |slice: crate::inbox::Slice| {
                selected.extend(slice.events.iter().map(|event| event.seq.get()));
                ControlFlow::Continue(())
            };
            reader.each_selected(&selection, visit).unwrap();
            let visit = &mut |tallies: Vec<crate::inbox::Tally>, _| {
                tallied += tallies.iter().map(|tally| tally.count).sum::<u64>();
                ControlFlow::Continue(())
            };
            reader.tally_selected(&selection, visit).unwrap();
            assert_eq!((&selected, tallied), (&expected, expected.len() as u64), "{round} {since:?} {until:?}");
        }
        let Some(since) = since else { continue };
        let who = Registration::Sink { name: sink(&format!("{round}-{n}")), start: Start::At(since) };
        let first = arrivals.iter().position(|&at| at >= since).unwrap_or(arrivals.len()) as i64;
        assert_eq!(inbox.consumer(who, "*".to_owned()).await.unwrap().cursor.get(), first, "{round} {since}");
    }
}

#[tokio::test]
async fn a_search_by_time_misses_nothing_when_the_clock_was_set_back() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [config, other] = [config(dirs[0].path()), config(dirs[1].path())];
    let inbox = filled(&config, "a").await;
    nothing_is_missed(&config, &inbox, "unnoted").await;
    note_all(&config);
    nothing_is_missed(&config, &inbox, "noted").await;

    // A log that is shorter, or another: what is noted is not about it.
    let note = config.path.with_extension("times");
    let short = open(&other);
    short.append(new_event("one", &payin("b", "o", "COMPLETED"))).await.unwrap();
    std::fs::copy(&note, other.path.with_extension("times")).unwrap();
    assert_eq!(list(&other, &EventFilter { since: Some(Timestamp::UNIX_EPOCH), ..EventFilter::default() }).len(), 1);
    short.close().await;
    std::fs::write(&note, "{\"last\":\"").unwrap();
    nothing_is_missed(&config, &inbox, "broken").await;
    note_all(&config);
    inbox.close().await;
}

#[tokio::test]
async fn the_note_of_another_log_does_not_count() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [config, other] = [config(dirs[0].path()), config(dirs[1].path())];
    let (inbox, elsewhere) = (filled(&config, "a").await, filled(&other, "b").await);
    note_all(&other);
    let note = std::fs::read(other.path.with_extension("times")).unwrap();
    let mut note: serde_json::Value = serde_json::from_slice(&note).unwrap();
    // As if nothing had come in since the beginning of 1970.
    let blocks = note["blocks"].as_array_mut().unwrap();
    blocks.iter_mut().for_each(|block| *block = serde_json::json!([0, 0, 0]));
    std::fs::write(config.path.with_extension("times"), note.to_string()).unwrap();
    nothing_is_missed(&config, &inbox, "other").await;
    inbox.close().await;
    elsewhere.close().await;
}

#[tokio::test]
async fn what_came_in_when_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let inbox = open(&config);
    let begin: Timestamp = "2026-01-31T10:00:00Z".parse().unwrap();
    let reader = Reader::open(&config).unwrap();
    assert_eq!(reader.arrivals_per_minute(begin, 2).unwrap(), [0, 0]);
    assert_eq!(reader.last_arrival().unwrap(), None);
    for (n, second) in [0, 1, 59, 60, 61, 200].into_iter().enumerate() {
        let event = new_event("one", &payin(&n.to_string(), "o", "COMPLETED"));
        let received_at = begin + SignedDuration::from_secs(second);
        inbox.append(crate::inbox::NewEvent { received_at, ..event }).await.unwrap();
    }
    let now = begin + SignedDuration::from_secs(200);
    assert_eq!(reader.last_arrival().unwrap(), Some(now));
    assert_eq!(reader.arrivals_per_minute(now, 5).unwrap(), [0, 3, 2, 0, 1]);
    assert_eq!(reader.arrivals_per_minute(now, 2).unwrap(), [0, 1]);
    let since = |second| reader.count_since(begin + SignedDuration::from_secs(second)).unwrap();
    assert_eq!([since(-1), since(0), since(1), since(60), since(62), since(201)], [6, 6, 5, 3, 1, 0]);
    inbox.close().await;
}

#[tokio::test]
async fn secrets_are_counted_with_and_without_the_note() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let inbox = open(&config);
    assert!(Reader::open(&config).unwrap().secret_uses().unwrap().by_source.is_empty());
    let begin: Timestamp = "2026-01-31T10:00:00Z".parse().unwrap();
    let at = |n: i64| begin + SignedDuration::from_mins(n);
    for (n, (source, old)) in (1..).zip([("one", true), ("one", true), ("two", false)].repeat(5)) {
        let event = signed_by(source, &payin(&n.to_string(), "o", "COMPLETED"), usize::from(old && n < 8));
        inbox.append(crate::inbox::NewEvent { received_at: at(n), ..event }).await.unwrap();
    }
    let uses = |secret: &[u8], slot, events, first: i64, last: i64| crate::inbox::SecretUse {
        secret: Some(Fingerprint::of(secret)),
        slot,
        events,
        first: Some((Seq::new(first).unwrap(), at(first))),
        last_seq: Seq::new(last).unwrap(),
        last_used_at: at(last),
    };
    let (new, old) = (SECRET, b"former secret");
    let of_one = vec![uses(new, 0, 5, 8, 14), uses(old, 1, 5, 1, 7)];
    let expected = [("one", of_one), ("two", vec![uses(new, 0, 5, 3, 15)])];
    let check = || {
        let found = Reader::open(&config).unwrap().secret_uses().unwrap();
        assert_eq!(found.counted_to.get(), 15);
        let found: Vec<_> = found.by_source.iter().map(|(source, uses)| (source.as_str(), uses.clone())).collect();
        assert_eq!(found, expected);
    };
    check();
    assert_eq!(Reader::note_times(&config).unwrap().get(), 12);
    check();
    inbox.close().await;
}
