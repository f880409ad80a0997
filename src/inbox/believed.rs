//! How far the wall clock is believed before old bodies are dropped.
//!
//! A clock that is wrong by years makes every body look old, and what retention drops is gone for good. So the inbox keeps
//! a time of its own. It advances by the time for which the machine has demonstrably been up, and each start of the machine
//! allows one day more, for the time for which it was off. Retention uses the smaller of this time and the clock's.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::clock::Uptime;

/// What the clock may be ahead after a start of the machine, in all.
const ALLOWANCE: Duration = Duration::from_secs(24 * 3600);
/// The clock counts as ahead beyond this: it is adjusted by less all the time.
const TOLERANCE: SignedDuration = SignedDuration::from_mins(1);

/// The time that retention believes, as it was last noted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BelievedClock {
    /// The believed time.
    pub at: Timestamp,
    /// How much further the clock may still jump before the machine starts again.
    pub allowance: Duration,
    /// When this was noted, by the machine's uptime.
    pub uptime: Uptime,
}

/// The clock is further ahead than is believed, so retention waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockAhead {
    /// What the clock says.
    pub now: Timestamp,
    /// The latest time that is believed.
    pub believed: Timestamp,
}

impl BelievedClock {
    /// Believes this time: nothing in the inbox says otherwise, or a person has confirmed it.
    pub fn at(at: Timestamp, uptime: Uptime) -> Self {
        Self { at, allowance: ALLOWANCE, uptime }
    }

    /// What is believed by now. A clock that was set back changes nothing: time goes on.
    #[must_use]
    pub fn advanced(&self, now: Timestamp, uptime: Uptime) -> Self {
        let is_same_start = uptime.boot == self.uptime.boot && uptime.elapsed >= self.uptime.elapsed;
        let (elapsed, allowance) = match is_same_start {
            true => (uptime.elapsed - self.uptime.elapsed, self.allowance),
            false => (uptime.elapsed, ALLOWANCE),
        };
        let passed = later(self.at, elapsed);
        let latest = later(passed, allowance);
        let at = now.clamp(passed, latest);
        let used = Duration::try_from(at.duration_since(passed)).unwrap_or_default();
        Self { at, allowance: allowance.saturating_sub(used), uptime }
    }

    /// The time that retention counts back from.
    pub fn retention_time(&self, now: Timestamp) -> Timestamp {
        self.at.min(now)
    }

    /// Whether the clock is further ahead than is believed. Only of what was [`Self::advanced`] to this time.
    pub fn ahead(&self, now: Timestamp) -> Option<ClockAhead> {
        (now.duration_since(self.at) > TOLERANCE).then_some(ClockAhead { now, believed: self.at })
    }
}

impl ClockAhead {
    /// What has happened, in a sentence without an end.
    pub fn text(&self) -> String {
        let (now, believed) = (seconds(self.now), seconds(self.believed));
        format!("the clock says {now}, and retention believes no later time than {believed}")
    }

    /// What to do about it.
    pub const REMEDY: &'static str =
        "if the clock is right (the machine was off for days, say), confirm it: ralio-relay prune --confirm-clock";
}

fn seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

fn later(at: Timestamp, by: Duration) -> Timestamp {
    at.saturating_add(by).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3600;
    const DAY: u64 = 24 * HOUR;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn days(days: i64) -> Timestamp {
        at(days * 86_400)
    }

    fn up(boot: &str, seconds: u64) -> Uptime {
        Uptime { boot: boot.to_owned(), elapsed: Duration::from_secs(seconds) }
    }

    #[test]
    fn a_clock_that_is_right_is_believed_for_ever() {
        let mut believed = BelievedClock::at(at(0), up("a", 100));
        for hour in 1..10_000 {
            let now = at(hour * 3600);
            believed = believed.advanced(now, up("a", 100 + hour.unsigned_abs() * HOUR));
            assert_eq!((believed.retention_time(now), believed.ahead(now)), (now, None));
        }
    }

    #[test]
    fn a_jump_of_years_is_not_believed_and_does_not_add_up() {
        let mut believed = BelievedClock::at(at(0), up("a", 0));
        for round in 1..400 {
            // The process starts again and again, on a machine that stays up.
            let now = days(800);
            believed = believed.advanced(now, up("a", round));
            assert!(believed.retention_time(now) <= days(2), "{believed:?}");
            assert_eq!(believed.ahead(now), Some(ClockAhead { now, believed: believed.at }));
        }
        let now = at(500);
        let believed = believed.advanced(now, up("a", 500));
        assert_eq!((believed.retention_time(now), believed.ahead(now)), (now, None), "the clock is right again");
    }

    #[test]
    fn a_start_of_the_machine_allows_a_day() {
        let believed = BelievedClock::at(at(0), up("a", 5000));
        let after_a_night = believed.advanced(at(20 * 3600), up("b", 60));
        assert_eq!(after_a_night.ahead(at(20 * 3600)), None);
        let now = days(100);
        let after_a_season = believed.advanced(now, up("b", 60));
        assert_eq!(after_a_season.retention_time(now), at(60 + 86_400));
        assert!(after_a_season.ahead(now).is_some());
        let confirmed = BelievedClock::at(now, up("b", 70));
        assert_eq!(confirmed.advanced(now, up("b", 70)).ahead(now), None);
    }

    /// A machine without a battery for its clock starts in the past, and is set right within the minute.
    #[test]
    fn a_clock_that_is_behind_for_a_while_uses_nothing_up() {
        let believed = BelievedClock::at(days(10), up("a", DAY));
        let behind = believed.advanced(days(-9000), up("b", 5));
        assert_eq!(behind.retention_time(days(-9000)), days(-9000), "the smaller of both");
        let now = at(10 * 86_400 + 8 * 3600);
        assert_eq!(behind.advanced(now, up("b", 20)).ahead(now), None);
        // And one that is behind for longer than the allowance.
        let behind = believed.advanced(days(3), up("a", 2 * DAY)).advanced(days(4), up("a", 30 * DAY));
        let now = days(39);
        assert_eq!(behind.advanced(now, up("a", 30 * DAY)).ahead(now), None);
    }

    #[test]
    fn a_machine_that_does_not_name_its_starts_is_seen_to_have_started() {
        let believed = BelievedClock::at(at(0), up("", 5000)).advanced(at(86_400), up("", 5000));
        assert_eq!(believed.allowance, Duration::ZERO);
        let believed = believed.advanced(days(2), up("", 10));
        assert_eq!(believed.ahead(days(2)), None);
    }
}
