//! Text that would forge a line of the log or steer a terminal: wherever it comes from, it arrives as text.

use serde_json::{Value, json};

use crate::harness::fake_http::{Answer, FakeHttp};
use crate::harness::raw::{Raw, head};
use crate::harness::{Ack, Builder, Delivery, TestRelay, eventually, signed};

/// Clears a screen, sets a title, turns the writing round, and begins lines that look like ours.
const STEERING: &str = "\u{1b}[2J\u{1b}]0;owned\u{7}\u{9b}31m\u{202e}\r\n{\"level\":\"ERROR\",\"message\":\"FORGED\"}\n\
                        2026-01-01T00:00:00.000000Z ERROR ralio_relay: FORGED\u{2028}\u{8}\u{7f}";

/// A command that says it, too.
fn relay() -> Builder {
    let script = "cat >/dev/null; printf '\\033[2J\\302\\2331m\\r\\nFORGED\\nERROR FORGED\\177' >&2; exit 1";
    let exec = json!(["/bin/sh", "-c", script]);
    let exec = format!("[sinks.exec]\ncommand = {exec}\nenv_allow = [\"PATH\"]\non_failure = \"dead_letter\"");
    TestRelay::builder().sink("script", "exec", &exec).expect_errors()
}

/// Sends it in every place that a sender can fill, and waits for what is said of it.
async fn provoke(relay: &TestRelay) {
    let data = json!({"orderId": STEERING, "status": STEERING, STEERING: STEERING});
    let hidden = format!("evt \u{202e}\u{2066}\u{ad}\u{e0041}\u{3164}{}", "\u{200b}");
    let events = [
        Delivery::current(STEERING, STEERING, data.clone()),
        Delivery::current(&hidden, "payin_completed", json!({"orderId": "order \u{202e}\u{feff}"})),
        Delivery::current(&hidden, "payin_completed", json!({"orderId": hidden, "state": STEERING})),
        Delivery::of(format!("{STEERING} is not JSON")),
        signed::payin_completed("evt-1")
            .with_header("user-agent", "a\u{9b}31m\u{202e}b")
            .with_header("content-type", "\u{9b}"),
    ];
    for event in &events {
        let sent = relay.send(event).await.unwrap();
        assert_eq!(sent.status(), 200, "{event:?}");
    }
    let forged = Delivery::current(STEERING, STEERING, data).signed_with("a guess");
    assert_eq!(relay.send(&forged.with_header("user-agent", "\u{9b}2J")).await.unwrap().status(), 401);
    for (path, status) in [("/%1b%5b31m%0d%0aFORGED%0a", "HTTP/1.1 503"), ("/\u{9b}31m\u{202e}", "")] {
        let misdirected = signed::payin_completed("evt-2").to(path);
        let length = format!("Content-Length: {}\r\n", misdirected.body.len());
        let request = [head(&misdirected, &length).as_bytes(), &misdirected.body].concat();
        let answer = Raw::connect(relay).await.exchange(&request).await;
        assert_eq!(answer.get(..12).unwrap_or_default(), status, "{path:?}");
    }
    relay.settled().await;
    eventually("the request in quarantine", async || match relay.quarantine().await.len() {
        1 => Ok(()),
        other => Err(other),
    })
    .await;
}

fn is_plain(text: &str) -> bool {
    !text.chars().any(char::is_control)
}

#[tokio::test]
async fn one_line_of_the_log_is_one_json_object() {
    let relay = relay().env("RALIO_RELAY__LOG__LEVEL", "debug").start().await;
    provoke(&relay).await;
    let log = relay.log();
    for line in &log {
        let read: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        assert!(read["level"].is_string() && read["timestamp"].is_string() && read["target"].is_string(), "{line}");
        assert_ne!(read["message"], "FORGED", "{line}");
        assert!(line.bytes().all(|byte| byte >= b' '), "{line:?}");
    }
    assert!(log.iter().any(|line| line.contains("FORGED")), "what the command says is told: {log:#?}");
    relay.shutdown().await;
}

#[tokio::test]
async fn a_log_for_people_is_plain_text() {
    let relay = relay().env("RALIO_RELAY__LOG__FORMAT", "text").env("RALIO_RELAY__LOG__LEVEL", "debug").start().await;
    provoke(&relay).await;
    let log = relay.log();
    for line in &log {
        assert!(is_plain(line), "{line:?}");
        let level = line.split_whitespace().nth(1).unwrap_or_default();
        let is_ours = line.get(..2) == Some("20") && ["ERROR", "WARN", "INFO", "DEBUG"].contains(&level);
        assert!(is_ours && !line.contains("ralio_relay: FORGED"), "{line:?}");
    }
    assert!(log.iter().any(|line| line.contains("FORGED")), "what the command says is told: {log:#?}");
    relay.shutdown().await;
}

#[tokio::test]
async fn nothing_that_commands_print_steers_a_terminal() {
    let app = FakeHttp::answering([Answer::Saying(422, STEERING.to_owned())]).await;
    let relay = relay().http_sink("app", &app, "").start().await;
    provoke(&relay).await;
    relay.cli(&["replay", "--sink", "script", "--reason", "why \u{202e}", "--yes"]).await.code(1);
    let mut commands: Vec<Vec<String>> = Vec::new();
    for list in [
        &["events", "list"][..],
        &["quarantine", "list"],
        &["deadletters", "list"],
        &["sinks", "list"],
        &["replay", "list"],
        &["events", "tail", "--follow=false"],
        &["events", "list", "--sink", "app", "--undelivered", "--oldest-first", "--limit", "0"],
    ] {
        let list: Vec<String> = list.iter().map(|&word| word.to_owned()).collect();
        // Programs read JSON, and people look at it.
        commands.push([&list[..], &["--format".to_owned(), "json".to_owned()]].concat());
        commands.push(list);
    }
    for seq in 1..=5 {
        let show = vec!["events".to_owned(), "show".to_owned(), seq.to_string()];
        commands.push([&show[..], &["--format".to_owned(), "json".to_owned()]].concat());
        commands.push(show);
    }
    for (noun, id) in [("quarantine", 1), ("deadletters", 1), ("deadletters", 2), ("replay", 1)] {
        commands.push(vec![noun.to_owned(), "show".to_owned(), id.to_string()]);
    }
    // What is not there is named in the answer.
    commands.push(vec!["events".to_owned(), "show".to_owned(), STEERING.to_owned()]);
    for option in ["--source", "--type", "--since", "--id", "--category", "--nonsense"] {
        let list = ["events", "list", option, STEERING];
        commands.push(list.map(str::to_owned).to_vec());
    }
    let hidden = |c: char| {
        matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
            | '\u{feff}' | '\u{e0000}'..='\u{e0fff}')
    };
    for command in &commands {
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        let output = relay.cli(&words).await;
        for (place, text) in [("stdout", &output.stdout), ("stderr", &output.stderr)] {
            assert!(text.lines().all(is_plain), "{words:?}, {place}: {text:?}");
            assert!(!text.contains(hidden), "{words:?}, {place}: {text:?}");
        }
        assert!(output.code == Some(0) || words.contains(&STEERING), "{words:?}: {output:?}");
        assert!(
            !output.stdout.is_empty() || words.contains(&STEERING) || words.contains(&"--undelivered"),
            "{words:?}"
        );
    }
    let _: Ack = relay.post(&signed::payin_completed("evt-3")).await;
    relay.settled().await;
    relay.shutdown().await;
}
