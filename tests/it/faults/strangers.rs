//! As many connections as there may be, held by strangers who know no secret, and what genuine senders from the same address
//! notice of them: nothing but a little time.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use crate::harness::load::{Load, Outcome, address, connector};
use crate::harness::process::memory;
use crate::harness::raw::head;
use crate::harness::{Campaign, TestRelay, eventually, eventually_within, signed};

/// How many, and for how long.
#[derive(Clone)]
struct Size {
    strangers: usize,
    /// Connections of genuine senders that are there before.
    known: usize,
    /// Genuine senders that make a new connection for each request.
    new: usize,
    /// Genuine requests per second.
    rate: f64,
    length: Duration,
    /// So long a stranger waits whose connection was closed.
    pause: Duration,
    server: &'static str,
    /// MiB resident at most, and after the strangers have gone.
    memory: Option<[f64; 2]>,
}

fn brief() -> Size {
    Size {
        strangers: 120,
        known: 24,
        new: 8,
        rate: 40.0,
        length: Duration::from_secs(5),
        pause: Duration::from_millis(500),
        server: "max_connections = 100",
        memory: None,
    }
}

fn whole() -> Size {
    Size {
        strangers: 4096,
        known: 32,
        new: 16,
        rate: 100.0,
        length: Duration::from_secs(60),
        pause: Duration::from_secs(5),
        server: "",
        memory: Some([384.0, 128.0]),
    }
}

/// What a stranger holds a connection with.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// The beginning of a handshake.
    Handshake,
    /// Nothing more than a handshake.
    Idle,
    /// A request that is answered 404, again and again.
    Asking,
    /// Nearly the largest head, without its end.
    Head,
    /// A part of a body.
    Body,
    /// All of the largest body but a byte.
    LargeBody,
}

#[tokio::test]
async fn strangers_who_hold_connections_keep_no_sender_out() {
    scenario(Campaign::brief("strangers hold connections", 3), &[Kind::Idle, Kind::Handshake, Kind::Asking], &brief())
        .await;
}

#[tokio::test]
async fn strangers_with_unfinished_heads_keep_no_sender_out() {
    scenario(Campaign::brief("strangers with unfinished heads", 1), &[Kind::Head], &brief()).await;
}

#[tokio::test]
async fn strangers_with_unfinished_bodies_keep_no_sender_out() {
    scenario(Campaign::brief("strangers with unfinished bodies", 2), &[Kind::Body, Kind::LargeBody], &brief()).await;
}

#[tokio::test]
async fn many_senders_from_the_address_of_strangers_are_not_the_ones_who_pay() {
    let size = Size { known: 60, rate: 100.0, ..brief() };
    scenario(Campaign::brief("strangers from the address of senders", 1), &[Kind::Asking], &size).await;
}

#[tokio::test]
async fn strangers_on_the_admin_listener_do_not_silence_health() {
    admin(Campaign::brief("strangers on the admin listener", 1), Duration::from_secs(3)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a part of tests/campaign"]
async fn campaign_strangers_held() {
    let campaign = Campaign::whole("4,096 connections held by strangers", 3);
    scenario(campaign, &[Kind::Idle, Kind::Handshake, Kind::Asking], &whole()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a part of tests/campaign"]
async fn campaign_strangers_heads() {
    scenario(Campaign::whole("4,096 unfinished heads of strangers", 1), &[Kind::Head], &whole()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a part of tests/campaign"]
async fn campaign_strangers_bodies() {
    let campaign = Campaign::whole("4,096 unfinished bodies of strangers", 2);
    scenario(campaign, &[Kind::Body, Kind::LargeBody], &whole()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a part of tests/campaign"]
async fn campaign_strangers_one_address() {
    let size = Size { known: 500, rate: 200.0, ..whole() };
    let kinds = [Kind::Idle, Kind::Asking, Kind::Head, Kind::Body];
    scenario(Campaign::whole("500 senders from the address of 4,096 strangers", 4), &kinds, &size).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a part of tests/campaign"]
async fn campaign_strangers_admin() {
    admin(Campaign::whole("64 strangers on the admin listener", 1), Duration::from_secs(150)).await;
}

/// One kind a round: every genuine request is answered 200, and memory is bounded and given back.
async fn scenario(mut campaign: Campaign, kinds: &[Kind], size: &Size) {
    while campaign.round().is_some() {
        let kind = kinds[usize::try_from(campaign.number() - 1).unwrap() % kinds.len()];
        eprintln!("{kind:?}");
        let mut relay = TestRelay::builder().server(size.server).start().await;
        let strangers = Arc::new(Strangers::of(&relay, kind, size));
        let (outcome, held) = meet(&relay, &strangers, size).await;
        assert!(outcome.refused.is_empty(), "{kind:?}: {:?}", outcome.refused);
        assert_eq!(relay.metric("events_total", &[]).await, outcome.accepted as i64);
        assert!(strangers.reached.load(Ordering::Relaxed) >= size.strangers as u64, "{kind:?}: too few strangers");
        let pid = relay.process().pid();
        let most = memory(pid, "VmHWM").unwrap();
        drop(held);
        let after = Instant::now();
        let limit = size.memory.map_or(f64::INFINITY, |[_, after]| after);
        eventually_within(Duration::from_secs(60), "memory given back", async || match memory(pid, "VmRSS").unwrap() {
            now if now < limit => Ok(()),
            now => Err(now),
        })
        .await;
        campaign.count("genuine answered 200", outcome.accepted);
        campaign.highest("slowest on a kept connection, ms", outcome.on_kept.at(1.0).ceil() as u64);
        campaign.highest("slowest on a new one, ms", outcome.on_new.at(1.0).ceil() as u64);
        campaign.highest("MiB at most", most.ceil() as u64);
        campaign.highest("MiB afterwards", memory(pid, "VmRSS").unwrap().ceil() as u64);
        campaign.highest("after seconds", after.elapsed().as_secs());
        if let Some([limit, _]) = size.memory {
            assert!(most <= limit, "{kind:?}: {most} MiB");
        }
        relay.shutdown().await;
    }
}

/// Genuine requests come in; once each of the known connections has signed one, the strangers begin.
async fn meet(relay: &TestRelay, strangers: &Arc<Strangers>, size: &Size) -> (Outcome, JoinSet<()>) {
    let connections = size.known + size.new;
    let load = Load { brief: size.new, ..Load::on(relay, connections, size.length, Some(size.rate)) };
    let attack = async {
        eventually("a signature on each known connection", async || match load.begun.load(Ordering::Relaxed) {
            begun if begun < size.known => Err(begun),
            _ => Ok(()),
        })
        .await;
        let mut held = JoinSet::new();
        for place in 0..size.strangers {
            // All at once, they would be a flood of handshakes, which is another matter.
            let wait = size.pause.mul_f64(place as f64 / size.strangers as f64);
            held.spawn(Arc::clone(strangers).keep(wait));
        }
        held
    };
    futures_util::future::join(load.run(), attack).await
}

struct Strangers {
    address: String,
    connector: TlsConnector,
    kind: Kind,
    pause: Duration,
    /// Connections that got as far as they were to.
    reached: AtomicU64,
}

impl Strangers {
    fn of(relay: &TestRelay, kind: Kind, size: &Size) -> Self {
        let (address, connector) = (address(relay), connector(relay));
        Self { address, connector, kind, pause: size.pause, reached: AtomicU64::new(0) }
    }

    /// Holds a connection, and another one when it is closed.
    async fn keep(self: Arc<Self>, wait: Duration) {
        tokio::time::sleep(wait).await;
        loop {
            // An error is a connection that was closed.
            let _ = self.hold().await;
            tokio::time::sleep(self.pause).await;
        }
    }

    async fn hold(&self) -> io::Result<()> {
        let mut tcp = TcpStream::connect(&self.address).await?;
        if let Kind::Handshake = self.kind {
            return self.say(&mut tcp, b"\x16\x03\x01\x02").await;
        }
        let mut tls = self.connector.connect(ServerName::try_from("localhost").unwrap(), tcp).await?;
        let body = |length: usize, part: usize| {
            let head = head(&signed::payin_completed("never"), &format!("Content-Length: {length}\r\n"));
            [head.as_bytes(), &vec![b'x'; part]].concat()
        };
        let said = match self.kind {
            Kind::Handshake | Kind::Idle => Vec::new(),
            Kind::Asking => b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
            Kind::Head => format!("POST {} HTTP/1.1\r\nX: {}", signed::PATH, "x".repeat(15_000)).into_bytes(),
            Kind::Body => body(1 << 20, 120_000),
            Kind::LargeBody => body(1 << 20, (1 << 20) - 1),
        };
        self.say(&mut tls, &said).await
    }

    /// Says this, and waits for the end.
    async fn say(&self, stream: &mut (impl AsyncRead + AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
        // What is not taken is not said: the connection counts all the same.
        let said = stream.write_all(bytes).await;
        self.reached.fetch_add(1, Ordering::Relaxed);
        said?;
        stream.flush().await?;
        while stream.read(&mut [0; 512]).await? > 0 {}
        Ok(())
    }
}

/// More idle connections than the admin listener may have, renewed as soon as they are closed.
async fn admin(mut campaign: Campaign, length: Duration) {
    while campaign.round().is_some() {
        let relay = TestRelay::builder().start().await;
        let address = relay.admin_url("").trim_start_matches("http://").to_owned();
        let mut held = JoinSet::new();
        for place in 0..100 {
            let address = address.clone();
            held.spawn(async move {
                let mut pace = tokio::time::interval(Duration::from_millis(500));
                loop {
                    pace.tick().await;
                    let Ok(mut stream) = TcpStream::connect(&address).await else { continue };
                    if place % 2 == 0 {
                        let _ = stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
                    }
                    while stream.read(&mut [0; 512]).await.is_ok_and(|read| read > 0) {}
                }
            });
        }
        let end = Instant::now() + length;
        let (mut asked, mut slowest) = (0, Duration::ZERO);
        while Instant::now() < end {
            let began = Instant::now();
            let healthy = relay.client().get(relay.admin_url("/healthz")).timeout(Duration::from_secs(3)).send().await;
            assert!(healthy.is_ok_and(|answer| answer.status() == 200), "no health after {:?}", began.elapsed());
            assert_eq!(relay.readyz().await, 200);
            slowest = slowest.max(began.elapsed());
            asked += 1;
        }
        assert!(relay.metric("unproven_closed_total", &[("what", "admin")]).await > 0, "there was room for all");
        held.shutdown().await;
        campaign.count("health asked for", asked);
        campaign.highest("slowest, ms", slowest.as_millis() as u64);
        relay.shutdown().await;
    }
}
