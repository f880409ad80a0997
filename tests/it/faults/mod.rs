//! What must hold, whatever breaks: each invariant of `src/ARCHITECTURE.md`, proven by breaking things. Every scenario runs
//! for a few rounds here, and at length in `tests/campaign`, where its test's name begins with `campaign_`.

#[cfg(feature = "amqp")]
mod broker;
mod copies;
mod kills;
mod order;
mod slow;
mod soak;
