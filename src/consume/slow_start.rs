//! How many deliveries may be in flight after an outage. Pure.

use jiff::{SignedDuration, Timestamp};

/// Deliveries in flight at first.
const FIRST: usize = 4;

/// After an outage the number doubles each second, so that what has just come back is not overrun.
#[derive(Debug, Default)]
pub(super) struct SlowStart {
    since: Option<Timestamp>,
    /// When the number grows next.
    next: Option<Timestamp>,
}

impl SlowStart {
    /// The outage has ended.
    pub(super) fn begin(&mut self, now: Timestamp) {
        (self.since, self.next) = (Some(now), None);
    }

    /// How many deliveries may be in flight now, at most `most`. A clock that was set back begins it anew.
    pub(super) fn limit(&mut self, most: usize, now: Timestamp) -> usize {
        let Some(since) = self.since else { return most };
        let seconds = now.duration_since(since).as_secs();
        let since = if seconds < 0 { now } else { since };
        self.since = Some(since);
        let doubled = u32::try_from(seconds.max(0)).ok().and_then(|seconds| FIRST.checked_shl(seconds));
        match doubled.filter(|limit| (FIRST..most).contains(limit)) {
            Some(limit) => {
                self.next = since.checked_add(SignedDuration::from_secs(seconds.max(0) + 1)).ok();
                limit
            }
            None => {
                (self.since, self.next) = (None, None);
                most
            }
        }
    }

    /// When the number grows next, as of the last [`Self::limit`]; `None` when it has reached its setting.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn it_doubles_each_second_up_to_the_setting() {
        let mut start = SlowStart::default();
        assert_eq!(start.limit(200, at(0)), 200, "there was no outage");
        start.begin(at(10));
        let limits = [10, 11, 12, 13, 14, 15].map(|now| start.limit(200, at(now)));
        assert_eq!(limits, [4, 8, 16, 32, 64, 128]);
        assert_eq!(start.next(), Some(at(16)));
        assert_eq!((start.limit(200, at(16)), start.next()), (200, None));
        start.begin(at(20));
        assert_eq!((start.limit(3, at(20)), start.next()), (3, None), "a small one is reached at once");
    }

    #[test]
    fn no_clock_makes_it_last() {
        let mut start = SlowStart::default();
        start.begin(at(1000));
        assert_eq!(start.limit(64, at(0)), 4);
        assert_eq!(start.limit(64, at(2)), 16, "it has begun anew");
        assert_eq!(start.limit(64, at(i64::from(u32::MAX) + 9)), 64);
    }
}
