//! What the command line and the admin API say of the inbox in JSON: one form for both. The names and the order of the
//! fields are fixed.

mod body;
pub mod event;
pub mod filter;
pub mod job;
pub mod letter;
pub mod money;
pub mod parked;
pub mod quarantine;
pub mod record;
pub mod replay;
pub mod sink;
pub mod sink_detail;
pub mod status;
pub mod words;

use std::io;

use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;
use serde::{Serialize, Serializer};
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, SchemaFormat, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

pub use body::Body;

/// A moment as JSON has it, see [`utc`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time(pub Timestamp);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:.6}", self.0))
    }
}

impl PartialSchema for Time {
    fn schema() -> RefOr<Schema> {
        let format = SchemaFormat::KnownFormat(KnownFormat::DateTime);
        let text = ObjectBuilder::new().schema_type(Type::String).format(Some(format));
        text.description(Some("RFC 3339, in UTC, with microseconds")).into()
    }
}

impl ToSchema for Time {}

/// RFC 3339 in UTC with microseconds: what JSON output holds.
pub fn utc(at: Timestamp) -> String {
    format!("{at:.6}")
}

/// [`utc`], into a line that is put together.
pub fn write_utc(at: Timestamp, line: &mut Vec<u8>) -> io::Result<()> {
    const PRINTER: DateTimePrinter = DateTimePrinter::new().precision(Some(6));
    PRINTER.print_timestamp(&at, line).map_err(io::Error::other)
}

/// Text that stays in the inbox as somebody's reason.
pub fn reason(text: &str) -> Result<String, &'static str> {
    let text = text.trim();
    match text.len() {
        0 => Err("say why, in a few words: it is kept with what was done"),
        1..=1000 if !text.contains(char::is_control) => Ok(text.to_owned()),
        _ => Err("write at most 1000 bytes, on one line"),
    }
}

/// Events per second that a replay is held to.
pub fn rate(rate: f64) -> Result<f64, &'static str> {
    let fits = (0.001..=1_000_000.0).contains(&rate);
    if fits { Ok(rate) } else { Err("write a number of events a second, from 0.001 to 1000000") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_a_line() {
        assert_eq!(reason("  because \n"), Ok("because".to_owned()));
        assert!(reason(" \n").is_err() && reason("a\nb").is_err() && reason(&"x".repeat(1001)).is_err());
    }

    #[test]
    fn times_are_utc_with_microseconds() {
        let at: Timestamp = "2026-02-26T17:02:28.7667797-05:00".parse().unwrap();
        assert_eq!(utc(at), "2026-02-26T22:02:28.766779Z");
        assert_eq!(utc("2026-02-26T22:02:28Z".parse().unwrap()), "2026-02-26T22:02:28.000000Z");
    }
}
