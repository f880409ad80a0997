//! `[[sinks]]`.

use std::time::Duration;

use super::SinkSettings;
use super::parse::{self, Wrong};
use super::section::Section;
#[cfg(feature = "amqp")]
use super::server::{readable, warn_of_open_file};
use crate::consume::{self, Ordering, Retry};
use crate::model::{EventType, SinkName};
use crate::route::{Glob, Route};
use crate::sink::{self, Format, exec, file, http};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Amqp,
    Http,
    Exec,
    File,
    Stdout,
}

const KINDS: [(&str, Kind); 5] =
    [("amqp", Kind::Amqp), ("http", Kind::Http), ("exec", Kind::Exec), ("file", Kind::File), ("stdout", Kind::Stdout)];

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Amqp => "amqp",
            Self::Http => "http",
            Self::Exec => "exec",
            Self::File => "file",
            Self::Stdout => "stdout",
        }
    }

    fn default_concurrency(self) -> u32 {
        match self {
            // Outstanding confirms cost next to nothing.
            Self::Amqp => 200,
            Self::Http | Self::Exec | Self::File | Self::Stdout => 32,
        }
    }
}

/// The sinks. `None` when any of them is not right.
pub(super) fn sinks(root: &mut Section<'_>) -> Option<Vec<SinkSettings>> {
    let mut names = Vec::new();
    root.each("sinks", |s| sink(s, &mut names)).into_iter().collect()
}

fn sink(s: &mut Section<'_>, names: &mut Vec<SinkName>) -> Option<SinkSettings> {
    let name = s.required("name", "\"bus\"", |text| {
        SinkName::new(text).map_err(|error| Wrong::new(error.to_string(), "write a name such as \"bus\""))
    });
    s.unique("name", &name, names, "give each its own: a sink's place in the log hangs on its name");
    s.require("type", "\"amqp\" (or \"http\", \"exec\", \"file\", \"stdout\")");
    let kind = s.word("type", None, &KINDS, &["nats", "redis", "kafka"]);
    let route = route(s);
    let words = [("key", Ordering::Key), ("none", Ordering::None)];
    let ordering = s.word("ordering", Some("key"), &words, &[]);
    let start = s.text("start", Some("now"), parse::start);
    let concurrency = s.integer("concurrency", kind.map_or(32, Kind::default_concurrency), [1, 10_000]);
    let timeout = s.duration("timeout", Some("10s"), ["100ms", "1h"]);
    let format = format(s, kind);
    let retry = s.section("retry", retry);
    let sink = destination(s, kind);
    let consumer = consume::Config {
        name: name?,
        route: route?,
        ordering: ordering?,
        start: start?,
        concurrency: concurrency? as usize,
        timeout: timeout?,
        retry: retry?,
    };
    Some(SinkSettings { consumer, sink: sink?, format: format? })
}

fn route(s: &mut Section<'_>) -> Option<Route> {
    if !s.has("events") {
        s.strings("events");
        return Some(Route::new(Vec::new()));
    }
    let patterns = s.strings("events")?;
    if patterns.is_empty() {
        s.wrong("events", "is empty, so the sink would get nothing", "leave it out for every event");
        return None;
    }
    let globs =
        patterns.iter().map(|pattern| glob(pattern).map_err(|wrong| s.wrong("events", wrong.message, wrong.hint)).ok());
    globs.collect::<Vec<_>>().into_iter().collect::<Option<_>>().map(Route::new)
}

/// A pattern in the spelling of the wire (`payin_*`) would never match: types are canonical by then.
fn glob(pattern: &str) -> Result<Glob, Wrong> {
    let glob = Glob::new(pattern)
        .map_err(|error| Wrong::new(error.to_string(), "write events = [\"payin.*\", \"payout.completed\"]"))?;
    let literal = pattern.find(['*', '?']).unwrap_or(pattern.len());
    let canonical = EventType::canonical(pattern).map(|canonical| canonical.to_string());
    match canonical {
        Some(canonical) if canonical != pattern && pattern.find('_').is_some_and(|at| at < literal) => {
            let message = format!("{pattern:?} would never match: canonical types have a '.'");
            Err(Wrong::new(message, format!("did you mean {canonical:?}?")))
        }
        _ => Ok(glob),
    }
}

fn format(s: &mut Section<'_>, kind: Option<Kind>) -> Option<Format> {
    let fixed = |s: &mut Section<'_>, what: &str| {
        s.forbid("format", format!("has no effect here: {what}"), "take it out");
        Some(Format::Raw)
    };
    match kind? {
        Kind::Amqp | Kind::Http => {
            let words = [("raw", Format::Raw), ("cloudevents", Format::CloudEvents)];
            s.word("format", Some("raw"), &words, &[])
        }
        Kind::Exec => fixed(s, "a command always gets the body on its standard input, and the rest in CE_* variables"),
        Kind::File | Kind::Stdout => fixed(s, "every line is one CloudEvents object"),
    }
}

fn retry(s: &mut Section<'_>) -> Option<Retry> {
    let initial = s.duration("initial", Some("1s"), ["10ms", "1h"]);
    let max = s.duration("max", Some("10m"), ["10ms", "1d"]);
    let jitter = s.bool("jitter", true);
    let give_up_after = s.duration("give_up_after", Some("72h"), ["1s", "366d"]);
    let (initial, max) = (initial?, max?);
    if initial > max {
        s.wrong("initial", "is longer than max, the longest delay", "make initial shorter, or max longer");
        return None;
    }
    Some(Retry { initial, max, jitter: jitter?, give_up_after: give_up_after? })
}

fn destination(s: &mut Section<'_>, kind: Option<Kind>) -> Option<sink::Config> {
    for (word, other) in KINDS {
        match kind {
            // Without a type there is no telling which table is wrong; the missing type is reported already.
            None => drop(s.take(word)),
            Some(kind) if kind == other && kind != Kind::Stdout => {}
            Some(Kind::Stdout) if other == Kind::Stdout => s.forbid(word, "has nothing to set", "take it out"),
            Some(kind) => {
                let message =
                    format!("belongs to a sink of type {word:?}, and this one is of type {:?}", kind.as_str());
                s.forbid(word, message, format!("take it out, or write type = {word:?}"));
            }
        }
    }
    match kind? {
        Kind::Amqp => amqp(s),
        Kind::Http => s.section("http", http).map(sink::Config::Http),
        Kind::Exec => s.section("exec", exec).map(sink::Config::Exec),
        Kind::File => s.section("file", file).map(sink::Config::File),
        Kind::Stdout => Some(sink::Config::Stdout),
    }
}

#[cfg(feature = "amqp")]
fn amqp(s: &mut Section<'_>) -> Option<sink::Config> {
    s.section("amqp", |s| {
        let url = s.secret_url("url", &["amqp", "amqps"], "amqps://user:password@host:5671/vhost");
        let exchange = s.text("exchange", Some("ralio.events"), short_string);
        let declare = s.bool("declare", true);
        let queue = s.text("queue", None, short_string);
        if declare == Some(false) && queue.is_some() {
            let hint = "leave declare out, or take out queue and bind your own to the exchange";
            s.wrong("queue", "is only declared and bound with declare = true", hint);
            return None;
        }
        let (parsed, url) = url.unzip();
        let tls = amqp_tls(s, parsed.is_some_and(|url| url.scheme() == "amqp"));
        Some(sink::Config::Amqp(sink::amqp::Config {
            url: url?,
            exchange: exchange?,
            declare: declare?,
            queue,
            tls: tls?,
        }))
    })
}

/// The certificates for `amqps://`. `None` when they are not right.
#[cfg(feature = "amqp")]
fn amqp_tls(s: &mut Section<'_>, plain: bool) -> Option<sink::amqp::Tls> {
    const KEYS: [&str; 3] = ["ca", "client_cert", "client_key"];
    if plain && KEYS.iter().any(|key| s.has(key)) {
        for key in KEYS {
            s.forbid(key, "has no effect: amqp:// is not encrypted", "write amqps:// in url, or take it out");
        }
        return None;
    }
    let given = KEYS.map(|key| s.has(key));
    let [ca, cert, key] = KEYS.map(|key| s.text(key, None, readable));
    if let Some(key) = &key {
        warn_of_open_file(s, "client_key", key);
    }
    if given[1] != given[2] {
        let [there, missing] = if given[1] { [KEYS[1], KEYS[2]] } else { [KEYS[2], KEYS[1]] };
        s.wrong(there, format!("is of no use without {missing}"), format!("add {missing}, or take {there} out"));
        return None;
    }
    let client = cert.zip(key).map(|(cert, key)| sink::amqp::ClientCertificate { cert, key });
    // A file that is given and cannot be read is reported already.
    (given == [ca.is_some(), client.is_some(), client.is_some()]).then_some(sink::amqp::Tls { ca, client })
}

#[cfg(not(feature = "amqp"))]
fn amqp(s: &mut Section<'_>) -> Option<sink::Config> {
    s.forbid("amqp", "this build has no AMQP", "use a build with the feature \"amqp\"");
    s.wrong("type", "\"amqp\" is not in this build", "use a build with the feature \"amqp\"");
    None
}

/// AMQP 0-9-1, 4.2.5.3: names are short strings of at most 255 bytes.
#[cfg(feature = "amqp")]
fn short_string(text: &str) -> Result<String, Wrong> {
    if text.len() > 255 || text.chars().any(char::is_control) {
        return Err(Wrong::new("is not a name that AMQP takes", "use at most 255 bytes without control characters"));
    }
    parse::text(text)
}

fn http(s: &mut Section<'_>) -> Option<http::Config> {
    let url = s.secret_url("url", &["http", "https"], "https://ledger.example.com/hooks/ralio");
    let signing_secret = s.secret("signing_secret");
    let headers = s.headers("headers");
    Some(http::Config { url: url?.0, headers, signing_secret })
}

fn exec(s: &mut Section<'_>) -> Option<exec::Config> {
    s.require("command", "[\"/usr/bin/handler\", \"--flag\"]");
    let command = s.strings("command");
    let env_allow = s.strings("env_allow").unwrap_or_default();
    let directory = s.text("directory", None, parse::path);
    let words = [("retry", exec::OnFailure::Retry), ("dead_letter", exec::OnFailure::DeadLetter)];
    let on_failure = s.word("on_failure", Some("retry"), &words, &[]);
    let command = command?;
    if command.first().is_none_or(|program| program.trim().is_empty()) {
        s.wrong("command", "names no program", "write command = [\"/usr/bin/handler\", \"--flag\"]");
        return None;
    }
    if let Some(bad) = env_allow.iter().find(|name| name.is_empty() || name.contains(['=', '\0', '*'])) {
        s.wrong(
            "env_allow",
            format!("{bad:?} is not the name of a variable"),
            "write env_allow = [\"PATH\", \"HOME\"]",
        );
        return None;
    }
    Some(exec::Config { command, env_allow, directory, on_failure: on_failure? })
}

fn file(s: &mut Section<'_>) -> Option<file::Config> {
    let path = s.required("path", "\"/var/lib/ralio-relay/events.ndjson\"", parse::path);
    let rotate_size = s.size("rotate_size", None, ["1KiB", "1TiB"]);
    let rotate_every: Option<Duration> = s.duration("rotate_every", None, ["1s", "366d"]);
    Some(file::Config { path: path?, rotate_size, rotate_every })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_in_the_spelling_of_the_wire_are_caught() {
        assert!(glob("payin_completed").unwrap_err().hint.contains("payin.completed"));
        assert!(glob("payin_*").unwrap_err().hint.contains("payin.*"));
        assert!(glob("kyc_state_updated").unwrap_err().hint.contains("kyc.state_updated"));
        for good in ["payin.*", "kyc.session_*", "*_verified", "malformed", "*", "related_party.kyc_session_created"] {
            assert!(glob(good).is_ok(), "{good}");
        }
    }
}
