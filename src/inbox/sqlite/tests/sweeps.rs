//! Jobs that go sink by sink, as the file has them: what they say, what they write, and what the log says of it.

use super::jobs::{stored, told};
use super::*;
use crate::inbox::{ConfiguredSink, JobState, LetterFilter, LetterState, Pair, PairState, ParkedFilter, Task};
use crate::model::{JobId, Outcome};

/// What became of an event at each sink.
fn pairs(config: &Config, event: &str) -> Vec<Pair> {
    Reader::open(config).unwrap().event(event).unwrap().pop().unwrap().sinks
}

#[tokio::test]
async fn jobs_over_parked_events_say_which_they_were() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let inbox = open(&config);
    let done = |message: &str| (JobState::Done, message.to_owned());
    let failed = |message: &str| (JobState::Failed, message.to_owned());
    let tell = |task| told(&inbox, &config, task);
    fill(&inbox, 40).await;
    let bus = register(&inbox, "bus").await;
    inbox.record(Progress { park: (1..=40).map(|at| parked(at, 1)).collect(), ..progress(bus.id, 40) }).await.unwrap();
    let of = |name: &str| ParkedFilter { sink: Some(sink(name)), ..ParkedFilter::default() };
    let unknown = "there is no sink 'bsu' in the inbox: it knows bus";
    assert_eq!(tell(Task::RetryParked { parked: of("bsu") }).await, failed(unknown));
    assert_eq!(tell(Task::DiscardParked { parked: of("bsu") }).await, failed(unknown));
    let filter = ParkedFilter {
        key: Some("o7".to_owned()),
        event_id: Some("e7".to_owned()),
        types: vec!["payin.*".to_owned(), "kyc.*".to_owned()],
        ..of("bus")
    };
    let one = "1 parked event is due now: 7 (sink 'bus', type payin.* or kyc.*, event id e7, key o7)";
    assert_eq!(tell(Task::RetryParked { parked: filter }).await, done(one));
    let by_number = ParkedFilter { seqs: vec![3, 99], ..ParkedFilter::default() };
    let gone = "1 parked event is discarded: 3 of 'bus' (by number)";
    assert_eq!(tell(Task::DiscardParked { parked: by_number.clone() }).await, done(gone));
    let nothing = "no such event is parked (by number)";
    assert_eq!(tell(Task::DiscardParked { parked: by_number }).await, failed(nothing));
    let (state, message) = tell(Task::DiscardParked { parked: of("bus") }).await;
    let many = "39 parked events are discarded: 1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21 \
                and 19 more (sink 'bus')";
    assert_eq!((state, message.as_str()), (JobState::Done, many));
    inbox.close().await;
}

#[tokio::test]
async fn jobs_about_sinks_say_why_they_cannot_be() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let inbox = open(&config);
    fill(&inbox, 3).await;
    let old = register(&inbox, "old").await;
    let (dead, park) = (vec![letter(1, "no")], vec![parked(2, 1)]);
    inbox.record(Progress { dead, park, ..progress(old.id, 2) }).await.unwrap();
    let tell = |task| told(&inbox, &config, task);
    let left = "0 dead letters are tried again; 1 of sink 'old' is left: it is not in the configuration, so nothing is \
                delivered to it (discard them, or `ralio-relay sinks forget old`)";
    let all = Task::Retry { letters: LetterFilter::default() };
    assert_eq!(tell(all).await, (JobState::Done, left.to_owned()));
    let left = left.replace("0 dead letters are tried again", "0 parked events are due now");
    let all = Task::RetryParked { parked: ParkedFilter::default() };
    assert_eq!(tell(all).await, (JobState::Done, left));
    let (state, message) = tell(Task::Try { sink: sink("old") }).await;
    assert!(state == JobState::Failed && message.contains("is not in the configuration that is in use"), "{message}");
    tell(Task::Pause { sink: sink("old") }).await;
    carry_out(&inbox, Task::Rename { from: sink("old"), to: sink("bus"), swap: false }).await;
    let (state, message) = tell(Task::Try { sink: sink("bus") }).await;
    assert!(state == JobState::Failed && message.contains("ralio-relay sinks resume bus"), "{message}");
    let (state, message) = tell(Task::Forget { sink: sink("bus") }).await;
    assert!(state == JobState::Failed && message.starts_with("sink 'bus' is in the configuration: "), "{message}");
    let by_former = [ConfiguredSink { name: sink("old"), max_parked: 9 }];
    let (id, _) = carry_out_with(&inbox, &by_former, Task::Forget { sink: sink("bus") }).await;
    let message = stored(&config, id).message;
    assert!(message.starts_with("sink 'bus' is in the configuration as 'old': take it out"), "{message}");
    inbox.close().await;
}

/// The counter of the pages that were written to the log since it began.
fn written(config: &Config) -> u64 {
    std::fs::metadata(config.path.with_extension("db-wal")).unwrap().len()
}

#[tokio::test]
async fn a_job_that_waits_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let inbox = open(&config);
    fill(&inbox, 3).await;
    let bus = register(&inbox, "bus").await;
    let (dead, park) = (vec![letter(1, "no")], vec![parked(2, 1), parked(3, 1)]);
    inbox.record(Progress { dead, park, ..progress(bus.id, 3) }).await.unwrap();
    let full = [ConfiguredSink { name: sink("bus"), max_parked: 2 }];
    let id = inbox.submit(job(retry("bus"))).await.unwrap();
    assert!(inbox.advance(id, &full).await.unwrap().must_wait);
    assert_eq!(stored(&config, id).state, JobState::Running);
    let before = written(&config);
    for _ in 0..20 {
        assert!(inbox.advance(id, &full).await.unwrap().must_wait);
    }
    assert_eq!(written(&config), before);
    inbox.record(Progress { unpark: vec![seq(2)], ..progress(bus.id, 3) }).await.unwrap();
    assert!(inbox.advance(id, &full).await.unwrap().ended);
    assert_eq!(stored(&config, id).message, "1 dead letter is tried again");
    inbox.close().await;
}

#[tokio::test]
async fn what_was_in_flight_when_it_was_discarded_counts_as_delivered_if_it_arrives() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let inbox = open(&config);
    fill(&inbox, 2).await;
    let bus = register(&inbox, "bus").await;
    inbox.record(Progress { park: vec![parked(1, 1), parked(2, 1)], ..progress(bus.id, 2) }).await.unwrap();
    carry_out(&inbox, Task::DiscardParked { parked: ParkedFilter::default() }).await;
    let discarded = pairs(&config, "e1").pop().unwrap().state;
    assert!(matches!(&discarded, PairState::Discarded { reason, who: Some(who), .. }
        if reason == "because" && who == "ada"));
    let attempts = vec![attempt(1, 2, Outcome::delivered("it arrived"))];
    inbox.record(Progress { attempts, unpark: vec![seq(1)], ..progress(bus.id, 2) }).await.unwrap();
    assert!(matches!(pairs(&config, "e1").pop().unwrap().state, PairState::Delivered { .. }));
    assert!(matches!(pairs(&config, "e2").pop().unwrap().state, PairState::Discarded { .. }));
    inbox.close().await;
}

#[tokio::test]
async fn a_forgotten_sink_is_in_no_list_and_its_events_say_what_became_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let inbox = open(&config);
    fill(&inbox, 1300).await;
    let bus = register(&inbox, "bus").await;
    let attempts = vec![attempt(1, 1, Outcome::delivered("ok"))];
    let park = (2..=700).map(|at| parked(at, 1)).collect();
    let dead = (701..=1200).map(|at| letter(at, "no")).collect();
    inbox.record(Progress { attempts, park, dead, ..progress(bus.id, 1299) }).await.unwrap();
    let (id, effects) = carry_out_with(&inbox, &[], Task::Forget { sink: sink("bus") }).await;
    let job = stored(&config, id);
    let said = "sink 'bus' is forgotten: 1199 parked events and dead letters, and 1 event after its place in the log, \
                are discarded";
    assert_eq!((job.state, job.message.as_str(), job.done, effects), (JobState::Done, said, 1200, vec![]));
    append(&inbox, "one", &payin("later", "later", "COMPLETED")).await;
    let reader = Reader::open(&config).unwrap();
    assert_eq!(reader.sinks().unwrap().len(), 0);
    let anew = register(&inbox, "bus").await;
    assert_ne!(anew.id, bus.id);
    let state = |event: &str| {
        let pairs = pairs(&config, event);
        let (old, new): (Vec<_>, Vec<_>) = pairs.into_iter().partition(|pair| pair.consumer == bus.id);
        assert!(old.iter().all(|pair| pair.sink == sink("bus") && pair.forgotten_at.is_some()), "{old:?}");
        assert_eq!(new.iter().map(|pair| (pair.consumer, pair.forgotten_at)).collect::<Vec<_>>(), [(anew.id, None)]);
        old.first().map(|pair| pair.state.as_str())
    };
    let states = ["e1", "e2", "e1200", "e1250", "e1300", "later"].map(state);
    let discarded = Some("discarded");
    assert_eq!(states, [Some("delivered"), discarded, discarded, Some("filtered"), discarded, None]);
    let shown = Reader::open(&config).unwrap().event("e1").unwrap().pop().unwrap();
    let attempts: Vec<_> = shown.attempts.iter().map(|one| (one.sink.as_str(), one.consumer)).collect();
    assert_eq!(attempts, [("bus", bus.id)]);
    let letter = reader.dead_letter(1).unwrap().unwrap();
    assert_eq!((letter.sink.as_str(), letter.consumer), ("bus", bus.id));
    inbox.close().await;
}

/// What replays gave up is in no list of what waits for a person, so it must not be read on the way to the others.
#[tokio::test]
async fn letters_of_replays_are_not_read_past() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let inbox = open(&config);
    fill(&inbox, 1200).await;
    let bus = register(&inbox, "bus").await;
    inbox.record(Progress { dead: vec![letter(1, "no")], ..progress(bus.id, 1200) }).await.unwrap();
    let replay = inbox.submit(job(replay("bus", 1, 1200))).await.unwrap();
    let replayed = inbox.consumer(Registration::Replay { job: replay }, "*".to_owned()).await.unwrap();
    let dead = (1..=1200).map(|at| letter(at, "no")).collect();
    inbox.record(Progress { dead, ..progress(replayed.id, 1200) }).await.unwrap();
    let reader = Reader::open(&config).unwrap();
    let (letters, next) = reader.dead_letters_below(&LetterFilter::default(), &[LetterState::Open], None).unwrap();
    assert_eq!((letters.len(), next), (1, None), "one read tells all");
    let id = inbox.submit(job(Task::Discard { letters: LetterFilter::default() })).await.unwrap();
    assert!(inbox.advance(id, &[]).await.unwrap().ended, "and one portion does all");
    assert_eq!(reader.given_up_by(JobId::new(replay.get())).unwrap().len(), 1000, "they stay");
    inbox.close().await;
}
