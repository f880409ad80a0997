//! Reading an envelope never panics, and what it gives is what serde_json reads there.

use std::fmt;

use ralio_relay::model::{EntityKey, Envelope, EventId, EventType};
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
    let data = members.first("data").unwrap_or("null");
    match serde_json::from_str::<Members<'_>>(data) {
        Ok(data) => assert_eq!(envelope.key, key(&data)),
        Err(_) => assert!(envelope.key.is_none() || data.starts_with('{')),
    }
}

/// What the event is about: the first of these that is usable (wire contract).
fn key(data: &Members<'_>) -> Option<EntityKey> {
    let session = data.first("kycSession").and_then(|raw| serde_json::from_str::<Members<'_>>(raw).ok());
    let names = [
        "orderId",
        "sessionId",
        "",
        "vibanId",
        "transferId",
        "kybId",
        "kycId",
        "kyc_id",
        "accountId",
        "userId",
        "user_id",
    ];
    names.into_iter().find_map(|name| {
        let raw = if name.is_empty() { session.as_ref()?.first("id") } else { data.first(name) };
        EntityKey::new(&text(raw?)?)
    })
}

/// A type may be called that.
fn says_malformed(body: &str) -> bool {
    let members = serde_json::from_str::<Members<'_>>(body);
    members.is_ok_and(|members| {
        members.usable(["eventType", "event"], |raw| EventType::canonical(&text(raw)?)) == Some(EventType::malformed())
    })
}
