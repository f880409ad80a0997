//! How many bytes are written to the quarantine in a minute: strangers must not wear out the disk.

use std::time::{Duration, Instant};

use crate::inbox::NoRoom;

/// In this time as many bytes may be written as there are in all.
const WINDOW: Duration = Duration::from_secs(60);

/// Bytes that may be written, which come back evenly.
pub(super) struct Budget {
    most: u64,
    left: u64,
    /// Up to when what came back is counted.
    counted: Option<Instant>,
}

impl Budget {
    /// All of them may be written at once.
    pub(super) fn per_minute(most: u64) -> Self {
        Self { most, left: most, counted: None }
    }

    /// Takes so many bytes, where they are left.
    pub(super) fn spend(&mut self, bytes: u64, now: Instant) -> Result<(), NoRoom> {
        let since = now.saturating_duration_since(*self.counted.get_or_insert(now));
        let back = u128::from(self.most) * since.as_micros() / WINDOW.as_micros();
        // Less than a byte must not be lost each time.
        if back > 0 {
            self.left = self.most.min(self.left.saturating_add(u64::try_from(back).unwrap_or(u64::MAX)));
            self.counted = Some(now);
        }
        self.left = self.left.checked_sub(bytes).ok_or(NoRoom::Rate)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_spent_comes_back_within_a_minute() {
        let (mut budget, start) = (Budget::per_minute(6000), Instant::now());
        assert_eq!(budget.spend(5000, start), Ok(()));
        assert_eq!(budget.spend(2000, start), Err(NoRoom::Rate));
        assert_eq!(budget.spend(1000, start), Ok(()), "what was refused costs nothing");
        assert_eq!(budget.spend(1001, start + Duration::from_secs(10)), Err(NoRoom::Rate));
        assert_eq!(budget.spend(1000, start + Duration::from_secs(10)), Ok(()));
        assert_eq!(budget.spend(6001, start + Duration::from_secs(3600)), Err(NoRoom::Rate));
        assert_eq!(budget.spend(6000, start + Duration::from_secs(3600)), Ok(()), "no more than all of it");
    }

    #[test]
    fn what_comes_back_in_small_steps_comes_back_whole() {
        let (mut budget, start) = (Budget::per_minute(6000), Instant::now());
        assert_eq!(budget.spend(6000, start), Ok(()));
        for step in 1..60_000 {
            assert_eq!(budget.spend(6001, start + Duration::from_millis(step)), Err(NoRoom::Rate));
        }
        let left = budget.left;
        assert!((5900..=6000).contains(&left), "{left}");
    }
}
