//! `check`

use super::Exit;

/// Validate the configuration
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    config: super::ConfigArgs,
}

pub(crate) fn run(args: Args) -> anyhow::Result<Exit> {
    args.config.load()?;
    Ok(Exit::Success)
}
