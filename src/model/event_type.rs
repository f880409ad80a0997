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

    /// The canonical form of a type as the wire spells it: in lower case, without blanks at its ends, with a dot behind its
    /// first part. Behind a known category `-` counts as `_` in the second part; what follows that stays. `None` where it
    /// could not be a routing key or a header: empty, over 128 bytes, or with anything but visible ASCII.
    ///
    /// ```
    /// use ralio_relay::model::EventType;
    /// let canonical = |raw| EventType::canonical(raw).map(|t| t.to_string());
    /// assert_eq!(canonical("payin_completed").as_deref(), Some("payin.completed"));
    /// assert_eq!(canonical("Payin.Completed ").as_deref(), Some("payin.completed"));
    /// assert_eq!(canonical("payin_completed.v2").as_deref(), Some("payin.completed.v2"));
    /// assert_eq!(canonical("kyc-state-updated").as_deref(), Some("kyc.state_updated"));
    /// assert_eq!(canonical("related_party_kyc_session_created").as_deref(), Some("related_party.kyc_session_created"));
    /// assert_eq!(canonical("naïve"), None);
    /// ```
    pub fn canonical(raw: &str) -> Option<Self> {
        let raw = raw.trim();
        if !is_usable(raw) {
            return None;
        }
        let name = raw.to_ascii_lowercase();
        if let Some((head, tail)) = KNOWN_HEADS.iter().find_map(|head| Some((head, behind(&name, head)?))) {
            let second = tail.find('.').unwrap_or(tail.len());
            return Some(Self(format!("{head}.{}{}", tail[..second].replace('-', "_"), &tail[second..]).into()));
        }
        match name.split_once('_') {
            Some((head, tail)) if !name.contains('.') && name != RELATED_PARTY => {
                Some(Self(format!("{head}.{tail}").into()))
            }
            Some(_) | None => Some(Self(name.into())),
        }
    }

    /// A type as it is stored. Those of former versions keep what they were called. `None` where it can be none.
    pub fn stored(text: &str) -> Option<Self> {
        is_usable(text).then(|| Self(text.into()))
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

    /// What happened: the last part behind the first one that is no version, which is `v` and digits. `None` where there is
    /// none.
    ///
    /// ```
    /// use ralio_relay::model::EventType;
    /// let step = |raw| EventType::canonical(raw).unwrap().step().map(str::to_owned);
    /// assert_eq!(step("payin.completed").as_deref(), Some("completed"));
    /// assert_eq!(step("payin_completed.v2").as_deref(), Some("completed"));
    /// assert_eq!(step("payin.v2"), None);
    /// ```
    pub fn step(&self) -> Option<&str> {
        let (_, behind) = self.0.split_once('.')?;
        behind.rsplit('.').find(|part| !is_version(part))
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

const RELATED_PARTY: &str = "related_party";

/// First parts that belong to a category.
const KNOWN_HEADS: [&str; 8] = ["payin", "payout", "transfer", "kyc", "kyb", RELATED_PARTY, "account", "viban"];

fn is_version(part: &str) -> bool {
    part.strip_prefix('v').is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

fn is_usable(name: &str) -> bool {
    (1..=128).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic())
}

/// What follows a first part and its separator.
fn behind<'a>(name: &'a str, head: &str) -> Option<&'a str> {
    let (first, tail) = name.split_at_checked(head.len())?;
    // `related-party` is spelled like that where dashes are used.
    let is_it = first == head || head == RELATED_PARTY && first == "related-party";
    tail.strip_prefix(['.', '_', '-']).filter(|_| is_it)
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
            ("payin.completed", "PAYIN_Completed", Category::Payin),
            ("payin.completed", " payin.completed\t", Category::Payin),
            ("payin.completed", "payin-completed", Category::Payin),
            ("payin.completed.v2", "Payin_Completed.V2", Category::Payin),
            ("payin.completed.v2-beta_1", "payin-completed.v2-beta_1", Category::Payin),
            ("kyc.session_manual_review", "kyc.session-manual-review", Category::Kyc),
            ("related_party.kyc_session_created", "related-party-kyc-session-created", Category::Kyc),
            ("related_party", "Related_Party", Category::Kyc),
            ("card-x.issued", "Card-X_issued", Category::Other),
            ("payins.completed", "payins_completed", Category::Other),
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
        for raw in ["", " ", "a b", "a\nb", "é", "a\0", &"x".repeat(129)] {
            assert_eq!(EventType::canonical(raw), None, "{raw}");
        }
        assert_eq!(EventType::malformed().category(), Category::Other);
        assert_eq!(EventType::unknown().category(), Category::Other);
    }

    #[test]
    fn a_version_is_no_step() {
        for (raw, step) in [
            ("payin.completed.v2", Some("completed")),
            ("payin.v2.completed", Some("completed")),
            ("payin.completed.v2.v10", Some("completed")),
            ("payin.completed.v", Some("v")),
            ("payin.completed.void", Some("void")),
            ("payin.v2", None),
            ("payin", None),
        ] {
            assert_eq!(canonical(raw).step(), step, "{raw}");
        }
    }

    #[test]
    fn what_is_stored_keeps_its_name() {
        for text in ["Payin.Completed", "payin_completed.v2", "kyc.session-failed"] {
            assert_eq!(EventType::stored(text).unwrap().as_str(), text);
        }
        assert_eq!(EventType::stored("Payin.Completed").unwrap().category(), Category::Other);
        assert_eq!(EventType::stored("payin completed"), None);
    }

    proptest! {
        #[test]
        fn canonical_is_idempotent(
            raw in "[a-zA-Z_.-]{0,20}|(payin|Kyc|related[_-]party)[a-zA-Z_.-]{0,9}|\\PC{0,20}"
        ) {
            if let Some(once) = EventType::canonical(&raw) {
                prop_assert_eq!(EventType::canonical(once.as_str()), Some(once));
            }
        }
    }
}
