//! What becomes of one try to hand one event to one sink.

use std::fmt;
use std::time::Duration;

/// The far side's proof of delivery, for the ledger: `confirm 17`, `HTTP 202`, `exit 0`. At most 256 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt(String);

/// Why an attempt failed, for people. At most 256 bytes; holds no body, no secret and no control character.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason(String);

const MAX_NOTE_BYTES: usize = 256;

fn note(text: &str) -> String {
    let mut text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    text.truncate(text.floor_char_boundary(MAX_NOTE_BYTES));
    text
}

macro_rules! text {
    ($name:ident) => {
        impl $name {
            /// Cuts the text to its bound and replaces control characters, so that it cannot forge a log line.
            pub fn new(text: impl AsRef<str>) -> Self {
                Self(note(text.as_ref()))
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text!(Receipt);
text!(Reason);

/// What became of an attempt.
#[must_use = "an outcome that is dropped is an event that vanishes"]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The far side holds the event durably.
    Delivered {
        /// What it said.
        receipt: Receipt,
    },
    /// It may work later.
    Transient {
        /// Why not now.
        reason: Reason,
        /// The far side's own wish, such as HTTP `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// It will never work for this event.
    Permanent {
        /// Why.
        reason: Reason,
    },
}

impl Outcome {
    /// Delivered, with the far side's words.
    pub fn delivered(receipt: impl AsRef<str>) -> Self {
        Self::Delivered { receipt: Receipt::new(receipt) }
    }

    /// Failed for now, to be tried again on the consumer's own schedule.
    pub fn transient(reason: impl AsRef<str>) -> Self {
        Self::Transient { reason: Reason::new(reason), retry_after: None }
    }

    /// Failed for good.
    pub fn permanent(reason: impl AsRef<str>) -> Self {
        Self::Permanent { reason: Reason::new(reason) }
    }

    /// The label in metrics and in the ledger.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Delivered { .. } => "delivered",
            Self::Transient { .. } => "transient",
            Self::Permanent { .. } => "permanent",
        }
    }
}
