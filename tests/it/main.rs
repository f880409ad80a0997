//! Integration tests: one binary, so that they link once and share one broker.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should fail where it stands")]

mod harness;
mod sink_contract;
