//! Jobs, carried out portion by portion.

use jiff::Timestamp;
use std::collections::BTreeMap;

use super::{Row, State, Whose, filter, index, place};
use crate::clock::Uptime;
use crate::inbox::{
    Advance, BelievedClock, Change, ConfiguredSink, ConsumerId, Effect, Job, JobState, JobUpdate, NewJob, Released,
    Task, Unavailable,
};
use crate::model::{JobId, Seq, SinkName};

/// A job, and how far its portions have come.
pub(super) struct Stored {
    pub(super) job: Job,
    /// By consumer: the last dead letter, or the last parked event, that was looked at.
    places: BTreeMap<ConsumerId, i64>,
}

/// What one portion came to.
#[derive(Default)]
pub(super) struct Step {
    pub(super) places: BTreeMap<ConsumerId, i64>,
    pub(super) done: u64,
    pub(super) failed: u64,
    pub(super) effects: Vec<Effect>,
    pub(super) must_wait: bool,
    pub(super) end: Option<JobState>,
}

impl Step {
    pub(super) fn ended(end: JobState, effects: Vec<Effect>) -> Self {
        Self { end: Some(end), effects, ..Self::default() }
    }
}

impl State {
    pub(super) fn job(&self, id: JobId) -> Option<&Stored> {
        self.jobs.get(index(id.get())?)
    }

    pub(super) fn job_mut(&mut self, id: JobId) -> Option<&mut Stored> {
        self.jobs.get_mut(index(id.get())?)
    }

    /// Every job there has been.
    pub(crate) fn all_jobs(&self) -> impl Iterator<Item = &Job> {
        self.jobs.iter().map(|stored| &stored.job)
    }

    pub(super) fn submit(&mut self, job: NewJob) -> JobId {
        let id = JobId::new(place(self.jobs.len() + 1).get());
        self.jobs.push(Stored { job: job.queued(id), places: BTreeMap::new() });
        id
    }

    pub(super) fn open_jobs(&self) -> Vec<Job> {
        self.all_jobs().filter(|job| !job.state.has_ended()).cloned().collect()
    }

    pub(super) fn update_job(&mut self, id: JobId, update: JobUpdate, now: Timestamp) -> Result<(), Unavailable> {
        let last_request = self.quarantined_ever;
        let stored = self.job_mut(id).ok_or_else(|| unknown(id))?;
        if stored.job.state.has_ended() {
            return Ok(());
        }
        if matches!(stored.job.task, Task::Admit { .. }) && stored.job.upto == 0 {
            stored.job.upto = last_request;
        }
        let JobUpdate { state, done, failed, total, message } = update;
        let job = &mut stored.job;
        job.state = state.unwrap_or(job.state);
        job.ended_at = job.state.has_ended().then_some(now);
        job.done += done;
        job.failed += failed;
        job.total = total.or(job.total);
        job.message = message.unwrap_or_else(|| std::mem::take(&mut job.message));
        if job.state.has_ended()
            && let Some(consumer) = self.replayed_by(id)
        {
            self.row_mut(consumer).parked.clear();
        }
        Ok(())
    }

    pub(super) fn release(&mut self, id: JobId, portion: &Released) -> Result<(), Unavailable> {
        let before = self.quarantined.len();
        self.quarantined.retain(|request| !portion.admitted.iter().any(|(admitted, _)| *admitted == request.id));
        let removed = (before - self.quarantined.len()) as u64;
        let stored = self.job_mut(id).ok_or_else(|| unknown(id))?;
        if !stored.job.state.has_ended() {
            stored.job.done += removed;
            stored.job.failed += portion.failed;
            stored.job.place = portion.place;
        }
        Ok(())
    }

    pub(crate) fn advance(
        &mut self,
        id: JobId,
        sinks: &[ConfiguredSink],
        now: Timestamp,
    ) -> Result<Advance, Unavailable> {
        let stored = self.job_mut(id).ok_or_else(|| unknown(id))?;
        if stored.job.state.has_ended() {
            return Ok(Advance { ended: true, ..Advance::default() });
        }
        if stored.job.state == JobState::Queued {
            let is_about_events = matches!(stored.job.task, Task::RetryParked { .. } | Task::DiscardParked { .. });
            let upto = if is_about_events { self.last().get() } else { self.letters_ever };
            self.job_mut(id).ok_or_else(|| unknown(id))?.job.upto = upto;
        }
        let step = self.step(id, sinks, now);
        let stored = self.job_mut(id).ok_or_else(|| unknown(id))?;
        stored.places = step.places;
        stored.job.done += step.done;
        stored.job.failed += step.failed;
        stored.job.state = step.end.unwrap_or(JobState::Running);
        stored.job.ended_at = step.end.map(|_| now);
        Ok(Advance { effects: step.effects, ended: step.end.is_some(), must_wait: step.must_wait })
    }

    fn step(&mut self, id: JobId, sinks: &[ConfiguredSink], now: Timestamp) -> Step {
        let Some(Stored { job, places }) = self.job(id) else { return Step::default() };
        let (task, step, upto) = (job.task.clone(), Step { places: places.clone(), ..Step::default() }, job.upto);
        match task {
            Task::Pause { sink } => self.pause(&sink, now),
            Task::Resume { sink } => self.resume(&sink, now),
            Task::Rename { from, to, swap: false } => self.rename(&from, &to),
            Task::Rename { from, to, swap: true } => self.swap(&from, &to, now),
            Task::Retry { letters } => self.retry(&letters, step, upto, sinks, now),
            Task::Discard { letters } => self.discard(&letters, step, upto),
            Task::RetryParked { parked } => self.retry_parked(&parked, step, upto, sinks, now),
            Task::DiscardParked { parked } => self.discard_parked(&parked, step, upto, now),
            Task::Try { sink } => self.try_now(&sink, sinks),
            Task::Forget { sink } => self.forget(&sink, sinks, now),
            Task::Purge { requests } => {
                self.quarantined.retain(|request| !filter::matches_request(&requests, request));
                Step::ended(JobState::Done, vec![])
            }
            Task::Prune { before, sinks } => self.prune(before, &sinks),
            Task::ConfirmClock { at } => {
                self.believed = Some(BelievedClock::at(at, Uptime::now()));
                Step::ended(JobState::Done, vec![])
            }
            Task::Admit { .. } | Task::Replay { .. } | Task::Cancel { .. } => Step::ended(JobState::Failed, vec![]),
        }
    }

    fn pause(&mut self, sink: &SinkName, now: Timestamp) -> Step {
        let Some(id) = self.named(sink) else { return Step::ended(JobState::Failed, vec![]) };
        let row = self.row_mut(id);
        if row.paused_since.is_some() {
            return Step::ended(JobState::Done, vec![]);
        }
        row.paused_since = Some(now);
        row.standing.still_since.get_or_insert(now);
        Step::ended(JobState::Done, self.effects(id, &Change::Paused))
    }

    fn resume(&mut self, sink: &SinkName, now: Timestamp) -> Step {
        let Some(id) = self.named(sink) else { return Step::ended(JobState::Failed, vec![]) };
        let row = self.row_mut(id);
        if row.paused_since.take().is_none() {
            return Step::ended(JobState::Done, vec![]);
        }
        row.standing = row.standing.settled(None, now);
        Step::ended(JobState::Done, self.effects(id, &Change::Resumed))
    }

    /// Of a sink and of its replays that have not ended.
    pub(super) fn effects(&self, sink: ConsumerId, change: &Change) -> Vec<Effect> {
        let is_meant = |id: ConsumerId, row: &Row| match &row.whose {
            Whose::Sink { .. } => id == sink,
            Whose::Replay { job, of, .. } => *of == sink && !self.has_ended(*job),
            Whose::Forgotten => false,
        };
        let ids = self.ids().zip(&self.consumers).filter(|(id, row)| is_meant(*id, row));
        ids.map(|(consumer, _)| Effect { consumer, change: change.clone() }).collect()
    }

    /// Nobody works on a job any more.
    pub(crate) fn has_ended(&self, job: JobId) -> bool {
        self.job(job).is_none_or(|stored| stored.job.state.has_ended())
    }

    /// Whether a replay to the sink has not ended.
    pub(super) fn is_replayed(&self, id: ConsumerId) -> bool {
        let is_to_it = |job: &Job| matches!(&job.task, Task::Replay { sink, .. } if self.live(sink) == Some(id));
        self.open_jobs().iter().any(is_to_it)
    }

    fn rename(&mut self, from: &SinkName, to: &SinkName) -> Step {
        let refused = Step::ended(JobState::Failed, vec![]);
        let Some(id) = self.named(from) else { return refused };
        let is_replayed = self.is_replayed(id);
        let is_taken = self.named(to).is_some() || self.live(to).is_some_and(|other| other != id);
        let Whose::Sink { name, former } = &mut self.row_mut(id).whose else { return refused };
        if is_replayed || is_taken || former.as_ref().is_some_and(|former| former != to) {
            return refused;
        }
        (*name, *former) = (to.clone(), Some(from.clone()));
        Step::ended(JobState::Done, vec![])
    }

    fn swap(&mut self, one: &SinkName, other: &SinkName, now: Timestamp) -> Step {
        let refused = || Step::ended(JobState::Failed, vec![]);
        let (Some(first), Some(second)) = (self.named(one), self.named(other)) else { return refused() };
        let is_followed = |id: &ConsumerId| {
            let whose = self.row(*id).map(|row| &row.whose);
            matches!(whose, Some(Whose::Sink { former: None, .. })) && !self.is_replayed(*id)
        };
        if ![first, second].iter().all(is_followed) {
            return refused();
        }
        let mut effects = self.pause(one, now).effects;
        effects.extend(self.pause(other, now).effects);
        for (id, new_name) in [(first, other), (second, one)] {
            if let Whose::Sink { name, .. } = &mut self.row_mut(id).whose {
                name.clone_from(new_name);
            }
        }
        Step::ended(JobState::Done, effects)
    }

    fn prune(&mut self, before: Timestamp, sinks: &[SinkName]) -> Step {
        let cursor = |sink| self.meant(sink, sinks).and_then(|id| self.row(id)).map_or(Seq::ZERO, |row| row.cursor);
        let upto = sinks.iter().map(cursor).min().unwrap_or_else(|| self.last());
        let is_old = |seq: &Seq| *seq <= upto && self.event(*seq).is_some_and(|event| event.received_at < before);
        let places = (1..=self.events.len()).map(place).filter(is_old);
        let gone: Vec<Seq> = places.filter(|seq| !self.is_needed(*seq)).collect();
        let mut step = Step::ended(JobState::Done, vec![]);
        for seq in gone {
            let body = index(seq.get()).and_then(|at| self.events[at].stored.body.take());
            step.done += u64::from(body.is_some());
        }
        step
    }

    pub(super) fn note_clock(&mut self, now: Timestamp, uptime: Uptime) -> BelievedClock {
        let noted = self.believed.take().unwrap_or_else(|| BelievedClock::at(now, uptime.clone()));
        self.believed.insert(noted.advanced(now, uptime)).clone()
    }

    fn is_needed(&self, seq: Seq) -> bool {
        let needs = |row: &Row| match &row.whose {
            Whose::Sink { .. } => row.is_waiting(seq),
            Whose::Forgotten => false,
            Whose::Replay { job, selection, .. } => {
                !self.has_ended(*job) && (row.is_waiting(seq) || row.cursor < seq && seq <= selection.last)
            }
        };
        let will_be_read = |job: &Job| match &job.task {
            Task::Replay { selection, .. } if self.replayed_by(job.id).is_none() => {
                selection.first <= seq && seq <= selection.last
            }
            _ => false,
        };
        self.consumers.iter().any(needs) || self.open_jobs().iter().any(will_be_read)
    }
}

fn unknown(id: JobId) -> Unavailable {
    Unavailable::Refused(format!("there is no job {id}"))
}
