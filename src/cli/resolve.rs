//! Ids and keys by their beginnings.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use super::Unusable;
use super::output::{Search, clean};
use crate::inbox::EventFilter;
use crate::inbox::sqlite::{Direction, Named, ReadError, Reader};

/// Fewer characters are no beginning: they would be that of many, or a number.
pub(super) const SHORTEST: usize = 4;
/// Names that are told where several begin so.
const TOLD: usize = 10;

/// The id that a text means: itself where an event has it, or else the only one that begins so. Where none does, the text.
pub(super) fn id(reader: &mut Reader, text: &str) -> anyhow::Result<String> {
    whole(reader, Named::ById, text)
}

/// The same of an entity key. For lists alone, where a person sees what was found.
pub(super) fn key(reader: &mut Reader, text: &str) -> anyhow::Result<String> {
    whole(reader, Named::ByKey, text)
}

fn whole(reader: &mut Reader, named: Named, text: &str) -> anyhow::Result<String> {
    if exists(reader, named, text)? {
        return Ok(text.to_owned());
    }
    let beginning = uncut(text);
    if beginning.chars().count() < SHORTEST {
        return Ok(text.to_owned());
    }
    let (mut found, mut search) = (BTreeSet::<String>::new(), Search::new());
    reader.each_beginning(named, beginning, &mut |stretch| {
        found.extend(stretch.names);
        search.went_on(stretch.done, stretch.total);
        if found.len() > TOLD { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    search.found();
    if found.len() > 1 {
        return Err(Unusable(several(named, beginning, found.into_iter())).into());
    }
    let only = found.pop_first();
    if let Some(only) = &only {
        to_stderr!("{} is {}", quoted(named, beginning), clean(only));
    }
    Ok(only.unwrap_or_else(|| text.to_owned()))
}

fn exists(reader: &mut Reader, named: Named, text: &str) -> Result<bool, ReadError> {
    let (id, key) = match named {
        Named::ById => (Some(text.to_owned()), None),
        Named::ByKey => (None, Some(text.to_owned())),
    };
    let mut exists = false;
    reader.each_event(&EventFilter { id, key, ..EventFilter::default() }, Direction::Backward, None, &mut |_| {
        exists = true;
        ControlFlow::Break(())
    })?;
    Ok(exists)
}

fn quoted(named: Named, beginning: &str) -> String {
    match named {
        Named::ById => format!("id '{}'", clean(beginning)),
        Named::ByKey => format!("key '{}'", clean(beginning)),
    }
}

/// Without the mark with which a narrow table cuts a text.
fn uncut(text: &str) -> &str {
    text.strip_suffix("...").or_else(|| text.strip_suffix('…')).unwrap_or(text)
}

fn several(named: Named, beginning: &str, names: impl Iterator<Item = String>) -> String {
    let mut lines: Vec<String> = names.map(|name| format!("\n  {}", clean(&name))).collect();
    if lines.len() > TOLD {
        lines.truncate(TOLD);
        lines.push("\n  and more".to_owned());
    }
    format!(
        "{} is the beginning of several: write more of the one that you mean{}",
        quoted(named, beginning),
        lines.concat()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_narrow_table_shows_can_be_pasted() {
        assert_eq!(uncut("53408e9f-6287…"), "53408e9f-6287");
        assert_eq!(uncut("53408e9f-6287..."), "53408e9f-6287");
        assert_eq!(uncut("53408e9f"), "53408e9f");
    }

    #[test]
    fn several_are_told_and_not_all_of_many() {
        let names = |count: usize| (0..count).map(|n| format!("abcd-{n}"));
        let two = several(Named::ById, "abcd", names(2));
        assert!(two.starts_with("id 'abcd' is") && two.ends_with("that you mean\n  abcd-0\n  abcd-1"), "{two}");
        let many = several(Named::ByKey, "abcd", names(11));
        assert!(many.ends_with("abcd-9\n  and more") && !many.contains("abcd-10"), "{many}");
    }
}
