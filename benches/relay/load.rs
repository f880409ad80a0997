//! A load generator: keep-alive HTTPS connections that send distinct signed deliveries.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::harness::SECRET;
use crate::harness::signed::PATH;
use crate::stats::Latencies;

/// Where to, and how hard.
#[derive(Clone)]
pub struct Load {
    /// `127.0.0.1:port`.
    pub address: String,
    pub connector: TlsConnector,
    pub connections: usize,
    pub duration: Duration,
    /// Requests per second over all connections; `None` = as fast as they are answered.
    pub rate: Option<f64>,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Answered 200.
    pub accepted: u64,
    /// Anything else.
    pub refused: u64,
    pub seconds: f64,
    /// From when a request was due to its answer.
    pub latencies: Latencies,
}

impl Outcome {
    pub fn rate(&self) -> f64 {
        self.accepted as f64 / self.seconds
    }
}

/// Trusts one certificate, without session tickets: every connection is a full handshake.
pub fn connector(certificate: &[u8]) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(certificate).unwrap()).unwrap();
    TlsConnector::from(Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()))
}

/// Runs the load to its end.
pub async fn run(load: &Load) -> Outcome {
    let mut streams = Vec::with_capacity(load.connections);
    for _ in 0..load.connections {
        streams.push(connect(load).await);
    }
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for (place, stream) in streams.into_iter().enumerate() {
        let load = load.clone();
        tasks.spawn(async move { one(&load, stream, place, began).await });
    }
    let (mut micros, mut outcome) = (Vec::new(), Outcome::default());
    while let Some(done) = tasks.join_next().await {
        let (own, refused) = done.unwrap();
        outcome.accepted += own.len() as u64;
        outcome.refused += refused;
        micros.extend(own);
    }
    outcome.seconds = began.elapsed().as_secs_f64();
    outcome.latencies = Latencies::new(micros);
    outcome
}

async fn connect(load: &Load) -> TlsStream<TcpStream> {
    let tcp = TcpStream::connect(&load.address).await.unwrap();
    tcp.set_nodelay(true).unwrap();
    load.connector.connect(ServerName::try_from("localhost").unwrap(), tcp).await.unwrap()
}

async fn one(load: &Load, mut stream: TlsStream<TcpStream>, place: usize, began: Instant) -> (Vec<u32>, u64) {
    let (mut micros, mut refused) = (Vec::new(), 0);
    let (mut request, mut answer) = (Vec::with_capacity(2048), vec![0; 4096]);
    let interval = load.rate.map(|rate| Duration::from_secs_f64(load.connections as f64 / rate));
    // Spread over the first interval.
    let mut due = began + interval.unwrap_or_default().mul_f64(place as f64 / load.connections as f64);
    let end = began + load.duration;
    loop {
        match interval {
            Some(interval) => {
                tokio::time::sleep_until(due.into()).await;
                due += interval;
            }
            None => due = Instant::now(),
        }
        if Instant::now() >= end {
            break;
        }
        let from = interval.map_or(due, |interval| due - interval);
        compose(&mut request);
        stream.write_all(&request).await.unwrap();
        if accepted(&mut stream, &mut answer).await {
            micros.push(u32::try_from(from.elapsed().as_micros()).unwrap_or(u32::MAX));
        } else {
            refused += 1;
        }
    }
    (micros, refused)
}

/// Reads one answer; true for a 200.
async fn accepted(stream: &mut TlsStream<TcpStream>, buffer: &mut [u8]) -> bool {
    let mut filled = 0;
    loop {
        let read = stream.read(&mut buffer[filled..]).await.unwrap();
        assert!(read > 0, "the server closed a connection");
        filled += read;
        let text = &buffer[..filled];
        let Some(head) = text.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head_text = std::str::from_utf8(&text[..head]).unwrap();
        let length = head_text.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().unwrap())
        });
        if filled >= head + 4 + length.unwrap_or(0) {
            return head_text.starts_with("HTTP/1.1 200");
        }
    }
}

fn compose(request: &mut Vec<u8>) {
    let body = body();
    let signature = ralio_relay::verify::sign(SECRET.as_bytes(), body.as_bytes());
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
