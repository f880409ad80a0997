//! Numbers, spans of time and lists of names in sentences.

/// A number with separators: `1,234,567`.
pub fn grouped(number: u64) -> String {
    separated(&number.to_string())
}

/// Decimal digits with separators.
pub fn separated(digits: &str) -> String {
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 event`, `2 events`.
pub fn many(number: u64, one: &str) -> String {
    format!("{} {one}{}", grouped(number), if number == 1 { "" } else { "s" })
}

/// A span of time in its two largest units, as the page writes it; none is shorter than 0 s.
pub fn span(seconds: i64) -> String {
    let total = seconds.max(0);
    let pair = |large: i64, unit: &str, small: i64, less: &str| match small {
        0 => format!("{large} {unit}"),
        small => format!("{large} {unit} {small} {less}"),
    };
    match total {
        ..60 => format!("{total} s"),
        60..3600 => pair(total / 60, "min", if total < 600 { total % 60 } else { 0 }, "s"),
        3600..86_400 => pair(total / 3600, "h", total % 3600 / 60, "min"),
        86_400.. => pair(total / 86_400, "d", if total < 864_000 { total % 86_400 / 3600 } else { 0 }, "h"),
    }
}

/// `a`, `a and b`, `a, b and c`.
pub fn list(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [name] => (*name).to_owned(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_spans_and_lists_read_well() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([many(1, "event"), many(2000, "event")], ["1 event", "2,000 events"]);
        let spans = [(-5, "0 s"), (59, "59 s"), (60, "1 min"), (61, "1 min 1 s"), (601, "10 min"), (3600, "1 h")];
        let longer = [(7260, "2 h 1 min"), (90_000, "1 d 1 h"), (864_000, "10 d"), (950_000, "10 d")];
        for (seconds, text) in spans.into_iter().chain(longer) {
            assert_eq!(span(seconds), text);
        }
        assert_eq!([list(&["a"]), list(&["a", "b"]), list(&["a", "b", "c"])], ["a", "a and b", "a, b and c"]);
    }
}
