use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn parse(body: &Value) -> Envelope {
    Envelope::parse(body.to_string().as_bytes())
}

fn key_of(data: Value) -> Option<String> {
    parse(&json!({"eventId": "e", "eventType": "kyc.x", "data": data})).key.map(|key| key.to_string())
}

fn state_of(event_type: &str, data: Value) -> Option<String> {
    parse(&json!({"eventId": "e", "eventType": event_type, "data": data})).state
}

fn time_of(timestamp: &str) -> Option<String> {
    parse(&json!({"timestamp": timestamp})).time.map(|time| time.to_string())
}

#[test]
fn both_generations_are_read() {
    let current = parse(&json!({"eventId": "a", "eventType": "payin_completed", "data": {"orderId": "o"}}));
    let legacy = parse(&json!({"id": "a", "event": "payin.completed", "data": {"orderId": "o"}}));
    assert_eq!(current, legacy);
    assert_eq!(current.id, EventId::new("a"));
    assert_eq!(current.event_type.as_str(), "payin.completed");
    assert_eq!(current.key, EntityKey::new("o"));
}

#[test]
fn the_current_generation_counts_where_it_is_usable() {
    let both = json!({"id": "old", "event": "payin.failed", "eventId": "new", "eventType": "payin.completed"});
    assert_eq!(parse(&both).id, EventId::new("new"));
    assert_eq!(parse(&both).event_type.as_str(), "payin.completed");
    let broken = json!({"id": "old", "event": "payin.failed", "eventId": null, "eventType": ["x"]});
    assert_eq!(parse(&broken).id, EventId::new("old"));
    assert_eq!(parse(&broken).event_type.as_str(), "payin.failed");
}

#[test]
fn the_first_of_a_repeated_member_counts() {
    let body = br#"{"eventId":"a","eventId":"b","eventType":"x.y","data":{"orderId":"1","orderId":"2"},"data":{}}"#;
    assert_eq!(Envelope::parse(body).id, EventId::new("a"));
    assert_eq!(Envelope::parse(body).key, EntityKey::new("1"));
    assert!(Envelope::parse(body).is_ambiguous);
    assert!(!Envelope::parse(br#"{"eventId":"a","id":"b","data":{"orderId":"1"}}"#).is_ambiguous);
}

#[test]
fn what_is_not_json_is_malformed() {
    for body in
        [&b""[..], b" ", b"{", b"{}{}", b"{\"a\":1,}", b"<xml/>", b"\xff\xfe{}", b"{\"a\":\"\n\"}", b"nul", b"1 2"]
    {
        assert_eq!(Envelope::parse(body).event_type, EventType::malformed(), "{}", body.escape_ascii());
        assert_eq!(Envelope::parse(body).id, None);
    }
}

#[test]
fn json_without_a_usable_type_is_unknown() {
    let long = format!(r#"{{"eventType":"{}"}}"#, "x".repeat(129));
    for body in [
        "{}",
        "[]",
        "null",
        "1e999999",
        "\"\\ud800\"",
        " true ",
        "{\"eventType\":5}",
        "{\"eventType\":\"\"}",
        "{\"eventType\":\"na\\u00efve\"}",
        "{\"eventType\":\"\\ud800\"}",
        "{\"data\":1e999999}",
        &long,
    ] {
        assert_eq!(Envelope::parse(body.as_bytes()).event_type, EventType::unknown(), "{body}");
    }
}

#[test]
fn ids_may_be_numbers_of_any_size() {
    let id = |raw: &str| Envelope::parse(format!(r#"{{"eventId":{raw}}}"#).as_bytes()).id.map(|id| id.to_string());
    assert_eq!(id("123456789012345678901234567890").as_deref(), Some("123456789012345678901234567890"));
    assert_eq!(id("1.10").as_deref(), Some("1.10"));
    assert_eq!(id("\"\\u0061\"").as_deref(), Some("a"));
    for unusable in ["null", "true", "{}", "[1]", "\"\"", "\"a\\nb\"", &format!("\"{}\"", "x".repeat(256))] {
        assert_eq!(id(unusable), None, "{unusable}");
    }
}

#[test]
fn a_byte_order_mark_and_broken_utf8_spoil_nothing() {
    let envelope =
        Envelope::parse(b"\xef\xbb\xbf{\"eventId\":\"a\",\"eventType\":\"x.y\",\"data\":{\"name\":\"J\xfcrgen\"}}");
    assert_eq!(envelope.id, EventId::new("a"));
    assert_eq!(envelope.event_type.as_str(), "x.y");
}

#[test]
fn deep_nesting_is_json() {
    let nested = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let body = format!(
        r#"{{"eventId":"a","deep":{nested},"eventType":"payin.failed","data":{{"x":{nested},"orderId":"o"}}}}"#
    );
    let envelope = Envelope::parse(body.as_bytes());
    assert_eq!(envelope.event_type.as_str(), "payin.failed");
    assert_eq!(envelope.key, EntityKey::new("o"));
    assert_eq!(Envelope::parse(nested.as_bytes()).event_type, EventType::unknown());
    assert_eq!(Envelope::parse("[".repeat(100_000).as_bytes()).event_type, EventType::malformed());
}

#[test]
fn the_key_is_the_first_entity_present() {
    let mut data = json!({
        "user_id": "11", "userId": "10", "accountId": "9", "kyc_id": "8", "kycId": "7", "kybId": "6", "transferId": "5",
        "vibanId": "4", "kycSession": {"id": "3"}, "sessionId": 2, "orderId": "1",
    });
    for (expected, name) in (1..).zip([
        "orderId",
        "sessionId",
        "kycSession",
        "vibanId",
        "transferId",
        "kybId",
        "kycId",
        "kyc_id",
        "accountId",
        "userId",
        "user_id",
    ]) {
        assert_eq!(key_of(data.clone()), Some(expected.to_string()), "{name}");
        data[name] = Value::Null;
    }
    assert_eq!(key_of(data), None);
    for none in [json!(null), json!("o"), json!([{"orderId": "o"}]), json!({"kycSession": "s"}), json!({"orderId": {}})]
    {
        assert_eq!(key_of(none), None);
    }
}

#[test]
fn the_state_is_read_or_implied() {
    assert_eq!(state_of("payin_completed", json!({"status": "SETTLED"})).as_deref(), Some("SETTLED"));
    assert_eq!(state_of("kyc_state_updated", json!({"state": "REGULAR"})).as_deref(), Some("REGULAR"));
    assert_eq!(state_of("kyc_state_updated", json!({"state": 2})).as_deref(), Some("2"));
    assert_eq!(state_of("payin.x", json!({"status": "", "state": "A"})).as_deref(), Some("A"));
    for unusable in [json!(null), json!({}), json!({"status": null}), json!({"status": "x".repeat(65)}), json!([])] {
        assert_eq!(state_of("payout_processing", unusable.clone()).as_deref(), Some("PROCESSING"));
        assert_eq!(state_of("kyc_state_updated", unusable.clone()), None);
        assert_eq!(state_of("viban_failed", unusable), None);
    }
    assert_eq!(state_of("payin.completed.v2", json!({})).as_deref(), Some("COMPLETED"));
    assert_eq!(state_of("payin", json!({})), None);
}

#[test]
fn times_have_any_fraction_and_offset() {
    assert_eq!(time_of("2025-06-19T16:04:13.123Z").as_deref(), Some("2025-06-19T16:04:13.123Z"));
    assert_eq!(time_of("2026-02-26T17:02:28.7667797-05:00").as_deref(), Some("2026-02-26T22:02:28.7667797Z"));
    assert_eq!(time_of("2026-02-26T17:02:28.123456789+05:30").as_deref(), Some("2026-02-26T11:32:28.123456789Z"));
    assert_eq!(time_of("2026-02-26T17:02:28Z").as_deref(), Some("2026-02-26T17:02:28Z"));
    for unusable in ["", "yesterday", "2026-02-26", "2026-02-26T17:02:28", "2026-13-26T17:02:28Z"] {
        assert_eq!(time_of(unusable), None, "{unusable}");
    }
    let number = json!({"timestamp": 1_772_125_348_123_u64});
    assert_eq!(parse(&number).time.map(|time| time.to_string()).as_deref(), Some("2026-02-26T17:02:28.123Z"));
    assert_eq!(parse(&json!({"timestamp": true})).time, None);
}

/// Pieces of bodies, so that random ones come near to real ones.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..4),
        prop::sample::select(vec![
            "{",
            "}",
            "[",
            "]",
            ":",
            ",",
            "\"",
            "\\",
            "\\u",
            "d800",
            "null",
            "-1e9",
            "\"eventId\"",
            "\"id\"",
            "\"event\"",
            "\"eventType\":\"payin_completed\"",
            "\"data\":{",
            "\"orderId\":",
            "\"status\"",
            "\"timestamp\"",
            "\u{feff}",
        ])
        .prop_map(|piece| piece.as_bytes().to_vec()),
    ]
}

/// Found by fuzzing: what no other reader takes for JSON is none.
#[test]
fn a_raw_control_character_makes_it_no_json_wherever_it_is() {
    for control in ['\0', '\n', '\t', '\u{1f}'] {
        for body in [
            format!(r#"{{"eventId":"a","x{control}":1}}"#),
            format!(r#"{{"eventId":"a{control}"}}"#),
            format!(r#"{{"eventId":"a","data":{{"x{control}":1}}}}"#),
        ] {
            assert_eq!(Envelope::parse(body.as_bytes()).event_type, EventType::malformed(), "{body:?}");
        }
    }
    let sound = Envelope::parse(b"{\n\t\"eventId\": \"a\",\r\n\"x\\u0000\": 1}\n");
    assert_eq!((sound.id.unwrap().as_str(), sound.event_type), ("a", EventType::unknown()));
}

proptest! {
    /// Whatever comes in: no panic, and JSON is never `malformed`.
    #[test]
    fn parsing_is_total(pieces in prop::collection::vec(piece(), 0..40)) {
        let body = pieces.concat();
        let envelope = Envelope::parse(&body);
        let oracle = serde_json::from_slice::<Value>(&body);
        if let Ok(value) = oracle {
            prop_assert_ne!(&envelope.event_type, &EventType::malformed());
            let id = value.get("eventId").and_then(Value::as_str).and_then(EventId::new);
            if body.windows(9).filter(|window| window == b"\"eventId\"").count() == 1 && id.is_some() {
                prop_assert_eq!(envelope.id, id);
            }
        }
    }
}
