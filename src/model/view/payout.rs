//! Money going out.

use super::field::{Json, State, view};
use super::money::Amounts;
use super::payin::Failure;
use crate::model::EntityKey;

view! {
    /// Money going out to a bank account or a crypto wallet. Carries personal data.
    ///
    /// ```
    /// use ralio_relay::model::EventType;
    /// use ralio_relay::model::view::View;
    ///
    /// let event_type = EventType::canonical("payout.processing").unwrap();
    /// let body = br#"{"id": "evt-1", "event": "payout.processing", "data": {
    ///     "status": "PROCESSING", "payoutType": "bankPayout", "orderId": "ord-2",
    ///     "source": {"type": "account", "debitedAccountId": "acc-1", "debitedUserId": "usr-1"},
    ///     "destination": {"type": "bankAccount", "beneficiary": {"name": "Jane", "address": {"city": "Madrid"}}}}}"#;
    /// let Some(View::Payout(payout)) = View::of(&event_type, body) else { panic!("it fits") };
    /// assert_eq!(payout.status.unwrap().as_str(), "PROCESSING");
    /// assert_eq!(payout.source.unwrap().debited_account_id.unwrap().as_str(), "acc-1");
    /// let beneficiary = payout.destination.unwrap().beneficiary.unwrap();
    /// assert_eq!(beneficiary.address.unwrap().get(), r#"{"city": "Madrid"}"#);
    /// ```
    Payout {
        /// The order; it stays the same from `payout.processing` on.
        order_id: EntityKey = "orderId",
        /// `PROCESSING`, `COMPLETED` or `FAILED`.
        status: Option<State> = "status" | "state",
        /// `bankPayout` or `cryptoPayout`.
        payout_type: Option<String> = "payoutType",
        /// The merchant's own reference.
        own_reference: Option<String> = "ownReference",
        /// Where it comes from.
        source: Option<PayoutSource> = "source",
        /// Where it goes to.
        destination: Option<PayoutDestination> = "destination",
        /// How much.
        amounts: Option<Amounts> = "amounts",
        /// Why it failed.
        failure: Option<Failure> = "failure",
    }
}

view! {
    /// Where a payout comes from.
    PayoutSource {
        /// `account`
        kind: Option<String> = "type",
        /// The account debited.
        debited_account_id: Option<EntityKey> = "debitedAccountId",
        /// Whose account that is.
        debited_user_id: Option<EntityKey> = "debitedUserId",
    }
}

view! {
    /// Where a payout goes to.
    PayoutDestination {
        /// Such as `bankAccount`.
        kind: Option<String> = "type",
        /// What kind of number `account_number` is, such as `iban`.
        routing_type: Option<String> = "routingType",
        /// Number of the account, or address of the wallet, that it goes to.
        account_number: Option<String> = "accountNumber",
        /// The bank's SWIFT code (BIC).
        swift: Option<String> = "swift",
        /// Who gets it.
        beneficiary: Option<Beneficiary> = "beneficiary",
    }
}

view! {
    /// Who gets a payout.
    Beneficiary {
        /// Given name, or a company's name.
        name: Option<String> = "name",
        /// Surname.
        surname: Option<String> = "surname",
        /// Identity document.
        document: Option<Json> = "document",
        /// E-mail, telephone.
        contact: Option<Json> = "contact",
        /// Postal address.
        address: Option<Json> = "address",
    }
}
