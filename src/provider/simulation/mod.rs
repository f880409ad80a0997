//! Deliveries as the provider would send them: every type that it documents, in both generations of envelope and both
//! spellings, with the field shapes that have been seen. The same seed gives the same bytes.

mod kyc;
mod money;
mod script;
mod world;

use bytes::Bytes;
use fastrand::Rng;
use jiff::fmt::temporal::DateTimePrinter;
use jiff::tz::Offset;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::Value;

use crate::model::{EventId, EventType};
use script::{CATALOGUE, Step};
use world::{World, uuid};

/// Between two events.
const LONGEST_INTERVAL: SignedDuration = SignedDuration::from_secs(5);

/// The two generations of envelope, both live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generation {
    /// `eventId`, `eventType`
    Current,
    /// `id`, `event`
    Legacy,
}

/// Events that belong together, in the order in which they happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// A business with a related party and a user are verified; an account and a virtual IBAN are opened.
    Onboarding,
    /// One payin that completes and one that fails.
    Payin,
    /// One payout that completes.
    Payout,
    /// One transfer that completes.
    Transfer,
    /// All of these, for the same user.
    All,
}

/// One delivery, ready to be signed and sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Its canonical type; the body spells it as the wire does.
    pub event_type: EventType,
    /// The id in its envelope, different for each.
    pub id: EventId,
    /// The body: JSON, about 1.2 KiB for completed payins and payouts.
    pub body: Bytes,
}

/// A type that the provider does not document.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("'{0}' is not a documented event type")]
pub struct UndocumentedType(pub EventType);

/// Every documented type, canonical.
pub fn types() -> impl Iterator<Item = &'static str> {
    CATALOGUE.iter().map(|step| step.event_type)
}

/// An endless iterator of deliveries: passes over a selection of types or a flow, each pass about new users, accounts
/// and orders. Within a pass, events of one entity agree with each other.
///
/// ```
/// use ralio_relay::provider::simulation::{Flow, Simulator};
///
/// let payin: Vec<_> = Simulator::new(7).flow(Flow::Payin).take(2).collect();
/// assert_eq!(payin[0].event_type.as_str(), "payin.processing");
/// assert_eq!(payin[1].event_type.as_str(), "payin.completed");
/// assert_eq!(payin, Simulator::new(7).flow(Flow::Payin).take(2).collect::<Vec<_>>());
/// ```
#[derive(Clone, Debug)]
pub struct Simulator {
    rng: Rng,
    now: Timestamp,
    steps: Vec<Step>,
    generation: Option<Generation>,
    world: World,
    at: usize,
    pass: usize,
}

impl Simulator {
    /// Every documented type, in both generations by turns, from 2026-01-01 on.
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let world = World::new(&mut rng);
        let now = Timestamp::constant(1_767_225_600, 0);
        Self { rng, now, steps: CATALOGUE.to_vec(), generation: None, world, at: 0, pass: 0 }
    }

    /// Only these types, in this order.
    pub fn types(mut self, types: &[EventType]) -> Result<Self, UndocumentedType> {
        let step = |event_type: &EventType| {
            let known = CATALOGUE.iter().find(|step| step.event_type == event_type.as_str());
            known.copied().ok_or_else(|| UndocumentedType(event_type.clone()))
        };
        self.steps = types.iter().map(step).collect::<Result<_, _>>()?;
        Ok(self)
    }

    /// Only this flow.
    pub fn flow(mut self, flow: Flow) -> Self {
        self.steps = script::flow(flow);
        self
    }

    /// Only this generation.
    pub fn generation(mut self, generation: Generation) -> Self {
        self.generation = Some(generation);
        self
    }

    /// The time by which `count` events have happened, at intervals of seconds: nobody is told of the future.
    pub fn ending_by(mut self, end: Timestamp, count: u64) -> Self {
        let longest = LONGEST_INTERVAL.saturating_mul(i32::try_from(count).unwrap_or(i32::MAX));
        self.now = end.saturating_sub(longest).expect("a duration has no calendar units");
        self
    }

    /// How many deliveries it takes until every type of the selection has come, in both generations unless there is
    /// only one.
    pub fn pass_len(&self) -> usize {
        self.steps.len() * if self.generation.is_some() { 1 } else { 2 }
    }

    /// By turns within a pass, and the other way round in the next, so that each type comes in both.
    fn next_generation(&self) -> Generation {
        let by_turns = if (self.at + self.pass).is_multiple_of(2) { Generation::Current } else { Generation::Legacy };
        self.generation.unwrap_or(by_turns)
    }

    fn timestamp(&mut self) -> String {
        let interval = self.rng.i64(500_000_000..LONGEST_INTERVAL.as_nanos() as i64);
        self.now += SignedDuration::from_nanos(interval);
        let printer = DateTimePrinter::new().precision(Some(self.rng.u8(3..=7)));
        match *self.rng.choice([None, Some(-5), Some(2)].iter()).expect("there are three") {
            None => printer.timestamp_to_string(&self.now),
            Some(hours) => printer.timestamp_with_offset_to_string(&self.now, Offset::constant(hours)),
        }
    }
}

impl Iterator for Simulator {
    type Item = Delivery;

    /// `None` only when no type was selected.
    fn next(&mut self) -> Option<Delivery> {
        if self.at == self.steps.len() {
            (self.at, self.pass) = (0, self.pass + 1);
            self.world = World::new(&mut self.rng);
        }
        let step = *self.steps.get(self.at)?;
        let generation = self.next_generation();
        self.at += 1;
        let id = uuid(&mut self.rng);
        let timestamp = self.timestamp();
        let data = (step.data)(&self.world, generation, &mut self.rng);
        // The guide writes dots; the wire mostly has underscores.
        let spelled =
            if self.rng.u8(..8) == 0 { step.event_type.to_owned() } else { step.event_type.replacen('.', "_", 1) };
        let body = encode(generation, &id, &spelled, &timestamp, &data);
        let event_type = EventType::canonical(step.event_type).expect("the catalogue holds canonical types");
        Some(Delivery { event_type, id: EventId::new(&id).expect("a UUID is printable"), body })
    }
}

fn encode(generation: Generation, id: &str, event_type: &str, timestamp: &str, data: &Value) -> Bytes {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Current<'a> {
        event_id: &'a str,
        event_type: &'a str,
        timestamp: &'a str,
        data: &'a Value,
    }
    #[derive(Serialize)]
    struct Legacy<'a> {
        id: &'a str,
        event: &'a str,
        timestamp: &'a str,
        data: &'a Value,
    }
    let body = match generation {
        Generation::Current => serde_json::to_vec(&Current { event_id: id, event_type, timestamp, data }),
        Generation::Legacy => serde_json::to_vec(&Legacy { id, event: event_type, timestamp, data }),
    };
    body.expect("texts and values are JSON").into()
}

#[cfg(test)]
mod tests;
