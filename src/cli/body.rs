//! A body, for people.

use data_encoding::BASE64;

use crate::model::{Reading, content_encoding};

/// A body for reading, unpacked where its headers say that it is compressed: JSON indented, with every number and string exactly as it came; other
/// text as it is; anything else in base64. Not yet clean for a terminal.
pub(crate) fn pretty(body: &[u8], headers: &[(String, String)]) -> String {
    let encoding = content_encoding(headers);
    let reading = Reading::of(body, encoding.as_deref());
    let shown = if reading.is_json() {
        indented(&reading.text())
    } else {
        match std::str::from_utf8(reading.bytes()) {
            Ok(text) => text.to_owned(),
            Err(_) => format!("(not UTF-8 text; in base64)\n{}", BASE64.encode(reading.bytes())),
        }
    };
    let is_text = std::str::from_utf8(reading.bytes()).is_ok();
    match encoding.filter(|_| reading.was_unpacked()) {
        Some(encoding) => format!("(received as {encoding}; unpacked)\n{shown}"),
        None if reading.is_json() && !is_text => format!("(with bytes that are not UTF-8)\n{shown}"),
        None => shown,
    }
}

/// Valid JSON with line breaks. Works on the text: going through numbers would turn `1.10` into `1.1`.
fn indented(json: &str) -> String {
    let mut out = String::with_capacity(json.len() * 2);
    let mut depth = 0_usize;
    let mut chars = json.chars().peekable();
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", depth));
    };
    while let Some(c) = chars.next() {
        match c {
            '"' => {
                out.push(c);
                while let Some(c) = chars.next() {
                    out.push(c);
                    match c {
                        '\\' => out.extend(chars.next()),
                        '"' => break,
                        _ => {}
                    }
                }
            }
            '{' | '[' => {
                out.push(c);
                while chars.next_if(|c| c.is_ascii_whitespace()).is_some() {}
                match chars.next_if(|&c| c == '}' || c == ']') {
                    Some(end) => out.push(end),
                    None => {
                        depth += 1;
                        line(&mut out, depth);
                    }
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            c if c.is_ascii_whitespace() => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_indented_and_otherwise_untouched() {
        let body =
            br#"{ "rate":1.10,"big":12345678901234567890123, "a":[],"o": { },"s":"x,\"}{:\\","l":[1,{"k":null}] }"#;
        let shown = pretty(body, &[]);
        let expected = "{\n  \"rate\": 1.10,\n  \"big\": 12345678901234567890123,\n  \"a\": [],\n  \"o\": {},\n  \
                        \"s\": \"x,\\\"}{:\\\\\",\n  \"l\": [\n    1,\n    {\n      \"k\": null\n    }\n  ]\n}";
        assert_eq!(shown, expected);
        assert_eq!(pretty(b"{not json", &[]), "{not json");
        assert!(pretty(b"\xff\xfe", &[]).contains("//4="));
        assert_eq!(pretty(b"\xef\xbb\xbf[]", &[]), "[]");
        assert_eq!(pretty(b"[\"\xff\"]", &[]), "(with bytes that are not UTF-8)\n[\n  \"\u{fffd}\"\n]");
        let packed = data_encoding::HEXLOWER.decode(b"1f8b0800000000000203abae050043bfa6a302000000").unwrap();
        assert_eq!(
            pretty(&packed, &[("content-encoding".to_owned(), "gzip".to_owned())]),
            "(received as gzip; unpacked)\n{}"
        );
    }
}
