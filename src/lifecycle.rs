//! The process's life: signals, and telling the service manager.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Asks to stop: `soft` at the first SIGTERM or SIGINT (finish what is in flight), `hard` at the second (stop now).
#[derive(Clone, Debug, Default)]
pub struct Stop {
    /// Finish what is in flight, then stop.
    pub soft: CancellationToken,
    /// Stop now; what is in flight is delivered again after the next start.
    pub hard: CancellationToken,
}

impl Stop {
    /// Cancels the tokens as signals come in; runs until the second.
    pub async fn on_signals(self) -> io::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        for token in [&self.soft, &self.hard] {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            tracing::info!(signal = name, "asked to stop");
            token.cancel();
        }
        Ok(())
    }
}

/// Tells the service manager (systemd's `Type=notify`), where there is one.
pub fn notify(state: sd_notify::NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "the service manager could not be told");
    }
}
