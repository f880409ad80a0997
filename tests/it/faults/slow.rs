//! Connections that take their time, as many as there may be, and what genuine senders notice of them.

use std::collections::BTreeMap;
use std::io;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, interval_at};
use tokio_rustls::TlsConnector;

use crate::harness::load::{Load, Outcome, address, connector};
use crate::harness::process::{Process, memory};
use crate::harness::raw::head;
use crate::harness::{Campaign, TestRelay, eventually, signed, skip};

/// Connections of genuine senders.
const GENUINE: i64 = 32;

/// How hard, and for how long.
struct Size {
    slow: usize,
    /// How often each slow connection gives a sign of life.
    pause: Duration,
    /// Genuine requests per second.
    rate: f64,
    length: Duration,
    /// A setting of the relay.
    server: &'static str,
}

const BRIEF: Size = Size {
    slow: 200,
    pause: Duration::from_millis(300),
    rate: 40.0,
    length: Duration::from_secs(7),
    // Long enough for a genuine sender on a machine that is busy with other tests.
    server: "read_timeout = \"5s\"",
};
const WHOLE: Size =
    Size { slow: 4000, pause: Duration::from_secs(5), rate: 200.0, length: Duration::from_secs(60), server: "" };

#[tokio::test]
async fn slow_connections_are_not_in_the_way_of_genuine_ones() {
    among_slow(Campaign::brief("slow connections", 1), &BRIEF).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a part of tests/campaign"]
async fn campaign_slow() {
    let p99 = among_slow(Campaign::whole("4,000 slow connections", 3), &WHOLE).await;
    assert!(p99 <= 1000.0, "p99 {p99} ms");
}

#[tokio::test]
async fn slowhttptest_is_not_in_the_way_of_genuine_requests() {
    among_slowhttptest(Campaign::brief("slowhttptest", 1), &BRIEF).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a part of tests/campaign"]
async fn campaign_slowhttptest() {
    let p99 = among_slowhttptest(Campaign::whole("slowhttptest with 4,000 connections", 2), &WHOLE).await;
    assert!(p99 <= 1000.0, "p99 {p99} ms");
}

#[tokio::test]
async fn beyond_the_limit_of_connections_nobody_is_refused() {
    let server = "max_connections = 150\nread_timeout = \"5s\"";
    beyond_the_limit(Campaign::brief("more slow connections than there may be", 1), &Size { server, ..BRIEF }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a part of tests/campaign"]
async fn campaign_flood() {
    let campaign = Campaign::whole("5,000 slow connections where 4,096 may be", 2);
    beyond_the_limit(campaign, &Size { slow: 5000, ..WHOLE }).await;
}

/// Every genuine request is answered 200, and no slow one 408. The worst p99 of a round, in milliseconds.
async fn among_slow(mut campaign: Campaign, size: &Size) -> f64 {
    let mut p99 = 0.0;
    while campaign.round().is_some() {
        let relay = TestRelay::builder().server(size.server).start().await;
        let (slow, outcome) = meet(&relay, size).await;
        campaign.highest("slow connections at once", slow.most() as u64);
        p99 = f64::max(p99, genuine(&mut campaign, relay, &outcome).await);
    }
    p99
}

/// The same with the connections of a known tool.
async fn among_slowhttptest(mut campaign: Campaign, size: &Size) -> f64 {
    let mut p99 = 0.0;
    if Command::new("slowhttptest").arg("-h").output().is_err() {
        skip("slowhttptest");
        return p99;
    }
    while campaign.round().is_some() {
        let relay = TestRelay::builder().server(size.server).start().await;
        let tools: Vec<_> = ["-H", "-B", "-X"].iter().map(|kind| slowhttptest(&relay, size, kind)).collect();
        let outcome = load(&relay, size).run().await;
        drop(tools);
        p99 = f64::max(p99, genuine(&mut campaign, relay, &outcome).await);
    }
    p99
}

/// Genuine requests on connections of before are answered; new ones may have to wait, and none is told to go away for good.
async fn beyond_the_limit(mut campaign: Campaign, size: &Size) {
    while campaign.round().is_some() {
        let relay = TestRelay::builder().server(size.server).start().await;
        let (slow, outcome) = meet(&relay, size).await;
        let lost: Vec<_> = outcome.refused.keys().filter(|what| what.starts_with('4')).collect();
        assert!(lost.is_empty(), "{lost:?}");
        campaign.highest("slow connections at once", slow.most() as u64);
        campaign.count("answered 200", outcome.accepted);
        campaign.count("not answered", outcome.refused.values().sum());
        campaign.highest("p99, ms", outcome.latencies.at(0.99).ceil() as u64);
        campaign.highest("slowest, ms", outcome.latencies.at(1.0).ceil() as u64);
        assert!(relay.metric("events_total", &[]).await >= outcome.accepted as i64);
        relay.shutdown().await;
    }
}

/// Half of its connections are new for each request.
fn load(relay: &TestRelay, size: &Size) -> Load {
    Load { brief: GENUINE as usize / 2, ..Load::on(relay, GENUINE as usize, size.length, Some(size.rate)) }
}

/// Counts what genuine senders got, which must be 200 every time; the p99 in milliseconds.
async fn genuine(campaign: &mut Campaign, mut relay: TestRelay, outcome: &Outcome) -> f64 {
    assert!(outcome.refused.is_empty(), "{:?}", outcome.refused);
    let p99 = outcome.latencies.at(0.99);
    campaign.count("genuine answered 200", outcome.accepted);
    campaign.highest("p99, ms", p99.ceil() as u64);
    campaign.highest("slowest, ms", outcome.latencies.at(1.0).ceil() as u64);
    campaign.highest("MiB at most", memory(relay.process().pid(), "VmHWM").unwrap().ceil() as u64);
    assert_eq!(relay.metric("events_total", &[]).await, outcome.accepted as i64);
    relay.shutdown().await;
    p99
}

/// Genuine requests come in; once each connection of theirs is in use, the slow ones begin.
async fn meet(relay: &TestRelay, size: &Size) -> (Arc<Slow>, Outcome) {
    let slow = Arc::new(Slow::new(relay, size.pause));
    let mut connections = JoinSet::new();
    let attack = async {
        eventually("genuine requests", async || match relay.metric("events_total", &[]).await {
            ..GENUINE => Err("too few"),
            _ => Ok(()),
        })
        .await;
        for place in 0..size.slow {
            // All at once, they would be a flood of handshakes, which is another matter.
            let wait = 2 * size.pause.mul_f64(place as f64 / size.slow as f64);
            connections.spawn(Arc::clone(&slow).keep(KINDS[place % KINDS.len()], Instant::now() + wait));
        }
    };
    let (outcome, ()) = futures_util::future::join(load(relay, size).run(), attack).await;
    connections.shutdown().await;
    assert!(slow.most() >= size.slow * 3 / 4, "no more than {} slow connections", slow.most());
    for answer in slow.answers.lock().unwrap().keys() {
        assert!(["404", "503"].contains(&answer.as_str()), "{answer}");
    }
    (slow, outcome)
}

/// What is slow about a connection.
#[derive(Clone, Copy)]
enum Kind {
    /// Never begins with TLS.
    Silent,
    /// One header line after the other.
    Head,
    /// One byte of the body after the other.
    Body,
    /// Many requests, and no answer is ever read.
    Read,
}

const KINDS: [Kind; 4] = [Kind::Silent, Kind::Head, Kind::Body, Kind::Read];

/// The slow connections to a relay.
struct Slow {
    address: String,
    connector: TlsConnector,
    pause: Duration,
    open: AtomicUsize,
    most: AtomicUsize,
    /// By their status.
    answers: Mutex<BTreeMap<String, u64>>,
}

impl Slow {
    fn new(relay: &TestRelay, pause: Duration) -> Self {
        let (open, most, answers) = (AtomicUsize::new(0), AtomicUsize::new(0), Mutex::default());
        Self { address: address(relay), connector: connector(relay), pause, open, most, answers }
    }

    /// The most that were open at once.
    fn most(&self) -> usize {
        self.most.load(Ordering::Relaxed)
    }

    /// Holds one connection from then on, and another one when it is closed.
    async fn keep(self: Arc<Self>, kind: Kind, from: Instant) {
        let mut pace = interval_at(from, self.pause);
        loop {
            pace.tick().await;
            // An error is a connection that was cut.
            let _ = self.hold(kind).await;
        }
    }

    async fn hold(&self, kind: Kind) -> io::Result<()> {
        let socket = TcpSocket::new_v4()?;
        // So that little can be sent to us before we read.
        socket.set_recv_buffer_size(4096)?;
        let mut tcp = socket.connect(self.address.parse().unwrap()).await?;
        let _open = Open::new(self);
        let (beginning, more) = match kind {
            Kind::Silent => return tcp.read(&mut [0]).await.map(drop),
            Kind::Head => {
                (format!("POST {} HTTP/1.1\r\nHost: localhost\r\n", signed::PATH), "X-More: 1\r\n".to_owned())
            }
            Kind::Body => (head(&signed::payin_completed("slow"), "Content-Length: 4096\r\n"), "x".to_owned()),
            Kind::Read => (String::new(), "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(200)),
        };
        let stream = self.connector.connect(ServerName::try_from("localhost").unwrap(), tcp).await?;
        let (mut reader, mut writer) = tokio::io::split(stream);
        let mut answers = Vec::new();
        let listen = reader.read_to_end(&mut answers);
        let mut pace = interval(self.pause);
        let speak = async {
            writer.write_all(beginning.as_bytes()).await?;
            loop {
                pace.tick().await;
                writer.write_all(more.as_bytes()).await?;
                writer.flush().await?;
            }
        };
        let ended = match kind {
            Kind::Read => speak.await,
            _ => tokio::select! {
                ended = listen => ended.map(drop),
                ended = speak => ended,
            },
        };
        self.note(&answers);
        ended
    }

    fn note(&self, answers: &[u8]) {
        let answers = String::from_utf8_lossy(answers);
        for answer in answers.split("HTTP/1.1 ").skip(1) {
            *self.answers.lock().unwrap().entry(answer[..3].to_owned()).or_default() += 1;
        }
    }
}

/// Counts as open until it is dropped.
struct Open<'a>(&'a Slow);

impl<'a> Open<'a> {
    fn new(slow: &'a Slow) -> Self {
        let open = slow.open.fetch_add(1, Ordering::Relaxed) + 1;
        slow.most.fetch_max(open, Ordering::Relaxed);
        Self(slow)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A part of the slow connections, as the tool makes them.
fn slowhttptest(relay: &TestRelay, size: &Size, kind: &str) -> Process {
    let connections = size.slow / 3;
    let url = relay.url(signed::PATH);
    let mut command = Command::new("slowhttptest");
    command.args([kind, "-u", &url]).args(["-c", &connections.to_string(), "-r", &(connections / 2).to_string()]);
    command.args(["-i", &size.pause.as_secs().max(1).to_string(), "-l", &size.length.as_secs().to_string()]);
    Process::spawn(&mut command)
}
