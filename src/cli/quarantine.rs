//! `quarantine`

use clap::Subcommand;

use super::Exit;

/// Requests refused for their signature
#[derive(Subcommand)]
pub(crate) enum Command {
    /// List
    List,
    /// Show one
    Show,
}

pub(crate) fn run(command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::List | Command::Show => Ok(Exit::Success),
    }
}
