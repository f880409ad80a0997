//! Which connections of a listener stay when there are more than it may have.
//!
//! A connection is proven once its peer has shown that it knows a secret: a signature that holds, or a token. A proven
//! connection stays. When all places are taken, the oldest connection that is not proven is closed to make room, so
//! strangers compete with each other for places, and never with those who know a secret.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

/// How long a connection has at least to prove itself. Without it, a flood of new connections would leave none of them
/// the time for a handshake and a request. In that time, new ones wait.
pub(crate) const GRACE: Duration = Duration::from_secs(1);

/// The places of one listener, over all of its threads.
pub(crate) struct Admission {
    places: usize,
    state: Mutex<State>,
    /// Who waits for a place, in the order of arrival.
    line: tokio::sync::Mutex<()>,
    /// A place has become free.
    freed: Notify,
    on_eviction: Box<dyn Fn(SocketAddr) + Send + Sync>,
}

#[derive(Default)]
struct State {
    taken: usize,
    next: u64,
    /// In the order of arrival.
    unproven: BTreeMap<u64, Arc<Entry>>,
}

struct Entry {
    number: u64,
    since: Instant,
    peer: SocketAddr,
    proven: AtomicBool,
    evicted: Notify,
}

impl Admission {
    /// `on_eviction` is told of the peer of each connection that is closed to make room for another one.
    pub(crate) fn new(places: usize, on_eviction: impl Fn(SocketAddr) + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            places,
            state: Mutex::default(),
            line: tokio::sync::Mutex::default(),
            freed: Notify::new(),
            on_eviction: Box::new(on_eviction),
        })
    }

    /// How many connections may be open.
    pub(super) fn places(&self) -> usize {
        self.places
    }

    /// Takes a place for a connection, in the order of arrival. Closes the oldest unproven connection when there is no
    /// free place; waits while there is none, or while it is younger than [`GRACE`].
    pub(crate) async fn admit(self: &Arc<Self>, peer: SocketAddr) -> Admitted {
        let _turn = self.line.lock().await;
        loop {
            let freed = self.freed.notified();
            match self.try_admit(peer) {
                Ok(admitted) => return admitted,
                Err(Some(ripe)) => _ = timeout_at(ripe, freed).await,
                Err(None) => freed.await,
            }
        }
    }

    /// The error is the time at which the oldest unproven connection may be closed; `None` when there is none.
    fn try_admit(self: &Arc<Self>, peer: SocketAddr) -> Result<Admitted, Option<Instant>> {
        let mut state = self.state();
        let now = Instant::now();
        let mut victim = None;
        if state.taken >= self.places {
            let oldest = state.unproven.first_entry().ok_or(None)?;
            let ripe = oldest.get().since + GRACE;
            if ripe > now {
                return Err(Some(ripe));
            }
            // Its place goes to the new one at once; its own end follows on its own thread.
            victim = Some(oldest.remove());
        } else {
            state.taken += 1;
        }
        let number = state.next;
        state.next += 1;
        let entry = Entry { number, since: now, peer, proven: AtomicBool::new(false), evicted: Notify::new() };
        let entry = Arc::new(entry);
        state.unproven.insert(number, Arc::clone(&entry));
        drop(state);
        if let Some(victim) = victim {
            victim.evicted.notify_one();
            (self.on_eviction)(victim.peer);
        }
        Ok(Admitted { admission: Arc::clone(self), entry })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a place back.
    fn free(&self, mut state: MutexGuard<'_, State>) {
        state.taken -= 1;
        drop(state);
        self.freed.notify_one();
    }
}

/// The place of one connection, until it is dropped.
pub(crate) struct Admitted {
    admission: Arc<Admission>,
    entry: Arc<Entry>,
}

impl Admitted {
    /// The peer of the connection.
    pub(crate) fn peer(&self) -> SocketAddr {
        self.entry.peer
    }

    /// Whether its peer has shown that it knows a secret.
    pub(crate) fn is_proven(&self) -> bool {
        self.entry.proven.load(Ordering::Relaxed)
    }

    /// Its peer has shown that it knows a secret: the connection is never closed to make room. Cheap when repeated.
    pub(crate) fn prove(&self) {
        if self.is_proven() {
            return;
        }
        let mut state = self.admission.state();
        // One that was evicted a moment ago has lost its place already.
        if state.unproven.remove(&self.entry.number).is_some() {
            self.entry.proven.store(true, Ordering::Relaxed);
        }
    }

    /// Closes the connection, unless it is proven or closed already; whether it does.
    pub(crate) fn evict(&self) -> bool {
        let mut state = self.admission.state();
        let evicted = state.unproven.remove(&self.entry.number).is_some();
        if evicted {
            self.admission.free(state);
            self.entry.evicted.notify_one();
        }
        evicted
    }

    /// Resolves when the connection is to be closed to make room for another one. For one waiter.
    pub(crate) async fn evicted(&self) {
        self.entry.evicted.notified().await;
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut state = self.admission.state();
        // The place of one that was evicted has gone to another one.
        if self.is_proven() || state.unproven.remove(&self.entry.number).is_some() {
            self.admission.free(state);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use futures_util::FutureExt as _;
    use tokio::time::advance;

    use super::*;

    fn peer(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn admission(places: usize) -> (Arc<Admission>, Arc<AtomicUsize>) {
        let evictions = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&evictions);
        let count = move |_| _ = counter.fetch_add(1, Ordering::Relaxed);
        (Admission::new(places, count), evictions)
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_unproven_connection_makes_room() {
        let (admission, evictions) = admission(2);
        let first = admission.admit(peer(1)).await;
        first.prove();
        let second = admission.admit(peer(2)).await;
        advance(GRACE).await;
        let third = admission.admit(peer(3)).now_or_never().expect("the second one is closed");
        assert!(second.evicted().now_or_never().is_some() && first.evicted().now_or_never().is_none());
        drop(second);
        assert_eq!((admission.state().taken, evictions.load(Ordering::Relaxed)), (2, 1));
        third.prove();
        advance(GRACE).await;
        assert!(admission.admit(peer(4)).now_or_never().is_none(), "proven ones stay");
        drop(first);
        assert!(admission.admit(peer(4)).now_or_never().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_connection_waits_until_the_oldest_has_had_its_time() {
        let (admission, evictions) = admission(1);
        let first = admission.admit(peer(1)).await;
        let began = Instant::now();
        let second = admission.admit(peer(2)).await;
        assert_eq!((began.elapsed().as_secs(), evictions.load(Ordering::Relaxed)), (1, 1));
        assert!(first.evicted().now_or_never().is_some());
        let third = admission.admit(peer(3));
        let (third, ()) = futures_util::future::join(third, async { drop(second) }).await;
        assert_eq!(began.elapsed().as_secs(), 1, "a place that becomes free is taken at once");
        drop(third);
    }

    #[tokio::test]
    async fn an_evicted_connection_gives_nothing_back() {
        let (admission, _) = admission(1);
        let first = admission.admit(peer(1)).await;
        assert!(first.evicted().now_or_never().is_none());
        assert!(first.evict() && !first.evict());
        assert!(first.evicted().now_or_never().is_some());
        let second = admission.admit(peer(2)).now_or_never().expect("its place is free");
        first.prove();
        assert!(!first.is_proven(), "too late");
        drop(first);
        assert_eq!(admission.state().taken, 1);
        drop(second);
        assert_eq!(admission.state().taken, 0);
    }

    /// Whatever connections do and in whatever order, places are counted right, and a proven one is never closed.
    #[tokio::test(start_paused = true)]
    async fn places_are_counted_right_in_any_order() {
        for seed in 0..200 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let (admission, _) = admission(8);
            let mut open: Vec<Admitted> = Vec::new();
            for port in 0..200 {
                match rng.u8(..4) {
                    0 => open.extend(admission.admit(peer(port)).now_or_never()),
                    1 if !open.is_empty() => open[rng.usize(..open.len())].prove(),
                    2 if !open.is_empty() => drop(open.swap_remove(rng.usize(..open.len()))),
                    _ => advance(GRACE / 4).await,
                }
                let state = admission.state();
                let proven = open.iter().filter(|admitted| admitted.is_proven()).count();
                assert!(state.taken <= 8 && state.taken == proven + state.unproven.len(), "seed {seed}");
                let told =
                    open.iter().filter(|admitted| admitted.is_proven() && admitted.evicted().now_or_never().is_some());
                assert_eq!(told.count(), 0, "seed {seed}: a proven connection was closed");
            }
            drop(open);
            assert_eq!(admission.state().taken, 0, "seed {seed}");
        }
    }
}
