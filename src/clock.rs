//! Now, as a value: rooms take it instead of asking the system, so that tests can turn it. And moments as people write
//! them.

use std::str::FromStr;
use std::time::Duration;

use jiff::civil::{Date, DateTime};
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};
use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp, Zoned};
use rustix::time::{ClockId, clock_gettime};

/// A source of the current time.
pub trait Clock: Send + Sync {
    /// The time of day. It may jump in either direction: nothing may rely on its being monotonic.
    fn now(&self) -> Timestamp;

    /// How long the machine has been up. Nobody can set this, so it proves that at least so much time has passed.
    fn uptime(&self) -> Uptime {
        Uptime::now()
    }
}

/// How long a machine has been up, and since which of its starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uptime {
    /// Another one after each start of the machine. Empty where the system does not tell.
    pub boot: String,
    /// Time since that start, with what the machine has slept.
    pub elapsed: Duration,
}

impl Uptime {
    /// What the system says.
    pub fn now() -> Self {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let elapsed = Duration::try_from(clock_gettime(ClockId::Boottime)).unwrap_or_default();
        Self { boot: boot.trim().to_owned(), elapsed }
    }
}

/// The system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// RFC 3339, or a date for its first moment in UTC.
pub fn instant(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    text.parse::<Timestamp>().ok().or_else(|| {
        let date: Date = text.parse().ok().filter(|_| text.len() == "2026-01-31".len())?;
        Some(date.to_zoned(TimeZone::UTC).ok()?.timestamp())
    })
}

/// A moment as people write it. What it means may hang on the zone that they have in mind, and on now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Moment {
    /// With an offset or a zone of its own.
    At(Timestamp),
    /// The first moment of a day.
    Day(Date),
    /// What the clocks show.
    Local(DateTime),
    /// The first moment of the day that is now.
    Today,
    /// The first moment of the day before.
    Yesterday,
    /// So long before now.
    Ago(SignedDuration),
}

/// A text that is no [`Moment`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a time: write 2026-01-31, '2026-01-31 10:00', 2026-01-31T10:00:00Z, today, yesterday, 24h or '7d ago'")]
pub struct NoMoment;

/// Why a [`Moment`] is none in a zone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoSuchMoment {
    /// Clocks go back over it.
    #[error("clocks go back then, and show {local} twice: write {first} or {second}")]
    Twice {
        /// As it was written.
        local: DateTime,
        /// Before they go back.
        first: String,
        /// After that.
        second: String,
    },
    /// Clocks go forward over it.
    #[error("clocks go forward then, and never show {0}: write a time before or after that")]
    Never(DateTime),
    /// Before the year -9999, or after 9999.
    #[error("{0} is too far away")]
    TooFar(DateTime),
}

impl FromStr for Moment {
    type Err = NoMoment;

    fn from_str(text: &str) -> Result<Self, NoMoment> {
        let text = text.trim();
        match text {
            "today" => return Ok(Self::Today),
            "yesterday" => return Ok(Self::Yesterday),
            _ => {}
        }
        let begins_with_a_day = matches!(text.as_bytes(), [_, _, _, _, b'-', _, _, b'-', _, _, ..]);
        if begins_with_a_day {
            let with_offset = || text.parse().map(Self::At).ok();
            let with_zone = || text.parse::<Zoned>().map(|at| Self::At(at.timestamp())).ok();
            let day = || text.parse().map(Self::Day).ok().filter(|_| text.len() == "2026-01-31".len());
            // A zone that is not known must not count as none.
            let local = || text.parse().map(Self::Local).ok().filter(|_| !text.contains('['));
            return with_offset().or_else(with_zone).or_else(day).or_else(local).ok_or(NoMoment);
        }
        let span: Span = text.parse().map_err(|_| NoMoment)?;
        let back = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| NoMoment)?;
        Ok(Self::Ago(back.abs()))
    }
}

impl Moment {
    /// When it is, for somebody in this zone.
    pub fn at(self, now: Timestamp, zone: &TimeZone) -> Result<Timestamp, NoSuchMoment> {
        let first_of = |day: Date| {
            let midnight = day.at(0, 0, 0, 0);
            // Where clocks go forward at midnight the day begins later; where they go back, the first one is meant.
            zone.to_timestamp(midnight).map_err(|_| NoSuchMoment::TooFar(midnight))
        };
        let today = || now.to_zoned(zone.clone()).date();
        match self {
            Self::At(at) => Ok(at),
            Self::Day(day) => first_of(day),
            Self::Today => first_of(today()),
            Self::Yesterday => first_of(today().yesterday().unwrap_or(Date::MIN)),
            Self::Ago(back) => Ok(now.saturating_sub(back).unwrap_or(Timestamp::MIN)),
            Self::Local(local) => {
                let found = zone.to_ambiguous_timestamp(local);
                let told = |offset: Offset| {
                    offset.to_timestamp(local).map(|at| at.display_with_offset(offset).to_string()).unwrap_or_default()
                };
                match found.offset() {
                    AmbiguousOffset::Unambiguous { offset } => {
                        offset.to_timestamp(local).map_err(|_| NoSuchMoment::TooFar(local))
                    }
                    AmbiguousOffset::Gap { .. } => Err(NoSuchMoment::Never(local)),
                    AmbiguousOffset::Fold { before, after } => {
                        Err(NoSuchMoment::Twice { local, first: told(before), second: told(after) })
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str, zone: &str) -> String {
        let now = "2026-11-22T02:00:00Z".parse().unwrap();
        let zone = TimeZone::get(zone).unwrap();
        text.parse::<Moment>().map_or_else(
            |error| error.to_string(),
            |moment| moment.at(now, &zone).map_or_else(|error| error.to_string(), |at| at.to_string()),
        )
    }

    #[test]
    fn times_are_instants_days_local_times_or_spans_back() {
        for (text, expected) in [
            ("2026-01-31T10:00:00+02:00", "2026-01-31T08:00:00Z"),
            ("2026-01-31 10:00:00Z", "2026-01-31T10:00:00Z"),
            ("2026-01-31T10:00[America/Bogota]", "2026-01-31T15:00:00Z"),
            ("24h", "2026-11-21T02:00:00Z"),
            ("5m", "2026-11-22T01:55:00Z"),
            ("7d ago", "2026-11-15T02:00:00Z"),
            ("1h 30m", "2026-11-22T00:30:00Z"),
        ] {
            for zone in ["UTC", "America/Bogota", "Europe/Berlin"] {
                assert_eq!(at(text, zone), expected, "{text} in {zone}");
            }
        }
        for bad in [
            "tomorrow",
            "",
            "24",
            "1mo",
            "99999999d",
            "20260131",
            "2026-13-01",
            "2026-01-31T10:00[Nowhere/City]",
            "10:00",
        ] {
            assert!(at(bad, "UTC").starts_with("not a time"), "{bad}: {}", at(bad, "UTC"));
        }
    }

    #[test]
    fn days_and_local_times_are_those_of_the_zone() {
        for (text, zone, expected) in [
            ("2026-11-30", "UTC", "2026-11-30T00:00:00Z"),
            ("2026-11-30", "America/Bogota", "2026-11-30T05:00:00Z"),
            ("2026-11-29T19:00:00", "America/Bogota", "2026-11-30T00:00:00Z"),
            ("2026-11-30 00:49", "America/Bogota", "2026-11-30T05:49:00Z"),
            ("2026-11-30 00:49", "UTC", "2026-11-30T00:49:00Z"),
            // It is still the 21st there.
            ("today", "America/Bogota", "2026-11-21T05:00:00Z"),
            ("today", "UTC", "2026-11-22T00:00:00Z"),
            ("yesterday", "America/Bogota", "2026-11-20T05:00:00Z"),
            (" yesterday ", "UTC", "2026-11-21T00:00:00Z"),
        ] {
            assert_eq!(at(text, zone), expected, "{text} in {zone}");
        }
    }

    #[test]
    fn days_of_a_clock_change_are_as_long_as_they_are() {
        for (text, zone, expected) in [
            ("2026-03-29", "Europe/Berlin", "2026-03-28T23:00:00Z"),
            ("2026-03-30", "Europe/Berlin", "2026-03-29T22:00:00Z"),
            ("2026-10-25", "Europe/Berlin", "2026-10-24T22:00:00Z"),
            ("2026-10-26", "Europe/Berlin", "2026-10-25T23:00:00Z"),
            // Clocks go from 0:00 to 1:00, and there is no midnight.
            ("2026-04-24", "Africa/Cairo", "2026-04-23T22:00:00Z"),
            // They go from 1:00 to 0:00, and there are two.
            ("2026-11-01", "America/Havana", "2026-11-01T04:00:00Z"),
            ("2026-10-25 01:30", "Europe/Berlin", "2026-10-24T23:30:00Z"),
            ("2026-10-25 03:30", "Europe/Berlin", "2026-10-25T02:30:00Z"),
        ] {
            assert_eq!(at(text, zone), expected, "{text} in {zone}");
        }
        let twice = at("2026-10-25 02:30", "Europe/Berlin");
        assert!(twice.ends_with("write 2026-10-25T02:30:00+02:00 or 2026-10-25T02:30:00+01:00"), "{twice}");
        let never = at("2026-03-29T02:30", "Europe/Berlin");
        assert!(never.contains("never show 2026-03-29T02:30:00"), "{never}");
    }
}
