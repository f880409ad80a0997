//! Which events: the options that every command over events shares.

use anyhow::anyhow;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use jiff::Timestamp;

use crate::clock;
use crate::inbox::EventFilter;
use crate::model::Category;
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

    /// Text that the body holds, as it reads: escapes undone, compressed bodies unpacked; case counts
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

/// A time as people write it.
pub(super) fn moment_from_now(text: &str) -> anyhow::Result<Timestamp> {
    clock::moment(text, Timestamp::now()).ok_or_else(|| anyhow!(clock::NO_MOMENT))
}

/// A type in either spelling, or a glob.
pub(super) fn pattern(text: &str) -> anyhow::Result<String> {
    Ok(Glob::pasted(text)?.as_str().to_owned())
}
