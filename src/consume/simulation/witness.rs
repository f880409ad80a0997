//! What each consumer did towards the far side and the inbox, and whether it might.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::stage::{Stage, State, Who};
use crate::clock::Clock as _;
use crate::consume::breaker::PROBE;
use crate::consume::core::UNRECORDED;
use crate::consume::{Config, Ordering};
use crate::inbox::{Attempt, ConsumerState, Progress, StoredEvent};
use crate::model::{EntityKey, Outcome, Outgoing, Seq, SourceName};

/// A consumer hears of a pause, and what it has begun to read comes to an end, within this.
const PAUSED_WITHIN: Duration = Duration::from_millis(1500);

/// One call of a sink.
struct Call {
    seq: Seq,
    lane: String,
    at: Timestamp,
    /// In which process.
    life: u32,
    has_arrived: bool,
    answer: Option<&'static str>,
    is_over: bool,
    /// As which attempt it is in the ledger.
    recorded: Option<u32>,
}

/// The account of one consumer. The breaker in it follows the documentation, not the code.
#[derive(Default)]
pub(super) struct Witness {
    calls: Vec<Call>,
    life: u32,
    is_open: bool,
    /// The last event of each lane that was handed over for the first time.
    handed_over: BTreeMap<String, Seq>,
    ever: BTreeSet<Seq>,
    /// Events that are being read to be delivered.
    launched: BTreeSet<Seq>,
    /// Lanes that have failed since the last success.
    failing: BTreeSet<String>,
    breaker_open_since: Option<Instant>,
    /// Launched while the breaker was open.
    probes: BTreeSet<Seq>,
    /// Deliveries, and their number at the last failure of each event.
    successes: u64,
    failed_at: BTreeMap<Seq, u64>,
    at_fault: BTreeSet<Seq>,
    /// How many times as many failures open the breaker after false alarms.
    raised: usize,
}

impl Witness {
    /// The process has died, or ended.
    pub(super) fn restart(&mut self) {
        self.life += 1;
        self.is_open = false;
    }

    fn in_flight(&self) -> impl Iterator<Item = &Call> {
        self.calls.iter().filter(|call| !call.is_over)
    }

    fn unrecorded(&self) -> usize {
        self.calls.iter().filter(|call| call.life == self.life && call.recorded.is_none()).count()
    }

    /// Whatever ended in this process is in the ledger.
    pub(super) fn is_recorded(&self) -> bool {
        self.unrecorded() == 0
    }

    /// Calls that the ledger knows.
    pub(super) fn recorded(&self) -> usize {
        self.calls.iter().filter(|call| call.recorded.is_some()).count()
    }

    pub(super) fn has_arrived(&self, seq: Seq) -> bool {
        self.calls.iter().any(|call| call.seq == seq && call.has_arrived)
    }

    fn launch(&mut self, seq: Seq) -> Result<(), String> {
        // What was decided on in the instant in which the breaker opened was not decided on after it.
        if self.breaker_open_since.is_none_or(|since| since >= Instant::now()) {
            return Ok(());
        }
        self.probes.insert(seq);
        if self.probes.len() > PROBE {
            return Err(format!("{seq} is one too many in the probe {:?}", self.probes));
        }
        Ok(())
    }

    fn landed(&mut self, number: usize, breaker_after: usize) -> bool {
        let Call { seq, ref lane, answer, .. } = self.calls[number];
        self.probes.remove(&seq);
        if answer == Some(Outcome::delivered("").label()) {
            self.successes += 1;
            self.failing.clear();
            self.probes.clear();
            if self.breaker_open_since.take().is_some() {
                self.raised = (self.raised.max(1) * 16).min(4096);
            }
            return false;
        }
        // An event that has failed before, and others were delivered since, is at fault itself.
        if self.failed_at.insert(seq, self.successes).is_some_and(|at| at < self.successes) {
            self.at_fault.insert(seq);
        }
        if self.at_fault.contains(&seq) {
            return false;
        }
        self.failing.insert(lane.clone());
        let opens = self.breaker_open_since.is_none() && self.failing.len() >= breaker_after * self.raised.max(1);
        if opens {
            self.breaker_open_since = Some(Instant::now());
        }
        opens
    }

    /// Which call an attempt is, now that it is recorded. Recorded again it is the same.
    fn account(&mut self, attempt: &Attempt) -> Result<(), String> {
        let Attempt { seq, n, at, outcome, .. } = attempt;
        let same = |call: &&mut Call| call.seq == *seq && call.at == *at && call.life == self.life;
        let mut calls: Vec<&mut Call> = self.calls.iter_mut().filter(same).collect();
        if calls.iter().any(|call| call.recorded == Some(*n)) {
            return Ok(());
        }
        let call = calls.iter_mut().find(|call| call.recorded.is_none() && call.is_over);
        let call = call.ok_or_else(|| format!("attempt {n} of {seq} is recorded, and was never made"))?;
        // No answer is no delivery.
        if call.answer.unwrap_or("transient") != outcome.label() {
            return Err(format!("{seq} is recorded as {}, and the sink said {:?}", outcome.label(), call.answer));
        }
        call.recorded = Some(*n);
        Ok(())
    }
}

fn lane(config: &Config, seq: Seq, source: &SourceName, key: &EntityKey) -> String {
    match config.ordering {
        Ordering::Key => format!("{source} {key}"),
        Ordering::None => seq.to_string(),
    }
}

impl Stage {
    fn config(&self, who: Who) -> &Config {
        &self.plan.sinks[who.sink].config
    }

    fn concurrency(&self, who: Who) -> usize {
        let most = self.config(who).concurrency;
        if who.replay.is_some() { (most / 2).max(1) } else { most }
    }

    /// A consumer has been read from the inbox.
    pub(super) fn registered(&self, who: Who, found: &ConsumerState) {
        let mut state = self.state();
        state.ids.insert(who, found.id);
        let witness = state.witnesses.entry(who).or_default();
        witness.launched.clear();
        witness.failing.clear();
        witness.probes.clear();
        (witness.successes, witness.raised) = (0, 1);
        witness.failed_at =
            found.parked.iter().filter(|parked| parked.attempts > 0).map(|parked| (parked.seq, 0)).collect();
        let of_old = found.parked.iter().filter(|parked| parked.own_failures > 0);
        witness.at_fault = of_old.map(|parked| parked.seq).collect();
        let earlier = Instant::now() - Duration::from_millis(1);
        witness.breaker_open_since = found.standing.breaker_open_since.map(|_| earlier);
    }

    /// It runs.
    pub(super) fn opened(&self, who: Who) {
        self.state().witnesses.entry(who).or_default().is_open = true;
    }

    /// It is told that dead letters are parked now.
    pub(super) fn told(&self, who: Who, seqs: &[Seq]) {
        let mut state = self.state();
        state.revived.extend(seqs.iter().map(|seq| (who, *seq)));
    }

    /// Events are read by their places, to be delivered.
    pub(super) fn reads(&self, who: Who, seqs: &[Seq]) {
        let mut state = self.state();
        let witness = state.witnesses.entry(who).or_default();
        witness.launched.extend(seqs);
        let result = seqs.iter().try_for_each(|seq| witness.launch(*seq));
        drop(state);
        self.check(result);
    }

    /// They are read; those that are not come to nothing.
    pub(super) fn has_read(&self, who: Who, seqs: &[Seq], found: &[StoredEvent]) {
        let mut state = self.state();
        let witness = state.witnesses.entry(who).or_default();
        let is_there = |seq: &&Seq| found.iter().any(|event| event.seq == **seq && event.body.is_some());
        for seq in seqs.iter().filter(|seq| !is_there(seq)) {
            witness.launched.remove(seq);
            witness.probes.remove(seq);
        }
    }

    /// `None` once it may not, or nothing matters any more.
    pub(super) fn call_begins(&self, who: Who, event: &Outgoing) -> Option<usize> {
        let result = self.begin(who, event);
        result.map_err(|what| self.wrong(format!("{who}: {what}"))).ok()
    }

    fn begin(&self, who: Who, event: &Outgoing) -> Result<usize, String> {
        let (config, seq) = (self.config(who), event.seq);
        let lane = lane(config, seq, &event.source, &event.key);
        self.may_be_handed_over(who, event)?;
        let mut state = self.state();
        let is_revived = state.revived.contains(&(who, seq));
        let witness = state.witnesses.entry(who).or_default();
        if !witness.launched.remove(&seq) {
            witness.launch(seq)?;
        }
        let (most, unrecorded) = (self.concurrency(who), witness.unrecorded() + 1);
        if witness.in_flight().count() >= most || unrecorded > UNRECORDED * most {
            return Err(format!("{seq} is one too many: {unrecorded} would come again after a crash"));
        }
        if let Some(other) = witness.in_flight().find(|call| call.lane == lane) {
            return Err(format!("{seq} is in flight together with {}", other.seq));
        }
        if witness.ever.insert(seq) && !is_revived && who.replay.is_none() {
            let last = witness.handed_over.insert(lane.clone(), seq);
            if let Some(last) = last.filter(|last| *last > seq) {
                return Err(format!("{seq} is handed over after {last}"));
            }
        }
        let call = Call {
            seq,
            lane,
            at: self.clock.now(),
            life: witness.life,
            has_arrived: false,
            answer: None,
            is_over: false,
            recorded: None,
        };
        witness.calls.push(call);
        Ok(witness.calls.len() - 1)
    }

    fn may_be_handed_over(&self, who: Who, event: &Outgoing) -> Result<(), String> {
        let (state, memory, seq) = (self.state(), self.memory.state(), event.seq);
        let stored = memory.event(seq).ok_or_else(|| format!("{seq} is not in the log"))?;
        let row = state.ids.get(&who).and_then(|id| memory.row(*id)).ok_or("it is not registered")?;
        let is_revived = state.revived.contains(&(who, seq));
        let paused_since = state.paused_since.get(&who.sink);
        let problem = if !self.config(who).route.wants(&event.event_type) {
            "is not wanted"
        } else if seq < row.first {
            "is from before its start"
        } else if row.has_delivered(seq) || row.letters.contains_key(&seq) {
            "is final"
        } else if stored.conflict && !is_revived {
            "is a conflict"
        } else if paused_since.is_some_and(|since| since.elapsed() > PAUSED_WITHIN) {
            "is started by a consumer that is paused"
        } else {
            return Ok(());
        };
        Err(format!("{seq} {problem}, and is handed over"))
    }

    pub(super) fn call_arrives(&self, who: Who, number: usize) {
        self.state().call(who, number).has_arrived = true;
    }

    pub(super) fn call_answers(&self, who: Who, number: usize, outcome: &Outcome) {
        self.state().call(who, number).answer = Some(outcome.label());
    }

    /// It was answered, or given up waiting for, or the process has died.
    pub(super) fn call_ends(&self, who: Who, number: usize) {
        let mut state = self.state();
        let call = state.call(who, number);
        call.is_over = true;
        let is_timeout = call.answer.is_none();
        if state.is_down() {
            return;
        }
        let breaker_after = self.config(who).retry.breaker_after;
        let opens = state.witnesses.get_mut(&who).is_some_and(|witness| witness.landed(number, breaker_after));
        drop(state);
        if opens {
            self.count("open breakers");
        }
        if is_timeout {
            self.count("timeouts");
        }
    }

    /// A record becomes durable.
    pub(super) fn write(&self, who: Who, progress: Progress) {
        let result = self.write_checked(who, progress);
        self.check(result.map_err(|what| format!("{who}: {what}")));
    }

    fn write_checked(&self, who: Who, progress: Progress) -> Result<(), String> {
        let (mut state, mut memory) = (self.state(), self.memory.state());
        let id = progress.consumer;
        let cursor = memory.row(id).ok_or("it is not registered")?.cursor;
        if progress.cursor < cursor {
            return Err(format!("the cursor goes back from {cursor} to {}", progress.cursor));
        }
        let witness = state.witnesses.entry(who).or_default();
        progress.attempts.iter().try_for_each(|attempt| witness.account(attempt))?;
        let counts = [("parked", progress.park.len()), ("dead letters", progress.dead.len())];
        counts.into_iter().for_each(|(what, count)| *state.tally.entry(what).or_default() += count as u64);
        let (attempts, upto) = (progress.attempts.clone(), progress.cursor);
        memory.record(progress).map_err(|error| error.to_string())?;
        let row = memory.row(id).ok_or("it is not registered")?;
        let (config, has_ended) = (self.config(who), who.replay.is_some_and(|job| memory.has_ended(job)));
        let is_final = |event: &StoredEvent| {
            let seq = event.seq;
            row.has_delivered(seq) || row.letters.contains_key(&seq) || !config.route.wants(&event.event_type)
        };
        let events = |from: Seq, to: Seq| (from.get()..=to.get()).filter_map(|at| memory.event(Seq::new(at)?));
        for event in events(cursor.next(), upto) {
            if !is_final(event) && !row.parked.contains_key(&event.seq) && !has_ended {
                return Err(format!("the cursor {upto} has passed {} without a trace", event.seq));
            }
        }
        if let Some(seq) = row.parked.keys().find(|seq| memory.event(**seq).is_some_and(is_final)) {
            return Err(format!("{seq} is final, and parked"));
        }
        let lane = |event: &StoredEvent| lane(config, event.seq, &event.source, &event.key);
        for tried in attempts.iter().filter_map(|attempt| memory.event(attempt.seq)) {
            let mut before = events(row.first, tried.seq).filter(|event| event.seq < tried.seq);
            let is_revived = |event: &StoredEvent| state.revived.contains(&(who, event.seq));
            let waits = |event: &StoredEvent| !is_final(event) && !is_revived(event) && !is_revived(tried);
            if let Some(event) = before.find(|event| lane(event) == lane(tried) && waits(event)) {
                return Err(format!("{} was tried before {} had ended", tried.seq, event.seq));
            }
        }
        Ok(())
    }
}

impl State {
    fn call(&mut self, who: Who, number: usize) -> &mut Call {
        let witness = self.witnesses.get_mut(&who).expect("who calls is known");
        &mut witness.calls[number]
    }
}
