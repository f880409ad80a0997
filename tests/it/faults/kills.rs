//! SIGKILL at random moments: while the relay starts, recovers, takes requests, writes its log back, catches up.

use std::time::Duration;

use fastrand::Rng;
use serde_json::Value;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::sender::Sender;
use crate::harness::fake_http::{Answer, FakeHttp};
use crate::harness::process::kill9;
use crate::harness::{Ack, Builder, Campaign, TestRelay, eventually, signed};

/// Deliveries in flight at each sink.
const CONCURRENCY: u64 = 32;

#[tokio::test]
async fn nothing_acknowledged_is_lost_to_kill_9_under_load() {
    kills(Campaign::brief("SIGKILL at a random moment under load", 1), 6).await;
}

#[tokio::test]
#[ignore = "a part of tests/campaign"]
async fn campaign_kills() {
    kills(Campaign::whole("SIGKILL at a random moment under load", 10), 20).await;
}

/// What ended after it is recorded, and the cursor has to wait for it all the same.
#[tokio::test]
async fn what_was_in_flight_at_a_kill_is_delivered() {
    let app = FakeHttp::answering([Answer::Hang, Answer::from(200)]).await;
    let relay = TestRelay::with_sink("app", &app).start().await;
    let (first, second) = (signed::payin_completed("evt-1"), signed::payin_completed("evt-2"));
    assert_eq!(relay.post(&first).await, Ack::FRESH);
    app.requests_reach(1).await;
    assert_eq!(relay.post(&second).await, Ack::FRESH);
    eventually("a recorded attempt", async || match &relay.event("evt-2").await["attempts"] {
        Value::Array(attempts) if attempts.len() == 1 => Ok(()),
        other => Err(other.clone()),
    })
    .await;
    let settings = relay.kill9();
    app.answer([200]);
    let relay = settings.start().await;
    relay.settled().await;
    assert_eq!(app.accepted_bodies(), [second.body, first.body]);
    relay.shutdown().await;
}

/// Each round is the life of one inbox, with so many kills.
async fn kills(mut campaign: Campaign, kills: u64) {
    while let Some(mut rng) = campaign.round() {
        let mut app = FakeHttp::answering([200]).await;
        let concurrency = format!("concurrency = {CONCURRENCY}");
        let settings = TestRelay::builder().file_sink("out", &concurrency).http_sink("app", &app, &concurrency);
        let sender = Sender::new(&mut rng);
        for _ in 0..kills {
            // Now and then one sink is down, so that the next lives begin with a backlog.
            if rng.u8(..3) == 0 {
                app.stop().await
            } else {
                app.start().await
            }
            let killed_listening = one_life(&settings, &sender, &mut rng).await;
            campaign.count("kills", 1);
            campaign.count("of them before it was ready", u64::from(!killed_listening));
        }
        app.start().await;
        let relay = settings.start().await;
        let repeated = sender.verify(relay, Some(&app)).await;
        assert!(repeated <= 2 * 4 * CONCURRENCY * kills, "{repeated} deliveries were repeated");
        assert_eq!(sender.refused(), 0, "a relay that is well refuses nothing");
        campaign.count("acknowledged", sender.acknowledged());
        campaign.count("lost", 0);
        campaign.count("delivered again", repeated);
    }
}

/// From a start to a kill; false if it came before the relay was ready. The moment is the fault, not a wait.
async fn one_life(settings: &Builder, sender: &Sender, rng: &mut Rng) -> bool {
    let longest = if rng.bool() { 300 } else { 2000 };
    let moment = Instant::now() + Duration::from_millis(longest).mul_f64(rng.f64());
    // Dropping what starts kills it.
    let Ok(mut relay) = timeout_at(moment, settings.clone().start()).await else { return false };
    let pid = relay.process().pid();
    let kill = async {
        sleep_until(moment).await;
        kill9(pid);
    };
    futures_util::future::join(sender.run(&relay, 16, u64::MAX / 2), kill).await;
    relay.kill9();
    true
}
