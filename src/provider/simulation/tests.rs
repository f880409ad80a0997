use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::*;
use crate::model::view::View;
use crate::model::{Category, Envelope, Phase};

const FLOWS: [Flow; 5] = [Flow::Onboarding, Flow::Payin, Flow::Payout, Flow::Transfer, Flow::All];

fn json(delivery: &Delivery) -> Value {
    serde_json::from_slice(&delivery.body).unwrap()
}

/// What the relay reads from a delivery is what the simulation meant, and the views agree with the envelope.
#[test]
fn every_delivery_is_understood() {
    for delivery in Simulator::new(1).take(2_000) {
        let envelope = Envelope::parse(&delivery.body);
        assert_eq!(envelope.id, Some(delivery.id));
        assert_eq!(envelope.event_type, delivery.event_type);
        assert!(envelope.time.is_some() && envelope.key.is_some());
        assert_ne!(delivery.event_type.category(), Category::Other);
        let view = View::of(&delivery.event_type, &delivery.body).unwrap();
        assert_eq!(view.key(), envelope.key.as_ref(), "{}", delivery.event_type);
        assert_eq!(view.state(), envelope.state.as_deref(), "{}", delivery.event_type);
    }
}

#[test]
fn a_pass_holds_every_type_in_both_generations_and_spellings_vary() {
    let simulator = Simulator::new(2);
    let pass: Vec<Value> = simulator.clone().take(simulator.pass_len()).map(|delivery| json(&delivery)).collect();
    let names = |field: &str| -> BTreeSet<_> {
        pass.iter().filter_map(|body| body[field].as_str()).filter_map(EventType::canonical).collect()
    };
    let all: BTreeSet<_> = CATALOGUE.iter().filter_map(|step| EventType::canonical(step.event_type)).collect();
    assert_eq!(all.len(), CATALOGUE.len());
    assert_eq!(names("eventType"), all);
    assert_eq!(names("event"), all);
    let spelled = |sign| pass.iter().any(|body| body["eventType"].as_str().is_some_and(|name| name.contains(sign)));
    assert!(spelled('.') && spelled('_'));
}

#[test]
fn every_flow_comes_in_both_generations() {
    for flow in FLOWS {
        let simulator = Simulator::new(3).flow(flow);
        let mut seen = BTreeMap::<EventType, BTreeSet<bool>>::new();
        for delivery in simulator.clone().take(simulator.pass_len()) {
            seen.entry(delivery.event_type.clone()).or_default().insert(json(&delivery)["eventId"].is_string());
        }
        assert!(seen.values().all(|generations| generations.len() == 2), "{flow:?}");
    }
}

#[test]
fn one_generation_on_request() {
    for (generation, field) in [(Generation::Current, "eventId"), (Generation::Legacy, "id")] {
        let simulator = Simulator::new(4).generation(generation);
        assert_eq!(simulator.pass_len(), CATALOGUE.len());
        assert!(simulator.take(50).all(|delivery| json(&delivery)[field].is_string()));
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let bodies = |seed| Simulator::new(seed).take(100).map(|delivery| delivery.body).collect::<Vec<_>>();
    assert_eq!(bodies(5), bodies(5));
    assert_ne!(bodies(5), bodies(6));
}

#[test]
fn no_two_deliveries_are_the_same() {
    let mut ids = HashSet::new();
    assert!(Simulator::new(7).take(5_000).all(|delivery| ids.insert(delivery.id)));
}

/// Each order goes from processing to one end, with the same amounts, and in time.
#[test]
fn flows_are_coherent() {
    let mut orders = BTreeMap::<String, (Phase, Value)>::new();
    let mut before = None;
    for delivery in Simulator::new(8).flow(Flow::All).take(300) {
        let envelope = Envelope::parse(&delivery.body);
        assert!(envelope.time > before);
        before = envelope.time;
        let phase = Phase::of(&envelope.event_type, envelope.state.as_deref());
        let amounts = &json(&delivery)["data"]["amounts"];
        let moved =
            [&amounts["receivedAmount"], &amounts["debitedAmount"]].into_iter().find(|a| a.is_object()).cloned();
        let key = envelope.key.unwrap().to_string();
        match (phase, moved) {
            (Phase::Open, Some(moved)) => assert_eq!(orders.insert(key, (phase, moved)), None),
            (Phase::Final, Some(moved)) => {
                assert_eq!(orders.insert(key, (phase, moved.clone())), Some((Phase::Open, moved)))
            }
            (Phase::None, None) => {}
            odd => panic!("{odd:?}"),
        }
    }
    assert!(orders.len() > 50);
}

#[test]
fn the_shapes_that_have_been_seen_all_come() {
    let bodies: Vec<String> =
        Simulator::new(9).take(500).map(|delivery| String::from_utf8(delivery.body.to_vec()).unwrap()).collect();
    for shape in [
        "\"bankPayin\"",
        "\"cryptoPayin\"",
        "\"cardPayin\"",
        "\"bankPayout\"",
        "\"cryptoPayout\"",
        "\"userId\"",
        "\"user_id\"",
        "\"kyc_id\"",
        "\"rate\":\"",
        "\"rate\":1.",
        "\"state\":\"REGULAR\"",
        "\"state\":2",
        "-05:00\"",
        "Z\"",
        "+02:00\"",
        "\"ownReference\"",
        "\"failure\"",
        "\"bic\"",
        "\"reason\"",
    ] {
        assert!(bodies.iter().any(|body| body.contains(shape)), "{shape}");
    }
}

#[test]
fn payins_and_payouts_have_a_realistic_size() {
    for event_type in ["payin.completed", "payout.completed"] {
        let types = [EventType::canonical(event_type).unwrap()];
        let sizes: Vec<usize> = Simulator::new(10).types(&types).unwrap().take(200).map(|d| d.body.len()).collect();
        let mean = sizes.iter().sum::<usize>() / sizes.len();
        assert!((900..1_400).contains(&mean), "{event_type}: {mean} bytes");
    }
}

#[test]
fn an_undocumented_type_is_refused() {
    let odd = EventType::canonical("payin.vanished").unwrap();
    assert_eq!(Simulator::new(11).types(std::slice::from_ref(&odd)).unwrap_err(), UndocumentedType(odd));
}

/// An event that is received before it happened would be a riddle to whoever reads the inbox.
#[test]
fn nothing_happens_later_than_the_end() {
    let end: Timestamp = "2026-11-22T12:00:00Z".parse().unwrap();
    for count in [1, 36, 5_000] {
        let last = Simulator::new(3).ending_by(end, count).take(count as usize).last().unwrap();
        let at = Envelope::parse(&last.body).time.unwrap();
        assert!(at <= end && end.duration_since(at) < LONGEST_INTERVAL * count as i32, "{at}");
    }
    assert!(Simulator::new(3).ending_by(end, u64::MAX).next().is_some());
}
