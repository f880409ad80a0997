//! What to send, in what order.

use std::collections::VecDeque;

use bytes::Bytes;
use fastrand::Rng;

use crate::model::{EventId, EventType};
use crate::provider::simulation::{Delivery, Simulator};
use crate::verify::sign;

/// How many deliveries are held to mix them.
const WINDOW: usize = 1_000;

/// One request to make.
#[derive(Clone, Debug)]
pub(super) struct Shot {
    pub(super) event_type: EventType,
    pub(super) id: EventId,
    pub(super) body: Bytes,
    pub(super) signature: String,
    /// Signed with the secret; else it has to be refused.
    pub(super) genuine: bool,
}

/// A bounded iterator of requests, held in memory a window at a time.
pub(super) struct Plan {
    simulator: Simulator,
    left: u64,
    secret: Vec<u8>,
    duplicates: Share,
    forgeries: Share,
    forger: Option<Simulator>,
    next: VecDeque<Shot>,
    mixer: Option<(Rng, Vec<Shot>)>,
}

impl Plan {
    pub(super) fn new(simulator: Simulator, count: u64, secret: Vec<u8>) -> Self {
        let none = Share::new(0);
        let (next, mixer) = (VecDeque::new(), None);
        Self { simulator, left: count, secret, duplicates: none, forgeries: none, forger: None, next, mixer }
    }

    /// Sends this share of the events twice.
    pub(super) fn duplicates(&mut self, percent: u8) {
        self.duplicates = Share::new(percent);
    }

    /// Adds forgeries of events that nobody else sends.
    pub(super) fn forge(&mut self, percent: u8, forger: Simulator) {
        (self.forgeries, self.forger) = (Share::new(percent), Some(forger));
    }

    /// Mixes the order.
    pub(super) fn shuffle(&mut self, seed: u64) {
        self.mixer = Some((Rng::with_seed(seed), Vec::with_capacity(WINDOW)));
    }

    /// How many requests it is.
    pub(super) fn total(&self) -> u64 {
        self.left + self.duplicates.of(self.left) + self.forgeries.of(self.left)
    }

    fn next_in_order(&mut self) -> Option<Shot> {
        if let Some(shot) = self.next.pop_front() {
            return Some(shot);
        }
        self.left = self.left.checked_sub(1)?;
        let shot = shot(self.simulator.next()?, &self.secret, true);
        if self.duplicates.take() {
            self.next.push_back(shot.clone());
        }
        if self.forgeries.take()
            && let Some(delivery) = self.forger.as_mut().and_then(Iterator::next)
        {
            let guess = [b"forged:", &self.secret[..]].concat();
            self.next.push_back(self::shot(delivery, &guess, false));
        }
        Some(shot)
    }
}

impl Iterator for Plan {
    type Item = Shot;

    fn next(&mut self) -> Option<Shot> {
        let Some((mut rng, mut window)) = self.mixer.take() else { return self.next_in_order() };
        while window.len() < WINDOW
            && let Some(shot) = self.next_in_order()
        {
            window.push(shot);
        }
        let shot = (!window.is_empty()).then(|| window.swap_remove(rng.usize(..window.len())));
        self.mixer = Some((rng, window));
        shot
    }
}

fn shot(delivery: Delivery, secret: &[u8], genuine: bool) -> Shot {
    let Delivery { event_type, id, body } = delivery;
    Shot { event_type, id, signature: sign(secret, &body), body, genuine }
}

/// Picks its share of a sequence, evenly spread, the first always: a share of a few is not none.
#[derive(Clone, Copy, Debug)]
struct Share {
    percent: u8,
    credit: u8,
}

impl Share {
    fn new(percent: u8) -> Self {
        Self { percent, credit: 100 - percent }
    }

    fn take(&mut self) -> bool {
        self.credit += self.percent;
        let taken = self.percent > 0 && self.credit >= 100;
        if taken {
            self.credit -= 100;
        }
        taken
    }

    /// How many [`take`](Self::take) picks from a whole sequence.
    fn of(self, count: u64) -> u64 {
        let product = u128::from(count) * u128::from(self.percent);
        u64::try_from(product.div_ceil(100)).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn plan(count: u64, duplicates: u8, forged: u8) -> Plan {
        let mut plan = Plan::new(Simulator::new(1), count, b"secret".to_vec());
        plan.duplicates(duplicates);
        plan.forge(forged, Simulator::new(2));
        plan
    }

    fn ids(plan: Plan) -> Vec<String> {
        plan.map(|shot| shot.id.to_string()).collect()
    }

    #[test]
    fn extras_come_on_top_of_the_count_and_the_total_knows() {
        for (count, duplicates, forged, total) in
            [(36, 0, 0, 36), (36, 10, 5, 36 + 4 + 2), (1, 1, 1, 3), (5, 100, 100, 15), (250, 33, 50, 250 + 83 + 125)]
        {
            let plan = plan(count, duplicates, forged);
            assert_eq!(plan.total(), total);
            let shots: Vec<Shot> = plan.collect();
            assert_eq!(shots.len() as u64, total, "{count} {duplicates} {forged}");
            let genuine = shots.iter().filter(|shot| shot.genuine).count() as u64;
            assert_eq!(genuine, total - Share::new(forged).of(count));
            for shot in shots {
                assert_eq!(shot.signature == sign(b"secret", &shot.body), shot.genuine);
            }
        }
    }

    #[test]
    fn a_duplicate_is_the_same_bytes() {
        let mut seen = HashMap::new();
        for shot in plan(50, 100, 0) {
            let first = seen.entry(shot.id).or_insert_with(|| shot.body.clone());
            assert_eq!(*first, shot.body);
        }
        assert_eq!(seen.len(), 50);
    }

    #[test]
    fn a_forgery_is_of_an_event_that_nobody_else_sends() {
        let shots: Vec<Shot> = plan(50, 0, 100).collect();
        let forged: Vec<_> = shots.iter().filter(|shot| !shot.genuine).map(|shot| &shot.id).collect();
        assert!(!forged.is_empty() && shots.iter().filter(|shot| shot.genuine).all(|shot| !forged.contains(&&shot.id)));
    }

    #[test]
    fn mixing_changes_nothing_but_the_order() {
        let mut mixed = plan(2_500, 10, 10);
        mixed.shuffle(3);
        let (mut mixed, mut plain) = (ids(mixed), ids(plan(2_500, 10, 10)));
        assert_ne!(mixed, plain);
        mixed.sort();
        plain.sort();
        assert_eq!(mixed, plain);
    }
}
