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

/// Bytes of bodies beyond the first [`FREE`] of each.
pub(super) struct Memory {
    bytes: Semaphore,
    /// Bodies of unproven connections that are still to come.
    slow: Mutex<HashMap<u64, Slow>>,
    next: AtomicU64,
    /// Unproven connections that wait, in the order of arrival.
    line: tokio::sync::Mutex<()>,
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
        let (memory, asking) = (self.memory, self.number.filter(|_| !self.admitted.is_proven()));
        async move {
            let _turn = if asking.is_some() { Some(memory.line.lock().await) } else { None };
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
