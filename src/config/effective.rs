//! The configuration in effect, for `config show`: every key that is known, with its value and where it came from.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};

use serde_json::Value as Json;
use sha2::{Digest as _, Sha256};

use crate::verify::Fingerprint;

/// What stands in for a secret.
pub const REDACTED: &str = "<redacted>";

/// The origin of a value that nobody set.
pub const DEFAULT: &str = "default";

/// One table of the configuration in effect.
#[derive(Clone, Debug, Default)]
pub struct Effective(pub(super) Vec<(String, Item)>);

#[derive(Clone, Debug)]
pub(super) enum Item {
    Value(Shown),
    Table(Effective),
    Tables(Vec<Effective>),
}

/// One key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The value as written, [`REDACTED`] for a secret; `None` when it is not set and has no default.
    pub value: Option<Json>,
    /// `FILE:LINE`, `environment variable NAME`, or [`DEFAULT`].
    pub origin: String,
    /// What kind of secret it is: `literal`, `environment`, `env NAME`, `file PATH`.
    pub secret: Option<String>,
    /// Of webhook secrets, what tells one from another without giving it away.
    pub fingerprints: Vec<Fingerprint>,
    /// Of a secret, what is enough to see that it has changed.
    pub(super) digest: Option<Digest>,
}

/// SHA-256 of secrets; never shown, because a weak secret can be guessed by it.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Digest([u8; 32]);

impl Digest {
    pub(super) fn of<'a>(secrets: impl Iterator<Item = &'a str>) -> Self {
        let each: Vec<u8> = secrets.flat_map(Sha256::digest).collect();
        Self(Sha256::digest(each).into())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Digest").finish_non_exhaustive()
    }
}

impl Effective {
    /// Every key by its full path, such as `sinks[0].timeout`, in the order of the TOML form.
    pub fn values(&self) -> Vec<(String, &Shown)> {
        let mut values = Vec::new();
        self.collect("", &mut values);
        values
    }

    fn collect<'a>(&'a self, path: &str, values: &mut Vec<(String, &'a Shown)>) {
        let join = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
        for (key, item) in &self.0 {
            if let Item::Value(shown) = item {
                values.push((join(key), shown));
            }
        }
        for (key, item) in &self.0 {
            match item {
                Item::Value(_) => {}
                Item::Table(table) => table.collect(&join(key), values),
                Item::Tables(tables) => {
                    for (index, table) in tables.iter().enumerate() {
                        table.collect(&format!("{}[{index}]", join(key)), values);
                    }
                }
            }
        }
    }

    /// The paths of keys that have another value here than there, or are known on one side only. Where a value comes from
    /// makes no difference.
    pub fn differences(&self, other: &Self) -> BTreeSet<String> {
        let (ours, theirs) = (self.facts(), other.facts());
        ours.keys().chain(theirs.keys()).filter(|key| ours.get(*key) != theirs.get(*key)).cloned().collect()
    }

    /// What each key holds, wherever that comes from.
    pub(super) fn facts(&self) -> BTreeMap<String, Shown> {
        let values = self.values().into_iter();
        values.map(|(path, shown)| (path, Shown { origin: String::new(), ..shown.clone() })).collect()
    }

    /// Every known key with list places left out: `sinks.timeout`.
    pub fn keys(&self) -> BTreeSet<String> {
        let strip = |path: String| {
            let parts: Vec<&str> = path.split('.').map(|part| part.split('[').next().unwrap_or(part)).collect();
            parts.join(".")
        };
        self.values().into_iter().map(|(path, _)| strip(path)).collect()
    }

    /// The tables and lists of tables directly inside, by key.
    pub(super) fn tables(&self) -> impl Iterator<Item = (&str, &Effective)> {
        self.0.iter().flat_map(|(key, item)| {
            let tables: &[Effective] = match item {
                Item::Value(_) => &[],
                Item::Table(table) => std::slice::from_ref(table),
                Item::Tables(tables) => tables,
            };
            tables.iter().map(move |table| (key.as_str(), table))
        })
    }

    /// As TOML that can be read back (with secrets redacted), the origin of each value as a comment.
    pub fn to_toml(&self) -> String {
        let mut out = String::new();
        self.write_toml("", &mut out);
        out
    }

    fn write_toml(&self, path: &str, out: &mut String) {
        for (key, item) in &self.0 {
            if let Item::Value(shown) = item {
                let line = match &shown.value {
                    Some(value) => format!("{} = {}  # {}", toml_key(key), toml(value), shown.note()),
                    None => format!("# {} is not set", toml_key(key)),
                };
                let _ = writeln!(out, "{line}");
            }
        }
        for (key, item) in &self.0 {
            let path = if path.is_empty() { toml_key(key) } else { format!("{path}.{}", toml_key(key)) };
            match item {
                Item::Value(_) => {}
                Item::Table(table) => {
                    let _ = writeln!(out, "\n[{path}]");
                    table.write_toml(&path, out);
                }
                Item::Tables(tables) => {
                    for table in tables {
                        let _ = writeln!(out, "\n[[{path}]]");
                        table.write_toml(&path, out);
                    }
                }
            }
        }
    }
}

impl Shown {
    fn note(&self) -> String {
        let note = match &self.secret {
            Some(kind) if self.fingerprints.is_empty() => format!("{}; secret: {kind}", self.origin),
            Some(kind) => {
                let fingerprints: Vec<_> = self.fingerprints.iter().map(ToString::to_string).collect();
                format!("{}; secret: {kind}; fingerprint: {}", self.origin, fingerprints.join(", "))
            }
            None => self.origin.clone(),
        };
        note.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
    }
}

fn toml_key(key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    if bare { key.to_owned() } else { toml_string(key) }
}

fn toml(value: &Json) -> String {
    match value {
        Json::String(text) => toml_string(text),
        Json::Array(items) => format!("[{}]", items.iter().map(toml).collect::<Vec<_>>().join(", ")),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::Object(_) => value.to_string(),
    }
}

/// A basic string: JSON's escapes are TOML's too, but TOML wants DEL escaped as well.
fn toml_string(text: &str) -> String {
    Json::from(text).to_string().replace('\u{7f}', "\\u007F")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(value: Json) -> Item {
        Item::Value(Shown {
            value: Some(value),
            origin: "relay.toml:1".to_owned(),
            secret: None,
            fingerprints: Vec::new(),
            digest: None,
        })
    }

    #[test]
    fn what_is_shown_parses_whatever_it_holds() {
        let inner = Effective(vec![("odd key".to_owned(), value("tab\t\u{7f}\"\\\n".into()))]);
        let shown = Effective(vec![
            ("list".to_owned(), Item::Tables(vec![inner.clone(), inner.clone()])),
            ("first".to_owned(), value(vec!["a", "b"].into())),
            ("table".to_owned(), Item::Table(inner)),
        ]);
        let text = shown.to_toml();
        let parsed = toml::de::DeTable::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let list = parsed.get_ref().get("list").unwrap().get_ref().as_array().unwrap();
        let read = list[1].get_ref().get("odd key").unwrap().get_ref().as_str();
        assert_eq!(read, Some("tab\t\u{7f}\"\\\n"));
        assert_eq!(shown.keys(), BTreeSet::from(["first", "list.odd key", "table.odd key"].map(str::to_owned)));
    }
}
