//! A table of the configuration, read key by key. Every problem is collected and reading goes on; what is left over
//! when the reading is done was never asked for, and is an unknown key.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Display;
use std::path::Path;
use std::time::Duration;

use ::config::{Value, ValueKind};
use secrecy::SecretString;
use serde_json::Value as Json;

use super::effective::{DEFAULT, Effective, Item, Shown};
use super::layers::is_from_environment;
use super::parse::{self, Wrong};
use super::{Env, Problem, SinkFile, planned};

/// What reading has found so far.
pub(super) struct Report<'a> {
    pub(super) env: &'a Env,
    problems: RefCell<Vec<Problem>>,
    warnings: RefCell<Vec<String>>,
    files: RefCell<Vec<SinkFile>>,
    /// Of the table that is being read.
    unreadable: RefCell<Vec<Problem>>,
    /// Of all tables, and what else only a check refuses.
    all_unreadable: RefCell<Vec<Problem>>,
}

impl<'a> Report<'a> {
    pub(super) fn new(env: &'a Env) -> Self {
        let (problems, warnings, files, unreadable, all_unreadable) = Default::default();
        Self { env, problems, warnings, files, unreadable, all_unreadable }
    }

    pub(super) fn problem(&self, origin: Option<&str>, key: &str, wrong: Wrong) {
        self.problems.borrow_mut().push(problem(origin, key, wrong));
    }

    pub(super) fn warn(&self, warning: String) {
        self.warnings.borrow_mut().push(warning);
    }

    /// A file that is read on behalf of a table, and what it held where it has been read already.
    pub(super) fn note_file(&self, file: &Path, read: Option<SecretString>) {
        self.files.borrow_mut().push(SinkFile { file: file.to_owned(), read });
    }

    /// What has been noted since this was called.
    pub(super) fn take_files(&self) -> Vec<SinkFile> {
        self.files.take()
    }

    /// The files of a sink that could not be read since this was called.
    pub(super) fn take_unreadable(&self) -> Vec<Problem> {
        self.unreadable.take()
    }

    /// Those of every sink, right or not.
    pub(super) fn all_unreadable(&self) -> Vec<Problem> {
        self.all_unreadable.borrow().clone()
    }

    pub(super) fn into_parts(self) -> (Vec<Problem>, Vec<String>) {
        (self.problems.into_inner(), self.warnings.into_inner())
    }
}

fn problem(origin: Option<&str>, key: &str, wrong: Wrong) -> Problem {
    let Wrong { message, hint } = wrong;
    Problem { origin: origin.map(str::to_owned), key: key.to_owned(), message, hint }
}

/// A table, the path that leads to it, and what has been read from it.
///
/// The getters return `None` when there is no usable value: for a key with a default that means that a problem has
/// been reported, for an optional key that it may just not be there.
pub(super) struct Section<'r> {
    pub(super) report: &'r Report<'r>,
    path: String,
    /// Where the table itself begins; `None` where it was merged from many places, or is not there at all.
    origin: Option<String>,
    left: HashMap<String, Value>,
    known: Vec<&'static str>,
    shown: Effective,
}

/// Reads the whole tree; the answer is what `read` makes of it, and everything that it asked for.
pub(super) fn root<R>(
    report: &Report<'_>,
    origin: Option<String>,
    table: HashMap<String, Value>,
    read: impl FnOnce(&mut Section<'_>) -> R,
) -> (R, Effective) {
    let mut root = Section::new(report, String::new(), origin, table);
    let answer = read(&mut root);
    (answer, root.finish())
}

impl<'r> Section<'r> {
    fn new(report: &'r Report<'r>, path: String, origin: Option<String>, left: HashMap<String, Value>) -> Self {
        Self { report, path, origin, left, known: Vec::new(), shown: Effective::default() }
    }

    /// The full path of one of this table's keys.
    pub(super) fn path(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// What has been read from this table so far, without the places that it comes from.
    pub(super) fn facts(&self) -> BTreeMap<String, Shown> {
        self.shown.facts()
    }

    /// Whether the key is set.
    pub(super) fn has(&self, key: &str) -> bool {
        self.left.contains_key(key)
    }

    /// Reports a problem with a key that has been read, in this table (`listen`) or below (`quarantine.max_bytes`).
    pub(super) fn wrong(&self, key: &str, message: impl Into<String>, hint: impl Into<String>) {
        let origin = self.origin_of(key);
        self.report.problem(origin.as_deref(), &self.path(key), Wrong::new(message, hint));
    }

    /// Notes that a file of a sink, whose key has been read, cannot be used: the sink cannot be built, and all else can.
    pub(super) fn note_unreadable(&self, key: &str, wrong: Wrong) {
        let unreadable = problem(self.origin_of(key).as_deref(), &self.path(key), wrong);
        self.report.all_unreadable.borrow_mut().push(unreadable.clone());
        self.report.unreadable.borrow_mut().push(unreadable);
    }

    /// Notes what only a check of the configuration refuses, and no start.
    pub(super) fn refused_by_check(&self, key: &str, wrong: Wrong) {
        let refused = problem(self.origin_of(key).as_deref(), &self.path(key), wrong);
        self.report.all_unreadable.borrow_mut().push(refused);
    }

    /// Where a key that has been read is written, or else its table.
    fn origin_of(&self, key: &str) -> Option<String> {
        let values = self.shown.values();
        let shown = values.iter().find(|(path, shown)| path == key && shown.origin != DEFAULT);
        shown.map(|(_, shown)| shown.origin.clone()).or_else(|| self.origin.clone())
    }

    pub(super) fn take(&mut self, key: &'static str) -> Option<(Value, String)> {
        self.known.push(key);
        let value = self.left.remove(key)?;
        let origin = origin_of(&value).or(self.origin.as_deref()).unwrap_or_default().to_owned();
        Some((value, origin))
    }

    pub(super) fn show(&mut self, key: impl Into<String>, value: Option<Json>, origin: &str, secret: Option<String>) {
        self.show_value(
            key,
            Shown { value, origin: origin.to_owned(), secret, fingerprints: Vec::new(), digest: None },
        );
    }

    pub(super) fn show_value(&mut self, key: impl Into<String>, shown: Shown) {
        self.shown.0.push((key.into(), Item::Value(shown)));
    }

    fn show_default(&mut self, key: &'static str, value: Option<Json>) {
        self.show(key, value, DEFAULT, None);
    }

    /// A value of any kind: `of` makes it from what was given.
    fn value<T>(
        &mut self,
        key: &'static str,
        default: Option<(T, Json)>,
        of: impl FnOnce(&Value, bool) -> Result<(T, Json), Wrong>,
    ) -> Option<T> {
        let Some((value, origin)) = self.take(key) else {
            let (value, shown) = default.unzip();
            self.show_default(key, shown);
            return value;
        };
        match of(&value, is_from_environment(&origin)) {
            Ok((value, shown)) => {
                self.show(key, Some(shown), &origin, None);
                Some(value)
            }
            Err(wrong) => {
                self.report.problem(Some(&origin), &self.path(key), wrong);
                self.show(key, None, &origin, None);
                None
            }
        }
    }

    /// Text that `parse` understands. The default goes through the same function.
    pub(super) fn text<T>(
        &mut self,
        key: &'static str,
        default: Option<&str>,
        parse: impl Fn(&str) -> Result<T, Wrong>,
    ) -> Option<T> {
        let default = default.map(|text| (parse(text).expect("defaults are valid"), Json::from(text)));
        self.value(key, default, |value, _| {
            if let ValueKind::I64(number) = value.kind {
                // Whether quotes are enough, or a unit is missing as well, the parser knows.
                let hint = match parse(&number.to_string()) {
                    Ok(_) => format!("write {key} = \"{number}\", with quotes"),
                    Err(wrong) => wrong.hint,
                };
                return Err(Wrong::new(format!("{number} is a number, not text in quotes"), hint));
            }
            let text = string(key, value)?;
            Ok((parse(text)?, Json::from(text)))
        })
    }

    /// Text that must be there.
    pub(super) fn required<T>(
        &mut self,
        key: &'static str,
        example: &str,
        parse: impl Fn(&str) -> Result<T, Wrong>,
    ) -> Option<T> {
        self.require(key, example);
        self.text(key, None, parse)
    }

    /// Reports the key when it is not set.
    pub(super) fn require(&self, key: &str, example: &str) {
        if !self.has(key) {
            self.report.problem(
                self.origin.as_deref(),
                &self.path(key),
                Wrong::new("is missing", format!("write {key} = {example}")),
            );
        }
    }

    /// Reports a value that an earlier table of the same list has too.
    pub(super) fn unique<T: PartialEq + Clone + Display>(
        &self,
        key: &str,
        value: &Option<T>,
        seen: &mut Vec<T>,
        hint: &str,
    ) {
        let Some(value) = value else { return };
        if seen.contains(value) {
            self.wrong(key, format!("\"{value}\" is taken already"), hint);
        }
        seen.push(value.clone());
    }

    /// A duration between two others.
    pub(super) fn duration(&mut self, key: &'static str, default: Option<&str>, bounds: [&str; 2]) -> Option<Duration> {
        self.text(key, default, |text| within(text, parse::duration, bounds))
    }

    /// A size in bytes between two others.
    pub(super) fn size(&mut self, key: &'static str, default: Option<&str>, bounds: [&str; 2]) -> Option<u64> {
        self.text(key, default, |text| within(text, parse::size, bounds))
    }

    /// A whole number between two others.
    pub(super) fn integer(&mut self, key: &'static str, default: u32, bounds: [u32; 2]) -> Option<u32> {
        self.value(key, Some((default, default.into())), |value, from_env| {
            let number = integer(key, value, from_env)?;
            match u32::try_from(number).ok().filter(|n| (bounds[0]..=bounds[1]).contains(n)) {
                Some(n) => Ok((n, n.into())),
                None => Err(Wrong::new(
                    format!("{number} is out of range"),
                    format!("write a number from {} to {}", bounds[0], bounds[1]),
                )),
            }
        })
    }

    /// `true` or `false`.
    pub(super) fn bool(&mut self, key: &'static str, default: bool) -> Option<bool> {
        self.value(key, Some((default, default.into())), |value, from_env| {
            let truth = match &value.kind {
                ValueKind::Boolean(truth) => *truth,
                ValueKind::String(text) if from_env && text == "true" => true,
                ValueKind::String(text) if from_env && text == "false" => false,
                _ => {
                    let message = format!("{} is neither true nor false", described(value));
                    return Err(Wrong::new(message, format!("write {key} = true or {key} = false, without quotes")));
                }
            };
            Ok((truth, truth.into()))
        })
    }

    /// One of some words; `planned` are those that a later version will know.
    pub(super) fn word<T: Copy>(
        &mut self,
        key: &'static str,
        default: Option<&str>,
        words: &[(&str, T)],
        planned: &[&str],
    ) -> Option<T> {
        self.text(key, default, |text| {
            if let Some((_, word)) = words.iter().find(|(word, _)| *word == text) {
                return Ok(*word);
            }
            let all: Vec<String> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
            if planned.contains(&text) {
                let message = format!("{text:?} is planned, and not available in this version");
                return Err(Wrong::new(message, format!("write one of {}", all.join(", "))));
            }
            let hint = match parse::nearest(text, words.iter().map(|(word, _)| *word)) {
                Some(word) => format!("did you mean {word:?}?"),
                None => format!("write one of {}", all.join(", ")),
            };
            Err(Wrong::new(format!("{text:?} is not one of {}", all.join(", ")), hint))
        })
    }

    /// A list of strings; in the environment, with commas between.
    pub(super) fn strings(&mut self, key: &'static str) -> Option<Vec<String>> {
        self.value(key, None, |value, from_env| {
            let list = match &value.kind {
                ValueKind::Array(items) => {
                    items.iter().map(|item| string(key, item).map(str::to_owned)).collect::<Result<Vec<_>, _>>()?
                }
                ValueKind::String(text) if from_env => text.split(',').map(|item| item.trim().to_owned()).collect(),
                ValueKind::String(text) => {
                    return Err(Wrong::new("is not a list", format!("write {key} = [{text:?}]")));
                }
                _ => return Err(Wrong::new("is not a list of strings", format!("write {key} = [\"...\"]"))),
            };
            Ok((list.clone(), list.into()))
        })
    }

    /// A table of this table; one that is not there is read as an empty one, for its defaults.
    pub(super) fn section<R>(&mut self, key: &'static str, read: impl FnOnce(&mut Section<'_>) -> R) -> R {
        let path = self.path(key);
        let (table, origin) = match self.take(key) {
            None => (HashMap::new(), self.origin.clone()),
            Some((Value { kind: ValueKind::Table(table), .. }, origin)) => (table, Some(origin)),
            Some((value, origin)) => {
                let message = format!("{} is not a table", described(&value));
                self.report.problem(Some(&origin), &path, Wrong::new(message, format!("write [{}]", plain(&path))));
                (HashMap::new(), Some(origin))
            }
        };
        let mut section = Section::new(self.report, path, origin.filter(|origin| !origin.is_empty()), table);
        let answer = read(&mut section);
        let shown = section.finish();
        self.shown.0.push((key.to_owned(), Item::Table(shown)));
        answer
    }

    /// A list of tables.
    pub(super) fn each<R>(&mut self, key: &'static str, mut read: impl FnMut(&mut Section<'_>) -> R) -> Vec<R> {
        let path = self.path(key);
        let (mut answers, mut shown) = (Vec::new(), Vec::new());
        let items = match self.take(key) {
            None => Vec::new(),
            Some((Value { kind: ValueKind::Array(items), .. }, _)) => items,
            Some((value, origin)) => {
                let message = format!("{} is not a list of tables", described(&value));
                self.report.problem(Some(&origin), &path, Wrong::new(message, format!("write [[{path}]]")));
                Vec::new()
            }
        };
        for (index, item) in items.into_iter().enumerate() {
            let path = format!("{path}[{index}]");
            let origin = origin_of(&item).map(str::to_owned);
            let ValueKind::Table(table) = item.kind else {
                let message = if matches!(item.kind, ValueKind::Nil) {
                    "is not there, though the environment sets a later one".to_owned()
                } else {
                    format!("{} is not a table", described(&item))
                };
                self.report.problem(origin.as_deref(), &path, Wrong::new(message, format!("write [[{key}]]")));
                continue;
            };
            let mut section = Section::new(self.report, path, origin, table);
            answers.push(read(&mut section));
            shown.push(section.finish());
        }
        self.shown.0.push((key.to_owned(), Item::Tables(shown)));
        answers
    }

    /// A key that exists, but does nothing here.
    pub(super) fn forbid(&mut self, key: &'static str, message: impl Into<String>, hint: impl Into<String>) {
        if let Some((_, origin)) = self.take(key) {
            self.report.problem(Some(&origin), &self.path(key), Wrong::new(message, hint));
        }
    }

    /// Everything that nobody has asked for, as it stands.
    pub(super) fn take_rest(&mut self) -> Vec<(String, Value)> {
        let mut rest: Vec<_> = self.left.drain().collect();
        rest.sort_by(|a, b| a.0.cmp(&b.0));
        rest
    }

    fn finish(mut self) -> Effective {
        for (key, value) in self.take_rest() {
            let wrong = self.unknown(&key);
            // An empty table has no place that could be told; its file can.
            let origin = origin_of(&value).or(self.origin.as_deref());
            self.report.problem(origin, &self.path(&key), wrong);
        }
        self.shown
    }

    fn unknown(&self, key: &str) -> Wrong {
        let table = if self.path.is_empty() { "the top level".to_owned() } else { format!("[{}]", plain(&self.path)) };
        if planned::is_planned(&plain(&self.path(key))) {
            return Wrong::new("is planned, and not available in this version", "take it out for now");
        }
        let inner = self.shown.tables().find(|(_, shown)| shown.0.iter().any(|(name, _)| name == key));
        let hint = match (parse::nearest(key, self.known.iter().copied()), inner) {
            (Some(near), _) => format!("did you mean {near:?}?"),
            (None, Some((table, _))) => format!("it belongs in [{}]", plain(&self.path(table))),
            (None, None) => format!("known here: {}", self.known.join(", ")),
        };
        Wrong::new(format!("is not a key of {table}"), hint)
    }
}

/// A path without the places in lists: `sinks[1].amqp` -> `sinks.amqp`.
fn plain(path: &str) -> String {
    path.split('.').map(|part| part.split('[').next().unwrap_or(part)).collect::<Vec<_>>().join(".")
}

/// A merged table has no origin of its own: the first of what it holds is good enough to find it.
pub(super) fn origin_of(value: &Value) -> Option<&str> {
    value.origin().or_else(|| match &value.kind {
        ValueKind::Table(table) => table.values().filter_map(origin_of).min(),
        ValueKind::Array(items) => items.iter().find_map(origin_of),
        _ => None,
    })
}

/// What kind of thing a value is; numbers and truth values in full, text never.
pub(super) fn described(value: &Value) -> String {
    match &value.kind {
        ValueKind::Nil => "nothing".to_owned(),
        ValueKind::Boolean(truth) => truth.to_string(),
        ValueKind::I64(_) | ValueKind::I128(_) | ValueKind::U64(_) | ValueKind::U128(_) => value.kind.to_string(),
        ValueKind::Float(number) => number.to_string(),
        ValueKind::String(_) => "text".to_owned(),
        ValueKind::Table(_) => "a table".to_owned(),
        ValueKind::Array(_) => "a list".to_owned(),
    }
}

fn string<'v>(key: &str, value: &'v Value) -> Result<&'v str, Wrong> {
    match &value.kind {
        ValueKind::String(text) => Ok(text),
        _ => Err(Wrong::new(format!("{} is not text in quotes", described(value)), format!("write {key} = \"...\""))),
    }
}

fn integer(key: &str, value: &Value, from_env: bool) -> Result<i64, Wrong> {
    match &value.kind {
        ValueKind::I64(number) => Ok(*number),
        ValueKind::String(text) => match text.parse::<i64>() {
            Ok(number) if from_env => Ok(number),
            Ok(number) => Err(Wrong::new("is text, not a number", format!("write {key} = {number}, without quotes"))),
            Err(_) => Err(Wrong::new(format!("{text:?} is not a whole number"), format!("write it like {key} = 100"))),
        },
        _ => {
            let message = format!("{} is not a whole number", described(value));
            Err(Wrong::new(message, format!("write it like {key} = 100")))
        }
    }
}

fn within<T: PartialOrd>(text: &str, parse: impl Fn(&str) -> Result<T, Wrong>, bounds: [&str; 2]) -> Result<T, Wrong> {
    let value = parse(text)?;
    let bound = |text| parse(text).expect("bounds are valid");
    if value < bound(bounds[0]) || value > bound(bounds[1]) {
        let hint = format!("write something from {:?} to {:?}", bounds[0], bounds[1]);
        return Err(Wrong::new(format!("{text:?} is out of range"), hint));
    }
    Ok(value)
}
