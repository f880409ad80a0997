//! The loop around [`Core`]: reads the log, delivers, records.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{FuturesUnordered, StreamExt};
use jiff::Timestamp;
use prometheus::{Histogram, IntGauge};
use tokio_util::sync::CancellationToken;

use super::Config;
use super::core::{Core, Start};
use super::handle::Handle;
use super::lag::Lag;
use crate::clock::Clock;
use crate::inbox::{ConsumerState, DeadLetter, Inbox, Progress, Registration, StoredEvent, Unavailable};
use crate::metrics::Metrics;
use crate::model::{EventType, JobId, Outcome, Outgoing, Seq};
use crate::sink::Sink;
use crate::throttle::Throttle;

/// A wake-up is only a hint: the log is looked at this often in any case.
const POLL: Duration = Duration::from_secs(1);
/// Between two tries to record, while the inbox cannot write.
const RECORD_AGAIN: Duration = Duration::from_millis(500);
/// Between two tries to read the log, while it cannot be read.
const READ_AGAIN: Duration = Duration::from_millis(500);
/// Parked events read at once at the start: their bodies are in memory until their lanes are known.
const PARKED_AT_ONCE: usize = 16;

/// What a consumer works with.
#[derive(Clone)]
pub struct Deps {
    /// The log.
    pub inbox: Arc<dyn Inbox>,
    /// Now.
    pub clock: Arc<dyn Clock>,
    /// Where it counts.
    pub metrics: Arc<Metrics>,
}

/// The consumer of one sink.
pub struct Consumer {
    config: Config,
    sink: Arc<dyn Sink>,
    deps: Deps,
    gauges: Gauges,
    core: Core,
    /// The record that is being written, kept in case it must be written again.
    unwritten: Option<Progress>,
    recording: bool,
    reading: bool,
    /// An outage is one thing to know, however many deliveries it fails.
    failures: Throttle,
    given_up: Throttle,
    /// Whether the last read failed.
    unreadable: bool,
}

struct Gauges {
    lag: Lag,
    lag_seconds: IntGauge,
    parked: IntGauge,
    dead_letters: IntGauge,
    delivery_seconds: Histogram,
}

/// Why a consumer has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It was asked to stop.
    Stopped,
    /// A replay has come to its end, and everything is recorded.
    Finished,
}

type Work = BoxFuture<'static, Done>;

enum Done {
    Landed(Landing),
    Recorded(Result<(), Unavailable>),
    Read(Result<Vec<StoredEvent>, Unavailable>),
}

enum Landing {
    Attempt {
        seq: Seq,
        at: Timestamp,
        latency: Duration,
        outcome: Outcome,
    },
    /// A parked event could not be read.
    NotStarted {
        seq: Seq,
    },
}

impl Consumer {
    /// Registers with the inbox (a new sink's cursor is durable when this returns) and reads back what was parked.
    pub async fn open(config: Config, sink: Arc<dyn Sink>, deps: Deps) -> Result<Self, Unavailable> {
        let state = deps
            .inbox
            .consumer(Registration::Sink { name: config.name.clone(), start: config.start }, config.route.revision())
            .await?;
        let parked = read_parked(deps.inbox.as_ref(), &state).await?;
        let label = &[config.name.as_str()];
        let gauges = Gauges {
            lag: Lag::new(state.cursor, deps.metrics.sink_lag_events.with_label_values(label)),
            lag_seconds: deps.metrics.sink_lag_seconds.with_label_values(label),
            parked: deps.metrics.sink_parked.with_label_values(label),
            dead_letters: deps.metrics.dead_letters.with_label_values(label),
            delivery_seconds: deps.metrics.sink_delivery_seconds.with_label_values(label),
        };
        gauges.dead_letters.set(i64::try_from(state.dead_letters).unwrap_or(i64::MAX));
        tracing::info!(
            sink = %config.name, cursor = state.cursor.get(), parked = state.parked.len(), "a consumer starts"
        );
        let core = Core::new(config.clone(), state, &parked);
        let consumer = Self {
            config,
            sink,
            deps,
            gauges,
            core,
            unwritten: None,
            recording: false,
            reading: false,
            unreadable: false,
            failures: Throttle::default(),
            given_up: Throttle::default(),
        };
        consumer.measure(consumer.deps.inbox.head().borrow().get());
        Ok(consumer)
    }

    /// The consumer of a replay, made or read back. Its sink is shared with the live consumer, whose settings it has; it
    /// has a cursor, a breaker and a pace of its own, and counts in no gauge of the live one.
    pub async fn replay(
        _config: Config,
        _sink: Arc<dyn Sink>,
        _job: JobId,
        _rate: Option<f64>,
        _deps: Deps,
    ) -> Result<Self, Unavailable> {
        Err(Unavailable::Closed) // HELPER
    }

    /// For telling it what a job has changed.
    pub fn handle(&self) -> Handle {
        let (orders, _) = tokio::sync::mpsc::unbounded_channel(); // HELPER
        Handle::new(crate::inbox::ConsumerId::new(1), self.config.name.clone(), orders)
    }

    /// How far it is behind, for `sink_lag_events`.
    pub fn lag(&self) -> Lag {
        self.gauges.lag.clone()
    }

    /// Delivers until `stop`; then finishes what is in flight and records it. A replay ends by itself, too. The sink is
    /// for the caller to close. Dropping it instead is safe: what was in flight is unknown, and is delivered again.
    pub async fn run(mut self, stop: CancellationToken) -> End {
        let mut head = self.deps.inbox.head();
        let mut work = FuturesUnordered::new();
        loop {
            let stopping = stop.is_cancelled();
            work.extend(self.next_record());
            if !stopping {
                work.extend(self.next_deliveries());
                // Marked as seen before the log is read: what is appended meanwhile wakes the loop again.
                let last = *head.borrow_and_update();
                work.extend(self.next_read(last));
            } else if self.core.flying() == 0 && !self.recording {
                break;
            }
            self.measure(head.borrow().get());
            tokio::select! {
                Some(done) = work.next() => match done {
                    Done::Landed(landing) => self.land(landing),
                    Done::Recorded(Ok(())) => self.recorded(),
                    // Whatever it held will come again.
                    Done::Recorded(Err(_)) if stopping => break,
                    Done::Recorded(Err(_)) => work.extend(self.record(RECORD_AGAIN)),
                    Done::Read(Ok(events)) => {
                        (self.reading, self.unreadable) = (false, false);
                        self.core.read(events, self.deps.clock.now());
                    }
                    Done::Read(Err(error)) => {
                        if !self.unreadable {
                            tracing::error!(sink = %self.config.name, %error, "the log cannot be read; it is tried again");
                        }
                        (self.reading, self.unreadable) = (false, true);
                    }
                },
                Ok(()) = head.changed(), if !self.reading && !stopping => {}
                () = tokio::time::sleep(self.pause()) => {}
                () = stop.cancelled(), if !stopping => {}
            }
        }
        End::Stopped // HELPER
    }

    fn next_record(&mut self) -> Option<Work> {
        if self.recording {
            return None;
        }
        self.unwritten = Some(self.core.take_progress()?);
        self.recording = true;
        self.record(Duration::ZERO)
    }

    fn record(&self, after: Duration) -> Option<Work> {
        let (inbox, progress) = (Arc::clone(&self.deps.inbox), self.unwritten.clone()?);
        Some(Box::pin(async move {
            rest(after).await;
            Done::Recorded(inbox.record(progress).await)
        }))
    }

    fn recorded(&mut self) {
        self.recording = false;
        self.core.recorded();
        let dead = self.unwritten.take().map(|progress| progress.dead).unwrap_or_default();
        self.gauges.dead_letters.add(i64::try_from(dead.len()).unwrap_or(i64::MAX));
        for letter in dead {
            if let Some(suppressed) = self.given_up.admit(Instant::now()) {
                let DeadLetter { seq, attempts, reason, at: _ } = letter;
                let (sink, seq) = (self.config.name.as_str(), seq.get());
                tracing::error!(
                    sink,
                    seq,
                    attempts,
                    reason,
                    suppressed,
                    "an event was given up: a person has to decide"
                );
            }
        }
    }

    /// Nothing is handed over while its outcome could not be recorded.
    fn next_deliveries(&mut self) -> Vec<Work> {
        if self.deps.inbox.trouble().is_some() {
            return Vec::new();
        }
        self.core.start(self.deps.clock.now()).into_iter().map(|start| self.fly(start)).collect()
    }

    fn next_read(&mut self, last: Seq) -> Option<Work> {
        let (after, limit) = self.core.wants().filter(|(after, _)| !self.reading && *after < last)?;
        self.reading = true;
        let inbox = Arc::clone(&self.deps.inbox);
        let pause = if self.unreadable { READ_AGAIN } else { Duration::ZERO };
        Some(Box::pin(async move {
            rest(pause).await;
            Done::Read(inbox.read_after(after, limit, None).await.map(|slice| slice.events))
        }))
    }

    fn land(&mut self, landing: Landing) {
        match landing {
            Landing::NotStarted { seq } => self.core.not_started(seq, self.deps.clock.now()),
            Landing::Attempt { seq, at, latency, outcome } => {
                let sink = self.config.name.as_str();
                self.deps.metrics.sink_attempts.with_label_values(&[sink, outcome.label()]).inc();
                self.gauges.delivery_seconds.observe(latency.as_secs_f64());
                self.log(seq, &outcome);
                self.core.finished(seq, at, latency, outcome, fastrand::f64());
            }
        }
    }

    fn log(&self, seq: Seq, outcome: &Outcome) {
        let (sink, seq) = (self.config.name.as_str(), seq.get());
        match outcome {
            Outcome::Delivered { receipt } => tracing::debug!(sink, seq, %receipt, "delivered"),
            Outcome::Transient { reason, .. } => {
                if let Some(suppressed) = self.failures.admit(Instant::now()) {
                    tracing::warn!(sink, seq, %reason, suppressed, "not delivered, to be tried again");
                }
            }
            // It is told of as a dead letter.
            Outcome::Permanent { .. } => {}
        }
    }

    /// Until the next parked event is due, and no longer than the poll.
    fn pause(&self) -> Duration {
        let due = self.core.next_due().filter(|_| self.deps.inbox.trouble().is_none());
        let due = due.map(|due| due.duration_since(self.deps.clock.now()));
        due.map_or(POLL, |due| Duration::try_from(due).unwrap_or_default().clamp(Duration::from_millis(1), POLL))
    }

    fn fly(&self, start: Start) -> Work {
        let (sink, deps, timeout) = (Arc::clone(&self.sink), self.deps.clone(), self.config.timeout);
        Box::pin(async move {
            let (seq, event) = match start {
                Start::Event(event) => (event.seq, Some(*event)),
                Start::Parked(seq) => (seq, deps.inbox.read(vec![seq]).await.ok().and_then(|mut events| events.pop())),
            };
            let Some(outgoing) = event.and_then(outgoing) else {
                return Done::Landed(Landing::NotStarted { seq });
            };
            let (at, began) = (deps.clock.now(), Instant::now());
            let delivery = AssertUnwindSafe(sink.deliver(&outgoing)).catch_unwind();
            let outcome = match tokio::time::timeout(timeout, delivery).await {
                Ok(Ok(outcome)) => outcome,
                Ok(Err(_)) => Outcome::transient("the sink panicked: this is a bug"),
                Err(_) => Outcome::transient(format!("no answer within {timeout:?}: unknown whether it arrived")),
            };
            Done::Landed(Landing::Attempt { seq, at, latency: began.elapsed(), outcome })
        })
    }

    fn measure(&self, head: i64) {
        let lag = head - self.core.cursor().get();
        let oldest = self.core.oldest().filter(|_| lag > 0 || self.core.parked_on_disk() > 0);
        let age = oldest.map_or(0, |oldest| self.deps.clock.now().duration_since(oldest).as_secs());
        self.gauges.lag_seconds.set(age.max(0));
        self.gauges.parked.set(i64::try_from(self.core.parked_on_disk()).unwrap_or(i64::MAX));
        // Last: who sees the cursor sees what was parked to move it.
        self.gauges.lag.reached(self.core.cursor());
    }
}

/// A sleep of no time at all would still last until the timer's next tick.
async fn rest(time: Duration) {
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}

/// The parked events as stored, without their bodies: these may be more than memory holds.
async fn read_parked(inbox: &dyn Inbox, state: &ConsumerState) -> Result<Vec<StoredEvent>, Unavailable> {
    let mut parked = Vec::with_capacity(state.parked.len());
    for some in state.parked.chunks(PARKED_AT_ONCE) {
        let events = inbox.read(some.iter().map(|event| event.seq).collect()).await?;
        parked.extend(events.into_iter().map(|event| StoredEvent { body: None, ..event }));
    }
    Ok(parked)
}

/// `None` for an event whose body is gone: the core has not let such a one through.
fn outgoing(event: StoredEvent) -> Option<Outgoing> {
    let assumed =
        if event.event_type.as_str() == EventType::MALFORMED { "application/octet-stream" } else { "application/json" };
    Some(Outgoing {
        seq: event.seq,
        category: event.event_type.category(),
        time: event.time.unwrap_or(event.received_at),
        id: event.id,
        event_type: event.event_type,
        source: event.source,
        key: event.key,
        received_at: event.received_at,
        stale: event.stale,
        replay: None,
        signature: event.signature,
        content_type: event.content_type.unwrap_or_else(|| assumed.to_owned()),
        body: event.body?,
    })
}
