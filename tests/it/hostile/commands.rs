//! Payloads that want to be run, handed to a command: none is, and the command's environment holds them as text.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde_json::{Value, json};

use crate::harness::{Builder, Campaign, Delivery, TestRelay, eventually, skip, skip_for_good, text};

/// Payloads of one round.
const ROUND: usize = 50;

/// Everything that a command finds in its environment.
const ALLOWED: [&str; 11] = [
    "CE_DATACONTENTTYPE",
    "CE_ID",
    "CE_RALIOCATEGORY",
    "CE_RALIORECEIVED",
    "CE_RALIOSEQ",
    "CE_RALIOSTALE",
    "CE_SOURCE",
    "CE_SPECVERSION",
    "CE_SUBJECT",
    "CE_TYPE",
    "PATH",
];

#[tokio::test]
async fn hostile_payloads_start_no_process() {
    payloads(Campaign::brief("hostile payloads to a command, 50 a round", 1)).await;
}

#[tokio::test]
#[ignore = "a part of tests/campaign"]
async fn campaign_payloads() {
    payloads(Campaign::whole("hostile payloads to a command, 50 a round", 20)).await;
}

/// Text that a shell, a loader or a careless script would act on; `canary` is a file that must not come to be.
fn payload(canary: &str, rng: &mut fastrand::Rng) -> String {
    let touch = format!("touch {canary}");
    let forms = [
        format!("$({touch})"),
        format!("`{touch}`"),
        format!("; {touch} ;"),
        format!("| {touch}"),
        format!("&& {touch} &"),
        format!("\n{touch}\n"),
        format!("\r\n{touch}\r\n"),
        format!("'; {touch}; '"),
        format!("\"; {touch}; \""),
        format!("() {{ :; }}; {touch}"),
        format!("${{IFS}}{}", touch.replace(' ', "${IFS}")),
        format!("> {canary}"),
        format!("<(touch {canary})"),
        format!("!{touch}"),
        format!("x\0{touch}"),
        format!("--version\n{touch}"),
        "LD_PRELOAD=/tmp/evil.so".to_owned(),
        "x\nPATH=/tmp\nBASH_ENV=/tmp/evil".to_owned(),
        "\u{1b}[2J\u{9b}31m\u{202e}\u{2028}\u{feff}".to_owned(),
        "../../../../etc/passwd\0.json".to_owned(),
        "%s%n%x{0}{{7*7}}".to_owned(),
        "a".repeat(rng.usize(1..100_000)),
        "\\".repeat(rng.usize(1..300)),
    ];
    let one = &forms[rng.usize(..forms.len())];
    if rng.bool() { format!("{one}{}", forms[rng.usize(..forms.len())]) } else { one.clone() }
}

/// An event that is hostile wherever the sender may choose.
fn hostile(n: usize, canary: &str, rng: &mut fastrand::Rng) -> Delivery {
    let mut text = || payload(canary, rng);
    // Mostly ids and keys that could be used as such; what cannot is the body's affair.
    let short = |text: String| text.chars().take(150).collect::<String>();
    let (id, key, event_type) = (short(text()), text(), text());
    let id = json!(format!("{n} {id}"));
    let body = json!({
        "eventId": id,
        "eventType": if n.is_multiple_of(2) { short(event_type) } else { format!("payin.{}", event_type.replace([' ', '\n'], "")) },
        "timestamp": text(),
        "data": {"orderId": short(key), "status": text(), text(): text()},
    });
    Delivery::of(body.to_string()).with_header("user-agent", "() { :; }; touch x")
}

/// A relay whose sink keeps what each command is started with, under the event's number.
fn relay() -> Builder {
    let script =
        "cat /proc/$$/environ >env.$CE_RALIOSEQ && cat >body.$CE_RALIOSEQ && mv body.$CE_RALIOSEQ done.$CE_RALIOSEQ";
    let builder = TestRelay::builder();
    let work = builder.directory().join("work");
    fs::create_dir(&work).unwrap();
    let exec = format!("command = {}\nenv_allow = [\"PATH\"]\ndirectory = {work:?}", json!(["/bin/sh", "-c", script]));
    builder
        .sink("script", "exec", &format!("ordering = \"none\"\n[sinks.exec]\n{exec}"))
        .env("SECRET", "not for commands")
}

async fn payloads(mut campaign: Campaign) {
    while let Some(mut rng) = campaign.round() {
        let relay = relay().start().await;
        let work = relay.settings().directory().join("work");
        let canary = relay.settings().directory().join("CANARY").display().to_string();
        for n in 0..ROUND {
            assert_eq!(relay.send(&hostile(n, &canary, &mut rng)).await.unwrap().status(), 200);
        }
        relay.settled().await;
        assert!(!fs::exists(&canary).unwrap());
        let events = relay.events().await;
        assert_eq!(events.len(), ROUND);
        let files = |start: &str| (1..=ROUND).map(|seq| format!("{start}.{seq}")).collect::<Vec<_>>();
        let expected: BTreeSet<_> = files("env").into_iter().chain(files("done")).collect();
        let left = fs::read_dir(&work).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        assert_eq!(left.collect::<BTreeSet<_>>(), expected, "nothing else was written");
        for event in &events {
            let seq = &event["seq"];
            let environment = fs::read(work.join(format!("env.{seq}"))).unwrap();
            of_this_event(&String::from_utf8(environment).unwrap(), event);
            let attempts = relay.event(&seq.to_string()).await;
            assert_eq!(attempts["attempts"].as_array().unwrap().len(), 1, "one command for each event");
        }
        campaign.count("payloads", ROUND as u64);
        campaign.count("processes not meant", 0);
        relay.shutdown().await;
    }
}

/// The environment is the allow-list, name by name, and holds what the event says. These bodies give no time.
fn of_this_event(environment: &str, event: &Value) {
    let variables: Vec<(&str, &str)> = environment.split_terminator('\0').map(|v| v.split_once('=').unwrap()).collect();
    let names: BTreeMap<&str, &str> = variables.iter().copied().collect();
    assert_eq!(names.len(), variables.len(), "each once: {variables:?}");
    assert_eq!(names.keys().copied().collect::<Vec<_>>(), ALLOWED);
    for (name, member) in [("CE_ID", "id"), ("CE_TYPE", "type"), ("CE_SUBJECT", "key")] {
        assert_eq!(names[name], text(event, member));
    }
    assert_eq!(names["CE_SOURCE"], "/ralio/test");
    assert!(!environment.contains("not for commands"));
}

/// Of every program that is started, the tracer writes a line: so many commands, and nothing besides.
#[tokio::test]
async fn only_the_command_is_started() {
    if std::process::Command::new("strace").arg("-V").output().is_err() {
        return skip("strace");
    }
    let traced = std::process::Command::new("strace").args(["-qq", "-e", "trace=none", "true"]).status().unwrap();
    if !traced.success() {
        return skip_for_good("the right to trace a process");
    }
    let builder = relay();
    let trace = builder.directory().join("trace");
    let options = ["strace", "-D", "-f", "-qq", "-s", "300", "-e", "trace=execve", "-e", "signal=none", "-o"];
    let relay = builder.wrapped(&[&options[..], &[trace.to_str().unwrap()]].concat()).start().await;
    let mut rng = fastrand::Rng::with_seed(17);
    for n in 0..10 {
        let sent = relay.send(&hostile(n, "/no/such/place", &mut rng)).await;
        assert_eq!(sent.unwrap().status(), 200);
    }
    relay.settled().await;
    let _settings = relay.shutdown().await;
    let started = eventually("the end of the trace", async || {
        let lines = fs::read_to_string(&trace).unwrap();
        let started: Vec<String> = lines
            .lines()
            .filter_map(|line| Some(line.split_once("execve(\"")?.1.split_once('"')?.0.to_owned()))
            .collect();
        // The relay itself, and a shell, two of `cat` and one of `mv` for each.
        if started.len() >= 41 { Ok(started) } else { Err(lines) }
    })
    .await;
    let count = |name: &str| started.iter().filter(|path| path.rsplit('/').next() == Some(name)).count();
    assert_eq!((count("ralio-relay"), count("sh"), count("cat"), count("mv")), (1, 10, 20, 10), "{started:#?}");
    assert_eq!(started.len(), 41, "{started:#?}");
}
