//! SIGKILL as a thread of the relay makes its Nth `pwrite64` or `fdatasync`, which is then not carried out. strace counts
//! by thread: the first one that gets to N ends the process. For small N that is the one that makes or recovers the
//! database, for larger ones the writer, the thread for checkpoints, or the file sink's.

use fastrand::Rng;

use super::sender::Sender;
use crate::harness::faults::traced;
use crate::harness::{Builder, Campaign, TestRelay};

#[tokio::test]
async fn nothing_acknowledged_is_lost_to_kill_9_at_any_write_or_fsync() {
    calls(Campaign::brief("SIGKILL at the Nth pwrite64 and fdatasync", 3), |rng, _| rng.u64(1..=200)).await;
}

#[tokio::test]
#[ignore = "a part of tests/campaign"]
async fn campaign_calls() {
    calls(Campaign::whole("SIGKILL at the Nth pwrite64 and fdatasync", 200), |_, round| round).await;
}

async fn calls(mut campaign: Campaign, nth: impl Fn(&mut Rng, u64) -> u64) {
    while let Some(mut rng) = campaign.round() {
        let nth = nth(&mut rng, campaign.number());
        for call in ["pwrite64", "fdatasync"] {
            let settings = TestRelay::with_file_sink("out");
            let sender = Sender::new(&mut rng);
            // The first life makes the database; the second begins with what the first has left.
            for _ in 0..2 {
                let Some(listened) = one_life(&settings, &sender, call, nth).await else { return };
                campaign.count("kills", 1);
                campaign.count("of them before it was ready", u64::from(!listened));
            }
            sender.verify(settings.start().await, None).await;
            campaign.count("acknowledged", sender.acknowledged());
            campaign.count("lost", 0);
        }
    }
}

/// From a start to the kill; whether it was ready by then. `None` where nothing can be traced.
async fn one_life(settings: &Builder, sender: &Sender, call: &str, nth: u64) -> Option<bool> {
    let inject = format!("inject={call}:signal=SIGKILL:when={nth}");
    let words = traced(&["-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &inject])?;
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let Ok(mut relay) = settings.clone().wrapped(&words).try_start().await else { return Some(false) };
    sender.run(&relay, 4, 10_000).await;
    let status = relay.process().end().await;
    assert_eq!(status.code(), None, "ended by a signal: {call} {nth}");
    Some(true)
}
