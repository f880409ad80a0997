use std::io::Write;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use proptest::prelude::*;
use serde_json::{Map, Value};

use super::*;
use crate::model::Envelope;

const BODY: &[u8] = br#"{"eventId":"a","eventType":"payin_completed","data":{"orderId":"o"}}"#;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut packed = ZlibEncoder::new(Vec::new(), Compression::default());
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

fn bare(bytes: &[u8]) -> Vec<u8> {
    let mut packed = DeflateEncoder::new(Vec::new(), Compression::default());
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

fn type_of(body: &[u8], encoding: Option<&str>) -> String {
    Envelope::read(&Reading::of(body, encoding)).event_type.to_string()
}

#[test]
fn packed_bodies_are_read() {
    let with_mark = [json::BYTE_ORDER_MARK, BODY].concat();
    for (body, encoding) in [
        (gzip(BODY), "gzip"),
        (gzip(BODY), "X-GZIP"),
        (zlib(BODY), "deflate"),
        (bare(BODY), "Deflate"),
        (gzip(&gzip(BODY)), "gzip, gzip"),
        (gzip(&zlib(BODY)), "deflate,gzip"),
        (gzip(&with_mark), "gzip"),
        ([gzip(&BODY[..20]), gzip(&BODY[20..])].concat(), "gzip"),
    ] {
        let reading = Reading::of(&body, Some(encoding));
        assert_eq!((reading.bytes(), reading.was_unpacked()), (BODY, true), "{encoding}");
        assert_eq!(type_of(&body, Some(encoding)), "payin.completed");
        assert_eq!(type_of(&body, None), "malformed", "{encoding}");
    }
}

#[test]
fn one_byte_order_mark_is_left_out() {
    let mark = "\u{feff}";
    assert_eq!(Reading::of(format!("{mark}1").as_bytes(), None).text(), "1");
    let two = format!("{mark}{mark}1");
    let reading = Reading::of(two.as_bytes(), None);
    assert_eq!((reading.text().as_ref(), reading.is_json(), reading.json().is_some()), ("\u{feff}1", false, false));
    assert_eq!(type_of(two.as_bytes(), None), "malformed");
}

/// What says that it is packed and is not, is read as it is: some proxies unpack and leave the header.
#[test]
fn what_cannot_be_unpacked_is_read_as_it_is() {
    for encoding in ["gzip", "deflate", "br", "utf-8", "", "gzip, gzip, gzip"] {
        assert_eq!(type_of(BODY, Some(encoding)), "payin.completed", "{encoding}");
    }
    let mut broken = gzip(BODY);
    *broken.last_mut().unwrap() ^= 1;
    for body in [&broken[..], &gzip(BODY)[..30], b"\x1f\x8b", &[gzip(BODY), b"rest".to_vec()].concat()] {
        let reading = Reading::of(body, Some("gzip"));
        assert_eq!((reading.bytes(), reading.was_unpacked()), (body, false));
        assert_eq!(type_of(body, Some("gzip")), "malformed");
    }
    assert_eq!(type_of(&gzip(BODY), Some("br")), "malformed");
}

#[test]
fn bombs_do_not_go_off() {
    let small = |length: usize| gzip(&vec![b' '; length]);
    assert_eq!(Reading::of(&small(1 << 20), Some("gzip")).bytes().len(), 1 << 20);
    let bomb = small((1 << 20) + 1);
    assert!(!Reading::of(&bomb, Some("gzip")).was_unpacked());
    let within = gzip(&small(64 << 20));
    assert!(within.len() < 1 << 10, "a bomb in a bomb");
    assert!(!Reading::of(&within, Some("gzip, gzip")).was_unpacked());
    // A large one may be eight times its size.
    let noise: Vec<u8> = std::iter::repeat_with({
        let mut random = fastrand::Rng::with_seed(7);
        move || random.u8(..)
    })
    .take(400 << 10)
    .collect();
    let large = gzip(&[noise, vec![b' '; 2 << 20]].concat());
    assert!(Reading::of(&large, Some("gzip")).was_unpacked());
}

#[test]
fn the_encoding_is_found_in_headers() {
    let of = |headers: &[(&str, &str)]| {
        let headers: Vec<_> = headers.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        content_encoding(&headers)
    };
    assert_eq!(of(&[("user-agent", "gzip"), ("content-encoding", " gzip ")]).as_deref(), Some("gzip"));
    assert_eq!(of(&[("content-encoding", "deflate"), ("content-encoding", "gzip")]).as_deref(), Some("deflate, gzip"));
    for none in ["", "identity", " Identity , ,", "gz\u{e9}p", "g\nzip", &"x".repeat(256)] {
        assert_eq!(of(&[("content-encoding", none)]), None, "{none:?}");
    }
}

#[test]
fn repeated_members_are_found_and_left_out_wherever_they_are() {
    for (text, names, first_only) in [
        (r#"{"a":1,"a":2}"#, &["a"][..], r#"{"a":1}"#),
        (r#"{"a":1,"b":2,"a":3 , "c":4}"#, &["a"], r#"{"a":1,"b":2, "c":4}"#),
        (r#"{"a":1,"\u0061":{"a":1,"a":2},"b":[{"x":"}","x":"\""}]}"#, &["a", "x"], r#"{"a":1,"b":[{"x":"}"}]}"#),
        (r#"[{"\ud800":1,"\ud800":2}]"#, &["\u{fffd}"], r#"[{"\ud800":1}]"#),
        (r#"{"":1,"":2,"":3}"#, &[""], r#"{"":1}"#),
        (r#"{"a":{"a":1},"b":[{"a":1},{"a":1}],"c":["a","a"],"d":"a\",\"a"}"#, &[], ""),
        (r#"{"a":1,"a":2"#, &[], ""),
        ("[[[[", &[], ""),
        (r#"{"a"#, &[], ""),
        (r#""\"#, &[], ""),
        ("}}]]", &[], ""),
    ] {
        let reading = Reading::of(text.as_bytes(), None);
        assert_eq!(reading.is_ambiguous(), !names.is_empty(), "{text}");
        assert_eq!(sorted(reading.repeated_members()), sorted(names.iter().map(|&name| name.to_owned())), "{text}");
        if !names.is_empty() {
            assert_eq!(reading.unambiguous_json().unwrap().get(), first_only);
        }
    }
}

fn sorted(names: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut names: Vec<_> = names.into_iter().collect();
    names.sort();
    names
}

#[test]
fn large_and_deep_bodies_are_read_in_time() {
    let wide: String = (0..100_000).map(|n| format!(r#""m{n}":1,"#)).collect();
    let wide = format!(r#"{{{wide}"m7":2}}"#);
    assert_eq!(Reading::of(wide.as_bytes(), None).repeated_members(), ["m7"]);
    let deep = format!("{}{}", r#"{"a":1,"a":"#.repeat(50_000), "1}".to_owned() + &"}".repeat(49_999));
    let reading = Reading::of(deep.as_bytes(), None);
    assert_eq!(reading.unambiguous_json().unwrap().get(), r#"{"a":1}"#);
}

#[test]
fn text_is_found_as_a_person_sees_it() {
    let escaped = br#"{"name":"Jos\u00e9 O\u0027Brien \u002B57 a\/b \ud83d\ude00"}"#;
    for text in ["José", "O'Brien", "+57", "a/b", "😀", "\\u00e9", "Jos\u{65}\u{301}", "José O'Brien +57"] {
        assert!(Search::new(text).is_in(escaped, None), "{text}");
    }
    let apart = "{\"name\":\"Jose\u{301}\"}".as_bytes();
    for text in ["José", "Jose\u{301}", "Jose"] {
        assert!(Search::new(text).is_in(apart, None), "{text}");
    }
    for text in ["Jose ", "jos\u{e9}", "a\\/c", "\u{e9}\u{e9}"] {
        assert!(!Search::new(text).is_in(escaped, None), "{text}");
    }
    assert!(Search::new("").is_in(b"", None));
    assert!(Search::new("payin_completed").is_in(&gzip(BODY), Some("gzip")));
    assert!(!Search::new("payin_completed").is_in(&gzip(BODY), None));
    assert!(Search::new("rgen").is_in(b"\"J\xfcrgen\"", None));
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[ -~]{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec(("[ab\"\\\\]{0,2}", inner), 0..4)
                .prop_map(|members| Value::from(members.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// JSON in which each object has its members twice, the second time with other values.
fn doubled(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(doubled).collect::<Vec<_>>().join(" , ")),
        Value::Object(members) => {
            let first =
                members.iter().map(|(name, value)| format!("{}: {}", Value::from(name.as_str()), doubled(value)));
            let again = members.iter().map(|(name, _)| format!("{}:{{\"x\":[1,2]}}", Value::from(name.as_str())));
            format!("{{ {} }}", first.chain(again).collect::<Vec<_>>().join(",\n"))
        }
        other => other.to_string(),
    }
}

proptest! {
    #[test]
    fn the_first_of_repeated_members_is_what_is_left(value in any_json()) {
        let text = doubled(&value);
        let reading = Reading::of(text.as_bytes(), None);
        let left = reading.unambiguous_json().unwrap();
        prop_assert_eq!(serde_json::from_str::<Value>(left.get()).unwrap(), value);
        prop_assert!(!Reading::of(left.get().as_bytes(), None).is_ambiguous());
    }

    #[test]
    fn reading_is_total(body in prop::collection::vec(any::<u8>(), 0..60), encoding in "gzip|deflate|br|") {
        let reading = Reading::of(&body, Some(&encoding));
        let _ = (reading.repeated_members(), reading.unambiguous_json().is_some(), Envelope::read(&reading));
        prop_assert_eq!(reading.is_json() && std::str::from_utf8(reading.bytes()).is_ok(), reading.json().is_some());
        let _ = repeated::find(&reading.text());
    }
}
