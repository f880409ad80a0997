//! The contract of every inbox, for this one.

use super::*;

macro_rules! contract {
    ($($room:ident: $($name:ident)*;)*) => {
        $($(
            #[tokio::test]
            async fn $name() {
                let dir = tempfile::tempdir().unwrap();
                let inbox = open(&config(dir.path()));
                crate::inbox::contract::$room::$name(&inbox).await;
                inbox.close().await;
            }
        )*)*
    };
}

contract! {
    log:
        what_is_read_is_what_was_asked_for
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
    jobs:
        a_job_waits_until_it_has_ended
        a_paused_sink_stands_still_with_its_replays
        the_time_of_a_pause_is_kept_but_not_that_of_an_open_breaker
        dead_letters_are_tried_again_where_they_left_off
        discarded_dead_letters_are_decided_about
        a_consumer_never_has_more_parked_than_it_can_hold
        a_job_of_many_portions_ends
        requests_leave_the_quarantine_once
        bodies_go_when_nobody_needs_them;
}
