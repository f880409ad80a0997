//! Does this sink want this event? Globs over canonical types, and a CEL expression over the event. No I/O.

#[cfg(feature = "filters")]
mod filter;
mod glob;

use bytes::Bytes;
use jiff::Timestamp;

#[cfg(feature = "filters")]
pub use filter::{Filter, InvalidFilter};
pub use glob::{Glob, InvalidGlob};

#[cfg(feature = "filters")]
use crate::model::Reading;
use crate::model::{EntityKey, EventId, EventType, Seq, SourceName};

/// What a route decides on; cheap to clone.
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
    /// `Content-Encoding` as received, where the body has one.
    pub content_encoding: Option<String>,
    /// The body as received; `None` once retention has dropped it.
    pub body: Option<Bytes>,
}

impl Subject {
    /// The body as everybody reads it; empty where it is gone.
    #[cfg(feature = "filters")]
    fn reading(&self) -> Reading<'_> {
        Reading::of(self.body.as_deref().unwrap_or_default(), self.content_encoding.as_deref())
    }
}

/// Whether a sink gets an event.
#[must_use = "a verdict that is dropped is an event that vanishes"]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It does.
    Wanted,
    /// It does not.
    Filtered,
    /// The filter could not be evaluated: the event is delivered, and the error counted. The text holds nothing of the
    /// event, so that it can be logged.
    Unsure(String),
}

/// What one sink wants. The thread of its filter ends when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct Route {
    globs: Vec<Glob>,
    #[cfg(feature = "filters")]
    filter: Option<Filter>,
}

impl Route {
    /// Events of a type that any of the globs matches; every event when there are none.
    pub fn new(globs: Vec<Glob>) -> Self {
        Self {
            globs,
            #[cfg(feature = "filters")]
            filter: None,
        }
    }

    /// Of these, only those for which the expression is true.
    #[cfg(feature = "filters")]
    #[must_use]
    pub fn with_filter(self, filter: Filter) -> Self {
        Self { filter: Some(filter), ..self }
    }

    /// Decides on each, in the same order. The filter is asked on a thread of its own, so the caller's never waits; an
    /// event without a body is wanted whatever the filter says: what becomes of it is the consumer's business.
    /// Cancel-safe: dropping the future stops the work after the event at hand.
    pub async fn judge(&self, subjects: Vec<Subject>) -> Vec<Verdict> {
        #[cfg(feature = "filters")]
        if let Some(filter) = &self.filter {
            return self.filtered(filter, subjects).await;
        }
        subjects.iter().map(|subject| self.by_type(subject)).collect()
    }

    #[cfg(feature = "filters")]
    async fn filtered(&self, filter: &Filter, subjects: Vec<Subject>) -> Vec<Verdict> {
        let mut verdicts: Vec<Verdict> = subjects.iter().map(|subject| self.by_type(subject)).collect();
        let open = |(index, subject): &(usize, Subject)| verdicts[*index] == Verdict::Wanted && subject.body.is_some();
        let (places, open): (Vec<usize>, Vec<Subject>) = subjects.into_iter().enumerate().filter(open).unzip();
        if !open.is_empty() {
            for (place, verdict) in places.into_iter().zip(filter.judge(open).await) {
                verdicts[place] = verdict;
            }
        }
        verdicts
    }

    fn by_type(&self, subject: &Subject) -> Verdict {
        if self.wants(&subject.event_type) { Verdict::Wanted } else { Verdict::Filtered }
    }

    /// Whether the globs alone let events of this type through.
    pub fn wants(&self, event_type: &EventType) -> bool {
        self.globs.is_empty() || self.globs.iter().any(|glob| glob.matches(event_type.as_str()))
    }

    /// The globs as written; none for every type.
    pub fn globs(&self) -> impl Iterator<Item = &str> {
        self.globs.iter().map(Glob::as_str)
    }

    /// The filter's expression, where there is one.
    pub fn expression(&self) -> Option<&str> {
        #[cfg(feature = "filters")]
        return self.filter.as_ref().map(Filter::expression);
        #[cfg(not(feature = "filters"))]
        None
    }

    /// Whether the type alone decides, so that [`Self::wants`] says all.
    pub fn is_by_type(&self) -> bool {
        #[cfg(feature = "filters")]
        return self.filter.is_none();
        #[cfg(not(feature = "filters"))]
        true
    }

    /// The route as one line of text, stored with the range of events that it decided: the globs, then, after two
    /// spaces (which never are between globs), the filter as a JSON string.
    pub fn revision(&self) -> String {
        let globs: Vec<&str> = self.globs.iter().map(Glob::as_str).collect();
        let globs = if globs.is_empty() { "*".to_owned() } else { globs.join(" ") };
        #[cfg(feature = "filters")]
        if let Some(filter) = &self.filter {
            return format!("{globs}  filter {}", serde_json::Value::from(filter.expression()));
        }
        globs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_globs_want_everything() {
        assert!(Route::new(Vec::new()).wants(&EventType::malformed()));
        let payins = Route::new(vec![Glob::new("payin.*").unwrap()]);
        assert!(!payins.wants(&EventType::malformed()));
        assert_eq!(payins.revision(), "payin.*");
        assert_eq!(Route::new(Vec::new()).revision(), "*");
    }
}
