//! A consumer's decisions, as a pure state machine: what is given to it is what was read and what became of
//! deliveries; what it gives back is what to deliver next and what to record. Time and chance are values.

mod ended;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;

pub(super) use self::ended::Switched;
use self::ended::reason;
use super::breaker::{Breaker, PROBE};
use super::faults::Proven;
use super::lanes::{Item, LaneKey, Lanes};
use super::ledger::{Ledger, Mark};
use super::pace::Pace;
use super::slow_start::SlowStart;
use super::still::Still;
use super::turns::Turns;
use super::{Config, Ordering, later};
use crate::inbox::StoredEvent;
use crate::inbox::{ConsumerState, DeadLetter, Discarded, EventOutline, Parked, Progress, SinkHealth, Standing};
use crate::model::{EntityKey, EventType, Reason, Seq, SinkState, SourceName};

/// Bytes of the bodies of events that are read and not yet tried.
const MAX_READY_BYTES: usize = 16 << 20;
/// The same while the breaker is open: what is read beyond is read again when its turn comes.
const MAX_READY_BYTES_OPEN: usize = 4 << 20;
/// Bytes of the bodies in flight; one event may always fly, however large.
const MAX_FLYING_BYTES: usize = 16 << 20;
/// Events read ahead for each delivery in flight: enough that one busy key does not starve the others.
const READ_AHEAD: usize = 4;
/// Events read ahead at least: a sink that wants few of them must not need a read and a record for each handful.
const MIN_READ_AHEAD: usize = 256;
/// Parked events looked at for one that may be hurried.
const HURRIED: usize = 64;
/// Deliveries in flight or not yet recorded, for each that may be in flight: what a crash of the relay may repeat. Without
/// a margin every delivery would wait for the commit that records the one before it.
pub(super) const UNRECORDED: usize = 4;
/// Beyond it the margin ends: a record is one transaction, and senders wait for it.
const MAX_UNRECORDED: usize = 1024;

const CONFLICT: &str = "conflict: another event with this id and other bytes came first";
const ALTERED: &str = "the stored body is not what came in: its SHA-256 differs, so it is not delivered";
const MISSING: &str = "the body is missing in the inbox, and no retention has dropped it";
const PRUNED: &str = "pruned: retention has dropped the body";

/// A delivery to be started. Its end is told to [`Core::finished`], [`Core::not_started`], [`Core::bodiless`] or
/// [`Core::altered`].
#[derive(Debug)]
pub(super) enum Start {
    /// An event whose body is in memory.
    Event(Box<StoredEvent>),
    /// An event to be read again first.
    Reread(Seq),
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
    slow_start: SlowStart,
    /// Deliveries in flight at most, as of the last [`Self::start`].
    limit: usize,
    still: Still,
    /// Of a replay.
    pace: Option<Pace>,
    /// Refused for good, and parked until it is clear whether they are at fault or the sink is: buried with the next
    /// success of another lane, or when their time comes.
    condemned: BTreeMap<Seq, Reason>,
    /// Parked events that are at fault themselves.
    proven: Proven,
    /// Discarded by a person while in flight.
    discarded: BTreeSet<Seq>,
    health: SinkHealth,
    /// Until when the far side asked not to be tried.
    asked_until: Option<Timestamp>,
    /// Deliveries that succeeded.
    successes: u64,
    turns: Turns,
    /// Draws what to probe with.
    rng: fastrand::Rng,
}

impl Core {
    /// From what the inbox recorded. `parked` are the parked events as stored now. `rate` bounds a replay's first attempts in
    /// a second. What the core draws by chance, it draws from `seed`.
    pub(super) fn new(
        config: Config,
        state: ConsumerState,
        parked: &[EventOutline],
        rate: Option<f64>,
        seed: u64,
        now: Timestamp,
    ) -> Self {
        let Standing { breaker_open_since, still_since, still } = state.standing;
        let mark = Mark { cursor: state.cursor, standing: state.standing, parked: 0 };
        let mut core = Self {
            breaker: Breaker::new(config.retry, breaker_open_since, now),
            limit: config.concurrency,
            config,
            read_to: state.cursor,
            settled: state.done_above,
            lanes: Lanes::default(),
            ledger: Ledger::new(state.id, mark),
            paused: state.paused,
            slow_start: SlowStart::default(),
            still: Still::new(still_since, still),
            pace: rate.map(|rate| Pace::new(rate, now)),
            condemned: BTreeMap::new(),
            proven: Proven::default(),
            discarded: BTreeSet::new(),
            health: state.health,
            asked_until: None,
            successes: 0,
            turns: Turns::default(),
            rng: fastrand::Rng::with_seed(seed),
        };
        core.adopt(&state.parked, parked);
        core.stand(now);
        core
    }

    /// Takes in events that the inbox has parked by itself. One that is known already stays as it is.
    pub(super) fn adopt(&mut self, records: &[Parked], outlines: &[EventOutline]) {
        let records: HashMap<Seq, &Parked> = records.iter().map(|record| (record.seq, record)).collect();
        for outline in outlines {
            let Some(record) = records.get(&outline.seq).filter(|record| self.lanes.get(record.seq).is_none()) else {
                continue;
            };
            let item = Item::parked(record, self.lane(outline.seq, &outline.source, &outline.key), outline);
            self.proven.note(record.seq, item.first_attempt, item.attempts, &item.faults);
            self.lanes.insert(outline.seq, item);
            self.ledger.adopted();
            if outline.seq > self.read_to {
                // It may be delivered, and forgotten, before the log has been read that far.
                self.settled.insert(outline.seq);
            }
        }
    }

    /// Nothing is read and nothing started until [`Self::resume`]; what is in flight lands.
    pub(super) fn pause(&mut self, now: Timestamp) {
        self.paused = true;
        self.stand(now);
    }

    /// Ends a pause, and tries at once.
    pub(super) fn resume(&mut self, now: Timestamp) {
        self.paused = false;
        self.stand(now);
        self.try_now(now);
    }

    /// Everything that is parked is due, and a sink that is down is probed, whatever the far side has asked for.
    pub(super) fn try_now(&mut self, now: Timestamp) {
        self.asked_until = None;
        self.breaker.probe_now(now);
        self.lanes.all_due(now);
    }

    /// These parked events are due.
    pub(super) fn are_due(&mut self, seqs: &[Seq], now: Timestamp) {
        self.lanes.are_due(seqs, now);
    }

    /// A person has discarded these parked events. What is in flight of them lands all the same, and is not tried again.
    pub(super) fn unparked(&mut self, seqs: &[Seq], now: Timestamp) {
        for seq in seqs {
            match self.lanes.get(*seq).filter(|item| item.parked) {
                Some(item) if item.is_flying() => _ = self.discarded.insert(*seq),
                Some(_) => {
                    self.breaker.probe_is_void(*seq, now);
                    self.end(*seq);
                }
                None => {}
            }
        }
    }

    /// Where to read on, and how many events; `None` while enough is waiting.
    pub(super) fn wants(&self) -> Option<(Seq, usize)> {
        let window = self.window();
        // What ends as it is read waits in memory, too, while nothing can be recorded.
        if self.paused || self.ledger.lost() >= window {
            return None;
        }
        let room = self.config.retry.max_parked.saturating_add(window).saturating_sub(self.lanes.len());
        if self.breaker.is_open() {
            // Until there is one that may well be delivered: what a class of events fails on, others need not.
            let is_enough = room == 0 || self.is_other_type_ready();
            return (!is_enough).then_some((self.read_to, room.min(window)));
        }
        if self.lanes.ready_bytes() >= MAX_READY_BYTES || self.is_full() {
            return None;
        }
        let room = window.saturating_sub(self.lanes.open().len()).min(room);
        // To read a few at a time costs more than to deliver them.
        let is_worth_it = room >= window / 2 || self.lanes.first_ready().is_none();
        (room > 0 && is_worth_it).then_some((self.read_to, room))
    }

    fn window(&self) -> usize {
        (self.config.concurrency * READ_AHEAD).max(MIN_READ_AHEAD)
    }

    /// Whether more is parked than may be, so that reading stops.
    pub(super) fn is_full(&self) -> bool {
        self.lanes.parked() > self.config.retry.max_parked
    }

    /// Whether no event of its type has failed since the last success.
    fn is_of_other_type(&self, seq: Seq) -> bool {
        self.lanes.get(seq).is_some_and(|item| !self.breaker.has_failed(&item.event_type))
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
        } else if let Some(altered) = event.altered {
            self.ledger.dead(DeadLetter { seq, attempts: 0, reason: reason(altered).to_owned(), at: now });
        } else if event.body.is_none() {
            self.ledger.discarded(Discarded { seq, reason: PRUNED.to_owned(), at: now });
        } else if event.conflict {
            self.ledger.dead(DeadLetter { seq, attempts: 0, reason: CONFLICT.to_owned(), at: now });
        } else {
            let lane = self.lane(seq, &event.source, &event.key);
            let is_open = self.breaker.is_open();
            let waits = !is_open && self.lanes.is_held_up(&lane);
            let keep = !is_open || self.lanes.ready_bytes() < MAX_READY_BYTES_OPEN;
            self.lanes.insert(seq, Item::read(event, lane, keep, now));
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
        self.asked_until = self.asked_until.filter(|until| *until > now).map(|until| until.min(latest));
        self.limit = self.slow_start.limit(self.config.concurrency, now);
        if let Some(pace) = &mut self.pace {
            pace.refill(now);
        }
        let mut starts = Vec::new();
        if self.paused {
            return starts;
        }
        self.give_up_proven(now);
        while self.has_room() && self.config.rate.as_ref().is_none_or(|rate| rate.allows(now)) {
            let Some(seq) = self.choose(now) else { break };
            if self.is_at_fault(seq) {
                self.bury_condemned(seq, now);
            } else if self.fits(seq) && self.config.rate.as_ref().is_none_or(|rate| rate.try_spend(now)) {
                starts.push(self.launch(seq, now));
            } else {
                break;
            }
        }
        starts
    }

    fn has_room(&self) -> bool {
        let flying = self.lanes.flying();
        let unrecorded = (UNRECORDED * self.config.concurrency).min(MAX_UNRECORDED).max(self.config.concurrency);
        flying < self.limit && flying + self.ledger.unrecorded() < unrecorded
    }

    /// Whether the bodies in flight leave room for this one.
    fn fits(&self, seq: Seq) -> bool {
        let size = self.lanes.get(seq).map_or(0, |item| item.size);
        self.lanes.flying() == 0 || self.lanes.flying_bytes().saturating_add(size) <= MAX_FLYING_BYTES
    }

    fn choose(&mut self, now: Timestamp) -> Option<Seq> {
        if self.breaker.is_open() {
            self.forget_overtaken(now);
            if self.next_probe().is_some_and(|at| at <= now) {
                let probe = self.draw_probe();
                self.breaker.probing(probe, now);
            }
            return self.rest_of_probe().find(|seq| self.keeps_pace(*seq));
        }
        let parked = self.first_timer().filter(|(at, _)| *at <= now).map(|(_, seq)| seq);
        let parked = parked.filter(|seq| self.keeps_pace(*seq));
        let ready = self.lanes.first_ready().filter(|seq| self.keeps_pace(*seq));
        let is_retry = parked.is_some_and(|seq| !self.is_untried(seq));
        parked.filter(|_| ready.is_none() || self.turns.is_for_parked(is_retry)).or(ready)
    }

    /// When the next probe is due: at once where an event is there whose type has not failed, unless the far side has asked
    /// for time. `None` while one is made, or nothing is there to probe with.
    fn next_probe(&self) -> Option<Timestamp> {
        let at = self.breaker.next_probe().filter(|_| self.lanes.any_can_go())?;
        let is_new = self.asked_until.is_none() && self.is_other_type_ready();
        Some(if is_new { Timestamp::MIN } else { at })
    }

    /// Whether an untried event can go, and no event of its type has failed since the last success.
    fn is_other_type_ready(&self) -> bool {
        self.lanes.ready_types().any(|event_type| !self.breaker.has_failed(event_type))
    }

    /// What to probe with while the breaker is open: untried events of types that have not failed, one of each, and
    /// otherwise what chance says of all that waits. So a class of events that fails hides no other for long.
    fn draw_probe(&mut self) -> BTreeSet<Seq> {
        let mut types: BTreeSet<&EventType> = BTreeSet::new();
        let mut probe = BTreeSet::new();
        for seq in self.lanes.ready().filter(|seq| self.is_of_other_type(*seq)) {
            let Some(item) = self.lanes.get(seq).filter(|item| types.insert(&item.event_type)) else { continue };
            debug_assert!(item.is_untried(), "what is ready was not tried");
            probe.insert(seq);
            if probe.len() + 1 >= PROBE {
                break;
            }
        }
        for _ in probe.len()..PROBE {
            probe.extend(self.lanes.draw(self.rng.f64()));
        }
        probe
    }

    /// An event that was chosen for the probe may wait behind another of its lane by now, which a job has parked: then it
    /// is no part of the probe any more.
    fn forget_overtaken(&mut self, now: Timestamp) {
        let waits = |seq: &Seq| !self.lanes.can_go(*seq) && !self.lanes.get(*seq).is_some_and(Item::is_flying);
        let overtaken: Vec<Seq> = self.breaker.probe().filter(waits).collect();
        overtaken.into_iter().for_each(|seq| self.breaker.probe_is_void(seq, now));
    }

    /// The events of the probe that were not started yet.
    fn rest_of_probe(&self) -> impl Iterator<Item = Seq> {
        self.breaker.probe().filter(|seq| self.lanes.can_go(*seq))
    }

    /// The parked event that is due first. A condemned one waits while others can still show whose fault it is.
    fn first_timer(&self) -> Option<(Timestamp, Seq)> {
        let undecided = self.lanes.flying() > 0 || self.lanes.first_ready().is_some();
        let first = self.lanes.timers().find(|(_, seq)| !(undecided && self.condemned.contains_key(seq)));
        let hurried = if undecided { None } else { self.hurried() };
        first.into_iter().chain(hurried).min()
    }

    /// While every attempt fails, what waits is tried as often as a sink that is down is probed, so that a sink with few
    /// orders comes back as soon. An event that is at fault itself keeps to its own times.
    fn hurried(&self) -> Option<(Timestamp, Seq)> {
        let last = self.health.last_error_at.filter(|_| self.health.is_failing())?;
        let retry = self.config.retry;
        let at = later(last, retry.probe_max.min(retry.max)).max(self.asked_until.unwrap_or(Timestamp::MIN));
        let may_be_hurried = |seq| self.lanes.get(seq).is_some_and(|item| item.faults.own() == 0);
        let (timer, seq) = self.lanes.timers().take(HURRIED).find(|(_, seq)| may_be_hurried(*seq))?;
        Some((at.min(timer), seq))
    }

    fn keeps_pace(&self, seq: Seq) -> bool {
        !self.is_untried(seq) || self.pace.as_ref().is_none_or(Pace::allows)
    }

    fn is_untried(&self, seq: Seq) -> bool {
        self.lanes.get(seq).is_some_and(Item::is_untried)
    }

    fn launch(&mut self, seq: Seq, now: Timestamp) -> Start {
        if let Some(pace) = self.pace.as_mut().filter(|_| self.lanes.item(seq).is_untried()) {
            pace.spend();
        }
        let still = self.still.total(now);
        let item = self.lanes.item(seq);
        if item.first_attempt.is_none() {
            item.still = still;
        }
        self.turns.started(item.parked);
        self.lanes.fly(seq).map_or(Start::Reread(seq), Start::Event)
    }

    /// When [`Self::start`] may have something that it has not now; `None` while it waits for a delivery to end, or to
    /// be recorded, or for a person.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        if self.paused {
            return None;
        }
        if !self.has_room() {
            return self.slow_start.next().filter(|_| self.lanes.flying() >= self.limit);
        }
        let paced = |seq, at: Timestamp| match self.pace.as_ref().filter(|_| self.is_untried(seq)) {
            Some(pace) => at.max(pace.next()),
            None => at,
        };
        let due = if self.breaker.is_open() {
            let chosen = self.rest_of_probe().map(|seq| paced(seq, Timestamp::MIN)).min();
            chosen.or_else(|| self.next_probe())
        } else {
            let parked = self.first_timer().map(|(at, seq)| paced(seq, at));
            let ready = self.lanes.first_ready().map(|seq| paced(seq, Timestamp::MIN));
            parked.into_iter().chain(ready).min()
        };
        due.map(|due| self.config.rate.as_ref().map_or(due, |rate| due.max(rate.next())))
    }

    /// Events in flight.
    pub(super) fn flying(&self) -> usize {
        self.lanes.flying()
    }

    /// Whether the sink counts as down.
    pub(super) fn is_open(&self) -> bool {
        self.breaker.is_open()
    }

    /// What the sink is doing.
    pub(super) fn state(&self) -> SinkState {
        SinkState::of(self.paused, false, self.is_open(), self.health.is_failing())
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
        let mark = Mark { cursor, standing, parked: self.lanes.parked() };
        if !self.ledger.has_news(mark) {
            return None;
        }
        self.health.reading_stopped = self.is_full();
        self.health.next_try = if self.breaker.is_open() {
            self.breaker.next_probe()
        } else {
            self.first_timer().map(|(at, _)| at).filter(|_| self.lanes.first_ready().is_none())
        };
        Some(self.ledger.take(mark, self.health.clone()))
    }

    /// What [`Self::take_progress`] gave is on disk.
    pub(super) fn recorded(&mut self) {
        self.ledger.recorded();
    }

    fn lane(&self, seq: Seq, source: &SourceName, key: &EntityKey) -> LaneKey {
        match self.config.ordering {
            Ordering::Key => LaneKey::Entity(format!("{source}\0{key}").into()),
            Ordering::None => LaneKey::Event(seq),
        }
    }

    fn stand(&mut self, now: Timestamp) {
        self.still.set(self.paused || self.breaker.is_open(), now);
    }
}
