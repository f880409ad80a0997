//! Reading the inbox for the API: few connections, short reads, off the listener's thread.

use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use super::refusal::Refusal;
use crate::inbox;
use crate::inbox::sqlite::Reader;

/// Connections; more reads wait for one.
const MAX_READERS: usize = 4;
/// So long a read waits for a connection.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Readers of the inbox, opened as they are needed.
pub(super) struct Readers {
    config: inbox::Config,
    idle: Arc<Mutex<Vec<Reader>>>,
    may_read: Arc<Semaphore>,
}

impl Readers {
    pub(super) fn new(config: inbox::Config) -> Self {
        Self { config, idle: Arc::default(), may_read: Arc::new(Semaphore::new(MAX_READERS)) }
    }

    /// Reads on a thread that may block. The work goes on to its end when nobody waits for it any more: it has to be
    /// short, see [`Budget`].
    pub(super) async fn read<T, E>(
        &self,
        work: impl FnOnce(&mut Reader) -> Result<T, E> + Send + 'static,
    ) -> Result<T, Refusal>
    where
        T: Send + 'static,
        E: Error + Send + 'static,
    {
        let permit = tokio::time::timeout(PATIENCE, Arc::clone(&self.may_read).acquire_owned()).await;
        let permit = permit.ok().and_then(Result::ok).ok_or_else(Refusal::inbox_unavailable)?;
        let (config, idle) = (self.config.clone(), Arc::clone(&self.idle));
        let reading = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let ready = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let mut reader = ready.map_or_else(|| Reader::open(&config).map_err(|error| failed(&error)), Ok)?;
            let result = work(&mut reader).map_err(|error| failed(&error))?;
            idle.lock().unwrap_or_else(PoisonError::into_inner).push(reader);
            Ok(result)
        });
        reading.await.unwrap_or_else(|_| Err(Refusal::inbox_unavailable()))
    }
}

fn failed(error: &dyn Error) -> Refusal {
    let cause = error.source().map(ToString::to_string);
    tracing::warn!(%error, cause, "the admin API cannot read the inbox");
    Refusal::inbox_unavailable()
}

/// How long a walk over the log may go on for one request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget(Instant);

impl Budget {
    pub(super) fn of(time: Duration) -> Self {
        Self(Instant::now() + time)
    }

    /// For what comes in pages.
    pub(super) fn page() -> Self {
        Self::of(Duration::from_millis(500))
    }

    pub(super) fn is_spent(&self) -> bool {
        Instant::now() >= self.0
    }
}
