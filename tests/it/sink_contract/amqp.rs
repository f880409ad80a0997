//! `amqp`, against a real RabbitMQ.
#![cfg(feature = "amqp")]

use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use ralio_relay::model::{EventType, Outcome};
use ralio_relay::sink::{self, Config, Format, Sink};
use serde_json::json;

use super::{Bench, Received, deliver, deliver_in_the_end, event, received};
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
            tls: sink::amqp::Tls::default(),
        }
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

fn parse(message: Message) -> Received {
    let properties = message.properties;
    let text = |name: &str| properties[name].as_str().unwrap().to_owned();
    let headers = properties["headers"].as_object().unwrap();
    let mut attributes: std::collections::BTreeMap<_, _> = headers
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
    let Outcome::Transient { reason, .. } = deliver(&*sink, &event(2, b"{}")).await else { panic!("delivered") };
    assert!(reason.as_str().starts_with("cannot connect to "), "{reason}");
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
    for round in 0..10 {
        let mut events: Vec<_> = (1..=200).map(|n| event(round * 200 + n, b"{}")).collect();
        for event in &mut events {
            if event.seq.get() % 3 == 0 {
                event.event_type = EventType::canonical("payout.completed").unwrap();
            }
        }
        let outcomes = join_all(events.iter().map(|event| deliver(&*sink, event))).await;
        for (event, outcome) in events.iter().zip(outcomes) {
            let expected = match event.event_type.as_str() {
                "payin.completed" => Outcome::delivered("confirmed"),
                key => {
                    Outcome::transient(format!("no queue is bound to exchange 'ralio.events' for routing key '{key}'"))
                }
            };
            assert_eq!(outcome, expected, "{}", event.seq);
        }
    }
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
    let Outcome::Transient { reason, .. } = deliver(&*sink, &event(1, b"{}")).await else { panic!("delivered") };
    assert!(reason.as_str().contains("no exchange 'ralio.events'"), "{reason}");
    assert!(sink.probe().await.unwrap_err().contains("no exchange 'ralio.events'"));

    queue.vhost.bind("all", json!({}), "ralio.events", "#").await;
    assert_eq!(sink.probe().await, Ok(()));
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
    let Outcome::Transient { reason, .. } = deliver(&*sink, &event(1, b"{}")).await else { panic!("delivered") };
    assert!(reason.as_str().contains("ACCESS_REFUSED") && !reason.as_str().contains("hunter2"), "{reason}");
}
