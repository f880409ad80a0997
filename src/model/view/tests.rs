use serde_json::{Value, json};

use super::*;
use crate::model::Envelope;

fn view(event_type: &str, data: &str) -> Option<View> {
    View::of(&EventType::canonical(event_type).unwrap(), format!(r#"{{"data": {data}}}"#).as_bytes())
}

fn payin(data: &str) -> Payin {
    match view("payin_completed", data) {
        Some(View::Payin(payin)) => payin,
        other => panic!("{other:?}"),
    }
}

fn rate(raw: &str) -> Option<String> {
    let payin = payin(&format!(r#"{{"orderId": "o", "amounts": {{"fx": {{"rate": {raw}}}}}}}"#));
    payin.amounts.unwrap().fx.map(|fx| fx.rate.as_str().to_owned())
}

fn amount(raw: &str) -> Option<i128> {
    let money = format!(r#"{{"amount": {raw}, "currency": "EUR"}}"#);
    let payin = payin(&format!(r#"{{"orderId": "o", "amounts": {{"receivedAmount": {money}}}}}"#));
    payin.amounts.unwrap().received_amount.map(|money| money.amount)
}

#[test]
fn rates_keep_every_digit() {
    for (raw, expected) in [
        ("1.10", "1.10"),
        ("\"1.10\"", "1.10"),
        ("1", "1"),
        ("0.1000000000000000055511151231257827", "0.1000000000000000055511151231257827"),
        ("1E-7", "1E-7"),
        ("\"+2\"", "+2"),
    ] {
        assert_eq!(rate(raw).as_deref(), Some(expected));
    }
    for raw in ["null", "true", "\"\"", "\"1,10\"", "\"1.\"", "\".5\"", "\"NaN\"", "\"1.1.1\"", "\"1e\"", "[1]"] {
        assert_eq!(rate(raw), None, "{raw}");
    }
}

#[test]
fn amounts_are_integers_or_nothing() {
    assert_eq!(amount("-5"), Some(-5));
    assert_eq!(amount("9223372036854775808000"), Some(9_223_372_036_854_775_808_000));
    for raw in ["1.0", "1e3", "\"100\"", "null", "1e999999"] {
        assert_eq!(amount(raw), None, "{raw}");
    }
}

#[test]
fn one_odd_field_spoils_no_other() {
    let payin =
        payin(r#"{"orderId": 7, "status": [], "payinType": {}, "source": "x", "ownReference": "r", "amounts": 1}"#);
    assert_eq!(payin.order_id.as_str(), "7");
    assert_eq!(payin.own_reference.as_deref(), Some("r"));
    assert_eq!((payin.status, payin.payin_type, payin.source, payin.amounts), (None, None, None, None));
}

#[test]
fn the_first_usable_name_and_the_first_repeated_member_count() {
    let Some(View::KycState(state)) =
        view("kyc_state_updated", r#"{"user_id": "old", "userId": null, "kycId": 1, "kycId": 2}"#)
    else {
        panic!("it fits")
    };
    assert_eq!(state.user_id.unwrap().as_str(), "old");
    assert_eq!(state.kyc_id.unwrap().as_str(), "1");
}

#[test]
fn what_does_not_fit_has_no_view() {
    for (event_type, data) in [
        ("payin_completed", "{}"),
        ("payin_completed", "[]"),
        ("payin_completed", "null"),
        ("payin", r#"{"orderId": "o"}"#),
        ("order.created", r#"{"orderId": "o"}"#),
        ("kyc_state_updated", r#"{"state": "REGULAR"}"#),
        ("kyc_session_verified", r#"{"userId": "u"}"#),
        ("related_party_kyc_session_created", r#"{"kycSession": {}}"#),
        ("viban_activated", r#"{"accountId": "a"}"#),
        ("account_activated", r#"{"accountId": ""}"#),
    ] {
        assert_eq!(view(event_type, data), None, "{event_type} {data}");
    }
    let payin = EventType::canonical("payin.completed").unwrap();
    for body in ["", "{", "[]", r#"{"orderId": "o"}"#, r#"{"data": {"orderId": "o"}} x"#] {
        assert_eq!(View::of(&payin, body.as_bytes()), None, "{body}");
    }
}

#[test]
fn depth_is_no_danger() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(view("payin_completed", &format!(r#"{{"x": {deep}, "orderId": "o", "source": {deep}}}"#)).is_some());
    let session = format!(r#"{{"sessionId": "s", "checks": [{{"data": {deep}}}, {deep}, 5]}}"#);
    let Some(View::KycSession(session)) = view("kyc_session_failed", &session) else { panic!("it fits") };
    assert_eq!(session.checks.unwrap().len(), 1);
}

#[test]
fn views_serialize_as_on_the_wire() {
    let data = json!({
        "orderId": "o", "status": "COMPLETED", "payinType": "bankPayin", "ownReference": "r",
        "source": {"type": "bankAccount", "routingType": "iban", "accountNumber": "ES91", "bankConceptTransfer": "c",
            "payer": {"name": "n", "email": "e", "phone": "p"}},
        "destination": {"type": "account", "creditedAccountId": "a", "creditedUserId": "u"},
        "amounts": {"receivedAmount": {"amount": 1, "currency": "EUR"},
            "fees": {"currency": "EUR", "total": 2, "breakdown": {"systemFee": 1, "merchantFee": 1}},
            "amountAfterFees": {"amount": 0, "currency": "EUR"}, "fx": {"pair": "EUR/USD", "rate": "1.10"},
            "creditedAmount": {"amount": 3, "currency": "USD"}},
        "failure": {"code": "c", "reason": "r"},
    });
    let view = View::Payin(payin(&data.to_string()));
    assert_eq!(serde_json::to_value(&view).unwrap(), data);
    assert_eq!(serde_json::from_str::<Value>(&serde_json::to_string(&view).unwrap()).unwrap(), data);
}

#[test]
fn debug_output_shows_no_content() {
    let view = view("payin_completed", r#"{"orderId": "ord-secret", "source": {"payer": {"name": "Jane"}}}"#);
    assert_eq!(format!("{view:?}"), "Some(Payin(Payin { .. }))");
}

#[test]
fn key_and_state_are_those_of_the_envelope() {
    for (event_type, data) in [
        ("payin_completed", json!({"orderId": 5, "status": "COMPLETED"})),
        ("transfer_completed", json!({"transferId": "t", "state": "SETTLED"})),
        ("kyc_state_updated", json!({"kyc_id": "k", "user_id": "u", "state": 2})),
        ("kyb_state_updated", json!({"kybId": "b", "userId": "u", "state": "REGULAR"})),
        ("kyc_session_failed", json!({"sessionId": "s", "userId": "u", "status": "x".repeat(65)})),
        ("viban_failed", json!({"vibanId": "v", "accountId": "a", "status": "FAILED"})),
    ] {
        let body = json!({"eventId": "e", "eventType": event_type, "data": data}).to_string();
        let envelope = Envelope::parse(body.as_bytes());
        let view = View::of(&envelope.event_type, body.as_bytes()).unwrap();
        assert_eq!(view.key(), envelope.key.as_ref());
        assert_eq!(view.state(), envelope.state.as_deref(), "{event_type}");
    }
}
