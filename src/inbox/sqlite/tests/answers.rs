//! What far sides answered is kept for people, within bounds, and as long as the event's body.

use std::time::Duration;

use jiff::Timestamp;

use super::*;
use crate::inbox::{Attempt, LetterFilter, LetterState, Task};
use crate::model::Outcome;

fn failed(at: i64, n: u32, answer: &str) -> Attempt {
    let outcome = Outcome::permanent("HTTP 422").with_answer(answer);
    Attempt { seq: seq(at), n, at: Timestamp::UNIX_EPOCH, latency: Duration::ZERO, outcome }
}

/// The attempts of an event whose answers are kept, with them.
fn kept(config: &Config, id: &str) -> Vec<(u32, String)> {
    let event = Reader::open(config).unwrap().event(id).unwrap().pop().unwrap();
    event.attempts.into_iter().filter_map(|attempt| Some((attempt.n, attempt.answer?))).collect()
}

fn expected(kept: &[(u32, &str)]) -> Vec<(u32, String)> {
    kept.iter().map(|(n, answer)| (*n, (*answer).to_owned())).collect()
}

#[tokio::test]
async fn the_first_the_latest_and_changed_answers_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let inbox = open(&config);
    fill(&inbox, 2).await;
    let bus = register(&inbox, "bus").await;
    let answers = ["no a", "no a", "no a", "no a", "no b", "no b", "no b", "no a"];
    let shown = [
        vec![(1, "no a")],
        vec![(1, "no a"), (2, "no a")],
        vec![(1, "no a"), (3, "no a")],
        vec![(1, "no a"), (4, "no a")],
        vec![(1, "no a"), (5, "no b")],
        vec![(1, "no a"), (5, "no b"), (6, "no b")],
        vec![(1, "no a"), (5, "no b"), (7, "no b")],
        vec![(1, "no a"), (5, "no b"), (8, "no a")],
    ];
    for ((n, answer), shown) in (1..).zip(answers).zip(shown) {
        let attempts = vec![failed(1, n, answer)];
        inbox.record(Progress { attempts, ..progress(bus.id, 0) }).await.unwrap();
        assert_eq!(kept(&config, "e1"), expected(&shown), "after attempt {n}");
    }
    // Recorded again, as after a crash, it is there once.
    inbox.record(Progress { attempts: vec![failed(1, 8, "no a")], ..progress(bus.id, 0) }).await.unwrap();
    assert_eq!(kept(&config, "e1"), expected(&[(1, "no a"), (5, "no b"), (8, "no a")]));
    // One that says something else each time.
    let attempts = (1..=40).map(|n| failed(2, n, &format!("request {n}"))).collect();
    inbox.record(Progress { attempts, ..progress(bus.id, 0) }).await.unwrap();
    let numbers: Vec<u32> = kept(&config, "e2").into_iter().map(|(n, _)| n).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7, 8, 9, 40]);
    inbox.close().await;
}

#[tokio::test]
async fn answers_are_shown_with_dead_letters_and_go_with_the_body() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let inbox = open(&config);
    fill(&inbox, 2).await;
    let bus = register(&inbox, "bus").await;
    let attempts = vec![failed(1, 1, "field amount is missing"), failed(2, 1, "no such customer")];
    let dead = vec![letter(1, "HTTP 422"), letter(2, "HTTP 422")];
    inbox.record(Progress { attempts, dead, ..progress(bus.id, 2) }).await.unwrap();
    let letters = |part: &str| {
        let mut answers = Vec::new();
        let filter = LetterFilter { reason: Some(part.to_owned()), ..LetterFilter::default() };
        let visit = &mut |letter: crate::inbox::DeadLetterRecord| {
            answers.extend(letter.answer);
            ControlFlow::Continue(())
        };
        Reader::open(&config).unwrap().each_dead_letter(&filter, &[LetterState::Open], None, visit).unwrap();
        answers
    };
    assert_eq!(letters("HTTP 422"), ["no such customer", "field amount is missing"]);
    assert_eq!(letters("HTTP 422: field amount"), ["field amount is missing"]);
    carry_out(&inbox, Task::Discard { letters: LetterFilter { ids: vec![1], ..LetterFilter::default() } }).await;
    carry_out(&inbox, Task::Prune { before: Timestamp::MAX, sinks: vec![sink("bus")] }).await;
    let event = Reader::open(&config).unwrap().event("e1").unwrap().pop().unwrap();
    assert_eq!((event.body, event.attempts[0].note.as_str()), (None, "HTTP 422"));
    assert_eq!((kept(&config, "e1"), kept(&config, "e2")), (vec![], expected(&[(1, "no such customer")])));
    let left: i64 = Connection::open(&config.path)
        .unwrap()
        .query_row("SELECT count(*) FROM answers", [], |row| row.get(0))
        .unwrap();
    assert_eq!(left, 1);
    inbox.close().await;
}
