//! Events that the far side never takes, by type, by key or by content, for now or for good: they hold up nothing else.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::fake_http::{FakeHttp, Rule};
use crate::harness::{Ack, Campaign, Delivery, TestRelay, eventually_within, signed};

/// Requests under way.
const AT_A_TIME: usize = 32;
/// Events that the far side takes, posted behind the class.
const HEALTHY: usize = 20;

#[tokio::test]
async fn a_class_of_events_holds_up_nothing_else() {
    classes(Campaign::brief("a class of events that is never taken", 4), 1000).await;
}

#[tokio::test]
#[ignore = "a part of tests/campaign"]
async fn campaign_classes() {
    classes(Campaign::whole("1,000 events of a class that is never taken", 12), 1000).await;
}

#[tokio::test]
#[ignore = "a part of tests/campaign"]
async fn campaign_classes_of_100_000() {
    classes(Campaign::whole("100,000 events of a class that is never taken", 4), 100_000).await;
}

/// What the events of a class have in common.
#[derive(Clone, Copy, Debug)]
enum Class {
    Type,
    Key,
    Content,
}

impl Class {
    fn delivery(self, n: usize) -> Delivery {
        let (id, order) = (format!("bad-{n}"), format!("order-{n}"));
        match self {
            Self::Type => signed::Delivery::current(&id, "kyc_session_created", json!({"sessionId": format!("s-{n}")})),
            Self::Key => signed::payin_of(&id, "payin_processing", &format!("bad-order-{}", n / 100)),
            Self::Content => {
                let data = json!({"status": "COMPLETED", "orderId": order, "reference": "poison"});
                signed::Delivery::current(&id, "payin_completed", data)
            }
        }
    }

    /// Answers so to every event of the class.
    fn rule(self, status: u16) -> Rule {
        Box::new(move |headers, body| {
            let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
            let is_bad = match self {
                Self::Type => header("ce-type").starts_with("kyc."),
                Self::Key => header("ce-subject").contains("bad-order"),
                Self::Content => String::from_utf8_lossy(body).contains("poison"),
            };
            is_bad.then_some(status)
        })
    }
}

/// Posts these, several at a time.
async fn post(relay: &TestRelay, deliveries: &[Delivery]) {
    for some in deliveries.chunks(AT_A_TIME) {
        let answers = futures_util::future::join_all(some.iter().map(|delivery| relay.post(delivery))).await;
        assert!(answers.iter().all(|answer| *answer == Ack::FRESH), "{answers:?}");
    }
}

async fn classes(mut campaign: Campaign, size: usize) {
    while let Some(mut rng) = campaign.round() {
        let class = [Class::Type, Class::Key, Class::Content][usize::try_from(campaign.number()).unwrap() % 3];
        // Chance finds what is healthy by content: some share of what waits has to be.
        let (run, every) = match class {
            Class::Type | Class::Key => (size / 2, rng.usize(2..50)),
            Class::Content => (size / 10, rng.usize(2..5)),
        };
        let status = [500, 409, 422][rng.usize(..3)];
        eprintln!("{class:?} is answered {status}; one of {every} is mixed in");
        let app = FakeHttp::answering([200]).await;
        app.rule(Some(class.rule(status)));
        let settings = "concurrency = 16\nretry = { initial = \"100ms\", max = \"5s\", probe_max = \"1s\" }";
        let relay = TestRelay::builder().http_sink("app", &app, settings).expect_errors().start().await;

        // In a row, then mixed with some that are taken, then those that are measured.
        let bad: Vec<Delivery> = (0..size).map(|n| class.delivery(n)).collect();
        let (run, mixed) = bad.split_at(run);
        post(&relay, run).await;
        for (n, some) in mixed.chunks(every).enumerate() {
            post(&relay, some).await;
            post(&relay, &[signed::payin_completed(&format!("mixed-{n}"))]).await;
        }
        let measured: Vec<Delivery> = (0..HEALTHY).map(|n| signed::payin_completed(&format!("good-{n}"))).collect();
        let began = Instant::now();
        post(&relay, &measured).await;
        let wanted: HashSet<_> = measured.iter().map(|delivery| delivery.body.clone()).collect();
        let patience = Duration::from_secs(30) + Duration::from_millis(2 * size as u64);
        let are_there = || {
            let got: HashSet<Vec<u8>> = app.accepted_bodies().into_iter().map(|body| body.to_vec()).collect();
            wanted.is_subset(&got)
        };
        while !are_there() {
            assert!(began.elapsed() < patience, "{class:?} {status}: what is healthy waits for {:?}", began.elapsed());
            app.requests_reach(app.count() + 1).await;
        }
        campaign.count("events of the class", size as u64);
        campaign.highest("ms until those behind it are delivered", began.elapsed().as_millis() as u64);

        // The far side is mended: nothing was lost.
        app.rule(None);
        relay.cli(&["sinks", "try", "app"]).await.success();
        let all = size + HEALTHY + mixed.chunks(every).count();
        let patience = Duration::from_secs(60) + Duration::from_millis(5 * size as u64);
        eventually_within(patience, "each event is delivered, or a dead letter", async || {
            let delivered = app.accepted_bodies().into_iter().collect::<HashSet<_>>().len();
            let dead = usize::try_from(relay.metric("dead_letters", &[("sink", "app")]).await).unwrap();
            if delivered + dead == all { Ok(()) } else { Err((delivered, dead, all)) }
        })
        .await;
        let dead = relay.metric("dead_letters", &[("sink", "app")]).await;
        assert!(status == 422 || dead == 0, "{dead} events are given up that were only to be tried again");
        relay.settled().await;
        relay.shutdown().await;
    }
}
