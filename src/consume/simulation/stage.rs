//! Where a schedule is played: its time, its chance, its steps, and the far side's own account, which no crash touches.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::pending;
use std::hash::{DefaultHasher, Hasher};
use std::sync::atomic::{AtomicI64, Ordering as Atomic};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fastrand::Rng;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::plan::Plan;
use super::witness::Witness;
use crate::clock::Clock;
use crate::inbox::memory::Memory;
use crate::inbox::{ConsumerId, Progress};
use crate::model::{JobId, Seq};

/// Many times what consumers need in the longest schedule.
const MAX_TURNS: u64 = 50_000;

/// A consumer: that of a sink, by its place in the plan, or that of a replay to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Who {
    pub sink: usize,
    pub replay: Option<JobId>,
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.replay {
            None => write!(f, "sink-{}", self.sink),
            Some(job) => write!(f, "replay {job} to sink-{}", self.sink),
        }
    }
}

/// The time of day in the simulation: tokio's, which stands still while anything is left to do, and what it is set by.
pub(super) struct SimulatedClock {
    began: Instant,
    set_by: AtomicI64,
}

impl Clock for SimulatedClock {
    fn now(&self) -> Timestamp {
        let passed = SignedDuration::try_from(self.began.elapsed()).expect("a schedule is short");
        let day = Timestamp::from_second(1_800_000_000).expect("it is in range");
        day + passed + SignedDuration::from_secs(self.set_by.load(Atomic::Relaxed))
    }
}

/// See the module. Nothing in it panics over what a consumer does: a consumer survives the panic of a sink.
pub(super) struct Stage {
    pub plan: Plan,
    pub clock: Arc<SimulatedClock>,
    pub memory: Memory,
    state: Mutex<State>,
    died: Notify,
}

/// What changes.
pub(super) struct State {
    rng: Rng,
    pub steps: u64,
    /// Of consumers.
    turns: u64,
    /// The process is dead: nothing that it still does has an effect.
    is_down: bool,
    /// What went wrong first.
    wrong: Option<String>,
    pub healed: bool,
    pub trace: Trace,
    pub ids: BTreeMap<Who, ConsumerId>,
    /// The head of the log, for each by itself: whoever waits for the same channel is woken in an order of chance.
    heads: BTreeMap<Who, watch::Sender<Seq>>,
    pub witnesses: BTreeMap<Who, Witness>,
    /// Records that were handed to the inbox, and not answered.
    pending: BTreeMap<Who, Progress>,
    /// Whose last record came to nothing, for all that it knows.
    failed: BTreeSet<Who>,
    /// Dead letters that were tried again: their order is not promised.
    pub revived: BTreeSet<(Who, Seq)>,
    pub paused_since: BTreeMap<usize, Instant>,
    pub tally: BTreeMap<&'static str, u64>,
}

/// What has happened, as a number, and in words where somebody wants to read it.
pub(super) struct Trace {
    hasher: DefaultHasher,
    pub lines: Option<Vec<String>>,
}

impl Trace {
    pub(super) fn hash(&self) -> u64 {
        self.hasher.finish()
    }

    fn write(&mut self, at: Duration, line: &str) {
        self.hasher.write_u128(at.as_nanos());
        self.hasher.write(line.as_bytes());
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{:>9.3} s  {line}", at.as_secs_f64()));
        }
    }
}

impl Stage {
    /// In a runtime whose time is paused. `in_words`: the trace is kept to be read.
    pub(super) fn new(seed: u64, plan: Plan, in_words: bool) -> Self {
        // What consumers draw from.
        fastrand::seed(seed);
        let clock = Arc::new(SimulatedClock { began: Instant::now(), set_by: AtomicI64::new(0) });
        let state = State {
            rng: Rng::with_seed(!seed),
            steps: 0,
            turns: 0,
            is_down: false,
            wrong: None,
            healed: false,
            trace: Trace { hasher: DefaultHasher::new(), lines: in_words.then(Vec::new) },
            ids: BTreeMap::new(),
            heads: BTreeMap::new(),
            witnesses: BTreeMap::new(),
            pending: BTreeMap::new(),
            failed: BTreeSet::new(),
            revived: BTreeSet::new(),
            paused_since: BTreeMap::new(),
            tally: BTreeMap::new(),
        };
        Self { plan, memory: Memory::new(clock.clone()), clock, state: Mutex::new(state), died: Notify::new() }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.clock.began.elapsed()
    }

    pub(super) fn set_clock(&self, seconds: i64) {
        self.clock.set_by.fetch_add(seconds, Atomic::Relaxed);
    }

    pub(super) fn note(&self, what: &str) {
        let at = self.elapsed();
        self.state().trace.write(at, what);
    }

    pub(super) fn count(&self, what: &'static str) {
        *self.state().tally.entry(what).or_default() += 1;
    }

    pub(super) fn head(&self, who: Who) -> watch::Receiver<Seq> {
        let head = self.memory.state().last();
        self.state().heads.entry(who).or_insert_with(|| watch::Sender::new(head)).subscribe()
    }

    /// An event has come in.
    pub(super) fn tell_head(&self) {
        let head = self.memory.state().last();
        self.state().heads.values().for_each(|sender| _ = sender.send_replace(head));
    }

    /// One more step; false once the process has died, which it may do here.
    fn lives_on(&self, what: &str) -> bool {
        let at = self.elapsed();
        let mut state = self.state();
        if state.is_down {
            return false;
        }
        state.steps += 1;
        state.trace.write(at, what);
        if !self.plan.crashes.contains(&state.steps) {
            return true;
        }
        state.is_down = true;
        state.trace.write(at, "the process dies");
        *state.tally.entry("crashes").or_default() += 1;
        self.died.notify_one();
        false
    }

    /// A consumer takes its next turn: only a busy loop makes too many.
    pub(super) fn turns(&self, who: Who) {
        self.state().turns += 1;
        if self.state().turns > MAX_TURNS {
            self.wrong(format!("{who} runs in circles"));
        }
    }

    /// A call into the inbox or a sink, or its end: what comes after it happens only if the process does not die first.
    pub(super) async fn step(&self, what: String) {
        if !self.lives_on(&what) {
            pending::<()>().await;
        }
    }

    /// The end of the process, or of the schedule.
    pub(super) async fn death(&self) {
        self.died.notified().await;
    }

    /// A new process: what was being written may have been written, or not. Err once something is wrong.
    pub(super) fn restart(&self) -> Result<(), String> {
        let unanswered = std::mem::take(&mut self.state().pending);
        for (who, progress) in unanswered {
            if self.chance(50) {
                self.note(&format!("{who}: what was being recorded is there"));
                self.write(who, progress);
            }
        }
        let mut state = self.state();
        state.is_down = false;
        state.failed.clear();
        state.witnesses.values_mut().for_each(Witness::restart);
        state.wrong.clone().map_or(Ok(()), Err)
    }

    /// An invariant is broken: the schedule ends here.
    pub(super) fn wrong(&self, what: String) {
        let mut state = self.state();
        state.wrong.get_or_insert(what);
        state.is_down = true;
        self.died.notify_one();
    }

    pub(super) fn check(&self, result: Result<(), String>) {
        if let Err(what) = result {
            self.wrong(what);
        }
    }

    pub(super) fn is_wrong(&self) -> Result<(), String> {
        self.state().wrong.clone().map_or(Ok(()), Err)
    }

    /// So often in a hundred.
    pub(super) fn chance(&self, percent: u32) -> bool {
        percent > 0 && self.state().rng.u32(0..100) < percent
    }

    /// As [`Self::chance`], until everything is well.
    pub(super) fn mishap(&self, percent: u32) -> bool {
        !self.state().healed && self.chance(percent)
    }

    pub(super) fn is_out(&self, outages: &[(Duration, Duration)]) -> bool {
        let now = self.elapsed();
        !self.state().healed && outages.iter().any(|(from, to)| *from <= now && now < *to)
    }

    /// Up to so many milliseconds; no time at all once everything is well.
    pub(super) async fn pass(&self, most: u64) {
        let millis = {
            let mut state = self.state();
            if most == 0 || state.healed { 0 } else { state.rng.u64(0..=most) }
        };
        let time = Duration::from_millis(millis);
        if !time.is_zero() {
            tokio::time::sleep(time).await;
        }
    }

    /// A record on its way into the inbox.
    pub(super) fn hand_over(&self, who: Who, progress: Progress) {
        let mut state = self.state();
        state.pending.insert(who, progress);
        state.failed.remove(&who);
    }

    /// It is there, or else comes to nothing.
    pub(super) fn arrived(&self, who: Who, is_there: bool) {
        let mut state = self.state();
        state.pending.remove(&who);
        if !is_there {
            state.failed.insert(who);
        }
    }
}

impl State {
    pub(super) fn is_down(&self) -> bool {
        self.is_down
    }

    /// Whether a consumer knows what became of its last record.
    pub(super) fn is_sure(&self, who: Who) -> bool {
        !self.pending.contains_key(&who) && !self.failed.contains(&who)
    }

    /// Whether the last record of a consumer came to nothing, for all that it knows.
    pub(super) fn could_not_record(&self, who: Who) -> bool {
        self.failed.contains(&who)
    }
}
