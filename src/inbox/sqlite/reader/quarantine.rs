//! Quarantined requests.

use std::ops::ControlFlow;

use jiff::Timestamp;
use rusqlite::{OptionalExtension, Row};

use super::super::not_kept;
use super::super::quarantine::page;
use super::super::query::PAGE;
use super::super::rows::{Stored, json};
use super::{READ_BYTES, ReadError, Reader};
use crate::inbox::{
    QuarantineCounts, QuarantineFilter, Quarantined, RefusalAnswer, RefusedSource, SecretUses, from_micros,
};
use crate::verify::Rejection;

impl Reader {
    /// How many requests there are, and how many could not be kept of late.
    pub fn quarantine_counts(&self, now: Timestamp) -> Result<QuarantineCounts, ReadError> {
        let mut count =
            self.connection.prepare_cached("SELECT count(*), count(*) FILTER (WHERE answer = 401) FROM quarantine")?;
        let (entries, answered_401) = count.query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let (not_kept, since) = not_kept::read(&self.connection, now)?;
        Ok(QuarantineCounts { entries, answered_401, not_kept, not_kept_since: since.map(from_micros) })
    }

    /// The sources at which deliveries with a wrong signature have come since the last event, by name.
    pub fn refused_sources(&self, uses: &SecretUses) -> Result<Vec<RefusedSource>, ReadError> {
        let mut rows = self.connection.prepare_cached(
            "SELECT source, received_at FROM quarantine WHERE reason = ?1 ORDER BY source, received_at",
        )?;
        let mut rows = rows.query([Rejection::Mismatch.label()])?;
        let mut found: Vec<RefusedSource> = Vec::new();
        while let Some(row) = rows.next()? {
            let (source, at): (String, _) = (row.get(0)?, from_micros(row.get(1)?));
            let signed = uses.by_source.iter().find(|(name, _)| name.as_str() == source.as_str()).map(|(_, uses)| uses);
            let last_event = signed.into_iter().flatten().map(|used| used.last_used_at).max();
            if last_event.is_some_and(|last| at <= last) {
                continue;
            }
            match found.last_mut().filter(|known| known.source == source) {
                Some(known) => (known.refused, known.last) = (known.refused + 1, at),
                None => found.push(RefusedSource { source, refused: 1, first: at, last: at }),
            }
        }
        Ok(found)
    }

    /// Walks over the quarantine, newest first, all of it or what has smaller numbers than `below`; bodies not loaded.
    pub fn each_quarantined(
        &mut self,
        below: Option<i64>,
        visit: &mut dyn FnMut(Quarantined) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        let mut before = below.unwrap_or(i64::MAX);
        loop {
            let mut rows = self.connection.prepare_cached(&format!(
                "SELECT {QUARANTINED}, NULL FROM quarantine WHERE id < ?1 ORDER BY id DESC LIMIT {PAGE}"
            ))?;
            let page = rows.query_map([before], quarantined)?.collect::<rusqlite::Result<Vec<_>>>()?;
            let Some(last) = page.last() else { return Ok(()) };
            before = last.id;
            for request in page {
                if visit(request).is_break() {
                    return Ok(());
                }
            }
        }
    }

    /// One request in quarantine, with its body.
    pub fn quarantined(&self, id: i64) -> Result<Option<Quarantined>, ReadError> {
        Ok(self.request(id)?)
    }

    /// Up to `limit` requests after a number and up to another one, in order, with their bodies; fewer once those pass 8 MiB.
    pub(in super::super) fn quarantined_between(
        &self,
        which: &QuarantineFilter,
        (mut after, upto): (i64, i64),
        limit: usize,
    ) -> rusqlite::Result<Vec<Quarantined>> {
        let (mut requests, mut bytes) = (Vec::new(), 0);
        loop {
            let looked_at = page(&self.connection, which, (after, upto), PAGE)?;
            for candidate in looked_at.iter().filter(|candidate| candidate.matches) {
                if requests.len() >= limit || bytes >= READ_BYTES as u64 {
                    return Ok(requests);
                }
                // One that was evicted meanwhile is no longer there.
                requests.extend(self.request(candidate.id)?);
                bytes += candidate.bytes;
            }
            match looked_at.last() {
                Some(last) if looked_at.len() == PAGE => after = last.id,
                Some(_) | None => return Ok(requests),
            }
        }
    }

    fn request(&self, id: i64) -> rusqlite::Result<Option<Quarantined>> {
        self.connection
            .prepare_cached(&format!("SELECT {QUARANTINED}, body FROM quarantine WHERE id = ?1"))?
            .query_row([id], quarantined)
            .optional()
    }
}

const QUARANTINED: &str = "id, source, peer, received_at, reason, length(body), body_sha256, signatures, headers,
    content_type, answer";

fn quarantined(row: &Row<'_>) -> rusqlite::Result<Quarantined> {
    Ok(Quarantined {
        id: row.get(0)?,
        source: row.get(1)?,
        peer: row.get(2)?,
        received_at: from_micros(row.get(3)?),
        reason: Rejection::from_label(row.get_ref(4)?.as_str()?).ok_or(rusqlite::types::FromSqlError::InvalidType)?,
        size: row.get(5)?,
        body_sha256: row.get::<_, Stored<_>>(6)?.0,
        signatures: json(row, 7)?,
        headers: json(row, 8)?,
        content_type: row.get(9)?,
        answer: RefusalAnswer::from_status(row.get(10)?).ok_or(rusqlite::types::FromSqlError::InvalidType)?,
        body: row.get::<_, Option<Vec<u8>>>(11)?.map(bytes::Bytes::from),
    })
}
