//! A full disk: 503 while it lasts, 200 soon after, and nothing has to be restarted.

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::sender::Sender;
use crate::harness::faults::{Disk, small_disk};
use crate::harness::{Builder, Campaign, TestRelay, eventually, text};

/// Requests that are refused before there is space again.
const REFUSED: u64 = 20;

#[tokio::test]
async fn a_full_disk_is_503_until_there_is_space_again() {
    full(Campaign::brief("disk full, then freed", 1)).await;
}

#[tokio::test]
#[ignore = "a part of tests/campaign"]
async fn campaign_disk_full() {
    full(Campaign::whole("disk full, then freed", 20)).await;
}

/// On a small tmpfs, and on a small ext4: they run out in different places.
async fn full(mut campaign: Campaign) {
    while let Some(mut rng) = campaign.round() {
        let settings = TestRelay::with_file_sink("out").expect_errors();
        let inbox = settings.inbox().parent().unwrap().to_owned();
        if let Some(words) = small_disk(&inbox, 4) {
            let words: Vec<_> = words.iter().map(String::as_str).collect();
            // The small disk is the relay's alone; this is the way in.
            let ballast = |pid| PathBuf::from(format!("/proc/{pid}/root{}/ballast", inbox.display()));
            let sender = Sender::new(&mut rng);
            let relay = filled_and_freed(settings.wrapped(&words), ballast, &sender, &mut campaign).await;
            sender.send_again(&relay).await;
            relay.settled().await;
            sender.have_reached(relay.lines("out").iter().map(|line| text(line, "id").to_owned()));
            relay.shutdown().await;
        }
        if let Some(disk) = Disk::new(16) {
            let settings = TestRelay::builder().data_in(&disk.path()).file_sink("out", "").expect_errors();
            let sender = Sender::new(&mut rng);
            let relay = filled_and_freed(settings, |_| disk.path().join("ballast"), &sender, &mut campaign).await;
            sender.verify(relay, None).await;
        }
        campaign.count("lost", 0);
    }
}

/// Gives back the relay that was started: it is still the same one.
async fn filled_and_freed(
    settings: Builder,
    ballast: impl Fn(u32) -> PathBuf,
    sender: &Sender,
    campaign: &mut Campaign,
) -> TestRelay {
    let mut relay = settings.start().await;
    sender.run(&relay, 4, 50).await;
    let ballast = ballast(relay.process().pid());
    fill(&ballast);
    while sender.refused() < REFUSED {
        sender.run(&relay, 4, 10).await;
        assert!(sender.acknowledged() < 10_000, "the disk never fills");
    }
    std::fs::remove_file(&ballast).unwrap();
    let freed = Instant::now();
    eventually("a 200 without a restart", async || sender.try_again(&relay).await).await;
    let until_200 = freed.elapsed();
    assert!(until_200.as_secs() < 5, "{until_200:?} until the first 200");
    let lines = relay.log().iter().filter(|line| line.contains("the inbox cannot write")).count();
    assert!((1..=3).contains(&lines), "the log flaps: {lines} lines");
    campaign.count("disks filled", 1);
    campaign.count("503s meanwhile", sender.refused());
    campaign.count("other answers but 200", 0);
    campaign.highest("ms until 200 again, at most", until_200.as_millis() as u64);
    campaign.count("acknowledged", sender.acknowledged());
    relay
}

fn fill(ballast: &Path) {
    let error = std::fs::write(ballast, vec![0; 64 << 20]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
}
