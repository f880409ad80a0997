//! One consumer per sink, and one per replay: cursor, routing, deliveries in flight, parking, breaker, dead letters.
//!
//! `core` decides, without I/O, clock or chance; [`Consumer`] does what it says.

mod backoff;
mod breaker;
mod core;
#[cfg(test)]
mod core_tests;
mod faults;
mod gauges;
mod handle;
mod lag;
mod lanes;
mod ledger;
mod pace;
pub mod plan;
mod reading;
mod runner;
#[cfg(test)]
mod runner_tests;
#[cfg(test)]
mod simulation;
mod slow_start;
mod still;
mod turns;

use std::time::Duration;

pub use backoff::Retry;
pub use handle::Handle;
use jiff::Timestamp;
pub use lag::Lag;
pub use pace::Rate;
pub use reading::subject;
pub use runner::{Consumer, Deps, End};

use crate::model::{SinkName, Start};
use crate::route::Route;

/// The checked settings of one consumer.
#[derive(Clone, Debug)]
pub struct Config {
    /// The sink's name; the cursor hangs on it.
    pub name: SinkName,
    /// What the sink wants.
    pub route: Route,
    /// In what order.
    pub ordering: Ordering,
    /// Where a new sink begins.
    pub start: Start,
    /// Deliveries in flight, 1 to 10,000.
    pub concurrency: usize,
    /// After this, a delivery's outcome is unknown and it is made again.
    pub timeout: Duration,
    /// Attempts in a second at most, of the live consumer and of replays together; `None` = no bound.
    pub rate: Option<Rate>,
    /// When to try again, and when to stop.
    pub retry: Retry,
}

/// In what order a sink sees events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ordering {
    /// Events of one entity key in `seq` order, one at a time; different keys side by side.
    #[default]
    Key,
    /// No order: full parallelism.
    None,
}

/// A time that is out of reach is the last one there is.
fn later(at: Timestamp, duration: Duration) -> Timestamp {
    at.saturating_add(duration).unwrap_or(Timestamp::MAX)
}
