//! What is kept for whoever looks into it later.

use jiff::SignedDuration;

use super::*;
use crate::inbox::{
    Altered, Attempt, Because, LetterFilter, LetterState, NewAdmission, ParkedFilter, QuarantineFilter, RecordItem,
    SinkDefinition, Task,
};
use crate::model::{Digest, Outcome};
use crate::verify::Fingerprint;

fn detail(config: &Config, seq: &str) -> crate::inbox::EventDetail {
    Reader::open(config).unwrap().event(seq).unwrap().pop().unwrap()
}

fn items(config: &Config, job: crate::model::JobId) -> Vec<RecordItem> {
    let reader = Reader::open(config).unwrap();
    reader.record_items(&reader.job(job).unwrap().unwrap()).unwrap()
}

/// Has somebody write another body into the file.
fn alter(config: &Config, at: i64, body: &[u8]) {
    let raw = Connection::open(&config.path).unwrap();
    raw.busy_timeout(Duration::from_secs(5)).unwrap();
    raw.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
    assert_eq!(raw.execute("UPDATE bodies SET body = ?2 WHERE seq = ?1", (at, body)).unwrap(), 1);
}

#[tokio::test]
async fn an_event_knows_its_secret_its_sender_and_how_it_came_in() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let inbox = open(&config);
    let job = inbox.submit(job(Task::Admit { requests: QuarantineFilter::default() })).await.unwrap();
    inbox.append(signed_by("one", &payin("a", "o", "COMPLETED"), 0).sent_by("203.0.113.9")).await.unwrap();
    let at = now() + SignedDuration::from_secs(60);
    let admission = NewAdmission { at, job, request: 8, refused: "mismatch" };
    let late = signed_by("one", &payin("b", "o", "COMPLETED"), 1).sent_by("2001:db8::/64").admitted(admission);
    inbox.append(late).await.unwrap();

    let (first, second) = (detail(&config, "1"), detail(&config, "2"));
    assert_eq!(first.secret, Some(Fingerprint::of(SECRET)));
    assert_eq!((first.peer.as_deref(), &first.admission, first.summary.admitted), (Some("203.0.113.9"), &None, false));
    assert_eq!((second.secret, second.secret_slot), (Some(Fingerprint::of(b"former secret")), 1));
    let admission = second.admission.unwrap();
    assert_eq!((admission.at, admission.job, admission.who.as_str()), (at, job, "ada"));
    assert_eq!((admission.request, admission.refused.as_str()), (8, "mismatch"));
    assert!(second.summary.admitted && second.summary.received_at < at);
    let raw = Connection::open(&config.path).unwrap();
    let verdicts: Vec<i64> = {
        let mut rows = raw.prepare("SELECT verdict FROM events ORDER BY seq").unwrap();
        rows.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
    };
    assert_eq!(verdicts, [1, 2]);
    inbox.close().await;
}

#[tokio::test]
async fn a_body_that_is_not_what_came_in_is_marked_and_not_given_out() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let inbox = open(&config);
    fill(&inbox, 3).await;
    assert_eq!(detail(&config, "2").body_matches, Some(true));
    let came_in = detail(&config, "2").body.unwrap();
    alter(&config, 2, b"{\"amount\":9}");
    let found = Digest::of(b"{\"amount\":9}");
    for _ in 0..2 {
        let events = inbox.read_after(seq(0), 10, None).await.unwrap().events;
        let given: Vec<_> = events.iter().map(|event| (event.body.is_some(), event.altered)).collect();
        assert_eq!(given, [(true, None), (false, Some(Altered::Other(found))), (true, None)]);
    }
    assert_eq!(inbox.read(vec![seq(2)]).await.unwrap()[0].altered, Some(Altered::Other(found)));
    let shown = detail(&config, "2");
    assert_eq!((shown.body_matches, shown.body.as_deref()), (Some(false), Some(&b"{\"amount\":9}"[..])));
    let marked = shown.mismatch_found_at.unwrap();
    let marks: Vec<bool> = list(&config, &EventFilter::default()).iter().map(|event| event.digest_mismatch).collect();
    assert_eq!(marks, [false, true, false]);
    let mut reader = Reader::open(&config).unwrap();
    assert_eq!(reader.altered_events().unwrap(), 1);
    // The first finding stays, and what has no body any more is no alarm.
    inbox.note_altered(vec![(seq(2), found), (seq(77), found)]).await.unwrap();
    assert_eq!(reader.event("2").unwrap()[0].mismatch_found_at, Some(marked));
    // Restored, it is no alarm any more; that it was found stays.
    alter(&config, 2, &came_in);
    let shown = detail(&config, "2");
    assert_eq!((shown.body_matches, shown.mismatch_found_at), (Some(true), Some(marked)));
    assert_eq!((reader.altered_events().unwrap(), shown.summary.digest_mismatch), (0, false));
    alter(&config, 2, b"{\"amount\":9}");
    assert_eq!((reader.altered_events().unwrap(), detail(&config, "2").summary.digest_mismatch), (1, true));
    let raw = Connection::open(&config.path).unwrap();
    raw.execute("DELETE FROM bodies WHERE seq = 2", []).unwrap();
    assert_eq!((reader.altered_events().unwrap(), detail(&config, "2").body_matches), (0, None));
    inbox.close().await;
}

/// Only retention may drop bodies, and it notes how far it has come.
#[tokio::test]
async fn a_body_that_is_gone_without_retention_was_taken_by_somebody() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let inbox = open(&config);
    fill(&inbox, 3).await;
    let raw = Connection::open(&config.path).unwrap();
    raw.busy_timeout(Duration::from_secs(5)).unwrap();
    raw.execute("DELETE FROM bodies WHERE seq = 2", []).unwrap();
    drop(raw);
    let read = async || {
        let events = inbox.read_after(seq(0), 10, None).await.unwrap().events;
        events.iter().map(|event| (event.body.is_some(), event.altered)).collect::<Vec<_>>()
    };
    assert_eq!(read().await, [(true, None), (false, Some(Altered::Missing)), (true, None)]);
    assert_eq!(inbox.read(vec![seq(2)]).await.unwrap()[0].altered, Some(Altered::Missing));
    carry_out(&inbox, Task::Prune { before: jiff::Timestamp::MAX, sinks: vec![] }).await;
    assert_eq!(read().await, [(false, None::<Altered>); 3]);
    inbox.close().await;
}

/// Two retried, one discarded, one open: each is found by its number and by its state, newest first.
#[tokio::test]
async fn dead_letters_stay_findable_with_who_decided_and_why() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let inbox = open(&config);
    fill(&inbox, 4).await;
    let id = register(&inbox, "bus").await.id;
    let dead = (1..=4).map(|at| letter(at, "HTTP 422")).collect();
    inbox.record(Progress { dead, ..progress(id, 4) }).await.unwrap();
    let chosen = |ids: &[i64]| LetterFilter { ids: ids.to_vec(), ..LetterFilter::default() };
    let (retried, _) = carry_out(&inbox, Task::Retry { letters: chosen(&[1, 3]) }).await;
    let (discarded, _) = carry_out(&inbox, Task::Discard { letters: chosen(&[2]) }).await;
    let reader = Reader::open(&config).unwrap();
    let listed = |filter: &LetterFilter, states: &[LetterState]| {
        let mut ids = Vec::new();
        let visit = &mut |letter: crate::inbox::DeadLetterRecord| {
            ids.push(letter.id);
            ControlFlow::Continue(())
        };
        reader.each_dead_letter(filter, states, None, visit).unwrap();
        ids
    };
    let all = LetterFilter::default();
    let of = |state| listed(&all, &[state]);
    assert_eq!(LetterState::ALL.map(of), [vec![4], vec![3, 1], vec![2]]);
    assert_eq!(listed(&all, &LetterState::ALL), [4, 3, 2, 1]);
    let event = |id: &str| LetterFilter { event_id: Some(id.to_owned()), ..LetterFilter::default() };
    assert_eq!(listed(&event("e3"), &LetterState::ALL), [3]);

    let shown = |id| reader.dead_letter(id).unwrap().unwrap();
    for (id, state, job) in [(1, LetterState::Retried, retried), (2, LetterState::Discarded, discarded)] {
        let (letter, decision) = (shown(id), shown(id).decision.unwrap());
        assert_eq!((letter.state, letter.seq.get(), letter.key.as_str()), (state, id, &*format!("o{id}")));
        assert_eq!((decision.who.as_deref(), decision.reason.as_deref()), (Some("ada"), Some("because")));
        assert_eq!((decision.job, letter.source.as_str()), (Some(job), "one"));
    }
    assert_eq!((shown(4).state, shown(4).decision), (LetterState::Open, None));
    // Given up once more, it has another number; the old one stays.
    inbox.record(Progress { unpark: vec![seq(1)], dead: vec![letter(1, "no")], ..progress(id, 4) }).await.unwrap();
    assert_eq!(listed(&event("e1"), &LetterState::ALL), [5, 1]);

    let numbers = |job| items(&config, job).iter().map(|item| (item.number, item.seq)).collect::<Vec<_>>();
    assert_eq!(numbers(retried), [(Some(1), Some(seq(1))), (Some(3), Some(seq(3)))]);
    let item = items(&config, discarded).remove(0);
    let (event, sink) = (item.event_id.unwrap(), item.sink.unwrap());
    assert_eq!((item.number, event.as_str(), sink.as_str()), (Some(2), "e2", "bus"));
    inbox.close().await;
}

/// Of more letters than one page has, of both tables, none is left out and none comes twice.
#[tokio::test]
async fn a_long_list_of_all_states_is_whole_and_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let inbox = open(&config);
    let count = 1_300;
    fill(&inbox, 1).await;
    let id = register(&inbox, "bus").await.id;
    let raw = Connection::open(&config.path).unwrap();
    raw.busy_timeout(Duration::from_secs(5)).unwrap();
    raw.execute_batch(&format!(
        "WITH RECURSIVE n (i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < {count})
         INSERT INTO events SELECT i, source_id, 'e' || i, type, category, 'o', state, phase, event_time, received_at, size,
             body_sha256, signature, secret_slot, verdict, conflict, content_type, headers, secret_id, peer
         FROM n JOIN events e ON e.seq = 1;
         INSERT INTO dead_letters (id, sink_id, seq, attempts, reason, at)
             SELECT seq, {id}, seq, 1, 'no', 0 FROM events WHERE seq % 13 <> 0;
         INSERT INTO retried_letters SELECT seq, {id}, seq, 1, 'no', 0, 1, 1 FROM events WHERE seq % 13 = 0;",
        id = id.get()
    ))
    .unwrap();
    let mut ids = Vec::new();
    let visit = &mut |letter: crate::inbox::DeadLetterRecord| {
        ids.push(letter.id);
        ControlFlow::Continue(())
    };
    let reader = Reader::open(&config).unwrap();
    reader.each_dead_letter(&LetterFilter::default(), &LetterState::ALL, None, visit).unwrap();
    assert_eq!(ids, (1..=count).rev().collect::<Vec<i64>>());
    inbox.close().await;
}

#[tokio::test]
async fn a_job_keeps_the_first_things_that_it_was_about() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let inbox = open(&config);
    fill(&inbox, 30).await;
    let id = register(&inbox, "bus").await.id;
    inbox.record(Progress { park: (1..=30).map(|at| parked(at, 1)).collect(), ..progress(id, 30) }).await.unwrap();
    let (due, _) = carry_out(&inbox, Task::RetryParked { parked: ParkedFilter::default() }).await;
    let seqs = |job| items(&config, job).iter().map(|item| item.seq.unwrap().get()).collect::<Vec<_>>();
    assert_eq!(seqs(due), (1..=20).collect::<Vec<i64>>(), "no more than the bound of tests");
    let one = ParkedFilter { seqs: vec![7], ..ParkedFilter::default() };
    let (discarded, _) = carry_out(&inbox, Task::DiscardParked { parked: one }).await;
    assert_eq!(seqs(discarded), [7]);
    assert_eq!(inbox.quarantine(refused("192.0.2.1", "x")).await.unwrap(), crate::inbox::QuarantineOutcome::Kept);
    let (purged, _) = carry_out(&inbox, Task::Purge { requests: QuarantineFilter::default() }).await;
    let item = items(&config, purged).remove(0);
    assert_eq!((item.number, item.seq, item.body_sha256), (Some(1), None, Some(Digest::of(b"x"))));
    inbox.close().await;
}

#[tokio::test]
async fn a_replay_was_also_about_what_it_gave_up_untried() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let inbox = open(&config);
    fill(&inbox, 30).await;
    let bus = register(&inbox, "bus").await.id;
    inbox.record(progress(bus, 30)).await.unwrap();
    let job = inbox.submit(job(replay("bus", 1, 30))).await.unwrap();
    let id = inbox.consumer(Registration::Replay { job }, "*".to_owned()).await.unwrap().id;
    let seqs = || items(&config, job).iter().map(|item| item.seq.unwrap().get()).collect::<Vec<_>>();
    inbox.record(Progress { dead: vec![letter(3, "altered")], ..progress(id, 3) }).await.unwrap();
    assert_eq!(seqs(), [3]);
    let attempts = vec![attempt(1, 1, Outcome::delivered("ok")), attempt(4, 1, Outcome::transient("no"))];
    inbox.record(Progress { attempts, dead: vec![letter(4, "no")], ..progress(id, 4) }).await.unwrap();
    assert_eq!(seqs(), [1, 3, 4], "each once");
    let dead = (5..=30).map(|at| letter(at, "altered")).collect();
    inbox.record(Progress { dead, ..progress(id, 30) }).await.unwrap();
    assert_eq!((seqs().len(), seqs()[19]), (20, 21), "no more than the bound of tests");
    inbox.close().await;
}

#[tokio::test]
async fn attempts_name_the_revision_of_their_sink() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let inbox = open(&config);
    fill(&inbox, 3).await;
    let id = register(&inbox, "bus").await.id;
    let delivered = |at| {
        let attempts: Vec<Attempt> = vec![attempt(at, 1, Outcome::delivered("ok"))];
        inbox.record(Progress { attempts, ..progress(id, at) })
    };
    let target = |target: &str| {
        let (kind, target, route) = ("http".to_owned(), target.to_owned(), "*".to_owned());
        inbox.note_definition(sink("bus"), SinkDefinition { kind, target, route }, Because::Reload)
    };
    delivered(1).await.unwrap();
    target("https://one").await.unwrap();
    target("https://one").await.unwrap();
    delivered(2).await.unwrap();
    target("https://two").await.unwrap();
    delivered(3).await.unwrap();
    let of = |seq: &str| {
        let attempt = detail(&config, seq).attempts.remove(0);
        (attempt.revision, attempt.target)
    };
    assert_eq!(of("1"), (None, None), "an older version would have made it");
    assert_eq!(of("2"), (Some(1), Some("https://one".to_owned())));
    assert_eq!(of("3"), (Some(2), Some("https://two".to_owned())));
    let known = Reader::open(&config).unwrap().sink_revisions(id).unwrap();
    let known: Vec<_> = known.iter().map(|known| (known.revision, known.from_seq.get(), known.because)).collect();
    assert_eq!(known, [(2, 3, Because::Reload), (1, 2, Because::Reload)]);
    inbox.close().await;
}
