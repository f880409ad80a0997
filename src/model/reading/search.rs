//! Whether a body holds a text, as a person sees it.

use std::borrow::Cow;

use icu_normalizer::ComposingNormalizerBorrowed;
use memchr::memmem::Finder;

use super::Reading;
use crate::model::json;

/// A text to be looked for in many bodies.
#[derive(Clone, Debug)]
pub struct Search {
    as_typed: Finder<'static>,
    /// Letters composed with their accents.
    composed: Finder<'static>,
    is_ascii: bool,
}

impl Search {
    /// For this text, in its case.
    pub fn new(text: &str) -> Self {
        Self {
            as_typed: Finder::new(text).into_owned(),
            composed: Finder::new(compose(text).as_bytes()).into_owned(),
            is_ascii: text.is_ascii(),
        }
    }

    /// Whether a body holds it: in its bytes, or in what is read from them, with JSON's escapes taken for the characters that
    /// they stand for and letters with accents compared whichever way they are made up.
    ///
    /// ```
    /// use ralio_relay::model::Search;
    ///
    /// assert!(Search::new("José").is_in(br#"{"name":"Jos\u00e9"}"#, None));
    /// assert!(!Search::new("Jose").is_in(br#"{"name":"Jos\u00e9"}"#, None));
    /// ```
    pub fn is_in(&self, body: &[u8], content_encoding: Option<&str>) -> bool {
        if self.as_typed.find(body).is_some() {
            return true;
        }
        let is_packed = content_encoding.is_some();
        // The bulk of a long search ends here.
        if !is_packed && self.is_ascii && memchr::memchr(b'\\', body).is_none() {
            return false;
        }
        let reading = Reading::of(body, content_encoding);
        if is_packed && self.as_typed.find(reading.bytes()).is_some() {
            return true;
        }
        let text = reading.text();
        let text = if text.contains('\\') { Cow::Owned(json::unescape(&text)) } else { text };
        if self.is_ascii || text.is_ascii() {
            return self.as_typed.find(text.as_bytes()).is_some();
        }
        self.composed.find(compose(&text).as_bytes()).is_some()
    }
}

fn compose(text: &str) -> Cow<'_, str> {
    ComposingNormalizerBorrowed::new_nfc().normalize(text)
}
