//! `[server]` and `[[sources]]`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::header::HeaderName;
use secrecy::ExposeSecret as _;

use super::parse::{self, Wrong};
use super::secret::{STAND_IN, Secret};
use super::secret_rules;
use super::section::Section;
use crate::ingest::{BadNetwork, Config, Network, OnBadSignature, Source, Tls};
use crate::model::SourceName;
use crate::verify::Keys;

/// The public listener without its sources, and the time to drain.
pub(super) fn server(root: &mut Section<'_>) -> Option<(Config, Duration)> {
    root.section("server", |s| {
        let listen = s.text("listen", Some("0.0.0.0:8443"), parse::address);
        let max_body = s.size("max_body", Some("1MiB"), ["1KiB", "64MiB"]);
        // The sender waits for 60 s. An answer that comes later is no answer.
        let ack_deadline = s.duration("ack_deadline", Some("20s"), ["100ms", "59s"]);
        let max_head = s.size("max_head", Some("16KiB"), ["4KiB", "64KiB"]);
        let trusted_proxies = trusted_proxies(s);
        let max_connections = s.integer("max_connections", 4096, [1, 65_536]);
        let read_timeout = s.duration("read_timeout", Some("15s"), ["100ms", "5m"]);
        let drain_timeout = s.duration("drain_timeout", Some("25s"), ["100ms", "10m"]);
        let plaintext = s.bool("plaintext", false);
        let tls = s.has("tls").then(|| s.section("tls", tls));
        match (plaintext, &tls) {
            (Some(false), None) => s.wrong(
                "tls",
                "is missing: Ralio sends over HTTPS only",
                "write [server.tls] with cert and key; or, behind a proxy that terminates TLS, server.plaintext = true",
            ),
            (Some(true), Some(_)) => s.wrong(
                "plaintext",
                "contradicts [server.tls]",
                "leave plaintext out to serve HTTPS, or take out [server.tls] behind a proxy that terminates TLS",
            ),
            _ => {}
        }
        let tls = match tls {
            Some(tls) => Some(tls?),
            None => None,
        };
        let config = Config {
            listen: listen?,
            max_body: usize::try_from(max_body?).expect("64 MiB fit into a usize"),
            ack_deadline: ack_deadline?,
            max_connections: max_connections? as usize,
            max_head: usize::try_from(max_head?).expect("64 KiB fit into a usize"),
            trusted_proxies: trusted_proxies?,
            read_timeout: read_timeout?,
            tls,
            sources: Vec::new(),
        };
        Some((config, drain_timeout?))
    })
}

/// Networks whose `X-Forwarded-For` counts.
fn trusted_proxies(s: &mut Section<'_>) -> Option<Vec<Network>> {
    let texts = s.strings("trusted_proxies").unwrap_or_default();
    let mut networks = Vec::new();
    for text in &texts {
        match text.parse() {
            Ok(network) => networks.push(network),
            Err(error) => {
                let hint = match &error {
                    BadNetwork::Unreadable => "write trusted_proxies = [\"10.0.0.0/8\"]".to_owned(),
                    BadNetwork::Within(network) => format!("write \"{network}\", or the address without a length"),
                };
                s.wrong("trusted_proxies", format!("{text:?}: {error}"), hint);
            }
        }
    }
    (networks.len() == texts.len()).then_some(networks)
}

fn tls(s: &mut Section<'_>) -> Option<Tls> {
    let cert = s.required("cert", "\"/etc/ralio-relay/tls.crt\"", readable);
    let key = s.required("key", "\"/etc/ralio-relay/tls.key\"", readable);
    if let Some(key) = &key {
        warn_of_open_file(s, "key", key);
    }
    Some(Tls { cert: cert?, key: key? })
}

/// Warns of a private key, named by the key of its table, that more people can read than should.
pub(super) fn warn_of_open_file(s: &Section<'_>, key: &str, file: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    let open = std::fs::metadata(file).is_ok_and(|meta| meta.permissions().mode() & 0o004 != 0);
    if open {
        let (path, file) = (s.path(key), file.display());
        s.report.warn(format!("{path}: {file} can be read by everybody on this machine; run `chmod 600 {file}`"));
    }
}

/// The path of a file that can be opened.
fn readable(text: &str) -> Result<PathBuf, Wrong> {
    let path = parse::path(text)?;
    open(&path)?;
    Ok(path)
}

/// Whether a path leads to a file that can be opened.
pub(super) fn open(path: &Path) -> Result<(), Wrong> {
    let hint = "put the file there, readable for the daemon's user (a relative path starts in its working directory)";
    let is_file = std::fs::File::open(path).and_then(|file| file.metadata()).map(|meta| meta.is_file());
    match is_file {
        Ok(true) => Ok(()),
        Ok(false) => Err(Wrong::new(format!("{} is not a file", path.display()), hint)),
        Err(error) => Err(Wrong::new(format!("{} cannot be read: {error}", path.display()), hint)),
    }
}

/// The registered endpoints, each with its secrets. `None` when any of them is not right.
pub(super) fn sources(root: &mut Section<'_>) -> Option<Vec<(Source, Vec<Secret>)>> {
    let (mut names, mut paths) = (Vec::new(), Vec::new());
    let sources = root.each("sources", |s| source(s, &mut names, &mut paths));
    if sources.is_empty() {
        let hint = "write [[sources]] with name, path and secrets, one for each endpoint registered in Ralio's portal";
        root.wrong("sources", "there is none, so nothing could be received", hint);
    }
    sources.into_iter().collect()
}

/// The names alone.
pub(super) fn source_names(root: &mut Section<'_>) -> Option<Vec<SourceName>> {
    let mut names = Vec::new();
    let one = |s: &mut Section<'_>| {
        let name = source_name(s, &mut names);
        s.take_rest();
        name
    };
    root.each("sources", one).into_iter().collect()
}

fn source_name(s: &mut Section<'_>, names: &mut Vec<SourceName>) -> Option<SourceName> {
    let name = s.required("name", "\"production\"", |text| {
        SourceName::new(text).map_err(|error| Wrong::new(error.to_string(), "write a name such as \"production\""))
    });
    s.unique("name", &name, names, "give each its own");
    name
}

fn source(s: &mut Section<'_>, names: &mut Vec<SourceName>, paths: &mut Vec<String>) -> Option<(Source, Vec<Secret>)> {
    let name = source_name(s, names);
    let path = s.required("path", "\"/webhooks/ralio\"", url_path);
    s.unique("path", &path, paths, "give each source its own path (a trailing slash makes no difference)");
    s.require("secrets", "[{ file = \"/run/secrets/ralio\" }]");
    let secrets = s.secrets("secrets");
    let signature_header = s.text("signature_header", Some("X-Signature"), |text| {
        HeaderName::from_bytes(text.as_bytes()).map(|name| name.as_str().to_owned()).map_err(|_| {
            Wrong::new(format!("{text:?} is not the name of an HTTP header"), "write \"X-Signature\", Ralio's own")
        })
    });
    let words = [("reject", OnBadSignature::Reject), ("retry", OnBadSignature::Retry)];
    let on_bad_signature = s.word("on_bad_signature", Some("reject"), &words, &[]);
    let keys = secrets.as_ref().and_then(|secrets| {
        let slots: Vec<&str> = secrets.iter().map(|secret| secret.text().expose_secret()).collect();
        Keys::new(&slots)
            .map_err(|error| {
                s.wrong("secrets", error.to_string(), "write secrets = [{ file = \"/run/secrets/ralio\" }]")
            })
            .ok()
    });
    if let (Some(secrets), Some(on_bad_signature)) = (&secrets, on_bad_signature) {
        tell_of_stand_in(s, secrets, on_bad_signature);
    }
    for (place, secret) in secrets.iter().flatten().enumerate() {
        secret_rules::warn_of_short(s.report, &s.path(&format!("secrets[{place}]")), secret);
    }
    let source = Source {
        name: name?,
        path: path?,
        keys: keys?,
        signature_header: signature_header?,
        on_bad_signature: on_bad_signature?,
    };
    Some((source, secrets?))
}

/// With nothing but what `init` wrote in place of Ralio's secret, every genuine delivery would be refused: for good, if
/// the answer were a 4xx.
fn tell_of_stand_in(s: &Section<'_>, secrets: &[Secret], on_bad_signature: OnBadSignature) {
    let Some(secret) = secrets.iter().find(|secret| secret.text().expose_secret().starts_with(STAND_IN)) else {
        return;
    };
    let place = secret.file().map_or_else(|| "the secret".to_owned(), |file| file.display().to_string());
    let message = format!("{place} holds the stand-in that `init` wrote, and no secret of Ralio's");
    let hint = "put the webhook secret that Ralio's portal shows into it";
    let is_alone = secrets.iter().all(|secret| secret.text().expose_secret().starts_with(STAND_IN));
    match on_bad_signature {
        OnBadSignature::Reject if is_alone => {
            s.wrong("secrets", message, format!("{hint}, or write on_bad_signature = \"retry\" until you have it"));
        }
        OnBadSignature::Reject | OnBadSignature::Retry => {
            let meanwhile = if is_alone { "; until then every delivery is answered 503" } else { "" };
            s.report.warn(format!("{}: {message}: {hint}{meanwhile}", s.path("secrets")));
        }
    }
}

/// A path without its trailing slash. Only what needs no escaping in a URL: what is registered in the portal, what is
/// configured and what comes in are then the same bytes.
pub(crate) fn url_path(text: &str) -> Result<String, Wrong> {
    let hint = "write a path such as \"/webhooks/ralio\"";
    let path = text.trim_end_matches('/');
    if !text.starts_with('/') {
        let hint = if text.contains("://") { hint.to_owned() } else { format!("write \"/{text}\"") };
        return Err(Wrong::new(format!("{text:?} does not start with '/'"), hint));
    }
    if path.is_empty() {
        return Err(Wrong::new("the root is no path for a webhook", hint));
    }
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"/-_.~".contains(&b);
    let odd = path[1..].split('/').any(|segment| ["", ".", ".."].contains(&segment));
    if odd || path.len() > 256 || !path.bytes().all(allowed) {
        let message =
            format!("{text:?} is not a plain path (at most 256 of a-z, A-Z, 0-9, '-', '_', '.', '~' and '/')");
        return Err(Wrong::new(message, hint));
    }
    Ok(path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_plain_and_lose_their_trailing_slash() {
        assert_eq!(url_path("/webhooks/ralio/"), Ok("/webhooks/ralio".to_owned()));
        assert!(url_path("webhooks").unwrap_err().hint.contains("\"/webhooks\""));
        for bad in ["", "/", "//", "/a//b", "/a/../b", "/a?b", "/a b", "/ä", "https://host/hook"] {
            assert!(url_path(bad).is_err(), "{bad}");
        }
    }

    /// Alone it refuses every genuine delivery, for good where that is a 4xx; beside Ralio's own secret it refuses none.
    #[test]
    fn the_stand_in_of_init_is_told_of_and_refused_where_it_would_lose_deliveries() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("relay.toml");
        let read = |secrets: &[&str], word: &str| {
            let text = format!(
                "[server]\nplaintext = true\n[[sources]]\nname = 'a'\npath = '/a'\nsecrets = {secrets:?}\n\
                 on_bad_signature = '{word}'\n"
            );
            std::fs::write(&file, text).unwrap();
            crate::config::read(std::slice::from_ref(&file), &crate::config::Env::default()).settings
        };
        let stand_in = format!("{STAND_IN}0123");
        let warnings = |secrets: &[&str], word: &str| {
            let settings = read(secrets, word).unwrap_or_else(|problems| panic!("{problems}"));
            settings.warnings.into_iter().filter(|warning| warning.contains("stand-in")).collect::<Vec<_>>()
        };
        let problems = read(&[&stand_in], "reject").expect_err("it would lose deliveries").0;
        assert_eq!((problems.len(), problems[0].key.as_str()), (1, "sources[0].secrets"));
        assert!(problems[0].message.contains("stand-in") && problems[0].hint.contains("\"retry\""), "{}", problems[0]);
        let told = warnings(&[&stand_in], "retry");
        assert!(told.len() == 1 && told[0].contains("sources[0].secrets") && told[0].contains("503"), "{told:?}");
        let told = warnings(&["Ralio's own", &stand_in], "reject");
        assert!(told.len() == 1 && !told[0].contains("503"), "{told:?}");
        assert_eq!(warnings(&["Ralio's own"], "reject"), [""; 0]);
    }

    #[test]
    fn trusted_proxies_are_networks() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("relay.toml");
        let read = |line: &str| {
            let sources = "[[sources]]\nname = 'a'\npath = '/a'\nsecrets = ['Ralio']\n";
            std::fs::write(&file, format!("[server]\nplaintext = true\n{line}\n{sources}")).unwrap();
            crate::config::read(std::slice::from_ref(&file), &crate::config::Env::default()).settings
        };
        let trusted = |line: &str| read(line).unwrap_or_else(|problems| panic!("{problems}")).ingest.trusted_proxies;
        assert_eq!(trusted(""), []);
        assert_eq!(trusted("trusted_proxies = []"), []);
        let networks = ["10.0.0.0/8", "fd00::/8", "192.0.2.7/32"].map(|text| text.parse().unwrap());
        assert_eq!(trusted("trusted_proxies = ['10.0.0.0/8', 'fd00::/8', '192.0.2.7']"), networks);
        for (bad, hint) in [("10.1.0.0/8", "10.0.0.0/8"), ("proxy.example", "trusted_proxies = [")] {
            let problems = read(&format!("trusted_proxies = ['{bad}']")).expect_err("it is no network").0;
            assert_eq!((problems.len(), problems[0].key.as_str()), (1, "server.trusted_proxies"));
            assert!(problems[0].message.contains(bad) && problems[0].hint.contains(hint), "{}", problems[0]);
        }
        assert_eq!(read("max_head = '8KiB'").unwrap().ingest.max_head, 8192);
        assert!(read("max_head = '1KiB'").is_err());
    }
}
