//! What a stranger may send, and what a merchant's own data may hold.

mod alarms;
mod api;
mod commands;
mod fuzzed;
mod logs;
mod metrics;
mod quarantine;
mod requests;
mod secrets;
mod signatures;
mod through_a_proxy;
mod tls;
