//! Requests refused for their signature, kept within bounds in case it was our secret that was stale.

use std::fmt;
use std::net::IpAddr;

use bytes::Bytes;
use jiff::Timestamp;

use super::event::size as told;
use crate::model::Digest;
use crate::verify::{Header, Rejected, Rejection};

/// A request to be kept.
#[derive(Clone, Debug)]
pub struct Refused {
    /// The delivery, and why it was refused.
    pub rejected: Rejected,
    /// Who sent it; each peer has a share of the quarantine and evicts only its own oldest.
    pub peer: IpAddr,
    /// When it had been read.
    pub received_at: Timestamp,
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
        let Self { id, source, peer, received_at, reason, size, body_sha256, signatures, content_type, headers, body } =
            self;
        f.debug_struct("Quarantined")
            .field("id", id)
            .field("source", source)
            .field("peer", peer)
            .field("received_at", received_at)
            .field("reason", reason)
            .field("size", size)
            .field("body_sha256", body_sha256)
            .field("signatures", signatures)
            .field("content_type", content_type)
            .field("headers", headers)
            .field("body", &told(body.as_ref()))
            .finish()
    }
}
