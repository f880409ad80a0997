//! A flood of forged deliveries through a proxy. All of them have the proxy's address, so the quarantine is soon full, and
//! its 503s must not take the relay out of rotation.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures_util::StreamExt as _;

use crate::deploy::proxy::{Kind, Proxy};
use crate::deploy::read;
use crate::harness::{Ack, Campaign, TestRelay, signed};

#[tokio::test]
async fn forgeries_through_a_proxy_cost_genuine_deliveries_nothing() {
    flood(Campaign::brief("2,000 forgeries through a proxy", 1), 2000).await;
}

#[tokio::test]
#[ignore = "a part of tests/campaign"]
async fn campaign_forgeries_through_a_proxy() {
    flood(Campaign::whole("20,000 forgeries through nginx, and through Caddy", 1), 20_000).await;
}

async fn flood(mut campaign: Campaign, forgeries: u64) {
    while campaign.round().is_some() {
        for kind in Kind::ALL {
            let settings = TestRelay::builder().plaintext().env("RALIO_RELAY__INBOX__QUARANTINE__MAX_ENTRIES", "500");
            let relay = settings.expect_errors().start().await;
            let upstream = relay.url("").trim_start_matches("http://").to_owned();
            let Some(proxy) = Proxy::start(kind, &upstream).await else { continue };
            let (is_over, refused, again) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
            let forged = async {
                let requests = (0..forgeries).map(|n| {
                    let forged = signed::payin_completed(&format!("forged-{n}")).signed_with("a guess");
                    let (proxy, refused, again) = (&proxy, &refused, &again);
                    async move {
                        let answer = proxy.send(&forged).await.unwrap();
                        let status = answer.status().as_u16();
                        let counter = if status == 401 { refused } else { again };
                        counter.fetch_add(1, Ordering::Relaxed);
                        let text = answer.text().await.unwrap();
                        // The relay's own answer, and not the proxy's.
                        let expected = if status == 401 { "\"bad_signature\"" } else { "\"bad_signature_not_kept\"" };
                        assert!(text.contains(expected), "{kind:?}: {status} {text}");
                    }
                });
                futures_util::stream::iter(requests).buffer_unordered(16).collect::<Vec<()>>().await;
                is_over.store(true, Ordering::Relaxed);
            };
            let genuine = async {
                let mut sent = 0;
                while !is_over.load(Ordering::Relaxed) {
                    let delivery = signed::payin_completed(&format!("evt-{sent}"));
                    assert_eq!(proxy.post(&delivery).await, Ack::FRESH, "{kind:?}: the {sent}th");
                    sent += 1;
                }
                sent
            };
            let ((), sent) = futures_util::future::join(forged, genuine).await;
            assert_eq!(
                (refused.into_inner(), again.into_inner()),
                (250, forgeries - 250),
                "{kind:?}: its share, and no more"
            );
            assert_eq!(relay.readyz().await, 200);
            assert!(sent > 0);
            assert_eq!(relay.events().await.len(), sent);
            campaign.count("forgeries", forgeries);
            campaign.count("genuine meanwhile, each 200", sent as u64);
            relay.shutdown().await;
        }
    }
}

/// What is shipped judges the relay by `/readyz`, and by no answer to a delivery.
#[test]
fn nothing_shipped_judges_the_relay_by_its_answers() {
    let without_comments = |file: &str| {
        let text = read(file);
        let lines = text.lines().map(|line| line.split_once('#').map_or(line, |(code, _)| code));
        lines.collect::<Vec<_>>().join("\n")
    };
    let nginx = without_comments(Kind::Nginx.file());
    assert!(nginx.contains("server 127.0.0.1:8443 max_fails=0;"), "{nginx}");
    assert!(nginx.contains("proxy_next_upstream error timeout;"), "{nginx}");
    let caddy = without_comments(Kind::Caddy.file());
    for word in ["fail_duration", "unhealthy", "lb_try", "lb_retries", "health_status"] {
        assert!(!caddy.contains(word), "{word} in {caddy}");
    }
    for file in ["deploy/kubernetes/deployment.yaml", "deploy/kubernetes/sidecar.yaml"] {
        let text = without_comments(file);
        let probe = text.split_once("readinessProbe:").unwrap_or_else(|| panic!("{file}")).1;
        assert!(probe.lines().take(3).any(|line| line.contains("/readyz")), "{file}: {probe}");
    }
}
