//! What becomes of one try to hand one event to one sink.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The far side's proof of delivery, for the ledger: `confirm 17`, `HTTP 202`, `exit 0`. At most 4.5 KiB; what is
/// displayed, as in the log, is at most the first 256 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt(Arc<str>);

/// Why an attempt failed, for people. At most 4.5 KiB; what is displayed, as in the log, is at most the first 256 bytes.
/// Holds no body, no secret and no control character; what a command of the exec sink printed is that command's affair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason(Arc<str>);

const MAX_NOTE_BYTES: usize = 9 << 9;

const MAX_SHOWN_BYTES: usize = 256;

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
                Self(note(text.as_ref()).into())
            }

            /// The whole text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        /// The beginning, short enough for a line of the log.
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0[..self.0.floor_char_boundary(MAX_SHOWN_BYTES)])
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

    /// Every [`Self::label`].
    pub const LABELS: [&'static str; 3] = ["delivered", "transient", "permanent"];

    /// The label in metrics and in the ledger.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Delivered { .. } => "delivered",
            Self::Transient { .. } => "transient",
            Self::Permanent { .. } => "permanent",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_kept_and_the_beginning_shown() {
        let long = format!("exit 3: \u{1b}[2J\n{}", "é".repeat(5000));
        for text in [Reason::new(&long).as_str(), Receipt::new(&long).as_str()] {
            assert!(text.len() > 4600 && text.len() <= 4608, "{}", text.len());
            assert!(text.starts_with("exit 3:  [2J é") && !text.contains(char::is_control));
        }
        for shown in [Reason::new(&long).to_string(), Receipt::new(&long).to_string()] {
            assert!((250..=256).contains(&shown.len()), "{shown}");
            assert!(shown.starts_with("exit 3:  [2J é") && !shown.contains(char::is_control));
        }
        assert_eq!(Reason::new("HTTP 422").to_string(), "HTTP 422");
    }
}
