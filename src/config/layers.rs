//! Files in order, then the environment, merged into one tree by the `config` crate. Each value keeps where it came
//! from: `FILE:LINE`, or `environment variable NAME`. Nothing guesses types here: a value from the environment stays
//! the text that it is (guessing turns the secret `00123e4` into a number).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use ::config::{Config, ConfigError, Environment, Source, Value, ValueKind};
use toml::de::{DeTable, DeValue};

use super::Problem;

/// How the origin of a value from the environment begins.
const FROM_ENVIRONMENT: &str = "environment variable ";
const PREFIX: &str = "RALIO_RELAY__";
/// A configuration is a page or two; more is a mistake, such as the path of a database.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The environment, as a value, so that tests can give their own.
#[derive(Clone, Debug, Default)]
pub struct Env(BTreeMap<String, OsString>);

impl Env {
    /// What this process was started with. Variables whose name is not text are left out.
    pub fn of_process() -> Self {
        Self(std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value))).collect())
    }

    /// One variable.
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.0.get(name).map(OsString::as_os_str)
    }
}

impl<N: Into<String>, V: Into<OsString>> FromIterator<(N, V)> for Env {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(vars: I) -> Self {
        Self(vars.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

/// Whether a value came from the environment, where everything is text.
pub(super) fn is_from_environment(origin: &str) -> bool {
    origin.starts_with(FROM_ENVIRONMENT)
}

/// Where `init` and people put a configuration, from where they are.
const NEARBY: [&str; 2] = ["relay.toml", "ralio-relay/relay.toml"];

/// Which files to read: those given, or the first of the usual places.
pub(super) fn discover(given: &[PathBuf], env: &Env, places: &[&Path]) -> Result<Vec<PathBuf>, Problem> {
    if !given.is_empty() {
        return Ok(given.to_vec());
    }
    if let Some(path) = env.get("RALIO_RELAY_CONFIG").filter(|path| !path.is_empty()) {
        return Ok(vec![PathBuf::from(path)]);
    }
    if let Some(path) = places.iter().find(|path| path.exists()) {
        return Ok(vec![path.to_path_buf()]);
    }
    let places: Vec<String> = places.iter().map(|path| path.display().to_string()).collect();
    // Not read by itself: whoever may write into the current directory would decide what is run.
    let here = NEARBY.into_iter().find(|path| Path::new(path).exists());
    let hint = match here {
        Some(here) => {
            format!("there is {here}: write --config {here}, or `export RALIO_RELAY_CONFIG=\"$PWD/{here}\"` once in each terminal")
        }
        None => "to try it out: `ralio-relay serve --dev`. To write a configuration: `ralio-relay init`, which says how to go on; \
                 one that is elsewhere: --config FILE, or `export RALIO_RELAY_CONFIG=FILE` once in each terminal"
            .to_owned(),
    };
    Err(Problem {
        origin: None,
        key: String::new(),
        message: format!(
            "there is no configuration: no --config, no $RALIO_RELAY_CONFIG, and none of {}",
            places.join(", ")
        ),
        hint,
    })
}

/// The merged tree. Unreadable files and syntax errors are all reported before giving up.
pub(super) fn merge(files: &[PathBuf], env: &Env) -> Result<HashMap<String, Value>, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut layers = Vec::new();
    for file in files {
        match read(file).and_then(|text| parse(&file.display().to_string(), &text)) {
            Ok(layer) => layers.push(layer),
            Err(found) => problems.extend(found),
        }
    }
    match environment(env) {
        Ok(overrides) => layers.extend(overrides),
        Err(found) => problems.extend(found),
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let mut builder = Config::builder();
    for layer in layers {
        // A later `{ file = ".." }` replaces an earlier `{ env = ".." }`; merged, they would be one broken secret.
        builder = builder.add_source(Layer(layer.references())).add_source(layer);
    }
    match builder.build().map(|merged| merged.cache.kind) {
        Ok(ValueKind::Table(table)) => Ok(table),
        Ok(_) => Ok(HashMap::new()),
        Err(error) => Err(vec![general(None, error.to_string())]),
    }
}

fn general(origin: Option<String>, message: String) -> Problem {
    Problem { origin, key: String::new(), message, hint: String::new() }
}

/// Values by path: top-level keys for a file, `server.listen` for the environment.
#[derive(Clone, Debug)]
struct Layer(HashMap<String, Value>);

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<HashMap<String, Value>, ConfigError> {
        Ok(self.0.clone())
    }
}

impl Layer {
    /// Every path that this layer sets to a reference to a secret, with nothing as its value.
    fn references(&self) -> HashMap<String, Value> {
        fn walk(path: &str, value: &Value, found: &mut BTreeSet<String>) {
            if let (Some((parent, "env" | "file")), ValueKind::String(_)) = (path.rsplit_once('.'), &value.kind) {
                found.insert(parent.to_owned());
            }
            if let ValueKind::Table(table) = &value.kind {
                table.iter().for_each(|(key, value)| walk(&format!("{path}.{key}"), value, found));
            }
        }
        let mut found = BTreeSet::new();
        self.0.iter().for_each(|(path, value)| walk(path, value, &mut found));
        found.into_iter().map(|path| (path, Value::new(None, ValueKind::Nil))).collect()
    }
}

/// One layer for each variable, parents after children: `RALIO_RELAY__SERVER=x` beside `RALIO_RELAY__SERVER__LISTEN`
/// must end as a mistake that is reported, whatever order the variables come in.
fn environment(env: &Env) -> Result<Vec<Layer>, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut vars = HashMap::new();
    for (name, value) in env.0.iter().filter(|(name, _)| name.starts_with(PREFIX)) {
        match value.to_str() {
            Some(value) => drop(vars.insert(name.clone(), value.to_owned())),
            None => problems.push(general(Some(format!("{FROM_ENVIRONMENT}{name}")), "is not UTF-8 text".to_owned())),
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let source = Environment::with_prefix("RALIO_RELAY")
        .prefix_separator("__")
        .separator("__")
        .try_parsing(false)
        .source(Some(vars));
    let values = source.collect().map_err(|error| vec![general(None, error.to_string())])?;
    let mut values: Vec<(String, Value)> = values.into_iter().collect();
    values.sort_by(|a, b| b.0.cmp(&a.0));
    Ok(values.into_iter().map(|(path, value)| override_of(&path, value)).collect())
}

fn override_of(path: &str, value: Value) -> Layer {
    let origin = format!("{FROM_ENVIRONMENT}{PREFIX}{}", path.to_ascii_uppercase().replace('.', "__"));
    Layer(HashMap::from([(indexed(path), Value::new(Some(&origin), value.kind))]))
}

/// `sinks.0.timeout` -> `sinks[0].timeout`. Three digits at most: the tree grows to hold the index.
fn indexed(path: &str) -> String {
    path.split('.').enumerate().fold(String::new(), |mut done, (place, segment)| {
        let is_index = (1..=3).contains(&segment.len()) && segment.bytes().all(|b| b.is_ascii_digit());
        match (place, is_index) {
            (0, _) => done.push_str(segment),
            (_, true) => done.push_str(&format!("[{segment}]")),
            (_, false) => done.push_str(&format!(".{segment}")),
        }
        done
    })
}

fn read(file: &Path) -> Result<String, Vec<Problem>> {
    let origin = Some(file.display().to_string());
    let mut text = String::new();
    let result = std::fs::File::open(file).and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text));
    match result {
        Ok(bytes) if bytes as u64 > MAX_FILE_BYTES => Err(vec![general(origin, "is larger than 1 MiB".to_owned())]),
        Ok(_) => Ok(text),
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => Err(vec![Problem {
            hint: "is it the configuration? It is a text file in TOML".to_owned(),
            ..general(origin, "is not UTF-8 text".to_owned())
        }]),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Err(vec![Problem {
            hint: "run it as the daemon's user (such as `sudo -u ralio-relay ralio-relay ...`), or as root".to_owned(),
            ..general(origin, format!("cannot be read: {error}"))
        }]),
        Err(error) => Err(vec![Problem {
            hint: "name another file with --config, or make one: `ralio-relay init`; to try it out: `ralio-relay serve --dev`".to_owned(),
            ..general(origin, format!("cannot be read: {error}"))
        }]),
    }
}

fn parse(file: &str, text: &str) -> Result<Layer, Vec<Problem>> {
    let place = Place { file, text };
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut problems: Vec<Problem> = errors.iter().map(|error| place.syntax(error)).collect();
    let values = place.table(table.into_inner(), &mut problems);
    if problems.is_empty() { Ok(Layer(values)) } else { Err(problems) }
}

/// A file being read.
struct Place<'a> {
    file: &'a str,
    text: &'a str,
}

impl Place<'_> {
    fn line(&self, offset: usize) -> usize {
        self.text.as_bytes().iter().take(offset).filter(|&&b| b == b'\n').count() + 1
    }

    fn origin(&self, offset: usize) -> String {
        format!("{}:{}", self.file, self.line(offset))
    }

    fn table(&self, table: DeTable<'_>, problems: &mut Vec<Problem>) -> HashMap<String, Value> {
        let mut values = HashMap::new();
        for (key, value) in table {
            // A key's own line tells more than that of a value that spans many.
            let origin = self.origin(key.span().start);
            values.insert(key.into_inner().into_owned(), self.value(origin, value.into_inner(), problems));
        }
        values
    }

    fn value(&self, origin: String, value: DeValue<'_>, problems: &mut Vec<Problem>) -> Value {
        let mut out_of_range = |what: &str| {
            problems.push(general(Some(origin.clone()), format!("{what} is out of range")));
            ValueKind::Nil
        };
        let kind = match value {
            DeValue::String(text) => ValueKind::String(text.into_owned()),
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
                .map_or_else(|_| out_of_range("this number"), ValueKind::I64),
            DeValue::Float(number) => {
                number.as_str().parse().map_or_else(|_| out_of_range("this number"), ValueKind::Float)
            }
            DeValue::Boolean(truth) => ValueKind::Boolean(truth),
            DeValue::Datetime(time) => ValueKind::String(time.to_string()),
            DeValue::Array(array) => ValueKind::Array(
                array
                    .into_iter()
                    .map(|value| self.value(self.origin(value.span().start), value.into_inner(), problems))
                    .collect(),
            ),
            DeValue::Table(table) => ValueKind::Table(self.table(table, problems)),
        };
        Value::new(Some(&origin), kind)
    }

    fn syntax(&self, error: &toml::de::Error) -> Problem {
        let Some(span) = error.span() else {
            return general(Some(self.file.to_owned()), error.message().to_owned());
        };
        let start = self.text.floor_char_boundary(span.start);
        let before = self.text.get(..start).unwrap_or_default();
        let column = before.chars().rev().take_while(|&c| c != '\n').count();
        let number = self.line(start);
        let line = masked(self.text.lines().nth(number - 1).unwrap_or_default());
        let message = format!(
            "{}\n    {number} | {line}\n    {:w$} | {:column$}^",
            error.message(),
            "",
            "",
            w = number.to_string().len()
        );
        Problem {
            hint: "values after '=' are masked here, as any of them may be a secret; text needs quotes in TOML"
                .to_owned(),
            ..general(Some(self.origin(start)), message)
        }
    }
}

/// A line with its structure, but without what it says: any value may be a secret, and this goes to logs too.
fn masked(line: &str) -> String {
    let is_header = line.trim_start().starts_with('[') && !line.contains(['"', '\'', '=']);
    let shown = if is_header { line.len() } else { line.find('=').unwrap_or(0) };
    let (shown, hidden) = line.split_at(shown);
    let hidden = hidden.chars().map(|c| if c.is_alphanumeric() || c.is_control() { '*' } else { c });
    shown.chars().map(|c| if c.is_control() { ' ' } else { c }).chain(hidden).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn syntax_error(text: &str) -> String {
        parse("relay.toml", text).unwrap_err().iter().map(Problem::to_string).collect()
    }

    #[test]
    fn a_syntax_error_shows_its_place_but_no_value() {
        let shown = syntax_error("[server]\nlisten = \"0.0.0.0:8443\"\ntoken = hunter2\n");
        assert!(shown.starts_with("relay.toml:3: "), "{shown}");
        assert!(shown.contains("3 | token = *******"), "{shown}");
        assert!(!shown.contains("hunter2"), "{shown}");
        let shown = syntax_error("secrets = [\n  \"hunter2,\n]\n");
        assert!(shown.contains("relay.toml:2: ") && !shown.contains("hunter"), "{shown}");
        assert!(syntax_error("[server\n").contains("1 | [server"));
    }

    #[test]
    fn every_syntax_error_is_reported() {
        let shown = syntax_error("a = 1 1\nb = 2\nc = = 3\n");
        assert!(shown.contains("relay.toml:1: ") && shown.contains("relay.toml:3: "), "{shown}");
    }

    #[test]
    fn paths_from_the_environment_reach_into_lists() {
        assert_eq!(indexed("sinks.0.amqp.url"), "sinks[0].amqp.url");
        assert_eq!(indexed("sources.12.secrets.0.file"), "sources[12].secrets[0].file");
        assert_eq!(indexed("sinks.99999.name"), "sinks.99999.name");
        assert_eq!(indexed("0"), "0");
    }

    #[test]
    fn the_usual_places_come_after_what_was_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("relay.toml");
        let env = Env::from_iter([("RALIO_RELAY_CONFIG", "/from/env.toml")]);
        let none = Env::default();
        let files = |given: &[PathBuf], env| discover(given, env, &[&place]);
        assert_eq!(files(&["/given.toml".into()], &env), Ok(vec!["/given.toml".into()]));
        assert_eq!(files(&[], &env), Ok(vec!["/from/env.toml".into()]));
        assert!(files(&[], &none).unwrap_err().hint.contains("serve --dev"));
        std::fs::write(&place, "").unwrap();
        assert_eq!(files(&[], &none), Ok(vec![place.clone()]));
    }
}
