//! Whether a filter wants something.

use super::{Entry, Letter, Row};
use crate::inbox::{EventFilter, LetterFilter, ParkedFilter, QuarantineFilter, Quarantined};
use crate::model::{Outcome, Search};
use crate::route::Glob;

/// A field that is not set lets everything through.
fn is<T>(wanted: Option<&T>, test: impl FnOnce(&T) -> bool) -> bool {
    wanted.is_none_or(test)
}

fn any<T>(wanted: &[T], test: impl Fn(&T) -> bool) -> bool {
    wanted.is_empty() || wanted.iter().any(test)
}

fn is_type(globs: &[String], event_type: &str) -> bool {
    any(globs, |glob| Glob::new(glob).is_ok_and(|glob| glob.matches(event_type)))
}

pub(super) fn matches(filter: &EventFilter, entry: &Entry) -> bool {
    let EventFilter { types, categories, source, since, until, key, id, state, search } = filter;
    let event = &entry.stored;
    let encoding = event.content_encoding.as_deref();
    let has = |text: &String| event.body.as_ref().is_some_and(|body| Search::new(text).is_in(body, encoding));
    is_type(types, event.event_type.as_str())
        && any(categories, |category| *category == event.event_type.category())
        && is(source.as_ref(), |source| event.source.as_str() == source)
        && is(since.as_ref(), |since| event.received_at >= *since)
        && is(until.as_ref(), |until| event.received_at < *until)
        && is(key.as_ref(), |key| event.key.as_str() == key)
        && is(id.as_ref(), |id| event.id.as_str() == id)
        && is(state.as_ref(), |state| entry.state.as_ref().is_some_and(|other| other.eq_ignore_ascii_case(state)))
        && is(search.as_ref(), has)
}

pub(super) fn matches_letter(filter: &LetterFilter, row: &Row, letter: &Letter, entry: &Entry) -> bool {
    let LetterFilter { ids, sink, types, event_id, key, reason, since, until } = filter;
    let (event, record) = (&entry.stored, &letter.record);
    any(ids, |id| *id == letter.number)
        && is(sink.as_ref(), |sink| row.is_named(sink))
        && is_type(types, event.event_type.as_str())
        && is(event_id.as_ref(), |id| event.id.as_str() == id)
        && is(key.as_ref(), |key| event.key.as_str() == key)
        && is(reason.as_ref(), |reason| record.reason.contains(reason.as_str()))
        && is(since.as_ref(), |since| record.at >= *since)
        && is(until.as_ref(), |until| record.at < *until)
}

pub(super) fn matches_parked(filter: &ParkedFilter, row: &Row, entry: &Entry) -> bool {
    let ParkedFilter { seqs, sink, types, event_id, key, error } = filter;
    let event = &entry.stored;
    let last_error = || match &row.attempts.range((event.seq, 0)..=(event.seq, u32::MAX)).next_back()?.1.outcome {
        Outcome::Transient { reason, .. } | Outcome::Permanent { reason } => Some(reason.as_str()),
        Outcome::Delivered { .. } => None,
    };
    any(seqs, |seq| *seq == event.seq.get())
        && is(sink.as_ref(), |sink| row.is_named(sink))
        && is_type(types, event.event_type.as_str())
        && is(event_id.as_ref(), |id| event.id.as_str() == id)
        && is(key.as_ref(), |key| event.key.as_str() == key)
        && is(error.as_ref(), |error| last_error().is_some_and(|last| last.contains(error.as_str())))
}

pub(super) fn matches_request(filter: &QuarantineFilter, request: &Quarantined) -> bool {
    let QuarantineFilter { ids, source, since, until } = filter;
    any(ids, |id| *id == request.id)
        && is(source.as_ref(), |source| request.source == *source)
        && is(since.as_ref(), |since| request.received_at >= *since)
        && is(until.as_ref(), |until| request.received_at < *until)
}
