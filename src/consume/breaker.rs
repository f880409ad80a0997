//! When a sink counts as down, and how often it is asked whether it still is. Pure.

use std::collections::HashSet;
use std::hash::Hash;
use std::time::Duration;

use jiff::Timestamp;

use super::backoff::Retry;
use super::later;
use crate::model::Seq;

/// Opens after failures in a row over different lanes, and closes with any success. While it is open one probe at a time
/// is let through, at the times of a backoff of its own. `L` names a lane.
pub(super) struct Breaker<L> {
    retry: Retry,
    /// Lanes that have failed since the last success; as many as [`Retry::breaker_after`] at most.
    failing: HashSet<L>,
    open: Option<Open>,
}

struct Open {
    since: Timestamp,
    failed_probes: u32,
    next_probe: Timestamp,
    /// The probe that is in flight.
    probe: Option<Seq>,
}

impl<L: Clone + Eq + Hash> Breaker<L> {
    /// As it was recorded. One that was open gets a probe at once: the outage may be over.
    pub(super) fn new(retry: Retry, open_since: Option<Timestamp>, now: Timestamp) -> Self {
        let open = open_since.map(|since| Open { since, failed_probes: 0, next_probe: now, probe: None });
        Self { retry, failing: HashSet::new(), open }
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    pub(super) fn open_since(&self) -> Option<Timestamp> {
        self.open.as_ref().map(|open| open.since)
    }

    /// Whether no other lane has failed since the last success.
    pub(super) fn spares_all_but(&self, lane: &L) -> bool {
        self.failing.iter().all(|failing| failing == lane)
    }

    /// A delivery failed; `asked` is the far side's own wish, `chance` is drawn from 0 to 1. True when that opens it.
    pub(super) fn failed(&mut self, seq: Seq, lane: &L, asked: Option<Duration>, now: Timestamp, chance: f64) -> bool {
        if let Some(open) = &mut self.open {
            // What was in flight when it opened says nothing new.
            if open.probe == Some(seq) {
                open.probe = None;
                open.failed_probes = open.failed_probes.saturating_add(1);
                let delay = self.retry.delay(open.failed_probes.saturating_add(1), asked, chance);
                open.next_probe = later(now, delay);
            }
            return false;
        }
        self.failing.insert(lane.clone());
        if self.failing.len() < self.retry.breaker_after {
            return false;
        }
        let next_probe = later(now, self.retry.delay(1, asked, chance));
        self.open = Some(Open { since: now, failed_probes: 0, next_probe, probe: None });
        true
    }

    /// A delivery succeeded, a probe or not. True when that closes it.
    pub(super) fn succeeded(&mut self) -> bool {
        self.failing.clear();
        self.open.take().is_some()
    }

    /// When the next probe may start; `None` while it is closed, or a probe is in flight.
    pub(super) fn next_probe(&self) -> Option<Timestamp> {
        self.open.as_ref().filter(|open| open.probe.is_none()).map(|open| open.next_probe)
    }

    /// This event is the probe.
    pub(super) fn probing(&mut self, seq: Seq) {
        if let Some(open) = &mut self.open {
            open.probe = Some(seq);
        }
    }

    /// It was not handed over after all: no probe before `next`.
    pub(super) fn probe_is_void(&mut self, seq: Seq, next: Timestamp) {
        if let Some(open) = self.open.as_mut().filter(|open| open.probe == Some(seq)) {
            (open.probe, open.next_probe) = (None, next);
        }
    }

    /// A clock that was set back must not keep a probe waiting for longer than the longest delay.
    pub(super) fn no_later_than(&mut self, latest: Timestamp) {
        if let Some(open) = &mut self.open {
            open.next_probe = open.next_probe.min(latest);
        }
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

    fn breaker(breaker_after: usize) -> Breaker<&'static str> {
        let [initial, max, give_up_after] = [1, 8, 3600].map(Duration::from_secs);
        Breaker::new(
            Retry { initial, max, jitter: false, give_up_after, breaker_after, probe_max: max, max_parked: 10 },
            None,
            at(0),
        )
    }

    fn open() -> Breaker<&'static str> {
        let mut breaker = breaker(1);
        assert!(breaker.failed(seq(1), &"a", None, at(10), 0.5));
        breaker
    }

    #[test]
    fn it_opens_after_failures_of_different_lanes_in_a_row() {
        let mut breaker = breaker(3);
        let mut failed = |lane| breaker.failed(seq(1), &lane, None, at(0), 0.5);
        assert_eq!(["a", "a", "b", "a", "b"].map(&mut failed), [false; 5], "two lanes are not three");
        assert!(failed("c"));
        assert!(!failed("d"), "it opens once");
        assert_eq!(breaker.open_since(), Some(at(0)));
    }

    #[test]
    fn a_success_in_between_begins_anew() {
        let mut breaker = breaker(2);
        assert!(!breaker.failed(seq(1), &"a", None, at(0), 0.5));
        assert!(!breaker.succeeded(), "it was not open");
        assert!(!breaker.failed(seq(2), &"b", None, at(0), 0.5));
        assert!(breaker.spares_all_but(&"b") && !breaker.spares_all_but(&"a"));
        assert!(breaker.failed(seq(3), &"c", None, at(0), 0.5));
        assert!(breaker.succeeded() && !breaker.is_open());
        assert!(!breaker.failed(seq(2), &"b", None, at(0), 0.5), "nothing is left of before");
    }

    #[test]
    fn probes_are_one_at_a_time_and_back_off() {
        let mut breaker = open();
        let mut waits = Vec::new();
        let mut now = at(10);
        for probe in 2..8 {
            let next = breaker.next_probe().unwrap();
            waits.push(next.duration_since(now).as_secs());
            now = next;
            breaker.probing(seq(probe));
            assert_eq!(breaker.next_probe(), None, "one is in flight");
            assert!(!breaker.failed(seq(99), &"z", None, now, 0.5));
            assert_eq!(breaker.next_probe(), None, "another delivery has ended, not the probe");
            assert!(!breaker.failed(seq(probe), &"b", None, now, 0.5));
        }
        assert_eq!(waits, [1, 2, 4, 8, 8, 8]);
        breaker.probing(seq(8));
        breaker.failed(seq(8), &"b", Some(Duration::from_secs(5)), now, 0.5);
        assert_eq!(breaker.next_probe(), Some(now + Duration::from_secs(8)), "the far side's wish is the least");
        assert!(breaker.succeeded());
    }

    #[test]
    fn the_far_sides_wish_counts_from_the_beginning() {
        let mut breaker = breaker(1);
        breaker.failed(seq(1), &"a", Some(Duration::from_secs(6)), at(0), 0.5);
        assert_eq!(breaker.next_probe(), Some(at(6)));
        breaker.no_later_than(at(-100));
        assert_eq!(breaker.next_probe(), Some(at(-100)), "the clock was set back");
    }

    #[test]
    fn a_probe_that_was_not_handed_over_is_none() {
        let mut breaker = open();
        breaker.probing(seq(2));
        breaker.probe_is_void(seq(3), at(12));
        assert_eq!(breaker.next_probe(), None, "that was another");
        breaker.probe_is_void(seq(2), at(12));
        assert_eq!(breaker.next_probe(), Some(at(12)));
    }

    #[test]
    fn a_restart_probes_at_once() {
        let breaker = Breaker::<&str>::new(open().retry, Some(at(10)), at(500));
        assert_eq!((breaker.open_since(), breaker.next_probe()), (Some(at(10)), Some(at(500))));
    }
}
