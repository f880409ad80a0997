//! The sinks that there are at the moment, shared by whoever exchanges them and whoever carries out jobs.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::consume::{self, Consumer, End, Handle};
use crate::sink::Sink;

/// A configured sink.
pub struct Destination {
    /// How it is fed.
    pub config: consume::Config,
    /// What it is; a replay shares it with the live consumer.
    pub sink: Arc<dyn Sink>,
    /// Its consumer, where that is running.
    pub live: Option<Handle>,
    /// Every consumer that delivers to it, the live one and replays.
    pub users: Users,
}

/// The configured sinks. Clones are one.
#[derive(Clone, Default)]
pub struct Destinations(Arc<Mutex<Vec<Destination>>>);

impl Destinations {
    /// Nobody else has them yet.
    pub fn new(destinations: Vec<Destination>) -> Self {
        Self(Arc::new(Mutex::new(destinations)))
    }

    /// The sinks, as long as the guard is held. Who changes a consumer in the inbox and tells it so holds it all the while,
    /// and so does who opens a consumer and puts it in here: each consumer has then read the change, or is told of it.
    pub async fn lock(&self) -> MutexGuard<'_, Vec<Destination>> {
        self.0.lock().await
    }
}

/// The consumers that deliver to one sink. Clones are one.
#[derive(Clone, Default)]
pub struct Users {
    soft: CancellationToken,
    hard: CancellationToken,
    tracker: TaskTracker,
}

/// The right of one consumer to deliver to a sink.
pub struct Use {
    users: Users,
    _counted: TaskTrackerToken,
}

impl Users {
    /// One more. `None` once they have been asked to end: the sink is about to be closed.
    #[must_use]
    pub fn enter(&self) -> Option<Use> {
        let entered = Use { users: self.clone(), _counted: self.tracker.token() };
        (!self.soft.is_cancelled()).then_some(entered)
    }

    /// Has every consumer finish what is in flight and record it. What has not ended within `grace` is dropped: whether it
    /// arrived is unknown, and it is delivered again. When this returns, nobody delivers to the sink any more.
    pub async fn end(&self, grace: Duration) {
        self.soft.cancel();
        self.tracker.close();
        if timeout(grace, self.tracker.wait()).await.is_err() {
            self.hard.cancel();
            self.tracker.wait().await;
        }
    }
}

impl Use {
    /// Runs a consumer until it ends, until `stop`, which has to be its own, or until the users of its sink are to end.
    pub async fn run(self, consumer: Consumer, stop: CancellationToken) -> End {
        let Users { soft, hard, .. } = &self.users;
        let run = hard.run_until_cancelled(consumer.run(stop.clone()));
        let pass_on = async {
            soft.cancelled().await;
            stop.cancel();
            std::future::pending().await
        };
        tokio::select! {
            biased;
            end = run => end.unwrap_or(End::Stopped),
            () = pass_on => unreachable!("it never resolves"),
        }
    }
}
