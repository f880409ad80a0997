//! The clock jumps: by years before a start, and back; for one event; over the time for which a merchant had stopped.
//! Retention never drops a body for a clock's sake, and goes on when a person confirms the clock.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{Ack, Campaign, Delivery, SECRET, TestRelay, eventually, signed, skip};

const DAY_US: i64 = 86_400 * 1_000_000;

#[tokio::test]
async fn retention_waits_while_the_clock_is_ahead() {
    clock_jumps(Campaign::brief("clock years ahead, back, and a stopped merchant", 1)).await;
}

#[tokio::test]
#[ignore = "a part of tests/campaign"]
async fn campaign_clock_jumps() {
    clock_jumps(Campaign::whole("clock years ahead, back, and a stopped merchant", 20)).await;
}

/// What sets the clock of a process: libfaketime, which reads how far from a file.
struct Clock {
    library: PathBuf,
    file: PathBuf,
}

impl Clock {
    fn in_directory(directory: &Path) -> Option<Self> {
        let libraries = std::fs::read_dir("/usr/lib").unwrap();
        let mut libraries = libraries.map(|entry| entry.unwrap().path().join("faketime/libfaketimeMT.so.1"));
        let clock = Self { library: libraries.find(|library| library.exists())?, file: directory.join("clock") };
        clock.set("+0");
        Some(clock)
    }

    fn set(&self, offset: &str) {
        std::fs::write(self.file.with_extension("new"), offset).unwrap();
        std::fs::rename(self.file.with_extension("new"), &self.file).unwrap();
    }

    fn variables(&self) -> [(&'static str, &str); 4] {
        [
            ("LD_PRELOAD", self.library.to_str().unwrap()),
            ("FAKETIME_TIMESTAMP_FILE", self.file.to_str().unwrap()),
            ("FAKETIME_NO_CACHE", "1"),
            ("DONT_FAKE_MONOTONIC", "1"),
        ]
    }

    /// What `prune --dry-run` says by this clock: its results, and the rest.
    fn dry_run(&self, config: &Path) -> (String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ralio-relay"));
        command.args(["prune", "--dry-run", "--config"]).arg(config).envs(self.variables());
        let output = command.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (text(output.stdout), text(output.stderr))
    }
}

fn deliveries(prefix: &str, rng: &mut fastrand::Rng) -> Vec<Delivery> {
    (0..rng.usize(5..40)).map(|n| signed::payin_completed(&format!("{prefix}-{n}"))).collect()
}

/// Events whose body is there, and prunes that have ended.
fn kept_and_prunes(relay: &TestRelay) -> (i64, i64) {
    let inbox = rusqlite::Connection::open(relay.settings().inbox()).unwrap();
    let count = |sql: &str| inbox.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    let prunes = "SELECT count(*) FROM jobs WHERE json_extract(task, '$.task') = 'prune' AND state = 3";
    (count("SELECT count(*) FROM bodies"), count(prunes))
}

/// Every start asks for a prune.
async fn pruned(relay: &TestRelay, prunes: i64) -> i64 {
    eventually("the prune of this start", async || match kept_and_prunes(relay) {
        (kept, ended) if ended >= prunes => Ok(kept),
        found => Err(found),
    })
    .await
}

async fn post(relay: &TestRelay, deliveries: &[Delivery]) {
    for delivery in deliveries {
        assert_eq!(relay.post(delivery).await.status, 200);
    }
    relay.settled().await;
}

fn says_that_it_waits(relay: &TestRelay) -> bool {
    relay.log().iter().any(|line| line.contains("retention is held back"))
}

async fn clock_jumps(mut campaign: Campaign) {
    while let Some(mut rng) = campaign.round() {
        let retention = "[inbox.retention]\nbodies = \"400d\"";
        let mut settings = TestRelay::with_file_sink("out").source("test", signed::PATH, &[SECRET], retention);
        let Some(clock) = Clock::in_directory(settings.directory()) else { return skip("faketime") };
        for (name, value) in clock.variables() {
            settings = settings.env(name, value);
        }
        let relay = settings.start().await;
        let before = deliveries("before", &mut rng);
        post(&relay, &before).await;
        assert_eq!(relay.post(&signed::payin_completed("forged").signed_with("stale")).await, Ack::refused(401));
        assert_eq!(pruned(&relay, 1).await, before.len() as i64);
        assert!(!says_that_it_waits(&relay), "{:?}", relay.log());

        // Years ahead before the start, as after a restored machine; one event comes meanwhile.
        let settings = relay.shutdown().await;
        clock.set(&format!("+{}d", rng.u32(420..4000)));
        let relay = settings.start().await;
        let meanwhile = deliveries("from-the-future", &mut rng);
        post(&relay, &meanwhile).await;
        let mut stored = (before.len() + meanwhile.len()) as i64;
        assert_eq!(pruned(&relay, 2).await, stored, "nothing is dropped for the clock's sake");
        assert!(says_that_it_waits(&relay));
        assert_eq!(
            relay.quarantine().await.len(),
            1,
            "what was answered 401 is not old by a clock that is not believed"
        );
        let (counted, said) = clock.dry_run(&relay.settings().config_file());
        assert!(counted.contains("bodies of 0 events"), "{counted}");
        assert!(said.contains("--confirm-clock"), "{said}");

        // And back.
        let settings = relay.shutdown().await;
        clock.set("+0");
        let relay = settings.start().await;
        let behind = deliveries("behind", &mut rng);
        post(&relay, &behind).await;
        stored += behind.len() as i64;
        assert_eq!(pruned(&relay, 3).await, stored);
        assert!(!says_that_it_waits(&relay), "the clock is right again");

        // A merchant who stopped 500 days ago. The machine was off for all of that, as far as it can tell.
        let settings = relay.shutdown().await;
        let inbox = rusqlite::Connection::open(settings.inbox()).unwrap();
        let ago = 500 * DAY_US;
        inbox.execute("UPDATE events SET received_at = received_at - ?1", [ago]).unwrap();
        inbox.execute("UPDATE believed_clock SET at = at - ?1", [ago]).unwrap();
        drop(inbox);
        let relay = settings.start().await;
        let today = deliveries("today", &mut rng);
        post(&relay, &today).await;
        stored += today.len() as i64;
        assert_eq!(pruned(&relay, 4).await, stored, "whether the clock is right is for a person to say");
        assert!(says_that_it_waits(&relay));
        let held = relay.cli(&["status"]).await.code(1);
        assert!(held.stdout.contains("Retention is held back"), "{held:?}");

        let confirmed = relay.cli(&["prune", "--confirm-clock"]).await.success();
        let old = (before.len() + behind.len()) as i64;
        assert!(!confirmed.stderr.contains("held back"), "{confirmed:?}");
        // Those of the future are passed over, and hide none behind them.
        assert_eq!(kept_and_prunes(&relay).0, stored - old, "{confirmed:?}");
        let status = relay.cli(&["status"]).await;
        assert!(!status.stdout.contains("Retention is held back"), "{status:?}");
        campaign.count("bodies kept while the clock was not believed", stored.unsigned_abs());
        relay.shutdown().await;
    }
}
