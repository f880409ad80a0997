//! The quarantine: bounded as a whole, with a share for each peer, and written behind everything else.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

use rusqlite::{Connection, params};

use super::rows::headers_json;
use crate::inbox::{QuarantineLimits, Refused, micros};
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
        self.total.entries -= 1;
        self.total.bytes -= bytes;
        if let Some(usage) = self.peers.get_mut(peer) {
            usage.entries -= 1;
            usage.bytes -= bytes;
            if usage.entries == 0 {
                self.peers.remove(peer);
            }
        }
        Ok(())
    }
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
