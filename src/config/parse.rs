//! Values that are written as text: durations, sizes, times, addresses.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use jiff::{Span, SpanRelativeTo};
use reqwest::Url;

use crate::clock;
use crate::model::Start;

/// What is wrong with a value, and what to write instead. Neither ever quotes a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    pub(crate) message: String,
    pub(crate) hint: String,
}

impl Wrong {
    pub(super) fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: hint.into() }
    }
}

/// `30s`, `15m`, `1h 30m`, `1d`, `2w`. A day has 24 hours; months and years have no fixed length and are refused.
pub(crate) fn duration(text: &str) -> Result<Duration, Wrong> {
    let wrong = || {
        let hint = if text.bytes().all(|b| b.is_ascii_digit()) && !text.is_empty() {
            format!("add a unit: \"{text}s\" for seconds, \"{text}m\" for minutes")
        } else {
            "write a number and a unit (ms, s, m, h, d), such as \"30s\" or \"15m\"".to_owned()
        };
        Wrong::new(format!("{text:?} is not a duration"), hint)
    };
    let span: Span = text.parse().map_err(|_| wrong())?;
    let duration = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| wrong())?;
    Duration::try_from(duration).map_err(|_| wrong())
}

/// `512B`, `64KiB`, `1MB`, `2GiB`: binary units of 1024, decimal ones of 1000.
pub(super) fn size(text: &str) -> Result<u64, Wrong> {
    let wrong = || {
        let hint = if text.bytes().all(|b| b.is_ascii_digit()) && !text.is_empty() {
            format!("add a unit: \"{text}B\" for bytes")
        } else {
            "write a whole number and a unit (B, KiB, MiB, GiB, TiB, KB, MB, GB, TB), such as \"64KiB\"".to_owned()
        };
        Wrong::new(format!("{text:?} is not a size"), hint)
    };
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let unit: u64 = match unit.trim_start().to_ascii_lowercase().as_str() {
        "b" => 1,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return Err(wrong()),
    };
    number.checked_mul(unit).ok_or_else(wrong)
}

/// Address and port, such as `0.0.0.0:8443` or `[::]:8443`. Names are refused: what they resolve to can change.
pub(crate) fn address(text: &str) -> Result<SocketAddr, Wrong> {
    text.parse().map_err(|_| {
        let hint = match text.strip_prefix(':').unwrap_or(text) {
            port if port.parse::<u16>().is_ok() => {
                format!("add an address: \"0.0.0.0:{port}\" or \"127.0.0.1:{port}\"")
            }
            _ if text.starts_with("localhost:") => format!("write {:?}", text.replacen("localhost", "127.0.0.1", 1)),
            _ => "write an IP address and a port, such as \"127.0.0.1:8081\" or \"[::]:8443\"".to_owned(),
        };
        Wrong::new(format!("{text:?} is not a listening address"), hint)
    })
}

/// Any text but none.
pub(super) fn text(text: &str) -> Result<String, Wrong> {
    if text.trim().is_empty() {
        return Err(Wrong::new("is empty", "write something, or leave the key out"));
    }
    Ok(text.to_owned())
}

/// A path; a relative one starts in the current directory.
pub(super) fn path(path: &str) -> Result<PathBuf, Wrong> {
    text(path).map(PathBuf::from)
}

/// Where a new sink begins: `now`, `earliest`, or a time.
pub(super) fn start(text: &str) -> Result<Start, Wrong> {
    match text {
        "now" => Ok(Start::Now),
        "earliest" => Ok(Start::Earliest),
        _ => clock::instant(text).map(Start::At).ok_or_else(|| {
            Wrong::new(
                format!("{text:?} is not a place to start"),
                "write \"now\", \"earliest\", or a time such as \"2026-01-31T00:00:00Z\"",
            )
        }),
    }
}

/// Attempts in a second at most, such as `100/s`; `off` = no bound.
pub(super) fn rate(text: &str) -> Result<Option<f64>, Wrong> {
    if text == "off" {
        return Ok(None);
    }
    let number = text.strip_suffix("/s").and_then(|number| number.trim().parse::<f64>().ok());
    match number.filter(|rate| (0.001..=1_000_000.0).contains(rate)) {
        Some(rate) => Ok(Some(rate)),
        None => Err(Wrong::new(
            format!("{text:?} is not a rate"),
            "write \"off\", or attempts in a second from 0.001 to 1000000, such as \"100/s\"",
        )),
    }
}

/// An absolute URL with one of the schemes and a host. The text is not quoted: URLs hold passwords.
pub(crate) fn url(text: &str, schemes: &[&str], example: &str) -> Result<Url, Wrong> {
    let url = Url::parse(text)
        .map_err(|error| Wrong::new(format!("is not a URL: {error}"), format!("write it like {example:?}")))?;
    if !schemes.contains(&url.scheme()) {
        let message = format!("has the scheme {:?}, which is none of {}", url.scheme(), schemes.join(", "));
        return Err(Wrong::new(message, format!("write it like {example:?}")));
    }
    if !url.has_host() {
        return Err(Wrong::new("names no host", format!("write it like {example:?}")));
    }
    Ok(url)
}

/// The database file of `sqlite:///absolute/path` or `sqlite://relative/path`.
pub(super) fn sqlite(text: &str) -> Result<PathBuf, Wrong> {
    let example = "write it like \"sqlite:///var/lib/ralio-relay/inbox.db\" (three slashes: an absolute path)";
    if text.starts_with("postgres:") || text.starts_with("postgresql:") {
        return Err(Wrong::new("PostgreSQL is planned, and not available in this version", example));
    }
    match text.strip_prefix("sqlite://") {
        Some(path) if !path.is_empty() && !path.ends_with('/') && !path.contains(['?', '#', '\0']) => {
            Ok(PathBuf::from(path))
        }
        _ => Err(Wrong::new("is not the URL of a SQLite file", example)),
    }
}

/// `tracing_subscriber` filter directives. A word without `=` must be a level: the library itself takes any other
/// word as the name of a module, so that a typing error would turn logging off.
pub(super) fn log_level(text: &str) -> Result<String, Wrong> {
    const LEVELS: [&str; 6] = ["trace", "debug", "info", "warn", "error", "off"];
    let hint =
        "write one of trace, debug, info, warn, error, off; or directives such as \"info,ralio_relay::consume=debug\"";
    let unknown = text.split(',').map(str::trim).find(|directive| {
        !directive.contains(['=', '[']) && !LEVELS.iter().any(|level| directive.eq_ignore_ascii_case(level))
    });
    if let Some(unknown) = unknown {
        return Err(Wrong::new(format!("{unknown:?} is not a log level"), hint));
    }
    match tracing_subscriber::EnvFilter::try_new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(Wrong::new(format!("{text:?} is not a log filter: {error}"), hint)),
    }
}

/// The nearest of some words, when it is near enough to be what was meant.
pub(crate) fn nearest<'a>(word: &str, among: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_ascii_lowercase();
    let score = |candidate: &str| strsim::jaro_winkler(&word, candidate);
    let best = among.into_iter().max_by(|a, b| score(a).total_cmp(&score(b)))?;
    (score(best) > 0.8).then_some(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit_and_know_days() {
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("15m"), Ok(Duration::from_secs(900)));
        assert_eq!(duration("1h 30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(duration("400d"), Ok(Duration::from_secs(400 * 86_400)));
        for bad in ["", "10", "ten", "-5s", "5s ago", "1mo", "1y", "9999999999999999999s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        assert!(duration("10").unwrap_err().hint.contains("\"10s\""));
    }

    #[test]
    fn sizes_are_binary_or_decimal_and_never_overflow() {
        assert_eq!(size("64KiB"), Ok(65_536));
        assert_eq!(size("1 MiB"), Ok(1 << 20));
        assert_eq!(size("1GB"), Ok(1_000_000_000));
        assert_eq!(size("512B"), Ok(512));
        for bad in ["", "10", "1.5MiB", "MiB", "-1B", "1XB", "99999999999999TiB"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses_say_what_is_missing() {
        assert_eq!(address("[::1]:80").unwrap().port(), 80);
        assert!(address(":8443").unwrap_err().hint.contains("0.0.0.0:8443"));
        assert!(address("8443").unwrap_err().hint.contains("0.0.0.0:8443"));
        assert!(address("localhost:8081").unwrap_err().hint.contains("127.0.0.1:8081"));
    }

    #[test]
    fn sqlite_urls_are_absolute_or_relative() {
        assert_eq!(sqlite("sqlite:///var/inbox.db").unwrap(), PathBuf::from("/var/inbox.db"));
        assert_eq!(sqlite("sqlite://.ralio-relay/inbox.db").unwrap(), PathBuf::from(".ralio-relay/inbox.db"));
        assert!(sqlite("postgres://localhost/x").unwrap_err().message.contains("planned"));
        for bad in ["sqlite:/x", "/var/inbox.db", "sqlite://", "sqlite:///dir/", "sqlite:///x?mode=ro"] {
            assert!(sqlite(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_mistyped_log_level_is_not_taken_for_a_module() {
        assert!(log_level("info").is_ok());
        assert!(log_level("INFO,ralio_relay::consume=debug").is_ok());
        assert!(log_level("inof").is_err());
        assert!(log_level("info,ralio_relay=loud").is_err());
        assert!(log_level("").is_err());
    }

    #[test]
    fn starts_are_words_or_times() {
        assert_eq!(start("now"), Ok(Start::Now));
        assert_eq!(start("2026-01-31"), start("2026-01-31T00:00:00Z"));
        assert!(start("yesterday").is_err());
    }

    #[test]
    fn urls_never_show_up_in_what_is_wrong_with_them() {
        let wrong = url("amqp://user:hunter2@", &["amqp"], "amqp://host").unwrap_err();
        assert!(!format!("{wrong:?}").contains("hunter2"));
        assert!(url("http://host/", &["amqp"], "amqp://host").unwrap_err().message.contains("http"));
    }
}
