//! Where in its life an event finds its entity.

use super::{Category, EventType};

/// The step of a lifecycle that an event reports. An [`Open`](Self::Open) event that arrives after a
/// [`Final`](Self::Final) one of the same entity is stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// No step: the event's category has no lifecycle, or neither its type nor its state says which.
    None,
    /// Under way: `PROCESSING`.
    Open,
    /// Over: `COMPLETED` or `FAILED`.
    Final,
}

impl Phase {
    /// Money moves in steps; nothing else does. The type decides, and the state (in either case) only where the type
    /// does not tell.
    ///
    /// ```
    /// use ralio_relay::model::{EventType, Phase};
    /// let phase = |raw, state| Phase::of(&EventType::canonical(raw).unwrap(), state);
    /// assert_eq!(phase("payin_processing", Some("COMPLETED")), Phase::Open);
    /// assert_eq!(phase("payout.completed", None), Phase::Final);
    /// assert_eq!(phase("transfer.updated", Some("FAILED")), Phase::Final);
    /// assert_eq!(phase("kyc.session_failed", Some("FAILED")), Phase::None);
    /// ```
    pub fn of(event_type: &EventType, state: Option<&str>) -> Self {
        match event_type.category() {
            Category::Payin | Category::Payout | Category::Transfer => {}
            Category::Kyc | Category::Account | Category::Other => return Self::None,
        }
        event_type.step().and_then(step).or_else(|| state.and_then(step)).unwrap_or(Self::None)
    }
}

fn step(text: &str) -> Option<Phase> {
    if text.eq_ignore_ascii_case("processing") {
        Some(Phase::Open)
    } else if text.eq_ignore_ascii_case("completed") || text.eq_ignore_ascii_case("failed") {
        Some(Phase::Final)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phase(raw: &str, state: Option<&str>) -> Phase {
        Phase::of(&EventType::canonical(raw).unwrap(), state)
    }

    #[test]
    fn money_moves_from_processing_to_its_end() {
        for category in ["payin", "payout", "transfer"] {
            assert_eq!(phase(&format!("{category}_processing"), None), Phase::Open);
            assert_eq!(phase(&format!("{category}_completed"), None), Phase::Final);
            assert_eq!(phase(&format!("{category}.failed"), None), Phase::Final);
            assert_eq!(phase(&format!("{category}.processing.v2"), None), Phase::Open);
            assert_eq!(phase(&format!("{category}_completed.v2"), None), Phase::Final);
        }
    }

    #[test]
    fn the_state_counts_only_where_the_type_does_not_tell() {
        assert_eq!(phase("payin.completed", Some("PROCESSING")), Phase::Final);
        assert_eq!(phase("payin.updated", Some("PROCESSING")), Phase::Open);
        assert_eq!(phase("payin", Some("completed")), Phase::Final);
        assert_eq!(phase("payin.updated", Some("PENDING")), Phase::None);
        assert_eq!(phase("payin.updated", None), Phase::None);
    }

    #[test]
    fn nothing_else_has_phases() {
        for raw in ["kyc_session_failed", "viban_failed", "account.completed", "order.processing", "unknown"] {
            assert_eq!(phase(raw, Some("PROCESSING")), Phase::None);
        }
    }
}
