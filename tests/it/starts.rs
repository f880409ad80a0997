//! What a start meets: readers and locks of other programs, files of another user, a file that is no inbox.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;

use rusqlite::Connection;

use crate::harness::{Ack, Builder, TestRelay, eventually, signed, skip_for_good};

/// A replication tool, or a session that somebody has forgotten.
fn reader(settings: &Builder) -> Connection {
    let reader = Connection::open(settings.inbox()).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM events").unwrap();
    reader
}

#[tokio::test]
async fn a_reader_that_does_not_let_go_keeps_nobody_from_receiving() {
    for is_killed in [true, false] {
        let relay = TestRelay::with_file_sink("out").start().await;
        assert_eq!(relay.post(&signed::payin_completed("evt-1")).await, Ack::FRESH);
        let held = reader(relay.settings());
        assert_eq!(relay.post(&signed::payin_completed("evt-2")).await, Ack::FRESH);
        relay.settled().await;
        let settings = if is_killed { relay.kill9() } else { relay.shutdown().await };
        let relay = settings.start().await;
        let log = relay.log().join("\n");
        assert!(log.contains("another program reads an old state of the inbox"), "{log}");
        assert_eq!(relay.post(&signed::payin_completed("evt-2")).await, Ack::DUPLICATE);
        assert_eq!(relay.post(&signed::payin_completed("evt-3")).await, Ack::FRESH);
        relay.settled().await;
        let seen: i64 = held.query_row("SELECT count(*) FROM events", [], |row| row.get(0)).unwrap();
        assert_eq!(seen, 1, "the reader sees what it saw");
        drop(held);
        assert_eq!(relay.events().await.len(), 3);
        relay.shutdown().await;
    }
}

#[tokio::test]
async fn while_another_program_locks_the_inbox_a_start_answers_503_and_waits() {
    let settings = TestRelay::builder().expect_errors().plaintext();
    let relay = settings.clone().start().await;
    assert_eq!(relay.post(&signed::payin_completed("evt-1")).await, Ack::FRESH);
    relay.shutdown().await;
    let other = Connection::open(settings.inbox()).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let mut relay = settings.launch().await;
    let delivery = signed::payin_completed("evt-2");
    let refused = eventually("an answer", async || {
        let said = relay.log().into_iter().find(|line| line.contains("cannot be opened yet")).ok_or("no listener")?;
        let line: serde_json::Value = serde_json::from_str(&said).unwrap();
        let url = format!("http://{}{}", line["addr"].as_str().unwrap(), delivery.path);
        let request = delivery
            .headers
            .iter()
            .fold(relay.client().post(url), |request, (name, value)| request.header(name.as_str(), value.as_str()));
        Ok::<_, &str>(request.body(delivery.body.clone()).send().await.unwrap().status().as_u16())
    });
    assert_eq!(refused.await, 503);
    let reasons = relay.client().get(relay.admin_url("/readyz")).send().await.unwrap().text().await.unwrap();
    assert!(reasons.contains("is locked by another program: end that program"), "{reasons}");
    other.execute_batch("ROLLBACK").unwrap();
    relay.ready().await;
    assert_eq!(relay.post(&delivery).await, Ack::FRESH);
    assert_eq!(relay.events().await.len(), 2);
    relay.shutdown().await;
}

/// The service's user.
const NOBODY: u32 = 65_534;
const AS_NOBODY: [&str; 6] = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--", "env"];

/// A relay of which everything belongs to [`NOBODY`]; `None`, and said so, where the tests are not root's.
fn of_nobody() -> Option<Builder> {
    if !rustix::process::geteuid().is_root() {
        skip_for_good("the right to be another user");
        return None;
    }
    let settings = TestRelay::with_file_sink("out").plaintext();
    settings.write_config();
    give(settings.directory());
    Some(settings)
}

fn give(place: &Path) {
    chown(place, Some(NOBODY), Some(NOBODY)).unwrap();
    for entry in fs::read_dir(place).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() { give(&entry) } else { chown(&entry, Some(NOBODY), Some(NOBODY)).unwrap() }
    }
}

/// Every file of these directories belongs to nobody else.
fn all_belongs_to_nobody(directory: &Path) {
    for entry in fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
        assert_eq!(fs::metadata(&entry).unwrap().uid(), NOBODY, "{}", entry.display());
        if entry.is_dir() {
            all_belongs_to_nobody(&entry);
        }
    }
}

#[tokio::test]
async fn a_check_leaves_nothing_behind() {
    let settings = TestRelay::with_file_sink("out");
    settings.write_config();
    let names = || fs::read_dir(settings.directory()).unwrap().count();
    let before = names();
    let config = settings.config_file();
    crate::harness::run(&["check", "--probe", "--config", config.to_str().unwrap()]).await.success();
    assert_eq!(names(), before);
}

/// `sudo ralio-relay serve` before the service's first start, and a command after that.
#[tokio::test]
async fn what_root_does_first_does_not_lock_the_service_out() {
    let Some(settings) = of_nobody() else { return };
    let relay = settings.start().await;
    assert_eq!(relay.post(&signed::payin_completed("evt-1")).await, Ack::FRESH);
    relay.settled().await;
    all_belongs_to_nobody(relay.settings().directory());
    // Also a log that a crash leaves.
    let settings = relay.kill9();
    all_belongs_to_nobody(settings.directory());
    let relay = settings.wrapped(&AS_NOBODY).start().await;
    assert_eq!(relay.post(&signed::payin_completed("evt-1")).await, Ack::DUPLICATE);
    assert_eq!(relay.post(&signed::payin_completed("evt-2")).await, Ack::FRESH);
    relay.settled().await;
    assert_eq!(relay.lines("out").len(), 2);
    relay.shutdown().await;
}

#[tokio::test]
async fn a_file_of_another_user_is_named_with_its_owner_and_what_to_do() {
    let Some(settings) = of_nobody() else { return };
    let relay = settings.wrapped(&AS_NOBODY).start().await;
    assert_eq!(relay.post(&signed::payin_completed("evt-1")).await, Ack::FRESH);
    relay.settled().await;
    let settings = relay.shutdown().await.expect_errors();
    let inbox = settings.inbox();
    for file in [inbox.with_extension("lock"), inbox.clone()] {
        chown(&file, Some(0), Some(0)).unwrap();
        let Err(mut process) = settings.clone().try_start().await else { panic!("it started") };
        assert_eq!(process.end().await.code(), Some(1));
        let said = process.stderr.all().join("\n");
        let path = file.display();
        let whose = format!("{path} belongs to user 0 and group 0 with mode 0600, and this process is user 65534");
        assert!(said.contains(&whose) && said.contains(&format!("`chown 65534 {path}`")), "{said}");
        chown(&file, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let out = settings.sink_file("out");
    chown(&out, Some(0), Some(0)).unwrap();
    let check = settings.clone();
    let words = [&AS_NOBODY[..], &[env!("CARGO_BIN_EXE_ralio-relay"), "check", "--probe", "--config"]].concat();
    let output = std::process::Command::new(words[0]).args(&words[1..]).arg(check.config_file()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains(&format!("{} belongs to user 0", out.display())), "{said}");
}

/// One sentence, and what to do.
#[tokio::test]
async fn a_damaged_inbox_says_what_to_do() {
    let relay = TestRelay::builder().expect_errors().start().await;
    assert_eq!(relay.post(&signed::payin_completed("evt-1")).await, Ack::FRESH);
    let settings = relay.shutdown().await;
    let mut bytes = fs::read(settings.inbox()).unwrap();
    // Every page but the first; the last part of that is the schema.
    bytes[4096..].fill(0x55);
    fs::write(settings.inbox(), bytes).unwrap();
    let Err(mut process) = settings.clone().try_start().await else { panic!("it started") };
    assert_eq!(process.end().await.code(), Some(1));
    let said = process.stderr.all().join("\n");
    assert!(said.contains("is damaged, or is no inbox") && said.contains("put a backup in its place"), "{said}");
    assert!(!said.contains("Error code"), "{said}");
    let config = settings.config_file();
    let listed = crate::harness::run(&["events", "list", "--config", config.to_str().unwrap()]).await.code(1);
    assert!(listed.stderr.contains("put a backup in its place"), "{listed:?}");
    assert_eq!(listed.stderr.lines().count(), 1, "{listed:?}");
}

/// What somebody else could read is closed to them with the first event.
#[tokio::test]
async fn a_sinks_file_is_for_its_owner_only() {
    let settings = TestRelay::with_file_sink("out");
    let file = settings.sink_file("out");
    fs::write(&file, "").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let relay = settings.start().await;
    assert_eq!(relay.post(&signed::payin_completed("evt-1")).await, Ack::FRESH);
    relay.settled().await;
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(relay.log().iter().any(|line| line.contains("others could read the file")), "{:?}", relay.log());
    relay.shutdown().await;
}

/// Who copies `inbox.db` alone has everything.
#[tokio::test]
async fn after_a_stop_the_database_alone_is_whole() {
    let relay = TestRelay::with_file_sink("out").start().await;
    for n in 0..20 {
        assert_eq!(relay.post(&signed::payin_completed(&format!("evt-{n}"))).await, Ack::FRESH);
    }
    relay.settled().await;
    // The admin API has connections of its own.
    assert_eq!(relay.client().get(relay.admin_url("/readyz")).send().await.unwrap().status().as_u16(), 200);
    assert_eq!(relay.events().await.len(), 20);
    let settings = relay.shutdown().await;
    let log = fs::metadata(settings.inbox().with_extension("db-wal")).map_or(0, |log| log.len());
    assert_eq!(log, 0);
    let copy = settings.directory().join("copy.db");
    fs::copy(settings.inbox(), &copy).unwrap();
    let copy = Connection::open(copy).unwrap();
    let (events, delivered): (i64, i64) = copy
        .query_row("SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM attempts)", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .unwrap();
    assert_eq!((events, delivered), (20, 20));
}
