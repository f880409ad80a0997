//! What a signature header may look like. The provider does not say which encoding it uses.

use data_encoding::{BASE64_NOPAD, BASE64URL_NOPAD, HEXLOWER_PERMISSIVE};

/// An HMAC-SHA256 tag.
pub(super) type Tag = [u8; 32];

const PREFIX: &[u8] = b"sha256=";

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
