//! Money moving between two accounts at the provider.

use super::field::{State, view};
use super::money::Amounts;
use crate::model::EntityKey;

view! {
    /// Money moving between two accounts at the provider.
    ///
    /// ```
    /// use ralio_relay::model::EventType;
    /// use ralio_relay::model::view::View;
    ///
    /// let event_type = EventType::canonical("transfer_completed").unwrap();
    /// let body = br#"{"eventId": "evt-1", "eventType": "transfer_completed", "data": {
    ///     "status": "COMPLETED", "orderId": "ord-3", "ownReference": "rent",
    ///     "destination": {"type": "account", "creditedAccountId": "acc-2"},
    ///     "amounts": {"debitedAmount": {"amount": 5000, "currency": "EUR"}}}}"#;
    /// let Some(View::Transfer(transfer)) = View::of(&event_type, body) else { panic!("it fits") };
    /// assert_eq!(transfer.own_reference.as_deref(), Some("rent"));
    /// assert_eq!(transfer.destination.unwrap().credited_account_id.unwrap().as_str(), "acc-2");
    /// assert_eq!(transfer.amounts.unwrap().debited_amount.unwrap().amount, 5_000);
    /// ```
    Transfer {
        /// The order; it stays the same from `transfer.processing` on.
        order_id: EntityKey = "orderId" | "transferId",
        /// `PROCESSING` or `COMPLETED`.
        status: Option<State> = "status" | "state",
        /// The merchant's own reference.
        own_reference: Option<String> = "ownReference",
        /// Where it comes from.
        source: Option<TransferParty> = "source",
        /// Where it goes to.
        destination: Option<TransferParty> = "destination",
        /// How much.
        amounts: Option<Amounts> = "amounts",
    }
}

view! {
    /// One end of a transfer: the debited ids at its source, the credited ones at its destination.
    TransferParty {
        /// `account`
        kind: Option<String> = "type",
        /// The account debited.
        debited_account_id: Option<EntityKey> = "debitedAccountId",
        /// Whose account that is.
        debited_user_id: Option<EntityKey> = "debitedUserId",
        /// The account credited.
        credited_account_id: Option<EntityKey> = "creditedAccountId",
        /// Whose account that is.
        credited_user_id: Option<EntityKey> = "creditedUserId",
    }
}
