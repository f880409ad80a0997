//! Keeping the note of arrival times that makes searches by time quick: behind the acknowledgement, and only once there
//! is something to note.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::inbox;
use crate::inbox::sqlite::Reader;
use crate::model::Seq;

/// Between two portions: a past of ten million events is noted within a minute or two, a little at a time.
const PAUSE: Duration = Duration::from_secs(1);
/// Between two tries where the note cannot be written.
const AGAIN: Duration = Duration::from_secs(300);

/// Runs until it is asked to stop.
pub(super) async fn keep(config: inbox::Config, mut head: watch::Receiver<Seq>, stop: CancellationToken) {
    let noting = async {
        let mut noted = Seq::ZERO;
        loop {
            let is_due = |head: &Seq| head.get() - noted.get() >= Reader::TIMES_BLOCK;
            if head.wait_for(is_due).await.is_err() {
                return std::future::pending().await;
            }
            sleep(PAUSE).await;
            let config = config.clone();
            match tokio::task::spawn_blocking(move || Reader::note_times(&config)).await {
                Ok(Ok(upto)) => noted = upto,
                Ok(Err(error)) => {
                    tracing::warn!(%error, reason = ?error, "searches by time are slow until this is mended");
                    sleep(AGAIN).await;
                }
                Err(_) => return std::future::pending().await,
            }
        }
    };
    stop.run_until_cancelled(noting).await;
}
