//! `serve`

use std::io::{self, IsTerminal as _, Write};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::Notify;
use tracing_subscriber::EnvFilter;

use super::output::visible;
use super::view::wants_colours;
use super::{ConfigArgs, Exit, dev};
use crate::app::{self, AppError, Reload, SetLevel, Sockets};
use crate::config::{self, Env, Log, LogFormat, Reading};
use crate::lifecycle::{Signals, Stop};

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

/// Libraries whose everyday lines say nothing to an operator; with rustls and actix_http, which calls each malformed request
/// an error, anyone could write any number of them. lapin would log what the broker returns, body and all.
pub(super) const QUIET: &str = "actix_server=warn,actix_http=off,rusqlite_migration=warn,rustls=error,lapin=off";

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
    let Reading { settings, effective, tree, .. } = config::read(&files, &Env::of_process());
    let settings = settings?;
    let sockets = sockets.agreeing_with(&settings)?;
    if args.dev {
        dev::introduce(&settings);
    }
    let set_level = init_logging(&settings.log)?;
    for warning in &settings.warnings {
        tracing::warn!("{warning}");
    }
    let stop = Stop::default();
    let reload = Reload { files, effective, tree, asked: hangup, set_level };
    let mut daemon = std::pin::pin!(app::run(settings, sockets, reload, stop.clone()));
    let ended = tokio::select! {
        ended = &mut daemon => ended,
        () = signals.pass_on(stop) => daemon.await,
    };
    let is_misconfigured = matches!(ended, Err(AppError::Config(_)));
    match ended.map_err(anyhow::Error::new) {
        Ok(()) => Ok(Exit::Success),
        // Whoever collects the log finds the end of it there, in its format.
        Err(error) if tracing::enabled!(tracing::Level::ERROR) => {
            tracing::error!(error = format!("{error:#}"), "the daemon has failed");
            Ok(if is_misconfigured { Exit::Misconfigured } else { Exit::Finding })
        }
        Err(error) => Err(error),
    }
}

/// The function that is given back changes the level.
fn init_logging(log: &Log) -> anyhow::Result<SetLevel> {
    let first = filter(&log.level).context("log.level is not understood")?;
    let logs = tracing_subscriber::fmt().with_env_filter(first).with_writer(std::io::stderr);
    Ok(match log.format {
        LogFormat::Json => {
            let logs = logs.json().flatten_event(true).with_filter_reloading();
            let handle = logs.reload_handle();
            logs.init();
            Box::new(move |level| _ = filter(level).map(|filter| handle.reload(filter)))
        }
        LogFormat::Text => {
            let var = |name: &str| std::env::var_os(name);
            let is_terminal = std::io::stderr().is_terminal();
            let colours = wants_colours(is_terminal, var("NO_COLOR").as_deref(), var("CLICOLOR_FORCE").as_deref());
            let logs = logs.with_ansi(colours).with_writer(|| Visible(std::io::stderr())).with_filter_reloading();
            let handle = logs.reload_handle();
            logs.init();
            Box::new(move |level| _ = filter(level).map(|filter| handle.reload(filter)))
        }
    })
}

/// What comes later in the list wins, so that the configuration can still ask for what is quiet otherwise.
fn filter(level: &str) -> Result<EnvFilter, tracing_subscriber::filter::ParseError> {
    EnvFilter::try_new(format!("{QUIET},{level}"))
}

/// Log lines for people: what somebody else has written into an id or a name must not hide in them. The library itself
/// escapes control characters.
struct Visible<W>(W);

impl<W: Write> Write for Visible<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match std::str::from_utf8(line) {
            Ok(text) => self.0.write_all(visible(text).as_bytes())?,
            Err(_) => self.0.write_all(line)?,
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_hides_in_a_line_for_people() {
        let mut bytes = Vec::new();
        let line = "\u{1b}[32mINFO\u{1b}[0m id=user\u{202e}gpj\u{2028}x é\n";
        Visible(&mut bytes).write_all(line.as_bytes()).unwrap();
        let shown = "\u{1b}[32mINFO\u{1b}[0m id=user\\u{202e}gpj\\u{2028}x é\n";
        assert_eq!(String::from_utf8(bytes).unwrap(), shown);
    }
}
