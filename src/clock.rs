//! Now, as a value: rooms take it instead of asking the system, so that tests can turn it. And moments as people write
//! them.

use std::time::Duration;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span, SpanRelativeTo, Timestamp};
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

/// What to say of a text that is no [`moment`].
pub const NO_MOMENT: &str = "not a time: write 2026-01-31T10:00:00Z, 2026-01-31, 24h or '7d ago'";

/// An [`instant`], or a span such as `24h` that counts back from `now`.
pub fn moment(text: &str, now: Timestamp) -> Option<Timestamp> {
    instant(text).or_else(|| {
        let span: Span = text.trim().parse().ok()?;
        let back = span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?.abs();
        now.checked_sub(back).ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_instants_dates_or_spans_back() {
        let now = "2026-11-22T12:00:00Z".parse().unwrap();
        let at = |text: &str| moment(text, now).map(|at| at.to_string());
        for (text, expected) in [
            ("2026-01-31T10:00:00+02:00", "2026-01-31T08:00:00Z"),
            ("2026-01-31", "2026-01-31T00:00:00Z"),
            ("24h", "2026-11-21T12:00:00Z"),
            ("7d ago", "2026-11-15T12:00:00Z"),
            ("1h 30m", "2026-11-22T10:30:00Z"),
        ] {
            assert_eq!(at(text).as_deref(), Some(expected), "{text}");
        }
        for bad in ["yesterday", "", "24", "1mo", "99999999d"] {
            assert_eq!(at(bad), None, "{bad}");
        }
    }
}
