//! A consumer's decisions, as a pure state machine: what is given to it is what was read and what became of
//! deliveries; what it gives back is what to deliver next and what to record. Time and chance are values.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use jiff::Timestamp;

use super::breaker::Breaker;
use super::lanes::{Item, LaneKey, Lanes, Refusals};
use super::ledger::{Ledger, Mark};
use super::pace::Pace;
use super::still::Still;
use super::{Config, Ordering, later};
use crate::inbox::{Attempt, ConsumerState, DeadLetter, Discarded, Parked, Progress, Standing, StoredEvent};
use crate::model::{Outcome, Reason, Seq};

/// Parked events of one sink; at the bound reading stops, and nothing is dropped.
pub(super) const MAX_PARKED: usize = 10_000;
/// Bytes of the bodies of events that are read and not yet tried.
const MAX_READY_BYTES: usize = 32 << 20;
/// Events read ahead for each delivery in flight: enough that one busy key does not starve the others.
const READ_AHEAD: usize = 4;
/// Events read ahead at least: a sink that wants few of them must not need a read and a record for each handful.
const MIN_READ_AHEAD: usize = 256;
/// An event that was refused for good so often, each time after others had been delivered, is at fault itself, even if
/// the breaker has opened over it every time.
const MAX_REFUSALS: u32 = 3;
/// Deliveries in flight or not yet recorded, for each that may be in flight: what a crash of the relay may repeat. Without
/// a margin every delivery would wait for the commit that records the one before it.
pub(super) const UNRECORDED: usize = 4;
/// Beyond it the margin ends: a record is one transaction, and senders wait for it.
const MAX_UNRECORDED: usize = 1024;

const CONFLICT: &str = "conflict: another event with this id and other bytes came first";
const PRUNED: &str = "pruned: retention has dropped the body";

/// A delivery to be started. Its end is told to [`Core::finished`], [`Core::not_started`] or [`Core::bodiless`].
#[derive(Debug)]
pub(super) enum Start {
    /// An event that was just read.
    Event(Box<StoredEvent>),
    /// A parked event, to be read again first.
    Parked(Seq),
}

/// What a delivery's end has done to the breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Switched {
    /// The sink counts as down from now on.
    Opened,
    /// It is back.
    Closed,
}

/// How a delivery failed.
struct Failure {
    reason: Reason,
    /// For this event, by the far side's word.
    permanent: bool,
    retry_after: Option<Duration>,
}

/// The state of one consumer.
pub(super) struct Core {
    config: Config,
    /// Everything up to here has been read from the log.
    read_to: Seq,
    /// Events above the cursor that were final or parked when the process started: passed over when they are read.
    settled: BTreeSet<Seq>,
    lanes: Lanes,
    ledger: Ledger,
    paused: bool,
    breaker: Breaker<LaneKey>,
    /// Events that were parked when the breaker opened, or by the inbox: those that come after are bounded.
    parked_before: usize,
    still: Still,
    pace: Option<Pace>,
    /// Refused for good, and parked until it is clear whether they are at fault or the sink is: buried with the next
    /// success of another lane, or when their time comes.
    condemned: BTreeMap<Seq, Reason>,
    /// Deliveries that succeeded.
    successes: u64,
    /// Whether the last start was one that had been parked.
    parked_went_last: bool,
}

impl Core {
    /// From what the inbox recorded. `parked` are the parked events as stored now, for their lanes; their bodies are not
    /// looked at. `rate` bounds first attempts in a second.
    pub(super) fn new(
        config: Config,
        state: ConsumerState,
        parked: &[StoredEvent],
        rate: Option<f64>,
        now: Timestamp,
    ) -> Self {
        let Standing { breaker_open_since, still_since, still } = state.standing;
        let mark = Mark { cursor: state.cursor, standing: state.standing, parked: 0 };
        let mut core = Self {
            breaker: Breaker::new(config.retry, breaker_open_since, now),
            config,
            read_to: state.cursor,
            settled: state.done_above,
            lanes: Lanes::default(),
            ledger: Ledger::new(state.id, mark),
            paused: state.paused,
            parked_before: 0,
            still: Still::new(still_since, still),
            pace: rate.map(|rate| Pace::new(rate, now)),
            condemned: BTreeMap::new(),
            successes: 0,
            parked_went_last: false,
        };
        core.adopt(&state.parked, parked);
        core.stand(now);
        core
    }

    /// Takes in events that the inbox has parked by itself. One that is known already stays as it is.
    pub(super) fn adopt(&mut self, records: &[Parked], events: &[StoredEvent]) {
        let records: HashMap<Seq, &Parked> = records.iter().map(|record| (record.seq, record)).collect();
        for event in events {
            let Some(record) = records.get(&event.seq).filter(|record| self.lanes.get(record.seq).is_none()) else {
                continue;
            };
            self.lanes.insert(event.seq, Item::parked(record, self.lane(event), event.received_at));
            self.ledger.adopted();
            self.parked_before += 1;
            if event.seq > self.read_to {
                // It may be delivered, and forgotten, before the log has been read that far.
                self.settled.insert(event.seq);
            }
        }
    }

    /// Nothing is read and nothing started until [`Self::resume`]; what is in flight lands.
    pub(super) fn pause(&mut self, now: Timestamp) {
        self.paused = true;
        self.stand(now);
    }

    /// Ends a pause.
    pub(super) fn resume(&mut self, now: Timestamp) {
        self.paused = false;
        self.stand(now);
    }

    /// Where to read on, and how many events; `None` while enough is waiting.
    pub(super) fn wants(&self) -> Option<(Seq, usize)> {
        let window = (self.config.concurrency * READ_AHEAD).max(MIN_READ_AHEAD);
        // What ends as it is read waits in memory, too, while nothing can be recorded.
        if self.paused || self.lanes.ready_bytes() >= MAX_READY_BYTES || self.ledger.lost() >= window {
            return None;
        }
        let open = self.lanes.open().len();
        let mut ahead = open;
        if self.breaker.is_open() {
            if self.lanes.first_ready().is_some() {
                return None;
            }
            // Probes park what they fail on: that, too, must not follow the log to its end.
            ahead += self.lanes.parked().saturating_sub(self.parked_before);
        }
        let room = window.saturating_sub(ahead).min(MAX_PARKED.saturating_sub(self.lanes.parked() + open));
        // To read a few at a time costs more than to deliver them.
        let is_worth_it = room >= window / 2 || self.lanes.first_ready().is_none();
        (room > 0 && is_worth_it).then_some((self.read_to, room))
    }

    /// Takes what was read from where [`Self::wants`] said: events, each with whether the sink wants it, and how far
    /// the log was looked at.
    pub(super) fn read(&mut self, events: Vec<(StoredEvent, bool)>, read_to: Seq, now: Timestamp) {
        for (event, wanted) in events {
            debug_assert!(event.seq > self.read_to, "the log is read forwards");
            self.read_to = event.seq;
            self.take(event, wanted, now);
        }
        self.read_to = self.read_to.max(read_to);
    }

    fn take(&mut self, event: StoredEvent, wanted: bool, now: Timestamp) {
        let seq = event.seq;
        if self.settled.remove(&seq) || !wanted {
        } else if event.body.is_none() {
            self.ledger.discarded(Discarded { seq, reason: PRUNED.to_owned(), at: now });
        } else if event.conflict {
            self.ledger.dead(DeadLetter { seq, attempts: 0, reason: CONFLICT.to_owned(), at: now });
        } else {
            let lane = self.lane(&event);
            let waits = !self.breaker.is_open() && self.lanes.is_held_up(&lane);
            self.lanes.insert(seq, Item::read(event, lane, now));
            if waits {
                self.hold(seq, now);
            }
        }
    }

    /// Deliveries to start now: at most `concurrency` are in flight, and [`UNRECORDED`] times as many in flight or not yet
    /// recorded, so that a crash repeats no more.
    pub(super) fn start(&mut self, now: Timestamp) -> Vec<Start> {
        let latest = later(now, self.config.retry.max);
        self.lanes.no_later_than(latest);
        self.breaker.no_later_than(latest);
        if let Some(pace) = &mut self.pace {
            pace.refill(now);
        }
        let mut starts = Vec::new();
        while !self.paused && self.has_room() {
            let Some(seq) = self.choose(now) else { break };
            if self.is_at_fault(seq) {
                self.bury_condemned(seq, now);
            } else {
                starts.push(self.launch(seq, now));
            }
        }
        starts
    }

    fn has_room(&self) -> bool {
        let (flying, most) = (self.lanes.flying(), self.config.concurrency);
        flying < most && flying + self.ledger.unrecorded() < (UNRECORDED * most).min(MAX_UNRECORDED).max(most)
    }

    fn choose(&mut self, now: Timestamp) -> Option<Seq> {
        if self.breaker.is_open() {
            self.breaker.next_probe().filter(|at| *at <= now)?;
            return self.probe().filter(|seq| self.keeps_pace(*seq));
        }
        let parked = self.first_timer().filter(|(at, _)| *at <= now).map(|(_, seq)| seq);
        let parked = parked.filter(|seq| self.keeps_pace(*seq));
        let ready = self.lanes.first_ready().filter(|seq| self.keeps_pace(*seq));
        // In turns: entities that fail again and again must not look like an outage by going one after the other, and
        // new events need not wait for all that an outage has left.
        let parked_goes = ready.is_none() || !self.parked_went_last;
        let chosen = parked.filter(|_| parked_goes).or(ready);
        self.parked_went_last = chosen.is_some() && chosen == parked;
        chosen
    }

    /// The parked event that is due first. A condemned one waits while others can still show whose fault it is.
    fn first_timer(&self) -> Option<(Timestamp, Seq)> {
        let undecided = self.lanes.flying() > 0 || self.lanes.first_ready().is_some();
        self.lanes.timers().find(|(_, seq)| !(undecided && self.condemned.contains_key(seq)))
    }

    /// The event to try while the breaker is open: one that is not known to fail, where there is one.
    fn probe(&self) -> Option<Seq> {
        self.lanes.first_ready().or_else(|| self.lanes.timers().next().map(|(_, seq)| seq))
    }

    fn keeps_pace(&self, seq: Seq) -> bool {
        !self.is_untried(seq) || self.pace.as_ref().is_none_or(Pace::allows)
    }

    fn is_untried(&self, seq: Seq) -> bool {
        self.lanes.get(seq).is_some_and(|item| item.attempts == 0)
    }

    /// Whether a condemned event is the only one that fails.
    fn is_at_fault(&self, seq: Seq) -> bool {
        let lane = self.lanes.get(seq).map(|item| &item.lane);
        self.condemned.contains_key(&seq) && lane.is_some_and(|lane| self.breaker.spares_all_but(lane))
    }

    fn launch(&mut self, seq: Seq, now: Timestamp) -> Start {
        if let Some(pace) = self.pace.as_mut().filter(|_| self.lanes.item(seq).attempts == 0) {
            pace.spend();
        }
        self.breaker.probing(seq);
        let still = self.still.total(now);
        let item = self.lanes.item(seq);
        if item.first_attempt.is_none() {
            item.still = still;
        }
        self.lanes.fly(seq).map_or(Start::Parked(seq), Start::Event)
    }

    /// When [`Self::start`] may have something that it has not now; `None` while it waits for a delivery to end, or to
    /// be recorded, or for a person.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        if self.paused || !self.has_room() {
            return None;
        }
        let paced = |seq, at: Timestamp| match self.pace.as_ref().filter(|_| self.is_untried(seq)) {
            Some(pace) => at.max(pace.next()),
            None => at,
        };
        if self.breaker.is_open() {
            return Some(paced(self.probe()?, self.breaker.next_probe()?));
        }
        let parked = self.first_timer().map(|(at, seq)| paced(seq, at));
        let ready = self.lanes.first_ready().map(|seq| paced(seq, Timestamp::MIN));
        parked.into_iter().chain(ready).min()
    }

    /// A parked event could not be read again: nothing was tried.
    pub(super) fn not_started(&mut self, seq: Seq, now: Timestamp) {
        let next = later(now, self.config.retry.initial);
        self.breaker.probe_is_void(seq, next);
        // The inbox need not know: it is as parked as before.
        self.lanes.park(seq, next);
    }

    /// A parked event has lost its body: nothing was tried, and nothing ever will be.
    pub(super) fn bodiless(&mut self, seq: Seq, now: Timestamp) {
        self.breaker.probe_is_void(seq, now);
        self.ledger.discarded(Discarded { seq, reason: PRUNED.to_owned(), at: now });
        self.end(seq);
    }

    /// What became of a delivery. `chance` is drawn from 0 to 1.
    pub(super) fn finished(
        &mut self,
        seq: Seq,
        at: Timestamp,
        latency: Duration,
        outcome: Outcome,
        chance: f64,
    ) -> Option<Switched> {
        let now = later(at, latency);
        let item = self.lanes.item(seq);
        item.attempts += 1;
        item.first_attempt.get_or_insert(at);
        self.ledger.attempt(Attempt { seq, n: item.attempts, at, latency, outcome: outcome.clone() });
        let switched = match outcome {
            Outcome::Delivered { .. } => self.delivered(seq, now),
            Outcome::Transient { reason, retry_after } => {
                self.failed(seq, Failure { reason, permanent: false, retry_after }, now, chance)
            }
            Outcome::Permanent { reason } => {
                self.failed(seq, Failure { reason, permanent: true, retry_after: None }, now, chance)
            }
        };
        self.stand(now);
        switched
    }

    fn delivered(&mut self, seq: Seq, now: Timestamp) -> Option<Switched> {
        let lane = self.lanes.item(seq).lane.clone();
        self.end(seq);
        self.successes += 1;
        let closed = self.breaker.succeeded();
        if closed {
            self.lanes.all_due(now);
        }
        if !self.condemned.is_empty() {
            let at_fault = |at: &Seq| self.lanes.get(*at).is_some_and(|item| item.lane != lane && !item.is_flying());
            let at_fault: Vec<Seq> = self.condemned.keys().copied().filter(at_fault).collect();
            at_fault.into_iter().for_each(|at| self.bury_condemned(at, now));
        }
        closed.then_some(Switched::Closed)
    }

    fn failed(&mut self, seq: Seq, failure: Failure, now: Timestamp, chance: f64) -> Option<Switched> {
        let retry = self.config.retry;
        let item = self.lanes.item(seq);
        let (attempts, lane) = (item.attempts, item.lane.clone());
        let at_fault = if failure.permanent {
            item.refusals.count(self.successes) >= MAX_REFUSALS && !self.breaker.is_open()
        } else {
            item.refusals = Refusals::default();
            false
        };
        let opened = self.breaker.failed(seq, &lane, failure.retry_after, now, chance);
        if opened {
            self.parked_before = self.lanes.parked();
            // It may be the sink after all.
            self.condemned.clear();
        }
        let again = later(now, retry.delay(attempts, failure.retry_after, chance));
        if at_fault {
            self.bury(seq, failure.reason.as_str().to_owned(), now);
        } else if self.breaker.is_open() {
            // Alone: what waits behind it costs no row.
            self.hold(seq, again);
        } else if failure.permanent {
            self.refused(seq, failure.reason, now);
        } else {
            self.condemned.remove(&seq);
            self.give_up_or_park(seq, &failure.reason, again, now);
        }
        opened.then_some(Switched::Opened)
    }

    fn refused(&mut self, seq: Seq, reason: Reason, now: Timestamp) {
        if self.condemned.remove(&seq).is_some() {
            self.bury(seq, reason.as_str().to_owned(), now);
        } else {
            self.condemned.insert(seq, reason);
            self.set_aside(seq, later(now, self.config.retry.initial), now);
        }
    }

    fn give_up_or_park(&mut self, seq: Seq, reason: &Reason, again: Timestamp, now: Timestamp) {
        let item = self.lanes.item(seq);
        let (first, still) = (item.first_attempt.unwrap_or(now), item.still);
        if self.still.tried_for(first, still, now) >= self.config.retry.give_up_after {
            self.bury(seq, format!("gave up: {}", reason.as_str()), now);
        } else {
            self.set_aside(seq, again, now);
        }
    }

    /// Events in flight.
    pub(super) fn flying(&self) -> usize {
        self.lanes.flying()
    }

    /// Whether a person has paused it.
    pub(super) fn is_paused(&self) -> bool {
        self.paused
    }

    /// Whether the sink counts as down.
    pub(super) fn is_open(&self) -> bool {
        self.breaker.is_open()
    }

    /// Whether everything up to `last` is final; not necessarily recorded.
    pub(super) fn has_finished(&self, last: Seq) -> bool {
        self.read_to >= last && self.lanes.is_empty()
    }

    /// The cursor on disk.
    pub(super) fn cursor(&self) -> Seq {
        self.ledger.mark().cursor
    }

    /// Parked events on disk.
    pub(super) fn parked_on_disk(&self) -> usize {
        self.ledger.mark().parked
    }

    /// When the oldest event that is not final came in.
    pub(super) fn oldest(&self) -> Option<Timestamp> {
        self.lanes.oldest().map(|item| item.received_at)
    }

    /// What has happened since the last call, to be recorded in one transaction; `None` when nothing has. When it
    /// cannot be recorded, nothing may be started until it is.
    pub(super) fn take_progress(&mut self) -> Option<Progress> {
        let cursor = match self.lanes.open().first() {
            Some(seq) => Seq::new(seq.get() - 1).unwrap_or(Seq::ZERO),
            None => self.read_to,
        };
        let standing = Standing {
            breaker_open_since: self.breaker.open_since(),
            still_since: self.still.since(),
            still: self.still.sum(),
        };
        self.ledger.take(Mark { cursor, standing, parked: self.lanes.parked() })
    }

    /// What [`Self::take_progress`] gave is on disk.
    pub(super) fn recorded(&mut self) {
        self.ledger.recorded();
    }

    fn lane(&self, event: &StoredEvent) -> LaneKey {
        match self.config.ordering {
            Ordering::Key => LaneKey::Entity(format!("{}\0{}", event.source, event.key).into()),
            Ordering::None => LaneKey::Event(event.seq),
        }
    }

    fn stand(&mut self, now: Timestamp) {
        self.still.set(self.paused || self.breaker.is_open(), now);
    }

    /// A failed event is parked until its next attempt, and everything of its lane that was read already behind it.
    fn set_aside(&mut self, seq: Seq, next_attempt: Timestamp, now: Timestamp) {
        self.hold(seq, next_attempt);
        self.lanes.open_behind(seq).into_iter().for_each(|other| self.hold(other, now));
    }

    fn hold(&mut self, seq: Seq, next_attempt: Timestamp) {
        let parked = self.lanes.park(seq, next_attempt);
        self.ledger.park(parked);
    }

    fn bury_condemned(&mut self, seq: Seq, at: Timestamp) {
        if let Some(reason) = self.condemned.remove(&seq) {
            self.bury(seq, reason.as_str().to_owned(), at);
        }
    }

    fn bury(&mut self, seq: Seq, reason: String, at: Timestamp) {
        let attempts = self.lanes.item(seq).attempts;
        self.ledger.dead(DeadLetter { seq, attempts, reason, at });
        self.end(seq);
    }

    fn end(&mut self, seq: Seq) {
        self.condemned.remove(&seq);
        if self.lanes.remove(seq).parked {
            self.ledger.unpark(seq);
        }
    }
}
