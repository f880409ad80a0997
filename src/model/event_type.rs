//! Canonical event types and their categories.

use std::fmt;
use std::sync::Arc;

/// What kind of business an event belongs to; decided by the first segment of its type.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Category {
    /// Money coming in.
    Payin,
    /// Money going out.
    Payout,
    /// Money moving between two accounts at Ralio.
    Transfer,
    /// Verification of users, businesses (`kyb`) and their related parties.
    Kyc,
    /// Wallets and virtual IBANs.
    Account,
    /// Anything else: unknown types are ordinary, and are stored and delivered like any other.
    Other,
}

impl Category {
    /// Every category, in the order of the provider's documentation.
    pub const ALL: [Self; 6] = [Self::Payin, Self::Payout, Self::Transfer, Self::Kyc, Self::Account, Self::Other];

    /// The name in configuration, metrics and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Payin => "payin",
            Self::Payout => "payout",
            Self::Transfer => "transfer",
            Self::Kyc => "kyc",
            Self::Account => "account",
            Self::Other => "other",
        }
    }
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A canonical event type: dotted, such as `payin.completed`. Both spellings on the wire are one type.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventType(Arc<str>);

impl EventType {
    /// The type of a signed body that is not JSON.
    pub const MALFORMED: &'static str = "malformed";
    /// The type of a signed body whose type is missing or unusable.
    pub const UNKNOWN: &'static str = "unknown";

    /// The canonical form of a type as the wire spells it. `None` where it could not be a routing key or a header:
    /// empty, over 128 bytes, or with anything but visible ASCII.
    ///
    /// ```
    /// use ralio_relay::model::EventType;
    /// let canonical = |raw| EventType::canonical(raw).map(|t| t.to_string());
    /// assert_eq!(canonical("payin_completed").as_deref(), Some("payin.completed"));
    /// assert_eq!(canonical("payin.completed").as_deref(), Some("payin.completed"));
    /// assert_eq!(canonical("kyc_state_updated").as_deref(), Some("kyc.state_updated"));
    /// assert_eq!(canonical("related_party_kyc_session_created").as_deref(), Some("related_party.kyc_session_created"));
    /// assert_eq!(canonical("naïve"), None);
    /// ```
    pub fn canonical(raw: &str) -> Option<Self> {
        const RELATED_PARTY: &str = "related_party";
        if raw.is_empty() || raw.len() > 128 || !raw.bytes().all(|b| b.is_ascii_graphic()) {
            return None;
        }
        if raw.contains('.') {
            return Some(Self(raw.into()));
        }
        let prefix =
            if raw.starts_with("related_party_") { RELATED_PARTY.len() } else { raw.find('_').unwrap_or(raw.len()) };
        match (raw.get(..prefix), raw.get(prefix + 1..)) {
            (Some(head), Some(tail)) => Some(Self(format!("{head}.{tail}").into())),
            _ => Some(Self(raw.into())),
        }
    }

    /// [`Self::MALFORMED`].
    pub fn malformed() -> Self {
        Self(Self::MALFORMED.into())
    }

    /// [`Self::UNKNOWN`].
    pub fn unknown() -> Self {
        Self(Self::UNKNOWN.into())
    }

    /// The type as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The category by prefix.
    pub fn category(&self) -> Category {
        match self.0.split('.').next().unwrap_or_default() {
            "payin" => Category::Payin,
            "payout" => Category::Payout,
            "transfer" => Category::Transfer,
            "kyc" | "kyb" | "related_party" => Category::Kyc,
            "account" | "viban" => Category::Account,
            _ => Category::Other,
        }
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn canonical(raw: &str) -> EventType {
        EventType::canonical(raw).unwrap()
    }

    #[test]
    fn both_spellings_are_one_type_of_one_category() {
        for (dotted, underscored, category) in [
            ("payin.completed", "payin_completed", Category::Payin),
            ("payout.processing", "payout_processing", Category::Payout),
            ("transfer.completed", "transfer_completed", Category::Transfer),
            ("kyc.session_manual_review", "kyc_session_manual_review", Category::Kyc),
            ("kyb.state_updated", "kyb_state_updated", Category::Kyc),
            ("related_party.kyc_session_created", "related_party_kyc_session_created", Category::Kyc),
            ("account.activated", "account_activated", Category::Account),
            ("viban.deactivated", "viban_deactivated", Category::Account),
            ("card.issued", "card_issued", Category::Other),
        ] {
            assert_eq!(canonical(underscored), canonical(dotted));
            assert_eq!(canonical(dotted).as_str(), dotted);
            assert_eq!(canonical(dotted).category(), category);
        }
    }

    #[test]
    fn odd_names_are_types_too() {
        for raw in ["payin", "_", ".", "related_party", "x_", "_x", &"x".repeat(128)] {
            assert!(EventType::canonical(raw).is_some(), "{raw}");
        }
        for raw in ["", "a b", "a\n", "é", "a\0", &"x".repeat(129)] {
            assert_eq!(EventType::canonical(raw), None, "{raw}");
        }
        assert_eq!(EventType::malformed().category(), Category::Other);
        assert_eq!(EventType::unknown().category(), Category::Other);
    }

    proptest! {
        #[test]
        fn canonical_is_idempotent(raw in "[a-z_.]{0,20}|related_party[a-z_.]{0,9}|\\PC{0,20}") {
            if let Some(once) = EventType::canonical(&raw) {
                prop_assert_eq!(EventType::canonical(once.as_str()), Some(once));
            }
        }
    }
}
