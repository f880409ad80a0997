//! Reading an envelope never panics, and what it gives is what serde_json reads there.

use std::fmt;

use ralio_relay::model::{Envelope, EventId, EventType};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

/// The members of an object in their order, repeated ones too.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

impl<'a> Members<'a> {
    /// The first of that name.
    fn first(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find(|(member, _)| member == name).map(|(_, raw)| raw.get())
    }

    /// The first of these names whose value is good for something.
    fn usable<T>(&self, names: [&str; 2], of: impl Fn(&str) -> Option<T>) -> Option<T> {
        names.into_iter().filter_map(|name| self.first(name)).find_map(of)
    }
}

/// A string, or a number as it is written.
fn text(raw: &str) -> Option<String> {
    match serde_json::from_str(raw) {
        Ok(Value::String(text)) => Some(text),
        _ => raw.starts_with(|c: char| c == '-' || c.is_ascii_digit()).then(|| raw.to_owned()),
    }
}

/// The input is a body.
pub fn holds(body: &[u8]) {
    let envelope = Envelope::parse(body);
    let decoded = String::from_utf8_lossy(body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body)).into_owned();
    let is_json = serde_json::from_str::<IgnoredAny>(&decoded).is_ok();
    assert_eq!(envelope.event_type == EventType::malformed(), !is_json || says_malformed(&decoded));
    let Ok(members) = serde_json::from_str::<Members<'_>>(&decoded) else {
        // No object, or one with a name that no text can hold.
        return;
    };
    assert_eq!(envelope.id, members.usable(["eventId", "id"], |raw| EventId::new(&text(raw)?)));
    let event_type = members.usable(["eventType", "event"], |raw| match serde_json::from_str(raw) {
        Ok(Value::String(text)) => EventType::canonical(&text),
        _ => None,
    });
    assert_eq!(envelope.event_type, event_type.unwrap_or_else(EventType::unknown));
    let data = members.first("data").and_then(|raw| serde_json::from_str::<Value>(raw).ok());
    if let (Some(key), Some(data)) = (envelope.key, data) {
        assert!(holds_text(&data, key.as_str()) || decoded.contains(key.as_str()), "{key:?}");
    }
}

/// A type may be called that.
fn says_malformed(body: &str) -> bool {
    let members = serde_json::from_str::<Members<'_>>(body);
    members.is_ok_and(|members| {
        members.usable(["eventType", "event"], |raw| EventType::canonical(&text(raw)?)) == Some(EventType::malformed())
    })
}

fn holds_text(value: &Value, wanted: &str) -> bool {
    match value {
        Value::String(text) => text == wanted,
        Value::Array(items) => items.iter().any(|item| holds_text(item, wanted)),
        Value::Object(members) => members.values().any(|member| holds_text(member, wanted)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}
