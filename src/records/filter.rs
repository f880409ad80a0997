//! Whether a filter can match anything. For whoever reads a list, "none" must not be the answer to a typing error.

use std::ops::ControlFlow;

use jiff::Timestamp;

use super::record::RecordFilter;
use super::utc;
use crate::inbox::sqlite::{Direction, ReadError, Reader};
use crate::inbox::{EventFilter, LetterFilter, ParkedFilter, QuarantineFilter};
use crate::model::{EventType, SinkName};
use crate::provider::simulation;
use crate::route::Glob;

/// What a filter names, as far as that can be wrong.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked<'a> {
    /// Globs over canonical types.
    pub types: &'a [String],
    /// A state that events report.
    pub state: Option<&'a str>,
    /// A source.
    pub source: Option<&'a str>,
    /// A sink.
    pub sink: Option<&'a str>,
    /// From then on.
    pub since: Option<Timestamp>,
    /// Before then.
    pub until: Option<Timestamp>,
}

impl<'a> From<&'a EventFilter> for Asked<'a> {
    fn from(filter: &'a EventFilter) -> Self {
        let EventFilter { types, state, source, since, until, .. } = filter;
        let (state, source) = (state.as_deref(), source.as_deref());
        Self { types, state, source, sink: None, since: *since, until: *until }
    }
}

impl<'a> From<&'a RecordFilter> for Asked<'a> {
    fn from(filter: &'a RecordFilter) -> Self {
        Self { since: filter.since, until: filter.until, ..Self::default() }
    }
}

impl<'a> From<&'a LetterFilter> for Asked<'a> {
    fn from(filter: &'a LetterFilter) -> Self {
        let LetterFilter { types, sink, since, until, .. } = filter;
        let sink = sink.as_ref().map(SinkName::as_str);
        Self { types, sink, since: *since, until: *until, ..Self::default() }
    }
}

impl<'a> From<&'a ParkedFilter> for Asked<'a> {
    fn from(filter: &'a ParkedFilter) -> Self {
        let ParkedFilter { types, sink, .. } = filter;
        Self { types, sink: sink.as_ref().map(SinkName::as_str), ..Self::default() }
    }
}

impl<'a> From<&'a QuarantineFilter> for Asked<'a> {
    fn from(filter: &'a QuarantineFilter) -> Self {
        let QuarantineFilter { source, since, until, .. } = filter;
        Self { source: source.as_deref(), since: *since, until: *until, ..Self::default() }
    }
}

/// The names in the configuration.
#[derive(Clone, Debug, Default)]
pub struct Configured {
    /// Of its sources.
    pub sources: Vec<String>,
    /// Of its sinks.
    pub sinks: Vec<String>,
}

/// Why a filter cannot match anything.
#[derive(Clone, Debug, PartialEq)]
pub enum CannotMatch {
    /// It is over before it begins.
    Times {
        /// Its beginning.
        since: Timestamp,
        /// Its end.
        until: Timestamp,
    },
    /// Neither the configuration nor the inbox has such a name.
    Name {
        /// `source` or `sink`.
        what: &'static str,
        /// As it was given.
        name: String,
        /// The names that there are.
        known: Vec<String>,
    },
    /// No event type that is documented or stored matches.
    Type(String),
    /// No event, documented or stored, reports this state.
    State(String),
}

impl CannotMatch {
    /// A sentence about it. `tell` writes times for whoever reads it.
    pub fn text(&self, tell: impl Fn(Timestamp) -> String) -> String {
        match self {
            Self::Times { since, until } => {
                format!("nothing is at or after {} and before {}: exchange them?", tell(*since), tell(*until))
            }
            Self::Name { what, name, known } if known.is_empty() => {
                format!("there is no {what} '{name}', neither in the configuration nor in the inbox, nor any other")
            }
            Self::Name { what, name, known } => {
                format!("there is no {what} '{name}'{}", instead(name, known.iter().map(String::as_str)))
            }
            Self::Type(glob) => {
                let mut all = groups();
                all.extend(simulation::types().map(str::to_owned));
                let exactly = format!("{glob}.*");
                let near = all.iter().find(|known| **known == exactly);
                let near = near.map(|near| format!("; did you mean '{near}'?"));
                let instead = near.unwrap_or_else(|| {
                    nearest(glob, all.iter().map(String::as_str)).map_or_else(
                        || format!(": there are {}", groups().join(", ")),
                        |near| format!("; did you mean '{near}'?"),
                    )
                });
                format!("no event type, documented or stored, matches '{glob}'{instead}")
            }
            Self::State(state) => {
                let known = states();
                format!("no event reports the state '{state}'{}", instead(state, known.iter().map(String::as_str)))
            }
        }
    }

    /// [`Self::text`] with times in UTC.
    pub fn utc(&self) -> String {
        self.text(utc)
    }
}

/// `payin.*` and the like, for each beginning of a documented type.
fn groups() -> Vec<String> {
    let mut groups: Vec<String> =
        simulation::types().filter_map(|name| name.split_once('.')).map(|(head, _)| format!("{head}.*")).collect();
    groups.sort_unstable();
    groups.dedup();
    groups
}

/// States that documented events report. Others are ordinary, too.
fn states() -> Vec<String> {
    let of_types =
        simulation::types().filter_map(|name| name.split_once('.')).map(|(_, last)| last.to_ascii_uppercase());
    let mut states: Vec<String> = of_types.chain(["REGULAR", "LIGHT"].map(str::to_owned)).collect();
    states.sort_unstable();
    states.dedup();
    states
}

fn nearest<'a>(word: &str, among: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_ascii_lowercase();
    let scored = among.map(|known| (strsim::jaro_winkler(&word, &known.to_ascii_lowercase()), known));
    scored.filter(|(score, _)| *score > 0.8).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, known)| known)
}

/// Names that are listed where none is near.
const LISTED: usize = 10;

fn instead<'a>(name: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    if let Some(near) = nearest(name, known.clone()) {
        return format!("; did you mean '{near}'?");
    }
    let (count, listed) = (known.clone().count(), known.take(LISTED).collect::<Vec<_>>().join(", "));
    let (verb, more) = (if count == 1 { "is" } else { "are" }, if count > LISTED { " and more" } else { "" });
    format!(": there {verb} {listed}{more}")
}

/// Types that the relay gives itself.
const OWN: [&str; 2] = [EventType::MALFORMED, EventType::UNKNOWN];

fn is_documented(glob: &Glob) -> bool {
    simulation::types().chain(OWN).any(|name| glob.matches(name))
}

/// `None` where it can match. Without a configuration no name is doubted. A type that no documentation knows is looked for
/// in the log, stretch by stretch, until `go_on` breaks, which is told how far of how many it is: then it is not doubted.
pub fn check(
    reader: &mut Reader,
    asked: Asked<'_>,
    configured: Option<&Configured>,
    go_on: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
) -> Result<Option<CannotMatch>, ReadError> {
    let Asked { types, state, source, sink, since, until } = asked;
    if let (Some(since), Some(until)) = (since, until)
        && since >= until
    {
        return Ok(Some(CannotMatch::Times { since, until }));
    }
    if let (Some(configured), Some(name)) = (configured, source) {
        let found = named("source", name, &configured.sources, || reader.source_names())?;
        if found.is_some() {
            return Ok(found);
        }
    }
    if let (Some(configured), Some(name)) = (configured, sink) {
        let stored = || Ok(reader.sink_names()?.iter().map(|name| name.as_str().to_owned()).collect());
        let found = named("sink", name, &configured.sinks, stored)?;
        if found.is_some() {
            return Ok(found);
        }
    }
    for glob in types {
        let is_known = Glob::new(glob).is_ok_and(|glob| is_documented(&glob));
        let filter = EventFilter { types: vec![glob.clone()], ..EventFilter::default() };
        if !is_known && !is_stored(reader, &filter, go_on)? {
            return Ok(Some(CannotMatch::Type(glob.clone())));
        }
    }
    if let Some(state) = state.filter(|state| !states().iter().any(|known| known.eq_ignore_ascii_case(state))) {
        let filter = EventFilter { state: Some(state.to_owned()), ..EventFilter::default() };
        if !is_stored(reader, &filter, go_on)? {
            return Ok(Some(CannotMatch::State(state.to_owned())));
        }
    }
    Ok(None)
}

fn named(
    what: &'static str,
    name: &str,
    configured: &[String],
    stored: impl FnOnce() -> Result<Vec<String>, ReadError>,
) -> Result<Option<CannotMatch>, ReadError> {
    if configured.iter().any(|known| known == name) {
        return Ok(None);
    }
    let mut known = stored()?;
    if known.iter().any(|known| known == name) {
        return Ok(None);
    }
    known.extend_from_slice(configured);
    known.sort_unstable();
    known.dedup();
    Ok(Some(CannotMatch::Name { what, name: name.to_owned(), known }))
}

fn is_stored(
    reader: &mut Reader,
    filter: &EventFilter,
    go_on: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
) -> Result<bool, ReadError> {
    let mut is_stored = false;
    reader.each_stretch(filter, Direction::Backward, None, &mut |stretch| {
        is_stored = !stretch.events.is_empty();
        if !is_stored && go_on(stretch.done, stretch.total).is_break() {
            // Nobody knows, so it is not doubted.
            is_stored = true;
        }
        if is_stored { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    Ok(is_stored)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(glob: &str) -> String {
        CannotMatch::Type(glob.to_owned()).utc()
    }

    #[test]
    fn what_is_meant_is_said_where_it_can_be_guessed() {
        for (glob, near) in [
            ("payin", "payin.*"),
            ("payn.*", "payin.*"),
            ("PAYIN.*", "payin.*"),
            ("payin.complete", "payin.completed"),
            ("payin.[completed", "payin.completed"),
        ] {
            assert!(said(glob).ends_with(&format!("did you mean '{near}'?")), "{}", said(glob));
        }
        assert!(said("zzz").contains("'zzz': there are account.*, "), "{}", said("zzz"));
        let name = |name: &str, known: &[&str]| {
            let known = known.iter().map(|&name| name.to_owned()).collect();
            CannotMatch::Name { what: "source", name: name.to_owned(), known }.utc()
        };
        assert_eq!(name("prod", &["production"]), "there is no source 'prod'; did you mean 'production'?");
        assert_eq!(name("x", &["production", "test"]), "there is no source 'x': there are production, test");
        assert_eq!(name("x", &["test"]), "there is no source 'x': there is test");
        let many: Vec<String> = (10..30).map(|n| format!("sink-{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(name("x", &many).ends_with("sink-19 and more"), "{}", name("x", &many));
        assert!(name("x", &[]).ends_with("nor any other"));
    }

    #[test]
    fn documented_types_are_legal_before_they_come() {
        let is_legal = |glob: &str| is_documented(&Glob::new(glob).unwrap());
        for legal in
            ["*", "payin.*", "viban.failed", "malformed", "unknown", "*.completed", "related_party.*", "PAYIN.*"]
        {
            assert!(is_legal(legal), "{legal}");
        }
        for typo in ["payin", "payn.*", "payin.[completed", "card.issued"] {
            assert!(!is_legal(typo), "{typo}");
        }
    }
}
