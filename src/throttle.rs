//! Log lines about what strangers send, and about what fails by the thousand, at a bounded rate.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lines in a window, unless asked otherwise.
const LINES: u32 = 20;
/// Its length.
const WINDOW: Duration = Duration::from_secs(1);

/// Lets a bounded number of lines through in a second, or another time, and counts the others.
pub struct Throttle {
    most: u32,
    window: Duration,
    state: Mutex<State>,
}

impl Default for Throttle {
    fn default() -> Self {
        Self::lines_in(LINES, WINDOW)
    }
}

#[derive(Default)]
struct State {
    since: Option<Instant>,
    lines: u32,
    suppressed: u64,
}

impl Throttle {
    /// Lets so many lines through in each window of this length.
    pub fn lines_in(most: u32, window: Duration) -> Self {
        Self { most, window, state: Mutex::default() }
    }

    /// How many lines were held back since the last one that was let through; `None` = hold this one back too.
    pub fn admit(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.since.is_none_or(|since| now.saturating_duration_since(since) >= self.window) {
            state.since = Some(now);
            state.lines = 0;
        }
        if state.lines == self.most {
            state.suppressed += 1;
            return None;
        }
        state.lines += 1;
        Some(std::mem::take(&mut state.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_and_counted() {
        let (throttle, start) = (Throttle::default(), Instant::now());
        let admitted = (0..LINES + 7).filter_map(|_| throttle.admit(start)).count();
        assert_eq!(admitted, LINES as usize);
        assert_eq!(throttle.admit(start + WINDOW), Some(7), "the next window says what was held back");
        assert_eq!(throttle.admit(start + WINDOW), Some(0));
    }
}
