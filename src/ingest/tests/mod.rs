//! The public listener over real sockets, with an inbox that does as it is told.

mod hostile;
mod limits;
mod strangers;
mod table;
mod tls;

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};

use super::*;
use crate::clock::SystemClock;
use crate::clock::Uptime;
use crate::inbox::{
    Advance, AppendKind, Appended, Because, BelievedClock, ConfiguredSink, ConsumerId, ConsumerState, EventOutline,
    Job, JobUpdate, NewEvent, NewJob, NoRoom, Progress, QuarantineFilter, QuarantineOutcome, Quarantined,
    RefusalAnswer, Refused, Registered, Registration, Released, Selection, SinkDefinition, Slice, StoredEvent,
    Unavailable,
};
use crate::model::{Digest, JobId, Seq, SinkName, Start};
use crate::verify::sign;

const SECRET: &[u8] = b"a secret for tests";
const PATH: &str = "/webhooks/ralio";
const BODY: &[u8] = br#"{"eventId":"0b8f6f5e-7b39-4f3a-9d0f-4d6f6c3a2b10","eventType":"payin_completed","data":{}}"#;
/// More than any test takes when all is well.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the inbox does with an append.
enum Behaviour {
    Store(AppendKind),
    Fail(Unavailable),
    /// Says that it got one, then waits for a permit, then stores.
    Wait(Arc<Semaphore>),
    Panic,
}

struct FakeInbox {
    behaviour: Mutex<Behaviour>,
    stored: Mutex<Vec<NewEvent>>,
    refused: Mutex<Vec<Refused>>,
    /// What becomes of what is refused.
    keeping: Mutex<Result<QuarantineOutcome, Unavailable>>,
    appends: watch::Sender<usize>,
}

#[async_trait]
impl Inbox for FakeInbox {
    async fn append(&self, event: NewEvent) -> Result<Appended, Unavailable> {
        self.appends.send_modify(|appends| *appends += 1);
        let wait = match &*self.behaviour.lock().unwrap() {
            Behaviour::Store(_) => None,
            Behaviour::Fail(why) => return Err(why.clone()),
            Behaviour::Wait(permits) => Some(permits.clone()),
            Behaviour::Panic => panic!("the inbox was told to panic"),
        };
        if let Some(permits) = wait {
            permits.acquire().await.unwrap().forget();
        }
        let kind = match &*self.behaviour.lock().unwrap() {
            Behaviour::Store(kind) => *kind,
            Behaviour::Fail(_) | Behaviour::Wait(_) | Behaviour::Panic => AppendKind::Fresh,
        };
        let mut stored = self.stored.lock().unwrap();
        stored.push(event);
        Ok(Appended { seq: Seq::new(stored.len() as i64).unwrap(), kind })
    }

    async fn quarantine(&self, refused: Refused) -> Result<QuarantineOutcome, Unavailable> {
        self.refused.lock().unwrap().push(refused);
        self.keeping.lock().unwrap().clone()
    }

    fn head(&self) -> watch::Receiver<Seq> {
        unreachable!("ingest only writes")
    }

    async fn read_after(&self, _: Seq, _: usize, _: Option<Selection>) -> Result<Slice, Unavailable> {
        unreachable!("ingest only writes")
    }

    async fn read(&self, _: Vec<Seq>) -> Result<Vec<StoredEvent>, Unavailable> {
        unreachable!("ingest only writes")
    }

    async fn note_altered(&self, _: Vec<(Seq, Digest)>) -> Result<(), Unavailable> {
        unreachable!("ingest only writes")
    }

    async fn note_definition(&self, _: SinkName, _: SinkDefinition, _: Because) -> Result<(), Unavailable> {
        unreachable!("ingest only writes")
    }

    async fn outlines(&self, _: Vec<Seq>) -> Result<Vec<EventOutline>, Unavailable> {
        unreachable!("ingest only writes")
    }

    async fn consumer(&self, _: Registration, _: String) -> Result<ConsumerState, Unavailable> {
        unreachable!("ingest only writes")
    }

    async fn register_sinks(&self, _: Vec<(SinkName, Start)>) -> Result<Vec<Registered>, Unavailable> {
        unreachable!("ingest only writes")
    }

    async fn has_sink(&self, _: SinkName) -> Result<bool, Unavailable> {
        unreachable!("ingest only writes")
    }

    async fn note_built(&self, _: ConsumerId, _: Option<String>) -> Result<(), Unavailable> {
        unreachable!("ingest only writes")
    }

    async fn record(&self, _: Progress) -> Result<(), Unavailable> {
        unreachable!("ingest only writes")
    }

    async fn submit(&self, _: NewJob) -> Result<JobId, Unavailable> {
        unreachable!("ingest only writes")
    }

    async fn open_jobs(&self) -> Result<Vec<Job>, Unavailable> {
        unreachable!("ingest only writes")
    }

    async fn advance(&self, _: JobId, _: &[ConfiguredSink]) -> Result<Advance, Unavailable> {
        unreachable!("ingest only writes")
    }

    async fn update_job(&self, _: JobId, _: JobUpdate) -> Result<(), Unavailable> {
        unreachable!("ingest only writes")
    }

    async fn quarantined(&self, _: QuarantineFilter, _: (i64, i64), _: usize) -> Result<Vec<Quarantined>, Unavailable> {
        unreachable!("ingest only writes")
    }

    async fn release(&self, _: JobId, _: Released) -> Result<(), Unavailable> {
        unreachable!("ingest only writes")
    }

    async fn note_clock(&self, _: Uptime) -> Result<BelievedClock, Unavailable> {
        unreachable!("ingest only writes")
    }

    fn trouble(&self) -> Option<String> {
        None
    }

    async fn failed(&self) -> String {
        std::future::pending().await
    }

    async fn close(&self) {}
}

/// A listener of the tests' own.
struct Relay {
    listener: Listener,
    inbox: Arc<FakeInbox>,
    metrics: Arc<Metrics>,
    gate: watch::Sender<Gate>,
}

fn config() -> Config {
    Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        max_body: 1024,
        ack_deadline: PATIENCE,
        max_connections: 64,
        max_head: 16 * 1024,
        trusted_proxies: Vec::new(),
        read_timeout: PATIENCE,
        tls: None,
        sources: vec![Source {
            name: SourceName::new("test").unwrap(),
            path: PATH.to_owned(),
            keys: Keys::new(&[b"another secret".as_slice(), SECRET]).unwrap(),
            signature_header: "x-signature".to_owned(),
            on_bad_signature: OnBadSignature::Reject,
        }],
    }
}

impl Relay {
    fn start() -> Self {
        Self::with(&config())
    }

    fn with(config: &Config) -> Self {
        Self::with_tls(config, None)
    }

    fn with_tls(config: &Config, tls: Option<ServerTls>) -> Self {
        let inbox = Arc::new(FakeInbox {
            behaviour: Mutex::new(Behaviour::Store(AppendKind::Fresh)),
            stored: Mutex::default(),
            refused: Mutex::default(),
            keeping: Mutex::new(Ok(QuarantineOutcome::Kept)),
            appends: watch::Sender::new(0),
        });
        let (gate, open) = watch::channel(Gate::Open);
        let metrics = Arc::new(Metrics::new());
        let place: Arc<OnceLock<Arc<dyn Inbox>>> = Arc::new(OnceLock::from(inbox.clone() as Arc<dyn Inbox>));
        let is_wanted: IsWanted = Arc::new(|event_type| event_type.as_str() != "card.issued");
        let deps = Deps { inbox: place, metrics: metrics.clone(), clock: Arc::new(SystemClock), gate: open, is_wanted };
        let listener = start(TcpListener::bind(config.listen).unwrap(), config, tls, deps).unwrap();
        Self { listener, inbox, metrics, gate }
    }

    fn that(self, behaviour: Behaviour) -> Self {
        *self.inbox.behaviour.lock().unwrap() = behaviour;
        self
    }

    async fn connect(&self) -> Client<TcpStream> {
        Client(TcpStream::connect(self.listener.addr()).await.unwrap())
    }

    /// One request on a connection of its own.
    async fn ask(&self, request: &Request) -> Answer {
        self.connect().await.ask(request).await
    }

    /// Bytes that are no proper request: the connection must be closed without a word.
    async fn must_close(&self, bytes: &[u8]) {
        let mut client = self.connect().await;
        // A connection that is closed early may refuse the rest.
        let _ = client.0.write_all(bytes).await;
        assert_eq!(client.rest().await, "", "{}", String::from_utf8_lossy(&bytes[..bytes.len().min(200)]));
    }

    fn outcome(&self, source: &str, outcome: &str) -> u64 {
        self.metrics.requests.with_label_values(&[source, outcome]).get()
    }

    /// Waits until the inbox has been asked for `count` appends.
    async fn appends(&self, count: usize) {
        let mut appends = self.inbox.appends.subscribe();
        tokio::time::timeout(PATIENCE, appends.wait_for(|&appends| appends >= count)).await.unwrap().unwrap();
    }
}

#[derive(Clone)]
struct Request {
    line: String,
    headers: Vec<String>,
    body: Vec<u8>,
}

impl Request {
    fn new(line: &str, body: &[u8]) -> Self {
        Self { line: line.to_owned(), headers: Vec::new(), body: body.to_vec() }
    }

    /// As the provider would send it.
    fn signed(path: &str, body: &[u8]) -> Self {
        Self::new(&format!("POST {path}"), body).header(&format!("X-Signature: {}", sign(SECRET, body)))
    }

    fn header(mut self, header: &str) -> Self {
        self.headers.push(header.to_owned());
        self
    }

    /// With a `Content-Length` unless it is chunked.
    fn bytes(&self) -> Vec<u8> {
        let mut text = format!("{} HTTP/1.1\r\nHost: relay.test\r\n", self.line);
        if !self.headers.iter().any(|header| header.starts_with("Transfer-Encoding")) {
            text += &format!("Content-Length: {}\r\n", self.body.len());
        }
        for header in &self.headers {
            text += &format!("{header}\r\n");
        }
        [text.as_bytes(), b"\r\n", &self.body].concat()
    }

    fn chunked(mut self) -> Self {
        let pieces =
            self.body.chunks(700).map(|piece| [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat());
        self.body = [pieces.collect::<Vec<_>>().concat().as_slice(), b"0\r\n\r\n"].concat();
        self.header("Transfer-Encoding: chunked")
    }
}

#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    #[track_caller]
    fn is_refusal(&self, status: u16, error: &str) {
        assert_eq!(self.status, status, "{self:?}");
        let body: serde_json::Value = serde_json::from_str(&self.body).unwrap();
        assert_eq!(body["error"], error);
        assert!(!body["message"].as_str().unwrap().is_empty());
        assert_eq!(self.header("retry-after").is_some(), status == 503, "{self:?}");
    }

    #[track_caller]
    fn is_stored(&self, duplicate: bool) {
        assert_eq!(self.status, 200, "{self:?}");
        assert!(self.body.starts_with(r#"{"received":true,"id":""#), "{self:?}");
        assert!(self.body.ends_with(&format!(r#"","duplicate":{duplicate}}}"#)), "{self:?}");
    }
}

/// A client that sends bytes as they are.
struct Client<S>(S);

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    async fn ask(&mut self, request: &Request) -> Answer {
        self.send(&request.bytes()).await;
        self.answer().await
    }

    /// The next answer; a client error that is not in the table fails the test wherever it appears.
    async fn answer(&mut self) -> Answer {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.byte().await.unwrap_or_else(|| panic!("closed: {}", String::from_utf8_lossy(&head))));
        }
        let head = String::from_utf8(head).unwrap();
        let status = head[9..12].parse().unwrap();
        assert!(!(400..500).contains(&status) || [401, 404, 405, 413].contains(&status), "{head}");
        let mut answer = Answer { status, head, body: String::new() };
        let length = answer.header("content-length").map_or(0, |length| length.parse().unwrap());
        for _ in 0..length {
            answer.body.push(char::from(self.byte().await.unwrap()));
        }
        answer
    }

    async fn byte(&mut self) -> Option<u8> {
        tokio::time::timeout(PATIENCE, self.0.read_u8()).await.expect("an answer or an end in time").ok()
    }

    /// Whatever comes until the connection ends.
    async fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        // An end by reset is an end.
        let read = self.0.read_to_end(&mut rest);
        let _ = tokio::time::timeout(PATIENCE, read).await.expect("the connection must be closed");
        String::from_utf8_lossy(&rest).into_owned()
    }
}
