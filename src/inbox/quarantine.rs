//! Requests refused for their signature, kept within bounds in case it was our secret that was stale.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;

use super::event::size as told;
use crate::model::Digest;
use crate::verify::{Header, Rejected, Rejection};

/// Bounds of the quarantine, and what becomes of its requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuarantineLimits {
    /// Requests kept.
    pub max_entries: u32,
    /// Bytes of them: bodies, headers and signatures, and what a row needs besides.
    pub max_bytes: u64,
    /// How long a request is kept.
    pub max_age: Duration,
    /// Whether the daemon admits what is genuine by itself when a source's secrets have changed, and at a start.
    pub admits_by_itself: bool,
}

impl Default for QuarantineLimits {
    fn default() -> Self {
        Self {
            max_entries: 10_000,
            max_bytes: 64 << 20,
            max_age: Duration::from_secs(30 * 24 * 3600),
            admits_by_itself: true,
        }
    }
}

/// What the sender of a refused request is answered once the request is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalAnswer {
    /// 401: the sender never sends it again. It stays until it is admitted, purged, or too old.
    Unauthorized,
    /// 503: the sender sends it again. The oldest of these make room for others.
    Unavailable,
}

impl RefusalAnswer {
    /// The status, as stored and as shown.
    pub fn status(self) -> u16 {
        match self {
            Self::Unauthorized => 401,
            Self::Unavailable => 503,
        }
    }

    /// The answer of that [`status`](Self::status).
    pub fn from_status(status: u16) -> Option<Self> {
        [Self::Unauthorized, Self::Unavailable].into_iter().find(|answer| answer.status() == status)
    }
}

/// A request to be kept.
#[derive(Clone, Debug)]
pub struct Refused {
    /// The delivery, and why it was refused.
    pub rejected: Rejected,
    /// Who sent it; each peer has a share of the quarantine.
    pub peer: IpAddr,
    /// When it had been read.
    pub received_at: Timestamp,
    /// What its sender is answered if it is kept. If it is not, the answer must be 503.
    pub answer: RefusalAnswer,
}

/// What became of a request that was to be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a request that is not kept must not be answered 401"]
pub enum QuarantineOutcome {
    /// It is kept, durably, or was already.
    Kept,
    /// It is not: the sender must send it again.
    NotKept(NoRoom),
}

/// Why a request is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRoom {
    /// The quarantine is full.
    #[error("the quarantine is full")]
    Full,
    /// Its address has its share of the quarantine.
    #[error("its address holds its share of the quarantine, which is half of it")]
    Share,
    /// It is larger than the largest body, or than the share of one address.
    #[error("it is larger than server.max_body, or than an address's share of the quarantine")]
    TooLarge,
    /// As many bytes as may be were written to the quarantine in the last minute.
    #[error("the quarantine takes no more bytes in this minute")]
    Rate,
    /// Too many refused requests wait to be written.
    #[error("too many refused requests wait to be written")]
    Busy,
}

/// How many requests the quarantine holds, and what it could not hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QuarantineCounts {
    /// Requests kept.
    pub entries: u64,
    /// Those of them that were answered 401.
    pub answered_401: u64,
    /// Requests of late that were answered 503 and are not kept.
    pub not_kept: u64,
    /// When the first of these came in.
    pub not_kept_since: Option<Timestamp>,
}

/// A source at which every signed delivery since its last event was refused for a wrong signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedSource {
    /// Its name.
    pub source: String,
    /// How many of these deliveries are in quarantine.
    pub refused: u64,
    /// When the first of them came in.
    pub first: Timestamp,
    /// When the last of them came in.
    pub last: Timestamp,
}

/// A request as kept.
#[derive(Clone)]
pub struct Quarantined {
    /// Its number.
    pub id: i64,
    /// Whose endpoint it came to.
    pub source: String,
    /// Who sent it.
    pub peer: String,
    /// When.
    pub received_at: Timestamp,
    /// Why it was refused.
    pub reason: Rejection,
    /// What its sender was answered.
    pub answer: RefusalAnswer,
    /// Body size in bytes.
    pub size: u64,
    /// SHA-256 of the body.
    pub body_sha256: Digest,
    /// Signature headers as received, lossily as text.
    pub signatures: Vec<String>,
    /// `Content-Type`, where it is text.
    pub content_type: Option<String>,
    /// Headers kept.
    pub headers: Vec<Header>,
    /// The body; not loaded by lists.
    pub body: Option<Bytes>,
}

impl fmt::Debug for Quarantined {
    /// The body by its size.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            id,
            source,
            peer,
            received_at,
            reason,
            answer,
            size,
            body_sha256,
            signatures,
            content_type,
            headers,
            body,
        } = self;
        f.debug_struct("Quarantined")
            .field("id", id)
            .field("source", source)
            .field("peer", peer)
            .field("received_at", received_at)
            .field("reason", reason)
            .field("answer", answer)
            .field("size", size)
            .field("body_sha256", body_sha256)
            .field("signatures", signatures)
            .field("content_type", content_type)
            .field("headers", headers)
            .field("body", &told(body.as_ref()))
            .finish()
    }
}
