//! What is odd about the names that the configuration has for its sinks.

use crate::inbox::{SinkRecord, unconfigured};
use crate::model::SinkName;

/// Warns of each sink that something waits for, and that is not configured.
pub(super) fn tell_unconfigured(records: &[SinkRecord], wanted: &[SinkName]) {
    for found in unconfigured(records, wanted) {
        tracing::warn!(sink = %found.record.name, advice = found.advice(), "{}", found.finding());
    }
}
