//! Jobs, and what retention would do.

use std::ops::ControlFlow;

use jiff::Timestamp;

use super::super::job::{self, JOB, Prunable, items, prune};
use super::super::query::PAGE;
use super::super::rows::seq;
use super::super::{altered, believed, consumer, revisions};
use super::{Direction, READ_BYTES, ReadError, Reader};
use crate::clock::Uptime;
use crate::inbox::{BelievedClock, ConsumerId, Job, RecordItem, SinkRevision, Task, micros};
use crate::model::{JobId, Seq, SinkName};

/// Revisions of a sink that are shown.
const REVISIONS: usize = 100;
/// Bodies that one read of a dry run looks at.
const LOOK: usize = 2_000;

impl Reader {
    /// A job.
    pub fn job(&self, id: JobId) -> Result<Option<Job>, ReadError> {
        Ok(job::load(&self.connection, id)?.map(|stored| stored.job))
    }

    /// What a job was about, one by one: the first thousand; see [`RecordItem`].
    pub fn record_items(&self, job: &Job) -> Result<Vec<RecordItem>, ReadError> {
        if let Task::Replay { .. } = job.task {
            let consumer = consumer::of_replay(&self.connection, job.id)?;
            let items = consumer.map(|consumer| items::replayed(&self.connection, consumer.id)).transpose()?;
            return Ok(items.unwrap_or_default());
        }
        Ok(items::list(&self.connection, job.id)?)
    }

    /// How many events have a body that was found not to be what came in, and was not restored since.
    pub fn altered_events(&self) -> Result<u64, ReadError> {
        Ok(altered::count(&self.connection)?)
    }

    /// The last hundred revisions of a sink, the newest first.
    pub fn sink_revisions(&self, sink: ConsumerId) -> Result<Vec<SinkRevision>, ReadError> {
        Ok(revisions::list(&self.connection, sink.get(), REVISIONS)?)
    }

    /// Walks over the jobs, newest first, all of them or those before `before`; those that this version cannot read are
    /// left out.
    pub fn each_job(
        &self,
        before: Option<JobId>,
        visit: &mut dyn FnMut(Job) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        let mut before = before.map_or(i64::MAX, JobId::get);
        loop {
            let sql = format!("{JOB} WHERE id < ?1 ORDER BY id DESC LIMIT {PAGE}");
            let mut rows = self.connection.prepare_cached(&sql)?;
            let page = rows.query_map([before], |row| Ok((row.get::<_, i64>(0)?, job::known(row)?)))?;
            let page = page.collect::<rusqlite::Result<Vec<_>>>()?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            before = *last;
            for stored in page.into_iter().filter_map(|(_, job)| job.ok()) {
                if visit(stored.job).is_break() {
                    return Ok(());
                }
            }
        }
    }

    /// The jobs that have not ended, in order; see [`job::open`].
    pub(in super::super) fn open_jobs(
        &self,
        unreadable: impl FnMut(JobId, &rusqlite::Error),
    ) -> rusqlite::Result<Vec<Job>> {
        job::open(&self.connection, unreadable)
    }

    /// What retention believes of the clock at this time.
    pub fn believed_clock(&self, now: Timestamp, uptime: &Uptime) -> Result<BelievedClock, ReadError> {
        Ok(believed::read(&self.connection, now, uptime)?)
    }

    /// How many bodies pruning would drop now, and their bytes. `progress` is told now and then how far in the log that
    /// was counted.
    pub fn prunable(
        &mut self,
        before: Timestamp,
        sinks: &[SinkName],
        progress: &mut dyn FnMut(Seq),
    ) -> Result<(u64, u64), ReadError> {
        let prunable = Prunable::load(&self.connection, before, sinks)?;
        let reached = prune::reached(&self.connection)?;
        let times = self.all_times()?;
        let (mut place, mut bodies, mut bytes) = (0, 0, 0);
        loop {
            place = times.pass_over(place + 1, Direction::Forward, None, Some(micros(before))) - 1;
            let counted = match place >= reached {
                true => prunable.count(&self.connection, times.block_at(place + 1), place + 1, times.stop(place))?,
                false => None,
            };
            let is_last = match counted {
                Some(counted) => {
                    (bodies, bytes, place) = (bodies + counted.bodies, bytes + counted.bytes, counted.place);
                    counted.is_last
                }
                None => {
                    let page = prunable.page(&self.connection, place, LOOK, READ_BYTES as u64)?;
                    for body in page.bodies.iter().filter(|body| body.may_go) {
                        (bodies, bytes) = (bodies + 1, bytes + body.bytes);
                    }
                    place = page.place;
                    page.is_last
                }
            };
            progress(seq(place));
            if is_last {
                return Ok((bodies, bytes));
            }
        }
    }
}
