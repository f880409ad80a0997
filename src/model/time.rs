//! The times of events, as they are written by whomever.

use std::borrow::Cow;

use jiff::{SignedDuration, Timestamp};

/// Digits of a fraction of a second that a time holds; more are cut off.
const FRACTION: usize = 9;

/// Up to the seconds: `2026-02-26T17:02:28`.
const TO_THE_SECOND: usize = 19;

/// The moment that is meant, where a person can tell it: RFC 3339 and what comes near to it, a date as in mail (RFC 2822), or a
/// number of seconds, milliseconds, microseconds or nanoseconds since 1970. Without an offset no moment is meant.
pub(super) fn read(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    text.parse().ok().or_else(|| tidied(text)).or_else(|| since_1970(text)).or_else(|| of_mail(text))
}

/// With any number of digits in its fraction, blanks before its offset, `UTC` for that, or 24:00 for the end of a day.
fn tidied(text: &str) -> Option<Timestamp> {
    let (head, tail) = text.split_at_checked(TO_THE_SECOND)?;
    let (is_end_of_day, head) = match head.get(11..)? {
        "24:00:00" => (true, Cow::Owned(format!("{}00:00:00", &head[..11]))),
        _ => (false, Cow::Borrowed(head)),
    };
    let (fraction, zone) = match tail.strip_prefix(['.', ',']) {
        Some(rest) => rest.split_at(rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())),
        None => ("", tail),
    };
    if is_end_of_day && fraction.bytes().any(|digit| digit != b'0') {
        return None;
    }
    let fraction = &fraction[..fraction.len().min(FRACTION)];
    let zone: String = zone.chars().filter(|c| !c.is_whitespace()).collect();
    let zone = if zone.eq_ignore_ascii_case("utc") || zone.eq_ignore_ascii_case("gmt") { "Z" } else { &zone };
    let point = if fraction.is_empty() { "" } else { "." };
    let time: Timestamp = format!("{head}{point}{fraction}{zone}").parse().ok()?;
    time.checked_add(SignedDuration::from_hours(if is_end_of_day { 24 } else { 0 })).ok()
}

/// The unit shows in the number of digits: seconds have had ten since 2001, and will until 2286.
fn since_1970(text: &str) -> Option<Timestamp> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if ![whole, fraction].iter().all(|digits| digits.bytes().all(|digit| digit.is_ascii_digit())) {
        return None;
    }
    let number: i64 = whole.parse().ok().filter(|_| !whole.starts_with('0'))?;
    match whole.len() {
        10 => {
            let nanoseconds = format!("{fraction:0<FRACTION$}")[..FRACTION].parse().ok()?;
            Timestamp::new(number, nanoseconds).ok()
        }
        13 => Timestamp::from_millisecond(number).ok(),
        16 => Timestamp::from_microsecond(number).ok(),
        19 => Timestamp::from_nanosecond(number.into()).ok(),
        _ => None,
    }
}

fn of_mail(text: &str) -> Option<Timestamp> {
    Some(jiff::fmt::rfc2822::parse(text).ok()?.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_that_a_person_can_tell_is_read() {
        for (text, expected) in [
            ("2026-02-26T17:02:28Z", "2026-02-26T17:02:28Z"),
            ("2026-02-26T17:02:28.1234567891Z", "2026-02-26T17:02:28.123456789Z"),
            ("2026-02-26T17:02:28.99999999999999999999-05:00", "2026-02-26T22:02:28.999999999Z"),
            ("2026-02-26T24:00:00Z", "2026-02-27T00:00:00Z"),
            ("2026-12-31 24:00:00.000+01:00", "2026-12-31T23:00:00Z"),
            ("2026-02-26T17:02:28.123 Z", "2026-02-26T17:02:28.123Z"),
            (" 2026-02-26T17:02:28 +0100\n", "2026-02-26T16:02:28Z"),
            ("2026-02-26 17:02:28 UTC", "2026-02-26T17:02:28Z"),
            ("2026-02-26T17:02:28,123Z", "2026-02-26T17:02:28.123Z"),
            ("2026-06-30T23:59:60Z", "2026-06-30T23:59:59Z"),
            ("2026-02-26T17:02:28.123+0000", "2026-02-26T17:02:28.123Z"),
            ("2026-02-26t17:02:28z", "2026-02-26T17:02:28Z"),
            ("1772125348", "2026-02-26T17:02:28Z"),
            ("1772125348.5", "2026-02-26T17:02:28.5Z"),
            ("1772125348123", "2026-02-26T17:02:28.123Z"),
            ("1772125348123456", "2026-02-26T17:02:28.123456Z"),
            ("1772125348123456789", "2026-02-26T17:02:28.123456789Z"),
            ("Thu, 26 Feb 2026 17:02:28 -0500", "2026-02-26T22:02:28Z"),
        ] {
            assert_eq!(read(text).map(|time| time.to_string()).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn a_moment_that_nobody_can_tell_is_missing() {
        for text in [
            "",
            "yesterday",
            "2026-02-26",
            "2026-02-26T17:02:28",
            "2026-02-26T17:02:28.123",
            "2026-02-26T24:00:01Z",
            "2026-02-26T24:00:00.5Z",
            "2026-13-26T17:02:28Z",
            "2026-02-30T17:02:28Z",
            "26/02/2026 17:02:28 Z",
            "0",
            "-1772125348",
            "12345",
            "0000000001",
            "99999999999999999999",
            "1772125348.5x",
            "2026-02-26T17:02:2\u{e9}Z",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
