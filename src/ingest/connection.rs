//! A guard around every public connection. A peer that is too slow, or that sends what is no HTTP, is disconnected
//! without an answer: the HTTP server below us would answer 400, 408 or 431, and the provider never repeats a 4xx.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use prometheus::IntCounter;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::answer::CLIENT_ERRORS;

/// How long a connection may stay without a request; longer than the pools of common senders keep theirs.
const KEEP_ALIVE: Duration = Duration::from_secs(75);

/// Where a connection is in its cycle of requests; what is waited for from the peer has a deadline.
#[derive(Clone, Copy)]
enum Phase {
    /// Nothing received yet.
    Fresh(Instant),
    /// Between two requests.
    Idle(Instant),
    /// Part of a head received.
    Head(Instant),
    /// A handler is reading the body. The deadline is still that of the head: it is one for both.
    Body(Instant),
    /// A handler is at work; it has a deadline of its own.
    Busy,
    /// Answered before the body was read: its rest may come, and then the connection ends.
    Ending(Instant),
}

/// The state of a connection that its stream and its handlers share.
pub(super) struct Conn {
    phase: Cell<Phase>,
    closing: Cell<bool>,
    patience: Duration,
    broken: IntCounter,
}

impl Conn {
    /// `patience` is what a request may take to arrive, and an answer to be taken; `broken` counts requests that never
    /// reached a handler.
    pub(super) fn new(patience: Duration, broken: IntCounter) -> Rc<Self> {
        let phase = Cell::new(Phase::Fresh(Instant::now() + patience));
        Rc::new(Self { phase, closing: Cell::new(false), patience, broken })
    }

    /// A handler has got a head, and will read the body.
    pub(super) fn head_read(&self) {
        self.phase.set(Phase::Body(match self.phase.get() {
            Phase::Fresh(deadline) | Phase::Head(deadline) | Phase::Body(deadline) => deadline,
            // It came in together with the request before it.
            Phase::Idle(_) | Phase::Busy | Phase::Ending(_) => Instant::now() + self.patience,
        }));
    }

    /// The handler has read all that it wants.
    pub(super) fn body_read(&self) {
        self.phase.set(Phase::Busy);
    }

    /// The handler is done.
    pub(super) fn answered(&self) {
        self.phase.set(match self.phase.get() {
            Phase::Body(deadline) => Phase::Ending(deadline),
            Phase::Fresh(_) | Phase::Idle(_) | Phase::Head(_) | Phase::Busy | Phase::Ending(_) => {
                Phase::Idle(Instant::now() + KEEP_ALIVE)
            }
        });
    }

    /// Closes the connection instead of writing anything more.
    pub(super) fn close(&self) {
        self.closing.set(true);
    }

    /// Counts a request that never reached a handler; a handler counts its own.
    fn ended(&self) {
        if matches!(self.phase.get(), Phase::Head(_)) {
            self.answered();
            self.broken.inc();
        }
    }

    fn deadline(&self) -> Option<Instant> {
        match self.phase.get() {
            Phase::Fresh(deadline)
            | Phase::Idle(deadline)
            | Phase::Head(deadline)
            | Phase::Body(deadline)
            | Phase::Ending(deadline) => Some(deadline),
            Phase::Busy => None,
        }
    }

    fn received(&self, bytes: usize, now: Instant) {
        match (self.phase.get(), bytes) {
            (Phase::Fresh(deadline), 1..) => self.phase.set(Phase::Head(deadline)),
            (Phase::Idle(_), 1..) => self.phase.set(Phase::Head(now + self.patience)),
            (Phase::Fresh(_) | Phase::Idle(_), 0)
            | (Phase::Head(_) | Phase::Body(_) | Phase::Busy | Phase::Ending(_), _) => {}
        }
    }

    /// The answer to a read that comes too late.
    fn expire(&self) -> io::Result<()> {
        match self.phase.get() {
            // As if the peer had closed: there is no request, and the connection ends in good order.
            Phase::Fresh(_) | Phase::Idle(_) | Phase::Ending(_) => Ok(()),
            Phase::Head(_) | Phase::Body(_) | Phase::Busy => {
                self.close();
                Err(io::ErrorKind::TimedOut.into())
            }
        }
    }
}

/// A stream that enforces the deadlines of its [`Conn`], and lets no answer out that no handler gave.
pub(super) struct Guarded<S> {
    stream: S,
    conn: Rc<Conn>,
    // Never armed later than any deadline that could be set meanwhile, so that it need not be reset for each request.
    read_timer: Pin<Box<Sleep>>,
    write_timer: Option<Pin<Box<Sleep>>>,
    _open: TaskTrackerToken,
}

impl<S> Guarded<S> {
    pub(super) fn new(stream: S, conn: Rc<Conn>, open: TaskTrackerToken) -> Self {
        let read_timer = Box::pin(sleep_until(Instant::now() + conn.patience.min(KEEP_ALIVE)));
        Self { stream, conn, read_timer, write_timer: None, _open: open }
    }

    pub(super) fn conn(&self) -> &Rc<Conn> {
        &self.conn
    }

    /// Waits for the deadline of the phase.
    fn poll_read_deadline(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.read_timer.as_mut().poll(cx));
            let now = Instant::now();
            let deadline = self.conn.deadline();
            if deadline.is_some_and(|deadline| deadline <= now) {
                return Poll::Ready(self.conn.expire());
            }
            let tick = now + self.conn.patience.min(KEEP_ALIVE);
            self.read_timer.as_mut().reset(deadline.map_or(tick, |deadline| deadline.min(tick)));
        }
    }

    /// What to make of an attempt to write: one that is blocked for too long fails.
    fn within_patience<T>(&mut self, result: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            return result;
        }
        let until = self.conn.patience;
        let timer = self.write_timer.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + until)));
        ready!(timer.as_mut().poll(cx));
        self.conn.close();
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    fn check_open(&self) -> io::Result<()> {
        if self.conn.closing.get() { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check_open()?;
        let before = buf.filled().len();
        match Pin::new(&mut self.stream).poll_read(cx, buf) {
            Poll::Ready(Ok(())) => {
                let now = Instant::now();
                self.conn.received(buf.filled().len() - before, now);
                // A peer that is always ready is never waited for: its time runs out here.
                if self.conn.deadline().is_some_and(|deadline| deadline <= now) {
                    buf.set_filled(before);
                    return Poll::Ready(self.conn.expire());
                }
                Poll::Ready(Ok(()))
            }
            // TLS that ends without a goodbye. A request's own framing says whether it is whole (RFC 9112, section 9.8), and
            // a sender that only closed its side still waits for the answer.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => self.poll_read_deadline(cx),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.check_open()?;
        let ours = match foreign_answer(buf) {
            None => buf,
            Some(0) => {
                let flushed = Pin::new(&mut self.stream).poll_flush(cx);
                ready!(self.within_patience(flushed, cx))?;
                self.conn.phase.set(Phase::Head(Instant::now()));
                self.conn.close();
                tracing::debug!("closing a connection that sent no valid HTTP");
                return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
            }
            Some(end) => &buf[..end],
        };
        let written = Pin::new(&mut self.stream).poll_write(cx, ours);
        self.within_patience(written, cx)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check_open()?;
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        let result = ready!(self.within_patience(flushed, cx));
        self.write_timer = None;
        Poll::Ready(result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.conn.ended();
        let closed = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.within_patience(closed, cx)
    }
}

impl<S> Drop for Guarded<S> {
    fn drop(&mut self) {
        self.conn.ended();
    }
}

/// Where in `buf` the first answer begins that is not in the acknowledgement table, if there is one.
///
/// The dispatcher hands over whole heads, and every body of ours is JSON without a line break. So a status line is what
/// stands, in a line that is ended, after the last brace.
fn foreign_answer(buf: &[u8]) -> Option<usize> {
    let mut start = 0;
    for line in buf.split_inclusive(|&byte| byte == b'\n').filter(|line| line.ends_with(b"\n")) {
        let body = line.iter().rposition(|&byte| byte == b'}').map_or(0, |brace| brace + 1);
        if is_foreign(&line[body..]) {
            return Some(start + body);
        }
        start += line.len();
    }
    None
}

/// Whether a line is a status line with a 4xx that no handler gives: `HTTP/1.1 400 Bad Request`.
fn is_foreign(line: &[u8]) -> bool {
    let status = line.strip_prefix(b"HTTP/1.").and_then(|rest| rest.get(2..5));
    status.is_some_and(|status| status.starts_with(b"4") && !CLIENT_ERRORS.contains(&status))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio_util::task::TaskTracker;

    use super::*;

    const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
    const BAD: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";

    fn guarded(patience: Duration, buffer: usize) -> (Guarded<tokio::io::DuplexStream>, tokio::io::DuplexStream) {
        let (ours, theirs) = tokio::io::duplex(buffer);
        let conn = Conn::new(patience, IntCounter::new("broken", "broken").unwrap());
        (Guarded::new(ours, conn, TaskTracker::new().token()), theirs)
    }

    #[test]
    fn only_foreign_answers_are_found() {
        assert_eq!(foreign_answer(OK), None);
        assert_eq!(foreign_answer(BAD), Some(0));
        assert_eq!(foreign_answer(&[OK, BAD].concat()), Some(OK.len()));
        assert_eq!(foreign_answer(&[OK, OK, BAD, OK].concat()), Some(2 * OK.len()));
        assert_eq!(foreign_answer(b"HTTP/1.0 431 Request Header Fields Too Large\r\n"), Some(0));
        assert_eq!(foreign_answer(b"HTTP/1.1 408 Request Timeout\r\n"), Some(0));
        for ours in ["100 Continue", "401 Unauthorized", "404 Not Found", "405 Method Not Allowed", "413 X", "503 X"] {
            assert_eq!(foreign_answer(format!("HTTP/1.1 {ours}\r\n\r\n").as_bytes()), None, "{ours}");
        }
        let id = b"HTTP/1.1 200 OK\r\n\r\n{\"id\":\"}HTTP/1.1 400 \",\"duplicate\":false}";
        assert_eq!(foreign_answer(id), None);
        assert_eq!(foreign_answer(&[id, OK].concat()), None);
        assert_eq!(foreign_answer(&[id, BAD].concat()), Some(id.len()));
        assert_eq!(foreign_answer(b"HTTP/1.1 400 \",\"duplicate\":false}"), None, "the rest of a body");
    }

    #[tokio::test]
    async fn what_came_before_a_foreign_answer_still_gets_out() {
        let (mut guard, mut peer) = guarded(Duration::from_secs(5), 4096);
        let error = guard.write_all(&[OK, BAD].concat()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let broken = guard.conn.broken.clone();
        drop(guard);
        assert_eq!(broken.get(), 1);
        let mut got = Vec::new();
        peer.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, OK);
    }

    #[tokio::test]
    async fn a_peer_that_does_not_read_is_given_up() {
        let (mut guard, _peer) = guarded(Duration::from_millis(30), 16);
        let error = guard.write_all(OK).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(guard.write(OK).await.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
    }

    #[tokio::test]
    async fn silence_ends_in_good_order_but_half_a_head_does_not() {
        let mut buf = [0; 64];
        let (mut guard, _peer) = guarded(Duration::from_millis(30), 64);
        assert_eq!(guard.read(&mut buf).await.unwrap(), 0, "nothing sent: as if the peer had closed");

        let (mut guard, mut peer) = guarded(Duration::from_millis(30), 64);
        peer.write_all(b"POST").await.unwrap();
        assert_eq!(guard.read(&mut buf).await.unwrap(), 4);
        assert_eq!(guard.read(&mut buf).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        let broken = guard.conn.broken.clone();
        drop(guard);
        assert_eq!(broken.get(), 1);
    }

    #[tokio::test]
    async fn a_peer_that_never_pauses_is_hurried_too() {
        let mut buf = [0; 4];
        for late in [Phase::Head, Phase::Body] {
            let (mut guard, mut peer) = guarded(Duration::from_secs(10), 64);
            peer.write_all(b"POST /there").await.unwrap();
            assert_eq!(guard.read(&mut buf).await.unwrap(), 4);
            guard.conn.phase.set(late(Instant::now()));
            assert_eq!(guard.read(&mut buf).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        }
    }

    #[tokio::test]
    async fn a_head_and_its_body_have_one_deadline() {
        let (mut guard, mut peer) = guarded(Duration::from_secs(10), 64);
        peer.write_all(b"POST").await.unwrap();
        let deadline = guard.conn.deadline();
        assert_eq!(guard.read(&mut [0; 4]).await.unwrap(), 4);
        guard.conn.head_read();
        assert_eq!(guard.conn.deadline(), deadline);
    }

    #[tokio::test]
    async fn only_a_request_under_way_is_hurried() {
        let mut buf = [0; 64];
        let (mut guard, mut peer) = guarded(Duration::from_millis(20), 64);
        peer.write_all(b"POST").await.unwrap();
        assert_eq!(guard.read(&mut buf).await.unwrap(), 4);
        guard.conn.head_read();
        guard.conn.body_read();
        let waited = tokio::time::timeout(Duration::from_millis(100), guard.read(&mut buf)).await;
        assert!(waited.is_err(), "a handler is at work");
        guard.conn.answered();
        let waited = tokio::time::timeout(Duration::from_millis(100), guard.read(&mut buf)).await;
        assert!(waited.is_err(), "the connection is idle");
        peer.write_all(b"POST").await.unwrap();
        assert_eq!(guard.read(&mut buf).await.unwrap(), 4);
        assert_eq!(guard.read(&mut buf).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
