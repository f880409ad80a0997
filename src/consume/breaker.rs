//! When a sink counts as down, and how often it is asked whether it still is. Pure.

use std::collections::{BTreeSet, HashSet};
use std::hash::Hash;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::backoff::Retry;
use super::later;
use crate::model::{EventType, Seq};

/// Events in one probe.
pub(super) const PROBE: usize = 4;
/// An opening that is over within this was about some events, and not about the sink: more failures in a row open it
/// next time.
const FALSE_ALARM: SignedDuration = SignedDuration::from_secs(60);
/// How many times as many failures then.
const RAISE: usize = 16;
/// The most failures in a row that it waits for.
const MAX_AFTER: usize = 10_000;
/// For so long without a success it waits for more failures than [`Retry::breaker_after`].
const PATIENCE: SignedDuration = SignedDuration::from_secs(10);
/// What a false alarm has raised holds for so long.
const RAISED_FOR: SignedDuration = SignedDuration::from_mins(10);

/// Opens after failures in a row over different lanes, and closes with any success. While it is open, a few events at a
/// time are let through as a probe, at the times of a backoff of its own. `L` names a lane.
pub(super) struct Breaker<L> {
    retry: Retry,
    /// Failures in a row that open it: [`Retry::breaker_after`], or more after a false alarm.
    after: usize,
    /// When a false alarm raised `after`.
    raised_at: Option<Timestamp>,
    /// Lanes that have failed since the last success; as many as `after` at most.
    failing: HashSet<L>,
    /// The types of the events that have failed since then.
    types: HashSet<EventType>,
    /// When the first of them failed.
    failing_since: Option<Timestamp>,
    open: Option<Open>,
}

struct Open {
    since: Timestamp,
    failed_probes: u32,
    next_probe: Timestamp,
    /// When the probe began.
    began: Timestamp,
    /// What has been chosen for the probe, and not ended yet. Empty while none is made.
    probe: BTreeSet<Seq>,
    /// The far side's own wish, the longest of this probe's.
    asked: Option<Duration>,
}

/// How a delivery failed, as far as the breaker asks.
pub(super) struct Failed<'a, L> {
    pub seq: Seq,
    pub lane: &'a L,
    pub event_type: &'a EventType,
    /// The far side's own wish.
    pub asked: Option<Duration>,
    /// The event is at fault itself, so it says nothing about the sink.
    pub is_at_fault: bool,
}

/// What the success that closed it has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closed {
    /// The sink was away.
    Outage,
    /// Only some events fail.
    FalseAlarm,
}

impl<L: Clone + Eq + Hash> Breaker<L> {
    /// As it was recorded. One that was open gets a probe at once: the outage may be over.
    pub(super) fn new(retry: Retry, open_since: Option<Timestamp>, now: Timestamp) -> Self {
        let (failed_probes, probe, asked) = (1, BTreeSet::new(), None);
        let open = open_since.map(|since| Open { since, failed_probes, next_probe: now, began: now, probe, asked });
        Self {
            after: retry.breaker_after,
            retry,
            raised_at: None,
            failing: HashSet::new(),
            types: HashSet::new(),
            failing_since: None,
            open,
        }
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

    /// Whether so many lanes have failed since the last success that the sink may be the cause.
    pub(super) fn suspects_the_sink(&self) -> bool {
        self.is_open() || self.failing.len() >= self.retry.breaker_after
    }

    /// Whether an event of this type has failed since the last success.
    pub(super) fn has_failed(&self, event_type: &EventType) -> bool {
        self.types.contains(event_type)
    }

    /// A delivery failed; `chance` is drawn from 0 to 1. True when that opens it.
    pub(super) fn failed(&mut self, failed: &Failed<'_, L>, now: Timestamp, chance: f64) -> bool {
        if self.types.len() < MAX_AFTER && !self.types.contains(failed.event_type) {
            self.types.insert(failed.event_type.clone());
        }
        if self.open.is_some() {
            // What was in flight when it opened says nothing new.
            self.probe_ended(failed.seq, failed.asked, now, chance);
            return false;
        }
        if failed.is_at_fault {
            return false;
        }
        self.failing.insert(failed.lane.clone());
        let since = *self.failing_since.get_or_insert(now);
        if self.raised_at.is_some_and(|at| now.duration_since(at) > RAISED_FOR) {
            (self.after, self.raised_at) = (self.retry.breaker_after, None);
        }
        let is_long = now.duration_since(since) >= PATIENCE;
        let enough = if is_long { self.retry.breaker_after } else { self.after };
        if self.failing.len() < enough {
            return false;
        }
        let next_probe = later(now, self.delay(1, failed.asked, chance));
        let (failed_probes, probe, asked) = (0, BTreeSet::new(), None);
        self.open = Some(Open { since: now, failed_probes, next_probe, began: now, probe, asked });
        true
    }

    fn probe_ended(&mut self, seq: Seq, asked: Option<Duration>, now: Timestamp, chance: f64) {
        let Some(open) = &mut self.open else { return };
        if !open.probe.remove(&seq) {
            return;
        }
        open.asked = open.asked.max(asked);
        if !open.probe.is_empty() {
            return;
        }
        open.failed_probes = open.failed_probes.saturating_add(1);
        let (failures, began, asked) = (open.failed_probes.saturating_add(1), open.began, open.asked);
        // From its beginning: a far side that never answers must not make the times between two probes longer.
        let next = later(began, self.delay(failures, None, chance)).max(now);
        let asked = asked.map(|asked| later(now, asked.min(self.retry.max)));
        if let Some(open) = &mut self.open {
            open.next_probe = asked.map_or(next, |asked| asked.max(next));
        }
    }

    fn delay(&self, failures: u32, asked: Option<Duration>, chance: f64) -> Duration {
        let delay = self.retry.delay(failures, None, chance).min(self.retry.probe_max);
        delay.max(asked.unwrap_or_default()).min(self.retry.max)
    }

    /// A delivery succeeded, a probe or not. Says what that shows when it closes it.
    pub(super) fn succeeded(&mut self, now: Timestamp) -> Option<Closed> {
        self.failing.clear();
        self.types.clear();
        self.failing_since = None;
        let open = self.open.take()?;
        let is_false = now.duration_since(open.since) < FALSE_ALARM;
        (self.after, self.raised_at) = if is_false {
            (self.after.saturating_mul(RAISE).min(MAX_AFTER).max(self.retry.breaker_after), Some(now))
        } else {
            (self.retry.breaker_after, None)
        };
        // The first probe finds out about a class of events; an outage mostly lasts for longer.
        Some(if open.failed_probes == 0 { Closed::FalseAlarm } else { Closed::Outage })
    }

    /// When the next probe may start; `None` while it is closed, or a probe is made.
    pub(super) fn next_probe(&self) -> Option<Timestamp> {
        self.open.as_ref().filter(|open| open.probe.is_empty()).map(|open| open.next_probe)
    }

    /// The probe begins; it is these events.
    pub(super) fn probing(&mut self, seqs: impl IntoIterator<Item = Seq>, now: Timestamp) {
        if let Some(open) = &mut self.open {
            open.probe.extend(seqs);
            (open.began, open.asked) = (now, None);
        }
    }

    /// Of the events of the probe that is made, those that have not ended.
    pub(super) fn probe(&self) -> impl Iterator<Item = Seq> {
        self.open.iter().flat_map(|open| open.probe.iter().copied())
    }

    /// An event of the probe was not handed over after all. Where it was the last, no probe before `next`.
    pub(super) fn probe_is_void(&mut self, seq: Seq, next: Timestamp) {
        if let Some(open) = &mut self.open
            && open.probe.remove(&seq)
            && open.probe.is_empty()
        {
            open.next_probe = next;
        }
    }

    /// A person wants it probed now.
    pub(super) fn probe_now(&mut self, now: Timestamp) {
        if let Some(open) = &mut self.open {
            open.next_probe = open.next_probe.min(now);
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

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn breaker(breaker_after: usize) -> Breaker<&'static str> {
        let [initial, max, give_up_after, probe_max] = [1, 60, 3600, 8].map(seconds);
        let retry = Retry { initial, max, jitter: false, give_up_after, breaker_after, probe_max, max_parked: 10 };
        Breaker::new(retry, None, at(0))
    }

    /// A failure of an event of this lane, and of a type of the same name.
    fn fails(breaker: &mut Breaker<&'static str>, seq: i64, lane: &'static str, asked: Option<u64>, now: i64) -> bool {
        let event_type = EventType::canonical(lane).unwrap();
        let (seq, asked) = (Seq::new(seq).unwrap(), asked.map(seconds));
        breaker.failed(&Failed { seq, lane: &lane, event_type: &event_type, asked, is_at_fault: false }, at(now), 0.5)
    }

    fn open() -> Breaker<&'static str> {
        let mut breaker = breaker(1);
        assert!(fails(&mut breaker, 1, "a", None, 10));
        breaker
    }

    #[test]
    fn it_opens_after_failures_of_different_lanes_in_a_row() {
        let mut breaker = breaker(3);
        let failed = ["a", "a", "b", "a", "b"].map(|lane| fails(&mut breaker, 1, lane, None, 0));
        assert_eq!(failed, [false; 5], "two lanes are not three");
        assert!(!breaker.suspects_the_sink());
        assert!(fails(&mut breaker, 1, "c", None, 0));
        assert!(!fails(&mut breaker, 1, "d", None, 0), "it opens once");
        assert_eq!(breaker.open_since(), Some(at(0)));
        let types = ["a", "d", "e"].map(|name| breaker.has_failed(&EventType::canonical(name).unwrap()));
        assert_eq!(types, [true, true, false]);
    }

    #[test]
    fn a_success_in_between_begins_anew() {
        let mut breaker = breaker(2);
        assert!(!fails(&mut breaker, 1, "a", None, 0));
        assert_eq!(breaker.succeeded(at(0)), None, "it was not open");
        assert!(!fails(&mut breaker, 2, "b", None, 0));
        assert!(breaker.spares_all_but(&"b") && !breaker.spares_all_but(&"a"));
        assert!(fails(&mut breaker, 3, "c", None, 0));
        assert!(breaker.succeeded(at(0)).is_some() && !breaker.is_open());
        assert!(!fails(&mut breaker, 2, "b", None, 0), "nothing is left of before");
    }

    #[test]
    fn what_is_at_fault_itself_opens_nothing() {
        let mut breaker = breaker(1);
        let event_type = EventType::canonical("a").unwrap();
        let own = Failed { seq: seq(1), lane: &"a", event_type: &event_type, asked: None, is_at_fault: true };
        assert!(!breaker.failed(&own, at(0), 0.5) && !breaker.suspects_the_sink());
    }

    #[test]
    fn probes_are_made_one_after_the_other_and_back_off() {
        let mut breaker = open();
        let (mut waits, mut now) = (Vec::new(), at(10));
        for probe in 2..8 {
            let next = breaker.next_probe().unwrap();
            waits.push(next.duration_since(now).as_secs());
            now = next;
            breaker.probing([seq(probe), seq(probe + 100)], now);
            assert_eq!(breaker.next_probe(), None, "one is made");
            let second = now.as_second();
            fails(&mut breaker, 99, "z", None, second);
            fails(&mut breaker, probe, "b", None, second);
            assert_eq!(breaker.next_probe(), None, "half of it, and another delivery, have ended");
            assert_eq!(breaker.probe().collect::<Vec<_>>(), [seq(probe + 100)]);
            fails(&mut breaker, probe + 100, "b", None, second);
        }
        assert_eq!(waits, [1, 2, 4, 8, 8, 8], "probe_max is the longest");
    }

    /// A far side that hangs makes a probe long; the next one follows at once.
    #[test]
    fn the_next_probe_is_counted_from_the_beginning_of_the_last() {
        let mut breaker = open();
        breaker.probing([seq(2)], at(11));
        fails(&mut breaker, 2, "b", None, 41);
        assert_eq!(breaker.next_probe(), Some(at(41)));
        breaker.probing([seq(3)], at(41));
        fails(&mut breaker, 3, "b", None, 42);
        assert_eq!(breaker.next_probe(), Some(at(45)));
    }

    #[test]
    fn the_far_sides_wish_goes_before_the_longest_wait_up_to_the_longest_delay() {
        let mut breaker = breaker(1);
        fails(&mut breaker, 1, "a", Some(30), 0);
        assert_eq!(breaker.next_probe(), Some(at(30)));
        for (asked, next) in [(20, 120), (3000, 160)] {
            breaker.probing([seq(2), seq(3)], at(100));
            fails(&mut breaker, 2, "b", Some(asked), 100);
            fails(&mut breaker, 3, "b", Some(5), 100);
            assert_eq!(breaker.next_probe(), Some(at(next)), "the longest wish of the probe");
        }
        breaker.no_later_than(at(-100));
        assert_eq!(breaker.next_probe(), Some(at(-100)), "the clock was set back");
        breaker.probe_now(at(-200));
        assert_eq!(breaker.next_probe(), Some(at(-200)));
    }

    #[test]
    fn a_probe_that_was_not_handed_over_is_none() {
        let mut breaker = open();
        breaker.probing([seq(2), seq(4)], at(11));
        breaker.probe_is_void(seq(3), at(12));
        breaker.probe_is_void(seq(4), at(12));
        assert_eq!(breaker.next_probe(), None, "one is left");
        breaker.probe_is_void(seq(2), at(12));
        assert_eq!(breaker.next_probe(), Some(at(12)));
    }

    #[test]
    fn a_restart_probes_at_once() {
        let mut breaker = Breaker::<&str>::new(open().retry, Some(at(10)), at(500));
        assert_eq!((breaker.open_since(), breaker.next_probe()), (Some(at(10)), Some(at(500))));
        assert_eq!(breaker.succeeded(at(500)), Some(Closed::Outage));
    }

    /// Lanes that fail one after the other, from one second on; returns how many until it opens.
    fn until_open(breaker: &mut Breaker<&'static str>, now: i64) -> usize {
        let lanes = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q"];
        let opens = |(_, lane): &(usize, &'static str)| fails(breaker, 1, lane, None, now);
        (1..).zip(lanes).find(opens).map_or(usize::MAX, |(count, _)| count)
    }

    #[test]
    fn after_a_false_alarm_more_failures_open_it_for_a_while() {
        let mut breaker = breaker(2);
        assert_eq!(until_open(&mut breaker, 0), 2);
        assert_eq!(breaker.succeeded(at(1)), Some(Closed::FalseAlarm), "the first probe has closed it");
        assert_eq!(until_open(&mut breaker, 2), usize::MAX, "32, and there are 17");
        assert!(breaker.suspects_the_sink(), "it may be the sink all the same");
        assert!(fails(&mut breaker, 1, "a", None, 12), "nothing has succeeded for ten seconds");
        assert_eq!(breaker.succeeded(at(12)), Some(Closed::FalseAlarm));
        assert_eq!(until_open(&mut breaker, 12 + 601), 2, "ten minutes later");
    }

    #[test]
    fn an_outage_is_no_false_alarm() {
        let mut breaker = open();
        breaker.probing([seq(2)], at(70));
        fails(&mut breaker, 2, "b", None, 70);
        assert_eq!(breaker.succeeded(at(75)), Some(Closed::Outage));
        assert_eq!(until_open(&mut breaker, 76), 1);
    }
}
