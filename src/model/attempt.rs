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
///
/// What the far side answered stands beside it, because it may repeat the event: it is stored, and never logged.
#[derive(Clone, PartialEq, Eq)]
pub struct Reason {
    text: Arc<str>,
    answer: Option<Arc<str>>,
}

const MAX_NOTE_BYTES: usize = 9 << 9;

const MAX_SHOWN_BYTES: usize = 256;

/// What is kept of the far side's answer.
pub const MAX_ANSWER_BYTES: usize = 1 << 10;

/// What lists show of a reason and an answer.
const MAX_TOLD_CHARS: usize = 120;

/// The beginning of a text, without control characters.
fn bounded(text: &str, max_bytes: usize) -> String {
    let mut text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    text.truncate(text.floor_char_boundary(max_bytes));
    text
}

/// The beginning of a text, short enough for a line of the log.
fn shown(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_SHOWN_BYTES)]
}

/// A reason and what the far side answered, as lists show them: at most 120 characters, with dots where there is more.
pub fn told(reason: &str, answer: Option<&str>) -> String {
    let whole = match answer {
        Some(answer) => format!("{reason}: {answer}"),
        None => reason.to_owned(),
    };
    match whole.char_indices().nth(MAX_TOLD_CHARS) {
        None => whole,
        Some(_) => whole.chars().take(MAX_TOLD_CHARS - 3).chain("...".chars()).collect(),
    }
}

impl Receipt {
    /// Cuts the text to its bound and replaces control characters, so that it cannot forge a log line.
    pub fn new(text: impl AsRef<str>) -> Self {
        Self(bounded(text.as_ref(), MAX_NOTE_BYTES).into())
    }

    /// The whole text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(shown(&self.0))
    }
}

impl Reason {
    /// Cuts the text to its bound and replaces control characters, so that it cannot forge a log line.
    pub fn new(text: impl AsRef<str>) -> Self {
        Self { text: bounded(text.as_ref(), MAX_NOTE_BYTES).into(), answer: None }
    }

    /// The same with what the far side answered: the first KiB of it. An answer without a word is none.
    pub fn with_answer(self, answer: impl AsRef<str>) -> Self {
        let answer = bounded(answer.as_ref().trim(), MAX_ANSWER_BYTES);
        let answer = answer.trim();
        Self { answer: (!answer.is_empty()).then(|| answer.into()), ..self }
    }

    /// The whole text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Both in one line for lists: the reason and the beginning of the far side's answer. Stored and shown, never logged.
    pub fn told(&self) -> String {
        told(self.as_str(), self.answer())
    }

    /// What the far side answered. Not for the log.
    pub fn answer(&self) -> Option<&str> {
        self.answer.as_deref()
    }
}

/// The text's beginning, without the answer.
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(shown(&self.text))
    }
}

/// Without the answer, so that no log line can hold it.
impl fmt::Debug for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Reason").field(&self.text).finish()
    }
}

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

    /// A failure with what the far side answered. A delivery has its receipt instead.
    pub fn with_answer(self, answer: impl AsRef<str>) -> Self {
        match self {
            Self::Delivered { .. } => self,
            Self::Transient { reason, retry_after } => {
                Self::Transient { reason: reason.with_answer(answer), retry_after }
            }
            Self::Permanent { reason } => Self::Permanent { reason: reason.with_answer(answer) },
        }
    }

    /// What came of it in one line for lists: a failure's reason and the beginning of the far side's answer, or the
    /// receipt. Stored and shown to people, never logged.
    pub fn told(&self) -> String {
        match self {
            Self::Delivered { receipt } => told(receipt.as_str(), None),
            Self::Transient { reason, .. } | Self::Permanent { reason } => reason.told(),
        }
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

    #[test]
    fn an_answer_is_kept_bounded_and_never_logged() {
        let answer = format!(" {{\"error\":\"no\tamount\u{1b}[2J\"}}\n{}", "é".repeat(2000));
        let outcome = Outcome::permanent("HTTP 422").with_answer(&answer);
        let Outcome::Permanent { reason } = &outcome else { panic!() };
        let kept = reason.answer().unwrap();
        assert!(kept.starts_with("{\"error\":\"no amount [2J\"} é") && kept.len() <= MAX_ANSWER_BYTES, "{kept}");
        assert!(kept.len() > 1000 && !kept.contains(char::is_control));
        assert_eq!(reason.to_string(), "HTTP 422");
        assert!(!format!("{outcome:?}").contains("amount"));
        assert_eq!(Reason::new("HTTP 422").with_answer(" \n\u{1b} ").answer(), None);
    }

    #[test]
    fn lists_are_told_the_reason_and_the_beginning_of_the_answer() {
        let answer = "{\"error\":\"field amount is missing\"}";
        assert_eq!(Outcome::permanent("HTTP 422").with_answer(answer).told(), format!("HTTP 422: {answer}"));
        assert_eq!(Outcome::transient("down").told(), "down");
        assert_eq!(Outcome::delivered("HTTP 200").with_answer("thanks").told(), "HTTP 200");
        let long = Outcome::transient("HTTP 503").with_answer("é".repeat(500)).told();
        assert!(long.chars().count() == 120 && long.ends_with("é..."), "{long}");
        assert_eq!(told(&"x".repeat(120), None), "x".repeat(120));
    }
}
