//! Jobs, and what retention would do.

use std::ops::ControlFlow;

use jiff::Timestamp;

use super::super::job::{self, JOB, Prunable};
use super::super::query::PAGE;
use super::{READ_BYTES, ReadError, Reader};
use crate::inbox::Job;
use crate::model::{JobId, SinkName};

/// Bodies that one read of a dry run looks at.
const LOOK: usize = 2_000;

impl Reader {
    /// A job.
    pub fn job(&self, id: JobId) -> Result<Option<Job>, ReadError> {
        Ok(job::load(&self.connection, id)?.map(|stored| stored.job))
    }

    /// Walks over the jobs, newest first.
    pub fn each_job(&self, visit: &mut dyn FnMut(Job) -> ControlFlow<()>) -> Result<(), ReadError> {
        let mut before = i64::MAX;
        loop {
            let sql = format!("{JOB} WHERE id < ?1 ORDER BY id DESC LIMIT {PAGE}");
            let mut rows = self.connection.prepare_cached(&sql)?;
            let page = rows.query_map([before], job::from_row)?.collect::<rusqlite::Result<Vec<_>>>()?;
            let Some(last) = page.last() else { return Ok(()) };
            before = last.job.id.get();
            for stored in page {
                if visit(stored.job).is_break() {
                    return Ok(());
                }
            }
        }
    }

    /// The jobs that have not ended, in order.
    pub(in super::super) fn open_jobs(&self) -> rusqlite::Result<Vec<Job>> {
        job::open(&self.connection)
    }

    /// How many bodies pruning would drop now, and their bytes. `progress` is told now and then how many events were
    /// looked at so far.
    pub fn prunable(
        &self,
        before: Timestamp,
        sinks: &[SinkName],
        progress: &mut dyn FnMut(u64),
    ) -> Result<(u64, u64), ReadError> {
        let prunable = Prunable::load(&self.connection, before, sinks)?;
        let (mut place, mut looked_at, mut bodies, mut bytes) = (0, 0, 0, 0);
        loop {
            let page = prunable.page(&self.connection, place, LOOK, READ_BYTES as u64)?;
            place = page.place;
            looked_at += page.bodies.len() as u64;
            for body in page.bodies.iter().filter(|body| body.may_go) {
                bodies += 1;
                bytes += body.bytes;
            }
            progress(looked_at);
            if page.is_last {
                return Ok((bodies, bytes));
            }
        }
    }
}
