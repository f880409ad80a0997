//! The inbox in vectors and maps, for tests: it passes the contract that SQLite passes, and has no files, threads or
//! chance of its own. Everything that it was told is durable, at once: what a crash takes is up to whoever stands before
//! it. Bounds that the contract does not speak of (the quarantine's, the queue's) it does not have.

mod filter;
mod jobs;
mod quarantine;
mod sinks;
mod sweeps;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::watch;

use self::jobs::Stored;
use super::{
    Advance, AppendKind, Appended, Attempt, Because, BelievedClock, BuildFailure, ConfiguredSink, ConsumerId,
    ConsumerState, DeadLetter, EventOutline, Inbox, Job, JobUpdate, NewEvent, NewJob, Parked, Progress,
    QuarantineFilter, QuarantineOutcome, Quarantined, Refused, Registered, Registration, Released, Selection,
    SinkDefinition, SinkHealth, Slice, Standing, StoredEvent, Task, Unavailable, from_micros, micros,
};
use crate::clock::{Clock, Uptime};
use crate::model::{Digest, EntityKey, JobId, Outcome, Phase, Seq, SinkName, Start, content_encoding};

/// Bytes of bodies in one read.
const READ_BYTES: usize = 8 << 20;

/// See the module.
pub(crate) struct Memory {
    clock: Arc<dyn Clock>,
    head: watch::Sender<Seq>,
    state: Mutex<State>,
}

/// All that it holds.
#[derive(Default)]
pub(crate) struct State {
    /// By their places, from 1 on.
    events: Vec<Entry>,
    /// By their numbers, from 1 on.
    consumers: Vec<Row>,
    /// By their numbers, from 1 on.
    jobs: Vec<Stored>,
    letters_ever: i64,
    quarantined: Vec<Quarantined>,
    quarantined_ever: i64,
    believed: Option<BelievedClock>,
}

struct Entry {
    stored: StoredEvent,
    digest: Digest,
    /// What `stored.key` stands in for.
    key: Option<EntityKey>,
    state: Option<String>,
    phase: Phase,
}

/// Whose consumer it is.
enum Whose {
    Sink {
        name: SinkName,
        former: Option<SinkName>,
    },
    Replay {
        job: JobId,
        of: ConsumerId,
        selection: Box<Selection>,
    },
    /// A person has ended the sink.
    Forgotten,
}

/// A consumer.
pub(crate) struct Row {
    whose: Whose,
    /// What came in before is none of its business.
    pub(crate) first: Seq,
    pub(crate) cursor: Seq,
    pub(crate) parked: BTreeMap<Seq, Parked>,
    pub(crate) attempts: BTreeMap<(Seq, u32), Attempt>,
    pub(crate) letters: BTreeMap<Seq, Letter>,
    paused_since: Option<Timestamp>,
    standing: Standing,
    health: SinkHealth,
    pub(crate) build_failure: Option<BuildFailure>,
}

/// A dead letter, or a discarded event.
pub(crate) struct Letter {
    number: i64,
    record: DeadLetter,
    /// Nobody has to decide about it any more.
    pub(crate) is_decided: bool,
}

impl Row {
    fn new(whose: Whose, first: Seq) -> Self {
        Self {
            whose,
            first,
            cursor: before(first),
            parked: BTreeMap::new(),
            attempts: BTreeMap::new(),
            letters: BTreeMap::new(),
            paused_since: None,
            standing: Standing::default(),
            health: SinkHealth::default(),
            build_failure: None,
        }
    }

    /// Whether the far side holds an event.
    pub(crate) fn has_delivered(&self, seq: Seq) -> bool {
        let is_delivery = |attempt: &Attempt| matches!(attempt.outcome, Outcome::Delivered { .. });
        self.attempts.range((seq, 0)..=(seq, u32::MAX)).any(|(_, attempt)| is_delivery(attempt))
    }

    /// Where a replay ends.
    pub(crate) fn last(&self) -> Option<Seq> {
        match &self.whose {
            Whose::Sink { .. } | Whose::Forgotten => None,
            Whose::Replay { selection, .. } => Some(selection.last),
        }
    }

    /// Letters that no person has decided about.
    pub(crate) fn open_letters(&self) -> usize {
        self.letters.values().filter(|letter| !letter.is_decided).count()
    }

    fn is_waiting(&self, seq: Seq) -> bool {
        self.parked.contains_key(&seq) || self.letters.get(&seq).is_some_and(|letter| !letter.is_decided)
    }

    fn state(&self, id: ConsumerId, paused_since: Option<Timestamp>, now: Timestamp) -> ConsumerState {
        let delivered = self.attempts.keys().map(|(seq, _)| *seq).filter(|seq| self.has_delivered(*seq));
        ConsumerState {
            id,
            cursor: self.cursor,
            parked: self.parked.values().cloned().collect(),
            done_above: delivered.chain(self.letters.keys().copied()).filter(|seq| *seq > self.cursor).collect(),
            dead_letters: self.open_letters() as u64,
            standing: self.standing.settled(paused_since, now),
            health: self.health.clone(),
            paused: paused_since.is_some(),
            selection: match &self.whose {
                Whose::Sink { .. } | Whose::Forgotten => None,
                Whose::Replay { selection, .. } => Some(Selection::clone(selection)),
            },
        }
    }
}

impl Memory {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, head: watch::Sender::new(Seq::ZERO), state: Mutex::default() }
    }

    /// What it holds now.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As precise as SQLite keeps it.
    fn now(&self) -> Timestamp {
        from_micros(micros(self.clock.now()))
    }
}

impl State {
    /// The last event's place.
    pub(crate) fn last(&self) -> Seq {
        place(self.events.len())
    }

    fn entry(&self, seq: Seq) -> Option<&Entry> {
        self.events.get(index(seq.get())?)
    }

    /// An event as consumers read it.
    pub(crate) fn event(&self, seq: Seq) -> Option<&StoredEvent> {
        self.entry(seq).map(|entry| &entry.stored)
    }

    /// A consumer by its number.
    pub(crate) fn row(&self, id: ConsumerId) -> Option<&Row> {
        self.consumers.get(index(id.get())?)
    }

    fn row_mut(&mut self, id: ConsumerId) -> &mut Row {
        let index = index(id.get()).expect("it was looked up before");
        &mut self.consumers[index]
    }

    fn ids(&self) -> impl Iterator<Item = ConsumerId> + use<> {
        (1..).take(self.consumers.len()).map(ConsumerId::new)
    }

    fn append(&mut self, event: NewEvent) -> Appended {
        let NewEvent { delivery, envelope, digest, id, received_at, .. } = event;
        let alike = || self.events.iter().filter(|other| other.stored.source == *delivery.source());
        let same_id = || alike().filter(|other| other.stored.id == id);
        if let Some(first) = same_id().find(|other| other.digest == digest) {
            return Appended { seq: first.stored.seq, kind: AppendKind::Duplicate };
        }
        let conflict = same_id().next().is_some();
        let phase = Phase::of(&envelope.event_type, envelope.state.as_deref());
        let ends = |other: &Entry| other.phase == Phase::Final && other.key == envelope.key;
        let stored = StoredEvent {
            seq: place(self.events.len() + 1),
            key: envelope.key.clone().unwrap_or_else(|| EntityKey::from(&id)),
            id,
            source: delivery.source().clone(),
            time: envelope.time,
            received_at,
            stale: phase == Phase::Open && envelope.key.is_some() && alike().any(ends),
            conflict,
            signature: delivery.signature().to_owned(),
            content_type: delivery.content_type().map(str::to_owned),
            content_encoding: content_encoding(delivery.headers()),
            body: Some(delivery.body().clone()),
            altered: None,
            event_type: envelope.event_type,
        };
        let seq = stored.seq;
        self.events.push(Entry { stored, digest, key: envelope.key, state: envelope.state, phase });
        Appended { seq, kind: if conflict { AppendKind::Conflict } else { AppendKind::Fresh } }
    }

    fn read_after(&self, after: Seq, limit: usize, of: Option<&Selection>) -> Slice {
        if limit == 0 {
            return Slice { events: Vec::new(), read_to: after };
        }
        let first = of.map_or(after.next(), |of| after.next().max(of.first));
        let last = of.map_or(self.last(), |of| of.last.min(self.last()));
        let wanted = |entry: &&Entry| {
            let seq = entry.stored.seq;
            first <= seq && seq <= last && of.is_none_or(|of| filter::matches(&of.filter, entry))
        };
        let body = |event: &StoredEvent| event.body.as_ref().map_or(0, bytes::Bytes::len);
        let found = self.events.iter().filter(wanted).map(|entry| entry.stored.clone());
        let (events, is_cut) = up_to(limit, found, body);
        let read_to = events.last().map(|event| event.seq).filter(|_| is_cut).unwrap_or(last);
        Slice { events, read_to: read_to.max(after) }
    }

    fn register(&mut self, who: &Registration, now: Timestamp) -> Result<ConsumerState, Unavailable> {
        let (id, paused_by) = match who {
            Registration::Sink { name, start } => {
                let id = self.sink(name, *start);
                (id, id)
            }
            Registration::Replay { job } => self.replay(*job)?,
        };
        let paused_since = self.row(paused_by).and_then(|row| row.paused_since);
        let row = self.row_mut(id);
        Ok(row.state(id, paused_since, now))
    }

    /// The consumer of a replay, and that of its sink.
    fn replay(&mut self, job: JobId) -> Result<(ConsumerId, ConsumerId), Unavailable> {
        let refused = |why: String| Err(Unavailable::Refused(why));
        let Some(stored) = self.job(job) else { return refused(format!("there is no job {job}")) };
        let Task::Replay { sink, selection, .. } = &stored.job.task else {
            return refused(format!("job {job} is no replay"));
        };
        if stored.job.state.has_ended() {
            return refused(format!("replay {job} has ended"));
        }
        let Some(of) = self.live(sink) else { return refused(format!("sink '{sink}' has no place in the log")) };
        if let Some(id) = self.replayed_by(job) {
            return Ok((id, of));
        }
        let first = selection.first.max(place(1));
        let cursor = self.row(of).map_or(Seq::ZERO, |row| row.cursor);
        let last = selection.last.min(cursor).max(before(first));
        let selection = Box::new(Selection { last, ..selection.clone() });
        Ok((self.add(Row::new(Whose::Replay { job, of, selection }, first)), of))
    }

    /// The consumer of a replay that has begun.
    fn replayed_by(&self, wanted: JobId) -> Option<ConsumerId> {
        let is_it = |row: &Row| matches!(&row.whose, Whose::Replay { job, .. } if *job == wanted);
        self.ids().zip(&self.consumers).find(|(_, row)| is_it(row)).map(|(id, _)| id)
    }

    fn add(&mut self, row: Row) -> ConsumerId {
        self.consumers.push(row);
        ConsumerId::new(place(self.consumers.len()).get())
    }

    pub(crate) fn record(&mut self, progress: Progress) -> Result<(), Unavailable> {
        let Progress { consumer, cursor, attempts, park, unpark, dead, discarded, standing, health } = progress;
        let Some(row) = self.row(consumer) else {
            return Err(Unavailable::Refused(format!("there is no consumer {}", consumer.get())));
        };
        let job = match &row.whose {
            Whose::Sink { .. } | Whose::Forgotten => None,
            Whose::Replay { job, .. } => Some(*job),
        };
        let has_ended = job.and_then(|job| self.job(job)).is_some_and(|stored| stored.job.state.has_ended());
        let row = self.row_mut(consumer);
        let (mut delivered, mut lost) = (0, 0);
        for attempt in attempts {
            let is_delivery = matches!(attempt.outcome, Outcome::Delivered { .. });
            delivered += u64::from(is_delivery && !row.has_delivered(attempt.seq));
            row.attempts.insert((attempt.seq, attempt.n), attempt);
        }
        if !has_ended {
            let is_decided = |seq: &Seq| row.letters.get(seq).is_some_and(|letter| letter.is_decided);
            let park: Vec<_> = park.into_iter().filter(|event| !is_decided(&event.seq)).collect();
            row.parked.extend(park.into_iter().map(|event| (event.seq, event)));
        }
        unpark.iter().for_each(|seq| _ = row.parked.remove(seq));
        row.cursor = row.cursor.max(cursor);
        row.standing = standing;
        row.health = health;
        for letter in dead {
            lost += u64::from(self.bury(consumer, letter, false));
        }
        for event in discarded {
            let record = DeadLetter { seq: event.seq, attempts: 0, reason: event.reason, at: event.at };
            self.bury(consumer, record, true);
        }
        if let Some(stored) = job.and_then(|job| self.job_mut(job)) {
            stored.job.done += delivered;
            stored.job.failed += lost;
        }
        Ok(())
    }

    /// False where it is buried already.
    fn bury(&mut self, consumer: ConsumerId, record: DeadLetter, is_decided: bool) -> bool {
        let number = self.letters_ever + 1;
        let row = self.row_mut(consumer);
        if row.letters.contains_key(&record.seq) {
            return false;
        }
        row.letters.insert(record.seq, Letter { number, record, is_decided });
        self.letters_ever = number;
        true
    }
}

#[async_trait]
impl Inbox for Memory {
    async fn append(&self, event: NewEvent) -> Result<Appended, Unavailable> {
        let appended = self.state().append(event);
        if appended.kind != AppendKind::Duplicate {
            self.head.send_replace(appended.seq);
        }
        Ok(appended)
    }

    async fn quarantine(&self, refused: Refused) -> Result<QuarantineOutcome, Unavailable> {
        self.state().keep(refused);
        Ok(QuarantineOutcome::Kept)
    }

    fn head(&self) -> watch::Receiver<Seq> {
        self.head.subscribe()
    }

    async fn read_after(&self, after: Seq, limit: usize, of: Option<Selection>) -> Result<Slice, Unavailable> {
        Ok(self.state().read_after(after, limit, of.as_ref()))
    }

    async fn read(&self, seqs: Vec<Seq>) -> Result<Vec<StoredEvent>, Unavailable> {
        let state = self.state();
        Ok(seqs.into_iter().filter_map(|seq| state.event(seq).cloned()).collect())
    }

    async fn note_altered(&self, _: Vec<(Seq, Digest)>) -> Result<(), Unavailable> {
        // Nobody else reaches what stands in memory.
        Ok(())
    }

    async fn outlines(&self, seqs: Vec<Seq>) -> Result<Vec<EventOutline>, Unavailable> {
        let state = self.state();
        Ok(seqs.into_iter().filter_map(|seq| state.event(seq).map(EventOutline::from)).collect())
    }

    async fn register_sinks(&self, sinks: Vec<(SinkName, Start)>) -> Result<Vec<Registered>, Unavailable> {
        Ok(self.state().register_sinks(&sinks))
    }

    async fn has_sink(&self, name: SinkName) -> Result<bool, Unavailable> {
        Ok(self.state().live(&name).is_some())
    }

    async fn note_built(&self, id: ConsumerId, failure: Option<String>) -> Result<(), Unavailable> {
        self.state().note_built(id, failure, self.now());
        Ok(())
    }

    async fn note_definition(&self, _: SinkName, _: SinkDefinition, _: Because) -> Result<(), Unavailable> {
        // Nobody asks it where deliveries went.
        Ok(())
    }

    async fn consumer(&self, who: Registration, _route: String) -> Result<ConsumerState, Unavailable> {
        self.state().register(&who, self.now())
    }

    async fn record(&self, progress: Progress) -> Result<(), Unavailable> {
        self.state().record(progress)
    }

    async fn submit(&self, job: NewJob) -> Result<JobId, Unavailable> {
        Ok(self.state().submit(job))
    }

    async fn open_jobs(&self) -> Result<Vec<Job>, Unavailable> {
        Ok(self.state().open_jobs())
    }

    async fn advance(&self, job: JobId, sinks: &[ConfiguredSink]) -> Result<Advance, Unavailable> {
        self.state().advance(job, sinks, self.now())
    }

    async fn update_job(&self, job: JobId, update: JobUpdate) -> Result<(), Unavailable> {
        self.state().update_job(job, update, self.now())
    }

    async fn quarantined(
        &self,
        which: QuarantineFilter,
        (after, upto): (i64, i64),
        limit: usize,
    ) -> Result<Vec<Quarantined>, Unavailable> {
        let state = self.state();
        let is_between = |request: &Quarantined| after < request.id && request.id <= upto;
        let wanted = |request: &&Quarantined| is_between(request) && filter::matches_request(&which, request);
        let found = state.quarantined.iter().filter(wanted).cloned();
        Ok(up_to(limit, found, |request| request.body.as_ref().map_or(0, bytes::Bytes::len)).0)
    }

    async fn release(&self, job: JobId, portion: Released) -> Result<(), Unavailable> {
        self.state().release(job, &portion)
    }

    async fn note_clock(&self, uptime: Uptime) -> Result<BelievedClock, Unavailable> {
        Ok(self.state().note_clock(self.now(), uptime))
    }

    fn trouble(&self) -> Option<String> {
        None
    }

    async fn failed(&self) -> String {
        std::future::pending().await
    }

    async fn close(&self) {}
}

/// The first ones, until there are `limit` or their bodies pass what one read may hold; and whether that cut them off.
fn up_to<T>(limit: usize, items: impl Iterator<Item = T>, bytes: impl Fn(&T) -> usize) -> (Vec<T>, bool) {
    let (mut taken, mut size) = (Vec::new(), 0);
    for item in items {
        size += bytes(&item);
        taken.push(item);
        if taken.len() >= limit || size >= READ_BYTES {
            return (taken, true);
        }
    }
    (taken, false)
}

/// The place of the `count`th.
fn place(count: usize) -> Seq {
    Seq::new(i64::try_from(count).unwrap_or(i64::MAX)).expect("a count is not negative")
}

fn before(seq: Seq) -> Seq {
    Seq::new(seq.get() - 1).expect("there is a place before the first")
}

/// Where the one of that number is, of those that are numbered from 1 on.
fn index(number: i64) -> Option<usize> {
    usize::try_from(number).ok()?.checked_sub(1)
}

mod contract {
    use super::*;

    async fn run(test: impl AsyncFnOnce(&dyn Inbox)) {
        test(&Memory::new(Arc::new(crate::clock::SystemClock))).await;
    }

    crate::inbox::contract::suite!(run);
}
