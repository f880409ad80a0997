//! Money as people write it, such as `EUR 1,234.56`: for the page and for the command line, which both show these texts
//! as they are.
//!
//! The wire has integers in minor units. How many digits these are follows from ISO 4217, not from how a browser or a
//! country writes prices: forints and pesos have two, whatever a shop shows. No amount passes through a float.

use serde::Serialize;
use utoipa::ToSchema;

use super::words::separated;
use crate::model::view::{Amounts, Money, View};

/// ISO 4217 (list one, and what it had until lately), by the number of decimal digits of the minor unit. Codes for which
/// it names none, such as gold's `XAU`, are not here.
const DIGITS: [(usize, &str); 4] = [
    (0, "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"),
    (
        2,
        "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF CHE CHF \
         CHW CNY COP COU CRC CUC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HRK \
         HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR \
         MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP \
         SLE SLL SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST XAD XCD XCG \
         YER ZAR ZMW ZWG ZWL",
    ),
    (3, "BHD IQD JOD KWD LYD OMR TND"),
    (4, "CLF UYW"),
];

/// Stablecoins by name. Neither ISO 4217 nor the provider's papers say what their integers count, so no point is set.
const STABLECOINS: [(&str, &str); 7] = [
    ("DAI", "Dai"),
    ("EURC", "Euro Coin"),
    ("FDUSD", "First Digital USD"),
    ("PYUSD", "PayPal USD"),
    ("USDC", "USD Coin"),
    ("USDP", "Pax Dollar"),
    ("USDT", "Tether"),
];

/// What is longer is no currency, and is cut.
const LONGEST_CODE: usize = 16;

/// An amount of an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Amount {
    /// Which one: `receivedAmount`, `debitedAmount`, `creditedAmount`, `amountAfterFees` or `fees`.
    pub name: &'static str,
    /// How it is shown, such as `EUR 1,234.56`.
    pub text: String,
}

/// How many of the amount's last digits stand behind the point. `None` where ISO 4217 does not say.
fn digits(currency: &str) -> Option<usize> {
    DIGITS.iter().find(|(_, codes)| codes.split(' ').any(|code| code == currency)).map(|(digits, _)| *digits)
}

/// An amount in minor units as it is shown. Codes count as they are written: `usd` is none of ISO 4217's.
pub fn text(minor: i128, currency: &str) -> String {
    let sign = if minor < 0 { "-" } else { "" };
    let number = minor.unsigned_abs().to_string();
    let unit = if number == "1" { "unit" } else { "units" };
    if let Some(digits) = digits(currency) {
        let padded = format!("{number:0>least$}", least = digits + 1);
        let (whole, rest) = padded.split_at(padded.len() - digits);
        let point = if digits == 0 { "" } else { "." };
        return format!("{currency} {sign}{}{point}{rest}", separated(whole));
    }
    let number = separated(&number);
    if let Some((_, name)) = STABLECOINS.iter().find(|(code, _)| *code == currency) {
        return format!("{sign}{number} smallest {unit} of {name} ({currency})");
    }
    let (code, more): (String, &str) = match currency.char_indices().nth(LONGEST_CODE) {
        Some((end, _)) => (currency[..end].to_owned(), "\u{2026}"),
        None => (currency.to_owned(), ""),
    };
    format!("{sign}{number} minor {unit} of {code}{more}")
}

fn of(money: Option<&Money>) -> Option<String> {
    money.map(|money| text(money.amount, &money.currency))
}

fn all(view: &View) -> Option<&Amounts> {
    match view {
        View::Payin(view) => view.amounts.as_ref(),
        View::Payout(view) => view.amounts.as_ref(),
        View::Transfer(view) => view.amounts.as_ref(),
        View::KycState(_) | View::KycSession(_) | View::RelatedParty(_) | View::Account(_) | View::Viban(_) => None,
    }
}

/// Every amount that an event tells of.
pub fn amounts(view: &View) -> Vec<Amount> {
    let Some(all) = all(view) else { return Vec::new() };
    let fees = all.fees.as_ref().and_then(|fees| Some(text(fees.total?, fees.currency.as_deref()?)));
    let named = [
        ("receivedAmount", of(all.received_amount.as_ref())),
        ("debitedAmount", of(all.debited_amount.as_ref())),
        ("fees", fees),
        ("amountAfterFees", of(all.amount_after_fees.as_ref())),
        ("creditedAmount", of(all.credited_amount.as_ref())),
    ];
    named.into_iter().filter_map(|(name, text)| text.map(|text| Amount { name, text })).collect()
}

/// The amount that an event is about, for lists: what a payin brought to the account, what a payout or a transfer took.
pub fn main(view: &View) -> Option<String> {
    let all = all(view)?;
    match view {
        View::Payin(_) => {
            let brought = all.credited_amount.as_ref().or(all.amount_after_fees.as_ref());
            of(brought.or(all.received_amount.as_ref()))
        }
        View::Payout(_) | View::Transfer(_) => of(all.debited_amount.as_ref()),
        View::KycState(_) | View::KycSession(_) | View::RelatedParty(_) | View::Account(_) | View::Viban(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::model::EventType;

    #[test]
    fn digits_are_those_of_iso_4217_and_none_is_lost() {
        for (minor, currency, shown) in [
            (12_345_600, "COP", "COP 123,456.00"),
            (123_456, "HUF", "HUF 1,234.56"),
            (500, "JPY", "JPY 500"),
            (1_234_567, "KWD", "KWD 1,234.567"),
            (1_234_567, "CLF", "CLF 123.4567"),
            (5, "UYW", "UYW 0.0005"),
            (-5, "EUR", "EUR -0.05"),
            (0, "EUR", "EUR 0.00"),
            (9_007_199_254_740_993, "USD", "USD 90,071,992,547,409.93"),
            (9_007_199_254_740_993, "JPY", "JPY 9,007,199,254,740,993"),
            (i128::MIN, "KRW", "KRW -170,141,183,460,469,231,731,687,303,715,884,105,728"),
            (100, concat!("XX", "X"), concat!("100 minor units of XX", "X")),
            (1, "usd", "1 minor unit of usd"),
            (-12_345, "BTC", "-12,345 minor units of BTC"),
            (1, "", "1 minor unit of "),
            (2_405_112, "USDC", "2,405,112 smallest units of USD Coin (USDC)"),
            (100, "a currency with a long name", "100 minor units of a currency with \u{2026}"),
        ] {
            assert_eq!(text(minor, currency), shown);
        }
    }

    #[test]
    fn each_code_stands_once() {
        let codes: Vec<&str> = DIGITS.iter().flat_map(|(_, codes)| codes.split(' ')).collect();
        assert!(codes.iter().all(|code| code.len() == 3 && code.bytes().all(|b| b.is_ascii_uppercase())));
        assert_eq!(codes.iter().collect::<BTreeSet<_>>().len(), codes.len());
    }

    fn view(event_type: &str, amounts: &str) -> View {
        let body = format!(r#"{{"data": {{"orderId": "o1", "amounts": {amounts}}}}}"#);
        View::of(&EventType::canonical(event_type).unwrap(), body.as_bytes()).unwrap()
    }

    /// The number is called `amount`, `value` or `total`, and fees have no object of their own.
    #[test]
    fn amounts_are_read_in_each_shape() {
        let view = view(
            "payin_completed",
            r#"{"receivedAmount": {"currency": "COP", "value": 12345600}, "creditedAmount": {"currency": "HUF", "amount": 123456},
                "amountAfterFees": {"currency": "EUR", "total": 9007199254740993}, "fees": {"currency": "JPY", "total": 500}}"#,
        );
        let told: Vec<_> = amounts(&view).into_iter().map(|amount| (amount.name, amount.text)).collect();
        let expected = [
            ("receivedAmount", "COP 123,456.00"),
            ("fees", "JPY 500"),
            ("amountAfterFees", "EUR 90,071,992,547,409.93"),
            ("creditedAmount", "HUF 1,234.56"),
        ];
        assert_eq!(told, expected.map(|(name, text)| (name, text.to_owned())));
        assert_eq!(main(&view).as_deref(), Some("HUF 1,234.56"));
    }

    #[test]
    fn lists_show_what_the_event_is_about() {
        let (credited, received) = (
            r#""creditedAmount": {"amount": 1, "currency": "EUR"}"#,
            r#""receivedAmount": {"amount": 2, "currency": "EUR"}"#,
        );
        let debited = r#""debitedAmount": {"amount": 3, "currency": "EUR"}"#;
        for (event_type, members, shown) in [
            ("payin_completed", vec![received, credited], Some("EUR 0.01")),
            ("payin_failed", vec![received], Some("EUR 0.02")),
            ("payout_completed", vec![received, debited], Some("EUR 0.03")),
            ("transfer_completed", vec![credited, debited], Some("EUR 0.03")),
            ("transfer_completed", vec![credited], None),
        ] {
            let view = view(event_type, &format!("{{{}}}", members.join(",")));
            assert_eq!(main(&view).as_deref(), shown, "{event_type}");
        }
    }

    #[test]
    fn what_is_no_integer_is_no_amount() {
        let view = view(
            "payin_completed",
            r#"{"receivedAmount": {"amount": 1.5, "currency": "EUR"}, "creditedAmount": {"amount": "5", "currency": "EUR"}}"#,
        );
        assert_eq!((amounts(&view), main(&view)), (Vec::new(), None));
    }
}
