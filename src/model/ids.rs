//! Newtype ids: a private field and one checked constructor each.

use std::fmt;
use std::sync::Arc;

use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

/// The longest event id, entity key or event type that is kept as such, in bytes: AMQP 0-9-1 short strings
/// (message-id, routing key) hold no more.
pub const MAX_ID_BYTES: usize = 255;

/// The place of an event in the log: 1 for the first, gapless, in commit order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Seq(i64);

impl Seq {
    /// Before the first event: the cursor of a consumer that has seen nothing.
    pub const ZERO: Self = Self(0);

    /// `None` for a negative number.
    pub fn new(value: i64) -> Option<Self> {
        (value >= 0).then_some(Self(value))
    }

    /// The number itself, never negative.
    pub fn get(self) -> i64 {
        self.0
    }

    /// The place after this one.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of a job: something that a person asked for, such as a replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct JobId(i64);

impl JobId {
    /// As the inbox numbered it.
    pub fn new(value: i64) -> Self {
        Self(value)
    }

    /// The number itself.
    pub fn get(self) -> i64 {
        self.0
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::str::FromStr for JobId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// SHA-256 (FIPS 180-4) of a body.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Hashes a body.
    pub fn of(body: &[u8]) -> Self {
        Self(Sha256::digest(body).into())
    }

    /// A digest that was computed elsewhere, such as one read back from the inbox.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HEXLOWER.encode_mut_str(&self.0, &mut [0; 64]))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The id that the provider gave an event; the idempotency key towards every sink.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId(Arc<str>);

impl EventId {
    /// `None` unless the text is 1 to [`MAX_ID_BYTES`] bytes of printable characters: anything else could not be
    /// passed on as a header, and is treated like a missing id.
    pub fn new(text: &str) -> Option<Self> {
        is_printable(text).then(|| Self(text.into()))
    }

    /// The id of an event that came without a usable one: derived from its body, so that a retry gets the same.
    pub fn from_digest(digest: &Digest) -> Self {
        Self(format!("sha256:{digest}").into())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What an event is about (an order, a KYC session, an account): the unit of ordering and of lifecycles.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntityKey(Arc<str>);

impl EntityKey {
    /// `None` unless the text is 1 to [`MAX_ID_BYTES`] bytes of printable characters.
    pub fn new(text: &str) -> Option<Self> {
        is_printable(text).then(|| Self(text.into()))
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl serde::Serialize for EntityKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl From<&EventId> for EntityKey {
    /// An event that names no entity is its own.
    fn from(id: &EventId) -> Self {
        Self(Arc::clone(&id.0))
    }
}

impl fmt::Display for EntityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_printable(text: &str) -> bool {
    // Nearly all are ASCII; looking at every byte is quicker than stopping at the first.
    let is_control = || match text.is_ascii() {
        true => text.bytes().fold(false, |any, byte| any | byte.is_ascii_control()),
        false => text.chars().any(char::is_control),
    };
    (1..=MAX_ID_BYTES).contains(&text.len()) && !is_control()
}

/// A name that cannot name a source or a sink.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("'{0}' is not a name: use 1 to 64 of a-z, A-Z, 0-9, '-', '_' and '.'")]
pub struct InvalidName(String);

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Accepts 1 to 64 of `a-z A-Z 0-9 - _ .`: safe as a metric label, a URI segment and a log field.
            pub fn new(text: &str) -> Result<Self, InvalidName> {
                let ok = (1..=64).contains(&text.len())
                    && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
                if ok { Ok(Self(text.into())) } else { Err(InvalidName(text.to_owned())) }
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::new(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
            }
        }
    };
}

name! {
    /// The configured name of a source: a registered endpoint with its secrets.
    SourceName
}
name! {
    /// The configured name of a sink: a destination. Its cursor in the inbox hangs on it.
    SinkName
}
