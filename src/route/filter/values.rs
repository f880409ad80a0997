//! Events as CEL values.

use std::cell::Cell;
use std::collections::HashMap;
use std::fmt;

use cel::common::types::{CelBool, CelDouble, CelInt, CelList, CelMap, CelMapKey, CelNull, CelString, CelUInt};
use cel::common::value::Val;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::model::{Reading, lossy_string};
use crate::route::Subject;

/// Values in one body (its fields and elements, counted through all levels): bounds the memory of an evaluation.
pub(super) const MAX_VALUES: u32 = 100_000;

pub(super) type Value = Box<dyn Val>;

/// What is in `meta`.
pub(super) const META: [&str; 9] = ["type", "category", "source", "key", "id", "seq", "stale", "received_at", "time"];

/// The `meta` of an event.
pub(super) fn meta(subject: &Subject) -> Value {
    let text = |text: &str| -> Value { Box::new(CelString::from(text.to_owned())) };
    let time = subject.time.map_or_else(|| -> Value { Box::new(CelNull) }, |time| text(&time.to_string()));
    let values = [
        text(subject.event_type.as_str()),
        text(subject.event_type.category().as_str()),
        text(subject.source.as_str()),
        text(subject.key.as_str()),
        text(subject.id.as_str()),
        Box::new(CelInt::from(subject.seq.get())),
        Box::new(CelBool::from(subject.stale)),
        text(&subject.received_at.to_string()),
        time,
    ];
    let fields: HashMap<CelMapKey<'static>, Value> = META.into_iter().map(CelMapKey::from).zip(values).collect();
    Box::new(CelMap::from(fields))
}

/// A body as a value; `Err` says why it cannot be one. Recursion ends at serde_json's limit of 128 levels. Of a name
/// that is in an object twice the first value counts, as everywhere.
pub(super) fn event(reading: &Reading<'_>) -> Result<Value, &'static str> {
    let text = reading.text();
    parse(&text).or_else(|is_too_full| match is_too_full {
        true => Err(TOO_FULL),
        false if !reading.is_json() => Err("the body is not JSON"),
        false => {
            parse(&tamed(&text)).map_err(|is_too_full| if is_too_full { TOO_FULL } else { "it is nested too deeply" })
        }
    })
}

const TOO_FULL: &str = "the body has more than 100,000 values";

/// The error says whether there are too many values in it.
fn parse(text: &str) -> Result<Value, bool> {
    let (left, mut json) = (Cell::new(MAX_VALUES), serde_json::Deserializer::from_str(text));
    let value = Json { left: &left }.deserialize(&mut json);
    value.and_then(|value| json.end().map(|()| value)).map_err(|_| left.get() == 0)
}

/// JSON in which serde_json can read every value: the largest double for a number that is beyond all of them, U+FFFD for half a
/// surrogate pair.
fn tamed(json: &str) -> String {
    let (mut out, mut rest) = (String::with_capacity(json.len()), json);
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '"' => {
                let length = string_length(rest);
                out.push_str(&serde_json::Value::from(lossy_string(&rest[..length])).to_string());
                length
            }
            '-' | '0'..='9' => {
                let is_number = |c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.' | 'e' | 'E');
                let number = &rest[..rest.find(|c| !is_number(c)).unwrap_or(rest.len())];
                match number.parse::<f64>() {
                    Ok(double) if double.is_infinite() => out.push_str(&format!("{:e}", f64::MAX.copysign(double))),
                    Ok(_) | Err(_) => out.push_str(number),
                }
                number.len()
            }
            other => {
                out.push(other);
                other.len_utf8()
            }
        };
        rest = &rest[length..];
    }
    out
}

/// Of the string that a text begins with, both quotes included.
fn string_length(text: &str) -> usize {
    let mut is_escaped = false;
    let end = text.bytes().skip(1).position(|byte| {
        let is_end = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        is_end
    });
    end.map_or(text.len(), |end| end + 2)
}

#[derive(Clone, Copy)]
struct Json<'a> {
    left: &'a Cell<u32>,
}

impl Json<'_> {
    fn count<E: serde::de::Error>(self) -> Result<(), E> {
        let left = self.left.get().checked_sub(1).ok_or_else(|| E::custom("too many values"))?;
        self.left.set(left);
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Json<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.count()?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Json<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Box::new(CelBool::from(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Box::new(CelInt::from(value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        // A literal of an expression is an `int`: so is every number that can be one.
        Ok(match i64::try_from(value) {
            Ok(value) => Box::new(CelInt::from(value)),
            Err(_) => Box::new(CelUInt::from(value)),
        })
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Box::new(CelDouble::from(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Box::new(CelString::from(value.to_owned())))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Box::new(CelNull))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            list.push(item);
        }
        Ok(Box::new(CelList::from(list)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut map: HashMap<CelMapKey<'static>, Value> = HashMap::new();
        while let Some(name) = fields.next_key::<String>()? {
            let value = fields.next_value_seed(self)?;
            map.entry(CelMapKey::from(name)).or_insert(value);
        }
        Ok(Box::new(CelMap::from(map)))
    }
}
