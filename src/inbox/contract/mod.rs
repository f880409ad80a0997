//! What every inbox must do, whatever it is stored in: each function is given a fresh one, and uses nothing but the
//! trait. [`suite`] runs them all. Outside of it is what only a file on a disk has: its lock, its schema, its bounds, what
//! a failed commit leaves, and the reader that browses it without a daemon (`sqlite/tests.rs`).

pub(in crate::inbox) mod consumers;
pub(in crate::inbox) mod jobs;
pub(in crate::inbox) mod log;
pub(in crate::inbox) mod names;
pub(in crate::inbox) mod sweeps;

/// Every test of the contract. Each is given to `$run`, which hands it an inbox.
macro_rules! suite {
    ($run:path) => {
        crate::inbox::contract::tests! { $run;
            log:
                an_event_is_stored_once_and_a_conflict_beside_it
                one_event_at_once_many_times_is_stored_once
                a_processing_after_its_completed_is_stale
                what_is_read_is_what_was_asked_for
                text_is_found_as_it_reads_and_packed_bodies_too
                reading_ends_where_the_log_or_the_selection_does
                large_bodies_make_short_reads;
            consumers:
                a_consumer_is_read_back_as_it_was_recorded
                a_consumer_that_nobody_registered_records_nothing
                a_renamed_sink_keeps_its_place
                a_name_that_may_be_asked_for_is_kept
                a_replay_is_a_consumer_with_an_end
                a_delivery_counts_once_however_often_it_is_recorded
                a_replay_needs_a_sink_and_a_job
                a_replay_that_was_cancelled_leaves_no_parked_events;
            names:
                a_name_means_the_sink_that_has_it_before_one_that_had_it
                a_former_name_goes_when_the_configuration_has_followed
                two_names_are_exchanged_and_both_sinks_are_paused
                bodies_stay_for_a_new_sink_with_a_former_name
                a_sink_is_known_by_either_name
                names_mean_the_same_sinks_after_any_history;
            jobs:
                a_job_waits_until_it_has_ended
                a_paused_sink_stands_still_with_its_replays
                the_time_of_a_pause_is_kept_but_not_that_of_an_open_breaker
                dead_letters_are_tried_again_where_they_left_off
                discarded_dead_letters_are_decided_about
                requests_leave_the_quarantine_once
                bodies_go_when_nobody_needs_them
                an_event_from_the_future_hides_no_old_body
                a_clock_is_believed_as_far_as_the_machine_was_up;
            sweeps:
                a_consumer_never_has_more_parked_than_it_can_hold
                a_full_sink_holds_up_no_other
                a_job_of_many_portions_ends
                letters_of_a_sink_that_is_not_configured_stay
                parked_events_are_due_when_a_person_says_so
                parked_events_that_are_discarded_are_not_parked_again
                parked_events_are_decided_about_in_portions
                a_sink_is_tried_with_its_replays
                a_forgotten_sink_leaves_its_name_to_another;
        }
    };
}

macro_rules! tests {
    ($run:path; $($room:ident: $($name:ident)*;)*) => {
        $($(
            #[tokio::test]
            async fn $name() {
                $run(crate::inbox::contract::$room::$name).await;
            }
        )*)*
    };
}

pub(in crate::inbox) use {suite, tests};

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;

use super::{
    Appended, Attempt, ConfiguredSink, ConsumerId, ConsumerState, DeadLetter, Effect, EventFilter, Inbox, LetterFilter,
    NewEvent, NewJob, Parked, Progress, Refused, Registration, Selection, SinkHealth, Standing, Task,
};
use crate::model::{JobId, Outcome, Seq, SinkName, SourceName, Start};
use crate::verify::{Keys, Unverified, sign};

pub(in crate::inbox) const SECRET: &[u8] = b"secret";

fn delivery(source: &str, body: &str, signature: String) -> Unverified {
    Unverified {
        source: SourceName::new(source).unwrap(),
        signatures: vec![Bytes::from(signature)],
        content_type: Some("application/json".to_owned()),
        headers: vec![("user-agent".to_owned(), "test".to_owned())],
        body: Bytes::copy_from_slice(body.as_bytes()),
    }
}

pub(crate) fn new_event(source: &str, body: &str) -> NewEvent {
    signed_by(source, body, 0)
}

/// Signed by the secret in this slot, of two.
pub(in crate::inbox) fn signed_by(source: &str, body: &str, slot: usize) -> NewEvent {
    let secrets = [SECRET, b"former secret"];
    let keys = Keys::new(&secrets).unwrap();
    let verified = delivery(source, body, sign(secrets[slot], body.as_bytes())).verify(&keys).unwrap();
    NewEvent::new(verified, now())
}

pub(in crate::inbox) fn refused(peer: &str, body: &str) -> Refused {
    let keys = Keys::new(&[SECRET]).unwrap();
    let rejected = delivery("one", body, "00".repeat(32)).verify(&keys).unwrap_err();
    let (peer, answer) = (peer.parse::<IpAddr>().unwrap(), crate::inbox::RefusalAnswer::Unauthorized);
    Refused { rejected, peer, received_at: now(), answer }
}

pub(in crate::inbox) fn payin(id: &str, order: &str, state: &str) -> String {
    let event_type = state.to_lowercase();
    format!(
        r#"{{"eventId":"{id}","eventType":"payin_{event_type}","data":{{"orderId":"{order}","status":"{state}"}}}}"#
    )
}

/// As precise as what is stored.
pub(in crate::inbox) fn now() -> Timestamp {
    Timestamp::from_microsecond(Timestamp::now().as_microsecond()).unwrap()
}

pub(in crate::inbox) fn seq(value: i64) -> Seq {
    Seq::new(value).unwrap()
}

pub(in crate::inbox) fn sink(name: &str) -> SinkName {
    SinkName::new(name).unwrap()
}

pub(in crate::inbox) async fn append(inbox: &dyn Inbox, source: &str, body: &str) -> Appended {
    inbox.append(new_event(source, body)).await.unwrap()
}

/// So many payins, each of an order of its own.
pub(in crate::inbox) async fn fill(inbox: &dyn Inbox, count: i64) {
    for n in 1..=count {
        append(inbox, "one", &payin(&format!("e{n}"), &format!("o{n}"), "COMPLETED")).await;
    }
}

pub(in crate::inbox) async fn register(inbox: &dyn Inbox, name: &str) -> ConsumerState {
    inbox.consumer(Registration::Sink { name: sink(name), start: Start::Earliest }, "*".to_owned()).await.unwrap()
}

/// Nothing but a cursor.
pub(crate) fn progress(consumer: ConsumerId, cursor: i64) -> Progress {
    Progress {
        consumer,
        cursor: seq(cursor),
        attempts: vec![],
        park: vec![],
        unpark: vec![],
        dead: vec![],
        discarded: vec![],
        standing: Standing::default(),
        health: SinkHealth::default(),
    }
}

pub(in crate::inbox) fn attempt(at: i64, n: u32, outcome: Outcome) -> Attempt {
    Attempt { seq: seq(at), n, at: now(), latency: Duration::from_millis(3), outcome }
}

pub(in crate::inbox) fn parked(at: i64, attempts: u32) -> Parked {
    let first_attempt = (attempts > 0).then(now);
    Parked {
        seq: seq(at),
        attempts,
        first_attempt,
        still: Duration::from_secs(5),
        next_attempt: now(),
        own_failures: 2,
    }
}

pub(crate) fn letter(at: i64, reason: &str) -> DeadLetter {
    DeadLetter { seq: seq(at), attempts: 1, reason: reason.to_owned(), at: now() }
}

pub(crate) fn job(task: Task) -> NewJob {
    NewJob { task, who: "ada".to_owned(), reason: "because".to_owned(), total: None, at: now() }
}

/// These sinks, as a configuration has them.
pub(in crate::inbox) fn configured(names: &[&str]) -> Vec<ConfiguredSink> {
    names.iter().map(|name| ConfiguredSink { name: sink(name), max_parked: 10_000 }).collect()
}

/// Every sink of these tests.
pub(in crate::inbox) fn all_configured() -> Vec<ConfiguredSink> {
    configured(&["bus", "other", "app", "web", "bus-2", "app-2"])
}

/// Has a job carried out to its end, while all of the sinks are configured.
pub(in crate::inbox) async fn carry_out(inbox: &dyn Inbox, task: Task) -> (JobId, Vec<Effect>) {
    carry_out_with(inbox, &all_configured(), task).await
}

/// Has a job carried out to its end, while these sinks are configured.
pub(in crate::inbox) async fn carry_out_with(
    inbox: &dyn Inbox,
    sinks: &[ConfiguredSink],
    task: Task,
) -> (JobId, Vec<Effect>) {
    let id = inbox.submit(job(task)).await.unwrap();
    let mut effects = Vec::new();
    loop {
        let advance = inbox.advance(id, sinks).await.unwrap();
        assert!(!advance.must_wait);
        effects.extend(advance.effects);
        if advance.ended {
            return (id, effects);
        }
    }
}

pub(in crate::inbox) fn retry(sink: &str) -> Task {
    Task::Retry { letters: letters_of(sink) }
}

pub(in crate::inbox) fn letters_of(name: &str) -> LetterFilter {
    LetterFilter { sink: Some(sink(name)), ..LetterFilter::default() }
}

pub(in crate::inbox) fn selection(filter: EventFilter, first: i64, last: i64) -> Selection {
    Selection { filter, first: seq(first), last: seq(last) }
}

pub(in crate::inbox) fn replay(name: &str, first: i64, last: i64) -> Task {
    Task::Replay { sink: sink(name), selection: selection(EventFilter::default(), first, last), rate: None }
}
