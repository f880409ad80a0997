//! Which events: the options that every command over events shares.

use anyhow::anyhow;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use jiff::{Span, SpanRelativeTo, Timestamp};

use crate::inbox::EventFilter;
use crate::model::{Category, EventType};
use crate::route::Glob;

/// Every option narrows; without any it is every event.
#[derive(clap::Args, Debug, Default)]
#[command(next_help_heading = "Filters")]
pub(crate) struct Filters {
    /// Canonical type, or a glob such as 'payin.*'; may repeat
    #[arg(long = "type", value_name = "GLOB", value_parser = pattern)]
    types: Vec<String>,

    /// Category; may repeat
    #[arg(long, value_parser = category_parser())]
    category: Vec<Category>,

    /// Name of the source that it came in at
    #[arg(long, value_name = "NAME")]
    source: Option<String>,

    /// Received at or after: RFC 3339, a date (its first moment in UTC), or how long ago, such as 24h or '7d ago'
    #[arg(long, value_name = "TIME", value_parser = moment_from_now)]
    since: Option<Timestamp>,

    /// Received before
    #[arg(long, value_name = "TIME", value_parser = moment_from_now)]
    until: Option<Timestamp>,

    /// Entity key: the order, session or account that it is about
    #[arg(long, value_name = "KEY")]
    key: Option<String>,

    /// Event id
    #[arg(long, value_name = "ID")]
    id: Option<String>,

    /// State that it reports, such as COMPLETED
    #[arg(long, value_name = "STATE")]
    state: Option<String>,

    /// Text that the body holds, byte for byte
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
}

fn category_parser() -> impl TypedValueParser<Value = Category> {
    let parser = PossibleValuesParser::new(Category::ALL.map(Category::as_str));
    parser.map(|name| {
        Category::ALL.into_iter().find(|category| category.as_str() == name).expect("only these names are possible")
    })
}

impl Filters {
    /// The filter as the inbox takes it.
    pub(crate) fn into_filter(self) -> EventFilter {
        EventFilter {
            types: self.types,
            categories: self.category,
            source: self.source,
            since: self.since,
            until: self.until,
            key: self.key,
            id: self.id,
            state: self.state,
            search: self.search,
        }
    }
}

/// A type in either spelling, or a glob. `payin_completed` is what the wire says and people paste.
pub(super) fn pattern(text: &str) -> anyhow::Result<String> {
    let canonical = EventType::canonical(text).filter(|_| !text.contains(['*', '?']));
    let pattern = canonical.map_or_else(|| text.to_owned(), |canonical| canonical.to_string());
    Glob::new(&pattern)?;
    Ok(pattern)
}

/// A time as people write it.
pub(super) fn moment_from_now(text: &str) -> anyhow::Result<Timestamp> {
    moment(text, Timestamp::now())
}

/// A time as people write it; spans count back from `now`.
fn moment(text: &str, now: Timestamp) -> anyhow::Result<Timestamp> {
    if let Some(at) = crate::config::instant(text) {
        return Ok(at);
    }
    let wrong = || anyhow!("not a time: write 2026-01-31T10:00:00Z, 2026-01-31, 24h or '7d ago'");
    let span: Span = text.trim().parse().map_err(|_| wrong())?;
    let back = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| wrong())?.abs();
    now.checked_sub(back).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> String {
        let now = "2026-11-22T12:00:00Z".parse().unwrap();
        moment(text, now).map_or_else(|error| error.to_string(), |at| at.to_string())
    }

    #[test]
    fn times_are_instants_dates_or_spans_back() {
        assert_eq!(at("2026-01-31T10:00:00+02:00"), "2026-01-31T08:00:00Z");
        assert_eq!(at("2026-01-31"), "2026-01-31T00:00:00Z");
        assert_eq!(at("24h"), "2026-11-21T12:00:00Z");
        assert_eq!(at("7d ago"), "2026-11-15T12:00:00Z");
        assert_eq!(at("1h 30m"), "2026-11-22T10:30:00Z");
        for bad in ["yesterday", "", "24", "1mo", "99999999d"] {
            assert!(at(bad).starts_with("not a time"), "{bad}: {}", at(bad));
        }
    }

    #[test]
    fn types_may_be_pasted_from_the_wire() {
        assert_eq!(pattern("payin_completed").unwrap(), "payin.completed");
        assert_eq!(pattern("payin.*").unwrap(), "payin.*");
        assert_eq!(pattern("*_verified").unwrap(), "*_verified");
        assert!(pattern("").is_err());
    }
}
