//! `serve`

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use tokio::sync::Notify;

use super::check::listener_remedy;
use super::log::DaemonLog;
use super::{ConfigArgs, Exit, dev};
use crate::app::{self, AppError, Reload, Sockets};
use crate::config::{self, Env, Reading};
use crate::lifecycle::{Signals, Stop};
use crate::metrics::Metrics;

/// Run the daemon
///
/// Receives deliveries, stores them, and hands them to every configured sink. SIGTERM or Ctrl-C finishes what is in
/// flight, within server.drain_timeout; a second one stops at once. Listening sockets that systemd passes on, named public
/// and admin, are used instead of new ones. Certificates and secrets are read again when their files change. SIGHUP has the
/// whole configuration read again: sinks, routes and log.level are taken, and what needs a restart is named. Logs go to
/// stderr. On admin.listen there are a page for people at /, the API under /api/ (/api/openapi.json describes it),
/// /metrics, /healthz and /readyz.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  ralio-relay serve --dev
  ralio-relay serve --config /etc/ralio-relay/relay.toml")]
pub(crate) struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// Try it out: a self-signed certificate, a generated secret, an inbox and a configuration to start from, all in
    /// ./.ralio-relay; events go to stdout
    #[arg(long, conflicts_with = "config")]
    dev: bool,
}

pub(crate) fn run(args: Args) -> anyhow::Result<Exit> {
    // Before there are threads.
    let sockets = Sockets::inherited()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut log = None;
    let served = runtime.block_on(serve(args, sockets, &mut log));
    // A blocking call that does not end must not hold up the exit, after a failure least of all: a disk that failed
    // may hang. Whatever it was doing is unknown.
    runtime.shutdown_timeout(Duration::from_millis(500));
    drop(log);
    served
}

/// `log` is set once there is one: what ends after this still logs.
async fn serve(args: Args, sockets: Sockets, log: &mut Option<DaemonLog>) -> anyhow::Result<Exit> {
    // First of all, so that whoever has seen a line of ours may ask us to stop.
    let hangup = Arc::new(Notify::new());
    let signals = Signals::register().and_then(|signals| signals.with_hangup(Arc::clone(&hangup)));
    let signals = signals.context("signals cannot be received")?;
    let files = if args.dev { dev::prepare()? } else { args.config.config };
    let Reading { settings, effective, tree, .. } = config::read(&files, &Env::of_process());
    let settings = settings?;
    let sockets = sockets.agreeing_with(&settings)?;
    if args.dev {
        dev::addresses_are_free(&settings)?;
        dev::introduce(&settings);
    }
    let metrics = Arc::new(Metrics::new());
    let (begun, set_level) = DaemonLog::begin(&settings.log, metrics.log_lines_dropped.clone())?;
    *log = Some(begun);
    for warning in &settings.warnings {
        tracing::warn!("{warning}");
    }
    let stop = Stop::default();
    let reload = Reload { files, effective, tree, asked: hangup, set_level };
    let mut daemon = std::pin::pin!(app::run(settings, sockets, reload, metrics, stop.clone()));
    let ended = tokio::select! {
        ended = &mut daemon => ended,
        () = signals.pass_on(stop) => daemon.await,
    };
    let is_misconfigured = matches!(ended, Err(AppError::Config(_)));
    match ended.map_err(with_remedy) {
        Ok(()) => Ok(Exit::Success),
        // Whoever collects the log finds the end of it there, in its format.
        Err(error) if tracing::enabled!(tracing::Level::ERROR) => {
            tracing::error!(error = format!("{error:#}"), "the daemon has failed");
            Ok(if is_misconfigured { Exit::Misconfigured } else { Exit::Finding })
        }
        Err(error) => Err(error),
    }
}

/// The error with what to do about it, where somebody else has the address.
fn with_remedy(error: AppError) -> anyhow::Error {
    if let AppError::Listen { addr, source, .. } = &error {
        let remedy = listener_remedy(*addr, source);
        return anyhow!("{:#}: {remedy}", anyhow::Error::new(error));
    }
    error.into()
}
