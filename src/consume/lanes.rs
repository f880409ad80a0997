//! Every event that one consumer has to deliver and knows of, in lanes: what must be handed over one after the other.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::faults::Faults;
use crate::inbox::{EventOutline, Parked, StoredEvent};
use crate::model::{EventType, Seq};

/// Events that must be handed over one after the other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum LaneKey {
    /// Those of one entity of one source.
    Entity(Arc<str>),
    /// One event alone.
    Event(Seq),
}

#[derive(Debug)]
pub(super) enum State {
    /// Read, in memory, not yet tried.
    Ready(Box<StoredEvent>),
    /// Read, not yet tried, and its body let go of: it is read again first.
    Unloaded,
    Flying,
    Parked,
}

/// An event that is neither final nor unread.
#[derive(Debug)]
pub(super) struct Item {
    pub state: State,
    pub lane: LaneKey,
    pub event_type: EventType,
    /// Bytes of its body.
    pub size: usize,
    pub received_at: Timestamp,
    pub attempts: u32,
    pub first_attempt: Option<Timestamp>,
    /// How long the consumer had stood still by then.
    pub still: Duration,
    pub next_attempt: Timestamp,
    /// Whether the inbox has it as parked, or will with the next record.
    pub parked: bool,
    pub faults: Faults,
}

impl Item {
    /// One that was just read. With `keep`, its body stays in memory until it is tried.
    pub(super) fn read(event: StoredEvent, lane: LaneKey, keep: bool, now: Timestamp) -> Self {
        Self {
            lane,
            event_type: event.event_type.clone(),
            size: event.body.as_ref().map_or(0, bytes::Bytes::len),
            received_at: event.received_at,
            state: if keep { State::Ready(Box::new(event)) } else { State::Unloaded },
            attempts: 0,
            first_attempt: None,
            still: Duration::ZERO,
            next_attempt: now,
            parked: false,
            faults: Faults::default(),
        }
    }

    /// One that is parked in the inbox.
    pub(super) fn parked(record: &Parked, lane: LaneKey, outline: &EventOutline) -> Self {
        Self {
            state: State::Parked,
            lane,
            event_type: outline.event_type.clone(),
            size: outline.size,
            received_at: outline.received_at,
            attempts: record.attempts,
            first_attempt: record.first_attempt,
            still: record.still,
            next_attempt: record.next_attempt,
            parked: true,
            faults: Faults::recorded(record),
        }
    }

    pub(super) fn is_flying(&self) -> bool {
        matches!(self.state, State::Flying)
    }

    pub(super) fn is_untried(&self) -> bool {
        self.attempts == 0
    }
}

#[derive(Debug, Default)]
struct Lane {
    events: BTreeSet<Seq>,
    /// How many of them are not parked.
    open: usize,
    /// Which of them is in `ready`, in `timers`, or in flight.
    raised: Option<Seq>,
}

/// The events, and which of them can go.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    items: BTreeMap<Seq, Item>,
    lanes: HashMap<LaneKey, Lane>,
    /// Heads of lanes that can be delivered now.
    ready: BTreeSet<Seq>,
    /// How many of them are of each type.
    ready_types: HashMap<EventType, usize>,
    /// Heads of lanes that are parked, by the time of their next attempt.
    timers: BTreeSet<(Timestamp, Seq)>,
    /// Events that hold the cursor back: neither final nor parked.
    open: BTreeSet<Seq>,
    flying: usize,
    flying_bytes: usize,
    parked: usize,
    ready_bytes: usize,
}

impl Lanes {
    pub(super) fn get(&self, seq: Seq) -> Option<&Item> {
        self.items.get(&seq)
    }

    /// # Panics
    /// For an event that is not here: only the consumer itself names events.
    pub(super) fn item(&mut self, seq: Seq) -> &mut Item {
        self.items.get_mut(&seq).expect("only what is known is asked for")
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Events that are neither final nor unread.
    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    /// The event that came into the log first.
    pub(super) fn oldest(&self) -> Option<&Item> {
        self.items.values().next()
    }

    pub(super) fn flying(&self) -> usize {
        self.flying
    }

    /// Bytes of the bodies of what is in flight.
    pub(super) fn flying_bytes(&self) -> usize {
        self.flying_bytes
    }

    pub(super) fn parked(&self) -> usize {
        self.parked
    }

    /// Events that hold the cursor.
    pub(super) fn open(&self) -> &BTreeSet<Seq> {
        &self.open
    }

    /// Bytes of the bodies in memory.
    pub(super) fn ready_bytes(&self) -> usize {
        self.ready_bytes
    }

    pub(super) fn first_ready(&self) -> Option<Seq> {
        self.ready.first().copied()
    }

    /// Heads of lanes that were not tried yet and need not wait, by their places.
    pub(super) fn ready(&self) -> impl Iterator<Item = Seq> {
        self.ready.iter().copied()
    }

    /// The types of these.
    pub(super) fn ready_types(&self) -> impl Iterator<Item = &EventType> {
        self.ready_types.keys()
    }

    /// Whether there is the next event of a lane that is not in flight.
    pub(super) fn any_can_go(&self) -> bool {
        !self.ready.is_empty() || !self.timers.is_empty()
    }

    /// Whether an event is the next of its lane, and not in flight.
    pub(super) fn can_go(&self, seq: Seq) -> bool {
        let head = self.items.get(&seq).filter(|item| !item.is_flying());
        head.and_then(|item| self.lanes.get(&item.lane)).is_some_and(|lane| lane.raised == Some(seq))
    }

    /// One of the events that can go, by `chance` from 0 to 1; each is as likely as any other.
    pub(super) fn draw(&self, chance: f64) -> Option<Seq> {
        let all = self.ready.len() + self.timers.len();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is between zero and a length")]
        let place = ((all as f64 * chance) as usize).min(all.checked_sub(1)?);
        match place.checked_sub(self.ready.len()) {
            None => self.ready.iter().nth(place).copied(),
            Some(place) => self.timers.iter().nth(place).map(|(_, seq)| *seq),
        }
    }

    /// Heads of lanes that are parked, by the time of their next attempt.
    pub(super) fn timers(&self) -> impl Iterator<Item = (Timestamp, Seq)> {
        self.timers.iter().copied()
    }

    /// Whether the events of a lane are parked, all of them: the next one can wait behind them. Behind one that is not, it
    /// must not be parked: after a restart what is parked goes before what has to be read again.
    pub(super) fn is_held_up(&self, lane: &LaneKey) -> bool {
        self.lanes.get(lane).is_some_and(|lane| lane.open == 0)
    }

    pub(super) fn insert(&mut self, seq: Seq, item: Item) {
        match &item.state {
            State::Ready(event) => self.ready_bytes += body_bytes(event),
            State::Flying => {
                self.flying += 1;
                self.flying_bytes += item.size;
            }
            State::Unloaded | State::Parked => {}
        }
        if item.parked {
            self.parked += 1;
        } else {
            self.open.insert(seq);
        }
        let (key, is_open) = (item.lane.clone(), !item.parked);
        self.items.insert(seq, item);
        let lane = self.lanes.entry(key.clone()).or_default();
        lane.events.insert(seq);
        lane.open += usize::from(is_open);
        self.raise(&key);
    }

    /// The head of a lane takes off. Returns its body, where that is in memory.
    pub(super) fn fly(&mut self, seq: Seq) -> Option<Box<StoredEvent>> {
        let at = self.items[&seq].next_attempt;
        self.not_ready(seq);
        self.timers.remove(&(at, seq));
        self.change(seq, State::Flying)
    }

    /// Sets an event aside: in flight until now, or behind one that is set aside.
    pub(super) fn park(&mut self, seq: Seq, next_attempt: Timestamp) -> Parked {
        self.change(seq, State::Parked);
        let item = self.items.get_mut(&seq).expect("only what is known is parked");
        item.next_attempt = next_attempt;
        if !item.parked {
            item.parked = true;
            self.parked += 1;
            self.open.remove(&seq);
            self.lanes.get_mut(&item.lane).expect("an item has a lane").open -= 1;
        }
        let (attempts, first_attempt, still, own_failures) =
            (item.attempts, item.first_attempt, item.still, item.faults.own());
        let lane = item.lane.clone();
        self.lower(&lane, seq);
        self.raise(&lane);
        Parked { seq, attempts, first_attempt, still, next_attempt, own_failures }
    }

    /// The events of its lane after this one that hold the cursor.
    pub(super) fn open_behind(&self, seq: Seq) -> Vec<Seq> {
        let behind = self.lanes[&self.items[&seq].lane].events.range(seq.next()..);
        behind.copied().filter(|other| !self.items[other].parked).collect()
    }

    /// The event is final; its lane goes on.
    pub(super) fn remove(&mut self, seq: Seq) -> Item {
        self.change(seq, State::Parked);
        let item = self.items.remove(&seq).expect("only what is known ends");
        self.timers.remove(&(item.next_attempt, seq));
        if item.parked {
            self.parked -= 1;
        } else {
            self.open.remove(&seq);
        }
        self.lower(&item.lane, seq);
        let lane = self.lanes.get_mut(&item.lane).expect("an item has a lane");
        lane.events.remove(&seq);
        lane.open -= usize::from(!item.parked);
        if lane.events.is_empty() {
            self.lanes.remove(&item.lane);
        } else {
            self.raise(&item.lane);
        }
        item
    }

    /// No parked event waits for longer than until `latest`.
    pub(super) fn no_later_than(&mut self, latest: Timestamp) {
        while let Some(&(at, seq)) = self.timers.last().filter(|(at, _)| *at > latest) {
            self.timers.remove(&(at, seq));
            self.item(seq).next_attempt = latest;
            self.timers.insert((latest, seq));
        }
    }

    /// These parked events need not wait any more.
    pub(super) fn are_due(&mut self, seqs: &[Seq], now: Timestamp) {
        for seq in seqs {
            let Some(item) = self.items.get_mut(seq).filter(|item| matches!(item.state, State::Parked)) else {
                continue;
            };
            let at = item.next_attempt;
            item.next_attempt = at.min(now);
            if self.timers.remove(&(at, *seq)) {
                self.timers.insert((item.next_attempt, *seq));
            }
        }
    }

    /// No parked event waits for its time any more.
    pub(super) fn all_due(&mut self, now: Timestamp) {
        for item in self.items.values_mut().filter(|item| matches!(item.state, State::Parked)) {
            item.next_attempt = item.next_attempt.min(now);
        }
        self.timers = std::mem::take(&mut self.timers).into_iter().map(|(at, seq)| (at.min(now), seq)).collect();
    }

    /// Returns what was in memory of it.
    fn change(&mut self, seq: Seq, state: State) -> Option<Box<StoredEvent>> {
        let item = self.items.get_mut(&seq).expect("only what is known changes");
        if matches!(state, State::Flying) {
            self.flying += 1;
            self.flying_bytes += item.size;
        }
        match std::mem::replace(&mut item.state, state) {
            State::Ready(event) => {
                self.ready_bytes -= body_bytes(&event);
                Some(event)
            }
            State::Flying => {
                self.flying -= 1;
                self.flying_bytes -= item.size;
                None
            }
            State::Unloaded | State::Parked => None,
        }
    }

    fn not_ready(&mut self, seq: Seq) {
        if !self.ready.remove(&seq) {
            return;
        }
        let event_type = &self.items[&seq].event_type;
        if let Some(count) = self.ready_types.get_mut(event_type) {
            *count -= 1;
            if *count == 0 {
                self.ready_types.remove(event_type);
            }
        }
    }

    fn lower(&mut self, lane: &LaneKey, seq: Seq) {
        if let Some(lane) = self.lanes.get_mut(lane).filter(|lane| lane.raised == Some(seq)) {
            lane.raised = None;
        }
    }

    /// Makes the first event of a lane deliverable, now or at its time, unless one of them is in flight.
    fn raise(&mut self, lane_key: &LaneKey) {
        let Some(lane) = self.lanes.get_mut(lane_key) else { return };
        let Some(&head) = lane.events.first() else { return };
        if let Some(raised) = lane.raised {
            let item = &self.items[&raised];
            if raised == head || item.is_flying() {
                return;
            }
            lane.raised = None;
            let at = item.next_attempt;
            self.not_ready(raised);
            self.timers.remove(&(at, raised));
        }
        let Some(lane) = self.lanes.get_mut(lane_key) else { return };
        lane.raised = Some(head);
        let item = &self.items[&head];
        match item.state {
            State::Ready(_) | State::Unloaded => {
                self.ready.insert(head);
                match self.ready_types.get_mut(&item.event_type) {
                    Some(count) => *count += 1,
                    None => _ = self.ready_types.insert(item.event_type.clone(), 1),
                }
            }
            State::Parked => _ = self.timers.insert((item.next_attempt, head)),
            State::Flying => {}
        }
    }
}

fn body_bytes(event: &StoredEvent) -> usize {
    event.body.as_ref().map_or(0, bytes::Bytes::len)
}
