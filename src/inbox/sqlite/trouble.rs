//! Whether the inbox can write, and what the log says of it. On a disk that is nearly full, small writes work while larger
//! ones fail: the log must not say that all is well between two of them.

use std::time::{Duration, Instant};

/// For so long no write may have failed before the log says that the inbox can write again.
const HOLD: Duration = Duration::from_secs(5);
/// Between two lines about writes that keep failing.
const REPEAT: Duration = Duration::from_secs(60);

/// Writes that fail.
#[derive(Default)]
pub(super) struct Trouble {
    /// Why the last write failed; `None` = it worked.
    why: Option<String>,
    /// What the log was told; `None` = nothing that is not over.
    told: Option<Told>,
}

/// Trouble that the log was told of.
struct Told {
    /// When the first write failed.
    since: Instant,
    last_failure: Instant,
    last_line: Instant,
    /// Writes that failed.
    failures: u64,
}

/// What the log is told.
#[derive(Debug, PartialEq, Eq)]
enum Line {
    First,
    Still { failures: u64 },
    Over { failures: u64, seconds: u64 },
}

impl Trouble {
    /// Why writes fail at the moment.
    pub(super) fn why(&self) -> Option<&str> {
        self.why.as_deref()
    }

    /// A write has failed.
    pub(super) fn failed(&mut self, why: String, now: Instant) {
        let line = self.count(now);
        match line {
            Some(Line::First) => tracing::error!(why, "the inbox cannot write: senders are answered 503"),
            Some(Line::Still { failures }) => {
                tracing::error!(why, failures, "the inbox still cannot write: senders are answered 503");
            }
            Some(Line::Over { .. }) | None => {}
        }
        self.why = Some(why);
    }

    /// A write has worked.
    pub(super) fn worked(&mut self) {
        self.why = None;
    }

    /// Tells the log once the trouble is over.
    pub(super) fn look(&mut self, now: Instant) {
        if let Some(Line::Over { failures, seconds }) = self.end(now) {
            tracing::info!(failures, seconds, "the inbox can write again");
        }
    }

    fn count(&mut self, now: Instant) -> Option<Line> {
        let Some(told) = &mut self.told else {
            self.told = Some(Told { since: now, last_failure: now, last_line: now, failures: 1 });
            return Some(Line::First);
        };
        told.failures += 1;
        told.last_failure = now;
        if now.saturating_duration_since(told.last_line) < REPEAT {
            return None;
        }
        told.last_line = now;
        Some(Line::Still { failures: told.failures })
    }

    fn end(&mut self, now: Instant) -> Option<Line> {
        let is_over = |told: &Told| now.saturating_duration_since(told.last_failure) >= HOLD;
        if self.why.is_some() || !self.told.as_ref().is_some_and(is_over) {
            return None;
        }
        let told = self.told.take()?;
        let seconds = told.last_failure.saturating_duration_since(told.since).as_secs();
        Some(Line::Over { failures: told.failures, seconds })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A nearly full disk: in each quarter of a second one write fails and one works.
    #[test]
    fn trouble_that_comes_and_goes_is_told_once_a_minute() {
        let (mut trouble, start) = (Trouble::default(), Instant::now());
        let mut lines = Vec::new();
        for tick in 0..480 {
            let now = start + Duration::from_millis(250 * tick);
            lines.extend(trouble.count(now));
            trouble.why = Some("full".to_owned());
            trouble.worked();
            assert_eq!(trouble.why(), None, "it is ready as soon as a write works");
            lines.extend(trouble.end(now));
        }
        assert_eq!(lines, [Line::First, Line::Still { failures: 241 }]);
        let last = start + Duration::from_millis(250 * 479);
        assert_eq!(trouble.end(last + HOLD - Duration::from_millis(1)), None);
        assert_eq!(trouble.end(last + HOLD), Some(Line::Over { failures: 480, seconds: 119 }));
        assert_eq!(trouble.end(last + HOLD), None);
        assert_eq!(trouble.count(last + HOLD), Some(Line::First));
    }

    #[test]
    fn it_is_not_over_while_the_last_write_failed() {
        let (mut trouble, start) = (Trouble::default(), Instant::now());
        trouble.failed("full".to_owned(), start);
        assert_eq!(trouble.end(start + 10 * HOLD), None);
        trouble.worked();
        assert_eq!(trouble.end(start + 10 * HOLD), Some(Line::Over { failures: 1, seconds: 0 }));
    }
}
