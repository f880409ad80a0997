//! The values that queries and bodies are made of, each with its rules.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, OneOfBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{IntoParams, PartialSchema, ToSchema};

use super::refusal::Refusal;
use crate::clock;
use crate::inbox::EventFilter;
use crate::model::Category;
use crate::route::Glob;

/// Of what may be given several times.
pub(super) const MANY: usize = 50;
const MAX_TEXT: usize = 500;
const MAX_WHO: usize = 100;

/// A type in either spelling, or a glob over types.
#[derive(Clone, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Pattern(String);

impl TryFrom<String> for Pattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Glob::pasted(&text).map(|glob| Self(glob.as_str().to_owned())).map_err(|error| error.to_string())
    }
}

impl PartialSchema for Pattern {
    fn schema() -> RefOr<Schema> {
        text(1, 128).pattern(Some("^[!-~]+$")).examples(["payin.*"]).into()
    }
}

impl ToSchema for Pattern {}

/// One [`Pattern`] or several.
#[derive(Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum Patterns {
    One(Pattern),
    Many(Vec<Pattern>),
}

impl Patterns {
    pub(super) fn into_vec(self) -> Vec<Pattern> {
        match self {
            Self::One(pattern) => vec![pattern],
            Self::Many(patterns) => patterns,
        }
    }
}

impl PartialSchema for Patterns {
    fn schema() -> RefOr<Schema> {
        let many = ArrayBuilder::new().items(Pattern::schema()).min_items(Some(1)).max_items(Some(MANY));
        OneOfBuilder::new().item(Pattern::schema()).item(many).into()
    }
}

impl ToSchema for Patterns {}

/// Text that is looked for.
#[derive(Clone, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Text(pub(super) String);

impl TryFrom<String> for Text {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let count = text.chars().count();
        let fits = (1..=MAX_TEXT).contains(&count);
        if fits { Ok(Self(text)) } else { Err(format!("write 1 to {MAX_TEXT} characters")) }
    }
}

impl PartialSchema for Text {
    fn schema() -> RefOr<Schema> {
        text(1, MAX_TEXT).into()
    }
}

impl ToSchema for Text {}

/// RFC 3339, a day (its first moment) or a time without an offset, both in UTC, or how long ago, such as `24h`.
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Moment(pub(super) Timestamp);

impl TryFrom<String> for Moment {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let moment: clock::Moment = text.parse().map_err(|error: clock::NoMoment| error.to_string())?;
        moment.at(Timestamp::now(), &TimeZone::UTC).map(Self).map_err(|error| error.to_string())
    }
}

impl PartialSchema for Moment {
    fn schema() -> RefOr<Schema> {
        let says =
            "RFC 3339, a day (its first moment) or a time without an offset, both in UTC, or how long ago, such as 24h";
        text(1, 100).description(Some(says)).examples(["2026-01-31T10:00:00Z", "2026-01-31", "24h"]).into()
    }
}

impl ToSchema for Moment {}

/// Who asks for something, as they say themselves.
#[derive(Clone, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Who(pub(super) String);

impl TryFrom<String> for Who {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let count = text.chars().count();
        if count > MAX_WHO || text.contains(char::is_control) {
            return Err(format!("who: write at most {MAX_WHO} characters, on one line"));
        }
        Ok(Self(text.trim().to_owned()))
    }
}

impl PartialSchema for Who {
    fn schema() -> RefOr<Schema> {
        text(1, MAX_WHO).description(Some("Who asks for it: required, and kept in the record")).into()
    }
}

impl ToSchema for Who {}

/// Why something is done: at most 1,000 bytes on one line, and not empty.
#[derive(Clone, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Reason(pub(super) String);

impl TryFrom<String> for Reason {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        crate::records::reason(&text).map(Self).map_err(|error| format!("reason: {error}"))
    }
}

impl PartialSchema for Reason {
    fn schema() -> RefOr<Schema> {
        text(1, 1000).description(Some("Why: kept with the job")).into()
    }
}

impl ToSchema for Reason {}

fn text(shortest: usize, longest: usize) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).min_length(Some(shortest)).max_length(Some(longest))
}

/// In which order events are listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Order {
    #[default]
    Newest,
    Oldest,
}

/// Which events. Every parameter narrows.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct EventQuery {
    /// Canonical type, or a glob such as `payin.*`; may repeat
    #[param(inline, max_items = 50)]
    #[serde(default)]
    r#type: Vec<Pattern>,
    /// Category; may repeat
    #[param(inline, max_items = 50)]
    #[serde(default)]
    category: Vec<Category>,
    /// Name of the source that it came in at
    #[param(inline)]
    source: Option<Text>,
    /// Received at or after
    #[param(inline)]
    since: Option<Moment>,
    /// Received before
    #[param(inline)]
    until: Option<Moment>,
    /// Entity key, exactly
    #[param(inline)]
    key: Option<Text>,
    /// Event id, exactly
    #[param(inline)]
    id: Option<Text>,
    /// State that it reports, ignoring case
    #[param(inline)]
    state: Option<Text>,
    /// Text that the body holds, as it reads: escapes undone, compressed bodies unpacked; case counts
    #[param(inline)]
    search: Option<Text>,
}

impl EventQuery {
    pub(super) fn into_filter(self) -> Result<EventFilter, Refusal> {
        let Self { r#type, category, source, since, until, key, id, state, search } = self;
        let filter = FilterBody { types: r#type, categories: category, source, since, until, key, id, state, search };
        filter.into_filter().map_err(|message| Refusal::bad("invalid_query", message))
    }
}

/// Which events. Every field narrows; without any it is every event.
#[derive(Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = EventFilter)]
pub(super) struct FilterBody {
    /// Canonical types, or globs such as `payin.*`: any may match.
    #[schema(inline, max_items = 50)]
    #[serde(default)]
    types: Vec<Pattern>,
    /// Categories: any may match.
    #[schema(inline, max_items = 50)]
    #[serde(default)]
    categories: Vec<Category>,
    /// Name of the source that it came in at.
    #[schema(inline)]
    source: Option<Text>,
    /// Received at or after.
    #[schema(inline)]
    since: Option<Moment>,
    /// Received before.
    #[schema(inline)]
    until: Option<Moment>,
    /// Entity key, exactly.
    #[schema(inline)]
    key: Option<Text>,
    /// Event id, exactly.
    #[schema(inline)]
    id: Option<Text>,
    /// State that it reports, ignoring case.
    #[schema(inline)]
    state: Option<Text>,
    /// Text that the body holds, as it reads: escapes undone, compressed bodies unpacked; case counts.
    #[schema(inline)]
    search: Option<Text>,
}

impl FilterBody {
    pub(super) fn into_filter(self) -> Result<EventFilter, String> {
        let Self { types, categories, source, since, until, key, id, state, search } = self;
        if categories.len() > MANY {
            return Err(format!("name at most {MANY} categories"));
        }
        let text = |text: Option<Text>| text.map(|text| text.0);
        Ok(EventFilter {
            types: patterns(types)?,
            categories,
            source: text(source),
            since: since.map(|since| since.0),
            until: until.map(|until| until.0),
            key: text(key),
            id: text(id),
            state: text(state),
            search: text(search),
        })
    }
}

/// Each becomes a part of one statement, and a statement has limits.
pub(super) fn patterns(patterns: Vec<Pattern>) -> Result<Vec<String>, String> {
    if patterns.len() > MANY {
        return Err(format!("name at most {MANY} types"));
    }
    Ok(patterns.into_iter().map(|pattern| pattern.0).collect())
}
