//! A failed fsync: nothing that was waiting for it is acknowledged, and nothing is built upon it.

use std::path::Path;
use std::process::Command;

use fastrand::Rng;

use super::sender::Sender;
use super::trace::{is_complete, read, traced_to};
use crate::harness::fake_http::FakeHttp;
use crate::harness::faults::{inject, integrity, traced};
use crate::harness::process::Process;
use crate::harness::{Ack, Builder, Campaign, TestRelay, signed};

#[tokio::test]
async fn after_a_failed_fsync_there_is_no_200_and_soon_no_relay() {
    fails(Campaign::brief("fdatasync fails with EIO at the Nth call", 3), |rng, _| rng.u64(1..=50)).await;
}

#[tokio::test]
#[ignore = "a part of tests/campaign"]
async fn campaign_fsync_fails() {
    fails(Campaign::whole("fdatasync fails with EIO at the Nth call", 50), |_, round| round).await;
}

/// The Nth call of the thread that gets to N first; only this one fails.
async fn fails(mut campaign: Campaign, nth: impl Fn(&mut Rng, u64) -> u64) {
    while let Some(mut rng) = campaign.round() {
        let nth = nth(&mut rng, campaign.number());
        let app = FakeHttp::answering([200]).await;
        // A file sink may fail, and goes on: here every fdatasync is the inbox's.
        let settings = TestRelay::with_sink("app", &app).plaintext();
        let sender = Sender::new(&mut rng);
        let Some(failed) = failing_life(&settings, &sender, nth).await else { return };
        assert_eq!(failed.then_200, 0, "200s after the {nth}. fdatasync failed");
        assert!(failed.exit <= 1.0, "the process ended {} s after the {nth}. fdatasync had failed", failed.exit);
        campaign.count("failed fsyncs", 1);
        campaign.count("200s after one", failed.then_200);
        campaign.highest("ms until the exit, at most", (failed.exit * 1000.0) as u64);

        let left = std::fs::metadata(settings.inbox().with_extension("db-wal")).map_or(0, |log| log.len());
        // Every other time somebody reads the inbox before the next start, and goes on. The log's index is made then.
        let reader = (campaign.number().is_multiple_of(2) && left > 0).then(|| {
            let reader = rusqlite::Connection::open(settings.inbox()).unwrap();
            reader.execute_batch("BEGIN; SELECT count(*) FROM sqlite_schema").unwrap();
            reader
        });
        let relay = recovering_life(&settings, left > 0, reader.is_some()).await;
        campaign.count("of them beside a reader", u64::from(reader.is_some()));
        drop(reader);
        campaign.count("logs made durable before listening", u64::from(left > 0));
        campaign.count("acknowledged", sender.acknowledged());
        sender.verify(relay, Some(&app)).await;
        campaign.count("lost", 0);
    }
}

struct Failed {
    /// Answers with 200 after the failure, but for what an fsync before it had made durable: whoever writes the answer may
    /// have been slower than the next commit.
    then_200: u64,
    /// Seconds from the failure to the process's end.
    exit: f64,
}

/// Requests one after the other, so that each commit is for one; from the start to the end that the failure brings.
async fn failing_life(settings: &Builder, sender: &Sender, nth: u64) -> Option<Failed> {
    let trace = settings.directory().join("failing");
    let inject = format!("inject=fdatasync:error=EIO:when={nth}");
    let words = traced_to(&trace, "pwrite64,fdatasync,write,writev,sendto,sendmsg", &["-e", &inject])?;
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let (pid, status) = match settings.clone().wrapped(&words).try_start().await {
        Ok(mut relay) => {
            sender.run(&relay, 1, 1000).await;
            (relay.process().pid(), relay.process().end().await)
        }
        Err(mut process) => (process.pid(), process.end().await),
    };
    assert!(status.code().is_some_and(|code| code != 0), "{status}");
    is_complete(&trace, pid).await;
    let (mut failed, mut failure) = (None, Failed { then_200: 0, exit: 0.0 });
    let (mut written, mut synced) = (String::new(), String::new());
    read(&trace, |step| match (step.call, step.ended, failed) {
        ("pwrite64", None, None) if step.file.ends_with("-wal") => written.push_str(step.text),
        ("fdatasync", Some(true), None) if step.file.ends_with("-wal") => {
            synced.push_str(&std::mem::take(&mut written))
        }
        // The directory's has a test of its own.
        ("fdatasync", Some(false), None) if step.file.contains("inbox.db") => failed = Some(step.at),
        ("write" | "writev" | "sendto" | "sendmsg", None, Some(_)) => {
            let id = step.text.split_once(r#"\"received\":true,\"id\":\""#).and_then(|(_, rest)| rest.split_once('\\'));
            failure.then_200 += u64::from(id.is_some_and(|(id, _)| !synced.contains(id)));
        }
        ("exit", _, Some(at)) => failure.exit = step.at - at,
        _ => {}
    });
    assert!(failed.is_some(), "the {nth}. fdatasync never came");
    Some(failure)
}

/// The next start; with a log that holds something, it must be written back, synced and emptied before the public
/// listener begins. Beside a reader the log itself is written anew and synced.
async fn recovering_life(settings: &Builder, has_log: bool, has_reader: bool) -> TestRelay {
    let trace = settings.directory().join("recovering");
    let words = traced_to(&trace, "pwrite64,fdatasync,ftruncate,listen", &[]).unwrap();
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let relay = settings.clone().wrapped(&words).start().await;
    let public = relay.url("");
    let public = format!("TCP:[{}]", public.trim_start_matches("http://"));
    let (mut steps, mut listened) = (Vec::new(), false);
    read(&trace, |step| match (step.call, step.ended) {
        ("listen", None) => listened |= step.file == public,
        (call @ ("pwrite64" | "fdatasync" | "ftruncate"), Some(true)) if !listened => {
            let file = Path::new(step.file).extension().unwrap_or_default().to_string_lossy();
            steps.push(format!("{call} {file}"));
        }
        _ => {}
    });
    assert!(listened, "the trace holds the public listener's start");
    let mut steps = steps.iter();
    let with_reader = ["pwrite64 db-wal", "fdatasync db-wal"];
    let alone = ["pwrite64 db", "fdatasync db", "ftruncate db-wal"];
    for step in if has_reader { &with_reader[..] } else { &alone } {
        assert!(!has_log || steps.any(|done| done == *step), "not done before listening, or not in this order: {step}");
    }
    relay
}

/// A log whose name is not on disk is no log after a power cut. SQLite itself ignores that its directory cannot be synced.
#[tokio::test]
async fn a_relay_does_not_start_in_a_directory_that_cannot_be_synced() {
    let settings = TestRelay::builder();
    let inbox = settings.inbox();
    let directory = inbox.parent().unwrap().to_str().unwrap();
    std::fs::create_dir(directory).unwrap();
    // The first sync of each kind is before there is a log.
    let options = ["-o", "/dev/null", "-P", directory, "-e", "trace=fsync,fdatasync", "-e"];
    let Some(words) = traced(&[&options[..], &["inject=fsync,fdatasync:error=EIO:when=2+"]].concat()) else { return };
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let Err(mut process) = settings.wrapped(&words).try_start().await else { panic!("it started") };
    assert_eq!(process.end().await.code(), Some(1));
}

/// Nor does a command that has the inbox go on after one.
#[tokio::test]
async fn after_a_failed_fsync_a_replay_without_a_daemon_ends() {
    let app = FakeHttp::answering([200]).await;
    let relay = TestRelay::with_sink("app", &app).start().await;
    for n in 0..50 {
        assert_eq!(relay.post(&signed::payin_completed(&format!("evt-{n}"))).await, Ack::FRESH);
    }
    relay.settled().await;
    let settings = relay.shutdown().await;
    let mut command = Command::new(env!("CARGO_BIN_EXE_ralio-relay"));
    command.args(["replay", "--sink", "app", "--reason", "a test", "--rate", "5", "--yes", "--config"]);
    let mut replay = Process::spawn(command.arg(settings.config_file()).current_dir(settings.directory()));
    app.requests_reach(51).await;
    let Some(_failing) = inject(replay.pid(), "error=EIO").await else { return };
    assert_eq!(replay.end().await.code(), Some(1));
    let said = replay.stderr.all().join("\n");
    assert!(said.contains("the inbox failed"), "{said}");
    integrity(settings.inbox().as_path());
}
