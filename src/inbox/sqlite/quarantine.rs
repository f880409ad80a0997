//! The quarantine: bounded as a whole, with a share for each peer, and written behind everything else.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};

use rusqlite::{Connection, OptionalExtension, params, params_from_iter};

use super::query::Conditions;
use super::rows::headers_json;
use crate::inbox::{QuarantineFilter, QuarantineLimits, Refused, micros};
use crate::model::Digest;

/// No peer holds more than one part in this many of the whole.
const SHARE: u64 = 2;

#[derive(Clone, Copy, Debug, Default)]
struct Usage {
    entries: u64,
    bytes: u64,
}

/// What the quarantine holds, by peer.
pub(super) struct Quarantine {
    limits: QuarantineLimits,
    peers: HashMap<String, Usage>,
    total: Usage,
}

impl Quarantine {
    pub(super) fn load(connection: &Connection, limits: QuarantineLimits) -> rusqlite::Result<Self> {
        let mut quarantine = Self { limits, peers: HashMap::new(), total: Usage::default() };
        let mut rows = connection.prepare("SELECT peer, count(*), sum(length(body)) FROM quarantine GROUP BY peer")?;
        let mut rows = rows.query([])?;
        while let Some(row) = rows.next()? {
            let usage = Usage { entries: row.get(1)?, bytes: row.get(2)? };
            quarantine.total.entries += usage.entries;
            quarantine.total.bytes += usage.bytes;
            quarantine.peers.insert(row.get(0)?, usage);
        }
        Ok(quarantine)
    }

    pub(super) fn entries(&self) -> u64 {
        self.total.entries
    }

    /// Keeps a request, in the caller's transaction; a retry of one that is kept already is not kept again. After a
    /// rollback the quarantine must be loaded anew.
    pub(super) fn keep(&mut self, connection: &Connection, refused: &Refused) -> rusqlite::Result<()> {
        let delivery = &refused.rejected.delivery;
        let bytes = delivery.body.len() as u64;
        let peer = peer_name(refused.peer);
        if bytes > self.limits.max_bytes / SHARE {
            return Ok(());
        }
        let signatures: Vec<_> = delivery.signatures.iter().map(|value| String::from_utf8_lossy(value)).collect();
        let inserted = connection
            .prepare_cached(
                "INSERT OR IGNORE INTO quarantine
                     (source, peer, received_at, reason, body_sha256, signatures, content_type, headers, body)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            )?
            .execute(params![
                delivery.source.as_str(),
                peer,
                micros(refused.received_at),
                refused.rejected.reason.label(),
                Digest::of(&delivery.body).as_bytes(),
                serde_json::to_string(&signatures).expect("text is always JSON"),
                delivery.content_type,
                headers_json(&delivery.headers),
                &delivery.body[..],
            ])?;
        if inserted == 0 {
            return Ok(());
        }
        let usage = self.peers.entry(peer.clone()).or_default();
        usage.entries += 1;
        usage.bytes += bytes;
        self.total.entries += 1;
        self.total.bytes += bytes;
        self.evict(connection, &peer)
    }

    /// Over its share, a peer loses its own oldest; over the whole, whoever holds most does.
    fn evict(&mut self, connection: &Connection, peer: &str) -> rusqlite::Result<()> {
        let (entries, bytes) = (u64::from(self.limits.max_entries), self.limits.max_bytes);
        while self.peers.get(peer).is_some_and(|own| own.entries > entries.div_ceil(SHARE) || own.bytes > bytes / SHARE)
        {
            self.evict_oldest_of(connection, peer)?;
        }
        while self.total.entries > entries || self.total.bytes > bytes {
            let by_entries = self.total.entries > entries;
            let most = self.peers.iter().max_by_key(|(_, usage)| if by_entries { usage.entries } else { usage.bytes });
            let most = most.expect("what is over its bound is not empty").0.clone();
            self.evict_oldest_of(connection, &most)?;
        }
        Ok(())
    }

    fn evict_oldest_of(&mut self, connection: &Connection, peer: &str) -> rusqlite::Result<()> {
        let bytes: u64 = connection
            .prepare_cached(
                "DELETE FROM quarantine WHERE id = (SELECT min(id) FROM quarantine WHERE peer = ?1)
                 RETURNING length(body)",
            )?
            .query_row([peer], |row| row.get(0))?;
        self.forget(&Removed { peer: peer.to_owned(), bytes });
        Ok(())
    }

    /// A request has been taken out, durably or in the caller's transaction.
    pub(super) fn forget(&mut self, removed: &Removed) {
        let Removed { peer, bytes } = removed;
        self.total.entries = self.total.entries.saturating_sub(1);
        self.total.bytes = self.total.bytes.saturating_sub(*bytes);
        if let Some(usage) = self.peers.get_mut(peer) {
            usage.entries = usage.entries.saturating_sub(1);
            usage.bytes = usage.bytes.saturating_sub(*bytes);
            if usage.entries == 0 {
                self.peers.remove(peer);
            }
        }
    }
}

/// Bytes of refused requests waiting to be written; what goes beyond is counted in metrics, but not kept.
const MAX_WAITING_BYTES: usize = 8 << 20;
/// What a refused request weighs besides its body.
const OVERHEAD: usize = 4096;

/// How much waits to be written. A peer has its share here too: whoever floods keeps nobody else out.
#[derive(Default)]
pub(super) struct Waiting(Mutex<HashMap<String, usize>>);

impl Waiting {
    /// Whether there is room for one more; then it waits, until [`Self::written`].
    pub(super) fn admit(&self, refused: &Refused) -> bool {
        let mut peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let peer = peer_name(refused.peer);
        let (total, own) = (peers.values().sum::<usize>(), peers.get(&peer).copied().unwrap_or_default());
        let room = total < MAX_WAITING_BYTES && own < MAX_WAITING_BYTES / SHARE as usize;
        if room {
            peers.insert(peer, own + weight(refused));
        }
        room
    }

    /// These wait no longer.
    pub(super) fn written(&self, refused: impl Iterator<Item = Refused>) {
        let mut peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for refused in refused {
            if let Some(own) = peers.get_mut(&peer_name(refused.peer)) {
                *own = own.saturating_sub(weight(&refused));
            }
        }
        peers.retain(|_, bytes| *bytes > 0);
    }

    /// Of all peers.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.0.lock().unwrap().values().sum()
    }
}

fn weight(refused: &Refused) -> usize {
    refused.rejected.delivery.body.len() + OVERHEAD
}

/// A request that was taken out of the quarantine; [`Quarantine::forget`] must follow the commit.
#[derive(Debug)]
pub(super) struct Removed {
    peer: String,
    bytes: u64,
}

/// Deletes a request, in the caller's transaction; `None` where it is gone already.
pub(super) fn remove(connection: &Connection, id: i64) -> rusqlite::Result<Option<Removed>> {
    connection
        .prepare_cached("DELETE FROM quarantine WHERE id = ?1 RETURNING peer, length(body)")?
        .query_row([id], |row| Ok(Removed { peer: row.get(0)?, bytes: row.get(1)? }))
        .optional()
}

/// A request that a filter was held against.
pub(super) struct Candidate {
    pub(super) id: i64,
    pub(super) bytes: u64,
    pub(super) matches: bool,
}

/// Up to `limit` requests above the first number and up to the second, in order, those that do not match too: so many
/// rows are looked at, and no more.
pub(super) fn page(
    connection: &Connection,
    filter: &QuarantineFilter,
    (after, upto): (i64, i64),
    limit: usize,
) -> rusqlite::Result<Vec<Candidate>> {
    let QuarantineFilter { ids, source, since, until } = filter;
    let mut conditions = Conditions::after(2);
    conditions.also("source = ?", source.clone());
    conditions.also("received_at >= ?", since.map(micros));
    conditions.also("received_at < ?", until.map(micros));
    let matches = conditions.sql();
    let wanted = conditions.numbers("id", ids);
    let mut rows = connection.prepare(&format!(
        "SELECT id, length(body), {matches} FROM quarantine WHERE id > ?1 AND id <= ?2 AND {wanted} ORDER BY id LIMIT {limit}"
    ))?;
    let bounds = [after.into(), upto.into()];
    let rows = rows.query_map(params_from_iter(bounds.iter().chain(conditions.parameters())), |row| {
        Ok(Candidate { id: row.get(0)?, bytes: row.get(1)?, matches: row.get(2)? })
    })?;
    rows.collect()
}

/// One subscriber of IPv6 holds a /64: by address, its share would be without bound.
fn peer_name(peer: IpAddr) -> String {
    match peer.to_canonical() {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            format!("{}/64", Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}
