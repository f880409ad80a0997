//! A body has one reading, whoever reads it.

use ralio_relay::model::{Envelope, EventType, Reading, Search};
use serde::de::IgnoredAny;

/// How the body is packed, and the body.
pub fn holds(input: &[u8]) {
    let (encoding, body) = match input.split_first() {
        Some((0, body)) => (Some("gzip"), body),
        Some((1, body)) => (Some("deflate"), body),
        Some((2, body)) => (Some("deflate, gzip"), body),
        _ => (None, input),
    };
    let reading = Reading::of(body, encoding);
    assert!(reading.bytes().len() <= body.len().max(1 << 20).max(body.len() * 8));
    assert!(encoding.is_some() || !reading.was_unpacked());
    let text = reading.text();
    assert_eq!(reading.is_json(), serde_json::from_str::<IgnoredAny>(&text).is_ok());
    let is_malformed = Envelope::read(&reading).event_type == EventType::malformed();
    assert!(reading.is_json() || is_malformed);
    assert_eq!(reading.is_ambiguous(), !reading.repeated_members().is_empty());
    match reading.unambiguous_json() {
        Some(json) => {
            assert!(reading.is_json() && !Reading::of(json.get().as_bytes(), None).is_ambiguous());
            let own = reading.json().expect("it is JSON").get();
            assert_eq!(json.get() == own, !reading.is_ambiguous());
            let (first, left) = (Envelope::read(&reading), Envelope::parse(json.get().as_bytes()));
            assert_eq!(first, Envelope { is_ambiguous: first.is_ambiguous, ..left });
        }
        None => assert!(!reading.is_json() || std::str::from_utf8(reading.bytes()).is_err()),
    }
    for text in ["a", "\u{e9}", "\\u00e9"] {
        let is_in = Search::new(text).is_in(body, encoding);
        assert!(is_in || !body.windows(text.len()).any(|bytes| bytes == text.as_bytes()));
    }
}
