//! The commands, as typed.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::harness::process::Process;
use crate::harness::{Ack, Delivery, TestRelay, eventually, keys, run, run_in, signed, text};

/// Every canonical type of the provider's documentation.
pub const TYPES: [&str; 18] = [
    "account.activated",
    "kyb.state_updated",
    "kyc.session_expired",
    "kyc.session_failed",
    "kyc.session_manual_review",
    "kyc.session_verified",
    "kyc.state_updated",
    "payin.completed",
    "payin.failed",
    "payin.processing",
    "payout.completed",
    "payout.processing",
    "related_party.kyc_session_created",
    "transfer.completed",
    "transfer.processing",
    "viban.activated",
    "viban.deactivated",
    "viban.failed",
];

async fn simulate(relay: &TestRelay, more: &[&str]) -> Value {
    let (url, secret) = (relay.url(signed::PATH), relay.settings().directory().join("secret-test-0"));
    let args = ["simulate", "--url", &url, "--secret-file", secret.to_str().unwrap(), "--insecure", "--format", "json"];
    let output = run(&[&args, more].concat()).await;
    let summary = output.json().pop().unwrap_or_else(|| panic!("no summary: {output:?}"));
    assert_eq!(keys(&summary), ["accepted", "duplicates", "failed", "p50_ms", "p99_ms", "rejected", "retried", "sent"]);
    assert_eq!(summary["failed"], 0, "none without an answer");
    summary
}

#[tokio::test]
async fn simulate_sends_every_type_in_both_envelopes() {
    for envelope in ["current", "legacy"] {
        let relay = TestRelay::builder().start().await;
        let summary = simulate(&relay, &["--envelope", envelope]).await;
        assert_eq!(
            (&summary["rejected"], &summary["duplicates"], &summary["retried"]),
            (&json!(0), &json!(0), &json!(0))
        );
        let events = relay.events().await;
        assert_eq!(summary["accepted"], events.len());
        let types: BTreeSet<_> = events.iter().map(|event| text(event, "type")).collect();
        assert_eq!(TYPES.iter().filter(|&&name| !types.contains(name)).collect::<Vec<_>>(), [&""; 0], "{envelope}");
        assert!(!types.contains("malformed") && !types.contains("unknown"));
        let member = if envelope == "current" { "eventId" } else { "id" };
        for event in events {
            let shown = relay.event(&event["seq"].to_string()).await;
            let body: Value = serde_json::from_str(text(&shown, "body")).unwrap();
            assert_eq!(text(&body, member), text(&event, "id"));
        }
        relay.shutdown().await;
    }
}

#[tokio::test]
async fn simulate_sends_duplicates_and_bad_signatures_and_counts_the_answers() {
    let relay = TestRelay::builder().start().await;
    let summary =
        simulate(&relay, &["--count", "200", "--duplicates", "30", "--bad-signature", "20", "--shuffle"]).await;
    let count = |member: &str| summary[member].as_u64().unwrap();
    assert_eq!(count("sent"), count("accepted") + count("rejected"));
    assert!(count("duplicates") > 0 && count("rejected") > 0, "{summary}");
    let events = relay.events().await;
    let ids: BTreeSet<_> = events.iter().map(|event| text(event, "id")).collect();
    assert_eq!((ids.len(), events.len() as u64), (events.len(), count("accepted") - count("duplicates")));
    assert_eq!(relay.metric("duplicates_total", &[("kind", "same")]).await, count("duplicates") as i64);
    relay.shutdown().await;
}

#[tokio::test]
async fn the_daemon_notes_when_events_came_in_and_searches_by_time_find_the_same() {
    let relay = TestRelay::builder().start().await;
    simulate(&relay, &["--count", "4200"]).await;
    let note = relay.settings().inbox().with_extension("times");
    eventually("the note of arrival times", async || std::fs::metadata(&note)).await;
    assert_eq!(std::fs::metadata(&note).unwrap().permissions().mode() & 0o777, 0o600);
    let events = relay.events().await;
    let middle = text(&events[events.len() / 2], "received_at");
    let (newer, older): (Vec<_>, Vec<_>) = events.iter().partition(|event| text(event, "received_at") >= middle);
    for (option, expected) in [("--since", newer), ("--until", older)] {
        let found = relay.events_where(&[option, middle]).await;
        assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{option}");
    }
    relay.shutdown().await;
}

#[tokio::test]
async fn simulate_sends_the_named_types_only() {
    let relay = TestRelay::builder().start().await;
    simulate(&relay, &["payin.completed", "viban.failed"]).await;
    let events = relay.events().await;
    let types: BTreeSet<_> = events.iter().map(|event| text(event, "type")).collect();
    assert_eq!(types, BTreeSet::from(["payin.completed", "viban.failed"]));
    relay.shutdown().await;
}

#[tokio::test]
async fn sign_prints_what_serve_accepts() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("secret");
    for text_of_file in ["a secret", "a secret\n"] {
        std::fs::write(&file, text_of_file).unwrap();
        let output = run_in(directory.path(), &["sign", "--secret-file", "secret"], b"{\"a\": 1}\n").await.success();
        assert_eq!(
            output.stdout.trim_end(),
            signed::signature("a secret", b"{\"a\": 1}\n"),
            "an editor's newline is no secret"
        );
    }
    std::fs::write(&file, "\n").unwrap();
    let output = run_in(directory.path(), &["sign", "--secret-file", "secret"], b"x").await;
    assert!(output.code != Some(0) && output.stdout.is_empty(), "an empty secret signs nothing: {output:?}");
}

/// Results that nobody reads are no failure; results that cannot be written are one, and neither is a crash.
#[tokio::test]
async fn a_closed_or_full_output_is_told_apart() {
    let relay = TestRelay::builder().start().await;
    let (url, secret) = (relay.url(signed::PATH), relay.settings().directory().join("secret-test-0"));
    let secret = secret.to_str().unwrap();
    let simulate = ["simulate", "viban.failed", "--url", &url, "--secret-file", secret, "--insecure"];
    for args in [&["sign", "--secret-file", secret][..], &simulate] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        for (stdout, code, said) in [(Stdio::from(writer), 0, ""), (full.into(), 1, "cannot write the results")] {
            let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_ralio-relay"));
            command.args(args).stdin(Stdio::null()).stdout(stdout).stderr(Stdio::piped()).kill_on_drop(true);
            let ended = command.spawn().unwrap().wait_with_output().await.unwrap();
            let stderr = String::from_utf8(ended.stderr).unwrap();
            assert_eq!(ended.status.code(), Some(code), "{args:?}: {stderr}");
            assert!(stderr.contains(said) && !stderr.contains("panicked"), "{args:?}: {stderr}");
        }
    }
    relay.shutdown().await;
}

/// Five events over two sources.
async fn with_events() -> TestRelay {
    let relay = TestRelay::builder().source("a", "/a", &["s"], "").source("b", "/b", &["s"], "").start().await;
    let to_a = |delivery: Delivery| delivery.to("/a").signed_with("s");
    for delivery in [
        to_a(signed::payin_of("evt-1", "payin_processing", "order-1")),
        to_a(signed::payin_of("evt-2", "payin_completed", "order-1")),
        to_a(signed::transfer_completed("evt-3")),
        to_a(signed::kyc_session_verified("evt-4")),
        signed::payin_of("evt-5", "payin_failed", "order-5").to("/b").signed_with("s"),
    ] {
        assert_eq!(relay.post(&delivery).await, Ack::FRESH);
    }
    relay
}

#[tokio::test]
async fn events_list_narrows_by_every_filter() {
    let relay = with_events().await;
    let received: Vec<_> = relay.events().await.iter().map(|event| text(event, "received_at").to_owned()).collect();
    let cases: [(&[&str], &[&str]); 13] = [
        (&["--type", "payin.*"], &["evt-1", "evt-2", "evt-5"]),
        (&["--type", "payin.completed"], &["evt-2"]),
        (&["--type", "payin.*", "--type", "kyc.*"], &["evt-1", "evt-2", "evt-4", "evt-5"]),
        (&["--category", "kyc"], &["evt-4"]),
        (&["--source", "b"], &["evt-5"]),
        (&["--key", "order-1"], &["evt-1", "evt-2"]),
        (&["--id", "evt-3"], &["evt-3"]),
        (&["--state", "completed"], &["evt-2", "evt-3"]),
        (&["--search", "session-of-evt-4"], &["evt-4"]),
        (&["--since", &received[3]], &["evt-4", "evt-5"]),
        (&["--until", &received[1]], &["evt-1"]),
        (&["--since", "1h"], &["evt-1", "evt-2", "evt-3", "evt-4", "evt-5"]),
        (&["--type", "payin.*", "--source", "a", "--state", "PROCESSING"], &["evt-1"]),
    ];
    for (filters, expected) in cases {
        let events = relay.events_where(filters).await;
        assert_eq!(events.iter().map(|event| text(event, "id")).collect::<Vec<_>>(), expected, "{filters:?}");
    }
    let two = relay.cli(&["events", "list", "--limit", "2", "--format", "json"]).await.success().json();
    assert_eq!(two.len(), 2);
    relay.cli(&["events", "list", "--category", "nonsense"]).await.code(2);
    relay.cli(&["events", "list", "--since", "nonsense"]).await.code(2);
    relay.shutdown().await;
}

const LIST_FIELDS: [&str; 16] = [
    "admitted",
    "arrivals",
    "body_sha256",
    "category",
    "conflict",
    "digest_mismatch",
    "id",
    "key",
    "received_at",
    "seq",
    "size",
    "source",
    "stale",
    "state",
    "time",
    "type",
];

#[tokio::test]
async fn events_list_and_show_have_stable_fields_and_work_without_a_daemon() {
    let relay = with_events().await;
    let config = relay.settings().config_file();
    let events = relay.events().await;
    for event in &events {
        let missing: Vec<_> = LIST_FIELDS.iter().filter(|&&name| event.get(name).is_none()).collect();
        assert!(missing.is_empty(), "{missing:?} are not in {event}");
    }
    let table = relay.cli(&["events", "list"]).await.success().stdout;
    assert!(table.contains("evt-1") && table.contains("payin.completed"), "{table}");
    let _kept = relay.shutdown().await;

    let config = config.to_str().unwrap();
    let down = run(&["events", "list", "--format", "json", "--config", config]).await.success().json();
    assert_eq!(down.len(), events.len());
    for id in ["evt-1", "1"] {
        let shown = run(&["events", "show", id, "--format", "json", "--config", config]).await.success().json();
        for member in ["body", "signature", "attempts", "lifecycle"] {
            assert!(shown[0].get(member).is_some(), "{member} is not in {}", shown[0]);
        }
        assert_eq!(shown[0]["lifecycle"].as_array().unwrap().len(), 2, "both events of the order");
    }
    let missing = run(&["events", "show", "nobody", "--config", config]).await.code(1);
    assert!(missing.stdout.is_empty() && missing.stderr.contains("nobody"), "{missing:?}");
}

#[tokio::test]
async fn an_empty_list_is_a_success_and_says_that_it_is_empty() {
    let relay = TestRelay::builder().start().await;
    for noun in ["events", "quarantine", "deadletters", "parked", "replay"] {
        for format in ["table", "json"] {
            let listed = relay.cli(&[noun, "list", "--format", format]).await.success();
            assert!(listed.stdout.is_empty() && !listed.stderr.is_empty(), "{noun}: {listed:?}");
        }
    }
    relay.shutdown().await;
}

/// Root may look anywhere, so the place nobody can look into is below a file.
#[tokio::test]
async fn an_inbox_that_cannot_be_seen_is_not_said_to_be_absent() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("file"), "").unwrap();
    for (path, said) in [("nothing/inbox.db", "there is no inbox"), ("file/inbox.db", "could not be read")] {
        std::fs::write(directory.path().join("c.toml"), format!("inbox = {{ url = \"sqlite://{path}\" }}")).unwrap();
        let output = run_in(directory.path(), &["events", "list", "--config", "c.toml"], b"").await.code(1);
        assert!(output.stderr.contains(said), "{output:?}");
    }
}

#[tokio::test]
async fn events_tail_follows_the_log() {
    let relay = TestRelay::builder().start().await;
    let mut tail = Command::new(env!("CARGO_BIN_EXE_ralio-relay"));
    tail.args(["events", "tail", "--type", "payin.*", "--format", "json", "--config"])
        .arg(relay.settings().config_file());
    let mut tail = Process::spawn(&mut tail);
    let mut n = 0;
    // It follows from the moment that it looks, which cannot be seen from outside: so events keep coming.
    let line = eventually("a line for a new event", async || {
        n += 1;
        relay.post(&signed::transfer_completed(&format!("not-wanted-{n}"))).await;
        relay.post(&signed::payin_completed(&format!("wanted-{n}"))).await;
        tail.stdout.all().first().cloned().ok_or(tail.stderr.all())
    })
    .await;
    let line: Value = serde_json::from_str(&line).unwrap();
    assert!(text(&line, "id").starts_with("wanted-"), "{line}");
    tail.signal("INT");
    tail.end().await;
    relay.shutdown().await;
}

/// One of each kind of mistake.
const BROKEN: &str = r#"
[server]
listen = "nowhere"
max_bdy = "1MiB"
drain_timeout = "soon"
[server.tls]
cert = "missing.crt"
key = "missing.key"
[[sources]]
name = "a b"
path = "no-slash"
secrets = [{ file = "missing-secret" }]
[inbox]
url = "postgres://later"
[[sinks]]
name = "one"
type = "amqpp"
[[sinks]]
name = "two"
type = "file"
events = ["payin. *"]
file = { path = "x.jsonl" }
"#;

#[tokio::test]
async fn check_names_every_problem_at_once() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("broken.toml"), BROKEN).unwrap();
    let output = run_in(directory.path(), &["check", "--config", "broken.toml"], b"").await.code(2);
    let said = output.stdout + &output.stderr;
    for part in
        ["server.listen", "max_bdy", "max_body", "server.drain_timeout", "sources", "missing-secret", "amqpp", "amqp"]
    {
        assert!(said.contains(part), "`{part}` is not in:\n{said}");
    }
    assert!(said.matches("broken.toml").count() >= 5, "each with its file:\n{said}");
    let serve = run_in(directory.path(), &["serve", "--config", "broken.toml"], b"").await.code(2);
    assert!(serve.stderr.contains("max_bdy"), "{serve:?}");
}

#[tokio::test]
async fn check_is_silent_about_a_good_configuration_and_probes_on_demand() {
    let builder = TestRelay::with_file_sink("out");
    builder.write_config();
    let check =
        async |file: &Path, more: &[&str]| run(&[&["check", "--config", file.to_str().unwrap()], more].concat()).await;
    check(&builder.config_file(), &[]).await.success();
    check(&builder.config_file(), &["--probe"]).await.success();

    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let unreachable = format!("http = {{ url = \"http://{closed}/\" }}");
    let builder = builder.sink("gone", "http", &unreachable);
    builder.write_config();
    check(&builder.config_file(), &[]).await.success();
    let output = check(&builder.config_file(), &["--probe"]).await.code(1);
    assert!((output.stdout.clone() + &output.stderr).contains("gone"), "{output:?}");
}

#[tokio::test]
async fn config_show_names_origins_and_no_secrets() {
    let directory = tempfile::tempdir().unwrap();
    let builder = TestRelay::with_file_sink("out").server("max_body = \"64KiB\"");
    builder.write_config();
    let literal = "[[sources]]\nname = \"literal\"\npath = \"/l\"\nsecrets = [\"canary-literal\"]\n";
    let file = builder.config_file();
    std::fs::write(&file, std::fs::read_to_string(&file).unwrap() + literal).unwrap();
    for format in ["toml", "json"] {
        let args = ["config", "show", "--format", format, "--config", file.to_str().unwrap()];
        let output = run_in(directory.path(), &args, b"").await.success();
        let said = output.stdout.clone() + &output.stderr;
        assert!(!said.contains("canary"), "{said}");
        assert!(said.contains("relay.toml") && said.contains("default"), "{said}");
        if format == "json" {
            assert!(output.json().iter().all(Value::is_object));
        }
    }
}

const COMMANDS: [&str; 39] = [
    "serve",
    "check",
    "simulate",
    "sign",
    "events list",
    "events show",
    "events tail",
    "status",
    "sinks list",
    "sinks show",
    "sinks pause",
    "sinks resume",
    "sinks try",
    "sinks rename",
    "sinks forget",
    "parked list",
    "parked retry",
    "parked discard",
    "deadletters list",
    "deadletters show",
    "deadletters retry",
    "deadletters discard",
    "replay",
    "replay list",
    "replay show",
    "replay resume",
    "replay cancel",
    "quarantine list",
    "quarantine show",
    "quarantine admit",
    "quarantine purge",
    "record list",
    "record show",
    "prune",
    "backup",
    "health",
    "config show",
    "completions",
    "man",
];

#[tokio::test]
async fn every_command_has_help_with_an_example() {
    for command in COMMANDS {
        let args: Vec<_> = command.split(' ').chain(["--help"]).collect();
        let help = run(&args).await.success().stdout;
        assert!(help.contains("Example") && help.contains(&format!("ralio-relay {command}")), "{command}:\n{help}");
        let needs_none = ["sign", "simulate", "completions", "man"].contains(&command);
        assert!(needs_none || help.contains("--config"), "{command}:\n{help}");
    }
    for group in ["events", "sinks", "parked", "deadletters", "quarantine", "record", "config"] {
        let help = run(&[group, "--help"]).await.success().stdout;
        assert!(help.contains("Example") && help.contains(&format!("ralio-relay {group} ")), "{group}:\n{help}");
    }
    let overview = run(&["--help"]).await.success().stdout;
    assert!(overview.contains("Example") && overview.contains("ralio-relay serve --dev"), "{overview}");
    for command in COMMANDS {
        let first = command.split(' ').next().unwrap();
        assert!(overview.contains(first), "{first}:\n{overview}");
    }
}

#[tokio::test]
async fn bad_usage_exits_with_2() {
    let directory = tempfile::tempdir().unwrap();
    let cases: [&[&str]; 14] = [
        &[],
        &["frobnicate"],
        &["serve", "--frobnicate"],
        &["events", "list", "--config", "missing.toml"],
        &["events", "list", "--format", "xml"],
        &["deadletters", "retry"],
        &["deadletters", "discard", "1"],
        &["deadletters", "retry", "--all", "--sink", "x"],
        &["parked", "retry"],
        &["parked", "discard", "1"],
        &["parked", "retry", "--all", "--sink", "x"],
        &["sinks", "forget", "bus"],
        &["quarantine", "purge"],
        &["replay", "--sink", "x"],
    ];
    for args in cases {
        let output = run_in(directory.path(), args, b"").await.code(2);
        assert!(output.stdout.is_empty(), "{args:?}: results alone go to stdout");
        assert!(!output.stderr.is_empty(), "{args:?}");
    }
    assert!(run(&["--version"]).await.success().stdout.contains(env!("CARGO_PKG_VERSION")));
}
