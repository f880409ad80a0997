//! Deleting quarantined requests.

use rusqlite::Connection;

use super::super::fault::Fault;
use super::super::quarantine::{page, remove};
use super::items::{self, Item};
use super::{PORTION, PORTION_BYTES, Step, Stored, counted};
use crate::inbox::QuarantineFilter;

pub(super) fn purge(connection: &Connection, stored: &Stored, filter: &QuarantineFilter) -> Result<Step, Fault> {
    let mut step = Step { place: stored.job.place, ..Step::default() };
    let requests = page(connection, filter, (stored.job.place, stored.job.upto), PORTION)?;
    let mut bytes = 0;
    for request in &requests {
        if request.matches {
            items::note(connection, stored.job.id, &Item::purged(request.id, request.body_sha256))?;
            step.removed.extend(remove(connection, request.id)?);
            step.done += 1;
            bytes += request.bytes;
        }
        step.place = request.id;
        if bytes >= PORTION_BYTES {
            return Ok(step);
        }
    }
    if requests.len() < PORTION {
        let done = stored.job.done + step.done;
        let message = counted(done, "quarantined request is deleted", "quarantined requests are deleted");
        step.end = Step::done(message).end;
    }
    Ok(step)
}
