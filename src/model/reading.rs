//! One reading of a body, for all who look into it: the envelope, filters, views, lists, pages and sinks.
//!
//! A body is stored and signed as received. To be read it is unpacked, a byte order mark is left out, bytes that are not
//! UTF-8 are read as U+FFFD, and of members that an object gives twice the first counts.

mod repeated;
mod search;
mod unpack;

use std::borrow::Cow;

use serde_json::value::RawValue;

pub use search::Search;

use super::json;

/// The longest `Content-Encoding` that is passed on: AMQP short strings hold no more.
const MAX_ENCODING_BYTES: usize = 255;

/// A body as it is read.
#[derive(Clone, Debug)]
pub struct Reading<'a> {
    /// Unpacked, without a byte order mark.
    bytes: Cow<'a, [u8]>,
    was_unpacked: bool,
}

impl<'a> Reading<'a> {
    /// Reads a body. A `Content-Encoding` of gzip or deflate is undone, up to a limit that hangs on the body's size alone, so
    /// that a body reads alike for ever. What is not packed as it says, or not at all, is read as it is.
    ///
    /// ```
    /// use ralio_relay::model::Reading;
    ///
    /// let reading = Reading::of(b"\xef\xbb\xbf{\"a\": 1, \"a\": 2}", None);
    /// assert_eq!(reading.text(), r#"{"a": 1, "a": 2}"#);
    /// assert_eq!(reading.repeated_members(), ["a"]);
    /// ```
    pub fn of(body: &'a [u8], content_encoding: Option<&str>) -> Self {
        let unpacked = content_encoding.and_then(|encoding| unpack::unpack(body, encoding));
        let was_unpacked = unpacked.is_some();
        let bytes = match unpacked {
            Some(mut bytes) => {
                if bytes.starts_with(json::BYTE_ORDER_MARK) {
                    bytes.drain(..json::BYTE_ORDER_MARK.len());
                }
                Cow::Owned(bytes)
            }
            None => Cow::Borrowed(body.strip_prefix(json::BYTE_ORDER_MARK).unwrap_or(body)),
        };
        Self { bytes, was_unpacked }
    }

    /// What is read: the body unpacked, without a byte order mark.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether it was compressed, as its `Content-Encoding` says.
    pub fn was_unpacked(&self) -> bool {
        self.was_unpacked
    }

    /// The same as text: bytes that are not UTF-8 are U+FFFD.
    pub fn text(&self) -> Cow<'_, str> {
        json::decode(&self.bytes)
    }

    /// Whether it is one JSON value (RFC 8259). What is not is of type `malformed`.
    pub fn is_json(&self) -> bool {
        json::is_json(&self.text())
    }

    /// The JSON value as it is written; `None` where it is none, or holds bytes that are not UTF-8.
    pub fn json(&self) -> Option<&RawValue> {
        serde_json::from_slice(&self.bytes).ok()
    }

    /// Names of members that one object gives twice, each once, as far as there are; none where it is no JSON.
    pub fn repeated_members(&self) -> Vec<String> {
        let text = self.text();
        let found = repeated::find(&text);
        if found.is_empty() || !json::is_json(&text) {
            return Vec::new();
        }
        let mut names: Vec<String> = Vec::new();
        for name in found.iter().map(|member| json::lossy_string(&text[member.name.clone()])) {
            if !names.contains(&name) {
                names.push(name);
            }
            if names.len() == MAX_NAMES {
                break;
            }
        }
        names
    }

    /// Whether an object in it gives a member twice.
    pub fn is_ambiguous(&self) -> bool {
        let text = self.text();
        !repeated::find(&text).is_empty() && json::is_json(&text)
    }

    /// The JSON value with the first of repeated members only, so that every reader finds the same in it. `None` where it is
    /// no JSON, or holds bytes that are not UTF-8.
    pub fn unambiguous_json(&self) -> Option<Cow<'_, RawValue>> {
        let json = self.json()?;
        let found = repeated::find(json.get());
        if found.is_empty() {
            return Some(Cow::Borrowed(json));
        }
        let first_only = repeated::without(json.get(), &found);
        Some(Cow::Owned(RawValue::from_string(first_only).expect("JSON without some members of its objects is JSON")))
    }
}

/// The `Content-Encoding` of kept headers, where there is one that can be passed on. `identity` is none.
pub fn content_encoding(headers: &[(String, String)]) -> Option<String> {
    let values = headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("content-encoding"));
    let encodings: Vec<&str> = values
        .flat_map(|(_, value)| value.split(','))
        .map(str::trim)
        .filter(|encoding| !encoding.is_empty() && !encoding.eq_ignore_ascii_case("identity"))
        .collect();
    let encoding = encodings.join(", ");
    let is_usable = (1..=MAX_ENCODING_BYTES).contains(&encoding.len())
        && encoding.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
    is_usable.then_some(encoding)
}

/// Names of repeated members that are told.
const MAX_NAMES: usize = 20;

#[cfg(test)]
mod tests;
