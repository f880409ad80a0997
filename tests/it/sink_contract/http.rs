//! `http`, against a scripted server, in the clear and over HTTP/2 with certificates on both sides.

use std::time::Duration;

use async_trait::async_trait;
use ralio_relay::model::Outcome;
use ralio_relay::sink::{self, Config, Format, Sink};
use reqwest::header::{HeaderName, HeaderValue};

use super::{Bench, Received, deliver, event, parse_line};
use crate::harness::fake_http::{Answer, FakeHttp, Recorded};
use crate::harness::pki::Pki;

pub struct Endpoint<const HTTP2: bool> {
    server: FakeHttp,
    pki: Option<Pki>,
}

impl<const HTTP2: bool> Endpoint<HTTP2> {
    async fn answering(status: u16) -> Self {
        if HTTP2 {
            let pki = Pki::new();
            let server = FakeHttp::over_tls(pki.server(&["h2"], Some(&pki)), [status]).await;
            Self { server, pki: Some(pki) }
        } else {
            Self { server: FakeHttp::answering([status]).await, pki: None }
        }
    }

    fn config(&self) -> sink::http::Config {
        let headers = vec![(HeaderName::from_static("authorization"), HeaderValue::from_static("Bearer t"))];
        let (url, tls) = (self.server.url().parse().unwrap(), self.pki.as_ref().map(Pki::mutual).unwrap_or_default());
        sink::http::Config { url, headers, signing_secret: None, allow_private: true, tls }
    }

    async fn sink_as(&self, format: Format) -> Box<dyn Sink> {
        sink::build(&Config::Http(self.config()), format).await.unwrap()
    }
}

fn parse(request: &Recorded) -> Received {
    let header = |name: &str| request.headers[name].to_str().unwrap().to_owned();
    let names = request.headers.keys().filter_map(|name| name.as_str().strip_prefix("ce-"));
    let mut attributes: std::collections::BTreeMap<_, _> =
        names.map(|name| (name.to_owned(), percent_decode(&header(&format!("ce-{name}"))))).collect();
    attributes.insert("datacontenttype".to_owned(), header("content-type"));
    Received { attributes, data: request.body.to_vec(), signature: Some(header("x-signature")) }
}

fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let digits = |rest: &mut std::str::Bytes<'_>| [rest.next().unwrap(), rest.next().unwrap()];
        match byte {
            b'%' => bytes.extend(data_encoding::HEXUPPER.decode(&digits(&mut rest)).unwrap()),
            other => bytes.push(other),
        }
    }
    String::from_utf8(bytes).unwrap()
}

#[async_trait(?Send)]
impl<const HTTP2: bool> Bench for Endpoint<HTTP2> {
    async fn new(_breakable: bool) -> Option<Self> {
        Some(Self::answering(200).await)
    }

    async fn sink(&self) -> Box<dyn Sink> {
        self.sink_as(Format::Raw).await
    }

    async fn received(&self) -> Vec<Received> {
        self.server.accepted().iter().map(parse).collect()
    }

    async fn break_it(&mut self) {
        self.server.stop().await;
    }

    async fn mend(&mut self) {
        self.server.answer([200]);
        self.server.start().await;
    }

    async fn refuse(&mut self) -> bool {
        self.server.answer([422]);
        true
    }

    async fn stall(&mut self) {
        self.server.answer([Answer::Hang]);
    }
}

/// The configured headers go along, and structured mode is one object.
#[tokio::test]
async fn structured_mode() {
    let endpoint = Endpoint::<false>::answering(200).await;
    let sink = endpoint.sink_as(Format::CloudEvents).await;
    let body = b"{\n \"fx\": 1.10 }";
    assert_eq!(deliver(&*sink, &event(1, body)).await, Outcome::delivered("HTTP 200"));
    let [request] = &endpoint.server.requests()[..] else { panic!("not one request") };
    assert_eq!(request.headers["content-type"], "application/cloudevents+json");
    assert_eq!(request.headers["authorization"], "Bearer t");
    let received = parse_line(std::str::from_utf8(&request.body).unwrap());
    assert_eq!(received.attributes, super::attributes(1));
    assert_eq!(received.data, body);
}

/// The server's own wish is passed on; a redirect is not followed.
#[tokio::test]
async fn answers_that_mean_later() {
    let endpoint = Endpoint::<false>::answering(200).await;
    let sink = endpoint.sink().await;
    let elsewhere = FakeHttp::answering([200]).await;
    endpoint.server.answer([
        Answer::Status(503, vec![("retry-after", "7".to_owned())]),
        Answer::Status(429, vec![("retry-after", "Fri, 31 Dec 9999 23:59:59 GMT".to_owned())]),
        Answer::Status(301, vec![("location", elsewhere.url())]),
        Answer::Status(307, vec![("location", elsewhere.url())]),
        Answer::Status(308, vec![("location", elsewhere.url()), ("retry-after", "7".to_owned())]),
    ]);
    let mut outcomes = Vec::new();
    for _ in 0..5 {
        let Outcome::Transient { reason, retry_after } = deliver(&*sink, &event(1, b"{}")).await else { panic!() };
        outcomes.push((reason.as_str().split(':').next().unwrap().to_owned(), retry_after));
    }
    let date = outcomes[1].1.take().expect("a date is a wish too");
    assert!(date > Duration::from_secs(7000 * 365 * 86_400), "{date:?}");
    let wish = [Some(Duration::from_secs(7)), None, None, None, None];
    let statuses = ["HTTP 503", "HTTP 429", "HTTP 301", "HTTP 307", "HTTP 308"].map(str::to_owned);
    assert_eq!(outcomes, statuses.into_iter().zip(wish).collect::<Vec<_>>());
    assert_eq!((elsewhere.connections(), endpoint.server.requests().len()), (0, 5));
}

/// Script order, and the bodies that were taken.
#[tokio::test]
async fn a_retry_is_accepted_once() {
    let endpoint = Endpoint::<false>::answering(200).await;
    endpoint.server.answer([503, 200]);
    let sink = endpoint.sink().await;
    assert_eq!(deliver(&*sink, &event(1, b"{}")).await, Outcome::transient("HTTP 503"));
    assert_eq!(deliver(&*sink, &event(1, b"{}")).await, Outcome::delivered("HTTP 200"));
    assert_eq!(endpoint.server.accepted_bodies(), ["{}"]);
    assert!(endpoint.server.requests().iter().all(|request| request.path == "/hook"));
}

/// What a far side answers to an event that it does not take is kept beside the reason: the first KiB, in a text that
/// steers no terminal, and the connection is used again.
#[tokio::test]
async fn the_words_of_a_refusal_go_along() {
    let endpoint = Endpoint::<false>::answering(200).await;
    let sink = endpoint.sink().await;
    let missing = r#"{"error":"field amount is missing"}"#;
    let answers = [
        Answer::Saying(422, missing.to_owned()),
        Answer::Saying(503, format!("\u{1b}[2J{}", "é".repeat(20_000))),
        Answer::Saying(500, String::new()),
        Answer::Saying(200, "thank you".to_owned()),
    ];
    endpoint.server.answer(answers);
    let refused = deliver(&*sink, &event(1, b"{}")).await;
    assert_eq!(refused, Outcome::permanent("HTTP 422").with_answer(missing));
    assert_eq!(refused.told(), format!("HTTP 422: {missing}"));
    let Outcome::Transient { reason, .. } = deliver(&*sink, &event(1, b"{}")).await else { panic!() };
    let words = reason.answer().unwrap();
    assert!(words.starts_with("[2Jé") && (1000..=1024).contains(&words.len()), "{words}");
    assert_eq!(deliver(&*sink, &event(1, b"{}")).await, Outcome::transient("HTTP 500"));
    assert_eq!(deliver(&*sink, &event(1, b"{}")).await, Outcome::delivered("HTTP 200"));
    assert_eq!(endpoint.server.connections(), 1);
}
