//! The process's life: signals, and telling the service manager.

use std::io;
use std::sync::Arc;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Asks to stop: `soft` at the first SIGTERM or SIGINT (finish what is in flight), `hard` at the second (stop now).
#[derive(Clone, Debug, Default)]
pub struct Stop {
    /// Finish what is in flight, then stop.
    pub soft: CancellationToken,
    /// Stop now; what is in flight is delivered again after the next start.
    pub hard: CancellationToken,
}

/// SIGTERM and SIGINT, received from here on instead of ending the process; SIGHUP too, where it means something.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Option<(Signal, Arc<Notify>)>,
}

impl Signals {
    /// Must be called within a runtime.
    pub fn register() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: None,
        })
    }

    /// From here on SIGHUP wakes `reload`, instead of ending the process.
    pub fn with_hangup(mut self, reload: Arc<Notify>) -> io::Result<Self> {
        self.hangup = Some((signal(SignalKind::hangup())?, reload));
        Ok(self)
    }

    /// Cancels the tokens as SIGTERM and SIGINT come in; runs until the second.
    pub async fn pass_on(mut self, stop: Stop) {
        for token in [&stop.soft, &stop.hard] {
            let name = loop {
                tokio::select! {
                    _ = self.terminate.recv() => break "SIGTERM",
                    _ = self.interrupt.recv() => break "SIGINT",
                    reload = hangup(&mut self.hangup) => reload.notify_one(),
                }
            };
            tracing::info!(signal = name, "asked to stop");
            token.cancel();
        }
    }
}

/// The next SIGHUP, and who is to be woken by it.
async fn hangup(hangup: &mut Option<(Signal, Arc<Notify>)>) -> &Notify {
    match hangup {
        Some((signal, reload)) => {
            signal.recv().await;
            reload
        }
        None => std::future::pending().await,
    }
}

/// Tells the service manager (systemd's `Type=notify` and `Type=notify-reload`), where there is one.
pub fn notify(states: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager could not be told");
    }
}

/// A crash leaves no picture of the memory, which holds secrets and bodies. Only the soft limit: who has to find out why
/// a crash happens can raise it again with `prlimit`.
pub fn forbid_core_dumps() {
    let limit = Rlimit { current: Some(0), ..getrlimit(Resource::Core) };
    // A limit can always be lowered.
    let _ = setrlimit(Resource::Core, limit);
}
