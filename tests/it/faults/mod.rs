//! What must hold, whatever breaks: each invariant of `src/ARCHITECTURE.md`, proven by breaking things. Every scenario runs
//! for a few rounds here, and at length in `tests/campaign`, where its test's name begins with `campaign_`.

mod adversity;
#[cfg(feature = "amqp")]
mod broker;
mod calls;
mod classes;
mod clock_jumps;
mod copies;
mod disk_full;
mod files_moved;
mod fsync_fails;
mod kills;
mod log;
mod mutants;
mod order;
mod outages;
mod parked;
mod power;
mod sender;
mod slow;
mod soak;
mod stale_secret;
mod strangers;
mod trace;
mod traced_order;
