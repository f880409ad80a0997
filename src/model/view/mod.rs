//! Typed views of bodies, one a category. Lenient by construction: a field that is missing or of a wrong type is
//! `None` and spoils no other, fields that no view knows are passed over, and an event that fits no view has none. It
//! is stored and delivered all the same.
//!
//! States and kinds are text and not closed enums, as the provider's lists grow without notice. Views carry personal
//! data: their `Debug` shows nothing but the name of the view. They serialize to JSON as on the wire.

mod account;
mod field;
mod kyc;
mod money;
mod payin;
mod payout;
mod transfer;

use serde::Serialize;

pub use account::{Account, Viban};
pub use field::{Json, State};
pub use kyc::{BusinessUser, Check, KycSession, KycState, Party, RelatedParty, SessionLink};
pub use money::{Amounts, Decimal, FeeBreakdown, Fees, FxRate, Money};
pub use payin::{Failure, Payer, Payin, PayinDestination, PayinSource};
pub use payout::{Beneficiary, Payout, PayoutDestination, PayoutSource};
pub use transfer::{Transfer, TransferParty};

use super::json::members;
use super::{Category, EntityKey, EventType, Reading};
use field::Value as _;

/// A body as its category sees it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum View {
    /// `payin.*`
    Payin(Payin),
    /// `payout.*`
    Payout(Payout),
    /// `transfer.*`
    Transfer(Transfer),
    /// `kyc.*` and `kyb.*`, other than sessions
    KycState(KycState),
    /// `kyc.session_*`
    KycSession(KycSession),
    /// `related_party.*`
    RelatedParty(RelatedParty),
    /// `account.*`
    Account(Account),
    /// `viban.*`
    Viban(Viban),
}

impl View {
    /// The view of a body of this type. `None` where the type has no view, the body has no `data` object, or that
    /// lacks the id of what the view is about.
    ///
    /// ```
    /// use ralio_relay::model::EventType;
    /// use ralio_relay::model::view::View;
    ///
    /// let event_type = EventType::canonical("transfer_completed").unwrap();
    /// let body = br#"{"eventId": "evt-1", "eventType": "transfer_completed",
    ///     "data": {"orderId": "ord-1", "status": "COMPLETED", "new": [1, 2]}}"#;
    /// let Some(View::Transfer(transfer)) = View::of(&event_type, body) else { panic!("it fits") };
    /// assert_eq!(transfer.order_id.as_str(), "ord-1");
    /// assert_eq!(serde_json::to_string(&transfer)?, r#"{"orderId":"ord-1","status":"COMPLETED"}"#);
    ///
    /// assert_eq!(View::of(&event_type, b"{}"), None);
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    pub fn of(event_type: &EventType, body: &[u8]) -> Option<Self> {
        Self::read(event_type, &Reading::of(body, None))
    }

    /// The same of a body that may be compressed.
    pub fn read(event_type: &EventType, reading: &Reading<'_>) -> Option<Self> {
        let body = reading.text();
        let [Some(data)] = members(&body, &["data"])? else { return None };
        let (head, tail) = event_type.as_str().split_once('.')?;
        match event_type.category() {
            Category::Payin => Payin::read(data).map(Self::Payin),
            Category::Payout => Payout::read(data).map(Self::Payout),
            Category::Transfer => Transfer::read(data).map(Self::Transfer),
            Category::Kyc if head == "related_party" => RelatedParty::read(data).map(Self::RelatedParty),
            Category::Kyc if tail.starts_with("session_") => KycSession::read(data).map(Self::KycSession),
            Category::Kyc => KycState::read(data).filter(|view| view.key().is_some()).map(Self::KycState),
            Category::Account if head == "viban" => Viban::read(data).map(Self::Viban),
            Category::Account => Account::read(data).map(Self::Account),
            Category::Other => None,
        }
    }

    /// What the event is about; the same as [`Envelope::key`](super::Envelope::key) says.
    pub fn key(&self) -> Option<&EntityKey> {
        match self {
            Self::Payin(view) => Some(&view.order_id),
            Self::Payout(view) => Some(&view.order_id),
            Self::Transfer(view) => Some(&view.order_id),
            Self::KycState(view) => view.key(),
            Self::KycSession(view) => Some(&view.session_id),
            Self::RelatedParty(view) => Some(&view.kyc_session.id),
            Self::Account(view) => Some(&view.account_id),
            Self::Viban(view) => Some(&view.viban_id),
        }
    }

    /// The state that `data` reports, if it does; the same as [`Envelope::state`](super::Envelope::state) says.
    pub fn state(&self) -> Option<&str> {
        let state = match self {
            Self::Payin(view) => &view.status,
            Self::Payout(view) => &view.status,
            Self::Transfer(view) => &view.status,
            Self::KycState(view) => &view.state,
            Self::KycSession(view) => &view.status,
            Self::Viban(view) => &view.status,
            Self::RelatedParty(_) | Self::Account(_) => &None,
        };
        state.as_ref().map(State::as_str)
    }
}

#[cfg(test)]
mod tests;
