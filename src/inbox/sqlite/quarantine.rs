//! The quarantine: bounded as a whole, with a share for each peer. What was answered 401 is never evicted.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Instant;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params, params_from_iter};

use super::quarantine_budget::Budget;
use super::query::Conditions;
use super::rows::{Stored, headers_json};
use crate::inbox::{NoRoom, QuarantineFilter, QuarantineLimits, QuarantineOutcome, RefusalAnswer, Refused, micros};
use crate::model::Digest;

/// No peer holds more than one part in this many of the whole.
pub(super) const SHARE: u64 = 2;
/// What a row needs besides its texts and its body: numbers, digest, its places in the indexes.
const OVERHEAD: u64 = 256;

/// The bytes of a row, as [`Row::bytes`] counts them.
fn bytes_of_row() -> String {
    format!(
        "{OVERHEAD} + octet_length(body) + octet_length(headers) + octet_length(signatures) \
         + coalesce(octet_length(content_type), 0)"
    )
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Usage {
    entries: u64,
    bytes: u64,
}

impl Usage {
    fn add(&mut self, bytes: u64) {
        self.entries += 1;
        self.bytes += bytes;
    }

    fn subtract(&mut self, bytes: u64) {
        self.entries = self.entries.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// Whether one more of so many bytes is within the limit.
    fn has_room_for(self, bytes: u64, limit: Self) -> bool {
        self.entries < limit.entries && self.bytes + bytes <= limit.bytes
    }
}

/// What one peer holds, or all of them together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Held {
    /// Answered 401: it stays.
    fixed: Usage,
    /// Answered 503: its sender sends it again, so it may be evicted.
    evictable: Usage,
}

impl Held {
    fn part(&mut self, answer: RefusalAnswer) -> &mut Usage {
        match answer {
            RefusalAnswer::Unauthorized => &mut self.fixed,
            RefusalAnswer::Unavailable => &mut self.evictable,
        }
    }

    fn all(self) -> Usage {
        Usage { entries: self.fixed.entries + self.evictable.entries, bytes: self.fixed.bytes + self.evictable.bytes }
    }
}

/// What the quarantine holds, by peer.
pub(super) struct Quarantine {
    limits: QuarantineLimits,
    peers: HashMap<String, Held>,
    total: Held,
    budget: Budget,
    /// Sources of requests that were evicted in the transaction that is open.
    evicted: Vec<(String, Timestamp)>,
    /// Whether the transaction that is open has changed it.
    is_changed: bool,
    /// Whether a transaction that had changed it was rolled back, so that it must be read anew.
    is_stale: bool,
}

/// A request in the form of its row.
struct Row {
    peer: String,
    digest: Digest,
    signatures: String,
    headers: String,
    bytes: u64,
}

impl Row {
    fn of(refused: &Refused) -> Self {
        let delivery = &refused.rejected.delivery;
        let signatures: Vec<_> = delivery.signatures.iter().map(|value| String::from_utf8_lossy(value)).collect();
        let signatures = serde_json::to_string(&signatures).expect("text is always JSON");
        let headers = headers_json(&delivery.headers);
        let content_type = delivery.content_type.as_ref().map_or(0, String::len);
        let bytes = OVERHEAD + (delivery.body.len() + headers.len() + signatures.len() + content_type) as u64;
        Self { peer: peer_name(refused.peer), digest: Digest::of(&delivery.body), signatures, headers, bytes }
    }
}

impl Quarantine {
    pub(super) fn load(connection: &Connection, limits: QuarantineLimits) -> rusqlite::Result<Self> {
        let mut quarantine = Self {
            limits,
            peers: HashMap::new(),
            total: Held::default(),
            budget: Budget::per_minute(limits.max_bytes / SHARE),
            evicted: Vec::new(),
            is_changed: false,
            is_stale: true,
        };
        quarantine.refresh(connection)?;
        Ok(quarantine)
    }

    /// Reads anew what it holds, where a rollback has made that uncertain. At the beginning of each transaction.
    pub(super) fn refresh(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        if !self.is_stale {
            return Ok(());
        }
        (self.peers, self.total) = (HashMap::new(), Held::default());
        let sum = bytes_of_row();
        let mut rows = connection
            .prepare(&format!("SELECT peer, answer, count(*), sum({sum}) FROM quarantine GROUP BY peer, answer"))?;
        let mut rows = rows.query([])?;
        while let Some(row) = rows.next()? {
            let (answer, usage) = (answer(row.get(1)?)?, Usage { entries: row.get(2)?, bytes: row.get(3)? });
            *self.peers.entry(row.get(0)?).or_default().part(answer) = usage;
            let total = self.total.part(answer);
            *total = Usage { entries: total.entries + usage.entries, bytes: total.bytes + usage.bytes };
        }
        self.is_stale = false;
        Ok(())
    }

    /// By peer: entries and bytes that stay, and those that may be evicted.
    #[cfg(test)]
    pub(super) fn held(&self) -> std::collections::BTreeMap<String, [u64; 4]> {
        let numbers =
            |held: &Held| [held.fixed.entries, held.fixed.bytes, held.evictable.entries, held.evictable.bytes];
        let peers = self.peers.iter().map(|(peer, held)| (peer.clone(), numbers(held)));
        peers.chain([("all".to_owned(), numbers(&self.total))]).collect()
    }

    pub(super) fn entries(&self) -> u64 {
        self.total.all().entries
    }

    /// What was changed is durable; the sources of what was evicted, with the time.
    pub(super) fn committed(&mut self) -> std::vec::Drain<'_, (String, Timestamp)> {
        self.is_changed = false;
        self.evicted.drain(..)
    }

    /// Nothing of what was changed is there.
    pub(super) fn rolled_back(&mut self) {
        self.is_stale |= std::mem::take(&mut self.is_changed);
        self.evicted.clear();
    }

    /// Keeps a request where there is room for it, in the caller's transaction; one that is kept already is not kept twice.
    pub(super) fn keep(
        &mut self,
        connection: &Connection,
        refused: &Refused,
        now: Instant,
    ) -> rusqlite::Result<QuarantineOutcome> {
        let row = Row::of(refused);
        if self.is_there(connection, refused, &row)? {
            return Ok(QuarantineOutcome::Kept);
        }
        if let Err(why) = self.find_room(&row).and_then(|()| self.budget.spend(row.bytes, now)) {
            return Ok(QuarantineOutcome::NotKept(why));
        }
        self.is_changed = true;
        self.evict(connection, refused, &row)?;
        let delivery = &refused.rejected.delivery;
        connection
            .prepare_cached(
                "INSERT INTO quarantine
                     (source, peer, received_at, reason, body_sha256, signatures, content_type, headers, body, answer)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            )?
            .execute(params![
                delivery.source.as_str(),
                row.peer,
                micros(refused.received_at),
                refused.rejected.reason.label(),
                row.digest.as_bytes(),
                row.signatures,
                delivery.content_type,
                row.headers,
                &delivery.body[..],
                refused.answer.status(),
            ])?;
        self.peers.entry(row.peer).or_default().part(refused.answer).add(row.bytes);
        self.total.part(refused.answer).add(row.bytes);
        Ok(QuarantineOutcome::Kept)
    }

    /// Whether the request is there already. From now on it counts as answered 401 if its sender is told so this time.
    fn is_there(&mut self, connection: &Connection, refused: &Refused, row: &Row) -> rusqlite::Result<bool> {
        let of_row = bytes_of_row();
        let found: Option<(i64, String, u16, u64)> = connection
            .prepare_cached(&format!(
                "SELECT id, peer, answer, {of_row} FROM quarantine
                 WHERE source = ?1 AND body_sha256 = ?2 AND signatures = ?3"
            ))?
            .query_row(
                params![refused.rejected.delivery.source.as_str(), row.digest.as_bytes(), row.signatures],
                |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
            )
            .optional()?;
        let Some((id, peer, answered, bytes)) = found else { return Ok(false) };
        if refused.answer == RefusalAnswer::Unauthorized && answer(answered)? == RefusalAnswer::Unavailable {
            self.is_changed = true;
            connection.prepare_cached("UPDATE quarantine SET answer = 401 WHERE id = ?1")?.execute([id])?;
            for held in [&mut self.total, self.peers.entry(peer).or_default()] {
                held.evictable.subtract(bytes);
                held.fixed.add(bytes);
            }
        }
        Ok(true)
    }

    /// Whether there is room once everything that may be evicted is.
    fn find_room(&self, row: &Row) -> Result<(), NoRoom> {
        let (share, whole) = (self.share(), self.whole());
        let own = self.peers.get(&row.peer).copied().unwrap_or_default();
        if row.bytes > share.bytes {
            Err(NoRoom::TooLarge)
        } else if !own.fixed.has_room_for(row.bytes, share) {
            Err(NoRoom::Share)
        } else if !self.total.fixed.has_room_for(row.bytes, whole) {
            Err(NoRoom::Full)
        } else {
            Ok(())
        }
    }

    fn whole(&self) -> Usage {
        Usage { entries: u64::from(self.limits.max_entries), bytes: self.limits.max_bytes }
    }

    fn share(&self) -> Usage {
        Usage { entries: u64::from(self.limits.max_entries).div_ceil(SHARE), bytes: self.limits.max_bytes / SHARE }
    }

    /// Makes room for one more. Over its share, a peer loses its own oldest; over the whole, whoever holds most does.
    fn evict(&mut self, connection: &Connection, refused: &Refused, row: &Row) -> rusqlite::Result<()> {
        let (share, whole) = (self.share(), self.whole());
        while self.peers.get(&row.peer).is_some_and(|own| !own.all().has_room_for(row.bytes, share)) {
            self.evict_oldest_of(connection, &row.peer, refused.received_at)?;
        }
        while !self.total.all().has_room_for(row.bytes, whole) {
            let by_entries = self.total.all().entries >= whole.entries;
            let held = |held: &Held| if by_entries { held.evictable.entries } else { held.evictable.bytes };
            let most = self.peers.iter().max_by_key(|(_, peer)| held(peer));
            let most = most.expect("room was found, so something may be evicted").0.clone();
            self.evict_oldest_of(connection, &most, refused.received_at)?;
        }
        Ok(())
    }

    fn evict_oldest_of(&mut self, connection: &Connection, peer: &str, at: Timestamp) -> rusqlite::Result<()> {
        let of_row = bytes_of_row();
        let (source, bytes): (String, u64) = connection
            .prepare_cached(&format!(
                "DELETE FROM quarantine WHERE id = (SELECT min(id) FROM quarantine WHERE peer = ?1 AND answer = 503)
                 RETURNING source, {of_row}"
            ))?
            .query_row([peer], |row| Ok((row.get(0)?, row.get(1)?)))?;
        self.forget(&Removed { peer: peer.to_owned(), answer: RefusalAnswer::Unavailable, bytes });
        self.evicted.push((source, at));
        Ok(())
    }

    /// A request has been taken out, durably or in the caller's transaction.
    pub(super) fn forget(&mut self, removed: &Removed) {
        let Removed { peer, answer, bytes } = removed;
        self.total.part(*answer).subtract(*bytes);
        if let Some(held) = self.peers.get_mut(peer) {
            held.part(*answer).subtract(*bytes);
            if held.all().entries == 0 {
                self.peers.remove(peer);
            }
        }
    }
}

fn answer(status: u16) -> rusqlite::Result<RefusalAnswer> {
    RefusalAnswer::from_status(status).ok_or_else(|| rusqlite::types::FromSqlError::InvalidType.into())
}

/// A request that was taken out of the quarantine; [`Quarantine::forget`] must follow the commit.
#[derive(Debug)]
pub(super) struct Removed {
    peer: String,
    answer: RefusalAnswer,
    bytes: u64,
}

/// Deletes a request, in the caller's transaction; `None` where it is gone already.
pub(super) fn remove(connection: &Connection, id: i64) -> rusqlite::Result<Option<Removed>> {
    let of_row = bytes_of_row();
    connection
        .prepare_cached(&format!("DELETE FROM quarantine WHERE id = ?1 RETURNING peer, answer, {of_row}"))?
        .query_row([id], |row| Ok(Removed { peer: row.get(0)?, answer: answer(row.get(1)?)?, bytes: row.get(2)? }))
        .optional()
}

/// A request that a filter was held against.
pub(super) struct Candidate {
    pub(super) id: i64,
    pub(super) bytes: u64,
    pub(super) body_sha256: Digest,
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
        "SELECT id, length(body), {matches}, body_sha256 FROM quarantine WHERE id > ?1 AND id <= ?2 AND {wanted} ORDER BY id LIMIT {limit}"
    ))?;
    let bounds = [after.into(), upto.into()];
    let rows = rows.query_map(params_from_iter(bounds.iter().chain(conditions.parameters())), |row| {
        let Stored(body_sha256) = row.get(3)?;
        Ok(Candidate { id: row.get(0)?, bytes: row.get(1)?, matches: row.get(2)?, body_sha256 })
    })?;
    rows.collect()
}

/// One subscriber of IPv6 holds a /64: by address, its share would be without bound.
pub(super) fn peer_name(peer: IpAddr) -> String {
    match peer.to_canonical() {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            format!("{}/64", Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}
