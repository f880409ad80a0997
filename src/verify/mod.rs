//! Signatures: `Unverified -> Verified`, and nothing else makes a [`Verified`]. Pure.

use std::fmt;

use bytes::Bytes;

use crate::model::SourceName;

/// A header that is kept with a delivery, as received.
pub type Header = (String, String);

/// The secrets of one source, ready for use; the place in the list is the slot.
#[derive(Clone)]
pub struct Keys {
    _slots: Vec<()>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").finish_non_exhaustive()
    }
}

/// A source without secrets, or an empty secret: HMAC takes an empty key without complaint, and then verifies nothing.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a source needs at least one secret, and none may be empty")]
pub struct NoSecret;

impl Keys {
    /// Takes the secrets as they are, newest first.
    pub fn new<S: AsRef<[u8]>>(_secrets: &[S]) -> Result<Self, NoSecret> {
        Err(NoSecret)
    }
}

/// Why a signature did not hold. The label is stored in the quarantine and counted in metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// No signature header.
    Missing,
    /// More than one signature header.
    Repeated,
    /// Not 32 bytes in hex or base64.
    Undecodable,
    /// Well formed, but made with another secret or for another body.
    Mismatch,
}

/// A delivery as it came in. Its body is opaque until its signature holds.
#[derive(Clone, Debug)]
pub struct Unverified {
    /// Whose secrets apply.
    pub source: SourceName,
    /// Every value of the signature header.
    pub signatures: Vec<Bytes>,
    /// `Content-Type`, where it is text.
    pub content_type: Option<String>,
    /// Headers worth keeping, bounded, in the order of arrival.
    pub headers: Vec<Header>,
    /// The whole body.
    pub body: Bytes,
}

/// A delivery whose signature holds.
#[derive(Clone, Debug)]
pub struct Verified {
    delivery: Unverified,
    slot: usize,
}

/// A delivery whose signature does not hold, given back for the quarantine.
#[derive(Clone, Debug)]
pub struct Rejected {
    /// The delivery, still unverified.
    pub delivery: Unverified,
    /// Why.
    pub reason: Rejection,
}

impl Unverified {
    /// Checks the signature against every slot, in time that depends on nothing but the length of the body and the
    /// number of slots.
    pub fn verify(self, _keys: &Keys) -> Result<Verified, Rejected> {
        Err(Rejected { delivery: self, reason: Rejection::Missing })
    }
}

impl Verified {
    /// Whose secret signed it.
    pub fn source(&self) -> &SourceName {
        &self.delivery.source
    }

    /// Which of the source's secrets signed it.
    pub fn slot(&self) -> usize {
        self.slot
    }

    /// The body.
    pub fn body(&self) -> &Bytes {
        &self.delivery.body
    }

    /// The signature header's value exactly as received (it decoded, so it is ASCII).
    pub fn signature(&self) -> &str {
        std::str::from_utf8(&self.delivery.signatures[0]).unwrap_or_default()
    }

    /// `Content-Type` as received.
    pub fn content_type(&self) -> Option<&str> {
        self.delivery.content_type.as_deref()
    }

    /// Headers kept.
    pub fn headers(&self) -> &[Header] {
        &self.delivery.headers
    }
}
