//! What tells one secret from another without giving it away.

use std::fmt;

use data_encoding::HEXLOWER;
use hmac::Mac as _;
use serde::{Serialize, Serializer};

use super::keys::keyed;

/// What is signed with a secret for its fingerprint. It is not JSON, so no provider ever signs it as a body.
const LABEL: &[u8] = b"ralio-relay secret fingerprint";

/// The first eight bytes of HMAC-SHA-256 with the secret as the key: the same for the same secret, on every machine and
/// after every start. It lets nobody compute the secret. It does let one try out guesses, as every signed delivery does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint([u8; 8]);

impl Fingerprint {
    /// Of a secret.
    ///
    /// ```
    /// use ralio_relay::verify::Fingerprint;
    /// let one = Fingerprint::of(b"secret");
    /// assert_eq!(one, Fingerprint::of(b"secret"));
    /// assert_ne!(one, Fingerprint::of(b"Secret"));
    /// assert_eq!(one.to_string().len(), 16);
    /// assert_eq!(Fingerprint::parse(&one.to_string()), Some(one));
    /// ```
    pub fn of(secret: &[u8]) -> Self {
        let tag = keyed(secret).chain_update(LABEL).finalize().into_bytes();
        Self(std::array::from_fn(|place| tag[place]))
    }

    /// From its sixteen hex digits.
    pub fn parse(text: &str) -> Option<Self> {
        HEXLOWER.decode(text.as_bytes()).ok()?.try_into().ok().map(Self)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HEXLOWER.encode_mut_str(&self.0, &mut [0; 16]))
    }
}

impl Serialize for Fingerprint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
