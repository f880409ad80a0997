//! HTTP POST.

mod addresses;
mod answer;
mod explain;
mod signing;
mod tls;

use std::fmt::{self, Write as _};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use reqwest::header::{
    AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER,
};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, Request, Response, Url, retry};
use secrecy::SecretString;

use crate::model::{MAX_ANSWER_BYTES, Outcome, Outgoing};

use super::cloudevents::{CloudEvent, STRUCTURED, Value, header_value};
use super::{BuildError, Format, Sink, Tls};
use addresses::PublicOnly;
pub use addresses::Refused;
use explain::explain;
use signing::Signer;

/// The provider's signature of the body, passed on as received.
const SIGNATURE: HeaderName = HeaderName::from_static("x-signature");

/// A server that takes longer, name and TLS included, is down. Well inside the usual delivery timeout.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Idle connections go before the usual keep-alive of servers and load balancers ends.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(20);

/// An HTTP/2 connection outlives the deliveries that were given up on it: one that is silent for this long while an
/// answer is due is asked for a sign of life, and replaced when none comes in the same time again.
const PING_AFTER: Duration = Duration::from_secs(3);

/// An answer's body is read, up to these bounds, so that the connection can be used again, and for what it says of a
/// failure. The consumer's clock is ticking meanwhile, and an outcome that comes too late is lost: less than any timeout
/// that can be configured.
const DRAIN_BYTES: usize = 64 << 10;
const DRAIN_TIME: Duration = Duration::from_millis(50);

/// Room for the headers of a request, the client's own and some of the configuration among them.
const HEADERS: usize = 24;

/// Checked settings.
#[derive(Clone)]
pub struct Config {
    /// Where to POST, directly: no proxy of the environment is used. May hold user and password.
    pub url: Url,
    /// Sent with every request; values are marked sensitive.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Signs every request the Standard Webhooks way: `whsec_` and base64, or plain text.
    pub signing_secret: Option<SecretString>,
    /// Whether addresses that are not public may be connected to ([`Refused`] says which).
    pub allow_private: bool,
    /// For an `https` URL.
    pub tls: Tls,
}

/// Without what may be a secret.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("host", &self.url.host_str()).finish_non_exhaustive()
    }
}

/// POSTs each event. `Delivered` means a 2xx; no redirect is followed.
///
/// Connections are kept and used again; an `https` server that offers HTTP/2 (ALPN, RFC 7301) gets one for all. The
/// caller's timeout is the only bound of a whole attempt.
pub struct Http {
    client: Client,
    /// Every delivery begins as a copy of it: the URL, and the credentials that it held.
    blank: Request,
    /// The URL's host is an address that must not be connected to.
    refused: Option<Refused>,
    signer: Option<Signer>,
    /// Something in the configuration says who is asking, and no signature is needed besides.
    has_credentials: bool,
    format: Format,
}

impl Http {
    /// Reads the certificates and makes the client; connects to nothing yet.
    pub fn new(config: &Config, format: Format) -> Result<Self, BuildError> {
        let client = client(config)?;
        let refused = if config.allow_private { None } else { Refused::by_url(&config.url) };
        let signer = config.signing_secret.as_ref().map(Signer::new).transpose().map_err(BuildError)?;
        let blank = client.post(config.url.clone()).build().map_err(|error| BuildError(explain(error)))?;
        let is_named = !config.headers.is_empty() || blank.headers().contains_key(AUTHORIZATION);
        Ok(Self { client, blank, refused, has_credentials: is_named && signer.is_none(), signer, format })
    }

    /// The only way out, for deliveries and probes alike. The error is a reason.
    async fn send(&self, request: Request) -> Result<Response, String> {
        match &self.refused {
            Some(refused) => Err(refused.to_string()),
            None => self.client.execute(request).await.map_err(explain),
        }
    }

    fn blank(&self) -> Request {
        self.blank.try_clone().expect("it has no body that could be used up")
    }

    fn request(&self, event: &Outgoing, now: Timestamp) -> (HeaderMap, Bytes) {
        let attributes = CloudEvent::new(event);
        let mut headers = HeaderMap::with_capacity(HEADERS);
        let body = match self.format {
            Format::Raw => {
                insert(attributes.headers(), &mut headers);
                headers.insert(CONTENT_TYPE, legal(attributes.content_type()));
                // The signature is over the body as it is packed.
                headers.extend(attributes.content_encoding().map(|encoding| (CONTENT_ENCODING, legal(encoding))));
                // A signature that held is hex or base64; anything else could not be a header.
                if let Ok(signature) = HeaderValue::from_str(&event.signature) {
                    headers.insert(SIGNATURE, signature);
                }
                event.body.clone()
            }
            Format::CloudEvents => {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static(STRUCTURED));
                attributes.to_json().into()
            }
        };
        if let Some(signer) = &self.signer {
            let id = header_value(event.id.as_str());
            for (name, value) in signer.sign(&id, now.as_second(), &body) {
                headers.insert(HeaderName::from_static(name), legal(&value));
            }
        }
        (headers, body)
    }
}

fn client(config: &Config) -> Result<Client, BuildError> {
    let mut headers = HeaderMap::new();
    for (name, value) in &config.headers {
        headers.append(name, value.clone());
    }
    let mut client = Client::builder()
        .user_agent(concat!("ralio-relay/", env!("CARGO_PKG_VERSION")))
        .default_headers(headers)
        .redirect(Policy::none())
        // Where events go is for the configuration alone to say.
        .no_proxy()
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(POOL_IDLE_TIMEOUT)
        .http2_keep_alive_interval(PING_AFTER)
        .http2_keep_alive_timeout(PING_AFTER);
    let mut remedy = "";
    match &config.tls.ca {
        Some(file) => client = client.tls_certs_only(tls::authorities(file)?),
        // No redirect can lead to https, so a machine without CA certificates will do.
        None if config.url.scheme() == "http" => client = client.tls_certs_only([]),
        None => remedy = "; install this machine's CA certificates (ca-certificates), or set ca",
    }
    if let Some(files) = &config.tls.client {
        client = client.identity(tls::identity(files)?);
    }
    if !config.allow_private {
        client = client.dns_resolver(PublicOnly);
    }
    if config.url.scheme() == "http" {
        // What the client sends again by itself are streams that a server refused unseen. HTTP/1 has none, so no request
        // need be copied for it.
        client = client.retry(retry::never());
    }
    client.build().map_err(|error| BuildError(format!("cannot make an HTTP client: {}{remedy}", explain(error))))
}

/// The values share one piece of memory: the client copies the headers of a request more than once.
fn insert<'a>(attributes: impl Iterator<Item = (&'static str, &'a Value<'a>)>, headers: &mut HeaderMap) {
    let (mut text, mut places) = (String::with_capacity(512), Vec::with_capacity(HEADERS));
    for (name, value) in attributes {
        let begin = text.len();
        match value {
            Value::Text(value) => text.push_str(&header_value(value)),
            Value::Number(_) | Value::Flag(_) => write!(text, "{value}").expect("writing to a String cannot fail"),
        }
        places.push((HeaderName::from_static(name), begin..text.len()));
    }
    let text = Bytes::from(text);
    for (name, place) in places {
        let value = HeaderValue::from_maybe_shared(text.slice(place));
        headers.insert(name, value.expect("printable ASCII is a legal header value"));
    }
}

fn legal(value: &str) -> HeaderValue {
    HeaderValue::from_str(value).expect("printable ASCII is a legal header value")
}

#[async_trait]
impl Sink for Http {
    async fn deliver(&self, event: &Outgoing) -> Outcome {
        let (mut headers, body) = self.request(event, Timestamp::now());
        if body.is_empty() {
            // The client leaves it out, and servers may insist on it (RFC 9110, section 8.6).
            headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        let mut request = self.blank();
        headers.extend(std::mem::take(request.headers_mut()));
        *request.headers_mut() = headers;
        *request.body_mut() = Some(body.into());
        match self.send(request).await {
            Ok(response) => {
                let wish = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
                let retry_after = wish.and_then(|wish| answer::retry_after(wish, SystemTime::now()));
                let outcome = answer::classify(response.status(), retry_after);
                let words = drain(response).await;
                outcome.with_answer(String::from_utf8_lossy(&words))
            }
            Err(reason) => Outcome::transient(reason),
        }
    }

    /// An endpoint for POST may answer a HEAD as it likes. But a redirect is not followed, credentials are refused and a
    /// gateway is without its server whatever the method.
    async fn probe(&self) -> Result<Option<String>, String> {
        let mut request = self.blank();
        *request.method_mut() = Method::HEAD;
        let status = self.send(request).await?.status();
        let said = answer::told(status);
        match status.as_u16() {
            300..=399 | 502..=504 => Err(said),
            401 if self.has_credentials => Err(said),
            400 | 401 | 403 | 404 | 410 | 500 | 505..=599 => Ok(Some(said)),
            _ => Ok(None),
        }
    }

    async fn close(&self) {
        // Idle connections close when the client is dropped; nothing is buffered.
    }
}

/// Reads what is left of a small answer, and returns its beginning. The status has decided already: a slow or broken body
/// changes nothing.
async fn drain(mut response: Response) -> Vec<u8> {
    let mut words = Vec::new();
    let read = async {
        let mut bytes = 0;
        while let Ok(Some(chunk)) = response.chunk().await {
            let room = MAX_ANSWER_BYTES - words.len();
            words.extend_from_slice(&chunk[..chunk.len().min(room)]);
            bytes += chunk.len();
            if bytes > DRAIN_BYTES {
                break;
            }
        }
    };
    // Running out of time means only that this connection is not used again.
    let _ = tokio::time::timeout(DRAIN_TIME, read).await;
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::EventId;
    use crate::sink::fixtures::event;

    fn config(url: &str) -> Config {
        let (headers, tls) = (Vec::new(), Tls::default());
        Config { url: url.parse().unwrap(), headers, signing_secret: None, allow_private: true, tls }
    }

    fn http(format: Format, signing_secret: Option<&str>) -> Http {
        let mut config = config("http://user:secret@127.0.0.1:1/hook?token=secret");
        config.signing_secret = signing_secret.map(Into::into);
        Http::new(&config, format).unwrap()
    }

    #[test]
    fn binary_mode_has_the_untouched_body_and_every_attribute() {
        let event = event("{ }\n");
        let (headers, body) = http(Format::Raw, None).request(&event, Timestamp::UNIX_EPOCH);
        assert_eq!(body, event.body);
        let mut lines: Vec<_> = headers.iter().map(|(n, v)| format!("{n}: {}", v.to_str().unwrap())).collect();
        lines.sort();
        assert_eq!(
            lines,
            [
                "ce-id: evt-1",
                "ce-raliocategory: payin",
                "ce-ralioreceived: 2026-02-26T22:02:29Z",
                "ce-ralioseq: 17",
                "ce-raliostale: false",
                "ce-source: /ralio/production",
                "ce-specversion: 1.0",
                "ce-subject: order-1",
                "ce-time: 2026-02-26T22:02:28.7667797Z",
                "ce-type: payin.completed",
                "content-type: application/json",
                "x-signature: sha256=00ff",
            ]
        );
    }

    #[test]
    fn structured_mode_is_one_json_object() {
        let (headers, body) = http(Format::CloudEvents, None).request(&event("{}"), Timestamp::UNIX_EPOCH);
        assert_eq!(headers.len(), 1);
        assert_eq!(headers["content-type"], "application/cloudevents+json");
        assert!(body.starts_with(b"{\"specversion\":\"1.0\""));
    }

    #[test]
    fn what_is_sent_is_what_is_signed() {
        let mut event = event("{\"a\":1.10}");
        event.id = EventId::new("évt 1").unwrap();
        for format in [Format::Raw, Format::CloudEvents] {
            let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
            let (headers, body) = http(format, Some(secret)).request(&event, Timestamp::now());
            assert_eq!(headers["webhook-id"], "%C3%A9vt%201");
            standardwebhooks::Webhook::new(secret).unwrap().verify(&body, &headers).unwrap();
        }
    }

    /// An answer whose body never comes is an answer all the same, also for a consumer that waits no longer than this.
    #[tokio::test]
    async fn a_body_that_does_not_come_does_not_hold_up_the_outcome() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let sink = Http::new(&config(&url), Format::Raw).unwrap();
        let event = event("{}");
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            while stream.read_u8().await.unwrap() != b'}' {}
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nsl").await.unwrap();
            // Until the connection is given up.
            while stream.read_u8().await.is_ok() {}
        };
        let delivery = tokio::time::timeout(Duration::from_millis(400), sink.deliver(&event));
        let (outcome, ()) = tokio::join!(delivery, server);
        assert_eq!(outcome, Ok(Outcome::delivered("HTTP 200")));
    }

    #[tokio::test]
    async fn reasons_hold_no_part_of_the_url() {
        let Outcome::Transient { reason, .. } = http(Format::Raw, None).deliver(&event("{}")).await else {
            panic!("delivered to nobody")
        };
        assert_eq!(reason.as_str(), "cannot connect to 127.0.0.1:1: connection refused");
        for part in ["secret", "token", "hook", "user"] {
            assert!(!reason.as_str().contains(part), "{reason}");
        }
    }
}
