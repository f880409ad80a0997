//! Consumers: registered, moved on, renamed; replays.

use std::time::Duration;

use super::*;
use crate::inbox::{Discarded, JobState, JobUpdate, SinkHealth, Unavailable};

fn of(job: JobId) -> Registration {
    Registration::Replay { job }
}

fn late(name: &str) -> Registration {
    Registration::Sink { name: sink(name), start: Start::Now }
}

fn rename(from: &str, to: &str) -> Task {
    Task::Rename { from: sink(from), to: sink(to), swap: false }
}

pub(in crate::inbox) async fn a_consumer_is_read_back_as_it_was_recorded(inbox: &dyn Inbox) {
    fill(inbox, 6).await;
    let state = register(inbox, "bus").await;
    assert_eq!((state.cursor, state.paused, state.selection), (Seq::ZERO, false, None));
    let set_aside = Parked { next_attempt: now(), ..parked(2, 1) };
    let since = now();
    let standing =
        Standing { breaker_open_since: Some(since), still_since: Some(since), still: Duration::from_micros(7) };
    let health = SinkHealth {
        failures: 3,
        failing_since: Some(since),
        last_error: Some("HTTP 422".to_owned()),
        last_error_at: Some(since),
        last_success_at: Some(since),
        next_try: Some(since),
        reading_stopped: true,
    };
    let recorded = Progress {
        attempts: vec![
            attempt(1, 1, Outcome::delivered("confirm 1")),
            attempt(2, 1, Outcome::transient("down")),
            attempt(4, 1, Outcome::delivered("confirm 2")),
        ],
        park: vec![set_aside.clone()],
        dead: vec![letter(5, "conflict")],
        discarded: vec![Discarded { seq: seq(6), reason: "pruned".to_owned(), at: now() }],
        standing,
        health: health.clone(),
        ..progress(state.id, 2)
    };
    inbox.record(recorded.clone()).await.unwrap();
    inbox.record(Progress { cursor: seq(1), ..recorded }).await.unwrap();
    let again = inbox.consumer(late("bus"), "*".to_owned()).await.unwrap();
    assert_eq!((again.id, again.cursor), (state.id, seq(2)), "a cursor never goes back");
    assert_eq!(again.parked, [set_aside]);
    assert_eq!(again.dead_letters, 1, "what is discarded waits for nobody");
    assert_eq!(again.done_above.into_iter().collect::<Vec<_>>(), [seq(4), seq(5), seq(6)]);
    assert_eq!((again.standing, again.health), (standing, health));
    let late = inbox.consumer(late("late"), "*".to_owned()).await.unwrap();
    assert_eq!(late.cursor, seq(6));
    inbox.record(Progress { unpark: vec![seq(2)], ..progress(state.id, 2) }).await.unwrap();
    assert_eq!(register(inbox, "bus").await.parked, []);
}

pub(in crate::inbox) async fn a_consumer_that_nobody_registered_records_nothing(inbox: &dyn Inbox) {
    let body = payin("a", "o", "COMPLETED");
    let nobody = inbox.record(progress(ConsumerId::new(77), 1));
    let (refused, stored) = tokio::join!(nobody, inbox.append(new_event("one", &body)));
    assert!(matches!(refused, Err(Unavailable::Refused(_))), "{refused:?}");
    assert!(stored.is_ok(), "it costs no sender anything");
    assert_eq!(inbox.trouble(), None);
}

pub(in crate::inbox) async fn a_renamed_sink_keeps_its_place(inbox: &dyn Inbox) {
    fill(inbox, 3).await;
    let old = register(inbox, "old").await;
    inbox.record(progress(old.id, 3)).await.unwrap();
    carry_out(inbox, rename("old", "new")).await;
    for name in ["old", "new"] {
        let state = register(inbox, name).await;
        assert_eq!((state.id, state.cursor), (old.id, seq(3)), "{name}");
    }
    // The configuration has followed: the former name is free for a new sink.
    let other = register(inbox, "old").await;
    assert_ne!(other.id, old.id);
    // A name that is taken stays with whom it has.
    carry_out(inbox, rename("new", "old")).await;
    assert_eq!(register(inbox, "new").await.id, old.id);
    assert_eq!(register(inbox, "old").await.id, other.id);
}

pub(in crate::inbox) async fn a_name_that_may_be_asked_for_is_kept(inbox: &dyn Inbox) {
    fill(inbox, 3).await;
    let (old, other) = (register(inbox, "old").await.id, register(inbox, "other").await.id);
    carry_out(inbox, rename("old", "new")).await;
    // Nobody has been registered as 'new' yet: the configuration may still say 'old'.
    carry_out(inbox, rename("new", "newer")).await;
    carry_out(inbox, rename("other", "old")).await;
    assert_eq!(register(inbox, "other").await.id, other);
    assert_eq!(register(inbox, "old").await.id, old);
    // Back again, and whichever of the two is asked for is the sink.
    carry_out(inbox, rename("new", "old")).await;
    assert_eq!(register(inbox, "new").await.id, old);
    carry_out(inbox, rename("old", "new")).await;
    assert_eq!(register(inbox, "old").await.id, old);
    assert_eq!(register(inbox, "new").await.id, old);
    // Now it has a name that is in use, and may get another.
    carry_out(inbox, rename("new", "newer")).await;
    assert_eq!(register(inbox, "newer").await.id, old);
    // A replay that has not ended holds the name.
    let replay = inbox.submit(job(replay("newer", 1, 3))).await.unwrap();
    carry_out(inbox, rename("newer", "newest")).await;
    assert_eq!(register(inbox, "newer").await.id, old);
    let ended = JobUpdate { state: Some(JobState::Done), ..JobUpdate::default() };
    inbox.update_job(replay, ended).await.unwrap();
    carry_out(inbox, rename("newer", "newest")).await;
    assert_eq!(register(inbox, "newest").await.id, old);
}

pub(in crate::inbox) async fn a_replay_is_a_consumer_with_an_end(inbox: &dyn Inbox) {
    fill(inbox, 6).await;
    let live = register(inbox, "bus").await;
    inbox.record(progress(live.id, 4)).await.unwrap();
    let id = inbox.submit(job(replay("bus", 2, 100))).await.unwrap();
    let state = inbox.consumer(of(id), "*".to_owned()).await.unwrap();
    assert_ne!(state.id, live.id);
    let bounds = |state: &ConsumerState| state.selection.as_ref().map(|of| (of.first, of.last));
    assert_eq!((state.cursor, bounds(&state)), (seq(1), Some((seq(2), seq(4)))));
    // The live cursor moves on; the replay's end does not, and its progress is its own.
    inbox.record(progress(live.id, 6)).await.unwrap();
    let done = Progress {
        attempts: vec![attempt(2, 1, Outcome::delivered("")), attempt(4, 1, Outcome::delivered(""))],
        park: vec![parked(3, 1)],
        ..progress(state.id, 3)
    };
    inbox.record(done.clone()).await.unwrap();
    inbox.record(done).await.unwrap();
    inbox
        .record(Progress { dead: vec![letter(3, "no")], unpark: vec![seq(3)], ..progress(state.id, 4) })
        .await
        .unwrap();
    let again = inbox.consumer(of(id), "*".to_owned()).await.unwrap();
    assert_eq!((again.id, again.cursor, bounds(&again)), (state.id, seq(4), Some((seq(2), seq(4)))));
    let live = register(inbox, "bus").await;
    assert_eq!((live.cursor, live.parked.len(), live.dead_letters), (seq(6), 0, 0));
    let jobs = inbox.open_jobs().await.unwrap();
    assert_eq!((jobs[0].id, jobs[0].done, jobs[0].failed), (id, 2, 1), "each event counts once");
}

pub(in crate::inbox) async fn a_delivery_counts_once_however_often_it_is_recorded(inbox: &dyn Inbox) {
    fill(inbox, 3).await;
    let live = register(inbox, "bus").await;
    inbox.record(progress(live.id, 3)).await.unwrap();
    let id = inbox.submit(job(replay("bus", 1, 3))).await.unwrap();
    let state = inbox.consumer(of(id), "*".to_owned()).await.unwrap();
    let first = vec![attempt(1, 1, Outcome::transient("down")), attempt(2, 1, Outcome::delivered(""))];
    // The second was delivered, and its answer came too late.
    let second = vec![attempt(1, 2, Outcome::delivered("")), attempt(2, 2, Outcome::delivered(""))];
    for attempts in [first, second] {
        // An answer of the inbox that gets lost has it recorded again.
        for _ in 0..2 {
            inbox.record(Progress { attempts: attempts.clone(), ..progress(state.id, 0) }).await.unwrap();
        }
    }
    assert_eq!(inbox.open_jobs().await.unwrap()[0].done, 2);
}

pub(in crate::inbox) async fn a_replay_needs_a_sink_and_a_job(inbox: &dyn Inbox) {
    fill(inbox, 1).await;
    let refused = |id| async move { inbox.consumer(of(id), "*".to_owned()).await.unwrap_err().to_string() };
    let unknown = inbox.submit(job(replay("nobody", 1, 1))).await.unwrap();
    assert!(refused(unknown).await.contains("'nobody'"));
    let pause = inbox.submit(job(Task::Pause { sink: sink("bus") })).await.unwrap();
    assert!(refused(pause).await.contains("no replay"));
    assert!(refused(JobId::new(77)).await.contains("no job"));
    assert_eq!(inbox.trouble(), None);
}

pub(in crate::inbox) async fn a_replay_that_was_cancelled_leaves_no_parked_events(inbox: &dyn Inbox) {
    fill(inbox, 3).await;
    let live = register(inbox, "bus").await;
    inbox.record(Progress { park: vec![parked(1, 1)], ..progress(live.id, 3) }).await.unwrap();
    let id = inbox.submit(job(replay("bus", 1, 3))).await.unwrap();
    let state = inbox.consumer(of(id), "*".to_owned()).await.unwrap();
    inbox.record(Progress { park: vec![parked(1, 1)], ..progress(state.id, 1) }).await.unwrap();
    let end =
        |end, done| JobUpdate { state: Some(end), done, message: Some("over".to_owned()), ..JobUpdate::default() };
    inbox.update_job(id, end(JobState::Cancelled, 0)).await.unwrap();
    // What was in flight when it was cancelled is recorded all the same.
    let attempts = vec![attempt(2, 1, Outcome::delivered(""))];
    inbox.record(Progress { attempts, park: vec![parked(3, 1)], ..progress(state.id, 3) }).await.unwrap();
    inbox.update_job(id, end(JobState::Done, 9)).await.unwrap();
    assert!(inbox.open_jobs().await.unwrap().is_empty());
    assert!(inbox.consumer(of(id), "*".to_owned()).await.unwrap_err().to_string().contains("has ended"));
    assert_eq!(register(inbox, "bus").await.parked.len(), 1, "the live one's are its own");
}
