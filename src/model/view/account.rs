//! Wallets and virtual IBANs.

use super::field::{State, view};
use crate::model::EntityKey;

view! {
    /// A wallet that is ready for use (`account.activated`).
    ///
    /// ```
    /// use ralio_relay::model::EventType;
    /// use ralio_relay::model::view::View;
    ///
    /// let event_type = EventType::canonical("account_activated").unwrap();
    /// let body = br#"{"id": "evt-1", "event": "account_activated", "data": {"accountId": "acc-1"}}"#;
    /// let Some(View::Account(account)) = View::of(&event_type, body) else { panic!("it fits") };
    /// assert_eq!(account.account_id.as_str(), "acc-1");
    /// ```
    Account {
        /// The account.
        account_id: EntityKey = "accountId",
        /// Whose it is.
        user_id: Option<EntityKey> = "userId" | "user_id",
    }
}

view! {
    /// A virtual IBAN (`viban.*`).
    ///
    /// ```
    /// use ralio_relay::model::EventType;
    /// use ralio_relay::model::view::View;
    ///
    /// let event_type = EventType::canonical("viban_failed").unwrap();
    /// let body = br#"{"eventId": "evt-1", "eventType": "viban_failed", "data": {
    ///     "vibanId": "v-1", "accountId": "acc-1", "rail": "SEPA", "status": "FAILED", "reason": "Rejected by the bank"}}"#;
    /// let Some(View::Viban(viban)) = View::of(&event_type, body) else { panic!("it fits") };
    /// assert_eq!(viban.rail.as_deref(), Some("SEPA"));
    /// assert_eq!(viban.reason.as_deref(), Some("Rejected by the bank"));
    /// ```
    Viban {
        /// The virtual IBAN's id.
        viban_id: EntityKey = "vibanId",
        /// The account behind it.
        account_id: Option<EntityKey> = "accountId",
        /// `SEPA` or `ACH`.
        rail: Option<String> = "rail",
        /// How it stands.
        status: Option<State> = "status" | "state",
        /// The number.
        iban: Option<String> = "iban",
        /// The bank's code.
        bic: Option<String> = "bic",
        /// Why it failed or ended.
        reason: Option<String> = "reason",
    }
}
