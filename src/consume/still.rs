//! How long a consumer has stood still: time that counts against no event. Pure.

use std::time::Duration;

use jiff::Timestamp;

/// The time in which a consumer was paused, or its breaker open.
pub(super) struct Still {
    since: Option<Timestamp>,
    /// Before `since`.
    sum: Duration,
}

impl Still {
    /// As it was recorded; [`Self::set`] says how it goes on.
    pub(super) fn new(since: Option<Timestamp>, sum: Duration) -> Self {
        Self { since, sum }
    }

    /// Begins or ends an interval, unless it is so already.
    pub(super) fn set(&mut self, still: bool, now: Timestamp) {
        if still {
            self.since.get_or_insert(now);
        } else {
            self.sum = self.total(now);
            self.since = None;
        }
    }

    pub(super) fn since(&self) -> Option<Timestamp> {
        self.since
    }

    pub(super) fn sum(&self) -> Duration {
        self.sum
    }

    /// All of it. An interval that a clock set back makes negative counts nothing.
    pub(super) fn total(&self, now: Timestamp) -> Duration {
        self.sum.saturating_add(self.since.map_or(Duration::ZERO, |since| between(since, now)))
    }

    /// How long an event has been tried, of which the consumer stood still for `still` before its first attempt.
    pub(super) fn tried_for(&self, first: Timestamp, still: Duration, now: Timestamp) -> Duration {
        between(first, now).saturating_sub(self.total(now).saturating_sub(still))
    }
}

fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn it_counts_only_while_it_stands_still() {
        let mut still = Still::new(None, seconds(5));
        still.set(true, at(100));
        still.set(true, at(110));
        assert_eq!((still.total(at(130)), still.sum()), (seconds(35), seconds(5)));
        still.set(false, at(140));
        still.set(false, at(150));
        assert_eq!((still.total(at(900)), still.since()), (seconds(45), None));
    }

    #[test]
    fn what_is_tried_is_what_is_left() {
        let mut still = Still::new(None, seconds(5));
        still.set(true, at(100));
        let first = still.total(at(120));
        assert_eq!(still.tried_for(at(120), first, at(150)), Duration::ZERO, "first tried as a probe");
        still.set(false, at(160));
        assert_eq!(still.tried_for(at(120), first, at(190)), seconds(30));
        still.set(true, at(190));
        assert_eq!(still.tried_for(at(120), first, at(5000)), seconds(30));
    }

    #[test]
    fn a_clock_that_is_set_back_is_never_negative() {
        let mut still = Still::new(Some(at(1000)), Duration::MAX);
        assert_eq!(still.tried_for(at(1000), Duration::ZERO, at(0)), Duration::ZERO);
        still.set(false, at(0));
        assert_eq!(still.sum(), Duration::MAX);
        still.set(true, at(0));
        assert_eq!(still.total(Timestamp::MAX), Duration::MAX);
        let still = Still::new(Some(at(1000)), seconds(3));
        assert_eq!(still.total(at(0)), seconds(3));
        assert_eq!(still.tried_for(Timestamp::MAX, Duration::ZERO, Timestamp::MIN), Duration::ZERO);
    }
}
