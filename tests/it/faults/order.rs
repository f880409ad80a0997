//! The order within a key, while the far side fails now and then and the relay is restarted again and again.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::StreamExt as _;
use hyper::header::HeaderMap;

use crate::harness::fake_http::{Answer, FakeHttp};
use crate::harness::process::kill9;
use crate::harness::{Ack, Campaign, Delivery, TestRelay, eventually, signed};

/// Requests under way.
const AT_A_TIME: usize = 32;

/// How much comes in during one round.
struct Size {
    keys: usize,
    /// Of each key.
    events: usize,
    restarts: usize,
}

#[tokio::test]
async fn first_hand_over_within_a_key_is_in_order() {
    order(Campaign::brief("order within a key", 1), &Size { keys: 50, events: 10, restarts: 3 }).await;
}

#[tokio::test]
#[ignore = "a part of tests/campaign"]
async fn campaign_order() {
    order(Campaign::whole("order within a key", 1), &Size { keys: 1000, events: 100, restarts: 20 }).await;
}

/// Of the far side: one in ten fails, one in a thousand is never answered.
fn script(rng: &mut fastrand::Rng, length: usize) -> Vec<Answer> {
    let answer = |_| match rng.u32(..1000) {
        0 => Answer::Hang,
        1..100 => 503.into(),
        _ => 200.into(),
    };
    (0..length).map(answer).chain([200.into()]).collect()
}

async fn order(mut campaign: Campaign, size: &Size) {
    while let Some(mut rng) = campaign.round() {
        let all = size.keys * size.events;
        let app = FakeHttp::answering(script(&mut rng, 2 * all)).await;
        let sink = "timeout = \"1s\"\nretry = { initial = \"50ms\", max = \"500ms\" }";
        let mut relay = TestRelay::builder().http_sink("app", &app, sink).start().await;
        // The events of all keys take turns.
        let name = |n: usize| (format!("evt-{n}"), format!("order-{}", n % size.keys));
        let delivery = |(id, key): (String, String)| signed::payin_of(&id, "payin_processing", &key);
        let mut unsent: Vec<Delivery> = (0..all).map(name).map(delivery).collect();
        for restarts_left in (1..=size.restarts).rev() {
            let later = unsent.split_off(unsent.len() / (restarts_left + 1));
            let (next, unanswered) = interrupted(relay, unsent, &app, &mut rng).await;
            (relay, unsent) = (next, [later, unanswered].concat());
        }
        assert!(posted(&relay, unsent).await.is_empty(), "nobody ends the last one");
        relay.settled().await;
        relay.shutdown().await;
        verify(&mut campaign, &app, all);
    }
}

/// Posts these, several at a time; those that were not acknowledged.
async fn posted(relay: &TestRelay, deliveries: Vec<Delivery>) -> Vec<Delivery> {
    let posts = deliveries.into_iter().map(|delivery| async {
        match relay.try_post(&delivery).await {
            Ok(Ack::FRESH | Ack::DUPLICATE) => None,
            // It is stopping, or gone.
            Ok(Ack { status: 503, .. }) | Err(_) => Some(delivery),
            Ok(other) => panic!("{other:?}"),
        }
    });
    futures_util::stream::iter(posts).buffer_unordered(AT_A_TIME).filter_map(async |left| left).collect().await
}

/// Posts these, and ends the relay somewhere in the middle, by force or in good order. The next one, and what it is to be
/// sent again.
async fn interrupted(
    mut relay: TestRelay,
    deliveries: Vec<Delivery>,
    app: &FakeHttp,
    rng: &mut fastrand::Rng,
) -> (TestRelay, Vec<Delivery>) {
    let (pid, by_force, enough) = (relay.process().pid(), rng.bool(), app.count() + rng.usize(..deliveries.len()));
    let end = async {
        eventually("enough hand-overs", async || if app.count() >= enough { Ok(()) } else { Err(app.count()) }).await;
        if by_force { kill9(pid) } else { relay.sigterm() }
    };
    let (left, ()) = futures_util::future::join(posted(&relay, deliveries), end).await;
    let status = relay.process().end().await;
    assert_eq!(status.code(), if by_force { None } else { Some(0) });
    (relay.restart().await, left)
}

/// Every event was accepted, and within each key they were seen for the first time, and accepted for the first time, in
/// the order of the log.
fn verify(campaign: &mut Campaign, app: &FakeHttp, all: usize) {
    let (requests, accepted) = (app.requests(), app.accepted());
    let (inversions, seen) = firsts(requests.iter().map(|request| &request.headers));
    let (inversions_accepted, events) = firsts(accepted.iter().map(|request| &request.headers));
    campaign.count("events", events as u64);
    campaign.count("hand-overs repeated", (requests.len() - seen) as u64);
    campaign.count("inversions", (inversions + inversions_accepted) as u64);
    campaign.count("lost", (all - events) as u64);
    assert_eq!((inversions, inversions_accepted), (0, 0), "inversions of what was seen, and of what was accepted");
    assert_eq!(events, all, "accepted");
}

/// Inversions within the keys, looking only at the first time that each event comes; and how many events there are.
fn firsts<'a>(requests: impl Iterator<Item = &'a HeaderMap>) -> (usize, usize) {
    let (mut last, mut seen, mut inversions) = (BTreeMap::new(), BTreeSet::new(), 0);
    for headers in requests {
        let seq: u64 = headers["ce-ralioseq"].to_str().unwrap().parse().unwrap();
        if seen.insert(seq) {
            let key = headers["ce-subject"].to_str().unwrap();
            let before = last.insert(key, seq);
            inversions += usize::from(before.is_some_and(|before| before > seq));
        }
    }
    (inversions, seen.len())
}
