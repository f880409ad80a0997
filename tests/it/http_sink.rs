//! The HTTP sink and where it goes: certificates of one's own, HTTP/2, connections, and addresses that are not public.

use std::path::Path;
use std::time::Duration;

use hyper::Version;
use ralio_relay::model::{Outcome, Outgoing, Reason};
use ralio_relay::sink::Tls;
use ralio_relay::sink::http::{self, Http};
use ralio_relay::sink::{Format, Sink as _};
use serde_json::Value;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::harness::fake_http::{Answer, FakeHttp};
use crate::harness::pki::Pki;
use crate::harness::{Ack, Builder, Delivery, TestRelay, eventually, run, signed, text};
use crate::sink_contract::{deliver, event};

const BOTH: [&str; 2] = ["h2", "http/1.1"];

fn config(url: &str, tls: Tls) -> http::Config {
    let url = url.parse().unwrap();
    http::Config { url, headers: Vec::new(), signing_secret: None, allow_private: true, tls }
}

fn sink(app: &FakeHttp, tls: Tls) -> Http {
    Http::new(&config(&app.url(), tls), Format::Raw).unwrap()
}

/// Why nothing was delivered, for now.
async fn reason(sink: &Http) -> Reason {
    match deliver(sink, &event(1, b"{}")).await {
        Outcome::Transient { reason, .. } => reason,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn assert_says(reason: &Reason, parts: &[&str]) {
    for part in parts {
        assert!(reason.as_str().contains(part), "`{part}` is not in `{reason}`");
    }
}

/// The server's refusal may overtake the request, and then only the closed connection is seen.
async fn eventually_says(sink: &Http, parts: &[&str]) {
    eventually("the server's own reason", async || {
        let reason = reason(sink).await;
        assert_says(&reason, &["client_cert"]);
        if parts.iter().all(|part| reason.as_str().contains(part)) { Ok(()) } else { Err(reason) }
    })
    .await;
}

/// What both sides can speak is spoken, and many deliveries need one connection.
#[tokio::test]
async fn one_connection_and_the_best_protocol() {
    let pki = Pki::new();
    let tls = async |protocols: &[&str]| FakeHttp::over_tls(pki.server(protocols, None), [202]).await;
    for (app, version) in [
        (FakeHttp::answering([202]).await, Version::HTTP_11),
        (tls(&["http/1.1"]).await, Version::HTTP_11),
        (tls(&[]).await, Version::HTTP_11),
        (tls(&BOTH).await, Version::HTTP_2),
    ] {
        let sink = sink(&app, if app.url().starts_with("https") { pki.trusted() } else { Tls::default() });
        for n in 1..=50 {
            assert_eq!(deliver(&sink, &event(n, b"{}")).await, Outcome::delivered("HTTP 202"));
        }
        let requests = app.requests();
        assert_eq!(requests.len(), 50);
        assert!(requests.iter().all(|request| request.version == version), "{:?}", requests[0]);
        assert_eq!(app.connections(), 1, "{version:?}");
    }
}

/// RFC 9110, section 8.6: a POST without a body says so, whichever protocol is spoken.
#[tokio::test]
async fn an_empty_body_has_a_length_and_a_packed_one_its_encoding() {
    let pki = Pki::new();
    for app in [FakeHttp::answering([202]).await, FakeHttp::over_tls(pki.server(&BOTH, None), [202]).await] {
        let sink = sink(&app, if app.url().starts_with("https") { pki.trusted() } else { Tls::default() });
        let packed = Outgoing { content_encoding: Some("gzip".to_owned()), ..event(2, b"\x1f\x8b") };
        for event in [event(1, b""), packed, event(3, b"{}")] {
            assert_eq!(deliver(&sink, &event).await, Outcome::delivered("HTTP 202"));
        }
        let requests = app.requests();
        let header = |n: usize, name: &str| requests[n].headers.get(name).map(|value| value.to_str().unwrap());
        assert_eq!([0, 1, 2].map(|n| header(n, "content-length")), [Some("0"), Some("2"), Some("2")]);
        assert_eq!([0, 1, 2].map(|n| header(n, "content-encoding")), [None, Some("gzip"), None]);
        assert_eq!(header(1, "ce-ralioencoding"), Some("gzip"));
    }
}

/// A connection that the server closed between two deliveries costs neither of them.
#[tokio::test]
async fn a_server_that_comes_back_is_connected_to_again() {
    let pki = Pki::new();
    let mut app = FakeHttp::over_tls(pki.server(&BOTH, None), [200]).await;
    let sink = sink(&app, pki.trusted());
    for n in 1..=3 {
        assert_eq!(deliver(&sink, &event(n, b"{}")).await, Outcome::delivered("HTTP 200"));
        app.stop().await;
        assert_says(&reason(&sink).await, &["refused"]);
        app.start().await;
    }
    assert_eq!(app.connections(), 3);
}

#[tokio::test]
async fn whom_to_trust_and_who_to_be() {
    let (pki, other) = (Pki::new(), Pki::new());
    let app = FakeHttp::over_tls(pki.server(&BOTH, Some(&pki)), [200]).await;
    let good = sink(&app, pki.mutual());
    assert_eq!(deliver(&good, &event(1, b"{}")).await, Outcome::delivered("HTTP 200"));
    assert_eq!(good.probe().await, Ok(None));
    assert_eq!(app.requests().len(), 2);

    // The machine's own CAs know nothing of the test's: `ca` is what made it good. A build machine may have none at all.
    if let Ok(machine) = Http::new(&config(&app.url(), Tls { ca: None, ..pki.mutual() }), Format::Raw) {
        assert_says(&reason(&machine).await, &["TLS", "no CA that is trusted here", "ca"]);
    }
    let wrong_ca = sink(&app, Tls { ca: other.trusted().ca, ..pki.mutual() });
    assert_says(&reason(&wrong_ca).await, &["no CA that is trusted here", "UnknownIssuer"]);
    assert!(wrong_ca.probe().await.unwrap_err().contains("UnknownIssuer"));

    // Each protocol has its own way of passing the server's alert on.
    let older = FakeHttp::over_tls(pki.server(&["http/1.1"], Some(&pki)), [200]).await;
    for app in [&app, &older] {
        let nobody = sink(app, pki.trusted());
        eventually_says(&nobody, &["wants a client certificate", "client_cert", "CertificateRequired"]).await;
        let stranger = sink(app, Tls { client: other.mutual().client, ..pki.trusted() });
        eventually_says(&stranger, &["does not accept", "client_cert"]).await;
    }
    assert!(older.requests().is_empty());

    // The certificate is for the IPv4 address.
    let url = app.url().replace("127.0.0.1", "[::ffff:127.0.0.1]");
    let misnamed = Http::new(&config(&url, pki.trusted()), Format::Raw).unwrap();
    assert_says(&reason(&misnamed).await, &["for another name"]);
    assert_eq!(app.requests().len(), 2, "nobody else got in");
}

/// The time to connect has a bound of its own, handshake included: here nobody ever speaks.
#[tokio::test]
async fn a_server_that_does_not_finish_the_handshake_is_given_up() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/", silent.local_addr().unwrap());
    let sink = Http::new(&config(&url, Pki::new().trusted()), Format::Raw).unwrap();
    assert_says(&reason(&sink).await, &["cannot connect to 127.0.0.1:", "no connection within 5 s"]);
}

/// Many deliveries share an HTTP/2 connection, so one on which nothing arrives any more must not be kept.
#[tokio::test]
async fn a_dead_http2_connection_is_replaced() {
    let pki = Pki::new();
    let app = FakeHttp::over_tls(pki.server(&BOTH, None), [200]).await;
    let target = app.url().split('/').nth(2).unwrap().to_owned();
    let between = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/", between.local_addr().unwrap());
    let sink = Http::new(&config(&url, pki.trusted()), Format::Raw).unwrap();
    let frozen = CancellationToken::new();
    let mut network = JoinSet::new();
    let cut = frozen.clone();
    network.spawn(async move {
        let (mut dead, _) = between.accept().await.unwrap();
        let mut far = TcpStream::connect(&target).await.unwrap();
        // From the cut on both ends stay open, and nothing passes.
        let _ = cut.run_until_cancelled(copy_bidirectional(&mut dead, &mut far)).await;
        let (mut near, _) = between.accept().await.unwrap();
        let mut far = TcpStream::connect(&target).await.unwrap();
        let _ = copy_bidirectional(&mut near, &mut far).await;
    });
    assert_eq!(deliver(&sink, &event(1, b"{}")).await, Outcome::delivered("HTTP 200"));
    frozen.cancel();
    // As the consumer does: it does not wait for ever.
    let given_up = tokio::time::timeout(Duration::from_millis(100), sink.deliver(&event(2, b"{}"))).await;
    assert!(given_up.is_err());
    assert_says(&reason(&sink).await, &["keep-alive timed out"]);
    assert_eq!(deliver(&sink, &event(2, b"{}")).await, Outcome::delivered("HTTP 200"));
    assert_eq!(app.connections(), 2);
}

/// Ways to write an address that is not public, most of them of the loopback interface, where a server listens.
const PRIVATE: [&str; 44] = [
    "127.0.0.1",
    "127.1",
    "127.0.1",
    "127.0.0.1.",
    "127.255.255.254",
    "2130706433",
    "0x7f000001",
    "0x7f.1",
    "0x7F.0x0.0x0.0x1",
    "0177.0.0.1",
    "017700000001",
    "%31%32%37.0.0.1",
    "%6cocalhost",
    "１２７.0.0.1",
    "127。0。0。1",
    "localhost",
    "LOCALHOST",
    "LocalHost",
    "user:word@127.0.0.1",
    "example.com@localhost",
    "example.com%2f@127.0.0.1",
    "0",
    "0x0",
    "0.0.0.0",
    "[::]",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::127.0.0.1]",
    "[::ffff:0:127.0.0.1]",
    "[64:ff9b::127.0.0.1]",
    "[64:ff9b:1::7f00:1]",
    "[2002:7f00:1::]",
    "[2001:0:7f00:1::]",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "0xa9fea9fe",
    "100.64.0.1",
    "[fe80::1]",
    "[fd00:ec2::254]",
    "224.0.0.1",
];

/// By address and by name, delivery and probe: no connection is even tried.
#[tokio::test]
async fn private_addresses_are_refused_when_connecting() {
    let pki = Pki::new();
    let plain = FakeHttp::answering([200]).await;
    let secure = FakeHttp::over_tls(pki.server(&BOTH, None), [200]).await;
    let refused = |url: &str, tls: Tls| {
        let config = http::Config { allow_private: false, ..config(url, tls) };
        Http::new(&config, Format::Raw).unwrap()
    };
    let port = plain.url().rsplit(':').next().unwrap().to_owned();
    for url in PRIVATE.map(|host| format!("http://{host}:{port}")) {
        let sink = refused(&url, Tls::default());
        let reason = reason(&sink).await;
        assert!(reason.as_str().contains("is not public"), "{url}: {reason}");
        assert_says(&reason, &["sinks.http.allow_private"]);
        assert!(sink.probe().await.unwrap_err().contains("allow_private"), "{url}");
    }
    let sink = refused(&secure.url().replace("127.0.0.1", "localhost"), pki.trusted());
    assert_says(&reason(&sink).await, &["(loopback", "sinks.http.allow_private"]);
    assert_eq!((plain.connections(), secure.connections()), (0, 0));

    let allowed = Http::new(&config(&plain.url().replace("127.0.0.1", "localhost"), Tls::default()), Format::Raw);
    assert_eq!(deliver(&allowed.unwrap(), &event(1, b"{}")).await, Outcome::delivered("HTTP 200"));
}

/// Whatever the kind of redirect and wherever it leads: the answer is one to wait after, and nobody goes there.
#[tokio::test]
async fn no_redirect_is_followed() {
    let elsewhere = FakeHttp::answering([200]).await;
    let port = elsewhere.url().rsplit(':').next().unwrap().to_owned();
    let relative = format!("//127.0.0.1:{port}");
    for status in (300..=308).chain([399]) {
        for location in [elsewhere.url(), relative.clone(), "/else".to_owned(), "file:///etc/passwd".to_owned()] {
            let refresh = ("refresh", format!("0; url={}", elsewhere.url()));
            let app = FakeHttp::answering([Answer::Status(status, vec![("location", location), refresh])]).await;
            let sink = sink(&app, Tls::default());
            let reason = reason(&sink).await;
            assert!(reason.as_str().starts_with(&format!("HTTP {status}")), "{reason}");
            let paths: Vec<String> = app.requests().into_iter().map(|request| request.path).collect();
            assert_eq!(paths, ["/hook"], "{status}");
        }
    }
    assert_eq!(elsewhere.connections(), 0);
}

/// The only sink, `app`, with these keys in `[sinks.http]`.
fn with_app(builder: Builder, url: &str, keys: &str) -> Builder {
    builder.sink("app", "http", &format!("[sinks.http]\nurl = {url:?}\n{keys}"))
}

fn certificates(pki: &Pki) -> String {
    let [ca, cert, key] = ["ca.crt", "client.crt", "client.key"].map(|name| pki.file(name));
    format!("ca = {ca:?}\nclient_cert = {cert:?}\nclient_key = {key:?}")
}

async fn attempts(relay: &TestRelay, id: &str) -> Vec<Value> {
    relay.event(id).await["attempts"].as_array().unwrap().clone()
}

/// The daemon, the check before it, and what it shows of its settings.
#[tokio::test]
async fn a_private_ca_a_client_certificate_and_http2() {
    let pki = Pki::new();
    let app = FakeHttp::over_tls(pki.server(&BOTH, Some(&pki)), [202]).await;
    let relay = with_app(TestRelay::builder(), &app.url(), &certificates(&pki)).start().await;
    let deliveries: Vec<Delivery> = (0..20).map(|n| signed::payin_completed(&format!("evt-{n}"))).collect();
    for delivery in &deliveries {
        assert_eq!(relay.post(delivery).await, Ack::FRESH);
        // One after the other, so that one connection is enough.
        relay.settled().await;
    }
    let accepted = app.accepted();
    let bodies: Vec<_> = accepted.iter().map(|request| request.body.clone()).collect();
    assert_eq!(bodies, deliveries.iter().map(|delivery| delivery.body.clone()).collect::<Vec<_>>());
    assert!(accepted.iter().all(|request| request.version == Version::HTTP_2));
    assert_eq!(app.connections(), 1);
    let [attempt] = &attempts(&relay, "evt-7").await[..] else { panic!("not one attempt") };
    assert_eq!((text(attempt, "outcome"), text(attempt, "note")), ("delivered", "HTTP 202"));

    let probed = relay.cli(&["check", "--probe"]).await.success().stdout;
    assert!(probed.contains("sink app: can be reached"), "{probed}");
    let shown = relay.cli(&["config", "show"]).await.success().stdout;
    for part in ["allow_private = true  # default", "/ca.crt\"", "/client.crt\"", "/client.key\""] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    relay.shutdown().await;
}

/// The reason names the remedy; once that is in the configuration, what waited is delivered.
#[tokio::test]
async fn without_its_certificate_everything_waits() {
    let pki = Pki::new();
    let app = FakeHttp::over_tls(pki.server(&BOTH, Some(&pki)), [200]).await;
    let builder = TestRelay::builder();
    let ca = format!("ca = {:?}", pki.file("ca.crt"));
    let relay = with_app(builder.clone(), &app.url(), &ca).expect_parked().start().await;
    let delivery = signed::payin_completed("evt-1");
    relay.post(&delivery).await;
    relay.reaches(1, "sink_parked", &[("sink", "app")]).await;
    let first = attempts(&relay, "evt-1").await.remove(0);
    assert_eq!(text(&first, "outcome"), "transient");
    assert!(text(&first, "note").contains("client_cert"), "{first}");
    let probed = relay.cli(&["check", "--probe"]).await.code(1).stdout;
    assert!(probed.contains("client_cert"), "{probed}");
    relay.shutdown().await;

    let relay = with_app(builder, &app.url(), &certificates(&pki)).start().await;
    relay.settled().await;
    assert_eq!(app.accepted_bodies(), [delivery.body]);
    relay.shutdown().await;
}

/// Nothing is buried: the reason names the key, and with the key put right the event arrives.
#[tokio::test]
async fn a_private_address_is_a_reason_to_wait() {
    let app = FakeHttp::answering([200]).await;
    let url = app.url().replace("127.0.0.1", "localhost");
    let builder = TestRelay::builder();
    let relay = with_app(builder.clone(), &url, "allow_private = false").expect_parked().start().await;
    let delivery = signed::payin_completed("evt-1");
    relay.post(&delivery).await;
    eventually("a second attempt", async || match attempts(&relay, "evt-1").await {
        attempts if attempts.len() > 1 => Ok(()),
        attempts => Err(attempts),
    })
    .await;
    for attempt in attempts(&relay, "evt-1").await {
        assert_eq!(text(&attempt, "outcome"), "transient");
        for part in ["1 is not public (loopback", "sinks.http.allow_private"] {
            assert!(text(&attempt, "note").contains(part), "{part} in {attempt}");
        }
    }
    let probed = relay.cli(&["check", "--probe"]).await.code(1).stdout;
    assert!(probed.contains("sink app") && probed.contains("sinks.http.allow_private"), "{probed}");
    assert_eq!(app.connections(), 0);
    relay.shutdown().await;

    let relay = with_app(builder, &url, "").start().await;
    relay.settled().await;
    assert_eq!(app.accepted_bodies(), [delivery.body]);
    relay.shutdown().await;
}

/// A refusal that a person can mend says how; the answer's redirect leads nowhere.
#[tokio::test]
async fn an_answer_that_a_person_can_mend_says_how() {
    let elsewhere = FakeHttp::answering([200]).await;
    let moved = Answer::Status(308, vec![("location", elsewhere.url())]);
    let app = FakeHttp::answering([401.into(), moved, 202.into()]).await;
    let relay = with_app(TestRelay::builder(), &app.url(), "").start().await;
    relay.post(&signed::payin_completed("evt-1")).await;
    relay.settled().await;
    let notes = attempts(&relay, "evt-1").await;
    let notes: Vec<_> = notes.iter().map(|attempt| text(attempt, "note")).collect();
    assert!(notes[0].starts_with("HTTP 401: renew the credentials"), "{notes:?}");
    assert!(notes[1].starts_with("HTTP 308: redirects are not followed"), "{notes:?}");
    assert_eq!(notes[2..], ["HTTP 202"]);
    assert_eq!(elsewhere.connections(), 0);
    relay.shutdown().await;
}

/// A file that is not what it should be is named, by the daemon before it listens, and by the probe.
#[tokio::test]
async fn a_certificate_that_cannot_be_used_is_named() {
    let pki = Pki::new();
    let builder = TestRelay::builder();
    let bad = builder.directory().join("bad.pem");
    std::fs::write(&bad, "not a certificate").unwrap();
    let relay = with_app(builder, "https://127.0.0.1:1/", &format!("ca = {bad:?}"));
    let mut process = relay.spawn();
    assert_eq!(process.end().await.code(), Some(1));
    let says = |text: &str| text.contains("bad.pem holds no certificate") && text.contains("app");
    eventually("the file's name in the log", async || says(&process.stderr.all().concat()).then_some(()).ok_or(()))
        .await;
    let config = relay.config_file();
    let check = async |more: &[&str]| {
        let args = [&["check", "--config", config.to_str().unwrap()], more].concat();
        run(&args).await
    };
    let probed = check(&["--probe"]).await.code(1).stdout;
    assert!(says(&probed), "{probed}");

    write_sink(&config, &relay, &format!("url = \"https://h\"\nclient_cert = {:?}", pki.file("client.crt")));
    let checked = check(&[]).await.code(2).stdout;
    assert!(checked.contains("sinks[0].http.client_cert") && checked.contains("client_key ="), "{checked}");
    write_sink(&config, &relay, &format!("url = \"http://h\"\nca = {:?}", pki.file("ca.crt")));
    let checked = check(&[]).await.code(2).stdout;
    assert!(checked.contains("sinks[0].http.ca: has no effect"), "{checked}");
}

/// Puts another `[sinks.http]` at the end of a configuration.
fn write_sink(config: &Path, relay: &Builder, keys: &str) {
    relay.write_config();
    let text = std::fs::read_to_string(config).unwrap();
    let (rest, _) = text.split_once("[sinks.http]").unwrap();
    std::fs::write(config, format!("{rest}[sinks.http]\n{keys}\n")).unwrap();
}
