//! The admin listener over real sockets.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::*;
use crate::clock::SystemClock;

#[derive(Default)]
struct FakeStatus {
    reasons: Vec<String>,
    refreshed: AtomicUsize,
}

impl Status for FakeStatus {
    fn reasons_not_ready(&self) -> Vec<String> {
        self.reasons.clone()
    }

    fn unavailable_sinks(&self) -> Vec<(SinkName, BuildFailure)> {
        Vec::new()
    }

    fn refresh_metrics(&self) {
        self.refreshed.fetch_add(1, Ordering::SeqCst);
    }

    fn inbox(&self) -> Option<Arc<dyn Inbox>> {
        None
    }

    fn certificate(&self) -> Option<Timestamp> {
        None
    }

    fn reload_failure(&self) -> Option<ReloadFailure> {
        None
    }

    fn sources(&self) -> Vec<SourceFacts> {
        Vec::new()
    }

    fn sinks(&self) -> Vec<SinkFacts> {
        Vec::new()
    }
}

fn start_with(token: Option<&str>, open_metrics: bool, status: &Arc<FakeStatus>) -> Listener {
    // An address of these tests' own, so that no other test can take a port over.
    let listener = TcpListener::bind("127.0.0.3:0").unwrap();
    let listen = listener.local_addr().unwrap();
    let config =
        Config { listen, token: token.map(Token::new), open_metrics, hosts: vec!["relay.internal".to_owned()] };
    let deps = Deps {
        metrics: Arc::new(Metrics::new()),
        status: status.clone(),
        clock: Arc::new(SystemClock),
        inbox: inbox::Config {
            path: "absent".into(),
            quarantine: inbox::QuarantineLimits { max_entries: 1, max_bytes: 1, ..Default::default() },
            dedup_memory: 1 << 20,
            retention: None,
        },
        stop: CancellationToken::new(),
    };
    start(listener, &config, deps).unwrap()
}

/// Status code and everything that was sent.
fn ask(listener: &Listener, request_line: &str, headers: &[&str]) -> (u16, String) {
    let mut socket = TcpStream::connect(listener.addr()).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    socket.write_all(format!("{request_line} HTTP/1.1\r\nConnection: close\r\n{headers}\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    (answer[9..12].parse().unwrap(), answer)
}

const LOCAL: &str = "Host: localhost";

#[test]
fn healthy_while_alive_and_ready_while_there_is_no_reason_not_to_be() {
    let listener = start_with(None, false, &Arc::default());
    assert_eq!(ask(&listener, "GET /healthz", &[LOCAL]).0, 200);
    let (status, answer) = ask(&listener, "GET /readyz", &[LOCAL]);
    assert_eq!(status, 200);
    assert!(answer.ends_with(r#"{"ready":true}"#), "{answer}");

    let troubled = Arc::new(FakeStatus { reasons: vec!["the disk is full".to_owned()], ..FakeStatus::default() });
    let listener = start_with(None, false, &troubled);
    assert_eq!(ask(&listener, "GET /healthz", &[LOCAL]).0, 200);
    let (status, answer) = ask(&listener, "GET /readyz", &[LOCAL]);
    assert_eq!(status, 503);
    assert!(answer.ends_with(r#"{"ready":false,"reasons":["the disk is full"]}"#), "{answer}");
}

#[test]
fn metrics_need_the_token_and_are_refreshed_first() {
    let status = Arc::new(FakeStatus::default());
    let listener = start_with(Some("s3cret"), false, &status);
    for wrong in ["X-No: token", "Authorization: Bearer wrong", "Authorization: Basic s3cret", "Authorization: s3cret"]
    {
        let (code, answer) = ask(&listener, "GET /metrics", &[LOCAL, wrong]);
        assert_eq!(code, 401, "{wrong}");
        assert!(
            answer.to_ascii_lowercase().contains("www-authenticate: bearer") && !answer.contains("s3cret"),
            "{answer}"
        );
    }
    assert_eq!(status.refreshed.load(Ordering::SeqCst), 0);
    let (code, answer) = ask(&listener, "GET /metrics", &[LOCAL, "authorization: bearer s3cret"]);
    assert_eq!(code, 200);
    assert!(answer.contains("ralio_relay_build_info{"), "{answer}");
    assert_eq!(status.refreshed.load(Ordering::SeqCst), 1);
}

#[test]
fn without_a_token_metrics_are_refused_unless_they_are_open() {
    let (code, answer) = ask(&start_with(None, false, &Arc::default()), "GET /metrics", &[LOCAL]);
    assert_eq!(code, 403);
    assert!(answer.contains("admin.token") && answer.contains("admin.open_metrics"), "{answer}");
    assert_eq!(ask(&start_with(None, true, &Arc::default()), "GET /metrics", &[LOCAL]).0, 200);
    assert_eq!(ask(&start_with(Some("s3cret"), true, &Arc::default()), "GET /metrics", &[LOCAL]).0, 200);
}

/// A name that is not listed may be anybody's who owns a name; an address may not.
#[test]
fn a_foreign_host_is_refused() {
    let listener = start_with(None, true, &Arc::default());
    let foreign = [
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "evil.example:8081",
        "evil.example@localhost:",
        "relay.internal.evil.example",
        "127.0.0.1, evil.example",
        "0x7f000001.evil.example",
        "[::1]evil.example",
        "",
    ];
    for host in foreign {
        for path in ["/healthz", "/readyz", "/metrics", "/"] {
            assert_eq!(ask(&listener, &format!("GET {path}"), &[&format!("Host: {host}")]).0, 403, "{host}{path}");
        }
    }
    let port = listener.addr().port();
    let by_address = format!("127.0.0.3:{port}");
    for ours in
        [&*by_address, "localhost", "LocalHost:1", "[::1]:8081", "10.0.0.1", "relay.internal", "Relay.Internal:81"]
    {
        assert_eq!(ask(&listener, "GET /healthz", &[&format!("Host: {ours}")]).0, 200, "{ours}");
    }
}

/// The bearer token guards what a page could read; this guards what needs none.
#[test]
fn a_page_of_another_site_is_refused() {
    let listener = start_with(Some("s3cret"), true, &Arc::default());
    let host = "Host: localhost:8081";
    for origin in [
        "http://evil.example",
        "http://localhost",
        "http://localhost:8082",
        "null",
        "",
        "localhost:8081",
        "http://127.0.0.1:8081",
    ] {
        for path in ["/healthz", "/metrics"] {
            let headers = [host, "Authorization: Bearer s3cret", &format!("Origin: {origin}")];
            let (status, answer) = ask(&listener, &format!("GET {path}"), &headers);
            assert!(status == 403 && answer.contains("wrong_origin"), "{origin:?}{path}: {answer}");
        }
    }
    let both = [host, "Origin: http://localhost:8081", "Origin: http://evil.example"];
    assert_eq!(ask(&listener, "GET /metrics", &both).0, 403);
    for ours in ["http://localhost:8081", "https://LOCALHOST:8081"] {
        assert_eq!(ask(&listener, "GET /metrics", &[host, &format!("Origin: {ours}")]).0, 200, "{ours}");
    }
}

#[test]
fn there_is_nothing_else() {
    let listener = start_with(Some("s3cret"), true, &Arc::default());
    for path in ["/page", "/metrics/", "/healthz/x", "/webhooks/ralio", "/debug"] {
        assert_eq!(ask(&listener, &format!("GET {path}"), &[LOCAL]).0, 404, "{path}");
    }
    assert_eq!(ask(&listener, "POST /metrics", &[LOCAL]).0, 405);
    assert_eq!(ask(&listener, "HEAD /healthz", &[LOCAL]).0, 200);
}

#[tokio::test]
async fn stops_with_an_idle_connection_open() {
    let listener = start_with(None, false, &Arc::default());
    let addr = listener.addr();
    let mut idle = TcpStream::connect(addr).unwrap();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut first = [0; 12];
    idle.read_exact(&mut first).unwrap();
    tokio::time::timeout(Duration::from_secs(10), listener.stop(Duration::from_secs(60))).await.unwrap();
    idle.read_to_end(&mut Vec::new()).unwrap();
    assert!(TcpStream::connect(addr).is_err());
}

/// A connection stays only for who has the token: anybody else would keep others from asking for health.
#[test]
fn only_who_has_the_token_keeps_a_connection() {
    let listener = start_with(Some("s3cret"), false, &Arc::default());
    for (path, header, stays) in [
        ("/healthz", "Authorization: Bearer s3cret", true),
        ("/metrics", "Authorization: Bearer s3cret", true),
        ("/healthz", "X-No: token", false),
        ("/readyz", "Authorization: Bearer wrong", false),
        ("/metrics", "X-No: token", false),
        ("/", "X-No: token", false),
    ] {
        let mut socket = TcpStream::connect(listener.addr()).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        socket.write_all(format!("GET {path} HTTP/1.1\r\n{LOCAL}\r\n{header}\r\n\r\n").as_bytes()).unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            socket.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
        assert_eq!(!head.contains("connection: close"), stays, "{path} {header}: {head}");
        if !stays {
            socket.read_to_end(&mut Vec::new()).unwrap();
        }
    }
}
