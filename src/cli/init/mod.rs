//! `init`: a first configuration, asked for or given in options.

mod ask;
mod plan;
mod render;
mod values;
mod write;

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::ValueEnum;

use self::ask::Stopped;
use self::plan::Plan;
use self::values::Host;
use self::write::{Made, Refused};
use super::Exit;
use super::consent::is_terminal;
use super::output::Output;
use crate::config::{address, url_path};
use crate::lifecycle::Signals;

const EXAMPLES: &str = "\
Examples:
  ralio-relay init
  ralio-relay init --yes --host relay.example.com
  ralio-relay init --yes --host relay.example.com \\
      --cert /etc/ssl/relay.crt --key /etc/ssl/relay.key --secret-file - \\
      --sink amqp --url-file amqp-url --queue ledger < webhook-secret
  ralio-relay init --yes --sink exec -- /usr/bin/handler --flag

What an option gives is not asked for; without a terminal, or with --yes, nothing is, and what is not given \
has its default. Secrets come from files or standard input, never from options, which other users and the \
shell's history see; each is kept in a file of its own (mode 0600) beside relay.toml. Nothing is written before \
all is known, and then all of it or nothing.

Exit code: 0 when it is written, 1 when not, 2 on bad usage.";

/// Write a first configuration: asks, or takes options; then says what to do next
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Where to write relay.toml and its secrets [default: /etc/ralio-relay as root, otherwise ./ralio-relay]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,

    /// Ask nothing
    #[arg(long)]
    yes: bool,

    /// Replace a relay.toml that is there; secrets are never replaced
    #[arg(long)]
    force: bool,

    /// Which of Ralio's environments sends: each has a portal and a secret of its own [default: sandbox]
    #[arg(long, value_enum)]
    environment: Option<Environment>,

    /// Name under which Ralio reaches it, such as relay.example.com; with a port where that is another than the listener's
    #[arg(long, value_name = "HOST", value_parser = Host::new)]
    host: Option<Host>,

    /// Address to listen on [default: 0.0.0.0:8443; behind a proxy 127.0.0.1:8443]
    #[arg(long, value_name = "ADDR", value_parser = listen)]
    listen: Option<SocketAddr>,

    /// Path of the webhook [default: /webhooks/ralio]
    #[arg(long, value_name = "PATH", value_parser = path)]
    path: Option<String>,

    /// Where HTTPS comes from [default: files with --cert and --key, otherwise self-signed]
    #[arg(long, value_enum)]
    tls: Option<TlsFrom>,

    /// PEM file: the certificate, then its intermediates
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,

    /// PEM file: its private key
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,

    /// File with the webhook secret, - for standard input [default: not known yet]
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,

    /// Where events go first [default: stdout]
    #[arg(long, value_enum)]
    sink: Option<SinkKind>,

    #[command(flatten)]
    sink_args: SinkArgs,
}

/// What one type of sink or another needs.
#[derive(clap::Args)]
#[command(next_help_heading = "The sink")]
struct SinkArgs {
    /// file: the file to write [default: events.ndjson beside the inbox]
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,

    /// amqp, http: the URL, where it holds no password
    #[arg(long, value_name = "URL", conflicts_with = "url_file")]
    url: Option<String>,

    /// amqp, http: file with the URL, - for standard input
    #[arg(long, value_name = "FILE")]
    url_file: Option<PathBuf>,

    /// amqp: the topic exchange, declared [default: ralio.events]
    #[arg(long, value_name = "NAME")]
    exchange: Option<String>,

    /// amqp: a queue to declare and bind to everything
    #[arg(long, value_name = "NAME")]
    queue: Option<String>,

    /// http: file with the value of the Authorization header, - for standard input
    #[arg(long, value_name = "FILE")]
    authorization_file: Option<PathBuf>,

    /// exec: the command and its arguments; no shell
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Environment {
    Sandbox,
    Production,
}

impl Environment {
    /// The name of the source.
    fn name(self) -> &'static str {
        match self {
            Self::Sandbox => "sandbox",
            Self::Production => "production",
        }
    }

    /// Where the endpoint is registered.
    fn portal(self) -> &'static str {
        match self {
            Self::Sandbox => "https://portal.sandbox.raliopay.com/account/webhooks",
            Self::Production => "your production portal, under Webhooks",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum TlsFrom {
    /// A certificate made here: for a first try, Ralio does not trust it
    SelfSigned,
    /// A certificate that is there
    Files,
    /// A proxy in front terminates TLS; this listens on plain HTTP
    Proxy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SinkKind {
    /// Standard output, one JSON object a line
    Stdout,
    /// A file, one JSON object a line
    File,
    /// RabbitMQ or another AMQP 0-9-1 broker
    #[cfg(feature = "amqp")]
    Amqp,
    /// Your service, by POST
    Http,
    /// A command, once for each event
    Exec,
}

fn listen(text: &str) -> Result<SocketAddr, String> {
    address(text).map_err(|wrong| format!("{}: {}", wrong.message, wrong.hint))
}

fn path(text: &str) -> Result<String, String> {
    url_path(text).map_err(|wrong| format!("{}: {}", wrong.message, wrong.hint))
}

pub(crate) fn run(args: Args) -> anyhow::Result<Exit> {
    let dir = plan::directory(args.dir.as_deref())?;
    let config = dir.join("relay.toml");
    if config.symlink_metadata().is_ok() && !args.force {
        to_stderr!(
            "error: {0} is there already, and nothing was written. Look at it with: ralio-relay check --config {0}\n    \
             -> --dir DIR writes another one; --force replaces this one, and leaves the secrets beside it as they are",
            config.display()
        );
        return Ok(Exit::Finding);
    }
    let asks = !args.yes && is_terminal();
    let plan = match Plan::new(args, dir, asks) {
        Ok(plan) => plan,
        Err(error) if error.is::<Stopped>() => {
            to_stderr!("nothing was written");
            return Ok(Exit::Finding);
        }
        Err(error) if error.is::<plan::Unfit>() => {
            to_stderr!("error: {error:#}");
            return Ok(Exit::BadUsage);
        }
        Err(error) => return Err(error),
    };
    // From here on Ctrl-C comes too late: what is left takes a few milliseconds, and is all done or all undone.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    let _held = runtime.block_on(async { Signals::register() }).context("signals cannot be received")?;
    match write::write(&plan) {
        Ok(made) => {
            tell(&plan, &made)?;
            Ok(Exit::Success)
        }
        Err(Refused::Unfit(problems)) => {
            to_stderr!("error: nothing was written: {problems}");
            Ok(Exit::BadUsage)
        }
        Err(Refused::Failed(error)) => Err(error.context("nothing was written")),
    }
}

fn tell(plan: &Plan, made: &Made) -> anyhow::Result<()> {
    let mut out = Output::stdout();
    let _ = out.line(render::farewell(plan, made));
    out.finish()
}
