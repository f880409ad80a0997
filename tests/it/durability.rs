//! 200 means stored: through kill -9, a full disk, a failing disk, and a second process.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::harness::fake_http::FakeHttp;
use crate::harness::process::Process;
use crate::harness::{Ack, Delivery, TestRelay, eventually, signed, skip, skip_for_good, text};

/// The database is whole.
pub fn integrity(inbox: &Path) {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let database = rusqlite::Connection::open_with_flags(inbox, flags).unwrap();
    let verdict: String = database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(verdict, "ok");
}

#[tokio::test]
async fn duplicates_and_conflicts_are_known_after_a_restart() {
    let relay = TestRelay::with_file_sink("out").expect_errors().start().await;
    let delivery = signed::payin_of("evt-1", "payin_completed", "order-1");
    let malformed = Delivery::of("not json");
    assert_eq!(relay.post(&delivery).await, Ack::FRESH);
    assert_eq!(relay.post(&malformed).await, Ack::FRESH);
    let relay = relay.shutdown().await.start().await;
    assert_eq!(relay.post(&delivery).await, Ack::DUPLICATE);
    assert_eq!(relay.post(&malformed).await, Ack::DUPLICATE);
    assert_eq!(relay.post(&signed::payin_of("evt-1", "payin_completed", "order-2")).await, Ack::FRESH);
    let relay = relay.restart().await;
    assert_eq!(relay.post(&signed::payin_of("evt-1", "payin_completed", "order-2")).await, Ack::DUPLICATE);
    relay.settled().await;
    let ids: Vec<_> =
        relay.events().await.iter().map(|event| (text(event, "id").to_owned(), event["conflict"] == true)).collect();
    assert_eq!(ids, [("evt-1".to_owned(), false), (malformed.stored_id(), false), ("evt-1".to_owned(), true)]);
    relay.shutdown().await;
}

#[tokio::test]
async fn the_inbox_is_for_its_owner_only() {
    let relay = TestRelay::with_file_sink("out").start().await;
    relay.post(&signed::payin_completed("evt-1")).await;
    relay.settled().await;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let directory = relay.settings().inbox().parent().unwrap().to_owned();
    assert_eq!(format!("{:o}", mode(&directory)), "700");
    for entry in fs::read_dir(&directory).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(format!("{:o}", mode(&path)), "600", "{}", path.display());
    }
    assert_eq!(format!("{:o}", mode(&relay.settings().sink_file("out"))), "600", "events hold personal data");
    relay.shutdown().await;
}

#[tokio::test]
async fn a_second_relay_waits_unready_and_takes_over() {
    let first = TestRelay::with_file_sink("out").start().await;
    let second = first.settings().clone().launch();
    let mut second = second.await;
    assert_eq!(first.post(&signed::payin_completed("evt-1")).await, Ack::FRESH);
    assert_eq!(second.readyz().await, 503);
    first.settled().await;
    first.shutdown().await;
    second.ready().await;
    assert_eq!(second.post(&signed::payin_completed("evt-1")).await, Ack::DUPLICATE);
    assert_eq!(second.post(&signed::payin_completed("evt-2")).await, Ack::FRESH);
    second.settled().await;
    assert_eq!(second.lines("out").len(), 2, "the cursor is the inbox's, not the process's");
    second.shutdown().await;
}

#[tokio::test]
async fn a_waiting_relay_can_be_ended() {
    let first = TestRelay::builder().start().await;
    let mut second = first.settings().clone().launch().await;
    second.sigterm();
    assert_eq!(second.process().end().await.code(), Some(0));
    assert_eq!(first.post(&signed::payin_completed("evt-1")).await, Ack::FRESH);
    first.shutdown().await;
}

/// Words that run a command with an empty file system of this many MiB of its own over `directory`.
fn small_disk(directory: &Path, mebibytes: u32) -> Vec<String> {
    let is_root = Command::new("id").arg("-u").output().unwrap().stdout == b"0\n";
    let rights: &[&str] = if is_root { &[] } else { &["--user", "--map-root-user"] };
    let mount = format!("mount -t tmpfs -o size={mebibytes}m,mode=700 none {directory:?} && exec \"$@\"");
    let words = [&["unshare"], rights, &["--mount", "sh", "-c", &mount, "sh"]].concat();
    words.into_iter().map(str::to_owned).collect()
}

#[tokio::test]
async fn a_full_disk_is_503_until_there_is_space_again() {
    let builder = TestRelay::with_file_sink("out").expect_errors();
    let inbox = builder.inbox().parent().unwrap().to_owned();
    fs::create_dir(&inbox).unwrap();
    fs::set_permissions(&inbox, Permissions::from_mode(0o700)).unwrap();
    let words = small_disk(&inbox, 4);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    if !Command::new(words[0]).args(&words[1..]).arg("true").status().is_ok_and(|status| status.success()) {
        return skip_for_good("the right to mount a tmpfs");
    }
    let mut relay = builder.wrapped(&words).start().await;
    // The small disk is the relay's alone; this is the way in.
    let ballast = format!("/proc/{}/root{}/ballast", relay.process().pid(), inbox.display());
    let filled = fs::write(&ballast, vec![0; 8 << 20]);
    assert_eq!(filled.unwrap_err().kind(), std::io::ErrorKind::StorageFull);

    let mut acknowledged = BTreeSet::new();
    let mut refused = 0;
    for n in 0.. {
        let delivery = Delivery::current(&format!("evt-{n}"), "payin.completed", json!({"pad": "x".repeat(20_000)}));
        match relay.post(&delivery).await {
            Ack::FRESH => assert!(acknowledged.insert(delivery.stored_id()) && n < 1000, "the disk never fills"),
            ack => {
                assert_eq!(ack, Ack::refused(503));
                refused += 1;
            }
        }
        if refused == 20 {
            break;
        }
    }
    fs::remove_file(&ballast).unwrap();
    eventually("a 200 without a restart", async || match relay.post(&signed::payin_completed("afterwards")).await {
        Ack { status: 200, .. } => Ok(()),
        other => Err(other),
    })
    .await;
    acknowledged.insert("afterwards".to_owned());
    relay.settled().await;
    let delivered: BTreeSet<_> = relay.lines("out").iter().map(|line| text(line, "id").to_owned()).collect();
    assert_eq!(acknowledged.difference(&delivered).count(), 0);
    relay.shutdown().await;
}

/// Makes system calls of a running process misbehave, from now until it is dropped.
async fn inject(pid: u32, what: &str) -> Option<Process> {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-o", "/dev/null", "-p", &pid.to_string(), "-e", "trace=fsync,fdatasync", "-e"]);
    if Command::new("strace").arg("-V").output().is_err() {
        skip("strace");
        return None;
    }
    let mut tracer = Process::spawn(strace.arg(format!("inject=fsync,fdatasync:{what}")));
    let attached = eventually("strace at every thread", async || {
        if tracer.ended().is_some() {
            return Ok(false);
        }
        let mut threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        let is_traced = threads.all(|thread| {
            let status = fs::read_to_string(thread.unwrap().path().join("status"));
            status.is_ok_and(|status| !status.contains("TracerPid:\t0\n"))
        });
        if is_traced { Ok(true) } else { Err(()) }
    });
    if !attached.await {
        skip_for_good("the right to trace a process");
        return None;
    }
    Some(tracer)
}

#[tokio::test]
async fn after_a_failed_fsync_the_relay_answers_no_200_and_exits() {
    let mut relay = TestRelay::with_file_sink("out").start().await;
    assert_eq!(relay.post(&signed::payin_completed("before")).await, Ack::FRESH);
    relay.settled().await;
    let Some(_failing) = inject(relay.process().pid(), "error=EIO").await else { return };
    let answer = relay.try_post(&signed::payin_completed("during")).await;
    assert!(matches!(answer, Err(_) | Ok(Ack { status: 503, .. })), "{answer:?}");
    let status = relay.process().end().await;
    assert!(status.code().is_some_and(|code| code != 0), "{status}");

    let relay = relay.restart().await;
    let again = relay.post(&signed::payin_completed("during")).await;
    assert_eq!(again.status, 200, "the sender's retry");
    assert_eq!(relay.post(&signed::payin_completed("before")).await, Ack::DUPLICATE);
    relay.settled().await;
    let mut ids: Vec<_> = relay.lines("out").iter().map(|line| text(line, "id").to_owned()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids, ["before", "during"]);
    integrity(relay.shutdown().await.inbox().as_path());
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

#[tokio::test]
async fn a_slow_disk_is_503_before_the_sender_gives_up() {
    let mut relay = TestRelay::builder().server("ack_deadline = \"500ms\"").expect_errors().start().await;
    assert_eq!(relay.post(&signed::payin_completed("before")).await, Ack::FRESH);
    let Some(slow) = inject(relay.process().pid(), "delay_enter=3s").await else { return };
    assert_eq!(relay.post(&signed::payin_completed("during")).await, Ack::refused(503));
    drop(slow);
    eventually("a quick disk again", async || match relay.post(&signed::payin_completed("after")).await {
        Ack { status: 200, .. } => Ok(()),
        other => Err(other),
    })
    .await;
    // Whether the slow append was carried out is open; that it is stored once is not.
    assert_eq!(relay.post(&signed::payin_completed("during")).await.status, 200);
    let ids: Vec<_> = relay.events().await.iter().map(|event| text(event, "id").to_owned()).collect();
    assert_eq!(ids.iter().filter(|&id| id == "during").count(), 1, "{ids:?}");
    relay.shutdown().await;
}
