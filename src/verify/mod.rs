//! Signatures: `Unverified -> Verified`, and nothing else makes a [`Verified`]. Pure.

mod fingerprint;
mod keys;
mod signature;
#[cfg(test)]
mod tests;

use std::fmt;

use bytes::Bytes;

use crate::model::SourceName;

pub use fingerprint::Fingerprint;
pub use keys::{Check, Keys, NoSecret, sign};

/// A header that is kept with a delivery, as received.
pub type Header = (String, String);

/// Why a signature did not hold. The label is stored in the quarantine and counted in metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// No signature header.
    Missing,
    /// More than one signature, and they differ.
    Repeated,
    /// Not 32 bytes in hex or base64.
    Undecodable,
    /// Well formed, but made with another secret or for another body.
    Mismatch,
}

impl Rejection {
    /// Every rejection.
    pub const ALL: [Self; 4] = [Self::Missing, Self::Repeated, Self::Undecodable, Self::Mismatch];

    /// The name in the quarantine, in metrics and in JSON.
    pub fn label(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Repeated => "repeated",
            Self::Undecodable => "undecodable",
            Self::Mismatch => "mismatch",
        }
    }

    /// The rejection of that [`label`](Self::label).
    pub fn from_label(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rejection| rejection.label() == label)
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// A delivery as it came in. Its body is opaque until its signature holds.
#[derive(Clone)]
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

/// Without what is private: this may end up in a log.
impl fmt::Debug for Unverified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unverified")
            .field("source", &self.source)
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// A delivery whose signature holds.
#[derive(Clone, Debug)]
pub struct Verified {
    delivery: Unverified,
    slot: usize,
    secret: Fingerprint,
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
    /// Checks the signature against every slot, with work that depends on nothing but the length of the body and the
    /// number of slots.
    ///
    /// ```
    /// use bytes::Bytes;
    /// use ralio_relay::model::SourceName;
    /// use ralio_relay::verify::{Keys, Rejection, Unverified, sign};
    ///
    /// let body = Bytes::from_static(br#"{"eventId":"evt-1","eventType":"payin_completed"}"#);
    /// let mut delivery = Unverified {
    ///     source: SourceName::new("sandbox")?,
    ///     signatures: vec![sign(b"secret", &body).into()],
    ///     content_type: None,
    ///     headers: Vec::new(),
    ///     body,
    /// };
    /// let keys = Keys::new(&["secret"])?;
    /// assert!(delivery.clone().verify(&keys).is_ok());
    /// delivery.body = Bytes::from_static(b"{}");
    /// assert_eq!(delivery.verify(&keys).unwrap_err().reason, Rejection::Mismatch);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[expect(clippy::result_large_err, reason = "either way the whole delivery is given back")]
    pub fn verify(self, keys: &Keys) -> Result<Verified, Rejected> {
        let mut check = keys.begin();
        check.update(&self.body);
        match check.signer(&self.signatures) {
            Ok((slot, secret)) => Ok(Verified { delivery: self, slot, secret }),
            Err(reason) => Err(Rejected { delivery: self, reason }),
        }
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

    /// The fingerprint of the secret that signed it.
    pub fn secret(&self) -> Fingerprint {
        self.secret
    }

    /// The body.
    pub fn body(&self) -> &Bytes {
        &self.delivery.body
    }

    /// The signature exactly as received (it decoded, so it is ASCII); one where several came that agree.
    pub fn signature(&self) -> &str {
        let value = &self.delivery.signatures[0];
        let value = if value.contains(&b',') { signature::members(value).next().unwrap_or_default() } else { value };
        std::str::from_utf8(value).unwrap_or_default()
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
