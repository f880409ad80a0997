//! A signature header is accepted if, and only if, it is an encoding of the right HMAC.

use bytes::Bytes;
use data_encoding::{BASE64, BASE64_NOPAD, BASE64URL, BASE64URL_NOPAD, HEXLOWER, HEXUPPER};
use hmac::{Hmac, KeyInit as _, Mac as _};
use ralio_relay::verify::Keys;
use sha2::Sha256;

const SECRET: &[u8] = b"whsec_fuzz";

/// Every way to write a tag, without what may stand around it.
pub fn encodings(tag: &[u8]) -> [String; 6] {
    [HEXLOWER, HEXUPPER, BASE64, BASE64_NOPAD, BASE64URL, BASE64URL_NOPAD].map(|encoding| encoding.encode(tag))
}

/// Whether a header's value is a way to write that tag, once or several times with commas between: compares texts, and
/// decodes nothing.
pub fn is_an_encoding(value: &[u8], tag: &[u8]) -> bool {
    value.split(|byte| *byte == b',').all(|one| is_one_encoding(one, tag))
}

fn is_one_encoding(value: &[u8], tag: &[u8]) -> bool {
    let value = value.trim_ascii();
    let prefixed = value.len() >= 7 && value[..7].eq_ignore_ascii_case(b"sha256=");
    let value = if prefixed { &value[7..] } else { value };
    let [hex, _, base64 @ ..] = encodings(tag);
    value.eq_ignore_ascii_case(hex.as_bytes()) || base64.iter().any(|text| text.as_bytes() == value)
}

/// Whether the relay takes this value for the signature of this body, with these secrets in use.
pub fn is_accepted(secrets: &[&[u8]], value: &[u8], body: &[u8]) -> bool {
    let mut check = Keys::new(secrets).expect("there are secrets").begin();
    check.update(body);
    check.finish(&[Bytes::copy_from_slice(value)]).is_ok()
}

/// The first byte says how to read the rest. Up to 13: an encoding, how many changes of one byte are made to it (place,
/// value), and the body. Else: a header's value, a line feed, and the body.
pub fn holds(input: &[u8]) {
    let Some((&form, rest)) = input.split_first() else { return };
    let (value, body, tag) = if form < 14 {
        let Some((&changes, rest)) = rest.split_first() else { return };
        let Some((changes, body)) = rest.split_at_checked(usize::from(changes) * 2) else { return };
        let tag = mac(body);
        let prefix = if form % 2 == 0 { "" } else { "sha256=" };
        let encoding = encodings(&tag)[usize::from(form / 2) % 6].clone();
        let mut value = format!("{prefix}{encoding}").into_bytes();
        for change in changes.chunks_exact(2) {
            let place = usize::from(change[0]) % value.len();
            value[place] = change[1];
        }
        (value, body, tag)
    } else {
        let end = rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len());
        let (value, body) = rest.split_at(end);
        (value.to_vec(), body, mac(body))
    };
    let accepted = is_accepted(&[SECRET, b"whsec_previous"], &value, body);
    assert_eq!(accepted, is_an_encoding(&value, &tag), "{:?}", String::from_utf8_lossy(&value));
}

fn mac(body: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET).expect("HMAC takes keys of any length");
    mac.update(body);
    mac.finalize().into_bytes().into()
}
