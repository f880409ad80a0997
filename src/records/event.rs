//! Events.

use std::io::{self, Write as _};

use data_encoding::HEXLOWER;
use serde::Serialize;
use utoipa::ToSchema;

use super::money::{Amount, amounts};
use super::{Body, Time, write_utc};
use crate::inbox::{self, AttemptRecord, EventDetail, EventSummary, PairState};
use crate::model::view::View;
use crate::model::{JobId, Reading, content_encoding};

/// What is known of an event before its body is read.
#[derive(Serialize, ToSchema)]
#[schema(as = EventSummary)]
pub struct Summary<'a> {
    seq: i64,
    id: &'a str,
    r#type: &'a str,
    category: &'static str,
    source: &'a str,
    key: &'a str,
    /// The provider's time, where it gave one.
    time: Option<Time>,
    received_at: Time,
    /// Bytes of the body.
    size: u64,
    /// Arrived after a final state of the same entity.
    stale: bool,
    /// Another event with this id and other bytes came first.
    conflict: bool,
    /// How often it came in: 1, and one more for each duplicate.
    arrivals: u64,
    body_sha256: String,
    /// Its signature did not hold when it came in: it was admitted from the quarantine.
    admitted: bool,
    /// Its body was found to have another SHA-256 than what came in.
    digest_mismatch: bool,
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
            time: event.time.map(Time),
            received_at: Time(event.received_at),
            size: event.size,
            stale: event.stale,
            conflict: event.conflict,
            arrivals: event.arrivals,
            body_sha256: event.body_sha256.to_string(),
            admitted: event.admitted,
            digest_mismatch: event.digest_mismatch,
        }
    }
}

/// Writes a [`Stated`] as JSON, to the byte what serde makes of it: one line of `events list`. By hand, with the names as they stand: in a list of
/// a million events most of the time would go into names that are always the same.
pub fn write_json(event: &EventSummary, line: &mut Vec<u8>) -> io::Result<()> {
    let EventSummary { seq, id, event_type, category, source, key, time, received_at, .. } = event;
    write!(line, r#"{{"seq":{seq},"id":"#)?;
    serde_json::to_writer(&mut *line, id.as_str())?;
    line.extend_from_slice(br#","type":"#);
    serde_json::to_writer(&mut *line, event_type.as_str())?;
    line.extend_from_slice(br#","category":""#);
    line.extend_from_slice(category.as_str().as_bytes());
    // The name of a source has nothing to escape.
    line.extend_from_slice(br#"","source":""#);
    line.extend_from_slice(source.as_str().as_bytes());
    line.extend_from_slice(br#"","key":"#);
    serde_json::to_writer(&mut *line, key.as_str())?;
    match time {
        Some(time) => {
            line.extend_from_slice(br#","time":""#);
            write_utc(*time, line)?;
            line.push(b'"');
        }
        None => line.extend_from_slice(br#","time":null"#),
    }
    line.extend_from_slice(br#","received_at":""#);
    write_utc(*received_at, line)?;
    let EventSummary { size, stale, conflict, arrivals, body_sha256, admitted, digest_mismatch, .. } = event;
    write!(line, r#"","size":{size},"stale":{stale},"conflict":{conflict},"arrivals":{arrivals},"body_sha256":""#)?;
    line.extend_from_slice(HEXLOWER.encode_mut_str(body_sha256.as_bytes(), &mut [0; 64]).as_bytes());
    write!(line, r#"","admitted":{admitted},"digest_mismatch":{digest_mismatch},"state":"#)?;
    serde_json::to_writer(&mut *line, &event.state)?;
    line.push(b'}');
    Ok(())
}

/// `events show`.
#[derive(Serialize, ToSchema)]
#[schema(as = EventDetail)]
pub struct Detail<'a> {
    #[serde(flatten)]
    summary: Summary<'a>,
    state: Option<&'a str>,
    #[serde(flatten)]
    body: Body,
    /// Members that an object of the body gives more than once, by name: of each the first counts.
    repeated_members: Vec<String>,
    signature: &'a str,
    /// The fingerprint of the secret that signed it; null where an older version stored it, which noted only the slot.
    secret: Option<String>,
    /// The place in the configuration that this secret had then.
    secret_slot: u32,
    /// The sender's address; null where an older version stored it. Of IPv6 addresses in the quarantine only a /64 is kept.
    peer: Option<&'a str>,
    /// How it came out of the quarantine; null where its signature held when it came in.
    admission: Option<Admission<'a>>,
    /// Whether the body has the SHA-256 of what came in; null where there is no body.
    body_matches: Option<bool>,
    /// When it was first found not to have it.
    mismatch_found_at: Option<Time>,
    /// Pairs of name and value.
    #[schema(value_type = Vec<[String; 2]>)]
    headers: &'a [(String, String)],
    attempts: Vec<Attempt<'a>>,
    sinks: Vec<Pair<'a>>,
    lifecycle: Vec<Stated<'a>>,
    /// The body in the terms of its category, where it fits them.
    #[schema(value_type = Option<Object>)]
    view: Option<View>,
    /// The amounts that it tells of, as people read them.
    amounts: Vec<Amount>,
}

/// How an event came out of the quarantine.
#[derive(Serialize, ToSchema)]
#[schema(as = Admission)]
struct Admission<'a> {
    at: Time,
    /// The entry of the record, which says why.
    record: i64,
    who: &'a str,
    /// The number that it had in the quarantine.
    request: i64,
    /// Why it was refused when it came in.
    refused: &'a str,
}

impl<'a> From<&'a inbox::Admission> for Admission<'a> {
    fn from(admission: &'a inbox::Admission) -> Self {
        let inbox::Admission { at, job, who, request, refused } = admission;
        Self { at: Time(*at), record: job.get(), who, request: *request, refused }
    }
}

/// One attempt at a sink.
#[derive(Serialize, ToSchema)]
#[schema(as = Attempt)]
pub struct Attempt<'a> {
    sink: &'a str,
    replay: Option<i64>,
    n: u32,
    at: Time,
    #[schema(value_type = u64)]
    latency_ms: u128,
    outcome: &'static str,
    /// Receipt, or reason of the failure.
    note: &'a str,
    /// What the far side answered to an attempt that failed, up to 1 KiB. Kept of the first attempt, of the latest one,
    /// and of those at which it changed, as long as the event's body is.
    answer: Option<&'a str>,
    /// Which revision the sink was then, see `/api/sinks/{name}`; null where an older version made the attempt.
    revision: Option<u32>,
    /// Where that one sent events.
    target: Option<&'a str>,
}

/// What became of an event at one sink. Which fields are set hangs on the state; all are always there.
#[derive(Default, Serialize, ToSchema)]
#[schema(as = SinkState)]
pub struct Pair<'a> {
    sink: &'a str,
    state: &'static str,
    /// When it came into this state; for a filtered one, since when the route that decided is in force.
    at: Option<Time>,
    reason: Option<&'a str>,
    receipt: Option<&'a str>,
    route: Option<&'a str>,
    attempts: Option<u32>,
    next_attempt: Option<Time>,
    dead_letter: Option<i64>,
    who: Option<&'a str>,
    /// When a person ended the sink, which was removed; its name may be another sink's now.
    forgotten_at: Option<Time>,
}

impl<'a> Pair<'a> {
    /// How the pair of an event and this sink stands.
    pub fn new(pair: &'a inbox::Pair) -> Self {
        let inbox::Pair { sink, forgotten_at, state, consumer: _ } = pair;
        let forgotten_at = forgotten_at.map(Time);
        let base = Self { sink: sink.as_str(), state: state.as_str(), forgotten_at, ..Self::default() };
        match state {
            PairState::BeforeStart | PairState::Waiting => base,
            PairState::Parked { attempts, next_attempt } => {
                Self { attempts: Some(*attempts), next_attempt: Some(Time(*next_attempt)), ..base }
            }
            PairState::Delivered { at, receipt } => Self { at: Some(Time(*at)), receipt: Some(receipt), ..base },
            PairState::Filtered { route, since } => Self { at: Some(Time(*since)), route: Some(route), ..base },
            PairState::DeadLetter { id, reason, at } => {
                Self { at: Some(Time(*at)), reason: Some(reason), dead_letter: Some(*id), ..base }
            }
            PairState::Discarded { reason, who, at } => {
                Self { at: Some(Time(*at)), reason: Some(reason), who: who.as_deref(), ..base }
            }
        }
    }
}

/// An event with the state that it reports: what lists have, and how the other events of an entity are shown.
#[derive(Serialize, ToSchema)]
#[schema(as = Event)]
pub struct Stated<'a> {
    #[serde(flatten)]
    summary: Summary<'a>,
    state: Option<&'a str>,
}

impl<'a> From<&'a EventSummary> for Stated<'a> {
    fn from(event: &'a EventSummary) -> Self {
        Self { summary: event.into(), state: event.state.as_deref() }
    }
}

impl<'a> From<&'a EventDetail> for Detail<'a> {
    fn from(event: &'a EventDetail) -> Self {
        let view = view(event);
        Self {
            amounts: view.as_ref().map(amounts).unwrap_or_default(),
            summary: (&event.summary).into(),
            state: event.summary.state.as_deref(),
            body: Body::new(event.body.as_deref(), &event.headers),
            repeated_members: repeated_members(event),
            signature: &event.signature,
            secret: event.secret.map(|secret| secret.to_string()),
            secret_slot: event.secret_slot,
            peer: event.peer.as_deref(),
            admission: event.admission.as_ref().map(Admission::from),
            body_matches: event.body_matches,
            mismatch_found_at: event.mismatch_found_at.map(Time),
            headers: &event.headers,
            attempts: event.attempts.iter().map(Attempt::from).collect(),
            sinks: event.sinks.iter().map(Pair::new).collect(),
            lifecycle: event.lifecycle.iter().map(Stated::from).collect(),
            view,
        }
    }
}

impl<'a> From<&'a AttemptRecord> for Attempt<'a> {
    fn from(attempt: &'a AttemptRecord) -> Self {
        Self {
            sink: attempt.sink.as_str(),
            replay: attempt.replay.map(JobId::get),
            n: attempt.n,
            at: Time(attempt.at),
            latency_ms: attempt.latency.as_millis(),
            outcome: attempt.outcome.as_str(),
            note: &attempt.note,
            answer: attempt.answer.as_deref(),
            revision: attempt.revision,
            target: attempt.target.as_deref(),
        }
    }
}

/// What the event says in the terms of its category, where it fits them.
pub fn view(event: &EventDetail) -> Option<View> {
    View::read(&event.summary.event_type, &reading(event)?)
}

/// The body as everybody reads it; `None` once retention has dropped it.
pub fn reading(event: &EventDetail) -> Option<Reading<'_>> {
    Some(Reading::of(event.body.as_deref()?, content_encoding(&event.headers).as_deref()))
}

/// Members that an object of the body gives more than once, by name.
pub fn repeated_members(event: &EventDetail) -> Vec<String> {
    reading(event).map(|reading| reading.repeated_members()).unwrap_or_default()
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use jiff::Timestamp;
    use serde_json::{Value, json};

    use super::*;
    use crate::inbox::{AttemptState, ConsumerId};
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
            admitted: false,
            digest_mismatch: false,
        }
    }

    #[test]
    fn a_line_is_what_serde_makes_of_it() {
        let plain = summary(7);
        let odd = EventSummary {
            id: EventId::new("a\"b\\c").unwrap(),
            key: EntityKey::new("Zoë \u{202e}\"").unwrap(),
            event_type: EventType::canonical("odd.\"type\\").unwrap(),
            time: Some("2026-02-26T17:02:28.7667797-05:00".parse().unwrap()),
            received_at: "0999-12-31T23:59:59Z".parse().unwrap(),
            size: u64::MAX,
            state: None,
            stale: false,
            conflict: true,
            admitted: true,
            digest_mismatch: true,
            ..summary(i64::MAX)
        };
        for event in [plain, odd] {
            let mut line = Vec::new();
            write_json(&event, &mut line).unwrap();
            assert_eq!(String::from_utf8(line).unwrap(), serde_json::to_string(&Stated::from(&event)).unwrap());
        }
    }

    /// One sink in each state.
    fn pairs() -> Vec<inbox::Pair> {
        let at: Timestamp = "2026-01-31T10:00:09Z".parse().unwrap();
        let states = [
            ("archive", PairState::BeforeStart),
            ("bus", PairState::Delivered { at, receipt: "confirm 1".to_owned() }),
            ("crm", PairState::Discarded { reason: "a test".to_owned(), who: Some("ann@host".to_owned()), at }),
            ("erp", PairState::Filtered { route: "payout.*".to_owned(), since: at }),
            ("handler", PairState::Parked { attempts: 2, next_attempt: at }),
            ("ledger", PairState::DeadLetter { id: 9, reason: "HTTP 422".to_owned(), at }),
            ("mail", PairState::Waiting),
        ];
        let pair = |(n, (sink, state)): (i64, (&str, PairState))| inbox::Pair {
            sink: SinkName::new(sink).unwrap(),
            consumer: ConsumerId::new(n),
            forgotten_at: (sink == "crm").then_some(at),
            state,
        };
        (1..).zip(states).map(pair).collect()
    }

    pub(crate) fn detail(body: Option<&'static [u8]>) -> EventDetail {
        EventDetail {
            summary: summary(7),
            body: body.map(Bytes::from_static),
            signature: "abc".to_owned(),
            secret: None,
            secret_slot: 1,
            peer: Some("203.0.113.9".to_owned()),
            admission: None,
            body_matches: body.map(|_| true),
            mismatch_found_at: None,
            headers: vec![("user-agent".to_owned(), "evil\u{1b}[2J".to_owned())],
            lifecycle: vec![summary(6), summary(7)],
            attempts: vec![AttemptRecord {
                consumer: ConsumerId::new(2),
                sink: SinkName::new("bus").unwrap(),
                replay: Some(JobId::new(4)),
                n: 1,
                at: "2026-01-31T10:00:01Z".parse().unwrap(),
                latency: Duration::from_millis(12),
                outcome: AttemptState::Delivered,
                note: "confirm 1".to_owned(),
                answer: None,
                revision: Some(2),
                target: Some("amqp://mq:5672, exchange ralio".to_owned()),
            }],
            sinks: pairs(),
        }
    }

    #[test]
    fn the_fields_of_a_list_are_the_documented_ones_in_order() {
        let line = serde_json::to_string(&Stated::from(&summary(7))).unwrap();
        let digest = Digest::of(b"{}");
        let expected = format!(
            r#"{{"seq":7,"id":"evt-1","type":"payin.completed","category":"payin","source":"production","key":"order-1","time":null,"received_at":"2026-01-31T10:00:00.500000Z","size":2,"stale":true,"conflict":false,"arrivals":3,"body_sha256":"{digest}","admitted":false,"digest_mismatch":false,"state":"COMPLETED"}}"#
        );
        assert_eq!(line, expected);
    }

    #[test]
    fn each_sink_has_a_state_and_every_field() {
        let shown = serde_json::to_value(Detail::from(&detail(None))).unwrap();
        let states: Vec<_> = shown["sinks"].as_array().unwrap().iter().map(|pair| pair["state"].clone()).collect();
        let all =
            ["before_start", "delivered", "discarded", "filtered", "parked", "dead_letter", "waiting"].map(Value::from);
        assert_eq!(states, all);
        let at = "2026-01-31T10:00:09.000000Z";
        let letter = json!({"sink": "ledger", "state": "dead_letter", "at": at, "reason": "HTTP 422", "receipt": null,
            "route": null, "attempts": null, "next_attempt": null, "dead_letter": 9, "who": null, "forgotten_at": null});
        assert_eq!(shown["sinks"][2]["forgotten_at"], at, "its name may be another sink's now");
        assert_eq!(shown["sinks"][5], letter);
        assert_eq!(
            (&shown["sinks"][1]["receipt"], &shown["sinks"][2]["who"]),
            (&json!("confirm 1"), &json!("ann@host"))
        );
        assert_eq!((&shown["sinks"][3]["route"], &shown["sinks"][3]["at"]), (&json!("payout.*"), &json!(at)));
        assert_eq!((&shown["sinks"][4]["attempts"], &shown["sinks"][4]["next_attempt"]), (&json!(2), &json!(at)));
    }

    #[test]
    fn show_adds_body_signature_attempts_and_lifecycle() {
        let shown = serde_json::to_value(Detail::from(&detail(Some(b"\xff")))).unwrap();
        assert_eq!(shown["seq"], 7);
        assert_eq!((&shown["body"], &shown["body_encoding"]), (&json!("/w=="), &json!("base64")));
        assert_eq!(shown["signature"], "abc");
        assert_eq!(shown["attempts"][0]["outcome"], "delivered");
        assert_eq!(shown["attempts"][0]["replay"], 4);
        assert_eq!(shown["lifecycle"][0]["seq"], 6);
        assert_eq!(shown["lifecycle"][0]["state"], "COMPLETED");
        assert_eq!(
            (&shown["view"], &shown["repeated_members"], &shown["amounts"]),
            (&json!(null), &json!([]), &json!([]))
        );
        let twice = serde_json::to_value(Detail::from(&detail(Some(br#"{"a":1,"\u0061":2}"#)))).unwrap();
        assert_eq!(twice["repeated_members"], json!(["a"]));
        let pruned = serde_json::to_value(Detail::from(&detail(None))).unwrap();
        assert_eq!((&pruned["body"], &pruned["view"]), (&json!(null), &json!(null)));
    }
}
