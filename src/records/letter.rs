//! Dead letters.

use serde::Serialize;
use utoipa::ToSchema;

use super::event::{Attempt, Pair};
use super::{Body, Time};
use crate::inbox::{self, AttemptRecord, DeadLetterRecord, EventDetail};
use crate::model::{JobId, told};

/// One line of `deadletters list`.
#[derive(Serialize, ToSchema)]
#[schema(as = DeadLetter)]
pub struct Letter<'a> {
    id: i64,
    sink: &'a str,
    seq: i64,
    event_id: &'a str,
    r#type: &'a str,
    attempts: u32,
    last_error: &'a str,
    died_at: Time,
    /// The beginning of what the far side answered last; null where it said nothing, or that is not kept.
    answer: Option<String>,
    #[serde(flatten)]
    decided: Decided<'a>,
}

/// What a dead letter is about, and what became of it.
#[derive(Serialize, ToSchema)]
#[schema(as = DeadLetterDecision)]
struct Decided<'a> {
    key: &'a str,
    source: &'a str,
    /// `open`, `retried` or `discarded`.
    state: &'static str,
    /// When somebody decided that; null while it is open.
    decided_at: Option<Time>,
    decided_by: Option<&'a str>,
    decided_reason: Option<&'a str>,
    /// The entry of the record that decided; null where an older version noted it.
    record: Option<i64>,
}

impl<'a> From<&'a DeadLetterRecord> for Decided<'a> {
    fn from(letter: &'a DeadLetterRecord) -> Self {
        let decision = letter.decision.as_ref();
        Self {
            key: letter.key.as_str(),
            source: letter.source.as_str(),
            state: letter.state.as_str(),
            decided_at: decision.map(|decision| Time(decision.at)),
            decided_by: decision.and_then(|decision| decision.who.as_deref()),
            decided_reason: decision.and_then(|decision| decision.reason.as_deref()),
            record: decision.and_then(|decision| decision.job).map(JobId::get),
        }
    }
}

impl<'a> From<&'a DeadLetterRecord> for Letter<'a> {
    fn from(letter: &'a DeadLetterRecord) -> Self {
        Self {
            id: letter.id,
            sink: letter.sink.as_str(),
            seq: letter.seq.get(),
            event_id: letter.event_id.as_str(),
            r#type: letter.event_type.as_str(),
            attempts: letter.attempts,
            last_error: &letter.reason,
            died_at: Time(letter.at),
            answer: letter.answer.as_deref().map(|answer| told(answer, None)),
            decided: letter.into(),
        }
    }
}

/// `deadletters show`.
#[derive(Serialize, ToSchema)]
#[schema(as = DeadLetterDetail)]
pub struct Detail<'a> {
    id: i64,
    sink: &'a str,
    seq: i64,
    event_id: &'a str,
    r#type: &'a str,
    last_error: &'a str,
    died_at: Time,
    /// What the far side answered last, up to 1 KiB; null where it said nothing, or that is not kept.
    answer: Option<&'a str>,
    replay: Option<i64>,
    #[serde(flatten)]
    decided: Decided<'a>,
    /// How the event stands at this sink now; null where the letter is a replay's.
    now: Option<Pair<'a>>,
    attempts: Vec<Attempt<'a>>,
    #[serde(flatten)]
    body: Body,
}

impl<'a> Detail<'a> {
    /// A dead letter, with the event that it is about.
    pub fn new(letter: &'a DeadLetterRecord, event: &'a EventDetail) -> Self {
        let Letter { id, sink, seq, event_id, r#type, attempts: _, last_error, died_at, answer: _, decided } =
            letter.into();
        Self {
            id,
            sink,
            seq,
            event_id,
            r#type,
            last_error,
            died_at,
            answer: letter.answer.as_deref(),
            replay: letter.replay.map(JobId::get),
            decided,
            now: now(letter, event).map(Pair::new),
            attempts: attempts(letter, event).map(Attempt::from).collect(),
            body: Body::new(event.body.as_deref(), &event.headers),
        }
    }
}

/// What became of it since. A replay does not change how an event stands.
pub fn now<'a>(letter: &DeadLetterRecord, event: &'a EventDetail) -> Option<&'a inbox::Pair> {
    let mut pairs = event.sinks.iter().filter(|_| letter.replay.is_none());
    pairs.find(|pair| pair.consumer == letter.consumer)
}

/// The attempts of its own delivery.
pub fn attempts<'a>(letter: &'a DeadLetterRecord, event: &'a EventDetail) -> impl Iterator<Item = &'a AttemptRecord> {
    event.attempts.iter().filter(|attempt| attempt.consumer == letter.consumer && attempt.replay == letter.replay)
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;
    use crate::inbox::{ConsumerId, LetterState};
    use crate::model::{EntityKey, EventId, EventType, Seq, SinkName, SourceName};
    use crate::records::event::tests::detail;

    pub(crate) fn letter() -> DeadLetterRecord {
        DeadLetterRecord {
            id: 9,
            consumer: ConsumerId::new(6),
            sink: SinkName::new("ledger").unwrap(),
            replay: None,
            seq: Seq::new(7).unwrap(),
            event_id: EventId::new("evt-1").unwrap(),
            event_type: EventType::canonical("payin_completed").unwrap(),
            attempts: 3,
            reason: "HTTP 422 \u{1b}[2J".to_owned(),
            at: "2026-01-31T10:00:09Z".parse().unwrap(),
            answer: Some("no \u{9b}amount".to_owned()),
            key: EntityKey::new("order-1").unwrap(),
            source: SourceName::new("production").unwrap(),
            state: LetterState::Open,
            decision: None,
        }
    }

    #[test]
    fn the_fields_of_a_list_are_the_documented_ones_in_order() {
        let answer = Some("no amount".to_owned());
        let letter = DeadLetterRecord { reason: "HTTP 422".to_owned(), answer, ..letter() };
        let line = serde_json::to_string(&Letter::from(&letter)).unwrap();
        let expected = r#"{"id":9,"sink":"ledger","seq":7,"event_id":"evt-1","type":"payin.completed","attempts":3,"last_error":"HTTP 422","died_at":"2026-01-31T10:00:09.000000Z","answer":"no amount","key":"order-1","source":"production","state":"open","decided_at":null,"decided_by":null,"decided_reason":null,"record":null}"#;
        assert_eq!(line, expected);
    }

    #[test]
    fn only_the_attempts_of_its_own_delivery_are_shown() {
        let event = detail(Some(b"{}"));
        let bus = SinkName::new("bus").unwrap();
        let consumer = ConsumerId::new(2);
        let of_replay = DeadLetterRecord { sink: bus.clone(), consumer, replay: Some(JobId::new(4)), ..letter() };
        assert_eq!(attempts(&of_replay, &event).count(), 1);
        assert_eq!(attempts(&DeadLetterRecord { sink: bus, consumer, ..letter() }, &event).count(), 0);
        let shown = serde_json::to_value(Detail::new(&of_replay, &event)).unwrap();
        assert_eq!((&shown["replay"], &shown["now"]), (&json!(4), &json!(null)));
        assert_eq!(shown["attempts"][0]["note"], "confirm 1");
        let text = serde_json::to_string(&Detail::new(&of_replay, &event)).unwrap();
        assert_eq!(text.matches(r#""attempts":"#).count(), 1, "{text}");
    }
}
