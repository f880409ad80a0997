//! `events`

mod list;
pub(crate) mod show;
mod tail;

use clap::Subcommand;

use super::access::with_advice;
use super::{ConfigArgs, Exit};
use crate::inbox;
use crate::inbox::sqlite::Reader;

/// Browse the inbox, with the daemon up or down
#[derive(Subcommand)]
#[command(after_help = "Examples:
  ralio-relay events list --type 'payin.*' --since 24h
  ralio-relay events show 17
  ralio-relay events tail")]
pub(crate) enum Command {
    List(list::Args),
    Show(show::Args),
    Tail(tail::Args),
}

pub(crate) fn run(command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::List(args) => list::run(args),
        Command::Show(args) => show::run(args),
        Command::Tail(args) => tail::run(args),
    }
}

/// The inbox, for reading. Needs `[inbox]` of the configuration and nothing else, no secret in particular.
pub(crate) fn open(config: &ConfigArgs) -> anyhow::Result<Reader> {
    open_inbox(&crate::config::load_inbox(&config.config)?)
}

/// The inbox at this place, for reading.
pub(crate) fn open_inbox(inbox: &inbox::Config) -> anyhow::Result<Reader> {
    Reader::open(inbox).map_err(|error| with_advice(error.into(), &inbox.path))
}
