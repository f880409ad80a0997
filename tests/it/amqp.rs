//! The bus: signed deliveries in, messages in a real RabbitMQ queue, through a broker's outage and a daemon's kill -9.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use crate::harness::rabbitmq::{Broker, Message};
use crate::harness::{Ack, Builder, Delivery, TestRelay, eventually, signed};

/// A relay whose sink `bus` publishes to the exchange `ralio.events`, with a queue `ledger` that gets everything.
fn with_bus(url: &str, rest: &str) -> Builder {
    let amqp =
        format!("{rest}\n[sinks.amqp]\nurl = {url:?}\nexchange = \"ralio.events\"\ndeclare = true\nqueue = \"ledger\"");
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

fn ids(messages: &[Message]) -> BTreeSet<String> {
    messages.iter().map(|message| message.message_id.clone()).collect()
}

#[tokio::test]
async fn events_are_in_the_queue_with_routing_keys_headers_and_untouched_bodies() {
    let Some(broker) = Broker::shared().await else { return };
    let url = broker.vhost("everything").await;
    let relay = with_bus(&url, "").start().await;
    for (delivery, _) in one_of_each() {
        assert_eq!(relay.post(&delivery).await, Ack::FRESH);
        assert_eq!(relay.post(&delivery).await, Ack::DUPLICATE);
    }
    assert_eq!(relay.post(&signed::payin_completed("evt-6").signed_with("forged")).await, Ack::refused(401));
    relay.settled().await;

    let messages = broker.drain(&url, "ledger").await;
    assert_eq!(messages.len(), 6, "each event once, and nothing forged");
    let by_id: BTreeMap<_, _> = messages.iter().map(|message| (message.message_id.as_str(), message)).collect();
    for (delivery, canonical) in one_of_each() {
        let message = by_id[delivery.stored_id().as_str()];
        assert_eq!(message.body, delivery.body);
        assert_eq!(message.routing_key, canonical);
        assert_eq!(message.kind, canonical);
        assert_eq!((message.delivery_mode, message.app_id.as_str()), (2, "ralio-relay"));
        let headers = [
            ("ce-id", delivery.stored_id()),
            ("ce-type", canonical.to_owned()),
            ("ce-source", "/ralio/test".to_owned()),
            ("ce-specversion", "1.0".to_owned()),
            ("x-ralio-signature", delivery.headers[1].1.clone()),
        ];
        for (name, value) in headers {
            assert_eq!(message.headers.get(name), Some(&value), "{name}");
        }
    }
    relay.shutdown().await;
}

#[tokio::test]
async fn an_outage_of_the_broker_costs_the_sender_nothing_and_loses_nothing() {
    let Some(broker) = Broker::private().await else { return };
    let url = broker.vhost("outage").await;
    let relay = with_bus(&url, "").expect_errors().start().await;
    for n in 0..20 {
        assert_eq!(relay.post(&signed::payin_completed(&format!("before-{n}"))).await, Ack::FRESH);
    }
    relay.settled().await;
    broker.stop_app().await;
    for n in 0..20 {
        assert_eq!(relay.post(&signed::payin_completed(&format!("during-{n}"))).await, Ack::FRESH);
    }
    eventually("an attempt that fails", async || {
        match relay.metric("sink_attempts_total", &[("outcome", "transient")]).await {
            0 => Err("none yet"),
            _ => Ok(()),
        }
    })
    .await;
    broker.start_app().await;
    assert_eq!(relay.post(&signed::payin_completed("after")).await, Ack::FRESH);
    relay.settled().await;
    let messages = broker.drain(&url, "ledger").await;
    assert_eq!(ids(&messages).len(), 41, "persistent messages, and those that waited");
    relay.shutdown().await;
}

#[tokio::test]
async fn kill_9_in_the_middle_loses_nothing_on_the_bus() {
    let Some(broker) = Broker::shared().await else { return };
    let url = broker.vhost("kill-9").await;
    let mut relay = with_bus(&url, "").start().await;
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
    assert_eq!(ids(&broker.drain(&url, "ledger").await), posted);
    relay.shutdown().await;
}

#[tokio::test]
async fn an_unroutable_message_is_not_delivered() {
    let Some(broker) = Broker::shared().await else { return };
    let url = broker.vhost("unroutable").await;
    let amqp = format!("[sinks.amqp]\nurl = {url:?}\nexchange = \"ralio.events\"\ndeclare = true");
    let relay = TestRelay::builder().sink("bus", "amqp", &amqp).expect_errors().start().await;
    assert_eq!(relay.post(&signed::payin_completed("evt-1")).await, Ack::FRESH);
    eventually("an attempt that fails", async || {
        match relay.metric("sink_attempts_total", &[("outcome", "transient")]).await {
            0 => Err("none yet"),
            _ => Ok(()),
        }
    })
    .await;
    assert_eq!(relay.metric("sink_attempts_total", &[("outcome", "delivered")]).await, 0);
    broker.bind(&url, "ralio.events", "late", "payin.*").await;
    relay.settled().await;
    assert_eq!(ids(&broker.drain(&url, "late").await).len(), 1, "somebody listens now");
    relay.shutdown().await;
}

#[tokio::test]
async fn a_sink_publishes_only_what_it_asks_for() {
    let Some(broker) = Broker::shared().await else { return };
    let url = broker.vhost("routed").await;
    let relay = with_bus(&url, "events = [\"payin.*\"]").start().await;
    for (delivery, _) in one_of_each() {
        relay.post(&delivery).await;
    }
    relay.settled().await;
    assert_eq!(ids(&broker.drain(&url, "ledger").await), BTreeSet::from(["evt-1".to_owned(), "evt-2".to_owned()]));
    relay.shutdown().await;
}
