//! One contract for every sink: what `trait Sink` promises, checked from outside against the real far side.

mod amqp;
mod exec;
mod file;
mod http;
mod stdout;

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::join_all;
use ralio_relay::model::{EntityKey, EventId, EventType, Outcome, Outgoing, Reason, Seq, SourceName};
use ralio_relay::sink::Sink;

use crate::harness::{DEADLINE, eventually};

/// A kind of sink and its far side.
#[async_trait(?Send)]
pub trait Bench: Sized + Send + Sync {
    /// Whether `probe` can tell that the far side is down.
    const PROBES: bool = true;

    /// A far side of its own. With `breakable` it can be broken and stalled. `None` = cannot run here.
    async fn new(breakable: bool) -> Option<Self>;

    /// The sink, as the library makes it.
    async fn sink(&self) -> Box<dyn Sink>;

    /// Everything that the far side holds.
    async fn received(&self) -> Vec<Received>;

    /// Takes the far side down.
    async fn break_it(&mut self);

    /// Puts right whatever was done.
    async fn mend(&mut self);

    /// Makes the far side refuse events for good; `false` = this kind never does.
    async fn refuse(&mut self) -> bool {
        false
    }

    /// Makes the far side take events and never answer, where it can do that.
    async fn stall(&mut self) {}

    /// What the far side should hold of a body.
    fn expected(body: &Body) -> Vec<u8> {
        body.sent.to_vec()
    }
}

/// An event as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// CloudEvents attributes by name, `datacontenttype` included.
    pub attributes: BTreeMap<String, String>,
    pub data: Vec<u8>,
    /// Where this kind of sink passes it on.
    pub signature: Option<String>,
}

impl Received {
    fn id(&self) -> &str {
        &self.attributes["id"]
    }
}

/// A body, and what is left of it on one line.
pub struct Body {
    sent: &'static [u8],
    line: &'static [u8],
}

const fn body(sent: &'static [u8]) -> Body {
    Body { sent, line: sent }
}

/// Ordinary ones and odd ones.
const BODIES: [Body; 8] = [
    body(br#"{"id":"a","event":"payin_completed","data":{"fx":1.10,"amount":12345678901234567890123}}"#),
    Body {
        sent: b"{\r\n  \"s\" : \"a  \\\"b\\\\\" ,\n\t\"n\" : [ 1.0 , 2e0 ] ,\n \"m\": null\n}\n",
        line: b"{\"s\":\"a  \\\"b\\\\\",\"n\":[1.0,2e0],\"m\":null}",
    },
    body("{\"name\":\"Zoë 😀 \u{2028} \\ud800\"}".as_bytes()),
    body(b""),
    body(b"not json\nat all"),
    body(b"\x00\xff\xfe binary \r\n\x00"),
    body(b"\"\xff\""),
    body(b"null"),
];

/// An ordinary event.
pub fn event(n: i64, body: &[u8]) -> Outgoing {
    let event_type = EventType::canonical("payin_completed").unwrap();
    Outgoing {
        seq: Seq::new(n).unwrap(),
        id: EventId::new(&format!("evt-{n}")).unwrap(),
        category: event_type.category(),
        event_type,
        source: SourceName::new("production").unwrap(),
        key: EntityKey::new(&format!("order \"{n}\" 100% é 😀")).unwrap(),
        time: Some("2026-02-26T17:02:28.7667797-05:00".parse().unwrap()),
        received_at: "2026-02-26T22:02:29.5Z".parse().unwrap(),
        stale: n % 2 == 0,
        replay: None,
        signature: format!("sha256={n:064x}"),
        content_type: "application/json; charset=utf-8".to_owned(),
        content_encoding: None,
        body: Bytes::copy_from_slice(body),
    }
}

fn attributes(n: i64) -> BTreeMap<String, String> {
    let attributes = [
        ("specversion", "1.0".to_owned()),
        ("id", format!("evt-{n}")),
        ("source", "/ralio/production".to_owned()),
        ("type", "payin.completed".to_owned()),
        ("subject", format!("order \"{n}\" 100% é 😀")),
        ("time", "2026-02-26T22:02:28.7667797Z".to_owned()),
        ("datacontenttype", "application/json; charset=utf-8".to_owned()),
        ("ralioseq", n.to_string()),
        ("raliocategory", "payin".to_owned()),
        ("ralioreceived", "2026-02-26T22:02:29.5Z".to_owned()),
        ("raliostale", (n % 2 == 0).to_string()),
    ];
    attributes.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// One delivery, which must come to an end.
pub async fn deliver(sink: &dyn Sink, event: &Outgoing) -> Outcome {
    tokio::time::timeout(DEADLINE, sink.deliver(event)).await.expect("a delivery never ended")
}

/// Delivers again and again, as the consumer would, until it works.
pub async fn deliver_in_the_end(sink: &dyn Sink, event: &Outgoing) {
    eventually("a delivery to succeed", async || {
        match tokio::time::timeout(Duration::from_secs(2), sink.deliver(event)).await {
            Ok(Outcome::Delivered { .. }) => Ok(()),
            Ok(Outcome::Permanent { reason }) => panic!("{reason}"),
            Ok(Outcome::Transient { reason, .. }) => Err(reason),
            Err(_) => Err(Reason::new("no answer")),
        }
    })
    .await;
}

/// Waits until the far side holds so many, and gives them by id.
async fn received(bench: &impl Bench, count: usize) -> Vec<Received> {
    let what = format!("{count} events at the far side");
    let mut received = eventually(&what, async || {
        let received = bench.received().await;
        if received.len() >= count { Ok(received) } else { Err(received.len()) }
    })
    .await;
    received.sort_by_key(|event| event.attributes["ralioseq"].parse::<i64>().unwrap());
    received
}

fn ids(received: &[Received]) -> Vec<&str> {
    received.iter().map(Received::id).collect()
}

/// Body and attributes arrive as they are, whatever they are.
async fn carries_everything<B: Bench>() {
    let Some(bench) = B::new(false).await else { return };
    let sink = bench.sink().await;
    for (n, body) in (1..).zip(&BODIES) {
        let outcome = deliver(&*sink, &event(n, body.sent)).await;
        assert_eq!(outcome.label(), "delivered", "{outcome:?}");
    }
    let received = received(&bench, BODIES.len()).await;
    assert_eq!(received.len(), BODIES.len());
    for ((n, body), received) in (1..).zip(&BODIES).zip(received) {
        assert_eq!(received.attributes, attributes(n));
        assert_eq!(Bytes::from(received.data), Bytes::from(B::expected(body)));
        if let Some(signature) = received.signature {
            assert_eq!(signature, event(n, b"").signature);
        }
    }
    sink.close().await;
}

/// Many at once are each delivered exactly once, and with their own body.
async fn takes_many_at_once<B: Bench>() {
    const COUNT: i64 = 200;
    let Some(bench) = B::new(false).await else { return };
    let sink = bench.sink().await;
    let events: Vec<_> = (1..=COUNT).map(|n| event(n, format!("{{\"n\":{n}}}").as_bytes())).collect();
    for outcome in join_all(events.iter().map(|event| deliver(&*sink, event))).await {
        assert_eq!(outcome.label(), "delivered", "{outcome:?}");
    }
    let received = received(&bench, events.len()).await;
    let bodies: Vec<_> = received.iter().map(|received| (received.id(), &received.data[..])).collect();
    let expected: Vec<_> = events.iter().map(|event| (event.id.as_str(), &event.body[..])).collect();
    assert_eq!(bodies, expected);
    sink.close().await;
}

/// An outage is a transient failure, and ends without making the sink anew.
async fn survives_an_outage<B: Bench>() {
    let Some(mut bench) = B::new(true).await else { return };
    let sink = bench.sink().await;
    assert_eq!(sink.probe().await, Ok(None));
    deliver_in_the_end(&*sink, &event(1, b"{}")).await;
    received(&bench, 1).await;

    bench.break_it().await;
    for n in 2..=4 {
        let outcome = deliver(&*sink, &event(n, b"{}")).await;
        assert_eq!(outcome.label(), "transient", "{outcome:?}");
    }
    assert_eq!(sink.probe().await.is_err(), B::PROBES);

    bench.mend().await;
    for n in 2..=4 {
        deliver_in_the_end(&*sink, &event(n, b"{}")).await;
    }
    assert_eq!(sink.probe().await, Ok(None));
    let received = received(&bench, 4).await;
    assert_eq!(ids(&received), ["evt-1", "evt-2", "evt-3", "evt-4"]);
    sink.close().await;
}

/// A refusal that will stay one is permanent, and only for its event.
async fn tells_a_refusal<B: Bench>() {
    let Some(mut bench) = B::new(true).await else { return };
    if !bench.refuse().await {
        return;
    }
    let sink = bench.sink().await;
    let outcome = deliver(&*sink, &event(1, b"{}")).await;
    assert_eq!(outcome.label(), "permanent", "{outcome:?}");
    bench.mend().await;
    assert_eq!(deliver(&*sink, &event(2, b"{}")).await.label(), "delivered");
    assert_eq!(ids(&received(&bench, 1).await), ["evt-2"]);
    sink.close().await;
}

/// Deliveries that are given up leave a sink that works.
async fn survives_being_given_up<B: Bench>() {
    let Some(mut bench) = B::new(true).await else { return };
    let sink = bench.sink().await;
    deliver_in_the_end(&*sink, &event(1, b"{}")).await;

    bench.stall().await;
    let large = vec![b' '; 64 << 10];
    let events: Vec<_> = (2..=21).map(|n| event(n, &large)).collect();
    let outcomes = join_all(events.iter().map(|event| {
        // The consumer's own timeout, at every stage of a delivery.
        let timeout = Duration::from_millis(15 * u64::try_from(event.seq.get()).unwrap());
        tokio::time::timeout(timeout, sink.deliver(event))
    }))
    .await;
    bench.mend().await;

    deliver_in_the_end(&*sink, &event(22, b"{}")).await;
    let received = eventually("the event after the stall", async || {
        let received = bench.received().await;
        if ids(&received).contains(&"evt-22") { Ok(received) } else { Err(received.len()) }
    })
    .await;
    let ids = ids(&received);
    for (event, outcome) in events.iter().zip(outcomes) {
        if matches!(outcome, Ok(Outcome::Delivered { .. })) {
            assert!(ids.contains(&event.id.as_str()), "{} was delivered to nobody", event.id);
        }
    }
    sink.close().await;
}

/// What was delivered before `close` is there after it.
async fn close_flushes<B: Bench>() {
    let Some(bench) = B::new(false).await else { return };
    let sink = bench.sink().await;
    let events: Vec<_> = (1..=50).map(|n| event(n, b"{}")).collect();
    let outcomes = join_all(events.iter().map(|event| deliver(&*sink, event))).await;
    assert!(outcomes.iter().all(|outcome| outcome.label() == "delivered"));
    tokio::time::timeout(DEADLINE, sink.close()).await.expect("close never ended");
    drop(sink);
    assert_eq!(received(&bench, events.len()).await.len(), events.len());
}

macro_rules! contract {
    ($kind:ident, $bench:ty) => {
        mod $kind {
            contract!(@ $bench: carries_everything takes_many_at_once survives_an_outage tells_a_refusal
                survives_being_given_up close_flushes);
        }
    };
    (@ $bench:ty: $($test:ident)+) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                crate::sink_contract::$test::<$bench>().await;
            }
        )+
    };
}

mod contract_for {
    #[cfg(feature = "amqp")]
    contract!(amqp, crate::sink_contract::amqp::Queue);
    contract!(exec, crate::sink_contract::exec::Command);
    contract!(file, crate::sink_contract::file::Directory);
    contract!(http, crate::sink_contract::http::Endpoint<false>);
    contract!(http2, crate::sink_contract::http::Endpoint<true>);
    contract!(stdout, crate::sink_contract::stdout::Pipe);
}

/// A line of a file or of standard output.
fn parse_line(line: &str) -> Received {
    use serde_json::value::RawValue;
    let mut object: BTreeMap<String, &RawValue> = serde_json::from_str(line).unwrap();
    let data = match (object.remove("data"), object.remove("data_base64")) {
        (Some(json), None) => json.get().as_bytes().to_vec(),
        (None, Some(base64)) => {
            let text: String = serde_json::from_str(base64.get()).unwrap();
            data_encoding::BASE64.decode(text.as_bytes()).unwrap()
        }
        other => panic!("{other:?}"),
    };
    let text = |value: &RawValue| serde_json::from_str(value.get()).unwrap_or_else(|_| value.get().to_owned());
    let attributes = object.into_iter().map(|(name, value)| (name, text(value))).collect();
    Received { attributes, data, signature: None }
}
