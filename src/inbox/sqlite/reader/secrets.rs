//! Which secrets sign what comes in.

use std::collections::BTreeMap;

use rusqlite::Connection;
use serde::{Deserialize, Serialize};

use super::super::rows::{Stored, seq};
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
    /// The number of the secret; `None` for events of an older version, which are told apart by their slots.
    #[serde(default)]
    secret: Option<i64>,
    slot: u32,
    /// The first event, and when it came in; `None` where an older version has noted it.
    #[serde(default)]
    first: Option<(i64, i64)>,
    events: u64,
    last: i64,
    /// The latest arrival, in microseconds.
    latest: i64,
}

impl Use {
    /// Whether both are of one secret, as far as that is known.
    fn is_of(&self, other: &Self) -> bool {
        let is_same_slot = self.secret.is_some() || self.slot == other.slot;
        (self.source, self.secret) == (other.source, other.secret) && is_same_slot
    }
}

impl Uses {
    /// Adds the events of a stretch of the log.
    pub(super) fn add(&mut self, connection: &Connection, first: i64, last: i64) -> rusqlite::Result<()> {
        let mut rows = connection.prepare_cached(
            "SELECT source_id, secret_slot, secret_id, count(*), max(seq), max(received_at), min(seq), min(received_at)
             FROM events WHERE seq BETWEEN ?1 AND ?2 GROUP BY 1, 2, 3 ORDER BY max(seq)",
        )?;
        let rows = rows.query_map([first, last], |row| {
            Ok(Use {
                source: row.get(0)?,
                slot: row.get(1)?,
                secret: row.get(2)?,
                events: row.get(3)?,
                last: row.get(4)?,
                latest: row.get(5)?,
                first: Some((row.get(6)?, row.get(7)?)),
            })
        })?;
        for more in rows {
            let more = more?;
            match self.0.iter_mut().find(|known| known.is_of(&more)) {
                Some(known) => {
                    known.events += more.events;
                    known.slot = more.slot;
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
        let mut fingerprint = self.connection.prepare_cached("SELECT fingerprint FROM secrets WHERE id = ?1")?;
        let mut by_name = BTreeMap::new();
        for Use { source, secret, slot, events, first, last, latest } in uses.0 {
            let secret = secret.map(|id| fingerprint.query_row([id], |row| row.get(0))).transpose()?;
            let uses = SecretUse {
                secret: secret.map(|Stored(secret)| secret),
                slot,
                events,
                first: first.map(|(first, at)| (seq(first), from_micros(at))),
                last_seq: seq(last),
                last_used_at: from_micros(latest),
            };
            by_name.entry(self.source(source)?).or_insert_with(Vec::new).push(uses);
        }
        by_name.values_mut().for_each(|uses| uses.sort_by_key(|uses| std::cmp::Reverse(uses.last_seq)));
        Ok(SecretUses { by_source: by_name, counted_to: seq(counted_to) })
    }
}
