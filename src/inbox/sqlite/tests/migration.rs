//! A file that an older version has written.

use jiff::Timestamp;

use super::super::{Desk, ReadError};
use super::*;
use crate::inbox::{LetterFilter, LetterState, PairState, Task};
use crate::model::SinkState;

/// As the first version left it: one row in every table.
fn version_1(config: &Config) {
    std::fs::create_dir_all(config.path.parent().unwrap()).unwrap();
    let raw = Connection::open(&config.path).unwrap();
    raw.execute_batch(include_str!("../schema/001.sql")).unwrap();
    raw.execute_batch(
        r#"PRAGMA journal_mode = WAL; PRAGMA user_version = 1;
        INSERT INTO sources VALUES (1, 'one');
        INSERT INTO events VALUES
            (1, 1, 'a', 'payin.completed', 1, 'o', 'COMPLETED', 2, NULL, 1000000, 2, zeroblob(32), 's', 0, 1, 0, NULL, '[]'),
            (2, 1, 'b', 'payin.failed', 1, NULL, NULL, 0, NULL, 2000000, 2, zeroblob(32), 's', 0, 1, 1, NULL, '[]'),
            (3, 1, 'c', 'kyc.done', 4, NULL, NULL, 0, NULL, 2000000, 2, zeroblob(32), 's', 0, 1, 0, NULL, '[]'),
            (4, 1, 'd', 'payin.failed', 1, NULL, NULL, 0, NULL, 2000000, 2, zeroblob(32), 's', 0, 1, 0, NULL, '[]');
        INSERT INTO bodies VALUES (1, x'7b7d'), (2, x'7b7d'), (3, x'7b7d'), (4, x'7b7d');
        INSERT INTO id_index VALUES (7, 1);
        INSERT INTO entity_index VALUES (7, 1);
        INSERT INTO arrivals VALUES (1, 2, 3000000);
        INSERT INTO sinks VALUES (3, 'bus', 4, 1, 500000);
        INSERT INTO route_revisions VALUES (3, 1, 500000, 'payin.*');
        INSERT INTO attempts VALUES (3, 1, 1, 1100000, 9, 2, 'down'), (3, 1, 2, 1200000, 9, 1, 'confirm');
        INSERT INTO parked VALUES (3, 4, 1, 2100000, 2200000);
        INSERT INTO dead_letters VALUES (5, 3, 2, 0, 'conflict', 2100000);
        INSERT INTO quarantine VALUES (8, 'one', '192.0.2.1', 1, 'mismatch', zeroblob(32), '[]', 'text/plain', '[]', x'00');"#,
    )
    .unwrap();
}

#[tokio::test]
async fn what_the_first_version_stored_is_still_there() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    version_1(&config);
    let older = Reader::open(&config).err().unwrap();
    assert!(matches!(older, ReadError::Older) && older.to_string().contains("restart the daemon"), "{older}");
    assert!(matches!(Desk::open(&config), Err(ReadError::Older)));

    let inbox = open(&config);
    let state = register(&inbox, "bus").await;
    assert_eq!((state.id.get(), state.cursor, state.dead_letters), (3, seq(4), 1));
    assert_eq!((state.parked[0].seq, state.parked[0].still), (seq(4), Duration::ZERO));
    let mut reader = Reader::open(&config).unwrap();
    let sinks = reader.sinks().unwrap();
    assert_eq!((sinks[0].name.as_str(), sinks[0].delivered, sinks[0].state()), ("bus", 1, SinkState::Running));
    assert_eq!(reader.dead_letter(5).unwrap().unwrap().reason, "conflict");
    let state_of = |reader: &mut Reader, id: &str| reader.event(id).unwrap().pop().unwrap().sinks.pop().unwrap().state;
    assert!(matches!(state_of(&mut reader, "a"), PairState::Delivered { receipt, .. } if receipt == "confirm"));
    assert!(matches!(state_of(&mut reader, "b"), PairState::DeadLetter { id: 5, .. }));
    let filtered =
        PairState::Filtered { route: "payin.*".to_owned(), since: Timestamp::from_microsecond(500_000).unwrap() };
    assert_eq!(state_of(&mut reader, "c"), filtered);
    assert!(matches!(state_of(&mut reader, "d"), PairState::Parked { attempts: 1, .. }));
    assert_eq!(quarantined(&config)[0].content_type.as_deref(), Some("text/plain"));
    assert_eq!(list(&config, &EventFilter::default())[0].arrivals, 3);

    // A number that stood for one dead letter never stands for another.
    carry_out(&inbox, Task::Retry { letters: LetterFilter::default() }).await;
    let again = Progress { unpark: vec![seq(2)], dead: vec![letter(2, "no")], ..progress(state.id, 4) };
    inbox.record(again).await.unwrap();
    assert!(matches!(state_of(&mut reader, "b"), PairState::DeadLetter { id: 6, .. }));
    inbox.close().await;
}

/// As the third version left it: a dead letter of a sink, and one of a replay to it.
#[tokio::test]
async fn letters_of_replays_are_told_apart_when_the_schema_is_brought_up_to_date() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    version_1(&config);
    let raw = Connection::open(&config.path).unwrap();
    raw.execute_batch(include_str!("../schema/002.sql")).unwrap();
    raw.execute_batch(include_str!("../schema/003.sql")).unwrap();
    raw.execute_batch(
        "PRAGMA user_version = 3;
        INSERT INTO sinks (id, name, cursor, first_seq, created_at, replay_of, job_id)
            VALUES (4, 'replay:9', 4, 1, 500000, 3, 9);
        INSERT INTO dead_letters (id, sink_id, seq, attempts, reason, at) VALUES (6, 4, 3, 1, 'no', 2100000);",
    )
    .unwrap();
    drop(raw);
    let inbox = open(&config);
    let (letters, _) = Reader::open(&config)
        .unwrap()
        .dead_letters_below(&LetterFilter::default(), &[LetterState::Open], None)
        .unwrap();
    assert_eq!(letters.iter().map(|letter| letter.id).collect::<Vec<_>>(), [5]);
    inbox.close().await;
}

/// As the fifth version left it: what evidence needs is not known of it, and that is said.
#[tokio::test]
async fn what_was_stored_before_evidence_was_kept_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    version_1(&config);
    let raw = Connection::open(&config.path).unwrap();
    for schema in [
        include_str!("../schema/002.sql"),
        include_str!("../schema/003.sql"),
        include_str!("../schema/004.sql"),
        include_str!("../schema/005.sql"),
    ] {
        raw.execute_batch(schema).unwrap();
    }
    raw.execute_batch(
        "PRAGMA user_version = 5;
        INSERT INTO dead_letters (id, sink_id, seq, attempts, reason, at, discarded_at, discard_reason, discarded_by)
            VALUES (6, 3, 3, 1, 'no', 2100000, 2200000, 'a test', 'ann@host');
        INSERT INTO jobs (id, task, who, reason, created_at, ended_at, state, done)
            VALUES (4, '{\"task\":\"discard\",\"letters\":{\"ids\":[6]}}', 'ann@host', 'a test', 2150000, 2200000, 3, 1);",
    )
    .unwrap();
    drop(raw);
    let inbox = open(&config);
    let mut reader = Reader::open(&config).unwrap();
    let event = reader.event("a").unwrap().remove(0);
    assert_eq!((event.secret, event.secret_slot, event.peer, event.admission), (None, 0, None, None));
    assert_eq!(event.attempts.iter().map(|attempt| attempt.revision).collect::<Vec<_>>(), [None, None]);
    let letter = reader.dead_letter(6).unwrap().unwrap();
    let decision = letter.decision.unwrap();
    assert_eq!((letter.state, decision.who.as_deref(), decision.job), (LetterState::Discarded, Some("ann@host"), None));
    let job = reader.job(crate::model::JobId::new(4)).unwrap().unwrap();
    assert_eq!(reader.record_items(&job).unwrap(), []);
    let uses = &reader.secret_uses().unwrap().by_source[&crate::model::SourceName::new("one").unwrap()];
    assert_eq!(uses.iter().map(|used| (used.secret, used.slot, used.events)).collect::<Vec<_>>(), [(None, 0, 4)]);
    // The old ones and the new ones of one slot are told apart.
    append(&inbox, "one", &payin("e", "o", "COMPLETED")).await;
    let uses = reader.secret_uses().unwrap().by_source.into_values().next().unwrap();
    let uses: Vec<_> = uses.iter().map(|used| (used.secret.is_some(), used.slot, used.events)).collect();
    assert_eq!(uses, [(true, 0, 1), (false, 0, 4)]);
    inbox.close().await;
}

#[tokio::test]
async fn what_a_newer_version_has_written_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    open(&config).close().await;
    Connection::open(&config.path).unwrap().execute_batch("PRAGMA user_version = 99").unwrap();
    assert!(matches!(Reader::open(&config), Err(ReadError::Newer)));
    assert!(matches!(Desk::open(&config), Err(ReadError::Newer)));
}
