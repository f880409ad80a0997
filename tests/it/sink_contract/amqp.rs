//! `amqp`, against a real RabbitMQ.
#![cfg(feature = "amqp")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use ralio_relay::model::{EntityKey, EventId, EventType, Outcome};
use ralio_relay::sink::{self, Config, Format, Sink};
use ralio_relay::sink::{ClientCertificate, Tls};
use serde_json::{Value, json};

use super::{Bench, Received, deliver, deliver_in_the_end, event, received};
use crate::harness::eventually;
use crate::harness::rabbitmq::{self, Exclusive, Message, Shared, Vhost};

pub struct Queue {
    vhost: Vhost,
    access: Access,
}

enum Access {
    Beside { _others: Shared },
    Alone(Exclusive),
}

impl Queue {
    fn config(&self) -> sink::amqp::Config {
        sink::amqp::Config {
            url: self.vhost.url().into(),
            exchange: "ralio.events".to_owned(),
            declare: true,
            queue: Some("all".to_owned()),
            tls: Tls::default(),
        }
    }

    /// Over TLS, trusting the broker's CA.
    fn tls_config(&self) -> sink::amqp::Config {
        let tls = Tls { ca: Some(self.vhost.ca()), client: None };
        sink::amqp::Config { url: self.vhost.tls_url().into(), tls, ..self.config() }
    }

    fn alone(&mut self) -> &mut Exclusive {
        match &mut self.access {
            Access::Alone(broker) => broker,
            Access::Beside { .. } => panic!("made for use beside others"),
        }
    }
}

async fn build(config: sink::amqp::Config) -> Box<dyn Sink> {
    sink::build(&Config::Amqp(config), Format::Raw).await.unwrap()
}

/// Why an attempt failed for now.
#[track_caller]
fn reason(outcome: Outcome) -> String {
    match outcome {
        Outcome::Transient { reason, .. } => reason.to_string(),
        other => panic!("{other:?}"),
    }
}

/// The number in a receipt, and the channel.
#[track_caller]
fn receipt(outcome: &Outcome) -> (u64, String) {
    let Outcome::Delivered { receipt } = outcome else { panic!("{outcome:?}") };
    let parts = receipt.as_str().strip_prefix("confirm ").and_then(|rest| rest.split_once(" on channel of "));
    let (number, channel) = parts.unwrap_or_else(|| panic!("{receipt}"));
    (number.parse().unwrap(), channel.to_owned())
}

fn parse(message: Message) -> Received {
    let properties = message.properties;
    let text = |name: &str| properties[name].as_str().unwrap().to_owned();
    let headers = properties["headers"].as_object().unwrap();
    let mut attributes: BTreeMap<_, _> = headers
        .iter()
        .filter_map(|(name, value)| Some((name.strip_prefix("ce-")?.to_owned(), value.as_str().unwrap().to_owned())))
        .collect();
    attributes.insert("datacontenttype".to_owned(), text("content_type"));
    assert_eq!(properties["delivery_mode"], 2);
    assert_eq!(properties["timestamp"], 1_772_143_348);
    assert_eq!(text("app_id"), "ralio-relay");
    assert_eq!(text("message_id"), attributes["id"]);
    assert_eq!(text("type"), attributes["type"]);
    assert_eq!(message.routing_key, attributes["type"]);
    let signature = headers["x-ralio-signature"].as_str().unwrap().to_owned();
    Received { attributes, data: message.payload, signature: Some(signature) }
}

#[async_trait(?Send)]
impl Bench for Queue {
    async fn new(breakable: bool) -> Option<Self> {
        Some(if breakable {
            let broker = rabbitmq::exclusive().await?;
            Self { vhost: broker.vhost().await, access: Access::Alone(broker) }
        } else {
            let broker = rabbitmq::shared().await?;
            Self { vhost: broker.vhost().await, access: Access::Beside { _others: broker } }
        })
    }

    async fn sink(&self) -> Box<dyn Sink> {
        build(self.config()).await
    }

    async fn received(&self) -> Vec<Received> {
        self.vhost.messages("all").await.into_iter().map(parse).collect()
    }

    async fn break_it(&mut self) {
        self.alone().stop_app().await;
    }

    async fn mend(&mut self) {
        self.alone().mend().await;
    }

    async fn stall(&mut self) {
        self.alone().freeze().await;
    }
}

/// What was confirmed is there after the broker was killed, and in-flight deliveries of that moment fail for now.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn confirmed_messages_survive_the_death_of_the_broker() {
    let Some(mut queue) = Queue::new(true).await else { return };
    let sink = queue.sink().await;
    let events: Vec<_> = (1..=100).map(|n| event(n, b"{}")).collect();
    let (early, late) = events.split_at(50);
    assert!(join_all(early.iter().map(|event| deliver(&*sink, event))).await.iter().all(|o| o.label() == "delivered"));

    let (outcomes, ()) = tokio::join!(join_all(late.iter().map(|event| deliver(&*sink, event))), queue.alone().kill());
    let later = deliver(&*sink, &event(101, b"{}")).await;
    assert_eq!(later.label(), "transient", "{later:?}");
    queue.mend().await;

    let received = queue.received().await;
    let holds = |n: i64| received.iter().any(|received| received.attributes["ralioseq"] == n.to_string());
    assert!((1..=50).all(holds));
    for (event, outcome) in late.iter().zip(outcomes) {
        assert!(outcome.label() == "transient" || holds(event.seq.get()), "{outcome:?}");
    }
    deliver_in_the_end(&*sink, &event(101, b"{}")).await;
    sink.close().await;
}

/// A broker that falls silent is left: a delivery that was given up there ends the connection, and the next one tries
/// another instead of waiting on the old one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_broker_is_left() {
    let Some(mut queue) = Queue::new(true).await else { return };
    let sink = queue.sink().await;
    assert_eq!(deliver(&*sink, &event(1, b"{}")).await.label(), "delivered");
    queue.stall().await;
    let given_up = tokio::time::timeout(Duration::from_millis(200), sink.deliver(&event(2, b"{}"))).await;
    assert!(given_up.is_err(), "{given_up:?}");
    let reason = reason(deliver(&*sink, &event(2, b"{}")).await);
    assert!(reason.starts_with("cannot connect to "), "{reason}");
    queue.mend().await;
    deliver_in_the_end(&*sink, &event(2, b"{}")).await;
    sink.close().await;
}

/// Among many outstanding confirms, exactly the messages that no queue takes fail, each time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unroutable_message_is_never_delivered() {
    let Some(queue) = Queue::new(false).await else { return };
    // A quorum queue confirms late and many at once, while unroutable messages are confirmed at once.
    queue.vhost.bind("payins", json!({"x-queue-type": "quorum"}), "ralio.events", "payin.*").await;
    let sink = build(sink::amqp::Config { queue: None, ..queue.config() }).await;
    let mut receipts = BTreeSet::new();
    for round in 0..10 {
        let mut events: Vec<_> = (1..=200).map(|n| event(round * 200 + n, b"{}")).collect();
        for event in &mut events {
            if event.seq.get() % 3 == 0 {
                event.event_type = EventType::canonical("payout.completed").unwrap();
            }
        }
        let outcomes = join_all(events.iter().map(|event| deliver(&*sink, event))).await;
        for (event, outcome) in events.iter().zip(outcomes) {
            match event.event_type.as_str() {
                "payin.completed" => assert!(receipts.insert(receipt(&outcome)), "a confirm for two: {outcome:?}"),
                key => {
                    let expected = format!("no queue is bound to exchange 'ralio.events' for routing key '{key}'");
                    assert_eq!(outcome, Outcome::transient(expected).with_answer("312 NO_ROUTE"), "{}", event.seq);
                }
            }
        }
    }
    sink.close().await;
}

/// A receipt holds the number that the broker confirms: every message on the channel counts, those that came back, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receipt_names_the_confirm() {
    let Some(queue) = Queue::new(false).await else { return };
    queue.vhost.bind("payins", json!({}), "ralio.events", "payin.*").await;
    let sink = build(sink::amqp::Config { queue: None, ..queue.config() }).await;
    let mut channels = BTreeSet::new();
    for n in 1..=9_u32 {
        let mut event = event(n.into(), b"{}");
        if n % 3 == 0 {
            event.event_type = EventType::canonical("payout.completed").unwrap();
            assert_eq!(deliver(&*sink, &event).await.label(), "transient");
        } else {
            let (number, channel) = receipt(&deliver(&*sink, &event).await);
            assert_eq!(number, u64::from(n));
            channels.insert(channel);
        }
    }
    assert_eq!(channels.len(), 1);
    sink.close().await;
}

/// A full queue that rejects is a failure for now.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_message_is_tried_again() {
    let Some(queue) = Queue::new(false).await else { return };
    let full = json!({"x-max-length": 1, "x-overflow": "reject-publish"});
    queue.vhost.bind("full", full, "ralio.events", "#").await;
    let sink = build(sink::amqp::Config { queue: None, ..queue.config() }).await;
    assert_eq!(deliver(&*sink, &event(1, b"{}")).await.label(), "delivered");
    let outcome = deliver(&*sink, &event(2, b"{}")).await;
    assert_eq!(outcome, Outcome::transient("the broker refused the message (basic.nack)"));
    sink.close().await;
}

/// An exchange that is not to be declared, and is not there, is a failure for now, until somebody declares it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_exchange_is_waited_for() {
    let Some(queue) = Queue::new(false).await else { return };
    let sink = build(sink::amqp::Config { declare: false, queue: None, ..queue.config() }).await;
    let reason = reason(deliver(&*sink, &event(1, b"{}")).await);
    assert!(reason.contains("no exchange 'ralio.events'"), "{reason}");
    assert!(sink.probe().await.unwrap_err().contains("no exchange 'ralio.events'"));

    queue.vhost.bind("all", json!({}), "ralio.events", "#").await;
    assert_eq!(sink.probe().await, Ok(None));
    deliver_in_the_end(&*sink, &event(1, b"{}")).await;
    assert_eq!(received(&queue, 1).await.len(), 1);
    sink.close().await;
}

/// A password that is refused is a failure for now, and is not shown.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_not_shown() {
    let Some(queue) = Queue::new(false).await else { return };
    let url = queue.vhost.url().replace("guest:guest", "guest:hunter2");
    let sink = build(sink::amqp::Config { url: url.into(), ..queue.config() }).await;
    let reason = reason(deliver(&*sink, &event(1, b"{}")).await);
    assert!(reason.contains("ACCESS_REFUSED") && !reason.contains("hunter2"), "{reason}");
}

/// The one connection, as the broker sees it; it takes its time to list it.
async fn connection(queue: &Queue) -> Value {
    eventually("one connection", async || match &mut queue.vhost.connections().await[..] {
        [one] if one["ssl"].is_boolean() => Ok(one.take()),
        others => Err(others.to_vec()),
    })
    .await
}

/// Over TLS, with the CA that is named and no other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_private_ca_is_trusted_when_it_is_named() {
    let Some(queue) = Queue::new(false).await else { return };
    let sink = build(queue.tls_config()).await;
    assert_eq!(sink.probe().await, Ok(None));
    let events: Vec<_> = (1..=20).map(|n| event(n, &vec![b'x'; 100_000])).collect();
    let outcomes = join_all(events.iter().map(|event| deliver(&*sink, event))).await;
    assert!(outcomes.iter().all(|outcome| outcome.label() == "delivered"), "{outcomes:?}");
    let received = received(&queue, 20).await;
    assert!(received.iter().zip(&events).all(|(received, event)| received.data == event.body));
    assert_eq!(connection(&queue).await["ssl"], true);
    sink.close().await;

    let other = tempfile::tempdir().unwrap();
    let other_ca = other.path().join("ca.crt");
    std::fs::write(&other_ca, rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap().cert.pem())
        .unwrap();
    for ca in [None, Some(other_ca)] {
        let sink = build(sink::amqp::Config { tls: Tls { ca, client: None }, ..queue.tls_config() }).await;
        let reason = reason(deliver(&*sink, &event(21, b"{}")).await);
        assert!(reason.starts_with("cannot connect to ") && reason.contains("certificate"), "{reason}");
        assert!(sink.probe().await.is_err());
        sink.close().await;
    }
    assert_eq!(queue.received().await.len(), 20);
}

/// The broker sees the client's certificate.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_certificate_is_shown_to_the_broker() {
    let Some(queue) = Queue::new(false).await else { return };
    let [cert, key] = queue.vhost.client();
    let tls = Tls { ca: Some(queue.vhost.ca()), client: Some(ClientCertificate { cert, key }) };
    let sink = build(sink::amqp::Config { tls, ..queue.tls_config() }).await;
    assert_eq!(deliver(&*sink, &event(1, b"{}")).await.label(), "delivered");
    let subject = connection(&queue).await["peer_cert_subject"].take();
    assert!(subject.as_str().is_some_and(|subject| subject.contains(rabbitmq::CLIENT_NAME)), "{subject}");
    sink.close().await;
}

/// A file that is no certificate is an error when the sink is made, not an outage later.
#[tokio::test]
async fn a_file_that_is_no_certificate_is_named() {
    let Some(queue) = Queue::new(false).await else { return };
    let tls = Tls { ca: Some("Cargo.toml".into()), client: None };
    let config = Config::Amqp(sink::amqp::Config { tls, ..queue.tls_config() });
    let wrong = sink::build(&config, Format::Raw).await.err().unwrap().to_string();
    assert!(wrong.starts_with("ca: Cargo.toml holds no certificate"), "{wrong}");
}

/// While the broker blocks publishers, every delivery is told so at once. The connection stays, and carries on after it:
/// what was under way arrives.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_blocks_is_not_waited_for() {
    let Some(mut queue) = Queue::new(true).await else { return };
    let sink = queue.sink().await;
    let (number, channel) = receipt(&deliver(&*sink, &event(1, b"{}")).await);
    assert_eq!(number, 1);

    queue.alone().raise_memory_alarm().await;
    // The broker blocks when the next message comes. Nobody knows what becomes of that one.
    let second = event(2, b"{}");
    let mut under_way = sink.deliver(&second);
    let blocked = async {
        eventually("a delivery that is told at once", async || {
            match tokio::time::timeout(Duration::from_millis(300), sink.deliver(&event(3, b"{}"))).await {
                Ok(Outcome::Transient { reason, .. }) => Ok(reason),
                other => Err(other),
            }
        })
        .await
    };
    let said = tokio::select! {
        said = blocked => said,
        outcome = &mut under_way => panic!("{outcome:?}"),
    };
    assert!(said.as_str().starts_with("the broker blocks publishers: low on memory"), "{said}");
    let events: Vec<_> = (4..=103).map(|n| event(n, b"{}")).collect();
    let all = join_all(events.iter().map(|event| sink.deliver(event)));
    let outcomes = tokio::time::timeout(Duration::from_secs(5), all).await.expect("each waited");
    assert!(outcomes.into_iter().all(|outcome| reason(outcome) == said.as_str()));
    // Given up: the connection is not to blame, and stays.
    drop(under_way);
    assert_eq!(reason(sink.deliver(&event(104, b"{}")).await), said.as_str());
    let waiting: Vec<String> = queue.received().await.iter().map(|received| received.id().to_owned()).collect();
    assert!(!waiting.contains(&"evt-104".to_owned()), "{waiting:?}");

    queue.mend().await;
    let after = eventually("a delivery after the alarm", async || match deliver(&*sink, &event(105, b"{}")).await {
        Outcome::Transient { reason, .. } => Err(reason),
        outcome => Ok(receipt(&outcome)),
    })
    .await;
    assert!(after.1 == channel && after.0 > 2, "{after:?}, before it {channel}");
    let received = queue.received().await;
    assert!(["evt-1", "evt-2", "evt-105"].iter().all(|id| ids_of(&received).contains(id)), "{received:?}");
    assert!(!ids_of(&received).contains(&"evt-104"), "what was told to come again was published all the same");

    // The end of the relay is not held up by what nobody waits for any more.
    queue.alone().raise_memory_alarm().await;
    for _ in 0..2 {
        let _ = tokio::time::timeout(Duration::from_millis(300), sink.deliver(&event(106, b"{}"))).await;
    }
    tokio::time::timeout(Duration::from_secs(5), sink.close()).await.expect("close waits for the broker");
}

fn ids_of(received: &[Received]) -> Vec<&str> {
    received.iter().map(Received::id).collect()
}

/// An exchange that is deleted under way is made again, where that is asked for, and its queue is bound again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_exchange_is_made_again() {
    let Some(queue) = Queue::new(false).await else { return };
    let sink = queue.sink().await;
    let (_, first) = receipt(&deliver(&*sink, &event(1, b"{}")).await);
    queue.vhost.delete_exchange("ralio.events").await;
    let reason = reason(deliver(&*sink, &event(2, b"{}")).await);
    assert!(reason.contains("no exchange 'ralio.events'"), "{reason}");
    // Until the end of the channel has been heard of, a delivery may still meet it.
    let (number, second) = eventually("a delivery", async || match deliver(&*sink, &event(2, b"{}")).await {
        Outcome::Transient { reason, .. } => Err(reason),
        outcome => Ok(receipt(&outcome)),
    })
    .await;
    assert!(number == 1 && second != first, "{number}, {second}, before it {first}");
    assert_eq!(ids_of(&received(&queue, 2).await), ["evt-1", "evt-2"]);
    sink.close().await;
}

/// A message that is larger than the broker takes is given up, and is the only one: those that were under way with it,
/// whose channel it has cost, come again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_is_too_large_is_refused_alone() {
    let Some(queue) = Queue::new(false).await else { return };
    let sink = queue.sink().await;
    let large = vec![b'x'; rabbitmq::MAX_MESSAGE_SIZE + 1];
    let events: Vec<_> = (1..=50).map(|n| event(n, if n == 25 { &large } else { b"{}" })).collect();
    let outcomes = join_all(events.iter().map(|event| deliver(&*sink, event))).await;
    for (event, outcome) in events.iter().zip(outcomes) {
        match outcome {
            Outcome::Permanent { reason } => {
                assert_eq!(event.seq.get(), 25);
                assert!(reason.as_str().contains("1048577 is larger than"), "{reason}");
            }
            // The channel's end may be heard of before it is known which message was to blame.
            Outcome::Transient { .. } if event.seq.get() == 25 => {
                eventually("a refusal", async || match deliver(&*sink, event).await {
                    Outcome::Permanent { .. } => Ok(()),
                    other => Err(other),
                })
                .await;
            }
            Outcome::Delivered { .. } => assert_ne!(event.seq.get(), 25),
            Outcome::Transient { .. } => deliver_in_the_end(&*sink, event).await,
        }
    }
    let exactly = vec![b'x'; rabbitmq::MAX_MESSAGE_SIZE];
    assert_eq!(deliver(&*sink, &event(51, &exactly)).await.label(), "delivered");
    let received = queue.received().await;
    let ids = ids_of(&received);
    assert!((1..=51).all(|n| ids.contains(&&*format!("evt-{n}")) == (n != 25)), "{ids:?}");
    sink.close().await;
}

/// The smallest frames that there can be carry the longest names and large bodies.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_frames_are_enough() {
    let Some(queue) = Queue::new(false).await else { return };
    let url = format!("{}?frame_max=4096", queue.vhost.url());
    let sink = build(sink::amqp::Config { url: url.into(), ..queue.config() }).await;
    let mut large = event(1, &vec![b'x'; 300_000]);
    large.id = EventId::new(&"i".repeat(255)).unwrap();
    large.key = EntityKey::new(&"k".repeat(255)).unwrap();
    large.event_type = EventType::canonical(&"t_".repeat(64)).unwrap();
    assert_eq!(deliver(&*sink, &large).await.label(), "delivered");
    let received = queue.received().await;
    assert!(received[0].data == large.body && received[0].attributes["subject"] == large.key.as_str());
    sink.close().await;
}

/// Even a delivery that nobody times out ends when the broker falls silent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_heartbeat_ends_the_connection() {
    let Some(mut queue) = Queue::new(true).await else { return };
    let url = format!("{}?heartbeat=1", queue.vhost.url());
    let sink = build(sink::amqp::Config { url: url.into(), ..queue.config() }).await;
    assert_eq!(deliver(&*sink, &event(1, b"{}")).await.label(), "delivered");
    queue.stall().await;
    let reason = reason(deliver(&*sink, &event(2, b"{}")).await);
    assert!(reason.contains("heartbeat"), "{reason}");
    queue.mend().await;
    deliver_in_the_end(&*sink, &event(2, b"{}")).await;
    sink.close().await;
}
