//! Money coming in.

use super::field::{State, view};
use super::money::Amounts;
use crate::model::EntityKey;

view! {
    /// Money coming in from outside. Only `payin.completed` means that the funds are available.
    ///
    /// ```
    /// use ralio_relay::model::EventType;
    /// use ralio_relay::model::view::View;
    ///
    /// let event_type = EventType::canonical("payin_failed").unwrap();
    /// let body = br#"{"eventId": "evt-1", "eventType": "payin_failed", "data": {
    ///     "status": "FAILED", "payinType": "bankPayin", "orderId": "ord-1",
    ///     "amounts": {"receivedAmount": {"amount": 125000, "currency": "EUR"}},
    ///     "failure": {"code": "ACCOUNT_CLOSED", "reason": "The account is closed"}}}"#;
    /// let Some(View::Payin(payin)) = View::of(&event_type, body) else { panic!("it fits") };
    /// assert_eq!(payin.order_id.as_str(), "ord-1");
    /// assert_eq!(payin.payin_type.as_deref(), Some("bankPayin"));
    /// assert_eq!(payin.amounts.unwrap().received_amount.unwrap().amount, 125_000);
    /// assert_eq!(payin.failure.unwrap().code.as_deref(), Some("ACCOUNT_CLOSED"));
    /// ```
    Payin {
        /// The order; it stays the same from `payin.processing` on.
        order_id: EntityKey = "orderId",
        /// `PROCESSING`, `COMPLETED` or `FAILED`.
        status: Option<State> = "status" | "state",
        /// `bankPayin`, `cryptoPayin` or `cardPayin`.
        payin_type: Option<String> = "payinType",
        /// The merchant's own reference.
        own_reference: Option<String> = "ownReference",
        /// Where it comes from.
        source: Option<PayinSource> = "source",
        /// Where it goes to.
        destination: Option<PayinDestination> = "destination",
        /// How much.
        amounts: Option<Amounts> = "amounts",
        /// Why it failed.
        failure: Option<Failure> = "failure",
    }
}

view! {
    /// Where a payin comes from.
    PayinSource {
        /// Such as `bankAccount`.
        kind: Option<String> = "type",
        /// What kind of number `account_number` is, such as `iban`.
        routing_type: Option<String> = "routingType",
        /// Number of the account that it comes from.
        account_number: Option<String> = "accountNumber",
        /// What the payer wrote on the transfer.
        bank_concept_transfer: Option<String> = "bankConceptTransfer",
        /// Who paid.
        payer: Option<Payer> = "payer",
    }
}

view! {
    /// Who paid.
    Payer {
        /// Full name.
        name: Option<String> = "name",
        /// E-mail address.
        email: Option<String> = "email",
        /// Telephone number.
        phone: Option<String> = "phone",
    }
}

view! {
    /// Where a payin goes to.
    PayinDestination {
        /// `account`
        kind: Option<String> = "type",
        /// The account credited.
        credited_account_id: Option<EntityKey> = "creditedAccountId",
        /// Whose account that is.
        credited_user_id: Option<EntityKey> = "creditedUserId",
    }
}

view! {
    /// Why it failed.
    Failure {
        /// For programs.
        code: Option<String> = "code",
        /// For people.
        reason: Option<String> = "reason",
    }
}
