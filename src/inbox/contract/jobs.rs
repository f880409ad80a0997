//! Jobs.

use jiff::SignedDuration;

use super::*;
use crate::clock::Uptime;
use crate::inbox::{Change, Job, JobState, JobUpdate, QuarantineFilter, QuarantineOutcome, Released, Unavailable};

fn paused(id: ConsumerId) -> Effect {
    Effect { consumer: id, change: Change::Paused }
}

pub(in crate::inbox) async fn a_job_waits_until_it_has_ended(inbox: &dyn Inbox) {
    let asked = NewJob { reason: "näher".to_owned(), ..job(replay("bus", 1, 9)) };
    let first = inbox.submit(asked.clone()).await.unwrap();
    let second = inbox.submit(job(Task::Pause { sink: sink("bus") })).await.unwrap();
    let open = inbox.open_jobs().await.unwrap();
    assert_eq!(open.iter().map(|job| job.id).collect::<Vec<_>>(), [first, second]);
    let Job { task, who, reason, created_at, ended_at, state, done, failed, total, message, .. } = open[0].clone();
    assert_eq!((task, who, reason, created_at), (asked.task, asked.who, asked.reason, asked.at));
    assert_eq!((state, ended_at, done, failed, total, message), (JobState::Queued, None, 0, 0, None, String::new()));
    let going = JobUpdate { state: Some(JobState::Running), done: 2, failed: 1, total: Some(9), message: None };
    inbox.update_job(first, going).await.unwrap();
    inbox
        .update_job(first, JobUpdate { done: 3, message: Some("hm".to_owned()), ..JobUpdate::default() })
        .await
        .unwrap();
    let open = inbox.open_jobs().await.unwrap();
    assert_eq!((open[0].state, open[0].done, open[0].failed), (JobState::Running, 5, 1));
    assert_eq!((open[0].total, open[0].message.as_str()), (Some(9), "hm"));
    inbox.update_job(first, JobUpdate { state: Some(JobState::Done), ..JobUpdate::default() }).await.unwrap();
    assert_eq!(inbox.open_jobs().await.unwrap().iter().map(|job| job.id).collect::<Vec<_>>(), [second]);
    // It has ended: nothing changes it any more, and it is not carried out.
    inbox.update_job(first, JobUpdate { state: Some(JobState::Running), ..JobUpdate::default() }).await.unwrap();
    assert_eq!(inbox.open_jobs().await.unwrap().len(), 1);
    assert!(inbox.advance(first, &[]).await.unwrap().ended);
    let nothing = JobId::new(77);
    assert!(matches!(inbox.advance(nothing, &[]).await, Err(Unavailable::Refused(_))));
    assert!(matches!(inbox.update_job(nothing, JobUpdate::default()).await, Err(Unavailable::Refused(_))));
    assert_eq!(inbox.trouble(), None);
}

pub(in crate::inbox) async fn a_paused_sink_stands_still_with_its_replays(inbox: &dyn Inbox) {
    fill(inbox, 2).await;
    let (bus, other) = (register(inbox, "bus").await, register(inbox, "other").await);
    let replay = inbox.submit(job(replay("bus", 1, 2))).await.unwrap();
    let replayed = inbox.consumer(Registration::Replay { job: replay }, "*".to_owned()).await.unwrap();
    let before = now();
    let (_, effects) = carry_out(inbox, Task::Pause { sink: sink("bus") }).await;
    assert_eq!(effects, [paused(bus.id), paused(replayed.id)]);
    let state = register(inbox, "bus").await;
    assert!(state.paused && state.standing.still_since.is_some_and(|since| since >= before), "{state:?}");
    assert!(!register(inbox, "other").await.paused);
    assert!(inbox.consumer(Registration::Replay { job: replay }, "*".to_owned()).await.unwrap().paused);
    assert_eq!(carry_out(inbox, Task::Pause { sink: sink("bus") }).await.1, [], "it is already");
    // A crash came before the consumer had recorded that it stands still.
    inbox.record(progress(bus.id, 0)).await.unwrap();
    assert_eq!(register(inbox, "bus").await.standing.still_since, state.standing.still_since);

    let (_, effects) = carry_out(inbox, Task::Resume { sink: sink("bus") }).await;
    assert_eq!(effects[0], Effect { consumer: bus.id, change: Change::Resumed });
    let state = register(inbox, "bus").await;
    assert!(!state.paused && state.standing.still_since.is_none());
    assert_eq!(carry_out(inbox, Task::Resume { sink: sink("other") }).await.1, []);
    assert!(!register(inbox, "other").await.paused);
    assert_ne!(other.id, bus.id);
}

pub(in crate::inbox) async fn the_time_of_a_pause_is_kept_but_not_that_of_an_open_breaker(inbox: &dyn Inbox) {
    let bus = register(inbox, "bus").await;
    let hours = |hours: i64| std::time::Duration::from_secs(u64::try_from(hours * 3600).unwrap());
    let since = now() - hours(2);
    let pause = || carry_out(inbox, Task::Pause { sink: sink("bus") });
    let resume = || carry_out(inbox, Task::Resume { sink: sink("bus") });
    pause().await;
    let still = Standing { still_since: Some(since), still: hours(1), breaker_open_since: None };
    inbox.record(Progress { standing: still, ..progress(bus.id, 0) }).await.unwrap();
    resume().await;
    let standing = register(inbox, "bus").await.standing;
    assert!(standing.still >= hours(3) && standing.still < hours(4), "{standing:?}");
    pause().await;
    let open = Standing { breaker_open_since: Some(since), ..still };
    inbox.record(Progress { standing: open, ..progress(bus.id, 0) }).await.unwrap();
    resume().await;
    assert_eq!(register(inbox, "bus").await.standing, open, "it stands still all the same");
    // Neither paused nor open: a crash came before the consumer had recorded that it goes on.
    inbox.record(Progress { standing: still, ..progress(bus.id, 0) }).await.unwrap();
    let standing = register(inbox, "bus").await.standing;
    assert!(standing.still_since.is_none() && standing.still >= hours(3), "{standing:?}");
}

pub(in crate::inbox) async fn dead_letters_are_tried_again_where_they_left_off(inbox: &dyn Inbox) {
    fill(inbox, 4).await;
    let (bus, other) = (register(inbox, "bus").await, register(inbox, "other").await);
    for id in [bus.id, other.id] {
        let dead = vec![DeadLetter { attempts: 3, ..letter(1, "no") }, letter(2, "conflict"), letter(4, "no")];
        inbox.record(Progress { dead, ..progress(id, 4) }).await.unwrap();
    }
    let which = LetterFilter { reason: Some("no".to_owned()), ..letters_of("bus") };
    let (_, effects) = carry_out(inbox, Task::Retry { letters: which.clone() }).await;
    let state = register(inbox, "bus").await;
    assert_eq!(effects, [Effect { consumer: bus.id, change: Change::Revived(state.parked.clone()) }]);
    let parked: Vec<_> = state.parked.iter().map(|event| (event.seq.get(), event.attempts)).collect();
    assert_eq!((parked, state.dead_letters), (vec![(1, 3), (4, 1)], 1));
    assert!(state.parked.iter().all(|event| event.first_attempt.is_none() && event.next_attempt <= now()));
    assert_eq!(register(inbox, "other").await.dead_letters, 3);
    assert_eq!(carry_out(inbox, Task::Retry { letters: which }).await.1, [], "there are no more");
    // It comes to nothing again: a new dead letter.
    inbox.record(Progress { unpark: vec![seq(1)], dead: vec![letter(1, "no")], ..progress(bus.id, 4) }).await.unwrap();
    let state = register(inbox, "bus").await;
    assert_eq!((state.parked.len(), state.dead_letters), (1, 2));
}

pub(in crate::inbox) async fn discarded_dead_letters_are_decided_about(inbox: &dyn Inbox) {
    fill(inbox, 3).await;
    let bus = register(inbox, "bus").await;
    let dead = (1..=3).map(|at| letter(at, "no")).collect();
    inbox.record(Progress { dead, ..progress(bus.id, 0) }).await.unwrap();
    let which = LetterFilter { event_id: Some("e2".to_owned()), ..LetterFilter::default() };
    let (_, effects) = carry_out(inbox, Task::Discard { letters: which }).await;
    assert_eq!(effects, [Effect { consumer: bus.id, change: Change::Discarded(1) }]);
    let state = register(inbox, "bus").await;
    assert_eq!((state.dead_letters, state.done_above.len()), (2, 3), "it is as final as before");
    assert_eq!(carry_out(inbox, retry("bus")).await.1.len(), 1);
    let parked: Vec<_> = register(inbox, "bus").await.parked.iter().map(|event| event.seq.get()).collect();
    assert_eq!(parked, [1, 3], "what is discarded stays so");
}

const ALL: (i64, i64) = (0, i64::MAX);

async fn in_quarantine(inbox: &dyn Inbox) -> Vec<i64> {
    let requests = inbox.quarantined(QuarantineFilter::default(), ALL, 100).await.unwrap();
    requests.iter().map(|request| request.id).collect()
}

async fn keep(inbox: &dyn Inbox, n: u32) {
    let request = refused(&format!("192.0.2.{n}"), &format!("body {n}"));
    assert_eq!(inbox.quarantine(request).await, Ok(QuarantineOutcome::Kept));
}

pub(in crate::inbox) async fn requests_leave_the_quarantine_once(inbox: &dyn Inbox) {
    for n in [1, 2, 3, 4, 2] {
        keep(inbox, n).await;
    }
    let ids = in_quarantine(inbox).await;
    assert_eq!(ids.len(), 4, "one that is kept already is not kept twice");
    let some = QuarantineFilter { ids: vec![ids[0], ids[2], ids[3]], ..QuarantineFilter::default() };
    let read = inbox.quarantined(some.clone(), ALL, 2).await.unwrap();
    assert_eq!(read.iter().map(|request| request.id).collect::<Vec<_>>(), [ids[0], ids[2]]);
    assert_eq!(read[1].body.as_deref(), Some(&b"body 3"[..]));
    assert_eq!(read[1].content_type.as_deref(), Some("application/json"));
    let rest = inbox.quarantined(some.clone(), (ids[2], i64::MAX), 2).await.unwrap();
    assert_eq!(rest.iter().map(|request| request.id).collect::<Vec<_>>(), [ids[3]]);
    let job = inbox.submit(job(Task::Admit { requests: QuarantineFilter::default() })).await.unwrap();
    let running = JobUpdate { state: Some(JobState::Running), ..JobUpdate::default() };
    inbox.update_job(job, running.clone()).await.unwrap();
    keep(inbox, 5).await;
    let portion = Released { admitted: [ids[0], ids[1], 77].map(|id| (id, seq(1))).to_vec(), failed: 1, place: ids[2] };
    inbox.release(job, portion.clone()).await.unwrap();
    let ids = [&ids[2..], &in_quarantine(inbox).await[2..]].concat();
    assert_eq!(in_quarantine(inbox).await, ids);
    let told = |jobs: Vec<Job>| (jobs[0].done, jobs[0].failed, jobs[0].place, jobs[0].upto);
    assert_eq!(told(inbox.open_jobs().await.unwrap()), (2, 1, ids[0], ids[1]), "what came later is not its business");
    inbox.update_job(job, running).await.unwrap();
    assert_eq!(told(inbox.open_jobs().await.unwrap()), (2, 1, ids[0], ids[1]), "its end stays");
    inbox.update_job(job, JobUpdate { state: Some(JobState::Done), ..JobUpdate::default() }).await.unwrap();
    inbox.release(job, portion).await.unwrap();
    let nobody = QuarantineFilter { source: Some("nobody".to_owned()), ..QuarantineFilter::default() };
    carry_out(inbox, Task::Purge { requests: nobody }).await;
    assert_eq!(in_quarantine(inbox).await, ids);
    carry_out(inbox, Task::Purge { requests: some }).await;
    assert_eq!(in_quarantine(inbox).await, ids[2..], "they were asked for by their numbers");
    // What has left can come again.
    keep(inbox, 1).await;
    assert_eq!(in_quarantine(inbox).await.len(), 2);
}

pub(in crate::inbox) async fn bodies_go_when_nobody_needs_them(inbox: &dyn Inbox) {
    fill(inbox, 9).await;
    let bus = register(inbox, "bus").await;
    let park = vec![parked(2, 1)];
    let dead = vec![letter(3, "no"), letter(4, "no")];
    inbox.record(Progress { park, dead, ..progress(bus.id, 8) }).await.unwrap();
    let gone = LetterFilter { event_id: Some("e4".to_owned()), ..LetterFilter::default() };
    carry_out(inbox, Task::Discard { letters: gone }).await;
    let replay = inbox.submit(job(replay("bus", 6, 7))).await.unwrap();
    let prune = |sinks: &[&str]| Task::Prune { before: now(), sinks: sinks.iter().map(|name| sink(name)).collect() };
    let bodies = || async {
        let events = inbox.read((1..=9).map(seq).collect()).await.unwrap();
        events.iter().filter(|event| event.body.is_some()).map(|event| event.seq.get()).collect::<Vec<_>>()
    };
    carry_out(inbox, prune(&["bus", "unborn"])).await;
    assert_eq!(bodies().await.len(), 9, "a sink that has not begun may need them all");
    carry_out(inbox, Task::Prune { before: Timestamp::UNIX_EPOCH, sinks: vec![sink("bus")] }).await;
    assert_eq!(bodies().await.len(), 9, "they are not old enough");
    carry_out(inbox, prune(&["bus"])).await;
    assert_eq!(bodies().await, [2, 3, 6, 7, 9]);
    // The replay goes on and sets one aside; the parked event is delivered.
    let replayed = inbox.consumer(Registration::Replay { job: replay }, "*".to_owned()).await.unwrap();
    inbox.record(Progress { park: vec![parked(6, 1)], ..progress(replayed.id, 7) }).await.unwrap();
    inbox.record(Progress { unpark: vec![seq(2)], ..progress(bus.id, 8) }).await.unwrap();
    carry_out(inbox, prune(&["bus"])).await;
    assert_eq!(bodies().await, [3, 6, 9]);
    inbox.update_job(replay, JobUpdate { state: Some(JobState::Cancelled), ..JobUpdate::default() }).await.unwrap();
    // Nobody is configured any more, but a person has still to decide about the dead letter.
    inbox.record(Progress { park: vec![parked(9, 1)], ..progress(bus.id, 9) }).await.unwrap();
    carry_out(inbox, prune(&[])).await;
    assert_eq!(bodies().await, [3, 9]);
    inbox.record(Progress { unpark: vec![seq(9)], ..progress(bus.id, 9) }).await.unwrap();
    let (_, effects) = carry_out(inbox, retry("bus")).await;
    let state = register(inbox, "bus").await;
    assert_eq!((effects.len(), state.dead_letters, state.parked.len()), (1, 0, 1));
    // One whose body is gone all the same is not.
    inbox.record(Progress { dead: vec![letter(1, "no")], ..progress(bus.id, 9) }).await.unwrap();
    let (_, effects) = carry_out(inbox, retry("bus")).await;
    let state = register(inbox, "bus").await;
    assert_eq!((effects, state.dead_letters, state.parked.len()), (vec![], 1, 1));
}

pub(in crate::inbox) async fn an_event_from_the_future_hides_no_old_body(inbox: &dyn Inbox) {
    let day = |days: i64| now() + SignedDuration::from_hours(24 * days);
    for (n, received_at) in [day(-10), day(700), day(-9), day(0), day(-8)].into_iter().enumerate() {
        let event = new_event("one", &payin(&format!("e{n}"), "o", "COMPLETED"));
        inbox.append(NewEvent { received_at, ..event }).await.unwrap();
    }
    carry_out(inbox, Task::Prune { before: day(-1), sinks: vec![] }).await;
    let kept = inbox.read((1..=5).map(seq).collect()).await.unwrap();
    let kept: Vec<i64> = kept.iter().filter(|event| event.body.is_some()).map(|event| event.seq.get()).collect();
    assert_eq!(kept, [2, 4]);
}

pub(in crate::inbox) async fn a_clock_is_believed_as_far_as_the_machine_was_up(inbox: &dyn Inbox) {
    let up = |seconds| Uptime { boot: "a".to_owned(), elapsed: Duration::from_secs(seconds) };
    let began = now();
    let first = inbox.note_clock(up(100)).await.unwrap();
    assert!(first.at >= began && first.ahead(now()).is_none(), "nothing says otherwise: {first:?}");
    let hour = inbox.note_clock(up(3700)).await.unwrap();
    assert!(hour.at >= began + SignedDuration::from_hours(1), "time goes on, whatever the clock says: {hour:?}");
    assert_eq!(hour.allowance, first.allowance);
    let at = now() + SignedDuration::from_hours(24 * 10);
    carry_out(inbox, Task::ConfirmClock { at }).await;
    let confirmed = inbox.note_clock(up(3700)).await.unwrap();
    assert!(confirmed.at >= at && confirmed.ahead(at).is_none(), "{confirmed:?}");
}
