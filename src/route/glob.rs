//! Globs over canonical types.

use crate::model::EventType;

/// A pattern over canonical types: `*` is any run of characters, dots included, `?` is one; all else is literal, whatever its
/// case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob(String);

/// A pattern that could never match, or is too long.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("'{0}' is not an event pattern: use a canonical type such as 'payin.completed', or a glob such as 'payin.*'")]
pub struct InvalidGlob(String);

impl Glob {
    /// Accepts 1 to 128 visible ASCII characters. Types are in lower case, and so is the pattern.
    pub fn new(pattern: &str) -> Result<Self, InvalidGlob> {
        let ok = (1..=128).contains(&pattern.len()) && pattern.bytes().all(|b| b.is_ascii_graphic());
        if ok { Ok(Self(pattern.to_ascii_lowercase())) } else { Err(InvalidGlob(pattern.to_owned())) }
    }

    /// The same of what people paste: a type in either spelling, such as the wire's `payin_completed`, or a glob.
    pub fn pasted(text: &str) -> Result<Self, InvalidGlob> {
        let canonical = EventType::canonical(text).filter(|_| !text.contains(['*', '?']));
        Self::new(canonical.as_ref().map_or(text, EventType::as_str))
    }

    /// The pattern, in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the whole type matches. Linear in the product of both lengths at worst, without recursion.
    pub fn matches(&self, text: &str) -> bool {
        let (pattern, text) = (self.0.as_bytes(), text.as_bytes());
        let (mut p, mut t) = (0, 0);
        let mut retry: Option<(usize, usize)> = None;
        while t < text.len() {
            match pattern.get(p) {
                Some(b'*') => {
                    retry = Some((p, t));
                    p += 1;
                }
                Some(&c) if c == b'?' || c == text[t].to_ascii_lowercase() => {
                    p += 1;
                    t += 1;
                }
                _ => match &mut retry {
                    Some((star, from)) => {
                        *from += 1;
                        (p, t) = (*star + 1, *from);
                    }
                    None => return false,
                },
            }
        }
        pattern[p..].iter().all(|&c| c == b'*')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        Glob::new(pattern).unwrap().matches(text)
    }

    #[test]
    fn types_may_be_pasted_from_the_wire() {
        let pasted = |text| Glob::pasted(text).map(|glob| glob.as_str().to_owned());
        assert_eq!(pasted("payin_completed").unwrap(), "payin.completed");
        assert_eq!(pasted("payin.*").unwrap(), "payin.*");
        assert_eq!(pasted("*_verified").unwrap(), "*_verified");
        assert!(pasted("").is_err());
    }

    #[test]
    fn globs_match_whole_types() {
        assert!(matches("payin.*", "payin.completed"));
        assert!(matches("*", "malformed"));
        assert!(matches("*.completed", "payout.completed"));
        assert!(matches("k?c.*", "kyc.state_updated"));
        assert!(matches("Payin.*", "payin.completed"));
        assert!(matches("payin.*", "Payin.Completed"), "it was stored before types were in lower case");
        assert!(matches("*party*session*", "related_party.kyc_session_created"));
        assert!(!matches("payin", "payin.completed"));
        assert!(!matches("payin.*", "payins.completed"));
        assert!(!matches("*.failed", "payin.failed_late"));
    }

    #[test]
    fn a_pattern_of_many_stars_ends_quickly() {
        assert!(!matches(&"*a".repeat(60), &"a".repeat(59)));
    }
}
