//! Parked events.

use serde::Serialize;
use utoipa::ToSchema;

use super::Time;
use crate::inbox::ParkedRecord;

/// One line of `parked list`.
#[derive(Serialize, ToSchema)]
#[schema(as = ParkedEvent)]
pub struct Line<'a> {
    sink: &'a str,
    seq: i64,
    event_id: &'a str,
    r#type: &'a str,
    key: &'a str,
    attempts: u32,
    /// When the first attempt began; null before it.
    first_attempt: Option<Time>,
    /// Not before this.
    next_attempt: Time,
    /// Why the last attempt failed; null before the first.
    last_error: Option<&'a str>,
    /// No attempt was made: an earlier event of its key is parked.
    waits_behind: bool,
}

impl<'a> From<&'a ParkedRecord> for Line<'a> {
    fn from(event: &'a ParkedRecord) -> Self {
        Self {
            sink: event.sink.as_str(),
            seq: event.seq.get(),
            event_id: event.event_id.as_str(),
            r#type: event.event_type.as_str(),
            key: event.key.as_str(),
            attempts: event.attempts,
            first_attempt: event.first_attempt.map(Time),
            next_attempt: Time(event.next_attempt),
            last_error: event.last_error.as_deref(),
            waits_behind: event.waits_behind(),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::inbox::ConsumerId;
    use crate::model::{EntityKey, EventId, EventType, Seq, SinkName};

    pub(crate) fn parked() -> ParkedRecord {
        ParkedRecord {
            sink: SinkName::new("ledger").unwrap(),
            consumer: ConsumerId::new(6),
            seq: Seq::new(7).unwrap(),
            event_id: EventId::new("evt-1").unwrap(),
            event_type: EventType::canonical("payin_completed").unwrap(),
            key: EntityKey::new("order-1").unwrap(),
            attempts: 3,
            first_attempt: Some("2026-01-31T10:00:00Z".parse().unwrap()),
            next_attempt: "2026-01-31T10:00:09Z".parse().unwrap(),
            last_error: Some("HTTP 500 \u{1b}[2J".to_owned()),
        }
    }

    #[test]
    fn the_fields_of_a_list_are_the_documented_ones_in_order() {
        let event = ParkedRecord { last_error: Some("HTTP 500".to_owned()), ..parked() };
        let line = serde_json::to_string(&Line::from(&event)).unwrap();
        let expected = r#"{"sink":"ledger","seq":7,"event_id":"evt-1","type":"payin.completed","key":"order-1","attempts":3,"first_attempt":"2026-01-31T10:00:00.000000Z","next_attempt":"2026-01-31T10:00:09.000000Z","last_error":"HTTP 500","waits_behind":false}"#;
        assert_eq!(line, expected);
        let behind = ParkedRecord { attempts: 0, first_attempt: None, last_error: None, ..parked() };
        let line = serde_json::to_value(Line::from(&behind)).unwrap();
        assert_eq!((&line["waits_behind"], &line["last_error"]), (&true.into(), &serde_json::Value::Null));
    }
}
