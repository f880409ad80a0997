//! What a signature header may look like. The provider does not say which encoding it uses.

use bytes::Bytes;
use data_encoding::{BASE64_NOPAD, BASE64URL_NOPAD, HEXLOWER_PERMISSIVE};

use super::Rejection;

/// An HMAC-SHA256 tag.
pub(super) type Tag = [u8; 32];

const PREFIX: &[u8] = b"sha256=";

/// The signature in every value of the header, each of which may be a list (RFC 9110 5.3). A proxy may have doubled the
/// header: several signatures that agree are one. Where they differ, nobody can say which one is meant.
pub(super) fn claim(values: &[Bytes]) -> Result<Tag, Rejection> {
    let mut signatures = values.iter().flat_map(|value| members(value));
    let first = decode(signatures.next().ok_or(Rejection::Missing)?);
    let mut rest = signatures.peekable();
    if rest.peek().is_none() {
        return first.ok_or(Rejection::Undecodable);
    }
    // What cannot be decoded agrees with nothing, not even with itself.
    match first {
        Some(tag) if rest.all(|signature| decode(signature) == Some(tag)) => Ok(tag),
        Some(_) | None => Err(Rejection::Repeated),
    }
}

/// The members of a list, without the spaces around them.
pub(super) fn members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii)
}

/// Hex in either case, or standard or URL-safe base64 (RFC 4648) with or without padding, each with an optional
/// `sha256=` prefix. The length tells them apart: 64 characters are hex, 43 (and one of padding) are base64. Bits left
/// over in the last base64 character must be zero, so that no two texts but for hex case and encoding are one tag.
pub(super) fn decode(value: &[u8]) -> Option<Tag> {
    let value = value.trim_ascii();
    let value = match value.split_at_checked(PREFIX.len()) {
        Some((prefix, rest)) if prefix.eq_ignore_ascii_case(PREFIX) => rest,
        _ => value,
    };
    let (encoding, digits) = match (value.len(), value) {
        (64, hex) => (HEXLOWER_PERMISSIVE, hex),
        (43, digits) | (44, [digits @ .., b'=']) => {
            let url_safe = digits.iter().any(|b| matches!(b, b'-' | b'_'));
            (if url_safe { BASE64URL_NOPAD } else { BASE64_NOPAD }, digits)
        }
        _ => return None,
    };
    let mut tag = Tag::default();
    encoding.decode_mut(digits, &mut tag).ok()?;
    Some(tag)
}
