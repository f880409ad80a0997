//! The command line: one file per subcommand.
#![warn(clippy::print_stdout, clippy::print_stderr)]

/// Lines on standard error, without anything that could steer a terminal. Unlike `eprintln!` it does not panic where that is
/// full or closed: then nobody reads them.
macro_rules! to_stderr {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        _ = writeln!(std::io::stderr(), "{}", $crate::cli::output::clean_lines(&std::fmt::format(format_args!($($text)*))));
    }};
}

mod access;
mod backup;
mod body;
mod check;
mod completions;
mod config_show;
mod consent;
mod deadletters;
mod dev;
mod errand;
mod events;
mod filter;
mod health;
mod init;
mod log;
mod man;
mod output;
mod parked;
mod progress;
mod prune;
mod quarantine;
mod record;
mod replay;
mod resolve;
mod serve;
mod sign;
mod simulate;
mod sinks;
mod status;
mod view;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

use crate::app::SocketError;
use crate::config::{Problems, Settings};
use crate::lifecycle::forbid_core_dumps;

/// How a command ended, other than by an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// 0.
    Success,
    /// 1: it ran, and found something (a problem, nothing, a refusal).
    Finding,
    /// 2: the configuration is wrong, and what is wrong has been printed.
    Misconfigured,
    /// 2: what was typed cannot be done so, and why has been printed. See [`Unusable`].
    BadUsage,
    /// 3: what it needs cannot be reached, such as a daemon, and that has been printed.
    Unreachable,
}

/// What was typed cannot be done so: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Unusable(pub(crate) String);

#[derive(Parser)]
#[command(name = "ralio-relay", version = VERSION, about, arg_required_else_help = true, max_term_width = 110)]
#[command(after_help = "Examples:
  ralio-relay serve --dev
  ralio-relay init
  ralio-relay check --config relay.toml --probe
  ralio-relay status
  ralio-relay events list
  ralio-relay sinks list

Exit code: 0 success, 1 a finding or a failure, 2 bad usage or configuration, 3 what a command needs cannot be reached.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("RALIO_RELAY_COMMIT"), ")");

#[derive(Subcommand)]
enum Command {
    Serve(serve::Args),
    Init(Box<init::Args>),
    Check(check::Args),
    Simulate(simulate::Args),
    Sign(sign::Args),
    #[command(subcommand)]
    Events(events::Command),
    Status(status::Args),
    #[command(subcommand)]
    Sinks(sinks::Command),
    #[command(subcommand)]
    Parked(parked::Command),
    #[command(subcommand)]
    Deadletters(deadletters::Command),
    Replay(replay::Args),
    #[command(subcommand)]
    Quarantine(quarantine::Command),
    #[command(subcommand)]
    Record(record::Command),
    Prune(prune::Args),
    Backup(backup::Args),
    Health(health::Args),
    /// The configuration in effect
    #[command(subcommand, after_help = "Example:\n  ralio-relay config show --config relay.toml")]
    Config(ConfigCommand),
    Completions(completions::Args),
    Man(man::Args),
}

#[derive(Subcommand)]
enum ConfigCommand {
    Show(config_show::Args),
}

/// Where the configuration is; every command that needs one takes it.
#[derive(clap::Args)]
pub(crate) struct ConfigArgs {
    /// Configuration file; may repeat, later files win. Without it: $RALIO_RELAY_CONFIG, /etc/ralio-relay/relay.toml,
    /// then what `serve --dev` made in ./.ralio-relay
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Vec<PathBuf>,
}

impl ConfigArgs {
    /// The checked settings; every problem at once when there are any.
    pub(crate) fn load(&self) -> Result<Settings, Problems> {
        crate::config::load(&self.config)
    }
}

/// How lists are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Table,
    /// One JSON object a line.
    Json,
}

impl Format {
    /// How many rows to print, when `asked` for so many: 0 is all.
    pub(crate) fn limit(self, asked: Option<u64>) -> u64 {
        match (asked, self) {
            (Some(0), _) | (None, Self::Json) => u64::MAX,
            (Some(limit), _) => limit,
            (None, Self::Table) => 50,
        }
    }
}

/// Runs the command that the process was started with. Exit code 0 on success, 1 on a finding or failure, 2 on bad
/// usage or configuration, 3 when what it needs cannot be reached.
pub fn main() -> ExitCode {
    forbid_core_dumps();
    // What this process was left with by whoever started it is not for the commands that it starts.
    close_fds::set_fds_cloexec(3, &[]);
    rustls::crypto::aws_lc_rs::default_provider().install_default().expect("it is installed once, here");
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return misread(&error),
    };
    let result = match cli.command {
        Command::Serve(args) => serve::run(args),
        Command::Init(args) => init::run(*args),
        Command::Check(args) => check::run(args),
        Command::Simulate(args) => simulate::run(args),
        Command::Sign(args) => sign::run(args),
        Command::Events(command) => events::run(command),
        Command::Status(args) => status::run(&args),
        Command::Sinks(command) => sinks::run(command),
        Command::Parked(command) => parked::run(command),
        Command::Deadletters(command) => deadletters::run(command),
        Command::Replay(args) => replay::run(args),
        Command::Quarantine(command) => quarantine::run(command),
        Command::Record(command) => record::run(command),
        Command::Prune(args) => prune::run(args),
        Command::Backup(args) => backup::run(args),
        Command::Health(args) => health::run(args),
        Command::Completions(args) => completions::run(args),
        Command::Man(args) => man::run(args),
        Command::Config(ConfigCommand::Show(args)) => config_show::run(args),
    };
    match result {
        Ok(Exit::Success) => ExitCode::SUCCESS,
        Ok(Exit::Finding) => ExitCode::from(1),
        Ok(Exit::Misconfigured | Exit::BadUsage) => ExitCode::from(2),
        Ok(Exit::Unreachable) => ExitCode::from(3),
        Err(error) => {
            to_stderr!("error: {error:#}");
            let is_misconfigured = |cause: &(dyn std::error::Error + 'static)| {
                // A socket unit is configuration, too.
                cause.is::<Problems>() || cause.is::<SocketError>() || cause.is::<Unusable>()
            };
            ExitCode::from(if error.chain().any(is_misconfigured) { 2 } else { 1 })
        }
    }
}

/// Help, or what is wrong with what was typed. That may come from a script, and so from anywhere: where it could steer the
/// terminal it is told without colours.
fn misread(error: &clap::Error) -> ExitCode {
    let told = error.to_string();
    if error.use_stderr() && output::clean_lines(&told) != told {
        to_stderr!("{}", told.trim_end());
    } else {
        // Where nobody reads it, there is nobody to tell.
        _ = error.print();
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}
