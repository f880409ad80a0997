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

/// What each secret has signed, in no order.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Uses(Vec<Use>);

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Use {
    source: i64,
    slot: u32,
    events: u64,
    last: i64,
    /// The latest arrival, in microseconds.
    latest: i64,
}

impl Uses {
    /// Adds the events of a stretch of the log.
    pub(super) fn add(&mut self, connection: &Connection, first: i64, last: i64) -> rusqlite::Result<()> {
        let mut rows = connection.prepare_cached(
            "SELECT source_id, secret_slot, count(*), max(seq), max(received_at) FROM events
             WHERE seq BETWEEN ?1 AND ?2 GROUP BY 1, 2",
        )?;
        let rows = rows.query_map([first, last], |row| {
            Ok(Use {
                source: row.get(0)?,
                slot: row.get(1)?,
                events: row.get(2)?,
                last: row.get(3)?,
                latest: row.get(4)?,
            })
        })?;
        for more in rows {
            let more = more?;
            match self.0.iter_mut().find(|known| (known.source, known.slot) == (more.source, more.slot)) {
                Some(known) => {
                    known.events += more.events;
                    known.last = known.last.max(more.last);
                    known.latest = known.latest.max(more.latest);
                }
                None => self.0.push(more),
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
        let mut uses = times.uses();
        for first in (noted + 1..=counted_to).step_by(usize::try_from(BLOCK).unwrap_or(1)) {
            uses.add(&self.connection, first, counted_to.min(first + BLOCK - 1))?;
        }
        let mut by_name = BTreeMap::new();
        for Use { source, slot, events, last, latest } in uses.0 {
            let uses = SecretUse { slot, events, last_seq: seq(last), last_used_at: from_micros(latest) };
            by_name.entry(self.source(source)?).or_insert_with(Vec::new).push(uses);
        }
        by_name.values_mut().for_each(|uses| uses.sort_by_key(|uses| uses.slot));
        Ok(SecretUses { by_source: by_name, counted_to: seq(counted_to) })
    }
}
