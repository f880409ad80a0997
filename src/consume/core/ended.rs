//! What became of deliveries: whether an event is final, tried again, or given up, and what that says of the sink.

use std::time::Duration;

use jiff::Timestamp;

use super::{ALTERED, Core, HURRIED, MISSING, PRUNED};
use crate::consume::breaker::{Closed, Failed};
use crate::consume::later;
use crate::inbox::{Altered, Attempt, DeadLetter, Discarded};
use crate::model::{Outcome, Reason, Seq};

/// What a delivery's end has done to the breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::consume) enum Switched {
    /// The sink counts as down from now on.
    Opened,
    /// It is back.
    Closed,
}

/// Why an event is given up whose body is not there as it came in.
pub(super) fn reason(altered: Altered) -> &'static str {
    match altered {
        Altered::Other(_) => ALTERED,
        Altered::Missing => MISSING,
    }
}

/// How a delivery failed.
struct Failure {
    reason: Reason,
    /// For this event, by the far side's word.
    permanent: bool,
    retry_after: Option<Duration>,
}

impl Core {
    /// An event could not be read again: nothing was tried.
    pub(in crate::consume) fn not_started(&mut self, seq: Seq, now: Timestamp) {
        let next = later(now, self.config.retry.initial);
        self.breaker.probe_is_void(seq, next);
        if self.discarded.contains(&seq) {
            self.end(seq);
        } else if self.lanes.get(seq).is_some_and(|item| item.parked) {
            // The inbox need not know: it is as parked as before.
            self.lanes.park(seq, next);
        } else {
            self.hold(seq, next);
        }
    }

    /// An event has lost its body: nothing was tried, and nothing ever will be.
    pub(in crate::consume) fn bodiless(&mut self, seq: Seq, now: Timestamp) {
        self.breaker.probe_is_void(seq, now);
        self.ledger.discarded(Discarded { seq, reason: PRUNED.to_owned(), at: now });
        self.end(seq);
    }

    /// An event's body is not there as it came in: nothing was tried, and a person has to decide.
    pub(in crate::consume) fn altered(&mut self, seq: Seq, altered: Altered, now: Timestamp) {
        self.bury(seq, reason(altered).to_owned(), now);
    }

    /// What became of a delivery. `chance` is drawn from 0 to 1.
    pub(in crate::consume) fn finished(
        &mut self,
        seq: Seq,
        at: Timestamp,
        latency: Duration,
        outcome: Outcome,
        chance: f64,
    ) -> Option<Switched> {
        let now = later(at, latency);
        let item = self.lanes.item(seq);
        item.attempts += 1;
        item.first_attempt.get_or_insert(at);
        self.ledger.attempt(Attempt { seq, n: item.attempts, at, latency, outcome: outcome.clone() });
        let switched = match outcome {
            Outcome::Delivered { .. } => self.delivered(seq, now),
            Outcome::Transient { reason, retry_after } => {
                self.failed(seq, Failure { reason, permanent: false, retry_after }, now, chance)
            }
            Outcome::Permanent { reason } => {
                self.failed(seq, Failure { reason, permanent: true, retry_after: None }, now, chance)
            }
        };
        self.stand(now);
        switched
    }

    fn delivered(&mut self, seq: Seq, now: Timestamp) -> Option<Switched> {
        let lane = self.lanes.item(seq).lane.clone();
        self.end(seq);
        self.successes += 1;
        let was_failing = self.health.is_failing();
        (self.health.failures, self.health.failing_since) = (0, None);
        self.health.last_success_at = Some(now);
        self.asked_until = None;
        let closed = self.breaker.succeeded(now);
        match closed {
            Some(Closed::Outage) => {
                self.lanes.all_due(now);
                self.turns.outage_ended();
                self.slow_start.begin(now);
            }
            None if was_failing => self.few_are_due(now),
            // What failed has its own time; the others go on.
            Some(Closed::FalseAlarm) | None => {}
        }
        if !self.condemned.is_empty() {
            let at_fault = |at: &Seq| self.lanes.get(*at).is_some_and(|item| item.lane != lane && !item.is_flying());
            let at_fault: Vec<Seq> = self.condemned.keys().copied().filter(at_fault).collect();
            at_fault.into_iter().for_each(|at| self.bury_condemned(at, now));
        }
        closed.map(|_| Switched::Closed)
    }

    /// A sink with so few orders that its breaker never opened is back: what waits need not wait longer, unless it is at
    /// fault itself.
    fn few_are_due(&mut self, now: Timestamp) {
        let few = self.config.retry.breaker_after.max(HURRIED);
        let blameless = |seq: &Seq| self.lanes.get(*seq).is_some_and(|item| item.faults.own() == 0);
        let waiting: Vec<Seq> = self.lanes.timers().map(|(_, seq)| seq).take(few + 1).collect();
        if waiting.len() <= few {
            let due: Vec<Seq> = waiting.into_iter().filter(blameless).collect();
            self.lanes.are_due(&due, now);
        }
    }

    fn failed(&mut self, seq: Seq, failure: Failure, now: Timestamp, chance: f64) -> Option<Switched> {
        let retry = self.config.retry;
        self.note_failure(&failure, now);
        if self.discarded.contains(&seq) {
            // The inbox has its end already.
            self.breaker.probe_is_void(seq, now);
            self.end(seq);
            return None;
        }
        let item = self.lanes.item(seq);
        let is_at_fault = item.faults.failed(self.successes);
        let has_refused_enough = failure.permanent && item.faults.refused(self.successes);
        if !failure.permanent {
            item.faults.not_refused();
        }
        self.turns.failed(item.attempts);
        let (attempts, lane, event_type) = (item.attempts, item.lane.clone(), item.event_type.clone());
        let asked = failure.retry_after;
        let told = Failed { seq, lane: &lane, event_type: &event_type, asked, is_at_fault };
        let was_open = self.breaker.is_open();
        let opened = self.breaker.failed(&told, now, chance);
        if self.breaker.suspects_the_sink() {
            // It may be the sink after all.
            self.condemned.clear();
        }
        let again = later(now, retry.delay(attempts, asked, chance));
        if has_refused_enough && !was_open {
            self.bury(seq, failure.reason.as_str().to_owned(), now);
        } else if self.breaker.is_open() {
            // Alone: what waits behind it costs no row.
            self.hold(seq, again);
        } else if failure.permanent && !self.breaker.suspects_the_sink() {
            self.refused(seq, failure.reason, now);
        } else {
            self.condemned.remove(&seq);
            self.give_up_or_park(seq, &failure.reason, again, now);
        }
        opened.then_some(Switched::Opened)
    }

    fn note_failure(&mut self, failure: &Failure, now: Timestamp) {
        let health = &mut self.health;
        health.failures = health.failures.saturating_add(1);
        health.failing_since.get_or_insert(now);
        health.last_error = Some(failure.reason.told());
        health.last_error_at = Some(now);
        let asked = failure.retry_after.map(|asked| later(now, asked.min(self.config.retry.max)));
        self.asked_until = self.asked_until.max(asked);
    }

    fn refused(&mut self, seq: Seq, reason: Reason, now: Timestamp) {
        if self.condemned.remove(&seq).is_some() {
            self.bury(seq, reason.as_str().to_owned(), now);
        } else {
            self.condemned.insert(seq, reason);
            self.set_aside(seq, later(now, self.config.retry.initial), now);
        }
    }

    fn give_up_or_park(&mut self, seq: Seq, reason: &Reason, again: Timestamp, now: Timestamp) {
        let item = self.lanes.item(seq);
        let (first, still, are_proven) = (item.first_attempt.unwrap_or(now), item.still, item.faults.are_proven());
        let tried_for = match are_proven {
            true => Duration::try_from(now.duration_since(first)).unwrap_or_default(),
            false => self.still.tried_for(first, still, now),
        };
        if tried_for >= self.config.retry.give_up_after {
            self.bury(seq, format!("gave up: {}", reason.as_str()), now);
        } else {
            self.set_aside(seq, again, now);
        }
    }

    /// Gives up events that are proven to be at fault: after `give_up_after`, whatever the breaker says, and at the cap of
    /// parked events the oldest of those that have failed often enough.
    pub(super) fn give_up_proven(&mut self, now: Timestamp) {
        let retry = self.config.retry;
        let can_end = |core: &Self, seq: &Seq| core.lanes.get(*seq).is_some_and(|item| !item.is_flying());
        while self.breaker.is_open()
            && let Some(seq) = self.proven.overdue(retry.give_up_after, now).filter(|seq| can_end(self, seq))
        {
            let why = format!("gave up: tried for {:?}, and others were delivered meanwhile", retry.give_up_after);
            self.bury(seq, why, now);
        }
        while self.is_full()
            && !self.breaker.is_open()
            && let Some(seq) = self.proven.oldest_spent(now).filter(|seq| can_end(self, seq))
        {
            let why = format!(
                "gave up: {} events wait for their next attempt, and others were delivered meanwhile",
                retry.max_parked
            );
            self.bury(seq, why, now);
        }
    }

    /// Whether a condemned event is the only one that fails.
    pub(super) fn is_at_fault(&self, seq: Seq) -> bool {
        let lane = self.lanes.get(seq).map(|item| &item.lane);
        self.condemned.contains_key(&seq) && lane.is_some_and(|lane| self.breaker.spares_all_but(lane))
    }

    /// A failed event is parked until its next attempt, and everything of its lane that was read already behind it.
    fn set_aside(&mut self, seq: Seq, next_attempt: Timestamp, now: Timestamp) {
        self.hold(seq, next_attempt);
        self.lanes.open_behind(seq).into_iter().for_each(|other| self.hold(other, now));
    }

    pub(super) fn hold(&mut self, seq: Seq, next_attempt: Timestamp) {
        let parked = self.lanes.park(seq, next_attempt);
        let item = self.lanes.item(seq);
        self.proven.note(seq, item.first_attempt, item.attempts, &item.faults);
        self.ledger.park(parked);
    }

    pub(super) fn bury_condemned(&mut self, seq: Seq, at: Timestamp) {
        if let Some(reason) = self.condemned.remove(&seq) {
            self.bury(seq, reason.as_str().to_owned(), at);
        }
    }

    fn bury(&mut self, seq: Seq, reason: String, at: Timestamp) {
        let attempts = self.lanes.item(seq).attempts;
        self.breaker.probe_is_void(seq, at);
        self.ledger.dead(DeadLetter { seq, attempts, reason, at });
        self.end(seq);
    }

    pub(super) fn end(&mut self, seq: Seq) {
        self.condemned.remove(&seq);
        self.discarded.remove(&seq);
        let item = self.lanes.remove(seq);
        self.proven.remove(seq, item.first_attempt);
        if item.parked {
            self.ledger.unpark(seq);
        }
    }
}
