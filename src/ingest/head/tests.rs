//! Heads in pieces of any size: what is given on, and what is refused.

use proptest::prelude::*;

use super::*;

const MAX: usize = 1024;

/// What the HTTP server gets of these pieces.
fn passed(heads: &mut Heads, pieces: &[&[u8]]) -> Result<Vec<u8>, Refusal> {
    let mut all = Vec::new();
    for piece in pieces {
        match heads.take(piece, false, &["x-signature".to_owned()])? {
            Passed::First(length) => all.extend_from_slice(&piece[..length]),
            Passed::Instead(bytes) => all.extend_from_slice(&bytes),
        }
    }
    Ok(all)
}

fn once(bytes: &[u8]) -> Result<Vec<u8>, Refusal> {
    passed(&mut Heads::new(MAX), &[bytes])
}

fn request(headers: &str, body: &str) -> String {
    format!("POST /a?b HTTP/1.1\r\nHost: a\r\n{headers}\r\n{body}")
}

#[track_caller]
fn is_unchanged(text: &str) {
    assert_eq!(once(text.as_bytes()).as_deref(), Ok(text.as_bytes()));
}

#[test]
fn what_the_http_server_takes_is_not_changed() {
    is_unchanged(&request("", ""));
    is_unchanged(&request("Content-Length: 2\r\n", "{}"));
    is_unchanged(&request("content-length:2\r\n", "{}").replace("\r\n", "\n"));
    is_unchanged(&format!("\r\n\r\n{}", request("Content-Length: 2\r\n", "{}")));
    is_unchanged(&request("Transfer-Encoding: chunked\r\n", "2\r\n{}\r\n0\r\n\r\n"));
    // What it refuses, it refuses by itself.
    is_unchanged("nonsense\r\n\r\n");
    is_unchanged(&request("Content-Length: +2\r\n", "{}"));
    is_unchanged(&request("Transfer-Encoding: chunked\r\nContent-Length: 2\r\nContent-Length: 2\r\n", "{}"));
}

#[test]
fn lengths_that_are_the_same_are_one() {
    let wanted = request("Content-Length: 2\r\nX: y\r\n", "{}");
    for lengths in
        ["Content-Length: 2\r\ncontent-length:  2 ", "Content-Length: 2, 2", "Content-Length: 2,2\r\nContent-Length: 2"]
    {
        let sent = request(&format!("{lengths}\r\nX: y\r\n"), "{}");
        assert_eq!(once(sent.as_bytes()).as_deref(), Ok(wanted.as_bytes()), "{lengths}");
    }
    for lengths in [
        "Content-Length: 2\r\nContent-Length: 02",
        "Content-Length: 2, 3",
        "Content-Length: 2\r\nContent-Length: ",
        "Content-Length: 2,",
        "Content-Length: a, a",
    ] {
        let sent = request(&format!("{lengths}\r\n"), "{}");
        assert_eq!(once(sent.as_bytes()), Err(Refusal::DifferentLengths), "{lengths}");
    }
}

/// A body is not looked at, whatever it looks like.
#[test]
fn a_body_is_never_changed() {
    let fake = request("Content-Length: 2\r\nContent-Length: 2\r\n", "{}");
    let text = request(&format!("Content-Length: {}\r\n", fake.len()), &fake);
    is_unchanged(&text);
    is_unchanged(&request("Transfer-Encoding: chunked\r\n", &format!("{:x}\r\n{fake}\r\n0\r\n\r\n", fake.len())));
    is_unchanged(&request("Connection: upgrade\r\nUpgrade: websocket\r\n", &fake));
    let twice = format!("{text}{fake}");
    let wanted = format!("{text}{}", request("Content-Length: 2\r\n", "{}"));
    assert_eq!(once(twice.as_bytes()).as_deref(), Ok(wanted.as_bytes()), "but the next head is");
}

#[test]
fn of_too_many_headers_only_those_that_matter_are_kept() {
    let many: String = (0..200).map(|n| format!("a{n}:\r\n")).collect();
    let heads = || Heads::new(16 * MAX);
    let sent =
        request(&format!("{many}X-Signature: s\r\nContent-Length: 2\r\nCookie: c\r\nConnection: close\r\n"), "{}");
    let wanted = request("X-Signature: s\r\nContent-Length: 2\r\nConnection: close\r\n", "{}");
    assert_eq!(passed(&mut heads(), &[sent.as_bytes()]).as_deref(), Ok(wanted.as_bytes()));
    // What would be dropped has to be valid: another reader of the same bytes might see something else in it.
    for bad in ["Content-Length : 5\r\n", " folded\r\n", "no colon\r\n", ": x\r\n", "a: b\rc\r\n", "a: \0\r\n"] {
        let sent = request(&format!("{many}{bad}"), "");
        assert_eq!(passed(&mut heads(), &[sent.as_bytes()]), Err(Refusal::Invalid), "{bad:?}");
    }
    let wanted_too = request(&"x-signature: s\r\n".repeat(120), "");
    assert_eq!(passed(&mut heads(), &[wanted_too.as_bytes()]), Err(Refusal::TooManyHeaders));
}

#[test]
fn a_head_is_bounded_wherever_it_begins() {
    let exactly = request(&format!("X: {}\r\n", "x".repeat(MAX - request("X: \r\n", "").len())), "");
    assert_eq!(exactly.len(), MAX);
    is_unchanged(&exactly);
    let larger = exactly.replace("X: ", "X: x");
    let behind = request("Content-Length: 2000\r\n", &"x".repeat(2000));
    for bytes in [larger.clone(), larger[..MAX + 1].to_owned(), format!("{behind}{larger}")] {
        assert_eq!(once(bytes.as_bytes()), Err(Refusal::TooLarge));
        let each: Vec<&[u8]> = bytes.as_bytes().chunks(7).collect();
        assert_eq!(passed(&mut Heads::new(MAX), &each), Err(Refusal::TooLarge));
    }
    // Behind a body whose length is not known: from the first byte after a pause.
    let chunked = request("Transfer-Encoding: chunked\r\n", &format!("7d0\r\n{}\r\n0\r\n\r\n", "x".repeat(2000)));
    let mut heads = Heads::new(MAX);
    assert!(passed(&mut heads, &[chunked.as_bytes()]).is_ok());
    assert!(heads.take(chunked.as_bytes(), true, &[]).is_ok(), "a body is no head");
    assert_eq!(heads.take(larger.as_bytes(), true, &[]), Err(Refusal::TooLarge));
}

#[test]
fn the_path_of_a_request_is_known_when_its_line_is() {
    for (sent, path) in [
        ("POST /webhooks/ralio HTTP/1.1\r\nHost", "/webhooks/ralio"),
        ("POST /webhooks/ralio?x=/y HTTP/1.1\r\n\r\n", "/webhooks/ralio"),
        ("\r\nPOST https://a.example/webhooks/ralio HTTP/1.1\r\n\r\n", "/webhooks/ralio"),
        ("POST https://a.example HTTP/1.1\r\n\r\n", ""),
        ("POST /a\r\n\r\n", "/a"),
        ("POST /webhooks", ""),
        ("", ""),
    ] {
        let mut heads = Heads::new(MAX);
        passed(&mut heads, &[sent.as_bytes()]).unwrap();
        assert_eq!(String::from_utf8_lossy(heads.path()), path, "{sent:?}");
    }
}

proptest! {
    /// In whatever pieces bytes come, the HTTP server gets the same.
    #[test]
    fn pieces_make_no_difference(
        parts in prop::collection::vec(prop::sample::select(vec![
            "POST /a HTTP/1.1\r\n", "Content-Length: 3\r\n", "Content-Length: 3, 3\r\n", "content-length: 4\r\n", "\r\n", "\n",
            "abc", "X-A: b\r\n", "Transfer-Encoding: chunked\r\n", "3\r\nabc\r\n0\r\n\r\n", "Upgrade: x\r\n", "\r", ":", "CONNECT ",
        ]), 0..24),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let bytes = parts.concat().into_bytes();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.sort_unstable();
        let mut pieces = Vec::new();
        let mut from = 0;
        for cut in cuts.into_iter().chain([bytes.len()]) {
            pieces.push(&bytes[from..cut]);
            from = cut;
        }
        pieces.retain(|piece| !piece.is_empty());
        prop_assert_eq!(once(&bytes), passed(&mut Heads::new(MAX), &pieces));
    }

    /// A head that is given on unchanged or rewritten frames its body as the HTTP server's parser reads it.
    #[test]
    fn what_is_given_on_has_one_length(
        headers in prop::collection::vec(prop::sample::select(vec![
            "Content-Length: 3\r\n", "Content-Length: 3, 3\r\n", "Content-Length: 4\r\n", "X: y\r\n", "content-length:3\r\n",
        ]), 0..8),
    ) {
        let sent = request(&headers.concat(), "");
        if let Ok(given) = once(sent.as_bytes()) {
            let mut parsed = [httparse::EMPTY_HEADER; 16];
            let mut request = httparse::Request::new(&mut parsed);
            prop_assert!(request.parse(&given).unwrap().is_complete());
            let lengths = request.headers.iter().filter(|header| header.name.eq_ignore_ascii_case("content-length"));
            prop_assert!(lengths.count() <= 1);
        }
    }
}
