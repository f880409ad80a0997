//! `[[sinks]]`.

use std::time::Duration;

use super::parse::{self, Wrong};
use super::section::Section;
use super::server;
use super::{SinkOutline, SinkSettings};
use crate::consume::{self, Ordering, Rate, Retry};
use crate::model::{EventType, SinkName};
#[cfg(feature = "filters")]
use crate::route::Filter;
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

    fn default_probe_max(self) -> &'static str {
        match self {
            // A probe runs a command.
            Self::Exec => "1m",
            Self::Amqp | Self::Http | Self::File | Self::Stdout => "15s",
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

/// The sinks; `None` for each that is not right.
pub(super) fn sinks(root: &mut Section<'_>) -> Vec<Option<SinkSettings>> {
    let mut names = Vec::new();
    root.each("sinks", |s| sink(s, &mut names))
}

/// Name, type and route of each; the rest of a table is not looked at. `None` when any of these is not right.
pub(super) fn outlines(root: &mut Section<'_>) -> Option<Vec<SinkOutline>> {
    let mut names = Vec::new();
    let outline = |s: &mut Section<'_>| {
        let (name, kind, route) = (name(s, &mut names), kind(s), route(s));
        let max_parked = s.section("retry", |s| {
            let max_parked = max_parked(s);
            s.take_rest();
            max_parked
        });
        s.take_rest();
        Some(SinkOutline { name: name?, kind: kind?.as_str(), route: route?, max_parked: max_parked? })
    };
    root.each("sinks", outline).into_iter().collect()
}

/// The names alone.
pub(super) fn names(root: &mut Section<'_>) -> Option<Vec<SinkName>> {
    let mut names = Vec::new();
    let one = |s: &mut Section<'_>| {
        let name = name(s, &mut names);
        s.take_rest();
        name
    };
    root.each("sinks", one).into_iter().collect()
}

fn name(s: &mut Section<'_>, names: &mut Vec<SinkName>) -> Option<SinkName> {
    let name = s.required("name", "\"bus\"", |text| {
        SinkName::new(text).map_err(|error| Wrong::new(error.to_string(), "write a name such as \"bus\""))
    });
    s.unique("name", &name, names, "give each its own: a sink's place in the log hangs on its name");
    name
}

fn kind(s: &mut Section<'_>) -> Option<Kind> {
    s.require("type", "\"amqp\" (or \"http\", \"exec\", \"file\", \"stdout\")");
    s.word("type", None, &KINDS, &["nats", "redis", "kafka"])
}

fn sink(s: &mut Section<'_>, names: &mut Vec<SinkName>) -> Option<SinkSettings> {
    // What other tables have noted is none of this sink's.
    s.report.take_files();
    s.report.take_unreadable();
    let name = name(s, names);
    let kind = kind(s);
    let route = route(s);
    let words = [("key", Ordering::Key), ("none", Ordering::None)];
    let ordering = s.word("ordering", Some("key"), &words, &[]);
    let start = s.text("start", Some("now"), parse::start);
    let concurrency = s.integer("concurrency", kind.map_or(32, Kind::default_concurrency), [1, 10_000]);
    let timeout = s.duration("timeout", Some("10s"), ["100ms", "1h"]);
    let format = format(s, kind);
    let rate = s.text("rate", Some("off"), parse::rate);
    let retry = s.section("retry", |s| retry(s, kind));
    let sink = destination(s, kind);
    let consumer = consume::Config {
        name: name?,
        route: route?,
        ordering: ordering?,
        start: start?,
        concurrency: concurrency? as usize,
        timeout: timeout?,
        rate: rate?.map(Rate::new),
        retry: retry?,
    };
    let (files, unreadable) = (s.report.take_files(), s.report.take_unreadable());
    Some(SinkSettings { consumer, sink: sink?, format: format?, files, unreadable, facts: s.facts() })
}

fn route(s: &mut Section<'_>) -> Option<Route> {
    let globs = globs(s);
    let filter = filter(s);
    Some(filter?(Route::new(globs?)))
}

/// What the filter, where there is one, adds to a route.
#[cfg(feature = "filters")]
fn filter(s: &mut Section<'_>) -> Option<impl FnOnce(Route) -> Route + use<>> {
    let is_set = s.has("filter");
    let filter = s.text("filter", None, |text| {
        let hint = "write a condition in CEL, such as filter = \"event.data.amounts.creditedAmount.currency == 'EUR'\"";
        Filter::compile(text).map_err(|error| Wrong::new(error.to_string(), hint))
    });
    (filter.is_some() || !is_set).then_some(|route: Route| match filter {
        Some(filter) => route.with_filter(filter),
        None => route,
    })
}

#[cfg(not(feature = "filters"))]
fn filter(s: &mut Section<'_>) -> Option<impl FnOnce(Route) -> Route + use<>> {
    let is_set = s.has("filter");
    s.forbid("filter", "this build has no filters", "use a build with the feature \"filters\"");
    (!is_set).then_some(|route| route)
}

fn globs(s: &mut Section<'_>) -> Option<Vec<Glob>> {
    if !s.has("events") {
        s.strings("events");
        return Some(Vec::new());
    }
    let patterns = s.strings("events")?;
    if patterns.is_empty() {
        s.wrong("events", "is empty, so the sink would get nothing", "leave it out for every event");
        return None;
    }
    let globs =
        patterns.iter().map(|pattern| glob(pattern).map_err(|wrong| s.wrong("events", wrong.message, wrong.hint)).ok());
    globs.collect::<Vec<_>>().into_iter().collect()
}

/// A pattern in the spelling of the wire (`payin_*`) would never match: types are canonical by then.
fn glob(pattern: &str) -> Result<Glob, Wrong> {
    let glob = Glob::new(pattern)
        .map_err(|error| Wrong::new(error.to_string(), "write events = [\"payin.*\", \"payout.completed\"]"))?;
    let literal = pattern.find(['*', '?']).unwrap_or(pattern.len());
    match EventType::canonical(glob.as_str()) {
        // No character comes or goes, so the literal beginnings can be compared.
        Some(canonical) if canonical.as_str()[..literal] != glob.as_str()[..literal] => {
            let message = format!("{pattern:?} would never match: types are in their canonical form by then");
            Err(Wrong::new(message, format!("did you mean {:?}?", canonical.as_str())))
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

fn max_parked(s: &mut Section<'_>) -> Option<usize> {
    s.integer("max_parked", 100_000, [100, 1_000_000]).map(|max_parked| max_parked as usize)
}

fn retry(s: &mut Section<'_>, kind: Option<Kind>) -> Option<Retry> {
    let initial = s.duration("initial", Some("1s"), ["10ms", "1h"]);
    let max = s.duration("max", Some("10m"), ["10ms", "1d"]);
    let jitter = s.bool("jitter", true);
    let give_up_after = s.duration("give_up_after", Some("72h"), ["1s", "366d"]);
    let breaker_after = s.integer("breaker_after", 10, [1, 1000]);
    let probe_max = s.duration("probe_max", Some(kind.map_or("15s", Kind::default_probe_max)), ["10ms", "1h"]);
    let max_parked = max_parked(s);
    let (initial, max) = (initial?, max?);
    if initial > max {
        s.wrong("initial", "is longer than max, the longest delay", "make initial shorter, or max longer");
        return None;
    }
    let (give_up_after, breaker_after) = (give_up_after?, breaker_after? as usize);
    let (probe_max, max_parked) = (probe_max?, max_parked?);
    Some(Retry { initial, max, jitter: jitter?, give_up_after, breaker_after, probe_max, max_parked })
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
        let tls = tls(s, parsed.is_some_and(|url| url.scheme() == "amqp").then_some(["amqp://", "amqps://"]));
        Some(sink::Config::Amqp(sink::amqp::Config { url: url?, exchange: exchange?, declare: declare?, queue, tls }))
    })
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
    let signing_secret = s.secret("signing_secret").map(|secret| secret.text().clone());
    let headers = s.headers("headers");
    let allow_private = s.bool("allow_private", true);
    let plain = url.as_ref().filter(|(url, _)| url.scheme() == "http").map(|_| ["http://", "https://"]);
    let tls = tls(s, plain);
    let url = url?.0;
    // No problem: it would keep the daemon from receiving, and a sink that waits loses nothing.
    if allow_private == Some(false)
        && let Some(refused) = http::Refused::by_url(&url)
    {
        s.report.warn(format!("{}: {refused}", s.path("url")));
    }
    Some(http::Config { url, headers, signing_secret, allow_private: allow_private?, tls })
}

/// Certificates. `plain` holds the scheme of a url that is not encrypted, and the one that would be.
fn tls(s: &mut Section<'_>, plain: Option<[&str; 2]>) -> sink::Tls {
    let (has_cert, has_key) = (s.has("client_cert"), s.has("client_key"));
    let mut file = |key| {
        if let Some([scheme, encrypted]) = plain
            && s.has(key)
        {
            s.forbid(
                key,
                format!("has no effect: the url is {scheme}"),
                format!("write {encrypted} in url, or take it out"),
            );
            return None;
        }
        let file = s.text(key, None, parse::path)?;
        if let Err(wrong) = server::open(&file) {
            s.note_unreadable(key, wrong);
        }
        s.report.note_file(&file, None);
        Some(file)
    };
    let (ca, cert, key) = (file("ca"), file("client_cert"), file("client_key"));
    match (has_cert, has_key) {
        _ if plain.is_some() => {}
        (true, false) => s.wrong(
            "client_cert",
            "is of no use without its key",
            "write client_key = \"/etc/ralio-relay/client.key\" too, or take it out",
        ),
        (false, true) => s.wrong(
            "client_key",
            "is of no use without its certificate",
            "write client_cert = \"/etc/ralio-relay/client.crt\" too, or take it out",
        ),
        _ => {}
    }
    if let Some(key) = &key {
        server::warn_of_open_file(s, "client_key", key);
    }
    let client = cert.zip(key).map(|(cert, key)| sink::ClientCertificate { cert, key });
    sink::Tls { ca, client }
}

fn exec(s: &mut Section<'_>) -> Option<exec::Config> {
    s.require("command", "[\"/usr/bin/handler\", \"--flag\"]");
    let command = s.strings("command");
    let env_allow = s.strings("env_allow").unwrap_or_default();
    let directory = s.text("directory", None, parse::path);
    let words = [("retry", exec::OnFailure::Retry), ("dead_letter", exec::OnFailure::DeadLetter)];
    let on_failure = s.word("on_failure", Some("retry"), &words, &[]);
    let max_output = s.size("max_output", Some("1KiB"), ["0B", "4KiB"]);
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
    Some(exec::Config { command, env_allow, directory, on_failure: on_failure?, max_output: max_output? as usize })
}

fn file(s: &mut Section<'_>) -> Option<file::Config> {
    let path = s.required("path", "\"/var/lib/ralio-relay/events.ndjson\"", parse::path);
    let rotate_size = s.size("rotate_size", None, ["1KiB", "1TiB"]);
    let rotate_every: Option<Duration> = s.duration("rotate_every", None, ["1s", "366d"]);
    let compress = s.bool("compress", false);
    if compress == Some(true) && rotate_size.is_none() && rotate_every.is_none() {
        s.wrong("compress", "has no effect: only rotated files are compressed", "set rotate_size or rotate_every too");
        return None;
    }
    Some(file::Config { path: path?, rotate_size, rotate_every, compress: compress? })
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
