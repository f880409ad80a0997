//! Undoing a `Content-Encoding`, within bounds.

use std::io::Read;

use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};

/// What a body may always unpack to.
const SMALL: usize = 1 << 20;
/// How many times its size a larger one may unpack to.
const RATIO: usize = 8;
/// The most that any may, as large as the largest `server.max_body`.
const MOST: usize = 64 << 20;

/// Encodings that one body may have had done to it.
const MAX_LAYERS: usize = 2;

/// The bytes that were packed; `None` where the encoding is not known, the body is not of it, or there is too much in it. No
/// setting has a part in this: a body has to read alike at each time and place.
pub(super) fn unpack(body: &[u8], encoding: &str) -> Option<Vec<u8>> {
    let most = body.len().saturating_mul(RATIO).clamp(SMALL, MOST);
    let layers: Vec<&str> = encoding.split(',').map(str::trim).collect();
    if layers.len() > MAX_LAYERS {
        return None;
    }
    // The last was done last.
    let mut layers = layers.into_iter().rev();
    let mut bytes = undo(body, layers.next()?, most)?;
    for layer in layers {
        bytes = undo(&bytes, layer, most)?;
    }
    Some(bytes)
}

fn undo(bytes: &[u8], encoding: &str, most: usize) -> Option<Vec<u8>> {
    let is = |name: &str| encoding.eq_ignore_ascii_case(name);
    if is("gzip") || is("x-gzip") {
        read(MultiGzDecoder::new(bytes), most)
    } else if is("deflate") {
        // RFC 9110 means the zlib format; some send the bare stream.
        read(ZlibDecoder::new(bytes), most).or_else(|| bare(bytes, most))
    } else {
        None
    }
}

/// Nothing in such a stream tells it from other bytes, but that it ends where they end.
fn bare(bytes: &[u8], most: usize) -> Option<Vec<u8>> {
    let mut decoder = DeflateDecoder::new(bytes);
    let unpacked = read(&mut decoder, most)?;
    (decoder.total_in() == bytes.len() as u64).then_some(unpacked)
}

fn read(from: impl Read, most: usize) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(most as u64 + 1).read_to_end(&mut bytes).ok()?;
    (bytes.len() <= most).then_some(bytes)
}
