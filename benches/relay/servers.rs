//! What the daemon is held against, each in a process of its own: a bare HTTPS server, and the relay's own listener over
//! an inbox that keeps nothing.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};

use actix_web::{App, HttpResponse, HttpServer, web};
use async_trait::async_trait;
use ralio_relay::clock::SystemClock;
use ralio_relay::clock::Uptime;
use ralio_relay::inbox::{
    Advance, AppendKind, Appended, BelievedClock, ConfiguredSink, ConsumerId, ConsumerState, EventOutline, Inbox, Job,
    JobUpdate, NewEvent, NewJob, Progress, QuarantineFilter, QuarantineOutcome, Quarantined, Refused, Registered,
    Registration, Released, Selection, Slice, Unavailable,
};
use ralio_relay::ingest::{self, Gate};
use ralio_relay::metrics::Metrics;
use ralio_relay::model::{JobId, Seq, SinkName, SourceName, Start};
use ralio_relay::verify::Keys;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::watch;

use crate::harness::SECRET;
use crate::harness::signed::PATH;

/// A server of this file, running.
pub struct Server {
    child: Child,
    pub address: String,
}

impl Server {
    /// `bare`, `null` or `sink`, with the certificate in that directory.
    pub fn start(role: &str, directory: &Path) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("serve").arg(role).arg(directory).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut address = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut address).unwrap();
        Self { child, address: address.trim().to_owned() }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// In the child: serves until its standard input ends, with its parent at the latest.
pub fn serve(role: &str, directory: &Path) {
    match role {
        "bare" => bare(directory),
        "null" => null(directory),
        "sink" => sink(),
        other => panic!("no such role: {other}"),
    }
}

fn until_the_end() {
    let _ = std::io::stdin().read(&mut [0]);
}

/// As many threads as the relay has, and a handler that reads the body.
fn bare(directory: &Path) {
    let certificate = CertificateDer::from_pem_file(directory.join("tls.crt")).unwrap();
    let key = PrivateKeyDer::from_pem_file(directory.join("tls.key")).unwrap();
    let config =
        rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
    actix_web::rt::System::new().block_on(async move {
        let workers = std::thread::available_parallelism().unwrap().get();
        let app = || {
            let answer = |_: web::Bytes| async { HttpResponse::Ok().json(serde_json::json!({"received": true})) };
            App::new().route(PATH, web::post().to(answer))
        };
        let server = HttpServer::new(app).workers(workers).bind_rustls_0_23("127.0.0.1:0", config).unwrap();
        println!("{}", server.addrs()[0]);
        let server = server.disable_signals().run();
        tokio::select! {
            ended = server => ended.unwrap(),
            _ = tokio::task::spawn_blocking(until_the_end) => {}
        }
    });
}

/// Takes whatever is posted.
fn sink() {
    actix_web::rt::System::new().block_on(async move {
        let app = || App::new().default_service(web::to(|_: web::Bytes| async { HttpResponse::NoContent().finish() }));
        let server = HttpServer::new(app).workers(1).bind("127.0.0.1:0").unwrap();
        println!("{}", server.addrs()[0]);
        let server = server.disable_signals().run();
        tokio::select! {
            ended = server => ended.unwrap(),
            _ = tokio::task::spawn_blocking(until_the_end) => {}
        }
    });
}

fn null(directory: &Path) {
    let source = ingest::Source {
        name: SourceName::new("test").unwrap(),
        path: PATH.to_owned(),
        keys: Keys::new(&[SECRET]).unwrap(),
        signature_header: "x-signature".to_owned(),
        on_bad_signature: ingest::OnBadSignature::Reject,
    };
    let tls = ingest::Tls { cert: directory.join("tls.crt"), key: directory.join("tls.key") };
    let server_tls = ingest::load_tls(&tls).unwrap();
    let config = ingest::Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        max_body: 1 << 20,
        ack_deadline: std::time::Duration::from_secs(20),
        max_connections: 4096,
        max_head: 16 * 1024,
        trusted_proxies: Vec::new(),
        read_timeout: std::time::Duration::from_secs(15),
        tls: Some(tls),
        sources: vec![source],
    };
    let (_open, gate) = watch::channel(Gate::Open);
    let deps = ingest::Deps {
        inbox: Arc::new(OnceLock::from(Arc::new(Null::default()) as Arc<dyn Inbox>)),
        metrics: Arc::new(Metrics::new()),
        clock: Arc::new(SystemClock),
        gate,
        is_wanted: Arc::new(|_| true),
    };
    let listener = std::net::TcpListener::bind(config.listen).unwrap();
    let listener = ingest::start(listener, &config, Some(server_tls), deps).unwrap();
    println!("{}", listener.addr());
    until_the_end();
}

/// Says that it has stored everything, and has stored nothing.
#[derive(Default)]
struct Null {
    seq: AtomicI64,
}

#[async_trait]
impl Inbox for Null {
    async fn append(&self, _: NewEvent) -> Result<Appended, Unavailable> {
        let seq = Seq::new(self.seq.fetch_add(1, Ordering::Relaxed) + 1).unwrap();
        Ok(Appended { seq, kind: AppendKind::Fresh })
    }

    async fn quarantine(&self, _: Refused) -> Result<QuarantineOutcome, Unavailable> {
        Ok(QuarantineOutcome::Kept)
    }

    fn head(&self) -> watch::Receiver<Seq> {
        watch::channel(Seq::ZERO).1
    }

    async fn read_after(&self, after: Seq, _: usize, _: Option<Selection>) -> Result<Slice, Unavailable> {
        Ok(Slice { events: Vec::new(), read_to: after })
    }

    async fn read(&self, _: Vec<Seq>) -> Result<Vec<ralio_relay::inbox::StoredEvent>, Unavailable> {
        Ok(Vec::new())
    }

    async fn outlines(&self, _: Vec<Seq>) -> Result<Vec<EventOutline>, Unavailable> {
        Ok(Vec::new())
    }

    async fn consumer(&self, _: Registration, _: String) -> Result<ConsumerState, Unavailable> {
        Err(Unavailable::Closed)
    }

    async fn register_sinks(&self, _: Vec<(SinkName, Start)>) -> Result<Vec<Registered>, Unavailable> {
        Err(Unavailable::Closed)
    }

    async fn has_sink(&self, _: SinkName) -> Result<bool, Unavailable> {
        Err(Unavailable::Closed)
    }

    async fn note_built(&self, _: ConsumerId, _: Option<String>) -> Result<(), Unavailable> {
        Err(Unavailable::Closed)
    }

    async fn note_definition(
        &self,
        _: SinkName,
        _: ralio_relay::inbox::SinkDefinition,
        _: ralio_relay::inbox::Because,
    ) -> Result<(), Unavailable> {
        Err(Unavailable::Closed)
    }

    async fn note_altered(&self, _: Vec<(Seq, ralio_relay::model::Digest)>) -> Result<(), Unavailable> {
        Err(Unavailable::Closed)
    }

    async fn record(&self, _: Progress) -> Result<(), Unavailable> {
        Err(Unavailable::Closed)
    }

    async fn submit(&self, _: NewJob) -> Result<JobId, Unavailable> {
        Err(Unavailable::Closed)
    }

    async fn open_jobs(&self) -> Result<Vec<Job>, Unavailable> {
        Ok(Vec::new())
    }

    async fn advance(&self, _: JobId, _: &[ConfiguredSink]) -> Result<Advance, Unavailable> {
        Err(Unavailable::Closed)
    }

    async fn update_job(&self, _: JobId, _: JobUpdate) -> Result<(), Unavailable> {
        Err(Unavailable::Closed)
    }

    async fn quarantined(&self, _: QuarantineFilter, _: (i64, i64), _: usize) -> Result<Vec<Quarantined>, Unavailable> {
        Ok(Vec::new())
    }

    async fn release(&self, _: JobId, _: Released) -> Result<(), Unavailable> {
        Err(Unavailable::Closed)
    }

    async fn note_clock(&self, _: Uptime) -> Result<BelievedClock, Unavailable> {
        Err(Unavailable::Closed)
    }

    fn trouble(&self) -> Option<String> {
        None
    }

    async fn failed(&self) -> String {
        std::future::pending().await
    }

    async fn close(&self) {}
}
