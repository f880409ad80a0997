//! The two generations of envelope, read leniently: only what the relay needs, and never a failure.

use std::borrow::Cow;
use std::cell::Cell;

use jiff::Timestamp;

use super::json::{Found, is_json, members, members_nested, string, text};
use super::{Category, EntityKey, EventId, EventType, Reading, time};

/// The longest state that is kept, in bytes.
const MAX_STATE_BYTES: usize = 64;

/// What the relay reads from a body whose signature holds. Everything else stays in the body, byte for byte.
#[derive(Clone, Debug, PartialEq)]
pub struct Envelope {
    /// `eventId` (current generation) or `id` (legacy); `None` when missing or unusable.
    pub id: Option<EventId>,
    /// Canonical type; [`EventType::MALFORMED`] when the body is not JSON, [`EventType::UNKNOWN`] without a usable one.
    pub event_type: EventType,
    /// When the provider says that it happened; `None` where no moment can be told from that.
    pub time: Option<Timestamp>,
    /// What the event is about; `None` when `data` names no entity (the event is then its own).
    pub key: Option<EntityKey>,
    /// The state that the event reports, such as `COMPLETED` or `REGULAR`; at most 64 bytes.
    pub state: Option<String>,
    /// One of the members that were looked at is given more than once; the first counts.
    pub is_ambiguous: bool,
}

impl Envelope {
    /// Reads a body that is not compressed; see [`Self::read`].
    ///
    /// ```
    /// use ralio_relay::model::Envelope;
    ///
    /// let envelope = Envelope::parse(
    ///     br#"{"eventId": "evt-1", "eventType": "payin_completed", "timestamp": "2026-02-26T17:02:28.7667797-05:00",
    ///          "data": {"orderId": 4711, "status": "COMPLETED"}}"#,
    /// );
    /// assert_eq!(envelope.id.unwrap().as_str(), "evt-1");
    /// assert_eq!(envelope.event_type.as_str(), "payin.completed");
    /// assert_eq!(envelope.time.unwrap().to_string(), "2026-02-26T22:02:28.7667797Z");
    /// assert_eq!(envelope.key.unwrap().as_str(), "4711");
    /// assert_eq!(envelope.state.as_deref(), Some("COMPLETED"));
    ///
    /// assert_eq!(Envelope::parse(b"not JSON").event_type.as_str(), "malformed");
    /// ```
    pub fn parse(body: &[u8]) -> Self {
        Self::read(&Reading::of(body, None))
    }

    /// Reads a body. Total: whatever the bytes are, the answer is an envelope.
    ///
    /// Where both generations' fields are there, the current one's count; a repeated member counts the first time. An
    /// id may be a number: it is taken as it is written. A field of a wrong type counts as missing. Bytes that are not
    /// UTF-8 are read as U+FFFD, and a byte order mark is passed over.
    pub fn read(reading: &Reading<'_>) -> Self {
        let json = reading.text();
        let names = ["eventId", "id", "eventType", "event", "timestamp", "data"];
        let is_repeated = Cell::new(false);
        let found = members_nested(&json, &names, &Data::NAMES, &is_repeated);
        let found = found.filter(|_| has_no_control(&json) || is_json(&json));
        let Some(([event_id, id, event_type, event, timestamp, _], data)) = found else {
            let event_type = if is_json(&json) { EventType::unknown() } else { EventType::malformed() };
            return Self { id: None, event_type, time: None, key: None, state: None, is_ambiguous: false };
        };
        let data = Data::read(data);
        let event_type =
            [event_type, event].into_iter().flatten().find_map(canonical).unwrap_or_else(EventType::unknown);
        Self {
            id: [event_id, id].into_iter().flatten().find_map(|raw| EventId::new(&text(raw)?)),
            time: timestamp.and_then(text).and_then(|time| time::read(&time)),
            key: data.key,
            state: data.state.or_else(|| implied_state(&event_type)),
            event_type,
            is_ambiguous: is_repeated.get(),
        }
    }
}

/// Names are read leniently: a raw control character in one of them, which JSON forbids, passes there. Nearly every body is
/// on one line and without any; others are looked at once more.
fn has_no_control(json: &str) -> bool {
    json.bytes().fold(true, |none, byte| none & (byte >= b' '))
}

fn canonical(raw: &str) -> Option<EventType> {
    EventType::canonical(&string(raw)?)
}

/// A string or a number, where it can name an entity.
pub(super) fn entity(raw: &str) -> Option<EntityKey> {
    EntityKey::new(&text(raw)?)
}

/// A string or a number, where it can be a state.
pub(super) fn state(raw: &str) -> Option<Cow<'_, str>> {
    text(raw).filter(|state| is_state(state))
}

fn is_state(text: &str) -> bool {
    (1..=MAX_STATE_BYTES).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// For money the type tells the state where `data` does not.
fn implied_state(event_type: &EventType) -> Option<String> {
    match event_type.category() {
        Category::Payin | Category::Payout | Category::Transfer => {
            event_type.step().filter(|step| is_state(step)).map(str::to_ascii_uppercase)
        }
        Category::Kyc | Category::Account | Category::Other => None,
    }
}

struct Data {
    key: Option<EntityKey>,
    state: Option<String>,
}

impl Data {
    /// Entities in the order in which they name an event, then the states.
    const NAMES: [&str; 13] = [
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
        "status",
        "state",
    ];

    fn read(members_of_data: Found<'_, 13>) -> Self {
        let [order, session, kyc_session, entities @ .., status, other_state] = members_of_data;
        let kyc_session = kyc_session.and_then(|raw| members(raw, &["id"])).and_then(|[id]| id);
        Self {
            key: [order, session, kyc_session].into_iter().chain(entities).flatten().find_map(entity),
            state: [status, other_state].into_iter().flatten().find_map(state).map(Cow::into_owned),
        }
    }
}

#[cfg(test)]
mod tests;
