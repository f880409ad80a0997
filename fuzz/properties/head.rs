//! What the guard gives on of a connection does not hang on the pieces in which it comes.

#[path = "../../src/ingest/head.rs"]
mod guard;

use guard::{Heads, Passed, Pending, Refusal};

/// Of one head.
const MAX: usize = 1024;

/// The size of the pieces, and what comes in them.
pub fn holds(input: &[u8]) {
    let Some((&size, bytes)) = input.split_first() else { return };
    let pieces = given_on(bytes, usize::from(size).max(1));
    assert_eq!(pieces, given_on(bytes, bytes.len().max(1)));
}

fn given_on(bytes: &[u8], size: usize) -> Result<Vec<u8>, Refusal> {
    let (mut heads, mut all) = (Heads::new(MAX), Vec::new());
    for piece in bytes.chunks(size) {
        match heads.take(piece, false, &["x-signature".to_owned()])? {
            Passed::First(length) => all.extend_from_slice(&piece[..length]),
            Passed::Instead(bytes) => {
                let length = bytes.len();
                let mut pending = Pending::new(bytes);
                all.extend_from_slice(&pending.take(7));
                all.extend_from_slice(&pending.take(length));
            }
        }
        assert!(heads.path().len() <= 260);
    }
    Ok(all)
}
