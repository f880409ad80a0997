//! `completions`

use anyhow::Context as _;
use clap::CommandFactory as _;
use clap_complete::Shell;

use super::output::Output;
use super::{Cli, Exit};

const EXAMPLES: &str = "\
Examples:
  ralio-relay completions bash > /etc/bash_completion.d/ralio-relay
  ralio-relay completions zsh > ~/.zfunc/_ralio-relay
  ralio-relay completions fish > ~/.config/fish/completions/ralio-relay.fish";

/// Print completions for a shell
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Which shell
    #[arg(value_enum)]
    shell: Shell,
}

pub(crate) fn run(args: Args) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "ralio-relay", &mut script);
    // clap_complete 4.6 writes the hyphen of our name in two ways, so that bash knows no command's options.
    let script =
        String::from_utf8(script).context("the script is not text")?.replace("ralio__subcmd__relay", "ralio__relay");
    let mut out = Output::stdout();
    let _ = out.bytes(script.as_bytes());
    out.finish()?;
    Ok(Exit::Success)
}
