//! Events of types that no sink wants: counted, and each type told once.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::IsWanted;
use super::shared::Counters;
use crate::model::{EventType, SourceName};
use crate::throttle::Throttle;

/// Types that are remembered; beyond them the events are counted only.
const MAX_TYPES: usize = 1_000;

pub(super) struct Unrouted {
    is_wanted: IsWanted,
    told: Mutex<BTreeSet<EventType>>,
    lines: Throttle,
}

impl Unrouted {
    pub(super) fn new(is_wanted: IsWanted) -> Self {
        Self { is_wanted, told: Mutex::default(), lines: Throttle::default() }
    }

    /// Takes note of an event that is stored.
    pub(super) fn note(&self, source: &SourceName, event_type: &EventType, counters: &Counters) {
        if (self.is_wanted)(event_type) {
            return;
        }
        counters.unrouted(event_type.category()).inc();
        if self.is_new(event_type)
            && let Some(suppressed) = self.lines.admit(Instant::now())
        {
            tracing::warn!(
                source = source.as_str(),
                r#type = event_type.as_str(),
                suppressed,
                "an event came of a type that no sink wants: it is stored and goes nowhere; to have such events, add the \
                 type to `events` of a sink, and replay those that are stored"
            );
        }
    }

    /// Whether the type has not been told since the start.
    fn is_new(&self, event_type: &EventType) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.len() < MAX_TYPES && told.insert(event_type.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn each_type_is_new_once_and_memory_is_bounded() {
        let unrouted = Unrouted::new(Arc::new(|_| false));
        let event_type = |n: usize| EventType::canonical(&format!("card.{n}")).unwrap();
        assert!(unrouted.is_new(&event_type(0)));
        assert!(!unrouted.is_new(&event_type(0)));
        assert!((1..MAX_TYPES).all(|n| unrouted.is_new(&event_type(n))));
        assert!(!unrouted.is_new(&event_type(MAX_TYPES)));
        assert_eq!(unrouted.told.lock().unwrap().len(), MAX_TYPES);
    }
}
