//! Jobs that go through the dead letters or the parked events of each sink.

use super::*;
use crate::inbox::{Advance, Change, JobState, JobUpdate, ParkedFilter};

fn parked_of(name: &str) -> ParkedFilter {
    ParkedFilter { sink: Some(sink(name)), ..ParkedFilter::default() }
}

/// Where what is parked at a sink stands in the log.
async fn parked_at(inbox: &dyn Inbox, name: &str) -> Vec<i64> {
    register(inbox, name).await.parked.iter().map(|event| event.seq.get()).collect()
}

pub(in crate::inbox) async fn a_consumer_never_has_more_parked_than_it_can_hold(inbox: &dyn Inbox) {
    fill(inbox, 12).await;
    let bus = register(inbox, "bus").await;
    let park = (100..10_090).map(|at| parked(at, 0)).collect();
    let dead = (1..=12).map(|at| letter(at, "no")).collect();
    inbox.record(Progress { park, dead, ..progress(bus.id, 12) }).await.unwrap();
    let id = inbox.submit(job(retry("bus"))).await.unwrap();
    let revived = |advance: &Advance| match advance.effects.as_slice() {
        [Effect { change: Change::Revived(parked), .. }] => parked.len(),
        other => other.len(),
    };
    let first = inbox.advance(id, &all_configured()).await.unwrap();
    assert_eq!((revived(&first), first.must_wait, first.ended), (10, true, false));
    let second = inbox.advance(id, &all_configured()).await.unwrap();
    assert_eq!((revived(&second), second.must_wait, second.ended), (0, true, false));
    inbox.record(Progress { unpark: vec![seq(100), seq(101), seq(102)], ..progress(bus.id, 12) }).await.unwrap();
    let third = inbox.advance(id, &all_configured()).await.unwrap();
    assert_eq!((revived(&third), third.must_wait, third.ended), (2, false, true));
}

/// Both are taken up anew behind the last one, and never what came in meanwhile.
pub(in crate::inbox) async fn a_job_of_many_portions_ends(inbox: &dyn Inbox) {
    fill(inbox, 1200).await;
    let bus = register(inbox, "bus").await;
    let dead = (1..=1200).map(|at| letter(at, "no")).collect();
    inbox.record(Progress { dead, ..progress(bus.id, 1200) }).await.unwrap();
    let id = inbox.submit(job(retry("bus"))).await.unwrap();
    let mut portions = Vec::new();
    loop {
        let advance = inbox.advance(id, &all_configured()).await.unwrap();
        let revived: Vec<_> = advance
            .effects
            .iter()
            .flat_map(|effect| match &effect.change {
                Change::Revived(parked) => parked.clone(),
                other => panic!("{other:?}"),
            })
            .collect();
        portions.push(revived.len());
        assert!(portions.len() < 10, "it never ends: {portions:?}");
        // All of them come to nothing at once.
        let unpark = revived.iter().map(|event| event.seq).collect();
        let dead = revived.iter().map(|event| letter(event.seq.get(), "again")).collect();
        inbox.record(Progress { unpark, dead, ..progress(bus.id, 1200) }).await.unwrap();
        if advance.ended {
            break;
        }
    }
    assert_eq!(portions, [500, 500, 200]);
    assert_eq!(register(inbox, "bus").await.dead_letters, 1200);
}

/// The letters of the full one wait; those of the other do not, although they are younger.
pub(in crate::inbox) async fn a_full_sink_holds_up_no_other(inbox: &dyn Inbox) {
    fill(inbox, 9).await;
    let (bus, other) = (register(inbox, "bus").await, register(inbox, "other").await);
    let full: Vec<_> = (4..=9).map(|at| parked(at, 1)).collect();
    let dead = || (1..=3).map(|at| letter(at, "no")).collect();
    inbox.record(Progress { park: full, dead: dead(), ..progress(bus.id, 9) }).await.unwrap();
    inbox.record(Progress { dead: dead(), ..progress(other.id, 9) }).await.unwrap();
    let sinks = ["bus", "other"].map(|name| ConfiguredSink { name: sink(name), max_parked: 6 });
    let id = inbox.submit(job(Task::Retry { letters: LetterFilter::default() })).await.unwrap();
    let first = inbox.advance(id, &sinks).await.unwrap();
    let told: Vec<_> = first.effects.iter().map(|effect| effect.consumer).collect();
    assert_eq!((told, first.must_wait, first.ended), (vec![other.id], true, false));
    assert_eq!(parked_at(inbox, "other").await, [1, 2, 3]);
    for _ in 0..3 {
        let idle = inbox.advance(id, &sinks).await.unwrap();
        assert_eq!((idle.effects, idle.must_wait, idle.ended), (vec![], true, false));
    }
    assert_eq!(inbox.open_jobs().await.unwrap()[0].done, 3);
    inbox.record(Progress { unpark: vec![seq(4), seq(5)], ..progress(bus.id, 9) }).await.unwrap();
    assert!(inbox.advance(id, &sinks).await.unwrap().must_wait);
    assert_eq!(parked_at(inbox, "bus").await, [1, 2, 6, 7, 8, 9], "two more, and no more than it may have");
    inbox.record(Progress { unpark: vec![seq(6)], ..progress(bus.id, 9) }).await.unwrap();
    assert!(inbox.advance(id, &sinks).await.unwrap().ended);
    assert_eq!(parked_at(inbox, "bus").await, [1, 2, 3, 7, 8, 9]);
}

pub(in crate::inbox) async fn letters_of_a_sink_that_is_not_configured_stay(inbox: &dyn Inbox) {
    fill(inbox, 2).await;
    let (bus, other) = (register(inbox, "bus").await, register(inbox, "other").await);
    for id in [bus.id, other.id] {
        inbox.record(Progress { dead: vec![letter(1, "no"), letter(2, "no")], ..progress(id, 2) }).await.unwrap();
    }
    let all = || Task::Retry { letters: LetterFilter::default() };
    let (_, effects) = carry_out_with(inbox, &configured(&["other"]), all()).await;
    assert_eq!(effects.iter().map(|effect| effect.consumer).collect::<Vec<_>>(), [other.id]);
    let state = register(inbox, "bus").await;
    assert_eq!((state.dead_letters, state.parked.len()), (2, 0), "nobody would ever try them");
    // The configuration may still have it under the name that it had.
    carry_out(inbox, Task::Rename { from: sink("bus"), to: sink("web"), swap: false }).await;
    assert_eq!(carry_out_with(inbox, &configured(&["bus", "other"]), all()).await.1.len(), 1);
    assert_eq!(parked_at(inbox, "web").await, [1, 2]);
}

pub(in crate::inbox) async fn parked_events_are_due_when_a_person_says_so(inbox: &dyn Inbox) {
    fill(inbox, 5).await;
    let (bus, other) = (register(inbox, "bus").await, register(inbox, "other").await);
    let later = now() + Duration::from_secs(3600);
    let park = |at| Parked { next_attempt: later, ..parked(at, 1) };
    let attempts = vec![
        attempt(1, 1, Outcome::transient("HTTP 500")),
        attempt(1, 2, Outcome::permanent("HTTP 422")),
        attempt(2, 1, Outcome::permanent("HTTP 422")),
        attempt(2, 2, Outcome::transient("HTTP 500")),
    ];
    inbox.record(Progress { attempts, park: (1..=5).map(park).collect(), ..progress(bus.id, 5) }).await.unwrap();
    inbox.record(Progress { park: vec![park(1)], ..progress(other.id, 5) }).await.unwrap();
    let due =
        |seqs: &[i64]| vec![Effect { consumer: bus.id, change: Change::Due(seqs.iter().map(|at| seq(*at)).collect()) }];
    // Its latest error, and no former one.
    let by_error = ParkedFilter { error: Some("422".to_owned()), ..parked_of("bus") };
    assert_eq!(carry_out(inbox, Task::RetryParked { parked: by_error }).await.1, due(&[1]));
    let by_key = ParkedFilter { key: Some("o3".to_owned()), ..parked_of("bus") };
    assert_eq!(carry_out(inbox, Task::RetryParked { parked: by_key }).await.1, due(&[3]));
    let by_id = ParkedFilter { event_id: Some("e4".to_owned()), types: vec!["payin.*".to_owned()], ..parked_of("bus") };
    assert_eq!(carry_out(inbox, Task::RetryParked { parked: by_id }).await.1, due(&[4]));
    let of_no_type = ParkedFilter { types: vec!["kyc.*".to_owned()], ..ParkedFilter::default() };
    assert_eq!(carry_out(inbox, Task::RetryParked { parked: of_no_type }).await.1, []);
    let by_seq = ParkedFilter { seqs: vec![1, 5, 77], ..parked_of("bus") };
    assert_eq!(carry_out(inbox, Task::RetryParked { parked: by_seq }).await.1, due(&[1, 5]));
    let state = register(inbox, "bus").await;
    let waiting: Vec<_> = state.parked.iter().filter(|event| event.next_attempt == later).collect();
    assert_eq!(waiting.iter().map(|event| event.seq.get()).collect::<Vec<_>>(), [2]);
    assert!(state.parked.iter().all(|event| event.attempts == 1 && event.first_attempt.is_some()));
    assert_eq!(register(inbox, "other").await.parked[0].next_attempt, later);
    // Nobody would try them.
    let removed = carry_out_with(inbox, &configured(&["bus"]), Task::RetryParked { parked: parked_of("other") }).await;
    assert_eq!(removed.1, []);
    assert_eq!(register(inbox, "other").await.parked[0].next_attempt, later);
}

/// The consumer may have had one in flight, and records it when the person has decided.
pub(in crate::inbox) async fn parked_events_that_are_discarded_are_not_parked_again(inbox: &dyn Inbox) {
    fill(inbox, 3).await;
    let bus = register(inbox, "bus").await;
    inbox.record(Progress { park: (1..=3).map(|at| parked(at, 1)).collect(), ..progress(bus.id, 0) }).await.unwrap();
    let these = ParkedFilter { seqs: vec![1, 2], ..ParkedFilter::default() };
    // Also what waits for a sink that is not configured any more.
    let (_, effects) = carry_out_with(inbox, &[], Task::DiscardParked { parked: these }).await;
    assert_eq!(effects, [Effect { consumer: bus.id, change: Change::Unparked(vec![seq(1), seq(2)]) }]);
    assert_eq!(parked_at(inbox, "bus").await, [3]);
    let failed = vec![attempt(1, 2, Outcome::transient("HTTP 500"))];
    inbox.record(Progress { attempts: failed, park: vec![parked(1, 2)], ..progress(bus.id, 0) }).await.unwrap();
    let state = register(inbox, "bus").await;
    assert_eq!((state.parked.len(), state.dead_letters), (1, 0), "nobody has to decide about them any more");
    assert_eq!(state.done_above.into_iter().collect::<Vec<_>>(), [seq(1), seq(2)], "they are final");
    inbox.record(Progress { dead: vec![letter(2, "gave up")], ..progress(bus.id, 0) }).await.unwrap();
    assert_eq!(register(inbox, "bus").await.dead_letters, 0);
    assert_eq!(carry_out(inbox, retry("bus")).await.1, []);
    assert_eq!(parked_at(inbox, "bus").await, [3]);
}

pub(in crate::inbox) async fn parked_events_are_decided_about_in_portions(inbox: &dyn Inbox) {
    fill(inbox, 1200).await;
    let bus = register(inbox, "bus").await;
    inbox
        .record(Progress { park: (1..=1200).map(|at| parked(at, 1)).collect(), ..progress(bus.id, 1200) })
        .await
        .unwrap();
    for task in [Task::RetryParked { parked: parked_of("bus") }, Task::DiscardParked { parked: parked_of("bus") }] {
        let id = inbox.submit(job(task)).await.unwrap();
        let mut portions = Vec::new();
        while portions.len() < 10 {
            let advance = inbox.advance(id, &all_configured()).await.unwrap();
            portions.extend(advance.effects.iter().map(|effect| match &effect.change {
                Change::Due(seqs) | Change::Unparked(seqs) => seqs.len(),
                other => panic!("{other:?}"),
            }));
            if advance.ended {
                break;
            }
        }
        assert_eq!(portions, [500, 500, 200]);
    }
    assert_eq!(parked_at(inbox, "bus").await, [0; 0]);
}

pub(in crate::inbox) async fn a_sink_is_tried_with_its_replays(inbox: &dyn Inbox) {
    fill(inbox, 2).await;
    let bus = register(inbox, "bus").await;
    register(inbox, "other").await;
    let replay = inbox.submit(job(replay("bus", 1, 2))).await.unwrap();
    let replayed = inbox.consumer(Registration::Replay { job: replay }, "*".to_owned()).await.unwrap();
    let try_now = || Task::Try { sink: sink("bus") };
    let told = [bus.id, replayed.id].map(|consumer| Effect { consumer, change: Change::TryNow });
    assert_eq!(carry_out(inbox, try_now()).await.1, told);
    assert_eq!(carry_out_with(inbox, &configured(&["other"]), try_now()).await.1, [], "nothing is delivered to it");
    carry_out(inbox, Task::Pause { sink: sink("bus") }).await;
    assert_eq!(carry_out(inbox, try_now()).await.1, [], "a person has paused it");
}

pub(in crate::inbox) async fn a_forgotten_sink_leaves_its_name_to_another(inbox: &dyn Inbox) {
    fill(inbox, 5).await;
    let bus = register(inbox, "bus").await;
    let park = vec![parked(1, 1), parked(2, 0)];
    inbox.record(Progress { park, dead: vec![letter(3, "no")], ..progress(bus.id, 3) }).await.unwrap();
    let forget = || Task::Forget { sink: sink("bus") };
    carry_out_with(inbox, &configured(&["bus"]), forget()).await;
    assert_eq!(parked_at(inbox, "bus").await, [1, 2], "it is configured");
    let replay = inbox.submit(job(replay("bus", 1, 2))).await.unwrap();
    carry_out_with(inbox, &[], forget()).await;
    assert_eq!(parked_at(inbox, "bus").await, [1, 2], "a replay has not ended");
    inbox.update_job(replay, JobUpdate { state: Some(JobState::Done), ..JobUpdate::default() }).await.unwrap();

    carry_out_with(inbox, &[], forget()).await;
    // It holds no bodies any more.
    carry_out(inbox, Task::Prune { before: now(), sinks: vec![] }).await;
    let read = inbox.read((1..=5).map(seq).collect()).await.unwrap();
    assert!(read.iter().all(|event| event.body.is_none()));
    let who = Registration::Sink { name: sink("bus"), start: Start::Now };
    let anew = inbox.consumer(who, "*".to_owned()).await.unwrap();
    assert_ne!(anew.id, bus.id, "it begins as new");
    assert_eq!((anew.cursor, anew.parked.len(), anew.dead_letters), (seq(5), 0, 0));
    assert_eq!(carry_out_with(inbox, &[], Task::Pause { sink: sink("bus") }).await.1.len(), 1, "the new one");
    // What is said of the old one counts for nothing.
    inbox.record(Progress { park: vec![parked(1, 2)], ..progress(bus.id, 3) }).await.unwrap();
    assert_eq!(carry_out(inbox, Task::DiscardParked { parked: ParkedFilter::default() }).await.1, []);
}
