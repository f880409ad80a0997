//! Jobs that go sink by sink: through the dead letters or the parked events of each, in order, a portion at a time.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::jobs::Step;
use super::{Letter, State, Whose, filter};
use crate::inbox::{
    Change, ConfiguredSink, ConsumerId, DeadLetter, Effect, JobState, LetterFilter, Parked, ParkedFilter,
};
use crate::model::{Seq, SinkName};

/// Rows that one portion looks at.
const PORTION: usize = 500;

/// A row of a sink, held against a filter.
#[derive(Clone, Copy)]
struct Found {
    place: i64,
    seq: Seq,
    matches: bool,
}

impl State {
    /// Goes on with the rows of every sink. `visit` is false where the sink has no room for more.
    fn sweep(
        &mut self,
        mut step: Step,
        upto: i64,
        rows: impl Fn(&Self, ConsumerId) -> Vec<Found>,
        mut visit: impl FnMut(&mut Self, &mut Step, ConsumerId, Found) -> bool,
    ) -> Step {
        let (mut room, mut is_more) = (PORTION, false);
        for id in self.sinks() {
            let after = *step.places.get(&id).unwrap_or(&0);
            let next = |found: &Found| after < found.place && found.place <= upto;
            let mut rows: Vec<Found> = rows(self, id).into_iter().filter(next).collect();
            rows.sort_by_key(|found| found.place);
            let (page, mut is_full) = (&rows[..room.min(rows.len())], false);
            for found in page {
                if found.matches && !visit(self, &mut step, id, *found) {
                    (is_full, step.must_wait) = (true, true);
                    break;
                }
                step.places.insert(id, found.place);
            }
            is_more |= !is_full && page.len() == room;
            room -= page.len();
        }
        step.must_wait &= !is_more;
        step.end = (!step.must_wait && !is_more).then_some(JobState::Done);
        step
    }

    /// The sinks' own consumers.
    fn sinks(&self) -> Vec<ConsumerId> {
        let is_sink = |(_, row): &(ConsumerId, &super::Row)| matches!(row.whose, Whose::Sink { .. });
        self.ids().zip(&self.consumers).filter(is_sink).map(|(id, _)| id).collect()
    }

    fn configured<'a>(&self, id: ConsumerId, sinks: &'a [ConfiguredSink]) -> Option<&'a ConfiguredSink> {
        let names: Vec<SinkName> = sinks.iter().map(|sink| sink.name.clone()).collect();
        sinks.iter().find(|sink| self.meant(&sink.name, &names) == Some(id))
    }

    fn letters(&self, id: ConsumerId, which: &LetterFilter) -> Vec<Found> {
        let Some(row) = self.row(id) else { return Vec::new() };
        let open = row.letters.iter().filter(|(_, letter)| !letter.is_decided);
        let found = |(seq, letter): (&Seq, &Letter)| {
            let entry = self.entry(*seq)?;
            Some(Found { place: letter.number, seq: *seq, matches: filter::matches_letter(which, row, letter, entry) })
        };
        open.filter_map(found).collect()
    }

    fn parked(&self, id: ConsumerId, which: &ParkedFilter) -> Vec<Found> {
        let Some(row) = self.row(id) else { return Vec::new() };
        let found = |seq: &Seq| {
            let entry = self.entry(*seq)?;
            Some(Found { place: seq.get(), seq: *seq, matches: filter::matches_parked(which, row, entry) })
        };
        row.parked.keys().filter_map(found).collect()
    }

    pub(super) fn retry(
        &mut self,
        which: &LetterFilter,
        step: Step,
        upto: i64,
        sinks: &[ConfiguredSink],
        now: Timestamp,
    ) -> Step {
        let mut revived: BTreeMap<ConsumerId, Vec<Parked>> = BTreeMap::new();
        let visit = |state: &mut Self, step: &mut Step, id, Found { seq, .. }: Found| {
            let has_body = state.event(seq).is_some_and(|event| event.body.is_some());
            let Some(sink) = state.configured(id, sinks).filter(|_| has_body) else {
                step.failed += 1;
                return true;
            };
            if state.row_mut(id).parked.len() >= sink.max_parked {
                return false;
            }
            let Some(letter) = state.row_mut(id).letters.remove(&seq) else { return true };
            let event = Parked {
                seq,
                attempts: letter.record.attempts,
                first_attempt: None,
                still: Duration::ZERO,
                next_attempt: now,
                own_failures: 0,
            };
            state.row_mut(id).parked.insert(seq, event.clone());
            revived.entry(id).or_default().push(event);
            step.done += 1;
            true
        };
        let mut step = self.sweep(step, upto, |state, id| state.letters(id, which), visit);
        step.effects = effects(revived, Change::Revived);
        step
    }

    pub(super) fn discard(&mut self, which: &LetterFilter, step: Step, upto: i64) -> Step {
        let mut discarded: BTreeMap<ConsumerId, u64> = BTreeMap::new();
        let visit = |state: &mut Self, step: &mut Step, id, Found { seq, .. }: Found| {
            if let Some(letter) = state.row_mut(id).letters.get_mut(&seq) {
                letter.is_decided = true;
                *discarded.entry(id).or_default() += 1;
                step.done += 1;
            }
            true
        };
        let mut step = self.sweep(step, upto, |state, id| state.letters(id, which), visit);
        step.effects = effects(discarded, Change::Discarded);
        step
    }

    pub(super) fn retry_parked(
        &mut self,
        which: &ParkedFilter,
        step: Step,
        upto: i64,
        sinks: &[ConfiguredSink],
        now: Timestamp,
    ) -> Step {
        let mut due: BTreeMap<ConsumerId, Vec<Seq>> = BTreeMap::new();
        let visit = |state: &mut Self, step: &mut Step, id, Found { seq, .. }: Found| {
            if state.configured(id, sinks).is_none() {
                step.failed += 1;
            } else if let Some(event) = state.row_mut(id).parked.get_mut(&seq) {
                event.next_attempt = now;
                due.entry(id).or_default().push(seq);
                step.done += 1;
            }
            true
        };
        let mut step = self.sweep(step, upto, |state, id| state.parked(id, which), visit);
        step.effects = effects(due, Change::Due);
        found_any(step)
    }

    pub(super) fn discard_parked(&mut self, which: &ParkedFilter, step: Step, upto: i64, now: Timestamp) -> Step {
        let mut gone: BTreeMap<ConsumerId, Vec<Seq>> = BTreeMap::new();
        let visit = |state: &mut Self, step: &mut Step, id, Found { seq, .. }: Found| {
            state.give_up(id, seq, now);
            gone.entry(id).or_default().push(seq);
            step.done += 1;
            true
        };
        let mut step = self.sweep(step, upto, |state, id| state.parked(id, which), visit);
        step.effects = effects(gone, Change::Unparked);
        found_any(step)
    }

    /// A parked event is decided about.
    fn give_up(&mut self, id: ConsumerId, seq: Seq, now: Timestamp) {
        let event = self.row_mut(id).parked.remove(&seq);
        let attempts = event.map_or(0, |event| event.attempts);
        self.bury(id, DeadLetter { seq, attempts, reason: String::new(), at: now }, true);
    }

    pub(super) fn try_now(&self, sink: &SinkName, sinks: &[ConfiguredSink]) -> Step {
        let id = self.named(sink).filter(|id| self.configured(*id, sinks).is_some());
        match id.filter(|id| self.row(*id).is_some_and(|row| row.paused_since.is_none())) {
            Some(id) => Step::ended(JobState::Done, self.effects(id, &Change::TryNow)),
            None => Step::ended(JobState::Failed, vec![]),
        }
    }

    pub(super) fn forget(&mut self, sink: &SinkName, sinks: &[ConfiguredSink], now: Timestamp) -> Step {
        let may_go = |id: &ConsumerId| self.configured(*id, sinks).is_none() && !self.is_replayed(*id);
        let Some(id) = self.named(sink).filter(may_go) else { return Step::ended(JobState::Failed, vec![]) };
        let mut step = Step::ended(JobState::Done, vec![]);
        let parked: Vec<Seq> = self.row_mut(id).parked.keys().copied().collect();
        step.done += parked.len() as u64;
        parked.into_iter().for_each(|seq| self.give_up(id, seq, now));
        let last = self.last();
        let row = self.row_mut(id);
        for letter in row.letters.values_mut().filter(|letter| !letter.is_decided) {
            letter.is_decided = true;
            step.done += 1;
        }
        step.done += last.get().abs_diff(row.cursor.get());
        row.whose = Whose::Forgotten;
        step
    }
}

fn effects<T>(changes: BTreeMap<ConsumerId, T>, change: impl Fn(T) -> Change) -> Vec<Effect> {
    changes.into_iter().map(|(consumer, what)| Effect { consumer, change: change(what) }).collect()
}

/// That nothing is parked which was asked for is something to know.
fn found_any(step: Step) -> Step {
    let end = step.end.map(|end| if step.done + step.failed == 0 { JobState::Failed } else { end });
    Step { end, ..step }
}
