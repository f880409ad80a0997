//! Which events: the options that every command over events shares.

use std::ops::ControlFlow;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use jiff::Timestamp;

use super::output::{Search, clean};
use super::view::View;
use super::{ConfigArgs, Format, Unusable, resolve};
use crate::clock::Moment;
use crate::config::load_names;
use crate::inbox::EventFilter;
use crate::inbox::sqlite::Reader;
use crate::model::Category;
use crate::records::filter::{Asked, Configured, check};
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

    /// Received at or after: 2026-01-31, '2026-01-31 10:00', RFC 3339, today, yesterday, or how long ago, such as 24h or
    /// '7d ago'. A day begins, and a time without an offset is, in the zone in which tables tell times
    #[arg(long, value_name = "TIME")]
    since: Option<Moment>,

    /// Received before
    #[arg(long, value_name = "TIME")]
    until: Option<Moment>,

    /// Entity key: the order, session or account that it is about. In a list for people its first 4 characters or more will do
    #[arg(long, value_name = "KEY", allow_hyphen_values = true)]
    key: Option<String>,

    /// Event id, or its first 4 characters or more
    #[arg(long, value_name = "ID", allow_hyphen_values = true)]
    id: Option<String>,

    /// State that it reports, such as COMPLETED
    #[arg(long, value_name = "STATE", allow_hyphen_values = true)]
    state: Option<String>,

    /// Text that the body holds, as a person reads it: escapes undone, compressed bodies unpacked; capitals and accents count
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    search: Option<String>,
}

fn category_parser() -> impl TypedValueParser<Value = Category> {
    let parser = PossibleValuesParser::new(Category::ALL.map(Category::as_str));
    parser.map(|name| {
        Category::ALL.into_iter().find(|category| category.as_str() == name).expect("only these names are possible")
    })
}

impl Filters {
    /// The filter as the inbox takes it, once it is known that it can match.
    pub(crate) fn into_filter(
        self,
        reader: &mut Reader,
        config: &ConfigArgs,
        view: &View,
    ) -> anyhow::Result<EventFilter> {
        let filter = EventFilter {
            types: self.types,
            categories: self.category,
            source: self.source,
            since: moment(self.since, view)?,
            until: moment(self.until, view)?,
            key: self.key,
            id: self.id,
            state: self.state,
            search: self.search,
        };
        can_match(reader, config, view, (&filter).into())?;
        let id = filter.id.map(|id| resolve::id(reader, &id)).transpose()?;
        Ok(EventFilter { id, ..filter })
    }

    /// The same for a list, in which people see what was found: there, the beginning of a key will do.
    pub(crate) fn into_list_filter(
        self,
        reader: &mut Reader,
        config: &ConfigArgs,
        view: &View,
        format: Format,
    ) -> anyhow::Result<EventFilter> {
        let filter = self.into_filter(reader, config, view)?;
        let key = filter.key.map(|key| list_key(reader, key, format)).transpose()?;
        Ok(EventFilter { key, ..filter })
    }
}

/// What to say where no event matches.
pub(super) fn no_match(filter: &EventFilter) -> String {
    let hint = match (&filter.id, &filter.search) {
        (Some(_), _) => ". The number in the column SEQ does for `events show`, too",
        (None, Some(_)) => ": --search looks for the text as it stands there, capitals and accents included",
        (None, None) => "",
    };
    format!("no event matches{hint}")
}

/// The key that is meant in a list. What a program asks for is taken as it is.
pub(super) fn list_key(reader: &mut Reader, key: String, format: Format) -> anyhow::Result<String> {
    match format {
        Format::Table => resolve::key(reader, &key),
        Format::Json => Ok(key),
    }
}

/// When a filter begins or ends, in the zone in which its results are told.
pub(super) fn moment(moment: Option<Moment>, view: &View) -> Result<Option<Timestamp>, Unusable> {
    let at = |moment: Moment| moment.at(Timestamp::now(), view.zone()).map_err(|error| Unusable(error.to_string()));
    moment.map(at).transpose()
}

/// Refuses what cannot match anything: for whoever reads a list, "none" must not be the answer to a typing error.
pub(super) fn can_match(reader: &mut Reader, config: &ConfigArgs, view: &View, asked: Asked<'_>) -> anyhow::Result<()> {
    // What cannot be read as configuration may name anything.
    let configured = load_names(&config.config).ok().map(|names| Configured {
        sources: names.sources.iter().map(ToString::to_string).collect(),
        sinks: names.sinks.iter().map(ToString::to_string).collect(),
    });
    let mut search = Search::new();
    let found = check(reader, asked, configured.as_ref(), &mut |done, total| {
        search.went_on(done, total);
        ControlFlow::Continue(())
    })?;
    search.found();
    match found {
        Some(found) => Err(Unusable(clean(&found.text(|at| view.seconds(at))).into_owned()).into()),
        None => Ok(()),
    }
}

/// A type in either spelling, or a glob.
pub(super) fn pattern(text: &str) -> anyhow::Result<String> {
    Ok(Glob::pasted(text)?.as_str().to_owned())
}
