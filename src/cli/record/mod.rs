//! `record`

mod list;
mod show;

use clap::Subcommand;

use super::Exit;

/// What people and the relay did: jobs and decisions, with what they were about
#[derive(Subcommand)]
#[command(after_help = "Examples:
  ralio-relay record list
  ralio-relay record list --kind discard --since 7d
  ralio-relay record show 14")]
pub(crate) enum Command {
    List(list::Args),
    Show(show::Args),
}

pub(crate) fn run(command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::List(args) => list::run(args),
        Command::Show(args) => show::run(&args),
    }
}
