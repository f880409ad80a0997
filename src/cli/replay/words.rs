//! Replays in words.

use crate::inbox::EventFilter;
use crate::records::utc;

/// The filters in words, not yet clean for a terminal.
pub(super) fn filters(filter: &EventFilter) -> String {
    let EventFilter { types, categories, source, since, until, key, id, state, search } = filter;
    let mut parts = Vec::new();
    let mut part = |name: &str, value: Option<String>| parts.extend(value.map(|value| format!("{name} {value}")));
    part("type", (!types.is_empty()).then(|| types.join(" or ")));
    let categories: Vec<&str> = categories.iter().map(|category| category.as_str()).collect();
    part("category", (!categories.is_empty()).then(|| categories.join(" or ")));
    part("source", source.clone());
    part("since", since.map(utc));
    part("until", until.map(utc));
    part("key", key.clone());
    part("id", id.clone());
    part("state", state.clone());
    part("with the text", search.clone());
    if parts.is_empty() { "all".to_owned() } else { parts.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Category;

    #[test]
    fn filters_are_told_in_words() {
        assert_eq!(filters(&EventFilter::default()), "all");
        let filter = EventFilter {
            types: vec!["payin.*".to_owned(), "payout.*".to_owned()],
            categories: vec![Category::Payin],
            since: Some("2026-01-31T10:00:00Z".parse().unwrap()),
            ..EventFilter::default()
        };
        let text = "type payin.* or payout.*, category payin, since 2026-01-31T10:00:00.000000Z";
        assert_eq!(filters(&filter), text);
    }
}
