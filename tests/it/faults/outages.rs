//! A far side that was away: how soon after its return the first event is there.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::harness::fake_http::FakeHttp;
use crate::harness::{Ack, Campaign, TestRelay, eventually_within, signed, text};

#[tokio::test]
async fn the_first_delivery_comes_soon_after_an_outage() {
    let seconds = Duration::from_secs;
    outages(Campaign::brief("outages", 2), &[seconds(3), seconds(5)], "probe_max = \"1s\"", seconds(1)).await;
}

#[tokio::test]
#[ignore = "a part of tests/campaign"]
async fn campaign_outages() {
    let lengths = [10, 30, 60, 120, 300, 600].map(Duration::from_secs);
    outages(Campaign::whole("outages of 10 s to 10 min", 6), &lengths, "", Duration::from_secs(15)).await;
}

/// One outage of each length, with many orders, and with so few that the breaker never opens.
async fn outages(mut campaign: Campaign, lengths: &[Duration], retry: &str, probe_max: Duration) {
    while campaign.round().is_some() {
        let number = usize::try_from(campaign.number()).unwrap() - 1;
        let length = lengths[number % lengths.len()];
        let (mut many, mut few) = (FakeHttp::answering([200]).await, FakeHttp::answering([200]).await);
        let (retry, some) = (format!("retry = {{ {retry} }}"), "events = [\"transfer.*\"]");
        let relay = TestRelay::builder()
            .http_sink("many", &many, &retry)
            .http_sink("few", &few, &format!("{some}\n{retry}"))
            .start()
            .await;
        many.stop().await;
        few.stop().await;
        for n in 0..60 {
            assert_eq!(relay.post(&signed::payin_completed(&format!("evt-{n}"))).await, Ack::FRESH);
        }
        for n in 0..3 {
            assert_eq!(relay.post(&signed::transfer_completed(&format!("few-{n}"))).await, Ack::FRESH);
        }
        fails_for(&relay, "few", "failing", length).await;
        fails_for(&relay, "many", "down", length).await;
        many.start().await;
        few.start().await;
        let back = Instant::now();
        for (app, name) in [(&many, "many orders"), (&few, "few orders")] {
            app.requests_reach(app.count().max(1)).await;
            let took = back.elapsed();
            assert!(took <= probe_max + Duration::from_secs(2), "{name}: {took:?} after an outage of {length:?}");
            let what = format!("{} s with {name}: ms until the first delivery", length.as_secs());
            campaign.highest(&what, took.as_millis() as u64);
        }
        relay.settled().await;
        assert_eq!((many.accepted().len(), few.accepted().len()), (63, 3));
        relay.shutdown().await;
    }
}

/// Waits until a sink is in this state, and its attempts have failed for so long.
async fn fails_for(relay: &TestRelay, name: &str, state: &str, length: Duration) {
    eventually_within(length + Duration::from_secs(60), "the outage is long enough", async || {
        let sinks = relay.cli(&["sinks", "list", "--format", "json"]).await.success().json();
        let sink = sinks.into_iter().find(|sink| sink["name"] == name).expect("the sink is listed");
        let since: Option<Timestamp> = sink["failing_since"].as_str().map(|since| since.parse().unwrap());
        let failing_for =
            since.map(|since| Duration::try_from(Timestamp::now().duration_since(since)).unwrap_or_default());
        let is_so = text(&sink, "state") == state && failing_for.is_some_and(|failing_for| failing_for >= length);
        if is_so { Ok(()) } else { Err(sink) }
    })
    .await;
}
