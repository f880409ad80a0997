//! The example configurations, and the commands that read configurations.
#![cfg_attr(
    not(all(feature = "amqp", feature = "filters")),
    expect(dead_code, reason = "the examples have AMQP sinks, and one a filter")
)]

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ralio_relay::config::{Env, Reading, read};
use tempfile::TempDir;

/// What the examples take from the environment.
const VARS: [(&str, &str); 3] = [
    ("AMQP_URL", "amqps://relay:hunter2@broker.example.com:5671/ledger"),
    ("LEDGER_AUTHORIZATION", "Bearer hunter2"),
    ("RALIO_SANDBOX_SECRET", "hunter2 of the sandbox"),
];

fn example(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(name)).unwrap()
}

/// A copy of an example whose certificates and secrets are in a directory of the test's own.
fn on_this_machine(name: &str) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let mut text = example(name);
    for place in ["/etc/ralio-relay", "/run/secrets", "/var/lib/ralio-relay"] {
        text = text.replace(place, dir.path().to_str().unwrap());
    }
    for file in ["tls.crt", "tls.key", "ralio", "ralio-current", "ralio-previous", "ralio-relay-admin"] {
        write(&dir.path().join(file), "hunter2 of production\n");
    }
    let path = dir.path().join(name);
    write(&path, &text);
    (dir, path)
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

fn parsed(path: &Path) -> Reading {
    let reading = read(&[path.to_owned()], &Env::from_iter(VARS));
    if let Err(problems) = &reading.settings {
        panic!("{problems}");
    }
    reading
}

/// Every key that a file mentions, commented out or not: `server.listen`, `sinks.amqp.queue`.
fn mentioned(text: &str) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    let mut table = String::new();
    let is_key = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    for line in text.lines() {
        let line = line.trim_start_matches("# ");
        if line.starts_with('[') {
            table = line.split(']').next().unwrap().trim_start_matches('[').to_owned();
        } else if let Some((key, _)) = line.split_once('=')
            && is_key(key.trim())
        {
            keys.insert(format!("{table}.{}", key.trim()));
        }
    }
    keys
}

#[cfg(all(feature = "amqp", feature = "filters"))]
#[test]
fn the_full_example_is_right_and_mentions_every_key_and_no_other() {
    let (_dir, path) = on_this_machine("relay.toml");
    let reading = parsed(&path);
    let mut known = reading.effective.keys();
    // The names of headers are the user's own.
    known.retain(|key| !key.starts_with("sinks.http.headers."));
    let mut mentioned = mentioned(&example("relay.toml"));
    mentioned.remove("sinks.http.headers");
    assert_eq!(mentioned, known);
    let settings = reading.settings.unwrap();
    assert_eq!((settings.ingest.sources.len(), settings.sinks.len()), (2, 5));
    assert!(settings.warnings.is_empty(), "{:?}", settings.warnings);
}

/// Where the full example writes the default down, it writes the real one.
#[cfg(all(feature = "amqp", feature = "filters"))]
#[test]
fn the_full_example_shows_the_defaults() {
    let (_dir, full) = on_this_machine("relay.toml");
    let (_other, minimal) = on_this_machine("minimal.toml");
    let (full, minimal) = (parsed(&full).effective, parsed(&minimal).effective);
    let full = full.values();
    let defaults: Vec<_> =
        minimal.values().into_iter().filter(|(_, shown)| shown.origin == "default" && shown.value.is_some()).collect();
    assert!(defaults.len() > 20, "{defaults:?}");
    for (key, default) in defaults {
        let shown = full.iter().find(|(path, _)| *path == key).unwrap();
        assert_eq!(shown.1.value, default.value, "{key}");
    }
}

#[cfg(feature = "amqp")]
#[test]
fn the_minimal_example_is_right() {
    let (_dir, path) = on_this_machine("minimal.toml");
    let settings = parsed(&path).settings.unwrap();
    assert_eq!((settings.ingest.sources.len(), settings.sinks.len()), (1, 1));
    assert!(settings.ingest.tls.is_some() && settings.admin.is_some());
}

/// The built binary, with nothing of this machine's configuration.
fn relay(args: &[&str], file: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ralio-relay"));
    command.env_clear().envs(VARS).args(args).arg("--config").arg(file).current_dir(file.parent().unwrap());
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[cfg(all(feature = "amqp", feature = "filters"))]
#[test]
fn check_counts_what_is_good() {
    let (_dir, path) = on_this_machine("relay.toml");
    let output = relay(&["check"], &path);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(text(&output.stdout).contains("configuration is good: 2 sources, 5 sinks"), "{output:?}");
}

#[test]
fn check_prints_every_problem_and_exits_with_2() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bad.toml");
    write(&path, "[server]\nlisten = ':80'\nplaintext = true\n[[sources]]\nname = 'a'\npth = '/x'\n");
    let output = relay(&["check"], &path);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    for part in ["bad.toml:2: server.listen", "sources[0].path: is missing", "sources[0].pth", "did you mean \"path\"?"]
    {
        assert!(text(&output.stdout).contains(part), "{part} in {output:?}");
    }
    let lines = relay(&["check", "--format", "json"], &path);
    assert_eq!(lines.status.code(), Some(2));
    for line in text(&lines.stdout).lines() {
        let finding: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(finding["level"], "problem");
        assert!(["origin", "key", "message", "hint"].iter().all(|field| finding[field].is_string()), "{line}");
    }
    assert_eq!(relay(&["serve"], &path).status.code(), Some(2));
    assert_eq!(relay(&["events", "list"], &dir.path().join("missing.toml")).status.code(), Some(2));
}

/// A secret never shows, whatever is wrong with the rest.
#[cfg(all(feature = "amqp", feature = "filters"))]
#[test]
fn config_show_redacts_and_can_be_read_back() {
    let (dir, path) = on_this_machine("relay.toml");
    let output = relay(&["config", "show"], &path);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let shown = text(&output.stdout);
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(shown.contains("secret: env AMQP_URL") && shown.contains("# default"), "{shown}");
    let again = dir.path().join("again.toml");
    write(&again, shown);
    let (first, second) = (parsed(&path), read(&[again], &Env::default()).effective);
    assert_eq!(first.effective.keys(), second.keys());

    let output = relay(&["config", "show", "--format", "json"], &path);
    let lines: Vec<serde_json::Value> =
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let listen = lines.iter().find(|line| line["key"] == "server.listen").unwrap();
    assert_eq!(listen["value"], "0.0.0.0:8443");
    let line = example("relay.toml").lines().position(|line| line.starts_with("listen =")).unwrap() + 1;
    assert!(listen["origin"].as_str().unwrap().ends_with(&format!("relay.toml:{line}")), "{listen}");
    assert!(!text(&output.stdout).contains("hunter2"));
}

#[test]
fn a_probe_that_fails_names_the_remedy_and_exits_with_1() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("relay.toml");
    for file in ["tls.crt", "tls.key", "secret"] {
        write(&dir.path().join(file), "not a certificate");
    }
    let server = "[server.tls]\ncert = 'tls.crt'\nkey = 'tls.key'\n[inbox]\nurl = 'sqlite://data/inbox.db'\n";
    write(&path, &format!("{server}[[sources]]\nname = 'a'\npath = '/a'\nsecrets = [{{ file = 'secret' }}]\n"));
    let output = relay(&["check", "--probe"], &path);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let lines: Vec<&str> = text(&output.stdout).lines().collect();
    assert!(
        lines.iter().any(|line| line.starts_with("OK      inbox.url: ") && line.contains("can be made")),
        "{lines:?}"
    );
    let failed = lines.iter().position(|line| line.starts_with("FAIL    server.tls: ")).unwrap();
    assert!(lines[failed + 1].contains("-> "), "{lines:?}");
}

/// A configuration that stands where people put it is named, and not read: whoever may write there would decide what is run.
#[tokio::test]
async fn without_a_configuration_the_answer_says_how_to_name_one() {
    let directory = tempfile::tempdir().unwrap();
    let said = async || crate::harness::run_in(directory.path(), &["events", "list"], b"").await.code(2).stderr;
    let none = said().await;
    assert!(none.contains("export RALIO_RELAY_CONFIG=FILE") && none.contains("ralio-relay init"), "{none}");
    std::fs::create_dir(directory.path().join("ralio-relay")).unwrap();
    std::fs::write(directory.path().join("ralio-relay/relay.toml"), "").unwrap();
    let here = said().await;
    assert!(here.contains("--config ralio-relay/relay.toml"), "{here}");
    assert!(here.contains("RALIO_RELAY_CONFIG=\"$PWD/ralio-relay/relay.toml\""), "{here}");
}
