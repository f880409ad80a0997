//! The exec sink as the daemon runs it: what a command inherits, what is kept of it, and that none is left over.

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::harness::process::is_running;
use crate::harness::{Builder, TestRelay, eventually, signed, text};

/// A relay whose only sink runs a shell script in the relay's directory.
fn with_script(script: &str, sink: &str, exec: &str) -> Builder {
    let builder = TestRelay::builder();
    let directory = builder.directory().to_owned();
    let command = json!(["/bin/sh", "-c", script]);
    let exec = format!("command = {command}\nenv_allow = [\"PATH\"]\ndirectory = {directory:?}\n{exec}");
    builder.sink("script", "exec", &format!("{sink}\n[sinks.exec]\n{exec}"))
}

async fn appears(file: &Path) -> String {
    eventually("a file with text", async || match fs::read_to_string(file) {
        Ok(text) if text.ends_with('\n') => Ok(text),
        other => Err(other),
    })
    .await
}

/// Number and target of what `ls -l` lists.
fn descriptors(listing: &str) -> Vec<(String, String)> {
    let links = listing.lines().filter_map(|line| line.split_once(" -> "));
    links.map(|(link, target)| (link.rsplit(' ').next().unwrap().to_owned(), target.to_owned())).collect()
}

/// Its three streams, its attributes and what was allowed: nothing else of the daemon.
#[tokio::test]
async fn a_command_inherits_nothing() {
    let script =
        "env >env; test $CE_ID = evt-1 && exec ls -l /proc/self/fd >fds; exec grep ^Sig /proc/self/status >signals";
    // Nor what whoever has started the daemon has left open.
    let relay = with_script(script, "", "").env("CANARY_SECRET", "canary-1f7c");
    let relay = relay.wrapped(&["sh", "-c", "exec 9</dev/null; exec \"$@\"", "sh"]).start().await;
    let directory = relay.settings().directory().to_owned();
    for id in ["evt-1", "evt-2"] {
        relay.post(&signed::payin_completed(id)).await;
        relay.settled().await;
    }

    // Whatever started the tests may have handed something down to everybody.
    let everybody = |program: &str, args: &[&str]| {
        let output = std::process::Command::new(program).args(args).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let theirs = descriptors(&everybody("ls", &["-l", "/proc/self/fd"]));
    let mut fds = descriptors(&fs::read_to_string(directory.join("fds")).unwrap());
    assert!(fds.len() >= 3, "{fds:?}");
    fds.retain(|(number, _)| !theirs.iter().any(|(same, _)| same == number));
    assert!(fds.is_empty(), "of the daemon: {fds:?}");
    let signals = |text: &str, kind: &str| {
        let line = text.lines().find(|line| line.starts_with(kind)).unwrap().to_owned();
        u64::from_str_radix(line.rsplit('\t').next().unwrap(), 16).unwrap()
    };
    let ours = fs::read_to_string(directory.join("signals")).unwrap();
    let theirs = everybody("grep", &["^Sig", "/proc/self/status"]);
    assert_eq!(signals(&ours, "SigBlk:"), 0, "{ours}");
    assert_eq!(signals(&ours, "SigIgn:") & !signals(&theirs, "SigIgn:"), 0, "{ours}{theirs}");
    let env = fs::read_to_string(directory.join("env")).unwrap();
    assert!(env.contains("CE_ID=evt-2") && !env.contains("canary-1f7c"), "{env}");
    relay.shutdown().await;
}

/// The end of what a command says is with its attempt, and only the beginning of that in the log.
#[tokio::test]
async fn the_ledger_keeps_what_a_command_says() {
    let script = "cat >/dev/null; test $CE_ID = evt-2 && echo stored as 17 && exit; \
                  yes 'line of a trace' | head -c 100000 >&2; echo the cause >&2; exit 3";
    let relay = with_script(script, "", "on_failure = \"dead_letter\"\nmax_output = \"4KiB\"");
    let relay = relay.expect_errors().start().await;
    relay.post(&signed::payin_completed("evt-1")).await;
    relay.post(&signed::payin_completed("evt-2")).await;
    relay.settled().await;

    let failed = relay.event("evt-1").await;
    let note = text(&failed["attempts"][0], "note");
    assert!(note.starts_with("exit 3: ...") && note.ends_with("line of a trace the cause"), "{note}");
    assert!((4000..=4608).contains(&note.len()), "{}", note.len());
    let delivered = relay.event("evt-2").await;
    assert_eq!(text(&delivered["attempts"][0], "note"), "exit 0: stored as 17");
    let table = relay.cli(&["events", "show", "evt-1"]).await.success();
    assert!(table.stdout.contains("the cause"), "{}", table.stdout);
    relay.shutdown().await;
}

/// At the timeout the command and what it has started are killed, and nobody stays as a zombie.
#[tokio::test]
async fn a_timeout_ends_the_whole_group_and_leaves_no_zombie() {
    let script = "test -e pids && exit 0; sleep 600 & (sleep 600 & echo $! >grandchild; wait) & \
                  until test -s grandchild; do :; done; echo $! $$ $(cat grandchild) >pids; wait";
    let relay = with_script(script, "timeout = \"2s\"", "").start().await;
    let directory = relay.settings().directory().to_owned();
    relay.post(&signed::payin_completed("evt-1")).await;
    let pids = appears(&directory.join("pids")).await;
    let pids: Vec<u32> = pids.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
    assert_eq!(pids.len(), 3);
    eventually("the end of the group", async || {
        let left: Vec<_> = pids.iter().filter(|&&pid| is_running(pid)).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
    relay.settled().await;
    let shown = relay.event("evt-1").await;
    assert!(text(&shown["attempts"][0], "note").contains("no answer within 2s"), "{}", shown["attempts"]);
    let mut relay = relay;
    eventually("no child left, not even as a zombie", async || match relay.process().children() {
        none if none.is_empty() => Ok(()),
        left => Err(left),
    })
    .await;
    relay.shutdown().await;
}

#[tokio::test]
async fn no_more_commands_run_than_are_allowed_at_a_time() {
    let script = "mkdir -p run/$CE_ID; ls run | wc -l >>counts; until test -e gate; do sleep 0.01; done; \
                  rmdir run/$CE_ID; echo $CE_ID >>got";
    let relay = with_script(script, "concurrency = 3\ntimeout = \"1m\"", "").start().await;
    let directory = relay.settings().directory().to_owned();
    for n in 0..9 {
        relay.post(&signed::payin_of(&format!("evt-{n}"), "payin_completed", &format!("order-{n}"))).await;
    }
    let lines = |name: &str| {
        let text = fs::read_to_string(directory.join(name)).unwrap_or_default();
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    eventually(
        "three commands at once",
        async || if lines("counts").len() >= 3 { Ok(()) } else { Err(lines("counts")) },
    )
    .await;
    fs::write(directory.join("gate"), "").unwrap();
    relay.settled().await;
    let counts: Vec<u32> = lines("counts").iter().map(|count| count.trim().parse().unwrap()).collect();
    assert!(counts.len() == 9 && counts.iter().all(|&count| count <= 3) && counts.contains(&3), "{counts:?}");
    assert_eq!(lines("got").len(), 9);
    relay.shutdown().await;
}
