//! What the unit tests of the sinks share.

use bytes::Bytes;

use crate::model::{Category, EntityKey, EventId, EventType, Outgoing, Seq, SourceName};

/// An ordinary event with the given body.
pub fn event(body: &str) -> Outgoing {
    Outgoing {
        seq: Seq::new(17).unwrap(),
        id: EventId::new("evt-1").unwrap(),
        event_type: EventType::canonical("payin_completed").unwrap(),
        category: Category::Payin,
        source: SourceName::new("production").unwrap(),
        key: EntityKey::new("order-1").unwrap(),
        time: Some("2026-02-26T17:02:28.7667797-05:00".parse().unwrap()),
        received_at: "2026-02-26T22:02:29Z".parse().unwrap(),
        stale: false,
        replay: None,
        signature: "sha256=00ff".to_owned(),
        content_type: "application/json".to_owned(),
        content_encoding: None,
        body: Bytes::copy_from_slice(body.as_bytes()),
    }
}

/// Packed.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut packed, bytes).unwrap();
    packed.finish().unwrap()
}
