//! What every request needs: the sources by path, with their counters looked up once, and the limits.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use actix_web::http::header::{HeaderMap, HeaderName};
use prometheus::{Histogram, IntCounter};
use tokio::sync::watch;

use super::answer::Outcome;
use super::connection::{Why, Witness};
use super::handler::KEPT;
use super::memory::Memory;
use super::networks::{self, Network};
use super::unrouted::Unrouted;
use super::{Config, Deps, Gate, OnBadSignature, Source};
use crate::clock::Clock;
use crate::inbox::Inbox;
use crate::metrics::Metrics;
use crate::model::{Category, SourceName};
use crate::throttle::Throttle;
use crate::verify::{Check, Keys};

/// Bytes of bodies in memory, over all connections, beyond the first few KiB of each: 64 of the default maximum size.
const BODY_MEMORY: usize = 64 * 1024 * 1024;

/// Secrets whose counters are looked up once; any more are looked up each time.
const SLOTS: usize = 8;

/// The label `source` of what belongs to no source.
const NO_SOURCE: &str = "-";

/// The state of the listener; one for all workers.
pub(super) struct Shared {
    inbox: Arc<OnceLock<Arc<dyn Inbox>>>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) gate: watch::Receiver<Gate>,
    pub(super) max_body: usize,
    pub(super) ack_deadline: Duration,
    pub(super) memory: Memory,
    /// For what anyone can provoke.
    pub(super) refusals: Throttle,
    /// For connections that end without an answer.
    closed: Throttle,
    /// For signed deliveries to an unknown path. What an operator must see has a throttle for each kind, so that none
    /// drowns another.
    pub(super) misdirected: Throttle,
    /// For genuine deliveries that are too large.
    pub(super) too_large: Throttle,
    /// For events that read in more than one way.
    pub(super) ambiguous: Throttle,
    /// For events that the database refuses.
    pub(super) unstorable: Throttle,
    /// For refused requests that are not kept: it lasts until a person has acted.
    pub(super) not_kept: Throttle,
    pub(super) unrouted: Unrouted,
    /// Counts what belongs to no source.
    pub(super) elsewhere: Outcomes,
    sources: HashMap<String, Endpoint>,
    signature_headers: Vec<HeaderName>,
    wanted_headers: Vec<String>,
    trusted_proxies: Vec<Network>,
}

/// A source, ready for requests.
pub(super) struct Endpoint {
    pub(super) name: SourceName,
    pub(super) keys: Keys,
    pub(super) signature_header: HeaderName,
    pub(super) on_bad_signature: OnBadSignature,
    pub(super) counters: Counters,
}

/// The counters of a source.
pub(super) struct Counters {
    pub(super) outcomes: Outcomes,
    pub(super) ack_seconds: Histogram,
    pub(super) same: IntCounter,
    pub(super) conflicts: IntCounter,
    /// Refused requests that no quarantine can keep.
    pub(super) not_kept: IntCounter,
    /// Events whose time cannot be told.
    pub(super) time_missing: IntCounter,
    events: [IntCounter; Category::ALL.len()],
    unrouted: [IntCounter; Category::ALL.len()],
    slots: [OnceLock<IntCounter>; SLOTS],
    name: SourceName,
    metrics: Arc<Metrics>,
}

/// `requests_total` of one source.
pub(super) struct Outcomes([IntCounter; Outcome::ALL.len()]);

impl Outcomes {
    fn new(metrics: &Metrics, source: &str) -> Self {
        Self(Outcome::ALL.map(|outcome| metrics.requests.with_label_values(&[source, outcome.label()])))
    }

    pub(super) fn get(&self, outcome: Outcome) -> &IntCounter {
        &self.0[outcome as usize]
    }
}

impl Counters {
    fn new(metrics: &Arc<Metrics>, name: &SourceName) -> Self {
        let source = name.as_str();
        Self {
            outcomes: Outcomes::new(metrics, source),
            ack_seconds: metrics.ack_seconds.with_label_values(&[source]),
            same: metrics.duplicates.with_label_values(&[source, "same"]),
            // Looked up from the start on, so that the first one is seen as an increase.
            not_kept: metrics.quarantine_dropped.with_label_values(&[source]),
            conflicts: metrics.duplicates.with_label_values(&[source, "conflict"]),
            events: Category::ALL.map(|category| metrics.events.with_label_values(&[source, category.as_str()])),
            unrouted: Category::ALL
                .map(|category| metrics.events_unrouted.with_label_values(&[source, category.as_str()])),
            time_missing: metrics.event_time_missing.with_label_values(&[source]),
            slots: [const { OnceLock::new() }; SLOTS],
            name: name.clone(),
            metrics: metrics.clone(),
        }
    }

    pub(super) fn event(&self, category: Category) -> &IntCounter {
        &self.events[category as usize]
    }

    pub(super) fn unrouted(&self, category: Category) -> &IntCounter {
        &self.unrouted[category as usize]
    }

    pub(super) fn secret_used(&self, slot: usize) {
        let look_up = || self.metrics.secret_used.with_label_values(&[self.name.as_str(), slot.to_string().as_str()]);
        match self.slots.get(slot) {
            Some(counter) => counter.get_or_init(look_up).inc(),
            None => look_up().inc(),
        }
    }
}

impl Shared {
    pub(super) fn new(config: &Config, deps: Deps) -> io::Result<Self> {
        let mut sources = HashMap::new();
        let mut signature_headers = Vec::new();
        for source in &config.sources {
            let endpoint = endpoint(source, &deps.metrics)?;
            if !signature_headers.contains(&endpoint.signature_header) {
                signature_headers.push(endpoint.signature_header.clone());
            }
            sources.insert(source.path.clone(), endpoint);
        }
        let wanted = KEPT.iter().chain(&signature_headers).map(|name| name.as_str().to_owned());
        let wanted_headers = wanted.chain(["x-forwarded-for".to_owned()]).collect();
        let dropped = deps.metrics.unproven_closed.with_label_values(&["body"]);
        Ok(Self {
            elsewhere: Outcomes::new(&deps.metrics, NO_SOURCE),
            inbox: deps.inbox,
            clock: deps.clock,
            gate: deps.gate,
            max_body: config.max_body,
            ack_deadline: config.ack_deadline,
            memory: Memory::new(BODY_MEMORY.max(config.max_body), dropped),
            refusals: Throttle::default(),
            closed: Throttle::default(),
            misdirected: Throttle::default(),
            too_large: Throttle::default(),
            ambiguous: Throttle::default(),
            unstorable: Throttle::default(),
            unrouted: Unrouted::new(deps.is_wanted),
            not_kept: Throttle::lines_in(1, Duration::from_secs(10)),
            sources,
            signature_headers,
            wanted_headers,
            trusted_proxies: config.trusted_proxies.clone(),
        })
    }

    /// Where deliveries go, while the gate is open.
    pub(super) fn inbox(&self) -> &dyn Inbox {
        self.inbox.get().expect("the inbox is set before the gate opens").as_ref()
    }

    /// The source of a path; a trailing slash makes no difference.
    pub(super) fn endpoint(&self, path: &str) -> Option<&Endpoint> {
        let path = path.strip_suffix('/').filter(|path| !path.is_empty()).unwrap_or(path);
        self.sources.get(path)
    }

    /// Whether a request carries what some source would take for a signature.
    pub(super) fn has_signature(&self, headers: &HeaderMap) -> bool {
        self.signature_headers.iter().any(|name| headers.contains_key(name))
    }

    /// Begins to check a body against every source whose signature header is there.
    pub(super) fn begin_checks(&self, headers: &HeaderMap) -> Vec<(&Endpoint, Check)> {
        let endpoints = self.sources.values().filter(|endpoint| headers.contains_key(&endpoint.signature_header));
        endpoints.map(|endpoint| (endpoint, endpoint.keys.begin())).collect()
    }

    /// Who sent a request, for people: a trusted proxy names another one than itself.
    pub(super) fn sender(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        networks::sender(peer, headers, &self.trusted_proxies)
    }
}

impl Witness for Shared {
    fn wanted_headers(&self) -> &[String] {
        &self.wanted_headers
    }

    fn broken(&self, peer: SocketAddr, path: &[u8], why: Why) {
        let endpoint = std::str::from_utf8(path).ok().and_then(|path| self.endpoint(path));
        endpoint.map_or(&self.elsewhere, |endpoint| &endpoint.counters.outcomes).get(Outcome::Aborted).inc();
        let (peer, source) = (peer.ip().to_canonical(), endpoint.map(|endpoint| endpoint.name.as_str()));
        if why == Why::Ended {
            tracing::debug!(%peer, source, "closed a connection without an answer: {why}");
        } else if let Some(suppressed) = self.closed.admit(Instant::now()) {
            tracing::info!(%peer, source, suppressed, "closed a connection without an answer: {why}");
        }
    }
}

fn endpoint(source: &Source, metrics: &Arc<Metrics>) -> io::Result<Endpoint> {
    let signature_header = HeaderName::from_bytes(source.signature_header.as_bytes()).map_err(|_| {
        let text = format!("source {}: `{}` cannot be the name of a header", source.name, source.signature_header);
        io::Error::new(io::ErrorKind::InvalidInput, text)
    })?;
    Ok(Endpoint {
        name: source.name.clone(),
        keys: source.keys.clone(),
        signature_header,
        on_bad_signature: source.on_bad_signature,
        counters: Counters::new(metrics, &source.name),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn categories_are_in_the_order_of_the_enum() {
        for (index, category) in Category::ALL.into_iter().enumerate() {
            assert_eq!(category as usize, index, "{category}");
        }
    }
}
