//! A guard around every public connection. A peer that is too slow, or that sends what is no HTTP, is disconnected
//! without an answer: the HTTP server below us would answer 400, 408 or 431, and the provider never repeats a 4xx.

#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::answer::CLIENT_ERRORS;
use super::head::{Heads, Passed, Pending, Refusal};
use crate::listener::Admitted;

/// How long a connection may stay without a request; longer than the pools of common senders keep theirs.
const KEEP_ALIVE: Duration = Duration::from_secs(75);

/// How much the HTTP server may read before it has to look at it: it would buffer 128 KiB of each connection otherwise.
const READ_AT_ONCE: usize = 8 * 1024;

/// How long a connection that is closed after an answer is still read, so that the answer arrives.
pub(super) const LINGER: Duration = Duration::from_secs(5);

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

/// Who is told of requests that never reached a handler.
pub(super) trait Witness {
    /// Which headers are kept of a request that has too many, in lower case.
    fn wanted_headers(&self) -> &[String];

    /// A request to that path, as far as it is known, ended without an answer.
    fn broken(&self, peer: SocketAddr, path: &[u8], why: Why);
}

/// Why a request never reached a handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// The connection ended first.
    Ended,
    /// It took too long.
    Slow,
    /// Its head cannot be taken.
    Refused(Refusal),
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended => f.write_str("the connection ended before the request was whole"),
            Self::Slow => f.write_str("it did not arrive within server.read_timeout"),
            Self::Refused(refusal) => refusal.fmt(f),
        }
    }
}

/// The state of a connection that its stream and its handlers share.
pub(super) struct Conn {
    phase: Cell<Phase>,
    closing: Cell<bool>,
    is_verified: Cell<bool>,
    /// Bytes of the body in hand that the handler has not taken yet, about.
    untaken: Cell<usize>,
    /// Who reads on when the handler has taken some.
    reader: RefCell<Option<Waker>>,
    patience: Duration,
    admitted: Arc<Admitted>,
}

impl Conn {
    /// `patience` is what a request may take to arrive, and an answer to be taken.
    pub(super) fn new(patience: Duration, admitted: Arc<Admitted>) -> Rc<Self> {
        let phase = Cell::new(Phase::Fresh(Instant::now() + patience));
        let [closing, is_verified] = [false, false].map(Cell::new);
        let (untaken, reader) = (Cell::new(0), RefCell::default());
        Rc::new(Self { phase, closing, is_verified, untaken, reader, patience, admitted })
    }

    /// The place of the connection among the others.
    pub(super) fn admitted(&self) -> &Arc<Admitted> {
        &self.admitted
    }

    /// The signature of the request in hand holds.
    pub(super) fn verified(&self) {
        self.is_verified.set(true);
        self.admitted.prove();
    }

    /// Whether the signature of the request in hand holds.
    pub(super) fn is_verified(&self) -> bool {
        self.is_verified.get()
    }

    /// A handler has got a head, and will read the body.
    pub(super) fn head_read(&self) {
        self.is_verified.set(false);
        // What came with the head has been read before anybody could take it.
        self.untaken.set(0);
        self.phase.set(Phase::Body(match self.phase.get() {
            Phase::Fresh(deadline) | Phase::Head(deadline) | Phase::Body(deadline) => deadline,
            // It came in together with the request before it.
            Phase::Idle(_) | Phase::Busy | Phase::Ending(_) => Instant::now() + self.patience,
        }));
    }

    /// The handler has taken so many bytes of the body: more may be read.
    pub(super) fn body_taken(&self, bytes: usize) {
        self.untaken.set(self.untaken.get().saturating_sub(bytes));
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    /// Whether the handler has to take some of the body before more is read: whoever sends it is not proven, and all that
    /// is read takes memory. Otherwise the HTTP server would buffer several times as much of each connection.
    fn has_enough(&self, cx: &Context<'_>) -> bool {
        let is_enough = matches!(self.phase.get(), Phase::Body(_))
            && self.untaken.get() >= READ_AT_ONCE
            && !self.admitted.is_proven();
        if is_enough {
            self.reader.replace(Some(cx.waker().clone()));
        }
        is_enough
    }

    /// The handler has read all that it wants.
    pub(super) fn body_read(&self) {
        self.untaken.set(0);
        self.phase.set(Phase::Busy);
    }

    /// The handler is done. The connection stays only for whoever has signed the request.
    pub(super) fn answered(&self) {
        self.body_taken(usize::MAX);
        self.phase.set(match self.phase.get() {
            Phase::Body(deadline) => Phase::Ending(deadline),
            _ if !self.is_verified() => Phase::Ending(Instant::now() + LINGER),
            Phase::Fresh(_) | Phase::Idle(_) | Phase::Head(_) | Phase::Busy | Phase::Ending(_) => {
                Phase::Idle(Instant::now() + KEEP_ALIVE)
            }
        });
    }

    /// Closes the connection instead of writing anything more.
    pub(super) fn close(&self) {
        self.closing.set(true);
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

/// A stream that enforces the deadlines of its [`Conn`], bounds heads, and lets no answer out that no handler gave.
pub(super) struct Guarded<S, W: Witness = super::shared::Shared> {
    stream: S,
    conn: Rc<Conn>,
    heads: Heads,
    /// Bytes that were held back, on their way to the HTTP server.
    pending: Pending,
    /// Bytes that the HTTP server has read without a pause.
    at_once: usize,
    why: Why,
    witness: Arc<W>,
    // Never armed later than any deadline that could be set meanwhile, so that it need not be reset for each request.
    read_timer: Pin<Box<Sleep>>,
    write_timer: Option<Pin<Box<Sleep>>>,
    _open: TaskTrackerToken,
}

impl<S, W: Witness> Guarded<S, W> {
    pub(super) fn new(stream: S, conn: Rc<Conn>, max_head: usize, witness: Arc<W>, open: TaskTrackerToken) -> Self {
        let read_timer = Box::pin(sleep_until(Instant::now() + conn.patience.min(KEEP_ALIVE)));
        let (heads, pending) = (Heads::new(max_head), Pending::default());
        Self {
            stream,
            conn,
            heads,
            pending,
            at_once: 0,
            why: Why::Ended,
            witness,
            read_timer,
            write_timer: None,
            _open: open,
        }
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
                return Poll::Ready(self.expire());
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

    fn expire(&mut self) -> io::Result<()> {
        self.why = Why::Slow;
        self.conn.expire()
    }

    /// Reads, and gives the HTTP server what it may have of it. `false` = it is not at its end, and got nothing.
    fn poll_fill(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<bool>>
    where
        S: AsyncRead + Unpin,
    {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let (now, read) = (Instant::now(), buf.filled().len() - before);
        let is_first = matches!(self.conn.phase.get(), Phase::Idle(_));
        self.conn.received(read, now);
        // A peer that is always ready is never waited for: its time runs out here.
        if self.conn.deadline().is_some_and(|deadline| deadline <= now) {
            buf.set_filled(before);
            return Poll::Ready(self.expire().map(|()| true));
        }
        if read == 0 {
            return Poll::Ready(Ok(true));
        }
        let given = match self.heads.take(&buf.filled()[before..], is_first, self.witness.wanted_headers()) {
            Ok(Passed::First(length)) => {
                buf.set_filled(before + length);
                length > 0
            }
            Ok(Passed::Instead(bytes)) => {
                buf.set_filled(before);
                self.pending = Pending::new(bytes);
                self.give_pending(buf)
            }
            Err(refusal) => {
                // As if the peer had closed: what it asked for before is still answered.
                buf.set_filled(before);
                self.break_off(Why::Refused(refusal));
                true
            }
        };
        Poll::Ready(Ok(given))
    }

    fn give_pending(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let bytes = self.pending.take(buf.remaining());
        buf.put_slice(&bytes);
        !bytes.is_empty()
    }

    /// Tells of a request that never reaches a handler; a handler tells of its own.
    fn break_off(&mut self, why: Why) {
        self.why = why;
        self.witness.broken(self.conn.admitted.peer(), self.heads.path(), why);
        if let Phase::Head(_) = self.conn.phase.get() {
            self.conn.phase.set(Phase::Ending(Instant::now() + LINGER));
        }
    }

    fn ended(&mut self) {
        if let Phase::Head(_) = self.conn.phase.get() {
            self.break_off(self.why);
        }
    }

    fn check_open(&self) -> io::Result<()> {
        if self.conn.closing.get() { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
    }
}

impl<S: AsyncRead + Unpin, W: Witness> AsyncRead for Guarded<S, W> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check_open()?;
        if self.conn.has_enough(cx) {
            return self.poll_read_deadline(cx);
        }
        if self.at_once >= READ_AT_ONCE {
            self.at_once = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buf.filled().len();
        if self.give_pending(buf) || matches!(self.why, Why::Refused(_)) {
            self.at_once += buf.filled().len() - before;
            return Poll::Ready(Ok(()));
        }
        loop {
            match self.poll_fill(cx, buf) {
                Poll::Ready(Ok(true)) => {
                    let read = buf.filled().len() - before;
                    self.at_once += read;
                    self.conn.untaken.set(self.conn.untaken.get() + read);
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(Ok(false)) => {}
                // TLS that ends without a goodbye. A request's own framing says whether it is whole (RFC 9112, section 9.8),
                // and a sender that only closed its side still waits for the answer.
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => return Poll::Ready(Ok(())),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    self.at_once = 0;
                    return self.poll_read_deadline(cx);
                }
            }
        }
    }
}

impl<S: AsyncWrite + Unpin, W: Witness> AsyncWrite for Guarded<S, W> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.check_open()?;
        let ours = match foreign_answer(buf) {
            None => buf,
            Some(0) => {
                let flushed = Pin::new(&mut self.stream).poll_flush(cx);
                ready!(self.within_patience(flushed, cx))?;
                self.break_off(Why::Refused(Refusal::Invalid));
                self.conn.close();
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
        self.ended();
        let closed = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.within_patience(closed, cx)
    }
}

impl<S, W: Witness> Drop for Guarded<S, W> {
    fn drop(&mut self) {
        self.ended();
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
