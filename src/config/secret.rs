//! Secrets: `{ env = "NAME" }`, `{ file = "PATH" }`, or the text itself. They pass through no type guessing, and
//! nothing that is said about them quotes them.

use std::collections::HashMap;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use ::config::{Value, ValueKind};
use reqwest::Url;
use reqwest::header::{HeaderName, HeaderValue};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value as Json;

use super::effective::{Digest, REDACTED, Shown};
use super::layers::is_from_environment;
use super::parse::{self, Wrong};
use super::section::{Report, Section, described, origin_of};
use crate::verify::Fingerprint;

const MAX_SECRET_BYTES: u64 = 64 << 10;
const FORMS: &str = "write { file = \"/path\" } or { env = \"NAME\" }";

/// How a secret begins that `init` has made up, to be replaced by the one that Ralio's portal shows.
pub(crate) const STAND_IN: &str = "replace-me-";

/// A secret, read.
#[derive(Clone, Debug)]
pub struct Secret {
    text: SecretString,
    /// `literal`, `environment`, `env NAME` or `file PATH`.
    kind: String,
    /// Written into a configuration file as it is.
    is_literal: bool,
    file: Option<PathBuf>,
}

impl Secret {
    /// The secret itself.
    pub fn text(&self) -> &SecretString {
        &self.text
    }

    /// The file that it was read from, if any.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// What its file holds now, or what is wrong with that; a secret that comes from no file stays what it is. Blocks.
    pub fn read_again(&self) -> Result<SecretString, String> {
        let Some(file) = &self.file else { return Ok(self.text.clone()) };
        let (text, _) = read_file(file).map_err(|wrong| format!("{}: {}", wrong.message, wrong.hint))?;
        trimmed(&text, &self.kind).map_err(|wrong| wrong.message)
    }

    /// The same secret with another text: what [`read_again`](Self::read_again) gave.
    pub fn renew(&mut self, text: SecretString) {
        self.text = text;
    }
}

impl Section<'_> {
    /// A secret.
    pub(super) fn secret(&mut self, key: &'static str) -> Option<Secret> {
        let Some((value, origin)) = self.take(key) else {
            self.show(key, None, super::effective::DEFAULT, None);
            return None;
        };
        let secret = read(self.report, &self.path(key), &value, &origin)?;
        warn_of_literal(self.report, &self.path(key), &origin, &secret);
        self.show_secret(key, REDACTED.into(), &origin, &[&secret]);
        Some(secret)
    }

    /// A list of webhook secrets.
    pub(super) fn secrets(&mut self, key: &'static str) -> Option<Vec<Secret>> {
        let path = self.path(key);
        let (value, origin) = self.take(key)?;
        let items = match value.kind {
            ValueKind::Array(items) => items,
            ValueKind::String(_) if is_from_environment(&origin) => vec![value],
            _ => {
                let hint = format!("write {key} = [{{ file = \"/path\" }}]: several can be valid at a time");
                self.report.problem(Some(&origin), &path, Wrong::new("is not a list of secrets", hint));
                return None;
            }
        };
        let mut secrets = Vec::new();
        let wanted = items.len();
        for (index, item) in items.iter().enumerate() {
            let (path, origin) = (format!("{path}[{index}]"), origin_of(item).unwrap_or(&origin));
            if let Some(secret) = read(self.report, &path, item, origin) {
                warn_of_literal(self.report, &path, origin, &secret);
                secrets.push(secret);
            }
        }
        let fingerprint = |secret: &Secret| Fingerprint::of(secret.text.expose_secret().as_bytes());
        let fingerprints = secrets.iter().map(fingerprint).collect();
        let all: Vec<&Secret> = secrets.iter().collect();
        self.show_secrets(key, vec![REDACTED; wanted].into(), &origin, &all, fingerprints);
        (secrets.len() == wanted).then_some(secrets)
    }

    /// A URL, which is a secret too where it holds a user, a password or a query: checked, and as written.
    pub(super) fn secret_url(
        &mut self,
        key: &'static str,
        schemes: &[&str],
        example: &str,
    ) -> Option<(Url, SecretString)> {
        self.require(key, &format!("{example:?}, or {{ env = \"NAME\" }}"));
        let path = self.path(key);
        let (value, origin) = self.take(key)?;
        let secret = read(self.report, &path, &value, &origin)?;
        let url = parse::url(secret.text.expose_secret(), schemes, example);
        // A token may be a user without a password.
        let has_credentials = |url: &Url| !url.username().is_empty() || url.password().is_some();
        let harmless = |url: &Url| !has_credentials(url) && url.query().is_none();
        match &url {
            Ok(url) if harmless(url) && secret.is_literal => self.show(key, Some(url.as_str().into()), &origin, None),
            _ => self.show_secret(key, REDACTED.into(), &origin, &[&secret]),
        }
        match url {
            Ok(url) => {
                if has_credentials(&url) {
                    warn_of_literal(self.report, &path, &origin, &secret);
                }
                Some((url, secret.text))
            }
            Err(wrong) => {
                self.report.problem(Some(&origin), &path, wrong);
                None
            }
        }
    }

    /// A table of HTTP headers, whose values may all be secrets.
    pub(super) fn headers(&mut self, key: &'static str) -> Vec<(HeaderName, HeaderValue)> {
        self.section(key, |section| {
            let rest = section.take_rest();
            rest.into_iter().filter_map(|(name, value)| section.header(&name, &value)).collect()
        })
    }

    fn header(&mut self, name: &str, value: &Value) -> Option<(HeaderName, HeaderValue)> {
        let (path, origin) = (self.path(name), origin_of(value).unwrap_or_default());
        let secret = read(self.report, &path, value, origin)?;
        let header = header(name, secret.text.expose_secret());
        if let Err(wrong) = &header {
            self.report.problem(Some(origin), &path, wrong.clone());
        }
        if names_a_secret(name) {
            warn_of_literal(self.report, &path, origin, &secret);
        }
        self.show_secret(name, REDACTED.into(), origin, &[&secret]);
        header.ok()
    }

    /// Shows where secrets come from, and keeps of what they are as much as it takes to see that they have changed.
    fn show_secret(&mut self, key: impl Into<String>, value: Json, origin: &str, secrets: &[&Secret]) {
        self.show_secrets(key, value, origin, secrets, Vec::new());
    }

    fn show_secrets(
        &mut self,
        key: impl Into<String>,
        value: Json,
        origin: &str,
        secrets: &[&Secret],
        fingerprints: Vec<Fingerprint>,
    ) {
        let kinds: Vec<&str> = secrets.iter().map(|secret| secret.kind.as_str()).collect();
        let digest = Digest::of(secrets.iter().map(|secret| secret.text.expose_secret()));
        let secret = Some(kinds.join(", "));
        let digest = Some(digest);
        self.show_value(key, Shown { value: Some(value), origin: origin.to_owned(), secret, fingerprints, digest });
    }
}

fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), Wrong> {
    let lower = name.to_ascii_lowercase();
    let own = ["content-type", "content-length", "transfer-encoding", "connection", "host", "x-signature"];
    if own.contains(&lower.as_str()) || lower.starts_with("ce-") || lower.starts_with("webhook-") {
        return Err(Wrong::new("is a header that the relay sets itself", "take it out"));
    }
    let name = HeaderName::from_bytes(lower.as_bytes())
        .map_err(|_| Wrong::new("is not the name of an HTTP header", "use letters, digits and '-'"))?;
    let mut value = HeaderValue::from_str(value)
        .map_err(|_| Wrong::new("is not the value of an HTTP header", "use visible ASCII characters"))?;
    value.set_sensitive(true);
    Ok((name, value))
}

fn names_a_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["auth", "token", "key", "secret", "cookie", "password"].iter().any(|word| name.contains(word))
}

fn warn_of_literal(report: &Report<'_>, path: &str, origin: &str, secret: &Secret) {
    if secret.is_literal {
        report.warn(format!("{origin}: {path}: a secret is written into the configuration itself; better: {FORMS}"));
    }
}

fn read(report: &Report<'_>, path: &str, value: &Value, origin: &str) -> Option<Secret> {
    resolve(report, path, value, origin).map_err(|wrong| report.problem(Some(origin), path, wrong)).ok()
}

fn resolve(report: &Report<'_>, path: &str, value: &Value, origin: &str) -> Result<Secret, Wrong> {
    let mut place = None;
    let (text, kind) = match &value.kind {
        ValueKind::String(text) if is_from_environment(origin) => (text.clone(), "environment".to_owned()),
        ValueKind::String(text) => (text.clone(), "literal".to_owned()),
        ValueKind::Table(table) => match reference(table)? {
            ("env", name) => (from_env(report, name)?, format!("env {name}")),
            (_, file) => {
                place = Some(PathBuf::from(file));
                (from_file(report, path, origin, Path::new(file))?, format!("file {file}"))
            }
        },
        _ => return Err(Wrong::new(format!("{} is not a secret", kind_of(value)), format!("{FORMS}, or a \"text\""))),
    };
    Ok(Secret { text: trimmed(&text, &kind)?, is_literal: kind == "literal", kind, file: place })
}

fn trimmed(text: &str, kind: &str) -> Result<SecretString, Wrong> {
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() {
        let place = if kind == "literal" { "it" } else { kind };
        return Err(Wrong::new(format!("the secret is empty ({place})"), "an empty secret would let anybody in"));
    }
    Ok(text.into())
}

/// A number may be a secret that lost its quotes.
fn kind_of(value: &Value) -> String {
    match &value.kind {
        ValueKind::I64(_) | ValueKind::Float(_) => "a number".to_owned(),
        _ => described(value),
    }
}

fn reference(table: &HashMap<String, Value>) -> Result<(&str, &str), Wrong> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.as_str());
    match entries.as_slice() {
        [(key, Value { kind: ValueKind::String(text), .. })] if ["env", "file"].contains(&key.as_str()) => {
            Ok((key, text))
        }
        [_, _, ..] => Err(Wrong::new("has more than one place to read the secret from", FORMS)),
        _ => Err(Wrong::new("does not say where the secret is", FORMS)),
    }
}

fn from_env(report: &Report<'_>, name: &str) -> Result<String, Wrong> {
    let hint = format!("set {name} in the environment of the daemon");
    let value =
        report.env.get(name).ok_or_else(|| Wrong::new(format!("environment variable {name} is not set"), &hint))?;
    let text =
        value.to_str().ok_or_else(|| Wrong::new(format!("environment variable {name} is not UTF-8 text"), hint))?;
    Ok(text.to_owned())
}

fn from_file(report: &Report<'_>, path: &str, origin: &str, file: &Path) -> Result<String, Wrong> {
    let (text, mode) = read_file(file)?;
    report.note_file(file, Some(text.clone().into()));
    if mode & 0o004 != 0 {
        let shown = file.display();
        report.warn(format!(
            "{origin}: {path}: {shown} can be read by everybody on this machine; run `chmod 600 {shown}`"
        ));
    }
    Ok(text)
}

/// What a file holds, and its mode.
fn read_file(file: &Path) -> Result<(String, u32), Wrong> {
    let shown = file.display();
    let wrong = |error: &dyn std::fmt::Display| {
        let hint = format!(
            "put {shown} there, readable for the daemon's user (a relative path starts in its working directory)"
        );
        Wrong::new(format!("secret file {shown} cannot be read: {error}"), hint)
    };
    let mut text = String::new();
    let opened = std::fs::File::open(file).map_err(|error| wrong(&error))?;
    let mode = opened.metadata().map_err(|error| wrong(&error))?.permissions().mode();
    let bytes = opened.take(MAX_SECRET_BYTES + 1).read_to_string(&mut text).map_err(|error| wrong(&error))?;
    if bytes as u64 > MAX_SECRET_BYTES {
        return Err(wrong(&"it is larger than 64 KiB"));
    }
    Ok((text, mode))
}
