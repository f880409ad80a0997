//! What an operator and the machinery around the daemon see of it.

use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixDatagram;

use crate::harness::fake_http::{Answer, FakeHttp};
use crate::harness::raw::{Raw, head};
use crate::harness::{Ack, DEADLINE, TOKEN, TestRelay, eventually, metrics, signed};

#[tokio::test]
async fn every_metric_is_there_under_its_name() {
    let relay = TestRelay::with_file_sink("out").start().await;
    relay.post(&signed::payin_completed("evt-1")).await;
    relay.post(&signed::payin_completed("evt-1")).await;
    relay.settled().await;
    // File sizes are looked at now and then.
    let text = eventually("the inbox's size", async || match relay.metrics().await {
        text if metrics::sum(&text, "inbox_bytes", &[]) > 0 => Ok(text),
        text => Err(text),
    })
    .await;
    let labelled: [(&str, &[&str]); 9] = [
        ("requests_total", &["source", "outcome"]),
        ("events_total", &["source", "category"]),
        ("duplicates_total", &["source", "kind"]),
        ("sink_attempts_total", &["sink", "outcome"]),
        ("sink_lag_events", &["sink"]),
        ("sink_lag_seconds", &["sink"]),
        ("sink_parked", &["sink"]),
        ("dead_letters", &["sink"]),
        ("secret_used_total", &["source", "slot"]),
    ];
    for (name, labels) in labelled {
        let start = format!("ralio_relay_{name}{{");
        let series =
            text.lines().find(|line| line.starts_with(&start)).unwrap_or_else(|| panic!("no {name} in\n{text}"));
        for label in labels {
            assert!(series.contains(&format!("{label}=\"")), "{series}");
        }
    }
    let plain = ["inbox_bytes", "wal_bytes", "quarantine_entries", "tls_cert_expiry_seconds", "build_info"];
    let histograms = ["inbox_commit_seconds_count", "inbox_batch_events_count", "ack_seconds_count"];
    for name in plain.into_iter().chain(histograms).chain(["sink_delivery_seconds_count"]) {
        assert!(!metrics::values(&text, name, &[]).is_empty(), "no {name} in\n{text}");
    }
    assert_eq!(metrics::values(&text, "events_total", &[("source", "test"), ("category", "payin")]), [1]);
    assert!(metrics::sum(&text, "tls_cert_expiry_seconds", &[]) > 0);
    relay.shutdown().await;
}

#[tokio::test]
async fn health_needs_no_token_and_metrics_do() {
    let relay = TestRelay::builder().start().await;
    let get = async |path: &str, token: Option<&str>| {
        let request = relay.client().get(relay.admin_url(path));
        let request = token.into_iter().fold(request, |request, token| request.bearer_auth(token));
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(get("/healthz", None).await, 200);
    assert_eq!(get("/readyz", None).await, 200);
    assert_eq!(get("/metrics", None).await, 401);
    assert_eq!(get("/metrics", Some("a guess")).await, 401);
    assert_eq!(get("/nothing", None).await, 404);
    relay.metrics().await;
    relay.shutdown().await;
}

/// What collects the log gets the reason of the end too, and in the same format.
#[tokio::test]
async fn a_start_that_fails_is_told_in_the_log() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let builder = TestRelay::builder().env("RALIO_RELAY__SERVER__LISTEN", &address).expect_errors();
    builder.write_config();
    let mut process = builder.spawn();
    assert_eq!(process.end().await.code(), Some(1));
    let error: Value = eventually("the reason", async || {
        let log = process.stderr.all();
        let read = |line: &String| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        log.iter().map(read).find(|line: &Value| line["level"] == "ERROR").ok_or(log)
    })
    .await;
    assert!(error["error"].as_str().unwrap().contains(&address), "{error}");
}

#[tokio::test]
async fn metrics_can_be_opened() {
    let builder = TestRelay::builder();
    builder.write_config();
    let relay = builder.env("RALIO_RELAY__ADMIN__OPEN_METRICS", "true").start().await;
    let open = relay.client().get(relay.admin_url("/metrics")).send().await.unwrap();
    assert_eq!(open.status(), 200);
    assert!(open.headers()["content-type"].to_str().unwrap().starts_with("text/plain"));
    relay.shutdown().await;
}

#[tokio::test]
async fn sigterm_answers_the_request_in_flight_and_exits_with_0() {
    let mut relay = TestRelay::with_file_sink("out").start().await;
    let delivery = signed::payin_completed("evt-1");
    let length = format!("Content-Length: {}\r\nExpect: 100-continue\r\n", delivery.body.len());
    let mut connection = Raw::connect(&relay).await;
    connection.write(head(&delivery, &length)).await;
    connection.read_until("100 Continue").await;
    relay.sigterm();
    eventually("unreadiness", async || match relay.readyz().await {
        200 => Err(200),
        _ => Ok(()),
    })
    .await;
    connection.write(&delivery.body).await;
    let answer = connection.read_to_close().await;
    let stored = answer.contains("HTTP/1.1 200");
    assert!(stored || answer.contains("HTTP/1.1 503"), "{answer:?}");
    assert_eq!(relay.process().end().await.code(), Some(0));

    let relay = relay.kill9().start().await;
    let again = if stored { Ack::DUPLICATE } else { Ack::FRESH };
    assert_eq!(relay.post(&delivery).await, again, "{answer}");
    relay.settled().await;
    assert_eq!(relay.lines("out").len(), 1);
    relay.shutdown().await;
}

/// How long the relay takes to end, whatever its exit code.
async fn time_to_end(relay: &mut TestRelay) -> Duration {
    let asked = Instant::now();
    relay.process().end().await;
    asked.elapsed()
}

#[tokio::test]
async fn a_sink_that_never_answers_does_not_outlast_the_drain_deadline() {
    let app = FakeHttp::answering([Answer::Hang]).await;
    let relay = TestRelay::with_sink("app", &app).server("drain_timeout = \"1s\"").expect_parked().expect_errors();
    let mut relay = relay.start().await;
    relay.post(&signed::payin_completed("evt-1")).await;
    app.requests_reach(1).await;
    relay.sigterm();
    let took = time_to_end(&mut relay).await;
    assert!((Duration::from_millis(700)..Duration::from_secs(4)).contains(&took), "{took:?}");
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let app = FakeHttp::answering([Answer::Hang]).await;
    let relay = TestRelay::with_sink("app", &app).server("drain_timeout = \"25s\"").expect_parked().expect_errors();
    let mut relay = relay.start().await;
    relay.post(&signed::payin_completed("evt-1")).await;
    app.requests_reach(1).await;
    relay.sigterm();
    eventually("unreadiness", async || match relay.readyz().await {
        200 => Err(200),
        _ => Ok(()),
    })
    .await;
    relay.sigterm();
    let took = time_to_end(&mut relay).await;
    assert!(took < Duration::from_secs(3), "{took:?}");
}

#[tokio::test]
async fn a_signal_is_heard_while_the_inbox_is_being_opened() {
    let relay = TestRelay::builder().start().await;
    relay.post(&signed::payin_completed("evt-1")).await;
    let settings = relay.kill9();
    // Somebody's snapshot keeps the write-ahead log from being written back.
    let reader = rusqlite::Connection::open(settings.inbox()).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM events").unwrap();
    let mut relay = settings.launch().await;
    assert_eq!(relay.readyz().await, 503);
    relay.sigterm();
    let took = time_to_end(&mut relay).await;
    assert!(took < Duration::from_secs(3), "{took:?}");
    drop(reader);
    let relay = relay.kill9().start().await;
    assert_eq!(relay.post(&signed::payin_completed("evt-1")).await, Ack::DUPLICATE);
    relay.shutdown().await;
}

#[tokio::test]
async fn systemd_is_told_when_it_is_ready_reads_again_and_stops() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    let relay = TestRelay::builder().env("NOTIFY_SOCKET", path.to_str().unwrap()).start().await;
    let told = async |word: &str| {
        let mut buffer = [0; 1024];
        loop {
            let length = tokio::time::timeout(DEADLINE, socket.recv(&mut buffer)).await.expect(word).unwrap();
            if String::from_utf8_lossy(&buffer[..length]).lines().any(|line| line == word) {
                break;
            }
        }
    };
    told("READY=1").await;
    relay.sighup();
    told("RELOADING=1").await;
    told("READY=1").await;
    relay.shutdown().await;
    told("STOPPING=1").await;
}

#[tokio::test]
async fn log_lines_are_json_with_ids() {
    let relay = TestRelay::with_file_sink("out").start().await;
    relay.post(&signed::payin_completed("evt-1")).await;
    relay.post(&signed::payin_completed("evt-2").signed_with("forged")).await;
    relay.settled().await;
    let log = relay.log();
    assert!(!log.is_empty());
    for line in &log {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        assert!(line["level"].is_string() && line["timestamp"].is_string(), "{line}");
    }
    assert!(log.iter().any(|line| line.contains("mismatch")), "the refusal is told once: {log:#?}");
    relay.shutdown().await;
}

#[tokio::test]
async fn a_port_in_use_is_told_at_once() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let builder = TestRelay::builder().env("RALIO_RELAY__ADMIN__LISTEN", &taken.local_addr().unwrap().to_string());
    let mut process = builder.spawn();
    let status = tokio::time::timeout(Duration::from_secs(30), process.end()).await.expect("it gives up");
    assert_eq!(status.code(), Some(1));
    let port = taken.local_addr().unwrap().port().to_string();
    assert!(process.stderr.all().join("\n").contains(&port), "{:?}", process.stderr.all());
}

/// Were it closed after some seconds of silence, a scraper that asks as often would meet the close every now and then, and
/// miss a scrape.
#[tokio::test]
async fn a_scrapers_connection_lasts_from_one_scrape_to_the_next() {
    let relay = TestRelay::builder().start().await;
    let address = relay.admin_url("").trim_start_matches("http://").to_owned();
    let mut scraper = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\r\n");
    scraper.write_all(request.as_bytes()).await.unwrap();
    let mut answer = [0; 4096];
    assert!(scraper.read(&mut answer).await.unwrap() > 0);
    let closed = tokio::time::timeout(Duration::from_secs(7), scraper.read(&mut answer)).await;
    assert!(closed.is_err(), "closed: {closed:?}");
    relay.shutdown().await;
}
