//! An event as an AMQP message.

use bytes::Bytes;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};

use crate::model::{Outgoing, Seq};
use crate::sink::Format;
use crate::sink::cloudevents::{CloudEvent, SEQ, STRUCTURED};

/// AMQP's code for a message that survives a restart of the broker.
const PERSISTENT: u8 = 2;

/// Ready to be published.
pub(super) struct Message {
    pub(super) seq: Seq,
    pub(super) routing_key: ShortString,
    pub(super) properties: BasicProperties,
    pub(super) payload: Bytes,
}

impl Message {
    pub(super) fn new(event: &Outgoing, format: Format) -> Self {
        let attributes = CloudEvent::new(event);
        let (payload, content_type) = match format {
            Format::Raw => (event.body.clone(), attributes.content_type()),
            Format::CloudEvents => (attributes.to_json().into(), STRUCTURED),
        };
        let mut headers = FieldTable::default();
        for (name, value) in attributes.headers() {
            headers.insert(short(name), AMQPValue::LongString(value.to_string().into()));
        }
        headers.insert("x-ralio-signature".into(), AMQPValue::LongString(event.signature.as_str().into()));
        let mut properties = BasicProperties::default()
            .with_delivery_mode(PERSISTENT)
            .with_content_type(short(content_type))
            .with_message_id(short(event.id.as_str()))
            .with_type(short(event.event_type.as_str()))
            .with_app_id("ralio-relay".into())
            .with_headers(headers);
        if let Some(seconds) = event.time.and_then(|time| u64::try_from(time.as_second()).ok()) {
            properties = properties.with_timestamp(seconds);
        }
        if let Some(encoding) = attributes.content_encoding().filter(|_| format == Format::Raw) {
            properties = properties.with_content_encoding(short(encoding));
        }
        Self { seq: event.seq, routing_key: short(event.event_type.as_str()), properties, payload }
    }
}

/// Which event a message is, by its headers.
pub(super) fn seq(properties: &BasicProperties) -> Option<Seq> {
    let headers = properties.headers().as_ref()?;
    let AMQPValue::LongString(seq) = headers.inner().get(SEQ)? else { return None };
    Seq::new(std::str::from_utf8(seq.as_bytes()).ok()?.parse().ok()?)
}

fn short(text: &str) -> ShortString {
    ShortString::try_new(text).expect("ids, types and content types hold at most 255 bytes by construction")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{EventId, EventType};
    use crate::sink::fixtures::{event, gzip};

    #[test]
    fn carries_everything() {
        let event = event("{ \"a\": 1.10 }");
        let message = Message::new(&event, Format::Raw);
        assert_eq!(message.payload, event.body);
        assert_eq!(message.routing_key.as_str(), "payin.completed");
        let properties = message.properties;
        assert_eq!(*properties.delivery_mode(), Some(2));
        assert_eq!(properties.content_type().as_ref().unwrap().as_str(), "application/json");
        assert_eq!(properties.message_id().as_ref().unwrap().as_str(), "evt-1");
        assert_eq!(properties.kind().as_ref().unwrap().as_str(), "payin.completed");
        assert_eq!(*properties.timestamp(), Some(1_772_143_348));
        assert_eq!(properties.app_id().as_ref().unwrap().as_str(), "ralio-relay");
        let headers = properties.headers().as_ref().unwrap().inner();
        let header = |name: &str| match headers.get(name) {
            Some(AMQPValue::LongString(text)) => String::from_utf8(text.as_bytes().to_vec()).unwrap(),
            other => panic!("{name}: {other:?}"),
        };
        assert_eq!(header("ce-subject"), "order-1");
        assert_eq!(header("ce-ralioseq"), "17");
        assert_eq!(header("x-ralio-signature"), "sha256=00ff");
        assert_eq!(headers.len(), 11);
        assert_eq!(seq(&properties), Some(event.seq));
    }

    #[test]
    fn says_how_the_payload_is_packed_and_no_time_that_is_not_the_events() {
        let mut event = event("");
        event.body = gzip(b"{}").into();
        event.content_encoding = Some("gzip".to_owned());
        event.time = None;
        let raw = Message::new(&event, Format::Raw);
        assert_eq!(raw.payload, event.body);
        assert_eq!(raw.properties.content_encoding().as_ref().unwrap().as_str(), "gzip");
        assert_eq!(*raw.properties.timestamp(), None);
        assert!(!raw.properties.headers().as_ref().unwrap().inner().contains_key("ce-time"));
        let structured = Message::new(&event, Format::CloudEvents);
        assert_eq!(*structured.properties.content_encoding(), None);
        assert!(structured.payload.ends_with(b"\"data\":{}}"));
    }

    #[test]
    fn the_longest_names_fit() {
        let mut event = event("{}");
        event.id = EventId::new(&"i".repeat(255)).unwrap();
        event.event_type = EventType::canonical(&"t_".repeat(64)).unwrap();
        event.content_type = format!("a/{}", "x".repeat(400));
        let message = Message::new(&event, Format::CloudEvents);
        assert_eq!(message.properties.content_type().as_ref().unwrap().as_str(), STRUCTURED);
        assert!(message.payload.starts_with(b"{\"specversion\""));
        Message::new(&event, Format::Raw);
    }
}
