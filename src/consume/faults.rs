//! Whether an event fails by its own fault, or because its sink is down. Pure.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::inbox::Parked;
use crate::model::Seq;

/// An event that was refused for good so often, each time after others had been delivered, is at fault itself, even if
/// the breaker has opened over it every time.
const MAX_REFUSALS: u32 = 3;
/// An event with so many failures of its own is proven to be at fault.
const PROVEN: u32 = 3;
/// At the cap of parked events, one has to have been tried so often before it is given up.
const SPENT: u32 = 10;
/// At the cap of parked events, one has to have been tried for so long before it is given up.
const TRIED_FOR: SignedDuration = SignedDuration::from_hours(1);

/// How one event has failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Faults {
    /// The number of the consumer's successes at the last failure.
    failed_at: Option<u64>,
    /// Failures since whose predecessor another event was delivered.
    own: u32,
    /// Refusals for good in a row; those without a success in between count as one.
    refusals: u32,
    /// The number of the consumer's successes at the last refusal of these.
    refused_at: Option<u64>,
}

impl Faults {
    /// As the inbox recorded it: a success after the start counts as one in between.
    pub(super) fn recorded(parked: &Parked) -> Self {
        Self { failed_at: (parked.attempts > 0).then_some(0), own: parked.own_failures, ..Self::default() }
    }

    /// One more failure, after so many `successes` of the consumer. It is the event's own when others were delivered since
    /// its last failure. True when it had any of its own: what such an event fails on says nothing about the sink.
    pub(super) fn failed(&mut self, successes: u64) -> bool {
        let is_own = self.failed_at.replace(successes).is_some_and(|at| at < successes);
        self.own = self.own.saturating_add(u32::from(is_own));
        self.own > 0
    }

    /// The failure was a refusal for good. True once there were so many, with successes of others in between, that the
    /// event is at fault.
    pub(super) fn refused(&mut self, successes: u64) -> bool {
        if self.refused_at.replace(successes) != Some(successes) {
            self.refusals += 1;
        }
        self.refusals >= MAX_REFUSALS
    }

    /// The failure was none for good.
    pub(super) fn not_refused(&mut self) {
        (self.refusals, self.refused_at) = (0, None);
    }

    /// Failures of its own.
    pub(super) fn own(&self) -> u32 {
        self.own
    }

    /// Whether the event is at fault beyond doubt: an outage of the sink does not stop its clock.
    pub(super) fn are_proven(&self) -> bool {
        self.own >= PROVEN
    }
}

/// The parked events that may be given up because they are at fault themselves, by their first attempts.
#[derive(Debug, Default)]
pub(super) struct Proven {
    /// Proven: given up after `give_up_after`, even while the sink is down.
    all: BTreeSet<(Timestamp, Seq)>,
    /// Tried often enough to be given up at the cap, with others delivered in between.
    spent: BTreeSet<(Timestamp, Seq)>,
}

impl Proven {
    /// Notes what is known of an event after so many attempts.
    pub(super) fn note(&mut self, seq: Seq, first_attempt: Option<Timestamp>, attempts: u32, faults: &Faults) {
        let Some(first) = first_attempt.filter(|_| faults.own() > 0) else { return };
        if faults.are_proven() {
            self.all.insert((first, seq));
        }
        if attempts >= SPENT {
            self.spent.insert((first, seq));
        }
    }

    /// The event is final.
    pub(super) fn remove(&mut self, seq: Seq, first_attempt: Option<Timestamp>) {
        if let Some(first) = first_attempt {
            self.all.remove(&(first, seq));
            self.spent.remove(&(first, seq));
        }
    }

    /// The one that was first tried longest ago, if that is at least `give_up_after` ago.
    pub(super) fn overdue(&self, give_up_after: Duration, now: Timestamp) -> Option<Seq> {
        let tried_for = |first: Timestamp| Duration::try_from(now.duration_since(first)).unwrap_or_default();
        self.all.first().filter(|(first, _)| tried_for(*first) >= give_up_after).map(|(_, seq)| *seq)
    }

    /// The one that may be given up to make room at the cap: first tried longest ago, at least an hour.
    pub(super) fn oldest_spent(&self, now: Timestamp) -> Option<Seq> {
        self.spent.first().filter(|(first, _)| now.duration_since(*first) >= TRIED_FOR).map(|(_, seq)| *seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn seq(value: i64) -> Seq {
        Seq::new(value).unwrap()
    }

    fn failed(times: u64) -> Faults {
        let mut faults = Faults::default();
        (0..times).for_each(|successes| _ = faults.failed(successes));
        faults
    }

    #[test]
    fn a_failure_is_the_events_own_when_others_were_delivered_since_the_last_one() {
        let mut faults = Faults::default();
        assert_eq!([0, 0, 5, 5, 6].map(|successes| faults.failed(successes)), [false, false, true, true, true]);
        assert_eq!((faults.own(), faults.are_proven()), (2, false));
        assert!(faults.failed(7) && faults.are_proven());
    }

    #[test]
    fn refusals_without_a_success_in_between_count_as_one() {
        let mut faults = Faults::default();
        assert_eq!([0, 0, 1, 1, 2].map(|successes| faults.refused(successes)), [false, false, false, false, true]);
        faults.not_refused();
        assert!(!faults.refused(2), "they begin anew");
    }

    #[test]
    fn what_was_recorded_goes_on() {
        let parked = |attempts| Parked {
            seq: seq(1),
            attempts,
            first_attempt: Some(at(0)),
            still: Duration::ZERO,
            next_attempt: at(0),
            own_failures: 2,
        };
        let mut faults = Faults::recorded(&parked(3));
        faults.failed(0);
        assert!(!faults.are_proven(), "nothing was delivered since the start");
        assert!(faults.failed(1) && faults.are_proven());
        let mut untried = Faults::recorded(&parked(0));
        untried.failed(9);
        assert_eq!(untried.own(), 2, "it was never tried before");
    }

    #[test]
    fn the_oldest_goes_first_once_it_was_tried_long_enough() {
        let mut proven = Proven::default();
        proven.note(seq(1), Some(at(0)), 20, &failed(1));
        proven.note(seq(2), None, 20, &failed(20));
        assert_eq!(proven.overdue(Duration::ZERO, at(9)), None, "neither is proven");
        proven.note(seq(3), Some(at(50)), 10, &failed(10));
        proven.note(seq(4), Some(at(20)), 9, &failed(9));
        assert_eq!(proven.overdue(Duration::from_secs(100), at(119)), None);
        assert_eq!(proven.overdue(Duration::from_secs(100), at(120)), Some(seq(4)));
        assert_eq!(proven.oldest_spent(at(3649)), None, "not yet for an hour");
        assert_eq!(proven.oldest_spent(at(3650)), Some(seq(3)), "the other was not tried often enough");
        proven.remove(seq(3), Some(at(50)));
        assert_eq!(proven.oldest_spent(at(99_999)), None);
    }
}
