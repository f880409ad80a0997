//! Reading a delivery's body within bounds of size and memory. Its time is bounded by the connection.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use actix_web::http::header::{CONTENT_LENGTH, HeaderMap, TRANSFER_ENCODING};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _};

use super::connection::Conn;
use super::memory::{Memory, Share};
use crate::listener::Admitted;
use crate::verify::{Check, Keys};

/// How far over the limit a body is still read, to learn whether it is genuine: enough for a limit that is a little too
/// low, too little to be worth an attack.
const CHECKED_FACTOR: u64 = 16;

/// What a declared length may make us allocate before the bytes are here.
const MAX_ADVANCE: usize = 8 * 1024;

/// What came of reading a body.
pub(super) enum Body<'a> {
    /// The whole body, and its share of the memory for bodies.
    Whole(Bytes, Share<'a>),
    /// Over the limit; read to its end but not kept. The check has seen all of it.
    Oversize(Check),
    /// So far over the limit that nobody knows whether it is genuine.
    Endless,
    /// There is no memory left for bodies.
    NoRoom,
    /// It ended early, or its framing is broken.
    Broken,
}

/// What applies to a body.
pub(super) struct Limits<'a> {
    /// The largest body that is kept.
    pub(super) max: usize,
    /// The memory for bodies, over all connections.
    pub(super) memory: &'a Memory,
    /// The connection that it comes on.
    pub(super) admitted: &'a Arc<Admitted>,
    /// What an oversize body is checked with.
    pub(super) keys: &'a Keys,
}

impl Limits<'_> {
    /// The largest body that is checked.
    fn checked(&self) -> u64 {
        (self.max as u64).saturating_mul(CHECKED_FACTOR)
    }
}

/// A body as a stream of pieces. Generic over its error: any error means that the body is broken.
pub(super) trait Pieces<E>: Stream<Item = Result<Bytes, E>> + Unpin {}
impl<E, T: Stream<Item = Result<Bytes, E>> + Unpin> Pieces<E> for T {}

/// The length of a body by its head; `None` when it comes in chunks, and ends with the last one (RFC 9112, section 6.3).
pub(super) fn declared(headers: &HeaderMap) -> Option<u64> {
    if headers.contains_key(TRANSFER_ENCODING) {
        return None;
    }
    // The HTTP server has refused a length that is no number.
    let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.trim().parse().ok());
    Some(length.unwrap_or(0))
}

/// A body that ends where its head says. The HTTP server's own does not always: with a request to switch protocols,
/// it takes all that follows for the body.
pub(super) struct Delimited<'a, P> {
    pieces: P,
    left: Option<u64>,
    conn: &'a Conn,
}

impl<'a, P> Delimited<'a, P> {
    /// The connection is told of what is taken, so that it reads on.
    pub(super) fn new(pieces: P, declared: Option<u64>, conn: &'a Conn) -> Self {
        Self { pieces, left: declared, conn }
    }
}

impl<E, P: Stream<Item = Result<Bytes, E>> + Unpin> Stream for Delimited<'_, P> {
    type Item = Result<Bytes, E>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.left == Some(0) {
            return Poll::Ready(None);
        }
        let Poll::Ready(mut piece) = self.pieces.poll_next_unpin(cx) else {
            // Whatever else has been read is framing.
            self.conn.body_taken(usize::MAX);
            return Poll::Pending;
        };
        if let Some(Ok(piece)) = &piece {
            self.conn.body_taken(piece.len());
        }
        if let (Some(Ok(piece)), Some(left)) = (&mut piece, &mut self.left) {
            piece.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= piece.len() as u64;
        }
        Poll::Ready(piece)
    }
}

/// Reads a body of that declared length. Memory is taken for what has arrived, not for what is promised.
pub(super) async fn read<'a, E>(pieces: &mut impl Pieces<E>, declared: Option<u64>, limits: &Limits<'a>) -> Body<'a> {
    if declared.is_some_and(|length| length > limits.checked()) {
        return Body::Endless;
    }
    let mut kept = Kept::new(declared);
    let mut share = limits.memory.begin(limits.admitted);
    if declared.is_some_and(|length| length > limits.max as u64) {
        return read_oversize(pieces, kept, limits).await;
    }
    while let Some(piece) = pieces.next().await {
        let Ok(piece) = piece else { return Body::Broken };
        let oversize = kept.len() + piece.len() > limits.max;
        if !oversize && !share.grow(piece.len()).await {
            drop((kept, share));
            return match discard(pieces, limits.max).await {
                Discarded::Whole | Discarded::Part => Body::NoRoom,
                Discarded::Broken => Body::Broken,
            };
        }
        kept.push(piece);
        if oversize {
            drop(share);
            return read_oversize(pieces, kept, limits).await;
        }
    }
    Body::Whole(kept.body(), share)
}

/// Goes on with a body that is over the limit, hashing instead of keeping it.
async fn read_oversize<'a, E>(pieces: &mut impl Pieces<E>, mut kept: Kept, limits: &Limits<'a>) -> Body<'a> {
    let mut check = limits.keys.begin();
    let mut length = kept.len() as u64;
    check.update(&kept.body());
    drop(kept);
    while let Some(piece) = pieces.next().await {
        let Ok(piece) = piece else { return Body::Broken };
        length += piece.len() as u64;
        if length > limits.checked() {
            return Body::Endless;
        }
        check.update(&piece);
    }
    Body::Oversize(check)
}

/// What came of checking a body that is not kept.
pub(super) enum Checked<T> {
    /// The checks have seen all of it.
    Whole(Vec<(T, Check)>),
    /// It is larger than what is checked; so much was read for nothing that an answer arrives.
    Endless,
    /// It ended early, or its framing is broken.
    Broken,
}

/// Reads a body of up to `max` bytes through several checks, without keeping it.
pub(super) async fn check<E, T>(
    pieces: &mut impl Pieces<E>,
    declared: Option<u64>,
    max: usize,
    mut checks: Vec<(T, Check)>,
) -> Checked<T> {
    let mut length = 0;
    if declared.is_none_or(|declared| declared <= max as u64) {
        while let Some(piece) = pieces.next().await {
            let Ok(piece) = piece else { return Checked::Broken };
            length += piece.len();
            if length > max {
                return Checked::Endless;
            }
            checks.iter_mut().for_each(|(_, check)| check.update(&piece));
        }
        return Checked::Whole(checks);
    }
    match discard(pieces, max).await {
        Discarded::Whole | Discarded::Part => Checked::Endless,
        Discarded::Broken => Checked::Broken,
    }
}

/// What came of reading a body for nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Discarded {
    /// It has been read to its end.
    Whole,
    /// There is more of it than was to be read.
    Part,
    /// It ended early, or its framing is broken.
    Broken,
}

/// Reads up to `limit` bytes for nothing, so that an early answer is not lost with a connection that had to be reset
/// for what was still under way.
pub(super) async fn discard<E>(pieces: &mut impl Pieces<E>, limit: usize) -> Discarded {
    let mut read = 0;
    while read <= limit {
        match pieces.next().await {
            Some(Ok(piece)) => read += piece.len(),
            Some(Err(_)) => return Discarded::Broken,
            None => return Discarded::Whole,
        }
    }
    Discarded::Part
}

/// The part of a body that has arrived. One that came in a single piece, as nearly all do, is not copied.
struct Kept {
    first: Bytes,
    all: BytesMut,
    advance: usize,
}

impl Kept {
    fn new(declared: Option<u64>) -> Self {
        let advance = declared.map_or(0, |length| usize::try_from(length).unwrap_or(MAX_ADVANCE).min(MAX_ADVANCE));
        Self { first: Bytes::new(), all: BytesMut::new(), advance }
    }

    fn len(&self) -> usize {
        self.first.len().max(self.all.len())
    }

    fn push(&mut self, piece: Bytes) {
        if self.first.is_empty() && self.all.is_empty() {
            self.first = piece;
            return;
        }
        if self.all.is_empty() {
            self.all.reserve(self.advance.max(self.first.len() + piece.len()));
            self.all.extend_from_slice(&self.first);
            self.first = Bytes::new();
        }
        self.all.extend_from_slice(&piece);
    }

    fn body(&mut self) -> Bytes {
        if self.all.is_empty() { self.first.clone() } else { self.all.split().freeze() }
    }
}
