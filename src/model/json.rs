//! Reading JSON leniently: members of an object as they are written, whatever the other members hold.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// What some editors and libraries put before a text.
pub(super) const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Bytes as text: what is not UTF-8 is read as U+FFFD.
pub(super) fn decode(body: &[u8]) -> Cow<'_, str> {
    // Much faster than the lossy reading, for the bodies that need none.
    std::str::from_utf8(body).map_or_else(|_| String::from_utf8_lossy(body), Cow::Borrowed)
}

/// Whether the text is one JSON value (RFC 8259) of any kind. Takes any depth of nesting and any size of number.
pub(super) fn is_json(text: &str) -> bool {
    serde_json::from_str::<&RawValue>(text).is_ok()
}

/// Members of an object as they are written, in the order of the names asked for.
pub(super) type Found<'a, const N: usize> = [Option<&'a str>; N];

/// The named members of an object, each as it is written, in the order of `names`; of a repeated member the first.
/// `None` unless the text is one JSON object. One pass, nothing copied, no recursion; what the members hold is checked
/// for grammar only, so that no value (a huge number, an unpaired surrogate) can spoil the others.
pub(super) fn members<'a, const N: usize>(text: &'a str, names: &[&str; N]) -> Option<Found<'a, N>> {
    object(text, Members { names, is_repeated: &Cell::default() })
}

/// [`members`] of an object and of the object that is its last named member, in one pass as long as that is one; all
/// missing where it is something else. The last named member itself is not handed out. `is_repeated` is set where one of
/// these members is given more than once.
pub(super) fn members_nested<'a, const N: usize, const M: usize>(
    text: &'a str,
    names: &[&str; N],
    inner_names: &[&str; M],
    is_repeated: &Cell<bool>,
) -> Option<(Found<'a, N>, Found<'a, M>)> {
    object(text, Nested { names, inner_names, is_repeated }).or_else(|| {
        let mut outer = object(text, Members { names, is_repeated })?;
        let inner = outer.last_mut().and_then(Option::take);
        let inner = inner.and_then(|raw| object(raw, Members { names: inner_names, is_repeated }));
        Some((outer, inner.unwrap_or([None; M])))
    })
}

fn object<'a, V: Visitor<'a>>(text: &'a str, visitor: V) -> Option<V::Value> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let found = deserializer.deserialize_map(visitor).ok()?;
    deserializer.end().ok()?;
    Some(found)
}

struct Members<'n, const N: usize> {
    names: &'n [&'n str; N],
    is_repeated: &'n Cell<bool>,
}

impl<'de, const N: usize> Visitor<'de> for Members<'_, N> {
    type Value = Found<'de, N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = [None; N];
        while let Some(name) = map.next_key_seed(NameIn(self.names))? {
            match name {
                Some(at) if found[at].is_none() => found[at] = Some(map.next_value::<&RawValue>()?.get()),
                other => {
                    self.is_repeated.set(self.is_repeated.get() || other.is_some());
                    let IgnoredAny = map.next_value()?;
                }
            }
        }
        Ok(found)
    }
}

impl<'de, const N: usize> DeserializeSeed<'de> for Members<'_, N> {
    type Value = Found<'de, N>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

struct Nested<'n, const N: usize, const M: usize> {
    names: &'n [&'n str; N],
    inner_names: &'n [&'n str; M],
    is_repeated: &'n Cell<bool>,
}

impl<'de, const N: usize, const M: usize> Visitor<'de> for Nested<'_, N, M> {
    type Value = (Found<'de, N>, Found<'de, M>);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = [None; N];
        let mut inner = None;
        while let Some(name) = map.next_key_seed(NameIn(self.names))? {
            match name {
                Some(at) if at + 1 == N && inner.is_none() => {
                    let members = Members { names: self.inner_names, is_repeated: self.is_repeated };
                    inner = Some(map.next_value_seed(members)?);
                }
                Some(at) if at + 1 < N && found[at].is_none() => found[at] = Some(map.next_value::<&RawValue>()?.get()),
                other => {
                    self.is_repeated.set(self.is_repeated.get() || other.is_some());
                    let IgnoredAny = map.next_value()?;
                }
            }
        }
        Ok((found, inner.unwrap_or([None; M])))
    }
}

/// The place of a member's name in the list. Names are read as bytes, which any string can be.
struct NameIn<'n, const N: usize>(&'n [&'n str; N]);

impl<'de, const N: usize> DeserializeSeed<'de> for NameIn<'_, N> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_bytes(self)
    }
}

impl<const N: usize> Visitor<'_> for NameIn<'_, N> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_bytes<E>(self, name: &[u8]) -> Result<Self::Value, E> {
        Ok(self.0.iter().position(|wanted| wanted.as_bytes() == name))
    }
}

/// A string's value. `None` for anything else, and for a string that no text can hold (an unpaired surrogate).
pub(super) fn string(raw: &str) -> Option<Cow<'_, str>> {
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') { serde_json::from_str(raw).ok().map(Cow::Owned) } else { Some(Cow::Borrowed(inner)) }
}

/// A string's value; halves of surrogate pairs, which no text can hold, are U+FFFD.
pub fn lossy_string(raw: &str) -> String {
    let inner = raw.strip_prefix('"').and_then(|raw| raw.strip_suffix('"')).unwrap_or(raw);
    unescape(inner)
}

/// JSON's escapes, taken for what they stand for wherever they are in a text. What is no escape stays.
pub(super) fn unescape(text: &str) -> String {
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = memchr::memchr(b'\\', rest.as_bytes()) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let (character, length) = match rest.as_bytes().get(1) {
            Some(b'u') => escaped_unit(rest),
            Some(&byte) => (simple_escape(byte), 2),
            None => (None, 1),
        };
        match character {
            Some(character) => {
                out.push(character);
                rest = &rest[length..];
            }
            None => {
                out.push('\\');
                rest = &rest[1..];
            }
        }
    }
    out.push_str(rest);
    out
}

fn simple_escape(byte: u8) -> Option<char> {
    Some(match byte {
        b'"' | b'\\' | b'/' => char::from(byte),
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        _ => return None,
    })
}

/// The character of the `\uXXXX`, or of the pair of them, that a text begins with, and the length of that.
fn escaped_unit(text: &str) -> (Option<char>, usize) {
    let unit = |text: &str| -> Option<u32> {
        let digits = text.strip_prefix("\\u")?.get(..4)?;
        let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        u32::from_str_radix(digits, 16).ok().filter(|_| is_hex)
    };
    let Some(first) = unit(text) else { return (None, 1) };
    let second = (0xd800..0xdc00).contains(&first).then(|| unit(text.get(6..)?)).flatten();
    if let Some(second) = second.filter(|second| (0xdc00..0xe000).contains(second)) {
        return (char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00)), 12);
    }
    (Some(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER)), 6)
}

/// A member's name as bytes, which any name can be; `raw` has its quotes.
pub(super) fn name_bytes(raw: &str) -> Cow<'_, [u8]> {
    if !raw.contains('\\') {
        return Cow::Borrowed(raw.trim_matches('"').as_bytes());
    }
    let mut deserializer = serde_json::Deserializer::from_str(raw);
    let name = deserializer.deserialize_bytes(Bytes);
    Cow::Owned(name.unwrap_or_else(|_| raw.as_bytes().to_vec()))
}

struct Bytes;

impl Visitor<'_> for Bytes {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_bytes<E>(self, name: &[u8]) -> Result<Self::Value, E> {
        Ok(name.to_vec())
    }
}

/// A number as it is written.
pub(super) fn number(raw: &str) -> Option<&str> {
    raw.starts_with(|c: char| c == '-' || c.is_ascii_digit()).then_some(raw)
}

/// A string's value, or a number as it is written.
pub(super) fn text(raw: &str) -> Option<Cow<'_, str>> {
    number(raw).map(Cow::Borrowed).or_else(|| string(raw))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_found_as_written() {
        let text = r#" {"b": 1.10, "a": "x\n", "other": [{"a": 2}], "\u0063": null, "a": "second"} "#;
        assert_eq!(members(text, &["a", "b", "c", "d"]), Some([Some(r#""x\n""#), Some("1.10"), Some("null"), None]));
    }

    #[test]
    fn only_one_whole_object_has_members() {
        for text in ["", "[]", "1", "\"a\"", "null", "{", "{}{}", "{} x", "{\"a\":}", "{'a':1}", "{\"a\":1,}", "{1:2}"]
        {
            assert_eq!(members(text, &["a"]), None, "{text}");
        }
    }

    #[test]
    fn nested_members_are_found_in_objects() {
        fn nested(text: &str) -> Option<(Found<'_, 2>, Found<'_, 1>)> {
            members_nested(text, &["a", "data"], &["b"], &Cell::default())
        }
        assert_eq!(nested(r#"{"data": {"b": 2, "a": 3}, "a": 1}"#), Some(([Some("1"), None], [Some("2")])));
        assert_eq!(nested(r#"{"a": 1, "data": {"b": 1}, "data": {"b": 2}}"#), Some(([Some("1"), None], [Some("1")])));
        for data in ["null", "1e999999", r#""\ud800""#, "[{}]", r#""b""#, "[]"] {
            let object = format!(r#"{{"data": {data}, "a": 1, "data": {{"b": 2}}}}"#);
            assert_eq!(nested(&object), Some(([Some("1"), None], [None])), "{data}");
        }
        assert_eq!(nested(r#"{"data": {"b": }}"#), None);
    }

    #[test]
    fn members_given_twice_are_noticed() {
        for (text, expected) in [
            (r#"{"a": 1, "data": {"b": 1, "x": 1, "x": 2}, "y": 1, "y": 2}"#, false),
            (r#"{"a": 1, "\u0061": 1}"#, true),
            (r#"{"data": {}, "data": {}}"#, true),
            (r#"{"data": {"b": 1, "b": 1}}"#, true),
            (r#"{"data": 1, "data": {"b": 1}}"#, true),
        ] {
            let is_repeated = Cell::default();
            assert!(members_nested(text, &["a", "data"], &["b"], &is_repeated).is_some());
            assert_eq!(is_repeated.get(), expected, "{text}");
        }
    }

    #[test]
    fn escapes_are_what_they_stand_for() {
        for (escaped, expected) in [
            (r"Jos\u00e9 \u002B57 a\/b", "José +57 a/b"),
            (r"\ud83d\ude00 \ud83d \ude00 \ud83dx", "😀 \u{fffd} \u{fffd} \u{fffd}x"),
            (r"\n\t\\n \x \u12 \u+123 \", "\n\t\\n \\x \\u12 \\u+123 \\"),
        ] {
            assert_eq!(unescape(escaped), expected);
        }
        assert_eq!(lossy_string(r#""\ud800\"""#), "\u{fffd}\"");
    }

    #[test]
    fn no_value_spoils_the_others() {
        let text = r#"{"\ud800": 1, "huge": 1e999999, "surrogate": "\ud800", "a": 1}"#;
        assert_eq!(members(text, &["a"]), Some([Some("1")]));
        assert_eq!(members(text, &["huge", "surrogate"]), Some([Some("1e999999"), Some(r#""\ud800""#)]));
        assert_eq!(string(r#""\ud800""#), None);
    }

    #[test]
    fn texts_are_strings_and_numbers() {
        assert_eq!(text(r#""a\u00e9""#).as_deref(), Some("aé"));
        assert_eq!(text("-1.10e400").as_deref(), Some("-1.10e400"));
        for raw in ["null", "true", "{}", "[1]"] {
            assert_eq!(text(raw), None);
        }
    }
}
