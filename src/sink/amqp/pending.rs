//! Futures of which only those that have something to say are asked.

use std::collections::HashMap;
use std::future::Future;
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::future::BoxFuture;
use futures_util::task::AtomicWaker;

/// Numbered futures that are not done yet. Asking them costs what has been woken, however many there are.
///
/// A `FuturesUnordered` would do, but for one promise that it does not make: it may say that nothing is ready when
/// something is. Here, when one that was woken is seen to be done, all that were woken before it have been asked, too.
pub(super) struct Pending<T> {
    futures: HashMap<u64, (BoxFuture<'static, T>, Waker)>,
    woken: Arc<Woken>,
}

/// The numbers of those that were woken, in that order, and the task that asks them.
#[derive(Default)]
struct Woken {
    numbers: Mutex<Vec<u64>>,
    task: AtomicWaker,
}

impl Woken {
    fn add(&self, number: u64) {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner).push(number);
        self.task.wake();
    }

    fn take(&self) -> Vec<u64> {
        mem::take(&mut *self.numbers.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Wakes one future.
struct Waking {
    number: u64,
    woken: Arc<Woken>,
}

impl Wake for Waking {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.add(self.number);
    }
}

impl<T> Pending<T> {
    pub(super) fn new() -> Self {
        Self { futures: HashMap::new(), woken: Arc::default() }
    }

    /// Takes a future under a number of its own. It is asked for the first time with the next [`Self::poll_done`], after
    /// those that were taken before it.
    pub(super) fn push(&mut self, number: u64, future: impl Future<Output = T> + Send + 'static) {
        let waker = Waker::from(Arc::new(Waking { number, woken: Arc::clone(&self.woken) }));
        self.futures.insert(number, (Box::pin(future), waker));
        self.woken.add(number);
    }

    /// Ready with everything that is done, as soon as something is.
    pub(super) fn poll_done(&mut self, cx: &mut Context<'_>) -> Poll<Vec<(u64, T)>> {
        // Before the list is looked at: what is added to it later wakes the task.
        self.woken.task.register(cx.waker());
        let mut done = Vec::new();
        loop {
            let woken = self.woken.take();
            if woken.is_empty() {
                break;
            }
            for number in woken {
                // Woken twice, it may have been done the first time.
                let Some((future, waker)) = self.futures.get_mut(&number) else { continue };
                if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(waker)) {
                    self.futures.remove(&number);
                    done.push((number, output));
                }
            }
        }
        if done.is_empty() { Poll::Pending } else { Poll::Ready(done) }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::Pin;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use tokio::sync::oneshot;

    use super::*;

    fn poll<T>(pending: &mut Pending<T>) -> Poll<Vec<(u64, T)>> {
        pending.poll_done(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn only_what_is_woken_is_asked() {
        let (mut pending, asked) = (Pending::new(), Arc::new(AtomicUsize::new(0)));
        let mut ends: Vec<_> = (0..1000)
            .map(|number| {
                let ((end, mut ended), asked) = (oneshot::channel::<()>(), Arc::clone(&asked));
                let counted = poll_fn(move |cx| {
                    asked.fetch_add(1, Ordering::Relaxed);
                    Pin::new(&mut ended).poll(cx)
                });
                pending.push(number, counted);
                end
            })
            .collect();
        assert!(poll(&mut pending).is_pending() && asked.swap(0, Ordering::Relaxed) == 1000);
        for number in [500, 7] {
            ends.remove(number).send(()).unwrap();
        }
        let Poll::Ready(done) = poll(&mut pending) else { panic!("nothing is done") };
        assert_eq!(done.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [500, 7]);
        assert_eq!(asked.load(Ordering::Relaxed), 2);
        assert!(poll(&mut pending).is_pending());
    }

    /// What was done before something else was seen to be done comes with it, and not later.
    #[test]
    fn nothing_that_was_done_before_is_left_out() {
        let mut pending = Pending::new();
        let (first, ended) = oneshot::channel();
        let mut first = Some(first);
        pending.push(1, async move { ended.await.is_ok() });
        // Between the look at the first and the look at the second, both are done, the first before the second.
        pending.push(2, async move { first.take().is_some_and(|first| first.send(()).is_ok()) });
        assert_eq!(poll(&mut pending), Poll::Ready(vec![(2, true), (1, true)]));
    }

    #[tokio::test]
    async fn a_task_that_waits_is_woken() {
        let mut pending = Pending::new();
        let (end, ended) = oneshot::channel();
        pending.push(1, async move { ended.await.unwrap() });
        let done = tokio::time::timeout(Duration::from_secs(10), poll_fn(|cx| pending.poll_done(cx)));
        let (done, ()) = tokio::join!(done, async { end.send("done").unwrap() });
        assert_eq!(done.expect("it was not woken"), [(1, "done")]);
    }
}
