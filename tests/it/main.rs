//! Integration tests: one binary, so that they link once and share one broker.

mod harness;
mod sink_contract;
