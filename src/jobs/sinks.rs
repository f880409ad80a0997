//! The sinks that there are at the moment, shared by whoever exchanges them and whoever carries out jobs.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard, Notify};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::consume::{self, Consumer, End, Handle};
use crate::inbox::{Change, ConsumerId, Effect};
use crate::model::SinkName;
use crate::sink::Sink;

/// A configured sink.
pub struct Destination {
    /// How it is fed.
    pub config: consume::Config,
    /// What it is; a replay shares it with the live consumer. `None` while it cannot be built, and while it is exchanged.
    pub sink: Option<Arc<dyn Sink>>,
    /// The number of its own consumer in the inbox, running or not; `None` where a command carries out a job.
    pub consumer: Option<ConsumerId>,
    /// Its own consumer, where that is running.
    pub live: Option<Handle>,
    /// Every consumer that delivers to it, the live one and replays.
    pub users: Users,
    /// Notified when a sink that is unavailable is to be tried at once.
    pub retry_now: Arc<Notify>,
}

impl Destination {
    /// A sink without a consumer of its own.
    pub fn new(config: consume::Config, sink: Option<Arc<dyn Sink>>) -> Self {
        let (users, retry_now) = (Users::default(), Arc::default());
        Self { config, sink, consumer: None, live: None, users, retry_now }
    }

    /// Passes an effect on when it is about the sink's own consumer. One that does not run reads from the inbox what has
    /// changed; only [`Change::TryNow`] has to reach it.
    pub fn tell(&self, effect: &Effect) {
        match &self.live {
            Some(consumer) => consumer.tell(effect),
            None if self.consumer == Some(effect.consumer) && effect.change == Change::TryNow => {
                self.retry_now.notify_one();
            }
            None => {}
        }
    }

    /// Has a running consumer try at once, and an unavailable sink be built at once.
    pub fn try_now(&self) {
        if let Some(consumer) = self.consumer {
            self.tell(&Effect { consumer, change: Change::TryNow });
        }
    }
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

    /// [`Destination::try_now`] for the sink that the configuration has under this name. False when it has none.
    pub async fn try_now(&self, name: &SinkName) -> bool {
        let sinks = self.lock().await;
        let found = sinks.iter().find(|sink| sink.config.name == *name);
        found.inspect(|sink| sink.try_now()).is_some()
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
