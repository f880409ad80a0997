//! One delivery, with the provider's manners: any 2xx is success, 5xx and broken connections are tried again with
//! backoff, and anything else is final.

use std::collections::BTreeSet;
use std::error::Error;
use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use indicatif::ProgressBar;
use reqwest::{Certificate, Client, Url, redirect};

use super::plan::Shot;

const INITIAL: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(30);
/// The provider's own patience.
const TIMEOUT: Duration = Duration::from_secs(60);

/// What became of a delivery in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// A 2xx, and whether it said that it knows the event.
    Accepted { duplicate: bool },
    /// Any other answer that is final.
    Rejected,
    /// Given up.
    Failed,
}

/// One delivery, done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Report {
    pub(super) genuine: bool,
    pub(super) verdict: Verdict,
    /// Attempts after the first.
    pub(super) retries: u32,
    /// From request to final answer, without the attempts before.
    pub(super) latency: Option<Duration>,
}

/// No later attempt will change it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Hopeless {
    /// Nobody vouches for the server's certificate.
    #[error("the server's certificate is not trusted ({0}): give --ca FILE, or --insecure for a development server")]
    Untrusted(rustls::Error),
    /// What answers a plain request is no HTTP.
    #[error("what listens there speaks no plain HTTP: write https:// in --url, or another port")]
    NotPlain,
    /// What answers the first words of TLS is no TLS.
    #[error("what listens there speaks no TLS: write http:// in --url, or another port")]
    NotTls,
}

/// A client with connections that are kept, and no redirects.
pub(super) fn client(ca: Option<&Path>, insecure: bool, connections: usize) -> anyhow::Result<Client> {
    let mut builder = Client::builder()
        .http1_only()
        .no_proxy()
        .redirect(redirect::Policy::none())
        .timeout(TIMEOUT)
        .pool_max_idle_per_host(connections)
        .tls_danger_accept_invalid_certs(insecure);
    if let Some(file) = ca {
        let unusable = || format!("cannot use the certificates in {}", file.display());
        let pem = std::fs::read(file).with_context(unusable)?;
        builder = builder.tls_certs_only(Certificate::from_pem_bundle(&pem).with_context(unusable)?);
    }
    builder.build().context("cannot make an HTTP client")
}

/// Sends deliveries to one endpoint. Says each kind of trouble once, beside the progress bar.
pub(super) struct Sender {
    client: Client,
    url: Url,
    attempts: u32,
    bar: ProgressBar,
    said: Mutex<BTreeSet<String>>,
}

enum Answer {
    Final(Verdict),
    Again(String),
}

impl Sender {
    pub(super) fn new(client: Client, url: Url, attempts: u32, bar: ProgressBar) -> Self {
        Self { client, url, attempts, bar, said: Mutex::default() }
    }

    pub(super) async fn send(&self, shot: Shot) -> Result<Report, Hopeless> {
        let mut retries = 0;
        loop {
            let start = Instant::now();
            let (verdict, latency) = match self.attempt(&shot).await? {
                Answer::Final(verdict) => (verdict, Some(start.elapsed())),
                Answer::Again(trouble) if retries + 1 < self.attempts => {
                    self.say(format!("{trouble}; trying again"));
                    tokio::time::sleep(backoff(retries, fastrand::f64())).await;
                    retries += 1;
                    continue;
                }
                Answer::Again(trouble) => {
                    self.say(format!("{trouble}; gave up after {} attempts", self.attempts));
                    (Verdict::Failed, None)
                }
            };
            return Ok(Report { genuine: shot.genuine, verdict, retries, latency });
        }
    }

    async fn attempt(&self, shot: &Shot) -> Result<Answer, Hopeless> {
        let request = self
            .client
            .post(self.url.clone())
            .header("content-type", "application/json")
            .header("x-signature", &shot.signature)
            .body(shot.body.clone());
        let answered = async {
            let response = request.send().await?;
            Ok((response.status(), response.bytes().await?))
        };
        let (status, body) = match answered.await {
            Ok(answer) => answer,
            Err(error) => return broken(&error).map(Answer::Again),
        };
        if status.is_success() {
            let told = serde_json::from_slice::<serde_json::Value>(&body).ok();
            let duplicate = told.is_some_and(|told| told["duplicate"] == true);
            if !shot.genuine {
                self.say(format!("a forged {} ({}) was accepted: HTTP {status}", shot.event_type, shot.id));
            }
            return Ok(Answer::Final(Verdict::Accepted { duplicate }));
        }
        // A forger has no reason to come again: 503 is a refusal too.
        if shot.genuine && status.is_server_error() {
            return Ok(Answer::Again(format!("HTTP {status}{}", message(&body))));
        }
        if shot.genuine {
            let message = message(&body);
            self.say(format!("rejected for good, as the provider never retries this: HTTP {status}{message}"));
        }
        Ok(Answer::Final(Verdict::Rejected))
    }

    fn say(&self, text: String) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        // Bounded, should an answer differ each time.
        if said.len() < 20 && said.insert(text.clone()) {
            self.bar.suspend(|| to_stderr!("{text}"));
        }
    }
}

/// What an answer says besides its status: the relay's own message, or the beginning of whatever it is.
fn message(body: &[u8]) -> String {
    let json = serde_json::from_slice::<serde_json::Value>(body).ok();
    let own = json.as_ref().and_then(|json| json["message"].as_str().map(str::to_owned));
    let text = own.unwrap_or_else(|| String::from_utf8_lossy(body).into_owned());
    let words: Vec<&str> = text.split_whitespace().collect();
    let begun: String = words.join(" ").chars().take(LONGEST_MESSAGE).collect();
    if begun.is_empty() { begun } else { format!(": {begun}") }
}

/// Characters that are told of an answer.
const LONGEST_MESSAGE: usize = 200;

/// What went wrong on the way, in the words of its innermost cause.
fn broken(error: &reqwest::Error) -> Result<String, Hopeless> {
    if error.is_timeout() {
        return Ok(format!("no answer in {} s", TIMEOUT.as_secs()));
    }
    let mut cause: &(dyn Error + 'static) = error;
    loop {
        if let Some(tls @ rustls::Error::InvalidCertificate(_)) = cause.downcast_ref() {
            return Err(Hopeless::Untrusted(tls.clone()));
        }
        if let Some(rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType)) = cause.downcast_ref() {
            return Err(Hopeless::NotTls);
        }
        // An I/O error names as its source that of what it wraps, and not what it wraps.
        let wrapped = cause.downcast_ref().and_then(io::Error::get_ref);
        match wrapped.map(|wrapped| wrapped as &(dyn Error + 'static)).or_else(|| cause.source()) {
            Some(inner) => cause = inner,
            // The HTTP library tells this by its words alone.
            None if cause.to_string().contains("invalid HTTP version") => return Err(Hopeless::NotPlain),
            None => return Ok(cause.to_string()),
        }
    }
}

/// Doubles from [`INITIAL`] to [`LONGEST`]; the half of it is drawn with `random`, from 0 to 1.
fn backoff(retries: u32, random: f64) -> Duration {
    let bound = INITIAL.saturating_mul(2_u32.saturating_pow(retries)).min(LONGEST);
    bound / 2 + (bound / 2).mul_f64(random)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Arc;

    use rcgen::{CertifiedKey, generate_simple_self_signed};
    use rustls_pki_types::PrivateKeyDer;
    use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::task::JoinSet;
    use tokio_rustls::TlsAcceptor;

    use super::*;
    use crate::model::{EventId, EventType};

    fn shot(genuine: bool) -> Shot {
        Shot {
            event_type: EventType::canonical("payin.completed").unwrap(),
            id: EventId::new("evt-1").unwrap(),
            body: "{}".into(),
            signature: "00".to_owned(),
            genuine,
        }
    }

    fn sender(client: Client, scheme: &str, at: SocketAddr, attempts: u32) -> Sender {
        let url = format!("{scheme}://localhost:{}/webhooks/ralio", at.port()).parse().unwrap();
        Sender::new(client, url, attempts, ProgressBar::hidden())
    }

    /// Reads one request with the body `{}`, and answers it.
    async fn answer(
        mut stream: impl AsyncRead + AsyncWrite + Unpin,
        status: u16,
        body: &str,
    ) -> std::io::Result<String> {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n{}") {
            if stream.read_buf(&mut request).await? == 0 {
                break;
            }
        }
        let length = body.len();
        let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await?;
        Ok(String::from_utf8_lossy(&request).into_owned())
    }

    /// Answers one request a connection, then stops listening; gives back what was asked.
    async fn serve(answers: &'static [(u16, &'static str)]) -> (SocketAddr, JoinSet<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let task = async move {
            let mut requests = Vec::new();
            for (status, body) in answers {
                let (stream, _) = listener.accept().await.unwrap();
                requests.push(answer(stream, *status, body).await.unwrap());
            }
            requests
        };
        (at, JoinSet::from_iter([task]))
    }

    async fn verdict(genuine: bool, answers: &'static [(u16, &'static str)]) -> (Verdict, u32) {
        let (at, mut requests) = serve(answers).await;
        let report = sender(client(None, false, 1).unwrap(), "http", at, 3).send(shot(genuine)).await.unwrap();
        let requests = requests.join_next().await.unwrap().unwrap();
        assert!(requests.iter().all(|request| request.contains("x-signature: 00\r\n")));
        (report.verdict, report.retries)
    }

    #[tokio::test]
    async fn only_what_may_get_better_is_tried_again() {
        let accepted = |duplicate| Verdict::Accepted { duplicate };
        assert_eq!(verdict(true, &[(200, r#"{"received":true,"duplicate":false}"#)]).await, (accepted(false), 0));
        assert_eq!(verdict(true, &[(200, r#"{"received":true,"duplicate":true}"#)]).await, (accepted(true), 0));
        assert_eq!(verdict(true, &[(204, "")]).await, (accepted(false), 0));
        assert_eq!(verdict(true, &[(503, ""), (500, ""), (202, "thanks")]).await, (accepted(false), 2));
        assert_eq!(verdict(true, &[(503, ""), (503, ""), (503, "")]).await, (Verdict::Failed, 2));
        // The listener is gone after its last answer.
        assert_eq!(verdict(true, &[(502, "")]).await, (Verdict::Failed, 2));
        for status in [&[(401, "")], &[(404, "")], &[(408, "")], &[(429, "")], &[(302, "")]] {
            assert_eq!(verdict(true, status).await, (Verdict::Rejected, 0));
        }
        for status in [&[(401, "")], &[(503, "")]] {
            assert_eq!(verdict(false, status).await, (Verdict::Rejected, 0));
        }
        assert_eq!(verdict(false, &[(200, "")]).await, (accepted(false), 0));
    }

    #[tokio::test]
    async fn a_certificate_is_trusted_on_request_only() {
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let ca = directory.path().join("cert.pem");
        std::fs::write(&ca, cert.pem()).unwrap();
        let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let tls = tls.with_no_client_auth().with_single_cert(vec![cert.der().clone()], key).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let _server = JoinSet::from_iter([async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                if let Ok(stream) = acceptor.accept(stream).await {
                    answer(stream, 200, "{}").await.unwrap();
                }
            }
        }]);

        let stranger = sender(client(None, false, 1).unwrap(), "https", at, 3).send(shot(true)).await;
        assert!(stranger.unwrap_err().to_string().contains("--insecure"));
        for client in [client(Some(&ca), false, 1), client(None, true, 1)] {
            let report = sender(client.unwrap(), "https", at, 1).send(shot(true)).await.unwrap();
            assert_eq!(report.verdict, Verdict::Accepted { duplicate: false });
        }
    }

    #[test]
    fn what_an_answer_says_is_told_once_and_briefly() {
        let own = br#"{"error":"not_found","message":"no webhook is configured at this path"}"#;
        assert_eq!(message(own), ": no webhook is configured at this path");
        assert_eq!(message(b"<html>\n  <title>Bad  Gateway</title>\n"), ": <html> <title>Bad Gateway</title>");
        assert_eq!(message(b" \n"), "");
        assert_eq!(message("é".repeat(999).as_bytes()).chars().count(), 2 + LONGEST_MESSAGE);
    }

    #[tokio::test]
    async fn a_scheme_that_the_port_does_not_speak_is_hopeless() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        // What TLS answers to plain text: a fatal alert, unexpected_message.
        let _server = JoinSet::from_iter([async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.read_buf(&mut Vec::new()).await.unwrap();
                stream.write_all(&[21, 3, 3, 0, 2, 2, 10]).await.unwrap();
            }
        }]);
        let said = |error: Hopeless| error.to_string();
        let plain = sender(client(None, true, 1).unwrap(), "http", at, 3).send(shot(true)).await;
        assert!(said(plain.unwrap_err()).contains("https://"));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let _server = JoinSet::from_iter([async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.read_buf(&mut Vec::new()).await.unwrap();
                stream.write_all(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n").await.unwrap();
            }
        }]);
        let tls = sender(client(None, true, 1).unwrap(), "https", at, 3).send(shot(true)).await;
        assert!(said(tls.unwrap_err()).contains("http://"));
    }

    #[test]
    fn backoff_doubles_up_to_its_cap() {
        assert_eq!(backoff(0, 0.0), Duration::from_millis(250));
        assert_eq!(backoff(0, 1.0), Duration::from_millis(500));
        assert_eq!(backoff(3, 1.0), Duration::from_secs(4));
        for retries in [6, 50, u32::MAX] {
            assert_eq!(backoff(retries, 0.0), LONGEST / 2);
            assert_eq!(backoff(retries, 1.0), LONGEST);
        }
    }
}
