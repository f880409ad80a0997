//! Reading JSON leniently: members of an object as they are written, whatever the other members hold.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// A body as text: a byte order mark is left out, and bytes that are not UTF-8 are read as U+FFFD.
pub(super) fn decode(body: &[u8]) -> Cow<'_, str> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
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
    object(text, Members { names })
}

/// [`members`] of an object and of the object that is its last named member, in one pass as long as that is one; all
/// missing where it is something else. The last named member itself is not handed out.
pub(super) fn members_nested<'a, const N: usize, const M: usize>(
    text: &'a str,
    names: &[&str; N],
    inner_names: &[&str; M],
) -> Option<(Found<'a, N>, Found<'a, M>)> {
    object(text, Nested { names, inner_names }).or_else(|| {
        let mut outer = members(text, names)?;
        let inner = outer.last_mut().and_then(Option::take).and_then(|raw| members(raw, inner_names));
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
                _ => drop(map.next_value::<IgnoredAny>()?),
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
                    inner = Some(map.next_value_seed(Members { names: self.inner_names })?);
                }
                Some(at) if at + 1 < N && found[at].is_none() => found[at] = Some(map.next_value::<&RawValue>()?.get()),
                _ => drop(map.next_value::<IgnoredAny>()?),
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
            members_nested(text, &["a", "data"], &["b"])
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
