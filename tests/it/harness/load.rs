//! A load: deliveries at a rate that does not wait for answers, or as fast as they are answered. All distinct, all signed.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::signed::{PATH, signature};
use super::{DEADLINE, SECRET, TestRelay};

/// Where to, and how hard.
#[derive(Clone)]
pub struct Load {
    /// `127.0.0.1:port`.
    pub address: String,
    pub connector: TlsConnector,
    pub connections: usize,
    /// How many of them are new for each request; the others are kept.
    pub brief: usize,
    pub duration: Duration,
    /// Requests per second over all connections, due at fixed times; `None` = as fast as they are answered.
    pub rate: Option<f64>,
    /// Kept connections whose first request has been answered.
    pub begun: Arc<AtomicUsize>,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Answered 200.
    pub accepted: u64,
    /// Whatever came instead, and how often.
    pub refused: BTreeMap<String, u64>,
    pub seconds: f64,
    /// From when a request was due to its answer, be it a 200 or not.
    pub latencies: Latencies,
    /// From when a request was begun to its answer, on kept connections.
    pub on_kept: Latencies,
    /// The same on new connections, with the connection and its handshake.
    pub on_new: Latencies,
}

/// What came on one connection.
#[derive(Default)]
struct Done {
    /// Whether there is a new one for each request.
    is_brief: bool,
    /// Microseconds from when each request was due.
    from_due: Vec<u32>,
    /// Microseconds from when each request was begun.
    from_begun: Vec<u32>,
    /// What came instead of a 200.
    refused: Vec<String>,
}

impl Outcome {
    pub fn rate(&self) -> f64 {
        self.accepted as f64 / self.seconds
    }
}

/// Latencies in microseconds, sorted.
#[derive(Clone, Debug, Default)]
pub struct Latencies(Vec<u32>);

impl Latencies {
    pub fn new(mut micros: Vec<u32>) -> Self {
        micros.sort_unstable();
        Self(micros)
    }

    /// In milliseconds: so much of all is at most this.
    pub fn at(&self, share: f64) -> f64 {
        if self.0.is_empty() {
            return f64::NAN;
        }
        let place = ((self.0.len() as f64 * share) as usize).min(self.0.len() - 1);
        f64::from(self.0[place]) / 1000.0
    }
}

/// Trusts the certificate of a relay, without session tickets: every connection is a full handshake.
pub fn connector(relay: &TestRelay) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    let certificate = relay.settings().directory().join("tls.crt");
    roots.add(CertificateDer::from_pem_file(certificate).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
    let mut config = config.with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    TlsConnector::from(Arc::new(config))
}

/// `127.0.0.1:port` of its public listener.
pub fn address(relay: &TestRelay) -> String {
    relay.url("").trim_start_matches("https://").to_owned()
}

impl Load {
    /// Over kept connections.
    pub fn on(relay: &TestRelay, connections: usize, duration: Duration, rate: Option<f64>) -> Self {
        Self {
            address: address(relay),
            connector: connector(relay),
            connections,
            brief: 0,
            duration,
            rate,
            begun: Arc::default(),
        }
    }

    /// Runs to its end.
    pub async fn run(&self) -> Outcome {
        let mut streams = Vec::with_capacity(self.connections);
        for place in 0..self.connections {
            streams.push(if place < self.brief { None } else { Some(self.connect().await.unwrap()) });
        }
        let began = Instant::now();
        let mut tasks = JoinSet::new();
        for (place, stream) in streams.into_iter().enumerate() {
            let load = self.clone();
            tasks.spawn(async move { load.one(stream, place, began).await });
        }
        let (mut micros, mut outcome) = (Vec::new(), Outcome::default());
        let mut begun = [Vec::new(), Vec::new()];
        while let Some(done) = tasks.join_next().await {
            let done = done.unwrap();
            micros.extend(done.from_due);
            begun[usize::from(done.is_brief)].extend(done.from_begun);
            for what in done.refused {
                *outcome.refused.entry(what).or_default() += 1;
            }
        }
        [outcome.on_kept, outcome.on_new] = begun.map(Latencies::new);
        outcome.accepted = micros.len() as u64 - outcome.refused.values().sum::<u64>();
        outcome.seconds = began.elapsed().as_secs_f64();
        outcome.latencies = Latencies::new(micros);
        outcome
    }

    async fn connect(&self) -> io::Result<TlsStream<TcpStream>> {
        let tcp = TcpStream::connect(&self.address).await?;
        tcp.set_nodelay(true)?;
        self.connector.connect(ServerName::try_from("localhost").unwrap(), tcp).await
    }

    /// What comes on one connection, or on new ones one after the other.
    async fn one(&self, mut stream: Option<TlsStream<TcpStream>>, place: usize, began: Instant) -> Done {
        let mut done = Done { is_brief: place < self.brief, ..Done::default() };
        let mut request = Vec::with_capacity(2048);
        let interval = self.rate.map(|rate| Duration::from_secs_f64(self.connections as f64 / rate));
        // Spread over the first interval.
        let mut due = began + interval.unwrap_or_default().mul_f64(place as f64 / self.connections as f64);
        let end = began + self.duration;
        let mut is_begun = done.is_brief;
        loop {
            tokio::time::sleep_until(due.into()).await;
            // What is late by then is not sent at all: the rate tells.
            if Instant::now() >= end {
                break;
            }
            compose(&mut request);
            let began = Instant::now();
            let answer = tokio::time::timeout(DEADLINE, self.exchange(&mut stream, &request)).await;
            match answer.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok(200) => {
                    if !std::mem::replace(&mut is_begun, true) {
                        self.begun.fetch_add(1, Ordering::Relaxed);
                    }
                }
                Ok(status) => done.refused.push(status.to_string()),
                Err(error) => {
                    stream = None;
                    done.refused.push(error.to_string());
                }
            }
            done.from_due.push(u32::try_from(due.elapsed().as_micros()).unwrap_or(u32::MAX));
            done.from_begun.push(u32::try_from(began.elapsed().as_micros()).unwrap_or(u32::MAX));
            if done.is_brief {
                stream = None;
            }
            due = interval.map_or_else(Instant::now, |interval| due + interval);
        }
        done
    }

    /// One request, on a new connection where there is none; the status of its answer.
    async fn exchange(&self, stream: &mut Option<TlsStream<TcpStream>>, request: &[u8]) -> io::Result<u16> {
        let stream = match stream {
            Some(stream) => stream,
            None => stream.insert(self.connect().await?),
        };
        stream.write_all(request).await?;
        status(stream).await
    }
}

/// Reads one answer to its end.
async fn status(stream: &mut TlsStream<TcpStream>) -> io::Result<u16> {
    let (mut buffer, mut filled) = ([0; 4096], 0);
    loop {
        let read = stream.read(&mut buffer[filled..]).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        filled += read;
        let text = &buffer[..filled];
        let Some(head) = text.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head_text = std::str::from_utf8(&text[..head]).unwrap();
        let length = head_text.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().unwrap())
        });
        if filled >= head + 4 + length.unwrap_or(0) {
            return Ok(head_text["HTTP/1.1 ".len()..][..3].parse().unwrap());
        }
    }
}

fn compose(request: &mut Vec<u8>) {
    let body = body();
    let signature = signature(SECRET, body.as_bytes());
    request.clear();
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nx-signature: {signature}\r\n\
         user-agent: ralio\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    request.extend_from_slice(head.as_bytes());
    request.extend_from_slice(body.as_bytes());
}

/// A payin of about 1.2 KiB about an order of its own.
pub fn body() -> String {
    let [id, order, account] = std::array::from_fn(|_| uuid());
    format!(
        r#"{{"eventId":"{id}","eventType":"payin_completed","timestamp":"2026-02-26T17:02:28.7667797-05:00","data":{{"status":"COMPLETED","payinType":"bankPayin","orderId":"{order}","ownReference":"invoice 2026-02-0017 of the customer","source":{{"type":"bank","routingType":"sepa","accountNumber":"ES9121000418450200051332","bankConceptTransfer":"Payment of the invoice of February, many thanks for your trust","payer":{{"name":"Maria del Carmen Garcia Fernandez","email":"maria.garcia@example.com","phone":"+34 600 000 000","address":{{"street":"Calle de Alcala 42, 3 izquierda","city":"Madrid","postalCode":"28014","country":"ES"}}}}}},"destination":{{"type":"account","creditedAccountId":"{account}","creditedUserId":"{account}"}},"amounts":{{"receivedAmount":{{"amount":125050,"currency":"EUR"}},"fees":{{"currency":"EUR","total":125,"breakdown":{{"systemFee":75,"merchantFee":50}}}},"amountAfterFees":{{"amount":124925,"currency":"EUR"}},"fx":{{"pair":"EUR/USD","rate":"1.0831"}},"creditedAmount":{{"amount":135306,"currency":"USD"}}}},"metadata":{{"channel":"web","device":"desktop","campaign":"winter-2026","note":"the amount was agreed with the customer by telephone"}}}}}}"#
    )
}

fn uuid() -> String {
    let (high, low) = (fastrand::u64(..), fastrand::u64(..));
    format!(
        "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
        high >> 32,
        high & 0xffff,
        low >> 52,
        high >> 20 & 0xfff,
        low & 0xffff_ffff_ffff
    )
}
