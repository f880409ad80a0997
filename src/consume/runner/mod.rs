//! The loop around [`Core`]: reads the log, delivers, records, and hears what jobs have changed.

mod work;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{FuturesUnordered, StreamExt};
use jiff::Timestamp;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_util::sync::CancellationToken;

use super::Config;
use super::core::{Core, Switched};
use super::gauges::{Gauges, count};
use super::handle::Handle;
use super::lag::Lag;
use super::reading::Judged;
use crate::clock::Clock;
use crate::inbox::{
    Altered, Change, ConsumerId, ConsumerState, EventOutline, Inbox, Parked, Progress, Registration, Selection,
    StoredEvent, Unavailable,
};
use crate::metrics::Metrics;
use crate::model::{JobId, Outcome, Reason, Seq};
use crate::route::Route;
use crate::sink::Sink;
use crate::throttle::Throttle;

/// A wake-up is only a hint: the log is looked at this often in any case.
const POLL: Duration = Duration::from_secs(1);

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

/// The consumer of one sink, or of one replay.
pub struct Consumer {
    id: ConsumerId,
    config: Config,
    route: Arc<Route>,
    sink: Arc<dyn Sink>,
    deps: Deps,
    gauges: Gauges,
    core: Core,
    /// Of a replay: its job, and what it delivers.
    replay: Option<(JobId, Selection)>,
    orders: UnboundedReceiver<Change>,
    /// For handles.
    order: UnboundedSender<Change>,
    /// Parked by a job, and not yet taken in.
    revived: Vec<Parked>,
    adopting: bool,
    /// The record that is being written, kept in case it must be written again.
    unwritten: Option<Progress>,
    recording: bool,
    reading: bool,
    /// Whether the last read failed.
    unreadable: bool,
    /// An outage is one thing to know, however many deliveries it fails.
    failures: Throttle,
    given_up: Throttle,
    unsure: Throttle,
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
    Read(Result<Judged, Unavailable>),
    /// Revived events, and what the log knows of them.
    Revived(Vec<Parked>, Result<Vec<EventOutline>, Unavailable>),
    /// Events that are to be delivered, read again.
    Reread(Vec<Seq>, Result<Vec<StoredEvent>, Unavailable>),
}

enum Landing {
    Attempt {
        seq: Seq,
        at: Timestamp,
        latency: Duration,
        outcome: Outcome,
    },
    /// An event could not be read again.
    NotStarted {
        seq: Seq,
        why: String,
    },
    /// An event has lost its body.
    Bodiless {
        seq: Seq,
    },
    /// An event's body is not there as it came in.
    Altered {
        seq: Seq,
        altered: Altered,
    },
}

impl Consumer {
    /// Registers with the inbox (a new sink's cursor is durable when this returns) and reads back what was parked.
    pub async fn open(config: Config, sink: Arc<dyn Sink>, deps: Deps) -> Result<Self, Unavailable> {
        let who = Registration::Sink { name: config.name.clone(), start: config.start };
        let state = deps.inbox.consumer(who, config.route.revision()).await?;
        Self::new(config, sink, deps, state, None, None).await
    }

    /// The consumer of a replay, made or read back. Its sink is shared with the live consumer, whose settings it has
    /// apart from the concurrency, which is half as much at most; it has a cursor, a breaker and a pace of its own, and
    /// counts in no gauge of the live one. `rate` bounds the first attempts in a second; it is above 0, and may be a
    /// fraction. While its sink is paused it starts nothing, like the live consumer.
    pub async fn replay(
        mut config: Config,
        sink: Arc<dyn Sink>,
        job: JobId,
        rate: Option<f64>,
        deps: Deps,
    ) -> Result<Self, Unavailable> {
        config.concurrency = (config.concurrency / 2).max(1);
        let state = deps.inbox.consumer(Registration::Replay { job }, config.route.revision()).await?;
        let Some(selection) = state.selection.clone() else {
            return Err(Unavailable::Refused(format!("job {job} is stored without what it is to deliver")));
        };
        Self::new(config, sink, deps, state, Some((job, selection)), rate).await
    }

    async fn new(
        config: Config,
        sink: Arc<dyn Sink>,
        deps: Deps,
        state: ConsumerState,
        replay: Option<(JobId, Selection)>,
        rate: Option<f64>,
    ) -> Result<Self, Unavailable> {
        let parked = deps.inbox.outlines(state.parked.iter().map(|parked| parked.seq).collect()).await?;
        let (order, orders) = unbounded_channel();
        let consumer = Self {
            id: state.id,
            route: Arc::new(config.route.clone()),
            sink,
            gauges: Gauges::new(&deps.metrics, config.name.as_str(), &state, replay.is_some()),
            core: Core::new(config.clone(), state, &parked, rate, fastrand::u64(..), deps.clock.now()),
            config,
            deps,
            replay,
            orders,
            order,
            revived: Vec::new(),
            adopting: false,
            unwritten: None,
            recording: false,
            reading: false,
            unreadable: false,
            failures: Throttle::default(),
            given_up: Throttle::default(),
            unsure: Throttle::default(),
        };
        consumer.measure(consumer.deps.inbox.head().borrow().get());
        Ok(consumer)
    }

    /// For telling it what a job has changed.
    pub fn handle(&self) -> Handle {
        Handle::new(self.id, self.config.name.clone(), self.order.clone())
    }

    /// How far it is behind, for `sink_lag_events`.
    pub fn lag(&self) -> Lag {
        self.gauges.lag.clone()
    }

    /// Delivers until `stop`; then finishes what is in flight and records it. A replay ends by itself, too. The sink is
    /// for the caller to close. Dropping it instead is safe: what was in flight is unknown, and is delivered again.
    pub async fn run(mut self, stop: CancellationToken) -> End {
        let mut head = self.deps.inbox.head();
        let mut work: FuturesUnordered<Work> = FuturesUnordered::new();
        loop {
            let stopping = stop.is_cancelled();
            if stopping && self.unwritten.is_some() && !self.recording {
                // It could not be recorded: whatever it held will come again.
                return End::Stopped;
            }
            if !stopping {
                while let Ok(change) = self.orders.try_recv() {
                    self.obey(change);
                }
                work.extend(self.next_deliveries());
                // Marked as seen before the log is read: what is appended meanwhile wakes the loop again.
                let last = *head.borrow_and_update();
                work.extend(self.next_read(last));
                work.extend(self.next_adoption());
            }
            work.extend(self.next_record());
            if self.has_finished() {
                return End::Finished;
            }
            if stopping && self.core.flying() == 0 && !self.recording {
                return End::Stopped;
            }
            self.measure(head.borrow().get());
            let pause = if stopping { POLL } else { self.pause() };
            tokio::select! {
                // By turns of chance, one seed of the simulation would not be one schedule. Nothing waits for ever: whatever
                // else is ready is looked at before the next round.
                biased;
                Some(done) = work.next() => {
                    work.extend(self.take_in(done));
                    // Whatever else has ended meanwhile costs no turn of its own.
                    while let Some(Some(done)) = work.next().now_or_never() {
                        work.extend(self.take_in(done));
                    }
                }
                Ok(()) = head.changed(), if !self.reading && !stopping => {}
                Some(change) = self.orders.recv(), if !stopping => self.obey(change),
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled(), if !stopping => {}
            }
        }
    }

    /// Returns what is to be done next: the deliveries of events that were read again.
    fn take_in(&mut self, done: Done) -> Vec<Work> {
        match done {
            Done::Landed(landing) => self.land(landing),
            Done::Recorded(Ok(())) => self.recorded(),
            Done::Recorded(Err(_)) => self.recording = false,
            Done::Read(Ok(judged)) => {
                (self.reading, self.unreadable) = (false, false);
                self.tell_unsure(&judged.unsure);
                self.core.read(judged.events, judged.read_to, self.deps.clock.now());
            }
            Done::Read(Err(error)) => {
                self.reading = false;
                self.tell_unreadable(&error);
            }
            Done::Revived(parked, Ok(outlines)) => {
                (self.adopting, self.unreadable) = (false, false);
                self.core.adopt(&parked, &outlines);
            }
            Done::Revived(parked, Err(error)) => {
                self.adopting = false;
                self.revived.extend(parked);
                self.tell_unreadable(&error);
            }
            Done::Reread(seqs, events) => return self.deliver_reread(seqs, events),
        }
        Vec::new()
    }

    /// Every one of `seqs` is delivered, or told to the core as not started.
    fn deliver_reread(&mut self, seqs: Vec<Seq>, events: Result<Vec<StoredEvent>, Unavailable>) -> Vec<Work> {
        let (events, why) = match events {
            Ok(events) => (events, "it is not in the log".to_owned()),
            Err(error) => (Vec::new(), error.to_string()),
        };
        let found: BTreeSet<Seq> = events.iter().map(|event| event.seq).collect();
        for seq in seqs.into_iter().filter(|seq| !found.contains(seq)) {
            self.land(Landing::NotStarted { seq, why: why.clone() });
        }
        events.into_iter().map(|event| self.deliver(event)).collect()
    }

    fn obey(&mut self, change: Change) {
        let (sink, now) = (self.config.name.as_str(), self.deps.clock.now());
        match change {
            Change::Paused => {
                tracing::info!(sink, "paused: nothing is started until it is resumed");
                self.core.pause(now);
            }
            Change::Resumed => {
                tracing::info!(sink, "resumed");
                self.core.resume(now);
            }
            Change::Revived(parked) => {
                self.gauges.dead_letters_less(parked.len() as u64);
                self.revived.extend(parked);
            }
            Change::Discarded(number) => self.gauges.dead_letters_less(number),
            Change::TryNow => {
                tracing::info!(sink, "tried now, as asked for");
                self.core.try_now(now);
            }
            Change::Due(seqs) => self.core.are_due(&seqs, now),
            Change::Unparked(seqs) => self.core.unparked(&seqs, now),
        }
    }

    fn has_finished(&self) -> bool {
        let idle = !self.recording && !self.adopting && self.revived.is_empty();
        idle && self.replay.as_ref().is_some_and(|(_, selection)| self.core.has_finished(selection.last))
    }

    fn recorded(&mut self) {
        self.recording = false;
        self.core.recorded();
        let Some(Progress { dead, discarded, .. }) = self.unwritten.take() else { return };
        self.gauges.dead_letters.add(count(dead.len() as u64));
        let sink = self.config.name.as_str();
        for letter in dead {
            if let Some(suppressed) = self.given_up.admit(Instant::now()) {
                let (seq, attempts, reason) = (letter.seq.get(), letter.attempts, Reason::new(letter.reason));
                tracing::error!(
                    sink,
                    seq,
                    attempts,
                    %reason,
                    suppressed,
                    "an event was given up: a person has to decide"
                );
            }
        }
        for event in discarded {
            if let Some(suppressed) = self.given_up.admit(Instant::now()) {
                tracing::warn!(
                    sink,
                    seq = event.seq.get(),
                    reason = event.reason,
                    suppressed,
                    "an event was discarded"
                );
            }
        }
    }

    fn land(&mut self, landing: Landing) {
        let now = self.deps.clock.now();
        match landing {
            Landing::NotStarted { seq, why } => {
                if let Some(suppressed) = self.failures.admit(Instant::now()) {
                    let (sink, seq) = (self.config.name.as_str(), seq.get());
                    tracing::error!(
                        sink,
                        seq,
                        why,
                        suppressed,
                        "an event cannot be read again; that is tried once more"
                    );
                }
                self.core.not_started(seq, now);
            }
            Landing::Bodiless { seq } => self.core.bodiless(seq, now),
            Landing::Altered { seq, altered } => self.core.altered(seq, altered, now),
            Landing::Attempt { seq, at, latency, outcome } => {
                let sink = self.config.name.as_str();
                self.deps.metrics.sink_attempts.with_label_values(&[sink, outcome.label()]).inc();
                self.gauges.delivery_seconds.observe(latency.as_secs_f64());
                let reason = self.log(seq, &outcome);
                match self.core.finished(seq, at, latency, outcome, fastrand::f64()) {
                    Some(Switched::Opened) => {
                        tracing::warn!(sink, reason, "the sink counts as down: it is only probed until it answers");
                    }
                    Some(Switched::Closed) => tracing::info!(sink, "the sink is back"),
                    None => {}
                }
            }
        }
    }

    /// Returns the reason of a failure.
    fn log(&self, seq: Seq, outcome: &Outcome) -> String {
        let (sink, seq) = (self.config.name.as_str(), seq.get());
        let (reason, what) = match outcome {
            Outcome::Delivered { receipt } => {
                tracing::debug!(sink, seq, %receipt, "delivered");
                return String::new();
            }
            Outcome::Transient { reason, .. } => (reason, "not delivered, to be tried again"),
            Outcome::Permanent { reason } => (reason, "refused: given up, unless the sink turns out to be the cause"),
        };
        if let Some(suppressed) = self.failures.admit(Instant::now()) {
            tracing::warn!(sink, seq, %reason, suppressed, "{what}");
        }
        reason.to_string()
    }

    pub(super) fn tell_unsure(&self, unsure: &[(Seq, String)]) {
        self.gauges.filter_errors.inc_by(unsure.len() as u64);
        for (seq, error) in unsure {
            if let Some(suppressed) = self.unsure.admit(Instant::now()) {
                let (sink, seq) = (self.config.name.as_str(), seq.get());
                tracing::warn!(
                    sink,
                    seq,
                    error,
                    suppressed,
                    "the filter could not decide on an event: it is delivered"
                );
            }
        }
    }

    fn tell_unreadable(&mut self, error: &Unavailable) {
        if !self.unreadable {
            tracing::error!(sink = %self.config.name, %error, "the log cannot be read; it is tried again");
        }
        self.unreadable = true;
    }

    /// Until something is due, and no longer than the poll.
    fn pause(&self) -> Duration {
        let due = self.core.next_due().filter(|_| self.deps.inbox.trouble().is_none());
        let due = due.map(|due| due.duration_since(self.deps.clock.now()));
        due.map_or(POLL, |due| Duration::try_from(due).unwrap_or_default().clamp(Duration::from_millis(1), POLL))
    }

    fn measure(&self, head: i64) {
        let lag = head - self.core.cursor().get();
        let oldest = self.core.oldest().filter(|_| lag > 0 || self.core.parked_on_disk() > 0);
        let age = oldest.map_or(0, |oldest| self.deps.clock.now().duration_since(oldest).as_secs());
        self.gauges.lag_seconds.set(age.max(0));
        self.gauges.parked.set(count(self.core.parked_on_disk() as u64));
        self.gauges.breaker_open.set(i64::from(self.core.is_open()));
        self.gauges.says(self.core.state(), self.core.is_full());
        // Last: who sees the cursor sees what was parked to move it.
        self.gauges.lag.reached(self.core.cursor());
    }
}
