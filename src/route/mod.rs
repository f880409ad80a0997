//! Does this sink want this event? Globs over canonical types. Pure.

use bytes::Bytes;
use jiff::Timestamp;

use crate::model::{EntityKey, EventId, EventType, Seq, SourceName};

/// What a route decides on.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Place in the log.
    pub seq: Seq,
    /// Event id.
    pub id: EventId,
    /// Canonical type.
    pub event_type: EventType,
    /// Where it came in.
    pub source: SourceName,
    /// What it is about.
    pub key: EntityKey,
    /// The provider's time, where it gave one.
    pub time: Option<Timestamp>,
    /// When it came in.
    pub received_at: Timestamp,
    /// Arrived after a final state of the same entity.
    pub stale: bool,
    /// The body as received; `None` once retention has dropped it.
    pub body: Option<Bytes>,
}

/// Whether a sink gets an event.
#[must_use = "a verdict that is dropped is an event that vanishes"]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It does.
    Wanted,
    /// It does not.
    Filtered,
    /// The filter could not be evaluated: the event is delivered, and the error counted.
    Unsure(String),
}

/// A pattern over canonical types: `*` is any run of characters, dots included, `?` is one; all else is literal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob(String);

/// A pattern that could never match, or is too long.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("'{0}' is not an event pattern: use a canonical type such as 'payin.completed', or a glob such as 'payin.*'")]
pub struct InvalidGlob(String);

impl Glob {
    /// Accepts 1 to 128 visible ASCII characters.
    pub fn new(pattern: &str) -> Result<Self, InvalidGlob> {
        let ok = (1..=128).contains(&pattern.len()) && pattern.bytes().all(|b| b.is_ascii_graphic());
        if ok { Ok(Self(pattern.to_owned())) } else { Err(InvalidGlob(pattern.to_owned())) }
    }

    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the whole type matches. Linear in the product of both lengths at worst, without recursion.
    pub fn matches(&self, text: &str) -> bool {
        let (pattern, text) = (self.0.as_bytes(), text.as_bytes());
        let (mut p, mut t) = (0, 0);
        let mut retry: Option<(usize, usize)> = None;
        while t < text.len() {
            match pattern.get(p) {
                Some(b'*') => {
                    retry = Some((p, t));
                    p += 1;
                }
                Some(&c) if c == b'?' || c == text[t] => {
                    p += 1;
                    t += 1;
                }
                _ => match &mut retry {
                    Some((star, from)) => {
                        *from += 1;
                        (p, t) = (*star + 1, *from);
                    }
                    None => return false,
                },
            }
        }
        pattern[p..].iter().all(|&c| c == b'*')
    }
}

/// What one sink wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    globs: Vec<Glob>,
}

impl Route {
    /// Events of a type that any of the globs matches; every event when there are none.
    pub fn new(globs: Vec<Glob>) -> Self {
        Self { globs }
    }

    /// Decides on each, in the same order.
    #[expect(clippy::unused_async, reason = "a filter is asked on a thread of its own")]
    pub async fn judge(&self, subjects: Vec<Subject>) -> Vec<Verdict> {
        let judge = |subject: &Subject| {
            if self.wants(&subject.event_type) { Verdict::Wanted } else { Verdict::Filtered }
        };
        subjects.iter().map(judge).collect()
    }

    /// Whether this sink wants events of this type.
    pub fn wants(&self, event_type: &EventType) -> bool {
        self.globs.is_empty() || self.globs.iter().any(|glob| glob.matches(event_type.as_str()))
    }

    /// The route as one line of text, stored with the range of events that it decided.
    pub fn revision(&self) -> String {
        let globs: Vec<&str> = self.globs.iter().map(Glob::as_str).collect();
        if globs.is_empty() { "*".to_owned() } else { globs.join(" ") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        Glob::new(pattern).unwrap().matches(text)
    }

    #[test]
    fn globs_match_whole_types() {
        assert!(matches("payin.*", "payin.completed"));
        assert!(matches("*", "malformed"));
        assert!(matches("*.completed", "payout.completed"));
        assert!(matches("k?c.*", "kyc.state_updated"));
        assert!(matches("*party*session*", "related_party.kyc_session_created"));
        assert!(!matches("payin", "payin.completed"));
        assert!(!matches("payin.*", "payins.completed"));
        assert!(!matches("*.failed", "payin.failed_late"));
    }

    #[test]
    fn a_pattern_of_many_stars_ends_quickly() {
        assert!(!matches(&"*a".repeat(60), &"a".repeat(59)));
    }

    #[test]
    fn no_globs_want_everything() {
        assert!(Route::new(Vec::new()).wants(&EventType::malformed()));
        let payins = Route::new(vec![Glob::new("payin.*").unwrap()]);
        assert!(!payins.wants(&EventType::malformed()));
        assert_eq!(payins.revision(), "payin.*");
    }
}
