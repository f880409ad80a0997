//! `serve`

use std::ffi::OsStr;
use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::Notify;
use tracing_subscriber::EnvFilter;

use super::{ConfigArgs, Exit, dev};
use crate::app::{self, Reload, Sockets};
use crate::config::{self, Env, Log, LogFormat, Reading};
use crate::lifecycle::{Signals, Stop};

/// Run the daemon
///
/// Receives deliveries, stores them, and hands them to every configured sink. SIGTERM or Ctrl-C finishes what is in
/// flight, within server.drain_timeout; a second one stops at once. Listening sockets that systemd passes on, named public
/// and admin, are used instead of new ones. Certificates and secrets are read again when their
/// files change, and on SIGHUP, which also says what else of the configuration has changed. Logs go to stderr.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  ralio-relay serve --dev                              try it out: no configuration needed
  ralio-relay serve --config /etc/ralio-relay/relay.toml")]
pub(crate) struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// Try it out: a self-signed certificate, a generated secret, an inbox and a configuration to start from, all in
    /// ./.ralio-relay; events go to stdout
    #[arg(long, conflicts_with = "config")]
    dev: bool,
}

/// Libraries whose everyday lines say nothing to an operator; with rustls, anyone could write any number of them. lapin
/// would log what the broker returns, body and all.
pub(super) const QUIET: &str = "actix_server=warn,actix_http=warn,rusqlite_migration=warn,rustls=error,lapin=off";

pub(crate) fn run(args: Args) -> anyhow::Result<Exit> {
    // Before there are threads.
    let sockets = Sockets::inherited()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let served = runtime.block_on(serve(args, sockets));
    // A blocking call that does not end must not hold up the exit, after a failure least of all: a disk that failed
    // may hang. Whatever it was doing is unknown.
    runtime.shutdown_timeout(Duration::from_millis(500));
    served
}

async fn serve(args: Args, sockets: Sockets) -> anyhow::Result<Exit> {
    // First of all, so that whoever has seen a line of ours may ask us to stop.
    let hangup = Arc::new(Notify::new());
    let signals = Signals::register().and_then(|signals| signals.with_hangup(Arc::clone(&hangup)));
    let signals = signals.context("signals cannot be received")?;
    let files = if args.dev { dev::prepare()? } else { args.config.config };
    let Reading { settings, effective } = config::read(&files, &Env::of_process());
    let settings = settings?;
    let sockets = sockets.agreeing_with(&settings)?;
    if args.dev {
        dev::introduce(&settings);
    }
    init_logging(&settings.log)?;
    for warning in &settings.warnings {
        tracing::warn!("{warning}");
    }
    let stop = Stop::default();
    let reload = Reload { files, effective, asked: hangup };
    let mut daemon = std::pin::pin!(app::run(settings, sockets, reload, stop.clone()));
    let ended = tokio::select! {
        ended = &mut daemon => ended,
        () = signals.pass_on(stop) => daemon.await,
    };
    match ended.map_err(anyhow::Error::new) {
        Ok(()) => Ok(Exit::Success),
        // Whoever collects the log finds the end of it there, in its format.
        Err(error) if tracing::enabled!(tracing::Level::ERROR) => {
            tracing::error!(error = format!("{error:#}"), "the daemon has failed");
            Ok(Exit::Finding)
        }
        Err(error) => Err(error),
    }
}

fn init_logging(log: &Log) -> anyhow::Result<()> {
    // What comes later in the list wins, so that the configuration can still ask for these.
    let filter = EnvFilter::try_new(format!("{QUIET},{}", log.level)).context("log.level is not understood")?;
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match log.format {
        LogFormat::Json => logs.json().flatten_event(true).init(),
        LogFormat::Text => {
            let colours = wants_colours(std::io::stderr().is_terminal(), std::env::var_os("NO_COLOR").as_deref());
            logs.with_ansi(colours).init();
        }
    }
    Ok(())
}

/// Colours are for terminals, unless their owner does not want any (no-color.org).
fn wants_colours(is_terminal: bool, no_color: Option<&OsStr>) -> bool {
    is_terminal && no_color.is_none_or(OsStr::is_empty)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_for_terminals_whose_owner_wants_them() {
        assert!(wants_colours(true, None) && wants_colours(true, Some(OsStr::new(""))));
        assert!(!wants_colours(true, Some(OsStr::new("1"))) && !wants_colours(false, None));
    }
}
