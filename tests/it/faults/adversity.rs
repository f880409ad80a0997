//! What a machine does to a relay: another process locks the inbox, the directory or the disk turns read-only, the clock
//! is set back a day. 503 or works; never a loss, never a 4xx. ([`Sender`] fails at any other answer.)

use std::path::Path;
use std::process::Command;

use futures_util::future::join;

use super::sender::Sender;
use crate::harness::fake_http::FakeHttp;
use crate::harness::faults::Disk;
use crate::harness::{Campaign, TestRelay, skip, text};

#[tokio::test]
async fn an_inbox_locked_by_another_process_is_503_or_a_wait() {
    locked(Campaign::brief("inbox locked by another process", 1)).await;
}

#[tokio::test]
#[ignore = "a part of tests/campaign"]
async fn campaign_locked() {
    locked(Campaign::whole("inbox locked by another process", 20)).await;
}

#[tokio::test]
async fn a_read_only_directory_or_disk_is_503_or_works() {
    read_only(Campaign::brief("directory, then disk, read-only", 1)).await;
}

#[tokio::test]
#[ignore = "a part of tests/campaign"]
async fn campaign_read_only() {
    read_only(Campaign::whole("directory, then disk, read-only", 20)).await;
}

#[tokio::test]
async fn a_clock_that_is_set_back_a_day_changes_nothing() {
    clock(Campaign::brief("clock set back a day", 1)).await;
}

#[tokio::test]
#[ignore = "a part of tests/campaign"]
async fn campaign_clock() {
    clock(Campaign::whole("clock set back a day", 20)).await;
}

async fn locked(mut campaign: Campaign) {
    while let Some(mut rng) = campaign.round() {
        let relay = TestRelay::with_file_sink("out").expect_errors().server("ack_deadline = \"500ms\"").start().await;
        let sender = Sender::new(&mut rng);
        sender.run(&relay, 4, 20).await;
        let before = sender.acknowledged();
        let mode = if rng.bool() { "IMMEDIATE" } else { "EXCLUSIVE" };
        let other = rusqlite::Connection::open(relay.settings().inbox()).unwrap();
        other.execute_batch(&format!("BEGIN {mode}; UPDATE index_state SET watermark = watermark")).unwrap();
        // Longer than the writer's patience with a lock.
        while sender.refused() < 60 {
            sender.run(&relay, 4, 10).await;
        }
        assert_eq!(sender.acknowledged(), before, "nothing can be stored, so nothing is acknowledged");
        other.execute_batch("ROLLBACK").unwrap();
        drop(other);
        while sender.acknowledged() == before {
            sender.run(&relay, 1, 1).await;
            assert!(sender.refused() < 1000, "the lock is gone");
        }
        campaign.count("locks held", 1);
        campaign.count("503s meanwhile", sender.refused());
        campaign.count("acknowledged", sender.acknowledged());
        sender.verify(relay, None).await;
        campaign.count("lost", 0);
    }
}

async fn read_only(mut campaign: Campaign) {
    while let Some(mut rng) = campaign.round() {
        let Some(disk) = Disk::new(64) else { return };
        let settings = TestRelay::builder().data_in(&disk.path()).file_sink("out", "").expect_errors();
        let sender = Sender::new(&mut rng);
        let relay = settings.clone().start().await;
        sender.run(&relay, 4, 50).await;

        // Files that are there can be written, and none be made or removed: it works.
        let inbox = settings.inbox();
        let Some(sealed) = Sealed::directory(inbox.parent().unwrap()) else { return skip("chattr") };
        sender.run(&relay, 4, 50).await;
        assert_eq!(sender.refused(), 0);
        let relay = relay.restart().await;
        sender.run(&relay, 4, 50).await;
        assert_eq!(sender.refused(), 0);
        drop(sealed);

        // Nothing can be written any more, as after an error of the disk: 503, or no relay.
        let before = sender.acknowledged();
        if disk.fail() {
            sender.run(&relay, 4, 50).await;
            campaign.count("503s while the disk was read-only", sender.refused());
            assert_eq!(sender.acknowledged(), before, "nothing can be stored, so nothing is acknowledged");
        }
        relay.kill9();
        disk.mount_again().await;

        // Nor is it started over a disk that cannot be written.
        disk.remount("ro");
        assert!(settings.clone().try_start().await.is_err());
        disk.remount("rw");
        campaign.count("disks turned read-only", 2);
        campaign.count("acknowledged", sender.acknowledged());
        sender.verify(settings.start().await, None).await;
        campaign.count("lost", 0);
    }
}

/// A directory in which no file can be made or removed, by anybody.
struct Sealed<'a>(&'a Path);

impl<'a> Sealed<'a> {
    fn directory(path: &'a Path) -> Option<Self> {
        let done = Command::new("chattr").arg("+i").arg(path).status();
        done.is_ok_and(|status| status.success()).then_some(Self(path))
    }
}

impl Drop for Sealed<'_> {
    fn drop(&mut self) {
        let done = Command::new("chattr").arg("-i").arg(self.0).status();
        assert!(done.is_ok_and(|status| status.success()), "it can be made writable again");
    }
}

async fn clock(mut campaign: Campaign) {
    let libraries =
        std::fs::read_dir("/usr/lib").unwrap().map(|entry| entry.unwrap().path().join("faketime/libfaketimeMT.so.1"));
    let Some(library) = libraries.into_iter().find(|library| library.exists()) else { return skip("faketime") };
    while let Some(mut rng) = campaign.round() {
        let mut app = FakeHttp::answering([200]).await;
        let settings = TestRelay::with_file_sink("out").http_sink("app", &app, "");
        let clock = settings.directory().join("clock");
        let set = |offset: &str| {
            std::fs::write(clock.with_extension("new"), offset).unwrap();
            std::fs::rename(clock.with_extension("new"), &clock).unwrap();
        };
        set("+0");
        let settings = settings
            .env("LD_PRELOAD", library.to_str().unwrap())
            .env("FAKETIME_TIMESTAMP_FILE", clock.to_str().unwrap())
            .env("FAKETIME_NO_CACHE", "1")
            .env("DONT_FAKE_MONOTONIC", "1");
        let relay = settings.start().await;
        let sender = Sender::new(&mut rng);
        sender.run(&relay, 4, 100).await;
        // What fails now is to be tried again at a time that is a day away soon.
        app.stop().await;
        sender.run(&relay, 4, 50).await;
        relay.reaches(1, "breaker_open", &[("sink", "app")]).await;
        join(sender.run(&relay, 4, 100), async { set("-1d") }).await;
        let at: Vec<_> = relay.events().await.iter().map(|event| text(event, "received_at").to_owned()).collect();
        assert!(at.last() < at.first(), "the relay has seen it: {at:?}");
        app.start().await;
        relay.settled().await;
        // And over a start.
        let relay = relay.restart().await;
        sender.run(&relay, 4, 50).await;
        assert_eq!(sender.refused(), 0);
        campaign.count("set back", 1);
        campaign.count("acknowledged", sender.acknowledged());
        sender.verify(relay, Some(&app)).await;
        campaign.count("lost", 0);
    }
}
