//! A flood of forged requests, and what it does to those of somebody else.

use std::net::{IpAddr, Ipv4Addr};

use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::StreamExt as _;

use crate::harness::{Ack, Delivery, TestRelay, signed, text};

/// Sends from an address of its own.
fn client_at(last: u8, relay: &TestRelay) -> reqwest::Client {
    let certificate = std::fs::read(relay.settings().directory().join("tls.crt")).unwrap();
    let address = IpAddr::V4(Ipv4Addr::new(127, 0, 0, last));
    let client = reqwest::Client::builder().local_address(address);
    client.tls_certs_only([reqwest::Certificate::from_pem(&certificate).unwrap()]).build().unwrap()
}

async fn send(client: &reqwest::Client, relay: &TestRelay, delivery: &Delivery) -> Ack {
    let mut request = client.post(relay.url(&delivery.path)).body(delivery.body.clone());
    for (name, value) in &delivery.headers {
        request = request.header(name, value);
    }
    Ack::read(delivery, request.send().await.unwrap()).await.unwrap()
}

/// A secret of ours that is stale refuses what is genuine: that must be there when the secret is put right.
#[tokio::test]
async fn a_flood_from_one_address_costs_another_nothing() {
    let builder = TestRelay::builder().env("RALIO_RELAY__INBOX__QUARANTINE__MAX_ENTRIES", "40");
    let relay = builder.expect_errors().start().await;
    let refused = AtomicUsize::new(0);
    let (provider, attacker) = (client_at(1, &relay), client_at(66, &relay));
    let genuine = |n: u32| signed::payin_completed(&format!("evt-{n}")).signed_with("the next secret");
    let flood = async |from: u32| {
        let requests = (from..from + 400).map(|n| {
            let forged = signed::payin_completed(&format!("flood-{n}")).signed_with("a guess");
            let (attacker, relay) = (&attacker, &relay);
            let refused = &refused;
            async move {
                match send(attacker, relay, &forged).await {
                    Ack { status: 401, .. } => _ = refused.fetch_add(1, Ordering::Relaxed),
                    other => assert_eq!(other, Ack::refused(503)),
                }
            }
        });
        futures_util::stream::iter(requests).buffer_unordered(16).collect::<Vec<()>>().await;
    };
    for n in 0..5 {
        assert_eq!(send(&provider, &relay, &genuine(n)).await, Ack::refused(401));
    }
    flood(0).await;
    // And in the middle of one.
    let between = async {
        for n in 5..10 {
            assert_eq!(send(&provider, &relay, &genuine(n)).await, Ack::refused(401));
        }
    };
    futures_util::future::join(flood(400), between).await;

    let kept = relay.quarantine().await;
    for n in 0..10 {
        let digest = genuine(n).sha256();
        assert!(kept.iter().any(|entry| text(entry, "body_sha256") == digest), "evt-{n} of {} is gone", kept.len());
    }
    assert_eq!(refused.into_inner(), 20, "who floods is answered 401 for its share, which is half, and no more");
    assert_eq!(kept.len(), 10 + 20);
    relay.shutdown().await;
}
