//! Events in JSON output; the names and the order of the fields are fixed.

use serde::Serialize;

use crate::cli::body::BodyJson;
use crate::cli::output::utc;
use crate::inbox::{AttemptRecord, EventDetail, EventSummary};
use crate::model::view::View;

/// One line of `events list`.
#[derive(Serialize)]
pub(super) struct Summary<'a> {
    seq: i64,
    id: &'a str,
    r#type: &'a str,
    category: &'static str,
    source: &'a str,
    key: &'a str,
    time: Option<String>,
    received_at: String,
    size: u64,
    stale: bool,
    conflict: bool,
    arrivals: u64,
    body_sha256: String,
}

impl<'a> From<&'a EventSummary> for Summary<'a> {
    fn from(event: &'a EventSummary) -> Self {
        Self {
            seq: event.seq.get(),
            id: event.id.as_str(),
            r#type: event.event_type.as_str(),
            category: event.category.as_str(),
            source: event.source.as_str(),
            key: event.key.as_str(),
            time: event.time.map(utc),
            received_at: utc(event.received_at),
            size: event.size,
            stale: event.stale,
            conflict: event.conflict,
            arrivals: event.arrivals,
            body_sha256: event.body_sha256.to_string(),
        }
    }
}

/// `events show`.
#[derive(Serialize)]
pub(super) struct Detail<'a> {
    #[serde(flatten)]
    summary: Summary<'a>,
    state: Option<&'a str>,
    #[serde(flatten)]
    body: BodyJson,
    signature: &'a str,
    secret_slot: u32,
    headers: &'a [(String, String)],
    attempts: Vec<Attempt<'a>>,
    sinks: Vec<Pair<'a>>,
    lifecycle: Vec<Step<'a>>,
    view: Option<View>,
}

#[derive(Serialize)]
struct Attempt<'a> {
    sink: &'a str,
    n: u32,
    at: String,
    latency_ms: u128,
    outcome: &'static str,
    note: &'a str,
}

#[derive(Serialize)]
struct Pair<'a> {
    sink: &'a str,
    state: &'static str, // HELPER: reason, since, ...
}

/// Another event of the same entity.
#[derive(Serialize)]
struct Step<'a> {
    #[serde(flatten)]
    summary: Summary<'a>,
    state: Option<&'a str>,
}

impl<'a> From<&'a EventDetail> for Detail<'a> {
    fn from(event: &'a EventDetail) -> Self {
        Self {
            summary: (&event.summary).into(),
            state: event.summary.state.as_deref(),
            body: BodyJson::new(event.body.as_deref()),
            signature: &event.signature,
            secret_slot: event.secret_slot,
            headers: &event.headers,
            attempts: event.attempts.iter().map(Attempt::from).collect(),
            sinks: event.sinks.iter().map(|(sink, pair)| Pair { sink: sink.as_str(), state: pair.as_str() }).collect(),
            lifecycle: event
                .lifecycle
                .iter()
                .map(|step| Step { summary: step.into(), state: step.state.as_deref() })
                .collect(),
            view: view(event),
        }
    }
}

impl<'a> From<&'a AttemptRecord> for Attempt<'a> {
    fn from(attempt: &'a AttemptRecord) -> Self {
        Self {
            sink: attempt.sink.as_str(),
            n: attempt.n,
            at: utc(attempt.at),
            latency_ms: attempt.latency.as_millis(),
            outcome: attempt.outcome.as_str(),
            note: &attempt.note,
        }
    }
}

/// What the event says in the terms of its category, where it fits them.
pub(super) fn view(event: &EventDetail) -> Option<View> {
    View::of(&event.summary.event_type, event.body.as_deref()?)
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use serde_json::json;

    use super::*;
    use crate::inbox::AttemptState;
    use crate::model::{Category, Digest, EntityKey, EventId, EventType, Seq, SinkName, SourceName};

    pub(crate) fn summary(seq: i64) -> EventSummary {
        EventSummary {
            seq: Seq::new(seq).unwrap(),
            id: EventId::new("evt-1").unwrap(),
            event_type: EventType::canonical("payin_completed").unwrap(),
            category: Category::Payin,
            source: SourceName::new("production").unwrap(),
            key: EntityKey::new("order-1").unwrap(),
            state: Some("COMPLETED".to_owned()),
            time: None,
            received_at: "2026-01-31T10:00:00.5Z".parse().unwrap(),
            size: 2,
            stale: true,
            conflict: false,
            arrivals: 3,
            body_sha256: Digest::of(b"{}"),
        }
    }

    pub(crate) fn detail(body: Option<&'static [u8]>) -> EventDetail {
        EventDetail {
            summary: summary(7),
            body: body.map(Bytes::from_static),
            signature: "abc".to_owned(),
            secret_slot: 1,
            headers: vec![("user-agent".to_owned(), "evil\u{1b}[2J".to_owned())],
            lifecycle: vec![summary(6), summary(7)],
            attempts: vec![AttemptRecord {
                sink: SinkName::new("bus").unwrap(),
                n: 1,
                at: "2026-01-31T10:00:01Z".parse().unwrap(),
                latency: Duration::from_millis(12),
                outcome: AttemptState::Delivered,
                note: "confirm 1".to_owned(),
            }],
            dead_letters: vec![DeadLetterRecord {
                sink: SinkName::new("ledger").unwrap(),
                attempts: 3,
                reason: "HTTP 422".to_owned(),
                at: "2026-01-31T10:00:09Z".parse().unwrap(),
            }],
        }
    }

    #[test]
    fn the_fields_of_a_list_are_the_documented_ones_in_order() {
        let line = serde_json::to_string(&Summary::from(&summary(7))).unwrap();
        let digest = Digest::of(b"{}");
        let expected = format!(
            r#"{{"seq":7,"id":"evt-1","type":"payin.completed","category":"payin","source":"production","key":"order-1","time":null,"received_at":"2026-01-31T10:00:00.500000Z","size":2,"stale":true,"conflict":false,"arrivals":3,"body_sha256":"{digest}"}}"#
        );
        assert_eq!(line, expected);
    }

    #[test]
    fn show_adds_body_signature_attempts_and_lifecycle() {
        let shown = serde_json::to_value(Detail::from(&detail(Some(b"\xff")))).unwrap();
        assert_eq!(shown["seq"], 7);
        assert_eq!((&shown["body"], &shown["body_encoding"]), (&json!("/w=="), &json!("base64")));
        assert_eq!(shown["signature"], "abc");
        assert_eq!(shown["attempts"][0]["outcome"], "delivered");
        let letter = json!({"sink": "ledger", "attempts": 3, "last_error": "HTTP 422", "died_at": "2026-01-31T10:00:09.000000Z"});
        assert_eq!(shown["dead_letters"], json!([letter]));
        assert_eq!(shown["lifecycle"][0]["seq"], 6);
        assert_eq!(shown["lifecycle"][0]["state"], "COMPLETED");
        assert_eq!(shown["view"], json!(null));
        let pruned = serde_json::to_value(Detail::from(&detail(None))).unwrap();
        assert_eq!((&pruned["body"], &pruned["view"]), (&json!(null), &json!(null)));
    }
}
