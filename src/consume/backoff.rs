//! When to try again: capped exponential backoff with full jitter.

use std::time::Duration;

/// Capped exponential backoff, and when to stop.
#[derive(Clone, Copy, Debug)]
pub struct Retry {
    /// Delay after the first failure.
    pub initial: Duration,
    /// The longest delay.
    pub max: Duration,
    /// Full jitter: each delay is drawn between zero and its bound.
    pub jitter: bool,
    /// From an event's first attempt to its becoming a dead letter, without the time in which its consumer stood still.
    pub give_up_after: Duration,
    /// Consecutive failures over different entities that open the breaker, 1 to 1,000.
    pub breaker_after: usize,
    /// The longest wait between two tries of a sink that is down. What the far side asks for goes before it.
    pub probe_max: Duration,
    /// Parked events of one sink; at the bound reading stops.
    pub max_parked: usize,
}

impl Retry {
    /// The delay after the `failures`th failure (1 for the first). `chance` is drawn from 0 to 1. What the far side
    /// asked for is the least; nothing is longer than [`Self::max`].
    pub fn delay(&self, failures: u32, asked: Option<Duration>, chance: f64) -> Duration {
        let doublings = failures.saturating_sub(1).min(63);
        let factor = u32::try_from(1_u64 << doublings.min(31)).unwrap_or(u32::MAX);
        let bound = self.initial.saturating_mul(factor).min(self.max);
        let delay = if self.jitter { bound.mul_f64(chance.clamp(0.0, 1.0)) } else { bound };
        delay.max(asked.unwrap_or_default()).min(self.max)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn retry(jitter: bool) -> Retry {
        Retry {
            initial: Duration::from_secs(1),
            max: Duration::from_secs(600),
            jitter,
            give_up_after: Duration::from_secs(1000),
            breaker_after: 10,
            probe_max: Duration::from_secs(15),
            max_parked: 100_000,
        }
    }

    #[test]
    fn it_doubles_up_to_the_cap() {
        let delays: Vec<u64> = (1..=12).map(|n| retry(false).delay(n, None, 0.5).as_secs()).collect();
        assert_eq!(delays, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600]);
    }

    #[test]
    fn the_far_sides_wish_is_honoured_up_to_the_cap() {
        let asked = |seconds| retry(false).delay(1, Some(Duration::from_secs(seconds)), 0.5).as_secs();
        assert_eq!((asked(0), asked(30), asked(86_400)), (1, 30, 600));
    }

    proptest! {
        #[test]
        fn no_delay_is_out_of_bounds(failures in 0..u32::MAX, asked in proptest::option::of(0..100_000_u64), chance in 0.0..1.0) {
            let asked = asked.map(Duration::from_secs);
            let delay = retry(true).delay(failures, asked, chance);
            prop_assert!(delay <= Duration::from_secs(600));
            prop_assert!(delay >= asked.unwrap_or_default().min(Duration::from_secs(600)));
        }
    }
}
