//! Money and rates, exactly as on the wire: no value ever passes through a float.

use serde::Serialize;

use super::field::{Value, view};
use crate::model::json::text;

view! {
    /// An amount of money. An amount that is no integer, or is a string, makes it no money at all: guessing at a
    /// decimal point loses some. The number has been seen under several names: serialized, it has one.
    ///
    /// ```
    /// # use ralio_relay::model::{EventType, view::View};
    /// # let body = br#"{"data": {"orderId": "o", "amounts": {"creditedAmount": {"amount": 135154, "currency": "USD"}}}}"#;
    /// # let Some(View::Payin(payin)) = View::of(&EventType::canonical("payin.completed").unwrap(), body) else { panic!() };
    /// // "creditedAmount": {"amount": 135154, "currency": "USD"}
    /// let credited = payin.amounts.unwrap().credited_amount.unwrap();
    /// assert_eq!(credited.amount, 135_154); // USD 1,351.54
    /// assert_eq!(credited.currency, "USD");
    /// ```
    Money {
        /// In minor units of the currency, such as cents.
        amount: i128 = "amount" | "value" | "total",
        /// ISO 4217 code, or the name of a crypto currency.
        currency: String = "currency",
    }
}

view! {
    /// A rate of exchange.
    ///
    /// ```
    /// # use ralio_relay::model::{EventType, view::View};
    /// # let body = br#"{"data": {"orderId": "o", "amounts": {"fx": {"pair": "EUR/USD", "rate": 1.0830}}}}"#;
    /// # let Some(View::Payin(payin)) = View::of(&EventType::canonical("payin.completed").unwrap(), body) else { panic!() };
    /// // "fx": {"pair": "EUR/USD", "rate": 1.0830}
    /// let fx = payin.amounts.unwrap().fx.unwrap();
    /// assert_eq!(fx.pair.as_deref(), Some("EUR/USD"));
    /// assert_eq!(fx.rate.as_str(), "1.0830");
    /// ```
    FxRate {
        /// Such as `EUR/USD`.
        pair: Option<String> = "pair",
        /// The rate; a string or a number on the wire, a string when serialized.
        rate: Decimal = "rate",
    }
}

view! {
    /// What it cost, in minor units of one currency.
    ///
    /// ```
    /// # use ralio_relay::model::{EventType, view::View};
    /// # let body = br#"{"data": {"orderId": "o", "amounts": {"fees": {"currency": "EUR", "total": 250,
    /// #     "breakdown": {"systemFee": 150, "merchantFee": 100}}}}}"#;
    /// # let Some(View::Payout(payout)) = View::of(&EventType::canonical("payout.completed").unwrap(), body) else { panic!() };
    /// // "fees": {"currency": "EUR", "total": 250, "breakdown": {"systemFee": 150, "merchantFee": 100}}
    /// let fees = payout.amounts.unwrap().fees.unwrap();
    /// assert_eq!(fees.total, Some(250));
    /// assert_eq!(fees.breakdown.unwrap().system_fee, Some(150));
    /// ```
    Fees {
        /// ISO 4217 code, or the name of a crypto currency.
        currency: Option<String> = "currency",
        /// All fees together.
        total: Option<i128> = "total" | "amount" | "value",
        /// Who gets them.
        breakdown: Option<FeeBreakdown> = "breakdown",
    }
}

view! {
    /// The parts of [`Fees`], in minor units of its currency.
    FeeBreakdown {
        /// The provider's part.
        system_fee: Option<i128> = "systemFee",
        /// The merchant's part.
        merchant_fee: Option<i128> = "merchantFee",
    }
}

view! {
    /// The amounts of a payin, payout or transfer; each has some of them.
    Amounts {
        /// Payin: what came in.
        received_amount: Option<Money> = "receivedAmount",
        /// Payout, transfer: what was taken from the account.
        debited_amount: Option<Money> = "debitedAmount",
        /// What it cost.
        fees: Option<Fees> = "fees",
        /// What is left when the fees are taken off.
        amount_after_fees: Option<Money> = "amountAfterFees",
        /// The rate, where currencies differ.
        fx: Option<FxRate> = "fx",
        /// Payin, transfer: what was added to the account.
        credited_amount: Option<Money> = "creditedAmount",
    }
}

/// A decimal number as text, exactly as on the wire: digits with at most one point, a sign and an exponent being
/// possible (`1.10`, `-0.5`, `1e-7`). At most 64 bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Decimal(String);

impl Decimal {
    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Value for Decimal {
    fn read(raw: &str) -> Option<Self> {
        text(raw).filter(|text| text.len() <= 64 && is_decimal(text)).map(|text| Self(text.into_owned()))
    }
}

fn is_decimal(text: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
    digits(whole) && digits(fraction) && digits(exponent.strip_prefix(['-', '+']).unwrap_or(exponent))
}
