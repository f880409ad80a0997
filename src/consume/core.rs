//! A consumer's decisions, as a pure state machine: what is given to it is what was read and what became of
//! deliveries; what it gives back is what to deliver next and what to record. Time and chance are values.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::{Config, Ordering};
use crate::inbox::{Attempt, ConsumerState, DeadLetter, Parked, Progress, StoredEvent};
use crate::model::{Outcome, Seq};

/// Parked events of one sink; at the bound reading stops, and nothing is dropped.
pub(super) const MAX_PARKED: usize = 10_000;
/// Bytes of the bodies of events that are read and not yet tried.
const MAX_READY_BYTES: usize = 32 << 20;
/// Events read ahead for each delivery in flight: enough that one busy key does not starve the others.
const READ_AHEAD: usize = 4;
/// Events read ahead at least: a sink that wants few of them must not need a read and a record for each handful.
const MIN_READ_AHEAD: usize = 256;

/// Events that must be handed over one after the other: those of one entity, or each event alone.
type LaneKey = Arc<str>;

/// A delivery to be started. Its end is told to [`Core::finished`] or [`Core::not_started`].
#[derive(Debug)]
pub(super) enum Start {
    /// An event that was just read.
    Event(Box<StoredEvent>),
    /// A parked event, to be read again first.
    Parked(Seq),
}

#[derive(Debug)]
enum State {
    /// Read, in memory, not yet tried.
    Ready(Box<StoredEvent>),
    Flying,
    Parked,
}

#[derive(Debug)]
struct Item {
    state: State,
    lane: LaneKey,
    received_at: Timestamp,
    attempts: u32,
    first_attempt: Option<Timestamp>,
    next_attempt: Timestamp,
    /// Whether the inbox has it as parked, or will with the next record.
    parked: bool,
}

/// The state of one consumer.
pub(super) struct Core {
    config: Config,
    /// The last event read from the log.
    read_to: Seq,
    /// Events above the cursor that were final or parked when the process started: passed over when they are read.
    settled: BTreeSet<Seq>,
    /// Every event that is neither final nor unread.
    items: BTreeMap<Seq, Item>,
    lanes: HashMap<LaneKey, BTreeSet<Seq>>,
    /// Heads of lanes that can be delivered now.
    ready: BTreeSet<Seq>,
    /// Heads of lanes that are parked, by the time of their next attempt.
    timers: BTreeSet<(Timestamp, Seq)>,
    /// Events that hold the cursor back: neither final nor parked.
    open: BTreeSet<Seq>,
    flying: usize,
    parked: usize,
    ready_bytes: usize,
    recorded_cursor: Seq,
    recorded_parked: usize,
    /// The cursor in the record that is being written.
    taken_cursor: Seq,
    /// How many are parked with it.
    taken_parked: usize,
    /// Attempts in the record that is being written.
    recording: usize,
    attempts: Vec<Attempt>,
    park: BTreeMap<Seq, Parked>,
    unpark: Vec<Seq>,
    dead: Vec<DeadLetter>,
}

impl Core {
    /// From what the inbox recorded. `parked` are the parked events as stored now, for their lanes; their bodies are not
    /// looked at.
    pub(super) fn new(config: Config, state: ConsumerState, parked: &[StoredEvent]) -> Self {
        let mut core = Self {
            config,
            read_to: state.cursor,
            settled: state.done_above,
            items: BTreeMap::new(),
            lanes: HashMap::new(),
            ready: BTreeSet::new(),
            timers: BTreeSet::new(),
            open: BTreeSet::new(),
            flying: 0,
            parked: 0,
            ready_bytes: 0,
            recorded_cursor: state.cursor,
            recorded_parked: 0,
            taken_cursor: state.cursor,
            taken_parked: 0,
            recording: 0,
            attempts: Vec::new(),
            park: BTreeMap::new(),
            unpark: Vec::new(),
            dead: Vec::new(),
        };
        let records: HashMap<Seq, &Parked> = state.parked.iter().map(|record| (record.seq, record)).collect();
        for event in parked {
            let Some(record) = records.get(&event.seq) else { continue };
            let item = Item {
                state: State::Parked,
                lane: core.lane(event),
                received_at: event.received_at,
                attempts: record.attempts,
                first_attempt: record.first_attempt,
                next_attempt: record.next_attempt,
                parked: true,
            };
            core.insert(event.seq, item);
            core.parked += 1;
            if event.seq > core.read_to {
                // It may be delivered, and forgotten, before the log has been read that far.
                core.settled.insert(event.seq);
            }
        }
        (core.taken_parked, core.recorded_parked) = (core.parked, core.parked);
        let lanes: Vec<LaneKey> = core.lanes.keys().cloned().collect();
        lanes.iter().for_each(|lane| core.raise_head(lane));
        core
    }

    /// Where to read on, and how many events; `None` while enough is waiting.
    pub(super) fn wants(&self) -> Option<(Seq, usize)> {
        if self.ready_bytes >= MAX_READY_BYTES {
            return None;
        }
        let window = (self.config.concurrency * READ_AHEAD).max(MIN_READ_AHEAD);
        let room = window.saturating_sub(self.open.len()).min(MAX_PARKED.saturating_sub(self.parked + self.open.len()));
        (room > 0).then_some((self.read_to, room))
    }

    /// Takes what was read from where [`Self::wants`] said.
    pub(super) fn read(&mut self, events: Vec<StoredEvent>, now: Timestamp) {
        for event in events {
            debug_assert!(event.seq > self.read_to, "the log is read forwards");
            self.read_to = event.seq;
            self.take(event, now);
        }
    }

    fn take(&mut self, event: StoredEvent, now: Timestamp) {
        if self.settled.remove(&event.seq) || !self.config.route.wants(&event.event_type) {
            return;
        }
        let held_back = if event.conflict {
            Some("conflict: another event with this id and other bytes came first")
        } else if event.body.is_none() {
            Some("pruned: retention has dropped the body")
        } else {
            None
        };
        if let Some(reason) = held_back {
            let letter = DeadLetter { seq: event.seq, attempts: 0, reason: reason.to_owned(), at: now };
            self.dead.push(letter);
            return;
        }
        let (seq, lane) = (event.seq, self.lane(&event));
        let behind = self.lanes.get(&lane).and_then(BTreeSet::first).is_some_and(|head| self.items[head].parked);
        let received_at = event.received_at;
        self.ready_bytes += body_bytes(&event);
        let state = State::Ready(Box::new(event));
        let (attempts, first_attempt) = (0, None);
        let item =
            Item { state, lane: lane.clone(), received_at, attempts, first_attempt, next_attempt: now, parked: false };
        self.insert(seq, item);
        self.open.insert(seq);
        if behind {
            self.hold(seq, now);
        }
        self.raise_head(&lane);
    }

    /// Deliveries to start now: at most `concurrency` are in flight or unrecorded, so that a crash repeats no more.
    pub(super) fn start(&mut self, now: Timestamp) -> Vec<Start> {
        let mut starts = Vec::new();
        self.shorten_timers(now);
        while self.has_room() {
            let due = self.timers.first().filter(|(at, _)| *at <= now).copied();
            let seq = if let Some(due) = due {
                self.timers.remove(&due);
                due.1
            } else if let Some(seq) = self.ready.pop_first() {
                seq
            } else {
                break;
            };
            self.flying += 1;
            starts.push(match self.change(seq, State::Flying) {
                State::Ready(event) => Start::Event(event),
                State::Parked => Start::Parked(seq),
                State::Flying => unreachable!("what flies is in neither queue"),
            });
        }
        starts
    }

    fn has_room(&self) -> bool {
        self.flying + self.attempts.len() + self.recording < self.config.concurrency
    }

    /// A clock that was set back must not keep a parked event for longer than the longest delay.
    fn shorten_timers(&mut self, now: Timestamp) {
        let latest = add(now, self.config.retry.max);
        while let Some(&(at, seq)) = self.timers.last().filter(|(at, _)| *at > latest) {
            self.timers.remove(&(at, seq));
            self.items.get_mut(&seq).expect("a head is an item").next_attempt = latest;
            self.timers.insert((latest, seq));
        }
    }

    /// When [`Self::start`] may have something that it has not now; `None` while it waits for a delivery to end, or to
    /// be recorded.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.timers.first().filter(|_| self.has_room()).map(|(at, _)| *at)
    }

    /// A parked event could not be read again: nothing was tried.
    pub(super) fn not_started(&mut self, seq: Seq, now: Timestamp) {
        self.flying -= 1;
        let item = self.items.get_mut(&seq).expect("what flies is an item");
        item.state = State::Parked;
        item.next_attempt = add(now, self.config.retry.initial);
        let lane = item.lane.clone();
        self.raise_head(&lane);
    }

    /// What became of a delivery. `chance` is drawn from 0 to 1.
    pub(super) fn finished(&mut self, seq: Seq, at: Timestamp, latency: Duration, outcome: Outcome, chance: f64) {
        self.flying -= 1;
        let now = add(at, latency);
        let item = self.items.get_mut(&seq).expect("what flies is an item");
        item.attempts += 1;
        let first = *item.first_attempt.get_or_insert(at);
        let attempts = item.attempts;
        let attempt = Attempt { seq, n: attempts, at, latency, outcome: outcome.clone() };
        self.attempts.push(attempt);
        match outcome {
            Outcome::Delivered { .. } => self.end(seq),
            Outcome::Permanent { reason } => self.bury(seq, attempts, reason.as_str().to_owned(), now),
            Outcome::Transient { reason, retry_after } => {
                let tried_for = Duration::try_from(now.duration_since(first)).unwrap_or_default();
                if tried_for >= self.config.retry.give_up_after {
                    self.bury(seq, attempts, format!("gave up: {reason}"), now);
                } else {
                    let delay = self.config.retry.delay(attempts, retry_after, chance);
                    self.set_aside(seq, add(now, delay), now);
                }
            }
        }
    }

    /// Events in flight.
    pub(super) fn flying(&self) -> usize {
        self.flying
    }

    /// The cursor on disk.
    pub(super) fn cursor(&self) -> Seq {
        self.recorded_cursor
    }

    /// Parked events on disk.
    pub(super) fn parked_on_disk(&self) -> usize {
        self.recorded_parked
    }

    /// When the oldest event that is not final came in.
    pub(super) fn oldest(&self) -> Option<Timestamp> {
        self.items.values().next().map(|item| item.received_at)
    }

    /// What has happened since the last call, to be recorded in one transaction; `None` when nothing has. When it
    /// cannot be recorded, nothing may be started until it is.
    pub(super) fn take_progress(&mut self) -> Option<Progress> {
        let cursor = match self.open.first() {
            Some(seq) => Seq::new(seq.get() - 1).unwrap_or(Seq::ZERO),
            None => self.read_to,
        };
        let nothing =
            self.attempts.is_empty() && self.park.is_empty() && self.unpark.is_empty() && self.dead.is_empty();
        if nothing && cursor == self.taken_cursor {
            return None;
        }
        self.taken_cursor = cursor;
        self.recording = self.attempts.len();
        self.taken_parked = self.parked;
        Some(Progress {
            consumer: crate::inbox::ConsumerId::new(1), // HELPER
            cursor,
            attempts: std::mem::take(&mut self.attempts),
            park: std::mem::take(&mut self.park).into_values().collect(),
            unpark: std::mem::take(&mut self.unpark),
            dead: std::mem::take(&mut self.dead),
            discarded: Vec::new(),                       // HELPER
            standing: crate::inbox::Standing::default(), // HELPER
        })
    }

    /// What [`Self::take_progress`] gave is on disk.
    pub(super) fn recorded(&mut self) {
        self.recording = 0;
        self.recorded_parked = self.taken_parked;
        self.recorded_cursor = self.taken_cursor;
    }

    fn lane(&self, event: &StoredEvent) -> LaneKey {
        match self.config.ordering {
            Ordering::Key => format!("{}\0{}", event.source, event.key).into(),
            Ordering::None => event.seq.to_string().into(),
        }
    }

    fn insert(&mut self, seq: Seq, item: Item) {
        self.lanes.entry(item.lane.clone()).or_default().insert(seq);
        self.items.insert(seq, item);
    }

    /// A failed event is parked until its next attempt, and everything of its lane that was read already behind it.
    fn set_aside(&mut self, seq: Seq, next_attempt: Timestamp, now: Timestamp) {
        self.hold(seq, next_attempt);
        let lane = self.items[&seq].lane.clone();
        let behind: Vec<Seq> = self.lanes[&lane].iter().copied().filter(|&other| other > seq).collect();
        for other in behind {
            if !self.items[&other].parked {
                self.hold(other, now);
            }
        }
        self.raise_head(&lane);
    }

    fn hold(&mut self, seq: Seq, next_attempt: Timestamp) {
        self.change(seq, State::Parked);
        let item = self.items.get_mut(&seq).expect("only what is known is parked");
        item.next_attempt = next_attempt;
        if !item.parked {
            item.parked = true;
            self.parked += 1;
            self.open.remove(&seq);
        }
        let (attempts, first_attempt) = (item.attempts, item.first_attempt);
        self.park.insert(seq, Parked { seq, attempts, first_attempt, still: Duration::ZERO, next_attempt });
    }

    /// Returns the state that was.
    fn change(&mut self, seq: Seq, state: State) -> State {
        let item = self.items.get_mut(&seq).expect("only what is known changes");
        let before = std::mem::replace(&mut item.state, state);
        if let State::Ready(event) = &before {
            self.ready_bytes -= body_bytes(event);
        }
        before
    }

    fn bury(&mut self, seq: Seq, attempts: u32, reason: String, at: Timestamp) {
        self.dead.push(DeadLetter { seq, attempts, reason, at });
        self.end(seq);
    }

    /// The event is final; its lane goes on.
    fn end(&mut self, seq: Seq) {
        let item = self.items.remove(&seq).expect("only what is known ends");
        self.open.remove(&seq);
        if item.parked {
            self.parked -= 1;
            self.park.remove(&seq);
            self.unpark.push(seq);
        }
        let lane = self.lanes.get_mut(&item.lane).expect("an item has a lane");
        lane.remove(&seq);
        if lane.is_empty() {
            self.lanes.remove(&item.lane);
        } else {
            self.raise_head(&item.lane);
        }
    }

    /// Makes the first event of a lane deliverable: now, or at its time.
    fn raise_head(&mut self, lane: &LaneKey) {
        let Some(&head) = self.lanes.get(lane).and_then(BTreeSet::first) else { return };
        let item = &self.items[&head];
        match item.state {
            State::Ready(_) => _ = self.ready.insert(head),
            State::Parked => _ = self.timers.insert((item.next_attempt, head)),
            State::Flying => {}
        }
    }
}

fn body_bytes(event: &StoredEvent) -> usize {
    event.body.as_ref().map_or(0, bytes::Bytes::len)
}

fn add(at: Timestamp, duration: Duration) -> Timestamp {
    at.saturating_add(duration).unwrap_or(Timestamp::MAX)
}
