//! The memory for bodies, over all connections, and who gives it up when there is none left.
//!
//! A connection that is not proven may be a stranger's, who sends most of a body and holds it. So when memory is needed,
//! the slowest body of such a connection is dropped with its connection. A proven connection keeps what it has.

use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus::IntCounter;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};

use crate::listener::{Admitted, GRACE};
use crate::throttle::Throttle;

/// What each body may have without asking: more than nearly all have in all. The number of connections bounds it.
pub(super) const FREE: usize = 8 * 1024;

/// So many unproven connections may wait for memory. Any more are closed at once: who waits has buffers of its own, and who
/// is answered keeps them until the rest of the body has come.
const MAX_WAITING: usize = if cfg!(test) { 2 } else { 128 };

/// Bytes of bodies beyond the first [`FREE`] of each.
pub(super) struct Memory {
    bytes: Semaphore,
    /// Bodies of unproven connections that are still to come.
    slow: Mutex<HashMap<u64, Slow>>,
    next: AtomicU64,
    /// Unproven connections that wait, in the order of arrival.
    line: tokio::sync::Mutex<()>,
    may_wait: Semaphore,
    dropped: IntCounter,
    lines: Throttle,
}

struct Slow {
    since: Instant,
    bytes: usize,
    admitted: Arc<Admitted>,
}

impl Slow {
    /// In bytes a second.
    fn pace(&self, now: Instant) -> u128 {
        let micros = now.duration_since(self.since).as_micros().max(1);
        self.bytes as u128 * 1_000_000 / micros
    }
}

impl Memory {
    /// `dropped` counts bodies that are dropped to make room.
    pub(super) fn new(bytes: usize, dropped: IntCounter) -> Self {
        Self {
            bytes: Semaphore::new(bytes),
            slow: Mutex::default(),
            next: AtomicU64::new(0),
            line: tokio::sync::Mutex::default(),
            may_wait: Semaphore::new(MAX_WAITING),
            dropped,
            lines: Throttle::default(),
        }
    }

    /// Begins a body on this connection.
    pub(super) fn begin<'a>(&'a self, admitted: &'a Arc<Admitted>) -> Share<'a> {
        Share { memory: self, admitted, permit: None, bytes: 0, number: None }
    }

    /// What is left.
    #[cfg(test)]
    pub(super) fn left(&self) -> usize {
        self.bytes.available_permits()
    }

    fn slow(&self) -> MutexGuard<'_, HashMap<u64, Slow>> {
        self.slow.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drops the slowest of the others that may be dropped. The error is the time at which the next one may be; `None` when
    /// there is no other one.
    fn drop_slowest(&self, asking: Option<u64>) -> Result<(), Option<Instant>> {
        let now = Instant::now();
        let slow = self.slow();
        let others = slow.iter().filter(|(number, body)| Some(**number) != asking && !body.admitted.is_proven());
        // A proven connection does not wait until others have had their time.
        let grace = if asking.is_some() { GRACE } else { std::time::Duration::ZERO };
        let (ripe, young): (Vec<_>, Vec<_>) = others.partition(|(_, body)| body.since + grace <= now);
        let Some((_, body)) = ripe.into_iter().min_by_key(|(_, body)| body.pace(now)) else {
            return Err(young.into_iter().map(|(_, body)| body.since + grace).min());
        };
        if body.admitted.evict() {
            self.dropped.inc();
            if let Some(suppressed) = self.lines.admit(now.into_std()) {
                tracing::warn!(peer = %body.admitted.peer().ip().to_canonical(), bytes = body.bytes, suppressed,
                    "the memory for bodies is used up: closed the connection with the slowest body of those that have shown no valid signature");
            }
        }
        Ok(())
    }
}

/// What one body has of the memory, until it is dropped.
pub(super) struct Share<'a> {
    memory: &'a Memory,
    admitted: &'a Arc<Admitted>,
    permit: Option<SemaphorePermit<'a>>,
    bytes: usize,
    /// Its number among the slow ones.
    number: Option<u64>,
}

impl Share<'_> {
    /// Takes so many bytes more; false when there is no room. Waits for others to give theirs up, if they have to.
    pub(super) async fn grow(&mut self, bytes: usize) -> bool {
        let charged = |bytes: usize| bytes.saturating_sub(FREE);
        let more = charged(self.bytes + bytes) - charged(self.bytes);
        self.bytes += bytes;
        self.note();
        let Ok(more) = u32::try_from(more) else { return false };
        if more == 0 {
            return true;
        }
        let permit = match self.memory.bytes.try_acquire_many(more) {
            Ok(permit) => permit,
            Err(_) => match self.make_room(more).await {
                Some(permit) => permit,
                None => return false,
            },
        };
        match &mut self.permit {
            Some(own) => own.merge(permit),
            None => self.permit = Some(permit),
        }
        true
    }

    /// Notes how far an unproven connection has come with a body that needs memory.
    fn note(&mut self) {
        if self.bytes <= FREE || self.admitted.is_proven() {
            return;
        }
        let number = *self.number.get_or_insert_with(|| self.memory.next.fetch_add(1, Ordering::Relaxed));
        let mut slow = self.memory.slow();
        let new = || Slow { since: Instant::now(), bytes: 0, admitted: Arc::clone(self.admitted) };
        slow.entry(number).or_insert_with(new).bytes = self.bytes;
    }
}

impl<'a> Share<'a> {
    /// Has others dropped until there is room for so many bytes.
    fn make_room(&self, more: u32) -> impl Future<Output = Option<SemaphorePermit<'a>>> + use<'a> {
        let (memory, admitted) = (self.memory, self.admitted);
        let asking = self.number.filter(|_| !admitted.is_proven());
        async move {
            let waits = asking.map(|_| memory.may_wait.try_acquire()).transpose();
            let Ok(waits) = waits else {
                memory.dropped.inc_by(u64::from(admitted.evict()));
                return None;
            };
            let _turn = if waits.is_some() { Some(memory.line.lock().await) } else { None };
            loop {
                if let Ok(permit) = memory.bytes.try_acquire_many(more) {
                    return Some(permit);
                }
                let until = match memory.drop_slowest(asking) {
                    // Its memory is free as soon as its thread has closed it.
                    Ok(()) => Instant::now() + GRACE,
                    Err(Some(ripe)) => ripe,
                    Err(None) => return None,
                };
                if let Ok(permit) = timeout_at(until, memory.bytes.acquire_many(more)).await {
                    return permit.ok();
                }
            }
        }
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.memory.slow().remove(&number);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use bytes::Bytes;
    use futures_util::{FutureExt as _, stream};
    use tokio::time::advance;

    use super::super::body::{self, Body, Limits};
    use super::*;
    use crate::listener::Admission;
    use crate::verify::Keys;

    const MAX: usize = 4 * FREE;

    fn memory(bytes: usize) -> Memory {
        Memory::new(bytes, IntCounter::new("dropped", "dropped").unwrap())
    }

    async fn connections(count: u16) -> Vec<Arc<Admitted>> {
        let admission = Admission::new(64, |_| ());
        let mut all = Vec::new();
        for port in 0..count {
            all.push(Arc::new(admission.admit(SocketAddr::from(([127, 0, 0, 1], port))).await));
        }
        all
    }

    fn is_evicted(connection: &Admitted) -> bool {
        connection.evicted().now_or_never().is_some()
    }

    #[tokio::test(start_paused = true)]
    async fn the_slowest_unproven_body_makes_room() {
        let (memory, connections) = (memory(3 * FREE), connections(4).await);
        let mut shares: Vec<_> = connections.iter().map(|connection| memory.begin(connection)).collect();
        let asking = shares.pop().unwrap();
        connections[0].prove();
        for share in &mut shares {
            assert!(share.grow(FREE).await && share.grow(10).await);
            assert!(share.grow(FREE - 10).await);
            advance(GRACE).await;
        }
        assert_eq!(memory.left(), 0);
        // The second is slower than the third: it has as much, in more time. The first is slower still, and proven.
        let mut asking = asking;
        let mut growing = Box::pin(asking.grow(FREE + 1));
        assert!(futures_util::poll!(&mut growing).is_pending());
        assert_eq!([0, 1, 2].map(|n| is_evicted(&connections[n])), [false, true, false]);
        drop(shares.remove(1));
        assert!(growing.await);
        assert_eq!((memory.left(), memory.dropped.get()), (FREE - 1, 1));
        drop((asking, shares));
        assert_eq!((memory.left(), memory.slow().len()), (3 * FREE, 0), "everything is given back");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_has_its_time_before_another_one_takes_its_memory() {
        let (memory, connections) = (memory(FREE), connections(2).await);
        let mut first = memory.begin(&connections[0]);
        assert!(first.grow(2 * FREE).await);
        let mut second = memory.begin(&connections[1]);
        let mut growing = Box::pin(second.grow(2 * FREE));
        assert!(futures_util::poll!(&mut growing).is_pending() && !is_evicted(&connections[0]));
        advance(GRACE).await;
        assert!(futures_util::poll!(&mut growing).is_pending() && is_evicted(&connections[0]));
        drop(first);
        assert!(growing.await);
    }

    #[tokio::test(start_paused = true)]
    async fn few_wait_and_the_others_are_closed() {
        let (memory, connections) = (memory(FREE), connections(4).await);
        let mut shares: Vec<_> = connections.iter().map(|connection| memory.begin(connection)).collect();
        assert!(shares[0].grow(2 * FREE).await);
        let mut growing: Vec<_> = shares[1..].iter_mut().map(|share| Box::pin(share.grow(2 * FREE))).collect();
        assert!(futures_util::poll!(&mut growing[0]).is_pending() && futures_util::poll!(&mut growing[1]).is_pending());
        assert!(!growing.pop().unwrap().await);
        assert_eq!([0, 1, 2, 3].map(|n| is_evicted(&connections[n])), [false, false, false, true]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_proven_connection_does_not_wait_for_that() {
        let (memory, connections) = (memory(FREE), connections(2).await);
        let mut first = memory.begin(&connections[0]);
        assert!(first.grow(2 * FREE).await);
        connections[1].prove();
        let mut second = memory.begin(&connections[1]);
        let mut growing = Box::pin(second.grow(2 * FREE));
        assert!(futures_util::poll!(&mut growing).is_pending() && is_evicted(&connections[0]));
        drop(first);
        assert!(growing.await);
    }

    #[tokio::test]
    async fn where_only_proven_connections_have_memory_there_is_none() {
        let (memory, connections) = (memory(FREE), connections(2).await);
        connections.iter().for_each(|connection| connection.prove());
        let (mut first, mut second) = (memory.begin(&connections[0]), memory.begin(&connections[1]));
        assert!(first.grow(2 * FREE).await);
        assert!(second.grow(FREE).await, "small bodies need none");
        assert!(!second.grow(1).await);
        drop(first);
        assert!(second.grow(1).await);
    }

    #[tokio::test]
    async fn memory_for_bodies_is_bounded_and_given_back() {
        let (memory, connections) = (memory(5 * FREE), connections(2).await);
        connections.iter().for_each(|connection| connection.prove());
        let keys = Keys::new(&[b"secret"]).unwrap();
        let limits = Limits { max: MAX, memory: &memory, admitted: &connections[0], keys: &keys };
        let pieces = |count: usize| stream::iter(vec![Ok::<_, ()>(Bytes::from_static(&[b'x'; FREE])); count]);

        let first = body::read(&mut pieces(4), Some(MAX as u64), &limits).await;
        let Body::Whole(bytes, share) = first else { panic!("the first body fits") };
        assert_eq!((bytes.len(), memory.left()), (MAX, 2 * FREE));
        assert!(matches!(body::read(&mut pieces(4), None, &limits).await, Body::NoRoom));
        assert_eq!(memory.left(), 2 * FREE, "what was taken for the refused body is given back");
        drop(share);
        assert!(matches!(body::read(&mut pieces(4), None, &limits).await, Body::Whole(..)));
        let broken = &mut stream::iter([Ok(Bytes::from_static(&[b'x'; 2 * FREE])), Err(())]);
        assert!(matches!(body::read(broken, Some(MAX as u64), &limits).await, Body::Broken));
        assert_eq!(memory.left(), 5 * FREE);
    }

    /// A promise alone takes no memory from others: only what has arrived does.
    #[tokio::test]
    async fn a_declared_length_reserves_nothing() {
        let (memory, connections) = (memory(FREE), connections(1).await);
        let keys = Keys::new(&[b"secret"]).unwrap();
        let limits = Limits { max: MAX, memory: &memory, admitted: &connections[0], keys: &keys };
        let mut silent = stream::pending::<Result<Bytes, ()>>();
        let mut reading = Box::pin(body::read(&mut silent, Some(MAX as u64), &limits));
        assert!(futures_util::poll!(&mut reading).is_pending());
        assert_eq!(memory.left(), FREE);
    }
}
