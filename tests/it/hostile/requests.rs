//! Requests that no client would send, over TLS, against the built binary. What is signed and has one meaning is stored
//! byte for byte; what has none is cut off; and the next genuine delivery never notices.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use rusqlite::{Connection, OpenFlags};

use crate::harness::raw::Raw;
use crate::harness::signed::{self, PATH, SECRET, signature};
use crate::harness::{Ack, TestRelay};

/// What is sent, and what must become of it.
struct Case {
    what: &'static str,
    bytes: Vec<u8>,
    /// Of each answer; a connection that is cut off has fewer, or none.
    statuses: &'static [u16],
    /// Bodies that must be stored when the answer is 200.
    bodies: Vec<Vec<u8>>,
}

/// A request with these header lines, each ending in CRLF, and whatever comes after the head.
fn request(line: &str, headers: &str, rest: &[u8]) -> Vec<u8> {
    [format!("{line}\r\nHost: localhost\r\n{headers}\r\n").as_bytes(), rest].concat()
}

/// The head lines of a signed body.
fn signed_lines(body: &[u8]) -> String {
    format!("X-Signature: {}\r\nContent-Length: {}\r\n", signature(SECRET, body), body.len())
}

/// A signed delivery to any target, and more header lines.
fn delivery(target: &str, more: &str, body: &[u8]) -> Vec<u8> {
    request(&format!("POST {target} HTTP/1.1"), &format!("{}{more}", signed_lines(body)), body)
}

/// A signed delivery whose framing is the caller's affair.
fn framed(body: &[u8], headers: &str, rest: impl AsRef<[u8]>) -> Vec<u8> {
    let signature = format!("X-Signature: {}\r\n{headers}", signature(SECRET, body));
    request(&format!("POST {PATH} HTTP/1.1"), &signature, rest.as_ref())
}

/// A body of its own for each case.
fn body(what: &str) -> Vec<u8> {
    format!(r#"{{"eventId":"evt-of {what}","eventType":"payin_completed","data":{{"orderId":"{what}"}}}}"#).into_bytes()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Bodies that strain a parser, in requests that are as they should be.
fn bodies() -> Vec<Case> {
    let within = |data: &str, id: &str| format!(r#"{{"eventId":"{id}","eventType":"payin_completed","data":{data}}}"#);
    let nested = |open: &str, close: &str| format!("{}1{}", open.repeat(10_000), close.repeat(10_000));
    let bodies: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", Vec::new()),
        ("10,000 nested lists", within(&nested("[", "]"), "lists").into()),
        ("10,000 nested objects", within(&nested("{\"a\":", "}"), "objects").into()),
        ("10,000 lists that never end", within(&"[".repeat(10_000), "endless").into()),
        ("the same name 1,000 times", within(&format!("{{{}\"a\":1}}", "\"a\":1,".repeat(999)), "names").into()),
        ("two ids", br#"{"eventId":"first","eventId":"second","id":"third"}"#.to_vec()),
        ("a number beyond every range", within("1e999999999", "exponent").into()),
        ("a number of 10,000 digits", within(&"9".repeat(10_000), "digits").into()),
        ("a number as the id", within("{}", "x").replace("\"x\"", &"7".repeat(200)).into()),
        ("an id of 100,000 characters", within("{}", &"x".repeat(100_000)).into()),
        ("invalid UTF-8", [&b"{\"eventId\":\"\xff\xc0\x80\xed\xa0\x80\"}"[..]].concat()),
        ("NUL bytes", b"{\"eventId\":\"nul\",\0\0\"data\":\"\0\"}\0".to_vec()),
        ("an unpaired surrogate", br#"{"eventId":"\ud800","eventType":"\udfff"}"#.to_vec()),
        ("a byte order mark", [b"\xef\xbb\xbf".as_slice(), &body("mark")].concat()),
        ("what looks like a request", format!("POST {PATH} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").into()),
        ("gzip", gzip(&body("gzip"))),
        ("a gzip bomb of 100 MB", gzip(&vec![0; 100_000_000])),
    ];
    let case = |(what, body): (&'static str, Vec<u8>)| {
        let encoding = if what.contains("gzip") { "Content-Encoding: gzip\r\n" } else { "" };
        Case { what, bytes: delivery(PATH, encoding, &body), statuses: &[200], bodies: vec![body] }
    };
    bodies.into_iter().map(case).collect()
}

/// Odd, but with one meaning.
fn odd_but_sound() -> Vec<Case> {
    let one = |what: &'static str, make: &dyn Fn(&[u8]) -> Vec<u8>| {
        let body = body(what);
        Case { what, bytes: make(&body), statuses: &[200], bodies: vec![body] }
    };
    let to = |what, target: &str, more: &str| one(what, &|body| delivery(target, more, body));
    let chunks = |what, body: &dyn Fn(&str) -> String| {
        one(what, &|text| framed(text, "Transfer-Encoding: chunked\r\n", body(std::str::from_utf8(text).unwrap())))
    };
    let pipelined = [body("pipelined 1"), body("pipelined 2"), body("pipelined 3")];
    let all = pipelined.iter().flat_map(|body| delivery(PATH, "", body)).collect();
    let head = |version: &str, body: &[u8]| request(&format!("POST {PATH} {version}"), &signed_lines(body), body);
    vec![
        to("absolute form", "https://evil.example/webhooks/ralio", ""),
        to("trailing slash", "/webhooks/ralio/", ""),
        to("a query", "/webhooks/ralio?a=%0d%0aX-Signature:%200&b=../../etc", ""),
        to("another method in a header", PATH, "X-HTTP-Method-Override: DELETE\r\n"),
        to("another address in a header", PATH, "X-Forwarded-For: 127.0.0.1\r\nForwarded: for=\"[::1]\"\r\n"),
        to("another Host", PATH, "X-Forwarded-Host: evil.example\r\nReferer: \u{e9}\r\n"),
        to("90 headers", PATH, &(0..80).map(|n| format!("X-{n}: {n}\r\n")).collect::<String>()),
        to("300 headers", PATH, &(0..300).map(|n| format!("X-{n}: {n}\r\n")).collect::<String>()),
        to("a header of 15,000 bytes", PATH, &format!("X-Long: {}\r\n", "x".repeat(15_000))),
        one("its length twice", &|body| delivery(PATH, &format!("Content-Length: {}\r\n", body.len()), body)),
        one("its signature twice", &|body| {
            delivery(PATH, &format!("X-Signature: {}\r\n", signature(SECRET, body)), body)
        }),
        to("expects 100-continue", PATH, "Expect: 100-continue\r\n"),
        to("expects something else", PATH, "Expect: the-unexpected\r\n"),
        one("HTTP/1.0", &|body| head("HTTP/1.0", body)),
        one("garbage after it", &|body| [delivery(PATH, "", body), b"\0\0garbage\r\n\r\n".to_vec()].concat()),
        chunks("chunks with extensions", &|text| format!("{:X};a=\"b\"\r\n{text}\r\n000\r\n\r\n", text.len())),
        chunks("chunks of one byte", &|text| {
            text.chars().map(|c| format!("1\r\n{c}\r\n")).chain(["0\r\n\r\n".to_owned()]).collect()
        }),
        Case { what: "pipelined", bytes: all, statuses: &[200, 200, 200], bodies: pipelined.into() },
    ]
}

/// To other paths than the configured one, however much they look like it: asked for again, and not lost.
fn misdirected() -> Vec<Case> {
    let paths = [
        "//webhooks/ralio",
        "/webhooks//ralio",
        "/webhooks/./ralio",
        "/x/../webhooks/ralio",
        "/webhooks/%72alio",
        "/webhooks%2fralio",
        "/webhooks/ralio%2f",
        "/webhooks/ralio%00",
        "/webhooks/ralio;x=1",
        "/webhooks/ralio/%2e",
        "/webhooks/ralio/..",
        "/webhooks/ralio//",
        "/WEBHOOKS/ralio",
        "/webhooks/ralio%0d%0aX-Signature:0",
        "https://localhost/",
        "*",
    ];
    let case = |what| Case { what, bytes: delivery(what, "", &body(what)), statuses: &[503], bodies: Vec::new() };
    paths.map(case).into()
}

/// With no meaning, or with two: nobody can say what was signed.
fn broken() -> Vec<Case> {
    let text = br#"{"eventId":"smuggled"}"#;
    let (all, lines) = (std::str::from_utf8(text).unwrap(), signed_lines(text));
    let chunked = "Transfer-Encoding: chunked\r\n";
    let whole = format!("{:x}\r\n{all}\r\n0\r\n\r\n", text.len());
    let length = |length: &str| framed(text, &format!("Content-Length: {length}\r\n"), text);
    let encoding = |coding: &str| framed(text, &format!("Transfer-Encoding: {coding}\r\n"), &whole);
    let size = |chunks: &str| framed(text, chunked, chunks);
    let line = |line: &str| request(line, &lines, text);
    let header = |header: &str| delivery(PATH, &format!("{header}\r\n"), text);
    let many: String = (0..10_000).map(|n| format!("X-{n}: {n}\r\n")).collect();
    let cases = vec![
        ("two lengths", framed(text, "Content-Length: 22\r\nContent-Length: 5\r\n", text)),
        ("two lengths in one", length("22, 5")),
        ("a length with a sign", length("+22")),
        ("a negative length", length("-22")),
        ("a hexadecimal length", length("0x16")),
        ("a length that overflows", length("18446744073709551638")),
        ("a length with a space", length("2 2")),
        ("length and chunks", framed(text, &format!("Content-Length: 4\r\n{chunked}"), &whole)),
        ("chunks and length", framed(text, &format!("{chunked}Content-Length: 4\r\n"), &whole)),
        ("an unknown coding", encoding("xchunked")),
        ("chunked twice", encoding("chunked, chunked")),
        ("chunked, then not", encoding("chunked, identity")),
        ("chunked after a vertical tab", encoding("\x0bchunked")),
        ("a chunk of no number", size("zz\r\n")),
        ("a negative chunk", size("-16\r\n")),
        ("a chunk with 0x", size(&whole.replacen("16", "0x16", 1))),
        ("a chunk that overflows", size("ffffffffffffffffff\r\n")),
        ("a chunk without an end", size(&whole.replace("}\r\n", "}X\r\n"))),
        ("a last chunk that never comes", size(&whole[..whole.len() - 5])),
        ("a body that stops short", framed(text, "Content-Length: 23\r\n", text)),
        ("HTTP/0.9", format!("POST {PATH}\r\n").into()),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec()),
        ("HTTP/3", line(&format!("POST {PATH} HTTP/3.0"))),
        ("HTTP/11", line(&format!("POST {PATH} HTTP/11"))),
        ("NUL in the target", line(&format!("POST {PATH}\0 HTTP/1.1"))),
        ("a space in the target", line(&format!("POST {PATH} x HTTP/1.1"))),
        ("a header injected by CR", line(&format!("POST {PATH} HTTP/1.1\rX-Injected: 1"))),
        ("NUL in a header", header("X: a\0b")),
        ("CR in a header", header("X: a\rX-Signature: b")),
        ("a header folded", header("X: a\r\n b")),
        ("a space before the colon", header("X-Other : a")),
        ("no name", header(": a")),
        ("no colon", header("nothing")),
        ("two Hosts", header("Host: other")),
        ("10,000 headers", header(many.trim_end())),
        ("a header of 17,000 bytes", header(&format!("X: {}", "x".repeat(17_000)))),
        ("a header of 200,000 bytes", header(&format!("X: {}", "x".repeat(200_000)))),
        ("TLS within TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec()),
    ];
    cases.into_iter().map(|(what, bytes)| Case { what, bytes, statuses: &[], bodies: Vec::new() }).collect()
}

/// What is stored, oldest first.
fn stored(relay: &TestRelay) -> Vec<Vec<u8>> {
    let inbox = Connection::open_with_flags(relay.settings().inbox(), OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let mut rows = inbox.prepare("SELECT body FROM bodies ORDER BY seq").unwrap();
    rows.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

/// The final status of each answer.
fn statuses(answer: &str) -> Vec<u16> {
    let lines = answer.lines().filter_map(|line| line.rsplit_once("HTTP/1.")?.1.get(2..5)?.parse().ok());
    lines.filter(|status| *status >= 200).collect()
}

async fn each(cases: Vec<Case>) {
    let relay = TestRelay::builder().expect_errors().start().await;
    let mut expected = Vec::new();
    for Case { what, bytes, statuses: wanted, bodies } in cases {
        let answer = Raw::connect(&relay).await.exchange(&bytes).await;
        assert_eq!(statuses(&answer), wanted, "{what}: {answer:?}");
        expected.extend(bodies);
        let genuine = signed::payin_completed(&format!("evt after {what}"));
        assert_eq!(relay.post(&genuine).await, Ack::FRESH, "after {what}");
        expected.push(genuine.body);
    }
    let stored = stored(&relay);
    assert_eq!(stored.len(), expected.len());
    for (stored, expected) in stored.iter().zip(&expected) {
        assert!(stored == expected, "{} is stored as {}", expected.escape_ascii(), stored.escape_ascii());
    }
    relay.shutdown().await;
}

#[tokio::test]
async fn what_is_signed_and_sound_is_stored_byte_for_byte() {
    each(bodies()).await;
    each(odd_but_sound()).await;
}

#[tokio::test]
async fn what_comes_to_a_path_that_only_looks_right_is_asked_for_again() {
    each(misdirected()).await;
}

#[tokio::test]
async fn what_is_broken_is_cut_off_and_never_answered_4xx() {
    each(broken()).await;
}
