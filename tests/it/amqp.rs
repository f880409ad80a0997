//! The bus: signed deliveries in, messages in a real RabbitMQ queue, through a broker's outage and a daemon's kill -9.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use crate::harness::rabbitmq::{self, Message, Vhost};
use crate::harness::{Ack, Builder, Delivery, TestRelay, eventually, signed, text};
use crate::reload::{READ, replace, says};

/// A relay whose sink `bus` publishes to the exchange `ralio.events`, with a queue `ledger` that gets everything.
fn with_bus(vhost: &Vhost, rest: &str) -> Builder {
    let url = vhost.url();
    let amqp = format!("{rest}\n[sinks.amqp]\nurl = {url:?}\nexchange = \"ralio.events\"\nqueue = \"ledger\"");
    TestRelay::builder().sink("bus", "amqp", &amqp)
}

/// One of each kind: both envelopes, both spellings, an unknown type, a body that is no JSON.
fn one_of_each() -> [(Delivery, &'static str); 6] {
    [
        (signed::payin_completed("evt-1"), "payin.completed"),
        (signed::payin_of("evt-2", "payin.failed", "order-2"), "payin.failed"),
        (signed::kyc_session_verified("evt-3"), "kyc.session_verified"),
        (
            Delivery::legacy("evt-4", "related_party_kyc_session_created", json!({})),
            "related_party.kyc_session_created",
        ),
        (Delivery::current("evt-5", "loyalty_points_granted", json!({})), "loyalty.points_granted"),
        (Delivery::of("not json"), "malformed"),
    ]
}

fn id(message: &Message) -> &str {
    text(&message.properties, "message_id")
}

fn ids(messages: &[Message]) -> BTreeSet<String> {
    messages.iter().map(|message| id(message).to_owned()).collect()
}

/// Waits until the broker has refused an event, or could not be reached for it.
async fn an_attempt_fails(relay: &TestRelay) {
    eventually("an attempt that fails", async || {
        match relay.metric("sink_attempts_total", &[("sink", "bus"), ("outcome", "transient")]).await {
            0 => Err("none yet"),
            _ => Ok(()),
        }
    })
    .await;
}

#[tokio::test]
async fn events_are_in_the_queue_with_routing_keys_headers_and_untouched_bodies() {
    let Some(broker) = rabbitmq::shared().await else { return };
    let vhost = broker.vhost().await;
    let relay = with_bus(&vhost, "").start().await;
    for (delivery, _) in one_of_each() {
        assert_eq!(relay.post(&delivery).await, Ack::FRESH);
        assert_eq!(relay.post(&delivery).await, Ack::DUPLICATE);
    }
    assert_eq!(relay.post(&signed::payin_completed("evt-6").signed_with("forged")).await, Ack::refused(401));
    relay.settled().await;

    let messages = vhost.messages("ledger").await;
    assert_eq!(messages.len(), 6, "each event once, and nothing forged");
    let by_id: BTreeMap<_, _> = messages.iter().map(|message| (id(message), message)).collect();
    for (delivery, canonical) in one_of_each() {
        let id = delivery.stored_id();
        let message = by_id[id.as_str()];
        assert_eq!(message.payload, delivery.body, "untouched");
        assert_eq!(message.routing_key, canonical);
        let properties = &message.properties;
        assert_eq!((text(properties, "type"), text(properties, "app_id")), (canonical, "ralio-relay"));
        assert_eq!(properties["delivery_mode"], 2, "persistent");
        let headers = [
            ("ce-id", id.as_str()),
            ("ce-type", canonical),
            ("ce-source", "/ralio/test"),
            ("ce-specversion", "1.0"),
            ("x-ralio-signature", &delivery.headers[1].1),
        ];
        for (name, value) in headers {
            assert_eq!(text(&properties["headers"], name), value, "{name}");
        }
    }
    relay.shutdown().await;
}

#[tokio::test]
async fn an_outage_of_the_broker_costs_the_sender_nothing_and_loses_nothing() {
    let Some(mut broker) = rabbitmq::exclusive().await else { return };
    let vhost = broker.vhost().await;
    let relay = with_bus(&vhost, "").expect_errors().start().await;
    for n in 0..20 {
        assert_eq!(relay.post(&signed::payin_completed(&format!("before-{n}"))).await, Ack::FRESH);
    }
    relay.settled().await;
    broker.stop_app().await;
    for n in 0..20 {
        assert_eq!(relay.post(&signed::payin_completed(&format!("during-{n}"))).await, Ack::FRESH);
    }
    an_attempt_fails(&relay).await;
    broker.mend().await;
    assert_eq!(relay.post(&signed::payin_completed("after")).await, Ack::FRESH);
    relay.settled().await;
    let messages = vhost.messages("ledger").await;
    assert_eq!(ids(&messages).len(), 41, "persistent messages, and those that waited");
    relay.shutdown().await;
}

#[tokio::test]
async fn kill_9_in_the_middle_loses_nothing_on_the_bus() {
    let Some(broker) = rabbitmq::shared().await else { return };
    let vhost = broker.vhost().await;
    let mut relay = with_bus(&vhost, "").start().await;
    let mut posted = BTreeSet::new();
    for round in 0..3 {
        for n in 0..100 {
            let delivery = signed::payin_completed(&format!("evt-{round}-{n}"));
            assert_eq!(relay.post(&delivery).await, Ack::FRESH);
            posted.insert(delivery.stored_id());
        }
        // Some are confirmed, some are under way, some have not been looked at.
        relay = relay.restart().await;
    }
    relay.settled().await;
    assert_eq!(ids(&vhost.messages("ledger").await), posted);
    relay.shutdown().await;
}

#[tokio::test]
async fn an_unroutable_message_is_not_delivered() {
    let Some(broker) = rabbitmq::shared().await else { return };
    let vhost = broker.vhost().await;
    let amqp = format!("[sinks.amqp]\nurl = {:?}\nexchange = \"ralio.events\"", vhost.url());
    let relay = TestRelay::builder().sink("bus", "amqp", &amqp).expect_errors().start().await;
    assert_eq!(relay.post(&signed::payin_completed("evt-1")).await, Ack::FRESH);
    an_attempt_fails(&relay).await;
    assert_eq!(relay.metric("sink_attempts_total", &[("outcome", "delivered")]).await, 0);
    vhost.bind("late", json!({}), "ralio.events", "payin.*").await;
    relay.settled().await;
    assert_eq!(ids(&vhost.messages("late").await).len(), 1, "somebody listens now");
    relay.shutdown().await;
}

#[tokio::test]
async fn a_sink_publishes_only_what_it_asks_for() {
    let Some(broker) = rabbitmq::shared().await else { return };
    let vhost = broker.vhost().await;
    let relay = with_bus(&vhost, "events = [\"payin.*\"]").start().await;
    for (delivery, _) in one_of_each() {
        relay.post(&delivery).await;
    }
    relay.settled().await;
    assert_eq!(ids(&vhost.messages("ledger").await), BTreeSet::from(["evt-1".to_owned(), "evt-2".to_owned()]));
    relay.shutdown().await;
}

#[tokio::test]
async fn a_new_url_moves_the_bus_without_a_restart() {
    let Some(broker) = rabbitmq::shared().await else { return };
    let [old, new] = [broker.vhost().await, broker.vhost().await];
    let relay = with_bus(&old, "").start().await;
    for id in ["evt-1", "evt-2"] {
        assert_eq!(relay.post(&signed::payin_completed(id)).await, Ack::FRESH);
    }
    relay.settled().await;
    let file = relay.settings().config_file();
    replace(&file, &std::fs::read_to_string(&file).unwrap().replace(&old.url(), &new.url()));
    relay.sighup();
    says(&relay, 1, READ).await;
    assert_eq!(relay.post(&signed::payin_completed("evt-3")).await, Ack::FRESH);
    relay.settled().await;
    assert_eq!(ids(&old.messages("ledger").await), BTreeSet::from(["evt-1", "evt-2"].map(str::to_owned)));
    assert_eq!(ids(&new.messages("ledger").await), BTreeSet::from(["evt-3".to_owned()]));
    eventually("the end of the old connection", async || match old.connections().await {
        connections if connections.is_empty() => Ok(()),
        connections => Err(connections),
    })
    .await;
    relay.shutdown().await;
}
