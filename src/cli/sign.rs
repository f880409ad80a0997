//! `sign`

use super::Exit;

/// Sign standard input
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    config: super::ConfigArgs,
}

pub(crate) fn run(args: Args) -> anyhow::Result<Exit> {
    args.config.load()?;
    Ok(Exit::Success)
}
