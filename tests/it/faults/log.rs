//! Standard error that is full, closed or stuck, and a log that would feed itself.

use std::time::{Duration, Instant};

use crate::harness::load::Load;
use crate::harness::process::{kill9, signal};
use crate::harness::{Builder, Campaign, DEADLINE, TestRelay, eventually, lines, signed};

/// Starts the relay with a reader at its standard error, a child of its own.
const READER: [&str; 4] = ["bash", "-c", r#"exec "$@" 2> >(exec cat >&2)"#, "bash"];

#[tokio::test]
async fn a_log_that_nobody_reads_holds_up_nothing() {
    blocked(Campaign::brief("log blocked", 1), Duration::from_secs(2)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a part of tests/campaign"]
async fn campaign_log_blocked() {
    blocked(Campaign::whole("log blocked, then its reader killed, under load", 5), Duration::from_secs(20)).await;
}

fn noisy() -> Builder {
    TestRelay::with_file_sink("out").env("RALIO_RELAY__LOG__LEVEL", "trace").wrapped(&READER)
}

/// The reader stops reading, goes on, and is killed: all the time deliveries are answered and delivered, and what is missing
/// in the log is counted.
async fn blocked(mut campaign: Campaign, length: Duration) {
    while campaign.round().is_some() {
        let mut relay = noisy().start().await;
        let reader = relay.process().children();
        let [reader] = reader[..] else { panic!("one reader, not {reader:?}") };
        signal(reader, "STOP");
        let mut accepted = until_lines_are_dropped(&mut campaign, &relay, length).await;
        signal(reader, "CONT");
        eventually("a line about those that are missing", async || {
            let lines = relay.log();
            lines.iter().any(|line| line.contains("log lines were dropped")).then_some(()).ok_or(lines.len())
        })
        .await;

        kill9(reader);
        accepted += until_lines_are_dropped(&mut campaign, &relay, length).await;
        relay.settled().await;
        assert_eq!(relay.lines("out").len() as u64, accepted);
        campaign.count("answered 200", accepted);
        relay.shutdown().await;
    }
}

/// Sends, for so long and until the log is full: everything is answered 200.
async fn until_lines_are_dropped(campaign: &mut Campaign, relay: &TestRelay, length: Duration) -> u64 {
    let before = relay.metric("log_lines_dropped_total", &[]).await;
    let began = Instant::now();
    let mut accepted = 0;
    loop {
        let outcome = Load::on(relay, 8, length, None).run().await;
        assert!(outcome.refused.is_empty(), "{:?}", outcome.refused);
        accepted += outcome.accepted;
        campaign.highest("slowest answer, ms", outcome.latencies.at(1.0).ceil() as u64);
        let dropped = relay.metric("log_lines_dropped_total", &[]).await - before;
        if dropped > 0 {
            campaign.count("lines dropped and counted", dropped as u64);
            return accepted;
        }
        assert!(began.elapsed() < length + DEADLINE, "no line was dropped");
    }
}

/// Not one line can be written, from the first on.
#[tokio::test]
async fn a_full_standard_error_ends_nothing() {
    let ports = [(); 2].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let [public, admin] = ports.map(|port| port.local_addr().unwrap().to_string());
    let relay = TestRelay::with_file_sink("out")
        .plaintext()
        .env("RALIO_RELAY__SERVER__LISTEN", &public)
        .env("RALIO_RELAY__ADMIN__LISTEN", &admin)
        .wrapped(&["sh", "-c", r#"exec "$@" 2>/dev/full"#, "sh"]);
    let mut process = relay.spawn();
    let delivery = signed::payin_completed("evt-1");
    let client = reqwest::Client::builder().timeout(DEADLINE).build().unwrap();
    let answer = eventually("an answer", async || {
        assert_eq!(process.ended(), None);
        let request = client.post(format!("http://{public}{}", delivery.path)).body(delivery.body.clone());
        let request = delivery.headers.iter().fold(request, |request, (name, value)| request.header(name, value));
        let answer = request.send().await.map_err(|error| error.to_string())?;
        if answer.status() == 200 { Ok(answer) } else { Err(answer.status().to_string()) }
    });
    assert!(answer.await.text().await.unwrap().contains("evt-1"));
    eventually("the delivery", async || match lines(&relay.sink_file("out")).len() {
        1 => Ok(()),
        other => Err(other),
    })
    .await;
    process.signal("TERM");
    assert_eq!(process.end().await.code(), Some(0));
}

/// Each line is a change in a directory that is watched for the secret.
#[tokio::test]
async fn a_log_in_a_watched_directory_does_not_feed_itself() {
    let builder = TestRelay::with_file_sink("out").env("RALIO_RELAY__LOG__LEVEL", "trace");
    let relay = builder.wrapped(&["bash", "-c", r#"exec "$@" 2> >(exec tee ./relay.log >&2)"#, "bash"]).start().await;
    relay.post(&signed::payin_completed("evt-1")).await;
    relay.settled().await;
    let log = relay.settings().directory().join("relay.log");
    assert!(std::fs::read_to_string(log).unwrap().contains("listening"), "the log is in the directory of the token");
    let about_itself = relay.log().into_iter().find(|line| line.contains("inotify event"));
    assert_eq!(about_itself, None);
    relay.shutdown().await;
}

/// What it says is lost; its exit code is not.
#[test]
fn a_command_whose_standard_error_is_full_ends_as_it_would() {
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let ends_with = |args: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_ralio-relay"));
        command.args(args).stderr(full()).output().unwrap().status.code()
    };
    assert_eq!(ends_with(&["sinks", "list", "--config", "/nowhere/relay.toml"]), Some(2));
    assert_eq!(ends_with(&["deadletters", "retry"]), Some(2));
}
