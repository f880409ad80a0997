//! Which secrets sign what comes in.

use std::collections::BTreeMap;

use rusqlite::Connection;
use serde::{Deserialize, Serialize};

use super::super::rows::seq;
use super::times::BLOCK;
use super::{ReadError, Reader};
use crate::inbox::{SecretUse, SecretUses, from_micros};

/// Events after those that are noted that one call looks at: far more than a daemon that keeps its note leaves.
const MAX_BLOCKS: i64 = 64;

/// By source and slot: how many events, the last of them, and the latest arrival.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Uses(Vec<((i64, u32), (u64, i64, i64))>);

impl Uses {
    /// Adds the events of a stretch of the log.
    pub(super) fn add(&mut self, connection: &Connection, first: i64, last: i64) -> rusqlite::Result<()> {
        let mut rows = connection.prepare_cached(
            "SELECT source_id, secret_slot, count(*), max(seq), max(received_at) FROM events
             WHERE seq BETWEEN ?1 AND ?2 GROUP BY 1, 2",
        )?;
        let rows = rows.query_map([first, last], |row| {
            Ok(((row.get(0)?, row.get(1)?), (row.get::<_, u64>(2)?, row.get(3)?, row.get(4)?)))
        })?;
        for row in rows {
            let (whose, (count, place, at)) = row?;
            match self.0.iter_mut().find(|(known, _)| *known == whose) {
                Some((_, known)) => *known = (known.0 + count, known.1.max(place), known.2.max(at)),
                None => self.0.push((whose, (count, place, at))),
            }
        }
        Ok(())
    }
}

impl Reader {
    /// How often each secret of each source has signed an event, and when last: so that one which signs no more can be
    /// retired. While the daemon still makes its note of a long log, the newest events may not be in it yet.
    pub fn secret_uses(&mut self) -> Result<SecretUses, ReadError> {
        self.learn_sources()?;
        let (times, head) = (self.all_times()?, self.last_seq()?);
        let noted = times.upto();
        let counted_to = head.min(noted + MAX_BLOCKS * BLOCK);
        let mut uses = times.into_uses();
        for first in (noted + 1..=counted_to).step_by(usize::try_from(BLOCK).unwrap_or(1)) {
            uses.add(&self.connection, first, counted_to.min(first + BLOCK - 1))?;
        }
        let mut by_name = BTreeMap::new();
        for ((source, slot), (events, last, at)) in uses.0 {
            let uses = SecretUse { slot, events, last_seq: seq(last), last_used_at: from_micros(at) };
            by_name.entry(self.source(source)?).or_insert_with(Vec::new).push(uses);
        }
        by_name.values_mut().for_each(|uses| uses.sort_by_key(|uses| uses.slot));
        Ok(SecretUses { by_source: by_name, counted_to: seq(counted_to) })
    }
}
