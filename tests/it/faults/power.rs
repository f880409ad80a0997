//! The power is cut under load: what was not synced is gone, which no killed process can show.
//!
//! The cut takes the kernel a moment, in which an fdatasync that is under way may still succeed although the journal has
//! been given up: a bare loop of `pwrite` and `fdatasync` loses its last record in one cut of five. A machine without
//! power would have answered nobody by then, so what counts is what was acknowledged before the cut began.

use std::time::Duration;

use fastrand::Rng;
use tokio::time::{Instant, sleep_until};

use super::sender::Sender;
use crate::harness::faults::Disk;
use crate::harness::{Builder, Campaign, TestRelay};

#[tokio::test]
async fn nothing_acknowledged_is_lost_to_a_power_cut() {
    cuts(Campaign::brief("power cut under load", 1), 3).await;
}

#[tokio::test]
#[ignore = "a part of tests/campaign"]
async fn campaign_power() {
    cuts(Campaign::whole("power cut under load", 10), 5).await;
}

/// Each round is the life of one file system with the inbox and a file sink on it, with so many cuts.
async fn cuts(mut campaign: Campaign, cuts: u64) {
    while let Some(mut rng) = campaign.round() {
        let Some(disk) = Disk::new(512) else { return };
        // What the power takes away, the relay complains of.
        let settings = TestRelay::builder().data_in(&disk.path()).file_sink("out", "").expect_errors();
        let sender = Sender::new(&mut rng);
        for _ in 0..cuts {
            one_life(&settings, &disk, &sender, &mut rng).await;
            disk.mount_again().await;
            campaign.count("cuts", 1);
        }
        sender.verify(settings.start().await, None).await;
        campaign.count("acknowledged", sender.acknowledged());
        campaign.count("lost", 0);
    }
}

/// From a start to the cut. The moment is the fault, not a wait.
async fn one_life(settings: &Builder, disk: &Disk, sender: &Sender, rng: &mut Rng) {
    let relay = settings.clone().start().await;
    sender.is_stored(&relay).await;
    let moment = Instant::now() + Duration::from_millis(1500).mul_f64(rng.f64());
    let and_journal = rng.bool();
    let cut = async {
        sleep_until(moment).await;
        let answered = sender.answered();
        disk.cut_power(and_journal).await;
        sender.stop();
        answered
    };
    let ((), answered) = futures_util::future::join(sender.run(&relay, 16, u64::MAX / 2), cut).await;
    sender.go_back_to(answered);
    relay.kill9();
}
