//! An HTTP or HTTPS server that answers by script and remembers every request.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::HeaderMap;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// One step of the script.
#[derive(Clone, Debug)]
pub enum Answer {
    /// This status with these headers.
    Status(u16, Vec<(&'static str, String)>),
    /// This status with this body.
    Saying(u16, String),
    /// None, for as long as the client waits.
    Hang,
}

impl From<u16> for Answer {
    fn from(status: u16) -> Self {
        Self::Status(status, Vec::new())
    }
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Recorded {
    pub method: Method,
    pub version: Version,
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// What it was answered with; `None` = left hanging.
    pub status: Option<u16>,
}

/// The status for a request with these headers and this body; `None` leaves it to the script.
pub type Rule = Box<dyn Fn(&HeaderMap, &[u8]) -> Option<u16> + Send>;

/// Listens on a loopback port of its own until dropped.
pub struct FakeHttp {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: Option<JoinSet<()>>,
}

struct Shared {
    tls: Option<TlsAcceptor>,
    /// TCP connections so far.
    connections: AtomicUsize,
    /// What comes next; the last one is repeated.
    script: Mutex<VecDeque<Answer>>,
    /// What is asked before the script: the status for a request, where it says one.
    rule: Mutex<Option<Rule>>,
    requests: watch::Sender<Vec<Recorded>>,
}

impl FakeHttp {
    /// Answers with these in turn, then with the last one for ever.
    pub async fn answering<A: Into<Answer>>(answers: impl IntoIterator<Item = A>) -> Self {
        Self::new(None, answers).await
    }

    /// The same over TLS; what the handshake agrees on (ALPN) is spoken.
    pub async fn over_tls<A: Into<Answer>>(tls: ServerConfig, answers: impl IntoIterator<Item = A>) -> Self {
        Self::new(Some(TlsAcceptor::from(Arc::new(tls))), answers).await
    }

    async fn new<A: Into<Answer>>(tls: Option<TlsAcceptor>, answers: impl IntoIterator<Item = A>) -> Self {
        let (script, rule, requests) = (Mutex::default(), Mutex::default(), watch::Sender::default());
        let shared = Shared { tls, connections: AtomicUsize::new(0), script, rule, requests };
        let mut this = Self { address: ([127, 0, 0, 1], 0).into(), shared: Arc::new(shared), server: None };
        this.answer(answers);
        this.start().await;
        this
    }

    /// Replaces the rest of the script.
    pub fn answer<A: Into<Answer>>(&self, answers: impl IntoIterator<Item = A>) {
        let answers: VecDeque<_> = answers.into_iter().map(Into::into).collect();
        assert!(!answers.is_empty(), "a script has at least one answer");
        *self.shared.script.lock().unwrap() = answers;
    }

    /// Asks this before the script from now on; `None` ends that.
    pub fn rule(&self, rule: Option<Rule>) {
        *self.shared.rule.lock().unwrap() = rule;
    }

    /// Closes the port and every connection.
    pub async fn stop(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.shutdown().await;
        }
    }

    /// Listens again, on the same port as before.
    pub async fn start(&mut self) {
        if self.server.is_some() {
            return;
        }
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.address = listener.local_addr().unwrap();
        let mut server = JoinSet::new();
        server.spawn(serve(listener, Arc::clone(&self.shared)));
        self.server = Some(server);
    }

    /// `http://127.0.0.1:<port>/hook`, or `https`.
    pub fn url(&self) -> String {
        let scheme = if self.shared.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}/hook", self.address)
    }

    /// How many TCP connections there have been.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// How many requests there have been.
    pub fn count(&self) -> usize {
        self.shared.requests.borrow().len()
    }

    /// Every request so far.
    pub fn requests(&self) -> Vec<Recorded> {
        self.shared.requests.borrow().clone()
    }

    /// The bodies that were answered with a 2xx, in the order of the answers.
    pub fn accepted_bodies(&self) -> Vec<Bytes> {
        self.accepted().into_iter().map(|request| request.body).collect()
    }

    /// The POST requests that were answered with a 2xx, in the order of the answers.
    pub fn accepted(&self) -> Vec<Recorded> {
        let accepted = |request: &Recorded| request.status.is_some_and(|status| status / 100 == 2);
        self.requests().into_iter().filter(|request| request.method == Method::POST && accepted(request)).collect()
    }

    /// Waits until this many requests have come.
    pub async fn requests_reach(&self, count: usize) {
        let mut requests = self.shared.requests.subscribe();
        requests.wait_for(|requests| requests.len() >= count).await.unwrap();
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    // Dropped with this task, and every connection with it.
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        shared.connections.fetch_add(1, Ordering::Relaxed);
        connections.spawn(connection(stream, Arc::clone(&shared)));
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    let Some(tls) = &shared.tls else { return speak(stream, false, shared).await };
    match tls.accept(stream).into_fallible().await {
        Ok(stream) => {
            let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            speak(stream, http2, shared).await;
        }
        // Closed with something unread, the connection would be reset, and the alert might never be seen.
        Err((_, mut stream)) => while matches!(stream.read(&mut [0; 1024]).await, Ok(1..)) {},
    }
}

async fn speak(stream: impl AsyncRead + AsyncWrite + Unpin + 'static, http2: bool, shared: Arc<Shared>) {
    let service = service_fn(move |request| answer(request, Arc::clone(&shared)));
    let stream = TokioIo::new(stream);
    // An error is a client that went away, which is its right.
    if http2 {
        let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        let _ = server.serve_connection(stream, service).await;
    } else {
        let _ = hyper::server::conn::http1::Builder::new().serve_connection(stream, service).await;
    }
}

async fn answer(request: Request<Incoming>, shared: Arc<Shared>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let ruled = shared.rule.lock().unwrap().as_ref().and_then(|rule| rule(&head.headers, &body));
    let answer = if let Some(status) = ruled {
        status.into()
    } else {
        let mut script = shared.script.lock().unwrap();
        if script.len() > 1 { script.pop_front().unwrap() } else { script[0].clone() }
    };
    let status = match &answer {
        Answer::Status(status, _) | Answer::Saying(status, _) => Some(*status),
        Answer::Hang => None,
    };
    let path = head.uri.path().to_owned();
    let recorded = Recorded { method: head.method, version: head.version, path, headers: head.headers, body, status };
    shared.requests.send_modify(|requests| requests.push(recorded));
    match answer {
        Answer::Status(status, headers) => {
            let mut response = Response::builder().status(status);
            for (name, value) in headers {
                response = response.header(name, value);
            }
            Ok(response.body(Full::default()).unwrap())
        }
        Answer::Saying(status, body) => Ok(Response::builder().status(status).body(Full::from(body)).unwrap()),
        Answer::Hang => {
            let never: Infallible = std::future::pending().await;
            match never {}
        }
    }
}
