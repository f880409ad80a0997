//! Large bodies over the admin API: one after the other, so that memory stays bounded.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::{Ack, Delivery, TOKEN, TestRelay, eventually, signed};

async fn status(relay: &TestRelay, path: &str) -> u16 {
    let answer = relay.client().get(relay.admin_url(path)).bearer_auth(TOKEN).send().await.unwrap();
    let status = answer.status().as_u16();
    answer.bytes().await.unwrap();
    status
}

#[tokio::test]
async fn a_large_body_waits_for_the_one_before_and_a_small_one_does_not() {
    let relay = TestRelay::builder().server("max_body = \"16MiB\"").start().await;
    let data = json!({"orderId": "o-1", "note": "x".repeat(15 << 20)});
    assert_eq!(relay.post(&Delivery::current("large", "payin_completed", data)).await, Ack::FRESH);
    assert_eq!(relay.post(&signed::payin_completed("small")).await, Ack::FRESH);

    // Somebody asks for it, and reads only the beginning.
    let mut slow = TcpStream::connect(relay.admin_url("").trim_start_matches("http://")).await.unwrap();
    let request =
        format!("GET /api/events/1/body HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\r\n");
    slow.write_all(request.as_bytes()).await.unwrap();
    slow.read_exact(&mut [0; 64]).await.unwrap();

    let paths = ["/api/events/1/body", "/api/events/large"];
    let mut waiting: Vec<_> = paths.iter().map(|path| Box::pin(status(&relay, path))).collect();
    for path in ["/api/events/2/body", "/api/events/small", "/api/events", "/api/events/2/body"] {
        tokio::select! {
            small = status(&relay, path) => assert_eq!(small, 200, "{path}"),
            (large, at, _) = futures_util::future::select_all(&mut waiting) => panic!("{}: {large} at once", paths[at]),
        }
    }
    // Until the slow one is gone; on a busy machine their patience may have ended before.
    drop(slow);
    for (first, path) in futures_util::future::join_all(waiting).await.into_iter().zip(paths) {
        assert!([200, 503].contains(&first), "{path}: {first}");
        eventually("the large body", async || match status(&relay, path).await {
            200 => Ok(()),
            other => Err(other),
        })
        .await;
    }
    eventually("health", async || if relay.readyz().await == 200 { Ok(()) } else { Err(()) }).await;
    relay.shutdown().await;
}

#[tokio::test]
async fn a_body_that_retention_has_dropped_is_gone() {
    let settings = crate::operate::with_old_events("[inbox.retention]\nbodies = \"1d\"").await;
    let relay = settings.start().await;
    relay.cli(&["prune"]).await.success();
    assert_eq!(status(&relay, "/api/events/1/body").await, 410);
    let get = async |path: &str| {
        relay.client().get(relay.admin_url(path)).bearer_auth(TOKEN).send().await.unwrap().bytes().await.unwrap()
    };
    assert_eq!(get("/api/events/3/body").await, signed::payin_completed("evt-3").body);
    let shown: Value = serde_json::from_slice(&get("/api/events/1").await).unwrap();
    assert_eq!(shown["events"][0]["body"], json!(null));
    relay.shutdown().await;
}
