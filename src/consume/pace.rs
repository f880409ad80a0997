//! How fast a sink may be fed: token buckets. Time is a value.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use super::later;

/// Attempts in a second at most at one sink, by its live consumer and its replays together. Clones are one.
#[derive(Clone, Debug)]
pub struct Rate(Arc<Mutex<Pace>>);

impl Rate {
    /// `per_second` is above 0, and may be a fraction.
    pub fn new(per_second: f64) -> Self {
        // Whoever asks first says what time it is.
        Self(Arc::new(Mutex::new(Pace::new(per_second, Timestamp::MIN))))
    }

    /// Whether an attempt may go now.
    pub(super) fn allows(&self, now: Timestamp) -> bool {
        let mut pace = self.pace();
        pace.refill(now);
        pace.allows()
    }

    /// One attempt goes now, if one may.
    pub(super) fn try_spend(&self, now: Timestamp) -> bool {
        let mut pace = self.pace();
        pace.refill(now);
        let allows = pace.allows();
        if allows {
            pace.spend();
        }
        allows
    }

    /// When the next attempt may go, unless another consumer of the sink is faster.
    pub(super) fn next(&self) -> Timestamp {
        self.pace().next()
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets so many events through in a second; what was not used is kept for one second at most.
#[derive(Debug)]
pub(super) struct Pace {
    per_second: f64,
    tokens: f64,
    /// When the tokens were counted.
    at: Timestamp,
}

impl Pace {
    /// `per_second` is above 0, and may be a fraction. The first event may go at once.
    pub(super) fn new(per_second: f64, now: Timestamp) -> Self {
        // One event a day is slower than anybody means, and still comes to an end.
        let slowest = 1.0 / 86_400.0;
        // What is no number is slow, too.
        Self { per_second: per_second.clamp(slowest, 1e9).max(slowest), tokens: 1.0, at: now }
    }

    /// Counts what has come in since the last time; a clock that was set back brings nothing, and takes nothing.
    pub(super) fn refill(&mut self, now: Timestamp) {
        let passed = Duration::try_from(now.duration_since(self.at)).unwrap_or_default();
        self.tokens = (self.tokens + passed.as_secs_f64() * self.per_second).min(self.per_second.max(1.0));
        self.at = now;
    }

    /// Whether an event may go now, as of the last [`Self::refill`].
    pub(super) fn allows(&self) -> bool {
        self.tokens >= 1.0
    }

    /// One has gone.
    pub(super) fn spend(&mut self) {
        self.tokens -= 1.0;
    }

    /// When the next one may go.
    pub(super) fn next(&self) -> Timestamp {
        let missing = (1.0 - self.tokens).max(0.0);
        // A microsecond more, so that rounding does not wake anybody too early.
        let wait = if missing > 0.0 { missing / self.per_second + 1e-6 } else { 0.0 };
        later(self.at, Duration::try_from_secs_f64(wait).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn spend_all(pace: &mut Pace, now: Timestamp) -> usize {
        pace.refill(now);
        std::iter::from_fn(|| pace.allows().then(|| pace.spend())).count()
    }

    #[test]
    fn it_lets_through_what_it_should() {
        let mut pace = Pace::new(10.0, at(0));
        assert_eq!(spend_all(&mut pace, at(0)), 1);
        assert_eq!((1..=5).map(|second| spend_all(&mut pace, at(second))).sum::<usize>(), 50);
        assert_eq!(spend_all(&mut pace, at(3600)), 10, "one second's worth is kept");
    }

    #[test]
    fn whoever_shares_a_rate_shares_its_attempts() {
        let rate = Rate::new(10.0);
        let other = rate.clone();
        let mut went = 0;
        for tenth in 0..=40 {
            let now = at(0) + jiff::SignedDuration::from_millis(tenth * 100);
            went += [&rate, &other, &rate].iter().filter(|rate| rate.try_spend(now)).count();
        }
        assert!((39..=51).contains(&went), "{went} in four seconds");
        assert!(other.next() > at(4));
    }

    #[test]
    fn a_fraction_is_a_rate_too() {
        let mut pace = Pace::new(0.25, at(0));
        assert_eq!(spend_all(&mut pace, at(0)), 1);
        let next = pace.next();
        assert!(next > at(4) && next < at(5), "{next}");
        assert_eq!(spend_all(&mut pace, at(3)), 0);
        assert_eq!(spend_all(&mut pace, next), 1);
        assert_eq!(spend_all(&mut pace, at(1000)), 1, "never more than one at a time");
    }

    #[test]
    fn whoever_waits_until_next_may_go() {
        for rate in [0.001, 0.3, 1.0, 7.0, 333.3, 1e5] {
            let mut pace = Pace::new(rate, at(0));
            for _ in 0..20 {
                let next = pace.next();
                spend_all(&mut pace, next);
                assert!(pace.next() > pace.at);
            }
            let next = pace.next();
            pace.refill(next);
            assert!(pace.allows(), "{rate}");
        }
    }

    #[test]
    fn a_clock_that_is_set_back_costs_nothing() {
        let mut pace = Pace::new(2.0, at(10_000));
        assert_eq!(spend_all(&mut pace, at(10_000)), 1);
        assert_eq!(spend_all(&mut pace, at(0)), 0);
        assert!(pace.next() < at(1));
        assert_eq!(spend_all(&mut pace, at(1)), 2);
    }

    #[test]
    fn a_rate_that_is_none_is_slow_and_not_wild() {
        let mut pace = Pace::new(f64::INFINITY, at(0));
        pace.refill(at(1));
        assert!(pace.allows());
        for rate in [0.0, -1.0, f64::NAN] {
            let mut pace = Pace::new(rate, at(0));
            assert_eq!(spend_all(&mut pace, at(3600)), 1);
            assert!(pace.next() > at(3600));
        }
    }
}
